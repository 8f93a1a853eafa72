//! Values between the session and DataFusion: bound parameters in, result rows out.

use super::types::{self, oid};
use crate::error::{Error, SqlState};
use crate::expr::Interval;
use crate::types::{InputContext, TimeZone};
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
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

pub fn uuid_text(bytes: &[u8; 16]) -> String {
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
pub fn parameter(
    type_oid: u32,
    format: i16,
    bytes: Option<&[u8]>,
    context: &InputContext<'_>,
) -> Result<ScalarValue, Error> {
    let field = types::parameter_field(type_oid).ok_or_else(|| unsupported(type_oid))?;
    let target = field.data_type();
    let Some(bytes) = bytes else {
        return ScalarValue::try_from(target).map_err(super::from_datafusion);
    };
    if let Some(element) = types::element_oid(type_oid) {
        let items = if format == 1 {
            binary_items(element, bytes, context)?
        } else {
            text_items(element, utf8(bytes)?, context)?
        };
        let item_type = types::parameter_field(element).ok_or_else(|| unsupported(element))?;
        return Ok(ScalarValue::List(ScalarValue::new_list_nullable(
            &items,
            item_type.data_type(),
        )));
    }
    if format == 1 {
        return binary_scalar(type_oid, bytes, context);
    }
    text_scalar(type_oid, utf8(bytes)?, context)
}

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| {
        Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\"",
        )
    })
}

/// A value of a type that the session knows, or an interval, from its text.
fn text_scalar(type_oid: u32, text: &str, context: &InputContext<'_>) -> Result<ScalarValue, Error> {
    if type_oid == oid::INTERVAL {
        let interval = Interval::parse(text, None)?;
        return Ok(interval_scalar(interval));
    }
    scalar_value(
        type_oid,
        &crate::types::parse_text(text, &session_type(type_oid)?, context)?,
    )
}

/// The type in which the session reads values of a type.
fn session_type(type_oid: u32) -> Result<scry_engine::DataType, Error> {
    match type_oid {
        oid::CHAR | oid::UNKNOWN => Ok(scry_engine::DataType::Text),
        oid::XID => Ok(scry_engine::DataType::Int8),
        other => crate::types::from_oid(other, -1).ok_or_else(|| unsupported(other)),
    }
}

fn interval_scalar(interval: Interval) -> ScalarValue {
    ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano {
        months: interval.months,
        days: interval.days,
        nanoseconds: interval.micros.saturating_mul(1_000),
    }))
}

fn malformed() -> Error {
    Error::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        "incorrect binary data format in bind parameter",
    )
}

fn binary_scalar(type_oid: u32, bytes: &[u8], context: &InputContext<'_>) -> Result<ScalarValue, Error> {
    if type_oid == oid::INTERVAL {
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| malformed())?;
        let number = |at: usize| i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let micros = i64::from(number(0)) << 32 | i64::from(number(4).cast_unsigned());
        return Ok(interval_scalar(Interval {
            months: number(12),
            days: number(8),
            micros,
        }));
    }
    scalar_value(
        type_oid,
        &crate::types::parse_binary(bytes, &session_type(type_oid)?, context)?,
    )
}

/// `{1,NULL,"a b"}` as an array of `item`s, whose oid is `element`.
pub fn array_literal(element: u32, item: &DataType, text: &str) -> Result<ScalarValue, Error> {
    let context = InputContext {
        zone: &TimeZone::utc(),
        now: 0,
    };
    let items = text_items(element, text, &context)?;
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&items, item)))
}

/// The items of `{1,NULL,"a b"}`, each of type `element`.
fn text_items(element: u32, text: &str, context: &InputContext<'_>) -> Result<Vec<ScalarValue>, Error> {
    let field = types::parameter_field(element).ok_or_else(|| unsupported(element))?;
    array_texts(text)?
        .iter()
        .map(|item| match item {
            Some(text) => text_scalar(element, text, context),
            None => ScalarValue::try_from(field.data_type()).map_err(super::from_datafusion),
        })
        .collect()
}

/// The texts of the items of `{1,NULL,"a b"}`; `None` is NULL.
pub fn array_texts(text: &str) -> Result<Vec<Option<String>>, Error> {
    let text = text.trim();
    let malformed = || {
        Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("malformed array literal: \"{text}\""),
        )
    };
    if text.starts_with('{') && !text.ends_with('}') {
        return Err(malformed().with_detail("Unexpected end of input."));
    }
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
            None
        } else if quoted {
            Some(item)
        } else {
            Some(item.trim().to_owned())
        });
        if characters.next().is_some() && characters.peek().is_none() {
            return Err(malformed());
        }
    }
    Ok(items)
}

/// The items of a one-dimensional array in binary.
fn binary_items(element: u32, bytes: &[u8], context: &InputContext<'_>) -> Result<Vec<ScalarValue>, Error> {
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
                items.push(binary_scalar(element, value, context)?);
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
        let texts = array_texts(r#"{a, NULL,"NULL","b\"c,d"}"#).expect("well formed");
        let expected = [Some("a"), None, Some("NULL"), Some("b\"c,d")];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
        let items = |text: &str| array_literal(oid::INT4, &DataType::Int32, text);
        assert!(items("{1,}").is_err());
        assert!(items("{1").is_err());
        assert!(items("{x}").is_err());
        assert!(items("{1}").is_ok());
    }

    #[test]
    fn truncated_binary_arrays_are_refused() {
        let mut bytes = Vec::new();
        for word in [1, 0, oid::INT4 as i32, 2, 1, 4, 7] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        let zone = TimeZone::utc();
        let context = InputContext { zone: &zone, now: 0 };
        assert!(binary_items(oid::INT4, &bytes, &context).is_err());
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        let items = binary_items(oid::INT4, &bytes, &context).expect("complete");
        assert_eq!(items, [ScalarValue::Int32(Some(7)), ScalarValue::Int32(None)]);
    }
}
