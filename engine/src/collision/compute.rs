//! One column that both sides have changed: the values that its rule makes of them.

use crate::types::{DataType, Datum, Numeric, Value};
use std::cmp::Ordering;

/// Why a rule has no answer.
pub(super) type Reason = &'static str;

const OUT_OF_RANGE: Reason = "the result is out of range";
const NOT_A_NUMBER: Reason = "a value is not a number";

/// The three values of a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Three<'a> {
    /// NULL also when there was no row.
    pub before: Datum<'a>,
    pub present: Datum<'a>,
    pub proposed: Datum<'a>,
}

/// The lesser or the greater value; NULL is neither.
pub(super) fn extreme(values: Three<'_>, wanted: Ordering) -> Value {
    let Three {
        present, proposed, ..
    } = values;
    let chosen = match (present.is_null(), proposed.is_null()) {
        (true, _) => proposed,
        (_, true) => present,
        _ if proposed.compare(&present) == wanted => proposed,
        _ => present,
    };
    chosen.to_value()
}

/// The mean of both; NULL does not count.
pub(super) fn average(ty: DataType, values: Three<'_>) -> Result<Value, Reason> {
    let Three {
        present, proposed, ..
    } = values;
    if present.is_null() || proposed.is_null() {
        return Ok(extreme(values, Ordering::Greater));
    }
    compute(
        ty,
        [present, proposed],
        |[a, b]| a + (b - a) / 2.0,
        |[a, b]| a.add(&b).and_then(|sum| sum.divide(&Numeric::from_i64(2))).ok(),
    )
}

/// present + (proposed − before)
pub(super) fn add(ty: DataType, values: Three<'_>) -> Result<Value, Reason> {
    compute(
        ty,
        known(values)?,
        |[before, present, proposed]| present + (proposed - before),
        |[before, present, proposed]| {
            let difference = proposed.subtract(&before).ok()?;
            present.add(&difference).ok()
        },
    )
}

/// present × proposed ÷ before
pub(super) fn multiply(ty: DataType, values: Three<'_>) -> Result<Value, Reason> {
    let values = known(values)?;
    if number(values[0]).is_some_and(|before| before.is_zero()) || float(values[0]) == Some(0.0) {
        return Err("the value before is zero, so there is no factor");
    }
    compute(
        ty,
        values,
        |[before, present, proposed]| present * (proposed / before),
        |[before, present, proposed]| {
            // Multiplying first keeps the factor exact; where that is too long, the factor is rounded.
            let exact = present
                .multiply(&proposed)
                .and_then(|product| product.divide(&before));
            let rounded = || {
                proposed
                    .divide(&before)
                    .and_then(|factor| present.multiply(&factor))
            };
            exact.or_else(|_| rounded()).ok()
        },
    )
}

/// Both texts; NULL adds nothing.
pub(super) fn concatenate(ty: DataType, values: Three<'_>, separator: &str) -> Result<Value, Reason> {
    let text = match (values.present, values.proposed) {
        (Datum::Text(present), Datum::Text(proposed)) => format!("{present}{separator}{proposed}"),
        (Datum::Null, other) | (other, _) => return Ok(other.to_value()),
    };
    let (DataType::Varchar(Some(limit)) | DataType::Char(limit)) = ty else {
        return Ok(Value::Text(text));
    };
    match text.chars().count() <= limit as usize {
        true => Ok(Value::Text(text)),
        false => Err("the text is too long"),
    }
}

fn known(values: Three<'_>) -> Result<[Datum<'_>; 3], Reason> {
    let three = [values.before, values.present, values.proposed];
    match three.iter().any(Datum::is_null) {
        true => Err("a value is NULL, so there is no difference"),
        false => Ok(three),
    }
}

fn float(datum: Datum<'_>) -> Option<f64> {
    match datum {
        Datum::Float4(value) => Some(f64::from(value)),
        Datum::Float8(value) => Some(value),
        _ => None,
    }
}

fn number(datum: Datum<'_>) -> Option<Numeric> {
    match datum {
        Datum::Numeric(value) => Some(value),
        other => other.integer().map(Numeric::from_i64),
    }
}

/// Computes in floats for a column of floats, else exactly, rounding half away from zero where the column demands it.
fn compute<const N: usize>(
    ty: DataType,
    values: [Datum<'_>; N],
    floats: impl Fn([f64; N]) -> f64,
    exact: impl Fn([Numeric; N]) -> Option<Numeric>,
) -> Result<Value, Reason> {
    if ty.is_float() {
        let mut numbers = [0.0; N];
        for (number, value) in numbers.iter_mut().zip(values) {
            *number = float(value).ok_or(NOT_A_NUMBER)?;
        }
        let result = floats(numbers);
        let stored = match ty {
            DataType::Float4 => f64::from(result as f32),
            _ => result,
        };
        if stored.is_infinite() && numbers.iter().all(|number| number.is_finite()) {
            return Err(OUT_OF_RANGE);
        }
        return Ok(match ty {
            DataType::Float4 => Value::Float4(result as f32),
            _ => Value::Float8(result),
        });
    }
    let mut numbers = [Numeric::from_i64(0); N];
    for (slot, value) in numbers.iter_mut().zip(values) {
        *slot = number(value).ok_or(NOT_A_NUMBER)?;
    }
    let result = exact(numbers).ok_or(OUT_OF_RANGE)?;
    let integer = || result.round(0).ok()?.to_i64();
    match ty {
        DataType::Int2 => integer()
            .and_then(|value| i16::try_from(value).ok())
            .map(Value::Int2),
        DataType::Int4 => integer()
            .and_then(|value| i32::try_from(value).ok())
            .map(Value::Int4),
        DataType::Int8 => integer().map(Value::Int8),
        DataType::Numeric(Some((precision, scale))) => result.fit(precision, scale).ok().map(Value::Numeric),
        DataType::Numeric(None) => result.fit_free().ok().map(Value::Numeric),
        _ => return Err(NOT_A_NUMBER),
    }
    .ok_or(OUT_OF_RANGE)
}
