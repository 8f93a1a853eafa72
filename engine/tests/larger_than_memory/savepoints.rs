//! Savepoints of transactions of which most has moved out of memory.

use super::*;
use std::collections::BTreeMap;

#[test]
fn what_was_loaded_before_a_savepoint_comes_back() {
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
    block_on(txn.rollback_to(savepoint)).unwrap();
    assert_eq!(rows(&mut txn, &table), loaded());
    block_on(txn.rollback_to(savepoint)).unwrap();
    assert_eq!(rows(&mut txn, &table), loaded());
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), loaded());
    home.check_indexes(&table);
    home.check_replica(&table);
}

#[test]
fn loads_behind_a_savepoint_are_rolled_back_again_and_again_within_the_same_memory() {
    let mut home = Home::with(tight());
    let table = indexed(&home);
    home.put(&table, -1, -1);
    let mut txn = begin(&home);
    insert(&mut txn, &table, -2, -2);
    let savepoint = txn.savepoint().unwrap();
    for round in 0..4 {
        load(&mut txn, &table);
        assert!(private_files(&home) > 0, "rows have moved out of memory");
        assert!(set(&mut txn, &table, -1, -10 - round));
        assert!(delete(&mut txn, &table, -2));
        assert_eq!(rows(&mut txn, &table).len(), MANY as usize + 1);
        block_on(txn.rollback_to(savepoint)).unwrap();
        let before = [(-2, -2), (-1, -1)];
        assert_eq!(rows(&mut txn, &table), before, "round {round}");
        assert_eq!(rows_by_index(&mut txn, &table, 0), before, "round {round}");
        let own = txn.own_writes(table.def.store).unwrap();
        assert!(own.rows.len() <= 2, "{} rows of its own", own.rows.len());
        assert_eq!(get(&mut txn, &table, 17), None);
    }
    txn.release(savepoint).unwrap();
    insert(&mut txn, &table, 17, 34);
    txn.commit("").unwrap().unwrap();
    let expected = [(-2, -2), (-1, -1), (17, 34)];
    check_whole(&home, &table, &expected, "");
    drop(table);
    home.restart_at_once();
    let table = home.table("t");
    check_whole(&home, &table, &expected, "");
}

/// What the transaction does to every so-manieth row, scattered: it deletes some, changes others, and puts some back that were deleted.
fn scatter(txn: &mut Txn, table: &Table, held: &mut BTreeMap<i32, i64>, (step, round): (i32, i64)) {
    for number in 0..MANY {
        let id = nth(number);
        if id % step != 0 {
            continue;
        }
        // No two rows ever have the same.
        let value = -(round * i64::from(MANY) + i64::from(id) + 1);
        match id % 4 {
            0 if delete(txn, table, id) => drop(held.remove(&id)),
            _ if set(txn, table, id, value) => drop(held.insert(id, value)),
            _ => {
                insert(txn, table, id, value);
                held.insert(id, value);
            }
        }
    }
}

