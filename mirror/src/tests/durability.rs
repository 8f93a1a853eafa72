//! Restarts: what is on disk is the state, and what is damaged is said so.

use scry_wal::{Lsn, StoreId};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kit::{Primary, Work, read};
use crate::cache::Cache;
use crate::checkpoint::{self, Checkpointer};
use crate::core::Core;
use crate::error::Error;
use crate::horizon::Horizon;
use crate::merge::merge;

/// Small, so that some pieces are evicted and some stay in memory.
const PIECE_ROWS: usize = 64;

fn open(folder: &Path) -> Result<(Arc<Core>, Checkpointer), Error> {
    let restored = checkpoint::restore(folder, PIECE_ROWS)?;
    let horizon = Horizon::new(Arc::new(|| Lsn::MAX));
    let cache = Arc::new(Cache::new(1 << 20));
    let core = Core::new(restored.position, restored.stores, &horizon, cache, PIECE_ROWS);
    Ok((Arc::new(core), restored.checkpointer))
}

/// A folder with a checkpoint of a store with 200 inserted rows, some of them updated and deleted.
fn written(folder: &Path) -> (Primary, StoreId) {
    let (core, mut checkpointer) = open(folder).expect("empty");
    let mut primary = Primary::new();
    let store = primary.create();
    primary.commit(&[(
        store,
        Work {
            inserts: 200,
            ..Work::default()
        },
    )]);
    core.apply(&primary.take()).expect("applied");
    let work = Work {
        updates: (0..20).collect(),
        deletes: (0..10).collect(),
        inserts: 0,
    };
    primary.commit(&[(store, work)]);
    core.apply(&primary.take()).expect("applied");
    checkpointer.run(&core).expect("written");
    (primary, store)
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .expect("listed")
        .map(|entry| entry.expect("listed").path());
    let mut paths: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn a_restart_reads_what_the_checkpoint_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let (primary, store) = written(folder.path());
    let (core, _) = open(folder.path()).expect("restored");
    assert_eq!(core.applied(), primary.end);
    let snapshot = core.newest_snapshot();
    let table = snapshot.table(store).expect("exists");
    assert_eq!(Some(read(&table, None)), primary.rows_at(store, snapshot.lsn()));
}

#[test]
fn every_damaged_byte_of_every_file_is_found_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path());
    let mut paths = segments(folder.path());
    assert!(paths.len() > 2, "{paths:?}");
    paths.push(folder.path().join("MANIFEST"));
    for path in paths {
        let good = fs::read(&path).expect("read");
        for position in (0..good.len()).step_by(7).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[position] ^= 0x10;
            fs::write(&path, &bad).expect("written");
            match open(folder.path()) {
                Err(Error::Damaged {
                    path: found, offset, ..
                }) => {
                    assert_eq!(found, path);
                    assert!(offset <= position as u64, "{offset} for {position}");
                }
                // The format's own four bytes: a number that is too large is a newer version.
                Err(Error::NewerFormat { .. }) => assert!((8..12).contains(&position)),
                other => panic!("byte {position} of {}: {:?}", path.display(), other.map(|_| ())),
            }
        }
        for length in [0, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..length]).expect("written");
            assert!(
                matches!(open(folder.path()), Err(Error::Damaged { .. })),
                "cut to {length}"
            );
        }
        fs::write(&path, &good).expect("written");
        open(folder.path()).expect("whole again");
    }
}

#[test]
fn a_segment_damaged_while_it_is_in_use_is_not_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, store) = written(folder.path());
    let (core, _) = open(folder.path()).expect("restored");
    for path in segments(folder.path()) {
        let mut bytes = fs::read(&path).expect("read");
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(&path, bytes).expect("written");
    }
    let table = core.newest_snapshot().table(store).expect("exists");
    let results: Vec<_> = table
        .units()
        .iter()
        .map(|unit| unit.read(&[0, 1], None))
        .collect();
    let damaged = |result: &Result<_, Error>| matches!(result, Err(Error::Damaged { .. }));
    assert!(results.iter().any(damaged), "some pieces are only in their files");
    assert!(results.iter().all(|result| result.is_ok() || damaged(result)));
}

#[test]
fn files_that_no_manifest_names_go_away_with_their_last_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut primary, store) = written(folder.path());
    let (core, mut checkpointer) = open(folder.path()).expect("restored");
    let snapshot = core.newest_snapshot();
    let table = snapshot.table(store).expect("exists");
    let expected = primary.rows_at(store, snapshot.lsn());
    let old = segments(folder.path());
    drop(snapshot);
    primary.commit(&[(
        store,
        Work {
            deletes: vec![0; 250],
            ..Work::default()
        },
    )]);
    core.apply(&primary.take()).expect("applied");
    core.tidy().expect("tidied");
    checkpointer.run(&core).expect("written");
    assert_eq!(segments(folder.path()), old, "a reader still has them");
    assert_eq!(Some(read(&table, None)), expected);
    drop(table);
    assert_eq!(segments(folder.path()), Vec::<PathBuf>::new());
    let (core, _) = open(folder.path()).expect("restored");
    assert_eq!(
        core.newest_snapshot().table(store).expect("exists").live_rows(),
        0
    );
}

