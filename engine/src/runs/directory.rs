//! Blocks in memory, and the directories of data blocks.
//!
//! A search in a block of some kilobytes that nobody read for a while waits for memory, once for each place that it looks at. A *directory*
//! has what is needed to go to the right place at once: of entries that lie `STRIDE_BYTES` or more apart, the four bytes of their key
//! that follow what all keys of the block have in common, side by side, and where the entries are.
//!
//! It is made when a block comes into the cache, and counts there; no file has one. It is a hint as far as order goes: where four bytes do not decide, the
//! entries do. A block whose entries make no sense has none, and is searched by its restarts, which will say so.
//!
//! Behind the content: the bytes that all keys share, the four bytes of each slot (u32, rising), the entry of each (u32, with two marks).

use crate::runs::block::{DataBlock, Found, common_prefix};
use crate::runs::format::{take_bytes, u32_at};
use crate::runs::index::{IndexBlock, Separators};
use scry_wal::Lsn;

/// Entries that are closer to the last slot have none: a directory takes less than a sixteenth of its block.
const STRIDE_BYTES: usize = 128;

/// Slots are counted through, not searched.
const SLOTS_MAX: usize = 256;

/// Bytes of a key that a slot has.
const PREFIX_BYTES: usize = 4;

/// No entry before it has the same bytes.
const FIRST: u32 = 1 << 31;
/// The key is long enough to have all of the bytes.
const WHOLE: u32 = 1 << 30;

/// A block's content.
pub(crate) struct Content {
    bytes: Box<[u8]>,
    /// Where it ends and the directory begins.
    end: usize,
    /// Bytes that all keys share.
    common: usize,
    slots: usize,
    /// Of an index block that stays.
    separators: Option<Separators>,
}

/// A directory to be read.
#[derive(Clone, Copy)]
struct Directory<'b> {
    common: &'b [u8],
    prefixes: &'b [u8],
    places: &'b [u8],
}

/// Where a search in a block begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// All keys are above.
    Before,
    /// All keys are below.
    Behind,
    /// At this entry, which has so many bytes in common with the target; those before it are below the target.
    At(usize, usize),
    /// Behind this entry, which is below the target and has so many bytes in common with it.
    After(usize, usize),
}

impl Content {
    /// A block without directory.
    pub(crate) fn plain(bytes: Vec<u8>) -> Content {
        Content::new(bytes.len(), bytes, 0, 0)
    }

    /// An index block that stays in memory.
    pub(crate) fn of_index(bytes: Vec<u8>) -> Content {
        let separators = IndexBlock::parse(&bytes).and_then(|index| Separators::of(&index));
        let mut content = Content::plain(bytes);
        content.separators = separators;
        content
    }

    /// A data block with its directory.
    pub(crate) fn with_directory(mut bytes: Vec<u8>) -> Content {
        let end = bytes.len();
        let Some((slots, common)) = slots(&bytes) else {
            return Content::plain(bytes);
        };
        bytes.reserve_exact(8 * slots.len() + common.len());
        bytes.extend_from_slice(&common);
        bytes.extend(slots.iter().flat_map(|slot| slot.prefix.to_le_bytes()));
        bytes.extend(slots.iter().flat_map(|slot| slot.place.to_le_bytes()));
        Content::new(end, bytes, common.len(), slots.len())
    }

    fn new(end: usize, bytes: Vec<u8>, common: usize, slots: usize) -> Content {
        Content {
            bytes: bytes.into_boxed_slice(),
            end,
            common,
            slots,
            separators: None,
        }
    }

    /// What it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let separators = self.separators.as_ref().map_or(0, Separators::memory_bytes);
        size_of::<Content>() + self.bytes.len() + separators
    }

    /// Of an index block, which this is as parsed: the first block that can have this key or a greater one.
    #[inline]
    pub(crate) fn find_block(&self, index: &IndexBlock<'_>, target: &[u8]) -> Option<usize> {
        match &self.separators {
            Some(separators) => separators.find(index, target),
            None => index.find(target),
        }
    }

    /// Of a data block: the newest version of a key at or below `at`. `None` where the bytes make no sense.
    #[inline]
    pub(crate) fn find(&self, target: &[u8], at: Lsn) -> Option<Found> {
        let start = self.directory().and_then(|directory| directory.start(target));
        DataBlock::parse(self)?.find(target, at, start)
    }

    #[inline]
    fn directory(&self) -> Option<Directory<'_>> {
        if self.slots == 0 {
            return None;
        }
        let mut at = self.end;
        Some(Directory {
            common: take_bytes(&self.bytes, &mut at, self.common)?,
            prefixes: take_bytes(&self.bytes, &mut at, PREFIX_BYTES * self.slots)?,
            places: take_bytes(&self.bytes, &mut at, 4 * self.slots)?,
        })
    }
}

