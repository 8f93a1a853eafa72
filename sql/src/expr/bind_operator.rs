//! Operators on bound operands: arithmetic, `||`, and comparisons, with the casts that make their operands alike.

use super::coerce::{Operand, common_type, number_type, plain_name, undefined_operator};
use super::{ArithmeticOp, BindError, Binder, CompareOp, Expr, Function, Interval};
use crate::error::{Error, SqlState};
use scry_engine::types::{DataType, Datum, Value};
use sqlparser::ast::Expr as Ast;

impl Binder<'_> {
    pub(super) fn arithmetic(
        &mut self,
        op: ArithmeticOp,
        left: Operand,
        right: Operand,
    ) -> Result<Expr, BindError> {
        let undefined = |left: &Operand, right: &Operand| {
            undefined_operator(symbol(op), &left.type_name(), &right.type_name())
        };
        let (left, right) = match (left, right) {
            (Operand::Interval(interval), other) if op == ArithmeticOp::Add => {
                return self.add_interval(other, interval);
            }
            (other, Operand::Interval(interval)) if op == ArithmeticOp::Add => {
                return self.add_interval(other, interval);
            }
            (other, Operand::Interval(interval)) if op == ArithmeticOp::Subtract => {
                let negated = interval
                    .negate()
                    .ok_or_else(|| Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range"))?;
                return self.add_interval(other, negated);
            }
            (left @ Operand::Interval(_), right) | (left, right @ Operand::Interval(_)) => {
                return Err(BindError::unsupported(format!(
                    "{} {} {}",
                    left.type_name(),
                    symbol(op),
                    right.type_name()
                )));
            }
            (left, right) => (left, right),
        };
        let (left_ty, right_ty) = match (left.ty(), right.ty()) {
            (None, None) => {
                return Err(BindError::Error(
                    Error::new(
                        SqlState::AMBIGUOUS_FUNCTION,
                        format!("operator is not unique: unknown {} unknown", symbol(op)),
                    )
                    .with_hint("Could not choose a best candidate operator. You might need to add explicit type casts."),
                ));
            }
            (Some(left), Some(right)) => (left, right),
            // An operand without type is taken for one of the other's type.
            (Some(known), None) | (None, Some(known)) => (known, known),
        };
        if let Some(mut ty) = number_type(left_ty, right_ty) {
            if op == ArithmeticOp::Modulo && ty.is_float() {
                return Err(undefined(&left, &right));
            }
            ty = ty.without_modifier();
            let open = left.ty().is_none() || right.ty().is_none();
            let operand_ty = if open { left_ty.without_modifier() } else { ty };
            let (left, right) = (
                self.number_operand(left, operand_ty)?,
                self.number_operand(right, operand_ty)?,
            );
            return Ok(self.fold(Expr::Arithmetic {
                op,
                left: Box::new(left),
                right: Box::new(right),
                ty,
            }));
        }
        let ty = match (op, left_ty, right_ty) {
            (ArithmeticOp::Add, DataType::Date, DataType::Int2 | DataType::Int4)
            | (ArithmeticOp::Add, DataType::Int2 | DataType::Int4, DataType::Date)
            | (ArithmeticOp::Subtract, DataType::Date, DataType::Int2 | DataType::Int4) => DataType::Date,
            (ArithmeticOp::Subtract, DataType::Date, DataType::Date) => DataType::Int4,
            (ArithmeticOp::Add, DataType::Date, DataType::Time)
            | (ArithmeticOp::Add, DataType::Time, DataType::Date) => DataType::Timestamp,
            (
                ArithmeticOp::Add,
                DataType::Date | DataType::Timestamp | DataType::TimestampTz,
                DataType::Date | DataType::Timestamp | DataType::TimestampTz,
            ) => return Err(undefined(&left, &right)),
            (
                ArithmeticOp::Add | ArithmeticOp::Subtract,
                DataType::Date | DataType::Time | DataType::Timestamp | DataType::TimestampTz,
                DataType::Date | DataType::Time | DataType::Timestamp | DataType::TimestampTz,
            ) => {
                return Err(BindError::unsupported(format!(
                    "{} {} {}",
                    left.type_name(),
                    symbol(op),
                    right.type_name()
                )));
            }
            _ => return Err(undefined(&left, &right)),
        };
        let (left, right) = (self.coerce(left, left_ty)?, self.coerce(right, right_ty)?);
        Ok(self.fold(Expr::Arithmetic {
            op,
            left: Box::new(left),
            right: Box::new(right),
            ty,
        }))
    }

    /// What two constants make, of which one is an interval. `None`: there is none, or it is not constant.
    pub(super) fn interval_arithmetic(
        &self,
        op: ArithmeticOp,
        left: &Operand,
        right: &Operand,
    ) -> Result<Option<Interval>, BindError> {
        let number = |operand: &Operand| match operand {
            Operand::Typed(Expr::Constant { value, .. }) => float(&value.as_datum()),
            _ => None,
        };
        let made = match (op, left, right) {
            (ArithmeticOp::Add, Operand::Interval(left), Operand::Interval(right)) => left.plus(*right),
            (ArithmeticOp::Subtract, Operand::Interval(left), Operand::Interval(right)) => {
                let negated = right
                    .negate()
                    .ok_or_else(|| Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range"))?;
                left.plus(negated)
            }
            (ArithmeticOp::Multiply, Operand::Interval(interval), other)
            | (ArithmeticOp::Multiply, other, Operand::Interval(interval)) => match number(other) {
                Some(factor) => interval.times(factor),
                None => return Ok(None),
            },
            (ArithmeticOp::Divide, Operand::Interval(interval), other) => match number(other) {
                Some(divisor) => interval.divided_by(divisor),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(made?))
    }

    /// Integers of any width may meet as they are; everything else becomes the type of the operator.
    pub(super) fn number_operand(&mut self, operand: Operand, ty: DataType) -> Result<Expr, BindError> {
        match operand {
            Operand::Typed(expr) if expr.ty().is_integer() && ty.is_integer() => Ok(expr),
            other => self.coerce(other, ty),
        }
    }

    pub(super) fn add_interval(&mut self, operand: Operand, interval: Interval) -> Result<Expr, BindError> {
        let ty = match operand.ty() {
            Some(DataType::Date | DataType::Timestamp) => DataType::Timestamp,
            Some(DataType::TimestampTz) => DataType::TimestampTz,
            Some(DataType::Time) => DataType::Time,
            Some(other) => return Err(undefined_operator("+", &plain_name(&other), "interval")),
            None => {
                return Err(BindError::unsupported(format!(
                    "{} + interval",
                    operand.type_name()
                )));
            }
        };
        let operand = Box::new(self.settle(operand)?);
        Ok(self.fold(Expr::AddInterval {
            operand,
            interval,
            ty,
        }))
    }

    pub(super) fn concat(&mut self, left: Operand, right: Operand) -> Result<Expr, BindError> {
        if let (Some(DataType::Bytea), Some(DataType::Bytea) | None) | (None, Some(DataType::Bytea)) =
            (left.ty(), right.ty())
        {
            let arguments = vec![
                self.coerce(left, DataType::Bytea)?,
                self.coerce(right, DataType::Bytea)?,
            ];
            return Ok(self.fold(Expr::Function {
                function: Function::ConcatBytes,
                arguments,
                ty: DataType::Bytea,
            }));
        }
        let text_or_open = |operand: &Operand| operand.ty().is_none_or(|ty| ty.is_text());
        if left.ty() == Some(DataType::Jsonb) || right.ty() == Some(DataType::Jsonb) {
            return Err(BindError::unsupported("jsonb || jsonb"));
        }
        if !text_or_open(&left) && !text_or_open(&right) {
            return Err(undefined_operator("||", &left.type_name(), &right.type_name()));
        }
        let arguments = vec![self.as_text(left)?, self.as_text(right)?];
        Ok(self.fold(Expr::Function {
            function: Function::ConcatText,
            arguments,
            ty: DataType::Text,
        }))
    }

    pub(super) fn as_text(&mut self, operand: Operand) -> Result<Expr, BindError> {
        match operand {
            Operand::Typed(expr) if !expr.ty().is_text() => Ok(self.cast(expr, DataType::Text, true)),
            other => self.coerce(other, DataType::Text),
        }
    }

    pub(super) fn compare_asts(&mut self, left: &Ast, op: CompareOp, right: &Ast) -> Result<Expr, BindError> {
        if let (Ast::Tuple(left), Ast::Tuple(right)) = (left, right) {
            return self.compare_rows(left, op, right);
        }
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        self.compare(op, left, right)
    }

    pub(super) fn compare_rows(
        &mut self,
        left: &[Ast],
        op: CompareOp,
        right: &[Ast],
    ) -> Result<Expr, BindError> {
        if left.len() != right.len() {
            return Err(BindError::Error(Error::syntax(
                "unequal number of entries in row expressions",
            )));
        }
        let items = left
            .iter()
            .zip(right)
            .map(|(left, right)| self.compare_asts(left, op, right))
            .collect::<Result<Vec<_>, _>>()?;
        match op {
            CompareOp::Equal => Ok(Expr::And(items)),
            CompareOp::NotEqual => Ok(Expr::Or(items)),
            _ => Err(BindError::unsupported("an order of row expressions")),
        }
    }

    pub(super) fn compare(
        &mut self,
        op: CompareOp,
        left: Operand,
        right: Operand,
    ) -> Result<Expr, BindError> {
        if let (Operand::Interval(left), Operand::Interval(right)) = (&left, &right) {
            return Ok(Expr::Constant {
                value: Value::Bool(op.holds(left.span().cmp(&right.span()))),
                ty: DataType::Bool,
            });
        }
        let (left, right) = self.comparable(left, right, compare_symbol(op))?;
        let ordered = !matches!(op, CompareOp::Equal | CompareOp::NotEqual);
        if ordered && left.ty() == DataType::Jsonb {
            return Err(BindError::unsupported("an order of jsonb values"));
        }
        Ok(Expr::Compare {
            op,
            left: Box::new(left),
            right: Box::new(right),
        })
    }

    /// A varchar that is compared with a char(n), whose blanks at the end do not count then.
    fn unpadded(&self, operand: Expr, other: DataType) -> Expr {
        match (operand.ty(), other) {
            (DataType::Varchar(_), DataType::Char(_)) => self.fold(Expr::Function {
                function: Function::TrimRight,
                arguments: vec![operand],
                ty: DataType::Text,
            }),
            _ => operand,
        }
    }

    /// Both operands in the type in which they are compared.
    pub(super) fn comparable(
        &mut self,
        left: Operand,
        right: Operand,
        operator: &str,
    ) -> Result<(Expr, Expr), BindError> {
        let ty = match (left.ty(), right.ty()) {
            (None, None) => DataType::Text,
            (Some(known), None) | (None, Some(known)) => known,
            (Some(left_ty), Some(right_ty)) => {
                if left_ty.is_integer() && right_ty.is_integer() {
                    return Ok((self.settle(left)?, self.settle(right)?));
                }
                if left_ty.is_text() && right_ty.is_text() {
                    let (left, right) = (self.settle(left)?, self.settle(right)?);
                    return Ok((self.unpadded(left, right_ty), self.unpadded(right, left_ty)));
                }
                common_type(left_ty, right_ty)
                    .ok_or_else(|| undefined_operator(operator, &left.type_name(), &right.type_name()))?
            }
        };
        Ok((self.coerce(left, ty)?, self.coerce(right, ty)?))
    }
}

/// A number as the factor of an interval.
fn float(datum: &Datum<'_>) -> Option<f64> {
    match datum {
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) => datum.integer().map(|value| value as f64),
        Datum::Float4(value) => Some((*value).into()),
        Datum::Float8(value) => Some(*value),
        Datum::Numeric(value) => value.to_string().parse().ok(),
        _ => None,
    }
}

fn compare_symbol(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "=",
        CompareOp::NotEqual => "<>",
        CompareOp::Less => "<",
        CompareOp::LessEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterEqual => ">=",
    }
}

fn symbol(op: ArithmeticOp) -> &'static str {
    match op {
        ArithmeticOp::Add => "+",
        ArithmeticOp::Subtract => "-",
        ArithmeticOp::Multiply => "*",
        ArithmeticOp::Divide => "/",
        ArithmeticOp::Modulo => "%",
    }
}
