//! Rebuilding the row store from the log.
//!
//! A checkpoint has all that was committed up to one LSN: rows in the runs, definitions and counters beside them. The log is
//! replayed from there, without a checkpoint from its beginning; of what lies before only tentative records matter, whose
//! end may come behind it.
//!
//! Every frame is replayed in order. A transaction's plain records are collected until its commit record, which
//! says the LSN and the first ordinals of everything; tentative records are kept until a commit adopts them or a drop
//! record ends them. Nobody reads meanwhile, so each row has one version and a deleted row is none
//! (but for elections, see below).
//!
//! What is checked: rows against their layout (once; the getters rely on it from then on), that ordinals follow each
//! other without a gap, and that every ended version is the one that is there, as far as it is in memory: of rows that only
//! the runs have nothing is read, so that replay is as fast as the log can be read. A contradiction is damage that
//! checksums could not see, and the engine does not open.
//!
//! A transaction that adds a primary key to a table is replayed by ordinals instead of keys: its records may carry
//! the old keys or the new ones.
//!
//! Indexes have no records: what the rows of those that a checkpoint has have become follows from the changes of their tables' rows. One that
//! a commit behind the checkpoint made, or a table's new primary key, is filled at the end of that commit from the rows as they are there, in a space of
//! its own, whatever of it is in the runs.
//!
//! In reading order: this file (frames and commits), `changes` (what a commit says of rows), `window` (what it says on its way into memory, by
//! several threads), `rows` (what that does to rows), `entries` (to rows of indexes), `bulk` (transactions larger than memory), `definitions` (to the catalog),
//! `sequences`.
//!
//! While elections are open, versions that their bases see stay behind newer ones, as they did before the restart; so do
//! versions and catalogs within the retention of history.

mod bulk;
mod changes;
mod definitions;
mod entries;
mod fill;
mod layers;
mod rows;
mod sequences;
mod window;

use crate::catalog::{Catalog, FIRST_OID, Table};
use crate::catalog_change::CatalogChange;
use crate::checkpoint::{Definition, State};
use crate::collector::Grave;
use crate::error::Error;
use crate::history::History;
use crate::pins::Pins;
use crate::runs::SpaceId;
use crate::store::backing::{Backing, Spaces};
use crate::store::{Counts, Store};
use bulk::Kept;
use changes::{Adoption, OwnedChange, RowChange};
use scry_wal::{
    BoxError, Change, Commit, Frame, Log, Lsn, Micros, Record, SequencePosition, StoreId, TentativeId,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use window::Applying;

pub(crate) use window::REPLAY_ROWS;

/// What the log says.
pub(crate) struct Recovered {
    pub(crate) visible: Lsn,
    /// No state before it can be read.
    pub(crate) oldest: Lsn,
    /// Those of all states that can be read, the newest last.
    pub(crate) catalogs: VecDeque<(Lsn, Arc<Catalog>)>,
    pub(crate) catalog_lsn: Lsn,
    pub(crate) pins: Arc<Pins>,
    pub(crate) next_txn: u64,
    pub(crate) next_oid: u32,
    pub(crate) next_store: u32,
    pub(crate) next_election: u64,
    /// Deleted rows that something pinned still sees.
    pub(crate) graves: Vec<Grave>,
    /// Tentative identities that the last run left open.
    pub(crate) unfinished: Vec<TentativeId>,
    /// The changes that made the catalog.
    pub(crate) definitions: Vec<Definition>,
}

/// What the log calls with each frame, and in the end.
pub(crate) type ReplayFrame<'a> = &'a mut dyn FnMut(Option<&Frame>) -> Result<(), BoxError>;

/// What the log is replayed upon.
pub(crate) struct Ground<'a> {
    pub(crate) backing: &'a Arc<Backing>,
    pub(crate) checkpoint: Option<&'a State>,
    pub(crate) history: &'a Arc<History>,
    /// Changes of rows that are put into memory together.
    pub(crate) replay_rows: usize,
    /// Tentative changes of a transaction that take more go into files.
    pub(crate) bulk_bytes: usize,
}

