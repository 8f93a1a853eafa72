//! Backups of a directory in use, and what is restored from them, against every state there was.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::backup::{BackedUp, RestoreTo, Restored, back_up, restore};
use scry_engine::*;
use scry_wal::copy::file_name;
use scry_wal::sim::Random;
use scry_wal::{Lsn, Micros, Retention};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const KEYS: u64 = 40;

type State = BTreeMap<i32, i64>;

struct World {
    home: Home,
    folder: tempfile::TempDir,
    random: Random,
    /// Every state, with the commit that made it and the time after it.
    states: Vec<(Lsn, Micros, State)>,
}

impl World {
    fn new(seed: u64) -> World {
        World::with(seed, options())
    }

    /// Lets go of all of the log that no checkpoint needs.
    fn recycling(seed: u64) -> World {
        let mut options = options();
        options.log.segment_bytes = 16 << 10;
        options.log.retention = Retention::bytes(0);
        World::with(seed, options)
    }

    fn with(seed: u64, mut options: EngineOptions) -> World {
        options.spill_bytes = 400;
        options.runs.file_bytes = 2 << 10;
        options.runs.base_bytes = 2 << 10;
        let home = Home::with(options);
        home.create("t", true);
        let states = vec![(home.engine().visible_lsn(), Micros::now(), State::new())];
        World {
            home,
            folder: tempfile::tempdir().unwrap(),
            random: Random::new(seed),
            states,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.below(limit)
    }

    /// Some commits; a transaction that stays open has written ahead meanwhile.
    fn commit(&mut self, count: usize) {
        let table = self.home.table("t");
        let mut open = self.home.session().begin(Isolation::ReadCommitted);
        for id in 0..20 {
            insert(&mut open, &table, 10_000 + id, 7);
        }
        for _ in 0..count {
            let mut state = self.states.last().unwrap().2.clone();
            let mut txn = self.home.session().begin(Isolation::ReadCommitted);
            for _ in 0..=self.below(30) {
                let (id, value) = (self.below(KEYS) as i32, self.below(1000) as i64);
                if self.below(4) == 0 {
                    delete(&mut txn, &table, id);
                    state.remove(&id);
                } else {
                    if !set(&mut txn, &table, id, value) {
                        insert(&mut txn, &table, id, value);
                    }
                    state.insert(id, value);
                }
            }
            if let Some(lsn) = txn.commit("CHANGE").unwrap() {
                self.home.engine().log().wait_durable(lsn).unwrap();
                self.states.push((lsn, Micros::now(), state));
            }
        }
    }

    fn back_up(&self, keep: usize) -> BackedUp {
        back_up(
            self.home.directory.path(),
            self.folder.path(),
            keep,
            Micros::now(),
        )
        .unwrap()
    }

    /// Commits until the log begins behind `lsn`.
    fn recycle_behind(&mut self, lsn: Lsn) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.home.engine().log().begin() <= lsn {
            assert!(Instant::now() < deadline, "the log is let go of");
            self.commit(5);
            self.home.checkpoint();
        }
    }

    /// The newest state of which the log before `end` has all.
    fn newest_before(&self, end: Lsn) -> usize {
        self.states.partition_point(|(lsn, _, _)| *lsn < end) - 1
    }

    fn restore(&self, to: RestoreTo) -> (tempfile::TempDir, PathBuf, Restored) {
        let parent = tempfile::tempdir().unwrap();
        let into = parent.path().join("restored");
        let restored = restore(self.folder.path(), &into, to, None).unwrap();
        (parent, into, restored)
    }

    fn check(&self, index: usize, to: RestoreTo) {
        let (_parent, into, restored) = self.restore(to);
        let (lsn, _, state) = &self.states[index];
        assert_eq!(restored.last.map(|(lsn, _)| lsn), Some(*lsn), "{to:?}");
        let engine = Engine::open(&into, options()).unwrap();
        assert_ne!(engine.log().database(), self.home.engine().log().database());
        assert_eq!(engine.log().database(), restored.database);
        let table = Arc::clone(engine.catalog().table("t").unwrap());
        let mut session = engine.session(SessionInfo::default());
        let mut txn = session.begin(Isolation::ReadCommitted);
        assert!(rows(&mut txn, &table).into_iter().eq(state.clone()), "{to:?}");
        // It goes on as a database of its own.
        insert(&mut txn, &table, 20_000, 1);
        txn.commit("INSERT").unwrap().unwrap();
        drop(session);
        engine.close().unwrap();
        drop((engine, table));
        let again = Engine::open(&into, options()).unwrap();
        let mut state = state.clone();
        state.insert(20_000, 1);
        let table = Arc::clone(again.catalog().table("t").unwrap());
        let mut session = again.session(SessionInfo::default());
        let mut txn = session.begin(Isolation::ReadCommitted);
        assert!(
            rows(&mut txn, &table).into_iter().eq(state),
            "{to:?} after a restart"
        );
    }
}

