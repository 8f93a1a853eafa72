//! Predicates with a syntax of their own, and CASE.

use super::bind::string_of;
use super::coerce::{Operand, common_type, plain_name, undefined_operator};
use super::{BindError, Binder, CompareOp, Expr, Function, Pattern, eval, like};
use crate::error::{Error, SqlState};
use scry_engine::types::{DataType, Value};
use sqlparser::ast::{CaseWhen, Expr as Ast, Value as AstValue, ValueWithSpan};

impl Binder<'_> {
    pub(super) fn is_null(&mut self, operand: &Ast, negated: bool) -> Result<Expr, BindError> {
        let operand = Box::new(self.bind(operand)?);
        Ok(Expr::IsNull { operand, negated })
    }

    pub(super) fn is_truth(
        &mut self,
        operand: &Ast,
        truth: Option<bool>,
        negated: bool,
    ) -> Result<Expr, BindError> {
        let what = match (truth, negated) {
            (Some(true), false) => "IS TRUE",
            (Some(true), true) => "IS NOT TRUE",
            (Some(false), false) => "IS FALSE",
            (Some(false), true) => "IS NOT FALSE",
            (None, false) => "IS UNKNOWN",
            (None, true) => "IS NOT UNKNOWN",
        };
        let operand = Box::new(self.boolean_ast(operand, what)?);
        Ok(Expr::IsTruth {
            operand,
            truth,
            negated,
        })
    }

    pub(super) fn is_distinct(&mut self, left: &Ast, right: &Ast, negated: bool) -> Result<Expr, BindError> {
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let (left, right) = self.comparable(left, right, "=")?;
        Ok(Expr::IsDistinct {
            left: Box::new(left),
            right: Box::new(right),
            negated,
        })
    }

    pub(super) fn in_list(&mut self, operand: &Ast, list: &[Ast], negated: bool) -> Result<Expr, BindError> {
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

    pub(super) fn between(
        &mut self,
        operand: &Ast,
        low: &Ast,
        high: &Ast,
        negated: bool,
    ) -> Result<Expr, BindError> {
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

    pub(super) fn like(
        &mut self,
        operand: &Ast,
        pattern: &Ast,
        escape: Option<&ValueWithSpan>,
        fold_case: bool,
        negated: bool,
    ) -> Result<Expr, BindError> {
        let (operand, pattern) = (self.operand(operand)?, self.operand(pattern)?);
        check_texts((&operand, &pattern), "~~", fold_case, negated)?;
        let operand = self.padded_text(operand)?;
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

    /// An operand as text, of char(n) with its blanks.
    pub(super) fn padded_text(&mut self, operand: Operand) -> Result<Expr, BindError> {
        let Some(DataType::Char(width)) = operand.ty() else {
            return self.coerce(operand, DataType::Text);
        };
        let width = Expr::Constant {
            value: Value::Int4(width as i32),
            ty: DataType::Int4,
        };
        Ok(Expr::Function {
            function: Function::PadBlanks,
            arguments: vec![self.coerce(operand, DataType::Text)?, width],
            ty: DataType::Text,
        })
    }

    pub(super) fn similar_to(
        &mut self,
        operand: &Ast,
        pattern: &Ast,
        escape: Option<&ValueWithSpan>,
        negated: bool,
    ) -> Result<Expr, BindError> {
        let (operand, pattern) = (self.operand(operand)?, self.operand(pattern)?);
        if let Some(ty) = pattern.ty().filter(|ty| !ty.is_text()) {
            return Err(BindError::Error(
                Error::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("function pg_catalog.similar_to_escape({}) does not exist", plain_name(&ty)),
                )
                .with_hint(
                    "No function matches the given name and argument types. You might need to add explicit type casts.",
                ),
            ));
        }
        if let Some(ty) = operand.ty().filter(|ty| !ty.is_text()) {
            let operator = if negated { "!~" } else { "~" };
            return Err(undefined_operator(operator, &plain_name(&ty), "text"));
        }
        let operand = self.padded_text(operand)?;
        let pattern = self.coerce(pattern, DataType::Text)?;
        let found = similar_to(operand, pattern, escape)?;
        Ok(negated_if(negated, self.fold(found)))
    }

    /// `~`, `~*` and their negations.
    pub(super) fn regex_match(
        &mut self,
        operand: &Ast,
        pattern: &Ast,
        fold_case: bool,
        negated: bool,
    ) -> Result<Expr, BindError> {
        let (operand, pattern) = (self.operand(operand)?, self.operand(pattern)?);
        check_texts((&operand, &pattern), "~", fold_case, negated)?;
        let arguments = vec![self.padded_text(operand)?, self.coerce(pattern, DataType::Text)?];
        let function = match fold_case {
            true => Function::RegexMatchFolded,
            false => Function::RegexMatch,
        };
        let found = self.fold(Expr::Function {
            function,
            arguments,
            ty: DataType::Bool,
        });
        Ok(negated_if(negated, found))
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&Ast>,
        conditions: &[CaseWhen],
        otherwise: Option<&Ast>,
    ) -> Result<Expr, BindError> {
        let mut tests = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        // ELSE comes first, as PostgreSQL names the types of a mismatch in that order.
        if let Some(otherwise) = otherwise {
            results.push(self.operand(otherwise)?);
        }
        for when in conditions {
            tests.push(match operand {
                Some(operand) => self.compare_asts(operand, CompareOp::Equal, &when.condition)?,
                None => self.bind_predicate(&when.condition, "CASE/WHEN")?,
            });
            results.push(self.operand(&when.result)?);
        }
        let (results, ty) = self.unify(results, "CASE")?;
        let mut results = results.into_iter();
        let otherwise = otherwise.and_then(|_| results.next()).map(Box::new);
        Ok(Expr::Case {
            branches: tests.into_iter().zip(results).collect(),
            otherwise,
            ty,
        })
    }
}

/// Refuses to match what is no text.
fn check_texts(
    (operand, pattern): (&Operand, &Operand),
    operator: &str,
    fold_case: bool,
    negated: bool,
) -> Result<(), BindError> {
    let is_text = |side: &Operand| side.ty().is_none_or(|ty| ty.is_text());
    if is_text(operand) && is_text(pattern) {
        return Ok(());
    }
    let negation = if negated { "!" } else { "" };
    let folding = if fold_case { "*" } else { "" };
    Err(undefined_operator(
        &format!("{negation}{operator}{folding}"),
        &operand.type_name(),
        &pattern.type_name(),
    ))
}

fn negated_if(negated: bool, found: Expr) -> Expr {
    match negated {
        true => Expr::Not(Box::new(found)),
        false => found,
    }
}

/// SIMILAR TO of two texts.
///
/// # Errors
/// An escape that is no literal is not supported.
pub fn similar_to(operand: Expr, pattern: Expr, escape: Option<&ValueWithSpan>) -> Result<Expr, BindError> {
    let escape = match escape.map(|escape| &escape.value) {
        None => Value::Text("\\".to_owned()),
        Some(AstValue::Null) => Value::Null,
        Some(escape) => match string_of(escape) {
            Some(text) => Value::Text(text.to_owned()),
            None => return Err(BindError::unsupported("ESCAPE")),
        },
    };
    let escape = Expr::Constant {
        value: escape,
        ty: DataType::Text,
    };
    Ok(Expr::Function {
        function: Function::SimilarTo,
        arguments: vec![operand, pattern, escape],
        ty: DataType::Bool,
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
