//! PostgreSQL's type resolution: operands whose type is still open, implicit casts, common types, assignment casts.

use super::{BindError, Binder, EvalContext, Expr, Interval, RowSource};
use crate::error::{Error, SqlState};
use crate::place::Place;
use crate::types::{self, InputContext};
use scry_engine::types::{DataType, MAX_CHARACTER_LENGTH, Value};
use sqlparser::tokenizer::Location;

/// A bound operand. What has no type of its own takes that of its context.
#[derive(Clone, Debug)]
pub enum Operand {
    Typed(Expr),
    /// A string literal, and where it stands.
    Text(String, Location),
    Null,
    /// A parameter whose type is not known yet.
    Parameter(usize),
    Interval(Interval),
}

impl Operand {
    /// The type without its modifier, when it has one.
    pub fn ty(&self) -> Option<DataType> {
        match self {
            Operand::Typed(expr) => Some(expr.ty()),
            _ => None,
        }
    }

    /// As error messages name it.
    pub fn type_name(&self) -> String {
        match self {
            Operand::Typed(expr) => plain_name(&expr.ty()),
            Operand::Interval(_) => "interval".to_owned(),
            _ => "unknown".to_owned(),
        }
    }
}

/// A type's name without length or precision.
pub fn plain_name(ty: &DataType) -> String {
    match ty {
        DataType::Char(_) => "character".to_owned(),
        other => other.without_modifier().to_string(),
    }
}

const OPERATOR_HINT: &str =
    "No operator matches the given name and argument types. You might need to add explicit type casts.";

pub(super) fn undefined_operator(operator: &str, left: &str, right: &str) -> BindError {
    let error = Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("operator does not exist: {left} {operator} {right}"),
    );
    BindError::Error(error.with_hint(OPERATOR_HINT))
}

/// The type in which two number types meet.
pub(super) fn number_type(left: DataType, right: DataType) -> Option<DataType> {
    let rank = |ty: DataType| match ty {
        DataType::Int2 => Some(0),
        DataType::Int4 => Some(1),
        DataType::Int8 => Some(2),
        DataType::Numeric(_) => Some(3),
        DataType::Float4 => Some(4),
        DataType::Float8 => Some(5),
        _ => None,
    };
    let (low, high) = (rank(left)?.min(rank(right)?), rank(left)?.max(rank(right)?));
    Some(match high {
        0 => DataType::Int2,
        1 => DataType::Int4,
        2 => DataType::Int8,
        3 => DataType::Numeric(None),
        4 if low == 4 => DataType::Float4,
        _ => DataType::Float8,
    })
}

/// The type in which two values of these types are compared or become one column.
pub fn common_type(left: DataType, right: DataType) -> Option<DataType> {
    if left == right {
        return Some(left);
    }
    if let Some(number) = number_type(left, right) {
        return Some(number);
    }
    if left.is_text() && right.is_text() {
        return Some(match (left, right) {
            (DataType::Varchar(_), DataType::Varchar(_)) => DataType::Varchar(None),
            _ => DataType::Text,
        });
    }
    let moment = |ty| match ty {
        DataType::Date => Some(0),
        DataType::Timestamp => Some(1),
        DataType::TimestampTz => Some(2),
        _ => None,
    };
    match moment(left)?.max(moment(right)?) {
        1 => Some(DataType::Timestamp),
        _ => Some(DataType::TimestampTz),
    }
}

/// Whether PostgreSQL casts `from` to `to` when a statement says so.
fn explicit_cast_exists(from: DataType, to: DataType) -> bool {
    use DataType::*;
    if from.is_text() || to.is_text() || common_type(from, to).is_some() {
        return true;
    }
    matches!(
        (from, to),
        (Bool, Int4) | (Int4, Bool) | (Timestamp | TimestampTz, Time)
    )
}

/// Whether a value of type `from` may be stored in a column of type `to` without a cast.
fn assignment_cast_exists(from: DataType, to: DataType) -> bool {
    use DataType::*;
    to.is_text() || common_type(from, to).is_some() || matches!((from, to), (Timestamp | TimestampTz, Time))
}

/// Whether the result depends on nothing but the value.
fn cast_is_immutable(from: DataType, to: DataType) -> bool {
    use DataType::*;
    let zoned = |ty| matches!(ty, TimestampTz);
    if zoned(from) || zoned(to) {
        return from == to;
    }
    // Text of a date may say 'now'.
    !(from.is_text() && matches!(to, Date | Time | Timestamp))
}

