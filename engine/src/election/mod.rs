//! Elections: several futures of the same data, of which one (or a few) are committed.
//!
//! An *election* holds *candidates*. A candidate is a durable transaction that may take weeks and many sessions. What
//! makes it simple is where its changes stand: **a candidate's changes to a table are a store of their own**, the
//! *branch* of that table. A statement of a candidate commits into the branch as any transaction commits into any
//! store: durable through the log, visible at its LSN, recovered and mirrored by what recovers and mirrors stores.
//! Nothing of the table itself is touched or locked, so no ordinary transaction ever waits for a candidate.
//!
//! A branch has the table's columns and three more (see [`branch`]): the ordinal of the version that the row
//! replaces, whether the candidate deleted it, and what the replaced version held. So a branch says by itself what the
//! candidate did, from which state, and whether that state is still the present: is the ordinal still alive?
//!
//! Statements of a candidate see its *base*, the tables as of one LSN, with the branches laid over it. The base is the
//! LSN of the commit that created the election. It is *pinned*: versions that it needs stay until the election
//! ends, and no others do (see `pins`).
//!
//! Electing is one ordinary commit. Rows of a branch whose ordinal is still alive are *adopted*: the commit names the
//! branch, and the table's counter moves on by the branch's count, so that the row with ordinal *o* in the branch gets
//! ordinal *first + o* in the table. No row is logged again, and a mirror relinks its columns instead of copying them.
//! (Of a candidate that is not mirrored, mirrors have nothing to relink: its rows are logged as those of any commit.)
//!
//! Rebasing moves a candidate's base to the present: rows of the branches that are not what they replace any more are
//! decided as in an election, and written into the branches anew.
//!
//! What a row of a branch replaces, and what it found there, stands in the row itself and stays with it: a base may hold
//! a later version, committed while a rebase was under way.
//!
//! Invariants:
//! - a branch belongs to one candidate and one store, and is written by that candidate's transactions only;
//! - a commit into a branch finds its candidate open, checked inside the commit's critical section;
//! - between the look at a branch and the commit that adopts it nothing was committed into it, checked there too;
//! - an election is open, committed or abandoned, and changes state with a commit;
//! - an election that is not open has no open candidate, and a candidate that is not open has no branches.
//!
//! A candidate may also consist of statements that are run again instead of decided about: see [`recorded`].

mod alter;
mod apply;
pub(crate) mod branch;
pub mod change;
mod ddl;
mod elect;
mod expire;
mod predict;
mod privilege;
mod rebase;
mod recorded;

use crate::catalog::{ColumnDef, Table, Tables};
use crate::catalog_change::CatalogChange;
use crate::error::Error;
use crate::locks::TableLock;
use crate::pins::{Pin, Pins};
use crate::row::RowLayout;
use crate::txn::PRIVATE;
use change::{ElectionChange, Score};
use privilege::Acl;
use scry_wal::{Lsn, Micros, Ordinal, StoreId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

pub use alter::CandidateChanges;
pub use branch::columns as branch_columns;
pub use ddl::{NewCandidate, NewElection};
pub(crate) use elect::Electing;
pub use elect::{Conflict, Elected, OnConflict};
pub use predict::{Change, Collision, Shown};
pub use privilege::Privileges;
pub(crate) use recorded::check_kind;
pub use recorded::{Parameter, Recorded, STATEMENT_BYTES_MAX, STATEMENTS_MAX};

/// What has become of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionState {
    /// Candidates may come, change and be elected.
    Open,
    /// As many were elected as may be.
    Committed,
    /// Ended without, or before all.
    Abandoned,
}

impl ElectionState {
    pub fn name(self) -> &'static str {
        match self {
            ElectionState::Open => "open",
            ElectionState::Committed => "committed",
            ElectionState::Abandoned => "abandoned",
        }
    }
}

/// What has become of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateState {
    Open,
    Elected,
    Dropped,
}

