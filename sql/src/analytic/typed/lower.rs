//! Bound expressions → syntax that DataFusion plans to the same meaning.
//!
//! What both compute alike is written as the operator or function that DataFusion has; the rest becomes a bridge. A bridge
//! takes in as much of an expression as DataFusion could not do either, so that one call does the work of several.

use super::build;
use super::{Context, GroupKey, Made};
use crate::analytic::functions::bridge::Circumstances;
use crate::error::{Error, SqlState};
use crate::expr::{ArithmeticOp, CompareOp, Expr, Function};
use scry_engine::{DataType, Value};
use sqlparser::ast::{self, BinaryOperator, Expr as Ast, UnaryOperator};
use sqlparser::tokenizer::Location;
use std::cmp::Ordering;
use std::sync::Arc;

/// Writes expressions of one place.
pub(super) struct Lowering<'l> {
    pub context: &'l Context<'l>,
    /// How the parts that were leaves are written.
    pub leaves: &'l [Ast],
    /// Where columns were named.
    pub uses: &'l [(usize, Location)],
    pub made: &'l mut Made,
    pub circumstances: &'l Arc<Circumstances>,
}

/// What a bridge is called in EXPLAIN.
pub(super) fn label(expr: &Expr) -> String {
    match expr {
        Expr::Function { function, .. } => format!("{function:?}").to_ascii_lowercase(),
        Expr::Cast { to, .. } => format!("to {to}"),
        Expr::AddInterval { .. } => "add_interval".to_owned(),
        Expr::Arithmetic { .. } => "arithmetic".to_owned(),
        _ => "expression".to_owned(),
    }
}

