//! What is left of a damaged log: counted, copied, and the original as it was.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{UNIT, append, open, options};
use scry_wal::{Backend, Log, LogOptions, salvage, verify};

const SEGMENT: u64 = 64 << 10;

fn small() -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT,
        ..options(Backend::Blocking)
    }
}

/// Forty records, each acknowledged, over several segments; returns where their frames stand.
fn written(dir: &Path) -> Vec<u64> {
    let (log, _) = open(dir, small()).unwrap();
    let frames = fill(&log);
    log.close().unwrap();
    frames
}

fn fill(log: &Log) -> Vec<u64> {
    (0..40)
        .map(|number| {
            let lsn = append(log, number, 6_000).unwrap();
            log.wait_durable(lsn).unwrap();
            lsn.get() - 128
        })
        .collect()
}

fn flip(dir: &Path, lsn: u64) {
    let path = dir.join(format!("{:016x}.wal", lsn - lsn % SEGMENT));
    let mut bytes = fs::read(&path).unwrap();
    bytes[(lsn % SEGMENT) as usize] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_sound_log_has_nothing_to_be_saved_from() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("wal");
    written(&dir);
    assert_eq!(salvage(&dir).unwrap(), None);
}

#[test]
fn all_before_the_damage_opens_elsewhere_and_the_original_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("wal");
    let frames = written(&dir);
    for (round, victim) in [1, 20, 39].into_iter().enumerate() {
        flip(&dir, frames[victim] + 200);
        let before = files(&dir);
        let found = salvage(&dir).unwrap().unwrap();
        assert_eq!(found.problem.place.lsn.get(), frames[victim]);
        let behind = frames.len() - victim - 1;
        // Watermarks and fillers are frames, too.
        assert!(found.before.frames >= victim as u64, "{found:?}");
        assert!(found.behind.frames >= behind as u64, "{found:?}");
        assert!(found.before.frames + found.behind.frames >= frames.len() as u64 - 1);
        let into = folder.path().join(format!("saved {round}"));
        found.copy(&dir, &into).unwrap();
        assert_eq!(files(&dir), before);
        let report = verify(&into).unwrap();
        assert_eq!(
            (report.problem, report.torn, report.records),
            (None, None, victim as u64)
        );
        let (log, found) = open(&into, small()).unwrap();
        assert_eq!(
            found.iter().map(|(_, number)| *number).collect::<Vec<_>>(),
            (0..victim as u64).collect::<Vec<_>>()
        );
        append(&log, 1000, 10).unwrap();
        log.close().unwrap();
        let (_log, found) = open(&into, small()).unwrap();
        assert_eq!(found.len(), victim + 1, "the copy is a log that goes on");
        flip(&dir, frames[victim] + 200);
    }
}

#[test]
fn a_damaged_segment_header_ends_what_can_be_saved_at_the_segment() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("wal");
    let frames = written(&dir);
    flip(&dir, SEGMENT + 20);
    let found = salvage(&dir).unwrap().unwrap();
    let into = folder.path().join("saved");
    found.copy(&dir, &into).unwrap();
    let (_log, saved) = open(&into, small()).unwrap();
    let first_segment = frames.iter().filter(|lsn| **lsn < SEGMENT - UNIT).count();
    assert_eq!(saved.len(), first_segment);
}

#[test]
fn without_the_first_header_nothing_can_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("wal");
    written(&dir);
    flip(&dir, 20);
    let found = salvage(&dir).unwrap().unwrap();
    assert_eq!(found.before.frames, 0);
}