impl CandidateState {
    pub fn name(self) -> &'static str {
        match self {
            CandidateState::Open => "open",
            CandidateState::Elected => "elected",
            CandidateState::Dropped => "dropped",
        }
    }
}

/// A question to which several futures are answers.
#[derive(Clone, Debug)]
pub struct Election {
    pub id: u64,
    pub name: String,
    /// The user who created it.
    pub owner: String,
    /// Wall clock, for people.
    pub created: Micros,
    /// How many candidates may be elected; 0: any number.
    pub winners: u32,
    pub state: ElectionState,
    /// What candidates begin with.
    base: Base,
    /// Rows that were not what a candidate found, in elections and rebases so far: those that the rules decided, and those
    /// that were deferred.
    pub resolved: u64,
    pub deferred: u64,
    /// What its futures answered to the query by which it was decided last.
    pub scores: Option<Arc<Scores>>,
    /// What was elected, in order.
    pub committed: Vec<Committed>,
    /// Who may do what.
    acl: Acl,
    /// Held by the transaction that elects. Shared by all catalogs that know the election.
    pub(crate) lock: Arc<TableLock>,
    candidates: BTreeMap<String, Arc<Candidate>>,
}

/// What the commit that elected a candidate was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its name.
    pub candidate: String,
    /// The commit.
    pub at: Lsn,
    /// The stores of the tables that the candidate had changed.
    pub stores: Vec<StoreId>,
}

/// What the futures of an election answered to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scores {
    /// Its text.
    pub query: String,
    /// Whether the greatest answer is the best.
    pub maximize: bool,
    pub scores: Vec<Score>,
}

/// The state of all tables as one commit left it, kept readable.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) at: Lsn,
    pub(crate) tables: Arc<Tables>,
    /// `None` in the private view of the transaction that creates the election.
    pin: Option<Arc<Pin>>,
    /// Whether what it needs was let go of.
    expired: bool,
}

/// One future.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: u64,
    pub election: u64,
    pub name: String,
    pub created: Micros,
    /// Whether its changes are applied to the mirror.
    pub mirrored: bool,
    /// Its share in expected values; not negative.
    pub weight: f64,
    pub note: String,
    pub state: CandidateState,
    /// The commit that created it.
    pub(crate) since: Lsn,
    /// What its statements see below its own changes.
    pub(crate) base: Base,
    /// Shared by all catalogs that know the candidate with this base.
    pub(crate) access: Arc<Access>,
    branches: BTreeMap<StoreId, Arc<Branch>>,
    statements: Vec<Arc<Recorded>>,
    statement_bytes: usize,
}

/// A candidate's changes to one store.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The store of the table that is changed.
    pub base: StoreId,
    /// The changes, as a table that stands in no catalog of tables.
    pub(crate) table: Arc<Table>,
    /// LSN of the last commit into it, at first of the one that created it; set inside the commit's critical section.
    pub(crate) changed: Arc<AtomicU64>,
}

/// Whether transactions that work in a candidate, on one base of it, may commit. Changed inside of the critical section
/// of the commit that ends or rebases the candidate.
#[derive(Debug, Default)]
pub(crate) struct Access(AtomicU8);

impl Access {
    const ENDED: u8 = 1;
    const REBASED: u8 = 2;

    /// Refuses when the candidate, to be named by `label`, has ended or has another base.
    pub(crate) fn check(&self, label: &str) -> Result<(), Error> {
        let candidate = || label.to_owned();
        match self.0.load(Ordering::Acquire) {
            Self::ENDED => Err(Error::CandidateEnded {
                candidate: candidate(),
            }),
            Self::REBASED => Err(Error::CandidateChanged {
                candidate: candidate(),
            }),
            _ => Ok(()),
        }
    }

    fn close(&self, state: u8) {
        self.0.store(state, Ordering::Release);
    }
}

impl Base {
    /// The tables as the commit at `at` leaves them; kept, unless only one transaction sees them.
    fn new(at: Lsn, tables: &Arc<Tables>, pins: &Arc<Pins>) -> Base {
        Base {
            at,
            tables: Arc::clone(tables),
            pin: (at != PRIVATE).then(|| pins.pin(at)),
            expired: false,
        }
    }

