//! CREATE ELECTION, CREATE CANDIDATE, ELECT CANDIDATE, DROP and SHOW of both.

use crate::error::{Error, SqlState};
use crate::plan::cursor::Cursor;
use crate::plan::lex::Kind;
use crate::plan::statement::{ElectionStatement, Statement};

fn statement(statement: ElectionStatement) -> Statement {
    Statement::Election(Box::new(statement))
}

/// Behind CREATE; `None`: it is no election and no candidate.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, Error> {
    if cursor.word("election") {
        let name = name(cursor)?;
        let mut winners = 1;
        options(cursor, |option, value| match option {
            "winners" if value.eq_ignore_ascii_case("any") => {
                winners = 0;
                Ok(true)
            }
            "winners" => match value.parse() {
                Ok(count) if count > 0 => {
                    winners = count;
                    Ok(true)
                }
                _ => Err(invalid(option, value)),
            },
            _ => Ok(false),
        })?;
        return Ok(Some(statement(ElectionStatement::CreateElection {
            name,
            winners,
        })));
    }
    if cursor.word("candidate") {
        let name = name(cursor)?;
        cursor.expect_word("in")?;
        let election = self::name(cursor)?;
        let (mut mirrored, mut weight, mut note) = (true, 1.0, String::new());
        options(cursor, |option, value| {
            match option {
                "mirror" => {
                    mirrored = match value.to_ascii_lowercase().as_str() {
                        "on" | "true" | "yes" | "1" => true,
                        "off" | "false" | "no" | "0" => false,
                        _ => return Err(invalid(option, value)),
                    }
                }
                "weight" => {
                    let parsed = value.parse().ok();
                    let parsed = parsed.filter(|weight: &f64| weight.is_finite() && *weight >= 0.0);
                    weight = parsed.ok_or_else(|| invalid(option, value))?;
                }
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
        return Err(Error::unsupported("ELECT BEST"));
    }
    cursor.expect_word("candidate")?;
    let candidate = name(cursor)?;
    cursor.expect_word("in")?;
    let election = name(cursor)?;
    if cursor.words(&["on", "conflict"]) && !cursor.word("fail") {
        return Err(Error::unsupported(
            "ELECT with another rule for conflicts than FAIL",
        ));
    }
    Ok(statement(ElectionStatement::Elect { candidate, election }))
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

/// A name. It may stand in `election/candidate` and `election/one+two`, so that it has none of these signs itself.
fn name(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    let name = cursor.identifier()?;
    if name.is_empty() || name.contains(['/', '+']) {
        return Err(Error::new(
            SqlState::INVALID_NAME,
            format!("\"{name}\" is no name for an election or a candidate"),
        )
        .with_hint("A name is not empty and has neither a slash nor a plus sign."));
    }
    Ok(name)
}

/// `WITH (option = value, …)`, if it is there. `take` says whether it knows the option.
fn options(
    cursor: &mut Cursor<'_>,
    mut take: impl FnMut(&str, &str) -> Result<bool, Error>,
) -> Result<(), Error> {
    if !cursor.word("with") {
        return Ok(());
    }
    cursor.expect(Kind::LeftParen)?;
    loop {
        let option = cursor.identifier()?;
        cursor.operator("=");
        let value = match cursor.string() {
            Ok(text) => text,
            Err(_) => match cursor.next() {
                Some(token) if matches!(token.kind, Kind::Word | Kind::Integer | Kind::Decimal) => {
                    token.text(cursor.sql).to_owned()
                }
                _ => return Err(cursor.unexpected()),
            },
        };
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

fn invalid(option: &str, value: &str) -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{option}\": \"{value}\""),
    )
}
