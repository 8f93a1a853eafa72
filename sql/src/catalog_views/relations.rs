//! Tables, columns, keys and schemas.

use super::describe::{index_definition, key_columns};
use super::objects::{self, PG_CATALOG, PUBLIC, ROLE};
use super::view::{Cell, View, row};
use crate::analytic::Scope;
use crate::plan::column_default;
use crate::types::{self as sql_types, TimeZone};
use scry_engine::{
    Catalog, CheckDef, ColumnDef, ColumnDefault, ForeignKeyDef, KeyAction, KeyMatch, Table, UniqueKey,
};
use std::sync::Arc;

pub const VIEWS: &[View] = &[
    View {
        schema: "pg_catalog",
        name: "pg_class",
        columns: "oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, \
                  relfilenode oid, reltablespace oid, relpages int4, reltuples float4, relallvisible int4, \
                  reltoastrelid oid, relhasindex bool, relisshared bool, relpersistence char, relkind char, \
                  relnatts int2, relchecks int2, relhasrules bool, relhastriggers bool, relhassubclass bool, \
                  relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, relreplident char, \
                  relispartition bool, relrewrite oid, relfrozenxid xid, relminmxid xid, relacl aclitem[], \
                  reloptions text[], relpartbound pg_node_tree",
        rows: classes,
    },
    View {
        schema: "pg_catalog",
        name: "pg_attribute",
        columns: "attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, attnum int2, \
                  attndims int4, attcacheoff int4, atttypmod int4, attbyval bool, attalign char, attstorage char, \
                  attcompression char, attnotnull bool, atthasdef bool, atthasmissing bool, attidentity char, \
                  attgenerated char, attisdropped bool, attislocal bool, attinhcount int4, attcollation oid, \
                  attacl aclitem[], attoptions text[], attfdwoptions text[], attmissingval text",
        rows: attributes,
    },
    View {
        schema: "pg_catalog",
        name: "pg_attrdef",
        columns: "oid oid, adrelid oid, adnum int2, adbin pg_node_tree",
        rows: defaults,
    },
    View {
        schema: "pg_catalog",
        name: "pg_index",
        columns: "indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, \
                  indnullsnotdistinct bool, indisprimary bool, indisexclusion bool, indimmediate bool, \
                  indisclustered bool, indisvalid bool, indcheckxmin bool, indisready bool, indislive bool, \
                  indisreplident bool, indkey int2vector, indcollation oidvector, indclass oidvector, \
                  indoption int2vector, indexprs pg_node_tree, indpred pg_node_tree",
        rows: indexes,
    },
    View {
        schema: "pg_catalog",
        name: "pg_constraint",
        columns: "oid oid, conname name, connamespace oid, contype char, condeferrable bool, condeferred bool, \
                  convalidated bool, conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid, \
                  confupdtype char, confdeltype char, confmatchtype char, conislocal bool, coninhcount int4, \
                  connoinherit bool, conkey int2vector, confkey int2vector, conpfeqop oid[], conppeqop oid[], \
                  conffeqop oid[], confdelsetcols int2vector, conexclop oid[], conbin pg_node_tree",
        rows: constraints,
    },
    View {
        schema: "pg_catalog",
        name: "pg_namespace",
        columns: "oid oid, nspname name, nspowner oid, nspacl aclitem[]",
        rows: |_| {
            objects::SCHEMAS
                .iter()
                .map(|(name, oid)| row![*oid, *name, ROLE, Cell::Null])
                .collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_am",
        columns: "oid oid, amname name, amhandler text, amtype char",
        rows: |_| {
            vec![
                row![objects::HEAP, "heap", "heap_tableam_handler", "t"],
                row![objects::BTREE, "btree", "bthandler", "i"],
            ]
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_tables",
        columns: "schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, hasrules bool, \
                  hastriggers bool, rowsecurity bool",
        rows: |scope| {
            tables(scope)
                .map(|table| {
                    let keyed = table.def.primary_key.is_some() || !table.def.indexes.is_empty();
                    let owner = scope.user.to_string();
                    row![
                        "public",
                        table.def.name.clone(),
                        owner,
                        Cell::Null,
                        keyed,
                        false,
                        has_triggers(table),
                        false
                    ]
                })
                .collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_indexes",
        columns: "schemaname name, tablename name, indexname name, tablespace name, indexdef text",
        rows: |scope| {
            indexed(scope)
                .map(|index| {
                    row![
                        "public",
                        index.table.def.name.clone(),
                        index.name.to_owned(),
                        Cell::Null,
                        index_definition(&index)
                    ]
                })
                .collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_stat_user_tables",
        columns: "relid oid, schemaname name, relname name, n_live_tup int8, n_dead_tup int8",
        rows: |scope| {
            tables(scope)
                .map(|table| {
                    row![
                        table.def.oid,
                        "public",
                        table.def.name.clone(),
                        live_rows(table),
                        0
                    ]
                })
                .collect()
        },
    },
];

pub fn tables(scope: &Scope) -> impl Iterator<Item = &Arc<Table>> {
    scope.catalog.tables()
}

/// CHECK constraints, each with its table and its number there.
pub fn checked(scope: &Scope) -> impl Iterator<Item = (&Arc<Table>, usize, &CheckDef)> {
    tables(scope).flat_map(|table| {
        let checks = table.def.checks.iter().enumerate();
        checks.map(move |(number, check)| (table, number, check))
    })
}

/// Foreign keys, each with its table, its number there, and the table that it refers to.
pub fn foreign_keys(
    scope: &Scope,
) -> impl Iterator<Item = (&Arc<Table>, usize, &ForeignKeyDef, &Arc<Table>)> {
    tables(scope).flat_map(move |table| {
        let keys = table.def.foreign_keys.iter().enumerate();
        keys.filter_map(move |(number, key)| Some((table, number, key, scope.catalog.by_oid(key.table)?)))
    })
}

/// The index of the key that a foreign key refers to.
pub fn referenced_index<'t>(parent: &'t Table, key: &ForeignKeyDef) -> Option<(u32, &'t str)> {
    match parent.def.unique_key(&key.referenced)? {
        UniqueKey::Primary => {
            let primary = parent.def.primary_key.as_ref()?;
            Some((objects::key_index(parent.def.oid), &primary.name))
        }
        UniqueKey::Index(number) => {
            let index = &parent.def.indexes[number];
            Some((index.oid, &index.name))
        }
    }
}

/// An index as PostgreSQL's clients know it; a primary key is one.
pub struct Indexed<'s> {
    pub table: &'s Table,
    pub oid: u32,
    pub name: &'s str,
    pub columns: &'s [usize],
    pub unique: bool,
    pub primary: bool,
    /// Whether queries may use it: not while it is being filled, nor when that was given up.
    valid: bool,
    /// Whether a constraint stands on it.
    constrains: bool,
}

impl Indexed<'_> {
    /// The oid of the constraint that stands on it.
    pub fn constraint(&self) -> Option<u32> {
        let of = if self.primary {
            self.table.def.oid
        } else {
            self.oid
        };
        self.constrains.then(|| objects::key_constraint(of))
    }
}

/// All indexes.
pub fn indexed(scope: &Scope) -> impl Iterator<Item = Indexed<'_>> {
    indexed_of(&scope.catalog)
}

