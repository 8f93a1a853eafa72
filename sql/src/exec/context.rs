//! What every execution of a row plan is given.

use crate::error::{Error, SqlState};
use crate::exec::foreign_keys::ForeignKeys;
use crate::exec::interrupt::Interrupt;
use crate::exec::message::Formats;
use crate::plan::access;
use crate::plan::scalar::{Env, Facts};
use crate::types;
use bytes::BytesMut;
use scry_engine::{Table, Txn, Value};
use scry_wal::Lsn;

/// One execution.
pub struct Exec<'a> {
    pub txn: &'a mut Txn,
    pub foreign_keys: &'a mut ForeignKeys,
    pub interrupt: &'a Interrupt,
    pub params: &'a [Value],
    pub facts: &'a Facts<'a>,
    pub formats: &'a Formats,
    /// Highest LSN that cursors have read, beside what the transaction knows.
    pub read: Lsn,
}

impl<'a> Exec<'a> {
    /// Parameters and session facts, no row.
    #[inline]
    pub fn env(&self) -> Env<'a> {
        Env::new(self.params, self.facts)
    }

    pub fn depends_on(&mut self, lsn: Lsn) {
        self.read = self.read.max(lsn);
    }
}

/// A row in the way PostgreSQL prints one in error details: `(1, null, abc)`.
pub fn row_text(table: &Table, row: &[Value], facts: &Facts<'_>) -> String {
    let mut text = BytesMut::new();
    let values = row.iter().zip(&table.def.columns);
    for (index, (value, column)) in values.filter(|(_, column)| !column.dropped).enumerate() {
        if index > 0 {
            text.extend_from_slice(b", ");
        }
        if value.is_null() {
            text.extend_from_slice(b"null");
        } else {
            types::write_text(&mut text, &value.as_datum(), &column.ty, facts.zone);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// 23502 with PostgreSQL's wording.
#[cold]
pub fn not_null(table: &Table, column: usize) -> Error {
    let name = &table.def.columns[column].name;
    let relation = &table.def.name;
    Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!("null value in column \"{name}\" of relation \"{relation}\" violates not-null constraint"),
    )
    .with_table(relation.clone())
    .with_column(name.clone())
}

/// The same, with the row.
#[cold]
pub fn not_null_violation(table: &Table, column: usize, row: &[Value], facts: &Facts<'_>) -> Error {
    not_null(table, column).with_detail(format!("Failing row contains ({}).", row_text(table, row, facts)))
}

/// 23505 with PostgreSQL's wording.
#[cold]
pub fn unique_violation(table: &Table, row: &[u8], facts: &Facts<'_>) -> Error {
    let constraint = table.def.primary_key.as_ref().map_or("", |key| key.name.as_str());
    let values = access::key_values(table, row);
    let names: Vec<&str> = values.iter().map(|(name, ..)| name.as_str()).collect();
    let mut text = BytesMut::new();
    for (index, (_, value, ty)) in values.iter().enumerate() {
        if index > 0 {
            text.extend_from_slice(b", ");
        }
        types::write_text(&mut text, &value.as_datum(), ty, facts.zone);
    }
    Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{constraint}\""),
    )
    .with_detail(format!(
        "Key ({})=({}) already exists.",
        names.join(", "),
        String::from_utf8_lossy(&text)
    ))
    .with_table(table.def.name.clone())
    .with_constraint(constraint)
}
