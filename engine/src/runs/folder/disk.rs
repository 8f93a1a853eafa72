//! A folder on the disk.

use super::{FileReader, FileWriter, Folder};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) struct DiskFolder {
    path: PathBuf,
}

impl DiskFolder {
    /// The folder, made durably when it is not there.
    pub(crate) fn new(path: &Path) -> io::Result<DiskFolder> {
        scry_wal::storage::disk::make_folders(path)?;
        Ok(DiskFolder {
            path: path.to_owned(),
        })
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
        let file = File::open(self.path(name))?;
        Ok(Box::new(DiskReader { file }))
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

struct DiskReader {
    file: File,
}

impl FileReader for DiskReader {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}
