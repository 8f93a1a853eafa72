//! Running a statement: plans kept current, rows out in pieces, answers held back until what they tell is durable.

use super::portal::{Portal, State, Stream};
use super::prepared::Prepared;
use super::{ColumnDescription, Executed, Session, facts};
use crate::error::{Error, SqlState};
use crate::exec::context::Exec;
use crate::exec::copy::CopyOut;
use crate::exec::select::Step;
use crate::plan::planner::{Kind, Planned, Planning};
use crate::plan::row::RowPlan;
use crate::plan::statement::Statement;
use crate::plan::{parse, split};
use crate::tags::CommandTag;
use bytes::BytesMut;
use scry_engine::Isolation;
use scry_wal::Lsn;
use std::sync::Arc;

/// How often a statement is planned anew because a table changed under it.
const MAX_REPLANS: u32 = 16;

/// An execution under way.
pub struct Pending {
    pub portal: Portal,
    /// The portal's name, under which it is kept; `None` for the simple protocol.
    name: Option<String>,
    max_rows: usize,
    sent: u64,
    /// The last statement of a simple query ends the implicit transaction.
    last: bool,
    /// FETCH: the tag counts as FETCH.
    pub fetch: bool,
    /// COPY TO STDOUT: the rows become COPY data.
    pub copy_out: Option<Box<CopyOut>>,
}

impl Pending {
    pub fn new(portal: Portal, name: Option<&str>, max_rows: usize, last: bool) -> Self {
        Pending {
            portal,
            name: name.map(str::to_owned),
            max_rows,
            sent: 0,
            last,
            fetch: false,
            copy_out: None,
        }
    }

    /// The execution of a FETCH becomes that of the cursor. The statement's own portal is done with.
    pub(super) fn become_fetch(&mut self, portal: Portal, name: &str, rows: usize) {
        self.portal = portal;
        self.name = Some(name.to_owned());
        self.max_rows = rows;
        self.sent = 0;
        self.fetch = true;
    }
}

/// How far one call came.
pub(super) enum Advance {
    Rows(Step),
    Complete(CommandTag),
    Empty,
    CopyIn,
}

/// An error of the one statement in `sql`, with its position in the whole text.
pub(super) fn located(error: Error, sql: &str) -> Error {
    match split::statements(sql).unwrap_or_default().as_slice() {
        [(start, end)] => error
            .located(&sql[*start..*end])
            .behind(sql[..*start].chars().count()),
        _ => error,
    }
}

impl Session {
    /// Reads the clock and arms the timeouts.
    #[inline]
    pub(super) fn begin_statement(&mut self) {
        self.tick();
        self.begin_interruptible();
    }

    #[inline]
    pub(super) fn begin_interruptible(&mut self) {
        let active = self.settings.active();
        self.interrupt
            .begin(active.statement_timeout, active.lock_timeout);
    }

    /// A failed transaction accepts nothing but its end.
    #[inline]
    pub(super) fn check_accepted(&self, statement: &Statement) -> Result<(), Error> {
        if self.transaction.is_failed() && !statement.ends_failed_transaction() {
            return self.transaction.check_usable();
        }
        Ok(())
    }

    /// The parsed and planned statement of a text: from the cache if it was seen before.
    pub(super) fn prepared(&mut self, sql: &str, types: &[u32]) -> Result<Arc<Prepared>, Error> {
        if let Some(found) = self.cache.get(sql, types) {
            return Ok(found);
        }
        let ranges = split::statements(sql)?;
        let statement = match ranges.as_slice() {
            [] => Statement::Empty,
            [(start, end)] => parse::statement(&sql[*start..*end]).map_err(|error| located(error, sql))?,
            _ => {
                return Err(Error::syntax(
                    "cannot insert multiple commands into a prepared statement",
                ));
            }
        };
        self.check_accepted(&statement)?;
        let planned = self
            .plan(&statement, types)
            .map_err(|error| located(error, sql))?;
        let prepared = Arc::new(Prepared::new(
            sql.into(),
            statement,
            types.to_vec(),
            Arc::new(planned),
        ));
        self.cache.put(sql, types, prepared.clone());
        Ok(prepared)
    }

    /// Plans against the catalog as it is now.
    pub(super) fn plan(&mut self, statement: &Statement, types: &[u32]) -> Result<Planned, Error> {
        let catalog = self.catalog();
        let scope = || self.scope(&catalog);
        let facts = self.facts();
        let planning = Planning {
            catalog: &catalog,
            analytic: self.database.analytic(),
            read_from: self.settings.active().read_from,
            in_future: self.settings.future().is_some(),
            generation: self.settings.generation(),
            facts: &facts,
            scope: &scope,
        };
        planning.plan(statement, types)
    }

    /// Makes the statement's plan anew if the catalog or the settings have moved on.
    pub(super) fn current_plan(&mut self, prepared: &Prepared) -> Result<Arc<Planned>, Error> {
        let planned = prepared.planned();
        let version = self.catalog_version();
        if planned.is_current(version, self.settings.generation()) {
            return Ok(planned);
        }
        let planned = self
            .plan(&prepared.statement, &prepared.given)
            .map_err(|error| located(error, &prepared.sql))?;
        let planned = Arc::new(planned);
        prepared.replace(planned.clone())?;
        Ok(planned)
    }

