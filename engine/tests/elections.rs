//! Elections and candidates: what each sees, what electing does, and what a restart leaves.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use scry_engine::collision::{ColumnRule, Computation, Fuzzy, Outcome, RowRule, Rules};
use scry_engine::election::{Elected, NewCandidate, NewElection, OnConflict};
use scry_engine::*;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

fn create_election(home: &Home, name: &str, winners: u32) {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let (name, owner) = (name.to_owned(), "ada".to_owned());
    txn.create_election(NewElection { name, owner, winners }).unwrap();
    txn.commit("CREATE ELECTION").unwrap().unwrap();
}

fn try_create_candidate(home: &Home, election: &str, name: &str) -> Result<(), Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.create_candidate(NewCandidate {
        election: election.to_owned(),
        name: name.to_owned(),
        mirrored: true,
        weight: 0.5,
        note: String::new(),
    })?;
    txn.commit("CREATE CANDIDATE").map(drop)
}

fn create_candidate(home: &Home, election: &str, name: &str) {
    try_create_candidate(home, election, name).unwrap();
}

fn begin_in(home: &Home, election: &str, name: &str) -> Txn {
    home.session()
        .begin_in(election, name, Isolation::ReadCommitted)
        .unwrap()
}

fn no_expressions(_: &Computation<'_>) -> Result<Value, String> {
    Err("no expressions".to_owned())
}

fn elect_with(home: &Home, election: &str, name: &str, on_conflict: OnConflict) -> Result<Elected, Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let elected = block_on(txn.elect(election, name, on_conflict, &no_expressions))?;
    txn.commit("ELECT CANDIDATE")?;
    Ok(elected)
}

fn try_elect(home: &Home, election: &str, name: &str) -> Result<u64, Error> {
    elect_with(home, election, name, OnConflict::Fail).map(|elected| elected.changed)
}

fn rebase_with(home: &Home, name: &str, on_conflict: OnConflict) -> Result<Vec<Conflict>, Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let met = block_on(txn.rebase("e", name, on_conflict, &no_expressions))?;
    txn.commit("REBASE CANDIDATE")?;
    Ok(met)
}

/// Gives the table "t" these rules: for rows, for the column `value`, and fuzzy ones.
fn set_rules(home: &Home, row: &str, value: &str, fuzzy: &str) {
    let table = home.table("t");
    let mut rules = Rules {
        row: (!row.is_empty()).then(|| RowRule::parse(row, &table.def).unwrap()),
        fuzzy: Fuzzy::parse(fuzzy).unwrap(),
        columns: Vec::new(),
    };
    if !value.is_empty() {
        rules.set_column(1, Some(ColumnRule::parse(value, &table.def.columns[1]).unwrap()));
    }
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.set_rules(&table, rules)).unwrap();
    txn.commit("ALTER TABLE").unwrap();
}

fn drop_candidate(home: &Home, election: &str, name: &str) {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.drop_candidate(election, name).unwrap();
    txn.commit("DROP CANDIDATE").unwrap();
}

fn rows_in(home: &Home, election: &str, name: &str, table: &Table) -> Vec<(i32, i64)> {
    rows(&mut begin_in(home, election, name), table)
}

/// A home with rows 1 to 3, an election "e" and a candidate "c".
fn scene(winners: u32) -> (Home, Arc<Table>) {
    let home = Home::new();
    let table = home.create("t", true);
    for id in 1..=3 {
        home.put(&table, id, i64::from(id) * 10);
    }
    create_election(&home, "e", winners);
    create_candidate(&home, "e", "c");
    (home, table)
}

fn change(home: &Home, table: &Table, work: impl FnOnce(&mut Txn, &Table)) {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    work(&mut txn, table);
    txn.commit("UPDATE 1").unwrap();
}

