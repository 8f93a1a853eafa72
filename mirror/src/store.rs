//! One store: its pieces, and how changes, the horizon and the background work move them.
//!
//! Invariants, asserted as changes come in: ordinals are dense and in commit order; an ordinal is ended once and
//! after it began; commits come in LSN order. What contradicts them stops the mirror.
//!
//! The state is behind one lock, held for moments: by the applier for an append and a merge in memory, by a reader to
//! copy pointers. Nobody reads or writes a file under it.

use parking_lot::{Mutex, RwLock};
use scry_stream::{StoreChanges, StoreSchema};
use scry_wal::{Lsn, StoreId};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::Cache;
use crate::error::Error;
use crate::merge::merge;
use crate::piece::{Piece, Slot};
use crate::plan::{self, Size};
use crate::relink::{Relinked, relink};
use crate::snapshot::Cut;

/// A store and when it exists.
#[derive(Debug)]
pub(crate) struct StoreCell {
    pub store: StoreId,
    /// (LSN of the commit, columns from then on), oldest first; never empty.
    schemas: RwLock<Vec<(Lsn, Arc<StoreSchema>)>>,
    created: Lsn,
    dropped: AtomicU64,
    piece_rows: usize,
    state: Mutex<State>,
}

/// The rows of a store.
#[derive(Debug)]
struct State {
    /// In ordinal order, without overlap. Ordinals in no piece are dead behind the horizon.
    slots: Vec<Slot>,
    /// Ordinals begun.
    count: u64,
    /// Ordinals begun at the horizon: what the commits that `boundaries` no longer knows left.
    base: u64,
    /// (LSN of a commit behind which somebody may look, ordinals begun after it).
    boundaries: VecDeque<(Lsn, u64)>,
    /// (LSN of the commit, ordinal that it ended) that the bitmaps do not know yet.
    ended: VecDeque<(Lsn, u64)>,
}

/// The state of a store at one position of the log, to be written down.
#[derive(Debug)]
pub(crate) struct Capture {
    pub cell: Arc<StoreCell>,
    pub schema: Arc<StoreSchema>,
    pub count: u64,
    pub slots: Vec<Slot>,
}

/// Figures of a store.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreFigures {
    pub rows: u64,
    pub pieces: usize,
    pub sealed: usize,
    pub resident_bytes: usize,
    /// Resident bytes that no file has.
    pub unsealed_bytes: usize,
    pub file_bytes: usize,
    pub pending_ends: usize,
}

impl StoreCell {
    /// An empty store that begins to exist with the commit at `created`.
    pub fn new(store: StoreId, schema: Arc<StoreSchema>, created: Lsn, piece_rows: usize) -> Self {
        Self::restored(store, schema, created, 0, Vec::new(), piece_rows)
    }

    /// A store as a manifest has it.
    pub fn restored(
        store: StoreId,
        schema: Arc<StoreSchema>,
        created: Lsn,
        count: u64,
        slots: Vec<Slot>,
        piece_rows: usize,
    ) -> Self {
        let state = State {
            slots,
            count,
            base: count,
            boundaries: VecDeque::new(),
            ended: VecDeque::new(),
        };
        Self {
            store,
            schemas: RwLock::new(vec![(created, schema)]),
            created,
            dropped: AtomicU64::new(u64::MAX),
            piece_rows,
            state: Mutex::new(state),
        }
    }

    /// The columns, as of the last change that was applied.
    pub fn schema(&self) -> Arc<StoreSchema> {
        self.schema_at(Lsn::MAX)
    }

    /// The columns as of a snapshot that sees the store.
    fn schema_at(&self, at: Lsn) -> Arc<StoreSchema> {
        let schemas = self.schemas.read();
        let found = schemas
            .iter()
            .rfind(|(since, _)| *since <= at)
            .or(schemas.first());
        found.map(|(_, schema)| schema.clone()).expect("never empty")
    }

    /// From the commit at `at` on, the store has other columns behind its own.
    pub fn widen(&self, at: Lsn, schema: Arc<StoreSchema>) {
        self.schemas.write().push((at, schema));
    }

    /// Whether a piece is so small that it stays in memory when it is sealed.
    pub fn keeps(&self, slot: &Slot) -> bool {
        plan::is_small(&size(slot), self.piece_rows)
    }

