//! Random interleavings of several transactions against a model that is too simple to be wrong.
//!
//! The model keeps every committed state whole. A request that would wait is made, seen to wait, and cancelled; so
//! the model only has to know who holds which row.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use scry_engine::*;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

const SESSIONS: usize = 3;
const KEYS: i32 = 5;

#[derive(Clone, Debug)]
enum Step {
    Get(i32),
    Scan,
    Insert(i32, i64),
    Update(i32, i64),
    Delete(i32),
    Lock(i32),
    Savepoint,
    RollbackTo(usize),
    Release(usize),
    Commit,
    Rollback,
    Checkpoint,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    prop_oneof![
        4 => key.clone().prop_map(Step::Get),
        4 => Just(Step::Scan),
        8 => (key.clone(), 0..100i64).prop_map(|(key, value)| Step::Insert(key, value)),
        8 => (key.clone(), 0..100i64).prop_map(|(key, value)| Step::Update(key, value)),
        6 => key.clone().prop_map(Step::Delete),
        3 => key.prop_map(Step::Lock),
        2 => Just(Step::Savepoint),
        2 => (0..3usize).prop_map(Step::RollbackTo),
        1 => (0..3usize).prop_map(Step::Release),
        5 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        3 => Just(Step::Checkpoint),
    ]
}

type State = BTreeMap<i32, i64>;

/// A row that a transaction has locked.
#[derive(Clone, Debug)]
struct Held {
    base: Option<i64>,
    /// `None`: locked, not written.
    now: Option<Option<i64>>,
}

impl Held {
    fn current(&self) -> Option<i64> {
        self.now.unwrap_or(self.base)
    }

    /// Its owner means to delete it: inserters wait.
    fn is_ending(&self) -> bool {
        self.now == Some(None)
    }
}

struct Open {
    txn: Txn,
    repeatable: bool,
    /// Which committed state it sees.
    snapshot: usize,
    held: BTreeMap<i32, Held>,
    savepoints: Vec<(SavepointId, BTreeMap<i32, Held>)>,
    /// Rows that a rollback to a savepoint gave back, unless they had been written ahead.
    maybe_held: Vec<i32>,
}

struct World {
    home: Home,
    table: Arc<Table>,
    spills: bool,
    history: Vec<Commit>,
    open: Vec<Option<Open>>,
}

/// A committed state, with the rows that its commit changed.
struct Commit {
    state: State,
    changed: Vec<i32>,
    /// Rows that were written ahead, rolled back to a savepoint, and hence perhaps written back as they were.
    rewritten: Vec<i32>,
}

/// What the model expects of a request for a row.
#[derive(Debug, PartialEq)]
enum Expected {
    Value(Option<i64>),
    Waits,
    Conflict,
}

impl World {
    fn new(spills: bool) -> World {
        let home = Home::with(options_that_spill(spills));
        let mut new = new_table("t", true);
        new.indexes.push(index("by_value", false));
        let table = home.create_as(new);
        let open = (0..SESSIONS).map(|_| None).collect();
        World {
            home,
            table,
            spills,
            history: vec![Commit {
                state: State::new(),
                changed: Vec::new(),
                rewritten: Vec::new(),
            }],
            open,
        }
    }

    fn latest(&self) -> &State {
        &self.history.last().unwrap().state
    }

    fn holder(&self, key: i32, but: usize) -> Option<&Held> {
        let others = self.open.iter().enumerate().filter(|(index, _)| *index != but);
        others
            .filter_map(|(_, open)| open.as_ref())
            .find_map(|open| open.held.get(&key))
    }

    /// Another transaction may have kept the row although it rolled back to a savepoint.
    fn maybe_held(&self, key: i32, but: usize) -> bool {
        let others = self.open.iter().enumerate().filter(|(index, _)| *index != but);
        others
            .filter_map(|(_, open)| open.as_ref())
            .any(|open| open.maybe_held.contains(&key))
    }

    fn open(&mut self, index: usize) -> &mut Open {
        self.open[index].as_mut().unwrap()
    }

