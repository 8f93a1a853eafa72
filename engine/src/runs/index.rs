//! Index blocks: which block has a key, and a filter that says whether one of them may (`format`).

use crate::runs::block::common_prefix;
use crate::runs::format::{BlockPlace, put_varint, take_bytes, take_length, take_varint, u32_at};
use crate::store::prefix;
use std::cmp::Ordering;
use std::ops::Range;

/// Makes an index block.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    entries: Vec<u8>,
    offsets: Vec<u32>,
}

impl IndexBuilder {
    pub(crate) fn add(&mut self, separator: &[u8], place: BlockPlace) {
        self.offsets.push(self.entries.len() as u32);
        put_varint(&mut self.entries, separator.len() as u64);
        self.entries.extend_from_slice(separator);
        put_varint(&mut self.entries, place.offset);
        put_varint(&mut self.entries, u64::from(place.bytes));
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// About how many bytes the block has, without a filter.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() + 4 * self.offsets.len()
    }

    /// The block with this filter. The builder is empty then.
    pub(crate) fn finish(&mut self, filter: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(8 + filter.len() + self.bytes());
        block.extend_from_slice(&(filter.len() as u32).to_le_bytes());
        block.extend_from_slice(filter);
        let begin = block.len() as u32;
        block.append(&mut self.entries);
        for offset in &self.offsets {
            block.extend_from_slice(&(begin + offset).to_le_bytes());
        }
        block.extend_from_slice(&(self.offsets.len() as u32).to_le_bytes());
        self.offsets.clear();
        block
    }
}

/// A short key at or above `last` and below `next`, which is above `last`.
pub(crate) fn separator<'k>(last: &'k [u8], next: &[u8], room: &'k mut Vec<u8>) -> &'k [u8] {
    debug_assert!(last < next);
    let common = common_prefix(last, next);
    match (last.get(common), next.get(common)) {
        (Some(low), Some(high)) if low + 1 < *high && common + 1 < last.len() => {
            room.clear();
            room.extend_from_slice(&last[..common]);
            room.push(low + 1);
            room
        }
        _ => last,
    }
}

/// An index block to be read. All answers are `None` where the bytes make no sense.
#[derive(Clone, Copy)]
pub(crate) struct IndexBlock<'b> {
    bytes: &'b [u8],
    filter: &'b [u8],
    /// Where the entries end and their offsets begin.
    end: usize,
    count: usize,
}

impl<'b> IndexBlock<'b> {
    #[inline]
    pub(crate) fn parse(bytes: &'b [u8]) -> Option<IndexBlock<'b>> {
        let tail = bytes.len().checked_sub(4)?;
        let count = u32_at(bytes, tail)? as usize;
        let end = tail.checked_sub(count.checked_mul(4)?)?;
        let filter = u32_at(bytes, 0)? as usize;
        let filter = bytes[..end].get(4..filter.checked_add(4)?)?;
        (count > 0).then_some(IndexBlock {
            bytes,
            filter,
            end,
            count,
        })
    }

    pub(crate) fn filter(&self) -> &'b [u8] {
        self.filter
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    fn separator_end(&self, index: usize) -> Option<(&'b [u8], usize)> {
        let mut at = u32_at(self.bytes, self.end + 4 * index)? as usize;
        let bytes = &self.bytes[..self.end];
        let length = take_length(bytes, &mut at)?;
        let separator = take_bytes(bytes, &mut at, length)?;
        Some((separator, at))
    }

    pub(crate) fn separator(&self, index: usize) -> Option<&'b [u8]> {
        Some(self.separator_end(index)?.0)
    }

    pub(crate) fn place(&self, index: usize) -> Option<BlockPlace> {
        let (_, mut at) = self.separator_end(index)?;
        let bytes = &self.bytes[..self.end];
        let offset = take_varint(bytes, &mut at)?;
        let bytes = u32::try_from(take_varint(bytes, &mut at)?).ok()?;
        Some(BlockPlace { offset, bytes })
    }

    /// The first block that can have this key or a greater one; the number of blocks when none can.
    #[inline]
    pub(crate) fn find(&self, target: &[u8]) -> Option<usize> {
        self.find_among(target, 0..self.count)
    }

