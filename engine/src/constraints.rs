//! What rows must satisfy beyond their types.
//!
//! Conditions are expressions, which the engine does not understand. Whoever writes a row through a transaction has checked it;
//! where the engine itself makes rows, or brings in rows that were checked against an older definition, it asks `RowRules`.

use crate::Row;
use crate::catalog::{Table, TableDef};
use crate::error::Error;
use crate::txn::Txn;

/// Knows what the conditions of tables mean.
pub trait RowRules: Send + Sync {
    /// Refuses a row that makes a condition of its table false.
    ///
    /// # Errors
    /// `CheckViolation`.
    fn check(&self, table: &Table, row: &[u8]) -> Result<(), Error>;

    /// The row with the values of its generated columns.
    ///
    /// # Errors
    /// `NotGenerated`.
    fn complete(&self, table: &Table, row: &Row) -> Result<Row, Error>;
}

impl TableDef {
    /// Whether every row that satisfies `other`, a definition of the same data, satisfies this one.
    pub(crate) fn is_satisfied_by(&self, other: &TableDef) -> bool {
        let mut columns = self.columns.iter().enumerate();
        self.checks.iter().all(|check| other.checks.contains(check))
            && columns.all(|(number, here)| match other.columns.get(number) {
                Some(there) => there.not_null || !here.not_null,
                None => !here.not_null || here.missing.as_ref().is_some_and(|value| !value.is_null()),
            })
    }
}

impl Txn {
    /// A row that the engine has made, with the values of its generated columns.
    pub(crate) fn completed(&self, table: &Table, row: Row) -> Result<Row, Error> {
        let generates = table
            .def
            .columns
            .iter()
            .any(|column| column.generated().is_some());
        match self.engine.row_rules.get() {
            Some(rules) if generates => rules.complete(table, &row),
            _ => Ok(row),
        }
    }

    /// Refuses a row that its table cannot have.
    pub(crate) fn check_new_row(&self, table: &Table, row: &[u8]) -> Result<(), Error> {
        let read = table.layout.row(row);
        for (number, column) in table.def.columns.iter().enumerate() {
            if column.not_null && read.is_null(number) {
                return Err(Error::NotNullViolation {
                    table: table.def.name.clone(),
                    column: column.name.clone(),
                });
            }
        }
        match self.engine.row_rules.get() {
            Some(rules) if !table.def.checks.is_empty() => rules.check(table, row),
            _ => Ok(()),
        }
    }
}
