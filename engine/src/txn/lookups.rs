//! Rows looked up by their keys, as a [`ScanCursor`](super::ScanCursor) reads a range: at one snapshot, and with the transaction's own writes
//! of one moment, whatever it does meanwhile.

use super::Txn;
use super::scan::{OwnRows, seen_by};
use crate::catalog::Table;
use crate::error::Error;
use crate::overlay::Version;
use crate::runs::RunSet;
use crate::snapshots::Slot;
use crate::store::Store;
use crate::store::memtable::Found;
use crate::store::scan::own_of;
use scry_wal::Lsn;
use std::sync::Arc;

/// What a row's entry has for a lookup.
enum Met {
    Own(Option<Version>),
    /// `None`: the runs are to be asked.
    Seen(Option<(Lsn, Option<Version>)>),
}

/// Looks rows of one table up.
pub struct Lookups {
    store: Arc<Store>,
    slot: Arc<Slot>,
    at: Lsn,
    own: OwnRows,
    /// What the transaction had moved out of memory.
    moved: Option<Arc<RunSet>>,
}

impl Txn {
    /// Lookups at the present snapshot, with a copy of the transaction's own writes as they are now. As a cursor they outlive the
    /// statement, and rolling back to a savepoint does not reach them. Not for a transaction inside of a candidate.
    ///
    /// # Errors
    /// When what it has moved out of memory cannot be written.
    ///
    /// # Panics
    /// Inside of a candidate.
    pub fn begin_lookups(&mut self, table: &Table) -> Result<Lookups, Error> {
        assert!(
            self.inside.is_none(),
            "inside of a candidate indexes lead to no row"
        );
        let moved = self.moved_rows()?;
        Ok(Lookups {
            store: Arc::clone(&table.store),
            slot: self.engine.snapshots.register_at(self.snapshot),
            at: self.snapshot,
            own: self.own_rows(table, |_| true),
            moved,
        })
    }
}

impl Lookups {
    /// As [`Txn::get_indexed`], for the transaction that has begun them.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn get_indexed(
        &self,
        txn: &mut Txn,
        table: &Table,
        index: usize,
        entry: &[u8],
        own: &[u8],
    ) -> Result<Option<Version>, Error> {
        txn.note_read(self.store.id, own);
        let (lsn, found) = self.read(own)?;
        txn.depend_on(lsn);
        Ok(found.filter(|found| table.is_entry_of(index, entry, own, found)))
    }

    /// The row of a key, and the LSN of the version.
    fn read(&self, key: &[u8]) -> Result<(Lsn, Option<Version>), Error> {
        let store = &self.store;
        let met = store
            .rows
            .find(key, |entry| match self.own.get(&Arc::as_ptr(entry).addr()) {
                Some((_, own)) => Met::Own(own.clone()),
                None => Met::Seen(seen_by(self.at, store, &entry.lock())),
            });
        if let Found::Row(Met::Own(own)) = met {
            return Ok((Lsn::ZERO, own));
        }
        // It may have been brought back since.
        if let Some(own) = own_of(self.moved.as_deref(), store, key)? {
            return Ok((Lsn::ZERO, own.version()));
        }
        Ok(match met {
            Found::Row(Met::Seen(Some(seen))) => seen,
            Found::Nothing => (Lsn::ZERO, None),
            _ => match store.read_below(key, self.at)? {
                Some(stored) => (stored.lsn, stored.version()),
                None => (Lsn::ZERO, None),
            },
        })
    }
}

impl Drop for Lookups {
    fn drop(&mut self) {
        self.slot.release();
    }
}
