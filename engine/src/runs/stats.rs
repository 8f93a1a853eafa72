//! What there is, and what was done, in numbers.

use crate::runs::Runs;
use crate::runs::cache::CacheStats;
use crate::runs::compaction::plan::pending_bytes;
use crate::runs::set::Layer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelStats {
    pub runs: u64,
    /// Of files.
    pub bytes: u64,
    /// Of keys and rows, before compression.
    pub content_bytes: u64,
    /// Versions, deletions among them.
    pub entries: u64,
}

/// All levels, and what was done since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunsStats {
    /// Level 0, of flushes, and those below.
    pub levels: Vec<LevelStats>,
    /// Flushes that wait to be merged: each costs a lookup a filter.
    pub fresh_layers: usize,
    /// What is to be merged until all levels have their sizes, about.
    pub pending_bytes: u64,
    pub flushes: u64,
    /// Of files.
    pub flushed_bytes: u64,
    pub compactions: u64,
    pub compaction_read_bytes: u64,
    pub compaction_written_bytes: u64,
    pub cache: CacheStats,
    /// Lookups in a run that its filter has ended, and those that it let pass for nothing.
    pub filter_spared: u64,
    pub filter_missed: u64,
    /// Memory beside the cache.
    pub pinned_bytes: u64,
}

/// What was done.
#[derive(Default)]
pub(crate) struct Counters {
    flushes: AtomicU64,
    flushed_bytes: AtomicU64,
    compactions: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// Of runs that are no more.
    filters: FilterCounters,
}

/// How the filters of one run do.
#[derive(Default)]
pub(crate) struct FilterCounters {
    spared: AtomicU64,
    missed: AtomicU64,
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

impl FilterCounters {
    /// A filter knew that the key is not there.
    #[inline]
    pub(crate) fn spared(&self) {
        add(&self.spared, 1);
    }

    /// A filter let a key pass of which there was no version.
    #[inline]
    pub(crate) fn missed(&self) {
        add(&self.missed, 1);
    }
}

impl Counters {
    pub(crate) fn flushed(&self, bytes: u64) {
        add(&self.flushes, 1);
        add(&self.flushed_bytes, bytes);
    }

    pub(crate) fn compacted(&self, read_bytes: u64, written_bytes: u64) {
        add(&self.compactions, 1);
        add(&self.read_bytes, read_bytes);
        add(&self.written_bytes, written_bytes);
    }

    /// A run leaves with its counters.
    pub(crate) fn left(&self, filters: &FilterCounters) {
        add(&self.filters.spared, read(&filters.spared));
        add(&self.filters.missed, read(&filters.missed));
    }
}

impl LevelStats {
    fn of<'l>(layers: impl IntoIterator<Item = &'l Arc<Layer>>) -> LevelStats {
        let mut stats = LevelStats::default();
        for run in layers.into_iter().flat_map(|layer| layer.runs()) {
            stats.runs += 1;
            stats.bytes += run.name.bytes;
            stats.content_bytes += run.meta.content_bytes;
            stats.entries += run.meta.entries;
        }
        stats
    }
}

impl Runs {
    /// All figures.
    pub fn stats(&self) -> RunsStats {
        let set = self.current();
        let mut levels = vec![LevelStats::of(set.fresh())];
        levels.extend(set.levels().iter().map(|layer| LevelStats::of([layer])));
        let filters = || set.runs().map(|run| &run.filters).chain([&self.counters.filters]);
        RunsStats {
            levels,
            fresh_layers: set.fresh().len(),
            pending_bytes: pending_bytes(&set, self.options.sizes()),
            flushes: read(&self.counters.flushes),
            flushed_bytes: read(&self.counters.flushed_bytes),
            compactions: read(&self.counters.compactions),
            compaction_read_bytes: read(&self.counters.read_bytes),
            compaction_written_bytes: read(&self.counters.written_bytes),
            cache: self.cache.stats(),
            filter_spared: filters().map(|filters| read(&filters.spared)).sum(),
            filter_missed: filters().map(|filters| read(&filters.missed)).sum(),
            pinned_bytes: set.runs().map(|run| run.pinned_bytes() as u64).sum(),
        }
    }
}
