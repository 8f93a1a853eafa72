//! Statements of the simple protocol that differ in their literals only: literals are lifted out into parameters, so that the plan
//! of the first serves them all.
//!
//! Lifting is textual and cautious: it takes integers and plain strings out of statements in which a parameter can stand for a
//! literal without changing the meaning, and gives up on everything else (numbers in ORDER BY and GROUP BY are
//! positions, strings behind a type name are typed literals, …). The caller plans the template like any prepared statement and uses it
//! only if that gives a row plan.

use crate::types::oids;
use std::ops::Range;

/// Longest text that is looked at, and most literals that are lifted.
const MAX_BYTES: usize = 1024;
const MAX_LITERALS: usize = 48;

/// Words that end the attempt: behind them literals mean something else, or the statement is not for a row plan.
const STOP_WORDS: [&str; 20] = [
    "order",
    "group",
    "having",
    "window",
    "over",
    "interval",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "join",
    "with",
    "union",
    "escape",
    "zone",
    "extract",
    "fetch",
    "cast",
    "from_unixtime",
    "generate_series",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    Int4(i32),
    Int8(i64),
    /// Between the quotes, in the statement's text; the flag says whether quotes are doubled in it.
    Text(Range<usize>, bool),
}

/// A statement taken apart. Kept from one statement to the next, for its buffers.
#[derive(Debug, Default)]
pub struct Lifted {
    /// The statement with `$1…$n`, then a zero byte and a letter for each parameter's type.
    pub key: String,
    /// Length of the statement's part of the key.
    pub sql_bytes: usize,
    pub literals: Vec<Literal>,
}

impl Lifted {
    /// The template as SQL.
    pub fn sql(&self) -> &str {
        &self.key[..self.sql_bytes]
    }

    /// The parameter types: integers are known, strings take the type of their place.
    pub fn types(&self) -> Vec<u32> {
        self.literals
            .iter()
            .map(|literal| match literal {
                Literal::Int4(_) => oids::INT4,
                Literal::Int8(_) => oids::INT8,
                Literal::Text(..) => 0,
            })
            .collect()
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit()
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.iter().any(|stop| word.eq_ignore_ascii_case(stop))
}

/// Takes the literals out of `sql`. False: it is not that kind of statement.
pub fn lift(sql: &str, into: &mut Lifted) -> bool {
    into.key.clear();
    into.literals.clear();
    let bytes = sql.as_bytes();
    if bytes.len() > MAX_BYTES || bytes.len() < 6 {
        return false;
    }
    let first = &sql.as_bytes()[..6];
    if ![b"select", b"insert", b"update", b"delete"]
        .iter()
        .any(|verb| first.eq_ignore_ascii_case(*verb))
    {
        return false;
    }
    // Where the part that is not copied yet begins.
    let mut plain = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        match byte {
            _ if is_word_start(byte) => {
                let start = at;
                while at < bytes.len() && (is_word_part(bytes[at]) || bytes[at] == b'$') {
                    at += 1;
                }
                // E'…', B'…', X'…', N'…', U&'…', and typed literals.
                if matches!(bytes.get(at), Some(b'\'' | b'&')) || is_stop_word(&sql[start..at]) {
                    return false;
                }
            }
            b'0'..=b'9' => {
                let start = at;
                while at < bytes.len() && bytes[at].is_ascii_digit() {
                    at += 1;
                }
                if matches!(bytes.get(at), Some(b'.')) || bytes.get(at).copied().is_some_and(is_word_part) {
                    // A decimal number stays; what follows its digits belongs to it.
                    while at < bytes.len() && (bytes[at] == b'.' || is_word_part(bytes[at])) {
                        at += 1;
                    }
                    continue;
                }
                let literal = match sql[start..at].parse::<i64>() {
                    // With a minus before it, it is an integer, without one a bigint.
                    Ok(0x8000_0000) => return false,
                    Ok(value) => i32::try_from(value).map_or(Literal::Int8(value), Literal::Int4),
                    Err(_) => return false,
                };
                replace(sql, into, &mut plain, start, at, literal);
            }
            // `.5`: a number that begins with its point.
            b'.' if next.is_ascii_digit() => return false,
            b'\'' => {
                let start = at;
                let mut doubled = false;
                at += 1;
                loop {
                    match (bytes.get(at), bytes.get(at + 1)) {
                        (None, _) => return false,
                        (Some(b'\''), Some(b'\'')) => {
                            doubled = true;
                            at += 2;
                        }
                        (Some(b'\''), _) => break,
                        _ => at += 1,
                    }
                }
                at += 1;
                replace(
                    sql,
                    into,
                    &mut plain,
                    start,
                    at,
                    Literal::Text(start + 1..at - 1, doubled),
                );
            }
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += 1;
                }
                at += 1;
            }
            b'$' | b';' => return false,
            b'-' if next == b'-' => return false,
            b'/' if next == b'*' => return false,
            _ => at += 1,
        }
        if into.literals.len() > MAX_LITERALS {
            return false;
        }
    }
    if into.literals.is_empty() || plain > sql.len() {
        return false;
    }
    into.key.push_str(&sql[plain..]);
    into.sql_bytes = into.key.len();
    into.key.push('\0');
    for literal in &into.literals {
        into.key.push(match literal {
            Literal::Int4(_) => 'i',
            Literal::Int8(_) => 'l',
            Literal::Text(..) => 't',
        });
    }
    true
}

