//! User tables as DataFusion sees them, and the scan of a mirror snapshot.
//!
//! A planned query names tables; only an execution brings rows, by the [`Source`] in its session state. Of a mirror
//! snapshot the scan takes the units that the filters' bounds do not rule out, hides what the transaction itself
//! has ended, and adds the rows that it has written. Of a future it takes the units of the present and of the branches, less
//! what the future's overlay hides. Row counts are exact where nothing was filtered, so `count(*)` reads
//! no rows at all and joins are ordered by true sizes.

use super::error::external;
use super::freshness::from_mirror;
use super::future::{FutureName, Futures, TableFuture};
use super::plan::AnalyticPlan;
use super::prefilter::Prefilter;
use super::primary::PrimarySource;
use super::units::{self, Unit};
use crate::error::{Error, SqlState};
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatchOptions;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result, Statistics};
use datafusion::datasource::source_as_provider;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use roaring::RoaringTreemap;
use scry_engine::{OwnWrites, Row, Table};
use scry_mirror::{Snapshot, TableSnapshot, UnitRows};
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
    /// Beside the rows of the present, futures of tables at the same LSN.
    WithFutures { present: Box<Source>, futures: Futures },
}

impl Source {
    /// What there is in the futures that a plan reads, a line each.
    pub fn futures_read<'a>(&'a self, plan: &'a AnalyticPlan) -> impl Iterator<Item = String> + 'a {
        let futures = match self {
            Source::WithFutures { futures, .. } => Some(futures),
            _ => None,
        };
        plan.futures().iter().filter_map(move |read| {
            let future = futures?.get(&read.table, &read.name)?;
            let (table, name) = (&read.table.def.name, &read.name);
            Some(format!("{table} of \"{name}\": {}", future.figures()))
        })
    }
}

/// The source inside a statement's DataFusion session.
pub struct StatementSource {
    present: Source,
    futures: Futures,
}

impl StatementSource {
    pub fn new(source: Source) -> Self {
        match source {
            Source::WithFutures { present, futures } => StatementSource {
                present: *present,
                futures,
            },
            present => StatementSource {
                present,
                futures: Futures::default(),
            },
        }
    }

    pub fn futures(&self) -> &Futures {
        &self.futures
    }
}

/// A table of the catalog, in the present or in a future.
#[derive(Debug)]
pub struct UserTable {
    table: Arc<Table>,
    /// All columns of the table's data.
    schema: Arc<StoreSchema>,
    /// The numbers of those that the table has.
    live: Vec<usize>,
    /// These columns.
    arrow: SchemaRef,
    future: Option<Arc<FutureName>>,
}

impl UserTable {
    pub fn new(table: Arc<Table>, future: Option<Arc<FutureName>>) -> Self {
        let schema = Arc::new(StoreSchema::new(table.def.columns.clone()));
        let live: Vec<usize> = table.def.live_columns().map(|(number, _)| number).collect();
        let fields: Vec<_> = live
            .iter()
            .map(|number| schema.arrow.fields()[*number].clone())
            .collect();
        UserTable {
            table,
            schema,
            live,
            arrow: Arc::new(Schema::new(fields)),
            future,
        }
    }

    /// The table and the future of it that a plan's source stands for; `None`: it is no user table.
    pub fn behind(source: &Arc<dyn TableSource>) -> Option<(Arc<Table>, Option<Arc<FutureName>>)> {
        let provider = source_as_provider(source).ok()?;
        let this = provider.downcast_ref::<UserTable>()?;
        Some((this.table.clone(), this.future.clone()))
    }
}

fn internal(message: impl Into<String>) -> datafusion::error::DataFusionError {
    external(Error::new(SqlState::INTERNAL_ERROR, message))
}

