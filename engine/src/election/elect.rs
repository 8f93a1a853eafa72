//! Electing a candidate: its changes against the present state, and the commit that adopts them.
//!
//! Rows that are as the candidate found them are adopted. What becomes of the others, [`collision::decide`] says by the
//! table's rules; such a row is skipped by the adoption and written as any transaction writes one, and the decision goes
//! into the audit trail with the commit.

use super::branch::{self, Proposal};
use super::change::{ElectionChange, Verdict};
use super::{Branch, Candidate, Election, Scores, of_catalog};
use crate::Row;
use crate::catalog::{Catalog, Table, Tables};
use crate::collision::{self, Decision, Evaluate, Outcome, Sides};
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::locks::Mode;
use crate::overlay::Version;
use crate::txn::{InsertOutcome, ScanCursor, Txn, turn};
use scry_wal::{Lsn, Ordinal};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys in one record of decisions: with the longest keys there are, it is still a record.
const DECIDED_AT_ONCE: usize = 1024;

/// What to do about rows that are not what the candidate found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing is changed.
    Fail,
    /// They stay as they are, and somebody else decides.
    Defer,
    /// The tables' rules decide; rows that they do not decide change nothing at all.
    Resolve,
}

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
    /// The candidate's commit.
    pub proposed_at: Lsn,
    /// What the rules make of it.
    pub decision: Decision,
}

/// What an election did.
#[derive(Clone, Debug, Default)]
pub struct Elected {
    /// Rows that changed.
    pub changed: u64,
    /// Rows that were not what the candidate found, with what became of them.
    pub conflicts: Vec<Conflict>,
}

/// What a commit that elects or rebases makes sure of, inside of its critical section.
pub(crate) struct Electing {
    pub(crate) election: u64,
    pub(crate) candidate: Arc<Candidate>,
    /// The branches were read as of this LSN.
    pub(super) read_at: Lsn,
    /// How many candidates the election had elected then.
    elected_before: usize,
    /// The branches that the commit writes into.
    pub(crate) writes: Vec<Arc<Branch>>,
    /// Rows of tables that adopting the branches changes.
    pub(super) changed: u64,
    /// Whether the tables that it has changed must be there.
    needs_tables: bool,
    /// The tables whose rules have decided rows.
    pub(super) ruled: Vec<Arc<Table>>,
}

impl Electing {
    /// Of a candidate whose branches were read as of `read_at`.
    pub(super) fn new(election: &Election, candidate: Arc<Candidate>, read_at: Lsn) -> Electing {
        Electing {
            election: election.id,
            candidate,
            read_at,
            elected_before: election.elected(),
            writes: Vec::new(),
            changed: 0,
            needs_tables: true,
            ruled: Vec::new(),
        }
    }

    /// Of a change that does nothing to tables.
    pub(super) fn whatever_the_tables(mut self) -> Electing {
        self.needs_tables = false;
        self
    }

    /// Refuses when the candidate has ended or was changed after it was read, when another candidate was elected since,
    /// when a table that it has changed was replaced, and when rules that decided a row are not the table's any more.
    pub(crate) fn check(&self, latest: &Catalog) -> Result<(), Error> {
        let known = latest.elections().candidate(self.candidate.id);
        let known = known.filter(|(_, candidate)| candidate.state == super::CandidateState::Open);
        let (election, candidate) = known.ok_or_else(|| Error::CandidateEnded {
            candidate: self.candidate.name.clone(),
        })?;
        let unchanged = !candidate.has_commits_after(self.read_at)
            && candidate.statements().len() == self.candidate.statements().len();
        if !unchanged || election.elected() != self.elected_before {
            return Err(Error::CandidateChanged {
                candidate: candidate.name.clone(),
            });
        }
        // Statements find what is there by name.
        let of_rows = candidate.statements().is_empty() && self.needs_tables;
        for branch in candidate
            .branches()
            .filter(|branch| of_rows && branch.is_changed())
        {
            present_table(&latest.tables, branch)?;
        }
        for table in &self.ruled {
            let now = latest.by_oid(table.def.oid);
            if now.is_none_or(|now| now.rules != table.rules) {
                return Err(Error::TableChanged {
                    table: table.def.name.clone(),
                });
            }
        }
        Ok(())
    }
}

