//! The syntax of COPY: the options in parentheses and the older ones behind them (PostgreSQL 15, `COPY`).

use crate::analytic::FutureName;
use crate::error::{Error, SqlState};
use crate::plan::cursor::Cursor;
use crate::plan::lex::Kind;
use crate::plan::parse;
use crate::plan::statement::{ColumnChoice, CopyFormat, CopySource, CopyStatement};

pub fn copy(cursor: &mut Cursor<'_>) -> Result<CopyStatement, Error> {
    let binary = cursor.word("binary");
    let source = if cursor.kind(Kind::LeftParen) {
        CopySource::Query(cursor.through_closing()?.to_owned())
    } else {
        let mut qualifiers = cursor.dotted()?;
        let name = qualifiers.pop().unwrap_or_default();
        if !matches!(qualifiers.as_slice(), [schema] if FutureName::is_meant(schema)) {
            parse::check_schema(&qualifiers, &name)?;
        }
        let columns = if cursor.peek().is_some_and(|token| token.kind == Kind::LeftParen) {
            cursor.identifier_list()?
        } else {
            Vec::new()
        };
        CopySource::Table {
            schema: qualifiers.pop(),
            name,
            columns,
        }
    };
    let from = cursor.word("from");
    if !from {
        cursor.expect_word("to")?;
    }
    match &source {
        CopySource::Query(_) if from => return Err(cursor.unexpected()),
        CopySource::Table {
            schema: Some(schema),
            name,
            ..
        } if from => parse::check_schema(std::slice::from_ref(schema), name)?,
        _ => {}
    }
    let stream = if from { "stdin" } else { "stdout" };
    if !cursor.word(stream) {
        if cursor.word("stdin") || cursor.word("stdout") {
            // PostgreSQL takes either word for either direction.
        } else if cursor.word("program") || cursor.string().is_ok() {
            return Err(Error::unsupported("COPY with a file or program on the server")
                .with_hint("Use COPY FROM STDIN or COPY TO STDOUT, or psql's \\copy."));
        } else {
            return Err(cursor.unexpected());
        }
    }
    let mut statement = CopyStatement {
        source,
        from,
        format: if binary {
            CopyFormat::Binary
        } else {
            CopyFormat::Text
        },
        delimiter: None,
        null: None,
        header: false,
        header_match: false,
        quote: None,
        escape: None,
        force_quote: ColumnChoice::None,
        force_null: ColumnChoice::None,
        force_not_null: ColumnChoice::None,
        filter: None,
    };
    let with = cursor.word("with");
    if cursor.kind(Kind::LeftParen) {
        loop {
            option(cursor, &mut statement)?;
            if !cursor.kind(Kind::Comma) {
                break;
            }
        }
        cursor.expect(Kind::RightParen)?;
    } else {
        old_options(cursor, &mut statement)?;
        let _ = with;
    }
    if from && cursor.word("where") {
        statement.filter = Some(cursor.rest().to_owned());
        while cursor.next().is_some() {}
    }
    check(&statement)?;
    Ok(statement)
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    let Some(token) = cursor
        .peek()
        .filter(|token| !matches!(token.kind, Kind::Comma | Kind::RightParen))
    else {
        return Ok(true);
    };
    cursor.next();
    match token
        .text(cursor.sql)
        .trim_matches('\'')
        .to_ascii_lowercase()
        .as_str()
    {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(Error::syntax("COPY option requires a Boolean value")),
    }
}

/// A string or a bare word.
fn word_or_string(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    if cursor
        .peek()
        .is_some_and(|token| matches!(token.kind, Kind::Word | Kind::QuotedWord))
    {
        cursor.identifier()
    } else {
        cursor.string()
    }
}

fn one_byte(value: &str, option: &str) -> Result<u8, Error> {
    match value.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(Error::unsupported(format!(
            "COPY {option} of other than a single one-byte character"
        ))),
    }
}

fn choice(cursor: &mut Cursor<'_>) -> Result<ColumnChoice, Error> {
    if cursor.operator("*") {
        return Ok(ColumnChoice::All);
    }
    Ok(ColumnChoice::Names(cursor.identifier_list()?))
}

fn set_format(statement: &mut CopyStatement, name: &str) -> Result<(), Error> {
    statement.format = match name.to_ascii_lowercase().as_str() {
        "text" => CopyFormat::Text,
        "csv" => CopyFormat::Csv,
        "binary" => CopyFormat::Binary,
        other => {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("COPY format \"{other}\" not recognized"),
            ));
        }
    };
    Ok(())
}

