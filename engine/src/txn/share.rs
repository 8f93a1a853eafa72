//! Rows that stay as they are without being written: shared locks; see `crate::locks::Shares`.

use super::{CHANGES_MAX, Txn};
use crate::catalog::Table;
use crate::engine::Engine;
use crate::error::Error;
use crate::locks::{Mode, Place, TableLock};
use crate::overlay::Version;
use std::collections::HashMap;
use std::sync::Arc;

/// The shared locks that a transaction holds, to its end: rolling back to a savepoint gives none back.
pub(crate) type Shared = HashMap<Place, (Arc<TableLock>, Mode)>;

/// A shared lock that is not this transaction's yet: whoever gives up waiting for it leaves it as if nothing had been.
struct Entered {
    engine: Arc<Engine>,
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
            self.engine.shares.leave(&place, lock);
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
        if self.shared.len() >= CHANGES_MAX as usize {
            return Err(Error::TooManyChanges {
                limit: u64::from(CHANGES_MAX),
            });
        }
        let lock = self.engine.shares.enter(table.store.id, key);
        self.take_shared(table, key, lock, Mode::Shared).await?;
        self.unlock_plain(table, key);
        Ok(Some(version))
    }

    /// This transaction has the row's own lock, and means to keep it: waits for those who share the row.
    pub(super) async fn exclude_sharers(&mut self, table: &Table, key: &[u8]) -> Result<(), Error> {
        match self.engine.shares.find(table.store.id, key) {
            Some(lock) => self.take_shared(table, key, lock, Mode::Exclusive).await,
            None => Ok(()),
        }
    }

    async fn take_shared(
        &mut self,
        table: &Table,
        key: &[u8],
        lock: Arc<TableLock>,
        mode: Mode,
    ) -> Result<(), Error> {
        let place = (table.store.id, crate::key::Key::from_bytes(key));
        let held = self.shared.get(&place).map(|(_, mode)| *mode);
        if held.is_some_and(|held| held == mode || held == Mode::Exclusive) {
            return Ok(());
        }
        let entered = Entered {
            engine: Arc::clone(&self.engine),
            lock: Some((place, lock)),
        };
        if let Some((_, lock)) = &entered.lock {
            self.acquire(lock, mode, &table.def.name).await?;
        }
        if let Some((place, lock)) = entered.keep() {
            self.shared.insert(place, (lock, mode));
        }
        Ok(())
    }

    /// At the end of the transaction.
    pub(super) fn release_shared(&mut self) {
        let Some(holder) = &self.holder else { return };
        for (place, (lock, _)) in self.shared.drain() {
            self.engine.waits.release_table(&lock, holder);
            self.engine.shares.leave(&place, lock);
        }
    }
}
