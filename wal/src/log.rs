//! The log as the rooms above see it: append under one lock, wait for durability, follow the tail.
//!
//! Two threads belong to an open log: the writer (`scry-log`) and the one that prepares segments (`scry-log-space`).
//! Both end when the log is closed or dropped.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::append::{Append, Placed};
use crate::consumers::{self, Consumers};
use crate::durability::{Durability, Fate};
use crate::error::{BoxError, Error, Flaw};
use crate::frame::Frame;
use crate::ids::{Lsn, Micros};
use crate::options::LogOptions;
use crate::recent::Recent;
use crate::recover::{self, Recovered, Recovery};
use crate::retain::{self, Recycled};
use crate::segments::{Segments, damaged};
use crate::shared::Shared;
use crate::space::{self, Space};
use crate::storage::disk::{DiskStorage, make_folders};
use crate::storage::{Notify, Storage};
use crate::sys::buffer::Pool;
use crate::tail::TailReader;
use crate::times::{WriteFigures, WriteTimes};
use crate::writer::Writer;

/// A segment header goes out together with the first frame behind it, in a slot of its own.
pub(crate) const HEADER_SLOT: usize = 1;

/// Prepared room below which appenders are held back, if a segment is not smaller: enough for many small commits; a
/// larger one looks for itself.
const ROOM_BYTES: u64 = 1 << 20;

/// The open log.
pub struct Log {
    shared: Arc<Shared>,
    notify: Arc<dyn Notify>,
    recovery: Recovery,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<()>,
    space: JoinHandle<()>,
}

impl Log {
    /// Opens the log in a folder, replaying every frame in order from the segment on that holds
    /// [`LogOptions::restart`]; creates it when the folder has none.
    ///
    /// Behind the last frame `replay` is called with `None`: nothing was changed so far, and if it fails nothing will be.
    ///
    /// What recovery passes to `replay` is durable when this returns, acknowledged or not. The folder must belong to
    /// this process alone; seeing to that is the caller's part.
    ///
    /// # Errors
    /// With every byte left as it was: [`Error::Damaged`] when acknowledged data is damaged, [`Error::BeginMissing`] and
    /// [`Error::EndMissing`] when it is not there; [`Error::NewerFormat`]; [`Error::Replay`] when `replay` fails; [`Error::DiskFull`] when a new log finds no room; else what the file
    /// system says.
    pub fn open(
        dir: &Path,
        options: LogOptions,
        replay: &mut dyn FnMut(Option<&Frame>) -> Result<(), BoxError>,
    ) -> Result<Log, Error> {
        let storage = DiskStorage::new(dir, options.backend);
        make_folders(dir).map_err(|source| Error::Io {
            action: "create the log's folder",
            path: dir.to_path_buf(),
            source,
        })?;
        Self::open_on(Arc::new(storage), options, replay)
    }

