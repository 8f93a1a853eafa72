//! An open transaction's changes, private until it commits.
//!
//! Changes stand in the order in which the transaction first touched the rows; a change's place is its *slot*. The
//! way from a key to its change leads through the memtable: the transaction owns the row's lock, and the entry
//! says the owner's slot. So reading one's own writes costs one comparison of pointers in a lookup that is made
//! anyway, and scans merge them without a second ordered map.
//!
//! Each change is *net*: what the transaction found (`base`), what it means to leave (`now`), and what the log
//! already has of it (`logged`). A record is written for the difference between what is logged and `now`. That makes
//! insert-then-update one insert, delete-then-insert one update, and lets a transaction that wrote ahead into the
//! log roll back to a savepoint without a record of its own: the next difference leads back.
//!
//! Invariants:
//! - a change with an entry owns that row's lock, and the entry's slot is the change's place;
//! - local indexes count the inserts and updates of one store in record order, across everything logged so far;
//! - `dirty` lists exactly the slots whose `dirty` flag is set.

use crate::Row;
use crate::changes::Changes;
use crate::key::Key;
use crate::row::RowLayout;
use crate::store::Store;
use crate::store::entry::RowEntry;
use scry_wal::{Change, Ended, Lsn, Op, Ordinal, RecordError, StoreId, TentativeId};
use smallvec::SmallVec;
use std::sync::Arc;

/// What a change costs in memory beside its key and row: its slot, its entry, its version.
const CHANGE_OVERHEAD_BYTES: usize = 256;

/// What is left of a change that was moved out of memory, or given up, until all of its chunk were.
const EMPTY_BYTES: u64 = size_of::<Pending>() as u64;

/// What a record has beside key and rows, about.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 48;

/// One version of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The commit that made it; `Lsn::ZERO` for the transaction's own uncommitted write.
    pub lsn: Lsn,
    /// `None` for the transaction's own uncommitted write.
    pub ordinal: Option<Ordinal>,
    pub row: Row,
}

/// What the transaction made of a row.
#[derive(Clone, Debug)]
pub(crate) enum Now {
    /// Locked, not written.
    Untouched,
    Row(Row),
    Gone,
}

impl Now {
    fn row_bytes(&self) -> usize {
        match self {
            Now::Row(row) => row.len(),
            Now::Gone | Now::Untouched => 0,
        }
    }
}

/// What the log has of a change, written ahead of the commit.
#[derive(Clone, Debug)]
pub(crate) enum Logged {
    Nothing,
    Row { row: Row, local: u32 },
    Gone,
}

/// One row that the transaction has locked.
pub(crate) struct Pending {
    /// Index into `Overlay::stores`.
    pub(crate) store: u32,
    pub(crate) key: Key,
    /// `None` once the lock was given back.
    pub(crate) entry: Option<Arc<RowEntry>>,
    /// The committed row under the lock.
    pub(crate) base: Option<Version>,
    pub(crate) now: Now,
    pub(crate) logged: Logged,
    pub(crate) dirty: bool,
    /// Its part of `Overlay::unlogged_bytes`, while dirty.
    counted_bytes: usize,
    /// Its version is on the chain, pending.
    pub(crate) installed: bool,
    /// The transaction's own runs have something of the row: see `crate::txn::moved`.
    pub(crate) moved: bool,
    /// It is over a row that was deleted, which the transaction's snapshot sees without it: it stays in memory.
    pub(crate) covers: bool,
}

/// A store in which the transaction locked rows.
pub(crate) struct WrittenStore {
    pub(crate) store: Arc<Store>,
    /// Of its rows, as the transaction's catalog has the table.
    layout: Arc<RowLayout>,
}

/// How many versions of a store the transaction has logged; also names the stores of its records.
#[derive(Clone, Copy)]
pub(crate) struct Appended {
    pub(crate) store: StoreId,
    pub(crate) count: u32,
}

