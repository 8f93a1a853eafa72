//! A folder on the disk.
//!
//! Of many files only some are open at once: what was not read for the longest is closed, and opened again when it is read.
//!
//! Files are read a block here and a block there. The system is told so: else it reads more than it is asked for, and beyond memory that
//! is time of the disk and room in the page cache that other blocks need. Walks say themselves what they will read.

use super::{FileReader, FileWriter, Folder};
use parking_lot::{Mutex, RwLock};
use scry_wal::storage::disk::{reads_at_random, will_read};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Files that stay open. A process may have 1024 open where nobody has changed that, and connections need theirs.
const OPEN_FILES_MAX: usize = 400;

pub(crate) struct DiskFolder {
    path: PathBuf,
    open: Arc<OpenFiles>,
}

impl DiskFolder {
    /// The folder, made durably when it is not there.
    pub(crate) fn new(path: &Path) -> io::Result<DiskFolder> {
        scry_wal::storage::disk::make_folders(path)?;
        Ok(DiskFolder::existing(path))
    }
}

impl DiskFolder {
    /// A folder of which nothing is changed.
    pub(crate) fn existing(path: &Path) -> DiskFolder {
        DiskFolder {
            path: path.to_owned(),
            open: Arc::new(OpenFiles::new(OPEN_FILES_MAX)),
        }
    }
}

impl Folder for DiskFolder {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>> {
        let file = File::create(self.path(name))?;
        Ok(Box::new(DiskWriter { file }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn FileReader>> {
        let reader = DiskReader {
            slot: Arc::new(Slot {
                path: self.path(name),
                file: RwLock::new(None),
                is_used: AtomicBool::new(false),
            }),
            open: Arc::clone(&self.open),
        };
        reader.file()?;
        Ok(Box::new(reader))
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

struct DiskWriter {
    file: File,
}

impl FileWriter for DiskWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The files that are open, by the time since when.
struct OpenFiles {
    limit: usize,
    queue: Mutex<VecDeque<Weak<Slot>>>,
}

/// A file that may be open.
struct Slot {
    path: PathBuf,
    file: RwLock<Option<Arc<File>>>,
    /// It was read since it was last considered to be closed.
    is_used: AtomicBool,
}

struct DiskReader {
    slot: Arc<Slot>,
    open: Arc<OpenFiles>,
}

impl OpenFiles {
    fn new(limit: usize) -> OpenFiles {
        OpenFiles {
            limit,
            queue: Mutex::default(),
        }
    }

    /// Takes note of a file, and closes others when there are too many. Whoever reads one of these just now keeps it meanwhile.
    fn opened(&self, slot: &Arc<Slot>) {
        let mut queue = self.queue.lock();
        queue.push_back(Arc::downgrade(slot));
        if queue.len() > self.limit {
            queue.retain(|slot| slot.strong_count() > 0);
        }
        // Those that are read all the time do not keep it busy for ever.
        let mut patience = queue.len();
        while queue.len() > self.limit
            && let Some(oldest) = queue.pop_front()
        {
            let Some(slot) = oldest.upgrade() else { continue };
            if patience > 0 && slot.is_used.swap(false, Ordering::Relaxed) {
                patience -= 1;
                queue.push_back(oldest);
            } else {
                *slot.file.write() = None;
            }
        }
    }
}

impl DiskReader {
    fn file(&self) -> io::Result<Arc<File>> {
        self.slot.is_used.store(true, Ordering::Relaxed);
        if let Some(file) = &*self.slot.file.read() {
            return Ok(Arc::clone(file));
        }
        let opened = Arc::new(File::open(&self.slot.path)?);
        reads_at_random(&opened);
        let mut file = self.slot.file.write();
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        *file = Some(Arc::clone(&opened));
        drop(file);
        self.open.opened(&self.slot);
        Ok(opened)
    }
}

impl FileReader for DiskReader {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file()?.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file()?.read_exact_at(buffer, offset)
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        // Whoever reads them meets the error.
        if let Ok(file) = self.file() {
            will_read(&file, offset, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_of_many_files_are_open_and_all_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = DiskFolder::new(folder.path()).unwrap();
        disk.open = Arc::new(OpenFiles::new(5));
        let readers: Vec<(String, Box<dyn FileReader>)> = (0..30)
            .map(|number| {
                let name = format!("file {number:02}");
                disk.create(&name).unwrap().append(name.as_bytes()).unwrap();
                let reader = disk.open(&name).unwrap();
                (name, reader)
            })
            .collect();
        let is_open = |slot: &Weak<Slot>| slot.upgrade().is_some_and(|slot| slot.file.read().is_some());
        let open = || {
            let queue = disk.open.queue.lock();
            assert!(
                queue.iter().all(is_open),
                "a closed file is taken for an open one"
            );
            queue.len()
        };
        for round in 0..3 {
            for (name, reader) in &readers {
                let mut found = [0; 7];
                reader.will_read(0, 7);
                reader.read_at(0, &mut found).unwrap();
                assert_eq!(found, name.as_bytes(), "round {round}");
                assert_eq!(open(), 5);
            }
        }
        drop(readers);
        disk.open("file 01").unwrap();
        let left = disk.open.queue.lock().iter().filter(|slot| is_open(slot)).count();
        assert_eq!(left, 0, "dropped files are closed");
    }
}
