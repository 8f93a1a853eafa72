//! Walks the entries of one run, or of one layer, from a key on.

use crate::error::Error;
use crate::runs::SpaceId;
use crate::runs::block::{DataBlock, Entry};
use crate::runs::cache::Block;
use crate::runs::format::{BlockKind, BlockPlace};
use crate::runs::index::IndexBlock;
use crate::runs::run::Run;
use crate::runs::set::Layer;
use scry_wal::{Lsn, Ordinal};
use std::sync::Arc;

/// How blocks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Through the cache; when it becomes long, in larger and larger pieces that are not kept.
    Scan,
    /// In large pieces, past the cache.
    Bulk,
}

/// Blocks that a scan reads one by one and leaves in the cache: a short scan is likely to come again.
const SINGLE_BLOCKS: usize = 8;

/// What is read at once: after single blocks, and at most.
const AHEAD_BYTES_MIN: u64 = 64 << 10;
pub(crate) const AHEAD_BYTES_MAX: u64 = 1 << 20;

/// The first bytes of a key, zeros where there are none: keys whose heads differ are in the same order.
#[inline]
fn head(key: &[u8]) -> u128 {
    let bytes = key.first_chunk::<16>().copied();
    u128::from_be_bytes(bytes.unwrap_or_else(|| {
        let mut bytes = [0; 16];
        bytes[..key.len()].copy_from_slice(key);
        bytes
    }))
}

/// A stretch of the file.
#[derive(Default)]
struct Ahead {
    offset: u64,
    bytes: Vec<u8>,
}

struct Group {
    index: Block,
    place: BlockPlace,
    /// The data block that is next, and their number.
    next: usize,
    count: usize,
}

struct Data {
    block: Block,
    place: BlockPlace,
    position: usize,
    end: usize,
}

/// A place in a run.
pub(crate) struct RunCursor {
    run: Arc<Run>,
    reading: Reading,
    next_group: usize,
    group: Option<Group>,
    data: Option<Data>,
    key: Vec<u8>,
    head: u128,
    entry: Option<Entry>,
    ahead: Ahead,
    ahead_bytes: u64,
    /// Up to where the system was told what will be read.
    advised: u64,
    blocks: usize,
}

