//! jsonb as text: checked, and rewritten as PostgreSQL prints it.
//!
//! Keys are ordered by length, then bytes; of equal keys the last wins; one blank follows each colon and comma;
//! numbers and strings are written in one way. Equal documents thus have equal text.

use crate::error::{Error, SqlState};
use scry_engine::types::Numeric;
use std::cmp::Ordering;
use std::ops::Range;

/// Arrays and objects within each other: bounds the stack.
const DEPTH_MAX: usize = 256;

pub(super) fn normalize(text: &str) -> Result<String, Error> {
    let mut parser = Parser {
        text,
        at: 0,
        out: String::with_capacity(text.len() + text.len() / 8),
    };
    parser.skip_blanks();
    parser.value(0)?;
    parser.skip_blanks();
    if parser.at != text.len() {
        return Err(parser.unexpected("end of input"));
    }
    Ok(parser.out)
}

/// The bytes of a line that an error shows before its token's end, as in PostgreSQL.
const CONTEXT_BYTES: usize = 50;

/// What may stand where a value may.
const VALUE: &str = "JSON value";

struct Parser<'a> {
    text: &'a str,
    at: usize,
    out: String,
}

/// Where a member of an object stands in the output: its key without quotes, and all of it.
struct Member {
    key: Range<usize>,
    whole: Range<usize>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// `end` is behind the token that is wrong.
    fn invalid(&self, detail: String, end: usize) -> Error {
        let error = Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type json",
        );
        error.with_detail(detail).with_context(self.context(end))
    }

    /// The line of the token that is wrong, up to the token's end.
    fn context(&self, end: usize) -> String {
        let before = &self.text[..self.at.min(self.text.len())];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let mut start = line_start;
        let mut shown = self.text[line_start..end].chars();
        while end - start >= CONTEXT_BYTES {
            start += shown.next().map_or(1, char::len_utf8);
        }
        // The dots would be longer than what they stand for.
        if start - line_start <= 3 {
            start = line_start;
        }
        let prefix = if start > line_start { "..." } else { "" };
        let more = self.text[end..].starts_with(|next| !matches!(next, '\n' | '\r'));
        let suffix = if more { "..." } else { "" };
        format!(
            "JSON data, line {line}: {prefix}{}{suffix}",
            &self.text[start..end]
        )
    }

    /// The end of what stands here, a string, a number, a word or a single character, and whether JSON has such a thing.
    fn token(&self) -> (usize, bool) {
        let rest = &self.text[self.at..];
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || !c.is_ascii();
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let mut probe = Parser {
            text: self.text,
            at: self.at,
            out: String::new(),
        };
        let valid = match self.peek() {
            Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => return (self.at + 1, true),
            Some(b'"') => probe.string().is_ok(),
            Some(b'-' | b'0'..=b'9') => probe.number().is_ok(),
            _ if matches!(&rest[..word], "true" | "false" | "null") => return (self.at + word, true),
            _ => false,
        };
        let length = match word {
            0 => rest.chars().next().map_or(0, char::len_utf8),
            word => word,
        };
        if valid {
            (probe.at, true)
        } else {
            (self.at + length, false)
        }
    }

    /// Something else than `expected` stands here.
    fn unexpected(&self, expected: &str) -> Error {
        if self.at >= self.text.len() {
            return self.invalid("The input string ended unexpectedly.".to_owned(), self.text.len());
        }
        // Mistakes inside of a string or a number have a message of their own.
        if matches!(self.peek(), Some(b'"' | b'-' | b'0'..=b'9')) {
            let mut probe = Parser {
                text: self.text,
                at: self.at,
                out: String::new(),
            };
            if let Err(error) = probe.value(0) {
                return error;
            }
        }
        let (end, valid) = self.token();
        let token = &self.text[self.at..end];
        let detail = match valid {
            true => format!("Expected {expected}, but found \"{token}\"."),
            false => format!("Token \"{token}\" is invalid."),
        };
        self.invalid(detail, end)
    }

    fn value(&mut self, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(
                Error::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                    .with_detail(format!("JSON may be nested {DEPTH_MAX} levels deep.")),
            );
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for word in ["true", "false", "null"] {
                    if let Some(rest) = self.text[self.at..].strip_prefix(word)
                        && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                    {
                        self.at += word.len();
                        self.out.push_str(word);
                        return Ok(());
                    }
                }
                Err(self.unexpected(VALUE))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Error> {
        self.at += 1;
        self.out.push('[');
        self.skip_blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.out.push(']');
            return Ok(());
        }
        loop {
            self.skip_blanks();
            self.value(depth + 1)?;
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.out.push_str(", "),
                Some(b']') => break,
                _ => return Err(self.unexpected("\",\" or \"]\"")),
            }
            self.at += 1;
        }
        self.at += 1;
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Error> {
        self.at += 1;
        self.out.push('{');
        let start = self.out.len();
        let mut members: Vec<Member> = Vec::new();
        self.skip_blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.out.push('}');
            return Ok(());
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                let first = members.is_empty();
                return Err(self.unexpected(if first { "string or \"}\"" } else { "string" }));
            }
            if !members.is_empty() {
                self.out.push_str(", ");
            }
            let begin = self.out.len();
            let key = self.string()?;
            self.skip_blanks();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("\":\""));
            }
            self.at += 1;
            self.out.push_str(": ");
            self.skip_blanks();
            self.value(depth + 1)?;
            members.push(Member {
                key,
                whole: begin..self.out.len(),
            });
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("\",\" or \"}\"")),
            }
        }
        self.at += 1;
        self.order_members(start, members);
        self.out.push('}');
        Ok(())
    }

    /// Puts the members, written from `start` on, in their order and drops those that a later equal key replaces.
    fn order_members(&mut self, start: usize, mut members: Vec<Member>) {
        let compare = |out: &str, a: &Member, b: &Member| -> Ordering {
            let (a, b) = (&out[a.key.clone()], &out[b.key.clone()]);
            // Escapes lengthen a key as written; they are rare enough to be unescaped here.
            let (a, b) = (unescaped_key(a), unescaped_key(b));
            a.len().cmp(&b.len()).then_with(|| a.as_ref().cmp(b.as_ref()))
        };
        if members
            .windows(2)
            .all(|pair| compare(&self.out, &pair[0], &pair[1]) == Ordering::Less)
        {
            return;
        }
        members.sort_by(|a, b| compare(&self.out, a, b));
        let mut ordered = String::with_capacity(self.out.len() - start);
        for (index, member) in members.iter().enumerate() {
            let replaced = members
                .get(index + 1)
                .is_some_and(|next| compare(&self.out, member, next) == Ordering::Equal);
            if replaced {
                continue;
            }
            if !ordered.is_empty() {
                ordered.push_str(", ");
            }
            ordered.push_str(&self.out[member.whole.clone()]);
        }
        self.out.truncate(start);
        self.out.push_str(&ordered);
    }

    /// Copies a string; gives where its content, between the quotes, stands in the output.
    fn string(&mut self) -> Result<Range<usize>, Error> {
        let quote = self.at;
        self.at += 1;
        self.out.push('"');
        let begin = self.out.len();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest
                .bytes()
                .position(|byte| byte == b'"' || byte == b'\\' || byte < 0x20)
                .ok_or_else(|| {
                    let token = &self.text[quote..];
                    self.invalid(format!("Token \"{token}\" is invalid."), self.text.len())
                })?;
            self.out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                other => {
                    let code = other.unwrap_or(0);
                    let detail = format!("Character with value 0x{code:02x} must be escaped.");
                    return Err(self.invalid(detail, self.at));
                }
            }
        }
        let content = begin..self.out.len();
        self.at += 1;
        self.out.push('"');
        Ok(content)
    }

    fn escape(&mut self) -> Result<(), Error> {
        let kind = self.text.as_bytes().get(self.at + 1).copied();
        let character = match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => {
                let shown: String = self.text[self.at..].chars().take(2).collect();
                let detail = format!("Escape sequence \"{shown}\" is invalid.");
                return Err(self.invalid(detail, self.at + shown.len()));
            }
        };
        self.at += 2;
        push_escaped(character, &mut self.out);
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<(), Error> {
        let first = self.code_unit()?;
        let code = match first {
            0xd800..=0xdbff => {
                let second = if self.text[self.at..].starts_with("\\u") {
                    self.code_unit()?
                } else {
                    0
                };
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(self.lone_surrogate());
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            0xdc00..=0xdfff => {
                return Err(self.lone_surrogate());
            }
            0 => {
                return Err(Error::new(
                    SqlState::UNTRANSLATABLE_CHARACTER,
                    "unsupported Unicode escape sequence",
                )
                .with_detail("\\u0000 cannot be converted to text.")
                .with_context(self.context(self.at)));
            }
            code => code,
        };
        match char::from_u32(code) {
            Some(character) => push_escaped(character, &mut self.out),
            None => return Err(self.invalid("Invalid Unicode escape.".to_owned(), self.at)),
        }
        Ok(())
    }

    /// What stands behind a surrogate that is alone is a part of what is wrong.
    fn lone_surrogate(&self) -> Error {
        let end = match self.text[self.at..].chars().next() {
            Some('"') | None => self.at,
            Some(next) => self.at + next.len_utf8(),
        };
        self.invalid(
            "Unicode low surrogate must follow a high surrogate.".to_owned(),
            end,
        )
    }

    /// The four hex digits of a `\u` escape.
    fn code_unit(&mut self) -> Result<u32, Error> {
        let digits = self
            .text
            .as_bytes()
            .get(self.at + 2..self.at + 6)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| {
                let rest = &self.text[self.at + 2..];
                let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
                let wrong = rest[digits..].chars().next().map_or(0, char::len_utf8);
                let detail = "\"\\u\" must be followed by four hexadecimal digits.".to_owned();
                self.invalid(detail, self.at + 2 + digits + wrong)
            })?;
        self.at += 6;
        Ok(digits)
    }

    fn number(&mut self) -> Result<(), Error> {
        let bytes = &self.text.as_bytes()[self.at..];
        let digits = |from: usize| {
            bytes[from..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        let sign = usize::from(bytes[0] == b'-');
        let integer = digits(sign);
        let mut end = sign + integer;
        let mut valid = integer == 1 || (integer > 1 && bytes[sign] != b'0');
        if bytes.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            valid &= fraction > 0;
            end += 1 + fraction;
        }
        let mut exponent = false;
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let count = digits(end + 1 + sign);
            valid &= count > 0;
            exponent = true;
            end += 1 + sign + count;
        }
        let rest = &self.text[self.at + end..];
        let follows = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let token = &self.text[self.at..self.at + end];
        if !valid || follows > 0 {
            let end = self.at + end + follows;
            let token = &self.text[self.at..end];
            return Err(self.invalid(format!("Token \"{token}\" is invalid."), end));
        }
        match Numeric::parse(token) {
            Ok(number) if exponent || number.is_zero() => {
                let mut buffer = [0; Numeric::TEXT_BYTES];
                self.out.push_str(number.text(&mut buffer));
            }
            Err(_) if exponent => {
                return Err(Error::new(
                    SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                    "value overflows numeric format",
                ));
            }
            // As it stands: a plain decimal of any length prints as it was written.
            _ => self.out.push_str(token),
        }
        self.at += end;
        Ok(())
    }
}

