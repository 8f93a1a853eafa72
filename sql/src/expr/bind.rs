//! Parsed expressions → bound ones.

use super::coerce::{Operand, common_type, number_type, plain_name, undefined_operator};
use super::{
    ArithmeticOp, BindError, CompareOp, DEPTH_MAX, Expr, Facts, Function, Interval, Parameters, Pattern,
    Scope, data_type, eval, like,
};
use crate::error::{Error, SqlState};
use scry_engine::types::{DataType, Numeric, Value};
use sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DateTimeField, Expr as Ast, Ident, UnaryOperator, Value as AstValue,
    ValueWithSpan,
};

/// Binds expressions of one statement: the columns that they may name, the parameters that they share.
pub struct Binder<'s> {
    pub(super) scope: &'s Scope,
    pub(super) parameters: &'s mut Parameters,
    pub(super) facts: &'s Facts<'s>,
    depth: usize,
}

/// Binds one expression; what has no type of its own becomes text.
pub fn bind(
    ast: &Ast,
    scope: &Scope,
    parameters: &mut Parameters,
    facts: &Facts<'_>,
) -> Result<Expr, BindError> {
    Binder::new(scope, parameters, facts).bind(ast)
}

/// Binds an expression that is needed in type `ty` by an implicit cast: LIMIT, OFFSET.
pub fn bind_as(
    ast: &Ast,
    ty: DataType,
    scope: &Scope,
    parameters: &mut Parameters,
    facts: &Facts<'_>,
) -> Result<Expr, BindError> {
    Binder::new(scope, parameters, facts).bind_as(ast, ty)
}

/// Binds the new value of a column of INSERT or UPDATE.
pub fn bind_assignment(
    ast: &Ast,
    column: &str,
    ty: DataType,
    scope: &Scope,
    parameters: &mut Parameters,
    facts: &Facts<'_>,
) -> Result<Expr, BindError> {
    Binder::new(scope, parameters, facts).bind_assignment(ast, column, ty)
}

/// Binds a condition; `clause` is its name in errors, such as WHERE.
pub fn bind_predicate(
    ast: &Ast,
    clause: &str,
    scope: &Scope,
    parameters: &mut Parameters,
    facts: &Facts<'_>,
) -> Result<Expr, BindError> {
    Binder::new(scope, parameters, facts).bind_predicate(ast, clause)
}

