//! Elections on a disk that may do anything it is allowed to. Whatever it does: what was acknowledged is there, each
//! transaction wholly or not at all, and each election in one of its states with the candidates, futures and deferred rows
//! that go with it.
//!
//! The model of each commit is kept by its LSN, so what is found after a crash has exactly one state to be equal to.

use crate::common::*;
use crate::kit::*;
use crate::model::*;
use proptest::prelude::*;
use scry_engine::election::{NewCandidate, NewElection, OnConflict};
use scry_engine::*;
use scry_wal::Lsn;
use scry_wal::sim::{Fault, SimStorage};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// Transactions that are open at once.
const SESSIONS: usize = 3;

/// The value of a key, or none.
type Change = (i32, Option<i64>);

#[derive(Clone, Debug)]
enum Step {
    /// An ordinary change, committed.
    Put(Change),
    /// Changes of a candidate, committed.
    Propose(usize, usize, Vec<Change>),
    CreateElection(usize, u32),
    CreateCandidate(usize, usize),
    /// A transaction in a candidate, or an ordinary one, unless the session has one.
    Begin(usize, Option<(usize, usize)>),
    Write(usize, Vec<Change>),
    Commit(usize),
    Rollback(usize),
    Elect(usize, usize, OnConflict),
    Rebase(usize, usize, OnConflict),
    DropCandidate(usize, usize),
    DropElection(usize),
    /// Everything is waited for that was committed.
    Acknowledge,
    /// What is in memory alone goes into files, and leaves memory.
    Checkpoint,
}

fn election(number: usize) -> String {
    format!("e{number}")
}

fn candidate(number: usize) -> String {
    format!("c{number}")
}

/// The log is gone, and with it this life of the engine.
#[derive(Debug)]
struct Gone;

/// What is left of a result when the log's failures are taken out.
fn alive<T>(result: Result<T, Error>) -> Result<Result<T, Error>, Gone> {
    match result {
        Err(Error::Log(_)) => Err(Gone),
        other => Ok(other),
    }
}

struct Session {
    txn: Txn,
    /// The candidate, as it was when the transaction began.
    inside: Option<(String, String, u64)>,
    changes: Vec<Change>,
}

impl Session {
    fn new(txn: Txn, inside: Option<(String, String, u64)>) -> Session {
        let changes = Vec::new();
        Session { txn, inside, changes }
    }

    /// False when its candidate has ended or was rebased since.
    fn holds(&self, model: &Database) -> bool {
        let life = |(election, candidate, _): &(String, String, u64)| model.life(election, candidate);
        let inside = self.inside.as_ref();
        inside.is_none_or(|inside| life(inside) == Some(inside.2))
    }

    /// The database with this transaction's changes.
    fn committed(&self, model: &Database) -> Database {
        let mut model = model.clone();
        for (key, value) in &self.changes {
            match &self.inside {
                None => model.put(*key, *value),
                Some((election, candidate, _)) => model.propose(election, candidate, *key, *value),
            }
        }
        model
    }

    /// What its next statement sees.
    fn sees(&self, model: &Database) -> State {
        let model = self.committed(model);
        match &self.inside {
            None => model.present(),
            Some((election, candidate, _)) => model.future(election, candidate).unwrap(),
        }
    }

    /// One change, unless it would have to wait. The transaction is of no use after an error.
    fn change(&mut self, (id, value): Change) -> Result<(), Error> {
        let (txn, id_key) = (&mut self.txn, key(id));
        txn.statement();
        let table = Arc::clone(txn.catalog().table("t").unwrap());
        let Poll::Ready(found) = poll_once(pin!(txn.lock(&table, &id_key))) else {
            return Ok(());
        };
        match (found?, value) {
            (Some(_), Some(value)) => block_on(txn.update(&table, &id_key, row(&table, id, value)))?,
            (Some(_), None) => block_on(txn.delete(&table, &id_key))?,
            (None, Some(value)) => {
                let row = row(&table, id, value);
                match poll_once(pin!(txn.insert(&table, Some(id_key), row))) {
                    Poll::Ready(outcome) => assert!(matches!(outcome?, InsertOutcome::Inserted(_))),
                    Poll::Pending => return Ok(()),
                }
            }
            (None, None) => return Ok(()),
        }
        self.changes.push((id, value));
        Ok(())
    }
}

