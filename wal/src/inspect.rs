//! Reading a log's frames without opening it, for people who want to look: closed or in use by another process.
//!
//! Everything is checked as in recovery, except that the end is wherever the frames end: whether that is a torn
//! tail or damage is for [`crate::verify()`] to say.

use std::path::Path;
use std::sync::Arc;

use crate::archive::with_archive;
use crate::error::Error;
use crate::frame::Frame;
use crate::ids::Lsn;
use crate::recover::IN_FLIGHT_REACH_BYTES;
use crate::scan::{Reader, Step, Walk};
use crate::segments::{Segments, begins_behind, place};
use crate::storage::{Access, Storage};
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
    let mut frames = Frames {
        storage: with_archive(dir, archive),
        walk: None,
        begin: Lsn::ZERO,
        from,
        again: None,
    };
    frames.open()?;
    Ok(frames)
}

/// Frames in order, without those before a position. Of a log in use those are left out that it lets go of before they are read.
pub struct Frames {
    storage: Arc<dyn Storage>,
    /// `None` behind the end.
    walk: Option<Walk>,
    begin: Lsn,
    from: Lsn,
    /// Where the files were looked at a second time.
    again: Option<u64>,
}

impl Frames {
    /// Where the log begins: later than LSN 0 when its first segments are gone. Reading on may find that more of them are.
    pub fn begin(&self) -> Lsn {
        self.begin
    }

    /// Begins to read.
    fn open(&mut self) -> Result<(), Error> {
        self.walk = None;
        while let Some(segments) = Segments::find(self.storage.as_ref())? {
            self.begin = Lsn::new(segments.begin);
            if self.from.get() >= segments.end {
                break;
            }
            let geometry = segments.geometry;
            let (storage, pool) = (Arc::clone(&self.storage), Pool::new());
            let reader = Reader::new(storage, geometry, pool, Access::Live, segments.end);
            // Behind the end, frames that an earlier recovery cut off may stand as far as writes reach that are on their way
            // together; a walk that begins further back than that begins in the log itself and stops at its end.
            let base = geometry.base(self.from.get().saturating_sub(IN_FLIGHT_REACH_BYTES));
            let base = base.max(segments.begin);
            let found = Walk::from_segment(reader, segments.database, base, true);
            if !matches!(found, Ok(Some(_))) && begins_behind(self.storage.as_ref(), base)? {
                continue;
            }
            self.walk = found?;
            break;
        }
        Ok(())
    }

    /// Whether there is something else to be read where a walk came to `position` and not further: what was read there may have
    /// been changed since, or be gone, when the log is in use.
    fn look_again(&mut self, position: u64) -> Result<bool, Error> {
        if begins_behind(self.storage.as_ref(), position)? {
            self.open()?;
            return Ok(true);
        }
        if self.again == Some(position) {
            return Ok(false);
        }
        self.again = Some(position);
        if let Some(walk) = &mut self.walk {
            walk.reader.forget();
        }
        Ok(true)
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, Error>;

    /// The next frame. An error comes when bytes are whole but wrong, and is the last thing that comes.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let walk = self.walk.as_mut()?;
            let end = match walk.step() {
                Ok(Step::Frame(frame)) if frame.end() <= self.from => continue,
                Ok(Step::Frame(frame)) => return Some(Ok(frame)),
                Ok(Step::Entered) => continue,
                Ok(Step::End) => {
                    self.walk = None;
                    return None;
                }
                Ok(Step::Stop(stop)) => stop.forged.then(|| Error::Damaged {
                    place: place(walk.reader.storage(), walk.reader.geometry(), stop.at),
                    flaw: stop.flaw,
                    witness: None,
                }),
                Err(error) => Some(error),
            };
            let position = walk.position();
            let end = match self.look_again(position) {
                Ok(true) => continue,
                Ok(false) => end,
                Err(error) => Some(error),
            };
            self.walk = None;
            return end.map(Err);
        }
    }
}
