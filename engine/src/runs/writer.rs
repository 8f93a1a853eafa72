//! Writes one run, from its first key to its last.

use crate::error::Error;
use crate::runs::block::BlockBuilder;
use crate::runs::filter;
use crate::runs::folder::{FileWriter, Folder};
use crate::runs::format::{
    BlockKind, BlockPlace, Compression, Footer, RUN_MAGIC, header, put_block, run_name,
};
use crate::runs::hash::hash;
use crate::runs::index::{IndexBuilder, separator};
use crate::runs::manifest::RunName;
use crate::runs::meta::Meta;
use scry_wal::{Lsn, Ordinal};
use std::sync::Arc;

/// Data blocks under one index block: with blocks of 8 KiB and rows of 100 bytes their filter has about 6 KiB.
const GROUP_BLOCKS: usize = 64;

/// Separators of long keys end a group earlier.
const GROUP_INDEX_BYTES: usize = 32 << 10;

/// How much is handed to the file at once.
const WRITE_BYTES: usize = 256 << 10;

/// How much is written before it is made durable. Much more, and the disk is busy with it while commits wait.
const SYNC_BYTES: u64 = 8 << 20;

/// How a run is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) block_bytes: usize,
    pub(crate) compression: Compression,
    /// Whether the file is to be there after the power went.
    pub(crate) durable: bool,
}

pub(crate) struct RunWriter {
    folder: Arc<dyn Folder>,
    file: Box<dyn FileWriter>,
    number: u64,
    shape: Shape,
    /// What the file does not have yet.
    buffer: Vec<u8>,
    /// Bytes before the buffer.
    written: u64,
    synced: u64,
    block: BlockBuilder,
    group: IndexBuilder,
    hashes: Vec<u64>,
    top: IndexBuilder,
    meta: Meta,
    last_key: Vec<u8>,
    last_lsn: Lsn,
    finished: bool,
}

impl RunWriter {
    pub(crate) fn create(folder: &Arc<dyn Folder>, number: u64, shape: Shape) -> Result<RunWriter, Error> {
        let file = folder.create(&run_name(number));
        let file = file.map_err(|source| Error::Io {
            path: folder.path(&run_name(number)),
            doing: "create",
            source,
        })?;
        Ok(RunWriter {
            folder: Arc::clone(folder),
            file,
            number,
            shape,
            buffer: header(RUN_MAGIC).to_vec(),
            written: 0,
            synced: 0,
            block: BlockBuilder::default(),
            group: IndexBuilder::default(),
            hashes: Vec::new(),
            top: IndexBuilder::default(),
            meta: Meta::default(),
            last_key: Vec::new(),
            last_lsn: Lsn::MAX,
            finished: false,
        })
    }

    /// How long the file is by now, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.position() + self.block.len() as u64
    }

    /// The internal key that was added last.
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Adds a version: keys rise, and LSNs of one key fall.
    ///
    /// # Panics
    /// When they do not: such a run would answer wrongly.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        lsn: Lsn,
        ordinal: Ordinal,
        row: Option<&[u8]>,
    ) -> Result<(), Error> {
        let is_first = self.meta.entries == 0;
        let is_new = is_first || self.last_key != key;
        if is_new {
            assert!(
                is_first || self.last_key.as_slice() < key,
                "keys of a run that do not rise"
            );
        } else {
            assert!(lsn < self.last_lsn, "versions of a key that are not newest first");
        }
        let row_bytes = row.map_or(0, <[u8]>::len);
        let is_full = self.block.len() >= self.shape.block_bytes
            || self.block.len() + key.len() + row_bytes > 2 * self.shape.block_bytes;
        if !self.block.is_empty() && is_full {
            let mut room = Vec::new();
            let last_key = std::mem::take(&mut self.last_key);
            let separator = if is_new {
                separator(&last_key, key, &mut room)
            } else {
                key
            };
            self.end_block(separator)?;
            let group_full = self.group.len() >= GROUP_BLOCKS || self.group.bytes() >= GROUP_INDEX_BYTES;
            if is_new && group_full {
                self.end_group(separator)?;
            }
            self.last_key = last_key;
        }
        self.block.add(key, lsn, ordinal, row);
        let superseded_at = (!is_new).then_some(self.last_lsn);
        self.meta.count(key, lsn, row.map(<[u8]>::len), superseded_at);
        if is_new {
            self.hashes.push(hash(key));
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        self.last_lsn = lsn;
        Ok(())
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn put(
        &mut self,
        content: &[u8],
        kind: BlockKind,
        compression: Compression,
    ) -> Result<BlockPlace, Error> {
        let offset = self.position();
        let place = put_block(&mut self.buffer, content, kind, compression, self.number, offset);
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(place)
    }

    fn write(&mut self) -> Result<(), Error> {
        let appended = self.file.append(&self.buffer);
        appended.map_err(self.failed("write"))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        if !self.shape.durable {
            return Ok(());
        }
        let synced = self.file.sync();
        synced.map_err(self.failed("sync"))?;
        self.synced = self.written;
        Ok(())
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let path = self.folder.path(&run_name(self.number));
        move |source| Error::Io { path, doing, source }
    }

    fn end_block(&mut self, separator: &[u8]) -> Result<(), Error> {
        let mut block = std::mem::take(&mut self.block);
        let place = self.put(block.finish(), BlockKind::Data, self.shape.compression)?;
        block.clear();
        self.block = block;
        self.group.add(separator, place);
        Ok(())
    }

    fn end_group(&mut self, separator: &[u8]) -> Result<(), Error> {
        let mut filter = Vec::new();
        filter::build(&mut filter, &mut self.hashes);
        self.hashes.clear();
        let block = self.group.finish(&filter);
        let place = self.put(&block, BlockKind::Index, Compression::None)?;
        self.top.add(separator, place);
        Ok(())
    }

    /// Completes the file, durably (if it is to be) but for its name.
    ///
    /// # Panics
    /// When nothing was added.
    pub(crate) fn finish(mut self) -> Result<RunName, Error> {
        assert!(self.meta.entries > 0, "an empty run");
        let last_key = std::mem::take(&mut self.last_key);
        self.end_block(&last_key)?;
        self.end_group(&last_key)?;
        let top = self.top.finish(&[]);
        let top = self.put(&top, BlockKind::TopIndex, Compression::None)?;
        self.meta.last = last_key;
        let meta = self.meta.encode();
        let meta = self.put(&meta, BlockKind::Meta, Compression::None)?;
        let footer = Footer {
            top,
            meta,
            number: self.number,
        };
        let footer = footer.encode();
        self.buffer.extend_from_slice(&footer);
        self.write()?;
        self.sync()?;
        let name = RunName {
            number: self.number,
            bytes: self.written,
            checksum: crc32fast::hash(&footer[..32]),
        };
        self.finished = true;
        Ok(name)
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is removed by the next start.
            let _ = self.folder.remove(&run_name(self.number));
        }
    }
}
