//! Writes that arrived in part, sector by sector, and what stands behind them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::harm::{at, change, seal, storage, without_watermark};
use common::{SEGMENT, UNIT, append, fill, number, open_on, options};
use scry_wal::sim::SimStorage;
use scry_wal::verify::verify_on;
use scry_wal::{Backend, Error, Flaw, Lsn};

/// What a disk writes as one.
const SECTOR: u64 = 512;

/// Records whose frames take three units each.
const SIZE: usize = 9_000;
const FRAME: u64 = 3 * UNIT;

fn found(disk: &Arc<SimStorage>) -> Result<Vec<u64>, Error> {
    let (_log, found) = open_on(storage(disk), options(Backend::Auto))?;
    Ok(found.into_iter().map(|(_, number)| number).collect())
}

/// A closed log with these many records in frames of three units; returns where the frames stand.
fn log_of(count: u64) -> (Arc<SimStorage>, Vec<u64>) {
    let disk = SimStorage::new(1, false);
    let (log, _) = open_on(storage(&disk), options(Backend::Auto)).unwrap();
    let frames = fill(&log, 0..count, SIZE);
    log.close().unwrap();
    (disk, frames)
}

/// A log whose last frame has no witness.
fn without_witness(count: u64) -> (Arc<SimStorage>, Vec<u64>) {
    let (disk, frames) = log_of(count);
    let behind = frames[frames.len() - 1] + FRAME - UNIT;
    without_watermark(&disk, behind);
    (disk, frames)
}

#[test]
fn a_frame_that_lost_any_sector_is_cut_without_a_witness_and_refused_with_one() {
    let written = 128 + common::record(0, SIZE).len() as u64;
    for sector in 0..FRAME / SECTOR {
        // Sectors of padding are zero as they are.
        let lost = sector * SECTOR < written;
        let (disk, frames) = without_witness(3);
        change(&disk, frames[2] + sector * SECTOR, SECTOR as usize, |bytes| {
            bytes.fill(0)
        });
        let expected: &[u64] = if lost { &[0, 1] } else { &[0, 1, 2] };
        assert_eq!(found(&disk).unwrap(), expected, "sector {sector}");

        let (disk, frames) = log_of(3);
        change(&disk, frames[2] + sector * SECTOR, SECTOR as usize, |bytes| {
            bytes.fill(0)
        });
        let before = disk.files();
        match found(&disk) {
            Err(Error::Damaged { place, witness, .. }) => {
                assert!(lost && witness.is_some(), "sector {sector}");
                assert_eq!(place.lsn.get(), frames[2], "sector {sector}");
                assert_eq!(disk.files(), before, "sector {sector}");
            }
            Ok(all) => assert!(!lost && all == [0, 1, 2], "sector {sector}"),
            Err(error) => panic!("sector {sector}: {error}"),
        }
    }
}

#[test]
fn a_frame_of_which_only_a_beginning_or_an_end_arrived_is_cut() {
    let written = 128 + common::record(0, SIZE).len() as u64;
    for split in (0..=FRAME).step_by(SECTOR as usize) {
        for keep_beginning in [true, false] {
            let (disk, frames) = without_witness(3);
            let (from, to) = if keep_beginning {
                (split, FRAME)
            } else {
                (0, split)
            };
            change(&disk, frames[2] + from, (to - from) as usize, |bytes| {
                bytes.fill(0)
            });
            let whole = from >= written || from == to;
            let expected: &[u64] = if whole { &[0, 1, 2] } else { &[0, 1] };
            assert_eq!(found(&disk).unwrap(), expected, "{split} {keep_beginning}");
            let report = verify_on(&storage(&disk)).unwrap();
            assert_eq!(report.problem, None);
        }
    }
}

