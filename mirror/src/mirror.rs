//! The mirror with its threads: an applier that begins with the primary's rows if there is nothing else to begin with, and takes
//! change sets from the stream (`applier`), and a sealer that writes checkpoints; a third one makes pieces again whose files were found damaged.
//!
//! It is one of the log's consumers: the log keeps what a restart would read. When it had to be dropped, it begins with the primary's
//! rows once more.
//!
//! An error in applying stops the applier for good: whoever waits is told, the status says why, snapshots of what was
//! applied before stay right, and the primary goes on. An error in sealing (a full disk) stops nothing: the tail stays
//! in memory, the status says why, and the sealer tries again.

mod applier;

use parking_lot::{Condvar, Mutex};
use scry_wal::{Log, Lsn};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cache::Cache;
use crate::checkpoint::{self, Checkpointer, Restored};
use crate::core::Core;
use crate::error::{Error, ErrorKind};
use crate::horizon::{Horizon, HorizonSource};
use crate::lag::{Lag, LagSummary};
use crate::piece::PIECE_ROWS_MAX;
use crate::savepoint::{Savepoint, Savepoints};
use crate::seed::SeedSource;
use crate::snapshot::Snapshot;

/// The mirror's name among the consumers of the log.
pub const CONSUMER: &str = "mirror";

/// How long the sealer waits after a failure.
const RETRY_WAIT: Duration = Duration::from_secs(5);

/// 128 MiB of them.
const WAITING_MAX: usize = 8 << 20;

/// How to run a mirror.
#[derive(Clone)]
pub struct MirrorOptions {
    /// Threads that decode the log.
    pub extractors: usize,
    /// Bound of the replay queue, in bytes of log.
    pub queue_bytes: usize,
    /// Bound of the decoded columns of sealed segments kept in memory.
    pub cache_bytes: usize,
    /// Most rows of a scan unit and of a segment file.
    pub piece_rows: usize,
    /// A checkpoint is written whenever this much log has been applied since the last: what a restart has to replay
    /// at most, and what stands in memory only.
    pub checkpoint_bytes: u64,
    /// A checkpoint is written after this time, however little has changed.
    pub checkpoint_interval: Duration,
    /// The oldest snapshot that anybody outside of the mirror holds or may still open.
    pub horizon: HorizonSource,
    /// The primary's rows, for a mirror that has nothing to begin with. Without, it begins with the log, which must be there from its
    /// first byte then.
    pub seeds: Option<SeedSource>,
    /// The same without history: up to here is folded when more deletes and commits wait to be than `waiting_max`. `None`: there is no other.
    pub readers: Option<HorizonSource>,
    /// Deletes and commits that are kept for history: 16 bytes each.
    pub waiting_max: usize,
}

impl MirrorOptions {
    /// The usual values.
    #[must_use]
    pub fn new(horizon: HorizonSource) -> Self {
        Self {
            extractors: 2,
            queue_bytes: 32 << 20,
            cache_bytes: 2 << 30,
            piece_rows: PIECE_ROWS_MAX,
            checkpoint_bytes: 256 << 20,
            checkpoint_interval: Duration::from_secs(120),
            horizon,
            seeds: None,
            readers: None,
            waiting_max: WAITING_MAX,
        }
    }
}

impl std::fmt::Debug for MirrorOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MirrorOptions")
            .field("extractors", &self.extractors)
            .field("cache_bytes", &self.cache_bytes)
            .field("checkpoint_bytes", &self.checkpoint_bytes)
            .finish_non_exhaustive()
    }
}

