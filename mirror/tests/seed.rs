//! Mirrors that begin with the primary's rows, against those that were made from the whole log, and against the primary.
#![allow(clippy::unwrap_used)]

mod common;

use common::candidates::{
    change, commit, create, create_candidate, elect_with, end, prefer_candidates, propose, rebase,
};
use common::*;
use parking_lot::Mutex;
use proptest::prelude::*;
use scry_engine::election::OnConflict;
use scry_engine::{ColumnDef, DataType, Engine, EngineOptions, Key, NewTable, PrimaryKey, Table, Txn, Value};
use scry_mirror::{Mirror, MirrorOptions, Snapshot};
use scry_wal::{Backend, Lsn, Retention, StoreId};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn spilling(folder: &Path) -> Arc<Engine> {
    let mut options = EngineOptions {
        // Bulk transactions write ahead soon.
        spill_bytes: 2 << 10,
        ..EngineOptions::default()
    };
    options.log.segment_bytes = 64 << 10;
    options.log.backend = Backend::Blocking;
    Engine::open(&folder.join("data"), options).unwrap()
}

/// Everything that is committed.
fn newest(engine: &Arc<Engine>, mirror: &Arc<Mirror>) -> Snapshot {
    let lsn = engine.visible_lsn();
    engine.log().wait_durable(lsn).unwrap();
    block_on(mirror.applied(lsn.plus(1))).unwrap();
    mirror.newest_snapshot()
}

/// The stores of tables and of what candidates have changed.
fn stores(engine: &Engine) -> Vec<StoreId> {
    let catalog = engine.catalog();
    let elections = catalog.elections().iter();
    let branches = elections
        .flat_map(|election| election.candidates())
        .flat_map(|candidate| candidate.branches().map(|branch| branch.store()));
    let tables = catalog.tables().map(|table| table.def.store);
    tables.chain(branches).collect()
}

/// Both mirrors show the same, and of tables what the primary has.
fn compare(engine: &Arc<Engine>, whole: &Arc<Mirror>, seeded: &Arc<Mirror>) {
    let (whole, seeded) = (newest(engine, whole), newest(engine, seeded));
    for store in stores(engine) {
        let (expected, found) = (whole.table(store), seeded.table(store));
        assert_eq!(expected.is_some(), found.is_some(), "store {store}");
        if let (Some(expected), Some(found)) = (expected, found) {
            assert_eq!(expected.schema(), found.schema());
            assert_eq!(expected.state(), found.state(), "store {store}");
            assert_eq!(
                expected.hashes().unwrap(),
                found.hashes().unwrap(),
                "store {store}"
            );
        }
    }
    for table in engine.catalog().tables() {
        let (_, expected) = primary_checksum(engine, table);
        let found = seeded.table(table.def.store).unwrap().checksum().unwrap();
        assert_eq!(found, expected, "{}", table.def.name);
    }
}

/// What a test does to the primary.
struct Work {
    engine: Arc<Engine>,
    table: Arc<Table>,
    bulk: Arc<Table>,
    /// A transaction that has written ahead, and how many rows.
    open: Option<Txn>,
    rows: i64,
    tables: u32,
}

const CANDIDATES: [&str; 3] = ["a", "b", "c"];

impl Work {
    fn new(engine: &Arc<Engine>) -> Work {
        let table = create(engine, 50);
        prefer_candidates(engine, &table);
        let bulk = filled(engine, "bulk", "value", 10);
        Work {
            engine: engine.clone(),
            table,
            bulk,
            open: None,
            rows: 1000,
            tables: 0,
        }
    }

    fn extra(&self, number: u32) -> Option<Arc<Table>> {
        let catalog = self.engine.catalog();
        let mut extra: Vec<_> = catalog
            .tables()
            .filter(|table| table.def.name.starts_with('x'))
            .cloned()
            .collect();
        extra.sort_by_key(|table| table.def.oid);
        (!extra.is_empty()).then(|| extra.swap_remove(number as usize % extra.len()))
    }

