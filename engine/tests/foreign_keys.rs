//! Keys that rows refer to: who waits for whom, and what is found.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::election::{NewCandidate, NewElection, OnConflict};
use scry_engine::*;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

const LEVELS: [Isolation; 3] = [
    Isolation::ReadCommitted,
    Isolation::RepeatableRead,
    Isolation::Serializable,
];

/// The column `value` refers to a column of a table.
fn to(parent: &Table, column: usize) -> ForeignKeyDef {
    ForeignKeyDef {
        name: "c_value_fkey".to_owned(),
        columns: vec![1],
        table: parent.def.oid,
        referenced: vec![column],
        on_delete: KeyAction::NoAction,
        on_update: KeyAction::NoAction,
        matching: KeyMatch::Simple,
        deferrable: false,
        deferred: false,
        validated: true,
    }
}

/// Tables "p" with rows 1 and 2, which are 10 and 20, and "c", whose `value` refers to a column of it.
fn scene_of(column: usize) -> (Home, Arc<Table>, Arc<Table>) {
    let home = Home::new();
    let mut new = new_table("p", true);
    new.indexes.push(index("p_value_key", true));
    let parent = home.create_as(new);
    home.put(&parent, 1, 10);
    home.put(&parent, 2, 20);
    let mut child = new_table("c", true);
    child.foreign_keys.push(to(&parent, column));
    let child = home.create_as(child);
    let parent = home.table("p");
    (home, parent, child)
}

fn scene() -> (Home, Arc<Table>, Arc<Table>) {
    scene_of(0)
}

fn begin(home: &Home, level: Isolation) -> Txn {
    let mut txn = home.session().begin(level);
    txn.statement();
    txn
}

/// A new statement inserts a row, which is checked.
async fn refer(txn: &mut Txn, child: &Table, id: i32, to: i64) -> Result<(), Error> {
    txn.statement();
    let row = row(child, id, to);
    let outcome = txn.insert(child, Some(key(id)), row.clone()).await?;
    assert!(matches!(outcome, InsertOutcome::Inserted(_)));
    txn.check_reference(child, 0, &row).await
}

/// A new statement deletes a row of the parent, which is checked. True: the row was there.
async fn remove(txn: &mut Txn, parent: &Table, id: i32) -> Result<bool, Error> {
    txn.statement();
    let Some(found) = txn.lock(parent, &key(id)).await? else {
        return Ok(false);
    };
    txn.delete(parent, &key(id)).await?;
    for (child, number) in txn.references_to(parent) {
        txn.check_unreferenced(parent, (&child, number), &found.row, true)
            .await?;
    }
    Ok(true)
}

/// Removing a row of the parent waits for `a`, and is done once that has committed.
fn removes_behind(home: &Home, parent: &Table, a: Txn, id: i32) {
    let mut b = begin(home, Isolation::ReadCommitted);
    {
        let mut removing = pin!(remove(&mut b, parent, id));
        assert!(poll_once(removing.as_mut()).is_pending());
        a.commit("").unwrap();
        assert!(block_on(removing).unwrap());
    }
    b.commit("").unwrap();
    check_whole(home);
}

fn is_missing(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::ReferenceMissing(_)))
}

/// No row refers to what is not there.
fn check_whole(home: &Home) {
    let (parent, child) = (home.table("p"), home.table("c"));
    let ids: Vec<i64> = home.rows(&parent).iter().map(|(id, _)| i64::from(*id)).collect();
    for (id, to) in home.rows(&child) {
        assert!(ids.contains(&to), "{id} refers to {to}, of {ids:?}");
    }
    assert_eq!(home.engine().locked_keys(), 0);
}

#[test]
fn a_row_refers_to_what_is_there_by_primary_key_or_unique_index() {
    for (column, there) in [(0, 2), (1, 20)] {
        let (home, _, child) = scene_of(column);
        let mut txn = begin(&home, Isolation::ReadCommitted);
        assert!(is_missing(&block_on(refer(&mut txn, &child, 1, 3))));
        txn.rollback();
        let mut txn = begin(&home, Isolation::ReadCommitted);
        assert!(
            is_missing(&block_on(refer(&mut txn, &child, 1, i64::MAX))),
            "no such int4"
        );
        txn.rollback();
        assert_eq!(home.engine().locked_keys(), 0);
        let mut txn = begin(&home, Isolation::ReadCommitted);
        block_on(refer(&mut txn, &child, 1, there)).unwrap();
        assert_eq!(home.engine().locked_keys(), 1);
        txn.commit("").unwrap();
        assert_eq!(home.engine().locked_keys(), 0);
    }
}