/// How to undo one step, back to a savepoint.
pub(crate) enum Undo {
    Now {
        slot: u32,
        now: Now,
    },
    /// ALTER TABLE … ADD PRIMARY KEY moved the change to another store object.
    Rekeyed {
        slot: u32,
        store: u32,
        key: Key,
        entry: Option<Arc<RowEntry>>,
    },
}

impl Undo {
    fn memory_bytes(&self) -> u64 {
        let held = match self {
            Undo::Now { now, .. } => now.row_bytes(),
            Undo::Rekeyed { key, .. } => key.len(),
        };
        (size_of::<Undo>() + held) as u64
    }

    pub(crate) fn slot(&self) -> u32 {
        match self {
            Undo::Now { slot, .. } | Undo::Rekeyed { slot, .. } => *slot,
        }
    }
}

/// Rows that a transaction changed in one store, to be laid over a columnar snapshot.
#[derive(Clone, Debug, Default)]
pub struct OwnWrites {
    /// Ordinals of committed versions that this transaction ends.
    pub hidden: Vec<Ordinal>,
    /// The rows that it means to leave.
    pub rows: Vec<Row>,
}

#[derive(Default)]
pub(crate) struct Overlay {
    pub(crate) changes: Changes,
    pub(crate) stores: SmallVec<[WrittenStore; 2]>,
    pub(crate) appended: SmallVec<[Appended; 4]>,
    pub(crate) undo: Vec<Undo>,
    /// The places of those steps that lead back to another store, ascending.
    rekeyed: Vec<usize>,
    dirty: Vec<u32>,
    unlogged_bytes: usize,
    /// What `Pending::memory_bytes` says of each change, and `Undo::memory_bytes` of each step.
    total_bytes: u64,
    writes: u64,
}

/// What an `encode` moved, so that it can be taken back when the log has no place for the records.
#[derive(Default)]
pub(crate) struct Journal {
    /// Changes and what the log had of them before.
    moved: Vec<(u32, Logged)>,
    /// Versions logged before, by store.
    appended: SmallVec<[Appended; 4]>,
}

/// A record to be written.
struct Delta<'a> {
    op: Op,
    ended: Ended,
    old: Option<&'a Row>,
    new: Option<&'a Row>,
}

impl Pending {
    pub(crate) fn locked(
        store: u32,
        key: Key,
        entry: Arc<RowEntry>,
        base: Option<Version>,
        now: Now,
    ) -> Pending {
        Pending {
            store,
            key,
            entry: Some(entry),
            base,
            now,
            logged: Logged::Nothing,
            dirty: false,
            counted_bytes: 0,
            installed: false,
            moved: false,
            covers: false,
        }
    }

    /// A row that is inserted; it `covers` one that the snapshot may see.
    pub(crate) fn inserted(store: u32, key: Key, entry: Arc<RowEntry>, row: Row, covers: bool) -> Pending {
        Pending {
            covers,
            ..Pending::locked(store, key, entry, None, Now::Row(row))
        }
    }

    /// Has it say nothing of any row; answers of which it was.
    fn clear(&mut self) -> (Key, Option<Arc<RowEntry>>) {
        (self.now, self.logged, self.base) = (Now::Untouched, Logged::Nothing, None);
        (self.moved, self.covers) = (false, false);
        (std::mem::take(&mut self.key), self.entry.take())
    }

