//! Objects as the SQL that makes them.

use super::relations::Indexed;
use crate::analytic::quote_ident;
use scry_engine::{CheckDef, ForeignKeyDef, KeyAction, KeyMatch, Table};

/// Column numbers of an index, from 1.
pub fn key_columns(index: &Indexed<'_>) -> Vec<i64> {
    index.columns.iter().map(|column| *column as i64 + 1).collect()
}

fn column_names(index: &Indexed<'_>) -> String {
    names_of(index.table, index.columns)
}

fn names_of(table: &Table, columns: &[usize]) -> String {
    let names = columns
        .iter()
        .map(|column| quote_ident(&table.def.columns[*column].name));
    names.collect::<Vec<_>>().join(", ")
}

/// `CASCADE`; `NO ACTION` goes without saying in definitions.
pub fn action_name(action: KeyAction) -> &'static str {
    match action {
        KeyAction::NoAction => "NO ACTION",
        KeyAction::Restrict => "RESTRICT",
        KeyAction::Cascade => "CASCADE",
        KeyAction::SetNull => "SET NULL",
        KeyAction::SetDefault => "SET DEFAULT",
    }
}

/// `FOREIGN KEY (a) REFERENCES t(id) ON DELETE CASCADE`, of a table that refers to `parent`.
pub fn foreign_key_definition(table: &Table, key: &ForeignKeyDef, parent: &Table) -> String {
    let mut text = format!(
        "FOREIGN KEY ({}) REFERENCES {}({})",
        names_of(table, &key.columns),
        quote_ident(&parent.def.name),
        names_of(parent, &key.referenced)
    );
    if key.matching == KeyMatch::Full {
        text += " MATCH FULL";
    }
    for (when, action) in [("UPDATE", key.on_update), ("DELETE", key.on_delete)] {
        if action != KeyAction::NoAction {
            text += &format!(" ON {when} {}", action_name(action));
        }
    }
    for (is, words) in [
        (key.deferrable, " DEFERRABLE"),
        (key.deferred, " INITIALLY DEFERRED"),
        (!key.validated, " NOT VALID"),
    ] {
        if is {
            text += words;
        }
    }
    text
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
