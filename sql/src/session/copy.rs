//! COPY on the session's side: opening it, feeding it, ending it.

use super::portal::{Params, Portal, State};
use super::run::{Advance, Pending};
use super::{Executed, Session, facts};
use crate::error::{Error, SqlState};
use crate::exec::context::Exec;
use crate::exec::copy::{CopyIn, CopyOut};
use crate::exec::foreign_keys;
use crate::exec::message::{self, Formats};
use crate::exec::select::Step;
use crate::plan::statement::{CopySource, CopyStatement, Statement};
use crate::plan::{parse, select};
use crate::session::prepared::Prepared;
use crate::tags::CommandTag;
use bytes::{BufMut, BytesMut};
use scry_wal::Lsn;
use std::sync::Arc;

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// CopyInResponse and CopyOutResponse: text, so many columns.
fn response(out: &mut BytesMut, tag: u8, columns: usize) {
    let start = message::begin(out, tag);
    out.put_u8(0);
    out.put_u16(u16::try_from(columns).unwrap_or(u16::MAX));
    for _ in 0..columns {
        out.put_i16(0);
    }
    message::end(out, start);
}

impl Session {
    pub(super) async fn start_copy(
        &mut self,
        pending: &mut Pending,
        statement: &CopyStatement,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        self.transaction.statement(&mut self.engine, &self.settings)?;
        if statement.from {
            self.transaction.check_writable(&self.settings, "COPY FROM")?;
            if self.records() {
                return Err(Error::unsupported("recording COPY with a candidate")
                    .with_hint("Use INSERT, or a candidate of rows."));
            }
            let catalog = self.catalog();
            let copy = CopyIn::new(statement, &catalog, &self.facts())?;
            response(out, b'G', copy.width());
            self.copy = Some(Box::new(copy));
            return Ok(Advance::CopyIn);
        }
        let query = match &statement.source {
            CopySource::Query(text) => parse::statement(text)?,
            CopySource::Table {
                schema,
                name,
                columns,
            } => {
                let catalog = self.catalog();
                let table = catalog.table(name).ok_or_else(|| select::no_such_table(name))?;
                let all = || table.def.live_columns().map(|(_, column)| column);
                let generates = all().any(|column| column.generated().is_some());
                // Generated columns are left out: COPY FROM computes them.
                let columns: Vec<&String> = match columns.is_empty() && generates {
                    true => all()
                        .filter(|column| column.generated().is_none())
                        .map(|column| &column.name)
                        .collect(),
                    false => columns.iter().collect(),
                };
                let schema = schema.as_ref().map(|schema| quoted(schema) + ".");
                let list: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
                let list = if list.is_empty() {
                    "*".to_owned()
                } else {
                    list.join(", ")
                };
                let schema = schema.unwrap_or_default();
                parse::statement(&format!("SELECT {list} FROM {schema}{}", quoted(name)))?
            }
        };
        if !matches!(
            query,
            Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)
        ) {
            return Err(Error::unsupported("COPY of this statement"));
        }
        let planned = Arc::new(self.plan(&query, &[])?);
        let Some(columns) = planned.columns.clone() else {
            return Err(Error::unsupported("COPY query without a RETURNING clause"));
        };
        let copy = CopyOut::new(statement, &columns)?;
        response(out, b'H', columns.len());
        if statement.header {
            copy.header(&columns, out);
        }
        let prepared = Arc::new(Prepared::new("".into(), query, Vec::new(), planned.clone()));
        pending.portal = Portal::new(prepared, planned, Params::default(), Formats::Text);
        pending.copy_out = Some(Box::new(copy));
        self.advance_copy(pending, out).await
    }

    /// The next rows of the query as COPY data.
    pub(super) async fn advance_copy(
        &mut self,
        pending: &mut Pending,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let mut rows = BytesMut::new();
        let step = match pending.portal.state {
            State::Ready => self.start_planned(&mut pending.portal, 0, &mut rows).await?,
            _ => self.advance_portal(pending, 0, &mut rows).await?,
        };
        let Some(copy) = &mut pending.copy_out else {
            return Err(Error::internal("a COPY that is none"));
        };
        copy.convert(&rows, out)?;
        match step {
            Advance::Rows(Step { done: false, .. }) => Ok(Advance::Rows(Step { rows: 0, done: false })),
            _ => {
                // CopyDone.
                let start = message::begin(out, b'c');
                message::end(out, start);
                self.answerable().await?;
                pending.portal.state = State::Done;
                Ok(Advance::Complete(CommandTag::Copy(copy.rows)))
            }
        }
    }

    /// One CopyData message. The bytes may split anywhere.
    pub async fn copy_data(&mut self, data: &[u8]) -> Result<(), Error> {
        let Some(mut copy) = self.copy.take() else {
            return self
                .failed(Error::new(
                    SqlState::PROTOCOL_VIOLATION,
                    "there is no COPY in progress",
                ))
                .await;
        };
        match self.feed(&mut copy, Some(data)).await {
            Ok(()) => {
                self.copy = Some(copy);
                Ok(())
            }
            Err(error) => self.failed(error).await,
        }
    }

    /// CopyDone: ends the COPY as a statement ends.
    pub async fn copy_done(&mut self) -> Result<Executed, Error> {
        let Some(mut copy) = self.copy.take() else {
            return self
                .failed(Error::new(
                    SqlState::PROTOCOL_VIOLATION,
                    "there is no COPY in progress",
                ))
                .await;
        };
        match self.end_copy(&mut copy).await {
            Ok(executed) => Ok(executed),
            Err(error) => self.failed(error).await,
        }
    }

    async fn end_copy(&mut self, copy: &mut CopyIn) -> Result<Executed, Error> {
        self.feed(copy, None).await?;
        if copy.rows > 0 {
            self.transaction.wrote("COPY");
        }
        self.answerable().await?;
        if copy.last {
            self.end_simple().await?;
        }
        Ok(Executed::Complete(CommandTag::Copy(copy.rows)))
    }

    /// CopyFail: the client gave up; the error to report is returned.
    pub fn copy_fail(&mut self, message: &str) -> Error {
        let context = self.copy.take().map(|copy| copy.at_line());
        self.fail();
        let error = Error::new(
            SqlState::QUERY_CANCELED,
            format!("COPY from stdin failed: {message}"),
        );
        match context {
            Some(context) => error.with_context(context),
            None => error,
        }
    }

    /// Data, or its end.
    async fn feed(&mut self, copy: &mut CopyIn, data: Option<&[u8]>) -> Result<(), Error> {
        let (txn, foreign_keys) = self.transaction.parts()?;
        let facts = facts(&self.identity, &self.settings, self.times);
        let mut exec = Exec {
            txn,
            foreign_keys,
            interrupt: &self.interrupt,
            params: &[],
            facts: &facts,
            formats: &Formats::Text,
            read: Lsn::ZERO,
        };
        match data {
            Some(data) => copy.feed(&mut exec, data).await,
            None => {
                copy.finish(&mut exec).await?;
                foreign_keys::settle(&mut exec).await
            }
        }
    }
}