    /// What the change takes in memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match self.is_void() {
            true => EMPTY_BYTES,
            false => (CHANGE_OVERHEAD_BYTES + self.key.len() + self.now.row_bytes()) as u64,
        }
    }

    /// Has another content, and answers the one before. Those who mean to insert the key wait while the transaction means to delete the row, and
    /// only then.
    pub(crate) fn set_now(&mut self, now: Now) -> Now {
        let before = std::mem::replace(&mut self.now, now);
        let is_ending = matches!(self.now, Now::Gone);
        if let Some(entry) = &self.entry
            && is_ending != matches!(before, Now::Gone)
        {
            entry.lock().ending = is_ending;
        }
        before
    }

    /// Whether it says nothing of any row.
    fn is_void(&self) -> bool {
        self.entry.is_none() && matches!((&self.now, &self.logged), (Now::Untouched, Logged::Nothing))
    }

    /// Whether nothing is left of it, here or on the list of what the log lacks.
    fn is_gone(&self) -> bool {
        self.is_void() && !self.dirty
    }

    /// The row as the transaction sees it.
    pub(crate) fn current(&self) -> Option<Version> {
        match &self.now {
            Now::Untouched => self.base.clone(),
            Now::Row(row) => Some(Version {
                lsn: Lsn::ZERO,
                ordinal: None,
                row: Arc::clone(row),
            }),
            Now::Gone => None,
        }
    }

    pub(crate) fn current_row(&self) -> Option<&Row> {
        match &self.now {
            Now::Untouched => self.base.as_ref().map(|base| &base.row),
            Now::Row(row) => Some(row),
            Now::Gone => None,
        }
    }

    fn delta(&self) -> Option<Delta<'_>> {
        let new = self.current_row();
        let (ended, old) = match &self.logged {
            Logged::Nothing => match (&self.base, &self.now) {
                (_, Now::Untouched) => return None,
                (Some(base), _) => (Ended::Ordinal(base.ordinal.unwrap_or_default()), Some(&base.row)),
                (None, _) => (Ended::None, None),
            },
            Logged::Row { row, local } => {
                if new.is_some_and(|new| Arc::ptr_eq(new, row)) {
                    return None;
                }
                (Ended::Own(*local), Some(row))
            }
            Logged::Gone => (Ended::None, None),
        };
        let op = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => Op::Insert,
            (Some(_), Some(_)) => Op::Update,
            (Some(_), None) => Op::Delete,
        };
        Some(Delta { op, ended, old, new })
    }

    /// At most what the record of this change takes in the log.
    fn record_bytes(&self) -> usize {
        let old = match &self.logged {
            Logged::Nothing => self.base.as_ref().map_or(0, |base| base.row.len()),
            Logged::Row { row, .. } => row.len(),
            Logged::Gone => 0,
        };
        self.key.len() + old + self.current_row().map_or(0, |row| row.len()) + RECORD_OVERHEAD_BYTES
    }
}

/// What the log has of a store.
fn appended_of(all: &mut SmallVec<[Appended; 4]>, store: StoreId) -> &mut Appended {
    let known = all.iter().position(|appended| appended.store == store);
    let index = known.unwrap_or(all.len());
    if known.is_none() {
        all.push(Appended { store, count: 0 });
    }
    &mut all[index]
}

impl Overlay {
    pub(crate) fn next_slot(&self) -> u32 {
        u32::try_from(self.changes.len()).expect("bounded by CHANGES_MAX")
    }

    /// The number of this store object in the transaction, if it has one.
    pub(crate) fn store_index(&self, store: &Arc<Store>) -> Option<u32> {
        let index = self
            .stores
            .iter()
            .position(|written| Arc::ptr_eq(&written.store, store))?;
        u32::try_from(index).ok()
    }

    pub(crate) fn add_store(&mut self, store: &Arc<Store>, layout: &Arc<RowLayout>) -> u32 {
        self.stores.push(WrittenStore {
            store: Arc::clone(store),
            layout: Arc::clone(layout),
        });
        u32::try_from(self.stores.len() - 1).expect("one store for each table of a statement")
    }

    /// The table of a store has other columns now.
    pub(crate) fn set_layout(&mut self, store: &Arc<Store>, layout: &Arc<RowLayout>) {
        for written in self
            .stores
            .iter_mut()
            .filter(|written| Arc::ptr_eq(&written.store, store))
        {
            written.layout = Arc::clone(layout);
        }
    }

    pub(crate) fn store_of(&self, pending: &Pending) -> &Arc<Store> {
        &self.stores[pending.store as usize].store
    }

    pub(crate) fn get(&self, slot: u32) -> &Pending {
        &self.changes[slot as usize]
    }

    /// Adds a row that was just locked, at `next_slot`.
    pub(crate) fn push(&mut self, pending: Pending) {
        let slot = self.next_slot();
        let written = !matches!(pending.now, Now::Untouched);
        self.total_bytes += pending.memory_bytes();
        self.changes.push(pending);
        if written {
            self.writes += 1;
            self.mark(slot);
        }
    }

