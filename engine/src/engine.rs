//! The engine: one data directory, open. And its sessions.

use crate::catalog::Catalog;
use crate::catalogs::Catalogs;
use crate::collector::Collector;
use crate::constraints::RowRules;
use crate::directory::DataDirectory;
use crate::error::Error;
use crate::limits::{Limits, SPILL_BYTES};
use crate::locks::WaitTable;
use crate::pins::Pins;
use crate::recovery;
use crate::snapshots::{Slot, Snapshots};
use crate::stats::{Counters, Stats};
use crate::txn::{Isolation, Txn};
use scry_wal::storage::Storage;
use scry_wal::{Log, LogOptions, Lsn, StoreId, TxnId};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub log: LogOptions,
    /// Memory that the changes of one transaction may take.
    pub transaction_bytes_max: u64,
    /// Memory that the rows of one candidate may take, beyond which it takes no more; see `transaction_bytes_max` for what one
    /// commit may add.
    pub candidate_bytes_max: u64,
    /// How many transactions may wait for locks at once.
    pub lock_waiters_max: usize,
    /// A transaction with more unlogged changes than this writes them ahead as tentative records. The commit's
    /// critical section copies at most about as much.
    pub spill_bytes: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            log: LogOptions::default(),
            transaction_bytes_max: 8 << 30,
            candidate_bytes_max: 8 << 30,
            lock_waiters_max: 65_536,
            spill_bytes: SPILL_BYTES,
        }
    }
}

/// The row store of one data directory.
pub struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) limits: Limits,
    log: Arc<Log>,
    pub(crate) catalogs: Arc<Catalogs>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) waits: WaitTable,
    pub(crate) collector: Collector,
    pub(crate) pins: Arc<Pins>,
    pub(crate) counters: Counters,
    pub(crate) row_rules: OnceLock<Arc<dyn RowRules>>,
    next_txn: AtomicU64,
    next_oid: AtomicU32,
    next_store: AtomicU32,
    next_election: AtomicU64,
    _directory: DataDirectory,
}

impl Engine {
    /// Opens a data directory, or makes a new one of an empty or missing directory; rebuilds everything from the log.
    ///
    /// # Errors
    /// `DirectoryLocked`, `NotADataDirectory`, `NewerFormat`, `Io`; `Log` and `Corrupt` when the log is damaged.
    pub fn open(path: &Path, options: EngineOptions) -> Result<Arc<Engine>, Error> {
        Self::open_with(path, options, Log::open)
    }

