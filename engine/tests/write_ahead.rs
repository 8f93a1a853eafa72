//! One transaction that writes ahead: savepoints, definitions and a full disk in between, against a model that is a map.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use scry_engine::*;
use scry_wal::sim::SimStorage;
use scry_wal::storage::Storage;
use scry_wal::{Lsn, Record, TentativeId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

type State = BTreeMap<i32, i64>;

const SEGMENT: u64 = 64 << 10;

/// Changes are written ahead in pieces of about this size: some of them are longer than what is left of a segment.
fn eager(spill_bytes: usize) -> EngineOptions {
    let mut options = options();
    options.log.backend = scry_wal::Backend::Auto;
    options.log.segment_bytes = SEGMENT;
    options.spill_bytes = spill_bytes;
    // What is in the log leaves memory, ten rows at a time or so.
    options.move_bytes = 4000;
    options.load_rows = 4;
    options
}

fn table_of(txn: &Txn) -> Arc<Table> {
    Arc::clone(txn.catalog().table("t").unwrap())
}

fn begin(engine: &Arc<Engine>) -> Txn {
    let mut txn = engine
        .session(SessionInfo::default())
        .begin(Isolation::ReadCommitted);
    txn.statement();
    txn
}

fn state(txn: &mut Txn) -> State {
    let table = table_of(txn);
    rows(txn, &table).into_iter().collect()
}

#[test]
fn rows_of_a_table_truncated_and_brought_back_by_a_savepoint_are_committed() {
    let mut home = Home::with(eager(400));
    let table = home.create("t", true);
    for id in [1, 2, 3] {
        home.put(&table, id, 0);
    }
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    assert!(set(&mut txn, &table, 1, 11));
    assert!(delete(&mut txn, &table, 2));
    insert(&mut txn, &table, 4, 44);
    let savepoint = txn.savepoint().unwrap();
    let fresh = block_on(txn.truncate(&table)).unwrap();
    for id in 100..140 {
        insert(&mut txn, &fresh, id, 0);
    }
    block_on(txn.rollback_to(savepoint)).unwrap();
    let expected = [(1, 11), (3, 0), (4, 44)];
    assert_eq!(rows(&mut txn, &table), expected);
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), expected);
    home.check_replica(&table);
    drop(table);
    home.restart();
    assert_eq!(home.rows(&home.table("t")), expected);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(i32, i64),
    Set(i32, i64),
    Delete(i32),
    /// Many rows at once.
    Load(i32),
    Truncate,
    DropAndCreate,
    Savepoint,
    RollbackTo(usize),
    Release(usize),
    Commit,
    Rollback,
    /// The disk takes no further segment, or does again.
    Full(bool),
    Checkpoint,
    Restart,
}

impl Step {
    /// Whether it is nothing that a transaction would do which is half rolled back.
    fn is_for_all(&self) -> bool {
        use Step::{Checkpoint, Full, Restart, Rollback, RollbackTo};
        matches!(self, RollbackTo(_) | Rollback | Full(_) | Checkpoint | Restart)
    }
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6i32;
    prop_oneof![
        6 => (key.clone(), 0..100i64).prop_map(|(key, value)| Step::Insert(key, value)),
        6 => (key.clone(), 0..100i64).prop_map(|(key, value)| Step::Set(key, value)),
        4 => key.prop_map(Step::Delete),
        6 => (1..500i32).prop_map(Step::Load),
        4 => Just(Step::Truncate),
        1 => Just(Step::DropAndCreate),
        6 => Just(Step::Savepoint),
        6 => (0..2usize).prop_map(Step::RollbackTo),
        1 => (0..2usize).prop_map(Step::Release),
        4 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => Just(Step::Full(true)),
        2 => Just(Step::Full(false)),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
    ]
}

struct World {
    directory: tempfile::TempDir,
    disk: Arc<SimStorage>,
    options: EngineOptions,
    /// Taken only by a restart.
    engine: Option<Arc<Engine>>,
    committed: State,
    open: Option<Open>,
    is_full: bool,
}

