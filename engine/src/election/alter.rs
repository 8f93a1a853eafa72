//! ALTER CANDIDATE: weight, note, and whether the mirror has it.
//!
//! A branch is mirrored from its beginning or not at all, so a candidate whose flag is switched goes on with new branches: their
//! rows are copied from the old ones in the same commit. They count as changed at that moment where a rule asks which side is newer.

use super::change::ElectionChange;
use super::elect::{BATCH, Electing};
use crate::error::Error;
use crate::key::KeyRange;
use crate::txn::{Txn, turn};

/// What is to be other about a candidate; `None`: it stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CandidateChanges {
    pub mirrored: Option<bool>,
    /// Not negative.
    pub weight: Option<f64>,
    pub note: Option<String>,
}

impl Txn {
    /// Changes a candidate. To switch its mirror flag must come before any other change of the transaction, and nobody
    /// else may work in the candidate meanwhile: their transactions do not commit.
    ///
    /// # Errors
    /// As for names in [`Txn::elect`]; with the flag, `ElectAfterChanges`, what `lock` answers, and `CandidateChanged` from the
    /// commit.
    pub async fn alter_candidate(
        &mut self,
        election: &str,
        name: &str,
        changes: CandidateChanges,
    ) -> Result<(), Error> {
        self.not_in_candidate("ALTER CANDIDATE")?;
        let mut found = self.open_candidate(election, name)?;
        if changes.mirrored.is_some_and(|flag| flag != found.1.mirrored) {
            found = self.take_election("ALTER CANDIDATE", election, name).await?;
        }
        let (election, candidate) = found;
        let switched = changes.mirrored.filter(|flag| *flag != candidate.mirrored);
        if switched.is_some() {
            // Also what is under way inside of it, with the old flag, does not commit.
            self.throw_branches_away(&candidate)?;
        }
        self.change_elections(ElectionChange::AlterCandidate {
            candidate: candidate.id,
            mirrored: switched,
            weight: changes.weight,
            note: changes.note,
        })?;
        let Some(mirrored) = switched else {
            return Ok(());
        };
        let read_at = self.snapshot();
        for old in candidate.branches().filter(|branch| branch.is_changed()) {
            let of_base = candidate.base.tables.by_store(old.base);
            let of_base = of_base.expect("a branch of a table that its candidate's base has");
            self.create_branch(candidate.id, mirrored, of_base)?;
            let made = self.catalog().elections().candidate(candidate.id);
            let made = made.and_then(|(_, candidate)| candidate.branch(old.base).cloned());
            let made = made.expect("it was made above");
            let mut cursor = self.begin_scan(&old.table, KeyRange::all())?;
            loop {
                let batch = cursor.next_batch(BATCH)?;
                self.depend_on(cursor.depends_on());
                if batch.is_empty() {
                    break;
                }
                for (key, version) in batch {
                    self.insert(&made.table, Some(key), version.row).await?;
                }
                self.room().await?;
                turn().await;
            }
        }
        self.electing = Some(Electing::new(&election, candidate, read_at).whatever_the_tables());
        Ok(())
    }
}