/// Opens the log by `open` and replays it upon a checkpoint, if there is one.
pub(crate) fn replay(
    ground: Ground<'_>,
    open: impl FnOnce(ReplayFrame<'_>) -> Result<Log, scry_wal::Error>,
) -> Result<(Log, Recovered), Error> {
    let mut replay = Replay::upon(ground)?;
    let mut failure = None;
    let log = open(&mut |frame| {
        let replayed = match frame {
            Some(frame) => replay.frame(frame),
            None => replay.applying.settle(),
        };
        replayed.map_err(|error| {
            let text: BoxError = error.to_string().into();
            failure = Some(error);
            text
        })
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let log = log?;
    replay.restore_counters();
    Ok((log, replay.finish()))
}

struct Replay {
    backing: Arc<Backing>,
    /// What was committed up to here is in the runs.
    upon: Lsn,
    visible: Lsn,
    catalog: Catalog,
    catalog_lsn: Lsn,
    /// The catalogs before it that states from `oldest` on have.
    former: VecDeque<(Lsn, Arc<Catalog>)>,
    history: Arc<History>,
    now: Micros,
    /// Of versions that ended up to here nothing is kept for the sake of history.
    oldest: Lsn,
    /// The stores of the catalog's tables.
    stores: HashMap<StoreId, Arc<Table>>,
    tentative: HashMap<TentativeId, Kept>,
    bulk_bytes: usize,
    last_txn: u64,
    last_oid: u32,
    last_store: u32,
    last_election: u64,
    /// What commits do to rows.
    applying: Applying,
    definitions: Vec<Definition>,
    /// Where counters of sequences are.
    positions: HashMap<StoreId, SequencePosition>,
}

impl Replay {
    /// What the checkpoint says.
    fn upon(ground: Ground<'_>) -> Result<Replay, Error> {
        let Ground {
            backing,
            checkpoint,
            history,
            replay_rows,
            bulk_bytes,
        } = ground;
        let now = history.now();
        let promised = checkpoint.map_or(Lsn::ZERO, |state| state.oldest);
        let mut replay = Replay {
            backing: Arc::clone(backing),
            upon: Lsn::ZERO,
            visible: Lsn::ZERO,
            catalog: Catalog::default(),
            catalog_lsn: Lsn::ZERO,
            former: VecDeque::new(),
            history: Arc::clone(history),
            now,
            oldest: history.floor(now).max(promised),
            stores: HashMap::new(),
            tentative: HashMap::new(),
            bulk_bytes,
            last_txn: 0,
            last_oid: 0,
            last_store: 0,
            last_election: 0,
            applying: Applying::new(replay_rows),
            definitions: Vec::new(),
            positions: HashMap::new(),
        };
        let Some(state) = checkpoint else {
            return Ok(replay);
        };
        for definition in &state.definitions {
            replay.define(definition)?;
        }
        let counts: HashMap<StoreId, Counts> = state.counts.iter().copied().collect();
        let set = backing.runs.current();
        replay
            .catalog
            .all_tables()
            .for_each(|table| table.complete_indexes());
        let former = replay.former.iter().flat_map(|(_, catalog)| catalog.stores());
        let stores: BTreeMap<SpaceId, Arc<Store>> = former.chain(replay.catalog.stores()).collect();
        for (space, store) in stores {
            if let Some(counts) = counts.get(&store.id) {
                store.counters.restore(*counts);
            }
            if set.may_have(space) {
                store.set_below();
            }
        }
        replay.positions = state
            .sequences
            .iter()
            .map(|position| (position.store, *position))
            .collect();
        replay.upon = state.at;
        replay.visible = state.at;
        replay.catalog_lsn = state.catalog_lsn;
        replay.last_txn = state.next_txn.saturating_sub(1);
        replay.last_oid = state.next_oid.saturating_sub(1);
        replay.last_store = state.next_store.saturating_sub(1);
        replay.last_election = state.next_election.saturating_sub(1);
        Ok(replay)
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Error> {
        let mut changes: Vec<(Lsn, Change<'_>)> = Vec::new();
        let mut catalog = Vec::new();
        let mut at = frame.lsn();
        for record in frame.records() {
            let (lsn, record) = record.map_err(|error| corrupt(at, None, error.to_string()))?;
            at = lsn;
            match record {
                Record::Change(change) => changes.push((lsn, change)),
                Record::Catalog(_) if lsn <= self.upon => {}
                Record::Catalog(bytes) => {
                    let change = CatalogChange::decode(bytes);
                    catalog.push(change.map_err(|error| corrupt(lsn, None, error.to_string()))?);
                }
                Record::Tentative { id, change } => self.keep_tentative(id, &change)?,
                Record::TentativeDrop(id) => {
                    self.tentative.remove(&id);
                }
                Record::Sequence(_) if lsn <= self.upon => {}
                Record::Sequence(position) => self.position(position),
                Record::Commit(commit) if lsn <= self.upon => {
                    self.tentative.retain(|id, _| Some(*id) != commit.adopts);
                    changes.clear();
                    catalog.clear();
                }
                Record::Commit(commit) => {
                    self.commit(lsn, &commit, &catalog, &changes)?;
                    changes.clear();
                    catalog.clear();
                }
            }
        }
        if !changes.is_empty() || !catalog.is_empty() {
            return Err(corrupt(
                at,
                None,
                "a transaction's records end without its commit record".to_owned(),
            ));
        }
        Ok(())
    }

    fn keep_tentative(&mut self, id: TentativeId, change: &Change<'_>) -> Result<(), Error> {
        self.last_txn = self.last_txn.max(id.get());
        self.last_store = self.last_store.max(change.store.get());
        let change = OwnedChange::of(change);
        let kept = self.tentative.entry(id).or_default();
        kept.push(change, &self.backing.runs, self.bulk_bytes)
    }

    fn commit(
        &mut self,
        lsn: Lsn,
        commit: &Commit<'_>,
        catalog: &[CatalogChange],
        changes: &[(Lsn, Change<'_>)],
    ) -> Result<(), Error> {
        if lsn <= self.visible {
            return Err(corrupt(
                lsn,
                None,
                format!("commit does not follow the one at {}", self.visible),
            ));
        }
        self.last_txn = self.last_txn.max(commit.txn.get());
        if self.history.note(lsn, commit.time) {
            self.oldest = self.oldest.max(self.history.floor(self.now));
        }
        if !catalog.is_empty() {
            self.applying.settle()?;
        }
        let mut new_keys = HashMap::new();
        let mut adoptions = Vec::new();
        for change in catalog {
            match change {
                CatalogChange::Election(change) => {
                    adoptions.extend(self.elect(lsn, change, &Spaces::default())?);
                }
                change => new_keys.extend(self.alter(lsn, change, &Spaces::default())?),
            }
        }
        let mut progress = self.announced(lsn, commit, &new_keys)?;
        for adoption in adoptions {
            self.adopt(&mut progress, adoption)?;
        }
        let adopted = commit.adopts.and_then(|id| self.tentative.remove(&id));
        let adopted = adopted.unwrap_or_default();
        match adopted.in_memory() {
            None => self.adopt_bulk(&mut progress, adopted, changes)?,
            Some(adopted) => {
                for change in adopted {
                    self.change(lsn, &mut progress, change.as_change())?;
                }
                for (at, change) in changes {
                    self.change(*at, &mut progress, RowChange::from(change))?;
                }
            }
        }
        progress.check()?;
        self.applying.advance()?;
        if !catalog.is_empty() {
            self.applying.settle()?;
        }
        for (store, new) in new_keys {
            let rows = progress.take_rows(store);
            self.rekey(lsn, store, &new, rows, &Spaces::default())?;
        }
        for change in catalog {
            self.fill_indexes(lsn, change)?;
        }
        self.visible = lsn;
        Ok(())
    }

    fn finish(mut self) -> Recovered {
        let pins = Arc::clone(self.catalog.elections().pins());
        self.former.push_back((self.catalog_lsn, Arc::new(self.catalog)));
        let mut unfinished: Vec<TentativeId> = self.tentative.into_keys().collect();
        unfinished.sort_unstable();
        Recovered {
            unfinished,
            visible: self.visible,
            oldest: self.oldest,
            catalogs: self.former,
            pins,
            catalog_lsn: self.catalog_lsn,
            next_txn: self.last_txn + 1,
            next_oid: self.last_oid.saturating_add(1).max(FIRST_OID),
            next_store: self.last_store + 1,
            next_election: self.last_election + 1,
            graves: self.applying.take_graves(),
            definitions: self.definitions,
        }
    }
}

fn corrupt(lsn: Lsn, store: Option<StoreId>, what: String) -> Error {
    Error::Corrupt { lsn, store, what }
}
