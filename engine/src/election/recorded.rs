//! Candidates of statements: what they did is run again, upon whatever is there then.
//!
//! A candidate is *of rows* or *of statements*. Both have their rows in branches, and futures show those. A candidate of
//! statements has its statements recorded beside them, in order, each with the transaction in which it ran. To rebase
//! it, its rows are thrown away and the statements run again inside of it, upon a base at the present; to elect it, they run
//! as an ordinary transaction's. So nothing of it ever conflicts: what a statement finds is what is there.
//!
//! The engine keeps statements and does not read them. Who knows their language runs them, between
//! [`Txn::rebase_again`] and [`Txn::leave_candidate`], or after [`Txn::elect_again`], in that same transaction.
//!
//! Invariant: all that a candidate's commits wrote into its branches was recorded, or nothing was. A commit into a branch checks
//! it inside of the critical section.

use super::change::ElectionChange;
use super::elect::Electing;
use super::{Base, Candidate, Election, Scores, of_catalog};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::txn::Txn;
use scry_wal::{Lsn, RecordError};
use std::sync::Arc;

/// The most statements that one candidate can have.
pub const STATEMENTS_MAX: usize = 10_000;

/// The most bytes that they can have together.
pub const STATEMENT_BYTES_MAX: usize = 64 << 20;

/// A statement that a candidate consists of, opaque to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub text: String,
    /// The time zone in which it was said.
    pub zone: String,
    pub parameters: Vec<Parameter>,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The number of its type.
    pub ty: u32,
    /// As text; `None`: NULL.
    pub value: Option<String>,
}

impl Candidate {
    /// The statements that it consists of, in order; none: it is one of rows.
    pub fn statements(&self) -> &[Arc<Recorded>] {
        &self.statements
    }

    /// Refuses when it is of the other kind than somebody who `records` takes it for.
    pub(super) fn check_kind(&self, label: &str, records: bool) -> Result<(), Error> {
        let other = match records {
            true => self.statements.is_empty() && self.branches().any(|branch| branch.is_changed()),
            false => !self.statements.is_empty(),
        };
        match other {
            true => Err(Error::CandidateKind {
                candidate: label.to_owned(),
                of_statements: !records,
            }),
            false => Ok(()),
        }
    }
}

impl Txn {
    /// Records a statement that ran in this transaction, inside of a candidate.
    ///
    /// # Errors
    /// `CandidateKind` when the candidate has rows that no statement was recorded for; `TooManyStatements`.
    pub fn record(&mut self, statement: Recorded) -> Result<(), Error> {
        let inside = self.inside.as_ref();
        let candidate = inside.expect("only called inside of a candidate").candidate;
        // They are in one frame with the commit.
        let recorded = self.ddl.iter().map(|applied| match of_catalog(&applied.change) {
            Some(ElectionChange::Record { statement, .. }) => statement.bytes(),
            _ => 0,
        });
        let bytes = statement.bytes() + recorded.sum::<usize>();
        if bytes > self.engine.limits.row_bytes {
            return Err(Error::Record(RecordError::TooLong(bytes)));
        }
        self.change_elections(ElectionChange::Record { candidate, statement })
    }

    /// Elects a candidate of statements. This transaction is to run them now, in order, and then to commit.
    ///
    /// # Errors
    /// As [`Txn::elect_for`]; `CandidateKind` when it is one of rows.
    pub async fn elect_again(
        &mut self,
        election: &str,
        name: &str,
        scores: Option<(Lsn, Scores)>,
    ) -> Result<Vec<Arc<Recorded>>, Error> {
        let (election, candidate) = self.take_election("ELECT", election, name).await?;
        let read_at = self.snapshot();
        self.of_statements(&election, &candidate)?;
        candidate.check_scored(&election, scores.as_ref())?;
        self.end_elected(&election, &candidate, scores)?;
        let statements = candidate.statements().to_vec();
        self.electing = Some(Electing::new(&election, candidate, read_at));
        Ok(statements)
    }

    /// Rebases a candidate of statements: moves its base to the present, throws its rows away, and goes inside of it.
    /// This transaction is to run the statements now, in order, then to leave the candidate and to commit.
    ///
    /// # Errors
    /// As [`Txn::rebase`]; `CandidateKind` when it is one of rows.
    pub async fn rebase_again(&mut self, election: &str, name: &str) -> Result<Vec<Arc<Recorded>>, Error> {
        let (election, candidate) = self.take_election("REBASE", election, name).await?;
        let read_at = self.snapshot();
        self.of_statements(&election, &candidate)?;
        // The snapshot is held: nothing that it sees is gone before the pin is made.
        let base = Base::new(read_at, &self.catalog().tables, self.catalog().elections().pins());
        self.change_elections(ElectionChange::Rebase {
            candidate: candidate.id,
        })?;
        self.throw_branches_away(&candidate)?;
        let statements = candidate.statements().to_vec();
        self.enter_candidate(&election, &candidate, base);
        self.electing = Some(Electing::new(&election, candidate, read_at));
        Ok(statements)
    }

    /// The branches of a candidate vanish, so that others can take their place.
    pub(super) fn throw_branches_away(&mut self, candidate: &Candidate) -> Result<(), Error> {
        self.change_elections(ElectionChange::Discard {
            candidate: candidate.id,
            branches: candidate.branches().map(|branch| branch.store()).collect(),
        })
    }

    fn of_statements(&self, election: &Election, candidate: &Candidate) -> Result<(), Error> {
        match candidate.statements.is_empty() {
            true => Err(Error::CandidateKind {
                candidate: format!("{}/{}", election.name, candidate.name),
                of_statements: false,
            }),
            false => Ok(()),
        }
    }
}

impl Recorded {
    /// The parameters for people: `$1 = 3; $2 = NULL`.
    pub fn parameter_list(&self) -> String {
        let values = self.parameters.iter().enumerate();
        let values = values.map(|(index, parameter)| {
            let value = parameter.value.as_deref().unwrap_or("NULL");
            format!("${} = {value}", index + 1)
        });
        values.collect::<Vec<_>>().join("; ")
    }

    /// What it takes in the log, about.
    pub(super) fn bytes(&self) -> usize {
        let parameters = self.parameters.iter();
        let values = parameters.map(|parameter| parameter.value.as_ref().map_or(0, String::len) + 16);
        self.text.len() + self.zone.len() + values.sum::<usize>()
    }
}

/// Whether a commit into branches of a candidate, by somebody who `records`, keeps it of one kind.
pub(crate) fn check_kind(latest: &Catalog, candidate: (&str, &str), records: bool) -> Result<(), Error> {
    let (election, name) = candidate;
    let found = latest.elections().get(election);
    match found.and_then(|election| election.candidate(name)) {
        Some(candidate) => candidate.check_kind(&format!("{election}/{name}"), records),
        None => Ok(()),
    }
}
