//! Transactions larger than memory: their changes move out of it.
//!
//! When the changes of a transaction take more than `EngineOptions::move_bytes`, those that the log has move into runs of its
//! own (`crate::runs::private`): the change leaves the overlay, and its entry the memtable. What is left in memory of it is the place in the log's
//! count of versions, which the run has for an ordinal. Three things follow:
//!
//! 1. *Its lock* is the key in the transaction's runs (`crate::store::loads`); who wants to write it waits for the transaction's end.
//! 2. *Its own reads* ask the overlay first, its runs second and what the snapshot sees third. A row that it means to write again is *brought back*: it
//!    has an entry and a change as before, and may move out once more. Of a key that several runs have, the newest counts; what is in memory is newer.
//!    The committed version that it replaces is what everybody's runs have of the row.
//! 3. *Its commit* puts the runs in front of everybody's set, under a stamp that the critical section sets with the transaction's own: nothing there
//!    depends on how many rows moved. The next checkpoint copies them. Until then a crash loses them as it loses memory, and they are replayed from
//!    the log.
//!
//! *Savepoints* are snapshots of what moved. An entry of the runs has an *age* where committed ones have an LSN: a number that rises with each savepoint
//! (`Txn::age`), so that the runs as of a savepoint's mark are what the transaction had there. Who rolls back to one
//! brings every row back that is younger in the runs, has it be what it was at the mark, and lets it move again: the log has it as it was, too, for what is
//! in the log cannot be taken back. Merging leaves out what no savepoint needs.
//!
//! What stays in memory: rows that it has replaced or deleted of which no checkpoint has written the committed version (it asks for one); rows that
//! it has locked and not written; rows that others wait for; rows that it has inserted over ones which its snapshot still sees; rows that it has written
//! before an open savepoint and after it, with what they were. What is written behind a savepoint and a new column or primary key stays as
//! well. `transactions.memory_mib_max` ends a transaction of which too much stays. A transaction that works in a candidate, elects one, or has given a table another primary key moves nothing.
//!
//! Invariants:
//! - a row is in the transaction's runs before it leaves memory, and they are on its store's list before that;
//! - the committed version of a row that moved is in everybody's runs, and no other comes before the transaction ends;
//! - the ages of a key rise from layer to layer, or stay the same: what is found first, asking the latest layer first, is the newest;
//! - the runs have of every key, as of the mark of each open savepoint, what the transaction had moved of it there;
//! - a change that was brought back, or could not leave, is newer than what the runs have, also when it is a deletion.

use super::rising::Rise;
use super::{Txn, turn};
use crate::Row;
use crate::catalog::Table;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::locks::{Holder, Mode};
use crate::overlay::{Logged, Now, OwnWrites, Pending, Undo, Version};
use crate::runs::private::{Needed, PrivateRuns};
use crate::runs::stamp::Stamp;
use crate::runs::{RunRange, RunSet, Stored};
use crate::store::entry::RowEntry;
use crate::store::loads::Load;
use crate::store::{Growth, NEWEST, Store};
use scry_wal::{Lsn, Ordinal};
use smallvec::SmallVec;
use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

/// Rows that are written, or merged, before other tasks of the thread get their turn.
pub(super) const BATCH: usize = 2048;

/// Less than this part of what would be worth it is not moved: each run costs a lookup a filter.
pub(super) const WORTH: u64 = 4;

/// What a transaction has moved out of memory.
pub(crate) struct Moved {
    pub(super) load: Arc<Load>,
    pub(super) runs: PrivateRuns,
    /// By the number of the store in the overlay.
    counts: SmallVec<[Count; 2]>,
    /// Those that know of it.
    stores: SmallVec<[Arc<Store>; 2]>,
    /// What it inserts by rising keys.
    pub(super) rise: Rise,
}

/// Of one store, what is in the runs alone.
#[derive(Clone, Copy, Default)]
struct Count {
    /// Rows that were changed.
    rows: u64,
    growth: Growth,
}

