//! The audit trail: one log of all that was ever committed.
#![allow(dead_code)]

pub mod error;
mod format;
pub mod frame;
pub mod ids;
pub mod log;
pub mod record;
mod sys;

pub use error::{BoxError, Error, ErrorClass, Flaw, Place};
pub use format::{FRAME_HEADER_BYTES, MAX_FRAME_BYTES};
pub use frame::{Frame, RecordIter};
pub use ids::{Lsn, Micros, NodeId, Ordinal, StoreId, TentativeId, TxnId};
pub use log::{Appender, Backend, Log, LogOptions, TailReader};
pub use record::{
    Change, Commit, CommitSlots, Ended, MAX_RECORD_BYTES, Op, Record, RecordError, StoreRange, StoreRanges,
};
