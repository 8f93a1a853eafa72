//! One row of a store: its versions, newest first, and its lock.
//!
//! The row lock lives here and not in a lock table, so that taking it costs nothing beyond the short mutex that
//! reading the row costs anyway. Who waits for it is in the wait table (`crate::locks`); `contended` says that
//! somebody does.
//!
//! A committing transaction puts its versions on the chains before it enters the commit's critical section.
//! Such a version is *pending*: its LSN is `Lsn::MAX`, its ordinal is the local index, and its real place is in the
//! owner's `CommitStamp`, which the critical section sets with one store. The committer settles the versions
//! afterwards, in the same step that gives the lock back. So a pending version always has an owner, and a reader
//! that meets one asks the owner's stamp.
//!
//! An entry is all there is of a row, unless it is marked *below*: then the runs may have versions of it, too, and where
//! the chain has no answer for a snapshot they are asked. (The runs of its owner are meant as well: an entry that is marked so and has no version
//! stands for a row that the owner has inserted and moved out of memory.) A *dirty* entry has versions that no run has; it stands
//! on its store's list of such rows until a checkpoint has written them.
//!
//! Invariants:
//! - only the owner pushes, settles and takes back versions;
//! - all versions but the newest are settled, and their LSNs fall strictly from newest to oldest;
//! - the newest committed version of the row is on the chain, whatever the runs have;
//! - of an entry that is not dirty the runs have all that somebody may see;
//! - a dead entry has no owner, is about to leave the memtable, and is never written again.

use crate::Row;
use crate::locks::Holder;
use crate::overlay::Version;
use crate::pins::any_sees;
use crate::runs::Stored;
use parking_lot::{Mutex, MutexGuard};
use scry_wal::{Lsn, Ordinal, StoreId};
use std::sync::Arc;

/// How far a push looks for versions that can go. Under a snapshot that is held for long a hot row's chain
/// grows; walking all of it at each push would make every update pay for that snapshot.
const PRUNE_DEPTH: usize = 16;

/// A row of the memtable, shared by the map, by transactions that hold its lock and by waiters.
pub(crate) struct RowEntry {
    state: Mutex<RowState>,
}

struct StoredVersion {
    lsn: Lsn,
    ordinal: Ordinal,
    /// `None`: the row was deleted here, or (at `Lsn::ZERO`) never was.
    row: Option<Row>,
}

struct Older {
    version: StoredVersion,
    next: Option<Box<Older>>,
}

/// What the mutex guards.
pub(crate) struct RowState {
    newest: StoredVersion,
    older: Option<Box<Older>>,
    owner: Option<Arc<Holder>>,
    /// The owner's number for this row: the index of its pending change.
    slot: u32,
    /// Somebody queues for the row lock.
    pub(crate) contended: bool,
    /// The owner means to delete the row: an inserter of the same key waits for the outcome.
    pub(crate) ending: bool,
    marks: u8,
}

/// The entry is about to leave the memtable.
const DEAD: u8 = 1;
/// The runs may have versions of the row.
const BELOW: u8 = 2;
/// The chain has versions that no run has.
const DIRTY: u8 = 4;
/// Somebody read or wrote the row since the last look.
const USED: u8 = 8;
/// Its bytes count in the memory that rows take.
const COUNTED: u8 = 16;
/// A checkpoint is about to put versions of the row into the runs.
const FLUSHING: u8 = 32;

/// What an entry takes in memory beside its key and its newest row: its places in the map, itself, the row's counts.
const ENTRY_BYTES: usize = 184;

/// What became of a burial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burial {
    /// The row is dead: it can leave the memtable.
    Done,
    /// Somebody holds it back.
    Waits,
    /// There is a row again, or another deletion, which is reported by itself.
    Off,
}

/// What stands behind a row's newest version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    Nothing,
    /// Versions that pins see and no snapshot.
    Pinned,
    /// Versions that a snapshot may see.
    Seen,
}

/// A version as a reader sees it; `row` is `None` for a deletion.
pub(crate) struct Seen<'a> {
    pub(crate) lsn: Lsn,
    pub(crate) ordinal: Ordinal,
    pub(crate) row: Option<&'a Row>,
}

impl Seen<'_> {
    /// The version, unless it is a deletion.
    pub(crate) fn version(&self) -> Option<Version> {
        Some(Version {
            lsn: self.lsn,
            ordinal: Some(self.ordinal),
            row: Arc::clone(self.row?),
        })
    }
}

