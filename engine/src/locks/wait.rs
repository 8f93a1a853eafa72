//! The wait table: queues of waiters, hand-over, deadlocks.
//!
//! Lock order: the wait table's mutex, then a row's or a table's mutex, then a waiter's. Wakers are called when all
//! of them are released.
//!
//! Invariants:
//! - a queued waiter is in exactly one queue, and its lock is marked contended;
//! - a granted waiter owns the lock before it wakes; if its future is dropped first, the lock passes on, and a
//!   holder that wanted more than it had is left with what it had;
//! - following owners from any waiter never leads back to it.

use super::{Holder, Mode, TableLock};
use crate::error::Error;
use crate::key::Key;
use crate::store::Store;
use crate::store::entry::RowEntry;
use parking_lot::Mutex;
use scry_wal::TxnId;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A row together with where it stands, so that one of which nothing is left can be taken out of the map.
#[derive(Clone)]
pub(crate) struct RowRef {
    pub(crate) store: Arc<Store>,
    pub(crate) key: Key,
    pub(crate) entry: Arc<RowEntry>,
}

/// What is asked for.
#[derive(Clone)]
pub(crate) enum Request {
    Row {
        row: RowRef,
        slot: u32,
    },
    Table {
        lock: Arc<TableLock>,
        mode: Mode,
    },
    /// That none of `those` has the lock any more; who asks gets nothing.
    Departure {
        lock: Arc<TableLock>,
        those: Vec<Arc<Holder>>,
    },
}

/// The answer to a request.
pub(crate) enum Outcome<'a> {
    Granted,
    /// The row left the memtable: look it up again.
    Gone,
    Wait(Wait<'a>),
}

pub(crate) struct WaitTable {
    inner: Mutex<Inner>,
    waiters_max: usize,
}

#[derive(Default)]
struct Inner {
    /// By the address of the row entry or table lock, which the waiters keep alive.
    queues: HashMap<usize, VecDeque<Arc<Waiter>>>,
    waiting: HashMap<TxnId, Arc<Waiter>>,
}

struct Waiter {
    holder: Arc<Holder>,
    request: Request,
    /// The holder has the table's lock shared already, and keeps that whatever becomes of this wait.
    upgrade: bool,
    state: Mutex<WaiterState>,
}

#[derive(Default)]
struct WaiterState {
    granted: bool,
    waker: Option<Waker>,
}

impl Request {
    fn address(&self) -> usize {
        match self {
            Request::Row { row, .. } => Arc::as_ptr(&row.entry) as usize,
            Request::Table { lock, .. } => Arc::as_ptr(lock) as usize,
            Request::Departure { lock, .. } => departures(lock),
        }
    }

    /// Whoever has what is asked for, but for the asker.
    fn holders(&self, asker: &Arc<Holder>) -> Vec<Arc<Holder>> {
        match self {
            Request::Row { row, .. } => row.entry.lock().owner().cloned().into_iter().collect(),
            Request::Table { lock, .. } => lock.others(asker),
            Request::Departure { lock, those } => {
                let mut left = lock.others(asker);
                left.retain(|holder| those.iter().any(|other| Arc::ptr_eq(other, holder)));
                left
            }
        }
    }
}

/// The address under which those queue who wait for holders of a table's lock to leave: within the lock, and not its own.
fn departures(lock: &Arc<TableLock>) -> usize {
    Arc::as_ptr(lock) as usize + 1
}

impl WaitTable {
    pub(crate) fn new(waiters_max: usize) -> WaitTable {
        WaitTable {
            inner: Mutex::default(),
            waiters_max,
        }
    }

