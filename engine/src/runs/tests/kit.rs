//! A model of runs: every version that ever was, and who may still ask for it.

use crate::key::{Key, KeyRange};
use crate::runs::folder::Folder;
use crate::runs::{Compacted, Compression, Keep, RunSet, Runs, RunsOptions, SpaceId, Stored};
use crate::{Error, Row};
use proptest::prelude::*;
use scry_wal::{Lsn, Ordinal};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// One thing that is done.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A write each: the space, the key, and the row's length or a deletion.
    Flush(Vec<(u32, u16, Option<u16>)>),
    Compact(u8),
    /// The horizon comes nearer to the present by this part of the way, in eighths.
    Horizon(u8),
    Pin,
    Unpin,
    /// A space dies.
    Kill(u32),
    Reopen,
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let write = (0..4_u32, 0..200_u16, prop::option::weighted(0.7, 0..80_u16));
    let op = prop_oneof![
        8 => prop::collection::vec(write, 0..120).prop_map(Op::Flush),
        8 => (1..6_u8).prop_map(Op::Compact),
        4 => (0..9_u8).prop_map(Op::Horizon),
        2 => Just(Op::Pin),
        2 => Just(Op::Unpin),
        1 => (0..20_u32).prop_map(Op::Kill),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..60)
}

pub(super) fn small_options() -> RunsOptions {
    RunsOptions {
        cache_bytes: 64 << 10,
        file_bytes: 1500,
        block_bytes: 150,
        compression_fresh: Compression::None,
        compression: Compression::Lz4,
        base_bytes: 5000,
        compaction_bytes_per_s: None,
    }
}

/// Keys of all lengths, in the order of their numbers.
pub(super) fn key_of(number: u16) -> Vec<u8> {
    let mut key = number.to_be_bytes().to_vec();
    if number == 0 {
        key.clear();
    } else if number.is_multiple_of(3) {
        key.extend_from_slice(&b"a longer key "[..usize::from(number % 11)]);
    }
    key
}

#[derive(Clone, Default)]
pub(super) struct Model {
    /// Oldest first.
    rows: BTreeMap<(u32, Vec<u8>), Vec<Stored>>,
    pub(super) now: u64,
    horizon: u64,
    /// The horizon of the last compaction: deletions up to there may have gone.
    compacted: u64,
    pins: Vec<u64>,
    dead: BTreeSet<u32>,
    pub(super) checkpoint: Option<Vec<u8>>,
}

impl Model {
    /// Takes note of a flush, and gives what is to be written.
    pub(super) fn flush(
        &mut self,
        writes: &[(u32, u16, Option<u16>)],
    ) -> BTreeMap<(u32, Vec<u8>), Vec<Stored>> {
        let mut flushed: BTreeMap<_, Vec<Stored>> = BTreeMap::new();
        for (space, number, row) in writes {
            if self.dead.contains(space) {
                continue;
            }
            self.now += 1 + u64::from(*number % 3);
            let row = row.map(|length| {
                let seed = self.now as u8;
                Row::from((0..length).map(|at| seed ^ (at / 7) as u8).collect::<Vec<_>>())
            });
            let version = Stored {
                lsn: Lsn::new(self.now),
                ordinal: Ordinal::new(self.now * 3),
                row,
            };
            let id = (*space, key_of(*number));
            self.rows.entry(id.clone()).or_default().push(version.clone());
            flushed.entry(id).or_default().insert(0, version);
        }
        self.checkpoint = Some(format!("checkpoint at {}", self.now).into_bytes());
        flushed
    }

    pub(super) fn change(&mut self, op: &Op) {
        match op {
            Op::Horizon(eighths) => self.horizon += (self.now - self.horizon) * u64::from(*eighths) / 8,
            Op::Pin => self.pins.push(self.now),
            Op::Unpin if !self.pins.is_empty() => {
                self.pins.remove(self.pins.len() / 2);
            }
            Op::Kill(space) => {
                self.dead.insert(*space);
            }
            _ => {}
        }
    }

    pub(super) fn compact(&mut self, runs: &Arc<Runs>) -> Result<Compacted, Error> {
        let pins: Vec<Lsn> = self.pins.iter().map(|pin| Lsn::new(*pin)).collect();
        self.compacted = self.compacted.max(self.horizon);
        runs.compact_once(&Keep {
            horizon: Lsn::new(self.horizon),
            pins: &pins,
            is_live: &|space| !self.dead.contains(&space.get()),
        })
    }

    fn seen(&self, id: &(u32, Vec<u8>), at: u64) -> Option<&Stored> {
        let versions = self.rows.get(id)?;
        versions.iter().rev().find(|version| version.lsn.get() <= at)
    }