#[test]
fn who_deletes_a_key_waits_for_who_refers_to_it_and_then_finds_the_row() {
    for level in LEVELS {
        for commits in [true, false] {
            let (home, parent, child) = scene();
            let (mut a, mut b) = (begin(&home, level), begin(&home, level));
            block_on(refer(&mut a, &child, 1, 1)).unwrap();
            {
                let mut removing = pin!(remove(&mut b, &parent, 1));
                assert!(poll_once(removing.as_mut()).is_pending());
                match commits {
                    true => drop(a.commit("").unwrap()),
                    false => a.rollback(),
                }
                let removed = block_on(removing);
                match commits {
                    true => assert!(matches!(removed, Err(Error::StillReferenced(_))), "{removed:?}"),
                    false => assert!(removed.unwrap()),
                }
            }
            match commits {
                true => b.rollback(),
                false => drop(b.commit("").unwrap()),
            }
            check_whole(&home);
        }
    }
}

#[test]
fn who_refers_to_a_key_waits_for_who_deletes_it() {
    for level in LEVELS {
        for commits in [true, false] {
            let (home, parent, child) = scene();
            let (mut a, mut b) = (begin(&home, level), begin(&home, level));
            assert!(block_on(remove(&mut a, &parent, 1)).unwrap());
            {
                let mut referring = pin!(refer(&mut b, &child, 1, 1));
                assert!(poll_once(referring.as_mut()).is_pending());
                match commits {
                    true => drop(a.commit("").unwrap()),
                    false => a.rollback(),
                }
                let referred = block_on(referring);
                match (commits, level) {
                    (false, _) => referred.unwrap(),
                    (true, Isolation::ReadCommitted) => assert!(is_missing(&referred), "{referred:?}"),
                    // It still sees the row that is there no more.
                    (true, _) => assert!(
                        matches!(referred, Err(Error::SerializationFailure { .. })),
                        "{referred:?}"
                    ),
                }
            }
            match commits {
                true => b.rollback(),
                false => drop(b.commit("").unwrap()),
            }
            check_whole(&home);
        }
    }
}

#[test]
fn a_change_of_other_columns_and_a_row_that_refers_do_not_wait_for_each_other() {
    for level in LEVELS {
        let (home, parent, child) = scene();
        let (mut a, mut b, mut c) = (begin(&home, level), begin(&home, level), begin(&home, level));
        assert!(set(&mut a, &parent, 1, 11));
        {
            let mut referring = pin!(refer(&mut b, &child, 1, 1));
            let referred = poll_once(referring.as_mut());
            assert!(referred.is_ready(), "{level:?}");
        }
        a.commit("").unwrap();
        let locking = |txn: &mut Txn| poll_once(pin!(txn.lock(&parent, &key(2)))).is_ready();
        block_on(refer(&mut c, &child, 2, 2)).unwrap();
        let mut d = begin(&home, level);
        assert!(locking(&mut d));
        assert!(set(&mut d, &parent, 2, 22));
        d.commit("").unwrap();
        b.commit("").unwrap();
        c.commit("").unwrap();
        check_whole(&home);
    }
}

#[test]
fn a_snapshot_neither_refers_to_what_came_after_it_nor_misses_a_row_that_did() {
    for level in [Isolation::RepeatableRead, Isolation::Serializable] {
        let (home, parent, child) = scene();
        let mut old = begin(&home, level);
        home.put(&parent, 3, 30);
        assert!(is_missing(&block_on(refer(&mut old, &child, 1, 3))));
        old.rollback();
        let mut old = begin(&home, level);
        let mut other = begin(&home, Isolation::ReadCommitted);
        block_on(refer(&mut other, &child, 1, 3)).unwrap();
        other.commit("").unwrap();
        let removed = block_on(remove(&mut old, &parent, 3));
        assert!(matches!(removed, Err(Error::StillReferenced(_))), "{removed:?}");
        old.rollback();
        check_whole(&home);
    }
}

#[test]
fn a_row_that_another_is_about_to_delete_is_waited_for() {
    let (home, parent, child) = scene();
    home.put(&child, 1, 1);
    let mut a = begin(&home, Isolation::ReadCommitted);
    assert!(delete(&mut a, &child, 1));
    removes_behind(&home, &parent, a, 1);
}

