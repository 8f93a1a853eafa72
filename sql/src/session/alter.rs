//! ALTER TABLE at work.

use super::Session;
use super::ddl::notice;
use crate::collision;
use crate::constraint;
use crate::error::{Error, SqlState};
use crate::generated;
use crate::plan::column_default;
use crate::plan::dml;
use crate::plan::select::no_such_table;
use crate::plan::sequence::SequenceClauses;
use crate::plan::statement::{AlterAction, RuleChange};
use crate::plan::{create_table, foreign_key, parse};
use scry_engine::collision::ColumnRule;
use scry_engine::{ColumnDefault, ForeignKeyDef, IndexDef, PrimaryKey, Table, TableDef};
use std::sync::Arc;

impl Session {
    pub(super) async fn alter_table(
        &mut self,
        name: &str,
        if_exists: bool,
        actions: &[AlterAction],
    ) -> Result<(), Error> {
        let Some(mut table) = self.table(name)? else {
            if !if_exists {
                return Err(no_such_table(name));
            }
            let text = format!("relation \"{name}\" does not exist, skipping");
            self.notices.push(notice(SqlState::SUCCESSFUL_COMPLETION, text));
            return Ok(());
        };
        if !actions.iter().all(AlterAction::renames) {
            self.check_nothing_deferred("ALTER TABLE", &table)?;
        }
        // As PostgreSQL orders them: a column's name may be given anew.
        let mut actions: Vec<&AlterAction> = actions.iter().collect();
        actions.sort_by_key(|action| match action {
            AlterAction::DropColumn { .. } | AlterAction::DropConstraint { .. } => 0,
            AlterAction::AddColumn { .. } => 1,
            _ => 2,
        });
        for action in actions {
            self.alter(&table, action).await?;
            // What the next action changes is what this one has left.
            table = self.table_of(table.def.oid)?;
        }
        Ok(())
    }

