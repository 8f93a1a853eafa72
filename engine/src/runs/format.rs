//! What runs are as bytes: the one description of their files. Numbers are little-endian; a varint has 7 bits to a
//! byte, lowest first, and the high bit set on all bytes but its last.
//!
//! An *internal key* is the space, 4 bytes big-endian, and then the key: the order of its bytes is the order of a run.
//!
//! # A run, `00000000000000001f.run`
//!
//! The name is the run's number in hexadecimal. No run has the number of another, ever.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `scryrun` and the version, 1 |
//! | … | groups, each: its data blocks, then its index block |
//! | … | the top index block |
//! | … | the meta block |
//! | 40 | the footer |
//!
//! Nothing lies between them. A *block* on disk is
//!
//! | bytes | content |
//! |---|---|
//! | n | the content, or its length as u32 and then the content as one LZ4 block |
//! | 1 | what it is: 0 data, 1 index, 2 top index, 3 meta; and 16 when it is compressed |
//! | 4 | CRC-32 of the above, the run's number (u64) and the block's offset in the file (u64) |
//!
//! so that a block that stands in a wrong place is as damaged as one with a wrong byte.
//!
//! **A data block** holds entries by internal key, rising, and versions of one key by LSN, falling:
//!
//! | varint | bytes that the internal key shares with that of the entry before |
//! |---|---|
//! | varint | bytes of its rest |
//! | varint | twice the bytes of all that follows it, and 1 when there is a row |
//! | bytes | the rest of the internal key |
//! | varint | LSN |
//! | varint | ordinal |
//! | bytes | the row |
//!
//! so that a search passes by an entry without a look at its version,
//! then the offset (u32) of each *restart*, an entry that shares nothing, and their number (u32). The first entry is one.
//!
//! **An index block** holds the length (u32) of a filter, the filter (`filter`), and of each of the group's data blocks,
//! in order, an entry:
//!
//! | varint, bytes | a separator: not below the block's keys, below all of the next block unless its last key goes on there |
//! |---|---|
//! | varint | offset of the block |
//! | varint | its bytes on disk |
//!
//! then the offset (u32) of each entry in the block, and their number (u32). All versions of one key are in one group.
//! The top index block is the same over the index blocks, with an empty filter; the separators there are the last ones
//! of each group.
//!
//! **The meta block** holds varints: entries, keys, deletions, entries that are not the newest of their key, the highest
//! LSN at which one of these was superseded, the lowest and the highest LSN, bytes of keys and rows; then the first and
//! the last internal key, each with its length before it; then the number of spaces, and of each, rising, the space, its
//! entries, and its bytes.
//!
//! **The footer:** offset (u64) and bytes (u32) of the top index block, the same of the meta block, the run's number
//! (u64), CRC-32 of these 32 bytes, `runs`.
//!
//! # The manifest, `MANIFEST`
//!
//! Read and written in `manifest`:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `scryset` and the version, 1 |
//! | 8 | the next number of a run |
//! | 4, … | number of level 0's layers, and the layers, newest first |
//! | 4, … | number of levels below, and of each its layer |
//! | 1, 8, … | whether there are a checkpoint's bytes; their number; they |
//! | 4 | CRC-32 of all the above |
//!
//! A layer is the number of its runs (u32) and of each, by key, its number (u64), the length of its file (u64) and the
//! CRC-32 in its footer.

use crate::error::Error;
use std::path::Path;

/// The version of runs and of manifests that is written, and the newest that is read.
pub(crate) const VERSION: u8 = 1;
pub(crate) const RUN_MAGIC: &[u8; 7] = b"scryrun";
pub(crate) const MANIFEST_MAGIC: &[u8; 7] = b"scryset";
pub(crate) const HEADER_BYTES: usize = 8;
pub(crate) const FOOTER_BYTES: usize = 40;
const FOOTER_MAGIC: &[u8; 4] = b"runs";

/// Behind the content of a block: what it is, and the checksum.
pub(crate) const TRAILER_BYTES: usize = 5;

