//! Reading ranges: in one go, or by a cursor in batches.

use super::Txn;
use crate::catalog::Table;
use crate::election::Base;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::overlay::{Now, Version};
use crate::snapshots::{Slot, Snapshots};
use crate::store::Store;
use crate::store::entry::{RowEntry, RowState};
use crate::store::scan::{Met, Next, StoreScan, own_of};
use scry_wal::Lsn;
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

impl Txn {
    /// Visits the rows of a range in key order: the transaction's own writes, else what the snapshot sees.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn scan(
        &mut self,
        table: &Table,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &Version) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        match self.inside {
            None => self.scan_plain(table, range, visit),
            Some(_) => self.scan_inside(table, range, visit),
        }
    }

    pub(super) fn scan_plain(
        &mut self,
        table: &Table,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &Version) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let store = &table.store;
        self.note_scan(store.id, range);
        let mut depends_on = Lsn::ZERO;
        let mut rows = StoreScan::new(range.clone(), self.snapshot).with_own(self.moved_rows()?);
        rows.run(store, |key, met| {
            let Some((lsn, found)) = self.sees(self.snapshot, store, met) else {
                return Next::Below;
            };
            depends_on = depends_on.max(lsn);
            match found.is_none_or(|version| visit(key, &version).is_continue()) {
                true => Next::On,
                false => Next::Stop,
            }
        })?;
        self.depend_on(depends_on);
        Ok(())
    }

    /// What the transaction sees of a row at `at`: its own write, else what is committed. With it, the LSN of the version. `None`: the runs are to
    /// be asked.
    pub(crate) fn sees(&self, at: Lsn, store: &Store, met: Met<'_>) -> Option<(Lsn, Option<Version>)> {
        match met {
            Met::Entry(entry) => {
                let state = entry.lock();
                match self.own_slot(&state).map(|slot| self.overlay.get(slot)) {
                    Some(own) if !matches!(own.now, Now::Untouched) => Some((Lsn::ZERO, own.current())),
                    _ => seen_by(at, store, &state),
                }
            }
            Met::Below(stored) => Some((stored.lsn, stored.version())),
        }
    }

    /// A cursor over a range at the present snapshot, with a copy of the transaction's own writes as they are now.
    /// It outlives the statement and the transaction, and may move to another thread. Rolling back to a savepoint
    /// does not reach it: such a cursor is to be dropped.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn begin_scan(&mut self, table: &Table, range: KeyRange) -> Result<ScanCursor, Error> {
        if self.inside.is_some() {
            return self.begin_scan_inside(table, range);
        }
        self.begin_scan_plain(table, range)
    }

    /// A cursor over what is committed by now and the transaction's own writes, of a table that it has locked exclusively.
    pub(crate) fn begin_scan_newest(&mut self, table: &Table, range: KeyRange) -> Result<ScanCursor, Error> {
        let snapshot = std::mem::replace(&mut self.snapshot, self.engine.visible_lsn());
        let cursor = self.begin_scan_plain(table, range);
        self.snapshot = snapshot;
        cursor
    }

    pub(crate) fn begin_scan_plain(&mut self, table: &Table, range: KeyRange) -> Result<ScanCursor, Error> {
        self.note_scan(table.store.id, &range);
        let own = self.own_rows(table, |key| range.contains(key));
        let moved = self.moved_rows()?;
        Ok(ScanCursor {
            store: Arc::clone(&table.store),
            slot: self.engine.snapshots.register_at(self.snapshot),
            rows: StoreScan::new(range, self.snapshot).with_own(moved),
            done: false,
            depends_on: Lsn::ZERO,
            own: (!own.is_empty()).then(|| Box::new(own)),
            inside: None,
        })
    }

    /// What the transaction has written of a table, of the keys that are wanted.
    pub(super) fn own_rows(&self, table: &Table, is_wanted: impl Fn(&[u8]) -> bool) -> OwnRows {
        let mut own = OwnRows::new();
        if let Some(store) = self.overlay.store_index(&table.store) {
            for pending in self.overlay.changes.iter() {
                if let Some(entry) = &pending.entry
                    && pending.store == store
                    && !matches!(pending.now, Now::Untouched)
                    && is_wanted(pending.key.as_ref())
                {
                    own.insert(Arc::as_ptr(entry).addr(), (Arc::clone(entry), pending.current()));
                }
            }
        }
        own
    }

    /// A cursor over what a candidate's base sees, with `laid_over`, in key order, in place of what it has.
    pub(super) fn cursor_at_base(
        &mut self,
        table: &Table,
        range: KeyRange,
        base: Base,
        laid_over: Vec<(Key, Option<Version>)>,
    ) -> ScanCursor {
        ScanCursor {
            store: Arc::clone(&table.store),
            slot: self.engine.snapshots.register(),
            rows: StoreScan::new(range, base.at),
            done: false,
            depends_on: self.depends_on,
            own: None,
            inside: Some(Box::new(LaidOver {
                rows: laid_over.into(),
                _base: base,
            })),
        }
    }
}

