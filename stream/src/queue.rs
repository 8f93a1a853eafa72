//! The replay queue: jobs dealt by ticket, results released in ticket order, bounded in bytes.
//!
//! Invariants: results come out in the order in which their jobs were dealt, whatever the order of completion; the weight of the
//! jobs that are dealt and not yet released stays below the bound (a single heavier job goes alone). The oldest
//! job always has its room already, so the queue cannot jam. Nothing here ever waits on the log's writers: when the queue is
//! full the dealer waits, and the log keeps what has not been read.

use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A place in the order of release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

pub(crate) struct Queue<J, R> {
    state: Mutex<State<J, R>>,
    bytes_max: usize,
    waiting_max: usize,
    /// A job waits, or the queue is closed.
    work: Condvar,
    /// There is room for a job, or the queue is closed.
    room: Condvar,
    /// The next result in order is there, or the queue is closed.
    ready: Condvar,
}

struct State<J, R> {
    dealt: u64,
    released: u64,
    bytes: usize,
    jobs: VecDeque<(Ticket, J)>,
    results: BTreeMap<Ticket, (usize, R)>,
    weights: VecDeque<usize>,
    closed: bool,
}

impl<J, R> Queue<J, R> {
    /// A queue that holds at most `bytes_max` of dealt and unreleased weight, and `waiting_max` jobs that nobody has
    /// taken yet.
    pub fn new(bytes_max: usize, waiting_max: usize) -> Self {
        let state = State {
            dealt: 0,
            released: 0,
            bytes: 0,
            jobs: VecDeque::new(),
            results: BTreeMap::new(),
            weights: VecDeque::new(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            bytes_max,
            waiting_max,
            work: Condvar::new(),
            room: Condvar::new(),
            ready: Condvar::new(),
        }
    }

    /// Waits until a job can be dealt. False when the queue is closed.
    pub fn wait_for_room(&self) -> bool {
        let mut state = self.state.lock();
        while !state.closed && (state.bytes >= self.bytes_max || state.jobs.len() >= self.waiting_max) {
            self.room.wait(&mut state);
        }
        !state.closed
    }

    /// Deals a job, after waiting until its weight fits. False when the queue is closed.
    pub fn deal(&self, weight: usize, job: J) -> bool {
        let mut state = self.state.lock();
        while !state.closed && state.bytes > 0 && state.bytes + weight > self.bytes_max {
            self.room.wait(&mut state);
        }
        if state.closed {
            return false;
        }
        let ticket = Ticket(state.dealt);
        state.dealt += 1;
        state.bytes += weight;
        state.weights.push_back(weight);
        state.jobs.push_back((ticket, job));
        drop(state);
        self.work.notify_one();
        true
    }

    /// Takes the oldest job that nobody has taken. `None` when the queue is closed.
    pub fn take(&self) -> Option<(Ticket, J)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                self.room.notify_one();
                return Some(job);
            }
            self.work.wait(&mut state);
        }
    }

    /// Puts a result back at its place.
    pub fn put(&self, ticket: Ticket, result: R) {
        let mut state = self.state.lock();
        let weight = state
            .weights
            .get((ticket.0 - state.released) as usize)
            .copied()
            .unwrap_or(0);
        let before = state.results.insert(ticket, (weight, result));
        assert!(before.is_none(), "a ticket is put back once");
        let next = ticket.0 == state.released;
        drop(state);
        if next {
            self.ready.notify_one();
        }
    }

    /// Deals a job and its result in one: for what needs no extractor, such as the error that ends the log.
    pub fn finish(&self, result: R) {
        let mut state = self.state.lock();
        let ticket = Ticket(state.dealt);
        state.dealt += 1;
        state.weights.push_back(0);
        state.results.insert(ticket, (0, result));
        drop(state);
        self.ready.notify_one();
    }

    /// Moves the results that are next in order to `into`, up to `bytes_max` of weight, waiting for the first of them for
    /// at most `timeout`. False when the queue is closed.
    pub fn release(&self, timeout: Duration, bytes_max: usize, into: &mut Vec<R>) -> bool {
        let mut state = self.state.lock();
        let next = |state: &State<J, R>| state.results.contains_key(&Ticket(state.released));
        if !state.closed && !next(&state) {
            self.ready
                .wait_while_for(&mut state, |state| !state.closed && !next(state), timeout);
        }
        if state.closed {
            return false;
        }
        let mut taken = 0;
        while taken < bytes_max || into.is_empty() {
            let ticket = Ticket(state.released);
            let Some((weight, result)) = state.results.remove(&ticket) else {
                break;
            };
            state.released += 1;
            state.weights.pop_front();
            state.bytes -= weight;
            taken += weight;
            into.push(result);
        }
        drop(state);
        if taken > 0 {
            self.room.notify_one();
        }
        true
    }

    /// Wakes everybody up for good.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        self.ready.notify_all();
    }
}