    fn expect_lock(&self, index: usize, key: i32) -> Expected {
        let open = self.open[index].as_ref().unwrap();
        if let Some(held) = open.held.get(&key) {
            return Expected::Value(held.current());
        }
        let committed = self.latest().get(&key).copied();
        if committed.is_some() && self.holder(key, index).is_some() {
            return Expected::Waits;
        }
        let newer = self.history[open.snapshot + 1..]
            .iter()
            .any(|commit| commit.changed.contains(&key));
        if open.repeatable && newer {
            return Expected::Conflict;
        }
        Expected::Value(committed)
    }

    /// Locks a row and checks the answer; true when it is locked and exists.
    fn lock(&mut self, index: usize, key: i32) -> bool {
        let expected = self.expect_lock(index, key);
        let may_wait = self.maybe_held(key, index);
        let table = Arc::clone(&self.table);
        let bytes = common::key(key);
        let engine = Arc::clone(self.home.engine());
        let found = match poll_to_lock(&engine, pin!(self.open(index).txn.lock(&table, &bytes))) {
            Poll::Pending if may_wait => return false,
            Poll::Pending => Expected::Waits,
            Poll::Ready(Err(Error::SerializationFailure { .. })) => Expected::Conflict,
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Ready(Ok(found)) => Expected::Value(found.map(|version| decode(&table, &version.row).1)),
        };
        let open = self.open[index].as_ref().unwrap();
        // A row kept since a rolled back insert is known to be absent, whatever was there after the snapshot.
        let kept = open.maybe_held.contains(&key);
        let since = &self.history[open.snapshot + 1..];
        let rewritten = open.repeatable && since.iter().any(|commit| commit.rewritten.contains(&key));
        let excused = match found {
            Expected::Conflict => rewritten,
            Expected::Value(None) => kept && expected == Expected::Conflict,
            _ => false,
        };
        if !excused {
            assert_eq!(found, expected, "lock of {key}");
        }
        let Expected::Value(Some(value)) = found else {
            return false;
        };
        let fresh = Held {
            base: Some(value),
            now: None,
        };
        self.open(index).held.entry(key).or_insert(fresh);
        true
    }

    fn insert(&mut self, index: usize, key: i32, value: i64) {
        let held = self.open[index].as_ref().unwrap().held.get(&key).cloned();
        let committed = self.latest().get(&key).copied();
        let other = self.holder(key, index);
        let expected = match (&held, other) {
            (Some(held), _) => Expected::Value(held.current()),
            (None, Some(other)) if committed.is_none() || other.is_ending() => Expected::Waits,
            (None, _) => Expected::Value(committed),
        };
        let may_wait = self.maybe_held(key, index);
        let table = Arc::clone(&self.table);
        let row = common::row(&table, key, value);
        let engine = Arc::clone(self.home.engine());
        let inserted = self.open(index).txn.insert(&table, Some(common::key(key)), row);
        let found = match poll_to_lock(&engine, pin!(inserted)) {
            Poll::Pending if may_wait => return,
            Poll::Pending => Expected::Waits,
            Poll::Ready(Ok(InsertOutcome::Taken { .. })) => unreachable!("no index is unique"),
            Poll::Ready(Ok(InsertOutcome::Exists(version))) => {
                Expected::Value(Some(decode(&table, &version.row).1))
            }
            Poll::Ready(Ok(InsertOutcome::Inserted(_))) => Expected::Value(None),
            Poll::Ready(Err(error)) => panic!("{error}"),
        };
        assert_eq!(found, expected, "insert of {key}");
        if found == Expected::Value(None) {
            let fresh = Held {
                base: None,
                now: None,
            };
            self.open(index).held.entry(key).or_insert(fresh).now = Some(Some(value));
        }
    }

