//! The promise of the log against a disk that may do anything it is allowed to: what was acknowledged is there, what was
//! not is there in whole or not at all, and the order is the order of the appends.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::{numbers, open_on, record};
use proptest::prelude::*;
use scry_wal::sim::{Fault, Random, SimStorage};
use scry_wal::storage::{Access, SegmentFile, Storage, WriteQueue};
use scry_wal::verify::verify_on;
use scry_wal::{Backend, Error, Log, LogOptions, Lsn};

fn options() -> LogOptions {
    // A simulated disk is quick, but its writes should overtake each other.
    LogOptions {
        min_in_flight: 6,
        recent_bytes: 32 << 10,
        ..common::options(Backend::Auto)
    }
}

/// Appends a transaction of some records, all in one reservation.
fn transaction(log: &Log, random: &mut Random, next: &mut u64) -> Result<Vec<(Lsn, u64)>, Error> {
    let mut bytes = Vec::new();
    let mut places = Vec::new();
    // Mostly small; now and then more than a quarter of a segment.
    let large = random.below(20) == 0;
    for _ in 0..=random.below(3) {
        let size = if large {
            random.below(9_000)
        } else {
            random.below(400)
        };
        places.push((bytes.len() as u64, *next));
        bytes.extend_from_slice(&record(*next, size as usize));
        *next += 1;
    }
    log.wait_room()?;
    let mut appender = log.lock()?;
    let base = appender.reserve(bytes.len())?;
    appender.put(&bytes, places.len() as u32, false);
    Ok(places
        .into_iter()
        .map(|(offset, number)| (base.plus(offset), number))
        .collect())
}

/// What one life of the log leaves for the next one to be checked against.
#[derive(Default)]
struct Life {
    /// Transactions in the order in which they were appended.
    appended: Vec<Vec<(Lsn, u64)>>,
    /// How many of them were acknowledged.
    acknowledged: usize,
    /// What a tail reader saw.
    seen: Vec<(Lsn, u64)>,
}

fn live(log: &Log, random: &mut Random, next: &mut u64) -> Life {
    let mut life = Life::default();
    let mut tail = log.tail(log.durable_lsn());
    for _ in 0..random.below(120) {
        let Ok(places) = transaction(log, random, next) else {
            break;
        };
        let last = places[places.len() - 1].0;
        life.appended.push(places);
        if random.below(4) == 0 && log.wait_durable(last).is_ok() {
            life.acknowledged = life.appended.len();
        }
        if random.below(8) == 0 {
            while let Ok(Some(frame)) = tail.next(Duration::ZERO) {
                life.seen.extend(numbers(&frame));
            }
        }
    }
    if random.below(2) == 0 && log.close().is_ok() {
        life.acknowledged = life.appended.len();
    }
    while let Ok(Some(frame)) = tail.next(Duration::ZERO) {
        life.seen.extend(numbers(&frame));
    }
    life
}

