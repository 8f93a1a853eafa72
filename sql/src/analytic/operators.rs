//! PostgreSQL's binary operators where DataFusion's differ.
//!
//! - A string literal takes the type of the other side (`d >= '1994-01-01'`), once, at planning; a literal that does not
//!   read as that type is an error of its own.
//! - Integer `+ - *` check for overflow (22003); DataFusion's wrap.
//! - A small integer literal beside an int2 or int4 operand does not widen it, as PostgreSQL's literals are int4.
//! - Division of numerics keeps 16 fractional digits. Floats that overflow are an error (22003), so is their division by
//!   zero (22012).
//! - `date ± integer` counts days, `date ± interval` is a timestamp. `^` is power.
//! - Intervals are multiplied and divided by numbers.

use super::error::{external, invalid_input};
use super::functions::intervals::INTERVAL;
use super::functions::{arithmetic, intervals, numeric};
use super::types::TYPE_KEY;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, Placeholder, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};
use sqlparser::ast::BinaryOperator;
use std::sync::Arc;

/// The greatest scale that a product of numerics keeps without rounding.
const PRODUCT_SCALE_MAX: i8 = 18;

#[derive(Debug)]
pub struct PostgresOperators {
    add: Arc<ScalarUDF>,
    subtract: Arc<ScalarUDF>,
    multiply: Arc<ScalarUDF>,
    numeric_divide: Arc<ScalarUDF>,
    numeric_multiply: Arc<ScalarUDF>,
    float_add: Arc<ScalarUDF>,
    float_subtract: Arc<ScalarUDF>,
    float_multiply: Arc<ScalarUDF>,
    float_divide: Arc<ScalarUDF>,
    power: Arc<ScalarUDF>,
    interval_times: Arc<ScalarUDF>,
    interval_divided_by: Arc<ScalarUDF>,
    interval_of: Arc<ScalarUDF>,
}

impl PostgresOperators {
    pub fn new() -> Self {
        let float = |operator| Arc::new(arithmetic::float(operator));
        PostgresOperators {
            add: Arc::new(arithmetic::integer(arithmetic::Operator::Add)),
            subtract: Arc::new(arithmetic::integer(arithmetic::Operator::Subtract)),
            multiply: Arc::new(arithmetic::integer(arithmetic::Operator::Multiply)),
            numeric_divide: Arc::new(numeric::divide()),
            numeric_multiply: Arc::new(numeric::multiply()),
            float_add: float(arithmetic::FloatOperator::Add),
            float_subtract: float(arithmetic::FloatOperator::Subtract),
            float_multiply: float(arithmetic::FloatOperator::Multiply),
            float_divide: float(arithmetic::FloatOperator::Divide),
            power: datafusion::functions::math::power(),
            interval_times: intervals::times(),
            interval_divided_by: intervals::divided_by(),
            interval_of: intervals::of_duration(),
        }
    }

    fn arithmetic(&self, op: &BinaryOperator, left: Expr, right: Expr, schema: &DFSchema) -> Result<Planned> {
        let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
        if is_integer(&left_type) && is_integer(&right_type) {
            let left = narrowed(left, &right_type);
            let right = narrowed(right, &left_type);
            let function = match op {
                BinaryOperator::Plus => &self.add,
                BinaryOperator::Minus => &self.subtract,
                BinaryOperator::Multiply => &self.multiply,
                _ => return Ok(Planned::Not(left, right)),
            };
            return Ok(Planned::Done(call(function, left, right)));
        }
        if let Some(planned) = self.days(op, &left, &right, &left_type, &right_type) {
            return Ok(Planned::Done(planned));
        }
        if is_interval(&left_type) || is_interval(&right_type) {
            return Ok(self.of_intervals(op, left, right, &left_type, &right_type));
        }
        let decimals = is_exact(&left_type) && is_exact(&right_type);
        let floats = left_type.is_floating() || right_type.is_floating();
        let numbers = left_type.is_numeric() && right_type.is_numeric();
        Ok(match op {
            BinaryOperator::Divide if decimals => Planned::Done(call(&self.numeric_divide, left, right)),
            BinaryOperator::Plus if floats && numbers => Planned::Done(call(&self.float_add, left, right)),
            BinaryOperator::Minus if floats && numbers => {
                Planned::Done(call(&self.float_subtract, left, right))
            }
            BinaryOperator::Multiply if floats && numbers => {
                Planned::Done(call(&self.float_multiply, left, right))
            }
            BinaryOperator::Divide if floats && numbers => {
                Planned::Done(call(&self.float_divide, left, right))
            }
            BinaryOperator::Multiply
                if decimals && scale(&left_type) + scale(&right_type) > PRODUCT_SCALE_MAX =>
            {
                Planned::Done(call(&self.numeric_multiply, left, right))
            }
            BinaryOperator::PGExp if numbers => Planned::Done(call(&self.power, left, right)),
            _ => Planned::Not(left, right),
        })
    }

