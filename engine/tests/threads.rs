//! Real threads: transfers that block and deadlock each other, readers beside them, definitions in between.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ACCOUNTS: i32 = 8;
const BALANCE: i64 = 1000;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: i32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as i32
    }
}

/// Moves money between two accounts, whatever their order: deadlocks are expected.
fn transfer(txn: &mut Txn, table: &Table, random: &mut Random) -> Result<(), Error> {
    txn.statement();
    let from = random.below(ACCOUNTS);
    let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
    for (account, amount) in [(from, -1), (to, 1)] {
        txn.statement();
        let found = block_on(txn.lock(table, &key(account)))?.expect("accounts are never deleted");
        let (_, balance) = decode(table, &found.row);
        block_on(txn.update(table, &key(account), row(table, account, balance + amount)))?;
    }
    Ok(())
}

#[test]
fn transfers_keep_the_sum_in_every_snapshot_and_every_deadlock_has_one_victim() {
    let mut home = Home::new();
    let table = home.create("accounts", true);
    let history = home.create("history", false);
    for id in 0..ACCOUNTS {
        home.put(&table, id, BALANCE);
    }
    let stop = AtomicBool::new(false);
    let (victims, conflicts, committed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for thread in 0..6u64 {
            let (home, table, history) = (&home, &table, &history);
            let (victims, conflicts, committed) = (&victims, &conflicts, &committed);
            writers.push(scope.spawn(move || {
                let mut random = Random(thread);
                let mut session = home.session();
                let isolation = if thread % 3 == 0 {
                    Isolation::RepeatableRead
                } else {
                    Isolation::ReadCommitted
                };
                // On an idle machine one thread may be done before the next one meets it.
                let has_waited = || home.engine().stats().lock_waits > 0;
                for round in 0..50_000 {
                    if round >= 500 && has_waited() {
                        break;
                    }
                    let mut txn = session.begin(isolation);
                    match transfer(&mut txn, table, &mut random) {
                        Ok(()) => {
                            insert(&mut txn, history, thread as i32, 0);
                            txn.commit("").unwrap().unwrap();
                            committed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::Deadlock { .. }) => {
                            victims.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::SerializationFailure { .. }) => {
                            conflicts.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }));
        }
        scope.spawn(|| {
            let mut session = home.session();
            while !stop.load(Ordering::Relaxed) {
                let mut txn = session.begin(Isolation::RepeatableRead);
                txn.statement();
                for _ in 0..3 {
                    let found = rows(&mut txn, &table);
                    assert_eq!(found.len(), ACCOUNTS as usize);
                    let sum: i64 = found.iter().map(|(_, balance)| balance).sum();
                    assert_eq!(sum, i64::from(ACCOUNTS) * BALANCE, "at {}", txn.snapshot());
                }
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, Ordering::Relaxed);
    });
    let stats = home.engine().stats();
    assert_eq!(stats.deadlocks, victims.into_inner());
    assert_eq!(stats.serialization_failures, conflicts.into_inner());
    let committed = committed.into_inner();
    assert!(stats.lock_waits > 0 && committed > 0);
    assert_eq!(
        home.rows(&history).len() as u64,
        committed,
        "every committed transfer, and no other"
    );
    home.check_replica(&table);
    home.check_replica(&history);
    let before = home.rows(&table);
    drop((table, history));
    home.restart();
    assert_eq!(home.rows(&home.table("accounts")), before);
    assert_eq!(home.rows(&home.table("history")).len() as u64, committed);
}

#[test]
fn a_row_that_is_being_committed_is_found_by_whoever_locks_it_while_checkpoints_write_it() {
    let home = Home::new();
    let table = home.create("t", true);
    for id in 0..ACCOUNTS {
        home.put(&table, id, 0);
    }
    let stop = AtomicBool::new(false);
    let added: u64 = std::thread::scope(|scope| {
        let adders: Vec<_> = (0..4)
            .map(|thread| {
                let (home, table, stop) = (&home, &table, &stop);
                scope.spawn(move || {
                    let mut random = Random(thread);
                    let mut session = home.session();
                    let mut added = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let id = random.below(ACCOUNTS);
                        let mut txn = session.begin(Isolation::ReadCommitted);
                        txn.statement();
                        let found = block_on(txn.lock(table, &key(id))).unwrap();
                        let (_, value) = decode(table, &found.expect("never deleted").row);
                        block_on(txn.update(table, &key(id), row(table, id, value + 1))).unwrap();
                        txn.commit("").unwrap();
                        added += 1;
                    }
                    added
                })
            })
            .collect();
        for _ in 0..1000 {
            home.checkpoint();
        }
        stop.store(true, Ordering::Relaxed);
        let added = adders.into_iter().map(|adder| adder.join());
        added.map(|added| added.unwrap()).sum()
    });
    let sum: i64 = home.rows(&table).iter().map(|(_, value)| value).sum();
    assert_eq!(sum.unsigned_abs(), added);
}

#[test]
fn inserters_of_the_same_keys_never_make_two_rows_of_one() {
    let home = Home::new();
    let table = home.create("t", true);
    let inserted = AtomicU64::new(0);
    let deleted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (home, table, inserted, deleted) = (&home, &table, &inserted, &deleted);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut session = home.session();
                for round in 0..1500 {
                    let mut txn = session.begin(Isolation::ReadCommitted);
                    let id = random.below(16);
                    let mine = match try_insert(&mut txn, table, id, thread as i64).unwrap() {
                        InsertOutcome::Inserted(_) => 1,
                        InsertOutcome::Exists(_) | InsertOutcome::Taken { .. } => 0,
                    };
                    if mine == 0 && delete(&mut txn, table, id) {
                        txn.commit("").unwrap();
                        deleted.fetch_add(1, Ordering::Relaxed);
                    } else if round % 5 == 0 {
                        txn.rollback();
                    } else {
                        txn.commit("").unwrap();
                        inserted.fetch_add(mine, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let rows = home.rows(&table);
    assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(rows.len() as u64, inserted.into_inner() - deleted.into_inner());
    home.check_replica(&table);
}

#[test]
fn writers_of_the_same_values_never_make_two_rows_of_one_in_a_unique_index() {
    let mut home = Home::new();
    let mut new = new_table("t", true);
    new.indexes.push(index("t_value_key", true));
    new.indexes.push(index("by_value", false));
    let table = home.create_as(new);
    let (taken, victims) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (home, table, taken, victims) = (&home, &table, &taken, &victims);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut session = home.session();
                for round in 0..1000 {
                    let isolation = match round % 3 {
                        0 => Isolation::RepeatableRead,
                        _ => Isolation::ReadCommitted,
                    };
                    let mut txn = session.begin(isolation);
                    txn.statement();
                    match change_values(&mut txn, table, &mut random) {
                        Ok(()) if round % 7 != 0 => drop(txn.commit("").unwrap()),
                        Ok(()) => txn.rollback(),
                        Err(Error::KeyExists { .. }) => drop(taken.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => {
                            assert_eq!(error.advice(), Advice::Retry, "{error}");
                            victims.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    assert!(taken.into_inner() > 0 && victims.into_inner() > 0);
    let mut values: Vec<i64> = home.rows(&table).into_iter().map(|(_, value)| value).collect();
    values.sort_unstable();
    assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
    drop(table);
    for _ in 0..2 {
        let table = home.table("t");
        assert_eq!(home.rows(&table).len(), values.len());
        home.check_indexes(&table);
        home.check_replica(&table);
        drop(table);
        home.restart();
    }
}

/// Some inserts, updates, moves and deletions over few keys and few values.
fn change_values(txn: &mut Txn, table: &Table, random: &mut Random) -> Result<(), Error> {
    for _ in 0..1 + random.below(3) {
        let (id, value) = (random.below(12), i64::from(random.below(12)));
        if block_on(txn.lock(table, &key(id)))?.is_none() {
            if let InsertOutcome::Taken { index, .. } = try_insert(txn, table, id, value)? {
                return Err(table.key_exists(index, &row(table, id, value)));
            }
            continue;
        }
        match random.below(4) {
            0 => block_on(txn.delete(table, &key(id)))?,
            1 => {
                let new = random.below(12);
                drop(block_on(txn.update_key(
                    table,
                    &key(id),
                    key(new),
                    row(table, new, value),
                ))?);
            }
            _ => block_on(txn.update(table, &key(id), row(table, id, value)))?,
        }
    }
    Ok(())
}

#[test]
fn truncate_among_writers_loses_no_committed_row_and_leaves_no_old_one() {
    let mut home = Home::new();
    home.create("t", true);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for thread in 0..3 {
            let (home, stop) = (&home, &stop);
            writers.push(scope.spawn(move || {
                let mut session = home.session();
                let mut id = thread * 1_000_000;
                let mut changed = 0;
                while !stop.load(Ordering::Relaxed) || changed == 0 {
                    id += 1;
                    let mut txn = session.begin(Isolation::ReadCommitted);
                    let table = Arc::clone(txn.catalog().table("t").unwrap());
                    match try_insert(&mut txn, &table, id, 0) {
                        Ok(_) => drop(txn.commit("").unwrap()),
                        Err(Error::TableChanged { .. }) => changed += 1,
                        Err(error) => panic!("{error}"),
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }));
        }
        let mut session = home.session();
        for _ in 0..30 {
            let mut txn = session.begin(Isolation::ReadCommitted);
            let table = Arc::clone(txn.catalog().table("t").unwrap());
            let fresh = block_on(txn.truncate(&table)).unwrap();
            insert(&mut txn, &fresh, -1, 0);
            txn.commit("").unwrap();
            let mut reader = session.begin(Isolation::ReadCommitted);
            let table = Arc::clone(reader.catalog().table("t").unwrap());
            assert_eq!(get(&mut reader, &table, -1), Some(0));
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    let table = home.table("t");
    home.check_replica(&table);
    let before = home.rows(&table);
    drop(table);
    home.restart();
    assert_eq!(home.rows(&home.table("t")), before);
}

#[test]
fn a_scan_beside_writers_sees_one_state() {
    let home = Home::new();
    let table = home.create("t", true);
    let stop = AtomicBool::new(false);
    let mut odd = None;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Row n and row -n come and go together.
            let mut random = Random(1);
            let mut session = home.session();
            while !stop.load(Ordering::Relaxed) {
                let id = 1 + random.below(300);
                let mut txn = session.begin(Isolation::ReadCommitted);
                for id in [id, -id] {
                    if !delete(&mut txn, &table, id) {
                        insert(&mut txn, &table, id, 0);
                    }
                }
                txn.commit("").unwrap();
            }
        });
        let mut session = home.session();
        for _ in 0..300 {
            let mut txn = session.begin(Isolation::ReadCommitted);
            txn.statement();
            let mut balance = 0i64;
            txn.scan(&table, &KeyRange::all(), &mut |_, version| {
                balance += i64::from(decode(&table, &version.row).0);
                ControlFlow::Continue(())
            })
            .unwrap();
            let mut cursor = txn.begin_scan(&table, KeyRange::all()).unwrap();
            drop(txn);
            while let batch @ [_, ..] = &cursor.next_batch(7).unwrap()[..] {
                balance += batch
                    .iter()
                    .map(|(_, version)| i64::from(decode(&table, &version.row).0))
                    .sum::<i64>();
            }
            if balance != 0 {
                odd = Some(balance);
                break;
            }
        }
        // Whatever was found: the writer has to end.
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(odd, None);
    home.check_replica(&table);
}
