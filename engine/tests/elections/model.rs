//! A database with elections as a naive model: maps of rows, and the numbers of changes in the place of ordinals.

use crate::common::*;
use crate::kit::*;
use proptest::prelude::*;
use scry_engine::election::OnConflict;
use scry_engine::*;
use std::collections::{BTreeMap, BTreeSet};

pub type State = BTreeMap<i32, i64>;

/// A row's value and the number of the change that gave it; of a missing row, of the change that took it away.
pub type Versions = BTreeMap<i32, (Option<i64>, u64)>;

/// The table's rules.
#[derive(Clone, Copy, Debug)]
pub enum Ruled {
    Not,
    Proposed,
    Present,
    /// Differences are added; missing rows are inserted, and existing ones updated.
    Add,
}

/// What the rules make of a row: refused, deferred, or a value or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Refused,
    Deferred,
    Leaves(Option<i64>),
}

/// What a candidate proposes for a key.
#[derive(Clone, Copy, Debug)]
struct Proposed {
    value: Option<i64>,
    /// The row that it found, and the number of the change that gave it.
    found: Option<(i64, u64)>,
}

#[derive(Clone, Debug)]
struct Candidate {
    state: CandidateState,
    base: Versions,
    proposals: BTreeMap<i32, Proposed>,
    /// Another one after each rebase.
    life: u64,
}

#[derive(Clone, Debug)]
struct Election {
    winners: u32,
    state: ElectionState,
    resolved: u64,
    deferred: u64,
    base: Versions,
    candidates: BTreeMap<String, Candidate>,
}

#[derive(Clone, Debug)]
pub struct Database {
    rules: Ruled,
    present: Versions,
    elections: BTreeMap<String, Election>,
    /// Keys of the rows that elections have deferred.
    queue: Vec<i32>,
    /// Numbers changes and lives of candidates.
    changes: u64,
}

/// What anybody can see of a database.
#[derive(Debug, PartialEq)]
pub struct Seen {
    present: State,
    queue: Vec<i32>,
    elections: BTreeMap<String, SeenElection>,
}

#[derive(Debug, PartialEq)]
struct SeenElection {
    winners: u32,
    state: ElectionState,
    resolved: u64,
    deferred: u64,
    candidates: BTreeMap<String, (CandidateState, Option<State>)>,
}

fn live(versions: &Versions, key: i32) -> Option<(i64, u64)> {
    let (value, change) = versions.get(&key)?;
    Some(((*value)?, *change))
}

fn rows_of(versions: &Versions) -> State {
    let live = |(key, (value, _)): (&i32, &(Option<i64>, u64))| Some((*key, (*value)?));
    versions.iter().filter_map(live).collect()
}

impl Candidate {
    fn future(&self) -> State {
        let mut state = rows_of(&self.base);
        for (key, proposed) in &self.proposals {
            match proposed.value {
                Some(value) => state.insert(*key, value),
                None => state.remove(key),
            };
        }
        state
    }

    fn propose(&mut self, key: i32, value: Option<i64>) {
        let known = self.proposals.get(&key).copied();
        let found = known.map_or_else(|| live(&self.base, key), |known| known.found);
        let exists = match known {
            Some(known) => known.value.is_some(),
            None => found.is_some(),
        };
        match (value, found) {
            (Some(_), _) | (None, Some(_)) if exists || value.is_some() => {
                self.proposals.insert(key, Proposed { value, found });
            }
            (None, None) if exists => {
                // A row that a rebase brought below the candidate's own is to be gone, too.
                match live(&self.base, key) {
                    None => self.proposals.remove(&key),
                    found => self.proposals.insert(key, Proposed { value, found }),
                };
            }
            _ => {}
        }
    }

    /// Nothing is left of a candidate that has ended but that it was there.
    fn end(&mut self, state: CandidateState) {
        self.state = state;
        self.base = Versions::new();
        self.proposals = BTreeMap::new();
    }
}

impl Election {
    fn end(&mut self, state: ElectionState) {
        self.state = state;
        for candidate in self.candidates.values_mut() {
            if candidate.state == CandidateState::Open {
                candidate.end(CandidateState::Dropped);
            }
        }
    }

    fn is_open(&self) -> bool {
        self.state == ElectionState::Open
    }

    fn count(&mut self, collisions: &BTreeMap<i32, Expected>) {
        for found in collisions.values() {
            match found {
                Expected::Deferred => self.deferred += 1,
                Expected::Leaves(_) => self.resolved += 1,
                Expected::Refused => unreachable!("nothing is changed then"),
            }
        }
    }
}

impl Database {
    /// One table with these rows.
    pub fn new(rules: Ruled, rows: &State) -> Database {
        Database {
            rules,
            present: rows
                .iter()
                .map(|(key, value)| (*key, (Some(*value), 0)))
                .collect(),
            elections: BTreeMap::new(),
            queue: Vec::new(),
            changes: 0,
        }
    }

