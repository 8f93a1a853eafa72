//! The engine: one data directory, open. And its sessions.

use crate::background::Background;
use crate::catalog::Catalog;
use crate::catalogs::Catalogs;
use crate::checkpoint::{self, Checkpoints, Parts, State};
use crate::clock::Clock;
use crate::collector::Collector;
use crate::compactor::Compactor;
use crate::constraints::RowRules;
use crate::directory::DataDirectory;
use crate::error::Error;
use crate::history::History;
use crate::limits::{Limits, SPILL_BYTES};
use crate::locks::{Shares, WaitTable};
use crate::pins::Pins;
use crate::recovery;
use crate::recycler::Recycler;
use crate::runs::{RunsOptions, RunsStats};
use crate::serial::Serial;
use crate::snapshots::{Slot, Snapshots};
use crate::stats::{Counters, Stats};
use crate::store::backing::Backing;
use crate::txn::{Isolation, Txn};
use scry_wal::storage::Storage;
use scry_wal::{Log, LogOptions, Lsn, Recycled, StoreId, TxnId};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub log: LogOptions,
    /// Memory that the changes of one transaction may take.
    pub transaction_bytes_max: u64,
    /// Changes of a transaction that take more than this move out of memory, as far as they can; see `txn::moved`. What cannot counts for
    /// `transaction_bytes_max`.
    pub move_bytes: u64,
    /// A transaction of which something has moved, and that has inserted so many rows into a table by rising keys, is taken for a load: see
    /// `txn::rising`.
    pub load_rows: u32,
    /// Memory that the rows of one candidate may take, beyond which it takes no more; see `transaction_bytes_max` for what one
    /// commit may add.
    pub candidate_bytes_max: u64,
    /// How many transactions may wait for locks at once.
    pub lock_waiters_max: usize,
    /// A transaction with more unlogged changes than this writes them ahead as tentative records. The commit's
    /// critical section copies at most about as much.
    pub spill_bytes: usize,
    /// Memory for rows. Beyond it, rows that nobody was interested in lately are in files only.
    pub rows_bytes_max: u64,
    /// A checkpoint is made when the log has grown by so much since the last one, so that a restart replays no more than about
    /// that; 0: never.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint is made when so much of rows is in memory and in the log alone; 0: never.
    pub checkpoint_dirty_bytes: u64,
    /// A restart puts so many changes of rows into memory together; with fewer it is slower.
    pub replay_rows: usize,
    pub runs: RunsOptions,
    /// How long what was superseded can still be read; zero: only as long as a snapshot sees it.
    pub history: Duration,
    /// What commits are dated by, and ages are counted by.
    pub clock: Clock,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            log: LogOptions::default(),
            transaction_bytes_max: 8 << 30,
            move_bytes: 64 << 20,
            load_rows: 16_384,
            candidate_bytes_max: 8 << 30,
            lock_waiters_max: 65_536,
            spill_bytes: SPILL_BYTES,
            rows_bytes_max: 4 << 30,
            checkpoint_log_bytes: 512 << 20,
            checkpoint_dirty_bytes: 256 << 20,
            replay_rows: recovery::REPLAY_ROWS,
            runs: RunsOptions::default(),
            history: Duration::ZERO,
            clock: Clock::default(),
        }
    }
}

/// What the next of each kind is numbered.
pub(crate) struct Numbers {
    pub(crate) txn: AtomicU64,
    pub(crate) election: AtomicU64,
    pub(crate) oid: AtomicU32,
    pub(crate) store: AtomicU32,
}

