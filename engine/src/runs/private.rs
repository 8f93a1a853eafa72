//! The runs of one transaction, before it commits and until a checkpoint has taken them over.
//!
//! They are as lasting as memory is: no manifest names them, nothing makes them durable, and a start removes what a crash has left of them, for
//! the log has all that is in them. A transaction reads its own by a set that is made of them alone. For its commit they are put in front of everybody's set,
//! under a stamp. The next checkpoint copies them, with LSN and ordinals as they are by now, into one layer of durable runs.
//!
//! Of a key, a later layer of the transaction has what is in force; its runs may have the key again. Where an LSN stands, the entries of a
//! transaction have their *age*, which rises with each savepoint: see `crate::txn::moved`.
//!
//! The replay of the log uses them, too, for transactions of which it keeps little in memory (`crate::recovery`); it knows where their versions stand.

use crate::Row;
use crate::error::Error;
use crate::key::Key;
use crate::runs::cursor::Reading;
use crate::runs::flush::FlushWriter;
use crate::runs::format::SPACE_BYTES;
use crate::runs::merge::Merge;
use crate::runs::set::{Layer, RunSet};
use crate::runs::stamp::Stamp;
use crate::runs::{InternalKey, Runs, SpaceId, Stored, internal_key};
use scry_wal::Lsn;
use std::sync::Arc;

/// So many layers that were merged equally often are merged into one: a lookup asks the filter of each.
const FAN: usize = 8;

/// Layers of a transaction. Dropped, they leave nothing behind, unless they were handed over.
pub(crate) struct PrivateRuns {
    runs: Arc<Runs>,
    /// Oldest first, each with how often it was merged.
    layers: Vec<(u32, Arc<Layer>)>,
    /// For the commit.
    stamp: Arc<Stamp>,
    /// For reads before it.
    own: Arc<Stamp>,
    handed_over: bool,
}

/// Which versions of a key are needed of layers that become one.
pub(crate) enum Needed {
    All,
    /// The newest at each of these, ascending, and the newest of all.
    At(Vec<Lsn>),
}

/// Layers that are being merged into one.
pub(crate) struct PrivateMerge {
    merge: Merge,
    out: FlushWriter,
    count: usize,
    last: Last,
    needed: Needed,
}

/// The version that was looked at last.
#[derive(Default)]
struct Last {
    key: Vec<u8>,
    lsn: Option<Lsn>,
}

impl PrivateRuns {
    pub(crate) fn new(runs: &Arc<Runs>) -> PrivateRuns {
        PrivateRuns {
            runs: Arc::clone(runs),
            layers: Vec::new(),
            stamp: Arc::default(),
            own: Arc::new(Stamp::own()),
            handed_over: false,
        }
    }

    /// Adds what was written by a `Runs::begin_private`.
    pub(crate) fn push(&mut self, writer: FlushWriter) -> Result<(), Error> {
        let layer = writer.finish()?;
        self.layers.push((0, Arc::new(layer)));
        Ok(())
    }

    /// All of it as the transaction itself sees it.
    pub(crate) fn set(&self) -> RunSet {
        let newest_first = self.layers.iter().rev();
        let own = newest_first.map(|(_, layer)| Arc::new(layer.stamped(&self.own)));
        RunSet::new(own.collect(), Vec::new())
    }

    /// All of it, with ages where LSNs stand; or only the layers that have something younger.
    pub(crate) fn by_age(&self, younger_than: Option<Lsn>) -> RunSet {
        let is_younger = |layer: &Layer| {
            let mut youngest = layer.runs().iter().map(|run| run.meta.lsn_max);
            younger_than.is_none_or(|age| youngest.any(|youngest| youngest > age))
        };
        let newest_first = self.layers.iter().rev().map(|(_, layer)| layer);
        let younger = newest_first.filter(|layer| is_younger(layer)).map(Arc::clone);
        RunSet::new(younger.collect(), Vec::new())
    }

    /// Begins to merge the last layers, when there are enough that are alike.
    pub(crate) fn begin_merge(&self, needed: Needed) -> Result<Option<PrivateMerge>, Error> {
        let Some((merged, _)) = self.layers.last() else {
            return Ok(None);
        };
        let alike = self.layers.iter().rev().take_while(|(other, _)| other == merged);
        let alike: Vec<Arc<Layer>> = alike.map(|(_, layer)| Arc::clone(layer)).collect();
        if alike.len() < FAN {
            return Ok(None);
        }
        Ok(Some(PrivateMerge {
            count: alike.len(),
            merge: Merge::seek(alike, Reading::Bulk, &[])?,
            out: self.runs.begin_private(),
            last: Last::default(),
            needed,
        }))
    }

    /// Puts the outcome of a merge that is done in the place of what was merged.
    pub(crate) fn end_merge(&mut self, merge: PrivateMerge) -> Result<(), Error> {
        let layer = merge.out.finish()?;
        let gone = self.layers.split_off(self.layers.len() - merge.count);
        let merged = gone.iter().map(|(merged, _)| *merged).max().unwrap_or_default();
        doom(gone.iter().map(|(_, layer)| layer));
        self.layers.push((merged + 1, Arc::new(layer)));
        Ok(())
    }

    /// All that the layers have of a space.
    pub(crate) fn versions(&self, space: SpaceId) -> Result<Versions, Error> {
        let newest_first = self.layers.iter().rev().map(|(_, layer)| Arc::clone(layer));
        let merge = Merge::seek(newest_first, Reading::Bulk, &internal_key(space, &[]))?;
        Ok(Versions { merge, space })
    }