    pub fn seen(&self) -> Seen {
        let candidate = |candidate: &Candidate| {
            let is_open = candidate.state == CandidateState::Open;
            (candidate.state, is_open.then(|| candidate.future()))
        };
        let elections = self.elections.iter().map(|(name, election)| {
            let candidates = election.candidates.iter();
            let seen = SeenElection {
                winners: election.winners,
                state: election.state,
                resolved: election.resolved,
                deferred: election.deferred,
                candidates: candidates
                    .map(|(name, known)| (name.clone(), candidate(known)))
                    .collect(),
            };
            (name.clone(), seen)
        });
        Seen {
            present: self.present(),
            queue: self.queue.clone(),
            elections: elections.collect(),
        }
    }

    pub fn present(&self) -> State {
        rows_of(&self.present)
    }

    /// How many rows were deferred so far.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    fn open(&self, election: &str, candidate: &str) -> Option<&Candidate> {
        let election = self
            .elections
            .get(election)
            .filter(|election| election.is_open())?;
        let known = election.candidates.get(candidate)?;
        (known.state == CandidateState::Open).then_some(known)
    }

    fn open_mut(&mut self, election: &str, candidate: &str) -> &mut Candidate {
        let election = self.elections.get_mut(election).unwrap();
        election.candidates.get_mut(candidate).unwrap()
    }

    /// What identifies an open candidate on one of its bases.
    pub fn life(&self, election: &str, candidate: &str) -> Option<u64> {
        Some(self.open(election, candidate)?.life)
    }

    pub fn future(&self, election: &str, candidate: &str) -> Option<State> {
        Some(self.open(election, candidate)?.future())
    }

    /// An ordinary change of a key.
    pub fn put(&mut self, key: i32, value: Option<i64>) {
        self.changes += 1;
        let found = self.present.entry(key).or_default();
        // Deleting nothing changes nothing.
        if value.is_some() || found.0.is_some() {
            *found = (value, self.changes);
        }
    }

    /// False when there is an open one of this name.
    pub fn create_election(&mut self, name: &str, winners: u32) -> bool {
        if self.elections.get(name).is_some_and(Election::is_open) {
            return false;
        }
        let election = Election {
            winners,
            state: ElectionState::Open,
            resolved: 0,
            deferred: 0,
            base: self.present.clone(),
            candidates: BTreeMap::new(),
        };
        self.elections.insert(name.to_owned(), election);
        true
    }

    /// False when the election is not open or has one of this name that was not dropped.
    pub fn create_candidate(&mut self, election: &str, name: &str) -> bool {
        self.changes += 1;
        let Some(election) = self.elections.get_mut(election).filter(|known| known.is_open()) else {
            return false;
        };
        let known = election.candidates.get(name);
        if known.is_some_and(|known| known.state != CandidateState::Dropped) {
            return false;
        }
        let candidate = Candidate {
            state: CandidateState::Open,
            base: election.base.clone(),
            proposals: BTreeMap::new(),
            life: self.changes,
        };
        election.candidates.insert(name.to_owned(), candidate);
        true
    }

    pub fn propose(&mut self, election: &str, candidate: &str, key: i32, value: Option<i64>) {
        self.open_mut(election, candidate).propose(key, value);
    }

    fn expected(&self, how: OnConflict, key: i32, proposed: Proposed) -> Expected {
        let before = proposed.found.map(|(value, _)| value);
        let present = live(&self.present, key).map(|(value, _)| value);
        let proposed = proposed.value;
        match (how, self.rules) {
            (OnConflict::Fail, _) | (OnConflict::Resolve, Ruled::Not) => Expected::Refused,
            (OnConflict::Defer, _) => Expected::Deferred,
            _ if present == proposed => Expected::Leaves(present),
            (_, Ruled::Proposed) => Expected::Leaves(proposed),
            (_, Ruled::Present) => Expected::Leaves(present),
            (_, Ruled::Add) => match (before, present, proposed) {
                (_, None, proposed) => Expected::Leaves(proposed),
                (Some(before), Some(present), Some(proposed)) => {
                    Expected::Leaves(Some(present + proposed - before))
                }
                _ => Expected::Refused,
            },
        }
    }

    /// The proposals of a candidate that are not upon the present, with what is to become of them. The error is the number
    /// of those that stop it.
    fn collisions(
        &self,
        proposals: &BTreeMap<i32, Proposed>,
        how: OnConflict,
    ) -> Result<BTreeMap<i32, Expected>, usize> {
        let collided = proposals
            .iter()
            .filter(|(key, proposed)| live(&self.present, **key) != proposed.found);
        let decided: BTreeMap<_, _> = collided
            .map(|(key, proposed)| (*key, self.expected(how, *key, *proposed)))
            .collect();
        let refused = decided.values().filter(|found| **found == Expected::Refused);
        match refused.count() {
            0 => Ok(decided),
            refused => Err(refused),
        }
    }

    /// Elects an open candidate. Answers the number of collisions; the error is the number of those that stop it.
    pub fn elect(&mut self, election: &str, name: &str, how: OnConflict) -> Result<usize, usize> {
        let proposals = self.open_mut(election, name).proposals.clone();
        let collisions = self.collisions(&proposals, how)?;
        for (key, proposed) in proposals {
            match collisions.get(&key) {
                None => self.put(key, proposed.value),
                Some(Expected::Leaves(value))
                    if *value != live(&self.present, key).map(|(value, _)| value) =>
                {
                    self.put(key, *value);
                }
                Some(Expected::Deferred) => self.queue.push(key),
                Some(_) => {}
            }
        }
        self.open_mut(election, name).end(CandidateState::Elected);
        let election = self.elections.get_mut(election).unwrap();
        election.count(&collisions);
        let elected = election.candidates.values();
        let elected = elected.filter(|candidate| candidate.state == CandidateState::Elected);
        if election.winners != 0 && elected.count() >= election.winners as usize {
            election.end(ElectionState::Committed);
        }
        Ok(collisions.len())
    }

    /// Rebases an open candidate. Answers as `elect` does.
    pub fn rebase(&mut self, election: &str, name: &str, how: OnConflict) -> Result<usize, usize> {
        self.changes += 1;
        let mut proposals = self.open_mut(election, name).proposals.clone();
        let collisions = self.collisions(&proposals, how)?;
        for (key, found) in &collisions {
            let Expected::Leaves(value) = *found else { continue };
            let found = live(&self.present, *key);
            match value == found.map(|(value, _)| value) {
                true => proposals.remove(key),
                false => proposals.insert(*key, Proposed { value, found }),
            };
        }
        let (base, life) = (self.present.clone(), self.changes);
        let candidate = self.open_mut(election, name);
        (candidate.proposals, candidate.base, candidate.life) = (proposals, base, life);
        self.elections.get_mut(election).unwrap().count(&collisions);
        Ok(collisions.len())
    }

    /// False when it is not open.
    pub fn drop_candidate(&mut self, election: &str, name: &str) -> bool {
        if self.open(election, name).is_none() {
            return false;
        }
        self.open_mut(election, name).end(CandidateState::Dropped);
        true
    }

    /// False when there is none.
    pub fn drop_election(&mut self, name: &str) -> bool {
        self.elections.remove(name).is_some()
    }
}

