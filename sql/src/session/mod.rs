//! One connection's session: prepared statements, portals, transactions, settings.
//!
//! The caller owns the socket. It hands over what the client sent, sends what stands in `out`, and follows these rules:
//!
//! - *Simple query*: [`Session::parse_script`]; no statement at all is EmptyQueryResponse; then [`Session::simple`] for
//!   each statement in turn, until the first error; then [`Session::sync`]; then ReadyForQuery.
//! - *Extended query*: [`Session::prepare`], [`Session::bind`], `describe_*`, [`Session::execute`] as messages come. After
//!   an error skip messages up to Sync. At Sync call [`Session::sync`], then ReadyForQuery.
//! - Every error that a method returns has already had its effect on the transaction; the caller only reports it.
//! - Before ReadyForQuery, and when [`Session::poll_notified`] says so while the client is waited for, send what
//!   [`Session::take_notifications`] returns, then the notices.
//! - Before CommandComplete, send what [`Session::take_notices`] and [`Session::take_parameter_changes`] return.
//!
//! Invariants:
//! - an answer that depends on a commit leaves only when that commit is durable (`run`);
//! - a plan runs only against the catalog version that it was made for (`run`).

mod alter;
mod alter_column;
mod api;
mod arrow;
mod as_of;
mod call;
mod cancel;
mod clock;
mod conflict;
pub(crate) use clock::now_micros;
mod copy;
mod ddl;
mod dependents;
mod elect;
mod election;
mod explain;
mod extended;
mod foreign_keys;
mod future;
mod index;
mod listing;
mod notify;
mod portal;
mod prediction;
mod prepared;
mod query;
mod recorded;
mod row;
mod run;
mod savepoint;
mod sequence;
pub mod settings;
mod simple;
mod transaction;
mod utility;
mod validate;

pub use api::{
    ColumnDescription, Executed, Notice, ParsedStatement, SessionInfo, StatementDescription,
    TransactionStatus,
};
pub use arrow::ArrowRows;
pub use cancel::CancelHandle;

use crate::database::{Database, Present};
use crate::error::{Error, SqlState};
use crate::exec::copy::CopyIn;
use crate::exec::interrupt::Interrupt;
use crate::expr::Facts;
use crate::notify::{Ear, Outbox};
use crate::sequence::SequenceAccess;
use crate::types::InputContext;
use portal::Portal;
use prepared::{PlanCache, Prepared, Templates};
use scry_engine::{Catalog, EngineSession};
use scry_wal::{Log, Lsn};
use settings::Settings;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use transaction::Transaction;

/// The one database's name.
pub const DATABASE_NAME: &str = "scry";

/// What `version()` says: clients look for PostgreSQL's number in it.
pub fn version_text() -> String {
    format!(
        "PostgreSQL {} (scry {})",
        settings::SERVER_VERSION,
        env!("CARGO_PKG_VERSION")
    )
}

/// Facts of the session that do not change.
struct Identity {
    user: String,
    version: String,
    process: i32,
    random: AtomicU64,
    /// What the open transaction is going to tell.
    outbox: Arc<Outbox>,
    sequences: Arc<SequenceAccess>,
}

/// When the present transaction and statement began, in microseconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    transaction: i64,
    statement: i64,
}

/// A client's session. Dropping it rolls its open transaction back.
pub struct Session {
    database: Arc<Database>,
    _present: Present,
    engine: EngineSession,
    log: Arc<Log>,
    info: SessionInfo,
    identity: Identity,
    cancel: CancelHandle,
    interrupt: Interrupt,
    settings: Settings,
    transaction: Transaction,
    ear: Ear,
    times: Times,
    notices: Vec<Notice>,
    statements: HashMap<String, Arc<Prepared>>,
    unnamed: Option<Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    unnamed_portal: Option<Portal>,
    cache: PlanCache,
    templates: Templates,
    /// The committed catalog as of the last look, and its LSN.
    newest: (Lsn, Arc<Catalog>),
    /// The execution that `resume` goes on with.
    pending: Option<run::Pending>,
    copy: Option<Box<CopyIn>>,
}

fn facts<'a>(identity: &'a Identity, settings: &'a Settings, times: Times) -> Facts<'a> {
    Facts {
        zone: settings.zone(),
        transaction_start: times.transaction,
        statement_start: times.statement,
        clock: clock::now_micros,
        random: &identity.random,
        user: &identity.user,
        database: DATABASE_NAME,
        version: &identity.version,
        backend_pid: identity.process,
        transaction_id: None,
        sequences: Some(&identity.sequences),
        outbox: Some(&identity.outbox),
    }
}

