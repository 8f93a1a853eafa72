//! Segments that nobody needs any more: which go, what becomes of their files, and that nothing of what they were is ever
//! taken for something new.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::harm::{change, storage};
use common::{SEGMENT, TIME, UNIT, append, base, fill_wide, numbers, open, open_on, options, record};
use scry_wal::record::encode_commit;
use scry_wal::sim::{Fault, SimStorage};
use scry_wal::verify::verify_on;
use scry_wal::{
    Backend, Commit, Error, Flaw, Log, LogOptions, Lsn, Micros, NodeId, Retention, StoreRanges, TxnId,
    inspect,
};

const NOW: Duration = Duration::ZERO;

fn keeping(retention: Retention, restart: Lsn) -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT,
        recent_bytes: 0,
        retention,
        restart,
        ..options(Backend::Auto)
    }
}

/// Keeps what is needed, and nothing else.
fn frugal(restart: Lsn) -> LogOptions {
    keeping(Retention::bytes(0), restart)
}

fn reopen(disk: &Arc<SimStorage>, restart: Lsn) -> Result<(Log, Vec<(Lsn, u64)>), Error> {
    open_on(storage(disk), frugal(restart))
}

fn from(written: &[(Lsn, u64)], begin: Lsn) -> Vec<(Lsn, u64)> {
    written.iter().copied().filter(|(lsn, _)| *lsn >= begin).collect()
}

fn names(disk: &SimStorage, ending: &str) -> Vec<String> {
    let files = disk.files();
    files.into_keys().filter(|name| name.ends_with(ending)).collect()
}

fn all(log: &Log) -> Vec<(Lsn, u64)> {
    let mut tail = log.tail(log.begin());
    let mut found = Vec::new();
    while let Some(frame) = tail.next(NOW).unwrap() {
        found.extend(numbers(&frame));
    }
    found
}

/// Waits until so many segments were prepared behind the end.
fn wait_for_segments(disk: &SimStorage, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while names(disk, ".wal").len() < count {
        assert!(Instant::now() < deadline, "segments were never prepared");
        std::thread::yield_now();
    }
}

#[test]
fn everything_is_kept_unless_it_is_said_otherwise() {
    let disk = SimStorage::new(1, false);
    let everything = LogOptions {
        segment_bytes: SEGMENT,
        ..options(Backend::Auto)
    };
    let (log, _) = open_on(storage(&disk), everything).unwrap();
    let written = fill_wide(&log, 0..40);
    let done = log.recycle(log.durable_lsn(), TIME).unwrap();
    assert_eq!((done.begin, done.spared, done.removed), (Lsn::ZERO, 0, 0));
    assert_eq!(all(&log), written);
}

#[test]
fn so_many_bytes_are_kept_and_no_segment_with_one_of_them_goes() {
    let disk = SimStorage::new(1, false);
    let (log, _) = open_on(storage(&disk), keeping(Retention::bytes(2 * SEGMENT), Lsn::ZERO)).unwrap();
    let written = fill_wide(&log, 0..40);
    let end = log.durable_lsn();
    let done = log.recycle(end, TIME).unwrap();
    assert_eq!(done.begin, base(Lsn::new(end.get() - 2 * SEGMENT)));
    assert_eq!(all(&log), from(&written, done.begin));
    let done = log.recycle(written[3].0, TIME).unwrap();
    assert_eq!(done.begin, log.begin(), "what has gone stays gone");
}

/// Appends a commit of some time in a frame of three units; returns where it stands.
fn commit(log: &Log, time: Micros) -> Lsn {
    let mut records = record(0, 9_000);
    let commit = Commit {
        txn: TxnId::new(1),
        time,
        origin_node: NodeId::default(),
        origin_lsn: Lsn::ZERO,
        user: "",
        client: "",
        application: "",
        tag: "",
        election: 0,
        candidate: 0,
        adopts: None,
        stores: StoreRanges::new(&[]),
    };
    encode_commit(&mut records, &commit).unwrap();
    log.wait_room().unwrap();
    let mut appender = log.lock().unwrap();
    appender.reserve(records.len()).unwrap();
    let lsn = appender.put(&records, 2, false);
    drop(appender);
    log.wait_durable(lsn).unwrap();
    lsn
}

