//! Tables and the catalog: immutable snapshots, replaced as a whole by a commit with DDL.
//!
//! A statement holds `Arc<Table>`s that it took from its transaction's catalog; they stay valid for reading at the
//! snapshot they were taken for, whatever happens to the table meanwhile. Writers find out in time: they take the
//! table's lock first, and a store that was replaced is *retired* before that lock is given back.

use crate::catalog_change::CatalogChange;
use crate::collision::Rules;
use crate::election::{Elections, of_catalog};
use crate::error::Error;
use crate::index::{Index, IndexDef, NewIndex};
use crate::key::Key;
use crate::locks::TableLock;
use crate::row::RowLayout;
use crate::runs::SpaceId;
use crate::store::Store;
use crate::store::backing::Home;
use crate::types::{DataType, Value};
use scry_wal::{Lsn, StoreId};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The first oid of a user's table, as in PostgreSQL; those below are the SQL layer's own. Tables with such an oid are
/// *system tables*: durable and mirrored as others, and not among the names of tables.
pub const FIRST_OID: u32 = 16384;

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDef {
    pub name: String,
    pub ty: DataType,
    pub not_null: bool,
    /// Expression text, opaque to the engine.
    pub default: Option<String>,
}

/// The columns by which rows are known and kept in order.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimaryKey {
    /// The constraint's name.
    pub name: String,
    /// Column numbers from 0, in key order.
    pub columns: Vec<usize>,
}

/// A condition that no row may make false.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckDef {
    /// The constraint's name.
    pub name: String,
    /// Expression text, opaque to the engine.
    pub expression: String,
}

/// What a table is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableDef {
    /// Stable; visible to PostgreSQL clients.
    pub oid: u32,
    pub name: String,
    pub columns: Vec<ColumnDef>,
    pub primary_key: Option<PrimaryKey>,
    /// The identity of the present data; TRUNCATE changes it.
    pub store: StoreId,
    pub checks: Vec<CheckDef>,
    pub indexes: Vec<IndexDef>,
}

/// A table to be created: the engine gives it its oid and store.
#[derive(Clone, Debug, Default)]
pub struct NewTable {
    pub name: String,
    pub columns: Vec<ColumnDef>,
    pub primary_key: Option<PrimaryKey>,
    pub checks: Vec<CheckDef>,
    pub indexes: Vec<NewIndex>,
}

/// A table as one catalog knows it.
pub struct Table {
    pub def: TableDef,
    pub layout: Arc<RowLayout>,
    /// What decides rows that a candidate and others have changed.
    pub rules: Arc<Rules>,
    /// In the order of the definition.
    pub indexes: Vec<Arc<Index>>,
    pub(crate) store: Arc<Store>,
    pub(crate) lock: Arc<TableLock>,
    /// Set when a commit put another definition in this one's place, or nothing. Whoever gets the table's lock afterwards
    /// must not write by this one.
    retired: Arc<AtomicBool>,
    attachment: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Table {
    pub(crate) fn new(def: TableDef, store: Arc<Store>, lock: Arc<TableLock>) -> Table {
        Table::with_indexes_of(&[], def, store, lock)
    }

    /// A table whose indexes keep their rows, as far as `known` has them.
    fn with_indexes_of(
        known: &[Arc<Index>],
        def: TableDef,
        store: Arc<Store>,
        lock: Arc<TableLock>,
    ) -> Table {
        let layout = Arc::clone(&store.layout);
        let indexes = Index::of(&def, known, &store, &lock);
        Table {
            def,
            layout,
            rules: Arc::default(),
            indexes,
            store,
            lock,
            retired: Arc::default(),
            attachment: OnceLock::new(),
        }
    }

    /// The same data under another definition.
    pub(crate) fn redefined(&self, def: TableDef, rules: Arc<Rules>) -> Table {
        let (store, lock) = (Arc::clone(&self.store), Arc::clone(&self.lock));
        Table::with_indexes_of(&self.indexes, def, store, lock).with_rules(rules)
    }

    /// The same definition with other rules.
    pub(crate) fn ruled(&self, rules: Arc<Rules>) -> Table {
        let mut table = self.redefined(self.def.clone(), rules);
        table.retired = Arc::clone(&self.retired);
        table
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Acquire)
    }

