//! The ordered map from keys to rows: what of a store is in memory.
//!
//! It is one source of rows, not the store itself: callers ask for entries, ranges and removals, and never for
//! "all there is": the runs stand below it.
//!
//! Three levels of sorted arrays: branches of leaves of rows. Beside each array of keys stands one of their first eight
//! bytes, so that a search stays within a few cache lines. (A skip list costs a cache miss for each of its twenty-odd
//! steps: in `benches/point.rs`, among a million rows, its lookups took twice as long.) Branches
//! and leaves together are the index; its lock is taken for writing only to split a leaf or to take an empty one
//! out. Each leaf's rows have a lock of their own. The index's lock has several cache lines, of which a reader takes one that few others take:
//! readers of different rows hardly touch anything together.
//!
//! Rows are shared (`Arc`), so that a transaction keeps hold of what it locked without holding on to the map. A row
//! leaves the map only after it was marked dead under its own mutex; whoever meets a dead one helps to remove it and
//! looks again.
//!
//! A leaf is *complete* as long as no row of its range has left it for the runs: what is not there does not exist, and nobody need
//! ask the runs. It is *bare* when all have left it: those who only read are told so without its lock, that they would all share.
//!
//! Lock order: index, leaf, row. Visitors of ranges are called with none of the map's locks held.
//!
//! Invariants:
//! - keys rise strictly within each array and from one leaf to the next;
//! - all that is in a branch or leaf lies at or after its own key, and before the next one's;
//! - the first branch's key and its first leaf's key are the empty key, and these two are never taken out;
//! - a bare leaf has no row, and is not complete.

use super::entry::RowEntry;
use super::sorted::Sorted;
use crate::key::{Key, KeyRange};
use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use parking_lot::{RwLock, RwLockWriteGuard};
use std::ops::{Bound, Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

/// Rows of a full leaf: moving half of them aside for an insert costs about as much as finding the place.
const LEAF_ROWS: usize = 128;

/// Leaves of a full branch. With it, a hundred million rows have fewer than two thousand branches.
const BRANCH_LEAVES: usize = 512;

#[derive(Default)]
struct Leaf {
    is_bare: AtomicBool,
    rows: RwLock<Rows>,
}

/// The rows of a leaf.
#[derive(Default)]
struct Rows {
    sorted: Sorted<Arc<RowEntry>>,
    /// Some row of the leaf's range may be in the runs only.
    has_gaps: bool,
}

impl Leaf {
    fn of(rows: Rows) -> Leaf {
        Leaf {
            is_bare: AtomicBool::new(rows.is_bare()),
            rows: RwLock::new(rows),
        }
    }

    fn write(&self) -> Changing<'_> {
        Changing {
            leaf: self,
            rows: self.rows.write(),
        }
    }

    fn tell(&self, is_bare: bool) {
        if self.is_bare.load(Ordering::Relaxed) != is_bare {
            self.is_bare.store(is_bare, Ordering::SeqCst);
        }
    }
}

impl Rows {
    fn is_bare(&self) -> bool {
        self.has_gaps && self.sorted.len() == 0
    }
}

/// A leaf's rows to be changed. When this goes, whether it is bare is known, and after that its lock is released.
struct Changing<'l> {
    leaf: &'l Leaf,
    rows: RwLockWriteGuard<'l, Rows>,
}

impl Deref for Changing<'_> {
    type Target = Rows;

    fn deref(&self) -> &Rows {
        &self.rows
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.leaf.tell(self.rows.is_bare());
    }
}

/// What became of a search.
pub(crate) enum Found<T> {
    Row(T),
    /// There is no such row.
    Nothing,
    /// There is no such row in memory.
    NotHere,
}

impl<T> Found<T> {
    fn missing(has_gaps: bool) -> Found<T> {
        match has_gaps {
            true => Found::NotHere,
            false => Found::Nothing,
        }
    }
}

type Branch = Sorted<Box<Leaf>>;

pub(crate) struct Memtable {
    index: ShardedLock<Sorted<Branch>>,
}

