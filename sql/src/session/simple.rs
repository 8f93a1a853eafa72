//! The simple protocol: a script, statement by statement.

use super::portal::{Params, Portal};
use super::run::Pending;
use super::{Executed, ParsedStatement, Session};
use crate::error::Error;
use crate::exec::message::{self, Formats};
use crate::plan::planner::Kind;
use crate::plan::row::{RowPlan, Rows};
use crate::plan::template::{self, Literal};
use crate::plan::{parse, split};
use crate::session::prepared::Prepared;
use crate::types;
use bytes::BytesMut;
use scry_engine::Value;
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
        if let Some(portal) = self.bound_template(statement.text()) {
            if let Some(columns) = &portal.planned.columns {
                message::row_description(out, columns, &Formats::Text);
            }
            return self
                .drive(Pending::new(portal, None, 0, statement.last), out)
                .await;
        }
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

    /// A bound portal for a statement that differs from an earlier one in its literals only.
    ///
    /// Whatever goes wrong on this way, the ordinary one says it better.
    fn bound_template(&mut self, sql: &str) -> Option<Portal> {
        // Row plans do not read futures.
        if self.transaction.is_failed() || self.settings.future().is_some() {
            return None;
        }
        if !template::lift(sql, &mut self.templates.lifted) {
            return None;
        }
        let prepared = match self.templates.get() {
            Some(known) => known?,
            None => {
                let prepared = self.plan_template();
                self.templates.put(prepared.clone());
                prepared?
            }
        };
        let planned = self.current_plan(&prepared).ok()?;
        let lifted = &self.templates.lifted;
        if !matches!(planned.kind, Kind::Row(_)) || planned.param_types.len() != lifted.literals.len() {
            return None;
        }
        let context = self.input_context();
        let mut values = Vec::with_capacity(lifted.literals.len());
        for (literal, ty) in lifted.literals.iter().zip(&planned.param_types) {
            values.push(match literal {
                Literal::Int4(value) => Value::Int4(*value),
                Literal::Int8(value) => Value::Int8(*value),
                Literal::Text(range, false) => types::parse_text(&sql[range.clone()], ty, &context).ok()?,
                Literal::Text(range, true) => {
                    types::parse_text(&sql[range.clone()].replace("''", "'"), ty, &context).ok()?
                }
            });
        }
        Some(Portal::new(
            prepared,
            planned,
            Params::Values(values),
            Formats::Text,
        ))
    }

    /// Plans the template that was lifted last; `None` when its statements are to be planned one by one.
    fn plan_template(&mut self) -> Option<Arc<Prepared>> {
        let (sql, types) = (
            self.templates.lifted.sql().to_owned(),
            self.templates.lifted.types(),
        );
        let statement = parse::statement(&sql).ok()?;
        let planned = self.plan(&statement, &types).ok()?;
        match &planned.kind {
            Kind::Row(RowPlan::Insert(insert)) if matches!(insert.rows, Rows::Query { .. }) => return None,
            Kind::Row(_) => {}
            _ => return None,
        }
        Some(Arc::new(Prepared::new(
            sql.into(),
            statement,
            types,
            Arc::new(planned),
        )))
    }
}
