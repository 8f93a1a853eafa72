//! Rebasing a candidate: its base moves to the present, and its changes with it.

use super::branch::{self, Proposal};
use super::change::ElectionChange;
use super::elect::{Electing, judge, present_table, ruled};
use super::{Branch, Conflict, OnConflict};
use crate::catalog::Table;
use crate::collision::{Evaluate, Outcome};
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::overlay::Version;
use crate::txn::{Txn, turn};
use std::sync::Arc;

impl Txn {
    /// Moves the base of a candidate to the state that this transaction's commit leaves. Must come before any other
    /// change of the transaction. Answers the rows that were not what the candidate found, with what became of them:
    /// a deferred one stays as it is, and is a conflict still.
    ///
    /// # Errors
    /// As [`Txn::elect`]; `ColumnsChanged`. Transactions that work in the candidate meanwhile do not commit: they get `CandidateChanged`.
    pub async fn rebase(
        &mut self,
        election: &str,
        name: &str,
        on_conflict: OnConflict,
        evaluate: &Evaluate<'_>,
    ) -> Result<Vec<Conflict>, Error> {
        let (election, candidate) = self.take_election("REBASE", election, name).await?;
        let read_at = self.snapshot();
        candidate.check_kind(&format!("{}/{name}", election.name), false)?;
        let mut conflicts = Vec::new();
        let mut writes = Vec::new();
        for branch in candidate.branches() {
            let now = self.catalog().tables.by_store(branch.base);
            if now.is_some_and(|now| !branch.has_columns_of(now)) {
                return Err(Error::ColumnsChanged {
                    table: branch.table_name().to_owned(),
                });
            }
            let mut cursor = self.begin_scan(&branch.table, KeyRange::all())?;
            let mut rows = self.next_rows(branch, &mut cursor)?;
            if rows.is_empty() {
                continue;
            }
            let table = Arc::clone(present_table(&self.catalog().tables, branch)?);
            while !rows.is_empty() {
                for row in rows {
                    let present = self.get(&table, row.key.as_ref())?;
                    if row.proposal.is_upon(present.as_ref()) {
                        continue;
                    }
                    let conflict = judge(&table, row, present.clone(), on_conflict, evaluate);
                    self.write_anew(branch, &table, &conflict, present).await?;
                    conflicts.push(conflict);
                }
                self.room().await?;
                turn().await;
                rows = self.next_rows(branch, &mut cursor)?;
            }
            writes.push(Arc::clone(branch));
        }
        self.all_decided(&format!("{}/{name}", election.name), &conflicts)?;
        self.log_decisions(&candidate, &conflicts)?;
        self.change_elections(ElectionChange::Rebase {
            candidate: candidate.id,
        })?;
        let mut electing = Electing::new(&election, candidate, read_at);
        electing.writes = writes;
        electing.ruled = ruled(on_conflict, &conflicts);
        self.electing = Some(electing);
        Ok(conflicts)
    }

    /// Brings a row of the branch upon the present one.
    async fn write_anew(
        &mut self,
        branch: &Branch,
        table: &Table,
        conflict: &Conflict,
        present: Option<Version>,
    ) -> Result<(), Error> {
        let (row, deleted) = match (&conflict.decision.outcome, &present) {
            (Outcome::Refuse | Outcome::Defer, _) => return Ok(()),
            (Outcome::Put(row), _) => {
                let row = self.completed(table, Arc::clone(row))?;
                self.check_new_row(table, &row)?;
                (Some(row), false)
            }
            (Outcome::Delete, Some(present)) => (Some(Arc::clone(&present.row)), true),
            (Outcome::Delete, None) | (Outcome::Keep, _) => (None, false),
        };
        let key: &Key = &conflict.key;
        // The election's lock does not keep the candidate's own transactions out; the commit finds out about them.
        if self.lock(&branch.table, key.as_ref()).await?.is_none() {
            return Ok(());
        }
        let Some(row) = row else {
            return self.delete(&branch.table, key.as_ref()).await;
        };
        let found = present.as_ref().map(|present| &present.row).filter(|_| !deleted);
        let proposal = Proposal {
            replaced: present.as_ref().and_then(|present| present.ordinal),
            deleted,
            before: found.map(|found| table.layout.encode_before(found, &row)),
            row,
        };
        let encoded = branch::encode(&table.layout, &branch.table, &proposal)?;
        self.update(&branch.table, key.as_ref(), encoded).await
    }
}