impl Count {
    fn of(base: Option<&[u8]>, row: Option<&[u8]>) -> Count {
        Count {
            rows: u64::from(base.is_some() || row.is_some()),
            growth: Growth::of(base, row),
        }
    }

    fn add(&mut self, other: Count) {
        self.rows += other.rows;
        self.growth += other.growth;
    }

    fn take(&mut self, other: Count) {
        self.rows -= other.rows;
        self.growth -= other.growth;
    }
}

/// A row that is to move.
struct Leaving {
    slot: u32,
    age: Lsn,
    ordinal: Ordinal,
    /// `None`: it was deleted again.
    row: Option<Row>,
}

/// A row that moved as the transaction is to have it, also when that is what is committed: of one that it has not written, reads would ask its runs.
fn as_written(row: Option<Row>) -> Now {
    row.map_or(Now::Gone, Now::Row)
}

impl Moved {
    fn count(&mut self, store: u32) -> &mut Count {
        let index = store as usize;
        if self.counts.len() <= index {
            self.counts.resize(index + 1, Count::default());
        }
        &mut self.counts[index]
    }

    /// A row was inserted that is nowhere else.
    pub(super) fn count_inserted(&mut self, store: u32, row: &[u8]) {
        self.count(store).add(Count::of(None, Some(row)));
    }

    /// Has a store know of it.
    pub(super) fn enter(&mut self, store: &Arc<Store>) {
        if !self.is_known_to(store) {
            self.stores.push(Arc::clone(store));
        }
        store.loads.add(&self.load);
    }

    /// The same, once.
    pub(super) fn enlist(&mut self, store: &Arc<Store>) {
        if !self.is_known_to(store) {
            self.enter(store);
        }
    }

    fn is_known_to(&self, store: &Arc<Store>) -> bool {
        self.stores.iter().any(|known| Arc::ptr_eq(known, store))
    }
}

impl Txn {
    /// Before a row is written, when no other is half written: moves changes out of memory if they take too much.
    pub(crate) async fn move_if_large(&mut self) -> Result<(), Error> {
        let limit = self.engine.options.move_bytes;
        if self.overlay.total_bytes() < self.move_at.max(limit) || !self.may_move() {
            return Ok(());
        }
        if !self.overlay.is_clean() {
            self.engine.log().room().await?;
            self.spill()?;
        }
        let (leaving, bytes, waiting) = self.leaving();
        if bytes >= limit / WORTH {
            self.write_moved(&leaving).await?;
            self.leave(leaving);
            self.merge_moved().await?;
        }
        // Whatever stays is looked at again only when as much has come, and once more when the bound is close.
        let bound = self.engine.options.transaction_bytes_max;
        let (bytes, close) = (self.overlay.total_bytes(), bound.saturating_sub(limit / 8));
        let again = bytes.saturating_add(limit);
        self.move_at = if bytes < close { again.min(close) } else { again };
        if waiting >= limit / WORTH {
            self.engine.checkpoints.ask();
        }
        // Even one change that stays has the memory of its neighbours' places stay.
        let is_close = self.overlay.total_bytes() > bound / 2;
        if is_close && waiting > 0 && self.engine.checkpoints.next().await {
            self.move_at = 0;
        }
        Ok(())
    }

    pub(super) fn may_move(&self) -> bool {
        let is_plain = self.inside.is_none() && self.electing.is_none() && !self.fills;
        is_plain && !self.overlay.is_rekeyed() && !self.may_be_redefined() && self.holder.is_some()
    }

