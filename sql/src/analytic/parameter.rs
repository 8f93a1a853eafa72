//! Values between the session and DataFusion: bound parameters in, result rows out.

use super::error::invalid_input;
use super::types::{self, oid};
use crate::error::{Error, SqlState};
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use scry_engine::{Numeric, Value};
use std::sync::Arc;

/// A value of the session's as the parameter of type `type_oid` that the plan wants.
///
/// # Errors
/// When the type is not supported or the value is not of it.
pub fn scalar_value(type_oid: u32, value: &Value) -> Result<ScalarValue, Error> {
    let field = types::parameter_field(type_oid).ok_or_else(|| unsupported(type_oid))?;
    let scalar = match value {
        Value::Null => ScalarValue::try_from(field.data_type()).map_err(super::from_datafusion)?,
        Value::Bool(v) => ScalarValue::Boolean(Some(*v)),
        Value::Int2(v) => ScalarValue::Int16(Some(*v)),
        Value::Int4(v) => ScalarValue::Int32(Some(*v)),
        Value::Int8(v) => ScalarValue::Int64(Some(*v)),
        Value::Float4(v) => ScalarValue::Float32(Some(*v)),
        Value::Float8(v) => ScalarValue::Float64(Some(*v)),
        Value::Numeric(v) => ScalarValue::Decimal128(Some(v.mantissa()), 38, v.scale().cast_signed()),
        Value::Text(v) | Value::Jsonb(v) => ScalarValue::Utf8(Some(v.clone())),
        Value::Bytea(v) => ScalarValue::Binary(Some(v.clone())),
        Value::Date(v) => ScalarValue::Date32(Some(*v)),
        Value::Time(v) => ScalarValue::Time64Microsecond(Some(*v)),
        Value::Timestamp(v) => ScalarValue::TimestampMicrosecond(Some(*v), None),
        Value::TimestampTz(v) => ScalarValue::TimestampMicrosecond(Some(*v), Some("UTC".into())),
        Value::Uuid(v) => ScalarValue::Utf8(Some(uuid_text(v))),
    };
    if scalar.data_type() == *field.data_type() {
        return Ok(scalar);
    }
    scalar.cast_to(field.data_type()).map_err(super::from_datafusion)
}

fn unsupported(type_oid: u32) -> Error {
    let message = format!("parameters of the type with oid {type_oid} are not supported");
    Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A parameter as Bind brings it, for the types that the session has no values of: arrays, intervals, and
/// whatever is given as text. `format` is 0 for text, 1 for binary.
///
/// # Errors
/// When the bytes do not read as the type, or the type is not supported in that format.
pub fn parameter(type_oid: u32, format: i16, bytes: Option<&[u8]>) -> Result<ScalarValue, Error> {
    let field = types::parameter_field(type_oid).ok_or_else(|| unsupported(type_oid))?;
    let target = field.data_type();
    let Some(bytes) = bytes else {
        return ScalarValue::try_from(target).map_err(super::from_datafusion);
    };
    if let Some(element) = types::element_oid(type_oid) {
        let items = if format == 1 {
            binary_items(element, bytes)?
        } else {
            text_items(element, bytes)?
        };
        let item_type = types::parameter_field(element).ok_or_else(|| unsupported(element))?;
        return Ok(ScalarValue::List(ScalarValue::new_list_nullable(
            &items,
            item_type.data_type(),
        )));
    }
    if format == 1 {
        return binary_scalar(type_oid, bytes);
    }
    text_scalar(type_oid, utf8(bytes)?, target)
}

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| {
        Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\"",
        )
    })
}

fn text_scalar(type_oid: u32, text: &str, target: &DataType) -> Result<ScalarValue, Error> {
    let whole = || ScalarValue::Utf8(Some(text.to_owned()));
    match target {
        DataType::Utf8 => Ok(whole()),
        DataType::Binary => {
            let digits = text
                .strip_prefix("\\x")
                .ok_or_else(|| invalid_input("bytea", text))?;
            let pairs = digits.as_bytes().chunks(2);
            let bytes: Option<Vec<u8>> = pairs
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect();
            bytes
                .map(|bytes| ScalarValue::Binary(Some(bytes)))
                .ok_or_else(|| invalid_input("bytea", text))
        }
        other => whole()
            .cast_to(other)
            .map_err(|_| invalid_input(field_name(type_oid), text)),
    }
}

