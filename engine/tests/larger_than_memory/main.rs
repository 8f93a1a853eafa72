//! Transactions that are several times larger than the memory that they may take.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod filled;
mod referring;
mod rising;
mod savepoints;

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
    options.load_rows = 64;
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

/// The first half comes scattered, so that nothing is in the order of keys; the second one rises, as loads do (`txn::rising`).
fn nth(number: i32) -> i32 {
    match number < MANY / 2 {
        true => (number * 7919) % (MANY / 2),
        false => number,
    }
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

/// That a table has these rows, counts them, and that its indexes and the log have the same.
fn check_whole(home: &Home, table: &Table, expected: &[(i32, i64)], what: &str) {
    assert_eq!(home.rows(table), expected, "{what}");
    assert_eq!(table.live_rows(), expected.len() as u64, "{what}");
    home.check_indexes(table);
    home.check_replica(table);
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

/// How the rows are that a transaction changes which is larger than memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    /// In files, and some of them in memory.
    Written,
    /// In files only.
    Evicted,
    /// In memory, and not in files until a checkpoint writes them.
    Dirty,
}

const EACH_BEFORE: [Before; 3] = [Before::Written, Before::Evicted, Before::Dirty];

/// A table of `MANY` rows with an index.
fn full(before: Before) -> (Home, Arc<Table>) {
    let mut home = Home::with(EngineOptions {
        rows_bytes_max: if before == Before::Written { u64::MAX } else { 0 },
        // Only who asks for a checkpoint has one made.
        checkpoint_log_bytes: if before == Before::Dirty { u64::MAX } else { 0 },
        ..without_checkpoints()
    });
    let table = indexed(&home);
    let rows: Vec<i32> = (0..MANY).map(nth).collect();
    for some in rows.chunks(500) {
        let mut txn = begin(&home);
        for id in some {
            insert(&mut txn, &table, *id, i64::from(*id) * 2);
        }
        block_on(txn.room()).unwrap();
        txn.commit("").unwrap().unwrap();
    }
    if before == Before::Dirty {
        return (home, table);
    }
    home.checkpoint();
    drop(table);
    if before == Before::Evicted {
        home.restart();
    }
    let table = home.table("t");
    (home, table)
}

/// Changes most rows, deletes others, and has values of the unique index go from row to row. Answers what is left.
fn rework(txn: &mut Txn, table: &Table) -> Vec<(i32, i64)> {
    let mut expected = Vec::new();
    for number in 0..MANY / 5 {
        let id = 5 * ((number * 7919) % (MANY / 5));
        let value = |id: i32| i64::from(id) * 2;
        assert!(delete(txn, table, id));
        // The value of a row that is gone, of which the log says so first; and of one of which it says so later.
        assert!(set(txn, table, id + 1, value(id)));
        assert!(set(txn, table, id + 2, value(id + 2) + 1));
        assert!(set(txn, table, id + 2, value(id + 1)));
        assert!(delete(txn, table, id + 3));
        insert(txn, table, id + 3, -value(id + 3));
        expected.extend([
            (id + 1, value(id)),
            (id + 2, value(id + 1)),
            (id + 3, -value(id + 3)),
            (id + 4, value(id + 4)),
        ]);
        if id % 100 == 0 {
            block_on(txn.room()).unwrap();
        }
    }
    expected.sort_unstable();
    expected
}

#[test]
fn changes_of_others_rows_that_are_larger_than_memory_are_committed_and_found_after_a_crash() {
    for before in EACH_BEFORE {
        let (mut home, table) = full(before);
        let mut txn = begin(&home);
        let mut expected = rework(&mut txn, &table);
        assert!(
            private_files(&home) > 0,
            "{before:?}: rows have moved out of memory"
        );
        assert_eq!(rows(&mut txn, &table), expected, "{before:?}");
        let mut by_value = expected.clone();
        by_value.sort_by_key(|(_, value)| *value);
        assert_eq!(rows_by_index(&mut txn, &table, 0), by_value);
        // Nobody else sees anything of it.
        assert_eq!(home.rows(&table), loaded());
        let own = txn.own_writes(table.def.store).unwrap();
        let replaced = MANY as usize / 5 * 4;
        assert_eq!(
            (own.hidden.len(), own.rows.len()),
            (replaced, expected.len() - MANY as usize / 5)
        );
        assert_eq!(txn.changed_rows(), replaced as u64);
        home.engine().checkpoint().unwrap();
        assert_eq!(rows(&mut txn, &table), expected, "{before:?}");
        txn.commit("UPDATE").unwrap().unwrap();
        check_whole(&home, &table, &expected, &format!("{before:?}"));
        // Others write them again, in memory and by another large transaction.
        assert!(expected.iter().any(|(id, _)| *id == 4));
        let mut txn = begin(&home);
        assert!(set(&mut txn, &table, 4, -4_000_000));
        assert!(!delete(&mut txn, &table, 5));
        txn.commit("").unwrap().unwrap();
        drop(table);
        for restart in 0..3 {
            expected.iter_mut().find(|(id, _)| *id == 4).unwrap().1 = -4_000_000 - restart;
            let table = home.table("t");
            let mut txn = begin(&home);
            assert!(set(&mut txn, &table, 4, -4_000_000 - restart));
            txn.commit("").unwrap().unwrap();
            drop(table);
            home.restart_at_once();
            let table = home.table("t");
            check_whole(
                &home,
                &table,
                &expected,
                &format!("{before:?}, restart {restart}"),
            );
            match restart {
                // Else the commit has asked for a checkpoint.
                0 if before != Before::Dirty => {
                    assert!(private_files(&home) > 0, "{before:?}: rows are in files again");
                }
                _ => {
                    home.checkpoint();
                    wait_until("the files of the transaction", || private_files(&home) == 0);
                }
            }
        }
    }
}

#[test]
fn changes_of_others_rows_that_are_rolled_back_leave_them_as_they_were() {
    for before in EACH_BEFORE {
        let (mut home, table) = full(before);
        let mut txn = begin(&home);
        let savepoint_at = MANY / 2;
        for id in 0..savepoint_at {
            assert!(set(&mut txn, &table, id, -1 - i64::from(id)));
        }
        let savepoint = txn.savepoint().unwrap();
        for id in 0..100 {
            match id % 2 {
                0 => assert!(set(&mut txn, &table, id, -100_000 - i64::from(id))),
                _ => assert!(delete(&mut txn, &table, id)),
            }
            assert!(delete(&mut txn, &table, savepoint_at + id));
        }
        block_on(txn.rollback_to(savepoint)).unwrap();
        txn.release(savepoint).unwrap();
        let half = |id: i32| match id < savepoint_at {
            true => (id, -1 - i64::from(id)),
            false => (id, i64::from(id) * 2),
        };
        assert_eq!(rows(&mut txn, &table), (0..MANY).map(half).collect::<Vec<_>>());
        for id in savepoint_at..MANY {
            assert!(delete(&mut txn, &table, id));
        }
        txn.rollback();
        assert_eq!(private_files(&home), 0);
        assert_eq!(home.rows(&table), loaded(), "{before:?}");
        assert_eq!(table.live_rows(), MANY as u64);
        home.check_indexes(&table);
        let mut txn = begin(&home);
        assert!(set(&mut txn, &table, 7, -7));
        txn.commit("").unwrap().unwrap();
        home.check_replica(&table);
        drop(table);
        home.restart_at_once();
        let mut expected = loaded();
        expected[7].1 = -7;
        assert_eq!(home.rows(&home.table("t")), expected, "{before:?}");
    }
}

#[test]
fn whoever_writes_a_row_that_moved_waits_for_the_end_of_its_transaction() {
    for commits in [true, false] {
        let (home, table) = full(Before::Written);
        let mut txn = begin(&home);
        for id in 0..MANY - 1 {
            match id % 2 {
                0 => assert!(set(&mut txn, &table, id, -1 - i64::from(id))),
                _ => assert!(delete(&mut txn, &table, id)),
            }
        }
        assert!(private_files(&home) > 0);
        let mut others: Vec<Txn> = (0..5).map(|_| begin(&home)).collect();
        let mut late = home.session().begin(Isolation::RepeatableRead);
        late.statement();
        assert_eq!(get(&mut late, &table, 8), Some(16));
        {
            let [a, b, c, d, e] = &mut others[..] else {
                panic!()
            };
            let (four, five, six) = (key(4), key(5), key(6));
            let mut updated = pin!(a.lock(&table, &four));
            let mut deleted = pin!(b.lock(&table, &five));
            let mut shared = pin!(c.share(&table, &six));
            let mut inserted = pin!(d.insert(&table, Some(key(7)), row(&table, 7, -7_000_000)));
            // The value that a deleted row had.
            let mut valued = pin!(e.insert(&table, Some(key(MANY)), row(&table, MANY, 18)));
            let eight = key(8);
            let mut refused = pin!(late.lock(&table, &eight));
            assert!(poll_once(updated.as_mut()).is_pending());
            assert!(poll_once(deleted.as_mut()).is_pending());
            assert!(poll_once(shared.as_mut()).is_pending());
            assert!(poll_once(inserted.as_mut()).is_pending());
            assert!(poll_once(valued.as_mut()).is_pending());
            assert!(poll_once(refused.as_mut()).is_pending());
            assert_eq!(
                get(&mut begin(&home), &table, 4),
                Some(8),
                "who reads does not wait"
            );
            match commits {
                true => drop(txn.commit("").unwrap()),
                false => txn.rollback(),
            }
            let value = |version: Version| decode(&table, &version.row).1;
            let updated = block_on(updated).unwrap().map(value);
            let deleted = block_on(deleted).unwrap().map(value);
            let shared = block_on(shared).unwrap().map(value);
            let inserted = block_on(inserted).unwrap();
            let valued = block_on(valued).unwrap();
            let refused = block_on(refused);
            match commits {
                true => {
                    assert_eq!((updated, deleted, shared), (Some(-5), None, Some(-7)));
                    assert_eq!(inserted, InsertOutcome::Inserted(key(7)));
                    assert_eq!(valued, InsertOutcome::Inserted(key(MANY)));
                    assert!(matches!(refused, Err(Error::SerializationFailure { .. })));
                }
                false => {
                    assert_eq!((updated, deleted, shared), (Some(8), Some(10), Some(12)));
                    assert!(matches!(inserted, InsertOutcome::Exists(_)));
                    assert!(matches!(valued, InsertOutcome::Taken { key: taken, .. } if taken == key(9)));
                    assert_eq!(refused.unwrap().map(value), Some(16));
                }
            }
        }
        for other in others {
            other.commit("").unwrap();
        }
        drop(late);
        home.check_indexes(&table);
        home.check_replica(&table);
    }
}

/// What an index's entries lead to, in the order of ids.
fn looked_up(txn: &mut Txn, mut entries: ScanCursor, rows: &Lookups, table: &Table) -> Vec<(i32, i64)> {
    let entries = entries.next_batch(usize::MAX).unwrap();
    let row = |(key, entry): (Key, Version)| rows.get_indexed(txn, table, 0, &key, &entry.row).unwrap();
    let mut rows: Vec<_> = entries
        .into_iter()
        .filter_map(row)
        .map(|row| decode(table, &row.row))
        .collect();
    rows.sort_unstable();
    rows
}

#[test]
fn cursors_show_changed_rows_that_moved_as_they_were_when_they_were_opened() {
    let (home, table) = full(Before::Evicted);
    let mut txn = begin(&home);
    for id in 0..MANY {
        assert!(set(&mut txn, &table, id, -1 - i64::from(id)));
    }
    let mut own = txn.begin_scan(&table, KeyRange::all()).unwrap();
    let mut others = begin(&home).begin_scan(&table, KeyRange::all()).unwrap();
    let own_entries = txn.begin_index_scan(&table, 0, KeyRange::all()).unwrap();
    let own_rows = txn.begin_lookups(&table).unwrap();
    let mut other = begin(&home);
    let others_entries = other.begin_index_scan(&table, 0, KeyRange::all()).unwrap();
    let others_rows = other.begin_lookups(&table).unwrap();
    let mut firsts = [own.next_batch(10).unwrap(), others.next_batch(10).unwrap()];
    // Brought back, changed, and moved out once more.
    for round in 2..4 {
        for id in 0..MANY {
            assert!(set(
                &mut txn,
                &table,
                id,
                -i64::from(round * MANY) - i64::from(id)
            ));
        }
    }
    assert!(delete(&mut txn, &table, 100));
    let seen = |cursor: &mut ScanCursor, first: &mut Vec<(Key, Version)>| {
        first.extend(cursor.next_batch(usize::MAX).unwrap());
        let rows = first.iter().map(|(_, version)| decode(&table, &version.row));
        rows.collect::<Vec<_>>()
    };
    let [first_own, first_others] = &mut firsts;
    let before: Vec<_> = (0..MANY).map(|id| (id, -1 - i64::from(id))).collect();
    assert_eq!(seen(&mut own, first_own), before);
    assert_eq!(looked_up(&mut txn, own_entries, &own_rows, &table), before);
    txn.commit("").unwrap().unwrap();
    home.checkpoint();
    assert_eq!(seen(&mut others, first_others), loaded());
    other.statement();
    assert_eq!(
        looked_up(&mut other, others_entries, &others_rows, &table),
        loaded()
    );
}

#[test]
fn the_past_of_rows_that_moved_is_seen_by_snapshots_from_before() {
    let (home, table) = full(Before::Written);
    let mut early = home.session().begin(Isolation::RepeatableRead);
    early.statement();
    assert_eq!(get(&mut early, &table, 0), Some(0));
    let mut txn = begin(&home);
    for id in 0..MANY {
        match id % 3 {
            0 => assert!(delete(&mut txn, &table, id)),
            _ => assert!(set(&mut txn, &table, id, -i64::from(id))),
        }
    }
    txn.commit("").unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(rows(&mut early, &table), loaded());
        let mut by_value = rows_by_index(&mut early, &table, 0);
        by_value.sort_unstable();
        assert_eq!(by_value, loaded());
        home.checkpoint();
    }
    drop(early);
    let expected: Vec<_> = (0..MANY)
        .filter(|id| id % 3 != 0)
        .map(|id| (id, -i64::from(id)))
        .collect();
    assert_eq!(home.rows(&table), expected);
}
