//! A copy of a log beside the process that writes it: what is durable, and nothing else.
//!
//! Bytes that are durable never change, so a copy needs nobody's leave, and the next one goes on where the last one ended.
//! What is durable, the frames say themselves: each has the position up to which everything was when it was written. So frames at the very end that
//! wait for their witness are left for the next copy; of a log that nobody has open ([`Extent::All`]) whatever is whole counts, as in recovery.
//!
//! The files of a copy have the length of segments, so that they are read as a log; behind the end stand zeros, or after a copy that was cut short bytes
//! that nobody knows of. A [`Piece`] says how much of a file belongs to the copy, and has a checksum for each [`SUM_BYTES`] of it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::format::{Geometry, UNIT, segment_name};
use crate::ids::Lsn;
use crate::options::Backend;
use crate::recover::judge;
use crate::scan::{Reader, Step, Walk};
use crate::segments::{Segments, list};
use crate::storage::disk::{DiskStorage, make_folders, sync_folder};
use crate::storage::{Access, Storage};
use crate::sys::buffer::Pool;

/// How often a copy begins again because a log that nobody holds has let go of what was being copied.
const TRIES: usize = 100;

/// Bytes of a file that one checksum is for.
pub const SUM_BYTES: usize = 1 << 20;

/// How much of a log is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What is known to be durable, as what stands up to this LSN is: the log may be in use.
    Durable(Lsn),
    /// All that recovery would find: nobody has it open.
    All,
}

/// The part of one segment that a copy has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub base: Lsn,
    pub bytes: u64,
    /// CRC-32 of each [`SUM_BYTES`], the last of what is left.
    pub sums: Vec<u32>,
}

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCopy {
    pub database: [u8; 16],
    pub segment_bytes: u64,
    pub pieces: Vec<Piece>,
    /// The first byte that it does not have.
    pub end: Lsn,
    /// Bytes that were copied this time.
    pub copied: u64,
}

impl LogCopy {
    /// The oldest byte that it has.
    pub fn begin(&self) -> Lsn {
        self.pieces.first().map_or(self.end, |piece| piece.base)
    }
}

/// The name of the file that holds the segment at `base`.
pub fn file_name(base: Lsn) -> String {
    segment_name(base.get())
}

/// The database that the log in a folder is of; `None` when there is no log.
///
/// # Errors
/// As [`copy_log`].
pub fn database_of(folder: &Path) -> Result<Option<[u8; 16]>, Error> {
    let storage = DiskStorage::new(folder, Backend::Blocking);
    Ok(Segments::find(&storage)?.map(|segments| segments.database))
}

/// Copies the log in `from` to the folder `to`, which has the pieces `known` of the same log. `None` when there is no log.
///
/// # Errors
/// [`Error::Damaged`] when the log is damaged; [`Error::Io`].
pub fn copy_log(from: &Path, to: &Path, known: &[Piece], extent: Extent) -> Result<Option<LogCopy>, Error> {
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new(from, Backend::Blocking));
    let oldest = || list(storage.as_ref()).map(|found| found.first().map(|(base, _)| *base));
    let mut tries = 1;
    loop {
        let before = oldest()?;
        let copied = copy_once(&storage, from, to, known, extent);
        // A log in use has let go of segments that were being copied.
        if copied.is_ok() || tries == TRIES || oldest()? <= before {
            return copied;
        }
        tries += 1;
    }
}

fn copy_once(
    storage: &Arc<dyn Storage>,
    from: &Path,
    to: &Path,
    known: &[Piece],
    extent: Extent,
) -> Result<Option<LogCopy>, Error> {
    let Some(segments) = Segments::find(storage.as_ref())? else {
        return Ok(None);
    };
    let geometry = segments.geometry;
    let whole = |piece: &&Piece| piece.bytes == geometry.segment_bytes();
    let first = known.partition_point(|piece| piece.base.get() < segments.begin);
    let complete: Vec<Piece> = known[first..].iter().take_while(whole).cloned().collect();
    // What the last copy had in whole is not looked at again.
    let start = complete
        .last()
        .map_or(segments.begin, |piece| geometry.end(piece.base.get()));
    let end = durable_end(storage, &segments, start, extent)?;
    make_folders(to).map_err(|source| io("create", to, source))?;
    let (mut pieces, mut base, mut copied) = (complete, start, 0);
    while base < end {
        let bytes = (end - base).min(geometry.segment_bytes());
        let had = known.iter().find(|piece| piece.base.get() == base);
        let had = had.filter(|piece| piece.bytes <= bytes);
        let piece = copy_piece(from, to, geometry, (base, bytes), had)?;
        copied += bytes - had.map_or(0, |piece| piece.bytes);
        pieces.push(piece);
        base = geometry.end(base);
    }
    sync_folder(to).map_err(|source| io("sync", to, source))?;
    Ok(Some(LogCopy {
        database: segments.database,
        segment_bytes: geometry.segment_bytes(),
        pieces,
        end: Lsn::new(end.max(start)),
        copied,
    }))
}

