//! The columnar copy of the primary: its rows as of one LSN, at first none, and from there on the log.
//!
//! A store's mirror is a list of *pieces*, each a stretch of its ordinals as Arrow columns: the newest in memory (the
//! tail), the older ones sealed in Parquet files. Beside each piece stands a bitmap of its dead rows; deletes that some snapshot
//! may still have to see undone wait in a short list of (LSN, ordinal). A snapshot is an LSN: per store it is a
//! prefix of the ordinals less the bitmaps less a prefix of that list.
//!
//! In reading order: [`snapshot`] is what queries see; [`mirror`] owns the threads; `core` holds the stores and `store`
//! applies changes to one of them; `piece`, `bits`, `merge` and `plan` say how rows are kept compact; `segment`, `cache`,
//! `manifest` and `checkpoint` put them on disk and bring them back; `seed` begins with the primary's rows; `repair` makes what is damaged there again; `savepoint` keeps
//! named states;
//! `horizon` says how far back anybody still looks.
//!
//! This crate does not know the primary's tables, locks or sessions: the oldest snapshot still wanted comes in as a
//! closure, and so do its rows when there is nothing else to begin with; columns come in through the stream.

mod bits;
mod cache;
mod checkpoint;
mod checksum;
mod core;
mod error;
mod future;
mod horizon;
mod lag;
mod manifest;
mod merge;
pub mod mirror;
mod piece;
mod plan;
mod relink;
mod repair;
mod savepoint;
mod seed;
mod segment;
pub mod snapshot;
mod statistics;
mod store;
mod verify;

pub use checkpoint::checkpoint_lsn;
pub use checksum::{Checksum, checksum_rows, hash_rows};
pub use error::{Error, ErrorKind};
pub use future::BranchView;
pub use lag::LagSummary;
pub use mirror::{CONSUMER, Mirror, MirrorOptions, MirrorStatus};
pub use savepoint::{NAME_BYTES_MAX, SAVEPOINTS_MAX, Savepoint};
pub use seed::SeedSource;
pub use snapshot::{ScanUnit, Snapshot, StoreState, TableSnapshot, UnitRows};
pub use statistics::ColumnStatistics;
pub use verify::{Report, verify};

#[cfg(test)]
mod tests;
