//! Rows of a store that open transactions have moved out of memory (`crate::txn::moved`): who has them has their locks.
//!
//! Such a row has no entry in the memtable. That its key is taken is said by the transaction's runs, and whoever wants to insert the key waits for
//! the transaction to end, at a lock that it holds until then.
//!
//! A leaf of the memtable that a row has left has gaps, and who does not find a key there asks here first and the runs second; in this
//! order, because a transaction that commits leaves the list only when the runs show its rows. What has changed on the list meanwhile is known by
//! its generation.
//!
//! Rows that rise (`crate::txn::rising`) never stand in the memtable: they come to a load's *tail* at once, without another generation. So whoever
//! makes an entry looks there once more, under the lock of the entry's leaf; and who adds to a tail looks at the leaf afterwards.

use crate::Row;
use crate::error::Error;
use crate::locks::TableLock;
use crate::runs::{RunSet, SpaceId, Stored};
use parking_lot::RwLock;
use scry_wal::{Lsn, Ordinal};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one transaction has moved out of memory.
#[derive(Default)]
pub(crate) struct Load {
    /// The transaction has it exclusively, to its end.
    pub(crate) lock: Arc<TableLock>,
    rows: RwLock<Moved>,
}

#[derive(Default)]
struct Moved {
    runs: Arc<RunSet>,
    /// Of keys that no run of the load has.
    tail: Tail,
}

/// Rows that no run has yet, one behind the other, by key.
#[derive(Default)]
struct Tail {
    /// Whose rows these are.
    space: Option<SpaceId>,
    bytes: Vec<u8>,
    rows: Vec<Place>,
}

/// Where a row stands in the bytes of a tail: its key, and itself right behind.
#[derive(Clone, Copy)]
struct Place {
    at: u32,
    key_bytes: u32,
    row_bytes: u32,
    ordinal: u32,
    age: Lsn,
}

/// What a row of a tail takes beside its bytes.
pub(crate) const PLACE_BYTES: usize = size_of::<Place>();

/// A row of a tail.
pub(crate) struct Rising<'t> {
    pub(crate) key: &'t [u8],
    pub(crate) row: &'t [u8],
    pub(crate) ordinal: Ordinal,
    pub(crate) age: Lsn,
}

impl Load {
    /// All of it, with LSN 0 and the transaction's own count of versions.
    pub(crate) fn runs(&self) -> Arc<RunSet> {
        Arc::clone(&self.rows.read().runs)
    }

    pub(crate) fn set_runs(&self, runs: RunSet) {
        let runs = Arc::new(runs);
        let before = std::mem::replace(&mut self.rows.write().runs, runs);
        // Files may go with them: nobody is to wait for that.
        drop(before);
    }

    /// The runs have all of the tail, too; after the store was told that something has changed (`Loads::add`).
    pub(crate) fn set_runs_for_tail(&self, runs: RunSet) {
        let runs = Arc::new(runs);
        let before = {
            let mut rows = self.rows.write();
            rows.tail.clear();
            std::mem::replace(&mut rows.runs, runs)
        };
        drop(before);
    }

    /// A row as it is there: what the transaction has in memory of it is newer.
    pub(crate) fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Stored>, Error> {
        let runs = {
            let rows = self.rows.read();
            if let Some(rising) = rows.tail.get(space, key) {
                return Ok(Some(Stored {
                    lsn: Lsn::ZERO,
                    ordinal: rising.ordinal,
                    row: Some(Row::from(rising.row)),
                }));
            }
            Arc::clone(&rows.runs)
        };
        runs.get(space, key, Lsn::MAX)
    }

    /// Adds a row to the tail, whose keys rise, and whose rows are all of one space.
    pub(crate) fn push(&self, space: SpaceId, rising: &Rising<'_>) {
        self.rows.write().tail.push(space, rising);
    }

    /// Takes the last row out of the tail again.
    pub(crate) fn pop(&self) {
        self.rows.write().tail.pop();
    }

