//! Checkpoints: what is in memory alone goes into the runs, so that a restart need not replay the log from its beginning, and rows
//! may leave memory.
//!
//! A checkpoint is the state at one LSN, `at`: the newest visible commit when it began. It is taken in these steps:
//!
//! 1. inside of the commit's critical section, where nothing moves: `at`, the counters, the catalog, which tentative records are open;
//!    a snapshot slot holds `at`, so that no version that it needs goes away;
//! 2. the dirty rows of each store are taken and their versions up to `at` are written into one run, in the order of spaces and keys; commits
//!    go on meanwhile, and what they make dirty is for the next checkpoint; then the slot lets go, for a row that is updated all the time keeps
//!    every version since a snapshot that is held; and what transactions up to `at` have in runs of their own is copied (`runs::private`);
//! 3. once the commit at `at` is durable, the manifest names the new runs and the state (`state`), in one step;
//! 4. the written rows are marked: the runs have them. Those that were changed again since stay dirty;
//! 5. the log may let go of what lies before `restart`, as far as its other readers and its retention let it: `recycler`.
//!
//! Stores that a transaction fills with rows that are committed already, those of a new index or under a new primary key, take part before a
//! catalog has them: so that filling one needs no more memory than any other work. A checkpoint is asked for when it is committed.
//!
//! Memory: when rows take more than they may, clean ones that nobody was interested in lately leave (a clock over all leaves).
//!
//! Invariants:
//! - a checkpoint has all commits up to `at` and nothing of later ones, however long it takes;
//! - a row that committed after `at` was captured is on its store's list before it can leave it: commits put rows there before
//!   they take their place in the log;
//! - a row of which versions are being written is not forgotten before the manifest names them, though it be deleted: the slot has let go by then;
//! - a checkpoint that fails changes nothing: its rows go back to their lists.

pub mod inspect;
mod journal;
mod state;

pub(crate) use journal::{Definition, needed};
pub(crate) use state::State;

use crate::admission::Admission;
use crate::attempts::Attempts;
use crate::background::Background;
use crate::catalog::Catalog;
use crate::catalogs::Catalogs;
use crate::engine::Numbers;
use crate::error::Error;
use crate::history::History;
use crate::pins::Pins;
use crate::recycler::Recycler;
use crate::runs::{FlushWriter, SpaceId, Stored};
use crate::snapshots::{Slot, Snapshots};
use crate::store::backing::Backing;
use crate::store::{DirtyRows, Store};
use parking_lot::Mutex;
use scry_wal::{Log, Lsn, TentativeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How often the thread looks whether there is something to do.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long after a failure the next checkpoint is tried.
const RETRY: Duration = Duration::from_secs(1);

/// Rows that a checkpoint writes between two looks at whether commits must be slowed down: some tens of milliseconds.
const LOOK_ROWS: usize = 16_384;

/// Rows that eviction looks at before it asks whether the engine is being closed.
const EVICT_LOOKS: usize = 16_384;

/// Walks over all leaves without freeing enough, after which eviction gives up: everything is locked, dirty or in use.
const EVICT_WALKS: usize = 3;

/// When checkpoints are made, and how much memory rows may take; see `EngineOptions`.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rows_bytes_max: u64,
    pub(crate) log_bytes: u64,
    pub(crate) dirty_bytes: u64,
}

/// What checkpoints are made of.
pub(crate) struct Parts {
    pub(crate) log: Arc<Log>,
    pub(crate) catalogs: Arc<Catalogs>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) backing: Arc<Backing>,
    pub(crate) numbers: Arc<Numbers>,
    pub(crate) history: Arc<History>,
    pub(crate) recycler: Arc<Recycler>,
}

/// Makes checkpoints and room in memory.
pub(crate) struct Checkpoints {
    parts: Parts,
    limits: Limits,
    /// The last one; held while one is made.
    last: Mutex<Lsn>,
    /// Where the first record of each open tentative identity stands.
    tentative: Mutex<BTreeMap<TentativeId, Lsn>>,
    /// Where eviction goes on: the space, and the key in it.
    hand: Mutex<(u32, Vec<u8>)>,
    pub(crate) admission: Admission,
    made: AtomicU64,
    attempts: Attempts,
    turns: Mutex<Turns>,
    /// Whether one is due whatever the log and the rows say.
    asked: AtomicBool,
}

