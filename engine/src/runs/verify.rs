//! Reads every byte of every run, and checks that all of it agrees.

use crate::error::Error;
use crate::runs::Runs;
use crate::runs::block::DataBlock;
use crate::runs::cache::Block;
use crate::runs::cursor::AHEAD_BYTES_MAX;
use crate::runs::filter;
use crate::runs::format::{BlockKind, BlockPlace, HEADER_BYTES};
use crate::runs::hash::hash;
use crate::runs::index::IndexBlock;
use crate::runs::manifest::Manifest;
use crate::runs::meta::Meta;
use crate::runs::run::Run;
use crate::runs::set::Layer;
use scry_wal::Lsn;
use std::sync::Arc;

/// What was found to be whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub runs: u64,
    pub blocks: u64,
    pub entries: u64,
    /// Of files.
    pub bytes: u64,
}

impl Runs {
    /// Checks the manifest and all runs of the present set, past the cache.
    ///
    /// # Errors
    /// The first damage that is found, by file and offset.
    pub fn verify(&self) -> Result<Verified, Error> {
        let set = {
            // The manifest is that of the set only while none is replaced.
            let _held = self.installed.lock();
            let set = self.current();
            let manifest = Manifest::read(self.folder.as_ref())?.unwrap_or_default();
            let names = |layers: &[Arc<Layer>]| layers.iter().map(|layer| layer.names()).collect::<Vec<_>>();
            if manifest.fresh != names(set.fresh()) || manifest.levels != names(set.levels()) {
                let path = self.folder.path(crate::runs::manifest::MANIFEST);
                let what = "the manifest does not name the runs that are open";
                return Err(crate::runs::format::damaged(&path, 0, what));
            }
            set
        };
        let mut verified = Verified::default();
        for run in set.runs() {
            verify_run(run, &mut verified)?;
        }
        Ok(verified)
    }
}

/// One run from its first byte to its last.
pub(crate) fn verify_run(run: &Arc<Run>, verified: &mut Verified) -> Result<(), Error> {
    // The header, the footer and the last blocks once more.
    run.reopen()?;
    let mut walk = Walk {
        run,
        next_offset: HEADER_BYTES as u64,
        key: Vec::new(),
        lsn: None,
        floor: Vec::new(),
        seen: Meta::default(),
    };
    let top = run.top()?;
    for group in 0..top.len() {
        let (Some(place), Some(separator)) = (top.place(group), top.separator(group)) else {
            return Err(run.no_sense(run.top_place()));
        };
        verified.blocks += walk.group(place, separator)? + 1;
    }
    if walk.next_offset != run.top_place().offset {
        return Err(run.damaged(walk.next_offset, "there are bytes that no index names"));
    }
    walk.seen.last = walk.key;
    if walk.seen != run.meta {
        return Err(run.damaged(run.name.bytes, "the meta block does not agree with the entries"));
    }
    verified.runs += 1;
    verified.blocks += 2;
    verified.entries += run.meta.entries;
    verified.bytes += run.name.bytes;
    Ok(())
}

struct Walk<'r> {
    run: &'r Run,
    next_offset: u64,
    /// The entry before.
    key: Vec<u8>,
    lsn: Option<Lsn>,
    /// The separator of the block before.
    floor: Vec<u8>,
    seen: Meta,
}

impl Walk<'_> {
    /// Checks a group, and answers how many data blocks it has.
    fn group(&mut self, place: BlockPlace, last_separator: &[u8]) -> Result<u64, Error> {
        let no_sense = || self.run.no_sense(place);
        self.run.will_read(self.next_offset, AHEAD_BYTES_MAX);
        let bytes = self.run.read_block(place, BlockKind::Index)?;
        let index = IndexBlock::parse(&bytes).ok_or_else(no_sense)?;
        for number in 0..index.len() {
            let data = index.place(number).ok_or_else(no_sense)?;
            let separator = index.separator(number).ok_or_else(no_sense)?;
            if data.offset != self.next_offset {
                return Err(self.run.damaged(
                    place.offset,
                    "the index names a block that does not follow the last one",
                ));
            }
            self.next_offset = data.offset + u64::from(data.bytes);
            let block = self.run.read_block(data, BlockKind::Data)?;
            self.data(&block, data, index.filter())?;
            if self.key.as_slice() > separator {
                return Err(self
                    .run
                    .damaged(place.offset, "a separator is below a key of its block"));
            }
            self.floor = separator.to_vec();
            if number + 1 == index.len() && separator != last_separator {
                return Err(self
                    .run
                    .damaged(place.offset, "the top index does not agree with an index block"));
            }
        }
        if place.offset != self.next_offset {
            return Err(self
                .run
                .damaged(place.offset, "an index block does not follow its data"));
        }
        self.next_offset = place.offset + u64::from(place.bytes);
        Ok(index.len() as u64)
    }

    fn data(&mut self, block: &Block, place: BlockPlace, filter: &[u8]) -> Result<(), Error> {
        let no_sense = || self.run.no_sense(place);
        let data = DataBlock::parse(block).ok_or_else(no_sense)?;
        let mut key = Vec::new();
        let mut position = 0;
        let mut restarts = 0;
        while position < data.end() {
            restarts += usize::from(data.is_restart(restarts, position));
            let (entry, next) = data.entry(position, &mut key).ok_or_else(no_sense)?;
            position = next;
            let is_new = self.lsn.is_none() || key != self.key;
            let follows = if is_new {
                self.lsn.is_none() || self.key < key && self.floor < key
            } else {
                self.lsn.is_some_and(|lsn| entry.lsn < lsn)
            };
            if !follows {
                return Err(self.run.damaged(place.offset, "entries are out of order"));
            }
            let may_have = filter::may_have(filter, hash(&key)).ok_or_else(no_sense)?;
            if !may_have {
                return Err(self.run.damaged(place.offset, "the filter does not know a key"));
            }
            let row_bytes = entry.row.as_ref().map(ExactSizeIterator::len);
            self.seen
                .count(&key, entry.lsn, row_bytes, self.lsn.filter(|_| !is_new));
            self.key.clone_from(&key);
            self.lsn = Some(entry.lsn);
        }
        if restarts != data.restarts() {
            return Err(self.run.damaged(place.offset, "a restart is no entry"));
        }
        Ok(())
    }
}
