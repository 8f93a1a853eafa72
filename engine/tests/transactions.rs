//! What transactions see of each other, wait for, and leave behind.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use scry_wal::sim::SimStorage;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

#[test]
fn a_transaction_sees_its_own_writes_and_nobody_else_does_before_the_commit() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    insert(&mut txn, &table, 2, 20);
    assert!(set(&mut txn, &table, 1, 11));
    assert_eq!(rows(&mut txn, &table), [(1, 11), (2, 20)]);
    assert_eq!(get(&mut txn, &table, 2), Some(20));
    assert_eq!(home.rows(&table), [(1, 10)]);
    assert!(delete(&mut txn, &table, 1));
    assert_eq!(rows(&mut txn, &table), [(2, 20)]);
    let lsn = txn.commit("UPDATE 1").unwrap().unwrap();
    assert_eq!(home.engine().visible_lsn(), lsn);
    assert_eq!(home.rows(&table), [(2, 20)]);
}

#[test]
fn a_rollback_or_a_drop_leaves_nothing_and_gives_all_locks_back() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    for explicit in [true, false] {
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        insert(&mut txn, &table, 2, 20);
        set(&mut txn, &table, 1, 11);
        if explicit {
            txn.rollback()
        } else {
            drop(txn)
        }
        assert_eq!(home.rows(&table), [(1, 10)]);
    }
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    assert!(set(&mut txn, &table, 1, 12));
    insert(&mut txn, &table, 2, 22);
    txn.commit("").unwrap();
    assert_eq!(home.rows(&table), [(1, 12), (2, 22)]);
    assert_eq!(home.engine().stats().aborts, 2);
}

#[test]
fn a_transaction_that_changes_nothing_commits_without_a_record() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let before = home.engine().visible_lsn();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    assert_eq!(txn.id(), None);
    get(&mut txn, &table, 1);
    assert_eq!(txn.id(), None, "reading takes no number");
    assert_eq!(txn.commit("").unwrap(), None);
    // Locked only; inserted and deleted again.
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    assert!(block_on(txn.lock(&table, &key(1))).unwrap().is_some());
    insert(&mut txn, &table, 2, 20);
    assert!(delete(&mut txn, &table, 2));
    assert!(txn.id().is_some());
    assert_eq!(txn.commit("").unwrap(), None);
    assert_eq!(home.engine().visible_lsn(), before);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    assert!(set(&mut txn, &table, 1, 11), "the lock was given back");
}

#[test]
fn read_committed_takes_a_snapshot_for_each_statement_and_repeatable_read_one_for_all() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let (mut first, mut second) = (home.session(), home.session());
    let mut read_committed = first.begin(Isolation::ReadCommitted);
    let mut repeatable = second.begin(Isolation::RepeatableRead);
    home.put(&table, 2, 20);
    read_committed.statement();
    repeatable.statement();
    assert_eq!(
        get(&mut repeatable, &table, 2),
        Some(20),
        "the snapshot is the first statement's, not BEGIN's"
    );
    home.put(&table, 3, 30);
    assert_eq!(
        get(&mut read_committed, &table, 3),
        None,
        "one statement, one snapshot"
    );
    read_committed.statement();
    repeatable.statement();
    assert_eq!(get(&mut read_committed, &table, 3), Some(30));
    assert_eq!(get(&mut repeatable, &table, 3), None);
    assert_eq!(rows(&mut repeatable, &table), [(1, 10), (2, 20)]);
}

#[test]
fn read_committed_waits_for_a_row_and_goes_on_with_its_newest_version() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut holder = home.session().begin(Isolation::ReadCommitted);
    set(&mut holder, &table, 1, 11);
    let mut waiter = home.session().begin(Isolation::ReadCommitted);
    let found = {
        let key = key(1);
        let mut lock = pin!(waiter.lock(&table, &key));
        assert!(poll_once(lock.as_mut()).is_pending());
        holder.commit("").unwrap();
        block_on(lock).unwrap().unwrap()
    };
    assert_eq!(decode(&table, &found.row), (1, 11));
    assert_eq!(waiter.depends_on(), found.lsn);
    assert_eq!(home.engine().stats().lock_waits, 1);
}

