//! Who is connected: the bound on sessions, the keys of cancel requests, and the way to stop them all.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use scry_sql::CancelHandle;

/// One connection's stop flag. The connection looks at it between messages, so nothing on the way
/// of a statement waits for two things at once.
#[derive(Debug, Default)]
pub struct Control {
    /// The server stops: a statement that is cancelled now is cancelled for that.
    ending: AtomicBool,
    stopping: AtomicBool,
    /// A statement waits for something: a lock, the disk, a query's workers.
    working: AtomicBool,
    /// It waited already when somebody last came round.
    waited: AtomicBool,
    /// It has waited so long that the connection should look whether its client is still there.
    look: AtomicBool,
    waker: AtomicWaker,
}

impl Control {
    /// Asks the connection to end before its next message.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// A statement goes on waiting: `waker` is woken when it is time to look for the client. True when that is now.
    pub fn poll_work(&self, waker: &Waker) -> bool {
        if !self.working.swap(true, Ordering::AcqRel) {
            self.waited.store(false, Ordering::Release);
            self.look.store(false, Ordering::Release);
        }
        self.waker.register(waker);
        self.look.swap(false, Ordering::AcqRel)
    }

    /// The statement waits no longer.
    pub fn end_work(&self) {
        self.working.store(false, Ordering::Release);
    }

    /// Called from time to time; who waits at two calls in a row is told to look.
    fn come_round(&self) {
        if self.working.load(Ordering::Acquire) && self.waited.swap(true, Ordering::AcqRel) {
            self.look.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    /// True when stopping; otherwise `waker` is woken when that changes.
    pub fn poll_stopping(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.stopping()
    }
}

/// What a client must show to cancel a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub pid: i32,
    pub secret: u32,
}

struct Entry {
    secret: u32,
    cancel: CancelHandle,
    control: Arc<Control>,
}

/// All sessions of the server, at most `sessions_max`.
pub struct Registry {
    sessions_max: usize,
    random: Mutex<File>,
    sessions: Mutex<HashMap<i32, Option<Entry>>>,
}

impl Registry {
    pub fn new(sessions_max: usize) -> io::Result<Self> {
        Ok(Self {
            sessions_max,
            random: Mutex::new(File::open("/dev/urandom")?),
            sessions: Mutex::new(HashMap::new()),
        })
    }

    /// Takes a place under an unused random pid; `None` when all are taken.
    pub fn enter(self: &Arc<Self>) -> io::Result<Option<Place>> {
        loop {
            let key = self.random_key()?;
            let mut sessions = self.sessions.lock();
            if sessions.len() >= self.sessions_max {
                return Ok(None);
            }
            if let std::collections::hash_map::Entry::Vacant(vacant) = sessions.entry(key.pid) {
                vacant.insert(None);
                return Ok(Some(Place {
                    registry: self.clone(),
                    key,
                }));
            }
        }
    }

    /// Cancels what the owner of `key` runs. Says nothing about success, as the protocol demands.
    pub fn cancel(&self, key: Key) {
        let sessions = self.sessions.lock();
        if let Some(Some(entry)) = sessions.get(&key.pid)
            && same(entry.secret, key.secret)
        {
            entry.cancel.cancel();
        }
    }

    /// Asks every session to end: busy ones by cancelling their statement, idle ones at once. All
    /// are cancelled before the first ends, so that no statement runs on because another session's
    /// end has freed its lock.
    pub fn stop_all(&self) {
        let sessions = self.sessions.lock();
        let entries = || sessions.values().flatten();
        entries().for_each(|entry| {
            entry.control.ending.store(true, Ordering::Release);
            entry.cancel.cancel();
        });
        entries().for_each(|entry| entry.control.stop());
    }

    /// Sends those whose statements take long to look for their clients.
    pub fn come_round(&self) {
        let sessions = self.sessions.lock();
        sessions
            .values()
            .flatten()
            .for_each(|entry| entry.control.come_round());
    }

    pub fn sessions(&self) -> usize {
        self.sessions.lock().len()
    }

    fn random_key(&self) -> io::Result<Key> {
        let mut bytes = [0; 8];
        self.random.lock().read_exact(&mut bytes)?;
        let [a, b, c, d, secret @ ..] = bytes;
        let pid = i32::from_be_bytes([a, b, c, d]) & i32::MAX;
        Ok(Key {
            pid: pid.max(1),
            secret: u32::from_be_bytes(secret),
        })
    }
}

/// Compares without a branch on the secret's bits.
fn same(a: u32, b: u32) -> bool {
    std::hint::black_box(a ^ b) == 0
}

/// A session's place in the registry, given back on drop.
pub struct Place {
    registry: Arc<Registry>,
    key: Key,
}

impl Place {
    pub fn key(&self) -> Key {
        self.key
    }

    /// From now on the session can be cancelled and stopped.
    pub fn announce(&self, cancel: CancelHandle, control: Arc<Control>) {
        let entry = Entry {
            secret: self.key.secret,
            cancel,
            control,
        };
        self.registry.sessions.lock().insert(self.key.pid, Some(entry));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.sessions.lock().remove(&self.key.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_distinct_and_given_back() {
        let registry = Arc::new(Registry::new(2).expect("random source"));
        let first = registry.enter().expect("random").expect("a free place");
        let second = registry.enter().expect("random").expect("a free place");
        assert_ne!(first.key().pid, second.key().pid);
        assert!(first.key().pid > 0);
        assert!(registry.enter().expect("random").is_none());
        drop(first);
        assert!(registry.enter().expect("random").is_some());
    }

    #[test]
    fn who_waits_at_two_rounds_is_sent_to_look_and_nobody_else() {
        let control = Control::default();
        let rounds = |count| (0..count).for_each(|_| control.come_round());
        rounds(2);
        assert!(!control.poll_work(Waker::noop()), "nothing was at work");
        rounds(1);
        assert!(!control.poll_work(Waker::noop()), "only since the last round");
        rounds(1);
        assert!(control.poll_work(Waker::noop()));
        assert!(!control.poll_work(Waker::noop()), "once a round");
        control.end_work();
        rounds(2);
        assert!(
            !control.poll_work(Waker::noop()),
            "the next statement begins anew"
        );
    }

    #[test]
    fn stopping_reaches_a_session_that_was_announced() {
        let registry = Arc::new(Registry::new(1).expect("random source"));
        let place = registry.enter().expect("random").expect("a free place");
        let control = Arc::new(Control::default());
        place.announce(CancelHandle::default(), control.clone());
        assert!(!control.poll_stopping(Waker::noop()));
        registry.stop_all();
        assert!(control.poll_stopping(Waker::noop()));
    }
}
