//! DDL, savepoints, writing ahead, and what a restart makes of them.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use std::pin::pin;
use std::sync::Arc;

const BOTH: [bool; 2] = [false, true];

/// Runs a check on the engine as it is and again after a restart.
fn now_and_after_restart(home: &mut Home, check: impl Fn(&Home)) {
    check(home);
    home.restart();
    check(home);
}

#[test]
fn a_table_exists_for_others_from_its_commit_on() {
    let mut home = Home::new();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let table = block_on(txn.create_table(new_table("t", true))).unwrap();
    assert!(table.def.oid >= FIRST_OID);
    assert!(table.def.columns[0].not_null && !table.def.columns[1].not_null);
    insert(&mut txn, &table, 1, 10);
    assert!(txn.catalog().table("t").is_some());
    assert!(home.engine().catalog().table("t").is_none());
    let mut old = home.session().begin(Isolation::RepeatableRead);
    old.statement();
    let version = home.engine().catalog().version();
    txn.commit("").unwrap();
    assert_ne!(home.engine().catalog().version(), version);
    old.statement();
    assert!(
        old.catalog().table("t").is_none(),
        "an old snapshot has the old catalog"
    );
    drop((old, table));
    now_and_after_restart(&mut home, |home| {
        assert_eq!(home.rows(&home.table("t")), [(1, 10)])
    });
    let next = home.create("u", true);
    assert!(next.def.oid > home.table("t").def.oid);
    assert!(next.def.store > home.table("t").def.store);
}

#[test]
fn a_name_can_be_given_once() {
    let home = Home::new();
    let mut first = home.session().begin(Isolation::ReadCommitted);
    let mut second = home.session().begin(Isolation::ReadCommitted);
    block_on(first.create_table(new_table("t", true))).unwrap();
    block_on(second.create_table(new_table("t", false))).unwrap();
    let again = block_on(first.create_table(new_table("t", true)));
    assert!(matches!(again, Err(Error::DuplicateTable { .. })));
    first.commit("").unwrap();
    let before = home.engine().visible_lsn();
    assert!(matches!(second.commit(""), Err(Error::DuplicateTable { .. })));
    assert_eq!(home.engine().visible_lsn(), before);
    assert!(home.table("t").def.primary_key.is_some());
}

#[test]
fn ddl_of_several_transactions_on_different_tables_goes_together() {
    let home = Home::new();
    let table = home.create("t", true);
    let mut first = home.session().begin(Isolation::ReadCommitted);
    let mut second = home.session().begin(Isolation::ReadCommitted);
    block_on(first.truncate(&table)).unwrap();
    block_on(second.create_table(new_table("u", true))).unwrap();
    second.commit("").unwrap();
    first.statement();
    assert!(first.catalog().table("u").is_some());
    assert_ne!(first.catalog().table("t").unwrap().def.store, table.def.store);
    first.commit("").unwrap();
    assert!(home.engine().catalog().table("u").is_some());
    assert_ne!(home.table("t").def.store, table.def.store);
}

#[test]
fn truncate_gives_a_fresh_store_and_old_snapshots_keep_the_old_one() {
    let mut home = Home::new();
    let old_table = home.create("t", true);
    home.put(&old_table, 1, 10);
    let mut old = home.session().begin(Isolation::RepeatableRead);
    old.statement();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let new_table = block_on(txn.truncate(&old_table)).unwrap();
    assert_eq!(rows(&mut txn, &new_table), []);
    insert(&mut txn, &new_table, 1, 11);
    assert_eq!(home.rows(&home.table("t")), [(1, 10)]);
    txn.commit("").unwrap();
    let seen = Arc::clone(old.catalog().table("t").unwrap());
    assert_eq!(rows(&mut old, &seen), [(1, 10)]);
    // Who resolved the table before is told to look again.
    let mut late = home.session().begin(Isolation::ReadCommitted);
    let stale = block_on(late.insert(&old_table, Some(key(2)), row(&old_table, 2, 20)));
    assert!(matches!(stale, Err(Error::TableChanged { .. })));
    let stale = block_on(old.lock(&old_table, &key(1)));
    assert!(matches!(stale, Err(Error::SerializationFailure { .. })));
    drop((old, late, seen, old_table, new_table));
    now_and_after_restart(&mut home, |home| {
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(1, 11)]);
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        assert_eq!(
            txn.get(&table, &key(1)).unwrap().unwrap().ordinal.unwrap().get(),
            0,
            "ordinals begin anew"
        );
    });
}