/// Figures of a mirror.
#[derive(Debug, Clone)]
pub struct MirrorStatus {
    /// Every commit with a smaller LSN is applied.
    pub applied: Lsn,
    /// The LSN that a restart begins with; `None` before the first checkpoint.
    pub checkpoint: Option<Lsn>,
    /// From commit to applied, since the last reset.
    pub lag: LagSummary,
    /// Stores.
    pub stores: usize,
    /// Living rows.
    pub rows: u64,
    /// Pieces, in memory and sealed.
    pub pieces: usize,
    /// Pieces that a file has.
    pub segments: usize,
    /// Bytes of pieces in memory.
    pub resident_bytes: usize,
    /// Of these, bytes that no file has yet.
    pub unsealed_bytes: usize,
    /// Bytes of segment files.
    pub segment_bytes: usize,
    /// Bytes of decoded columns of segments in memory.
    pub cache_bytes: usize,
    /// Why the mirror has stopped, if it has.
    pub stopped: Option<Error>,
    /// Why the last checkpoint failed, if it did.
    pub sealing: Option<Error>,
    /// Why the mirror was made anew since it was opened, if it was.
    pub rebuilt: Option<Error>,
    /// The LSN of the primary's rows with which it began anew since it was opened.
    pub seeded: Option<Lsn>,
    /// Pieces whose files were found damaged since, and that are not made again yet.
    pub damaged: usize,
    /// Pieces made again since the mirror was opened.
    pub repaired: u64,
    /// Why the last attempt to make pieces again failed, if it did.
    pub repairing: Option<Error>,
}

/// The columnar copy, kept up to date by threads of its own until it is closed or dropped.
#[derive(Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    applier: Option<JoinHandle<()>>,
    repairer: Option<JoinHandle<()>>,
    sealer: Option<JoinHandle<()>>,
}

struct Shared {
    core: Arc<Core>,
    log: Arc<Log>,
    seeds: Option<SeedSource>,
    extractors: usize,
    queue_bytes: usize,
    piece_rows: usize,
    lag: Lag,
    /// Commits before it were in the log when the mirror was opened: their age says nothing about the mirror.
    opened: Lsn,
    waiters: Mutex<Vec<(Lsn, Waker)>>,
    stopping: AtomicBool,
    stopped: Mutex<Option<Arc<Error>>>,
    sealer: Mutex<Sealer>,
    seal: Condvar,
    /// Held while a manifest is written, and while the files of a beginning are.
    checkpointer: Mutex<Checkpointer>,
    /// Somebody's savepoint is made, or the sealer has ended.
    saved: Condvar,
    /// Held by who has a savepoint made: one at a time.
    saving: Mutex<()>,
    savepoints: Savepoints,
    checkpoint_bytes: u64,
    checkpoint_interval: Duration,
    rebuilt: Mutex<Option<Error>>,
    seeded: Mutex<Option<Lsn>>,
}

/// What the sealer and the others tell each other.
#[derive(Debug)]
struct Sealer {
    wanted: bool,
    /// The name of a savepoint that is to be made of the next checkpoint, and what became of it.
    save: Option<String>,
    made: Option<Result<Lsn, Error>>,
    ended: bool,
    /// Pieces were put in the place of others: a checkpoint is due though nothing was applied since the last.
    replaced: bool,
    stopping: bool,
    checkpoint: Option<Lsn>,
    /// What was applied when the last attempt at a checkpoint began.
    begun: Lsn,
    failure: Option<Error>,
}

