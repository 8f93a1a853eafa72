//! A transaction inside of a candidate: it reads the candidate's base with its branches laid over it, and writes into
//! the branches.
//!
//! Each operation on a table has its counterpart here. A row that is to be changed is taken over into the branch
//! first, and locked there: sessions of one candidate wait for each other as they would on a table, and nobody else
//! ever meets these locks.
//!
//! Invariant: of the table itself only versions that the base sees are read, and nothing is locked or written. It is
//! asserted where a transaction first locks something of a table.

use super::rows::InsertOutcome;
use super::scan::ScanCursor;
use super::{Isolation, Txn};
use crate::Row;
use crate::catalog::{Catalog, Table};
use crate::catalog_change::CatalogChange;
use crate::election::branch::{self, Proposal};
use crate::election::change::ElectionChange;
use crate::election::{Access, Base, Branch, Candidate, Election, check_kind};
use crate::engine::EngineSession;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::overlay::{Now, Version};
use crate::store::memtable::Found;
use scry_wal::{Ordinal, StoreId};
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The candidate that a transaction works in.
pub(crate) struct Inside {
    pub(crate) election: u64,
    pub(crate) candidate: u64,
    /// `election/candidate`, for messages.
    label: String,
    mirrored: bool,
    /// Whether the statements that write are recorded.
    records: bool,
    /// Whether its branches are made by this transaction, which rebases it.
    rebasing: bool,
    base: Base,
    access: Arc<Access>,
    /// The branches that this transaction has opened for writing.
    pub(crate) branches: SmallVec<[Arc<Branch>; 2]>,
}

impl Inside {
    /// Refuses when the candidate has ended or was rebased. For the commit's critical section.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        self.access.check(&self.label)
    }

    /// Refuses when this transaction, which has written into the candidate, would make it one of both rows and statements.
    /// For the commit's critical section.
    pub(crate) fn check_kind(&self, latest: &Catalog) -> Result<(), Error> {
        match self.label.split_once('/') {
            Some(candidate) if !self.rebasing => check_kind(latest, candidate, self.records),
            _ => Ok(()),
        }
    }

    /// Whether this is a branch that the transaction has opened for writing.
    pub(super) fn owns(&self, table: &Table) -> bool {
        let mut branches = self.branches.iter();
        branches.any(|branch| Arc::ptr_eq(&branch.table.store, &table.store))
    }

    /// The catalog of the base, with the elections of another.
    pub(super) fn catalog(&self, latest: &Catalog) -> Catalog {
        Catalog {
            tables: Arc::clone(&self.base.tables),
            elections: Arc::clone(&latest.elections),
            sequences: Arc::clone(&latest.sequences),
            has_indexes: false,
        }
    }
}

impl EngineSession {
    /// Begins a transaction inside of a candidate.
    ///
    /// # Errors
    /// `UndefinedElection`, `ElectionEnded`, `UndefinedCandidate`, `CandidateEnded`, `BaseExpired`; `NotInCandidate` under
    /// SERIALIZABLE.
    pub fn begin_in(&mut self, election: &str, candidate: &str, isolation: Isolation) -> Result<Txn, Error> {
        if isolation == Isolation::Serializable {
            // What it reads changes with the candidate's branches, and these by commits of their own.
            return Err(Error::NotInCandidate {
                what: "a SERIALIZABLE transaction",
            });
        }
        let mut txn = self.begin(isolation);
        let (election, candidate) = txn.open_candidate(election, candidate)?;
        candidate.check_base(&election)?;
        txn.inside = Some(Inside::new(&election, &candidate, candidate.base.clone()));
        txn.enter_base();
        Ok(txn)
    }
}

impl Inside {
    fn new(election: &Election, candidate: &Candidate, base: Base) -> Inside {
        Inside {
            election: election.id,
            candidate: candidate.id,
            label: format!("{}/{}", election.name, candidate.name),
            mirrored: candidate.mirrored,
            records: false,
            rebasing: false,
            base,
            access: Arc::clone(&candidate.access),
            branches: SmallVec::new(),
        }
    }
}

impl Txn {
    /// From here on each statement that writes is to be recorded; see [`Txn::record`]. For a transaction inside of a
    /// candidate that has written nothing yet.
    pub fn begin_recording(&mut self) {
        if let Some(inside) = &mut self.inside {
            inside.records = true;
        }
    }

