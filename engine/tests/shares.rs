//! Rows that several transactions keep from being written.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use std::pin::pin;
use std::sync::Arc;

fn begin(home: &Home) -> Txn {
    home.session().begin(Isolation::ReadCommitted)
}

fn share(txn: &mut Txn, table: &Table, id: i32) -> Option<i64> {
    let found = block_on(txn.share(table, &key(id))).unwrap();
    found.map(|version| decode(table, &version.row).1)
}

/// Whether a transaction would have to wait.
fn waits(txn: &mut Txn, table: &Table, id: i32) -> bool {
    let key = key(id);
    let waits = poll_once(pin!(txn.lock(table, &key))).is_pending();
    txn.unlock_unwritten(table, &key);
    waits
}

fn home() -> (Home, Arc<Table>) {
    let home = Home::new();
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    home.put(&table, 2, 20);
    (home, table)
}

#[test]
fn any_number_share_a_row_and_who_writes_it_waits_for_all_of_them() {
    let (home, table) = home();
    let (mut a, mut b, mut writer) = (begin(&home), begin(&home), begin(&home));
    assert_eq!(share(&mut a, &table, 1), Some(10));
    assert_eq!(share(&mut a, &table, 1), Some(10), "twice is once");
    assert_eq!(share(&mut b, &table, 1), Some(10));
    assert_eq!(share(&mut b, &table, 9), None);
    assert!(!waits(&mut writer, &table, 2));
    let key = key(1);
    {
        let mut lock = pin!(writer.lock(&table, &key));
        assert!(poll_once(lock.as_mut()).is_pending());
        a.commit("").unwrap();
        assert!(poll_once(lock.as_mut()).is_pending());
        b.rollback();
        assert!(block_on(lock).unwrap().is_some());
    }
    block_on(writer.update(&table, &key, row(&table, 1, 11))).unwrap();
    let mut late = begin(&home);
    {
        let mut sharing = pin!(late.share(&table, &key));
        assert!(
            poll_once(sharing.as_mut()).is_pending(),
            "a row that is written is not shared"
        );
        writer.commit("").unwrap();
        let found = block_on(sharing).unwrap().unwrap();
        assert_eq!(decode(&table, &found.row), (1, 11));
    }
    late.commit("").unwrap();
    assert_eq!(home.engine().shared_rows(), 0);
    let mut writer = begin(&home);
    assert!(set(&mut writer, &table, 1, 12));
}

#[test]
fn who_asks_later_does_not_overtake_a_writer_that_waits_for_sharers() {
    let (home, table) = home();
    let (mut a, mut writer, mut late) = (begin(&home), begin(&home), begin(&home));
    share(&mut a, &table, 1);
    let key = key(1);
    let mut lock = Box::pin(writer.lock(&table, &key));
    assert!(poll_once(lock.as_mut()).is_pending());
    let mut sharing = pin!(late.share(&table, &key));
    assert!(poll_once(sharing.as_mut()).is_pending());
    a.commit("").unwrap();
    assert!(block_on(lock).unwrap().is_some());
    assert!(poll_once(sharing.as_mut()).is_pending());
    writer.rollback();
    assert!(block_on(sharing).unwrap().is_some());
}

#[test]
fn a_sharer_writes_its_row_when_it_is_the_only_one_and_two_that_both_want_to_are_a_deadlock() {
    let (home, table) = home();
    let (mut a, mut b) = (begin(&home), begin(&home));
    share(&mut a, &table, 1);
    assert!(set(&mut a, &table, 1, 11), "nobody else shares it");
    share(&mut a, &table, 2);
    share(&mut b, &table, 2);
    let key = key(2);
    {
        let mut lock = pin!(a.lock(&table, &key));
        assert!(poll_once(lock.as_mut()).is_pending());
        let failed = block_on(b.lock(&table, &key));
        assert!(matches!(failed, Err(Error::Deadlock { .. })), "{failed:?}");
        b.rollback();
        assert!(block_on(lock).unwrap().is_some());
    }
    block_on(a.update(&table, &key, row(&table, 2, 22))).unwrap();
    a.commit("").unwrap();
    assert_eq!(home.rows(&table), [(1, 11), (2, 22)]);
    assert_eq!(home.engine().stats().deadlocks, 1);
}

#[test]
fn a_circle_over_a_shared_row_a_row_and_a_table_is_found() {
    let (home, table) = home();
    let other = home.create("u", true);
    let (mut a, mut b, mut c) = (begin(&home), begin(&home), begin(&home));
    share(&mut a, &table, 1);
    assert!(set(&mut b, &table, 2, 22));
    insert(&mut c, &other, 1, 1);
    let key_1 = key(1);
    let mut writing = pin!(c.lock(&table, &key_1));
    assert!(poll_once(writing.as_mut()).is_pending(), "c waits for a");
    let mut dropping = pin!(b.drop_table(&other));
    assert!(poll_once(dropping.as_mut()).is_pending(), "b waits for c");
    let failed = block_on(a.lock(&table, &key(2)));
    assert!(matches!(failed, Err(Error::Deadlock { .. })), "{failed:?}");
    a.rollback();
    assert!(block_on(writing).unwrap().is_some());
}

#[test]
fn waits_that_are_given_up_leave_no_shared_lock_behind() {
    let (home, table) = home();
    let (mut a, mut writer) = (begin(&home), begin(&home));
    share(&mut a, &table, 1);
    assert!(waits(&mut writer, &table, 1));
    a.rollback();
    assert_eq!(home.engine().shared_rows(), 0);
    let mut next = begin(&home);
    assert!(
        set(&mut next, &table, 1, 12),
        "the writer that gave up has nothing"
    );
    next.commit("").unwrap();
    writer.commit("").unwrap();
    assert_eq!(home.rows(&table), [(1, 12), (2, 20)]);
}

#[test]
fn sharing_obeys_snapshots_as_writing_does() {
    let (home, table) = home();
    let mut txn = home.session().begin(Isolation::RepeatableRead);
    txn.statement();
    let mut other = begin(&home);
    set(&mut other, &table, 1, 11);
    other.commit("").unwrap();
    let failed = block_on(txn.share(&table, &key(1)));
    assert!(matches!(failed, Err(Error::SerializationFailure { .. })));
    assert_eq!(share(&mut txn, &table, 2), Some(20));
}
