//! Savepoints.
//!
//! A savepoint remembers how many changes, undo steps and DDL changes there were. Rolling back undoes the steps in
//! reverse, which restores the rows touched before it, and gives back the rows first touched after it. A row that was
//! written ahead into the log keeps its slot: the difference to what is logged is written later. What has moved out of memory since is
//! written once more, as it was (`super::moved`): that takes longer the more it is.

use super::Txn;
use crate::catalog::AppliedChange;
use crate::error::Error;
use crate::overlay::{Logged, Now};
use scry_wal::Lsn;

/// A savepoint of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SavepointId(u64);

/// The most savepoints that one transaction can have open.
pub const SAVEPOINTS_MAX: usize = 65_536;

pub(super) struct Savepoint {
    id: SavepointId,
    /// The first change that is younger.
    pub(super) changes: u32,
    undo: usize,
    ddl: usize,
    /// What moved is as it was there up to this age.
    pub(super) mark: u64,
}

impl Txn {
    /// Opens a savepoint.
    ///
    /// # Errors
    /// `TooManySavepoints`.
    pub fn savepoint(&mut self) -> Result<SavepointId, Error> {
        if self.savepoints.len() >= SAVEPOINTS_MAX {
            return Err(Error::TooManySavepoints {
                limit: SAVEPOINTS_MAX,
            });
        }
        let id = SavepointId(self.next_savepoint);
        self.next_savepoint += 1;
        self.savepoints.push(Savepoint {
            id,
            changes: self.overlay.next_slot(),
            undo: self.overlay.undo.len(),
            ddl: self.ddl.len(),
            mark: id.0,
        });
        Ok(id)
    }

    /// Undoes everything since the savepoint. It stays open; those opened after it are gone.
    ///
    /// # Errors
    /// `UnknownSavepoint`. When it has to write rows that have moved out of memory, also what writing meets: the log and its bounds, files. The
    /// transaction can then be rolled back, to this savepoint or another, or as a whole, and nothing else.
    pub async fn rollback_to(&mut self, id: SavepointId) -> Result<(), Error> {
        self.begin_rollback_to(id)?;
        self.undo_moved().await
    }

    /// What `rollback_to` does at once: gives back the locks of rows that are in memory. The transaction can then be rolled back, to this savepoint
    /// or another, or as a whole, and nothing else.
    ///
    /// # Errors
    /// `UnknownSavepoint`.
    pub fn begin_rollback_to(&mut self, id: SavepointId) -> Result<(), Error> {
        let index = self.find(id)?;
        self.savepoints.truncate(index + 1);
        let Savepoint {
            changes, undo, ddl, ..
        } = self.savepoints[index];
        let stores_return = self.ddl.len() > ddl;
        if stores_return {
            self.ddl.truncate(ddl);
            self.rebuild_catalog();
            for table in self.catalog.all_tables() {
                self.overlay.set_layout(&table.store, &table.layout);
            }
        }
        while self.overlay.undo.len() > undo {
            self.overlay.undo_last();
        }
        let stay = stores_return.then(|| self.stores_that_stay());
        for slot in (changes..self.overlay.next_slot()).rev() {
            match self.overlay.changes.get(slot as usize) {
                // What was made since the savepoint never comes back.
                Some(pending) if stay.as_ref().is_some_and(|stay| !stay[pending.store as usize]) => {
                    self.give_back(slot);
                }
                // It was brought back since: see `undo_moved`.
                Some(pending) if pending.moved => {}
                Some(pending) if matches!(pending.logged, Logged::Nothing) => self.give_back(slot),
                Some(_) => self.overlay.restore(slot, Now::Untouched),
                // Its numbers were let go of.
                None => {}
            }
        }
        self.overlay.forget_dirty_beyond_end();
        self.move_sooner();
        if stores_return {
            self.overlay.mark_all();
        }
        Ok(())
    }

    /// Closes a savepoint and those opened after it; what was done since stays.
    ///
    /// # Errors
    /// `UnknownSavepoint`.
    pub fn release(&mut self, id: SavepointId) -> Result<(), Error> {
        let index = self.find(id)?;
        let undo = self.savepoints[index].undo;
        self.savepoints.truncate(index);
        // What is younger than the savepoint around it needs no steps for that one.
        match self.savepoints.last() {
            Some(around) => self.overlay.forget_undo(undo, around.changes),
            None => self.overlay.forget_undo(0, 0),
        }
        self.move_sooner();
        Ok(())
    }

    /// When a change of this number got what it says now, in savepoints: no later than the first open savepoint that is younger than its number, and
    /// later than all open ones before that. Of the same row no change with a higher number ever has a lower age.
    pub(super) fn age(&self, slot: u32) -> Lsn {
        let older = self
            .savepoints
            .partition_point(|savepoint| savepoint.changes <= slot);
        let mark = self.savepoints.get(older).map(|savepoint| savepoint.mark);
        Lsn::new(mark.unwrap_or(self.next_savepoint))
    }

    /// What is written from here on is younger than all that was written before.
    pub(super) fn begin_age(&mut self) {
        self.next_savepoint += 1;
    }

    /// It was rolled back to: what there is by now is as it was at the last savepoint.
    pub(super) fn renew_last_savepoint(&mut self) {
        let (mark, changes) = (self.next_savepoint, self.overlay.next_slot());
        if let Some(last) = self.savepoints.last_mut() {
            (last.mark, last.changes) = (mark, changes);
        }
        self.next_savepoint += 1;
    }

    /// The marks of the savepoints that are open, ascending.
    pub(super) fn marks(&self) -> Vec<Lsn> {
        let marks = self.savepoints.iter().map(|savepoint| savepoint.mark);
        marks.map(Lsn::new).collect()
    }

    pub(super) fn last_savepoint(&self) -> Option<&Savepoint> {
        self.savepoints.last()
    }

    pub(crate) fn has_savepoints(&self) -> bool {
        !self.savepoints.is_empty()
    }

    /// Whether rolling back to a savepoint takes away columns or a primary key that were added since: what is written to the log cannot be meant
    /// otherwise then.
    pub(super) fn may_be_redefined(&self) -> bool {
        let redefines = |applied: &AppliedChange| applied.adds_columns() || applied.adds_primary_key();
        self.savepoints.first().is_some_and(|first| {
            self.overlay.is_rekeyed_since(first.undo) || self.ddl[first.ddl..].iter().any(redefines)
        })
    }

    fn find(&self, id: SavepointId) -> Result<usize, Error> {
        self.savepoints
            .binary_search_by_key(&id, |savepoint| savepoint.id)
            .map_err(|_| Error::UnknownSavepoint)
    }

    /// Rows at or beyond this slot are younger than the innermost savepoint.
    pub(super) fn undo_below(&self) -> u32 {
        self.savepoints.last().map_or(0, |savepoint| savepoint.changes)
    }
}