    /// Whether both have one definition, and not only equal ones.
    pub(crate) fn is_same(&self, other: &Table) -> bool {
        Arc::ptr_eq(&self.retired, &other.retired)
    }

    /// What a user of the engine keeps with this definition, made when it is first asked for.
    ///
    /// # Panics
    /// When something of another type was kept.
    pub fn attached<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> &T {
        let kept = self.attachment.get_or_init(|| Box::new(make()));
        kept.downcast_ref().expect("one type is kept with tables")
    }

    pub(crate) fn with_rules(mut self, rules: Arc<Rules>) -> Table {
        self.rules = rules;
        self
    }

    /// A table whose store is new and empty.
    pub(crate) fn with_fresh_store(home: Home, def: TableDef, lock: Arc<TableLock>) -> Table {
        let types: Vec<DataType> = def.columns.iter().map(|column| column.ty).collect();
        let store = Arc::new(Store::new(home, def.store, Arc::new(RowLayout::new(&types))));
        let table = Table::new(def, store, lock);
        table.indexes.iter().for_each(|index| index.set_ready());
        table
    }

    /// The number of the column of this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.def.columns.iter().position(|column| column.name == name)
    }

    /// The names of the columns with these numbers.
    pub(crate) fn column_names(&self, columns: &[usize]) -> Vec<String> {
        let name = |column: &usize| self.def.columns[*column].name.clone();
        columns.iter().map(name).collect()
    }

    /// The columns of the primary key, in key order.
    pub fn key_columns(&self) -> Option<&[usize]> {
        self.def.primary_key.as_ref().map(|key| key.columns.as_slice())
    }

    /// The primary key of a row; `None` without primary key or when a column of it is NULL.
    pub fn key_of(&self, row: &[u8]) -> Option<Key> {
        key_of(&self.layout, self.key_columns()?, row).ok()
    }

    /// Committed rows, approximately: for estimates.
    pub fn live_rows(&self) -> u64 {
        self.store.counters.live_rows()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("def", &self.def)
            .finish_non_exhaustive()
    }
}

/// The key that `columns` of a row make; the error is the column that is NULL.
pub(crate) fn key_of(layout: &RowLayout, columns: &[usize], row: &[u8]) -> Result<Key, usize> {
    let row = layout.row(row);
    let mut key = Key::new();
    for column in columns {
        let value = row.get(*column);
        if value.is_null() {
            return Err(*column);
        }
        key.push(&value);
    }
    Ok(key)
}

/// The values of a key of `columns`, for messages.
pub(crate) fn key_values(layout: &RowLayout, columns: &[usize], row: &[u8]) -> Vec<Value> {
    let row = layout.row(row);
    columns.iter().map(|column| row.get(*column).to_value()).collect()
}

/// A change of the catalog with the objects that it brings.
#[derive(Clone)]
pub(crate) struct AppliedChange {
    pub(crate) change: CatalogChange,
    /// The table as it is after the change; `None` when it is gone.
    pub(crate) table: Option<Arc<Table>>,
    /// The table by whose definition nobody may write any more.
    pub(crate) retires: Option<Arc<Table>>,
}

/// All tables and elections, as one commit left them or as one transaction sees them.
#[derive(Clone, Default)]
pub struct Catalog {
    pub(crate) tables: Arc<Tables>,
    pub(crate) elections: Arc<Elections>,
    /// Whether the tables are those of a candidate's base.
    pub(crate) of_candidate: bool,
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    version: u64,
    by_oid: BTreeMap<u32, Arc<Table>>,
    by_name: BTreeMap<String, u32>,
}

/// Catalogs are numbered through the whole process, transactions' private ones included.
static NEXT_VERSION: AtomicU64 = AtomicU64::new(1);

