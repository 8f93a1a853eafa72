//! Syntax errors in PostgreSQL's wording, with the position of the offending token.

use crate::error::{Error, SqlState};
use crate::plan::lex::{Kind, Lexer, Token};
use sqlparser::parser::ParserError;

/// An error whose position is the character (from 1) at byte `offset` of `sql`.
pub fn error_at(message: &str, sql: &str, offset: usize) -> Error {
    Error::new(SqlState::SYNTAX_ERROR, message).with_position(position(sql, offset))
}

/// The position, counted in characters from 1, of byte `offset`.
pub fn position(sql: &str, offset: usize) -> u32 {
    let mut end = offset.min(sql.len());
    while !sql.is_char_boundary(end) {
        end -= 1;
    }
    u32::try_from(sql[..end].chars().count() + 1).unwrap_or(u32::MAX)
}

/// A short head of `text` for an error message, up to the next white space.
pub fn excerpt(text: &str) -> &str {
    const LONGEST: usize = 40;
    let end = text
        .char_indices()
        .enumerate()
        .find(|(count, (_, c))| *count >= LONGEST || (c.is_whitespace() && *count > 0))
        .map_or(text.len(), |(_, (at, _))| at);
    &text[..end]
}

/// `syntax error at or near "…"`.
pub fn near(sql: &str, token: Option<Token>) -> Error {
    match token {
        Some(token) => error_at(
            &format!("syntax error at or near \"{}\"", token.text(sql)),
            sql,
            token.start,
        ),
        None => error_at("syntax error at end of input", sql, sql.len()),
    }
}

/// Nesting or chains beyond what can be planned on a thread's stack.
pub fn too_deep() -> Error {
    Error::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
        .with_hint("Write the statement with fewer nested or chained expressions.")
}

/// Byte offset of a line and column (both from 1, columns in characters).
pub fn offset_of(sql: &str, line: u64, column: u64) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match sql[start..].find('\n') {
            Some(found) => start += found + 1,
            None => return sql.len(),
        }
    }
    let skip = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    sql[start..]
        .char_indices()
        .nth(skip)
        .map_or(sql.len(), |(at, _)| start + at)
}

/// Turns sqlparser's verdict on `sql` into PostgreSQL's.
pub fn from_parser(error: ParserError, sql: &str) -> Error {
    let text = match error {
        ParserError::RecursionLimitExceeded => return too_deep(),
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
    };
    let offset = text.rfind(" at Line: ").and_then(|at| {
        let (line, column) = text[at + " at Line: ".len()..].split_once(", Column: ")?;
        let digits = column.bytes().take_while(u8::is_ascii_digit).count();
        Some(offset_of(sql, line.parse().ok()?, column[..digits].parse().ok()?))
    });
    match offset {
        Some(offset) => near(
            sql,
            Lexer::from(sql, offset)
                .next()
                .ok()
                .flatten()
                .filter(|t| t.kind != Kind::Semicolon),
        ),
        None if text.contains("EOF") => near(sql, None),
        None => Error::new(SqlState::SYNTAX_ERROR, format!("syntax error: {text}")),
    }
}