/// All indexes of a catalog: of each table, its primary key first.
pub fn indexed_of(catalog: &Catalog) -> impl Iterator<Item = Indexed<'_>> {
    catalog.tables().flat_map(|table| {
        let key = table.def.primary_key.as_ref().map(|key| Indexed {
            table,
            oid: objects::key_index(table.def.oid),
            name: &key.name,
            columns: &key.columns,
            unique: true,
            primary: true,
            valid: true,
            constrains: true,
        });
        let others = table.def.indexes.iter().map(move |index| Indexed {
            table,
            oid: index.oid,
            name: &index.name,
            columns: &index.columns,
            unique: index.unique,
            primary: false,
            valid: index.valid,
            constrains: index.constraint,
        });
        key.into_iter().chain(others)
    })
}

fn live_rows(table: &Table) -> i64 {
    i64::try_from(table.live_rows()).unwrap_or(i64::MAX)
}

/// Whether PostgreSQL would have triggers of foreign keys on the table. There are none here, but psql asks for foreign keys only then.
fn has_triggers(table: &Table) -> bool {
    !table.def.foreign_keys.is_empty() || !table.def.referenced_by.is_empty()
}

/// One row of `pg_class`.
struct Class {
    oid: u32,
    name: String,
    namespace: u32,
    kind: &'static str,
    access_method: u32,
    tuples: f64,
    columns: usize,
    checks: usize,
    indexed: bool,
    triggers: bool,
}

