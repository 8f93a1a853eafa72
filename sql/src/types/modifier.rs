//! Length and precision of a column, applied to a value.

use crate::error::{Error, SqlState};
use scry_engine::types::{DataType, Numeric, NumericError, Value};

/// Makes `value`, of the right kind already, one that a column of type `ty` can hold.
///
/// An explicit cast cuts text that is too long; an assignment refuses it (22001) unless only blanks are lost.
/// Trailing blanks of `char(n)` are dropped: they do not count.
pub fn coerce_length(value: Value, ty: &DataType, explicit: bool) -> Result<Value, Error> {
    match (ty, value) {
        (DataType::Varchar(Some(length)), Value::Text(text)) => {
            fit_characters(text, *length, explicit, ty).map(Value::Text)
        }
        (DataType::Char(length), Value::Text(mut text)) => {
            text.truncate(text.trim_end_matches(' ').len());
            let mut text = fit_characters(text, *length, explicit, ty)?;
            text.truncate(text.trim_end_matches(' ').len());
            Ok(Value::Text(text))
        }
        (DataType::Numeric(_), Value::Numeric(number)) => fit_numeric(number, ty).map(Value::Numeric),
        (_, value) => Ok(value),
    }
}

fn fit_characters(mut text: String, length: u32, explicit: bool, ty: &DataType) -> Result<String, Error> {
    let length = length as usize;
    if text.len() <= length {
        return Ok(text);
    }
    let Some((cut, _)) = text.char_indices().nth(length) else {
        return Ok(text);
    };
    if !explicit && !text.as_bytes()[cut..].iter().all(|byte| *byte == b' ') {
        return Err(Error::new(
            SqlState::STRING_DATA_RIGHT_TRUNCATION,
            format!("value too long for type {ty}"),
        ));
    }
    text.truncate(cut);
    Ok(text)
}

/// The number as a column of the numeric type `ty` stores it.
pub fn fit_numeric(number: Numeric, ty: &DataType) -> Result<Numeric, Error> {
    match ty {
        DataType::Numeric(Some((precision, scale))) => number.fit(*precision, *scale).map_err(|_| {
            let integer_digits = precision - scale;
            let bound = if integer_digits == 0 { "1".to_owned() } else { format!("10^{integer_digits}") };
            Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
            ))
        }),
        DataType::Numeric(None) => number.fit_free().map_err(Error::from),
        _ => Ok(number),
    }
}

impl From<NumericError> for Error {
    fn from(error: NumericError) -> Error {
        match error {
            NumericError::DivisionByZero => Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
            NumericError::Overflow => Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "value overflows numeric format",
            )
            .with_detail("A numeric holds at most 38 digits, and without precision 20 before the point."),
            NumericError::NotFinite => Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "cannot convert NaN or infinity to numeric",
            ),
            NumericError::Syntax => Error::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type numeric",
            ),
        }
    }
}
