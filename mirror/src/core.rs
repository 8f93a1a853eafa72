//! All the stores, and the one way in which they change: [`Core::apply`].
//!
//! No threads and no files here. Invariants: change sets are applied in order, each once, and a reader sees all of
//! one or nothing (a snapshot's LSN says what it sees); `applied` is published after the stores have changed. A mirror that begins
//! anew takes up other stores: a snapshot keeps those that it was opened of, and what is older than the new ones cannot be
//! opened of them.

use parking_lot::{Mutex, RwLock};
use scry_stream::{ChangeSet, Start, StoreEventKind};
use scry_wal::{Lsn, StoreId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::cache::Cache;
use crate::error::Error;
use crate::horizon::Horizon;
use crate::repair::Repairs;
use crate::snapshot::Snapshot;
use crate::store::{Capture, StoreCell};

/// A position of the log, and what going on from there takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Every commit below it is applied.
    pub upto: Lsn,
    /// Where a restart must begin reading; see [`ChangeSet::restart`].
    pub restart: Lsn,
    /// The last commit below `upto`: every snapshot from it on to `upto` shows the same. Zero when there was none.
    pub last_commit: Lsn,
}

/// The stores from one beginning of a mirror on, until it begins anew.
#[derive(Debug)]
pub(crate) struct Stores {
    cells: RwLock<HashMap<StoreId, Arc<StoreCell>>>,
    horizon: Horizon,
}

/// The stores of a mirror.
#[derive(Debug)]
pub(crate) struct Core {
    /// Replaced together with `applied`, under the lock.
    stores: RwLock<Arc<Stores>>,
    applied: AtomicU64,
    /// There is a state, and so something to write down.
    begun: AtomicBool,
    piece_rows: usize,
    pub cache: Arc<Cache>,
    pub repairs: Arc<Repairs>,
    /// Held while a change set is applied and while the state is captured, so that what is captured is one position.
    apply: Mutex<Applying>,
}

#[derive(Debug)]
struct Applying {
    /// Of what is applied.
    restart: Lsn,
    last_commit: Lsn,
    /// Set while a change set is half applied; stays when it fails.
    half: bool,
    /// Stores with deletes that are not folded yet, or that are to go.
    pending: Vec<Arc<StoreCell>>,
    /// Deletes and commits of these stores that are not folded yet.
    waiting: usize,
}

/// The state at one position of the log.
#[derive(Debug)]
pub(crate) struct CoreCapture {
    pub position: Position,
    pub stores: Vec<Capture>,
}

impl Core {
    /// Nothing yet.
    pub fn unbegun(horizon: &Horizon, cache: Arc<Cache>, piece_rows: usize) -> Self {
        let core = Self::new(Position::default(), Vec::new(), horizon, cache, piece_rows);
        core.begun.store(false, Ordering::Release);
        core
    }

    /// The state at a position.
    pub fn new(
        position: Position,
        stores: Vec<StoreCell>,
        horizon: &Horizon,
        cache: Arc<Cache>,
        piece_rows: usize,
    ) -> Self {
        Self {
            stores: RwLock::new(Arc::new(Stores::new(position, stores, horizon))),
            applied: AtomicU64::new(position.upto.get()),
            begun: AtomicBool::new(true),
            piece_rows,
            cache,
            repairs: Arc::default(),
            apply: Mutex::new(Applying {
                restart: position.restart,
                last_commit: position.last_commit,
                half: false,
                pending: Vec::new(),
                waiting: 0,
            }),
        }
    }

    /// Whether there is a state.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// The state is of no use any more: another one is to be begun with. Until then snapshots of it can be opened.
    pub fn abandon(&self) {
        self.begun.store(false, Ordering::Release);
    }

    /// Another state, at a later position, in place of the present one. Snapshots of before keep the stores that they have.
    pub fn begin(&self, position: Position, stores: Vec<StoreCell>) {
        let mut applying = self.apply.lock();
        assert!(position.upto >= self.applied(), "the mirror never goes back");
        let mut now = self.stores.write();
        *now = Arc::new(Stores::new(position, stores, &now.horizon));
        self.applied.store(position.upto.get(), Ordering::Release);
        drop(now);
        *applying = Applying {
            restart: position.restart,
            last_commit: position.last_commit,
            half: false,
            pending: Vec::new(),
            waiting: 0,
        };
        self.begun.store(true, Ordering::Release);
    }