#[test]
fn altering_waits_for_writers_and_writers_wait_for_altering() {
    let home = Home::new();
    let table = home.create("t", true);
    let mut writer = home.session().begin(Isolation::ReadCommitted);
    insert(&mut writer, &table, 1, 10);
    let mut dropper = home.session().begin(Isolation::ReadCommitted);
    {
        let mut dropping = pin!(dropper.drop_table(&table));
        assert!(poll_once(dropping.as_mut()).is_pending());
        writer.commit("").unwrap();
        block_on(dropping).unwrap();
    }
    assert_eq!(home.rows(&table), [(1, 10)], "readers are not disturbed");
    let mut late = home.session().begin(Isolation::ReadCommitted);
    let mut inserting = pin!(late.insert(&table, Some(key(2)), row(&table, 2, 20)));
    assert!(poll_once(inserting.as_mut()).is_pending());
    dropper.commit("").unwrap();
    assert!(matches!(block_on(inserting), Err(Error::TableChanged { .. })));
    assert!(home.engine().catalog().table("t").is_none());
}

#[test]
fn two_writers_that_both_want_to_alter_are_a_deadlock() {
    let home = Home::new();
    let table = home.create("t", true);
    let mut first = home.session().begin(Isolation::ReadCommitted);
    let mut second = home.session().begin(Isolation::ReadCommitted);
    insert(&mut first, &table, 1, 10);
    insert(&mut second, &table, 2, 20);
    let mut altering = pin!(first.truncate(&table));
    assert!(poll_once(altering.as_mut()).is_pending());
    assert!(matches!(
        block_on(second.truncate(&table)),
        Err(Error::Deadlock { .. })
    ));
    second.rollback();
    block_on(altering).unwrap();
    assert_eq!(home.engine().stats().deadlocks, 1);
}

#[test]
fn a_primary_key_is_added_over_committed_and_own_rows() {
    for restart_first in BOTH {
        let mut home = Home::new();
        let table = home.create("t", false);
        for id in [3, 1, 2] {
            home.put(&table, id, i64::from(id) * 10);
        }
        drop(table);
        if restart_first {
            home.restart();
        }
        let table = home.table("t");
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        insert(&mut txn, &table, 0, 0);
        // Hidden keys count from 0: delete the row of id 1, change that of id 2.
        let hidden = |n: u64| n.to_be_bytes();
        block_on(txn.lock(&table, &hidden(1))).unwrap().unwrap();
        block_on(txn.delete(&table, &hidden(1))).unwrap();
        block_on(txn.lock(&table, &hidden(2))).unwrap().unwrap();
        block_on(txn.update(&table, &hidden(2), row(&table, 2, 21))).unwrap();
        let keyed = block_on(txn.add_primary_key(&table, primary_key("t"))).unwrap();
        assert_eq!(keyed.def.store, table.def.store);
        assert!(keyed.def.columns[0].not_null);
        assert_eq!(rows(&mut txn, &keyed), [(0, 0), (2, 21), (3, 30)]);
        insert(&mut txn, &keyed, 1, 11);
        assert!(set(&mut txn, &keyed, 3, 31));
        assert!(delete(&mut txn, &keyed, 0));
        let expected = [(1, 11), (2, 21), (3, 31)];
        assert_eq!(rows(&mut txn, &keyed), expected);
        assert_eq!(
            home.rows(&home.table("t")).len(),
            3,
            "others see the rows as they were"
        );
        txn.commit("").unwrap();
        drop((table, keyed));
        now_and_after_restart(&mut home, |home| {
            let table = home.table("t");
            assert_eq!(home.rows(&table), expected);
            assert_eq!(table.live_rows(), 3);
            let mut txn = home.session().begin(Isolation::ReadCommitted);
            assert_eq!(get(&mut txn, &table, 2), Some(21));
            assert!(matches!(
                try_insert(&mut txn, &table, 1, 0),
                Ok(InsertOutcome::Exists(_))
            ));
        });
        home.put(&home.table("t"), 9, 90);
        home.restart();
        assert_eq!(home.rows(&home.table("t")).len(), 4);
    }
}

