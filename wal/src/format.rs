//! The bytes on disk: segment headers and frame headers. The only description of both.
//!
//! All numbers are little-endian. A log is a line of bytes cut into segments of one size; an LSN is an offset on
//! that line. Each segment is a file named by its first LSN, sixteen hexadecimal digits and `.wal`; `.spare` instead while
//! the file waits to become another segment.
//!
//! ```text
//! segment header, one write unit (4096 bytes), at the beginning of the file; the rest of the unit is zero
//!     0  u32      magic, "SCRS"
//!     4  u32      CRC-32 of bytes 8..4096
//!     8  u32      format version
//!    12  u32      node id
//!    16  [u8;16]  database id
//!    32  u64      epoch in which the segment was entered
//!    40  u64      base: the LSN of this header
//!    48  u64      bytes per segment
//!    56  [u8;32]  chain value after the last frame before this segment
//!    88  u32      flags: 1 the file was another segment before, whose remains stand behind the log's end
//!
//! mark of a recycled file, one write unit in place of the header until the segment is entered; the rest is zero
//!     0  u32      magic, "SCRR"
//!     4  u32      CRC-32 of bytes 8..4096
//!     8  u32      format version
//!
//! frame, aligned to the write unit, within one segment
//!     0  u32      magic, "SCRF"
//!     4  u32      CRC-32 of bytes 8..128 + payload
//!     8  u64      LSN of this frame
//!    16  u64      epoch
//!    24  u32      bytes of payload
//!    28  u32      number of records in the payload
//!    32  u32      flags: 1 holds a catalog record, 2 filler, 4 watermark
//!    36  u32      zero
//!    40  u64      durable_lsn: what was known to be durable when the frame was written
//!    48  [u8;16]  database id
//!    64  [u8;32]  link: the chain value of the frame before
//!    96  [u8;32]  chain: BLAKE3 of bytes 8..96 + payload
//!   128  payload, then zeros up to the next write unit
//! ```
//!
//! A *filler* frame ends a segment early: it has no payload, and the next frame stands at the beginning of the next
//! segment, behind its header. A *watermark* frame has no payload either; its `durable_lsn` is its own LSN: all that
//! stands before it is durable. A segment that was prepared but not entered has nothing but zeros, or the mark of a recycled
//! file and behind it whatever was there. Those remains cannot be taken for anything new: a frame says where it stands,
//! and it stands elsewhere now.

use crate::error::Flaw;
use crate::ids::NodeId;

/// The smallest piece that is ever written. Frames begin at multiples of it, so no acknowledged byte is rewritten.
pub(crate) const WRITE_UNIT: usize = 4096;
pub(crate) const UNIT: u64 = WRITE_UNIT as u64;

/// The version of the bytes described here.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 128;

/// No frame is longer than this, header included.
pub const MAX_FRAME_BYTES: usize = 32 << 20;

const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"SCRS");
const RECYCLED_MAGIC: u32 = u32::from_le_bytes(*b"SCRR");
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"SCRF");

const FRAME_CHAINED: std::ops::Range<usize> = 8..96;
const CHAIN_AT: usize = 96;

const _: () = assert!(CHAIN_AT + 32 == FRAME_HEADER_BYTES);
const _: () = assert!(FRAME_CHAINED.end == CHAIN_AT);
const _: () = assert!(WRITE_UNIT.is_multiple_of(512) && WRITE_UNIT.is_power_of_two());
const _: () = assert!(MAX_FRAME_BYTES.is_multiple_of(WRITE_UNIT));
const _: () = assert!(crate::record::MAX_RECORD_BYTES + FRAME_HEADER_BYTES <= MAX_FRAME_BYTES);

/// The segment's file was another one before.
const FLAG_RECYCLED: u32 = 1;

/// A random number that tells one database's log from all others.
pub(crate) type DatabaseId = [u8; 16];

/// A value of the hash chain that runs through all frames.
pub(crate) type Chain = [u8; 32];

/// The frame holds a catalog record.
pub(crate) const FLAG_CATALOG: u32 = 1;
/// The frame ends its segment early.
pub(crate) const FLAG_FILLER: u32 = 2;
/// The frame records what is durable.
pub(crate) const FLAG_WATERMARK: u32 = 4;

/// The next multiple of the write unit.
pub(crate) const fn align_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(UNIT)
}

/// How the line of bytes is cut into segments. Copyable arithmetic, no I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    segment_bytes: u64,
}

impl Geometry {
    /// A header, a frame of one unit, and something to spare.
    pub(crate) const SEGMENT_BYTES_MIN: u64 = 4 * UNIT;
    /// Bounds the arithmetic, and what one preparation writes.
    pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 32;