#[test]
fn a_row_that_was_deleted_during_the_wait_is_gone_and_not_locked() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut holder = home.session().begin(Isolation::ReadCommitted);
    delete(&mut holder, &table, 1);
    let mut waiter = home.session().begin(Isolation::ReadCommitted);
    {
        let key = key(1);
        let mut lock = pin!(waiter.lock(&table, &key));
        assert!(poll_once(lock.as_mut()).is_pending());
        holder.commit("").unwrap();
        assert!(block_on(lock).unwrap().is_none());
    }
    home.put(&table, 1, 12);
    assert_eq!(home.rows(&table), [(1, 12)]);
}

#[test]
fn repeatable_read_fails_where_it_would_overwrite_something_newer() {
    let home = Home::new();
    let table = home.create("t", true);
    for id in [1, 2, 3] {
        home.put(&table, id, 10);
    }
    let mut txn = home.session().begin(Isolation::RepeatableRead);
    let mut other = home.session().begin(Isolation::ReadCommitted);
    set(&mut other, &table, 1, 11);
    delete(&mut other, &table, 2);
    {
        let key = key(1);
        let mut lock = pin!(txn.lock(&table, &key));
        assert!(
            poll_once(lock.as_mut()).is_pending(),
            "the other may still roll back"
        );
        other.commit("").unwrap();
        assert!(matches!(block_on(lock), Err(Error::SerializationFailure { .. })));
    }
    assert!(matches!(
        block_on(txn.lock(&table, &key(2))),
        Err(Error::SerializationFailure { .. })
    ));
    assert!(block_on(txn.lock(&table, &key(3))).unwrap().is_some());
    drop(txn);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    assert!(set(&mut txn, &table, 1, 12), "the failed one holds nothing");
}

#[test]
fn a_wait_that_is_cancelled_leaves_the_row_to_others() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut holder = home.session().begin(Isolation::ReadCommitted);
    set(&mut holder, &table, 1, 11);
    let mut cancelled = home.session().begin(Isolation::ReadCommitted);
    {
        let key = key(1);
        let mut lock = pin!(cancelled.lock(&table, &key));
        assert!(poll_once(lock.as_mut()).is_pending());
    }
    holder.commit("").unwrap();
    let mut next = home.session().begin(Isolation::ReadCommitted);
    assert!(set(&mut next, &table, 1, 12));
    next.commit("").unwrap();
    // The transaction whose wait was cancelled goes on.
    insert(&mut cancelled, &table, 2, 20);
    cancelled.commit("").unwrap();
    assert_eq!(home.rows(&table), [(1, 12), (2, 20)]);
}

#[test]
fn an_insert_meets_existing_rows_and_waits_for_uncommitted_ones() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let Ok(InsertOutcome::Exists(found)) = try_insert(&mut txn, &table, 1, 99) else {
        panic!("it exists")
    };
    assert_eq!(decode(&table, &found.row), (1, 10));
    assert_eq!(txn.depends_on(), found.lsn);

    for commits in [true, false] {
        let mut first = home.session().begin(Isolation::ReadCommitted);
        insert(&mut first, &table, 2, 20);
        let mut second = home.session().begin(Isolation::ReadCommitted);
        let outcome = {
            let mut inserting = pin!(second.insert(&table, Some(key(2)), row(&table, 2, 21)));
            assert!(poll_once(inserting.as_mut()).is_pending());
            if commits {
                assert!(first.commit("").unwrap().is_some())
            } else {
                first.rollback()
            }
            block_on(inserting).unwrap()
        };
        assert_eq!(
            matches!(outcome, InsertOutcome::Exists(_)),
            commits,
            "{outcome:?}"
        );
        second.commit("").unwrap();
        assert_eq!(home.rows(&table)[1], if commits { (2, 20) } else { (2, 21) });
        let mut cleanup = home.session().begin(Isolation::ReadCommitted);
        assert!(delete(&mut cleanup, &table, 2));
        cleanup.commit("").unwrap();
    }
}