impl Mirror {
    /// Opens the mirror in `dir`, creating it when there is none, and starts following `log`, of which it becomes a consumer.
    /// A mirror whose files are damaged, or behind which the log is gone, is made anew, and says so in its status.
    ///
    /// # Errors
    /// When the folder cannot be used, was written by a newer version, or threads cannot be started; when the log takes no
    /// consumer.
    pub fn open(dir: &Path, log: Arc<Log>, options: MirrorOptions) -> Result<Arc<Self>, Error> {
        let opened = log.durable_lsn();
        let (restored, mut rebuilt) = restore(dir, &log, options.piece_rows)?;
        let Restored {
            mut checkpointer,
            position,
            stores,
        } = restored;
        checkpointer.set_database(log.database());
        let gone = register(&log, checkpointer.restart())?;
        let cache = Arc::new(Cache::new(options.cache_bytes));
        let savepoints = Savepoints::open(dir, options.piece_rows, cache.clone())?;
        let mut horizon = Horizon::new(options.horizon.clone());
        if let Some(readers) = &options.readers {
            horizon = horizon.bounded(readers.clone(), options.waiting_max);
        }
        let piece_rows = options.piece_rows;
        // Without a source the stream says what is missing.
        let begins_anew = options.seeds.is_some() && (gone.is_some() || checkpointer.upto().is_none());
        let core = match begins_anew {
            true => Core::unbegun(&horizon, cache, piece_rows),
            false => Core::new(position, stores, &horizon, cache, piece_rows),
        };
        let core = Arc::new(core);
        rebuilt = rebuilt.or(gone);
        let shared = Arc::new(Shared {
            core,
            log,
            seeds: options.seeds,
            extractors: options.extractors,
            queue_bytes: options.queue_bytes,
            piece_rows,
            lag: Lag::new(),
            opened,
            waiters: Mutex::new(Vec::new()),
            stopping: AtomicBool::new(false),
            stopped: Mutex::new(None),
            sealer: Mutex::new(Sealer {
                wanted: false,
                save: None,
                made: None,
                ended: false,
                replaced: false,
                stopping: false,
                checkpoint: checkpointer.upto(),
                begun: position.upto,
                failure: None,
            }),
            seal: Condvar::new(),
            checkpointer: Mutex::new(checkpointer),
            saved: Condvar::new(),
            saving: Mutex::default(),
            savepoints,
            checkpoint_bytes: options.checkpoint_bytes.max(1),
            checkpoint_interval: options.checkpoint_interval,
            rebuilt: Mutex::new(rebuilt),
            seeded: Mutex::default(),
        });
        let mirror = Arc::new(Self {
            shared,
            threads: Mutex::default(),
        });
        let applier = mirror.spawn(dir, "scry-apply", Shared::apply)?;
        mirror.threads.lock().applier = Some(applier);
        let folder = dir.to_owned();
        let sealer = mirror.spawn(dir, "scry-seal", move |shared| {
            shared.seal(&folder);
            shared.sealer.lock().ended = true;
            shared.saved.notify_all();
        })?;
        mirror.threads.lock().sealer = Some(sealer);
        let repairer = mirror.spawn(dir, "scry-repair", Shared::repair)?;
        mirror.threads.lock().repairer = Some(repairer);
        Ok(mirror)
    }

