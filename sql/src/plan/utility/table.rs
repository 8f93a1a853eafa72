//! VACUUM, LOCK, DROP TABLE, TRUNCATE, ALTER TABLE: statements that name tables.

use crate::error::Error;
use crate::plan::cursor::Cursor;
use crate::plan::lex::Kind;
use crate::plan::parse;
use crate::plan::statement::{RuleChange, Statement};

/// `(option [value], …)` of VACUUM and ANALYZE; their values do not matter here.
pub(super) fn options(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    if cursor.kind(Kind::LeftParen) {
        cursor.through_closing()?;
    }
    Ok(())
}

pub(super) fn tables_with_columns(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Error> {
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

pub(super) fn vacuum(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    options(cursor)?;
    for word in ["full", "freeze", "verbose", "analyze"] {
        cursor.word(word);
    }
    let tables = tables_with_columns(cursor)?;
    cursor.expect_end()?;
    Ok(Statement::Vacuum(tables))
}

/// A table's name; the schema may be `public`.
fn table_name(cursor: &mut Cursor<'_>) -> Result<String, Error> {
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

pub(super) fn lock(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    cursor.word("table");
    table_names(cursor)?;
    while cursor.next().is_some() {}
    Ok(Statement::Lock)
}

pub(super) fn drop_table(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
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

pub(super) fn truncate(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
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

pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
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
    if ["set", "reset", "alter"].iter().any(|word| cursor.at_word(word)) {
        let changes = rule_changes(cursor)?;
        return Ok(Statement::SetRules {
            table,
            changes,
            if_exists,
        });
    }
    if !cursor.word("add") {
        return Err(unsupported_action(cursor));
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

/// `[ALTER [COLUMN] c] {SET (option = value, …) | RESET (option, …)}`, separated by commas.
fn rule_changes(cursor: &mut Cursor<'_>) -> Result<Vec<RuleChange>, Error> {
    let mut changes = Vec::new();
    loop {
        let column = match cursor.word("alter") {
            true => {
                cursor.word("column");
                Some(cursor.identifier()?)
            }
            false => None,
        };
        let sets = cursor.word("set");
        if !(sets || cursor.word("reset")) || !cursor.kind(Kind::LeftParen) {
            return Err(unsupported_action(cursor));
        }
        loop {
            let option = cursor.dotted()?.join(".");
            let value = match sets {
                true => {
                    cursor.operator("=");
                    Some(cursor.string().or_else(|_| cursor.identifier())?)
                }
                false => None,
            };
            changes.push(RuleChange {
                column: column.clone(),
                option,
                value,
            });
            if !cursor.kind(Kind::Comma) {
                break;
            }
        }
        cursor.expect(Kind::RightParen)?;
        if !cursor.kind(Kind::Comma) {
            return Ok(changes);
        }
    }
}

fn unsupported_action(cursor: &Cursor<'_>) -> Error {
    let action = cursor.peek().map_or("", |token| token.text(cursor.sql));
    Error::unsupported(format!("ALTER TABLE … {}", action.to_ascii_uppercase()))
}
