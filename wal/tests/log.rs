//! The log on real files: append, wait, close, open again, follow the tail.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::harm::storage;
use common::{append, append_catalog, numbers, open, open_on, options};
use scry_wal::sim::SimStorage;
use scry_wal::{Backend, Error, ErrorClass, Log, LogOptions, Lsn, inspect, verify};

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);

/// Both backends; where io_uring is refused, what Auto falls back to.
const BACKENDS: [Backend; 2] = [Backend::Auto, Backend::Blocking];

#[test]
fn what_was_acknowledged_is_there_after_reopening_at_the_same_place() {
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let mut written = Vec::new();
        for round in 0..3 {
            let (log, found) = open(dir.path(), options(backend)).unwrap();
            assert_eq!(found, written, "round {round}");
            assert_eq!(log.recovery().torn, None);
            for number in 0..100 {
                let lsn = append(&log, number, 700).unwrap();
                if number % 7 == 0 {
                    log.wait_durable(lsn).unwrap();
                    assert!(log.durable_lsn() > lsn);
                }
                written.push((lsn, number));
            }
            log.close().unwrap();
        }
        assert!(written.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(
            std::fs::read_dir(dir.path()).unwrap().count() > 3,
            "several segments were written"
        );
    }
}

#[test]
fn many_threads_append_and_each_finds_its_records_in_its_order() {
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let several = LogOptions {
            min_in_flight: 4,
            ..options(backend)
        };
        let (log, _) = open(dir.path(), several).unwrap();
        let log = Arc::new(log);
        let threads: Vec<_> = (0..8_u64)
            .map(|thread| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let mut lsns = Vec::new();
                    for count in 0..100 {
                        let lsn = append(&log, thread << 32 | count, 60).unwrap();
                        log.wait_durable(lsn).unwrap();
                        lsns.push((lsn, thread << 32 | count));
                    }
                    lsns
                })
            })
            .collect();
        let mut written: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        written.sort_unstable();
        drop(log);
        let (_log, found) = open(dir.path(), options(backend)).unwrap();
        assert_eq!(found, written);
    }
}

#[test]
fn a_record_larger_than_a_write_unit_stands_in_one_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), options(Backend::Auto)).unwrap();
    let mut written = Vec::new();
    for number in 0..20 {
        written.push((append(&log, number, 20_000).unwrap(), number));
    }
    let limit = log.reservation_max();
    let refused = log.lock().unwrap().reserve(limit + 1);
    assert!(matches!(refused, Err(Error::TooLong { .. })));
    log.close().unwrap();
    let (log, found) = open(dir.path(), options(Backend::Auto)).unwrap();
    assert_eq!(found, written);
    drop(log);
}

#[test]
fn a_tail_reader_sees_every_durable_frame_once_and_in_order_from_memory_and_from_files() {
    for recent_bytes in [64 << 20, 0] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            recent_bytes,
            ..options(Backend::Auto)
        };
        let (log, _) = open(dir.path(), options).unwrap();
        let mut early = log.tail(Lsn::ZERO);
        let mut written = Vec::new();
        for number in 0..200 {
            let lsn = append(&log, number, 900).unwrap();
            written.push((lsn, number));
            if number % 3 == 0 {
                log.wait_durable(lsn).unwrap();
            }
        }
        log.wait_durable(written[199].0).unwrap();
        let durable = log.durable_lsn();
        for tail in [&mut early, &mut log.tail(Lsn::ZERO)] {
            let mut found = Vec::new();
            let mut position = Lsn::new(4096);
            while tail.position() < durable {
                let frame = tail.next(LONG).unwrap().unwrap();
                assert_eq!(frame.lsn(), position);
                position = frame.end();
                assert_eq!(tail.position(), position);
                found.extend(numbers(&frame));
            }
            assert_eq!(found, written);
        }
        // Restarted at any frame, it goes on from there.
        let mut tail = log.tail(Lsn::ZERO);
        while let Some(frame) = tail.next(NOW).unwrap() {
            let again = log.tail(frame.lsn()).next(LONG).unwrap().unwrap();
            assert_eq!(again.lsn(), frame.lsn());
            assert_eq!(again.bytes(), frame.bytes());
        }
    }
}

#[test]
fn a_tail_reader_is_woken_by_what_becomes_durable_and_ends_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), options(Backend::Auto)).unwrap();
    let mut tail = log.tail(log.durable_lsn());
    let reader = thread::spawn(move || {
        let mut found = Vec::new();
        loop {
            match tail.next(LONG) {
                Ok(frame) => found.extend(numbers(&frame.unwrap())),
                Err(Error::Closed) => return found,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut written = Vec::new();
    for number in 0..50 {
        let lsn = append(&log, number, 10).unwrap();
        log.wait_durable(lsn).unwrap();
        written.push((lsn, number));
    }
    log.close().unwrap();
    assert_eq!(reader.join().unwrap(), written);
}

#[test]
fn a_position_inside_a_frame_or_beyond_the_log_is_refused() {
    for recent_bytes in [64 << 20, 0] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            recent_bytes,
            ..options(Backend::Auto)
        };
        let (log, _) = open(dir.path(), options).unwrap();
        let lsn = append(&log, 1, 10_000).unwrap();
        log.wait_durable(lsn).unwrap();
        for position in [
            Lsn::new(8192 + 4096),
            Lsn::new(8193),
            log.durable_lsn().plus(4096),
        ] {
            let refused = log.tail(position).next(NOW);
            assert!(
                matches!(refused, Err(Error::NotAFrame { .. })),
                "{position}: {refused:?}"
            );
        }
    }
}

#[test]
fn frames_say_whether_they_hold_a_catalog_record() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), options(Backend::Auto)).unwrap();
    let mut tail = log.tail(log.durable_lsn());
    let lsn = append(&log, 1, 1).unwrap();
    log.wait_durable(lsn).unwrap();
    let lsn = append_catalog(&log, b"create").unwrap();
    log.wait_durable(lsn).unwrap();
    assert!(!tail.next(LONG).unwrap().unwrap().has_catalog());
    assert!(tail.next(LONG).unwrap().unwrap().has_catalog());
}

