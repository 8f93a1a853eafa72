//! A transaction as others see it: the owner of locks, and the place of its commit once it has one.

use scry_wal::{Lsn, Ordinal, StoreId, TxnId};
use smallvec::SmallVec;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first ordinals that a commit took, by store.
pub(crate) type Firsts = SmallVec<[(StoreId, Ordinal); 4]>;

/// The shared identity of a transaction that has locked or written something.
///
/// Its commit stamp is what makes a commit's critical section short: pending versions of any number become
/// visible with the one store of `lsn`.
pub(crate) struct Holder {
    id: TxnId,
    lsn: AtomicU64,
    firsts: OnceLock<Firsts>,
}

impl Holder {
    pub(crate) fn new(id: TxnId) -> Holder {
        Holder {
            id,
            lsn: AtomicU64::new(Lsn::MAX.get()),
            firsts: OnceLock::new(),
        }
    }

    pub(crate) fn id(&self) -> TxnId {
        self.id
    }

    /// The commit's place; once, inside the critical section.
    pub(crate) fn commit(&self, lsn: Lsn, firsts: Firsts) {
        let fresh = self.firsts.set(firsts).is_ok();
        assert!(fresh, "transaction {} committed twice", self.id);
        self.lsn.store(lsn.get(), Ordering::Release);
    }

    /// The commit LSN and the first ordinal in `store`, once the transaction has committed.
    pub(crate) fn committed(&self, store: StoreId) -> Option<(Lsn, Ordinal)> {
        let lsn = Lsn::new(self.lsn.load(Ordering::Acquire));
        if lsn == Lsn::MAX {
            return None;
        }
        let firsts = self.firsts.get()?;
        let first = firsts
            .iter()
            .find(|(id, _)| *id == store)
            .map(|(_, first)| *first);
        Some((lsn, first.unwrap_or_default()))
    }
}