    fn visible(&self, index: usize) -> State {
        let open = self.open[index].as_ref().unwrap();
        let mut state = self.history[open.snapshot].state.clone();
        for (key, held) in &open.held {
            match held.now {
                Some(Some(value)) => drop(state.insert(*key, value)),
                Some(None) => drop(state.remove(key)),
                None => {}
            }
        }
        state
    }

    fn check_own_writes(&mut self, index: usize) {
        let table = Arc::clone(&self.table);
        let open = self.open(index);
        let own = open.txn.own_writes(table.def.store).unwrap();
        let mut rows: Vec<(i32, i64)> = own.rows.iter().map(|row| decode(&table, row)).collect();
        rows.sort_unstable();
        let written = open.held.iter().filter(|(_, held)| held.now.is_some());
        let expected: Vec<(i32, i64)> = written
            .clone()
            .filter_map(|(key, held)| Some((*key, held.current()?)))
            .collect();
        let hidden = written.filter(|(_, held)| held.base.is_some()).count();
        // What moved and was rolled back since is written as it was.
        let (own_rows, as_before) = (rows.len(), |(key, value): &(i32, i64)| {
            let open = self.open[index].as_ref().unwrap();
            let may_be_written = match open.held.get(key) {
                Some(held) => held.now.is_none(),
                None => open.maybe_held.contains(key),
            };
            may_be_written && self.latest().get(key) == Some(value)
        });
        rows.retain(|row| !as_before(row));
        assert_eq!(rows, expected);
        assert_eq!(own.hidden.len(), hidden + own_rows - rows.len());
    }

    fn commit(&mut self, index: usize) {
        let Some(open) = self.open[index].take() else {
            return;
        };
        let changes = |held: &Held| held.now.is_some_and(|now| now.is_some() || held.base.is_some());
        let changed: Vec<i32> = open
            .held
            .iter()
            .filter(|(_, held)| changes(held))
            .map(|(key, _)| *key)
            .collect();
        let lsn = open.txn.commit("").unwrap();
        if changed.is_empty() {
            assert!(lsn.is_none() || self.spills);
        } else {
            assert_eq!(lsn, Some(self.home.engine().visible_lsn()));
        }
        let mut state = self.latest().clone();
        for (key, held) in &open.held {
            match held.now {
                Some(Some(value)) => drop(state.insert(*key, value)),
                Some(None) => drop(state.remove(key)),
                None => {}
            }
        }
        let rewritten = open
            .maybe_held
            .iter()
            .copied()
            .chain(open.held.keys().copied())
            .collect();
        let rewritten = if self.spills { rewritten } else { Vec::new() };
        self.history.push(Commit {
            state,
            changed,
            rewritten,
        });
    }

    fn rollback_to(&mut self, index: usize, which: usize) {
        let open = self.open(index);
        let Some((id, saved)) = open.savepoints.get(which).cloned() else {
            return;
        };
        block_on(open.txn.rollback_to(id)).unwrap();
        open.savepoints.truncate(which + 1);
        let after = std::mem::replace(&mut open.held, saved);
        for key in after.into_keys() {
            if !open.held.contains_key(&key) {
                open.maybe_held.push(key);
            }
        }
    }

    fn restart(&mut self, clean: bool) {
        self.open.iter_mut().for_each(|open| *open = None);
        self.table = self.home.create("unused", true);
        let mut txn = self.home.session().begin(Isolation::ReadCommitted);
        block_on(txn.drop_table(&self.table)).unwrap();
        txn.commit("").unwrap();
        match clean {
            true => self.home.restart(),
            false => self.home.restart_at_once(),
        }
        self.table = self.home.table("t");
        let expected: Vec<(i32, i64)> = self.latest().clone().into_iter().collect();
        assert_eq!(self.home.rows(&self.table), expected);
        self.home.check_indexes(&self.table);
    }

