//! The data of one table.

pub(crate) mod entry;
pub(crate) mod memtable;
mod sorted;

use crate::key::Key;
use crate::row::RowLayout;
use entry::RowEntry;
use memtable::Memtable;
use scry_wal::{Lsn, Ordinal, StoreId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Rows by key, and the counters of their versions. ALTER TABLE … ADD PRIMARY KEY makes a second `Store` object
/// of the same `StoreId`, with other keys and the same counters.
pub(crate) struct Store {
    pub(crate) id: StoreId,
    pub(crate) layout: Arc<RowLayout>,
    pub(crate) rows: Memtable,
    pub(crate) counters: Arc<StoreCounters>,
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

impl Store {
    pub(crate) fn new(id: StoreId, layout: Arc<RowLayout>) -> Store {
        Store::with_counters(id, layout, Arc::default())
    }

    /// The same data under other keys.
    pub(crate) fn with_counters(id: StoreId, layout: Arc<RowLayout>, counters: Arc<StoreCounters>) -> Store {
        Store {
            id,
            layout,
            rows: Memtable::default(),
            counters,
            retired: AtomicBool::new(false),
        }
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Takes a dead entry out of the map.
    pub(crate) fn remove(&self, key: &[u8], entry: &Arc<RowEntry>) {
        self.rows.remove(key, entry);
    }
}

impl StoreCounters {
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

/// By how much changes make a store grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    rows: i64,
    bytes: i64,
}

impl Growth {
    /// Of a row that was `old` and is `new`.
    pub(crate) fn of(old: Option<&[u8]>, new: Option<&[u8]>) -> Growth {
        let bytes = |row: Option<&[u8]>| row.map_or(0, <[u8]>::len).cast_signed() as i64;
        Growth {
            rows: i64::from(new.is_some()) - i64::from(old.is_some()),
            bytes: bytes(new) - bytes(old),
        }
    }
}

impl std::ops::AddAssign for Growth {
    fn add_assign(&mut self, more: Growth) {
        self.rows += more.rows;
        self.bytes += more.bytes;
    }
}
