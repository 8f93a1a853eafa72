//! Rows of indexes follow those of their table, within the same transaction.

use super::{Index, Stage, entry};
use crate::Row;
use crate::catalog::{Table, key_values};
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::overlay::Version;
use crate::txn::{InsertOutcome, ScanCursor, Txn};
use std::sync::Arc;

impl Txn {
    /// Inserts a row with its rows in indexes.
    pub(crate) async fn insert_indexed(
        &mut self,
        table: &Table,
        key: Option<Key>,
        row: Row,
    ) -> Result<InsertOutcome, Error> {
        let outcome = self.insert_plain(table, key, row.clone()).await?;
        if table.indexes.is_empty() {
            return Ok(outcome);
        }
        let InsertOutcome::Inserted(key) = outcome else {
            return Ok(outcome);
        };
        for (number, index) in maintained(table) {
            if let Some(taken) = self.insert_entry(index, table, &key, &row).await? {
                for (_, index) in maintained(table).take_while(|(other, _)| *other < number) {
                    self.delete_entry(index, table, &key, &row).await?;
                }
                self.begin_write(table, &key).await?;
                self.delete_plain(table, &key)?;
                return Ok(InsertOutcome::Taken {
                    index: number,
                    key: taken,
                });
            }
        }
        Ok(InsertOutcome::Inserted(key))
    }

    /// Replaces a row that is locked.
    pub(crate) async fn update_indexed(&mut self, table: &Table, key: &[u8], row: Row) -> Result<(), Error> {
        if !table.indexes.is_empty() {
            let old = self.locked_row(table, key);
            self.end_keys(table, (key, &old), Some((key, &row))).await?;
            self.move_entries(table, (key, &old), (key, &row)).await?;
        }
        self.update_plain(table, key, row)
    }

    /// Deletes a row that is locked.
    pub(crate) async fn delete_indexed(&mut self, table: &Table, key: &[u8]) -> Result<(), Error> {
        if !table.indexes.is_empty() || !table.referenced.is_empty() {
            let old = self.locked_row(table, key);
            self.end_keys(table, (key, &old), None).await?;
            for (_, index) in maintained(table) {
                self.delete_entry(index, table, key, &old).await?;
            }
        }
        self.delete_plain(table, key)
    }

    /// Replaces a row that is locked by one under another key.
    pub(crate) async fn rekey_indexed(
        &mut self,
        table: &Table,
        key: &[u8],
        new_key: Key,
        row: Row,
    ) -> Result<InsertOutcome, Error> {
        let old = self.locked_row(table, key);
        self.end_keys(table, (key, &old), Some((&new_key, &row))).await?;
        let outcome = self.insert_plain(table, Some(new_key), row.clone()).await?;
        if let InsertOutcome::Inserted(new_key) = &outcome {
            self.move_entries(table, (key, &old), (new_key, &row)).await?;
            self.delete_plain(table, key)?;
        }
        Ok(outcome)
    }

    /// A row, by its own key, becomes another one: where that changes a row of an index.
    async fn move_entries(
        &mut self,
        table: &Table,
        (old_own, old): (&[u8], &[u8]),
        (new_own, new): (&[u8], &[u8]),
    ) -> Result<(), Error> {
        for (_, index) in maintained(table) {
            let old_key = index.key(&table.layout, old, old_own);
            let new_key = index.key(&table.layout, new, new_own);
            if old_key != new_key {
                if self.insert_entry(index, table, new_own, new).await?.is_some() {
                    return Err(taken(table, index, new));
                }
                self.delete_entry(index, table, old_own, old).await?;
            } else if old_own != new_own {
                if self.lock_entry(index, &old_key, old_own).await? {
                    self.update_plain(index.rows(), &old_key, entry(new_own))?;
                } else if self.insert_entry(index, table, new_own, new).await?.is_some() {
                    return Err(taken(table, index, new));
                }
            }
        }
        Ok(())
    }

    /// Puts a row into an index. In a unique one, its key may be another row's: answers that row's key, and nothing was changed.
    pub(super) async fn insert_entry(
        &mut self,
        index: &Index,
        table: &Table,
        own: &[u8],
        row: &[u8],
    ) -> Result<Option<Key>, Error> {
        let key = index.key(&table.layout, row, own);
        match self.insert_plain(index.rows(), Some(key), entry(own)).await? {
            InsertOutcome::Exists(there) => Ok(Some(Key::from_bytes(&there.row))),
            InsertOutcome::Inserted(_) | InsertOutcome::Taken { .. } => Ok(None),
        }
    }

