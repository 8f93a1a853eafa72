//! Arithmetic of integers and floats that reports overflow, underflow and zero divisors; DataFusion's goes on with what it gets.

use crate::error::{Error, SqlState};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Datum};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
}

pub fn integer(operator: Operator) -> ScalarUDF {
    ScalarUDF::new_from_impl(IntegerArithmetic {
        operator,
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntegerArithmetic {
    operator: Operator,
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
            Operator::Add => "int_add",
            Operator::Subtract => "int_subtract",
            Operator::Multiply => "int_multiply",
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
            Operator::Add => numeric::add,
            Operator::Subtract => numeric::sub,
            Operator::Multiply => numeric::mul,
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

/// What a float operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

pub fn float(operator: FloatOperator) -> ScalarUDF {
    ScalarUDF::new_from_impl(FloatArithmetic {
        operator,
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FloatArithmetic {
    operator: FloatOperator,
    signature: Signature,
}

impl FloatArithmetic {
    /// Two real numbers stay real; everything else meets in double precision.
    fn result(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Float32, DataType::Float32] => Ok(DataType::Float32),
            [_, _] => Ok(DataType::Float64),
            _ => exec_err!("{} takes two arguments", self.name()),
        }
    }

    /// A result that is infinite or zero where the operands do not make it so, and a division by zero.
    fn check(&self, left: f64, right: f64, result: f64) -> std::result::Result<(), ArrowError> {
        let (infinite, zero) = match self.operator {
            FloatOperator::Divide if right == 0.0 && !left.is_nan() => return Err(ArrowError::DivideByZero),
            FloatOperator::Divide => (left.is_infinite(), left == 0.0 || right.is_infinite()),
            FloatOperator::Multiply => (
                left.is_infinite() || right.is_infinite(),
                left == 0.0 || right == 0.0,
            ),
            FloatOperator::Add | FloatOperator::Subtract => (left.is_infinite() || right.is_infinite(), true),
        };
        let message = match result {
            result if result.is_infinite() && !infinite => "value out of range: overflow",
            0.0 if !zero => "value out of range: underflow",
            _ => return Ok(()),
        };
        let error = Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message);
        Err(ArrowError::ExternalError(Box::new(error)))
    }
}

impl ScalarUDFImpl for FloatArithmetic {
    fn name(&self) -> &str {
        match self.operator {
            FloatOperator::Add => "float_add",
            FloatOperator::Subtract => "float_subtract",
            FloatOperator::Multiply => "float_multiply",
            FloatOperator::Divide => "float_divide",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let float = self.result(types)?;
        Ok(vec![float.clone(), float])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.result(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return exec_err!("{} takes two arguments", self.name());
        };
        let kernel = match self.operator {
            FloatOperator::Add => numeric::add,
            FloatOperator::Subtract => numeric::sub,
            FloatOperator::Multiply => numeric::mul,
            FloatOperator::Divide => numeric::div,
        };
        apply(left, right, |l, r| {
            let result = kernel(l, r)?;
            match result.data_type() {
                DataType::Float32 => checked::<Float32Type>(l, r, &result, |l, r, made| {
                    self.check(f64::from(l), f64::from(r), f64::from(made))
                })?,
                _ => checked::<Float64Type>(l, r, &result, |l, r, made| self.check(l, r, made))?,
            }
            Ok(result)
        })
    }
}

/// Calls `check` for each row whose result looks suspicious: infinite, not a number, or zero.
fn checked<T: ArrowPrimitiveType>(
    left: &dyn Datum,
    right: &dyn Datum,
    result: &ArrayRef,
    check: impl Fn(T::Native, T::Native, T::Native) -> std::result::Result<(), ArrowError>,
) -> std::result::Result<(), ArrowError>
where
    T::Native: Into<f64>,
{
    let result = result.as_primitive::<T>();
    let ((left, left_scalar), (right, right_scalar)) = (left.get(), right.get());
    let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
    let at = |scalar: bool, row: usize| if scalar { 0 } else { row };
    for row in 0..result.len() {
        let made = result.value(row);
        let wide: f64 = made.into();
        if (wide.is_finite() && wide != 0.0) || result.is_null(row) {
            continue;
        }
        check(
            left.value(at(left_scalar, row)),
            right.value(at(right_scalar, row)),
            made,
        )?;
    }
    Ok(())
}