#[test]
fn a_primary_key_over_duplicates_or_nulls_is_refused_and_changes_nothing() {
    let home = Home::new();
    let table = home.create("t", false);
    home.put(&table, 1, 10);
    home.put(&table, 1, 11);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    match block_on(txn.add_primary_key(&table, primary_key("t"))) {
        Err(Error::UniqueViolation { constraint, key, .. }) => {
            assert_eq!((constraint.as_str(), key), ("t_pkey", vec![Value::Int4(1)]));
        }
        other => panic!("{other:?}"),
    }
    drop(txn);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.lock(&table, &1u64.to_be_bytes())).unwrap().unwrap();
    block_on(txn.delete(&table, &1u64.to_be_bytes())).unwrap();
    let null = table.layout.encode(&[Value::Null, Value::Int8(0)]).unwrap();
    let savepoint = txn.savepoint().unwrap();
    block_on(txn.insert(&table, None, null)).unwrap();
    match block_on(txn.add_primary_key(&table, primary_key("t"))) {
        Err(Error::NotNullViolation { column, .. }) => assert_eq!(column, "id"),
        other => panic!("{other:?}"),
    }
    block_on(txn.rollback_to(savepoint)).unwrap();
    let keyed = block_on(txn.add_primary_key(&table, primary_key("t"))).unwrap();
    assert_eq!(rows(&mut txn, &keyed), [(1, 10)]);
    let again = block_on(txn.add_primary_key(&keyed, primary_key("t")));
    assert!(matches!(again, Err(Error::PrimaryKeyExists { .. })));
    txn.commit("").unwrap();
    assert_eq!(home.rows(&home.table("t")), [(1, 10)]);
}

#[test]
fn savepoints_restore_rows_locks_and_definitions() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    home.put(&table, 2, 20);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    set(&mut txn, &table, 1, 11);
    let outer = txn.savepoint().unwrap();
    set(&mut txn, &table, 1, 12);
    set(&mut txn, &table, 2, 22);
    insert(&mut txn, &table, 3, 30);
    let inner = txn.savepoint().unwrap();
    delete(&mut txn, &table, 1);
    delete(&mut txn, &table, 3);
    block_on(txn.create_table(new_table("u", true))).unwrap();
    assert_eq!(rows(&mut txn, &table), [(2, 22)]);

    block_on(txn.rollback_to(inner)).unwrap();
    assert_eq!(rows(&mut txn, &table), [(1, 12), (2, 22), (3, 30)]);
    assert!(txn.catalog().table("u").is_none());
    block_on(txn.rollback_to(outer)).unwrap();
    assert_eq!(rows(&mut txn, &table), [(1, 11), (2, 20)]);
    assert!(matches!(
        block_on(txn.rollback_to(inner)),
        Err(Error::UnknownSavepoint)
    ));
    // What was first touched after the savepoint is free for others.
    let mut other = home.session().begin(Isolation::ReadCommitted);
    assert!(set(&mut other, &table, 2, 29));
    insert(&mut other, &table, 3, 39);
    other.commit("").unwrap();

    let third = txn.savepoint().unwrap();
    insert(&mut txn, &table, 4, 40);
    txn.release(third).unwrap();
    assert!(matches!(txn.release(third), Err(Error::UnknownSavepoint)));
    block_on(txn.rollback_to(outer)).unwrap();
    insert(&mut txn, &table, 5, 50);
    txn.commit("").unwrap();
    assert_eq!(home.rows(&table), [(1, 11), (2, 29), (3, 39), (5, 50)]);
}