/// The type's name in messages.
fn field_name(type_oid: u32) -> &'static str {
    match type_oid {
        oid::BOOL => "boolean",
        oid::INT2 => "smallint",
        oid::INT4 => "integer",
        oid::INT8 => "bigint",
        oid::OID => "oid",
        oid::FLOAT4 => "real",
        oid::FLOAT8 => "double precision",
        oid::NUMERIC => "numeric",
        oid::DATE => "date",
        oid::TIME => "time",
        oid::TIMESTAMP => "timestamp",
        oid::TIMESTAMPTZ => "timestamp with time zone",
        oid::INTERVAL => "interval",
        _ => "text",
    }
}

fn malformed() -> Error {
    Error::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        "incorrect binary data format in bind parameter",
    )
}

fn binary_scalar(type_oid: u32, bytes: &[u8]) -> Result<ScalarValue, Error> {
    fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
        bytes.try_into().map_err(|_| malformed())
    }
    Ok(match type_oid {
        oid::BOOL => ScalarValue::Boolean(Some(fixed::<1>(bytes)?[0] != 0)),
        oid::INT2 => ScalarValue::Int16(Some(i16::from_be_bytes(fixed(bytes)?))),
        oid::INT4 => ScalarValue::Int32(Some(i32::from_be_bytes(fixed(bytes)?))),
        oid::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(fixed(bytes)?))),
        oid::OID => ScalarValue::Int64(Some(i64::from(u32::from_be_bytes(fixed(bytes)?)))),
        oid::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(fixed(bytes)?))),
        oid::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(fixed(bytes)?))),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR | oid::UNKNOWN | oid::JSON => {
            ScalarValue::Utf8(Some(utf8(bytes)?.to_owned()))
        }
        oid::UUID => ScalarValue::Utf8(Some(uuid_text(&fixed(bytes)?))),
        _ => {
            let message = format!("binary parameters of the type with oid {type_oid} are not supported");
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
    })
}

/// `{1,NULL,"a b"}` as an array of `item`s, whose oid is `element`.
pub fn array_literal(element: u32, item: &DataType, text: &str) -> Result<ScalarValue, Error> {
    let items = text_items(element, text.as_bytes())?;
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&items, item)))
}

/// The items of `{1,NULL,"a b"}`.
fn text_items(element: u32, bytes: &[u8]) -> Result<Vec<ScalarValue>, Error> {
    let field = types::parameter_field(element).ok_or_else(|| unsupported(element))?;
    let text = utf8(bytes)?.trim();
    let malformed = || {
        Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("malformed array literal: \"{text}\""),
        )
    };
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or_else(malformed)?;
    let mut items = Vec::new();
    let mut characters = inner.chars().peekable();
    while characters.peek().is_some() {
        let mut item = String::new();
        let mut quoted = false;
        while let Some(&next) = characters.peek() {
            match next {
                ',' => break,
                '{' | '}' => return Err(malformed()),
                '"' => {
                    quoted = true;
                    characters.next();
                    loop {
                        match characters.next().ok_or_else(malformed)? {
                            '"' => break,
                            '\\' => item.push(characters.next().ok_or_else(malformed)?),
                            other => item.push(other),
                        }
                    }
                }
                other => {
                    item.push(other);
                    characters.next();
                }
            }
        }
        let null = !quoted && item.trim().eq_ignore_ascii_case("null");
        items.push(if null {
            ScalarValue::try_from(field.data_type()).map_err(super::from_datafusion)?
        } else {
            text_scalar(
                element,
                if quoted { &item } else { item.trim() },
                field.data_type(),
            )?
        });
        if characters.next().is_some() && characters.peek().is_none() {
            return Err(malformed());
        }
    }
    Ok(items)
}

