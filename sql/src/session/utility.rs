//! Utility statements: transactions, settings, prepared statements, cursors, EXPLAIN, and the doors to DDL and COPY.

use super::extended::no_portal;
use super::portal::{Params, Portal, State};
use super::prepared::Prepared;
use super::run::{Advance, Pending};
use super::{ColumnDescription, Notice, Session};
use crate::error::{Error, SqlState};
use crate::exec::message::{self, Formats};
use crate::plan::planner::Kind;
use crate::plan::scalar::{self, Binder, Env, ParamTypes};
use crate::plan::select::description;
use crate::plan::statement::{DiscardKind, FetchCount, NotifyStatement, SetScope, SettingValue, Statement};
use crate::plan::{parse, split};
use crate::tags::CommandTag;
use crate::types;
use bytes::BytesMut;
use scry_engine::{ColumnDef, DataType, Value};
use sqlparser::ast;
use std::sync::Arc;

fn text_columns(names: &[&str]) -> Arc<[ColumnDescription]> {
    names
        .iter()
        .map(|name| description((*name).to_owned(), &DataType::Text, None))
        .collect()
}

fn done(tag: &'static str) -> Result<Advance, Error> {
    Ok(Advance::Complete(CommandTag::Plain(tag)))
}

/// Transactions must not be begun by statements that cannot run inside of one.
pub(super) fn warn(code: SqlState, text: &str) -> Notice {
    Notice(Error::new(code, text))
}

impl Session {
    /// The columns of a utility statement's result.
    pub(super) fn utility_columns(
        &self,
        statement: &Statement,
    ) -> Result<Option<Arc<[ColumnDescription]>>, Error> {
        Ok(match statement {
            Statement::Show(Some(name)) => {
                let (canonical, _) = self.settings.show(shown(name))?;
                let name = if shown(name) == name {
                    canonical
                } else {
                    name.clone()
                };
                Some(text_columns(&[&name]))
            }
            Statement::Show(None) => Some(text_columns(&["name", "setting", "description"])),
            Statement::Election(statement) => super::election::columns(statement).map(text_columns),
            Statement::SetConfig { .. } => Some(text_columns(&["set_config"])),
            Statement::Explain(..) => Some(text_columns(&["QUERY PLAN"])),
            Statement::Execute { name, .. } => {
                let prepared = self.find_statement(name)?;
                self.result_columns(&prepared.statement, &prepared.planned())?
            }
            Statement::Fetch {
                name, moved: false, ..
            } => {
                let portal = self.portals.get(name).ok_or_else(|| no_cursor(name))?;
                self.result_columns(&portal.prepared.statement, &portal.planned)?
            }
            _ => None,
        })
    }

