//! What stands behind the memtables of all stores: the runs, and the count of what rows take in memory.
//!
//! Each store object has a *home*: its space among the runs. As long as somebody holds the home the space is alive, and then until a checkpoint
//! is durable that does not name it any more: a restart begins with what the last checkpoint names, and replays how it ended (an election
//! adopts the rows of a branch and lets the branch go). Compaction drops the spaces that are not alive.

use super::Store;
use crate::runs::{Runs, SpaceId};
use parking_lot::Mutex;
use scry_wal::StoreId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

pub(crate) struct Backing {
    pub(crate) runs: Arc<Runs>,
    next_space: AtomicU32,
    alive: Mutex<Alive>,
    /// Stores that are being filled by transactions which have not committed.
    building: Mutex<Vec<Weak<Store>>>,
    /// Of committed rows and their entries.
    memory_bytes: AtomicI64,
    /// Of those that no run has; what of them was written again since counts once.
    dirty_bytes: AtomicU64,
}

#[derive(Default)]
struct Alive {
    /// By space, how many homes there are of it.
    held: HashMap<SpaceId, usize>,
    /// Nobody holds them any more; the last checkpoint may name them.
    left: HashSet<SpaceId>,
}

impl Backing {
    pub(crate) fn new(runs: Arc<Runs>, next_space: u32) -> Arc<Backing> {
        Arc::new(Backing {
            runs,
            next_space: AtomicU32::new(next_space),
            alive: Mutex::default(),
            building: Mutex::default(),
            memory_bytes: AtomicI64::new(0),
            dirty_bytes: AtomicU64::new(0),
        })
    }

    /// A space of its own.
    pub(crate) fn new_home(self: &Arc<Self>) -> Home {
        self.home(SpaceId::new(self.next_space.fetch_add(1, Ordering::Relaxed)))
    }

    /// A home in a space that is known, or in one of its own.
    pub(crate) fn home_in(self: &Arc<Self>, space: Option<SpaceId>) -> Home {
        match space {
            Some(space) => self.home(space),
            None => self.new_home(),
        }
    }

    /// A space that there is.
    pub(crate) fn home(self: &Arc<Self>, space: SpaceId) -> Home {
        *self.alive.lock().held.entry(space).or_default() += 1;
        let backing = Arc::clone(self);
        Home { backing, space }
    }

    /// The number of the next space.
    pub(crate) fn next_space(&self) -> u32 {
        self.next_space.load(Ordering::Relaxed)
    }

    /// A store that no catalog has yet is about to get the rows of one that a catalog has. They are committed, so checkpoints may write them and
    /// they may leave memory; if the store never stands in a catalog, its space goes when the store does.
    pub(crate) fn begin_building(&self, store: &Arc<Store>) {
        let mut building = self.building.lock();
        building.retain(|other| other.strong_count() > 0);
        building.push(Arc::downgrade(store));
    }

    /// Those stores stand in a catalog now.
    pub(crate) fn end_building(&self, known: &BTreeMap<SpaceId, Arc<Store>>) {
        let is_known = |store: Arc<Store>| known.contains_key(&store.home.space);
        let mut building = self.building.lock();
        building.retain(|store| store.upgrade().is_some_and(|store| !is_known(store)));
    }

    /// The stores that are being filled.
    pub(crate) fn building(&self) -> Vec<Arc<Store>> {
        self.building.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn is_alive(&self, space: SpaceId) -> bool {
        let alive = self.alive.lock();
        alive.held.contains_key(&space) || alive.left.contains(&space)
    }

    /// The spaces that nobody holds any more: a checkpoint that begins now does not name them.
    pub(crate) fn left(&self) -> Vec<SpaceId> {
        self.alive.lock().left.iter().copied().collect()
    }

    /// A checkpoint is durable that does not name them.
    pub(crate) fn forget(&self, left: &[SpaceId]) {
        let mut alive = self.alive.lock();
        for space in left {
            alive.left.remove(space);
        }
    }

    pub(crate) fn add_memory(&self, bytes: i64) {
        if bytes != 0 {
            self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    pub(crate) fn add_dirty(&self, bytes: u64) {
        self.dirty_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn take_dirty(&self, bytes: u64) {
        let before = self.dirty_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more was written than was to be");
    }

    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes.load(Ordering::Relaxed)
    }
}

/// The spaces that a checkpoint names for a table: what it names none for gets a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spaces {
    /// Of the table's rows.
    pub(crate) table: Option<SpaceId>,
    /// Of its indexes, by their stores.
    pub(crate) indexes: Vec<(StoreId, SpaceId)>,
}

impl Spaces {
    /// The space of an index.
    pub(crate) fn of_index(&self, store: StoreId) -> Option<SpaceId> {
        let found = self.indexes.iter().find(|(known, _)| *known == store);
        found.map(|(_, space)| *space)
    }
}

/// A store's space among the runs, held.
pub(crate) struct Home {
    pub(crate) backing: Arc<Backing>,
    pub(crate) space: SpaceId,
}

impl Home {
    /// The same space once more.
    pub(crate) fn again(&self) -> Home {
        self.backing.home(self.space)
    }

    /// Another space beside it.
    pub(crate) fn another(&self) -> Home {
        self.backing.new_home()
    }
}

/// A home whose runs have nothing.
#[cfg(test)]
pub(crate) fn bare_home() -> Home {
    let folder = tempfile::tempdir().expect("a folder");
    let (runs, _) = Runs::open(folder.path(), crate::runs::RunsOptions::default()).expect("no runs");
    Backing::new(runs, 1).new_home()
}

impl Drop for Home {
    fn drop(&mut self) {
        let mut alive = self.backing.alive.lock();
        if let Some(count) = alive.held.get_mut(&self.space) {
            *count -= 1;
            if *count == 0 {
                alive.held.remove(&self.space);
                alive.left.insert(self.space);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_lives_on_until_a_checkpoint_without_it_is_durable() {
        let home = bare_home();
        let (backing, space) = (Arc::clone(&home.backing), home.space);
        let again = home.again();
        drop(home);
        let before = backing.left();
        drop(again);
        assert!(before.is_empty() && backing.is_alive(space));
        // That checkpoint began when the space was held.
        backing.forget(&before);
        assert!(backing.is_alive(space));
        backing.forget(&backing.left());
        assert!(!backing.is_alive(space));
    }
}
