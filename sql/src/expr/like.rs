//! LIKE and ILIKE: `%` for any text, `_` for one character.

use crate::error::{Error, SqlState};

/// A pattern that was looked at while binding: most are of a shape that needs no matcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// Not constant, or of no simple shape: matched by `matches`.
    #[default]
    General,
    /// No wildcard: the text itself.
    Exact(String),
    /// `text%`.
    Prefix(String),
    /// `%text`.
    Suffix(String),
    /// `%text%`.
    Contains(String),
}

impl Pattern {
    /// The shape of a constant pattern with backslash as escape.
    pub fn compile(pattern: &str) -> Pattern {
        if pattern.contains(['_', '\\']) {
            return Pattern::General;
        }
        let (open_start, rest) = match pattern.strip_prefix('%') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let (open_end, inner) = match rest.strip_suffix('%') {
            Some(inner) => (true, inner),
            None => (false, rest),
        };
        if inner.contains('%') {
            return Pattern::General;
        }
        let inner = inner.to_owned();
        match (open_start, open_end) {
            (false, false) => Pattern::Exact(inner),
            (false, true) => Pattern::Prefix(inner),
            (true, false) => Pattern::Suffix(inner),
            (true, true) => Pattern::Contains(inner),
        }
    }

    /// Whether `text` matches; `None` when the pattern is of no simple shape.
    #[inline]
    pub fn test(&self, text: &str) -> Option<bool> {
        Some(match self {
            Pattern::General => return None,
            Pattern::Exact(inner) => text == inner,
            Pattern::Prefix(inner) => text.starts_with(inner.as_str()),
            Pattern::Suffix(inner) => text.ends_with(inner.as_str()),
            Pattern::Contains(inner) => text.contains(inner.as_str()),
        })
    }
}

/// Whether `text` matches `pattern`, where `\` escapes. Takes at most |text| × |pattern| steps: the last `%` is the
/// only one that is ever tried again.
pub(super) fn matches(text: &str, pattern: &str) -> Result<bool, Error> {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut at, mut in_pattern) = (0, 0);
    // Where to go on when the rest fails: after the last `%`, one character later in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match pattern.get(in_pattern) {
            Some(b'%') => {
                in_pattern += 1;
                retry = Some((at, in_pattern));
                continue;
            }
            Some(b'_') if at < text.len() => {
                at += character_bytes(text[at]);
                in_pattern += 1;
                continue;
            }
            Some(b'\\') => match pattern.get(in_pattern + 1) {
                None => {
                    return Err(Error::new(
                        SqlState::INVALID_ESCAPE_SEQUENCE,
                        "LIKE pattern must not end with escape character",
                    ));
                }
                Some(literal) if text.get(at) == Some(literal) => {
                    at += 1;
                    in_pattern += 2;
                    continue;
                }
                Some(_) => {}
            },
            Some(literal) if *literal != b'_' && text.get(at) == Some(literal) => {
                at += 1;
                in_pattern += 1;
                continue;
            }
            None if at == text.len() => return Ok(true),
            _ => {}
        }
        match retry {
            Some((from, after)) if from < text.len() => {
                let next = from + character_bytes(text[from]);
                retry = Some((next, after));
                (at, in_pattern) = (next, after);
            }
            _ => return Ok(false),
        }
    }
}

/// Rewrites a pattern with another escape character, or none, as one with backslash.
pub(super) fn with_backslash(pattern: &str, escape: Option<char>) -> Result<String, Error> {
    let mut out = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if Some(character) == escape {
            let next = characters.next().ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_ESCAPE_SEQUENCE,
                    "LIKE pattern must not end with escape character",
                )
            })?;
            if matches!(next, '%' | '_' | '\\') {
                out.push('\\');
            }
            out.push(next);
        } else {
            if character == '\\' {
                out.push('\\');
            }
            out.push(character);
        }
    }
    Ok(out)
}

fn character_bytes(first: u8) -> usize {
    match first {
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_postgresql() {
        for (text, pattern, expected) in [
            ("abc", "abc", true),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "%b%", true),
            ("abc", "_b_", true),
            ("abc", "__", false),
            ("aébc", "a_bc", true),
            ("abcbc", "a%bc", true),
            ("abcbd", "a%bc", false),
            ("a%c", "a\\%c", true),
            ("abc", "a\\%c", false),
            ("a_c", "a\\_c", true),
            ("", "%", true),
            ("", "_", false),
            ("", "", true),
            ("special requests", "%special%requests%", true),
            ("éé", "%é", true),
        ] {
            assert_eq!(matches(text, pattern), Ok(expected), "{text} LIKE {pattern}");
            if let Some(found) = Pattern::compile(pattern).test(text) {
                assert_eq!(found, expected, "{text} LIKE {pattern}, compiled");
            }
        }
        assert_eq!(
            matches("a", "a\\").map_err(|e| e.code),
            Err(SqlState::INVALID_ESCAPE_SEQUENCE)
        );
        assert_eq!(with_backslash("a#%\\", Some('#')).as_deref(), Ok("a\\%\\\\"));
    }
}
