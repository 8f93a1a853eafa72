//! Transactions.
//!
//! A transaction reads at a snapshot, an LSN, and writes into its overlay. It gets a number (and with it an identity
//! that others can wait for) only when it first locks something; a transaction that only reads costs a store to
//! its session's slot and a few loads.
//!
//! READ COMMITTED takes a snapshot for each statement and, where it has to wait for a row, goes on with the newest
//! committed version. REPEATABLE READ keeps the snapshot of its first statement and fails where it would have to
//! overwrite something newer. SERIALIZABLE does the same, notes what it reads, and fails at its commit when a later commit
//! wrote there (`crate::serial`).
//!
//! Locks of a commit are given back before the commit is durable. So every read notes the highest LSN that it
//! depends on, and the caller holds the answer back until that LSN is durable.
//!
//! Invariants:
//! - the slot holds the snapshot for as long as the transaction reads at it;
//! - every future here can be dropped at any await: what was granted meanwhile passes on, nothing is half done, but for a rollback to a savepoint, which
//!   can be done again;
//! - after commit, rollback or drop the transaction holds no lock.

mod candidate;
mod ddl;
mod lookups;
mod moved;
mod reads;
mod rising;
mod rows;
mod savepoints;
mod scan;
mod sequences;
mod share;
mod spill;
mod turn;

pub(crate) use candidate::Inside;
pub use lookups::Lookups;
pub use rows::InsertOutcome;
pub use savepoints::{SAVEPOINTS_MAX, SavepointId};
pub use scan::ScanCursor;
pub(crate) use share::Kept;
pub(crate) use turn::turn;

use crate::catalog::{AppliedChange, Catalog, Table};
use crate::election::Electing;
use crate::engine::{Engine, SessionInfo};
use crate::error::Error;
use crate::key::Key;
use crate::locks::{Holder, Mode, Outcome, Request, RowRef, TableLock};
use crate::overlay::{Now, Overlay, OwnWrites, Pending};
use crate::serial::Reads;
use crate::snapshots::Slot;
use crate::store::entry::RowEntry;
use scry_wal::{Lsn, StoreId, TentativeId, TxnId};
use smallvec::SmallVec;
use std::sync::Arc;

/// What a transaction sees of others' commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// The whole transaction sees what was committed before its first statement began.
    RepeatableRead,
    /// The same; and it commits only if all that it read is still so. What it does is then as if the transactions of
    /// this level had run one after the other.
    Serializable,
}

impl Isolation {
    /// Whether the whole transaction reads at one snapshot.
    pub fn keeps_snapshot(self) -> bool {
        self != Isolation::ReadCommitted
    }
}

/// The most rows that one transaction can touch: slots and local indexes have 32 bits.
pub const CHANGES_MAX: u32 = u32::MAX - 1;

/// The LSN of what a transaction has changed in its own catalog only.
pub(crate) const PRIVATE: Lsn = Lsn::MAX;

/// A transaction. Dropping an unfinished one rolls it back.
pub struct Txn {
    pub(crate) engine: Arc<Engine>,
    slot: Arc<Slot>,
    pub(crate) info: Arc<SessionInfo>,
    isolation: Isolation,
    /// Whether a statement has begun: REPEATABLE READ takes its snapshot at the first one.
    begun: bool,
    /// Whether it reads at an LSN of the past, with the catalog of then.
    is_past: bool,
    /// Rows below this slot were locked by earlier statements.
    statement_slots: u32,
    snapshot: Lsn,
    depends_on: Lsn,
    catalog_lsn: Lsn,
    /// As of the snapshot, with the transaction's own changes.
    catalog: Arc<Catalog>,
    holder: Option<Arc<Holder>>,
    pub(crate) overlay: Overlay,
    pub(crate) ddl: Vec<AppliedChange>,
    /// Whether `ddl` ever had anything: what was written ahead may name stores that were rolled back since.
    had_ddl: bool,
    /// Whether it has filled a store from another: see `Checkpoints::ask`.
    pub(crate) has_filled: bool,
    /// Whether rows of indexes are all that it writes: its commit stands in the log without any change.
    pub(crate) fills: bool,
    table_locks: SmallVec<[(Arc<TableLock>, Mode); 4]>,
    shared: share::Shared,
    /// The locks of keys that it refers to, or ends.
    held_keys: share::Shared,
    savepoints: Vec<savepoints::Savepoint>,
    next_savepoint: u64,
    /// What it has moved out of memory.
    moved: Option<Box<moved::Moved>>,
    /// Not before its changes take so much are more of them moved.
    move_at: u64,
    /// Set once changes were written ahead.
    pub(crate) tentative: Option<TentativeId>,
    finished: bool,
    /// The candidate that it works in.
    pub(crate) inside: Option<Inside>,
    /// The candidate that it elects.
    pub(crate) electing: Option<Electing>,
    /// A change is being made that counts as logged: nothing is written ahead before it does.
    pub(crate) adopting: bool,
    /// Under SERIALIZABLE, what it has read.
    reads: Option<Box<Reads>>,
    /// No commit after the snapshot and up to here wrote what was read.
    validated: Lsn,
}