#[test]
fn savepoints_within_savepoints_have_everything_as_it_was() {
    for (before, commits) in [
        (Before::Written, true),
        (Before::Evicted, false),
        (Before::Dirty, true),
    ] {
        let (mut home, table) = full(before);
        let mut txn = begin(&home);
        let mut held: BTreeMap<i32, i64> = loaded().into_iter().collect();
        let check = |txn: &mut Txn, held: &BTreeMap<i32, i64>, what: &str| {
            let expected: Vec<(i32, i64)> = held.iter().map(|(id, value)| (*id, *value)).collect();
            assert_eq!(rows(txn, &table), expected, "{before:?}, {what}");
            let mut by_value = expected;
            by_value.sort_by_key(|(_, value)| *value);
            assert_eq!(rows_by_index(txn, &table, 0), by_value, "{before:?}, {what}");
        };
        scatter(&mut txn, &table, &mut held, (2, 1));
        let outer = (txn.savepoint().unwrap(), held.clone());
        scatter(&mut txn, &table, &mut held, (3, 2));
        let middle = (txn.savepoint().unwrap(), held.clone());
        scatter(&mut txn, &table, &mut held, (2, 3));
        let inner = txn.savepoint().unwrap();
        scatter(&mut txn, &table, &mut held, (1, 4));
        check(&mut txn, &held, "all of it");
        txn.release(inner).unwrap();
        block_on(txn.rollback_to(middle.0)).unwrap();
        held.clone_from(&middle.1);
        check(&mut txn, &held, "the middle one");
        scatter(&mut txn, &table, &mut held, (5, 5));
        // As a statement does that fails.
        txn.begin_rollback_to(middle.0).unwrap();
        block_on(txn.rollback_to(middle.0)).unwrap();
        held.clone_from(&middle.1);
        check(&mut txn, &held, "the middle one once more");
        scatter(&mut txn, &table, &mut held, (7, 6));
        block_on(txn.rollback_to(outer.0)).unwrap();
        held.clone_from(&outer.1);
        check(&mut txn, &held, "the outer one");
        scatter(&mut txn, &table, &mut held, (11, 7));
        txn.release(outer.0).unwrap();
        check(&mut txn, &held, "what is left");
        match commits {
            true => drop(txn.commit("").unwrap().unwrap()),
            false => {
                txn.rollback();
                held = loaded().into_iter().collect();
                assert_eq!(private_files(&home), 0);
            }
        }
        let expected: Vec<(i32, i64)> = held.into_iter().collect();
        check_whole(&home, &table, &expected, &format!("{before:?}"));
        drop(table);
        home.restart_at_once();
        let table = home.table("t");
        check_whole(&home, &table, &expected, &format!("{before:?}, after a crash"));
    }
}

#[test]
fn a_savepoint_for_each_row_lets_rows_move_and_be_rolled_back() {
    let home = Home::with(tight());
    let table = indexed(&home);
    let mut txn = begin(&home);
    let mut savepoints = Vec::new();
    for id in 0..MANY {
        savepoints.push(txn.savepoint().unwrap());
        insert(&mut txn, &table, id, i64::from(id) * 2);
    }
    assert!(private_files(&home) > 0, "rows have moved out of memory");
    assert_eq!(rows(&mut txn, &table), loaded());
    let half = MANY / 2;
    block_on(txn.rollback_to(savepoints[half as usize])).unwrap();
    let mut expected: Vec<(i32, i64)> = loaded();
    expected.truncate(half as usize);
    assert_eq!(rows(&mut txn, &table), expected);
    for id in 0..half {
        assert!(set(&mut txn, &table, id, -1 - i64::from(id)));
    }
    block_on(txn.rollback_to(savepoints[half as usize])).unwrap();
    assert_eq!(rows(&mut txn, &table), expected);
    block_on(txn.rollback_to(savepoints[7])).unwrap();
    expected.truncate(7);
    assert_eq!(rows(&mut txn, &table), expected);
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), expected);
    home.check_indexes(&table);
    home.check_replica(&table);
}

#[test]
fn a_table_that_is_made_and_filled_behind_a_savepoint_is_gone_with_it() {
    let mut home = Home::with(EngineOptions {
        spill_bytes: 1000,
        ..tight()
    });
    let table = indexed(&home);
    let mut txn = begin(&home);
    insert(&mut txn, &table, 1, 1);
    let savepoint = txn.savepoint().unwrap();
    // What each round leaves in memory would soon be too much.
    for round in 0..20 {
        let mut new = new_table("u", true);
        new.indexes = vec![index("u_value", true)];
        let other = block_on(txn.create_table(new)).unwrap();
        if round > 0 {
            (0..400).for_each(|id| insert(&mut txn, &other, id, i64::from(id)));
            block_on(txn.rollback_to(savepoint)).unwrap();
            continue;
        }
        load(&mut txn, &other);
        let inner = txn.savepoint().unwrap();
        block_on(txn.truncate(&other)).unwrap();
        block_on(txn.rollback_to(inner)).unwrap();
        let again = txn.catalog().table("u").cloned().unwrap();
        assert_eq!(rows(&mut txn, &again), loaded());
        block_on(txn.rollback_to(savepoint)).unwrap();
        assert!(txn.catalog().table("u").is_none());
    }
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), [(1, 1)]);
    home.check_replica(&table);
    drop(table);
    home.restart_at_once();
    assert_eq!(home.rows(&home.table("t")), [(1, 1)]);
}

