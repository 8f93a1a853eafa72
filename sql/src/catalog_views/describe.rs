//! Objects as the SQL that makes them.

use crate::analytic::quote_ident;
use scry_engine::{CheckDef, PrimaryKey, Table};

/// Column numbers of a key, from 1.
pub fn key_columns(key: &PrimaryKey) -> Vec<i64> {
    key.columns.iter().map(|column| *column as i64 + 1).collect()
}

fn column_names(table: &Table, key: &PrimaryKey) -> String {
    let names = key
        .columns
        .iter()
        .map(|column| quote_ident(&table.def.columns[*column].name));
    names.collect::<Vec<_>>().join(", ")
}

/// `PRIMARY KEY (a, b)`.
pub fn constraint_definition(table: &Table, key: &PrimaryKey) -> String {
    format!("PRIMARY KEY ({})", column_names(table, key))
}

/// `CHECK ((a > 0))`.
pub fn check_definition(check: &CheckDef) -> String {
    format!("CHECK (({}))", check.expression)
}

/// `CREATE UNIQUE INDEX t_pkey ON public.t USING btree (a, b)`.
pub fn index_definition(table: &Table, key: &PrimaryKey) -> String {
    format!(
        "CREATE UNIQUE INDEX {} ON public.{} USING btree ({})",
        quote_ident(&key.name),
        quote_ident(&table.def.name),
        column_names(table, key)
    )
}
