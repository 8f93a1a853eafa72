//! From the audit trail to ordered change sets of Arrow columns.
//!
//! A dealer reads frames from the log's tail and deals them, in runs, to N extractor threads. Each decodes its run
//! with [`decode_run`], a pure function from bytes to per-store Arrow columns. The replay queue puts the pieces back
//! in log order and hands out the contiguous prefix, so the consumer sees natural flow whatever the number of
//! extractors and their timing.
//!
//! In reading order: [`changes`] says what comes out; [`schema`] and [`rows`] turn engine rows into Arrow columns;
//! `decode` is the pure function; `replay` restores the order and splices in what commits adopt; `queue` bounds and
//! orders the work; [`stream`] owns the threads.
//!
//! This crate does not know who consumes its output, and keeps no position: that is the consumer's.

pub mod changes;
mod decode;
mod error;
mod queue;
mod replay;
pub mod rows;
pub mod schema;
pub mod stream;

pub use changes::{Adopted, ChangeSet, CommitInfo, RowRun, StoreChanges, StoreEvent, StoreEventKind};
pub use decode::{Decoded, Schemas, decode_run};
pub use error::{Error, ErrorKind};
pub use replay::Replay;
pub use rows::RowBatchBuilder;
pub use schema::{StoreSchema, arrow_schema};
pub use stream::{Start, Stream, StreamOptions};

#[cfg(test)]
mod tests;