    async fn delete_entry(
        &mut self,
        index: &Index,
        table: &Table,
        own: &[u8],
        row: &[u8],
    ) -> Result<(), Error> {
        let key = index.key(&table.layout, row, own);
        match self.lock_entry(index, &key, own).await? {
            true => self.delete_plain(index.rows(), &key),
            false => Ok(()),
        }
    }

    /// Locks the row of an index that stands for the row with the key `own`, whose lock this transaction has: who has it, only looks at it. False when
    /// there is none, in an index that is being filled.
    async fn lock_entry(&mut self, index: &Index, key: &Key, own: &[u8]) -> Result<bool, Error> {
        let found = self.lock_plain(index.rows(), key).await?;
        let is_there = found.as_ref().is_some_and(|found| found.row[..] == *own);
        if !is_there {
            assert!(
                matches!(index.stage(), Stage::Filling | Stage::Idle),
                "index \"{}\" has a row for each row of its table",
                index.def.name
            );
            if found.is_some() {
                self.unlock_plain(index.rows(), key);
            }
        }
        Ok(is_there)
    }

    /// The key of the row that has the same values in the columns of a unique index as `row`, whoever committed it, or is this
    /// transaction's own. Waits for who is about to delete it.
    ///
    /// # Errors
    /// As [`Txn::lock`].
    pub async fn unique_owner(
        &mut self,
        table: &Table,
        index: usize,
        row: &[u8],
    ) -> Result<Option<Key>, Error> {
        let index = &table.indexes[index];
        let Some(key) = index.unique_key(&table.layout, row) else {
            return Ok(None);
        };
        let found = self.lock_plain(index.rows(), &key).await?;
        if let Some(found) = &found {
            self.unlock_plain(index.rows(), &key);
            self.check_newer(index.rows(), found.lsn)?;
        }
        Ok(found.map(|found| Key::from_bytes(&found.row)))
    }

    /// The key of the table's row that has this key in a unique index, as of the snapshot. The index must be ready.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn get_by_index(&mut self, table: &Table, index: usize, key: &[u8]) -> Result<Option<Key>, Error> {
        let found = self.get_plain(table.indexes[index].rows(), key)?;
        Ok(found.map(|found| Key::from_bytes(&found.row)))
    }

    /// The table's row with the key `own`, to which the row of an index with the key `entry` has led; `None`: it is another row by
    /// now. That can be under REPEATABLE READ, which still sees the index's row of one that was deleted since, when the
    /// transaction itself has inserted its key again.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn get_indexed(
        &mut self,
        table: &Table,
        index: usize,
        entry: &[u8],
        own: &[u8],
    ) -> Result<Option<Version>, Error> {
        let found = self.get_plain(table, own)?;
        Ok(found.filter(|found| table.is_entry_of(index, entry, own, found)))
    }

    /// A cursor over a range of an index, which must be ready: as [`Txn::begin_scan`], with rows that are keys of the table's.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn begin_index_scan(
        &mut self,
        table: &Table,
        index: usize,
        range: KeyRange,
    ) -> Result<ScanCursor, Error> {
        self.begin_scan_plain(table.indexes[index].rows(), range)
    }
}

/// The indexes of a table, with their numbers, that follow its rows.
fn maintained(table: &Table) -> impl Iterator<Item = (usize, &Arc<Index>)> {
    let indexes = table.indexes.iter().enumerate();
    indexes.filter(|(_, index)| index.stage() != Stage::Idle)
}

impl Table {
    /// Whether two rows have the same values, none of them NULL, in the columns of a unique index.
    pub fn equal_in_index(&self, index: usize, a: &[u8], b: &[u8]) -> bool {
        let key = |row| self.indexes[index].unique_key(&self.layout, row);
        key(a).is_some_and(|a| key(b) == Some(a))
    }

    /// Whether the row with the key `own` has this key in the n-th index.
    pub(crate) fn is_entry_of(&self, index: usize, entry: &[u8], own: &[u8], row: &Version) -> bool {
        self.indexes[index].key(&self.layout, &row.row, own).as_ref() == entry
    }

    /// The error for a row whose key in the n-th index, a unique one, is another row's.
    pub fn key_exists(&self, index: usize, row: &[u8]) -> Error {
        taken(self, &self.indexes[index], row)
    }
}

/// A unique index has the key of this row already.
pub(super) fn taken(table: &Table, index: &Index, row: &[u8]) -> Error {
    Error::KeyExists {
        table: table.def.name.clone(),
        constraint: index.def.name.clone(),
        columns: table.column_names(&index.def.columns),
        key: key_values(&table.layout, &index.def.columns, row),
    }
}
