//! The commit.
//!
//! Everything that can be done outside of the critical section is: encoding, putting the new versions on their
//! chains (pending: nobody sees them), making room for them. Inside, under the log's append lock, a commit takes its
//! place in the log and its ordinals, copies its records, sets its stamp (which turns all of its pending versions
//! into committed ones at once) and publishes its LSN. Nothing in there waits for a disk or another lock, and
//! nothing depends on how many rows the transaction changed beyond the copy of at most about a megabyte.
//!
//! Afterwards the versions are settled and the row locks given back, before the commit is durable. Whoever reads
//! such a row depends on this commit's LSN, and holds its answer back until that is durable.
//!
//! Invariants:
//! - LSNs, ordinals and the visible LSN rise together, in one order, under one lock;
//! - a store's ordinals are dense: what is taken is exactly what the records count;
//! - a commit that the log refuses leaves no version behind and takes no ordinal.

use crate::catalog::Table;
use crate::catalog_change::CatalogChange;
use crate::collector::Grave;
use crate::error::Error;
use crate::locks::{Firsts, Holder, RowRef};
use crate::overlay::{Logged, Pending};
use crate::runs::stamp::Stamp;
use crate::serial::WriteSet;
use crate::store::{DirtyRows, Growth};
use crate::txn::Txn;
use scry_wal::record::{encode_catalog, encode_commit, encode_sequence};
use scry_wal::{Commit, CommitSlots, Lsn, Micros, NodeId, Ordinal, StoreId, StoreRange, StoreRanges};
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;

/// Commits between two advances of the horizon: often enough for hot rows to stay short, seldom enough that looking
/// at every session costs nothing.
const COMMITS_PER_ADVANCE: u64 = 64;

/// The records of one commit, ready but for LSN and ordinals.
struct Prepared {
    bytes: Vec<u8>,
    records: u32,
    slots: CommitSlots,
    ranges: SmallVec<[StoreRange; 4]>,
    time: Micros,
}

/// Larger buffers are not kept.
const BUFFER_BYTES_MAX: usize = 4 << 20;

