//! Elections and candidates at work.

use super::elect::Done;
use super::run::Advance;
use super::{Notice, Session};
use crate::analytic::FutureName;
use crate::collision as rules;
use crate::error::{Error, SqlState};
use crate::exec::context;
use crate::exec::message::{self, Formats};
use crate::plan::statement::ElectionStatement;
use crate::privilege;
use crate::tags::CommandTag;
use bytes::BytesMut;
use scry_engine::collision;
use scry_engine::election::{NewCandidate, NewElection, Privileges};
use scry_engine::{Conflict, Error as EngineError, Isolation, Row, SessionInfo};

/// Conflicts that an error lists.
const LISTED: usize = 10;

/// The columns of SHOW; `None`: the statement has no result.
pub(super) fn columns(statement: &ElectionStatement) -> Option<&'static [&'static str]> {
    match statement {
        ElectionStatement::ShowElections => Some(&[
            "election",
            "owner",
            "state",
            "winners",
            "elected",
            "candidates",
            "base_lsn",
        ]),
        ElectionStatement::ShowCandidates { .. } => Some(&[
            "candidate",
            "state",
            "mirror",
            "weight",
            "note",
            "base_lsn",
            "tables",
        ]),
        _ => None,
    }
}

/// What a statement did.
pub(super) struct Outcome {
    tag: &'static str,
    /// Rows of tables that were changed.
    pub rows: u64,
    /// False: there was nothing to be done.
    pub done: bool,
    /// The candidate that ELECT BEST has chosen.
    pub winner: Option<String>,
}

fn tag(statement: &ElectionStatement) -> &'static str {
    match statement {
        ElectionStatement::CreateElection { .. } => "CREATE ELECTION",
        ElectionStatement::CreateCandidate { .. } => "CREATE CANDIDATE",
        ElectionStatement::AlterCandidate { .. } => "ALTER CANDIDATE",
        ElectionStatement::ExpireBase { .. } => "EXPIRE BASE",
        ElectionStatement::DropElection { .. } => "DROP ELECTION",
        ElectionStatement::DropCandidate { .. } => "DROP CANDIDATE",
        ElectionStatement::Elect { .. } => "ELECT CANDIDATE",
        ElectionStatement::ElectBest { .. } => "ELECT BEST",
        ElectionStatement::Rebase { .. } => "REBASE CANDIDATE",
        ElectionStatement::Grant { revoked: false, .. } => "GRANT",
        ElectionStatement::Grant { revoked: true, .. } => "REVOKE",
        ElectionStatement::ShowElections | ElectionStatement::ShowCandidates { .. } => "SHOW",
    }
}

impl Session {
    pub(super) async fn election(
        &mut self,
        statement: &ElectionStatement,
        formats: &Formats,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        match statement {
            ElectionStatement::ShowElections => self.show_elections(formats, out),
            ElectionStatement::ShowCandidates { election } => self.show_candidates(election, formats, out),
            _ => {
                let outcome = self.run_election(statement).await?;
                Ok(Advance::Complete(CommandTag::Plain(outcome.tag)))
            }
        }
    }

