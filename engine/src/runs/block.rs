//! Data blocks: entries with the beginning of their keys left out where the entry before has it (`format`).

use crate::runs::directory::Start;
use crate::runs::format::{put_varint, take_bytes, take_length, take_varint, u32_at};
use scry_wal::{Lsn, Ordinal};
use std::cmp::Ordering;
use std::ops::Range;

/// Every so many entries one has its whole key, where a search can begin.
const RESTART_ENTRIES: usize = 8;

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
        let row_bytes = row.map_or(0, <[u8]>::len);
        let follows = varint_bytes(lsn.get()) + varint_bytes(ordinal.get()) + row_bytes;
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, (key.len() - shared) as u64);
        put_varint(&mut self.bytes, (follows as u64) << 1 | u64::from(row.is_some()));
        self.bytes.extend_from_slice(&key[shared..]);
        put_varint(&mut self.bytes, lsn.get());
        put_varint(&mut self.bytes, ordinal.get());
        self.bytes.extend_from_slice(row.unwrap_or_default());
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

    /// Where the last entry that shares nothing is.
    pub(crate) fn last_restart(&self) -> Option<usize> {
        self.restart(self.restarts - 1)
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
        let parts = Parts::take(&self.bytes[..self.end], self.restart(index)?)?;
        (parts.shared == 0).then_some(parts.rest)
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

    /// The newest version of a key at or below `at`; the block's directory, if it has one, has said where to `start`.
    ///
    /// The key of no entry is put together: it is enough to know how many bytes the last one has in common with the
    /// target, as long as it is below.
    pub(crate) fn find(&self, target: &[u8], at: Lsn, start: Option<Start>) -> Option<Found> {
        let bytes = &self.bytes[..self.end];
        let (mut position, mut matched, mut length_before) = match start {
            None => (self.restart_before(target)?, 0, 0),
            Some(Start::Before) => return Some(Found::Nothing),
            Some(Start::Behind) => return Some(Found::Beyond),
            Some(Start::At(place, matched)) => (place, matched, usize::MAX),
            Some(Start::After(place, matched)) => {
                let parts = Parts::take(bytes, place)?;
                (parts.end, matched, parts.shared + parts.rest.len())
            }
        };
        let mut is_known = matches!(start, Some(Start::At(..)));
        while position < self.end {
            let parts = Parts::take(bytes, position)?;
            let Parts {
                mut shared, mut rest, ..
            } = parts;
            if shared > length_before {
                return None;
            }
            length_before = shared + rest.len();
            position = parts.end;
            if std::mem::take(&mut is_known) {
                let Some(known) = matched.checked_sub(shared) else {
                    // More of its key lies in entries before it than the directory has.
                    return self.find(target, at, None);
                };
                (shared, rest) = (matched, rest.get(known..)?);
            } else if shared == 0 {
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
                Ordering::Equal => {
                    let entry = parts.version(bytes)?;
                    if entry.lsn <= at {
                        return Some(Found::Version(entry));
                    }
                }
                Ordering::Greater => return Some(Found::Nothing),
            }
        }
        Some(Found::Beyond)
    }

    /// The entry at `position`, whose key takes the place of the one before in `key`, and where the next one is.
    #[inline]
    pub(crate) fn entry(&self, position: usize, key: &mut Vec<u8>) -> Option<(Entry, usize)> {
        let bytes = &self.bytes[..self.end];
        let parts = Parts::take(bytes, position)?;
        if parts.shared > key.len() {
            return None;
        }
        key.truncate(parts.shared);
        key.extend_from_slice(parts.rest);
        Some((parts.version(bytes)?, parts.end))
    }

    /// Where a cursor begins that looks for a key.
    pub(crate) fn position_before(&self, target: &[u8]) -> Option<usize> {
        self.restart_before(target)
    }
}

/// An entry, its version still to be read.
struct Parts<'b> {
    shared: usize,
    rest: &'b [u8],
    version: usize,
    has_row: bool,
    end: usize,
}

impl<'b> Parts<'b> {
    #[inline(always)]
    fn take(bytes: &'b [u8], mut at: usize) -> Option<Parts<'b>> {
        let shared = take_length(bytes, &mut at)?;
        let rest = take_length(bytes, &mut at)?;
        let follows = take_length(bytes, &mut at)?;
        let rest = take_bytes(bytes, &mut at, rest)?;
        let version = at;
        take_bytes(bytes, &mut at, follows >> 1)?;
        Some(Parts {
            shared,
            rest,
            version,
            has_row: follows & 1 == 1,
            end: at,
        })
    }

    #[inline]
    fn version(&self, bytes: &[u8]) -> Option<Entry> {
        let bytes = &bytes[..self.end];
        let mut at = self.version;
        let lsn = Lsn::new(take_varint(bytes, &mut at)?);
        let ordinal = Ordinal::new(take_varint(bytes, &mut at)?);
        let row = self.has_row.then_some(at..self.end);
        (self.has_row || at == self.end).then_some(Entry { lsn, ordinal, row })
    }
}

fn varint_bytes(value: u64) -> usize {
    (70 - value.leading_zeros() as usize).max(7) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_as_long_as_they_are_said_to_be() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(bytes.len(), varint_bytes(value), "{value}");
                assert_eq!(take_varint(&bytes, &mut 0), Some(value));
                for length in 0..bytes.len() {
                    assert_eq!(take_varint(&bytes[..length], &mut 0), None);
                }
            }
        }
        assert_eq!(take_varint(&[0xff; 10], &mut 0), None);
    }

    #[test]
    fn every_version_is_found_and_nothing_else() {
        let mut builder = BlockBuilder::default();
        let keys: Vec<Vec<u8>> = (0..100_u8)
            .map(|n| [b"key".as_slice(), &[n, n / 3]].concat())
            .collect();
        for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
            for lsn in (1..=number as u64 % 23).rev() {
                let row = [number as u8, lsn as u8];
                let row = (lsn % 5 > 0).then_some(row.as_slice());
                builder.add(key, Lsn::new(lsn * 2), Ordinal::new(lsn << 40), row);
            }
        }
        let bytes = builder.finish();
        let block = DataBlock::parse(bytes).unwrap();
        for (number, key) in keys.iter().enumerate() {
            let newest = if number % 2 == 0 { number as u64 % 23 } else { 0 };
            for at in 0..50 {
                let found = block.find(key, Lsn::new(at), None).unwrap();
                let lsn = (at / 2).min(newest);
                if lsn == 0 {
                    assert!(matches!(found, Found::Nothing | Found::Beyond), "{key:?} at {at}");
                    continue;
                }
                let Found::Version(entry) = found else {
                    panic!("{key:?} at {at} is not found");
                };
                assert_eq!((entry.lsn.get(), entry.ordinal.get()), (lsn * 2, lsn << 40));
                let row = entry.row.map(|row| &bytes[row]);
                assert_eq!(row, (lsn % 5 > 0).then_some([number as u8, lsn as u8].as_slice()));
            }
        }
    }
}
