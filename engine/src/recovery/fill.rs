//! Stores that a replayed commit fills from others: those of new indexes, and of tables under another key.
//!
//! Little is put into memory. What takes more than `Ground::bulk_bytes` goes into layers, as it would not have stayed in memory before the crash.

use super::layers::Layers;
use super::rows::each_newest;
use super::{Replay, corrupt};
use crate::catalog::Table;
use crate::catalog_change::CatalogChange;
use crate::error::Error;
use crate::index::{Index, entry};
use crate::key::Key;
use crate::runs::Stored;
use crate::store::entry::RowEntry;
use crate::store::{Growth, Store};
use scry_wal::{Lsn, Ordinal};
use std::sync::Arc;

/// Stores that are filled together.
pub(super) struct Filling<'s> {
    stores: Vec<Filled<'s>>,
    layers: Layers,
}

/// One that is filled.
struct Filled<'s> {
    store: &'s Store,
    /// Whether two rows may come under one key, were the log wrong.
    is_unique: bool,
    /// What two rows have the same of then.
    name: String,
    rows: u64,
}

impl<'s> Filling<'s> {
    /// Adds a row to the n-th store.
    pub(super) fn put(&mut self, number: usize, key: Key, row: Stored) -> Result<(), Error> {
        let filled = &mut self.stores[number];
        filled.rows += 1;
        self.layers.put(filled.store.home.space, key, row)
    }

    /// All rows were put.
    pub(super) fn end(mut self, lsn: Lsn) -> Result<(), Error> {
        let twice = |filled: &Filled<'_>| {
            let what = format!("two rows have the same key {}", filled.name);
            corrupt(lsn, Some(filled.store.id), what)
        };
        let Some(rows) = self.layers.take_waiting() else {
            self.layers.write()?;
            for filled in &self.stores {
                if filled.is_unique && self.layers.keys(filled.store.home.space)? != filled.rows {
                    return Err(twice(filled));
                }
                filled.store.set_below();
            }
            self.layers.publish();
            return Ok(());
        };
        for (space, key, Stored { lsn, ordinal, row }) in rows {
            let of_space = |filled: &&Filled<'_>| filled.store.home.space == space;
            let Some(filled) = self.stores.iter().find(of_space) else {
                continue;
            };
            let entry = Arc::new(RowEntry::committed(lsn, ordinal, row));
            let (entry, is_new) = filled.store.rows.get_or_insert_with(&key, || entry);
            if !is_new {
                return Err(twice(filled));
            }
            filled.store.changed(&key, &entry, 0);
        }
        Ok(())
    }
}

impl Replay {
    /// Begins to fill the store of a table that gets another primary key.
    pub(super) fn begin_filling<'s>(&self, store: &'s Store) -> Filling<'s> {
        self.filling(vec![Filled {
            store,
            is_unique: true,
            name: "as primary key".to_owned(),
            rows: 0,
        }])
    }

    fn filling<'s>(&self, stores: Vec<Filled<'s>>) -> Filling<'s> {
        let layers = Layers::new(&self.backing.runs, self.bulk_bytes);
        Filling { stores, layers }
    }

    /// Fills the indexes that a change of the commit at `lsn` has made, or whose table it has put under another key, from the rows as the commit
    /// leaves them.
    pub(super) fn fill_indexes(&self, lsn: Lsn, change: &CatalogChange) -> Result<(), Error> {
        let oid = match change {
            CatalogChange::Redefine(def) => def.oid,
            CatalogChange::AddPrimaryKey { oid, .. } => *oid,
            _ => return Ok(()),
        };
        // The transaction may have dropped the table after all.
        match self.catalog.by_oid(oid) {
            Some(table) => self.fill_indexes_of(lsn, table),
            None => Ok(()),
        }
    }

    fn fill_indexes_of(&self, lsn: Lsn, table: &Table) -> Result<(), Error> {
        let is_new = |index: &&Arc<Index>| index.def.valid && !index.is_ready();
        let new: Vec<&Arc<Index>> = table.indexes.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        let stores = new.iter().map(|index| Filled {
            store: index.store(),
            is_unique: index.def.unique,
            name: format!("in index \"{}\"", index.def.name),
            rows: 0,
        });
        let mut filling = self.filling(stores.collect());
        each_newest(&table.store, &mut |own, version| {
            new.iter().enumerate().try_for_each(|(number, index)| {
                let row = entry(own);
                index.store().counters.add_live(Growth::of(None, Some(&row)));
                let key = index.key(&table.layout, &version.row, own);
                let stored = Stored {
                    lsn: version.lsn,
                    ordinal: Ordinal::default(),
                    row: Some(row),
                };
                filling.put(number, key, stored)
            })
        })?;
        filling.end(lsn)?;
        table.complete_indexes();
        Ok(())
    }
}
