//! One expression: its parts that are queries, aggregates and windows first, then the whole by the binder.

use super::build;
use super::children::{children, children_mut};
use super::lower::Lowering;
use super::{Clause, Context, Meaning, Open, Typer};
use crate::error::{Error, SqlState};
use crate::expr::{self, BindError, Binder, Expr, Interval, Leaf, Operand, plain_name};
use crate::place::Place;
use scry_engine::DataType;
use sqlparser::ast::{self, Expr as Ast, Function, FunctionArguments, Spanned};

/// A part that was answered on its own.
struct Part {
    original: Ast,
    written: Ast,
    ty: Option<DataType>,
}

impl Typer<'_> {
    /// Types an expression and writes what it means in its place.
    pub(super) fn value(&mut self, ast: &mut Ast, context: &Context<'_>) -> Result<Meaning, Error> {
        let mut parts = Vec::new();
        self.parts(ast, context, &mut parts)?;
        match self.bind(ast, &parts, context) {
            Ok((meaning, written)) => {
                if let Some(written) = written {
                    *ast = written;
                }
                Ok(meaning)
            }
            Err(BindError::Error(error)) => Err(error),
            Err(BindError::Unsupported(_)) => {
                self.piecewise(ast, parts, context)?;
                Ok(Meaning::Foreign)
            }
        }
    }

    /// A condition.
    pub(super) fn condition(&mut self, ast: &mut Ast, context: &Context<'_>) -> Result<(), Error> {
        let place = ast.span().start;
        let clause = if context.clause == Clause::Join {
            "JOIN/ON"
        } else {
            context.clause.name()
        };
        match self.value(ast, context)? {
            Meaning::Typed(bound) if bound.ty() != DataType::Bool => Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {clause} must be type boolean, not type {}",
                    plain_name(&bound.ty())
                ),
            )
            .at(place)),
            Meaning::Open(open) => {
                *ast = self.settle(&open, DataType::Bool)?;
                Ok(())
            }
            Meaning::Typed(_) | Meaning::Foreign => Ok(()),
        }
    }

    /// What an expression without type is written as where a type is wanted.
    pub(super) fn settle(&mut self, open: &Open, ty: DataType) -> Result<Ast, Error> {
        let plain = ty.without_modifier();
        match open {
            Open::Null => Ok(build::cast(build::null(), &plain)),
            Open::Parameter(index) => {
                self.parameters.infer(*index, plain);
                Ok(build::parameter(*index))
            }
            Open::Text(text, place) => {
                let facts = self.circumstances.facts();
                let context = crate::types::InputContext {
                    zone: facts.zone,
                    now: facts.transaction_start,
                };
                let value =
                    crate::types::parse_text(text, &plain, &context).map_err(|error| error.at(*place))?;
                Ok(build::constant(&value, &plain))
            }
        }
    }

    /// Finds the parts that are answered elsewhere, and answers them.
    fn parts(&mut self, ast: &Ast, context: &Context<'_>, found: &mut Vec<Part>) -> Result<(), Error> {
        let answered = match ast {
            Ast::Function(function) if matches!(function.args, FunctionArguments::Subquery(_)) => {
                Some(self.array_of_query(function, context)?)
            }
            Ast::Function(function) => match self.call(function, context)? {
                None => self.foreign_function(ast, function, context)?,
                called => called,
            },
            Ast::Subquery(query) => Some(self.scalar_subquery(query, context)?),
            Ast::Exists { subquery, negated } => Some(self.exists(subquery, *negated, context)?),
            Ast::InSubquery {
                expr,
                subquery,
                negated,
            } => Some(self.membership(expr, subquery, *negated, context)?),
            Ast::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => self.quantified(ast, left, compare_op, right, false, context)?,
            Ast::AllOp {
                left,
                compare_op,
                right,
            } => self.quantified(ast, left, compare_op, right, true, context)?,
            Ast::Array(array) => Some((self.array(array, context)?, None)),
            Ast::Cast { expr, data_type, .. } => {
                self.array_literal(expr, data_type)?.map(|array| (array, None))
            }
            _ => None,
        };
        match answered {
            Some((written, ty)) => found.push(Part {
                original: ast.clone(),
                written,
                ty,
            }),
            None => {
                for child in children(ast) {
                    self.parts(child, context, found)?;
                }
            }
        }
        Ok(())
    }

    /// Binds the whole. Gives what it means and, unless it has no type of its own, what to write.
    fn bind(
        &mut self,
        ast: &Ast,
        parts: &[Part],
        context: &Context<'_>,
    ) -> Result<(Meaning, Option<Ast>), BindError> {
        let mut found = Vec::new();
        leaves(ast, parts, &mut found);
        let leaves: Vec<Leaf<'_>> = found
            .iter()
            .map(|(ast, part)| Leaf { ast, ty: part.ty })
            .collect();
        let facts = self.circumstances.facts();
        let mut binder = Binder::new(context.scope, &mut self.parameters, &facts).with_leaves(&leaves);
        let operand = binder.operand(ast)?;
        let uses = binder.into_uses();
        let bound = match operand {
            Operand::Typed(bound) => bound,
            Operand::Text(text, place) => return Ok((Meaning::Open(Open::Text(text, place)), None)),
            Operand::Null => return Ok((Meaning::Open(Open::Null), None)),
            Operand::Parameter(index) => return Ok((Meaning::Open(Open::Parameter(index)), None)),
            Operand::Interval(interval) => return Ok((Meaning::Foreign, Some(written_interval(interval)))),
        };
        let written: Vec<Ast> = found.iter().map(|(_, part)| part.written.clone()).collect();
        let lowered = Lowering {
            context,
            leaves: &written,
            uses: &uses,
            made: &mut self.made,
            circumstances: &self.circumstances,
        }
        .lower(&bound)?;
        Ok((Meaning::Typed(bound), Some(lowered)))
    }

    /// Leaves an expression to DataFusion, but for what is known inside of it.
    fn piecewise(&mut self, ast: &mut Ast, parts: Vec<Part>, context: &Context<'_>) -> Result<(), Error> {
        if let Some(part) = parts.iter().find(|part| part.original == *ast) {
            *ast = part.written.clone();
            return Ok(());
        }
        let types = self.known_children(ast, &parts, context)?;
        match ast {
            Ast::SimilarTo { .. } => self.similar_of_foreign(ast),
            Ast::Function(function) => self.check_function(function, &types),
            Ast::Collate { collation, .. } => check_collation(collation),
            Ast::Identifier(name) => self.check_column(None, name, context),
            Ast::CompoundIdentifier(names) => match names.as_slice() {
                [relation, name] | [_, relation, name] => self.check_column(Some(relation), name, context),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Types the parts of an expression that itself is left to DataFusion.
    pub(super) fn children_of(&mut self, ast: &mut Ast, context: &Context<'_>) -> Result<(), Error> {
        self.known_children(ast, &[], context).map(|_| ())
    }

    /// The same; gives the names of the types, as a message about a function has them.
    fn known_children(
        &mut self,
        ast: &mut Ast,
        parts: &[Part],
        context: &Context<'_>,
    ) -> Result<Vec<String>, Error> {
        // Whether the whole is a key of a group is DataFusion's to see; its columns alone would be none.
        let inside = Context {
            groups: None,
            ..context.clone()
        };
        let mut types = Vec::new();
        for child in children_mut(ast) {
            if let Some(part) = parts.iter().find(|part| part.original == *child) {
                types.push(part.ty.map_or_else(|| "unknown".to_owned(), |ty| plain_name(&ty)));
                *child = part.written.clone();
            } else if is_open(child) {
                types.push("unknown".to_owned());
            } else if is_integer(child) {
                types.push("integer".to_owned());
            } else {
                let meaning = self.value(child, &inside)?;
                types.push(
                    meaning
                        .ty()
                        .map_or_else(|| "unknown".to_owned(), |ty| plain_name(&ty)),
                );
            }
        }
        Ok(types)
    }

    /// A function that nobody has.
    fn check_function(&self, function: &Function, types: &[String]) -> Result<(), Error> {
        let name = match function.name.0.as_slice() {
            [name] | [_, name] => name.as_ident().map(expr::folded),
            _ => None,
        };
        let Some(name) = name else {
            return Ok(());
        };
        if name == "generate_series" {
            return Err(
                Error::unsupported("a set-returning function outside of FROM").at(function.name.span().start)
            );
        }
        if self.names.has_function(&name) {
            return Ok(());
        }
        let error = Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {name}({}) does not exist", types.join(", ")),
        );
        Err(error
            .with_hint(
                "No function matches the given name and argument types. You might need to add explicit type casts.",
            )
            .at(function.name.span().start))
    }

    /// A name that DataFusion would not find either.
    fn check_column(
        &self,
        relation: Option<&ast::Ident>,
        name: &ast::Ident,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let place = relation.unwrap_or(name).span.start;
        context
            .scope
            .resolve(relation.map(expr::folded).as_deref(), &expr::folded(name))
            .map(|_| ())
            .map_err(|error| error.at(place))
    }

    /// Types an expression that must be of some type, by a cast as of a function's argument: LIMIT.
    pub(super) fn row_count(&mut self, ast: &mut Ast, clause: &str) -> Result<(), Error> {
        let place = ast.span().start;
        if is_constant_null(ast) {
            return Ok(());
        }
        let scope = expr::Scope::empty();
        let facts = self.circumstances.facts();
        let mut binder = Binder::new(&scope, &mut self.parameters, &facts);
        let bound = match binder.operand(ast) {
            Ok(Operand::Text(text, place)) => {
                let open = Open::Text(text, place);
                *ast = self.settle(&open, DataType::Int8)?;
                return Ok(());
            }
            Ok(Operand::Parameter(index)) => {
                self.parameters.infer(index, DataType::Int8);
                return Ok(());
            }
            Ok(Operand::Typed(bound)) => bound,
            Ok(_) => return Ok(()),
            Err(BindError::Unsupported(_)) => return Ok(()),
            Err(BindError::Error(error)) if error.code == SqlState::UNDEFINED_COLUMN => {
                return Err(Error::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!("argument of {clause} must not contain variables"),
                )
                .at(place));
            }
            Err(BindError::Error(error)) => return Err(error),
        };
        if !bound.ty().is_number() {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {clause} must be type bigint, not type {}",
                    plain_name(&bound.ty())
                ),
            )
            .at(place));
        }
        let bound = Expr::Cast {
            operand: Box::new(bound),
            to: DataType::Int8,
            explicit: true,
        };
        let scope = std::rc::Rc::new(scope);
        let context = Context::new(&scope, Clause::From);
        // A constant becomes a plain number again, which is all that DataFusion wants to see here.
        *ast = match bound.constant_value(&facts)? {
            Some(scry_engine::Value::Int8(count)) if count < 0 => {
                let (state, what) = match clause {
                    "OFFSET" => (SqlState::INVALID_ROW_COUNT_IN_OFFSET, "OFFSET"),
                    _ => (SqlState::INVALID_ROW_COUNT_IN_LIMIT, "LIMIT"),
                };
                return Err(Error::new(state, format!("{what} must not be negative")));
            }
            Some(scry_engine::Value::Int8(count)) => {
                build::number(usize::try_from(count).unwrap_or(usize::MAX >> 1))
            }
            Some(_) => build::null(),
            None => Lowering {
                context: &context,
                leaves: &[],
                uses: &[],
                made: &mut self.made,
                circumstances: &self.circumstances,
            }
            .lower(&bound)?,
        };
        Ok(())
    }

    /// SIMILAR TO whose parts, already written, have types that expressions do not know: both are matched as texts. DataFusion takes the pattern
    /// for a regular expression.
    fn similar_of_foreign(&mut self, ast: &mut Ast) -> Result<(), Error> {
        let Ast::SimilarTo {
            negated,
            expr,
            pattern,
            escape_char,
        } = &mut *ast
        else {
            return Ok(());
        };
        let ty = DataType::Text;
        let mut scope = expr::Scope::empty();
        scope.add("", [("", ty), ("", ty)]);
        for (column, part) in scope.columns_mut().iter_mut().zip([&**expr, &**pattern]) {
            column.stands_for = Some(std::rc::Rc::new(build::cast(part.clone(), &ty)));
        }
        let (text, pattern) = (Expr::Column { index: 0, ty }, Expr::Column { index: 1, ty });
        let found = expr::similar_to(text, pattern, escape_char.as_ref()).map_err(BindError::into_error)?;
        let found = match *negated {
            true => Expr::Not(Box::new(found)),
            false => found,
        };
        let scope = std::rc::Rc::new(scope);
        *ast = Lowering {
            context: &Context::new(&scope, Clause::Select),
            leaves: &[],
            uses: &[],
            made: &mut self.made,
            circumstances: &self.circumstances,
        }
        .lower(&found)?;
        Ok(())
    }

    /// The expression, already written, in another type: by the cast that a common type asks for.
    pub(super) fn converted(&mut self, written: Ast, from: DataType, to: DataType) -> Result<Ast, Error> {
        let same = from == to
            || from.is_text() && to.is_text()
            || matches!((from, to), (DataType::Numeric(_), DataType::Numeric(_)));
        if same {
            return Ok(written);
        }
        let mut scope = expr::Scope::empty();
        scope.add("", [("", from)]);
        if let Some(column) = scope.columns_mut().first_mut() {
            column.stands_for = Some(std::rc::Rc::new(written));
        }
        let scope = std::rc::Rc::new(scope);
        Lowering {
            context: &Context::new(&scope, Clause::Select),
            leaves: &[],
            uses: &[],
            made: &mut self.made,
            circumstances: &self.circumstances,
        }
        .lower(&Expr::Cast {
            operand: Box::new(Expr::Column { index: 0, ty: from }),
            to: to.without_modifier(),
            explicit: true,
        })
    }
}

