//! fjall with its defaults, which its documentation advises for general use: leveled compaction, LZ4, filters of 10 bits per key, memtables of
//! 64 MiB.
//!
//! Each commit is a batch with `PersistMode::SyncData`, its mode for transactions. Rows in the order of their keys go in by
//! `start_ingestion`, its documented way for bulk loads.

use crate::data::Key;
use crate::store::{Client, Outcome, Row, Settings, Store};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Idle for so long, its workers have nothing to do.
const IDLE: Duration = Duration::from_millis(500);

pub struct Fjall {
    db: Database,
    rows: Keyspace,
    durability: Option<PersistMode>,
}

impl Fjall {
    pub fn open(folder: &Path, settings: &Settings) -> Outcome<Fjall> {
        let db = Database::builder(folder)
            .cache_size(settings.cache_bytes as u64)
            .open()?;
        let rows = db.keyspace("rows", KeyspaceCreateOptions::default)?;
        let durability = (!settings.is_load).then_some(PersistMode::SyncData);
        Ok(Fjall { db, rows, durability })
    }

    fn write(&self, rows: &[Row]) -> Outcome<()> {
        let mut batch = self.db.batch().durability(self.durability);
        for (key, value) in rows {
            batch.insert(&self.rows, key.as_slice(), value.as_slice());
        }
        Ok(batch.commit()?)
    }
}

impl Store for Fjall {
    fn client(&self) -> Box<dyn Client + '_> {
        Box::new(self)
    }

    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Row>) -> Outcome<()> {
        let mut ingestion = self.rows.start_ingestion()?;
        for (key, value) in rows {
            ingestion.write(key.as_slice(), value)?;
        }
        Ok(ingestion.finish()?)
    }

    fn sync(&self) -> Outcome<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn settle(&self) -> Outcome<()> {
        self.rows.rotate_memtable_and_wait()?;
        let mut last = self.db.compactions_completed();
        let mut since = Instant::now();
        while since.elapsed() < IDLE {
            let now = self.db.compactions_completed();
            if now != last || self.db.active_compactions() > 0 || self.db.outstanding_flushes() > 0 {
                (last, since) = (now, Instant::now());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}

impl Client for &Fjall {
    fn insert(&mut self, rows: &[Row]) -> Outcome<()> {
        self.write(rows)
    }

    fn update(&mut self, rows: &[Row]) -> Outcome<()> {
        self.write(rows)
    }

    fn get(&mut self, key: &Key) -> Outcome<Option<usize>> {
        Ok(self.rows.get(key)?.map(|value| value.len()))
    }

    fn scan(&mut self, from: &Key, limit: usize) -> Outcome<(usize, usize)> {
        let (mut rows, mut bytes) = (0, 0);
        for row in self.rows.range(from.as_slice()..).take(limit) {
            rows += 1;
            bytes += row.into_inner()?.1.len();
        }
        Ok((rows, bytes))
    }
}
