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
//! While elections are open, versions that their bases see stay behind newer ones, as they did before the restart.

use crate::Row;
use crate::catalog::{AppliedChange, Catalog, FIRST_OID, PrimaryKey, Table, TableDef, key_of};
use crate::catalog_change::CatalogChange;
use crate::checkpoint::{Definition, State};
use crate::collector::Grave;
use crate::election::branch;
use crate::election::change::ElectionChange;
use crate::error::Error;
use crate::index::replay;
use crate::key::{Key, KeyRange};
use crate::locks::RowRef;
use crate::overlay::Version;
use crate::runs::SpaceId;
use crate::store::backing::{Backing, Home};
use crate::store::entry::RowEntry;
use crate::store::memtable::Found;
use crate::store::scan::Met;
use crate::store::{Counts, Growth, Store};
use scry_wal::{BoxError, Change, Commit, Ended, Frame, Log, Lsn, Op, Ordinal, Record, StoreId, TentativeId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What the log says.
pub(crate) struct Recovered {
    pub(crate) visible: Lsn,
    pub(crate) catalog: Catalog,
    pub(crate) catalog_lsn: Lsn,
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

/// What the log calls with each frame.
pub(crate) type ReplayFrame<'a> = &'a mut dyn FnMut(&Frame) -> Result<(), BoxError>;

/// Opens the log by `open` and replays it upon a checkpoint, if there is one.
pub(crate) fn replay(
    backing: &Arc<Backing>,
    checkpoint: Option<&State>,
    open: impl FnOnce(ReplayFrame<'_>) -> Result<Log, scry_wal::Error>,
) -> Result<(Log, Recovered), Error> {
    let mut replay = Replay::upon(backing, checkpoint)?;
    let mut failure = None;
    let log = open(&mut |frame| {
        replay.frame(frame).map_err(|error| {
            let text: BoxError = error.to_string().into();
            failure = Some(error);
            text
        })
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let log = log?;
    replay.fill_indexes()?;
    Ok((log, replay.finish()))
}

struct Replay {
    backing: Arc<Backing>,
    /// What was committed up to here is in the runs.
    upon: Lsn,
    visible: Lsn,
    catalog: Catalog,
    catalog_lsn: Lsn,
    /// The stores of the catalog's tables.
    stores: HashMap<StoreId, StoreState>,
    tentative: HashMap<TentativeId, Vec<OwnedChange>>,
    last_txn: u64,
    last_oid: u32,
    last_store: u32,
    last_election: u64,
    graves: Vec<Grave>,
    definitions: Vec<Definition>,
}

struct StoreState {
    store: Arc<Store>,
    has_primary_key: bool,
}

impl StoreState {
    fn of(table: &Table) -> StoreState {
        StoreState {
            store: Arc::clone(&table.store),
            has_primary_key: table.def.primary_key.is_some(),
        }
    }
}

/// A tentative change, until its fate is known.
struct OwnedChange {
    store: StoreId,
    op: Op,
    ended: Ended,
    key: Key,
    after: Row,
}

/// A branch whose rows become rows of its base.
struct Adoption {
    branch: Arc<Table>,
    base: StoreId,
    count: u64,
    skipped: HashSet<Ordinal>,
}

/// Local indexes of one commit: by store, its first ordinal, how many versions it announced and began.
struct Progress {
    first: Ordinal,
    announced: u64,
    begun: u64,
    /// Rows by ordinal, while the transaction adds a primary key.
    by_ordinal: Option<HashMap<Ordinal, (Lsn, Row)>>,
}

impl Replay {
    /// What the checkpoint says.
    fn upon(backing: &Arc<Backing>, checkpoint: Option<&State>) -> Result<Replay, Error> {
        let mut replay = Replay {
            backing: Arc::clone(backing),
            upon: Lsn::ZERO,
            visible: Lsn::ZERO,
            catalog: Catalog::default(),
            catalog_lsn: Lsn::ZERO,
            stores: HashMap::new(),
            tentative: HashMap::new(),
            last_txn: 0,
            last_oid: 0,
            last_store: 0,
            last_election: 0,
            graves: Vec::new(),
            definitions: Vec::new(),
        };
        let Some(state) = checkpoint else {
            return Ok(replay);
        };
        for definition in &state.definitions {
            replay.define(definition)?;
        }
        let counts: HashMap<StoreId, Counts> = state.counts.iter().copied().collect();
        let set = backing.runs.current();
        for (space, store) in replay.catalog.stores() {
            if let Some(counts) = counts.get(&store.id) {
                store.counters.restore(*counts);
            }
            if set.may_have(space) {
                store.set_below();
            }
        }
        replay.upon = state.at;
        replay.visible = state.at;
        replay.catalog_lsn = state.catalog_lsn;
        replay.last_txn = state.next_txn.saturating_sub(1);
        replay.last_oid = state.next_oid.saturating_sub(1);
        replay.last_store = state.next_store.saturating_sub(1);
        replay.last_election = state.next_election.saturating_sub(1);
        Ok(replay)
    }

    /// Makes a change of the catalog whose rows are in the runs.
    fn define(&mut self, definition: &Definition) -> Result<(), Error> {
        let Definition { lsn, space, change } = definition;
        match change {
            CatalogChange::Election(change) => drop(self.elect(*lsn, change, *space)?),
            change => {
                if let Some((store, key)) = self.alter(*lsn, change, *space)? {
                    self.rekey(*lsn, store, &key, Some(HashMap::new()), *space)?;
                }
            }
        }
        Ok(())
    }

    /// A home for a new store, in a space that is known or another.
    fn home(&self, space: Option<SpaceId>) -> Home {
        match space {
            Some(space) => self.backing.home(space),
            None => self.backing.new_home(),
        }
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
                Record::Tentative { id, change } => self.keep_tentative(lsn, id, &change),
                Record::TentativeDrop(id) => {
                    self.tentative.remove(&id);
                }
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

    fn keep_tentative(&mut self, _lsn: Lsn, id: TentativeId, change: &Change<'_>) {
        self.last_txn = self.last_txn.max(id.get());
        self.last_store = self.last_store.max(change.store.get());
        self.tentative.entry(id).or_default().push(OwnedChange {
            store: change.store,
            op: change.op,
            ended: change.ended,
            key: Key::from_bytes(change.key),
            after: Row::from(change.after),
        });
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
        let mut new_keys = HashMap::new();
        let mut adoptions = Vec::new();
        for change in catalog {
            match change {
                CatalogChange::Election(change) => adoptions.extend(self.elect(lsn, change, None)?),
                change => new_keys.extend(self.alter(lsn, change, None)?),
            }
        }
        let mut progress = HashMap::new();
        for range in commit.stores.iter() {
            let state = self.stores.get(&range.store);
            let state = state.ok_or_else(|| corrupt(lsn, Some(range.store), "unknown store".to_owned()))?;
            let expected = state.store.counters.next_ordinal();
            if range.first != expected {
                let what = format!("ordinals from {} where {expected} is next", range.first);
                return Err(corrupt(lsn, Some(range.store), what));
            }
            state.store.counters.take_ordinals(range.count);
            let by_ordinal = match new_keys.contains_key(&range.store) {
                true => Some(rows_by_ordinal(&state.store)?),
                false => None,
            };
            let (first, announced) = (range.first, range.count);
            progress.insert(
                range.store,
                Progress {
                    first,
                    announced,
                    begun: 0,
                    by_ordinal,
                },
            );
        }
        for adoption in adoptions {
            self.adopt(lsn, &mut progress, adoption)?;
        }
        if let Some(id) = commit.adopts {
            for change in self.tentative.remove(&id).unwrap_or_default() {
                let (store, op, ended) = (change.store, change.op, change.ended);
                self.change(
                    lsn,
                    &mut progress,
                    lsn,
                    store,
                    op,
                    ended,
                    &change.key,
                    change.after,
                )?;
            }
        }
        for (at, change) in changes {
            let (store, op, ended) = (change.store, change.op, change.ended);
            let after = Row::from(change.after);
            self.change(*at, &mut progress, lsn, store, op, ended, change.key, after)?;
        }
        for (store, progress) in &mut progress {
            if progress.begun != progress.announced {
                let what = format!(
                    "{} versions announced, {} found",
                    progress.announced, progress.begun
                );
                return Err(corrupt(lsn, Some(*store), what));
            }
        }
        for (store, key) in new_keys {
            let rows = progress
                .get_mut(&store)
                .and_then(|progress| progress.by_ordinal.take());
            self.rekey(lsn, store, &key, rows, None)?;
        }
        self.visible = lsn;
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of a record, owned or borrowed"
    )]
    fn change(
        &mut self,
        at: Lsn,
        progress: &mut HashMap<StoreId, Progress>,
        lsn: Lsn,
        store_id: StoreId,
        op: Op,
        ended: Ended,
        key: &[u8],
        after: Row,
    ) -> Result<(), Error> {
        // Changes of a store that the commit does not name are void: the transaction dropped the store itself.
        let (Some(progress), Some(state)) = (progress.get_mut(&store_id), self.stores.get(&store_id)) else {
            return Ok(());
        };
        let store = &state.store;
        let wrong = |what: String| corrupt(at, Some(store_id), what);
        let ended = match ended {
            Ended::None => None,
            Ended::Ordinal(ordinal) => Some(ordinal),
            Ended::Own(local) => Some(progress.first.plus(u64::from(local))),
        };
        if ended.is_some() != (op != Op::Insert) {
            return Err(wrong(
                "operation and ended version contradict each other".to_owned(),
            ));
        }
        let begun = match op {
            Op::Delete => None,
            Op::Insert | Op::Update => {
                store
                    .layout
                    .validate(&after)
                    .map_err(|error| wrong(error.to_string()))?;
                let ordinal = progress.first.plus(progress.begun);
                progress.begun += 1;
                Some((ordinal, after))
            }
        };
        if !state.has_primary_key
            && let Ok(row_id) = <[u8; 8]>::try_from(key)
        {
            store.counters.saw_hidden_key(u64::from_be_bytes(row_id));
        }
        if let Some(rows) = &mut progress.by_ordinal {
            let mut old = None;
            if let Some(ended) = ended {
                let removed = rows.remove(&ended);
                old = Some(removed.ok_or_else(|| wrong(format!("ended version {ended} does not exist")))?);
            }
            store.counters.add_live(Growth::of(
                old.as_ref().map(|(_, row)| &row[..]),
                begun.as_ref().map(|(_, row)| &row[..]),
            ));
            rows.extend(begun.map(|(ordinal, row)| (ordinal, (lsn, row))));
            return Ok(());
        }
        let store = Arc::clone(store);
        self.put(at, lsn, &store, key, ended, begun)
    }

    /// Ends one version of a row and begins another.
    fn put(
        &mut self,
        at: Lsn,
        lsn: Lsn,
        store: &Arc<Store>,
        key: &[u8],
        ended: Option<Ordinal>,
        begun: Option<(Ordinal, Row)>,
    ) -> Result<(), Error> {
        let wrong = |what: String| corrupt(at, Some(store.id), what);
        let pins = self.catalog.elections().pins().list();
        match (ended, begun) {
            (None, Some((ordinal, row))) => {
                store.counters.add_live(Growth::of(None, Some(&row)));
                let key = Key::from_bytes(key);
                let mut is_below = false;
                let made = store.rows.get_or_insert_if(&key, |has_gaps| {
                    is_below = has_gaps;
                    Some(Arc::new(RowEntry::committed(
                        lsn,
                        ordinal,
                        Some(Arc::clone(&row)),
                    )))
                });
                let (entry, is_new) = made.expect("it is always made");
                let mut state = entry.lock();
                if is_new {
                    if is_below {
                        state.set_below();
                    }
                    drop(state);
                    store.changed(&key, &entry, 0);
                    return Ok(());
                }
                let before = state.weight(key.as_ref());
                // A deletion that a pin has kept stays until replay is over, though the pin may be gone.
                if state.newest(store.id).row.is_some() {
                    return Err(wrong("a row with the key of an inserted row exists".to_owned()));
                }
                let kept = state.supersede(lsn, ordinal, Some(row), pins.as_deref().unwrap_or_default());
                store.counters.add_superseded(u64::from(kept));
                drop(state);
                store.changed(&key, &entry, before);
                Ok(())
            }
            (Some(ended), begun) => {
                let entry = match store.rows.find(key, Arc::clone) {
                    Found::Row(entry) => entry,
                    Found::Nothing => {
                        return Err(wrong(format!(
                            "version {ended} ended, but its row does not exist"
                        )));
                    }
                    Found::NotHere => {
                        put_unseen(store, key, lsn, begun);
                        return Ok(());
                    }
                };
                let mut state = entry.lock();
                let before = state.weight(key);
                let newest = state.newest(store.id);
                if newest.ordinal != ended || newest.row.is_none() {
                    return Err(wrong(format!("version {ended} ended, {} found", newest.ordinal)));
                }
                let new = begun.as_ref().map(|(_, row)| &row[..]);
                let old = newest.row.map(|row| &row[..]);
                store.counters.add_live(Growth::of(old, new));
                match (begun, &pins) {
                    (Some((ordinal, row)), None) => state.replace(lsn, ordinal, row),
                    (Some((ordinal, row)), Some(pins)) => {
                        let kept = state.supersede(lsn, ordinal, Some(row), pins);
                        store.counters.add_superseded(u64::from(kept));
                    }
                    (None, pins) => {
                        state.supersede(lsn, Ordinal::default(), None, pins.as_deref().unwrap_or_default());
                        if state.is_bare_deletion() && !state.is_below() {
                            store.home.backing.add_memory(state.recount(key, before));
                            drop(state);
                            store.remove(key, &entry);
                            return Ok(());
                        }
                        if !state.is_below() {
                            let row = RowRef {
                                store: Arc::clone(store),
                                key: Key::from_bytes(key),
                                entry: Arc::clone(&entry),
                            };
                            self.graves.push(Grave { lsn, row });
                        }
                    }
                }
                drop(state);
                store.changed(&Key::from_bytes(key), &entry, before);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// Makes one change of the elections. For an adoption: what is to be adopted, once the commit's ordinals are known.
    fn elect(
        &mut self,
        lsn: Lsn,
        change: &ElectionChange,
        space: Option<SpaceId>,
    ) -> Result<Option<Adoption>, Error> {
        let mut adoption = None;
        let mut table = None;
        match change {
            ElectionChange::CreateElection { id, .. } | ElectionChange::CreateCandidate { id, .. } => {
                self.last_election = self.last_election.max(*id);
            }
            ElectionChange::CreateBranch {
                candidate,
                base,
                store,
                columns,
                ..
            } => {
                let known = self.catalog.elections().candidate(*candidate);
                let of_base = known.and_then(|(_, candidate)| candidate.base.tables.by_store(*base));
                let of_base = of_base
                    .ok_or_else(|| corrupt(lsn, Some(*base), "branch of an unknown store".to_owned()))?;
                let branch = Arc::new(branch::table(self.home(space), of_base, *store, columns.clone()));
                self.last_store = self.last_store.max(store.get());
                self.stores.insert(*store, StoreState::of(&branch));
                table = Some(branch);
            }
            ElectionChange::Adopt {
                candidate,
                base,
                count,
                skipped,
                ..
            } => {
                let known = self.catalog.elections().candidate(*candidate);
                let branch = known.and_then(|(_, candidate)| candidate.branch(*base));
                let branch = branch
                    .ok_or_else(|| corrupt(lsn, Some(*base), "adoption of an unknown branch".to_owned()))?;
                adoption = Some(Adoption {
                    branch: Arc::clone(&branch.table),
                    base: *base,
                    count: *count,
                    skipped: skipped.iter().copied().collect(),
                });
            }
            ElectionChange::EndCandidate { branches, .. } | ElectionChange::Discard { branches, .. } => {
                for store in branches {
                    self.stores.remove(store);
                }
            }
            ElectionChange::EndElection { .. }
            | ElectionChange::ForgetElection { .. }
            | ElectionChange::Rebase { .. }
            | ElectionChange::Record { .. }
            | ElectionChange::AlterCandidate { .. }
            | ElectionChange::Expire { .. }
            | ElectionChange::Decide { .. }
            | ElectionChange::Score { .. }
            | ElectionChange::Grant { .. } => {}
        }
        self.change_catalog(lsn, CatalogChange::Election(change.clone()), table)?;
        if let ElectionChange::Rebase { candidate } = change {
            self.keep_branches(*candidate);
        }
        Ok(adoption)
    }

    /// A rebase may have made empty branches anew, with another key.
    fn keep_branches(&mut self, candidate: u64) {
        let known = self.catalog.elections().candidate(candidate);
        for branch in known.into_iter().flat_map(|(_, candidate)| candidate.branches()) {
            self.stores.insert(branch.store(), StoreState::of(&branch.table));
        }
    }

    /// Makes the rows of a branch rows of its base.
    fn adopt(
        &mut self,
        lsn: Lsn,
        progress: &mut HashMap<StoreId, Progress>,
        adoption: Adoption,
    ) -> Result<(), Error> {
        let Adoption {
            branch: table,
            base,
            count,
            skipped,
        } = adoption;
        let wrong = |what: &str| corrupt(lsn, Some(base), what.to_owned());
        let progress = progress.get_mut(&base);
        let progress =
            progress.ok_or_else(|| wrong("an adoption into a store that the commit does not name"))?;
        if progress.begun != 0 || count != table.store.counters.next_ordinal().get() {
            return Err(wrong("an adoption that does not come first, or of another count"));
        }
        progress.begun = count;
        let first = progress.first;
        let state = self.stores.get(&base);
        let store = Arc::clone(&state.ok_or_else(|| wrong("unknown store"))?.store);
        let mut rows = Vec::new();
        each_newest(&table.store, &mut |key, version| {
            let ordinal = version.ordinal.unwrap_or_default();
            if !skipped.contains(&ordinal) {
                rows.push((key.clone(), ordinal, version.row));
            }
        })?;
        for (key, ordinal, row) in rows {
            let proposal = branch::decode(&store.layout, &table, &row);
            let begun = proposal
                .visible()
                .map(|row| (first.plus(ordinal.get()), Arc::clone(row)));
            self.put(lsn, lsn, &store, key.as_ref(), proposal.replaced, begun)?;
        }
        Ok(())
    }

    /// Makes one change of the catalog that comes with its table.
    fn change_catalog(
        &mut self,
        lsn: Lsn,
        change: CatalogChange,
        table: Option<Arc<Table>>,
    ) -> Result<(), Error> {
        let applied = self.apply_change(lsn, change, table)?;
        self.definitions.push(Definition::new(lsn, &applied));
        Ok(())
    }

    fn apply_change(
        &mut self,
        lsn: Lsn,
        change: CatalogChange,
        table: Option<Arc<Table>>,
    ) -> Result<AppliedChange, Error> {
        let applied = AppliedChange {
            change,
            table,
            retires: None,
        };
        let next = self.catalog.with(lsn, std::slice::from_ref(&applied));
        self.catalog = next.map_err(|error| corrupt(lsn, None, error.to_string()))?;
        self.catalog_lsn = lsn;
        Ok(applied)
    }

    /// Makes one change of the catalog. For a new primary key: which store is to be keyed anew.
    fn alter(
        &mut self,
        lsn: Lsn,
        change: &CatalogChange,
        space: Option<SpaceId>,
    ) -> Result<Option<(StoreId, PrimaryKey)>, Error> {
        let table_of = |oid: u32| {
            let table = self.catalog.by_oid(oid).cloned();
            table.ok_or_else(|| corrupt(lsn, None, format!("the catalog has no table with oid {oid}")))
        };
        let mut new_key = None;
        let table = match change {
            CatalogChange::CreateTable(def) => {
                crate::catalog::check_definition(def)
                    .map_err(|error| corrupt(lsn, Some(def.store), error.to_string()))?;
                Some(Table::with_fresh_store(
                    self.home(space),
                    def.clone(),
                    Arc::default(),
                ))
            }
            CatalogChange::DropTable { oid, .. } => {
                table_of(*oid)?;
                None
            }
            CatalogChange::Truncate { oid, new, .. } => {
                let old = table_of(*oid)?;
                let def = TableDef {
                    store: *new,
                    ..old.def.clone()
                };
                let new = Table::with_fresh_store(self.home(space), def, Arc::clone(&old.lock));
                Some(new.with_rules(Arc::clone(&old.rules)))
            }
            CatalogChange::AddPrimaryKey { oid, key } => {
                let old = table_of(*oid)?;
                let mut def = old.def.clone();
                def.primary_key = Some(key.clone());
                crate::catalog::check_definition(&def)
                    .map_err(|error| corrupt(lsn, Some(old.def.store), error.to_string()))?;
                for column in &key.columns {
                    def.columns[*column].not_null = true;
                }
                new_key = Some((def.store, key.clone()));
                let new = Table::new(def, Arc::clone(&old.store), Arc::clone(&old.lock));
                Some(new.with_rules(Arc::new(old.rules.without(&key.columns))))
            }
            CatalogChange::SetRules { oid, rules } => {
                let old = table_of(*oid)?;
                Some(old.ruled(Arc::new(rules.clone())))
            }
            CatalogChange::Redefine(def) => {
                let old = table_of(def.oid)?;
                crate::catalog::check_definition(def)
                    .map_err(|error| corrupt(lsn, Some(def.store), error.to_string()))?;
                let types = |def: &TableDef| def.columns.iter().map(|column| column.ty).collect::<Vec<_>>();
                if old.def.store != def.store || types(&old.def) != types(def) {
                    let what = "a definition that is not of the table's data".to_owned();
                    return Err(corrupt(lsn, Some(def.store), what));
                }
                Some(old.redefined(def.clone(), Arc::clone(&old.rules)))
            }
            CatalogChange::Election(_) => unreachable!("elections have their own way"),
        };
        let table = table.map(Arc::new);
        if let CatalogChange::DropTable { store: old, .. } | CatalogChange::Truncate { old, .. } = change {
            self.stores.remove(old);
        }
        if let Some(table) = &table {
            self.last_oid = self.last_oid.max(table.def.oid);
            self.last_store = self.last_store.max(table.def.store.get());
            for index in &table.def.indexes {
                self.last_oid = self.last_oid.max(index.oid);
                self.last_store = self.last_store.max(index.store.get());
            }
            self.stores.insert(table.def.store, StoreState::of(table));
        }
        match new_key {
            // Recorded with the store that the new key makes.
            Some(_) => self.apply_change(lsn, change.clone(), table).map(drop)?,
            None => self.change_catalog(lsn, change.clone(), table)?,
        }
        Ok(new_key)
    }

    /// Puts the rows of a store under its new primary key.
    fn rekey(
        &mut self,
        lsn: Lsn,
        store_id: StoreId,
        key: &PrimaryKey,
        rows: Option<HashMap<Ordinal, (Lsn, Row)>>,
        space: Option<SpaceId>,
    ) -> Result<(), Error> {
        // The transaction may have dropped the table after all.
        let Some(state) = self.stores.get(&store_id) else {
            return Ok(());
        };
        let Some(table) = self.catalog.tables.by_store(store_id) else {
            return Ok(());
        };
        let old = Arc::clone(&state.store);
        // In the order of their birth, which often is the order of their keys, too.
        let rows = match rows {
            Some(rows) => rows,
            None => rows_by_ordinal(&old)?,
        };
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        let (layout, counters) = (Arc::clone(&old.layout), Arc::clone(&old.counters));
        let store = Store::with_counters(self.home(space), store_id, layout, counters);
        for (ordinal, (version_lsn, row)) in rows {
            let wrong = |what: String| corrupt(lsn, Some(store_id), what);
            let new_key = key_of(&store.layout, &key.columns, &row).map_err(|column| {
                wrong(format!(
                    "row {ordinal} has NULL in column {column} of the new key"
                ))
            })?;
            let entry = Arc::new(RowEntry::committed(version_lsn, ordinal, Some(row)));
            let (entry, is_new) = store.rows.get_or_insert_with(&new_key, || entry);
            store.changed(&new_key, &entry, 0);
            if !is_new {
                return Err(wrong(format!("row {ordinal} has the new key of another row")));
            }
        }
        let store = Arc::new(store);
        let rekeyed = Table::new(table.def.clone(), Arc::clone(&store), Arc::clone(&table.lock));
        let table = Arc::new(rekeyed.with_rules(Arc::clone(&table.rules)));
        self.stores.insert(store_id, StoreState::of(&table));
        let change = CatalogChange::AddPrimaryKey {
            oid: table.def.oid,
            key: key.clone(),
        };
        self.change_catalog(lsn, change, Some(table))
    }

    /// Fills the indexes, of which neither the log nor the runs have anything.
    fn fill_indexes(&self) -> Result<(), Error> {
        for table in self.catalog.all_tables() {
            let filled = replay::fill(table, |visit| each_newest(&table.store, visit));
            filled.map_err(|error| match error {
                Error::KeyExists { .. } => corrupt(self.visible, Some(table.def.store), error.to_string()),
                error => error,
            })?;
        }
        Ok(())
    }

    fn finish(self) -> Recovered {
        let mut unfinished: Vec<TentativeId> = self.tentative.into_keys().collect();
        unfinished.sort_unstable();
        Recovered {
            unfinished,
            visible: self.visible,
            catalog: self.catalog,
            catalog_lsn: self.catalog_lsn,
            next_txn: self.last_txn + 1,
            next_oid: self.last_oid.saturating_add(1).max(FIRST_OID),
            next_store: self.last_store + 1,
            next_election: self.last_election + 1,
            graves: self.graves,
            definitions: self.definitions,
        }
    }
}

/// Ends a version that only the runs have, and begins another.
fn put_unseen(store: &Store, key: &[u8], lsn: Lsn, begun: Option<(Ordinal, Row)>) {
    let growth = Growth::unseen(true, begun.as_ref().map(|(_, row)| &row[..]));
    store.counters.add_live(growth);
    let (ordinal, row) = begun.unzip();
    let entry = RowEntry::committed(lsn, ordinal.unwrap_or_default(), row);
    entry.lock().set_below();
    let key = Key::from_bytes(key);
    let (entry, _) = store.rows.get_or_insert_with(&key, || Arc::new(entry));
    store.changed(&key, &entry, 0);
}

/// Calls `visit` with each row of a store.
fn each_newest(store: &Store, visit: &mut dyn FnMut(&Key, Version)) -> Result<(), Error> {
    store.scan_newest(&KeyRange::all(), |key, met| {
        let version = match met {
            Met::Entry(entry, _) => entry.lock().newest(store.id).version(),
            Met::Below(stored) => stored.version(),
        };
        if let Some(version) = version {
            visit(key, version);
        }
        true
    })
}

fn corrupt(lsn: Lsn, store: Option<StoreId>, what: String) -> Error {
    Error::Corrupt { lsn, store, what }
}

/// All rows of a store, each by the ordinal of its one version.
fn rows_by_ordinal(store: &Store) -> Result<HashMap<Ordinal, (Lsn, Row)>, Error> {
    let mut rows = HashMap::new();
    each_newest(store, &mut |_, version| {
        rows.insert(version.ordinal.unwrap_or_default(), (version.lsn, version.row));
    })?;
    Ok(rows)
}
