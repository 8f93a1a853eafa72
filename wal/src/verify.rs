//! Checking a log without opening it: every checksum, every link of the chain, every record, every segment header.
//!
//! Nothing is changed, and the log may be in use by another process: what is being written meanwhile looks like a torn tail.
//! The rule that tells a torn tail from damage is that of recovery.

use std::path::Path;
use std::sync::Arc;

use crate::archive::with_archive;
use crate::error::{Error, Flaw, Place};
use crate::format::Geometry;
use crate::ids::Lsn;
use crate::recover::{Torn, judge};
use crate::scan::{Reader, Step, Walk};
use crate::segments::{Segments, begins_behind, place};
use crate::storage::{Access, Storage};
use crate::sys::buffer::Pool;

/// What was checked, and the first thing that was wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Segment files that are there, those prepared for later included.
    pub segments: u64,
    /// Frames whose checksum, chain and records are right.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Where the log begins: later than LSN 0 when its first segments are gone. The header there is believed.
    pub begin: Lsn,
    /// Bytes from there to the end of the last good frame.
    pub bytes: u64,
    /// Where the good part ends: the LSN of the next frame.
    pub end: Lsn,
    /// The epoch of the last good frame.
    pub epoch: u64,
    /// The chain value of the last good frame: whoever keeps it can tell later that nothing before it was changed.
    pub chain: [u8; 32],
    /// A tail that was never acknowledged.
    pub torn: Option<Torn>,
    /// The first problem; everything before it was checked and is good.
    pub problem: Option<Problem>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub flaw: Flaw,
    /// The frame that shows that this had been acknowledged.
    pub witness: Option<Lsn>,
}

/// Checks the log in a folder.
///
/// # Errors
/// What the file system says, or [`Error::NewerFormat`]. Damage is no error here: it is in the report.
pub fn verify(dir: &Path) -> Result<Report, Error> {
    verify_with(dir, None)
}

/// As [`verify`], with what an archive has before the oldest frame that is in the folder.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(dir: &Path, archive: Option<&Path>) -> Result<Report, Error> {
    verify_on(&with_archive(dir, archive))
}

/// As [`verify`], on any storage.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(storage: &Arc<dyn Storage>) -> Result<Report, Error> {
    loop {
        let mut report = Report::default();
        let error = match check(storage, &mut report) {
            Ok(()) => return Ok(report),
            Err(error) => error,
        };
        // A log in use may have let go what was being read: then it begins later by now.
        if begins_behind(storage.as_ref(), report.end.get())? {
            continue;
        }
        return match error {
            Error::Damaged { place, flaw, witness } => {
                report.problem = Some(Problem { place, flaw, witness });
                Ok(report)
            }
            error => Err(error),
        };
    }
}

fn check(storage: &Arc<dyn Storage>, report: &mut Report) -> Result<(), Error> {
    let Some(segments) = Segments::find(storage.as_ref())? else {
        return Ok(());
    };
    let geometry = segments.geometry;
    report.segments = (segments.end - segments.begin) / geometry.segment_bytes();
    report.begin = Lsn::new(segments.begin);
    report.end = report.begin;
    let pool = Pool::new();
    let reader = Reader::new(
        Arc::clone(storage),
        geometry,
        pool,
        Access::Sequential,
        segments.end,
    );
    let mut reread = None;
    let Some(mut walk) = Walk::from_segment(reader, segments.database, segments.begin, true)? else {
        return Ok(());
    };
    loop {
        let step = walk.step()?;
        if let Step::Frame(frame) = &step {
            check_records(storage.as_ref(), geometry, frame)?;
            report.frames += 1;
            report.records += u64::from(frame.record_count());
        }
        report.bytes = walk.position() - segments.begin;
        report.end = Lsn::new(geometry.frame_at(walk.position()));
        report.epoch = walk.epoch();
        report.chain = walk.chain();
        let stop = match step {
            Step::Frame(_) | Step::Entered => continue,
            Step::Stop(stop) => stop,
            Step::End => return Ok(()),
        };
        match judge(&mut walk.reader, &segments, report.epoch, &stop) {
            // A log in use may have been written on since this place was read, and what was read later shows it. Damage
            // is what is still there when the place is read again.
            Err(Error::Damaged { .. }) if reread != Some(stop.at) => {
                walk.reader.forget();
                reread = Some(stop.at);
            }
            Err(error) => return Err(error),
            Ok(remains) => {
                if walk.is_torn(&stop, remains.frames) {
                    let (lsn, flaw) = (Lsn::new(stop.at), stop.flaw);
                    report.torn = Some(Torn {
                        lsn,
                        flaw,
                        frames_behind: remains.frames,
                    });
                }
                return Ok(());
            }
        }
    }
}

/// Decodes every record; a frame must hold as many as it says.
fn check_records(
    storage: &dyn Storage,
    geometry: Geometry,
    frame: &crate::frame::Frame,
) -> Result<(), Error> {
    let damaged = |lsn: Lsn, flaw: Flaw| Error::Damaged {
        place: place(storage, geometry, lsn.get()),
        flaw,
        witness: None,
    };
    let (mut count, mut next) = (0_u32, frame.lsn());
    for record in frame.records() {
        match record {
            Ok((lsn, _)) => (count, next) = (count + 1, lsn),
            Err(error) => return Err(damaged(next, Flaw::Record(error))),
        }
    }
    if count == frame.record_count() {
        Ok(())
    } else {
        Err(damaged(
            frame.lsn(),
            Flaw::RecordCount {
                found: count,
                stated: frame.record_count(),
            },
        ))
    }
}
