//! Parsed expressions → bound ones.

use super::coerce::{Operand, plain_name};
use super::{
    ArithmeticOp, BindError, CompareOp, DEPTH_MAX, Expr, Facts, Interval, Parameters, Scope, data_type,
};
use crate::error::{Error, SqlState};
use crate::place::Place;
use scry_engine::types::{DataType, NUMERIC_MAX_PRECISION, Numeric, NumericError, Value};
use sqlparser::ast::{
    BinaryOperator, CastKind, DateTimeField, Expr as Ast, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, Spanned, UnaryOperator, Value as AstValue, ValueWithSpan,
};
use sqlparser::tokenizer::Location;

/// Binds expressions of one statement: the columns that they may name, the parameters that they share.
pub struct Binder<'s> {
    pub(super) scope: &'s Scope,
    pub(super) parameters: &'s mut Parameters,
    pub(super) facts: &'s Facts<'s>,
    depth: usize,
    leaves: &'s [Leaf<'s>],
    /// The columns that were named, each with its place in the text.
    uses: Vec<(usize, Location)>,
}

/// A part of an expression that is answered elsewhere, such as an aggregate: it reads as a column behind those of the scope.
pub struct Leaf<'s> {
    pub ast: &'s Ast,
    /// `None`: of a type that expressions do not know.
    pub ty: Option<DataType>,
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
            leaves: &[],
            uses: Vec::new(),
        }
    }

    /// Binds expressions in which these parts are leaves.
    pub fn with_leaves(mut self, leaves: &'s [Leaf<'s>]) -> Binder<'s> {
        self.leaves = leaves;
        self
    }

    /// The columns that were named so far, each with its place in the text.
    pub fn into_uses(self) -> Vec<(usize, Location)> {
        self.uses
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
            .map_err(|error| error.at(ast.span().start))
    }

    pub fn bind_predicate(&mut self, ast: &Ast, clause: &str) -> Result<Expr, BindError> {
        self.boolean_ast(ast, clause)
    }

    pub(super) fn boolean_ast(&mut self, ast: &Ast, what: &str) -> Result<Expr, BindError> {
        let operand = self.operand(ast)?;
        self.boolean(operand, what)
            .map_err(|error| error.at(ast.span().start))
    }

    /// Gives a bound expression, such as a column of a subquery's result, the type of a column.
    pub fn assign_bound(&mut self, expr: Expr, column: &str, ty: DataType) -> Result<Expr, BindError> {
        self.assign(Operand::Typed(expr), column, ty)
    }

    pub(super) fn boolean(&mut self, operand: Operand, what: &str) -> Result<Expr, BindError> {
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

    /// An expression that may have no type of its own.
    pub fn operand(&mut self, ast: &Ast) -> Result<Operand, BindError> {
        if self.depth >= DEPTH_MAX {
            return Err(BindError::Error(
                Error::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                    .with_detail(format!("Expressions may be nested {DEPTH_MAX} levels deep.")),
            ));
        }
        self.depth += 1;
        let bound = self.operand_inner(ast);
        self.depth -= 1;
        bound.map_err(|error| match error {
            BindError::Error(error) => BindError::Error(placed(error, ast)),
            unsupported => unsupported,
        })
    }

    fn leaf(&self, ast: &Ast) -> Option<Result<Operand, BindError>> {
        let at = self.leaves.iter().position(|leaf| std::ptr::eq(leaf.ast, ast))?;
        let index = self.scope.width() + at;
        Some(match self.leaves[at].ty {
            Some(ty) => Ok(Operand::Typed(Expr::Column { index, ty })),
            None => Err(BindError::unsupported("the type of a part")),
        })
    }

    fn operand_inner(&mut self, ast: &Ast) -> Result<Operand, BindError> {
        if let Some(leaf) = self.leaf(ast) {
            return leaf;
        }
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
                let to = named_type(ty)?;
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
                let to = named_type(&typed.data_type)?;
                self.explicit_cast(Operand::Text(text.to_owned(), typed.value.span.start), to)
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
            Ast::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => self.similar_to(expr, pattern, escape_char.as_ref(), *negated)?,
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
                Some(text) => Ok(Operand::Text(text.to_owned(), literal.span.start)),
                None => Err(BindError::unsupported(format!("literal {other}"))),
            },
        }
    }

    pub(super) fn parameter(&mut self, name: &str) -> Result<Operand, BindError> {
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

    fn column(&mut self, relation_ident: Option<&Ident>, name: &Ident) -> Result<Operand, BindError> {
        let relation = relation_ident.map(folded);
        let folded_name = folded(name);
        if relation.is_none()
            && name.quote_style.is_none()
            && self.scope.find(None, &folded_name)?.is_none()
            && let Some(expr) = self.niladic(&folded_name)
        {
            return Ok(Operand::Typed(expr));
        }
        let place = relation_ident.unwrap_or(name).span.start;
        match self.scope.resolve(relation.as_deref(), &folded_name)? {
            (index, Some(ty)) => {
                self.uses.push((index, place));
                Ok(Operand::Typed(Expr::Column { index, ty }))
            }
            (_, None) => Err(BindError::unsupported(format!(
                "the type of column {folded_name}"
            ))),
        }
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
                other => items.push(self.boolean_ast(other, if and { "AND" } else { "OR" })?),
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
        let arithmetic = match op {
            BinaryOperator::Plus => Some(ArithmeticOp::Add),
            BinaryOperator::Minus => Some(ArithmeticOp::Subtract),
            BinaryOperator::Multiply => Some(ArithmeticOp::Multiply),
            BinaryOperator::Divide => Some(ArithmeticOp::Divide),
            BinaryOperator::Modulo => Some(ArithmeticOp::Modulo),
            _ => None,
        };
        if let Some(op) = arithmetic {
            let (left, right) = bound(self)?;
            return match self.interval_arithmetic(op, &left, &right)? {
                Some(interval) => Ok(Operand::Interval(interval)),
                None => self.arithmetic(op, left, right).map(Operand::Typed),
            };
        }
        let expr = match op {
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
            BinaryOperator::PGRegexMatch => self.regex_match(left, right, false, false)?,
            BinaryOperator::PGRegexIMatch => self.regex_match(left, right, true, false)?,
            BinaryOperator::PGRegexNotMatch => self.regex_match(left, right, false, true)?,
            BinaryOperator::PGRegexNotIMatch => self.regex_match(left, right, true, true)?,
            other => return Err(BindError::unsupported(format!("operator {other}"))),
        };
        Ok(Operand::Typed(expr))
    }

    fn unary(&mut self, op: &UnaryOperator, operand: &Ast) -> Result<Operand, BindError> {
        match op {
            UnaryOperator::Not => {
                let operand = self.boolean_ast(operand, "NOT")?;
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
                // PostgreSQL's sign binds closer than its power.
                if let Ast::BinaryOp {
                    left,
                    op: BinaryOperator::PGExp,
                    right,
                } = operand
                {
                    let base = self.unary(op, left)?;
                    let exponent = self.operand(right)?;
                    return self.call_bound("power", vec![base, exponent]);
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
}

/// The error with the place that PostgreSQL names for mistakes in this expression, unless a part of it is to blame.
fn placed(mut error: Error, ast: &Ast) -> Error {
    if let Some(Place::Operand(index)) = error.place {
        error.place = part(ast, index).map(|part| part.span().start.into());
    }
    if error.place.is_some() || error.position.is_some() || error.code == SqlState::STATEMENT_TOO_COMPLEX {
        return error;
    }
    let place = match ast {
        Ast::BinaryOp { op, right, .. } => Place::before(op.to_string(), right.span().start),
        Ast::UnaryOp { op, expr } => Place::before(op.to_string(), expr.span().start),
        Ast::InList { list, expr, .. } => {
            let first = list.first().unwrap_or(expr);
            Place::before("in", first.span().start)
        }
        Ast::Like { pattern, .. } => Place::before("like", pattern.span().start),
        Ast::ILike { pattern, .. } => Place::before("ilike", pattern.span().start),
        Ast::SimilarTo { pattern, .. } => Place::before("similar", pattern.span().start),
        Ast::Between { low, .. } => Place::before("between", low.span().start),
        Ast::IsDistinctFrom(_, right) | Ast::IsNotDistinctFrom(_, right) => {
            Place::before("is", right.span().start)
        }
        Ast::Cast {
            kind: CastKind::DoubleColon,
            expr,
            ..
        } => Place::after("::", expr.span().end),
        Ast::Cast { expr, .. } => Place::before("cast", expr.span().start),
        Ast::Nested(_) => return error,
        other => other.span().start.into(),
    };
    error.at(place)
}

/// The operand with this number of CASE (whose ELSE is the first), COALESCE and their kin.
fn part(ast: &Ast, index: usize) -> Option<&Ast> {
    match ast {
        Ast::Case {
            conditions,
            else_result,
            ..
        } => match (else_result.as_deref(), index) {
            (Some(otherwise), 0) => Some(otherwise),
            (Some(_), index) => conditions.get(index - 1).map(|when| &when.result),
            (None, index) => conditions.get(index).map(|when| &when.result),
        },
        Ast::Function(Function {
            args: FunctionArguments::List(list),
            ..
        }) => match list.args.get(index)? {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Some(argument),
            _ => None,
        },
        _ => None,
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

/// The type, or an error where its name stands.
fn named_type(ty: &sqlparser::ast::DataType) -> Result<DataType, BindError> {
    data_type(ty).map_err(|error| match ty {
        sqlparser::ast::DataType::Custom(name, _) => error.at(name.span().start),
        _ => error,
    })
}

fn is_interval(ty: &sqlparser::ast::DataType) -> bool {
    matches!(ty, sqlparser::ast::DataType::Interval { .. })
}

/// A name as PostgreSQL looks it up: lower case unless quoted.
pub fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() {
        name.value.clone()
    } else {
        name.value.to_ascii_lowercase()
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
    // PostgreSQL's numeric holds 1e300; what ours cannot hold in full is a double at once, as it would become where
    // such numbers are used.
    let scientific = text.contains(['e', 'E']);
    let value = match Numeric::parse(text) {
        Ok(number) if scientific && number.scale() == NUMERIC_MAX_PRECISION => None,
        Ok(number) => Some(Value::Numeric(number)),
        Err(_) if scientific => None,
        Err(error) => return Err(error.into()),
    };
    let Some(value) = value else {
        let value = text
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .ok_or_else(|| Error::from(NumericError::Overflow))?;
        return Ok(Expr::Constant {
            value: Value::Float8(value),
            ty: DataType::Float8,
        });
    };
    Ok(Expr::Constant {
        value,
        ty: DataType::Numeric(None),
    })
}

fn undefined_prefix(operator: &str, ty: &str) -> BindError {
    let error = Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("operator does not exist: {operator} {ty}"),
    );
    BindError::Error(error.with_hint(
        "No operator matches the given name and argument type. You might need to add an explicit type cast.",
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