impl std::ops::Deref for Content {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.end]
    }
}

struct Slot {
    prefix: u32,
    place: u32,
}

/// The four bytes behind the first `common`, as a number that orders like them; zeros where there are none.
#[inline]
fn prefix(key: &[u8], common: usize) -> u32 {
    let mut bytes = [0; PREFIX_BYTES];
    let rest = key.get(common..).unwrap_or_default();
    let length = rest.len().min(PREFIX_BYTES);
    bytes[..length].copy_from_slice(&rest[..length]);
    u32::from_be_bytes(bytes)
}

/// The slots of a data block, and what all of its keys share; `None` where the bytes make no sense, or there is nothing to be gained.
fn slots(bytes: &[u8]) -> Option<(Vec<Slot>, Vec<u8>)> {
    let block = DataBlock::parse(bytes)?;
    if block.end() >= WHOLE as usize {
        return None;
    }
    let stride = STRIDE_BYTES.max(block.end() / SLOTS_MAX + 1);
    let common = common(&block)?;
    let mut slots: Vec<Slot> = Vec::with_capacity(block.end() / stride + 1);
    let mut key = Vec::new();
    let (mut position, mut next_slot, mut before) = (0, 0, None);
    while position < block.end() {
        let (_, next) = block.entry(position, &mut key)?;
        if !key.starts_with(&common) {
            return None;
        }
        let prefix = prefix(&key, common.len());
        if before.is_some_and(|before| before > prefix) {
            return None;
        }
        if position >= next_slot {
            let first = before.is_none_or(|before| before < prefix);
            let whole = key.len() >= common.len() + PREFIX_BYTES;
            let marks = if first { FIRST } else { 0 } | if whole { WHOLE } else { 0 };
            slots.push(Slot {
                prefix,
                place: position as u32 | marks,
            });
            next_slot = position + stride;
        }
        before = Some(prefix);
        position = next;
    }
    Some((slots, common))
}

/// What all keys of a block share, but for the last bytes of keys that are all but equal: numbers that follow each other.
fn common(block: &DataBlock<'_>) -> Option<Vec<u8>> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    block.entry(0, &mut first)?;
    let mut position = block.last_restart()?;
    while position < block.end() {
        position = block.entry(position, &mut last)?.1;
    }
    let shortest = first.len().min(last.len());
    first.truncate(common_prefix(&first, &last).min(shortest.saturating_sub(PREFIX_BYTES)));
    Some(first)
}

