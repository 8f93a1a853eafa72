//! CREATE, DROP, TRUNCATE TABLE and ALTER TABLE, inside transactions.
//!
//! A transaction's DDL is a list of changes over the committed catalog, private until the commit lays it over the
//! newest one. Whoever alters a table holds its lock exclusively until the end, so that no two transactions alter
//! one table and no writer is under way. Readers are not disturbed: old snapshots keep the catalog, and with it the
//! stores, that they began with.

use super::{PRIVATE, Txn, turn};
use crate::catalog::{
    AppliedChange, FIRST_OID, NewTable, PrimaryKey, Table, TableDef, check_definition, key_of, key_values,
};
use crate::catalog_change::CatalogChange;
use crate::collision::{RuleError, Rules};
use crate::election::ElectionState;
use crate::error::Error;
use crate::foreign::{noted, parents};
use crate::index::Stage;
use crate::key::{Key, KeyRange};
use crate::locks::Mode;
use crate::overlay::Version;
use crate::store::entry::RowEntry;
use crate::store::scan::Met;
use crate::store::{Placed, Store};
use std::ops::Bound;
use std::sync::Arc;

/// How many rows a new primary key takes on before other tasks of the thread get their turn.
const REKEY_BATCH: usize = 2048;

impl Txn {
    /// Creates an empty table. Primary key columns become NOT NULL.
    ///
    /// # Errors
    /// `DuplicateTable`, `InvalidDefinition`. Two transactions may create one name at once: the second to commit
    /// gets `DuplicateTable` from its commit.
    pub async fn create_table(&mut self, new: NewTable) -> Result<Arc<Table>, Error> {
        self.create(new, None).await
    }

    /// Creates a system table: one that is found by its oid alone, which is below [`FIRST_OID`] and its own.
    ///
    /// # Errors
    /// As [`Txn::create_table`].
    pub async fn create_system_table(&mut self, oid: u32, new: NewTable) -> Result<Arc<Table>, Error> {
        assert!(oid < FIRST_OID, "{oid} is no oid of a system table");
        self.create(new, Some(oid)).await
    }

    async fn create(&mut self, new: NewTable, oid: Option<u32>) -> Result<Arc<Table>, Error> {
        self.not_in_candidate("CREATE TABLE")?;
        if oid.is_none() && self.catalog.has_relation(&new.name) {
            return Err(Error::DuplicateTable { name: new.name });
        }
        self.holder();
        let store = self.engine.next_store_id();
        let NewTable {
            name,
            mut columns,
            primary_key,
            checks,
            indexes,
            mut foreign_keys,
        } = new;
        for column in primary_key.iter().flat_map(|key| &key.columns) {
            if let Some(column) = columns.get_mut(*column) {
                column.not_null = true;
            }
        }
        let oid = oid.unwrap_or_else(|| self.engine.next_oid());
        for key in foreign_keys.iter_mut().filter(|key| key.table == 0) {
            key.table = oid;
        }
        let def = TableDef {
            oid,
            name,
            columns,
            primary_key,
            store,
            checks,
            indexes: indexes.into_iter().map(|index| self.name_index(index)).collect(),
            referenced_by: noted(oid, &[], oid, &foreign_keys),
            foreign_keys,
        };
        check_definition(&def)?;
        let home = self.engine.backing.new_home();
        let table = Arc::new(Table::with_fresh_store(home, def.clone(), Arc::default()));
        self.alter(CatalogChange::CreateTable(def), Some(Arc::clone(&table)), None)?;
        let keys = &table.def.foreign_keys;
        self.note_references(oid, &parents(&[keys]), keys).await?;
        Ok(table)
    }

    /// A new store is about to be filled with rows that are committed.
    pub(crate) fn begin_filling(&mut self, store: &Arc<Store>) {
        self.engine.backing.begin_building(store);
        self.has_filled = true;
    }