    pub(super) async fn alter(&mut self, table: &Arc<Table>, action: &AlterAction) -> Result<(), Error> {
        let mut def = table.def.clone();
        if let Some(name) = action.adds_constraint() {
            create_table::check_name(name)?;
            if constraint::is_taken(name, &def) {
                return Err(constraint::already_exists(name, &def.name));
            }
        }
        match action {
            AlterAction::OwnerTo => return Ok(()),
            AlterAction::AddColumn {
                definition,
                if_not_exists,
            } => return self.add_column(table, definition, *if_not_exists).await,
            AlterAction::DropColumn {
                name,
                if_exists,
                cascade,
            } => return self.drop_column(table, name, *if_exists, *cascade).await,
            AlterAction::SetRules(changes) => return self.set_rules(table, changes).await,
            AlterAction::AddPrimaryKey { constraint, columns } => {
                return self.add_key(table, constraint.as_deref(), columns).await;
            }
            AlterAction::AddUnique { constraint, columns } => {
                return self.add_unique(table, constraint.as_deref(), columns).await;
            }
            AlterAction::AddCheck {
                constraint: name,
                condition,
            } => {
                let parsed = parse::expression(condition).map_err(Error::nowhere)?;
                let check = constraint::definition(name.clone(), &parsed, &def).map_err(Error::nowhere)?;
                self.check_rows(table, constraint::validator(&check, table)?)
                    .await?;
                def.checks.push(check);
            }
            AlterAction::AddForeignKey {
                constraint: name,
                key,
                validated,
            } => {
                let catalog = self.catalog();
                let key = foreign_key::definition(key, name.clone(), None, &def, &catalog);
                let key = ForeignKeyDef {
                    validated: *validated,
                    ..key.map_err(Error::nowhere)?
                };
                let txn = self.transaction.open_txn()?;
                self.interrupt.locking(txn.add_foreign_key(table, key)).await??;
                return Ok(());
            }
            AlterAction::ValidateConstraint(name) => return self.validate_constraint(table, name).await,
            AlterAction::DropConstraint {
                name,
                if_exists,
                cascade,
            } => {
                let found = def.checks.iter().position(|check| check.name == *name);
                let unique = |index: &IndexDef| index.constraint && index.name == *name;
                if let Some(found) = found {
                    def.checks.remove(found);
                } else if def.foreign_keys.iter().any(|key| key.name == *name) {
                    let txn = self.transaction.open_txn()?;
                    self.interrupt
                        .locking(txn.drop_foreign_key(table, name))
                        .await??;
                    return Ok(());
                } else if let Some(found) = def.indexes.iter().position(unique) {
                    let what = format!("constraint {name} on table {}", def.name);
                    return self.drop_index_of(table, found, &what, *cascade).await;
                } else if constraint::is_taken(name, &def) {
                    return Err(Error::unsupported("dropping a primary key"));
                } else {
                    let text = no_constraint(name, &def);
                    if !if_exists {
                        return Err(Error::new(SqlState::UNDEFINED_OBJECT, text));
                    }
                    let text = format!("{text}, skipping");
                    self.notices.push(notice(SqlState::SUCCESSFUL_COMPLETION, text));
                    return Ok(());
                }
            }
            AlterAction::RenameConstraint { from, to } => {
                create_table::check_name(to)?;
                if constraint::is_taken(to, &def) {
                    return Err(constraint::already_exists(to, &def.name));
                }
                let unique = |index: &IndexDef| index.constraint && index.name == *from;
                if let Some(key) = def.foreign_keys.iter_mut().find(|key| key.name == *from) {
                    to.clone_into(&mut key.name);
                    let txn = self.transaction.open_txn()?;
                    self.interrupt.locking(txn.redefine(table, def)).await??;
                    return Ok(());
                }
                match def.checks.iter().position(|check| check.name == *from) {
                    Some(check) => to.clone_into(&mut def.checks[check].name),
                    None if def.indexes.iter().any(unique) => {
                        for index in def.indexes.iter_mut().filter(|index| unique(index)) {
                            to.clone_into(&mut index.name);
                        }
                    }
                    None if constraint::is_taken(from, &def) => {
                        return Err(Error::unsupported("renaming a primary key"));
                    }
                    None => {
                        return Err(Error::new(
                            SqlState::UNDEFINED_OBJECT,
                            no_constraint_for(from, &def),
                        ));
                    }
                }
            }
            AlterAction::SetDefault { column, default } => {
                let number = dml::column(table, column)?;
                check_plain(table, number, default.is_none())?;
                let parsed = default.as_deref().map(parse::expression).transpose();
                let parsed = parsed.map_err(Error::nowhere)?;
                if let Some(parsed) = &parsed {
                    create_table::check_default(parsed, &def.columns[number], &self.facts())
                        .map_err(Error::nowhere)?;
                }
                let catalog = self.catalog();
                let text = parsed
                    .map(|parsed| column_default::stored(&parsed, &catalog))
                    .transpose();
                def.columns[number].default = text.map_err(Error::nowhere)?.map(ColumnDefault::Expression);
            }
            AlterAction::AddIdentity {
                column,
                always,
                clauses,
            } => {
                let number = dml::column(table, column)?;
                let default = self.add_identity(table, number, *always, clauses).await?;
                def.columns[number].default = Some(default);
            }
            AlterAction::AlterIdentity {
                column,
                always: when,
                clauses,
            } => {
                let number = dml::column(table, column)?;
                let Some((sequence, always)) = def.columns[number].identity() else {
                    return Err(not_that(table, number, "an identity column"));
                };
                if *clauses != SequenceClauses::default() {
                    let known = self.identity_sequence(sequence)?;
                    self.alter_sequence(&known, clauses, Some(column)).await?;
                }
                let always = when.unwrap_or(always);
                def.columns[number].default = Some(ColumnDefault::Identity { sequence, always });
            }
            AlterAction::DropIdentity { column, if_exists } => {
                let number = dml::column(table, column)?;
                match def.columns[number].identity() {
                    Some((sequence, _)) => self.drop_identity(sequence).await?,
                    None => return self.not_that(table, number, "an identity column", *if_exists),
                }
                def.columns[number].default = None;
            }
            AlterAction::DropExpression { column, if_exists } => {
                let number = dml::column(table, column)?;
                if def.columns[number].generated().is_none() {
                    return self.not_that(table, number, "a stored generated column", *if_exists);
                }
                def.columns[number].default = None;
            }
            AlterAction::SetNotNull { column, not_null } => {
                let number = dml::column(table, column)?;
                let is_key = table.key_columns().is_some_and(|key| key.contains(&number));
                if !not_null && is_key {
                    return Err(Error::new(
                        SqlState::INVALID_TABLE_DEFINITION,
                        format!("column \"{column}\" is in a primary key"),
                    ));
                }
                if !not_null && def.columns[number].identity().is_some() {
                    return Err(is_that(table, number, "an identity column"));
                }
                if *not_null && !def.columns[number].not_null {
                    self.check_rows(table, |row: &[u8]| match table.layout.row(row).is_null(number) {
                        false => Ok(()),
                        true => Err(Error::from(scry_engine::Error::NotNullViolation {
                            table: table.def.name.clone(),
                            column: column.clone(),
                        })),
                    })
                    .await?;
                }
                def.columns[number].not_null = *not_null;
            }
            AlterAction::RenameColumn { from, to } => rename_column(table, &mut def, from, to)?,
            AlterAction::RenameTo(name) => {
                create_table::check_name(name)?;
                name.clone_into(&mut def.name);
                for check in &mut def.checks {
                    check.expression = constraint::unqualified(&check.expression)?;
                }
            }
        }
        let txn = self.transaction.open_txn()?;
        self.interrupt.locking(txn.redefine(table, def)).await??;
        Ok(())
    }