    /// From where to follow the log.
    pub fn start(&self) -> Start {
        let applying = self.apply.lock();
        let living = self.stores();
        let living = living.iter().filter(|cell| cell.dropped() == Lsn::MAX);
        Start {
            read_from: applying.restart,
            emit_from: self.applied(),
            schemas: living.map(|cell| (cell.store, cell.schema())).collect(),
        }
    }

    /// Every commit with a smaller LSN is applied.
    pub fn applied(&self) -> Lsn {
        Lsn::new(self.applied.load(Ordering::Acquire))
    }

    pub fn store(&self, store: StoreId) -> Option<Arc<StoreCell>> {
        self.present().get(store)
    }

    /// All the stores, dropped ones that somebody may still look at included.
    pub fn stores(&self) -> Vec<Arc<StoreCell>> {
        self.present().cells.read().values().cloned().collect()
    }

    fn present(&self) -> Arc<Stores> {
        self.stores.read().clone()
    }

    /// Applies the change set that follows the one before.
    ///
    /// After an error the state is not that of any position; `applied` stays where it was, and snapshots up to it are right.
    pub fn apply(&self, set: &ChangeSet) -> Result<(), Error> {
        let mut applying = self.apply.lock();
        let applied = self.applied();
        if set.from != applied || set.upto < applied {
            return Err(Error::Gap {
                expected: applied,
                found: set.from,
            });
        }
        if applying.half {
            return Err(Error::HalfApplied { applied });
        }
        applying.half = true;
        // None others come while it is applied.
        let stores = self.present();
        let horizon = stores.horizon.advance(newest(applied), applying.waiting);
        let mut touched = Vec::with_capacity(set.stores.len());
        for event in &set.events {
            match &event.kind {
                StoreEventKind::Created(schema) => {
                    let cell = Arc::new(StoreCell::new(
                        event.store,
                        schema.clone(),
                        event.at,
                        self.piece_rows,
                    ));
                    if stores.cells.write().insert(event.store, cell).is_some() {
                        return Err(broken(event.at, event.store, "store created twice"));
                    }
                }
                StoreEventKind::Widened(schema) => match stores.get(event.store) {
                    Some(cell) => cell.widen(event.at, schema.clone()),
                    None => return Err(broken(event.at, event.store, "unknown store widened")),
                },
                StoreEventKind::Dropped => {
                    let Some(cell) = stores.get(event.store) else {
                        return Err(broken(event.at, event.store, "unknown store dropped"));
                    };
                    cell.drop_at(event.at);
                    touched.push(cell);
                }
            }
        }
        // A table that adopts a branch takes it with all its rows: they are there when the others have been applied.
        let (adopting, others): (Vec<_>, Vec<_>) =
            set.stores.iter().partition(|changes| !changes.adopted.is_empty());
        for changes in others.into_iter().chain(adopting) {
            let Some(cell) = stores.get(changes.store) else {
                return Err(broken(set.from, changes.store, "change of an unknown store"));
            };
            let mut branches = Vec::with_capacity(changes.adopted.len());
            for adopted in &changes.adopted {
                let branch = stores.get(adopted.branch);
                branches
                    .push(branch.ok_or_else(|| {
                        broken(adopted.at, adopted.branch, "adoption of an unknown branch")
                    })?);
            }
            cell.apply(changes, &branches, horizon, &self.cache)?;
            touched.push(cell);
        }
        self.settle(&mut applying, touched, horizon)?;
        applying.restart = set.restart;
        if let Some(commit) = set.commits.last() {
            applying.last_commit = commit.lsn;
        }
        applying.half = false;
        self.applied.store(set.upto.get(), Ordering::Release);
        Ok(())
    }

    /// Folds what has become visible to everybody. For quiet times; `apply` does it by itself.
    pub fn tidy(&self) -> Result<(), Error> {
        let mut applying = self.apply.lock();
        let newest = newest(self.applied());
        let horizon = self.present().horizon.advance(newest, applying.waiting);
        self.fold(&mut applying, horizon)
    }

