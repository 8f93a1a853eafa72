//! Secondary and unique indexes: what they show, who waits for whom, and what a restart makes of them.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use std::pin::pin;
use std::sync::Arc;

/// A table with a unique index on the value.
fn unique(home: &Home, keyed: bool) -> Arc<Table> {
    let mut new = new_table("t", keyed);
    new.indexes.push(index("t_value_key", true));
    home.create_as(new)
}

fn begin(home: &Home, isolation: Isolation) -> Txn {
    let mut txn = home.session().begin(isolation);
    txn.statement();
    txn
}

fn is_taken_by(outcome: &InsertOutcome, id: i32) -> bool {
    matches!(outcome, InsertOutcome::Taken { index: 0, key: owner } if *owner == key(id))
}

fn nullable(table: &Table, id: i32) -> Vec<u8> {
    table.layout.encode(&[Value::Int4(id), Value::Null]).unwrap()
}

#[test]
fn a_unique_index_refuses_what_another_row_has_and_leaves_nothing_of_it() {
    let mut home = Home::new();
    let table = unique(&home, true);
    home.put(&table, 1, 10);
    let mut txn = begin(&home, Isolation::ReadCommitted);
    let refused = try_insert(&mut txn, &table, 2, 10).unwrap();
    assert!(is_taken_by(&refused, 1), "{refused:?}");
    assert_eq!(rows(&mut txn, &table), [(1, 10)]);
    insert(&mut txn, &table, 2, 20);
    // Its own rows count as well.
    assert!(is_taken_by(&try_insert(&mut txn, &table, 3, 20).unwrap(), 2));
    block_on(txn.lock(&table, &key(2))).unwrap().unwrap();
    let refused = block_on(txn.update(&table, &key(2), row(&table, 2, 10))).unwrap_err();
    let Error::KeyExists {
        constraint,
        columns,
        key: values,
        ..
    } = &refused
    else {
        panic!("{refused}");
    };
    assert_eq!(
        (constraint.as_str(), &columns[..]),
        ("t_value_key", &["value".to_owned()][..])
    );
    assert_eq!(values, &[Value::Int8(10)]);
    txn.commit("INSERT").unwrap().unwrap();
    drop(table);
    for _ in 0..2 {
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(1, 10), (2, 20)]);
        home.check_indexes(&table);
        home.check_replica(&table);
        let mut txn = begin(&home, Isolation::ReadCommitted);
        assert!(is_taken_by(&try_insert(&mut txn, &table, 3, 20).unwrap(), 2));
        drop((txn, table));
        home.restart();
    }
}

#[test]
fn who_inserts_a_key_waits_for_who_inserts_or_deletes_it() {
    for commits in [true, false] {
        let home = Home::new();
        let table = unique(&home, true);
        home.put(&table, 1, 10);

        // Somebody inserts it.
        let mut first = begin(&home, Isolation::ReadCommitted);
        insert(&mut first, &table, 2, 20);
        let mut second = begin(&home, Isolation::ReadCommitted);
        let mut waiting = Box::pin(second.insert(&table, Some(key(3)), row(&table, 3, 20)));
        assert!(poll_once(waiting.as_mut()).is_pending());
        match commits {
            true => drop(first.commit("INSERT").unwrap()),
            false => first.rollback(),
        }
        let outcome = block_on(waiting).unwrap();
        assert_eq!(is_taken_by(&outcome, 2), commits, "{outcome:?}");
        second.rollback();

        // Somebody gives it up.
        let mut first = begin(&home, Isolation::ReadCommitted);
        assert!(set(&mut first, &table, 1, 11));
        let mut second = begin(&home, Isolation::RepeatableRead);
        let mut waiting = Box::pin(second.insert(&table, Some(key(3)), row(&table, 3, 10)));
        assert!(poll_once(waiting.as_mut()).is_pending());
        match commits {
            true => drop(first.commit("UPDATE").unwrap()),
            false => first.rollback(),
        }
        let outcome = block_on(waiting).unwrap();
        assert_eq!(is_taken_by(&outcome, 1), !commits, "{outcome:?}");
        second.commit("INSERT").unwrap();
        home.check_indexes(&table);
    }
}

