//! The power goes while candidates are relinked, dropped and written down. Whatever the disk makes of it, the mirror that is found
//! is the primary's state at its LSN, and goes on from there; no file is left of what is not in it.
//!
//! What is compared with: a mirror of the same log that is only in memory and never fails.

use proptest::prelude::*;
use scry_engine::election::OnConflict;
use scry_engine::{Engine, EngineOptions};
use scry_stream::{Start, Stream, StreamOptions};
use scry_wal::sim::{Random, SimStorage};
use scry_wal::{Lsn, StoreId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::candidates::{self as primary, Changes, primary_rows};
use crate::cache::Cache;
use crate::checkpoint::{self, Checkpointer};
use crate::checksum::{Checksum, checksum_rows};
use crate::core::{Core, Position, newest};
use crate::error::Error;
use crate::horizon::Horizon;
use crate::manifest::{self, Manifest};
use crate::store::StoreCell;

const PIECE_ROWS: usize = 64;

/// Candidates at a time.
const CANDIDATES: usize = 3;

/// A folder's files.
type Files = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The segments are being written.
    Writing,
    /// The manifest has its name, and nobody knows whether that is durable.
    Naming,
    /// What the new manifest does not name is being removed.
    Removing,
}

#[derive(Clone, Debug)]
enum Step {
    Change(Changes),
    Create(usize, bool),
    Propose(usize, Changes),
    Elect(usize),
    Rebase(usize),
    End(usize),
    /// The mirror follows.
    Apply,
    Checkpoint,
    /// The power goes in a checkpoint; what the disk makes of it comes from a seed.
    Interrupted(Moment, u64),
    /// The power goes between two checkpoints.
    Crash,
}

fn changes() -> impl Strategy<Value = Changes> {
    let value = || prop_oneof![3 => (0..1000i64).prop_map(Some), 1 => Just(None)];
    let few = prop::collection::vec((0..30i64, value()), 1..12);
    // More than a piece.
    let many = (0..200i64, 70..200i64, value())
        .prop_map(|(first, count, value)| (first..first + count).map(|id| (id, value)).collect());
    prop_oneof![3 => few, 1 => many]
}

fn step() -> impl Strategy<Value = Step> {
    let candidate = 0..CANDIDATES;
    let moment = prop_oneof![
        Just(Moment::Writing),
        Just(Moment::Naming),
        Just(Moment::Removing)
    ];
    prop_oneof![
        3 => changes().prop_map(Step::Change),
        3 => (candidate.clone(), prop::bool::weighted(0.9)).prop_map(|(candidate, mirrored)| Step::Create(candidate, mirrored)),
        5 => (candidate.clone(), changes()).prop_map(|(candidate, changes)| Step::Propose(candidate, changes)),
        3 => candidate.clone().prop_map(Step::Elect),
        1 => candidate.clone().prop_map(Step::Rebase),
        2 => candidate.prop_map(Step::End),
        3 => Just(Step::Apply),
        2 => Just(Step::Checkpoint),
        3 => (moment, any::<u64>()).prop_map(|(moment, seed)| Step::Interrupted(moment, seed)),
        1 => Just(Step::Crash),
    ]
}

/// A mirror without threads of its own.
struct Copy {
    core: Arc<Core>,
    stream: Stream,
}

impl Copy {
    /// Keeps what snapshots from `horizon` on see.
    fn open(engine: &Engine, position: Position, stores: Vec<StoreCell>, horizon: Lsn) -> Copy {
        let start = Start {
            read_from: position.restart,
            emit_from: position.upto,
            schemas: stores.iter().map(|cell| (cell.store, cell.schema())).collect(),
        };
        let cache = Arc::new(Cache::new(1 << 20));
        let horizon = Horizon::new(Arc::new(move || horizon));
        let core = Core::new(position, stores, &horizon, cache, PIECE_ROWS);
        let options = StreamOptions {
            extractors: 1,
            pace: Duration::ZERO,
            ..StreamOptions::default()
        };
        Copy {
            core: Arc::new(core),
            stream: Stream::start(engine.log(), start, &options).expect("started"),
        }
    }

    /// Applies all that is committed.
    fn follow(&mut self, engine: &Engine) {
        let visible = engine.visible_lsn();
        while newest(self.core.applied()) < visible {
            if let Some(set) = self.stream.next(Duration::from_secs(60)).expect("readable") {
                self.core.apply(&set).expect("applied");
            }
        }
        self.core.tidy().expect("tidied");
    }

