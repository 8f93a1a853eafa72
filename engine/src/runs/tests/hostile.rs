//! Blocks whose checksums hold and whose bytes make no sense: an error or some answer, never a panic.

use super::kit::{Op, Pair, key_of, small_options};
use crate::key::KeyRange;
use crate::runs::folder::sim::SimFolder;
use crate::runs::format::{
    BlockKind, BlockPlace, FOOTER_BYTES, Footer, TRAILER_BYTES, block_checksum, open_block, run_number,
};
use crate::runs::index::IndexBlock;
use crate::runs::{Runs, SpaceId};
use scry_wal::Lsn;
use scry_wal::sim::Random;
use std::sync::Arc;

/// The blocks of a run's file.
fn places(bytes: &[u8], number: u64) -> Vec<BlockPlace> {
    let tail: &[u8; FOOTER_BYTES] = bytes[bytes.len() - FOOTER_BYTES..].try_into().unwrap();
    let (footer, _) = Footer::decode(tail, bytes.len() as u64).unwrap();
    let mut places = vec![footer.top, footer.meta];
    let stored = |place: BlockPlace| &bytes[place.offset as usize..place.end().unwrap() as usize];
    let top = open_block(stored(footer.top), BlockKind::TopIndex, number, footer.top.offset).unwrap();
    let top = IndexBlock::parse(&top).unwrap();
    for group in (0..top.len()).map(|group| top.place(group).unwrap()) {
        places.push(group);
        let index = open_block(stored(group), BlockKind::Index, number, group.offset).unwrap();
        let index = IndexBlock::parse(&index).unwrap();
        places.extend((0..index.len()).map(|block| index.place(block).unwrap()));
    }
    places
}

/// Changes some bytes of a block, and its checksum with them.
fn forge(bytes: &mut [u8], place: BlockPlace, number: u64, random: &mut Random) {
    let block = &mut bytes[place.offset as usize..place.end().unwrap() as usize];
    let (body, checksum) = block.split_at_mut(place.bytes as usize - TRAILER_BYTES + 1);
    for _ in 0..1 + random.below(3) {
        let at = random.below(body.len() as u64) as usize;
        body[at] = match random.below(4) {
            0 => body[at].wrapping_add(1),
            1 => 0,
            2 => 0xff,
            _ => random.next_number() as u8,
        };
    }
    checksum.copy_from_slice(&block_checksum(body, number, place.offset).to_le_bytes());
}

#[test]
fn forged_blocks_do_no_harm() {
    let folder = SimFolder::default();
    let mut pair = Pair::new(Arc::new(folder.clone())).unwrap();
    for flush in 0..5_u16 {
        let writes = (0..40).map(|n| (1, n * 4 + flush, (n % 4 > 0).then_some(n)));
        pair.apply(&Op::Flush(writes.collect())).unwrap();
        if flush == 3 {
            pair.apply(&Op::Compact(1)).unwrap();
        }
    }
    let mut random = Random::new(5);
    let (mut refused, mut passed) = (0, 0);
    for name in folder.names() {
        let Some(number) = run_number(&name) else { continue };
        let mut places_of = Vec::new();
        folder.edit(&name, |bytes| places_of = places(bytes, number));
        for place in places_of {
            for _ in 0..40 {
                let forged = folder.copy();
                forged.edit(&name, |bytes| forge(bytes, place, number, &mut random));
                let Ok((runs, _)) = Runs::open_in(Arc::new(forged), small_options()) else {
                    refused += 1;
                    continue;
                };
                let verified = runs.verify();
                let set = runs.current();
                for key in 0..200 {
                    let _ = set.get(SpaceId::new(1), &key_of(key), Lsn::new(50));
                }
                if let Ok(mut range) = set.range(SpaceId::new(1), &KeyRange::all(), Lsn::new(70)) {
                    while let Ok(true) = range.step() {}
                }
                let _ = pair.model.compact(&runs);
                if verified.is_err() {
                    refused += 1;
                } else {
                    passed += 1;
                }
            }
        }
    }
    assert!(
        refused > 200 && refused > passed / 3,
        "{refused} refused, {passed} passed"
    );
}