    fn spawn(
        &self,
        dir: &Path,
        name: &str,
        body: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || body(&shared));
        thread.map_err(Error::io(dir, "start a thread for"))
    }

    /// Every commit with an LSN below this one is applied.
    #[must_use]
    pub fn applied_lsn(&self) -> Lsn {
        self.shared.core.applied()
    }

    /// Ready when `applied_lsn()` has reached `upto`. To see the commit at L, wait for L + 1.
    ///
    /// # Errors
    /// When the mirror has stopped before it got there.
    pub fn poll_applied(&self, upto: Lsn, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.applied_lsn() >= upto {
            return Poll::Ready(Ok(()));
        }
        let mut waiters = self.shared.waiters.lock();
        // Whoever stops or applies does so before it takes this lock, so nothing is missed between here and there.
        if self.applied_lsn() >= upto {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.shared.stopped.lock().as_ref() {
            return Poll::Ready(Err(Error::Stopped(error.clone())));
        }
        if self.shared.stopping.load(Ordering::Acquire) {
            return Poll::Ready(Err(Error::Closed));
        }
        let known = waiters
            .iter()
            .any(|(at, waker)| *at == upto && waker.will_wake(context.waker()));
        if !known {
            waiters.push((upto, context.waker().clone()));
        }
        Poll::Pending
    }

    /// Waits as `poll_applied` does.
    ///
    /// # Errors
    /// As `poll_applied`.
    pub fn applied(&self, upto: Lsn) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        std::future::poll_fn(move |context| self.poll_applied(upto, context))
    }

    /// The commits with an LSN up to `at`, which must be below `applied_lsn()` and not before the horizon.
    ///
    /// # Errors
    /// When `at` is not applied yet, or is no longer kept.
    pub fn snapshot(&self, at: Lsn) -> Result<Snapshot, Error> {
        self.shared.core.snapshot(at)
    }

    /// Every commit applied so far.
    #[must_use]
    pub fn newest_snapshot(&self) -> Snapshot {
        self.shared.core.newest_snapshot()
    }

    /// Figures. Walks over all stores; not for every query.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        let shared = &self.shared;
        let (checkpoint, sealing) = {
            let sealer = shared.sealer.lock();
            (sealer.checkpoint, sealer.failure.clone())
        };
        let repairs = shared.core.repairs.status();
        let stores = shared.core.stores();
        let mut status = MirrorStatus {
            applied: shared.core.applied(),
            checkpoint,
            lag: shared.lag.summary(),
            stores: stores.iter().filter(|cell| cell.schema().mirrored).count(),
            rows: 0,
            pieces: 0,
            segments: 0,
            resident_bytes: 0,
            unsealed_bytes: 0,
            segment_bytes: 0,
            cache_bytes: shared.core.cache.bytes(),
            stopped: shared.stopped.lock().as_ref().map(|error| error.as_ref().clone()),
            sealing,
            rebuilt: shared.rebuilt.lock().clone(),
            seeded: *shared.seeded.lock(),
            damaged: repairs.damaged,
            repaired: repairs.repaired,
            repairing: repairs.failure,
        };
        for cell in stores {
            let figures = cell.figures();
            status.rows += figures.rows;
            status.pieces += figures.pieces;
            status.segments += figures.sealed;
            status.resident_bytes += figures.resident_bytes;
            status.unsealed_bytes += figures.unsealed_bytes;
            status.segment_bytes += figures.file_bytes;
        }
        status
    }

    /// Begins a new window of the lag's figures.
    pub fn reset_lag(&self) {
        self.shared.lag.reset();
    }

    /// Asks for a checkpoint now, without waiting for it.
    pub fn request_checkpoint(&self) {
        self.shared.sealer.lock().wanted = true;
        self.shared.seal.notify_one();
    }

    /// Keeps the present state, or one a little later, under a name. Returns the last commit in it. Blocks until a checkpoint
    /// is written.
    ///
    /// # Errors
    /// When the name is taken or there are too many; what writing the checkpoint and linking its files answers.
    pub fn create_savepoint(&self, name: &str) -> Result<Lsn, Error> {
        let shared = &self.shared;
        let _one = shared.saving.lock();
        shared.savepoints.check_new(name)?;
        let mut sealer = shared.sealer.lock();
        (sealer.save, sealer.made) = (Some(name.to_owned()), None);
        shared.seal.notify_one();
        loop {
            if let Some(made) = sealer.made.take() {
                return made;
            }
            if sealer.ended {
                return Err(Error::Closed);
            }
            shared.saved.wait(&mut sealer);
        }
    }

    /// Forgets a savepoint. When reads are answered from it they are answered from the present again.
    ///
    /// # Errors
    /// When there is none; when its folder cannot be removed.
    pub fn remove_savepoint(&self, name: &str) -> Result<(), Error> {
        self.shared.savepoints.remove(name)
    }

    /// Has reads answered from a savepoint, over restarts too. Blocks until its files are read. Applying goes on.
    ///
    /// # Errors
    /// When there is none; when its files cannot be read.
    pub fn hold(&self, name: &str) -> Result<(), Error> {
        self.shared.savepoints.hold(name)
    }

    /// Has reads answered from the present again. False when they were already.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn resume(&self) -> Result<bool, Error> {
        self.shared.savepoints.resume()
    }

    /// The savepoint from which reads are to be answered, and its state or why there is none.
    #[must_use]
    pub fn held(&self) -> Option<(String, Result<Snapshot, Error>)> {
        self.shared.savepoints.held()
    }

    /// The savepoints, by name.
    #[must_use]
    pub fn savepoints(&self) -> Vec<Savepoint> {
        self.shared.savepoints.list()
    }

    /// Stops following the log, writes a last checkpoint, and ends the threads. Snapshots stay valid.
    pub fn close(&self) {
        self.stop(true);
    }

    fn stop(&self, checkpoint: bool) {
        let shared = &self.shared;
        shared.stopping.store(true, Ordering::Release);
        shared.wake_all();
        shared.core.repairs.stop();
        let mut threads = self.threads.lock();
        // A thread that panicked has already said why on standard error.
        let _ = threads.repairer.take().map(JoinHandle::join);
        let _ = threads.applier.take().map(JoinHandle::join);
        {
            // Nothing is applied any more: what is sealed now is all there is.
            let mut sealer = shared.sealer.lock();
            sealer.wanted |= checkpoint;
            sealer.stopping = true;
            shared.seal.notify_one();
        }
        let _ = threads.sealer.take().map(JoinHandle::join);
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop(false);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The repairer.
    fn repair(&self) {
        self.core
            .repairs
            .run(&self.core, &self.log, self.seeds.as_ref(), || {
                // What was made again has no file yet.
                let mut sealer = self.sealer.lock();
                (sealer.wanted, sealer.replaced) = (true, true);
                self.seal.notify_one();
            });
    }

    /// The sealer.
    fn seal(&self, dir: &Path) {
        let mut sealer = self.sealer.lock();
        loop {
            if !sealer.wanted && !sealer.stopping && sealer.save.is_none() {
                let wait = if sealer.failure.is_some() {
                    RETRY_WAIT
                } else {
                    self.checkpoint_interval
                };
                self.seal.wait_for(&mut sealer, wait);
            }
            let stopping = sealer.stopping;
            if stopping && !sealer.wanted {
                return;
            }
            sealer.wanted = false;
            sealer.begun = self.core.applied();
            let replaced = std::mem::take(&mut sealer.replaced);
            let save = sealer.save.take();
            let has_changed = replaced || sealer.checkpoint != Some(sealer.begun);
            if save.is_some() || has_changed && self.core.has_begun() {
                drop(sealer);
                let mut checkpointer = self.checkpointer.lock();
                let result = Error::caught("the sealer", || self.checkpoint(&mut checkpointer));
                let made = save.map(|name| {
                    result.clone()?;
                    self.savepoints.create(dir, &name, checkpointer.files())
                });
                sealer = self.sealer.lock();
                sealer.checkpoint = checkpointer.upto();
                drop(checkpointer);
                sealer.failure = result.err();
                sealer.made = made.or(sealer.made.take());
                self.saved.notify_all();
                sealer.replaced |= replaced && sealer.failure.is_some();
            }
            if stopping {
                return;
            }
        }
    }
}

