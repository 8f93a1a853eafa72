//! User tables as DataFusion sees them, and the scan of a mirror snapshot.
//!
//! A planned query names tables; only an execution brings rows, by the [`Source`] in its session state. Of a mirror
//! snapshot the scan takes the units that the filters' bounds do not rule out, hides what the transaction itself
//! has ended, and adds the rows that it has written. Row counts are exact where nothing was filtered, so `count(*)` reads
//! no rows at all and joins are ordered by true sizes.

use super::error::external;
use super::freshness::from_mirror;
use super::primary::PrimarySource;
use super::units;
use crate::error::{Error, SqlState};
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatchOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use roaring::RoaringTreemap;
use scry_engine::{OwnWrites, Table};
use scry_mirror::{ScanUnit, Snapshot, TableSnapshot};
use scry_stream::{RowBatchBuilder, StoreSchema};
use scry_wal::StoreId;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Where the rows of one execution come from: one LSN for all its tables.
#[derive(Debug, Clone)]
pub enum Source {
    /// No user table is read.
    None,
    /// The mirror at a snapshot, with the transaction's own writes laid over it, by store.
    Mirror {
        snapshot: Arc<Snapshot>,
        own: HashMap<StoreId, OwnWrites>,
    },
    /// The primary's rows at the transaction's snapshot.
    Primary(PrimarySource),
}

/// The source inside a statement's DataFusion session.
pub struct StatementSource {
    source: Source,
}

impl StatementSource {
    pub fn new(source: Source) -> Self {
        StatementSource { source }
    }
}

/// A table of the catalog.
#[derive(Debug)]
pub struct UserTable {
    table: Arc<Table>,
    schema: Arc<StoreSchema>,
}

impl UserTable {
    pub fn new(table: Arc<Table>) -> Self {
        let schema = Arc::new(StoreSchema::new(table.def.columns.clone()));
        UserTable { table, schema }
    }
}

fn internal(message: impl Into<String>) -> datafusion::error::DataFusionError {
    external(Error::new(SqlState::INTERNAL_ERROR, message))
}

#[async_trait]
impl TableProvider for UserTable {
    fn schema(&self) -> SchemaRef {
        self.schema.arrow.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Filters only rule units out; the rows that remain are still filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let source = state
            .config()
            .get_extension::<StatementSource>()
            .ok_or_else(|| internal("a query was executed without a source"))?;
        let all: Vec<usize> = (0..self.schema.arrow.fields().len()).collect();
        let projection = projection.cloned().unwrap_or(all);
        let partitions = state.config().target_partitions();
        match &source.source {
            Source::None => Err(internal(format!(
                "no source for table \"{}\"",
                self.table.def.name
            ))),
            Source::Primary(primary) => primary.scan(&self.table, &self.schema, projection, limit),
            Source::Mirror { snapshot, own } => {
                let store = self.table.def.store;
                let table = snapshot.table(store);
                let own = own.get(&store);
                let predicate = match conjunction(filters.to_vec()) {
                    Some(expr) => {
                        let schema = DFSchema::try_from(self.schema.arrow.clone())?;
                        Some(state.create_physical_expr(expr, &schema)?)
                    }
                    None => None,
                };
                let scan = MirrorScan::new(
                    self,
                    table.as_ref(),
                    own,
                    projection,
                    predicate,
                    partitions,
                    limit,
                )?;
                Ok(Arc::new(scan))
            }
        }
    }
}

/// What one partition reads, a piece at a time.
#[derive(Debug, Clone)]
enum Piece {
    Unit(ScanUnit),
    /// Rows of the transaction's own, all columns of the projection.
    Own(RecordBatch),
}

/// A scan of one table of a mirror snapshot.
#[derive(Debug)]
pub struct MirrorScan {
    name: String,
    projection: Arc<[usize]>,
    schema: SchemaRef,
    partitions: Vec<Vec<Piece>>,
    hidden: Option<Arc<RoaringTreemap>>,
    statistics: Arc<Statistics>,
    properties: Arc<PlanProperties>,
    limit: Option<usize>,
    units_pruned: usize,
}

impl MirrorScan {
    fn new(
        table: &UserTable,
        snapshot: Option<&TableSnapshot>,
        own: Option<&OwnWrites>,
        projection: Vec<usize>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        partition_count: usize,
        limit: Option<usize>,
    ) -> Result<MirrorScan> {
        let full = &table.schema.arrow;
        let schema: SchemaRef = Arc::new(full.project(&projection)?);
        let mut units = snapshot.map(TableSnapshot::units).unwrap_or_default();
        let all_units = units.len();
        if let Some(predicate) = &predicate {
            units::prune(&mut units, full, predicate);
        }
        let units_pruned = all_units - units.len();
        let hidden = own.filter(|own| !own.hidden.is_empty()).map(|own| {
            Arc::new(
                own.hidden
                    .iter()
                    .map(|ordinal| ordinal.get())
                    .collect::<RoaringTreemap>(),
            )
        });
        let own_rows = match own {
            Some(own) if !own.rows.is_empty() => Some(own_batch(own, &table.schema, &projection)?),
            _ => None,
        };
        let own_count = own.map_or(0, |own| own.rows.len());
        let hidden_count = own.map_or(0, |own| own.hidden.len());
        let rows = units.iter().map(ScanUnit::rows).sum::<u64>() as usize + own_count;
        let statistics = Arc::new(units::statistics(
            &table.table,
            &units,
            &projection,
            rows.saturating_sub(hidden_count),
            predicate.is_none() && limit.is_none(),
        ));
        let partitions = distribute(units, own_rows, partition_count.max(1));
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(MirrorScan {
            name: table.table.def.name.clone(),
            projection: projection.into(),
            schema,
            partitions,
            hidden,
            statistics,
            properties,
            limit,
            units_pruned,
        })
    }
}

