//! The extended protocol: Parse, Bind, Describe, Execute, Close, Sync.

use super::portal::{Params, Portal, State};
use super::prepared::{MAX_STATEMENTS, Prepared};
use super::run::Pending;
use super::{ColumnDescription, Executed, Session, StatementDescription};
use crate::error::{Error, SqlState};
use crate::exec::message::Formats;
use bytes::BytesMut;
use std::sync::Arc;

/// Portals that one session may hold open.
const MAX_PORTALS: usize = 4096;

fn no_statement(name: &str) -> Error {
    let text = match name {
        "" => "unnamed prepared statement does not exist".to_owned(),
        name => format!("prepared statement \"{name}\" does not exist"),
    };
    Error::new(SqlState::INVALID_SQL_STATEMENT_NAME, text)
}

pub(super) fn no_portal(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}

impl Session {
    pub(super) fn find_statement(&self, name: &str) -> Result<Arc<Prepared>, Error> {
        let found = if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.statements.get(name)
        };
        found.cloned().ok_or_else(|| no_statement(name))
    }

    /// Parse: prepares `sql` as `name` (empty: the unnamed statement). `param_types` may be shorter than the
    /// parameters, and 0 means unknown.
    pub async fn prepare(&mut self, name: &str, sql: &str, param_types: &[u32]) -> Result<(), Error> {
        match self.parse_message(name, sql, param_types) {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error).await,
        }
    }

    fn parse_message(&mut self, name: &str, sql: &str, param_types: &[u32]) -> Result<(), Error> {
        self.tick();
        let prepared = self.prepared(sql, param_types)?;
        self.check_accepted(&prepared.statement)?;
        if name.is_empty() {
            self.unnamed = Some(prepared);
            return Ok(());
        }
        self.add_statement(name, prepared.to_named())
    }

    pub(super) fn add_statement(&mut self, name: &str, prepared: Prepared) -> Result<(), Error> {
        if self.statements.contains_key(name) {
            return Err(Error::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        if self.statements.len() >= MAX_STATEMENTS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "too many prepared statements",
            ));
        }
        self.statements.insert(name.to_owned(), Arc::new(prepared));
        Ok(())
    }

    pub async fn describe_statement(&mut self, name: &str) -> Result<StatementDescription, Error> {
        match self.describe(name) {
            Ok(description) => Ok(description),
            Err(error) => self.failed(error).await,
        }
    }

    fn describe(&mut self, name: &str) -> Result<StatementDescription, Error> {
        let prepared = self.find_statement(name)?;
        self.check_accepted(&prepared.statement)?;
        self.current_plan(&prepared)?;
        let planned = prepared.planned();
        let columns = self.result_columns(&prepared.statement, &planned)?;
        Ok(StatementDescription {
            params: planned.params.clone(),
            columns,
        })
    }

    /// Bind. Formats: none = all text, one = for all, else one each; 0 is text, 1 binary. `None` is NULL.
    pub async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        param_formats: &[i16],
        params: &[Option<&[u8]>],
        result_formats: &[i16],
    ) -> Result<(), Error> {
        match self.bind_message(portal, statement, param_formats, params, result_formats) {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error).await,
        }
    }

    fn bind_message(
        &mut self,
        name: &str,
        statement: &str,
        param_formats: &[i16],
        params: &[Option<&[u8]>],
        result_formats: &[i16],
    ) -> Result<(), Error> {
        let prepared = self.find_statement(statement)?;
        self.check_accepted(&prepared.statement)?;
        self.tick();
        let planned = prepared.planned();
        let columns = planned.columns.as_ref().map_or(0, |columns| columns.len());
        if result_formats.len() > 1 && columns > 0 && result_formats.len() != columns {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} result formats but query has {columns} columns",
                    result_formats.len()
                ),
            ));
        }
        if let Some(code) = result_formats.iter().find(|code| !matches!(code, 0 | 1)) {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("unsupported format code: {code}"),
            ));
        }
        let params = Params::decode(name, &planned, param_formats, params, &self.input_context())?;
        let portal = Portal::new(prepared, planned, params, Formats::from_codes(result_formats));
        if name.is_empty() {
            self.unnamed_portal = Some(portal);
            return Ok(());
        }
        self.add_portal(name, portal)
    }

    pub(super) fn add_portal(&mut self, name: &str, portal: Portal) -> Result<(), Error> {
        if self.portals.contains_key(name) {
            return Err(Error::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        if self.portals.len() >= MAX_PORTALS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "too many open portals",
            ));
        }
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    /// The columns of a portal and the format of each, or `None` when it returns no rows.
    #[expect(clippy::type_complexity, reason = "the pair is what RowDescription needs")]
    pub fn describe_portal(
        &mut self,
        name: &str,
    ) -> Result<Option<(Arc<[ColumnDescription]>, Arc<[i16]>)>, Error> {
        let result = self.portal_columns(name);
        if result.is_err() {
            self.fail();
        }
        result
    }

    #[expect(clippy::type_complexity, reason = "the pair is what RowDescription needs")]
    fn portal_columns(
        &mut self,
        name: &str,
    ) -> Result<Option<(Arc<[ColumnDescription]>, Arc<[i16]>)>, Error> {
        let portal = if name.is_empty() {
            self.unnamed_portal.as_ref()
        } else {
            self.portals.get(name)
        };
        let portal = portal.ok_or_else(|| no_portal(name))?;
        let (prepared, planned, formats) = (
            portal.prepared.clone(),
            portal.planned.clone(),
            portal.formats.clone(),
        );
        let columns = self.result_columns(&prepared.statement, &planned)?;
        Ok(columns.map(|columns| {
            let codes = formats.codes(columns.len());
            (columns, codes)
        }))
    }

    /// Closing what does not exist is no error.
    pub fn close_statement(&mut self, name: &str) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.statements.remove(name);
        }
    }

    /// Closing what does not exist is no error.
    pub fn close_portal(&mut self, name: &str) {
        if name.is_empty() {
            self.unnamed_portal = None;
        } else {
            self.portals.remove(name);
        }
    }

    /// Execute: up to `max_rows` rows (0: all) as DataRow messages.
    pub async fn execute(
        &mut self,
        name: &str,
        max_rows: usize,
        out: &mut BytesMut,
    ) -> Result<Executed, Error> {
        let start = out.len();
        match self.run_portal(name, max_rows, out).await {
            Ok(executed) => Ok(executed),
            Err(error) => {
                out.truncate(start);
                self.failed(error).await
            }
        }
    }

    async fn run_portal(
        &mut self,
        name: &str,
        max_rows: usize,
        out: &mut BytesMut,
    ) -> Result<Executed, Error> {
        let portal = if name.is_empty() {
            self.unnamed_portal.take()
        } else {
            self.portals.remove(name)
        };
        let portal = portal.ok_or_else(|| no_portal(name))?;
        self.check_accepted(&portal.prepared.statement)?;
        if matches!(portal.state, State::Ready) {
            self.begin_statement();
        } else {
            self.begin_interruptible();
        }
        self.drive(Pending::new(portal, Some(name), max_rows, false), out)
            .await
    }

    /// Goes on after [`Executed::MoreRows`].
    pub async fn resume(&mut self, out: &mut BytesMut) -> Result<Executed, Error> {
        let Some(pending) = self.pending.take() else {
            return Err(Error::internal("there is nothing to resume"));
        };
        match self.drive(pending, out).await {
            Ok(executed) => Ok(executed),
            Err(error) => self.failed(error).await,
        }
    }

    /// Sync, or the end of a simple query: commits the implicit transaction and waits until it is durable.
    pub async fn sync(&mut self) -> Result<(), Error> {
        match self.sync_at_once() {
            true => Ok(()),
            false => {
                self.close_portals();
                self.end_implicit().await
            }
        }
    }

    /// The same inside of a transaction block, where there is nothing to wait for; false outside of one.
    pub fn sync_at_once(&mut self) -> bool {
        self.pending = None;
        self.copy = None;
        self.transaction.is_explicit()
    }
}
