//! Foreign keys on the session's side: what waits for the end of the transaction, and what TRUNCATE reaches.

use super::Session;
use super::ddl::notice;
use super::utility::warn;
use crate::error::{Error, SqlState};
use scry_engine::Table;
use std::sync::Arc;

impl Session {
    /// Before the transaction is committed: checks what was deferred to its end. When that fails, it is rolled back.
    pub(super) async fn check_deferred(&mut self) -> Result<(), Error> {
        if self.transaction.foreign_keys.deferred.is_empty() || self.transaction.is_failed() {
            return Ok(());
        }
        let checked = self.check_constraints(true).await;
        if checked.is_err() {
            self.transaction.rollback(&mut self.settings);
        }
        checked
    }

    /// Checks what the transaction has changed against the constraints that are deferred now, or that are not any more.
    async fn check_constraints(&mut self, deferred: bool) -> Result<(), Error> {
        self.transaction.statement(&mut self.engine, &self.settings)?;
        let (txn, foreign_keys) = self.transaction.parts()?;
        let checking = foreign_keys.deferred.check(txn, deferred);
        Ok(self.interrupt.locking(checking).await??)
    }

    /// SET CONSTRAINTS; no names: ALL.
    pub(super) async fn set_constraints(&mut self, names: &[String], deferred: bool) -> Result<(), Error> {
        if !self.transaction.is_explicit() {
            self.notices.push(warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET CONSTRAINTS can only be used in transaction blocks",
            ));
        }
        let catalog = self.catalog();
        for name in names {
            let keys = || catalog.tables().flat_map(|table| &table.def.foreign_keys);
            let of_name: Vec<_> = keys().filter(|key| key.name == *name).collect();
            if of_name.iter().any(|key| !key.deferrable) || of_name.is_empty() {
                let is_known = !of_name.is_empty()
                    || catalog
                        .tables()
                        .any(|table| crate::constraint::is_taken(name, &table.def));
                return Err(match is_known {
                    true => Error::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("constraint \"{name}\" is not deferrable"),
                    ),
                    false => Error::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!("constraint \"{name}\" does not exist"),
                    ),
                });
            }
        }
        if !self.transaction.is_explicit() {
            return Ok(());
        }
        let marks = &mut self.transaction.foreign_keys.deferred;
        marks.modes.set(names, deferred);
        if !deferred && !marks.is_empty() {
            self.check_constraints(false).await?;
            let (txn, foreign_keys) = self.transaction.parts()?;
            foreign_keys.deferred.checked(txn);
        }
        Ok(())
    }

    /// Refuses to change the definition of a table of which something is still to be checked.
    pub(super) fn check_nothing_deferred(&self, what: &str, table: &Table) -> Result<(), Error> {
        match self.transaction.foreign_keys.deferred.has(table.def.oid) {
            false => Ok(()),
            true => Err(Error::new(
                SqlState::OBJECT_IN_USE,
                format!(
                    "cannot {what} \"{}\" because it has pending trigger events",
                    table.def.name
                ),
            )),
        }
    }

    /// The tables that TRUNCATE empties: those that refer to them must be among them, or with CASCADE become so.
    pub(super) fn truncated_together(
        &mut self,
        mut tables: Vec<Arc<Table>>,
        cascade: bool,
    ) -> Result<Vec<Arc<Table>>, Error> {
        let mut next = 0;
        while let Some(table) = tables.get(next).cloned() {
            next += 1;
            for (child, _) in self.transaction.open_txn()?.references_to(&table) {
                if tables.iter().any(|known| known.def.oid == child.def.oid) {
                    continue;
                }
                let name = &child.def.name;
                if !cascade {
                    return Err(Error::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "cannot truncate a table referenced in a foreign key constraint",
                    )
                    .with_detail(format!("Table \"{name}\" references \"{}\".", table.def.name))
                    .with_hint(format!(
                        "Truncate table \"{name}\" at the same time, or use TRUNCATE ... CASCADE."
                    )));
                }
                let text = format!("truncate cascades to table \"{name}\"");
                self.notices.push(notice(SqlState::SUCCESSFUL_COMPLETION, text));
                tables.push(child);
            }
        }
        Ok(tables)
    }
}
