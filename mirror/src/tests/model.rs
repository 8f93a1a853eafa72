//! The mirror against a naive model: whatever happens in between, a snapshot reads exactly the rows of its LSN.

use proptest::prelude::*;
use roaring::RoaringTreemap;
use scry_stream::ChangeSet;
use scry_wal::Lsn;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::kit::{Primary, Work, read};
use crate::cache::Cache;
use crate::checkpoint::{self, Checkpointer};
use crate::core::Core;
use crate::horizon::Horizon;
use crate::snapshot::Snapshot;

#[derive(Debug, Clone)]
enum Step {
    Create,
    Drop(usize),
    Commit(Vec<(usize, usize, Vec<usize>, Vec<usize>)>),
    /// Hand what was committed to the mirror.
    Apply,
    /// Open a snapshot at this share of what can be opened.
    Open(u8),
    Release(usize),
    /// Others give up all snapshots older than this share.
    Horizon(u8),
    Tidy,
    Checkpoint,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let choices = || prop::collection::vec(any::<usize>(), 0..6);
    let work = (any::<usize>(), 0usize..12, choices(), choices());
    prop_oneof![
        1 => Just(Step::Create),
        1 => any::<usize>().prop_map(Step::Drop),
        20 => prop::collection::vec(work, 1..4).prop_map(Step::Commit),
        12 => Just(Step::Apply),
        5 => any::<u8>().prop_map(Step::Open),
        4 => any::<usize>().prop_map(Step::Release),
        5 => any::<u8>().prop_map(Step::Horizon),
        2 => Just(Step::Tidy),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
    ]
}

/// Small enough that a few dozen rows reach every tier, seal and evict.
const PIECE_ROWS: usize = 64;

struct World {
    primary: Primary,
    core: Arc<Core>,
    checkpointer: Checkpointer,
    horizon: Arc<AtomicU64>,
    snapshots: Vec<Snapshot>,
    sets: Vec<ChangeSet>,
}

fn open(folder: &Path, horizon: &Arc<AtomicU64>) -> (Arc<Core>, Checkpointer) {
    let restored = checkpoint::restore(folder, PIECE_ROWS).expect("restored");
    let source = horizon.clone();
    let horizon = Horizon::new(Arc::new(move || Lsn::new(source.load(Ordering::Relaxed))));
    let core = Core::new(
        restored.position,
        restored.stores,
        &horizon,
        Arc::new(Cache::new(4096)),
        PIECE_ROWS,
    );
    (Arc::new(core), restored.checkpointer)
}

impl World {
    fn newest(&self) -> u64 {
        self.core.applied().get().saturating_sub(1)
    }

    fn check(&self, snapshot: &Snapshot) {
        for &store in self.primary.stores.keys() {
            let expected = self.primary.rows_at(store, snapshot.lsn());
            let table = snapshot.table(store);
            let found = table.as_ref().map(|table| read(table, None));
            assert_eq!(found, expected, "store {store} at {}", snapshot.lsn());
            let (Some(table), Some(mut expected)) = (table, expected) else {
                continue;
            };
            let hidden: RoaringTreemap = expected
                .keys()
                .copied()
                .filter(|ordinal| ordinal % 3 == 1)
                .collect();
            expected.retain(|&ordinal, _| !hidden.contains(ordinal));
            assert_eq!(read(&table, Some(&hidden)), expected);
        }
    }

    fn run(&mut self, step: Step, folder: &Path) {
        match step {
            Step::Create => {
                self.primary.create();
            }
            Step::Drop(which) => {
                let living = self.primary.living();
                if living.len() > 1 {
                    self.primary.drop_store(living[which % living.len()]);
                }
            }
            Step::Commit(work) => {
                let living = self.primary.living();
                let mut chosen: Vec<(scry_wal::StoreId, Work)> = Vec::new();
                for (which, inserts, updates, deletes) in work {
                    let Some(&store) = living.get(which % living.len().max(1)) else {
                        continue;
                    };
                    if chosen.iter().all(|(other, _)| *other != store) {
                        chosen.push((
                            store,
                            Work {
                                inserts,
                                updates,
                                deletes,
                            },
                        ));
                    }
                }
                self.primary.commit(&chosen);
            }
            Step::Apply => {
                let set = self.primary.take();
                self.core.apply(&set).expect("applied");
                self.sets.push(set);
            }
            Step::Open(share) => {
                let oldest = self.horizon.load(Ordering::Relaxed).min(self.newest());
                let at = oldest + (self.newest() - oldest) * u64::from(share) / 255;
                match self.core.snapshot(Lsn::new(at)) {
                    Ok(snapshot) => self.snapshots.push(snapshot),
                    // After a restart only what came after the manifest can be opened.
                    Err(error) => assert!(matches!(error, crate::Error::NotRetained { .. }), "{error}"),
                }
            }
            Step::Release(which) => {
                if !self.snapshots.is_empty() {
                    let snapshot = self.snapshots.swap_remove(which % self.snapshots.len());
                    self.check(&snapshot);
                }
            }
            Step::Horizon(share) => {
                let old = self.horizon.load(Ordering::Relaxed);
                let room = self.primary.end.get() - old;
                self.horizon
                    .store(old + room * u64::from(share) / 255, Ordering::Relaxed);
            }
            Step::Tidy => self.core.tidy().expect("tidied"),
            Step::Checkpoint => {
                let upto = self.checkpointer.run(&self.core).expect("written");
                assert_eq!(upto, self.core.applied());
            }
            Step::Restart => {
                for snapshot in std::mem::take(&mut self.snapshots) {
                    self.check(&snapshot);
                }
                (self.core, self.checkpointer) = open(folder, &self.horizon);
                let from = self.core.applied();
                for set in self.sets.iter().filter(|set| set.from >= from) {
                    self.core.apply(set).expect("applied again");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_snapshot_reads_the_rows_of_its_lsn(steps in prop::collection::vec(step(), 1..160)) {
        let folder = tempfile::tempdir().expect("a folder");
        let horizon = Arc::new(AtomicU64::new(0));
        let (core, checkpointer) = open(folder.path(), &horizon);
        let mut primary = Primary::new();
        primary.create();
        let mut world =
            World { primary, core, checkpointer, horizon, snapshots: Vec::new(), sets: Vec::new() };
        for step in steps {
            world.run(step, folder.path());
        }
        world.run(Step::Apply, folder.path());
        world.check(&world.core.newest_snapshot());
        world.run(Step::Restart, folder.path());
        world.check(&world.core.newest_snapshot());
        world.run(Step::Checkpoint, folder.path());
        world.run(Step::Restart, folder.path());
        world.check(&world.core.newest_snapshot());
    }
}