fn change_in(home: &Home, name: &str, table: &Table, work: impl FnOnce(&mut Txn, &Table)) {
    let mut txn = begin_in(home, "e", name);
    work(&mut txn, table);
    txn.commit("UPDATE 1").unwrap();
}

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
fn an_elected_candidate_becomes_the_present_under_ordinals_that_the_log_alone_tells() {
    let (mut home, table) = scene(1);
    for value in [11, 12, 13] {
        change_in(&home, "c", &table, |txn, table| {
            assert!(set(txn, table, 1, value))
        });
    }
    change_in(&home, "c", &table, |txn, table| {
        assert!(delete(txn, table, 2));
        insert(txn, table, 4, 40);
        insert(txn, table, 5, 50);
    });
    change_in(&home, "c", &table, |txn, table| assert!(delete(txn, table, 5)));
    // What others change elsewhere is in nobody's way.
    change(&home, &table, |txn, table| assert!(set(txn, table, 3, 33)));
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 3);
    assert_eq!(home.rows(&table), [(1, 13), (3, 33), (4, 40)]);
    home.check_replica(&table);
    change(&home, &table, |txn, table| {
        assert!(set(txn, table, 4, 41));
        assert!(set(txn, table, 1, 14));
        insert(txn, table, 2, 22);
    });
    home.check_replica(&table);
    let election = home.engine().catalog().elections().get("e").cloned().unwrap();
    assert_eq!(election.state, ElectionState::Committed);
    assert_eq!(election.candidate("c").unwrap().state, CandidateState::Elected);
    drop(table);
    home.restart();
    let table = home.table("t");
    assert_eq!(home.rows(&table), [(1, 14), (2, 22), (3, 33), (4, 41)]);
    home.check_replica(&table);
    assert!(matches!(
        try_elect(&home, "e", "c"),
        Err(Error::ElectionEnded { .. })
    ));
    assert!(matches!(
        try_create_candidate(&home, "e", "x"),
        Err(Error::ElectionEnded { .. })
    ));
}

#[test]
fn electing_logs_no_row_again() {
    let (home, table) = scene(1);
    change_in(&home, "c", &table, |txn, table| {
        for id in 10..2_010 {
            insert(txn, table, id, 1);
        }
    });
    let before = home.engine().visible_lsn();
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 2_000);
    let bytes = home.engine().visible_lsn().get() - before.get();
    assert!(bytes <= 8 << 10, "{bytes} bytes for 2,000 rows");
    home.check_replica(&table);
}