impl Catalog {
    /// The table of this name.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.by_oid.get(self.tables.by_name.get(name)?)
    }

    /// Whether a table, a primary key or an index has this name.
    pub fn has_relation(&self, name: &str) -> bool {
        self.tables.has_relation(name)
    }

    /// The table that has the index of this name, with the index's number there.
    pub fn index(&self, name: &str) -> Option<(&Arc<Table>, usize)> {
        self.tables().find_map(|table| {
            let mut indexes = table.indexes.iter();
            Some((table, indexes.position(|index| index.def.name == name)?))
        })
    }

    pub fn by_oid(&self, oid: u32) -> Option<&Arc<Table>> {
        self.tables.by_oid.get(&oid)
    }

    /// All tables but the system's, by rising oid.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.by_oid.range(FIRST_OID..).map(|(_, table)| table)
    }

    pub(crate) fn all_tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.all()
    }

    /// The stores whose rows this catalog shows: of tables, of the bases of elections, of what candidates changed. Each once, by space.
    pub(crate) fn stores(&self) -> BTreeMap<SpaceId, Arc<Store>> {
        let of_elections = self.elections.iter().flat_map(|election| election.tables());
        let all = self.all_tables().chain(of_elections);
        all.map(|table| (table.store.home.space, Arc::clone(&table.store)))
            .collect()
    }

    /// The stores of all tables and indexes of the present.
    pub(crate) fn swept_stores(&self) -> impl Iterator<Item = &Arc<Store>> {
        self.all_tables().flat_map(|table| {
            let indexes = table.indexes.iter().map(|index| index.store());
            std::iter::once(&table.store).chain(indexes)
        })
    }

    /// Whether the tables are those of a candidate's base: rows are found there by primary key alone.
    pub fn is_of_candidate(&self) -> bool {
        self.of_candidate
    }

    pub fn elections(&self) -> &Elections {
        &self.elections
    }

    /// The catalog that a transaction inside of a candidate has: the tables of its base.
    ///
    /// # Errors
    /// `UndefinedElection`, `ElectionEnded`, `UndefinedCandidate`, `CandidateEnded`, `BaseExpired`.
    pub fn inside(&self, election: &str, candidate: &str) -> Result<Catalog, Error> {
        let (election, candidate) = self.elections.open(election, candidate)?;
        candidate.check_base(election)?;
        Ok(Catalog {
            tables: Arc::clone(&candidate.base.tables),
            elections: Arc::clone(&self.elections),
            of_candidate: true,
        })
    }

    /// Two catalogs of one process have the same tables when their versions are the same: what was planned against one
    /// holds for the other.
    pub fn version(&self) -> u64 {
        self.tables.version
    }

    /// This catalog with `changes` made by the commit at `at`.
    pub(crate) fn with(&self, at: Lsn, changes: &[AppliedChange]) -> Result<Catalog, Error> {
        let mut next = self.clone();
        let of_tables = |applied: &&AppliedChange| of_catalog(&applied.change).is_none();
        if changes.iter().any(|applied| of_tables(&applied)) {
            let mut tables = Tables {
                version: NEXT_VERSION.fetch_add(1, Ordering::Relaxed),
                ..(*self.tables).clone()
            };
            changes
                .iter()
                .filter(of_tables)
                .try_for_each(|applied| tables.apply(applied))?;
            next.tables = Arc::new(tables);
        }
        // A new election begins with the tables as the whole commit leaves them.
        for applied in changes {
            if let Some(change) = of_catalog(&applied.change) {
                let branch = applied.table.as_ref();
                Arc::make_mut(&mut next.elections).apply(at, &next.tables, change, branch)?;
            }
        }
        Ok(next)
    }
}