#[test]
fn an_insert_waits_for_a_deletion_but_not_for_a_mere_lock_or_update() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut holder = home.session().begin(Isolation::ReadCommitted);
    set(&mut holder, &table, 1, 11);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    assert!(matches!(
        try_insert(&mut txn, &table, 1, 99),
        Ok(InsertOutcome::Exists(_))
    ));
    delete(&mut holder, &table, 1);
    let mut inserting = pin!(txn.insert(&table, Some(key(1)), row(&table, 1, 12)));
    assert!(poll_once(inserting.as_mut()).is_pending());
    holder.commit("").unwrap();
    assert!(matches!(
        poll_once(inserting),
        Poll::Ready(Ok(InsertOutcome::Inserted(_)))
    ));
}

#[test]
fn locking_does_not_wait_for_a_row_that_is_about_to_be_inserted() {
    let home = Home::new();
    let table = home.create("t", true);
    let mut inserter = home.session().begin(Isolation::ReadCommitted);
    insert(&mut inserter, &table, 1, 10);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    assert_eq!(block_on(txn.lock(&table, &key(1))).unwrap(), None);
}

#[test]
fn a_row_found_not_to_match_is_unlocked_and_a_written_one_is_not() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    home.put(&table, 2, 20);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.lock(&table, &key(1))).unwrap();
    set(&mut txn, &table, 2, 21);
    txn.unlock_unwritten(&table, &key(1));
    txn.unlock_unwritten(&table, &key(2));
    let mut other = home.session().begin(Isolation::ReadCommitted);
    assert!(set(&mut other, &table, 1, 11));
    let key = key(2);
    assert!(poll_once(pin!(other.lock(&table, &key))).is_pending());
}

#[test]
fn a_lock_of_an_earlier_statement_outlives_a_later_one_that_finds_no_match() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.statement();
    assert!(block_on(txn.lock(&table, &key(1))).unwrap().is_some());
    txn.statement();
    assert!(block_on(txn.lock(&table, &key(1))).unwrap().is_some());
    txn.unlock_unwritten(&table, &key(1));
    let mut other = home.session().begin(Isolation::ReadCommitted);
    assert!(poll_once(pin!(other.lock(&table, &key(1)))).is_pending());
}

#[test]
fn changes_collapse_to_their_net_effect_and_ordinals_stay_dense() {
    let mut home = Home::new();
    let table = home.create("t", true);
    for id in 1..=3 {
        home.put(&table, id, 0);
    }
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    delete(&mut txn, &table, 1);
    insert(&mut txn, &table, 1, 1); // an update
    insert(&mut txn, &table, 4, 0);
    set(&mut txn, &table, 4, 4); // one insert
    insert(&mut txn, &table, 5, 5);
    delete(&mut txn, &table, 5); // nothing
    block_on(txn.lock(&table, &key(2))).unwrap();
    let moved = block_on(txn.update_key(&table, &key(2), key(6), row(&table, 6, 6))).unwrap();
    assert_eq!(moved, InsertOutcome::Inserted(key(6)));
    let own = txn.own_writes(table.def.store).unwrap();
    assert_eq!(
        own.hidden.iter().map(|ordinal| ordinal.get()).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(own.rows.len(), 3);
    txn.commit("").unwrap();
    let expected = [(1, 1), (3, 0), (4, 4), (6, 6)];
    assert_eq!(home.rows(&table), expected);
    let ordinals = |home: &Home| {
        let table = home.table("t");
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        [1, 3, 4, 6].map(|id| txn.get(&table, &key(id)).unwrap().unwrap().ordinal.unwrap().get())
    };
    assert_eq!(ordinals(&home), [3, 2, 4, 5], "in the order of first touch");
    assert_eq!(home.table("t").live_rows(), 4);
    drop(table);
    home.restart();
    let table = home.table("t");
    assert_eq!(home.rows(&table), expected);
    assert_eq!(ordinals(&home), [3, 2, 4, 5]);
    assert_eq!(table.live_rows(), 4);
}

#[test]
fn old_snapshots_keep_their_rows_while_new_ones_move_on() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 0);
    home.put(&table, 2, 0);
    let mut old = home.session().begin(Isolation::RepeatableRead);
    old.statement();
    for value in 1..=200 {
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        set(&mut txn, &table, 1, value);
        txn.commit("").unwrap();
    }
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    delete(&mut txn, &table, 2);
    txn.commit("").unwrap();
    assert!(home.engine().horizon() <= old.snapshot());
    assert_eq!(rows(&mut old, &table), [(1, 0), (2, 0)]);
    assert_eq!(home.rows(&table), [(1, 200)]);
    let snapshot = old.snapshot();
    drop(old);
    assert!(home.engine().horizon() > snapshot);
}

