//! What the engine's tests share: a directory that is opened again and again, and a table of
//! (id int4, value int8).
#![allow(dead_code, clippy::unwrap_used)]

pub mod replica;

pub use scry_wal::block_on;

use replica::Replica;
use scry_engine::*;
use scry_wal::StoreId;
use scry_wal::sim::SimStorage;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::Future;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Polls once with a waker that does nothing.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls until there is an answer, or a lock to wait for: room in the log comes by itself.
pub fn poll_to_lock<F: Future + ?Sized>(engine: &Engine, mut future: Pin<&mut F>) -> Poll<F::Output> {
    let waits = engine.stats().lock_waits;
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let polled = poll_once(future.as_mut());
        if polled.is_ready() || engine.stats().lock_waits != waits {
            return polled;
        }
        assert!(
            Instant::now() < give_up,
            "it waits for no lock, and for nothing that comes"
        );
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Small segments: they are quickly made, and a few transactions cross from one to the next. Checkpoints are made all the time, and what
/// is in files leaves memory at once. A restart puts rows into memory few at a time.
pub fn options() -> EngineOptions {
    let mut options = EngineOptions {
        rows_bytes_max: 0,
        checkpoint_log_bytes: 1,
        replay_rows: 64,
        ..EngineOptions::default()
    };
    options.log.segment_bytes = 64 << 10;
    options.log.backend = scry_wal::Backend::Blocking;
    options
}

/// The same, with every few bytes of changes written ahead, or not.
pub fn options_that_spill(spills: bool) -> EngineOptions {
    let mut options = options();
    if spills {
        options.spill_bytes = 60;
        // What is logged leaves memory a few rows at a time.
        options.move_bytes = 900;
        options.load_rows = 2;
    }
    options
}

pub fn open(path: &Path) -> Arc<Engine> {
    Engine::open(path, options()).unwrap()
}

/// An engine in a directory of its own.
pub struct Home {
    pub directory: tempfile::TempDir,
    pub engine: Option<Arc<Engine>>,
    pub options: EngineOptions,
    /// The disk of the log; `None`: the directory's.
    pub disk: Option<Arc<SimStorage>>,
}

impl Home {
    pub fn new() -> Home {
        Home::with(options())
    }

    pub fn with(options: EngineOptions) -> Home {
        Home::made(options, None)
    }

    pub fn on_disk(options: EngineOptions, disk: Arc<SimStorage>) -> Home {
        Home::made(options, Some(disk))
    }

    fn made(options: EngineOptions, disk: Option<Arc<SimStorage>>) -> Home {
        let mut home = Home {
            directory: tempfile::tempdir().unwrap(),
            engine: None,
            options,
            disk,
        };
        home.open().unwrap();
        home
    }

    /// Opens the engine, which is not open.
    pub fn open(&mut self) -> Result<(), Error> {
        assert!(self.engine.is_none());
        let (path, options) = (self.directory.path(), self.options.clone());
        self.engine = Some(match &self.disk {
            None => Engine::open(path, options)?,
            Some(disk) => {
                let disk: Arc<SimStorage> = Arc::clone(disk);
                Engine::open_on(path, disk, options)?
            }
        });
        Ok(())
    }

    pub fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().unwrap()
    }

    pub fn session(&self) -> EngineSession {
        self.engine().session(SessionInfo::default())
    }

    /// Writes everything into files and takes out of memory what is not in use.
    pub fn checkpoint(&self) {
        self.engine().checkpoint().unwrap();
        self.engine().make_room();
    }

    /// As `restart`, without a checkpoint at the end.
    pub fn restart_at_once(&mut self) {
        let engine = self.engine.take().unwrap();
        assert_eq!(Arc::strong_count(&engine), 1, "no session outlives the restart");
        drop(engine);
        self.open().unwrap();
    }

    /// Closes the engine and opens it again from its files.
    pub fn restart(&mut self) {
        let engine = self.engine.take().unwrap();
        engine.close().unwrap();
        assert_eq!(Arc::strong_count(&engine), 1, "no session outlives the restart");
        drop(engine);
        self.open().unwrap();
    }

    /// The power goes, and comes back: the engine is not open yet.
    pub fn crash(&mut self, seed: u64) {
        self.disk = self.disk.as_ref().map(|disk| disk.after_crash(seed));
        let engine = self.engine.take();
        assert!(
            engine.is_none_or(|engine| Arc::strong_count(&engine) == 1),
            "no session outlives the crash"
        );
    }

    /// Waits until the collector has passed over all that is committed and out of sight.
    pub fn wait_collected(&self) {
        let engine = self.engine();
        // It forgets a dropped table first and goes on from there: whoever sees the second one go, saw a whole pass.
        for name in ["first", "second"] {
            let table = self.create(name, true);
            let mut txn = self.session().begin(Isolation::ReadCommitted);
            block_on(txn.drop_table(&table)).unwrap();
            let dropped = txn.commit("DROP TABLE").unwrap().unwrap();
            engine.log().wait_durable(dropped).unwrap();
            let left = Arc::downgrade(&table);
            drop(table);
            wait_until("the collector", || left.strong_count() == 0);
        }
    }

    pub fn table(&self, name: &str) -> Arc<Table> {
        Arc::clone(self.engine().catalog().table(name).unwrap())
    }

    /// Creates and commits a table (id int4, value int8), with or without primary key.
    pub fn create(&self, name: &str, keyed: bool) -> Arc<Table> {
        self.create_as(new_table(name, keyed))
    }

    pub fn create_as(&self, new: NewTable) -> Arc<Table> {
        let name = new.name.clone();
        let mut txn = self.session().begin(Isolation::ReadCommitted);
        block_on(txn.create_table(new)).unwrap();
        txn.commit("CREATE TABLE").unwrap().unwrap();
        self.table(&name)
    }

    /// Checks that each index shows the rows of its table, and no other, in its order.
    pub fn check_indexes(&self, table: &Table) {
        for (number, index) in table.indexes.iter().enumerate() {
            let mut expected = self.rows(table);
            expected.sort_by_key(|(id, value)| match index.def.columns[0] {
                0 => (i64::from(*id), *value),
                _ => (*value, i64::from(*id)),
            });
            let mut txn = self.session().begin(Isolation::ReadCommitted);
            assert_eq!(
                rows_by_index(&mut txn, table, number),
                expected,
                "{}",
                index.def.name
            );
        }
    }

    /// Commits one insert.
    pub fn put(&self, table: &Table, id: i32, value: i64) {
        let mut txn = self.session().begin(Isolation::ReadCommitted);
        insert(&mut txn, table, id, value);
        txn.commit("INSERT").unwrap().unwrap();
    }

    /// Checks that a copy made from the log alone has the same rows under the same ordinals as the engine, and nothing that
    /// belongs neither to a table nor to an open candidate.
    pub fn check_replica(&self, table: &Table) {
        let engine = self.engine();
        engine.log().wait_durable(engine.visible_lsn()).unwrap();
        let replica = Replica::read(engine.log());
        assert_eq!(replica.commits.last(), Some(&engine.visible_lsn()));
        let catalog = engine.catalog();
        let candidates = catalog
            .elections()
            .iter()
            .flat_map(|election| election.candidates());
        let branches = candidates
            .inspect(|candidate| {
                assert!(candidate.state == CandidateState::Open || candidate.branches().count() == 0)
            })
            .flat_map(|candidate| candidate.branches().map(|branch| branch.store()));
        let tables = catalog.tables().map(|table| table.def.store);
        let stores: BTreeSet<StoreId> = tables.chain(branches).collect();
        assert!(replica.stores.keys().eq(&stores), "{stores:?}");
        let mut ours = BTreeMap::new();
        self.session()
            .begin(Isolation::ReadCommitted)
            .scan(table, &KeyRange::all(), &mut |_, version| {
                ours.insert(version.ordinal.unwrap().get(), version.row.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        let theirs = replica
            .live(table.def.store)
            .into_iter()
            .map(|(ordinal, row)| (ordinal, row.to_vec()));
        assert_eq!(ours, theirs.collect());
        assert_eq!(table.live_rows(), ours.len() as u64);
    }

    /// What a new transaction sees.
    pub fn rows(&self, table: &Table) -> Vec<(i32, i64)> {
        rows(&mut self.session().begin(Isolation::ReadCommitted), table)
    }
}

/// Waits for a condition; there is a deadline.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn new_table(name: &str, keyed: bool) -> NewTable {
    let column = |name: &str, ty| ColumnDef::new(name, ty);
    NewTable {
        name: name.to_owned(),
        columns: vec![column("id", DataType::Int4), column("value", DataType::Int8)],
        primary_key: keyed.then(|| primary_key(name)),
        ..NewTable::default()
    }
}

pub fn primary_key(table: &str) -> PrimaryKey {
    PrimaryKey {
        name: format!("{table}_pkey"),
        columns: vec![0],
    }
}

/// An index on the value.
pub fn index(name: &str, unique: bool) -> NewIndex {
    NewIndex {
        name: name.to_owned(),
        columns: vec![1],
        unique,
        constraint: false,
    }
}

/// The rows that an index shows, in its order.
pub fn rows_by_index(txn: &mut Txn, table: &Table, index: usize) -> Vec<(i32, i64)> {
    let mut cursor = txn.begin_index_scan(table, index, KeyRange::all()).unwrap();
    let entries = cursor.next_batch(usize::MAX).unwrap();
    let row = |(key, entry): (Key, Version)| {
        let row = txn.get_indexed(table, index, &key, &entry.row).unwrap();
        Some(decode(table, &row?.row))
    };
    entries.into_iter().filter_map(row).collect()
}

pub fn key(id: i32) -> Key {
    Key::encode([Datum::Int4(id)])
}

pub fn row(table: &Table, id: i32, value: i64) -> Vec<u8> {
    table
        .layout
        .encode(&[Value::Int4(id), Value::Int8(value)])
        .unwrap()
}

pub fn decode(table: &Table, row: &[u8]) -> (i32, i64) {
    let row = table.layout.row(row);
    match (row.get(0), row.get(1)) {
        (Datum::Int4(id), Datum::Int8(value)) => (id, value),
        other => panic!("{other:?}"),
    }
}

pub fn try_insert(txn: &mut Txn, table: &Table, id: i32, value: i64) -> Result<InsertOutcome, Error> {
    let key = table.def.primary_key.is_some().then(|| key(id));
    block_on(txn.insert(table, key, row(table, id, value)))
}

pub fn insert(txn: &mut Txn, table: &Table, id: i32, value: i64) {
    let outcome = try_insert(txn, table, id, value).unwrap();
    assert!(matches!(outcome, InsertOutcome::Inserted(_)), "{outcome:?}");
}

/// Locks a row and gives it a value; false when there is none.
pub fn set(txn: &mut Txn, table: &Table, id: i32, value: i64) -> bool {
    let found = block_on(txn.lock(table, &key(id))).unwrap();
    if found.is_some() {
        block_on(txn.update(table, &key(id), row(table, id, value))).unwrap();
    }
    found.is_some()
}

/// Locks and deletes a row; false when there is none.
pub fn delete(txn: &mut Txn, table: &Table, id: i32) -> bool {
    let found = block_on(txn.lock(table, &key(id))).unwrap();
    if found.is_some() {
        block_on(txn.delete(table, &key(id))).unwrap();
    }
    found.is_some()
}

pub fn get(txn: &mut Txn, table: &Table, id: i32) -> Option<i64> {
    txn.get(table, &key(id))
        .unwrap()
        .map(|version| decode(table, &version.row).1)
}

pub fn rows(txn: &mut Txn, table: &Table) -> Vec<(i32, i64)> {
    let mut rows = Vec::new();
    txn.scan(table, &KeyRange::all(), &mut |_, version| {
        rows.push(decode(table, &version.row));
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

/// Makes a pipe: opening it waits for somebody at the other end.
pub fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Lets those go on who wait to open a pipe, and those who come while this is held.
pub fn open_pipe(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}