    /// Every store that a snapshot sees, with a checksum of its rows and their ordinals; at an LSN, or the newest.
    fn seen(&self, at: Option<Lsn>) -> BTreeMap<StoreId, (u64, Checksum)> {
        let snapshot = match at {
            Some(at) => self.core.snapshot(at).expect("kept"),
            None => self.core.newest_snapshot(),
        };
        let stores = self.core.stores();
        let seen = stores.iter().filter_map(|cell| {
            let table = snapshot.table(cell.store)?;
            let ordinals: BTreeSet<u64> = table
                .units()
                .iter()
                .flat_map(|unit| {
                    unit.read_with_ordinals(&[0], None)
                        .expect("readable")
                        .0
                        .values()
                        .to_vec()
                })
                .collect();
            assert_eq!(ordinals.len() as u64, table.live_rows(), "no row is there twice");
            Some((
                cell.store,
                (table.live_rows(), table.checksum().expect("readable")),
            ))
        });
        seen.collect()
    }
}

struct World {
    folder: tempfile::TempDir,
    engine: Arc<Engine>,
    /// In memory only; shows every LSN.
    whole: Copy,
    mirror: Option<(Copy, Checkpointer)>,
    candidates: BTreeMap<usize, String>,
    made: usize,
}

fn files(folder: &Path) -> Files {
    let entries = std::fs::read_dir(folder).expect("listed");
    let paths = entries.map(|entry| entry.expect("listed").path());
    let name = |path: &Path| {
        path.file_name()
            .expect("named")
            .to_str()
            .expect("plain")
            .to_owned()
    };
    paths
        .map(|path| (name(&path), std::fs::read(&path).expect("read")))
        .collect()
}

thread_local! {
    /// The folder whenever a checkpoint makes names durable.
    static SYNCED: RefCell<Vec<Files>> = const { RefCell::new(Vec::new()) };
}

