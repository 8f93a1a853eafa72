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
use crate::runs::run::Run;
use crate::runs::set::{Layer, RunSet};
use crate::runs::stamp::Stamp;
use crate::runs::{InternalKey, Runs, SpaceId, Stored, internal_key};
use scry_wal::Lsn;
use std::collections::HashSet;
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
    /// Those that overlap no others, by key: they become part of the outcome as they are.
    apart: Vec<Arc<Run>>,
    /// How many of these begin before the key that the merge is at.
    passed: usize,
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
        match self.layers.last_mut() {
            // Keys that rise, as in loads.
            Some((_, last))
                if last.is_before(&layer) && layer.runs().iter().all(|run| self.runs.is_long(run)) =>
            {
                *last = Arc::new(last.with(layer.runs()));
            }
            _ => self.layers.push((0, Arc::new(layer))),
        }
        Ok(())
    }

    /// All of it as the transaction itself sees it.
    pub(crate) fn set(&self) -> RunSet {
        let newest_first = self.layers.iter().rev();
        let own = newest_first.map(|(_, layer)| Arc::new(layer.stamped(&self.own)));
        RunSet::new(own.collect(), Vec::new())
    }

    /// All of it, with ages where LSNs stand; or only the runs that have something younger.
    pub(crate) fn by_age(&self, younger_than: Option<Lsn>) -> RunSet {
        let is_older = |run: &Arc<Run>| younger_than.is_some_and(|age| run.meta.lsn_max <= age);
        let newest_first = self.layers.iter().rev().map(|(_, layer)| layer.without(is_older));
        let younger = newest_first.filter(|layer| !layer.is_empty()).map(Arc::new);
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
        let mut apart = apart(&alike);
        apart.retain(|run| self.runs.is_long(run));
        let stays = numbers(&apart);
        let is_apart = |run: &Arc<Run>| stays.contains(&run.name.number);
        let others = alike.iter().map(|layer| Arc::new(layer.without(is_apart)));
        Ok(Some(PrivateMerge {
            count: alike.len(),
            merge: Merge::seek(others, Reading::Bulk, &[])?,
            out: self.runs.begin_private(),
            last: Last::default(),
            needed,
            apart,
            passed: 0,
        }))
    }

    /// Puts the outcome of a merge that is done in the place of what was merged.
    pub(crate) fn end_merge(&mut self, merge: PrivateMerge) -> Result<(), Error> {
        let apart = merge.apart;
        let layer = merge.out.finish()?.with(&apart);
        let gone = self.layers.split_off(self.layers.len() - merge.count);
        let merged = gone.iter().map(|(merged, _)| *merged).max().unwrap_or_default();
        let gone = gone.iter().flat_map(|(_, layer)| layer.runs());
        let stays = numbers(&apart);
        let merged_runs = gone.filter(|run| !stays.contains(&run.name.number));
        merged_runs.for_each(|run| run.doom());
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

/// The runs of several layers that overlap no run of the others, by key: where keys rise from layer to layer, as in a load, all of them.
fn apart(layers: &[Arc<Layer>]) -> Vec<Arc<Run>> {
    let mut runs: Vec<&Arc<Run>> = layers.iter().flat_map(|layer| layer.runs()).collect();
    runs.sort_unstable_by(|one, other| one.meta.first.cmp(&other.meta.first));
    let mut apart = Vec::new();
    let mut reached: Option<&[u8]> = None;
    for (place, run) in runs.iter().enumerate() {
        let after_others = reached.is_none_or(|reached| reached < run.meta.first.as_slice());
        let next = runs.get(place + 1);
        if after_others && next.is_none_or(|next| run.meta.last < next.meta.first) {
            apart.push(Arc::clone(run));
        }
        reached = reached.max(Some(&run.meta.last));
    }
    apart
}

fn numbers(runs: &[Arc<Run>]) -> HashSet<u64> {
    runs.iter().map(|run| run.name.number).collect()
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
            let apart = &self.apart[self.passed..];
            let passed = apart.partition_point(|run| run.meta.first.as_slice() < self.merge.key());
            if passed > 0 {
                self.passed += passed;
                self.out.end_run()?;
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

/// Runs of less than this part of what one may have are merged into longer ones, even if they do not overlap: each is a file that is open.
const LONG: u64 = 8;

impl Runs {
    fn is_long(&self, run: &Run) -> bool {
        run.name.bytes >= self.options.file_bytes / LONG
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::RunsOptions;
    use scry_wal::Ordinal;
    use std::ops::Range;

    const SPACE: SpaceId = SpaceId::new(1);

    fn options() -> RunsOptions {
        RunsOptions {
            file_bytes: 4 << 10,
            block_bytes: 150,
            ..RunsOptions::default()
        }
    }

    /// Adds a layer of some keys, of this age.
    fn push(private: &mut PrivateRuns, keys: Range<u32>, age: u64) {
        let mut writer = private.runs.begin_private();
        for key in keys {
            let stored = Stored {
                lsn: Lsn::new(age),
                ordinal: Ordinal::new(age),
                row: Some(Row::from(key.to_be_bytes().repeat(5))),
            };
            writer.add(SPACE, &key.to_be_bytes(), &[stored]).unwrap();
        }
        private.push(writer).unwrap();
    }

    fn merge(private: &mut PrivateRuns, needed: Needed) -> bool {
        let Some(mut merge) = private.begin_merge(needed).unwrap() else {
            return false;
        };
        while merge.step(3).unwrap() {}
        private.end_merge(merge).unwrap();
        true
    }

    fn files(private: &PrivateRuns) -> HashSet<u64> {
        private.set().runs().map(|run| run.name.number).collect()
    }

    #[test]
    fn layers_whose_keys_rise_are_one_without_being_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let (runs, _) = Runs::open(folder.path(), options()).unwrap();
        let mut private = PrivateRuns::new(&runs);
        for layer in 0..20 {
            push(&mut private, layer * 100..layer * 100 + 90, 1);
            assert_eq!(private.set().layers().count(), 1);
        }
        assert!(!merge(&mut private, Needed::All));
        let set = private.set();
        for key in 0..2000_u32 {
            let found = set.get(SPACE, &key.to_be_bytes(), Lsn::MAX).unwrap();
            assert_eq!(found.is_some(), key % 100 < 90, "{key}");
        }
        // Short ones are merged: each is a file.
        for key in 0..8 {
            push(&mut private, 3000 + key..3001 + key, 1);
        }
        assert_eq!(private.set().layers().count(), 9);
        let before = files(&private);
        assert!(merge(&mut private, Needed::All));
        assert_eq!(private.set().layers().count(), 1);
        let after = files(&private);
        assert_eq!(
            (before.len() - after.len(), after.difference(&before).count()),
            (7, 1)
        );
    }

    #[test]
    fn what_overlaps_nothing_is_not_merged_and_the_rest_is() {
        let folder = tempfile::tempdir().unwrap();
        let (runs, _) = Runs::open(folder.path(), options()).unwrap();
        let mut private = PrivateRuns::new(&runs);
        // The first layer is below all others but for the end of it, which each of them writes again.
        push(&mut private, 0..1000, 1);
        for age in 2..9 {
            push(&mut private, 990..1100, age);
        }
        let before = files(&private);
        assert!(merge(&mut private, Needed::At(vec![Lsn::new(3)])));
        let after = files(&private);
        assert!(
            after.intersection(&before).count() > 5,
            "{before:?} became {after:?}"
        );
        assert!(!after.is_subset(&before));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), after.len());
        let all = private.by_age(None);
        for (key, newest, at_mark) in [(0, 1, 1), (989, 1, 1), (990, 8, 3), (1099, 8, 3)] {
            let key = u32::to_be_bytes(key);
            let get = |at| all.get(SPACE, &key, at).unwrap().map(|found| found.lsn.get());
            assert_eq!(
                (get(Lsn::MAX), get(Lsn::new(3))),
                (Some(newest), Some(at_mark)),
                "{key:?}"
            );
        }
        // Only those runs that have something younger.
        let younger = private.by_age(Some(Lsn::new(3)));
        assert!(younger.runs().count() < all.runs().count());
        assert!(
            younger
                .get(SPACE, &u32::to_be_bytes(1050), Lsn::MAX)
                .unwrap()
                .is_some()
        );
        drop((all, younger));
        drop(private);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
