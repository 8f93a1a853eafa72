//! Electing a candidate: its changes against the present state, and the commit that adopts them.

use super::branch::{self, Proposal};
use super::change::ElectionChange;
use super::{Branch, Candidate};
use crate::Row;
use crate::catalog::Table;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::locks::Mode;
use crate::txn::{InsertOutcome, Txn};
use scry_wal::{Lsn, Ordinal};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A row of a candidate whose state it changed is no longer the present one.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The table as it is now.
    pub table: Arc<Table>,
    pub key: Key,
    /// The row that the candidate found; `None`: there was none.
    pub before: Option<Row>,
    /// The row that is there now; `None`: there is none.
    pub present: Option<Row>,
    /// The row that the candidate wants; `None`: it wants none.
    pub proposed: Option<Row>,
}

/// What a commit that elects makes sure of, inside of its critical section.
pub(crate) struct Electing {
    pub(crate) election: u64,
    pub(crate) candidate: Arc<Candidate>,
    /// The branches were read as of this LSN.
    read_at: Lsn,
}

impl Electing {
    /// Refuses when the candidate has ended, or was changed after it was read.
    pub(crate) fn check(&self, latest: &super::Elections) -> Result<(), Error> {
        let known = latest.candidate(self.candidate.id);
        let known = known.filter(|(_, candidate)| candidate.state == super::CandidateState::Open);
        let (_, candidate) = known.ok_or_else(|| Error::CandidateEnded {
            candidate: self.candidate.name.clone(),
        })?;
        match candidate
            .branches()
            .all(|branch| branch.last_commit() <= self.read_at)
        {
            true => Ok(()),
            false => Err(Error::CandidateChanged {
                candidate: candidate.name.clone(),
            }),
        }
    }
}

/// A row of a branch, to be elected.
struct BranchRow {
    key: Key,
    ordinal: Ordinal,
    proposal: Proposal,
}

impl Txn {
    /// Elects a candidate: its changes become this transaction's. Must come before any other change of the transaction.
    /// Answers how many rows change.
    ///
    /// # Errors
    /// `Conflicts` when a row is not what the candidate found; see [`Txn::conflicts`]. `TableReplaced`;
    /// `UndefinedElection`, `ElectionEnded`, `UndefinedCandidate`, `CandidateEnded`; what `lock` answers. From the
    /// commit, `CandidateChanged` when the candidate committed something meanwhile. After an error the transaction
    /// can only be rolled back.
    pub async fn elect(&mut self, election: &str, name: &str) -> Result<u64, Error> {
        self.not_in_candidate("ELECT")?;
        if self.has_writes() || self.overlay.changes.len() > 0 || self.has_savepoints() {
            return Err(Error::ElectAfterChanges);
        }
        let lock = Arc::clone(&self.open_election(election)?.lock);
        self.take_lock(&lock, Mode::Exclusive, election).await?;
        self.statement();
        let (election, candidate) = self.open_candidate(election, name)?;
        let read_at = self.snapshot();
        let mut count = 0;
        let mut conflicts = 0;
        for branch in candidate.branches() {
            let table = self.table_of(&candidate, branch)?;
            let rows = self.rows_of(&table, branch);
            if rows.is_empty() {
                continue;
            }
            for row in rows {
                count += 1;
                if !self.elect_row(&table, row, candidate.mirrored).await? {
                    conflicts += 1;
                }
            }
            if !candidate.mirrored {
                continue;
            }
            let taken = branch.table.store.counters.next_ordinal().get();
            let taken_u32 = u32::try_from(taken).map_err(|_| Error::TooManyChanges {
                limit: u64::from(u32::MAX),
            })?;
            self.overlay.adopt(table.def.store, taken_u32);
            self.change_elections(ElectionChange::Adopt {
                candidate: candidate.id,
                branch: branch.store(),
                base: branch.base,
                count: taken,
                skipped: Vec::new(),
            })?;
        }
        if conflicts > 0 {
            return Err(Error::Conflicts {
                candidate: format!("{}/{name}", election.name),
                count: conflicts,
            });
        }
        self.end_candidate(&candidate, true)?;
        if election.winners != 0 && election.elected() + 1 >= election.winners as usize {
            let election = self.open_election(&election.name)?;
            self.end_election(&election, true)?;
        }
        self.electing = Some(Electing {
            election: election.id,
            candidate,
            read_at,
        });
        Ok(count)
    }