    /// One step, as `dice` says.
    fn step(&mut self, dice: u32) {
        let (kind, dice) = (dice % 16, dice / 16);
        let name = CANDIDATES[dice as usize % 3];
        let changes = (0..dice % 40)
            .map(|step| {
                let id = i64::from((dice.wrapping_mul(2_654_435_761) >> 8).wrapping_add(step * 7) % 120);
                (id, (step % 4 != 0).then_some(i64::from(dice % 1000 + step)))
            })
            .collect();
        let engine = &self.engine;
        let catalog = engine.catalog();
        let candidate = catalog.elections().open("e", name).is_ok();
        match kind {
            0..4 => change(engine, &self.table, &changes),
            4..6 if !candidate && catalog.elections().get("e").unwrap().candidate(name).is_none() => {
                create_candidate(engine, name, !dice.is_multiple_of(5));
            }
            4..8 if candidate => propose(engine, name, &self.table, &changes),
            8 if candidate && dice.is_multiple_of(3) => {
                elect_with(engine, name, OnConflict::Resolve).unwrap();
            }
            9 if candidate && dice.is_multiple_of(4) => end(engine, name),
            10 if candidate => rebase(engine, name).unwrap(),
            11 => {
                self.tables += 1;
                filled(
                    engine,
                    &format!("x{}", self.tables),
                    "other",
                    i64::from(dice % 700),
                );
            }
            12 => {
                if let Some(table) = self.extra(dice) {
                    let mut txn = begin(engine);
                    let table = block_on(txn.truncate(&table)).unwrap();
                    insert(&mut txn, &table, 0..i64::from(dice % 5));
                    commit(engine, txn);
                }
            }
            13 => {
                if let Some(table) = self.extra(dice).filter(|_| dice.is_multiple_of(3)) {
                    let mut txn = begin(engine);
                    block_on(txn.drop_table(&table)).unwrap();
                    commit(engine, txn);
                }
            }
            14 => {
                self.tables += 1;
                let table = keyless(engine, &format!("x{}", self.tables), i64::from(dice % 50));
                let mut txn = begin(engine);
                let key = PrimaryKey {
                    name: format!("{}_key", table.def.name),
                    columns: vec![0],
                };
                block_on(txn.add_primary_key(&table, key)).unwrap();
                commit(engine, txn);
            }
            15 => match self.open.take() {
                Some(txn) if dice.is_multiple_of(4) => txn.rollback(),
                Some(txn) => commit(engine, txn),
                None => {
                    let mut txn = begin(engine);
                    let last = self.rows + 400;
                    insert(&mut txn, &self.bulk, self.rows..last);
                    self.rows = last;
                    self.open = Some(txn);
                }
            },
            _ => {}
        }
    }
}

fn insert(txn: &mut Txn, table: &Table, ids: std::ops::Range<i64>) {
    for id in ids {
        let row = table.layout.encode(&[Value::Int8(id), Value::Int8(id)]).unwrap();
        block_on(txn.insert(table, table.key_of(&row), row)).unwrap();
    }
}

fn keyless(engine: &Arc<Engine>, name: &str, rows: i64) -> Arc<Table> {
    let column = |name: &str| ColumnDef {
        not_null: true,
        ..ColumnDef::new(name, DataType::Int8)
    };
    let mut txn = begin(engine);
    let new = NewTable {
        name: name.into(),
        columns: vec![column("id"), column("other")],
        ..NewTable::default()
    };
    let table = block_on(txn.create_table(new)).unwrap();
    insert(&mut txn, &table, 0..rows);
    commit(engine, txn);
    let catalog = engine.catalog();
    catalog.table(name).unwrap().clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_seeded_mirror_is_the_one_that_was_made_from_the_whole_log(
        before in proptest::collection::vec(any::<u32>(), 0..60),
        after in proptest::collection::vec(any::<u32>(), 0..60),
        again in proptest::collection::vec(any::<u32>(), 0..30),
        checkpoint in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let engine = spilling(folder.path());
        let whole = mirror(folder.path(), &engine);
        let mut work = Work::new(&engine);
        for dice in before {
            work.step(dice);
        }
        if checkpoint {
            engine.checkpoint().unwrap();
        }
        let path = folder.path().join("seeded");
        let seeded = common::seeded(&path, &engine);
        compare(&engine, &whole, &seeded);
        prop_assert!(seeded.status().seeded.is_some());
        for dice in after {
            work.step(dice);
        }
        compare(&engine, &whole, &seeded);
        if checkpoint {
            seeded.close();
        }
        drop(seeded);
        for dice in again {
            work.step(dice);
        }
        let seeded = common::seeded(&path, &engine);
        compare(&engine, &whole, &seeded);
        prop_assert_eq!(seeded.status().seeded, None, "the first manifest is found");
        if let Some(txn) = work.open.take() {
            commit(&engine, txn);
        }
        compare(&engine, &whole, &seeded);
    }
}