impl Lowering<'_> {
    pub fn lower(&mut self, expr: &Expr) -> Result<Ast, Error> {
        if let Some(key) = self.key(expr) {
            return Ok(key.written.clone());
        }
        if !self.is_native(expr) {
            return self.bridge(expr);
        }
        Ok(match expr {
            Expr::Column { index, .. } => return self.column(*index),
            Expr::Parameter { index, .. } => build::parameter(*index),
            Expr::Constant { value, ty } => build::constant(value, ty),
            Expr::Arithmetic { op, left, right, .. } => self.arithmetic(*op, left, right)?,
            Expr::Negate(operand) => self.negate(operand)?,
            Expr::Compare { op, left, right } => {
                build::binary(self.compared(left)?, comparison(*op), self.compared(right)?)
            }
            Expr::And(items) => self.junction(items, BinaryOperator::And)?,
            Expr::Or(items) => self.junction(items, BinaryOperator::Or)?,
            Expr::Not(operand) => Ast::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(build::nested(self.lower(operand)?)),
            },
            Expr::IsNull { operand, negated } => {
                let operand = Box::new(self.lower(operand)?);
                build::nested(if *negated {
                    Ast::IsNotNull(operand)
                } else {
                    Ast::IsNull(operand)
                })
            }
            Expr::IsTruth {
                operand,
                truth,
                negated,
            } => {
                let operand = Box::new(self.lower(operand)?);
                build::nested(match (truth, negated) {
                    (Some(true), false) => Ast::IsTrue(operand),
                    (Some(true), true) => Ast::IsNotTrue(operand),
                    (Some(false), false) => Ast::IsFalse(operand),
                    (Some(false), true) => Ast::IsNotFalse(operand),
                    (None, false) => Ast::IsUnknown(operand),
                    (None, true) => Ast::IsNotUnknown(operand),
                })
            }
            Expr::IsDistinct { left, right, negated } => {
                let (left, right) = (Box::new(self.lower(left)?), Box::new(self.lower(right)?));
                build::nested(if *negated {
                    Ast::IsNotDistinctFrom(left, right)
                } else {
                    Ast::IsDistinctFrom(left, right)
                })
            }
            Expr::InList {
                operand,
                list,
                negated,
            } => build::nested(Ast::InList {
                expr: Box::new(self.lower(operand)?),
                list: self.all(list)?,
                negated: *negated,
            }),
            Expr::Like {
                operand,
                pattern,
                fold_case,
                negated,
                ..
            } => self.like(operand, pattern, *fold_case, *negated)?,
            Expr::Case {
                branches,
                otherwise,
                ty,
            } => self.case(branches, otherwise.as_deref(), ty)?,
            Expr::Coalesce { arguments, .. } => build::call("coalesce", self.all(arguments)?),
            Expr::NullIf { left, right } => {
                build::call("nullif", vec![self.lower(left)?, self.lower(right)?])
            }
            Expr::Extreme { arguments, keep, .. } => {
                let name = if *keep == Ordering::Greater {
                    "greatest"
                } else {
                    "least"
                };
                build::call(name, self.all(arguments)?)
            }
            Expr::Cast { operand, to, .. } => self.cast(operand, to)?,
            Expr::AddInterval { .. } => return self.bridge(expr),
            Expr::Function {
                function,
                arguments,
                ty,
            } => self.function(*function, arguments, ty)?,
        })
    }

    fn all(&mut self, list: &[Expr]) -> Result<Vec<Ast>, Error> {
        list.iter().map(|item| self.lower(item)).collect()
    }

    /// A text with blanks at its end is marked as such, lest it lose them beside a char(n).
    fn compared(&mut self, operand: &Expr) -> Result<Ast, Error> {
        let written = self.lower(operand)?;
        Ok(match operand {
            Expr::Constant {
                value: Value::Text(text),
                ..
            } if text.ends_with(' ') => build::cast(written, &DataType::Text),
            _ => written,
        })
    }

    fn key(&self, expr: &Expr) -> Option<&GroupKey> {
        let keys = &self.context.groups?.keys;
        keys.iter().find(|key| key.bound.as_ref() == Some(expr))
    }

    fn column(&self, index: usize) -> Result<Ast, Error> {
        let scope = self.context.scope;
        if let Some(leaf) = index.checked_sub(scope.width()) {
            let leaf = self.leaves.get(leaf).cloned();
            return leaf.ok_or_else(|| Error::internal("a leaf of an expression is missing"));
        }
        if index < scope.columns().len()
            && let Some(groups) = self.context.groups
        {
            if groups.sets || !scope.depends_on(index, &|column| groups.has_column(column)) {
                return Err(self.ungrouped(index));
            }
            let mut dependent = groups.dependent.borrow_mut();
            if !dependent.contains(&index) {
                dependent.push(index);
            }
        }
        written_column(self.context, index)
    }

    fn ungrouped(&self, index: usize) -> Error {
        let name = self
            .context
            .scope
            .at(index)
            .map(|(relation, column)| format!("{relation}.{}", column.name))
            .unwrap_or_default();
        let error = Error::new(
            SqlState::GROUPING_ERROR,
            format!(
                "column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"
            ),
        );
        match self.uses.iter().find(|(used, _)| *used == index) {
            Some((_, place)) => error.at(*place),
            None => error,
        }
    }

    fn is_utc(&self) -> bool {
        self.circumstances.zone.is_utc()
    }

    /// Whether DataFusion has an operator or function of the same meaning for this node.
    fn is_native(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Arithmetic { op, left, right, .. } => {
                let numbers = left.ty().is_number() && right.ty().is_number();
                let days = *op != ArithmeticOp::Add || ![left.ty(), right.ty()].contains(&DataType::Time);
                numbers || days
            }
            Expr::AddInterval { .. } => false,
            Expr::Cast {
                operand,
                to,
                explicit,
            } => *explicit && self.is_native_cast(operand.ty(), *to),
            Expr::Function {
                function, arguments, ..
            } => self.is_native_function(*function, arguments),
            // An order of jsonb or of a float that may be NaN is not asked for here; texts compare by their bytes in both.
            _ => true,
        }
    }

    fn is_native_cast(&self, from: DataType, to: DataType) -> bool {
        use DataType::*;
        match (from, to) {
            (Int2, Int2 | Int4 | Int8) | (Int4, Int4 | Int8) | (Int8, Int8) => true,
            (Int2 | Int4 | Int8, Float4 | Float8 | Numeric(None)) => true,
            (Float4, Float8) | (Numeric(_), Float8) => true,
            (Numeric(_), Numeric(None)) => true,
            (Bool, Int4) | (Int4, Bool) => true,
            (Text | Varchar(_) | Char(_), Text | Varchar(None)) => true,
            (Uuid | Jsonb, Text | Varchar(None)) => true,
            (Int2 | Int4 | Int8, Text | Varchar(None)) => true,
            (Date, Timestamp) | (Timestamp, Date) | (Timestamp, Time) => true,
            (Date | Timestamp, TimestampTz) | (TimestampTz, Date | Timestamp | Time) => self.is_utc(),
            _ => false,
        }
    }

    fn is_native_function(&self, function: Function, arguments: &[Expr]) -> bool {
        use Function as F;
        match (function, arguments) {
            (F::Lower | F::Upper | F::Position | F::StartsWith | F::ConcatText, _) => true,
            (F::CharLength | F::OctetLength, [of]) => of.ty() != DataType::Bytea,
            (F::Substring, [_, _]) => true,
            (F::Substring, [_, _, length]) => {
                matches!(length, Expr::Constant { value: Value::Int4(length), .. } if *length >= 0)
            }
            (F::TrimBoth | F::TrimLeft | F::TrimRight, [_]) => true,
            (F::Abs, [of]) => !of.ty().is_integer(),
            (F::Ceil | F::Floor, [of]) => of.ty() == DataType::Float8,
            (F::Extract | F::DatePart, [field, of]) => self.plain_field(field, of.ty()).is_some(),
            (F::Now | F::Random | F::StatementTimestamp | F::ClockTimestamp, _) => true,
            (F::CurrentDate | F::LocalTimestamp | F::LocalTime, _) => true,
            (
                F::CurrentUser
                | F::CurrentDatabase
                | F::CurrentSchema
                | F::Version
                | F::BackendPid
                | F::Pi
                | F::TransactionId,
                _,
            ) => true,
            _ => false,
        }
    }

    /// A field that is the same small integer in DataFusion.
    fn plain_field(&self, field: &Expr, of: DataType) -> Option<&'static str> {
        let Expr::Constant {
            value: Value::Text(field),
            ..
        } = field
        else {
            return None;
        };
        let name = match field.to_ascii_lowercase().as_str() {
            "year" | "years" => "year",
            "month" | "months" => "month",
            "day" | "days" => "day",
            "quarter" => "quarter",
            "doy" => "doy",
            "dow" => "dow",
            "hour" | "hours" if of == DataType::Timestamp => "hour",
            "minute" | "minutes" if of == DataType::Timestamp => "minute",
            _ => return None,
        };
        matches!(of, DataType::Date | DataType::Timestamp).then_some(name)
    }

    fn arithmetic(&mut self, op: ArithmeticOp, left: &Expr, right: &Expr) -> Result<Ast, Error> {
        let dates = left.ty() == DataType::Date && right.ty() == DataType::Date;
        let (left, right) = (self.lower(left)?, self.lower(right)?);
        if dates {
            // Days between two dates; DataFusion would make them 64 bits wide.
            let days = |date: Ast| build::cast(date, &DataType::Int4);
            return Ok(build::binary(days(left), BinaryOperator::Minus, days(right)));
        }
        let op = match op {
            ArithmeticOp::Add => BinaryOperator::Plus,
            ArithmeticOp::Subtract => BinaryOperator::Minus,
            ArithmeticOp::Multiply => BinaryOperator::Multiply,
            ArithmeticOp::Divide => BinaryOperator::Divide,
            ArithmeticOp::Modulo => BinaryOperator::Modulo,
        };
        Ok(build::binary(left, op, right))
    }

    /// Integers are taken from zero, which notices the least one.
    fn negate(&mut self, operand: &Expr) -> Result<Ast, Error> {
        let ty = operand.ty();
        let operand = self.lower(operand)?;
        if ty.is_integer() {
            let zero = build::cast(build::number(0), &ty);
            return Ok(build::binary(zero, BinaryOperator::Minus, operand));
        }
        Ok(build::nested(Ast::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(build::nested(operand)),
        }))
    }

    fn junction(&mut self, items: &[Expr], op: BinaryOperator) -> Result<Ast, Error> {
        let mut items = items.iter();
        let mut made = match items.next() {
            Some(first) => self.lower(first)?,
            None => return Ok(build::boolean(op == BinaryOperator::And)),
        };
        for item in items {
            made = Ast::BinaryOp {
                left: Box::new(made),
                op: op.clone(),
                right: Box::new(self.lower(item)?),
            };
        }
        Ok(build::nested(made))
    }

    fn like(&mut self, operand: &Expr, pattern: &Expr, fold_case: bool, negated: bool) -> Result<Ast, Error> {
        let expr = Box::new(self.lower(operand)?);
        let pattern = Box::new(self.lower(pattern)?);
        let (any, escape_char) = (false, None);
        Ok(build::nested(if fold_case {
            Ast::ILike {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            }
        } else {
            Ast::Like {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            }
        }))
    }

    fn case(
        &mut self,
        branches: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        ty: &DataType,
    ) -> Result<Ast, Error> {
        let conditions = branches
            .iter()
            .map(|(condition, result)| {
                Ok(ast::CaseWhen {
                    condition: self.lower(condition)?,
                    result: self.lower(result)?,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let otherwise = match otherwise {
            Some(otherwise) => self.lower(otherwise)?,
            None => build::cast(build::null(), &ty.without_modifier()),
        };
        Ok(Ast::Case {
            case_token: ast::helpers::attached_token::AttachedToken::empty(),
            end_token: ast::helpers::attached_token::AttachedToken::empty(),
            operand: None,
            conditions,
            else_result: Some(Box::new(otherwise)),
        })
    }

    fn cast(&mut self, operand: &Expr, to: &DataType) -> Result<Ast, Error> {
        let from = operand.ty();
        let operand = self.lower(operand)?;
        let exact = |digits| DataType::Numeric(Some((digits, 0)));
        let unchanged = match (from, to) {
            (from, to) if from.is_text() && to.is_text() => true,
            (DataType::Numeric(_), DataType::Numeric(None)) => true,
            (DataType::Uuid | DataType::Jsonb, _) => true,
            _ => false,
        };
        if unchanged {
            return Ok(operand);
        }
        // An integer as numeric has no fraction to carry along.
        Ok(match (from, to) {
            (DataType::Int2, DataType::Numeric(None)) => build::cast(operand, &exact(5)),
            (DataType::Int4, DataType::Numeric(None)) => build::cast(operand, &exact(10)),
            (DataType::Int8, DataType::Numeric(None)) => build::cast(operand, &exact(19)),
            _ => build::cast(operand, to),
        })
    }

    fn function(&mut self, function: Function, arguments: &[Expr], ty: &DataType) -> Result<Ast, Error> {
        use Function as F;
        let moment = |to| build::cast(build::call("now", Vec::new()), &to);
        let name = match function {
            F::Now => return Ok(moment(DataType::TimestampTz)),
            // The local date and time are casts of the transaction's start, by the session's zone.
            F::CurrentDate | F::LocalTimestamp | F::LocalTime => {
                let now = Expr::Function {
                    function: F::Now,
                    arguments: Vec::new(),
                    ty: DataType::TimestampTz,
                };
                return self.lower(&Expr::Cast {
                    operand: Box::new(now),
                    to: *ty,
                    explicit: true,
                });
            }
            F::CurrentUser => return Ok(build::text(&self.circumstances.user)),
            F::CurrentDatabase => return Ok(build::text(crate::analytic::DATABASE)),
            F::CurrentSchema => return Ok(build::text("public")),
            F::Version => return Ok(build::text(crate::analytic::functions::text::VERSION)),
            F::BackendPid => {
                let process = Value::Int4(self.circumstances.process);
                return Ok(build::constant(&process, &DataType::Int4));
            }
            F::TransactionId => return Ok(build::cast(build::null(), ty)),
            F::Pi => {
                let pi = Value::Float8(std::f64::consts::PI);
                return Ok(build::constant(&pi, &DataType::Float8));
            }
            F::Extract | F::DatePart => return self.field(arguments, ty),
            F::ConcatText => {
                let [left, right] = arguments else {
                    return Err(Error::internal("|| was bound without two operands"));
                };
                let (left, right) = (self.lower(left)?, self.lower(right)?);
                return Ok(build::binary(left, BinaryOperator::StringConcat, right));
            }
            F::Random => "random",
            F::StatementTimestamp => "statement_timestamp",
            F::ClockTimestamp => "clock_timestamp",
            F::Lower => "lower",
            F::Upper => "upper",
            F::Position => "strpos",
            F::StartsWith => "starts_with",
            F::CharLength => "character_length",
            F::OctetLength => "octet_length",
            F::Substring => "substr",
            F::TrimBoth => "btrim",
            F::TrimLeft => "ltrim",
            F::TrimRight => "rtrim",
            F::Abs => "abs",
            F::Ceil => "ceil",
            F::Floor => "floor",
            other => return Err(Error::internal(format!("{other:?} has no name in DataFusion"))),
        };
        Ok(build::call(name, self.all(arguments)?))
    }

    fn field(&mut self, arguments: &[Expr], ty: &DataType) -> Result<Ast, Error> {
        let [field, of] = arguments else {
            return Err(Error::internal("a field was bound without a date"));
        };
        let name = self.plain_field(field, of.ty()).unwrap_or_default();
        let of = self.lower(of)?;
        let part = build::call("date_part", vec![build::text(name), of]);
        Ok(match ty {
            DataType::Numeric(_) => build::cast(part, &DataType::Numeric(Some((10, 0)))),
            other => build::cast(part, other),
        })
    }

    /// A call of a bridge that does all of `expr` that DataFusion cannot.
    fn bridge(&mut self, expr: &Expr) -> Result<Ast, Error> {
        let mut arguments = Vec::new();
        let mut types = Vec::new();
        let template = self.template(expr, &mut arguments, &mut types)?;
        let name = self.made.bridge(template, types, self.circumstances);
        Ok(build::call(&name, arguments))
    }

    fn template(
        &mut self,
        expr: &Expr,
        arguments: &mut Vec<Ast>,
        types: &mut Vec<DataType>,
    ) -> Result<Expr, Error> {
        expr.map_parts(&mut |part| {
            if matches!(part, Expr::Constant { .. }) {
                return Ok(part.clone());
            }
            if self.key(part).is_none() && !self.is_native(part) {
                return self.template(part, arguments, types);
            }
            let written = self.lower(part)?;
            let ty = part.ty();
            let known = arguments.iter().position(|known| *known == written);
            let index = match known.filter(|_| !part.is_volatile()) {
                Some(known) => known,
                None => {
                    arguments.push(written);
                    types.push(ty);
                    arguments.len() - 1
                }
            };
            Ok(Expr::Column { index, ty })
        })
    }
}

/// A column of the scope by its qualified name.
pub(super) fn written_column(context: &Context<'_>, index: usize) -> Result<Ast, Error> {
    match context.scope.at(index) {
        Some((relation, column)) => Ok(match &column.stands_for {
            Some(expr) => expr.as_ref().clone(),
            None => Ast::CompoundIdentifier(vec![build::quoted(relation), build::quoted(&column.name)]),
        }),
        None => Err(Error::internal("a column is not in the scope of its query")),
    }
}

fn comparison(op: CompareOp) -> BinaryOperator {
    match op {
        CompareOp::Equal => BinaryOperator::Eq,
        CompareOp::NotEqual => BinaryOperator::NotEq,
        CompareOp::Less => BinaryOperator::Lt,
        CompareOp::LessEqual => BinaryOperator::LtEq,
        CompareOp::Greater => BinaryOperator::Gt,
        CompareOp::GreaterEqual => BinaryOperator::GtEq,
    }
}
