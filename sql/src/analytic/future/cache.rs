//! What was found out about branches, kept by the states of the stores it follows from. Such a thing never becomes wrong, only
//! old: the least recently used goes when the bound is met.

use super::overlay::Overlay;
use parking_lot::Mutex;
use scry_mirror::{BranchView, StoreState};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bound of the sets kept. One of 100,000 replaced rows takes about 200 KB.
const BYTES_MAX: usize = 64 << 20;

/// Bound of the number of things kept: looking for the oldest passes through all.
const ENTRIES_MAX: usize = 1024;

/// Views by the state of their branch, overlays by the states of their table and its branches in their order.
#[derive(Debug, Default)]
pub struct FutureCache {
    kept: Mutex<Kept>,
    appeared: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Vec<StoreState>, Entry>,
    bytes: usize,
    /// Rises with every use.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Clone)]
enum Known {
    View(Arc<BranchView>),
    /// Of a version of the catalog, whose rules decided.
    Overlay(u64, Arc<Overlay>),
}

impl FutureCache {
    pub fn view(&self, branch: StoreState) -> Option<Arc<BranchView>> {
        match self.kept.lock().find(&[branch])? {
            Known::View(view) => Some(view),
            Known::Overlay(..) => None,
        }
    }

    pub fn keep_view(&self, branch: StoreState, view: &Arc<BranchView>) {
        let bytes =
            size_of::<BranchView>() + view.replaced.serialized_size() + view.deleted.serialized_size();
        let known = Known::View(view.clone());
        self.kept.lock().keep(vec![branch], known, bytes);
    }

    /// `version`: of the catalog; `states`: of the table, then of the branches.
    pub fn overlay(&self, version: u64, states: &[StoreState]) -> Option<Arc<Overlay>> {
        match self.kept.lock().find(states)? {
            Known::Overlay(of, overlay) if of == version => Some(overlay),
            Known::Overlay(..) | Known::View(_) => None,
        }
    }

    pub fn keep_overlay(&self, version: u64, states: Vec<StoreState>, overlay: &Arc<Overlay>) {
        let known = Known::Overlay(version, overlay.clone());
        let mut kept = self.kept.lock();
        let before = kept.latest(&states).map_or(0, |overlay| overlay.collisions);
        let appeared = overlay.collisions.saturating_sub(before);
        self.appeared.fetch_add(appeared, Ordering::Relaxed);
        kept.keep(states, known, overlay.bytes());
    }

    /// Predicted conflicts that were not there when the same branches were last laid over their table.
    pub fn appeared(&self) -> u64 {
        self.appeared.load(Ordering::Relaxed)
    }
}

impl Kept {
    fn find(&mut self, states: &[StoreState]) -> Option<Known> {
        self.clock += 1;
        let entry = self.entries.get_mut(states)?;
        entry.used = self.clock;
        Some(entry.known.clone())
    }

    /// The overlay used last of these stores, in any state.
    fn latest(&self, states: &[StoreState]) -> Option<&Overlay> {
        let same = |known: &[StoreState]| {
            known
                .iter()
                .map(StoreState::store)
                .eq(states.iter().map(StoreState::store))
        };
        let overlays = self
            .entries
            .iter()
            .filter_map(|(known, entry)| match &entry.known {
                Known::Overlay(_, overlay) if same(known) => Some((entry.used, &**overlay)),
                Known::Overlay(..) | Known::View(_) => None,
            });
        overlays.max_by_key(|(used, _)| *used).map(|(_, overlay)| overlay)
    }

    fn keep(&mut self, states: Vec<StoreState>, known: Known, bytes: usize) {
        let bytes = bytes + size_of::<Entry>() + states.len() * size_of::<StoreState>();
        if bytes > BYTES_MAX {
            return;
        }
        self.clock += 1;
        let used = self.clock;
        self.bytes += bytes;
        if let Some(before) = self.entries.insert(states, Entry { known, bytes, used }) {
            self.bytes -= before.bytes;
        }
        while self.bytes > BYTES_MAX || self.entries.len() > ENTRIES_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(states, _)| states.clone()) else {
                break;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predicted_conflict_counts_when_it_appears() {
        let cache = FutureCache::default();
        let see = |table: u64, branch: u64, collisions: u64| {
            let state = |store, count| StoreState::new(scry_wal::StoreId::new(store), count, 0);
            let overlay = Overlay {
                collisions,
                ..Overlay::default()
            };
            cache.keep_overlay(1, vec![state(1, table), state(2, branch)], &Arc::new(overlay));
            cache.appeared()
        };
        assert_eq!(see(10, 5, 2), 2);
        // The same two, with one more, and after one of them is settled.
        assert_eq!(see(11, 5, 3), 3);
        assert_eq!(see(12, 6, 1), 3);
        assert_eq!(see(13, 6, 2), 4);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_when_the_bound_is_met() {
        let mut kept = Kept::default();
        let view = || Known::View(Arc::default());
        let key = |index: u64| vec![StoreState::new(scry_wal::StoreId::new(1), index, 0)];
        let part = BYTES_MAX / 3;
        for index in 0..2 {
            kept.keep(key(index), view(), part);
        }
        assert!(kept.find(&key(0)).is_some());
        kept.keep(key(2), view(), part);
        assert!(kept.bytes <= BYTES_MAX);
        assert!(kept.find(&key(1)).is_none());
        assert!(kept.find(&key(0)).is_some() && kept.find(&key(2)).is_some());
        // Known again, it is counted once.
        let before = kept.bytes;
        kept.keep(key(2), view(), part);
        assert_eq!(kept.bytes, before);
        // What is too large is not kept, and pushes nothing out.
        kept.keep(key(3), view(), BYTES_MAX);
        assert_eq!(kept.entries.len(), 2);
        for index in 10..10 + 2 * ENTRIES_MAX as u64 {
            kept.keep(key(index), view(), 0);
        }
        assert_eq!(kept.entries.len(), ENTRIES_MAX);
    }
}
