//! Candidates of statements, and candidates whose mirror flag is switched. A statement here is a key and what is added to it.

use crate::common::*;
use crate::kit::*;
use scry_engine::election::{CandidateChanges, NewCandidate, Recorded};
use scry_engine::*;

/// A statement that adds to a row; the engine keeps its text.
fn run(txn: &mut Txn, table: &Table, text: &str) {
    let (id, more) = text.split_once(' ').unwrap();
    let (id, more): (i32, i64) = (id.parse().unwrap(), more.parse().unwrap());
    txn.statement();
    if let Some(value) = get(txn, table, id) {
        set(txn, table, id, value + more);
    }
}

fn say(home: &Home, table: &Table, name: &str, text: &str) -> Result<(), Error> {
    let mut txn = begin_in(home, "e", name);
    txn.begin_recording();
    run(&mut txn, table, text);
    txn.record(Recorded {
        text: text.to_owned(),
        ..Recorded::default()
    })?;
    txn.commit("UPDATE").map(drop)
}

/// Rebases, and between running the statements and the commit does something else.
fn rebase_beside(home: &Home, table: &Table, name: &str, beside: impl FnOnce()) -> Result<(), Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    for statement in block_on(txn.rebase_again("e", name))? {
        run(&mut txn, table, &statement.text);
    }
    txn.leave_candidate();
    beside();
    txn.commit("REBASE CANDIDATE").map(drop)
}

fn rebase(home: &Home, table: &Table, name: &str) -> Result<(), Error> {
    rebase_beside(home, table, name, || {})
}

fn elect_again(home: &Home, table: &Table, name: &str) -> Result<(), Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    for statement in block_on(txn.elect_again("e", name, None))? {
        run(&mut txn, table, &statement.text);
    }
    txn.commit("ELECT CANDIDATE").map(drop)
}

fn switch(home: &Home, name: &str, mirrored: bool) -> Result<(), Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let changes = CandidateChanges {
        mirrored: Some(mirrored),
        ..CandidateChanges::default()
    };
    block_on(txn.alter_candidate("e", name, changes))?;
    txn.commit("ALTER CANDIDATE").map(drop)
}

fn texts(home: &Home, name: &str) -> Vec<String> {
    let catalog = home.engine().catalog();
    let (_, candidate) = catalog.elections().open("e", name).unwrap();
    let statements = candidate.statements().iter();
    statements.map(|statement| statement.text.clone()).collect()
}

#[test]
fn statements_are_run_again_upon_the_present_and_outlive_a_restart() {
    let (mut home, table) = scene(0);
    say(&home, &table, "c", "1 5").unwrap();
    say(&home, &table, "c", "2 7").unwrap();
    change(&home, &table, |txn, table| {
        set(txn, table, 1, 100);
    });
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 15), (2, 27), (3, 30)]);
    rebase(&home, &table, "c").unwrap();
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 105), (2, 27), (3, 30)]);
    home.restart();
    let table = home.table("t");
    assert_eq!(texts(&home, "c"), ["1 5", "2 7"]);
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 105), (2, 27), (3, 30)]);
    assert_eq!(home.rows(&table), [(1, 100), (2, 20), (3, 30)]);
    // It goes on where it was.
    say(&home, &table, "c", "3 1").unwrap();
    rebase(&home, &table, "c").unwrap();
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 105), (2, 27), (3, 31)]);
    change(&home, &table, |txn, table| {
        set(txn, table, 1, 0);
    });
    elect_again(&home, &table, "c").unwrap();
    home.restart();
    let table = home.table("t");
    assert_eq!(home.rows(&table), [(1, 5), (2, 27), (3, 31)]);
    home.check_replica(&table);
}

#[test]
fn a_candidate_is_of_rows_or_of_statements() {
    let (home, table) = scene(0);
    let of_statements = |result: Result<(), Error>| match result {
        Err(Error::CandidateKind { of_statements, .. }) => of_statements,
        other => panic!("{other:?}"),
    };
    change_in(&home, "c", &table, |txn, table| {
        set(txn, table, 1, 1);
    });
    let mut says = begin_in(&home, "e", "c");
    says.begin_recording();
    assert!(!of_statements(says.record(Recorded::default())));
    drop(says);
    assert!(!of_statements(rebase(&home, &table, "c")));
    assert!(!of_statements(elect_again(&home, &table, "c")));
    create_candidate(&home, "e", "d");
    say(&home, &table, "d", "2 7").unwrap();
    assert!(of_statements(try_elect(&home, "e", "d").map(drop)));
    assert!(of_statements(
        rebase_with(&home, "d", election::OnConflict::Fail).map(drop)
    ));
    // Both begin at once: who commits second is refused, whichever it is.
    for first_says in [true, false] {
        let name = format!("race {first_says}");
        create_candidate(&home, "e", &name);
        let mut writes = begin_in(&home, "e", &name);
        set(&mut writes, &table, 1, 1);
        let mut says = begin_in(&home, "e", &name);
        says.begin_recording();
        run(&mut says, &table, "2 7");
        says.record(Recorded::default()).unwrap();
        let (first, second) = match first_says {
            true => (says, writes),
            false => (writes, says),
        };
        first.commit("UPDATE").unwrap();
        assert_eq!(of_statements(second.commit("UPDATE").map(drop)), first_says);
    }
}