    /// As `open`, with the log on another storage than the directory's: for tests with a disk that fails.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_on(
        path: &Path,
        storage: Arc<dyn Storage>,
        options: EngineOptions,
    ) -> Result<Arc<Engine>, Error> {
        Self::open_with(path, options, |_, options, replay| {
            Log::open_on(storage, options, replay)
        })
    }

    fn open_with(
        path: &Path,
        options: EngineOptions,
        open_log: impl FnOnce(&Path, LogOptions, recovery::ReplayFrame<'_>) -> Result<Log, scry_wal::Error>,
    ) -> Result<Arc<Engine>, Error> {
        let directory = DataDirectory::open(path)?;
        let wal = directory.wal();
        let (log, state) = recovery::replay(|replay| open_log(&wal, options.log.clone(), replay))?;
        let log = Arc::new(log);
        let snapshots = Arc::new(Snapshots::new(state.visible));
        let pins = Arc::clone(state.catalog.elections().pins());
        let catalogs = Arc::new(Catalogs::new(state.catalog_lsn, Arc::new(state.catalog)));
        let collector = Collector::start(
            Arc::clone(&snapshots),
            Arc::clone(&catalogs),
            Arc::clone(&log),
            Arc::clone(&pins),
        );
        let collector = collector.map_err(|source| Error::Io {
            path: path.to_owned(),
            doing: "start the collector of",
            source,
        })?;
        collector.bury(state.graves);
        // For all who read the log.
        collector.end_tentative(&state.unfinished);
        Ok(Arc::new(Engine {
            waits: WaitTable::new(options.lock_waiters_max),
            limits: Limits::new(log.reservation_max(), options.spill_bytes),
            options,
            log,
            catalogs,
            snapshots,
            collector,
            pins,
            counters: Counters::default(),
            row_rules: OnceLock::new(),
            next_txn: AtomicU64::new(state.next_txn),
            next_oid: AtomicU32::new(state.next_oid),
            next_store: AtomicU32::new(state.next_store),
            next_election: AtomicU64::new(state.next_election),
            _directory: directory,
        }))
    }

    /// Says who knows the conditions of tables; once. Without, rows that elections bring in are not checked.
    pub fn set_row_rules(&self, rules: Arc<dyn RowRules>) {
        let fresh = self.row_rules.set(rules).is_ok();
        assert!(fresh, "the rules of rows are set once");
    }

    /// The audit trail.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The LSN of the newest committed catalog: one load, to see whether [`Engine::catalog`] would answer something new.
    pub fn catalog_lsn(&self) -> Lsn {
        self.catalogs.lsn()
    }

    /// The newest committed catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalogs.latest().1
    }

    /// The LSN of the newest visible commit: what a snapshot taken now would see.
    pub fn visible_lsn(&self) -> Lsn {
        self.snapshots.visible()
    }

    /// No snapshot older than this is held by anyone, nor will be taken; versions behind it may go.
    pub fn horizon(&self) -> Lsn {
        self.snapshots.advance()
    }

    /// A session: one client, one transaction at a time.
    pub fn session(self: &Arc<Self>, info: SessionInfo) -> EngineSession {
        let (catalog_lsn, catalog) = self.catalogs.latest();
        EngineSession {
            engine: Arc::clone(self),
            slot: self.snapshots.register(),
            info: Arc::new(info),
            catalog_lsn,
            catalog: Arc::downgrade(&catalog),
        }
    }

    pub fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Stops the background thread and closes the log. Sessions that are still open can read; their commits fail.
    ///
    /// # Errors
    /// When the log could not be written to its end.
    pub fn close(&self) -> Result<(), Error> {
        self.collector.stop();
        Ok(self.log.close()?)
    }

    pub(crate) fn next_txn_id(&self) -> TxnId {
        TxnId::new(self.next_txn.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_oid(&self) -> u32 {
        self.next_oid.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for an election or a candidate.
    pub(crate) fn next_election_id(&self) -> u64 {
        self.next_election.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_store_id(&self) -> StoreId {
        StoreId::new(self.next_store.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.collector.stop();
    }
}

/// Who works in a session; goes into the audit trail with each commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    pub user: String,
    /// The client's address.
    pub client: String,
    pub application: String,
}

/// A client's place in the engine. It owns the slot in which its transactions hold their snapshots.
pub struct EngineSession {
    engine: Arc<Engine>,
    slot: Arc<Slot>,
    info: Arc<SessionInfo>,
    /// The catalog as of the last look: mostly it is still the newest. Not held, for with it an idle session would
    /// hold the data of tables that were dropped since.
    catalog_lsn: Lsn,
    catalog: Weak<Catalog>,
}

impl EngineSession {
    /// Begins a transaction.
    pub fn begin(&mut self, isolation: Isolation) -> Txn {
        // A former transaction that is still open keeps its slot. The list of slots and the session know it, too.
        if Arc::strong_count(&self.slot) > 2 {
            self.slot = self.engine.snapshots.register();
        }
        let known = self.catalog.upgrade();
        let current = known.filter(|_| self.engine.catalogs.lsn() == self.catalog_lsn);
        let catalog = current.unwrap_or_else(|| {
            let (lsn, catalog) = self.engine.catalogs.at(self.engine.visible_lsn());
            (self.catalog_lsn, self.catalog) = (lsn, Arc::downgrade(&catalog));
            catalog
        });
        Txn::begin(
            Arc::clone(&self.engine),
            Arc::clone(&self.slot),
            Arc::clone(&self.info),
            isolation,
            self.catalog_lsn,
            catalog,
        )
    }

    /// The application's name for the audit trail, from the next transaction on.
    pub fn set_application(&mut self, application: &str) {
        if self.info.application != application {
            self.info = Arc::new(SessionInfo {
                application: application.to_owned(),
                ..(*self.info).clone()
            });
        }
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}
