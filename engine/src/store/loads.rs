//! Rows of a store that open transactions have moved out of memory (`crate::txn::moved`): who has them has their locks.
//!
//! Such a row has no entry in the memtable. That its key is taken is said by the transaction's runs, and whoever wants to insert the key waits for
//! the transaction to end, at a lock that it holds until then.
//!
//! A leaf of the memtable that a row has left has gaps, and who does not find a key there asks here first and the runs second; in this
//! order, because a transaction that commits leaves the list only when the runs show its rows. What has changed on the list meanwhile is known by
//! its generation.

use crate::error::Error;
use crate::locks::TableLock;
use crate::runs::{RunSet, SpaceId, Stored};
use parking_lot::RwLock;
use scry_wal::Lsn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one transaction has moved out of memory.
#[derive(Default)]
pub(crate) struct Load {
    /// The transaction has it exclusively, to its end.
    pub(crate) lock: Arc<TableLock>,
    rows: RwLock<Arc<RunSet>>,
}

impl Load {
    /// All of it, with LSN 0 and the transaction's own count of versions.
    pub(crate) fn rows(&self) -> Arc<RunSet> {
        Arc::clone(&self.rows.read())
    }

    pub(crate) fn set_rows(&self, rows: RunSet) {
        *self.rows.write() = Arc::new(rows);
    }

    /// A row as it is there: what the transaction has in memory of it is newer.
    pub(crate) fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Stored>, Error> {
        self.rows().get(space, key, Lsn::MAX)
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
}
