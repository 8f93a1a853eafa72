//! Text → [`Statement`]: hand-written parsers first, sqlparser for the rest.

use crate::analytic::FutureName;
use crate::dialect::ScryDialect;
use crate::error::{Error, SqlState};
use crate::plan::statement::{Insert, Overriding, Statement};
use crate::plan::{call, listening, split, syntax, utility};
use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// sqlparser's own bound on recursion; `split::MAX_NESTING` levels of parentheses stay below it.
const RECURSION_LIMIT: usize = 500;

const DIALECT: ScryDialect = ScryDialect;

fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, Error> {
    Tokenizer::new(&DIALECT, sql)
        .tokenize_with_location()
        .map_err(|error| syntax::from_parser(error.into(), sql))
}

fn parser(sql: &str) -> Result<Parser<'static>, Error> {
    Ok(parser_of(tokens(sql)?))
}

fn parser_of(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&DIALECT)
        .with_recursion_limit(RECURSION_LIMIT)
        .with_tokens_with_locations(without_key_locks(tokens))
}

/// Takes OVERRIDING … VALUE out of an INSERT: sqlparser does not know it.
fn take_overriding(tokens: &mut Vec<TokenWithSpan>) -> Option<Overriding> {
    let is_word = |token: &TokenWithSpan, wanted: &str| match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    let mut places = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        if !matches!(token.token, Token::Whitespace(_)) {
            places.push(place);
        }
    }
    if !places
        .first()
        .is_some_and(|first| is_word(&tokens[*first], "insert"))
    {
        return None;
    }
    let found = places.windows(3).find_map(|window| {
        let at = |index: usize, wanted: &str| is_word(&tokens[window[index]], wanted);
        if !at(0, "overriding") || !at(2, "value") {
            return None;
        }
        let overriding = match (at(1, "system"), at(1, "user")) {
            (true, _) => Overriding::SystemValue,
            (_, true) => Overriding::UserValue,
            _ => return None,
        };
        Some((overriding, window.to_vec()))
    });
    let (overriding, places) = found?;
    for place in places.into_iter().rev() {
        tokens.remove(place);
    }
    Some(overriding)
}

/// FOR NO KEY UPDATE becomes FOR UPDATE, and FOR KEY SHARE becomes FOR SHARE: sqlparser does not know them, and they are
/// served by the stronger ones.
fn without_key_locks(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let word = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    };
    let meant = |tokens: &[TokenWithSpan]| tokens.iter().any(|token| word(token) == Some(Keyword::KEY));
    if !meant(&tokens) {
        return tokens;
    }
    // Places of words, blanks and comments left out.
    let words: Vec<(usize, Keyword)> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)))
        .map(|(place, token)| (place, word(token).unwrap_or(Keyword::NoKeyword)))
        .collect();
    let mut superfluous = Vec::new();
    for window in words.windows(3) {
        if let [(_, Keyword::FOR), (key, Keyword::KEY), (_, Keyword::SHARE)] = window {
            superfluous.push(*key);
        }
    }
    for window in words.windows(4) {
        if let [
            (_, Keyword::FOR),
            (no, Keyword::NO),
            (key, Keyword::KEY),
            (_, Keyword::UPDATE),
        ] = window
        {
            superfluous.extend([*no, *key]);
        }
    }
    superfluous.sort_unstable();
    for place in superfluous.into_iter().rev() {
        tokens.remove(place);
    }
    tokens
}

/// Parses one statement. `sql` has passed `split::statements`, which bounds its depth.
pub fn statement(sql: &str) -> Result<Statement, Error> {
    if let Some(statement) = utility::parse(sql)? {
        return Ok(statement);
    }
    let mut tokens = tokens(sql)?;
    let overriding = take_overriding(&mut tokens);
    let mut parser = parser_of(tokens);
    let parsed = parser
        .parse_statement()
        .map_err(|error| syntax::from_parser(error, sql))?;
    if parser.peek_token().token != Token::EOF {
        let start = parser.peek_token().span.start;
        let error = sqlparser::parser::ParserError::ParserError(format!("trailing{start}"));
        return Err(syntax::from_parser(error, sql));
    }
    let mut statement = convert(parsed, sql)?;
    if let Statement::Insert(insert) = &mut statement {
        insert.overriding = overriding;
    }
    Ok(statement)
}

/// The one SELECT in the text that `of` was given.
///
/// # Errors
/// 42601 for anything else.
pub fn single_query(of: &str, text: &str) -> Result<Box<ast::Query>, Error> {
    let single = || Error::syntax(format!("the query of {of} must be a single SELECT"));
    let ranges = split::statements(text)?;
    let [(start, end)] = ranges.as_slice() else {
        return Err(single());
    };
    match statement(&text[*start..*end])? {
        Statement::Query(query) if query.locks.is_empty() => Ok(query),
        _ => Err(single()),
    }
}