#[test]
fn two_that_end_what_the_other_refers_to_are_a_deadlock() {
    let (home, parent, child) = scene();
    let (mut a, mut b) = (
        begin(&home, Isolation::ReadCommitted),
        begin(&home, Isolation::ReadCommitted),
    );
    assert!(block_on(remove(&mut a, &parent, 1)).unwrap());
    assert!(block_on(remove(&mut b, &parent, 2)).unwrap());
    {
        let mut referring = pin!(refer(&mut a, &child, 1, 2));
        assert!(poll_once(referring.as_mut()).is_pending());
        let refused = block_on(refer(&mut b, &child, 2, 1));
        assert!(matches!(refused, Err(Error::Deadlock { .. })), "{refused:?}");
        b.rollback();
        block_on(referring).unwrap();
    }
    a.commit("").unwrap();
    check_whole(&home);
}

#[test]
fn a_key_stays_held_when_the_row_that_refers_is_rolled_back_to_a_savepoint() {
    let (home, parent, child) = scene();
    let mut a = begin(&home, Isolation::ReadCommitted);
    let savepoint = a.savepoint().unwrap();
    block_on(refer(&mut a, &child, 1, 1)).unwrap();
    block_on(a.rollback_to(savepoint)).unwrap();
    removes_behind(&home, &parent, a, 1);
}

#[test]
fn another_key_of_a_table_leaves_alone_whom_it_does_not_concern() {
    let (home, parent, child) = scene();
    let other = home.create("q", true);
    // Of the parent that nothing is changed of.
    let mut writer = begin(&home, Isolation::ReadCommitted);
    assert!(delete(&mut writer, &parent, 2));
    let key = ForeignKeyDef {
        name: "c_value_fkey1".to_owned(),
        ..to(&other, 0)
    };
    for _ in 0..2 {
        let mut definer = begin(&home, Isolation::ReadCommitted);
        block_on(async {
            let child = definer.catalog().table("c").unwrap().clone();
            match child.def.foreign_keys.len() {
                1 => definer.add_foreign_key(&child, key.clone()).await.map(drop),
                _ => definer.drop_foreign_key(&child, &key.name).await.map(drop),
            }
        })
        .unwrap();
        definer.commit("").unwrap();
    }
    assert!(
        Arc::ptr_eq(&home.table("p"), &parent),
        "its definition is as it was"
    );
    assert_eq!(home.table("c").def.foreign_keys, child.def.foreign_keys);
    writer.commit("").unwrap();
}

#[test]
fn net_changes_are_what_a_transaction_is_checked_for_at_its_end() {
    let (home, parent, child) = scene();
    let all: foreign::Which<'_> = &|_, _| true;
    // A row that comes before what it refers to, and a key that goes and comes back.
    let mut txn = begin(&home, Isolation::ReadCommitted);
    insert(&mut txn, &child, 1, 3);
    assert!(is_missing(&block_on(txn.check_changes(all))));
    insert(&mut txn, &parent, 3, 30);
    insert(&mut txn, &child, 2, 1);
    assert!(delete(&mut txn, &parent, 1));
    let checked = block_on(txn.check_changes(all));
    assert!(checked.is_err(), "{checked:?}");
    insert(&mut txn, &parent, 1, 100);
    block_on(txn.check_changes(all)).unwrap();
    // What is rolled back was never there.
    let savepoint = txn.savepoint().unwrap();
    insert(&mut txn, &child, 9, 9);
    block_on(txn.rollback_to(savepoint)).unwrap();
    block_on(txn.check_changes(all)).unwrap();
    txn.commit("").unwrap();
    check_whole(&home);
}