    /// Runs a statement that has no result.
    pub(super) async fn run_election(&mut self, statement: &ElectionStatement) -> Result<Outcome, Error> {
        let tag = tag(statement);
        self.transaction.check_read_write(&self.settings, tag)?;
        self.check_privileges(statement)?;
        if let Some(Done { rows, winner }) = self.elects(statement).await? {
            // Locks were waited for.
            self.check_privileges(statement)?;
            self.transaction.wrote(tag);
            return Ok(Outcome {
                tag,
                rows,
                done: true,
                winner,
            });
        }
        let txn = self.transaction.statement(&mut self.engine, &self.settings)?;
        let skipped = match statement {
            ElectionStatement::CreateElection {
                name,
                winners,
                private,
            } => txn
                .create_election(NewElection {
                    name: name.clone(),
                    owner: self.identity.user.clone(),
                    winners: *winners,
                    private: *private,
                })
                .map(|()| None),
            ElectionStatement::CreateCandidate {
                name,
                election,
                mirrored,
                weight,
                note,
            } => txn
                .create_candidate(NewCandidate {
                    election: election.clone(),
                    name: name.clone(),
                    mirrored: *mirrored,
                    weight: *weight,
                    note: note.clone(),
                })
                .map(|()| None),
            ElectionStatement::AlterCandidate {
                name,
                election,
                changes,
            } => {
                let altering = txn.alter_candidate(election, name, changes.clone());
                self.interrupt.locking(altering).await?.map(|()| None)
            }
            ElectionStatement::ExpireBase { election } => txn.expire_base(election).map(|expired| {
                let text = format!("election \"{election}\" keeps no base");
                (!expired).then(|| Notice(Error::new(SqlState::SUCCESSFUL_COMPLETION, text)))
            }),
            ElectionStatement::DropElection { name, if_exists } => skip(txn.drop_election(name), *if_exists),
            ElectionStatement::DropCandidate {
                name,
                election,
                if_exists,
            } => skip(txn.drop_candidate(election, name), *if_exists),
            ElectionStatement::Grant {
                election,
                privileges,
                grantees,
                revoked,
            } => grantees
                .iter()
                .try_for_each(|grantee| {
                    txn.grant_election(election, grantee.as_deref(), *privileges, *revoked)
                })
                .map(|()| None),
            ElectionStatement::Elect { .. }
            | ElectionStatement::ElectBest { .. }
            | ElectionStatement::Rebase { .. }
            | ElectionStatement::ShowElections
            | ElectionStatement::ShowCandidates { .. } => Ok(None),
        };
        let skipped = skipped?;
        let done = skipped.is_none();
        match skipped {
            // There was nothing to be done.
            Some(notice) => self.notices.push(notice),
            None => self.transaction.wrote(tag),
        }
        Ok(Outcome {
            tag,
            rows: 0,
            done,
            winner: None,
        })
    }

    /// Whether the user may run the statement as far as this transaction knows, and as things are by now.
    fn check_privileges(&mut self, statement: &ElectionStatement) -> Result<(), Error> {
        let own = self.catalog();
        let newest = self.database.engine().catalog();
        [own, newest].iter().try_for_each(|catalog| {
            privilege::check_statement(
                catalog,
                &self.identity.user,
                self.database.election_creators(),
                statement,
            )
        })
    }

