//! DataFusion's and Arrow's errors as PostgreSQL reports them.
//!
//! A user's mistake never becomes XX000. DataFusion keeps most of its planning errors as text, so the mapping of those
//! goes by their wording; what is not recognised keeps its text under the class that fits the phase.

use crate::error::{Error, SqlState};
use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

/// 2201B.
const INVALID_REGULAR_EXPRESSION: SqlState = SqlState(*b"2201B");

/// What the client hears of a failure in DataFusion.
pub fn from_datafusion(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => from_foreign(other.as_ref()),
        },
        DataFusionError::ArrowError(arrow, _) => from_arrow(*arrow),
        DataFusionError::Context(_, inner) => from_datafusion(*inner),
        DataFusionError::Diagnostic(_, inner) => from_datafusion(*inner),
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => from_datafusion(first),
            None => Error::new(SqlState::INTERNAL_ERROR, "the query failed without a reason"),
        },
        DataFusionError::Shared(shared) => from_shared(&shared),
        DataFusionError::SchemaError(schema, _) => from_schema(&schema),
        DataFusionError::SQL(parser, _) => {
            Error::new(SqlState::SYNTAX_ERROR, format!("syntax error: {parser}"))
        }
        DataFusionError::NotImplemented(text) => {
            Error::new(SqlState::FEATURE_NOT_SUPPORTED, first_line(&text))
        }
        DataFusionError::ResourcesExhausted(text) => Error::new(
            SqlState::OUT_OF_MEMORY,
            format!(
                "the query needs more memory than it may use: {}",
                first_line(&text)
            ),
        ),
        DataFusionError::IoError(io) => Error::new(SqlState::IO_ERROR, io.to_string()),
        DataFusionError::Plan(text) => from_text(&text, SqlState::SYNTAX_ERROR),
        DataFusionError::Configuration(text) => Error::new(SqlState::INVALID_PARAMETER_VALUE, text),
        DataFusionError::Execution(text) => from_text(&text, SqlState::INVALID_PARAMETER_VALUE),
        DataFusionError::ExecutionJoin(join) => Error::new(
            SqlState::INTERNAL_ERROR,
            format!("a worker of the query failed: {join}"),
        ),
        other => from_text(&other.strip_backtrace(), SqlState::INTERNAL_ERROR),
    }
}

/// Several readers of one failed input share its error; only its text and kind can be taken.
fn from_shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => Error::new(own.code, own.message.clone()),
            None => from_foreign(inner.as_ref()),
        },
        DataFusionError::ArrowError(arrow, _) => from_arrow_text(arrow),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_shared(inner),
        DataFusionError::Shared(inner) => from_shared(inner),
        DataFusionError::SchemaError(schema, _) => from_schema(schema),
        DataFusionError::NotImplemented(text) => {
            Error::new(SqlState::FEATURE_NOT_SUPPORTED, first_line(text))
        }
        DataFusionError::ResourcesExhausted(text) => Error::new(SqlState::OUT_OF_MEMORY, first_line(text)),
        DataFusionError::Plan(text) => from_text(text, SqlState::SYNTAX_ERROR),
        DataFusionError::Execution(text) => from_text(text, SqlState::INVALID_PARAMETER_VALUE),
        other => from_text(&other.strip_backtrace(), SqlState::INTERNAL_ERROR),
    }
}

fn from_foreign(error: &(dyn std::error::Error + 'static)) -> Error {
    if let Some(arrow) = error.downcast_ref::<ArrowError>() {
        return from_arrow_text(arrow);
    }
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        return from_shared(inner);
    }
    Error::new(SqlState::INTERNAL_ERROR, error.to_string())
}

/// What the client hears of a failure in an Arrow kernel.
pub fn from_arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => match other.downcast::<DataFusionError>() {
                Ok(inner) => from_datafusion(*inner),
                Err(other) => Error::new(SqlState::INTERNAL_ERROR, other.to_string()),
            },
        },
        other => from_arrow_text(&other),
    }
}

fn from_arrow_text(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => out_of_range("integer"),
        ArrowError::CastError(text) | ArrowError::ParseError(text) => from_cast(text),
        ArrowError::NotYetImplemented(text) => Error::new(SqlState::FEATURE_NOT_SUPPORTED, text.clone()),
        ArrowError::MemoryError(text) => Error::new(SqlState::OUT_OF_MEMORY, text.clone()),
        ArrowError::ExternalError(inner) => from_foreign(inner.as_ref()),
        ArrowError::IoError(text, _) => Error::new(SqlState::IO_ERROR, text.clone()),
        ArrowError::InvalidArgumentError(text) if text.contains("too large to store") => {
            out_of_range("numeric")
        }
        ArrowError::InvalidArgumentError(text) | ArrowError::ComputeError(text) => {
            from_text(text, SqlState::INVALID_PARAMETER_VALUE)
        }
        other => Error::new(SqlState::INTERNAL_ERROR, other.to_string()),
    }
}