#[test]
fn a_checkpoint_that_fails_leaves_the_one_before_and_the_tail() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("mirror");
    fs::create_dir(&place).expect("created");
    let (mut primary, store) = written(&place);
    let (core, mut checkpointer) = open(&place).expect("restored");
    primary.commit(&[(
        store,
        Work {
            inserts: 100,
            ..Work::default()
        },
    )]);
    core.apply(&primary.take()).expect("applied");
    let away = folder.path().join("away");
    fs::rename(&place, &away).expect("moved");
    assert!(matches!(checkpointer.run(&core), Err(Error::Io { .. })));
    let figures = core.store(store).expect("known").figures();
    assert!(figures.unsealed_bytes > 0, "the tail stays in memory");
    fs::rename(&away, &place).expect("moved");
    checkpointer.run(&core).expect("written at the second attempt");
    assert_eq!(core.store(store).expect("known").figures().unsealed_bytes, 0);
    let (core, _) = open(&place).expect("restored");
    let snapshot = core.newest_snapshot();
    let table = snapshot.table(store).expect("exists");
    assert_eq!(Some(read(&table, None)), primary.rows_at(store, snapshot.lsn()));
}

/// Fails once there is another manifest than the one set aside.
fn sync_that_fails_behind_the_manifest(folder: &Path) -> Result<(), Error> {
    let read = |name| fs::read(folder.join(name)).expect("read");
    if read("MANIFEST") == read("MANIFEST.before") {
        return Ok(());
    }
    Err(Error::io(folder, "sync")(std::io::Error::other(
        "simulated failure",
    )))
}

#[test]
fn a_manifest_that_may_not_be_durable_leaves_the_files_of_the_one_before_and_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut primary, store) = written(folder.path());
    let (core, mut checkpointer) = open(folder.path()).expect("restored");
    let before = primary.end;
    let manifest = folder.path().join("MANIFEST");
    fs::copy(&manifest, folder.path().join("MANIFEST.before")).expect("copied");
    let work = Work {
        inserts: 300,
        deletes: (0..150).collect(),
        updates: Vec::new(),
    };
    primary.commit(&[(store, work)]);
    core.apply(&primary.take()).expect("applied");
    checkpointer.set_sync_folder(sync_that_fails_behind_the_manifest);
    assert!(matches!(checkpointer.run(&core), Err(Error::Io { .. })));
    // Whichever a power failure leaves, its files are there.
    for (name, upto) in [("MANIFEST", primary.end), ("MANIFEST.before", before)] {
        let copy = tempfile::tempdir().expect("a folder");
        for path in segments(folder.path()) {
            fs::copy(&path, copy.path().join(path.file_name().expect("named"))).expect("copied");
        }
        fs::copy(folder.path().join(name), copy.path().join("MANIFEST")).expect("copied");
        let (core, _) = open(copy.path()).expect("restored");
        assert_eq!(core.applied(), upto);
        let snapshot = core.newest_snapshot();
        let table = snapshot.table(store).expect("exists");
        assert_eq!(Some(read(&table, None)), primary.rows_at(store, snapshot.lsn()));
    }
    checkpointer.set_sync_folder(|_| Ok(()));
    core.tidy().expect("tidied");
    checkpointer.run(&core).expect("written");
    let named = |folder: &Path| checkpoint::restore(folder, PIECE_ROWS).map(|_| segments(folder));
    let found = segments(folder.path());
    assert_eq!(
        found,
        named(folder.path()).expect("restored"),
        "no file is left over"
    );
}

#[test]
fn rows_that_die_while_a_compaction_runs_stay_dead() {
    let folder = tempfile::tempdir().expect("a folder");
    let (core, mut checkpointer) = open(folder.path()).expect("empty");
    let mut primary = Primary::new();
    let store = primary.create();
    primary.commit(&[(
        store,
        Work {
            inserts: 200,
            ..Work::default()
        },
    )]);
    core.apply(&primary.take()).expect("applied");
    checkpointer.run(&core).expect("written");
    let delete = |primary: &mut Primary, deletes| {
        primary.commit(&[(
            store,
            Work {
                deletes: vec![0; deletes],
                ..Work::default()
            },
        )]);
        core.apply(&primary.take()).expect("applied");
        core.tidy().expect("tidied");
    };
    delete(&mut primary, 45);
    let cell = core.store(store).expect("known");
    let slots = cell.compaction().expect("the first piece is mostly dead");
    let merged = merge(&slots, &cell.schema(), &core.cache).expect("readable");
    let before = core.newest_snapshot().table(store).expect("exists");
    // Rows of the piece that is being rewritten, and all rows of another one.
    delete(&mut primary, 10);
    assert!(cell.replace(&slots, merged));
    let check = |primary: &Primary| {
        let snapshot = core.newest_snapshot();
        let table = snapshot.table(store).expect("exists");
        assert_eq!(Some(read(&table, None)), primary.rows_at(store, snapshot.lsn()));
    };
    check(&primary);
    assert_eq!(
        read(&before, None).len(),
        155,
        "who had it open sees the old pieces"
    );
    let merged = merge(&slots, &cell.schema(), &core.cache).expect("readable");
    assert!(!cell.replace(&slots, merged), "the pieces are not there any more");
    delete(&mut primary, 100);
    checkpointer.run(&core).expect("written");
    check(&primary);
}

#[test]
fn a_folder_set_aside_is_an_empty_mirror() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path());
    checkpoint::set_aside(folder.path()).expect("set aside");
    assert_eq!(segments(folder.path()), Vec::<PathBuf>::new());
    let (core, _) = open(folder.path()).expect("empty");
    assert_eq!(core.applied(), Lsn::ZERO);
    assert!(folder.path().join("MANIFEST.damaged").exists());
}
