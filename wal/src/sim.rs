//! A disk in memory that fails when it is told to. For tests of this crate and of those above.
//!
//! It keeps the contract of [`crate::storage`] and uses all of its freedom: writes complete in random order, a write
//! that was not complete when the power went may be there in whole, in part or not at all, sector by sector.
//! All randomness comes from a seed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::storage::queue::{BlockingQueue, Signal};
use crate::storage::{Access, Notify, SegmentFile, Storage, Write, WriteQueue, Written};

/// What a disk writes as one: all of it or nothing.
const SECTOR_BYTES: usize = 512;

/// How often a queue whose writes are held looks whether they still are.
const HELD_LOOK: Duration = Duration::from_millis(1);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The write fails and leaves nothing.
    WriteFails,
    /// The bytes arrive, but making them durable fails.
    SyncFails,
    /// Only so many bytes arrive.
    Short(usize),
    /// The power goes: this write and all others on their way are left to chance.
    Crash,
}

/// A small generator of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_number() % bound
    }
}

struct OnItsWay {
    id: u64,
    name: String,
    offset: u64,
    bytes: Vec<u8>,
}

struct Disk {
    files: BTreeMap<String, Vec<u8>>,
    free_bytes: u64,
    random: Random,
    /// After so many more completed writes, this.
    fault: Option<(u64, Fault)>,
    /// After so many more operations on files, this.
    file_fault: Option<(u64, Fault)>,
    /// Operations on files so far.
    file_operations: u64,
    opened: u64,
    on_their_way: Vec<OnItsWay>,
    next_id: u64,
    crashed: bool,
    /// No write completes.
    held: bool,
    /// Whether the log's writes come one after another, without a queue.
    blocking: bool,
}

impl Disk {
    fn begin(&mut self, name: &str, offset: u64, bytes: &[u8]) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.on_their_way.push(OnItsWay {
            id,
            name: name.to_owned(),
            offset,
            bytes: bytes.to_vec(),
        });
        id
    }

    /// Ends a write, as the fault that is due wants it.
    fn end(&mut self, id: u64) -> io::Result<usize> {
        let due = match &mut self.fault {
            Some((0, fault)) => Some(*fault),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if due == Some(Fault::Crash) {
            self.crashed = true;
        }
        self.check()?;
        let at = self.on_their_way.iter().position(|write| write.id == id);
        let at = at.ok_or_else(|| io::Error::other("no such write"))?;
        let write = self.on_their_way.swap_remove(at);
        let arrives = match due {
            Some(Fault::WriteFails) => 0,
            Some(Fault::Short(count)) => count.min(write.bytes.len()),
            _ => write.bytes.len(),
        };
        self.store(&write.name, write.offset, &write.bytes[..arrives]);
        match due {
            Some(Fault::WriteFails | Fault::SyncFails) => Err(io::Error::other("simulated failure")),
            _ => Ok(arrives),
        }
    }

    /// Does something to files, as the fault that is due wants it.
    fn operate(&mut self, operation: impl FnOnce(&mut Self)) -> io::Result<()> {
        self.check()?;
        self.file_operations += 1;
        let due = match &mut self.file_fault {
            Some((0, fault)) => Some(*fault),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        match due {
            Some(Fault::WriteFails | Fault::Short(_)) => Err(io::Error::other("simulated failure")),
            Some(Fault::SyncFails) => {
                operation(self);
                Err(io::Error::other("simulated failure"))
            }
            Some(Fault::Crash) => {
                if self.random.below(2) == 0 {
                    operation(self);
                }
                self.crashed = true;
                self.check()
            }
            None => {
                operation(self);
                Ok(())
            }
        }
    }

    fn store(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        if let Some(file) = self.files.get_mut(name) {
            let at = offset as usize;
            file[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.crashed {
            Err(io::Error::other("the power is gone"))
        } else {
            Ok(())
        }
    }
}

/// The disk.
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
    blocking: bool,
}

impl SimStorage {
    /// An empty disk. `blocking` chooses the queue that writes one after another.
    pub fn new(seed: u64, blocking: bool) -> Arc<Self> {
        Self::with_files(BTreeMap::new(), seed, blocking)
    }

    fn with_files(files: BTreeMap<String, Vec<u8>>, seed: u64, blocking: bool) -> Arc<Self> {
        let disk = Disk {
            files,
            free_bytes: u64::MAX,
            random: Random::new(seed),
            fault: None,
            file_fault: None,
            file_operations: 0,
            opened: 0,
            on_their_way: Vec::new(),
            next_id: 0,
            crashed: false,
            held: false,
            blocking,
        };
        Arc::new(Self {
            disk: Arc::new(Mutex::new(disk)),
            blocking,
        })
    }

    /// Lets the write after `writes` more ones, and all later ones, go wrong.
    pub fn fail_after(&self, writes: u64, fault: Fault) {
        self.disk.lock().fault = Some((writes, fault));
    }

    /// Lets the operation on files after `operations` more ones, and all later ones, go wrong: making, renaming and
    /// removing them, and writes that are not in a queue. Each of them is done or not.
    pub fn fail_files_after(&self, operations: u64, fault: Fault) {
        self.disk.lock().file_fault = Some((operations, fault));
    }

    /// How many operations on files there were.
    pub fn file_operations(&self) -> u64 {
        self.disk.lock().file_operations
    }

    /// How often a file was opened.
    pub fn opened(&self) -> u64 {
        self.disk.lock().opened
    }

    /// Keeps writes on their way, all of them, or lets them go. Not for the queue that writes one after another.
    pub fn hold_writes(&self, held: bool) {
        self.disk.lock().held = held;
    }

    /// Sets how many bytes new files may take.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.disk.lock().free_bytes = bytes;
    }

    /// The disk as it is found when the power comes back: of each write on its way any part may have arrived.
    #[must_use]
    pub fn after_crash(&self, seed: u64) -> Arc<Self> {
        let mut disk = self.disk.lock();
        disk.crashed = true;
        let mut random = Random::new(seed);
        for write in std::mem::take(&mut disk.on_their_way) {
            // Nothing, everything, or any sectors.
            let fate = random.below(3);
            for (index, sector) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
                if fate == 1 || (fate == 2 && random.below(2) == 1) {
                    let offset = write.offset + (index * SECTOR_BYTES) as u64;
                    disk.store(&write.name, offset, sector);
                }
            }
        }
        Self::with_files(disk.files.clone(), random.next_number(), self.blocking)
    }

    /// Another disk with the same files.
    #[must_use]
    pub fn copy(&self) -> Arc<Self> {
        Self::with_files(self.files(), 0, self.blocking)
    }

    /// All files.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.disk.lock().files.clone()
    }

    /// Changes files behind the log's back.
    pub fn edit(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        change(&mut self.disk.lock().files);
    }
}

