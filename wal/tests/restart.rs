//! A log that is opened from a later position: what is read, what may be gone, and what is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::harm::{name, storage};
use common::{SEGMENT, UNIT, append, fill, numbers, open_on, options};
use scry_wal::sim::SimStorage;
use scry_wal::verify::verify_on;
use scry_wal::{Backend, Error, ErrorClass, Flaw, Log, LogOptions, Lsn, inspect, salvage, verify};

fn from(restart: u64) -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT,
        restart: Lsn::new(restart),
        ..options(Backend::Auto)
    }
}

fn reopen(disk: &Arc<SimStorage>, restart: u64) -> Result<(Log, Vec<u64>), Error> {
    let (log, found) = open_on(storage(disk), from(restart))?;
    Ok((log, found.into_iter().map(|(_, number)| number).collect()))
}

/// A closed log of twenty records, five in each segment, and where their frames stand.
fn long_log() -> (Arc<SimStorage>, Vec<u64>) {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, 0).unwrap();
    let frames = fill(&log, 0..20, 9_000);
    log.close().unwrap();
    assert!(frames[19] > 3 * SEGMENT);
    (disk, frames)
}

fn remove(disk: &SimStorage, segments: &[u64]) {
    disk.edit(|files| {
        for segment in segments {
            assert!(files.remove(&name(*segment)).is_some());
        }
    });
}

/// The numbers whose frames stand at or behind the beginning of the segment.
fn behind(frames: &[u64], base: u64) -> Vec<u64> {
    (0..)
        .zip(frames)
        .filter(|(_, lsn)| **lsn >= base)
        .map(|(number, _)| number)
        .collect()
}

/// Refused, and no byte changed.
fn refused(disk: &Arc<SimStorage>, restart: u64) -> Error {
    let before = disk.files();
    let error = reopen(disk, restart).unwrap_err();
    assert_eq!(disk.files(), before, "{error}");
    assert_eq!(error.class(), ErrorClass::Corrupt, "{error}");
    error
}

fn damaged(disk: &Arc<SimStorage>, restart: u64) -> (u64, Flaw) {
    match refused(disk, restart) {
        Error::Damaged { place, flaw, .. } => (place.lsn.get(), flaw),
        other => panic!("{other}"),
    }
}

#[test]
fn a_log_is_replayed_from_the_segment_that_holds_the_restart_and_nothing_before_it_is_looked_into() {
    for restart in [SEGMENT, SEGMENT + UNIT, 2 * SEGMENT - 1, 2 * SEGMENT + 5 * UNIT] {
        let (disk, frames) = long_log();
        let base = restart - restart % SEGMENT;
        disk.edit(|files| files.get_mut(&name(0)).unwrap()[7_000..8_000].fill(0xEE));
        let (log, found) = reopen(&disk, restart).unwrap();
        assert_eq!(found, behind(&frames, base));
        assert_eq!(log.recovery().from, Lsn::new(base));
        assert_eq!(
            log.begin(),
            Lsn::ZERO,
            "what is there can be read, at the reader's risk"
        );
        log.close().unwrap();
    }
}

#[test]
fn segments_before_the_restart_may_be_gone_and_the_log_goes_on_for_ever() {
    let (disk, frames) = long_log();
    remove(&disk, &[0]);
    let (log, found) = reopen(&disk, 2 * SEGMENT + 9).unwrap();
    assert_eq!(found, behind(&frames, 2 * SEGMENT));
    assert_eq!(log.begin(), Lsn::new(SEGMENT));
    let first = frames.iter().copied().find(|lsn| *lsn > SEGMENT).unwrap();
    let tail = log.tail(log.begin()).next(Duration::ZERO).unwrap().unwrap();
    assert_eq!(tail.lsn(), Lsn::new(first));
    let gone = log.tail(Lsn::ZERO).next(Duration::ZERO).unwrap_err();
    assert!(
        matches!(gone, Error::Gone { lsn, begin } if lsn.get() == UNIT && begin.get() == SEGMENT),
        "{gone}"
    );
    assert_eq!(gone.class(), ErrorClass::Refuse);
    let epoch = tail.epoch();
    fill(&log, 0..3, 9_000);
    log.close().unwrap();
    drop(log);
    remove(&disk, &[1, 2]);
    let (log, found) = reopen(&disk, 3 * SEGMENT).unwrap();
    assert_eq!(
        found,
        behind(&frames, 3 * SEGMENT)
            .into_iter()
            .chain(0..3)
            .collect::<Vec<_>>()
    );
    let mut tail = log.tail(log.begin());
    let mut last = 0;
    while let Some(frame) = tail.next(Duration::ZERO).unwrap() {
        last = frame.epoch();
    }
    assert!(last > epoch + 1, "the epoch rises though its beginning is gone");
}