/// No block is longer, on disk or in memory: room for the longest row and key, and what lies around them.
pub(crate) const BLOCK_BYTES_MAX: usize = 64 << 20;

/// A space in front of each key.
pub(crate) const SPACE_BYTES: usize = 4;

const COMPRESSED: u8 = 16;

const _: () = assert!(BLOCK_BYTES_MAX > 2 * crate::limits::ROW_BYTES_MAX);

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Data = 0,
    Index = 1,
    TopIndex = 2,
    Meta = 3,
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Lz4,
}

/// Where a block lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    pub(crate) offset: u64,
    /// With its trailer.
    pub(crate) bytes: u32,
}

/// Where a run's last blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) top: BlockPlace,
    pub(crate) meta: BlockPlace,
    pub(crate) number: u64,
}

/// The header of a file.
pub(crate) fn header(magic: &[u8; 7]) -> [u8; HEADER_BYTES] {
    let mut header = [VERSION; HEADER_BYTES];
    header[..7].copy_from_slice(magic);
    header
}

/// Checks the first bytes of a file.
pub(crate) fn check_header(bytes: &[u8], magic: &[u8; 7], path: &Path) -> Result<(), Error> {
    if bytes.len() < HEADER_BYTES || bytes[..7] != magic[..] {
        return Err(damaged(path, 0, "the first bytes are not those of such a file"));
    }
    match bytes[7] {
        VERSION => Ok(()),
        0 => Err(damaged(path, 7, "version 0")),
        found => Err(Error::NewerFormat {
            path: path.to_owned(),
            found: u32::from(found),
            supported: u32::from(VERSION),
        }),
    }
}

pub(crate) fn damaged(path: &Path, offset: u64, what: &'static str) -> Error {
    Error::DamagedFile {
        path: path.to_owned(),
        offset,
        what,
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint at `at` and moves behind it.
#[inline(always)]
pub(crate) fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let second = *bytes.get(*at)?;
    let value = u64::from(first & 0x7f) | u64::from(second & 0x7f) << 7;
    *at += 1;
    if second < 0x80 {
        return Some(value);
    }
    take_rest(bytes, at, value)
}

/// The third byte of a varint and those after it.
fn take_rest(bytes: &[u8], at: &mut usize, mut value: u64) -> Option<u64> {
    let mut shift = 14;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let part = u64::from(byte & 0x7f);
        if shift > 63 || (shift == 63 && part > 1) {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

/// Reads a varint that is a length, and moves behind it.
#[inline(always)]
pub(crate) fn take_length(bytes: &[u8], at: &mut usize) -> Option<usize> {
    usize::try_from(take_varint(bytes, at)?).ok()
}

/// Takes so many bytes at `at` and moves behind them.
#[inline]
pub(crate) fn take_bytes<'b>(bytes: &'b [u8], at: &mut usize, count: usize) -> Option<&'b [u8]> {
    let end = at.checked_add(count)?;
    let taken = bytes.get(*at..end)?;
    *at = end;
    Some(taken)
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let taken = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(taken.try_into().ok()?))
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let taken = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(taken.try_into().ok()?))
}

pub(crate) fn block_checksum(stored: &[u8], number: u64, offset: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(stored);
    let mut place = [0; 16];
    place[..8].copy_from_slice(&number.to_le_bytes());
    place[8..].copy_from_slice(&offset.to_le_bytes());
    hasher.update(&place);
    hasher.finalize()
}

/// Appends a block to `out`, as it stands on disk at `offset` of the run `number`.
pub(crate) fn put_block(
    out: &mut Vec<u8>,
    content: &[u8],
    kind: BlockKind,
    compression: Compression,
    number: u64,
    offset: u64,
) -> BlockPlace {
    assert!(
        content.len() + 4 + TRAILER_BYTES <= BLOCK_BYTES_MAX,
        "a block of {} bytes",
        content.len()
    );
    let begin = out.len();
    let mut tag = kind as u8;
    if compression == Compression::Lz4 && compress(out, content) {
        tag |= COMPRESSED;
    } else {
        out.extend_from_slice(content);
    }
    out.push(tag);
    let checksum = block_checksum(&out[begin..], number, offset);
    out.extend_from_slice(&checksum.to_le_bytes());
    BlockPlace {
        offset,
        bytes: (out.len() - begin) as u32,
    }
}

