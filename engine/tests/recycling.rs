//! The log behind checkpoints: what nothing needs goes, and what is left is enough.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use scry_wal::archive::Archive;
use scry_wal::{Flaw, Lsn, Retention};
use std::fs;
use std::path::Path;

fn frugal() -> EngineOptions {
    let mut options = options();
    options.log.segment_bytes = 16 << 10;
    options.log.retention = Retention::bytes(0);
    // Checkpoints are made when a test says so.
    options.checkpoint_log_bytes = 1 << 40;
    options
}

/// Some rows in commits of their own: several segments.
fn fill(home: &Home, table: &Table, rows: std::ops::Range<i32>) {
    for id in rows {
        home.put(table, id, i64::from(id));
    }
    let end = home.engine().visible_lsn();
    home.engine().log().wait_durable(end).unwrap();
}

#[test]
fn a_checkpoint_lets_go_of_the_log_before_it_and_a_start_needs_no_more() {
    let mut home = Home::with(frugal());
    home.create("t", true);
    let mut rows = 0;
    for round in 0..4 {
        let table = home.table("t");
        fill(&home, &table, rows..rows + 200);
        rows += 200;
        let before = home.engine().log().begin();
        let at = home.engine().checkpoint().unwrap();
        let begin = home.engine().log().begin();
        assert!(begin > before && begin <= at, "{before} {begin} {at}");
        // With a checkpoint at the end, and with none.
        match round % 2 {
            0 => home.restart(),
            _ => {
                fill(&home, &table, rows..rows + 5);
                rows += 5;
                home.restart_at_once();
            }
        }
        let table = home.table("t");
        let expected: Vec<_> = (0..rows).map(|id| (id, i64::from(id))).collect();
        assert_eq!(home.rows(&table), expected);
    }
}

#[test]
fn a_consumer_and_an_open_bulk_transaction_hold_the_log() {
    let mut options = frugal();
    options.spill_bytes = 400;
    let home = Home::with(options);
    let table = home.create("t", true);
    fill(&home, &table, 0..200);
    let log = home.engine().log().clone();
    let needs = log.durable_lsn();
    log.consumers().register("reader", needs).unwrap();
    fill(&home, &table, 200..400);
    home.checkpoint();
    assert!(log.begin() > Lsn::ZERO && log.begin() <= needs);
    fill(&home, &table, 400..600);
    let before = log.begin();
    log.consumers().advance("reader", log.durable_lsn()).unwrap();
    home.engine().recycle_log().unwrap();
    assert!(log.begin() > before, "no checkpoint was needed for that");

    let mut session = home.session();
    let mut bulk = session.begin(Isolation::ReadCommitted);
    let first = log.durable_lsn();
    for id in 10_000..10_100 {
        insert(&mut bulk, &table, id, 0);
    }
    fill(&home, &table, 600..800);
    log.consumers().advance("reader", log.durable_lsn()).unwrap();
    let at = home.engine().checkpoint().unwrap();
    assert!(log.begin() <= first && at > first.plus(16 << 10));
    bulk.commit("").unwrap();
    home.checkpoint();
    log.consumers().advance("reader", log.durable_lsn()).unwrap();
    home.engine().recycle_log().unwrap();
    assert!(log.begin() > first);
    assert_eq!(home.rows(&table).len(), 900);
}

#[test]
fn the_log_of_another_database_is_refused() {
    let mut options = frugal();
    // Both begin with their first byte, however far they come.
    options.log.retention = Retention::Everything;
    let mut home = Home::with(options.clone());
    let other = Home::with(options);
    for home in [&home, &other] {
        let table = home.create("t", true);
        fill(home, &table, 0..30);
        home.checkpoint();
        home.engine().log().close().unwrap();
    }
    drop(home.engine.take());
    let wal = |home: &Home| home.directory.path().join("wal");
    std::fs::rename(wal(&home), home.directory.path().join("away")).unwrap();
    std::fs::rename(wal(&other), wal(&home)).unwrap();
    let refused = home.open().unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Log(scry_wal::Error::Damaged {
                flaw: Flaw::Foreign,
                ..
            })
        ),
        "{refused}"
    );
}

/// With an archive, and a checkpoint every 32 KiB of log.
fn archiving(archive: &Path) -> EngineOptions {
    let mut options = frugal();
    options.checkpoint_log_bytes = 32 << 10;
    options.log.archive = Some(Archive::folder(archive));
    options
}

fn archived(archive: &Path) -> usize {
    let names = fs::read_dir(archive)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".wal"))
        .count()
}

#[test]
fn checkpoints_do_not_wait_for_a_slow_archive() {
    let archive = tempfile::tempdir().unwrap();
    // The copy of the first segment waits.
    let pipe = archive.path().join("0000000000000000.wal.tmp");
    make_pipe(&pipe);
    let mut home = Home::with(archiving(archive.path()));
    let table = home.create("t", true);
    let mut rows = 0;
    wait_until("five checkpoints", || {
        fill(&home, &table, rows..rows + 50);
        rows += 50;
        home.engine().stats().checkpoints >= 5
    });
    assert_eq!(
        (archived(archive.path()), home.engine().log().begin()),
        (0, Lsn::ZERO)
    );
    assert_eq!(home.engine().recycling_trouble(), None, "it is only slow");
    // The copy fails, for that is no file, and succeeds when it is tried again.
    let open = open_pipe(&pipe);
    wait_until("the archive", || archived(archive.path()) >= 5);
    wait_until("the log is let go of", || home.engine().log().begin() > Lsn::ZERO);
    drop(open);
    home.restart();
    assert_eq!(home.rows(&home.table("t")).len(), usize::try_from(rows).unwrap());
}

#[test]
fn what_cannot_be_archived_is_told_until_it_can() {
    let archive = tempfile::tempdir().unwrap();
    let obstacle = archive.path().join("0000000000000000.wal.tmp");
    fs::create_dir(&obstacle).unwrap();
    let home = Home::with(archiving(archive.path()));
    let table = home.create("t", true);
    fill(&home, &table, 0..400);
    wait_until("the trouble", || home.engine().recycling_trouble().is_some());
    let trouble = home.engine().recycling_trouble().unwrap();
    assert!(trouble.contains("0000000000000000.wal"), "{trouble}");
    home.checkpoint();
    assert_eq!(home.engine().log().begin(), Lsn::ZERO, "nothing goes unarchived");
    fs::remove_dir(&obstacle).unwrap();
    wait_until("its end", || home.engine().recycling_trouble().is_none());
    wait_until("the archive", || archived(archive.path()) > 0);
}
