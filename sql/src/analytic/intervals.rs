//! Intervals in analysed plans, where all types are known: DataFusion orders them by months first, then days, then time, and moves instants by UTC.
//!
//! PostgreSQL counts 30 days to the month and 24 hours to the day when it compares. So comparisons and orders are by that span; what would group, join or
//! pick by an interval as it is, is refused, for 24 hours and one day would be two things.

use super::error::external;
use super::from_datafusion;
use super::functions::bridge::Circumstances;
use super::functions::intervals::{self, INTERVAL};
use crate::error::Error;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, InList, ScalarFunction, Sort, WindowFunction,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF};
use std::sync::Arc;

/// The plan with intervals as PostgreSQL has them.
///
/// # Errors
/// 0A000 where rows would be told apart by an interval.
pub fn settle(
    logical: LogicalPlan,
    circumstances: Arc<Circumstances>,
) -> std::result::Result<LogicalPlan, Error> {
    let settling = Settling {
        span: intervals::span(),
        of_duration: intervals::of_duration(),
        add: intervals::add_to(circumstances.clone(), false),
        subtract: intervals::add_to(circumstances, true),
    };
    let settled = logical.transform_up_with_subqueries(|node| settling.node(node));
    Ok(settled.map_err(from_datafusion)?.data)
}

struct Settling {
    span: Arc<ScalarUDF>,
    of_duration: Arc<ScalarUDF>,
    add: Arc<ScalarUDF>,
    subtract: Arc<ScalarUDF>,
}

impl Settling {
    fn node(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let schema = merge_schema(&node.inputs());
        refuse(&node, &schema)?;
        let sorts = matches!(node, LogicalPlan::Sort(_));
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let settled = expr.transform_up(|expr| self.expr(expr, &schema))?;
            let settled = settled.update_data(|expr| name.restore(expr));
            if sorts && is_interval(&settled.data, &schema) {
                return settled.transform_data(|expr| Ok(Transformed::yes(call(&self.span, vec![expr]))));
            }
            Ok(settled)
        })
    }

    fn expr(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if is_comparison(op) && (is_interval(&left, schema) || is_interval(&right, schema)) =>
            {
                Transformed::yes(Expr::BinaryExpr(BinaryExpr {
                    left: Box::new(self.spanned(*left, schema)),
                    op,
                    right: Box::new(self.spanned(*right, schema)),
                }))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if matches!(op, Operator::Plus | Operator::Minus)
                    && is_instant(&left, schema)
                    && is_interval(&right, schema) =>
            {
                let function = if op == Operator::Plus {
                    &self.add
                } else {
                    &self.subtract
                };
                Transformed::yes(call(function, vec![*left, *right]))
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Plus,
                right,
            }) if is_interval(&left, schema) && is_instant(&right, schema) => {
                Transformed::yes(call(&self.add, vec![*right, *left]))
            }
            Expr::Between(Between {
                expr,
                negated,
                low,
                high,
            }) if is_interval(&expr, schema) => Transformed::yes(Expr::Between(Between {
                expr: Box::new(self.spanned(*expr, schema)),
                negated,
                low: Box::new(self.spanned(*low, schema)),
                high: Box::new(self.spanned(*high, schema)),
            })),
            Expr::InList(InList { expr, list, negated }) if is_interval(&expr, schema) => {
                Transformed::yes(Expr::InList(InList {
                    expr: Box::new(self.spanned(*expr, schema)),
                    list: list.into_iter().map(|item| self.spanned(item, schema)).collect(),
                    negated,
                }))
            }
            other => Transformed::no(other),
        })
    }

    fn spanned(&self, expr: Expr, schema: &DFSchema) -> Expr {
        // The analyser has made an interval of a difference, whose days it does not know.
        let whole = match expr.get_type(schema) {
            Ok(DataType::Duration(_)) => call(&self.of_duration, vec![expr]),
            _ => expr,
        };
        call(&self.span, vec![whole])
    }
}

fn call(function: &Arc<ScalarUDF>, arguments: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function.clone(), arguments))
}

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|arrow| arrow == INTERVAL)
}

fn is_instant(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Timestamp(_, Some(_))))
}

fn is_comparison(op: Operator) -> bool {
    op.supports_propagation() || matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom)
}

/// Refuses what would tell rows apart by an interval.
fn refuse(node: &LogicalPlan, schema: &DFSchema) -> Result<()> {
    let is = |expr: &Expr| is_interval(expr, schema);
    let found = match node {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.iter().any(is),
        LogicalPlan::Distinct(distinct) => {
            let fields = distinct.input().schema().fields();
            fields.iter().any(|field| *field.data_type() == INTERVAL)
        }
        LogicalPlan::Join(join) => join.on.iter().any(|(left, right)| is(left) || is(right)),
        _ => false,
    };
    let mut refused = found.then_some("grouping, joining or making distinct by an interval");
    node.apply_expressions(|expr| {
        expr.apply(|part| {
            let sorted = |sorts: &[Sort]| sorts.iter().any(|sort| is(&sort.expr));
            let picks = match part {
                Expr::AggregateFunction(AggregateFunction { func, params }) => {
                    let picks = matches!(func.name(), "min" | "max") || params.distinct;
                    picks && params.args.iter().any(is) || sorted(&params.order_by)
                }
                Expr::WindowFunction(function) => {
                    let WindowFunction { fun, params } = function.as_ref();
                    let picks = matches!(fun.name(), "min" | "max") || params.distinct;
                    picks && params.args.iter().any(is)
                        || params.partition_by.iter().any(is)
                        || sorted(&params.order_by)
                }
                Expr::ScalarFunction(function) => {
                    let picks = matches!(function.name(), "greatest" | "least" | "nullif");
                    picks && function.args.iter().any(is)
                }
                Expr::Case(case) => case.expr.as_deref().is_some_and(is),
                _ => false,
            };
            if picks {
                refused = Some("choosing or sorting by an interval inside of this expression");
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    match refused {
        Some(what) => Err(external(Error::unsupported(what))),
        None => Ok(()),
    }
}