impl Directory<'_> {
    /// Where to begin to look for a key; `None` when only the restarts tell.
    #[inline]
    fn start(&self, target: &[u8]) -> Option<Start> {
        let common = self.common.len();
        if target.len() < common + PREFIX_BYTES {
            return None;
        }
        match target[..common].cmp(self.common) {
            std::cmp::Ordering::Less => return Some(Start::Before),
            std::cmp::Ordering::Greater => return Some(Start::Behind),
            std::cmp::Ordering::Equal => {}
        }
        let wanted = prefix(target, common);
        let slot_prefix = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // Without a branch: the processor asks memory for all of them at once.
        let slots = self.prefixes.chunks_exact(PREFIX_BYTES);
        let below: u32 = slots.map(|slot| u32::from(slot_prefix(slot) < wanted)).sum();
        let below = below as usize;
        if u32_at(self.prefixes, 4 * below) == Some(wanted) {
            let place = u32_at(self.places, 4 * below)?;
            if place & (FIRST | WHOLE) == FIRST | WHOLE {
                return Some(Start::At(
                    (place & !(FIRST | WHOLE)) as usize,
                    common + PREFIX_BYTES,
                ));
            }
        } else if below == 0 {
            return Some(Start::Before);
        }
        // The slot before: all that lies between has to be looked at.
        let before = below.checked_sub(1)?;
        let place = u32_at(self.places, 4 * before)?;
        if place & WHOLE == 0 {
            return None;
        }
        let differs = (u32_at(self.prefixes, 4 * before)? ^ wanted).leading_zeros() as usize / 8;
        Some(Start::After(
            (place & !(FIRST | WHOLE)) as usize,
            common + differs,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::block::BlockBuilder;
    use proptest::prelude::*;
    use scry_wal::Ordinal;
    use std::collections::BTreeMap;

    /// Keys with much and with little in common, of all lengths, with zeros where others end.
    fn some_key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(0..3_u8, 0..9),
            prop::collection::vec(any::<u8>(), 16),
            (0..400_u16).prop_map(|number| [b"same bytes".as_slice(), &number.to_be_bytes()].concat()),
            (0..9_u8, 0..9_u8).prop_map(|(a, b)| [b"same".as_slice(), &[a; 5], b"and same", &[b]].concat()),
        ]
    }

    /// A block in which each key has versions at even LSNs from 2 on.
    fn block(keys: &BTreeMap<Vec<u8>, (u64, usize)>) -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        for (key, (versions, row_bytes)) in keys {
            for lsn in (1..=*versions).rev() {
                let row = vec![lsn as u8; *row_bytes];
                let row = (lsn % 3 > 0).then_some(row.as_slice());
                builder.add(key, Lsn::new(2 * lsn), Ordinal::new(lsn), row);
            }
        }
        builder.finish().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_search_ends_where_the_restarts_say(
            kind in 0..2_u8,
            keys in prop::collection::btree_map(some_key(), (1..4_u64, 0..200_usize), 1..150),
            others in prop::collection::vec(some_key(), 100),
        ) {
            // Of one kind, all keys share more.
            let keys: BTreeMap<Vec<u8>, (u64, usize)> = match kind {
                0 => keys,
                _ => keys.into_iter().map(|(key, versions)| ([b"all of them".to_vec(), key].concat(), versions)).collect(),
            };
            // Beside them such as share less, below and above.
            let others: Vec<Vec<u8>> = others.into_iter().flat_map(|key| match kind {
                0 => vec![key],
                _ => vec![
                    [b"all of them".to_vec(), key.clone()].concat(),
                    [b"all of them, but".to_vec(), key.clone()].concat(),
                    [b"all of that".to_vec(), key.clone()].concat(),
                    [b"all of us".to_vec(), key.clone()].concat(),
                    key,
                ],
            }).collect();
            let plain = block(&keys);
            let content = Content::with_directory(plain.clone());
            prop_assert_eq!(&content[..], &plain[..]);
            prop_assert!(content.slots > 0);
            prop_assert!(content.bytes.len() <= plain.len() + plain.len() / 15 + 8 + content.common);
            let data = DataBlock::parse(&plain).unwrap();
            let longer = keys.keys().map(|key| [key.as_slice(), &[0]].concat());
            let shorter = keys.keys().map(|key| key[..key.len().saturating_sub(1)].to_vec());
            for target in keys.keys().cloned().chain(others).chain(longer).chain(shorter) {
                for at in [0, 1, 2, 3, 4, 5, 9] {
                    let at = Lsn::new(at);
                    let expected = data.find(&target, at, None).unwrap();
                    prop_assert_eq!(content.find(&target, at), Some(expected), "{:?} at {}", target, at);
                }
            }
        }
    }

    #[test]
    fn entries_as_long_as_the_stride_are_gone_to_at_once() {
        for factor in [0x9e37_79b9_7f4a_7c15, 1, 2] {
            let numbers = (0..60_u64).map(|number| number.wrapping_mul(factor).to_be_bytes());
            let keys: BTreeMap<Vec<u8>, _> = numbers.map(|key| (key.to_vec(), (1, 125))).collect();
            let content = Content::with_directory(block(&keys));
            let directory = content.directory().unwrap();
            for key in keys.keys() {
                assert!(matches!(directory.start(key), Some(Start::At(..))), "{key:?}");
            }
        }
    }

    #[test]
    fn bytes_that_make_no_sense_are_searched_without_harm() {
        let keys = (0..100_u8).map(|number| (vec![7, number, number, 1, 2, 3, 4], (1, 20)));
        let keys: BTreeMap<Vec<u8>, _> = keys.collect();
        let bytes = block(&keys);
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] ^= change;
                let content = Content::with_directory(other);
                for key in keys.keys().step_by(9) {
                    let _ = content.find(key, Lsn::MAX);
                }
            }
        }
        for length in 0..bytes.len() {
            let _ = Content::with_directory(bytes[..length].to_vec()).find(&[7, 50, 50, 1, 2], Lsn::MAX);
        }
        let mut builder = BlockBuilder::default();
        for key in [b"aaaaaa", b"zzzzzz", b"bbbbbb", b"yyyyyy"] {
            builder.add(key, Lsn::new(1), Ordinal::new(1), None);
        }
        let disordered = Content::with_directory(builder.finish().to_vec());
        assert_eq!(disordered.slots, 0);
    }
}
