//! CREATE INDEX and DROP INDEX.
//!
//! An index is filled under the table's exclusive lock: writers wait, readers do not. It has the newest version of each row
//! alone, under the LSN that the row has; nobody reads it before the commit that makes it known, so nobody misses older ones.

use super::{Index, IndexDef, NewIndex, Stage};
use crate::catalog::{Table, TableDef, check_definition, key_values};
use crate::error::Error;
use crate::key::KeyRange;
use crate::locks::Mode;
use crate::txn::{Txn, turn};
use std::sync::Arc;

/// How many rows an index takes on before other tasks of the thread get their turn.
const FILL_BATCH: usize = 2048;

impl Txn {
    /// Gives a table another index. Waits for its writers; then reads every row.
    ///
    /// # Errors
    /// `DuplicateTable` for a name that another relation has, `InvalidDefinition`; `UniqueViolation` for rows that cannot have
    /// such an index.
    pub async fn create_index(&mut self, table: &Arc<Table>, new: NewIndex) -> Result<Arc<Table>, Error> {
        self.not_in_candidate("CREATE INDEX")?;
        if self.catalog().has_relation(&new.name) {
            return Err(Error::DuplicateTable { name: new.name });
        }
        let mut def = table.def.clone();
        let index = self.name_index(new);
        def.indexes.push(index);
        check_definition(&def)?;
        self.lock_table(table, Mode::Exclusive).await?;
        let redefined = self.redefinition(table, def);
        let index = redefined.indexes.last().expect("it was added above");
        index.set_stage(Stage::Complete);
        self.fill_index(&redefined, index).await?;
        self.redefine_as(table, redefined)
    }

    /// Takes an index off its table. Waits for the table's writers.
    ///
    /// # Errors
    /// As [`Txn::redefine`].
    pub async fn drop_index(&mut self, table: &Arc<Table>, name: &str) -> Result<Arc<Table>, Error> {
        let mut def = table.def.clone();
        def.indexes.retain(|index| index.name != name);
        self.redefine(table, def).await
    }

    /// An index with its oid and store.
    pub(crate) fn name_index(&mut self, new: NewIndex) -> IndexDef {
        self.holder();
        IndexDef {
            oid: self.engine.next_oid(),
            name: new.name,
            store: self.engine.next_store_id(),
            columns: new.columns,
            unique: new.unique,
            constraint: new.constraint,
            valid: true,
        }
    }

    /// Puts every row of a table that is locked exclusively into an index that has none.
    pub(crate) async fn fill_index(&mut self, table: &Table, index: &Index) -> Result<(), Error> {
        self.begin_filling(index.store());
        let mut own = Vec::new();
        let mut cursor = self.begin_scan_newest(table, KeyRange::all())?;
        loop {
            let batch = cursor.next_batch(FILL_BATCH)?;
            if batch.is_empty() {
                break;
            }
            for (key, version) in batch {
                if version.ordinal.is_none() {
                    own.push((key, version.row));
                    continue;
                }
                let place = index.key(&table.layout, &version.row, &key);
                self.check_key(index.rows(), &place)?;
                if !index.put_committed(&place, &key, version.lsn)? {
                    return Err(duplicated(table, index, &version.row));
                }
            }
            for (key, row) in own.drain(..) {
                if self.insert_entry(index, table, &key, &row).await?.is_some() {
                    return Err(duplicated(table, index, &row));
                }
            }
            self.move_if_large().await?;
            self.engine.checkpoints.admission.free().await;
            turn().await;
        }
        self.depend_on(cursor.depends_on());
        Ok(())
    }

    /// Another definition of a table that this transaction has locked exclusively.
    pub(crate) fn redefinition(&self, table: &Table, def: TableDef) -> Arc<Table> {
        Arc::new(table.redefined(def, self.rules_now(table)))
    }
}

/// Two rows that a new unique index would have under one key.
pub(super) fn duplicated(table: &Table, index: &Index, row: &[u8]) -> Error {
    Error::UniqueViolation {
        table: table.def.name.clone(),
        constraint: index.def.name.clone(),
        columns: table.column_names(&index.def.columns),
        key: key_values(&table.layout, &index.def.columns, row),
    }
}