struct Open {
    txn: Txn,
    now: State,
    savepoints: Vec<(SavepointId, State)>,
    /// A rollback to a savepoint was refused half done: only another one may follow, or the end.
    is_failed: bool,
}

fn open_on(path: &Path, disk: &Arc<SimStorage>, options: &EngineOptions) -> Arc<Engine> {
    let storage: Arc<dyn Storage> = Arc::<SimStorage>::clone(disk);
    Engine::open_on(path, storage, options.clone()).unwrap()
}

impl Open {
    /// Rolls back to the n-th savepoint, if there is one; for rows that moved the log may have no room.
    fn rollback_to(&mut self, which: usize) {
        let Some((id, saved)) = self.savepoints.get(which).cloned() else {
            return;
        };
        self.savepoints.truncate(which + 1);
        self.is_failed = match block_on(self.txn.rollback_to(id)) {
            Ok(()) => false,
            Err(Error::Log(scry_wal::Error::DiskFull { .. })) => true,
            Err(error) => panic!("{error}"),
        };
        self.now = saved;
    }

    fn change(&mut self, step: &Step) -> Result<(), Error> {
        let (txn, now) = (&mut self.txn, &mut self.now);
        txn.statement();
        let table = table_of(txn);
        match *step {
            Step::Insert(id, value) => {
                let outcome = try_insert(txn, &table, id, value)?;
                assert_eq!(matches!(outcome, InsertOutcome::Exists(_)), now.contains_key(&id));
                now.entry(id).or_insert(value);
            }
            Step::Set(id, value) => {
                let found = block_on(txn.lock(&table, &key(id)))?;
                assert_eq!(found.is_some(), now.contains_key(&id));
                if found.is_some() {
                    block_on(txn.update(&table, &key(id), row(&table, id, value)))?;
                    now.insert(id, value);
                }
            }
            Step::Delete(id) => {
                let found = block_on(txn.lock(&table, &key(id)))?;
                assert_eq!(found.is_some(), now.remove(&id).is_some());
                if found.is_some() {
                    block_on(txn.delete(&table, &key(id)))?;
                }
            }
            Step::Load(count) => {
                for id in 1000..1000 + count {
                    match try_insert(txn, &table, id, 7)? {
                        InsertOutcome::Inserted(_) => drop(now.insert(id, 7)),
                        InsertOutcome::Exists(_) => assert!(now.contains_key(&id)),
                        InsertOutcome::Taken { .. } => unreachable!("there are no indexes"),
                    }
                }
            }
            Step::Truncate => {
                block_on(txn.truncate(&table))?;
                now.clear();
            }
            Step::DropAndCreate => {
                block_on(txn.drop_table(&table))?;
                block_on(txn.create_table(new_table("t", true)))?;
                now.clear();
            }
            _ => unreachable!("no change"),
        }
        Ok(())
    }
}

impl World {
    fn new(seed: u64, spill_bytes: usize) -> World {
        let directory = tempfile::tempdir().unwrap();
        let disk = SimStorage::new(seed, false);
        let options = eager(spill_bytes);
        let engine = open_on(directory.path(), &disk, &options);
        let mut txn = begin(&engine);
        block_on(txn.create_table(new_table("t", true))).unwrap();
        txn.commit("").unwrap().unwrap();
        World {
            directory,
            disk,
            options,
            engine: Some(engine),
            committed: State::new(),
            open: None,
            is_full: false,
        }
    }

    fn open(&mut self) -> &mut Open {
        let (engine, committed) = (self.engine.as_ref().unwrap(), &self.committed);
        self.open.get_or_insert_with(|| Open {
            txn: begin(engine),
            now: committed.clone(),
            savepoints: Vec::new(),
            is_failed: false,
        })
    }

