//! Transactions that are several times larger than the memory that they may take.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use scry_wal::sim::SimStorage;
use std::pin::pin;
use std::sync::Arc;

/// All changes of a transaction in memory, with what belongs to them, may take so much: those of `MANY` rows and of their index take eight times as much.
const MEMORY: u64 = 2 << 20;
const MANY: i32 = 30_000;

fn tight() -> EngineOptions {
    let mut options = options();
    options.log.segment_bytes = 1 << 20;
    options.transaction_bytes_max = MEMORY;
    options.move_bytes = MEMORY / 8;
    options
}

/// Nothing makes checkpoints but who asks for them.
fn without_checkpoints() -> EngineOptions {
    EngineOptions {
        checkpoint_log_bytes: 0,
        checkpoint_dirty_bytes: 0,
        ..tight()
    }
}

fn indexed(home: &Home) -> Arc<Table> {
    let mut new = new_table("t", true);
    new.indexes = vec![index("t_value", true)];
    home.create_as(new)
}

/// Scattered, so that nothing comes in the order of keys.
fn nth(number: i32) -> i32 {
    (number * 7919) % MANY
}

fn load(txn: &mut Txn, table: &Table) {
    for number in 0..MANY {
        let id = nth(number);
        insert(txn, table, id, i64::from(id) * 2);
    }
}

fn loaded() -> Vec<(i32, i64)> {
    (0..MANY).map(|id| (id, i64::from(id) * 2)).collect()
}

fn begin(home: &Home) -> Txn {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.statement();
    txn
}

/// Files of rows, but for those that the manifest names.
fn private_files(home: &Home) -> usize {
    let all = std::fs::read_dir(home.directory.path().join("runs")).unwrap();
    let names = all.map(|file| file.unwrap().file_name().into_string().unwrap());
    let runs = names.filter(|name| name.ends_with(".run")).count();
    let named: u64 = home
        .engine()
        .runs_stats()
        .levels
        .iter()
        .map(|level| level.runs)
        .sum();
    runs.saturating_sub(named as usize)
}

#[test]
fn a_load_that_is_larger_than_memory_is_committed_and_found_after_a_crash() {
    for checkpoints in [true, false] {
        let options = if checkpoints {
            tight()
        } else {
            without_checkpoints()
        };
        let mut home = Home::with(options);
        let table = indexed(&home);
        home.put(&table, MANY, -1);
        let mut txn = begin(&home);
        load(&mut txn, &table);
        assert!(private_files(&home) > 0, "rows have moved out of memory");
        // It sees its rows in every way, and nobody else does.
        assert_eq!(txn.changed_rows(), MANY as u64);
        let mut expected = loaded();
        expected.push((MANY, -1));
        assert_eq!(rows(&mut txn, &table), expected);
        assert_eq!(get(&mut txn, &table, 17), Some(34));
        assert_eq!(txn.own_writes(table.def.store).unwrap().rows.len(), MANY as usize);
        let mut by_value = expected.clone();
        by_value.sort_by_key(|(_, value)| *value);
        assert_eq!(rows_by_index(&mut txn, &table, 0), by_value);
        assert_eq!(home.rows(&table), [(MANY, -1)]);
        // Its own keys are taken, also in the index.
        assert!(
            matches!(try_insert(&mut txn, &table, 5, 0), Ok(InsertOutcome::Exists(there)) if there.ordinal.is_none())
        );
        let outcome = try_insert(&mut txn, &table, -5, 10).unwrap();
        assert!(matches!(outcome, InsertOutcome::Taken { index: 0, key: taken } if taken == key(5)));
        // What moved can be changed, deleted and inserted again.
        assert!(set(&mut txn, &table, 3, -3));
        assert!(delete(&mut txn, &table, 4));
        assert!(!delete(&mut txn, &table, 4));
        assert!(delete(&mut txn, &table, 6));
        insert(&mut txn, &table, 6, -6);
        expected[3].1 = -3;
        expected[6].1 = -6;
        expected.remove(4);
        assert_eq!(rows(&mut txn, &table), expected);
        home.engine().checkpoint().unwrap();
        txn.commit("COPY").unwrap().unwrap();
        assert_eq!(home.rows(&table), expected);
        home.check_indexes(&table);
        home.check_replica(&table);
        if checkpoints {
            home.checkpoint();
            wait_until("the files of the transaction", || private_files(&home) == 0);
        }
        drop(table);
        home.restart_at_once();
        let table = home.table("t");
        assert_eq!(home.rows(&table), expected);
        home.check_indexes(&table);
        home.check_replica(&table);
        drop(table);
        home.restart();
        assert_eq!(home.rows(&home.table("t")), expected);
    }
}