impl Tables {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.by_oid.values()
    }

    /// The table that has this store.
    pub(crate) fn by_store(&self, store: StoreId) -> Option<&Arc<Table>> {
        self.by_oid.values().find(|table| table.def.store == store)
    }

    fn has_relation(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
            || self.by_oid.values().any(|table| {
                let of_key = table.def.primary_key.as_ref().is_some_and(|key| key.name == name);
                of_key || table.def.indexes.iter().any(|index| index.name == name)
            })
    }

    /// Refuses a new index whose name another relation has.
    fn check_new_indexes(&self, def: &TableDef) -> Result<(), Error> {
        let known = self.by_oid.get(&def.oid).map(|table| &table.def.indexes);
        let is_known = |name: &str| known.into_iter().flatten().any(|index| index.name == name);
        match def
            .indexes
            .iter()
            .find(|index| !is_known(&index.name) && self.has_relation(&index.name))
        {
            Some(index) => Err(Error::DuplicateTable {
                name: index.name.clone(),
            }),
            None => Ok(()),
        }
    }

    fn apply(&mut self, applied: &AppliedChange) -> Result<(), Error> {
        match (&applied.change, &applied.table) {
            (CatalogChange::CreateTable(def), Some(table)) => {
                self.check_new_indexes(def)?;
                let is_named = def.oid >= FIRST_OID;
                if is_named && self.by_name.contains_key(&def.name) || self.by_oid.contains_key(&def.oid) {
                    return Err(Error::DuplicateTable {
                        name: def.name.clone(),
                    });
                }
                if is_named {
                    self.by_name.insert(def.name.clone(), def.oid);
                }
                self.by_oid.insert(def.oid, Arc::clone(table));
            }
            (CatalogChange::DropTable { oid, .. }, _) => {
                let table = self.by_oid.remove(oid).ok_or_else(|| undefined(*oid))?;
                self.by_name.remove(&table.def.name);
            }
            (CatalogChange::Redefine(def), Some(table)) => {
                self.check_new_indexes(def)?;
                let place = self.by_oid.get_mut(&def.oid).ok_or_else(|| undefined(def.oid))?;
                let old = std::mem::replace(place, Arc::clone(table));
                if old.def.name != def.name {
                    if self.by_name.contains_key(&def.name) {
                        return Err(Error::DuplicateTable {
                            name: def.name.clone(),
                        });
                    }
                    self.by_name.remove(&old.def.name);
                    self.by_name.insert(def.name.clone(), def.oid);
                }
            }
            (
                CatalogChange::Truncate { oid, .. }
                | CatalogChange::AddPrimaryKey { oid, .. }
                | CatalogChange::SetRules { oid, .. },
                Some(table),
            ) => {
                let place = self.by_oid.get_mut(oid).ok_or_else(|| undefined(*oid))?;
                *place = Arc::clone(table);
            }
            _ => unreachable!("a change of tables without the table it makes"),
        }
        Ok(())
    }
}

fn undefined(oid: u32) -> Error {
    Error::UndefinedTable {
        name: format!("oid {oid}"),
    }
}

/// Whether a definition makes sense by itself.
pub(crate) fn check_definition(def: &TableDef) -> Result<(), Error> {
    let TableDef {
        name,
        columns,
        primary_key,
        ..
    } = def;
    let invalid = |reason| {
        Err(Error::InvalidDefinition {
            table: name.clone(),
            reason,
        })
    };
    if columns.len() > crate::row::MAX_COLUMNS {
        return invalid("too many columns");
    }
    let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return invalid("a column name is used twice");
    }
    if let Some(key) = primary_key {
        let mut numbers = key.columns.clone();
        numbers.sort_unstable();
        if numbers.is_empty() {
            return invalid("a primary key needs a column");
        }
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return invalid("a column appears twice in the primary key");
        }
        if numbers.last().is_some_and(|last| *last >= columns.len()) {
            return invalid("a column of the primary key does not exist");
        }
    }
    for index in &def.indexes {
        if index.columns.is_empty() || index.columns.iter().any(|column| *column >= columns.len()) {
            return invalid("an index needs columns of its table");
        }
    }
    Ok(())
}
