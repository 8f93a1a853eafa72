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
    /// REPEATABLE READ transactions that met a newer version.
    pub serialization_failures: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    aborts: AtomicU64,
    lock_waits: AtomicU64,
    deadlocks: AtomicU64,
    conflicts: AtomicU64,
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

    pub(crate) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            aborts: self.aborts.load(Ordering::Relaxed),
            lock_waits: self.lock_waits.load(Ordering::Relaxed),
            deadlocks: self.deadlocks.load(Ordering::Relaxed),
            serialization_failures: self.conflicts.load(Ordering::Relaxed),
        }
    }
}
