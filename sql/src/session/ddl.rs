//! CREATE TABLE, DROP TABLE and TRUNCATE at work, with the sequences of their columns.

use super::dependents::{Dependent, drawing};
use super::portal::{Params, Portal};
use super::run::Advance;
use super::{Notice, Session};
use crate::error::{Error, SqlState};
use crate::exec::message::Formats;
use crate::plan::create_table::Definition;
use crate::plan::planner::Kind;
use crate::plan::select::no_such_table;
use crate::plan::statement::{SequenceStatement, Statement};
use crate::plan::{create_table, parse};
use crate::session::prepared::Prepared;
use crate::tags::CommandTag;
use bytes::BytesMut;
use scry_engine::{ColumnDef, NewTable, Table};
use sqlparser::ast;
use std::sync::Arc;

/// A notice, which tells and fails nothing.
pub(super) fn notice(code: SqlState, message: String) -> Notice {
    Notice(Error::new(code, message))
}

impl Session {
    pub(super) async fn ddl(&mut self, statement: &Statement) -> Result<Advance, Error> {
        let tag = match statement {
            Statement::CreateTable(_) => "CREATE TABLE",
            Statement::DropTable { .. } => "DROP TABLE",
            Statement::CreateIndex(_) => "CREATE INDEX",
            Statement::DropIndex { .. } => "DROP INDEX",
            Statement::Truncate { .. } => "TRUNCATE TABLE",
            Statement::Sequence(statement) => match **statement {
                SequenceStatement::Create { .. } => "CREATE SEQUENCE",
                SequenceStatement::Drop { .. } => "DROP SEQUENCE",
                _ => "ALTER SEQUENCE",
            },
            _ => "ALTER TABLE",
        };
        self.transaction.check_writable(&self.settings, tag)?;
        if let Statement::CreateIndex(create) = statement
            && create.concurrently
        {
            self.create_index_online(create).await?;
            return Ok(Advance::Complete(CommandTag::Plain(tag)));
        }
        self.transaction.statement(&mut self.engine, &self.settings)?;
        match statement {
            Statement::CreateTable(create) if create.query.is_some() => return self.create_as(create).await,
            Statement::CreateTable(create) => {
                // Before its definition is looked at: names in it are those of the table that is there.
                if !(create.if_not_exists && self.is_there(&parse::table(&create.name)?, true)?) {
                    let catalog = self.catalog();
                    let new = create_table::definition(create, &[], &catalog, &self.facts())?;
                    self.create(new, create.if_not_exists).await?;
                }
            }
            Statement::DropTable {
                names,
                if_exists,
                cascade,
            } => self.drop_tables(names, *if_exists, *cascade).await?,
            Statement::Sequence(statement) => self.sequence(statement).await?,
            Statement::CreateIndex(create) => self.create_index(create).await?,
            Statement::DropIndex {
                names,
                if_exists,
                cascade,
            } => self.drop_indexes(names, *if_exists, *cascade).await?,
            Statement::Truncate {
                names,
                restart_identity,
                cascade,
            } => self.truncate(names, *restart_identity, *cascade).await?,
            Statement::AlterTable {
                table,
                if_exists,
                actions,
            } => self.alter_table(table, *if_exists, actions).await?,
            _ => return Err(Error::internal("not a definition statement")),
        }
        self.transaction.wrote(tag);
        Ok(Advance::Complete(CommandTag::Plain(tag)))
    }

    /// The table's latest form: own changes included.
    pub(super) fn table(&mut self, name: &str) -> Result<Option<Arc<Table>>, Error> {
        Ok(self.transaction.open_txn()?.catalog().table(name).cloned())
    }

    /// The table with this oid, as this transaction has left it.
    pub(super) fn table_of(&mut self, oid: u32) -> Result<Arc<Table>, Error> {
        let now = self.transaction.open_txn()?.catalog().by_oid(oid).cloned();
        now.ok_or_else(|| Error::internal("a table is gone that the statement has locked"))
    }

    /// Whether a table is there that is to be created; refuses unless that is allowed.
    fn is_there(&mut self, name: &str, is_allowed: bool) -> Result<bool, Error> {
        if !self.transaction.open_txn()?.catalog().has_relation(name) {
            return Ok(false);
        }
        let code = SqlState::DUPLICATE_TABLE;
        let text = format!("relation \"{name}\" already exists");
        if !is_allowed {
            return Err(Error::new(code, text));
        }
        self.notices.push(notice(code, format!("{text}, skipping")));
        Ok(true)
    }

    /// False: it existed, and that was allowed.
    async fn create(&mut self, new: Definition, if_not_exists: bool) -> Result<bool, Error> {
        let Definition { mut table, sequences } = new;
        if self.is_there(&table.name, if_not_exists)? {
            return Ok(false);
        }
        let made = self.create_owned(&mut table, &sequences)?;
        let txn = self.transaction.open_txn()?;
        let table = self.interrupt.locking(txn.create_table(table)).await??;
        self.own(&table, &sequences, made).await?;
        Ok(true)
    }