    /// Folds what all present readers have seen up to `at`, once that is applied; of history no more than they need is kept. Answers
    /// up to where it is folded.
    pub fn tidy_upto(&self, at: Lsn) -> Result<Lsn, Error> {
        let mut applying = self.apply.lock();
        let newest = newest(self.applied());
        if newest < at {
            return Ok(Lsn::ZERO);
        }
        let horizon = self.present().horizon.advance_to_readers(newest);
        self.fold(&mut applying, horizon)?;
        Ok(horizon)
    }

    fn fold(&self, applying: &mut Applying, horizon: Lsn) -> Result<(), Error> {
        let settled = self.settle(applying, Vec::new(), horizon);
        applying.half |= settled.is_err();
        settled
    }

    /// Folds the pending stores that are not in `touched`, and forgets dropped stores that nobody sees any more.
    fn settle(
        &self,
        applying: &mut Applying,
        touched: Vec<Arc<StoreCell>>,
        horizon: Lsn,
    ) -> Result<(), Error> {
        applying.waiting = 0;
        for cell in std::mem::take(&mut applying.pending) {
            if !touched.iter().any(|other| Arc::ptr_eq(other, &cell)) {
                cell.tidy(horizon, &self.cache)?;
                self.keep_pending(applying, cell, horizon);
            }
        }
        for cell in touched {
            self.keep_pending(applying, cell, horizon);
        }
        Ok(())
    }

    fn keep_pending(&self, applying: &mut Applying, cell: Arc<StoreCell>, horizon: Lsn) {
        if cell.dropped() <= horizon {
            self.present().cells.write().remove(&cell.store);
        } else {
            let waiting = cell.waiting();
            applying.waiting += waiting;
            if cell.dropped() != Lsn::MAX || waiting > 0 {
                applying.pending.push(cell);
            }
        }
    }

    /// The state at the applied position, for a manifest.
    pub fn capture(&self) -> Result<CoreCapture, Error> {
        let applying = self.apply.lock();
        let upto = self.applied();
        if applying.half {
            return Err(Error::HalfApplied { applied: upto });
        }
        let stores = self.stores();
        let living = stores.iter().filter(|cell| cell.dropped() == Lsn::MAX);
        let stores = living.map(StoreCell::capture).collect::<Result<_, _>>()?;
        Ok(CoreCapture {
            position: Position {
                upto,
                restart: applying.restart,
                last_commit: applying.last_commit,
            },
            stores,
        })
    }

    /// The commits up to `at`.
    pub fn snapshot(self: &Arc<Self>, at: Lsn) -> Result<Snapshot, Error> {
        // Until it is held: what is applied is that of these stores.
        let stores = self.stores.read();
        let applied = self.applied();
        if at > newest(applied) {
            return Err(Error::NotApplied { asked: at, applied });
        }
        let held = stores.horizon.hold(at)?;
        Ok(Snapshot::new(held, stores.clone(), self.clone()))
    }

    /// Every commit applied.
    pub fn newest_snapshot(self: &Arc<Self>) -> Snapshot {
        let stores = self.stores.read();
        let held = stores.horizon.hold_newest(|| newest(self.applied()));
        Snapshot::new(held, stores.clone(), self.clone())
    }
}

impl Stores {
    fn new(position: Position, stores: Vec<StoreCell>, horizon: &Horizon) -> Self {
        let cells = stores.into_iter().map(|cell| (cell.store, Arc::new(cell)));
        Self {
            cells: RwLock::new(cells.collect()),
            // Snapshots between the last commit and the position need nothing that is folded.
            horizon: horizon.anew(position.last_commit),
        }
    }

    pub fn get(&self, store: StoreId) -> Option<Arc<StoreCell>> {
        self.cells.read().get(&store).cloned()
    }
}

/// The newest snapshot at an applied position: commits below it.
pub(crate) fn newest(applied: Lsn) -> Lsn {
    Lsn::new(applied.get().saturating_sub(1))
}

fn broken(lsn: Lsn, store: StoreId, what: &'static str) -> Error {
    Error::Broken {
        lsn,
        store,
        what,
        expected: 0,
        found: 1,
    }
}
