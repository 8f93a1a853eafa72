//! Reading, locking and writing single rows.

use super::{CHANGES_MAX, Txn};
use crate::Row;
use crate::catalog::Table;
use crate::error::Error;
use crate::index::Index;
use crate::key::Key;
use crate::locks::{Holder, Outcome, Request, RowRef};
use crate::overlay::{Now, Overlay, Pending, Version};
use crate::store::entry::{RowEntry, RowState};
use crate::store::loads::Load;
use crate::store::memtable::Found;
use crate::store::{Fetched, Placed};
use scry_wal::Lsn;
use std::sync::Arc;

/// What became of an insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// The row is in, under this key.
    Inserted(Key),
    /// A row with this key exists; it is not locked. An own uncommitted row has no ordinal.
    Exists(Version),
    /// Another row has the same key in the n-th index of the table, a unique one: that row's key in the table.
    Taken { index: usize, key: Key },
}

/// One try at a row's lock, made without waiting.
enum Attempt<T> {
    Done(T),
    /// The entry left the memtable: look the key up again.
    Again,
    /// Somebody holds the lock.
    Busy(Arc<RowEntry>),
    /// The lock is held by a transaction that has moved the row out of memory.
    Moved(Arc<Load>),
}

impl Txn {
    /// The row of a key: the transaction's own write, else what the snapshot sees.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn get(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        match self.inside {
            None => self.get_plain(table, key),
            Some(_) => self.get_inside(table, key),
        }
    }

    pub(crate) fn get_plain(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        self.note_read(table.store.id, key);
        self.read_at(table, key, self.snapshot)
    }

    /// The row of a key: the transaction's own write, else what a snapshot at `at` sees, which is not before the transaction's.
    pub(crate) fn read_at(&mut self, table: &Table, key: &[u8], at: Lsn) -> Result<Option<Version>, Error> {
        let store = &table.store;
        let found = store.rows.find_seen(key, |entry| {
            let mut state = entry.lock();
            state.touch();
            if let Some(slot) = self.own_slot(&state)
                && !matches!(self.overlay.get(slot).now, Now::Untouched)
            {
                return Some((Lsn::ZERO, self.overlay.get(slot).current()));
            }
            match state.read(at, store.id) {
                Some(seen) => Some((seen.lsn, seen.version())),
                None if state.is_below() => None,
                None => Some((Lsn::ZERO, None)),
            }
        });
        let (lsn, found) = match found {
            Found::Row(Some(found)) => found,
            Found::Nothing => return Ok(None),
            Found::Row(None) | Found::NotHere => {
                // What has moved out of memory has left a gap there.
                if let Some(own) = self.moved_row(store, key)? {
                    return Ok(own.version());
                }
                match store.read_below(key, at)? {
                    Some(stored) => (stored.lsn, stored.version()),
                    None => return Ok(None),
                }
            }
        };
        self.depend_on(lsn);
        Ok(found)
    }

    /// The slot of a row that this transaction has locked.
    pub(crate) fn own_slot(&self, state: &RowState) -> Option<u32> {
        state.slot_of(self.holder_if_any()?)
    }

    /// Locks a row for writing; waits for whoever has it.
    ///
    /// Answers the row as it is under the lock: the transaction's own write, else the newest committed version;
    /// `None` when there is no row (any more), and then nothing is locked. The caller checks its condition again.
    ///
    /// # Errors
    /// `SerializationFailure` under REPEATABLE READ and SERIALIZABLE when the row changed after the snapshot, `Deadlock` when the
    /// wait would never end, `TableChanged` when the table was replaced after the statement resolved it.
    pub async fn lock(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        match self.inside {
            None => self.lock_plain(table, key).await,
            Some(_) => self.lock_inside(table, key).await,
        }
    }

    pub(crate) async fn lock_plain(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        let found = self.lock_row(table, key).await?;
        if found.is_some() {
            self.exclude_sharers(table, key).await?;
        }
        Ok(found)
    }

    /// Locks a row if nobody else has; else answers `None`. See `lock` for the rest.
    pub(crate) async fn lock_if_free(
        &mut self,
        table: &Table,
        key: &[u8],
    ) -> Result<Option<Option<Version>>, Error> {
        let store = self.enter(table).await?;
        let holder = self.holder();
        loop {
            match self.try_lock(table, store, key, &holder)? {
                Attempt::Done(found) => return Ok(Some(found)),
                Attempt::Again => {}
                Attempt::Busy(_) | Attempt::Moved(_) => return Ok(None),
            }
        }
    }

    /// As `insert` under a key; `None` instead of waiting.
    pub(crate) async fn insert_if_free(
        &mut self,
        table: &Table,
        key: &Key,
        row: Row,
    ) -> Result<Option<InsertOutcome>, Error> {
        let store = self.enter(table).await?;
        self.check_key(table, key)?;
        let holder = self.holder();
        loop {
            match self.try_insert(table, store, (key, false), &row, &holder)? {
                Attempt::Done(None) => return Ok(Some(InsertOutcome::Inserted(key.clone()))),
                Attempt::Done(Some(existing)) => return Ok(Some(InsertOutcome::Exists(existing))),
                Attempt::Again => {}
                Attempt::Busy(_) | Attempt::Moved(_) => return Ok(None),
            }
        }
    }

    /// Waits for who has locked a row, or is about to insert it, and locks nothing.
    pub(crate) async fn wait_for_owner(&mut self, table: &Table, key: &Key) -> Result<(), Error> {
        let found = table.store.rows.with(key.as_ref(), Arc::clone);
        let Some(entry) = found.filter(|entry| entry.lock().owner().is_some()) else {
            if let Some(load) = table.store.loads.of(table.store.home.space, key.as_ref())? {
                self.wait_for_load(table, &load).await?;
            }
            return Ok(());
        };
        let row = RowRef {
            store: Arc::clone(&table.store),
            key: key.clone(),
            entry,
        };
        let holder = self.holder();
        if self.wait_for(table, &row, &holder).await? {
            self.engine.waits.release_row(&row);
        }
        Ok(())
    }

    /// Gives back all rows that this transaction has locked. It has written none.
    pub(crate) fn unlock_all(&mut self) {
        while let Some(slot) = self.overlay.next_slot().checked_sub(1) {
            assert!(
                matches!(self.overlay.get(slot).now, Now::Untouched),
                "it has written none"
            );
            self.give_back(slot);
        }
        self.overlay = Overlay::default();
    }

    /// Makes this the transaction that puts rows into an index whose table somebody else has locked for it.
    pub(crate) fn begin_filling_index(&mut self, index: &Index) {
        self.holder();
        self.overlay.add_store(index.store(), &index.rows().layout);
        self.fills = true;
    }

    /// Takes the row's own lock, which keeps nobody out who shares the row already.
    pub(crate) async fn lock_row(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        self.note_read(table.store.id, key);
        let store = self.enter(table).await?;
        self.room_if_full().await?;
        self.check_bounds()?;
        let holder = self.holder();
        loop {
            match self.try_lock(table, store, key, &holder)? {
                Attempt::Done(found) => return Ok(found),
                Attempt::Again => {}
                Attempt::Moved(load) => self.wait_for_load(table, &load).await?,
                Attempt::Busy(entry) => {
                    let row = RowRef {
                        store: Arc::clone(&table.store),
                        key: Key::from_bytes(key),
                        entry,
                    };
                    if self.wait_for(table, &row, &holder).await? {
                        return self.took_lock(table, store, row);
                    }
                }
            }
        }
    }

    fn try_lock(
        &mut self,
        table: &Table,
        store: u32,
        key: &[u8],
        holder: &Arc<Holder>,
    ) -> Result<Attempt<Option<Version>>, Error> {
        let fetched = table.store.fetch(key)?;
        if !matches!(fetched, Fetched::Entry(_))
            && let Some(own) = self.bring_back(table, store, key, holder)?
        {
            return Ok(Attempt::Done(own));
        }
        let entry = match fetched {
            Fetched::Entry(entry) => entry,
            Fetched::Moved(load) => return Ok(Attempt::Moved(load)),
            Fetched::Nothing(lsn) => {
                self.check_conflict(table, lsn)?;
                self.depend_on(lsn);
                return Ok(Attempt::Done(None));
            }
        };
        let mut state = entry.lock();
        if let Some(slot) = state.slot_of(holder) {
            let own = self.overlay.get(slot);
            // What was inserted over a deleted row was rolled back.
            if own.covers && matches!(own.now, Now::Untouched) && !table.store.is_derived() {
                return Err(self.changed_since_snapshot(table));
            }
            return Ok(Attempt::Done(own.current()));
        }
        if state.is_dead() {
            drop(state);
            table.store.remove(key, &entry);
            return Ok(Attempt::Again);
        }
        let (lsn, base) = {
            let newest = state.newest(table.store.id);
            (newest.lsn, newest.version())
        };
        // What another transaction is about to insert is not there yet, and nothing to wait for.
        if state.owner().is_some() && base.is_some() {
            drop(state);
            return Ok(Attempt::Busy(entry));
        }
        self.check_conflict(table, lsn)?;
        self.depend_on(lsn);
        let Some(base) = base else {
            return Ok(Attempt::Done(None));
        };
        state.set_owner(Arc::clone(holder), self.overlay.next_slot());
        drop(state);
        self.overlay.push(Pending::locked(
            store,
            Key::from_bytes(key),
            entry,
            Some(base.clone()),
            Now::Untouched,
        ));
        Ok(Attempt::Done(Some(base)))
    }

    /// The wait is over and the lock is this transaction's: what is under it?
    fn took_lock(&mut self, table: &Table, store: u32, row: RowRef) -> Result<Option<Version>, Error> {
        let (lsn, base) = {
            let state = row.entry.lock();
            let newest = state.newest(table.store.id);
            (newest.lsn, newest.version())
        };
        self.depend_on(lsn);
        if let Err(conflict) = self.check_conflict(table, lsn) {
            self.engine.waits.release_row(&row);
            return Err(conflict);
        }
        let Some(base) = base else {
            self.engine.waits.release_row(&row);
            return Ok(None);
        };
        self.overlay.push(Pending::locked(
            store,
            row.key,
            row.entry,
            Some(base.clone()),
            Now::Untouched,
        ));
        Ok(Some(base))
    }

    /// With a snapshot for the whole transaction nothing newer may be overwritten. Of an index that may be: what counts is the row of its table,
    /// and that may have been put into the index later.
    pub(super) fn check_conflict(&self, table: &Table, newest: Lsn) -> Result<(), Error> {
        match table.store.is_derived() {
            true => Ok(()),
            false => self.check_newer(table, newest),
        }
    }

    /// With a snapshot for the whole transaction nothing newer may be met.
    pub(crate) fn check_newer(&self, table: &Table, newest: Lsn) -> Result<(), Error> {
        match self.isolation.keeps_snapshot() && newest > self.snapshot {
            true => Err(self.changed_since_snapshot(table)),
            false => Ok(()),
        }
    }

    /// A row that the transaction meant to lock was changed after its snapshot.
    pub(crate) fn changed_since_snapshot(&self, table: &Table) -> Error {
        self.engine.counters.conflict();
        Error::SerializationFailure {
            table: table.def.name.clone(),
        }
    }

    /// Waits for a row's lock. False: the row left the memtable, look again.
    async fn wait_for(&mut self, table: &Table, row: &RowRef, holder: &Arc<Holder>) -> Result<bool, Error> {
        let request = Request::Row {
            row: row.clone(),
            slot: self.overlay.next_slot(),
        };
        match self
            .engine
            .waits
            .request(holder, request)
            .map_err(|error| self.refused(error, &table.def.name))?
        {
            Outcome::Granted => Ok(true),
            Outcome::Gone => {
                row.store.remove(&row.key, &row.entry);
                Ok(false)
            }
            Outcome::Wait(wait) => {
                self.engine.counters.lock_wait();
                wait.await;
                Ok(true)
            }
        }
    }

    /// Gives back the lock of a row that this statement has locked and then found not to match. A written row stays
    /// locked, and so does one that an earlier statement locked.
    pub fn unlock_unwritten(&mut self, table: &Table, key: &[u8]) {
        // Inside of a candidate it stays locked to the end, which forgets what was not written.
        if self.inside.is_none() {
            self.unlock_plain(table, key);
        }
    }

    pub(crate) fn unlock_plain(&mut self, table: &Table, key: &[u8]) {
        let Some(slot) = self.slot_of(table, key) else {
            return;
        };
        let pending = self.overlay.get(slot);
        let written = !matches!(pending.now, Now::Untouched)
            || !matches!(pending.logged, crate::overlay::Logged::Nothing)
            || pending.dirty;
        // A row below the innermost savepoint may have an undo step that names its slot.
        if written || slot < self.undo_below().max(self.statement_slots) {
            return;
        }
        self.give_back(slot);
    }

    /// Inserts a row. Without a key it goes in under a new hidden row id. Waits for a concurrent transaction that
    /// inserted or is deleting the same key.
    ///
    /// # Errors
    /// As `lock`; and the limits of rows, keys and transactions. Under SERIALIZABLE `SerializationFailure` also when the key is
    /// taken by a row that the snapshot does not see.
    pub async fn insert(
        &mut self,
        table: &Table,
        key: Option<Key>,
        row: impl Into<Row>,
    ) -> Result<InsertOutcome, Error> {
        let row = row.into();
        match self.inside {
            None => {
                self.move_if_large().await?;
                self.insert_indexed(table, key, row).await
            }
            Some(_) => self.insert_inside(table, key, row).await,
        }
    }

    pub(crate) async fn insert_plain(
        &mut self,
        table: &Table,
        key: Option<Key>,
        row: Row,
    ) -> Result<InsertOutcome, Error> {
        let store = self.enter(table).await?;
        self.room_if_full().await?;
        self.check_bounds()?;
        self.check_row(table, &row)?;
        // A number that was never given before.
        let is_fresh = key.is_none();
        let key = match key {
            Some(key) => {
                self.note_read(table.store.id, key.as_ref());
                key
            }
            None => table.store.counters.hidden_key(),
        };
        self.check_key(table, &key)?;
        if self.moved.is_some() && self.insert_rising(table, store, (&key, is_fresh), &row).await? {
            return Ok(InsertOutcome::Inserted(key));
        }
        let holder = self.holder();
        loop {
            match self.try_insert(table, store, (&key, is_fresh), &row, &holder)? {
                Attempt::Done(None) => {
                    self.note_inserted(&table.store, store, &key)?;
                    return Ok(InsertOutcome::Inserted(key));
                }
                Attempt::Done(Some(existing)) => {
                    self.check_taken(table, &existing)?;
                    return Ok(InsertOutcome::Exists(existing));
                }
                Attempt::Again => {}
                Attempt::Moved(load) => self.wait_for_load(table, &load).await?,
                Attempt::Busy(entry) => {
                    let place = RowRef {
                        store: Arc::clone(&table.store),
                        key: key.clone(),
                        entry,
                    };
                    if !self.wait_for(table, &place, &holder).await? {
                        continue;
                    }
                    let (lsn, existing) = {
                        let state = place.entry.lock();
                        let newest = state.newest(table.store.id);
                        (newest.lsn, newest.version())
                    };
                    self.depend_on(lsn);
                    if let Some(existing) = existing {
                        self.engine.waits.release_row(&place);
                        self.check_taken(table, &existing)?;
                        return Ok(InsertOutcome::Exists(existing));
                    }
                    let covers = self.may_cover(lsn);
                    self.overlay
                        .push(Pending::inserted(store, key.clone(), place.entry, row, covers));
                    return Ok(InsertOutcome::Inserted(key));
                }
            }
        }
    }

    fn try_insert(
        &mut self,
        table: &Table,
        store: u32,
        (key, is_fresh): (&Key, bool),
        row: &Row,
        holder: &Arc<Holder>,
    ) -> Result<Attempt<Option<Version>>, Error> {
        let slot = self.overlay.next_slot();
        let placed = table.store.place(key, is_fresh, || {
            Arc::new(RowEntry::locked(Arc::clone(holder), slot))
        })?;
        let (entry, is_new) = match placed {
            Placed::Entry(entry, is_new) => (entry, is_new),
            Placed::Moved(load) => {
                return match self.moved_row(&table.store, key)? {
                    Some(own) => {
                        let own = self.put_back(&table.store, store, key, own, holder)?;
                        Ok(self.insert_over(own, row))
                    }
                    None => self.try_insert_over(table, key, load),
                };
            }
        };
        let mut covers = false;
        if !is_new {
            let mut state = entry.lock();
            if let Some(own) = state.slot_of(holder) {
                drop(state);
                return Ok(self.insert_over(own, row));
            }
            if state.is_dead() {
                drop(state);
                table.store.remove(key, &entry);
                return Ok(Attempt::Again);
            }
            let (lsn, existing) = {
                let newest = state.newest(table.store.id);
                (newest.lsn, newest.version())
            };
            if let Some(existing) = existing
                && (state.owner().is_none() || !state.ending)
            {
                drop(state);
                self.depend_on(lsn);
                return Ok(Attempt::Done(Some(existing)));
            }
            if state.owner().is_some() {
                drop(state);
                return Ok(Attempt::Busy(entry));
            }
            state.set_owner(Arc::clone(holder), slot);
            drop(state);
            self.depend_on(lsn);
            covers = self.may_cover(lsn);
        }
        self.overlay.push(Pending::inserted(
            store,
            key.clone(),
            entry,
            Arc::clone(row),
            covers,
        ));
        Ok(Attempt::Done(None))
    }

    /// Whether the transaction's snapshot may see something of a row that was deleted at `lsn`.
    fn may_cover(&self, lsn: Lsn) -> bool {
        self.isolation.keeps_snapshot() && lsn > self.snapshot
    }

    /// Another transaction has moved a row of the key out of memory: a row that it has replaced is there, for the others one has to wait.
    fn try_insert_over(
        &mut self,
        table: &Table,
        key: &Key,
        load: Arc<Load>,
    ) -> Result<Attempt<Option<Version>>, Error> {
        let Some(moved) = load.get(table.store.home.space, key)? else {
            // It had come to a tail, and was taken back.
            return Ok(Attempt::Again);
        };
        if moved.row.is_some()
            && let Some(existing) = table.store.newest_below(key)?
        {
            self.depend_on(existing.lsn);
            return Ok(Attempt::Done(Some(existing)));
        }
        Ok(Attempt::Moved(load))
    }

    /// Inserts a row whose key this transaction has locked.
    fn insert_over(&mut self, own: u32, row: &Row) -> Attempt<Option<Version>> {
        let existing = self.overlay.get(own).current();
        if existing.is_none() {
            let undo_below = self.undo_below();
            self.overlay.write(own, Now::Row(Arc::clone(row)), undo_below);
        }
        Attempt::Done(existing)
    }

    /// Replaces a row that this transaction has locked or written; the key stays. Waits for a concurrent transaction that
    /// inserted or is deleting the same key of a unique index.
    ///
    /// # Errors
    /// `KeyExists`; as `lock`; and the limits of rows, keys and transactions.
    ///
    /// # Panics
    /// When the row is not locked by this transaction, or is gone.
    pub async fn update(&mut self, table: &Table, key: &[u8], row: impl Into<Row>) -> Result<(), Error> {
        let row = row.into();
        match self.inside {
            None => {
                self.begin_write(table, key).await?;
                self.update_indexed(table, key, row).await
            }
            Some(_) => self.update_inside(table, key, row),
        }
    }

    pub(crate) fn update_plain(&mut self, table: &Table, key: &[u8], row: Row) -> Result<(), Error> {
        self.check_row(table, &row)?;
        self.check_bounds()?;
        let slot = self.locked_slot(table, key);
        let undo_below = self.undo_below();
        self.overlay.write(slot, Now::Row(row), undo_below);
        Ok(())
    }

    /// Replaces a row that this transaction has locked by one under another key. `Exists`: the new key is taken,
    /// and nothing was changed.
    pub async fn update_key(
        &mut self,
        table: &Table,
        key: &[u8],
        new_key: Key,
        row: impl Into<Row>,
    ) -> Result<InsertOutcome, Error> {
        if new_key.as_ref() == key {
            self.update(table, key, row).await?;
            return Ok(InsertOutcome::Inserted(new_key));
        }
        if self.inside.is_none() {
            self.begin_write(table, key).await?;
            return self.rekey_indexed(table, key, new_key, row.into()).await;
        }
        let outcome = self.insert(table, Some(new_key), row).await?;
        if matches!(outcome, InsertOutcome::Inserted(_)) {
            self.delete_inside(table, key)?;
        }
        Ok(outcome)
    }

    /// Deletes a row that this transaction has locked or written.
    ///
    /// # Panics
    /// When the row is not locked by this transaction, or is gone.
    pub async fn delete(&mut self, table: &Table, key: &[u8]) -> Result<(), Error> {
        match self.inside {
            None => {
                self.begin_write(table, key).await?;
                self.delete_indexed(table, key).await
            }
            Some(_) => self.delete_inside(table, key),
        }
    }

    pub(crate) fn delete_plain(&mut self, table: &Table, key: &[u8]) -> Result<(), Error> {
        let slot = self.locked_slot(table, key);
        let undo_below = self.undo_below();
        self.overlay.write(slot, Now::Gone, undo_below);
        Ok(())
    }

    /// The present content of a row that must be locked by this transaction and exist in its eyes.
    pub(crate) fn locked_row(&self, table: &Table, key: &[u8]) -> Row {
        let pending = self.overlay.get(self.locked_slot(table, key));
        Row::clone(pending.current_row().expect("a locked slot has a row"))
    }

    /// The slot of a row that must be locked by this transaction and exist in its eyes.
    fn locked_slot(&self, table: &Table, key: &[u8]) -> u32 {
        let slot = self.slot_of(table, key);
        let slot = slot.filter(|slot| self.overlay.get(*slot).current_row().is_some());
        slot.expect("a row must be locked before it is written")
    }

    /// The slot of a row, if this transaction has locked it.
    fn slot_of(&self, table: &Table, key: &[u8]) -> Option<u32> {
        // Most often it is the row that was locked last.
        if let Some(last) = self.overlay.changes.last()
            && last.key.as_ref() == key
            && last.entry.is_some()
            && Arc::ptr_eq(self.overlay.store_of(last), &table.store)
        {
            return Some(self.overlay.next_slot() - 1);
        }
        table
            .store
            .rows
            .with(key, |entry| self.own_slot(&entry.lock()))
            .flatten()
    }

    pub(crate) fn check_bounds(&self) -> Result<(), Error> {
        if self.overlay.changes.len() as u64 + self.risen() >= u64::from(CHANGES_MAX) {
            return Err(Error::TooManyChanges {
                limit: u64::from(CHANGES_MAX),
            });
        }
        let limit = self.engine.options.transaction_bytes_max;
        if self.overlay.total_bytes() + self.kept_bytes() + self.rising_bytes() > limit {
            return Err(Error::TransactionTooLarge { limit });
        }
        Ok(())
    }

    fn check_row(&self, table: &Table, row: &Row) -> Result<(), Error> {
        let (bytes, limit) = (row.len(), self.engine.limits.row_bytes);
        if bytes > limit {
            let table = table.def.name.clone();
            return Err(Error::RowTooLarge { table, bytes, limit });
        }
        Ok(())
    }

    pub(crate) fn check_key(&self, table: &Table, key: &Key) -> Result<(), Error> {
        let (bytes, limit) = (key.len(), self.engine.limits.key_bytes);
        if bytes > limit {
            let table = table.def.name.clone();
            return Err(Error::KeyTooLarge { table, bytes, limit });
        }
        Ok(())
    }
}
