//! What is to be compacted next: decided here from the sizes and key ranges of runs, done elsewhere.
//!
//! The last level has almost all of the data. Each level above may have a tenth of the one below it; levels that would
//! have less than `base_bytes` are left out, and flushes are merged into the first one that is not, the *base*. So what is
//! stored twice is about a ninth of the whole, however large that is.
//!
//! Flushes that are small beside the base are first merged with each other: else each few of them would have all of it written again.

use crate::runs::SpaceId;
use crate::runs::meta::Meta;
use crate::runs::set::{Layer, RunSet};
use scry_wal::Lsn;

/// Levels below level 0. With a base of 256 MiB they have room for thousands of terabytes.
pub(crate) const LEVELS: usize = 7;

/// By how much a level is larger than the one above.
const GROWTH: u64 = 10;

/// Flushes that wait until they are merged: each costs every lookup a filter.
const FRESH_LAYERS: usize = 4;

/// So much more than the newer ones together a flush may have to be merged with them and not with the base.
const TIER_GROWTH: u64 = 2;

/// A run is written again when this part of its entries, or of its bytes, is certain to go.
const GARBAGE_SHARE: u64 = 4;

/// Deletions that are this part of the entries that they may lie above are brought down without waiting for others.
const DELETED_SHARE: u64 = 8;

/// A run below this part of the usual length is merged with its neighbours when they are merged.
const SMALL_SHARE: u64 = 4;

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Nothing,
    /// Nobody can see anything of these runs.
    Drop {
        runs: Vec<u64>,
    },
    /// These runs overlap nothing in that level: they become part of it as they are.
    Move {
        runs: Vec<u64>,
        into: usize,
    },
    /// Parts of layers, newest first, become one part of a level.
    Merge {
        parts: Vec<Vec<u64>>,
        into: Target,
    },
}

/// Where merged runs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// In place of the flushes that they are made of.
    Fresh,
    /// By its number in the set: 0 is level 1.
    Level(usize),
}

/// Sizes that decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) file_bytes: u64,
    /// The most that the base level has.
    pub(crate) base_bytes: u64,
}

/// Who still sees what.
#[derive(Clone, Copy)]
pub struct Keep<'k> {
    /// No snapshot is older than this.
    pub horizon: Lsn,
    /// LSNs that are read beside, ascending.
    pub pins: &'k [Lsn],
    /// Whether a space still belongs to somebody.
    pub is_live: &'k dyn Fn(SpaceId) -> bool,
}

/// A run as the planner sees it.
struct Candidate<'s> {
    number: u64,
    bytes: u64,
    meta: &'s Meta,
}

struct Level<'s> {
    runs: Vec<Candidate<'s>>,
    bytes: u64,
}

/// How large each level may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Where flushes are merged into.
    pub(crate) base: usize,
    /// Of the base and what is below; 0 above.
    pub(crate) bytes: Vec<u64>,
}

impl Targets {
    pub(crate) fn of(level_bytes: &[u64], base_bytes: u64) -> Targets {
        let last = LEVELS - 1;
        let mut base = last;
        let mut bytes = level_bytes.iter().copied().max().unwrap_or(0);
        while base > 0 && bytes > base_bytes {
            base -= 1;
            bytes /= GROWTH;
        }
        // A level that has something is never passed by.
        if let Some(first) = level_bytes.iter().position(|bytes| *bytes > 0) {
            base = base.min(first);
        }
        let mut targets = vec![0; base];
        let mut target = bytes.clamp(base_bytes / GROWTH, base_bytes);
        while targets.len() < LEVELS {
            targets.push(target);
            target = target.saturating_mul(GROWTH);
        }
        Targets { base, bytes: targets }
    }
}