struct World {
    home: Home,
    model: Database,
    sessions: [Option<Session>; SESSIONS],
    /// By commit.
    history: BTreeMap<Lsn, Database>,
    acknowledged: Lsn,
}

fn small(spill_bytes: usize) -> EngineOptions {
    let mut options = options();
    options.log.backend = scry_wal::Backend::Auto;
    options.spill_bytes = spill_bytes;
    options
}

impl World {
    fn new(rules: Ruled, spill_bytes: usize, seed: u64) -> World {
        let home = Home::on_disk(small(spill_bytes), SimStorage::new(seed, false));
        let (home, model) = begin(home, rules);
        let mut world = World {
            home,
            history: BTreeMap::new(),
            acknowledged: Lsn::ZERO,
            sessions: Default::default(),
            model,
        };
        let begun = world.home.engine().visible_lsn();
        world.history.insert(begun, world.model.clone());
        world.acknowledge().unwrap();
        world
    }

    fn disk(&self) -> &Arc<SimStorage> {
        self.home.disk.as_ref().unwrap()
    }

    fn begin(&self) -> Txn {
        self.home.session().begin(Isolation::ReadCommitted)
    }

    fn acknowledge(&mut self) -> Result<(), Gone> {
        let visible = self.home.engine().visible_lsn();
        self.home.engine().log().wait_durable(visible).map_err(|_| Gone)?;
        self.acknowledged = visible;
        Ok(())
    }

