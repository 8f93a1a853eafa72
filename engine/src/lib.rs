//! Tables, row versions and transactions: the row store over the audit trail.
//!
//! In reading order: `types` (what a column can hold), `row` (rows as bytes), `key` (order-preserving keys), `catalog`
//! and `catalog_change` (tables, and how the log says so), `store` (the memtable: rows, versions, row locks), `locks`
//! (who waits for whom), `snapshots` (visible LSN and horizon), `history` (how far back can be read), `serial` (what SERIALIZABLE compares), `overlay` (a transaction's
//! changes), `constraints` (what rows must satisfy), `foreign` (keys that rows refer to), `sequence` (numbers that are handed out once), `txn`
//! (what a transaction can do), `commit` (the one critical section), `runs`
//! (rows on disk), `checkpoint` (how they get there), `recovery` (from checkpoint and log), `seed` (all rows for who begins a copy), `collector` and `sweep` (what nobody sees
//! any more), `compactor`, `engine` (all of it, open), `backup` (copies of a data directory).
//!
//! It knows nothing of SQL text, of Arrow, of sockets, nor of who reads its log.

mod admission;
mod attempts;
mod background;
pub mod backup;
pub mod catalog;
pub mod catalog_change;
mod catalogs;
mod changes;
mod checkpoint;
mod clock;
mod collector;
pub mod collision;
mod commit;
mod compactor;
mod constraints;
mod directory;
pub mod election;
pub mod engine;
pub mod error;
pub mod foreign;
mod history;
pub mod index;
pub mod key;
mod limits;
mod locks;
mod overlay;
mod pins;
mod recovery;
mod recycler;
pub mod row;
pub mod runs;
pub mod seed;
mod sequence;
mod serial;
mod snapshots;
mod stats;
mod store;
mod sweep;
pub mod txn;
pub mod types;

pub use catalog::{
    Catalog, CheckDef, ColumnDef, ColumnDefault, FIRST_OID, NewTable, PrimaryKey, Table, TableDef,
};
pub use catalog_change::{CatalogChange, CatalogChangeError};
pub use checkpoint::inspect::CheckpointSummary;
pub use clock::Clock;
pub use constraints::RowRules;
pub use directory::{FORMAT_VERSION, RUNS, WAL};
pub use election::change::ElectionChange;
pub use election::{
    Branch, Candidate, CandidateState, Change, Collision, Conflict, Election, ElectionState, Elections, Shown,
};
pub use engine::{Engine, EngineOptions, EngineSession, SessionInfo};
pub use error::{Advice, BrokenReference, Error};
pub use foreign::{Children, ForeignKeyDef, KeyAction, KeyMatch, ReferenceDef, UniqueKey};
pub use index::{Index, IndexDef, NewIndex};
pub use key::{Key, KeyRange};
pub use limits::{KEY_BYTES_MAX, ROW_BYTES_MAX};
pub use overlay::{OwnWrites, Version};
pub use row::{MISSING_BYTES_MAX, Row, RowLayout, RowRef};
pub use seed::{Seed, SeedStore};
pub use sequence::{Sequence, SequenceDef, SequenceOptions, SequenceOwner, Sequences};
pub use stats::Stats;
pub use txn::{CHANGES_MAX, InsertOutcome, Isolation, Lookups, SAVEPOINTS_MAX, SavepointId, ScanCursor, Txn};
pub use types::{DataType, Datum, Numeric, Value};