/// A table with rows so large that a few of them make a transaction write ahead.
fn create_wide(home: &Home) -> Arc<Table> {
    let column = |name: &str, ty| ColumnDef::new(name, ty);
    let new = NewTable {
        name: "wide".to_owned(),
        columns: vec![column("id", DataType::Int4), column("filler", DataType::Bytea)],
        primary_key: Some(primary_key("wide")),
        ..NewTable::default()
    };
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let table = block_on(txn.create_table(new)).unwrap();
    txn.commit("").unwrap();
    table
}

fn wide(table: &Table, id: i32, filler: u8) -> Vec<u8> {
    table
        .layout
        .encode(&[Value::Int4(id), Value::Bytea(vec![filler; 4 << 10])])
        .unwrap()
}

/// Ids and the first byte of their fillers.
fn wide_rows(home: &Home) -> Vec<(i32, u8)> {
    let table = home.table("wide");
    let mut found = Vec::new();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.scan(&table, &KeyRange::all(), &mut |_, version| {
        let row = table.layout.row(&version.row);
        match (row.get(0), row.get(1)) {
            (Datum::Int4(id), Datum::Bytea(filler)) => found.push((id, filler[0])),
            other => panic!("{other:?}"),
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// The ordinals in use, and how many tentative records the log has.
fn tentative_records(home: &Home) -> usize {
    let log = home.engine().log();
    log.wait_durable(home.engine().visible_lsn()).unwrap();
    let mut tail = log.tail(scry_wal::Lsn::ZERO);
    let mut count = 0;
    while tail.position() < log.durable_lsn() {
        let Some(frame) = tail.next(std::time::Duration::from_secs(10)).unwrap() else {
            break;
        };
        count += frame
            .records()
            .filter(|record| matches!(record, Ok((_, scry_wal::Record::Tentative { .. }))))
            .count();
    }
    count
}

#[test]
fn a_large_transaction_writes_ahead_and_is_whole_after_a_restart() {
    let mut home = Home::new();
    let table = create_wide(&home);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    for id in 0..40 {
        block_on(txn.insert(&table, Some(key(id)), wide(&table, id, 1))).unwrap();
    }
    // Changes of rows that the log has already.
    for id in 0..10 {
        block_on(txn.lock(&table, &key(id))).unwrap().unwrap();
        block_on(txn.update(&table, &key(id), wide(&table, id, 2))).unwrap();
    }
    for id in 5..15 {
        block_on(txn.lock(&table, &key(id))).unwrap().unwrap();
        block_on(txn.delete(&table, &key(id))).unwrap();
    }
    block_on(txn.insert(&table, Some(key(7)), wide(&table, 7, 3))).unwrap();
    assert_eq!(wide_rows(&home), []);
    txn.commit("COPY").unwrap().unwrap();
    assert!(tentative_records(&home) > 40);
    drop(table);
    let expected: Vec<(i32, u8)> = (0..5)
        .map(|id| (id, 2))
        .chain([(7, 3)])
        .chain((15..40).map(|id| (id, 1)))
        .collect();
    now_and_after_restart(&mut home, |home| {
        assert_eq!(wide_rows(home), expected);
        assert_eq!(home.table("wide").live_rows(), 31);
    });
    // The next transaction's ordinals follow.
    let table = home.table("wide");
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.lock(&table, &key(0))).unwrap().unwrap();
    block_on(txn.update(&table, &key(0), wide(&table, 0, 9))).unwrap();
    txn.commit("").unwrap();
    drop(table);
    now_and_after_restart(&mut home, |home| assert_eq!(wide_rows(home)[0], (0, 9)));
}

#[test]
fn savepoints_work_across_what_was_written_ahead() {
    let mut home = Home::new();
    let table = create_wide(&home);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    for id in 0..3 {
        block_on(txn.insert(&table, Some(key(id)), wide(&table, id, 1))).unwrap();
    }
    txn.commit("").unwrap();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.insert(&table, Some(key(100)), wide(&table, 100, 1))).unwrap();
    let savepoint = txn.savepoint().unwrap();
    for id in 0..3 {
        block_on(txn.lock(&table, &key(id))).unwrap().unwrap();
    }
    block_on(txn.update(&table, &key(0), wide(&table, 0, 2))).unwrap();
    block_on(txn.delete(&table, &key(1))).unwrap();
    block_on(txn.lock(&table, &key(100))).unwrap().unwrap();
    block_on(txn.update(&table, &key(100), wide(&table, 100, 2))).unwrap();
    for id in 10..20 {
        block_on(txn.insert(&table, Some(key(id)), wide(&table, id, 2))).unwrap();
    }
    block_on(txn.create_table(new_table("u", true))).unwrap();
    let u = Arc::clone(txn.catalog().table("u").unwrap());
    insert(&mut txn, &u, 1, 1);
    for id in 20..30 {
        block_on(txn.insert(&table, Some(key(id)), wide(&table, id, 2))).unwrap();
    }
    block_on(txn.rollback_to(savepoint)).unwrap();
    block_on(txn.insert(&table, Some(key(15)), wide(&table, 15, 3))).unwrap();
    let own = txn.own_writes(table.def.store).unwrap();
    assert_eq!((own.hidden.len(), own.rows.len()), (0, 2));
    txn.commit("").unwrap();
    drop((table, u));
    let expected = [(0, 1), (1, 1), (2, 1), (15, 3), (100, 1)];
    now_and_after_restart(&mut home, |home| {
        assert_eq!(wide_rows(home), expected);
        assert!(home.engine().catalog().table("u").is_none());
        assert_eq!(home.table("wide").live_rows(), 5);
    });
}

#[test]
fn a_bulk_load_into_a_truncated_table_of_the_same_transaction_survives() {
    let mut home = Home::new();
    let table = create_wide(&home);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    for id in 0..10 {
        block_on(txn.insert(&table, Some(key(id)), wide(&table, id, 1))).unwrap();
    }
    let fresh = block_on(txn.truncate(&table)).unwrap();
    for id in 5..15 {
        block_on(txn.insert(&fresh, Some(key(id)), wide(&fresh, id, 2))).unwrap();
    }
    assert!(matches!(
        block_on(txn.lock(&table, &key(1))),
        Err(Error::TableChanged { .. })
    ));
    txn.commit("").unwrap();
    drop((table, fresh));
    let expected: Vec<(i32, u8)> = (5..15).map(|id| (id, 2)).collect();
    now_and_after_restart(&mut home, |home| assert_eq!(wide_rows(home), expected));
}

#[test]
fn a_rolled_back_load_is_ended_in_the_log_and_an_unfinished_one_by_the_next_start() {
    let mut home = Home::new();
    let table = create_wide(&home);
    for unfinished in BOTH {
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        for id in 0..10 {
            block_on(txn.insert(&table, Some(key(id)), wide(&table, id, 1))).unwrap();
        }
        if unfinished {
            // The log is closed under the transaction, as by a crash.
            home.engine().close().unwrap();
        }
        txn.rollback();
    }
    drop(table);
    home.engine = None;
    home.engine = Some(open(home.directory.path()));
    assert_eq!(wide_rows(&home), []);
    home.create("marker", true);
    let log = home.engine().log();
    log.wait_durable(home.engine().visible_lsn()).unwrap();
    let mut tail = log.tail(scry_wal::Lsn::ZERO);
    let (mut open_ids, mut drops) = (std::collections::HashSet::new(), 0);
    while tail.position() < log.durable_lsn() {
        let Some(frame) = tail.next(std::time::Duration::from_secs(10)).unwrap() else {
            break;
        };
        for record in frame.records() {
            match record.unwrap().1 {
                scry_wal::Record::Tentative { id, .. } => drop(open_ids.insert(id)),
                scry_wal::Record::TentativeDrop(id) => {
                    assert!(open_ids.remove(&id));
                    drops += 1;
                }
                _ => {}
            }
        }
    }
    assert_eq!((open_ids.len(), drops), (0, 2));
}

#[test]
fn dropped_tables_are_gone_after_a_restart_and_their_names_free() {
    let mut home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let oid = table.def.oid;
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.drop_table(&table)).unwrap();
    let again = block_on(txn.create_table(new_table("t", true))).unwrap();
    assert_ne!(again.def.oid, oid);
    insert(&mut txn, &again, 2, 20);
    txn.commit("").unwrap();
    drop((table, again));
    now_and_after_restart(&mut home, |home| {
        assert_eq!(home.rows(&home.table("t")), [(2, 20)])
    });
}

#[test]
fn definitions_that_contradict_themselves_are_refused() {
    let home = Home::new();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let mut twice = new_table("t", false);
    twice.columns[1].name = "id".to_owned();
    let mut missing = new_table("t", true);
    missing.primary_key.as_mut().unwrap().columns = vec![2];
    let mut doubled = new_table("t", true);
    doubled.primary_key.as_mut().unwrap().columns = vec![0, 0];
    for new in [twice, missing, doubled] {
        assert!(matches!(
            block_on(txn.create_table(new)),
            Err(Error::InvalidDefinition { .. })
        ));
    }
}

#[test]
fn another_definition_survives_a_restart_and_keeps_rows_and_ordinals() {
    let mut home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let check = CheckDef {
        name: "positive".to_owned(),
        expression: "amount > 0".to_owned(),
    };
    let mut def = table.def.clone();
    def.name = "stock".to_owned();
    def.columns[1].name = "amount".to_owned();
    def.columns[1].default = Some(ColumnDefault::Expression("5".to_owned()));
    def.checks.push(check);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let own = block_on(txn.redefine(&table, def.clone())).unwrap();
    insert(&mut txn, &own, 2, 20);
    txn.commit("ALTER TABLE").unwrap().unwrap();
    drop((table, own));
    for _ in 0..2 {
        assert!(home.engine().catalog().table("t").is_none());
        let table = home.table("stock");
        assert_eq!(table.def, def);
        assert_eq!(home.rows(&table), [(1, 10), (2, 20)]);
        home.check_replica(&table);
        drop(table);
        home.restart();
    }
}

#[test]
fn whoever_waited_while_a_table_was_redefined_does_not_write_by_the_old_definition() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut session = home.session();
    let mut altering = session.begin(Isolation::ReadCommitted);
    let mut def = table.def.clone();
    def.columns[1].not_null = true;
    block_on(altering.redefine(&table, def.clone())).unwrap();

    let mut other = home.session();
    let mut waiting = other.begin(Isolation::ReadCommitted);
    let mut insert = Box::pin(waiting.insert(&table, Some(key(2)), row(&table, 2, 20)));
    assert!(poll_once(insert.as_mut()).is_pending());
    let mut definer = other_definition(&home, &table);
    assert!(poll_once(definer.as_mut()).is_pending());
    altering.commit("ALTER TABLE").unwrap().unwrap();
    let refused = block_on(insert).unwrap_err();
    assert!(matches!(refused, Error::TableChanged { .. }), "{refused}");
    drop(waiting);
    let refused = block_on(definer).unwrap_err();
    assert!(matches!(refused, Error::TableChanged { .. }), "{refused}");
    assert_eq!(home.table("t").def, def);
    assert_eq!(home.rows(&home.table("t")), [(1, 10)]);
}

