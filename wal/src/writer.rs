//! The writer thread: takes what is ready, seals it into frames, keeps several writes on their way and acknowledges the
//! contiguous prefix that is done.
//!
//! There is no delay anywhere: whenever a slot is free it takes whatever is ready. Headers, checksums and the hash
//! chain are computed here, outside of the append lock.
//!
//! Invariants:
//! - a frame is acknowledged when its write and all writes before it are complete, never otherwise;
//! - the watermark in a frame is not beyond what was acknowledged when it was sealed;
//! - after the first failure nothing is written and nothing acknowledged: what a failed write left on the
//!   disk is unknown, and asking again proves nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::append::Ready;
use crate::depth::Depth;
use crate::format::{Chain, FLAG_WATERMARK, FrameHeader, SegmentHeader, UNIT, WRITE_UNIT, segment_name};
use crate::frame::Frame;
use crate::ids::Lsn;
use crate::log::HEADER_SLOT;
use crate::shared::Shared;
use crate::storage::{Access, SegmentFile, Write, WriteBytes, WriteQueue, Written};

/// How long nothing must have happened before a watermark frame is written: long enough that a client in a
/// conversation causes none, short enough that little stands without a witness.
const IDLE: Duration = Duration::from_millis(50);

/// A write on its way, or done and waiting for one before it.
struct InFlight {
    raw_end: u64,
    /// `None` for a segment header.
    frame: Option<Arc<Frame>>,
    bytes: usize,
    started: Instant,
    done: bool,
}

/// What is left to do when nothing is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Go on.
    Continue,
    /// All is written, and the log is closing.
    Finished,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: Box<dyn WriteQueue>,
    depth: Depth,
    chain: Chain,
    segment: Option<(u64, Arc<dyn SegmentFile>)>,
    /// The base of the last segment whose header was written.
    entered: u64,
    in_flight: VecDeque<InFlight>,
    /// The token of the first one in flight.
    first_token: u64,
    /// Whether the last frame written says that all before it is durable.
    witnessed: bool,
    /// When a write was last begun or completed.
    last_activity: Instant,
    over: Vec<Written>,
    acknowledged: Vec<Arc<Frame>>,
    woken: Vec<Waker>,
}

