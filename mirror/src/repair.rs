//! Pieces whose files were found damaged, made again while the mirror is open: from the log, or from the primary's rows (`primary`)
//! where the log does not begin with its first byte any more.
//!
//! Whoever meets a damaged file is refused, and reports the piece. A thread then reads the log from its beginning, takes
//! the rows of the piece's ordinals, and puts a piece in memory in the damaged one's place; the next checkpoint gives
//! that a file. What the log says under an ordinal never changes, so the rows are the ones that were written.
//!
//! One reading of the log serves many pieces that wait. Bounds: each piece is known once; one reading makes pieces of at
//! most [`READING_BYTES`], unless a single one is larger.

mod primary;

use arrow::array::UInt32Array;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use parking_lot::{Condvar, Mutex};
use scry_engine::election::branch_columns;
use scry_stream::{RowRun, Start, StoreChanges, Stream, StreamOptions};
use scry_wal::{Log, Lsn, StoreId};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::error::{Error, ErrorKind};
use crate::piece::Piece;
use crate::seed::SeedSource;
use crate::store::StoreCell;

/// Between two readings of the log when the first one failed.
const RETRY_WAIT: Duration = Duration::from_secs(5);

/// How long a reading waits for changes before it looks whether to stop.
const STEP_WAIT: Duration = Duration::from_millis(100);

/// Bytes of log on their way while it is read: queries have the processors and the memory.
const QUEUE_BYTES: usize = 8 << 20;

/// Bytes of the pieces made in one reading: they stay in memory until a checkpoint has given them files.
const READING_BYTES: usize = 256 << 20;

/// What the kernel says of a medium that cannot be read.
const EIO: i32 = 5;

/// The pieces that are to be made again.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    state: Mutex<State>,
    changed: Condvar,
}

/// A piece and whose it is.
type Wanted = (StoreId, Arc<Piece>);

#[derive(Debug, Default)]
struct State {
    damaged: Vec<Wanted>,
    repaired: u64,
    failure: Option<Error>,
    stopping: bool,
}

/// Figures of the repairs.
#[derive(Debug, Clone, Default)]
pub(crate) struct RepairStatus {
    pub damaged: usize,
    pub repaired: u64,
    pub failure: Option<Error>,
}

/// Whether an error says that a file does not hold what was written to it.
pub(crate) fn is_damage(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => {
            source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(EIO)
        }
        other => other.kind() == ErrorKind::Corrupt,
    }
}

impl Repairs {
    /// Reading a piece failed; has it made again if its file is damaged.
    pub fn report(&self, store: StoreId, piece: &Arc<Piece>, error: &Error) {
        if !is_damage(error) {
            return;
        }
        let mut state = self.state.lock();
        if state.damaged.iter().all(|(_, known)| !Arc::ptr_eq(known, piece)) {
            state.damaged.push((store, piece.clone()));
            self.changed.notify_all();
        }
    }

    pub fn status(&self) -> RepairStatus {
        let state = self.state.lock();
        RepairStatus {
            damaged: state.damaged.len(),
            repaired: state.repaired,
            failure: state.failure.clone(),
        }
    }

    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Another piece is in the place of this one.
    fn repaired(&self, store: StoreId, piece: Arc<Piece>) {
        let mut state = self.state.lock();
        state.repaired += 1;
        state.forget(&[(store, piece)]);
    }

    fn stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// The thread: makes pieces again until told to stop, and calls `repaired` after each reading that made any.
    pub fn run(&self, core: &Core, log: &Arc<Log>, seeds: Option<&SeedSource>, repaired: impl Fn()) {
        let mut state = self.state.lock();
        while !state.stopping {
            if state.damaged.is_empty() {
                self.changed.wait(&mut state);
                continue;
            }
            let (wanted, before) = (state.next_reading(), state.repaired);
            drop(state);
            let result = Error::caught("the repairer", || match seeds {
                Some(seeds) if log.begin() > Lsn::ZERO => self.read_primary(core, seeds, &wanted),
                _ => self.read_log(core, log, &wanted),
            });
            if self.status().repaired > before {
                repaired();
            }
            state = self.state.lock();
            // What could not be made is made when somebody asks for it again, and not over and over for nobody.
            state.forget(&wanted);
            state.failure = result.err();
            if state.failure.is_some() && !state.stopping {
                self.changed.wait_for(&mut state, RETRY_WAIT);
            }
        }
    }

    /// Reads the log and puts every piece in its place as soon as it has all of its rows. Rows that a table took over from
    /// a candidate's branch stand in the log before that is known: for them it is read once more.
    fn read_log(&self, core: &Core, log: &Arc<Log>, wanted: &[Wanted]) -> Result<(), Error> {
        let upto = core.applied();
        let mut makings = Vec::new();
        for (store, piece) in wanted {
            // A store that was dropped, or a piece that was merged away, needs nothing any more.
            if let Some(cell) = core.store(*store).filter(|cell| cell.holds(piece)) {
                makings.push(Making::new(cell, piece.clone()));
            }
        }
        while !makings.is_empty() {
            self.read_once(log, upto, &mut makings)?;
            for making in &mut makings {
                making.look_in_branches(upto)?;
            }
        }
        Ok(())
    }