    /// A statement failed: as a session does, back to the innermost savepoint, or to nothing.
    fn failed(&mut self, error: &Error) {
        let full = matches!(error, Error::Log(scry_wal::Error::DiskFull { .. }));
        assert!(full, "{error}");
        let Some(mut open) = self.open.take() else { return };
        if let Some(last) = open.savepoints.len().checked_sub(1) {
            open.rollback_to(last);
            self.open = Some(open);
        }
    }

    fn restart(&mut self) {
        self.open = None;
        self.is_full = false;
        self.disk.set_free_bytes(u64::MAX);
        let engine = self.engine.take().unwrap();
        engine.close().unwrap();
        drop(engine);
        self.engine = Some(open_on(self.directory.path(), &self.disk, &self.options));
    }

    fn run(&mut self, step: &Step) {
        let is_failed = self.open.as_ref().is_some_and(|open| open.is_failed);
        match step {
            Step::Commit if is_failed => self.open = None,
            step if is_failed && !step.is_for_all() => {}
            Step::Savepoint => {
                let open = self.open();
                let id = open.txn.savepoint().unwrap();
                let now = open.now.clone();
                open.savepoints.push((id, now));
            }
            Step::RollbackTo(which) => self.open().rollback_to(*which),
            Step::Release(which) => {
                let open = self.open();
                if let Some((id, _)) = open.savepoints.get(*which) {
                    open.txn.release(*id).unwrap();
                    open.savepoints.truncate(*which);
                }
            }
            Step::Commit => {
                if let Some(open) = self.open.take() {
                    match open.txn.commit("") {
                        Ok(_) => self.committed = open.now,
                        Err(error) => self.failed(&error),
                    }
                }
            }
            Step::Rollback => self.open = None,
            Step::Full(full) => {
                self.is_full = *full;
                self.disk.set_free_bytes(if *full { 0 } else { u64::MAX });
            }
            Step::Checkpoint => {
                let engine = self.engine.as_ref().unwrap();
                // A full log cannot say that what was committed is durable.
                if !self.is_full {
                    engine.checkpoint().unwrap();
                }
                engine.make_room();
            }
            Step::Restart => self.restart(),
            change => {
                if let Err(error) = self.open().change(change) {
                    self.failed(&error);
                }
            }
        }
        if let Some(open) = self.open.as_mut().filter(|open| !open.is_failed) {
            assert_eq!(state(&mut open.txn), open.now, "after {step:?}");
        }
        assert_eq!(self.seen_by_others(), self.committed, "after {step:?}");
    }