    /// Drops a table, and with it the foreign keys that refer to it. Waits for its writers, and for those of tables that it refers to or
    /// that refer to it.
    pub async fn drop_table(&mut self, table: &Arc<Table>) -> Result<(), Error> {
        self.not_in_candidate("DROP TABLE")?;
        self.lock_table(table, Mode::Exclusive).await?;
        self.forget_references(table).await?;
        let change = CatalogChange::DropTable {
            oid: table.def.oid,
            store: table.def.store,
        };
        self.alter(change, None, Some(Arc::clone(table)))
    }

    /// Gives a table a new, empty store. Waits for its writers.
    pub async fn truncate(&mut self, table: &Arc<Table>) -> Result<Arc<Table>, Error> {
        self.not_in_candidate("TRUNCATE")?;
        self.lock_table(table, Mode::Exclusive).await?;
        let def = TableDef {
            store: self.engine.next_store_id(),
            ..table.def.clone()
        };
        let change = CatalogChange::Truncate {
            oid: def.oid,
            old: table.def.store,
            new: def.store,
        };
        let new = Table::with_fresh_store(table.store.home.another(), def, Arc::clone(&table.lock));
        let new = Arc::new(new.with_rules(self.rules_now(table)));
        self.alter(change, Some(Arc::clone(&new)), Some(Arc::clone(table)))?;
        Ok(new)
    }

    /// Makes columns the primary key of a table that has none. Waits for its writers; then reads every row.
    ///
    /// # Errors
    /// `UniqueViolation` and `NotNullViolation` for rows that cannot have such a key.
    pub async fn add_primary_key(
        &mut self,
        table: &Arc<Table>,
        key: PrimaryKey,
    ) -> Result<Arc<Table>, Error> {
        self.not_in_candidate("ALTER TABLE")?;
        if table.def.primary_key.is_some() {
            return Err(Error::PrimaryKeyExists {
                table: table.def.name.clone(),
            });
        }
        check_definition(&TableDef {
            primary_key: Some(key.clone()),
            ..table.def.clone()
        })?;
        self.lock_table(table, Mode::Exclusive).await?;

        self.bring_all_back(table).await?;
        let counters = Arc::clone(&table.store.counters);
        let store = Store::with_counters(table.store.home.another(), table.def.store, counters);
        let store = Arc::new(store);
        self.begin_filling(&store);
        let mut moved = Vec::new();
        let mut left = KeyRange::all();
        while let Some(last) = self.rekey_batch(table, &key, &store, &left, &mut moved)? {
            left.lower = Bound::Excluded(last);
            self.engine.checkpoints.admission.free().await;
            turn().await;
        }

        let new_store = self.overlay.add_store(&store, &table.layout);
        for (slot, new_key, entry) in moved {
            self.overlay.rekey(slot, (new_store, new_key, entry));
        }
        let mut def = table.def.clone();
        for column in &key.columns {
            def.columns[*column].not_null = true;
        }
        def.primary_key = Some(key.clone());
        let rules = self.rules_now(table).without(&key.columns);
        let change = CatalogChange::AddPrimaryKey { oid: def.oid, key };
        let new = Table::new(def, store, Arc::clone(&table.lock));
        let new = Arc::new(new.with_rules(Arc::new(rules)));
        for index in new.indexes.iter().filter(|index| index.def.valid) {
            index.set_stage(Stage::Complete);
            self.fill_index(&new, index).await?;
        }
        self.alter(change, Some(Arc::clone(&new)), Some(Arc::clone(table)))?;
        Ok(new)
    }

    /// Gives a table another definition, which `def` makes of the present one once no writer is under way: other names, defaults
    /// and constraints, columns added behind the others, and columns dropped. No row is written: those that are there have the
    /// missing values of added columns. They must satisfy the definition; see [`Txn::check_rows`].
    ///
    /// # Errors
    /// `InvalidDefinition`, `DuplicateTable`.
    ///
    /// # Panics
    /// When the definition is not of the table's data, or has another primary key.
    pub async fn redefine(&mut self, table: &Arc<Table>, def: TableDef) -> Result<Arc<Table>, Error> {
        self.not_in_candidate("ALTER TABLE")?;
        let old = &table.def;
        assert!(def.fits_data_of(old), "a definition of the same data");
        check_definition(&def)?;
        if old.name != def.name && self.catalog.has_relation(&def.name) {
            return Err(Error::DuplicateTable { name: def.name });
        }
        self.lock_table(table, Mode::Exclusive).await?;
        let new = self.redefinition(table, def);
        self.redefine_as(table, new)
    }

