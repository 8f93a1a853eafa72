//! The end of the log, case by case: what is a torn tail and cut, what is damage and refused, what is neither.
//!
//! The logs are written by the log itself and then changed behind its back. Frames are sealed again by the description
//! of the format, not by the log's code, so this is also a second reading of that description.
//!
//! | what is found | where it is tested |
//! |---|---|
//! | zero, short and huge lengths, bad checksums | `HARMS` here; over remains of a recycled segment in `recycle` |
//! | bad chain | `a_frame_that_is_whole_but…`, `a_rewritten_frame…` here |
//! | remains of a recycled segment | `recycle` |
//! | headers and frames split over blocks | `torn_writes` |
//! | a valid frame behind a torn one | `valid_frames_behind…`, `remains_of_an_old_epoch…` here, `torn_writes` |
//! | a segment missing, duplicated, swapped, of another database | here; with a log that begins later in `restart`, in an archive in `archive` |
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ops::Range;
use std::sync::Arc;

use common::harm::{at, change, name, seal, storage, without_watermark};
use common::{SEGMENT, UNIT, fill, open_on, options};
use scry_wal::sim::SimStorage;
use scry_wal::verify::verify_on;
use scry_wal::{Backend, Error, Flaw, Log, LogOptions, Lsn};

fn reopen(disk: &Arc<SimStorage>) -> Result<(Log, Vec<u64>), Error> {
    let options = LogOptions {
        segment_bytes: SEGMENT,
        ..options(Backend::Auto)
    };
    let (log, found) = open_on(storage(disk), options)?;
    Ok((log, found.into_iter().map(|(_, number)| number).collect()))
}

/// A closed log with one record per number; returns where the frames stand.
fn log_of(numbers: Range<u64>, size: usize) -> (Arc<SimStorage>, Vec<u64>) {
    let disk = SimStorage::new(1, false);
    let (log, _) = reopen(&disk).unwrap();
    let frames = fill(&log, numbers, size);
    log.close().unwrap();
    (disk, frames)
}

fn damaged(refused: Result<(Log, Vec<u64>), Error>) -> (u64, Flaw, Option<Lsn>) {
    match refused {
        Err(Error::Damaged { place, flaw, witness }) => {
            assert_eq!(place.offset, place.lsn.get() % SEGMENT);
            (place.lsn.get(), flaw, witness)
        }
        other => panic!("{other:?}"),
    }
}

type Harm = fn(&mut [u8]);

/// Ways in which a frame of one unit can be torn or harmed.
const HARMS: [(&str, Harm); 8] = [
    ("all zeros", |frame| frame.fill(0)),
    ("zero length", |frame| frame[24..28].fill(0)),
    ("short length", |frame| frame[24] -= 1),
    ("huge length", |frame| frame[24..28].fill(0xFF)),
    ("bad checksum", |frame| frame[4] ^= 1),
    ("first sector lost", |frame| frame[..512].fill(0)),
    ("second sector lost", |frame| frame[512..1024].fill(0)),
    ("rubbish in the padding", |frame| frame[4095] = 1),
];

#[test]
fn a_harmed_last_frame_without_a_witness_is_cut_off_and_the_log_goes_on() {
    for (name, harm) in HARMS {
        let (disk, frames) = log_of(0..4, 1000);
        without_watermark(&disk, frames[3]);
        change(&disk, frames[3], UNIT as usize, harm);
        let report = verify_on(&storage(&disk)).unwrap();
        assert_eq!((report.problem, report.records), (None, 3), "{name}");
        assert_eq!(report.torn.is_some(), name != "all zeros", "{name}");
        let (log, found) = reopen(&disk).unwrap();
        assert_eq!(found, [0, 1, 2], "{name}");
        assert_eq!(
            log.durable_lsn(),
            Lsn::new(frames[3] + UNIT),
            "{name}: the epoch begins in its place"
        );
        fill(&log, 10..12, 10);
        log.close().unwrap();
        let (_log, found) = reopen(&disk).unwrap();
        assert_eq!(found, [0, 1, 2, 10, 11], "{name}");
    }
}