    fn seen_by_others(&self) -> State {
        state(&mut begin(self.engine.as_ref().unwrap()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn whatever_is_undone_or_refused_in_between_the_commit_is_what_the_transaction_saw(
        seed in any::<u64>(),
        spill_bytes in prop_oneof![Just(300usize), Just(20_000usize)],
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(seed, spill_bytes);
        for step in &steps {
            world.run(step);
        }
        world.restart();
        prop_assert_eq!(&world.seen_by_others(), &world.committed);
        // What the log alone says is the same.
        let World { directory, engine, options, disk, .. } = world;
        let home = Home { directory, engine, options, disk: Some(disk) };
        home.check_replica(&home.table("t"));
    }
}

/// Tentative identities that the log has begun and not ended.
fn open_identities(engine: &Engine) -> BTreeSet<TentativeId> {
    let mut open = BTreeSet::new();
    let mut tail = engine.log().tail(Lsn::ZERO);
    while let Some(frame) = tail.next(Duration::ZERO).unwrap() {
        for record in frame.records() {
            match record.unwrap().1 {
                Record::Tentative { id, .. } => drop(open.insert(id)),
                Record::TentativeDrop(id) => assert!(open.remove(&id)),
                Record::Commit(commit) => assert!(commit.adopts.is_none_or(|id| open.remove(&id))),
                _ => {}
            }
        }
    }
    open
}

/// Fills the log to its last write unit: commits look for no room beyond their own.
fn fill(engine: &Arc<Engine>, committed: &mut i32) {
    loop {
        let mut txn = begin(engine);
        let table = table_of(&txn);
        insert(&mut txn, &table, 10_000 + *committed, 0);
        match txn.commit("") {
            Ok(lsn) => engine.log().wait_durable(lsn.unwrap()).unwrap(),
            Err(Error::Log(scry_wal::Error::DiskFull { .. })) => return,
            Err(error) => panic!("{error}"),
        }
        *committed += 1;
    }
}

#[test]
fn what_a_full_disk_kept_from_being_ended_is_ended_when_there_is_room() {
    let mut world = World::new(1, 300);
    let engine = Arc::clone(world.engine.as_ref().unwrap());
    let mut committed = 0;
    let mut load = begin(&engine);
    let table = table_of(&load);
    for id in 0..30 {
        insert(&mut load, &table, id, 0);
    }
    let id = TentativeId::new(load.id().unwrap().get());
    world.disk.set_free_bytes(0);
    fill(&engine, &mut committed);
    load.rollback();
    assert_eq!(open_identities(&engine), BTreeSet::from([id]));
    world.disk.set_free_bytes(u64::MAX);
    wait_until("the drop record", || open_identities(&engine).is_empty());
    drop((engine, table));
    world.restart();
    assert_eq!(world.seen_by_others().len(), committed as usize);
}

#[test]
fn an_unfinished_load_on_a_full_disk_does_not_keep_the_engine_from_opening() {
    let world = World::new(1, 300);
    let engine = world.engine.unwrap();
    let mut committed = 0;
    let mut load = begin(&engine);
    let table = table_of(&load);
    for id in 0..30 {
        insert(&mut load, &table, id, 0);
    }
    world.disk.set_free_bytes(0);
    fill(&engine, &mut committed);
    let disk = world.disk.after_crash(1);
    drop((load, engine, table));
    disk.set_free_bytes(0);
    let engine = open_on(world.directory.path(), &disk, &world.options);
    assert_eq!(state(&mut begin(&engine)).len(), committed as usize);
    assert_eq!(open_identities(&engine).len(), 1);
    disk.set_free_bytes(u64::MAX);
    wait_until("the drop record", || open_identities(&engine).is_empty());
}

#[test]
fn small_segments_take_large_transactions_and_refuse_rows_that_never_fit_before_the_commit() {
    let mut options = eager(usize::MAX);
    options.log.segment_bytes = 16 << 10;
    let mut home = Home::with(options);
    let table = home.create("t", true);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    for id in 0..5_000 {
        insert(&mut txn, &table, id, 1);
    }
    txn.commit("").unwrap().unwrap();
    let column = ColumnDef::new("b", DataType::Bytea);
    let new = NewTable {
        name: "wide".into(),
        columns: vec![column],
        primary_key: None,
        ..NewTable::default()
    };
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let wide = block_on(txn.create_table(new)).unwrap();
    let bytes = |length| wide.layout.encode(&[Value::Bytea(vec![7; length])]).unwrap();
    let refused = block_on(txn.insert(&wide, None, bytes(6_000)));
    let Err(Error::RowTooLarge { limit, .. }) = refused else {
        panic!("{refused:?}")
    };
    let key = match block_on(txn.insert(&wide, None, bytes(limit - 7))).unwrap() {
        InsertOutcome::Inserted(key) => key,
        exists => panic!("{exists:?}"),
    };
    txn.commit("").unwrap().unwrap();
    // The largest row, replaced by one as large: the longest record there is.
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.lock(&wide, &key)).unwrap().unwrap();
    let mut other = bytes(limit - 7);
    other[100..].fill(8);
    block_on(txn.update(&wide, &key, other)).unwrap();
    txn.commit("").unwrap().unwrap();
    drop((table, wide));
    home.restart();
    assert_eq!(home.rows(&home.table("t")).len(), 5_000);
    assert_eq!(home.table("wide").live_rows(), 1);
}
