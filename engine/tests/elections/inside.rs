//! What a candidate sees and keeps to itself, and whom it waits for.

use crate::common::*;
use crate::kit::*;
use scry_engine::election::OnConflict;
use scry_engine::*;
use std::pin::pin;
use std::task::Poll;

#[test]
fn a_candidate_sees_its_base_with_its_own_changes_and_nobody_else_sees_them() {
    let (mut home, table) = scene(1);
    change_in(&home, "c", &table, |txn, table| {
        assert!(set(txn, table, 1, 11));
        assert!(delete(txn, table, 2));
        insert(txn, table, 4, 40);
        assert_eq!(rows(txn, table), [(1, 11), (3, 30), (4, 40)]);
        assert_eq!((get(txn, table, 2), get(txn, table, 4)), (None, Some(40)));
    });
    change(&home, &table, |txn, table| assert!(set(txn, table, 3, 33)));
    create_candidate(&home, "e", "d");
    for restart in [false, true] {
        if restart {
            drop(table.clone());
            home.restart();
        }
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(1, 10), (2, 20), (3, 33)]);
        assert_eq!(rows_in(&home, "e", "c", &table), [(1, 11), (3, 30), (4, 40)]);
        assert_eq!(rows_in(&home, "e", "d", &table), [(1, 10), (2, 20), (3, 30)]);
        home.check_replica(&table);
    }
}

#[test]
fn ordinary_transactions_and_candidates_never_wait_for_each_other() {
    let (home, table) = scene(1);
    let mut inside = begin_in(&home, "e", "c");
    assert!(set(&mut inside, &table, 1, 11));
    assert!(delete(&mut inside, &table, 2));
    insert(&mut inside, &table, 4, 40);
    let mut outside = home.session().begin(Isolation::ReadCommitted);
    assert!(set(&mut outside, &table, 1, 15));
    assert!(set(&mut outside, &table, 2, 25));
    insert(&mut outside, &table, 4, 45);
    assert!(set(&mut inside, &table, 3, 31));
    assert!(set(&mut outside, &table, 3, 35));
    outside.commit("").unwrap();
    inside.commit("").unwrap();
    assert_eq!(home.engine().stats().lock_waits, 0);
    // Two sessions of one candidate do.
    let mut first = begin_in(&home, "e", "c");
    assert!(set(&mut first, &table, 1, 12));
    let mut second = begin_in(&home, "e", "c");
    let second_key = key(1);
    {
        let mut waiting = pin!(second.lock(&table, &second_key));
        assert!(matches!(poll_once(waiting.as_mut()), Poll::Pending));
        first.commit("").unwrap();
        let found = block_on(waiting).unwrap().unwrap();
        assert_eq!(decode(&table, &found.row).1, 12);
    }
}

#[test]
fn rows_that_a_candidate_locked_and_did_not_write_are_no_changes() {
    let (home, table) = scene(1);
    change_in(&home, "c", &table, |txn, table| {
        assert!(block_on(txn.lock(table, &key(1))).unwrap().is_some());
        assert!(block_on(txn.lock(table, &key(2))).unwrap().is_some());
        txn.unlock_unwritten(table, &key(2));
        assert!(set(txn, table, 3, 31));
    });
    change(&home, &table, |txn, table| {
        assert!(set(txn, table, 1, 15));
        assert!(set(txn, table, 2, 25));
    });
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 1);
    assert_eq!(home.rows(&table), [(1, 15), (2, 25), (3, 31)]);
}

#[test]
fn a_transaction_of_a_candidate_that_has_ended_meanwhile_does_not_commit() {
    let (home, table) = scene(0);
    let mut inside = begin_in(&home, "e", "c");
    assert!(set(&mut inside, &table, 1, 11));
    drop_candidate(&home, "e", "c");
    assert!(matches!(inside.commit(""), Err(Error::CandidateEnded { .. })));
    assert!(matches!(
        home.session().begin_in("e", "c", Isolation::ReadCommitted).err(),
        Some(Error::CandidateEnded { .. })
    ));
    // And one that commits between the look at its branch and the commit that elects stops the election.
    create_candidate(&home, "e", "d");
    change_in(&home, "d", &table, |txn, table| assert!(set(txn, table, 2, 21)));
    let mut electing = home.session().begin(Isolation::ReadCommitted);
    assert_eq!(
        block_on(electing.elect("e", "d", OnConflict::Fail, &no_expressions))
            .unwrap()
            .changed,
        1
    );
    change_in(&home, "d", &table, |txn, table| assert!(set(txn, table, 3, 31)));
    assert!(matches!(electing.commit(""), Err(Error::CandidateChanged { .. })));
    assert_eq!(try_elect(&home, "e", "d").unwrap(), 2);
    assert_eq!(home.rows(&table), [(1, 10), (2, 21), (3, 31)]);
    home.check_replica(&table);
}