    fn read_once(&self, log: &Arc<Log>, upto: Lsn, makings: &mut Vec<Making>) -> Result<(), Error> {
        let options = StreamOptions {
            extractors: 1,
            queue_bytes: QUEUE_BYTES,
            pace: Duration::ZERO,
            ..StreamOptions::default()
        };
        let mut stream = Stream::start(log, Start::beginning(), &options)?;
        while !makings.is_empty() {
            if self.stopping() {
                return Err(Error::Closed);
            }
            let Some(set) = stream.next(STEP_WAIT)? else {
                continue;
            };
            for changes in &set.stores {
                for making in makings.iter_mut() {
                    making.add(changes)?;
                }
            }
            for making in makings.extract_if(.., |making| making.is_whole()) {
                let (cell, piece) = (making.cell.clone(), making.piece.clone());
                if cell.install(&piece, Arc::new(making.finish()?)) {
                    self.repaired(cell.store, piece);
                }
            }
            if set.upto >= upto {
                break;
            }
        }
        Ok(())
    }
}

impl State {
    /// The pieces that the next reading makes: those that wait longest.
    fn next_reading(&self) -> Vec<Wanted> {
        let mut bytes = 0;
        let fits = self.damaged.iter().take_while(|(_, piece)| {
            let first = bytes == 0;
            bytes += piece.bytes().max(1);
            first || bytes <= READING_BYTES
        });
        fits.cloned().collect()
    }

    fn forget(&mut self, pieces: &[Wanted]) {
        let among = |known: &Arc<Piece>| pieces.iter().any(|(_, piece)| Arc::ptr_eq(piece, known));
        self.damaged.retain(|(_, known)| !among(known));
    }
}

/// A piece of which the rows are being collected.
struct Making {
    cell: Arc<StoreCell>,
    piece: Arc<Piece>,
    /// Where rows are looked for in this reading: a store, and what its ordinals lack.
    sources: Vec<(StoreId, u64)>,
    /// Branches that gave rows to the piece, for the next reading.
    branches: Vec<(StoreId, u64)>,
    /// Rows by the position of the first.
    parts: BTreeMap<usize, RecordBatch>,
    rows: usize,
}

impl Making {
    fn new(cell: Arc<StoreCell>, piece: Arc<Piece>) -> Self {
        Self {
            sources: vec![(cell.store, 0)],
            cell,
            piece,
            branches: Vec::new(),
            parts: BTreeMap::new(),
            rows: 0,
        }
    }

    /// Takes what the changes of a store have of the piece's rows.
    fn add(&mut self, changes: &StoreChanges) -> Result<(), Error> {
        let sources = self.sources.iter().filter(|(store, _)| *store == changes.store);
        let shifts: Vec<u64> = sources.map(|(_, shift)| *shift).collect();
        for shift in shifts {
            for run in &changes.runs {
                self.take(run, shift, changes.store != self.cell.store)?;
            }
            for adopted in &changes.adopted {
                let first = adopted.first.get();
                if !self.positions(first..first + adopted.count).is_empty() {
                    self.branches.push((adopted.branch, first));
                }
            }
        }
        Ok(())
    }

    /// Which rows of the piece have these ordinals.
    fn positions(&self, ordinals: Range<u64>) -> Range<usize> {
        self.piece.rows_below(ordinals.start)..self.piece.rows_below(ordinals.end)
    }

    /// The rows with the columns of the piece. Those of a branch have others behind them, and rows that are decoded apart from
    /// the addition of a column lack it.
    fn fitted(&self, rows: &RecordBatch, of_branch: bool) -> Result<RecordBatch, Error> {
        let schema = self.cell.schema();
        let extra = if of_branch { branch_columns(&[]).len() } else { 0 };
        let own = rows.num_columns().saturating_sub(extra);
        let width = self.piece.width();
        let column = |column: usize| match column < own {
            true => Ok(rows.column(column).clone()),
            false => schema.missing(column, rows.num_rows()),
        };
        let columns = (0..width).map(column).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            self.schema()?,
            columns,
            &options,
        )?)
    }

    /// Of the columns that the piece has.
    fn schema(&self) -> Result<SchemaRef, Error> {
        let columns: Vec<usize> = (0..self.piece.width()).collect();
        Ok(Arc::new(self.cell.schema().arrow.project(&columns)?))
    }

    fn take(&mut self, run: &RowRun, shift: u64, of_branch: bool) -> Result<(), Error> {
        let first = run.first.get() + shift;
        let positions = self.positions(first..run.end() + shift);
        if positions.is_empty() {
            return Ok(());
        }
        let rows = self.fitted(&run.rows, of_branch)?;
        // A run is at most a frame with its rows: far below 2^32.
        let indices = positions
            .clone()
            .map(|position| (self.piece.ordinal(position) - first) as u32);
        let indices = UInt32Array::from_iter_values(indices);
        let start = positions.start;
        if self
            .parts
            .insert(start, take_record_batch(&rows, &indices)?)
            .is_some()
        {
            return Err(self.broken(Lsn::ZERO, "rows of a piece that the log has twice"));
        }
        self.rows += positions.len();
        Ok(())
    }

    /// After a reading: what is missing must have come from branches.
    fn look_in_branches(&mut self, upto: Lsn) -> Result<(), Error> {
        self.sources = std::mem::take(&mut self.branches);
        if self.sources.is_empty() {
            return Err(self.broken(upto, "rows of a piece in the log"));
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.rows == self.piece.rows()
    }

    fn finish(self) -> Result<Piece, Error> {
        let batch = concat_batches(&self.schema()?, self.parts.values())?;
        let offsets = self.piece.offsets().cloned();
        Ok(Piece::resident(self.piece.ordinals(), offsets, batch))
    }

    fn broken(&self, lsn: Lsn, what: &'static str) -> Error {
        Error::Broken {
            lsn,
            store: self.cell.store,
            what,
            expected: self.piece.rows() as u64,
            found: self.rows as u64,
        }
    }
}
