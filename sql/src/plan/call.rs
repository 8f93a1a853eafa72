//! Calls of the functions that stand for statements ([`super::callable`]).
//!
//! They are statements of their own: `SELECT scry.f(…)` and `SELECT * FROM scry.f(…)` with nothing else in them, and
//! `CALL scry.f(…)`. Anywhere else they would run at times, and as often, as a query's plan wants it: they are refused there.

use crate::error::{Error, SqlState};
use crate::expr::folded;
use crate::plan::callable::{self, Callable, SCHEMA};
use crate::plan::scalar::{Binder, Refusal, Scalar};
use sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Query, SelectItem,
    SetExpr, Spanned, TableFactor, Visit, Visitor,
};
use sqlparser::tokenizer::Location;
use std::ops::ControlFlow;

/// A call, as it was parsed.
#[derive(Debug, Clone)]
pub struct Call {
    pub callable: &'static Callable,
    /// For each parameter of the function what was given.
    pub arguments: Vec<Option<Expr>>,
    /// The result's column.
    pub column: String,
    /// Whether it was CALL, else a SELECT.
    pub is_call: bool,
}

/// A call whose arguments are bound.
#[derive(Debug)]
pub struct CallPlan {
    pub callable: &'static Callable,
    pub arguments: Vec<Option<Scalar>>,
    pub is_call: bool,
}

/// The call that a query is; `None`: it is a query.
///
/// # Errors
/// When the arguments do not fit.
pub fn of_query(query: &Query) -> Result<Option<Call>, Error> {
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty();
    let SetExpr::Select(select) = query.body.as_ref() else {
        return Ok(None);
    };
    let plain = plain
        && select.distinct.is_none()
        && select.selection.is_none()
        && select.having.is_none()
        && select.into.is_none()
        && matches!(&select.group_by, ast::GroupByExpr::Expressions(list, _) if list.is_empty());
    if !plain {
        return Ok(None);
    }
    match (select.projection.as_slice(), select.from.as_slice()) {
        ([SelectItem::UnnamedExpr(Expr::Function(function))], []) => of_function(function, None, false),
        (
            [
                SelectItem::ExprWithAlias {
                    expr: Expr::Function(function),
                    alias,
                },
            ],
            [],
        ) => of_function(function, Some(folded(alias)), false),
        ([SelectItem::Wildcard(_)], [from]) if from.joins.is_empty() => match &from.relation {
            TableFactor::Table {
                name,
                args: Some(arguments),
                alias,
                ..
            } => match find(name) {
                Some(callable) => {
                    let column = alias.as_ref().map(|alias| match alias.columns.as_slice() {
                        [column, ..] => folded(&column.name),
                        [] => folded(&alias.name),
                    });
                    call(callable, &arguments.args, column, false, name.span().start).map(Some)
                }
                None => Ok(None),
            },
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// What CALL calls.
///
/// # Errors
/// When there is no such procedure, or the arguments do not fit.
pub fn of_call(function: &Function) -> Result<Call, Error> {
    of_function(function, None, true)?.ok_or_else(|| {
        let text = format!("procedure {} does not exist", function.name);
        Error::new(SqlState::UNDEFINED_FUNCTION, text).at(function.name.span().start)
    })
}

fn of_function(function: &Function, column: Option<String>, is_call: bool) -> Result<Option<Call>, Error> {
    let Some(callable) = find(&function.name) else {
        return Ok(None);
    };
    let place = function.name.span().start;
    let plain = function.over.is_none() && function.filter.is_none() && function.within_group.is_empty();
    match &function.args {
        FunctionArguments::List(list)
            if plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
        {
            call(callable, &list.args, column, is_call, place).map(Some)
        }
        _ => Err(callable
            .misused(format!("{SCHEMA}.{} is not called like that", callable.name))
            .at(place)),
    }
}

/// The function of that name, if it is one of ours.
fn find(name: &ObjectName) -> Option<&'static Callable> {
    let [schema, function] = name.0.as_slice() else {
        return None;
    };
    let is_ours = folded(schema.as_ident()?) == SCHEMA;
    is_ours.then(|| callable::find(&folded(function.as_ident()?)))?
}

/// Gives each argument to its parameter.
fn call(
    callable: &'static Callable,
    given: &[FunctionArg],
    column: Option<String>,
    is_call: bool,
    place: Location,
) -> Result<Call, Error> {
    let names: Vec<&str> = callable.parameters().map(|parameter| parameter.name).collect();
    let function = format!("{SCHEMA}.{}", callable.name);
    let mut arguments: Vec<Option<Expr>> = vec![None; names.len()];
    let mut named = false;
    for (position, argument) in given.iter().enumerate() {
        let (index, expr) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                if named {
                    let error = Error::syntax("positional argument cannot follow named argument");
                    return Err(error.at(expr.span().start));
                }
                if position >= names.len() {
                    return Err(callable
                        .misused(format!("too many arguments for {function}"))
                        .at(place));
                }
                (position, expr)
            }
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(expr),
                ..
            } => {
                named = true;
                let written = folded(name);
                let index = names.iter().position(|known| *known == written).ok_or_else(|| {
                    let text = format!("{function} has no argument \"{written}\"");
                    callable.misused(text).at(name.span.start)
                })?;
                if arguments[index].is_some() {
                    let error = Error::syntax(format!("argument name \"{written}\" used more than once"));
                    return Err(error.at(name.span.start));
                }
                (index, expr)
            }
            _ => {
                let text = format!("{function} is not called like that");
                return Err(callable.misused(text).at(place));
            }
        };
        refuse_inside(expr)?;
        arguments[index] = Some(expr.clone());
    }
    for (parameter, argument) in callable.parameters().zip(&arguments) {
        if parameter.default.is_none() && argument.is_none() {
            let text = format!("{function} needs the argument \"{}\"", parameter.name);
            return Err(callable.misused(text).at(place));
        }
    }
    Ok(Call {
        callable,
        arguments,
        column: column.unwrap_or_else(|| callable.name.to_owned()),
        is_call,
    })
}