#[test]
fn others_wait_for_rows_that_were_rolled_back_until_the_transaction_ends() {
    for commits in [true, false] {
        let (home, table) = full(Before::Written);
        let mut txn = begin(&home);
        let savepoint = txn.savepoint().unwrap();
        for id in 0..MANY {
            assert!(set(&mut txn, &table, id, -1 - i64::from(id)));
            insert(&mut txn, &table, -1 - id, -1_000_000 - i64::from(id));
        }
        block_on(txn.rollback_to(savepoint)).unwrap();
        let (mut a, mut b) = (begin(&home), begin(&home));
        {
            let five = key(5);
            let mut updated = pin!(a.lock(&table, &five));
            let mut inserted = pin!(b.insert(&table, Some(key(-5)), row(&table, -5, -5)));
            // The log has them as changed by it.
            assert!(poll_once(updated.as_mut()).is_pending());
            assert!(poll_once(inserted.as_mut()).is_pending());
            match commits {
                true => drop(txn.commit("").unwrap()),
                false => txn.rollback(),
            }
            let updated = block_on(updated).unwrap();
            assert_eq!(updated.map(|version| decode(&table, &version.row)), Some((5, 10)));
            assert_eq!(block_on(inserted).unwrap(), InsertOutcome::Inserted(key(-5)));
        }
        a.rollback();
        b.commit("").unwrap().unwrap();
        let mut expected = loaded();
        expected.insert(0, (-5, -5));
        check_whole(&home, &table, &expected, "");
    }
}

#[test]
fn a_rollback_that_is_given_up_half_done_can_be_done_again() {
    for polls in [1, 4] {
        let (mut home, table) = full(Before::Evicted);
        let mut txn = begin(&home);
        let mut held: BTreeMap<i32, i64> = loaded().into_iter().collect();
        scatter(&mut txn, &table, &mut held, (5, 1));
        let outer = (txn.savepoint().unwrap(), held.clone());
        scatter(&mut txn, &table, &mut held, (3, 2));
        let inner = (txn.savepoint().unwrap(), held.clone());
        scatter(&mut txn, &table, &mut held, (1, 3));
        let check = |txn: &mut Txn, held: &BTreeMap<i32, i64>, what: &str| {
            let expected: Vec<(i32, i64)> = held.iter().map(|(id, value)| (*id, *value)).collect();
            assert_eq!(rows(txn, &table), expected, "{polls} polls, {what}");
        };
        let half_done = |txn: &mut Txn, savepoint: SavepointId| {
            let mut undone = pin!(txn.rollback_to(savepoint));
            for poll in 0..polls {
                assert!(poll_once(undone.as_mut()).is_pending(), "poll {poll}");
            }
        };
        half_done(&mut txn, inner.0);
        half_done(&mut txn, inner.0);
        block_on(txn.rollback_to(inner.0)).unwrap();
        check(&mut txn, &inner.1, "the inner one");
        let mut held = inner.1;
        scatter(&mut txn, &table, &mut held, (1, 4));
        half_done(&mut txn, inner.0);
        half_done(&mut txn, outer.0);
        block_on(txn.rollback_to(outer.0)).unwrap();
        check(&mut txn, &outer.1, "the outer one");
        txn.commit("").unwrap().unwrap();
        let expected: Vec<(i32, i64)> = outer.1.into_iter().collect();
        check_whole(&home, &table, &expected, "");
        drop(table);
        home.restart_at_once();
        assert_eq!(home.rows(&home.table("t")), expected);
    }
}