#[test]
fn a_gap_before_the_restart_is_where_the_log_begins() {
    let (disk, _) = long_log();
    remove(&disk, &[1]);
    let (log, _) = reopen(&disk, 2 * SEGMENT).unwrap();
    assert_eq!(log.begin(), Lsn::new(2 * SEGMENT));
    drop(log);
    let (disk, _) = long_log();
    disk.edit(|files| files.get_mut(&name(0)).unwrap().truncate(100));
    let (log, _) = reopen(&disk, 2 * SEGMENT).unwrap();
    assert_eq!(log.begin(), Lsn::new(SEGMENT));
}

#[test]
fn a_missing_beginning_is_refused_and_what_is_there_and_needed_is_named() {
    let (disk, _) = long_log();
    remove(&disk, &[0, 1]);
    for restart in [0, SEGMENT + 7] {
        let message = match refused(&disk, restart) {
            error @ Error::BeginMissing { .. } => error.to_string(),
            other => panic!("{other}"),
        };
        for part in [&name(2), "LSN 0/20000", &Lsn::new(restart).to_string(), "missing"] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}

#[test]
fn a_gap_behind_the_restart_is_named() {
    let (disk, _) = long_log();
    remove(&disk, &[0, 2]);
    assert_eq!(damaged(&disk, SEGMENT), (2 * SEGMENT, Flaw::MissingSegment));
    let (disk, _) = long_log();
    remove(&disk, &[1]);
    // The segment of the restart itself.
    assert_eq!(damaged(&disk, SEGMENT), (SEGMENT, Flaw::MissingSegment));
}

#[test]
fn a_restart_beyond_the_end_is_refused() {
    let (disk, frames) = long_log();
    let end = verify_on(&storage(&disk)).unwrap().end;
    assert!(end.get() > frames[19]);
    let (log, found) = reopen(&disk.copy(), end.get()).unwrap();
    assert_eq!(found, behind(&frames, end.get() - end.get() % SEGMENT));
    drop(log);
    for restart in [end.get() + 1, end.get() + SEGMENT, 100 * SEGMENT] {
        match refused(&disk, restart) {
            Error::EndMissing {
                end: found, durable, ..
            } => {
                assert_eq!((found, durable.get()), (end, restart));
            }
            other => panic!("{other}"),
        }
    }
    let nothing = SimStorage::new(1, false);
    assert!(matches!(refused(&nothing, 5), Error::EndMissing { .. }));
}

/// A log whose records fill the first two segments to the last byte; the third was not entered.
fn full_segments() -> (Arc<SimStorage>, u64) {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, 0).unwrap();
    let mut restart = 0;
    // Of the first segment the watermark of the opening takes a unit.
    for units in [14, 15] {
        let lsn = append(&log, 1, units * UNIT as usize - 128 - 100).unwrap();
        log.wait_durable(lsn).unwrap();
        restart = log.durable_lsn().get();
    }
    assert_eq!(restart, 2 * SEGMENT + UNIT);
    let disk = disk.copy();
    drop(log);
    disk.edit(|files| {
        let third = files.entry(name(2)).or_default();
        *third = vec![0; SEGMENT as usize];
        files.remove(&name(3));
    });
    (disk, restart)
}

#[test]
fn a_restart_in_a_segment_that_was_prepared_and_not_entered_is_read_from_the_one_before() {
    let (disk, restart) = full_segments();
    let (log, found) = reopen(&disk, restart).unwrap();
    assert_eq!((found, log.recovery().from), (vec![1], Lsn::new(SEGMENT)));
    fill(&log, 0..3, 100);
    log.close().unwrap();
    drop(log);
    let (_log, found) = reopen(&disk, restart).unwrap();
    assert_eq!(found, [0, 1, 2], "now it was entered");
}

