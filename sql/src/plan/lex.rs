//! A zero-copy lexer for PostgreSQL's SQL: tokens are ranges of the text.
//!
//! It splits scripts into statements, feeds the hand-written parsers of utility statements, names the token at an error's
//! position, and refuses text whose nesting would overflow a stack later. It understands every quoting form, so that a
//! semicolon inside a string, comment or dollar quote never splits a statement.

use crate::error::Error;
use crate::plan::syntax;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An unquoted word: keyword or identifier.
    Word,
    /// `"identifier"`, quotes included in the range.
    QuotedWord,
    /// `'text'`, quotes included; a doubled quote stands for one.
    Text,
    /// `E'text'` with backslash escapes, and `U&'text'`.
    EscapeText,
    /// `$tag$text$tag$`.
    DollarText,
    /// `B'…'` and `X'…'`.
    Bits,
    Integer,
    /// A number with a point or an exponent.
    Decimal,
    /// `$1`.
    Param,
    Operator,
    LeftParen,
    RightParen,
    LeftBracket,
    RightBracket,
    Comma,
    Semicolon,
    Dot,
    Colon,
    Cast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        &sql[self.start..self.end]
    }

    pub fn is_word(&self, sql: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(sql).eq_ignore_ascii_case(word)
    }
}

/// Walks over `sql` from a byte offset.
pub struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'+' | b'-'
            | b'*'
            | b'/'
            | b'<'
            | b'>'
            | b'='
            | b'~'
            | b'!'
            | b'@'
            | b'#'
            | b'%'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
    )
}

impl<'a> Lexer<'a> {
    pub fn new(sql: &'a str) -> Self {
        Lexer { sql, at: 0 }
    }

