//! Values in the binary format of PostgreSQL's send and receive functions: big-endian, dates and times from
//! 2000-01-01, numeric in digits of base 10,000.

use super::datetime::{
    MICROS_PER_DAY, POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_MICROS, check_date, check_instant, check_timestamp,
};
use super::modifier::{coerce_length, fit_numeric};
use super::text_in::check_text;
use super::text_out::pad;
use super::{InputContext, json};
use crate::error::{Error, SqlState};
use bytes::BufMut;
use scry_engine::types::{DataType, Datum, Numeric, NumericError, Value};

const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_SPECIAL: u16 = 0xc000;
const BASE: u128 = 10_000;
const BASE_DIGITS: i32 = 4;

/// The version byte in front of jsonb.
const JSONB_VERSION: u8 = 1;

/// Base-10,000 digits of 38 decimal ones, in any position against the point.
const NUMERIC_DIGITS_MAX: usize = 11;

/// The binary form of a value; nothing for NULL. `ty` matters for `char(n)` alone.
pub fn write_binary(out: &mut impl BufMut, datum: &Datum<'_>, ty: &DataType) {
    match datum {
        Datum::Null => {}
        Datum::Bool(v) => out.put_u8(u8::from(*v)),
        Datum::Int2(v) => out.put_i16(*v),
        Datum::Int4(v) => out.put_i32(*v),
        Datum::Int8(v) | Datum::Time(v) => out.put_i64(*v),
        Datum::Float4(v) => out.put_f32(*v),
        Datum::Float8(v) => out.put_f64(*v),
        Datum::Numeric(v) => write_numeric(v, out),
        Datum::Text(v) => {
            out.put_slice(v.as_bytes());
            if let DataType::Char(length) = ty {
                pad(v, *length, out);
            }
        }
        Datum::Jsonb(v) => {
            out.put_u8(JSONB_VERSION);
            out.put_slice(v.as_bytes());
        }
        Datum::Bytea(v) => out.put_slice(v),
        Datum::Date(v) => out.put_i32(v - POSTGRES_EPOCH_DAYS),
        Datum::Timestamp(v) | Datum::TimestampTz(v) => out.put_i64(v - POSTGRES_EPOCH_MICROS),
        Datum::Uuid(v) => out.put_slice(v),
    }
}

fn write_numeric(number: &Numeric, out: &mut impl BufMut) {
    let scale = i32::from(number.scale());
    // Fill the last group after the point, so that the mantissa is a whole number of base-10,000 digits.
    let missing = (BASE_DIGITS - scale % BASE_DIGITS) % BASE_DIGITS;
    let groups_after_point = (scale + missing) / BASE_DIGITS;
    let mut magnitude = number.mantissa().unsigned_abs();
    let mut digits = [0u16; NUMERIC_DIGITS_MAX];
    let mut count = 0;
    if missing > 0 && magnitude != 0 {
        let unit = 10u128.pow((BASE_DIGITS - missing) as u32);
        digits[0] = (magnitude % unit * 10u128.pow(missing as u32)) as u16;
        magnitude /= unit;
        count = 1;
    }
    while magnitude != 0 {
        digits[count] = (magnitude % BASE) as u16;
        magnitude /= BASE;
        count += 1;
    }
    let weight = count as i32 - groups_after_point - 1;
    let lowest = digits[..count]
        .iter()
        .position(|digit| *digit != 0)
        .unwrap_or(count);
    let digits = &digits[lowest..count];
    out.put_u16(digits.len() as u16);
    out.put_i16(if digits.is_empty() { 0 } else { weight as i16 });
    out.put_u16(if number.is_negative() { NUMERIC_NEGATIVE } else { 0 });
    out.put_u16(number.scale().into());
    for digit in digits.iter().rev() {
        out.put_u16(*digit);
    }
}