    /// The same, when it is one of these or the end of them.
    #[inline]
    fn find_among(&self, target: &[u8], range: Range<usize>) -> Option<usize> {
        let (mut first, mut end) = (range.start, range.end);
        while first < end {
            let middle = first + (end - first) / 2;
            if self.separator(middle)? < target {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        Some(first)
    }
}

/// The separators of an index block that stays in memory, as numbers side by side: few searches look at the separators themselves.
///
/// The numbers are the eight bytes that follow what all separators share, zeros where there are none. Where they differ, the separators
/// differ in the same way.
pub(crate) struct Separators {
    common: Box<[u8]>,
    prefixes: Box<[u64]>,
}

impl Separators {
    /// `None` where the bytes make no sense.
    pub(crate) fn of(index: &IndexBlock<'_>) -> Option<Separators> {
        let (first, last) = (index.separator(0)?, index.separator(index.count - 1)?);
        let common = &first[..common_prefix(first, last)];
        let mut prefixes = Vec::with_capacity(index.count);
        for number in 0..index.count {
            let rest = index.separator(number)?.strip_prefix(common)?;
            prefixes.push(prefix(rest));
        }
        prefixes.is_sorted().then(|| Separators {
            common: common.into(),
            prefixes: prefixes.into(),
        })
    }

    /// What they take in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.common.len() + size_of_val(&*self.prefixes)
    }

    /// As `IndexBlock::find`, of the block that these are of.
    #[inline]
    pub(crate) fn find(&self, index: &IndexBlock<'_>, target: &[u8]) -> Option<usize> {
        let Some((begin, rest)) = target.split_at_checked(self.common.len()) else {
            return index.find(target);
        };
        match begin.cmp(&self.common) {
            Ordering::Less => return Some(0),
            Ordering::Greater => return Some(self.prefixes.len()),
            Ordering::Equal => {}
        }
        let wanted = prefix(rest);
        let first = self.prefixes.partition_point(|prefix| *prefix < wanted);
        let equal = self.prefixes[first..].partition_point(|prefix| *prefix == wanted);
        match equal {
            0 => Some(first),
            _ => index.find_among(target, first..first + equal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn separators_are_found_as_the_block_finds_them(
            keys in prop::collection::btree_set(prop::collection::vec(0..3_u8, 0..14), 1..60),
            targets in prop::collection::vec(prop::collection::vec(0..4_u8, 0..15), 100),
        ) {
            let mut builder = IndexBuilder::default();
            for key in &keys {
                builder.add(key, BlockPlace { offset: 0, bytes: 1 });
            }
            let bytes = builder.finish(&[]);
            let block = IndexBlock::parse(&bytes).unwrap();
            let separators = Separators::of(&block).unwrap();
            for target in keys.iter().chain(&targets) {
                prop_assert_eq!(separators.find(&block, target), block.find(target), "{:?}", target);
            }
        }
    }

    #[test]
    fn a_separator_lies_between() {
        let cases: [(&[u8], &[u8], &[u8]); 6] = [
            (b"abcdef", b"abq", b"abd"),
            (b"abcdef", b"abd", b"abcdef"),
            (b"abc", b"abcd", b"abc"),
            (b"", b"a", b""),
            (b"a\xff\xff", b"b", b"a\xff\xff"),
            (b"a\x01\x02", b"a\x09", b"a\x02"),
        ];
        for (last, next, expected) in cases {
            let mut room = Vec::new();
            let found = separator(last, next, &mut room);
            assert_eq!(found, expected);
            assert!(last <= found && found < next);
        }
    }

    #[test]
    fn the_first_block_that_can_have_a_key_is_found() {
        let mut builder = IndexBuilder::default();
        for index in 0..50_u8 {
            let place = BlockPlace {
                offset: u64::from(index) * 1000,
                bytes: 1000,
            };
            builder.add(&[index * 4], place);
        }
        let bytes = builder.finish(b"filter");
        let block = IndexBlock::parse(&bytes).unwrap();
        assert_eq!((block.filter(), block.len()), (&b"filter"[..], 50));
        for target in 0..=255_u8 {
            let expected = usize::from(target.div_ceil(4)).min(50);
            assert_eq!(block.find(&[target]), Some(expected), "{target}");
        }
        assert_eq!(block.place(7).unwrap().offset, 7000);
    }
}