impl Candidate {
    /// Whether changes were committed after `at`. That a branch was made is no change.
    fn has_commits_after(&self, at: Lsn) -> bool {
        let mut changed = self.branches().filter(|branch| branch.is_changed());
        changed.any(|branch| branch.last_commit() > at)
    }

    /// Refuses when it was changed after its future was asked, or is another one that has its name since.
    pub(super) fn check_scored(
        &self,
        election: &Election,
        scores: Option<&(Lsn, Scores)>,
    ) -> Result<(), Error> {
        let changed_since = |at: Lsn| self.since > at || self.has_commits_after(at);
        match scores {
            Some((at, _)) if changed_since(*at) => Err(Error::CandidateChanged {
                candidate: format!("{}/{}", election.name, self.name),
            }),
            _ => Ok(()),
        }
    }
}

/// A row of a branch.
#[derive(Clone)]
pub(super) struct BranchRow {
    pub(super) key: Key,
    pub(super) ordinal: Ordinal,
    /// The commit into the branch that made it.
    pub(super) at: Lsn,
    pub(super) proposal: Proposal,
}

/// Rows of a branch that are looked at before other tasks of the thread get their turn.
pub(super) const BATCH: usize = 1024;

/// What electing finds in the place of a row.
enum Found {
    /// What the candidate found: its change is made.
    Same,
    /// Something else, under lock; or nothing.
    Other(Option<Version>),
}

impl Txn {
    /// Elects a candidate: its changes become this transaction's. Must come before any other change of the transaction.
    ///
    /// # Errors
    /// `Conflicts` when a row is not what the candidate found and is not decided; see [`Txn::conflicts`].
    /// `ReferenceMissing`, `StillReferenced` when its rows and the present ones violate a foreign key.
    /// `TableReplaced`; `UndefinedElection`, `ElectionEnded`, `UndefinedCandidate`, `CandidateEnded`; what `lock` answers.
    /// From the commit, `CandidateChanged` when the candidate committed something meanwhile. After an error the
    /// transaction can only be rolled back.
    pub async fn elect(
        &mut self,
        election: &str,
        name: &str,
        on_conflict: OnConflict,
        evaluate: &Evaluate<'_>,
    ) -> Result<Elected, Error> {
        self.elect_for(election, name, on_conflict, evaluate, None).await
    }

    /// Elects a candidate as `elect` does, and keeps the `scores` for which it was chosen with the election. With them
    /// comes the snapshot at which its future was asked: a candidate that was changed since is not elected.
    ///
    /// # Errors
    /// As [`Txn::elect`]; `CandidateChanged`.
    pub async fn elect_for(
        &mut self,
        election: &str,
        name: &str,
        on_conflict: OnConflict,
        evaluate: &Evaluate<'_>,
        scores: Option<(Lsn, Scores)>,
    ) -> Result<Elected, Error> {
        let (election, candidate) = self.take_election("ELECT", election, name).await?;
        let read_at = self.snapshot();
        candidate.check_kind(&format!("{}/{name}", election.name), false)?;
        candidate.check_scored(&election, scores.as_ref())?;
        let mut elected = Elected::default();
        for branch in candidate.branches() {
            let mut cursor = self.begin_scan(&branch.table, KeyRange::all())?;
            let mut rows = self.next_rows(branch, &mut cursor)?;
            if rows.is_empty() {
                continue;
            }
            let table = Arc::clone(present_table(&self.catalog().tables, branch)?);
            // What the adoption takes comes before all that this transaction logs itself.
            let taken = branch.table.store.counters.next_ordinal().get();
            let of_base = candidate.base.tables.by_store(branch.base);
            let checked = of_base.is_some_and(|of_base| table.def.is_satisfied_by(&of_base.def));
            if candidate.mirrored {
                let count = u32::try_from(taken).map_err(|_| Error::TooManyChanges {
                    limit: u64::from(u32::MAX),
                })?;
                self.overlay.adopt(table.def.store, count);
            }
            let mut skipped = Vec::new();
            while !rows.is_empty() {
                for row in rows {
                    let ordinal = row.ordinal;
                    let new = row.proposal.visible().filter(|_| !checked).cloned();
                    let met = self
                        .elect_row(&table, row, candidate.mirrored, on_conflict, evaluate)
                        .await?;
                    let Some(conflict) = met else {
                        if let Some(new) = new {
                            self.check_new_row(&table, &new)?;
                        }
                        elected.changed += 1;
                        continue;
                    };
                    elected.changed += u64::from(matches!(
                        conflict.decision.outcome,
                        Outcome::Put(_) | Outcome::Delete
                    ));
                    skipped.push(ordinal);
                    elected.conflicts.push(conflict);
                }
                self.room().await?;
                turn().await;
                rows = self.next_rows(branch, &mut cursor)?;
            }
            if candidate.mirrored {
                self.change_elections(ElectionChange::Adopt {
                    candidate: candidate.id,
                    branch: branch.store(),
                    base: branch.base,
                    count: taken,
                    skipped,
                })?;
            }
        }
        self.all_decided(&format!("{}/{name}", election.name), &elected.conflicts)?;
        // Nothing else has met what others have committed since the base.
        self.check_changes(&|_, _| true).await?;
        self.log_decisions(&candidate, &elected.conflicts)?;
        self.end_elected(&election, &candidate, scores)?;
        let mut electing = Electing::new(&election, candidate, read_at);
        electing.changed = elected.changed;
        electing.ruled = ruled(on_conflict, &elected.conflicts);
        self.electing = Some(electing);
        Ok(elected)
    }

