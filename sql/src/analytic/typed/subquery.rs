//! Queries inside of expressions.
//!
//! DataFusion joins a correlated scalar subquery only if it aggregates, and an IN or EXISTS only where it filters. So a correlated
//! query that may give several rows is gathered into an array, of which `only` takes the one item; and IN in a select list is
//! counted out.

use super::build;
use super::{Clause, Context, Meaning, Open, Typer};
use crate::analytic::functions::arrays::{FIRST, ONLY};
use crate::analytic::parameter::array_texts;
use crate::analytic::rewrite::over_catalog;
use crate::error::{Error, SqlState};
use crate::expr::{common_type, plain_name};
use crate::place::Place;
use scry_engine::DataType;
use sqlparser::ast::{
    self, BinaryOperator, Expr as Ast, Function, FunctionArguments, GroupByExpr, LimitClause, OrderByKind,
    Query, SelectItem, SetExpr, Spanned,
};
use sqlparser::tokenizer::Location;

type Written = (Ast, Option<DataType>);

fn one_column(place: Place) -> Error {
    Error::syntax("subquery must return only one column").at(place)
}

/// The parenthesis before a query.
fn opening(query: &Query) -> Place {
    Place::before("(", query.span().start)
}

impl Typer<'_> {
    pub(super) fn scalar_subquery(&mut self, query: &Query, context: &Context<'_>) -> Result<Written, Error> {
        let place = opening(query);
        let mut query = Box::new(query.clone());
        let reached = context.scope.take_reached();
        let outputs = self.query(&mut query, Some(context.scope))?;
        let correlated = context.scope.take_reached();
        if reached || correlated {
            context.scope.set_reached();
        }
        let [output] = outputs.as_slice() else {
            return Err(one_column(place));
        };
        let mut ty = output.ty;
        if output.open.is_some() {
            let outputs = self.texts(&mut query.body, outputs)?;
            ty = outputs.first().and_then(|output| output.ty);
        }
        if correlated && let Some(gathered) = gathered(&query) {
            return Ok((gathered, ty));
        }
        Ok((Ast::Subquery(query), ty))
    }

    pub(super) fn exists(
        &mut self,
        query: &Query,
        negated: bool,
        context: &Context<'_>,
    ) -> Result<Written, Error> {
        let mut subquery = Box::new(query.clone());
        self.query(&mut subquery, Some(context.scope))?;
        let exists = Ast::Exists { subquery, negated };
        Ok((exists, Some(DataType::Bool)))
    }

    /// `ARRAY(SELECT …)`.
    pub(super) fn array_of_query(
        &mut self,
        function: &Function,
        context: &Context<'_>,
    ) -> Result<Written, Error> {
        let mut function = function.clone();
        if let FunctionArguments::Subquery(query) = &mut function.args {
            let place = opening(query);
            let outputs = self.query(query, Some(context.scope))?;
            if outputs.len() != 1 {
                return Err(one_column(place));
            }
        }
        Ok((Ast::Function(function), None))
    }

    /// `x IN (SELECT …)`.
    pub(super) fn membership(
        &mut self,
        expr: &Ast,
        query: &Query,
        negated: bool,
        context: &Context<'_>,
    ) -> Result<Written, Error> {
        let place = Place::before("in", query.span().start);
        let mut query = Box::new(query.clone());
        let outputs = self.query(&mut query, Some(context.scope))?;
        let outputs = self.texts(&mut query.body, outputs)?;
        let mut subjects = match expr {
            Ast::Tuple(items) => items.clone(),
            single => vec![single.clone()],
        };
        if outputs.len() != subjects.len() {
            let few = outputs.len() < subjects.len();
            let what = if few { "too few" } else { "too many" };
            return Err(Error::syntax(format!("subquery has {what} columns")).at(place));
        }
        let mut types = Vec::with_capacity(outputs.len());
        for (subject, output) in subjects.iter_mut().zip(&outputs) {
            let meaning = self.value(subject, context)?;
            types.push(match (&meaning, output.ty) {
                (Meaning::Open(open), Some(ty)) => {
                    *subject = self.settle(open, ty)?;
                    Some(ty)
                }
                (Meaning::Typed(bound), Some(ty)) => {
                    let ours = bound.ty();
                    let common = common_type(ours, ty).ok_or_else(|| {
                        Error::new(
                            SqlState::UNDEFINED_FUNCTION,
                            format!("operator does not exist: {} = {}", plain_name(&ours), plain_name(&ty)),
                        )
                        .with_hint("No operator matches the given name and argument types. You might need to add explicit type casts.")
                        .at(place.clone())
                    })?;
                    *subject = self.converted(subject.clone(), ours, common)?;
                    Some(common)
                }
                _ => output.ty,
            });
        }
        self.convert(&mut query.body, &outputs, &types)?;
        let written = match subjects.as_slice() {
            [subject] if filters(context.clause) => Ast::InSubquery {
                expr: Box::new(subject.clone()),
                subquery: query,
                negated,
            },
            [subject] => counted_membership(subject, &query, negated)?,
            _ if filters(context.clause) && !negated => row_membership(&subjects, &query)?,
            _ => {
                return Err(Error::unsupported(
                    "IN of a row and a subquery outside of WHERE, or with NOT,",
                ));
            }
        };
        Ok((build::nested(written), Some(DataType::Bool)))
    }

    /// `x = ANY (…)` and `x <> ALL (…)` with a query or an array.
    pub(super) fn quantified(
        &mut self,
        whole: &Ast,
        left: &Ast,
        op: &BinaryOperator,
        right: &Ast,
        all: bool,
        context: &Context<'_>,
    ) -> Result<Option<Written>, Error> {
        let inner = unnested(right);
        if let Ast::Subquery(query) = inner {
            match (op, all) {
                (BinaryOperator::Eq, false) => {
                    return self.membership(left, query, false, context).map(Some);
                }
                (BinaryOperator::NotEq, true) => {
                    return self.membership(left, query, true, context).map(Some);
                }
                _ => {}
            }
            let mut left = left.clone();
            let mut query = query.clone();
            self.value(&mut left, context)?;
            self.query(&mut query, Some(context.scope))?;
            let right = Box::new(Ast::Subquery(query));
            let (left, compare_op) = (Box::new(left), op.clone());
            let written = if all {
                Ast::AllOp {
                    left,
                    compare_op,
                    right,
                }
            } else {
                Ast::AnyOp {
                    left,
                    compare_op,
                    right,
                    is_some: false,
                }
            };
            return Ok(Some((written, Some(DataType::Bool))));
        }
        // With an array that is written out, it is a list.
        if let Ast::Array(array) = inner
            && matches!(
                (op, all),
                (BinaryOperator::Eq, false) | (BinaryOperator::NotEq, true)
            )
            && !array.elem.is_empty()
        {
            let mut list = Ast::InList {
                expr: Box::new(left.clone()),
                list: array.elem.clone(),
                negated: all,
            };
            self.value(&mut list, context)?;
            return Ok(Some((list, Some(DataType::Bool))));
        }
        if let Some((text, place)) = literal(inner) {
            return self.listed(left, op, all, &text, place, context).map(Some);
        }
        let mut written = whole.clone();
        if let Ast::AnyOp { left, right, .. } | Ast::AllOp { left, right, .. } = &mut written {
            let meaning = self.value(left, context)?;
            if let Some(ty) = meaning.ty()
                && let Some(index) = placeholder(right)
                && matches!(self.parameters.get(index), Ok(None))
            {
                // A parameter beside ANY is an array of what it is compared with.
                let array = crate::analytic::types::array_oid(crate::types::oid(&ty));
                self.parameters.set_foreign(index);
                self.foreign.insert(index, array);
            } else if placeholder(right).is_none() {
                self.value(right, context)?;
            }
        }
        Ok(Some((written, Some(DataType::Bool))))
    }

    /// `x = ANY ('{1,2}')`: the items, each in the type of what it is compared with.
    fn listed(
        &mut self,
        left: &Ast,
        op: &BinaryOperator,
        all: bool,
        text: &str,
        place: Location,
        context: &Context<'_>,
    ) -> Result<Written, Error> {
        let mut left = left.clone();
        let ty = self.value(&mut left, context)?.ty().unwrap_or(DataType::Text);
        let items = array_texts(text).map_err(|error| error.at(place))?;
        let items = items
            .into_iter()
            .map(|item| match item {
                Some(item) => self.settle(&Open::Text(item, place), ty),
                None => self.settle(&Open::Null, ty),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let each = if all {
            BinaryOperator::And
        } else {
            BinaryOperator::Or
        };
        let mut compared = items
            .into_iter()
            .map(|item| build::binary(left.clone(), op.clone(), item));
        let first = compared.next().unwrap_or_else(|| build::boolean(all));
        let written = compared.fold(first, |made, next| build::binary(made, each.clone(), next));
        Ok((written, Some(DataType::Bool)))
    }
}

/// A string literal, and where it stands.
fn literal(ast: &Ast) -> Option<(String, Location)> {
    match ast {
        Ast::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => Some((text.clone(), value.span.start)),
            _ => None,
        },
        _ => None,
    }
}

