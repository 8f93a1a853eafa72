//! Scans of the primary's rows, for `scry.read_from = primary` and for statements that write what they read.
//!
//! The session opens one cursor for every scan of a plan before it executes; all of them read at the transaction's
//! snapshot, own writes included. A commit at that snapshot may not be durable yet: the session waits for
//! its LSN before any row leaves.

use super::error::external;
use super::plan::AnalyticPlan;
use crate::error::{Error, SqlState};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use parking_lot::Mutex;
use scry_engine::{ScanCursor, Table};
use scry_stream::{RowBatchBuilder, StoreSchema};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Cursors for the scans of one execution.
#[derive(Clone)]
pub struct PrimarySource {
    cursors: Arc<Mutex<HashMap<u32, Vec<ScanCursor>>>>,
}

impl PrimarySource {
    /// Opens a cursor for each scan in the plan.
    pub fn open(
        plan: &AnalyticPlan,
        mut open: impl FnMut(&Arc<Table>) -> Result<ScanCursor, Error>,
    ) -> Result<PrimarySource, Error> {
        let mut cursors: HashMap<u32, Vec<ScanCursor>> = HashMap::new();
        for (table, scans) in plan.scans() {
            for _ in 0..scans {
                let opened = open(&table)?;
                cursors.entry(table.def.oid).or_default().push(opened);
            }
        }
        Ok(PrimarySource {
            cursors: Arc::new(Mutex::new(cursors)),
        })
    }

    pub(super) fn scan(
        &self,
        table: &Arc<Table>,
        schema: &Arc<StoreSchema>,
        projection: Vec<usize>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let cursor = self.cursors.lock().get_mut(&table.def.oid).and_then(Vec::pop);
        let cursor = cursor.ok_or_else(|| {
            external(Error::new(
                SqlState::INTERNAL_ERROR,
                format!("no cursor is left for \"{}\"", table.def.name),
            ))
        })?;
        let projected: SchemaRef = Arc::new(schema.arrow.project(&projection)?);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(projected.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(Arc::new(PrimaryScan {
            table: table.clone(),
            store: schema.clone(),
            projection,
            schema: projected,
            cursor: Mutex::new(Some(cursor)),
            properties,
            limit,
        }))
    }
}

impl fmt::Debug for PrimarySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrimarySource").finish_non_exhaustive()
    }
}

/// A scan of one table's rows in key order.
struct PrimaryScan {
    table: Arc<Table>,
    store: Arc<StoreSchema>,
    projection: Vec<usize>,
    schema: SchemaRef,
    /// Taken by the one execution.
    cursor: Mutex<Option<ScanCursor>>,
    properties: Arc<PlanProperties>,
    limit: Option<usize>,
}

impl fmt::Debug for PrimaryScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrimaryScan")
            .field("table", &self.table.def.name)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for PrimaryScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrimaryScan: table={}", self.table.def.name)
    }
}

impl ExecutionPlan for PrimaryScan {
    fn name(&self) -> &str {
        "PrimaryScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let cursor = self.cursor.lock().take().ok_or_else(|| {
            external(Error::new(
                SqlState::INTERNAL_ERROR,
                "a scan of the primary was executed twice",
            ))
        })?;
        let builder = RowBatchBuilder::projected(&self.store, &self.projection)?;
        let reader = CursorReader {
            cursor,
            builder,
            schema: self.schema.clone(),
            batch_rows: context.session_config().batch_size(),
            left: self.limit.unwrap_or(usize::MAX),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema.clone(),
            futures::stream::iter(reader),
        )))
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let rows = usize::try_from(self.table.live_rows()).unwrap_or(usize::MAX);
        statistics.num_rows = Precision::Inexact(rows);
        Ok(Arc::new(statistics))
    }
}

struct CursorReader {
    cursor: ScanCursor,
    builder: RowBatchBuilder,
    schema: SchemaRef,
    batch_rows: usize,
    left: usize,
}

impl CursorReader {
    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let wanted = self.batch_rows.min(self.left);
        let rows = self
            .cursor
            .next_batch(wanted)
            .map_err(|error| external(error.into()))?;
        if rows.is_empty() {
            return Ok(None);
        }
        self.left -= rows.len();
        for (_, version) in &rows {
            self.builder
                .push(&version.row)
                .map_err(|error| external(Error::new(SqlState::INTERNAL_ERROR, error.to_string())))?;
        }
        let batch = self.builder.finish()?;
        let options =
            datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(Some(RecordBatch::try_new_with_options(
            self.schema.clone(),
            batch.columns().to_vec(),
            &options,
        )?))
    }
}

impl Iterator for CursorReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = self.batch().transpose();
        if !matches!(batch, Some(Ok(_))) {
            self.left = 0;
        }
        batch
    }
}