    /// Adds a row that was moved out of memory and is brought back, as the log has it; at `next_slot`.
    pub(crate) fn put_back(
        &mut self,
        store: u32,
        key: Key,
        entry: Arc<RowEntry>,
        base: Option<Version>,
        (row, local): (Option<Row>, u32),
    ) {
        let now = row.clone().map_or(Now::Gone, Now::Row);
        let mut pending = Pending::locked(store, key, entry, base, now);
        pending.logged = match &row {
            Some(row) => Logged::Row {
                row: Arc::clone(row),
                local,
            },
            None => Logged::Gone,
        };
        pending.moved = true;
        self.total_bytes += pending.memory_bytes();
        self.changes.push(pending);
    }

    /// A change was moved out of memory: only its number is left.
    pub(crate) fn empty(&mut self, slot: u32) {
        self.with(slot, |pending| drop(pending.clear()));
    }

    /// Gives up a change of which the log has nothing, or of whose store it has nothing that counts. Answers whose lock is to be given back: the
    /// number of the store, the key and the entry.
    pub(crate) fn give_up(&mut self, slot: u32) -> Option<(u32, Key, Arc<RowEntry>)> {
        let (store, key, entry) = self.with(slot, |pending| {
            pending.set_now(Now::Untouched);
            let (key, entry) = pending.clear();
            (pending.store, key, entry)
        });
        if slot + 1 == self.next_slot() {
            self.changes.pop();
            self.count(EMPTY_BYTES, 0);
        }
        Some((store, key, entry?))
    }

    /// Does something to a change, and counts what it takes then.
    fn with<T>(&mut self, slot: u32, make: impl FnOnce(&mut Pending) -> T) -> T {
        let pending = &mut self.changes[slot as usize];
        let before = pending.memory_bytes();
        let made = make(pending);
        let after = pending.memory_bytes();
        self.count(before, after);
        made
    }

    /// What took so many bytes takes so many now.
    fn count(&mut self, before: u64, after: u64) {
        debug_assert!(self.total_bytes >= before, "more is taken away than was counted");
        self.total_bytes = (self.total_bytes + after).saturating_sub(before);
    }

    /// Lets go of numbers below one, as far as nothing is left of their changes.
    pub(crate) fn let_go(&mut self, below: usize) {
        let count = self.changes.let_go(below, Pending::is_gone);
        self.count(count as u64 * EMPTY_BYTES, 0);
    }

    /// Makes of a row what it was before, with no step that leads back.
    pub(crate) fn restore(&mut self, slot: u32, now: Now) {
        self.with(slot, |pending| pending.set_now(now));
        self.mark(slot);
    }

    /// Undoes the last step, if there is one.
    pub(crate) fn undo_last(&mut self) {
        let Some(undo) = self.undo.pop() else { return };
        self.count(undo.memory_bytes(), 0);
        match undo {
            Undo::Now { slot, now } => self.restore(slot, now),
            Undo::Rekeyed {
                slot,
                store,
                key,
                entry,
            } => {
                self.rekeyed.pop();
                self.with(slot, |pending| {
                    (pending.store, pending.key, pending.entry) = (store, key, entry);
                });
            }
        }
    }

    /// Forgets those of the steps from a place on that nobody can go back: of changes from a number on. Which locks the transaction has is kept.
    pub(crate) fn forget_undo(&mut self, from: usize, slots: u32) {
        let last = self.undo.split_off(from);
        self.rekeyed
            .truncate(self.rekeyed.partition_point(|place| *place < from));
        let forgotten: u64 = last.iter().map(Undo::memory_bytes).sum();
        self.count(forgotten, 0);
        for undo in last {
            if undo.slot() < slots || matches!(undo, Undo::Rekeyed { .. }) {
                self.push_undo(undo);
            }
        }
    }

