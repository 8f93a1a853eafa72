//! Yield points in joins, so that a query can be cancelled while it runs.
//!
//! DataFusion lets its sources yield. A join may make any number of batches out of one that it has already, without
//! asking a source again; an aggregate above it takes them in one long poll, and neither a cancel request nor the end of its
//! client reaches the worker meanwhile.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use std::sync::Arc;

/// What the names of all join operators end with.
const JOIN: &str = "JoinExec";

/// Puts a yield point above every join.
#[derive(Debug)]
pub struct YieldingJoins;

impl PhysicalOptimizerRule for YieldingJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let yielding = plan.transform_up(|plan| {
            Ok(if plan.name().ends_with(JOIN) {
                Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(plan)
            })
        })?;
        Ok(yielding.data)
    }

    fn name(&self) -> &str {
        "yielding joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