#[test]
fn rows_that_moved_are_changed_over_and_over_within_the_same_memory() {
    let home = Home::with(without_checkpoints());
    let table = home.create("t", true);
    let mut txn = begin(&home);
    load(&mut txn, &table);
    for round in 1..3 {
        for id in 0..MANY {
            assert!(set(&mut txn, &table, id, i64::from(round)));
            if id % 100 == 0 {
                block_on(txn.room()).unwrap();
            }
        }
    }
    for id in (0..MANY).step_by(2) {
        assert!(delete(&mut txn, &table, id));
        if id % 100 == 0 {
            block_on(txn.room()).unwrap();
        }
    }
    let expected: Vec<(i32, i64)> = (0..MANY).filter(|id| id % 2 == 1).map(|id| (id, 2)).collect();
    assert_eq!(rows(&mut txn, &table), expected);
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), expected);
    home.check_replica(&table);
    home.checkpoint();
    assert_eq!(home.rows(&table), expected);
    home.check_replica(&table);
}

#[test]
fn of_a_load_that_is_rolled_back_or_cut_off_nothing_is_left() {
    let mut home = Home::on_disk(without_checkpoints(), SimStorage::new(7, false));
    let table = indexed(&home);
    let mut txn = begin(&home);
    load(&mut txn, &table);
    assert!(private_files(&home) > 0);
    txn.rollback();
    assert_eq!(private_files(&home), 0);
    assert_eq!(home.rows(&table), []);
    let mut txn = begin(&home);
    load(&mut txn, &table);
    home.put(&table, -1, -1);
    let lsn = home.engine().visible_lsn();
    home.engine().log().wait_durable(lsn).unwrap();
    let left = std::fs::read_dir(home.directory.path().join("runs"))
        .unwrap()
        .count();
    drop(table);
    // The process dies with the transaction open: its files are kept from being removed by nobody but the crash.
    let files = home.directory.path().join("runs");
    let kept = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(&files).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), kept.path().join(file.file_name())).unwrap();
    }
    drop(txn);
    home.crash(1);
    for file in std::fs::read_dir(kept.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), files.join(file.file_name())).unwrap();
    }
    home.open().unwrap();
    assert!(left > 2, "the transaction had files");
    assert_eq!(home.rows(&home.table("t")), [(-1, -1)]);
    assert_eq!(private_files(&home), 0);
}

#[test]
fn whoever_inserts_a_key_that_moved_waits_for_the_end_of_its_transaction() {
    for commits in [true, false] {
        let home = Home::with(tight());
        let table = indexed(&home);
        let mut txn = begin(&home);
        load(&mut txn, &table);
        let (mut by_key, mut by_value) = (begin(&home), begin(&home));
        {
            let mut key_waits = pin!(by_key.insert(&table, Some(key(7)), row(&table, 7, -7)));
            let mut value_waits = pin!(by_value.insert(&table, Some(key(-8)), row(&table, -8, 16)));
            assert!(poll_once(key_waits.as_mut()).is_pending());
            assert!(poll_once(value_waits.as_mut()).is_pending());
            // Nothing is there yet to be locked.
            assert_eq!(block_on(begin(&home).lock(&table, &key(9))).unwrap(), None);
            match commits {
                true => drop(txn.commit("").unwrap()),
                false => txn.rollback(),
            }
            let (inserted, valued) = (block_on(key_waits).unwrap(), block_on(value_waits).unwrap());
            match commits {
                true => {
                    assert!(matches!(inserted, InsertOutcome::Exists(there) if there.ordinal.is_some()));
                    assert!(matches!(valued, InsertOutcome::Taken { key: taken, .. } if taken == key(8)));
                }
                false => {
                    assert_eq!(inserted, InsertOutcome::Inserted(key(7)));
                    assert_eq!(valued, InsertOutcome::Inserted(key(-8)));
                }
            }
        }
        by_key.commit("").unwrap();
        by_value.commit("").unwrap();
        let expected = if commits {
            loaded()
        } else {
            vec![(-8, 16), (7, -7)]
        };
        assert_eq!(home.rows(&table), expected);
        home.check_indexes(&table);
    }
}