    /// Whether the store still has this piece.
    pub fn holds(&self, piece: &Arc<Piece>) -> bool {
        self.slot(piece).is_some()
    }

    /// The piece as it stands in the store, if it does.
    pub fn slot(&self, piece: &Arc<Piece>) -> Option<Slot> {
        let state = self.state.lock();
        let slot = state.slots.iter().find(|slot| Arc::ptr_eq(&slot.piece, piece));
        slot.cloned()
    }

    pub fn created(&self) -> Lsn {
        self.created
    }

    pub fn dropped(&self) -> Lsn {
        Lsn::new(self.dropped.load(Ordering::Acquire))
    }

    /// From the commit at `at` on, the store does not exist.
    pub fn drop_at(&self, at: Lsn) {
        self.dropped.store(at.get(), Ordering::Release);
    }

    /// Whether a snapshot sees the store. One that is not mirrored is known, so that its changes are known for what they are, and
    /// never seen.
    pub fn exists_at(&self, at: Lsn) -> bool {
        self.schema().mirrored && self.created <= at && at < self.dropped()
    }

    /// Adds changes, then folds up to the horizon and merges what is small. `branches` are those that are adopted, in the
    /// order of the changes.
    pub fn apply(
        &self,
        changes: &StoreChanges,
        branches: &[Arc<StoreCell>],
        horizon: Lsn,
        cache: &Cache,
    ) -> Result<(), Error> {
        let adopted = changes.adopted.iter().zip(branches);
        let adopted = adopted.map(|(adopted, branch)| relink(adopted, branch, cache));
        let adopted = adopted.collect::<Result<Vec<_>, _>>()?;
        let mut state = self.state.lock();
        self.append(&mut state, changes, adopted)?;
        self.fold_locked(&mut state, horizon)?;
        self.merge_small(&mut state, cache)
    }

    /// Folds up to the horizon and merges what has become small by it. For quiet stores.
    pub fn tidy(&self, horizon: Lsn, cache: &Cache) -> Result<(), Error> {
        let mut state = self.state.lock();
        if self.fold_locked(&mut state, horizon)? {
            self.merge_small(&mut state, cache)?;
        }
        Ok(())
    }

    fn append(&self, state: &mut State, changes: &StoreChanges, adopted: Vec<Relinked>) -> Result<(), Error> {
        let lsn = changes
            .boundaries
            .first()
            .map_or(Lsn::ZERO, |boundary| boundary.0);
        let mut ended: Vec<(Lsn, u64)> = changes
            .ended
            .iter()
            .map(|(lsn, ordinal)| (*lsn, ordinal.get()))
            .collect();
        let mut adopted = adopted.into_iter().peekable();
        for run in &changes.runs {
            let first = run.first.get();
            while let Some(relinked) = adopted.next_if(|relinked| relinked.first < first) {
                self.append_relinked(state, relinked, &mut ended)?;
            }
            if first != state.count {
                return Err(self.broken(lsn, "first ordinal of new rows", state.count, first));
            }
            let mut start = 0;
            while start < run.rows.num_rows() {
                let rows = (run.rows.num_rows() - start).min(self.piece_rows);
                let piece = Piece::dense(first + start as u64, run.rows.slice(start, rows));
                state.slots.push(Slot::new(piece));
                start += rows;
            }
            state.count = run.end();
        }
        for relinked in adopted {
            self.append_relinked(state, relinked, &mut ended)?;
        }
        if !changes.adopted.is_empty() {
            ended.sort_by_key(|(lsn, _)| *lsn);
        }
        for &(lsn, count) in &changes.boundaries {
            let (last_lsn, last) = state
                .boundaries
                .back()
                .copied()
                .unwrap_or((Lsn::ZERO, state.base));
            if lsn <= last_lsn || count <= last {
                return Err(self.broken(lsn, "ordinals after a commit", last, count));
            }
            state.boundaries.push_back((lsn, count));
        }
        let last = state.boundaries.back().map_or(state.base, |boundary| boundary.1);
        if last != state.count {
            return Err(self.broken(lsn, "ordinals after the last commit", state.count, last));
        }
        for (lsn, ordinal) in ended {
            let order = state.ended.back().map_or(Lsn::ZERO, |ended| ended.0);
            if lsn < order {
                return Err(self.broken(lsn, "order of ended versions", order.get(), lsn.get()));
            }
            if ordinal >= state.count_at(lsn) {
                return Err(self.broken(lsn, "ended ordinal", state.count_at(lsn), ordinal));
            }
            state.ended.push_back((lsn, ordinal));
        }
        Ok(())
    }

