//! Sorted runs: the rows on disk, as a log-structured tree (O'Neil et al., "The Log-Structured Merge-Tree", 1996) for the
//! whole engine.
//!
//! A *run* is a file of row versions in the order of their keys, written once. A *layer* is a list of runs that do not
//! overlap. Level 0 has a layer for each flush, newest first; each level below is one layer. Of a key, what stands in an earlier layer is
//! newer than what stands in a later one; so a lookup ends at the first version that its snapshot sees. `RunSet` is
//! all of them at one moment; it is replaced as a whole, and so is the manifest on disk.
//!
//! In reading order: `format` (the bytes), `block`, `directory`, `index`, `filter`, `meta` (parts of a run), `writer`, `run` (one run,
//! written and looked up), `cache`, `cursor`, `merge`, `range` (walks), `set` (all runs), `manifest`, `flush`,
//! `compaction` (what is merged, and how), `stamp` and `private` (runs of transactions that are larger than memory), `stats`, `verify`, `inspect` (a
//! folder that is not opened).
//!
//! Invariants:
//! - a manifest names only files that are durable in whole;
//! - a file is removed only after a manifest without it is durable, and when nobody reads it any more;
//! - no byte is served whose checksum did not hold when it was read;
//! - all versions of a key that one layer has are in one run, and in one group of it.
//!
//! It knows nothing of tables or transactions: only of spaces, keys, and who can still see which LSN.

mod block;
mod cache;
mod compaction;
mod cursor;
mod directory;
mod filter;
pub(crate) mod flush;
mod folder;
mod format;
mod hash;
mod index;
pub(crate) mod inspect;
mod manifest;
mod merge;
mod meta;
pub(crate) mod private;
mod range;
mod run;
mod set;
pub(crate) mod stamp;
mod stats;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use compaction::Compacted;
pub use compaction::plan::Keep;
pub use stats::{LevelStats, RunsStats};
pub use verify::Verified;

pub use cache::CacheStats;
pub use flush::FlushWriter;
pub use format::Compression;
pub use inspect::{Inspected, inspect};
pub use range::RunRange;
pub use set::RunSet;

use crate::Row;
use crate::error::Error;
use arc_swap::{ArcSwap, Guard};
use cache::Cache;
use compaction::pace::Pace;
use compaction::plan::Sizes;
use folder::Folder;
pub(crate) use format::run_name;
pub(crate) use manifest::{MANIFEST, Manifest, RunName};

use folder::disk::DiskFolder;
use format::{SPACE_BYTES, run_number};
use manifest::UNFINISHED;
use parking_lot::Mutex;
use private::TakenOver;
use run::Run;
use scry_wal::{Lsn, Ordinal};
use set::Layer;
use smallvec::SmallVec;
use stamp::Stamp;
use stats::Counters;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use writer::Shape;

/// One key space. Keys of different spaces have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(u32);

/// One version of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub lsn: Lsn,
    pub ordinal: Ordinal,
    /// `None`: the row was deleted here.
    pub row: Option<Row>,
}

/// A space and a key, as `format` has it; most need no allocation.
pub(crate) type InternalKey = SmallVec<[u8; 64]>;

/// How runs are kept.
#[derive(Clone, Copy, Debug)]
pub struct RunsOptions {
    /// Of blocks in the cache.
    pub cache_bytes: usize,
    /// Of a file, about: it ends with the key that passes this.
    pub file_bytes: u64,
    /// Of a block's content, about.
    pub block_bytes: usize,
    /// Of flushes.
    pub compression_fresh: Compression,
    /// Of what compaction writes.
    pub compression: Compression,
    /// The most that the first level below the flushes has.
    pub base_bytes: u64,
    /// What compaction goes through in a second; without a limit, `None`.
    pub compaction_bytes_per_s: Option<u64>,
}

impl Default for RunsOptions {
    fn default() -> RunsOptions {
        RunsOptions {
            cache_bytes: 256 << 20,
            file_bytes: 64 << 20,
            block_bytes: 8 << 10,
            compression_fresh: Compression::Lz4,
            compression: Compression::Lz4,
            base_bytes: 256 << 20,
            compaction_bytes_per_s: None,
        }
    }
}

impl RunsOptions {
    fn shape(&self, level: usize) -> Shape {
        Shape {
            block_bytes: self.block_bytes,
            compression: if level == 0 {
                self.compression_fresh
            } else {
                self.compression
            },
            durable: true,
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            file_bytes: self.file_bytes,
            base_bytes: self.base_bytes,
        }
    }
}

/// What the manifest on disk says beside the runs' names.
struct Installed {
    checkpoint: Option<Arc<[u8]>>,
    /// Which manifest the disk has is not known: nothing more is installed until a restart has looked.
    is_uncertain: bool,
}

/// The runs of a database.
pub struct Runs {
    folder: Arc<dyn Folder>,
    cache: Arc<Cache>,
    options: RunsOptions,
    current: ArcSwap<RunSet>,
    next_number: AtomicU64,
    /// Held while a manifest is written: they follow one another.
    installed: Mutex<Installed>,
    /// Held by the one compaction that is under way.
    compaction: Mutex<()>,
    pace: Pace,
    counters: Counters,
}