    /// Operators with an interval on a side.
    fn of_intervals(
        &self,
        op: &BinaryOperator,
        left: Expr,
        right: Expr,
        left_type: &DataType,
        right_type: &DataType,
    ) -> Planned {
        let whole = |expr: Expr, arrow: &DataType| match arrow {
            DataType::Duration(_) => {
                Expr::ScalarFunction(ScalarFunction::new_udf(self.interval_of.clone(), vec![expr]))
            }
            _ => expr,
        };
        let timestamp = |expr: Expr, arrow: &DataType| match arrow {
            DataType::Date32 => {
                let local = DataType::Timestamp(TimeUnit::Microsecond, None);
                Expr::Cast(Cast::new(Box::new(expr), local))
            }
            _ => expr,
        };
        match op {
            BinaryOperator::Multiply if right_type.is_numeric() => {
                Planned::Done(call(&self.interval_times, whole(left, left_type), right))
            }
            BinaryOperator::Multiply if left_type.is_numeric() => {
                Planned::Done(call(&self.interval_times, whole(right, right_type), left))
            }
            BinaryOperator::Divide if right_type.is_numeric() => {
                Planned::Done(call(&self.interval_divided_by, whole(left, left_type), right))
            }
            BinaryOperator::Plus | BinaryOperator::Minus
                if is_interval(left_type) && is_interval(right_type) =>
            {
                Planned::Not(whole(left, left_type), whole(right, right_type))
            }
            BinaryOperator::Plus | BinaryOperator::Minus => {
                Planned::Not(timestamp(left, left_type), timestamp(right, right_type))
            }
            _ => Planned::Not(left, right),
        }
    }

    /// `date + n`, `n + date`, `date - n`.
    fn days(
        &self,
        op: &BinaryOperator,
        left: &Expr,
        right: &Expr,
        left_type: &DataType,
        right_type: &DataType,
    ) -> Option<Expr> {
        let (function, date, days) = match op {
            BinaryOperator::Plus if *left_type == DataType::Date32 && is_integer(right_type) => {
                (&self.add, left, right)
            }
            BinaryOperator::Plus if *right_type == DataType::Date32 && is_integer(left_type) => {
                (&self.add, right, left)
            }
            BinaryOperator::Minus if *left_type == DataType::Date32 && is_integer(right_type) => {
                (&self.subtract, left, right)
            }
            _ => return None,
        };
        let as_type = |expr: Expr, target| Expr::Cast(Cast::new(Box::new(expr), target));
        let sum = call(
            function,
            as_type(date.clone(), DataType::Int32),
            as_type(days.clone(), DataType::Int32),
        );
        Some(as_type(sum, DataType::Date32))
    }
}

enum Planned {
    Done(Expr),
    Not(Expr, Expr),
}

fn call(function: &Arc<ScalarUDF>, left: Expr, right: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function.clone(), vec![left, right]))
}

fn is_interval(arrow: &DataType) -> bool {
    *arrow == INTERVAL || matches!(arrow, DataType::Duration(_))
}

fn is_integer(arrow: &DataType) -> bool {
    matches!(arrow, DataType::Int16 | DataType::Int32 | DataType::Int64)
}

/// Types whose quotient is a numeric, unless both are integers.
fn is_exact(arrow: &DataType) -> bool {
    is_integer(arrow) || matches!(arrow, DataType::Decimal128(..))
}