    /// Commits what leaves `model`.
    fn commit(&mut self, txn: Txn, model: Database) -> Result<(), Gone> {
        match alive(txn.commit(""))?.unwrap() {
            Some(lsn) => drop(self.history.insert(lsn, model.clone())),
            None => assert_eq!(self.model.seen(), model.seen()),
        }
        self.model = model;
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Gone> {
        let mut model = self.model.clone();
        match step {
            Step::Acknowledge => return self.acknowledge(),
            Step::Checkpoint => {
                alive(self.home.engine().checkpoint())?.unwrap();
                self.home.engine().make_room();
                return self.acknowledge();
            }
            Step::Begin(session, inside) => self.begin_session(*session, *inside),
            Step::Write(session, changes) => return self.write(*session, changes),
            Step::Rollback(session) => self.sessions[*session] = None,
            Step::Commit(session) => return self.commit_session(*session),
            Step::Put(change) => {
                let mut session = Session::new(self.begin(), None);
                self.change(&mut session, *change)?.unwrap();
                let model = session.committed(&self.model);
                return self.commit(session.txn, model);
            }
            Step::Propose(of, number, changes) => {
                let Some(mut session) = self.session_in(*of, *number) else {
                    return Ok(());
                };
                for change in changes {
                    self.change(&mut session, *change)?.unwrap();
                }
                let model = session.committed(&self.model);
                return self.commit(session.txn, model);
            }
            Step::CreateElection(number, winners) => {
                let (name, winners) = (election(*number), *winners);
                let mut txn = self.begin();
                let made = txn.create_election(NewElection {
                    name: name.clone(),
                    owner: "ada".to_owned(),
                    winners,
                    private: false,
                });
                let expected = model.create_election(&name, winners);
                assert_eq!(made.is_ok(), expected, "{made:?}");
                if expected {
                    return self.commit(txn, model);
                }
            }
            Step::CreateCandidate(of, number) => {
                let mut txn = self.begin();
                let made = txn.create_candidate(NewCandidate {
                    election: election(*of),
                    name: candidate(*number),
                    mirrored: *number != 0,
                    weight: 0.5,
                    note: String::new(),
                });
                let expected = model.create_candidate(&election(*of), &candidate(*number));
                assert_eq!(made.is_ok(), expected, "{made:?}");
                if expected {
                    return self.commit(txn, model);
                }
            }
            Step::Elect(of, number, how) | Step::Rebase(of, number, how) => {
                let (of, name) = (election(*of), candidate(*number));
                if model.life(&of, &name).is_none() {
                    return Ok(());
                }
                let mut txn = self.begin();
                let queued = model.queued();
                let (polled, expected) = match step {
                    Step::Elect(..) => (
                        poll_once(pin!(elect_and_queue(&mut txn, &of, &name, *how, queued))),
                        model.elect(&of, &name, *how),
                    ),
                    _ => (
                        poll_once(pin!(txn.rebase(&of, &name, *how, &no_expressions))),
                        model.rebase(&of, &name, *how),
                    ),
                };
                // It may have to wait for a session.
                let Poll::Ready(result) = polled else {
                    return Ok(());
                };
                assert_eq!(decided(alive(result)?), expected);
                if expected.is_ok() {
                    return self.commit(txn, model);
                }
            }
            Step::DropCandidate(of, number) => {
                let mut txn = self.begin();
                let dropped = txn.drop_candidate(&election(*of), &candidate(*number));
                let expected = model.drop_candidate(&election(*of), &candidate(*number));
                assert_eq!(dropped.is_ok(), expected, "{dropped:?}");
                if expected {
                    return self.commit(txn, model);
                }
            }
            Step::DropElection(number) => {
                let mut txn = self.begin();
                let dropped = txn.drop_election(&election(*number));
                let expected = model.drop_election(&election(*number));
                assert_eq!(dropped.is_ok(), expected, "{dropped:?}");
                if expected {
                    return self.commit(txn, model);
                }
            }
        }
        Ok(())
    }

    fn begin_session(&mut self, number: usize, inside: Option<(usize, usize)>) {
        if self.sessions[number].is_none() {
            self.sessions[number] = match inside {
                None => Some(Session::new(self.begin(), None)),
                Some((of, number)) => self.session_in(of, number),
            };
        }
    }

    /// A transaction in a candidate, if it is open.
    fn session_in(&self, of: usize, number: usize) -> Option<Session> {
        let (of, name) = (election(of), candidate(number));
        let life = self.model.life(&of, &name)?;
        let txn = begin_in(&self.home, &of, &name);
        Some(Session::new(txn, Some((of, name, life))))
    }

    /// One change of a session. If it met a lock, that was of another session in the same place that has changed the
    /// key: an ordinary transaction never waits for one in a candidate.
    fn change(&self, session: &mut Session, change: Change) -> Result<Result<(), Error>, Gone> {
        let lock_waits = || self.home.engine().stats().lock_waits;
        let before = lock_waits();
        let changed = alive(session.change(change))?;
        let place = |session: &Session| session.inside.clone().map(|(of, name, _)| (of, name));
        let others = self.sessions.iter().flatten();
        let mut there = others.filter(|other| place(other) == place(session));
        let has_changed = |other: &Session| other.changes.iter().any(|(key, _)| *key == change.0);
        assert!(
            lock_waits() == before || there.any(has_changed),
            "{change:?} waits"
        );
        Ok(changed)
    }

    fn write(&mut self, number: usize, changes: &[Change]) -> Result<(), Gone> {
        let Some(mut session) = self.sessions[number].take() else {
            return Ok(());
        };
        for change in changes {
            let holds = session.holds(&self.model);
            if let Err(error) = self.change(&mut session, *change)? {
                assert!(!holds && is_stale(&error), "{error}");
                return Ok(());
            }
            if holds {
                let table = Arc::clone(session.txn.catalog().table("t").unwrap());
                session.txn.statement();
                let seen = rows(&mut session.txn, &table).into_iter().collect::<State>();
                assert_eq!(seen, session.sees(&self.model));
            }
        }
        self.sessions[number] = Some(session);
        Ok(())
    }

    fn commit_session(&mut self, number: usize) -> Result<(), Gone> {
        let Some(session) = self.sessions[number].take() else {
            return Ok(());
        };
        if session.holds(&self.model) {
            let model = session.committed(&self.model);
            return self.commit(session.txn, model);
        }
        match alive(session.txn.commit(""))? {
            Ok(lsn) => assert_eq!(lsn, None, "changes of a candidate that is not what it was"),
            Err(error) => assert!(is_stale(&error), "{error}"),
        }
        Ok(())
    }

    /// Lives until the disk fails or nothing is left to do; true when the disk did not fail.
    fn live(&mut self, steps: &[Step]) -> bool {
        let lived = steps.iter().try_for_each(|step| self.step(step));
        // What failed has changed nothing that anybody sees.
        assert_eq!(Seen::of(&self.home), self.model.seen());
        lived.is_ok()
    }

    /// Loses the power, and opens what is left; while it opens, the power may go once more.
    fn crash(&mut self, seed: u64, again: Option<u64>) {
        self.sessions = Default::default();
        self.home.crash(seed);
        if let Some(writes) = again {
            self.disk().fail_after(writes, Fault::Crash);
            let opened = self.home.open();
            assert!(
                opened.is_ok() || matches!(opened, Err(Error::Log(_))),
                "{opened:?}"
            );
            self.home.crash(!seed);
        }
        self.home.open().unwrap();
        let visible = self.home.engine().visible_lsn();
        assert!(visible >= self.acknowledged, "{visible} of {}", self.acknowledged);
        // Behind the last of these commits are at most those that made a branch.
        self.history.retain(|lsn, _| *lsn <= visible);
        self.model = self.history.values().next_back().unwrap().clone();
        assert_eq!(Seen::of(&self.home), self.model.seen());
        self.home.check_replica(&self.home.table("t"));
        self.check_second_opening(visible);
    }

    /// The same log opens a second time to the same state.
    fn check_second_opening(&self, visible: Lsn) {
        let second = Home::on_disk(self.home.options.clone(), self.disk().copy());
        assert_eq!(second.engine().visible_lsn(), visible);
        assert_eq!(Seen::of(&second), self.model.seen());
    }
}

fn is_stale(error: &Error) -> bool {
    matches!(
        error,
        Error::CandidateEnded { .. } | Error::CandidateChanged { .. }
    )
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![3 => (0..100i64).prop_map(Some), 1 => Just(None)];
    let change = || (0..8i32, value.clone());
    let few = || prop::collection::vec(change(), 1..4);
    // More than is kept unlogged.
    let many = (20..60i32, 0..100i64)
        .prop_map(|(count, value)| (100..100 + count).map(|key| (key, Some(value))).collect());
    let of = || prop_oneof![3 => Just(0usize), 1 => Just(1)];
    let number = || prop_oneof![2 => Just(0usize), 2 => Just(1), 1 => Just(2)];
    let session = || 0..SESSIONS;
    let inside = prop::option::weighted(0.8, (of(), number()));
    prop_oneof![
        8 => change().prop_map(Step::Put),
        8 => (of(), number(), few()).prop_map(|(of, number, changes)| Step::Propose(of, number, changes)),
        4 => (of(), 0..3u32).prop_map(|(of, winners)| Step::CreateElection(of, winners)),
        6 => (of(), number()).prop_map(|(of, number)| Step::CreateCandidate(of, number)),
        12 => (session(), inside).prop_map(|(session, inside)| Step::Begin(session, inside)),
        12 => (session(), few()).prop_map(|(session, changes)| Step::Write(session, changes)),
        1 => (session(), many).prop_map(|(session, changes)| Step::Write(session, changes)),
        8 => session().prop_map(Step::Commit),
        1 => session().prop_map(Step::Rollback),
        4 => (of(), number(), on_conflict()).prop_map(|(of, number, how)| Step::Elect(of, number, how)),
        4 => (of(), number(), on_conflict()).prop_map(|(of, number, how)| Step::Rebase(of, number, how)),
        1 => (of(), number()).prop_map(|(of, number)| Step::DropCandidate(of, number)),
        1 => of().prop_map(Step::DropElection),
        4 => Just(Step::Acknowledge),
        4 => Just(Step::Checkpoint),
    ]
}

/// What ends a life: after so many writes this, and perhaps a crash in the recovery that follows.
#[derive(Clone, Debug)]
struct End {
    writes: u64,
    fault: Fault,
    seed: u64,
    again: Option<u64>,
}

fn end() -> impl Strategy<Value = End> {
    let fault = prop_oneof![
        4 => Just(Fault::Crash),
        1 => Just(Fault::WriteFails),
        1 => Just(Fault::SyncFails),
        1 => (1..4_000usize).prop_map(Fault::Short),
    ];
    let again = prop::option::weighted(0.3, 0..4u64);
    (0..60u64, fault, any::<u64>(), again).prop_map(|(writes, fault, seed, again)| End {
        writes,
        fault,
        seed,
        again,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn after_any_crash_every_election_is_wholly_in_one_of_its_states(
        rules in ruled(),
        spill_bytes in prop_oneof![Just(300usize), Just(1 << 20)],
        seed in any::<u64>(),
        lives in prop::collection::vec((prop::collection::vec(step(), 1..80), end()), 1..4),
    ) {
        let mut world = World::new(rules, spill_bytes, seed);
        world.live(&[Step::CreateElection(0, 0), Step::CreateCandidate(0, 0), Step::CreateCandidate(0, 1)]);
        for (steps, end) in lives {
            world.disk().fail_after(end.writes, end.fault);
            world.live(&steps);
            world.crash(end.seed, end.again);
        }
    }
}

/// Two elections from beginning to end, with everything that writes.
fn story(checkpoints: bool) -> Vec<Step> {
    use OnConflict::{Defer, Resolve};
    use Step::*;
    let rows = |range: std::ops::Range<i32>, value| range.map(|key| (key, Some(value))).collect();
    let steps = vec![
        CreateElection(0, 1),
        CreateCandidate(0, 1),
        CreateCandidate(0, 2),
        CreateElection(1, 2),
        CreateCandidate(1, 0),
        CreateCandidate(1, 1),
        // Two sessions of one candidate, and a load that writes ahead.
        Begin(0, Some((0, 1))),
        Begin(1, Some((0, 1))),
        Write(0, vec![(1, Some(11)), (2, None)]),
        Write(1, vec![(3, Some(31)), (7, Some(70))]),
        Commit(0),
        Commit(1),
        Begin(0, Some((0, 2))),
        Write(0, rows(100..160, 1)),
        Commit(0),
        Begin(0, Some((1, 0))),
        Write(0, vec![(1, Some(12)), (4, Some(42))]),
        Commit(0),
        Begin(0, Some((1, 1))),
        Write(0, vec![(0, None), (3, Some(33)), (6, Some(60))]),
        Commit(0),
        Put((1, Some(15))),
        Put((3, Some(35))),
        Rebase(1, 1, Resolve),
        Put((4, Some(45))),
        // The loser of the first is left with uncommitted rows.
        Begin(2, Some((0, 2))),
        Write(2, rows(150..170, 2)),
        Elect(0, 1, Resolve),
        Commit(2),
        Elect(1, 0, Defer),
        CreateCandidate(1, 2),
        DropCandidate(1, 2),
        Rebase(1, 1, Defer),
        Elect(1, 1, Defer),
        Put((1, None)),
        DropElection(0),
        CreateElection(0, 0),
        CreateCandidate(0, 1),
        DropElection(0),
    ];
    let acknowledged = |step| [step, if checkpoints { Checkpoint } else { Acknowledge }];
    steps.into_iter().flat_map(acknowledged).collect()
}

#[test]
fn a_crash_at_every_single_write_of_a_story_leaves_every_election_whole() {
    for (spill_bytes, checkpoints) in [(300, false), (1 << 20, false), (300, true), (1 << 20, true)] {
        let mut untouched = false;
        for writes in 0.. {
            for seed in 0..3 {
                let mut world = World::new(Ruled::Proposed, spill_bytes, seed);
                world.disk().fail_after(writes, Fault::Crash);
                untouched = world.live(&story(checkpoints));
                if untouched {
                    assert_eq!(world.acknowledged, world.home.engine().visible_lsn());
                }
                world.crash(seed, None);
            }
            if untouched {
                assert!(writes > 20, "only {writes} writes were there to be interrupted");
                break;
            }
        }
    }
}