    /// Visits rows of the tail by their places, as far as there are so many.
    pub(crate) fn visit_tail(
        &self,
        places: Range<usize>,
        mut visit: impl FnMut(SpaceId, &Rising<'_>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let rows = self.rows.read();
        let tail = &rows.tail;
        let Some(space) = tail.space else { return Ok(0) };
        let those = tail.rows.get(places.start..places.end.min(tail.rows.len()));
        let those = those.unwrap_or_default();
        for place in those {
            visit(space, &tail.at(place))?;
        }
        Ok(those.len())
    }

    fn has_in_tail(&self, space: SpaceId, key: &[u8]) -> bool {
        self.rows.read().tail.get(space, key).is_some()
    }
}

impl Tail {
    fn at(&self, place: &Place) -> Rising<'_> {
        let key_at = place.at as usize;
        let row_at = key_at + place.key_bytes as usize;
        Rising {
            key: &self.bytes[key_at..row_at],
            row: &self.bytes[row_at..row_at + place.row_bytes as usize],
            ordinal: Ordinal::new(u64::from(place.ordinal)),
            age: place.age,
        }
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Option<Rising<'_>> {
        if self.space != Some(space) || self.rows.last().is_none_or(|last| self.at(last).key < key) {
            return None;
        }
        let place = self.rows.binary_search_by(|place| self.at(place).key.cmp(key));
        Some(self.at(&self.rows[place.ok()?]))
    }

    fn push(&mut self, space: SpaceId, rising: &Rising<'_>) {
        let number = |length: usize| u32::try_from(length).expect("a tail has less than 4 GiB");
        let last = self.rows.last().map(|last| self.at(last).key);
        assert!(
            last.is_none_or(|last| last < rising.key && self.space == Some(space)),
            "keys of a tail that do not rise"
        );
        self.space = Some(space);
        self.rows.push(Place {
            at: number(self.bytes.len()),
            key_bytes: number(rising.key.len()),
            row_bytes: number(rising.row.len()),
            ordinal: u32::try_from(rising.ordinal.get()).expect("local indexes have 32 bits"),
            age: rising.age,
        });
        self.bytes.extend_from_slice(rising.key);
        self.bytes.extend_from_slice(rising.row);
    }

    fn pop(&mut self) {
        if let Some(last) = self.rows.pop() {
            self.bytes.truncate(last.at as usize);
        }
    }

    /// Its memory is kept for the next ones.
    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }
}

/// The transactions that have moved rows of a store out of memory, and have not ended.
#[derive(Default)]
pub(crate) struct Loads {
    open: RwLock<Vec<Arc<Load>>>,
    generation: AtomicU64,
}