    /// Whether it is kept, and as old as `upto`.
    fn expires(&self, upto: Lsn) -> bool {
        self.pin.is_some() && self.at <= upto
    }

    /// Nobody can read this state any more, but its tables are still those that branches were made of.
    fn expire(&mut self) {
        self.pin = None;
        self.expired = true;
    }

    /// Nobody asks for this state any more.
    fn release(&mut self) {
        self.tables = Arc::default();
        self.pin = None;
    }
}

impl Election {
    /// The LSN of the commit that created it: the state that candidates begin with.
    pub fn base(&self) -> Lsn {
        self.base.at
    }

    /// Whether the state that candidates begin with can be read no more.
    pub fn base_expired(&self) -> bool {
        self.base.expired
    }

    /// The tables whose rows the election keeps: those of bases, and those of branches.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        let candidates = self.candidates();
        let bases = candidates.map(|candidate| &candidate.base).chain([&self.base]);
        let branches = self.candidates().flat_map(|candidate| candidate.branches());
        bases
            .filter(|base| base.pin.is_some())
            .flat_map(|base| base.tables.all())
            .chain(branches.map(|branch| &branch.table))
    }

    /// The tables of the states that candidates began with, whether these can still be read or not.
    pub(crate) fn bases(&self) -> impl Iterator<Item = &Arc<Table>> {
        let candidates = self.candidates().map(|candidate| &candidate.base);
        candidates.chain([&self.base]).flat_map(|base| base.tables.all())
    }

    /// The candidates, by name.
    pub fn candidates(&self) -> impl Iterator<Item = &Arc<Candidate>> {
        self.candidates.values()
    }

    pub fn candidate(&self, name: &str) -> Option<&Arc<Candidate>> {
        self.candidates.get(name)
    }

    /// How many candidates were elected.
    pub fn elected(&self) -> usize {
        self.count(CandidateState::Elected)
    }

    /// How many candidates are in a state.
    pub fn count(&self, state: CandidateState) -> usize {
        self.candidates()
            .filter(|candidate| candidate.state == state)
            .count()
    }
}

impl Candidate {
    /// The LSN whose state its statements see below its own changes.
    pub fn base(&self) -> Lsn {
        self.base.at
    }

    /// Whether that state can be read no more.
    pub fn base_expired(&self) -> bool {
        self.base.expired
    }

    /// How many rows it has changed.
    pub fn rows(&self) -> u64 {
        self.branches().map(|branch| branch.table.live_rows()).sum()
    }

    /// Bytes of the rows that it has changed, without keys.
    pub fn bytes(&self) -> u64 {
        let branches = self.branches();
        branches
            .map(|branch| branch.table.store.counters.live_bytes())
            .sum()
    }

    /// Refuses when the base can be read no more.
    pub(crate) fn check_base(&self, election: &Election) -> Result<(), Error> {
        match self.base.expired {
            true => Err(Error::BaseExpired {
                of: format!("candidate \"{}/{}\"", election.name, self.name),
            }),
            false => Ok(()),
        }
    }

    /// The branch of a store, once something of it was changed.
    pub fn branch(&self, base: StoreId) -> Option<&Arc<Branch>> {
        self.branches.get(&base)
    }

    pub fn branches(&self) -> impl Iterator<Item = &Arc<Branch>> {
        self.branches.values()
    }
}

impl Branch {
    /// The identity of the changes themselves.
    pub fn store(&self) -> StoreId {
        self.table.def.store
    }

    /// The name of the table that is changed.
    pub fn table_name(&self) -> &str {
        &self.table.def.name
    }

    /// The layout of the rows that it proposes.
    pub(crate) fn base_layout(&self) -> RowLayout {
        branch::base_layout(&self.table)
    }

