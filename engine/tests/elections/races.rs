//! What happens between the first statement of a transaction on an election and its commit.

use crate::common::*;
use crate::kit::*;
use scry_engine::election::{OnConflict, Scores};
use scry_engine::*;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

fn is_changed<T: std::fmt::Debug>(result: Result<T, Error>, candidate: &str) {
    match result {
        Err(Error::CandidateChanged { candidate: found }) => assert_eq!(found, candidate),
        other => panic!("{other:?}"),
    }
}

fn open_candidate(home: &Home, name: &str) -> Arc<Candidate> {
    let catalog = home.engine().catalog();
    let (_, candidate) = catalog.elections().open("e", name).unwrap();
    Arc::clone(candidate)
}

fn electing(home: &Home, name: &str, on_conflict: OnConflict) -> Txn {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.elect("e", name, on_conflict, &no_expressions)).unwrap();
    txn
}

fn rebasing(home: &Home, name: &str) -> Txn {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.rebase("e", name, OnConflict::Fail, &no_expressions)).unwrap();
    txn
}

fn add_primary_key(home: &Home) {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.add_primary_key(&home.table("t"), primary_key("t"))).unwrap();
    txn.commit("ALTER TABLE").unwrap();
}

#[test]
fn no_candidate_is_left_open_in_an_election_that_ends_while_it_is_created() {
    let (mut home, table) = scene(1);
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 11)));
    let ends = electing(&home, "c", OnConflict::Fail);
    create_candidate(&home, "e", "d");
    change_in(&home, "d", &table, |txn, table| assert!(set(txn, table, 2, 21)));
    is_changed(ends.commit("ELECT CANDIDATE"), "d");
    let mut drops = home.session().begin(Isolation::ReadCommitted);
    drops.drop_election("e").unwrap();
    create_candidate(&home, "e", "f");
    is_changed(drops.commit("DROP ELECTION"), "f");
    assert_eq!(home.rows(&table), [(1, 10), (2, 20), (3, 30)]);
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 1);
    drop(table);
    for restart in [false, true] {
        if restart {
            home.restart();
        }
        let catalog = home.engine().catalog();
        let election = catalog.elections().get("e").unwrap();
        assert_eq!(election.count(CandidateState::Open), 0);
        assert_eq!(election.count(CandidateState::Dropped), 2);
        home.check_replica(&home.table("t"));
    }
}

#[test]
fn a_first_write_into_a_table_while_the_candidate_is_rebased_is_not_committed_upon_the_new_base() {
    let (home, table) = scene(0);
    let rebases = rebasing(&home, "c");
    // It makes the branch, and that is a commit of its own.
    let mut early = begin_in(&home, "e", "c");
    assert!(set(&mut early, &table, 1, 11));
    rebases.commit("REBASE CANDIDATE").unwrap();
    is_changed(early.commit("UPDATE 1"), "e/c");
    // Whoever began before and writes first afterwards finds out at the write.
    let mut late = begin_in(&home, "e", "c");
    rebasing(&home, "c").commit("REBASE CANDIDATE").unwrap();
    let other = home.create("u", true);
    home.put(&other, 1, 1);
    is_changed(
        block_on(late.lock(&table, &key(1)))
            .map(drop)
            .and_then(|()| late.commit("").map(drop)),
        "e/c",
    );
    // One that is committed before the rebase stops it.
    let rebases = rebasing(&home, "c");
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 2, 21)));
    is_changed(rebases.commit("REBASE CANDIDATE"), "c");
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 10), (2, 21), (3, 30)]);
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 1);
    assert_eq!(home.rows(&table), [(1, 10), (2, 21), (3, 30)]);
    home.check_replica(&table);
}

#[test]
fn a_branch_in_which_nothing_was_ever_committed_takes_on_the_key_that_its_table_gets() {
    // With the rebase before, or between the first write and its end.
    for races in [false, true] {
        let mut home = Home::new();
        let table = home.create("t", false);
        for id in 1..=3 {
            home.put(&table, id, i64::from(id) * 10);
        }
        create_election(&home, "e", 0);
        create_candidate(&home, "e", "c");
        let rebases = races.then(|| rebasing(&home, "c"));
        let mut early = begin_in(&home, "e", "c");
        insert(&mut early, &table, 8, 80);
        add_primary_key(&home);
        assert!(matches!(
            open_candidate(&home, "c").changes_of(&home.table("t")),
            Ok(None)
        ));
        let rebases = rebases.unwrap_or_else(|| rebasing(&home, "c"));
        rebases.commit("REBASE CANDIDATE").unwrap();
        is_changed(early.commit("INSERT 0 1"), "e/c");
        // The rebase that began before the key was there stands on the state that its commit left, with the key.
        drop(table);
        let table = home.table("t");
        change_in(&home, "c", &table, |txn, table| {
            assert!(set(txn, table, 1, 11));
            insert(txn, table, 9, 90);
        });
        drop(table);
        home.restart();
        let table = home.table("t");
        assert_eq!(
            rows_in(&home, "e", "c", &table),
            [(1, 11), (2, 20), (3, 30), (9, 90)]
        );
        change_in(&home, "c", &table, |txn, table| assert!(delete(txn, table, 2)));
        assert_eq!(try_elect(&home, "e", "c").unwrap(), 3);
        drop(table);
        home.restart();
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(1, 11), (3, 30), (9, 90)]);
        home.check_replica(&table);
    }
}