/// Up to where the log from the segment at `start` on is copied.
fn durable_end(
    storage: &Arc<dyn Storage>,
    segments: &Segments,
    start: u64,
    extent: Extent,
) -> Result<u64, Error> {
    let geometry = segments.geometry;
    if start >= segments.end {
        return Ok(start);
    }
    let reader = Reader::new(
        Arc::clone(storage),
        geometry,
        Pool::new(),
        Access::Sequential,
        segments.end,
    );
    let Some(mut walk) = Walk::from_segment(reader, segments.database, start, true)? else {
        return Ok(start);
    };
    let (mut durable, mut reread) = (start, None);
    loop {
        let stop = match walk.step()? {
            Step::Frame(frame) => {
                durable = durable.max(frame.durable_lsn().get());
                if matches!(extent, Extent::Durable(known) if frame.lsn() <= known) {
                    durable = durable.max(frame.end().get());
                }
                continue;
            }
            Step::Entered => continue,
            Step::End => break,
            Step::Stop(stop) => stop,
        };
        let epoch = walk.epoch();
        match judge(&mut walk.reader, segments, epoch, &stop) {
            // The log may have been written on since this place was read.
            Err(Error::Damaged { .. }) if reread != Some(stop.at) => {
                walk.reader.forget();
                reread = Some(stop.at);
            }
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    Ok(match extent {
        Extent::All => walk.position(),
        // A frame at the beginning of a segment stands behind the header.
        Extent::Durable(_) if durable == geometry.base(durable) + UNIT => geometry.base(durable),
        Extent::Durable(_) => durable,
    }
    .max(start))
}

/// Copies the first `bytes` of a segment, of which the copy has a part.
fn copy_piece(
    from: &Path,
    to: &Path,
    geometry: Geometry,
    (base, bytes): (u64, u64),
    had: Option<&Piece>,
) -> Result<Piece, Error> {
    let name = segment_name(base);
    let (source, target) = (from.join(&name), to.join(&name));
    // A file that is new has its name when it is whole: the folder is a log at any moment.
    let unfinished = match had {
        Some(_) => target.clone(),
        None => to.join(format!("{name}.new")),
    };
    let input = File::open(&source).map_err(|error| io("open", &source, error))?;
    let output = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&unfinished)
        .map_err(|error| io("create", &unfinished, error))?;
    // The last checksum of what is there was for a part of its bytes.
    let sum_bytes = SUM_BYTES as u64;
    let mut sums = had.map_or_else(Vec::new, |piece| piece.sums.clone());
    let whole = had.map_or(0, |piece| piece.bytes) / sum_bytes;
    sums.truncate(usize::try_from(whole).unwrap_or(usize::MAX));
    let mut at = whole * sum_bytes;
    let mut chunk = vec![0; SUM_BYTES];
    while at < bytes {
        let part = &mut chunk[..usize::try_from((bytes - at).min(sum_bytes)).unwrap_or(SUM_BYTES)];
        input
            .read_exact_at(part, at)
            .map_err(|error| io("read", &source, error))?;
        output
            .write_all_at(part, at)
            .map_err(|error| io("write", &target, error))?;
        sums.push(crc32fast::hash(part));
        at += part.len() as u64;
    }
    output
        .set_len(geometry.segment_bytes())
        .and_then(|()| output.sync_all())
        .and_then(|()| fs::rename(&unfinished, &target))
        .map_err(|error| io("write", &target, error))?;
    // A segment that is let go loses its name before its file becomes another one.
    fs::metadata(&source).map_err(|error| io("copy", &source, error))?;
    Ok(Piece {
        base: Lsn::new(base),
        bytes,
        sums,
    })
}

pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}