    /// As [`Log::open`], on any storage. [`LogOptions::backend`] is the storage's affair then.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        options: LogOptions,
        replay: &mut dyn FnMut(Option<&Frame>) -> Result<(), BoxError>,
    ) -> Result<Log, Error> {
        let geometry = options.check()?;
        let io = |action, source| Error::Io {
            action,
            path: storage.path(""),
            source,
        };
        let pool = Pool::new();
        let (recovered, consumers) = match Segments::find_from(storage.as_ref(), options.restart)? {
            Some(segments) => {
                if options.database.is_some_and(|known| known != segments.database) {
                    return Err(damaged(storage.as_ref(), segments.start, Flaw::Foreign));
                }
                let consumers = consumers::find(storage.as_ref(), Some(&segments.database))?;
                let recovered = recover::recover(&storage, &segments, &pool, replay)?;
                let end = Lsn::new(recovered.geometry.frame_at(recovered.end));
                check_end(storage.as_ref(), &options, consumers.durable_before(), end)?;
                recover::sync_tail(storage.as_ref(), &recovered)?;
                (recovered, consumers)
            }
            None => {
                let consumers = consumers::find(storage.as_ref(), None)?;
                let known = consumers.durable_before();
                check_end(storage.as_ref(), &options, known, Lsn::ZERO)?;
                consumers::clear(storage.as_ref())?;
                storage.clean().map_err(|source| io("clean up", source))?;
                (
                    recover::create(storage.as_ref(), geometry, options.node)?,
                    consumers::Found::default(),
                )
            }
        };
        storage.clean().map_err(|source| io("clean up", source))?;
        Self::start(storage, &options, pool, recovered, consumers)
    }

    fn start(
        storage: Arc<dyn Storage>,
        options: &LogOptions,
        pool: Arc<Pool>,
        recovered: Recovered,
        consumers: consumers::Found,
    ) -> Result<Log, Error> {
        let io = |action, source| Error::Io {
            action,
            path: storage.path(""),
            source,
        };
        let geometry = recovered.geometry;
        let (raw, frame) = (recovered.end, geometry.frame_at(recovered.end));
        let durability = Arc::new(Durability::new(raw, frame));
        let spares = retain::find_spares(storage.as_ref(), geometry)?;
        let shared = Arc::new(Shared {
            geometry,
            database: recovered.database,
            node: options.node,
            epoch: recovered.epoch,
            buffer_bytes: options.buffer_bytes as u64,
            append: Mutex::new(Append::new(geometry, Arc::clone(&pool), frame)),
            pool,
            consumers: Consumers::new(
                Arc::clone(&storage),
                Arc::clone(&durability),
                recovered.database,
                recovered.begin,
                consumers,
            ),
            archive: options.archive.clone(),
            retain_bytes_max: options.retain_bytes_max,
            retention: options.retention,
            recycling: Mutex::default(),
            appended: AtomicU64::new(raw),
            durability,
            space: Arc::new(Space::new(
                recovered.prepared_end,
                spares,
                recovered.recycled.clone(),
            )),
            recent: Recent::new(options.recent_bytes, Lsn::new(frame)),
            fate: Fate::default(),
            times: WriteTimes::default(),
            closing: AtomicBool::new(false),
            storage: Arc::clone(&storage),
        });
        let space = space::start(Arc::clone(&shared.space), Arc::clone(&storage), geometry)
            .map_err(|source| io("start the thread that prepares segments for", source))?;
        // The header of the segment at the end was written, unless nothing of it was.
        let entered = geometry.base(raw.saturating_sub(1));
        let started = start_writer(&shared, options, &recovered, entered);
        let (writer, notify) = match started {
            Ok(started) => started,
            Err(source) => {
                shared.space.stop();
                // The thread ends by itself, panicked or not.
                let _ = space.join();
                return Err(io("start the writer of", source));
            }
        };
        let threads = Mutex::new(Some(Threads { writer, space }));
        let log = Log {
            shared,
            notify,
            recovery: recovered.report,
            threads,
        };
        log.begin_epoch(frame)?;
        log.shared.consumers.reserve_archive(options.archive.is_some())?;
        Ok(log)
    }

    /// Makes the new epoch durable and with it the witness of all that was recovered.
    fn begin_epoch(&self, frame: u64) -> Result<(), Error> {
        let shared = &self.shared;
        match shared.space.wait(shared.geometry.end(frame), &shared.fate) {
            Ok(()) => {
                let pushed = {
                    let mut append = shared.append.lock();
                    if let Some(end) = append.newly_wanted_end() {
                        shared.space.want(end);
                    }
                    let pushed = append.push_watermark(shared.space.prepared_end());
                    shared.appended.store(append.end(), Ordering::Release);
                    pushed
                };
                self.notify.notify();
                if pushed {
                    self.wait_durable(Lsn::new(frame))
                } else {
                    Ok(())
                }
            }
            // Reading needs no room. Appenders will be refused until there is some.
            Err(_) => shared.fate.check(),
        }
    }

    /// Takes the append lock: the critical section of every commit.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`].
    pub fn lock(&self) -> Result<Appender<'_>, Error> {
        let mut append = self.shared.append.lock();
        self.shared.fate.check()?;
        if self.shared.closing.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        append.begin();
        Ok(Appender {
            log: self,
            append: Some(append),
        })
    }

    /// Where the first frame stands that is not durable: all before it is.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn::new(self.shared.durability.frame())
    }

    /// Ready when [`Log::durable_lsn`] is greater than `lsn`: the record that stands there is durable.
    pub fn poll_durable(&self, lsn: Lsn, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.durability.poll(lsn.get(), &self.shared.fate, cx)
    }

    /// Waits until the record at `lsn` is durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`] when it will never be.
    pub fn durable(&self, lsn: Lsn) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        std::future::poll_fn(move |cx| self.poll_durable(lsn, cx))
    }

    /// As [`Log::durable`], blocking the thread.
    ///
    /// # Errors
    /// As [`Log::durable`].
    pub fn wait_durable(&self, lsn: Lsn) -> Result<(), Error> {
        block_on(self.durable(lsn))
    }

    /// Ready when an appender may come.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.has_room() {
            Ok(true) => return Poll::Ready(Ok(())),
            Ok(false) => self.shared.space.register(cx.waker()),
            Err(error) => return Poll::Ready(Err(error)),
        }
        // Room may have come before the task was registered.
        match self.has_room() {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn has_room(&self) -> Result<bool, Error> {
        let shared = &self.shared;
        shared.fate.check()?;
        if !shared.buffers_have_room() {
            return Ok(false);
        }
        let geometry = shared.geometry;
        let end = shared.appended.load(Ordering::Acquire);
        let needed = ROOM_BYTES.min(geometry.segment_bytes() / 4);
        if end + needed <= shared.space.prepared_end() {
            return Ok(true);
        }
        shared.space.want(geometry.end(end) + geometry.segment_bytes());
        match shared.space.obstacle() {
            Some(error) => Err(error),
            None => Ok(end + needed <= shared.space.prepared_end()),
        }
    }

    /// Why appends are refused, if they are: the log is poisoned, or finds no room for the segment that it needs.
    pub fn trouble(&self) -> Option<Error> {
        self.shared
            .fate
            .check()
            .err()
            .or_else(|| self.shared.space.obstacle())
    }

    /// Waits while too much is unwritten or the next segment is still being prepared. Awaited before [`Log::lock`].
    ///
    /// # Errors
    /// [`Error::DiskFull`] when there is no room for a segment that is needed soon; [`Error::Poisoned`],
    /// [`Error::Closed`].
    pub fn room(&self) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        std::future::poll_fn(move |cx| self.poll_room(cx))
    }

    /// As [`Log::room`], blocking the thread.
    ///
    /// # Errors
    /// As [`Log::room`].
    pub fn wait_room(&self) -> Result<(), Error> {
        block_on(self.room())
    }

    /// The oldest position that can still be read: the first byte of a segment.
    pub fn begin(&self) -> Lsn {
        self.shared.consumers.begin()
    }

    /// The random number that tells this database's log from all others; who keeps a restart LSN keeps it too.
    pub fn database(&self) -> [u8; 16] {
        self.shared.database
    }

    /// Follows the log from `from` on: where a frame begins, or [`Log::begin`] for all of it. A reader that comes too late
    /// is told [`Error::Gone`].
    pub fn tail(&self, from: Lsn) -> TailReader {
        TailReader::new(Arc::clone(&self.shared), from, None)
    }

    /// Where the durable frame stands that holds `lsn`: where reading begins for who needs what was logged from there on.
    /// Reads up to a segment.
    ///
    /// # Errors
    /// As [`TailReader::next`].
    pub fn frame_of(&self, lsn: Lsn) -> Result<Lsn, Error> {
        let mut tail = self.tail(Lsn::new(self.shared.geometry.base(lsn.get())));
        loop {
            let begin = tail.position();
            match tail.next(Duration::ZERO)? {
                Some(frame) if frame.end() <= lsn => {}
                _ => return Ok(begin),
            }
        }
    }

    /// As [`Log::tail`], for a registered consumer: ends with [`Error::ConsumerDropped`] when it was dropped.
    pub fn tail_of(&self, consumer: &str, from: Lsn) -> TailReader {
        TailReader::new(Arc::clone(&self.shared), from, Some(consumer.to_owned()))
    }

    /// Those who follow the log from outside, and from where they need it.
    pub fn consumers(&self) -> &Consumers {
        &self.shared.consumers
    }

    /// Lets whole segments before `upto` go, as far as [`LogOptions::retention`] and the consumers let them, those less
    /// that are further behind than [`LogOptions::retain_bytes_max`]: they are dropped. Somebody keeps, durably, what the log before `upto` amounts to, and opens it with a [`LogOptions::restart`] not before `upto` from now on.
    /// Reads and writes files: not for a thread that somebody waits for. `now` says how old commits are, and when consumers were dropped.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Closed`]; [`Error::Io`]: what did not go then goes the next time.
    pub fn recycle(&self, upto: Lsn, now: Micros) -> Result<Recycled, Error> {
        retain::recycle(&self.shared, upto, now)
    }

    /// Copies what is sealed to [`LogOptions::archive`], and returns up to where all is archived. [`Log::recycle`] does it
    /// first. Reads and writes files: not for a thread that somebody waits for.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] when a segment is damaged, or the archive holds another one in its place.
    pub fn archive_sealed(&self) -> Result<Option<Lsn>, Error> {
        self.archive_until(&|| false)
    }

    /// As [`Log::archive_sealed`], but for segments that are left when it is `stopped`.
    ///
    /// # Errors
    /// As [`Log::archive_sealed`].
    pub fn archive_until(&self, stopped: &dyn Fn() -> bool) -> Result<Option<Lsn>, Error> {
        retain::archive(&self.shared, stopped)
    }

    /// Why the log takes nothing more, if a write failed.
    pub fn poisoned(&self) -> Option<String> {
        self.shared.fate.poisoned().map(|reason| reason.to_string())
    }

    /// What writes took since the log was opened.
    pub fn write_figures(&self) -> WriteFigures {
        self.shared.times.figures()
    }

    /// What recovery found when the log was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The most bytes of records that one reservation can have.
    pub fn reservation_max(&self) -> usize {
        self.shared.geometry.payload_max()
    }

    /// Writes what was appended and a watermark behind it, and ends the log's threads. Later calls change nothing.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when not everything could be written.
    pub fn close(&self) -> Result<(), Error> {
        {
            let _append = self.shared.append.lock();
            self.shared.closing.store(true, Ordering::SeqCst);
        }
        self.notify.notify();
        let mut threads = self.threads.lock();
        if let Some(Threads { writer, space }) = threads.take() {
            if writer.join().is_err() {
                self.shared.poison("the writer thread panicked".to_owned());
            }
            self.shared.space.stop();
            if space.join().is_err() {
                self.shared
                    .poison("the thread that prepares segments panicked".to_owned());
            }
        }
        match self.shared.fate.check() {
            Err(error @ Error::Poisoned { .. }) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("folder", &self.shared.storage.path(""))
            .field("epoch", &self.shared.epoch)
            .field("durable_lsn", &self.durable_lsn())
            .finish_non_exhaustive()
    }
}