#[test]
fn an_idle_log_writes_one_watermark_that_witnesses_the_last_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), options(Backend::Auto)).unwrap();
    let mut tail = log.tail(log.durable_lsn());
    let lsn = append(&log, 1, 1).unwrap();
    let frame = tail.next(LONG).unwrap().unwrap();
    let watermark = tail.next(LONG).unwrap().unwrap();
    assert!(watermark.is_watermark());
    assert_eq!(watermark.durable_lsn(), watermark.lsn());
    assert!(watermark.durable_lsn() > lsn && frame.durable_lsn() <= lsn);
    // Closing an idle log needs no second one.
    log.close().unwrap();
    assert!(matches!(tail.next(NOW), Err(Error::Closed)));
}

#[test]
fn a_closed_log_refuses_appenders_and_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), options(Backend::Auto)).unwrap();
    let lsn = append(&log, 7, 1).unwrap();
    log.close().unwrap();
    log.close().unwrap();
    log.wait_durable(lsn).unwrap();
    assert!(matches!(append(&log, 8, 1), Err(Error::Closed)));
    assert!(matches!(log.lock(), Err(Error::Closed)));
    assert_eq!(log.poisoned(), None);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_path() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let dir = file.path().join("log");
    let refused = Log::open(&dir, options(Backend::Auto), &mut |_| Ok(())).unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Refuse);
    assert!(refused.to_string().contains(dir.to_str().unwrap()), "{refused}");
}

#[test]
fn an_error_of_the_consumer_ends_recovery_with_the_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), options(Backend::Auto)).unwrap();
    append(&log, 7, 1).unwrap();
    drop(log);
    let refused = Log::open(dir.path(), options(Backend::Auto), &mut |frame| match frame
        .map_or(0, |frame| frame.record_count())
    {
        0 => Ok(()),
        _ => Err("no such table".into()),
    });
    assert!(
        matches!(refused, Err(Error::Replay { lsn, .. }) if lsn == Lsn::new(8192)),
        "{refused:?}"
    );
}

#[test]
fn an_error_of_the_consumer_ends_recovery_though_far_more_was_read_ahead() {
    let disk = SimStorage::new(1, false);
    let storage = || storage(&disk);
    let options = LogOptions {
        segment_bytes: 4 << 20,
        ..options(Backend::Auto)
    };
    let (log, _) = open_on(storage(), options.clone()).unwrap();
    // More than the thread that reads may be ahead of the one that replays.
    for number in 0..120 {
        append(&log, number, 100_000).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let before = disk.files();
    for refuse_at in [1, 5, 100] {
        let mut seen = 0;
        let refused = Log::open_on(storage(), options.clone(), &mut |frame| {
            seen += frame.map_or(0, |frame| frame.record_count());
            match seen >= refuse_at {
                true => Err("no such table".into()),
                false => Ok(()),
            }
        });
        assert!(matches!(refused, Err(Error::Replay { .. })), "{refused:?}");
        assert_eq!(disk.files(), before);
    }
    let (_log, found) = open_on(storage(), options).unwrap();
    let numbers: Vec<u64> = found.into_iter().map(|(_, number)| number).collect();
    assert_eq!(numbers, (0..120).collect::<Vec<_>>());
}

#[test]
fn frames_can_be_looked_at_from_any_position_while_the_log_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        inspect::frames(dir.path(), Lsn::ZERO).unwrap().count(),
        0,
        "an empty folder has no frames"
    );
    let (log, _) = open(dir.path(), options(Backend::Auto)).unwrap();
    let mut written = Vec::new();
    for number in 0..60 {
        let lsn = append(&log, number, 4_000).unwrap();
        log.wait_durable(lsn).unwrap();
        written.push((lsn, number));
    }
    for skip in [0, 1, 30, 59] {
        let from = written[skip].0;
        let found: Vec<_> = inspect::frames(dir.path(), from)
            .unwrap()
            .flat_map(|frame| numbers(&frame.unwrap()))
            .collect();
        assert_eq!(found, written[skip..]);
    }
    assert_eq!(inspect::frames(dir.path(), Lsn::new(1 << 40)).unwrap().count(), 0);
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.problem, report.records), (None, 60));
    drop(log);
}