    /// What can move, in the order of spaces and keys; what it takes in memory; and what that takes which a checkpoint would let go.
    fn leaving(&self) -> (Vec<Leaving>, u64, u64) {
        let (mut leaving, mut bytes, mut waiting) = (Vec::new(), 0, 0);
        let undone: HashSet<u32> = self.overlay.undo.iter().map(Undo::slot).collect();
        for (slot, pending) in self.overlay.changes.numbered() {
            let Some(entry) = &pending.entry else { continue };
            let slot = u32::try_from(slot).expect("bounded by CHANGES_MAX");
            if pending.dirty || pending.covers || undone.contains(&slot) {
                continue;
            }
            let (row, local) = match (&pending.logged, pending.current_row()) {
                (Logged::Row { row, local }, Some(now)) if Arc::ptr_eq(row, now) => {
                    (Some(Arc::clone(row)), *local)
                }
                // Also where nothing is committed of the row: until the end nobody else may have the key.
                (Logged::Gone, None) => (None, 0),
                (Logged::Nothing, None) if matches!(pending.now, Now::Gone) && pending.base.is_none() => {
                    (None, 0)
                }
                _ => continue,
            };
            let state = entry.lock();
            if state.is_dirty() {
                waiting += pending.memory_bytes();
                continue;
            }
            // Who holds on to an entry, as a cursor does, would miss it.
            if !state.may_move_out() || Arc::strong_count(entry) > 2 {
                continue;
            }
            bytes += pending.memory_bytes();
            leaving.push(Leaving {
                slot,
                age: self.age(slot),
                ordinal: Ordinal::new(u64::from(local)),
                row,
            });
        }
        let place = |leaving: &Leaving| {
            let pending = self.overlay.get(leaving.slot);
            (self.overlay.store_of(pending).home.space, &pending.key)
        };
        leaving.sort_unstable_by(|one, other| place(one).cmp(&place(other)));
        (leaving, bytes, waiting)
    }

    /// Writes a layer, and lets it be known.
    async fn write_moved(&mut self, leaving: &[Leaving]) -> Result<(), Error> {
        self.end_tail()?;
        if self.moved.is_none() {
            let load = Arc::new(Load::default());
            let lock = Arc::clone(&load.lock);
            self.take_lock(&lock, Mode::Exclusive, "a new transaction")
                .await?;
            self.moved = Some(Box::new(Moved {
                load,
                runs: PrivateRuns::new(&self.engine.backing.runs),
                counts: SmallVec::new(),
                stores: SmallVec::new(),
                rise: Rise::default(),
            }));
        }
        let mut writer = self.engine.backing.runs.begin_private();
        for (number, batch) in leaving.chunks(BATCH).enumerate() {
            if number > 0 {
                turn().await;
            }
            for leaving in batch {
                let pending = self.overlay.get(leaving.slot);
                let space = self.overlay.store_of(pending).home.space;
                let stored = Stored {
                    lsn: leaving.age,
                    ordinal: leaving.ordinal,
                    row: leaving.row.clone(),
                };
                writer.add(space, &pending.key, &[stored])?;
            }
        }
        let Some(moved) = &mut self.moved else {
            return Ok(());
        };
        moved.runs.push(writer)?;
        moved.load.set_runs(moved.runs.set());
        for written in &self.overlay.stores {
            moved.enter(&written.store);
        }
        Ok(())
    }

    /// Takes out of memory what is in the runs.
    fn leave(&mut self, leaving: Vec<Leaving>) {
        let Some(moved) = &mut self.moved else { return };
        for Leaving { slot, row, .. } in leaving {
            let store = Arc::clone(self.overlay.store_of(self.overlay.get(slot)));
            let pending = &mut self.overlay.changes[slot as usize];
            let Some(entry) = &pending.entry else { continue };
            if store.move_out(&pending.key, entry) {
                let base = pending.base.as_ref().map(|base| &base.row[..]);
                moved.count(pending.store).add(Count::of(base, row.as_deref()));
                self.overlay.empty(slot);
            } else {
                // It stays what it is, over what the runs have.
                entry.lock().set_below();
                pending.moved = true;
            }
        }
        self.overlay.let_go(self.overlay.changes.len());
    }

    /// Keeps the number of layers small.
    pub(super) async fn merge_moved(&mut self) -> Result<(), Error> {
        let marks = self.marks();
        while let Some(moved) = &mut self.moved
            && let Some(mut merge) = moved.runs.begin_merge(Needed::At(marks.clone()))?
        {
            while merge.step(BATCH)? {
                turn().await;
            }
            moved.runs.end_merge(merge)?;
            moved.load.set_runs(moved.runs.set());
        }
        Ok(())
    }