#[test]
fn every_state_can_be_restored_from_backups_made_under_load() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        let mut end = Lsn::ZERO;
        for round in 0..4 {
            world.commit(15);
            if round == 2 {
                world.home.restart();
            }
            let done = world.back_up(2);
            assert!(done.end > end, "it has what came meanwhile");
            end = done.end;
        }
        world.commit(5);
        let newest = world.newest_before(end);
        world.check(newest, RestoreTo::End);
        for _ in 0..6 {
            let index = world.below(newest as u64 + 1) as usize;
            let (lsn, time, _) = world.states[index];
            world.check(index, RestoreTo::Lsn(lsn));
            world.check(index, RestoreTo::Time(time));
        }
        let refused = restore(
            world.folder.path(),
            &world.folder.path().join("x"),
            RestoreTo::Lsn(end),
            None,
        );
        assert!(matches!(refused, Err(Error::NotYet { .. })));
    }
}

#[test]
fn a_backup_copies_what_is_new_and_keeps_no_more_than_is_needed() {
    let mut world = World::new(7);
    world.commit(30);
    world.home.checkpoint();
    let first = world.back_up(1);
    assert!(first.run_bytes > 0 && first.log_bytes > 0);
    let again = world.back_up(1);
    assert_eq!((again.run_bytes, again.number), (0, 2), "nothing is new");
    world.commit(1);
    let third = world.back_up(1);
    assert!(third.log_bytes < first.log_bytes);
    let folder = world.folder.path().to_owned();
    let listed = |part: &str| {
        let entries = fs::read_dir(folder.join(part)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    assert_eq!(manifests(&folder), ["backup-00000003"]);
    for _ in 0..5 {
        world.commit(10);
        world.home.checkpoint();
        world.back_up(1);
    }
    let named = world.back_up(1);
    let there: u64 = listed("runs")
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(there <= named.bytes, "runs that no backup needs are gone");
}

fn manifests(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut manifests: Vec<_> = names.filter(|name| name.starts_with("backup-")).collect();
    manifests.sort_unstable();
    manifests
}

#[test]
fn one_backup_is_made_at_a_time() {
    let mut world = World::new(13);
    world.commit(5);
    world.back_up(1);
    let folder = world.folder.path().to_owned();
    let other = OpenOptions::new().write(true).open(folder.join("LOCK")).unwrap();
    other.lock().unwrap();
    let before = files_under(&folder);
    world.commit(5);
    let refused = back_up(world.home.directory.path(), &folder, 1, Micros::now()).unwrap_err();
    assert!(
        matches!(&refused, Error::DirectoryLocked { path } if *path == folder),
        "{refused}"
    );
    assert_eq!(files_under(&folder), before);
    // Restoring does not need the lock.
    let (_parent, _, restored) = world.restore(RestoreTo::End);
    assert!(restored.last.is_some());
    drop(other);
    world.back_up(1);
    assert_eq!(manifests(&folder), ["backup-00000002"]);
}

#[test]
fn a_backup_that_is_being_restored_stays_until_the_next_one() {
    let mut world = World::new(17);
    world.commit(20);
    world.home.checkpoint();
    let first = world.back_up(1);
    let newest = world.newest_before(first.end);
    let folder = world.folder.path().to_owned();
    let reader = File::open(folder.join("backup-00000001")).unwrap();
    reader.lock_shared().unwrap();
    world.commit(20);
    world.home.checkpoint();
    world.back_up(1);
    assert_eq!(manifests(&folder), ["backup-00000001", "backup-00000002"]);
    // All that the first one has is still there.
    let second = fs::read(folder.join("backup-00000002")).unwrap();
    fs::remove_file(folder.join("backup-00000002")).unwrap();
    world.check(newest, RestoreTo::End);
    fs::write(folder.join("backup-00000002"), second).unwrap();
    drop(reader);
    world.back_up(1);
    assert_eq!(manifests(&folder), ["backup-00000003"]);
    world.check(world.states.len() - 1, RestoreTo::End);
}

#[test]
fn restores_beside_backups_that_replace_each_other_have_all_that_they_read() {
    let mut world = World::new(19);
    world.commit(10);
    world.home.checkpoint();
    world.back_up(1);
    let folder = world.folder.path().to_owned();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let restorer = scope.spawn(|| {
            let mut restored = 0;
            while restored == 0 || !is_over.load(Ordering::Relaxed) {
                let parent = tempfile::tempdir().unwrap();
                restore(&folder, &parent.path().join("restored"), RestoreTo::End, None).unwrap();
                restored += 1;
            }
        });
        for _ in 0..12 {
            world.commit(5);
            world.home.checkpoint();
            world.back_up(1);
        }
        is_over.store(true, Ordering::Relaxed);
        restorer.join().unwrap();
    });
    world.back_up(1);
    assert_eq!(manifests(&folder).len(), 1);
    world.check(world.states.len() - 1, RestoreTo::End);
}