    /// What stands between a candidate and its election, as of this statement.
    ///
    /// # Errors
    /// As for names in [`Txn::elect`]; `TableReplaced`.
    pub fn conflicts(&mut self, election: &str, name: &str) -> Result<Vec<Conflict>, Error> {
        self.not_in_candidate("the list of conflicts")?;
        let (_, candidate) = self.open_candidate(election, name)?;
        let mut conflicts = Vec::new();
        for branch in candidate.branches() {
            let table = self.table_of(&candidate, branch)?;
            for row in self.rows_of(&table, branch) {
                let present = self.get(&table, row.key.as_ref());
                let found = present.as_ref().and_then(|present| present.ordinal);
                if found == row.proposal.replaced && present.is_some() == row.proposal.replaced.is_some() {
                    continue;
                }
                conflicts.push(Conflict {
                    table: Arc::clone(&table),
                    before: self.found_by(&candidate, branch, &row),
                    present: present.map(|present| present.row),
                    proposed: row.proposal.visible().cloned(),
                    key: row.key,
                });
            }
        }
        Ok(conflicts)
    }

    /// The row that a candidate replaced.
    fn found_by(&self, candidate: &Candidate, branch: &Branch, row: &BranchRow) -> Option<Row> {
        row.proposal.replaced?;
        let table = candidate.base.tables.by_store(branch.base)?;
        let found = table.store.rows.with(row.key.as_ref(), |entry| {
            let state = entry.lock();
            let seen = state.read(candidate.base.at, branch.base)?;
            seen.row.cloned()
        });
        found.flatten()
    }

    /// The present table of a branch.
    fn table_of(&self, candidate: &Candidate, branch: &Branch) -> Result<Arc<Table>, Error> {
        let then = candidate.base.tables.by_store(branch.base);
        let now = self.catalog().tables.by_store(branch.base);
        match (then, now) {
            (Some(then), Some(now)) if then.def.primary_key == now.def.primary_key => Ok(Arc::clone(now)),
            _ => Err(Error::TableReplaced {
                table: branch.table.def.name.clone(),
            }),
        }
    }

    /// The rows of a branch as of this statement.
    fn rows_of(&mut self, table: &Table, branch: &Branch) -> Vec<BranchRow> {
        let mut rows = Vec::new();
        self.scan(&branch.table, &KeyRange::all(), &mut |key, version| {
            rows.push(BranchRow {
                key: Key::from_bytes(key),
                ordinal: version.ordinal.unwrap_or_default(),
                proposal: branch::decode(&table.layout, &branch.table, &version.row),
            });
            ControlFlow::Continue(())
        });
        rows
    }

    /// Locks one row and makes the candidate's change to it this transaction's; to be `adopted`, as if it were logged
    /// already. False: the row is not what the candidate found.
    async fn elect_row(&mut self, table: &Table, row: BranchRow, adopted: bool) -> Result<bool, Error> {
        let local = u32::try_from(row.ordinal.get()).map_err(|_| Error::TooManyChanges {
            limit: u64::from(u32::MAX),
        })?;
        let slot = self.overlay.next_slot();
        match row.proposal.replaced {
            Some(replaced) => {
                let found = self.lock(table, row.key.as_ref()).await?;
                if found.and_then(|found| found.ordinal) != Some(replaced) {
                    return Ok(false);
                }
                match row.proposal.visible() {
                    Some(new) => self.update(table, row.key.as_ref(), Arc::clone(new))?,
                    None => self.delete(table, row.key.as_ref())?,
                }
            }
            None => {
                let outcome = self
                    .insert(table, Some(row.key), Arc::clone(&row.proposal.row))
                    .await?;
                if !matches!(outcome, InsertOutcome::Inserted(_)) {
                    return Ok(false);
                }
            }
        }
        if adopted {
            self.overlay.adopt_last(slot, local);
        }
        Ok(true)
    }
}
