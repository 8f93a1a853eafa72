//! What a commit, or the list of definitions in a checkpoint, does to the catalog.

use super::rows::each_newest;
use super::{Adoption, Replay, corrupt};
use crate::Row;
use crate::catalog::{AppliedChange, PrimaryKey, Table, TableDef, check_definition, key_of};
use crate::catalog_change::CatalogChange;
use crate::checkpoint::Definition;
use crate::election::branch;
use crate::election::change::ElectionChange;
use crate::error::Error;
use crate::runs::Stored;
use crate::store::Store;
use crate::store::backing::Spaces;
use scry_wal::{Lsn, Ordinal, StoreId};
use std::collections::HashMap;
use std::sync::Arc;

/// A primary key that a table gets.
pub(super) struct NewKey {
    oid: u32,
    key: PrimaryKey,
}

impl Replay {
    /// Makes a change of the catalog whose rows are in the runs.
    pub(super) fn define(&mut self, definition: &Definition) -> Result<(), Error> {
        let Definition { lsn, spaces, change } = definition;
        match change {
            CatalogChange::Election(change) => drop(self.elect(*lsn, change, spaces)?),
            change => {
                if let Some((store, new)) = self.alter(*lsn, change, spaces)? {
                    self.rekey(*lsn, store, &new, Some(HashMap::new()), spaces)?;
                }
            }
        }
        Ok(())
    }

    /// Makes one change of the elections. For an adoption: what is to be adopted, once the commit's ordinals are known.
    pub(super) fn elect(
        &mut self,
        lsn: Lsn,
        change: &ElectionChange,
        spaces: &Spaces,
    ) -> Result<Option<Adoption>, Error> {
        let mut adoption = None;
        let mut table = None;
        match change {
            ElectionChange::CreateElection { id, .. } | ElectionChange::CreateCandidate { id, .. } => {
                self.last_election = self.last_election.max(*id);
            }
            ElectionChange::CreateBranch {
                candidate,
                base,
                store,
                columns,
                ..
            } => {
                let known = self.catalog.elections().candidate(*candidate);
                let of_base = known.and_then(|(_, candidate)| candidate.base.tables.by_store(*base));
                let of_base = of_base
                    .ok_or_else(|| corrupt(lsn, Some(*base), "branch of an unknown store".to_owned()))?;
                let branch = Arc::new(branch::table(
                    self.backing.home_in(spaces.table),
                    of_base,
                    *store,
                    columns.clone(),
                ));
                self.last_store = self.last_store.max(store.get());
                self.stores.insert(*store, Arc::clone(&branch));
                table = Some(branch);
            }
            ElectionChange::Adopt {
                candidate,
                base,
                count,
                skipped,
                ..
            } => {
                let known = self.catalog.elections().candidate(*candidate);
                let branch = known.and_then(|(_, candidate)| candidate.branch(*base));
                let branch = branch
                    .ok_or_else(|| corrupt(lsn, Some(*base), "adoption of an unknown branch".to_owned()))?;
                adoption = Some(Adoption {
                    branch: Arc::clone(&branch.table),
                    base: *base,
                    count: *count,
                    skipped: skipped.iter().copied().collect(),
                });
            }
            ElectionChange::EndCandidate { branches, .. } | ElectionChange::Discard { branches, .. } => {
                for store in branches {
                    self.stores.remove(store);
                }
            }
            ElectionChange::EndElection { .. }
            | ElectionChange::ForgetElection { .. }
            | ElectionChange::Rebase { .. }
            | ElectionChange::Record { .. }
            | ElectionChange::AlterCandidate { .. }
            | ElectionChange::Expire { .. }
            | ElectionChange::Decide { .. }
            | ElectionChange::Score { .. }
            | ElectionChange::Grant { .. } => {}
        }
        self.change_catalog(lsn, CatalogChange::Election(change.clone()), table)?;
        if let ElectionChange::Rebase { candidate } = change {
            self.keep_branches(*candidate);
        }
        Ok(adoption)
    }

