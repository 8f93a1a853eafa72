//! `+ - * / %` on values of one number type, and on dates.

use super::ArithmeticOp;
use crate::error::{Error, SqlState};
use crate::types::datetime::{MICROS_PER_DAY, check_date, check_timestamp};
use scry_engine::types::{DataType, Datum, Value};

#[cold]
pub(super) fn out_of_range(ty: &DataType) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("{} out of range", ty.without_modifier()),
    )
}

#[cold]
pub(super) fn division_by_zero() -> Error {
    Error::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// An integer as a value of the integer type `ty`.
#[inline]
pub(super) fn narrow(value: i64, ty: &DataType) -> Result<Datum<'static>, Error> {
    let narrowed = match ty {
        DataType::Int4 => i32::try_from(value).ok().map(Datum::Int4),
        DataType::Int2 => i16::try_from(value).ok().map(Datum::Int2),
        _ => Some(Datum::Int8(value)),
    };
    narrowed.ok_or_else(|| out_of_range(ty))
}

/// The result, of type `ty`; NULL when an operand is.
#[inline]
pub(super) fn apply(
    op: ArithmeticOp,
    left: Datum<'_>,
    right: Datum<'_>,
    ty: &DataType,
) -> Result<Datum<'static>, Error> {
    if left.is_null() || right.is_null() {
        return Ok(Datum::Null);
    }
    if ty.is_integer()
        && let (Some(left), Some(right)) = (left.integer(), right.integer())
    {
        return integers(op, left, right, ty);
    }
    match (left, right) {
        (Datum::Numeric(left), Datum::Numeric(right)) => Ok(Datum::Numeric(match op {
            ArithmeticOp::Add => left.add(&right)?,
            ArithmeticOp::Subtract => left.subtract(&right)?,
            ArithmeticOp::Multiply => left.multiply(&right)?,
            ArithmeticOp::Divide => left.divide(&right)?,
            ArithmeticOp::Modulo => left.remainder(&right)?,
        })),
        (Datum::Float8(left), Datum::Float8(right)) => Ok(Datum::Float8(floats(op, left, right)?)),
        (Datum::Float4(left), Datum::Float4(right)) => {
            let wide = floats(op, f64::from(left), f64::from(right))?;
            let narrow = wide as f32;
            check_float(f64::from(narrow), wide.is_infinite(), wide == 0.0)?;
            Ok(Datum::Float4(narrow))
        }
        _ => dates(op, left, right),
    }
}

#[inline]
fn integers(op: ArithmeticOp, left: i64, right: i64, ty: &DataType) -> Result<Datum<'static>, Error> {
    let result = match op {
        ArithmeticOp::Add => left.checked_add(right),
        ArithmeticOp::Subtract => left.checked_sub(right),
        ArithmeticOp::Multiply => left.checked_mul(right),
        ArithmeticOp::Divide | ArithmeticOp::Modulo if right == 0 => return Err(division_by_zero()),
        ArithmeticOp::Divide => left.checked_div(right),
        // The least integer has no quotient by -1, but a remainder.
        ArithmeticOp::Modulo => Some(left.wrapping_rem(right)),
    };
    narrow(result.ok_or_else(|| out_of_range(ty))?, ty)
}

fn floats(op: ArithmeticOp, left: f64, right: f64) -> Result<f64, Error> {
    let infinite = left.is_infinite() || right.is_infinite();
    let (result, zero) = match op {
        ArithmeticOp::Add => (left + right, true),
        ArithmeticOp::Subtract => (left - right, true),
        ArithmeticOp::Multiply => (left * right, left == 0.0 || right == 0.0),
        ArithmeticOp::Divide if right == 0.0 && !left.is_nan() => return Err(division_by_zero()),
        ArithmeticOp::Divide => (left / right, left == 0.0 || right.is_infinite()),
        ArithmeticOp::Modulo => return Err(Error::internal("a remainder of floats was bound")),
    };
    check_float(result, infinite, zero)?;
    Ok(result)
}

/// An infinity or a zero that does not come from the operands is an overflow or an underflow.
pub(super) fn check_float(result: f64, infinite: bool, zero: bool) -> Result<(), Error> {
    if result.is_infinite() && !infinite {
        return Err(Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "value out of range: overflow",
        ));
    }
    if result == 0.0 && !zero {
        return Err(Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "value out of range: underflow",
        ));
    }
    Ok(())
}

fn dates(op: ArithmeticOp, left: Datum<'_>, right: Datum<'_>) -> Result<Datum<'static>, Error> {
    match (op, left, right) {
        (ArithmeticOp::Subtract, Datum::Date(left), Datum::Date(right)) => Ok(Datum::Int4(left - right)),
        (ArithmeticOp::Add, Datum::Date(days), Datum::Time(time))
        | (ArithmeticOp::Add, Datum::Time(time), Datum::Date(days)) => {
            check_timestamp(Some(i64::from(days) * MICROS_PER_DAY + time)).map(Datum::Timestamp)
        }
        (_, Datum::Date(days), shift) | (_, shift, Datum::Date(days)) => match (op, shift.integer()) {
            (ArithmeticOp::Add, Some(shift)) => check_date(i64::from(days) + shift).map(Datum::Date),
            (ArithmeticOp::Subtract, Some(shift)) => check_date(i64::from(days) - shift).map(Datum::Date),
            _ => Err(Error::internal(
                "an operator on dates was bound that does not exist",
            )),
        },
        _ => Err(Error::internal(
            "an operator was bound on operands of different types",
        )),
    }
}

pub(super) fn negate(operand: Datum<'_>) -> Result<Value, Error> {
    Ok(match operand {
        Datum::Null => Value::Null,
        Datum::Int2(v) => Value::Int2(v.checked_neg().ok_or_else(|| out_of_range(&DataType::Int2))?),
        Datum::Int4(v) => Value::Int4(v.checked_neg().ok_or_else(|| out_of_range(&DataType::Int4))?),
        Datum::Int8(v) => Value::Int8(v.checked_neg().ok_or_else(|| out_of_range(&DataType::Int8))?),
        Datum::Float4(v) => Value::Float4(-v),
        Datum::Float8(v) => Value::Float8(-v),
        Datum::Numeric(v) => Value::Numeric(v.negate()),
        _ => return Err(Error::internal("the negative of no number was bound")),
    })
}