    /// The candidate is elected, and with the last that may be, the election ends.
    pub(super) fn end_elected(
        &mut self,
        election: &Election,
        candidate: &Candidate,
        scores: Option<(Lsn, Scores)>,
    ) -> Result<(), Error> {
        if let Some((_, scores)) = scores {
            let Scores {
                query,
                maximize,
                scores,
            } = scores;
            self.change_elections(ElectionChange::Score {
                election: election.id,
                query,
                maximize,
                scores,
            })?;
        }
        self.end_candidate(candidate, true)?;
        if election.winners != 0 && election.elected() + 1 >= election.winners as usize {
            let election = self.open_election(&election.name)?;
            self.end_election(&election, true)?;
        }
        Ok(())
    }

    /// Counts what the commit has elected and decided.
    pub(crate) fn count_election(&self) {
        let Some(electing) = &self.electing else { return };
        let (mut rows, mut resolved, mut deferred) = (0, 0, 0);
        for change in self.ddl.iter().filter_map(|applied| of_catalog(&applied.change)) {
            match change {
                ElectionChange::EndCandidate { elected: true, .. } => {
                    rows = match electing.candidate.statements().is_empty() {
                        true => electing.changed,
                        false => self.changed_rows(),
                    };
                }
                ElectionChange::Decide { verdict, keys, .. } => {
                    let count = match verdict {
                        Verdict::Deferred => &mut deferred,
                        Verdict::Kept | Verdict::Put | Verdict::Deleted => &mut resolved,
                    };
                    *count += keys.len() as u64;
                }
                _ => {}
            }
        }
        self.engine.counters.election(rows, resolved, deferred);
    }

    /// Begins what must be a transaction's first change: nobody else elects or rebases in the election until its end.
    pub(super) async fn take_election(
        &mut self,
        what: &'static str,
        election: &str,
        name: &str,
    ) -> Result<(Arc<Election>, Arc<Candidate>), Error> {
        self.not_in_candidate(what)?;
        if self.has_writes() || self.overlay.changes.len() > 0 || self.has_savepoints() {
            return Err(Error::ElectAfterChanges);
        }
        let lock = Arc::clone(&self.open_election(election)?.lock);
        self.take_lock(&lock, Mode::Exclusive, election).await?;
        self.statement();
        self.open_candidate(election, name)
    }

    pub(super) fn all_decided(&self, candidate: &str, conflicts: &[Conflict]) -> Result<(), Error> {
        let refused = |conflict: &&Conflict| conflict.decision.outcome == Outcome::Refuse;
        match conflicts.iter().filter(refused).count() {
            0 => Ok(()),
            count => Err(Error::Conflicts {
                candidate: candidate.to_owned(),
                count,
            }),
        }
    }