impl Storage for SimStorage {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        Ok(self
            .disk
            .lock()
            .files
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
            .collect())
    }

    fn create(&self, name: &str, bytes: u64, header: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check()?;
        if disk.free_bytes < bytes {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let mut content = header.to_vec();
        content.resize(bytes as usize, 0);
        disk.operate(|disk| {
            disk.free_bytes -= bytes;
            disk.files.insert(name.to_owned(), content);
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        if !disk.files.contains_key(from) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        disk.operate(|disk| {
            let content = disk.files.remove(from).unwrap_or_default();
            disk.files.insert(to.to_owned(), content);
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        if !disk.files.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        disk.operate(|disk| {
            let content = disk.files.remove(name).unwrap_or_default();
            disk.free_bytes = disk.free_bytes.saturating_add(content.len() as u64);
        })
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.disk.lock().files.get(name).cloned())
    }

    fn make_folder(&self) -> io::Result<()> {
        self.disk.lock().check()
    }

    fn replace(&self, name: &str, bytes: &mut dyn io::Read) -> io::Result<()> {
        let mut content = Vec::new();
        bytes.read_to_end(&mut content)?;
        let mut disk = self.disk.lock();
        let grown = (content.len() as u64).saturating_sub(disk.files.get(name).map_or(0, Vec::len) as u64);
        if disk.free_bytes < grown {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        disk.operate(|disk| {
            disk.free_bytes -= grown;
            disk.files.insert(name.to_owned(), content);
        })
    }

    fn clean(&self) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Arc<dyn SegmentFile>> {
        let mut disk = self.disk.lock();
        if !disk.files.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        disk.opened += 1;
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.disk),
            name: name.to_owned(),
        }))
    }

    fn queue(&self, in_flight_max: usize) -> io::Result<Box<dyn WriteQueue>> {
        if self.blocking {
            return Ok(Box::<BlockingQueue>::default());
        }
        Ok(Box::new(SimQueue {
            disk: Arc::clone(&self.disk),
            pending: Vec::new(),
            in_flight_max,
            signal: Arc::default(),
        }))
    }
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    name: String,
}

impl SegmentFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let disk = self.disk.lock();
        let file = disk
            .files
            .get(&self.name)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let rest = file.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        disk.check()?;
        if !disk.blocking {
            // None of the log's writes, which go through the queue.
            disk.operate(|disk| disk.store(&self.name, offset, bytes))?;
            return Ok(bytes.len());
        }
        let id = disk.begin(&self.name, offset, bytes);
        disk.end(id)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.lock().check()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn simulated_name(&self) -> Option<&str> {
        Some(&self.name)
    }
}

/// Completes writes in random order, and lets some wait so that several are on their way.
struct SimQueue {
    disk: Arc<Mutex<Disk>>,
    /// The token and the id of each write on its way.
    pending: Vec<(u64, u64)>,
    in_flight_max: usize,
    signal: Arc<Signal>,
}

impl WriteQueue for SimQueue {
    fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    fn submit(&mut self, write: Write) -> io::Result<()> {
        let name = write
            .file
            .simulated_name()
            .ok_or_else(|| io::Error::other("not a simulated file"))?;
        let mut disk = self.disk.lock();
        disk.check()?;
        let id = disk.begin(name, write.offset, write.bytes.bytes());
        self.pending.push((write.token, id));
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, over: &mut Vec<Written>) -> io::Result<()> {
        if self.pending.is_empty() {
            self.signal.wait(timeout);
            return Ok(());
        }
        let mut disk = self.disk.lock();
        disk.check()?;
        if disk.held {
            drop(disk);
            // Whoever lets the writes go does not know this queue: it looks again.
            self.signal.wait(Some(HELD_LOOK));
        } else if disk.random.below(4) == 0 {
            let at = disk.random.below(self.pending.len() as u64) as usize;
            let (token, id) = self.pending.swap_remove(at);
            let result = disk.end(id);
            over.push(Written { token, result });
        }
        Ok(())
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        Arc::<Signal>::clone(&self.signal)
    }
}