/// Has the log kept for the mirror from `restart` on, or all of it while nothing is known. Answers why not, when the log does not
/// reach back that far; then all that is there is kept.
fn register(log: &Log, restart: Option<Lsn>) -> Result<Option<Error>, Error> {
    let consumers = log.consumers();
    let mut gone = None;
    let mut wanted = restart;
    loop {
        let needs = wanted.unwrap_or_else(|| log.begin());
        match consumers.register(CONSUMER, needs) {
            Ok(_) => break consumers.advance(CONSUMER, needs)?,
            Err(error @ scry_wal::Error::Gone { .. }) => {
                gone = gone.or(wanted.take().map(|_| error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(gone.map(Error::from))
}

/// The state of the folder, or an empty one when the folder's cannot be used.
fn restore(dir: &Path, log: &Log, piece_rows: usize) -> Result<(Restored, Option<Error>), Error> {
    let durable = log.durable_lsn();
    std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    let found = checkpoint::restore(dir, piece_rows).and_then(|restored| {
        let checkpointer = &restored.checkpointer;
        let number = |database: [u8; 16]| u128::from_le_bytes(database) as u64;
        let (database, known) = (checkpointer.database(), log.database());
        let upto = restored.position.upto;
        let (what, expected, found) = match checkpointer.upto() {
            Some(_) if database != known => (
                "the mirror is that of another database; its number",
                number(known),
                number(database),
            ),
            _ if upto > durable => (
                "the mirror is ahead of its log; bytes of log",
                durable.get(),
                upto.get(),
            ),
            _ => return Ok(restored),
        };
        Err(Error::Damaged {
            path: dir.join(crate::manifest::FILE_NAME),
            offset: 0,
            what,
            expected,
            found,
        })
    });
    match found {
        Ok(restored) => Ok((restored, None)),
        Err(error) if rebuilds(&error) => {
            checkpoint::set_aside(dir)?;
            Ok((checkpoint::restore(dir, piece_rows)?, Some(error)))
        }
        Err(error) => Err(error),
    }
}

/// Whether an error at opening is one that making the mirror anew cures. A file that is missing is; a folder that
/// cannot be read is not.
fn rebuilds(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        other => matches!(other.kind(), ErrorKind::Corrupt | ErrorKind::Bug),
    }
}