#[test]
fn a_row_that_is_not_what_the_candidate_found_stops_its_election_and_is_listed() {
    for conflict in 0..4 {
        let (home, table) = scene(1);
        change_in(&home, "c", &table, |txn, table| {
            assert!(set(txn, table, 1, 11));
            assert!(delete(txn, table, 2));
            insert(txn, table, 4, 40);
        });
        change(&home, &table, |txn, table| match conflict {
            0 => assert!(set(txn, table, 1, 15)),
            1 => assert!(delete(txn, table, 1)),
            2 => assert!(set(txn, table, 2, 25)),
            _ => insert(txn, table, 4, 45),
        });
        let before = home.rows(&table);
        match try_elect(&home, "e", "c") {
            Err(Error::Conflicts { candidate, count }) => assert_eq!((candidate.as_str(), count), ("e/c", 1)),
            other => panic!("{other:?}"),
        }
        assert_eq!(home.rows(&table), before);
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        let conflicts = txn.conflicts("e", "c", &no_expressions).unwrap();
        let value = |row: &Option<Row>| row.as_ref().map(|row| decode(&table, row).1);
        let found: Vec<_> = conflicts
            .iter()
            .map(|conflict| {
                let Conflict {
                    before,
                    present,
                    proposed,
                    ..
                } = conflict;
                (value(before), value(present), value(proposed))
            })
            .collect();
        let expected = match conflict {
            0 => (Some(10), Some(15), Some(11)),
            1 => (Some(10), None, Some(11)),
            2 => (Some(20), Some(25), None),
            _ => (None, Some(45), Some(40)),
        };
        assert_eq!(found, [expected]);
        // The election is as open as before.
        drop(txn);
        drop_candidate(&home, "e", "c");
        create_candidate(&home, "e", "c");
        change_in(&home, "c", &table, |txn, table| insert(txn, table, 9, 90));
        assert_eq!(try_elect(&home, "e", "c").unwrap(), 1);
        home.check_replica(&table);
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
fn several_winners_commit_one_after_the_other_and_the_last_ends_the_election() {
    let (home, table) = scene(2);
    for (name, id) in [("c", 1), ("d", 2), ("f", 3)] {
        if name != "c" {
            create_candidate(&home, "e", name);
        }
        change_in(&home, name, &table, |txn, table| assert!(set(txn, table, id, 7)));
    }
    try_elect(&home, "e", "d").unwrap();
    try_elect(&home, "e", "c").unwrap();
    assert_eq!(home.rows(&table), [(1, 7), (2, 7), (3, 30)]);
    let election = home.engine().catalog().elections().get("e").cloned().unwrap();
    assert_eq!(election.state, ElectionState::Committed);
    assert_eq!(election.candidate("f").unwrap().state, CandidateState::Dropped);
    home.check_replica(&table);
}

#[test]
fn what_no_candidate_may_do_is_refused_by_name() {
    let (home, table) = scene(1);
    let mut inside = begin_in(&home, "e", "c");
    let refused = |result: Result<(), Error>, what: &str| match result {
        Err(Error::NotInCandidate { what: found }) => assert_eq!(found, what),
        other => panic!("{other:?}"),
    };
    refused(
        block_on(inside.create_table(new_table("u", true))).map(drop),
        "CREATE TABLE",
    );
    refused(block_on(inside.drop_table(&table)), "DROP TABLE");
    refused(block_on(inside.truncate(&table)).map(drop), "TRUNCATE");
    refused(inside.drop_election("e"), "DROP ELECTION");
    refused(
        block_on(inside.elect("e", "c", OnConflict::Fail, &no_expressions)).map(drop),
        "ELECT",
    );
    assert!(set(&mut inside, &table, 1, 11));
    inside.commit("").unwrap();
    // The table is replaced below the candidate: it goes on with its base, but cannot be elected.
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.truncate(&table)).unwrap();
    txn.commit("TRUNCATE").unwrap();
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 11), (2, 20), (3, 30)]);
    assert!(matches!(
        try_elect(&home, "e", "c"),
        Err(Error::TableReplaced { .. })
    ));
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    insert(&mut txn, &home.table("t"), 9, 90);
    assert!(matches!(
        block_on(txn.elect("e", "c", OnConflict::Fail, &no_expressions)),
        Err(Error::ElectAfterChanges)
    ));
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
    // Long enough for the collector to have passed.
    std::thread::sleep(std::time::Duration::from_millis(250));
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
    let mut cursor = txn.begin_scan(&table, KeyRange::all());
    assert_eq!(cursor.next_batch(1).len(), 1);
    let mut ending = home.session().begin(Isolation::ReadCommitted);
    ending.drop_election("e").unwrap();
    ending.commit("DROP ELECTION").unwrap();
    write_once_more(&home, &table);
    let left: Vec<_> = cursor
        .next_batch(10)
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
fn rules_decide_what_both_sides_have_changed_and_the_log_alone_tells_it_again() {
    let (mut home, table) = scene(0);
    set_rules(&home, "", "add", "insert_as_update, update_as_insert");
    change_in(&home, "c", &table, |txn, table| {
        assert!(set(txn, table, 1, 15));
        assert!(set(txn, table, 2, 25));
        assert!(set(txn, table, 3, 35));
        insert(txn, table, 4, 40);
    });
    change(&home, &table, |txn, table| {
        assert!(set(txn, table, 1, 7));
        assert!(delete(txn, table, 2));
    });
    let elected = elect_with(&home, "e", "c", OnConflict::Resolve).unwrap();
    assert_eq!((elected.changed, elected.conflicts.len()), (4, 2));
    let reasons: Vec<&str> = elected
        .conflicts
        .iter()
        .map(|met| met.decision.reason.as_str())
        .collect();
    assert_eq!(reasons, ["merge, value: add", "update_as_insert"]);
    assert_eq!(home.rows(&table), [(1, 12), (2, 25), (3, 35), (4, 40)]);
    home.check_replica(&table);
    drop(table);
    home.restart();
    let table = home.table("t");
    assert_eq!(home.rows(&table), [(1, 12), (2, 25), (3, 35), (4, 40)]);
    assert_eq!(
        table.rules.columns,
        [(1, ColumnRule::Add)],
        "the rules are in the log, too"
    );
    home.check_replica(&table);
}