/// The bytes that are to be merged until all levels have their sizes, about.
pub(crate) fn pending_bytes(set: &RunSet, sizes: Sizes) -> u64 {
    let fresh: Vec<u64> = set.fresh().iter().map(|layer| layer.bytes()).collect();
    let levels = level_bytes(set);
    let targets = Targets::of(&levels, sizes.base_bytes);
    let mut pending = 0;
    let mut coming = 0;
    if fresh.len() >= FRESH_LAYERS {
        coming = fresh.iter().sum();
        pending += coming;
    }
    let sizes = levels.iter().zip(&targets.bytes);
    for (bytes, target) in sizes.take(LEVELS - 1).skip(targets.base) {
        let over = (bytes + coming).saturating_sub(*target);
        pending += over;
        coming = over;
    }
    pending
}

fn level_bytes(set: &RunSet) -> Vec<u64> {
    let mut bytes: Vec<u64> = set.levels().iter().map(|layer| layer.bytes()).collect();
    bytes.resize(LEVELS, 0);
    bytes
}

fn level(layer: &Layer) -> Level<'_> {
    Level {
        runs: layer
            .runs()
            .iter()
            .map(|run| Candidate {
                number: run.name.number,
                bytes: run.name.bytes,
                meta: &run.meta,
            })
            .collect(),
        bytes: layer.bytes(),
    }
}

/// Decides.
pub(crate) fn plan(set: &RunSet, sizes: Sizes, keep: &Keep<'_>) -> Plan {
    let fresh: Vec<Level<'_>> = set.fresh().iter().map(|layer| level(layer)).collect();
    let mut levels: Vec<Level<'_>> = set.levels().iter().map(|layer| level(layer)).collect();
    levels.resize_with(LEVELS, || Level {
        runs: Vec::new(),
        bytes: 0,
    });
    decide(&fresh, &levels, sizes, keep)
}

fn decide(fresh: &[Level<'_>], levels: &[Level<'_>], sizes: Sizes, keep: &Keep<'_>) -> Plan {
    let all = fresh.iter().chain(levels).flat_map(|level| &level.runs);
    let dead = all.filter(|run| dead_bytes(run, keep) == run.meta.content_bytes);
    let dead: Vec<u64> = dead.map(|run| run.number).collect();
    if !dead.is_empty() {
        return Plan::Drop { runs: dead };
    }
    let bytes: Vec<u64> = levels.iter().map(|level| level.bytes).collect();
    let targets = Targets::of(&bytes, sizes.base_bytes);
    // Which level is the most over its size, in thousandths; flushes come first when they are as much.
    let fresh_score = fresh.len() as u64 * 1000 / FRESH_LAYERS as u64;
    let fullest = (targets.base..LEVELS - 1)
        .map(|level| {
            let score = (u128::from(bytes[level]) * 1000).div_ceil(u128::from(targets.bytes[level].max(1)));
            (score as u64, level)
        })
        .max_by_key(|(score, level)| (*score, LEVELS - level));
    let (level_score, fullest) = fullest.unwrap_or((0, LEVELS - 1));
    if fresh_score >= 1000 && fresh_score >= level_score {
        return merge_fresh(fresh, levels, &targets, sizes);
    }
    if level_score > 1000 {
        return push_down(&levels[fullest], fullest, &levels[fullest + 1], sizes);
    }
    clean(fresh, levels, &targets, sizes, keep)
}

fn dead_bytes(run: &Candidate<'_>, keep: &Keep<'_>) -> u64 {
    let dead = run
        .meta
        .spaces
        .iter()
        .filter(|share| !(keep.is_live)(share.space));
    dead.map(|share| share.bytes).sum()
}

fn numbers<'r, 's: 'r>(runs: impl IntoIterator<Item = &'r Candidate<'s>>) -> Vec<u64> {
    runs.into_iter().map(|run| run.number).collect()
}