#[test]
fn a_damaged_header_of_the_restart_segment_is_refused() {
    for gone in [false, true] {
        let (disk, _) = long_log();
        if gone {
            remove(&disk, &[0, 1]);
        }
        disk.edit(|files| files.get_mut(&name(2)).unwrap()[60] ^= 1);
        let (lsn, flaw) = damaged(&disk, 2 * SEGMENT + 5);
        assert!(
            lsn == 2 * SEGMENT && matches!(flaw, Flaw::Checksum { .. }),
            "{lsn} {flaw}"
        );
    }
    // With an older segment behind a gap, what is wrong is still this header.
    let (disk, _) = long_log();
    remove(&disk, &[1]);
    disk.edit(|files| files.get_mut(&name(2)).unwrap()[60] ^= 1);
    assert_eq!(damaged(&disk, 2 * SEGMENT + 5).0, 2 * SEGMENT);
}

#[test]
fn a_restart_segment_that_was_swapped_for_another_is_refused() {
    let (disk, _) = long_log();
    disk.edit(|files| {
        let copy = files[&name(1)].clone();
        files.insert(name(2), copy);
        files.remove(&name(0));
    });
    assert_eq!(
        damaged(&disk, 2 * SEGMENT),
        (2 * SEGMENT, Flaw::Misplaced(Lsn::new(SEGMENT)))
    );
}

/// Writes a log into a folder and lets its first segment go.
fn begun_later(dir: &Path) -> Vec<u64> {
    let log = Log::open(
        dir,
        LogOptions {
            backend: Backend::Blocking,
            ..from(0)
        },
        &mut |_| Ok(()),
    )
    .unwrap();
    let frames = fill(&log, 0..20, 9_000);
    log.close().unwrap();
    fs::remove_file(dir.join(name(0))).unwrap();
    frames
}

#[test]
fn those_who_only_look_read_a_log_that_begins_later() {
    let dir = tempfile::tempdir().unwrap();
    let frames = begun_later(dir.path());
    let expected = behind(&frames, SEGMENT);
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.problem, report.torn), (None, None));
    assert_eq!(
        (report.begin.get(), report.records),
        (SEGMENT, expected.len() as u64)
    );
    assert_eq!(report.begin.get() + report.bytes, report.end.get());
    for start in [0, SEGMENT + UNIT] {
        let walk = inspect::frames(dir.path(), Lsn::new(start)).unwrap();
        assert_eq!(walk.begin(), Lsn::new(SEGMENT));
        let found: Vec<u64> = walk
            .flat_map(|frame| numbers(&frame.unwrap()))
            .map(|(_, number)| number)
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn what_is_left_of_a_damaged_log_that_begins_later_is_a_log_that_begins_there() {
    let dir = tempfile::tempdir().unwrap();
    let frames = begun_later(dir.path());
    let victim = frames.iter().position(|lsn| *lsn > 3 * SEGMENT).unwrap();
    let path = dir.path().join(name(3));
    let mut bytes = fs::read(&path).unwrap();
    bytes[(frames[victim] % SEGMENT) as usize + 200] ^= 1;
    fs::write(&path, bytes).unwrap();
    let left = salvage(dir.path()).unwrap().unwrap();
    assert_eq!(left.problem.place.lsn.get(), frames[victim]);
    let copy = dir.path().join("copy");
    left.copy(dir.path(), &copy).unwrap();
    let mut found = Vec::new();
    let options = LogOptions {
        backend: Backend::Blocking,
        ..from(SEGMENT)
    };
    let log = Log::open(&copy, options, &mut |frame| {
        let numbers = frame.into_iter().flat_map(numbers);
        found.extend(numbers.map(|(_, number)| number));
        Ok(())
    })
    .unwrap();
    assert_eq!(
        found,
        (0..victim as u64)
            .filter(|number| frames[*number as usize] > SEGMENT)
            .collect::<Vec<_>>()
    );
    drop(log);
}
