//! What each change does to the elections, and to the transactions that work in a candidate.

use super::change::{ElectionChange, Verdict};
use super::privilege::Acl;
use super::recorded::{STATEMENT_BYTES_MAX, STATEMENTS_MAX};
use super::{
    Access, Base, Branch, Candidate, CandidateState, Committed, Election, ElectionState, Elections, Scores,
};
use crate::catalog::{Table, Tables};
use crate::error::Error;
use scry_wal::{Lsn, StoreId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

impl Elections {
    /// Makes one change with the commit at `at`, which leaves `tables`; `branch` is the table of a new branch.
    pub(crate) fn apply(
        &mut self,
        at: Lsn,
        tables: &Arc<Tables>,
        change: &ElectionChange,
        branch: Option<&Arc<Table>>,
    ) -> Result<(), Error> {
        match change {
            ElectionChange::CreateElection {
                id,
                name,
                owner,
                created,
                winners,
            } => {
                if self
                    .get(name)
                    .is_some_and(|election| election.state == ElectionState::Open)
                {
                    return Err(Error::DuplicateElection { name: name.clone() });
                }
                let election = Election {
                    id: *id,
                    name: name.clone(),
                    owner: owner.clone(),
                    created: *created,
                    winners: *winners,
                    state: ElectionState::Open,
                    base: Base::new(at, tables, &self.pins),
                    resolved: 0,
                    deferred: 0,
                    scores: None,
                    committed: Vec::new(),
                    acl: Acl::default(),
                    lock: Arc::default(),
                    candidates: BTreeMap::new(),
                };
                self.by_name.insert(name.clone(), Arc::new(election));
            }
            ElectionChange::CreateCandidate {
                election,
                id,
                name,
                created,
                mirrored,
                weight,
                note,
            } => {
                let election = self.open_by_id(*election)?;
                if election.base.expired {
                    return Err(Error::BaseExpired {
                        of: format!("election \"{}\"", election.name),
                    });
                }
                if let Some(known) = election.candidates.get(name)
                    && known.state != CandidateState::Dropped
                {
                    return Err(Error::DuplicateCandidate {
                        election: election.name.clone(),
                        name: name.clone(),
                    });
                }
                let candidate = Candidate {
                    id: *id,
                    election: election.id,
                    name: name.clone(),
                    created: *created,
                    mirrored: *mirrored,
                    weight: *weight,
                    note: note.clone(),
                    state: CandidateState::Open,
                    since: at,
                    base: election.base.clone(),
                    access: Arc::default(),
                    branches: BTreeMap::new(),
                    statements: Vec::new(),
                    statement_bytes: 0,
                };
                election.candidates.insert(name.clone(), Arc::new(candidate));
            }
            ElectionChange::CreateBranch {
                candidate,
                base,
                mirrored,
                ..
            } => {
                let table = branch.expect("the change that creates a branch comes with its table");
                let candidate = self.open_candidate(*candidate)?;
                let of_base = candidate.base.tables.by_store(*base);
                let fits = of_base.is_some_and(|of_base| of_base.def.primary_key == table.def.primary_key);
                // Another session was first, or the candidate was rebased or switched meanwhile.
                if candidate.branches.contains_key(base) || !fits || candidate.mirrored != *mirrored {
                    return Err(Error::CandidateChanged {
                        candidate: candidate.name.clone(),
                    });
                }
                let branch = Branch {
                    base: *base,
                    table: Arc::clone(table),
                    changed: Arc::new(AtomicU64::new(at.get())),
                };
                candidate.branches.insert(*base, Arc::new(branch));
            }
            ElectionChange::Adopt { candidate, .. } => {
                self.open_candidate(*candidate)?;
            }
            ElectionChange::EndCandidate {
                candidate,
                elected,
                branches,
            } => {
                let candidate = self.open_candidate(*candidate)?;
                let committed = Committed {
                    candidate: candidate.name.clone(),
                    at,
                    stores: candidate.branches().map(|branch| branch.base).collect(),
                };
                candidate.drop_branches(branches)?;
                candidate.statements = Vec::new();
                candidate.base.release();
                candidate.state = match elected {
                    true => CandidateState::Elected,
                    false => CandidateState::Dropped,
                };
                if *elected {
                    let election = candidate.election;
                    self.open_by_id(election)?.committed.push(committed);
                }
            }
            ElectionChange::EndElection { election, committed } => {
                let election = self.open_by_id(*election)?;
                // One that was created meanwhile: whoever ends the election did not know it.
                let is_open = |known: &&Arc<Candidate>| known.state == CandidateState::Open;
                if let Some(left) = election.candidates().find(is_open) {
                    return Err(Error::CandidateChanged {
                        candidate: left.name.clone(),
                    });
                }
                election.state = match committed {
                    true => ElectionState::Committed,
                    false => ElectionState::Abandoned,
                };
                election.base.release();
            }
            ElectionChange::Rebase { candidate } => {
                let base = Base::new(at, tables, &self.pins);
                let candidate = self.open_candidate(*candidate)?;
                for branch in candidate.branches.values_mut() {
                    if let Some(of_base) = base.tables.by_store(branch.base)
                        && let Some(fitting) = branch.fitted_to(of_base)
                    {
                        *branch = Arc::new(fitting);
                    }
                }
                candidate.base = base;
                candidate.access = Arc::default();
            }
            ElectionChange::Discard { candidate, branches } => {
                let candidate = self.open_candidate(*candidate)?;
                candidate.drop_branches(branches)?;
                candidate.access = Arc::default();
            }
            ElectionChange::Record { candidate, statement } => {
                let label = self.label(*candidate);
                let candidate = self.open_candidate(*candidate)?;
                candidate.check_kind(&label, true)?;
                candidate.statement_bytes += statement.bytes();
                if candidate.statements.len() >= STATEMENTS_MAX
                    || candidate.statement_bytes > STATEMENT_BYTES_MAX
                {
                    return Err(Error::TooManyStatements { candidate: label });
                }
                candidate.statements.push(Arc::new(statement.clone()));
            }
            ElectionChange::Expire { election, upto } => {
                let election = self.open_by_id(*election)?;
                if election.base.expires(*upto) {
                    election.base.expire();
                }
                for candidate in election.candidates.values_mut() {
                    if candidate.base.expires(*upto) {
                        Arc::make_mut(candidate).base.expire();
                    }
                }
            }
            ElectionChange::AlterCandidate {
                candidate,
                mirrored,
                weight,
                note,
            } => {
                let candidate = self.open_candidate(*candidate)?;
                if let Some(mirrored) = mirrored {
                    if !candidate.branches.is_empty() && candidate.mirrored != *mirrored {
                        return Err(Error::CandidateChanged {
                            candidate: candidate.name.clone(),
                        });
                    }
                    candidate.mirrored = *mirrored;
                }
                candidate.weight = weight.unwrap_or(candidate.weight);
                if let Some(note) = note {
                    candidate.note.clone_from(note);
                }
            }
            ElectionChange::Decide {
                candidate,
                verdict,
                keys,
                ..
            } => {
                let election = self.open_candidate(*candidate)?.election;
                let election = self.open_by_id(election)?;
                match verdict {
                    Verdict::Deferred => election.deferred += keys.len() as u64,
                    Verdict::Kept | Verdict::Put | Verdict::Deleted => election.resolved += keys.len() as u64,
                }
            }
            ElectionChange::Score {
                election,
                query,
                maximize,
                scores,
            } => {
                self.open_by_id(*election)?.scores = Some(Arc::new(Scores {
                    query: query.clone(),
                    maximize: *maximize,
                    scores: scores.clone(),
                }));
            }
            ElectionChange::Grant {
                election,
                grantee,
                privileges,
                revoked,
            } => {
                // Of one that has ended, too: its conflicts are there to be resolved.
                let election = Arc::make_mut(self.by_id(*election)?);
                election.acl.change(grantee.as_deref(), *privileges, *revoked);
            }
            ElectionChange::ForgetElection { election } => {
                self.by_name.retain(|_, known| known.id != *election);
            }
        }
        Ok(())
    }

    /// Tells the transactions that work in a candidate that `change` ends or rebases it. Only inside of the critical
    /// section of the commit that makes the change, once nothing can fail any more.
    pub(crate) fn announce(&self, change: &ElectionChange) {
        let (candidate, state) = match change {
            ElectionChange::EndCandidate { candidate, .. } => (candidate, Access::ENDED),
            ElectionChange::Rebase { candidate } | ElectionChange::Discard { candidate, .. } => {
                (candidate, Access::REBASED)
            }
            _ => return,
        };
        if let Some((_, candidate)) = self.candidate(*candidate) {
            candidate.access.close(state);
        }
    }

    /// The name of a candidate, for messages.
    fn label(&self, id: u64) -> String {
        let found = self.candidate(id);
        found.map_or_else(
            || format!("number {id}"),
            |(election, candidate)| format!("{}/{}", election.name, candidate.name),
        )
    }

    fn open_by_id(&mut self, id: u64) -> Result<&mut Election, Error> {
        let election = self.by_id(id)?;
        if election.state != ElectionState::Open {
            return Err(Error::ElectionEnded {
                name: election.name.clone(),
            });
        }
        Ok(Arc::make_mut(election))
    }

    fn by_id(&mut self, id: u64) -> Result<&mut Arc<Election>, Error> {
        let found = self.by_name.values_mut().find(|election| election.id == id);
        found.ok_or(Error::ElectionEnded {
            name: format!("number {id}"),
        })
    }

    fn open_candidate(&mut self, id: u64) -> Result<&mut Candidate, Error> {
        let found = self
            .candidate(id)
            .map(|(election, candidate)| (election.id, candidate.name.clone()));
        let (election, name) = found.ok_or(Error::CandidateEnded {
            candidate: format!("number {id}"),
        })?;
        let election = self.open_by_id(election)?;
        let candidate = election.candidates.get_mut(&name).map(Arc::make_mut);
        match candidate {
            Some(candidate) if candidate.state == CandidateState::Open => Ok(candidate),
            _ => Err(Error::CandidateEnded { candidate: name }),
        }
    }
}

impl Candidate {
    /// The branches go. The record names them for those who read the log: none may have come meanwhile.
    fn drop_branches(&mut self, named: &[StoreId]) -> Result<(), Error> {
        let stores = self.branches().map(|branch| branch.store());
        if !stores.eq(named.iter().copied()) {
            return Err(Error::CandidateChanged {
                candidate: self.name.clone(),
            });
        }
        self.branches.clear();
        Ok(())
    }
}
