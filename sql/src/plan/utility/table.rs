//! VACUUM, LOCK, DROP TABLE and DROP INDEX, TRUNCATE: statements that name tables.

use crate::error::Error;
use crate::plan::cursor::Cursor;
use crate::plan::lex::Kind;
use crate::plan::parse;
use crate::plan::statement::Statement;

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
pub(super) fn table_name(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    let mut parts = cursor.dotted()?;
    let name = parts.pop().unwrap_or_default();
    parse::check_schema(&parts, &name)?;
    Ok(name)
}

pub(super) fn table_names(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Error> {
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

/// CASCADE, or RESTRICT, which is the default.
pub(super) fn cascade(cursor: &mut Cursor<'_>) -> bool {
    cursor.word("cascade") || {
        cursor.word("restrict");
        false
    }
}

pub(super) fn drop_table(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.word("index") {
        // Nobody waits longer for it.
        cursor.word("concurrently");
        let if_exists = cursor.words(&["if", "exists"]);
        let names = table_names(cursor)?;
        let cascade = cascade(cursor);
        return Ok(Statement::DropIndex {
            names,
            if_exists,
            cascade,
        });
    }
    if !cursor.word("table") {
        let kind = cursor
            .peek()
            .map_or("", |token| token.text(cursor.sql))
            .to_ascii_uppercase();
        return Err(Error::unsupported(format!("DROP {kind}")));
    }
    let if_exists = cursor.words(&["if", "exists"]);
    let names = table_names(cursor)?;
    Ok(Statement::DropTable {
        names,
        if_exists,
        cascade: cascade(cursor),
    })
}

pub(super) fn truncate(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    cursor.word("table");
    let names = table_names(cursor)?;
    let restart_identity = cursor.words(&["restart", "identity"]);
    if !restart_identity {
        cursor.words(&["continue", "identity"]);
    }
    Ok(Statement::Truncate {
        names,
        restart_identity,
        cascade: cascade(cursor),
    })
}
