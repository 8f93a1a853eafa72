//! A log that goes its own way from some position on: the same records at the same positions, and the name of another database.
//!
//! A log that was restored to an earlier state will go on differently than the one that it came from, under the same positions. So every frame is
//! sealed again under a new database id, and with it the chain: no segment, archive or consumer of the one is ever taken for the other's.
//!
//! The end is cut to the record: the last frame keeps what stands up to the last commit that belongs to it. Whatever follows, the tentative
//! records of transactions that were not decided by then as well, is not there; those before it recovery ends by itself.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::archive::with_archive;
use crate::copy::io;
use crate::error::{Error, Flaw};
use crate::format::{
    Chain, DatabaseId, FLAG_FILLER, FLAG_WATERMARK, FRAME_HEADER_BYTES, FrameHeader, Geometry, SegmentHeader,
    WRITE_UNIT, align_up, genesis, segment_name,
};
use crate::frame::Frame;
use crate::ids::{Lsn, Micros};
use crate::options::Backend;
use crate::record::Record;
use crate::scan::{Reader, Step, Walk};
use crate::segments::{Found, Segments, damaged, list, place};
use crate::storage::disk::{DiskStorage, make_folders, sync_folder};
use crate::storage::{Access, Storage};
use crate::sys::buffer::Pool;
use crate::sys::call;

/// Which commits belong to a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upto {
    /// All there are.
    End,
    /// Those with an LSN up to this one.
    Lsn(Lsn),
    /// Those before the first one that was made later. A clock that went backwards makes no commit earlier than those before it.
    Time(Micros),
}

/// What a log was forked from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The folder of segments. It may have others, older ones or what a later copy left: they are no part of it.
    pub log: &'a Path,
    /// Where it begins there.
    pub begin: Lsn,
    /// Where its copy ends, when that is known: what stands behind is no part of it.
    pub end: Option<Lsn>,
    /// A folder with whole segments: those that the log goes on in, and those right before it, which then belong to the fork as well.
    pub archive: Option<&'a Path>,
}

/// A fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    pub database: [u8; 16],
    pub begin: Lsn,
    /// The last commit that belongs to it, and when it was made; nothing when there is none.
    pub last: Option<(Lsn, Micros)>,
    /// Whether there are commits that do not belong to it.
    pub is_cut: bool,
}

/// Looks where a fork would end, and makes none.
///
/// # Errors
/// As [`fork`].
pub fn look(origin: &Origin<'_>, upto: Upto) -> Result<Fork, Error> {
    run(origin, upto, None)
}

/// Makes a fork of a log in the folder `into`, which has none. Everything is checked down to the chain.
///
/// # Errors
/// [`Error::Damaged`], with file and offset, when the log does not go on as far as it should; [`Error::Io`].
pub fn fork(origin: &Origin<'_>, into: &Path, upto: Upto) -> Result<Fork, Error> {
    make_folders(into).map_err(|source| io("create", into, source))?;
    run(origin, upto, Some(into))
}

fn run(origin: &Origin<'_>, upto: Upto, into: Option<&Path>) -> Result<Fork, Error> {
    let storage = match origin.archive {
        // A segment that is in both is whole in the archive.
        Some(archive) => with_archive(archive, Some(origin.log)),
        None => with_archive(origin.log, None),
    };
    let no_log = || damaged(storage.as_ref(), 0, Flaw::MissingSegment);
    let segments = Segments::find_within(storage.as_ref(), bases(origin)?)?.ok_or_else(no_log)?;
    let geometry = segments.geometry;
    let limit = match (origin.archive, origin.end) {
        (None, Some(end)) => segments.end.min(end.get()),
        _ => segments.end,
    };
    let reader = Reader::new(
        Arc::clone(&storage),
        geometry,
        Pool::new(),
        Access::Sequential,
        limit,
    );
    let walk = Walk::from_segment(reader, segments.database, segments.begin, true)?;
    let mut walk = walk.ok_or_else(no_log)?;
    let database = call::random().map_err(|source| io("draw a random number for", origin.log, source))?;
    let mut output = into.map(|folder| Output::new(folder, geometry, database));
    let mut cut = Cut {
        upto,
        newest: None,
        last: None,
        is_cut: false,
    };
    while !cut.is_cut {
        let base = walk.position();
        match walk.step()? {
            Step::Entered => {
                let header = walk.reader.segment_header(base)?;
                let header = header.map_err(|flaw| damaged(storage.as_ref(), base, flaw))?;
                if let Some(output) = &mut output {
                    output.enter(header)?;
                }
            }
            Step::Frame(frame) => {
                let kept = cut.of(&frame).map_err(|flaw| Error::Damaged {
                    place: place(storage.as_ref(), geometry, frame.lsn().get()),
                    flaw,
                    witness: None,
                })?;
                if let (Some(output), Some(kept)) = (&mut output, kept) {
                    output.put(&frame, kept)?;
                }
            }
            Step::Stop(stop) => {
                let is_short = origin.end.is_some_and(|end| stop.at < end.get());
                if stop.forged || is_short {
                    return Err(Error::Damaged {
                        place: place(storage.as_ref(), geometry, stop.at),
                        flaw: stop.flaw,
                        witness: None,
                    });
                }
                break;
            }
            Step::End => break,
        }
    }
    if let Some(output) = output {
        output.finish()?;
    }
    Ok(Fork {
        database,
        begin: Lsn::new(segments.begin),
        last: cut.last,
        is_cut: cut.is_cut,
    })
}

