//! Bases that are kept no longer.
//!
//! The base of an election keeps of each row the version that it sees, for weeks when the election takes weeks. What it may cost
//! has a bound in bytes of log: a base further behind than that *expires*, by a change of the log like any other, so that
//! every start agrees. Nothing can be read at it any more, and no candidate begins with it. A candidate keeps what it
//! has changed, with what it found there: it can be elected as before, and a rebase gives it a base at the present.

use super::change::ElectionChange;
use super::{CandidateState, Election, ElectionState};
use crate::engine::{Engine, SessionInfo};
use crate::error::Error;
use crate::txn::{Isolation, Txn};
use scry_wal::Lsn;
use std::sync::Arc;

impl Election {
    /// Whether it keeps a base that is as old as `upto`.
    fn keeps(&self, upto: Lsn) -> bool {
        let candidates = self.candidates();
        let mut open = candidates.filter(|candidate| candidate.state == CandidateState::Open);
        self.base.expires(upto) || open.any(|candidate| candidate.base.expires(upto))
    }
}

impl Txn {
    /// Lets go of the bases of an election and its candidates, up to the state that this statement sees. Answers whether there
    /// was one.
    ///
    /// # Errors
    /// `UndefinedElection`, `ElectionEnded`.
    pub fn expire_base(&mut self, election: &str) -> Result<bool, Error> {
        self.not_in_candidate("expire_base")?;
        let election = self.open_election(election)?;
        let upto = self.snapshot();
        if !election.keeps(upto) {
            return Ok(false);
        }
        self.change_elections(ElectionChange::Expire {
            election: election.id,
            upto,
        })?;
        Ok(true)
    }
}

impl Engine {
    /// Lets go of all bases behind which more than `retention` bytes of log were written. Answers the names of their elections.
    /// To be called now and then.
    ///
    /// # Errors
    /// What the commit answers.
    pub fn expire_bases(self: &Arc<Self>, retention: u64) -> Result<Vec<String>, Error> {
        let Some(upto) = self.visible_lsn().get().checked_sub(retention) else {
            return Ok(Vec::new());
        };
        let upto = Lsn::new(upto);
        let mut expired = Vec::new();
        for election in self.catalog().elections().iter() {
            if election.state != ElectionState::Open || !election.keeps(upto) {
                continue;
            }
            let mut session = self.session(SessionInfo::default());
            let mut txn = session.begin(Isolation::ReadCommitted);
            let expiring = txn.change_elections(ElectionChange::Expire {
                election: election.id,
                upto,
            });
            match expiring.and_then(|()| txn.commit("EXPIRE BASE")) {
                Ok(_) => expired.push(election.name.clone()),
                // It has ended meanwhile.
                Err(Error::ElectionEnded { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(expired)
    }
}
