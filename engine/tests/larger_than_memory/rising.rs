//! Rows that are inserted by rising keys, and have no place in memory of their own.

use super::*;
use scry_wal::sim::Random;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows go that way early.
fn rising() -> EngineOptions {
    let mut options = tight();
    options.spill_bytes = 600;
    options.move_bytes = 8 << 10;
    options.load_rows = 4;
    // What becomes a run at once is long enough to stay one.
    options.runs.file_bytes = 8 << 10;
    options
}

/// Rows whose keys rise from `first` on, in steps of `step`.
fn rise(txn: &mut Txn, table: &Table, first: i32, step: i32, count: i32) {
    for number in 0..count {
        let id = first + number * step;
        insert(txn, table, id, i64::from(id) * 2);
    }
}

/// No two rows of a transaction ever have the same.
struct Values(i64);

impl Values {
    fn next(&mut self) -> i64 {
        self.0 += 1;
        self.0
    }
}

/// What a transaction sees.
type Held = BTreeMap<i32, i64>;

/// One step of a transaction, most often a load of some rows; `held` is what it is to see.
fn step(
    txn: &mut Txn,
    table: &Table,
    (random, values): (&mut Random, &mut Values),
    (held, savepoints): (&mut Held, &mut Vec<(SavepointId, Held)>),
) {
    const KEYS: u64 = 3000;
    let id = random.below(KEYS) as i32;
    match random.below(14) {
        0..=5 => {
            let (step, count) = (1 + random.below(3) as i32, random.below(200) as i32);
            for id in (0..count).map(|number| id + number * step) {
                let other = held.first_key_value().map(|(id, value)| (*id, *value));
                let taken = other.filter(|_| !table.indexes.is_empty() && random.below(30) == 0);
                let value = taken.map_or_else(|| values.next(), |(_, value)| value);
                let outcome = try_insert(txn, table, id, value).unwrap();
                match (outcome, held.contains_key(&id), taken) {
                    (InsertOutcome::Exists(_), true, _) => {}
                    (
                        InsertOutcome::Taken {
                            index: 0,
                            key: theirs,
                        },
                        false,
                        Some((taken, _)),
                    ) => {
                        assert_eq!(theirs, key(taken));
                    }
                    (InsertOutcome::Inserted(_), false, None) => drop(held.insert(id, value)),
                    (outcome, is_there, _) => panic!("{id}: {outcome:?}, {is_there}"),
                }
            }
        }
        6 | 7 => {
            for id in id..id + 40 {
                let value = values.next();
                let is_there = held.contains_key(&id);
                assert_eq!(set(txn, table, id, value), is_there);
                if is_there {
                    held.insert(id, value);
                }
            }
        }
        8 => {
            for id in (id..id + 40).step_by(3) {
                assert_eq!(delete(txn, table, id), held.remove(&id).is_some());
            }
        }
        9 => savepoints.push((txn.savepoint().unwrap(), held.clone())),
        10 if !savepoints.is_empty() => {
            let depth = random.below(savepoints.len() as u64) as usize;
            block_on(txn.rollback_to(savepoints[depth].0)).unwrap();
            held.clone_from(&savepoints[depth].1);
            savepoints.truncate(depth + 1);
        }
        11 if !savepoints.is_empty() => {
            let depth = random.below(savepoints.len() as u64) as usize;
            txn.release(savepoints[depth].0).unwrap();
            savepoints.truncate(depth);
        }
        12 => {
            let seen = rows(txn, table);
            assert!(seen.into_iter().eq(held.iter().map(|(id, value)| (*id, *value))));
        }
        _ => {
            txn.statement();
            for id in id..id + 20 {
                assert_eq!(get(txn, table, id), held.get(&id).copied(), "{id}");
            }
        }
    }
}

#[test]
fn loads_with_everything_else_between_are_what_a_map_says() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let mut values = Values(0);
        let mut home = Home::with(rising());
        let mut new = new_table("t", true);
        if seed % 2 == 0 {
            new.indexes = vec![index("t_value", true)];
        }
        let table = home.create_as(new);
        let mut committed = BTreeMap::new();
        for id in (0..3000).step_by(7) {
            let value = values.next();
            home.put(&table, id, value);
            committed.insert(id, value);
        }
        for round in 0..3 {
            if round > 0 {
                home.checkpoint();
            }
            let mut txn = begin(&home);
            let (mut held, mut savepoints) = (committed.clone(), Vec::new());
            for _ in 0..40 {
                step(
                    &mut txn,
                    &table,
                    (&mut random, &mut values),
                    (&mut held, &mut savepoints),
                );
            }
            if round == 1 {
                txn.rollback();
                wait_until("no files are left of it", || private_files(&home) == 0);
            } else {
                txn.commit("").unwrap();
                committed = held;
            }
            let expected: Vec<(i32, i64)> = committed.iter().map(|(id, value)| (*id, *value)).collect();
            check_whole(&home, &table, &expected, &format!("seed {seed}, round {round}"));
        }
        drop(table);
        home.restart_at_once();
        let expected: Vec<(i32, i64)> = committed.into_iter().collect();
        check_whole(
            &home,
            &home.table("t"),
            &expected,
            &format!("seed {seed}, after a crash"),
        );
    }
}

