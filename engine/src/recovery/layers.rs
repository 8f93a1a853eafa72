//! What the replay puts into runs instead of memory.
//!
//! Versions of keys come in any order, are sorted `bulk_bytes` at a time, and each such part is a layer in front of those before it. Once all are
//! there the layers are put in front of everybody's set, and the next checkpoint takes them over (`crate::runs::private`).

use crate::error::Error;
use crate::key::Key;
use crate::runs::flush::FlushWriter;
use crate::runs::private::{Needed, PrivateRuns};
use crate::runs::{Runs, SpaceId, Stored};
use std::sync::Arc;

/// What a version, or a change, takes in memory beside its key and rows, about.
pub(super) const VERSION_BYTES: usize = 128;

/// A version, and where it belongs.
pub(super) type Placed = (SpaceId, Key, Stored);

pub(super) struct Layers {
    out: PrivateRuns,
    runs: Arc<Runs>,
    waiting: Vec<Placed>,
    waiting_bytes: usize,
    bulk_bytes: usize,
    is_written: bool,
}

impl Layers {
    /// Of `bulk_bytes` in memory, about.
    pub(super) fn new(runs: &Arc<Runs>, bulk_bytes: usize) -> Layers {
        Layers {
            out: PrivateRuns::new(runs),
            runs: Arc::clone(runs),
            waiting: Vec::new(),
            waiting_bytes: 0,
            bulk_bytes,
            is_written: false,
        }
    }

    /// Adds a version of a key: the only one that waits for the same layer.
    pub(super) fn put(&mut self, space: SpaceId, key: Key, stored: Stored) -> Result<(), Error> {
        self.waiting_bytes += key.len() + stored.row.as_ref().map_or(0, |row| row.len()) + VERSION_BYTES;
        self.waiting.push((space, key, stored));
        match self.waiting_bytes > self.bulk_bytes {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Makes a layer of what waits.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        self.waiting_bytes = 0;
        if self.waiting.is_empty() {
            return Ok(());
        }
        fn place((space, key, _): &Placed) -> (SpaceId, &Key) {
            (*space, key)
        }
        let mut writer = self.begin();
        self.waiting
            .sort_unstable_by(|one, other| place(one).cmp(&place(other)));
        // Who fills a store twice under one key finds a key less than it has put.
        self.waiting.dedup_by(|one, other| place(one) == place(other));
        for (space, key, stored) in self.waiting.drain(..) {
            writer.add(space, &key, &[stored])?;
        }
        self.push(writer)
    }

    /// What waits, if no layer was made: little enough for memory.
    pub(super) fn take_waiting(&mut self) -> Option<Vec<Placed>> {
        (!self.is_written).then(|| std::mem::take(&mut self.waiting))
    }

    /// How many keys of a space the layers have.
    pub(super) fn keys(&self, space: SpaceId) -> Result<u64, Error> {
        let mut versions = self.out.versions(space)?;
        let mut keys = 0;
        while versions.next()?.is_some() {
            keys += 1;
        }
        Ok(keys)
    }

    /// Begins a layer whose versions come in order.
    pub(super) fn begin(&self) -> FlushWriter {
        self.runs.begin_private()
    }

    /// Adds such a layer, and keeps their number small.
    pub(super) fn push(&mut self, writer: FlushWriter) -> Result<(), Error> {
        self.is_written = true;
        self.out.push(writer)?;
        merge(&mut self.out)
    }

    /// Lets everybody read them.
    pub(super) fn publish(self) {
        self.out.publish();
    }
}

/// Keeps the number of layers small.
pub(super) fn merge(runs: &mut PrivateRuns) -> Result<(), Error> {
    while let Some(mut merge) = runs.begin_merge(Needed::All)? {
        while merge.step(usize::MAX)? {}
        runs.end_merge(merge)?;
    }
    Ok(())
}