impl Runs {
    /// Opens the runs of a folder, or begins with none in a new one. With them comes what the last `install` was given.
    ///
    /// # Errors
    /// When a file is missing, damaged or newer, or the disk fails.
    pub fn open(folder: &Path, options: RunsOptions) -> Result<(Arc<Runs>, Option<Vec<u8>>), Error> {
        let disk = DiskFolder::new(folder).map_err(|source| Error::Io {
            path: folder.to_owned(),
            doing: "create",
            source,
        })?;
        Runs::open_in(Arc::new(disk), options)
    }

    pub(crate) fn open_in(
        folder: Arc<dyn Folder>,
        options: RunsOptions,
    ) -> Result<(Arc<Runs>, Option<Vec<u8>>), Error> {
        let manifest = Manifest::read(folder.as_ref())?.unwrap_or_default();
        remove_unnamed(folder.as_ref(), &manifest)?;
        let cache = Arc::new(Cache::new(options.cache_bytes));
        let open_layer = |names: &Vec<_>| -> Result<Arc<Layer>, Error> {
            let runs = names
                .iter()
                .map(|name| Run::open(&folder, &cache, *name).map(Arc::new));
            let runs: Vec<Arc<Run>> = runs.collect::<Result<_, _>>()?;
            for pair in runs.windows(2) {
                if pair[0].meta.last >= pair[1].meta.first {
                    return Err(pair[1].damaged(0, "the run overlaps another one of its level"));
                }
            }
            Ok(Arc::new(Layer::new(runs)))
        };
        let fresh = manifest.fresh.iter().map(open_layer).collect::<Result<_, _>>()?;
        let levels = manifest.levels.iter().map(open_layer).collect::<Result<_, _>>()?;
        let checkpoint = manifest.checkpoint.as_deref().map(<[u8]>::to_vec);
        let runs = Runs {
            folder,
            cache,
            options,
            current: ArcSwap::from_pointee(RunSet::new(fresh, levels)),
            next_number: AtomicU64::new(manifest.next_number),
            installed: Mutex::new(Installed {
                checkpoint: manifest.checkpoint,
                is_uncertain: false,
            }),
            compaction: Mutex::new(()),
            pace: Pace::new(options.compaction_bytes_per_s),
            counters: Counters::default(),
        };
        Ok((Arc::new(runs), checkpoint))
    }

    /// The present set.
    #[inline]
    pub fn current(&self) -> Arc<RunSet> {
        self.current.load_full()
    }

    /// The present set for a single lookup: readers of several threads touch nothing that they share.
    #[inline]
    pub(crate) fn present(&self) -> Guard<Arc<RunSet>> {
        self.current.load()
    }

    /// Begins a flush, to be completed by `install`.
    pub fn begin_flush(self: &Arc<Self>) -> FlushWriter {
        FlushWriter::new(Arc::clone(self))
    }

    /// Makes a flush part of the set, and `checkpoint` the bytes that the next `open` hands out, durably and all at
    /// once. An empty flush changes the bytes only.
    ///
    /// # Errors
    /// When the disk fails. The set is as before then.
    pub fn install(&self, flush: FlushWriter, checkpoint: &[u8]) -> Result<Arc<RunSet>, Error> {
        self.install_with(flush, None, checkpoint)
    }

    /// As `install`, with what was taken over of transactions. Of keys that both have, the flush has the newer versions.
    pub(crate) fn install_with(
        &self,
        flush: FlushWriter,
        taken: Option<TakenOver>,
        checkpoint: &[u8],
    ) -> Result<Arc<RunSet>, Error> {
        let mut layers = vec![flush.finish()?];
        let mut gone = Vec::new();
        if let Some(taken) = taken {
            // A flush that is not installed after all is doomed here: it has no writer any more.
            let copy = taken.copy.finish().inspect_err(|_| doom(layers[0].runs()))?;
            layers.push(copy);
            gone = taken.layers;
        }
        layers.retain(|layer| !layer.is_empty());
        let new: Vec<Arc<Run>> = layers.iter().flat_map(|layer| layer.runs().to_vec()).collect();
        let bytes = layers.iter().map(Layer::bytes).sum();
        let set = self.replace(&new, Some(checkpoint), &gone, |set| {
            let layers = layers.into_iter().map(Arc::new);
            let fresh = layers.chain(set.fresh().iter().map(Arc::clone)).collect();
            RunSet::new(fresh, set.levels().to_vec())
        })?;
        self.counters.flushed(bytes);
        Ok(set)
    }

    /// Puts layers, newest first, in front of the set: in memory alone.
    pub(crate) fn adopt(&self, layers: Vec<Arc<Layer>>) {
        self.change_adopted(|adopted| layers.into_iter().chain(adopted).collect());
    }