#[test]
fn a_harmed_frame_with_a_witness_is_refused_with_its_place_and_nothing_is_changed() {
    for (name, harm) in HARMS {
        for (victim, watermark) in [(2, false), (3, true)] {
            let (disk, frames) = log_of(0..4, 1000);
            if !watermark {
                without_watermark(&disk, frames[3]);
            }
            change(&disk, frames[victim], UNIT as usize, harm);
            let before = disk.files();
            let (lsn, _, witness) = damaged(reopen(&disk));
            assert_eq!(lsn, frames[victim], "{name}");
            assert_eq!(witness, Some(Lsn::new(frames[victim] + UNIT)), "{name}");
            assert_eq!(disk.files(), before, "{name}");
            let problem = verify_on(&storage(&disk)).unwrap().problem.unwrap();
            assert_eq!(problem.place.lsn, Lsn::new(frames[victim]), "{name}");
        }
    }
}

#[test]
fn the_message_of_damage_names_file_offset_lsn_and_the_way_out() {
    let (disk, frames) = log_of(0..4, 1000);
    change(&disk, frames[1], UNIT as usize, |frame| frame[200] ^= 1);
    let message = reopen(&disk).unwrap_err().to_string();
    let offset = format!("offset {}", frames[1]);
    for part in [
        "/simulated/0000000000000000.wal",
        &offset,
        "LSN 0/3000",
        "scry repair",
        "Nothing was changed",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn valid_frames_behind_a_torn_one_that_were_on_their_way_with_it_are_cut_too_and_never_come_back() {
    let (disk, frames) = log_of(0..5, 1000);
    without_watermark(&disk, frames[4]);
    // As if 3 and 4 had been on their way together.
    change(&disk, frames[4], UNIT as usize, |frame| {
        frame[40..48].copy_from_slice(&frames[3].to_le_bytes());
        seal(frame);
    });
    let (log, found) = reopen(&disk.copy()).unwrap();
    assert_eq!(found, [0, 1, 2, 3, 4], "whole, they are recovered");
    drop(log);

    change(&disk, frames[3], UNIT as usize, |frame| frame[130] ^= 1);
    let (log, found) = reopen(&disk).unwrap();
    assert_eq!(found, [0, 1, 2]);
    let torn = log.recovery().torn.clone().unwrap();
    assert_eq!((torn.lsn.get(), torn.frames_behind), (frames[3], 1));
    let epoch = log
        .tail(Lsn::new(frames[3]))
        .next(std::time::Duration::ZERO)
        .unwrap()
        .unwrap()
        .epoch();
    log.close().unwrap();
    // The new epoch's first frame stands where 3 stood, and right behind it 4 stands still, whole: an old epoch's remains.
    disk.edit(|files| assert_eq!(at(files, frames[4], 4), b"SCRF"));
    let (log, found) = reopen(&disk).unwrap();
    assert_eq!(found, [0, 1, 2]);
    let now = log
        .tail(Lsn::new(frames[4]))
        .next(std::time::Duration::ZERO)
        .unwrap()
        .unwrap()
        .epoch();
    assert!(now > epoch && epoch > 1, "the epoch rises each time");
}

/// A log cut at the fourth of six frames; the last two stand behind the cut, whole.
fn cut_log() -> (Arc<SimStorage>, Vec<u64>) {
    let (disk, frames) = log_of(0..6, 1000);
    without_watermark(&disk, frames[5]);
    for remains in [4, 5] {
        change(&disk, frames[remains], UNIT as usize, |frame| {
            frame[40..48].copy_from_slice(&frames[3].to_le_bytes());
            seal(frame);
        });
    }
    change(&disk, frames[3], UNIT as usize, |frame| frame[130] ^= 1);
    (disk, frames)
}

#[test]
fn remains_of_an_old_epoch_testify_to_nothing() {
    let (disk, frames) = cut_log();
    let (log, _) = reopen(&disk).unwrap();
    drop(log);
    // What is left of the old epoch claims that all before it was durable: then it was, but the log was cut since.
    change(&disk, frames[5], UNIT as usize, |frame| {
        frame[40..48].copy_from_slice(&frames[5].to_le_bytes());
        seal(frame);
    });
    let (_log, found) = reopen(&disk).unwrap();
    assert_eq!(found, [0, 1, 2]);
}

#[test]
fn the_new_epoch_is_above_every_epoch_that_stands_anywhere() {
    let (disk, frames) = cut_log();
    change(&disk, frames[5], UNIT as usize, |frame| {
        frame[16] = 77;
        seal(frame);
    });
    let (log, found) = reopen(&disk).unwrap();
    assert_eq!(found, [0, 1, 2]);
    let first = log
        .tail(Lsn::new(frames[3]))
        .next(std::time::Duration::ZERO)
        .unwrap()
        .unwrap();
    assert_eq!(first.epoch(), 78);
}

#[test]
fn a_frame_that_is_whole_but_does_not_continue_the_chain_is_refused_even_at_the_end() {
    let harms: [(&str, Flaw, Harm); 4] = [
        ("link", Flaw::ChainLink, |frame| {
            frame[64] ^= 1;
            seal(frame);
        }),
        ("hash", Flaw::ChainHash, |frame| {
            frame[96] ^= 1;
            let payload = u32::from_le_bytes(frame[24..28].try_into().unwrap()) as usize;
            let crc = crc32fast::hash(&frame[8..128 + payload]);
            frame[4..8].copy_from_slice(&crc.to_le_bytes());
        }),
        ("database", Flaw::Foreign, |frame| {
            frame[48] ^= 1;
            seal(frame);
        }),
        ("flags", Flaw::Flags(8), |frame| {
            frame[32] = 8;
            seal(frame);
        }),
    ];
    for (name, expected, harm) in harms {
        let (disk, frames) = log_of(0..4, 1000);
        without_watermark(&disk, frames[3]);
        change(&disk, frames[3], UNIT as usize, harm);
        let before = disk.files();
        let (lsn, flaw, _) = damaged(reopen(&disk));
        assert_eq!((lsn, flaw), (frames[3], expected), "{name}");
        assert_eq!(disk.files(), before, "{name}");
    }
}

#[test]
fn a_rewritten_frame_breaks_the_chain_behind_it() {
    let (disk, frames) = log_of(0..4, 1000);
    change(&disk, frames[1], UNIT as usize, |frame| {
        frame[1000] ^= 1;
        seal(frame);
    });
    let refused = Log::open_on(storage(&disk), options(Backend::Auto), &mut |_| Ok(()));
    let (lsn, flaw, _) = damaged(refused.map(|log| (log, Vec::new())));
    assert_eq!((lsn, flaw), (frames[2], Flaw::ChainLink));
}

/// A log of at least four entered segments.
fn long_log() -> (Arc<SimStorage>, Vec<u64>) {
    let (disk, frames) = log_of(0..20, 9_000);
    assert!(frames[19] > 3 * SEGMENT);
    (disk, frames)
}

fn refused_unchanged(disk: &Arc<SimStorage>) -> (u64, Flaw) {
    let before = disk.files();
    let (lsn, flaw, _) = damaged(reopen(disk));
    assert_eq!(disk.files(), before);
    let problem = verify_on(&storage(disk)).unwrap().problem.unwrap();
    assert_eq!((problem.place.lsn.get(), &problem.flaw), (lsn, &flaw));
    (lsn, flaw)
}

#[test]
fn a_missing_segment_is_refused() {
    for missing in [1, 2] {
        let (disk, _) = long_log();
        disk.edit(|files| assert!(files.remove(&name(missing)).is_some()));
        assert_eq!(
            refused_unchanged(&disk),
            (missing * SEGMENT, Flaw::MissingSegment)
        );
    }
    // Nothing in the log says whether its first segment is needed: whoever opens it does.
    let (disk, _) = long_log();
    disk.edit(|files| assert!(files.remove(&name(0)).is_some()));
    let before = disk.files();
    let refused = reopen(&disk).unwrap_err();
    let Error::BeginMissing { begin, restart, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!((begin.get(), restart), (SEGMENT, Lsn::ZERO));
    assert!(refused.to_string().contains(&name(1)), "{refused}");
    assert_eq!(disk.files(), before);
}

#[test]
fn a_duplicated_segment_is_refused() {
    let (disk, _) = long_log();
    disk.edit(|files| {
        let copy = files[&name(1)].clone();
        files.insert(name(2), copy);
    });
    assert_eq!(
        refused_unchanged(&disk),
        (2 * SEGMENT, Flaw::Misplaced(Lsn::new(SEGMENT)))
    );
    // Also behind the end, where nothing was written yet.
    let (disk, frames) = long_log();
    disk.edit(|files| {
        let copy = files[&name(1)].clone();
        files.insert(name(frames[19] / SEGMENT + 1), copy);
    });
    let behind = (frames[19] / SEGMENT + 1) * SEGMENT;
    assert_eq!(
        refused_unchanged(&disk),
        (behind, Flaw::Misplaced(Lsn::new(SEGMENT)))
    );
}

#[test]
fn swapped_segments_are_refused() {
    let (disk, _) = long_log();
    disk.edit(|files| {
        let (one, two) = (files[&name(1)].clone(), files[&name(2)].clone());
        files.insert(name(1), two);
        files.insert(name(2), one);
    });
    assert_eq!(
        refused_unchanged(&disk),
        (SEGMENT, Flaw::Misplaced(Lsn::new(2 * SEGMENT)))
    );
}

#[test]
fn a_segment_of_another_database_is_refused() {
    let (other, _) = long_log();
    let (disk, frames) = long_log();
    disk.edit(|files| {
        files.insert(name(2), other.files()[&name(2)].clone());
    });
    assert_eq!(refused_unchanged(&disk), (2 * SEGMENT, Flaw::Foreign));
    let (disk, _) = long_log();
    let behind = frames[19] / SEGMENT + 1;
    disk.edit(|files| {
        let mut foreign = other.files()[&name(1)].clone();
        foreign[40..48].copy_from_slice(&(behind * SEGMENT).to_le_bytes());
        let crc = crc32fast::hash(&foreign[8..4096]);
        foreign[4..8].copy_from_slice(&crc.to_le_bytes());
        files.insert(name(behind), foreign);
    });
    assert_eq!(refused_unchanged(&disk), (behind * SEGMENT, Flaw::Foreign));
}

#[test]
fn a_segment_of_another_size_and_a_file_that_is_none_are_refused() {
    let (disk, _) = long_log();
    disk.edit(|files| files.get_mut(&name(1)).unwrap().truncate(SEGMENT as usize - 1));
    let expected = Flaw::FileSize {
        found: SEGMENT - 1,
        expected: SEGMENT,
    };
    assert_eq!(refused_unchanged(&disk), (SEGMENT, expected));
    let (disk, _) = long_log();
    disk.edit(|files| {
        files.insert("copy of 0000000000000000.wal".to_owned(), Vec::new());
    });
    assert_eq!(refused_unchanged(&disk).1, Flaw::FileName);
}

#[test]
fn a_harmed_header_of_an_entered_segment_is_refused() {
    let (disk, _) = long_log();
    change(&disk, 2 * SEGMENT, UNIT as usize, |unit| unit[60] ^= 1);
    let (lsn, flaw) = refused_unchanged(&disk);
    assert!(
        lsn == 2 * SEGMENT && matches!(flaw, Flaw::Checksum { .. }),
        "{lsn} {flaw}"
    );
}

#[test]
fn a_torn_header_with_frames_behind_it_that_were_on_their_way_is_cut() {
    let (disk, frames) = long_log();
    let last_segment = frames[19] / SEGMENT;
    let base = last_segment * SEGMENT;
    let kept = frames.iter().filter(|&&lsn| lsn < base).count() as u64;
    // The header lost a sector; one frame behind it arrived, written when all before the segment was durable.
    disk.edit(|files| {
        at(files, base, 512).fill(0);
        let first = frames[kept as usize];
        assert_eq!(first, base + UNIT);
        let frame = at(files, first, 3 * UNIT as usize);
        frame[40..48].copy_from_slice(&base.to_le_bytes());
        seal(frame);
        let behind = first + 3 * UNIT;
        at(files, behind, (base + SEGMENT - behind) as usize).fill(0);
    });
    let (log, found) = reopen(&disk).unwrap();
    assert_eq!(found, (0..kept).collect::<Vec<_>>());
    assert_eq!(
        log.recovery().torn.as_ref().map(|torn| torn.lsn.get()),
        Some(base)
    );
    fill(&log, 100..110, 9_000);
    log.close().unwrap();
    let (_log, found) = reopen(&disk).unwrap();
    assert_eq!(found, (0..kept).chain(100..110).collect::<Vec<_>>());
}

#[test]
fn a_log_of_a_newer_format_is_refused_by_name_and_version() {
    for segment in [0, 1] {
        let (disk, _) = long_log();
        change(&disk, segment * SEGMENT, UNIT as usize, |unit| unit[8] = 9);
        let before = disk.files();
        let refused = reopen(&disk).unwrap_err();
        assert!(
            matches!(
                refused,
                Error::NewerFormat {
                    found: 9,
                    supported: 2,
                    ..
                }
            ),
            "{refused}"
        );
        assert!(refused.to_string().contains(&name(segment)), "{refused}");
        assert_eq!(disk.files(), before);
    }
}

#[test]
fn verify_counts_what_it_checked() {
    let (disk, frames) = long_log();
    let report = verify_on(&storage(&disk)).unwrap();
    assert_eq!((report.records, report.problem, report.torn), (20, None, None));
    assert!(report.segments > frames[19] / SEGMENT && report.frames > 20);
    assert_eq!(
        report.end,
        Lsn::new(frames[19] + 4 * UNIT),
        "the last frame of three units and a watermark"
    );
}

#[test]
fn verify_finds_a_malformed_record_and_a_wrong_count_behind_right_checksums() {
    let (disk, frames) = log_of(0..4, 1000);
    without_watermark(&disk, frames[3]);
    let (records, count) = (disk.copy(), disk);
    change(&records, frames[3], UNIT as usize, |frame| {
        frame[132] = 99;
        seal(frame);
    });
    let problem = verify_on(&storage(&records)).unwrap().problem.unwrap();
    assert!(matches!(problem.flaw, Flaw::Record(_)), "{:?}", problem.flaw);
    change(&count, frames[3], UNIT as usize, |frame| {
        frame[28] = 2;
        seal(frame);
    });
    let problem = verify_on(&storage(&count)).unwrap().problem.unwrap();
    assert_eq!(problem.flaw, Flaw::RecordCount { found: 1, stated: 2 });
}

#[test]
fn a_log_that_lost_its_end_is_refused_when_somebody_knows_and_nothing_is_changed() {
    let (disk, _) = log_of(0..60, 4000);
    let (log, found) = reopen(&disk.copy()).unwrap();
    assert_eq!(found.len(), 60);
    let known = log.durable_lsn();
    drop(log);
    let knowing = |disk: &Arc<SimStorage>| {
        let options = LogOptions {
            segment_bytes: SEGMENT,
            durable_before: known,
            ..options(Backend::Auto)
        };
        open_on(storage(disk), options)
    };
    let whole = disk.copy();
    let refused = match knowing(&whole) {
        Err(Error::EndMissing { end, durable, .. }) => (end, durable),
        other => panic!("{:?}", other.map(|(_, found)| found.len())),
    };
    // Opening wrote a watermark: the position known is one frame beyond this log's end.
    assert!(refused.0 < known && refused.1 == known);
    let known_to_mirror = refused.0;
    let knowing = |disk: &Arc<SimStorage>| {
        let options = LogOptions {
            segment_bytes: SEGMENT,
            durable_before: known_to_mirror,
            ..options(Backend::Auto)
        };
        open_on(storage(disk), options)
    };
    assert_eq!(knowing(&whole).map(|(_, found)| found.len()).unwrap(), 60);
    for keep in [2, 0] {
        let cut = disk.copy();
        cut.edit(|files| {
            while files.len() > keep {
                files.pop_last();
            }
        });
        let before = cut.files();
        match knowing(&cut) {
            Err(Error::EndMissing { end, durable, .. }) => {
                assert!(end < durable && durable == known_to_mirror)
            }
            other => panic!("{:?}", other.map(|(_, found)| found.len())),
        }
        assert_eq!(cut.files(), before);
        assert!(reopen(&cut).is_ok(), "without that knowledge nothing is missing");
    }
}