/// The row store of one data directory.
pub struct Engine {
    /// Dropped first: it would drop the spaces of stores that are gone with the catalogs.
    compactor: Compactor,
    checkpointer: Background,
    recycler: Background,
    pub(crate) options: EngineOptions,
    pub(crate) limits: Limits,
    log: Arc<Log>,
    pub(crate) catalogs: Arc<Catalogs>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) waits: WaitTable,
    pub(crate) shares: Shares,
    pub(crate) key_locks: Shares,
    pub(crate) collector: Collector,
    pub(crate) pins: Arc<Pins>,
    pub(crate) counters: Counters,
    pub(crate) row_rules: OnceLock<Arc<dyn RowRules>>,
    numbers: Arc<Numbers>,
    pub(crate) backing: Arc<Backing>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    recycling: Arc<Recycler>,
    pub(crate) serial: Arc<Serial>,
    pub(crate) history: Arc<History>,
    /// What was visible when the engine was opened.
    opened_at: Lsn,
    replayed_bytes: u64,
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
        let (runs, checkpoint) = directory.open_runs(&options.runs)?;
        let checkpoint = checkpoint.as_deref().map(State::read).transpose()?;
        let (at, restart) = checkpoint
            .as_ref()
            .map_or((Lsn::ZERO, Lsn::ZERO), |state| (state.at, state.restart));
        let mut log_options = options.log.clone();
        if let Some(state) = &checkpoint {
            log_options.restart = state.restart;
            log_options.database = Some(state.database);
            // What a checkpoint has was durable before.
            log_options.durable_before = log_options.durable_before.max(at.plus(1));
        }
        let backing = Backing::new(runs, checkpoint.as_ref().map_or(1, |state| state.next_space));
        let (timeline, oldest) = match &checkpoint {
            Some(state) => (state.timeline.as_slice(), state.oldest),
            None => (&[][..], Lsn::ZERO),
        };
        let clock = options.clock.clone();
        let history = Arc::new(History::new(options.history, clock, timeline, (at, oldest)));
        let upon = recovery::Ground {
            backing: &backing,
            checkpoint: checkpoint.as_ref(),
            history: &history,
            bulk_bytes: usize::try_from(options.move_bytes).unwrap_or(usize::MAX),
            replay_rows: options.replay_rows,
        };
        let (log, state) = recovery::replay(upon, |replay| open_log(&wal, log_options, replay))?;
        let log = Arc::new(log);
        let replayed_bytes = log.durable_lsn().get().saturating_sub(restart.get());
        let snapshots = Arc::new(Snapshots::new(state.visible, state.oldest));
        let pins = Arc::clone(&state.pins);
        let catalogs = Arc::new(Catalogs::new(
            state.catalog_lsn,
            state.catalogs,
            state.definitions,
        ));
        let collector = Collector::start(
            Arc::clone(&snapshots),
            Arc::clone(&catalogs),
            Arc::clone(&log),
            Arc::clone(&pins),
            Arc::clone(&history),
        );
        let no_thread = |which: &'static str| {
            let path = path.to_owned();
            move |source| Error::NoThread { path, which, source }
        };
        let collector = collector.map_err(no_thread("collects what nobody sees"))?;
        collector.bury(state.graves);
        // For all who read the log.
        collector.end_tentative(&state.unfinished);
        let numbers = Arc::new(Numbers {
            txn: AtomicU64::new(state.next_txn),
            election: AtomicU64::new(state.next_election),
            oid: AtomicU32::new(state.next_oid),
            store: AtomicU32::new(state.next_store),
        });
        let recycling = Arc::new(Recycler::new(
            Arc::clone(&log),
            directory.hold()?,
            options.clock.clone(),
            restart,
        ));
        let parts = Parts {
            log: Arc::clone(&log),
            catalogs: Arc::clone(&catalogs),
            snapshots: Arc::clone(&snapshots),
            pins: Arc::clone(&pins),
            backing: Arc::clone(&backing),
            numbers: Arc::clone(&numbers),
            history: Arc::clone(&history),
            recycler: Arc::clone(&recycling),
        };
        let limits = checkpoint::Limits {
            rows_bytes_max: options.rows_bytes_max,
            log_bytes: options.checkpoint_log_bytes,
            dirty_bytes: options.checkpoint_dirty_bytes,
        };
        let checkpoints = Arc::new(Checkpoints::new(parts, limits, at));
        let checkpointer = checkpoints.start().map_err(no_thread("makes checkpoints"))?;
        let recycler = recycling.start().map_err(no_thread("recycles the log"))?;
        let compactor = Compactor::start(&backing, &snapshots, &pins, &history);
        let compactor = compactor.map_err(no_thread("compacts runs"))?;
        Ok(Arc::new(Engine {
            backing,
            checkpoints,
            checkpointer,
            recycler,
            recycling,
            compactor,
            waits: WaitTable::new(options.lock_waiters_max),
            shares: Shares::default(),
            key_locks: Shares::default(),
            limits: Limits::new(log.reservation_max(), options.spill_bytes),
            options,
            log,
            catalogs,
            snapshots,
            collector,
            pins,
            counters: Counters::default(),
            row_rules: OnceLock::new(),
            numbers,
            serial: Arc::default(),
            history,
            opened_at: state.visible,
            replayed_bytes,
            _directory: directory,
        }))
    }

    /// Says who knows the conditions of tables; once. Without, rows that elections bring in are not checked.
    pub fn set_row_rules(&self, rules: Arc<dyn RowRules>) {
        let fresh = self.row_rules.set(rules).is_ok();
        assert!(fresh, "the rules of rows are set once");
    }

    /// Writes what is in memory alone into files, so that a restart need not replay it, and recycles the log. Answers the LSN up to which
    /// all is in files. Blocks until that is done.
    ///
    /// # Errors
    /// `Io` and others of files; `Log` when the log has failed. Nothing is lost then, and the next checkpoint does it all.
    pub fn checkpoint(&self) -> Result<Lsn, Error> {
        let at = self.checkpoints.make()?;
        // What cannot go now is tried again, and `recycling_trouble` says why.
        let _ = self.recycling.recycle();
        Ok(at)
    }

    /// Copies full segments of the log to its archive, and lets go of those that neither the last checkpoint nor a consumer needs and
    /// that are not to be kept either. A thread does so by itself, after checkpoints and now and then. Blocks while files are copied.
    ///
    /// # Errors
    /// `Log`: what did not go then goes the next time.
    pub fn recycle_log(&self) -> Result<Recycled, Error> {
        self.recycling.recycle()
    }

    /// Takes rows out of memory that are in files, until all take no more than `EngineOptions::rows_bytes_max` or those left are in use. A
    /// thread does so by itself.
    pub fn make_room(&self) {
        self.checkpoints.make_room(|| false);
    }

    /// How long who is about to commit should wait first, so that checkpoints and compaction keep up: most often not at all.
    pub fn admission_delay(&self) -> Duration {
        self.checkpoints.admission.delay()
    }

    /// Why rows cannot be put into files now, or their files not be merged.
    pub fn rows_trouble(&self) -> Option<String> {
        let checkpoints = self.checkpoints.attempts().trouble();
        checkpoints.or_else(|| self.compactor.attempts().trouble())
    }

    /// Why the log cannot be archived or recycled now.
    pub fn recycling_trouble(&self) -> Option<String> {
        self.recycling.attempts().trouble()
    }

    /// Memory that committed rows take, about.
    pub fn memory_bytes(&self) -> u64 {
        self.backing.memory_bytes()
    }

    /// The runs in figures: levels, flushes, compactions, cache.
    pub fn runs_stats(&self) -> RunsStats {
        self.backing.runs.stats()
    }

    /// How much of the log the opening replayed.
    pub fn replayed_bytes(&self) -> u64 {
        self.replayed_bytes
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

    /// As `horizon`, of the snapshots of the present alone: history may be kept further back.
    pub fn readers_horizon(&self) -> Lsn {
        self.snapshots.advance();
        self.snapshots.readers()
    }

    /// The catalog of a state of the past, with what finds rows in it.
    pub fn catalog_at(&self, at: Lsn) -> Arc<Catalog> {
        self.past_catalog(at).1
    }

    /// The same, with the LSN of the commit that made it.
    fn past_catalog(&self, at: Lsn) -> (Lsn, Arc<Catalog>) {
        let (lsn, catalog) = self.catalogs.at(at);
        match at < self.opened_at {
            // Indexes were filled from what was there then.
            true => (lsn, Arc::new(catalog.without_indexes())),
            false => (lsn, catalog),
        }
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

    /// How many keys that are referred to are locked.
    pub fn locked_keys(&self) -> usize {
        self.key_locks.len()
    }

    /// How many rows are locked by transactions that share them.
    pub fn shared_rows(&self) -> usize {
        self.shares.len()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            checkpoints: self.checkpoints.made(),
            checkpoints_failed: self.checkpoints.attempts().failed(),
            compactions_failed: self.compactor.attempts().failed(),
            ..self.counters.read()
        }
    }

    /// Makes a checkpoint, stops the background threads and closes the log. Sessions that are still open can read; their commits fail.
    ///
    /// # Errors
    /// When the log could not be written to its end, or the checkpoint could not be made; nothing is lost then.
    pub fn close(&self) -> Result<(), Error> {
        self.checkpointer.stop();
        // What is not archived by now is after the next opening.
        self.recycler.stop();
        // Reserved numbers are not lost by a clean stop.
        let given_back = self.catalog().sequences().give_back(&self.log);
        let checkpoint = match self.options.checkpoint_log_bytes {
            0 => Ok(Lsn::ZERO),
            _ => self.checkpoints.make(),
        };
        self.compactor.stop();
        self.collector.stop();
        self.log.close()?;
        given_back.and(checkpoint.map(drop))
    }

    pub(crate) fn next_txn_id(&self) -> TxnId {
        TxnId::new(self.numbers.txn.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_oid(&self) -> u32 {
        self.numbers.oid.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for an election or a candidate.
    pub(crate) fn next_election_id(&self) -> u64 {
        self.numbers.election.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_store_id(&self) -> StoreId {
        StoreId::new(self.numbers.store.fetch_add(1, Ordering::Relaxed))
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
    /// A slot for the next transaction.
    fn free_slot(&mut self) -> Arc<Slot> {
        // A former transaction that is still open keeps its slot. The list of slots and the session know it, too.
        if Arc::strong_count(&self.slot) > 2 {
            self.slot = self.engine.snapshots.register();
        }
        Arc::clone(&self.slot)
    }

    /// Begins a transaction that reads the state at `at`, and changes nothing.
    ///
    /// # Errors
    /// `NotYet` for an LSN after the newest commit, `HistoryGone` for one that is further back than is kept.
    pub fn begin_at(&mut self, at: Lsn) -> Result<Txn, Error> {
        let slot = self.free_slot();
        let engine = &self.engine;
        let newest = engine.visible_lsn();
        if at > newest {
            return Err(Error::NotYet { newest });
        }
        if !engine.snapshots.hold(&slot, at) {
            let oldest = engine.snapshots.horizon();
            return Err(Error::HistoryGone { oldest });
        }
        let catalog = engine.past_catalog(at);
        let (engine, info) = (Arc::clone(engine), Arc::clone(&self.info));
        Ok(Txn::begin_at(engine, slot, info, at, catalog))
    }

    /// Begins a transaction.
    pub fn begin(&mut self, isolation: Isolation) -> Txn {
        let slot = self.free_slot();
        let known = self.catalog.upgrade();
        let current = known.filter(|_| self.engine.catalogs.lsn() == self.catalog_lsn);
        let catalog = current.unwrap_or_else(|| {
            let (lsn, catalog) = self.engine.catalogs.at(self.engine.visible_lsn());
            (self.catalog_lsn, self.catalog) = (lsn, Arc::downgrade(&catalog));
            catalog
        });
        Txn::begin(
            Arc::clone(&self.engine),
            slot,
            Arc::clone(&self.info),
            isolation,
            (self.catalog_lsn, catalog),
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
