//! A backup's manifest: all that belongs to it, with checksums.
//!
//! Integers are little-endian; a list is its length (u32) and its items; bytes are their length (u32) and themselves.
//!
//! | field | bytes |
//! |---|---|
//! | magic | `SCRYBACK` |
//! | format version | u32 = 1 |
//! | number, when it was made in microseconds since 1970, LSN of the checkpoint | u64, i64, u64 |
//! | the manifest of the runs | bytes |
//! | runs | list of: number u64, checksum in the footer u32, bytes u64, sums |
//! | database, bytes per segment, end of the log | 16 bytes, u64, u64 |
//! | pieces of the log | list of: base u64, bytes u64, sums |
//! | CRC-32 of all before | u32 |
//!
//! Sums are a list of CRC-32, u32 each: one for every `SUM_BYTES` of the file, the last for what is left.

use crate::catalog_change::{CatalogChangeError, Reader, put_len, put_u32, put_u64};
use crate::error::Error;
use scry_wal::copy::{LogCopy, Piece};
use scry_wal::{Lsn, Micros};
use std::path::Path;

const MAGIC: &[u8; 8] = b"SCRYBACK";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 4;

/// A run in the backup's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopiedRun {
    pub(super) number: u64,
    pub(super) footer: u32,
    pub(super) bytes: u64,
    pub(super) sums: Vec<u32>,
}

impl CopiedRun {
    /// No two runs of a database have the same.
    pub(super) fn identity(&self) -> (u64, u32) {
        (self.number, self.footer)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backup {
    pub(super) number: u64,
    pub(super) made: Micros,
    /// The runs have the state at this LSN; zero without a checkpoint.
    pub(super) at: Lsn,
    pub(super) runs_manifest: Vec<u8>,
    pub(super) runs: Vec<CopiedRun>,
    pub(super) log: LogCopy,
}

impl Backup {
    /// The oldest state that can be made of it.
    pub(super) fn oldest(&self) -> Lsn {
        match self.log.begin() {
            Lsn::ZERO => Lsn::ZERO,
            _ => self.at,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, VERSION);
        put_u64(&mut out, self.number);
        put_u64(&mut out, self.made.get().cast_unsigned());
        put_u64(&mut out, self.at.get());
        put_len(&mut out, self.runs_manifest.len());
        out.extend_from_slice(&self.runs_manifest);
        put_len(&mut out, self.runs.len());
        for run in &self.runs {
            put_u64(&mut out, run.number);
            put_u32(&mut out, run.footer);
            put_u64(&mut out, run.bytes);
            put_sums(&mut out, &run.sums);
        }
        out.extend_from_slice(&self.log.database);
        put_u64(&mut out, self.log.segment_bytes);
        put_u64(&mut out, self.log.end.get());
        put_len(&mut out, self.log.pieces.len());
        for piece in &self.log.pieces {
            put_u64(&mut out, piece.base.get());
            put_u64(&mut out, piece.bytes);
            put_sums(&mut out, &piece.sums);
        }
        let checksum = crc32fast::hash(&out);
        put_u32(&mut out, checksum);
        out
    }

    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Backup, Error> {
        let damaged = |offset: usize, what| Error::DamagedFile {
            path: path.to_owned(),
            offset: offset as u64,
            what,
        };
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(damaged(0, "it is no manifest of a backup"));
        };
        let version = rest.first_chunk().map(|version| u32::from_le_bytes(*version));
        match version {
            Some(found) if found > VERSION => {
                return Err(Error::NewerFormat {
                    path: path.to_owned(),
                    found,
                    supported: VERSION,
                });
            }
            Some(VERSION) => {}
            _ => return Err(damaged(MAGIC.len(), "it has an unknown version")),
        }
        let Some((content, checksum)) = bytes.split_last_chunk() else {
            return Err(damaged(0, "it is too short"));
        };
        if u32::from_le_bytes(*checksum) != crc32fast::hash(content) {
            return Err(damaged(0, "the checksum of the manifest does not hold"));
        }
        take(&content[HEADER_BYTES..])
            .map_err(|error| damaged(HEADER_BYTES + error.offset, "the manifest makes no sense"))
    }
}

fn put_sums(out: &mut Vec<u8>, sums: &[u32]) {
    put_len(out, sums.len());
    for sum in sums {
        put_u32(out, *sum);
    }
}

fn take(content: &[u8]) -> Result<Backup, CatalogChangeError> {
    let mut reader = Reader::new(content);
    let number = reader.u64()?;
    let made = Micros::new(reader.u64()?.cast_signed());
    let at = Lsn::new(reader.u64()?);
    let runs_manifest = reader.bytes()?.to_vec();
    let runs = reader.list(|reader| {
        Ok(CopiedRun {
            number: reader.u64()?,
            footer: reader.u32()?,
            bytes: reader.u64()?,
            sums: reader.list(Reader::u32)?,
        })
    })?;
    let database = reader.array()?;
    let (segment_bytes, end) = (reader.u64()?, Lsn::new(reader.u64()?));
    let pieces = reader.list(|reader| {
        Ok(Piece {
            base: Lsn::new(reader.u64()?),
            bytes: reader.u64()?,
            sums: reader.list(Reader::u32)?,
        })
    })?;
    reader.end()?;
    Ok(Backup {
        number,
        made,
        at,
        runs_manifest,
        runs,
        log: LogCopy {
            database,
            segment_bytes,
            pieces,
            end,
            copied: 0,
        },
    })
}