impl Writer {
    /// Goes on behind `chain`, in the segment at `entered` or the one after it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Box<dyn WriteQueue>,
        min_in_flight: usize,
        chain: Chain,
        entered: u64,
    ) -> Self {
        let depth = Depth::new(min_in_flight, queue.in_flight_max().saturating_sub(HEADER_SLOT));
        Self {
            shared,
            queue,
            depth,
            chain,
            segment: None,
            entered,
            in_flight: VecDeque::new(),
            first_token: 0,
            witnessed: true,
            last_activity: Instant::now(),
            over: Vec::new(),
            acknowledged: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// Runs until the log is closed or a write fails.
    pub(crate) fn run(mut self) {
        match self.serve() {
            Ok(()) => self.shared.closed(),
            Err(reason) => self.shared.poison(reason),
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        loop {
            if self.fill_slots()? == Turn::Finished {
                return Ok(());
            }
            let lonely = self.in_flight.is_empty() && !self.witnessed;
            let timeout = lonely.then(|| IDLE.saturating_sub(self.last_activity.elapsed()));
            let waited = self.queue.wait(timeout, &mut self.over);
            waited.map_err(|error| format!("the queue of writes failed: {error}"))?;
            if self.over.is_empty() {
                continue;
            }
            self.last_activity = Instant::now();
            let mut over = std::mem::take(&mut self.over);
            for written in over.drain(..) {
                self.complete(&written)?;
            }
            self.over = over;
            self.acknowledge();
        }
    }

    /// Takes what is ready while slots are free.
    fn fill_slots(&mut self) -> Result<Turn, String> {
        while self.in_flight.len() < self.depth.slots() {
            let closing = self.shared.closing.load(Ordering::SeqCst);
            match self.take(closing) {
                Some(ready) => self.write(ready)?,
                None if closing && self.in_flight.is_empty() => return Ok(Turn::Finished),
                None => break,
            }
        }
        Ok(Turn::Continue)
    }

    /// The next frame; a watermark when there is none and it is time for one.
    fn take(&mut self, closing: bool) -> Option<Ready> {
        let mut append = self.shared.append.lock();
        let mut ready = append.take();
        let due = !self.witnessed && self.in_flight.is_empty() && ready.is_none();
        if due && (closing || self.last_activity.elapsed() >= IDLE) {
            // Where no room is prepared for it the log goes without, until the next frame.
            self.witnessed = true;
            if append.push_watermark(self.shared.space.prepared_end()) {
                self.shared.appended.store(append.end(), Ordering::Release);
                ready = append.take();
            }
        }
        append.writer_sleeps = ready.is_none();
        ready
    }

    /// Seals a frame and starts its write, behind the header of its segment if it is the first one there.
    fn write(&mut self, ready: Ready) -> Result<(), String> {
        let geometry = self.shared.geometry;
        let base = geometry.base(ready.lsn);
        let file = self.segment_at(base)?;
        if base != self.entered {
            assert!(
                base == geometry.end(self.entered) && ready.lsn == base + UNIT,
                "segments follow each other"
            );
            self.write_header(base, &file)?;
        }
        let mut header = FrameHeader {
            lsn: ready.lsn,
            epoch: self.shared.epoch,
            payload_bytes: u32::try_from(ready.payload_bytes).expect("a frame is at most 32 MiB"),
            records: ready.records,
            flags: ready.flags,
            durable: self.shared.durability.raw(),
            database: self.shared.database,
            link: self.chain,
            chain: [0; 32],
        };
        let mut block = ready.block;
        // Fits into the block: it holds the header's room and the payload, and is a multiple of the write unit.
        let bytes = header.frame_bytes() as usize;
        header.seal(&mut block.bytes_mut()[..bytes]);
        self.chain = header.chain;
        self.witnessed = header.flags & FLAG_WATERMARK != 0;
        let frame = Arc::new(Frame::new(block, header, geometry));
        let write = WriteBytes::frame(&frame);
        self.start(ready.lsn - base, file, write, frame.raw_end(), Some(frame))
    }

    fn segment_at(&mut self, base: u64) -> Result<Arc<dyn SegmentFile>, String> {
        match &self.segment {
            Some((open, file)) if *open == base => Ok(Arc::clone(file)),
            _ => {
                let name = segment_name(base);
                let storage = &self.shared.storage;
                let file = storage
                    .open(&name, Access::Write)
                    .map_err(|error| format!("could not open {}: {error}", storage.path(&name).display()))?;
                self.segment = Some((base, Arc::clone(&file)));
                Ok(file)
            }
        }
    }

    fn write_header(&mut self, base: u64, file: &Arc<dyn SegmentFile>) -> Result<(), String> {
        let header = SegmentHeader {
            node: self.shared.node,
            database: self.shared.database,
            epoch: self.shared.epoch,
            base,
            segment_bytes: self.shared.geometry.segment_bytes(),
            chain: self.chain,
            recycled: self.shared.space.enter(base),
        };
        let mut block = self.shared.pool.block(WRITE_UNIT);
        header.encode(&mut block.bytes_mut()[..WRITE_UNIT]);
        self.entered = base;
        self.start(0, Arc::clone(file), WriteBytes::header(block), base + UNIT, None)
    }

    fn start(
        &mut self,
        offset: u64,
        file: Arc<dyn SegmentFile>,
        bytes: WriteBytes,
        raw_end: u64,
        frame: Option<Arc<Frame>>,
    ) -> Result<(), String> {
        let token = self.first_token + self.in_flight.len() as u64;
        let started = Instant::now();
        self.last_activity = started;
        self.in_flight.push_back(InFlight {
            raw_end,
            frame,
            bytes: bytes.bytes().len(),
            started,
            done: false,
        });
        self.queue
            .submit(Write {
                token,
                file,
                offset,
                bytes,
            })
            .map_err(|error| format!("could not start a write: {error}"))
    }

    fn complete(&mut self, written: &Written) -> Result<(), String> {
        let index = written
            .token
            .checked_sub(self.first_token)
            .and_then(|index| usize::try_from(index).ok());
        let write = index
            .and_then(|index| self.in_flight.get_mut(index))
            .filter(|write| !write.done);
        let Some(write) = write else {
            return Err(format!(
                "a write completed that was never begun (token {})",
                written.token
            ));
        };
        match &written.result {
            Ok(count) if *count == write.bytes => {
                write.done = true;
                let took = self.last_activity.saturating_duration_since(write.started);
                self.depth.completed(took);
                self.shared.times.add(took);
                Ok(())
            }
            Ok(count) => {
                let end = Lsn::new(write.raw_end);
                Err(format!(
                    "a write of {} bytes that ends at LSN {end} stopped after {count}",
                    write.bytes
                ))
            }
            Err(error) => {
                let end = Lsn::new(write.raw_end);
                Err(format!(
                    "a write of {} bytes that ends at LSN {end} failed: {error}",
                    write.bytes
                ))
            }
        }
    }

    /// Acknowledges the contiguous prefix of what is done.
    fn acknowledge(&mut self) {
        let mut raw = None;
        while self.in_flight.front().is_some_and(|write| write.done) {
            let Some(write) = self.in_flight.pop_front() else {
                break;
            };
            self.first_token += 1;
            self.acknowledged.extend(write.frame);
            raw = Some(write.raw_end);
        }
        let Some(raw) = raw else { return };
        let shared = &self.shared;
        let frame = shared.geometry.frame_at(raw);
        // Readers of the tail find all that is reported durable; those who wait for durability are woken first.
        let readers_wait = shared.recent.push(&mut self.acknowledged, Lsn::new(frame));
        shared.durability.advance(raw, frame, &mut self.woken);
        self.woken.drain(..).for_each(Waker::wake);
        if readers_wait {
            shared.recent.wake_all();
        }
        if shared.space.is_waited_for() && shared.buffers_have_room() {
            shared.space.wake_all();
        }
    }
}