#[test]
fn a_mirror_is_seeded_beside_commits() {
    let folder = tempfile::tempdir().unwrap();
    let engine = spilling(folder.path());
    let table = filled(&engine, "t", "value", 2_000);
    let whole = mirror(folder.path(), &engine);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (engine, table, done) = (&engine, &table, &done);
            scope.spawn(move || {
                let mut step = writer;
                while !done.load(Ordering::Acquire) {
                    let mut txn = begin(engine);
                    for id in [step % 1_000, 1_000 + step % 997] {
                        let id = id * 2 % 2_000 + writer % 2;
                        let key = Key::encode([scry_engine::Datum::Int8(id)]);
                        block_on(txn.lock(table, key.as_ref())).unwrap().unwrap();
                        let row = table
                            .layout
                            .encode(&[Value::Int8(id), Value::Int8(step)])
                            .unwrap();
                        block_on(txn.update(table, key.as_ref(), row)).unwrap();
                    }
                    commit(engine, txn);
                    step += 2;
                }
            });
        }
        for round in 0..5 {
            let at = engine.visible_lsn();
            let seeded = common::seeded(&folder.path().join(round.to_string()), &engine);
            wait_until("the seed", || seeded.status().seeded.is_some());
            assert!(seeded.status().seeded.unwrap() >= at);
            let snapshot = newest(&engine, &seeded);
            assert_eq!(snapshot.table(table.def.store).unwrap().live_rows(), 2_000);
            if round < 4 {
                continue;
            }
            done.store(true, Ordering::Release);
        }
    });
    let last = common::seeded(&folder.path().join("4"), &engine);
    assert_eq!(last.status().seeded, None);
    compare(&engine, &whole, &last);
}

#[test]
fn seeding_that_was_ended_leaves_nothing_and_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let engine = spilling(folder.path());
    let table = filled(&engine, "t", "value", 20_000);
    let path = folder.path().join("mirror");
    std::fs::create_dir(&path).unwrap();
    // As if the process had ended in the middle.
    std::fs::write(path.join("1-0-ff-0.parquet"), b"half").unwrap();
    std::fs::write(path.join("seed.scratch"), b"rows").unwrap();
    let mirror = common::seeded(&path, &engine);
    // Most likely while it is seeded, which then ends early.
    mirror.close();
    drop(mirror);
    let mirror = common::seeded(&path, &engine);
    assert!(mirror.status().rebuilt.is_none());
    let snapshot = newest(&engine, &mirror);
    assert_eq!(snapshot.table(table.def.store).unwrap().live_rows(), 20_000);
    mirror.close();
    let left = std::fs::read_dir(&path).unwrap().count();
    assert_eq!(left, mirror.status().segments + 1, "segments and the manifest");
}

#[test]
fn an_empty_primary_is_followed_from_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let engine = spilling(folder.path());
    let path = folder.path().join("seeded");
    let mirror = common::seeded(&path, &engine);
    wait_until("the first manifest", || mirror.status().checkpoint.is_some());
    drop(mirror);
    let mirror = common::seeded(&path, &engine);
    assert!(mirror.status().rebuilt.is_none(), "{:?}", mirror.status());
    let whole = self::mirror(folder.path(), &engine);
    filled(&engine, "t", "value", 10);
    compare(&engine, &whole, &mirror);
}

