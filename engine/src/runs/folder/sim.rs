//! A folder in memory that fails when it is told to, and forgets what was not synced when the power goes.

use super::{FileReader, FileWriter, Folder};
use parking_lot::Mutex;
use scry_wal::sim::Random;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation has no effect and says so.
    Fails,
    /// It has its effect, in part where it writes, and says that it failed.
    FailsAfter,
    /// The power goes before it, and nothing works any more.
    Crash,
}

#[derive(Clone, Default)]
struct SimFile {
    bytes: Vec<u8>,
    /// What is durable.
    synced: usize,
}

#[derive(Default)]
struct Disk {
    files: Vec<SimFile>,
    /// Names as they are, and as they would be found.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    is_off: bool,
}

#[derive(Clone, Default)]
pub(crate) struct SimFolder {
    disk: Arc<Mutex<Disk>>,
}

fn failure() -> io::Error {
    io::Error::other("simulated failure")
}

impl Disk {
    /// Counts an operation, with what goes wrong with it.
    fn operation(&mut self) -> io::Result<bool> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            _ if self.is_off => Err(failure()),
            Some((at, Fault::Fails)) if at == number => Err(failure()),
            Some((at, Fault::FailsAfter)) if at == number => Ok(false),
            Some((at, Fault::Crash)) if at == number => {
                self.is_off = true;
                Err(failure())
            }
            _ => Ok(true),
        }
    }

    fn found(&self, name: &str) -> io::Result<usize> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn outcome(works: bool) -> io::Result<()> {
    if works { Ok(()) } else { Err(failure()) }
}

impl SimFolder {
    /// Lets the operation of this number go wrong; they are counted from 0.
    pub(crate) fn fail_at(&self, operation: u64, fault: Fault) {
        self.disk.lock().fault = Some((operation, fault));
    }

    /// Operations so far that change something.
    pub(crate) fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// The folder as it is found when the power comes back: what was not synced is there in part, or as other bytes, or
    /// not at all, and so is each name.
    pub(crate) fn after_crash(&self, seed: u64) -> SimFolder {
        let disk = self.disk.lock();
        let mut random = Random::new(seed);
        let mut names = disk.durable_names.clone();
        let all: Vec<&String> = disk.names.keys().chain(disk.durable_names.keys()).collect();
        for name in all {
            if random.below(2) == 0 {
                match disk.names.get(name) {
                    Some(file) => names.insert(name.clone(), *file),
                    None => names.remove(name),
                };
            }
        }
        let mut files = disk.files.clone();
        for file in &mut files {
            let unsynced = file.bytes.len() - file.synced;
            file.bytes
                .truncate(file.synced + random.below(unsynced as u64 + 1) as usize);
            let torn = random.below(3) == 0;
            for byte in &mut file.bytes[file.synced..] {
                *byte ^= if torn { random.next_number() as u8 } else { 0 };
            }
            file.synced = file.bytes.len();
        }
        let disk = Disk {
            files,
            durable_names: names.clone(),
            names,
            ..Disk::default()
        };
        SimFolder {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// Another folder with the same files.
    pub(crate) fn copy(&self) -> SimFolder {
        let disk = self.disk.lock();
        SimFolder {
            disk: Arc::new(Mutex::new(Disk {
                files: disk.files.clone(),
                names: disk.names.clone(),
                durable_names: disk.durable_names.clone(),
                ..Disk::default()
            })),
        }
    }

    /// Changes a file behind everybody's back.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk.lock();
        let file = disk.names[name];
        change(&mut disk.files[file].bytes);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.disk.lock().names.keys().cloned().collect()
    }
}

impl Folder for SimFolder {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>> {
        let mut disk = self.disk.lock();
        let works = disk.operation()?;
        let file = disk.files.len();
        disk.files.push(SimFile::default());
        disk.names.insert(name.to_owned(), file);
        outcome(works)?;
        Ok(Box::new(SimHandle {
            disk: Arc::clone(&self.disk),
            file,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn FileReader>> {
        let disk = self.disk.lock();
        let file = disk.found(name)?;
        Ok(Box::new(SimHandle {
            disk: Arc::clone(&self.disk),
            file,
        }))
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let works = disk.operation()?;
        let file = disk.found(from)?;
        disk.names.remove(from);
        disk.names.insert(to.to_owned(), file);
        outcome(works)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let works = disk.operation()?;
        disk.found(name)?;
        disk.names.remove(name);
        outcome(works)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let works = disk.operation()?;
        disk.durable_names = disk.names.clone();
        outcome(works)
    }
}

struct SimHandle {
    disk: Arc<Mutex<Disk>>,
    file: usize,
}

impl FileWriter for SimHandle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let works = disk.operation()?;
        let arrives = if works { bytes.len() } else { bytes.len() / 2 };
        disk.files[self.file].bytes.extend_from_slice(&bytes[..arrives]);
        outcome(works)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let works = disk.operation()?;
        let file = &mut disk.files[self.file];
        file.synced = file.bytes.len();
        outcome(works)
    }
}

impl FileReader for SimHandle {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.file].bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.lock();
        let bytes = &disk.files[self.file].bytes;
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = begin
            .checked_add(buffer.len())
            .and_then(|end| bytes.get(begin..end));
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        let end = offset.checked_add(bytes);
        let length = self.disk.lock().files[self.file].bytes.len() as u64;
        assert!(
            bytes > 0 && end.is_some_and(|end| end <= length),
            "what lies outside of a file is said to be read soon"
        );
    }
}