#[test]
fn a_frame_of_which_any_sectors_hold_what_was_there_before_is_cut() {
    for seed in 0..40_u64 {
        let (disk, frames) = without_witness(3);
        let mut random = scry_wal::sim::Random::new(seed);
        let mut lost = false;
        for sector in 0..FRAME / SECTOR {
            if random.below(3) == 0 {
                lost = true;
                // Remains of an old segment: a frame in full, or the middle of one.
                let old = disk.files()["0000000000000000.wal"][4096 + (sector * SECTOR) as usize..]
                    [..SECTOR as usize]
                    .to_vec();
                change(&disk, frames[2] + sector * SECTOR, SECTOR as usize, |bytes| {
                    bytes.copy_from_slice(&old);
                });
            }
        }
        let expected: &[u64] = if lost { &[0, 1] } else { &[0, 1, 2] };
        assert_eq!(found(&disk).unwrap(), expected, "seed {seed}");
    }
}

/// Nine records; the last segment's header and two frames were on their way together.
fn entering_a_segment() -> (Arc<SimStorage>, Vec<u64>, u64) {
    let (disk, frames) = without_witness(12);
    let base = frames[11] - frames[11] % SEGMENT;
    let first = frames.iter().position(|lsn| *lsn > base).unwrap();
    disk.edit(|files| {
        for lsn in &frames[first..] {
            let frame = at(files, *lsn, FRAME as usize);
            frame[40..48].copy_from_slice(&base.to_le_bytes());
            seal(frame);
        }
        // The frames behind the first must link to what the first became.
        for pair in frames[first..].windows(2) {
            let chain = at(files, pair[0] + 96, 32).to_vec();
            let next = at(files, pair[1], FRAME as usize);
            next[64..96].copy_from_slice(&chain);
            seal(next);
        }
    });
    (disk, frames[..first].to_vec(), base)
}

#[test]
fn a_segment_header_that_lost_a_sector_is_cut_or_is_whole() {
    let (disk, _, _) = entering_a_segment();
    assert_eq!(found(&disk).unwrap(), (0..12).collect::<Vec<_>>());
    for sector in 0..UNIT / SECTOR {
        let (disk, before, base) = entering_a_segment();
        change(&disk, base + sector * SECTOR, SECTOR as usize, |bytes| {
            bytes.fill(0)
        });
        // All of a header stands in its first sector.
        let expected = if sector == 0 { before.len() as u64 } else { 12 };
        assert_eq!(
            found(&disk).unwrap(),
            (0..expected).collect::<Vec<_>>(),
            "sector {sector}"
        );
    }
}

#[test]
fn a_segment_header_that_lost_a_sector_is_refused_when_a_frame_behind_it_was_acknowledged() {
    let (disk, frames) = log_of(12);
    let base = frames[11] - frames[11] % SEGMENT;
    change(&disk, base, SECTOR as usize, |bytes| bytes.fill(0));
    let before = disk.files();
    match found(&disk) {
        Err(Error::Damaged {
            place,
            flaw,
            witness: Some(_),
        }) => assert_eq!((place.lsn.get(), flaw), (base, Flaw::Zeros)),
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.files(), before);
}