fn note_files(folder: &Path) -> Result<(), Error> {
    SYNCED.with_borrow_mut(|synced| synced.push(files(folder)));
    Ok(())
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("mirror")).expect("created");
        let mut options = EngineOptions::default();
        options.log.segment_bytes = 64 << 10;
        let engine = Engine::open_on(&folder.path().join("data"), SimStorage::new(0, false), options);
        let engine = engine.expect("opened");
        let table = primary::create(&engine, 20);
        primary::prefer_candidates(&engine, &table);
        let whole = Copy::open(&engine, Position::default(), Vec::new(), Lsn::ZERO);
        let mut world = World {
            folder,
            engine,
            whole,
            mirror: None,
            candidates: BTreeMap::new(),
            made: 0,
        };
        world.open();
        world
    }

    fn close(&mut self) {
        let (copy, _) = self.mirror.take().expect("open");
        // Its dealer ends when it has waited for the log in vain; nobody needs to wait for that.
        std::thread::spawn(move || drop(copy.stream));
    }

    fn place(&self) -> std::path::PathBuf {
        self.folder.path().join("mirror")
    }

    /// Opens what is on disk, and compares it as it is and when it has followed.
    fn open(&mut self) {
        self.whole.follow(&self.engine);
        let restored = checkpoint::restore(&self.place(), PIECE_ROWS).expect("restored");
        assert_eq!(self.strangers(), BTreeSet::new());
        let mut checkpointer = restored.checkpointer;
        checkpointer.set_sync_folder(note_files);
        let upto = restored.position.upto;
        let mut copy = Copy::open(&self.engine, restored.position, restored.stores, Lsn::MAX);
        // The end of the log may have moved on without a commit.
        let at = newest(upto.min(self.whole.core.applied()));
        assert_eq!(copy.seen(None), self.whole.seen(Some(at)));
        copy.follow(&self.engine);
        self.mirror = Some((copy, checkpointer));
        self.check();
    }

    fn check(&self) {
        let (copy, _) = self.mirror.as_ref().expect("open");
        let seen = copy.seen(None);
        assert_eq!(seen, self.whole.seen(None));
        let table = Arc::clone(self.engine.catalog().table("t").expect("created"));
        let (lsn, ordinals, rows) = primary_rows(&self.engine, &table);
        assert!(lsn < copy.core.applied());
        assert_eq!(seen[&table.def.store].1, checksum_rows(&ordinals, &rows));
        // The stores are the table's and those of open candidates.
        let catalog = self.engine.catalog();
        let candidates = catalog
            .elections()
            .iter()
            .flat_map(|election| election.candidates());
        let branches = candidates.filter(|candidate| candidate.mirrored);
        let branches = branches.flat_map(|candidate| candidate.branches().map(|branch| branch.store()));
        let stores: BTreeSet<StoreId> = branches.chain([table.def.store]).collect();
        assert!(seen.keys().eq(&stores), "{seen:?} for {stores:?}");
    }

    /// Segment files that the manifest does not name.
    fn strangers(&self) -> BTreeSet<String> {
        let named = Manifest::read(&self.place())
            .expect("readable")
            .unwrap_or_default();
        let mut found: BTreeSet<String> = files(&self.place()).into_keys().collect();
        for store in &named.stores {
            for piece in &store.pieces {
                found.remove(&piece.file);
            }
        }
        found.retain(|name| name.ends_with(".parquet"));
        found
    }

    fn apply(&mut self) {
        if let Some((copy, _)) = &mut self.mirror {
            copy.follow(&self.engine);
        }
        self.whole.follow(&self.engine);
        self.check();
    }

    /// The folder at both moments at which names are made durable.
    fn checkpoint(&mut self) -> [Files; 2] {
        let (copy, checkpointer) = self.mirror.as_mut().expect("open");
        SYNCED.take();
        checkpointer.run(&copy.core).expect("written");
        let mut synced = SYNCED.take();
        let named = synced.pop().expect("the manifest");
        [synced.pop().expect("the segments"), named]
    }

    /// What is on disk when the power comes back, after it went in a checkpoint.
    fn interrupt(&mut self, moment: Moment, seed: u64) {
        let mut random = Random::new(seed);
        let before = files(&self.place());
        let [written, named] = self.checkpoint();
        let after = files(&self.place());
        let found = match moment {
            Moment::Writing => {
                let mut found = before.clone();
                for (name, mut bytes) in written {
                    if before.contains_key(&name) || random.below(3) == 0 {
                        continue;
                    }
                    if random.below(2) == 0 {
                        bytes.truncate(random.below(bytes.len() as u64) as usize);
                    }
                    found.insert(name, bytes);
                }
                found.insert(manifest::TEMPORARY_NAME.to_owned(), vec![1; 100]);
                found
            }
            Moment::Naming => {
                let mut found = named;
                if random.below(2) == 0 {
                    found.remove(manifest::FILE_NAME);
                    let manifest = before.get(manifest::FILE_NAME).cloned();
                    found.extend(manifest.map(|bytes| (manifest::FILE_NAME.to_owned(), bytes)));
                }
                found
            }
            Moment::Removing => {
                let mut found = named;
                found.retain(|name, _| after.contains_key(name) || random.below(2) == 0);
                found
            }
        };
        self.close();
        let place = self.place();
        std::fs::remove_dir_all(&place).expect("removed");
        std::fs::create_dir(&place).expect("created");
        for (name, bytes) in found {
            std::fs::write(place.join(name), bytes).expect("written");
        }
        self.open();
    }

    fn step(&mut self, step: Step) {
        let table = Arc::clone(self.engine.catalog().table("t").expect("created"));
        let engine = &self.engine;
        let name = |candidate| self.candidates.get(candidate).cloned();
        match step {
            Step::Change(changes) => primary::change(engine, &table, &changes),
            Step::Create(candidate, mirrored) => {
                if name(&candidate).is_none() {
                    self.made += 1;
                    let name = format!("c{}", self.made);
                    primary::create_candidate(engine, &name, mirrored);
                    self.candidates.insert(candidate, name);
                }
            }
            Step::Propose(candidate, changes) => {
                if let Some(name) = name(&candidate) {
                    primary::propose(engine, &name, &table, &changes);
                }
            }
            Step::Elect(candidate) => {
                if let Some(name) = self.candidates.remove(&candidate) {
                    primary::elect_with(engine, &name, OnConflict::Resolve).expect("elected");
                }
            }
            Step::Rebase(candidate) => {
                if let Some(name) = name(&candidate) {
                    primary::rebase(engine, &name).expect("rebased");
                }
            }
            Step::End(candidate) => {
                if let Some(name) = self.candidates.remove(&candidate) {
                    primary::end(engine, &name);
                }
            }
            Step::Apply => self.apply(),
            Step::Checkpoint => {
                self.checkpoint();
                // Nobody reads what went away.
                assert_eq!(self.strangers(), BTreeSet::new());
            }
            Step::Interrupted(moment, seed) => self.interrupt(moment, seed),
            Step::Crash => {
                self.close();
                self.open();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn whenever_the_power_goes_the_mirror_found_is_the_primary_at_its_lsn(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.apply();
        world.checkpoint();
        prop_assert_eq!(world.strangers(), BTreeSet::new());
        world.step(Step::Crash);
    }
}
