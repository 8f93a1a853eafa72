//! Compaction: runs are merged, and what nobody can see any more is left out.
//!
//! A version that was superseded at `until` stays while somebody sees it: a snapshot, as long as `until` is above the horizon, or a
//! pin between the version and `until`. The newest version of a key stays, whatever it is, for what supersedes it may
//! be in memory only; except a deletion at or below the horizon that covers nothing: no older version of the key is kept, and
//! no layer below has the key. A space that is not live goes as a whole.

pub(crate) mod pace;
pub(crate) mod plan;

use crate::error::Error;
use crate::pins::any_sees;
use crate::runs::cursor::Reading;
use crate::runs::flush::LayerWriter;
use crate::runs::merge::Merge;
use crate::runs::run::Run;
use crate::runs::set::{Layer, RunSet};
use crate::runs::{Runs, SpaceId, internal_key};
use plan::{Keep, LEVELS, Plan, Target};
use scry_wal::{Lsn, Ordinal};
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes of entries between two looks at the pace.
const STEP_BYTES: u64 = 128 << 10;

/// A run ends where it would overlap so many usual runs of the level below: merging it down would have them all written again.
const OVERLAP_RUNS: u64 = 10;

/// What became of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// All is as it should be.
    Nothing,
    /// It was told to end; what it had begun is undone.
    Stopped,
    /// So many runs went without being read.
    Dropped { runs: usize },
    /// So many runs went down a level as they were.
    Moved { runs: usize },
    /// Of files.
    Merged { read_bytes: u64, written_bytes: u64 },
}

impl Runs {
    /// Looks for what is most worth compacting, and does it. Flushes and readers go on meanwhile; another call waits.
    ///
    /// # Errors
    /// When a file cannot be read or written, or is damaged. The set is as before then.
    pub fn compact_once(self: &Arc<Self>, keep: &Keep<'_>) -> Result<Compacted, Error> {
        let _alone = self.compaction.lock();
        if self.pace.is_stopped() {
            return Ok(Compacted::Stopped);
        }
        let set = self.current();
        match plan::plan(&set, self.options.sizes(), keep) {
            Plan::Nothing => Ok(Compacted::Nothing),
            Plan::Drop { runs } => {
                let gone: HashSet<u64> = runs.iter().copied().collect();
                self.replace(&[], None, &[], |set| without(set, &gone).into_set())?;
                Ok(Compacted::Dropped { runs: runs.len() })
            }
            Plan::Move { runs, into } => {
                let moved: Vec<Arc<Run>> = find(&set, &runs);
                let gone: HashSet<u64> = runs.iter().copied().collect();
                self.replace(&[], None, &[], |set| {
                    let mut parts = without(set, &gone);
                    parts.insert(into, moved);
                    parts.into_set()
                })?;
                Ok(Compacted::Moved { runs: runs.len() })
            }
            Plan::Merge { parts, into } => self.merge(&set, &parts, into, keep),
        }
    }

    /// Ends a compaction that is under way, and begins no other.
    pub fn stop_compaction(&self) {
        self.pace.stop();
    }

    /// Bytes that compaction goes through in a second; without a limit, `None`.
    pub fn set_compaction_rate(&self, bytes_per_s: Option<u64>) {
        self.pace.set_rate(bytes_per_s);
    }

    fn merge(
        self: &Arc<Self>,
        set: &RunSet,
        parts: &[Vec<u64>],
        into: Target,
        keep: &Keep<'_>,
    ) -> Result<Compacted, Error> {
        let inputs: Vec<Arc<Layer>> = parts
            .iter()
            .map(|part| Arc::new(Layer::new(find(set, part))))
            .collect();
        let gone: HashSet<u64> = parts.iter().flatten().copied().collect();
        let below = below(set, &gone, into);
        let written = Merger::new(self, &inputs, &below, into, keep)?.run()?;
        let Some(written) = written else {
            return Ok(Compacted::Stopped);
        };
        let read_bytes = inputs.iter().map(|layer| layer.bytes()).sum();
        let written_bytes = written.iter().map(|run| run.name.bytes).sum();
        self.replace(&written, None, &[], |set| match into {
            Target::Level(level) => {
                let mut parts = without(set, &gone);
                parts.insert(level, written.clone());
                parts.into_set()
            }
            Target::Fresh => {
                // Flushes may have come before it meanwhile; what is older has not changed.
                let at = set.fresh().iter().position(|layer| layer.has_any(&gone));
                let mut parts = without(set, &gone);
                if !written.is_empty() {
                    parts
                        .fresh
                        .insert(at.unwrap_or_default(), Arc::new(Layer::new(written.clone())));
                }
                parts.into_set()
            }
        })?;
        self.counters.compacted(read_bytes, written_bytes);
        Ok(Compacted::Merged {
            read_bytes,
            written_bytes,
        })
    }
}