#[test]
fn two_loads_that_wait_for_each_others_rows_are_a_deadlock() {
    let home = Home::with(tight());
    let table = home.create("t", true);
    let (mut one, mut other) = (begin(&home), begin(&home));
    for id in 0..MANY / 2 {
        insert(&mut one, &table, id, 1);
        insert(&mut other, &table, MANY + id, 2);
    }
    {
        let mut waits = pin!(one.insert(&table, Some(key(MANY)), row(&table, MANY, 1)));
        assert!(poll_once(waits.as_mut()).is_pending());
        let refused = block_on(other.insert(&table, Some(key(0)), row(&table, 0, 2)));
        assert!(matches!(refused, Err(Error::Deadlock { .. })), "{refused:?}");
        other.rollback();
        assert_eq!(block_on(waits).unwrap(), InsertOutcome::Inserted(key(MANY)));
    }
    one.commit("").unwrap();
    assert_eq!(home.rows(&table).len(), MANY as usize / 2 + 1);
}

#[test]
fn savepoints_see_and_bring_back_rows_that_moved() {
    let home = Home::with(tight());
    let table = indexed(&home);
    let mut txn = begin(&home);
    load(&mut txn, &table);
    let savepoint = txn.savepoint().unwrap();
    assert!(set(&mut txn, &table, 1, -1));
    assert!(delete(&mut txn, &table, 2));
    assert!(delete(&mut txn, &table, 3));
    insert(&mut txn, &table, 3, -3);
    insert(&mut txn, &table, -4, -4);
    txn.rollback_to(savepoint).unwrap();
    assert_eq!(rows(&mut txn, &table), loaded());
    // What is written behind a savepoint stays in memory; there the bound is met.
    let refused = (0..MANY).find_map(|id| try_insert(&mut txn, &table, MANY + id, -5 - i64::from(id)).err());
    assert!(
        matches!(refused, Some(Error::TransactionTooLarge { .. })),
        "{refused:?}"
    );
    txn.rollback_to(savepoint).unwrap();
    assert_eq!(rows(&mut txn, &table), loaded());
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), loaded());
    home.check_indexes(&table);
    home.check_replica(&table);
}

#[test]
fn cursors_show_rows_that_moved_as_they_were_when_they_were_opened() {
    let home = Home::with(tight());
    let table = indexed(&home);
    let mut txn = begin(&home);
    load(&mut txn, &table);
    let mut cursor = txn.begin_scan(&table, KeyRange::all()).unwrap();
    let first = cursor.next_batch(10).unwrap();
    assert!(set(&mut txn, &table, MANY - 1, -1));
    assert!(delete(&mut txn, &table, MANY - 2));
    for id in 0..MANY / 10 {
        insert(&mut txn, &table, MANY + id, -10 - i64::from(id));
    }
    txn.commit("").unwrap().unwrap();
    home.checkpoint();
    let rest = cursor.next_batch(usize::MAX).unwrap();
    let seen = first.iter().chain(&rest);
    let seen: Vec<_> = seen.map(|(_, version)| decode(&table, &version.row)).collect();
    assert_eq!(seen, loaded());
}

#[test]
fn a_table_that_a_load_has_filled_takes_keys_and_indexes_in_the_same_transaction() {
    let mut options = tight();
    options.transaction_bytes_max = 64 << 20;
    let mut home = Home::with(options);
    let mut txn = begin(&home);
    let table = block_on(txn.create_table(new_table("t", false))).unwrap();
    load(&mut txn, &table);
    let table = block_on(txn.create_index(&table, index("t_value", true))).unwrap();
    let by_value = rows_by_index(&mut txn, &table, 0);
    assert_eq!(by_value, loaded());
    let keyed = block_on(txn.add_primary_key(&table, primary_key("t"))).unwrap();
    assert_eq!(rows(&mut txn, &keyed), loaded());
    assert!(set(&mut txn, &keyed, 1, -1));
    txn.commit("").unwrap().unwrap();
    let mut expected = loaded();
    expected[1].1 = -1;
    drop((table, keyed));
    for _ in 0..2 {
        let table = home.table("t");
        assert_eq!(home.rows(&table), expected);
        home.check_indexes(&table);
        home.check_replica(&table);
        drop(table);
        home.restart_at_once();
    }
}