fn unnested(ast: &Ast) -> &Ast {
    match ast {
        Ast::Nested(inner) => unnested(inner),
        other => other,
    }
}

fn placeholder(ast: &Ast) -> Option<usize> {
    match unnested(ast) {
        Ast::Value(value) => match &value.value {
            ast::Value::Placeholder(name) => name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1),
            _ => None,
        },
        _ => None,
    }
}

/// Where DataFusion joins for IN and EXISTS.
fn filters(clause: Clause) -> bool {
    matches!(clause, Clause::Where | Clause::Having)
}

/// Whether a query has one row for each outer row by itself: it aggregates and does not group.
fn aggregates(select: &ast::Select) -> bool {
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(list, modifiers) => !list.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    !grouped
        && select
            .projection
            .iter()
            .filter_map(super::query::item_expr)
            .any(super::select::aggregates)
}

/// A correlated query that may have several rows, as one that gathers them. `None`: it has one row as it is, or is too much for
/// this.
fn gathered(query: &Query) -> Option<Ast> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(list, modifiers) => !list.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let simple = !grouped && select.having.is_none() && !select.from.is_empty() && query.with.is_none();
    // `rewrite` has its own way with queries over catalogs.
    if !simple || aggregates(select) || over_catalog(select) {
        return None;
    }
    let take = match &query.limit_clause {
        None => ONLY,
        Some(LimitClause::LimitOffset {
            limit: Some(limit),
            offset: None,
            ..
        }) if *limit == build::number(1) => FIRST,
        Some(_) => return None,
    };
    let mut query = query.clone();
    query.limit_clause = None;
    let order = query.order_by.take();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let [item] = select.projection.as_mut_slice() else {
        return None;
    };
    let expr = super::query::item_expr(item)?.clone();
    let mut gather = build::call("array_agg", vec![expr.clone()]);
    if let (Ast::Function(function), Some(order)) = (&mut gather, order)
        && let FunctionArguments::List(list) = &mut function.args
        && let OrderByKind::Expressions(mut orders) = order.kind
        && take == FIRST
    {
        for order in &mut orders {
            if order.expr == build::number(1) {
                order.expr = expr.clone();
            }
        }
        list.clauses.push(ast::FunctionArgumentClause::OrderBy(orders));
    }
    if select.distinct.take().is_some()
        && let Ast::Function(function) = &mut gather
        && let FunctionArguments::List(list) = &mut function.args
    {
        list.duplicate_treatment = Some(ast::DuplicateTreatment::Distinct);
    }
    *item = SelectItem::ExprWithAlias {
        expr: gather,
        alias: build::quoted("gathered"),
    };
    Some(build::call(take, vec![Ast::Subquery(Box::new(query))]))
}

