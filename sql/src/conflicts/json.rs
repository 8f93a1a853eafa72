//! Rows and keys as JSON, and back.

use crate::error::{Error, SqlState};
use crate::types::{self, InputContext, TimeZone};
use scry_engine::{ColumnDef, DataType, Datum, Key, Row, Table, Value};
use serde_json::{Map, Value as Json};

/// The member that stands for the key of a table without primary key.
const ROW_ID: &str = "scry.row";

fn value(datum: &Datum<'_>, ty: &DataType) -> Json {
    match datum {
        Datum::Bool(value) => Json::Bool(*value),
        datum => types::as_text(datum, ty, &TimeZone::utc()).map_or(Json::Null, Json::String),
    }
}

/// As the type `jsonb` holds it.
fn jsonb(members: Map<String, Json>) -> String {
    let text = Json::Object(members).to_string();
    let zone = TimeZone::utc();
    let context = InputContext { zone: &zone, now: 0 };
    match types::parse_text(&text, &DataType::Jsonb, &context) {
        Ok(Value::Jsonb(text)) => text,
        _ => text,
    }
}

pub fn row_text(table: &Table, row: &Row) -> String {
    let read = table.layout.row(row);
    let columns = table.def.live_columns();
    let members = columns.map(|(index, column)| (column.name.clone(), value(&read.get(index), &column.ty)));
    jsonb(members.collect())
}

pub fn key_text(table: &Table, key: &Key) -> String {
    let mut members = Map::new();
    match table.key_columns() {
        Some(columns) => {
            let types: Vec<DataType> = columns
                .iter()
                .map(|column| table.def.columns[*column].ty)
                .collect();
            let values = Key::decode(key.as_ref(), &types).unwrap_or_default();
            for (column, datum) in columns.iter().zip(&values) {
                let column = &table.def.columns[*column];
                members.insert(column.name.clone(), value(&datum.as_datum(), &column.ty));
            }
        }
        None => {
            let bytes = <[u8; 8]>::try_from(key.as_ref()).unwrap_or_default();
            let id = u64::from_be_bytes(bytes).to_string();
            members.insert(ROW_ID.to_owned(), Json::String(id));
        }
    }
    jsonb(members)
}

fn members(text: &str) -> Result<Map<String, Json>, Error> {
    let invalid = |detail: String| {
        Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "values must be a JSON object of columns and their values",
        )
        .with_detail(detail)
    };
    match serde_json::from_str(text) {
        Ok(Json::Object(members)) => Ok(members),
        Ok(_) => Err(invalid("It is another JSON value.".to_owned())),
        Err(error) => Err(invalid(format!("{error}."))),
    }
}

fn parse(json: &Json, column: &ColumnDef) -> Result<Value, Error> {
    let zone = TimeZone::utc();
    let context = InputContext { zone: &zone, now: 0 };
    let text = match json {
        Json::Null => return Ok(Value::Null),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    types::parse_text(&text, &column.ty, &context).map_err(|error| error.with_column(column.name.as_str()))
}

/// Sets the columns that a JSON object names.
///
/// # Errors
/// 22P02 for what is no such object, 42703 for a column that the table does not have, what the types answer.
pub fn set_members(table: &Table, row: &mut [Value], text: &str) -> Result<(), Error> {
    for (name, json) in members(text)? {
        let number = table.column(&name).ok_or_else(|| {
            Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{name}\" of relation \"{}\" does not exist",
                    table.def.name
                ),
            )
        })?;
        row[number] = parse(&json, &table.def.columns[number])?;
    }
    Ok(())
}

/// The row that `row_text` wrote. Columns that were added since have their missing values, and what it has of dropped ones is
/// passed over.
///
/// # Errors
/// As [`set_members`].
pub fn parse_row(table: &Table, text: &str) -> Result<Vec<Value>, Error> {
    let missing = |column: &ColumnDef| column.missing.clone().unwrap_or(Value::Null);
    let mut row: Vec<Value> = table.def.columns.iter().map(missing).collect();
    for (name, json) in members(text)? {
        if let Some(number) = table.column(&name) {
            row[number] = parse(&json, &table.def.columns[number])?;
        }
    }
    Ok(row)
}

/// The key that `key_text` wrote.
///
/// # Errors
/// 55000 when the table has another key by now.
pub fn parse_key(table: &Table, text: &str) -> Result<Key, Error> {
    let other = || {
        Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table \"{}\" has another key since the conflict", table.def.name),
        )
    };
    let members = members(text)?;
    let Some(columns) = table.key_columns() else {
        let id = members.get(ROW_ID).and_then(Json::as_str);
        let id: u64 = id.and_then(|id| id.parse().ok()).ok_or_else(other)?;
        return Ok(Key::from_bytes(&id.to_be_bytes()));
    };
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        let column = &table.def.columns[*column];
        let json = members.get(&column.name).ok_or_else(other)?;
        values.push(parse(json, column)?);
    }
    if values.len() != members.len() {
        return Err(other());
    }
    Ok(Key::encode(values.iter().map(Value::as_datum)))
}
