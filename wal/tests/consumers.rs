//! Who needs the log from where: kept up to a bound, dropped loudly beyond it, and known again after a restart.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::harm::storage;
use common::{SEGMENT, TIME, base, fill_wide, numbers, open, open_on, options};
use scry_wal::sim::{Fault, SimStorage};
use scry_wal::{Backend, Consumer, Dropped, Error, ErrorClass, Flaw, Log, LogOptions, Lsn, Retention};

const NOW: Duration = Duration::ZERO;

fn with(restart: Lsn) -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT,
        recent_bytes: 0,
        retention: Retention::bytes(0),
        retain_bytes_max: 4 * SEGMENT,
        restart,
        ..options(Backend::Auto)
    }
}

fn reopen(disk: &Arc<SimStorage>, restart: Lsn) -> Result<(Log, Vec<(Lsn, u64)>), Error> {
    open_on(storage(disk), with(restart))
}

fn fill(log: &Log, numbers: std::ops::Range<u64>) -> Vec<Lsn> {
    fill_wide(log, numbers).into_iter().map(|(lsn, _)| lsn).collect()
}

fn active(name: &str, needs: Lsn) -> Consumer {
    Consumer {
        name: name.to_owned(),
        needs,
        dropped: None,
    }
}

#[test]
fn no_segment_goes_that_a_consumer_needs_until_it_moves_on_or_is_removed() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let consumers = log.consumers();
    assert_eq!(consumers.register("mirror", Lsn::ZERO).unwrap(), Lsn::ZERO);
    let frames = fill(&log, 0..18);
    consumers.register("other", frames[2]).unwrap();
    let upto = frames[17];
    assert_eq!(log.recycle(upto, TIME).unwrap().begin, Lsn::ZERO);
    consumers.advance("mirror", frames[12]).unwrap();
    assert_eq!(log.recycle(upto, TIME).unwrap().begin, base(frames[2]));
    assert!(consumers.remove("other").unwrap());
    assert!(!consumers.remove("other").unwrap());
    let done = log.recycle(upto, TIME).unwrap();
    assert_eq!((done.begin, done.dropped), (base(frames[12]), Vec::new()));
    consumers.advance("mirror", frames[3]).unwrap();
    assert_eq!(
        consumers.list(),
        [active("mirror", frames[12])],
        "a position only rises"
    );
    let late = consumers.register("late", frames[2]).unwrap_err();
    assert!(matches!(late, Error::Gone { .. }), "{late}");
}

#[test]
fn a_consumer_that_is_too_far_behind_is_dropped_and_told() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    log.consumers().register("slow", Lsn::ZERO).unwrap();
    let frames = fill(&log, 0..10);
    log.consumers().register("quick", frames[9]).unwrap();
    let mut tail = log.tail_of("slow", Lsn::ZERO);
    assert!(tail.next(NOW).unwrap().is_some());
    assert_eq!(log.recycle(frames[9], TIME).unwrap().dropped, []);
    let frames = fill(&log, 10..40);
    log.consumers().advance("quick", frames[20]).unwrap();
    let done = log.recycle(frames[29], TIME).unwrap();
    let dropped = Consumer {
        name: "slow".to_owned(),
        needs: Lsn::ZERO,
        dropped: Some(Dropped {
            at: log.durable_lsn(),
            time: TIME,
        }),
    };
    assert_eq!(done.dropped, std::slice::from_ref(&dropped));
    assert_eq!(done.begin, base(frames[20]));
    let told = [
        tail.next(NOW).unwrap_err(),
        log.consumers().advance("slow", frames[25]).unwrap_err(),
    ];
    for error in told {
        assert!(
            matches!(&error, Error::ConsumerDropped { name, needed: Lsn::ZERO, .. } if name == "slow"),
            "{error}"
        );
        assert_eq!(error.class(), ErrorClass::Refuse);
    }
    assert!(
        log.tail_of("quick", log.begin()).next(NOW).unwrap().is_some(),
        "the others read on"
    );
    log.close().unwrap();
    drop(log);
    let (log, _) = reopen(&disk, frames[29]).unwrap();
    let quick = active("quick", frames[20]);
    assert_eq!(
        log.consumers().list(),
        [quick.clone(), dropped],
        "also after a restart"
    );
    let error = log.tail_of("slow", log.begin()).next(NOW).unwrap_err();
    assert!(matches!(error, Error::ConsumerDropped { .. }), "{error}");
    // It can begin anew.
    let begin = log.begin();
    assert_eq!(log.consumers().register("slow", begin).unwrap(), begin);
    assert_eq!(log.consumers().list(), [quick, active("slow", begin)]);
    assert!(log.tail_of("slow", begin).next(NOW).unwrap().is_some());
}