#[test]
fn a_resting_transaction_holds_no_snapshot() {
    let home = Home::new();
    let table = home.create("t", true);
    let mut session = home.session();
    let mut txn = session.begin(Isolation::ReadCommitted);
    home.put(&table, 1, 10);
    txn.rest();
    assert_eq!(home.engine().horizon(), home.engine().visible_lsn());
    txn.statement();
    assert_eq!(get(&mut txn, &table, 1), Some(10));
}

#[test]
fn a_deleted_row_leaves_memory_once_nobody_sees_it_and_may_come_back() {
    let home = Home::new();
    let table = home.create("t", true);
    for round in 0..50 {
        home.put(&table, 1, round);
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        assert!(delete(&mut txn, &table, 1));
        let lsn = txn.commit("").unwrap().unwrap();
        home.engine().log().wait_durable(lsn).unwrap();
    }
    assert_eq!(home.rows(&table), []);
}

#[test]
fn who_finds_no_row_depends_on_its_deletion_until_that_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimStorage::new(1, false);
    let storage: Arc<SimStorage> = Arc::clone(&disk);
    let engine = Engine::open_on(directory.path(), storage, options()).unwrap();
    let mut session = engine.session(SessionInfo::default());
    let mut txn = session.begin(Isolation::ReadCommitted);
    let table = block_on(txn.create_table(new_table("t", true))).unwrap();
    insert(&mut txn, &table, 1, 10);
    let created = txn.commit("").unwrap().unwrap();
    engine.log().wait_durable(created).unwrap();
    disk.hold_writes(true);
    let mut txn = session.begin(Isolation::ReadCommitted);
    assert!(delete(&mut txn, &table, 1));
    let deleted = txn.commit("").unwrap().unwrap();
    // Nobody looks back before the deletion any more, and the row is inserted again.
    let horizon = engine.horizon();
    let mut reader = engine
        .session(SessionInfo::default())
        .begin(Isolation::RepeatableRead);
    reader.statement();
    let mut txn = session.begin(Isolation::ReadCommitted);
    insert(&mut txn, &table, 1, 11);
    txn.commit("").unwrap().unwrap();
    let (found, depends_on) = (get(&mut reader, &table, 1), reader.depends_on());
    disk.hold_writes(false);
    assert_eq!((horizon, found, depends_on), (deleted, None, deleted));
}

#[test]
fn the_data_of_a_dropped_table_goes_though_sessions_stay_that_knew_it() {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let mut idle = home.session();
    let row = {
        let mut txn = idle.begin(Isolation::ReadCommitted);
        Arc::downgrade(&txn.get(&table, &key(1)).unwrap().unwrap().row)
    };
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.drop_table(&table)).unwrap();
    txn.commit("").unwrap();
    drop(table);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while row.strong_count() > 0 {
        assert!(std::time::Instant::now() < deadline, "its rows are still there");
        std::thread::yield_now();
    }
    assert!(
        idle.begin(Isolation::ReadCommitted)
            .catalog()
            .table("t")
            .is_none()
    );
}

#[test]
fn tables_without_primary_key_take_equal_rows_and_keep_their_order() {
    let mut home = Home::new();
    let table = home.create("t", false);
    for value in [3, 1, 3] {
        home.put(&table, 7, value);
    }
    assert_eq!(home.rows(&table), [(7, 3), (7, 1), (7, 3)]);
    drop(table);
    home.restart();
    let table = home.table("t");
    home.put(&table, 7, 4);
    assert_eq!(
        home.rows(&table),
        [(7, 3), (7, 1), (7, 3), (7, 4)],
        "row ids go on behind those of the log"
    );
}