#[test]
fn loads_between_each_others_keys_do_not_wait_and_those_of_the_same_key_do() {
    let mut home = Home::with(rising());
    let table = home.create("t", true);
    let (mut evens, mut odds) = (begin(&home), begin(&home));
    for hundred in 0..20 {
        rise(&mut evens, &table, hundred * 200, 2, 100);
        rise(&mut odds, &table, hundred * 200 + 1, 2, 100);
    }
    let mut third = begin(&home);
    // Each key that has risen is its transaction's; those between are nobody's.
    for id in [3990, 3998] {
        let mut waits = pin!(third.insert(&table, Some(key(id)), row(&table, id, 0)));
        assert!(poll_once(waits.as_mut()).is_pending());
    }
    insert(&mut third, &table, 4000, 8000);
    assert_eq!(get(&mut third, &table, 3990), None);
    assert_eq!(block_on(third.lock(&table, &key(3990))).unwrap(), None);
    // They meet what a third one is about to insert.
    {
        let mut waits = pin!(evens.insert(&table, Some(key(4000)), row(&table, 4000, 0)));
        assert!(poll_once(waits.as_mut()).is_pending());
        third.commit("").unwrap();
        assert!(matches!(block_on(waits).unwrap(), InsertOutcome::Exists(there) if there.ordinal.is_some()));
    }
    rise(&mut evens, &table, 4002, 2, 10);
    odds.rollback();
    rise(&mut evens, &table, 4101, 2, 10);
    evens.commit("").unwrap();
    let mut expected: Vec<i32> = (0..4022).step_by(2).collect();
    expected.extend((4101..4121).step_by(2));
    let expected: Vec<(i32, i64)> = expected.into_iter().map(|id| (id, i64::from(id) * 2)).collect();
    check_whole(&home, &table, &expected, "");
    drop(table);
    home.restart_at_once();
    check_whole(&home, &home.table("t"), &expected, "after a crash");
}

#[test]
fn rows_without_a_key_rise_beside_each_other() {
    let mut home = Home::with(rising());
    let table = home.create("t", false);
    let (mut one, mut other) = (begin(&home), begin(&home));
    let put = |txn: &mut Txn, value: i32| {
        let row = row(&table, value, i64::from(value));
        block_on(txn.insert(&table, None, row)).unwrap();
    };
    for value in 0..1000 {
        put(&mut one, value);
        put(&mut other, 1000 + value);
    }
    one.commit("").unwrap();
    for value in 2000..2500 {
        put(&mut other, value);
    }
    other.commit("").unwrap();
    let check = |home: &Home| {
        let table = home.table("t");
        let mut rows = home.rows(&table);
        rows.sort_unstable();
        assert!(rows.into_iter().map(|(id, _)| id).eq(0..2500));
        home.check_replica(&table);
    };
    check(&home);
    drop(table);
    home.restart_at_once();
    check(&home);
}

/// Threads that load the same keys, with single inserts and checkpoints between: each key becomes one transaction's.
#[test]
fn who_races_for_a_key_gets_it_alone() {
    const KEYS: i32 = 400;
    const THREADS: i64 = 4;
    let mut home = Home::with(rising());
    let table = home.create("t", true);
    let (committed, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    for round in 0..12 {
        let first = round * KEYS;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (home, table, committed, refused) = (&home, &table, &committed, &refused);
                scope.spawn(move || {
                    let mut random = Random::new((i64::from(round) * THREADS + thread) as u64);
                    let is_load = thread != 0;
                    let mut txn = begin(home);
                    if is_load {
                        // What makes it one: keys that nobody else wants.
                        let own = 1_000_000 * (thread as i32) + round * 1000 - 100_000_000;
                        rise(&mut txn, table, own, 1, 300);
                    }
                    for id in first..first + KEYS {
                        if random.below(3) == 0 {
                            continue;
                        }
                        match try_insert(&mut txn, table, id, thread) {
                            Ok(_) => {}
                            Err(Error::Deadlock { .. }) => {
                                refused.fetch_add(1, Ordering::Relaxed);
                                return txn.rollback();
                            }
                            Err(error) => panic!("{error}"),
                        }
                        if !is_load {
                            txn.commit("").unwrap();
                            txn = begin(home);
                            if id % 100 == 0 {
                                home.checkpoint();
                            }
                        }
                    }
                    txn.commit("").unwrap();
                    committed.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
    }
    assert!(committed.into_inner() > 12 && refused.into_inner() < 36);
    // The log and the rows agree on who has which key.
    home.check_replica(&table);
    let rows = home.rows(&table);
    assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(table.live_rows(), rows.len() as u64);
    drop(table);
    home.restart_at_once();
    let table = home.table("t");
    assert_eq!(home.rows(&table), rows);
    home.check_replica(&table);
}