const NOTHING: StoredVersion = StoredVersion {
    lsn: Lsn::ZERO,
    ordinal: Ordinal::new(0),
    row: None,
};

impl RowEntry {
    /// A row that does not exist yet, locked by `owner`, which is about to insert it.
    pub(crate) fn locked(owner: Arc<Holder>, slot: u32) -> RowEntry {
        let mut state = RowState::unowned(NOTHING);
        state.set_owner(owner, slot);
        RowEntry {
            state: Mutex::new(state),
        }
    }

    /// A row with one committed version, or a deletion.
    pub(crate) fn committed(lsn: Lsn, ordinal: Ordinal, row: Option<Row>) -> RowEntry {
        RowEntry {
            state: Mutex::new(RowState::unowned(StoredVersion { lsn, ordinal, row })),
        }
    }

    /// A row as the runs have it.
    pub(crate) fn from_below(stored: Stored) -> RowEntry {
        let entry = RowEntry::committed(stored.lsn, stored.ordinal, stored.row);
        entry.lock().marks |= BELOW | USED;
        entry
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, RowState> {
        self.state.lock()
    }
}

impl RowState {
    fn unowned(newest: StoredVersion) -> RowState {
        RowState {
            newest,
            older: None,
            owner: None,
            slot: 0,
            contended: false,
            ending: false,
            marks: USED,
        }
    }

    fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    pub(crate) fn owner(&self) -> Option<&Arc<Holder>> {
        self.owner.as_ref()
    }

    /// The slot under which `holder` knows this row, when it holds the row's lock.
    pub(crate) fn slot_of(&self, holder: &Arc<Holder>) -> Option<u32> {
        match &self.owner {
            Some(owner) if Arc::ptr_eq(owner, holder) => Some(self.slot),
            _ => None,
        }
    }

    /// Gives the row lock to `owner`, who is either its first taker or the next in its queue.
    pub(crate) fn set_owner(&mut self, owner: Arc<Holder>, slot: u32) {
        assert!(!self.is(DEAD), "a row that left the memtable was locked");
        assert!(
            self.newest.lsn != Lsn::MAX,
            "a row lock changed hands over a pending version"
        );
        self.owner = Some(owner);
        self.slot = slot;
        self.ending = false;
    }

    /// Takes the lock from its owner. A row of which nothing is left dies: the answer is true, and the caller
    /// takes the entry out of the memtable.
    pub(crate) fn clear_owner(&mut self) -> bool {
        assert!(
            self.newest.lsn != Lsn::MAX,
            "a row lock was given back over a pending version"
        );
        self.owner = None;
        self.ending = false;
        if self.is_nothing() {
            self.marks |= DEAD;
        }
        self.is(DEAD)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is(DEAD)
    }

    /// Whether the owner is all that the entry is about: nothing is committed of the row.
    pub(crate) fn is_blank(&self) -> bool {
        self.is_nothing() && self.older.is_none()
    }

    /// Whether nobody but the owner would miss the entry: nothing is committed of the row, or the runs have all of it.
    pub(crate) fn may_move_out(&self) -> bool {
        self.is_blank() || self.marks & (DIRTY | BELOW | FLUSHING) == BELOW
    }

    /// Whether it has versions that no run has.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is(DIRTY)
    }

    /// The owner gives the entry up and keeps the lock by other means; unless somebody waits for it. The entry is to be taken out of the memtable,
    /// where nobody else may have taken hold of it.
    pub(crate) fn move_out(&mut self) -> bool {
        let leaves = self.may_move_out() && !self.contended;
        if leaves {
            self.clear_owner();
            self.marks |= DEAD;
        }
        leaves
    }

    /// Whether the runs may have versions of the row that the chain lacks.
    pub(crate) fn is_below(&self) -> bool {
        self.is(BELOW)
    }

    /// The runs may have versions of the row.
    pub(crate) fn set_below(&mut self) {
        self.marks |= BELOW;
    }

    /// Somebody is interested in the row.
    pub(crate) fn touch(&mut self) {
        self.marks |= USED;
    }

    /// The row is about to have a version that no run has. Answers whether it had none: then it goes on its store's list.
    #[must_use]
    pub(crate) fn mark_dirty(&mut self) -> bool {
        let was_clean = !self.is(DIRTY);
        self.marks |= DIRTY | USED;
        was_clean
    }