#[test]
fn nobody_is_dropped_for_what_is_kept_anyway() {
    let disk = SimStorage::new(1, false);
    let everything = LogOptions {
        retention: Retention::Everything,
        ..with(Lsn::ZERO)
    };
    let (log, _) = open_on(storage(&disk), everything).unwrap();
    log.consumers().register("slow", Lsn::ZERO).unwrap();
    let frames = fill(&log, 0..60);
    assert_eq!(log.recycle(frames[59], TIME).unwrap().dropped, []);
    assert_eq!(log.consumers().list(), [active("slow", Lsn::ZERO)]);
}

#[test]
fn impossible_consumers_are_refused() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let consumers = log.consumers();
    let beyond = log.durable_lsn().plus(1);
    let long = "x".repeat(101);
    for (name, needs) in [("", Lsn::ZERO), (long.as_str(), Lsn::ZERO), ("x", beyond)] {
        let error = consumers.register(name, needs).unwrap_err();
        assert!(matches!(error, Error::Consumer { .. }), "{error}");
    }
    assert!(matches!(
        consumers.advance("x", Lsn::ZERO),
        Err(Error::Consumer { .. })
    ));
    for number in 0..64 {
        consumers
            .register(&format!("{number}"), log.durable_lsn())
            .unwrap();
    }
    assert!(matches!(
        consumers.register("x", Lsn::ZERO),
        Err(Error::Consumer { .. })
    ));
    assert!(matches!(
        consumers.advance("1", beyond),
        Err(Error::Consumer { .. })
    ));
}

#[test]
fn what_a_consumer_has_read_is_a_witness_of_the_logs_end() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let frames = fill(&log, 0..20);
    log.consumers().register("mirror", frames[19]).unwrap();
    let whole = disk.after_crash(1);
    drop(log);
    assert!(reopen(&whole, Lsn::ZERO).is_ok());
    let cut = disk.copy();
    let keep = ["0000000000000000.wal".to_owned(), "consumers".to_owned()];
    cut.edit(|files| files.retain(|name, _| keep.contains(name)));
    let before = cut.files();
    assert!(matches!(
        reopen(&cut, Lsn::ZERO),
        Err(Error::EndMissing { durable, .. }) if durable == frames[19]
    ));
    assert_eq!(cut.files(), before);
}

#[test]
fn a_damaged_list_is_refused_by_its_name_and_nothing_is_changed() {
    type Harm = fn(&mut Vec<u8>);
    type Expected = fn(&Flaw) -> bool;
    let harms: [(Harm, Expected); 4] = [
        (
            |bytes| bytes[20] ^= 1,
            |flaw| matches!(flaw, Flaw::Checksum { .. }),
        ),
        (Vec::clear, |flaw| *flaw == Flaw::Length(0)),
        (|bytes| bytes[0] = 0, |flaw| matches!(flaw, Flaw::Magic(_))),
        (
            |bytes| {
                bytes[16] ^= 1;
                let crc = crc32fast::hash(&bytes[8..]);
                bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            },
            |flaw| *flaw == Flaw::Foreign,
        ),
    ];
    for (harm, expected) in harms {
        let disk = SimStorage::new(1, false);
        let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
        log.consumers().register("mirror", Lsn::ZERO).unwrap();
        log.close().unwrap();
        drop(log);
        disk.edit(|files| harm(files.get_mut("consumers").unwrap()));
        let before = disk.files();
        let error = reopen(&disk, Lsn::ZERO).unwrap_err();
        let Error::ConsumersDamaged { path, flaw } = &error else {
            panic!("{error}")
        };
        assert!(path.ends_with("consumers") && expected(flaw), "{error}");
        assert_eq!(disk.files(), before);
        disk.edit(|files| assert!(files.remove("consumers").is_some()));
        let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
        assert_eq!(log.consumers().list(), []);
    }
}