/// Texts compare by their bytes; any other collation would order them otherwise.
fn check_collation(collation: &ast::ObjectName) -> Result<(), Error> {
    let name = collation
        .0
        .last()
        .and_then(|name| name.as_ident())
        .map(expr::folded);
    let name = name.unwrap_or_default();
    if matches!(name.as_str(), "C" | "POSIX" | "ucs_basic" | "default" | "C.UTF-8") {
        return Ok(());
    }
    let error = Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!("collation \"{name}\" for encoding \"UTF8\" does not exist"),
    );
    Err(error.at(Place::before("collate", collation.span().start)))
}

/// Where in the tree the parts are.
fn leaves<'e, 'p>(ast: &'e Ast, parts: &'p [Part], found: &mut Vec<(&'e Ast, &'p Part)>) {
    match parts.iter().find(|part| part.original == *ast) {
        Some(part) => found.push((ast, part)),
        None => children(ast)
            .into_iter()
            .for_each(|child| leaves(child, parts, found)),
    }
}

fn is_constant_null(ast: &Ast) -> bool {
    match ast {
        Ast::Value(value) => matches!(value.value, ast::Value::Null),
        Ast::Nested(inner) => is_constant_null(inner),
        _ => false,
    }
}

/// A literal or parameter that takes its type from what DataFusion makes of its place.
pub(super) fn is_open(ast: &Ast) -> bool {
    match ast {
        Ast::Value(value) => !matches!(value.value, ast::Value::Number(..) | ast::Value::Boolean(_)),
        Ast::Nested(inner) => is_open(inner),
        _ => false,
    }
}

fn is_integer(ast: &Ast) -> bool {
    matches!(ast, Ast::Value(value) if matches!(&value.value, ast::Value::Number(text, _) if text.parse::<i64>().is_ok()))
}

/// An interval in the words that DataFusion reads.
fn written_interval(interval: Interval) -> Ast {
    let seconds = interval.micros.unsigned_abs();
    let sign = if interval.micros < 0 { "-" } else { "" };
    let text = format!(
        "{} months {} days {sign}{}.{:06} seconds",
        interval.months,
        interval.days,
        seconds / 1_000_000,
        seconds % 1_000_000
    );
    Ast::Interval(ast::Interval {
        value: Box::new(build::text(&text)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}
