//! Foreign keys on the session's side: what waits for the end of the transaction, and what hangs on a table or on its keys.

use super::Session;
use super::ddl::notice;
use super::utility::warn;
use crate::error::{Error, SqlState};
use crate::exec::foreign_keys::check_changes;
use scry_engine::{Catalog, Table, UniqueKey};
use std::sync::Arc;

/// A foreign key: the table that refers, and the constraint's name.
type Dependent = (Arc<Table>, String);

/// The foreign keys of other tables that refer to a table, or to one key of it.
fn dependents(catalog: &Catalog, table: &Table, unique: Option<UniqueKey>) -> Vec<Dependent> {
    let mut found = Vec::new();
    for child in catalog.tables() {
        if child.def.oid == table.def.oid && unique.is_none() {
            continue;
        }
        for key in &child.def.foreign_keys {
            let refers = key.table == table.def.oid;
            if refers && (unique.is_none() || table.def.unique_key(&key.referenced) == unique) {
                found.push((Arc::clone(child), key.name.clone()));
            }
        }
    }
    found
}

/// 2BP01 with PostgreSQL's wording. `on`: what they depend on.
fn still_needed(what: &str, dependents: &[Dependent], on: impl Fn(&Dependent) -> String) -> Error {
    let line = |dependent: &Dependent| {
        let (child, name) = dependent;
        let on = on(dependent);
        format!("constraint {name} on table {} depends on {on}", child.def.name)
    };
    let lines: Vec<String> = dependents.iter().map(line).collect();
    Error::new(
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot drop {what} because other objects depend on it"),
    )
    .with_detail(lines.join("\n"))
    .with_hint("Use DROP ... CASCADE to drop the dependent objects too.")
}

impl Session {
    /// Before the transaction is committed: checks what was deferred to its end. When that fails, it is rolled back.
    pub(super) async fn check_deferred(&mut self) -> Result<(), Error> {
        if !self.transaction.foreign_keys.has_deferred() || self.transaction.is_failed() {
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
        let checking = check_changes(txn, &foreign_keys.modes, deferred);
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
        self.transaction.foreign_keys.modes.set(names, deferred);
        if !deferred && self.transaction.foreign_keys.has_deferred() {
            self.check_constraints(false).await?;
        }
        Ok(())
    }

    /// Refuses to change the definition of a table of which something is still to be checked.
    pub(super) fn check_nothing_deferred(&self, what: &str, table: &Table) -> Result<(), Error> {
        match self.transaction.foreign_keys.defers(table.def.oid) {
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

    /// Before these tables are dropped together: refuses when others refer to them, or tells that their constraints go, too.
    pub(super) fn check_unreferenced_tables(
        &mut self,
        tables: &[Arc<Table>],
        cascade: bool,
    ) -> Result<(), Error> {
        let catalog = self.catalog();
        let goes = |child: &Table| tables.iter().any(|table| table.def.oid == child.def.oid);
        let mut on = Vec::new();
        for table in tables {
            let of_others = dependents(&catalog, table, None).into_iter();
            on.extend(
                of_others
                    .filter(|(child, _)| !goes(child))
                    .map(|dependent| (dependent, table)),
            );
        }
        if on.is_empty() {
            return Ok(());
        }
        let all: Vec<Dependent> = on.iter().map(|(dependent, _)| dependent.clone()).collect();
        if cascade {
            self.tell_cascade(&all);
            return Ok(());
        }
        let what = match tables {
            [only] => format!("table {}", only.def.name),
            _ => "desired object(s)".to_owned(),
        };
        let mut refused = still_needed(&what, &all, |dependent| {
            let of = on.iter().find(|(known, _)| known.1 == dependent.1);
            format!("table {}", of.map_or("", |(_, table)| &table.def.name))
        });
        if tables.len() > 1 {
            refused.message = refused.message.replace("depend on it", "depend on them");
        }
        Err(refused)
    }

    fn tell_cascade(&mut self, dependents: &[Dependent]) {
        let line = |(child, name): &Dependent| {
            format!("drop cascades to constraint {name} on table {}", child.def.name)
        };
        let told = match dependents {
            [only] => notice(SqlState::SUCCESSFUL_COMPLETION, line(only)),
            many => {
                let lines: Vec<String> = many.iter().map(line).collect();
                let text = format!("drop cascades to {} other objects", many.len());
                let mut told = notice(SqlState::SUCCESSFUL_COMPLETION, text);
                told.0 = told.0.with_detail(lines.join("\n"));
                told
            }
        };
        self.notices.push(told);
    }

    /// Before a unique key of a table is dropped: refuses when foreign keys refer to it, or drops these.
    pub(super) async fn release_key(
        &mut self,
        table: &Arc<Table>,
        unique: UniqueKey,
        (kind, name): (&str, &str),
        cascade: bool,
    ) -> Result<(), Error> {
        let catalog = self.catalog();
        let dependents = dependents(&catalog, table, Some(unique));
        if dependents.is_empty() {
            return Ok(());
        }
        if !cascade {
            let what = match kind {
                "index" => format!("index {name}"),
                "column" => format!("column {name} of table {}", table.def.name),
                _ => format!("constraint {name} on table {}", table.def.name),
            };
            return Err(still_needed(&what, &dependents, |_| match kind {
                "column" => what.clone(),
                _ => format!("index {name}"),
            }));
        }
        self.tell_cascade(&dependents);
        for (child, name) in &dependents {
            // As the last one has left it.
            let txn = self.transaction.open_txn()?;
            let Some(child) = txn.catalog().by_oid(child.def.oid).cloned() else {
                continue;
            };
            let dropping = txn.drop_foreign_key(&child, name);
            self.interrupt.locking(dropping).await??;
        }
        Ok(())
    }

    /// The tables that TRUNCATE empties: those that refer to them must be among them, or with CASCADE become so.
    pub(super) fn truncated_together(
        &mut self,
        mut tables: Vec<Arc<Table>>,
        cascade: bool,
    ) -> Result<Vec<Arc<Table>>, Error> {
        let catalog = self.catalog();
        let mut next = 0;
        while let Some(table) = tables.get(next).cloned() {
            next += 1;
            for (child, _) in dependents(&catalog, &table, None) {
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
