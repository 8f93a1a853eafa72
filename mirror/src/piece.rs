//! A piece: a stretch of a store's ordinals as columns, in memory, in a file, or both.
//!
//! Invariants: a piece never changes; its rows are in ordinal order; it has a batch or a file. Ordinals within its
//! stretch that have no row were dead behind the horizon when the piece was made.
//!
//! A piece has the first columns of its store, as many as there were when it was made, or some that came since: what it lacks is
//! added when it is read, from the missing values in the store's schema.
//!
//! A piece of a candidate's branch that became part of the table is *relinked*: the same rows, in the same memory and
//! file, under other ordinals, and without the branch's own columns, which stand last.

use arrow::array::Array;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use scry_stream::StoreSchema;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::bits::Bits;
use crate::cache::Cache;
use crate::error::Error;
use crate::segment::SegmentFile;
use crate::statistics::{self, ColumnStatistics};

/// Most rows of a piece: the grain of scans and of files. Small enough that two partitions share a table of a few hundred thousand rows
/// evenly, large enough that a column's decoding dwarfs its opening.
pub(crate) const PIECE_ROWS_MAX: usize = 128 << 10;

/// Most bytes of a piece made by merging, well below the 2 GiB that 32-bit offsets of strings reach.
pub(crate) const PIECE_BYTES_MAX: usize = 64 << 20;

/// A stretch of ordinals as columns.
#[derive(Debug)]
pub(crate) struct Piece {
    ordinals: Range<u64>,
    rows: usize,
    /// Distance of each row's ordinal from the first of the stretch; `None` when position and distance are equal.
    offsets: Option<Arc<[u32]>>,
    batch: Option<RecordBatch>,
    file: Option<Arc<SegmentFile>>,
    /// The file is that of a branch: it has a branch's columns, and its ordinals lack this.
    shift: Option<u64>,
    /// What the rows take in memory, or would take.
    bytes: usize,
    statistics: Vec<OnceLock<Option<ColumnStatistics>>>,
}

impl Piece {
    /// Rows with the consecutive ordinals from `first`.
    pub fn dense(first: u64, batch: RecordBatch) -> Self {
        let ordinals = first..first + batch.num_rows() as u64;
        Self::resident(ordinals, None, batch)
    }

    /// Rows in memory. Without `offsets` they are dense.
    pub fn resident(ordinals: Range<u64>, offsets: Option<Arc<[u32]>>, batch: RecordBatch) -> Self {
        let rows = batch.num_rows();
        let bytes = batch_bytes(&batch);
        let columns = batch.num_columns();
        Self::new(ordinals, rows, offsets, Some(batch), None, bytes, columns)
    }

    /// Rows in memory, at these distances from the first ordinal of the stretch.
    pub fn at_offsets(ordinals: Range<u64>, offsets: Vec<u32>, batch: RecordBatch) -> Self {
        let is_dense = offsets.len() as u64 == ordinals.end - ordinals.start;
        Self::resident(ordinals, (!is_dense).then(|| offsets.into()), batch)
    }

    /// Rows in a file only; `bytes` is what they take in memory.
    pub fn sealed(
        ordinals: Range<u64>,
        rows: usize,
        offsets: Option<Arc<[u32]>>,
        file: Arc<SegmentFile>,
        bytes: usize,
        columns: usize,
    ) -> Self {
        Self::new(ordinals, rows, offsets, None, Some(file), bytes, columns)
    }

    fn new(
        ordinals: Range<u64>,
        rows: usize,
        offsets: Option<Arc<[u32]>>,
        batch: Option<RecordBatch>,
        file: Option<Arc<SegmentFile>>,
        bytes: usize,
        columns: usize,
    ) -> Self {
        let span = ordinals.end - ordinals.start;
        match &offsets {
            None => assert_eq!(span, rows as u64, "a dense piece has a row for each ordinal"),
            Some(offsets) => {
                assert_eq!(offsets.len(), rows, "a sparse piece has an ordinal for each row");
                assert!(
                    offsets.last().is_none_or(|&last| u64::from(last) < span),
                    "ordinals within the stretch"
                );
            }
        }
        let statistics = (0..columns).map(|_| OnceLock::new()).collect();
        Self {
            ordinals,
            rows,
            offsets,
            batch,
            file,
            shift: None,
            bytes,
            statistics,
        }
    }

    /// The same rows with ordinals greater by `shift`, of the first `columns` columns only.
    pub fn relinked(&self, shift: u64, columns: usize) -> Result<Self, Error> {
        let columns: Vec<usize> = (0..columns).collect();
        let batch = self.batch.as_ref().map(|batch| batch.project(&columns));
        let batch = batch.transpose()?;
        let piece = Self::new(
            self.ordinals.start + shift..self.ordinals.end + shift,
            self.rows,
            self.offsets.clone(),
            batch,
            self.file.clone(),
            self.bytes,
            columns.len(),
        );
        Ok(piece.shifted(self.file.is_some().then_some(shift)))
    }

    /// Says whether the file is that of a branch, and what its ordinals then lack.
    pub fn shifted(mut self, shift: Option<u64>) -> Self {
        self.shift = shift;
        self
    }

    /// For the file of a branch: what its ordinals lack.
    pub fn shift(&self) -> Option<u64> {
        self.shift
    }