#[test]
fn two_that_wait_for_each_others_keys_are_a_deadlock() {
    let home = Home::new();
    let table = unique(&home, true);
    let mut first = begin(&home, Isolation::ReadCommitted);
    let mut second = begin(&home, Isolation::ReadCommitted);
    insert(&mut first, &table, 1, 10);
    insert(&mut second, &table, 2, 20);
    let mut waiting = Box::pin(first.insert(&table, Some(key(3)), row(&table, 3, 20)));
    assert!(poll_once(waiting.as_mut()).is_pending());
    let refused = block_on(second.insert(&table, Some(key(4)), row(&table, 4, 10))).unwrap_err();
    assert!(matches!(refused, Error::Deadlock { .. }), "{refused}");
    second.rollback();
    assert!(matches!(block_on(waiting).unwrap(), InsertOutcome::Inserted(_)));
    first.commit("INSERT").unwrap().unwrap();
    home.check_indexes(&table);
}

#[test]
fn an_update_of_other_columns_touches_no_index_and_rows_may_exchange_their_keys() {
    let mut home = Home::new();
    let table = unique(&home, true);
    home.put(&table, 1, 10);
    home.put(&table, 2, 20);
    let mut txn = begin(&home, Isolation::ReadCommitted);
    assert!(set(&mut txn, &table, 1, 99));
    assert!(set(&mut txn, &table, 2, 10));
    assert!(set(&mut txn, &table, 1, 20));
    txn.commit("UPDATE").unwrap().unwrap();
    home.check_indexes(&table);
    // Under another key the row has the same place in the index.
    let mut txn = begin(&home, Isolation::ReadCommitted);
    block_on(txn.lock(&table, &key(1))).unwrap().unwrap();
    let moved = block_on(txn.update_key(&table, &key(1), key(5), row(&table, 5, 20))).unwrap();
    assert_eq!(moved, InsertOutcome::Inserted(key(5)));
    let before = home.engine().stats().lock_waits;
    let mut other = begin(&home, Isolation::ReadCommitted);
    assert!(set(&mut other, &table, 2, 10), "nobody else is in the way");
    assert_eq!(home.engine().stats().lock_waits, before);
    other.rollback();
    txn.commit("UPDATE").unwrap().unwrap();
    drop(table);
    for _ in 0..2 {
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(2, 10), (5, 20)]);
        home.check_indexes(&table);
        drop(table);
        home.restart();
    }
}

#[test]
fn nulls_are_distinct() {
    let mut home = Home::new();
    for keyed in [true, false] {
        let mut new = new_table(if keyed { "t" } else { "u" }, keyed);
        new.indexes
            .push(index(if keyed { "t_key" } else { "u_key" }, true));
        let table = home.create_as(new);
        let mut txn = begin(&home, Isolation::ReadCommitted);
        for id in 1..3 {
            let own = keyed.then(|| key(id));
            let outcome = block_on(txn.insert(&table, own, nullable(&table, id))).unwrap();
            assert!(matches!(outcome, InsertOutcome::Inserted(_)));
        }
        txn.commit("INSERT").unwrap().unwrap();
    }
    for _ in 0..2 {
        for name in ["t", "u"] {
            let table = home.table(name);
            let mut txn = begin(&home, Isolation::ReadCommitted);
            let mut cursor = txn.begin_index_scan(&table, 0, KeyRange::all()).unwrap();
            assert_eq!(cursor.next_batch(10).unwrap().len(), 2);
        }
        home.restart();
    }
}