thread_local! {
    /// The last buffer of records, kept for the next one of this thread.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer for records.
pub(crate) fn take_buffer() -> Vec<u8> {
    let mut bytes = BUFFER.take();
    bytes.clear();
    bytes
}

/// Keeps a buffer for the next one who needs one on this thread.
pub(crate) fn keep_buffer(bytes: Vec<u8>) {
    if bytes.capacity() <= BUFFER_BYTES_MAX {
        BUFFER.set(bytes);
    }
}

impl Txn {
    /// Commits. `tag` is kept in the audit trail, e.g. the statement's command tag. Answers the commit LSN, or `None`
    /// when nothing was written. The commit is visible and *not yet durable*: it may be acknowledged only after
    /// `Log::durable(lsn)`.
    ///
    /// # Errors
    /// `Log` when the log refuses, `DuplicateTable` when another commit took a name, `ReadConflict` and `SnapshotTooOld` under
    /// SERIALIZABLE; the transaction is rolled back then.
    pub fn commit(mut self, tag: &str) -> Result<Option<Lsn>, Error> {
        let Some(holder) = self.holder_if_any().cloned() else {
            self.finish();
            return Ok(None);
        };
        if self.is_past() && self.has_writes() {
            return Err(Error::PastIsReadOnly);
        }
        if !self.has_writes() {
            self.release_rows(None);
            self.release_tables();
            self.finish();
            return Ok(None);
        }
        self.forget_touched();
        self.end_tail()?;
        if self.overlay.unlogged_bytes() > self.engine.limits.spill_bytes {
            self.spill()?;
        }
        let prepared = self.prepare(&holder, tag)?;
        if prepared.records == 1 && self.tentative.is_none() && self.ddl.is_empty() && !self.fills {
            // Nothing but the commit record: all changes cancelled out.
            self.release_rows(None);
            self.release_tables();
            self.finish();
            return Ok(None);
        }
        self.validate_reads()?;
        let written = self.watched_writes();
        let growths = self.install();
        let stamp = self.hand_over_moved();
        let entered = self.enter_log(&holder, prepared, &growths, (written, stamp.as_deref()));
        let (lsn, firsts) = match entered {
            Ok(done) => done,
            Err(error) => {
                self.take_moved_back();
                self.take_back();
                return Err(error);
            }
        };
        self.count_election();
        // From here on the tentative records belong to the commit.
        if let Some(id) = self.tentative.take() {
            self.engine.checkpoints.end_tentative(id);
        }
        self.release_rows(Some((lsn, &firsts)));
        self.end_moved();
        self.release_tables();
        self.finish();
        if self.has_filled {
            self.engine.backing.end_building(&self.engine.catalog().stores());
        }
        if self.has_filled || stamp.is_some() {
            self.engine.checkpoints.ask();
        }
        if self.engine.counters.commit().is_multiple_of(COMMITS_PER_ADVANCE) {
            self.engine.snapshots.advance();
        }
        Ok(Some(lsn))
    }

    /// Encodes catalog changes, what is left of row changes, and the commit record.
    fn prepare(&mut self, holder: &Holder, tag: &str) -> Result<Prepared, Error> {
        let mut bytes = take_buffer();
        let mut records = 0;
        let mut payload = Vec::new();
        for applied in &self.ddl {
            payload.clear();
            applied.change.encode(&mut payload);
            encode_catalog(&mut bytes, &payload)?;
            records += 1;
        }
        for position in self.new_counters() {
            encode_sequence(&mut bytes, &position);
            records += 1;
        }
        let live = self.live_stores();
        records += self.overlay.encode(&mut bytes, usize::MAX, None, &live, None)?;
        let is_live = |store| {
            let mut stores = self.overlay.stores.iter().zip(&live);
            stores.any(|(written, live)| written.store.id == store && *live)
        };
        let ranges: SmallVec<[StoreRange; 4]> = self
            .overlay
            .appended
            .iter()
            .filter(|appended| is_live(appended.store))
            .map(|appended| StoreRange {
                store: appended.store,
                first: Ordinal::default(),
                count: u64::from(appended.count),
            })
            .collect();
        let electing = self
            .electing
            .as_ref()
            .map(|electing| (electing.election, electing.candidate.id));
        let (election, candidate) = electing.or(self.candidate()).unwrap_or_default();
        let time = self.engine.options.clock.now();
        let commit = Commit {
            txn: holder.id(),
            time,
            origin_node: NodeId::default(),
            origin_lsn: Lsn::ZERO,
            user: &self.info.user,
            client: &self.info.client,
            application: &self.info.application,
            tag,
            election,
            candidate,
            adopts: self.tentative,
            stores: StoreRanges::new(&ranges),
        };
        let slots = encode_commit(&mut bytes, &commit)?;
        Ok(Prepared {
            bytes,
            records: records + 1,
            slots,
            ranges,
            time,
        })
    }

    /// Puts the new versions on their chains, pending. Answers by how much the stores will grow.
    fn install(&mut self) -> SmallVec<[Growth; 4]> {
        let horizon = self.engine.snapshots.horizon();
        let pins = self.engine.pins.list();
        // A commit's LSN lies within its frame, which is durable as a whole.
        let durable = Lsn::new(self.engine.log().durable_lsn().get().saturating_sub(1));
        let mut superseded: SmallVec<[u64; 4]> = SmallVec::from_elem(0, self.overlay.stores.len());
        let mut growths: SmallVec<[Growth; 4]> =
            SmallVec::from_elem(Growth::default(), self.overlay.stores.len());
        let mut dirty: SmallVec<[DirtyRows; 4]> = SmallVec::new();
        dirty.resize_with(self.overlay.stores.len(), DirtyRows::default);
        for pending in self.overlay.changes.iter_mut() {
            let Some(entry) = &pending.entry else { continue };
            let (row, local) = match &pending.logged {
                Logged::Row { row, local } => (Some(Arc::clone(row)), *local),
                Logged::Gone if pending.base.is_some() || pending.moved => (None, 0),
                Logged::Gone | Logged::Nothing => continue,
            };
            let row_bytes = row.as_ref().map_or(0, |row| row.len());
            let mut state = entry.lock();
            let left = state.push(row, local, horizon, durable, pins.as_deref());
            let is_newly_dirty = state.mark_dirty();
            drop(state);
            if is_newly_dirty {
                dirty[pending.store as usize].push(pending.key.clone(), Arc::clone(entry), row_bytes);
            }
            superseded[pending.store as usize] += u64::from(left);
            pending.installed = true;
            growths[pending.store as usize] += growth(pending);
        }
        self.add_moved_growth(&mut growths);
        for ((written, count), dirty) in self.overlay.stores.iter().zip(superseded).zip(dirty) {
            written.store.counters.add_superseded(count);
            // Before the commit has its place in the log: a checkpoint beyond that place must find them.
            written.store.add_dirty(dirty);
        }
        growths
    }

    /// The critical section. Answers the commit LSN and the first ordinals of the stores in `ranges`.
    fn enter_log(
        &mut self,
        holder: &Holder,
        mut prepared: Prepared,
        growths: &[Growth],
        (written, stamp): (Option<WriteSet>, Option<&Stamp>),
    ) -> Result<(Lsn, Firsts), Error> {
        let engine = &self.engine;
        let mut firsts = Firsts::new();
        let mut appender = engine.log().lock()?;
        self.validate_rest()?;
        let latest = match (&self.inside, self.ddl.is_empty()) {
            (None, true) => None,
            _ => Some(engine.catalogs.latest().1),
        };
        if let (Some(inside), Some(latest)) = (&self.inside, &latest) {
            inside.check_open()?;
            inside.check_kind(latest)?;
        }
        if let (Some(electing), Some(latest)) = (&self.electing, &latest) {
            electing.check(latest)?;
        }
        let base = appender.reserve(prepared.bytes.len())?;
        let lsn = base.plus(prepared.slots.start() as u64);
        let catalog = match &latest {
            Some(latest) if !self.ddl.is_empty() => Some(Arc::new(latest.with(lsn, &self.ddl)?)),
            _ => None,
        };
        for (index, range) in prepared.ranges.iter().enumerate() {
            let written = self
                .overlay
                .stores
                .iter()
                .find(|written| written.store.id == range.store);
            let counters = &written.expect("a range for each store written").store.counters;
            let first = counters.take_ordinals(range.count);
            prepared
                .slots
                .patch_first_ordinal(&mut prepared.bytes, index, first);
            firsts.push((range.store, first));
        }
        for (written, growth) in self.overlay.stores.iter().zip(growths) {
            written.store.counters.add_live(*growth);
        }
        appender.put(&prepared.bytes, prepared.records, catalog.is_some());
        holder.commit(lsn, firsts.clone());
        if let Some(stamp) = stamp {
            let first = |store: StoreId| firsts.iter().find(|(known, _)| *known == store);
            let stores = self.overlay.stores.iter().map(|written| &written.store);
            stamp.set(
                lsn,
                stores.filter_map(|store| Some((store.home.space, first(store.id)?.1))),
            );
        }
        let inside = self.inside.iter().flat_map(|inside| &inside.branches);
        let rebased = self.electing.iter().flat_map(|electing| &electing.writes);
        for branch in inside.chain(rebased) {
            branch.note_commit(lsn);
        }
        if let (Some(catalog), Some(latest)) = (catalog, latest) {
            for applied in &self.ddl {
                if let CatalogChange::Election(change) = &applied.change {
                    latest.elections().announce(change);
                }
            }
            for applied in &self.ddl {
                applied.table.iter().for_each(|table| table.complete_indexes());
                let Some(retired) = &applied.retires else { continue };
                retired.retire();
                let keeps_store = |table: &Arc<Table>| Arc::ptr_eq(&table.store, &retired.store);
                if !applied.table.as_ref().is_some_and(keeps_store) {
                    retired.store.retire();
                }
            }
            engine.catalogs.install(lsn, catalog, &self.ddl);
        }
        engine.history.note(lsn, prepared.time);
        engine.snapshots.publish(lsn);
        // After the LSN was published: a watch that begins later has a snapshot that sees this commit.
        if engine.serial.is_watched() {
            let written = written.unwrap_or_else(|| self.coarse_writes());
            engine.serial.record(lsn, written, engine.snapshots.readers());
        }
        drop(appender);
        keep_buffer(prepared.bytes);
        Ok((lsn, firsts))
    }

    /// The log refused: takes the pending versions off again.
    fn take_back(&mut self) {
        for pending in self.overlay.changes.iter_mut() {
            if std::mem::replace(&mut pending.installed, false)
                && let Some(entry) = &pending.entry
            {
                entry.lock().take_back();
            }
        }
    }

    /// Settles what was installed and gives all row locks back, each row in one step.
    fn release_rows(&mut self, committed: Option<(Lsn, &[(StoreId, Ordinal)])>) {
        let mut graves = Vec::new();
        let mut memory = 0;
        for mut pending in std::mem::take(&mut self.overlay.changes) {
            let Some(entry) = pending.entry.take() else {
                continue;
            };
            let store = &self.overlay.stores[pending.store as usize].store;
            let mut state = entry.lock();
            let mut tombstone = None;
            let before = state.weight_of(&pending.key, pending.base.as_ref().map(|base| &base.row));
            if pending.installed
                && let Some((lsn, firsts)) = committed
            {
                let first = firsts
                    .iter()
                    .find(|(id, _)| *id == store.id)
                    .map(|(_, first)| *first);
                state.settle(lsn, first.unwrap_or_default());
                memory += state.recount(&pending.key, before);
                tombstone = matches!(pending.logged, Logged::Gone).then_some(lsn);
            }
            let row = |key, entry| RowRef {
                store: Arc::clone(store),
                key,
                entry,
            };
            if let Some(lsn) = tombstone {
                graves.push(Grave {
                    lsn,
                    row: row(pending.key.clone(), Arc::clone(&entry)),
                });
            }
            if state.contended {
                drop(state);
                self.engine.waits.pass_row_on(&row(pending.key, entry));
            } else if state.clear_owner() {
                drop(state);
                store.remove(&pending.key, &entry);
            }
        }
        self.engine.backing.add_memory(memory);
        if !graves.is_empty() {
            self.engine.collector.bury(graves);
        }
    }
}

/// By how much a committed change makes its table grow.
fn growth(pending: &Pending) -> Growth {
    let old = pending.base.as_ref().map(|base| &base.row[..]);
    match &pending.logged {
        Logged::Row { row, .. } => Growth::of(old, Some(row)),
        Logged::Gone => Growth::of(old, None),
        Logged::Nothing => Growth::default(),
    }
}