impl Class {
    fn row(self) -> Vec<Cell> {
        let file = if self.kind == "v" { 0 } else { self.oid };
        row![
            self.oid,
            self.name,
            self.namespace,
            0,
            0,
            ROLE,
            self.access_method,
            file,
            0,
            0,
            Cell::Float(self.tuples),
            0,
            0,
            self.indexed,
            false,
            "p",
            self.kind,
            self.columns,
            self.checks,
            false,
            self.triggers,
            false,
            false,
            false,
            true,
            if self.kind == "r" { "d" } else { "n" },
            false,
            0,
            0,
            0,
            Cell::Null,
            Cell::Null,
            Cell::Null,
        ]
    }
}

fn classes(scope: &Scope) -> Vec<Vec<Cell>> {
    let user_tables = tables(scope).map(|table| Class {
        oid: table.def.oid,
        name: table.def.name.clone(),
        namespace: PUBLIC,
        kind: "r",
        access_method: objects::HEAP,
        tuples: table.live_rows() as f64,
        columns: table.def.columns.len(),
        checks: table.def.checks.len(),
        indexed: table.def.primary_key.is_some() || !table.def.indexes.is_empty(),
        triggers: has_triggers(table),
    });
    let key_indexes = indexed(scope).map(|index| Class {
        oid: index.oid,
        name: index.name.to_owned(),
        namespace: PUBLIC,
        kind: "i",
        access_method: objects::BTREE,
        tuples: index.table.live_rows() as f64,
        columns: index.columns.len(),
        checks: 0,
        indexed: false,
        triggers: false,
    });
    let views = super::all().enumerate().map(|(number, view)| Class {
        oid: objects::view(view.name, number),
        name: view.name.to_owned(),
        namespace: schema_oid(view.schema),
        kind: "v",
        access_method: 0,
        tuples: 0.0,
        columns: view.column_list().count(),
        checks: 0,
        indexed: false,
        triggers: false,
    });
    let sequences = scope.catalog.sequences().iter().map(|sequence| Class {
        oid: sequence.def.oid,
        name: sequence.def.name.clone(),
        namespace: PUBLIC,
        kind: "S",
        access_method: 0,
        tuples: 1.0,
        columns: super::sequences::COLUMNS.len(),
        checks: 0,
        indexed: false,
        triggers: false,
    });
    user_tables
        .chain(key_indexes)
        .chain(sequences)
        .chain(views)
        .map(Class::row)
        .collect()
}

/// The oid of a schema, 0 when there is none of that name.
pub fn schema_oid(name: &str) -> u32 {
    objects::SCHEMAS
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(0, |(_, oid)| *oid)
}

/// (oid, schema oid, name) of every relation.
pub fn relations(scope: &Scope) -> impl Iterator<Item = (u32, u32, String)> {
    let user_tables = tables(scope).map(|table| (table.def.oid, PUBLIC, table.def.name.clone()));
    let indexes = indexed(scope).map(|index| (index.oid, PUBLIC, index.name.to_owned()));
    let views = super::all().enumerate().map(|(number, view)| {
        (
            objects::view(view.name, number),
            schema_oid(view.schema),
            view.name.to_owned(),
        )
    });
    let sequences = scope.catalog.sequences().iter();
    let sequences = sequences.map(|sequence| (sequence.def.oid, PUBLIC, sequence.def.name.clone()));
    user_tables.chain(indexes).chain(sequences).chain(views)
}

