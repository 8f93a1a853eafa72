//! Evaluation of bound expressions.

use super::{
    EvalContext, Evaluated, Expr, Facts, Pattern, RowSource, arithmetic, cast, function, interval, like,
};
use crate::error::{Error, SqlState};
use crate::types::datetime::MICROS_PER_DAY;
use scry_engine::types::{DataType, Datum, Value};
use std::cmp::Ordering;

impl<'a> EvalContext<'a> {
    #[inline]
    fn column(&self, index: usize) -> Result<Datum<'a>, Error> {
        match self.row {
            RowSource::Row(row) => Ok(row.get(index)),
            RowSource::Pair(first, second) => {
                let columns = first.layout().columns();
                Ok(if index < columns {
                    first.get(index)
                } else {
                    second.get(index - columns)
                })
            }
            RowSource::Values(values) => values
                .get(index)
                .map(Value::as_datum)
                .ok_or_else(|| Error::internal(format!("column {index} is not in the row"))),
            RowSource::Datums(datums) => datums
                .get(index)
                .copied()
                .ok_or_else(|| Error::internal(format!("column {index} is not in the row"))),
            RowSource::None => Err(Error::internal("a column was read without a row")),
        }
    }

    #[inline]
    fn parameter(&self, index: usize) -> Result<Datum<'a>, Error> {
        self.params.get(index).map(Value::as_datum).ok_or_else(|| {
            Error::new(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter ${}", index + 1),
            )
        })
    }
}

impl Expr {
    /// The value, if it has one without a row, parameters, or the session's doing.
    pub fn constant_value(&self, facts: &Facts<'_>) -> Result<Option<Value>, Error> {
        let mut constant = true;
        self.walk(&mut |node| {
            constant &= !matches!(node, Expr::Column { .. } | Expr::Parameter { .. });
            constant &= !matches!(node, Expr::Function { function, .. } if function.reads_facts());
        });
        if !constant {
            return Ok(None);
        }
        let context = EvalContext {
            row: RowSource::None,
            params: &[],
            facts,
        };
        self.eval_value(&context).map(Some)
    }

    /// The value of a column, parameter or constant, without the detour through `Evaluated`. `None` for anything
    /// else, and for what is missing: the general way finds the error.
    #[inline]
    fn leaf<'a>(&'a self, context: &EvalContext<'a>) -> Option<Datum<'a>> {
        match self {
            Expr::Column { index, .. } => match context.row {
                RowSource::Row(row) => Some(row.get(*index)),
                _ => context.column(*index).ok(),
            },
            Expr::Parameter { index, .. } => context.params.get(*index).map(Value::as_datum),
            Expr::Constant { value, .. } => Some(value.as_datum()),
            _ => None,
        }
    }

