//! Sealed segments in an archive: copied before they go, byte for byte, and brought back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::harm::{name, storage};
use common::{SEGMENT, TIME, base, fill_wide, numbers, open, open_on, options};
use scry_wal::archive::{restore, restore_on};
use scry_wal::sim::{Fault, SimStorage};
use scry_wal::{Archive, Backend, Error, Flaw, Log, LogOptions, Lsn, Retention, inspect, verify_with};

type Written = Vec<(Lsn, u64)>;

fn with(archive: Option<Archive>, restart: Lsn) -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT,
        retention: Retention::bytes(0),
        archive,
        restart,
        ..options(Backend::Auto)
    }
}

/// A log and its archive, on two disks.
struct Pair {
    log: Arc<SimStorage>,
    archive: Arc<SimStorage>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        Self {
            log: SimStorage::new(seed, false),
            archive: SimStorage::new(seed + 1000, false),
        }
    }

    fn archive(&self) -> Archive {
        Archive::on(storage(&self.archive))
    }

    fn open(&self, restart: Lsn) -> Result<(Log, Written), Error> {
        open_on(storage(&self.log), with(Some(self.archive()), restart))
    }

    /// What the log has when all of it is brought back.
    fn restored(&self) -> Written {
        restore_on(&self.archive(), &storage(&self.log), Lsn::ZERO).unwrap();
        let (log, found) = self.open(Lsn::ZERO).unwrap();
        drop(log);
        found
    }
}

fn segments(disk: &SimStorage) -> BTreeMap<String, Vec<u8>> {
    let mut files = disk.files();
    files.retain(|name, _| name.ends_with(".wal"));
    files
}

/// A closed log of forty records; its first segments are in the archive and nowhere else.
fn archived() -> (Pair, Written) {
    let pair = Pair::new(1);
    let (log, _) = pair.open(Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..40);
    log.recycle(written[30].0, TIME).unwrap();
    log.close().unwrap();
    (pair, written)
}

