//! Where in a statement's text an error lies, said before the text is at hand.
//!
//! The syntax tree knows lines and columns of names and literals, not of operators; those are found again in the text.

use crate::plan::lex::{Lexer, Token};
use crate::plan::syntax::offset_of;
use sqlparser::tokenizer::Location;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where a name or a literal begins.
    At(Location),
    /// The last such token before a place: an operator, known by its right operand.
    Before { token: Box<str>, place: Location },
    /// The first such token behind a place.
    After { token: Box<str>, place: Location },
    /// The last such token.
    Last { token: Box<str> },
    /// An operand of the expression that is being bound; it knows where that is.
    Operand(usize),
}

/// The operator for which the parser reads another spelling.
fn same(token: &str, wanted: &str) -> bool {
    token.eq_ignore_ascii_case(wanted) || (token == "!=" && wanted == "<>")
}

impl Place {
    pub fn before(token: impl Into<Box<str>>, place: Location) -> Place {
        Place::Before {
            token: token.into(),
            place,
        }
    }

    pub fn after(token: impl Into<Box<str>>, place: Location) -> Place {
        Place::After {
            token: token.into(),
            place,
        }
    }

    pub fn last(token: impl Into<Box<str>>) -> Place {
        Place::Last { token: token.into() }
    }

    /// The byte in `sql`, the text that was parsed. `None`: it is not to be found.
    pub fn offset(&self, sql: &str) -> Option<usize> {
        match self {
            Place::At(place) => known(sql, place),
            Place::Before { token, place } => {
                let end = known(sql, place)?;
                tokens(sql)
                    .take_while(|found| found.start < end)
                    .filter(|found| same(found.text(sql), token))
                    .last()
                    .map(|found| found.start)
                    .or(Some(end))
            }
            Place::After { token, place } => {
                let begin = known(sql, place)?;
                tokens(sql)
                    .find(|found| found.start >= begin && same(found.text(sql), token))
                    .map(|found| found.start)
                    .or(Some(begin))
            }
            Place::Last { token } => tokens(sql)
                .filter(|found| same(found.text(sql), token))
                .last()
                .map(|found| found.start),
            Place::Operand(_) => None,
        }
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Place {
        Place::At(location)
    }
}

/// Spans that the parser could not fill in are on line 0.
fn known(sql: &str, place: &Location) -> Option<usize> {
    (place.line > 0).then(|| offset_of(sql, place.line, place.column))
}

fn tokens(sql: &str) -> impl Iterator<Item = Token> {
    let mut lexer = Lexer::new(sql);
    std::iter::from_fn(move || lexer.next().ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_found_beside_their_operands() {
        let sql = "select a +\n  /* + */ (b != c)::int";
        let at = |line, column| Location { line, column };
        assert_eq!(Place::At(at(2, 12)).offset(sql), Some(22));
        assert_eq!(&sql[22..23], "b");
        assert_eq!(Place::before("+", at(2, 12)).offset(sql), Some(9));
        assert_eq!(Place::before("<>", at(2, 17)).offset(sql), Some(24));
        assert_eq!(Place::after("::", at(2, 18)).offset(sql), sql.find("::"));
        assert_eq!(
            Place::before("like", at(2, 12)).offset(sql),
            Some(22),
            "the operand instead"
        );
        assert_eq!(Place::At(at(0, 0)).offset(sql), None);
    }
}