#[test]
fn what_no_rule_decides_stops_the_election_unless_it_is_deferred() {
    let (home, table) = scene(0);
    set_rules(&home, "", "max", "");
    change_in(&home, "c", &table, |txn, table| {
        assert!(set(txn, table, 1, 15));
        assert!(delete(txn, table, 2));
        assert!(set(txn, table, 3, 35));
    });
    change(&home, &table, |txn, table| {
        assert!(set(txn, table, 1, 17));
        assert!(set(txn, table, 2, 27));
    });
    match elect_with(&home, "e", "c", OnConflict::Resolve) {
        Err(Error::Conflicts { count, .. }) => assert_eq!(count, 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(home.rows(&table), [(1, 17), (2, 27), (3, 30)]);
    let elected = elect_with(&home, "e", "c", OnConflict::Defer).unwrap();
    assert_eq!((elected.changed, elected.conflicts.len()), (1, 2));
    assert!(
        elected
            .conflicts
            .iter()
            .all(|met| met.decision.outcome == Outcome::Defer)
    );
    assert_eq!(home.rows(&table), [(1, 17), (2, 27), (3, 35)]);
    home.check_replica(&table);
}

#[test]
fn an_election_decides_more_than_a_transaction_keeps_unlogged() {
    for untouched in [0, 100] {
        let mut options = options();
        options.spill_bytes = 4 << 10;
        let mut home = Home::with(options);
        let table = home.create("t", true);
        const ROWS: i32 = 600;
        change(&home, &table, |txn, table| {
            (0..ROWS).for_each(|id| insert(txn, table, id, 10))
        });
        create_election(&home, "e", 0);
        create_candidate(&home, "e", "c");
        set_rules(&home, "proposed", "", "");
        change_in(&home, "c", &table, |txn, table| {
            (0..ROWS).for_each(|id| assert!(set(txn, table, id, 11)));
        });
        change(&home, &table, |txn, table| {
            (untouched..ROWS).for_each(|id| assert!(set(txn, table, id, 12)));
        });
        let elected = elect_with(&home, "e", "c", OnConflict::Resolve).unwrap();
        assert_eq!(
            elected.conflicts.len(),
            usize::try_from(ROWS - untouched).unwrap()
        );
        let all: Vec<_> = (0..ROWS).map(|id| (id, 11)).collect();
        assert_eq!(home.rows(&table), all);
        home.check_replica(&table);
        drop(table);
        home.restart();
        let table = home.table("t");
        assert_eq!(home.rows(&table), all);
        home.check_replica(&table);
    }
}

#[test]
fn a_rebased_candidate_stands_on_the_present_with_its_own_changes() {
    let (mut home, table) = scene(0);
    set_rules(&home, "", "add", "");
    change_in(&home, "c", &table, |txn, table| {
        assert!(set(txn, table, 1, 15));
        assert!(delete(txn, table, 2));
    });
    change(&home, &table, |txn, table| {
        assert!(set(txn, table, 1, 7));
        assert!(set(txn, table, 3, 33));
    });
    let mut late = begin_in(&home, "e", "c");
    assert!(set(&mut late, &table, 3, 34));
    match rebase_with(&home, "c", OnConflict::Fail) {
        Err(Error::Conflicts { count, .. }) => assert_eq!(count, 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 15), (3, 30)]);
    assert_eq!(rebase_with(&home, "c", OnConflict::Resolve).unwrap().len(), 1);
    assert!(matches!(late.commit(""), Err(Error::CandidateChanged { .. })));
    for restart in [false, true] {
        if restart {
            home.restart();
        }
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(1, 7), (2, 20), (3, 33)]);
        assert_eq!(rows_in(&home, "e", "c", &table), [(1, 12), (3, 33)]);
    }
    let table = home.table("t");
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 3, 34)));
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 3);
    assert_eq!(home.rows(&table), [(1, 12), (3, 34)]);
    home.check_replica(&table);
}

