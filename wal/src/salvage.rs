//! What is left of a damaged log, and a copy of the part that can be trusted.
//!
//! Everything before the damage was checked down to the hash chain, so it is a log by itself: the database as it was when the
//! last frame before the damage became durable. What stands behind the damage may be whole, but nothing says
//! what it built on; it is counted, so that people know what they lose, and left where it is.
//!
//! Invariant: the damaged log is only read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::format::{UNIT, segment_name};
use crate::frame::Frame;
use crate::ids::{Lsn, Micros};
use crate::options::Backend;
use crate::record::Record;
use crate::scan::{Reader, Step, Walk};
use crate::segments::Segments;
use crate::storage::disk::{DiskStorage, sync_folder};
use crate::storage::{Access, Storage};
use crate::sys::buffer::Pool;
use crate::verify::{Problem, verify_on};

/// A stretch of a log, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Whole frames.
    pub frames: u64,
    /// Commit records in them.
    pub commits: u64,
    /// The wall-clock times of the first and the last commit.
    pub times: Option<(Micros, Micros)>,
}

impl Tally {
    fn add(&mut self, frame: &Frame) {
        self.frames += 1;
        // Records that cannot be read are not counted.
        for (_, record) in frame.records().flatten() {
            if let Record::Commit(commit) = record {
                self.commits += 1;
                let first = self.times.map_or(commit.time, |(first, _)| first);
                self.times = Some((first, commit.time));
            }
        }
    }
}

/// A damaged log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// Where and what the damage is.
    pub problem: Problem,
    /// What stands before it.
    pub before: Tally,
    /// Whole frames of the log that stand behind it.
    pub behind: Tally,
    /// Where the part begins and ends that can be trusted.
    begin: u64,
    end: u64,
}

/// Looks at the log in a folder; `None` when it is not damaged.
///
/// # Errors
/// What the file system says, or [`Error::NewerFormat`].
pub fn salvage(dir: &Path) -> Result<Option<Salvage>, Error> {
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new(dir, Backend::Blocking));
    let report = verify_on(&storage)?;
    let Some(problem) = report.problem else {
        return Ok(None);
    };
    let end = report.begin.get() + report.bytes;
    let (mut before, mut behind) = (Tally::default(), Tally::default());
    // When segments are missing or foreign there is nothing to walk.
    if report.bytes > 0
        && let Some(segments) = Segments::find(storage.as_ref())?
    {
        let reader = |access| {
            Reader::new(
                Arc::clone(&storage),
                segments.geometry,
                Pool::new(),
                access,
                segments.end,
            )
        };
        let walk = Walk::from_segment(
            reader(Access::Sequential),
            segments.database,
            segments.begin,
            false,
        )?;
        if let Some(mut walk) = walk {
            while walk.position() < end {
                match walk.step()? {
                    Step::Frame(frame) => before.add(&frame),
                    Step::Entered => {}
                    Step::Stop(_) | Step::End => break,
                }
            }
        }
        behind = tally_behind(&mut reader(Access::Sequential), &segments, end, report.epoch)?;
    }
    Ok(Some(Salvage {
        problem,
        before,
        behind,
        begin: report.begin.get(),
        end,
    }))
}

/// Counts the frames behind `end` that belong to this log and to no older epoch.
fn tally_behind(reader: &mut Reader, segments: &Segments, end: u64, epoch: u64) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut at = end.next_multiple_of(UNIT);
    while at < segments.end {
        if at != segments.geometry.base(at)
            && reader.may_begin(at)?
            && let Ok(frame) = reader.frame(at)?
            && frame.database() == segments.database
            && frame.epoch() >= epoch
        {
            tally.add(&frame);
            at += frame.bytes().len() as u64;
        } else {
            at += UNIT;
        }
    }
    Ok(tally)
}

impl Salvage {
    /// Where the part begins that can be trusted: later than LSN 0 when the log's first segments are gone.
    pub fn begin(&self) -> Lsn {
        Lsn::new(self.begin)
    }

    /// Where it ends.
    pub fn end(&self) -> Lsn {
        Lsn::new(self.end)
    }

    /// Writes the part before the damage into a new folder, durably.
    ///
    /// # Errors
    /// What the file system says; the folder may then hold a part of it.
    pub fn copy(&self, dir: &Path, into: &Path) -> Result<(), Error> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        fs::create_dir(into).map_err(failed("create", into))?;
        let mut base = self.begin;
        while base < self.end {
            let name = segment_name(base);
            let (from, to) = (dir.join(&name), into.join(&name));
            let mut source = File::open(&from).map_err(failed("open", &from))?;
            let segment_bytes = source.metadata().map_err(failed("read", &from))?.len();
            let kept = segment_bytes.min(self.end - base);
            copy_segment(&mut source, &to, kept, segment_bytes).map_err(failed("write", &to))?;
            base += segment_bytes.max(UNIT);
        }
        sync_folder(into).map_err(failed("sync", into))
    }
}

/// The first bytes of a segment, and zeros in place of the rest.
fn copy_segment(source: &mut File, to: &Path, kept: u64, segment_bytes: u64) -> io::Result<()> {
    let mut target = OpenOptions::new().write(true).create_new(true).open(to)?;
    let copied = io::copy(&mut source.take(kept), &mut target)?;
    if copied != kept {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    io::copy(&mut io::repeat(0).take(segment_bytes - kept), &mut target)?;
    target.flush()?;
    target.sync_all()
}
