//! What the replay queue hands out: the committed changes of a stretch of the log, in commit order.
//!
//! Invariants: a set covers the commits with `from <= lsn < upto` and nothing else; a store's runs are in ordinal
//! order and dense within the set; boundaries and ended lists are in commit order.

use arrow::record_batch::RecordBatch;
use scry_wal::{Lsn, Micros, Ordinal, StoreId};
use std::sync::Arc;

use crate::schema::StoreSchema;

/// The committed changes between two positions of the log.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    /// Where the set begins: the `upto` of the set before it.
    pub from: Lsn,
    /// Where the set ends, a frame boundary: every commit with a smaller LSN has been handed out.
    pub upto: Lsn,
    /// Where a reader that has everything before `upto` must begin reading: the first record of the oldest
    /// tentative transaction that is still open, or `upto` when there is none.
    pub restart: Lsn,
    /// The commits, in order.
    pub commits: Vec<CommitInfo>,
    /// Stores that came and went, in order.
    pub events: Vec<StoreEvent>,
    /// What happened to rows, one entry a store.
    pub stores: Vec<StoreChanges>,
}

/// One commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitInfo {
    /// LSN of the commit record.
    pub lsn: Lsn,
    /// Wall clock of the primary at commit.
    pub time: Micros,
}

/// A store that came or went with the commit at `at`.
#[derive(Debug, Clone)]
pub struct StoreEvent {
    /// LSN of the commit.
    pub at: Lsn,
    /// The store.
    pub store: StoreId,
    /// What happened to it.
    pub kind: StoreEventKind,
}

/// What can happen to a store as a whole.
#[derive(Debug, Clone)]
pub enum StoreEventKind {
    /// Created, with these columns. One that is not mirrored comes and goes as others do, and nothing
    /// is told of its rows.
    Created(Arc<StoreSchema>),
    /// Has got columns behind those that it had. Rows of earlier commits lack them, or hold the missing values already.
    Widened(Arc<StoreSchema>),
    /// Dropped; no later change names it.
    Dropped,
}

/// What happened to the rows of one store.
#[derive(Debug, Clone)]
pub struct StoreChanges {
    /// The store.
    pub store: StoreId,
    /// The rows begun, in ordinal order; each run continues where the one before it, or an adoption, ended.
    pub runs: Vec<RowRun>,
    /// Branches whose rows became rows of this store, in ordinal order.
    pub adopted: Vec<Adopted>,
    /// (LSN of a commit that began rows, number of ordinals of the store after it).
    pub boundaries: Vec<(Lsn, u64)>,
    /// (LSN of the commit, ordinal that it ended); without what adopted rows end.
    pub ended: Vec<(Lsn, Ordinal)>,
}

/// A candidate's rows that became rows of the table with its election. They are not repeated here: whoever has the
/// branch's rows has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// LSN of the commit.
    pub at: Lsn,
    /// The ordinal that the branch's ordinal 0 becomes.
    pub first: Ordinal,
    /// The store of the branch. It gets no more changes.
    pub branch: StoreId,
    /// Ordinals of the branch: so many are taken.
    pub count: u64,
    /// Ordinals of the branch that are not adopted, though alive: they take their place and are dead.
    pub skipped: Vec<Ordinal>,
}

/// Rows with consecutive ordinals.
#[derive(Debug, Clone)]
pub struct RowRun {
    /// Ordinal of the first row.
    pub first: Ordinal,
    /// The rows.
    pub rows: RecordBatch,
}

impl RowRun {
    /// The ordinal after the last row.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first.get() + self.rows.num_rows() as u64
    }
}
