//! The committed catalogs: the newest, and the older ones that snapshots still look at.

use crate::catalog::{AppliedChange, Catalog};
use crate::checkpoint::{Definition, needed};
use crate::runs::SpaceId;
use crate::store::Store;
use parking_lot::Mutex;
use scry_wal::Lsn;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Catalogs {
    /// The LSN of the newest, so that a statement sees with one load that nothing changed.
    lsn: AtomicU64,
    /// Oldest first; never empty.
    history: Mutex<VecDeque<(Lsn, Arc<Catalog>)>>,
    /// The changes that made the newest.
    definitions: Mutex<Vec<Definition>>,
}

impl Catalogs {
    /// `history` ends with the newest, which the commit at `lsn` has made.
    pub(crate) fn new(
        lsn: Lsn,
        history: VecDeque<(Lsn, Arc<Catalog>)>,
        definitions: Vec<Definition>,
    ) -> Catalogs {
        Catalogs {
            lsn: AtomicU64::new(lsn.get()),
            history: Mutex::new(history),
            definitions: Mutex::new(definitions),
        }
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn::new(self.lsn.load(Ordering::Acquire))
    }

    pub(crate) fn latest(&self) -> (Lsn, Arc<Catalog>) {
        self.at(Lsn::MAX)
    }

    /// The catalog that a snapshot sees.
    pub(crate) fn at(&self, snapshot: Lsn) -> (Lsn, Arc<Catalog>) {
        let history = self.history.lock();
        let found = history
            .iter()
            .rev()
            .find(|(lsn, _)| *lsn <= snapshot)
            .or(history.front());
        let (lsn, catalog) = found.expect("there is always a catalog");
        (*lsn, Arc::clone(catalog))
    }

    /// A commit's catalog, and the changes that made it. Inside of the commit's critical section.
    pub(crate) fn install(&self, lsn: Lsn, catalog: Arc<Catalog>, changes: &[AppliedChange]) {
        let made = changes.iter().map(|applied| Definition::new(lsn, applied));
        self.definitions.lock().extend(made);
        self.history.lock().push_back((lsn, catalog));
        self.lsn.store(lsn.get(), Ordering::Release);
    }

    /// All that somebody may still look at.
    pub(crate) fn all(&self) -> Vec<Arc<Catalog>> {
        let history = self.history.lock();
        history.iter().map(|(_, catalog)| Arc::clone(catalog)).collect()
    }

    /// The definitions up to the commit at `lsn`; what is of none of `catalogs` is forgotten. For one checkpoint at a time.
    pub(crate) fn definitions(&self, lsn: Lsn, catalogs: &[Arc<Catalog>]) -> Vec<Definition> {
        // Looked through outside of the lock, which commits take in their critical section; they only add behind.
        let known = {
            let definitions = self.definitions.lock();
            let end = definitions.partition_point(|definition| definition.lsn <= lsn);
            definitions[..end].to_vec()
        };
        let kept = needed(&known, catalogs);
        self.definitions
            .lock()
            .splice(..known.len(), kept.iter().cloned());
        kept
    }

    /// The stores that one of them shows, by space.
    pub(crate) fn stores(catalogs: &[Arc<Catalog>]) -> BTreeMap<SpaceId, Arc<Store>> {
        catalogs.iter().flat_map(|catalog| catalog.stores()).collect()
    }

    /// Lets go of the catalogs that no snapshot at or after `horizon` sees.
    pub(crate) fn forget(&self, horizon: Lsn) {
        let mut forgotten = Vec::new();
        let mut history = self.history.lock();
        while history.get(1).is_some_and(|(second, _)| *second <= horizon) {
            forgotten.extend(history.pop_front());
        }
        // The data of dropped tables may be freed here: outside of the lock.
        drop(history);
        drop(forgotten);
    }
}
