//! Elections beside definitions of tables.

use crate::common::*;
use crate::kit::*;
use scry_engine::election::{NewElection, OnConflict, Privileges};
use scry_engine::*;

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
        private: false,
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
fn a_restart_leaves_what_was_granted_before_and_after_the_end_of_an_election() {
    let mut home = Home::new();
    let (name, owner) = ("e".to_owned(), "ada".to_owned());
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.create_election(NewElection {
        name,
        owner,
        winners: 1,
        private: true,
    })
    .unwrap();
    txn.grant_election("e", Some("bob"), Privileges::ALL, false)
        .unwrap();
    txn.commit("CREATE ELECTION").unwrap().unwrap();
    create_candidate(&home, "e", "c");
    try_elect(&home, "e", "c").unwrap();
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.grant_election("e", Some("bob"), Privileges::WRITE.with(Privileges::CREATE), true)
        .unwrap();
    txn.commit("REVOKE").unwrap().unwrap();
    for restart in [false, true] {
        if restart {
            home.restart();
        }
        let election = home.engine().catalog().elections().get("e").cloned().unwrap();
        assert_eq!(election.state, ElectionState::Committed);
        assert_eq!(election.acl(), "{bob=re/ada}");
        let may = |user, wanted| election.allows(user, wanted);
        assert!(may("ada", Privileges::ALL) && may("bob", Privileges::ELECT));
        assert!(!may("bob", Privileges::READ.with(Privileges::WRITE)) && !may("eve", Privileges::READ));
    }
}
