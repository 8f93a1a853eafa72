//! CREATE ELECTION, CREATE CANDIDATE, ALTER CANDIDATE, GRANT and REVOKE, ELECT CANDIDATE, ELECT BEST, REBASE CANDIDATE, DROP and SHOW
//! of both.

use crate::error::{Error, SqlState};
use crate::plan::cursor::Cursor;
use crate::plan::election_option as option;
use crate::plan::lex::{Kind, Token};
use crate::plan::statement::{ElectionStatement, Statement};
use scry_engine::election::{CandidateChanges, OnConflict, Privileges};

fn statement(statement: ElectionStatement) -> Statement {
    Statement::Election(Box::new(statement))
}

/// Behind CREATE; `None`: it is no election and no candidate.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, Error> {
    if cursor.word("election") {
        let name = name(cursor)?;
        let (mut winners, mut private) = (1, false);
        options(cursor, |known, value| {
            match known {
                "winners" => winners = option::winners(value)?,
                "private" => private = option::flag(known, value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        return Ok(Some(statement(ElectionStatement::CreateElection {
            name,
            winners,
            private,
        })));
    }
    if cursor.word("candidate") {
        let name = name(cursor)?;
        cursor.expect_word("in")?;
        let election = self::name(cursor)?;
        let (mut mirrored, mut weight, mut note) = (true, 1.0, String::new());
        options(cursor, |known, value| {
            match known {
                "mirror" => mirrored = option::flag(known, value)?,
                "weight" => weight = option::weight(value)?,
                "note" => note = value.to_owned(),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        return Ok(Some(statement(ElectionStatement::CreateCandidate {
            name,
            election,
            mirrored,
            weight,
            note,
        })));
    }
    Ok(None)
}

/// Behind GRANT or REVOKE; `None`: it is about something that is no election.
pub(super) fn grant(cursor: &mut Cursor<'_>, revoked: bool) -> Result<Option<Statement>, Error> {
    // `ON ELECTION` tells: words before it that are no privileges are a mistake then.
    let is = |token: Token, word: &str| token.is_word(cursor.sql, word);
    let mut words = (0..).map_while(|ahead| cursor.peek_ahead(ahead));
    let on = words.position(|token| is(token, "on"));
    let about = on.and_then(|on| cursor.peek_ahead(on + 1));
    if !about.is_some_and(|token| is(token, "election")) {
        return Ok(None);
    }
    let mut privileges = Privileges::NONE;
    loop {
        let named = option::privilege(&cursor.identifier()?)?;
        if named == Privileges::ALL {
            cursor.word("privileges");
        }
        privileges = privileges.with(named);
        if !cursor.kind(Kind::Comma) {
            break;
        }
    }
    cursor.expect_word("on")?;
    cursor.expect_word("election")?;
    let election = name(cursor)?;
    cursor.expect_word(if revoked { "from" } else { "to" })?;
    let mut grantees = Vec::new();
    loop {
        grantees.push(option::grantee(&cursor.identifier()?)?);
        if !cursor.kind(Kind::Comma) {
            break;
        }
    }
    Ok(Some(statement(ElectionStatement::Grant {
        election,
        privileges,
        grantees,
        revoked,
    })))
}

/// Behind ALTER CANDIDATE.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let name = name(cursor)?;
    cursor.expect_word("in")?;
    let election = self::name(cursor)?;
    cursor.expect_word("set")?;
    let mut changes = CandidateChanges::default();
    list(cursor, |known, value| {
        match known {
            "mirror" => changes.mirrored = Some(option::flag(known, value)?),
            "weight" => changes.weight = Some(option::weight(value)?),
            "note" => changes.note = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(statement(ElectionStatement::AlterCandidate {
        name,
        election,
        changes,
    }))
}

/// Behind DROP; `None`: it is no election and no candidate.
pub(super) fn drop(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, Error> {
    if cursor.word("election") {
        let if_exists = cursor.words(&["if", "exists"]);
        let name = name(cursor)?;
        return Ok(Some(statement(ElectionStatement::DropElection {
            name,
            if_exists,
        })));
    }
    if cursor.word("candidate") {
        let if_exists = cursor.words(&["if", "exists"]);
        let name = name(cursor)?;
        cursor.expect_word("in")?;
        return Ok(Some(statement(ElectionStatement::DropCandidate {
            name,
            election: self::name(cursor)?,
            if_exists,
        })));
    }
    Ok(None)
}

/// Behind ELECT.
pub(super) fn elect(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.word("best") {
        return best(cursor);
    }
    let (candidate, election) = candidate(cursor)?;
    Ok(statement(ElectionStatement::Elect {
        candidate,
        election,
        on_conflict: on_conflict(cursor)?,
    }))
}

/// Behind ELECT BEST.
fn best(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    cursor.expect_word("in")?;
    let election = name(cursor)?;
    cursor.expect_word("by")?;
    cursor.expect(Kind::LeftParen)?;
    let (query, maximize) = option::direction(cursor.through_closing()?);
    let query = query.to_owned();
    let subject = match cursor.words(&["subject", "to"]) {
        true => {
            cursor.expect(Kind::LeftParen)?;
            Some(cursor.through_closing()?.trim().to_owned())
        }
        false => None,
    };
    Ok(statement(ElectionStatement::ElectBest {
        election,
        query,
        subject,
        maximize,
        on_conflict: on_conflict(cursor)?,
    }))
}

/// Behind REBASE.
pub(super) fn rebase(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let (candidate, election) = candidate(cursor)?;
    Ok(statement(ElectionStatement::Rebase {
        candidate,
        election,
        on_conflict: on_conflict(cursor)?,
    }))
}

/// `CANDIDATE c IN e`
fn candidate(cursor: &mut Cursor<'_>) -> Result<(String, String), Error> {
    cursor.expect_word("candidate")?;
    let candidate = name(cursor)?;
    cursor.expect_word("in")?;
    Ok((candidate, name(cursor)?))
}

/// `[ON CONFLICT {FAIL | DEFER | RESOLVE}]`
fn on_conflict(cursor: &mut Cursor<'_>) -> Result<OnConflict, Error> {
    match cursor.words(&["on", "conflict"]) {
        true => option::on_conflict(&cursor.identifier()?),
        false => Ok(OnConflict::Fail),
    }
}

/// Behind SHOW; `None`: it is a setting.
pub(super) fn show(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, Error> {
    if cursor.word("elections") {
        return Ok(Some(statement(ElectionStatement::ShowElections)));
    }
    if cursor.word("candidates") {
        cursor.expect_word("in")?;
        let election = name(cursor)?;
        return Ok(Some(statement(ElectionStatement::ShowCandidates { election })));
    }
    Ok(None)
}

fn name(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    option::name(&cursor.identifier()?)
}

/// `WITH (option = value, …)`, if it is there. `take` says whether it knows the option.
fn options(
    cursor: &mut Cursor<'_>,
    take: impl FnMut(&str, &str) -> Result<bool, Error>,
) -> Result<(), Error> {
    match cursor.word("with") {
        true => list(cursor, take),
        false => Ok(()),
    }
}

/// `(option = value, …)`
fn list(
    cursor: &mut Cursor<'_>,
    mut take: impl FnMut(&str, &str) -> Result<bool, Error>,
) -> Result<(), Error> {
    cursor.expect(Kind::LeftParen)?;
    loop {
        let option = cursor.identifier()?;
        cursor.operator("=");
        let value = value(cursor)?;
        if !take(&option, &value)? {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("unrecognized parameter \"{option}\""),
            ));
        }
        if !cursor.kind(Kind::Comma) {
            break;
        }
    }
    cursor.expect(Kind::RightParen)?;
    Ok(())
}

/// A string, a word, or a number with its sign.
fn value(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    if let Ok(text) = cursor.string() {
        return Ok(text);
    }
    let sign = ["-", "+"].into_iter().find(|sign| cursor.operator(sign));
    match cursor.peek() {
        Some(token)
            if matches!(token.kind, Kind::Integer | Kind::Decimal)
                || (token.kind == Kind::Word && sign.is_none()) =>
        {
            cursor.next();
            Ok(format!("{}{}", sign.unwrap_or_default(), token.text(cursor.sql)))
        }
        _ => Err(cursor.unexpected()),
    }
}
