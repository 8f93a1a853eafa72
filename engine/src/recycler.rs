//! Lets go of the log behind checkpoints and copies it to its archive, in a thread of its own: an archive may be slow, and neither
//! checkpoints nor commits wait for it.
//!
//! A backup is made by another process, which needs the segments that it copies. It holds the directory's hold (`directory`); while somebody
//! does, the log has a consumer named `backup`, from where it began when that was seen. So a backup holds no more of the log than any
//! consumer may: one that is further behind is dropped, and begins its copy again. The hold goes with its process, however that ends.
//!
//! Invariants:
//! - one at a time recycles;
//! - nothing goes that a restart upon the last durable checkpoint reads;
//! - the hold is looked at before segments go. A backup that comes right then finds some of them gone, and copies again.

use crate::attempts::Attempts;
use crate::background::{Background, Stop};
use crate::clock::Clock;
use crate::directory::Hold;
use crate::error::Error;
use parking_lot::Mutex;
use scry_wal::{Log, Lsn, Recycled};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the thread looks whether a checkpoint was made.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long it waits without one: consumers come on, segments become full and old, a failure passes.
const PERIOD: Duration = Duration::from_secs(5);

/// The name under which backups need the log.
const BACKUP: &str = "backup";

/// Recycles the log.
pub(crate) struct Recycler {
    log: Arc<Log>,
    clock: Clock,
    /// From where a restart upon the last checkpoint reads the log.
    restart: AtomicU64,
    /// Whether there was one since the thread last looked.
    asked: AtomicBool,
    /// Held by the one that recycles.
    backups: Mutex<Backups>,
    attempts: Attempts,
}

/// What is known of backups in progress.
struct Backups {
    hold: Hold,
    /// Whether the log knows of one.
    is_consumer: bool,
}

impl Recycler {
    /// For a log that a restart upon the last checkpoint reads from `restart` on.
    pub(crate) fn new(log: Arc<Log>, hold: Hold, clock: Clock, restart: Lsn) -> Recycler {
        // One that was there when an earlier process ended.
        let is_consumer = log.consumers().list().iter().any(|known| known.name == BACKUP);
        Recycler {
            log,
            clock,
            restart: AtomicU64::new(restart.get()),
            asked: AtomicBool::new(true),
            backups: Mutex::new(Backups { hold, is_consumer }),
            attempts: Attempts::default(),
        }
    }

    /// A checkpoint is durable, upon which the log is read from `restart` on.
    pub(crate) fn checkpointed(&self, restart: Lsn) {
        self.restart.store(restart.get(), Ordering::Release);
        self.asked.store(true, Ordering::Release);
    }

    /// Archives what is full, and lets go of what nothing needs any more.
    pub(crate) fn recycle(&self) -> Result<Recycled, Error> {
        self.noted(|| {
            let mut backups = self.backups.lock();
            backups.look(&self.log)?;
            let restart = Lsn::new(self.restart.load(Ordering::Acquire));
            Ok(self.log.recycle(restart, self.clock.now())?)
        })
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    fn noted<T>(&self, attempt: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let done = attempt();
        self.attempts.note(&done);
        done
    }

    /// As `recycle`, but for what is left to archive when the thread is to stop.
    fn step(&self, stop: &Stop) -> Result<(), Error> {
        let archived = self.log.archive_until(&|| stop.is_asked());
        if archived.is_err() {
            return self.noted(|| Ok(archived.map(drop)?));
        }
        match stop.is_asked() {
            true => Ok(()),
            false => self.recycle().map(drop),
        }
    }

    /// Starts the thread. It ends after the segment that it is archiving.
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<Background> {
        let recycler = Arc::clone(self);
        let mut last = Instant::now();
        Background::start("scry-recycle", INTERVAL, move |stop| {
            if recycler.asked.swap(false, Ordering::Acquire) || last.elapsed() >= PERIOD {
                // Noted, for who asks.
                let _ = recycler.step(stop);
                last = Instant::now();
            }
            false
        })
    }
}

impl Backups {
    /// Sees to it that the log is kept while there is one.
    fn look(&mut self, log: &Log) -> Result<(), Error> {
        let is_held = self.hold.is_taken()?;
        match (is_held, self.is_consumer) {
            (true, false) => drop(log.consumers().register(BACKUP, log.begin())?),
            (false, true) => drop(log.consumers().remove(BACKUP)?),
            _ => {}
        }
        self.is_consumer = is_held;
        Ok(())
    }
}
