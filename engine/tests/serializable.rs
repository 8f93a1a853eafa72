//! SERIALIZABLE: what was read must still be so at the commit.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A table of the rows (1, 10), (2, 20), (5, 50).
fn small() -> (Home, Arc<Table>) {
    let home = Home::new();
    let table = home.create("t", true);
    for id in [1, 2, 5] {
        home.put(&table, id, i64::from(id) * 10);
    }
    (home, table)
}

fn begin(home: &Home) -> Txn {
    let mut txn = home.session().begin(Isolation::Serializable);
    txn.statement();
    txn
}

fn conflicts(result: Result<Option<scry_wal::Lsn>, Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(Error::ReadConflict { table }) => {
            assert_eq!(table.as_deref(), Some("t"));
            true
        }
        Err(error) => panic!("{error}"),
    }
}

/// What the transaction does between the snapshot and another's commit, and what the other does.
fn meets(read: impl Fn(&mut Txn, &Arc<Table>), write: impl Fn(&mut Txn, &Arc<Table>)) -> bool {
    let outcomes = [Isolation::ReadCommitted, Isolation::Serializable].map(|level| {
        let (home, table) = small();
        let log = home.create("log", false);
        let mut txn = begin(&home);
        read(&mut txn, &table);
        insert(&mut txn, &log, 1, 1);
        let mut other = home.session().begin(level);
        other.statement();
        write(&mut other, &table);
        other.commit("").unwrap().unwrap();
        conflicts(txn.commit(""))
    });
    assert_eq!(outcomes[0], outcomes[1], "the level of the other does not matter");
    outcomes[0]
}

fn scan(lower: i32, upper: i32) -> KeyRange {
    KeyRange {
        lower: Bound::Included(key(lower)),
        upper: Bound::Included(key(upper)),
    }
}

#[test]
fn a_key_that_was_read_and_then_changed_refuses_the_commit() {
    let read_2 = |txn: &mut Txn, table: &Arc<Table>| assert_eq!(get(txn, table, 2), Some(20));
    assert!(meets(read_2, |txn, table| assert!(set(txn, table, 2, 21))));
    assert!(meets(read_2, |txn, table| assert!(delete(txn, table, 2))));
    assert!(!meets(read_2, |txn, table| assert!(set(txn, table, 1, 11))));
    assert!(!meets(read_2, |txn, table| insert(txn, table, 3, 30)));
    // A row that was only locked was not written.
    assert!(!meets(read_2, |txn, table| {
        block_on(txn.lock(table, &key(2))).unwrap();
        insert(txn, table, 3, 30);
    }));
}

#[test]
fn what_was_not_found_was_read_too() {
    let miss = |txn: &mut Txn, table: &Arc<Table>| assert_eq!(get(txn, table, 3), None);
    assert!(meets(miss, |txn, table| insert(txn, table, 3, 30)));
    assert!(!meets(miss, |txn, table| insert(txn, table, 4, 40)));
    let miss = |txn: &mut Txn, table: &Arc<Table>| assert!(!set(txn, table, 3, 31));
    assert!(meets(miss, |txn, table| insert(txn, table, 3, 30)));
}

#[test]
fn a_range_that_was_read_and_then_written_into_refuses_the_commit() {
    let visit = |txn: &mut Txn, table: &Arc<Table>| {
        txn.scan(
            table,
            &scan(2, 4),
            &mut |_, _| std::ops::ControlFlow::Continue(()),
        )
        .unwrap();
    };
    let cursor = |txn: &mut Txn, table: &Arc<Table>| drop(txn.begin_scan(table, scan(2, 4)).unwrap());
    for read in [&visit as &dyn Fn(&mut Txn, &Arc<Table>), &cursor] {
        assert!(meets(read, |txn, table| insert(txn, table, 3, 30)));
        assert!(meets(read, |txn, table| assert!(set(txn, table, 2, 21))));
        assert!(!meets(read, |txn, table| insert(txn, table, 6, 60)));
        assert!(!meets(read, |txn, table| assert!(delete(txn, table, 1))));
    }
    let elsewhere = |txn: &mut Txn, table: &Arc<Table>| txn.note_store_read(table.def.store);
    assert!(meets(elsewhere, |txn, table| insert(txn, table, 6, 60)));
}

#[test]
fn rows_that_were_rolled_back_to_a_savepoint_were_read_all_the_same() {
    let read = |txn: &mut Txn, table: &Arc<Table>| {
        let savepoint = txn.savepoint().unwrap();
        assert!(set(txn, table, 2, 22));
        block_on(txn.rollback_to(savepoint)).unwrap();
    };
    assert!(meets(read, |txn, table| assert!(set(txn, table, 2, 21))));
}

#[test]
fn a_table_that_was_read_and_then_emptied_refuses_the_commit() {
    let read = |txn: &mut Txn, table: &Arc<Table>| assert_eq!(get(txn, table, 7), None);
    assert!(meets(read, |txn, table| drop(
        block_on(txn.truncate(table)).unwrap()
    )));
    assert!(meets(read, |txn, table| {
        drop(block_on(txn.add_primary_key(table, primary_key("t"))).err());
        block_on(txn.drop_table(table)).unwrap();
    }));
}

