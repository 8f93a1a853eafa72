//! Integer arithmetic that reports overflow, and float division that reports a zero divisor.

use crate::error::{Error, SqlState};
use datafusion::arrow::array::{Array, AsArray, Datum, Float64Array};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntegerOperator {
    Add,
    Subtract,
    Multiply,
}

pub fn integer(operator: IntegerOperator) -> ScalarUDF {
    ScalarUDF::new_from_impl(IntegerArithmetic {
        operator,
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntegerArithmetic {
    operator: IntegerOperator,
    signature: Signature,
}

/// The wider of two integer types.
fn wider(left: &DataType, right: &DataType) -> DataType {
    let rank = |arrow: &DataType| match arrow {
        DataType::Int16 => 0,
        DataType::Int32 => 1,
        _ => 2,
    };
    match rank(left).max(rank(right)) {
        0 => DataType::Int16,
        1 => DataType::Int32,
        _ => DataType::Int64,
    }
}

impl ScalarUDFImpl for IntegerArithmetic {
    fn name(&self) -> &str {
        match self.operator {
            IntegerOperator::Add => "int_add",
            IntegerOperator::Subtract => "int_subtract",
            IntegerOperator::Multiply => "int_multiply",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = types else {
            return exec_err!("{} takes two arguments", self.name());
        };
        let wide = wider(left, right);
        Ok(vec![wide.clone(), wide])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [left, right] => Ok(wider(left, right)),
            _ => exec_err!("{} takes two arguments", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return exec_err!("{} takes two arguments", self.name());
        };
        let kernel = match self.operator {
            IntegerOperator::Add => numeric::add,
            IntegerOperator::Subtract => numeric::sub,
            IntegerOperator::Multiply => numeric::mul,
        };
        let name = match args.return_field.data_type() {
            DataType::Int16 => "smallint",
            DataType::Int32 => "integer",
            _ => "bigint",
        };
        apply(left, right, |l, r| {
            kernel(l, r).map_err(|error| match error {
                ArrowError::ArithmeticOverflow(_) => ArrowError::ExternalError(Box::new(Error::new(
                    SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                    format!("{name} out of range"),
                ))),
                other => other,
            })
        })
    }
}

pub fn float_divide() -> ScalarUDF {
    ScalarUDF::new_from_impl(FloatDivide {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FloatDivide {
    signature: Signature,
}

impl ScalarUDFImpl for FloatDivide {
    fn name(&self) -> &str {
        "float_divide"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, _: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![DataType::Float64, DataType::Float64])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return exec_err!("{} takes two arguments", self.name());
        };
        apply(left, right, |l, r| {
            if divides_by_zero(l, r) {
                return Err(ArrowError::DivideByZero);
            }
            numeric::div(l, r)
        })
    }
}

/// A zero divisor counts only where both operands are there: NULL / 0 is NULL.
fn divides_by_zero(left: &dyn Datum, right: &dyn Datum) -> bool {
    let ((left, left_scalar), (right, right_scalar)) = (left.get(), right.get());
    let divisors: &Float64Array = right.as_primitive::<Float64Type>();
    let zero = |row: usize| divisors.is_valid(row) && divisors.value(row) == 0.0;
    match (left_scalar, right_scalar) {
        (_, true) => !right.is_empty() && zero(0) && left.null_count() < left.len(),
        (true, false) => !left.is_empty() && left.is_valid(0) && (0..right.len()).any(zero),
        (false, false) => (0..right.len()).any(|row| zero(row) && left.is_valid(row)),
    }
}
