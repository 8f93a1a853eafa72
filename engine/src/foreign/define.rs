//! Foreign keys come and go: with the definition of the table that refers changes that of the table referred to.

use super::check::missing;
use super::{ForeignKeyDef, ReferenceDef};
use crate::catalog::{Table, TableDef};
use crate::error::Error;
use crate::key::KeyRange;
use crate::locks::Mode;
use crate::txn::{Txn, turn};
use std::sync::Arc;

/// Rows that are checked before other tasks of the thread get their turn.
const BATCH: usize = 2048;

impl Txn {
    /// Gives a table another foreign key. Waits for the writers of both tables; then, if it is to be `validated`, looks at every row.
    ///
    /// # Errors
    /// `ReferenceMissing`, `ReferenceByHalves` for a row that does not satisfy it; as [`Txn::redefine`].
    pub async fn add_foreign_key(
        &mut self,
        table: &Arc<Table>,
        key: ForeignKeyDef,
    ) -> Result<Arc<Table>, Error> {
        let mut def = table.def.clone();
        let validated = key.validated;
        def.foreign_keys.push(key);
        let table = self.redefine_references(table, def).await?;
        if validated {
            let last = table.def.foreign_keys.len() - 1;
            self.check_references(&table, last).await?;
        }
        Ok(table)
    }

    /// Takes a foreign key off its table. Waits for the writers of both tables.
    ///
    /// # Errors
    /// As [`Txn::redefine`].
    pub async fn drop_foreign_key(&mut self, table: &Arc<Table>, name: &str) -> Result<Arc<Table>, Error> {
        let mut def = table.def.clone();
        def.foreign_keys.retain(|key| key.name != name);
        self.redefine_references(table, def).await
    }

    /// Looks at the rows that were there before the n-th foreign key of a table.
    ///
    /// # Errors
    /// As [`Txn::add_foreign_key`].
    pub async fn validate_foreign_key(
        &mut self,
        table: &Arc<Table>,
        number: usize,
    ) -> Result<Arc<Table>, Error> {
        let mut def = table.def.clone();
        def.foreign_keys[number].validated = true;
        let table = self.redefine(table, def).await?;
        self.check_references(&table, number).await?;
        Ok(table)
    }

    /// Gives a table a definition with other foreign keys.
    async fn redefine_references(
        &mut self,
        table: &Arc<Table>,
        mut def: TableDef,
    ) -> Result<Arc<Table>, Error> {
        let oid = def.oid;
        let before = std::mem::take(&mut def.referenced_by);
        def.referenced_by = noted(oid, &before, oid, &def.foreign_keys);
        let parents = parents(&[&table.def.foreign_keys, &def.foreign_keys]);
        let keys = def.foreign_keys.clone();
        let table = self.redefine(table, def).await?;
        self.note_references(oid, &parents, &keys).await?;
        Ok(table)
    }

    /// A table is about to be dropped: the foreign keys that refer to it go, and so do the notes of its own.
    pub(crate) async fn forget_references(&mut self, table: &Table) -> Result<(), Error> {
        let oid = table.def.oid;
        let mut children: Vec<Arc<Table>> = Vec::new();
        for (child, _) in self.references_to(table) {
            if child.def.oid != oid && children.iter().all(|other| other.def.oid != child.def.oid) {
                children.push(child);
            }
        }
        for child in children {
            let mut def = child.def.clone();
            def.foreign_keys.retain(|key| key.table != oid);
            self.redefine(&child, def).await?;
        }
        let parents = parents(&[&table.def.foreign_keys]);
        self.note_references(oid, &parents, &[]).await
    }

    /// The table `child` has these foreign keys from now on: notes that at the tables that they refer to, and referred to before. Tables of
    /// which that changes nothing are left alone, and so are their writers.
    pub(crate) async fn note_references(
        &mut self,
        child: u32,
        parents: &[u32],
        keys: &[ForeignKeyDef],
    ) -> Result<(), Error> {
        for oid in parents.iter().filter(|oid| **oid != child) {
            let Some(parent) = self.catalog().by_oid(*oid).cloned() else {
                continue;
            };
            let (before, after) = (
                &parent.def.referenced_by,
                noted(*oid, &parent.def.referenced_by, child, keys),
            );
            // Of the others nothing changes but the order.
            let of_child = |note: &&ReferenceDef| note.table == child;
            if before.iter().filter(of_child).eq(after.iter().filter(of_child)) {
                continue;
            }
            let mut def = parent.def.clone();
            def.referenced_by = after;
            self.redefine(&parent, def).await?;
        }
        Ok(())
    }

    /// Looks at what all rows of a table refer to by its n-th foreign key. This transaction has locked both tables exclusively,
    /// or waits until nobody writes them.
    async fn check_references(&mut self, table: &Table, number: usize) -> Result<(), Error> {
        let parent = self.parent(table, number)?;
        self.lock_table(&parent, Mode::Exclusive).await?;
        let mut cursor = self.begin_scan_newest(table, KeyRange::all())?;
        loop {
            let batch = cursor.next_batch(BATCH)?;
            if batch.is_empty() {
                break;
            }
            for (_, version) in &batch {
                let Some(values) = table.refers(number, &version.row)? else {
                    continue;
                };
                let there = match parent.referred(table, number, &values)? {
                    Some((unique, key)) => self.newest(parent.unique_rows(unique), &key)?.is_some(),
                    None => false,
                };
                if !there {
                    return Err(missing(table, number, &parent, values));
                }
            }
            turn().await;
        }
        self.depend_on(cursor.depends_on());
        Ok(())
    }
}

/// The tables that foreign keys refer to, each once.
pub(crate) fn parents(lists: &[&[ForeignKeyDef]]) -> Vec<u32> {
    let mut oids: Vec<u32> = lists
        .iter()
        .flat_map(|keys| keys.iter().map(|key| key.table))
        .collect();
    oids.sort_unstable();
    oids.dedup();
    oids
}

/// The notes of the table `parent`, once the table `child` has these foreign keys.
pub(crate) fn noted(
    parent: u32,
    before: &[ReferenceDef],
    child: u32,
    keys: &[ForeignKeyDef],
) -> Vec<ReferenceDef> {
    let others = before
        .iter()
        .filter(|reference| reference.table != child)
        .cloned();
    let own = keys
        .iter()
        .filter(|key| key.table == parent)
        .map(|key| ReferenceDef {
            table: child,
            columns: key.referenced.clone(),
        });
    others.chain(own).collect()
}