    /// Asks for a lock that was not free a moment ago.
    pub(crate) fn request(&self, holder: &Arc<Holder>, request: Request) -> Result<Outcome<'_>, Error> {
        let mut inner = self.inner.lock();
        let address = request.address();
        // Whoever holds a table shared and asks for it exclusively goes before those who wait for it to let go.
        let mut upgrade = false;
        match &request {
            Request::Row { row, slot } => {
                let mut state = row.entry.lock();
                if state.is_dead() {
                    return Ok(Outcome::Gone);
                }
                if state.owner().is_none() {
                    state.set_owner(Arc::clone(holder), *slot);
                    return Ok(Outcome::Granted);
                }
                state.contended = true;
            }
            Request::Table { lock, mode } => {
                upgrade = lock.is_held_by(holder);
                let overtakes = inner.queues.contains_key(&address) && !upgrade;
                if !overtakes && lock.grant_or_contend(holder, *mode) {
                    return Ok(Outcome::Granted);
                }
                lock.set_contended(true);
            }
            Request::Departure { lock, .. } => {
                // From here on who leaves tells; who left before is not among the holders.
                lock.set_watched(true);
                if request.holders(holder).is_empty() {
                    return Ok(Outcome::Granted);
                }
            }
        }
        if inner.waiting.len() >= self.waiters_max {
            return Err(Error::TooManyWaiters {
                limit: self.waiters_max,
            });
        }
        if inner.closes_a_circle(holder, &request) {
            let waiting_for = match &request {
                Request::Row { row, .. } => format!("a row of store {}", row.store.id),
                Request::Table { .. } | Request::Departure { .. } => "a table".to_owned(),
            };
            return Err(Error::Deadlock { waiting_for });
        }
        let waiter = Arc::new(Waiter {
            holder: Arc::clone(holder),
            request,
            upgrade,
            state: Mutex::default(),
        });
        let queue = inner.queues.entry(address).or_default();
        if upgrade {
            queue.push_front(Arc::clone(&waiter));
        } else {
            queue.push_back(Arc::clone(&waiter));
        }
        inner.waiting.insert(holder.id(), Arc::clone(&waiter));
        Ok(Outcome::Wait(Wait {
            table: self,
            waiter,
            finished: false,
        }))
    }

    /// Gives a row lock back.
    pub(crate) fn release_row(&self, row: &RowRef) {
        let mut state = row.entry.lock();
        if state.contended {
            drop(state);
            self.pass_row_on(row);
        } else if state.clear_owner() {
            drop(state);
            row.store.remove(&row.key, &row.entry);
        }
    }

    /// Gives a contended row lock to the first in its queue.
    pub(crate) fn pass_row_on(&self, row: &RowRef) {
        let mut inner = self.inner.lock();
        let next = inner.next_in_queue(Arc::as_ptr(&row.entry) as usize);
        let mut state = row.entry.lock();
        let mut waker = None;
        let mut died = false;
        match next {
            Some((waiter, more)) => {
                if let Request::Row { slot, .. } = &waiter.request {
                    state.set_owner(Arc::clone(&waiter.holder), *slot);
                }
                state.contended = more;
                waker = waiter.grant();
            }
            None => {
                state.contended = false;
                died = state.clear_owner();
            }
        }
        drop(state);
        drop(inner);
        if died {
            row.store.remove(&row.key, &row.entry);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Gives a table lock back.
    pub(crate) fn release_table(&self, lock: &Arc<TableLock>, holder: &Arc<Holder>) {
        if lock.unlock(holder) {
            self.serve(lock);
        }
    }

    fn serve(&self, lock: &Arc<TableLock>) {
        let wakers = self.inner.lock().serve_table(lock);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A waiter's future was dropped before it was answered.
    fn abandon(&self, waiter: &Arc<Waiter>) {
        let mut inner = self.inner.lock();
        if !waiter.state.lock().granted {
            let address = waiter.request.address();
            inner.waiting.remove(&waiter.holder.id());
            if let Entry::Occupied(mut queue) = inner.queues.entry(address) {
                queue.get_mut().retain(|other| !Arc::ptr_eq(other, waiter));
                if queue.get().is_empty() {
                    queue.remove();
                }
            }
            // Those behind an exclusive waiter may be served now that it left.
            if let Request::Table { lock, .. } = &waiter.request {
                let wakers = inner.serve_table(lock);
                drop(inner);
                wakers.into_iter().for_each(Waker::wake);
            }
            return;
        }
        drop(inner);
        match &waiter.request {
            Request::Row { row, .. } => self.release_row(row),
            Request::Table { lock, .. } if waiter.upgrade => {
                if lock.downgrade(&waiter.holder) {
                    self.serve(lock);
                }
            }
            Request::Table { lock, .. } => self.release_table(lock, &waiter.holder),
            Request::Departure { .. } => {}
        }
    }

    #[cfg(test)]
    pub(crate) fn waiters(&self) -> usize {
        let inner = self.inner.lock();
        let queued: usize = inner.queues.values().map(VecDeque::len).sum();
        assert_eq!(queued, inner.waiting.len());
        queued
    }
}

impl Inner {
    /// Takes the first waiter out of a queue; with it, whether more are left.
    fn next_in_queue(&mut self, address: usize) -> Option<(Arc<Waiter>, bool)> {
        let Entry::Occupied(mut queue) = self.queues.entry(address) else {
            return None;
        };
        let waiter = queue.get_mut().pop_front();
        let more = !queue.get().is_empty();
        if !more {
            queue.remove();
        }
        let waiter = waiter?;
        self.waiting.remove(&waiter.holder.id());
        Some((waiter, more))
    }

    /// Grants a table lock to as many from the head of its queue as can have it together.
    fn serve_table(&mut self, lock: &Arc<TableLock>) -> Vec<Waker> {
        let address = Arc::as_ptr(lock) as usize;
        let mut wakers = self.serve_departures(lock);
        while let Some(first) = self.queues.get(&address).and_then(VecDeque::front) {
            let Request::Table { mode, .. } = &first.request else {
                break;
            };
            if !lock.grant_or_contend(&first.holder, *mode) {
                return wakers;
            }
            if let Some((waiter, _)) = self.next_in_queue(address) {
                wakers.extend(waiter.grant());
            }
        }
        lock.set_contended(false);
        wakers
    }

    /// Lets those go on whose holders have left.
    fn serve_departures(&mut self, lock: &Arc<TableLock>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let Entry::Occupied(mut queue) = self.queues.entry(departures(lock)) else {
            lock.set_watched(false);
            return wakers;
        };
        let waiting = &mut self.waiting;
        queue.get_mut().retain(|waiter| {
            let stays = !waiter.request.holders(&waiter.holder).is_empty();
            if !stays {
                waiting.remove(&waiter.holder.id());
                wakers.extend(waiter.grant());
            }
            stays
        });
        if queue.get().is_empty() {
            queue.remove();
            lock.set_watched(false);
        }
        wakers
    }

    /// Whether the holders of what is asked for wait, directly or through others, for the asker.
    ///
    /// Waiters in front of the asker need no look: each of them waits for the same holders and for nothing else.
    fn closes_a_circle(&self, asker: &Arc<Holder>, request: &Request) -> bool {
        let mut seen = HashSet::new();
        let mut ahead = request.holders(asker);
        while let Some(holder) = ahead.pop() {
            if Arc::ptr_eq(&holder, asker) {
                return true;
            }
            if let Some(waiter) = self.waiting.get(&holder.id())
                && seen.insert(holder.id())
            {
                ahead.extend(waiter.request.holders(&holder));
            }
        }
        false
    }
}

impl Waiter {
    fn grant(&self) -> Option<Waker> {
        let mut state = self.state.lock();
        state.granted = true;
        state.waker.take()
    }
}

/// Ready when the lock is the waiter's. Dropped before that, it leaves the queue; if the lock was granted in the
/// meantime, it passes on.
pub(crate) struct Wait<'a> {
    table: &'a WaitTable,
    waiter: Arc<Waiter>,
    finished: bool,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.waiter.state.lock();
        if !state.granted {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.finished = true;
        Poll::Ready(())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.table.abandon(&self.waiter);
        }
    }
}