    /// A rebase may have made empty branches anew, with another key.
    fn keep_branches(&mut self, candidate: u64) {
        let known = self.catalog.elections().candidate(candidate);
        for branch in known.into_iter().flat_map(|(_, candidate)| candidate.branches()) {
            self.stores.insert(branch.store(), Arc::clone(&branch.table));
        }
    }

    /// Makes one change of the catalog that comes with its table.
    fn change_catalog(
        &mut self,
        lsn: Lsn,
        change: CatalogChange,
        table: Option<Arc<Table>>,
    ) -> Result<(), Error> {
        let applied = applied(change, table);
        self.record_change(lsn, applied)
    }

    /// Makes a change and notes it among the definitions.
    pub(super) fn record_change(&mut self, lsn: Lsn, applied: AppliedChange) -> Result<(), Error> {
        self.apply_change(lsn, &applied)?;
        self.definitions.push(Definition::new(lsn, &applied));
        Ok(())
    }

    fn apply_change(&mut self, lsn: Lsn, applied: &AppliedChange) -> Result<(), Error> {
        let next = self.catalog.with(lsn, std::slice::from_ref(applied));
        let next = next.map_err(|error| corrupt(lsn, None, error.to_string()))?;
        let former = std::mem::replace(&mut self.catalog, next);
        if lsn != self.catalog_lsn {
            self.former.push_back((self.catalog_lsn, Arc::new(former)));
            if lsn <= self.oldest {
                self.former.clear();
            }
        }
        self.catalog_lsn = lsn;
        Ok(())
    }

    /// Makes one change of the catalog that is no election's. For a new primary key: which store is to be keyed anew.
    pub(super) fn alter(
        &mut self,
        lsn: Lsn,
        change: &CatalogChange,
        spaces: &Spaces,
    ) -> Result<Option<(StoreId, NewKey)>, Error> {
        if self.alter_sequence(lsn, change)? {
            return Ok(None);
        }
        let table_of = |oid: u32| {
            let table = self.catalog.by_oid(oid).cloned();
            table.ok_or_else(|| corrupt(lsn, None, format!("the catalog has no table with oid {oid}")))
        };
        let mut new_key = None;
        let table = match change {
            CatalogChange::CreateTable(def) => {
                check_definition(def).map_err(|error| corrupt(lsn, Some(def.store), error.to_string()))?;
                let home = self.backing.home_in(spaces.table);
                Some(Table::with_store_in(home, spaces, def.clone(), Arc::default()))
            }
            CatalogChange::DropTable { oid, .. } => {
                table_of(*oid)?;
                None
            }
            CatalogChange::Truncate { oid, new, .. } => {
                let old = table_of(*oid)?;
                let def = TableDef {
                    store: *new,
                    ..old.def.clone()
                };
                let home = self.backing.home_in(spaces.table);
                let new = Table::with_store_in(home, spaces, def, Arc::clone(&old.lock));
                Some(new.with_rules(Arc::clone(&old.rules)))
            }
            CatalogChange::AddPrimaryKey { oid, key } => {
                let old = table_of(*oid)?;
                let mut def = old.def.clone();
                def.primary_key = Some(key.clone());
                check_definition(&def)
                    .map_err(|error| corrupt(lsn, Some(old.def.store), error.to_string()))?;
                for column in &key.columns {
                    def.columns[*column].not_null = true;
                }
                let new = NewKey {
                    oid: *oid,
                    key: key.clone(),
                };
                new_key = Some((def.store, new));
                let new = Table::new(def, Arc::clone(&old.store), Arc::clone(&old.lock));
                Some(new.with_rules(Arc::new(old.rules.without(&key.columns))))
            }
            CatalogChange::SetRules { oid, rules } => {
                let old = table_of(*oid)?;
                Some(old.ruled(Arc::new(rules.clone())))
            }
            CatalogChange::Redefine(def) => {
                let old = table_of(def.oid)?;
                check_definition(def).map_err(|error| corrupt(lsn, Some(def.store), error.to_string()))?;
                if !def.fits_data_of(&old.def) {
                    let what = "a definition that is not of the table's data".to_owned();
                    return Err(corrupt(lsn, Some(def.store), what));
                }
                let (store, lock) = (Arc::clone(&old.store), Arc::clone(&old.lock));
                // One that was being filled is filled anew when it becomes valid.
                let valid = old.indexes.iter().filter(|index| index.def.valid);
                let valid: Vec<_> = valid.cloned().collect();
                let new = Table::with_indexes_of(&valid, spaces, def.clone(), store, lock);
                Some(new.with_rules(Arc::clone(&old.rules)))
            }
            CatalogChange::CreateSequence(_)
            | CatalogChange::RedefineSequence(_)
            | CatalogChange::DropSequence { .. }
            | CatalogChange::Election(_) => unreachable!("elections and sequences have their own ways"),
        };
        let table = table.map(Arc::new);
        if let CatalogChange::DropTable { store: old, .. } | CatalogChange::Truncate { old, .. } = change {
            self.stores.remove(old);
        }
        if let Some(table) = &table {
            self.last_oid = self.last_oid.max(table.def.oid);
            self.last_store = self.last_store.max(table.def.store.get());
            for index in &table.def.indexes {
                self.last_oid = self.last_oid.max(index.oid);
                self.last_store = self.last_store.max(index.store.get());
            }
            self.stores.insert(table.def.store, Arc::clone(table));
        }
        match new_key {
            // Recorded with the store that the new key makes.
            Some(_) => self.apply_change(lsn, &applied(change.clone(), table))?,
            None => self.change_catalog(lsn, change.clone(), table)?,
        }
        Ok(new_key)
    }