impl Default for Memtable {
    fn default() -> Memtable {
        let branch = Sorted::of(Key::new(), Box::default());
        Memtable {
            index: ShardedLock::new(Sorted::of(Key::new(), branch)),
        }
    }
}

/// The leaf into whose range the key falls.
fn leaf_of<'a>(index: &'a Sorted<Branch>, key: &[u8]) -> &'a Leaf {
    let branch = index.value(index.floor(key));
    branch.value(branch.floor(key))
}

fn find_in<T>(leaf: &Leaf, key: &[u8], found: impl FnOnce(&Arc<RowEntry>) -> T) -> Found<T> {
    let rows = leaf.rows.read();
    match rows.sorted.search(key) {
        Ok(place) => Found::Row(found(rows.sorted.value(place))),
        Err(_) => Found::missing(rows.has_gaps),
    }
}

/// The leaf into whose range the key falls, and the first key of the one behind it.
fn leaf_and_next<'a>(index: &'a Sorted<Branch>, key: &[u8]) -> (Option<&'a Key>, &'a Leaf) {
    let at = index.floor(key);
    let branch = index.value(at);
    let leaf_at = branch.floor(key);
    let next = if leaf_at + 1 < branch.len() {
        Some(branch.key(leaf_at + 1))
    } else if at + 1 < index.len() {
        Some(index.key(at + 1))
    } else {
        None
    };
    (next, branch.value(leaf_at))
}

impl Memtable {
    /// As with the other locks here, that another thread has panicked does not matter.
    fn read(&self) -> ShardedLockReadGuard<'_, Sorted<Branch>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> ShardedLockWriteGuard<'_, Sorted<Branch>> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `find`, for who reads at a snapshot that he holds: a row that somebody puts here meanwhile is none that he has to see here.
    pub(crate) fn find_seen<T>(&self, key: &[u8], found: impl FnOnce(&Arc<RowEntry>) -> T) -> Found<T> {
        let index = self.read();
        let leaf = leaf_of(&index, key);
        // Rows leave when the runs have them: who sees that they have left finds them there.
        match leaf.is_bare.load(Ordering::SeqCst) {
            true => Found::NotHere,
            false => find_in(leaf, key, found),
        }
    }

    /// Calls `found` with the row of `key`, dead or alive, with locks of the map held: it must be short and take no
    /// other lock than the row's. This saves a point read the traffic on the row's reference count.
    pub(crate) fn find<T>(&self, key: &[u8], found: impl FnOnce(&Arc<RowEntry>) -> T) -> Found<T> {
        find_in(leaf_of(&self.read(), key), key, found)
    }

    /// As `find`, for a row that is in memory if there is anything to be found of it.
    pub(crate) fn with<T>(&self, key: &[u8], found: impl FnOnce(&Arc<RowEntry>) -> T) -> Option<T> {
        match self.find(key, found) {
            Found::Row(found) => Some(found),
            Found::Nothing | Found::NotHere => None,
        }
    }

