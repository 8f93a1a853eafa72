//! Names of tables and columns, from the catalog changes in the trail.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use scry_engine::collision::Rules;
use scry_engine::{CatalogChange, ColumnDef, DataType, Datum, ElectionChange, Key, PrimaryKey, RowLayout};
use scry_sql::types::{TimeZone, as_text};
use scry_wal::{Change, Lsn, Op, StoreId};

use super::line::raw;

/// What decodes the rows of one store.
struct Store {
    created: Lsn,
    table: u32,
    columns: Arc<[ColumnDef]>,
    layout: RowLayout,
    /// Primary keys with the place from which each counts; before the first, keys are row ids.
    keys: Vec<(Lsn, PrimaryKey)>,
}

/// One value of a row, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub column: String,
    /// `None` is NULL.
    pub value: Option<String>,
    /// Numbers and booleans stand without quotes.
    pub quoted: bool,
}

/// All that the trail says. Names are never forgotten: a table that was dropped still has its
/// records.
#[derive(Default)]
pub struct Names {
    tables: HashMap<u32, String>,
    stores: HashMap<StoreId, Store>,
    /// The oids of sequences, whose names stand among those of tables, by their counters.
    counters: HashMap<StoreId, u32>,
    /// What candidates change, as `"election/candidate".table`.
    branches: HashMap<StoreId, String>,
    elections: HashMap<u64, String>,
    /// As `election/candidate`.
    candidates: HashMap<u64, String>,
    ever: HashSet<String>,
}

impl Names {
    pub fn apply(&mut self, at: Lsn, change: &CatalogChange) {
        match change {
            CatalogChange::CreateTable(def) => {
                let types: Vec<DataType> = def.columns.iter().map(|column| column.ty).collect();
                self.ever.insert(def.name.clone());
                self.tables.insert(def.oid, def.name.clone());
                let store = Store {
                    created: at,
                    table: def.oid,
                    columns: def.columns.clone().into(),
                    layout: RowLayout::new(&types),
                    keys: def.primary_key.iter().map(|key| (at, key.clone())).collect(),
                };
                self.stores.insert(def.store, store);
            }
            CatalogChange::Truncate { old, new, .. } => {
                if let Some(store) = self.stores.get(old) {
                    let store = Store {
                        created: at,
                        table: store.table,
                        columns: store.columns.clone(),
                        layout: RowLayout::new(store.layout.types()),
                        keys: store
                            .keys
                            .last()
                            .map(|(_, key)| (at, key.clone()))
                            .into_iter()
                            .collect(),
                    };
                    self.stores.insert(*new, store);
                }
            }
            CatalogChange::AddPrimaryKey { oid, key } => {
                for store in self.stores.values_mut().filter(|store| store.table == *oid) {
                    store.keys.push((at, key.clone()));
                }
            }
            CatalogChange::Election(change) => self.apply_election(at, change),
            CatalogChange::Redefine(def) => {
                self.ever.insert(def.name.clone());
                self.tables.insert(def.oid, def.name.clone());
                if let Some(store) = self.stores.get_mut(&def.store) {
                    let mut columns = def.columns.clone();
                    for (column, known) in columns.iter_mut().zip(&*store.columns) {
                        // Rows of before have it still.
                        if column.dropped {
                            column.name.clone_from(&known.name);
                        }
                    }
                    store.layout = RowLayout::of(&columns);
                    store.columns = columns.into();
                }
            }
            CatalogChange::CreateSequence(def) | CatalogChange::RedefineSequence(def) => {
                self.ever.insert(def.name.clone());
                self.tables.insert(def.oid, def.name.clone());
                self.counters.insert(def.store, def.oid);
            }
            CatalogChange::DropTable { .. }
            | CatalogChange::DropSequence { .. }
            | CatalogChange::SetRules { .. } => {}
        }
    }

