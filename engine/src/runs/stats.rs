//! What runs have done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// How the filters of one run do.
#[derive(Default)]
pub(crate) struct FilterCounters {
    spared: AtomicU64,
    missed: AtomicU64,
}

impl FilterCounters {
    /// A filter knew that the key is not there.
    #[inline]
    pub(crate) fn spared(&self) {
        self.spared.fetch_add(1, Ordering::Relaxed);
    }

    /// A filter let a key pass of which there was no version.
    #[inline]
    pub(crate) fn missed(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.spared), read(&self.missed))
    }
}