    /// Refuses a value of `scry.candidate` that names no open candidate, or comes too late in a transaction.
    pub(super) fn check_candidate(&mut self, text: &str) -> Result<(), Error> {
        let now = self.settings.candidate();
        let now = now.map_or_else(String::new, |(election, candidate)| {
            format!("{election}/{candidate}")
        });
        if text == now {
            return Ok(());
        }
        if self.transaction.txn().is_some() {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "scry.candidate must be set before any query of its transaction",
            ));
        }
        if text.is_empty() {
            return Ok(());
        }
        if self.settings.future().is_some() {
            return Err(exclusive("scry.candidate", "scry.future"));
        }
        if self.settings.as_of().is_some() {
            return Err(exclusive("scry.candidate", "scry.as_of"));
        }
        let Some((election, candidate)) = text.split_once('/') else {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"scry.candidate\": \"{text}\""),
            )
            .with_hint("A candidate is named election/candidate."));
        };
        let catalog = self.database.engine().catalog();
        catalog.inside(election, candidate)?;
        privilege::check_named(&catalog, election, &self.identity.user, Privileges::WRITE)?;
        Ok(())
    }

    /// Refuses to change how statements of a candidate are kept in the midst of its transaction.
    pub(super) fn check_candidate_mode(&mut self) -> Result<(), Error> {
        match self.transaction.txn() {
            Some(txn) if txn.candidate().is_some() => Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "scry.candidate_mode must be set before any query of its transaction",
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a value of `scry.future` that names a future that cannot be read.
    pub(super) fn check_future(&mut self, text: &str) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        if self.settings.candidate().is_some() {
            return Err(exclusive("scry.future", "scry.candidate"));
        }
        if self.settings.as_of().is_some() {
            return Err(exclusive("scry.future", "scry.as_of"));
        }
        let catalog = self.catalog();
        FutureName::parse(text)?.resolve(&catalog, &self.identity.user)?;
        Ok(())
    }

    fn show_elections(&mut self, formats: &Formats, out: &mut BytesMut) -> Result<Advance, Error> {
        let catalog = self.catalog();
        for election in catalog.elections().iter() {
            let state = election.state.name();
            let winners = match election.winners {
                0 => "any".to_owned(),
                count => count.to_string(),
            };
            let (elected, candidates) = (
                election.elected().to_string(),
                election.candidates().count().to_string(),
            );
            let base = election.base().to_string();
            let row: [&str; 7] = [
                &election.name,
                &election.owner,
                state,
                &winners,
                &elected,
                &candidates,
                &base,
            ];
            message::text_row(out, &row, formats);
        }
        Ok(Advance::Complete(CommandTag::Plain("SHOW")))
    }

    fn show_candidates(
        &mut self,
        election: &str,
        formats: &Formats,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let catalog = self.catalog();
        let Some(election) = catalog.elections().get(election) else {
            let name = election.to_owned();
            return Err(EngineError::UndefinedElection { name }.into());
        };
        for candidate in election.candidates() {
            let state = candidate.state.name();
            let mirror = if candidate.mirrored { "on" } else { "off" };
            let (weight, base) = (candidate.weight.to_string(), candidate.base().to_string());
            let tables: Vec<&str> = candidate.branches().map(|branch| branch.table_name()).collect();
            let row: [&str; 7] = [
                &candidate.name,
                state,
                mirror,
                &weight,
                &candidate.note,
                &base,
                &tables.join(", "),
            ];
            message::text_row(out, &row, formats);
        }
        Ok(Advance::Complete(CommandTag::Plain("SHOW")))
    }

    /// The error that names the conflicts of a candidate, as somebody sees them who has none of its rows.
    pub(super) fn conflicts(&self, election: &str, candidate: &str) -> Result<Error, Error> {
        let mut session = self.database.engine().session(SessionInfo::default());
        let mut looking = session.begin(Isolation::ReadCommitted);
        looking.statement();
        let evaluate = rules::evaluator();
        let conflicts = looking.conflicts(election, candidate, &evaluate)?;
        let count = conflicts.len();
        let rows = if count == 1 { "row" } else { "rows" };
        let error = Error::new(
            SqlState::TRANSACTION_INTEGRITY_CONSTRAINT_VIOLATION,
            format!(
                "candidate \"{election}/{candidate}\" conflicts with the present state in {count} {rows}"
            ),
        );
        let mut lines: Vec<String> = conflicts
            .iter()
            .take(LISTED)
            .map(|conflict| self.conflict_text(conflict))
            .collect();
        if count > LISTED {
            lines.push(format!("and {} more", count - LISTED));
        }
        Ok(error
            .with_detail(lines.join("\n"))
            .with_hint("Give the tables collision rules and say ON CONFLICT RESOLVE, or ON CONFLICT DEFER."))
    }

    fn conflict_text(&self, conflict: &Conflict) -> String {
        let row = |row: &Option<Row>| match row {
            None => "no row".to_owned(),
            Some(row) => {
                let values = conflict.table.layout.row(row).values();
                format!("({})", context::row_text(&conflict.table, &values, &self.facts()))
            }
        };
        format!(
            "{}: found {}, present {}, proposed {}: {}",
            conflict.table.def.name,
            row(&conflict.before),
            row(&conflict.present),
            row(&conflict.proposed),
            match &conflict.decision.outcome {
                collision::Outcome::Keep | collision::Outcome::Put(_) | collision::Outcome::Delete => {
                    format!("decided by {}", conflict.decision.reason)
                }
                collision::Outcome::Defer => format!("deferred by {}", conflict.decision.reason),
                collision::Outcome::Refuse => conflict.decision.reason.clone(),
            }
        )
    }
}

pub(super) fn exclusive(setting: &str, other: &str) -> Error {
    Error::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("{setting} cannot be set while {other} is"),
    )
    .with_hint(format!("RESET {other} first."))
}

/// With IF EXISTS, what is not there is told and is no error.
fn skip(result: Result<(), EngineError>, if_exists: bool) -> Result<Option<Notice>, EngineError> {
    match result {
        Err(error @ (EngineError::UndefinedElection { .. } | EngineError::UndefinedCandidate { .. }))
            if if_exists =>
        {
            let text = format!("{error}, skipping");
            Ok(Some(Notice(Error::new(SqlState::SUCCESSFUL_COMPLETION, text))))
        }
        other => other.map(|()| None),
    }
}
