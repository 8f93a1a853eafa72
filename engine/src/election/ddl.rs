//! CREATE, DROP and the like for elections and candidates, inside transactions.

use super::{CandidateState, Election, ElectionState, Privileges};
use crate::catalog_change::CatalogChange;
use crate::election::change::ElectionChange;
use crate::error::Error;
use crate::txn::Txn;
use std::sync::Arc;

/// An election to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewElection {
    pub name: String,
    pub owner: String,
    /// How many candidates may be elected; 0: any number.
    pub winners: u32,
    /// Whether PUBLIC begins without privileges.
    pub private: bool,
}

/// A candidate to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCandidate {
    pub election: String,
    pub name: String,
    /// Whether its changes are applied to the mirror.
    pub mirrored: bool,
    /// Its share in expected values; not negative.
    pub weight: f64,
    pub note: String,
}

impl Txn {
    /// Creates an election. Its base is the state that this transaction's commit leaves.
    ///
    /// # Errors
    /// `DuplicateElection`; from the commit, too, when another one took the name.
    pub fn create_election(&mut self, new: NewElection) -> Result<(), Error> {
        self.not_in_candidate("CREATE ELECTION")?;
        let id = self.engine.next_election_id();
        self.change_elections(ElectionChange::CreateElection {
            id,
            name: new.name,
            owner: new.owner,
            created: self.engine.options.clock.now(),
            winners: new.winners,
        })?;
        match new.private {
            true => self.change_elections(ElectionChange::Grant {
                election: id,
                grantee: None,
                privileges: Privileges::ALL,
                revoked: true,
            }),
            false => Ok(()),
        }
    }

    /// Creates a candidate.
    ///
    /// # Errors
    /// `UndefinedElection`, `ElectionEnded`, `DuplicateCandidate`, `BaseExpired`.
    pub fn create_candidate(&mut self, new: NewCandidate) -> Result<(), Error> {
        self.not_in_candidate("CREATE CANDIDATE")?;
        let election = self.open_election(&new.election)?.id;
        let id = self.engine.next_election_id();
        self.change_elections(ElectionChange::CreateCandidate {
            election,
            id,
            name: new.name,
            created: self.engine.options.clock.now(),
            mirrored: new.mirrored,
            weight: new.weight,
            note: new.note,
        })
    }

    /// Drops a candidate with everything that it changed. Nobody is waited for: a transaction that is
    /// writing into it finds out when it commits.
    ///
    /// # Errors
    /// `UndefinedElection`, `ElectionEnded`, `UndefinedCandidate`, `CandidateEnded`.
    pub fn drop_candidate(&mut self, election: &str, name: &str) -> Result<(), Error> {
        self.not_in_candidate("DROP CANDIDATE")?;
        let (_, candidate) = self.open_candidate(election, name)?;
        self.end_candidate(&candidate, false)
    }

    /// Drops an election with its candidates; of one that has ended, what is remembered of it.
    ///
    /// # Errors
    /// `UndefinedElection`.
    pub fn drop_election(&mut self, name: &str) -> Result<(), Error> {
        self.not_in_candidate("DROP ELECTION")?;
        let election = self.election(name)?;
        if election.state == ElectionState::Open {
            self.end_election(&election, false)?;
        }
        self.change_elections(ElectionChange::ForgetElection {
            election: election.id,
        })
    }

    /// Grants privileges on an election, open or not, or revokes them. A grantee `None` is PUBLIC.
    ///
    /// # Errors
    /// `UndefinedElection`.
    pub fn grant_election(
        &mut self,
        name: &str,
        grantee: Option<&str>,
        privileges: Privileges,
        revoked: bool,
    ) -> Result<(), Error> {
        self.not_in_candidate(if revoked { "REVOKE" } else { "GRANT" })?;
        let election = self.election(name)?.id;
        self.change_elections(ElectionChange::Grant {
            election,
            grantee: grantee.map(str::to_owned),
            privileges,
            revoked,
        })
    }

    /// Ends an election; candidates that are open are dropped with it.
    pub(super) fn end_election(&mut self, election: &Election, committed: bool) -> Result<(), Error> {
        for candidate in election.candidates() {
            if candidate.state == CandidateState::Open {
                self.end_candidate(candidate, false)?;
            }
        }
        self.change_elections(ElectionChange::EndElection {
            election: election.id,
            committed,
        })
    }

    pub(super) fn end_candidate(&mut self, candidate: &super::Candidate, elected: bool) -> Result<(), Error> {
        self.change_elections(ElectionChange::EndCandidate {
            candidate: candidate.id,
            elected,
            branches: candidate.branches().map(|branch| branch.store()).collect(),
        })
    }

    /// The election of this name, open or not, as this transaction sees it.
    pub(super) fn election(&self, name: &str) -> Result<Arc<Election>, Error> {
        let found = self.catalog().elections().get(name).cloned();
        found.ok_or_else(|| Error::UndefinedElection {
            name: name.to_owned(),
        })
    }

    pub(super) fn open_election(&self, name: &str) -> Result<Arc<Election>, Error> {
        self.catalog().elections().open_election(name).cloned()
    }

    pub(crate) fn open_candidate(
        &self,
        election: &str,
        name: &str,
    ) -> Result<(Arc<Election>, Arc<super::Candidate>), Error> {
        let (election, candidate) = self.catalog().elections().open(election, name)?;
        Ok((Arc::clone(election), Arc::clone(candidate)))
    }

    pub(super) fn change_elections(&mut self, change: ElectionChange) -> Result<(), Error> {
        self.holder();
        self.alter(CatalogChange::Election(change), None, None)
    }
}