#[test]
fn what_is_committed_while_a_candidate_is_rebased_is_a_conflict_and_never_lost() {
    let (home, table) = scene(0);
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 15)));
    let mut rebasing = home.session().begin(Isolation::ReadCommitted);
    block_on(rebasing.rebase("e", "c", OnConflict::Fail, &no_expressions)).unwrap();
    // Nobody waits for a rebase.
    change(&home, &table, |txn, table| assert!(set(txn, table, 1, 11)));
    assert_eq!(home.engine().stats().lock_waits, 0);
    rebasing.commit("REBASE CANDIDATE").unwrap();
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 16)));
    match try_elect(&home, "e", "c") {
        Err(Error::Conflicts { count, .. }) => assert_eq!(count, 1),
        other => panic!("{other:?}"),
    }
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let conflicts = txn.conflicts("e", "c", &no_expressions).unwrap();
    let value = |row: &Option<Row>| row.as_ref().map(|row| decode(&table, row).1);
    let Conflict {
        before,
        present,
        proposed,
        ..
    } = &conflicts[0];
    assert_eq!(
        (value(before), value(present), value(proposed)),
        (Some(10), Some(11), Some(16))
    );
}

#[test]
fn a_key_that_comes_back_after_the_election_that_kept_its_row_is_there_after_a_restart() {
    let (mut home, table) = scene(1);
    set_rules(&home, "proposed", "", "");
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 2, 25)));
    change(&home, &table, |txn, table| {
        assert!(delete(txn, table, 1));
        assert!(delete(txn, table, 2));
    });
    // The winner brings one row back in the commit that ends the election, an ordinary transaction the other later.
    assert_eq!(
        elect_with(&home, "e", "c", OnConflict::Resolve).unwrap().changed,
        1
    );
    change(&home, &table, |txn, table| insert(txn, table, 1, 11));
    drop(table);
    home.restart();
    let table = home.table("t");
    assert_eq!(home.rows(&table), [(1, 11), (2, 25), (3, 30)]);
    home.check_replica(&table);
}

#[test]
fn elections_and_definitions_do_not_share_a_transaction() {
    let (home, table) = scene(0);
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 15)));
    let refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::ElectionWithDefinition)));
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.elect("e", "c", OnConflict::Fail, &no_expressions)).unwrap();
    refused(block_on(txn.truncate(&table)).map(drop));
    refused(block_on(txn.drop_table(&table)));
    drop(txn);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.create_table(new_table("u", true))).unwrap();
    let (name, owner) = ("f".to_owned(), "ada".to_owned());
    refused(txn.create_election(NewElection {
        name,
        owner,
        winners: 1,
    }));
    let rebased = block_on(txn.rebase("e", "c", OnConflict::Fail, &no_expressions));
    assert!(matches!(rebased, Err(Error::ElectAfterChanges)));
}

#[test]
fn a_table_that_gets_a_key_is_another_to_candidates_that_changed_it() {
    let home = Home::new();
    let table = home.create("t", false);
    for id in 1..=3 {
        home.put(&table, id, i64::from(id) * 10);
    }
    create_election(&home, "e", 0);
    create_candidate(&home, "e", "c");
    create_candidate(&home, "e", "idle");
    change_in(&home, "c", &table, |txn, table| insert(txn, table, 9, 90));
    // Locked and rolled back: its branch is empty.
    let mut idle = begin_in(&home, "e", "idle");
    insert(&mut idle, &table, 8, 80);
    drop(idle);
    let mut late = home.session().begin(Isolation::RepeatableRead);
    assert_eq!(rows(&mut late, &table).len(), 3);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.add_primary_key(&table, primary_key("t"))).unwrap();
    txn.commit("ALTER TABLE").unwrap();
    let replaced = |result: Result<(), Error>| match result {
        Err(Error::TableReplaced { table }) => assert_eq!(table, "t"),
        other => panic!("{other:?}"),
    };
    replaced(block_on(late.rebase("e", "c", OnConflict::Fail, &no_expressions)).map(drop));
    drop(late);
    replaced(try_elect(&home, "e", "c").map(drop));
    replaced(rebase_with(&home, "c", OnConflict::Fail).map(drop));
    assert_eq!(try_elect(&home, "e", "idle").unwrap(), 0);
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
fn no_more_candidates_win_than_may() {
    let (home, table) = scene(2);
    for name in ["d", "f"] {
        create_candidate(&home, "e", name);
    }
    for (name, id) in [("c", 1), ("d", 2), ("f", 3)] {
        change_in(&home, name, &table, |txn, table| assert!(set(txn, table, id, 7)));
    }
    let mut early = home.session().begin(Isolation::RepeatableRead);
    assert_eq!(rows(&mut early, &table).len(), 3);
    try_elect(&home, "e", "c").unwrap();
    block_on(early.elect("e", "d", OnConflict::Fail, &no_expressions)).unwrap();
    early.commit("ELECT CANDIDATE").unwrap();
    assert!(matches!(
        try_elect(&home, "e", "f"),
        Err(Error::ElectionEnded { .. })
    ));
}