impl Txn {
    pub(crate) fn begin(
        engine: Arc<Engine>,
        slot: Arc<Slot>,
        info: Arc<SessionInfo>,
        isolation: Isolation,
        catalog: (Lsn, Arc<Catalog>),
    ) -> Txn {
        // Before the snapshot: the ring must have all that the snapshot does not see.
        let watch = (isolation == Isolation::Serializable).then(|| engine.serial.watch());
        let snapshot = engine.snapshots.take(&slot);
        let mut txn = Txn::new(engine, slot, info, isolation, snapshot, catalog);
        txn.reads = watch.map(|watch| Box::new(Reads::new(watch)));
        txn.follow_catalog();
        txn
    }

    /// A transaction that reads the state at `at`, which its slot holds already.
    pub(crate) fn begin_at(
        engine: Arc<Engine>,
        slot: Arc<Slot>,
        info: Arc<SessionInfo>,
        at: Lsn,
        catalog: (Lsn, Arc<Catalog>),
    ) -> Txn {
        let mut txn = Txn::new(engine, slot, info, Isolation::RepeatableRead, at, catalog);
        txn.begun = true;
        txn.is_past = true;
        txn.depends_on = txn.catalog_lsn;
        txn
    }

    fn new(
        engine: Arc<Engine>,
        slot: Arc<Slot>,
        info: Arc<SessionInfo>,
        isolation: Isolation,
        snapshot: Lsn,
        (catalog_lsn, catalog): (Lsn, Arc<Catalog>),
    ) -> Txn {
        Txn {
            engine,
            slot,
            info,
            isolation,
            begun: false,
            is_past: false,
            statement_slots: 0,
            snapshot,
            depends_on: Lsn::ZERO,
            catalog_lsn,
            catalog,
            holder: None,
            overlay: Overlay::default(),
            ddl: Vec::new(),
            had_ddl: false,
            has_filled: false,
            fills: false,
            table_locks: SmallVec::new(),
            shared: share::Shared::new(),
            held_keys: share::Shared::new(),
            savepoints: Vec::new(),
            next_savepoint: 0,
            moved: None,
            move_at: 0,
            tentative: None,
            finished: false,
            inside: None,
            electing: None,
            adopting: false,
            reads: None,
            validated: Lsn::ZERO,
        }
    }

    /// Whether it reads the past, and can write nothing.
    pub fn is_past(&self) -> bool {
        self.is_past
    }

    /// The transaction's number, once it has locked or written something.
    pub fn id(&self) -> Option<TxnId> {
        self.holder.as_ref().map(|holder| holder.id())
    }

    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// To be called at the start of each statement: under READ COMMITTED, and at the first statement, it takes
    /// a fresh snapshot.
    pub fn statement(&mut self) {
        self.statement_slots = self.overlay.next_slot();
        if !self.isolation.keeps_snapshot() || !self.begun {
            self.begun = true;
            self.renew_snapshot();
        }
    }

    /// To be called when a READ COMMITTED transaction waits for its client between statements: lets go of the
    /// snapshot, so that it does not hold old versions in memory. Nothing may be read until `statement`.
    pub fn rest(&mut self) {
        if self.isolation == Isolation::ReadCommitted {
            self.slot.release();
        }
    }

    /// Brings the catalog to the snapshot.
    fn follow_catalog(&mut self) {
        if !self.is_past && self.engine.catalogs.lsn() != self.catalog_lsn {
            let (lsn, catalog) = self.engine.catalogs.at(self.snapshot);
            if lsn != self.catalog_lsn {
                self.catalog_lsn = lsn;
                self.catalog = catalog;
                if !self.ddl.is_empty() {
                    self.rebuild_catalog();
                }
                self.enter_base();
            }
        }
        self.depends_on = self.depends_on.max(self.catalog_lsn);
    }

    /// Inside of a candidate the tables are those of its base.
    pub(super) fn enter_base(&mut self) {
        if let Some(inside) = &self.inside {
            self.catalog = Arc::new(inside.catalog(&self.catalog));
        }
    }