/// The items of a one-dimensional array in binary.
fn binary_items(element: u32, bytes: &[u8]) -> Result<Vec<ScalarValue>, Error> {
    let mut rest = bytes;
    let mut word = || {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        rest = tail;
        Ok::<i32, Error>(i32::from_be_bytes(*head))
    };
    let dimensions = word()?;
    let (_nulls, sent_element) = (word()?, word()?);
    if dimensions == 0 {
        return Ok(Vec::new());
    }
    if dimensions != 1 || sent_element.cast_unsigned() != element {
        return Err(malformed());
    }
    let (count, _lower) = (word()?, word()?);
    let count = usize::try_from(count).map_err(|_| malformed())?;
    // The count is the client's word only; the bytes bound what is read.
    let mut items = Vec::with_capacity(count.min(bytes.len() / 4));
    let field = types::parameter_field(element).ok_or_else(|| unsupported(element))?;
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        match usize::try_from(i32::from_be_bytes(*head)) {
            Err(_) => {
                rest = tail;
                items.push(ScalarValue::try_from(field.data_type()).map_err(super::from_datafusion)?);
            }
            Ok(length) => {
                let value = tail.get(..length).ok_or_else(malformed)?;
                rest = &tail[length..];
                items.push(binary_scalar(element, value)?);
            }
        }
    }
    Ok(items)
}

/// One row of a batch as engine values, for INSERT … SELECT. Types that no column can have come as their text.
///
/// # Errors
/// When a value is outside of what the engine can hold.
pub fn row_values(batch: &RecordBatch, row: usize) -> Result<Vec<Value>, Error> {
    batch.columns().iter().map(|array| value(array, row)).collect()
}

fn value(array: &Arc<dyn Array>, row: usize) -> Result<Value, Error> {
    if array.is_null(row) || *array.data_type() == DataType::Null {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int16 => Value::Int2(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => Value::Int4(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Value::Int8(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Value::Float4(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Value::Float8(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => {
            let mantissa = array.as_primitive::<Decimal128Type>().value(row);
            let scale = u8::try_from(*scale).map_err(|_| out_of_range())?;
            Value::Numeric(Numeric::new(mantissa, scale).map_err(|_| out_of_range())?)
        }
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Utf8View => Value::Text(array.as_string_view().value(row).to_owned()),
        DataType::Binary => Value::Bytea(array.as_binary::<i32>().value(row).to_vec()),
        DataType::Date32 => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Time64(TimeUnit::Microsecond) => {
            Value::Time(array.as_primitive::<Time64MicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            Value::TimestampTz(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        _ => {
            let scalar = ScalarValue::try_from_array(array, row).map_err(super::from_datafusion)?;
            match scalar.cast_to(&DataType::Utf8).map_err(super::from_datafusion)? {
                ScalarValue::Utf8(Some(text)) => Value::Text(text),
                _ => Value::Null,
            }
        }
    })
}

fn out_of_range() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_literals_keep_quotes_nulls_and_escapes_apart() {
        let items = text_items(oid::TEXT, br#"{a, NULL,"NULL","b\"c,d"}"#).expect("well formed");
        let texts: Vec<Option<String>> = items
            .into_iter()
            .map(|item| match item {
                ScalarValue::Utf8(text) => text,
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [Some("a"), None, Some("NULL"), Some("b\"c,d")];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
        assert!(text_items(oid::INT4, b"{1,}").is_err());
        assert!(text_items(oid::INT4, b"{1").is_err());
        assert!(text_items(oid::INT4, b"{x}").is_err());
    }

    #[test]
    fn truncated_binary_arrays_are_refused() {
        let mut bytes = Vec::new();
        for word in [1, 0, oid::INT4 as i32, 2, 1, 4, 7] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        assert!(binary_items(oid::INT4, &bytes).is_err());
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        let items = binary_items(oid::INT4, &bytes).expect("complete");
        assert_eq!(items, [ScalarValue::Int32(Some(7)), ScalarValue::Int32(None)]);
    }
}