#[test]
fn what_was_committed_lately_is_kept_however_little_is_wanted() {
    let disk = SimStorage::new(1, false);
    let age = Duration::from_secs(3600);
    let kept = Retention::Recent { bytes: 0, age };
    let (log, _) = open_on(storage(&disk), keeping(kept, Lsn::ZERO)).unwrap();
    let at = |minutes: i64| Micros::new(TIME.get() + minutes * 60_000_000);
    let commits: Vec<Lsn> = (0..60).map(|minute| commit(&log, at(minute))).collect();
    let end = log.durable_lsn();
    assert_eq!(
        log.recycle(end, at(60)).unwrap().begin,
        Lsn::ZERO,
        "all is of the last hour"
    );
    let opened = disk.opened();
    log.recycle(end, at(60)).unwrap();
    assert_eq!(disk.opened(), opened, "that was known from the last time");
    // The 20th is an hour old: the segments before the one that it stands in hold nothing younger.
    assert_eq!(log.recycle(end, at(80)).unwrap().begin, base(commits[20]));
    assert_eq!(
        log.recycle(commits[30], at(500)).unwrap().begin,
        base(commits[30])
    );
    let done = log.recycle(end, at(500)).unwrap();
    assert_eq!(done.begin, base(Lsn::new(end.get() - 1)), "the last one stays");
}

#[test]
fn what_was_committed_when_the_clock_was_ahead_goes_with_what_came_later() {
    let disk = SimStorage::new(1, false);
    let age = Duration::from_secs(3600);
    let kept = Retention::Recent { bytes: 0, age };
    let (log, _) = open_on(storage(&disk), keeping(kept, Lsn::ZERO)).unwrap();
    let at = |minutes: i64| Micros::new(TIME.get() + minutes * 60_000_000);
    let year = 365 * 24 * 60;
    let time = |minute: i64| match minute {
        10..20 => at(minute + year),
        _ => at(minute),
    };
    let commits: Vec<Lsn> = (0..60).map(|minute| commit(&log, time(minute))).collect();
    let end = log.durable_lsn();
    // Of the first ones nothing older is left, and those of the year to come were made before the 20th.
    assert_eq!(log.recycle(end, at(65)).unwrap().begin, base(commits[5]));
    assert_eq!(log.recycle(end, at(79)).unwrap().begin, base(commits[9]));
    assert_eq!(log.recycle(end, at(90)).unwrap().begin, base(commits[30]));
    // A clock that is behind has nothing go, and so has one that is right again.
    assert_eq!(log.recycle(end, at(-500)).unwrap().begin, base(commits[30]));
    assert_eq!(log.recycle(end, at(90)).unwrap().begin, base(commits[30]));
}

#[test]
fn another_databases_log_is_refused_and_left_alone() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..5);
    let database = log.database();
    log.close().unwrap();
    drop(log);
    let known = |database| LogOptions {
        database: Some(database),
        ..frugal(Lsn::ZERO)
    };
    let before = disk.files();
    let refused = open_on(storage(&disk), known([9; 16])).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Damaged {
                flaw: Flaw::Foreign,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(disk.files(), before);
    assert_eq!(open_on(storage(&disk), known(database)).unwrap().1, written);
}

#[test]
fn whole_segments_before_the_position_go_and_readers_are_told() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..60);
    let mut slow = log.tail(Lsn::ZERO);
    let read = slow.next(NOW).unwrap().unwrap();
    let upto = written[20].0;
    let done = log.recycle(upto, TIME).unwrap();
    assert_eq!((done.begin, log.begin()), (base(upto), base(upto)));
    assert_eq!((done.spared + done.removed) * SEGMENT, done.begin.get());
    let gone = slow.next(NOW).unwrap_err();
    assert!(
        matches!(gone, Error::Gone { lsn, begin } if lsn == read.end() && begin == done.begin),
        "{gone}"
    );
    assert_eq!(all(&log), from(&written, done.begin));
    log.close().unwrap();
    drop(log);
    assert!(matches!(
        reopen(&disk.copy(), Lsn::ZERO),
        Err(Error::BeginMissing { .. })
    ));
    let (log, found) = reopen(&disk, upto).unwrap();
    assert_eq!(found, from(&written, base(upto)));
    assert_eq!(log.begin(), base(upto));
}