    /// Lays the transaction's own DDL over the committed catalog. Where another commit took a name that this
    /// transaction also gave, the other's table is seen; the commit will be refused.
    fn rebuild_catalog(&mut self) {
        let (_, committed) = self.engine.catalogs.at(self.snapshot);
        self.catalog = match committed.with(PRIVATE, &self.ddl) {
            Ok(catalog) => Arc::new(catalog),
            Err(_) => committed,
        };
        self.enter_base();
    }

    /// The LSN that the current statement reads at.
    pub fn snapshot(&self) -> Lsn {
        self.snapshot
    }

    /// The catalog as of the snapshot, with the transaction's own changes.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The highest LSN of everything read, locked or ended so far. No answer may leave before the log is durable
    /// beyond it.
    pub fn depends_on(&self) -> Lsn {
        self.depends_on
    }

    /// Whether the transaction has changed anything that a commit would log.
    pub fn has_writes(&self) -> bool {
        !self.overlay.is_clean() || self.tentative.is_some() || !self.ddl.is_empty()
    }

    /// How often it has written a row so far, undone or not: what has not grown, has written nothing.
    pub fn row_writes(&self) -> u64 {
        self.overlay.writes()
    }

    /// How many rows it has changed so far.
    pub fn changed_rows(&self) -> u64 {
        let changed = self.overlay.changes.iter().filter(|pending| match pending.now {
            _ if self.overlay.store_of(pending).is_derived() => false,
            Now::Untouched => false,
            Now::Gone => pending.base.is_some(),
            Now::Row(_) => true,
        });
        changed.count() as u64 + self.moved_count()
    }

    /// What this transaction changed in a store, to be laid over a columnar snapshot that covers `depends_on`.
    ///
    /// # Errors
    /// `TransactionTooLarge` when it is more than memory may have; and when a file cannot be read.
    pub fn own_writes(&mut self, store: StoreId) -> Result<OwnWrites, Error> {
        let mut own = self.overlay.own_writes(store);
        let moved = self.moved_stores().filter(|moved| moved.id == store);
        for moved in moved.map(Arc::clone).collect::<Vec<_>>() {
            self.add_moved(&moved, &mut own)?;
        }
        Ok(own)
    }

    /// Undoes everything and gives all locks back.
    pub fn rollback(mut self) {
        self.undo_everything();
    }

    pub(crate) fn depend_on(&mut self, lsn: Lsn) {
        self.depends_on = self.depends_on.max(lsn);
    }

    /// The identity under which this transaction locks; made at first use.
    pub(crate) fn holder(&mut self) -> Arc<Holder> {
        let engine = &self.engine;
        Arc::clone(
            self.holder
                .get_or_insert_with(|| Arc::new(Holder::new(engine.next_txn_id()))),
        )
    }

    pub(crate) fn holder_if_any(&self) -> Option<&Arc<Holder>> {
        self.holder.as_ref()
    }

    /// Takes a table's lock and answers the number of its store in the overlay. Fails when the store was
    /// replaced since the statement resolved the table.
    async fn enter(&mut self, table: &Table) -> Result<u32, Error> {
        if let Some(index) = self.overlay.store_index(&table.store)
            && self.ddl.is_empty()
        {
            return Ok(index);
        }
        assert!(
            self.inside.as_ref().is_none_or(|inside| inside.owns(table)),
            "a candidate's transaction locks nothing but its branches"
        );
        self.lock_table(table, Mode::Shared).await?;
        Ok(match self.overlay.store_index(&table.store) {
            Some(index) => index,
            None => self.overlay.add_store(&table.store, &table.layout),
        })
    }

    /// Takes a lock that is no row's, of what `name` says; waits for it.
    pub(crate) async fn take_lock(
        &mut self,
        lock: &Arc<TableLock>,
        mode: Mode,
        name: &str,
    ) -> Result<(), Error> {
        let held = self
            .table_locks
            .iter()
            .position(|(other, _)| Arc::ptr_eq(other, lock));
        if held.is_some_and(|index| self.table_locks[index].1 >= mode) {
            return Ok(());
        }
        self.acquire(lock, mode, name).await?;
        match held {
            Some(index) => self.table_locks[index].1 = mode,
            None => self.table_locks.push((Arc::clone(lock), mode)),
        }
        Ok(())
    }

