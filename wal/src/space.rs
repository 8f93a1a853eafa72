//! Room ahead: a thread of its own prepares the next segment before it is needed.
//!
//! Invariants:
//! - the log appends only into segments that are prepared: a full disk is met here, where refusing loses nothing, and
//!   never by a write that somebody waits for;
//! - while the log appends to one segment the next one is wanted; no more than that is prepared;
//! - a spare becomes the next segment before a new file is made.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::durability::Fate;
use crate::error::Error;
use crate::format::{Geometry, segment_name};
use crate::storage::Storage;

/// How long after a failure the next attempt is made: quick enough for a person who has just deleted something.
const RETRY: Duration = Duration::from_millis(250);

/// Segments that were recycled and wait to become others. At the default size these are 512 MiB, about what is
/// written between two checkpoints under load.
pub(crate) const SPARES_MAX: usize = 8;

/// Why there is no next segment.
#[derive(Debug, Clone)]
struct Obstacle {
    path: PathBuf,
    kind: io::ErrorKind,
    message: String,
}

impl Obstacle {
    fn error(&self) -> Error {
        match self.kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull {
                path: self.path.clone(),
            },
            kind => Error::Io {
                action: "prepare the next log segment",
                path: self.path.clone(),
                source: io::Error::new(kind, self.message.clone()),
            },
        }
    }
}

#[derive(Default)]
struct State {
    wanted_end: u64,
    obstacle: Option<Obstacle>,
    /// Names of files that can be segments, marked as recycled.
    spares: Vec<String>,
    /// The bases of prepared segments whose files hold remains of others.
    recycled: BTreeSet<u64>,
    stop: bool,
}

/// The prepared room, and what stands in the way of more.
pub(crate) struct Space {
    prepared_end: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    /// Tasks that wait for room of either kind: a prepared segment, or buffers written.
    waiting: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
}

impl Space {
    pub(crate) fn new(prepared_end: u64, spares: Vec<String>, recycled: BTreeSet<u64>) -> Self {
        let state = State {
            spares,
            recycled,
            ..State::default()
        };
        Self {
            prepared_end: AtomicU64::new(prepared_end),
            state: Mutex::new(state),
            changed: Condvar::new(),
            waiting: AtomicBool::new(false),
            waiters: Mutex::default(),
        }
    }

    /// The end of the last prepared segment.
    pub(crate) fn prepared_end(&self) -> u64 {
        self.prepared_end.load(Ordering::Acquire)
    }

    /// Asks for segments up to this position.
    pub(crate) fn want(&self, end: u64) {
        let mut state = self.state.lock();
        if end > state.wanted_end {
            state.wanted_end = end;
            self.changed.notify_all();
        }
    }

    /// Whether there is use for another spare.
    pub(crate) fn takes_spares(&self) -> bool {
        self.state.lock().spares.len() < SPARES_MAX
    }

    /// Takes a file that may become a segment.
    pub(crate) fn add_spare(&self, name: String) {
        self.state.lock().spares.push(name);
        self.changed.notify_all();
    }

    /// The segment at `base` is entered: says whether its file holds remains of another one.
    pub(crate) fn enter(&self, base: u64) -> bool {
        self.state.lock().recycled.remove(&base)
    }

    /// What stands in the way of the next segment, if anything does.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        self.state.lock().obstacle.as_ref().map(Obstacle::error)
    }

    /// Waits until everything before `end` is prepared.
    pub(crate) fn wait(&self, end: u64, fate: &Fate) -> Result<(), Error> {
        if self.prepared_end() >= end {
            return Ok(());
        }
        let mut state = self.state.lock();
        if end > state.wanted_end {
            state.wanted_end = end;
            self.changed.notify_all();
        }
        loop {
            if self.prepared_end() >= end {
                return Ok(());
            }
            fate.check()?;
            if let Some(obstacle) = &state.obstacle {
                return Err(obstacle.error());
            }
            self.changed.wait(&mut state);
        }
    }

    /// Keeps a task to be woken when there may be more room. It must look again after this.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut waiters = self.waiters.lock();
        if !waiters.iter().any(|known| known.will_wake(waker)) {
            waiters.push(waker.clone());
        }
        self.waiting.store(true, Ordering::SeqCst);
    }

    /// Whether anybody is registered.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Wakes all registered tasks.
    pub(crate) fn wake_all(&self) {
        let waiters = {
            let mut waiters = self.waiters.lock();
            self.waiting.store(false, Ordering::SeqCst);
            std::mem::take(&mut *waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Ends the helper thread and every wait.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
        self.wake_all();
    }

    /// The helper thread: prepares until told to stop.
    fn run(&self, storage: &dyn Storage, geometry: Geometry) {
        let mut state = self.state.lock();
        while !state.stop {
            let base = self.prepared_end();
            if state.wanted_end <= base {
                self.changed.wait(&mut state);
                continue;
            }
            let spare = state.spares.pop();
            drop(state);
            let name = segment_name(base);
            let prepared = match &spare {
                Some(spare) => storage.rename(spare, &name),
                None => storage.create(&name, geometry.segment_bytes(), &[]),
            };
            state = self.state.lock();
            match prepared {
                Ok(()) => {
                    state.obstacle = None;
                    if spare.is_some() {
                        state.recycled.insert(base);
                    }
                    self.prepared_end.store(geometry.end(base), Ordering::Release);
                }
                Err(error) => {
                    state.obstacle = Some(Obstacle {
                        path: storage.path(&name),
                        kind: error.kind(),
                        message: error.to_string(),
                    });
                }
            }
            let failed = state.obstacle.is_some();
            self.changed.notify_all();
            drop(state);
            self.wake_all();
            state = self.state.lock();
            if failed && !state.stop {
                self.changed.wait_for(&mut state, RETRY);
            }
        }
    }
}

/// Starts the helper thread.
pub(crate) fn start(
    space: Arc<Space>,
    storage: Arc<dyn Storage>,
    geometry: Geometry,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name("scry-log-space".to_owned())
        .spawn(move || space.run(storage.as_ref(), geometry))
}