#[test]
fn savepoints_rollbacks_and_snapshots_are_for_an_index_what_they_are_for_its_table() {
    for spill_bytes in [usize::MAX, 60] {
        let mut options = options();
        options.spill_bytes = spill_bytes;
        let mut home = Home::with(options);
        let table = unique(&home, true);
        home.put(&table, 1, 10);
        home.put(&table, 2, 20);
        let mut old = begin(&home, Isolation::RepeatableRead);
        assert_eq!(rows_by_index(&mut old, &table, 0), [(1, 10), (2, 20)]);

        let mut txn = begin(&home, Isolation::ReadCommitted);
        assert!(set(&mut txn, &table, 1, 11));
        let savepoint = txn.savepoint().unwrap();
        assert!(set(&mut txn, &table, 1, 12));
        assert!(delete(&mut txn, &table, 2));
        insert(&mut txn, &table, 3, 20);
        assert_eq!(rows_by_index(&mut txn, &table, 0), [(1, 12), (3, 20)]);
        block_on(txn.rollback_to(savepoint)).unwrap();
        assert_eq!(rows_by_index(&mut txn, &table, 0), [(1, 11), (2, 20)]);
        insert(&mut txn, &table, 3, 10);
        txn.commit("UPDATE").unwrap().unwrap();

        let mut undone = begin(&home, Isolation::ReadCommitted);
        assert!(delete(&mut undone, &table, 3));
        insert(&mut undone, &table, 4, 10);
        undone.rollback();
        assert_eq!(rows_by_index(&mut old, &table, 0), [(1, 10), (2, 20)]);
        drop((old, table));
        for _ in 0..2 {
            let table = home.table("t");
            assert_eq!(home.rows(&table), [(1, 11), (2, 20), (3, 10)]);
            home.check_indexes(&table);
            home.check_replica(&table);
            drop(table);
            home.restart();
        }
    }
}

#[test]
fn an_index_is_made_of_the_rows_that_are_there_and_the_transactions_own() {
    let mut home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    home.put(&table, 2, 10);
    home.put(&table, 3, 30);
    let mut txn = begin(&home, Isolation::ReadCommitted);
    let refused = block_on(txn.create_index(&table, index("i", true))).unwrap_err();
    assert!(matches!(refused, Error::UniqueViolation { .. }), "{refused}");
    txn.rollback();

    let mut txn = begin(&home, Isolation::ReadCommitted);
    assert!(set(&mut txn, &table, 2, 20));
    assert!(delete(&mut txn, &table, 3));
    insert(&mut txn, &table, 4, 30);
    let indexed = block_on(txn.create_index(&table, index("i", true))).unwrap();
    assert!(
        !indexed.indexes[0].is_ready(),
        "older snapshots would not find their rows"
    );
    assert!(set(&mut txn, &indexed, 1, 11));
    insert(&mut txn, &indexed, 5, 10);
    assert!(matches!(
        try_insert(&mut txn, &indexed, 6, 30).unwrap(),
        InsertOutcome::Taken { .. }
    ));
    // Readers go on, writers wait.
    assert_eq!(home.rows(&table), [(1, 10), (2, 10), (3, 30)]);
    let mut other = begin(&home, Isolation::ReadCommitted);
    let mut waiting = Box::pin(other.insert(&table, Some(key(9)), row(&table, 9, 90)));
    assert!(poll_once(waiting.as_mut()).is_pending());
    drop(waiting);
    other.rollback();
    txn.commit("CREATE INDEX").unwrap().unwrap();
    assert!(indexed.indexes[0].is_ready());
    drop((indexed, table));
    for _ in 0..2 {
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(1, 11), (2, 20), (4, 30), (5, 10)]);
        home.check_indexes(&table);
        assert!(home.engine().catalog().index("i").is_some());
        drop(table);
        home.restart();
    }
    let table = home.table("t");
    let mut txn = begin(&home, Isolation::ReadCommitted);
    let bare = block_on(txn.drop_index(&table, "i")).unwrap();
    insert(&mut txn, &bare, 6, 30);
    txn.commit("DROP INDEX").unwrap().unwrap();
    drop((bare, table));
    home.restart();
    assert!(home.table("t").indexes.is_empty());
    assert!(home.engine().catalog().index("i").is_none());
}