/// Refuses the functions anywhere inside of another statement.
///
/// # Errors
/// 0A000 with the place of the first.
pub fn refuse_inside(statement: &impl Visit) -> Result<(), Error> {
    match statement.visit(&mut Finder) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break((callable, place)) => {
            let text = format!("{SCHEMA}.{} inside of another statement", callable.name);
            let hint = "It can be the single item of a SELECT without FROM, or be called with CALL.";
            Err(Error::unsupported(text).with_hint(hint).at(place))
        }
    }
}

/// Whether a statement's text may hold any.
pub fn is_mentioned(sql: &str) -> bool {
    let mut starts = memchr::memchr2_iter(b's', b'S', sql.as_bytes());
    starts.any(|at| {
        let word = sql.as_bytes().get(at..at + SCHEMA.len());
        word.is_some_and(|word| word.eq_ignore_ascii_case(SCHEMA.as_bytes()))
    })
}

struct Finder;

impl Visitor for Finder {
    type Break = (&'static Callable, Location);

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Function(function) => found(&function.name),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table {
                name, args: Some(_), ..
            }
            | TableFactor::Function { name, .. } => found(name),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn found(name: &ObjectName) -> ControlFlow<(&'static Callable, Location)> {
    match find(name) {
        Some(callable) => ControlFlow::Break((callable, name.span().start)),
        None => ControlFlow::Continue(()),
    }
}

/// Binds the arguments. A parameter that has no type yet takes that of its place.
///
/// # Errors
/// What is wrong with an argument.
pub fn bind(call: &Call, binder: &mut Binder<'_>) -> Result<CallPlan, Error> {
    let mut arguments = Vec::with_capacity(call.arguments.len());
    for (parameter, argument) in call.callable.parameters().zip(&call.arguments) {
        arguments.push(match argument {
            None => None,
            Some(expr) => Some(
                binder
                    .argument(expr, parameter.ty)
                    .map_err(|refusal| match refusal {
                        Refusal::Error(error) => error,
                        Refusal::Unsupported(what) => Error::unsupported(format!(
                            "{what} as an argument of {SCHEMA}.{}",
                            call.callable.name
                        )),
                    })?,
            ),
        });
    }
    Ok(CallPlan {
        callable: call.callable,
        arguments,
        is_call: call.is_call,
    })
}