    fn apply_election(&mut self, at: Lsn, change: &ElectionChange) {
        match change {
            ElectionChange::CreateElection { id, name, .. } => {
                self.elections.insert(*id, name.clone());
            }
            ElectionChange::CreateCandidate {
                election, id, name, ..
            } => {
                let election = self.elections.get(election).map_or("", String::as_str);
                self.candidates.insert(*id, format!("{election}/{name}"));
            }
            ElectionChange::CreateBranch {
                candidate,
                base,
                store,
                columns,
                ..
            } => {
                let Some(of_base) = self.stores.get(base) else {
                    return;
                };
                let types: Vec<DataType> = columns.iter().map(|column| column.ty).collect();
                let key = of_base.keys.last().map(|(_, key)| (at, key.clone()));
                let branch = Store {
                    created: at,
                    table: of_base.table,
                    columns: columns.clone().into(),
                    layout: RowLayout::new(&types),
                    keys: key.into_iter().collect(),
                };
                let table = self.tables.get(&branch.table).map_or("", String::as_str);
                let name = format!("\"{}\".{table}", self.candidate(*candidate));
                self.ever.insert(name.clone());
                self.branches.insert(*store, name);
                self.stores.insert(*store, branch);
            }
            ElectionChange::Adopt { .. }
            | ElectionChange::Rebase { .. }
            | ElectionChange::Discard { .. }
            | ElectionChange::Record { .. }
            | ElectionChange::AlterCandidate { .. }
            | ElectionChange::Expire { .. }
            | ElectionChange::Decide { .. }
            | ElectionChange::Score { .. }
            | ElectionChange::Grant { .. }
            | ElectionChange::EndCandidate { .. }
            | ElectionChange::EndElection { .. }
            | ElectionChange::ForgetElection { .. } => {}
        }
    }

    pub fn election(&self, id: u64) -> &str {
        self.elections.get(&id).map_or("", String::as_str)
    }

    /// A candidate as `election/candidate`.
    pub fn candidate(&self, id: u64) -> &str {
        self.candidates.get(&id).map_or("", String::as_str)
    }

    pub fn table_name(&self, store: StoreId) -> Option<&str> {
        if let Some(branch) = self.branches.get(&store) {
            return Some(branch);
        }
        self.tables
            .get(&self.stores.get(&store)?.table)
            .map(String::as_str)
    }

    /// The table that the store holds rows of, its own or a candidate's.
    pub fn base_table(&self, store: StoreId) -> Option<&str> {
        self.tables
            .get(&self.stores.get(&store)?.table)
            .map(String::as_str)
    }

    /// Whether the store holds what a candidate changes.
    pub fn is_branch(&self, store: StoreId) -> bool {
        self.branches.contains_key(&store)
    }

    /// The columns of the key that a table of this name had last; nothing when it has hidden row ids.
    pub fn key_columns(&self, table: &str) -> Vec<String> {
        let newest = self
            .stores
            .iter()
            .filter(|(id, _)| !self.is_branch(**id) && self.base_table(**id) == Some(table))
            .map(|(_, store)| store)
            .max_by_key(|store| store.created);
        let Some((store, (_, key))) = newest.and_then(|store| Some((store, store.keys.last()?))) else {
            return Vec::new();
        };
        let columns = key.columns.iter().filter_map(|index| store.columns.get(*index));
        columns.map(|column| column.name.clone()).collect()
    }

