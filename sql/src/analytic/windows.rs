//! What DataFusion answers wrongly about windows, in analysed plans.
//!
//! It sorts the rows once for windows of opposite orders, and walks the one in reverse. Aggregates that depend on the order in which rows come
//! then have them in reverse, too; of those that PostgreSQL has only `array_agg` goes on without a word.

use super::error::external;
use super::from_datafusion;
use crate::error::Error;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Refuses `array_agg` over an order beside a window of another one.
///
/// # Errors
/// 0A000 for such a query.
pub fn check(logical: &LogicalPlan) -> std::result::Result<(), Error> {
    let checked = logical.apply_with_subqueries(|node| {
        let orders = orders(node)?;
        let other = |order: &[Sort]| orders.iter().any(|(_, other)| other.as_slice() != order);
        let gathers = orders
            .iter()
            .any(|(name, order)| name == "array_agg" && !order.is_empty() && other(order));
        match gathers {
            true => Err(external(Error::unsupported(
                "array_agg over an order beside a window of another order",
            ))),
            false => Ok(TreeNodeRecursion::Continue),
        }
    });
    checked.map(|_| ()).map_err(from_datafusion)
}

/// The functions over windows of one query, which stand one above the other, each with its order.
fn orders(node: &LogicalPlan) -> Result<Vec<(String, Vec<Sort>)>> {
    let mut orders = Vec::new();
    let mut node = node;
    while let LogicalPlan::Window(window) = node {
        for expr in &window.window_expr {
            expr.apply(|part| {
                if let Expr::WindowFunction(function) = part {
                    let WindowFunction { fun, params } = function.as_ref();
                    orders.push((fun.name().to_owned(), params.order_by.clone()));
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        node = &window.input;
    }
    Ok(orders)
}