    /// Puts them in front of everybody's set as they are: their entries say where they stand.
    pub(crate) fn publish(mut self) {
        let newest_first = self.layers.iter().rev().map(|(_, layer)| Arc::clone(layer));
        self.runs.adopt(newest_first.collect());
        self.handed_over = true;
    }

    /// Puts them in front of everybody's set, where nobody sees them yet.
    pub(crate) fn hand_over(&mut self) -> Arc<Stamp> {
        let newest_first = self.layers.iter().rev();
        let stamped = newest_first.map(|(_, layer)| Arc::new(layer.stamped(&self.stamp)));
        self.runs.adopt(stamped.collect());
        self.handed_over = true;
        Arc::clone(&self.stamp)
    }

    /// The commit was refused: takes them back.
    pub(crate) fn take_back(&mut self) {
        if std::mem::replace(&mut self.handed_over, false) {
            self.runs.disown(&self.stamp);
        }
    }
}

impl Drop for PrivateRuns {
    fn drop(&mut self) {
        if !self.handed_over {
            doom(self.layers.iter().map(|(_, layer)| layer));
        }
    }
}

/// Walks over the keys of a space, with all versions of each.
pub(crate) struct Versions {
    merge: Merge,
    space: SpaceId,
}

impl Versions {
    /// The next key, and its versions, newest first.
    pub(crate) fn next(&mut self) -> Result<Option<(Key, Vec<Stored>)>, Error> {
        if self.merge.is_over() || SpaceId::of(self.merge.key()) != self.space {
            return Ok(None);
        }
        let internal = InternalKey::from_slice(self.merge.key());
        let mut versions = Vec::new();
        while self.merge.key() == internal.as_slice() && !self.merge.is_over() {
            versions.push(Stored {
                lsn: self.merge.lsn(),
                ordinal: self.merge.ordinal(),
                row: self.merge.row().map(Row::from),
            });
            self.merge.advance()?;
        }
        let key = Key::from_bytes(internal.get(SPACE_BYTES..).unwrap_or_default());
        Ok(Some((key, versions)))
    }
}

fn doom<'l>(layers: impl Iterator<Item = &'l Arc<Layer>>) {
    layers.flat_map(|layer| layer.runs()).for_each(|run| run.doom());
}

impl PrivateMerge {
    /// Goes on with so many entries. False: there are no more.
    pub(crate) fn step(&mut self, entries: usize) -> Result<bool, Error> {
        for _ in 0..entries {
            if self.merge.is_over() {
                return Ok(false);
            }
            copy(&mut self.merge, &mut self.out, &mut self.last, &self.needed)?;
        }
        Ok(true)
    }
}

impl Needed {
    /// Whether a version is, behind a newer one of the same key.
    fn is_needed(&self, lsn: Lsn, newer: Lsn) -> bool {
        match self {
            // An earlier layer may have had the same.
            Needed::All => lsn != newer,
            Needed::At(those) => {
                let before = |lsn| those.partition_point(|at| *at < lsn);
                before(lsn) < before(newer)
            }
        }
    }
}

/// Copies the version that a merge is at, if it is needed, and goes on.
fn copy(merge: &mut Merge, out: &mut FlushWriter, last: &mut Last, needed: &Needed) -> Result<(), Error> {
    let newer = last.lsn.filter(|_| last.key == merge.key());
    if newer.is_none() {
        last.key.clear();
        last.key.extend_from_slice(merge.key());
    }
    if newer.is_none_or(|newer| needed.is_needed(merge.lsn(), newer)) {
        out.put(merge.key(), merge.lsn(), merge.ordinal(), merge.row())?;
    }
    last.lsn = Some(merge.lsn());
    merge.advance()
}

/// What a checkpoint takes over of committed transactions: a durable copy of their layers.
pub(crate) struct TakenOver {
    pub(crate) layers: Vec<Arc<Layer>>,
    pub(crate) copy: FlushWriter,
}

impl Runs {
    /// Begins a layer of a transaction.
    pub(crate) fn begin_private(self: &Arc<Self>) -> FlushWriter {
        FlushWriter::private(Arc::clone(self))
    }

    /// Copies what was committed up to `upto` and is in runs of transactions. Spaces that are not live are left out; `look` is called now and then. To be
    /// completed by `install`.
    pub(crate) fn take_over(
        self: &Arc<Self>,
        upto: Lsn,
        is_live: impl Fn(SpaceId) -> bool,
        mut look: impl FnMut(),
    ) -> Result<TakenOver, Error> {
        let set = self.current();
        let layers = set.adopted().iter().filter(|layer| layer.is_known(upto));
        let layers: Vec<Arc<Layer>> = layers.map(Arc::clone).collect();
        let mut merge = Merge::seek(layers.iter().map(Arc::clone), Reading::Bulk, &[])?;
        let (mut copied, mut last) = (self.begin_flush(), Last::default());
        let (mut entries, mut space) = (0_u64, None);
        while !merge.is_over() {
            let found = SpaceId::of(merge.key());
            if space.is_none_or(|(known, _)| known != found) {
                space = Some((found, is_live(found)));
            }
            match space {
                Some((_, true)) => copy(&mut merge, &mut copied, &mut last, &Needed::All)?,
                _ => merge.advance()?,
            }
            entries += 1;
            if entries.is_multiple_of(LOOK_ENTRIES) {
                look();
            }
        }
        Ok(TakenOver { layers, copy: copied })
    }
}

/// Entries between two looks.
const LOOK_ENTRIES: u64 = 16_384;