/// A set in parts, to be changed.
struct Parts {
    fresh: Vec<Arc<Layer>>,
    levels: Vec<Arc<Layer>>,
}

/// The set without some runs.
fn without(set: &RunSet, gone: &HashSet<u64>) -> Parts {
    let rest = |layer: &Arc<Layer>| {
        if !layer.has_any(gone) {
            return Arc::clone(layer);
        }
        let rest = layer.runs().iter().filter(|run| !gone.contains(&run.name.number));
        Arc::new(Layer::new(rest.map(Arc::clone).collect()))
    };
    let mut fresh: Vec<Arc<Layer>> = set.fresh().iter().map(rest).collect();
    fresh.retain(|layer| !layer.is_empty());
    Parts {
        fresh,
        levels: set.levels().iter().map(rest).collect(),
    }
}

impl Parts {
    fn insert(&mut self, level: usize, new: Vec<Arc<Run>>) {
        if self.levels.len() < LEVELS {
            self.levels.resize_with(LEVELS, Arc::default);
        }
        let mut runs = self.levels[level].runs().to_vec();
        runs.extend(new);
        runs.sort_by(|a, b| a.meta.first.cmp(&b.meta.first));
        self.levels[level] = Arc::new(Layer::new(runs));
    }

    fn into_set(self) -> RunSet {
        RunSet::new(self.fresh, self.levels)
    }
}

/// The runs with these numbers, in the order of their layer.
fn find(set: &RunSet, numbers: &[u64]) -> Vec<Arc<Run>> {
    let runs = set.runs().filter(|run| numbers.contains(&run.name.number));
    runs.map(Arc::clone).collect()
}

/// The layers with versions that are older than those of the runs that are to be merged.
fn below(set: &RunSet, gone: &HashSet<u64>, into: Target) -> Vec<Arc<Layer>> {
    let levels = set.levels().iter().map(Arc::clone);
    match into {
        Target::Level(level) => levels.skip(level + 1).collect(),
        Target::Fresh => {
            let last = set.fresh().iter().rposition(|layer| layer.has_any(gone));
            let older = set.fresh().iter().skip(last.map_or(0, |last| last + 1));
            older.map(Arc::clone).chain(levels).collect()
        }
    }
}

/// One merge under way.
struct Merger<'m> {
    runs: &'m Runs,
    inputs: &'m [Arc<Layer>],
    below: &'m [Arc<Layer>],
    /// The level below the one that is written, with the place where the merge is in it.
    next_level: Option<(&'m Layer, usize)>,
    keep: &'m Keep<'m>,
    merge: Merge,
    out: LayerWriter,
    /// The key under way and the LSN of its last version, kept or not.
    key: Vec<u8>,
    until: Option<Lsn>,
    /// Deletions of this key that go when nothing older of it is kept.
    deletions: Vec<(Lsn, Ordinal)>,
    /// Bytes of the next level that the run under way overlaps.
    overlapped: u64,
}