    fn append_relinked(
        &self,
        state: &mut State,
        relinked: Relinked,
        ended: &mut Vec<(Lsn, u64)>,
    ) -> Result<(), Error> {
        let Relinked {
            at,
            first,
            count,
            slots,
            replaced,
        } = relinked;
        if first != state.count {
            return Err(self.broken(at, "first ordinal of adopted rows", state.count, first));
        }
        state.slots.extend(slots);
        state.count = first + count;
        ended.extend(replaced.into_iter().map(|ordinal| (at, ordinal)));
        Ok(())
    }

    /// Moves what everybody sees into the bitmaps. True when a row has died.
    fn fold_locked(&self, state: &mut State, horizon: Lsn) -> Result<bool, Error> {
        while let Some(&(lsn, count)) = state.boundaries.front()
            && lsn <= horizon
        {
            state.base = count;
            state.boundaries.pop_front();
        }
        let mut emptied = false;
        let mut folded = false;
        while let Some(&(lsn, ordinal)) = state.ended.front()
            && lsn <= horizon
        {
            state.ended.pop_front();
            let index = state
                .slots
                .partition_point(|slot| slot.piece.ordinals().end <= ordinal);
            let killed = state.slots.get_mut(index).is_some_and(|slot| {
                let killed = slot.kill(ordinal);
                emptied |= slot.live_rows() == 0;
                killed
            });
            if !killed {
                return Err(self.broken(lsn, "version ended that is not alive", 1, ordinal));
            }
            folded = true;
        }
        if emptied {
            state.slots.retain(|slot| slot.live_rows() > 0);
        }
        Ok(folded)
    }

    fn merge_small(&self, state: &mut State, cache: &Cache) -> Result<(), Error> {
        let mut sizes = state.sizes();
        let schema = self.schema();
        while let Some(run) = plan::next_merge(&sizes, self.piece_rows) {
            let merged = merge(&state.slots[run.clone()], &schema, cache)?;
            let slot = merged.map(Slot::new);
            sizes.splice(run.clone(), slot.as_ref().map(size));
            state.slots.splice(run, slot);
        }
        Ok(())
    }