#[test]
fn wherever_the_power_goes_what_was_told_is_known_and_nothing_that_is_needed_is_gone() {
    for operation in 0..30 {
        let disk = SimStorage::new(operation, false);
        let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
        log.consumers().register("mirror", Lsn::ZERO).unwrap();
        log.consumers().register("slow", Lsn::ZERO).unwrap();
        let frames = fill(&log, 0..40);
        disk.fail_files_after(operation, Fault::Crash);
        let registered = log.consumers().register("late", frames[38]).is_ok();
        log.consumers().advance("mirror", frames[30]).unwrap();
        let recycled = log.recycle(frames[39], TIME);
        let removed = log.consumers().remove("late").is_ok();
        let disk = disk.after_crash(operation);
        drop(log);
        let (log, found) = reopen(&disk, frames[39]).unwrap();
        assert!(!found.is_empty());
        let list = log.consumers().list();
        let known = |name: &str| list.iter().find(|consumer| consumer.name == name);
        let mirror = known("mirror").unwrap();
        let slow = known("slow").unwrap();
        assert!(
            log.begin() <= mirror.needs,
            "operation {operation}: what it needs is there"
        );
        assert!(
            slow.dropped.is_some() || log.begin() == Lsn::ZERO,
            "operation {operation}"
        );
        if recycled.is_ok() {
            assert_eq!((mirror.needs, slow.dropped.is_some()), (frames[30], true));
            assert_eq!(log.begin(), base(frames[30]));
        }
        assert!(!removed || known("late").is_none(), "operation {operation}");
        // The power was gone before the removal was tried.
        if registered && recycled.is_err() {
            assert!(known("late").is_some(), "operation {operation}");
        }
        let mut tail = log.tail_of("mirror", log.begin());
        let mut read = Vec::new();
        while let Some(frame) = tail.next(NOW).unwrap() {
            read.extend(numbers(&frame).into_iter().map(|(lsn, _)| lsn));
        }
        read.retain(|lsn| *lsn >= mirror.needs);
        let needed: Vec<_> = frames.into_iter().filter(|lsn| *lsn >= mirror.needs).collect();
        assert_eq!(read, needed, "operation {operation}");
    }
}

#[test]
fn a_list_that_cannot_be_written_lets_nothing_go() {
    for fault in [Fault::WriteFails, Fault::SyncFails] {
        let disk = SimStorage::new(1, false);
        let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
        log.consumers().register("mirror", Lsn::ZERO).unwrap();
        let frames = fill(&log, 0..40);
        log.consumers().advance("mirror", frames[30]).unwrap();
        disk.fail_files_after(0, fault);
        assert!(matches!(log.recycle(frames[39], TIME), Err(Error::Io { .. })));
        assert_eq!(log.begin(), Lsn::ZERO);
        disk.fail_files_after(u64::MAX, fault);
        assert_eq!(log.recycle(frames[39], TIME).unwrap().begin, base(frames[30]));
    }
}

#[test]
fn consumers_are_kept_in_a_file_of_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let with = LogOptions {
        backend: Backend::Blocking,
        ..with(Lsn::ZERO)
    };
    let (log, _) = open(dir.path(), with.clone()).unwrap();
    log.consumers().register("mirror", Lsn::ZERO).unwrap();
    log.consumers().register("mirror", Lsn::ZERO).unwrap();
    drop(log);
    std::fs::write(dir.path().join("consumers.tmp"), "unfinished").unwrap();
    let (log, _) = open(dir.path(), with).unwrap();
    assert_eq!(log.consumers().list(), [active("mirror", Lsn::ZERO)]);
    assert!(!dir.path().join("consumers.tmp").exists());
}

#[test]
fn a_new_log_does_not_take_the_consumers_of_another() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    log.consumers().register("mirror", Lsn::ZERO).unwrap();
    drop(log);
    disk.edit(|files| files.retain(|name, _| !name.ends_with(".wal")));
    for _ in 0..2 {
        let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
        assert_eq!(log.consumers().list(), []);
    }
}
