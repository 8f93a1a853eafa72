//! Shared locks of rows.
//!
//! A row's own lock has one owner. Whoever only wants the row to stay as it is (FOR SHARE, FOR KEY SHARE) takes it for a
//! moment, enters the row here, and gives it back; so any number of transactions can share a row. Whoever takes a
//! row's lock to keep it looks here next, and waits, with the row's lock in hand, for those who share the row: later
//! ones queue for the row's lock behind it, so that nobody is overtaken.
//!
//! What is shared is a lock as tables have it, with the same queue and the same search for circles. While no row is shared,
//! taking a row's lock costs one load more.
//!
//! Invariant: a row enters only under its own lock. So whoever holds that sees all who share the row.
//!
//! Locks of keys that are referred to (`crate::foreign`) are kept in a table of the same kind. There is no row's lock around them:
//! whoever wants one, enters it, in whatever mode.

use super::TableLock;
use crate::key::Key;
use parking_lot::Mutex;
use scry_wal::StoreId;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Which row.
pub(crate) type Place = (StoreId, Key);

#[derive(Default)]
pub(crate) struct Shares {
    count: AtomicUsize,
    rows: Mutex<HashMap<Place, Arc<TableLock>>>,
}

impl Shares {
    /// The shared lock of a row, if anybody has it. For who holds the row's own lock.
    pub(crate) fn find(&self, store: StoreId, key: &[u8]) -> Option<Arc<TableLock>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.rows.lock().get(&(store, Key::from_bytes(key))).cloned()
    }

    /// The shared lock of a row, made when there is none. For who holds the row's own lock.
    pub(crate) fn enter(&self, place: &Place) -> Arc<TableLock> {
        let mut rows = self.rows.lock();
        let lock = match rows.get(place) {
            Some(lock) => Arc::clone(lock),
            None => Arc::clone(rows.entry(place.clone()).or_default()),
        };
        self.count.store(rows.len(), Ordering::SeqCst);
        lock
    }

    /// A lock that the caller has given back: forgotten when nobody else knows it.
    pub(crate) fn leave(&self, place: &Place, lock: Arc<TableLock>) {
        let mut rows = self.rows.lock();
        // Given up under the map's lock, under which others get theirs: of two who leave at once the second sees that it is the last.
        drop(lock);
        if rows.get(place).is_some_and(|known| Arc::strong_count(known) == 1) {
            rows.remove(place);
            self.count.store(rows.len(), Ordering::SeqCst);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.lock().len()
    }
}
