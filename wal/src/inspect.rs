//! Reading a log's frames without opening it, for people who want to look: closed or in use by another process.
//!
//! Everything is checked as in recovery, except that the end is wherever the frames end: whether that is a torn
//! tail or damage is for [`crate::verify()`] to say.

use std::path::Path;

use crate::archive::with_archive;
use crate::error::Error;
use crate::frame::Frame;
use crate::ids::Lsn;
use crate::recover::IN_FLIGHT_REACH_BYTES;
use crate::scan::{Reader, Step, Walk};
use crate::segments::{Segments, place};
use crate::storage::Access;
use crate::sys::buffer::Pool;

/// The frames of a folder, from the one that holds `from` on, or from the oldest that is there.
///
/// # Errors
/// What the file system says; [`Error::Damaged`] when segments are missing or foreign; [`Error::NewerFormat`].
pub fn frames(dir: &Path, from: Lsn) -> Result<Frames, Error> {
    frames_with(dir, None, from)
}

/// As [`frames`], with what an archive has before the oldest frame that is in the folder.
///
/// # Errors
/// As [`frames`].
pub fn frames_with(dir: &Path, archive: Option<&Path>, from: Lsn) -> Result<Frames, Error> {
    let storage = with_archive(dir, archive);
    let Some(segments) = Segments::find(storage.as_ref())? else {
        return Ok(Frames {
            walk: None,
            from,
            begin: Lsn::ZERO,
        });
    };
    let begin = Lsn::new(segments.begin);
    if from.get() >= segments.end {
        return Ok(Frames {
            walk: None,
            from,
            begin,
        });
    }
    let geometry = segments.geometry;
    let reader = Reader::new(storage, geometry, Pool::new(), Access::Live, segments.end);
    // Behind the end, frames that an earlier recovery cut off may stand as far as writes reach that are on their way
    // together; a walk that begins further back than that begins in the log itself and stops at its end.
    let base = geometry.base(from.get().saturating_sub(IN_FLIGHT_REACH_BYTES));
    let walk = Walk::from_segment(reader, segments.database, base.max(segments.begin), true)?;
    Ok(Frames { walk, from, begin })
}

/// Frames in order, without those before a position.
pub struct Frames {
    /// `None` behind the end.
    walk: Option<Walk>,
    from: Lsn,
    begin: Lsn,
}

impl Frames {
    /// Where the log begins: later than LSN 0 when its first segments are gone.
    pub fn begin(&self) -> Lsn {
        self.begin
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, Error>;

    /// The next frame. An error comes when bytes are whole but wrong, and is the last thing that comes.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let walk = self.walk.as_mut()?;
            match walk.step() {
                Ok(Step::Frame(frame)) if frame.end() <= self.from => {}
                Ok(Step::Frame(frame)) => return Some(Ok(frame)),
                Ok(Step::Entered) => {}
                Ok(Step::End) => self.walk = None,
                Ok(Step::Stop(stop)) => {
                    let place = place(walk.reader.storage(), walk.reader.geometry(), stop.at);
                    self.walk = None;
                    if stop.forged {
                        return Some(Err(Error::Damaged {
                            place,
                            flaw: stop.flaw,
                            witness: None,
                        }));
                    }
                }
                Err(error) => {
                    self.walk = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
