//! The runs there are at one moment: an immutable set that readers hold while they read.

use crate::error::Error;
use crate::key::KeyRange;
use crate::runs::hash::hash;
use crate::runs::manifest::RunName;
use crate::runs::range::RunRange;
use crate::runs::run::{Run, Target};
use crate::runs::stamp::Stamp;
use crate::runs::{InternalKey, SpaceId, Stored, internal_key};
use scry_wal::Lsn;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

/// Runs that do not overlap, by key. No key has versions in two of them.
#[derive(Default)]
pub(crate) struct Layer {
    runs: Vec<Arc<Run>>,
    /// What says where their versions stand, if their entries do not: they are runs of a transaction.
    stamp: Option<Arc<Stamp>>,
}

/// Runs of transactions, flushes and levels. Of each key, all versions in an earlier layer are newer than those in a later one.
#[derive(Default)]
pub struct RunSet {
    /// Those of transactions, under their stamps, that no checkpoint has taken over; newest first. No manifest names them.
    adopted: Vec<Arc<Layer>>,
    /// Level 0, a layer for each flush, newest first.
    fresh: Vec<Arc<Layer>>,
    /// Level 1 and those below.
    levels: Vec<Arc<Layer>>,
    spaces: Vec<SpaceId>,
}

impl Layer {
    /// # Panics
    /// When they overlap or are out of order.
    pub(crate) fn new(runs: Vec<Arc<Run>>) -> Layer {
        assert!(
            runs.windows(2).all(|pair| pair[0].meta.last < pair[1].meta.first),
            "runs of one layer overlap"
        );
        Layer { runs, stamp: None }
    }

    /// The same runs under a stamp.
    pub(crate) fn stamped(&self, stamp: &Arc<Stamp>) -> Layer {
        Layer {
            runs: self.runs.clone(),
            stamp: Some(Arc::clone(stamp)),
        }
    }

    /// The same without some of its runs.
    pub(crate) fn without(&self, goes: impl Fn(&Arc<Run>) -> bool) -> Layer {
        Layer {
            runs: self
                .runs
                .iter()
                .filter(|run| !goes(run))
                .map(Arc::clone)
                .collect(),
            stamp: self.stamp.clone(),
        }
    }

    /// The same with others between its runs.
    ///
    /// # Panics
    /// When they overlap.
    pub(crate) fn with(&self, others: &[Arc<Run>]) -> Layer {
        let mut runs: Vec<Arc<Run>> = self.runs.iter().chain(others).map(Arc::clone).collect();
        runs.sort_by(|one, other| one.meta.first.cmp(&other.meta.first));
        Layer {
            stamp: self.stamp.clone(),
            ..Layer::new(runs)
        }
    }

    /// Whether all of its keys are less than those of another one.
    pub(crate) fn is_before(&self, other: &Layer) -> bool {
        let (last, first) = (self.runs.last(), other.runs.first());
        last.zip(first)
            .is_some_and(|(last, first)| last.meta.last < first.meta.first)
    }

    #[inline]
    pub(crate) fn stamp(&self) -> Option<&Arc<Stamp>> {
        self.stamp.as_ref()
    }

    /// Whether a snapshot at `at` may see something of it.
    pub(crate) fn is_known(&self, at: Lsn) -> bool {
        let committed = |stamp: &Arc<Stamp>| stamp.lsn().is_some_and(|lsn| lsn <= at);
        self.stamp.as_ref().is_none_or(committed)
    }

    pub(crate) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Of files.
    pub(crate) fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.name.bytes).sum()
    }

    pub(crate) fn has_any(&self, numbers: &HashSet<u64>) -> bool {
        self.runs.iter().any(|run| numbers.contains(&run.name.number))
    }

    /// The number of the first run that has this key or a greater one.
    #[inline]
    pub(crate) fn first_reaching(&self, key: &[u8]) -> usize {
        self.runs.partition_point(|run| run.meta.last.as_slice() < key)
    }

    /// The run that may have a key.
    #[inline]
    pub(crate) fn run_of(&self, key: &[u8]) -> Option<&Arc<Run>> {
        let run = self.runs.get(self.first_reaching(key))?;
        (run.meta.first.as_slice() <= key).then_some(run)
    }

    /// Whether a run has keys from `lower` on and below `upper`.
    fn overlaps(&self, lower: &[u8], upper: Option<&[u8]>) -> bool {
        let run = self.runs.get(self.first_reaching(lower));
        run.is_some_and(|run| upper.is_none_or(|upper| run.meta.first.as_slice() < upper))
    }

    pub(crate) fn names(&self) -> Vec<RunName> {
        self.runs.iter().map(|run| run.name).collect()
    }
}