fn own_batch(own: &OwnWrites, schema: &StoreSchema, projection: &[usize]) -> Result<RecordBatch> {
    let mut builder = RowBatchBuilder::projected(schema, projection)?;
    for row in &own.rows {
        builder.push(row).map_err(|error| internal(error.to_string()))?;
    }
    Ok(builder.finish()?)
}

/// Spreads the units over partitions of about equal numbers of rows; every partition keeps the units' order.
fn distribute(units: Vec<ScanUnit>, own: Option<RecordBatch>, count: usize) -> Vec<Vec<Piece>> {
    let mut partitions: Vec<(u64, Vec<(usize, Piece)>)> = (0..count).map(|_| (0, Vec::new())).collect();
    let mut pieces: Vec<(u64, usize, Piece)> = units
        .into_iter()
        .enumerate()
        .map(|(index, unit)| (unit.rows(), index, Piece::Unit(unit)))
        .collect();
    let last = pieces.len();
    pieces.extend(own.map(|batch| (batch.num_rows() as u64, last, Piece::Own(batch))));
    pieces.sort_by_key(|(rows, index, _)| (std::cmp::Reverse(*rows), *index));
    for (rows, index, piece) in pieces {
        if let Some(least) = partitions.iter_mut().min_by_key(|(sum, _)| *sum) {
            least.0 += rows;
            least.1.push((index, piece));
        }
    }
    let mut spread: Vec<Vec<Piece>> = partitions
        .into_iter()
        .filter(|(_, pieces)| !pieces.is_empty())
        .map(|(_, mut pieces)| {
            pieces.sort_by_key(|(index, _)| *index);
            pieces.into_iter().map(|(_, piece)| piece).collect()
        })
        .collect();
    if spread.is_empty() {
        spread.push(Vec::new());
    }
    spread
}

impl DisplayAs for MirrorScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units: usize = self.partitions.iter().map(Vec::len).sum();
        write!(
            f,
            "MirrorScan: table={}, units={units}, pruned={}",
            self.name, self.units_pruned
        )?;
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for MirrorScan {
    fn name(&self) -> &str {
        "MirrorScan"
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let pieces = self.partitions.get(partition).cloned().unwrap_or_default();
        let reader = PieceReader {
            pieces: pieces.into(),
            projection: self.projection.clone(),
            schema: self.schema.clone(),
            hidden: self.hidden.clone(),
            current: None,
            batch_rows: context.session_config().batch_size(),
            left: self.limit.unwrap_or(usize::MAX),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema.clone(),
            futures::stream::iter(reader),
        )))
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(match args.partition() {
            None => self.statistics.clone(),
            Some(_) => Arc::new(Statistics::new_unknown(&self.schema)),
        })
    }
}

/// Reads pieces one after the other and hands them out in slices.
struct PieceReader {
    pieces: VecDeque<Piece>,
    projection: Arc<[usize]>,
    schema: SchemaRef,
    hidden: Option<Arc<RoaringTreemap>>,
    current: Option<(RecordBatch, usize)>,
    batch_rows: usize,
    left: usize,
}

impl PieceReader {
    fn open(&self, piece: Piece) -> Result<RecordBatch> {
        let batch = match piece {
            Piece::Own(batch) => batch,
            Piece::Unit(unit) => unit
                .read(&self.projection, self.hidden.as_deref())
                .map_err(|error| external(from_mirror(error)))?,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            batch.columns().to_vec(),
            &options,
        )?)
    }
}

impl Iterator for PieceReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.left == 0 {
                return None;
            }
            match self.current.take() {
                Some((batch, offset)) if offset < batch.num_rows() => {
                    let rows = (batch.num_rows() - offset).min(self.batch_rows).min(self.left);
                    let slice = batch.slice(offset, rows);
                    self.left -= rows;
                    self.current = Some((batch, offset + rows));
                    return Some(Ok(slice));
                }
                _ => {
                    let piece = self.pieces.pop_front()?;
                    match self.open(piece) {
                        Ok(batch) => self.current = Some((batch, 0)),
                        Err(error) => {
                            self.left = 0;
                            return Some(Err(error));
                        }
                    }
                }
            }
        }
    }
}
