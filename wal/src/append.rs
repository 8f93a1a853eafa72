//! The end of the log in memory: where the next record goes, and what the writer takes.
//!
//! Pure state: no I/O, no threads, no clock. [`crate::log`] keeps it behind the append lock, the critical section of
//! every commit, so all that can be done elsewhere (checksums, hashes, headers) is done in the writer thread.
//!
//! Invariants:
//! - positions handed out rise, without gap except padding, fillers and segment headers;
//! - what was put after one reservation stands in one frame;
//! - frames leave in the order of their positions; no frame straddles segments.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::format::{
    FLAG_CATALOG, FLAG_FILLER, FLAG_WATERMARK, FRAME_HEADER_BYTES, Geometry, UNIT, align_up,
};
use crate::sys::buffer::{Block, Pool};

/// A frame grows up to this size while all slots are busy; then the next one begins. Large enough that its own cost
/// vanishes, small enough that several are on their way when much is written.
const FRAME_TARGET_BYTES: usize = 1 << 20;

const HEADER: usize = FRAME_HEADER_BYTES;

/// A frame that is ready to be sealed and written.
pub(crate) struct Ready {
    pub(crate) lsn: u64,
    /// Room for the header, then the payload.
    pub(crate) block: Block,
    pub(crate) payload_bytes: usize,
    pub(crate) records: u32,
    pub(crate) flags: u32,
}

/// What a reservation needs before it can be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// The records will stand at this position.
    At(u64),
    /// Segments must be prepared up to this position first.
    NeedsRoom(u64),
}

/// The end of the log.
pub(crate) struct Append {
    geometry: Geometry,
    pool: Arc<Pool>,
    /// Where the open frame stands.
    lsn: u64,
    block: Option<Block>,
    payload_bytes: usize,
    records: u32,
    flags: u32,
    /// Bytes of the last reservation that were not put yet.
    reserved: usize,
    /// Payload of the frame before: a guess at the size of the next.
    last_payload_bytes: usize,
    full: VecDeque<Ready>,
    /// Segments were asked for up to here.
    wanted_end: u64,
    /// The writer found nothing and sleeps: whoever appends next wakes it.
    pub(crate) writer_sleeps: bool,
}

impl Append {
    pub(crate) fn new(geometry: Geometry, pool: Arc<Pool>, lsn: u64) -> Self {
        assert!(lsn.is_multiple_of(UNIT) && geometry.frame_at(lsn) == lsn);
        Self {
            geometry,
            pool,
            lsn,
            block: None,
            payload_bytes: 0,
            records: 0,
            flags: 0,
            reserved: 0,
            last_payload_bytes: 0,
            full: VecDeque::new(),
            wanted_end: 0,
            writer_sleeps: false,
        }
    }

    /// The end of what was put.
    pub(crate) fn end(&self) -> u64 {
        if self.payload_bytes == 0 {
            self.lsn
        } else {
            self.lsn + (HEADER + self.payload_bytes) as u64
        }
    }

    /// Called when the lock was just taken: a reservation does not outlive it.
    pub(crate) fn begin(&mut self) {
        self.reserved = 0;
    }

    /// Up to where segments should be prepared, when that has changed: one beyond the one that is appended to.
    pub(crate) fn newly_wanted_end(&mut self) -> Option<u64> {
        let wanted = self.geometry.end(self.lsn) + self.geometry.segment_bytes();
        let changed = wanted > self.wanted_end;
        self.wanted_end = self.wanted_end.max(wanted);
        changed.then_some(wanted)
    }

    /// Finds the place for the next `len` bytes. Segments are prepared up to `prepared_end`. The caller has checked
    /// that `len` fits into a frame.
    pub(crate) fn place(&mut self, len: usize, prepared_end: u64) -> Placed {
        assert!(len <= self.geometry.payload_max());
        self.reserved = 0;
        loop {
            let segment_end = self.geometry.end(self.lsn);
            if segment_end > prepared_end {
                return Placed::NeedsRoom(segment_end);
            }
            let payload = self.payload_bytes + len;
            let fits = align_up(self.lsn + (HEADER + payload) as u64) <= segment_end;
            if fits && (self.payload_bytes == 0 || HEADER + payload <= FRAME_TARGET_BYTES) {
                self.reserved = len;
                return Placed::At(self.lsn + (HEADER + self.payload_bytes) as u64);
            }
            if self.payload_bytes > 0 {
                self.finish_frame();
                continue;
            }
            // An empty frame does not fit: the segment ends here. Its filler goes out only when the next one is there.
            let next_end = segment_end + self.geometry.segment_bytes();
            if next_end > prepared_end {
                return Placed::NeedsRoom(next_end);
            }
            self.push_empty(FLAG_FILLER);
            self.lsn = self.geometry.frame_at(segment_end);
        }
    }