    /// Changes what the transaction makes of a row. Rows at or beyond slot `undo_below` are younger than the
    /// innermost savepoint and need no undo.
    pub(crate) fn write(&mut self, slot: u32, now: Now, undo_below: u32) {
        self.writes += 1;
        let before = self.with(slot, |pending| pending.set_now(now));
        if slot < undo_below {
            self.push_undo(Undo::Now { slot, now: before });
        }
        self.mark(slot);
    }

    fn push_undo(&mut self, undo: Undo) {
        self.count(0, undo.memory_bytes());
        if let Undo::Rekeyed { .. } = undo {
            self.rekeyed.push(self.undo.len());
        }
        self.undo.push(undo);
    }

    /// A change is of another store from here on, under another key and entry.
    pub(crate) fn rekey(&mut self, slot: u32, (store, key, entry): (u32, Key, Arc<RowEntry>)) {
        let undo = self.with(slot, |pending| Undo::Rekeyed {
            slot,
            store: std::mem::replace(&mut pending.store, store),
            key: std::mem::replace(&mut pending.key, key),
            entry: pending.entry.replace(entry),
        });
        self.push_undo(undo);
    }

    /// Whether a change has gone to another store, and was not undone.
    pub(crate) fn is_rekeyed(&self) -> bool {
        !self.rekeyed.is_empty()
    }

    /// Whether one has since there were so many steps.
    pub(crate) fn is_rekeyed_since(&self, steps: usize) -> bool {
        self.rekeyed.last().is_some_and(|place| *place >= steps)
    }

    /// Notes that a change may differ from what the log has.
    pub(crate) fn mark(&mut self, slot: u32) {
        let pending = &mut self.changes[slot as usize];
        if !pending.dirty {
            pending.dirty = true;
            self.dirty.push(slot);
        }
        let bytes = pending.record_bytes();
        self.unlogged_bytes -= std::mem::replace(&mut pending.counted_bytes, bytes);
        self.unlogged_bytes += bytes;
    }

    /// The change that was written last but for those of indexes, which is in `slot`, needs no record: the log has it, in a branch, under a
    /// local index.
    pub(crate) fn adopt_last(&mut self, slot: u32, local: u32) {
        let pending = &mut self.changes[slot as usize];
        // Behind it are rows of indexes.
        let place = self.dirty.iter().rposition(|dirty| *dirty == slot);
        self.dirty.remove(place.expect("it was written"));
        pending.dirty = false;
        self.unlogged_bytes -= std::mem::take(&mut pending.counted_bytes);
        pending.logged = match &pending.now {
            Now::Row(row) => Logged::Row {
                row: Arc::clone(row),
                local,
            },
            Now::Gone | Now::Untouched => Logged::Gone,
        };
    }

    /// All local indexes of a store below `count` are taken by a branch.
    pub(crate) fn adopt(&mut self, store: StoreId, count: u32) {
        debug_assert!(self.appended.iter().all(|appended| appended.store != store));
        self.appended.push(Appended { store, count });
    }

    pub(crate) fn unlogged_bytes(&self) -> usize {
        self.unlogged_bytes
    }

    /// Memory that the changes take, roughly; never less than their rows and keys.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How often a row was written, undone or not.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// A row was written that is not among the changes.
    pub(crate) fn count_write(&mut self) {
        self.writes += 1;
    }

