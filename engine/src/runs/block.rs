//! Data blocks: entries with the beginning of their keys left out where the entry before has it (`format`).

use crate::runs::format::{put_varint, take_bytes, take_length, take_varint, u32_at};
use scry_wal::{Lsn, Ordinal};
use std::cmp::Ordering;
use std::ops::Range;

/// Every so many entries one has its whole key, where a search can begin.
const RESTART_ENTRIES: usize = 16;

/// One entry, its row where it lies in the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) lsn: Lsn,
    pub(crate) ordinal: Ordinal,
    /// `None`: a deletion.
    pub(crate) row: Option<Range<usize>>,
}

/// What a search for one version found in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Version(Entry),
    /// The key has no such version.
    Nothing,
    /// The block ends before or among the key's versions: the next one may have it.
    Beyond,
}

/// Makes a block.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    last_key: Vec<u8>,
    entries: usize,
}

impl BlockBuilder {
    pub(crate) fn add(&mut self, key: &[u8], lsn: Lsn, ordinal: Ordinal, row: Option<&[u8]>) {
        let shared = if self.entries.is_multiple_of(RESTART_ENTRIES) {
            self.restarts.push(self.bytes.len() as u32);
            0
        } else {
            common_prefix(&self.last_key, key)
        };
        self.entries += 1;
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, (key.len() - shared) as u64);
        self.bytes.extend_from_slice(&key[shared..]);
        put_varint(&mut self.bytes, lsn.get());
        put_varint(&mut self.bytes, ordinal.get());
        match row {
            Some(row) => {
                put_varint(&mut self.bytes, row.len() as u64 + 1);
                self.bytes.extend_from_slice(row);
            }
            None => self.bytes.push(0),
        }
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// About how many bytes the block has.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    /// The block, until the next entry is added.
    pub(crate) fn finish(&mut self) -> &[u8] {
        for restart in &self.restarts {
            self.bytes.extend_from_slice(&restart.to_le_bytes());
        }
        let count = self.restarts.len() as u32;
        self.bytes.extend_from_slice(&count.to_le_bytes());
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.restarts.clear();
        self.last_key.clear();
        self.entries = 0;
    }
}

/// How many bytes two keys have in common at their beginning.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let length = a.len().min(b.len());
    let mut at = 0;
    while at + 8 <= length {
        let (Some(x), Some(y)) = (word(a, at), word(b, at)) else {
            break;
        };
        if x != y {
            return at + ((x ^ y).trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < length && a[at] == b[at] {
        at += 1;
    }
    at
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    crate::runs::format::u64_at(bytes, at)
}

/// A block to be read. All answers are `None` where the bytes make no sense.
#[derive(Clone, Copy)]
pub(crate) struct DataBlock<'b> {
    bytes: &'b [u8],
    /// Where the entries end and the restarts begin.
    end: usize,
    restarts: usize,
}

impl<'b> DataBlock<'b> {
    #[inline]
    pub(crate) fn parse(bytes: &'b [u8]) -> Option<DataBlock<'b>> {
        let tail = bytes.len().checked_sub(4)?;
        let restarts = u32_at(bytes, tail)? as usize;
        let end = tail.checked_sub(restarts.checked_mul(4)?)?;
        (restarts > 0).then_some(DataBlock { bytes, end, restarts })
    }

    /// Where the entries end.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    pub(crate) fn restarts(&self) -> usize {
        self.restarts
    }

    /// Whether the restart of this number is at `position`.
    pub(crate) fn is_restart(&self, number: usize, position: usize) -> bool {
        number < self.restarts && self.restart(number) == Some(position)
    }

    #[inline]
    fn restart(&self, index: usize) -> Option<usize> {
        Some(u32_at(self.bytes, self.end + 4 * index)? as usize)
    }

    #[inline]
    fn restart_key(&self, index: usize) -> Option<&'b [u8]> {
        let mut at = self.restart(index)?;
        if take_varint(self.bytes, &mut at)? != 0 {
            return None;
        }
        let length = take_length(self.bytes, &mut at)?;
        take_bytes(&self.bytes[..self.end], &mut at, length)
    }

    /// Where to begin to look for a key: the last restart that is below it.
    #[inline]
    fn restart_before(&self, target: &[u8]) -> Option<usize> {
        let (mut below, mut above) = (0, self.restarts);
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            if self.restart_key(middle)? < target {
                below = middle;
            } else {
                above = middle;
            }
        }
        self.restart(below)
    }

    /// The newest version of a key at or below `at`.
    ///
    /// The key of no entry is put together: it is enough to know how many bytes the last one has in common with the
    /// target, as long as it is below.
    pub(crate) fn find(&self, target: &[u8], at: Lsn) -> Option<Found> {
        let bytes = &self.bytes[..self.end];
        let mut position = self.restart_before(target)?;
        let mut matched = 0;
        let mut length_before = 0;
        while position < self.end {
            let shared = take_length(bytes, &mut position)?;
            let rest = take_length(bytes, &mut position)?;
            let rest = take_bytes(bytes, &mut position, rest)?;
            if shared > length_before {
                return None;
            }
            length_before = shared + rest.len();
            let lsn = Lsn::new(take_varint(bytes, &mut position)?);
            let ordinal = Ordinal::new(take_varint(bytes, &mut position)?);
            let row = take_row(bytes, &mut position)?;
            if shared == 0 {
                matched = 0;
            }
            let order = match shared.cmp(&matched) {
                Ordering::Greater => Ordering::Less,
                Ordering::Less => Ordering::Greater,
                Ordering::Equal => {
                    let wanted = &target[matched..];
                    let more = common_prefix(rest, wanted);
                    let order = rest[more..].first().cmp(&wanted[more..].first());
                    matched += more;
                    order
                }
            };
            match order {
                Ordering::Less => {}
                Ordering::Equal if lsn > at => {}
                Ordering::Equal => return Some(Found::Version(Entry { lsn, ordinal, row })),
                Ordering::Greater => return Some(Found::Nothing),
            }
        }
        Some(Found::Beyond)
    }

    /// The entry at `position`, whose key takes the place of the one before in `key`, and where the next one is.
    #[inline]
    pub(crate) fn entry(&self, position: usize, key: &mut Vec<u8>) -> Option<(Entry, usize)> {
        let bytes = &self.bytes[..self.end];
        let mut position = position;
        let shared = take_length(bytes, &mut position)?;
        let rest = take_length(bytes, &mut position)?;
        let rest = take_bytes(bytes, &mut position, rest)?;
        if shared > key.len() {
            return None;
        }
        key.truncate(shared);
        key.extend_from_slice(rest);
        let lsn = Lsn::new(take_varint(bytes, &mut position)?);
        let ordinal = Ordinal::new(take_varint(bytes, &mut position)?);
        let row = take_row(bytes, &mut position)?;
        Some((Entry { lsn, ordinal, row }, position))
    }

    /// Where a cursor begins that looks for a key.
    pub(crate) fn position_before(&self, target: &[u8]) -> Option<usize> {
        self.restart_before(target)
    }
}

#[inline]
fn take_row(bytes: &[u8], position: &mut usize) -> Option<Option<Range<usize>>> {
    let length = take_length(bytes, position)?;
    if length == 0 {
        return Some(None);
    }
    let begin = *position;
    take_bytes(bytes, position, length - 1)?;
    Some(Some(begin..*position))
}