    /// How many deletes and boundaries there are to fold.
    pub fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.ended.len() + state.boundaries.len()
    }

    /// What a snapshot sees, or `None` when the store does not exist in it.
    pub fn open(&self, at: Lsn) -> Option<Cut> {
        if !self.exists_at(at) {
            return None;
        }
        let state = self.state.lock();
        let count = state.count_at(at);
        let slots = state
            .slots
            .iter()
            .take_while(|slot| slot.piece.ordinals().start < count);
        let slots = slots.cloned().collect();
        let mut ended: Vec<u64> = state
            .ended
            .iter()
            .take_while(|ended| ended.0 <= at)
            .map(|ended| ended.1)
            .collect();
        drop(state);
        ended.sort_unstable();
        Some(Cut {
            store: self.store,
            schema: self.schema_at(at),
            slots,
            count,
            ended,
        })
    }

    /// The state with every delete folded: what a restart begins with.
    pub fn capture(self: &Arc<Self>) -> Result<Capture, Error> {
        let (count, mut slots, ended) = {
            let state = self.state.lock();
            (state.count, state.slots.clone(), state.ended.clone())
        };
        for (lsn, ordinal) in ended {
            let index = slots.partition_point(|slot: &Slot| slot.piece.ordinals().end <= ordinal);
            if !slots.get_mut(index).is_some_and(|slot| slot.kill(ordinal)) {
                return Err(self.broken(lsn, "version ended that is not alive", 1, ordinal));
            }
        }
        slots.retain(|slot| slot.live_rows() > 0);
        Ok(Capture {
            cell: self.clone(),
            schema: self.schema(),
            count,
            slots,
        })
    }

    /// The pieces to compact next, in the background.
    pub fn compaction(&self) -> Option<Vec<Slot>> {
        let state = self.state.lock();
        let run = plan::next_compaction(&state.sizes(), self.piece_rows)?;
        Some(state.slots[run].to_vec())
    }

    /// Puts `piece`, made of the living rows of `old`, in their place, and marks in it what has died
    /// meanwhile. False when the pieces have changed too much for that.
    pub fn replace(&self, old: &[Slot], piece: Option<Piece>) -> bool {
        let mut state = self.state.lock();
        let Some(run) = state.find(old) else { return false };
        let mut slot = piece.map(Slot::new);
        for (before, now) in old.iter().zip(&state.slots[run.clone()]) {
            let Some(dead) = &now.dead else { continue };
            let known = |position| before.dead.as_ref().is_some_and(|dead| dead.contains(position));
            if before.dead_rows == now.dead_rows {
                continue;
            }
            for position in dead.iter().filter(|&position| !known(position)) {
                let killed = slot
                    .as_mut()
                    .is_some_and(|slot| slot.kill(now.piece.ordinal(position)));
                assert!(killed, "a row that died meanwhile was alive before");
            }
        }
        state.slots.splice(run, slot.filter(|slot| slot.live_rows() > 0));
        true
    }

    /// Puts a piece with the same rows (now in a file, or made again) in the place of `old`. False when it is gone.
    pub fn install(&self, old: &Arc<Piece>, sealed: Arc<Piece>) -> bool {
        let mut state = self.state.lock();
        let start = old.ordinals().start;
        let index = state
            .slots
            .partition_point(|slot| slot.piece.ordinals().start < start);
        match state.slots.get_mut(index) {
            Some(slot) if Arc::ptr_eq(&slot.piece, old) => {
                *slot = slot.with_piece(sealed);
                true
            }
            _ => false,
        }
    }

    pub fn figures(&self) -> StoreFigures {
        let state = self.state.lock();
        let mut figures = StoreFigures {
            pieces: state.slots.len(),
            ..StoreFigures::default()
        };
        for slot in &state.slots {
            figures.rows += slot.live_rows() as u64;
            let file = slot.piece.file();
            figures.file_bytes += file.map_or(0, |file| file.bytes() as usize);
            figures.sealed += usize::from(file.is_some());
            if slot.piece.batch().is_some() {
                figures.resident_bytes += slot.piece.bytes();
                figures.unsealed_bytes += if file.is_none() { slot.piece.bytes() } else { 0 };
            }
        }
        figures.pending_ends = state.ended.len();
        figures.rows -= state.ended.len() as u64;
        figures
    }

    fn broken(&self, lsn: Lsn, what: &'static str, expected: u64, found: u64) -> Error {
        Error::Broken {
            lsn,
            store: self.store,
            what,
            expected,
            found,
        }
    }
}

impl State {
    /// Ordinals begun by commits up to `at`.
    fn count_at(&self, at: Lsn) -> u64 {
        let after = self.boundaries.partition_point(|boundary| boundary.0 <= at);
        after
            .checked_sub(1)
            .and_then(|last| self.boundaries.get(last))
            .map_or(self.base, |last| last.1)
    }

    fn sizes(&self) -> Vec<Size> {
        self.slots.iter().map(size).collect()
    }

    /// Where exactly these pieces stand beside each other.
    fn find(&self, slots: &[Slot]) -> Option<Range<usize>> {
        let first = &slots.first()?.piece;
        let start = self
            .slots
            .iter()
            .position(|slot| Arc::ptr_eq(&slot.piece, first))?;
        let run = start..start + slots.len();
        let same = |(now, then): (&Slot, &Slot)| Arc::ptr_eq(&now.piece, &then.piece);
        self.slots
            .get(run.clone())?
            .iter()
            .zip(slots)
            .all(same)
            .then_some(run)
    }
}

pub(crate) fn size(slot: &Slot) -> Size {
    let stretch = slot.piece.ordinals();
    Size {
        rows: slot.piece.rows(),
        live: slot.live_rows(),
        bytes: slot.piece.bytes(),
        resident: slot.piece.batch().is_some(),
        start: stretch.start,
        end: stretch.end,
    }
}