fn damaged(refused: Error) -> (Lsn, Flaw) {
    match refused {
        Error::Damaged { place, flaw, .. } => (place.lsn, flaw),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_sealed_is_in_the_archive_byte_for_byte_before_it_goes() {
    let pair = Pair::new(1);
    let (log, _) = pair.open(Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..40);
    let whole = segments(&pair.log);
    let upto = written[30].0;
    let done = log.recycle(upto, TIME).unwrap();
    assert_eq!(done.begin, base(upto));
    let last = base(written[39].0);
    assert_eq!(log.archive_sealed().unwrap(), Some(last));
    let archived = segments(&pair.archive);
    assert_eq!(
        archived.len() as u64,
        last.get() / SEGMENT,
        "also what did not go yet"
    );
    for (name, bytes) in archived {
        assert!(whole[&name] == bytes, "{name}");
    }
    log.close().unwrap();
    drop(log);
    assert_eq!(pair.restored(), written);
}

#[test]
fn everything_is_archived_though_everything_is_kept() {
    let pair = Pair::new(1);
    let options = LogOptions {
        retention: Retention::Everything,
        ..with(Some(pair.archive()), Lsn::ZERO)
    };
    let (log, _) = open_on(storage(&pair.log), options).unwrap();
    let written = fill_wide(&log, 0..20);
    assert_eq!(log.recycle(Lsn::ZERO, TIME).unwrap().begin, Lsn::ZERO);
    assert_eq!(
        segments(&pair.archive).len() as u64,
        written[19].0.get() / SEGMENT
    );
}

#[test]
fn what_was_archived_may_be_carried_away_and_is_not_copied_again() {
    let (pair, written) = archived();
    pair.archive.edit(BTreeMap::clear);
    let (log, _) = pair.open(written[30].0).unwrap();
    let more = fill_wide(&log, 40..50);
    log.recycle(written[30].0, TIME).unwrap();
    let first = segments(&pair.archive).into_keys().next().unwrap();
    assert!(first > name(written[30].0.get() / SEGMENT), "{first}");
    assert!(first <= name(more[0].0.get() / SEGMENT), "{first}");
}

#[test]
fn nothing_goes_while_it_cannot_be_archived_and_the_log_goes_on() {
    let pair = Pair::new(1);
    let (log, _) = pair.open(Lsn::ZERO).unwrap();
    let mut written = fill_wide(&log, 0..40);
    // Behind these the log goes on by itself.
    let end = name(written[39].0.get() / SEGMENT);
    let sealed = || {
        let mut found = segments(&pair.log);
        found.retain(|name, _| *name < end);
        found
    };
    let before = sealed();
    // Room for two segments.
    pair.archive.set_free_bytes(2 * SEGMENT + 100);
    match log.recycle(written[30].0, TIME) {
        Err(Error::Io { path, source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
            assert!(path.ends_with(name(2)), "{path:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(sealed() == before, "something of the log has changed");
    assert_eq!(log.begin(), Lsn::ZERO);
    assert_eq!(log.poisoned(), None);
    written.extend(fill_wide(&log, 40..45));
    pair.archive.set_free_bytes(u64::MAX);
    assert_eq!(
        log.recycle(written[30].0, TIME).unwrap().begin,
        base(written[30].0)
    );
    log.close().unwrap();
    drop(log);
    assert_eq!(pair.restored(), written);
}

#[test]
fn wherever_the_power_goes_nothing_is_lost_between_log_and_archive() {
    for fault in [Fault::Crash, Fault::WriteFails, Fault::SyncFails] {
        for operation in 0..24 {
            let pair = Pair::new(operation);
            let (log, _) = pair.open(Lsn::ZERO).unwrap();
            let written = fill_wide(&log, 0..40);
            // The first half on the archive's disk, the second on the log's.
            match operation < 10 {
                true => pair.archive.fail_files_after(operation, fault),
                false => pair.log.fail_files_after(operation - 10, fault),
            }
            let _ = log.recycle(written[30].0, TIME);
            let pair = Pair {
                log: pair.log.after_crash(operation),
                archive: pair.archive.after_crash(operation),
            };
            drop(log);
            let (log, found) = pair.open(written[30].0).unwrap();
            assert!(!found.is_empty());
            log.recycle(written[30].0, TIME).unwrap();
            assert_eq!(log.begin(), base(written[30].0), "{fault:?} {operation}");
            log.close().unwrap();
            drop(log);
            assert_eq!(pair.restored(), written, "{fault:?} {operation}");
        }
    }
}

#[test]
fn a_damaged_segment_is_neither_archived_nor_recycled() {
    let pair = Pair::new(1);
    let (log, _) = pair.open(Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..40);
    pair.log
        .edit(|files| files.get_mut(&name(1)).unwrap()[9_000] ^= 1);
    let (lsn, _) = damaged(log.recycle(written[30].0, TIME).unwrap_err());
    assert_eq!(lsn, Lsn::new(SEGMENT));
    assert_eq!(
        segments(&pair.archive).into_keys().collect::<Vec<_>>(),
        [name(0)],
        "what stands before it is"
    );
    assert!(segments(&pair.log).contains_key(&name(1)));
    assert_eq!(log.begin(), Lsn::ZERO);
}

#[test]
fn an_archive_of_another_database_or_history_is_refused_and_left_as_it_is() {
    let (other, _) = archived();
    let pair = Pair {
        log: SimStorage::new(2, false),
        archive: other.archive,
    };
    let (log, _) = pair.open(Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..40);
    let before = pair.archive.files();
    let refused = damaged(log.recycle(written[30].0, TIME).unwrap_err());
    assert_eq!(refused, (Lsn::ZERO, Flaw::Foreign));
    assert_eq!(pair.archive.files(), before);
    drop(log);

    // A copy of the log goes on by itself, and both archive to the same folder.
    let pair = Pair::new(3);
    let (log, _) = pair.open(Lsn::ZERO).unwrap();
    fill_wide(&log, 0..3);
    log.close().unwrap();
    drop(log);
    let copy = Pair {
        log: pair.log.copy(),
        archive: Arc::clone(&pair.archive),
    };
    for (pair, numbers) in [(&pair, 10..40), (&copy, 50..80)] {
        let (log, _) = pair.open(Lsn::ZERO).unwrap();
        fill_wide(&log, numbers.clone());
        let before = pair.archive.files();
        match (log.archive_sealed(), numbers.start) {
            (Ok(Some(_)), 10) => {}
            (Err(error), 50) => {
                assert_eq!(damaged(error), (Lsn::ZERO, Flaw::ChainLink));
                assert_eq!(pair.archive.files(), before);
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_copy_that_was_damaged_before_its_position_was_durable_is_made_again() {
    let pair = Pair::new(1);
    let (log, _) = pair.open(Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..40);
    let crashed = pair.log.after_crash(1);
    drop(log);
    for (segment, at) in [(0, 9_000), (1, 20), (2, 5_000)] {
        let whole = segments(&crashed);
        pair.archive.edit(|files| {
            let mut copy = whole[&name(segment)].clone();
            copy[at] ^= 1;
            files.insert(name(segment), copy);
        });
    }
    let pair = Pair {
        log: crashed,
        archive: pair.archive,
    };
    let (log, _) = pair.open(Lsn::ZERO).unwrap();
    log.recycle(written[30].0, TIME).unwrap();
    log.close().unwrap();
    drop(log);
    assert_eq!(pair.restored(), written);
}

#[test]
fn what_cannot_be_brought_back_is_refused_and_no_file_is_made() {
    type Harm = fn(&mut BTreeMap<String, Vec<u8>>);
    let harms: [(&str, Harm, Lsn, Flaw); 3] = [
        (
            "a gap at the end",
            |files| {
                let last = files.keys().next_back().unwrap().clone();
                let end = u64::from_str_radix(&last[..16], 16).unwrap();
                let mut segment = end;
                while segment >= 2 * SEGMENT {
                    files.remove(&name(segment / SEGMENT));
                    segment -= SEGMENT;
                }
            },
            Lsn::new(2 * SEGMENT),
            Flaw::MissingSegment,
        ),
        (
            "a gap",
            |files| assert!(files.remove(&name(1)).is_some()),
            Lsn::new(SEGMENT),
            Flaw::MissingSegment,
        ),
        (
            "two swapped",
            |files| {
                let (one, two) = (files[&name(1)].clone(), files[&name(2)].clone());
                files.insert(name(1), two);
                files.insert(name(2), one);
            },
            Lsn::new(SEGMENT),
            Flaw::Misplaced(Lsn::new(2 * SEGMENT)),
        ),
    ];
    for (what, harm, lsn, flaw) in harms {
        let (pair, _) = archived();
        pair.archive.edit(harm);
        let before = pair.log.files();
        let refused = restore_on(&pair.archive(), &storage(&pair.log), Lsn::ZERO).unwrap_err();
        assert_eq!(damaged(refused), (lsn, flaw), "{what}");
        assert_eq!(pair.log.files(), before, "{what}");
    }
    let (pair, _) = archived();
    pair.archive
        .edit(|files| files.get_mut(&name(2)).unwrap()[9_000] ^= 1);
    let before = pair.log.files();
    let refused = restore_on(&pair.archive(), &storage(&pair.log), Lsn::ZERO).unwrap_err();
    assert_eq!(base(damaged(refused).0), Lsn::new(2 * SEGMENT));
    assert_eq!(pair.log.files(), before);
    // What stands behind the damage can be had.
    let back = restore_on(&pair.archive(), &storage(&pair.log), Lsn::new(3 * SEGMENT)).unwrap();
    assert_eq!(back.begin, Lsn::new(3 * SEGMENT));

    let (pair, _) = archived();
    pair.archive
        .edit(|files| assert!(files.remove(&name(0)).is_some()));
    let refused = restore_on(&pair.archive(), &storage(&pair.log), Lsn::new(5)).unwrap_err();
    assert!(
        matches!(refused, Error::Gone { begin, .. } if begin.get() == SEGMENT),
        "{refused}"
    );

    let (other, _) = archived();
    let before = pair.log.files();
    let refused = restore_on(&other.archive(), &storage(&pair.log), Lsn::ZERO).unwrap_err();
    assert_eq!(damaged(refused).1, Flaw::Foreign);
    assert_eq!(pair.log.files(), before);
}

#[test]
fn a_restoration_that_was_interrupted_leaves_no_gap_and_is_finished_by_the_next() {
    for operation in 0..8 {
        let (pair, written) = archived();
        pair.log.fail_files_after(operation, Fault::Crash);
        let _ = restore_on(&pair.archive(), &storage(&pair.log), Lsn::ZERO);
        let pair = Pair {
            log: pair.log.after_crash(operation),
            archive: pair.archive,
        };
        let (log, found) = open_on(storage(&pair.log.copy()), with(None, written[30].0)).unwrap();
        assert!(found.ends_with(&written[30..]), "{operation}");
        drop(log);
        assert_eq!(pair.restored(), written, "{operation}");
    }
}

#[test]
fn an_archive_alone_is_a_log_up_to_its_last_segment() {
    let (pair, written) = archived();
    let end = segments(&pair.archive).len() as u64 * SEGMENT;
    let pair = Pair {
        log: SimStorage::new(9, false),
        archive: pair.archive,
    };
    let back = restore_on(&pair.archive(), &storage(&pair.log), Lsn::new(SEGMENT + 5)).unwrap();
    assert_eq!((back.begin.get(), back.segments), (SEGMENT, end / SEGMENT - 1));
    let (log, found) = pair.open(Lsn::new(SEGMENT)).unwrap();
    let expected: Vec<_> = written
        .iter()
        .copied()
        .filter(|(lsn, _)| (SEGMENT..end).contains(&lsn.get()))
        .collect();
    assert_eq!(found, expected);
    let more = fill_wide(&log, 90..95);
    log.close().unwrap();
    drop(log);
    let (_log, found) = open_on(storage(&pair.log), with(None, Lsn::new(SEGMENT))).unwrap();
    assert_eq!(found, [expected, more].concat());
}

#[test]
fn the_archives_position_is_nobody_elses_and_goes_with_the_archive() {
    let (pair, written) = archived();
    let (log, _) = pair.open(written[30].0).unwrap();
    assert!(matches!(
        log.consumers().register("archive", log.begin()),
        Err(Error::Consumer { .. })
    ));
    let advanced = log.consumers().advance("archive", written[39].0);
    assert!(matches!(advanced, Err(Error::Consumer { .. })), "{advanced:?}");
    let removed = log.consumers().remove("archive");
    assert!(matches!(removed, Err(Error::Consumer { .. })), "{removed:?}");
    assert_eq!(log.consumers().list().len(), 1);
    drop(log);
    let (log, _) = open_on(storage(&pair.log), with(None, written[30].0)).unwrap();
    assert_eq!(log.consumers().list(), []);
    assert_eq!(log.archive_sealed().unwrap(), None);
}

fn read(dir: &Path, archive: Option<&Path>, from: Lsn) -> Written {
    inspect::frames_with(dir, archive, from)
        .unwrap()
        .flat_map(|frame| numbers(&frame.unwrap()))
        .collect()
}

#[test]
fn a_folder_and_its_archive_are_read_and_checked_as_one_and_brought_together_again() {
    for backend in [Backend::Blocking, Backend::Auto] {
        let place = tempfile::tempdir().unwrap();
        let (dir, archive) = (place.path().join("wal"), place.path().join("far/archive"));
        let with = |restart| LogOptions {
            backend,
            ..with(Some(Archive::folder(&archive)), restart)
        };
        let (log, _) = open(&dir, with(Lsn::ZERO)).unwrap();
        let mut written = fill_wide(&log, 0..30);
        log.recycle(written[29].0, TIME).unwrap();
        written.extend(fill_wide(&log, 30..60));
        log.recycle(written[50].0, TIME).unwrap();
        log.close().unwrap();
        drop(log);
        assert_eq!(read(&dir, Some(&archive), Lsn::ZERO), written);
        assert!(read(&dir, None, Lsn::ZERO).len() < 20);
        let report = verify_with(&dir, Some(&archive)).unwrap();
        assert_eq!(
            (report.begin, report.records, report.problem),
            (Lsn::ZERO, 60, None)
        );
        let victim = archive.join(name(2));
        let mut bytes = fs::read(&victim).unwrap();
        bytes[9_000] ^= 1;
        fs::write(&victim, &bytes).unwrap();
        let problem = verify_with(&dir, Some(&archive)).unwrap().problem.unwrap();
        assert_eq!(problem.place.file, victim);
        bytes[9_000] ^= 1;
        fs::write(&victim, &bytes).unwrap();
        let back = restore(&archive, &dir, Lsn::ZERO).unwrap();
        assert_eq!(back.begin, Lsn::ZERO);
        let (_log, found) = open(&dir, with(Lsn::ZERO)).unwrap();
        assert_eq!(found, written);
    }
}
