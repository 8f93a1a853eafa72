//! Counters of the engine's life.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since the engine was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions that wrote something and committed.
    pub commits: u64,
    /// Transactions that had locked or written something and rolled back.
    pub aborts: u64,
    /// Requests for a row or table lock that had to wait.
    pub lock_waits: u64,
    /// Waits refused because they would never have ended.
    pub deadlocks: u64,
    /// REPEATABLE READ and SERIALIZABLE transactions that met a newer version, and SERIALIZABLE ones of which a later commit changed
    /// what they had read.
    pub serialization_failures: u64,
    /// Rows that elections have changed.
    pub elected_rows: u64,
    /// Rows that were not what a candidate found, in elections and rebases: those that rules decided, and those deferred.
    pub conflicts_resolved: u64,
    pub conflicts_deferred: u64,
    /// Checkpoints that were made, and those that failed.
    pub checkpoints: u64,
    pub checkpoints_failed: u64,
    /// Attempts to compact runs that failed.
    pub compactions_failed: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    aborts: AtomicU64,
    lock_waits: AtomicU64,
    deadlocks: AtomicU64,
    conflicts: AtomicU64,
    elected_rows: AtomicU64,
    conflicts_resolved: AtomicU64,
    conflicts_deferred: AtomicU64,
}

impl Counters {
    /// Answers how many commits there were before this one.
    pub(crate) fn commit(&self) -> u64 {
        self.commits.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn abort(&self) {
        self.aborts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lock_wait(&self) {
        self.lock_waits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn deadlock(&self) {
        self.deadlocks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    /// A commit has elected or rebased.
    pub(crate) fn election(&self, rows: u64, resolved: u64, deferred: u64) {
        self.elected_rows.fetch_add(rows, Ordering::Relaxed);
        self.conflicts_resolved.fetch_add(resolved, Ordering::Relaxed);
        self.conflicts_deferred.fetch_add(deferred, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            aborts: self.aborts.load(Ordering::Relaxed),
            lock_waits: self.lock_waits.load(Ordering::Relaxed),
            deadlocks: self.deadlocks.load(Ordering::Relaxed),
            serialization_failures: self.conflicts.load(Ordering::Relaxed),
            elected_rows: self.elected_rows.load(Ordering::Relaxed),
            conflicts_resolved: self.conflicts_resolved.load(Ordering::Relaxed),
            conflicts_deferred: self.conflicts_deferred.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}
