//! The seam between the log and the disk.
//!
//! Three traits: [`Storage`] is a folder of segments, [`SegmentFile`] an open one, [`WriteQueue`] the durable writes
//! that are on their way. Two implementations: [`disk`] for real files, [`crate::sim`] for tests that inject faults.
//!
//! The contract that recovery stands on:
//! - a write that completed with its full length is durable; a write that has not may be there in whole, in part
//!   (any subset of 512-byte sectors) or not at all;
//! - [`Storage::create`] makes the whole segment durable before its name exists.

pub mod disk;
pub(crate) mod layered;
pub(crate) mod queue;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::Frame;
use crate::sys::buffer::Block;

/// How a segment will be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read from one end to the other while nobody writes.
    Sequential,
    /// Read while the log writes to it.
    Live,
    /// Written, durably.
    Write,
}

/// A folder of segments.
pub trait Storage: Send + Sync {
    /// The file's path, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// Makes the folder, if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    fn make_folder(&self) -> io::Result<()>;

    /// All files with their sizes.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Makes a segment of `bytes` zeros that begins with `header`. Durable, name included, when this returns; when it
    /// fails no file of this name exists.
    ///
    /// # Errors
    /// What the file system says; [`io::ErrorKind::StorageFull`] when there is no room.
    fn create(&self, name: &str, bytes: u64, header: &[u8]) -> io::Result<()>;

    /// Gives a file another name; a file that had it is gone. Durable when this returns; when it fails, the file has either name.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable when this returns; when it fails, the file may be there or not.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All of a small file; `None` when it is not there.
    ///
    /// # Errors
    /// What the file system says.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes a file of these bytes, or gives it this content as a whole. Durable when this returns; when it fails, the
    /// file is as it was, or has this content.
    ///
    /// # Errors
    /// What the file system says.
    fn replace(&self, name: &str, bytes: &mut dyn io::Read) -> io::Result<()>;

    /// Removes what an interrupted [`Storage::create`] or [`Storage::replace`] left.
    ///
    /// # Errors
    /// What the file system says.
    fn clean(&self) -> io::Result<()>;

    /// Opens a segment.
    ///
    /// # Errors
    /// What the file system says.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn SegmentFile>>;

    /// The queue of writes, made and used by one thread.
    ///
    /// # Errors
    /// When the wanted kind of queue cannot be had.
    fn queue(&self, in_flight_max: usize) -> io::Result<Box<dyn WriteQueue>>;
}

/// An open segment.
pub trait SegmentFile: Send + Sync {
    /// Reads as much as is there. Offset, length and memory are aligned to the write unit.
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// These bytes will be read next: whoever can, begins to fetch them.
    fn will_read(&self, _offset: u64, _bytes: u64) {}

    /// Writes durably; returns the bytes written.
    ///
    /// # Errors
    /// What the file system says.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Makes durable whatever was written, by whomever.
    ///
    /// # Errors
    /// What the file system says.
    fn sync(&self) -> io::Result<()>;

    /// The descriptor that io_uring needs.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// The name that [`crate::sim`] needs.
    fn simulated_name(&self) -> Option<&str> {
        None
    }
}

/// What a write carries.
#[derive(Debug, Clone)]
pub struct WriteBytes(Carried);

#[derive(Debug, Clone)]
enum Carried {
    Frame(Arc<Frame>),
    Header(Arc<Block>),
}

impl WriteBytes {
    pub(crate) fn frame(frame: &Arc<Frame>) -> Self {
        Self(Carried::Frame(Arc::clone(frame)))
    }

    /// The block is one write unit, or its first one counts.
    pub(crate) fn header(block: Block) -> Self {
        Self(Carried::Header(Arc::new(block)))
    }

    /// The bytes; they stay where they are as long as a clone of this lives.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Carried::Frame(frame) => frame.bytes(),
            Carried::Header(block) => &block.bytes()[..crate::format::WRITE_UNIT],
        }
    }
}

/// A durable write to be done.
pub struct Write {
    /// What the completion is known by.
    pub token: u64,
    /// Where to.
    pub file: Arc<dyn SegmentFile>,
    /// From which offset.
    pub offset: u64,
    /// What.
    pub bytes: WriteBytes,
}

/// A write that is over.
#[derive(Debug)]
pub struct Written {
    /// Which one.
    pub token: u64,
    /// How many bytes, or what went wrong.
    pub result: io::Result<usize>,
}

/// Durable writes on their way. They may complete in any order.
pub trait WriteQueue {
    /// How many may be on their way at once, at least 2: one of them is kept for segment headers.
    fn in_flight_max(&self) -> usize;

    /// Takes a write; never more than [`WriteQueue::in_flight_max`] at once. It may start only in the next `wait`.
    ///
    /// # Errors
    /// When the queue itself is broken.
    fn submit(&mut self, write: Write) -> io::Result<()>;

    /// Waits until a write is over, [`Notify::notify`] was called or the time is up; whichever comes first. May
    /// return early without a reason.
    ///
    /// # Errors
    /// When the queue itself is broken.
    fn wait(&mut self, timeout: Option<Duration>, over: &mut Vec<Written>) -> io::Result<()>;

    /// What ends a wait from another thread.
    fn notifier(&self) -> Arc<dyn Notify>;
}

/// Ends the wait of a [`WriteQueue`], this one or the next.
pub trait Notify: Send + Sync {
    /// Does it.
    fn notify(&self);
}