    pub(crate) fn redefine_as(&mut self, old: &Arc<Table>, new: Arc<Table>) -> Result<Arc<Table>, Error> {
        let change = CatalogChange::Redefine(new.def.clone());
        self.alter(change, Some(Arc::clone(&new)), Some(Arc::clone(old)))?;
        self.overlay.set_layout(&new.store, &new.layout);
        Ok(new)
    }

    /// Shows every row of a table to `check`, once no writer is under way.
    ///
    /// # Errors
    /// The first that `check` answers.
    pub async fn check_rows<E: From<Error>>(
        &mut self,
        table: &Table,
        check: &mut (dyn FnMut(&[u8]) -> Result<(), E> + Send),
    ) -> Result<(), E> {
        self.lock_table(table, Mode::Exclusive).await?;
        let mut cursor = self.begin_scan_newest(table, KeyRange::all())?;
        loop {
            let batch = cursor.next_batch(REKEY_BATCH)?;
            if batch.is_empty() {
                break;
            }
            for (_, version) in &batch {
                check(&version.row)?;
            }
            turn().await;
        }
        self.depend_on(cursor.depends_on());
        Ok(())
    }

    /// Gives a table other collision rules. Waits for its writers.
    ///
    /// # Errors
    /// `InvalidRule` for a rule of a column that cannot have it.
    pub async fn set_rules(&mut self, table: &Table, rules: Rules) -> Result<(), Error> {
        self.not_in_candidate("ALTER TABLE")?;
        let refused = |rule| Error::InvalidRule {
            table: table.def.name.clone(),
            rule,
        };
        let name = |column: usize| table.def.columns[column].name.clone();
        let key = table.key_columns().unwrap_or_default();
        if let Some((column, _)) = rules.columns.iter().find(|(column, _)| key.contains(column)) {
            return Err(refused(RuleError::KeyColumn {
                column: name(*column),
            }));
        }
        self.lock_table(table, Mode::Exclusive).await?;
        // What they were made from must be what they take the place of.
        if *self.rules_now(table) != *table.rules {
            return Err(Error::TableChanged {
                table: table.def.name.clone(),
            });
        }
        let open = self
            .catalog()
            .elections()
            .iter()
            .any(|election| election.state == ElectionState::Open);
        if let Some(column) = table.rules.mixes(&rules).filter(|_| open) {
            return Err(refused(RuleError::Mixed { column: name(column) }));
        }
        let new = Arc::new(table.ruled(Arc::new(rules.clone())));
        let change = CatalogChange::SetRules {
            oid: table.def.oid,
            rules,
        };
        self.alter(change, Some(new), None)
    }

    /// The rules of a table that this transaction has locked exclusively: another may have changed them before.
    pub(crate) fn rules_now(&self, table: &Table) -> Arc<Rules> {
        let own = self.ddl.iter().any(|applied| {
            let changed = applied.table.as_ref();
            changed.is_some_and(|changed| changed.def.oid == table.def.oid)
        });
        let latest = self.engine.catalog();
        match latest.by_oid(table.def.oid).filter(|_| !own) {
            Some(latest) => Arc::clone(&latest.rules),
            None => Arc::clone(&table.rules),
        }
    }

