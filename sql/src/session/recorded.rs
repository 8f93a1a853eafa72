//! Candidates of statements: statements recorded as they run inside of one, and run again when it is rebased or elected.
//!
//! A statement means again what it meant: it is read in its time zone, with its parameters' values, and names find what is
//! there then. What it asks of the world (`now()`, `random()`, `current_user`) is answered anew.

use super::Session;
use super::portal::{Params, Portal};
use super::run::Advance;
use crate::error::Error;
use crate::exec::message::Formats;
use crate::tags::CommandTag;
use crate::types;
use bytes::BytesMut;
use scry_engine::election::{Parameter, Recorded, Scores};
use scry_wal::Lsn;
use std::sync::Arc;

impl Session {
    /// Whether statements that write are to be recorded.
    pub(super) fn records(&mut self) -> bool {
        self.transaction.txn().is_some_and(|txn| txn.is_recording())
    }

    /// Records the statement of a portal, which has run.
    pub(super) fn record(&mut self, portal: &Portal) -> Result<(), Error> {
        let zone = self.settings.zone().clone();
        let values = portal.params.values().iter().zip(&portal.planned.param_types);
        let values = values.map(|(value, ty)| types::as_text(&value.as_datum(), ty, &zone));
        let parameters = portal.planned.params.iter().zip(values);
        let statement = Recorded {
            text: portal.prepared.sql.trim().to_owned(),
            zone: zone.name().to_owned(),
            parameters: parameters
                .map(|(ty, value)| Parameter { ty: *ty, value })
                .collect(),
        };
        match self.transaction.txn() {
            Some(txn) => Ok(txn.record(statement)?),
            None => Err(Error::internal("a statement without transaction")),
        }
    }

    /// Whether a candidate consists of statements.
    pub(super) fn is_of_statements(&mut self, election: &str, candidate: &str) -> bool {
        let catalog = self.catalog();
        let found = catalog.elections().open(election, candidate);
        found.is_ok_and(|(_, candidate)| !candidate.statements().is_empty())
    }

    /// Elects a candidate by running its statements upon the present. Answers how many rows changed.
    pub(super) async fn elect_again(
        &mut self,
        election: &str,
        candidate: &str,
        scores: Option<(Lsn, Scores)>,
        tag: &'static str,
    ) -> Result<u64, Error> {
        let txn = self.transaction.statement(&mut self.engine, &self.settings)?;
        let electing = txn.elect_again(election, candidate, scores);
        let statements = self.interrupt.locking(electing).await??;
        self.transaction.wrote(tag);
        self.run_again(election, candidate, &statements).await?;
        Ok(self.transaction.txn().map_or(0, |txn| txn.changed_rows()))
    }

    /// Rebases a candidate by running its statements inside of it, upon the present. Answers how many rows changed.
    pub(super) async fn rebase_again(&mut self, election: &str, candidate: &str) -> Result<u64, Error> {
        let txn = self.transaction.statement(&mut self.engine, &self.settings)?;
        let rebasing = txn.rebase_again(election, candidate);
        let statements = self.interrupt.locking(rebasing).await??;
        self.transaction.wrote("REBASE CANDIDATE");
        let rows = self.run_again(election, candidate, &statements).await?;
        if let Some(txn) = self.transaction.txn() {
            txn.leave_candidate();
        }
        Ok(rows)
    }

    async fn run_again(
        &mut self,
        election: &str,
        candidate: &str,
        statements: &[Arc<Recorded>],
    ) -> Result<u64, Error> {
        let mark = self.settings.mark();
        let mut rows = 0;
        for (index, statement) in statements.iter().enumerate() {
            self.settings.run_recorded_in(&statement.zone);
            let ran = self.run_recorded(statement).await;
            self.settings.back_to(&mark);
            let place = || {
                format!(
                    "statement {} of candidate \"{election}/{candidate}\": {}",
                    index + 1,
                    statement.text
                )
            };
            rows += ran.map_err(|error| error.nowhere().with_context(place()))?;
        }
        Ok(rows)
    }

    async fn run_recorded(&mut self, statement: &Recorded) -> Result<u64, Error> {
        let types: Vec<u32> = statement
            .parameters
            .iter()
            .map(|parameter| parameter.ty)
            .collect();
        let values: Vec<Option<&[u8]>> = statement
            .parameters
            .iter()
            .map(|parameter| parameter.value.as_deref().map(str::as_bytes))
            .collect();
        let prepared = self.prepared(&statement.text, &types)?;
        let planned = self.current_plan(&prepared)?;
        let params = Params::decode("", &planned, &[], &values, &self.input_context())?;
        let mut portal = Portal::new(prepared, planned, params, Formats::Text);
        let mut out = BytesMut::new();
        match self.start_planned(&mut portal, 0, &mut out).await? {
            Advance::Complete(
                CommandTag::Insert(rows) | CommandTag::Update(rows) | CommandTag::Delete(rows),
            ) => Ok(rows),
            _ => Err(Error::internal("a recorded statement that does not write")),
        }
    }
}