    /// Brings a portal's plan to the catalog of the statement's snapshot.
    fn refresh(&mut self, portal: &mut Portal) -> Result<(), Error> {
        let version = self.transaction.txn().map_or(0, |txn| txn.catalog().version());
        if portal.planned.is_current(version, self.settings.generation()) {
            return Ok(());
        }
        let planned = self.current_plan(&portal.prepared)?;
        let same_kind =
            matches!(planned.kind, Kind::Analytic(_)) == matches!(portal.planned.kind, Kind::Analytic(_));
        if planned.params != portal.planned.params || (!same_kind && !planned.params.is_empty()) {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cached plan must not change parameter types",
            ));
        }
        portal.planned = planned;
        Ok(())
    }

    /// Takes an execution one step on: to its end, to its row limit, or until the buffer is large.
    pub(super) async fn drive(
        &mut self,
        mut pending: Pending,
        out: &mut BytesMut,
    ) -> Result<Executed, Error> {
        let limit = match pending.max_rows {
            0 => 0,
            max => max - usize::try_from(pending.sent).unwrap_or(max).min(max - 1),
        };
        let tag = match self.advance(&mut pending, limit, out).await? {
            Advance::Rows(Step { rows, done }) => {
                pending.sent += rows;
                self.answerable().await?;
                if !done {
                    if pending.max_rows != 0 && pending.sent >= pending.max_rows as u64 {
                        return self.suspend(pending);
                    }
                    self.pending = Some(pending);
                    return Ok(Executed::MoreRows);
                }
                pending.portal.state = State::Done;
                match pending.fetch {
                    true => CommandTag::Fetch(pending.sent),
                    false => CommandTag::Select(pending.sent),
                }
            }
            Advance::Complete(CommandTag::Select(rows)) if pending.fetch => CommandTag::Fetch(rows),
            Advance::Complete(tag) => tag,
            Advance::Empty => {
                self.keep(pending);
                return Ok(Executed::Empty);
            }
            Advance::CopyIn => {
                if let Some(copy) = &mut self.copy {
                    copy.last = pending.last;
                }
                return Ok(Executed::CopyIn);
            }
        };
        let last = pending.last;
        self.keep(pending);
        if last {
            self.end_simple().await?;
        }
        if self.transaction.is_explicit() && self.portals.is_empty() {
            self.transaction.rest();
        }
        Ok(Executed::Complete(tag))
    }

    /// The last statement of a simple query: its implicit transaction ends before the statement is reported complete.
    pub(super) async fn end_simple(&mut self) -> Result<(), Error> {
        if self.transaction.is_explicit() {
            return Ok(());
        }
        self.close_portals();
        self.end_implicit().await
    }

    pub(super) async fn end_implicit(&mut self) -> Result<(), Error> {
        self.check_deferred().await?;
        self.room().await?;
        let lsn = self.transaction.commit(&mut self.settings, &mut self.ear)?;
        self.committed(lsn).await
    }

    /// Waits until a commit may be acknowledged, and delivers what it told.
    pub(super) async fn committed(&mut self, lsn: Option<Lsn>) -> Result<(), Error> {
        let Some(lsn) = lsn else { return Ok(()) };
        let sent = self.ear.take_sent();
        if let Some(at) = sent {
            // The client may go while the commit is waited for; others hear of it all the same.
            let workers = self.database.analytic().workers();
            self.ear.bus().deliver_when_durable(at, &self.log, workers);
        }
        self.durable(lsn).await?;
        if let Some(at) = sent {
            // The session itself hears of it before its answer is complete.
            self.ear.bus().deliver(at);
        }
        Ok(())
    }

    /// Waits until the log has room for a commit, and a little while when checkpoints do not keep up: here, where it keeps nobody else waiting, and not in the commit's
    /// critical section. Without room the transaction is rolled back.
    pub(super) async fn room(&mut self) -> Result<(), Error> {
        if !self.transaction.would_write() {
            return Ok(());
        }
        if let Err(error) = self.log.room().await {
            self.transaction.rollback(&mut self.settings);
            return Err(error.into());
        }
        let delay = self.database.engine().admission_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// FETCH and the row limit of Execute: the portal waits for more.
    fn suspend(&mut self, pending: Pending) -> Result<Executed, Error> {
        let (fetch, sent) = (pending.fetch, pending.sent);
        self.keep(pending);
        if fetch {
            return Ok(Executed::Complete(CommandTag::Fetch(sent)));
        }
        Ok(Executed::Suspended)
    }

    /// Puts a named or unnamed portal back where it was.
    fn keep(&mut self, pending: Pending) {
        match pending.name {
            None => {}
            Some(name) if name.is_empty() => self.unnamed_portal = Some(pending.portal),
            Some(name) => {
                self.portals.insert(name, pending.portal);
            }
        }
    }

    /// Waits until everything that the transaction has read is durable: rows and counts may tell of it then.
    #[inline]
    pub(super) async fn answerable(&mut self) -> Result<(), Error> {
        let depends_on = self.transaction.depends_on();
        self.durable(depends_on).await
    }

    pub(super) async fn advance(
        &mut self,
        pending: &mut Pending,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        if pending.copy_out.is_some() {
            return self.advance_copy(pending, out).await;
        }
        match pending.portal.state {
            State::Ready if matches!(pending.portal.planned.kind, Kind::Utility) => {
                Box::pin(self.utility(pending, limit, out)).await
            }
            State::Ready if matches!(pending.portal.planned.kind, Kind::Call(_)) => {
                Box::pin(self.call(&mut pending.portal, out)).await
            }
            State::Ready => self.start_planned(&mut pending.portal, limit, out).await,
            _ => self.advance_portal(pending, limit, out).await,
        }
    }

    /// The next step of an execution that has begun.
    pub(super) async fn advance_portal(
        &mut self,
        pending: &mut Pending,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let Portal {
            state,
            planned,
            params,
            formats,
            ..
        } = &mut pending.portal;
        match state {
            State::Ready => Err(Error::internal("an execution goes on that has not begun")),
            State::Done => Ok(Advance::Complete(CommandTag::Select(0))),
            State::Buffer(buffer, tag) => {
                let tag = *tag;
                let (rows, more) = buffer.take(out, limit);
                match tag {
                    CommandTag::Select(_) => Ok(Advance::Rows(Step {
                        rows: rows as u64,
                        done: !more,
                    })),
                    _ if more => Ok(Advance::Rows(Step {
                        rows: rows as u64,
                        done: false,
                    })),
                    _ => Ok(Advance::Complete(tag)),
                }
            }
            State::Stream(stream) => {
                let step = stream.step(&self.interrupt, formats, out, limit).await?;
                Ok(Advance::Rows(step))
            }
            State::Rows(running) => {
                let Kind::Row(RowPlan::Select(plan)) = &planned.kind else {
                    return Err(Error::internal("a running SELECT lost its plan"));
                };
                let Ok((txn, foreign_keys)) = self.transaction.parts() else {
                    return Err(Error::new(
                        SqlState::INVALID_CURSOR_STATE,
                        "the portal's transaction has ended",
                    ));
                };
                let facts = facts(&self.identity, &self.settings, self.times);
                let mut exec = Exec {
                    txn,
                    foreign_keys,
                    interrupt: &self.interrupt,
                    params: params.values(),
                    facts: &facts,
                    formats,
                    read: Lsn::ZERO,
                };
                let step = running.step(&mut exec, plan, out, limit)?;
                let read = exec.read;
                self.transaction.note_read(read);
                Ok(Advance::Rows(step))
            }
        }
    }

    pub(super) async fn start_planned(
        &mut self,
        portal: &mut Portal,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let begin = out.len();
        for _ in 0..MAX_REPLANS {
            let txn = self.transaction.statement(&mut self.engine, &self.settings)?;
            let written = txn.row_writes();
            self.refresh(portal)?;
            let result = match &portal.planned.kind {
                Kind::Row(_) => self.start_row(portal, limit, out).await,
                Kind::Analytic(_) => self.start_analytic(portal, limit, out).await,
                Kind::Searched(_) => self.start_searched(portal, limit, out).await,
                Kind::Call(_) | Kind::Utility => Err(Error::internal("a utility statement has no plan")),
            };
            match result {
                // Under READ COMMITTED a table replaced under the statement ends so. It is met before the first row is
                // written; a statement that has written must not begin again, as it would change its rows twice.
                Err(error)
                    if error.code == SqlState::SERIALIZATION_FAILURE
                        && self.is_read_committed()
                        && self.transaction.open_txn()?.row_writes() == written =>
                {
                    out.truncate(begin);
                }
                other => return other,
            }
        }
        Err(Error::new(
            SqlState::SERIALIZATION_FAILURE,
            "the table kept changing while the statement was run",
        ))
    }

    fn is_read_committed(&mut self) -> bool {
        self.transaction
            .txn()
            .is_some_and(|txn| txn.isolation() == Isolation::ReadCommitted)
    }

    async fn start_analytic(
        &mut self,
        portal: &mut Portal,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let planned = portal.planned.clone();
        let Kind::Analytic(plan) = &planned.kind else {
            return Err(Error::internal("not an analytic plan"));
        };
        let params = portal.params.scalars(plan.param_types())?;
        let mut stream: Stream = self.open_stream(plan, params).await?;
        let step = stream.step(&self.interrupt, &portal.formats, out, limit).await?;
        portal.state = State::Stream(Box::new(stream));
        Ok(Advance::Rows(step))
    }

    /// The columns of a statement's result; `None` when it returns no rows.
    pub(super) fn result_columns(
        &self,
        statement: &Statement,
        planned: &Planned,
    ) -> Result<Option<Arc<[ColumnDescription]>>, Error> {
        match planned.kind {
            Kind::Utility => self.utility_columns(statement),
            _ => Ok(planned.columns.clone()),
        }
    }
}