    /// A checkpoint is about to put versions of the row into the runs: until it is done nobody may forget that there was one.
    pub(crate) fn begin_flush(&mut self) {
        self.marks |= FLUSHING;
    }

    /// The checkpoint is done, or has failed.
    pub(crate) fn end_flush(&mut self) {
        self.marks &= !FLUSHING;
    }

    /// Bytes of the newest row.
    pub(crate) fn newest_bytes(&self) -> usize {
        self.newest.row.as_ref().map_or(0, |row| row.len())
    }

    /// What the entry takes in memory, as far as that was counted.
    pub(crate) fn weight(&self, key: &[u8]) -> u64 {
        self.weight_of(key, self.newest.row.as_ref())
    }

    /// As `weight`, if `newest` were the newest row.
    pub(crate) fn weight_of(&self, key: &[u8], newest: Option<&Row>) -> u64 {
        match self.is(COUNTED) {
            true => (ENTRY_BYTES + key.len() + newest.map_or(0, |row| row.len())) as u64,
            false => 0,
        }
    }

    /// Counts the entry: answers by how much the memory that rows take grows, when `before` was counted of it.
    pub(crate) fn recount(&mut self, key: &[u8], before: u64) -> i64 {
        self.marks |= COUNTED;
        self.weight(key).cast_signed() - before.cast_signed()
    }

    /// Whether nobody would miss the entry: the runs have all of it, nobody holds its lock, and since the last look
    /// nobody was interested in it.
    pub(crate) fn may_leave(&mut self) -> bool {
        let idle = self.owner.is_none() && !self.contended && self.marks & (DIRTY | BELOW) == BELOW;
        let used = self.is(USED);
        self.marks &= !USED;
        idle && !used
    }

    /// For a checkpoint at `upto`, with the one before it at `last`: the versions that the runs lack and that a snapshot at or after
    /// `horizon` or one of `pins` may see, newest first. Nothing when all of it is a deletion of what the runs never had.
    pub(crate) fn versions(
        &self,
        (last, upto): (Lsn, Lsn),
        (horizon, pins): (Lsn, &[Lsn]),
        store: StoreId,
    ) -> Vec<Stored> {
        // What the runs have of it came with a checkpoint. Without that mark they have nothing.
        let after = if self.is(BELOW) { last } else { Lsn::ZERO };
        let mut found = Vec::new();
        let mut until = Lsn::MAX;
        let newest = &self.newest;
        let committed = match newest.lsn {
            Lsn::MAX => self.owner.as_ref().and_then(|owner| owner.committed(store)),
            lsn => Some((lsn, Ordinal::new(0))),
        };
        let first = committed.map(|(lsn, first)| (lsn, first.plus(newest.ordinal.get()), &newest.row));
        let older = std::iter::successors(self.older.as_deref(), |older| older.next.as_deref());
        let older = older.map(|Older { version, .. }| (version.lsn, version.ordinal, &version.row));
        for (lsn, ordinal, row) in first.into_iter().chain(older) {
            let seen = until > horizon || any_sees(pins, lsn, until);
            if lsn <= upto && lsn > after && seen {
                let row = row.clone();
                found.push(Stored { lsn, ordinal, row });
            }
            until = lsn;
        }
        if let [Stored { row: None, .. }] = &found[..]
            && !self.is(BELOW)
        {
            found.clear();
        }
        found
    }

    /// The runs have the versions up to `upto`, as far as there were any to be `written`: they need not be in memory, but for the newest that is
    /// committed. Answers whether the entry still has versions that no run has.
    pub(crate) fn flushed(&mut self, upto: Lsn, written: bool) -> bool {
        if written {
            self.marks |= BELOW;
            // What is behind a pending version may be the newest that is committed.
            let mut stays = self.newest.lsn == Lsn::MAX;
            let mut place = &mut self.older;
            while let Some(older) = place.as_ref()
                && (stays || older.version.lsn > upto)
            {
                stays = false;
                // Reborrowed as a whole, as in `prune`.
                place = match place {
                    Some(link) => &mut link.next,
                    None => break,
                };
            }
            drop_chain(place.take());
        }
        if self.newest.lsn <= upto && !self.is_nothing() {
            self.marks &= !DIRTY;
        }
        self.is(DIRTY)
    }