impl Binder<'_> {
    /// The expression with its constant parts evaluated. What fails stays, to fail when it is reached.
    pub(super) fn fold(&self, expr: Expr) -> Expr {
        let foldable = match &expr {
            Expr::Arithmetic { left, right, .. } => left.is_constant() && right.is_constant(),
            Expr::Negate(operand) => operand.is_constant(),
            Expr::Cast { operand, to, .. } => operand.is_constant() && cast_is_immutable(operand.ty(), *to),
            Expr::AddInterval { operand, ty, .. } => operand.is_constant() && *ty != DataType::TimestampTz,
            Expr::Function {
                function, arguments, ..
            } => !function.reads_facts() && arguments.iter().all(Expr::is_constant),
            _ => false,
        };
        if !foldable {
            return expr;
        }
        let ty = expr.ty();
        let context = EvalContext {
            row: RowSource::None,
            params: &[],
            facts: self.facts,
        };
        match expr.eval_value(&context) {
            Ok(value) => Expr::Constant { value, ty },
            Err(_) => expr,
        }
    }

    pub(super) fn cast(&self, operand: Expr, to: DataType, explicit: bool) -> Expr {
        self.fold(Expr::Cast {
            operand: Box::new(operand),
            to,
            explicit,
        })
    }

    /// The operand with a type: what has none becomes text.
    pub(super) fn settle(&mut self, operand: Operand) -> Result<Expr, BindError> {
        match operand {
            Operand::Typed(expr) => Ok(expr),
            other => self.coerce(other, DataType::Text),
        }
    }

    /// The operand as one of type `to`, by an implicit cast that is known to exist.
    pub(super) fn coerce(&mut self, operand: Operand, to: DataType) -> Result<Expr, BindError> {
        match operand {
            Operand::Typed(expr) => {
                let from = expr.ty();
                let same =
                    from.without_modifier() == to.without_modifier() || (from.is_text() && to.is_text());
                if same {
                    return Ok(expr);
                }
                if common_type(from, to).is_none() {
                    return Err(undefined_operator("::", &plain_name(&from), &plain_name(&to)));
                }
                Ok(self.cast(expr, to.without_modifier(), true))
            }
            Operand::Text(text, place) => {
                let ty = to.without_modifier();
                // Blanks at the end of char(n) do not count.
                let text = if matches!(to, DataType::Char(_)) {
                    text.trim_end_matches(' ')
                } else {
                    &text
                };
                Ok(Expr::Constant {
                    value: self.parse_literal(text, &ty).map_err(|error| error.at(place))?,
                    ty,
                })
            }
            Operand::Null => Ok(Expr::Constant {
                value: Value::Null,
                ty: to.without_modifier(),
            }),
            Operand::Parameter(index) => {
                let ty = match to {
                    // Of any length; the blanks at the end do not count.
                    DataType::Char(_) => DataType::Char(MAX_CHARACTER_LENGTH),
                    to => to.without_modifier(),
                };
                self.parameters.infer(index, ty);
                Ok(Expr::Parameter { index, ty })
            }
            Operand::Interval(_) => Err(BindError::unsupported("a value of type interval")),
        }
    }

    pub(super) fn parse_literal(&self, text: &str, ty: &DataType) -> Result<Value, Error> {
        let context = InputContext {
            zone: self.facts.zone,
            now: self.facts.transaction_start,
        };
        types::parse_text(text, ty, &context)
    }

    /// `CAST(operand AS to)`.
    pub(super) fn explicit_cast(&mut self, operand: Operand, to: DataType) -> Result<Expr, BindError> {
        let expr = match operand {
            Operand::Typed(expr) => expr,
            Operand::Text(text, place) => {
                // The literal is read without length, then cut to it.
                let plain = if to.is_text() {
                    DataType::Text
                } else {
                    to.without_modifier()
                };
                let value = self
                    .parse_literal(&text, &plain)
                    .map_err(|error| error.at(place))?;
                let read = Expr::Constant { value, ty: plain };
                // What does not fit fails when it is reached.
                return Ok(if to == plain {
                    read
                } else {
                    self.cast(read, to, true)
                });
            }
            Operand::Null => {
                return Ok(Expr::Constant {
                    value: Value::Null,
                    ty: to,
                });
            }
            Operand::Parameter(index) => {
                let plain = to.without_modifier();
                self.parameters.infer(index, plain);
                let parameter = Expr::Parameter { index, ty: plain };
                return Ok(if plain == to {
                    parameter
                } else {
                    self.cast(parameter, to, true)
                });
            }
            Operand::Interval(_) => return Err(BindError::unsupported("a cast of an interval")),
        };
        let from = expr.ty();
        if from == to {
            return Ok(expr);
        }
        if !explicit_cast_exists(from, to) {
            return Err(BindError::Error(Error::new(
                SqlState::CANNOT_COERCE,
                format!("cannot cast type {} to {}", plain_name(&from), plain_name(&to)),
            )));
        }
        Ok(self.cast(expr, to, true))
    }

    /// The operand as the value of a column: assignment casts, rounding and length included.
    pub(super) fn assign(&mut self, operand: Operand, column: &str, to: DataType) -> Result<Expr, BindError> {
        let expr = match operand {
            Operand::Typed(expr) => expr,
            Operand::Text(text, place) => {
                let plain = if to.is_text() {
                    DataType::Text
                } else {
                    to.without_modifier()
                };
                let value = self
                    .parse_literal(&text, &plain)
                    .map_err(|error| error.at(place))?;
                let read = Expr::Constant { value, ty: plain };
                return Ok(self.fold(Expr::Cast {
                    operand: Box::new(read),
                    to,
                    explicit: false,
                }));
            }
            Operand::Null => {
                return Ok(Expr::Constant {
                    value: Value::Null,
                    ty: to,
                });
            }
            Operand::Parameter(index) => {
                let plain = if to.is_text() && !matches!(to, DataType::Varchar(_)) {
                    DataType::Text
                } else {
                    to.without_modifier()
                };
                self.parameters.infer(index, plain);
                Expr::Parameter { index, ty: plain }
            }
            Operand::Interval(_) => return Err(BindError::unsupported("a column of type interval")),
        };
        let from = expr.ty();
        if from == to && !matches!(to, DataType::Numeric(None)) {
            return Ok(expr);
        }
        if !assignment_cast_exists(from, to) {
            return Err(BindError::Error(
                Error::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "column \"{column}\" is of type {} but expression is of type {}",
                        plain_name(&to),
                        plain_name(&from)
                    ),
                )
                .with_hint("You will need to rewrite or cast the expression."),
            ));
        }
        // A column copied to one of the same type needs no look at its values.
        let unbounded_text = matches!(to, DataType::Text | DataType::Varchar(None)) && from.is_text();
        if unbounded_text || (from == to && matches!(expr, Expr::Column { .. })) {
            return Ok(expr);
        }
        let cast = Expr::Cast {
            operand: Box::new(expr),
            to,
            explicit: false,
        };
        Ok(match cast {
            Expr::Cast { ref operand, .. } if operand.is_constant() => self.fold(cast),
            cast => cast,
        })
    }

    /// All operands in the one type that they have in common: for CASE, COALESCE and their kin, which `what` names.
    pub(super) fn unify(
        &mut self,
        operands: Vec<Operand>,
        what: &str,
    ) -> Result<(Vec<Expr>, DataType), BindError> {
        let mut common: Option<DataType> = None;
        for (index, operand) in operands.iter().enumerate() {
            let Some(ty) = operand.ty() else { continue };
            common = Some(match common {
                None => ty,
                Some(so_far) => common_type(so_far, ty).ok_or_else(|| {
                    let error = Error::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "{what} types {} and {} cannot be matched",
                            plain_name(&so_far),
                            plain_name(&ty)
                        ),
                    );
                    BindError::Error(error.at(Place::Operand(index)))
                })?,
            });
        }
        let ty = common.unwrap_or(DataType::Text);
        let exprs = operands
            .into_iter()
            .map(|operand| match operand {
                // Integers of other widths must become the one that is announced.
                Operand::Typed(expr) if expr.ty() != ty && !(expr.ty().is_text() && ty.is_text()) => {
                    Ok(self.cast(expr, ty.without_modifier(), true))
                }
                other => self.coerce(other, ty),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((exprs, ty))
    }
}
