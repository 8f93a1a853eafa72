//! Casts of values, and exact conversion of operands to key columns.

use super::arithmetic::{check_float, out_of_range};
use super::{Evaluated, Facts};
use crate::error::{Error, SqlState};
use crate::types::datetime::{MICROS_PER_DAY, check_instant, check_timestamp, split_timestamp};
use crate::types::{self, InputContext};
use scry_engine::types::{DataType, Datum, Numeric, NumericError, Value};

/// Digits that PostgreSQL keeps of a float that becomes numeric.
const FLOAT8_DIGITS: usize = 15;
const FLOAT4_DIGITS: usize = 6;

/// How a value that is compared with a column of some type looks in that type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyDatum<'a> {
    /// The same value in the column's type.
    Exact(Datum<'a>),
    /// Below or above everything that the type holds: equal to nothing.
    Below,
    Above,
}

/// The value in the type of a key column. Integers alone may be of another type than the column's; every other
/// operand of a comparison was given the column's type when it was bound.
pub fn key_datum<'a>(datum: Datum<'a>, ty: &DataType) -> KeyDatum<'a> {
    let Some(value) = datum.integer() else {
        return KeyDatum::Exact(datum);
    };
    let exact = match ty {
        DataType::Int2 => i16::try_from(value).ok().map(Datum::Int2),
        DataType::Int4 => i32::try_from(value).ok().map(Datum::Int4),
        DataType::Int8 => Some(Datum::Int8(value)),
        _ => Some(datum),
    };
    match exact {
        Some(datum) => KeyDatum::Exact(datum),
        None if value < 0 => KeyDatum::Below,
        None => KeyDatum::Above,
    }
}

/// `value` as one of type `to`. An assignment (not `explicit`) refuses text that is too long.
pub(super) fn cast<'a>(
    value: Evaluated<'a>,
    to: &DataType,
    explicit: bool,
    facts: &Facts<'_>,
) -> Result<Evaluated<'a>, Error> {
    let context = InputContext {
        zone: facts.zone,
        now: facts.transaction_start,
    };
    let datum = value.datum();
    if datum.is_null() {
        return Ok(Evaluated::NULL);
    }
    let made = match (to, datum) {
        (DataType::Int4, Datum::Int4(_))
        | (DataType::Int8, Datum::Int8(_))
        | (DataType::Int2, Datum::Int2(_)) => {
            return Ok(value);
        }
        (DataType::Text | DataType::Varchar(None), Datum::Text(_)) => return Ok(value),
        (DataType::Varchar(Some(length)), Datum::Text(text)) if text.len() <= *length as usize => {
            return Ok(value);
        }
        (DataType::Varchar(_) | DataType::Char(_), Datum::Text(_)) => {
            return types::coerce_length(value.into_value(), to, explicit).map(Evaluated::Owned);
        }
        (DataType::Numeric(_), Datum::Numeric(number)) => fit(number, to, explicit)?,
        (DataType::Int2 | DataType::Int4 | DataType::Int8, _) if !matches!(datum, Datum::Text(_)) => {
            to_integer(datum, to)?
        }
        (DataType::Float4 | DataType::Float8, _) if !matches!(datum, Datum::Text(_)) => to_float(datum, to)?,
        (DataType::Numeric(_), _) if !matches!(datum, Datum::Text(_)) => {
            fit(to_numeric(datum)?, to, explicit)?
        }
        (DataType::Text | DataType::Varchar(_) | DataType::Char(_), _) => {
            let text = Value::Text(to_text(&datum, facts));
            types::coerce_length(text, to, explicit)?
        }
        (DataType::Bool, Datum::Int4(number)) => Value::Bool(number != 0),
        (DataType::Date, Datum::Timestamp(micros)) => Value::Date(split_timestamp(micros).0),
        (DataType::Date, Datum::TimestampTz(instant)) => {
            Value::Date(split_timestamp(facts.zone.to_local(instant)).0)
        }
        (DataType::Time, Datum::Timestamp(micros)) => Value::Time(split_timestamp(micros).1),
        (DataType::Time, Datum::TimestampTz(instant)) => {
            Value::Time(split_timestamp(facts.zone.to_local(instant)).1)
        }
        (DataType::Timestamp, Datum::Date(days)) => Value::Timestamp(i64::from(days) * MICROS_PER_DAY),
        (DataType::Timestamp, Datum::TimestampTz(instant)) => {
            Value::Timestamp(check_timestamp(Some(facts.zone.to_local(instant)))?)
        }
        (DataType::TimestampTz, Datum::Date(days)) => {
            let local = i64::from(days) * MICROS_PER_DAY;
            Value::TimestampTz(check_instant(Some(facts.zone.to_utc(local)))?)
        }
        (DataType::TimestampTz, Datum::Timestamp(local)) => {
            Value::TimestampTz(check_instant(Some(facts.zone.to_utc(local)))?)
        }
        (_, Datum::Text(text)) => types::parse_text(text, to, &context)?,
        // The same type: nothing else was bound.
        _ => return Ok(value),
    };
    Ok(Evaluated::Owned(made))
}