#[test]
fn a_segment_header_with_another_size_is_refused() {
    let (disk, frames) = without_witness(12);
    let base = frames[11] - frames[11] % SEGMENT;
    change(&disk, base, UNIT as usize, |unit| {
        unit[48..56].copy_from_slice(&(2 * SEGMENT).to_le_bytes());
        let crc = crc32fast::hash(&unit[8..]);
        unit[4..8].copy_from_slice(&crc.to_le_bytes());
    });
    let before = disk.files();
    match found(&disk) {
        Err(Error::Damaged { place, flaw, .. }) => {
            assert_eq!((place.lsn.get(), flaw), (base, Flaw::Length(2 * SEGMENT)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.files(), before);
}

#[test]
fn a_valid_frame_in_a_later_segment_testifies_to_a_torn_one_in_an_earlier() {
    let (disk, frames) = log_of(12);
    let victim = frames.iter().rposition(|lsn| *lsn < SEGMENT).unwrap();
    // Everything between the victim and the last segment is lost; what is left says that it was durable.
    let base = frames[11] - frames[11] % SEGMENT;
    let mut lost = frames[victim];
    while lost < base {
        let end = (lost - lost % SEGMENT) + SEGMENT;
        change(&disk, lost, (end - lost) as usize, |bytes| bytes.fill(0));
        lost = end;
    }
    let before = disk.files();
    match found(&disk) {
        Err(Error::Damaged {
            place,
            flaw,
            witness: Some(witness),
        }) => {
            assert_eq!((place.lsn.get(), flaw), (frames[victim], Flaw::Zeros));
            assert!(witness.get() >= base, "{witness}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.files(), before);
}

#[test]
fn a_frame_that_stands_where_it_does_not_belong_testifies_to_nothing() {
    // A copy of an acknowledged frame, further behind: it says where it belongs.
    let (disk, frames) = without_witness(3);
    change(&disk, frames[2], 4, |bytes| bytes.fill(0));
    disk.edit(|files| {
        let copy = at(files, frames[1], FRAME as usize).to_vec();
        at(files, frames[2] + FRAME, FRAME as usize).copy_from_slice(&copy);
    });
    assert_eq!(found(&disk).unwrap(), [0, 1]);

    // A frame of another database, at its place: whole, and not this log's.
    let (disk, frames) = without_witness(3);
    change(&disk, frames[2], 4, |bytes| bytes.fill(0));
    disk.edit(|files| {
        let mut foreign = at(files, frames[1], FRAME as usize).to_vec();
        let place = frames[2] + FRAME;
        foreign[8..16].copy_from_slice(&place.to_le_bytes());
        foreign[40..48].copy_from_slice(&place.to_le_bytes());
        foreign[48] ^= 1;
        seal(&mut foreign);
        at(files, place, FRAME as usize).copy_from_slice(&foreign);
    });
    assert_eq!(found(&disk).unwrap(), [0, 1]);

    // The same frame, of this database, would be believed.
    let (disk, frames) = without_witness(3);
    change(&disk, frames[2], 4, |bytes| bytes.fill(0));
    let place = frames[2] + FRAME;
    disk.edit(|files| {
        let mut frame = at(files, frames[1], FRAME as usize).to_vec();
        frame[8..16].copy_from_slice(&place.to_le_bytes());
        frame[40..48].copy_from_slice(&place.to_le_bytes());
        seal(&mut frame);
        at(files, place, FRAME as usize).copy_from_slice(&frame);
    });
    let refused = found(&disk).unwrap_err();
    assert!(
        matches!(refused, Error::Damaged { witness: Some(witness), .. } if witness == Lsn::new(place)),
        "{refused}"
    );
}

#[test]
fn frames_of_all_lengths_that_end_anywhere_in_a_unit_are_read_back_whole() {
    let disk = SimStorage::new(1, false);
    let (log, _) = open_on(storage(&disk), options(Backend::Auto)).unwrap();
    let sizes: Vec<usize> = (3_700..4_100).step_by(7).chain(7_800..8_200).collect();
    let mut tail = log.tail(log.durable_lsn());
    for (at, size) in sizes.iter().enumerate() {
        let lsn = append(&log, at as u64, *size).unwrap();
        log.wait_durable(lsn).unwrap();
        // One frame each, which begins and ends at a unit; fillers and watermarks hold none.
        loop {
            let frame = tail.next(std::time::Duration::ZERO).unwrap().unwrap();
            assert!(frame.lsn().get().is_multiple_of(UNIT));
            if let Some(record) = frame.records().next() {
                assert_eq!(number(&record.unwrap().1), at as u64);
                break;
            }
        }
    }
    log.close().unwrap();
    drop(log);
    assert_eq!(found(&disk).unwrap(), (0..sizes.len() as u64).collect::<Vec<_>>());
}
