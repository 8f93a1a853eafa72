//! What a query sees: every commit up to one LSN, of every store, and nothing after it.
//!
//! Opening a snapshot registers its LSN, so that nothing it needs is folded away, and touches no store. Opening a
//! table copies pointers to its immutable pieces; from then on the table does not depend on the snapshot any more,
//! and the applier goes on without knowing of either.

use arrow::array::{BooleanArray, UInt64Array};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer};
use arrow::compute::FilterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use roaring::RoaringTreemap;
use scry_stream::StoreSchema;
use scry_wal::{Lsn, StoreId};
use std::ops::Range;
use std::sync::Arc;

use crate::cache::Cache;
use crate::checksum::{Checksum, checksum_rows, hash_rows};
use crate::core::{Core, Stores};
use crate::error::Error;
use crate::future::columns_of_table;
use crate::horizon::Held;
use crate::piece::Slot;
use crate::repair::Repairs;
use crate::statistics::{ColumnStatistics, of_missing};

/// All the stores as of one LSN. Cheap to open and to clone; holds back the mirror's folding while it lives.
#[derive(Debug, Clone)]
pub struct Snapshot {
    held: Arc<Held>,
    stores: Arc<Stores>,
    core: Arc<Core>,
}

impl Snapshot {
    pub(crate) fn new(held: Held, stores: Arc<Stores>, core: Arc<Core>) -> Self {
        Self {
            held: Arc::new(held),
            stores,
            core,
        }
    }

    /// The snapshot shows the commits with an LSN up to this one.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.held.at()
    }

    /// One store as of this snapshot; `None` when it does not exist in it.
    #[must_use]
    pub fn table(&self, store: StoreId) -> Option<TableSnapshot> {
        let cell = self.stores.get(store)?;
        let cut = cell.open(self.lsn())?;
        Some(TableSnapshot::new(cut, &self.core.cache, &self.core.repairs))
    }
}

/// One store as of one snapshot.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    store: StoreId,
    schema: Arc<StoreSchema>,
    units: Vec<ScanUnit>,
    /// Ordinals begun.
    count: u64,
    live_rows: u64,
}

/// Which state of which store a snapshot shows. Equal states have equal rows under equal ordinals: every commit begins
/// ordinals or ends some, and neither is ever undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreState {
    store: StoreId,
    count: u64,
    live_rows: u64,
}

impl StoreState {
    /// The state in which so many ordinals of a store have begun, and so many have not ended.
    #[must_use]
    pub fn new(store: StoreId, count: u64, live_rows: u64) -> StoreState {
        StoreState {
            store,
            count,
            live_rows,
        }
    }

    #[must_use]
    pub fn store(&self) -> StoreId {
        self.store
    }
}

/// What a store hands to a snapshot.
#[derive(Debug)]
pub(crate) struct Cut {
    pub store: StoreId,
    pub schema: Arc<StoreSchema>,
    /// The pieces that begin below `count`.
    pub slots: Vec<Slot>,
    /// The snapshot sees the ordinals below it.
    pub count: u64,
    /// Ordinals ended up to the snapshot that the bitmaps do not know yet, ascending.
    pub ended: Vec<u64>,
}

impl TableSnapshot {
    pub(crate) fn new(cut: Cut, cache: &Arc<Cache>, repairs: &Arc<Repairs>) -> Self {
        let ended: Arc<[u64]> = cut.ended.into();
        let mut units = Vec::with_capacity(cut.slots.len());
        let mut live_rows = 0;
        for slot in cut.slots {
            let stretch = slot.piece.ordinals();
            let start = ended.partition_point(|&ordinal| ordinal < stretch.start);
            let end = ended.partition_point(|&ordinal| ordinal < stretch.end);
            let cut_rows = slot.piece.rows_below(cut.count);
            let dead = slot.dead.as_ref().map_or(0, |dead| dead.count_below(cut_rows));
            let live = cut_rows - dead - (end - start);
            if live == 0 {
                continue;
            }
            live_rows += live as u64;
            units.push(ScanUnit {
                store: cut.store,
                schema: cut.schema.clone(),
                width: cut.schema.columns.len(),
                slot,
                cut_rows,
                ended: ended.clone(),
                ended_here: start..end,
                live_rows: live,
                cache: cache.clone(),
                repairs: repairs.clone(),
            });
        }
        Self {
            store: cut.store,
            schema: cut.schema,
            units,
            count: cut.count,
            live_rows,
        }
    }

    /// The state that it shows.
    #[must_use]
    pub fn state(&self) -> StoreState {
        StoreState::new(self.store, self.count, self.live_rows)
    }

