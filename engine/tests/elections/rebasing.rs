//! Rebases, and what is committed beside them.

use crate::common::*;
use crate::kit::*;
use scry_engine::election::OnConflict;
use scry_engine::*;

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
