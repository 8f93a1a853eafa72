//! Values from text, with PostgreSQL's errors for what is none.

use super::modifier::{coerce_length, fit_numeric};
use super::{InputContext, datetime_parse, json};
use crate::error::{Error, SqlState};
use scry_engine::types::{DataType, Numeric, NumericError, Value};

/// A value of type `ty` from bytes of a client.
pub fn parse_text_bytes(bytes: &[u8], ty: &DataType, context: &InputContext<'_>) -> Result<Value, Error> {
    parse_text(check_text(bytes)?, ty, context)
}

/// Bytes of a client as text: valid UTF-8 without NUL (22021).
pub fn check_text(bytes: &[u8]) -> Result<&str, Error> {
    let invalid = |sequence: &[u8]| {
        let shown = sequence
            .iter()
            .map(|byte| format!("0x{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ");
        Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding \"UTF8\": {shown}"),
        )
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let rest = &bytes[error.valid_up_to()..];
        let expected = match rest.first() {
            Some(0xc0..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf7) => 4,
            _ => 1,
        };
        invalid(&rest[..expected.min(rest.len())])
    })?;
    if bytes.contains(&0) {
        Err(invalid(&[0]))
    } else {
        Ok(text)
    }
}

/// A value of type `ty` from its text, as the type's input function reads it; `text` holds no NUL.
pub fn parse_text(text: &str, ty: &DataType, context: &InputContext<'_>) -> Result<Value, Error> {
    Ok(match ty {
        DataType::Int4 => Value::Int4(parse_integer(text, ty)?),
        DataType::Int8 => Value::Int8(parse_integer(text, ty)?),
        DataType::Int2 => Value::Int2(parse_integer(text, ty)?),
        DataType::Text => Value::Text(text.to_owned()),
        DataType::Varchar(_) | DataType::Char(_) => {
            return coerce_length(Value::Text(text.to_owned()), ty, false);
        }
        DataType::Bool => Value::Bool(parse_bool(text).ok_or_else(|| invalid(text, ty))?),
        DataType::Float4 => Value::Float4(parse_float4(text)?),
        DataType::Float8 => Value::Float8(parse_float8(text)?),
        DataType::Numeric(_) => Value::Numeric(parse_numeric(text, ty)?),
        DataType::Bytea => Value::Bytea(parse_bytea(text)?),
        DataType::Date => Value::Date(datetime_parse::parse_date(text, context)?),
        DataType::Time => Value::Time(datetime_parse::parse_time(text, context)?),
        DataType::Timestamp => Value::Timestamp(datetime_parse::parse_timestamp(text, context)?),
        DataType::TimestampTz => Value::TimestampTz(datetime_parse::parse_timestamptz(text, context)?),
        DataType::Uuid => Value::Uuid(parse_uuid(text).ok_or_else(|| invalid(text, ty))?),
        DataType::Jsonb => Value::Jsonb(json::normalize(text)?),
    })
}

fn trim(text: &str) -> &str {
    // The blanks of C's isspace.
    text.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}'])
}

#[cold]
fn invalid(text: &str, ty: &DataType) -> Error {
    let name = ty.without_modifier();
    Error::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {name}: \"{text}\""),
    )
}

#[cold]
fn out_of_range(text: &str, ty: &DataType) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {ty}"),
    )
}

fn parse_integer<T: TryFrom<i64>>(text: &str, ty: &DataType) -> Result<T, Error> {
    let trimmed = trim(text).as_bytes();
    let (negative, digits) = match trimmed.first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid(text, ty));
    }
    let mut value: i64 = 0;
    for digit in digits {
        let digit = i64::from(digit - b'0');
        value = value
            .checked_mul(10)
            .and_then(|tens| {
                if negative {
                    tens.checked_sub(digit)
                } else {
                    tens.checked_add(digit)
                }
            })
            .ok_or_else(|| out_of_range(text, ty))?;
    }
    T::try_from(value).map_err(|_| out_of_range(text, ty))
}

fn parse_bool(text: &str) -> Option<bool> {
    let lower = trim(text).to_ascii_lowercase();
    // Any beginning of a word that means one thing.
    let begins = |word: &str| !lower.is_empty() && word.starts_with(&lower);
    match lower.as_str() {
        "1" => Some(true),
        "0" => Some(false),
        "o" => None,
        _ if begins("true") || begins("yes") || lower == "on" => Some(true),
        _ if begins("false") || begins("no") || begins("off") => Some(false),
        _ => None,
    }
}

fn parse_float8(text: &str) -> Result<f64, Error> {
    let trimmed = trim(text);
    let value: f64 = trimmed.parse().map_err(|_| invalid(text, &DataType::Float8))?;
    if float_lost(value, trimmed) {
        return Err(float_out_of_range(trimmed, &DataType::Float8));
    }
    Ok(value)
}

fn parse_float4(text: &str) -> Result<f32, Error> {
    let trimmed = trim(text);
    let value: f32 = trimmed.parse().map_err(|_| invalid(text, &DataType::Float4))?;
    if float_lost(f64::from(value), trimmed) {
        return Err(float_out_of_range(trimmed, &DataType::Float4));
    }
    Ok(value)
}

fn float_out_of_range(text: &str, ty: &DataType) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("\"{text}\" is out of range for type {ty}"),
    )
}

/// Whether reading made an infinity or a zero of a number that is neither.
fn float_lost(value: f64, text: &str) -> bool {
    if value.is_infinite() {
        return text.bytes().any(|byte| byte.is_ascii_digit());
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    value == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}

fn parse_numeric(text: &str, ty: &DataType) -> Result<Numeric, Error> {
    match Numeric::parse(trim(text)) {
        // Without precision the scale as written stays, for it is shown; a column then stores what it can.
        Ok(number) if *ty == DataType::Numeric(None) => Ok(number),
        Ok(number) => fit_numeric(number, ty),
        Err(NumericError::Syntax) => Err(invalid(text, ty)),
        Err(other) => Err(other.into()),
    }
}

fn parse_bytea(text: &str) -> Result<Vec<u8>, Error> {
    let Some(hex) = text.strip_prefix("\\x") else {
        return parse_escaped_bytea(text);
    };
    let mut bytes = Vec::with_capacity(hex.len() / 2);
    let mut high = None;
    for character in hex.chars() {
        if high.is_none() && matches!(character, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let digit = character.to_digit(16).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid hexadecimal digit: \"{character}\""),
            )
        })? as u8;
        match high.take() {
            None => high = Some(digit),
            Some(first) => bytes.push(first << 4 | digit),
        }
    }
    if high.is_some() {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "invalid hexadecimal data: odd number of digits",
        ));
    }
    Ok(bytes)
}

fn parse_escaped_bytea(text: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                return Err(Error::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
        }
    }
    Ok(bytes)
}

/// Thirty-two hex digits, with braces around and hyphens after every fourth digit where one likes.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut uuid = [0u8; 16];
    let mut rest = inner.as_bytes();
    for (index, byte) in uuid.iter_mut().enumerate() {
        let [high, low, after @ ..] = rest else {
            return None;
        };
        let digit = |hex: u8| (hex as char).to_digit(16).map(|digit| digit as u8);
        *byte = digit(*high)? << 4 | digit(*low)?;
        rest = after;
        if index % 2 == 1 && index < 15 && rest.first() == Some(&b'-') {
            rest = &rest[1..];
        }
    }
    rest.is_empty().then_some(uuid)
}
