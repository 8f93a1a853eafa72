//! Flushes, compactions and restarts in any order: what must still be seen is seen.

use super::kit::{Op, Pair, key_of, ops};
use crate::runs::folder::sim::SimFolder;
use crate::runs::{Compacted, SpaceId};
use proptest::prelude::*;
use std::sync::Arc;

fn run(ops: &[Op]) -> Pair {
    let mut pair = Pair::new(Arc::new(SimFolder::default())).unwrap();
    for (number, op) in ops.iter().enumerate() {
        pair.apply(op).unwrap();
        if number % 4 == 3 {
            pair.model.check(&pair.runs.current()).unwrap();
        }
        pair.check_files();
    }
    pair.model.check(&pair.runs.current()).unwrap();
    pair
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kept_snapshot_is_answered(ops in ops()) {
        let pair = run(&ops);
        pair.runs.verify().unwrap();
    }
}

/// Keys of a space, from one number to another, rows of 40 bytes or deletions.
fn writes(space: u32, numbers: std::ops::Range<u16>, row: Option<u16>) -> Op {
    Op::Flush(numbers.map(|number| (space, number, row)).collect())
}

fn compact_all(pair: &mut Pair) -> usize {
    for times in 0..1000 {
        if pair.model.compact(&pair.runs).unwrap() == Compacted::Nothing {
            return times;
        }
    }
    panic!("compaction does not come to an end");
}

#[test]
fn what_is_deleted_leaves_nothing() {
    let mut pair = run(&[
        writes(1, 0..200, Some(40)),
        writes(1, 0..200, Some(40)),
        writes(1, 0..200, None),
        writes(2, 0..10, Some(40)),
    ]);
    compact_all(&mut pair);
    let entries = |pair: &Pair| {
        let stats = pair.runs.stats();
        stats.levels.iter().map(|level| level.entries).sum::<u64>()
    };
    // The horizon is 0: everybody may be looking.
    assert_eq!(entries(&pair), 610);
    pair.apply(&Op::Horizon(8)).unwrap();
    compact_all(&mut pair);
    assert_eq!(entries(&pair), 10);
    pair.model.check(&pair.runs.current()).unwrap();
}

#[test]
fn a_dead_space_goes_without_being_read() {
    let mut pair = run(&[
        writes(1, 0..200, Some(40)),
        writes(2, 0..200, Some(40)),
        writes(3, 0..200, Some(40)),
        writes(3, 0..200, Some(40)),
    ]);
    compact_all(&mut pair);
    let read = pair.runs.stats().compaction_read_bytes;
    pair.apply(&Op::Kill(2)).unwrap();
    let dropped = pair.model.compact(&pair.runs).unwrap();
    assert!(
        matches!(dropped, Compacted::Dropped { runs } if runs > 3),
        "{dropped:?}"
    );
    assert_eq!(pair.runs.stats().compaction_read_bytes, read);
    compact_all(&mut pair);
    assert!(!pair.runs.current().may_have(SpaceId::new(2)));
    pair.check_files();
}

#[test]
fn rising_keys_are_not_written_again_and_again() {
    let mut pair = run(&[]);
    for flush in 0..40 {
        pair.apply(&writes(
            flush / 10,
            flush as u16 % 10 * 20..flush as u16 % 10 * 20 + 20,
            Some(79),
        ))
        .unwrap();
        compact_all(&mut pair);
    }
    let stats = pair.runs.stats();
    assert!(
        stats.compaction_written_bytes < 4 * stats.flushed_bytes,
        "{stats:#?}"
    );
    pair.model.check(&pair.runs.current()).unwrap();
}

#[test]
fn levels_keep_to_their_sizes() {
    let mut pair = run(&[]);
    let mut number = 0;
    for flush in 0..200_u32 {
        let writes = (0..60).map(|_| {
            number = (number * 5 + 77 + flush as u16) % 200;
            (flush % 4, number, Some(60))
        });
        pair.apply(&Op::Flush(writes.collect())).unwrap();
        pair.apply(&Op::Horizon(if flush > 150 { 8 } else { 0 })).unwrap();
        compact_all(&mut pair);
        let stats = pair.runs.stats();
        assert!(stats.fresh_layers < 8 && stats.pending_bytes == 0, "{stats:#?}");
    }
    pair.model.check(&pair.runs.current()).unwrap();
    // Nothing is kept twice by much: 800 keys are left.
    let levels = pair.runs.stats().levels;
    let entries: u64 = levels.iter().map(|level| level.entries).sum();
    assert!(entries < 800 * 2, "{levels:#?}");
    let keys = (0..200).filter(|number| !key_of(*number).is_empty());
    assert_eq!(keys.count(), 199);
}