    /// Whether statements that write are to be recorded.
    pub fn is_recording(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| inside.records)
    }

    /// Refuses when the candidate that this transaction works in has ended, or has another base by now: nothing of it would be
    /// committed, and what it reads would be of two states.
    ///
    /// # Errors
    /// `CandidateEnded`, `CandidateChanged`.
    pub fn check_candidate(&self) -> Result<(), Error> {
        match &self.inside {
            Some(inside) => inside.check_open(),
            None => Ok(()),
        }
    }

    /// Goes inside of a candidate that this transaction rebases onto `base`.
    pub(crate) fn enter_candidate(&mut self, election: &Election, candidate: &Candidate, base: Base) {
        self.inside = Some(Inside {
            rebasing: true,
            ..Inside::new(election, candidate, base)
        });
        self.enter_base();
    }

    /// Leaves the candidate that this transaction rebases: what follows is done to the tables.
    pub fn leave_candidate(&mut self) {
        self.forget_touched();
        if self.inside.take().is_some() {
            self.rebuild_catalog();
        }
    }

    /// The numbers of the election and the candidate that the transaction works in.
    pub fn candidate(&self) -> Option<(u64, u64)> {
        let inside = self.inside.as_ref()?;
        Some((inside.election, inside.candidate))
    }

    /// Refuses what is not done inside of a candidate.
    ///
    /// # Errors
    /// `NotInCandidate`.
    pub fn not_in_candidate(&self, what: &'static str) -> Result<(), Error> {
        match self.inside {
            Some(_) => Err(Error::NotInCandidate { what }),
            None => Ok(()),
        }
    }

    /// The branch of a table as far as this transaction sees one.
    fn branch_of(&self, table: &Table) -> Option<Arc<Branch>> {
        let inside = self.inside.as_ref()?;
        let base = table.def.store;
        let opened = inside.branches.iter().find(|branch| branch.base == base);
        opened
            .cloned()
            .or_else(|| branch_in(&self.catalog, inside.candidate, base))
    }

    /// The branch of a table, for writing; made when there is none. That is a commit of its own: an empty
    /// branch changes nothing, and no other transaction has to wait for this one.
    fn open_branch(&mut self, table: &Table) -> Result<Arc<Branch>, Error> {
        let base = table.def.store;
        let inside = self.inside.as_ref().expect("only called inside of a candidate");
        if let Some(opened) = inside.branches.iter().find(|branch| branch.base == base) {
            return Ok(Arc::clone(opened));
        }
        let (candidate, mirrored, rebasing) = (inside.candidate, inside.mirrored, inside.rebasing);
        let opened = loop {
            if rebasing {
                if branch_in(&self.catalog, candidate, base).is_none() {
                    self.create_branch(candidate, mirrored, table)?;
                }
                break branch_in(&self.catalog, candidate, base).expect("it was made above");
            }
            let inside = self.inside.as_ref().expect("as above");
            inside.check_open()?;
            inside.check_kind(&self.engine.catalog())?;
            self.check_size(candidate, &inside.label)?;
            if let Some(known) = branch_in(&self.engine.catalog(), candidate, base) {
                break known;
            }
            let mut session = self.engine.session((*self.info).clone());
            let mut creating = session.begin(Isolation::ReadCommitted);
            creating.create_branch(candidate, mirrored, table)?;
            match creating.commit("CREATE BRANCH") {
                // Another session of the candidate was first.
                Ok(_) | Err(Error::CandidateChanged { .. }) => {}
                Err(error) => return Err(error),
            }
        };
        self.depend_on(self.engine.catalog_lsn());
        if let Some(inside) = &mut self.inside {
            inside.branches.push(Arc::clone(&opened));
        }
        Ok(opened)
    }

    /// Refuses when the rows of a candidate take too much memory.
    fn check_size(&self, candidate: u64, label: &str) -> Result<(), Error> {
        let limit = self.engine.options.candidate_bytes_max;
        let catalog = self.engine.catalog();
        let known = catalog.elections().candidate(candidate);
        match known.is_some_and(|(_, candidate)| candidate.bytes() >= limit) {
            true => Err(Error::CandidateTooLarge {
                candidate: label.to_owned(),
                limit,
            }),
            false => Ok(()),
        }
    }

    pub(crate) fn create_branch(
        &mut self,
        candidate: u64,
        mirrored: bool,
        table: &Table,
    ) -> Result<(), Error> {
        let store = self.engine.next_store_id();
        let columns = branch::columns(&table.def.columns);
        if columns.len() > crate::row::MAX_COLUMNS {
            return Err(Error::InvalidDefinition {
                table: table.def.name.clone(),
                reason: "too many columns for a candidate to change it",
            });
        }
        let made = Arc::new(branch::table(
            table.store.home.another(),
            table,
            store,
            columns.clone(),
        ));
        self.holder();
        let change = ElectionChange::CreateBranch {
            candidate,
            base: table.def.store,
            store,
            mirrored,
            columns,
        };
        self.alter(CatalogChange::Election(change), Some(made), None)
    }

    /// The version of a row that the base sees.
    pub(crate) fn base_version(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        let at = self
            .inside
            .as_ref()
            .expect("only called inside of a candidate")
            .base
            .at;
        let store = &table.store;
        let found = store.rows.find_seen(key, |entry| {
            let mut state = entry.lock();
            state.touch();
            match state.read(at, store.id) {
                Some(seen) => Some(seen.version()),
                None if state.is_below() => None,
                None => Some(None),
            }
        });
        let found = match found {
            Found::Row(Some(found)) => found,
            Found::Nothing => None,
            Found::Row(None) | Found::NotHere => {
                store.read_below(key, at)?.and_then(|stored| stored.version())
            }
        };
        if let Some(found) = &found {
            self.depend_on(found.lsn);
        }
        Ok(found)
    }

    /// `Txn::get` inside of a candidate.
    pub(super) fn get_inside(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        if let Some(branch) = self.branch_of(table)
            && let Some(version) = self.get_plain(&branch.table, key)?
        {
            let proposal = branch::decode(&table.layout, &branch.table, &version.row);
            return Ok(visible(&version, &proposal));
        }
        self.base_version(table, key)
    }

    /// `Txn::lock` inside of a candidate.
    pub(super) async fn lock_inside(&mut self, table: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        if self.get_inside(table, key)?.is_none() && self.isolation.keeps_snapshot() {
            return Ok(None);
        }
        let branch = self.open_branch(table)?;
        loop {
            if let Some(version) = self.lock_plain(&branch.table, key).await? {
                let proposal = branch::decode(&table.layout, &branch.table, &version.row);
                if proposal.deleted {
                    self.unlock_plain(&branch.table, key);
                }
                return Ok(visible(&version, &proposal));
            }
            let Some(base) = self.base_version(table, key)? else {
                return Ok(None);
            };
            let touched = Proposal {
                row: Arc::clone(&base.row),
                replaced: base.ordinal,
                deleted: false,
                before: None,
            };
            let row = branch::encode(&table.layout, &branch.table, &touched)?;
            let key = Key::from_bytes(key);
            match self.insert_plain(&branch.table, Some(key), row.into()).await? {
                InsertOutcome::Inserted(_) => return Ok(Some(base)),
                // Another session of the candidate was first.
                InsertOutcome::Exists(_) | InsertOutcome::Taken { .. } => {}
            }
        }
    }

    /// `Txn::insert` inside of a candidate.
    pub(super) async fn insert_inside(
        &mut self,
        table: &Table,
        key: Option<Key>,
        row: Row,
    ) -> Result<InsertOutcome, Error> {
        let branch = self.open_branch(table)?;
        let key = match key {
            Some(key) => key,
            None => table.store.counters.hidden_key(),
        };
        loop {
            if let Some(version) = self.lock_plain(&branch.table, key.as_ref()).await? {
                let proposal = branch::decode(&table.layout, &branch.table, &version.row);
                if let Some(existing) = visible(&version, &proposal) {
                    self.unlock_plain(&branch.table, key.as_ref());
                    return Ok(InsertOutcome::Exists(existing));
                }
                self.propose(table, &branch, key.as_ref(), row)?;
                return Ok(InsertOutcome::Inserted(key));
            }
            if let Some(existing) = self.base_version(table, key.as_ref())? {
                return Ok(InsertOutcome::Exists(existing));
            }
            let new = Proposal {
                row: Arc::clone(&row),
                replaced: None,
                deleted: false,
                before: None,
            };
            let encoded = branch::encode(&table.layout, &branch.table, &new)?;
            let outcome = self
                .insert_plain(&branch.table, Some(key.clone()), encoded.into())
                .await?;
            if matches!(outcome, InsertOutcome::Inserted(_)) {
                return Ok(InsertOutcome::Inserted(key));
            }
        }
    }

    /// `Txn::update` inside of a candidate.
    pub(super) fn update_inside(&mut self, table: &Table, key: &[u8], row: Row) -> Result<(), Error> {
        let branch = self.open_branch(table)?;
        self.propose(table, &branch, key, row)
    }

    /// Writes a row over one that is locked in the branch.
    fn propose(&mut self, table: &Table, branch: &Branch, key: &[u8], row: Row) -> Result<(), Error> {
        let (replaced, found) = self.replaced_by(table, branch, key)?;
        let proposal = Proposal {
            replaced,
            deleted: false,
            before: found.map(|found| table.layout.encode_before(&found, &row)),
            row,
        };
        let encoded = branch::encode(&table.layout, &branch.table, &proposal)?;
        self.update_plain(&branch.table, key, encoded.into())
    }

    /// What the branch's row of a key replaces: the version, and the row that it held.
    fn replaced_by(
        &mut self,
        table: &Table,
        branch: &Branch,
        key: &[u8],
    ) -> Result<(Option<Ordinal>, Option<Row>), Error> {
        let Some(version) = self.get_plain(&branch.table, key)? else {
            return Ok((None, None));
        };
        let proposal = branch::decode(&table.layout, &branch.table, &version.row);
        Ok((proposal.replaced, proposal.found(&table.layout)))
    }

    /// `Txn::delete` inside of a candidate.
    pub(super) fn delete_inside(&mut self, table: &Table, key: &[u8]) -> Result<(), Error> {
        let branch = self.open_branch(table)?;
        let (mut replaced, mut found) = self.replaced_by(table, &branch, key)?;
        if found.is_none()
            && let Some(base) = self.base_version(table, key)?
        {
            // A row that came with a rebase, below one that is the candidate's own: both are to be gone.
            (replaced, found) = (base.ordinal, Some(base.row));
        }
        let Some(found) = found else {
            return self.delete_plain(&branch.table, key);
        };
        let proposal = Proposal {
            row: found,
            replaced,
            deleted: true,
            before: None,
        };
        let encoded = branch::encode(&table.layout, &branch.table, &proposal)?;
        self.update_plain(&branch.table, key, encoded.into())
    }

    /// `Txn::scan` inside of a candidate.
    pub(super) fn scan_inside(
        &mut self,
        table: &Table,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &Version) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut cursor = self.begin_scan_inside(table, range.clone())?;
        loop {
            let batch = cursor.next_batch(SCAN_BATCH)?;
            let last = batch.len() < SCAN_BATCH;
            let stopped = batch
                .iter()
                .any(|(key, version)| visit(key.as_ref(), version).is_break());
            if stopped || last {
                break;
            }
        }
        self.depend_on(cursor.depends_on());
        Ok(())
    }

    /// `Txn::begin_scan` inside of a candidate.
    pub(super) fn begin_scan_inside(&mut self, table: &Table, range: KeyRange) -> Result<ScanCursor, Error> {
        let mut laid_over = Vec::new();
        if let Some(branch) = self.branch_of(table) {
            self.scan_plain(&branch.table, &range, &mut |key, version| {
                let proposal = branch::decode(&table.layout, &branch.table, &version.row);
                laid_over.push((Key::from_bytes(key), visible(version, &proposal)));
                ControlFlow::Continue(())
            })?;
        }
        let base = self.inside.as_ref().map(|inside| inside.base.clone());
        let base = base.expect("only called inside of a candidate");
        Ok(self.cursor_at_base(table, range, base, laid_over))
    }

    /// Takes out what was locked and never written. For the commit.
    pub(crate) fn forget_touched(&mut self) {
        let Some(inside) = &self.inside else { return };
        let mut touched = Vec::new();
        for (slot, pending) in self.overlay.changes.iter().enumerate() {
            let store = self.overlay.store_of(pending).id;
            if let Some(branch) = inside.branches.iter().find(|branch| branch.store() == store)
                && let Now::Row(row) = &pending.now
                && branch::is_touched(&branch.table, row)
            {
                touched.push(slot);
            }
        }
        for slot in touched {
            let slot = u32::try_from(slot).expect("bounded by CHANGES_MAX");
            self.overlay.write(slot, Now::Gone, 0);
        }
    }
}

/// Rows that a scan takes at a time.
const SCAN_BATCH: usize = 1024;

/// A row of a branch as statements see it.
fn visible(version: &Version, proposal: &Proposal) -> Option<Version> {
    Some(Version {
        lsn: version.lsn,
        ordinal: None,
        row: Arc::clone(proposal.visible()?),
    })
}

fn branch_in(catalog: &Catalog, candidate: u64, base: StoreId) -> Option<Arc<Branch>> {
    let (_, candidate): (_, &Arc<Candidate>) = catalog.elections().candidate(candidate)?;
    candidate.branch(base).cloned()
}