impl<'m> Merger<'m> {
    fn new(
        runs: &'m Arc<Runs>,
        inputs: &'m [Arc<Layer>],
        below: &'m [Arc<Layer>],
        into: Target,
        keep: &'m Keep<'m>,
    ) -> Result<Merger<'m>, Error> {
        let level = match into {
            Target::Fresh => 0,
            Target::Level(level) => level + 1,
        };
        let next_level = match into {
            Target::Fresh => None,
            Target::Level(_) => below.first().map(|layer| (layer.as_ref(), 0)),
        };
        Ok(Merger {
            runs,
            inputs,
            below,
            next_level,
            keep,
            merge: Merge::seek(inputs.iter().map(Arc::clone), Reading::Bulk, &[])?,
            out: LayerWriter::new(Arc::clone(runs), runs.options.shape(level)),
            key: Vec::new(),
            until: None,
            deletions: Vec::new(),
            overlapped: 0,
        })
    }

    /// The runs that were written; `None` when it was told to end.
    fn run(mut self) -> Result<Option<Vec<Arc<Run>>>, Error> {
        let mut unpaid = 0;
        let mut space = None;
        while !self.merge.is_over() {
            let is_new = self.until.is_none() || self.merge.key() != self.key;
            let follows = if is_new {
                self.until.is_none() || self.merge.key() > self.key.as_slice()
            } else {
                self.until.is_some_and(|until| self.merge.lsn() <= until)
            };
            if !follows {
                return Err(self.merge.damaged("entries are out of order"));
            }
            if is_new && space != Some(SpaceId::of(self.merge.key())) {
                let found = SpaceId::of(self.merge.key());
                if !(self.keep.is_live)(found) {
                    let Some(next) = found.next() else { break };
                    self.skip_to(next)?;
                    continue;
                }
                space = Some(found);
            }
            if is_new {
                self.begin_key()?;
            }
            unpaid += (self.key.len() + self.merge.row().map_or(0, <[u8]>::len)) as u64 + 16;
            self.version()?;
            self.merge.advance()?;
            if unpaid >= STEP_BYTES {
                if !self.runs.pace.take(unpaid) {
                    return Ok(None);
                }
                unpaid = 0;
            }
        }
        self.end_key()?;
        self.check_ends()?;
        self.out.finish().map(Some)
    }

    /// What was read last lies where the runs said that all they have does: the new ones overlap no others.
    fn check_ends(&self) -> Result<(), Error> {
        let runs = || self.inputs.iter().flat_map(|layer| layer.runs());
        let is_inside = self.key.is_empty()
            || runs().any(|run| run.meta.first.as_slice() <= self.key.as_slice())
                && runs().any(|run| run.meta.last.as_slice() >= self.key.as_slice());
        match runs().next() {
            Some(run) if !is_inside => Err(run.damaged(0, "keys lie outside of what the meta block says")),
            _ => Ok(()),
        }
    }

    fn skip_to(&mut self, space: SpaceId) -> Result<(), Error> {
        let inputs = self.inputs.iter().map(Arc::clone);
        self.merge = Merge::seek(inputs, Reading::Bulk, &internal_key(space, &[]))?;
        Ok(())
    }

    /// Nothing older than the deletions is kept: they go, unless a layer below has the key.
    fn end_key(&mut self) -> Result<(), Error> {
        if !self.deletions.is_empty() && self.below.iter().any(|layer| layer.run_of(&self.key).is_some()) {
            self.write_deletions()?;
        }
        self.deletions.clear();
        Ok(())
    }

    fn write_deletions(&mut self) -> Result<(), Error> {
        for (lsn, ordinal) in self.deletions.drain(..) {
            self.out.add(&self.key, lsn, ordinal, None)?;
        }
        Ok(())
    }

    fn begin_key(&mut self) -> Result<(), Error> {
        self.end_key()?;
        let is_first = self.key.is_empty();
        self.key.clear();
        self.key.extend_from_slice(self.merge.key());
        self.until = None;
        if is_first {
            self.check_ends()?;
        }
        let Some((level, at)) = &mut self.next_level else {
            return Ok(());
        };
        while let Some(run) = level.runs().get(*at)
            && run.meta.last.as_slice() < self.key.as_slice()
        {
            self.overlapped += run.name.bytes;
            *at += 1;
        }
        if self.overlapped > OVERLAP_RUNS * self.runs.options.file_bytes {
            self.overlapped = 0;
            self.out.end_run()?;
        }
        Ok(())
    }

    /// Keeps the version that the merge is at, or leaves it out.
    fn version(&mut self) -> Result<(), Error> {
        let lsn = self.merge.lsn();
        let until = self.until.replace(lsn);
        let is_seen = match until {
            None => true,
            // The same version twice.
            Some(until) if until == lsn => false,
            Some(until) => until > self.keep.horizon || any_sees(self.keep.pins, lsn, until),
        };
        if !is_seen {
            return Ok(());
        }
        let ordinal = self.merge.ordinal();
        if self.merge.row().is_none() && lsn <= self.keep.horizon {
            self.deletions.push((lsn, ordinal));
            return Ok(());
        }
        self.write_deletions()?;
        self.out.add(&self.key, lsn, ordinal, self.merge.row())
    }
}
