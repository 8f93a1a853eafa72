//! Hand-written parsers of utility statements: they are frequent (BEGIN, COMMIT), small, and full of PostgreSQL's own
//! syntax. Everything else goes to sqlparser.

use crate::error::{Error, SqlState};
use crate::plan::copy_syntax;
use crate::plan::cursor::Cursor;
use crate::plan::lex::{self, Kind};
use crate::plan::parse;
use crate::plan::statement::{
    DiscardKind, ExplainOptions, FetchCount, IsolationLevel, SetScope, SettingValue, Statement,
    TransactionModes,
};

/// Words with which an utility statement begins.
fn is_utility(word: &str) -> bool {
    const WORDS: [&str; 35] = [
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
        "show" => show(&mut cursor)?,
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
        "unlisten" if cursor.operator("*") => Statement::UnlistenAll,
        "listen" | "unlisten" | "notify" | "cluster" | "reindex" | "comment" => {
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
        "drop" => drop_table(&mut cursor)?,
        "truncate" => truncate(&mut cursor)?,
        "alter" => alter(&mut cursor)?,
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
                } else if cursor.at_word("serializable") {
                    return Err(Error::unsupported("isolation level SERIALIZABLE"));
                } else {
                    return Err(cursor.unexpected());
                },
            );
        } else if cursor.words(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if cursor.words(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if cursor.word("deferrable") || cursor.words(&["not", "deferrable"]) {
            // Without SERIALIZABLE there is nothing to defer.
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

fn set(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.words(&["session", "characteristics", "as", "transaction"]) {
        return Ok(Statement::SetCharacteristics(modes(cursor)?));
    }
    if cursor.word("transaction") {
        return Ok(Statement::SetTransaction(modes(cursor)?));
    }
    if cursor.word("constraints") {
        return Err(Error::unsupported("SET CONSTRAINTS"));
    }
    let scope = if cursor.word("local") {
        SetScope::Local
    } else {
        // `SET SESSION AUTHORIZATION` is a setting of two words.
        cursor.word("session");
        SetScope::Session
    };
    if cursor.words(&["time", "zone"]) {
        let value = if cursor.word("local") || cursor.word("default") {
            SettingValue::Default
        } else {
            cursor.word("interval");
            let text = setting_value(cursor)?;
            if cursor.words(&["hour", "to"]) {
                cursor.word("minute");
            }
            SettingValue::Text(text)
        };
        return Ok(Statement::Set {
            scope,
            name: "timezone".into(),
            value,
        });
    }
    if cursor.word("names") {
        let value = if cursor.done() || cursor.word("default") {
            SettingValue::Default
        } else {
            SettingValue::Text(setting_value(cursor)?)
        };
        return Ok(Statement::Set {
            scope,
            name: "client_encoding".into(),
            value,
        });
    }
    if cursor.word("role") {
        let value = setting_value(cursor)?;
        return Ok(Statement::Set {
            scope,
            name: "role".into(),
            value: SettingValue::Text(value),
        });
    }
    if cursor.word("authorization") {
        let value = setting_value(cursor)?;
        return Ok(Statement::Set {
            scope,
            name: "session_authorization".into(),
            value: SettingValue::Text(value),
        });
    }
    let name = cursor.dotted()?.join(".");
    if !cursor.operator("=") {
        cursor.expect_word("to")?;
    }
    if cursor.word("default") {
        return Ok(Statement::Set {
            scope,
            name,
            value: SettingValue::Default,
        });
    }
    let start = cursor.peek().map_or(cursor.sql.len(), |token| token.start);
    let mut value = setting_value(cursor)?;
    while cursor.kind(Kind::Comma) {
        value.push_str(", ");
        value.push_str(&setting_value(cursor)?);
    }
    // In a list of schemas quotes tell names from words.
    if name == "search_path" && cursor.sql[start..].contains('"') {
        value = cursor.sql[start..].trim().to_owned();
    }
    Ok(Statement::Set {
        scope,
        name,
        value: SettingValue::Text(value),
    })
}

/// One value of SET: a word, a string, a number with its sign.
fn setting_value(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    let sign = if cursor.operator("-") {
        "-"
    } else {
        cursor.operator("+");
        ""
    };
    let Some(token) = cursor.peek() else {
        return Err(cursor.unexpected());
    };
    let value = match token.kind {
        Kind::Integer | Kind::Decimal => format!("{sign}{}", token.text(cursor.sql)),
        _ if !sign.is_empty() => return Err(cursor.unexpected()),
        Kind::Word => token.text(cursor.sql).to_owned(),
        Kind::QuotedWord => lex::identifier(cursor.sql, token),
        _ => return cursor.string(),
    };
    cursor.next();
    Ok(value)
}

fn setting_name(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    if cursor.words(&["time", "zone"]) {
        return Ok("timezone".into());
    }
    if cursor.words(&["transaction", "isolation", "level"]) {
        return Ok("transaction_isolation".into());
    }
    if cursor.words(&["session", "authorization"]) {
        return Ok("session_authorization".into());
    }
    Ok(cursor.dotted()?.join("."))
}

fn reset(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.word("all") {
        return Ok(Statement::Reset(None));
    }
    Ok(Statement::Reset(Some(setting_name(cursor)?)))
}

fn show(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.word("all") {
        return Ok(Statement::Show(None));
    }
    Ok(Statement::Show(Some(setting_name(cursor)?)))
}

fn discard(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let kind = if cursor.word("all") {
        DiscardKind::All
    } else if cursor.word("plans") {
        DiscardKind::Plans
    } else if cursor.word("sequences") {
        DiscardKind::Sequences
    } else if cursor.word("temp") || cursor.word("temporary") {
        DiscardKind::Temporary
    } else {
        return Err(cursor.unexpected());
    };
    Ok(Statement::Discard(kind))
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

/// `(option [value], …)` of VACUUM and ANALYZE; their values do not matter here.
fn options(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    if cursor.kind(Kind::LeftParen) {
        cursor.through_closing()?;
    }
    Ok(())
}

fn tables_with_columns(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Error> {
    let mut tables = Vec::new();
    while !cursor.done() {
        tables.push(table_name(cursor)?);
        if cursor.kind(Kind::LeftParen) {
            cursor.through_closing()?;
        }
        if !cursor.kind(Kind::Comma) {
            break;
        }
    }
    Ok(tables)
}

fn vacuum(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    options(cursor)?;
    for word in ["full", "freeze", "verbose", "analyze"] {
        cursor.word(word);
    }
    let tables = tables_with_columns(cursor)?;
    cursor.expect_end()?;
    Ok(Statement::Vacuum(tables))
}

/// A table's name; the schema may be `public`.
pub fn table_name(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    let mut parts = cursor.dotted()?;
    let name = parts.pop().unwrap_or_default();
    parse::check_schema(&parts, &name)?;
    Ok(name)
}

fn table_names(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    loop {
        cursor.word("only");
        names.push(table_name(cursor)?);
        cursor.operator("*");
        if !cursor.kind(Kind::Comma) {
            return Ok(names);
        }
    }
}

fn lock(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    cursor.word("table");
    table_names(cursor)?;
    while cursor.next().is_some() {}
    Ok(Statement::Lock)
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

fn drop_table(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if !cursor.word("table") {
        let kind = cursor
            .peek()
            .map_or("", |token| token.text(cursor.sql))
            .to_ascii_uppercase();
        return Err(Error::unsupported(format!("DROP {kind}")));
    }
    let if_exists = cursor.words(&["if", "exists"]);
    let names = table_names(cursor)?;
    if !cursor.word("cascade") {
        cursor.word("restrict");
    }
    Ok(Statement::DropTable { names, if_exists })
}

fn truncate(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    cursor.word("table");
    let names = table_names(cursor)?;
    if !cursor.words(&["restart", "identity"]) {
        cursor.words(&["continue", "identity"]);
    }
    if !cursor.word("cascade") {
        cursor.word("restrict");
    }
    Ok(Statement::Truncate(names))
}

fn alter(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if !cursor.word("table") {
        let kind = cursor
            .peek()
            .map_or("", |token| token.text(cursor.sql))
            .to_ascii_uppercase();
        return Err(Error::unsupported(format!("ALTER {kind}")));
    }
    let if_exists = cursor.words(&["if", "exists"]);
    cursor.word("only");
    let table = table_name(cursor)?;
    // pg_dump and ORMs set owners; there is one owner.
    if cursor.words(&["owner", "to"]) {
        cursor.identifier()?;
        return Ok(Statement::AddPrimaryKey {
            table,
            constraint: None,
            columns: Vec::new(),
            if_exists,
            only_noop: true,
        });
    }
    if !cursor.word("add") {
        let action = cursor
            .peek()
            .map_or("", |token| token.text(cursor.sql))
            .to_ascii_uppercase();
        return Err(Error::unsupported(format!("ALTER TABLE … {action}")));
    }
    let constraint = if cursor.word("constraint") {
        Some(cursor.identifier()?)
    } else {
        None
    };
    for (word, what) in [
        ("foreign", "FOREIGN KEY constraint"),
        ("unique", "UNIQUE constraint"),
        ("check", "CHECK constraint"),
        ("exclude", "EXCLUDE constraint"),
    ] {
        if cursor.at_word(word) {
            return Err(Error::unsupported(what));
        }
    }
    if !cursor.words(&["primary", "key"]) {
        return Err(Error::unsupported("ALTER TABLE … ADD COLUMN"));
    }
    if cursor.at_word("using") {
        return Err(Error::unsupported("PRIMARY KEY USING INDEX"));
    }
    let columns = cursor.identifier_list()?;
    if cursor.word("with") {
        options(cursor)?;
    }
    if cursor.words(&["using", "index", "tablespace"]) {
        cursor.identifier()?;
    }
    if cursor.at_word("deferrable") || cursor.at_word("initially") {
        return Err(Error::unsupported("DEFERRABLE constraint"));
    }
    cursor.words(&["not", "deferrable"]);
    Ok(Statement::AddPrimaryKey {
        table,
        constraint,
        columns,
        if_exists,
        only_noop: false,
    })
}