    /// The value. Borrows from the expression, the row and the parameters where it can.
    pub fn eval<'a>(&'a self, context: &EvalContext<'a>) -> Result<Evaluated<'a>, Error> {
        Ok(match self {
            Expr::Column { index, .. } => context.column(*index)?.into(),
            Expr::Parameter { index, .. } => context.parameter(*index)?.into(),
            Expr::Constant { value, .. } => value.as_datum().into(),
            Expr::Arithmetic { op, left, right, ty } => {
                if let (Some(left), Some(right)) = (left.leaf(context), right.leaf(context)) {
                    return Ok(arithmetic::apply(*op, left, right, ty)?.into());
                }
                let (left, right) = (left.eval(context)?, right.eval(context)?);
                arithmetic::apply(*op, left.datum(), right.datum(), ty)?.into()
            }
            Expr::Negate(operand) => arithmetic::negate(operand.eval(context)?.datum())?.into(),
            Expr::Case {
                branches, otherwise, ..
            } => {
                for (condition, result) in branches {
                    if condition.eval_bool(context)? == Some(true) {
                        return result.eval(context);
                    }
                }
                match otherwise {
                    Some(otherwise) => otherwise.eval(context)?,
                    None => Evaluated::NULL,
                }
            }
            Expr::Coalesce { arguments, .. } => {
                for argument in arguments {
                    let value = argument.eval(context)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Evaluated::NULL
            }
            Expr::NullIf { left, right } => {
                let left = left.eval(context)?;
                let right = right.eval(context)?;
                if !left.is_null() && left.datum() == right.datum() {
                    Evaluated::NULL
                } else {
                    left
                }
            }
            Expr::Extreme { arguments, keep, .. } => {
                let mut best = Evaluated::NULL;
                for argument in arguments {
                    let value = argument.eval(context)?;
                    if value.is_null() {
                        continue;
                    }
                    if best.is_null() || value.datum().compare(&best.datum()) == *keep {
                        best = value;
                    }
                }
                best
            }
            Expr::Cast {
                operand,
                to,
                explicit,
            } => cast::cast(operand.eval(context)?, to, *explicit, context.facts)?,
            Expr::AddInterval {
                operand, interval, ..
            } => {
                let facts = context.facts;
                match operand.eval(context)?.datum() {
                    Datum::Date(days) => Datum::Timestamp(interval::add_to_timestamp(
                        i64::from(days) * MICROS_PER_DAY,
                        *interval,
                    )?),
                    Datum::Timestamp(micros) => {
                        Datum::Timestamp(interval::add_to_timestamp(micros, *interval)?)
                    }
                    Datum::TimestampTz(instant) => {
                        Datum::TimestampTz(interval::add_to_instant(instant, *interval, facts.zone)?)
                    }
                    Datum::Time(micros) => Datum::Time(interval::add_to_time(micros, *interval)),
                    _ => Datum::Null,
                }
                .into()
            }
            Expr::Function {
                function,
                arguments,
                ty,
            } => function::call(*function, arguments, ty, context)?,
            Expr::Compare { .. }
            | Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::IsTruth { .. }
            | Expr::IsDistinct { .. }
            | Expr::InList { .. }
            | Expr::Like { .. } => self.eval_bool(context)?.map_or(Datum::Null, Datum::Bool).into(),
        })
    }

    /// The value, owned.
    pub fn eval_value(&self, context: &EvalContext<'_>) -> Result<Value, Error> {
        Ok(self.eval(context)?.into_value())
    }

    /// Whether a condition holds: NULL does not.
    #[inline]
    pub fn holds(&self, context: &EvalContext<'_>) -> Result<bool, Error> {
        Ok(self.eval_bool(context)? == Some(true))
    }

    /// The value of a boolean expression; `None` is NULL.
    pub fn eval_bool(&self, context: &EvalContext<'_>) -> Result<Option<bool>, Error> {
        match self {
            Expr::Compare { op, left, right } => {
                if let (Some(left), Some(right)) = (left.leaf(context), right.leaf(context)) {
                    let known = !left.is_null() && !right.is_null();
                    return Ok(known.then(|| op.holds(left.compare(&right))));
                }
                let (left, right) = (left.eval(context)?, right.eval(context)?);
                let (left, right) = (left.datum(), right.datum());
                if left.is_null() || right.is_null() {
                    return Ok(None);
                }
                Ok(Some(op.holds(left.compare(&right))))
            }
            Expr::And(items) => three_valued(items, context, false),
            Expr::Or(items) => three_valued(items, context, true),
            Expr::Not(operand) => Ok(operand.eval_bool(context)?.map(|value| !value)),
            Expr::IsNull { operand, negated } => Ok(Some(operand.eval(context)?.is_null() != *negated)),
            Expr::IsTruth {
                operand,
                truth,
                negated,
            } => Ok(Some((operand.eval_bool(context)? == *truth) != *negated)),
            Expr::IsDistinct { left, right, negated } => {
                let (left, right) = (left.eval(context)?, right.eval(context)?);
                Ok(Some((left.datum() != right.datum()) != *negated))
            }
            Expr::InList {
                operand,
                list,
                negated,
            } => in_list(operand, list, *negated, context),
            Expr::Like {
                operand,
                pattern,
                fold_case,
                negated,
                compiled,
            } => {
                let operand = operand.eval(context)?;
                let Datum::Text(text) = operand.datum() else {
                    return Ok(None);
                };
                if let Some(matched) = compiled.test(text) {
                    return Ok(Some(matched != *negated));
                }
                let pattern = pattern.eval(context)?;
                let Datum::Text(pattern) = pattern.datum() else {
                    return Ok(None);
                };
                let matched = if *fold_case {
                    like::matches(&text.to_lowercase(), &pattern.to_lowercase())?
                } else {
                    like::matches(text, pattern)?
                };
                Ok(Some(matched != *negated))
            }
            other => match other.eval(context)?.datum() {
                Datum::Bool(value) => Ok(Some(value)),
                Datum::Null => Ok(None),
                _ => Err(Error::internal("a condition is not of type boolean")),
            },
        }
    }
}

/// AND and OR: `decisive` decides at once, a NULL among the others leaves the result unknown.
fn three_valued(items: &[Expr], context: &EvalContext<'_>, decisive: bool) -> Result<Option<bool>, Error> {
    let mut result = Some(!decisive);
    for item in items {
        match item.eval_bool(context)? {
            Some(value) if value == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => result = None,
        }
    }
    Ok(result)
}

fn in_list(
    operand: &Expr,
    list: &[Expr],
    negated: bool,
    context: &EvalContext<'_>,
) -> Result<Option<bool>, Error> {
    let operand = operand.eval(context)?;
    let operand = operand.datum();
    if operand.is_null() {
        return Ok(None);
    }
    let mut unknown = false;
    for item in list {
        let item = item.eval(context)?;
        let item = item.datum();
        if item.is_null() {
            unknown = true;
        } else if operand.compare(&item) == Ordering::Equal {
            return Ok(Some(!negated));
        }
    }
    Ok(if unknown { None } else { Some(negated) })
}

/// What a constant pattern compiles to: the shapes that need no matcher, unless case is folded.
pub(super) fn compile_pattern(pattern: &Expr, fold_case: bool) -> Pattern {
    match pattern {
        Expr::Constant {
            value: Value::Text(text),
            ty: DataType::Text,
        } if !fold_case => Pattern::compile(text),
        _ => Pattern::General,
    }
}
