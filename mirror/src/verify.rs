//! Checking a mirror's folder without opening it: the manifest and every byte of every segment that it names, and the same of
//! every savepoint.
//!
//! Nothing is changed, and the folder may be in use: segments that a checkpoint removes meanwhile are looked for again
//! under the manifest that replaced the one read first.

use crate::checkpoint::file_schema;
use crate::error::Error;
use crate::manifest::{Manifest, PieceEntry};
use crate::savepoint;
use crate::segment::SegmentFile;
use scry_stream::StoreSchema;
use scry_wal::Lsn;
use std::io;
use std::path::Path;

/// How often a checkpoint may overtake the check before that counts as a fault of the folder.
const ATTEMPTS_MAX: usize = 8;

/// What was checked, and everything that was wrong.
#[derive(Debug, Default)]
pub struct Report {
    /// The LSN of the manifest; `None` when there is none, which is an empty mirror.
    pub upto: Option<Lsn>,
    pub stores: u64,
    pub segments: u64,
    pub rows: u64,
    pub bytes: u64,
    /// In the order found; the rest of the folder was checked all the same.
    pub problems: Vec<Error>,
}

/// Checks the mirror in a folder.
///
/// # Errors
/// What the file system says, or [`Error::NewerFormat`]. Damage is no error here: it is in the report.
pub fn verify(folder: &Path) -> Result<Report, Error> {
    for _ in 1..ATTEMPTS_MAX {
        let report = check(folder)?;
        let overtaken = report.problems.iter().any(is_missing)
            && Manifest::read(folder)
                .is_ok_and(|now| now.map(|manifest| manifest.position.upto) != report.upto);
        if !overtaken {
            return Ok(report);
        }
    }
    check(folder)
}

fn check(folder: &Path) -> Result<Report, Error> {
    let mut report = Report::default();
    report.upto = check_manifest(folder, &mut report)?;
    for savepoint in savepoint::folders(folder)? {
        check_manifest(&savepoint, &mut report)?;
    }
    Ok(report)
}

/// What a manifest names. Answers its LSN.
fn check_manifest(folder: &Path, report: &mut Report) -> Result<Option<Lsn>, Error> {
    let manifest = match Manifest::read(folder) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Ok(None),
        Err(error @ Error::Damaged { .. }) => {
            report.problems.push(error);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    for store in manifest.stores {
        report.stores += 1;
        let schema = StoreSchema::new(store.columns);
        for piece in store.pieces {
            match check_piece(folder, &piece, &schema) {
                Ok(bytes) => {
                    report.segments += 1;
                    report.rows += piece.rows;
                    report.bytes += bytes;
                }
                Err(error) => report.problems.push(error),
            }
        }
    }
    Ok(Some(manifest.position.upto))
}

fn check_piece(folder: &Path, piece: &PieceEntry, schema: &StoreSchema) -> Result<u64, Error> {
    let file = SegmentFile::new(
        folder.join(&piece.file),
        piece.parts.clone(),
        &file_schema(schema, piece.columns, piece.shift),
    )?;
    file.verify()?;
    Ok(file.bytes())
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