    fn is_nothing(&self) -> bool {
        self.newest.lsn == Lsn::ZERO && self.newest.row.is_none()
    }

    /// The newest committed version, for whoever holds or is about to take the lock.
    pub(crate) fn newest(&self, store: StoreId) -> Seen<'_> {
        self.read(Lsn::new(Lsn::MAX.get() - 1), store).unwrap_or(Seen {
            lsn: Lsn::ZERO,
            ordinal: Ordinal::new(0),
            row: None,
        })
    }

    /// The version that a snapshot sees; `None` when the row did not exist yet.
    pub(crate) fn read(&self, snapshot: Lsn, store: StoreId) -> Option<Seen<'_>> {
        let newest = &self.newest;
        if newest.lsn == Lsn::ZERO && self.is(BELOW) {
            return None;
        }
        if newest.lsn <= snapshot {
            return Some(Seen {
                lsn: newest.lsn,
                ordinal: newest.ordinal,
                row: newest.row.as_ref(),
            });
        }
        if newest.lsn == Lsn::MAX
            && let Some((lsn, first)) = self.owner.as_ref().and_then(|owner| owner.committed(store))
            && lsn <= snapshot
        {
            let ordinal = first.plus(newest.ordinal.get());
            return Some(Seen {
                lsn,
                ordinal,
                row: newest.row.as_ref(),
            });
        }
        let mut older = self.older.as_deref();
        while let Some(Older { version, next }) = older {
            if version.lsn == Lsn::ZERO && self.is(BELOW) {
                return None;
            }
            if version.lsn <= snapshot {
                return Some(Seen {
                    lsn: version.lsn,
                    ordinal: version.ordinal,
                    row: version.row.as_ref(),
                });
            }
            older = next.as_deref();
        }
        None
    }

    /// Puts the owner's version on top, pending. Versions go that no snapshot at or after `horizon` can reach, nor any
    /// of `pins`. A deletion is kept until it is `durable`, so that whoever finds no row knows what that depends on.
    /// Answers whether anything is left behind the new version.
    pub(crate) fn push(
        &mut self,
        row: Option<Row>,
        local: u32,
        horizon: Lsn,
        durable: Lsn,
        pins: Option<&[Lsn]>,
    ) -> bool {
        assert!(
            self.owner.is_some() && self.newest.lsn != Lsn::MAX,
            "a version was pushed by no owner or twice"
        );
        let pending = StoredVersion {
            lsn: Lsn::MAX,
            ordinal: Ordinal::new(u64::from(local)),
            row,
        };
        let version = std::mem::replace(&mut self.newest, pending);
        if let Some(pins) = pins {
            self.keep_pinned(version, horizon, pins);
            return true;
        }
        if version.row.is_none()
            && version.lsn <= horizon.min(durable)
            && self.marks & (BELOW | FLUSHING) == 0
        {
            // No snapshot sees anything at or behind this deletion; and no run has, or is about to get, what only the deletion hides.
            drop_chain(self.older.take());
            return false;
        }
        if version.lsn <= horizon {
            // Nothing behind it is reachable: its place in memory takes the version itself.
            match self.older.take() {
                Some(mut head) => {
                    drop_chain(head.next.take());
                    head.version = version;
                    self.older = Some(head);
                }
                None => self.older = Some(Box::new(Older { version, next: None })),
            }
            return true;
        }
        let next = self.older.take();
        self.older = Some(Box::new(Older { version, next }));
        let mut behind = self.older.as_deref_mut();
        for _ in 0..PRUNE_DEPTH {
            let Some(link) = behind else { break };
            if link.version.lsn <= horizon {
                drop_chain(link.next.take());
                break;
            }
            behind = link.next.as_deref_mut();
        }
        true
    }

    /// Lets go of versions that no snapshot at or after `horizon` can reach, nor any of `pins`. Answers what is left.
    pub(crate) fn forget(&mut self, horizon: Lsn, pins: &[Lsn]) -> Behind {
        prune(&mut self.older, self.newest.lsn, horizon, pins, usize::MAX);
        match self.older {
            None => Behind::Nothing,
            Some(_) if self.newest.lsn <= horizon => Behind::Pinned,
            Some(_) => Behind::Seen,
        }
    }

    /// Puts a superseded version behind the newest, and takes out those behind it that nobody sees any more.
    fn keep_pinned(&mut self, version: StoredVersion, horizon: Lsn, pins: &[Lsn]) {
        let until = version.lsn;
        let head = match self.older.take() {
            // Nobody sees the next one: its place in memory takes the version.
            Some(mut head) if until <= horizon && !any_sees(pins, head.version.lsn, until) => {
                head.version = version;
                self.older.insert(head)
            }
            next => self.older.insert(Box::new(Older { version, next })),
        };
        prune(&mut head.next, until, horizon, pins, PRUNE_DEPTH);
    }

    /// During recovery: a new version, or a deletion, over what there is, which stays as far as snapshots at or after `horizon` or
    /// `pins` see it. Answers whether it does.
    pub(crate) fn supersede(
        &mut self,
        lsn: Lsn,
        ordinal: Ordinal,
        row: Option<Row>,
        (horizon, pins): (Lsn, &[Lsn]),
    ) -> bool {
        let version = std::mem::replace(&mut self.newest, StoredVersion { lsn, ordinal, row });
        let kept = lsn > horizon || any_sees(pins, version.lsn, lsn);
        if kept {
            self.keep_pinned(version, horizon.min(lsn), pins);
        }
        kept
    }

    /// Whether nothing is left but a deletion.
    pub(crate) fn is_bare_deletion(&self) -> bool {
        self.newest.row.is_none() && self.older.is_none()
    }

    /// Gives the pending version its place.
    pub(crate) fn settle(&mut self, lsn: Lsn, first: Ordinal) {
        assert!(self.newest.lsn == Lsn::MAX, "a version was settled twice");
        debug_assert!(self.older.as_ref().is_none_or(|older| older.version.lsn < lsn));
        self.newest.lsn = lsn;
        self.newest.ordinal = first.plus(self.newest.ordinal.get());
    }

    /// Takes the pending version off again: the log refused the commit.
    pub(crate) fn take_back(&mut self) {
        assert!(self.newest.lsn == Lsn::MAX, "no pending version to take back");
        self.newest = match self.older.take() {
            Some(older) => {
                let Older { version, next } = *older;
                self.older = next;
                version
            }
            None => NOTHING,
        };
    }

    /// Marks the row dead when all of it is a deletion at or before `limit`, nobody holds its lock and none of `pins` sees
    /// what was there before.
    pub(crate) fn bury(&mut self, limit: Lsn, pins: &[Lsn]) -> Burial {
        if self.owner.is_some() {
            // Whoever inserts the row again may still roll back.
            return Burial::Waits;
        }
        if self.is(DEAD) || self.newest.row.is_some() || self.newest.lsn > limit {
            return Burial::Off;
        }
        if self.is(BELOW) {
            // Without the deletion the row would be there again. Once the runs have it the entry leaves as any other.
            return Burial::Off;
        }
        if self.is(FLUSHING) || self.forget(limit, pins) != Behind::Nothing {
            return Burial::Waits;
        }
        self.marks |= DEAD;
        Burial::Done
    }

    #[cfg(test)]
    pub(crate) fn version_count(&self) -> usize {
        let mut count = 1;
        let mut older = self.older.as_deref();
        while let Some(link) = older {
            count += 1;
            older = link.next.as_deref();
        }
        count
    }
}

/// Takes out of a chain, whose first version was superseded at `until`, those that no snapshot at or after `horizon` and
/// none of `pins` sees. Looks no deeper than `depth`.
fn prune(mut place: &mut Option<Box<Older>>, mut until: Lsn, horizon: Lsn, pins: &[Lsn], depth: usize) {
    for _ in 0..depth {
        let Some(link) = place else { return };
        let from = link.version.lsn;
        if until > horizon || any_sees(pins, from, until) {
            until = from;
            // Reborrowed as a whole: the borrow checker follows only one way through the list.
            place = match place {
                Some(link) => &mut link.next,
                None => return,
            };
        } else {
            *place = link.next.take();
        }
    }
}

/// Frees a chain link by link: a recursive drop of a long one would overflow the stack.
fn drop_chain(mut link: Option<Box<Older>>) {
    while let Some(mut current) = link {
        link = current.next.take();
    }
}

impl Drop for RowState {
    fn drop(&mut self) {
        if self.older.is_some() {
            drop_chain(self.older.take());
        }
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
