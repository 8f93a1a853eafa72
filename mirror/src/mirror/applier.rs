//! The applier: a beginning, if the mirror has none, and then the log.

use scry_stream::{Stream, StreamOptions};
use scry_wal::{Lsn, Micros};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CONSUMER, RETRY_WAIT, Shared};
use crate::checkpoint::Checkpointer;
use crate::error::{Error, ErrorKind};
use crate::seed::{SeedSource, Seeding};

/// How long the applier waits for changes before it folds what it has and looks whether to stop.
const IDLE_WAIT: Duration = Duration::from_millis(100);

impl Shared {
    pub(super) fn apply(&self) {
        while !self.stopping() {
            let Err(error) = Error::caught("the applier", || self.follow()) else {
                return;
            };
            match &self.seeds {
                _ if self.stopping() => return,
                Some(_) if is_gone(&error) => {
                    *self.rebuilt.lock() = Some(error);
                    self.core.abandon();
                }
                Some(_) if !self.core.has_begun() && error.kind() == ErrorKind::Retry => {
                    // As when a checkpoint cannot be written: a full disk, most likely.
                    self.sealer.lock().failure = Some(error);
                    self.pause();
                }
                _ => {
                    *self.stopped.lock() = Some(Arc::new(error));
                    return self.wake_all();
                }
            }
        }
    }

    /// Waits before something is tried again.
    fn pause(&self) {
        let until = Instant::now() + RETRY_WAIT;
        while Instant::now() < until && !self.stopping() {
            std::thread::sleep(IDLE_WAIT);
        }
    }

    fn follow(&self) -> Result<(), Error> {
        if let Some(seeds) = &self.seeds
            && !self.core.has_begun()
        {
            self.begin(seeds)?;
        }
        let options = StreamOptions {
            extractors: self.extractors,
            queue_bytes: self.queue_bytes,
            consumer: Some(CONSUMER),
            ..StreamOptions::default()
        };
        let mut stream = Stream::start(&self.log, self.core.start(), &options)?;
        while !self.stopping() {
            self.step(&mut stream)?;
        }
        Ok(())
    }

    /// Begins with the primary's rows.
    fn begin(&self, seeds: &SeedSource) -> Result<(), Error> {
        let mut checkpointer = self.checkpointer.lock();
        // From its beginning on, until it is known how far back the rows reach.
        super::register(&self.log, None)?;
        let seed = seeds().ok_or(Error::Closed)??;
        let restart = self.log.frame_of(seed.restart)?;
        self.log.consumers().advance(CONSUMER, restart)?;
        let seeding = Seeding {
            checkpointer: &mut checkpointer,
            cache: &self.core.cache,
            piece_rows: self.piece_rows,
            stopping: &|| self.stopping(),
        };
        let seeded = seeding.write(&seed, restart)?;
        drop(seed);
        let upto = seeded.position.upto;
        self.core.begin(seeded.position, seeded.stores);
        *self.seeded.lock() = Some(seeded.position.last_commit);
        self.wake(upto);
        let result = self.checkpoint(&mut checkpointer);
        let mut sealer = self.sealer.lock();
        sealer.checkpoint = checkpointer.upto();
        sealer.begun = upto;
        // Tried again by the sealer.
        sealer.failure = result.err();
        Ok(())
    }

    /// Writes a checkpoint. The log needs to keep only what a restart from it reads.
    pub(super) fn checkpoint(&self, checkpointer: &mut Checkpointer) -> Result<Lsn, Error> {
        if !self.core.has_begun() {
            return Err(Error::Closed);
        }
        let upto = checkpointer.run(&self.core)?;
        if let Some(restart) = checkpointer.restart() {
            // If the mirror was dropped, its stream says so.
            let _ = self.log.consumers().advance(CONSUMER, restart);
        }
        Ok(upto)
    }

    fn step(&self, stream: &mut Stream) -> Result<(), Error> {
        let Some(set) = stream.next(IDLE_WAIT)? else {
            return self.core.tidy();
        };
        self.core.apply(&set)?;
        let now = Micros::now().get();
        let fresh = set.commits.iter().filter(|commit| commit.lsn >= self.opened);
        let lags = fresh.map(|commit| now.saturating_sub(commit.time.get()));
        self.lag.record(lags.map(|lag| u64::try_from(lag).unwrap_or(0)));
        self.wake(set.upto);
        let mut sealer = self.sealer.lock();
        let since = set.upto.bytes_since(sealer.begun);
        if since >= self.checkpoint_bytes && !sealer.wanted && sealer.failure.is_none() {
            sealer.wanted = true;
            drop(sealer);
            self.seal.notify_one();
        }
        Ok(())
    }

    /// Wakes those who wait for a position up to `applied`.
    fn wake(&self, applied: Lsn) {
        let mut waiters = self.waiters.lock();
        if waiters.is_empty() {
            return;
        }
        let ready: Vec<_> = waiters.extract_if(.., |waiter| waiter.0 <= applied).collect();
        drop(waiters);
        ready.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(super) fn wake_all(&self) {
        self.wake(Lsn::MAX);
    }
}

/// Whether the log does not have, any more, what the mirror needs of it.
fn is_gone(error: &Error) -> bool {
    use scry_wal::Error::{ConsumerDropped, Gone};
    let lost = |error: &scry_wal::Error| matches!(error, Gone { .. } | ConsumerDropped { .. });
    match error {
        Error::Log(error) => lost(error),
        Error::Stream(error) => matches!(&**error, scry_stream::Error::Log(error) if lost(error)),
        _ => false,
    }
}