    /// Copies records to the place that was found for them.
    pub(crate) fn put(&mut self, records: &[u8], count: u32, has_catalog: bool) -> u64 {
        assert!(
            records.len() <= self.reserved,
            "{} bytes put, {} reserved",
            records.len(),
            self.reserved
        );
        self.reserved -= records.len();
        let start = HEADER + self.payload_bytes;
        let end = start + records.len();
        let guess = end.max(HEADER + self.last_payload_bytes);
        let block = self.block.get_or_insert_with(|| self.pool.block(guess));
        block.grow(end, start);
        block.bytes_mut()[start..end].copy_from_slice(records);
        self.payload_bytes += records.len();
        self.records += count;
        if has_catalog {
            self.flags |= FLAG_CATALOG;
        }
        self.lsn + start as u64
    }

    /// The next frame to be written, if there is anything.
    pub(crate) fn take(&mut self) -> Option<Ready> {
        if self.full.is_empty() && self.payload_bytes > 0 {
            self.finish_frame();
        }
        self.full.pop_front()
    }

    /// Whether everything that was put was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.payload_bytes == 0
    }

    /// Adds a frame that only says what is durable, when there is prepared room for it and nothing else is waiting.
    pub(crate) fn push_watermark(&mut self, prepared_end: u64) -> bool {
        if !self.is_empty() || self.geometry.end(self.lsn) > prepared_end {
            return false;
        }
        self.push_empty(FLAG_WATERMARK);
        self.lsn = self.geometry.frame_at(self.lsn + UNIT);
        true
    }

    fn push_empty(&mut self, flags: u32) {
        let block = self.pool.block(HEADER);
        self.full.push_back(Ready {
            lsn: self.lsn,
            block,
            payload_bytes: 0,
            records: 0,
            flags,
        });
    }

    fn finish_frame(&mut self) {
        let block = self.block.take().expect("a frame with payload has memory");
        let payload_bytes = std::mem::take(&mut self.payload_bytes);
        self.full.push_back(Ready {
            lsn: self.lsn,
            block,
            payload_bytes,
            records: std::mem::take(&mut self.records),
            flags: std::mem::take(&mut self.flags),
        });
        self.last_payload_bytes = payload_bytes;
        self.lsn = self
            .geometry
            .frame_at(align_up(self.lsn + (HEADER + payload_bytes) as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 32 << 10;

    fn append() -> Append {
        Append::new(Geometry::new(SEGMENT).unwrap(), Pool::new(), UNIT)
    }

    fn put(append: &mut Append, len: usize) -> u64 {
        let Placed::At(lsn) = append.place(len, 4 * SEGMENT) else {
            panic!("no room")
        };
        assert_eq!(append.put(&vec![1; len], 1, false), lsn);
        lsn
    }

    #[test]
    fn records_that_are_ready_together_share_a_frame() {
        let mut append = append();
        assert_eq!(put(&mut append, 100), UNIT + 128);
        assert_eq!(put(&mut append, 50), UNIT + 228);
        let ready = append.take().unwrap();
        assert_eq!((ready.lsn, ready.payload_bytes, ready.records), (UNIT, 150, 2));
        assert!(append.take().is_none());
        // The next one is a new write unit: what was taken is never written again.
        assert_eq!(put(&mut append, 1), 2 * UNIT + 128);
    }

    #[test]
    fn a_frame_that_does_not_fit_is_preceded_by_a_filler() {
        let mut append = append();
        put(&mut append, 20_000);
        assert_eq!(put(&mut append, 20_000), SEGMENT + UNIT + 128);
        let taken: Vec<_> = std::iter::from_fn(|| append.take())
            .map(|ready| (ready.lsn, ready.flags))
            .collect();
        assert_eq!(taken, [(UNIT, 0), (6 * UNIT, FLAG_FILLER), (SEGMENT + UNIT, 0)]);
    }

    #[test]
    fn a_frame_that_fills_the_segment_needs_no_filler() {
        let mut append = append();
        put(&mut append, (SEGMENT - UNIT) as usize - HEADER);
        assert_eq!(put(&mut append, 1), SEGMENT + UNIT + 128);
        let taken: Vec<_> = std::iter::from_fn(|| append.take())
            .map(|ready| (ready.lsn, ready.flags))
            .collect();
        assert_eq!(taken, [(UNIT, 0), (SEGMENT + UNIT, 0)]);
    }

    #[test]
    fn without_a_prepared_segment_nothing_is_placed_and_no_filler_leaves() {
        let mut append = append();
        put(&mut append, 20_000);
        assert_eq!(append.place(20_000, SEGMENT), Placed::NeedsRoom(2 * SEGMENT));
        assert_eq!(append.take().unwrap().payload_bytes, 20_000);
        assert!(append.take().is_none());
        // What still fits is still taken.
        assert_eq!(append.place(100, SEGMENT), Placed::At(6 * UNIT + 128));
    }

    #[test]
    fn a_watermark_never_overtakes_records() {
        let mut append = append();
        put(&mut append, 10);
        assert!(!append.push_watermark(SEGMENT));
        append.take().unwrap();
        assert!(append.push_watermark(SEGMENT));
        assert_eq!(
            append.take().map(|ready| (ready.lsn, ready.flags)),
            Some((2 * UNIT, FLAG_WATERMARK))
        );
        assert_eq!(append.end(), 3 * UNIT);
    }
}
