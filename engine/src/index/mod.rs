//! Secondary and unique indexes: stores that are derived from the rows of their table.
//!
//! A row of an index has the indexed columns as its key and the row's own key as its content. Whoever changes a row changes the
//! rows of its indexes in the same transaction, through the same overlay, under the same kind of locks, and one stamp commits
//! all of them. So snapshots, own writes, savepoints and rollbacks are for an index what they are for a table, and an insert of
//! a key into a unique index waits for whoever inserts or deletes it.
//!
//! An index is in the runs as a table is, in a space of its own, and leaves memory as a table's rows do. It is not in the log: a
//! restart derives what its rows have become since the checkpoint from the log's changes of the table's rows (`recovery::entries`). It
//! takes none of the table's ordinals, and nobody mirrors it.
//!
//! | part of the key | bytes |
//! |---|---|
//! | each column | 1 and the value as in a primary key; or 2: NULL, behind all values |
//! | the row's key | as it is; in a unique index only where a column is NULL, so that NULLs are distinct |
//!
//! Invariants:
//! - at every snapshot that shows a definition with the index, the index has one row for each row of the table, and no other,
//!   but for what [`Txn::get_indexed`](crate::Txn::get_indexed) tells;
//! - a row of an index is locked or written by the owner of its table's row alone, or by who inserts the same key into a unique
//!   one;
//! - an index that is not *ready* is maintained and not read: older snapshots would not find in it what they see;
//! - one that is being filled beside its table's writers (`online`) may lack rows, and one whose filling was given up gets none any more;
//!   neither is *valid* by its definition. A restart gives up what was being filled.
//!
//! Inside of a candidate there are none: a candidate reads by primary key, and its rows meet the indexes when it is elected.

mod definition;
mod maintain;
mod online;

use crate::Row;
use crate::catalog::{Table, TableDef};
use crate::error::Error;
use crate::key::Key;
use crate::locks::TableLock;
use crate::row::RowLayout;
use crate::store::backing::{Home, Spaces};
use crate::store::entry::RowEntry;
use crate::store::{Growth, Placed, Store};
use crate::types::Datum;
use scry_wal::{Lsn, Ordinal, StoreId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What an index is.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexDef {
    /// Visible to PostgreSQL clients.
    pub oid: u32,
    pub name: String,
    /// Names the index's rows among the stores; not in the log but here.
    pub store: StoreId,
    /// Column numbers from 0, in key order.
    pub columns: Vec<usize>,
    pub unique: bool,
    /// Whether it stands for a UNIQUE constraint.
    pub constraint: bool,
    /// Whether it has a row for each of its table. Otherwise it is being filled, or that was given up, and it can only be dropped.
    pub valid: bool,
}

/// An index to be created: the engine gives it its oid and store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewIndex {
    pub name: String,
    pub columns: Vec<usize>,
    pub unique: bool,
    pub constraint: bool,
}

/// An index as one definition of its table knows it.
pub struct Index {
    pub def: IndexDef,
    data: Arc<IndexData>,
}

/// The rows of an index.
struct IndexData {
    /// As a table that stands in no catalog.
    rows: Table,
    /// A `Stage`.
    stage: AtomicU8,
}

/// What an index has of the rows of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Some or nothing, and writers pass it by.
    Idle,
    /// Those that writers have changed since it is known, and some of the others.
    Filling,
    /// All; or it gets them from who has locked the table.
    Complete,
    /// All, at each snapshot that shows it as valid.
    Ready,
}

const STAGES: [Stage; 4] = [Stage::Idle, Stage::Filling, Stage::Complete, Stage::Ready];

impl Index {
    /// An index without rows.
    fn empty(def: &IndexDef, home: Home, lock: &Arc<TableLock>) -> Index {
        let store = Arc::new(Store::derived(home, def.store));
        let rows = TableDef {
            oid: def.oid,
            name: def.name.clone(),
            store: def.store,
            ..TableDef::default()
        };
        Index {
            def: def.clone(),
            data: Arc::new(IndexData {
                rows: Table::new(rows, store, Arc::clone(lock)),
                stage: AtomicU8::new(Stage::Idle as u8),
            }),
        }
    }

    /// The indexes of a table that has `def`: those that `known` has keep their rows, the others have none yet and are where `spaces`
    /// says.
    pub(crate) fn of(
        def: &TableDef,
        known: &[Arc<Index>],
        spaces: &Spaces,
        table: &Store,
        lock: &Arc<TableLock>,
    ) -> Vec<Arc<Index>> {
        let index = |def: &IndexDef| match known.iter().find(|known| known.def.store == def.store) {
            Some(known) => Index {
                def: def.clone(),
                data: Arc::clone(&known.data),
            },
            None => {
                let home = table.home.backing.home_in(spaces.of_index(def.store));
                Index::empty(def, home, lock)
            }
        };
        def.indexes.iter().map(|def| Arc::new(index(def))).collect()
    }

    pub(crate) fn rows(&self) -> &Table {
        &self.data.rows
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.data.rows.store
    }

    /// Whether it can be read: at every snapshot that shows this definition, it has every row.
    pub fn is_ready(&self) -> bool {
        self.def.valid && self.stage() == Stage::Ready
    }

    pub(crate) fn stage(&self) -> Stage {
        STAGES[usize::from(self.data.stage.load(Ordering::Acquire))]
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.data.stage.store(stage as u8, Ordering::Release);
    }

    /// The key of a row of the table, which has the key `own` there.
    pub(crate) fn key(&self, layout: &RowLayout, row: &[u8], own: &[u8]) -> Key {
        let row = layout.row(row);
        self.key_of(|column| row.get(column), own)
    }

    /// As `key`, for a row of which `value` answers the columns.
    pub(crate) fn key_of<'v>(&self, value: impl Fn(usize) -> Datum<'v>, own: &[u8]) -> Key {
        let mut key = Key::new();
        let mut distinct = !self.def.unique;
        for column in &self.def.columns {
            let value = value(*column);
            distinct |= value.is_null();
            key.push_nullable(&value);
        }
        if distinct {
            key.push_bytes(own);
        }
        key
    }

    /// Puts in the row that stands for a committed one of the table, which has the key `own` there. False when another row has its key,
    /// in a unique index.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub(crate) fn put_committed(&self, key: &Key, own: &[u8], lsn: Lsn) -> Result<bool, Error> {
        let content = entry(own);
        let growth = Growth::of(None, Some(&content));
        let made = || {
            Arc::new(RowEntry::committed(
                lsn,
                Ordinal::default(),
                Some(Row::clone(&content)),
            ))
        };
        let Placed::Entry(entry, true) = self.store().place(key, false, made)? else {
            return Ok(false);
        };
        self.store().changed(key, &entry, 0);
        self.store().counters.add_live(growth);
        Ok(true)
    }

    /// The key of a unique index for a row; `None`: a column is NULL, which equals nothing.
    pub(crate) fn unique_key(&self, layout: &RowLayout, row: &[u8]) -> Option<Key> {
        let read = layout.row(row);
        let mut values = self.def.columns.iter().map(|column| read.get(*column));
        let known = self.def.unique && !values.any(|value| matches!(value, Datum::Null));
        known.then(|| self.key(layout, row, &[]))
    }
}

/// The row of an index that stands for the table's row under `own`.
pub(crate) fn entry(own: &[u8]) -> Row {
    Row::from(own)
}
