//! Row plans of a session: reading on the primary, and everything that writes.

use super::portal::{Portal, State};
use super::run::Advance;
use super::{Session, facts};
use crate::error::Error;
use crate::exec::context::Exec;
use crate::exec::insert::Inserter;
use crate::exec::message::RowBuffer;
use crate::exec::select::Step;
use crate::exec::{foreign_keys, select, update};
use crate::plan::planner::Kind;
use crate::plan::row::{InsertPlan, RowPlan, Rows};
use crate::tags::CommandTag;
use bytes::BytesMut;
use scry_wal::Lsn;

/// Rows that INSERT … SELECT takes from its query at a time.
const INSERT_BATCH: usize = 1024;

impl Session {
    pub(super) async fn start_row(
        &mut self,
        portal: &mut Portal,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let planned = portal.planned.clone();
        let Kind::Row(plan) = &planned.kind else {
            return Err(Error::internal("not a row plan"));
        };
        if let Some(what) = plan.writes() {
            self.transaction.check_writable(&self.settings, what)?;
        }
        if let RowPlan::Insert(insert) = plan
            && matches!(insert.rows, Rows::Query { .. })
        {
            return self.insert_from_query(portal, insert, limit, out).await;
        }
        let (txn, foreign_keys) = self.transaction.parts()?;
        let facts = facts(&self.identity, &self.settings, self.times);
        let mut exec = Exec {
            txn,
            foreign_keys,
            interrupt: &self.interrupt,
            params: portal.params.values(),
            facts: &facts,
            formats: &portal.formats,
            read: Lsn::ZERO,
        };
        if let RowPlan::Select(plan) = plan
            && plan.locking.is_none()
            && plan.order.is_empty()
        {
            if limit == 0
                && let Some(rows) = select::point(&mut exec, plan, out)?
            {
                return Ok(Advance::Rows(Step { rows, done: true }));
            }
            let mut running = select::open(&mut exec, plan)?;
            let step = running.step(&mut exec, plan, out, limit)?;
            if limit != 0 && !step.done {
                running.hold(&mut exec, plan)?;
            }
            let read = exec.read;
            self.transaction.note_read(read);
            portal.state = State::Rows(running);
            return Ok(Advance::Rows(step));
        }
        // Rows that a row limit may hold back are kept aside.
        let mut buffer = BytesMut::new();
        let sink = if limit == 0 { &mut *out } else { &mut buffer };
        let tag = match plan {
            RowPlan::Select(plan) => CommandTag::Select(select::collect(&mut exec, plan, sink).await?),
            RowPlan::Insert(plan) => {
                let mut inserter = Inserter::new(plan);
                inserter.enter(&mut exec).await?;
                inserter.values(&mut exec, sink).await?;
                CommandTag::Insert(inserter.count)
            }
            RowPlan::Update(plan) => CommandTag::Update(update::update(&mut exec, plan, sink).await?),
            RowPlan::Delete(plan) => CommandTag::Delete(update::delete(&mut exec, plan, sink).await?),
        };
        foreign_keys::settle(&mut exec).await?;
        let read = exec.read;
        self.transaction.note_read(read);
        let tells = plan.projection().is_some();
        self.wrote(portal, tag, tells, buffer, limit, out).await
    }

    /// Ends a statement that has done all its work: its rows stand in `out`, or in `buffer` under a row limit.
    pub(super) async fn wrote(
        &mut self,
        portal: &mut Portal,
        tag: CommandTag,
        tells: bool,
        bytes: BytesMut,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let rows = match tag {
            CommandTag::Insert(rows) | CommandTag::Update(rows) | CommandTag::Delete(rows) => rows,
            _ => 0,
        };
        if rows > 0 {
            self.transaction.wrote(tag.name());
        }
        if !matches!(tag, CommandTag::Select(_)) && self.records() {
            self.record(portal)?;
        }
        if tells || rows == 0 {
            self.answerable().await?;
        }
        let mut buffer = RowBuffer { bytes };
        let (sent, more) = buffer.take(out, limit);
        if more {
            portal.state = State::Buffer(buffer, tag);
            return Ok(Advance::Rows(Step {
                rows: sent as u64,
                done: false,
            }));
        }
        portal.state = State::Done;
        Ok(Advance::Complete(tag))
    }

    /// INSERT … SELECT, in batches.
    async fn insert_from_query(
        &mut self,
        portal: &mut Portal,
        plan: &InsertPlan,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let Rows::Query {
            planned: query,
            types,
            casts,
        } = &plan.rows
        else {
            return Err(Error::internal("an INSERT without query"));
        };
        let mut inserter = Inserter::new(plan);
        let mut buffer = BytesMut::new();
        let mut stream = match &query.kind {
            Kind::Analytic(analytic) => {
                let params = portal.params.scalars(analytic.param_types())?;
                Some(self.open_stream(analytic, params).await?)
            }
            _ => None,
        };
        let (txn, foreign_keys) = self.transaction.parts()?;
        let facts = facts(&self.identity, &self.settings, self.times);
        let mut exec = Exec {
            txn,
            foreign_keys,
            interrupt: &self.interrupt,
            params: portal.params.values(),
            facts: &facts,
            formats: &portal.formats,
            read: Lsn::ZERO,
        };
        inserter.enter(&mut exec).await?;
        let sink = if limit == 0 { &mut *out } else { &mut buffer };
        match (&query.kind, &mut stream) {
            (Kind::Row(RowPlan::Select(select)), _)
                if select.locking.is_none() && select.order.is_empty() =>
            {
                let mut running = select::open(&mut exec, select)?;
                if plan.may_change(select.table.as_deref()) {
                    running.hold(&mut exec, select)?;
                }
                loop {
                    let (rows, more) = running.values(&mut exec, select, INSERT_BATCH)?;
                    inserter.rows(&mut exec, rows, types, casts, sink).await?;
                    exec.txn.room().await?;
                    if !more {
                        break;
                    }
                }
            }
            (_, Some(stream)) => {
                while let Some(batch) = stream.batch(&self.interrupt).await? {
                    let mut rows = Vec::with_capacity(batch.num_rows());
                    for row in 0..batch.num_rows() {
                        rows.push(crate::analytic::row_values(&batch, row)?);
                    }
                    inserter.rows(&mut exec, rows, types, casts, sink).await?;
                    exec.txn.room().await?;
                }
            }
            _ => {
                return Err(Error::unsupported(
                    "INSERT from a query that locks or sorts on the primary",
                ));
            }
        }
        foreign_keys::settle(&mut exec).await?;
        let (read, count) = (exec.read, inserter.count);
        self.transaction.note_read(read);
        self.wrote(
            portal,
            CommandTag::Insert(count),
            plan.returning.is_some(),
            buffer,
            limit,
            out,
        )
        .await
    }
}