#[async_trait]
impl TableProvider for UserTable {
    fn schema(&self) -> SchemaRef {
        self.arrow.clone()
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
        let projection = match projection {
            Some(projection) => projection.iter().map(|place| self.live[*place]).collect(),
            None => self.live.clone(),
        };
        let partitions = state.config().target_partitions();
        let missing = || internal(format!("no source for table \"{}\"", self.table.def.name));
        let content = match (&self.future, &source.present) {
            (Some(name), _) => {
                let future = source.futures.get(&self.table, name).ok_or_else(missing)?;
                Content::of_future(name, future, &self.schema)
            }
            (None, Source::Primary(primary)) => {
                return primary.scan(&self.table, &self.schema, projection, limit);
            }
            (None, Source::Mirror { snapshot, own }) => {
                let store = self.table.def.store;
                let table = snapshot.table(store);
                let table = table.map(|table| table.with_columns(&self.schema));
                Content::of_present(table, own.get(&store))
            }
            (None, Source::None | Source::WithFutures { .. }) => return Err(missing()),
        };
        let predicate = match conjunction(filters.to_vec()) {
            Some(expr) => {
                let schema = DFSchema::try_from(self.arrow.clone())?;
                Some(state.create_physical_expr(expr, &schema)?)
            }
            None => None,
        };
        let scan = MirrorScan::new(self, content, projection, predicate, partitions, limit)?;
        Ok(Arc::new(scan))
    }
}

/// What there is to be scanned.
struct Content<'a> {
    units: Vec<Unit>,
    /// Rows that are in no unit.
    rows: &'a [Row],
    /// Rows of the units that are not shown.
    hidden_rows: u64,
    /// Which future it is of: for EXPLAIN.
    label: String,
}

impl<'a> Content<'a> {
    /// A table with a transaction's own writes.
    fn of_present(table: Option<TableSnapshot>, own: Option<&'a OwnWrites>) -> Content<'a> {
        let hidden = own.filter(|own| !own.hidden.is_empty()).map(|own| {
            let ordinals = own.hidden.iter().map(|ordinal| ordinal.get());
            Arc::new(ordinals.collect::<RoaringTreemap>())
        });
        Content {
            units: units_of(table.as_ref(), hidden.as_ref()),
            rows: own.map_or(&[], |own| &own.rows),
            hidden_rows: own.map_or(0, |own| own.hidden.len() as u64),
            label: String::new(),
        }
    }

    fn of_future(name: &FutureName, future: &'a TableFuture, schema: &Arc<StoreSchema>) -> Content<'a> {
        let overlay = &*future.overlay;
        let present = future
            .present
            .as_ref()
            .map(|present| present.with_columns(schema));
        let mut units = units_of(present.as_ref(), Some(&overlay.hidden));
        for (branch, hidden) in future.branches.iter().zip(&overlay.hidden_in) {
            units.extend(units_of(Some(&branch.as_rows_of(schema)), Some(hidden)));
        }
        Content {
            units,
            rows: &overlay.added,
            hidden_rows: overlay.hidden_in_all(),
            label: format!(", future={name}"),
        }
    }
}

fn units_of(table: Option<&TableSnapshot>, hidden: Option<&Arc<RoaringTreemap>>) -> Vec<Unit> {
    let units = table.map(TableSnapshot::units).unwrap_or_default();
    let unit = |rows| Unit {
        rows,
        hidden: hidden.cloned(),
    };
    units.into_iter().map(unit).collect()
}

/// What one partition reads, a piece at a time.
#[derive(Debug, Clone)]
enum Piece {
    Unit(Unit),
    /// Rows that are in no unit, all columns of the projection.
    Rows(RecordBatch),
}

/// A scan of one table of a mirror snapshot.
#[derive(Debug)]
pub struct MirrorScan {
    name: String,
    projection: Arc<[usize]>,
    schema: SchemaRef,
    partitions: Vec<Vec<Piece>>,
    statistics: Arc<Statistics>,
    properties: Arc<PlanProperties>,
    prefilter: Option<Prefilter>,
    limit: Option<usize>,
    units_pruned: usize,
    label: String,
}

impl MirrorScan {
    fn new(
        table: &UserTable,
        content: Content<'_>,
        projection: Vec<usize>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        partition_count: usize,
        limit: Option<usize>,
    ) -> Result<MirrorScan> {
        let schema: SchemaRef = Arc::new(table.schema.arrow.project(&projection)?);
        let mut units = content.units;
        let all_units = units.len();
        if let Some(predicate) = &predicate {
            units::prune(&mut units, &table.arrow, &table.live, predicate);
        }
        let units_pruned = all_units - units.len();
        let prefilter = predicate.as_ref().and_then(|all| Prefilter::new(all, &schema));
        let others = match content.rows {
            [] => None,
            rows => Some(batch_of(rows, &table.schema, &projection)?),
        };
        let rows = units.iter().map(|unit| unit.rows.rows()).sum::<u64>() as usize + content.rows.len();
        let statistics = Arc::new(units::statistics(
            &table.table,
            &units,
            &projection,
            rows.saturating_sub(content.hidden_rows as usize),
            predicate.is_none() && limit.is_none(),
        ));
        let partitions = distribute(units, others, partition_count.max(1));
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
            statistics,
            properties,
            prefilter,
            limit,
            units_pruned,
            label: content.label,
        })
    }
}

