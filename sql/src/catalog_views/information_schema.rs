//! The SQL standard's views of tables, columns and keys.

use super::describe::action_name;
use super::objects;
use super::relations::{checked, foreign_keys, indexed, referenced_index, tables};
use super::types::format_type;
use super::view::{Cell, View, row};
use crate::analytic::{DATABASE, Scope};
use crate::plan::column_default;
use crate::types as sql_types;
use scry_engine::{DataType, KeyMatch, Table, UniqueKey};

const SCHEMA: &str = "information_schema";

pub const VIEWS: &[View] = &[
    View {
        schema: SCHEMA,
        name: "tables",
        columns: "table_catalog name, table_schema name, table_name name, table_type text, \
                  self_referencing_column_name name, reference_generation text, user_defined_type_catalog name, \
                  user_defined_type_schema name, user_defined_type_name name, is_insertable_into text, is_typed text, \
                  commit_action text",
        rows: |scope| {
            let row = |schema: &'static str, name: String, kind: &'static str, writable: &'static str| {
                row![
                    DATABASE,
                    schema,
                    name,
                    kind,
                    Cell::Null,
                    Cell::Null,
                    Cell::Null,
                    Cell::Null,
                    Cell::Null,
                    writable,
                    "NO",
                    Cell::Null,
                ]
            };
            let user_tables =
                tables(scope).map(|table| row("public", table.def.name.clone(), "BASE TABLE", "YES"));
            let views = super::all().map(|view| row(view.schema, view.name.to_owned(), "VIEW", "NO"));
            user_tables.chain(views).collect()
        },
    },
    View {
        schema: SCHEMA,
        name: "columns",
        columns: "table_catalog name, table_schema name, table_name name, column_name name, ordinal_position int4, \
                  column_default text, is_nullable text, data_type text, character_maximum_length int4, \
                  character_octet_length int4, numeric_precision int4, numeric_precision_radix int4, \
                  numeric_scale int4, datetime_precision int4, interval_type text, collation_name name, \
                  domain_name name, udt_catalog name, udt_schema name, udt_name name, is_identity text, \
                  identity_generation text, is_generated text, generation_expression text, is_updatable text",
        rows: columns,
    },
    View {
        schema: SCHEMA,
        name: "schemata",
        columns: "catalog_name name, schema_name name, schema_owner name, default_character_set_catalog name, \
                  default_character_set_schema name, default_character_set_name name, sql_path text",
        rows: |scope| {
            objects::SCHEMAS
                .iter()
                .map(|(name, _)| {
                    let owner = scope.user.to_string();
                    row![
                        DATABASE,
                        *name,
                        owner,
                        Cell::Null,
                        Cell::Null,
                        Cell::Null,
                        Cell::Null
                    ]
                })
                .collect()
        },
    },
    View {
        schema: SCHEMA,
        name: "table_constraints",
        columns: "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, \
                  table_schema name, table_name name, constraint_type text, is_deferrable text, \
                  initially_deferred text, enforced text",
        rows: |scope| {
            let yes_or_no = |is: bool| if is { "YES" } else { "NO" };
            let row = |table: &Table, name: &str, kind: &'static str, (deferrable, deferred)| {
                row![
                    DATABASE,
                    "public",
                    name.to_owned(),
                    DATABASE,
                    "public",
                    table.def.name.clone(),
                    kind,
                    yes_or_no(deferrable),
                    yes_or_no(deferred),
                    "YES",
                ]
            };
            let at_once = (false, false);
            let keys = indexed(scope).filter(|index| index.constraint().is_some());
            let keys = keys.map(|index| {
                let kind = if index.primary { "PRIMARY KEY" } else { "UNIQUE" };
                row(index.table, index.name, kind, at_once)
            });
            let checks = checked(scope).map(|(table, _, check)| row(table, &check.name, "CHECK", at_once));
            let foreign = foreign_keys(scope).map(|(table, _, key, _)| {
                row(table, &key.name, "FOREIGN KEY", (key.deferrable, key.deferred))
            });
            keys.chain(checks).chain(foreign).collect()
        },
    },
    View {
        schema: SCHEMA,
        name: "key_column_usage",
        columns: "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, \
                  table_schema name, table_name name, column_name name, ordinal_position int4, \
                  position_in_unique_constraint int4",
        rows: |scope| {
            let mut rows = Vec::new();
            let mut add = |table: &Table, name: &str, columns: &[usize], within: &dyn Fn(usize) -> Cell| {
                for (position, column) in columns.iter().enumerate() {
                    rows.push(row![
                        DATABASE,
                        "public",
                        name.to_owned(),
                        DATABASE,
                        "public",
                        table.def.name.clone(),
                        table.def.columns[*column].name.clone(),
                        position + 1,
                        within(position),
                    ]);
                }
            };
            for index in indexed(scope).filter(|index| index.constraint().is_some()) {
                add(index.table, index.name, index.columns, &|_| Cell::Null);
            }
            for (table, _, key, parent) in foreign_keys(scope) {
                let columns = match parent.def.unique_key(&key.referenced) {
                    Some(UniqueKey::Index(number)) => &parent.def.indexes[number].columns[..],
                    _ => parent.key_columns().unwrap_or_default(),
                };
                add(table, &key.name, &key.columns, &|position| {
                    let column = key.referenced[position];
                    let place = columns.iter().position(|known| *known == column);
                    place.map_or(Cell::Null, |place| Cell::from(place + 1))
                });
            }
            rows
        },
    },
    View {
        schema: SCHEMA,
        name: "referential_constraints",
        columns: "constraint_catalog name, constraint_schema name, constraint_name name, \
                  unique_constraint_catalog name, unique_constraint_schema name, unique_constraint_name name, \
                  match_option text, update_rule text, delete_rule text",
        rows: |scope| {
            foreign_keys(scope)
                .map(|(_, _, key, parent)| {
                    let unique = referenced_index(parent, key).map(|(_, name)| name.to_owned());
                    row![
                        DATABASE,
                        "public",
                        key.name.clone(),
                        DATABASE,
                        "public",
                        unique,
                        match key.matching {
                            KeyMatch::Simple => "NONE",
                            KeyMatch::Full => "FULL",
                        },
                        action_name(key.on_update),
                        action_name(key.on_delete),
                    ]
                })
                .collect()
        },
    },
    View {
        schema: SCHEMA,
        name: "constraint_column_usage",
        columns: "table_catalog name, table_schema name, table_name name, column_name name, \
                  constraint_catalog name, constraint_schema name, constraint_name name",
        rows: |scope| {
            let mut rows = Vec::new();
            let mut add = |table: &Table, name: &str, columns: &[usize]| {
                for column in columns {
                    rows.push(row![
                        DATABASE,
                        "public",
                        table.def.name.clone(),
                        table.def.columns[*column].name.clone(),
                        DATABASE,
                        "public",
                        name.to_owned(),
                    ]);
                }
            };
            for index in indexed(scope).filter(|index| index.constraint().is_some()) {
                add(index.table, index.name, index.columns);
            }
            for (_, _, key, parent) in foreign_keys(scope) {
                add(parent, &key.name, &key.referenced);
            }
            rows
        },
    },
    View {
        schema: SCHEMA,
        name: "check_constraints",
        columns: "constraint_catalog name, constraint_schema name, constraint_name name, check_clause text",
        rows: |scope| {
            checked(scope)
                .map(|(_, _, check)| {
                    let clause = format!("(({}))", check.expression);
                    row![DATABASE, "public", check.name.clone(), clause]
                })
                .collect()
        },
    },
];