/// A scan that goes on where it stopped.
pub struct ScanCursor {
    store: Arc<Store>,
    slot: Arc<Slot>,
    rows: StoreScan,
    done: bool,
    depends_on: Lsn,
    own: Option<Box<OwnRows>>,
    /// Inside of a candidate.
    inside: Option<Box<LaidOver>>,
}

/// The transaction's rows by the address of their entry, which is kept so that no other takes its address.
pub(super) type OwnRows = HashMap<usize, (Arc<RowEntry>, Option<Version>)>;

impl ScanCursor {
    /// Over all that is committed, of a snapshot that the caller holds until this is made.
    pub(crate) fn of_committed(store: Arc<Store>, snapshots: &Snapshots, at: Lsn) -> ScanCursor {
        ScanCursor {
            store,
            slot: snapshots.register_at(at),
            rows: StoreScan::new(KeyRange::all(), at),
            done: false,
            depends_on: Lsn::ZERO,
            own: None,
            inside: None,
        }
    }
}

/// What a cursor inside of a candidate has beside the rows of the table.
struct LaidOver {
    /// What the candidate has in place of the rows with these keys, in key order; `None`: nothing.
    rows: VecDeque<(Key, Option<Version>)>,
    /// Keeps what the candidate's base sees.
    _base: Base,
}

impl ScanCursor {
    /// The next rows, at most `max_rows`; fewer only at the end of the range.
    ///
    /// # Errors
    /// When a file of the store cannot be read.
    pub fn next_batch(&mut self, max_rows: usize) -> Result<Vec<(Key, Version)>, Error> {
        let mut batch = Vec::new();
        if self.done || max_rows == 0 {
            return Ok(batch);
        }
        let mut depends_on = self.depends_on;
        let (store, snapshot, own) = (&self.store, self.rows.at(), self.own.as_deref());
        let moved = self.rows.own().cloned();
        let mut failed = None;
        let mut none = VecDeque::new();
        let laid_over = match &mut self.inside {
            Some(inside) => &mut inside.rows,
            None => &mut none,
        };
        let end = |batch: &Vec<_>| {
            if batch.len() < max_rows {
                Next::On
            } else {
                Next::Stop
            }
        };
        self.rows.run(store, |key, met| {
            let mut replaced = false;
            while let Some((next, _)) = laid_over.front()
                && next <= key
                && batch.len() < max_rows
            {
                replaced |= next == key;
                if let Some((key, Some(version))) = laid_over.pop_front() {
                    batch.push((key, version));
                }
            }
            if replaced {
                return end(&batch);
            }
            if batch.len() == max_rows {
                return Next::Stay;
            }
            let seen = match met {
                Met::Entry(entry) => match own.and_then(|own| own.get(&Arc::as_ptr(entry).addr())) {
                    Some((_, own)) => Some((Lsn::ZERO, own.clone())),
                    // What was moved when the cursor was made may have been brought back since.
                    None => match own_of(moved.as_deref(), store, key) {
                        Ok(Some(own)) => Some((Lsn::ZERO, own.version())),
                        Ok(None) => seen_by(snapshot, store, &entry.lock()),
                        Err(error) => {
                            failed = Some(error);
                            return Next::Stop;
                        }
                    },
                },
                Met::Below(stored) => Some((stored.lsn, stored.version())),
            };
            let Some((lsn, found)) = seen else {
                return Next::Below;
            };
            depends_on = depends_on.max(lsn);
            if let Some(version) = found {
                batch.push((key.clone(), version));
            }
            end(&batch)
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        // Behind the last row of the table.
        while batch.len() < max_rows
            && let Some((key, version)) = laid_over.pop_front()
        {
            batch.extend(version.map(|version| (key, version)));
        }
        self.depends_on = depends_on;
        self.done = batch.len() < max_rows;
        Ok(batch)
    }

    /// The LSN that the cursor reads at.
    pub fn snapshot(&self) -> Lsn {
        self.rows.at()
    }

    /// The highest LSN of the rows read so far: see `Txn::depends_on`.
    pub fn depends_on(&self) -> Lsn {
        self.depends_on
    }
}

/// What a snapshot sees of a row by its entry. With it, the LSN of the version. `None`: the runs are to be asked.
pub(super) fn seen_by(at: Lsn, store: &Store, state: &RowState) -> Option<(Lsn, Option<Version>)> {
    match state.read(at, store.id) {
        Some(seen) => Some((seen.lsn, seen.version())),
        None if state.is_below() => None,
        None => Some((Lsn::ZERO, None)),
    }
}

impl Drop for ScanCursor {
    fn drop(&mut self) {
        self.slot.release();
    }
}