    /// A column is not what it would have to be: an error, or a notice.
    fn not_that(&mut self, table: &Table, column: usize, what: &str, if_exists: bool) -> Result<(), Error> {
        let error = not_that(table, column, what);
        if !if_exists {
            return Err(error);
        }
        let text = format!("{}, skipping", error.message);
        self.notices.push(notice(SqlState::SUCCESSFUL_COMPLETION, text));
        Ok(())
    }

    /// Shows all rows of a table to `check`.
    pub(super) async fn check_rows(
        &mut self,
        table: &Table,
        mut check: impl FnMut(&[u8]) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let txn = self.transaction.open_txn()?;
        let checking = txn.check_rows(table, &mut check);
        self.interrupt.locking(checking).await?
    }

    async fn validate_constraint(&mut self, table: &Arc<Table>, name: &str) -> Result<(), Error> {
        let mut keys = table.def.foreign_keys.iter();
        let Some(number) = keys.position(|key| key.name == *name) else {
            return Err(match constraint::is_taken(name, &table.def) {
                false => Error::new(SqlState::UNDEFINED_OBJECT, no_constraint(name, &table.def)),
                true => Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!(
                        "constraint \"{name}\" of relation \"{}\" is not a foreign key or check constraint",
                        table.def.name
                    ),
                ),
            });
        };
        if !table.def.foreign_keys[number].validated {
            let txn = self.transaction.open_txn()?;
            self.interrupt
                .locking(txn.validate_foreign_key(table, number))
                .await??;
        }
        Ok(())
    }

    async fn set_rules(&mut self, table: &Table, changes: &[RuleChange]) -> Result<(), Error> {
        let mut rules = (*table.rules).clone();
        for change in changes {
            let (column, value) = (change.column.as_deref(), change.value.as_deref());
            collision::change(&mut rules, table, column, &change.option, value)?;
        }
        let txn = self.transaction.open_txn()?;
        self.interrupt.locking(txn.set_rules(table, rules)).await??;
        Ok(())
    }

    async fn add_key(
        &mut self,
        table: &Arc<Table>,
        constraint: Option<&str>,
        columns: &[String],
    ) -> Result<(), Error> {
        let name = &table.def.name;
        if table.def.primary_key.is_some() {
            return Err(Error::new(
                SqlState::INVALID_TABLE_DEFINITION,
                format!("multiple primary keys for table \"{name}\" are not allowed"),
            ));
        }
        let columns = columns.iter().map(|column| dml::column(table, column));
        let key = PrimaryKey {
            name: constraint.map_or_else(|| create_table::key_name(name), str::to_owned),
            columns: columns.collect::<Result<Vec<_>, _>>()?,
        };
        generated::check_key(&table.def.columns, &key.columns)?;
        let txn = self.transaction.open_txn()?;
        self.interrupt.locking(txn.add_primary_key(table, key)).await??;
        Ok(())
    }
}