    /// The keys, as text, under which the row stood before and after a change: those of the primary key that its store had
    /// last, even where it had none yet; else the hidden row id.
    pub fn keys_of(&self, change: &Change<'_>) -> Vec<Vec<String>> {
        let Some(store) = self.stores.get(&change.store) else {
            return Vec::new();
        };
        let Some((_, key)) = store.keys.last() else {
            return vec![raw("row", change.key).value.into_iter().collect()];
        };
        let image = match change.op {
            Op::Insert | Op::Update => change.after,
            Op::Delete => change.before,
        };
        if store.layout.validate(image).is_err() {
            return Vec::new();
        }
        let row = store.layout.row(image);
        let text = |index: usize, datum: &Datum<'_>| {
            let column = store.columns.get(index)?;
            as_text(datum, &column.ty, &TimeZone::utc())
        };
        let present: Option<Vec<String>> = key
            .columns
            .iter()
            .map(|index| text(*index, &row.get(*index)))
            .collect();
        let mut keys: Vec<_> = present.into_iter().collect();
        if change.op == Op::Update
            && let Ok(before) = store.layout.decode_before(change.before)
            && before.iter().any(|(index, _)| key.columns.contains(index))
        {
            let of_old = |index: &usize| match before.iter().find(|(changed, _)| changed == index) {
                Some((_, datum)) => text(*index, datum),
                None => text(*index, &row.get(*index)),
            };
            let old: Option<Vec<String>> = key.columns.iter().map(of_old).collect();
            keys.extend(old);
        }
        keys
    }

    /// The table that a catalog change is about.
    pub fn table_of<'a>(&'a self, change: &'a CatalogChange) -> Option<&'a str> {
        let oid = match change {
            CatalogChange::CreateTable(def) | CatalogChange::Redefine(def) => return Some(&def.name),
            CatalogChange::CreateSequence(def) | CatalogChange::RedefineSequence(def) => {
                return Some(&def.name);
            }
            CatalogChange::Election(ElectionChange::CreateBranch { store, .. }) => {
                return self.table_name(*store);
            }
            CatalogChange::Election(ElectionChange::Adopt { base, .. }) => return self.table_name(*base),
            CatalogChange::Election(_) => return None,
            CatalogChange::DropTable { oid, .. }
            | CatalogChange::DropSequence { oid, .. }
            | CatalogChange::Truncate { oid, .. }
            | CatalogChange::AddPrimaryKey { oid, .. }
            | CatalogChange::SetRules { oid, .. } => oid,
        };
        self.tables.get(oid).map(String::as_str)
    }

    /// The sequence that has this counter.
    pub fn sequence(&self, counter: StoreId) -> Option<&str> {
        let oid = self.counters.get(&counter)?;
        self.tables.get(oid).map(String::as_str)
    }

    /// Whether a table or sequence of this name ever was.
    pub fn ever_known(&self, table: &str) -> bool {
        self.ever.contains(table)
    }

    /// The key's values; `None` when it is a hidden row id or cannot be read.
    pub fn key(&self, at: Lsn, store: StoreId, key: &[u8]) -> Option<Vec<Named>> {
        let store = self.stores.get(&store)?;
        // A store that its transaction creates is filled before the record that names its key.
        let (_, primary_key) = match store.keys.as_slice() {
            [only] if only.0 == store.created => only,
            keys => keys.iter().rfind(|(from, _)| *from <= at)?,
        };
        let columns: Option<Vec<&ColumnDef>> = primary_key
            .columns
            .iter()
            .map(|&index| store.columns.get(index))
            .collect();
        let columns = columns?;
        let types: Vec<DataType> = columns.iter().map(|column| column.ty).collect();
        let values = Key::decode(key, &types).ok()?;
        Some(
            columns
                .iter()
                .zip(&values)
                .map(|(column, value)| named(column, &value.as_datum()))
                .collect(),
        )
    }

    /// All columns of a row; `None` when the bytes cannot be read.
    pub fn row(&self, store: StoreId, bytes: &[u8]) -> Option<Vec<Named>> {
        let store = self.stores.get(&store)?;
        store.layout.validate(bytes).ok()?;
        let row = store.layout.row(bytes);
        // A row has the columns that there were when it was written.
        Some(
            store
                .columns
                .iter()
                .enumerate()
                .take(row.width())
                .map(|(index, column)| named(column, &row.get(index)))
                .collect(),
        )
    }

    /// The collision rules of a table, for a line's notes.
    pub fn rules(&self, oid: u32, rules: &Rules) -> Vec<(&'static str, String)> {
        let store = self.stores.values().find(|store| store.table == oid);
        let columns = store.map(|store| Arc::clone(&store.columns)).unwrap_or_default();
        let name = |column: usize| columns.get(column).map_or("?", |column| &column.name);
        let of_columns = rules.columns.iter();
        let of_columns = of_columns.map(|(column, rule)| format!("{}: {}", name(*column), rule.text()));
        let notes = [
            (
                "row",
                rules.row.map(|rule| rule.text(&columns)).unwrap_or_default(),
            ),
            ("fuzzy", rules.fuzzy.text()),
            ("columns", of_columns.collect::<Vec<_>>().join("; ")),
        ];
        notes.into_iter().filter(|(_, text)| !text.is_empty()).collect()
    }

    /// The columns that an update changed, before and after.
    pub fn update(&self, store: StoreId, before: &[u8], after: &[u8]) -> Option<(Vec<Named>, Vec<Named>)> {
        let store = self.stores.get(&store)?;
        store.layout.validate(after).ok()?;
        let row = store.layout.row(after);
        let old = store.layout.decode_before(before).ok()?;
        let pairs = old.iter().map(|(index, datum)| {
            let column = store.columns.get(*index)?;
            Some((named(column, datum), named(column, &row.get(*index))))
        });
        pairs
            .collect::<Option<Vec<_>>>()
            .map(|pairs| pairs.into_iter().unzip())
    }
}

fn named(column: &ColumnDef, datum: &Datum<'_>) -> Named {
    let value = as_text(datum, &column.ty, &TimeZone::utc());
    let quoted = !matches!(
        column.ty,
        DataType::Bool
            | DataType::Int2
            | DataType::Int4
            | DataType::Int8
            | DataType::Float4
            | DataType::Float8
            | DataType::Numeric(_)
    );
    Named {
        column: column.name.clone(),
        value,
        quoted,
    }
}
