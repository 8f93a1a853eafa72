//! Queries over the catalog that tools ask and DataFusion cannot plan as written.
//!
//! What does not exist here is known beforehand: a query over an empty catalog has no rows, relations have no options,
//! columns have no collations of their own. What remains are scalar subqueries over the catalog, which get an aggregate.

use super::{call, null_of, plain_argument, wrap_single_column};
use crate::analytic::functions::arrays::POSITIONS;
use crate::catalog_views;
use crate::expr::folded;
use crate::plan::output_name::output_name;
use sqlparser::ast::{
    self, AccessExpr, BinaryOperator, Expr, Function, FunctionArguments, Ident, JoinOperator, ObjectNamePart,
    Query, Select, SelectItem, SetExpr, TableFactor, Value, Visit, Visitor,
};
use std::ops::ControlFlow;

/// Whether the query reads an inner-joined catalog of things that do not exist here, so that it has no rows.
pub(super) fn reads_nothing(select: &Select) -> bool {
    let plain = matches!(&select.group_by, ast::GroupByExpr::Expressions(list, _) if list.is_empty())
        && select.having.is_none()
        && select.projection.iter().all(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => !has_aggregate(expr),
            _ => false,
        });
    plain
        && select.from.iter().any(|from| {
            let joins = || {
                from.joins.iter().map(|join| match &join.join_operator {
                    JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => {
                        (true, true)
                    }
                    JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => (true, false),
                    _ => (false, false),
                })
            };
            let first = joins().all(|(keeps_left, _)| keeps_left) && is_empty_view(&from.relation);
            let joined = from.joins.iter().enumerate().any(|(index, join)| {
                let inner = joins().nth(index).is_some_and(|(_, keeps_right)| keeps_right);
                inner
                    && joins().skip(index).all(|(keeps_left, _)| keeps_left)
                    && is_empty_view(&join.relation)
            });
            first || joined
        })
}

fn is_empty_view(factor: &TableFactor) -> bool {
    let TableFactor::Table { name, args: None, .. } = factor else {
        return false;
    };
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(|part| part.as_ident().map(folded))
        .collect();
    match parts.as_slice() {
        [schema, table] => catalog_views::always_empty(Some(schema), table),
        [table] => catalog_views::always_empty(None, table),
        _ => false,
    }
}

/// Makes the query one that has the same columns, as text, and no rows, whatever it would have computed.
pub(super) fn answer_nothing(select: &mut Select) {
    for item in &mut select.projection {
        let alias = match item {
            SelectItem::UnnamedExpr(expr) => Ident::with_quote('"', output_name(expr)),
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            _ => continue,
        };
        let null = null_of(ast::DataType::Text);
        *item = SelectItem::ExprWithAlias { expr: null, alias };
    }
    select.distinct = None;
    select.from.clear();
    select.selection = Some(Expr::value(Value::Boolean(false)));
}

fn from_mentions(query: &Query, word: &str) -> bool {
    match query.body.as_ref() {
        SetExpr::Select(select) => select.from.iter().any(|from| from.to_string().contains(word)),
        _ => false,
    }
}

/// psql's `ARRAY(SELECT … FROM unnest(c.reloptions))`: relations have no options here.
pub(super) fn reads_options(query: &Query) -> bool {
    from_mentions(query, "unnest(") && from_mentions(query, "reloptions")
}

/// psql's scalar subquery for a collation that is not its type's own: there is none here.
pub(super) fn reads_collations(query: &Query) -> bool {
    from_mentions(query, "pg_collation") && query.to_string().contains("collation <> ")
}

/// What drivers take out of `_pg_expandarray`, which makes a row (x: item, n: position) of each item of an array:
/// `(information_schema._pg_expandarray(a)).n`, and the call itself, of which they use `x` alone.
pub(super) fn expanded_array(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::CompoundFieldAccess { root, access_chain } => {
            let [AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_slice() else {
                return None;
            };
            let Expr::Nested(root) = root.as_ref() else {
                return None;
            };
            match (folded(field).as_str(), root.as_ref()) {
                ("n", Expr::Function(function)) => Some(call(
                    "unnest",
                    vec![call(POSITIONS, vec![expand_argument(function)?])],
                )),
                ("x", Expr::Function(function)) => Some(call("unnest", vec![expand_argument(function)?])),
                // `(result.keys).x` of a column that was such a call.
                ("x", column @ Expr::CompoundIdentifier(parts)) if folded(parts.last()?) == "keys" => {
                    Some(column.clone())
                }
                _ => None,
            }
        }
        Expr::Function(function) => Some(call("unnest", vec![expand_argument(function)?])),
        _ => None,
    }
}

fn expand_argument(function: &Function) -> Option<Expr> {
    let name = function.name.0.last()?.as_ident()?;
    match &function.args {
        FunctionArguments::List(list) if folded(name) == "_pg_expandarray" => {
            list.args.first().and_then(plain_argument).cloned()
        }
        _ => None,
    }
}

const AGGREGATES: [&str; 9] = [
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
];

pub(super) fn aggregate_catalog_subquery(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return;
    };
    let aggregated = match select.projection.first() {
        Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => has_aggregate(expr),
        _ => true,
    };
    if over_catalog(select) && !aggregated {
        wrap_single_column(query, "max");
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.selection = select.selection.take().and_then(without_default_flag);
        }
    }
}

/// Whether a query reads nothing but catalogs.
pub fn over_catalog(select: &Select) -> bool {
    !select.from.is_empty()
        && select.from.iter().all(|from| {
            let relations =
                std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
            relations.into_iter().all(is_catalog_table)
        })
}

/// The condition without `a.atthasdef`, which says of the outer row what the rows of pg_attrdef say themselves.
fn without_default_flag(condition: Expr) -> Option<Expr> {
    match condition {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => match (without_default_flag(*left), without_default_flag(*right)) {
            (Some(left), Some(right)) => Some(Expr::BinaryOp {
                left: Box::new(left),
                op: BinaryOperator::And,
                right: Box::new(right),
            }),
            (one, other) => one.or(other),
        },
        Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|last| last.value == "atthasdef") => None,
        other => Some(other),
    }
}

fn is_catalog_table(factor: &TableFactor) -> bool {
    let TableFactor::Table { name, args: None, .. } = factor else {
        return false;
    };
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(|part| part.as_ident().map(folded))
        .collect();
    match parts.as_slice() {
        [schema, _] => schema == "pg_catalog",
        [table] => table.starts_with("pg_"),
        _ => false,
    }
}

/// Whether the expression itself aggregates; what its subqueries do is their own.
fn has_aggregate(expr: &Expr) -> bool {
    let mut finder = AggregateFinder::default();
    let _: ControlFlow<()> = Visit::visit(expr, &mut finder);
    finder.found
}

#[derive(Default)]
struct AggregateFinder {
    depth: usize,
    found: bool,
}

impl Visitor for AggregateFinder {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Function(function) = expr
            && let Some(ObjectNamePart::Identifier(name)) = function.name.0.last()
            && AGGREGATES.contains(&folded(name).as_str())
        {
            self.found = true;
        }
        ControlFlow::Continue(())
    }
}