    /// Runs a utility statement.
    pub(super) async fn utility(
        &mut self,
        pending: &mut Pending,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let prepared = pending.portal.prepared.clone();
        match &prepared.statement {
            Statement::Empty => Ok(Advance::Empty),
            Statement::Begin { modes, start } => {
                let notice = self.transaction.begin(*modes, &self.settings)?;
                self.notices.extend(notice);
                done(if *start { "START TRANSACTION" } else { "BEGIN" })
            }
            Statement::Commit { chain } => {
                self.close_portals();
                self.check_deferred().await?;
                self.room().await?;
                let (settings, ear) = (&mut self.settings, &mut self.ear);
                let (tag, lsn) = self
                    .transaction
                    .commit_block(*chain, settings, ear, &mut self.notices)?;
                self.committed(lsn).await?;
                self.apply_settings();
                done(tag)
            }
            Statement::Rollback { chain } => {
                self.close_portals();
                self.transaction
                    .rollback_block(*chain, &mut self.settings, &mut self.notices)?;
                self.apply_settings();
                done("ROLLBACK")
            }
            Statement::Savepoint(name) => {
                self.transaction
                    .savepoint(name.clone(), &mut self.engine, &self.settings)?;
                done("SAVEPOINT")
            }
            Statement::Release(name) => {
                self.transaction.release(name)?;
                done("RELEASE")
            }
            Statement::RollbackTo(name) => {
                // What cursors hold of undone writes must not be seen.
                self.close_portals();
                let undoing = self.transaction.rollback_to(name, &mut self.settings);
                self.interrupt.waiting(undoing).await??;
                self.apply_settings();
                done("ROLLBACK")
            }
            Statement::SetTransaction(modes) => {
                let notice = self.transaction.set_transaction(*modes)?;
                self.notices.extend(notice);
                done("SET")
            }
            Statement::SetConstraints { names, deferred } => {
                self.set_constraints(names, *deferred).await?;
                done("SET CONSTRAINTS")
            }
            Statement::SetCharacteristics(modes) => {
                if let Some(isolation) = modes.isolation {
                    self.settings
                        .set("default_transaction_isolation", Some(isolation.name()), false)?;
                }
                if let Some(read_only) = modes.read_only {
                    let value = if read_only { "on" } else { "off" };
                    self.settings
                        .set("default_transaction_read_only", Some(value), false)?;
                }
                self.setting_changed();
                done("SET")
            }
            Statement::Set { scope, name, value } => {
                self.set(*scope, name, value)?;
                done("SET")
            }
            Statement::SetConfig { name, value, local } => {
                let scope = if *local {
                    SetScope::Local
                } else {
                    SetScope::Session
                };
                self.set(scope, name, &SettingValue::Text(value.clone()))?;
                let value = self.settings.show(name)?.1;
                message::text_row(out, &[&value], &pending.portal.formats);
                Ok(Advance::Complete(CommandTag::Select(1)))
            }
            Statement::Reset(name) => {
                let resets = |setting: &str| {
                    name.as_deref()
                        .is_none_or(|name| name.eq_ignore_ascii_case(setting))
                };
                if resets("scry.candidate") {
                    self.check_candidate("")?;
                }
                if resets("scry.as_of") {
                    self.check_as_of("")?;
                }
                if resets("scry.candidate_mode") {
                    self.check_candidate_mode()?;
                }
                match name {
                    Some(name) => self.settings.set(name, None, false)?,
                    None => self.settings.reset_all(),
                }
                self.setting_changed();
                done("RESET")
            }
            Statement::Show(name) => self.show(name.as_deref(), &pending.portal.formats, out),
            Statement::Discard(kind) => self.discard(*kind),
            Statement::Deallocate(name) => {
                match name {
                    None => {
                        self.statements.clear();
                        return done("DEALLOCATE ALL");
                    }
                    Some(name) => {
                        if self.statements.remove(name).is_none() {
                            return Err(Error::new(
                                SqlState::INVALID_SQL_STATEMENT_NAME,
                                format!("prepared statement \"{name}\" does not exist"),
                            ));
                        }
                    }
                }
                done("DEALLOCATE")
            }
            Statement::Prepare { name, types, sql } => {
                self.prepare_statement(name, types, sql)?;
                done("PREPARE")
            }
            Statement::Execute { name, arguments } => {
                self.bind_arguments(pending, name, arguments)?;
                match pending.portal.planned.kind {
                    Kind::Utility => Box::pin(self.utility(pending, limit, out)).await,
                    Kind::Call(_) => self.call(&mut pending.portal, out).await,
                    _ => self.start_planned(&mut pending.portal, limit, out).await,
                }
            }
            Statement::Vacuum(tables) => {
                if self.transaction.is_explicit() {
                    return Err(Error::new(
                        SqlState::ACTIVE_SQL_TRANSACTION,
                        "VACUUM cannot run inside a transaction block",
                    ));
                }
                self.check_tables(tables)?;
                done("VACUUM")
            }
            Statement::Analyze(tables) => {
                self.check_tables(tables)?;
                done("ANALYZE")
            }
            Statement::Checkpoint => done("CHECKPOINT"),
            Statement::Notify(statement) => {
                self.notify(statement)?;
                done(statement.tag())
            }
            Statement::Lock => Err(Error::unsupported("LOCK TABLE")),
            Statement::DeclareCursor { name, hold, query } => {
                self.declare(name, *hold, query)?;
                done("DECLARE CURSOR")
            }
            Statement::Fetch { name, count, moved } => self.fetch(pending, name, *count, *moved, out).await,
            Statement::CloseCursor(name) => {
                match name {
                    None => {
                        self.portals.clear();
                        return done("CLOSE CURSOR ALL");
                    }
                    Some(name) => {
                        self.portals.remove(name).ok_or_else(|| no_cursor(name))?;
                    }
                }
                done("CLOSE CURSOR")
            }
            Statement::Explain(options, inner) => {
                let lines = self.explain(*options, inner).await?;
                for line in &lines {
                    message::text_row(out, &[line], &pending.portal.formats);
                }
                done("EXPLAIN")
            }
            Statement::Copy(statement) => self.start_copy(pending, statement, out).await,
            Statement::CreateTable(_)
            | Statement::DropTable { .. }
            | Statement::Truncate { .. }
            | Statement::Sequence(_)
            | Statement::CreateIndex(_)
            | Statement::DropIndex { .. }
            | Statement::AlterTable { .. } => self.ddl(&prepared.statement).await,
            Statement::Election(statement) => self.election(statement, &pending.portal.formats, out).await,
            Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Query(_)
            | Statement::Call(_) => Err(Error::internal("a planned statement came as a utility")),
        }
    }