/// The stretch of a level that overlaps keys from `first` to `last`.
fn overlapping<'l, 's>(level: &'l Level<'s>, first: &[u8], last: &[u8]) -> std::ops::Range<usize> {
    let begin = level.runs.partition_point(|run| run.meta.last.as_slice() < first);
    let end = level
        .runs
        .partition_point(|run| run.meta.first.as_slice() <= last);
    begin..end.max(begin)
}

fn total(runs: &[Candidate<'_>]) -> u64 {
    runs.iter().map(|run| run.bytes).sum()
}

/// The same stretch with small runs beside it.
fn with_small_neighbours(
    level: &Level<'_>,
    stretch: std::ops::Range<usize>,
    sizes: Sizes,
) -> std::ops::Range<usize> {
    let is_small = |run: &Candidate<'_>| run.bytes < sizes.file_bytes / SMALL_SHARE;
    let mut stretch = stretch;
    if stretch.start > 0 && is_small(&level.runs[stretch.start - 1]) {
        stretch.start -= 1;
    }
    if stretch.end < level.runs.len() && is_small(&level.runs[stretch.end]) {
        stretch.end += 1;
    }
    stretch
}

/// The stretch of a level that lies below flushes.
fn covered(fresh: &[Level<'_>], level: &Level<'_>) -> std::ops::Range<usize> {
    let first = fresh.iter().filter_map(|layer| layer.runs.first());
    let last = fresh.iter().filter_map(|layer| layer.runs.last());
    let first = first.map(|run| run.meta.first.as_slice()).min();
    let last = last.map(|run| run.meta.last.as_slice()).max();
    overlapping(level, first.unwrap_or_default(), last.unwrap_or_default())
}

fn merge_fresh(fresh: &[Level<'_>], levels: &[Level<'_>], targets: &Targets, sizes: Sizes) -> Plan {
    let base = &levels[targets.base];
    // What overlaps nothing below it goes down as it is.
    if let Some(oldest) = fresh.last() {
        let free: Vec<u64> = oldest
            .runs
            .iter()
            .filter(|run| run.bytes >= sizes.file_bytes / SMALL_SHARE)
            .filter(|run| overlapping(base, &run.meta.first, &run.meta.last).is_empty())
            .map(|run| run.number)
            .collect();
        if !free.is_empty() {
            return Plan::Move {
                runs: free,
                into: targets.base,
            };
        }
    }
    let mut newer = 0;
    let mut tier = 0;
    for layer in fresh {
        if tier > 0 && layer.bytes > newer * TIER_GROWTH {
            break;
        }
        newer += layer.bytes;
        tier += 1;
    }
    let stretch = covered(fresh, base);
    let all: u64 = fresh.iter().map(|layer| layer.bytes).sum();
    let below = total(&base.runs[stretch.clone()]);
    // A base that is not larger is better written again than the flushes merged for themselves.
    if tier >= FRESH_LAYERS && all.saturating_mul(TIER_GROWTH) < below {
        return Plan::Merge {
            parts: fresh[..tier].iter().map(|layer| numbers(&layer.runs)).collect(),
            into: Target::Fresh,
        };
    }
    let stretch = with_small_neighbours(base, stretch, sizes);
    let mut parts: Vec<Vec<u64>> = fresh.iter().map(|layer| numbers(&layer.runs)).collect();
    parts.push(numbers(&base.runs[stretch]));
    Plan::Merge {
        parts,
        into: Target::Level(targets.base),
    }
}

/// The run that has the least to be written again for what it takes from its level.
fn push_down(from: &Level<'_>, number: usize, below: &Level<'_>, sizes: Sizes) -> Plan {
    let cost = |run: &Candidate<'_>| {
        let stretch = overlapping(below, &run.meta.first, &run.meta.last);
        u128::from(total(&below.runs[stretch])) * 1000 / u128::from(run.bytes.max(1))
    };
    match from.runs.iter().min_by_key(|run| cost(run)) {
        Some(run) => down(run, number, below, sizes),
        None => Plan::Nothing,
    }
}

/// A run of level `number` becomes part of the next one.
fn down(run: &Candidate<'_>, number: usize, below: &Level<'_>, sizes: Sizes) -> Plan {
    let stretch = overlapping(below, &run.meta.first, &run.meta.last);
    if stretch.is_empty() && run.bytes >= sizes.file_bytes / SMALL_SHARE {
        return Plan::Move {
            runs: vec![run.number],
            into: number + 1,
        };
    }
    let stretch = with_small_neighbours(below, stretch, sizes);
    Plan::Merge {
        parts: vec![vec![run.number], numbers(&below.runs[stretch])],
        into: Target::Level(number + 1),
    }
}

/// Whether somebody sees what was superseded, or deleted, at some LSN up to this one.
fn is_seen_before(lsn: Lsn, keep: &Keep<'_>) -> bool {
    keep.horizon < lsn || keep.pins.first().is_some_and(|pin| *pin < lsn)
}

/// Whether so many entries are worth the work.
fn is_much(garbage: u64, entries: u64) -> bool {
    garbage > 0 && garbage >= entries.div_ceil(GARBAGE_SHARE)
}

/// Whether so many deletions are worth it that these runs are written again.
fn is_worth(deletions: u64, below: &[Candidate<'_>]) -> bool {
    let entries: u64 = below.iter().map(|run| run.meta.entries).sum();
    deletions.saturating_mul(DELETED_SHARE) >= entries
}

/// Nothing is too large: deletions are brought down to what they delete, and a run of which much is certain to go when it is written
/// again is written again.
fn clean(
    fresh: &[Level<'_>],
    levels: &[Level<'_>],
    targets: &Targets,
    sizes: Sizes,
    keep: &Keep<'_>,
) -> Plan {
    let all = || fresh.iter().flat_map(|layer| &layer.runs).map(|run| run.meta);
    let seen = all().any(|meta| is_seen_before(meta.lsn_max, keep));
    let deletions = all().map(|meta| meta.deletions).sum();
    let is_many = is_much(deletions, all().map(|meta| meta.entries).sum());
    let base = &levels[targets.base];
    if !seen && is_many && is_worth(deletions, &base.runs[covered(fresh, base)]) {
        return merge_fresh(fresh, levels, targets, sizes);
    }
    for (number, level) in levels.iter().enumerate() {
        for run in &level.runs {
            let plan = clean_run(run, number, levels, sizes, keep);
            if plan != Plan::Nothing {
                return plan;
            }
        }
    }
    Plan::Nothing
}

fn clean_run(
    run: &Candidate<'_>,
    number: usize,
    levels: &[Level<'_>],
    sizes: Sizes,
    keep: &Keep<'_>,
) -> Plan {
    let meta = run.meta;
    let superseded = if is_seen_before(meta.superseded_max, keep) {
        0
    } else {
        meta.superseded
    };
    // Those that are superseded are counted already.
    let deletions = if is_seen_before(meta.lsn_max, keep) {
        0
    } else {
        meta.deletions.saturating_sub(meta.superseded)
    };
    let covers = |below: &Level<'_>| !overlapping(below, &meta.first, &meta.last).is_empty();
    let is_bottom = !levels[number + 1..].iter().any(covers);
    if !is_bottom && is_much(deletions, meta.entries) {
        let below = &levels[number + 1];
        let stretch = overlapping(below, &meta.first, &meta.last);
        if is_worth(deletions, &below.runs[stretch]) {
            return down(run, number, below, sizes);
        }
    }
    let garbage = superseded + if is_bottom { deletions } else { 0 };
    let dead = dead_bytes(run, keep) >= meta.content_bytes.div_ceil(GARBAGE_SHARE);
    if dead || is_much(garbage, meta.entries) {
        return Plan::Merge {
            parts: vec![vec![run.number]],
            into: Target::Level(number),
        };
    }
    Plan::Nothing
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
