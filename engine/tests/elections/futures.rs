//! Random histories of one election against the model, with restarts.

use crate::common::*;
use crate::kit::*;
use crate::model::*;
use proptest::prelude::*;
use scry_engine::election::OnConflict;
use scry_engine::*;

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

struct World {
    home: Home,
    model: Database,
}

impl World {
    fn step(&mut self, step: &Step) {
        let table = self.home.table("t");
        let name = |candidate: usize| format!("c{candidate}");
        let is_open = |model: &Database, candidate| model.life("e", &name(candidate)).is_some();
        match step {
            Step::Put(key, value) => {
                change(&self.home, &table, |txn, table| apply(txn, table, *key, *value));
                self.model.put(*key, *value);
            }
            Step::Create(candidate) => {
                let made = try_create_candidate(&self.home, "e", &name(*candidate));
                let known = !self.model.create_candidate("e", &name(*candidate));
                assert_eq!(matches!(made, Err(Error::DuplicateCandidate { .. })), known);
            }
            Step::Propose(candidate, changes, commits) => {
                if !is_open(&self.model, *candidate) {
                    return;
                }
                let mut txn = begin_in(&self.home, "e", &name(*candidate));
                let mut model = self.model.clone();
                for (key, value) in changes {
                    apply(&mut txn, &table, *key, *value);
                    model.propose("e", &name(*candidate), *key, *value);
                    let future = model.future("e", &name(*candidate)).unwrap();
                    assert_eq!(State::from_iter(rows(&mut txn, &table)), future);
                    assert_eq!(get(&mut txn, &table, *key), *value);
                }
                if *commits {
                    txn.commit("").unwrap();
                    self.model = model;
                }
            }
            Step::Elect(candidate, how) => {
                let mut txn = self.home.session().begin(Isolation::ReadCommitted);
                let queued = self.model.queued();
                let result = block_on(elect_and_queue(&mut txn, "e", &name(*candidate), *how, queued));
                if !is_open(&self.model, *candidate) {
                    assert!(matches!(
                        result,
                        Err(Error::UndefinedCandidate { .. } | Error::CandidateEnded { .. })
                    ));
                    return;
                }
                let result = decided(result);
                assert_eq!(result, self.model.elect("e", &name(*candidate), *how));
                if result.is_ok() {
                    txn.commit("ELECT CANDIDATE").unwrap();
                }
            }
            Step::Rebase(candidate, how) => {
                if is_open(&self.model, *candidate) {
                    let result = rebase_with(&self.home, &name(*candidate), *how);
                    let expected = self.model.rebase("e", &name(*candidate), *how);
                    assert_eq!(decided(result), expected);
                }
            }
            Step::Drop(candidate) => {
                if self.model.drop_candidate("e", &name(*candidate)) {
                    drop_candidate(&self.home, "e", &name(*candidate));
                }
            }
            Step::Restart => {
                drop(table);
                self.home.restart();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn futures_agree_with_a_model(rules in ruled(), steps in prop::collection::vec(step(), 1..40)) {
        let (home, mut model) = begin(Home::new(), rules);
        create_election(&home, "e", 0);
        model.create_election("e", 0);
        let mut world = World { home, model };
        for step in &steps {
            world.step(step);
            assert_eq!(Seen::of(&world.home), world.model.seen());
        }
        world.home.check_replica(&world.home.table("t"));
    }
}
