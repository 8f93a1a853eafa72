//! redb with its defaults and the cache's size. It has one writer at a time, and no groups of commits.
//!
//! Each commit is one of `Durability::Immediate`, its default. A load uses `Durability::None` and one durable commit at the end, as its
//! documentation says; rows in the order of their keys go in in one transaction.

use crate::data::Key;
use crate::store::{Client, Outcome, Row, Settings, Store};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::path::Path;

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

pub struct Redb {
    db: Database,
    durability: Durability,
}

impl Redb {
    pub fn open(folder: &Path, settings: &Settings) -> Outcome<Redb> {
        std::fs::create_dir_all(folder)?;
        let db = Database::builder()
            .set_cache_size(settings.cache_bytes)
            .create(folder.join("redb"))?;
        let durability = match settings.is_load {
            true => Durability::None,
            false => Durability::Immediate,
        };
        let store = Redb { db, durability };
        // Readers need the table to be there.
        store.write(std::iter::empty(), Durability::Immediate)?;
        Ok(store)
    }

    fn write<'r>(
        &self,
        rows: impl Iterator<Item = (&'r [u8], &'r [u8])>,
        durability: Durability,
    ) -> Outcome<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(durability)?;
        let mut table = txn.open_table(ROWS)?;
        for (key, value) in rows {
            table.insert(key, value)?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn write_rows(&self, rows: &[Row]) -> Outcome<()> {
        let rows = rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        self.write(rows, self.durability)
    }
}

impl Store for Redb {
    fn client(&self) -> Box<dyn Client + '_> {
        Box::new(self)
    }

    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Row>) -> Outcome<()> {
        let txn = self.db.begin_write()?;
        let mut table = txn.open_table(ROWS)?;
        for (key, value) in rows {
            table.insert(key.as_slice(), value.as_slice())?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn sync(&self) -> Outcome<()> {
        self.write(std::iter::empty(), Durability::Immediate)
    }

    fn settle(&self) -> Outcome<()> {
        self.sync()
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(())
    }
}

impl Client for &Redb {
    fn insert(&mut self, rows: &[Row]) -> Outcome<()> {
        self.write_rows(rows)
    }

    fn update(&mut self, rows: &[Row]) -> Outcome<()> {
        self.write_rows(rows)
    }

    fn get(&mut self, key: &Key) -> Outcome<Option<usize>> {
        let table = self.db.begin_read()?.open_table(ROWS)?;
        Ok(table.get(key.as_slice())?.map(|value| value.value().len()))
    }

    fn scan(&mut self, from: &Key, limit: usize) -> Outcome<(usize, usize)> {
        let table = self.db.begin_read()?.open_table(ROWS)?;
        let (mut rows, mut bytes) = (0, 0);
        for row in table.range::<&[u8]>(from.as_slice()..)?.take(limit) {
            rows += 1;
            bytes += row?.1.value().len();
        }
        Ok((rows, bytes))
    }
}