#[test]
fn who_has_read_a_range_that_a_load_writes_into_is_refused() {
    let home = Home::with(without_checkpoints());
    let (table, other) = (home.create("t", true), home.create("other", true));
    let mut reader = home.session().begin(Isolation::Serializable);
    reader.statement();
    assert_eq!(rows(&mut reader, &table), []);
    let mut txn = home.session().begin(Isolation::Serializable);
    txn.statement();
    assert_eq!(rows(&mut txn, &other), []);
    load(&mut txn, &table);
    txn.commit("").unwrap().unwrap();
    insert(&mut reader, &other, 1, 1);
    assert!(matches!(reader.commit(""), Err(Error::ReadConflict { .. })));
    // And the load by who writes what it has read.
    let mut txn = home.session().begin(Isolation::Serializable);
    txn.statement();
    assert_eq!(rows(&mut txn, &other), []);
    for id in MANY..2 * MANY {
        insert(&mut txn, &table, id, 0);
    }
    home.put(&other, 2, 2);
    assert!(matches!(txn.commit(""), Err(Error::ReadConflict { .. })));
    assert_eq!(home.rows(&table), loaded());
    home.checkpoint();
    assert_eq!(private_files(&home), 0);
}

#[test]
fn a_load_is_replayed_with_what_it_has_changed_of_others_rows() {
    for evicts in [true, false] {
        let mut home = Home::with(without_checkpoints());
        let table = indexed(&home);
        for id in 0..100 {
            home.put(&table, MANY + id, -1 - i64::from(id));
        }
        let mut txn = begin(&home);
        assert!(delete(&mut txn, &table, MANY));
        txn.commit("").unwrap().unwrap();
        if evicts {
            home.checkpoint();
        }
        let mut txn = begin(&home);
        load(&mut txn, &table);
        let mut expected = loaded();
        insert(&mut txn, &table, MANY, -1);
        expected.push((MANY, -1));
        // Keys of the unique index go from row to row.
        for id in 1..100 {
            if id % 3 == 0 {
                assert!(delete(&mut txn, &table, MANY + id));
            } else {
                assert!(set(&mut txn, &table, MANY + id, -1000 - i64::from(id)));
                expected.push((MANY + id, -1000 - i64::from(id)));
            }
        }
        for id in 1..100 {
            insert(&mut txn, &table, 2 * MANY + id, -1 - i64::from(id));
            expected.push((2 * MANY + id, -1 - i64::from(id)));
        }
        assert!(delete(&mut txn, &table, 8));
        insert(&mut txn, &table, 3 * MANY, 16);
        expected.retain(|(id, _)| *id != 8);
        expected.push((3 * MANY, 16));
        assert_eq!(rows(&mut txn, &table), expected);
        txn.commit("").unwrap().unwrap();
        // And another one over its rows.
        let mut txn = begin(&home);
        for id in (100..2000).step_by(2) {
            assert!(delete(&mut txn, &table, id));
        }
        txn.commit("").unwrap().unwrap();
        expected.retain(|(id, _)| *id < 100 || *id >= 2000 || id % 2 == 1);
        drop(table);
        for restart in 0..3 {
            home.restart_at_once();
            let table = home.table("t");
            assert_eq!(home.rows(&table), expected, "restart {restart}");
            home.check_indexes(&table);
            home.check_replica(&table);
            match restart {
                0 => assert!(private_files(&home) > 0, "rows of the load are in files again"),
                _ => home.checkpoint(),
            }
            assert!(restart == 0 || private_files(&home) == 0);
            home.put(&table, -1 - restart, -10_000 - i64::from(restart));
            expected.insert(0, (-1 - restart, -10_000 - i64::from(restart)));
        }
    }
}
