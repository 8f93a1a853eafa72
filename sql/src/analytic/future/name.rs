//! Names of futures: `election/candidate`, or several candidates laid on top of each other, `election/one+two` and
//! `election/one+other/two`. Later ones win.

use crate::error::{Error, SqlState};
use crate::privilege;
use scry_engine::election::Privileges;
use scry_engine::{Candidate, Catalog, Election, Table};
use std::fmt;
use std::sync::Arc;

/// Candidates that one future may lay on top of each other: each pair of them is compared by key.
const CANDIDATES_MAX: usize = 16;

/// A future, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FutureName {
    /// (Election, candidate); those that win last.
    members: Vec<(String, String)>,
}

impl FutureName {
    /// Whether a schema's name is meant to be that of a future.
    pub fn is_meant(schema: &str) -> bool {
        schema.contains('/')
    }

    /// Reads a name. Of a candidate without election the election is that of the one before it.
    ///
    /// # Errors
    /// Names that are not of that form, 42602; more candidates than can be laid on top of each other, 54000.
    pub fn parse(text: &str) -> Result<FutureName, Error> {
        let mut members: Vec<(String, String)> = Vec::new();
        for part in text.split('+') {
            let (election, candidate) = match (part.split_once('/'), members.last()) {
                (Some((election, candidate)), _) => (election, candidate),
                (None, Some((election, _))) => (election.as_str(), part),
                (None, None) => return Err(malformed(text)),
            };
            if election.is_empty() || candidate.is_empty() || candidate.contains('/') {
                return Err(malformed(text));
            }
            members.push((election.to_owned(), candidate.to_owned()));
        }
        if members.len() > CANDIDATES_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("a future cannot be made of more than {CANDIDATES_MAX} candidates"),
            ));
        }
        Ok(FutureName { members })
    }

    /// The future of one candidate.
    pub fn of(election: &str, candidate: &str) -> FutureName {
        FutureName {
            members: vec![(election.to_owned(), candidate.to_owned())],
        }
    }

    /// The candidates, those that win last, to be read in the mirror.
    ///
    /// # Errors
    /// As `open`, and for candidates that are not in the mirror.
    pub fn resolve(&self, catalog: &Catalog, user: &str) -> Result<Vec<Arc<Candidate>>, Error> {
        let candidates = self.open(catalog, user)?;
        let dark = candidates.iter().position(|candidate| !candidate.mirrored);
        if let Some((election, candidate)) = dark.and_then(|index| self.members.get(index)) {
            return Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "the future of candidate \"{election}/{candidate}\" cannot be read: it is not in the mirror"
                ),
            )
            .with_hint("ALTER CANDIDATE … SET (mirror = on) puts it there."));
        }
        Ok(candidates)
    }

    /// The candidates, those that win last.
    ///
    /// # Errors
    /// Candidates that do not exist, have ended, cannot be elected together, or may not be read by the user.
    pub fn open(&self, catalog: &Catalog, user: &str) -> Result<Vec<Arc<Candidate>>, Error> {
        let mut found: Vec<(Arc<Election>, Arc<Candidate>)> = Vec::with_capacity(self.members.len());
        for (election, candidate) in &self.members {
            let (election, candidate) = catalog.elections().open(election, candidate)?;
            privilege::check(election, user, Privileges::READ)?;
            let label = format!("{}/{}", election.name, candidate.name);
            let rivals: Vec<&str> = found
                .iter()
                .filter(|(other, _)| other.id == election.id)
                .map(|(_, rival)| rival.name.as_str())
                .collect();
            if rivals.contains(&candidate.name.as_str()) {
                return Err(Error::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("candidate \"{label}\" specified more than once"),
                ));
            }
            let places = (election.winners as usize).saturating_sub(election.elected());
            if election.winners != 0 && rivals.len() >= places {
                let rival = rivals.last().copied().unwrap_or_default();
                return Err(excluded(election, rival, &candidate.name));
            }
            found.push((Arc::clone(election), Arc::clone(candidate)));
        }
        Ok(found.into_iter().map(|(_, candidate)| candidate).collect())
    }

    /// The table of this name; `None`: there is none.
    ///
    /// # Errors
    /// As `resolve`, and when a candidate changed a table of this name that is another one by now.
    pub fn table<'c>(
        &self,
        catalog: &'c Catalog,
        user: &str,
        name: &str,
    ) -> Result<Option<&'c Arc<Table>>, Error> {
        FutureName::table_of(&self.resolve(catalog, user)?, catalog, name)
    }

    /// As `table`, of candidates that are known already.
    ///
    /// # Errors
    /// When a candidate changed a table of this name that is another one by now.
    pub fn table_of<'c>(
        candidates: &[Arc<Candidate>],
        catalog: &'c Catalog,
        name: &str,
    ) -> Result<Option<&'c Arc<Table>>, Error> {
        let table = catalog.table(name);
        for candidate in candidates {
            match table {
                Some(table) => drop(candidate.changes_of(table)?),
                None if candidate.changed(name) => {
                    let table = name.to_owned();
                    return Err(scry_engine::Error::TableReplaced { table }.into());
                }
                None => {}
            }
        }
        Ok(table)
    }
}

impl fmt::Display for FutureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for (index, (election, candidate)) in self.members.iter().enumerate() {
            if index > 0 {
                f.write_str("+")?;
            }
            if last != election {
                write!(f, "{election}/")?;
            }
            f.write_str(candidate)?;
            last = election;
        }
        Ok(())
    }
}

fn malformed(text: &str) -> Error {
    Error::new(
        SqlState::INVALID_NAME,
        format!("\"{text}\" is no name of a future"),
    )
    .with_hint(
        "A future is named election/candidate, or election/one+two for candidates on top of each other.",
    )
}

fn excluded(election: &Election, one: &str, other: &str) -> Error {
    let name = &election.name;
    let left = election.winners as usize - election.elected();
    let winners = if left == 1 { "candidate" } else { "candidates" };
    Error::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("candidates \"{name}/{one}\" and \"{name}/{other}\" cannot be elected together"),
    )
    .with_detail(format!("Election \"{name}\" elects {left} more {winners}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Vec<(String, String)> {
        FutureName::parse(text).expect(text).members
    }

    #[test]
    fn a_candidate_without_election_is_of_the_election_before_it() {
        let pair = |election: &str, candidate: &str| (election.to_owned(), candidate.to_owned());
        assert_eq!(members("e/a"), [pair("e", "a")]);
        assert_eq!(
            members("e/a+b+f/c+d"),
            [pair("e", "a"), pair("e", "b"), pair("f", "c"), pair("f", "d")]
        );
    }

    #[test]
    fn names_are_written_as_short_as_they_can_be_read() {
        for (text, short) in [("e/a", "e/a"), ("e/a+e/b+f/c", "e/a+b+f/c")] {
            let name = FutureName::parse(text).expect(text);
            assert_eq!(name.to_string(), short);
            assert_eq!(FutureName::parse(short).expect(short), name);
        }
    }

    #[test]
    fn what_is_no_name_of_a_future_is_refused() {
        for text in ["", "e", "/", "e/", "/a", "e/a+", "+e/a", "e/a/b", "a+e/b"] {
            let error = FutureName::parse(text).expect_err(text);
            assert_eq!(error.code, SqlState::INVALID_NAME, "{text}");
        }
        let many = format!("e/{}", vec!["a"; CANDIDATES_MAX + 1].join("+"));
        let error = FutureName::parse(&many).expect_err("too many");
        assert_eq!(error.code, SqlState::PROGRAM_LIMIT_EXCEEDED);
    }
}
