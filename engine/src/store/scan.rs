//! Walking over a store in key order: the rows in memory and those that only the runs have.
//!
//! Rows leave memory for the runs while a walk is under way. What keeps it whole is the order in which the two are
//! looked at: a leaf of the memtable is copied first, and the runs that are asked beside it are those of a moment after that.
//! A row that was not in the leaf had left before, so these runs have it. A leaf that no row has left needs no runs. Entries that were copied keep their chains, wherever
//! they are by now, but for versions that a checkpoint takes off them meanwhile: those are asked for in the runs of that moment.

use super::Store;
use super::entry::RowEntry;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::runs::{RunRange, RunSet, Stored};
use scry_wal::Lsn;
use std::ops::Bound;
use std::sync::Arc;

/// One key of a walk.
pub(crate) enum Met<'a> {
    /// The row is in memory.
    Entry(&'a Arc<RowEntry>),
    /// What the runs have for the walk's snapshot.
    Below(Stored),
}

/// What a visitor says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    On,
    /// The entry has nothing for the snapshot, and the runs may: the key is visited again with what they have, if that is anything.
    Below,
    /// Enough: the walk goes on behind this key another time.
    Stop,
    /// Enough, and this key is to be visited again.
    Stay,
}

/// A walk that goes on where it stopped.
pub(crate) struct StoreScan {
    /// What is left.
    left: KeyRange,
    at: Lsn,
    done: bool,
    /// What the reader itself has moved out of memory.
    own: Option<Arc<RunSet>>,
    below: Option<Box<Below>>,
}

/// The runs beside the memtable, as of one moment.
struct Below {
    set: Arc<RunSet>,
    rows: RunRange,
    /// `rows` is at a row; else there are no more.
    is_at: bool,
}

impl StoreScan {
    /// Over what a snapshot sees. The caller keeps it held.
    pub(crate) fn new(range: KeyRange, at: Lsn) -> StoreScan {
        StoreScan {
            left: range,
            at,
            done: false,
            own: None,
            below: None,
        }
    }

    /// The same, with rows that the reader itself has moved out of memory.
    pub(crate) fn with_own(mut self, own: Option<Arc<RunSet>>) -> StoreScan {
        self.own = own;
        self
    }

    /// The same for a walk that is under way: by now it has moved more.
    pub(crate) fn set_own(&mut self, own: Option<Arc<RunSet>>) {
        let is_same = match (&self.own, &own) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !is_same {
            (self.own, self.below) = (own, None);
        }
    }

    /// Those rows.
    pub(crate) fn own(&self) -> Option<&Arc<RunSet>> {
        self.own.as_ref()
    }

    /// The snapshot.
    pub(crate) fn at(&self) -> Lsn {
        self.at
    }

    /// Calls `visit` with each key until it has enough or there are no more. Locks nothing meanwhile.
    pub(crate) fn run(
        &mut self,
        store: &Store,
        mut visit: impl FnMut(&Key, Met<'_>) -> Next,
    ) -> Result<(), Error> {
        let mut batch = Vec::new();
        while !self.done {
            let (next_leaf, has_gaps) = store.rows.leaf(&self.left, &mut batch);
            match has_gaps {
                true => self.look_below(store)?,
                false => self.below = None,
            }
            for (key, entry) in batch.drain(..) {
                while let Some((key, stored)) = self.below_before(Some(&key))? {
                    let next = visit(&key, Met::Below(stored));
                    if self.ends(key, next) {
                        return Ok(());
                    }
                }
                if has_gaps {
                    self.pass_below(&key)?;
                }
                let mut next = visit(&key, Met::Entry(&entry));
                if next == Next::Below {
                    next = match self.read_below(store, &key)? {
                        Some(stored) => visit(&key, Met::Below(stored)),
                        None => Next::On,
                    };
                }
                if self.ends(key, next) {
                    return Ok(());
                }
            }
            while let Some((key, stored)) = self.below_before(next_leaf.as_ref())? {
                let next = visit(&key, Met::Below(stored));
                if self.ends(key, next) {
                    return Ok(());
                }
            }
            match next_leaf {
                Some(first) => self.left.lower = Bound::Included(first),
                None => self.done = true,
            }
        }
        Ok(())
    }

    /// Notes where the walk stops, if the visitor of `key` says so.
    fn ends(&mut self, key: Key, next: Next) -> bool {
        self.left.lower = match next {
            Next::On | Next::Below => return false,
            Next::Stop => Bound::Excluded(key),
            Next::Stay => {
                // What the runs have of the key was handed out already.
                self.below = None;
                Bound::Included(key)
            }
        };
        true
    }

    /// Takes the runs as they are now.
    fn look_below(&mut self, store: &Store) -> Result<(), Error> {
        let set = store.home.backing.runs.current();
        if self
            .below
            .as_ref()
            .is_some_and(|below| Arc::ptr_eq(&below.set, &set))
        {
            return Ok(());
        }
        let own = self.own.as_deref();
        let mut rows = RunRange::new(own, &set, store.home.space, &self.left, self.at)?;
        let is_at = rows.step()?;
        self.below = Some(Box::new(Below { set, rows, is_at }));
        Ok(())
    }

    /// The next row of the runs, if it lies before `key`.
    fn below_before(&mut self, key: Option<&Key>) -> Result<Option<(Key, Stored)>, Error> {
        let Some(below) = &mut self.below else {
            return Ok(None);
        };
        if !below.is_at || key.is_some_and(|key| below.rows.key() >= key.as_ref()) {
            return Ok(None);
        }
        let found = below.rows.current();
        below.step()?;
        Ok(Some(found))
    }

    /// Passes over what the runs have of `key`, which is in memory.
    fn pass_below(&mut self, key: &Key) -> Result<(), Error> {
        if let Some(below) = &mut self.below
            && below.is_at
            && below.rows.key() == key.as_ref()
        {
            below.step()?;
        }
        Ok(())
    }

    /// What the runs have of a row whose entry has nothing for the snapshot: as they are now, for a checkpoint may have taken it off the entry
    /// since the walk took its own.
    fn read_below(&self, store: &Store, key: &Key) -> Result<Option<Stored>, Error> {
        match own_of(self.own.as_deref(), store, key)? {
            None => store.read_below(key.as_ref(), self.at),
            own => Ok(own),
        }
    }
}

/// What a reader itself has moved out of memory of a row.
pub(crate) fn own_of(own: Option<&RunSet>, store: &Store, key: &[u8]) -> Result<Option<Stored>, Error> {
    match own {
        Some(own) => own.get(store.home.space, key, Lsn::MAX),
        None => Ok(None),
    }
}

impl Below {
    /// Goes on. Where that fails, it is nowhere.
    fn step(&mut self) -> Result<(), Error> {
        self.is_at = false;
        self.is_at = self.rows.step()?;
        Ok(())
    }
}
