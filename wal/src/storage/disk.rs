//! Segments as files in a folder.
//!
//! A segment is prepared under a temporary name: space allocated, zeros written, synced, renamed, the folder synced.
//! The zeros matter: overwriting blocks that were written before changes no metadata, so a synchronous write to a
//! prepared segment costs one write to the device and no journal.
//!
//! A recycled segment was written before, so it needs no zeros; it is renamed.
//!
//! Writes go past the page cache (`O_DIRECT | O_DSYNC`) where the file system allows it, through it otherwise.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::queue::BlockingQueue;
use super::{Access, SegmentFile, Storage, WriteQueue};
use crate::format::{WRITE_UNIT, segment_base};
use crate::options::Backend;
use crate::sys::buffer::Pool;
use crate::sys::call;
use crate::sys::uring::UringQueue;

/// What the name of a file ends with until it is whole.
const UNFINISHED: &str = ".tmp";

/// Zeros written at once while a segment is prepared: large enough for the disk's speed, small enough not to keep a
/// commit waiting behind it for long.
const ZEROING_BYTES: usize = 1 << 20;

/// Makes a folder and those that lead to it, as far as they are not there. The names of all that were made, and its own,
/// are durable when this returns: what is synced inside of a folder is lost with the folder's name.
///
/// # Errors
/// What the file system says.
pub fn make_folders(folder: &Path) -> io::Result<()> {
    let missing = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .count();
    fs::create_dir_all(folder)?;
    // The name of a folder stands in its parent.
    for folder in folder.canonicalize()?.ancestors().skip(1).take(missing.max(1)) {
        sync_folder(folder)?;
    }
    Ok(())
}

/// Makes the names in a folder durable, as they are now.
///
/// # Errors
/// What the file system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Tells the system that a file is read here and there: it reads nothing beside what is asked for.
pub fn reads_at_random(file: &File) {
    call::reads_at_random(file.as_fd());
}

/// Has the system read a part of a file ahead. Advice: that it is not taken changes nothing but the time.
pub fn will_read(file: &File, offset: u64, bytes: u64) {
    call::will_read(file.as_fd(), offset, bytes);
}

/// A folder.
pub struct DiskStorage {
    folder: PathBuf,
    backend: Backend,
    pool: Arc<Pool>,
}

impl DiskStorage {
    /// The folder as it is. Nothing is created.
    pub fn new(folder: &Path, backend: Backend) -> Self {
        Self {
            folder: folder.to_path_buf(),
            backend,
            pool: Pool::new(),
        }
    }

    /// Opens with direct I/O when that is possible.
    fn open_direct(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
        match options.custom_flags(flags | libc::O_DIRECT).open(path) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                options.custom_flags(flags).open(path)
            }
            opened => opened,
        }
    }

    /// Whether the file system opens segments for direct I/O.
    fn allows_direct(&self) -> bool {
        let segment = self.list().ok().and_then(|files| {
            let mut names = files.into_iter().map(|(name, _)| name);
            names.find(|name| segment_base(name).is_some())
        });
        segment.is_some_and(|name| {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECT)
                .open(self.path(&name))
                .is_ok()
        })
    }

    fn fill(&self, path: &Path, bytes: u64, header: &[u8]) -> io::Result<()> {
        let file = Self::open_direct(
            path,
            OpenOptions::new().write(true).create(true).truncate(true),
            0,
        )?;
        call::allocate(file.as_fd(), bytes)?;
        let mut block = self.pool.block(ZEROING_BYTES);
        let zeros = block.bytes_mut();
        zeros.fill(0);
        zeros[..header.len()].copy_from_slice(header);
        let mut offset = 0;
        while offset < bytes {
            let step = usize::try_from(bytes - offset).map_or(zeros.len(), |rest| rest.min(zeros.len()));
            file.write_all_at(&zeros[..step], offset)?;
            if offset == 0 {
                zeros[..header.len()].fill(0);
            }
            offset += step as u64;
        }
        file.sync_all()
    }

    /// Makes a file under a temporary name, durably, then gives it its own.
    fn finish(&self, name: &str, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let unfinished = self.path(&format!("{name}{UNFINISHED}"));
        let made = make(&unfinished).and_then(|()| fs::rename(&unfinished, self.path(name)));
        if let Err(error) = made {
            // Gives back the space; that the file is gone already, or cannot go, changes nothing.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        sync_folder(&self.folder)
    }
}

impl Storage for DiskStorage {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn make_folder(&self) -> io::Result<()> {
        match self.folder.is_dir() {
            true => Ok(()),
            false => make_folders(&self.folder),
        }
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) => files.push((name, metadata.len())),
                // A log in use renames and removes files.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str, bytes: u64, header: &[u8]) -> io::Result<()> {
        assert!(header.len() <= WRITE_UNIT);
        self.finish(name, |unfinished| self.fill(unfinished, bytes, header))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))?;
        sync_folder(&self.folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))?;
        sync_folder(&self.folder)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, bytes: &mut dyn io::Read) -> io::Result<()> {
        self.finish(name, |unfinished| {
            let mut file = File::create(unfinished)?;
            io::copy(bytes, &mut file)?;
            file.sync_all()
        })
    }

    fn clean(&self) -> io::Result<()> {
        for (name, _) in self.list()? {
            if name.ends_with(UNFINISHED) {
                fs::remove_file(self.path(&name))?;
            }
        }
        Ok(())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn SegmentFile>> {
        let path = self.path(name);
        let file = match access {
            Access::Sequential => File::open(&path)?,
            Access::Live => Self::open_direct(&path, OpenOptions::new().read(true), 0)?,
            Access::Write => {
                Self::open_direct(&path, OpenOptions::new().read(true).write(true), libc::O_DSYNC)?
            }
        };
        Ok(Arc::new(DiskFile { file }))
    }

    fn queue(&self, in_flight_max: usize) -> io::Result<Box<dyn WriteQueue>> {
        match self.backend {
            Backend::Blocking => Ok(Box::<BlockingQueue>::default()),
            Backend::IoUring => Ok(Box::new(UringQueue::new(in_flight_max)?)),
            // Through the page cache every write would take a kernel thread of its own to wait in.
            Backend::Auto if !self.allows_direct() => Ok(Box::<BlockingQueue>::default()),
            Backend::Auto => match UringQueue::new(in_flight_max) {
                Ok(queue) => Ok(Box::new(queue)),
                // Refused by the kernel, a container's filter or a limit: all the same here.
                Err(_) => Ok(Box::<BlockingQueue>::default()),
            },
        }
    }
}

struct DiskFile {
    file: File,
}

impl SegmentFile for DiskFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        call::will_read(self.file.as_fd(), offset, bytes);
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_all_that_lead_to_them() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("a/b/c");
        for _ in 0..2 {
            make_folders(&deep).unwrap();
            assert!(deep.is_dir());
        }
        make_folders(&place.path().join("a/x/../y")).unwrap();
        assert!(place.path().join("a/y").is_dir());
        fs::write(place.path().join("file"), "").unwrap();
        assert!(make_folders(&place.path().join("file")).is_err());
        assert!(make_folders(&place.path().join("file/below")).is_err());
    }
}