    /// Whether its table had the columns that `base` has when the branch was made.
    pub(crate) fn has_columns_of(&self, base: &Table) -> bool {
        let own = &self.table.def.columns;
        let same = |(own, of_base): (&ColumnDef, &ColumnDef)| own.dropped == of_base.dropped;
        own.len() == base.def.columns.len() + branch::EXTRA_COLUMNS
            && own.iter().zip(&base.def.columns).all(same)
    }

    /// Whether anything was ever committed into it.
    pub fn is_changed(&self) -> bool {
        self.table.store.counters.next_ordinal() != Ordinal::default()
    }

    /// The same branch with the key that its table has now, when that is another one and nothing was ever committed
    /// into the branch: its rows would stand under keys of the other kind.
    fn fitted_to(&self, base: &Table) -> Option<Branch> {
        if self.is_changed() || self.table.def.primary_key == base.def.primary_key {
            return None;
        }
        // Nothing is in its space.
        let home = self.table.store.home.again();
        let fitting = branch::table(home, base, self.store(), self.table.def.columns.clone());
        Some(Branch {
            base: self.base,
            table: Arc::new(fitting),
            changed: Arc::clone(&self.changed),
        })
    }

    /// A commit into the branch.
    pub(crate) fn note_commit(&self, lsn: Lsn) {
        self.changed.store(lsn.get(), Ordering::Release);
    }

    /// LSN of the last commit into it since the engine was opened, at first of the one that created it.
    pub(crate) fn last_commit(&self) -> Lsn {
        Lsn::new(self.changed.load(Ordering::Acquire))
    }
}

/// All elections, as one commit left them or as one transaction sees them.
#[derive(Clone, Debug, Default)]
pub struct Elections {
    by_name: BTreeMap<String, Arc<Election>>,
    pins: Arc<Pins>,
}

impl Elections {
    /// The election of this name, open or not.
    pub fn get(&self, name: &str) -> Option<&Arc<Election>> {
        self.by_name.get(name)
    }

    /// All elections, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Election>> {
        self.by_name.values()
    }

    /// The open election of this name.
    pub(crate) fn open_election(&self, name: &str) -> Result<&Arc<Election>, Error> {
        let election = self.get(name);
        let election = election.ok_or_else(|| Error::UndefinedElection {
            name: name.to_owned(),
        })?;
        match election.state {
            ElectionState::Open => Ok(election),
            _ => Err(Error::ElectionEnded {
                name: name.to_owned(),
            }),
        }
    }

    /// The open candidate of this name in an open election.
    ///
    /// # Errors
    /// `UndefinedElection`, `ElectionEnded`, `UndefinedCandidate`, `CandidateEnded`.
    pub fn open(&self, election: &str, name: &str) -> Result<(&Arc<Election>, &Arc<Candidate>), Error> {
        let election = self.open_election(election)?;
        let Some(candidate) = election.candidate(name) else {
            return Err(Error::UndefinedCandidate {
                election: election.name.clone(),
                name: name.to_owned(),
            });
        };
        match candidate.state {
            CandidateState::Open => Ok((election, candidate)),
            _ => Err(Error::CandidateEnded {
                candidate: format!("{}/{name}", election.name),
            }),
        }
    }

    /// The candidate of this number, with its election.
    pub fn candidate(&self, id: u64) -> Option<(&Arc<Election>, &Arc<Candidate>)> {
        self.iter().find_map(|election| {
            let candidate = election.candidates().find(|candidate| candidate.id == id)?;
            Some((election, candidate))
        })
    }

    /// Whether a candidate's changes are in this store.
    pub(crate) fn has_branch(&self, store: StoreId) -> bool {
        self.iter()
            .flat_map(|election| election.candidates())
            .flat_map(|candidate| candidate.branches())
            .any(|branch| branch.store() == store)
    }

    pub(crate) fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }
}

/// The change of elections in a change of the catalog.
pub(crate) fn of_catalog(change: &CatalogChange) -> Option<&ElectionChange> {
    match change {
        CatalogChange::Election(change) => Some(change),
        _ => None,
    }
}
