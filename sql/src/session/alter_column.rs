//! ALTER TABLE … ADD COLUMN and DROP COLUMN at work.
//!
//! Adding a column writes no row: what the rows that are there have in it is evaluated once and kept with the definition. Only where
//! that is not one value, or a large one, the rows are updated: so do numbers of a sequence come into them, and generated columns.

use super::Session;
use super::ddl::notice;
use super::dependents::{Dependent, drawing};
use super::sequence::owned_by;
use crate::constraint;
use crate::error::{Error, SqlState};
use crate::generated;
use crate::plan::scalar::{self, Binder, Env, ParamTypes, Refusal};
use crate::plan::statement::{AlterAction, Statement};
use crate::plan::{column_default, create_table, parse};
use scry_engine::collision::ColumnRule;
use scry_engine::{ColumnDef, MISSING_BYTES_MAX, RowLayout, Table, Value};
use sqlparser::ast;
use std::sync::Arc;

impl Session {
    /// Behind ADD COLUMN comes `text`.
    pub(super) async fn add_column(
        &mut self,
        table: &Arc<Table>,
        text: &str,
        if_not_exists: bool,
    ) -> Result<(), Error> {
        let (mut create, name) = parsed(text, &table.def.name)?;
        let relation = &table.def.name;
        if table.column(&name).is_some() {
            let text = format!("column \"{name}\" of relation \"{relation}\" already exists");
            if !if_not_exists {
                return Err(Error::new(SqlState::DUPLICATE_COLUMN, text));
            }
            let text = format!("{text}, skipping");
            self.notices.push(notice(SqlState::DUPLICATE_COLUMN, text));
            return Ok(());
        }
        let constraints = take_constraints(&mut create.columns[0], &name)?;
        let (before, catalog) = (&table.def.columns, self.catalog());
        let made = create_table::definition(&create, before, &catalog, &self.facts());
        let mut made = made.map_err(Error::nowhere)?;
        let sequences = self.create_owned(&mut made.table, &made.sequences)?;
        let Some(mut column) = made.table.columns.into_iter().next() else {
            return Err(Error::internal("a column without definition"));
        };
        let missing = match column.generated() {
            Some(_) => None,
            None => self.missing_value(&column)?,
        };
        let not_null = std::mem::replace(&mut column.not_null, false);
        if missing == Some(Value::Null) && not_null {
            self.check_rows(table, |_: &[u8]| {
                Err(Error::from(scry_engine::Error::NotNullViolation {
                    table: relation.clone(),
                    column: name.clone(),
                }))
            })
            .await?;
        }
        column.not_null = not_null && missing.is_some();
        column.missing = Some(missing.clone().unwrap_or(Value::Null));
        let mut def = table.def.clone();
        def.columns.push(column);
        let txn = self.transaction.open_txn()?;
        let mut now = self.interrupt.locking(txn.redefine(table, def)).await??;
        for wanted in &mut made.sequences {
            wanted.column = table.def.columns.len();
        }
        self.own(&now, &made.sequences, sequences).await?;
        let mut next = Vec::new();
        if missing.is_none() {
            self.fill_column(&now, &name).await?;
            next.extend(not_null.then(|| AlterAction::SetNotNull {
                column: name.clone(),
                not_null,
            }));
        }
        for action in next.into_iter().chain(constraints) {
            Box::pin(self.alter(&now, &action)).await?;
            now = self.table_of(table.def.oid)?;
        }
        Ok(())
    }

    /// What all rows that are there have in a new column; `None`: each another value, or too large a one.
    fn missing_value(&self, column: &ColumnDef) -> Result<Option<Value>, Error> {
        let facts = self.facts();
        let mut types = ParamTypes::default();
        let compiled = column_default::compiled(column, &mut Binder::new(&mut types, &facts));
        let Some(default) = compiled.map_err(Refusal::into_error)? else {
            return Ok(Some(Value::Null));
        };
        if default.is_volatile() {
            return Ok(None);
        }
        let value = scalar::eval(&default, &Env::new(&[], &facts))?.into_value();
        let row = RowLayout::new(&[column.ty]).encode(std::slice::from_ref(&value))?;
        Ok((row.len() <= MISSING_BYTES_MAX).then_some(value))
    }

    /// Gives every row its default in a new column.
    async fn fill_column(&mut self, table: &Table, column: &str) -> Result<(), Error> {
        let txn = self.transaction.open_txn()?;
        if txn.isolation().keeps_snapshot() {
            // Rows that are newer than the snapshot would be left out.
            return Err(Error::unsupported(
                "adding a column with a volatile default under this isolation level",
            ));
        }
        txn.statement();
        let quoted = |name: &str| ast::Ident::with_quote('"', name);
        let update = format!(
            "UPDATE {} SET {} = DEFAULT",
            quoted(&table.def.name),
            quoted(column)
        );
        self.run_made(parse::statement(&update)?).await.map(drop)
    }

