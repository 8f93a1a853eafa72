//! What makes the runs of a transaction everybody's, all at once.
//!
//! The runs of a transaction that is larger than memory (`crate::txn::moved`) are written before it commits: their entries have an age in the transaction
//! for an LSN, and for ordinals the numbers of its versions. For its own reads all of them stand at LSN 0. Before the commit they are put in front of the
//! set, in layers that bear the transaction's stamp. Until the stamp is set nobody reads these layers. Then each of their versions has the commit's LSN, and its number is counted from
//! the first ordinal that the commit took for its store.

use crate::runs::SpaceId;
use scry_wal::{Lsn, Ordinal};
use smallvec::SmallVec;
use std::sync::OnceLock;

#[derive(Default)]
pub(crate) struct Stamp {
    place: OnceLock<Place>,
}

/// Where a commit stands.
struct Place {
    lsn: Lsn,
    /// The first ordinal that it took, by space; of others 0.
    firsts: SmallVec<[(SpaceId, Ordinal); 2]>,
}

impl Stamp {
    /// For the transaction's own reads: its versions are older than every snapshot.
    pub(crate) fn own() -> Stamp {
        let stamp = Stamp::default();
        stamp.set(Lsn::ZERO, std::iter::empty());
        stamp
    }

    /// The commit has its place; once.
    pub(crate) fn set(&self, lsn: Lsn, firsts: impl Iterator<Item = (SpaceId, Ordinal)>) {
        let firsts = firsts.collect();
        let fresh = self.place.set(Place { lsn, firsts }).is_ok();
        assert!(fresh, "a stamp was set twice");
    }

    /// The commit's LSN, once it has one.
    #[inline]
    pub(crate) fn lsn(&self) -> Option<Lsn> {
        self.place.get().map(|place| place.lsn)
    }

    /// With it, from where ordinals of a space are counted.
    #[inline]
    pub(crate) fn place(&self, space: SpaceId) -> Option<(Lsn, Ordinal)> {
        let place = self.place.get()?;
        let first = place.firsts.iter().find(|(known, _)| *known == space);
        Some((place.lsn, first.map_or(Ordinal::new(0), |(_, first)| *first)))
    }
}
