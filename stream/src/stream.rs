//! The threads: a dealer that reads the log's tail, extractors that decode, and the consumer's end.
//!
//! The dealer takes the frames that have become durable since it last looked as one run, at most once in
//! [`PACE`]: under load a few milliseconds' commits share the cost of waking the threads and of opening columns, and on an
//! idle system the first commit goes through at once. Catalog records are decoded by the dealer, so that
//! an extractor always knows the columns of the stores in its run.

use scry_wal::{Frame, Log, Lsn, StoreId, TailReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::changes::{ChangeSet, StoreEvent, StoreEventKind};
use crate::decode::{Decoded, Schemas, catalog_changes, decode_run, store_events};
use crate::error::Error;
use crate::queue::Queue;
use crate::replay::Replay;

/// The least time between two runs. Each run costs three thread switches and an allocation for each column of each
/// store in it; at one run a commit that would be a good part of a core.
pub const PACE: Duration = Duration::from_millis(2);

/// Most bytes of frames in one run: decoding it takes some milliseconds.
const RUN_BYTES_MAX: usize = 2 << 20;

/// Most weight released to the consumer at once, so that change sets stay digestible after a stall.
const SET_BYTES_MAX: usize = 8 << 20;

/// How long the dealer waits for a frame before it looks whether the stream has been closed.
const TAIL_WAIT: Duration = Duration::from_millis(100);

/// How to run a stream.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Decoding threads, at least one.
    pub extractors: usize,
    /// Bound of the replay queue: bytes of frames dealt and not yet handed out.
    pub queue_bytes: usize,
    /// The least time between two runs.
    pub pace: Duration,
    /// For which of the log's consumers it reads, if for one.
    pub consumer: Option<&'static str>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            extractors: 2,
            queue_bytes: 32 << 20,
            pace: PACE,
            consumer: None,
        }
    }
}

/// Where a stream starts.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Where reading begins: the `restart` of the last change set that the consumer has kept.
    pub read_from: Lsn,
    /// Where handing out begins: the `upto` of that change set, or behind any commit. Not before `read_from`.
    pub emit_from: Lsn,
    /// The stores that exist at `emit_from`.
    pub schemas: Schemas,
}

impl Start {
    /// The whole log.
    #[must_use]
    pub fn beginning() -> Self {
        Self::default()
    }
}

/// The consumer's end. Dropping it stops the threads.
pub struct Stream {
    queue: Arc<Queue<Job, Outcome>>,
    replay: Replay,
    released: Vec<Outcome>,
    emit_from: Lsn,
    position: Lsn,
    failed: bool,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    frames: Vec<Arc<Frame>>,
    schemas: Arc<Schemas>,
    events: Vec<StoreEvent>,
    emit_from: Lsn,
}

type Outcome = Result<(Decoded, Vec<StoreEvent>, Arc<Schemas>), Error>;

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Starts reading `log`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(log: &Log, start: Start, options: &StreamOptions) -> Result<Self, Error> {
        let extractors = options.extractors.max(1);
        let queue = Arc::new(Queue::new(options.queue_bytes.max(1), extractors));
        let emit_from = start.emit_from;
        let mut stream = Self {
            queue: queue.clone(),
            replay: Replay::new(),
            released: Vec::new(),
            emit_from,
            position: emit_from,
            failed: false,
            threads: Vec::new(),
        };
        for number in 0..extractors {
            let queue = queue.clone();
            stream.spawn(format!("scry-extract-{number}"), move || extract(&queue))?;
        }
        let pace = options.pace;
        let tail = match options.consumer {
            Some(name) => log.tail_of(name, start.read_from),
            None => log.tail(start.read_from),
        };
        stream.spawn("scry-deal".to_owned(), move || {
            if let Err(error) = caught("the dealer", || deal(tail, start, pace, &queue)) {
                queue.finish(Err(error));
            }
        })?;
        Ok(stream)
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(body)
            .map_err(Error::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// The next change set: everything that is ready, within a bound. `None` when nothing came within `timeout`.
    ///
    /// # Errors
    /// Once the log cannot be read or decoded any further; after that, `Closed`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<ChangeSet>, Error> {
        if self.failed {
            return Err(Error::Closed);
        }
        if !self.queue.release(timeout, SET_BYTES_MAX, &mut self.released) {
            return Err(Error::Closed);
        }
        let mut failure = None;
        for outcome in self.released.drain(..) {
            let added =
                outcome.and_then(|(decoded, events, schemas)| self.replay.add(decoded, events, &schemas));
            if let Err(error) = added {
                failure = Some(error);
                break;
            }
        }
        if let Some(error) = failure {
            self.failed = true;
            self.queue.close();
            return Err(error);
        }
        let Some(mut set) = self.replay.take() else {
            return Ok(None);
        };
        set.from = self.position;
        if set.upto <= self.emit_from {
            return Ok(None);
        }
        self.position = set.upto;
        Ok(Some(set))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said why on standard error.
            let _ = thread.join();
        }
    }
}