/// Changes a byte of a file.
fn damage(path: &Path, at: u64) -> u8 {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    byte[0]
}

#[test]
fn damage_is_refused_with_file_and_offset_and_leaves_no_database() {
    let mut world = World::new(3);
    world.commit(30);
    world.home.checkpoint();
    world.commit(5);
    world.back_up(1);
    let mut files = Vec::new();
    for part in ["runs", "wal", ""] {
        let entries = fs::read_dir(world.folder.path().join(part)).unwrap();
        let found = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && !path.ends_with("LOCK"));
        files.extend(found.map(|path| (path, part)));
    }
    assert!(files.len() > 3);
    for (path, part) in files {
        damage(&path, 5);
        let parent = tempfile::tempdir().unwrap();
        let into = parent.path().join("restored");
        let refused = restore(world.folder.path(), &into, RestoreTo::End, None).unwrap_err();
        match refused {
            Error::DamagedFile {
                path: named, offset, ..
            } => {
                assert_eq!((&named, offset), (&path, 0), "{part}");
            }
            other => panic!("{}: {other}", path.display()),
        }
        assert!(!into.join("FORMAT").exists());
        damage(&path, 5);
    }
    world.check(world.states.len() - 1, RestoreTo::End);
}

#[test]
fn a_backup_that_was_cut_short_leaves_the_one_before() {
    let mut world = World::new(5);
    world.commit(20);
    let done = world.back_up(1);
    let newest = world.newest_before(done.end);
    let before: BTreeMap<PathBuf, Vec<u8>> = files_under(world.folder.path());
    world.commit(20);
    world.home.checkpoint();
    world.back_up(1);
    let after = files_under(world.folder.path());
    // As far as the second one came: new files in part, the log grown, its manifest not there.
    for (path, bytes) in &before {
        fs::write(path, bytes).unwrap();
    }
    for (path, bytes) in &after {
        match before.get(path) {
            None if path.extension().is_some_and(|extension| extension == "wal") => {
                fs::rename(path, path.with_extension("wal.new")).unwrap();
            }
            None if path.extension().is_some() => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
            None => fs::rename(path, path.with_file_name("backup.new")).unwrap(),
            Some(_) if path.extension().is_some() => fs::write(path, bytes).unwrap(),
            Some(_) => {}
        }
    }
    world.check(newest, RestoreTo::End);
    // And the next one goes on from there.
    world.back_up(1);
    world.check(world.states.len() - 1, RestoreTo::End);
}

#[test]
fn a_backup_is_restored_beside_segments_of_others_that_its_own_log_does_not_go_on_from() {
    let mut world = World::recycling(11);
    world.commit(15);
    world.home.checkpoint();
    let first = world.back_up(2);
    world.recycle_behind(first.end.plus(32 << 10));
    let second = world.back_up(2);
    let newest = world.newest_before(second.end);
    world.check(newest, RestoreTo::End);
    // What is called the oldest state can be restored, and none before it.
    let oldest = world.newest_before(second.begin.plus(1));
    let into = world.folder.path().join("x");
    let before = RestoreTo::Lsn(world.states[oldest - 1].0);
    let refused = restore(world.folder.path(), &into, before, None);
    match refused {
        Err(Error::HistoryGone { oldest }) => assert_eq!(oldest, second.begin),
        other => panic!("{other:?}"),
    }
    fs::remove_dir(&into).unwrap();
    world.check(oldest, RestoreTo::Lsn(second.begin));
    // A third one that was cut short has copied segments, and none of those right behind the second one's.
    world.recycle_behind(second.end.plus(32 << 10));
    let wal = world.home.directory.path().join("wal");
    let copied = files_under(&wal)
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "wal"));
    for (path, bytes) in copied {
        fs::write(
            world.folder.path().join("wal").join(path.file_name().unwrap()),
            bytes,
        )
        .unwrap();
    }
    world.check(newest, RestoreTo::End);
    let third = world.back_up(1);
    world.check(world.newest_before(third.end), RestoreTo::End);
}