impl Session {
    pub(crate) fn new(database: Arc<Database>, info: SessionInfo) -> Result<Self, Error> {
        let settings = Settings::new(&info.user, &info.application, &info.settings)?;
        let engine = database.engine().session(scry_engine::SessionInfo {
            user: info.user.clone(),
            client: info.client.clone(),
            application: info.application.clone(),
        });
        let cancel = CancelHandle::default();
        let outbox = Arc::<Outbox>::default();
        let sequences = Arc::new(SequenceAccess::new(database.engine().clone()));
        let seed = clock::now_micros() as u64 ^ u64::from(info.process.unsigned_abs()).rotate_left(40);
        Ok(Session {
            engine,
            log: database.engine().log().clone(),
            identity: Identity {
                user: info.user.clone(),
                version: version_text(),
                process: info.process,
                random: AtomicU64::new(seed | 1),
                outbox: outbox.clone(),
                sequences: sequences.clone(),
            },
            interrupt: Interrupt::new(cancel.clone()),
            cancel,
            settings,
            transaction: Transaction::new(&info.user, outbox, sequences),
            ear: Ear::new(database.bus().clone(), info.process),
            times: Times::default(),
            notices: Vec::new(),
            statements: HashMap::new(),
            unnamed: None,
            portals: HashMap::new(),
            unnamed_portal: None,
            cache: PlanCache::default(),
            templates: Templates::default(),
            newest: (database.engine().catalog_lsn(), database.engine().catalog()),
            pending: None,
            copy: None,
            info,
            _present: database.enter(),
            database,
        })
    }

    /// For ReadyForQuery.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.transaction.status()
    }

    /// How long the client may be silent after ReadyForQuery, and what it is told otherwise, which ends the session.
    pub fn idle_limit(&self) -> Option<(Duration, Error)> {
        let active = self.settings.active();
        match self.transaction.status() {
            TransactionStatus::Idle => Some((
                active.idle_timeout?,
                Error::new(
                    SqlState::IDLE_SESSION_TIMEOUT,
                    "terminating connection due to idle-session timeout",
                ),
            )),
            TransactionStatus::InTransaction | TransactionStatus::Failed => Some((
                active.idle_in_transaction_timeout?,
                Error::new(
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    "terminating connection due to idle-in-transaction timeout",
                ),
            )),
        }
        .map(|(limit, error)| (limit, error.fatal()))
    }

    /// Shared with whoever serves cancel requests.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// The ParameterStatus values of a fresh connection, in order.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        self.settings.reported()
    }

    /// ParameterStatus values that changed since the last call. Empty almost always, and then free.
    pub fn take_parameter_changes(&mut self) -> Vec<(&'static str, String)> {
        self.settings.take_changed()
    }

    /// Notices and warnings of the last statement. Empty almost always, and then free.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// An error that arose outside the session (a malformed message) was reported to the client: the transaction
    /// fails as if one of the session's own statements had.
    pub fn fail(&mut self) {
        self.pending = None;
        self.copy = None;
        let was_explicit = self.transaction.is_explicit();
        self.transaction.fail(&mut self.settings);
        if !was_explicit {
            self.close_portals();
        }
    }

    /// Reports an error, after its effect on the transaction and when everything it tells is durable.
    async fn failed<T>(&mut self, error: Error) -> Result<T, Error> {
        let depends_on = self.transaction.depends_on();
        self.fail();
        // When the log has failed, its error is worse than the statement's.
        self.durable(depends_on).await?;
        Err(error)
    }

    /// Waits until the log is durable beyond `lsn`.
    #[inline]
    async fn durable(&self, lsn: Lsn) -> Result<(), Error> {
        if lsn == Lsn::ZERO || self.log.durable_lsn() > lsn {
            return Ok(());
        }
        Ok(self.log.durable(lsn).await?)
    }

    /// Portals end with their transaction.
    fn close_portals(&mut self) {
        self.unnamed_portal = None;
        if !self.portals.is_empty() {
            self.portals.clear();
        }
    }

    /// The catalog that the next statement will see.
    fn catalog(&mut self) -> Arc<Catalog> {
        if let Some(txn) = self.transaction.txn() {
            return txn.catalog().clone();
        }
        self.follow_catalog();
        self.next_catalog()
    }

    /// The catalog that a transaction would begin with. Of a candidate that has ended or a state that is gone, any will do: the statement
    /// will be refused.
    fn next_catalog(&self) -> Arc<Catalog> {
        if let Some(past) = self.past_catalog() {
            return past;
        }
        let newest = &self.newest.1;
        let inside = self.settings.candidate();
        let inside = inside.and_then(|(election, candidate)| newest.inside(election, candidate).ok());
        inside.map_or_else(|| Arc::clone(newest), Arc::new)
    }

    /// That catalog's version.
    #[inline]
    fn catalog_version(&mut self) -> u64 {
        if let Some(txn) = self.transaction.txn() {
            return txn.catalog().version();
        }
        self.follow_catalog();
        match (self.settings.candidate(), self.settings.as_of()) {
            (None, None) => self.newest.1.version(),
            _ => self.next_catalog().version(),
        }
    }

    /// Looks whether a commit has brought a newer catalog: one load when none has.
    #[inline]
    fn follow_catalog(&mut self) {
        let engine = self.database.engine();
        let lsn = engine.catalog_lsn();
        if lsn != self.newest.0 {
            self.newest = (lsn, engine.catalog());
        }
    }

    fn facts(&self) -> Facts<'_> {
        facts(&self.identity, &self.settings, self.times)
    }

    fn input_context(&self) -> InputContext<'_> {
        InputContext {
            zone: self.settings.zone(),
            now: self.times.transaction,
        }
    }

    /// Reads the clock for a statement, and for its transaction if it opens one.
    #[inline]
    fn tick(&mut self) {
        self.times.statement = clock::now_micros();
        if !self.transaction.is_open() {
            self.times.transaction = self.times.statement;
        }
    }
}