    /// Says in the audit trail how rows were decided.
    pub(super) fn log_decisions(
        &mut self,
        candidate: &Candidate,
        conflicts: &[Conflict],
    ) -> Result<(), Error> {
        let mut groups: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for conflict in conflicts {
            let verdict = match conflict.decision.outcome {
                Outcome::Keep => Verdict::Kept,
                Outcome::Put(_) => Verdict::Put,
                Outcome::Delete => Verdict::Deleted,
                Outcome::Defer | Outcome::Refuse => Verdict::Deferred,
            };
            let group = (
                conflict.table.def.store,
                verdict,
                conflict.decision.reason.as_str(),
            );
            groups
                .entry(group)
                .or_default()
                .push(conflict.key.as_ref().to_vec());
        }
        for ((base, verdict, reason), keys) in groups {
            for keys in keys.chunks(DECIDED_AT_ONCE) {
                self.change_elections(ElectionChange::Decide {
                    candidate: candidate.id,
                    base,
                    verdict,
                    reason: reason.to_owned(),
                    keys: keys.to_vec(),
                })?;
            }
        }
        Ok(())
    }

    /// What stands between a candidate and its election as of this statement, and what the tables' rules make of it.
    ///
    /// # Errors
    /// As for names in [`Txn::elect`]; `TableReplaced`.
    pub fn conflicts(
        &mut self,
        election: &str,
        name: &str,
        evaluate: &Evaluate<'_>,
    ) -> Result<Vec<Conflict>, Error> {
        self.not_in_candidate("the list of conflicts")?;
        let (_, candidate) = self.open_candidate(election, name)?;
        let mut conflicts = Vec::new();
        if !candidate.statements().is_empty() {
            return Ok(conflicts);
        }
        for branch in candidate.branches() {
            let mut cursor = self.begin_scan(&branch.table, KeyRange::all())?;
            loop {
                let rows = self.next_rows(branch, &mut cursor)?;
                if rows.is_empty() {
                    break;
                }
                let table = Arc::clone(present_table(&self.catalog().tables, branch)?);
                for row in rows {
                    let present = self.get(&table, row.key.as_ref())?;
                    if !row.proposal.is_upon(present.as_ref()) {
                        conflicts.push(judge(&table, row, present, OnConflict::Resolve, evaluate));
                    }
                }
            }
        }
        Ok(conflicts)
    }

    /// The next rows of a branch, over which `cursor` goes; none at its end.
    pub(super) fn next_rows(
        &mut self,
        branch: &Branch,
        cursor: &mut ScanCursor,
    ) -> Result<Vec<BranchRow>, Error> {
        let batch = cursor.next_batch(BATCH)?;
        self.depend_on(cursor.depends_on());
        let layout = branch.base_layout();
        let row = |(key, version): (Key, Version)| BranchRow {
            key,
            ordinal: version.ordinal.unwrap_or_default(),
            at: version.lsn,
            proposal: branch::decode(&layout, &branch.table, &version.row),
        };
        Ok(batch.into_iter().map(row).collect())
    }

    /// Makes the candidate's change of one row this transaction's. Where the row is not what the candidate found, carries
    /// out what is decided, and answers it.
    async fn elect_row(
        &mut self,
        table: &Arc<Table>,
        row: BranchRow,
        adopted: bool,
        on_conflict: OnConflict,
        evaluate: &Evaluate<'_>,
    ) -> Result<Option<Conflict>, Error> {
        loop {
            self.adopting = adopted;
            let found = self.find_row(table, &row, adopted).await;
            self.adopting = false;
            let present = match found? {
                Found::Same => return Ok(None),
                Found::Other(present) => present,
            };
            let there = present.is_some();
            let mut conflict = judge(table, row.clone(), present, on_conflict, evaluate);
            let key = row.key.as_ref();
            if let Outcome::Put(new) = &mut conflict.decision.outcome {
                *new = self.completed(table, Arc::clone(new))?;
                self.check_new_row(table, new)?;
            }
            match &conflict.decision.outcome {
                Outcome::Keep | Outcome::Defer | Outcome::Refuse => {}
                Outcome::Put(new) if there => self.update(table, key, Arc::clone(new)).await?,
                Outcome::Put(new) => {
                    let (key, new) = (row.key.clone(), Arc::clone(new));
                    let outcome = self.insert(table, Some(key), Arc::clone(&new)).await?;
                    match outcome {
                        InsertOutcome::Inserted(_) => {}
                        // Somebody was first: it is decided again.
                        InsertOutcome::Exists(_) => continue,
                        InsertOutcome::Taken { index, .. } => return Err(table.key_exists(index, &new)),
                    }
                }
                Outcome::Delete if there => self.delete(table, key).await?,
                Outcome::Delete => {}
            }
            return Ok(Some(conflict));
        }
    }