/// Which segments are read.
fn bases(origin: &Origin<'_>) -> Result<Range<u64>, Error> {
    let begin = origin.begin.get();
    let end = origin.end.map_or(u64::MAX, Lsn::get);
    let Some(archive) = origin.archive else {
        return Ok(begin..end);
    };
    // Sorted by their bases.
    let archived = list(&DiskStorage::new(archive, Backend::Blocking))?;
    let ends_at = |(base, bytes): &Found| base.saturating_add(*bytes);
    let first = archived
        .iter()
        .rev()
        .fold(begin, |first, segment| match ends_at(segment) == first {
            true => segment.0,
            false => first,
        });
    Ok(first..archived.last().map_or(0, ends_at).max(end))
}

/// What is kept of a frame.
#[derive(Debug, Clone, Copy)]
struct Kept {
    payload_bytes: u32,
    records: u32,
}

/// Where the fork ends.
struct Cut {
    upto: Upto,
    /// The latest time of a commit so far.
    newest: Option<Micros>,
    last: Option<(Lsn, Micros)>,
    is_cut: bool,
}

impl Cut {
    /// What of a frame belongs to the fork; `None`: nothing.
    fn of(&mut self, frame: &Frame) -> Result<Option<Kept>, Flaw> {
        let begin = frame.lsn().plus(FRAME_HEADER_BYTES as u64).get();
        let whole = Kept {
            payload_bytes: frame.payload_bytes() as u32,
            records: frame.record_count(),
        };
        let mut upto_commit = None;
        let mut records = frame.records();
        let mut count = 0;
        while let Some(record) = records.next() {
            let (lsn, record) = record.map_err(Flaw::Record)?;
            count += 1;
            let Record::Commit(commit) = record else { continue };
            let time = self.newest.map_or(commit.time, |newest| newest.max(commit.time));
            let is_behind = match self.upto {
                Upto::End => false,
                Upto::Lsn(upto) => lsn > upto,
                Upto::Time(upto) => time > upto,
            };
            if is_behind {
                self.is_cut = true;
                return Ok(upto_commit);
            }
            self.newest = Some(time);
            self.last = Some((lsn, time));
            upto_commit = Some(Kept {
                payload_bytes: (records.position().get() - begin) as u32,
                records: count,
            });
        }
        Ok(Some(whole))
    }
}

/// The log that is being made.
struct Output<'a> {
    folder: &'a Path,
    storage: DiskStorage,
    geometry: Geometry,
    database: DatabaseId,
    chain: Chain,
    file: Option<(u64, File)>,
}

impl<'a> Output<'a> {
    fn new(folder: &'a Path, geometry: Geometry, database: DatabaseId) -> Self {
        Self {
            folder,
            storage: DiskStorage::new(folder, Backend::Blocking),
            geometry,
            database,
            chain: genesis(&database),
            file: None,
        }
    }

    fn enter(&mut self, header: SegmentHeader) -> Result<(), Error> {
        self.sync()?;
        let header = SegmentHeader {
            database: self.database,
            chain: self.chain,
            recycled: false,
            ..header
        };
        let mut unit = vec![0; WRITE_UNIT];
        header.encode(&mut unit);
        let name = segment_name(header.base);
        let path = self.folder.join(&name);
        self.storage
            .create(&name, self.geometry.segment_bytes(), &unit)
            .map_err(|source| io("create", &path, source))?;
        let file = OpenOptions::new().write(true).open(&path);
        self.file = Some((header.base, file.map_err(|source| io("open", &path, source))?));
        Ok(())
    }

    fn put(&mut self, frame: &Frame, kept: Kept) -> Result<(), Error> {
        let mut header = FrameHeader {
            lsn: frame.lsn().get(),
            epoch: frame.epoch(),
            payload_bytes: kept.payload_bytes,
            records: kept.records,
            flags: frame.flags(),
            durable: frame.durable_lsn().get(),
            database: self.database,
            link: self.chain,
            chain: self.chain,
        };
        debug_assert!(kept.records > 0 || header.flags & (FLAG_FILLER | FLAG_WATERMARK) != 0);
        let end = FRAME_HEADER_BYTES + kept.payload_bytes as usize;
        let mut bytes = frame.bytes()[..end].to_vec();
        bytes.resize(align_up(end as u64) as usize, 0);
        header.seal(&mut bytes);
        self.chain = header.chain;
        let (base, file) = self.file.as_ref().expect("a frame stands in a segment");
        let written = file.write_all_at(&bytes, header.lsn - base);
        written.map_err(|source| io("write", &self.folder.join(segment_name(*base)), source))
    }

    fn sync(&mut self) -> Result<(), Error> {
        if let Some((base, file)) = self.file.take() {
            let synced = file.sync_all();
            synced.map_err(|source| io("sync", &self.folder.join(segment_name(base)), source))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        self.sync()?;
        sync_folder(self.folder).map_err(|source| io("sync", self.folder, source))
    }
}
