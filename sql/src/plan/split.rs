//! Splitting a script into statements, and refusing what could not be planned safely.

use crate::error::{Error, SqlState};
use crate::plan::lex::{Kind, Lexer, Token};
use crate::plan::syntax;

/// Longest SQL text of one message. Larger data belongs into COPY or parameters.
pub const MAX_SQL_BYTES: usize = 16 << 20;

/// Deepest nesting of parentheses and brackets. Parser, binder and planner recurse this deep.
pub const MAX_NESTING: usize = 200;

/// Longest chain of operators without a comma or parenthesis between. A chain parses into a tree as deep as it is long.
pub const MAX_CHAIN: usize = 1000;

/// Words that, like operators, make a left-deep tree when repeated.
fn chains(word: &str) -> bool {
    const WORDS: [&str; 17] = [
        "and",
        "or",
        "not",
        "is",
        "in",
        "at",
        "like",
        "ilike",
        "similar",
        "between",
        "collate",
        "isnull",
        "notnull",
        "union",
        "intersect",
        "except",
        "case",
    ];
    word.len() <= 9 && WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// The stack of a thread that plans statements: what is as deep as it may be, and compares a query that is as deep again,
/// fits into it without optimisation by the compiler. Only what is used of it takes memory.
pub const PLANNING_STACK_BYTES: usize = 64 << 20;

/// Watches the tokens of one statement for depth.
#[derive(Default)]
struct DepthGuard {
    /// Chain lengths of the enclosing levels.
    outer: Vec<usize>,
    /// Chain length at the present level since its last comma.
    chain: usize,
    /// Sum over the enclosing levels.
    outer_total: usize,
}

impl DepthGuard {
    fn see(&mut self, sql: &str, token: Token) -> Result<(), Error> {
        match token.kind {
            Kind::LeftParen | Kind::LeftBracket => {
                self.outer_total += self.chain;
                self.outer.push(self.chain);
                self.chain = 0;
                if self.outer.len() > MAX_NESTING {
                    return Err(syntax::too_deep());
                }
            }
            Kind::RightParen | Kind::RightBracket => {
                self.chain = self.outer.pop().unwrap_or(0);
                self.outer_total -= self.chain.min(self.outer_total);
            }
            Kind::Comma => self.chain = 0,
            Kind::Operator | Kind::Cast => self.chain += 1,
            Kind::Word if chains(token.text(sql)) => self.chain += 1,
            _ => {}
        }
        if self.chain + self.outer_total > MAX_CHAIN {
            return Err(syntax::too_deep());
        }
        Ok(())
    }
}

/// Byte ranges of the statements in `sql`, without their semicolons; empty statements are left out.
pub fn statements(sql: &str) -> Result<Vec<(usize, usize)>, Error> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!(
                "SQL text of {} bytes exceeds the limit of {MAX_SQL_BYTES} bytes",
                sql.len()
            ),
        ));
    }
    let mut list = Vec::new();
    let mut lexer = Lexer::new(sql);
    let mut guard = DepthGuard::default();
    let mut current: Option<(usize, usize)> = None;
    while let Some(token) = lexer.next()? {
        if token.kind == Kind::Semicolon {
            list.extend(current.take());
            guard = DepthGuard::default();
            continue;
        }
        guard.see(sql, token)?;
        current = Some((current.map_or(token.start, |(start, _)| start), token.end));
    }
    // The last one ends with the text: that is where PostgreSQL sees the end of its input.
    list.extend(current.map(|(start, _)| (start, sql.len())));
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        statements(sql)
            .expect("valid")
            .into_iter()
            .map(|(start, end)| &sql[start..end])
            .collect()
    }

    #[test]
    fn semicolons_split_only_outside_of_quotes_and_comments() {
        assert_eq!(texts("select 1; select 2 ;; "), ["select 1", "select 2"]);
        assert_eq!(
            texts("select ';' -- ; \n, $a$;$a$, E'\\';' /* ; /* ; */ */; x"),
            ["select ';' -- ; \n, $a$;$a$, E'\\';'", "x"]
        );
        assert_eq!(texts("-- nothing\n;"), Vec::<&str>::new());
    }

    #[test]
    fn unterminated_quotes_are_named_with_their_position() {
        let error = statements("select 'abc").expect_err("unterminated");
        assert_eq!(error.message, "unterminated quoted string at or near \"'abc\"");
        assert_eq!(error.position, Some(8));
    }

    #[test]
    fn deep_nesting_and_long_chains_are_refused_and_long_lists_are_not() {
        let deep = format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(
            statements(&deep).expect_err("deep").code,
            SqlState::STATEMENT_TOO_COMPLEX
        );
        let chain = format!("select 1 where true{}", " and true".repeat(100_000));
        assert_eq!(
            statements(&chain).expect_err("long").code,
            SqlState::STATEMENT_TOO_COMPLEX
        );
        let list = format!("select 1 in (0{})", ", -1".repeat(100_000));
        assert_eq!(statements(&list).expect("a list").len(), 1);
        let steps = format!("select {}1", "1 + (2 * ".repeat(600));
        assert_eq!(
            statements(&steps).expect_err("both").code,
            SqlState::STATEMENT_TOO_COMPLEX
        );
    }
}
