//! Savepoints.
//!
//! A savepoint remembers how many changes, undo steps and DDL changes there were. Rolling back undoes the steps in
//! reverse, which restores the rows touched before it, and gives back the rows first touched after it. A row that was
//! written ahead into the log keeps its slot: the difference to what is logged is written later.

use super::Txn;
use crate::catalog::AppliedChange;
use crate::error::Error;
use crate::overlay::{Logged, Now, Undo};

/// A savepoint of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SavepointId(u64);

/// The most savepoints that one transaction can have open.
pub const SAVEPOINTS_MAX: usize = 65_536;

pub(super) struct Savepoint {
    id: SavepointId,
    changes: u32,
    undo: usize,
    ddl: usize,
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
        });
        Ok(id)
    }

    /// Undoes everything since the savepoint. It stays open; those opened after it are gone.
    ///
    /// # Errors
    /// `UnknownSavepoint`.
    pub fn rollback_to(&mut self, id: SavepointId) -> Result<(), Error> {
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
            match self.overlay.undo.pop() {
                Some(Undo::Now { slot, now }) => {
                    self.overlay.changes[slot as usize].set_now(now);
                    self.overlay.mark(slot);
                }
                Some(Undo::Rekeyed {
                    slot,
                    store,
                    key,
                    entry,
                }) => {
                    let pending = &mut self.overlay.changes[slot as usize];
                    (pending.store, pending.key, pending.entry) = (store, key, entry);
                }
                None => break,
            }
        }
        for slot in (changes..self.overlay.next_slot()).rev() {
            let pending = &mut self.overlay.changes[slot as usize];
            if let Some(moved) = &pending.moved {
                // It was brought back since.
                let moved = moved.clone().map_or(Now::Gone, Now::Row);
                pending.set_now(moved);
                self.overlay.mark(slot);
                continue;
            }
            pending.set_now(Now::Untouched);
            if !matches!(pending.logged, Logged::Nothing) {
                self.overlay.mark(slot);
                continue;
            }
            self.give_back(slot as usize);
            if slot + 1 == self.overlay.next_slot() {
                self.overlay.changes.pop();
            }
        }
        self.overlay.forget_dirty_beyond_end();
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
        self.savepoints.truncate(index);
        if self.savepoints.is_empty() {
            self.overlay
                .undo
                .retain(|undo| matches!(undo, Undo::Rekeyed { .. }));
        }
        Ok(())
    }

    /// The first change that is younger than the outermost savepoint.
    pub(super) fn first_savepoint(&self) -> Option<u32> {
        self.savepoints.first().map(|savepoint| savepoint.changes)
    }

    pub(crate) fn has_savepoints(&self) -> bool {
        !self.savepoints.is_empty()
    }

    /// Whether rolling back to a savepoint takes away columns that were added since.
    pub(super) fn may_lose_columns(&self) -> bool {
        let first = self.savepoints.first();
        first.is_some_and(|first| self.ddl[first.ddl..].iter().any(AppliedChange::adds_columns))
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