    /// Takes a lock that is no row's own; the caller sees to it that it is given back.
    pub(super) async fn acquire(
        &mut self,
        lock: &Arc<TableLock>,
        mode: Mode,
        name: &str,
    ) -> Result<(), Error> {
        if self.is_past {
            return Err(Error::PastIsReadOnly);
        }
        let holder = self.holder();
        if lock.try_lock(&holder, mode) {
            return Ok(());
        }
        let request = Request::Table {
            lock: Arc::clone(lock),
            mode,
        };
        match self
            .engine
            .waits
            .request(&holder, request)
            .map_err(|error| self.refused(error, name))?
        {
            Outcome::Granted | Outcome::Gone => {}
            Outcome::Wait(wait) => {
                self.engine.counters.lock_wait();
                wait.await;
            }
        }
        Ok(())
    }

    /// Takes a table's lock; waits for it. Fails when the table is not what the statement resolved any more.
    pub(crate) async fn lock_table(&mut self, table: &Table, mode: Mode) -> Result<(), Error> {
        self.take_lock(&table.lock, mode, &table.def.name).await?;
        let replaced = self.ddl.iter().any(|applied| {
            let retired = applied.retires.as_ref();
            retired.is_some_and(|retired| retired.is_same(table))
        });
        if replaced || table.is_retired() || table.store.is_retired() {
            let table = table.def.name.clone();
            return Err(match self.isolation {
                Isolation::ReadCommitted => Error::TableChanged { table },
                Isolation::RepeatableRead | Isolation::Serializable => Error::SerializationFailure { table },
            });
        }
        Ok(())
    }

    /// Waits until those transactions have ended that have written to a table by now, and before that may have known another definition of it.
    pub(crate) async fn wait_for_writers(&mut self, table: &Table) -> Result<(), Error> {
        let holder = self.holder();
        let request = Request::Departure {
            lock: Arc::clone(&table.lock),
            those: table.lock.others(&holder),
        };
        let outcome = self.engine.waits.request(&holder, request);
        if let Outcome::Wait(wait) = outcome.map_err(|error| self.refused(error, &table.def.name))? {
            self.engine.counters.lock_wait();
            wait.await;
        }
        Ok(())
    }

    /// Takes a fresh snapshot, and the catalog with it.
    pub(crate) fn renew_snapshot(&mut self) {
        self.snapshot = self.engine.snapshots.take(&self.slot);
        self.follow_catalog();
    }

    /// Counts a refused lock and names the table, or what else it is of, in the error.
    fn refused(&self, error: Error, name: &str) -> Error {
        match error {
            Error::Deadlock { .. } => {
                self.engine.counters.deadlock();
                Error::Deadlock {
                    waiting_for: format!("a lock of \"{name}\""),
                }
            }
            other => other,
        }
    }

    /// Rolls back: every lock is given back, nothing was ever seen by anybody.
    pub(crate) fn undo_everything(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if self.holder.is_some() {
            self.engine.counters.abort();
        }
        self.drop_tentative();
        // Changes that a new primary key moved go back to the entries whose locks are to be given back.
        self.overlay.forget_undo(0, 0);
        while !self.overlay.undo.is_empty() {
            self.overlay.undo_last();
        }
        while let Some(pending) = self.overlay.changes.take_last() {
            self.give_back_lock(pending);
        }
        self.end_moved();
        self.release_tables();
        self.slot.release();
    }

    /// Gives a change up, and its row's lock back: see `Overlay::give_up`.
    fn give_back(&mut self, slot: u32) {
        if let Some((store, key, entry)) = self.overlay.give_up(slot) {
            self.release_row(store, key, entry);
        }
    }

    /// The same, of one that is no longer in the list.
    fn give_back_lock(&self, pending: Pending) {
        if let Some(entry) = pending.entry {
            self.release_row(pending.store, pending.key, entry);
        }
    }

    fn release_row(&self, store: u32, key: Key, entry: Arc<RowEntry>) {
        let store = Arc::clone(&self.overlay.stores[store as usize].store);
        self.engine.waits.release_row(&RowRef { store, key, entry });
    }

    pub(crate) fn release_tables(&mut self) {
        self.release_shared();
        if let Some(holder) = &self.holder {
            for (lock, _) in self.table_locks.drain(..) {
                self.engine.waits.release_table(&lock, holder);
            }
        }
    }

    /// The commit is done: nothing is left to undo.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.slot.release();
    }
}

impl Drop for Txn {
    fn drop(&mut self) {
        self.undo_everything();
    }
}

/// Transactions move between threads, and so do their waits.
const _: () = {
    const fn send<T: Send + 'static>() {}
    send::<Txn>();
    send::<ScanCursor>();
    fn _futures_are_send(txn: &mut Txn, table: &Arc<Table>) {
        fn send(_: impl Send) {}
        send(txn.lock(table, &[]));
        send(txn.share(table, &[]));
        send(txn.insert(table, None, Vec::new()));
        send(txn.truncate(table));
        send(txn.room());
    }
};