fn crash_and_recover_often(seed: u64, blocking: bool) {
    let mut random = Random::new(seed);
    let mut disk = SimStorage::new(random.next_number(), blocking);
    let mut history: Vec<(Lsn, u64)> = Vec::new();
    let mut next = 0;
    let mut restart = Lsn::ZERO;
    let options = |restart| LogOptions { restart, ..options() };
    for _ in 0..6 {
        // Sometimes so early that opening itself does not survive.
        disk.fail_after(random.below(100), Fault::Crash);
        let opened = open_on(
            Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>,
            options(restart),
        );
        let life = match &opened {
            Ok((log, found)) => {
                assert_eq!(found, &history, "seed {seed}");
                live(log, &mut random, &mut next)
            }
            Err(Error::Poisoned { .. }) => Life::default(),
            Err(error) => panic!("seed {seed}: {error}"),
        };
        disk = disk.after_crash(random.next_number());
        drop(opened);
        // What is there now, seen by one that changes nothing.
        let report = verify_on(&(Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>)).unwrap();
        assert_eq!(report.problem, None, "seed {seed}");
        let copy = disk.copy();
        let (log, found) = open_on(copy, options(restart)).unwrap();
        drop(log);
        assert_eq!(report.records, found.len() as u64, "seed {seed}");
        assert!(
            found.starts_with(&history),
            "seed {seed}: what was recovered once is there ever after"
        );
        let new = &found[history.len()..];
        let acknowledged: usize = life.appended[..life.acknowledged].iter().map(Vec::len).sum();
        let all: Vec<_> = life.appended.iter().flatten().copied().collect();
        assert!(
            new.len() >= acknowledged,
            "seed {seed}: acknowledged is recovered"
        );
        assert!(all.starts_with(new), "seed {seed}: order and places are kept");
        assert!(
            new.starts_with(&life.seen),
            "seed {seed}: what a tail reader saw is durable"
        );
        let mut whole = 0;
        for transaction in &life.appended {
            if whole < new.len() {
                whole += transaction.len();
            }
        }
        assert_eq!(
            whole,
            new.len(),
            "seed {seed}: a transaction is there in whole or not at all"
        );
        history = found;
        // Now and then somebody keeps what the log amounts to, and its first segments go.
        if !history.is_empty() && random.below(3) == 0 {
            restart = history[random.below(history.len() as u64) as usize].0;
            let base = restart.get() - restart.get() % options(restart).segment_bytes;
            disk.edit(|files| files.retain(|name, _| *name >= format!("{base:016x}.wal")));
            history.retain(|(lsn, _)| lsn.get() >= base);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_is_recovered_and_the_rest_is_all_or_nothing(seed in any::<u64>(), blocking in any::<bool>()) {
        crash_and_recover_often(seed, blocking);
    }

    #[test]
    fn a_flipped_bit_is_refused_or_was_not_part_of_the_log(seed in any::<u64>(), flips in proptest::collection::vec(any::<u64>(), 30)) {
        let mut random = Random::new(seed);
        let disk = SimStorage::new(seed, false);
        let (log, _) = open_on(Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>, options()).unwrap();
        let mut next = 0;
        let life = live(&log, &mut random, &mut next);
        log.close().unwrap();
        let written: Vec<_> = life.appended.into_iter().flatten().collect();
        for flip in flips {
            let damaged = disk.copy();
            damaged.edit(|files| {
                let count = files.len() as u64;
                let file = files.values_mut().nth((flip % count) as usize).unwrap();
                let at = (flip / count) as usize % file.len();
                file[at] ^= 1 << (flip % 8);
            });
            let before = damaged.files();
            match open_on(Arc::<SimStorage>::clone(&damaged) as Arc<dyn Storage>, options()) {
                Ok((log, found)) => {
                    prop_assert_eq!(&found, &written);
                    drop(log);
                }
                Err(Error::Damaged { .. } | Error::NewerFormat { .. }) => {
                    prop_assert_eq!(before, damaged.files(), "nothing was changed");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_failed_write_poisons_the_log_and_nothing_more_is_acknowledged() {
    for blocking in [false, true] {
        for fault in [
            Fault::WriteFails,
            Fault::SyncFails,
            Fault::Short(0),
            Fault::Short(1000),
        ] {
            let disk = SimStorage::new(7, blocking);
            let (log, _) = open_on(Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>, options()).unwrap();
            let mut acknowledged = Vec::new();
            let mut tail = log.tail(log.durable_lsn());
            disk.fail_after(5, fault);
            let error = loop {
                let number = acknowledged.len() as u64;
                let lsn = match common::append(&log, number, 100) {
                    Ok(lsn) => lsn,
                    Err(error) => break error,
                };
                match log.wait_durable(lsn) {
                    Ok(()) => acknowledged.push((lsn, number)),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, Error::Poisoned { .. }), "{fault:?}: {error}");
            assert!(log.poisoned().unwrap().contains("write"), "{:?}", log.poisoned());
            assert!(matches!(log.lock(), Err(Error::Poisoned { .. })));
            assert!(matches!(log.wait_room(), Err(Error::Poisoned { .. })));
            assert!(matches!(
                log.wait_durable(log.durable_lsn()),
                Err(Error::Poisoned { .. })
            ));
            // What was acknowledged can still be read, and waiting for it still succeeds.
            log.wait_durable(acknowledged[0].0).unwrap();
            let mut seen = Vec::new();
            while let Some(frame) = tail.next(Duration::ZERO).unwrap() {
                seen.extend(numbers(&frame));
            }
            assert_eq!(seen, acknowledged);
            assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
            drop(log);
            let (_log, found) = open_on(disk.after_crash(1), options()).unwrap();
            assert!(found.starts_with(&acknowledged), "{fault:?}");
        }
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room_and_loses_nothing() {
    let disk = SimStorage::new(7, false);
    // The first segment, the one that is prepared behind it, and no more.
    disk.set_free_bytes(2 * (64 << 10));
    let (log, _) = open_on(Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>, options()).unwrap();
    let mut written = Vec::new();
    let refused = loop {
        let number = written.len() as u64;
        match common::append(&log, number, 3000) {
            Ok(lsn) => written.push((lsn, number)),
            Err(error) => break error,
        }
        assert!(written.len() < 100);
    };
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
    assert_eq!(refused.class(), scry_wal::ErrorClass::Retry);
    assert_eq!(log.poisoned(), None);
    // All that was taken has room.
    log.wait_durable(written[written.len() - 1].0).unwrap();
    disk.set_free_bytes(1 << 30);
    let number = written.len() as u64;
    // The helper tries again by itself; until then the refusal stands.
    let lsn = loop {
        match common::append(&log, number, 3000) {
            Ok(lsn) => break lsn,
            Err(Error::DiskFull { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    written.push((lsn, number));
    log.close().unwrap();
    let (_log, found) = open_on(disk, options()).unwrap();
    assert_eq!(found, written);
}

#[test]
fn a_log_on_a_full_disk_opens_for_reading() {
    let disk = SimStorage::new(7, false);
    disk.set_free_bytes(2 * (64 << 10));
    let (log, _) = open_on(Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>, options()).unwrap();
    let mut written = Vec::new();
    while let Ok(lsn) = common::append(&log, 5, 4000) {
        written.push((lsn, 5));
    }
    drop(log);
    for _ in 0..20 {
        // Each opening takes a write unit for its epoch until none is left.
        let (log, found) = open_on(Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>, options()).unwrap();
        assert_eq!(found, written);
        assert!(matches!(
            log.lock().unwrap().reserve(40_000),
            Err(Error::DiskFull { .. })
        ));
        log.close().unwrap();
    }
}

/// The read that finds the end is followed by appends, so what is read next is newer than what was read before.
struct Meddling {
    disk: Arc<SimStorage>,
    log: Arc<Log>,
}

struct MeddlingFile {
    file: Arc<dyn SegmentFile>,
    log: Arc<Log>,
}

impl Storage for Meddling {
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.disk.list()
    }
    fn create(&self, name: &str, bytes: u64, header: &[u8]) -> io::Result<()> {
        self.disk.create(name, bytes, header)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.read(name)
    }
    fn make_folder(&self) -> io::Result<()> {
        self.disk.make_folder()
    }
    fn replace(&self, name: &str, bytes: &mut dyn io::Read) -> io::Result<()> {
        self.disk.replace(name, bytes)
    }
    fn clean(&self) -> io::Result<()> {
        self.disk.clean()
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn SegmentFile>> {
        let file = self.disk.open(name, access)?;
        Ok(Arc::new(MeddlingFile {
            file,
            log: Arc::clone(&self.log),
        }))
    }
    fn queue(&self, in_flight_max: usize) -> io::Result<Box<dyn WriteQueue>> {
        self.disk.queue(in_flight_max)
    }
}

impl SegmentFile for MeddlingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(offset, buffer)?;
        // What was read is the segment at whose end the log stands: now it goes on into the next one.
        if buffer[..count].ends_with(&[0; 8192]) && self.log.durable_lsn() < Lsn::new(1 << 20) {
            for number in 0..20 {
                let lsn = common::append(&self.log, number, 3_500).unwrap();
                self.log.wait_durable(lsn).unwrap();
            }
        }
        Ok(count)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[test]
fn a_log_that_is_written_while_it_is_checked_is_not_called_damaged() {
    let disk = SimStorage::new(7, false);
    let (log, _) = open_on(Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>, options()).unwrap();
    // Several segments exist from the beginning, so that a check looks into those that are entered meanwhile.
    // Each in a frame of its own: where the log ends must not depend on how the writer packs them.
    for number in 0..55 {
        let lsn = common::append(&log, number, 3_500).unwrap();
        log.wait_durable(lsn).unwrap();
    }
    // The log stands in the fourth segment now, and the fifth is being prepared.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while disk
        .list()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.ends_with(".wal"))
        .count()
        < 5
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the next segment was never prepared"
        );
        std::thread::yield_now();
    }
    let storage: Arc<dyn Storage> = Arc::new(Meddling {
        disk,
        log: Arc::new(log),
    });
    let report = verify_on(&storage).unwrap();
    assert_eq!(report.problem, None);
    assert!(report.records > 55, "{report:?}");
}