    /// Completes rolling back to the last savepoint, `begin_rollback_to` having undone what never moved: has what moved be what it was there. What
    /// fails half done can be done again.
    pub(super) async fn undo_moved(&mut self) -> Result<(), Error> {
        self.end_tail()?;
        let (Some(moved), Some(savepoint)) = (&self.moved, self.last_savepoint()) else {
            return Ok(());
        };
        let (mark, first) = (Lsn::new(savepoint.mark), savepoint.changes);
        let all = moved.runs.by_age(None);
        // What is written from here on is younger than what is undone.
        self.begin_age();
        self.move_at = 0;
        for slot in first..self.overlay.next_slot() {
            if slot % BATCH as u32 == 0 {
                turn().await;
            }
            if self.brought_back(slot).is_none() {
                continue;
            }
            // This one may leave again as it is: then it is met below.
            self.make_room().await?;
            let Some(pending) = self.brought_back(slot) else {
                continue;
            };
            let space = self.overlay.store_of(pending).home.space;
            let then = match all.get(space, &pending.key, mark)? {
                Some(then) => then.row,
                None => pending.base.as_ref().map(|base| Row::clone(&base.row)),
            };
            if then.as_ref() != pending.current_row() {
                self.overlay.restore(slot, as_written(then));
            }
        }
        let Some(moved) = &self.moved else { return Ok(()) };
        let younger = moved.runs.by_age(Some(mark));
        if !younger.spaces().is_empty() {
            let stay = self.stores_that_stay();
            for (number, _) in stay.iter().enumerate().filter(|(_, stays)| **stays) {
                let store = Arc::clone(&self.overlay.stores[number].store);
                let number = u32::try_from(number).expect("one store for each table of a statement");
                self.undo_moved_of((&store, number), mark, (&all, &younger))
                    .await?;
            }
            self.renew_last_savepoint();
        }
        self.move_at = 0;
        self.room().await
    }

    /// A change in memory of which the runs have something, too.
    fn brought_back(&self, slot: u32) -> Option<&Pending> {
        let pending = self.overlay.changes.get(slot as usize);
        pending.filter(|pending| pending.moved)
    }

    /// For rows that are brought back one after the other: as many may be in memory, beyond the bound, as move together.
    async fn make_room(&mut self) -> Result<(), Error> {
        self.room().await?;
        let limit = self.engine.options.transaction_bytes_max;
        match self.overlay.total_bytes() > limit.saturating_add(self.engine.options.move_bytes) {
            true => Err(Error::TransactionTooLarge { limit }),
            false => Ok(()),
        }
    }

    /// What is in memory takes less than before: what has stayed is looked at earlier.
    pub(super) fn move_sooner(&mut self) {
        let bytes = self
            .overlay
            .total_bytes()
            .saturating_add(self.engine.options.move_bytes);
        self.move_at = self.move_at.min(bytes);
    }

    /// The same for the rows of one store that are not in memory: those that `younger` has something of.
    async fn undo_moved_of(
        &mut self,
        (store, number): (&Arc<Store>, u32),
        mark: Lsn,
        (all, younger): (&RunSet, &RunSet),
    ) -> Result<(), Error> {
        let (space, holder) = (store.home.space, self.holder());
        let mut range = RunRange::new(None, younger, space, &KeyRange::all(), Lsn::MAX)?;
        let mut walked = 0;
        while let Some((key, youngest)) = range.next()? {
            walked += 1;
            if walked % BATCH == 0 {
                turn().await;
            }
            if youngest.lsn <= mark {
                continue;
            }
            self.make_room().await?;
            if self.is_own(store, &key) {
                continue;
            }
            let Some(own) = self.moved_row(store, &key)? else {
                continue;
            };
            let then = match all.get(space, &key, mark)? {
                Some(then) => then.row,
                None => store.newest_below(&key)?.map(|base| base.row),
            };
            if then != own.row {
                let slot = self.put_back(store, number, &key, own, &holder)?;
                self.overlay.restore(slot, as_written(then));
            }
        }
        Ok(())
    }