/// Who waits for checkpoints.
#[derive(Default)]
struct Turns {
    /// How many were begun, and how many of them have ended, done or not.
    begun: u64,
    ended: u64,
    waiting: Vec<Waker>,
}

/// The engine at one moment.
pub(crate) struct Captured {
    /// Without definitions.
    pub(crate) state: State,
    pub(crate) catalog: Arc<Catalog>,
    /// Of all states that can be read.
    catalogs: Vec<Arc<Catalog>>,
    stores: Vec<Arc<Store>>,
    /// Spaces that it does not name any more.
    left: Vec<SpaceId>,
    /// What was superseded up to here need not be written.
    horizon: Lsn,
}

/// A store's rows that a checkpoint has taken.
struct Taken {
    store: Arc<Store>,
    dirty: DirtyRows,
    /// By row, whether there was anything to write.
    written: Vec<bool>,
}

impl Checkpoints {
    /// After the one at `last`.
    pub(crate) fn new(parts: Parts, limits: Limits, last: Lsn) -> Checkpoints {
        Checkpoints {
            parts,
            limits,
            last: Mutex::new(last),
            tentative: Mutex::default(),
            hand: Mutex::default(),
            admission: Admission::default(),
            made: AtomicU64::new(0),
            attempts: Attempts::default(),
            turns: Mutex::default(),
            asked: AtomicBool::new(false),
        }
    }

    /// From here on the log has records of `id`, the first at `lsn`. Inside of the append lock.
    pub(crate) fn begin_tentative(&self, id: TentativeId, lsn: Lsn) {
        self.tentative.lock().entry(id).or_insert(lsn);
    }

    /// Nobody will ask for the records of `id` any more.
    pub(crate) fn end_tentative(&self, id: TentativeId) {
        self.tentative.lock().remove(&id);
    }