fn replace(sql: &str, into: &mut Lifted, plain: &mut usize, start: usize, end: usize, literal: Literal) {
    into.key.push_str(&sql[*plain..start]);
    into.literals.push(literal);
    into.key.push('$');
    let number = into.literals.len();
    if number >= 10 {
        into.key.push(char::from(b'0' + (number / 10) as u8));
    }
    into.key.push(char::from(b'0' + (number % 10) as u8));
    *plain = end;
}

const _: () = assert!(MAX_LITERALS < 99);

#[cfg(test)]
mod tests {
    use super::*;

    fn lifted(sql: &str) -> Option<(String, Vec<Literal>)> {
        let mut into = Lifted::default();
        lift(sql, &mut into).then(|| (into.sql().to_owned(), into.literals.clone()))
    }

    #[test]
    fn literals_become_parameters_of_their_types() {
        let (sql, literals) =
            lifted("UPDATE a1 SET b = b + -42 WHERE id = 3000000000 AND t = 'it''s'").expect("lifts");
        assert_eq!(sql, "UPDATE a1 SET b = b + -$1 WHERE id = $2 AND t = $3");
        assert_eq!(
            literals,
            [
                Literal::Int4(42),
                Literal::Int8(3_000_000_000),
                Literal::Text(57..62, true)
            ]
        );
    }

    #[test]
    fn texts_that_differ_in_types_have_different_keys() {
        let (mut a, mut b) = (Lifted::default(), Lifted::default());
        assert!(lift("select * from t where id = 1", &mut a));
        assert!(lift("select * from t where id = 1111111111111", &mut b));
        assert_eq!(a.sql(), b.sql());
        assert_ne!(a.key, b.key);
    }

    #[test]
    fn what_is_no_plain_literal_stays_or_ends_the_attempt() {
        assert_eq!(
            lifted("select 1.5, x1 from t2 where a = 7").expect("lifts").0,
            "select 1.5, x1 from t2 where a = $1"
        );
        assert_eq!(
            lifted("select \"1\" from t where a = 7").expect("lifts").0,
            "select \"1\" from t where a = $1"
        );
        for sql in [
            "select a from t where id = 1 order by 1",
            "select date '2020-01-01'",
            "select E'a\\n' from t where id = 1",
            "select $1 from t where id = 1",
            "select 1 -- comment",
            "select 99999999999999999999",
            "create table t (a varchar(10))",
            "select a from t",
            "select 'open",
        ] {
            assert_eq!(lifted(sql), None, "{sql}");
        }
    }
}