fn convert(parsed: ast::Statement, sql: &str) -> Result<Statement, Error> {
    if call::is_mentioned(sql) {
        let call = match &parsed {
            ast::Statement::Query(query) => call::of_query(query)?,
            _ => None,
        };
        match call {
            Some(call) => return Ok(Statement::Call(Box::new(call))),
            None if !matches!(parsed, ast::Statement::Call(_)) => call::refuse_inside(&parsed)?,
            None => {}
        }
    }
    Ok(match parsed {
        ast::Statement::Call(function) => Statement::Call(Box::new(call::of_call(&function)?)),
        ast::Statement::Query(mut query) => match set_config(&query) {
            Some(statement) => statement,
            None => {
                if listening::is_mentioned(sql) {
                    listening::rewrite(&mut query);
                }
                Statement::Query(query)
            }
        },
        ast::Statement::Insert(ast) => Statement::Insert(Box::new(Insert {
            ast,
            overriding: None,
        })),
        ast::Statement::Update(update) => Statement::Update(Box::new(update)),
        ast::Statement::Delete(delete) => Statement::Delete(Box::new(delete)),
        ast::Statement::CreateTable(create) => Statement::CreateTable(Box::new(create)),
        ast::Statement::CreateIndex(create) => Statement::CreateIndex(Box::new(create)),
        _ => {
            let mut words = sql.split_whitespace();
            let first = words.next().unwrap_or_default().to_ascii_uppercase();
            let second = words.next().unwrap_or_default().to_ascii_uppercase();
            let name = match first.as_str() {
                "CREATE" | "GRANT" | "REVOKE" | "REFRESH" | "IMPORT" => format!("{first} {second}"),
                _ => first,
            };
            return Err(Error::unsupported(name.trim()));
        }
    })
}

/// `SELECT set_config('name', 'value', false)` changes the session: it is a SET that returns a row.
fn set_config(query: &ast::Query) -> Option<Statement> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let [ast::SelectItem::UnnamedExpr(ast::Expr::Function(function))] = select.projection.as_slice() else {
        return None;
    };
    let name = function.name.0.last()?.as_ident()?;
    if !name.value.eq_ignore_ascii_case("set_config") || !select.from.is_empty() || select.selection.is_some()
    {
        return None;
    }
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let mut values = Vec::new();
    for argument in &list.args {
        let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(value))) = argument else {
            return None;
        };
        values.push(&value.value);
    }
    match values.as_slice() {
        [
            ast::Value::SingleQuotedString(name),
            ast::Value::SingleQuotedString(value),
            ast::Value::Boolean(local),
        ] => Some(Statement::SetConfig {
            name: name.clone(),
            value: value.clone(),
            local: *local,
        }),
        _ => None,
    }
}

/// `a, b + 1, …`: the arguments of EXECUTE.
pub fn expressions(sql: &str) -> Result<Vec<ast::Expr>, Error> {
    if sql.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut parser = parser(sql)?;
    parser
        .parse_comma_separated(Parser::parse_expr)
        .map_err(|error| syntax::from_parser(error, sql))
}

/// One expression: a column's default, a COPY filter.
pub fn expression(sql: &str) -> Result<ast::Expr, Error> {
    let mut parser = parser(sql)?;
    parser
        .parse_expr()
        .map_err(|error| syntax::from_parser(error, sql))
}

/// `FOREIGN KEY (…) REFERENCES …`.
pub fn foreign_key(sql: &str) -> Result<ast::ForeignKeyConstraint, Error> {
    let mut parser = parser(sql)?;
    let parsed = parser
        .parse_optional_table_constraint()
        .map_err(|error| syntax::from_parser(error, sql))?;
    let rest = parser.peek_token().token;
    match parsed {
        Some(ast::TableConstraint::ForeignKey(key)) if rest == Token::EOF => Ok(key),
        _ => Err(Error::syntax(format!("syntax error at or near \"{rest}\""))),
    }
}

/// The types of PREPARE.
pub fn data_types(sql: &str) -> Result<Vec<ast::DataType>, Error> {
    let mut parser = parser(sql)?;
    parser
        .parse_comma_separated(Parser::parse_data_type)
        .map_err(|error| syntax::from_parser(error, sql))
}

/// There is one schema for tables, `public`; a database name before it must be ours.
pub fn check_schema(qualifiers: &[String], table: &str) -> Result<(), Error> {
    match qualifiers {
        [] => Ok(()),
        [schema] if schema == "public" => Ok(()),
        [database, schema] if database == "scry" && schema == "public" => Ok(()),
        [schema] if FutureName::is_meant(schema) => Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{schema}\" is a future, and futures cannot be written"),
        )
        .with_hint("To change what a candidate has, SET scry.candidate.")),
        [schema] if ["pg_catalog", "information_schema", "scry"].contains(&schema.as_str()) => {
            Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{table}\" is a system catalog"),
            ))
        }
        [schema] => Err(Error::new(
            SqlState::UNDEFINED_TABLE,
            format!("relation \"{schema}.{table}\" does not exist"),
        )),
        _ => Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "cross-database references are not implemented: \"{}.{table}\"",
                qualifiers.join(".")
            ),
        )),
    }
}

/// The name in an identifier.
pub use crate::expr::folded as ident;

/// A table's name; its schema must be `public` if given.
pub fn table(name: &ast::ObjectName) -> Result<String, Error> {
    let mut parts = object_parts(name)?;
    let table = parts.pop().unwrap_or_default();
    check_schema(&parts, &table)?;
    Ok(table)
}

/// The table or sequence that a text names as `regclass` reads it: with quotes where the name needs them.
pub fn relation_name(text: &str) -> Result<String, Error> {
    let mut parts = dotted(text);
    let name = parts.pop().unwrap_or_default();
    check_schema(&parts, &name)?;
    Ok(name)
}

/// The parts of a dotted name in a text.
pub fn dotted(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut part = String::new();
    let mut quoted = false;
    for c in text.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            c if quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    parts.push(part);
    parts
}

/// All parts of a dotted name.
pub fn object_parts(name: &ast::ObjectName) -> Result<Vec<String>, Error> {
    name.0
        .iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(part) => Ok(ident(part)),
            other => Err(Error::syntax(format!("syntax error at or near \"{other}\""))),
        })
        .collect()
}
