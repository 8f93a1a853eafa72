//! Savepoints of a mirror behind a real engine: what was kept stays readable, whatever comes later.
#![allow(clippy::unwrap_used)]

mod common;

use common::candidates::engine;
use common::*;
use scry_engine::{Engine, Table, Value};
use scry_mirror::{Checksum, Error, ErrorKind, Mirror, SAVEPOINTS_MAX, verify};
use scry_wal::Lsn;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROWS: i64 = 2000;

fn create(engine: &Arc<Engine>) -> Arc<Table> {
    filled(engine, "t", "v", ROWS)
}

/// Gives every row another value; waits for the mirror.
fn change_all(engine: &Arc<Engine>, mirror: &Mirror, table: &Table, value: i64) -> Lsn {
    let mut txn = begin(engine);
    for id in 0..ROWS {
        let row = table
            .layout
            .encode(&[Value::Int8(id), Value::Int8(value)])
            .unwrap();
        let key = table.key_of(&row).unwrap();
        block_on(txn.lock(table, &key)).unwrap().unwrap();
        block_on(txn.update(table, &key, row)).unwrap();
    }
    let lsn = txn.commit("change").unwrap().unwrap();
    engine.log().wait_durable(lsn).unwrap();
    block_on(mirror.applied(lsn.plus(1))).unwrap();
    lsn
}

fn present(mirror: &Mirror, table: &Table) -> Checksum {
    let snapshot = mirror.newest_snapshot();
    snapshot.table(table.def.store).unwrap().checksum().unwrap()
}

fn held(mirror: &Mirror, table: &Table) -> (String, Checksum) {
    let (name, snapshot) = mirror.held().expect("a savepoint is held");
    let rows = snapshot.unwrap().table(table.def.store).unwrap();
    (name, rows.checksum().unwrap())
}

fn folders(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.join("mirror/savepoints")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_dir()).collect()
}

#[test]
fn a_savepoint_outlives_changes_checkpoints_restarts_and_a_mirror_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let engine = engine(home.path());
    let table = create(&engine);
    let mut mirror = mirror(home.path(), &engine);
    let first = change_all(&engine, &mirror, &table, 1);
    assert_eq!(mirror.create_savepoint("one").unwrap(), first);
    let one = present(&mirror, &table);
    let second = change_all(&engine, &mirror, &table, 2);
    assert_eq!(mirror.create_savepoint("two").unwrap(), second);
    let two = present(&mirror, &table);
    for value in 3..8 {
        change_all(&engine, &mirror, &table, value);
        mirror.request_checkpoint();
    }
    let now = present(&mirror, &table);
    assert!(one != two && two != now);
    for round in 0..3 {
        for (name, expected) in [("one", one), ("two", two)] {
            mirror.hold(name).unwrap();
            assert_eq!(
                held(&mirror, &table),
                (name.to_owned(), expected),
                "round {round}"
            );
            // The mirror itself goes on.
            assert_eq!(present(&mirror, &table), now);
        }
        if round == 0 {
            mirror.close();
        }
        if round == 1 {
            // Without its manifest it is made anew.
            mirror.close();
            drop(mirror);
            fs::remove_file(home.path().join("mirror/MANIFEST")).unwrap();
        }
        mirror = self::mirror(home.path(), &engine);
        block_on(mirror.applied(engine.log().durable_lsn())).unwrap();
        // Held over the restart.
        assert_eq!(held(&mirror, &table), ("two".to_owned(), two));
        assert!(mirror.status().rebuilt.is_none());
    }
    let listed = mirror.savepoints();
    let listed: Vec<_> = listed
        .iter()
        .map(|save| (save.name.as_str(), save.at, save.held))
        .collect();
    assert_eq!(listed, [("one", first, false), ("two", second, true)]);
    assert!(mirror.savepoints()[0].bytes > 0);
    assert!(mirror.resume().unwrap() && !mirror.resume().unwrap());
    assert!(mirror.held().is_none());
    mirror.hold("one").unwrap();
    mirror.remove_savepoint("one").unwrap();
    assert!(mirror.held().is_none());
    mirror.remove_savepoint("two").unwrap();
    assert!(mirror.savepoints().is_empty() && folders(home.path()).is_empty());
}

#[test]
fn names_are_taken_once_and_there_is_a_bound() {
    let home = tempfile::tempdir().unwrap();
    let engine = engine(home.path());
    let mirror = mirror(home.path(), &engine);
    mirror.create_savepoint("a/b").unwrap();
    let again = mirror.create_savepoint("a/b");
    assert!(
        matches!(again, Err(Error::DuplicateSavepoint { .. })),
        "{again:?}"
    );
    for result in [mirror.hold("c"), mirror.remove_savepoint("c")] {
        assert!(
            matches!(result, Err(Error::UndefinedSavepoint { .. })),
            "{result:?}"
        );
    }
    for number in 1..SAVEPOINTS_MAX {
        mirror.create_savepoint(&number.to_string()).unwrap();
    }
    let more = mirror.create_savepoint("more");
    assert!(matches!(more, Err(Error::TooManySavepoints { .. })), "{more:?}");
    mirror.remove_savepoint("a/b").unwrap();
    mirror.create_savepoint("more").unwrap();
    mirror.close();
    assert!(matches!(
        mirror.create_savepoint("late"),
        Err(Error::TooManySavepoints { .. })
    ));
    mirror.remove_savepoint("more").unwrap();
    assert!(matches!(mirror.create_savepoint("late"), Err(Error::Closed)));
}

#[test]
fn a_damaged_savepoint_answers_nobody_and_half_a_one_is_gone_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let engine = engine(home.path());
    let table = create(&engine);
    let mirror = mirror(home.path(), &engine);
    change_all(&engine, &mirror, &table, 1);
    mirror.create_savepoint("one").unwrap();
    mirror.hold("one").unwrap();
    mirror.close();
    drop(mirror);
    let folder = folders(home.path()).pop().unwrap();
    fs::create_dir(folder.with_extension("undone")).unwrap();
    assert!(verify(&home.path().join("mirror")).unwrap().problems.is_empty());
    let file = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .unwrap();
    // The mirror's own link to the same bytes goes, so that it has whole ones.
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    assert_eq!(verify(&home.path().join("mirror")).unwrap().problems.len(), 1);
    let mirror = self::mirror(home.path(), &engine);
    assert!(mirror.status().rebuilt.is_none());
    assert_eq!(folders(home.path()), [folder]);
    let (name, snapshot) = mirror.held().expect("it is held");
    let error = snapshot.expect_err("its bytes are damaged");
    assert_eq!((name.as_str(), error.kind()), ("one", ErrorKind::Corrupt));
    assert!(mirror.resume().unwrap());
    assert_eq!(
        mirror.hold("one").expect_err("damaged").kind(),
        ErrorKind::Corrupt
    );
    assert!(mirror.held().is_none());
    mirror.remove_savepoint("one").unwrap();
}
