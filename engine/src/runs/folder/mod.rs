//! Where runs live: a folder of files that are written once, from front to back, and then only read.
//!
//! What has been synced outlives a loss of power; a name only when the folder was synced after the name was made.

pub(crate) mod disk;
#[cfg(test)]
pub(crate) mod sim;

use std::io;
use std::path::PathBuf;

/// A folder without folders in it.
pub(crate) trait Folder: Send + Sync {
    /// How a file is named to people.
    fn path(&self, name: &str) -> PathBuf;

    fn list(&self) -> io::Result<Vec<String>>;

    /// A new, empty file. One that has the name already is emptied.
    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>>;

    fn open(&self, name: &str) -> io::Result<Box<dyn FileReader>>;

    /// Gives a file the name of another, which is gone, all at once.
    fn replace(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is being written.
pub(crate) trait FileWriter: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes all that was appended durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is read, from many threads.
pub(crate) trait FileReader: Send + Sync {
    fn bytes(&self) -> io::Result<u64>;

    /// Fills the buffer from `offset` on; a file that ends before is `UnexpectedEof`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// These bytes will be asked for soon. Advice, which may have no effect.
    fn will_read(&self, _offset: u64, _bytes: u64) {}
}