    pub(crate) const fn new(segment_bytes: u64) -> Option<Self> {
        if segment_bytes < Self::SEGMENT_BYTES_MIN
            || segment_bytes > Self::SEGMENT_BYTES_MAX
            || !segment_bytes.is_multiple_of(UNIT)
        {
            return None;
        }
        Some(Self { segment_bytes })
    }

    pub(crate) const fn segment_bytes(self) -> u64 {
        self.segment_bytes
    }

    /// The first LSN of the segment that `lsn` stands in.
    pub(crate) const fn base(self, lsn: u64) -> u64 {
        lsn - lsn % self.segment_bytes
    }

    /// The first LSN behind the segment that `lsn` stands in.
    pub(crate) const fn end(self, lsn: u64) -> u64 {
        self.base(lsn) + self.segment_bytes
    }

    /// Where the frame stands that follows what ends at `raw_end`: behind the header, if a segment begins there.
    pub(crate) const fn frame_at(self, raw_end: u64) -> u64 {
        if raw_end.is_multiple_of(self.segment_bytes) {
            raw_end + UNIT
        } else {
            raw_end
        }
    }

    /// The most payload that fits into one frame.
    pub(crate) const fn payload_max(self) -> usize {
        let room = self.segment_bytes - UNIT;
        let frame = if room < MAX_FRAME_BYTES as u64 {
            room as usize
        } else {
            MAX_FRAME_BYTES
        };
        frame - FRAME_HEADER_BYTES
    }
}

/// What the name of a segment that waits to become another ends with.
const SPARE: &str = ".spare";

/// The name under which the segment at `base` waits to become another.
pub(crate) fn spare_name(base: u64) -> String {
    format!("{base:016x}{SPARE}")
}

/// Whether this is the name of a segment that waits to become another.
pub(crate) fn is_spare_name(name: &str) -> bool {
    name.ends_with(SPARE)
}

/// The name of the segment file that begins at `base`.
pub(crate) fn segment_name(base: u64) -> String {
    format!("{base:016x}.wal")
}

/// The base of the segment with this name; `None` when it is not exactly a segment's name.
pub(crate) fn segment_base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let base = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(base) == name).then_some(base)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..].first_chunk().copied().unwrap_or([0; N])
}

/// What stands at the beginning of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) node: NodeId,
    pub(crate) database: DatabaseId,
    pub(crate) epoch: u64,
    pub(crate) base: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) chain: Chain,
    /// Whether the file was another segment before.
    pub(crate) recycled: bool,
}

