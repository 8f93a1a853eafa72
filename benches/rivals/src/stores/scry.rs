//! scry's engine, embedded: a table with a bytea key and a bytea value, read and written by transactions as its sessions have them, without
//! SQL.
//!
//! Configured as the others are: the block cache gets the cache's bytes, and what the others have as write buffers are its rows in
//! memory. The audit trail keeps everything, as its default is: each commit is in it with the rows before and after. So
//! it takes more of the disk than a log that is only there for a restart.

use crate::data::Key;
use crate::store::{Client, Outcome, Row, Settings, Store};
use scry_engine::{
    ColumnDef, DataType, Datum, Engine, EngineOptions, EngineSession, InsertOutcome, Isolation, KeyRange,
    NewTable, PrimaryKey, SessionInfo, Table,
};
use scry_wal::{Lsn, block_on};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

const TABLE: &str = "rows";

/// As large as two write buffers of RocksDB and fjall.
const ROWS_BYTES: u64 = 128 << 20;
const CHECKPOINT_DIRTY_BYTES: u64 = 64 << 20;

/// Idle for so long, the compaction has nothing to do.
const IDLE: Duration = Duration::from_millis(500);

pub struct Scry {
    engine: Arc<Engine>,
    table: Arc<Table>,
    begun_at: Lsn,
    is_load: bool,
}

impl Scry {
    pub fn open(folder: &Path, settings: &Settings) -> Outcome<Scry> {
        let mut options = EngineOptions {
            rows_bytes_max: ROWS_BYTES,
            checkpoint_dirty_bytes: CHECKPOINT_DIRTY_BYTES,
            ..EngineOptions::default()
        };
        options.runs.cache_bytes = settings.cache_bytes;
        let engine = Engine::open(folder, options)?;
        if engine.catalog().table(TABLE).is_none() {
            let column = |name: &str| ColumnDef {
                not_null: true,
                ..ColumnDef::new(name, DataType::Bytea)
            };
            let primary_key = PrimaryKey {
                name: "rows_pkey".into(),
                columns: vec![0],
            };
            let mut session = engine.session(SessionInfo::default());
            let mut txn = session.begin(Isolation::ReadCommitted);
            block_on(txn.create_table(NewTable {
                name: TABLE.into(),
                columns: vec![column("key"), column("value")],
                primary_key: Some(primary_key),
                ..NewTable::default()
            }))?;
            txn.commit("CREATE TABLE")?;
        }
        let table = Arc::clone(engine.catalog().table(TABLE).ok_or("the table is gone")?);
        let begun_at = engine.visible_lsn();
        Ok(Scry {
            engine,
            table,
            begun_at,
            is_load: settings.is_load,
        })
    }

    fn new_client(&self) -> ScryClient<'_> {
        ScryClient {
            store: self,
            session: self.engine.session(SessionInfo::default()),
        }
    }
}

impl Store for Scry {
    fn client(&self) -> Box<dyn Client + '_> {
        Box::new(self.new_client())
    }

    /// One transaction, as COPY is; it is written ahead in the log.
    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Row>) -> Outcome<()> {
        let mut client = self.new_client();
        let mut txn = client.session.begin(Isolation::ReadCommitted);
        txn.statement();
        for (key, value) in rows {
            let row = client.row(&key, &value)?;
            block_on(txn.insert(&self.table, Some(encoded(&key)), row))?;
        }
        let lsn = txn.commit("COPY")?;
        Ok(self.engine.log().wait_durable(lsn.ok_or("nothing was loaded")?)?)
    }

    fn sync(&self) -> Outcome<()> {
        Ok(self.engine.log().wait_durable(self.engine.visible_lsn())?)
    }

    fn settle(&self) -> Outcome<()> {
        self.engine.checkpoint()?;
        let mut last = (0, 0);
        let mut since = Instant::now();
        loop {
            let stats = self.engine.runs_stats();
            let now = (stats.compactions, stats.compaction_written_bytes);
            if now != last || stats.pending_bytes > 0 {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > IDLE {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.engine.close()?)
    }

    fn log_bytes(&self) -> Option<u64> {
        Some(self.engine.visible_lsn().get() - self.begun_at.get())
    }
}

fn encoded(key: &Key) -> scry_engine::Key {
    scry_engine::Key::encode([Datum::Bytea(key)])
}

struct ScryClient<'s> {
    store: &'s Scry,
    session: EngineSession,
}

impl ScryClient<'_> {
    fn row(&self, key: &Key, value: &[u8]) -> Outcome<Vec<u8>> {
        let layout = &self.store.table.layout;
        Ok(layout.encode_datums(&[Datum::Bytea(key), Datum::Bytea(value)])?)
    }

    /// What a session does before a statement that writes.
    fn wait_for_admission(&self) -> Outcome<()> {
        let delay = self.store.engine.admission_delay();
        if !delay.is_zero() {
            sleep(delay);
        }
        Ok(self.store.engine.log().wait_room()?)
    }

    fn commit(&self, txn: scry_engine::Txn, tag: &str) -> Outcome<()> {
        let lsn = txn.commit(tag)?.ok_or("nothing was written")?;
        if !self.store.is_load {
            self.store.engine.log().wait_durable(lsn)?;
        }
        Ok(())
    }
}

impl Client for ScryClient<'_> {
    fn insert(&mut self, rows: &[Row]) -> Outcome<()> {
        self.wait_for_admission()?;
        let table = &self.store.table;
        let mut txn = self.session.begin(Isolation::ReadCommitted);
        txn.statement();
        for (key, value) in rows {
            let row = self.row(key, value)?;
            match block_on(txn.insert(table, Some(encoded(key)), row))? {
                InsertOutcome::Inserted(_) => {}
                outcome => return Err(format!("a new row was not inserted: {outcome:?}").into()),
            }
        }
        self.commit(txn, "INSERT")
    }

    fn update(&mut self, rows: &[Row]) -> Outcome<()> {
        self.wait_for_admission()?;
        let table = &self.store.table;
        let mut txn = self.session.begin(Isolation::ReadCommitted);
        txn.statement();
        for (key, value) in rows {
            let (row, key) = (self.row(key, value)?, encoded(key));
            block_on(txn.lock(table, key.as_ref()))?.ok_or("a row is not there")?;
            block_on(txn.update(table, key.as_ref(), row))?;
        }
        self.commit(txn, "UPDATE")
    }

    fn get(&mut self, key: &Key) -> Outcome<Option<usize>> {
        let table = &self.store.table;
        let mut txn = self.session.begin(Isolation::ReadCommitted);
        txn.statement();
        let found = txn.get(table, encoded(key).as_ref())?;
        self.store.engine.log().wait_durable(txn.depends_on())?;
        Ok(found.map(|version| value_bytes(table, &version.row)))
    }

    fn scan(&mut self, from: &Key, limit: usize) -> Outcome<(usize, usize)> {
        let table = &self.store.table;
        let mut txn = self.session.begin(Isolation::ReadCommitted);
        txn.statement();
        let range = KeyRange {
            lower: Bound::Included(encoded(from)),
            upper: Bound::Unbounded,
        };
        let (mut rows, mut bytes) = (0, 0);
        txn.scan(table, &range, &mut |_, version| {
            rows += 1;
            bytes += value_bytes(table, &version.row);
            match rows < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        self.store.engine.log().wait_durable(txn.depends_on())?;
        Ok((rows, bytes))
    }
}

fn value_bytes(table: &Table, row: &[u8]) -> usize {
    match table.layout.row(row).get(1) {
        Datum::Bytea(value) => value.len(),
        _ => 0,
    }
}