/// Another transaction that drops a default of the table as it resolved it.
fn other_definition<'h>(
    home: &'h Home,
    table: &'h Arc<Table>,
) -> std::pin::Pin<Box<dyn std::future::Future<Output = Result<(), Error>> + 'h>> {
    let mut session = home.session();
    Box::pin(async move {
        let mut txn = session.begin(Isolation::ReadCommitted);
        let mut def = table.def.clone();
        def.columns[1].default = Some(ColumnDefault::Expression("7".to_owned()));
        txn.redefine(table, def).await.map(drop)
    })
}

#[test]
fn what_is_written_under_a_primary_key_that_is_rolled_back_is_not_in_the_log() {
    for is_changed_before in [false, true] {
        let mut home = Home::with(options_that_spill(true));
        let table = home.create("t", false);
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        txn.statement();
        let keys: Vec<Key> = (0..40)
            .map(|id| {
                let row = row(&table, id, 0);
                match block_on(txn.insert(&table, None, row)).unwrap() {
                    InsertOutcome::Inserted(key) => key,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        txn.commit("").unwrap().unwrap();
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        txn.statement();
        let savepoint = txn.savepoint().unwrap();
        if is_changed_before {
            for (id, hidden) in keys.iter().enumerate().skip(30) {
                block_on(txn.lock(&table, hidden)).unwrap().unwrap();
                let row = row(&table, i32::try_from(id).unwrap(), 1);
                block_on(txn.update(&table, hidden, row)).unwrap();
            }
        }
        let keyed = block_on(txn.add_primary_key(&table, primary_key("t"))).unwrap();
        for id in 0..35 {
            assert!(set(&mut txn, &keyed, id, 2));
        }
        assert!(delete(&mut txn, &keyed, 3));
        (100..140).for_each(|id| insert(&mut txn, &keyed, id, 2));
        block_on(txn.rollback_to(savepoint)).unwrap();
        block_on(txn.insert(&table, None, row(&table, 50, 3))).unwrap();
        txn.commit("").unwrap().unwrap();
        drop((table, keyed));
        let mut expected: Vec<_> = (0..40).map(|id| (id, 0)).collect();
        expected.push((50, 3));
        let check = |home: &Home| {
            let table = home.table("t");
            assert_eq!(home.rows(&table), expected);
            assert_eq!(table.live_rows(), 41);
            home.check_replica(&table);
        };
        check(&home);
        home.restart_at_once();
        check(&home);
        home.restart();
        check(&home);
    }
}

#[test]
fn a_primary_key_and_what_becomes_of_its_table_in_the_same_transaction_are_found_again() {
    for (truncates, renames) in [(true, false), (false, true), (true, true)] {
        let mut home = Home::with(EngineOptions {
            checkpoint_log_bytes: 0,
            ..options()
        });
        let table = home.create("t", false);
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        txn.statement();
        block_on(txn.insert(&table, None, row(&table, 1, 1))).unwrap();
        txn.commit("").unwrap().unwrap();
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        txn.statement();
        let mut now = block_on(txn.add_primary_key(&table, primary_key("t"))).unwrap();
        if truncates {
            now = block_on(txn.truncate(&now)).unwrap();
        }
        if renames {
            let mut def = now.def.clone();
            def.primary_key.as_mut().unwrap().name = "renamed".to_owned();
            now = block_on(txn.redefine(&now, def)).unwrap();
        }
        insert(&mut txn, &now, 2, 2);
        txn.commit("").unwrap().unwrap();
        let name = if renames {
            "renamed".to_owned()
        } else {
            primary_key("t").name
        };
        let rows = if truncates {
            vec![(2, 2)]
        } else {
            vec![(1, 1), (2, 2)]
        };
        drop((table, now));
        for restart in 0..3 {
            match restart {
                0 => home.restart_at_once(),
                _ => home.restart(),
            }
            let table = home.table("t");
            let key = table.def.primary_key.as_ref().map(|key| key.name.clone());
            assert_eq!(
                key.as_ref(),
                Some(&name),
                "{truncates} {renames}, restart {restart}"
            );
            assert_eq!(home.rows(&table), rows);
            let mut txn = home.session().begin(Isolation::ReadCommitted);
            txn.statement();
            let outcome = try_insert(&mut txn, &table, 2, 5).unwrap();
            assert!(matches!(outcome, InsertOutcome::Exists(_)), "{outcome:?}");
        }
    }
}