fn batch_of(rows: &[Row], schema: &StoreSchema, projection: &[usize]) -> Result<RecordBatch> {
    let mut builder = RowBatchBuilder::projected(schema, projection)?;
    for row in rows {
        builder.push(row).map_err(|error| internal(error.to_string()))?;
    }
    Ok(builder.finish()?)
}

/// Spreads the units over partitions of about equal numbers of rows; every partition keeps the units' order.
fn distribute(units: Vec<Unit>, others: Option<RecordBatch>, count: usize) -> Vec<Vec<Piece>> {
    let mut partitions: Vec<(u64, Vec<(usize, Piece)>)> = (0..count).map(|_| (0, Vec::new())).collect();
    let mut pieces: Vec<(u64, usize, Piece)> = units
        .into_iter()
        .enumerate()
        .map(|(index, unit)| (unit.rows.rows(), index, Piece::Unit(unit)))
        .collect();
    let last = pieces.len();
    pieces.extend(others.map(|batch| (batch.num_rows() as u64, last, Piece::Rows(batch))));
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
            "MirrorScan: table={}{}, units={units}, pruned={}",
            self.name, self.label, self.units_pruned
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
            prefilter: self.prefilter.clone(),
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

/// Reads pieces one after the other and hands them out in parts.
struct PieceReader {
    pieces: VecDeque<Piece>,
    projection: Arc<[usize]>,
    schema: SchemaRef,
    prefilter: Option<Prefilter>,
    /// What is being read, and the first place in it that has not been.
    current: Option<(Opened, usize)>,
    batch_rows: usize,
    left: usize,
}

/// A piece that is being read.
enum Opened {
    Unit(UnitRows),
    Rows(RecordBatch),
}

impl Opened {
    fn positions(&self) -> usize {
        match self {
            Opened::Unit(rows) => rows.positions(),
            Opened::Rows(batch) => batch.num_rows(),
        }
    }

    /// The rows that are shown; of a part in which not all are, only those that the filter wants.
    fn part(&self, start: usize, count: usize, prefilter: &mut Option<Prefilter>) -> Result<RecordBatch> {
        let rows = match self {
            Opened::Rows(batch) => return Ok(batch.slice(start, count)),
            Opened::Unit(rows) => rows,
        };
        if let Some(filter) = prefilter.as_mut().filter(|filter| filter.pays())
            && let (all, Some(shown)) = rows.places(start, count)
        {
            return Ok(filter_record_batch(&all, &filter.wanted(&all, &shown)?)?);
        }
        rows.part(start, count)
            .map_err(|error| external(from_mirror(error)))
    }
}

impl PieceReader {
    fn open(&self, piece: Piece) -> Result<Opened> {
        Ok(match piece {
            Piece::Rows(batch) => Opened::Rows(batch),
            Piece::Unit(unit) => {
                let opened = unit.rows.open(&self.projection, unit.hidden.as_deref());
                Opened::Unit(opened.map_err(|error| external(from_mirror(error)))?)
            }
        })
    }

    /// The next rows; `None` at the end.
    fn part(&mut self) -> Result<Option<RecordBatch>> {
        while self.left > 0 {
            let Some((opened, start)) = self.current.take() else {
                let Some(piece) = self.pieces.pop_front() else {
                    break;
                };
                self.current = Some((self.open(piece)?, 0));
                continue;
            };
            let count = (opened.positions() - start).min(self.batch_rows);
            if count == 0 {
                continue;
            }
            let batch = opened.part(start, count, &mut self.prefilter)?;
            self.current = Some((opened, start + count));
            let rows = batch.num_rows().min(self.left);
            if rows == 0 {
                continue;
            }
            self.left -= rows;
            let columns = batch.slice(0, rows).columns().to_vec();
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
            return Ok(Some(batch));
        }
        Ok(None)
    }
}

impl Iterator for PieceReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = self.part().transpose();
        if !matches!(part, Some(Ok(_))) {
            self.left = 0;
        }
        part
    }
}