#[test]
fn an_index_follows_a_new_primary_key_and_a_truncation() {
    let mut home = Home::new();
    let table = unique(&home, false);
    home.put(&table, 1, 10);
    home.put(&table, 2, 20);
    let mut txn = begin(&home, Isolation::ReadCommitted);
    insert(&mut txn, &table, 3, 30);
    let keyed = block_on(txn.add_primary_key(&table, primary_key("t"))).unwrap();
    insert(&mut txn, &keyed, 4, 40);
    assert!(delete(&mut txn, &keyed, 1));
    txn.commit("ALTER TABLE").unwrap().unwrap();
    drop((table, keyed));
    for _ in 0..2 {
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(2, 20), (3, 30), (4, 40)]);
        home.check_indexes(&table);
        let mut txn = begin(&home, Isolation::ReadCommitted);
        assert!(is_taken_by(&try_insert(&mut txn, &table, 9, 40).unwrap(), 4));
        drop((txn, table));
        home.restart();
    }
    let table = home.table("t");
    let mut txn = begin(&home, Isolation::ReadCommitted);
    let empty = block_on(txn.truncate(&table)).unwrap();
    insert(&mut txn, &empty, 7, 40);
    txn.commit("TRUNCATE").unwrap().unwrap();
    drop((table, empty));
    for _ in 0..2 {
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(7, 40)]);
        home.check_indexes(&table);
        drop(table);
        home.restart();
    }
}

#[test]
fn a_name_is_given_to_one_index_though_two_want_it_at_once() {
    let home = Home::new();
    let (t, u) = (home.create("t", true), home.create("u", true));
    let mut first = begin(&home, Isolation::ReadCommitted);
    let mut second = begin(&home, Isolation::ReadCommitted);
    block_on(first.create_index(&t, index("i", false))).unwrap();
    block_on(second.create_index(&u, index("i", false))).unwrap();
    first.commit("CREATE INDEX").unwrap().unwrap();
    let refused = second.commit("CREATE INDEX").unwrap_err();
    assert!(matches!(refused, Error::DuplicateTable { .. }), "{refused}");
    let mut third = begin(&home, Isolation::ReadCommitted);
    for name in ["i", "u", "u_pkey"] {
        let mut made = pin!(third.create_index(&u, index(name, false)));
        let refused = block_on(made.as_mut()).unwrap_err();
        assert!(matches!(refused, Error::DuplicateTable { .. }), "{refused}");
    }
}

#[test]
fn lookups_show_rows_as_they_were_when_they_were_begun() {
    for before in ["in memory", "in files", "evicted"] {
        let mut options = options();
        if before == "evicted" {
            options.rows_bytes_max = 1;
        }
        let home = Home::with(options);
        let table = unique(&home, true);
        for id in 1..=8 {
            home.put(&table, id, 10 * i64::from(id));
        }
        if before != "in memory" {
            home.checkpoint();
        }
        let mut txn = begin(&home, Isolation::ReadCommitted);
        assert!(set(&mut txn, &table, 1, 11));
        assert!(delete(&mut txn, &table, 2));
        insert(&mut txn, &table, 9, 90);
        let mut entries = txn.begin_index_scan(&table, 0, KeyRange::all()).unwrap();
        let lookups = txn.begin_lookups(&table).unwrap();
        // Its own rows again, rows of others, and what others do; then the next statement's snapshot.
        assert!(set(&mut txn, &table, 1, 12));
        insert(&mut txn, &table, 2, 20);
        assert!(delete(&mut txn, &table, 9));
        assert!(set(&mut txn, &table, 3, 33));
        assert!(delete(&mut txn, &table, 4));
        let mut other = begin(&home, Isolation::ReadCommitted);
        assert!(set(&mut other, &table, 5, 55));
        assert!(delete(&mut other, &table, 6));
        insert(&mut other, &table, 7 + 8, 150);
        other.commit("UPDATE").unwrap().unwrap();
        if before != "in memory" {
            home.checkpoint();
        }
        txn.statement();
        let entries = entries.next_batch(usize::MAX).unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|(key, entry)| {
                let row = lookups.get_indexed(&mut txn, &table, 0, key, &entry.row).unwrap();
                decode(&table, &row.unwrap().row)
            })
            .collect();
        let expected = [
            (1, 11),
            (3, 30),
            (4, 40),
            (5, 50),
            (6, 60),
            (7, 70),
            (8, 80),
            (9, 90),
        ];
        assert_eq!(seen, expected, "{before}");
        drop(lookups);
        let now = [(1, 12), (2, 20), (3, 33), (5, 55), (7, 70), (8, 80), (15, 150)];
        assert_eq!(rows_by_index(&mut txn, &table, 0), now, "{before}");
        txn.commit("UPDATE").unwrap().unwrap();
        home.check_indexes(&table);
    }
}
