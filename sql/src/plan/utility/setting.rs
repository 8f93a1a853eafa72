//! SET, RESET, SHOW and DISCARD.

use super::modes;
use super::table::table_name;
use crate::error::Error;
use crate::plan::cursor::Cursor;
use crate::plan::lex::{self, Kind};
use crate::plan::statement::{DiscardKind, SetScope, SettingValue, Statement};

/// Behind SET CONSTRAINTS.
fn constraints(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let mut names = Vec::new();
    if !cursor.word("all") {
        loop {
            names.push(table_name(cursor)?);
            if !cursor.kind(Kind::Comma) {
                break;
            }
        }
    }
    let deferred = cursor.word("deferred");
    if !deferred {
        cursor.expect_word("immediate")?;
    }
    Ok(Statement::SetConstraints { names, deferred })
}

pub(super) fn set(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.words(&["session", "characteristics", "as", "transaction"]) {
        return Ok(Statement::SetCharacteristics(modes(cursor)?));
    }
    if cursor.word("transaction") {
        return Ok(Statement::SetTransaction(modes(cursor)?));
    }
    if cursor.word("constraints") {
        return constraints(cursor);
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

pub(super) fn reset(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.word("all") {
        return Ok(Statement::Reset(None));
    }
    Ok(Statement::Reset(Some(setting_name(cursor)?)))
}

pub(super) fn show(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    if cursor.word("all") {
        return Ok(Statement::Show(None));
    }
    Ok(Statement::Show(Some(setting_name(cursor)?)))
}

pub(super) fn discard(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
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
