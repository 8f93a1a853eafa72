//! What happens between the first statement of a transaction on an election and its commit.

use crate::common::*;
use crate::kit::*;
use scry_engine::election::OnConflict;
use scry_engine::*;

fn is_changed<T: std::fmt::Debug>(result: Result<T, Error>, candidate: &str) {
    match result {
        Err(Error::CandidateChanged { candidate: found }) => assert_eq!(found, candidate),
        other => panic!("{other:?}"),
    }
}

fn electing(home: &Home, name: &str, on_conflict: OnConflict) -> Txn {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    block_on(txn.elect("e", name, on_conflict, &no_expressions)).unwrap();
    txn
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
