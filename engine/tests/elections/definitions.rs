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
fn a_candidate_is_elected_into_a_table_that_got_and_lost_columns_and_is_not_rebased() {
    let (mut home, table) = scene(1);
    change_in(&home, "c", &table, |txn, table| {
        assert!(set(txn, table, 1, 11) && delete(txn, table, 2));
        insert(txn, table, 4, 40);
    });
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let mut def = table.def.clone();
    def.columns.extend(["note", "gone"].map(|name| ColumnDef {
        missing: Some(Value::Text(name.to_owned())),
        ..ColumnDef::new(name, DataType::Text)
    }));
    let wide = block_on(txn.redefine(&table, def)).unwrap();
    let mut def = wide.def.clone();
    def.drop_column(3);
    def.columns[2].not_null = true;
    block_on(txn.redefine(&wide, def)).unwrap();
    txn.commit("ALTER TABLE").unwrap();
    drop(wide);
    // Inside, the table is what it was.
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 11), (3, 30), (4, 40)]);
    let refused = rebase_with(&home, "c", OnConflict::Fail);
    assert!(
        matches!(refused, Err(Error::ColumnsChanged { .. })),
        "{refused:?}"
    );
    drop(table);
    home.restart();
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 3);
    for restart in [false, true] {
        if restart {
            home.restart_at_once();
        }
        let table = home.table("t");
        assert_eq!(home.rows(&table), [(1, 11), (3, 30), (4, 40)]);
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        for id in [1, 3, 4] {
            let row = txn.get(&table, &key(id)).unwrap().unwrap().row;
            let values = table.layout.row(&row).values();
            assert_eq!(
                values[2..],
                ["note", "gone"].map(|text| Value::Text(text.to_owned()))
            );
        }
        drop(txn);
        home.check_replica(&table);
    }
}

#[test]
fn rows_that_lack_a_column_collide_by_their_values() {
    let (home, table) = scene(1);
    change_in(&home, "c", &table, |txn, table| assert!(set(txn, table, 1, 11)));
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let mut def = table.def.clone();
    def.columns.push(ColumnDef {
        missing: Some(Value::Int8(5)),
        ..ColumnDef::new("weight", DataType::Int8)
    });
    block_on(txn.redefine(&table, def)).unwrap();
    txn.commit("ALTER TABLE").unwrap();
    set_rules(&home, "merge", "", "");
    // The same change, in a row that has the new column, with the value that the others are missing.
    let now = home.table("t");
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let row = [Value::Int4(1), Value::Int8(11), Value::Int8(5)];
    block_on(txn.lock(&now, &key(1))).unwrap().unwrap();
    block_on(txn.update(&now, &key(1), now.layout.encode(&row).unwrap())).unwrap();
    txn.commit("UPDATE 1").unwrap();
    let elected = elect_with(&home, "e", "c", OnConflict::Resolve).unwrap();
    assert_eq!(elected.conflicts[0].decision.reason, "both sides agree");
    assert_eq!(home.rows(&now)[0], (1, 11));
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