    /// The store's columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.arrow.clone()
    }

    pub(crate) fn store_schema(&self) -> &StoreSchema {
        &self.schema
    }

    /// The rows as a reader sees them whose catalog has these columns.
    #[must_use]
    pub fn with_columns(&self, schema: &Arc<StoreSchema>) -> TableSnapshot {
        self.seen_as(schema, self.schema.columns.len())
    }

    /// The rows of a branch with the columns that a reader's catalog has for its table.
    #[must_use]
    pub fn as_rows_of(&self, table: &Arc<StoreSchema>) -> TableSnapshot {
        self.seen_as(table, columns_of_table(&self.schema))
    }

    fn seen_as(&self, schema: &Arc<StoreSchema>, width: usize) -> TableSnapshot {
        let unit = |unit: &ScanUnit| ScanUnit {
            schema: schema.clone(),
            width,
            ..unit.clone()
        };
        TableSnapshot {
            schema: schema.clone(),
            units: self.units.iter().map(unit).collect(),
            ..self.clone()
        }
    }

    /// Rows that the snapshot sees, exactly.
    #[must_use]
    pub fn live_rows(&self) -> u64 {
        self.live_rows
    }

    /// The parts to scan, in ordinal order; together they are the table. None of them is empty.
    #[must_use]
    pub fn units(&self) -> Vec<ScanUnit> {
        self.units.clone()
    }

    /// Those of `ordinals` that the snapshot does not see.
    pub(crate) fn ended_of(&self, ordinals: &RoaringTreemap) -> RoaringTreemap {
        let mut ended = RoaringTreemap::new();
        let mut units = self.units.iter().peekable();
        for ordinal in ordinals {
            while units
                .next_if(|unit| unit.slot.piece.ordinals().end <= ordinal)
                .is_some()
            {}
            if !units.peek().is_some_and(|unit| unit.sees(ordinal)) {
                ended.insert(ordinal);
            }
        }
        ended
    }

    /// Ordinal and hash of each row, in the order of ordinals.
    ///
    /// # Errors
    /// When a unit cannot be read.
    pub fn hashes(&self) -> Result<Vec<(u64, u64)>, Error> {
        let all: Vec<usize> = (0..self.schema.columns.len()).collect();
        let mut hashes = Vec::new();
        for unit in &self.units {
            let (ordinals, batch) = unit.read_with_ordinals(&all, None)?;
            let of_unit = hash_rows(ordinals.values(), &batch);
            hashes.extend(ordinals.values().iter().copied().zip(of_unit));
        }
        Ok(hashes)
    }

    /// A checksum of all rows with their ordinals that does not depend on how they are stored.
    ///
    /// # Errors
    /// When a unit cannot be read.
    pub fn checksum(&self) -> Result<Checksum, Error> {
        let all: Vec<usize> = (0..self.schema.columns.len()).collect();
        let mut sum = Checksum::default();
        for unit in &self.units {
            let (ordinals, batch) = unit.read_with_ordinals(&all, None)?;
            sum.add(checksum_rows(ordinals.values(), &batch));
        }
        Ok(sum)
    }
}

/// Some consecutive rows of a table snapshot: what one thread scans at a time. Holds what it needs; may outlive the
/// snapshot.
#[derive(Debug, Clone)]
pub struct ScanUnit {
    store: StoreId,
    schema: Arc<StoreSchema>,
    /// How many columns of the schema its rows have at most.
    width: usize,
    slot: Slot,
    cut_rows: usize,
    ended: Arc<[u64]>,
    ended_here: Range<usize>,
    live_rows: usize,
    cache: Arc<Cache>,
    repairs: Arc<Repairs>,
}