impl AlterAction {
    fn renames(&self) -> bool {
        matches!(
            self,
            AlterAction::RenameTo(_)
                | AlterAction::RenameColumn { .. }
                | AlterAction::RenameConstraint { .. }
                | AlterAction::OwnerTo
        )
    }

    /// The name of the constraint that it adds, when it gives one.
    fn adds_constraint(&self) -> Option<&str> {
        match self {
            AlterAction::AddPrimaryKey { constraint, .. }
            | AlterAction::AddUnique { constraint, .. }
            | AlterAction::AddCheck { constraint, .. }
            | AlterAction::AddForeignKey { constraint, .. } => constraint.as_deref(),
            _ => None,
        }
    }
}

/// 42601: a column is what it must not be.
fn is_that(table: &Table, column: usize, what: &str) -> Error {
    let (relation, column) = (&table.def.name, &table.def.columns[column].name);
    Error::syntax(format!(
        "column \"{column}\" of relation \"{relation}\" is {what}"
    ))
}

/// 55000: a column is not what it would have to be.
fn not_that(table: &Table, column: usize, what: &str) -> Error {
    let (relation, column) = (&table.def.name, &table.def.columns[column].name);
    Error::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("column \"{column}\" of relation \"{relation}\" is not {what}"),
    )
}

/// Refuses another default, or none, for a column whose values the server makes.
fn check_plain(table: &Table, column: usize, drops: bool) -> Result<(), Error> {
    let def = &table.def.columns[column];
    let (what, instead) = match &def.default {
        Some(ColumnDefault::Identity { .. }) => ("an identity column", "IDENTITY"),
        Some(ColumnDefault::Generated(_)) => ("a generated column", "EXPRESSION"),
        _ => return Ok(()),
    };
    let error = is_that(table, column, what);
    Err(match drops {
        true => error.with_hint(format!(
            "Use ALTER TABLE ... ALTER COLUMN ... DROP {instead} instead."
        )),
        false => error,
    })
}

fn no_constraint(name: &str, def: &TableDef) -> String {
    format!(
        "constraint \"{name}\" of relation \"{}\" does not exist",
        def.name
    )
}

fn no_constraint_for(name: &str, def: &TableDef) -> String {
    format!("constraint \"{name}\" for table \"{}\" does not exist", def.name)
}

/// Gives a column another name, in the conditions and expressions that name it, too.
fn rename_column(table: &Table, def: &mut TableDef, from: &str, to: &str) -> Result<(), Error> {
    create_table::check_name(to)?;
    let number = table.column(from).ok_or_else(|| {
        Error::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{from}\" does not exist"),
        )
    })?;
    if table.column(to).is_some() {
        return Err(Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!(
                "column \"{to}\" of relation \"{}\" already exists",
                table.def.name
            ),
        ));
    }
    let by_name = |rule: &ColumnRule| matches!(rule, ColumnRule::Expression(_));
    if table.rules.columns.iter().any(|(_, rule)| by_name(rule)) {
        return Err(Error::unsupported(
            "renaming a column of a table with collision rules that are expressions",
        ));
    }
    to.clone_into(&mut def.columns[number].name);
    for check in &mut def.checks {
        check.expression = constraint::renamed(&check.expression, from, to)?;
    }
    for column in &mut def.columns {
        if let Some(ColumnDefault::Generated(text)) = &mut column.default {
            *text = constraint::renamed(text, from, to)?;
        }
    }
    Ok(())
}