    /// Has the next one made soon: a restart from the one before would have much to do over again.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Has one made, and waits for its end. Answers whether it was, or any other meanwhile. Does not wait where none are made in the background.
    pub(crate) async fn next(&self) -> bool {
        if self.limits.log_bytes == 0 {
            return false;
        }
        let made = self.made();
        let ours = self.turns.lock().begun + 1;
        self.ask();
        std::future::poll_fn(|cx| {
            let mut turns = self.turns.lock();
            if turns.ended >= ours {
                return Poll::Ready(());
            }
            turns.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
        self.made() > made
    }

    /// How many were made.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Makes one; see `Engine::checkpoint`.
    pub(crate) fn make(&self) -> Result<Lsn, Error> {
        let mut last = self.last.lock();
        self.turns.lock().begun += 1;
        let asked = self.asked.swap(false, Ordering::Relaxed);
        let made = self.make_after(&mut last);
        let mut turns = self.turns.lock();
        turns.ended = turns.begun;
        std::mem::take(&mut turns.waiting)
            .into_iter()
            .for_each(Waker::wake);
        drop(turns);
        if made.is_err() && asked {
            self.ask();
        }
        made
    }

    fn make_after(&self, last: &mut Lsn) -> Result<Lsn, Error> {
        let slot = self.parts.snapshots.register();
        let Captured {
            mut state,
            catalogs,
            stores,
            left,
            horizon,
            ..
        } = self.capture(&slot)?;
        let has_more = !self.parts.backing.building().is_empty() && self.parts.backing.dirty_bytes() > 0;
        if state.at == *last && !has_more {
            return Ok(state.at);
        }
        state.definitions = self.parts.catalogs.definitions(state.at, &catalogs);
        drop(catalogs);
        let history = &self.parts.history;
        state.timeline = history.moments(state.at);
        let done = self.write((*last, horizon), &mut state, stores, &slot);
        slot.release();
        self.attempts.note(&done);
        done?;
        self.parts.backing.forget(&left);
        self.made.fetch_add(1, Ordering::Relaxed);
        history.checkpointed(state.at, state.oldest);
        *last = state.at;
        self.parts.recycler.checkpointed(state.restart);
        Ok(state.at)
    }

    /// The state but for the rows and the definitions. `slot` holds its LSN from then on.
    pub(crate) fn capture(&self, slot: &Slot) -> Result<Captured, Error> {
        let Parts {
            log,
            catalogs,
            snapshots,
            backing,
            numbers,
            ..
        } = &self.parts;
        // Gathered before; in the critical section they are only counted. And before the horizon: catalogs are kept behind it.
        let stores_of = |all: &[Arc<Catalog>]| self.stores(all).into_values().collect();
        let mut catalog_lsn = catalogs.lsn();
        let mut all = catalogs.all();
        let mut stores: Vec<Arc<Store>> = stores_of(&all);
        let nothing_moves = log.lock()?;
        if catalogs.lsn() != catalog_lsn {
            catalog_lsn = catalogs.lsn();
            all = catalogs.all();
            stores = stores_of(&all);
        }
        let newest = all.last().expect("there is always a catalog");
        let horizon = snapshots.horizon();
        let at = snapshots.visible();
        snapshots.share(slot, at);
        let counts = stores.iter().map(|store| (store.id, store.counters.counts()));
        let first_tentative = self.tentative.lock().values().min().copied();
        let state = State {
            database: log.database(),
            at,
            restart: first_tentative.map_or(at, |first| first.min(at)),
            catalog_lsn,
            next_txn: numbers.txn.load(Ordering::Relaxed),
            next_election: numbers.election.load(Ordering::Relaxed),
            next_oid: numbers.oid.load(Ordering::Relaxed),
            next_store: numbers.store.load(Ordering::Relaxed),
            next_space: backing.next_space(),
            definitions: Vec::new(),
            counts: counts.collect(),
            sequences: newest.sequences().logged(),
            oldest: Lsn::ZERO,
            timeline: Vec::new(),
        };
        // Whoever let go of them before has committed why.
        let left = backing.left();
        drop(nothing_moves);
        Ok(Captured {
            state,
            catalog: Arc::clone(newest),
            catalogs: all,
            stores,
            left,
            horizon,
        })
    }

    /// The stores whose rows go to disk: those of the catalogs, and those that are being filled.
    fn stores(&self, catalogs: &[Arc<Catalog>]) -> BTreeMap<SpaceId, Arc<Store>> {
        let building = self.parts.backing.building().into_iter();
        let mut stores = Catalogs::stores(catalogs);
        stores.extend(building.map(|store| (store.home.space, store)));
        stores
    }

    /// After the checkpoint at `last`; what was superseded up to `horizon` is left out.
    fn write(
        &self,
        (last, horizon): (Lsn, Lsn),
        state: &mut State,
        stores: Vec<Arc<Store>>,
        slot: &Slot,
    ) -> Result<(), Error> {
        let take = |store: Arc<Store>| Taken {
            dirty: store.take_dirty(),
            store,
            written: Vec::new(),
        };
        let mut taken: Vec<Taken> = stores.into_iter().map(take).collect();
        taken.retain(|taken| !taken.dirty.rows.is_empty());
        let installed = self
            .write_rows((last, horizon), state, &mut taken)
            .and_then(|writer| {
                // After the rows: what was taken out of memory meanwhile may have been superseded up to here.
                state.oldest = match self.parts.history.is_on() {
                    true => self.parts.snapshots.horizon(),
                    false => state.at,
                };
                slot.release();
                let backing = &self.parts.backing;
                let is_live = |space| backing.is_alive(space);
                let taken = backing.runs.take_over(state.at, is_live, || self.look())?;
                self.parts.log.wait_durable(state.at)?;
                backing.runs.install_with(writer, Some(taken), &state.encode())?;
                Ok(())
            });
        for Taken {
            store,
            dirty,
            written,
        } in taken
        {
            let mut left = DirtyRows::default();
            for (index, (key, entry)) in dirty.rows.into_iter().enumerate() {
                let mut row = entry.lock();
                row.end_flush();
                let stays = installed.is_err() || row.flushed(state.at, written[index]);
                if stays && !row.is_dead() {
                    let bytes = row.newest_bytes();
                    drop(row);
                    left.push(key, entry, bytes);
                }
            }
            store.add_dirty(left);
        }
        installed
    }

    /// Writes the taken rows.
    fn write_rows(
        &self,
        (last, horizon): (Lsn, Lsn),
        state: &State,
        taken: &mut [Taken],
    ) -> Result<FlushWriter, Error> {
        let runs = &self.parts.backing.runs;
        let mut writer = runs.begin_flush();
        let pins = self.parts.pins.list().unwrap_or_default();
        for Taken {
            store,
            dirty,
            written,
        } in taken
        {
            dirty.rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            for (number, (key, entry)) in dirty.rows.iter().enumerate() {
                if number.is_multiple_of(LOOK_ROWS) {
                    self.look();
                }
                let mut row = entry.lock();
                let versions: Vec<Stored> = row.versions((last, state.at), (horizon, &pins), store.id);
                if !versions.is_empty() {
                    // Deleted and buried before the manifest names the run, the row would be back.
                    row.begin_flush();
                }
                drop(row);
                written.push(!versions.is_empty());
                if !versions.is_empty() {
                    writer.add(store.home.space, key.as_ref(), &versions)?;
                }
            }
        }
        Ok(writer)
    }

    /// Takes rows out of memory until they take no more than they may, or everything left is in use, or it is `stopped`.
    pub(crate) fn make_room(&self, stopped: impl Fn() -> bool) {
        let (limit, backing) = (self.limits.rows_bytes_max, &self.parts.backing);
        if backing.memory_bytes() <= limit {
            return;
        }
        let mut hand = self.hand.lock();
        let (mut walks, mut looks) = (0, 0);
        let stores = self.stores(&self.parts.catalogs.all());
        while backing.memory_bytes() > limit {
            let (space, from) = &*hand;
            let next = stores.range(SpaceId::new(*space)..).next();
            let Some((next, store)) = next else {
                *hand = (0, Vec::new());
                walks += 1;
                if walks > EVICT_WALKS {
                    return;
                }
                continue;
            };
            let from = if next.get() == *space {
                from.as_slice()
            } else {
                &[]
            };
            let (next_leaf, looked) = store.evict(from);
            *hand = match next_leaf {
                Some(key) => (next.get(), key.as_ref().to_vec()),
                None => (next.get() + 1, Vec::new()),
            };
            looks += looked;
            if looks >= EVICT_LOOKS {
                looks = 0;
                if stopped() {
                    return;
                }
            }
        }
    }

    /// Has commits wait as long as it takes to keep up.
    fn look(&self) {
        let backing = &self.parts.backing;
        let (dirty_bytes, due_bytes) = (backing.dirty_bytes(), self.limits.dirty_bytes);
        let fresh_layers = backing.runs.current().fresh().len();
        self.admission.look(dirty_bytes, due_bytes, fresh_layers);
    }

    fn is_due(&self, last: Lsn) -> bool {
        let Limits {
            log_bytes,
            dirty_bytes,
            ..
        } = self.limits;
        let behind = self.parts.snapshots.visible().get().saturating_sub(last.get());
        log_bytes > 0 && (behind >= log_bytes || self.asked.load(Ordering::Relaxed))
            || dirty_bytes > 0 && self.parts.backing.dirty_bytes() >= dirty_bytes
    }

    /// Starts the thread that makes checkpoints when they are due, and room.
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<Background> {
        let checkpoints = Arc::clone(self);
        let mut not_before = Instant::now();
        Background::start("scry-checkpoint", INTERVAL, move |stop| {
            let last = *checkpoints.last.lock();
            if checkpoints.is_due(last) && Instant::now() >= not_before && checkpoints.make().is_err() {
                not_before = Instant::now() + RETRY;
            }
            checkpoints.make_room(|| stop.is_asked());
            checkpoints.look();
            false
        })
    }
}