    /// Takes the layers of a stamp that was not set out again.
    pub(crate) fn disown(&self, stamp: &Arc<Stamp>) {
        let is_others = |layer: &Arc<Layer>| layer.stamp().is_none_or(|other| !Arc::ptr_eq(other, stamp));
        self.change_adopted(|adopted| adopted.filter(is_others).collect());
    }

    fn change_adopted(&self, change: impl FnOnce(Adopted<'_>) -> Vec<Arc<Layer>>) {
        let _alone = self.installed.lock();
        let set = self.current();
        let adopted = change(set.adopted().iter().cloned());
        let after = RunSet::with_adopted(adopted, set.fresh().to_vec(), set.levels().to_vec());
        self.current.store(Arc::new(after));
    }

    /// Puts a set in place of the present one, of which `new` runs are a part, and no manifest knows them yet. Of the adopted layers `gone`
    /// go; `change` has no say in them.
    fn replace(
        &self,
        new: &[Arc<Run>],
        checkpoint: Option<&[u8]>,
        gone: &[Arc<Layer>],
        change: impl FnOnce(&RunSet) -> RunSet,
    ) -> Result<Arc<RunSet>, Error> {
        let mut installed = self.installed.lock();
        if installed.is_uncertain {
            doom(new);
            return Err(
                self.manifest_failed("replace", std::io::Error::other("an earlier replacement failed"))
            );
        }
        let before = self.current();
        let after = change(&before);
        let stays = |layer: &&Arc<Layer>| !gone.iter().any(|gone| Arc::ptr_eq(gone, layer));
        let adopted = before.adopted().iter().filter(stays).map(Arc::clone).collect();
        let (fresh, levels) = (after.fresh().to_vec(), after.levels().to_vec());
        let after = Arc::new(RunSet::with_adopted(adopted, fresh, levels));
        let checkpoint = match checkpoint {
            Some(bytes) => Some(Arc::from(bytes)),
            None => installed.checkpoint.clone(),
        };
        let names = |layers: &[Arc<Layer>]| layers.iter().map(|layer| layer.names()).collect();
        let manifest = Manifest {
            next_number: self.next_number.load(Ordering::Relaxed),
            fresh: names(after.fresh()),
            levels: names(after.levels()),
            checkpoint,
        };
        if let Err(error) = manifest.prepare(self.folder.as_ref()) {
            doom(new);
            return Err(error);
        }
        let replaced = self.folder.replace(UNFINISHED, MANIFEST);
        if let Err(source) = replaced.and_then(|()| self.folder.sync()) {
            // The disk may have either manifest when the power goes: the files of both stay.
            installed.is_uncertain = true;
            return Err(self.manifest_failed("replace", source));
        }
        installed.checkpoint = manifest.checkpoint;
        self.current.store(Arc::clone(&after));
        let kept: std::collections::HashSet<u64> = after.runs().map(|run| run.name.number).collect();
        for run in before.runs() {
            if !kept.contains(&run.name.number) {
                self.counters.left(&run.filters);
                run.doom();
            }
        }
        Ok(after)
    }

    fn manifest_failed(&self, doing: &'static str, source: std::io::Error) -> Error {
        Error::Io {
            path: self.folder.path(MANIFEST),
            doing,
            source,
        }
    }

    fn take_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

/// The layers of transactions in a set.
type Adopted<'s> = std::iter::Cloned<std::slice::Iter<'s, Arc<Layer>>>;

/// Has the files of runs removed that became part of no set.
fn doom(runs: &[Arc<Run>]) {
    for run in runs {
        run.doom();
    }
}

/// Removes what a crash has left: runs that no manifest names, and a manifest that was not completed.
fn remove_unnamed(folder: &dyn Folder, manifest: &Manifest) -> Result<(), Error> {
    let failed = |name: &str, doing| {
        let path = folder.path(name);
        move |source| Error::Io { path, doing, source }
    };
    let named: std::collections::HashSet<u64> = manifest.runs().map(|run| run.number).collect();
    for name in folder.list().map_err(failed("", "list"))? {
        let is_left = match run_number(&name) {
            Some(number) => !named.contains(&number),
            None => name == UNFINISHED,
        };
        if is_left {
            folder.remove(&name).map_err(failed(&name, "remove"))?;
        }
    }
    Ok(())
}

impl SpaceId {
    pub const fn new(number: u32) -> SpaceId {
        SpaceId(number)
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    /// The space of an internal key.
    pub(crate) fn of(key: &[u8]) -> SpaceId {
        let mut number = [0; SPACE_BYTES];
        if let Some(space) = key.get(..SPACE_BYTES) {
            number.copy_from_slice(space);
        }
        SpaceId(u32::from_be_bytes(number))
    }

    pub(crate) fn next(self) -> Option<SpaceId> {
        self.0.checked_add(1).map(SpaceId)
    }
}

impl std::fmt::Display for SpaceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) fn internal_key(space: SpaceId, key: &[u8]) -> InternalKey {
    let mut internal = InternalKey::new();
    internal.extend_from_slice(&space.get().to_be_bytes());
    internal.extend_from_slice(key);
    internal
}