#[test]
fn the_segment_of_the_last_durable_byte_stays_whatever_is_asked_for() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    // The second segment is filled to its last byte, and the third is not entered.
    for units in [14, 15] {
        let lsn = append(&log, 1, units * UNIT as usize - 128 - 100).unwrap();
        log.wait_durable(lsn).unwrap();
    }
    let end = log.durable_lsn();
    assert_eq!(end.get(), 2 * SEGMENT + UNIT);
    let done = log.recycle(Lsn::MAX, TIME).unwrap();
    assert_eq!(done.begin.get(), SEGMENT);
    let crashed = disk.after_crash(1);
    let (log, found) = reopen(&crashed, end).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(log.begin().get(), SEGMENT);
}

#[test]
fn recycled_files_become_the_next_segments_and_need_no_room() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let mut written = fill_wide(&log, 0..60);
    let upto = written[59].0;
    wait_for_segments(&disk, (upto.get() / SEGMENT) as usize + 2);
    let done = log.recycle(upto, TIME).unwrap();
    assert_eq!(done.spared, 8, "a bounded stock");
    assert!(done.removed > 0);
    assert_eq!(names(&disk, ".spare").len(), 8);
    disk.set_free_bytes(0);
    written.extend(fill_wide(&log, 60..90));
    assert!(names(&disk, ".spare").len() < 4);
    assert_eq!(all(&log), from(&written, log.begin()));
    log.close().unwrap();
    drop(log);
    let report = verify_on(&storage(&disk)).unwrap();
    assert_eq!(
        (report.problem, report.torn),
        (None, None),
        "remains are neither damage nor a torn tail"
    );
    let (log, found) = reopen(&disk, upto).unwrap();
    assert_eq!(log.recovery().torn, None);
    assert_eq!(found, from(&written, log.begin()));
}

#[test]
fn spares_of_an_earlier_life_are_used_and_those_too_many_go() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..60);
    let upto = written[59].0;
    log.recycle(upto, TIME).unwrap();
    log.close().unwrap();
    drop(log);
    disk.edit(|files| {
        // As if the mark had not been written when the power went.
        let whole = files[&names_of(files, ".wal")[0]].clone();
        files.insert("0000000000000000.spare".to_owned(), whole);
        files.insert("0000000000000001.spare".to_owned(), vec![1; 100]);
        for number in 2..9 {
            files.insert(
                format!("{:016x}.spare", number * 7 * SEGMENT),
                vec![9; SEGMENT as usize],
            );
        }
    });
    let (log, _) = reopen(&disk, upto).unwrap();
    assert!(names(&disk, ".spare").len() <= 8);
    disk.set_free_bytes(0);
    let more = fill_wide(&log, 60..85);
    log.close().unwrap();
    drop(log);
    let (log, found) = reopen(&disk, upto).unwrap();
    assert!(found.ends_with(&more));
    assert_eq!(log.recovery().torn, None);
}

fn names_of(files: &std::collections::BTreeMap<String, Vec<u8>>, ending: &str) -> Vec<String> {
    files
        .keys()
        .filter(|name| name.ends_with(ending))
        .cloned()
        .collect()
}

/// A log whose last frames stand in a recycled segment; returns their LSNs.
fn ends_in_a_recycled_segment() -> (Arc<SimStorage>, Lsn, Vec<(Lsn, u64)>) {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..60);
    let upto = written[59].0;
    wait_for_segments(&disk, (upto.get() / SEGMENT) as usize + 2);
    log.recycle(upto, TIME).unwrap();
    // Beyond the segment that was prepared from nothing.
    let more = fill_wide(&log, 60..72);
    assert!(base(more[11].0).get() >= base(upto).get() + 2 * SEGMENT);
    log.close().unwrap();
    drop(log);
    (disk, upto, more)
}

