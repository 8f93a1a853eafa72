//! Hand-written parsers of utility statements: they are frequent (BEGIN, COMMIT), small, and full of PostgreSQL's own
//! syntax. Everything else goes to sqlparser.

mod alter;
mod election;
mod notify;
mod sequence;
mod setting;
mod table;

use crate::error::{Error, SqlState};
use crate::plan::copy_syntax;
use crate::plan::cursor::Cursor;
use crate::plan::lex::{self, Kind};
use crate::plan::parse;
use crate::plan::statement::{ExplainOptions, FetchCount, IsolationLevel, Statement, TransactionModes};
use setting::{discard, reset, set, show};
use table::{drop_table, lock, options, tables_with_columns, truncate, vacuum};

/// Words with which an utility statement begins.
fn is_utility(word: &str) -> bool {
    const WORDS: [&str; 40] = [
        "create",
        "grant",
        "revoke",
        "elect",
        "rebase",
        "begin",
        "start",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint",
        "release",
        "set",
        "reset",
        "show",
        "discard",
        "deallocate",
        "prepare",
        "execute",
        "vacuum",
        "analyze",
        "analyse",
        "checkpoint",
        "listen",
        "unlisten",
        "notify",
        "lock",
        "declare",
        "fetch",
        "move",
        "close",
        "copy",
        "explain",
        "drop",
        "truncate",
        "cluster",
        "reindex",
        "comment",
        "alter",
    ];
    WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Parses `sql` if it is a utility statement. `None`: it is something for sqlparser.
pub fn parse(sql: &str) -> Result<Option<Statement>, Error> {
    let Some(first) = lex::Lexer::new(sql).next()? else {
        return Ok(Some(Statement::Empty));
    };
    if first.kind != Kind::Word || !is_utility(first.text(sql)) {
        return Ok(None);
    }
    let mut cursor = Cursor::new(sql)?;
    cursor.next();
    let word = first.text(sql).to_ascii_lowercase();
    let statement = match word.as_str() {
        "begin" => {
            transaction_word(&mut cursor);
            Statement::Begin {
                modes: modes(&mut cursor)?,
                start: false,
            }
        }
        "start" => {
            cursor.expect_word("transaction")?;
            Statement::Begin {
                modes: modes(&mut cursor)?,
                start: true,
            }
        }
        "commit" | "end" => {
            refuse_two_phase(&cursor)?;
            transaction_word(&mut cursor);
            Statement::Commit {
                chain: chain(&mut cursor)?,
            }
        }
        "rollback" | "abort" => rollback(&mut cursor)?,
        "savepoint" => Statement::Savepoint(cursor.identifier()?),
        "release" => {
            cursor.word("savepoint");
            Statement::Release(cursor.identifier()?)
        }
        "set" => set(&mut cursor)?,
        "reset" => reset(&mut cursor)?,
        "show" => match election::show(&mut cursor)? {
            Some(statement) => statement,
            None => show(&mut cursor)?,
        },
        "create" => match election::create(&mut cursor)? {
            Some(statement) => statement,
            None => match sequence::create(&mut cursor)? {
                Some(statement) => statement,
                None => return Ok(None),
            },
        },
        "grant" | "revoke" => match election::grant(&mut cursor, word == "revoke")? {
            Some(statement) => statement,
            None => return Ok(None),
        },
        "elect" => election::elect(&mut cursor)?,
        "rebase" => election::rebase(&mut cursor)?,
        "discard" => discard(&mut cursor)?,
        "deallocate" => {
            cursor.word("prepare");
            if cursor.word("all") {
                Statement::Deallocate(None)
            } else {
                Statement::Deallocate(Some(cursor.identifier()?))
            }
        }
        "prepare" => return prepare(&mut cursor).map(Some),
        "execute" => return execute(&mut cursor).map(Some),
        "vacuum" => return vacuum(&mut cursor).map(Some),
        "analyze" | "analyse" => {
            options(&mut cursor)?;
            cursor.word("verbose");
            Statement::Analyze(tables_with_columns(&mut cursor)?)
        }
        "checkpoint" => Statement::Checkpoint,
        "listen" | "unlisten" | "notify" => Statement::Notify(notify::parse(&word, &mut cursor)?),
        "cluster" | "reindex" | "comment" => {
            return Err(Error::unsupported(word.to_ascii_uppercase()));
        }
        "lock" => lock(&mut cursor)?,
        "declare" => return declare(&mut cursor).map(Some),
        "fetch" | "move" => fetch(&mut cursor, word == "move")?,
        "close" => {
            if cursor.word("all") {
                Statement::CloseCursor(None)
            } else {
                Statement::CloseCursor(Some(cursor.identifier()?))
            }
        }
        "copy" => Statement::Copy(Box::new(copy_syntax::copy(&mut cursor)?)),
        "explain" => return explain(&mut cursor).map(Some),
        "drop" if cursor.word("sequence") => sequence::drop(&mut cursor)?,
        "drop" => match election::drop(&mut cursor)? {
            Some(statement) => statement,
            None => drop_table(&mut cursor)?,
        },
        "truncate" => truncate(&mut cursor)?,
        "alter" if cursor.word("candidate") => election::alter(&mut cursor)?,
        "alter" if cursor.word("sequence") => sequence::alter(&mut cursor)?,
        "alter" => alter::table(&mut cursor)?,
        _ => return Ok(None),
    };
    cursor.expect_end()?;
    Ok(Some(statement))
}

fn transaction_word(cursor: &mut Cursor<'_>) {
    if !cursor.word("work") {
        cursor.word("transaction");
    }
}

fn refuse_two_phase(cursor: &Cursor<'_>) -> Result<(), Error> {
    if cursor.at_word("prepared") {
        Err(Error::unsupported("two-phase commit"))
    } else {
        Ok(())
    }
}

fn modes(cursor: &mut Cursor<'_>) -> Result<TransactionModes, Error> {
    let mut modes = TransactionModes::default();
    while !cursor.done() {
        if cursor.words(&["isolation", "level"]) {
            modes.isolation = Some(
                if cursor.words(&["read", "committed"]) || cursor.words(&["read", "uncommitted"]) {
                    IsolationLevel::ReadCommitted
                } else if cursor.words(&["repeatable", "read"]) {
                    IsolationLevel::RepeatableRead
                } else if cursor.word("serializable") {
                    IsolationLevel::Serializable
                } else {
                    return Err(cursor.unexpected());
                },
            );
        } else if cursor.words(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if cursor.words(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if cursor.word("deferrable") || cursor.words(&["not", "deferrable"]) {
            // A serializable transaction that only reads is right at any snapshot: there is nothing to wait for.
        } else {
            return Err(cursor.unexpected());
        }
        cursor.kind(Kind::Comma);
    }
    Ok(modes)
}

fn chain(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    if !cursor.word("and") {
        return Ok(false);
    }
    let no = cursor.word("no");
    cursor.expect_word("chain")?;
    Ok(!no)
}

fn rollback(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    refuse_two_phase(cursor)?;
    transaction_word(cursor);
    if cursor.word("to") {
        cursor.word("savepoint");
        return Ok(Statement::RollbackTo(cursor.identifier()?));
    }
    Ok(Statement::Rollback {
        chain: chain(cursor)?,
    })
}

fn prepare(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.at_word("transaction") {
        return Err(Error::unsupported("two-phase commit"));
    }
    let name = cursor.identifier()?;
    let mut types = Vec::new();
    if cursor.kind(Kind::LeftParen) {
        types = parse::data_types(cursor.through_closing()?)?;
    }
    cursor.expect_word("as")?;
    Ok(Statement::Prepare {
        name,
        types,
        sql: cursor.rest().to_owned(),
    })
}

fn execute(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let name = cursor.identifier()?;
    let mut arguments = Vec::new();
    if cursor.kind(Kind::LeftParen) {
        arguments = parse::expressions(cursor.through_closing()?)?;
    }
    cursor.expect_end()?;
    Ok(Statement::Execute { name, arguments })
}

fn declare(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let name = cursor.identifier()?;
    loop {
        if cursor.word("binary") {
            return Err(Error::unsupported("BINARY CURSOR"));
        }
        if cursor.word("scroll") {
            return Err(Error::unsupported("SCROLL CURSOR"));
        }
        if !(cursor.word("insensitive") || cursor.word("asensitive") || cursor.words(&["no", "scroll"])) {
            break;
        }
    }
    cursor.expect_word("cursor")?;
    let hold = cursor.words(&["with", "hold"]);
    cursor.words(&["without", "hold"]);
    cursor.expect_word("for")?;
    Ok(Statement::DeclareCursor {
        name,
        hold,
        query: cursor.rest().to_owned(),
    })
}

fn fetch(cursor: &mut Cursor<'_>, moved: bool) -> Result<Statement, Error> {
    let mut count = FetchCount::Rows(1);
    let backward = ["prior", "backward", "first", "last", "absolute", "relative"];
    if backward.iter().any(|word| cursor.at_word(word)) {
        return Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "cursor can only scan forward",
        )
        .with_hint("Declare it with SCROLL option to enable backward scan."));
    }
    let forward = cursor.word("forward");
    if !cursor.word("next") {
        if cursor.word("all") {
            count = FetchCount::All;
        } else if let Some(token) = cursor.peek().filter(|token| token.kind == Kind::Integer) {
            count = FetchCount::Rows(token.text(cursor.sql).parse().map_err(|_| cursor.unexpected())?);
            cursor.next();
        }
    }
    let _ = forward;
    if !cursor.word("from") {
        cursor.word("in");
    }
    Ok(Statement::Fetch {
        name: cursor.identifier()?,
        count,
        moved,
    })
}

fn explain(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let mut options = ExplainOptions::default();
    if cursor.kind(Kind::LeftParen) {
        loop {
            let name = cursor.identifier()?;
            let value = match cursor.peek() {
                Some(token) if !matches!(token.kind, Kind::Comma | Kind::RightParen) => {
                    cursor.next();
                    token.text(cursor.sql).trim_matches('\'').to_ascii_lowercase()
                }
                _ => "on".into(),
            };
            let on = matches!(value.as_str(), "on" | "true" | "1");
            match name.as_str() {
                "analyze" | "analyse" => options.analyze = on,
                "verbose" => options.verbose = on,
                "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" | "generic_plan" => {}
                "format" if value == "text" => {}
                "format" => return Err(Error::unsupported(format!("EXPLAIN (FORMAT {value})"))),
                other => {
                    return Err(Error::syntax(format!("unrecognized EXPLAIN option \"{other}\"")));
                }
            }
            if !cursor.kind(Kind::Comma) {
                break;
            }
        }
        cursor.expect(Kind::RightParen)?;
    } else {
        options.analyze = cursor.word("analyze") || cursor.word("analyse");
        options.verbose = cursor.word("verbose");
    }
    let rest = cursor.rest();
    if rest.is_empty() {
        return Err(cursor.unexpected());
    }
    Ok(Statement::Explain(options, Box::new(parse::statement(rest)?)))
}
