//! Finding the rows that refer to a key: by the index, or the primary key, that has most of the foreign key's columns in front; else
//! by looking at all rows.

use super::as_type;
use crate::catalog::Table;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::locks::Mode;
use crate::overlay::Version;
use crate::store::scan::{Next, StoreScan};
use crate::txn::{ScanCursor, Txn};
use crate::types::Value;
use scry_wal::Lsn;
use std::sync::Arc;

/// Rows that are looked at before the caller looks whether it has to stop.
const BATCH: usize = 1024;

/// The rows of a table that refer to one key by one of its foreign keys, and how far they are looked through.
pub struct Children {
    table: Arc<Table>,
    number: usize,
    /// In the types of the columns that refer.
    values: Vec<Value>,
    rows: Rows,
    done: bool,
}

enum Rows {
    /// The table's, as they are now.
    Newest(StoreScan),
    /// Those of an index, by its number.
    Indexed(usize, StoreScan),
    /// What a candidate sees.
    Inside(Box<ScanCursor>),
}

impl Children {
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Whether a row of the table refers to the key.
    pub fn is_child(&self, row: &[u8]) -> bool {
        let row = self.table.layout.row(row);
        let columns = &self.table.def.foreign_keys[self.number].columns;
        let mut pairs = columns.iter().zip(&self.values);
        pairs.all(|(column, value)| {
            let there = row.get(*column);
            !there.is_null() && there.compare(&value.as_datum()).is_eq()
        })
    }
}

/// The range of keys that begin with what is known of `key`'s first columns, and how many these are.
fn prefix(
    key: &[usize],
    columns: &[usize],
    values: &[Value],
    push: fn(&mut Key, &Value),
) -> (usize, KeyRange) {
    let mut prefix = Key::new();
    let mut count = 0;
    for column in key {
        let Some(place) = columns.iter().position(|named| named == column) else {
            break;
        };
        push(&mut prefix, &values[place]);
        count += 1;
    }
    match count {
        0 => (0, KeyRange::all()),
        _ => (count, KeyRange::prefix(&prefix)),
    }
}

impl Txn {
    /// The rows of a table that refer by its n-th foreign key to the key with these values, which are those of the columns
    /// referred to, as they are now. `None`: none of them can be, as a value is NULL or none that the columns can have.
    ///
    /// # Errors
    /// As [`Txn::lock`], for the table.
    pub async fn children(
        &mut self,
        (table, number): (&Arc<Table>, usize),
        key: &[Value],
    ) -> Result<Option<Children>, Error> {
        let columns = &table.def.foreign_keys[number].columns;
        let mut values = Vec::with_capacity(key.len());
        for (column, value) in columns.iter().zip(key) {
            let own = match value {
                Value::Null => None,
                value => as_type(value.as_datum(), table.def.columns[*column].ty),
            };
            let Some(own) = own else { return Ok(None) };
            values.push(own.to_value());
        }
        let primary = table.key_columns().unwrap_or_default();
        let (mut best, range) = prefix(primary, columns, &values, |key, value| {
            key.push(&value.as_datum())
        });
        let rows = if self.inside.is_some() {
            Rows::Inside(Box::new(self.begin_scan(table, range)?))
        } else {
            self.lock_table(table, Mode::Shared).await?;
            let at = self.engine.visible_lsn();
            let mut rows = Rows::Newest(StoreScan::new(range, at));
            let readable = table.indexes.iter().enumerate();
            for (number, index) in readable.filter(|(_, index)| index.is_ready()) {
                let (count, range) = prefix(&index.def.columns, columns, &values, |key, value| {
                    key.push_nullable(&value.as_datum());
                });
                if count > best {
                    best = count;
                    rows = Rows::Indexed(number, StoreScan::new(range, at));
                }
            }
            rows
        };
        Ok(Some(Children {
            table: Arc::clone(table),
            number,
            values,
            rows,
            done: false,
        }))
    }

    /// The next rows, which may be none before the end; `None` at the end.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn next_children(&mut self, children: &mut Children) -> Result<Option<Vec<(Key, Version)>>, Error> {
        if children.done {
            return Ok(None);
        }
        let table = Arc::clone(&children.table);
        let mut found = match &mut children.rows {
            Rows::Inside(cursor) => {
                let batch = cursor.next_batch(BATCH)?;
                children.done = batch.is_empty();
                let read = cursor.depends_on();
                self.depend_on(read);
                batch
            }
            Rows::Newest(scan) => {
                let batch = self.next_newest(&table, scan)?;
                children.done = batch.len() < BATCH;
                batch
            }
            Rows::Indexed(index, scan) => {
                let entries = self.next_newest(table.indexes[*index].rows(), scan)?;
                children.done = entries.len() < BATCH;
                let at = scan.at();
                let mut batch = Vec::with_capacity(entries.len());
                for (_, entry) in entries {
                    let own = Key::from_bytes(&entry.row);
                    if let Some(version) = self.read_at(&table, &own, at)? {
                        batch.push((own, version));
                    }
                }
                batch
            }
        };
        found.retain(|(_, version)| children.is_child(&version.row));
        Ok(Some(found))
    }

    /// The next rows as they are now: the transaction's own, else those committed up to the scan's LSN.
    fn next_newest(&mut self, rows: &Table, scan: &mut StoreScan) -> Result<Vec<(Key, Version)>, Error> {
        // What the caller does with some rows may have others move out of memory.
        scan.set_own(self.moved_rows()?);
        let (store, at) = (&rows.store, scan.at());
        let mut batch = Vec::new();
        let mut depends_on = Lsn::ZERO;
        scan.run(store, |key, met| {
            let Some((lsn, version)) = self.sees(at, store, met) else {
                return Next::Below;
            };
            depends_on = depends_on.max(lsn);
            batch.extend(version.map(|version| (key.clone(), version)));
            match batch.len() < BATCH {
                true => Next::On,
                false => Next::Stop,
            }
        })?;
        self.depend_on(depends_on);
        Ok(batch)
    }
}
