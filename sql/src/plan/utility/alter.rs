//! ALTER TABLE.

use super::table::{cascade, options, table_name};
use crate::error::Error;
use crate::plan::cursor::Cursor;
use crate::plan::lex::Kind;
use crate::plan::parse;
use crate::plan::sequence::SequenceClauses;
use crate::plan::statement::{AlterAction, RuleChange, Statement};

pub(super) fn table(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
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
    cursor.operator("*");
    let mut actions = vec![action(cursor)?];
    while cursor.kind(Kind::Comma) {
        actions.push(action(cursor)?);
    }
    Ok(Statement::AlterTable {
        table,
        if_exists,
        actions,
    })
}

fn action(cursor: &mut Cursor<'_>) -> Result<AlterAction, Error> {
    // pg_dump and ORMs set owners.
    if cursor.words(&["owner", "to"]) {
        cursor.identifier()?;
        return Ok(AlterAction::OwnerTo);
    }
    if cursor.word("rename") {
        return rename(cursor);
    }
    if cursor.word("add") {
        return add(cursor);
    }
    if cursor.word("alter") {
        return alter_column(cursor);
    }
    if cursor.words(&["drop", "constraint"]) {
        let if_exists = cursor.words(&["if", "exists"]);
        let name = cursor.identifier()?;
        return Ok(AlterAction::DropConstraint {
            name,
            if_exists,
            cascade: cascade(cursor),
        });
    }
    if cursor.words(&["validate", "constraint"]) {
        return Ok(AlterAction::ValidateConstraint(cursor.identifier()?));
    }
    if cursor.word("drop") {
        return drop_column(cursor);
    }
    if cursor.at_word("set") || cursor.at_word("reset") {
        return Ok(AlterAction::SetRules(rule_options(cursor, None)?));
    }
    Err(unsupported(cursor))
}

/// Behind RENAME.
fn rename(cursor: &mut Cursor<'_>) -> Result<AlterAction, Error> {
    if cursor.word("to") {
        return Ok(AlterAction::RenameTo(cursor.identifier()?));
    }
    let constraint = cursor.word("constraint");
    if !constraint {
        cursor.word("column");
    }
    let from = cursor.identifier()?;
    cursor.expect_word("to")?;
    let to = cursor.identifier()?;
    Ok(match constraint {
        true => AlterAction::RenameConstraint { from, to },
        false => AlterAction::RenameColumn { from, to },
    })
}

/// Behind DROP.
fn drop_column(cursor: &mut Cursor<'_>) -> Result<AlterAction, Error> {
    cursor.word("column");
    let if_exists = cursor.words(&["if", "exists"]);
    let name = cursor.identifier()?;
    Ok(AlterAction::DropColumn {
        name,
        if_exists,
        cascade: cascade(cursor),
    })
}

/// What a constraint of a table begins with.
const CONSTRAINTS: [&str; 6] = ["constraint", "check", "unique", "primary", "foreign", "exclude"];