/// A log that ends before what is known to have been durable has lost something.
fn check_end(storage: &dyn Storage, options: &LogOptions, consumed: Lsn, end: Lsn) -> Result<(), Error> {
    let durable = options.durable_before.max(options.restart).max(consumed);
    if end >= durable {
        return Ok(());
    }
    Err(Error::EndMissing {
        path: storage.path(""),
        end,
        durable,
    })
}

/// Starts the writer thread, which makes its own queue, and hands over how it is woken.
fn start_writer(
    shared: &Arc<Shared>,
    options: &LogOptions,
    recovered: &Recovered,
    entered: u64,
) -> io::Result<(JoinHandle<()>, Arc<dyn Notify>)> {
    let (made, queue_made) = mpsc::sync_channel(1);
    let (shared, chain) = (Arc::clone(shared), recovered.chain);
    let (min, max) = (options.min_in_flight, options.max_in_flight);
    let writer = thread::Builder::new()
        .name("scry-log".to_owned())
        .spawn(move || {
            match shared.storage.queue(max + HEADER_SLOT) {
                Ok(queue) => {
                    // Whoever opens waits for this; when it has gone, so has the log.
                    let _ = made.send(Ok(queue.notifier()));
                    run_writer(
                        Writer::new(Arc::clone(&shared), queue, min, chain, entered),
                        &shared,
                    );
                }
                Err(error) => {
                    let _ = made.send(Err(error));
                }
            }
        })?;
    match queue_made.recv() {
        Ok(Ok(notify)) => Ok((writer, notify)),
        Ok(Err(error)) => Err(error),
        Err(mpsc::RecvError) => Err(io::Error::other("the writer thread ended at once")),
    }
}