impl RunCursor {
    /// Before the first entry whose key is not below `target`.
    pub(crate) fn seek(run: Arc<Run>, reading: Reading, target: &[u8]) -> Result<RunCursor, Error> {
        let mut cursor = RunCursor {
            run,
            reading,
            next_group: 0,
            group: None,
            data: None,
            key: Vec::new(),
            head: 0,
            entry: None,
            ahead: Ahead::default(),
            ahead_bytes: match reading {
                Reading::Scan => AHEAD_BYTES_MIN,
                Reading::Bulk => AHEAD_BYTES_MAX,
            },
            advised: 0,
            blocks: 0,
        };
        cursor.next_group = cursor.run.find_group(&cursor.run.top()?, target)?;
        if !cursor.open_group()? {
            return Ok(cursor);
        }
        if let Some(group) = &mut cursor.group {
            let first =
                IndexBlock::parse(&group.index).and_then(|index| group.index.find_block(&index, target));
            group.next = first.ok_or_else(|| cursor.run.no_sense(group.place))?;
        }
        if cursor.open_data()?
            && let Some(data) = &mut cursor.data
        {
            let position = DataBlock::parse(&data.block).and_then(|block| block.position_before(target));
            data.position = position.ok_or_else(|| cursor.run.no_sense(data.place))?;
        }
        cursor.advance()?;
        while cursor.entry.is_some() && cursor.key.as_slice() < target {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    /// The internal key, while `entry` is something.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline]
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// The row of the entry; `None` for a deletion.
    #[inline]
    pub(crate) fn row(&self) -> Option<&[u8]> {
        let row = self.entry.as_ref()?.row.clone()?;
        self.data.as_ref()?.block.get(row)
    }

    /// Goes to the next entry.
    pub(crate) fn advance(&mut self) -> Result<(), Error> {
        loop {
            if let Some(data) = &mut self.data
                && data.position < data.end
            {
                let next =
                    DataBlock::parse(&data.block).and_then(|block| block.entry(data.position, &mut self.key));
                let (entry, position) = next.ok_or_else(|| self.run.no_sense(data.place))?;
                data.position = position;
                self.head = head(&self.key);
                self.entry = Some(entry);
                return Ok(());
            }
            if !self.open_data()? && !self.open_group()? {
                self.entry = None;
                return Ok(());
            }
        }
    }

    /// Opens the next group; false when there is none.
    fn open_group(&mut self) -> Result<bool, Error> {
        let top = self.run.top()?;
        if self.next_group == top.len() {
            self.group = None;
            return Ok(false);
        }
        let place = top.place(self.next_group);
        let place = place.ok_or_else(|| self.run.no_sense(self.run.top_place()))?;
        let index = match self.reading {
            Reading::Scan => self.run.block(place, BlockKind::Index)?,
            Reading::Bulk => self.run.read_block(place, BlockKind::Index)?,
        };
        let parsed = IndexBlock::parse(&index);
        let count = parsed.ok_or_else(|| self.run.no_sense(place))?.len();
        self.next_group += 1;
        self.group = Some(Group {
            index,
            place,
            next: 0,
            count,
        });
        Ok(true)
    }

    /// Opens the group's next data block; false when there is none.
    fn open_data(&mut self) -> Result<bool, Error> {
        self.data = None;
        self.key.clear();
        let Some(group) = &mut self.group else {
            return Ok(false);
        };
        if group.next >= group.count {
            return Ok(false);
        }
        let place = IndexBlock::parse(&group.index).and_then(|index| index.place(group.next));
        let place = place.ok_or_else(|| self.run.no_sense(group.place))?;
        group.next += 1;
        let group_end = group.place.offset;
        let block = self.read_data(place, group_end)?;
        let parsed = DataBlock::parse(&block);
        let end = parsed.ok_or_else(|| self.run.no_sense(place))?.end();
        self.data = Some(Data {
            block,
            place,
            position: 0,
            end,
        });
        Ok(true)
    }

    fn read_data(&mut self, place: BlockPlace, group_end: u64) -> Result<Block, Error> {
        if self.reading == Reading::Scan {
            if let Some(block) = self.run.cached(place) {
                return Ok(block);
            }
            self.blocks += 1;
            if self.blocks <= SINGLE_BLOCKS {
                return self.run.read_to_keep(place, BlockKind::Data);
            }
        }
        if self.ahead.slice(place).is_none() {
            let end = place.offset.saturating_add(self.ahead_bytes).min(group_end);
            let bytes = u32::try_from(end.saturating_sub(place.offset)).unwrap_or(place.bytes);
            let stretch = BlockPlace {
                offset: place.offset,
                bytes: bytes.max(place.bytes),
            };
            // The disk has the next ones ready while these are walked.
            let begin = self.advised.max(stretch.offset);
            self.advised = stretch.offset.saturating_add(2 * self.ahead_bytes);
            self.run.will_read(begin, self.advised.saturating_sub(begin));
            self.ahead = Ahead {
                offset: stretch.offset,
                bytes: self.run.read(stretch)?,
            };
            self.ahead_bytes = (2 * self.ahead_bytes).min(AHEAD_BYTES_MAX);
        }
        match self.ahead.slice(place) {
            Some(stored) => self.run.open_block(stored, place, BlockKind::Data),
            None => Err(self.run.no_sense(place)),
        }
    }
}

impl Ahead {
    fn slice(&self, place: BlockPlace) -> Option<&[u8]> {
        let begin = usize::try_from(place.offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(begin..begin.checked_add(place.bytes as usize)?)
    }
}

/// A place in a layer.
pub(crate) struct LayerCursor {
    layer: Arc<Layer>,
    reading: Reading,
    next: usize,
    cursor: Option<RunCursor>,
}

impl LayerCursor {
    /// At the first entry whose key is not below `target`.
    pub(crate) fn seek(layer: Arc<Layer>, reading: Reading, target: &[u8]) -> Result<LayerCursor, Error> {
        let next = layer.first_reaching(target);
        let mut cursor = LayerCursor {
            layer,
            reading,
            next,
            cursor: None,
        };
        cursor.open_next(target)?;
        Ok(cursor)
    }

    /// Opens runs until one has an entry.
    fn open_next(&mut self, target: &[u8]) -> Result<(), Error> {
        self.cursor = None;
        while let Some(run) = self.layer.runs().get(self.next) {
            self.next += 1;
            let cursor = RunCursor::seek(Arc::clone(run), self.reading, target)?;
            if cursor.entry().is_some() {
                self.cursor = Some(cursor);
                break;
            }
        }
        Ok(())
    }

    /// The error that something is wrong with the block that the cursor is in.
    pub(crate) fn damaged(&self, what: &'static str) -> Option<Error> {
        let cursor = self.cursor.as_ref()?;
        let data = cursor.data.as_ref()?;
        Some(cursor.run.damaged(data.place.offset, what))
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.cursor.is_none()
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.cursor.as_ref().map_or(&[], RunCursor::key)
    }

    /// The beginning of the key: see `head`.
    #[inline]
    pub(crate) fn head(&self) -> u128 {
        self.cursor.as_ref().map_or(0, |cursor| cursor.head)
    }

    #[inline]
    pub(crate) fn lsn(&self) -> Lsn {
        match self.place() {
            Some((lsn, _)) => lsn,
            None => self.entry().map_or(Lsn::ZERO, |entry| entry.lsn),
        }
    }

    /// Where the layer's stamp says that its versions stand.
    #[inline]
    fn place(&self) -> Option<(Lsn, Ordinal)> {
        self.layer.stamp()?.place(SpaceId::of(self.key()))
    }

    #[inline]
    pub(crate) fn ordinal(&self) -> Ordinal {
        let ordinal = self.entry().map_or(Ordinal::new(0), |entry| entry.ordinal);
        match self.place() {
            Some((_, first)) => first.plus(ordinal.get()),
            None => ordinal,
        }
    }

    #[inline]
    fn entry(&self) -> Option<&Entry> {
        self.cursor.as_ref()?.entry()
    }

    #[inline]
    pub(crate) fn row(&self) -> Option<&[u8]> {
        self.cursor.as_ref()?.row()
    }

    #[inline]
    pub(crate) fn advance(&mut self) -> Result<(), Error> {
        if let Some(cursor) = &mut self.cursor {
            cursor.advance()?;
            if cursor.entry().is_none() {
                self.open_next(&[])?;
            }
        }
        Ok(())
    }
}