#[test]
fn a_torn_frame_over_remains_is_cut_and_a_harmed_one_with_a_witness_is_refused() {
    type Harm = fn(&mut [u8]);
    let harms: [(&str, bool, Harm); 4] = [
        ("its checksum", true, |frame| frame[4] ^= 1),
        ("its padding", true, |frame| frame[3 * UNIT as usize - 1] ^= 1),
        ("its magic number", false, |frame| frame[0] ^= 1),
        ("its length", false, |frame| frame[24..28].fill(0xFF)),
    ];
    for (name, told, harm) in harms {
        let (disk, upto, more) = ends_in_a_recycled_segment();
        let last = more[11].0.get() - 128;
        // The remains of an older frame, or of the middle of one, stand where the watermark was.
        let witnessed = disk.copy();
        change(&disk, last + 3 * UNIT, UNIT as usize, |unit| {
            assert_eq!(unit[32], 4, "a watermark stands behind the last frame");
            unit.fill(0xAB);
        });
        change(&disk, last, 3 * UNIT as usize, harm);
        let (log, found) = reopen(&disk, upto).unwrap();
        assert_eq!(found.last(), Some(&more[10]), "{name}");
        assert_eq!(log.recovery().torn.is_some(), told, "{name}");
        drop(log);

        change(&witnessed, last, 3 * UNIT as usize, harm);
        let before = witnessed.files();
        match reopen(&witnessed, upto) {
            Err(Error::Damaged { place, witness, .. }) => {
                assert_eq!((place.lsn.get(), witness.is_some()), (last, true), "{name}");
            }
            other => panic!("{name}: {:?}", other.map(|(_, found)| found.len())),
        }
        assert_eq!(witnessed.files(), before, "{name}");
    }
}

#[test]
fn an_old_segment_under_a_new_name_is_refused_when_it_was_not_recycled_by_the_log() {
    let (disk, upto, _) = ends_in_a_recycled_segment();
    let last = names(&disk, ".wal").pop().unwrap();
    disk.edit(|files| {
        let old = files[&names_of(files, ".wal")[0]].clone();
        files.insert(last.clone(), old);
    });
    let before = disk.files();
    match reopen(&disk, upto) {
        Err(Error::Damaged { place, flaw, .. }) => {
            assert!(place.file.ends_with(&last));
            assert_eq!(flaw, Flaw::Misplaced(base(upto)));
        }
        other => panic!("{:?}", other.map(|(_, found)| found.len())),
    }
    assert_eq!(disk.files(), before);
}

#[test]
fn wherever_the_power_goes_while_segments_are_recycled_the_log_is_whole() {
    let mut operation = 0;
    loop {
        let disk = SimStorage::new(operation, false);
        let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
        let mut written = fill_wide(&log, 0..48);
        wait_for_segments(&disk, (written[47].0.get() / SEGMENT) as usize + 2);
        disk.fail_files_after(operation, Fault::Crash);
        let upto = written[40].0;
        let mut over = log.recycle(upto, TIME).is_ok();
        // Some of the spares are entered before the power goes.
        for number in 48..70 {
            match append(&log, number, 9_000).and_then(|lsn| log.wait_durable(lsn).map(|()| lsn)) {
                Ok(lsn) => written.push((lsn, number)),
                Err(_) => {
                    over = false;
                    break;
                }
            }
        }
        let disk = disk.after_crash(operation);
        drop(log);
        let report = verify_on(&storage(&disk)).unwrap();
        assert_eq!(report.problem, None, "operation {operation}");
        assert!(report.begin <= base(upto), "operation {operation}");
        let (log, found) = reopen(&disk, upto).unwrap();
        let expected = from(&written, base(upto));
        assert!(found.starts_with(&expected), "operation {operation}");
        assert!(
            found.len() <= expected.len() + 1,
            "operation {operation}: at most the one on its way"
        );
        // What did not go then goes now.
        log.recycle(upto, TIME).unwrap();
        assert_eq!(names(&disk, ".wal")[0], format!("{:016x}.wal", base(upto).get()));
        let more = fill_wide(&log, 100..130);
        log.close().unwrap();
        drop(log);
        let (_log, again) = reopen(&disk, upto).unwrap();
        assert_eq!(again, [found, more].concat(), "operation {operation}");
        if over {
            break;
        }
        operation += 1;
    }
    assert!(operation > 16, "{operation}: eight renamed and marked, and more");
}