    pub fn from(sql: &'a str, at: usize) -> Self {
        Lexer { sql, at }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.sql.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn unterminated(&self, what: &str, start: usize) -> Error {
        syntax::error_at(
            &format!(
                "unterminated {what} at or near \"{}\"",
                syntax::excerpt(&self.sql[start..])
            ),
            self.sql,
            start,
        )
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) -> Result<(), Error> {
        let bytes = self.sql.as_bytes();
        while self.at < bytes.len() {
            match bytes[self.at] {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == b'-' => {
                    let rest = &bytes[self.at..];
                    self.at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                }
                b'/' if self.peek(1) == b'*' => {
                    let start = self.at;
                    let mut depth = 0usize;
                    loop {
                        if self.at >= bytes.len() {
                            return Err(self.unterminated("/* comment", start));
                        }
                        if bytes[self.at] == b'/' && self.peek(1) == b'*' {
                            depth += 1;
                            self.at += 2;
                        } else if bytes[self.at] == b'*' && self.peek(1) == b'/' {
                            depth -= 1;
                            self.at += 2;
                            if depth == 0 {
                                break;
                            }
                        } else {
                            self.at += 1;
                        }
                    }
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// The next token, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<Token>, Error> {
        self.skip_space()?;
        let bytes = self.sql.as_bytes();
        let start = self.at;
        let Some(&first) = bytes.get(start) else {
            return Ok(None);
        };
        let kind = match first {
            b'\'' => {
                self.quoted(b'\'', false)
                    .ok_or_else(|| self.unterminated("quoted string", start))?;
                Kind::Text
            }
            b'"' => {
                self.quoted(b'"', false)
                    .ok_or_else(|| self.unterminated("quoted identifier", start))?;
                if self.at - start == 2 {
                    return Err(syntax::error_at(
                        "zero-length delimited identifier at or near \"\"\"\"",
                        self.sql,
                        start,
                    ));
                }
                Kind::QuotedWord
            }
            b'e' | b'E' if self.peek(1) == b'\'' => {
                self.at += 1;
                self.quoted(b'\'', true)
                    .ok_or_else(|| self.unterminated("quoted string", start))?;
                Kind::EscapeText
            }
            b'u' | b'U' if self.peek(1) == b'&' && self.peek(2) == b'\'' => {
                self.at += 2;
                self.quoted(b'\'', false)
                    .ok_or_else(|| self.unterminated("quoted string", start))?;
                Kind::EscapeText
            }
            b'b' | b'B' | b'x' | b'X' if self.peek(1) == b'\'' => {
                self.at += 1;
                self.quoted(b'\'', false)
                    .ok_or_else(|| self.unterminated("bit string literal", start))?;
                Kind::Bits
            }
            b'n' | b'N' if self.peek(1) == b'\'' => {
                self.at += 1;
                self.quoted(b'\'', false)
                    .ok_or_else(|| self.unterminated("quoted string", start))?;
                Kind::EscapeText
            }
            b if is_word_start(b) => {
                while self.at < bytes.len() && is_word_part(bytes[self.at]) {
                    self.at += 1;
                }
                Kind::Word
            }
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            b'$' if self.peek(1).is_ascii_digit() => {
                self.at += 1;
                while self.peek(0).is_ascii_digit() {
                    self.at += 1;
                }
                Kind::Param
            }
            b'$' => self.dollar()?,
            b':' if self.peek(1) == b':' => {
                self.at += 2;
                Kind::Cast
            }
            b'(' => self.one(Kind::LeftParen),
            b')' => self.one(Kind::RightParen),
            b'[' => self.one(Kind::LeftBracket),
            b']' => self.one(Kind::RightBracket),
            b',' => self.one(Kind::Comma),
            b';' => self.one(Kind::Semicolon),
            b'.' => self.one(Kind::Dot),
            b':' => self.one(Kind::Colon),
            b if is_operator(b) => {
                while self.at < bytes.len() && is_operator(bytes[self.at]) {
                    // A comment may begin right behind an operator.
                    let two = (bytes[self.at], self.peek(1));
                    if self.at > start && (two == (b'-', b'-') || two == (b'/', b'*')) {
                        break;
                    }
                    self.at += 1;
                }
                Kind::Operator
            }
            _ => {
                let text = syntax::excerpt(&self.sql[start..]);
                return Err(syntax::error_at(
                    &format!("syntax error at or near \"{text}\""),
                    self.sql,
                    start,
                ));
            }
        };
        Ok(Some(Token {
            kind,
            start,
            end: self.at,
        }))
    }

    fn one(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }

    /// Passes over a quoted run that begins here; `None` when it does not end.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Option<()> {
        let bytes = self.sql.as_bytes();
        self.at += 1;
        loop {
            let byte = *bytes.get(self.at)?;
            self.at += 1;
            if escapes && byte == b'\\' {
                self.at += 1;
            } else if byte == quote {
                if bytes.get(self.at) == Some(&quote) {
                    self.at += 1;
                } else {
                    return Some(());
                }
            }
        }
    }

    fn number(&mut self) -> Kind {
        let mut kind = Kind::Integer;
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
        if self.peek(0) == b'.' {
            kind = Kind::Decimal;
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(1 + sign).is_ascii_digit() {
                kind = Kind::Decimal;
                self.at += 1 + sign;
                while self.peek(0).is_ascii_digit() {
                    self.at += 1;
                }
            }
        }
        kind
    }

    fn dollar(&mut self) -> Result<Kind, Error> {
        let start = self.at;
        let bytes = self.sql.as_bytes();
        let mut end = start + 1;
        while end < bytes.len() && is_word_part(bytes[end]) && bytes[end] != b'$' {
            end += 1;
        }
        if bytes.get(end) != Some(&b'$') {
            let text = syntax::excerpt(&self.sql[start..]);
            return Err(syntax::error_at(
                &format!("syntax error at or near \"{text}\""),
                self.sql,
                start,
            ));
        }
        let tag = &self.sql[start..=end];
        match self.sql[end + 1..].find(tag) {
            Some(found) => {
                self.at = end + 1 + found + tag.len();
                Ok(Kind::DollarText)
            }
            None => Err(self.unterminated("dollar-quoted string", start)),
        }
    }
}

/// All tokens of `sql`.
pub fn tokens(sql: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer::new(sql);
    let mut list = Vec::with_capacity(sql.len() / 5 + 4);
    while let Some(token) = lexer.next()? {
        list.push(token);
    }
    Ok(list)
}

/// An identifier's name as PostgreSQL sees it: unquoted words fold to lower case, quoted ones lose their quotes.
pub fn identifier(sql: &str, token: Token) -> String {
    let text = token.text(sql);
    match token.kind {
        Kind::QuotedWord => text[1..text.len() - 1].replace("\"\"", "\""),
        _ => text.to_ascii_lowercase(),
    }
}

/// The value of a string literal token, or `None` when the token is not one or its escapes are invalid.
pub fn string_value(sql: &str, token: Token) -> Option<String> {
    let text = token.text(sql);
    match token.kind {
        Kind::Text => Some(text[1..text.len() - 1].replace("''", "'")),
        Kind::DollarText => {
            let tag = text[1..].find('$')? + 2;
            Some(text[tag..text.len() - tag].to_owned())
        }
        Kind::EscapeText if text.starts_with(['e', 'E']) => unescape(&text[2..text.len() - 1]),
        Kind::EscapeText if text.starts_with(['n', 'N']) => Some(text[2..text.len() - 1].replace("''", "'")),
        _ => None,
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\'' => {
                bytes.next();
                out.push(b'\'');
            }
            b'\\' => match bytes.next()? {
                b'b' => out.push(8),
                b'f' => out.push(12),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'x' => {
                    let mut value = 0u8;
                    for _ in 0..2 {
                        let Some(digit) = bytes.peek().and_then(|b| char::from(*b).to_digit(16)) else {
                            break;
                        };
                        value = value << 4 | digit as u8;
                        bytes.next();
                    }
                    out.push(value);
                }
                digit @ b'0'..=b'7' => {
                    let mut value = u32::from(digit - b'0');
                    for _ in 0..2 {
                        let Some(next) = bytes.peek().and_then(|b| char::from(*b).to_digit(8)) else {
                            break;
                        };
                        value = value << 3 | next;
                        bytes.next();
                    }
                    out.push(value as u8);
                }
                long @ (b'u' | b'U') => {
                    let mut value = 0u32;
                    for _ in 0..if long == b'u' { 4 } else { 8 } {
                        value = value << 4 | char::from(bytes.next()?).to_digit(16)?;
                    }
                    let mut buffer = [0; 4];
                    out.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut buffer).as_bytes());
                }
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}
