//! One run, open: looked up by key.

use crate::Row;
use crate::error::Error;
use crate::runs::Stored;
use crate::runs::block::Found;
use crate::runs::cache::{Block, BlockId, Cache};
use crate::runs::directory::Content;
use crate::runs::filter;
use crate::runs::folder::{FileReader, Folder};
use crate::runs::format::{
    BLOCK_BYTES_MAX, BlockKind, BlockPlace, FOOTER_BYTES, Footer, HEADER_BYTES, RUN_MAGIC, check_header,
    damaged, open_block, run_name,
};
use crate::runs::index::IndexBlock;
use crate::runs::manifest::RunName;
use crate::runs::meta::Meta;
use crate::runs::stats::FilterCounters;
use scry_wal::Lsn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) struct Run {
    pub(crate) name: RunName,
    pub(crate) meta: Meta,
    pub(crate) filters: FilterCounters,
    top: Block,
    top_place: BlockPlace,
    file: Box<dyn FileReader>,
    folder: Arc<dyn Folder>,
    cache: Arc<Cache>,
    /// No manifest names it any more: the last who reads it removes the file.
    doomed: AtomicBool,
}

/// The first and the last bytes of a file.
struct Ends {
    top: Block,
    top_place: BlockPlace,
    meta: Meta,
}

impl Ends {
    fn read(file: &dyn FileReader, path: &Path, name: RunName) -> Result<Ends, Error> {
        let failed = |source| Error::Io {
            path: path.to_owned(),
            doing: "read",
            source,
        };
        let length = file.bytes().map_err(failed)?;
        if length != name.bytes || length < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(damaged(
                path,
                length,
                "the file has another length than when it was written",
            ));
        }
        let mut head = [0; HEADER_BYTES];
        file.read_at(0, &mut head).map_err(failed)?;
        check_header(&head, RUN_MAGIC, path)?;
        let mut tail = [0; FOOTER_BYTES];
        let footer_at = length - FOOTER_BYTES as u64;
        file.read_at(footer_at, &mut tail).map_err(failed)?;
        let footer = Footer::decode(&tail, length);
        let (footer, checksum) = footer.map_err(|what| damaged(path, footer_at, what))?;
        if checksum != name.checksum || footer.number != name.number {
            return Err(damaged(
                path,
                footer_at,
                "the file is not the one that the manifest names",
            ));
        }
        let read = |place: BlockPlace, kind| -> Result<Block, Error> {
            let stored = read_place(file, place, || path.to_owned())?;
            let block = open_block(&stored, kind, name.number, place.offset);
            let block = block.map_err(|what| damaged(path, place.offset, what))?;
            Ok(Arc::new(match kind {
                BlockKind::TopIndex => Content::of_index(block),
                _ => Content::plain(block),
            }))
        };
        let top = read(footer.top, BlockKind::TopIndex)?;
        if IndexBlock::parse(&top).is_none() {
            return Err(damaged(path, footer.top.offset, "the top index makes no sense"));
        }
        let meta = Meta::decode(&read(footer.meta, BlockKind::Meta)?);
        let meta = meta.ok_or_else(|| damaged(path, footer.meta.offset, "the meta block makes no sense"))?;
        Ok(Ends {
            top,
            top_place: footer.top,
            meta,
        })
    }
}

/// A lookup's key, with what is computed of it once.
pub(crate) struct Target<'k> {
    pub(crate) key: &'k [u8],
    pub(crate) hash: u64,
}

impl Run {
    /// Opens a file that a manifest names, and checks that it is the one.
    pub(crate) fn open(folder: &Arc<dyn Folder>, cache: &Arc<Cache>, name: RunName) -> Result<Run, Error> {
        let path = folder.path(&run_name(name.number));
        let file = folder.open(&run_name(name.number));
        let file = file.map_err(|source| Error::Io {
            path: path.clone(),
            doing: "open",
            source,
        })?;
        let Ends { top, top_place, meta } = Ends::read(file.as_ref(), &path, name)?;
        Ok(Run {
            name,
            meta,
            filters: FilterCounters::default(),
            top,
            top_place,
            file,
            folder: Arc::clone(folder),
            cache: Arc::clone(cache),
            doomed: AtomicBool::new(false),
        })
    }

