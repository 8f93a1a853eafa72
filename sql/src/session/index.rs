//! CREATE INDEX, DROP INDEX and UNIQUE constraints at work.

use super::Session;
use super::ddl::notice;
use super::dependents::Dependent;
use crate::constraint;
use crate::error::{Error, SqlState};
use crate::plan::select::no_such_table;
use crate::plan::{create_table, parse};
use scry_engine::{NewIndex, Table, UniqueKey};
use sqlparser::ast;
use std::sync::Arc;

impl Session {
    pub(super) async fn create_index(&mut self, create: &ast::CreateIndex) -> Result<(), Error> {
        match self.new_index(create)? {
            Some((table, new)) => self.add_index(&table, new).await,
            None => Ok(()),
        }
    }

    /// CREATE INDEX CONCURRENTLY, which makes transactions of its own.
    pub(super) async fn create_index_online(&mut self, create: &ast::CreateIndex) -> Result<(), Error> {
        if self.transaction.has_begun() {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "CREATE INDEX CONCURRENTLY cannot run inside a transaction block",
            ));
        }
        let txn = self.transaction.statement(&mut self.engine, &self.settings)?;
        txn.not_in_candidate("CREATE INDEX")?;
        let found = self.new_index(create)?;
        self.transaction.let_go();
        let Some((table, new)) = found else { return Ok(()) };
        let making = self.engine.create_index_online(&table, new);
        let made = self.interrupt.locking(making).await??;
        self.transaction.note_read(made);
        self.answerable().await
    }

    /// The index that a statement asks for; `None`: it is there, and that is allowed.
    fn new_index(&mut self, create: &ast::CreateIndex) -> Result<Option<(Arc<Table>, NewIndex)>, Error> {
        create_table::check_index(create)?;
        let name = parse::table(&create.table_name)?;
        let table = self.table(&name)?.ok_or_else(|| no_such_table(&name))?;
        let columns = create_table::index_columns(&create.columns, &table.def.columns)?;
        let catalog = self.catalog();
        let name = match &create.name {
            None => {
                let taken = |name: &str| catalog.has_relation(name);
                create_table::index_name(&table.def.name, &columns, &table.def.columns, "idx", taken)
            }
            Some(name) => {
                let name = parse::table(name)?;
                create_table::check_name(&name)?;
                if create.if_not_exists && catalog.has_relation(&name) {
                    let text = format!("relation \"{name}\" already exists, skipping");
                    self.notices.push(notice(SqlState::DUPLICATE_TABLE, text));
                    return Ok(None);
                }
                name
            }
        };
        let new = NewIndex {
            name,
            columns,
            unique: create.unique,
            constraint: false,
        };
        Ok(Some((table, new)))
    }

    pub(super) async fn add_unique(
        &mut self,
        table: &Arc<Table>,
        given: Option<&str>,
        columns: &[String],
    ) -> Result<(), Error> {
        let columns = create_table::key_columns(columns, &table.def.columns)?;
        let name = match given {
            Some(name) => name.to_owned(),
            None => {
                let catalog = self.catalog();
                let taken = |name: &str| catalog.has_relation(name) || constraint::is_taken(name, &table.def);
                create_table::index_name(&table.def.name, &columns, &table.def.columns, "key", taken)
            }
        };
        let new = NewIndex {
            name,
            columns,
            unique: true,
            constraint: true,
        };
        self.add_index(table, new).await
    }

    async fn add_index(&mut self, table: &Arc<Table>, new: NewIndex) -> Result<(), Error> {
        let txn = self.transaction.open_txn()?;
        self.interrupt.locking(txn.create_index(table, new)).await??;
        Ok(())
    }

    pub(super) async fn drop_indexes(
        &mut self,
        names: &[String],
        if_exists: bool,
        cascade: bool,
    ) -> Result<(), Error> {
        for name in names {
            let catalog = self.catalog();
            let Some((table, number)) = catalog.index(name) else {
                let text = format!("index \"{name}\" does not exist");
                if if_exists {
                    let text = format!("{text}, skipping");
                    self.notices.push(notice(SqlState::SUCCESSFUL_COMPLETION, text));
                    continue;
                }
                let is_key = catalog.tables().find(|table| {
                    let key = table.def.primary_key.as_ref();
                    key.is_some_and(|key| key.name == *name)
                });
                return Err(match is_key {
                    Some(table) => required(name, table),
                    None => Error::new(SqlState::UNDEFINED_OBJECT, text),
                });
            };
            if table.def.indexes[number].constraint {
                return Err(required(name, table));
            }
            let what = format!("index {name}");
            self.drop_index_of(table, number, &what, cascade).await?;
        }
        Ok(())
    }

    /// Drops the n-th index of a table, which `what` stands on or is.
    pub(super) async fn drop_index_of(
        &mut self,
        table: &Arc<Table>,
        number: usize,
        what: &str,
        cascade: bool,
    ) -> Result<(), Error> {
        let name = &table.def.indexes[number].name;
        let mut dependents = Vec::new();
        for (child, key) in self.transaction.open_txn()?.references_to(table) {
            let referenced = &child.def.foreign_keys[key].referenced;
            if table.def.unique_key(referenced) == Some(UniqueKey::Index(number)) {
                dependents.push(Dependent::foreign_key(&child, key, format!("index {name}")));
            }
        }
        self.release(Some(what), &dependents, cascade).await?;
        // The foreign keys that have gone may have been its own.
        let now = self.table_of(table.def.oid)?;
        let txn = self.transaction.open_txn()?;
        self.interrupt.locking(txn.drop_index(&now, name)).await??;
        Ok(())
    }
}

/// An index that a constraint stands on.
fn required(index: &str, table: &Table) -> Error {
    let relation = &table.def.name;
    Error::new(
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot drop index {index} because constraint {index} on table {relation} requires it"),
    )
    .with_hint(format!(
        "You can drop constraint {index} on table {relation} instead."
    ))
}