    /// Puts the next rows of a table under their new keys. Answers the last old key, while there may be more.
    fn rekey_batch(
        &self,
        table: &Table,
        key: &PrimaryKey,
        store: &Store,
        left: &KeyRange,
        moved: &mut Vec<(u32, Key, Arc<RowEntry>)>,
    ) -> Result<Option<Key>, Error> {
        let mut count = 0;
        let mut last = None;
        let mut failure = None;
        table.store.scan_newest(left, |old_key, met| {
            count += 1;
            if count == REKEY_BATCH {
                last = Some(old_key.clone());
            }
            // Under the exclusive lock nothing is pending but what is this transaction's own.
            let (own, base) = match met {
                Met::Entry(entry) => {
                    let state = entry.lock();
                    let own = self.own_slot(&state).map(|slot| (slot, self.overlay.get(slot)));
                    (own, state.newest(store.id).version())
                }
                Met::Below(stored) => (None, stored.version()),
            };
            let row = match own {
                Some((_, pending)) => pending.current_row().cloned(),
                None => base.as_ref().map(|base| Arc::clone(&base.row)),
            };
            let Some(row) = row else {
                return count < REKEY_BATCH;
            };
            let owner = own.map(|(slot, _)| (self.holder_if_any(), slot));
            let placed = self
                .new_key(table, key, &row)
                .and_then(|new_key| place(table, key, new_key, store, &row, base, owner));
            match placed {
                Ok((new_key, entry)) => {
                    if let Some((slot, _)) = own {
                        moved.push((slot, new_key, entry));
                    }
                }
                Err(error) => failure = Some(error),
            }
            failure.is_none() && count < REKEY_BATCH
        })?;
        match failure {
            Some(error) => Err(error),
            None => Ok(last),
        }
    }

    /// The key of a row under a primary key that is being added.
    fn new_key(&self, table: &Table, key: &PrimaryKey, row: &[u8]) -> Result<Key, Error> {
        let new_key = key_of(&table.layout, &key.columns, row).map_err(|column| Error::NotNullViolation {
            table: table.def.name.clone(),
            column: table.def.columns[column].name.clone(),
        })?;
        self.check_key(table, &new_key)?;
        Ok(new_key)
    }

    /// Adds one change to this transaction's catalog.
    pub(crate) fn alter(
        &mut self,
        change: CatalogChange,
        table: Option<Arc<Table>>,
        retires: Option<Arc<Table>>,
    ) -> Result<(), Error> {
        self.add_change(AppliedChange {
            change,
            table,
            sequence: None,
            retires,
        })
    }

    pub(super) fn add_change(&mut self, applied: AppliedChange) -> Result<(), Error> {
        // Whoever replays a commit makes its changes one after the other: a base or an adoption among definitions of
        // the same tables would not mean the same then.
        let of_elections = |change: &CatalogChange| matches!(change, CatalogChange::Election(_));
        let other = |known: &AppliedChange| of_elections(&known.change) != of_elections(&applied.change);
        if self.ddl.iter().any(other) {
            return Err(Error::ElectionWithDefinition);
        }
        self.catalog = Arc::new(self.catalog.with(PRIVATE, std::slice::from_ref(&applied))?);
        self.ddl.push(applied);
        self.had_ddl = true;
        Ok(())
    }
}

/// Puts one row under its new key: `base` below, and the lock to its owner when there is one.
fn place(
    table: &Table,
    key: &PrimaryKey,
    new_key: Key,
    store: &Store,
    row: &[u8],
    base: Option<Version>,
    own: Option<(Option<&Arc<crate::locks::Holder>>, u32)>,
) -> Result<(Key, Arc<RowEntry>), Error> {
    let entry = Arc::new(match (base, own) {
        (Some(base), own) => {
            let entry = RowEntry::committed(base.lsn, base.ordinal.unwrap_or_default(), Some(base.row));
            if let Some((Some(holder), slot)) = own {
                entry.lock().set_owner(Arc::clone(holder), slot);
            }
            entry
        }
        (None, Some((Some(holder), slot))) => RowEntry::locked(Arc::clone(holder), slot),
        (None, _) => unreachable!("a row that is neither committed nor this transaction's own"),
    });
    let placed = store.place(&new_key, false, || Arc::clone(&entry))?;
    if !matches!(placed, Placed::Entry(_, true)) {
        return Err(Error::UniqueViolation {
            table: table.def.name.clone(),
            constraint: key.name.clone(),
            columns: table.column_names(&key.columns),
            key: key_values(&table.layout, &key.columns, row),
        });
    }
    store.changed(&new_key, &entry, 0);
    Ok((new_key, entry))
}