#[test]
fn what_only_reads_is_never_refused_and_nor_is_what_only_writes() {
    let (home, table) = small();
    let mut reader = begin(&home);
    assert_eq!(rows(&mut reader, &table).len(), 3);
    let mut locker = begin(&home);
    assert_eq!(get(&mut locker, &table, 5), Some(50));
    block_on(locker.lock(&table, &key(1))).unwrap().unwrap();
    let mut writer = begin(&home);
    insert(&mut writer, &table, 9, 90);
    home.put(&table, 3, 30);
    home.put(&table, 8, 80);
    assert_eq!(reader.commit("").unwrap(), None);
    assert_eq!(locker.commit("").unwrap(), None);
    assert!(writer.commit("").unwrap().is_some());
    assert_eq!(home.engine().stats().serialization_failures, 0);
}

#[test]
fn a_commit_from_before_the_snapshot_does_no_harm_and_nor_does_ones_own() {
    let (home, table) = small();
    let mut older = begin(&home);
    home.put(&table, 3, 30);
    let mut session = home.session();
    for value in 0..5 {
        let mut txn = session.begin(Isolation::Serializable);
        txn.statement();
        let found = get(&mut txn, &table, 3).unwrap();
        assert!(set(&mut txn, &table, 3, found + value));
        assert_eq!(rows(&mut txn, &table).len(), 4);
        txn.commit("").unwrap().unwrap();
    }
    assert_eq!(get(&mut older, &table, 3), None);
    insert(&mut older, &table, 4, 40);
    assert!(conflicts(older.commit("")));
}

#[test]
fn an_insert_of_a_key_that_the_snapshot_does_not_know_to_be_taken_is_a_conflict() {
    let (home, table) = small();
    let mut txn = begin(&home);
    home.put(&table, 3, 30);
    let failed = try_insert(&mut txn, &table, 3, 33);
    assert!(
        matches!(failed, Err(Error::SerializationFailure { .. })),
        "{failed:?}"
    );
    let taken = try_insert(&mut txn, &table, 2, 22);
    assert!(matches!(taken, Ok(InsertOutcome::Exists(_))), "{taken:?}");
    // Deleted meanwhile: the insert finds room, but the snapshot still sees the row.
    let mut txn = begin(&home);
    let mut other = home.session().begin(Isolation::ReadCommitted);
    assert!(delete(&mut other, &table, 5));
    other.commit("").unwrap();
    insert(&mut txn, &table, 5, 55);
    assert!(conflicts(txn.commit("")));
}

#[test]
fn a_serializable_transaction_is_not_begun_inside_of_a_candidate() {
    let (home, _) = small();
    let refused = home.session().begin_in("e", "c", Isolation::Serializable);
    assert!(matches!(refused.err(), Some(Error::NotInCandidate { .. })));
}

/// Pairs of rows of which at most one may be taken: each transaction looks at both and takes one. Under snapshots alone two
/// that look at the same time take both.
#[test]
fn threads_that_decide_by_what_they_read_never_break_what_each_of_them_keeps() {
    const PAIRS: i32 = 4;
    let home = Home::new();
    let table = home.create("t", true);
    for id in 0..2 * PAIRS {
        home.put(&table, id, 0);
    }
    let (committed, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (home, table, committed, refused) = (&home, &table, &committed, &refused);
            scope.spawn(move || {
                let mut state = thread + 1;
                let mut session = home.session();
                for round in 0..800 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99_991);
                    let pair = ((state >> 33) % PAIRS as u64) as i32;
                    let mine = 2 * pair + ((state >> 40) & 1) as i32;
                    let other = 4 * pair + 1 - mine;
                    let mut txn = session.begin(Isolation::Serializable);
                    txn.statement();
                    let taken = match round % 2 {
                        0 => [mine, other].map(|id| get(&mut txn, table, id).unwrap()),
                        _ => {
                            let mut found = [0; 2];
                            txn.scan(table, &scan(2 * pair, 2 * pair + 1), &mut |_, version| {
                                let (id, value) = decode(table, &version.row);
                                found[usize::from(id == other)] = value;
                                std::ops::ControlFlow::Continue(())
                            })
                            .unwrap();
                            found
                        }
                    };
                    assert!(
                        taken[0] + taken[1] <= 1,
                        "both of pair {pair} at {}",
                        txn.snapshot()
                    );
                    std::thread::yield_now();
                    // Takes its own if both are free, else gives up whatever is taken.
                    let changes = match taken {
                        [0, 0] => (mine, 1),
                        [1, _] => (mine, 0),
                        _ => (other, 0),
                    };
                    let done = block_on(txn.lock(table, &key(changes.0))).and_then(|_| {
                        block_on(txn.update(table, &key(changes.0), row(table, changes.0, changes.1)))?;
                        txn.commit("")
                    });
                    match done {
                        Ok(_) => committed.fetch_add(1, Ordering::Relaxed),
                        Err(error) if error.advice() == Advice::Retry => {
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        Err(error) => panic!("{error}"),
                    };
                }
            });
        }
    });
    assert!(committed.into_inner() > 0);
    let found = home.rows(&table);
    for pair in found.chunks(2) {
        assert!(pair[0].1 + pair[1].1 <= 1, "{found:?}");
    }
    assert_eq!(home.engine().stats().serialization_failures, refused.into_inner());
}