fn out_of_range(what: &str) -> Error {
    let message = match what {
        "numeric" => "numeric field overflow".to_owned(),
        other => format!("{other} out of range"),
    };
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

/// The PostgreSQL name of an Arrow type as Arrow's messages print it.
fn sql_type(arrow: &str) -> &'static str {
    match arrow.trim() {
        "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Boolean" | "bool" => "boolean",
        "Date32" | "Date64" => "date",
        text if text.starts_with("Timestamp") => "timestamp",
        text if text.starts_with("Time") => "time",
        text if text.starts_with("Interval") => "interval",
        _ => "numeric",
    }
}

/// A value that does not convert.
fn from_cast(text: &str) -> Error {
    if let Some((value, target)) = text
        .strip_prefix("Cannot cast string '")
        .and_then(|rest| rest.split_once("' to value of "))
    {
        return invalid_input(sql_type(target.trim_end_matches(" type")), value);
    }
    if text.contains("Error parsing timestamp") || text.contains("date") {
        return Error::new(SqlState::INVALID_DATETIME_FORMAT, text.to_owned());
    }
    if text.contains("Can't cast value") || text.contains("overflow") || text.contains("too large") {
        return Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, text.to_owned());
    }
    Error::new(SqlState::INVALID_TEXT_REPRESENTATION, text.to_owned())
}

/// `invalid input syntax for type …`, under the state that the type has for it.
pub fn invalid_input(sql_type: &str, value: &str) -> Error {
    let state = match sql_type {
        "date" | "interval" => SqlState::INVALID_DATETIME_FORMAT,
        name if name.starts_with("time") => SqlState::INVALID_DATETIME_FORMAT,
        _ => SqlState::INVALID_TEXT_REPRESENTATION,
    };
    Error::new(
        state,
        format!("invalid input syntax for type {sql_type}: \"{value}\""),
    )
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, .. } => match &field.relation {
            Some(relation) => Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column {}.{} does not exist", relation.table(), field.name),
            ),
            None => Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{}\" does not exist", field.name),
            ),
        },
        SchemaError::AmbiguousReference { field } => Error::new(
            SqlState::AMBIGUOUS_COLUMN,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { qualifier, name } => Error::new(
            SqlState::DUPLICATE_ALIAS,
            format!(
                "table name \"{}\" specified more than once (column \"{name}\")",
                qualifier.table()
            ),
        ),
        SchemaError::DuplicateUnqualifiedField { name } => Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{name}\" specified more than once"),
        ),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The quoted word after `before`.
fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    rest.split('\'').next()
}

/// Errors that DataFusion keeps as text.
fn from_text(text: &str, otherwise: SqlState) -> Error {
    if let Some(name) = quoted(text, "Invalid function '") {
        return Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {name} does not exist"),
        );
    }
    if let Some(name) = quoted(text, "table function '") {
        return Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {name} does not exist"),
        );
    }
    let line = first_line(text);
    let contains = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if contains(&["Divide by zero", "division by zero"]) {
        return Error::new(SqlState::DIVISION_BY_ZERO, "division by zero");
    }
    if contains(&[
        "must appear in the GROUP BY clause",
        "must be in the GROUP BY",
        "Projection references non-aggregate",
    ]) {
        return Error::new(SqlState::GROUPING_ERROR, line);
    }
    if contains(&[
        "No function matches the given name and argument types",
        "does not support",
        "coercion from",
    ]) && contains(&["function", "Function", "'"])
    {
        return Error::new(SqlState::UNDEFINED_FUNCTION, line);
    }
    if contains(&[
        "Cannot infer common argument type",
        "Cannot coerce",
        "common type",
        "can't be evaluated because there isn't a common type",
    ]) {
        return Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("operator does not exist: {line}"),
        );
    }
    if contains(&[
        "Projections require unique expression names",
        "duplicate expression name",
    ]) {
        return Error::new(SqlState::DUPLICATE_COLUMN, line);
    }
    if contains(&["same number of columns", "number of columns"]) {
        return Error::new(SqlState::SYNTAX_ERROR, line);
    }
    if contains(&["more than one row", "returned more than one"]) {
        return Error::new(
            SqlState::CARDINALITY_VIOLATION,
            "more than one row returned by a subquery used as an expression",
        );
    }
    if contains(&["Regular expression", "regex parse error", "regular expression"]) {
        return Error::new(
            INVALID_REGULAR_EXPRESSION,
            format!("invalid regular expression: {line}"),
        );
    }
    if contains(&[
        "Cannot create filter with non-boolean",
        "Filter predicate",
        "boolean",
        "data type",
        "Data type",
    ]) {
        return Error::new(SqlState::DATATYPE_MISMATCH, line);
    }
    if contains(&["Overflow", "overflow", "out of range"]) {
        return Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, line);
    }
    if contains(&[
        "Unsupported",
        "not supported",
        "unsupported",
        "not implemented",
        "Physical plan does not support",
    ]) {
        return Error::new(SqlState::FEATURE_NOT_SUPPORTED, line);
    }
    Error::new(otherwise, line)
}

/// Carries an error of ours through DataFusion.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