    /// Reads once more what `open` has read.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        let ends = Ends::read(self.file.as_ref(), &self.path(), self.name)?;
        if ends.top[..] == self.top[..] && ends.meta == self.meta {
            return Ok(());
        }
        Err(self.damaged(
            self.top_place.offset,
            "the file is not as it was when it was opened",
        ))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path(&run_name(self.name.number))
    }

    pub(crate) fn damaged(&self, offset: u64, what: &'static str) -> Error {
        damaged(&self.path(), offset, what)
    }

    /// Has the file removed when nobody reads it any more.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// What is held in memory for the run beside the cache.
    pub(crate) fn pinned_bytes(&self) -> usize {
        size_of::<Run>()
            + self.top.memory_bytes()
            + self.meta.first.len()
            + self.meta.last.len()
            + self.meta.spaces.len() * size_of::<crate::runs::meta::Share>()
    }

    #[inline]
    pub(crate) fn top(&self) -> Result<IndexBlock<'_>, Error> {
        IndexBlock::parse(&self.top).ok_or_else(|| self.no_sense(self.top_place))
    }

    /// The first group that can have this key or a greater one.
    #[inline]
    pub(crate) fn find_group(&self, top: &IndexBlock<'_>, target: &[u8]) -> Result<usize, Error> {
        let found = self.top.find_block(top, target);
        found.ok_or_else(|| self.no_sense(self.top_place))
    }

    pub(crate) fn top_place(&self) -> BlockPlace {
        self.top_place
    }

    pub(crate) fn no_sense(&self, place: BlockPlace) -> Error {
        self.damaged(place.offset, "a block makes no sense")
    }

    #[inline]
    fn id(&self, place: BlockPlace) -> BlockId {
        BlockId {
            number: self.name.number,
            offset: place.offset,
        }
    }

    /// A block out of the cache.
    #[inline]
    pub(crate) fn cached(&self, place: BlockPlace) -> Option<Block> {
        self.cache.get(self.id(place))
    }

    /// A block out of the cache or of the file.
    #[inline]
    pub(crate) fn block(&self, place: BlockPlace, kind: BlockKind) -> Result<Block, Error> {
        match self.cached(place) {
            Some(block) => Ok(block),
            None => self.read_to_keep(place, kind),
        }
    }

    /// A block of the file, which the cache gets.
    #[cold]
    pub(crate) fn read_to_keep(&self, place: BlockPlace, kind: BlockKind) -> Result<Block, Error> {
        let bytes = self.open_bytes(&self.read(place)?, place, kind)?;
        let block = Arc::new(match kind {
            BlockKind::Data => Content::with_directory(bytes),
            BlockKind::Index => Content::of_index(bytes),
            _ => Content::plain(bytes),
        });
        self.cache.insert(self.id(place), &block);
        Ok(block)
    }

    /// A block of the file.
    pub(crate) fn read_block(&self, place: BlockPlace, kind: BlockKind) -> Result<Block, Error> {
        self.open_block(&self.read(place)?, place, kind)
    }

    /// A block whose bytes on disk were read.
    pub(crate) fn open_block(
        &self,
        stored: &[u8],
        place: BlockPlace,
        kind: BlockKind,
    ) -> Result<Block, Error> {
        Ok(Arc::new(Content::plain(self.open_bytes(stored, place, kind)?)))
    }

    fn open_bytes(&self, stored: &[u8], place: BlockPlace, kind: BlockKind) -> Result<Vec<u8>, Error> {
        open_block(stored, kind, self.name.number, place.offset)
            .map_err(|what| self.damaged(place.offset, what))
    }

    /// Bytes of the file.
    pub(crate) fn read(&self, place: BlockPlace) -> Result<Vec<u8>, Error> {
        let lies_inside = place.end().is_some_and(|end| end <= self.top_place.offset);
        if !lies_inside {
            return Err(self.damaged(place.offset, "an index names a place outside of the file"));
        }
        read_place(self.file.as_ref(), place, || self.path())
    }

    /// What lies from `offset` on will be read soon.
    pub(crate) fn will_read(&self, offset: u64, bytes: u64) {
        let bytes = bytes.min(self.top_place.offset.saturating_sub(offset));
        if bytes > 0 {
            self.file.will_read(offset, bytes);
        }
    }

    /// The newest version of a key at or below `at`.
    pub(crate) fn get(&self, target: &Target<'_>, at: Lsn) -> Result<Option<Stored>, Error> {
        let top = self.top()?;
        let group = self.find_group(&top, target.key)?;
        if group == top.len() {
            return Ok(None);
        }
        let place = top.place(group).ok_or_else(|| self.no_sense(self.top_place))?;
        let index = self.block(place, BlockKind::Index)?;
        self.get_in_group(&index, place, target, at)
    }

    fn get_in_group(
        &self,
        group: &Block,
        index_place: BlockPlace,
        target: &Target<'_>,
        at: Lsn,
    ) -> Result<Option<Stored>, Error> {
        let no_sense = || self.no_sense(index_place);
        let index = IndexBlock::parse(group).ok_or_else(no_sense)?;
        if !filter::may_have(index.filter(), target.hash).ok_or_else(no_sense)? {
            self.filters.spared();
            return Ok(None);
        }
        let first = group.find_block(&index, target.key).ok_or_else(no_sense)?;
        for number in first..index.len() {
            let place = index.place(number).ok_or_else(no_sense)?;
            let block = self.block(place, BlockKind::Data)?;
            let found = block.find(target.key, at);
            match found.ok_or_else(|| self.no_sense(place))? {
                Found::Version(entry) => {
                    return Ok(Some(Stored {
                        lsn: entry.lsn,
                        ordinal: entry.ordinal,
                        row: entry.row.map(|row| Row::from(&block[row])),
                    }));
                }
                Found::Nothing => break,
                Found::Beyond => {}
            }
        }
        self.filters.missed();
        Ok(None)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            // A file that cannot be removed now is removed by the next start.
            let _ = self.folder.remove(&run_name(self.name.number));
        }
    }
}

/// `path` is asked for when something is wrong.
fn read_place(
    file: &dyn FileReader,
    place: BlockPlace,
    path: impl Fn() -> PathBuf,
) -> Result<Vec<u8>, Error> {
    if place.bytes as usize > BLOCK_BYTES_MAX {
        return Err(damaged(
            &path(),
            place.offset,
            "an index names a block that is too long",
        ));
    }
    let mut stored = vec![0; place.bytes as usize];
    match file.read_at(place.offset, &mut stored) {
        Ok(()) => Ok(stored),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(damaged(&path(), place.offset, "the file ends inside of a block"))
        }
        Err(source) => Err(Error::Io {
            path: path(),
            doing: "read",
            source,
        }),
    }
}