/// What `body` answers; an error when it panics, so that the consumer hears of it instead of waiting forever.
fn caught<T>(thread: &'static str, body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What a panic leaves half done is dropped, or not looked at after the error.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Error::Panicked { thread }))
}

fn extract(queue: &Queue<Job, Outcome>) {
    while let Some((ticket, job)) = queue.take() {
        let decoded = caught("an extractor", || {
            decode_run(&job.frames, &job.schemas, job.emit_from)
        });
        queue.put(ticket, decoded.map(|decoded| (decoded, job.events, job.schemas)));
    }
}

fn deal(
    mut tail: TailReader,
    start: Start,
    pace: Duration,
    queue: &Queue<Job, Outcome>,
) -> Result<(), Error> {
    let mut schemas = Arc::new(start.schemas);
    let mut dealt: Option<Instant> = None;
    let mut next: Option<Arc<Frame>> = None;
    while queue.wait_for_room() {
        let frame = match next.take() {
            Some(frame) => frame,
            None => match tail.next(TAIL_WAIT) {
                Ok(Some(frame)) => frame,
                Ok(None) => continue,
                // Everything has been read, and nothing will come: what is dealt is still to be handed out.
                Err(scry_wal::Error::Closed) => return Ok(()),
                Err(error) => return Err(Error::Log(error)),
            },
        };
        if let Some(rest) = dealt.and_then(|dealt| pace.checked_sub(dealt.elapsed())) {
            std::thread::sleep(rest);
        }
        dealt = Some(Instant::now());
        let epoch = frame.epoch();
        let mut run = Run::default();
        run.add(frame, start.emit_from, &mut schemas)?;
        while run.bytes < RUN_BYTES_MAX
            && let Some(frame) = following(&mut tail)?
        {
            if frame.epoch() != epoch {
                // A run is of one epoch, because a change of epoch ends open tentative transactions.
                next = Some(frame);
                break;
            }
            run.add(frame, start.emit_from, &mut schemas)?;
        }
        let Run {
            frames,
            bytes,
            events,
            dropped,
        } = run;
        let job = Job {
            frames,
            schemas: schemas.clone(),
            events,
            emit_from: start.emit_from,
        };
        if !queue.deal(bytes, job) {
            return Ok(());
        }
        if !dropped.is_empty() {
            let kept = Arc::make_mut(&mut schemas);
            for store in dropped {
                kept.remove(&store);
            }
        }
    }
    Ok(())
}

/// The next frame if it is there already.
fn following(tail: &mut TailReader) -> Result<Option<Arc<Frame>>, Error> {
    match tail.next(Duration::ZERO) {
        Ok(frame) => Ok(frame),
        // Found again, and dealt with, by whoever waits for the next frame.
        Err(scry_wal::Error::Closed) => Ok(None),
        Err(error) => Err(Error::Log(error)),
    }
}

/// Consecutive frames, and what their catalog records say.
#[derive(Default)]
pub(crate) struct Run {
    pub frames: Vec<Arc<Frame>>,
    bytes: usize,
    pub events: Vec<StoreEvent>,
    pub dropped: Vec<StoreId>,
}

impl Run {
    pub fn add(
        &mut self,
        frame: Arc<Frame>,
        emit_from: Lsn,
        schemas: &mut Arc<Schemas>,
    ) -> Result<(), Error> {
        self.bytes += frame.bytes().len();
        if frame.has_catalog() && frame.end() > emit_from {
            let changes = catalog_changes(&frame)?.into_iter();
            for (lsn, change) in changes.filter(|(lsn, _)| *lsn >= emit_from) {
                for event in store_events(lsn, change, Arc::make_mut(schemas))? {
                    if matches!(event.kind, StoreEventKind::Dropped) {
                        self.dropped.push(event.store);
                    }
                    self.events.push(event);
                }
            }
        }
        self.frames.push(frame);
        Ok(())
    }
}