    /// The row of `key`, dead or alive, if it is in memory.
    #[cfg(test)]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<RowEntry>> {
        self.with(key, Arc::clone)
    }

    /// During recovery: rows are in the runs that are not here.
    pub(crate) fn set_gaps(&self) {
        let index = self.read();
        for branch in (0..index.len()).map(|at| index.value(at)) {
            for leaf in (0..branch.len()).map(|at| branch.value(at)) {
                leaf.write().has_gaps = true;
            }
        }
    }

    /// Has whoever looks for `key` look elsewhere, too. False: there is a row here, dead or alive, and nothing was changed.
    pub(crate) fn leave_gap(&self, key: &[u8]) -> bool {
        let index = self.read();
        let leaf = leaf_of(&index, key);
        {
            let rows = leaf.rows.read();
            if rows.has_gaps || rows.sorted.search(key).is_ok() {
                return rows.sorted.search(key).is_err();
            }
        }
        let mut rows = leaf.write();
        let is_free = rows.sorted.search(key).is_err();
        rows.has_gaps |= is_free;
        is_free
    }

    /// The row of `key`; when there is none, the one that `make` makes. With it, whether it was made.
    pub(crate) fn get_or_insert_with(
        &self,
        key: &Key,
        make: impl FnOnce() -> Arc<RowEntry>,
    ) -> (Arc<RowEntry>, bool) {
        let found = self.get_or_insert_if(key, |_| Some(make()));
        found.expect("what is made without condition is there")
    }

    /// As `get_or_insert_with`; `None` when there is no row and `make` makes none. It is called with locks of the map held, and told whether
    /// the runs may have the row.
    pub(crate) fn get_or_insert_if(
        &self,
        key: &Key,
        make: impl FnOnce(bool) -> Option<Arc<RowEntry>>,
    ) -> Option<(Arc<RowEntry>, bool)> {
        {
            let index = self.read();
            let mut leaf = leaf_of(&index, key.as_ref()).write();
            match leaf.sorted.search(key.as_ref()) {
                Ok(place) => return Some((Arc::clone(leaf.sorted.value(place)), false)),
                Err(place) if leaf.sorted.len() < LEAF_ROWS => {
                    let row = make(leaf.has_gaps)?;
                    leaf.sorted.insert(place, key.clone(), Arc::clone(&row));
                    return Some((row, true));
                }
                Err(_) => {}
            }
        }
        let mut index = self.write();
        let at = index.floor(key.as_ref());
        let branch = index.value_mut(at);
        let leaf_at = branch.floor(key.as_ref());
        let changing = branch.value_mut(leaf_at);
        // It gets a row, or keeps those that it has.
        changing.tell(false);
        let Rows {
            sorted: leaf,
            has_gaps,
        } = changing.rows.get_mut();
        let has_gaps = *has_gaps;
        let place = match leaf.search(key.as_ref()) {
            Ok(place) => return Some((Arc::clone(leaf.value(place)), false)),
            Err(place) => place,
        };
        let row = make(has_gaps)?;
        if leaf.len() < LEAF_ROWS {
            leaf.insert(place, key.clone(), Arc::clone(&row));
            return Some((row, true));
        }
        let right = if place == leaf.len() {
            // Keys that rise, as in loads and logs: the full leaf stays full.
            Sorted::of(key.clone(), Arc::clone(&row))
        } else {
            let middle = leaf.len() / 2;
            let mut right = leaf.split_off(middle);
            match place.checked_sub(middle) {
                Some(place) if place > 0 => right.insert(place, key.clone(), Arc::clone(&row)),
                _ => leaf.insert(place, key.clone(), Arc::clone(&row)),
            }
            right
        };
        let key = right.key(0).clone();
        let right = Rows {
            sorted: right,
            has_gaps,
        };
        branch.insert(leaf_at + 1, key, Box::new(Leaf::of(right)));
        if branch.len() > BRANCH_LEAVES {
            let half = if leaf_at + 2 == branch.len() {
                branch.len() - 1
            } else {
                branch.len() / 2
            };
            let right = branch.split_off(half);
            index.insert(at + 1, right.key(0).clone(), right);
        }
        Some((row, true))
    }

    /// Takes those rows out of one leaf, the one into whose range `from` falls, that `leaves` says yes of and the runs have; it is called with the
    /// leaf locked. Answers where the next leaf begins.
    pub(crate) fn sift(
        &self,
        from: &[u8],
        mut leaves: impl FnMut(&Key, &Arc<RowEntry>) -> bool,
    ) -> Option<Key> {
        let (next, is_empty) = {
            let index = self.read();
            let (next, leaf) = leaf_and_next(&index, from);
            let mut leaf = leaf.write();
            let before = leaf.sorted.len();
            leaf.sorted.retain(|key, row| !leaves(key, row));
            leaf.has_gaps |= leaf.sorted.len() < before;
            (next.cloned(), leaf.sorted.len() == 0)
        };
        if is_empty {
            self.remove_empty_leaf(from);
        }
        next
    }

    /// Copies the rows of one leaf that lie in the range; answers where the next leaf begins, if that is in it, and whether the runs may have
    /// others in between.
    pub(crate) fn leaf(
        &self,
        range: &KeyRange,
        batch: &mut Vec<(Key, Arc<RowEntry>)>,
    ) -> (Option<Key>, bool) {
        self.read_leaf(&range.lower, &range.upper, batch)
    }

    /// Takes a row out of the map, that others have to look for elsewhere from then on, if it `leaves`; that is asked with its leaf locked.
    pub(crate) fn take_out(&self, key: &[u8], row: &Arc<RowEntry>, leaves: impl FnOnce() -> bool) -> bool {
        self.detach(key, row, true, leaves)
    }

    /// Takes a dead row out of the map, unless somebody else did. Answers whether it was this call.
    pub(crate) fn remove(&self, key: &[u8], row: &Arc<RowEntry>) -> bool {
        self.detach(key, row, false, || true)
    }

    fn detach(
        &self,
        key: &[u8],
        row: &Arc<RowEntry>,
        leaves_gap: bool,
        leaves: impl FnOnce() -> bool,
    ) -> bool {
        let is_empty = {
            let index = self.read();
            let mut leaf = leaf_of(&index, key).write();
            match leaf.sorted.search(key) {
                Ok(place) if Arc::ptr_eq(leaf.sorted.value(place), row) && leaves() => {
                    leaf.sorted.remove(place);
                }
                _ => return false,
            }
            leaf.has_gaps |= leaves_gap;
            leaf.sorted.len() == 0
        };
        if is_empty {
            self.remove_empty_leaf(key);
        }
        true
    }

    /// A branch keeps its first leaf, which bears its key, for as long as it has another.
    fn remove_empty_leaf(&self, key: &[u8]) {
        let mut index = self.write();
        let at = index.floor(key);
        let branch = index.value_mut(at);
        let leaf_at = branch.floor(key);
        if leaf_at > 0 && branch.value_mut(leaf_at).rows.get_mut().sorted.len() == 0 {
            let has_gaps = branch.value_mut(leaf_at).rows.get_mut().has_gaps;
            branch.remove(leaf_at);
            // The range falls to the leaf before it.
            branch.value_mut(leaf_at - 1).rows.get_mut().has_gaps |= has_gaps;
        }
        if at > 0 && branch.len() == 1 && branch.value_mut(0).rows.get_mut().sorted.len() == 0 {
            let has_gaps = branch.value_mut(0).rows.get_mut().has_gaps;
            index.remove(at);
            let before = index.value_mut(at - 1);
            let last = before.len() - 1;
            before.value_mut(last).rows.get_mut().has_gaps |= has_gaps;
        }
    }

    /// Calls `visit` for each row of the range in key order until it answers false. Rows that come or go meanwhile
    /// are met or not.
    pub(crate) fn range(&self, range: &KeyRange, mut visit: impl FnMut(&Key, &Arc<RowEntry>) -> bool) {
        let mut lower = range.lower.clone();
        let mut batch: Vec<(Key, Arc<RowEntry>)> = Vec::new();
        loop {
            let (next, _) = self.read_leaf(&lower, &range.upper, &mut batch);
            for (key, row) in batch.drain(..) {
                if !visit(&key, &row) {
                    return;
                }
            }
            match next {
                Some(first) => lower = Bound::Included(first),
                None => return,
            }
        }
    }

    /// Copies the rows of one leaf that lie in the range; answers where the next leaf begins, if that is in it.
    fn read_leaf(
        &self,
        lower: &Bound<Key>,
        upper: &Bound<Key>,
        batch: &mut Vec<(Key, Arc<RowEntry>)>,
    ) -> (Option<Key>, bool) {
        let index = self.read();
        let from: &[u8] = match lower {
            Bound::Included(key) | Bound::Excluded(key) => key.as_ref(),
            Bound::Unbounded => &[],
        };
        let (next, leaf) = leaf_and_next(&index, from);
        let next = next.filter(|first| match upper {
            Bound::Included(upper) => *first <= upper,
            Bound::Excluded(upper) => *first < upper,
            Bound::Unbounded => true,
        });
        let leaf = leaf.rows.read();
        let (leaf, has_gaps) = (&leaf.sorted, leaf.has_gaps);
        let begin = match (leaf.search(from), lower) {
            (Ok(place), Bound::Excluded(_)) => place + 1,
            (Ok(place) | Err(place), _) => place,
        };
        let end = match upper {
            Bound::Included(upper) => leaf
                .search(upper.as_ref())
                .map_or_else(|place| place, |place| place + 1),
            Bound::Excluded(upper) => leaf.search(upper.as_ref()).unwrap_or_else(|place| place),
            Bound::Unbounded => leaf.len(),
        };
        if begin < end {
            batch.extend(
                leaf.pairs(begin..end)
                    .map(|(key, row)| (key.clone(), Arc::clone(row))),
            );
        }
        (next.cloned(), has_gaps)
    }

    #[cfg(test)]
    fn leaves(&self) -> usize {
        let index = self.read();
        (0..index.len()).map(|at| index.value(at).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use scry_wal::{Lsn, Ordinal};
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::AtomicU64;

    fn row(number: u64) -> Arc<RowEntry> {
        Arc::new(RowEntry::committed(
            Lsn::new(1),
            Ordinal::new(number),
            Some(vec![].into()),
        ))
    }

    fn key(bytes: &[u8]) -> Key {
        Key::from_bytes(bytes)
    }

    fn all(map: &Memtable, range: &KeyRange) -> Vec<Key> {
        let mut keys = Vec::new();
        map.range(range, |key, _| {
            keys.push(key.clone());
            true
        });
        keys
    }

    /// Keys that often share their first eight bytes, and sometimes are prefixes of each other.
    fn some_key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (0..600u16).prop_map(|number| number.to_be_bytes().to_vec()),
            (0..600u16).prop_map(|number| [b"same eight bytes".as_slice(), &number.to_be_bytes()].concat()),
            proptest::collection::vec(0..3u8, 0..12),
        ]
    }

    fn some_bound() -> impl Strategy<Value = Bound<Key>> {
        prop_oneof![
            Just(Bound::Unbounded),
            some_key().prop_map(|bytes| Bound::Included(key(&bytes))),
            some_key().prop_map(|bytes| Bound::Excluded(key(&bytes))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_agrees_with_a_plain_ordered_map(
            steps in proptest::collection::vec((any::<bool>(), some_key()), 1..2000),
            ranges in proptest::collection::vec((some_bound(), some_bound()), 20),
        ) {
            let map = Memtable::default();
            let mut model: BTreeMap<Key, Arc<RowEntry>> = BTreeMap::new();
            for (number, (insert, bytes)) in steps.into_iter().enumerate() {
                let key = key(&bytes);
                if insert || number < 1000 {
                    let (found, is_new) = map.get_or_insert_with(&key, || row(number as u64));
                    prop_assert_eq!(is_new, !model.contains_key(&key));
                    let expected = model.entry(key).or_insert_with(|| Arc::clone(&found));
                    prop_assert!(Arc::ptr_eq(&found, expected));
                } else {
                    map.remove(&bytes, &row(0));
                    prop_assert_eq!(map.get(&bytes).is_some(), model.contains_key(&key), "another row's key stays");
                    if let Some(row) = model.remove(&key) {
                        map.remove(&bytes, &row);
                    }
                }
                prop_assert_eq!(map.get(&bytes).is_some(), model.contains_key(bytes.as_slice()));
            }
            for (lower, upper) in ranges {
                let range = KeyRange { lower, upper };
                let expected: Vec<Key> = model.keys().filter(|key| range.contains(key.as_ref())).cloned().collect();
                prop_assert_eq!(all(&map, &range), expected);
            }
            for (key, row) in &model {
                map.remove(key.as_ref(), row);
            }
            prop_assert_eq!(map.leaves(), 1, "empty leaves are taken out");
        }

        #[test]
        fn who_only_reads_meets_what_others_meet(
            begins_with_gaps in any::<bool>(),
            steps in proptest::collection::vec((0..4u8, some_key()), 1..1500),
        ) {
            let map = Memtable::default();
            if begins_with_gaps {
                map.set_gaps();
            }
            let mut here: BTreeMap<Key, Arc<RowEntry>> = BTreeMap::new();
            let mut below: BTreeSet<Key> = BTreeSet::new();
            // Inserts first, then rows that leave and return.
            let inserts = steps.len() / 2;
            for (number, (step, bytes)) in steps.into_iter().enumerate() {
                let key = key(&bytes);
                // Others than this key's leave, until hardly anything is left.
                let other = here.range(key.clone()..).next().map(|(key, row)| (key.clone(), Arc::clone(row)));
                match (number < inserts, step, other) {
                    (false, 1 | 2, Some((other, row))) => {
                        prop_assert!(map.take_out(other.as_ref(), &row, || true));
                        here.remove(&other);
                        below.insert(other);
                    }
                    (false, 3, Some((other, row))) => {
                        prop_assert!(map.remove(other.as_ref(), &row));
                        here.remove(&other);
                    }
                    _ => {
                        let (row, _) = map.get_or_insert_with(&key, || row(number as u64));
                        here.insert(key.clone(), row);
                    }
                }
                for key in [Some(&key), here.keys().next(), here.keys().next_back(), below.first()].into_iter().flatten() {
                    let seen = map.find_seen(key.as_ref(), Arc::clone);
                    match (seen, map.find(key.as_ref(), Arc::clone)) {
                        (Found::Row(seen), Found::Row(found)) => prop_assert!(Arc::ptr_eq(&seen, &found)),
                        (Found::NotHere, Found::NotHere) => {}
                        (Found::Nothing, Found::Nothing) => prop_assert!(!below.contains(key)),
                        _ => prop_assert!(false, "{key:?}: they differ"),
                    }
                    prop_assert_eq!(map.get(key.as_ref()).is_some(), here.contains_key(key));
                }
            }
            for row in here.keys() {
                prop_assert!(matches!(map.find_seen(row.as_ref(), |_| ()), Found::Row(())));
            }
        }
    }

    #[test]
    fn a_row_that_comes_and_goes_is_here_or_below_for_who_only_reads() {
        const ROWS: u64 = 100_000;
        let map = Memtable::default();
        map.set_gaps();
        let (visible, below) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=ROWS {
                    let mine = key(&number.to_be_bytes());
                    let (row, _) = map.get_or_insert_with(&mine, || row(number));
                    visible.store(number, Ordering::Release);
                    if number % 3 == 0 {
                        std::thread::yield_now();
                    }
                    below.store(number, Ordering::Release);
                    assert!(map.take_out(mine.as_ref(), &row, || true));
                }
            });
            scope.spawn(|| {
                let mut number = 0;
                while number < ROWS {
                    number = visible.load(Ordering::Acquire);
                    if number > 0 && !matches!(map.find_seen(&number.to_be_bytes(), |_| ()), Found::Row(())) {
                        assert!(below.load(Ordering::Acquire) >= number, "{number} is nowhere");
                    }
                }
            });
        });
        assert!(matches!(map.find_seen(&[], |_| ()), Found::NotHere));
    }

    #[test]
    fn rising_keys_fill_their_leaves() {
        let map = Memtable::default();
        for number in 0..100_000u64 {
            map.get_or_insert_with(&key(&number.to_be_bytes()), || row(number));
        }
        assert_eq!(map.leaves(), 100_000usize.div_ceil(LEAF_ROWS));
        assert!(map.read().len() > 1, "more than one branch");
        for number in 0..100_000u64 {
            let key = number.to_be_bytes();
            let row = map.get(&key).expect("inserted");
            map.remove(&key, &row);
        }
        assert_eq!(map.leaves(), 1);
    }

    #[test]
    fn threads_that_insert_and_remove_lose_nothing() {
        let map = Memtable::default();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let map = &map;
                scope.spawn(move || {
                    for number in 0..5_000u64 {
                        let mine = key(&(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ thread).to_be_bytes());
                        let (row, is_new) = map.get_or_insert_with(&mine, || row(thread));
                        assert!(is_new);
                        assert!(map.get(mine.as_ref()).is_some());
                        if number % 3 == 0 {
                            map.remove(mine.as_ref(), &row);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..20 {
                    let keys = all(&map, &KeyRange::all());
                    assert!(keys.is_sorted());
                }
            });
        });
        assert_eq!(all(&map, &KeyRange::all()).len(), 4 * (5_000 - 1_667));
    }
}