    fn step(&mut self, index: usize, repeatable: bool, step: Step) {
        let latest = self.history.len() - 1;
        if let Some(open) = &mut self.open[index] {
            open.txn.statement();
            if !open.repeatable {
                open.snapshot = latest;
            }
        }
        if self.open[index].is_none() {
            let isolation = if repeatable {
                Isolation::RepeatableRead
            } else {
                Isolation::ReadCommitted
            };
            let mut txn = self.home.session().begin(isolation);
            txn.statement();
            let (held, savepoints, maybe_held) = (BTreeMap::new(), Vec::new(), Vec::new());
            self.open[index] = Some(Open {
                txn,
                repeatable,
                snapshot: latest,
                held,
                savepoints,
                maybe_held,
            });
        }
        let table = Arc::clone(&self.table);
        match step {
            Step::Get(key) => {
                let expected = self.visible(index).get(&key).copied();
                assert_eq!(get(&mut self.open(index).txn, &table, key), expected);
            }
            Step::Scan => {
                let expected: Vec<(i32, i64)> = self.visible(index).into_iter().collect();
                assert_eq!(rows(&mut self.open(index).txn, &table), expected);
                let mut by_value: Vec<(i32, i64)> = expected.clone();
                by_value.sort_by_key(|(key, value)| (*value, *key));
                assert_eq!(rows_by_index(&mut self.open(index).txn, &table, 0), by_value);
                let mut cursor = self.open(index).txn.begin_scan(&table, KeyRange::all()).unwrap();
                let batches = std::iter::from_fn(|| {
                    Some(cursor.next_batch(3).unwrap()).filter(|batch| !batch.is_empty())
                });
                let read: Vec<_> = batches
                    .flatten()
                    .map(|(_, version)| decode(&table, &version.row))
                    .collect();
                assert_eq!(read, expected);
                self.check_own_writes(index);
            }
            Step::Insert(key, value) => self.insert(index, key, value),
            Step::Update(key, value) => {
                if self.lock(index, key) {
                    let row = row(&table, key, value);
                    block_on(self.open(index).txn.update(&table, &common::key(key), row)).unwrap();
                    self.open(index).held.get_mut(&key).unwrap().now = Some(Some(value));
                }
            }
            Step::Delete(key) => {
                if self.lock(index, key) {
                    block_on(self.open(index).txn.delete(&table, &common::key(key))).unwrap();
                    self.open(index).held.get_mut(&key).unwrap().now = Some(None);
                }
            }
            Step::Lock(key) => drop(self.lock(index, key)),
            Step::Savepoint => {
                let open = self.open(index);
                let id = open.txn.savepoint().unwrap();
                open.savepoints.push((id, open.held.clone()));
            }
            Step::RollbackTo(which) => self.rollback_to(index, which),
            Step::Release(which) => {
                let open = self.open(index);
                if let Some((id, _)) = open.savepoints.get(which) {
                    open.txn.release(*id).unwrap();
                    open.savepoints.truncate(which);
                }
            }
            Step::Commit => self.commit(index),
            Step::Rollback => drop(self.open[index].take().map(|open| open.txn.rollback())),
            Step::Checkpoint => self.home.checkpoint(),
            Step::Restart => self.restart(repeatable),
        }
    }
}

/// Which session, with which isolation if it begins a transaction now, does what.
type Turn = (usize, bool, Step);

fn run(spills: bool, lives: Vec<Vec<Turn>>) {
    let mut world = World::new(spills);
    for (number, turns) in lives.into_iter().enumerate() {
        for (index, repeatable, step) in turns {
            world.step(index, repeatable, step);
        }
        world.step(0, number % 2 == 0, Step::Restart);
    }
    let table = Arc::clone(&world.table);
    world.home.check_replica(&table);
    world.home.check_indexes(&table);
}

/// What happens between restarts.
fn lives() -> impl Strategy<Value = Vec<Vec<Turn>>> {
    let turn = (0..SESSIONS, any::<bool>(), step());
    proptest::collection::vec(proptest::collection::vec(turn, 1..250), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn interleaved_transactions_agree_with_the_model(lives in lives()) {
        run(false, lives);
    }

    #[test]
    fn writing_ahead_changes_nothing_that_anyone_can_see(lives in lives()) {
        run(true, lives);
    }
}