fn fit(number: Numeric, to: &DataType, explicit: bool) -> Result<Value, Error> {
    // In an expression a numeric without precision keeps its scale; a column takes what it can hold.
    if *to == DataType::Numeric(None) && explicit {
        return Ok(Value::Numeric(number));
    }
    types::fit_numeric(number, to).map(Value::Numeric)
}

/// The text that a cast makes: what is printed, but for booleans, which are spelled out.
pub(super) fn to_text(datum: &Datum<'_>, facts: &Facts<'_>) -> String {
    if let Datum::Bool(value) = datum {
        return value.to_string();
    }
    output_text(datum, facts)
}

/// The text that a value prints as.
pub(super) fn output_text(datum: &Datum<'_>, facts: &Facts<'_>) -> String {
    let mut out = Vec::with_capacity(24);
    types::write_text(&mut out, datum, &DataType::Text, facts.zone);
    String::from_utf8(out).expect("values print as UTF-8")
}

fn to_integer(datum: Datum<'_>, to: &DataType) -> Result<Value, Error> {
    let wide = match datum {
        Datum::Bool(value) => Some(i64::from(value)),
        Datum::Numeric(number) => number.to_i64(),
        Datum::Float4(value) => float_to_i64(f64::from(value)),
        Datum::Float8(value) => float_to_i64(value),
        other => other.integer(),
    };
    let narrowed = wide.and_then(|value| match to {
        DataType::Int2 => i16::try_from(value).ok().map(Value::Int2),
        DataType::Int4 => i32::try_from(value).ok().map(Value::Int4),
        _ => Some(Value::Int8(value)),
    });
    narrowed.ok_or_else(|| out_of_range(to))
}

/// Rounded half to even, as C's `rint`.
fn float_to_i64(value: f64) -> Option<i64> {
    let rounded = value.round_ties_even();
    // 2^63 is a float, the greatest i64 is not.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
        .contains(&rounded)
        .then_some(rounded as i64)
}

fn to_float(datum: Datum<'_>, to: &DataType) -> Result<Value, Error> {
    let wide = match datum {
        Datum::Float4(value) => f64::from(value),
        Datum::Float8(value) => value,
        Datum::Numeric(number) => number.to_f64(),
        other => match other.integer() {
            Some(value) if *to == DataType::Float4 => return Ok(Value::Float4(value as f32)),
            Some(value) => value as f64,
            None => return Err(Error::internal("a cast to a float was bound that does not exist")),
        },
    };
    if *to == DataType::Float8 {
        return Ok(Value::Float8(wide));
    }
    let narrow = wide as f32;
    check_float(f64::from(narrow), wide.is_infinite(), wide == 0.0)?;
    Ok(Value::Float4(narrow))
}

pub(super) fn to_numeric(datum: Datum<'_>) -> Result<Numeric, Error> {
    let (value, digits) = match datum {
        Datum::Numeric(number) => return Ok(number),
        Datum::Float4(value) => (f64::from(value), FLOAT4_DIGITS),
        Datum::Float8(value) => (value, FLOAT8_DIGITS),
        other => match other.integer() {
            Some(value) => return Ok(Numeric::from_i64(value)),
            None => return Err(Error::internal("a cast to numeric was bound that does not exist")),
        },
    };
    if !value.is_finite() {
        return Err(NumericError::NotFinite.into());
    }
    // As C prints with %.15g: so many significant digits, no zeros at the end.
    let text = format!("{value:.*e}", digits - 1);
    let number = Numeric::parse(&text).map_err(|_| {
        Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "value overflows numeric format",
        )
    })?;
    Ok(number.normalized())
}