/// Runs the writer; a panic (a broken invariant) poisons the log instead of leaving everybody waiting.
fn run_writer(writer: Writer, shared: &Arc<Shared>) {
    struct OnPanic<'a>(&'a Arc<Shared>);
    impl Drop for OnPanic<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                self.0.poison("the writer thread panicked".to_owned());
            }
        }
    }
    let _guard = OnPanic(shared);
    writer.run();
}

/// The append lock, held. Dropping it lets the next one in and wakes the writer if it sleeps.
pub struct Appender<'a> {
    log: &'a Log,
    /// Taken only by `drop`.
    append: Option<MutexGuard<'a, Append>>,
}

impl Appender<'_> {
    fn append(&mut self) -> &mut Append {
        self.append.as_mut().expect("the lock is held until drop")
    }

    /// Finds the place for the next `len` bytes: they will stand there, in one frame. Ends an earlier reservation.
    ///
    /// Waits for the next segment to be prepared when the present one has no room; after [`Log::room`] that is rare.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::DiskFull`], [`Error::Poisoned`]; nothing was appended then.
    pub fn reserve(&mut self, len: usize) -> Result<Lsn, Error> {
        let shared = &self.log.shared;
        let limit = shared.geometry.payload_max();
        if len > limit {
            return Err(Error::TooLong { bytes: len, limit });
        }
        let append = self.append.as_mut().expect("the lock is held until drop");
        loop {
            match append.place(len, shared.space.prepared_end()) {
                Placed::At(lsn) => {
                    if let Some(end) = append.newly_wanted_end() {
                        shared.space.want(end);
                    }
                    return Ok(Lsn::new(lsn));
                }
                Placed::NeedsRoom(end) => shared.space.wait(end, &shared.fate)?,
            }
        }
    }

    /// Appends `count` encoded records to the reserved place; returns the LSN of the first byte.
    ///
    /// `has_catalog` says that one of them is a catalog record.
    ///
    /// # Panics
    /// When more bytes are put than were reserved.
    pub fn put(&mut self, records: &[u8], count: u32, has_catalog: bool) -> Lsn {
        let lsn = self.append().put(records, count, has_catalog);
        let end = self.append().end();
        self.log.shared.appended.store(end, Ordering::Release);
        Lsn::new(lsn)
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        if let Some(mut append) = self.append.take() {
            let wake = append.writer_sleeps && !append.is_empty();
            if wake {
                append.writer_sleeps = false;
            }
            drop(append);
            if wake {
                self.log.notify.notify();
            }
        }
    }
}

/// Wakes a thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static UNPARK: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Runs a future on this thread: for who has no runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    UNPARK.with(|waker| {
        let mut cx = Context::from_waker(waker);
        loop {
            match future.as_mut().poll(&mut cx) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    })
}