    /// What has to happen beside the setting itself.
    pub(super) fn apply_settings(&mut self) {
        if let Ok((_, application)) = self.settings.show("application_name") {
            self.engine.set_application(&application);
        }
    }

    /// A setting was changed: outside of a block it lasts at once.
    fn setting_changed(&mut self) {
        if !self.transaction.is_open() {
            self.settings.end_transaction(true);
        }
        self.apply_settings();
    }

    pub(super) fn set(&mut self, scope: SetScope, name: &str, value: &SettingValue) -> Result<(), Error> {
        let local = scope == SetScope::Local;
        if local && !self.transaction.is_explicit() {
            self.notices.push(warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET LOCAL can only be used in transaction blocks",
            ));
            return Ok(());
        }
        let folded = name.to_ascii_lowercase();
        let name = match folded.starts_with("scry.") {
            true => folded.as_str(),
            false => name,
        };
        match (name, value) {
            ("transaction_isolation", SettingValue::Text(text)) => {
                let isolation = crate::plan::statement::IsolationLevel::from_name(text)
                    .ok_or_else(|| Error::unsupported(format!("isolation level {text}")))?;
                let modes = crate::plan::statement::TransactionModes {
                    isolation: Some(isolation),
                    read_only: None,
                };
                let notice = self.transaction.set_transaction(modes)?;
                self.notices.extend(notice);
                return Ok(());
            }
            ("transaction_read_only", SettingValue::Text(text)) => {
                let read_only = matches!(text.to_ascii_lowercase().as_str(), "on" | "true" | "1" | "yes");
                let modes = crate::plan::statement::TransactionModes {
                    isolation: None,
                    read_only: Some(read_only),
                };
                let notice = self.transaction.set_transaction(modes)?;
                self.notices.extend(notice);
                return Ok(());
            }
            // There is one role, the one that is connected.
            ("role" | "session_authorization", SettingValue::Text(text)) => {
                let known = ["none", "default", self.identity.user.as_str()].contains(&text.as_str());
                if !known {
                    return Err(Error::new(
                        SqlState::INVALID_PARAMETER_VALUE,
                        format!("role \"{text}\" does not exist"),
                    ));
                }
                return Ok(());
            }
            ("scry.candidate", value) => {
                let text = match value {
                    SettingValue::Text(text) => text.as_str(),
                    SettingValue::Default => "",
                };
                self.check_candidate(text)?;
                self.settings.set(name, Some(text), local)?;
            }
            ("scry.candidate_mode", value) => {
                self.check_candidate_mode()?;
                let text = match value {
                    SettingValue::Text(text) => Some(text.as_str()),
                    SettingValue::Default => None,
                };
                self.settings.set(name, text, local)?;
            }
            ("scry.as_of", value) => {
                let text = match value {
                    SettingValue::Text(text) => text.as_str(),
                    SettingValue::Default => "",
                };
                self.check_as_of(text)?;
                self.settings.set(name, Some(text), local)?;
            }
            ("scry.future", SettingValue::Text(text)) => {
                self.check_future(text)?;
                self.settings.set(name, Some(text), local)?;
            }
            (name, SettingValue::Text(text)) => self.settings.set(name, Some(text), local)?,
            (name, SettingValue::Default) => self.settings.set(name, None, local)?,
        }
        self.setting_changed();
        Ok(())
    }

    fn show(&mut self, name: Option<&str>, formats: &Formats, out: &mut BytesMut) -> Result<Advance, Error> {
        match name {
            None => {
                for (name, value) in self.settings.all() {
                    message::text_row(out, &[&name, &value, ""], formats);
                }
            }
            Some(name) => {
                let value = match name {
                    "transaction_isolation" => self.transaction.isolation(&self.settings).name().to_owned(),
                    "transaction_read_only" => {
                        if self.transaction.read_only(&self.settings) {
                            "on".into()
                        } else {
                            "off".into()
                        }
                    }
                    name => self.settings.show(name)?.1,
                };
                message::text_row(out, &[&value], formats);
            }
        }
        done("SHOW")
    }

    fn discard(&mut self, kind: DiscardKind) -> Result<Advance, Error> {
        match kind {
            DiscardKind::All => {
                if self.transaction.is_explicit() || self.transaction.txn().is_some() {
                    return Err(Error::new(
                        SqlState::ACTIVE_SQL_TRANSACTION,
                        "DISCARD ALL cannot run inside a transaction block",
                    ));
                }
                self.close_portals();
                self.notify(&NotifyStatement::UnlistenAll)?;
                self.statements.clear();
                self.cache.clear();
                self.templates.clear();
                self.settings.reset_all();
                self.identity.sequences.forget();
                self.setting_changed();
                done("DISCARD ALL")
            }
            DiscardKind::Plans => {
                self.cache.clear();
                self.templates.clear();
                done("DISCARD PLANS")
            }
            DiscardKind::Sequences => {
                self.identity.sequences.forget();
                done("DISCARD SEQUENCES")
            }
            DiscardKind::Temporary => done("DISCARD TEMP"),
        }
    }

    fn check_tables(&mut self, tables: &[String]) -> Result<(), Error> {
        let catalog = self.catalog();
        for name in tables {
            if catalog.table(name).is_none() {
                return Err(crate::plan::select::no_such_table(name));
            }
        }
        Ok(())
    }

    /// PREPARE name (types) AS statement.
    fn prepare_statement(&mut self, name: &str, types: &[ast::DataType], sql: &str) -> Result<(), Error> {
        let mut oids = Vec::with_capacity(types.len());
        for ty in types {
            oids.push(types::oid(
                &crate::expr::data_type(ty).map_err(|error| error.into_error())?,
            ));
        }
        split::statements(sql)?;
        let statement = parse::statement(sql)?;
        if !matches!(
            statement,
            Statement::Query(_)
                | Statement::Call(_)
                | Statement::Insert(_)
                | Statement::Update(_)
                | Statement::Delete(_)
        ) {
            return Err(Error::syntax("PREPARE takes SELECT, INSERT, UPDATE or DELETE"));
        }
        let planned = self.plan(&statement, &oids)?;
        let prepared = Prepared::new(sql.into(), statement, oids, Arc::new(planned)).to_named();
        self.add_statement(name, prepared)
    }

    /// EXECUTE name (arguments): the pending execution becomes that of the prepared statement.
    fn bind_arguments(
        &mut self,
        pending: &mut Pending,
        name: &str,
        arguments: &[ast::Expr],
    ) -> Result<(), Error> {
        let prepared = self.find_statement(name)?;
        let planned = self.current_plan(&prepared)?;
        if arguments.len() != planned.params.len() {
            return Err(Error::syntax(format!(
                "wrong number of parameters for prepared statement \"{name}\""
            ))
            .with_detail(format!(
                "Expected {} parameters but got {}.",
                planned.params.len(),
                arguments.len()
            )));
        }
        let mut values: Vec<Value> = Vec::with_capacity(arguments.len());
        let facts = self.facts();
        for (argument, ty) in arguments.iter().zip(&planned.param_types) {
            let mut types = ParamTypes::default();
            let column = ColumnDef::new("parameter", *ty);
            let bound = Binder::new(&mut types, &facts)
                .assigned(argument, &column)
                .map_err(scalar::Refusal::into_error)?;
            values.push(scalar::eval(&bound, &Env::new(&[], &facts))?.into_value());
        }
        let formats = pending.portal.formats.clone();
        let params = match &planned.kind {
            Kind::Analytic(plan) => Params::Scalars(Params::Values(values).scalars(plan.param_types())?),
            _ => Params::Values(values),
        };
        pending.portal = Portal::new(prepared, planned, params, formats);
        Ok(())
    }

    fn declare(&mut self, name: &str, hold: bool, query: &str) -> Result<(), Error> {
        if hold {
            return Err(Error::unsupported("DECLARE CURSOR WITH HOLD"));
        }
        if !self.transaction.is_explicit() {
            return Err(Error::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        let prepared = self.prepared(query, &[])?;
        if !matches!(prepared.statement, Statement::Query(_)) {
            return Err(Error::syntax("DECLARE CURSOR takes a SELECT"));
        }
        let planned = self.current_plan(&prepared)?;
        if !planned.params.is_empty() {
            return Err(Error::unsupported("DECLARE CURSOR with parameters"));
        }
        self.add_portal(
            name,
            Portal::new(prepared, planned, Params::default(), Formats::Text),
        )
    }

    /// FETCH and MOVE: the pending execution becomes that of the cursor, with a row limit.
    async fn fetch(
        &mut self,
        pending: &mut Pending,
        name: &str,
        count: FetchCount,
        moved: bool,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_cursor(name))?;
        let rows = match count {
            FetchCount::All => 0,
            FetchCount::Rows(0) => {
                self.portals.insert(name.to_owned(), portal);
                return Ok(Advance::Complete(CommandTag::Fetch(0)));
            }
            FetchCount::Rows(rows) => usize::try_from(rows).unwrap_or(usize::MAX),
        };
        if matches!(portal.state, State::Done) {
            self.portals.insert(name.to_owned(), portal);
            return Ok(Advance::Complete(CommandTag::Fetch(0)));
        }
        if moved {
            return Err(Error::unsupported("MOVE"));
        }
        portal.formats = pending.portal.formats.clone();
        pending.become_fetch(portal, name, rows);
        match pending.portal.state {
            State::Ready => self.start_planned(&mut pending.portal, rows, out).await,
            _ => self.advance_portal(pending, rows, out).await,
        }
    }
}

/// Names under which SHOW knows what is not a setting of its own.
fn shown(name: &str) -> &str {
    match name {
        "transaction_isolation" => "default_transaction_isolation",
        "transaction_read_only" => "default_transaction_read_only",
        other => other,
    }
}

fn no_cursor(name: &str) -> Error {
    let mut error = no_portal(name);
    error.message = format!("cursor \"{name}\" does not exist");
    error
}