#[test]
fn a_cursor_reads_in_batches_at_its_snapshot_with_the_own_writes_of_its_time() {
    let home = Home::new();
    let table = home.create("t", true);
    for id in 0..10 {
        home.put(&table, id, 0);
    }
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    set(&mut txn, &table, 3, 33);
    delete(&mut txn, &table, 4);
    insert(&mut txn, &table, 20, 20);
    let mut cursor = txn.begin_scan(&table, KeyRange::all()).unwrap();
    set(&mut txn, &table, 5, 55);
    home.put(&table, 11, 0);
    txn.commit("").unwrap();
    let read = std::thread::spawn(move || {
        let mut read = Vec::new();
        loop {
            let batch = cursor.next_batch(4).unwrap();
            read.extend(batch.iter().map(|(_, version)| decode(&table, &version.row)));
            if batch.len() < 4 {
                return read;
            }
        }
    });
    let expected = [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 33),
        (5, 0),
        (6, 0),
        (7, 0),
        (8, 0),
        (9, 0),
        (20, 20),
    ];
    assert_eq!(read.join().unwrap(), expected);
}

#[test]
fn rows_keys_and_transactions_beyond_their_limits_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(
        directory.path(),
        EngineOptions {
            transaction_bytes_max: 64 << 10,
            ..options()
        },
    )
    .unwrap();
    let mut session = engine.session(SessionInfo::default());
    let mut txn = session.begin(Isolation::ReadCommitted);
    let columns = vec![ColumnDef::new("b", DataType::Bytea)];
    let new = NewTable {
        name: "t".into(),
        columns,
        primary_key: None,
        ..NewTable::default()
    };
    let table = block_on(txn.create_table(new)).unwrap();
    let bytes = |length: usize| table.layout.encode(&[Value::Bytea(vec![7; length])]).unwrap();
    let refused = block_on(txn.insert(&table, None, bytes(ROW_BYTES_MAX)));
    assert!(matches!(refused, Err(Error::RowTooLarge { .. })));
    let refused = block_on(txn.insert(&table, Some(Key::from_bytes(&[1; KEY_BYTES_MAX + 1])), bytes(1)));
    assert!(matches!(refused, Err(Error::KeyTooLarge { .. })));
    let refused = (0..100).find_map(|_| block_on(txn.insert(&table, None, bytes(1000))).err());
    assert!(matches!(refused, Some(Error::TransactionTooLarge { .. })));
    drop(txn);
    assert!(engine.catalog().table("t").is_none());
}

#[test]
fn the_audit_trail_names_who_did_it() {
    let home = Home::new();
    let table = home.create("t", true);
    let info = SessionInfo {
        user: "ann".into(),
        client: "10.0.0.1".into(),
        application: "till".into(),
    };
    let mut session = home.engine().session(info);
    let mut txn = session.begin(Isolation::ReadCommitted);
    insert(&mut txn, &table, 1, 10);
    let id = txn.id().unwrap();
    let lsn = txn.commit("INSERT 0 1").unwrap().unwrap();
    home.engine().log().wait_durable(lsn).unwrap();
    let mut tail = home.engine().log().tail(scry_wal::Lsn::ZERO);
    loop {
        let frame: Arc<_> = tail
            .next(std::time::Duration::from_secs(10))
            .unwrap()
            .expect("the commit is durable");
        for record in frame.records() {
            if let (at, scry_wal::Record::Commit(commit)) = record.unwrap()
                && at == lsn
            {
                assert_eq!((commit.txn, commit.user, commit.client), (id, "ann", "10.0.0.1"));
                assert_eq!((commit.application, commit.tag), ("till", "INSERT 0 1"));
                return;
            }
        }
    }
}

#[test]
fn a_scan_sees_what_a_checkpoint_takes_off_its_rows_while_it_is_under_way() {
    let home = Home::with(EngineOptions {
        checkpoint_log_bytes: 0,
        checkpoint_dirty_bytes: 0,
        ..options()
    });
    let table = home.create("t", true);
    for id in [1, 2] {
        home.put(&table, id, 10);
    }
    home.checkpoint();
    let change = |value| {
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        assert!(set(&mut txn, &table, 2, value));
        txn.commit("").unwrap().unwrap();
    };
    change(20);
    let mut reader = home.session().begin(Isolation::RepeatableRead);
    reader.statement();
    change(30);
    let mut seen = Vec::new();
    reader
        .scan(&table, &KeyRange::all(), &mut |_, version| {
            seen.push(decode(&table, &version.row));
            home.checkpoint();
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, [(1, 10), (2, 20)]);
}