    async fn drop_tables(&mut self, names: &[String], if_exists: bool, cascade: bool) -> Result<(), Error> {
        let mut tables: Vec<Arc<Table>> = Vec::with_capacity(names.len());
        for name in names {
            let Some(table) = self.table(name)? else {
                if self.catalog().sequences().named(name).is_some() {
                    let text = format!("\"{name}\" is not a table");
                    let error = Error::new(SqlState::WRONG_OBJECT_TYPE, text);
                    return Err(error.with_hint("Use DROP SEQUENCE to remove a sequence."));
                }
                let text = format!("table \"{name}\" does not exist");
                if if_exists {
                    self.notices.push(notice(
                        SqlState::SUCCESSFUL_COMPLETION,
                        format!("{text}, skipping"),
                    ));
                    continue;
                }
                return Err(Error::new(SqlState::UNDEFINED_TABLE, text));
            };
            self.check_nothing_deferred("DROP TABLE", &table)?;
            if !tables.iter().any(|known| known.def.oid == table.def.oid) {
                tables.push(table);
            }
        }
        let what = match tables.as_slice() {
            [only] => Some(format!("table {}", only.def.name)),
            _ => None,
        };
        let dependents = self.dependents_of(&tables)?;
        self.release(what.as_deref(), &dependents, cascade).await?;
        for table in tables {
            // As those before have left it.
            let table = self.table_of(table.def.oid)?;
            let txn = self.transaction.open_txn()?;
            self.interrupt.locking(txn.drop_table(&table)).await??;
            self.drop_owned(table.def.oid, None).await?;
        }
        Ok(())
    }

    /// What stays and depends on tables that are to go together.
    fn dependents_of(&mut self, tables: &[Arc<Table>]) -> Result<Vec<Dependent>, Error> {
        let txn = self.transaction.open_txn()?;
        let goes = |oid: u32| tables.iter().any(|table| table.def.oid == oid);
        let mut found = Vec::new();
        for table in tables.iter().rev() {
            for sequence in txn.catalog().sequences().owned_by(table.def.oid) {
                found.extend(drawing(txn.catalog(), &sequence.def, |table, _| goes(table)));
            }
            for (child, number) in txn.references_to(table) {
                if !goes(child.def.oid) {
                    let on = format!("table {}", table.def.name);
                    found.push(Dependent::foreign_key(&child, number, on));
                }
            }
        }
        Ok(found)
    }

    async fn truncate(
        &mut self,
        names: &[String],
        restart_identity: bool,
        cascade: bool,
    ) -> Result<(), Error> {
        let mut tables: Vec<Arc<Table>> = Vec::with_capacity(names.len());
        for name in names {
            let table = self.table(name)?.ok_or_else(|| no_such_table(name))?;
            self.check_nothing_deferred("TRUNCATE", &table)?;
            if !tables.iter().any(|known| known.def.oid == table.def.oid) {
                tables.push(table);
            }
        }
        for table in self.truncated_together(tables, cascade)? {
            self.check_nothing_deferred("TRUNCATE", &table)?;
            let txn = self.transaction.open_txn()?;
            self.interrupt.locking(txn.truncate(&table)).await??;
            if restart_identity {
                self.restart_owned(&table).await?;
            }
        }
        Ok(())
    }

    /// CREATE TABLE … AS: the table from the query's columns, then INSERT … SELECT.
    async fn create_as(&mut self, create: &ast::CreateTable) -> Result<Advance, Error> {
        let Some(query) = &create.query else {
            return Err(Error::internal("CREATE TABLE AS without a query"));
        };
        let planned = self.plan(&Statement::Query(query.clone()), &[])?;
        if !planned.params.is_empty() {
            return Err(Error::unsupported("CREATE TABLE AS with parameters"));
        }
        let result = planned.columns.as_deref().unwrap_or_default();
        let types = super::query::column_types(result);
        let mut columns: Vec<ColumnDef> = Vec::with_capacity(result.len());
        for (index, (column, ty)) in result.iter().zip(types).enumerate() {
            let name = match create.columns.get(index) {
                Some(named) => parse::ident(&named.name),
                None => column.name.clone(),
            };
            if columns.iter().any(|known| known.name == name) {
                return Err(Error::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{name}\" specified more than once"),
                ));
            }
            columns.push(ColumnDef::new(name, ty));
        }
        let name = parse::table(&create.name)?;
        let new = NewTable {
            name: name.clone(),
            columns,
            primary_key: None,
            ..NewTable::default()
        };
        let new = Definition {
            table: new,
            sequences: Vec::new(),
        };
        if !self.create(new, create.if_not_exists).await? {
            return Ok(Advance::Complete(CommandTag::Plain("CREATE TABLE AS")));
        }
        self.transaction.wrote("CREATE TABLE AS");
        let mut insert = parse::statement("INSERT INTO t SELECT 1")?;
        if let Statement::Insert(insert) = &mut insert {
            insert.ast.table = ast::TableObject::TableName(create.name.clone());
            insert.ast.source = Some(query.clone());
        }
        match self.run_made(insert).await? {
            CommandTag::Insert(rows) => Ok(Advance::Complete(CommandTag::Select(rows))),
            _ => Err(Error::internal("CREATE TABLE AS did not end as an INSERT")),
        }
    }

    /// Runs a statement that writes rows as a part of another.
    pub(super) async fn run_made(&mut self, statement: Statement) -> Result<CommandTag, Error> {
        let planned = Arc::new(self.plan(&statement, &[])?);
        if !matches!(planned.kind, Kind::Row(_)) {
            return Err(Error::internal("a statement without row plan"));
        }
        let prepared = Arc::new(Prepared::new("".into(), statement, Vec::new(), planned.clone()));
        let mut portal = Portal::new(prepared, planned, Params::default(), Formats::Text);
        let mut nothing = BytesMut::new();
        match Box::pin(self.start_planned(&mut portal, 0, &mut nothing)).await? {
            Advance::Complete(tag) => Ok(tag),
            _ => Err(Error::internal("a part of a statement did not end")),
        }
    }
}
