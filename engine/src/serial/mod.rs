//! SERIALIZABLE: what transactions have read, and what commits have written since.
//!
//! A serializable transaction reads at one snapshot, as under REPEATABLE READ, and notes what it reads as ranges of
//! keys: a point is a range of one key, and what was not found counts as read. It may commit if no commit after its
//! snapshot wrote into these ranges: then all that it read is still so at the place of its own commit, and the order of
//! commits is a serial order. One that has written nothing is at its place at its snapshot, and is not looked at.
//! (Backward validation: Kung and Robinson 1981; Yabandeh and Gómez Ferro, "A Critique of Snapshot Isolation", 2012.)
//! Transactions are refused that a test for dangerous structures (PostgreSQL's SSI) would let pass; in return nothing has to be
//! kept of transactions that have ended but what they wrote.
//!
//! Commits of all levels leave what they wrote in the *ring*, in the log's order, but only while a serializable
//! transaction is open: with none, a commit pays two loads.
//!
//! Invariants:
//! - a commit that a watching transaction's snapshot does not see is in the ring: a watch begins before the snapshot is
//!   taken, and a commit looks for watches after it is published;
//! - the ring's LSNs rise: commits enter it inside the critical section;
//! - what left the ring is behind every snapshot held, or it is `lost`, and who would need it is refused.

mod ring;
mod spans;

pub(crate) use ring::{Serial, Since, Watch, WriteSet};
pub(crate) use spans::Spans;

use crate::key::{Key, KeyRange};
use scry_wal::StoreId;
use smallvec::SmallVec;

/// Ranges that a transaction remembers of one store. Beyond, neighbours are joined, together with what lies between them.
pub(crate) const READ_SPANS_MAX: usize = 16 << 10;

/// Ranges that the ring remembers of what one commit wrote into one store; beyond, neighbours are joined.
pub(crate) const WRITE_SPANS_MAX: usize = 1 << 10;

/// Stands for the definitions of tables and elections. No store has this number: they are counted from below.
pub(crate) const DEFINITIONS: StoreId = StoreId::new(u32::MAX);

/// What an open serializable transaction has read.
pub(crate) struct Reads {
    stores: SmallVec<[(StoreId, Spans); 4]>,
    _watch: Watch,
}

impl Reads {
    pub(crate) fn new(watch: Watch) -> Reads {
        Reads {
            stores: SmallVec::new(),
            _watch: watch,
        }
    }

    fn of(&mut self, store: StoreId) -> &mut Spans {
        // Most often it is the store that was read last.
        let index = match self.stores.iter().rposition(|(known, _)| *known == store) {
            Some(index) => index,
            None => {
                self.stores.push((store, Spans::new(READ_SPANS_MAX)));
                self.stores.len() - 1
            }
        };
        &mut self.stores[index].1
    }

    pub(crate) fn point(&mut self, store: StoreId, key: &[u8]) {
        self.of(store).add_key(key);
    }

    pub(crate) fn range(&mut self, store: StoreId, range: &KeyRange) {
        self.of(store).add_range(range);
    }

    /// Puts the ranges into order, for `conflict`.
    pub(crate) fn settle(&mut self) {
        for (_, spans) in &mut self.stores {
            spans.settle();
        }
    }

    /// A store of which this commit has written something that was read.
    pub(crate) fn conflict(&self, written: &WriteSet) -> Option<StoreId> {
        let mut both = self.stores.iter().filter_map(|(store, read)| {
            let (_, wrote) = written.stores.iter().find(|(other, _)| other == store)?;
            read.meets(wrote).then_some(*store)
        });
        both.next()
    }
}

/// Collects what a transaction is about to write.
pub(crate) fn write_set<'k>(
    keys: impl Iterator<Item = (StoreId, &'k Key)>,
    replaced: impl Iterator<Item = StoreId>,
    defines: bool,
) -> WriteSet {
    let mut set = WriteSet::default();
    for (store, key) in keys {
        set.of(store).add_key(key.as_ref());
    }
    let definitions = defines.then_some(DEFINITIONS);
    for store in replaced.chain(definitions) {
        set.of(store).add_range(&KeyRange::all());
    }
    set.settle();
    set
}