impl<'s> Binder<'s> {
    pub fn new<'n: 's>(scope: &'s Scope, parameters: &'s mut Parameters, facts: &'s Facts<'n>) -> Binder<'s> {
        Binder {
            scope,
            parameters,
            facts,
            depth: 0,
        }
    }

    pub fn bind(&mut self, ast: &Ast) -> Result<Expr, BindError> {
        let operand = self.operand(ast)?;
        self.settle(operand)
    }

    pub fn bind_as(&mut self, ast: &Ast, ty: DataType) -> Result<Expr, BindError> {
        let operand = self.operand(ast)?;
        self.coerce(operand, ty)
    }

    pub fn bind_assignment(&mut self, ast: &Ast, column: &str, ty: DataType) -> Result<Expr, BindError> {
        let operand = self.operand(ast)?;
        self.assign(operand, column, ty)
    }

    pub fn bind_predicate(&mut self, ast: &Ast, clause: &str) -> Result<Expr, BindError> {
        let operand = self.operand(ast)?;
        self.boolean(operand, clause)
    }

    /// Gives a bound expression, such as a column of a subquery's result, the type of a column.
    pub fn assign_bound(&mut self, expr: Expr, column: &str, ty: DataType) -> Result<Expr, BindError> {
        self.assign(Operand::Typed(expr), column, ty)
    }

    fn boolean(&mut self, operand: Operand, what: &str) -> Result<Expr, BindError> {
        if let Some(ty) = operand.ty()
            && ty != DataType::Bool
        {
            return Err(BindError::Error(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {what} must be type boolean, not type {}",
                    plain_name(&ty)
                ),
            )));
        }
        self.coerce(operand, DataType::Bool)
    }

    pub(super) fn operand(&mut self, ast: &Ast) -> Result<Operand, BindError> {
        if self.depth >= DEPTH_MAX {
            return Err(BindError::Error(
                Error::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                    .with_detail(format!("Expressions may be nested {DEPTH_MAX} levels deep.")),
            ));
        }
        self.depth += 1;
        let bound = self.operand_inner(ast);
        self.depth -= 1;
        bound
    }

    fn operand_inner(&mut self, ast: &Ast) -> Result<Operand, BindError> {
        match ast {
            Ast::Value(literal) => self.literal(literal),
            Ast::Identifier(name) => self.column(None, name),
            Ast::CompoundIdentifier(names) => match names.as_slice() {
                [relation, name] => self.column(Some(relation), name),
                [_schema, relation, name] => self.column(Some(relation), name),
                _ => Err(BindError::unsupported(ast)),
            },
            Ast::Nested(inner) => self.operand(inner),
            Ast::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => self.junction(left, right, true),
            Ast::BinaryOp {
                left,
                op: BinaryOperator::Or,
                right,
            } => self.junction(left, right, false),
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right),
            Ast::UnaryOp { op, expr } => self.unary(op, expr),
            Ast::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type: ty,
                array: false,
                format: None,
            } => {
                if is_interval(ty) {
                    return self.interval_literal(expr, None);
                }
                let to = data_type(ty)?;
                let operand = self.operand(expr)?;
                self.explicit_cast(operand, to).map(Operand::Typed)
            }
            Ast::TypedString(typed) => {
                let Some(text) = string_of(&typed.value.value) else {
                    return Err(BindError::unsupported(ast));
                };
                if is_interval(&typed.data_type) {
                    return Ok(Operand::Interval(Interval::parse(text, None)?));
                }
                let to = data_type(&typed.data_type)?;
                self.explicit_cast(Operand::Text(text.to_owned()), to)
                    .map(Operand::Typed)
            }
            Ast::Interval(interval) => {
                let unit = match (&interval.leading_field, &interval.last_field) {
                    (None, None) => None,
                    (Some(field), None) => Some(field),
                    _ => return Err(BindError::unsupported(ast)),
                };
                self.interval_literal(&interval.value, unit)
            }
            Ast::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self
                .case(operand.as_deref(), conditions, else_result.as_deref())
                .map(Operand::Typed),
            _ => self.predicate_or_function(ast),
        }
    }

    fn predicate_or_function(&mut self, ast: &Ast) -> Result<Operand, BindError> {
        let typed = match ast {
            Ast::IsNull(operand) => self.is_null(operand, false)?,
            Ast::IsNotNull(operand) => self.is_null(operand, true)?,
            Ast::IsTrue(operand) => self.is_truth(operand, Some(true), false)?,
            Ast::IsNotTrue(operand) => self.is_truth(operand, Some(true), true)?,
            Ast::IsFalse(operand) => self.is_truth(operand, Some(false), false)?,
            Ast::IsNotFalse(operand) => self.is_truth(operand, Some(false), true)?,
            Ast::IsUnknown(operand) => self.is_truth(operand, None, false)?,
            Ast::IsNotUnknown(operand) => self.is_truth(operand, None, true)?,
            Ast::IsDistinctFrom(left, right) => self.is_distinct(left, right, false)?,
            Ast::IsNotDistinctFrom(left, right) => self.is_distinct(left, right, true)?,
            Ast::InList { expr, list, negated } => self.in_list(expr, list, *negated)?,
            Ast::Between {
                expr,
                negated,
                low,
                high,
            } => self.between(expr, low, high, *negated)?,
            Ast::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_ref(), false, *negated)?,
            Ast::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_ref(), true, *negated)?,
            other => return self.function_like(other),
        };
        Ok(Operand::Typed(typed))
    }

    fn literal(&mut self, literal: &ValueWithSpan) -> Result<Operand, BindError> {
        match &literal.value {
            AstValue::Number(text, false) => Ok(Operand::Typed(number(text)?)),
            AstValue::Boolean(value) => Ok(Operand::Typed(Expr::Constant {
                value: Value::Bool(*value),
                ty: DataType::Bool,
            })),
            AstValue::Null => Ok(Operand::Null),
            AstValue::Placeholder(name) => self.parameter(name),
            other => match string_of(other) {
                Some(text) if text.contains('\0') => Err(BindError::Error(Error::new(
                    SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\": 0x00",
                ))),
                Some(text) => Ok(Operand::Text(text.to_owned())),
                None => Err(BindError::unsupported(format!("literal {other}"))),
            },
        }
    }

    fn parameter(&mut self, name: &str) -> Result<Operand, BindError> {
        let number = name
            .strip_prefix('$')
            .and_then(|digits| digits.parse::<usize>().ok());
        let Some(index) = number.and_then(|number| number.checked_sub(1)) else {
            return Err(BindError::Error(Error::new(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter {name}"),
            )));
        };
        Ok(match self.parameters.get(index)? {
            Some(ty) => Operand::Typed(Expr::Parameter { index, ty }),
            None => Operand::Parameter(index),
        })
    }

    fn column(&mut self, relation: Option<&Ident>, name: &Ident) -> Result<Operand, BindError> {
        let relation = relation.map(folded);
        let folded_name = folded(name);
        if relation.is_none()
            && name.quote_style.is_none()
            && self.scope.find(None, &folded_name)?.is_none()
            && let Some(expr) = self.niladic(&folded_name)
        {
            return Ok(Operand::Typed(expr));
        }
        let (index, ty) = self.scope.resolve(relation.as_deref(), &folded_name)?;
        Ok(Operand::Typed(Expr::Column { index, ty }))
    }

    /// AND and OR of any number of conditions, without a level for each.
    fn junction(&mut self, left: &Ast, right: &Ast, and: bool) -> Result<Operand, BindError> {
        let mut pending = vec![right, left];
        let mut items = Vec::new();
        while let Some(ast) = pending.pop() {
            match ast {
                Ast::BinaryOp {
                    left,
                    op: BinaryOperator::And,
                    right,
                } if and => pending.extend([&**right, &**left]),
                Ast::BinaryOp {
                    left,
                    op: BinaryOperator::Or,
                    right,
                } if !and => pending.extend([&**right, &**left]),
                Ast::Nested(inner) if is_junction(inner, and) => pending.push(inner),
                other => {
                    let operand = self.operand(other)?;
                    items.push(self.boolean(operand, if and { "AND" } else { "OR" })?);
                }
            }
        }
        Ok(Operand::Typed(if and {
            Expr::And(items)
        } else {
            Expr::Or(items)
        }))
    }

    fn binary(&mut self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Result<Operand, BindError> {
        if let Some(op) = compare_op(op) {
            return self.compare_asts(left, op, right).map(Operand::Typed);
        }
        let bound = |binder: &mut Self| Ok::<_, BindError>((binder.operand(left)?, binder.operand(right)?));
        let expr = match op {
            BinaryOperator::Plus => {
                let (left, right) = bound(self)?;
                self.arithmetic(ArithmeticOp::Add, left, right)?
            }
            BinaryOperator::Minus => {
                let (left, right) = bound(self)?;
                self.arithmetic(ArithmeticOp::Subtract, left, right)?
            }
            BinaryOperator::Multiply => {
                let (left, right) = bound(self)?;
                self.arithmetic(ArithmeticOp::Multiply, left, right)?
            }
            BinaryOperator::Divide => {
                let (left, right) = bound(self)?;
                self.arithmetic(ArithmeticOp::Divide, left, right)?
            }
            BinaryOperator::Modulo => {
                let (left, right) = bound(self)?;
                self.arithmetic(ArithmeticOp::Modulo, left, right)?
            }
            BinaryOperator::PGExp => {
                let (left, right) = bound(self)?;
                return self.call_bound("power", vec![left, right]);
            }
            BinaryOperator::StringConcat => {
                let (left, right) = bound(self)?;
                self.concat(left, right)?
            }
            BinaryOperator::PGLikeMatch => self.like(left, right, None, false, false)?,
            BinaryOperator::PGNotLikeMatch => self.like(left, right, None, false, true)?,
            BinaryOperator::PGILikeMatch => self.like(left, right, None, true, false)?,
            BinaryOperator::PGNotILikeMatch => self.like(left, right, None, true, true)?,
            other => return Err(BindError::unsupported(format!("operator {other}"))),
        };
        Ok(Operand::Typed(expr))
    }

    fn unary(&mut self, op: &UnaryOperator, operand: &Ast) -> Result<Operand, BindError> {
        match op {
            UnaryOperator::Not => {
                let operand = self.operand(operand)?;
                let operand = self.boolean(operand, "NOT")?;
                Ok(Operand::Typed(Expr::Not(Box::new(operand))))
            }
            UnaryOperator::Minus => {
                // The sign belongs to the literal, so that the least integer is one.
                if let Ast::Value(ValueWithSpan {
                    value: AstValue::Number(text, false),
                    ..
                }) = operand
                {
                    return Ok(Operand::Typed(number(&format!("-{text}"))?));
                }
                match self.operand(operand)? {
                    Operand::Interval(interval) => {
                        let negated = interval.negate().ok_or_else(|| {
                            Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
                        })?;
                        Ok(Operand::Interval(negated))
                    }
                    Operand::Typed(expr) if expr.ty().is_number() => {
                        Ok(Operand::Typed(self.fold(Expr::Negate(Box::new(expr)))))
                    }
                    Operand::Null => Ok(Operand::Null),
                    other => Err(undefined_prefix("-", &other.type_name())),
                }
            }
            UnaryOperator::Plus => match self.operand(operand)? {
                Operand::Typed(expr) if expr.ty().is_number() => Ok(Operand::Typed(expr)),
                other => Err(undefined_prefix("+", &other.type_name())),
            },
            UnaryOperator::PGAbs => {
                let operand = self.operand(operand)?;
                self.call_bound("abs", vec![operand])
            }
            other => Err(BindError::unsupported(format!("operator {other}"))),
        }
    }

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

    /// Integers of any width may meet as they are; everything else becomes the type of the operator.
    fn number_operand(&mut self, operand: Operand, ty: DataType) -> Result<Expr, BindError> {
        match operand {
            Operand::Typed(expr) if expr.ty().is_integer() && ty.is_integer() => Ok(expr),
            other => self.coerce(other, ty),
        }
    }

    fn add_interval(&mut self, operand: Operand, interval: Interval) -> Result<Expr, BindError> {
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

    fn interval_literal(&mut self, value: &Ast, unit: Option<&DateTimeField>) -> Result<Operand, BindError> {
        let Ast::Value(ValueWithSpan { value, .. }) = value else {
            return Err(BindError::unsupported("a cast to interval"));
        };
        let text = match value {
            AstValue::Number(text, false) => text.as_str(),
            other => string_of(other).ok_or_else(|| BindError::unsupported("an interval literal"))?,
        };
        let unit = unit.map(|unit| unit.to_string().to_lowercase());
        Ok(Operand::Interval(Interval::parse(text, unit.as_deref())?))
    }

    fn concat(&mut self, left: Operand, right: Operand) -> Result<Expr, BindError> {
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

    fn as_text(&mut self, operand: Operand) -> Result<Expr, BindError> {
        match operand {
            Operand::Typed(expr) if !expr.ty().is_text() => Ok(self.cast(expr, DataType::Text, true)),
            other => self.coerce(other, DataType::Text),
        }
    }

    fn compare_asts(&mut self, left: &Ast, op: CompareOp, right: &Ast) -> Result<Expr, BindError> {
        if let (Ast::Tuple(left), Ast::Tuple(right)) = (left, right) {
            return self.compare_rows(left, op, right);
        }
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        self.compare(op, left, right)
    }

    fn compare_rows(&mut self, left: &[Ast], op: CompareOp, right: &[Ast]) -> Result<Expr, BindError> {
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

    fn compare(&mut self, op: CompareOp, left: Operand, right: Operand) -> Result<Expr, BindError> {
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

    /// Both operands in the type in which they are compared.
    fn comparable(
        &mut self,
        left: Operand,
        right: Operand,
        operator: &str,
    ) -> Result<(Expr, Expr), BindError> {
        let ty = match (left.ty(), right.ty()) {
            (None, None) => DataType::Text,
            (Some(known), None) | (None, Some(known)) => known,
            (Some(left_ty), Some(right_ty)) => {
                if left_ty.is_integer() && right_ty.is_integer() || left_ty.is_text() && right_ty.is_text() {
                    return Ok((self.settle(left)?, self.settle(right)?));
                }
                common_type(left_ty, right_ty)
                    .ok_or_else(|| undefined_operator(operator, &left.type_name(), &right.type_name()))?
            }
        };
        Ok((self.coerce(left, ty)?, self.coerce(right, ty)?))
    }

    fn is_null(&mut self, operand: &Ast, negated: bool) -> Result<Expr, BindError> {
        let operand = Box::new(self.bind(operand)?);
        Ok(Expr::IsNull { operand, negated })
    }

    fn is_truth(&mut self, operand: &Ast, truth: Option<bool>, negated: bool) -> Result<Expr, BindError> {
        let operand = self.operand(operand)?;
        let what = match (truth, negated) {
            (Some(true), false) => "IS TRUE",
            (Some(true), true) => "IS NOT TRUE",
            (Some(false), false) => "IS FALSE",
            (Some(false), true) => "IS NOT FALSE",
            (None, false) => "IS UNKNOWN",
            (None, true) => "IS NOT UNKNOWN",
        };
        let operand = Box::new(self.boolean(operand, what)?);
        Ok(Expr::IsTruth {
            operand,
            truth,
            negated,
        })
    }

    fn is_distinct(&mut self, left: &Ast, right: &Ast, negated: bool) -> Result<Expr, BindError> {
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let (left, right) = self.comparable(left, right, "=")?;
        Ok(Expr::IsDistinct {
            left: Box::new(left),
            right: Box::new(right),
            negated,
        })
    }

    fn in_list(&mut self, operand: &Ast, list: &[Ast], negated: bool) -> Result<Expr, BindError> {
        let op = if negated {
            CompareOp::NotEqual
        } else {
            CompareOp::Equal
        };
        if matches!(operand, Ast::Tuple(_)) {
            let items = list
                .iter()
                .map(|item| self.compare_asts(operand, op, item))
                .collect::<Result<Vec<_>, _>>()?;
            return Ok(if negated {
                Expr::And(items)
            } else {
                Expr::Or(items)
            });
        }
        let subject = self.operand(operand)?;
        let items = list
            .iter()
            .map(|item| self.operand(item))
            .collect::<Result<Vec<_>, _>>()?;
        // One type for all of them, as PostgreSQL chooses it.
        let mut ty = subject.ty();
        for item in &items {
            ty = match (ty, item.ty()) {
                (Some(so_far), Some(next)) => Some(
                    common_type(so_far, next)
                        .ok_or_else(|| undefined_operator("=", &plain_name(&so_far), &plain_name(&next)))?,
                ),
                (so_far, next) => so_far.or(next),
            };
        }
        let ty = ty.unwrap_or(DataType::Text);
        let integers = subject.ty().is_some_and(|subject| subject.is_integer()) && ty.is_integer();
        let subject_ty = subject.ty();
        let operand = if integers {
            self.settle(subject)?
        } else {
            self.coerce(subject, ty)?
        };
        let list = items
            .into_iter()
            .map(|item| match item {
                Operand::Typed(expr) if integers => Ok(expr),
                // A literal takes the type of what it is compared with, not the widest of the list.
                other => self.coerce(other, subject_ty.filter(|_| integers).unwrap_or(ty)),
            })
            .collect::<Result<Vec<_>, BindError>>()?;
        Ok(Expr::InList {
            operand: Box::new(operand),
            list,
            negated,
        })
    }

    fn between(&mut self, operand: &Ast, low: &Ast, high: &Ast, negated: bool) -> Result<Expr, BindError> {
        let subject = self.operand(operand)?;
        let low = self.operand(low)?;
        let high = self.operand(high)?;
        // A parameter without type takes it from the first bound, then has it for the second.
        let (first, second) = if negated {
            (CompareOp::Less, CompareOp::Greater)
        } else {
            (CompareOp::GreaterEqual, CompareOp::LessEqual)
        };
        let lower = self.compare(first, subject.clone(), low)?;
        let subject = match subject {
            Operand::Parameter(index) => self.parameter(&format!("${}", index + 1))?,
            other => other,
        };
        let upper = self.compare(second, subject, high)?;
        let items = vec![lower, upper];
        Ok(if negated {
            Expr::Or(items)
        } else {
            Expr::And(items)
        })
    }

    fn like(
        &mut self,
        operand: &Ast,
        pattern: &Ast,
        escape: Option<&ValueWithSpan>,
        fold_case: bool,
        negated: bool,
    ) -> Result<Expr, BindError> {
        let (operand, pattern) = (self.operand(operand)?, self.operand(pattern)?);
        for side in [&operand, &pattern] {
            if side.ty().is_some_and(|ty| !ty.is_text()) {
                let operator = match (fold_case, negated) {
                    (false, false) => "~~",
                    (false, true) => "!~~",
                    (true, false) => "~~*",
                    (true, true) => "!~~*",
                };
                return Err(undefined_operator(
                    operator,
                    &operand.type_name(),
                    &pattern.type_name(),
                ));
            }
        }
        let width = match operand.ty() {
            Some(DataType::Char(width)) => Some(width),
            _ => None,
        };
        let mut operand = self.coerce(operand, DataType::Text)?;
        if let Some(width) = width {
            // char(n) is matched with its blanks.
            let width = Expr::Constant {
                value: Value::Int4(width as i32),
                ty: DataType::Int4,
            };
            operand = Expr::Function {
                function: Function::PadBlanks,
                arguments: vec![operand, width],
                ty: DataType::Text,
            };
        }
        let mut pattern = self.coerce(pattern, DataType::Text)?;
        if let Some(escape) = escape {
            pattern = with_escape(pattern, escape)?;
        }
        let compiled: Pattern = eval::compile_pattern(&pattern, fold_case);
        Ok(Expr::Like {
            operand: Box::new(operand),
            pattern: Box::new(pattern),
            fold_case,
            negated,
            compiled,
        })
    }

    fn case(
        &mut self,
        operand: Option<&Ast>,
        conditions: &[CaseWhen],
        otherwise: Option<&Ast>,
    ) -> Result<Expr, BindError> {
        let mut tests = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        for when in conditions {
            tests.push(match operand {
                Some(operand) => self.compare_asts(operand, CompareOp::Equal, &when.condition)?,
                None => self.bind_predicate(&when.condition, "CASE/WHEN")?,
            });
            results.push(self.operand(&when.result)?);
        }
        if let Some(otherwise) = otherwise {
            results.push(self.operand(otherwise)?);
        }
        let (mut results, ty) = self.unify(results, "CASE")?;
        let otherwise = if otherwise.is_some() {
            results.pop().map(Box::new)
        } else {
            None
        };
        Ok(Expr::Case {
            branches: tests.into_iter().zip(results).collect(),
            otherwise,
            ty,
        })
    }
}

fn is_junction(ast: &Ast, and: bool) -> bool {
    match ast {
        Ast::BinaryOp {
            op: BinaryOperator::And,
            ..
        } => and,
        Ast::BinaryOp {
            op: BinaryOperator::Or,
            ..
        } => !and,
        _ => false,
    }
}

fn is_interval(ty: &sqlparser::ast::DataType) -> bool {
    matches!(ty, sqlparser::ast::DataType::Interval { .. })
}

/// A name as PostgreSQL looks it up: lower case unless quoted.
pub(super) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() {
        name.value.clone()
    } else {
        name.value.to_lowercase()
    }
}

pub(super) fn string_of(value: &AstValue) -> Option<&str> {
    match value {
        AstValue::SingleQuotedString(text)
        | AstValue::EscapedStringLiteral(text)
        | AstValue::UnicodeStringLiteral(text)
        | AstValue::NationalStringLiteral(text) => Some(text),
        AstValue::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

/// A number literal: the smallest of integer and bigint that holds it, else numeric.
fn number(text: &str) -> Result<Expr, Error> {
    if let Ok(wide) = text.parse::<i64>() {
        return Ok(match i32::try_from(wide) {
            Ok(narrow) => Expr::Constant {
                value: Value::Int4(narrow),
                ty: DataType::Int4,
            },
            Err(_) => Expr::Constant {
                value: Value::Int8(wide),
                ty: DataType::Int8,
            },
        });
    }
    let value = Value::Numeric(Numeric::parse(text)?);
    Ok(Expr::Constant {
        value,
        ty: DataType::Numeric(None),
    })
}

fn with_escape(pattern: Expr, escape: &ValueWithSpan) -> Result<Expr, BindError> {
    let Some(text) = string_of(&escape.value) else {
        return Err(BindError::unsupported("ESCAPE"));
    };
    let mut characters = text.chars();
    let escape = characters.next();
    if characters.next().is_some() {
        return Err(BindError::Error(
            Error::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
                .with_hint("Escape string must be empty or one character."),
        ));
    }
    match (escape, pattern) {
        (Some('\\'), pattern) => Ok(pattern),
        (
            escape,
            Expr::Constant {
                value: Value::Text(text),
                ty,
            },
        ) => Ok(Expr::Constant {
            value: Value::Text(like::with_backslash(&text, escape)?),
            ty,
        }),
        (
            _,
            pattern @ Expr::Constant {
                value: Value::Null, ..
            },
        ) => Ok(pattern),
        _ => Err(BindError::unsupported("ESCAPE of a pattern that is not constant")),
    }
}

fn undefined_prefix(operator: &str, ty: &str) -> BindError {
    BindError::Error(Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("operator does not exist: {operator} {ty}"),
    ))
}

fn compare_op(op: &BinaryOperator) -> Option<CompareOp> {
    Some(match op {
        BinaryOperator::Eq => CompareOp::Equal,
        BinaryOperator::NotEq => CompareOp::NotEqual,
        BinaryOperator::Lt => CompareOp::Less,
        BinaryOperator::LtEq => CompareOp::LessEqual,
        BinaryOperator::Gt => CompareOp::Greater,
        BinaryOperator::GtEq => CompareOp::GreaterEqual,
        _ => return None,
    })
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