fn option(cursor: &mut Cursor<'_>, statement: &mut CopyStatement) -> Result<(), Error> {
    let name = cursor.identifier()?;
    match name.as_str() {
        "format" => {
            let format = word_or_string(cursor)?;
            set_format(statement, &format)?;
        }
        "freeze" => {
            boolean(cursor)?;
        }
        "delimiter" => statement.delimiter = Some(one_byte(&cursor.string()?, "delimiter")?),
        "null" => statement.null = Some(cursor.string()?),
        "header" => {
            if cursor.word("match") {
                statement.header = true;
                statement.header_match = true;
            } else {
                statement.header = boolean(cursor)?;
            }
        }
        "quote" => statement.quote = Some(one_byte(&cursor.string()?, "quote")?),
        "escape" => statement.escape = Some(one_byte(&cursor.string()?, "escape")?),
        "force_quote" => statement.force_quote = choice(cursor)?,
        "force_not_null" => statement.force_not_null = choice(cursor)?,
        "force_null" => statement.force_null = choice(cursor)?,
        "encoding" => encoding(&word_or_string(cursor)?)?,
        other => return Err(Error::syntax(format!("option \"{other}\" not recognized"))),
    }
    Ok(())
}

fn encoding(name: &str) -> Result<(), Error> {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase();
    if matches!(plain.as_str(), "utf8" | "unicode" | "sqlascii") {
        Ok(())
    } else {
        Err(Error::unsupported(format!("encoding \"{name}\" in COPY")))
    }
}

fn names(cursor: &mut Cursor<'_>) -> Result<ColumnChoice, Error> {
    if cursor.operator("*") {
        return Ok(ColumnChoice::All);
    }
    let mut list = vec![cursor.identifier()?];
    while cursor.kind(Kind::Comma) {
        list.push(cursor.identifier()?);
    }
    Ok(ColumnChoice::Names(list))
}

/// The syntax from before PostgreSQL 9.0, which psql and many scripts still send.
fn old_options(cursor: &mut Cursor<'_>, statement: &mut CopyStatement) -> Result<(), Error> {
    loop {
        if cursor.word("binary") {
            statement.format = CopyFormat::Binary;
        } else if cursor.word("freeze") {
            // Nothing to freeze: versions carry no age.
        } else if cursor.word("delimiter") || cursor.word("delimiters") {
            cursor.word("as");
            statement.delimiter = Some(one_byte(&cursor.string()?, "delimiter")?);
        } else if cursor.word("null") {
            cursor.word("as");
            statement.null = Some(cursor.string()?);
        } else if cursor.word("csv") {
            statement.format = CopyFormat::Csv;
        } else if cursor.word("header") {
            statement.header = true;
        } else if cursor.word("quote") {
            cursor.word("as");
            statement.quote = Some(one_byte(&cursor.string()?, "quote")?);
        } else if cursor.word("escape") {
            cursor.word("as");
            statement.escape = Some(one_byte(&cursor.string()?, "escape")?);
        } else if cursor.words(&["force", "quote"]) {
            statement.force_quote = names(cursor)?;
        } else if cursor.words(&["force", "not", "null"]) {
            statement.force_not_null = names(cursor)?;
        } else if cursor.words(&["force", "null"]) {
            statement.force_null = names(cursor)?;
        } else if cursor.word("encoding") {
            encoding(&cursor.string()?)?;
        } else {
            return Ok(());
        }
    }
}

/// What PostgreSQL refuses, with its words.
fn check(statement: &CopyStatement) -> Result<(), Error> {
    let invalid = |message: &str| Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
    let feature = |message: &str| Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    if statement.format == CopyFormat::Binary {
        return Err(Error::unsupported("COPY in binary format"));
    }
    let csv = statement.format == CopyFormat::Csv;
    if let Some(delimiter) = statement.delimiter {
        if matches!(delimiter, b'\r' | b'\n') {
            return invalid("COPY delimiter cannot be newline or carriage return");
        }
        if !csv
            && (delimiter.is_ascii_lowercase()
                || delimiter.is_ascii_digit()
                || matches!(delimiter, b'\\' | b'.'))
        {
            return invalid(&format!("COPY delimiter cannot be \"{}\"", char::from(delimiter)));
        }
    }
    if let Some(null) = &statement.null
        && null.contains(['\r', '\n'])
    {
        return invalid("COPY null representation cannot use newline or carriage return");
    }
    if !csv {
        if statement.quote.is_some() {
            return feature("COPY quote available only in CSV mode");
        }
        if statement.escape.is_some() {
            return feature("COPY escape available only in CSV mode");
        }
        if statement.force_quote != ColumnChoice::None {
            return feature("COPY force quote available only in CSV mode");
        }
        if statement.force_not_null != ColumnChoice::None {
            return feature("COPY force not null available only in CSV mode");
        }
        if statement.force_null != ColumnChoice::None {
            return feature("COPY force null available only in CSV mode");
        }
    }
    if statement.from && statement.force_quote != ColumnChoice::None {
        return feature("COPY force quote only available using COPY TO");
    }
    if !statement.from && statement.force_not_null != ColumnChoice::None {
        return feature("COPY force not null only available using COPY FROM");
    }
    if !statement.from && statement.force_null != ColumnChoice::None {
        return feature("COPY force null only available using COPY FROM");
    }
    if statement.header_match && !statement.from {
        return feature("cannot use \"match\" with HEADER in COPY TO");
    }
    if csv && statement.delimiter.unwrap_or(b',') == statement.quote.unwrap_or(b'"') {
        return invalid("COPY delimiter and quote must be different");
    }
    Ok(())
}