/// `x IN (query)` where no join can be made for it: by counting the equal ones, all, and those that are NULL.
fn counted_membership(subject: &Ast, query: &Query, negated: bool) -> Result<Ast, Error> {
    let item = || Ast::CompoundIdentifier(vec![build::quoted("members"), build::quoted("member")]);
    let count = |condition: Option<Ast>| build::count_of(query, "members", "member", condition);
    let some = |condition| {
        let count = count(condition)?;
        Ok::<_, Error>(build::binary(count, BinaryOperator::Gt, build::number(0)))
    };
    let equal = build::binary(item(), BinaryOperator::Eq, subject.clone());
    let when = |condition, result| ast::CaseWhen { condition, result };
    let unknown = build::binary(
        Ast::IsNull(Box::new(subject.clone())),
        BinaryOperator::Or,
        some(Some(Ast::IsNull(Box::new(item()))))?,
    );
    Ok(Ast::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![
            when(some(Some(equal))?, build::boolean(!negated)),
            when(
                build::binary(count(None)?, BinaryOperator::Eq, build::number(0)),
                build::boolean(negated),
            ),
            when(unknown, build::cast(build::null(), &DataType::Bool)),
        ],
        else_result: Some(Box::new(build::boolean(negated))),
    })
}

/// `(a, b) IN (query)` in a filter, where NULL and false are one.
fn row_membership(subjects: &[Ast], query: &Query) -> Result<Ast, Error> {
    let names: Vec<String> = (1..=subjects.len())
        .map(|index| format!("member{index}"))
        .collect();
    let mut conditions = subjects.iter().zip(&names).map(|(subject, name)| {
        let item = Ast::CompoundIdentifier(vec![build::quoted("members"), build::quoted(name)]);
        build::binary(item, BinaryOperator::Eq, subject.clone())
    });
    let first = conditions.next().unwrap_or_else(|| build::boolean(true));
    let condition = conditions.fold(first, |all, next| build::binary(all, BinaryOperator::And, next));
    build::exists_in(query, "members", &names, condition)
}