impl ScanUnit {
    /// Rows that the snapshot sees in the unit, exactly.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.live_rows as u64
    }

    /// The table's columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema.arrow
    }

    /// Bounds of a column, for pruning.
    #[must_use]
    pub fn statistics(&self, column: usize) -> Option<ColumnStatistics> {
        let piece = &self.slot.piece;
        match column < self.width.min(piece.width()) {
            true => piece.statistics(column),
            false => of_missing(&self.schema, column, piece.rows()),
        }
    }

    /// The rows that the snapshot sees, of the columns in `projection` in its order, less those whose ordinals
    /// are in `hidden`. An empty projection gives a batch of rows without columns.
    ///
    /// # Errors
    /// When the unit's file is damaged or cannot be read.
    pub fn read(&self, projection: &[usize], hidden: Option<&RoaringTreemap>) -> Result<RecordBatch, Error> {
        let rows = self.open(projection, hidden)?;
        rows.part(0, rows.positions())
    }

    /// As `read`, to be taken in parts.
    ///
    /// # Errors
    /// As `read`.
    pub fn open(&self, projection: &[usize], hidden: Option<&RoaringTreemap>) -> Result<UnitRows, Error> {
        Ok(UnitRows {
            batch: self.physical(projection)?,
            keep: self.keep(hidden),
        })
    }

    /// As `read`, with the ordinal of each row.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_with_ordinals(
        &self,
        projection: &[usize],
        hidden: Option<&RoaringTreemap>,
    ) -> Result<(UInt64Array, RecordBatch), Error> {
        let batch = self.physical(projection)?;
        let ordinal = |position| self.slot.piece.ordinal(position);
        match self.keep(hidden) {
            None => Ok(((0..self.cut_rows).map(ordinal).collect::<Vec<_>>().into(), batch)),
            Some(keep) => {
                let ordinals: Vec<u64> = keep.values().set_indices().map(ordinal).collect();
                Ok((ordinals.into(), filter(&batch, &keep)?))
            }
        }
    }

    /// Whether the snapshot sees a row with this ordinal in this unit.
    fn sees(&self, ordinal: u64) -> bool {
        let ended = &self.ended[self.ended_here.clone()];
        self.slot.piece.position(ordinal).is_some_and(|position| {
            let dead = self.slot.dead.as_ref();
            position < self.cut_rows
                && !dead.is_some_and(|dead| dead.contains(position))
                && ended.binary_search(&ordinal).is_err()
        })
    }

    /// The columns with dead rows, up to the snapshot's last ordinal.
    fn physical(&self, projection: &[usize]) -> Result<RecordBatch, Error> {
        let piece = &self.slot.piece;
        let batch = piece
            .columns(projection, self.width, &self.schema, &self.cache)
            .inspect_err(|error| self.repairs.report(self.store, piece, error))?;
        Ok(if self.cut_rows < batch.num_rows() {
            batch.slice(0, self.cut_rows)
        } else {
            batch
        })
    }

    /// Which rows to keep; `None` when all of them.
    fn keep(&self, hidden: Option<&RoaringTreemap>) -> Option<BooleanArray> {
        let piece = &self.slot.piece;
        let ended = &self.ended[self.ended_here.clone()];
        let stretch = piece.ordinals();
        let mut hidden = hidden.map(|hidden| {
            let mut iter = hidden.iter();
            iter.advance_to(stretch.start);
            iter.take_while(move |&ordinal| ordinal < stretch.end).peekable()
        });
        let any_hidden = hidden.as_mut().is_some_and(|hidden| hidden.peek().is_some());
        if self.slot.dead_rows == 0 && ended.is_empty() && !any_hidden {
            return None;
        }
        let mut words = match &self.slot.dead {
            Some(dead) => dead.inverted(),
            None => vec![u64::MAX; piece.rows().div_ceil(64)],
        };
        let mut clear = |ordinal| {
            if let Some(position) = piece.position(ordinal) {
                words[position / 64] &= !(1 << (position % 64));
            }
        };
        ended.iter().copied().for_each(&mut clear);
        hidden.into_iter().flatten().for_each(&mut clear);
        if cfg!(target_endian = "big") {
            words.iter_mut().for_each(|word| *word = word.swap_bytes());
        }
        let buffer: Buffer = MutableBuffer::from(words).into();
        Some(BooleanArray::new(
            BooleanBuffer::new(buffer, 0, self.cut_rows),
            None,
        ))
    }
}

/// The rows of a unit, those that are not seen not taken out yet: what is taken at a time may be small enough to stay in the
/// processor's cache.
#[derive(Debug, Clone)]
pub struct UnitRows {
    batch: RecordBatch,
    keep: Option<BooleanArray>,
}

impl UnitRows {
    /// Places of rows, of those that are not seen too.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.batch.num_rows()
    }

    /// The rows that are seen among `count` places from `start` on.
    ///
    /// # Errors
    /// When Arrow cannot filter a column.
    pub fn part(&self, start: usize, count: usize) -> Result<RecordBatch, Error> {
        match self.places(start, count) {
            (batch, Some(seen)) => filter(&batch, &seen),
            (batch, None) => Ok(batch),
        }
    }

    /// The rows in `count` places from `start` on, and which of them are seen; `None`: all.
    #[must_use]
    pub fn places(&self, start: usize, count: usize) -> (RecordBatch, Option<BooleanArray>) {
        let seen = self.keep.as_ref().map(|keep| keep.slice(start, count));
        let batch = self.batch.slice(start, count);
        (batch, seen.filter(|seen| seen.true_count() < count))
    }
}

pub(crate) fn filter(batch: &RecordBatch, keep: &BooleanArray) -> Result<RecordBatch, Error> {
    if batch.num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(keep.true_count()));
        return Ok(RecordBatch::try_new_with_options(
            batch.schema(),
            Vec::new(),
            &options,
        )?);
    }
    let builder = FilterBuilder::new(keep);
    let predicate = if batch.num_columns() > 1 {
        builder.optimize().build()
    } else {
        builder.build()
    };
    debug_assert_eq!(keep.len(), batch.num_rows());
    Ok(predicate.filter_record_batch(batch)?)
}
