//! Reading the log from its files: frame by frame, everything checked, nothing changed.
//!
//! [`Reader`] reads single frames, [`Walk`] follows the chain from a segment's beginning and stops at the first byte that is
//! not what should be there. What the stop means is for others
//! to say: for [`crate::recover`] a torn tail or damage, for [`crate::verify`] a problem or the end.

use std::sync::Arc;

use crate::error::{Error, Flaw};
use crate::format::{
    Chain, DatabaseId, FrameHeader, Geometry, HeaderFlaw, SegmentHeader, UNIT, WRITE_UNIT, segment_name,
};
use crate::frame::Frame;
use crate::ids::Lsn;
use crate::segments::{io_error, newer, place};
use crate::storage::{Access, SegmentFile, Storage};
use crate::sys::buffer::{Block, Pool};

/// Bytes read at once from one end to the other: large enough that the disk runs at its full speed.
const SEQUENTIAL_CHUNK_BYTES: usize = 4 << 20;
/// Bytes read at once behind a writer.
const LIVE_CHUNK_BYTES: usize = 1 << 20;

/// Reads single frames and headers.
pub(crate) struct Reader {
    storage: Arc<dyn Storage>,
    geometry: Geometry,
    access: Access,
    pool: Arc<Pool>,
    file: Option<(u64, Arc<dyn SegmentFile>)>,
    chunk: Block,
    /// The LSN of the chunk's first byte, and how many of its bytes were read.
    chunk_at: u64,
    chunk_bytes: usize,
    /// Nothing at or behind this position is read.
    limit: u64,
}

impl Reader {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        geometry: Geometry,
        pool: Arc<Pool>,
        access: Access,
        limit: u64,
    ) -> Self {
        let chunk_bytes = match access {
            Access::Sequential => SEQUENTIAL_CHUNK_BYTES,
            Access::Live | Access::Write => LIVE_CHUNK_BYTES,
        };
        let chunk = pool.block(chunk_bytes.min(geometry.segment_bytes() as usize));
        Self {
            storage,
            geometry,
            access,
            pool,
            file: None,
            chunk,
            chunk_at: 0,
            chunk_bytes: 0,
            limit,
        }
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What lies before `limit` may be read from now on.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Forgets what was read ahead, and the file: what has its name now may be another one.
    pub(crate) fn forget(&mut self) {
        self.chunk_bytes = 0;
        self.file = None;
    }

    /// Makes `[lsn, lsn + len)` part of the chunk. All within one segment and before the limit.
    fn load(&mut self, lsn: u64, len: usize) -> Result<&[u8], Error> {
        assert!(lsn.is_multiple_of(UNIT) && lsn + len as u64 <= self.limit);
        let loaded = lsn >= self.chunk_at && lsn + len as u64 <= self.chunk_at + self.chunk_bytes as u64;
        if !loaded {
            self.refill(lsn, len)?;
        }
        let at = (lsn - self.chunk_at) as usize;
        Ok(&self.chunk.bytes()[at..at + len])
    }

    fn refill(&mut self, lsn: u64, len: usize) -> Result<(), Error> {
        let base = self.geometry.base(lsn);
        let name = segment_name(base);
        let file = match &self.file {
            Some((open, file)) if *open == base => Arc::clone(file),
            _ => {
                let opened = self.storage.open(&name, self.access);
                let file = opened.map_err(|source| io_error(self.storage(), &name, "open", source))?;
                self.file = Some((base, Arc::clone(&file)));
                file
            }
        };
        self.chunk_bytes = 0;
        self.chunk.grow(len, 0);
        let available = self.geometry.end(lsn).min(self.limit.next_multiple_of(UNIT)) - lsn;
        let want =
            usize::try_from(available).map_or(self.chunk.capacity(), |all| all.min(self.chunk.capacity()));
        let count = file
            .read_at(lsn - base, &mut self.chunk.bytes_mut()[..want])
            .map_err(|source| io_error(self.storage(), &name, "read", source))?;
        if count < len {
            let found = lsn - base + count as u64;
            return Err(Error::Damaged {
                place: place(self.storage(), self.geometry, lsn),
                flaw: Flaw::FileSize {
                    found,
                    expected: self.geometry.segment_bytes(),
                },
                witness: None,
            });
        }
        self.chunk_at = lsn;
        self.chunk_bytes = count;
        if self.access == Access::Sequential {
            file.will_read(lsn - base + count as u64, SEQUENTIAL_CHUNK_BYTES as u64);
        }
        Ok(())
    }

    /// The header of the segment at `base`. Refuses a newer format.
    pub(crate) fn segment_header(&mut self, base: u64) -> Result<Result<SegmentHeader, Flaw>, Error> {
        match SegmentHeader::decode(self.load(base, WRITE_UNIT)?) {
            Ok(header) if header.base != base => Ok(Err(Flaw::Misplaced(Lsn::new(header.base)))),
            Ok(header) => Ok(Ok(header)),
            Err(HeaderFlaw::Newer(found)) => Err(newer(self.storage(), &segment_name(base), found)),
            Err(HeaderFlaw::Bad(flaw)) => Ok(Err(flaw)),
        }
    }

    /// Whether a frame may begin at `lsn`: quickly, for those who look for one.
    pub(crate) fn may_begin(&mut self, lsn: u64) -> Result<bool, Error> {
        Ok(FrameHeader::begins(self.load(lsn, WRITE_UNIT)?))
    }

    /// The frame at `lsn`: right magic, length, place and checksum, nothing more.
    pub(crate) fn frame(&mut self, lsn: u64) -> Result<Result<Frame, Flaw>, Error> {
        let geometry = self.geometry;
        let room = geometry.end(lsn).min(self.limit) - lsn;
        let header = match FrameHeader::decode(self.load(lsn, WRITE_UNIT)?, lsn, room) {
            Ok(header) => header,
            Err(flaw) => return Ok(Err(flaw)),
        };
        let bytes = header.frame_bytes() as usize;
        let mut block = self.pool.block(bytes);
        let loaded = self.load(lsn, bytes)?;
        if let Err(flaw) = header.check(loaded) {
            return Ok(Err(flaw));
        }
        block.bytes_mut()[..bytes].copy_from_slice(loaded);
        Ok(Ok(Frame::new(block, header, geometry)))
    }
}

