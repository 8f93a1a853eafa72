//! Objects as the SQL that makes them.

use super::relations::Indexed;
use crate::analytic::quote_ident;
use scry_engine::CheckDef;

/// Column numbers of an index, from 1.
pub fn key_columns(index: &Indexed<'_>) -> Vec<i64> {
    index.columns.iter().map(|column| *column as i64 + 1).collect()
}

fn column_names(index: &Indexed<'_>) -> String {
    let names = index
        .columns
        .iter()
        .map(|column| quote_ident(&index.table.def.columns[*column].name));
    names.collect::<Vec<_>>().join(", ")
}

/// `PRIMARY KEY (a, b)` or `UNIQUE (a, b)`.
pub fn constraint_definition(index: &Indexed<'_>) -> String {
    let kind = if index.primary { "PRIMARY KEY" } else { "UNIQUE" };
    format!("{kind} ({})", column_names(index))
}

/// `CHECK ((a > 0))`.
pub fn check_definition(check: &CheckDef) -> String {
    format!("CHECK (({}))", check.expression)
}

/// `CREATE UNIQUE INDEX t_pkey ON public.t USING btree (a, b)`.
pub fn index_definition(index: &Indexed<'_>) -> String {
    format!(
        "CREATE {}INDEX {} ON public.{} USING btree ({})",
        if index.unique { "UNIQUE " } else { "" },
        quote_ident(index.name),
        quote_ident(&index.table.def.name),
        column_names(index)
    )
}
