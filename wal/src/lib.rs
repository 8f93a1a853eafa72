//! The audit trail: one log of all that was ever committed, and the only place where commits become durable.
//!
//! The log knows records, frames and segments. It knows no rows, SQL, Arrow, network or async runtime: what a
//! record's bytes mean is the engine's affair, who follows the tail is nobody's here. Waiting is offered as plain
//! [`std::future::Future`]s that any runtime can poll, and as blocking calls.
//!
//! # Use
//!
//! ```
//! use scry_wal::record::encode_change;
//! use scry_wal::{Change, Ended, Log, LogOptions, Lsn, Op, StoreId};
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let folder = tempfile::tempdir()?;
//! # let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() };
//! let log = Log::open(folder.path(), options, &mut |frame| {
//!     for record in frame.into_iter().flat_map(|frame| frame.records()) {
//!         let (lsn, record) = record?; // what was committed before
//!     }
//!     Ok(())
//! })?;
//!
//! let change = Change {
//!     store: StoreId::new(1),
//!     op: Op::Insert,
//!     key: b"key",
//!     ended: Ended::None,
//!     before: b"",
//!     after: b"row",
//! };
//! let mut records = Vec::new();
//! encode_change(&mut records, &change)?;
//!
//! log.wait_room()?; // back-pressure, before the lock
//! let mut appender = log.lock()?; // the critical section of a commit begins
//! let lsn = appender.reserve(records.len())?; // where the records will stand
//! appender.put(&records, 1, false);
//! drop(appender); // and ends; no I/O happened in it
//! log.wait_durable(lsn)?; // only now may anybody be told
//!
//! let mut tail = log.tail(Lsn::ZERO);
//! while let Some(frame) = tail.next(std::time::Duration::ZERO)? {
//!     assert!(frame.end() <= log.durable_lsn());
//! }
//! log.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! *Positions.* An [`Lsn`] is a byte offset on one line; segments (files of one size) cut the line, frames fill it. What is
//! reserved together stands in one frame, so a transaction whose records were put together is there in whole or not
//! at all.
//!
//! *Group commit.* Appenders copy their records into the open frame under the append lock. The writer thread takes whatever
//! is ready as soon as a slot is free, seals it (header, hash chain, checksum) and writes it synchronously, several
//! writes at a time; it acknowledges the contiguous prefix that is done. How many slots there are follows from how
//! long writes take: few on a quick disk, where frames then batch by themselves and each commit costs less processor
//! time; many on a disk that is busy with others. There is no delay anywhere.
//!
//! *Durability.* Frames begin at multiples of 4096 bytes: what was acknowledged is never written again. Segments are
//! allocated and filled with zeros ahead, or were others before, so a write changes no metadata. When the disk is full, appends are
//! refused with [`Error::DiskFull`] before anything is lost, until there is room. When a write fails the log is poisoned:
//! what that write left behind is unknown, so nothing more is acknowledged and nothing is tried again.
//!
//! *Recovery.* Each frame says what was durable when it was written. With that the first bad byte is either a torn tail
//! (cut off, in a new epoch) or damage to acknowledged data (refused, with file, offset and LSN, every byte left as
//! it was). The rule and why it is right stand in the source of the `recover` module; the bytes in `format` and [`record`].
//!
//! *Tamper evidence.* Every frame carries a BLAKE3 hash over itself and, through the link to the frame before, over the whole
//! log; recovery and [`verify()`] compute it again.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | a record | [`MAX_RECORD_BYTES`] |
//! | a frame, a reservation | [`MAX_FRAME_BYTES`], less in small segments: [`Log::reservation_max`] |
//! | bytes appended and not durable | [`LogOptions::buffer_bytes`], plus one reservation per appender that was let in |
//! | frames on their way | [`LogOptions::max_in_flight`] |
//! | frames in memory for tail readers | [`LogOptions::recent_bytes`], plus 4 MiB per reader |
//! | segments prepared ahead | one beyond the one that is written |
//! | recycled segments that wait to become others | 8 |
//! | frames read ahead while the log is opened | six batches of 1 MiB, or of one frame that is larger |
//! | consumers | [`CONSUMERS_MAX`], each with [`LogOptions::retain_bytes_max`] of the log |
//!
//! # The modules, in reading order
//!
//! [`ids`] and [`record`]: what is logged. `format`, [`frame`]: the bytes on disk. `append`, `writer`, `depth`, `durability`,
//! `space`: how they get there; `times`: how long that takes. `segments`, `scan`, `recover`: how they are read again. `retain`, `consumers`, [`mod@archive`]: what becomes of those that nobody needs, who needs them, and who copies them. `recent`, [`tail`]: who follows. [`mod@verify`],
//! [`inspect`]: who only looks; [`mod@salvage`]: what is left of a damaged log; [`copy`] and [`mod@fork`]: what backups are made of, and
//! logs that go their own way from there. [`storage`], [`sim`]: the seam to the disk, and a disk that fails on demand. [`log`]
//! puts it together.

mod append;
pub mod archive;
mod consumers;
pub mod copy;
mod depth;
mod durability;
pub mod error;
pub mod fork;
mod format;
pub mod frame;
pub mod ids;
pub mod inspect;
pub mod log;
mod options;
mod recent;
pub mod record;
mod recover;
mod retain;
pub mod salvage;
mod scan;
mod segments;
mod shared;
pub mod sim;
mod space;
pub mod storage;
mod sys;
pub mod tail;
mod times;
pub mod verify;
mod writer;

pub use archive::Archive;
pub use consumers::{CONSUMER_NAME_BYTES_MAX, CONSUMERS_MAX, Consumer, Consumers, Dropped};
pub use error::{BoxError, Error, ErrorClass, Flaw, Place};
pub use format::{FRAME_HEADER_BYTES, MAX_FRAME_BYTES};
pub use frame::{Frame, RecordIter};
pub use ids::{Lsn, Micros, NodeId, Ordinal, StoreId, TentativeId, TxnId};
pub use log::{Appender, Log, block_on};
pub use options::{Backend, LogOptions};
pub use record::{
    Change, Commit, CommitSlots, Ended, MAX_RECORD_BYTES, Op, Record, RecordError, SequencePosition,
    StoreRange, StoreRanges,
};
pub use recover::{Recovery, Torn};
pub use retain::{Recycled, Retention};
pub use salvage::{Salvage, Tally, salvage};
pub use tail::TailReader;
pub use times::{WRITE_BOUNDS_US, WriteFigures};
pub use verify::{Problem, Report, verify, verify_with};
