//! The audit trail: one log of all that was ever committed.

mod append;
mod depth;
mod durability;
pub mod error;
mod format;
pub mod frame;
pub mod ids;
pub mod inspect;
pub mod log;
mod recent;
pub mod record;
mod recover;
mod scan;
mod shared;
pub mod sim;
mod space;
pub mod storage;
mod sys;
pub mod tail;
pub mod verify;
mod writer;

pub use error::{BoxError, Error, ErrorClass, Flaw, Place};
pub use format::{FRAME_HEADER_BYTES, MAX_FRAME_BYTES};
pub use frame::{Frame, RecordIter};
pub use ids::{Lsn, Micros, NodeId, Ordinal, StoreId, TentativeId, TxnId};
pub use log::{Appender, Backend, Log, LogOptions};
pub use record::{
    Change, Commit, CommitSlots, Ended, MAX_RECORD_BYTES, Op, Record, RecordError, StoreRange, StoreRanges,
};
pub use recover::{Recovery, Torn};
pub use tail::TailReader;
pub use verify::{Problem, Report, verify};