/// Behind ADD.
fn add(cursor: &mut Cursor<'_>) -> Result<AlterAction, Error> {
    if cursor.word("column") || !CONSTRAINTS.iter().any(|word| cursor.at_word(word)) {
        let if_not_exists = cursor.words(&["if", "not", "exists"]);
        return Ok(AlterAction::AddColumn {
            definition: cursor.through_item()?.trim_end().to_owned(),
            if_not_exists,
        });
    }
    let constraint = match cursor.word("constraint") {
        true => Some(cursor.identifier()?),
        false => None,
    };
    if cursor.at_word("exclude") {
        return Err(Error::unsupported("EXCLUDE constraint"));
    }
    if cursor.at_word("foreign") {
        return foreign_key(cursor, constraint);
    }
    if cursor.word("unique") {
        if cursor.at_word("using") {
            return Err(Error::unsupported("UNIQUE USING INDEX"));
        }
        if cursor.words(&["nulls", "not", "distinct"]) {
            return Err(Error::unsupported("NULLS NOT DISTINCT"));
        }
        cursor.words(&["nulls", "distinct"]);
        let columns = cursor.identifier_list()?;
        not_deferrable(cursor)?;
        return Ok(AlterAction::AddUnique { constraint, columns });
    }
    if cursor.word("check") {
        cursor.expect(Kind::LeftParen)?;
        let condition = cursor.through_closing()?.to_owned();
        cursor.words(&["no", "inherit"]);
        if cursor.words(&["not", "valid"]) {
            return Err(Error::unsupported("NOT VALID"));
        }
        return Ok(AlterAction::AddCheck {
            constraint,
            condition,
        });
    }
    for word in ["primary", "key"] {
        cursor.expect_word(word)?;
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
    not_deferrable(cursor)?;
    Ok(AlterAction::AddPrimaryKey { constraint, columns })
}

/// At FOREIGN KEY.
fn foreign_key(cursor: &mut Cursor<'_>, constraint: Option<String>) -> Result<AlterAction, Error> {
    let text = cursor.through_item()?;
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let is = |place: Option<&&str>, word: &str| place.is_some_and(|found| found.eq_ignore_ascii_case(word));
    let validated = !(is(words.last(), "valid") && is(words.iter().nth_back(1), "not"));
    if !validated {
        words.truncate(words.len() - 2);
    }
    // Words as they stand: names in quotes may have blanks.
    let end = words
        .last()
        .map_or(0, |last| last.as_ptr().addr() - text.as_ptr().addr() + last.len());
    Ok(AlterAction::AddForeignKey {
        constraint,
        key: Box::new(parse::foreign_key(&text[..end])?),
        validated,
    })
}

fn not_deferrable(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    if cursor.at_word("deferrable") || cursor.at_word("initially") {
        return Err(Error::unsupported("DEFERRABLE constraint"));
    }
    cursor.words(&["not", "deferrable"]);
    Ok(())
}

/// Behind ALTER.
fn alter_column(cursor: &mut Cursor<'_>) -> Result<AlterAction, Error> {
    cursor.word("column");
    let column = cursor.identifier()?;
    if cursor.words(&["set", "default"]) {
        let default = Some(cursor.through_item()?.trim_end().to_owned());
        return Ok(AlterAction::SetDefault { column, default });
    }
    if cursor.words(&["drop", "default"]) {
        return Ok(AlterAction::SetDefault {
            column,
            default: None,
        });
    }
    for (word, not_null) in [("set", true), ("drop", false)] {
        if cursor.words(&[word, "not", "null"]) {
            return Ok(AlterAction::SetNotNull { column, not_null });
        }
    }
    if cursor.words(&["add", "generated"]) {
        let always = generated_when(cursor)?;
        for word in ["as", "identity"] {
            cursor.expect_word(word)?;
        }
        let clauses = SequenceClauses::of_identity(cursor)?;
        return Ok(AlterAction::AddIdentity {
            column,
            always,
            clauses,
        });
    }
    for (word, is_identity) in [("identity", true), ("expression", false)] {
        if cursor.words(&["drop", word]) {
            let if_exists = cursor.words(&["if", "exists"]);
            return Ok(match is_identity {
                true => AlterAction::DropIdentity { column, if_exists },
                false => AlterAction::DropExpression { column, if_exists },
            });
        }
    }
    let sets_rules = cursor
        .peek_ahead(1)
        .is_none_or(|token| token.kind == Kind::LeftParen);
    if cursor.at_word("reset") || sets_rules && !cursor.at_word("restart") {
        return Ok(AlterAction::SetRules(rule_options(cursor, Some(column))?));
    }
    alter_identity(cursor, column)
}

/// `{SET GENERATED … | SET option | RESTART …} …`.
fn alter_identity(cursor: &mut Cursor<'_>, column: String) -> Result<AlterAction, Error> {
    let mut always = None;
    let mut clauses = SequenceClauses::default();
    loop {
        if cursor.words(&["set", "generated"]) {
            always = Some(generated_when(cursor)?);
        } else if cursor.at_word("restart") || cursor.word("set") {
            if !clauses.option(cursor)? {
                return Err(unsupported(cursor));
            }
        } else {
            break;
        }
    }
    if always.is_none() && clauses == SequenceClauses::default() {
        return Err(unsupported(cursor));
    }
    Ok(AlterAction::AlterIdentity {
        column,
        always,
        clauses,
    })
}

/// ALWAYS, or else BY DEFAULT.
fn generated_when(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    if cursor.word("always") {
        return Ok(true);
    }
    match cursor.words(&["by", "default"]) {
        true => Ok(false),
        false => Err(cursor.unexpected()),
    }
}

/// `SET (option = value, …)` or `RESET (option, …)`.
fn rule_options(cursor: &mut Cursor<'_>, column: Option<String>) -> Result<Vec<RuleChange>, Error> {
    let sets = cursor.word("set");
    if !(sets || cursor.word("reset")) || !cursor.kind(Kind::LeftParen) {
        return Err(unsupported(cursor));
    }
    let mut changes = Vec::new();
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
    Ok(changes)
}

fn unsupported(cursor: &Cursor<'_>) -> Error {
    let action = cursor.peek().map_or("", |token| token.text(cursor.sql));
    Error::unsupported(format!("ALTER TABLE … {}", action.to_ascii_uppercase()))
}