/// Lets go of all of the log that nothing needs, and of a consumer that is further behind than this.
fn frugal(folder: &Path, consumer_bytes_max: u64) -> Arc<Engine> {
    let mut options = EngineOptions {
        checkpoint_log_bytes: 1 << 40,
        ..EngineOptions::default()
    };
    options.log.segment_bytes = 16 << 10;
    options.log.recent_bytes = 0;
    options.log.backend = Backend::Blocking;
    options.log.retention = Retention::bytes(0);
    options.log.retain_bytes_max = consumer_bytes_max;
    Engine::open(&folder.join("data"), options).unwrap()
}

/// Changes of some rows, in many commits, and a checkpoint.
fn churn(engine: &Arc<Engine>, table: &Arc<Table>, value: i64) {
    for step in 0..60 {
        let mut txn = begin(engine);
        for id in (step % 7..200).step_by(7).take(12) {
            let key = Key::encode([scry_engine::Datum::Int8(id)]);
            block_on(txn.lock(table, key.as_ref())).unwrap().unwrap();
            let row = [Value::Int8(id), Value::Int8(value * 1_000 + step)];
            let row = table.layout.encode(&row).unwrap();
            block_on(txn.update(table, key.as_ref(), row)).unwrap();
        }
        commit(engine, txn);
    }
    engine.checkpoint().unwrap();
}

fn check(engine: &Arc<Engine>, mirror: &Arc<Mirror>, table: &Table) {
    let (_, expected) = primary_checksum(engine, table);
    let found = newest(engine, mirror)
        .table(table.def.store)
        .unwrap()
        .checksum()
        .unwrap();
    assert_eq!(found, expected);
}

#[test]
fn the_log_keeps_what_the_mirrors_restart_reads_and_one_without_files_needs_none_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = frugal(folder.path(), 1 << 30);
    let table = filled(&engine, "t", "value", 200);
    let path = folder.path().join("mirror");
    let log = engine.log();
    let mut begin = log.begin();
    for round in 0..3 {
        let mirror = common::seeded(&path, &engine);
        churn(&engine, &table, round);
        sealed(&mirror, log.durable_lsn());
        churn(&engine, &table, round);
        assert!(log.begin() > begin, "the log is let go of behind both");
        begin = log.begin();
        assert!(begin <= mirror.status().checkpoint.unwrap());
        // A restart finds what it reads.
        drop(mirror);
        churn(&engine, &table, round);
        let mirror = common::seeded(&path, &engine);
        let status = mirror.status();
        assert!(status.rebuilt.is_none() && status.seeded.is_none(), "{status:?}");
        check(&engine, &mirror, &table);
        drop(mirror);
        std::fs::remove_dir_all(&path).unwrap();
    }
    let mirror = common::seeded(&path, &engine);
    check(&engine, &mirror, &table);
    assert!(mirror.status().seeded.is_some());
}