#[derive(Clone, Debug)]
enum Step {
    /// Ordinary changes of a key: a value, or none.
    Put(i32, Option<i64>),
    Create(usize),
    /// Changes of a candidate, committed or rolled back.
    Propose(usize, Vec<(i32, Option<i64>)>, bool),
    Elect(usize, OnConflict),
    Rebase(usize, OnConflict),
    Drop(usize),
    Restart,
}

fn on_conflict() -> impl Strategy<Value = OnConflict> {
    prop_oneof![
        Just(OnConflict::Fail),
        Just(OnConflict::Defer),
        Just(OnConflict::Resolve)
    ]
}

/// The table's rules.
#[derive(Clone, Copy, Debug)]
enum Ruled {
    Not,
    Proposed,
    Present,
    /// Differences are added; missing rows are inserted, and existing ones updated.
    Add,
}

/// What the rules make of a row: refused, deferred, or a value or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Refused,
    Deferred,
    Leaves(Option<i64>),
}

fn expected(
    rules: Ruled,
    how: OnConflict,
    before: Option<i64>,
    present: Option<i64>,
    proposed: Option<i64>,
) -> Expected {
    match (how, rules) {
        (OnConflict::Fail, _) | (OnConflict::Resolve, Ruled::Not) => Expected::Refused,
        (OnConflict::Defer, _) => Expected::Deferred,
        _ if present == proposed => Expected::Leaves(present),
        (_, Ruled::Proposed) => Expected::Leaves(proposed),
        (_, Ruled::Present) => Expected::Leaves(present),
        (_, Ruled::Add) => match (before, present, proposed) {
            (_, None, proposed) => Expected::Leaves(proposed),
            (Some(before), Some(present), Some(proposed)) => {
                Expected::Leaves(Some(present + proposed - before))
            }
            _ => Expected::Refused,
        },
    }
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop_oneof![3 => (0..100i64).prop_map(Some), 1 => Just(None)];
    let change = (0..8i32, value());
    let candidate = 0..3usize;
    prop_oneof![
        4 => change.clone().prop_map(|(key, value)| Step::Put(key, value)),
        2 => candidate.clone().prop_map(Step::Create),
        6 => (candidate.clone(), prop::collection::vec(change, 1..4), prop::bool::weighted(0.9))
            .prop_map(|(candidate, changes, commits)| Step::Propose(candidate, changes, commits)),
        2 => (candidate.clone(), on_conflict()).prop_map(|(candidate, how)| Step::Elect(candidate, how)),
        2 => (candidate.clone(), on_conflict()).prop_map(|(candidate, how)| Step::Rebase(candidate, how)),
        1 => candidate.prop_map(Step::Drop),
        1 => Just(Step::Restart),
    ]
}

type State = BTreeMap<i32, i64>;

/// A row's value and the number of the change that gave it; of a missing row, of the change that took it away.
type Versions = BTreeMap<i32, (Option<i64>, u64)>;

