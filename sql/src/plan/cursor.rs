//! A cursor over the tokens of one statement, for the hand-written parsers.

use crate::error::Error;
use crate::plan::lex::{self, Kind, Token};
use crate::plan::syntax;

pub struct Cursor<'a> {
    pub sql: &'a str,
    tokens: Vec<Token>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(sql: &'a str) -> Result<Self, Error> {
        Ok(Cursor {
            sql,
            tokens: lex::tokens(sql)?,
            at: 0,
        })
    }

    pub fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    pub fn peek_ahead(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.at + ahead).copied()
    }

    pub fn next(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    pub fn at_word(&self, word: &str) -> bool {
        self.peek().is_some_and(|token| token.is_word(self.sql, word))
    }

    /// Takes the word if it stands here.
    pub fn word(&mut self, word: &str) -> bool {
        let here = self.at_word(word);
        self.at += usize::from(here);
        here
    }

    /// Takes all of these words, or none.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let all = words.iter().enumerate().all(|(ahead, word)| {
            self.peek_ahead(ahead)
                .is_some_and(|token| token.is_word(self.sql, word))
        });
        self.at += if all { words.len() } else { 0 };
        all
    }

    pub fn expect_word(&mut self, word: &str) -> Result<(), Error> {
        if self.word(word) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub fn kind(&mut self, kind: Kind) -> bool {
        let here = self.peek().is_some_and(|token| token.kind == kind);
        self.at += usize::from(here);
        here
    }

    pub fn operator(&mut self, text: &str) -> bool {
        let here = self
            .peek()
            .is_some_and(|token| token.kind == Kind::Operator && token.text(self.sql) == text);
        self.at += usize::from(here);
        here
    }

    pub fn expect(&mut self, kind: Kind) -> Result<Token, Error> {
        match self.peek() {
            Some(token) if token.kind == kind => {
                self.at += 1;
                Ok(token)
            }
            _ => Err(self.unexpected()),
        }
    }

    pub fn identifier(&mut self) -> Result<String, Error> {
        match self.peek() {
            Some(token) if matches!(token.kind, Kind::Word | Kind::QuotedWord) => {
                self.at += 1;
                Ok(lex::identifier(self.sql, token))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// `a.b.c`, each part as an identifier.
    pub fn dotted(&mut self) -> Result<Vec<String>, Error> {
        let mut parts = vec![self.identifier()?];
        while self.kind(Kind::Dot) {
            parts.push(self.identifier()?);
        }
        Ok(parts)
    }

    /// `(a, b, c)`.
    pub fn identifier_list(&mut self) -> Result<Vec<String>, Error> {
        self.expect(Kind::LeftParen)?;
        let mut list = vec![self.identifier()?];
        while self.kind(Kind::Comma) {
            list.push(self.identifier()?);
        }
        self.expect(Kind::RightParen)?;
        Ok(list)
    }

    pub fn string(&mut self) -> Result<String, Error> {
        let value = self.peek().and_then(|token| lex::string_value(self.sql, token));
        match value {
            Some(value) => {
                self.at += 1;
                Ok(value)
            }
            None => Err(self.unexpected()),
        }
    }

    /// Skips to the closing parenthesis of the one just taken; returns the text between them.
    pub fn through_closing(&mut self) -> Result<&'a str, Error> {
        let start = self.peek().map_or(self.sql.len(), |token| token.start);
        let mut depth = 1usize;
        while let Some(token) = self.next() {
            match token.kind {
                Kind::LeftParen => depth += 1,
                Kind::RightParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(&self.sql[start..token.start]);
            }
        }
        Err(self.unexpected())
    }

    /// Skips to the comma outside of parentheses that ends an item, or to the end; returns the text before it.
    pub fn through_item(&mut self) -> Result<&'a str, Error> {
        let start = self.peek().ok_or_else(|| self.unexpected())?.start;
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::LeftParen => depth += 1,
                Kind::RightParen => depth = depth.saturating_sub(1),
                Kind::Comma if depth == 0 => return Ok(&self.sql[start..token.start]),
                _ => {}
            }
            self.at += 1;
        }
        Ok(&self.sql[start..])
    }

    /// The text from here to the end.
    pub fn rest(&self) -> &'a str {
        self.peek().map_or("", |token| &self.sql[token.start..])
    }

    pub fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn expect_end(&self) -> Result<(), Error> {
        if self.done() {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub fn unexpected(&self) -> Error {
        syntax::near(self.sql, self.peek())
    }
}