    /// What it has moved, for its own reads.
    pub(crate) fn moved_rows(&mut self) -> Result<Option<Arc<RunSet>>, Error> {
        self.end_tail()?;
        Ok(self.moved.as_ref().map(|moved| moved.load.runs()))
    }

    /// What it has moved of a row. To be asked only for what is not in the overlay.
    pub(super) fn moved_row(&self, store: &Store, key: &[u8]) -> Result<Option<Stored>, Error> {
        match &self.moved {
            Some(moved) => moved.load.get(store.home.space, key),
            None => Ok(None),
        }
    }

    /// Has a row in memory that moved, and is not there, and answers it as the transaction sees it: `Some(None)` when it has deleted the row, which
    /// stays where it is. `None`: it has not moved.
    pub(super) fn bring_back(
        &mut self,
        table: &Table,
        store: u32,
        key: &[u8],
        holder: &Arc<Holder>,
    ) -> Result<Option<Option<Version>>, Error> {
        let Some(own) = self.moved_row(&table.store, key)? else {
            return Ok(None);
        };
        if own.row.is_none() {
            return Ok(Some(None));
        }
        let slot = self.put_back(&table.store, store, key, own, holder)?;
        Ok(Some(self.overlay.get(slot).current()))
    }

    /// Before a row is written that is locked: others may move out of memory, and this one is there.
    pub(crate) async fn begin_write(&mut self, table: &Table, key: &[u8]) -> Result<(), Error> {
        self.move_if_large().await?;
        if self.moved.is_none() || self.is_own(&table.store, key) {
            return Ok(());
        }
        let holder = self.holder();
        if let Some(store) = self.overlay.store_index(&table.store) {
            self.bring_back(table, store, key, &holder)?;
        }
        Ok(())
    }

    /// Makes a change of what moved of a row, deletion or not.
    pub(super) fn put_back(
        &mut self,
        store: &Store,
        number: u32,
        key: &[u8],
        stored: Stored,
        holder: &Arc<Holder>,
    ) -> Result<u32, Error> {
        let slot = self.overlay.next_slot();
        let key = Key::from_bytes(key);
        let below = store.read_below(&key, NEWEST)?;
        let base = below.clone().and_then(Stored::version);
        let (entry, is_new) = store.rows.get_or_insert_with(&key, || match below {
            Some(below) => {
                let entry = store.raise(&key, below);
                let mut state = entry.lock();
                state.set_owner(Arc::clone(holder), slot);
                state.ending = stored.row.is_none();
                drop(state);
                entry
            }
            None => {
                let entry = RowEntry::locked(Arc::clone(holder), slot);
                entry.lock().set_below();
                Arc::new(entry)
            }
        });
        assert!(is_new, "a row that moved out of memory is in memory");
        if let Some(moved) = &mut self.moved {
            let base = base.as_ref().map(|base| &base.row[..]);
            moved.count(number).take(Count::of(base, stored.row.as_deref()));
        }
        let local = u32::try_from(stored.ordinal.get()).expect("local indexes have 32 bits");
        self.overlay
            .put_back(number, key, entry, base, (stored.row, local));
        Ok(slot)
    }

    /// Brings back all rows of a table that moved.
    pub(super) async fn bring_all_back(&mut self, table: &Table) -> Result<(), Error> {
        let Some(store) = self.overlay.store_index(&table.store) else {
            return Ok(());
        };
        let holder = self.holder();
        let mut left = KeyRange::all();
        while let Some(rows) = self.next_moved(table, &left)? {
            for (key, stored) in rows {
                self.check_bounds()?;
                if !self.is_own(&table.store, &key) {
                    self.put_back(&table.store, store, &key, stored, &holder)?;
                }
                left.lower = Bound::Excluded(key);
            }
            turn().await;
        }
        Ok(())
    }