    /// Locks a row and, when it is what the candidate found, makes the candidate's change; to be `adopted`, as if it
    /// were logged already.
    async fn find_row(&mut self, table: &Table, row: &BranchRow, adopted: bool) -> Result<Found, Error> {
        let local = u32::try_from(row.ordinal.get()).map_err(|_| Error::TooManyChanges {
            limit: u64::from(u32::MAX),
        })?;
        let key = row.key.as_ref();
        let slot = self.overlay.next_slot();
        match row.proposal.replaced {
            Some(_) => {
                let found = self.lock(table, key).await?;
                if !row.proposal.is_upon(found.as_ref()) {
                    return Ok(Found::Other(found));
                }
                match row.proposal.visible() {
                    Some(new) => self.update(table, key, Arc::clone(new)).await?,
                    None => self.delete(table, key).await?,
                }
            }
            None => loop {
                let new = Arc::clone(&row.proposal.row);
                let outcome = self.insert(table, Some(row.key.clone()), new).await?;
                match outcome {
                    InsertOutcome::Inserted(_) => break,
                    InsertOutcome::Exists(_) => {}
                    InsertOutcome::Taken { index, .. } => {
                        return Err(table.key_exists(index, &row.proposal.row));
                    }
                }
                // It may go before it is locked.
                if let Some(found) = self.lock(table, key).await? {
                    return Ok(Found::Other(Some(found)));
                }
            },
        }
        if adopted {
            self.overlay.adopt_last(slot, local);
        }
        Ok(Found::Same)
    }
}

/// The tables whose rules decided these conflicts.
pub(super) fn ruled(on_conflict: OnConflict, conflicts: &[Conflict]) -> Vec<Arc<Table>> {
    let mut tables: Vec<Arc<Table>> = Vec::new();
    let decided = conflicts.iter().filter(|_| on_conflict == OnConflict::Resolve);
    for Conflict { table, .. } in decided {
        // They come table by table.
        if tables.last().is_none_or(|last| last.def.oid != table.def.oid) {
            tables.push(Arc::clone(table));
        }
    }
    tables
}

/// The table of a branch, if its rows are still those of the branch's base, under keys like the branch's.
pub(super) fn present_table<'t>(tables: &'t Tables, branch: &Branch) -> Result<&'t Arc<Table>, Error> {
    let now = tables.by_store(branch.base);
    let now = now.filter(|now| now.def.primary_key == branch.table.def.primary_key);
    now.ok_or_else(|| Error::TableReplaced {
        table: branch.table.def.name.clone(),
    })
}

/// What becomes of a row that is not what the candidate found.
pub(super) fn judge(
    table: &Arc<Table>,
    row: BranchRow,
    present: Option<Version>,
    on_conflict: OnConflict,
    evaluate: &Evaluate<'_>,
) -> Conflict {
    let before = row.proposal.found(&table.layout);
    let proposed = row.proposal.visible().cloned();
    let sides = Sides {
        before: before.as_ref(),
        present: present.as_ref().map(|present| &present.row),
        proposed: proposed.as_ref(),
        present_at: present.as_ref().map_or(Lsn::ZERO, |present| present.lsn),
        proposed_at: row.at,
    };
    let decided = |outcome| Decision {
        outcome,
        reason: String::new(),
    };
    let decision = match on_conflict {
        OnConflict::Fail => decided(Outcome::Refuse),
        OnConflict::Defer => decided(Outcome::Defer),
        OnConflict::Resolve => collision::decide(table, &table.rules, &sides, evaluate),
    };
    Conflict {
        table: Arc::clone(table),
        key: row.key,
        before,
        present: present.map(|present| present.row),
        proposed,
        proposed_at: row.at,
        decision,
    }
}