/// What a walk meets.
pub(crate) enum Step {
    /// The next frame.
    Frame(Frame),
    /// The header of the next segment was right.
    Entered,
    /// What stands here is not the continuation of what stands before it.
    Stop(Stop),
    /// There is no further segment.
    End,
}

/// Where and why a walk stopped.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) at: u64,
    pub(crate) flaw: Flaw,
    /// The bytes are whole but wrong: no crash leaves such a thing behind.
    pub(crate) forged: bool,
}

/// Follows the log from the beginning of a segment.
pub(crate) struct Walk {
    pub(crate) reader: Reader,
    database: DatabaseId,
    position: u64,
    chain: Chain,
    epoch: u64,
    /// Whether to compute the hash chain or only to compare its links.
    hash: bool,
    /// Whether the file of the segment at the position was another one before.
    recycled: bool,
}

impl Walk {
    /// From the segment at `base`, whose header is believed. `None` when the log has not come that far. `hash` says
    /// whether to compute the hash chain or only to compare its links.
    pub(crate) fn from_segment(
        mut reader: Reader,
        database: DatabaseId,
        base: u64,
        hash: bool,
    ) -> Result<Option<Self>, Error> {
        match reader.segment_header(base)? {
            Ok(header) => {
                let (chain, epoch) = (header.chain, header.epoch);
                Ok(Some(Self {
                    reader,
                    database,
                    position: base,
                    chain,
                    epoch,
                    hash,
                    recycled: false,
                }))
            }
            Err(Flaw::Zeros | Flaw::Recycled) => Ok(None),
            Err(flaw) => {
                let place = place(reader.storage(), reader.geometry(), base);
                Err(Error::Damaged {
                    place,
                    flaw,
                    witness: None,
                })
            }
        }
    }

    /// The end of what was found good.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The chain value there.
    pub(crate) fn chain(&self) -> Chain {
        self.chain
    }

    /// The epoch there.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the stop that follows is a tail that was written and not acknowledged, with so many `frames_behind` it, or
    /// just the end: nothing was written there, or by another segment of which this file was.
    pub(crate) fn is_torn(&self, stop: &Stop, frames_behind: u64) -> bool {
        let remains = matches!(stop.flaw, Flaw::Magic(_) | Flaw::Length(_) | Flaw::Misplaced(_));
        frames_behind > 0
            || !(matches!(stop.flaw, Flaw::Zeros | Flaw::Recycled) || (self.recycled && remains))
    }

    /// Takes one step. After a stop or the end the walk stays where it is.
    pub(crate) fn step(&mut self) -> Result<Step, Error> {
        if self.position >= self.reader.limit() {
            return Ok(Step::End);
        }
        if self.position == self.reader.geometry().base(self.position) {
            self.enter()
        } else {
            self.frame()
        }
    }

    fn stop(&self, flaw: Flaw, forged: bool) -> Step {
        Step::Stop(Stop {
            at: self.position,
            flaw,
            forged,
        })
    }

    fn enter(&mut self) -> Result<Step, Error> {
        let header = match self.reader.segment_header(self.position)? {
            Ok(header) => header,
            // A whole header of another place: files were swapped or copied.
            Err(flaw @ Flaw::Misplaced(_)) => return Ok(self.stop(flaw, true)),
            Err(flaw) => return Ok(self.stop(flaw, false)),
        };
        if header.database != self.database {
            return Ok(self.stop(Flaw::Foreign, true));
        }
        if header.epoch < self.epoch {
            return Ok(self.stop(
                Flaw::OldEpoch {
                    found: header.epoch,
                    current: self.epoch,
                },
                false,
            ));
        }
        if header.segment_bytes != self.reader.geometry().segment_bytes() {
            return Ok(self.stop(Flaw::Length(header.segment_bytes), true));
        }
        if header.chain != self.chain {
            return Ok(self.stop(Flaw::ChainLink, true));
        }
        self.epoch = header.epoch;
        self.recycled = header.recycled;
        self.position += UNIT;
        Ok(Step::Entered)
    }

    fn frame(&mut self) -> Result<Step, Error> {
        let frame = match self.reader.frame(self.position)? {
            Ok(frame) => frame,
            // Those are looked for behind a checksum that was right.
            Err(flaw @ (Flaw::Flags(_) | Flaw::Watermark(_))) => return Ok(self.stop(flaw, true)),
            Err(flaw) => return Ok(self.stop(flaw, false)),
        };
        if frame.database() != self.database {
            return Ok(self.stop(Flaw::Foreign, true));
        }
        if frame.epoch() < self.epoch {
            return Ok(self.stop(
                Flaw::OldEpoch {
                    found: frame.epoch(),
                    current: self.epoch,
                },
                false,
            ));
        }
        if frame.link() != self.chain {
            return Ok(self.stop(Flaw::ChainLink, true));
        }
        if self.hash
            && let Err(flaw) = frame.check_chain()
        {
            return Ok(self.stop(flaw, true));
        }
        self.epoch = frame.epoch();
        self.chain = frame.chain();
        self.position = frame.raw_end();
        Ok(Step::Frame(frame))
    }
}
