//! Filters stay above aggregates without groups.
//!
//! Such an aggregate gives one row, whatever its input; DataFusion's [`PushDownFilter`] moves a filter below it once the filter
//! has become a constant, as `c = 'y'` does over `SELECT 'x' AS c, count(*)`, and the row stays. So a limit of one row, which
//! filters do not pass, is put above each for as long as filters are moved.
//!
//! [`PushDownFilter`]: datafusion::optimizer::push_down_filter::PushDownFilter

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::logical_expr::{Limit, LogicalPlan, lit};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// Before this rule guards are put up, behind it they are taken down.
const MOVES_FILTERS: &str = "push_down_filter";

/// DataFusion's rules with the guards around the one that moves filters.
pub fn guarded(
    rules: impl IntoIterator<Item = Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut all: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Vec::new();
    for rule in rules {
        let moves_filters = rule.name() == MOVES_FILTERS;
        if moves_filters {
            all.push(Arc::new(PutUp));
        }
        all.push(rule);
        if moves_filters {
            all.push(Arc::new(TakeDown));
        }
    }
    all
}

#[derive(Debug)]
struct PutUp;

#[derive(Debug)]
struct TakeDown;

fn is_single_row(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty())
}

/// Whether there is a filter that could be moved.
fn filters(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Filter(_));
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

impl OptimizerRule for PutUp {
    fn name(&self) -> &str {
        "guard_aggregates"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !filters(&plan)? {
            return Ok(Transformed::no(plan));
        }
        plan.transform_up_with_subqueries(|node| match is_single_row(&node) {
            true => Ok(Transformed::yes(LogicalPlan::Limit(Limit {
                skip: None,
                fetch: Some(Box::new(lit(1i64))),
                input: Arc::new(node),
            }))),
            false => Ok(Transformed::no(node)),
        })
    }
}

impl OptimizerRule for TakeDown {
    fn name(&self) -> &str {
        "unguard_aggregates"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Limit(limit)
                if limit.skip.is_none()
                    && limit.fetch.as_deref() == Some(&lit(1i64))
                    && is_single_row(&limit.input) =>
            {
                Ok(Transformed::yes(Arc::unwrap_or_clone(limit.input)))
            }
            other => Ok(Transformed::no(other)),
        })
    }
}
