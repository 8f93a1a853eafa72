//! May a user do that with an election? Everything that sessions do with elections asks here.
//!
//! Asked for with each statement: futures by [`crate::analytic::FutureName`] whenever one is looked up, for planning and for
//! each execution; statements of elections before they run; work inside of a candidate when its transaction begins.

use crate::error::{Error, SqlState};
use crate::plan::statement::ElectionStatement;
use scry_engine::Catalog;
use scry_engine::election::{Election, Privileges};

/// Who may create elections; `None`: everybody.
pub type Creators = Option<Vec<String>>;

/// # Errors
/// 42501 when the user lacks a privilege.
pub fn check(election: &Election, user: &str, wanted: Privileges) -> Result<(), Error> {
    if election.allows(user, wanted) {
        return Ok(());
    }
    Err(denied(election).with_detail(format!("User \"{user}\" lacks the privilege {}.", wanted.names())))
}

/// Of an election that may not be there; then others say so.
///
/// # Errors
/// As `check`.
pub fn check_named(catalog: &Catalog, election: &str, user: &str, wanted: Privileges) -> Result<(), Error> {
    match catalog.elections().get(election) {
        Some(election) => check(election, user, wanted),
        None => Ok(()),
    }
}

/// # Errors
/// 42501 when the user may not run the statement.
pub fn check_statement(
    catalog: &Catalog,
    user: &str,
    creators: &Creators,
    statement: &ElectionStatement,
) -> Result<(), Error> {
    let (election, wanted) = match statement {
        ElectionStatement::CreateElection { .. } => return check_creator(creators, user),
        ElectionStatement::Grant { election, .. } => {
            let election = catalog.elections().get(election);
            return match election.filter(|election| election.owner != user) {
                Some(election) => Err(denied(election).with_detail(format!(
                    "Privileges are granted and revoked by the owner, \"{}\".",
                    election.owner
                ))),
                None => Ok(()),
            };
        }
        ElectionStatement::ShowElections | ElectionStatement::ShowCandidates { .. } => return Ok(()),
        ElectionStatement::CreateCandidate { election, .. }
        | ElectionStatement::AlterCandidate { election, .. } => (election, Privileges::CREATE),
        ElectionStatement::DropElection { name, .. } => (name, Privileges::ELECT),
        ElectionStatement::DropCandidate { election, .. }
        | ElectionStatement::ExpireBase { election }
        | ElectionStatement::Elect { election, .. }
        | ElectionStatement::ElectBest { election, .. }
        | ElectionStatement::Rebase { election, .. } => (election, Privileges::ELECT),
    };
    check_named(catalog, election, user, wanted)
}

fn check_creator(creators: &Creators, user: &str) -> Result<(), Error> {
    let allowed = creators
        .as_ref()
        .is_none_or(|creators| creators.iter().any(|creator| creator == user));
    if allowed {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied to create election",
    )
    .with_detail(format!(
        "User \"{user}\" is not in the server's configuration, elections.creators."
    )))
}

fn denied(election: &Election) -> Error {
    Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for election \"{}\"", election.name),
    )
}