    /// The number that the next version of a store has in the log, of all that the transaction logs.
    pub(crate) fn next_local(&mut self, store: StoreId) -> &mut u32 {
        &mut appended_of(&mut self.appended, store).count
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// After changes at the end were taken away: forgets their slots.
    pub(crate) fn forget_dirty_beyond_end(&mut self) {
        let (changes, dirty) = (&self.changes, &mut self.dirty);
        dirty.retain(|slot| (*slot as usize) < changes.len());
        self.unlogged_bytes = dirty
            .iter()
            .map(|slot| changes[*slot as usize].counted_bytes)
            .sum();
    }

    /// Notes every change that differs from what the log has. For when stores came back: changes of a store that was
    /// not live were passed over.
    pub(crate) fn mark_all(&mut self) {
        for slot in 0..self.next_slot() {
            let Some(pending) = self.changes.get(slot as usize) else {
                continue;
            };
            if !pending.dirty && pending.delta().is_some() {
                self.mark(slot);
            }
        }
    }

    /// Encodes what is not in the log yet, oldest touch first, until `out` holds at least `enough` bytes. Answers
    /// the number of records. Changes of stores that are not `live` (by number) are passed over: nobody
    /// will ever look for them, unless a rollback to a savepoint brings the store back (`mark_all`). Those of indexes have no records: they
    /// count as logged with the others.
    ///
    /// With a `journal`, an empty one, all of it can be taken back.
    pub(crate) fn encode(
        &mut self,
        out: &mut Vec<u8>,
        enough: usize,
        tentative: Option<TentativeId>,
        live: &[bool],
        mut journal: Option<&mut Journal>,
    ) -> Result<u32, RecordError> {
        if let Some(journal) = &mut journal {
            journal.appended.clone_from(&self.appended);
        }
        let mut records = 0;
        let mut done = 0;
        let mut failed = None;
        for slot in &self.dirty {
            if out.len() >= enough {
                break;
            }
            done += 1;
            let pending = &mut self.changes[*slot as usize];
            pending.dirty = false;
            self.unlogged_bytes -= std::mem::take(&mut pending.counted_bytes);
            let WrittenStore { store, layout } = &self.stores[pending.store as usize];
            let Some(delta) = pending.delta() else { continue };
            if store.is_derived() {
                let logged = match delta.new {
                    Some(row) => Logged::Row {
                        row: Arc::clone(row),
                        local: 0,
                    },
                    None => Logged::Gone,
                };
                let before = std::mem::replace(&mut pending.logged, logged);
                if let Some(journal) = &mut journal {
                    journal.moved.push((*slot, before));
                }
                continue;
            }
            if !live[pending.store as usize] {
                continue;
            }
            let appended = appended_of(&mut self.appended, store.id);
            let changed;
            let before: &[u8] = match (delta.old, delta.new) {
                (Some(old), Some(new)) => {
                    changed = layout.encode_before(old, new);
                    &changed
                }
                (Some(old), None) => old,
                (None, _) => &[],
            };
            let after: &[u8] = delta.new.map_or(&[], |row| row);
            let key = pending.key.as_ref();
            let change = Change {
                store: store.id,
                op: delta.op,
                key,
                ended: delta.ended,
                before,
                after,
            };
            let encoded = match tentative {
                Some(id) => scry_wal::record::encode_tentative(out, id, &change),
                None => scry_wal::record::encode_change(out, &change),
            };
            if let Err(error) = encoded {
                failed = Some((*slot, error));
                break;
            }
            records += 1;
            let logged = match delta.new {
                Some(row) => {
                    let local = appended.count;
                    appended.count += 1;
                    Logged::Row {
                        row: Arc::clone(row),
                        local,
                    }
                }
                None => Logged::Gone,
            };
            let before = std::mem::replace(&mut pending.logged, logged);
            if let Some(journal) = &mut journal {
                journal.moved.push((*slot, before));
            }
        }
        self.dirty.drain(..done);
        match failed {
            Some((slot, error)) => {
                self.mark(slot);
                Err(error)
            }
            None => Ok(records),
        }
    }

    /// The log refused the records of an `encode`: they were never written.
    pub(crate) fn take_back(&mut self, journal: Journal) {
        for (slot, logged) in journal.moved.into_iter().rev() {
            self.changes[slot as usize].logged = logged;
            self.mark(slot);
        }
        self.appended = journal.appended;
    }

    /// What the transaction changed in one store.
    pub(crate) fn own_writes(&self, store: StoreId) -> OwnWrites {
        let mut own = OwnWrites::default();
        for pending in self.changes.iter() {
            if matches!(pending.now, Now::Untouched) || self.store_of(pending).id != store {
                continue;
            }
            own.hidden
                .extend(pending.base.as_ref().and_then(|base| base.ordinal));
            own.rows.extend(pending.current_row().cloned());
        }
        own
    }
}