    pub(super) async fn drop_column(
        &mut self,
        table: &Arc<Table>,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<(), Error> {
        let relation = &table.def.name;
        let Some(number) = table.column(name) else {
            let text = format!("column \"{name}\" of relation \"{relation}\" does not exist");
            if !if_exists {
                return Err(Error::new(SqlState::UNDEFINED_COLUMN, text));
            }
            let text = format!("{text}, skipping");
            self.notices.push(notice(SqlState::SUCCESSFUL_COMPLETION, text));
            return Ok(());
        };
        if table.key_columns().is_some_and(|key| key.contains(&number)) {
            return Err(Error::unsupported("dropping a column of the primary key"));
        }
        let by_name = |rule: &ColumnRule| matches!(rule, ColumnRule::Expression(_));
        if table.rules.columns.iter().any(|(_, rule)| by_name(rule)) {
            return Err(Error::unsupported(
                "dropping a column of a table with collision rules that are expressions",
            ));
        }
        let oid = table.def.oid;
        let what = format!("column {name} of table {relation}");
        let dependents = self.dependents_of_column(table, number, &what)?;
        self.release(Some(&what), &dependents, cascade).await?;
        // The foreign keys that have gone may have been its own.
        let mut now = self.table_of(oid)?;
        while let Some(key) = now
            .def
            .foreign_keys
            .iter()
            .find(|key| key.columns.contains(&number))
        {
            let txn = self.transaction.open_txn()?;
            let dropping = txn.drop_foreign_key(&now, &key.name);
            self.interrupt.locking(dropping).await??;
            now = self.table_of(oid)?;
        }
        let table = &now;
        let mut def = table.def.clone();
        def.indexes.retain(|index| !index.columns.contains(&number));
        let mut checks = Vec::new();
        for check in std::mem::take(&mut def.checks) {
            if !constraint::names(&check, number, &table.def)? {
                checks.push(check);
            }
        }
        def.checks = checks;
        def.drop_column(number);
        let txn = self.transaction.open_txn()?;
        self.interrupt.locking(txn.redefine(table, def)).await??;
        self.drop_owned(oid, Some(number)).await
    }

    /// What stays and depends on a column that is to go.
    fn dependents_of_column(
        &mut self,
        table: &Table,
        number: usize,
        what: &str,
    ) -> Result<Vec<Dependent>, Error> {
        let txn = self.transaction.open_txn()?;
        let (catalog, oid) = (txn.catalog(), table.def.oid);
        let mut found = Vec::new();
        for sequence in owned_by(catalog, oid, Some(number)) {
            let goes = |table, column| (table, column) == (oid, number);
            found.extend(drawing(catalog, &sequence.def, goes));
        }
        for (child, key) in txn.references_to(table) {
            let def = &child.def.foreign_keys[key];
            let goes = child.def.oid == oid && def.columns.contains(&number);
            if def.referenced.contains(&number) && !goes {
                found.push(Dependent::foreign_key(&child, key, what.to_owned()));
            }
        }
        for (other, _) in table.def.live_columns() {
            if other != number && generated::is_made_of(&table.def, other, number)? {
                found.push(Dependent::column(table, other, what.to_owned()));
            }
        }
        Ok(found)
    }
}

/// A column's definition as the only one of a table of that name, and the column's name.
fn parsed(text: &str, table: &str) -> Result<(ast::CreateTable, String), Error> {
    let statement = parse::statement(&format!("CREATE TABLE t ({text})")).map_err(Error::nowhere)?;
    let Statement::CreateTable(create) = statement else {
        return Err(Error::syntax("syntax error in ALTER TABLE"));
    };
    let mut create = ast::CreateTable::clone(&create);
    create.name = vec![ast::Ident::with_quote('"', table)].into();
    match create.columns.as_slice() {
        [column] if create.constraints.is_empty() && create.query.is_none() => {
            let name = parse::ident(&column.name);
            Ok((create, name))
        }
        _ => Err(Error::syntax("syntax error in ALTER TABLE")),
    }
}

/// Takes the constraints off a column's definition: they are added when the column is there.
fn take_constraints(column: &mut ast::ColumnDef, name: &str) -> Result<Vec<AlterAction>, Error> {
    let mut actions = Vec::new();
    let mut rest = Vec::new();
    for option in std::mem::take(&mut column.options) {
        let constraint = option.name.as_ref().map(parse::ident);
        let columns = || vec![name.to_owned()];
        match &option.option {
            ast::ColumnOption::Check(check) => actions.push(AlterAction::AddCheck {
                constraint,
                condition: check.expr.to_string(),
            }),
            ast::ColumnOption::Unique(unique) => {
                create_table::check_unique(unique)?;
                actions.push(AlterAction::AddUnique {
                    constraint,
                    columns: columns(),
                });
            }
            ast::ColumnOption::PrimaryKey(_) => actions.push(AlterAction::AddPrimaryKey {
                constraint,
                columns: columns(),
            }),
            ast::ColumnOption::ForeignKey(key) => {
                let mut key = Box::new(key.clone());
                key.columns = vec![ast::Ident::with_quote('"', name)];
                actions.push(AlterAction::AddForeignKey {
                    constraint,
                    key,
                    validated: true,
                });
            }
            _ => rest.push(option),
        }
    }
    column.options = rest;
    Ok(actions)
}