    /// Whether an answer is right: a deletion at or below the horizon may have gone.
    fn agrees(&self, expected: Option<&Stored>, found: Option<&Stored>) -> bool {
        expected == found
            || found.is_none()
                && expected
                    .is_some_and(|version| version.row.is_none() && version.lsn.get() <= self.compacted)
    }

    /// LSNs at which all must be answered.
    fn snapshots(&self) -> Vec<u64> {
        let mut snapshots = self.pins.clone();
        snapshots.extend([self.horizon, (self.horizon + self.now) / 2, u64::MAX]);
        snapshots.sort_unstable();
        snapshots.dedup();
        snapshots
    }

    /// Asks for everything.
    ///
    /// # Errors
    /// Those of the runs. A wrong answer is a panic.
    pub(super) fn check(&self, set: &RunSet) -> Result<(), Error> {
        for at in self.snapshots() {
            for space in (0..4).filter(|space| !self.dead.contains(space)) {
                for number in 0..=200 {
                    let id = (space, key_of(number));
                    let found = set.get(SpaceId::new(space), &id.1, Lsn::new(at))?;
                    let expected = self.seen(&id, at);
                    assert!(
                        self.agrees(expected, found.as_ref()),
                        "{id:?} at {at}: {found:?} instead of {expected:?}"
                    );
                    assert!(found.is_none() || set.may_have(SpaceId::new(space)));
                }
                let bound = |number| Key::from_bytes(&key_of(number));
                let some = KeyRange {
                    lower: Bound::Excluded(bound(20)),
                    upper: Bound::Included(bound(60)),
                };
                let others = KeyRange {
                    lower: Bound::Included(bound(50)),
                    upper: Bound::Excluded(bound(150)),
                };
                for range in [KeyRange::all(), some, others] {
                    self.check_range(set, space, &range, at)?;
                }
            }
        }
        Ok(())
    }

    fn check_range(&self, set: &RunSet, space: u32, range: &KeyRange, at: u64) -> Result<(), Error> {
        let mut found = BTreeMap::new();
        let mut walk = set.range(SpaceId::new(space), range, Lsn::new(at))?;
        let mut last: Option<Key> = None;
        while let Some((key, version)) = walk.next()? {
            assert!(
                last.as_ref().is_none_or(|last| *last < key),
                "{key:?} out of order"
            );
            assert!(range.contains(&key), "{key:?} is outside of {range:?}");
            found.insert(key.to_vec(), version);
            last = Some(key);
        }
        let ours = self
            .rows
            .keys()
            .filter(|id| id.0 == space && range.contains(&id.1));
        let mut expected = 0;
        for id in ours {
            let version = self.seen(id, at);
            assert!(
                self.agrees(version, found.get(&id.1)),
                "{id:?} at {at} in {range:?}: {:?} instead of {version:?}",
                found.get(&id.1)
            );
            expected += usize::from(version.is_some() && found.contains_key(&id.1));
        }
        assert_eq!(found.len(), expected, "keys that nobody has written");
        Ok(())
    }
}

/// Runs beside their model.
pub(super) struct Pair {
    pub(super) folder: Arc<dyn Folder>,
    pub(super) runs: Arc<Runs>,
    pub(super) model: Model,
}

impl Pair {
    pub(super) fn new(folder: Arc<dyn Folder>) -> Result<Pair, Error> {
        let (runs, _) = Runs::open_in(Arc::clone(&folder), small_options())?;
        Ok(Pair {
            folder,
            runs,
            model: Model::default(),
        })
    }

    /// Does one thing. After an error the model is as before.
    pub(super) fn apply(&mut self, op: &Op) -> Result<(), Error> {
        let mut model = self.model.clone();
        match op {
            Op::Flush(writes) => {
                let flushed = model.flush(writes);
                let checkpoint = model.checkpoint.clone().unwrap_or_default();
                let mut writer = self.runs.begin_flush();
                for ((space, key), versions) in &flushed {
                    writer.add(SpaceId::new(*space), key, versions)?;
                }
                self.runs.install(writer, &checkpoint)?;
            }
            Op::Compact(times) => {
                for _ in 0..*times {
                    model.compact(&self.runs)?;
                }
            }
            Op::Reopen => {
                let (runs, checkpoint) = Runs::open_in(Arc::clone(&self.folder), small_options())?;
                assert_eq!(checkpoint, model.checkpoint);
                self.runs = runs;
            }
            other => model.change(other),
        }
        self.model = model;
        Ok(())
    }

    /// All that is in the folder is named.
    pub(super) fn check_files(&self) {
        let set = self.runs.current();
        let mut expected: Vec<String> = set
            .runs()
            .map(|run| crate::runs::format::run_name(run.name.number))
            .collect();
        if self.model.checkpoint.is_some() || !expected.is_empty() {
            expected.push("MANIFEST".to_owned());
        }
        expected.sort();
        let mut found = self.folder.list().unwrap();
        found.sort();
        assert_eq!(found, expected);
    }
}