#[test]
fn an_election_fails_where_its_rows_and_the_present_ones_do_not_fit() {
    for case in 0..3 {
        let (home, parent, child) = scene();
        home.put(&child, 7, 2);
        let mut txn = begin(&home, Isolation::ReadCommitted);
        txn.create_election(NewElection {
            name: "e".to_owned(),
            owner: "ada".to_owned(),
            winners: 1,
            private: false,
        })
        .unwrap();
        txn.commit("").unwrap();
        let mut txn = begin(&home, Isolation::ReadCommitted);
        txn.create_candidate(NewCandidate {
            election: "e".to_owned(),
            name: "c".to_owned(),
            mirrored: true,
            weight: 1.0,
            note: String::new(),
        })
        .unwrap();
        txn.commit("").unwrap();
        let session = || {
            let mut inside = home
                .session()
                .begin_in("e", "c", Isolation::ReadCommitted)
                .unwrap();
            inside.statement();
            inside
        };
        let mut inside = session();
        assert!(is_missing(&block_on(refer(&mut inside, &child, 1, 3))));
        inside.rollback();
        let mut inside = session();
        let removed = block_on(remove(&mut inside, &parent, 2));
        assert!(matches!(removed, Err(Error::StillReferenced(_))), "{removed:?}");
        inside.rollback();
        let mut inside = session();
        match case {
            0 => block_on(refer(&mut inside, &child, 1, 1)).unwrap(),
            _ => assert!(block_on(remove(&mut inside, &parent, 1)).unwrap()),
        }
        inside.commit("").unwrap();
        let mut other = begin(&home, Isolation::ReadCommitted);
        match case {
            0 => assert!(block_on(remove(&mut other, &parent, 1)).unwrap()),
            1 => block_on(refer(&mut other, &child, 1, 1)).unwrap(),
            _ => block_on(refer(&mut other, &child, 1, 2)).unwrap(),
        }
        other.commit("").unwrap();
        let mut electing = begin(&home, Isolation::ReadCommitted);
        let elected = block_on(electing.elect("e", "c", OnConflict::Fail, &|_| Err(String::new())));
        match case {
            0 => assert!(matches!(elected, Err(Error::ReferenceMissing(_))), "{elected:?}"),
            1 => assert!(matches!(elected, Err(Error::StillReferenced(_))), "{elected:?}"),
            _ => {
                elected.unwrap();
                electing.commit("").unwrap();
                assert_eq!(home.rows(&parent), [(2, 20)]);
                check_whole(&home);
                continue;
            }
        }
        electing.rollback();
        check_whole(&home);
    }
}

#[test]
fn both_tables_know_of_a_foreign_key_from_its_commit_to_its_end_and_after_a_restart() {
    let (mut home, parent, child) = scene();
    let noted = |home: &Home| {
        let parent = home.table("p");
        let mut txn = begin(home, Isolation::ReadCommitted);
        txn.statement();
        (parent.def.referenced_by.len(), txn.references_to(&parent).len())
    };
    home.put(&child, 1, 1);
    home.put(&child, 2, 3);
    assert_eq!(noted(&home), (1, 1));
    let mut txn = begin(&home, Isolation::ReadCommitted);
    let again = ForeignKeyDef {
        name: "again".to_owned(),
        ..to(&parent, 0)
    };
    let refused = block_on(txn.add_foreign_key(&child, again.clone()));
    assert!(matches!(refused, Err(Error::ReferenceMissing(_))), "{refused:?}");
    txn.rollback();
    let mut txn = begin(&home, Isolation::ReadCommitted);
    assert!(delete(&mut txn, &child, 2));
    block_on(txn.add_foreign_key(&child, again)).unwrap();
    // Who wrote by the definitions before, looks again.
    let mut old = home.session().begin(Isolation::RepeatableRead);
    old.statement();
    txn.commit("").unwrap();
    assert_eq!(noted(&home), (2, 2));
    let stale = block_on(old.lock(&parent, &key(1)));
    assert!(
        matches!(stale, Err(Error::SerializationFailure { .. })),
        "{stale:?}"
    );
    old.rollback();
    drop((parent, child));
    home.restart();
    assert_eq!(noted(&home), (2, 2));
    home.checkpoint();
    home.restart();
    assert_eq!(noted(&home), (2, 2));
    let mut txn = begin(&home, Isolation::ReadCommitted);
    block_on(txn.drop_foreign_key(&home.table("c"), "again")).unwrap();
    txn.commit("").unwrap();
    assert_eq!(noted(&home), (1, 1));
    let mut txn = begin(&home, Isolation::ReadCommitted);
    block_on(txn.drop_table(&home.table("p"))).unwrap();
    txn.commit("").unwrap();
    assert!(home.table("c").def.foreign_keys.is_empty());
}

#[test]
fn who_gives_up_waiting_for_a_key_is_in_nobodys_way() {
    let (home, parent, child) = scene();
    let (mut a, mut b) = (
        begin(&home, Isolation::ReadCommitted),
        begin(&home, Isolation::ReadCommitted),
    );
    block_on(refer(&mut a, &child, 1, 1)).unwrap();
    {
        let mut removing: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(remove(&mut b, &parent, 1));
        assert!(poll_once(removing.as_mut()).is_pending());
    }
    b.rollback();
    let mut c = begin(&home, Isolation::ReadCommitted);
    assert!(
        poll_once(pin!(refer(&mut c, &child, 2, 1))).is_ready(),
        "nobody waits any more"
    );
    a.commit("").unwrap();
    c.commit("").unwrap();
    check_whole(&home);
}