/// What a candidate proposes for a key.
#[derive(Clone, Copy, Debug)]
struct Proposed {
    value: Option<i64>,
    /// The row that it found, and the number of the change that gave it.
    found: Option<(i64, u64)>,
}

#[derive(Clone, Debug)]
struct Model {
    base: Versions,
    proposals: BTreeMap<i32, Proposed>,
}

struct World {
    home: Home,
    rules: Ruled,
    base: Versions,
    present: Versions,
    candidates: BTreeMap<usize, Model>,
    elected: BTreeSet<usize>,
    changes: u64,
}

fn live(versions: &Versions, key: i32) -> Option<(i64, u64)> {
    let (value, change) = versions.get(&key)?;
    Some(((*value)?, *change))
}

impl Model {
    fn future(&self) -> State {
        let mut state = World::live(&self.base);
        for (key, proposed) in &self.proposals {
            match proposed.value {
                Some(value) => state.insert(*key, value),
                None => state.remove(key),
            };
        }
        state
    }

    fn propose(&mut self, key: i32, value: Option<i64>) {
        let known = self.proposals.get(&key).copied();
        let found = known.map_or_else(|| live(&self.base, key), |known| known.found);
        let exists = known.map_or(found.is_some(), |known| known.value.is_some());
        match (value, found) {
            (Some(_), _) | (None, Some(_)) if exists || value.is_some() => {
                self.proposals.insert(key, Proposed { value, found });
            }
            (None, None) if exists => {
                // A row that a rebase brought below the candidate's own is to be gone, too.
                match live(&self.base, key) {
                    None => self.proposals.remove(&key),
                    found => self.proposals.insert(key, Proposed { value, found }),
                };
            }
            _ => {}
        }
    }
}

impl World {
    fn live(versions: &Versions) -> State {
        versions
            .iter()
            .filter_map(|(key, (value, _))| Some((*key, (*value)?)))
            .collect()
    }

    fn put(&mut self, key: i32, value: Option<i64>) {
        self.changes += 1;
        let found = self.present.entry(key).or_default();
        // Deleting nothing changes nothing.
        if value.is_some() || found.0.is_some() {
            *found = (value, self.changes);
        }
    }

    /// The proposals of a candidate that are not upon the present, with what is to become of them.
    fn collisions(&self, model: &Model, how: OnConflict) -> BTreeMap<i32, Expected> {
        let collided = model
            .proposals
            .iter()
            .filter(|(key, proposed)| live(&self.present, **key) != proposed.found);
        collided
            .map(|(key, proposed)| {
                let before = proposed.found.map(|(value, _)| value);
                let present = live(&self.present, *key).map(|(value, _)| value);
                (*key, expected(self.rules, how, before, present, proposed.value))
            })
            .collect()
    }

