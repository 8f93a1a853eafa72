//! A range of keys as one snapshot sees it.

use crate::Row;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::runs::cursor::Reading;
use crate::runs::format::SPACE_BYTES;
use crate::runs::merge::Merge;
use crate::runs::set::RunSet;
use crate::runs::{InternalKey, SpaceId, Stored, internal_key};
use scry_wal::{Lsn, Ordinal};
use std::ops::Bound;

/// Walks a range, and holds the runs that it reads. Either `next`, or `step` and what it came to.
pub struct RunRange {
    merge: Merge,
    /// Of internal keys, exclusive.
    upper: Option<InternalKey>,
    at: Lsn,
    /// The merge is at an entry that was answered.
    is_at: bool,
    /// Its key, when the merge has moved on.
    answered: Vec<u8>,
}

/// The bounds of a range in internal keys: from the first on, and below the second.
fn bounds(space: SpaceId, range: &KeyRange) -> (InternalKey, Option<InternalKey>) {
    // The least key above a key is the key and a zero byte.
    let above = |key: &Key| {
        let mut key = internal_key(space, key);
        key.push(0);
        key
    };
    let lower = match &range.lower {
        Bound::Included(key) => internal_key(space, key),
        Bound::Excluded(key) => above(key),
        Bound::Unbounded => internal_key(space, &[]),
    };
    let upper = match &range.upper {
        Bound::Included(key) => Some(above(key)),
        Bound::Excluded(key) => Some(internal_key(space, key)),
        Bound::Unbounded => space.next().map(|space| internal_key(space, &[])),
    };
    (lower, upper)
}

impl RunRange {
    /// What `own` has of a key goes before all that `set` has of it.
    pub(crate) fn new(
        own: Option<&RunSet>,
        set: &RunSet,
        space: SpaceId,
        range: &KeyRange,
        at: Lsn,
    ) -> Result<RunRange, Error> {
        let (lower, upper) = bounds(space, range);
        let (mut layers, mut owned) = (Vec::new(), 0);
        if upper.as_ref().is_none_or(|upper| lower < *upper) {
            let overlapping = |set: &RunSet| set.overlapping(&lower, upper.as_deref(), at);
            layers.extend(own.into_iter().flat_map(overlapping));
            owned = layers.len();
            layers.extend(overlapping(set));
        }
        Ok(RunRange {
            merge: Merge::seek_with_first(owned, layers, Reading::Scan, &lower)?,
            upper,
            at,
            is_at: false,
            answered: Vec::new(),
        })
    }

    /// Goes to the next key; false when there is none.
    ///
    /// # Errors
    /// When a file cannot be read, or is damaged.
    pub fn step(&mut self) -> Result<bool, Error> {
        if self.is_at {
            self.is_at = false;
            self.answered.clear();
            self.answered.extend_from_slice(self.merge.key());
            self.merge.advance()?;
        }
        loop {
            let key = self.merge.key();
            let is_past = self.upper.as_ref().is_some_and(|upper| key >= upper.as_slice());
            if self.merge.is_over() || is_past {
                return Ok(false);
            }
            if self.merge.lsn() <= self.at && key != self.answered {
                self.is_at = true;
                return Ok(true);
            }
            self.merge.advance()?;
        }
    }

    /// The key that `step` came to.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.merge.key().get(SPACE_BYTES..).unwrap_or_default()
    }

    #[inline]
    pub fn lsn(&self) -> Lsn {
        self.merge.lsn()
    }

    #[inline]
    pub fn ordinal(&self) -> Ordinal {
        self.merge.ordinal()
    }

    /// The row; `None` when it was deleted.
    #[inline]
    pub fn row(&self) -> Option<&[u8]> {
        self.merge.row()
    }

    /// The key that `step` came to and its version, as values of their own.
    #[inline]
    pub fn current(&self) -> (Key, Stored) {
        let stored = Stored {
            lsn: self.lsn(),
            ordinal: self.ordinal(),
            row: self.row().map(Row::from),
        };
        (Key::from_bytes(self.key()), stored)
    }

    /// The next key and its version, in the same way.
    ///
    /// # Errors
    /// When a file cannot be read, or is damaged.
    #[expect(
        clippy::should_implement_trait,
        reason = "an error ends an iterator of results for good"
    )]
    pub fn next(&mut self) -> Result<Option<(Key, Stored)>, Error> {
        Ok(self.step()?.then(|| self.current()))
    }
}
