//! A frame: the unit that is written, acknowledged and read as one. Immutable and validated.
//!
//! Whoever holds a [`Frame`] holds bytes whose checksum was right: either this process made them, or they were read
//! from disk and checked. The records inside are still decoded with every bound checked.

use std::fmt;

use crate::error::Flaw;
use crate::format::{
    Chain, DatabaseId, FLAG_CATALOG, FLAG_FILLER, FLAG_WATERMARK, FRAME_HEADER_BYTES, FrameHeader, Geometry,
};
use crate::ids::Lsn;
use crate::record::{self, Record, RecordError};
use crate::sys::buffer::Block;

/// An immutable, validated frame.
pub struct Frame {
    block: Block,
    header: FrameHeader,
    raw_end: u64,
    end: Lsn,
}

impl Frame {
    /// `block` begins with the frame's bytes, sealed or checked.
    pub(crate) fn new(block: Block, header: FrameHeader, geometry: Geometry) -> Self {
        assert!(block.capacity() as u64 >= header.frame_bytes());
        let raw_end = if header.flags & FLAG_FILLER != 0 {
            geometry.end(header.lsn)
        } else {
            header.lsn + header.frame_bytes()
        };
        assert!(
            raw_end <= geometry.end(header.lsn),
            "a frame straddles no segments"
        );
        Self {
            block,
            raw_end,
            end: Lsn::new(geometry.frame_at(raw_end)),
            header,
        }
    }

    /// Where the frame stands.
    pub fn lsn(&self) -> Lsn {
        Lsn::new(self.header.lsn)
    }

    /// Where the next frame stands.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// The first byte behind the frame, which may be a segment header.
    pub(crate) fn raw_end(&self) -> u64 {
        self.raw_end
    }

    /// The epoch: it rises each time the log is opened.
    pub fn epoch(&self) -> u64 {
        self.header.epoch
    }

    /// Everything before this LSN was durable when the frame was written.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn::new(self.header.durable)
    }

    /// Whether a catalog record is inside.
    pub fn has_catalog(&self) -> bool {
        self.header.flags & FLAG_CATALOG != 0
    }

    /// Whether the frame only ends its segment.
    pub fn is_filler(&self) -> bool {
        self.header.flags & FLAG_FILLER != 0
    }

    /// Whether the frame only says what is durable.
    pub fn is_watermark(&self) -> bool {
        self.header.flags & FLAG_WATERMARK != 0
    }

    /// How many records are inside.
    pub fn record_count(&self) -> u32 {
        self.header.records
    }

    /// The chain value: a hash over this frame and all before it.
    pub fn chain(&self) -> [u8; 32] {
        self.header.chain
    }

    /// The chain value of the frame before.
    pub(crate) fn link(&self) -> Chain {
        self.header.link
    }

    pub(crate) fn database(&self) -> DatabaseId {
        self.header.database
    }

    /// Whether the chain value is the hash of the content.
    pub(crate) fn check_chain(&self) -> Result<(), Flaw> {
        self.header.check_chain(self.bytes())
    }

    /// The flags of the header.
    pub(crate) fn flags(&self) -> u32 {
        self.header.flags
    }

    /// Bytes of records.
    pub fn payload_bytes(&self) -> usize {
        self.header.payload_bytes as usize
    }

    /// The whole frame with its padding, as on disk.
    pub fn bytes(&self) -> &[u8] {
        // `frame_bytes` fits into the block, so it fits into usize.
        &self.block.bytes()[..self.header.frame_bytes() as usize]
    }

    /// The memory that the frame holds on to.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.block.capacity()
    }

    /// The records with their LSNs, in order. After an error nothing more comes.
    pub fn records(&self) -> RecordIter<'_> {
        let payload = &self.block.bytes()[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + self.payload_bytes()];
        RecordIter {
            rest: payload,
            lsn: self.lsn().plus(FRAME_HEADER_BYTES as u64),
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("lsn", &self.lsn())
            .field("end", &self.end)
            .field("epoch", &self.epoch())
            .field("records", &self.record_count())
            .finish_non_exhaustive()
    }
}

/// The records of one frame.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    lsn: Lsn,
}

impl RecordIter<'_> {
    /// Where the next record stands, or the last one ended.
    pub(crate) fn position(&self) -> Lsn {
        self.lsn
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<(Lsn, Record<'a>), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match record::decode(self.rest) {
            Ok((record, len)) => {
                let lsn = self.lsn;
                self.rest = &self.rest[len..];
                self.lsn = lsn.plus(len as u64);
                Some(Ok((lsn, record)))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}