/// The mark of a recycled file: fills one write unit, which is all zeros behind its first sector, so it is there or not.
pub(crate) fn mark_recycled(unit: &mut [u8]) {
    assert_eq!(unit.len(), WRITE_UNIT);
    unit.fill(0);
    unit[0..4].copy_from_slice(&RECYCLED_MAGIC.to_le_bytes());
    unit[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let crc = crc32fast::hash(&unit[8..]);
    unit[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Why a write unit is not a segment header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFlaw {
    Newer(u32),
    Bad(Flaw),
}

impl SegmentHeader {
    /// Fills one write unit.
    pub(crate) fn encode(&self, unit: &mut [u8]) {
        assert_eq!(unit.len(), WRITE_UNIT);
        unit.fill(0);
        unit[0..4].copy_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        unit[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        unit[12..16].copy_from_slice(&self.node.get().to_le_bytes());
        unit[16..32].copy_from_slice(&self.database);
        unit[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        unit[40..48].copy_from_slice(&self.base.to_le_bytes());
        unit[48..56].copy_from_slice(&self.segment_bytes.to_le_bytes());
        unit[56..88].copy_from_slice(&self.chain);
        let flags = if self.recycled { FLAG_RECYCLED } else { 0 };
        unit[88..92].copy_from_slice(&flags.to_le_bytes());
        let crc = crc32fast::hash(&unit[8..]);
        unit[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads one write unit. The version comes before the checksum, because a newer format may check differently.
    pub(crate) fn decode(unit: &[u8]) -> Result<Self, HeaderFlaw> {
        assert_eq!(unit.len(), WRITE_UNIT);
        let magic = u32_at(unit, 0);
        if magic != SEGMENT_MAGIC && magic != RECYCLED_MAGIC {
            let flaw = if unit.iter().all(|&byte| byte == 0) {
                Flaw::Zeros
            } else {
                Flaw::Magic(magic)
            };
            return Err(HeaderFlaw::Bad(flaw));
        }
        let (found, computed) = (u32_at(unit, 4), crc32fast::hash(&unit[8..]));
        let version = u32_at(unit, 8);
        if version > FORMAT_VERSION {
            return Err(HeaderFlaw::Newer(version));
        }
        if found != computed {
            return Err(HeaderFlaw::Bad(Flaw::Checksum { found, computed }));
        }
        if magic == RECYCLED_MAGIC {
            return Err(HeaderFlaw::Bad(Flaw::Recycled));
        }
        Ok(Self {
            node: NodeId::new(u32_at(unit, 12)),
            database: array_at(unit, 16),
            epoch: u64_at(unit, 32),
            base: u64_at(unit, 40),
            segment_bytes: u64_at(unit, 48),
            chain: array_at(unit, 56),
            recycled: u32_at(unit, 88) & FLAG_RECYCLED != 0,
        })
    }
}

/// What stands before a frame's payload, less the checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) lsn: u64,
    pub(crate) epoch: u64,
    pub(crate) payload_bytes: u32,
    pub(crate) records: u32,
    pub(crate) flags: u32,
    pub(crate) durable: u64,
    pub(crate) database: DatabaseId,
    pub(crate) link: Chain,
    pub(crate) chain: Chain,
}

impl FrameHeader {
    /// Bytes from the frame's beginning to the end of its padding.
    pub(crate) fn frame_bytes(&self) -> u64 {
        align_up(FRAME_HEADER_BYTES as u64 + u64::from(self.payload_bytes))
    }

    /// Finishes a frame in place: `frame` has the header's room and the payload; the padding is zeroed, the chain
    /// value and checksum are computed. Returns the chain value.
    pub(crate) fn seal(&mut self, frame: &mut [u8]) {
        let end = FRAME_HEADER_BYTES + self.payload_bytes as usize;
        assert_eq!(frame.len() as u64, self.frame_bytes());
        frame[end..].fill(0);
        frame[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        frame[8..16].copy_from_slice(&self.lsn.to_le_bytes());
        frame[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        frame[24..28].copy_from_slice(&self.payload_bytes.to_le_bytes());
        frame[28..32].copy_from_slice(&self.records.to_le_bytes());
        frame[32..36].copy_from_slice(&self.flags.to_le_bytes());
        frame[36..40].fill(0);
        frame[40..48].copy_from_slice(&self.durable.to_le_bytes());
        frame[48..64].copy_from_slice(&self.database);
        frame[64..96].copy_from_slice(&self.link);
        self.chain = chain_of(&frame[..end]);
        frame[CHAIN_AT..FRAME_HEADER_BYTES].copy_from_slice(&self.chain);
        let crc = crc32fast::hash(&frame[8..end]);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Whether a frame may begin here.
    pub(crate) fn begins(bytes: &[u8]) -> bool {
        u32_at(bytes, 0) == FRAME_MAGIC
    }

    /// Reads the header from the first write unit of a frame and checks what can be checked without the payload: a sane
    /// header for this place.
    ///
    /// `room` is the bytes from here to the end of the segment.
    pub(crate) fn decode(bytes: &[u8], lsn: u64, room: u64) -> Result<Self, Flaw> {
        assert_eq!(bytes.len(), WRITE_UNIT);
        if !Self::begins(bytes) {
            let magic = u32_at(bytes, 0);
            let zeros = bytes.iter().all(|&byte| byte == 0);
            return Err(if zeros { Flaw::Zeros } else { Flaw::Magic(magic) });
        }
        let header = Self {
            lsn: u64_at(bytes, 8),
            epoch: u64_at(bytes, 16),
            payload_bytes: u32_at(bytes, 24),
            records: u32_at(bytes, 28),
            flags: u32_at(bytes, 32),
            durable: u64_at(bytes, 40),
            database: array_at(bytes, 48),
            link: array_at(bytes, 64),
            chain: array_at(bytes, CHAIN_AT),
        };
        let length = header.frame_bytes();
        if length > room || length > MAX_FRAME_BYTES as u64 {
            return Err(Flaw::Length(length));
        }
        if header.lsn != lsn {
            return Err(Flaw::Misplaced(crate::ids::Lsn::new(header.lsn)));
        }
        Ok(header)
    }

    /// Checks the whole frame (`frame` is exactly [`Self::frame_bytes`] long): checksum before meaning.
    pub(crate) fn check(&self, frame: &[u8]) -> Result<(), Flaw> {
        let end = FRAME_HEADER_BYTES + self.payload_bytes as usize;
        assert_eq!(frame.len() as u64, self.frame_bytes());
        let (found, computed) = (u32_at(frame, 4), crc32fast::hash(&frame[8..end]));
        if found != computed {
            return Err(Flaw::Checksum { found, computed });
        }
        if frame[end..].iter().any(|&byte| byte != 0) {
            return Err(Flaw::Padding);
        }
        let empty = self.flags & (FLAG_FILLER | FLAG_WATERMARK) != 0;
        if self.flags & !(FLAG_CATALOG | FLAG_FILLER | FLAG_WATERMARK) != 0
            || (empty && (self.payload_bytes != 0 || self.records != 0))
            || u32_at(frame, 36) != 0
        {
            return Err(Flaw::Flags(self.flags));
        }
        if self.durable > self.lsn {
            return Err(Flaw::Watermark(crate::ids::Lsn::new(self.durable)));
        }
        Ok(())
    }

    /// Checks the hash chain through this frame.
    pub(crate) fn check_chain(&self, frame: &[u8]) -> Result<(), Flaw> {
        let end = FRAME_HEADER_BYTES + self.payload_bytes as usize;
        if chain_of(&frame[..end]) == self.chain {
            Ok(())
        } else {
            Err(Flaw::ChainHash)
        }
    }
}

/// The chain value of a frame; the link to the one before is part of the header that is hashed.
fn chain_of(frame: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&frame[FRAME_CHAINED]);
    hasher.update(&frame[FRAME_HEADER_BYTES..]);
    *hasher.finalize().as_bytes()
}

/// Where the chain of a database begins.
pub(crate) fn genesis(database: &DatabaseId) -> Chain {
    *blake3::hash(database).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            node: NodeId::new(3),
            database: [7; 16],
            epoch: 5,
            base: 1 << 20,
            segment_bytes: 1 << 20,
            chain: [9; 32],
            recycled: true,
        }
    }

    #[test]
    fn a_segment_header_reads_back_and_every_flipped_bit_is_seen() {
        let mut unit = vec![0; WRITE_UNIT];
        header().encode(&mut unit);
        assert_eq!(SegmentHeader::decode(&unit), Ok(header()));
        for at in 0..WRITE_UNIT {
            unit[at] ^= 0x10;
            assert!(SegmentHeader::decode(&unit).is_err(), "byte {at}");
            unit[at] ^= 0x10;
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut unit = vec![0; WRITE_UNIT];
        header().encode(&mut unit);
        unit[8] = 3;
        assert_eq!(SegmentHeader::decode(&unit), Err(HeaderFlaw::Newer(3)));
    }

    #[test]
    fn the_mark_of_a_recycled_file_is_no_header_and_every_flipped_bit_is_seen() {
        let mut unit = vec![0; WRITE_UNIT];
        mark_recycled(&mut unit);
        let marked = Err(HeaderFlaw::Bad(Flaw::Recycled));
        assert_eq!(SegmentHeader::decode(&unit), marked);
        for at in 0..WRITE_UNIT {
            unit[at] ^= 0x10;
            assert_ne!(SegmentHeader::decode(&unit), marked, "byte {at}");
            unit[at] ^= 0x10;
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_seen() {
        let mut frame = vec![0xAA; WRITE_UNIT];
        let mut sealed = FrameHeader {
            lsn: 8192,
            epoch: 1,
            payload_bytes: 100,
            records: 2,
            flags: FLAG_CATALOG,
            durable: 4096,
            database: [1; 16],
            link: [2; 32],
            chain: [0; 32],
        };
        sealed.seal(&mut frame);
        let check = |frame: &[u8]| {
            let header = FrameHeader::decode(frame, 8192, 1 << 20)?;
            if header.frame_bytes() != frame.len() as u64 {
                return Err(Flaw::Length(header.frame_bytes()));
            }
            header.check(frame).map(|()| header)
        };
        assert_eq!(check(&frame), Ok(sealed.clone()));
        assert_eq!(sealed.check_chain(&frame), Ok(()));
        for at in 0..WRITE_UNIT {
            frame[at] ^= 0x01;
            assert!(check(&frame).is_err(), "byte {at}");
            frame[at] ^= 0x01;
        }
    }

    #[test]
    fn names_of_segments_have_one_form() {
        assert_eq!(segment_name(0x4000000), "0000000004000000.wal");
        assert_eq!(segment_base("0000000004000000.wal"), Some(0x4000000));
        for name in [
            "4000000.wal",
            "000000000400000A.wal",
            "0000000004000000.wal.tmp",
            "+000000004000000.wal",
        ] {
            assert_eq!(segment_base(name), None, "{name}");
        }
    }

    #[test]
    fn frames_never_stand_on_a_segment_header() {
        let geometry = Geometry::new(16384).unwrap();
        assert_eq!(geometry.frame_at(0), 4096);
        assert_eq!(geometry.frame_at(16384), 20480);
        assert_eq!(geometry.frame_at(8192), 8192);
        assert_eq!(geometry.end(16384), 32768);
        assert_eq!(geometry.payload_max(), 12288 - 128);
        assert_eq!(Geometry::new(16384 + 1), None);
        assert_eq!(Geometry::new(8192), None);
    }
}