impl Loads {
    /// The transaction has moved rows of the store, or more of them; before they leave the memtable.
    pub(crate) fn add(&self, load: &Arc<Load>) {
        let mut open = self.open.write();
        if !open.iter().any(|known| Arc::ptr_eq(known, load)) {
            open.push(Arc::clone(load));
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The transaction has ended.
    pub(crate) fn remove(&self, load: &Arc<Load>) {
        self.open.write().retain(|known| !Arc::ptr_eq(known, load));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Another one when anything has changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Who has a key.
    pub(crate) fn of(&self, space: SpaceId, key: &[u8]) -> Result<Option<Arc<Load>>, Error> {
        if self.generation() == 0 {
            return Ok(None);
        }
        let open = self.open.read().clone();
        for load in open {
            if load.get(space, key)?.is_some() {
                return Ok(Some(load));
            }
        }
        Ok(None)
    }

    /// Whether another load than this one has a key in its tail.
    pub(crate) fn rises(&self, space: SpaceId, key: &[u8], but: Option<&Arc<Load>>) -> bool {
        if self.generation() == 0 {
            return false;
        }
        let open = self.open.read();
        let mut others = open
            .iter()
            .filter(|load| but.is_none_or(|but| !Arc::ptr_eq(load, but)));
        others.any(|load| load.has_in_tail(space, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::locks::Holder;
    use crate::runs::private::PrivateRuns;
    use crate::runs::{Runs, RunsOptions, internal_key};
    use crate::store::backing::Backing;
    use crate::store::entry::RowEntry;
    use crate::store::{Placed, Store};
    use crate::types::Datum;
    use scry_wal::{StoreId, TxnId};
    use std::sync::atomic::AtomicUsize;
    use tempfile::TempDir;

    fn key(id: i32) -> Key {
        Key::encode([Datum::Int4(id)])
    }

    fn rising(key: &Key) -> Rising<'_> {
        Rising {
            key,
            row: &[1],
            ordinal: Ordinal::new(0),
            age: Lsn::ZERO,
        }
    }

    fn is_raised(store: &Store, load: &Arc<Load>, key: &Key) -> bool {
        store.raise_tail(load, &rising(key), false).unwrap()
    }

    /// Whether another transaction gets the key by an entry in memory.
    fn is_placed(store: &Store, key: &Key) -> bool {
        let holder = Arc::new(Holder::new(TxnId::new(1)));
        let placed = store.place(key, false, || Arc::new(RowEntry::locked(Arc::clone(&holder), 0)));
        matches!(placed.unwrap(), Placed::Entry(_, true))
    }

    /// Has two threads go for the same keys, each at the same time; how often one of them, and how often the other one got it.
    fn race(keys: i32, one: impl Fn(&Key) -> bool + Sync, other: impl Fn(&Key) -> bool + Sync) -> (i32, i32) {
        let arrived = AtomicUsize::new(0);
        let meet = |number: i32| {
            arrived.fetch_add(1, Ordering::AcqRel);
            let mut spins = 0;
            while arrived.load(Ordering::Acquire) < 2 * (number as usize + 1) {
                spins += 1;
                match spins % 1000 {
                    // With less than two processors the other one comes only then.
                    0 => std::thread::yield_now(),
                    _ => std::hint::spin_loop(),
                }
            }
        };
        let run = |get: &dyn Fn(&Key) -> bool| -> Vec<bool> {
            let got = (0..keys).map(|number| {
                let key = key(number);
                meet(number);
                get(&key)
            });
            got.collect()
        };
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| run(&one));
            let other = run(&other);
            (one.join().unwrap(), other)
        });
        let both = one.iter().zip(&other).filter(|(one, other)| **one && **other);
        assert_eq!(both.count(), 0, "keys that two have got");
        let count = |got: &[bool]| got.iter().filter(|got| **got).count() as i32;
        (count(&one), count(&other))
    }

    /// A store in a folder that is there for as long.
    fn store_with(loads: &[&Arc<Load>]) -> (TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let (runs, _) = Runs::open(folder.path(), RunsOptions::default()).unwrap();
        let store = Store::new(Backing::new(runs, 1).new_home(), StoreId::new(1));
        loads.iter().for_each(|load| store.loads.add(load));
        (folder, store)
    }

    #[test]
    fn a_key_that_rises_in_one_transaction_is_placed_by_no_other() {
        let load = Arc::default();
        let (_folder, store) = store_with(&[&load]);
        let (raised, placed) = race(
            4000,
            |key| is_raised(&store, &load, key),
            |key| is_placed(&store, key),
        );
        assert!(raised + placed > 2000, "{raised} and {placed}");
    }

    #[test]
    fn a_key_rises_in_one_transaction_alone() {
        let (one, other) = (Arc::default(), Arc::default());
        let (_folder, store) = store_with(&[&one, &other]);
        race(
            4000,
            |key| is_raised(&store, &one, key),
            |key| is_raised(&store, &other, key),
        );
    }

    /// A load of which each row becomes a run as soon as it has come.
    fn runs_of(store: &Store, load: &Arc<Load>, key: &Key) -> bool {
        if !is_raised(store, load, key) {
            return false;
        }
        let runs = &store.home.backing.runs;
        let mut writer = runs.begin_private();
        load.visit_tail(0..1, |space, rising| {
            let key = internal_key(space, rising.key);
            writer.put(&key, Lsn::ZERO, rising.ordinal, Some(rising.row))
        })
        .unwrap();
        let mut private = PrivateRuns::new(runs);
        private.push(writer).unwrap();
        store.loads.add(load);
        load.set_runs_for_tail(private.set());
        true
    }

    #[test]
    fn a_key_that_has_come_to_a_run_meanwhile_is_placed_by_no_other() {
        let load = Arc::default();
        let (_folder, store) = store_with(&[&load]);
        race(
            400,
            |key| runs_of(&store, &load, key),
            |key| is_placed(&store, key),
        );
        let (one, other) = (Arc::default(), Arc::default());
        let (_folder, store) = store_with(&[&one, &other]);
        race(
            400,
            |key| runs_of(&store, &one, key),
            |key| is_raised(&store, &other, key),
        );
    }

    #[test]
    fn a_tail_has_the_rows_that_came_and_were_not_taken_back() {
        let load = Load::default();
        let space = SpaceId::new(3);
        for id in (0..10).step_by(2) {
            load.push(space, &rising(&key(id)));
        }
        load.pop();
        load.push(space, &rising(&key(9)));
        for (id, is_there) in [
            (0, true),
            (1, false),
            (6, true),
            (8, false),
            (9, true),
            (10, false),
        ] {
            let found = load.get(space, &key(id)).unwrap();
            assert_eq!(found.is_some(), is_there, "{id}");
            assert!(load.get(SpaceId::new(4), &key(id)).unwrap().is_none());
        }
        let mut seen = Vec::new();
        let visited = load.visit_tail(1..3, |_, rising| {
            seen.push(rising.key.to_vec());
            Ok(())
        });
        assert_eq!(visited.unwrap(), 2);
        assert_eq!(seen, [key(2).to_vec(), key(4).to_vec()]);
        load.set_runs_for_tail(RunSet::default());
        assert_eq!(load.visit_tail(0..10, |_, _| Ok(())).unwrap(), 0);
    }
}