#[test]
fn a_failure_while_segments_are_recycled_is_told_and_the_log_goes_on() {
    for fault in [Fault::WriteFails, Fault::SyncFails] {
        for operation in 0..20 {
            let disk = SimStorage::new(operation, false);
            let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
            let mut written = fill_wide(&log, 0..48);
            wait_for_segments(&disk, (written[47].0.get() / SEGMENT) as usize + 2);
            let upto = written[40].0;
            disk.fail_files_after(operation, fault);
            let failed = log.recycle(upto, TIME).err();
            assert!(matches!(failed, None | Some(Error::Io { .. })), "{failed:?}");
            // It works again.
            disk.fail_files_after(u64::MAX, fault);
            assert_eq!(log.begin(), base(upto), "readers were told before");
            log.recycle(upto, TIME).unwrap();
            written.extend(fill_wide(&log, 48..70));
            assert_eq!(log.poisoned(), None);
            assert_eq!(all(&log), from(&written, base(upto)));
            log.close().unwrap();
            drop(log);
            let (_log, found) = reopen(&disk, upto).unwrap();
            assert_eq!(found, from(&written, base(upto)));
        }
    }
}

#[test]
fn a_log_that_takes_nothing_more_lets_nothing_go() {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk, Lsn::ZERO).unwrap();
    let written = fill_wide(&log, 0..30);
    disk.fail_after(0, Fault::WriteFails);
    let lsn = append(&log, 30, 10).unwrap();
    assert!(log.wait_durable(lsn).is_err());
    let before = disk.files();
    assert!(matches!(
        log.recycle(written[29].0, TIME),
        Err(Error::Poisoned { .. })
    ));
    assert_eq!(disk.files(), before);
    drop(log);
    let (log, _) = reopen(&disk.after_crash(1), Lsn::ZERO).unwrap();
    log.close().unwrap();
    assert!(matches!(log.recycle(written[29].0, TIME), Err(Error::Closed)));
}

#[test]
fn files_on_a_disk_are_recycled_as_well() {
    for backend in [Backend::Blocking, Backend::Auto] {
        let dir = tempfile::tempdir().unwrap();
        let with = |restart| LogOptions {
            backend,
            ..frugal(restart)
        };
        let (log, _) = open(dir.path(), with(Lsn::ZERO)).unwrap();
        let mut written = fill_wide(&log, 0..60);
        let upto = written[59].0;
        assert_eq!(log.recycle(upto, TIME).unwrap().spared, 8);
        written.extend(fill_wide(&log, 60..100));
        log.recycle(written[80].0, TIME).unwrap();
        written.extend(fill_wide(&log, 100..120));
        log.close().unwrap();
        drop(log);
        let report = scry_wal::verify(dir.path()).unwrap();
        assert_eq!((report.problem, report.torn), (None, None));
        let (log, found) = open(dir.path(), with(written[80].0)).unwrap();
        assert_eq!(found, from(&written, log.begin()));
    }
}

/// Who looks at a log that another process writes and lets go of, sees what is still there when it is read.
#[test]
fn a_log_that_goes_while_it_is_looked_at_is_read_from_where_it_begins_then() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), frugal(Lsn::ZERO)).unwrap();
    let mut written = fill_wide(&log, 0..60);
    let mut frames = inspect::frames(dir.path(), Lsn::ZERO).unwrap();
    let first = frames.by_ref().flat_map(|frame| numbers(&frame.unwrap())).next();
    assert_eq!(first, Some(written[0]));
    // The file that is open becomes a spare, then another segment; those behind it are gone.
    log.recycle(written[59].0, TIME).unwrap();
    written.extend(fill_wide(&log, 60..200));
    let read: Vec<_> = frames
        .by_ref()
        .flat_map(|frame| numbers(&frame.unwrap()))
        .collect();
    assert_eq!(frames.begin(), log.begin());
    // What was read ahead comes, too.
    let left = from(&read, log.begin());
    assert!(
        !left.is_empty() && from(&written, log.begin()).starts_with(&left),
        "{read:?}"
    );
    assert!(
        read.is_sorted() && read.iter().all(|one| written.contains(one)),
        "{read:?}"
    );

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                let frames = inspect::frames(dir.path(), Lsn::ZERO).unwrap();
                let read: Vec<_> = frames.flat_map(|frame| numbers(&frame.unwrap())).collect();
                assert!(read.is_sorted(), "{read:?}");
                assert_eq!(scry_wal::verify(dir.path()).unwrap().problem, None);
                rounds += 1;
            }
            rounds
        });
        for round in 0..60 {
            let written = fill_wide(&log, 200 + round * 20..220 + round * 20);
            log.recycle(written[19].0, TIME).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}
