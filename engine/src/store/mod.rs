//! The data of one table: rows in memory, and below them those that the runs have.
//!
//! The memtable has every row that is locked, every row that changed since the last checkpoint, and as many others as
//! there is memory for. Whoever reads asks the memtable first, and the runs second, where the memtable has gaps; in this order, because a row leaves
//! the memtable only when the runs have it. Whoever locks or inserts needs an entry: it is made from what the runs have, inside of the leaf's
//! lock and only while the runs are still the ones that were asked.

pub(crate) mod backing;
pub(crate) mod entry;
pub(crate) mod loads;
pub(crate) mod memtable;
pub(crate) mod scan;
mod sorted;

pub(crate) use sorted::prefix;

use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::overlay::Version;
use crate::runs::{RunSet, Stored};
use backing::Home;
use entry::RowEntry;
use loads::{Load, Loads, Rising};
use memtable::{Found, Memtable};
use parking_lot::Mutex;
use scan::{Met, Next, StoreScan};
use scry_wal::{Lsn, Ordinal, StoreId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Rows by key, and the counters of their versions. ALTER TABLE … ADD PRIMARY KEY makes a second `Store` object
/// of the same `StoreId`, with other keys and the same counters.
pub(crate) struct Store {
    pub(crate) id: StoreId,
    pub(crate) rows: Memtable,
    pub(crate) counters: Arc<StoreCounters>,
    pub(crate) home: Home,
    dirty: Mutex<DirtyRows>,
    pub(crate) loads: Loads,
    /// Whether its rows follow from those of another store, and so are not in the log.
    derived: bool,
    /// Set when a committed DDL statement put another store in this one's place, or nothing. Whoever gets the
    /// table's lock afterwards must not write here.
    retired: AtomicBool,
}

#[derive(Default)]
pub(crate) struct StoreCounters {
    /// Changed only inside the commit's critical section, or during recovery.
    next_ordinal: AtomicU64,
    /// Shared with the branches of the store.
    next_row_id: Arc<AtomicU64>,
    live_rows: AtomicI64,
    /// Of their rows, without keys.
    live_bytes: AtomicI64,
    /// How often since the last sweep a superseded version stayed on its row's chain.
    superseded: AtomicU64,
    /// Rows of which the last sweep left versions that only pins see.
    pinned: AtomicU64,
    /// The horizon of the last sweep.
    swept: AtomicU64,
}

/// The rows that have versions which no run has.
#[derive(Default)]
pub(crate) struct DirtyRows {
    pub(crate) rows: Vec<(Key, Arc<RowEntry>)>,
    pub(crate) bytes: u64,
}

impl DirtyRows {
    /// Adds a row of which `row_bytes` are to be written.
    pub(crate) fn push(&mut self, key: Key, entry: Arc<RowEntry>, row_bytes: usize) {
        self.bytes += (key.len() + row_bytes) as u64;
        self.rows.push((key, entry));
    }
}

impl Store {
    pub(crate) fn new(home: Home, id: StoreId) -> Store {
        Store::with_counters(home, id, Arc::default())
    }

    /// The same data under other keys.
    pub(crate) fn with_counters(home: Home, id: StoreId, counters: Arc<StoreCounters>) -> Store {
        Store {
            id,
            rows: Memtable::default(),
            counters,
            home,
            dirty: Mutex::default(),
            loads: Loads::default(),
            derived: false,
            retired: AtomicBool::new(false),
        }
    }

    /// The rows of an index.
    pub(crate) fn derived(home: Home, id: StoreId) -> Store {
        let mut store = Store::new(home, id);
        store.derived = true;
        store
    }

    pub(crate) fn is_derived(&self) -> bool {
        self.derived
    }

    /// What the runs have of a row for a snapshot.
    pub(crate) fn read_below(&self, key: &[u8], at: Lsn) -> Result<Option<Stored>, Error> {
        self.home.backing.runs.present().get(self.home.space, key, at)
    }

    /// The newest committed version that the runs have of a row.
    pub(crate) fn newest_below(&self, key: &[u8]) -> Result<Option<Version>, Error> {
        Ok(self.read_below(key, NEWEST)?.and_then(Stored::version))
    }

    /// During recovery, before any row is in memory: the runs have rows of this store.
    pub(crate) fn set_below(&self) {
        self.rows.set_gaps();
    }

    /// The entry of a row, made when only the runs have the row.
    pub(crate) fn fetch(&self, key: &[u8]) -> Result<Fetched, Error> {
        loop {
            match self.rows.find(key, Arc::clone) {
                Found::Row(entry) => return Ok(Fetched::Entry(entry)),
                Found::Nothing => return Ok(Fetched::Nothing(Lsn::ZERO)),
                Found::NotHere => {}
            }
            let generation = self.loads.generation();
            let load = self.loads.of(self.home.space, key)?;
            let set = self.home.backing.runs.current();
            let below = set.get(self.home.space, key, Lsn::MAX)?;
            let stored = match (load, below) {
                (_, None) => return Ok(Fetched::Nothing(Lsn::ZERO)),
                (None, Some(stored)) => stored,
                // What another transaction is about to insert is not there yet.
                (Some(_), Some(Stored { lsn, row: None, .. })) => return Ok(Fetched::Nothing(lsn)),
                (Some(load), Some(_)) => return Ok(Fetched::Moved(load)),
            };
            let key = Key::from_bytes(key);
            let made = self.rows.get_or_insert_if(&key, |_| {
                self.is_as_looked_up(generation, &set)
                    .then(|| self.raise(&key, stored))
            });
            if let Some((entry, _)) = made {
                return Ok(Fetched::Entry(entry));
            }
        }
    }

    /// Whether neither the runs nor what transactions have moved out of memory have changed.
    fn is_as_looked_up(&self, generation: u64, set: &Arc<RunSet>) -> bool {
        generation == self.loads.generation() && Arc::ptr_eq(set, &self.home.backing.runs.present())
    }

    /// Adds a row to the tail of a load, unless there is anything of its key, committed or not; answers whether. `fresh` says that there cannot be.
    pub(crate) fn raise_tail(
        &self,
        load: &Arc<Load>,
        rising: &Rising<'_>,
        fresh: bool,
    ) -> Result<bool, Error> {
        let (space, key) = (self.home.space, rising.key);
        let generation = self.loads.generation();
        let set = self.home.backing.runs.present();
        if !fresh && (self.loads.of(space, key)?.is_some() || set.get(space, key, Lsn::MAX)?.is_some()) {
            return Ok(false);
        }
        load.push(space, rising);
        // Whoever has made an entry since is found there; who makes one from here on finds the key in the tail.
        let is_alone = self.rows.leave_gap(key)
            && (fresh || !self.loads.rises(space, key, Some(load)) && self.is_as_looked_up(generation, &set));
        if !is_alone {
            load.pop();
        }
        Ok(is_alone)
    }

    /// The entry of a row, made from what the runs have, else the one that `make` makes. `fresh` says that the runs cannot have the row.
    pub(crate) fn place(
        &self,
        key: &Key,
        fresh: bool,
        make: impl Fn() -> Arc<RowEntry>,
    ) -> Result<Placed, Error> {
        let placed = self
            .rows
            .get_or_insert_if(key, |has_gaps| (fresh || !has_gaps).then(&make));
        if let Some((entry, is_new)) = placed {
            return Ok(Placed::Entry(entry, is_new));
        }
        loop {
            let generation = self.loads.generation();
            if let Some(load) = self.loads.of(self.home.space, key.as_ref())? {
                return Ok(Placed::Moved(load));
            }
            let set = self.home.backing.runs.current();
            let below = set.get(self.home.space, key.as_ref(), Lsn::MAX)?;
            let is_below = below.is_some();
            let placed = self.rows.get_or_insert_if(key, |_| {
                // In this order: a tail that has become a run has another generation by then.
                let rises = self.loads.rises(self.home.space, key.as_ref(), None);
                let is_free = !rises && self.is_as_looked_up(generation, &set);
                is_free.then(|| match below {
                    Some(stored) => self.raise(key, stored),
                    None => make(),
                })
            });
            if let Some((entry, is_new)) = placed {
                return Ok(Placed::Entry(entry, is_new && !is_below));
            }
        }
    }

    /// An entry of what the runs have.
    pub(crate) fn raise(&self, key: &Key, stored: Stored) -> Arc<RowEntry> {
        let entry = RowEntry::from_below(stored);
        self.home
            .backing
            .add_memory(entry.lock().recount(key.as_ref(), 0));
        Arc::new(entry)
    }

    /// Walks over the newest versions, in key order, until `visit` answers false.
    pub(crate) fn scan_newest(
        &self,
        range: &KeyRange,
        mut visit: impl FnMut(&Key, Met<'_>) -> bool,
    ) -> Result<(), Error> {
        StoreScan::new(range.clone(), NEWEST).run(self, |key, met| match visit(key, met) {
            true => Next::On,
            false => Next::Stop,
        })
    }

    /// Counts an entry that has new committed versions which no run has; `before` was counted of it.
    pub(crate) fn changed(&self, key: &Key, entry: &Arc<RowEntry>, before: u64) {
        let mut state = entry.lock();
        let mut dirty = DirtyRows::default();
        if state.mark_dirty() {
            dirty.push(key.clone(), Arc::clone(entry), state.newest_bytes());
        }
        self.home.backing.add_memory(state.recount(key.as_ref(), before));
        drop(state);
        self.add_dirty(dirty);
    }

    /// Rows that are about to have versions which no run has.
    pub(crate) fn add_dirty(&self, added: DirtyRows) {
        if !added.rows.is_empty() {
            self.home.backing.add_dirty(added.bytes);
            let mut dirty = self.dirty.lock();
            dirty.bytes += added.bytes;
            dirty.rows.extend(added.rows);
        }
    }

    /// Those rows, for who writes them. What is left of them comes back by `add_dirty`.
    pub(crate) fn take_dirty(&self) -> DirtyRows {
        let taken = std::mem::take(&mut *self.dirty.lock());
        self.home.backing.take_dirty(taken.bytes);
        taken
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Takes a dead entry out of the map.
    pub(crate) fn remove(&self, key: &[u8], entry: &Arc<RowEntry>) {
        if self.rows.remove(key, entry) {
            let weight = entry.lock().weight(key);
            self.home.backing.add_memory(-weight.cast_signed());
        }
    }

    /// Takes the entry of a row out of memory that its owner has put into runs of its own. False: somebody waits for the row, or holds on to the
    /// entry; or it has versions that no run has.
    pub(crate) fn move_out(&self, key: &Key, entry: &Arc<RowEntry>) -> bool {
        let mut freed = 0;
        let is_out = self.rows.take_out(key.as_ref(), entry, || {
            // The map's and the owner's.
            if Arc::strong_count(entry) > 2 {
                return false;
            }
            let mut state = entry.lock();
            freed = state.weight(key.as_ref());
            state.move_out()
        });
        if is_out {
            self.home.backing.add_memory(-freed.cast_signed());
        }
        is_out
    }

    /// Takes those rows of one leaf, the one where `from` is or would be, out of memory that nobody would miss. Answers where the next
    /// leaf begins, and how many rows were looked at.
    pub(crate) fn evict(&self, from: &[u8]) -> (Option<Key>, usize) {
        let (mut freed, mut looks) = (0, 0);
        let next = self.rows.sift(from, |key, entry| {
            looks += 1;
            // Nobody can take hold of it now: that needs the leaf.
            if Arc::strong_count(entry) > 1 {
                return false;
            }
            let mut state = entry.lock();
            let leaves = state.may_leave();
            if leaves {
                freed += state.weight(key.as_ref());
            }
            leaves
        });
        self.home.backing.add_memory(-freed.cast_signed());
        (next, looks)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Of a store that was dropped or truncated: its rows go with it.
        let mut weight = 0;
        self.rows.range(&KeyRange::all(), |key, entry| {
            weight += entry.lock().weight(key.as_ref());
            true
        });
        self.home.backing.add_memory(-weight.cast_signed());
        self.take_dirty();
    }
}

/// Where a row is that is to be locked.
pub(crate) enum Fetched {
    Entry(Arc<RowEntry>),
    /// There is none, since this LSN at the latest.
    Nothing(Lsn),
    /// Among the rows that a transaction has moved out of memory.
    Moved(Arc<Load>),
}

/// Where the key of a row to be inserted is.
pub(crate) enum Placed {
    /// In memory; and whether it was made for that.
    Entry(Arc<RowEntry>, bool),
    /// Among the rows that a transaction has moved out of memory.
    Moved(Arc<Load>),
}

/// What a store's counters say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) next_ordinal: u64,
    pub(crate) next_row_id: u64,
    pub(crate) live_rows: i64,
    pub(crate) live_bytes: i64,
}

impl StoreCounters {
    /// Exact while nobody is inside of the commit's critical section.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            next_ordinal: self.next_ordinal.load(Ordering::Relaxed),
            next_row_id: self.next_row_id.load(Ordering::Relaxed),
            live_rows: self.live_rows.load(Ordering::Relaxed),
            live_bytes: self.live_bytes.load(Ordering::Relaxed),
        }
    }

    /// During recovery: what a checkpoint says.
    pub(crate) fn restore(&self, counts: Counts) {
        self.next_ordinal.store(counts.next_ordinal, Ordering::Relaxed);
        self.next_row_id.fetch_max(counts.next_row_id, Ordering::Relaxed);
        self.live_rows.store(counts.live_rows, Ordering::Relaxed);
        self.live_bytes.store(counts.live_bytes, Ordering::Relaxed);
    }

    /// Counters of a store whose hidden keys must not meet those of this one.
    pub(crate) fn of_branch(&self) -> StoreCounters {
        StoreCounters {
            next_row_id: Arc::clone(&self.next_row_id),
            ..StoreCounters::default()
        }
    }

    /// Takes `count` ordinals and answers the first. Only inside the commit's critical section.
    pub(crate) fn take_ordinals(&self, count: u64) -> Ordinal {
        let first = Ordinal::new(self.next_ordinal.load(Ordering::Relaxed));
        self.next_ordinal
            .store(first.plus(count).get(), Ordering::Relaxed);
        first
    }

    pub(crate) fn next_ordinal(&self) -> Ordinal {
        Ordinal::new(self.next_ordinal.load(Ordering::Relaxed))
    }

    /// The key of a new row of a table without primary key.
    pub(crate) fn hidden_key(&self) -> Key {
        Key::from_bytes(&self.next_row_id.fetch_add(1, Ordering::Relaxed).to_be_bytes())
    }

    /// During recovery: hidden keys up to this one are taken.
    pub(crate) fn saw_hidden_key(&self, row_id: u64) {
        self.next_row_id
            .fetch_max(row_id.saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn add_live(&self, growth: Growth) {
        if growth.rows != 0 {
            self.live_rows.fetch_add(growth.rows, Ordering::Relaxed);
        }
        if growth.bytes != 0 {
            self.live_bytes.fetch_add(growth.bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn add_superseded(&self, count: u64) {
        if count != 0 {
            self.superseded.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn add_pinned(&self, count: u64) {
        self.pinned.fetch_add(count, Ordering::Relaxed);
    }

    /// A pin was released: what pins alone have held may go.
    pub(crate) fn release_pinned(&self) {
        self.add_superseded(self.pinned.swap(0, Ordering::Relaxed));
    }

    pub(crate) fn superseded(&self) -> u64 {
        self.superseded.load(Ordering::Relaxed)
    }

    /// The horizon of the last sweep.
    pub(crate) fn swept(&self) -> Lsn {
        Lsn::new(self.swept.load(Ordering::Relaxed))
    }

    pub(crate) fn begin_sweep(&self, horizon: Lsn) {
        self.superseded.store(0, Ordering::Relaxed);
        self.pinned.store(0, Ordering::Relaxed);
        self.swept.store(horizon.get(), Ordering::Relaxed);
    }

    /// Committed rows; approximate while commits are under way.
    pub(crate) fn live_rows(&self) -> u64 {
        self.live_rows.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// Their bytes, without keys; approximate as well.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed).max(0).unsigned_abs()
    }
}

impl Stored {
    /// The version, unless it is a deletion. With LSN 0 it is a transaction's own.
    pub(crate) fn version(self) -> Option<Version> {
        Some(Version {
            lsn: self.lsn,
            ordinal: (self.lsn != Lsn::ZERO).then_some(self.ordinal),
            row: self.row?,
        })
    }
}

/// As new as can be, but for what is not committed.
pub(crate) const NEWEST: Lsn = Lsn::new(Lsn::MAX.get() - 1);

/// By how much changes make a store grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    rows: i64,
    bytes: i64,
}

impl Growth {
    /// Of a row that was there, or was not, and is `new`; of which bytes is not known.
    pub(crate) fn unseen(was_there: bool, new: Option<&[u8]>) -> Growth {
        Growth {
            rows: i64::from(new.is_some()) - i64::from(was_there),
            bytes: 0,
        }
    }

    /// Of a row that was `old` and is `new`.
    pub(crate) fn of(old: Option<&[u8]>, new: Option<&[u8]>) -> Growth {
        let bytes = |row: Option<&[u8]>| row.map_or(0, <[u8]>::len).cast_signed() as i64;
        Growth {
            rows: i64::from(new.is_some()) - i64::from(old.is_some()),
            bytes: bytes(new) - bytes(old),
        }
    }
}

impl std::ops::SubAssign for Growth {
    fn sub_assign(&mut self, less: Growth) {
        self.rows -= less.rows;
        self.bytes -= less.bytes;
    }
}

impl std::ops::AddAssign for Growth {
    fn add_assign(&mut self, more: Growth) {
        self.rows += more.rows;
        self.bytes += more.bytes;
    }
}