#[test]
fn what_is_rolled_back_or_let_go_of_in_memory_counts_no_longer() {
    let home = Home::with(EngineOptions {
        move_bytes: u64::MAX,
        ..tight()
    });
    let table = home.create("t", true);
    home.put(&table, -1, -1);
    let mut txn = begin(&home);
    let some = MANY / 10;
    for round in 0..10 {
        let savepoint = txn.savepoint().unwrap();
        for id in 0..some {
            insert(&mut txn, &table, id, i64::from(id));
        }
        assert!(set(&mut txn, &table, -1, -2 - round));
        block_on(txn.rollback_to(savepoint)).unwrap();
        for _ in 0..some {
            txn.statement();
            assert!(block_on(txn.lock(&table, &key(-1))).unwrap().is_some());
            txn.unlock_unwritten(&table, &key(-1));
        }
        txn.release(savepoint).unwrap();
    }
    insert(&mut txn, &table, 5, 5);
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), [(-1, -1), (5, 5)]);
}

/// Locks rows until the transaction may have no more of them.
fn lock_too_many(txn: &mut Txn, table: &Table) {
    let mut ids = 0..MANY;
    let refused = ids.find_map(|id| {
        let locked = block_on(txn.lock(table, &key(id)));
        locked.and_then(|_| block_on(txn.room())).err()
    });
    assert!(
        matches!(refused, Some(Error::TransactionTooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn who_has_met_the_bound_can_go_back_to_any_savepoint_and_go_on() {
    let (home, table) = full(Before::Evicted);
    let other = home.create("other", true);
    let mut txn = begin(&home);
    let outer = txn.savepoint().unwrap();
    load(&mut txn, &other);
    let inner = txn.savepoint().unwrap();
    lock_too_many(&mut txn, &table);
    txn.begin_rollback_to(inner).unwrap();
    block_on(txn.rollback_to(inner)).unwrap();
    (0..MANY).for_each(|id| insert(&mut txn, &other, MANY + id, i64::from(id)));
    lock_too_many(&mut txn, &table);
    block_on(txn.rollback_to(outer)).unwrap();
    assert_eq!(rows(&mut txn, &other), []);
    load(&mut txn, &other);
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&other), loaded());
}

#[test]
fn wide_rows_that_were_deleted_come_back_within_the_same_memory() {
    let home = Home::with(tight());
    let mut new = new_table("wide", true);
    new.columns[1].ty = DataType::Text;
    let table = home.create_as(new);
    let wide = |id: i32| {
        let text = format!("{id:08}").repeat(1024);
        table
            .layout
            .encode(&[Value::Int4(id), Value::Text(text)])
            .unwrap()
    };
    let mut txn = begin(&home);
    let many = 1200;
    for id in 0..many {
        block_on(txn.insert(&table, Some(key(id)), wide(id))).unwrap();
    }
    let savepoint = txn.savepoint().unwrap();
    for _ in 0..2 {
        // So few that they do not move.
        for id in 0..240 {
            assert!(delete(&mut txn, &table, id));
        }
        block_on(txn.rollback_to(savepoint)).unwrap();
        // There is room for more.
        assert!(block_on(txn.lock(&table, &key(many - 1))).unwrap().is_some());
        for id in (0..many).step_by(97) {
            assert_eq!(txn.get(&table, &key(id)).unwrap().unwrap().row[..], wide(id)[..]);
        }
    }
    txn.commit("").unwrap().unwrap();
    assert_eq!(table.live_rows(), many as u64);
}

#[test]
fn a_primary_key_that_was_rolled_back_keeps_nothing_in_memory() {
    let home = Home::with(tight());
    let (table, small) = (indexed(&home), home.create("small", false));
    let mut txn = begin(&home);
    let savepoint = txn.savepoint().unwrap();
    load(&mut txn, &table);
    block_on(txn.insert(&small, None, row(&small, 1, 1))).unwrap();
    block_on(txn.add_primary_key(&small, primary_key("small"))).unwrap();
    block_on(txn.rollback_to(savepoint)).unwrap();
    assert_eq!(rows(&mut txn, &table), []);
    load(&mut txn, &table);
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), loaded());
    assert_eq!(home.rows(&small), []);
    home.check_indexes(&table);
    home.check_replica(&table);
}

