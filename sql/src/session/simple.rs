//! The simple protocol: a script, statement by statement.

use super::portal::{Params, Portal};
use super::run::Pending;
use super::{Executed, ParsedStatement, Session};
use crate::error::Error;
use crate::exec::message::{self, Formats};
use crate::plan::split;
use bytes::BytesMut;
use std::sync::Arc;

impl Session {
    /// Splits a simple query into its statements. An empty list is an empty query.
    ///
    /// # Errors
    /// Text that no statement can begin with, or that is nested too deep. The transaction has failed then.
    pub fn parse_script(&mut self, sql: &str) -> Result<Vec<ParsedStatement>, Error> {
        let ranges = match split::statements(sql) {
            Ok(ranges) => ranges,
            Err(error) => {
                self.fail();
                return Err(error);
            }
        };
        let script: Arc<str> = sql.into();
        let count = ranges.len();
        let statements = ranges.into_iter().enumerate();
        Ok(statements
            .map(|(index, range)| ParsedStatement {
                script: script.clone(),
                range,
                last: index + 1 == count,
            })
            .collect())
    }

    /// Runs one statement of a simple query: RowDescription and DataRow messages (all values as text) go to `out`.
    ///
    /// # Errors
    /// The statement's. The rest of the script is not to be run.
    pub async fn simple(
        &mut self,
        statement: &ParsedStatement,
        out: &mut BytesMut,
    ) -> Result<Executed, Error> {
        let start = out.len();
        match self.run_simple(statement, out).await {
            Ok(executed) => Ok(executed),
            Err(mut error) => {
                out.truncate(start);
                if let Some(position) = error.position
                    && statement.range.0 > 0
                {
                    let before = statement.script[..statement.range.0].chars().count();
                    error.position = Some(position + u32::try_from(before).unwrap_or(0));
                }
                self.failed(error).await
            }
        }
    }

    async fn run_simple(
        &mut self,
        statement: &ParsedStatement,
        out: &mut BytesMut,
    ) -> Result<Executed, Error> {
        // A simple query ends what the unnamed statement and portal were.
        self.unnamed = None;
        self.unnamed_portal = None;
        self.begin_statement();
        let prepared = self.prepared(statement.text(), &[])?;
        self.check_accepted(&prepared.statement)?;
        if !prepared.given.is_empty() || !prepared.planned().params.is_empty() {
            return Err(Error::new(
                crate::error::SqlState::UNDEFINED_PARAMETER,
                "there is no parameter $1",
            ));
        }
        self.current_plan(&prepared)?;
        let planned = prepared.planned();
        if let Some(columns) = self.result_columns(&prepared.statement, &planned)? {
            message::row_description(out, &columns, &Formats::Text);
        }
        let portal = Portal::new(prepared, planned, Params::default(), Formats::Text);
        self.drive(Pending::new(portal, None, 0, statement.last), out)
            .await
    }
}