/// Whether a relation is found without naming its schema.
pub fn visible(schema: u32) -> bool {
    matches!(schema, PUBLIC | PG_CATALOG)
}

fn attributes(scope: &Scope) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for table in tables(scope) {
        for (index, column) in table.def.columns.iter().enumerate() {
            rows.push(attribute(table.def.oid, index, column));
        }
    }
    for index in indexed(scope) {
        for (position, column) in index.columns.iter().enumerate() {
            let column = &index.table.def.columns[*column];
            let plain = ColumnDef::new(column.name.as_str(), column.ty);
            rows.push(attribute(index.oid, position, &plain));
        }
    }
    for sequence in scope.catalog.sequences().iter() {
        for (position, (name, ty)) in super::sequences::COLUMNS.iter().enumerate() {
            let oid = sequence.def.oid;
            let column = ColumnDef {
                not_null: true,
                ..ColumnDef::new(*name, *ty)
            };
            rows.push(attribute(oid, position, &column));
        }
    }
    rows
}

/// Where a column's values come from, as `pg_attribute` says it.
#[derive(Default)]
struct Given {
    /// Whether `pg_attrdef` has an expression.
    default: bool,
    identity: &'static str,
    generated: &'static str,
}

fn given_by(column: &ColumnDef) -> Given {
    match &column.default {
        None => Given::default(),
        Some(ColumnDefault::Expression(_)) => Given {
            default: true,
            ..Given::default()
        },
        Some(ColumnDefault::Identity { always, .. }) => Given {
            identity: if *always { "a" } else { "d" },
            ..Given::default()
        },
        Some(ColumnDefault::Generated(_)) => Given {
            default: true,
            generated: "s",
            ..Given::default()
        },
    }
}

fn attribute(relation: u32, index: usize, column: &ColumnDef) -> Vec<Cell> {
    let (ty, given) = (&column.ty, given_by(column));
    // As PostgreSQL has it: a constant for the rows that lack the column, an array of one.
    let missing = column
        .missing
        .as_ref()
        .filter(|value| !value.is_null() && !column.dropped);
    let missing_text = missing.and_then(|value| sql_types::as_text(&value.as_datum(), ty, &TimeZone::utc()));
    let length = sql_types::type_length(ty);
    let (storage, align) = match length {
        -1 if matches!(ty, scry_engine::DataType::Numeric(_)) => ("m", "i"),
        -1 => ("x", "i"),
        1 => ("p", "c"),
        2 => ("p", "s"),
        8 => ("p", "d"),
        _ => ("p", "i"),
    };
    let collation = if ty.is_text() {
        objects::DEFAULT_COLLATION
    } else {
        0
    };
    row![
        relation,
        column.name.clone(),
        if column.dropped { 0 } else { sql_types::oid(ty) },
        -1,
        i32::from(length),
        index + 1,
        0,
        -1,
        sql_types::type_modifier(ty),
        matches!(length, 1..=8),
        align,
        storage,
        "",
        column.not_null,
        given.default,
        missing.is_some(),
        given.identity,
        given.generated,
        column.dropped,
        true,
        0,
        collation,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        missing_text.map(|text| format!("{{{text}}}")),
    ]
}

fn defaults(scope: &Scope) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for table in tables(scope) {
        for (index, column) in table.def.columns.iter().enumerate() {
            let text = column.default_expression().or(column.generated());
            if let Some(text) = text {
                let oid = objects::column_default(table.def.oid, index + 1);
                let text = column_default::shown(text, &scope.catalog);
                rows.push(row![oid, table.def.oid, index + 1, text]);
            }
        }
    }
    rows
}