/// A value of type `ty` from its binary form.
pub fn parse_binary(bytes: &[u8], ty: &DataType, _context: &InputContext<'_>) -> Result<Value, Error> {
    Ok(match ty {
        DataType::Bool => Value::Bool(array::<1>(bytes)?[0] != 0),
        DataType::Int2 => Value::Int2(i16::from_be_bytes(array(bytes)?)),
        DataType::Int4 => Value::Int4(i32::from_be_bytes(array(bytes)?)),
        DataType::Int8 => Value::Int8(i64::from_be_bytes(array(bytes)?)),
        DataType::Float4 => Value::Float4(f32::from_be_bytes(array(bytes)?)),
        DataType::Float8 => Value::Float8(f64::from_be_bytes(array(bytes)?)),
        DataType::Numeric(None) => Value::Numeric(read_numeric(bytes)?),
        DataType::Numeric(Some(_)) => Value::Numeric(fit_numeric(read_numeric(bytes)?, ty)?),
        DataType::Text => Value::Text(check_text(bytes)?.to_owned()),
        DataType::Varchar(_) | DataType::Char(_) => {
            return coerce_length(Value::Text(check_text(bytes)?.to_owned()), ty, false);
        }
        DataType::Bytea => Value::Bytea(bytes.to_owned()),
        DataType::Date => {
            let days = i64::from(i32::from_be_bytes(array(bytes)?)) + i64::from(POSTGRES_EPOCH_DAYS);
            Value::Date(check_date(days)?)
        }
        DataType::Time => {
            let micros = i64::from_be_bytes(array(bytes)?);
            if !(0..=MICROS_PER_DAY).contains(&micros) {
                return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "time out of range"));
            }
            Value::Time(micros)
        }
        DataType::Timestamp => Value::Timestamp(read_timestamp(bytes)?),
        DataType::TimestampTz => Value::TimestampTz(check_instant(Some(read_timestamp(bytes)?))?),
        DataType::Uuid => Value::Uuid(array(bytes)?),
        DataType::Jsonb => match bytes.split_first() {
            Some((&JSONB_VERSION, text)) => Value::Jsonb(json::normalize(check_text(text)?)?),
            Some((version, _)) => {
                return Err(Error::new(
                    SqlState::INVALID_BINARY_REPRESENTATION,
                    format!("unsupported jsonb version number {version}"),
                ));
            }
            None => return Err(incorrect()),
        },
    })
}

#[cold]
fn incorrect() -> Error {
    Error::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        "incorrect binary data format",
    )
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    if bytes.len() < N {
        return Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            "insufficient data left in message",
        ));
    }
    bytes.try_into().map_err(|_| incorrect())
}

fn read_timestamp(bytes: &[u8]) -> Result<i64, Error> {
    check_timestamp(i64::from_be_bytes(array(bytes)?).checked_add(POSTGRES_EPOCH_MICROS))
}

fn read_numeric(bytes: &[u8]) -> Result<Numeric, Error> {
    let word = |index: usize| -> Result<u16, Error> {
        let at = index * 2;
        bytes
            .get(at..at + 2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .ok_or_else(|| Error::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message"))
    };
    let count = usize::from(word(0)?);
    let weight = i32::from(word(1)? as i16);
    let sign = word(2)?;
    let scale = word(3)?;
    if sign & NUMERIC_SPECIAL == NUMERIC_SPECIAL {
        return Err(NumericError::NotFinite.into());
    }
    if sign != 0 && sign != NUMERIC_NEGATIVE {
        return Err(Error::new(
            SqlState::INVALID_BINARY_REPRESENTATION,
            "invalid sign in external \"numeric\" value",
        ));
    }
    if bytes.len() != 8 + 2 * count {
        return Err(incorrect());
    }
    // Digits beyond the shown scale are cut, as PostgreSQL does; the shown scale itself may exceed what is held.
    let held_scale = scale.min(38) as i32;
    let mut magnitude: u128 = 0;
    for index in 0..count {
        let digit = word(4 + index)?;
        if u128::from(digit) >= BASE {
            return Err(Error::new(
                SqlState::INVALID_BINARY_REPRESENTATION,
                "invalid digit in external \"numeric\" value",
            ));
        }
        // The power of ten of this group's last digit, counted from the held scale's last digit.
        let shift = (weight - index as i32) * BASE_DIGITS + held_scale;
        let digit = u128::from(digit);
        let part = match u32::try_from(shift) {
            Ok(shift) => match 10u128.checked_pow(shift) {
                Some(unit) => digit.checked_mul(unit).ok_or(NumericError::Overflow)?,
                None if digit == 0 => 0,
                None => return Err(NumericError::Overflow.into()),
            },
            Err(_) if shift > -BASE_DIGITS => digit / 10u128.pow(shift.unsigned_abs()),
            Err(_) => 0,
        };
        magnitude = magnitude.checked_add(part).ok_or(NumericError::Overflow)?;
    }
    let magnitude = i128::try_from(magnitude).map_err(|_| NumericError::Overflow)?;
    let mantissa = if sign == NUMERIC_NEGATIVE {
        -magnitude
    } else {
        magnitude
    };
    Ok(Numeric::new(mantissa, held_scale as u8)?)
}