#[test]
fn what_a_released_savepoint_could_undo_is_not_kept_for_the_one_around_it() {
    let home = Home::with(tight());
    let table = indexed(&home);
    let mut txn = begin(&home);
    let outer = txn.savepoint().unwrap();
    let (rounds, some) = (100, MANY / 100);
    for round in 0..rounds {
        let ids = round * some..(round + 1) * some;
        ids.clone()
            .for_each(|id| insert(&mut txn, &table, id, -1 - i64::from(id)));
        let inner = txn.savepoint().unwrap();
        for id in ids {
            assert!(set(&mut txn, &table, id, i64::from(id) * 2));
        }
        txn.release(inner).unwrap();
    }
    assert_eq!(rows(&mut txn, &table), loaded());
    let inner = txn.savepoint().unwrap();
    assert!(set(&mut txn, &table, MANY - 1, -1));
    block_on(txn.rollback_to(inner)).unwrap();
    assert_eq!(rows(&mut txn, &table), loaded());
    block_on(txn.rollback_to(outer)).unwrap();
    assert_eq!(rows(&mut txn, &table), []);
    insert(&mut txn, &table, 1, 1);
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&table), [(1, 1)]);
    home.check_indexes(&table);
}

#[test]
fn a_new_table_whose_name_another_takes_meanwhile_is_rolled_back_as_any() {
    let home = Home::with(tight());
    let mut txn = begin(&home);
    let table = block_on(txn.create_table(new_table("u", true))).unwrap();
    load(&mut txn, &table);
    let savepoint = txn.savepoint().unwrap();
    for id in 0..MANY {
        assert!(set(&mut txn, &table, id, -1));
    }
    drop(home.create("u", true));
    txn.statement();
    block_on(txn.rollback_to(savepoint)).unwrap();
    let mut other = begin(&home);
    let theirs = other.catalog().table("u").cloned().unwrap();
    block_on(other.drop_table(&theirs)).unwrap();
    other.commit("").unwrap().unwrap();
    drop(theirs);
    txn.statement();
    txn.commit("").unwrap().unwrap();
    assert_eq!(home.rows(&home.table("u")), loaded());
    home.check_replica(&home.table("u"));
}

#[test]
fn a_row_deleted_since_the_snapshot_is_seen_again_when_what_was_inserted_over_it_is_rolled_back() {
    for isolation in [Isolation::RepeatableRead, Isolation::Serializable] {
        let home = Home::with(tight());
        let table = indexed(&home);
        (0..3).for_each(|id| home.put(&table, id, i64::from(id) * 2));
        let mut txn = home.session().begin(isolation);
        txn.statement();
        let before = [(0, 0), (1, 2), (2, 4)];
        assert_eq!(rows(&mut txn, &table), before);
        let mut other = begin(&home);
        assert!(delete(&mut other, &table, 1));
        // What it has deleted moves, too.
        (1..MANY).for_each(|id| insert(&mut other, &table, -id, -i64::from(id)));
        other.commit("").unwrap().unwrap();
        let savepoint = txn.savepoint().unwrap();
        insert(&mut txn, &table, 1, 2);
        (3..MANY).for_each(|id| insert(&mut txn, &table, id, i64::from(id) * 2));
        assert!(private_files(&home) > 0);
        assert_eq!(rows(&mut txn, &table), loaded());
        block_on(txn.rollback_to(savepoint)).unwrap();
        assert_eq!(rows(&mut txn, &table), before, "{isolation:?}");
        assert_eq!(rows_by_index(&mut txn, &table, 0), before, "{isolation:?}");
        assert_eq!(get(&mut txn, &table, 1), Some(2), "{isolation:?}");
        let refused = block_on(txn.lock(&table, &key(1)));
        assert!(
            matches!(refused, Err(Error::SerializationFailure { .. })),
            "{refused:?}"
        );
    }
}
