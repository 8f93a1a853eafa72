//! What electing does to the present, and what stops it.

use crate::common::*;
use crate::kit::*;
use scry_engine::collision::{ColumnRule, Outcome};
use scry_engine::election::OnConflict;
use scry_engine::*;

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
fn indexes_follow_an_elected_candidate_through_a_restart_whose_log_has_none_of_its_rows() {
    for checkpointed in [true, false] {
        let mut options = options();
        // No checkpoint but those asked for.
        options.checkpoint_log_bytes = 0;
        options.checkpoint_dirty_bytes = 0;
        let mut home = Home::with(options);
        let mut new = new_table("t", true);
        new.indexes.push(index("t_value_key", true));
        let table = home.create_as(new);
        for id in 1..=4 {
            home.put(&table, id, i64::from(id) * 10);
        }
        create_election(&home, "e", 1);
        create_candidate(&home, "e", "c");
        change_in(&home, "c", &table, |txn, table| {
            assert!(set(txn, table, 1, 11));
            assert!(delete(txn, table, 2));
            insert(txn, table, 5, 50);
        });
        if checkpointed {
            home.checkpoint();
        }
        // What others change meanwhile may be in memory alone.
        change(&home, &table, |txn, table| assert!(set(txn, table, 3, 33)));
        assert_eq!(try_elect(&home, "e", "c").unwrap(), 3);
        change(&home, &table, |txn, table| insert(txn, table, 6, 20));
        drop(table);
        for _ in 0..2 {
            home.restart_at_once();
            let table = home.table("t");
            assert_eq!(home.rows(&table), [(1, 11), (3, 33), (4, 40), (5, 50), (6, 20)]);
            home.check_indexes(&table);
            drop(table);
            home.checkpoint();
        }
    }
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
fn a_winner_with_entries_of_an_index_that_fill_the_log_ahead_is_elected() {
    let mut options = options();
    options.spill_bytes = 4 << 10;
    let mut home = Home::with(options);
    let mut new = new_table("t", true);
    new.indexes = vec![index("t_value", true), index("t_any", false)];
    let table = home.create_as(new);
    change(&home, &table, |txn, table| {
        (0..300).for_each(|id| insert(txn, table, id, i64::from(id)))
    });
    create_election(&home, "e", 1);
    create_candidate(&home, "e", "c");
    change_in(&home, "c", &table, |txn, table| {
        (0..100).for_each(|id| assert!(set(txn, table, id, -1 - i64::from(id))));
        (100..200).for_each(|id| assert!(delete(txn, table, id)));
        (300..900).for_each(|id| insert(txn, table, id, i64::from(id)));
    });
    elect_with(&home, "e", "c", OnConflict::Fail).unwrap();
    let changed = (0..100).map(|id| (id, -1 - i64::from(id)));
    let all: Vec<_> = changed.chain((200..900).map(|id| (id, i64::from(id)))).collect();
    assert_eq!(home.rows(&table), all);
    home.check_indexes(&table);
    home.check_replica(&table);
    drop(table);
    home.restart_at_once();
    let table = home.table("t");
    assert_eq!(home.rows(&table), all);
    home.check_indexes(&table);
}
