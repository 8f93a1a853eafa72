//! The frames that became durable last, kept in memory for those who follow the log.
//!
//! Bound: `recent_bytes` of memory; the oldest go first. The frames are shared, not copied: the same memory that
//! was written to disk is what a reader decodes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::frame::Frame;
use crate::ids::Lsn;

/// Frames and bytes that a reader takes at once, so that several readers do not contend for the lock.
const TAKE_FRAMES: usize = 64;
const TAKE_BYTES: usize = 4 << 20;

struct Ring {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    /// Where the first frame stands that is not durable.
    end: Lsn,
    readers_waiting: usize,
    closed: bool,
}

/// The ring.
pub(crate) struct Recent {
    ring: Mutex<Ring>,
    grown: Condvar,
    bytes_max: usize,
}

/// What a reader at some position gets.
pub(crate) enum Found {
    /// Frames were taken.
    Frames,
    /// The position is durable, and before what is kept; the ring begins at this LSN.
    Older(Lsn),
    /// Nothing came until the deadline.
    Nothing,
    /// Nothing comes any more.
    Closed,
    /// No durable frame begins there.
    NoFrame,
}

impl Recent {
    pub(crate) fn new(bytes_max: usize, end: Lsn) -> Self {
        let ring = Ring {
            frames: VecDeque::new(),
            bytes: 0,
            end,
            readers_waiting: 0,
            closed: false,
        };
        Self {
            ring: Mutex::new(ring),
            grown: Condvar::new(),
            bytes_max,
        }
    }

    /// Adds frames that became durable, in order; `end` is where the next one will stand. Says whether a reader waits
    /// for [`Recent::wake_all`].
    #[must_use]
    pub(crate) fn push(&self, frames: &mut Vec<Arc<Frame>>, end: Lsn) -> bool {
        let mut dropped = Vec::new();
        let waiting = {
            let mut ring = self.ring.lock();
            for frame in frames.drain(..) {
                ring.bytes += frame.memory_bytes();
                ring.frames.push_back(frame);
            }
            ring.end = end;
            while ring.bytes > self.bytes_max {
                let Some(oldest) = ring.frames.pop_front() else {
                    break;
                };
                ring.bytes -= oldest.memory_bytes();
                dropped.push(oldest);
            }
            ring.readers_waiting > 0
        };
        drop(dropped);
        waiting
    }

    /// Lets readers look again.
    pub(crate) fn wake_all(&self) {
        self.grown.notify_all();
    }

    /// Nothing comes any more.
    pub(crate) fn close(&self) {
        self.ring.lock().closed = true;
        self.grown.notify_all();
    }

    /// Where the first frame stands that is not durable.
    pub(crate) fn end(&self) -> Lsn {
        self.ring.lock().end
    }

    /// Takes frames from `position` on, waiting for one until `deadline`.
    pub(crate) fn take(&self, position: Lsn, deadline: Instant, out: &mut VecDeque<Arc<Frame>>) -> Found {
        let mut ring = self.ring.lock();
        loop {
            if position < ring.end {
                return Self::take_now(&ring, position, out);
            }
            if position > ring.end {
                return Found::NoFrame;
            }
            if ring.closed {
                return Found::Closed;
            }
            ring.readers_waiting += 1;
            let late = self.grown.wait_until(&mut ring, deadline).timed_out();
            ring.readers_waiting -= 1;
            if late && position == ring.end {
                return if ring.closed {
                    Found::Closed
                } else {
                    Found::Nothing
                };
            }
        }
    }

    fn take_now(ring: &Ring, position: Lsn, out: &mut VecDeque<Arc<Frame>>) -> Found {
        let first = ring.frames.front().map_or(ring.end, |frame| frame.lsn());
        if position < first {
            return Found::Older(first);
        }
        let at = ring.frames.partition_point(|frame| frame.lsn() < position);
        if ring.frames.get(at).is_none_or(|frame| frame.lsn() != position) {
            return Found::NoFrame;
        }
        let mut bytes = 0;
        for frame in ring.frames.range(at..).take(TAKE_FRAMES) {
            out.push_back(Arc::clone(frame));
            bytes += frame.memory_bytes();
            if bytes >= TAKE_BYTES {
                break;
            }
        }
        Found::Frames
    }
}