fn scale(arrow: &DataType) -> i8 {
    match arrow {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

/// A literal that fits int4 stays int4 beside an int2 or int4.
fn narrowed(expr: Expr, other: &DataType) -> Expr {
    match (&expr, other) {
        (Expr::Literal(ScalarValue::Int64(Some(value)), metadata), DataType::Int16 | DataType::Int32) => {
            match i32::try_from(*value) {
                Ok(small) => Expr::Literal(ScalarValue::Int32(Some(small)), metadata.clone()),
                Err(_) => expr,
            }
        }
        _ => expr,
    }
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator as B;
    matches!(
        op,
        B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq | B::Spaceship
    )
}

fn is_arithmetic(op: &BinaryOperator) -> bool {
    use BinaryOperator as B;
    matches!(
        op,
        B::Plus | B::Minus | B::Multiply | B::Divide | B::Modulo | B::PGExp
    )
}

impl ExprPlanner for PostgresOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        if !is_comparison(&op) && !is_arithmetic(&op) {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        let right = adapted(right, &left, &op, schema)?;
        let left = adapted(left, &right, &op, schema)?;
        if is_arithmetic(&op) && typed(&left, schema) && typed(&right, schema) {
            return Ok(match self.arithmetic(&op, left, right, schema)? {
                Planned::Done(planned) => PlannerResult::Planned(planned),
                Planned::Not(left, right) => PlannerResult::Original(RawBinaryExpr { op, left, right }),
            });
        }
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// Whether the expression has a type of its own; parameters may not, and outer references do not resolve here.
fn typed(expr: &Expr, schema: &DFSchema) -> bool {
    !matches!(expr.get_type(schema), Err(_) | Ok(DataType::Null))
}

/// A literal or an untyped parameter, in the type of the other operand.
fn adapted(expr: Expr, other: &Expr, op: &BinaryOperator, schema: &DFSchema) -> Result<Expr> {
    match &expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let Ok((_, field)) = other.to_field(schema) else {
                return Ok(expr);
            };
            if matches!(field.data_type(), DataType::Null) || matches!(other, Expr::Placeholder(_)) {
                return Ok(expr);
            }
            let field = match op {
                BinaryOperator::Multiply | BinaryOperator::Divide if is_interval(field.data_type()) => {
                    super::types::named_field(DataType::Float64, "double precision")
                }
                _ => parameter_like(&field),
            };
            Ok(Expr::Placeholder(Placeholder::new_with_field(
                id.clone(),
                Some(field),
            )))
        }
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => {
            let Ok((_, field)) = other.to_field(schema) else {
                return Ok(expr);
            };
            // `literals` reads it, with the session's time zone.
            if field.data_type().is_temporal() && is_comparison(op) {
                return Ok(Expr::Cast(Cast::new(Box::new(expr), field.data_type().clone())));
            }
            match read_literal(text, &field, op)? {
                Some(value) => Ok(Expr::Literal(value, None)),
                None => Ok(expr),
            }
        }
        _ => Ok(expr),
    }
}

/// The type of a parameter that stands beside a value of this type: without precision and length.
fn parameter_like(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            super::types::named_field(super::types::FREE_NUMERIC, "numeric")
        }
        DataType::Utf8 | DataType::Utf8View => {
            let kept = field.metadata().get(TYPE_KEY).map(String::as_str);
            let name = kept
                .filter(|name| matches!(*name, "uuid" | "jsonb"))
                .unwrap_or("text");
            super::types::named_field(DataType::Utf8, name)
        }
        other => Arc::new(Field::new("", other.clone(), true).with_metadata(field.metadata().clone())),
    }
}

/// A string literal as a value of the other side's type; `None` leaves it a string.
fn read_literal(text: &str, field: &Field, op: &BinaryOperator) -> Result<Option<ScalarValue>> {
    let target = field.data_type();
    let name = field.metadata().get(TYPE_KEY).map_or("", String::as_str);
    match target {
        DataType::Utf8 => Ok(if name.starts_with("character(") {
            // Trailing blanks do not count in char(n), and the mirror holds none.
            Some(ScalarValue::Utf8(Some(text.trim_end_matches(' ').to_owned())))
        } else if name == "uuid" {
            Some(ScalarValue::Utf8(Some(canonical_uuid(text)?)))
        } else {
            None
        }),
        DataType::Boolean => {
            let value = match text.trim().to_ascii_lowercase().as_str() {
                "t" | "true" | "yes" | "on" | "1" => true,
                "f" | "false" | "no" | "off" | "0" => false,
                _ => return Err(external(invalid_input("boolean", text))),
            };
            Ok(Some(ScalarValue::Boolean(Some(value))))
        }
        number if number.is_numeric() => {
            // The literal keeps its own scale: `price > '0.001'` must not round.
            let exact = if matches!(number, DataType::Decimal128(..) | DataType::Decimal256(..)) {
                DataType::Decimal128(38, decimals(text))
            } else {
                number.clone()
            };
            cast_literal(text.trim(), &exact, sql_name(name, number)).map(Some)
        }
        DataType::Interval(_) if matches!(op, BinaryOperator::Multiply | BinaryOperator::Divide) => {
            cast_literal(text.trim(), &DataType::Float64, "double precision").map(Some)
        }
        DataType::List(item) if is_comparison(op) => {
            let element = super::types::arrow_wire_type(item.data_type()).oid;
            super::parameter::array_literal(element, item.data_type(), text)
                .map(Some)
                .map_err(external)
        }
        _ => Ok(None),
    }
}

fn decimals(text: &str) -> i8 {
    let fraction = text.trim().split_once('.').map_or(0, |(_, rest)| rest.len());
    i8::try_from(fraction.min(18)).unwrap_or(18)
}

fn sql_name<'a>(name: &'a str, arrow: &DataType) -> &'a str {
    if !name.is_empty() {
        return name.split('(').next().unwrap_or(name);
    }
    match arrow {
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        _ => "numeric",
    }
}

fn cast_literal(text: &str, target: &DataType, name: &str) -> Result<ScalarValue> {
    ScalarValue::Utf8(Some(text.to_owned()))
        .cast_to(target)
        .map_err(|_| external(invalid_input(name, text)))
}

fn canonical_uuid(text: &str) -> Result<String> {
    let digits: String = text
        .chars()
        .filter(|c| !matches!(c, '-' | '{' | '}'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(external(invalid_input("uuid", text)));
    }
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    ))
}