    /// The same rows, now also in `file`; with `keep_batch` they stay in memory as well.
    pub fn with_file(&self, file: Arc<SegmentFile>, keep_batch: bool) -> Self {
        let batch = if keep_batch { self.batch.clone() } else { None };
        let columns = self.statistics.len();
        Self::new(
            self.ordinals.clone(),
            self.rows,
            self.offsets.clone(),
            batch,
            Some(file),
            self.bytes,
            columns,
        )
    }

    /// The stretch of ordinals that the piece stands for.
    pub fn ordinals(&self) -> Range<u64> {
        self.ordinals.clone()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the rows take in memory, whether they are there or not.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn batch(&self) -> Option<&RecordBatch> {
        self.batch.as_ref()
    }

    pub fn file(&self) -> Option<&Arc<SegmentFile>> {
        self.file.as_ref()
    }

    pub fn offsets(&self) -> Option<&Arc<[u32]>> {
        self.offsets.as_ref()
    }

    /// The position of an ordinal's row.
    pub fn position(&self, ordinal: u64) -> Option<usize> {
        if !self.ordinals.contains(&ordinal) {
            return None;
        }
        let distance = ordinal - self.ordinals.start;
        match &self.offsets {
            None => usize::try_from(distance).ok(),
            Some(offsets) => offsets.binary_search(&u32::try_from(distance).ok()?).ok(),
        }
    }

    /// How many rows have an ordinal below `end`.
    pub fn rows_below(&self, end: u64) -> usize {
        if end >= self.ordinals.end {
            return self.rows;
        }
        let distance = end.saturating_sub(self.ordinals.start);
        match &self.offsets {
            None => distance as usize,
            Some(offsets) => offsets.partition_point(|&offset| u64::from(offset) < distance),
        }
    }

    /// The ordinal of the row at a position.
    pub fn ordinal(&self, position: usize) -> u64 {
        match &self.offsets {
            None => self.ordinals.start + position as u64,
            Some(offsets) => self.ordinals.start + u64::from(offsets[position]),
        }
    }

    /// How many columns of its store it has.
    pub fn width(&self) -> usize {
        self.statistics.len()
    }

    /// Some of the columns that it has.
    pub fn own_columns(&self, projection: &[usize], cache: &Cache) -> Result<RecordBatch, Error> {
        match (&self.batch, &self.file) {
            (Some(batch), _) => Ok(batch.project(projection)?),
            (None, Some(file)) => file.columns(projection, self.rows, cache),
            (None, None) => unreachable!("a piece has a batch or a file"),
        }
    }

    /// Some of the columns of its store, which has `schema`. Of the piece's own only the first `width` are meant.
    pub fn columns(
        &self,
        projection: &[usize],
        width: usize,
        schema: &StoreSchema,
        cache: &Cache,
    ) -> Result<RecordBatch, Error> {
        let width = width.min(self.width());
        let own: Vec<usize> = projection
            .iter()
            .copied()
            .filter(|column| *column < width)
            .collect();
        let found = self.own_columns(&own, cache)?;
        if own.len() == projection.len() {
            return Ok(found);
        }
        let mut own = found.columns().iter();
        let column = |column: &usize| match *column < width {
            true => Ok(own.next().expect("it was asked for above").clone()),
            false => schema.missing(*column, self.rows),
        };
        let columns = projection.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(schema.arrow.project(projection)?);
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// Bounds of a column that the piece has over all of the rows, dead ones included.
    pub fn statistics(&self, column: usize) -> Option<ColumnStatistics> {
        let slot = self.statistics.get(column)?;
        slot.get_or_init(|| match (&self.file, &self.batch) {
            (Some(file), _) => file.statistics(column),
            (None, Some(batch)) => statistics::of_array(batch.column(column)),
            (None, None) => None,
        })
        .clone()
    }
}

/// What a batch's rows take; not what the buffers take that it may share with other batches.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    let sizes = batch
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size());
    sizes.map(|size| size.unwrap_or(0)).sum()
}

/// A piece at its place in a store: with its dead rows.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub piece: Arc<Piece>,
    pub dead: Option<Arc<Bits>>,
    pub dead_rows: usize,
}

impl Slot {
    /// A piece of which every row lives.
    pub fn new(piece: Piece) -> Self {
        Self {
            piece: Arc::new(piece),
            dead: None,
            dead_rows: 0,
        }
    }

    pub fn live_rows(&self) -> usize {
        self.piece.rows() - self.dead_rows
    }

    /// Marks the row of an ordinal as dead. False when there is no such living row.
    pub fn kill(&mut self, ordinal: u64) -> bool {
        let Some(position) = self.piece.position(ordinal) else {
            return false;
        };
        let rows = self.piece.rows();
        let dead = self.dead.get_or_insert_with(|| Arc::new(Bits::new(rows)));
        let killed = Arc::make_mut(dead).insert(position);
        self.dead_rows += usize::from(killed);
        killed
    }

    /// Whether the row of an ordinal is there and lives.
    pub fn is_alive(&self, ordinal: u64) -> bool {
        let position = self.piece.position(ordinal);
        position.is_some_and(|position| self.dead.as_ref().is_none_or(|dead| !dead.contains(position)))
    }

    /// The same rows as another piece holds them.
    pub fn with_piece(&self, piece: Arc<Piece>) -> Self {
        Self {
            piece,
            dead: self.dead.clone(),
            dead_rows: self.dead_rows,
        }
    }
}