    fn step(&mut self, step: &Step) {
        let table = self.home.table("t");
        let name = |candidate: usize| format!("c{candidate}");
        match step {
            Step::Put(key, value) => {
                change(&self.home, &table, |txn, table| apply(txn, table, *key, *value));
                self.put(*key, *value);
            }
            Step::Create(candidate) => {
                let made = try_create_candidate(&self.home, "e", &name(*candidate));
                let known = self.candidates.contains_key(candidate) || self.elected.contains(candidate);
                assert_eq!(matches!(made, Err(Error::DuplicateCandidate { .. })), known);
                if !known {
                    let (base, proposals) = (self.base.clone(), BTreeMap::new());
                    self.candidates.insert(*candidate, Model { base, proposals });
                }
            }
            Step::Propose(candidate, changes, commits) => {
                if !self.candidates.contains_key(candidate) {
                    return;
                }
                let mut txn = begin_in(&self.home, "e", &name(*candidate));
                let mut model = self.candidates[candidate].clone();
                for (key, value) in changes {
                    apply(&mut txn, &table, *key, *value);
                    model.propose(*key, *value);
                    assert_eq!(State::from_iter(rows(&mut txn, &table)), model.future());
                    assert_eq!(get(&mut txn, &table, *key), *value);
                }
                if *commits {
                    txn.commit("").unwrap();
                    self.candidates.insert(*candidate, model);
                }
            }
            Step::Elect(candidate, how) => {
                let result = elect_with(&self.home, "e", &name(*candidate), *how);
                let Some(model) = self.candidates.get(candidate).cloned() else {
                    assert!(matches!(
                        result,
                        Err(Error::UndefinedCandidate { .. } | Error::CandidateEnded { .. })
                    ));
                    return;
                };
                let collisions = self.collisions(&model, *how);
                let refused = collisions
                    .values()
                    .filter(|found| **found == Expected::Refused)
                    .count();
                match result {
                    Ok(elected) => {
                        assert_eq!((refused, elected.conflicts.len()), (0, collisions.len()));
                        for (key, proposed) in model.proposals {
                            match collisions.get(&key) {
                                None => self.put(key, proposed.value),
                                Some(Expected::Leaves(value))
                                    if *value != live(&self.present, key).map(|(value, _)| value) =>
                                {
                                    self.put(key, *value);
                                }
                                Some(_) => {}
                            }
                        }
                        self.candidates.remove(candidate);
                        self.elected.insert(*candidate);
                    }
                    Err(Error::Conflicts { count, .. }) => {
                        assert!(refused > 0);
                        assert_eq!(count, refused);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Rebase(candidate, how) => {
                let Some(mut model) = self.candidates.get(candidate).cloned() else {
                    return;
                };
                let result = rebase_with(&self.home, &name(*candidate), *how);
                let collisions = self.collisions(&model, *how);
                let refused = collisions
                    .values()
                    .filter(|found| **found == Expected::Refused)
                    .count();
                if refused > 0 {
                    assert!(matches!(result, Err(Error::Conflicts { count, .. }) if count == refused));
                    return;
                }
                assert_eq!(result.unwrap().len(), collisions.len());
                for (key, found) in collisions {
                    let Expected::Leaves(value) = found else { continue };
                    let present = live(&self.present, key);
                    match value == present.map(|(value, _)| value) {
                        true => model.proposals.remove(&key),
                        false => model.proposals.insert(
                            key,
                            Proposed {
                                value,
                                found: present,
                            },
                        ),
                    };
                }
                model.base = self.present.clone();
                self.candidates.insert(*candidate, model);
            }
            Step::Drop(candidate) => {
                if self.candidates.remove(candidate).is_some() {
                    drop_candidate(&self.home, "e", &name(*candidate));
                }
            }
            Step::Restart => {
                drop(table);
                self.home.restart();
            }
        }
    }

    fn check(&self) {
        let table = self.home.table("t");
        assert_eq!(
            State::from_iter(self.home.rows(&table)),
            Self::live(&self.present)
        );
        for (candidate, model) in &self.candidates {
            let found = rows_in(&self.home, "e", &format!("c{candidate}"), &table);
            assert_eq!(State::from_iter(found), model.future());
        }
    }
}

/// Gives a key a value, or none, whatever it has.
fn apply(txn: &mut Txn, table: &Table, key: i32, value: Option<i64>) {
    match value {
        Some(value) => {
            if !set(txn, table, key, value) {
                insert(txn, table, key, value);
            }
        }
        None => {
            delete(txn, table, key);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn futures_agree_with_a_model(
        rules in prop_oneof![Just(Ruled::Not), Just(Ruled::Proposed), Just(Ruled::Present), Just(Ruled::Add)],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let home = Home::new();
        let table = home.create("t", true);
        let mut base = Versions::new();
        for id in 0..5 {
            home.put(&table, id, i64::from(id));
            base.insert(id, (Some(i64::from(id)), 0));
        }
        drop(table);
        match rules {
            Ruled::Not => {}
            Ruled::Proposed => set_rules(&home, "proposed", "", ""),
            Ruled::Present => set_rules(&home, "present", "", ""),
            Ruled::Add => set_rules(&home, "", "add", "insert_as_update, update_as_insert, ignore_missing"),
        }
        create_election(&home, "e", 0);
        let mut world = World {
            home,
            rules,
            present: base.clone(),
            base,
            candidates: BTreeMap::new(),
            elected: BTreeSet::new(),
            changes: 0,
        };
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.home.check_replica(&world.home.table("t"));
    }
}