fn columns(scope: &Scope) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for table in tables(scope) {
        for (index, column) in table.def.live_columns() {
            let length = match column.ty {
                DataType::Varchar(length) => length,
                DataType::Char(length) => Some(length),
                _ => None,
            };
            let octets = match (column.ty.is_text(), length) {
                (true, Some(length)) => Cell::Int(i64::from(length) * 4),
                (true, None) => Cell::Int(1 << 30),
                _ => Cell::Null,
            };
            let (precision, radix, scale) = match column.ty {
                DataType::Int2 => (Some(16), Some(2), Some(0)),
                DataType::Int4 => (Some(32), Some(2), Some(0)),
                DataType::Int8 => (Some(64), Some(2), Some(0)),
                DataType::Float4 => (Some(24), Some(2), None),
                DataType::Float8 => (Some(53), Some(2), None),
                DataType::Numeric(Some((precision, scale))) => {
                    (Some(i32::from(precision)), Some(10), Some(i32::from(scale)))
                }
                DataType::Numeric(None) => (None, Some(10), None),
                _ => (None, None, None),
            };
            let time_precision = match column.ty {
                DataType::Date => Some(0),
                DataType::Time | DataType::Timestamp | DataType::TimestampTz => Some(6),
                _ => None,
            };
            rows.push(row![
                DATABASE,
                "public",
                table.def.name.clone(),
                column.name.clone(),
                index + 1,
                column
                    .default_expression()
                    .map(|text| column_default::shown(text, &scope.catalog)),
                if column.not_null { "NO" } else { "YES" },
                format_type(sql_types::oid(&column.ty), None),
                length,
                octets,
                precision,
                radix,
                scale,
                time_precision,
                Cell::Null,
                Cell::Null,
                Cell::Null,
                DATABASE,
                "pg_catalog",
                sql_types::internal_name(&column.ty),
                if column.identity().is_some() { "YES" } else { "NO" },
                column
                    .identity()
                    .map(|(_, always)| if always { "ALWAYS" } else { "BY DEFAULT" }),
                if column.generated().is_some() {
                    "ALWAYS"
                } else {
                    "NEVER"
                },
                column.generated().map(str::to_owned),
                "YES",
            ]);
        }
    }
    rows
}
