//! Names and options of elections and candidates, whether they stand in a statement or are a function's arguments.

use crate::error::{Error, SqlState};
use crate::types::{self, InputContext, TimeZone};
use scry_engine::election::{OnConflict, Privileges};
use scry_engine::{DataType, Value};

/// A name. It may stand in `election/candidate` and `election/one+two`, so that it has none of these signs itself.
pub fn name(name: &str) -> Result<String, Error> {
    if name.is_empty() || name.contains(['/', '+']) {
        return Err(Error::new(
            SqlState::INVALID_NAME,
            format!("\"{name}\" is no name for an election or a candidate"),
        )
        .with_hint("A name is not empty and has neither a slash nor a plus sign."));
    }
    Ok(name.to_owned())
}

/// `election/candidate`, taken apart.
pub fn candidate(text: &str) -> Result<(String, String), Error> {
    let Some((election, candidate)) = text.split_once('/') else {
        return Err(invalid("candidate", text).with_hint("A candidate is named election/candidate."));
    };
    Ok((name(election)?, name(candidate)?))
}

/// How many candidates may be elected; 0: any number.
pub fn winners(value: &str) -> Result<u32, Error> {
    if value.eq_ignore_ascii_case("any") {
        return Ok(0);
    }
    let count = value.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| invalid("winners", value))
}

/// A candidate's share in expected values.
pub fn weight(value: &str) -> Result<f64, Error> {
    let weight = value.parse().ok();
    let weight = weight.filter(|weight: &f64| weight.is_finite() && *weight >= 0.0);
    weight.ok_or_else(|| invalid("weight", value))
}

/// Yes or no, in any of the ways in which a boolean is written.
pub fn flag(option: &str, value: &str) -> Result<bool, Error> {
    let zone = TimeZone::utc();
    let context = InputContext { zone: &zone, now: 0 };
    match types::parse_text(value, &DataType::Bool, &context) {
        Ok(Value::Bool(flag)) => Ok(flag),
        _ => Err(invalid(option, value)),
    }
}

/// What becomes of rows that are not what the candidate found.
pub fn on_conflict(rule: &str) -> Result<OnConflict, Error> {
    Ok(match rule.to_ascii_lowercase().as_str() {
        "fail" => OnConflict::Fail,
        "defer" => OnConflict::Defer,
        "resolve" => OnConflict::Resolve,
        _ => return Err(invalid("on_conflict", rule).with_hint("It is fail, defer or resolve.")),
    })
}

/// What may be granted, by name.
pub fn privilege(name: &str) -> Result<Privileges, Error> {
    Privileges::named(name).ok_or_else(|| {
        Error::new(
            SqlState::SYNTAX_ERROR,
            format!("unrecognized privilege type \"{name}\""),
        )
        .with_hint("It is CREATE, WRITE, READ, ELECT or ALL.")
    })
}

/// Names of privileges, in a list.
pub fn privileges(names: &str) -> Result<Privileges, Error> {
    let mut names = names.split(',').map(|name| privilege(name.trim()));
    names.try_fold(Privileges::NONE, |all, named| Ok(all.with(named?)))
}

/// Who gets a privilege; `None`: PUBLIC.
pub fn grantee(name: &str) -> Result<Option<String>, Error> {
    if name.is_empty() {
        return Err(invalid("grantee", name));
    }
    Ok((!name.eq_ignore_ascii_case("public")).then(|| name.to_owned()))
}

/// A query with MAX or MIN behind it, taken apart; whether the greatest answer is the best.
pub fn direction(text: &str) -> (&str, bool) {
    let text = text.trim();
    let is_end = |character: char| character.is_whitespace() || character == ')';
    let (before, last) = text.rfind(is_end).map_or(("", text), |at| {
        let (before, last) = text.split_at(at);
        let first = last.chars().next().map_or(0, char::len_utf8);
        let kept = if last.starts_with(')') {
            &text[..at + first]
        } else {
            before
        };
        (kept, &last[first..])
    });
    match last.to_ascii_lowercase().as_str() {
        "max" => (before.trim_end(), true),
        "min" => (before.trim_end(), false),
        _ => (text, true),
    }
}

/// 22023 for an option that takes no such value.
pub fn invalid(option: &str, value: &str) -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{option}\": \"{value}\""),
    )
}

#[cfg(test)]
mod tests {
    use super::direction;

    #[test]
    fn a_direction_stands_behind_the_query() {
        assert_eq!(
            direction(" SELECT sum(a) FROM t MIN "),
            ("SELECT sum(a) FROM t", false)
        );
        assert_eq!(direction("SELECT max(a) FROM t"), ("SELECT max(a) FROM t", true));
        assert_eq!(direction("SELECT (1)max"), ("SELECT (1)", true));
        assert_eq!(direction("SELECT max(a)"), ("SELECT max(a)", true));
        assert_eq!(direction("max"), ("", true));
    }
}