#[test]
fn a_statement_said_while_a_candidate_is_rebased_is_not_forgotten() {
    let (home, table) = scene(0);
    say(&home, &table, "c", "1 5").unwrap();
    let said = rebase_beside(&home, &table, "c", || say(&home, &table, "c", "9 9").unwrap());
    assert!(matches!(said, Err(Error::CandidateChanged { .. })), "{said:?}");
    assert_eq!(texts(&home, "c"), ["1 5", "9 9"]);
    // Nor does one commit that ran on the base of before.
    let mut late = begin_in(&home, "e", "c");
    late.begin_recording();
    run(&mut late, &table, "2 7");
    late.record(Recorded::default()).unwrap();
    rebase(&home, &table, "c").unwrap();
    let late = late.commit("UPDATE");
    assert!(matches!(late, Err(Error::CandidateChanged { .. })), "{late:?}");
}

#[test]
fn a_transaction_that_has_rebased_goes_on_outside() {
    let (mut home, table) = scene(0);
    say(&home, &table, "c", "1 5").unwrap();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    for statement in block_on(txn.rebase_again("e", "c")).unwrap() {
        run(&mut txn, &table, &statement.text);
    }
    txn.leave_candidate();
    txn.statement();
    set(&mut txn, &table, 1, 50);
    assert_eq!(rows(&mut txn, &table), [(1, 50), (2, 20), (3, 30)]);
    txn.commit("REBASE CANDIDATE").unwrap();
    for _ in 0..2 {
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(1, 50), (2, 20), (3, 30)]);
        assert_eq!(rows_in(&home, "e", "c", &table), [(1, 15), (2, 20), (3, 30)]);
        home.restart();
    }
}

#[test]
fn statements_outlive_the_store_that_they_were_first_run_on() {
    let (mut home, table) = scene(0);
    say(&home, &table, "c", "1 5").unwrap();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.truncate(&table)).unwrap();
    txn.commit("TRUNCATE").unwrap();
    let table = home.table("t");
    home.put(&table, 1, 1000);
    rebase(&home, &table, "c").unwrap();
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 1005)]);
    home.restart();
    let table = home.table("t");
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 1005)]);
    elect_again(&home, &table, "c").unwrap();
    assert_eq!(home.rows(&table), [(1, 1005)]);
}

#[test]
fn switching_the_mirror_flag_keeps_the_rows() {
    let (mut home, table) = scene(0);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.create_candidate(NewCandidate {
        election: "e".to_owned(),
        name: "dark".to_owned(),
        mirrored: false,
        weight: 1.0,
        note: String::new(),
    })
    .unwrap();
    txn.commit("CREATE CANDIDATE").unwrap();
    change_in(&home, "dark", &table, |txn, table| {
        set(txn, table, 1, 1);
        delete(txn, table, 2);
        insert(txn, table, 7, 7);
    });
    let expected = [(1, 1), (3, 30), (7, 7)];
    for flag in [true, true, false, true] {
        switch(&home, "dark", flag).unwrap();
        assert_eq!(rows_in(&home, "e", "dark", &table), expected);
    }
    // Who writes meanwhile comes too late.
    let mut late = begin_in(&home, "e", "dark");
    set(&mut late, &table, 1, 2);
    switch(&home, "dark", false).unwrap();
    let late = late.commit("UPDATE");
    assert!(matches!(late, Err(Error::CandidateChanged { .. })), "{late:?}");
    switch(&home, "dark", true).unwrap();
    home.restart();
    let table = home.table("t");
    assert_eq!(rows_in(&home, "e", "dark", &table), expected);
    assert_eq!(try_elect(&home, "e", "dark").unwrap(), 3);
    assert_eq!(home.rows(&table), expected);
    home.check_replica(&table);
}

#[test]
fn a_change_of_the_weight_does_not_bring_an_old_mirror_flag_back() {
    let (mut home, table) = scene(0);
    change_in(&home, "c", &table, |txn, table| {
        set(txn, table, 1, 1);
    });
    let mut late = home.session().begin(Isolation::ReadCommitted);
    let changes = CandidateChanges {
        weight: Some(7.0),
        mirrored: Some(true),
        ..CandidateChanges::default()
    };
    block_on(late.alter_candidate("e", "c", changes)).unwrap();
    switch(&home, "c", false).unwrap();
    late.commit("ALTER CANDIDATE").unwrap();
    for _ in 0..2 {
        let catalog = home.engine().catalog();
        let (_, candidate) = catalog.elections().open("e", "c").unwrap();
        assert_eq!((candidate.mirrored, candidate.weight), (false, 7.0));
        home.restart();
    }
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 1);
    let table = home.table("t");
    home.check_replica(&table);
}

#[test]
fn a_recording_transaction_that_goes_back_to_a_savepoint_stays_in_its_base() {
    let (home, table) = scene(0);
    let mut truncate = home.session().begin(Isolation::ReadCommitted);
    block_on(truncate.truncate(&table)).unwrap();
    truncate.commit("TRUNCATE").unwrap();
    let mut txn = begin_in(&home, "e", "c");
    txn.begin_recording();
    run(&mut txn, &table, "1 5");
    txn.record(Recorded::default()).unwrap();
    let savepoint = txn.savepoint().unwrap();
    run(&mut txn, &table, "2 5");
    txn.record(Recorded::default()).unwrap();
    block_on(txn.rollback_to(savepoint)).unwrap();
    let of_base = txn.catalog().table("t").unwrap().clone();
    assert_eq!(of_base.def.store, table.def.store);
    assert_eq!(rows(&mut txn, &of_base), [(1, 15), (2, 20), (3, 30)]);
    txn.commit("UPDATE").unwrap();
    assert_eq!(texts(&home, "c").len(), 1);
}
