//! Two folders read as one: a log's, and below it the archive of what the log's does not have any more.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Access, SegmentFile, Storage, WriteQueue};
use crate::format::segment_base;

/// The folders. Only for reading.
pub(crate) struct Layered {
    log: Arc<dyn Storage>,
    archive: Arc<dyn Storage>,
}

impl Layered {
    pub(crate) fn new(log: Arc<dyn Storage>, archive: Arc<dyn Storage>) -> Self {
        Self { log, archive }
    }

    fn has(storage: &dyn Storage, name: &str) -> bool {
        storage
            .list()
            .is_ok_and(|files| files.iter().any(|(found, _)| found == name))
    }

    fn read_only<T>() -> io::Result<T> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Storage for Layered {
    fn path(&self, name: &str) -> PathBuf {
        let archived = segment_base(name).is_some()
            && !Self::has(self.log.as_ref(), name)
            && Self::has(self.archive.as_ref(), name);
        match archived {
            true => self.archive.path(name),
            false => self.log.path(name),
        }
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = self.log.list()?;
        for (name, bytes) in self.archive.list()? {
            if segment_base(&name).is_some() && !files.iter().any(|(known, _)| *known == name) {
                files.push((name, bytes));
            }
        }
        Ok(files)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn SegmentFile>> {
        match self.log.open(name, access) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.archive.open(name, access),
            opened => opened,
        }
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.log.read(name)
    }

    fn make_folder(&self) -> io::Result<()> {
        Self::read_only()
    }

    fn create(&self, _: &str, _: u64, _: &[u8]) -> io::Result<()> {
        Self::read_only()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Self::read_only()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Self::read_only()
    }

    fn replace(&self, _: &str, _: &mut dyn io::Read) -> io::Result<()> {
        Self::read_only()
    }

    fn clean(&self) -> io::Result<()> {
        Self::read_only()
    }

    fn queue(&self, _: usize) -> io::Result<Box<dyn WriteQueue>> {
        Self::read_only()
    }
}
