//! The lock of a table: shared by the transactions that write rows, exclusive for the one that alters the table.
//!
//! Readers take none: they go by the catalog of their snapshot.

use super::Holder;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;

/// How a table is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Writes rows.
    Shared,
    /// Defines something beside those who write rows.
    Define,
    /// Alters the table.
    Exclusive,
}

impl Mode {
    fn excludes(self, other: Mode) -> bool {
        self == Mode::Exclusive || other == Mode::Exclusive || (self, other) == (Mode::Define, Mode::Define)
    }
}

#[derive(Default)]
pub(crate) struct TableLock {
    state: Mutex<State>,
}

impl std::fmt::Debug for TableLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableLock").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    holders: SmallVec<[(Arc<Holder>, Mode); 2]>,
    contended: bool,
    /// Somebody waits for some of the holders to leave.
    watched: bool,
}

impl State {
    /// Makes `holder` hold the lock in `mode`, unless another's hold stands against it.
    fn grant(&mut self, holder: &Arc<Holder>, mode: Mode) -> bool {
        let mut own = None;
        for (index, (other, held)) in self.holders.iter().enumerate() {
            if Arc::ptr_eq(other, holder) {
                own = Some(index);
            } else if mode.excludes(*held) {
                return false;
            }
        }
        match own {
            Some(index) => self.holders[index].1 = mode.max(self.holders[index].1),
            None => self.holders.push((Arc::clone(holder), mode)),
        }
        true
    }
}

impl TableLock {
    /// Takes the lock if it is free for that, and nobody queues who would be overtaken.
    pub(crate) fn try_lock(&self, holder: &Arc<Holder>, mode: Mode) -> bool {
        let mut state = self.state.lock();
        !state.contended && state.grant(holder, mode)
    }

    /// Gives the lock back. True when somebody queues for it, or waits for holders to leave: the wait table then goes on.
    #[must_use]
    pub(crate) fn unlock(&self, holder: &Arc<Holder>) -> bool {
        let mut state = self.state.lock();
        state.holders.retain(|(other, _)| !Arc::ptr_eq(other, holder));
        state.contended || state.watched
    }

    /// Holds the lock no longer exclusively but shared. True when somebody queues for it.
    #[must_use]
    pub(super) fn downgrade(&self, holder: &Arc<Holder>) -> bool {
        let mut state = self.state.lock();
        let own = state
            .holders
            .iter_mut()
            .find(|(other, _)| Arc::ptr_eq(other, holder));
        if let Some((_, mode)) = own {
            *mode = Mode::Shared;
        }
        state.contended
    }

    /// From the wait table: takes the lock regardless of who queues, or marks it contended.
    pub(super) fn grant_or_contend(&self, holder: &Arc<Holder>, mode: Mode) -> bool {
        let mut state = self.state.lock();
        let granted = state.grant(holder, mode);
        state.contended |= !granted;
        granted
    }

    pub(super) fn set_contended(&self, contended: bool) {
        self.state.lock().contended = contended;
    }

    pub(super) fn set_watched(&self, watched: bool) {
        self.state.lock().watched = watched;
    }

    /// Whether `holder` has the lock in any mode.
    pub(super) fn is_held_by(&self, holder: &Arc<Holder>) -> bool {
        self.state
            .lock()
            .holders
            .iter()
            .any(|(other, _)| Arc::ptr_eq(other, holder))
    }

    /// Everybody but `holder` who has the lock.
    pub(crate) fn others(&self, holder: &Arc<Holder>) -> Vec<Arc<Holder>> {
        let state = self.state.lock();
        state
            .holders
            .iter()
            .filter(|(other, _)| !Arc::ptr_eq(other, holder))
            .map(|(other, _)| Arc::clone(other))
            .collect()
    }
}
