//! Rows and keys that stay as they are without being written: locks beside the rows' own; see `crate::locks::Shares`.

use super::Txn;
use crate::catalog::Table;
use crate::engine::Engine;
use crate::error::Error;
use crate::key::Key;
use crate::locks::{Mode, Place, Shares, TableLock};
use crate::overlay::Version;
use std::collections::HashMap;
use std::sync::Arc;

/// Of what a lock is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A whole row.
    Row,
    /// A key that is referred to; see `crate::foreign`.
    Key,
}

/// The shared locks that a transaction holds, to its end: rolling back to a savepoint gives none back.
pub(super) type Shared = HashMap<Place, (Arc<TableLock>, Mode)>;

/// What a held lock takes in memory, about.
const LOCK_BYTES: u64 = 192;

impl Engine {
    fn shares(&self, kept: Kept) -> &Shares {
        match kept {
            Kept::Row => &self.shares,
            Kept::Key => &self.key_locks,
        }
    }
}

/// A shared lock that is not this transaction's yet: whoever gives up waiting for it leaves it as if nothing had been.
struct Entered {
    engine: Arc<Engine>,
    kept: Kept,
    lock: Option<(Place, Arc<TableLock>)>,
}

impl Entered {
    fn keep(mut self) -> Option<(Place, Arc<TableLock>)> {
        self.lock.take()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some((place, lock)) = self.lock.take() {
            self.engine.shares(self.kept).leave(&place, lock);
        }
    }
}

impl Txn {
    /// Locks a row against being written; others may do so at the same time. Waits for whoever writes it. Inside of a candidate
    /// the row is locked as for writing.
    ///
    /// Answers as [`Txn::lock`] does. The row may be written after that, if nobody else shares it.
    ///
    /// # Errors
    /// As [`Txn::lock`].
    pub async fn share(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        if self.inside.is_some() {
            return self.lock(table, key).await;
        }
        let Some(version) = self.lock_row(table, key).await? else {
            return Ok(None);
        };
        let place = (table.store.id, Key::from_bytes(key));
        self.keep(Kept::Row, table, place, Mode::Shared).await?;
        self.unlock_plain(table, key);
        Ok(Some(version))
    }

    /// This transaction has the row's own lock, and means to keep it: waits for those who share the row.
    pub(super) async fn exclude_sharers(&mut self, table: &Table, key: &[u8]) -> Result<(), Error> {
        match self.engine.shares.find(table.store.id, key) {
            Some(lock) => {
                let place = (table.store.id, Key::from_bytes(key));
                self.keep_by(Kept::Row, table, (place, lock), Mode::Exclusive)
                    .await
            }
            None => Ok(()),
        }
    }

    fn kept(&mut self, kept: Kept) -> &mut Shared {
        match kept {
            Kept::Row => &mut self.shared,
            Kept::Key => &mut self.held_keys,
        }
    }

    /// Whether it holds a lock, in any mode.
    pub(crate) fn keeps(&mut self, kept: Kept, place: &Place) -> bool {
        self.kept(kept).contains_key(place)
    }

    /// What the locks that it holds take in memory, about.
    pub(super) fn kept_bytes(&self) -> u64 {
        (self.shared.len() + self.held_keys.len()) as u64 * LOCK_BYTES
    }

    /// Takes a lock beside those of rows; waits for it.
    pub(crate) async fn keep(
        &mut self,
        kept: Kept,
        table: &Table,
        place: Place,
        mode: Mode,
    ) -> Result<(), Error> {
        self.check_bounds()?;
        let lock = self.engine.shares(kept).enter(&place);
        self.keep_by(kept, table, (place, lock), mode).await
    }

    async fn keep_by(
        &mut self,
        kept: Kept,
        table: &Table,
        (place, lock): (Place, Arc<TableLock>),
        mode: Mode,
    ) -> Result<(), Error> {
        let held = self.kept(kept).get(&place).map(|(_, mode)| *mode);
        if held.is_some_and(|held| held >= mode) {
            return Ok(());
        }
        let entered = Entered {
            engine: Arc::clone(&self.engine),
            kept,
            lock: Some((place, lock)),
        };
        if let Some((_, lock)) = &entered.lock {
            self.acquire(lock, mode, &table.def.name).await?;
        }
        if let Some((place, lock)) = entered.keep() {
            self.kept(kept).insert(place, (lock, mode));
        }
        Ok(())
    }

    /// Gives one back before the end: it was of no use.
    pub(crate) fn let_go(&mut self, kept: Kept, place: &Place) {
        if let Some((lock, _)) = self.kept(kept).remove(place)
            && let Some(holder) = &self.holder
        {
            self.engine.waits.release_table(&lock, holder);
            self.engine.shares(kept).leave(place, lock);
        }
    }

    /// At the end of the transaction.
    pub(super) fn release_shared(&mut self) {
        let Some(holder) = &self.holder else { return };
        for (kept, held) in [(Kept::Row, &mut self.shared), (Kept::Key, &mut self.held_keys)] {
            for (place, (lock, _)) in held.drain() {
                self.engine.waits.release_table(&lock, holder);
                self.engine.shares(kept).leave(&place, lock);
            }
        }
    }
}