#[test]
fn rows_are_decided_by_the_rules_as_they_are_at_the_commit_or_not_at_all() {
    let (home, table) = scene(0);
    set_rules(&home, "", "max", "");
    let collide = |id| {
        change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, id, 100)));
        change(&home, &table, |txn, table| assert!(set(txn, table, id, 50)));
    };
    let rules = |rule| {
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        let rules = rules_of(&home, "", rule, "");
        block_on(txn.set_rules(&home.table("t"), rules)).unwrap();
        txn
    };
    let stale = |result: Result<Option<scry_wal::Lsn>, Error>| match result {
        Err(Error::TableChanged { table }) => assert_eq!(table, "t"),
        other => panic!("{other:?}"),
    };
    collide(1);
    // The rules change when the election has begun and has not come to the table yet.
    let alters = rules("min");
    let mut elects = home.session().begin(Isolation::ReadCommitted);
    {
        let mut elected = pin!(elects.elect("e", "c", OnConflict::Resolve, &no_expressions));
        assert!(matches!(poll_once(elected.as_mut()), Poll::Pending));
        alters.commit("ALTER TABLE").unwrap();
        block_on(elected).unwrap();
    }
    stale(elects.commit("ELECT CANDIDATE"));
    // A rebase locks no table.
    let mut rebases = home.session().begin(Isolation::ReadCommitted);
    let met = block_on(rebases.rebase("e", "c", OnConflict::Resolve, &no_expressions)).unwrap();
    assert_eq!(met.len(), 1);
    rules("max").commit("ALTER TABLE").unwrap();
    stale(rebases.commit("REBASE CANDIDATE"));
    assert_eq!(rows_in(&home, "e", "c", &table)[0], (1, 100));
    rules("min").commit("ALTER TABLE").unwrap();
    // What no rule has decided, no rule stops.
    collide(2);
    let mut defers = home.session().begin(Isolation::ReadCommitted);
    block_on(defers.rebase("e", "c", OnConflict::Defer, &no_expressions)).unwrap();
    rules("max").commit("ALTER TABLE").unwrap();
    defers.commit("REBASE CANDIDATE").unwrap();
    elect_with(&home, "e", "c", OnConflict::Resolve).unwrap();
    assert_eq!(home.rows(&table), [(1, 100), (2, 100), (3, 30)]);
}

#[test]
fn a_candidate_that_is_not_the_one_whose_future_was_asked_is_not_elected() {
    let (home, table) = scene(1);
    let scores = || Scores {
        query: "SELECT 1".to_owned(),
        maximize: true,
        scores: Vec::new(),
    };
    let elect_scored = |at| {
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        let scored = Some((at, scores()));
        let elected = txn.elect_for("e", "c", OnConflict::Fail, &no_expressions, scored);
        block_on(elected).and_then(|elected| txn.commit("ELECT CANDIDATE").map(|_| elected.changed))
    };
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 11)));
    let asked = home.engine().visible_lsn();
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 12)));
    is_changed(elect_scored(asked), "e/c");
    // Another one has its name by now, and has changed nothing.
    let asked = home.engine().visible_lsn();
    drop_candidate(&home, "e", "c");
    create_candidate(&home, "e", "c");
    is_changed(elect_scored(asked), "e/c");
    let asked = home.engine().visible_lsn();
    // A change that comes when the winner is chosen and not committed yet.
    let mut elects = home.session().begin(Isolation::ReadCommitted);
    let scored = Some((asked, scores()));
    block_on(elects.elect_for("e", "c", OnConflict::Fail, &no_expressions, scored)).unwrap();
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 2, 21)));
    // (It made a branch.)
    is_changed(elects.commit("ELECT CANDIDATE"), "c");
    assert_eq!(home.rows(&table), [(1, 10), (2, 20), (3, 30)]);
    assert_eq!(elect_scored(home.engine().visible_lsn()).unwrap(), 1);
}

#[test]
fn electing_waits_for_no_session_of_the_candidate_and_takes_what_is_committed() {
    let (home, table) = scene(1);
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 11)));
    let mut inside = begin_in(&home, "e", "c");
    assert!(set(&mut inside, &table, 1, 12));
    assert!(set(&mut inside, &table, 2, 22));
    insert(&mut inside, &table, 4, 44);
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 1);
    assert_eq!(home.engine().stats().lock_waits, 0);
    // What it held does not stand in anybody's way.
    change(&home, &table, |txn, table| {
        assert!(set(txn, table, 2, 25));
        insert(txn, table, 4, 45);
    });
    assert_eq!(home.engine().stats().lock_waits, 0);
    match inside.commit("UPDATE 2") {
        Err(Error::CandidateEnded { candidate }) => assert_eq!(candidate, "e/c"),
        other => panic!("{other:?}"),
    }
    assert_eq!(home.rows(&table), [(1, 11), (2, 25), (3, 30), (4, 45)]);
    home.check_replica(&table);
}