impl RunSet {
    pub(crate) fn new(fresh: Vec<Arc<Layer>>, levels: Vec<Arc<Layer>>) -> RunSet {
        RunSet::with_adopted(Vec::new(), fresh, levels)
    }

    pub(crate) fn with_adopted(
        adopted: Vec<Arc<Layer>>,
        fresh: Vec<Arc<Layer>>,
        levels: Vec<Arc<Layer>>,
    ) -> RunSet {
        let mut set = RunSet {
            adopted,
            fresh,
            levels,
            spaces: Vec::new(),
        };
        let shares = set.runs().flat_map(|run| &run.meta.spaces);
        let mut spaces: Vec<SpaceId> = shares.map(|share| share.space).collect();
        spaces.sort_unstable();
        spaces.dedup();
        set.spaces = spaces;
        set
    }

    pub(crate) fn adopted(&self) -> &[Arc<Layer>] {
        &self.adopted
    }

    pub(crate) fn fresh(&self) -> &[Arc<Layer>] {
        &self.fresh
    }

    pub(crate) fn levels(&self) -> &[Arc<Layer>] {
        &self.levels
    }

    /// All layers, in the order in which they are asked.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Arc<Layer>> {
        self.adopted.iter().chain(&self.fresh).chain(&self.levels)
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.layers().flat_map(|layer| layer.runs())
    }

    /// Whether any run has something of a space.
    pub fn may_have(&self, space: SpaceId) -> bool {
        self.spaces.binary_search(&space).is_ok()
    }

    /// The spaces of which there is something, ascending.
    pub fn spaces(&self) -> &[SpaceId] {
        &self.spaces
    }

    /// The newest version of a key at or below `at`; a deletion is a version too.
    ///
    /// # Errors
    /// When a file cannot be read, or is damaged.
    pub fn get(&self, space: SpaceId, key: &[u8], at: Lsn) -> Result<Option<Stored>, Error> {
        let key: InternalKey = internal_key(space, key);
        let hashed = OnceCell::new();
        for layer in self.layers() {
            let Some(run) = layer.run_of(&key) else { continue };
            // What entries under a stamp have for an LSN counts among themselves alone.
            let (place, at) = match layer.stamp() {
                None => (None, at),
                Some(_) if !layer.is_known(at) => continue,
                Some(stamp) => (stamp.place(space), Lsn::MAX),
            };
            let target = Target {
                key: &key,
                hash: *hashed.get_or_init(|| hash(&key)),
            };
            let Some(found) = run.get(&target, at)? else {
                continue;
            };
            return Ok(Some(match place {
                None => found,
                Some((lsn, first)) => Stored {
                    lsn,
                    ordinal: first.plus(found.ordinal.get()),
                    row: found.row,
                },
            }));
        }
        Ok(None)
    }

    /// The keys of a range as they were at `at`, in order, deletions included.
    ///
    /// # Errors
    /// When a file cannot be read, or is damaged.
    pub fn range(&self, space: SpaceId, range: &KeyRange, at: Lsn) -> Result<RunRange, Error> {
        RunRange::new(None, self, space, range, at)
    }

    /// The layers with keys from `lower` on and below `upper` of which a snapshot at `at` may see something.
    pub(crate) fn overlapping(&self, lower: &[u8], upper: Option<&[u8]>, at: Lsn) -> Vec<Arc<Layer>> {
        let layers = self.layers().filter(|layer| layer.overlaps(lower, upper));
        let layers = layers.filter(|layer| layer.is_known(at));
        layers.map(Arc::clone).collect()
    }
}