/// Appends the compressed content with its length, unless that saves less than an eighth.
fn compress(out: &mut Vec<u8>, content: &[u8]) -> bool {
    let begin = out.len();
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.resize(
        begin + 4 + lz4_flex::block::get_maximum_output_size(content.len()),
        0,
    );
    let written = lz4_flex::block::compress_into(content, &mut out[begin + 4..]);
    match written {
        Ok(written) if 4 + written <= content.len() - content.len() / 8 => {
            out.truncate(begin + 4 + written);
            true
        }
        _ => {
            out.truncate(begin);
            false
        }
    }
}

/// The content of a block as it stands on disk, when it is whole and what it should be.
pub(crate) fn open_block(
    stored: &[u8],
    kind: BlockKind,
    number: u64,
    offset: u64,
) -> Result<Vec<u8>, &'static str> {
    let Some(at) = stored.len().checked_sub(TRAILER_BYTES) else {
        return Err("a block is too short");
    };
    let (body, checksum) = stored.split_at(at + 1);
    if u32_at(checksum, 0) != Some(block_checksum(body, number, offset)) {
        return Err("the checksum of a block does not hold");
    }
    let (content, tag) = (&body[..at], body[at]);
    if tag & !COMPRESSED != kind as u8 {
        return Err("a block is not of its kind");
    }
    if tag & COMPRESSED == 0 {
        return Ok(content.to_vec());
    }
    let length = u32_at(content, 0).ok_or("a compressed block is too short")? as usize;
    let packed = &content[4..];
    // LZ4 makes at most 255 bytes of one.
    if length > BLOCK_BYTES_MAX || length / 255 > packed.len() {
        return Err("a compressed block has an impossible length");
    }
    let mut content = vec![0; length];
    match lz4_flex::block::decompress_into(packed, &mut content) {
        Ok(written) if written == length => Ok(content),
        _ => Err("a compressed block does not decompress"),
    }
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        bytes[..8].copy_from_slice(&self.top.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.top.bytes.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.meta.offset.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.meta.bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..32]);
        bytes[32..36].copy_from_slice(&checksum.to_le_bytes());
        bytes[36..].copy_from_slice(FOOTER_MAGIC);
        bytes
    }

    /// The footer, and its checksum, when it can stand at the end of a file of `length` bytes.
    pub(crate) fn decode(bytes: &[u8; FOOTER_BYTES], length: u64) -> Result<(Footer, u32), &'static str> {
        if bytes[36..] != FOOTER_MAGIC[..] {
            return Err("the last bytes are not those of a run");
        }
        let number = |at| u64_at(bytes, at).unwrap_or_default();
        let short = |at| u32_at(bytes, at).unwrap_or_default();
        let checksum = crc32fast::hash(&bytes[..32]);
        if short(32) != checksum {
            return Err("the checksum of the footer does not hold");
        }
        let place = |at| BlockPlace {
            offset: number(at),
            bytes: short(at + 8),
        };
        let footer = Footer {
            top: place(0),
            meta: place(12),
            number: number(24),
        };
        let end = length - FOOTER_BYTES as u64;
        let follows = footer.top.end() == Some(footer.meta.offset) && footer.meta.end() == Some(end);
        if !follows || footer.top.offset < HEADER_BYTES as u64 {
            return Err("the footer names places outside of the file");
        }
        Ok((footer, checksum))
    }
}

impl BlockPlace {
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.bytes))
    }
}

/// The name of a run's file.
pub(crate) fn run_name(number: u64) -> String {
    format!("{number:016x}.run")
}

/// The number of the run that has this name.
pub(crate) fn run_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".run")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (run_name(number) == name).then_some(number)
}
