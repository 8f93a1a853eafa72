//! The net changes of a transaction against foreign keys: at its end, for constraints that wait for it; and for what an election
//! brings in.

use super::ForeignKeyDef;
use crate::Row;
use crate::catalog::Table;
use crate::election::branch;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::overlay::Now;
use crate::txn::{Txn, turn};
use std::ops::Bound;
use std::sync::Arc;

/// Changes that are looked at before other tasks of the thread get their turn.
const BATCH: u32 = 1024;

/// Which foreign keys are meant: asked with the table that refers.
pub type Which<'a> = &'a (dyn Fn(&Table, &ForeignKeyDef) -> bool + Sync);

/// A row that the transaction has changed.
struct Change {
    old: Option<Row>,
    new: Option<Row>,
}

/// The n-th foreign keys of a table, and those that refer to it.
type Against<'a> = (&'a [usize], &'a [(Arc<Table>, usize)]);

impl Txn {
    /// Checks what the transaction has changed so far against the foreign keys that `which` names. The caller has begun a statement.
    ///
    /// # Errors
    /// As [`Txn::check_reference`] and [`Txn::check_unreferenced`].
    pub async fn check_changes(&mut self, which: Which<'_>) -> Result<(), Error> {
        let tables: Vec<Option<Arc<Table>>> = self.written_tables();
        let (mut keys, mut references) = (Vec::new(), Vec::new());
        for table in &tables {
            let (mut own, mut others) = (Vec::new(), Vec::new());
            if let Some(table) = table {
                own.extend(0..table.def.foreign_keys.len());
                own.retain(|key| which(table, &table.def.foreign_keys[*key]));
                others = self.references_to(table);
                others.retain(|(child, key)| which(child, &child.def.foreign_keys[*key]));
            }
            keys.push(own);
            references.push(others);
        }
        // What waiting for locks adds behind is no change of a row.
        for slot in 0..self.overlay.next_slot() {
            if slot % BATCH == BATCH - 1 {
                turn().await;
            }
            let Some(pending) = self.overlay.changes.get(slot as usize) else {
                continue;
            };
            let store = pending.store as usize;
            let Some(Some(table)) = tables.get(store) else {
                continue;
            };
            if keys[store].is_empty() && references[store].is_empty() {
                continue;
            }
            if let Some(change) = self.change(table, slot)? {
                let against = (&keys[store][..], &references[store][..]);
                self.check_change(table, &change, against).await?;
            }
        }
        for ((table, keys), references) in tables.iter().zip(&keys).zip(&references) {
            let is_bound = !keys.is_empty() || !references.is_empty();
            if let Some(table) = table.as_ref().filter(|_| is_bound) {
                self.check_moved(table, (keys, references)).await?;
            }
        }
        Ok(())
    }

    /// Checks what became of a row against some foreign keys of its table, and some that refer to it.
    async fn check_change(
        &mut self,
        table: &Table,
        Change { old, new }: &Change,
        (keys, references): Against<'_>,
    ) -> Result<(), Error> {
        let kept = |columns: &[usize]| {
            let both = old.as_ref().zip(new.as_ref());
            both.is_some_and(|(old, new)| table.agree(columns, old, new))
        };
        for key in keys {
            let Some(new) = new else { break };
            if !kept(&table.def.foreign_keys[*key].columns) {
                self.check_reference(table, *key, new).await?;
            }
        }
        for (child, key) in references {
            let Some(old) = old else { break };
            if !kept(&child.def.foreign_keys[*key].referenced) {
                self.check_unreferenced(table, (child, *key), old, true).await?;
            }
        }
        Ok(())
    }

    /// The same for rows that moved out of memory.
    async fn check_moved(&mut self, table: &Table, against: Against<'_>) -> Result<(), Error> {
        let mut left = KeyRange::all();
        while let Some(rows) = self.next_moved(table, &left)? {
            for (key, stored) in rows {
                if !self.is_own(&table.store, &key) {
                    let old = table.store.newest_below(&key)?.map(|base| base.row);
                    let new = stored.row;
                    self.check_change(table, &Change { old, new }, against).await?;
                }
                left.lower = Bound::Excluded(key);
            }
            turn().await;
        }
        Ok(())
    }

    /// The tables whose rows it has changed, by the number of their stores in the overlay. Not those that are gone by now.
    fn written_tables(&self) -> Vec<Option<Arc<Table>>> {
        let stores = self.overlay.stores.iter();
        let table = |id| self.catalog().tables.by_store(id).cloned();
        stores
            .map(|written| match &self.inside {
                None => table(written.store.id),
                Some(inside) => {
                    let mut branches = inside.branches.iter();
                    let branch = branches.find(|branch| branch.store() == written.store.id)?;
                    table(branch.base)
                }
            })
            .collect()
    }

    /// What became of a row; `None`: it is as it was.
    fn change(&mut self, table: &Table, slot: u32) -> Result<Option<Change>, Error> {
        let pending = self.overlay.get(slot);
        if matches!(pending.now, Now::Untouched) {
            return Ok(None);
        }
        let new = pending.current_row().cloned();
        let old = pending.base.as_ref().map(|base| Arc::clone(&base.row));
        if self.inside.is_none() {
            return Ok(Some(Change { old, new }));
        }
        // A row of a branch: what it stands for.
        let branch = Arc::clone(self.overlay.store_of(pending));
        let key = Key::from_bytes(&pending.key);
        let inside = self.inside.iter().flat_map(|inside| &inside.branches);
        let mut branches = inside.filter(|known| known.store() == branch.id);
        let Some(branch) = branches.next().map(Arc::clone) else {
            return Ok(None);
        };
        let shown = |row: Row| {
            let proposal = branch::decode(&table.layout, &branch.table, &row);
            proposal.visible().cloned()
        };
        let old = match old {
            Some(row) => shown(row),
            None => self.base_version(table, &key)?.map(|base| base.row),
        };
        Ok(Some(Change {
            old,
            new: new.and_then(shown),
        }))
    }
}