    /// Puts the rows of a store under its new primary key.
    pub(super) fn rekey(
        &mut self,
        lsn: Lsn,
        store_id: StoreId,
        NewKey { oid, key }: &NewKey,
        rows: Option<HashMap<Ordinal, (Lsn, Row)>>,
        spaces: &Spaces,
    ) -> Result<(), Error> {
        // The transaction may have dropped the table after all.
        let Some(table) = self.catalog.by_oid(*oid) else {
            return Ok(());
        };
        // It may have another name by now.
        let now = table.def.primary_key.clone();
        let change = CatalogChange::AddPrimaryKey {
            oid: *oid,
            key: now.unwrap_or_else(|| key.clone()),
        };
        // Or have put another store in the place of this one, which has the key from the beginning.
        let known = self.stores.get(&store_id);
        let Some(known) = known.filter(|_| table.def.store == store_id) else {
            let table = Arc::clone(table);
            return self.change_catalog(lsn, change, Some(table));
        };
        let old = Arc::clone(&known.store);
        let layout = Arc::clone(&known.layout);
        let home = self.backing.home_in(spaces.table);
        let store = Store::with_counters(home, store_id, Arc::clone(&old.counters));
        let mut filling = self.begin_filling(&store);
        let mut put = |lsn_of_row: Lsn, ordinal: Ordinal, row: Row| {
            let new_key = key_of(&layout, &key.columns, &row).map_err(|column| {
                let what = format!("row {ordinal} has NULL in column {column} of the new key");
                corrupt(lsn, Some(store_id), what)
            })?;
            let stored = Stored {
                lsn: lsn_of_row,
                ordinal,
                row: Some(row),
            };
            filling.put(0, new_key, stored)
        };
        match rows {
            Some(rows) => {
                let mut rows = rows.into_iter();
                rows.try_for_each(|(ordinal, (lsn, row))| put(lsn, ordinal, row))?;
            }
            None => each_newest(&old, &mut |_, version| {
                put(version.lsn, version.ordinal.unwrap_or_default(), version.row)
            })?,
        }
        filling.end(lsn)?;
        let store = Arc::new(store);
        let lock = Arc::clone(&table.lock);
        let rekeyed = Table::with_indexes_of(&[], spaces, table.def.clone(), Arc::clone(&store), lock);
        let table = Arc::new(rekeyed.with_rules(Arc::clone(&table.rules)));
        self.stores.insert(store_id, Arc::clone(&table));
        self.change_catalog(lsn, change, Some(table))
    }
}

/// A change with the table that it brings.
fn applied(change: CatalogChange, table: Option<Arc<Table>>) -> AppliedChange {
    AppliedChange {
        change,
        table,
        sequence: None,
        retires: None,
    }
}