fn push_escaped(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        control if (control as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", control as u32)),
        other => out.push(other),
    }
}

/// The bytes of a key that was written by `push_escaped`.
fn unescaped_key(written: &str) -> std::borrow::Cow<'_, [u8]> {
    if !written.contains('\\') {
        return written.as_bytes().into();
    }
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'b') => bytes.push(8),
            Some(b'f') => bytes.push(12),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'u') => {
                let code = rest.by_ref().take(4).fold(0u8, |value, digit| {
                    (value << 4) | (digit as char).to_digit(16).unwrap_or(0) as u8
                });
                bytes.push(code);
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_print_as_jsonb_prints_them() {
        for (input, output) in [
            ("1", "1"),
            (" [1,2 , 3.50,1e3, -0] ", "[1, 2, 3.50, 1000, 0]"),
            (
                r#"{"bb":1,"a":2,"c":{"z":[],"y":{}}}"#,
                r#"{"a": 2, "c": {"y": {}, "z": []}, "bb": 1}"#,
            ),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a": 3, "b": 2}"#),
            (r#""\u0041\n\/\u00e9\ud83d\ude00\u0001""#, "\"A\\n/é😀\\u0001\""),
            (r#"{"\n\n":1,"abc":2}"#, r#"{"\n\n": 1, "abc": 2}"#),
            ("true", "true"),
            (
                "12345678901234567890123456789012345678901234567890.5",
                "12345678901234567890123456789012345678901234567890.5",
            ),
        ] {
            assert_eq!(normalize(input).as_deref(), Ok(output), "{input}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for input in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "{a:1}",
            "tru",
            "truex",
            "01",
            "1.",
            "--1",
            "\"a",
            "\"\u{1}\"",
            "[1 2]",
            "1 2",
            r#""\x""#,
            r#""\u12""#,
            r#""\ud800""#,
            "nan",
            "{\"a\":}",
            "1abc",
            ",",
        ] {
            let error = normalize(input).expect_err(input);
            assert_eq!(error.code, SqlState::INVALID_TEXT_REPRESENTATION, "{input}");
        }
        for (input, detail, context) in [
            ("{\"a\":}", "Expected JSON value, but found \"}\".", "1: {\"a\":}"),
            ("{\"a\" 1}", "Expected \":\", but found \"1\".", "1: {\"a\" 1..."),
            ("{a:1}", "Token \"a\" is invalid.", "1: {a..."),
            ("{1:1}", "Expected string or \"}\", but found \"1\".", "1: {1..."),
            ("{\"a\":1,}", "Expected string, but found \"}\".", "1: {\"a\":1,}"),
            ("[1 2]", "Expected \",\" or \"]\", but found \"2\".", "1: [1 2..."),
            ("1 2", "Expected end of input, but found \"2\".", "1: 1 2"),
            ("[1", "The input string ended unexpectedly.", "1: [1"),
            (
                "[1,\n\"long text that goes on and on and on and on and on\", oops]",
                "Token \"oops\" is invalid.",
                "2: ...t that goes on and on and on and on and on\", oops...",
            ),
            ("\"abc", "Token \"\"abc\" is invalid.", "1: \"abc"),
            ("\"a\\x\"", "Escape sequence \"\\x\" is invalid.", "1: \"a\\x..."),
            ("1abc", "Token \"1abc\" is invalid.", "1: 1abc"),
            ("[é]", "Token \"é\" is invalid.", "1: [é..."),
        ] {
            let error = normalize(input).expect_err(input);
            assert_eq!(error.detail.as_deref(), Some(detail), "{input}");
            let context = format!("JSON data, line {context}");
            assert_eq!(error.context.as_deref(), Some(context.as_str()), "{input}");
        }
        assert_eq!(
            normalize(r#""\u0000""#).map_err(|e| e.code),
            Err(SqlState::UNTRANSLATABLE_CHARACTER)
        );
        assert_eq!(
            normalize(&"[".repeat(1_000_000)).map_err(|e| e.code),
            Err(SqlState::STATEMENT_TOO_COMPLEX)
        );
    }
}
