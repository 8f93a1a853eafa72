//! The ordered map from keys to rows: what of a store is in memory.
//!
//! It is one source of rows, not the store itself: callers ask for entries, ranges and removals, and never for
//! "all there is", so that sealed runs can stand beside it.
//!
//! The map is a lock-free skip list. Entries are shared (`Arc`), so that a transaction keeps hold of the rows that
//! it locked without holding on to the map. An entry leaves the map only after it was marked dead under its own
//! mutex; whoever meets a dead entry helps to remove it and looks again.

use super::entry::RowEntry;
use crate::key::{Key, KeyRange};
use crossbeam_skiplist::SkipMap;
use std::ops::Bound;
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct Memtable {
    rows: SkipMap<Key, Arc<RowEntry>>,
}

impl Memtable {
    /// Calls `found` with the row of `key`, dead or alive. No reference to the row outlives the call, which
    /// saves a point read the traffic on the entry's reference count.
    pub(crate) fn with<T>(&self, key: &[u8], found: impl FnOnce(&Arc<RowEntry>) -> T) -> Option<T> {
        self.rows.get(key).map(|node| found(node.value()))
    }

    /// The row of `key`, dead or alive.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<RowEntry>> {
        self.with(key, Arc::clone)
    }

    /// The row of `key`; when there is none, the one that `make` makes.
    pub(crate) fn get_or_insert_with(&self, key: Key, make: impl FnOnce() -> Arc<RowEntry>) -> Arc<RowEntry> {
        Arc::clone(self.rows.get_or_insert_with(key, make).value())
    }

    /// Takes a dead entry out of the map, unless somebody else did.
    pub(crate) fn remove(&self, key: &[u8], entry: &Arc<RowEntry>) {
        if let Some(node) = self.rows.get(key)
            && Arc::ptr_eq(node.value(), entry)
        {
            node.remove();
        }
    }

    /// Calls `visit` for each row of the range in key order until it answers false.
    pub(crate) fn range(&self, range: &KeyRange, mut visit: impl FnMut(&Key, &Arc<RowEntry>) -> bool) {
        if is_void(range) {
            return;
        }
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (
            range.lower.as_ref().map(Key::as_ref),
            range.upper.as_ref().map(Key::as_ref),
        );
        for node in self.rows.range::<[u8], _>(bounds) {
            if !visit(node.key(), node.value()) {
                return;
            }
        }
    }
}

/// Whether no key can lie in the range, because its ends are crossed.
fn is_void(range: &KeyRange) -> bool {
    match (&range.lower, &range.upper) {
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Excluded(upper))
        | (Bound::Excluded(lower), Bound::Included(upper)) => lower >= upper,
        _ => false,
    }
}
