//! Elections and candidates: what each sees, what electing does, and what a restart leaves.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use scry_engine::election::{NewCandidate, NewElection};
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

fn try_elect(home: &Home, election: &str, name: &str) -> Result<u64, Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let count = block_on(txn.elect(election, name))?;
    txn.commit("ELECT CANDIDATE")?;
    Ok(count)
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
        let conflicts = txn.conflicts("e", "c").unwrap();
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
    assert_eq!(block_on(electing.elect("e", "d")).unwrap(), 1);
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
    refused(block_on(inside.elect("e", "c")).map(drop), "ELECT");
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
        block_on(txn.elect("e", "c")),
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

#[derive(Clone, Debug)]
enum Step {
    /// Ordinary changes of a key: a value, or none.
    Put(i32, Option<i64>),
    Create(usize),
    /// Changes of a candidate, committed or rolled back.
    Propose(usize, Vec<(i32, Option<i64>)>, bool),
    Elect(usize),
    Drop(usize),
    Restart,
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
        2 => candidate.clone().prop_map(Step::Elect),
        1 => candidate.prop_map(Step::Drop),
        1 => Just(Step::Restart),
    ]
}

type State = BTreeMap<i32, i64>;

/// A row's value and the number of the change that gave it; of a missing row, of the change that took it away.
type Versions = BTreeMap<i32, (Option<i64>, u64)>;

struct World {
    home: Home,
    base: Versions,
    present: Versions,
    /// What each open candidate proposes.
    candidates: BTreeMap<usize, BTreeMap<i32, Option<i64>>>,
    elected: BTreeSet<usize>,
    changes: u64,
}

impl World {
    fn live(versions: &Versions) -> State {
        versions
            .iter()
            .filter_map(|(key, (value, _))| Some((*key, (*value)?)))
            .collect()
    }

    fn future(&self, candidate: usize) -> State {
        let mut state = Self::live(&self.base);
        for (key, value) in &self.candidates[&candidate] {
            match value {
                Some(value) => state.insert(*key, *value),
                None => state.remove(key),
            };
        }
        state
    }

    fn put(&mut self, key: i32, value: Option<i64>) {
        self.changes += 1;
        let found = self.present.entry(key).or_default();
        // Deleting nothing changes nothing.
        if value.is_some() || found.0.is_some() {
            *found = (value, self.changes);
        }
    }

    fn is_as_found(&self, key: i32) -> bool {
        let base = self.base.get(&key).copied().unwrap_or_default();
        let present = self.present.get(&key).copied().unwrap_or_default();
        base == present || (base.0.is_none() && present.0.is_none())
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
                    self.candidates.insert(*candidate, BTreeMap::new());
                }
            }
            Step::Propose(candidate, changes, commits) => {
                if !self.candidates.contains_key(candidate) {
                    return;
                }
                let mut txn = begin_in(&self.home, "e", &name(*candidate));
                let mut expected = self.future(*candidate);
                let mut proposals = self.candidates[candidate].clone();
                for (key, value) in changes {
                    apply(&mut txn, &table, *key, *value);
                    let existed = expected.contains_key(key);
                    match value {
                        Some(value) => {
                            expected.insert(*key, *value);
                            proposals.insert(*key, Some(*value));
                        }
                        None if existed => {
                            expected.remove(key);
                            match self.base.get(key).is_some_and(|base| base.0.is_some()) {
                                true => proposals.insert(*key, None),
                                false => proposals.remove(key),
                            };
                        }
                        None => {}
                    }
                    assert_eq!(State::from_iter(rows(&mut txn, &table)), expected);
                    assert_eq!(get(&mut txn, &table, *key), *value);
                }
                if *commits {
                    txn.commit("").unwrap();
                    self.candidates.insert(*candidate, proposals);
                }
            }
            Step::Elect(candidate) => {
                let result = try_elect(&self.home, "e", &name(*candidate));
                let Some(proposals) = self.candidates.get(candidate).cloned() else {
                    assert!(matches!(
                        result,
                        Err(Error::UndefinedCandidate { .. } | Error::CandidateEnded { .. })
                    ));
                    return;
                };
                let conflicts = proposals.keys().filter(|key| !self.is_as_found(**key)).count();
                match result {
                    Ok(count) => {
                        assert_eq!((conflicts, count), (0, proposals.len() as u64));
                        for (key, value) in proposals {
                            self.put(key, value);
                        }
                        self.candidates.remove(candidate);
                        self.elected.insert(*candidate);
                    }
                    Err(Error::Conflicts { count, .. }) => assert_eq!(count, conflicts),
                    Err(error) => panic!("{error}"),
                }
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
        for candidate in self.candidates.keys() {
            let found = rows_in(&self.home, "e", &format!("c{candidate}"), &table);
            assert_eq!(State::from_iter(found), self.future(*candidate));
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
    fn futures_agree_with_a_model(steps in prop::collection::vec(step(), 1..40)) {
        let home = Home::new();
        let table = home.create("t", true);
        let mut base = Versions::new();
        for id in 0..5 {
            home.put(&table, id, i64::from(id));
            base.insert(id, (Some(i64::from(id)), 0));
        }
        drop(table);
        create_election(&home, "e", 0);
        let mut world = World {
            home,
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