impl Seen {
    /// What an engine shows of the tables "t" and "queue".
    pub fn of(home: &Home) -> Seen {
        let catalog = home.engine().catalog();
        let table = home.table("t");
        let elections = catalog.elections().iter().map(|election| {
            let candidates = election.candidates().map(|candidate| {
                let is_open = candidate.state == CandidateState::Open;
                let future = is_open.then(|| rows_in(home, &election.name, &candidate.name, &table));
                let future = future.map(|rows| rows.into_iter().collect());
                (candidate.name.clone(), (candidate.state, future))
            });
            let seen = SeenElection {
                winners: election.winners,
                state: election.state,
                resolved: election.resolved,
                deferred: election.deferred,
                candidates: candidates.collect(),
            };
            (election.name.clone(), seen)
        });
        let queue = home.rows(&home.table("queue"));
        let numbers = BTreeSet::from_iter(queue.iter().map(|(number, _)| *number));
        assert!(numbers.into_iter().eq(0..queue.len() as i32));
        Seen {
            present: home.rows(&table).into_iter().collect(),
            queue: queue
                .iter()
                .map(|(_, key)| i32::try_from(*key).unwrap())
                .collect(),
            elections: elections.collect(),
        }
    }
}

pub fn on_conflict() -> impl Strategy<Value = OnConflict> {
    prop_oneof![
        Just(OnConflict::Fail),
        Just(OnConflict::Defer),
        Just(OnConflict::Resolve)
    ]
}

pub fn ruled() -> impl Strategy<Value = Ruled> {
    prop_oneof![
        Just(Ruled::Not),
        Just(Ruled::Proposed),
        Just(Ruled::Present),
        Just(Ruled::Add)
    ]
}

/// A home with the rows 0 to 4 and an empty queue, and its model.
pub fn begin(home: Home, rules: Ruled) -> (Home, Database) {
    home.create("queue", true);
    let table = home.create("t", true);
    let rows: State = (0..5).map(|id| (id, i64::from(id))).collect();
    for (id, value) in &rows {
        home.put(&table, *id, *value);
    }
    match rules {
        Ruled::Not => {}
        Ruled::Proposed => set_rules(&home, "proposed", "", ""),
        Ruled::Present => set_rules(&home, "present", "", ""),
        Ruled::Add => set_rules(
            &home,
            "",
            "add",
            "insert_as_update, update_as_insert, ignore_missing",
        ),
    }
    (home, Database::new(rules, &rows))
}