fn indexes(scope: &Scope) -> Vec<Vec<Cell>> {
    indexed(scope)
        .map(|index| {
            let count = index.columns.len();
            let text = |column: &usize| index.table.def.columns[*column].ty.is_text();
            let collations = index.columns.iter().map(|c| {
                if text(c) {
                    i64::from(objects::DEFAULT_COLLATION)
                } else {
                    0
                }
            });
            row![
                index.oid,
                index.table.def.oid,
                count,
                count,
                index.unique,
                false,
                index.primary,
                false,
                true,
                false,
                index.valid,
                false,
                true,
                true,
                false,
                Cell::Ints(key_columns(&index)),
                Cell::Ints(collations.collect()),
                Cell::Ints(vec![0; count]),
                Cell::Ints(vec![0; count]),
                Cell::Null,
                Cell::Null,
            ]
        })
        .collect()
}

/// One row of `pg_constraint`.
struct Constraint<'s> {
    oid: u32,
    name: String,
    kind: &'static str,
    table: u32,
    index: u32,
    columns: Vec<i64>,
    condition: Option<String>,
    foreign: Option<&'s ForeignKeyDef>,
}

/// Column numbers, from 1.
fn column_numbers(columns: &[usize]) -> Vec<i64> {
    columns.iter().map(|column| *column as i64 + 1).collect()
}

fn action_code(action: KeyAction) -> &'static str {
    match action {
        KeyAction::NoAction => "a",
        KeyAction::Restrict => "r",
        KeyAction::Cascade => "c",
        KeyAction::SetNull => "n",
        KeyAction::SetDefault => "d",
    }
}

impl Constraint<'_> {
    fn row(self) -> Vec<Cell> {
        let key = self.foreign;
        let code = |action: fn(&ForeignKeyDef) -> KeyAction| key.map_or(" ", |key| action_code(action(key)));
        let matching = |key: &ForeignKeyDef| match key.matching {
            KeyMatch::Simple => "s",
            KeyMatch::Full => "f",
        };
        row![
            self.oid,
            self.name,
            PUBLIC,
            self.kind,
            key.is_some_and(|key| key.deferrable),
            key.is_some_and(|key| key.deferred),
            key.is_none_or(|key| key.validated),
            self.table,
            0,
            self.index,
            0,
            key.map_or(0, |key| key.table),
            code(|key| key.on_update),
            code(|key| key.on_delete),
            key.map_or(" ", matching),
            true,
            0,
            self.kind != "c",
            Cell::Ints(self.columns),
            key.map_or(Cell::Null, |key| Cell::Ints(column_numbers(&key.referenced))),
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Null,
            self.condition,
        ]
    }
}

fn constraints(scope: &Scope) -> Vec<Vec<Cell>> {
    let keys = indexed(scope).filter_map(|index| {
        Some(Constraint {
            oid: index.constraint()?,
            name: index.name.to_owned(),
            kind: if index.primary { "p" } else { "u" },
            table: index.table.def.oid,
            index: index.oid,
            columns: key_columns(&index),
            condition: None,
            foreign: None,
        })
    });
    let checks = checked(scope).map(|(table, number, check)| Constraint {
        oid: objects::check_constraint(table.def.oid, number),
        name: check.name.clone(),
        kind: "c",
        table: table.def.oid,
        index: 0,
        columns: Vec::new(),
        condition: Some(check.expression.clone()),
        foreign: None,
    });
    let foreign = foreign_keys(scope).map(|(table, number, key, parent)| Constraint {
        oid: objects::foreign_key(table.def.oid, number),
        name: key.name.clone(),
        kind: "f",
        table: table.def.oid,
        index: referenced_index(parent, key).map_or(0, |(oid, _)| oid),
        columns: column_numbers(&key.columns),
        condition: None,
        foreign: Some(key),
    });
    keys.chain(checks).chain(foreign).map(Constraint::row).collect()
}