#[test]
fn backups_beside_checkpoints_that_let_go_of_the_log_can_be_restored() {
    let mut world = World::recycling(13);
    world.commit(15);
    let folder = tempfile::tempdir().unwrap();
    let data = world.home.directory.path().to_owned();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let backups = scope.spawn(|| {
            for round in 0..40 {
                back_up(&data, folder.path(), 1, Micros::now()).unwrap();
                let into = folder.path().with_extension(round.to_string());
                restore(folder.path(), &into, RestoreTo::End, None).unwrap();
                fs::remove_dir_all(&into).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) && !backups.is_finished() {
            world.commit(5);
            world.home.checkpoint();
        }
    });
}

fn files_under(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_under(&path)),
            false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    files
}

#[test]
fn what_is_no_backup_of_this_database_and_what_is_not_empty_is_refused() {
    let mut world = World::new(1);
    world.commit(3);
    world.back_up(1);
    let mut other = World::new(2);
    other.commit(3);
    let refused = back_up(other.home.directory.path(), world.folder.path(), 1, Micros::now());
    assert!(matches!(refused, Err(Error::ForeignBackup { .. })));
    let refused = back_up(world.folder.path(), other.folder.path(), 1, Micros::now());
    assert!(matches!(refused, Err(Error::NotADataDirectory { .. })));
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("thesis.tex"), "important").unwrap();
    let refused = restore(world.folder.path(), target.path(), RestoreTo::End, None);
    assert!(matches!(refused, Err(Error::NotEmpty { .. })));
    let refused = restore(target.path(), &target.path().join("x"), RestoreTo::End, None);
    assert!(matches!(refused, Err(Error::ForeignBackup { .. })));
    world.check(world.states.len() - 1, RestoreTo::End);
}

#[test]
fn the_log_is_kept_while_a_backup_copies_it_and_goes_when_that_has_ended() {
    let mut world = World::recycling(17);
    world.commit(15);
    world.home.checkpoint();
    let engine = Arc::clone(world.home.engine());
    let (log, begin) = (engine.log(), engine.log().begin());
    assert!(begin > Lsn::ZERO);
    let is_consumer = || {
        engine.recycle_log().unwrap();
        log.consumers().list().iter().any(|known| known.name == "backup")
    };
    assert!(!is_consumer());

    // The copy of the first segment waits.
    let wal = world.folder.path().join("wal");
    fs::create_dir(&wal).unwrap();
    let pipe = wal.join(format!("{}.new", file_name(begin)));
    make_pipe(&pipe);
    let (data, folder) = (
        world.home.directory.path().to_owned(),
        world.folder.path().to_owned(),
    );
    let backup = std::thread::spawn(move || back_up(&data, &folder, 1, Micros::now()));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_consumer() {
        assert!(Instant::now() < deadline, "the backup is a consumer");
    }
    for _ in 0..3 {
        world.commit(15);
        world.home.checkpoint();
        assert_eq!(log.begin(), begin, "the log is kept");
    }
    assert!(!backup.is_finished());
    let open = open_pipe(&pipe);
    let refused = backup.join().unwrap();
    assert!(
        matches!(refused, Err(Error::Log(_))),
        "a pipe is no file: {refused:?}"
    );
    drop(open);
    fs::remove_file(&pipe).unwrap();

    assert!(!is_consumer());
    assert!(log.begin() > begin, "what was kept goes");
    world.back_up(1);
    drop(engine);
    world.check(world.states.len() - 1, RestoreTo::End);
}

#[test]
fn no_more_of_the_log_is_kept_for_a_backup_than_for_any_consumer() {
    let mut options = options();
    options.log.segment_bytes = 16 << 10;
    options.log.retention = Retention::bytes(0);
    options.log.retain_bytes_max = 64 << 10;
    let mut world = World::with(19, options);
    world.commit(5);
    // As a backup does that never ends.
    let format = fs::File::open(world.home.directory.path().join("FORMAT")).unwrap();
    format.lock_shared().unwrap();
    world.home.checkpoint();
    let begin = world.home.engine().log().begin();
    world.recycle_behind(begin.plus(64 << 10));
    let consumers = || world.home.engine().log().consumers().list();
    assert_eq!(consumers()[0].name, "backup");
    assert!(consumers()[0].dropped.is_some());
    drop(format);
    world.home.engine().recycle_log().unwrap();
    assert!(consumers().is_empty(), "it has ended");
}