#[test]
fn a_mirror_that_was_dropped_for_being_too_far_behind_begins_anew_while_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let engine = frugal(folder.path(), 64 << 10);
    let table = filled(&engine, "t", "value", 200);
    let mut options = small(&engine);
    options.seeds = Some(seeds(&engine));
    // Held, the applier does nothing.
    let gate = Arc::new(Mutex::new(()));
    let (horizon, passing) = (options.horizon, gate.clone());
    options.horizon = Arc::new(move || {
        drop(passing.lock());
        horizon()
    });
    let mirror = Mirror::open(&folder.path().join("mirror"), engine.log().clone(), options).unwrap();
    check(&engine, &mirror, &table);
    let first = mirror.status().seeded;
    {
        let _held = gate.lock();
        for round in 0..6 {
            churn(&engine, &table, round);
        }
        let consumers = engine.log().consumers().list();
        assert!(
            consumers.iter().any(|consumer| consumer.dropped.is_some()),
            "{consumers:?}"
        );
    }
    check(&engine, &mirror, &table);
    let status = mirror.status();
    assert!(status.seeded > first && status.stopped.is_none(), "{status:?}");
    let why = status.rebuilt.map(|why| why.to_string());
    assert!(why.is_some_and(|why| why.contains("was dropped")));
    // It is a consumer again, and goes on.
    let consumers = engine.log().consumers().list();
    assert!(
        consumers.iter().all(|consumer| consumer.dropped.is_none()),
        "{consumers:?}"
    );
    churn(&engine, &table, 9);
    check(&engine, &mirror, &table);
    mirror.close();
    drop(mirror);
    let mirror = common::seeded(&folder.path().join("mirror"), &engine);
    assert!(mirror.status().rebuilt.is_none());
    check(&engine, &mirror, &table);
}

#[test]
fn a_damaged_piece_is_made_again_from_the_rows_when_the_log_is_gone() {
    a_damaged_piece_is_made_again(|_, _| {});
}

#[test]
fn history_does_not_keep_a_damaged_piece_from_being_made_again_from_the_rows() {
    a_damaged_piece_is_made_again(|engine, options| {
        let (kept_from, readers) = (engine.visible_lsn(), engine.clone());
        options.horizon = Arc::new(move || kept_from);
        options.readers = Some(Arc::new(move || readers.readers_horizon()));
    });
}

/// Under a log that does not reach back to its beginning.
fn a_damaged_piece_is_made_again(configure: impl FnOnce(&Arc<Engine>, &mut MirrorOptions)) {
    let folder = tempfile::tempdir().unwrap();
    let engine = frugal(folder.path(), 1 << 30);
    let table = filled(&engine, "t", "value", 200);
    let mut options = small(&engine);
    configure(&engine, &mut options);
    options.seeds = Some(seeds(&engine));
    // Every column is read from its file.
    options.cache_bytes = 0;
    options.piece_rows = 64;
    let path = folder.path().join("mirror");
    let mirror = Mirror::open(&path, engine.log().clone(), options.clone()).unwrap();
    churn(&engine, &table, 1);
    sealed(&mirror, engine.log().durable_lsn());
    churn(&engine, &table, 2);
    sealed(&mirror, engine.log().durable_lsn());
    assert!(engine.log().begin() > Lsn::ZERO);
    let checksum = || {
        let snapshot = mirror.newest_snapshot();
        snapshot.table(table.def.store).unwrap().checksum()
    };
    let (_, expected) = primary_checksum(&engine, &table);
    // A merge may just have put another in the place of a file.
    wait_until("damage", || {
        let files = segments(folder.path()).into_iter();
        let largest = files.max_by_key(|path| std::fs::metadata(path).map_or(0, |file| file.len()));
        largest.is_some_and(|path| std::fs::remove_file(path).is_ok()) && checksum().is_err()
    });
    wait_for_repair(&mirror, expected, checksum);
    assert_eq!(mirror.status().repaired, 1);
    churn(&engine, &table, 3);
    check(&engine, &mirror, &table);
    sealed(&mirror, engine.log().durable_lsn());
    drop(mirror);
    let mirror = Mirror::open(&path, engine.log().clone(), options).unwrap();
    assert!(mirror.status().rebuilt.is_none());
    check(&engine, &mirror, &table);
}

#[test]
fn the_mirror_of_another_database_is_not_taken_for_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mirror");
    for name in ["one", "other"] {
        let engine = spilling(&folder.path().join(name));
        let table = filled(&engine, "t", "value", if name == "one" { 10 } else { 3 });
        let mirror = common::seeded(&path, &engine);
        check(&engine, &mirror, &table);
        let rebuilt = mirror.status().rebuilt.map(|why| why.to_string());
        let told = rebuilt.is_some_and(|why| why.contains("another database"));
        assert_eq!(told, name == "other");
        mirror.close();
    }
}