    /// The next rows of a table that moved, those that were brought back among them; `None`: there are no more.
    pub(crate) fn next_moved(
        &mut self,
        table: &Table,
        left: &KeyRange,
    ) -> Result<Option<Vec<(Key, Stored)>>, Error> {
        let Some(set) = self.moved_rows()? else {
            return Ok(None);
        };
        let mut range = RunRange::new(None, &set, table.store.home.space, left, Lsn::MAX)?;
        let mut rows = Vec::new();
        while rows.len() < BATCH
            && let Some(row) = range.next()?
        {
            rows.push(row);
        }
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// Whether a change in memory is about a row.
    pub(crate) fn is_own(&self, store: &Store, key: &[u8]) -> bool {
        let asked = store
            .rows
            .with(key, |entry| self.own_slot(&entry.lock()).is_some());
        asked.unwrap_or(false)
    }

    /// Adds the changes of a store that are in the runs alone.
    ///
    /// # Errors
    /// `TransactionTooLarge` when they are more than memory may have.
    pub(super) fn add_moved(&mut self, store: &Arc<Store>, writes: &mut OwnWrites) -> Result<(), Error> {
        let Some(set) = self.moved_rows()? else {
            return Ok(());
        };
        let limit = self.engine.options.transaction_bytes_max;
        let mut bytes = 0;
        let mut range = RunRange::new(None, &set, store.home.space, &KeyRange::all(), Lsn::MAX)?;
        while let Some((key, stored)) = range.next()? {
            if self.is_own(store, &key) {
                continue;
            }
            bytes += size_of::<Ordinal>() as u64 + stored.row.as_ref().map_or(0, |row| row.len() as u64);
            if bytes > limit {
                return Err(Error::TransactionTooLarge { limit });
            }
            let base = store.newest_below(&key)?;
            writes.hidden.extend(base.and_then(|base| base.ordinal));
            writes.rows.extend(stored.row);
        }
        Ok(())
    }

    /// How many changed rows of tables have moved.
    pub(super) fn moved_count(&self) -> u64 {
        let counts = self.moved.iter().flat_map(|moved| &moved.counts);
        let stores = self.overlay.stores.iter();
        let of_tables = stores
            .zip(counts)
            .filter(|(written, _)| !written.store.is_derived());
        of_tables.map(|(_, count)| count.rows).sum()
    }

    /// The stores of which rows have moved.
    pub(super) fn moved_stores(&self) -> impl Iterator<Item = &Arc<Store>> {
        self.moved.iter().flat_map(|moved| &moved.stores)
    }

    /// By how much what moved makes the stores grow, by their numbers in the overlay.
    pub(crate) fn add_moved_growth(&self, growths: &mut [Growth]) {
        let counts = self.moved.iter().flat_map(|moved| &moved.counts);
        for (growth, count) in growths.iter_mut().zip(counts) {
            *growth += count.growth;
        }
    }

    /// For the commit, before its critical section: the runs are where readers look. Answers what makes them visible.
    pub(crate) fn hand_over_moved(&mut self) -> Option<Arc<Stamp>> {
        self.moved.as_mut().map(|moved| moved.runs.hand_over())
    }

    /// The log refused the commit.
    pub(crate) fn take_moved_back(&mut self) {
        if let Some(moved) = &mut self.moved {
            moved.runs.take_back();
        }
    }

    /// The transaction has ended: committed, its rows are found in the runs, else they are gone. Its lock goes with those of tables.
    pub(crate) fn end_moved(&mut self) {
        if let Some(moved) = self.moved.take() {
            for store in &moved.stores {
                store.loads.remove(&moved.load);
            }
        }
    }

    /// Waits until a transaction has ended that has moved a row out of memory.
    pub(super) async fn wait_for_load(&mut self, table: &Table, load: &Load) -> Result<(), Error> {
        self.acquire(&load.lock, Mode::Shared, &table.def.name).await?;
        let holder = self.holder();
        self.engine.waits.release_table(&load.lock, &holder);
        Ok(())
    }
}