#[test]
fn a_candidate_deletes_its_own_row_and_the_one_that_came_below_it() {
    let (home, table) = scene(0);
    change_in(&home, "c", &table, |txn, table| insert(txn, table, 5, 50));
    change(&home, &table, |txn, table| insert(txn, table, 5, 55));
    rebase_with(&home, "c", OnConflict::Defer).unwrap();
    change_in(&home, "c", &table, |txn, table| {
        assert!(delete(txn, table, 5));
        assert_eq!(get(txn, table, 5), None);
        insert(txn, table, 5, 56);
    });
    assert_eq!(
        rows_in(&home, "e", "c", &table),
        [(1, 10), (2, 20), (3, 30), (5, 56)]
    );
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 1);
    assert_eq!(home.rows(&table), [(1, 10), (2, 20), (3, 30), (5, 56)]);
    home.check_replica(&table);
}

#[test]
fn the_base_stays_readable_however_much_is_written_and_collected_since() {
    let (mut home, table) = scene(1);
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 3, 31)));
    let write = |home: &Home| {
        let table = home.table("t");
        for value in 0..100 {
            change(home, &table, |txn, table| assert!(set(txn, table, 1, value)));
            home.engine().horizon();
        }
        change(home, &table, |txn, table| assert!(delete(txn, table, 2)));
        change(home, &table, |txn, table| insert(txn, table, 2, 22));
        home.engine().horizon();
    };
    write(&home);
    create_election(&home, "later", 1);
    create_candidate(&home, "later", "d");
    write(&home);
    change(&home, &table, |txn, table| assert!(delete(txn, table, 2)));
    home.wait_collected();
    drop(table);
    for restart in [false, true] {
        if restart {
            home.restart();
        }
        let table = home.table("t");
        assert_eq!(rows_in(&home, "e", "c", &table), [(1, 10), (2, 20), (3, 31)]);
        assert_eq!(rows_in(&home, "later", "d", &table), [(1, 99), (2, 22), (3, 30)]);
        assert_eq!(home.rows(&table), [(1, 99), (3, 30)]);
    }
    // A scan that is under way keeps what it sees when its election ends.
    let table = home.table("t");
    let mut txn = begin_in(&home, "e", "c");
    let mut cursor = txn.begin_scan(&table, KeyRange::all()).unwrap();
    assert_eq!(cursor.next_batch(1).unwrap().len(), 1);
    let mut ending = home.session().begin(Isolation::ReadCommitted);
    ending.drop_election("e").unwrap();
    ending.commit("DROP ELECTION").unwrap();
    write_once_more(&home, &table);
    let left: Vec<_> = cursor
        .next_batch(10)
        .unwrap()
        .iter()
        .map(|(_, version)| decode(&table, &version.row))
        .collect();
    assert_eq!(left, [(2, 20), (3, 31)]);
}

fn write_once_more(home: &Home, table: &Table) {
    for value in 0..100 {
        change(home, table, |txn, table| {
            assert!(set(txn, table, 3, value));
            if !set(txn, table, 2, value) {
                insert(txn, table, 2, value);
            }
        });
        home.engine().horizon();
    }
}

#[test]
fn what_a_candidate_has_changed_is_known_after_a_restart() {
    let (mut home, table) = scene(0);
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 15)));
    create_candidate(&home, "e", "idle");
    drop(begin_in(&home, "e", "idle"));
    drop(table);
    home.restart();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.truncate(&home.table("t"))).unwrap();
    txn.commit("TRUNCATE").unwrap();
    let catalog = home.engine().catalog();
    let table = home.table("t");
    let of = |name| {
        catalog
            .elections()
            .get("e")
            .unwrap()
            .candidate(name)
            .unwrap()
            .clone()
    };
    assert!(matches!(
        of("c").changes_of(&table),
        Err(Error::TableReplaced { .. })
    ));
    assert!(matches!(of("idle").changes_of(&table), Ok(None)));
}
