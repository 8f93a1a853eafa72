//! The power goes, or the disk fails, at every operation of a story.

use super::kit::{Model, Op, Pair, small_options};
use crate::runs::folder::sim::{Fault, SimFolder};
use crate::runs::{Runs, SpaceId};
use scry_wal::sim::Random;
use std::sync::Arc;

/// Flushes and compactions of all kinds.
fn story() -> Vec<Op> {
    let mut random = Random::new(7);
    let mut story = Vec::new();
    for flush in 0..12_u32 {
        let count = if flush % 4 == 3 { 5 } else { 60 };
        let writes = (0..count).map(|_| {
            let row = (random.below(5) > 0).then(|| random.below(70) as u16);
            (random.below(3) as u32, random.below(200) as u16, row)
        });
        story.push(Op::Flush(writes.collect()));
        story.push(Op::Horizon(random.below(9) as u8));
        if flush == 4 {
            story.push(Op::Pin);
        }
        if flush == 9 {
            story.push(Op::Kill(2));
        }
        story.push(Op::Compact(2));
    }
    story
}

/// Until the first error; how the model was before it, and after the operation that failed.
fn tell(pair: &mut Pair, story: &[Op]) -> Option<(Model, Model)> {
    for op in story {
        let before = pair.model.clone();
        if pair.apply(op).is_err() {
            let mut after = before.clone();
            if let Op::Flush(writes) = op {
                after.flush(writes);
            }
            return Some((before, after));
        }
    }
    None
}

#[test]
fn whenever_the_power_goes_all_or_nothing_of_a_step_is_there() {
    let story = story();
    let whole = SimFolder::default();
    let mut pair = Pair::new(Arc::new(whole.clone())).unwrap();
    assert!(tell(&mut pair, &story).is_none());
    assert!(pair.runs.stats().compactions > 2, "{:?}", pair.runs.stats());
    let operations = whole.operations();
    let mut both = [0; 2];
    for at in 0..operations {
        let folder = SimFolder::default();
        folder.fail_at(at, Fault::Crash);
        let mut pair = Pair::new(Arc::new(folder.clone())).unwrap();
        let Some((before, after)) = tell(&mut pair, &story) else {
            continue;
        };
        // What is open can still be read.
        before.check(&pair.runs.current()).unwrap();
        for seed in 0..2 {
            let found = folder.after_crash(at * 3 + seed);
            let (runs, checkpoint) = Runs::open_in(Arc::new(found.clone()), small_options()).unwrap();
            let is_after = checkpoint == after.checkpoint;
            let model = if is_after { &after } else { &before };
            both[usize::from(is_after)] += 1;
            assert_eq!(checkpoint, model.checkpoint);
            runs.verify().unwrap();
            // A compaction may have come to its end; the model takes note of its horizon first.
            let mut model = model.clone();
            let mut pair = Pair {
                folder: Arc::new(found),
                runs,
                model: model.clone(),
            };
            pair.check_files();
            model.compact(&pair.runs).unwrap();
            model.check(&pair.runs.current()).unwrap();
            pair.model = model;
            pair.apply(&Op::Flush(vec![(0, 1, Some(5)), (1, 2, None)]))
                .unwrap();
            pair.apply(&Op::Reopen).unwrap();
            pair.check_files();
        }
    }
    assert!(both[0] > 10 && both[1] > 10, "{both:?}");
}

#[test]
fn a_failure_leaves_what_there_was() {
    let story = story();
    let whole = SimFolder::default();
    let mut pair = Pair::new(Arc::new(whole.clone())).unwrap();
    tell(&mut pair, &story);
    for fault in [Fault::Fails, Fault::FailsAfter] {
        let mut went_on = 0;
        for at in 0..whole.operations() {
            let folder = SimFolder::default();
            folder.fail_at(at, fault);
            let mut pair = Pair::new(Arc::new(folder.clone())).unwrap();
            let Some((before, after)) = tell(&mut pair, &story) else {
                // A file that is not needed could not be removed.
                pair.apply(&Op::Reopen).unwrap();
                pair.check_files();
                pair.model.check(&pair.runs.current()).unwrap();
                continue;
            };
            let mut model = before.clone();
            model.compact(&pair.runs).ok();
            model.check(&pair.runs.current()).unwrap();
            // Where the manifest was certain all goes on.
            pair.model = model;
            let again = pair.apply(&Op::Flush(vec![(0, 7, Some(9)), (1, 8, None)]));
            if again.is_ok() {
                went_on += 1;
            } else {
                let (_, checkpoint) = Runs::open_in(Arc::new(folder), small_options()).unwrap();
                pair.model = if checkpoint == before.checkpoint {
                    before
                } else {
                    after
                };
                // The compaction in between may have been the one that was uncertain.
                let _ = pair.model.compact(&pair.runs);
            }
            pair.apply(&Op::Reopen).unwrap();
            pair.model.check(&pair.runs.current()).unwrap();
            pair.check_files();
            pair.runs.verify().unwrap();
        }
        assert!(went_on > 20, "{went_on} of {}", whole.operations());
    }
}

#[test]
fn a_flush_that_is_not_installed_leaves_nothing() {
    let folder = SimFolder::default();
    let (runs, _) = Runs::open_in(Arc::new(folder.clone()), small_options()).unwrap();
    let mut writer = runs.begin_flush();
    for number in 0..500_u32 {
        let version = crate::runs::Stored {
            lsn: scry_wal::Lsn::new(5),
            ordinal: scry_wal::Ordinal::new(0),
            row: Some(crate::Row::from([7; 50])),
        };
        writer
            .add(SpaceId::new(1), &number.to_be_bytes(), &[version])
            .unwrap();
    }
    assert!(folder.names().len() > 5);
    drop(writer);
    assert_eq!(folder.names(), Vec::<String>::new());
}
