//! Division and multiplication of numerics whose exact result does not fit DataFusion's rules.
//!
//! PostgreSQL's quotient has at least 16 significant digits; Arrow's has four fractional digits more than the dividend.
//! PostgreSQL's product has the sum of the scales; in 38 digits that leaves no room before the point when both
//! scales are large, so products are rounded to 18 fractional digits. Rounding is half away from zero.

use crate::analytic::error::external;
use crate::error::{Error, SqlState};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, DecimalType, i256};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

const PRECISION: u8 = 38;
/// Fractional digits that every quotient has.
const QUOTIENT_SCALE: i8 = 16;
const SCALE_MAX: i8 = 18;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Divide,
    Multiply,
}

pub fn divide() -> ScalarUDF {
    function(Operation::Divide)
}

pub fn multiply() -> ScalarUDF {
    function(Operation::Multiply)
}

fn function(operation: Operation) -> ScalarUDF {
    ScalarUDF::new_from_impl(NumericOperation {
        operation,
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NumericOperation {
    operation: Operation,
    signature: Signature,
}

fn as_decimal(arrow: &DataType) -> DataType {
    match arrow {
        DataType::Decimal128(..) => arrow.clone(),
        DataType::Int16 => DataType::Decimal128(5, 0),
        DataType::Int32 => DataType::Decimal128(10, 0),
        _ => DataType::Decimal128(19, 0),
    }
}

fn scale_of(arrow: &DataType) -> i8 {
    match arrow {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

impl ScalarUDFImpl for NumericOperation {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Divide => "numeric_divide",
            Operation::Multiply => "numeric_multiply",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(types.iter().map(as_decimal).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, right] = types else {
            return exec_err!("{} takes two arguments", self.name());
        };
        let (left, right) = (scale_of(left), scale_of(right));
        let scale = match self.operation {
            Operation::Divide => left.max(right).clamp(QUOTIENT_SCALE, SCALE_MAX),
            Operation::Multiply => left.saturating_add(right).min(SCALE_MAX),
        };
        Ok(DataType::Decimal128(PRECISION, scale))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scale = scale_of(args.return_field.data_type());
        let scalar = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [left, right] = arrays.as_slice() else {
            return exec_err!("{} takes two arguments", self.name());
        };
        let result = self.rows(left, right, scale)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(
                datafusion::common::ScalarValue::try_from_array(&result, 0)?,
            ));
        }
        Ok(ColumnarValue::Array(Arc::new(result)))
    }
}

impl NumericOperation {
    fn rows(&self, left: &ArrayRef, right: &ArrayRef, scale: i8) -> Result<Decimal128Array> {
        let (left_scale, right_scale) = (scale_of(left.data_type()), scale_of(right.data_type()));
        let left = left.as_primitive::<Decimal128Type>();
        let right = right.as_primitive::<Decimal128Type>();
        // Divide: left × 10^shift ÷ right. Multiply: left × right ÷ 10^shift.
        let shift = match self.operation {
            Operation::Divide => scale - left_scale + right_scale,
            Operation::Multiply => left_scale.saturating_add(right_scale) - scale,
        };
        let shift = u32::try_from(shift.max(0)).unwrap_or(0);
        let power = i256::from_i128(10).wrapping_pow(shift);
        let narrow_power = 10i128.checked_pow(shift);
        let mut values = Decimal128Array::builder(left.len());
        for row in 0..left.len() {
            if left.is_null(row) || right.is_null(row) {
                values.append_null();
                continue;
            }
            let (l, r) = (left.value(row), right.value(row));
            let value = match self.operation {
                Operation::Divide if r == 0 => {
                    return Err(external(Error::new(
                        SqlState::DIVISION_BY_ZERO,
                        "division by zero",
                    )));
                }
                Operation::Divide => match narrow_power.and_then(|power| l.checked_mul(power)) {
                    Some(product) => Some(rounded(product, r)),
                    None => wide_rounded(i256::from_i128(l).checked_mul(power), i256::from_i128(r)),
                },
                Operation::Multiply => {
                    wide_rounded(i256::from_i128(l).checked_mul(i256::from_i128(r)), power)
                }
            };
            match value.filter(|v| Decimal128Type::validate_decimal_precision(*v, PRECISION, scale).is_ok()) {
                Some(value) => values.append_value(value),
                None => {
                    return Err(external(Error::new(
                        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                        "value overflows numeric format",
                    )));
                }
            }
        }
        Ok(values.finish().with_precision_and_scale(PRECISION, scale)?)
    }
}

/// `dividend / divisor`, rounded half away from zero. The divisor is not zero.
fn rounded(dividend: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (dividend.wrapping_div(divisor), dividend.wrapping_rem(divisor));
    if rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs() {
        quotient + if (dividend < 0) == (divisor < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

fn wide_rounded(dividend: Option<i256>, divisor: i256) -> Option<i128> {
    let dividend = dividend?;
    let quotient = dividend.checked_div(divisor)?;
    let rest = dividend.checked_rem(divisor)?;
    let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
    let quotient = if twice >= divisor.wrapping_abs() {
        let away = if (dividend < i256::ZERO) == (divisor < i256::ZERO) {
            i256::ONE
        } else {
            i256::MINUS_ONE
        };
        quotient.checked_add(away)?
    } else {
        quotient
    };
    quotient.to_i128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_round_half_away_from_zero() {
        assert_eq!(rounded(5, 2), 3);
        assert_eq!(rounded(-5, 2), -3);
        assert_eq!(rounded(4, 3), 1);
        assert_eq!(rounded(-5, -3), 2);
        assert_eq!(rounded(0, 7), 0);
        assert_eq!(
            wide_rounded(Some(i256::from_i128(-5)), i256::from_i128(2)),
            Some(-3)
        );
    }
}
