//! A mirror's beginning from the primary's rows as of one LSN, instead of from the whole log.
//!
//! The primary hands out the rows of each store by key; here they are sorted by ordinal and cut into sealed pieces. Ordinals without
//! a row were dead at that LSN: gaps, as compaction leaves them. What comes out is what applying the log up to that LSN and a checkpoint
//! would have left, and the log is followed from there.
//!
//! Memory: rows that are sorted (`sort`), and the piece that is being made. Nothing is a part of the mirror before all of it is
//! there; when it ends before, its files go.

mod sort;

use scry_engine::{Seed, SeedStore};
use scry_stream::{RowBatchBuilder, StoreSchema};
use scry_wal::{Lsn, StoreId};
use std::sync::Arc;

use crate::cache::Cache;
use crate::checkpoint::Checkpointer;
use crate::core::Position;
use crate::error::Error;
use crate::piece::{PIECE_BYTES_MAX, Piece, Slot};
use crate::plan;
use crate::segment::SegmentFile;
use crate::store::{StoreCell, size};
use sort::{MEMORY_BYTES, Sorter};

pub(crate) use sort::SCRATCH_NAME;

/// Takes the primary's state; `None` when the primary is gone.
pub type SeedSource = Arc<dyn Fn() -> Option<Result<Seed, scry_engine::Error>> + Send + Sync>;

/// Rows taken from the primary at once.
const BATCH_ROWS: usize = 1024;

/// All stores at one position, in files that no manifest names yet.
pub(crate) struct Seeded {
    pub position: Position,
    pub stores: Vec<StoreCell>,
}

/// What seeding works with.
pub(crate) struct Seeding<'a> {
    pub checkpointer: &'a mut Checkpointer,
    pub cache: &'a Cache,
    pub piece_rows: usize,
    /// Whether to end early, with [`Error::Closed`].
    pub stopping: &'a dyn Fn() -> bool,
}

impl Seeding<'_> {
    /// Writes the rows into files. The log is to be followed from the frame at `restart` on, which has `Seed::restart`.
    pub fn write(mut self, seed: &Seed, restart: Lsn) -> Result<Seeded, Error> {
        let mut files = Files {
            cache: self.cache,
            written: Vec::new(),
        };
        let mut stores = Vec::with_capacity(seed.stores().len());
        for store in seed.stores() {
            stores.push(self.store(seed, store, &mut files)?);
        }
        files.written.clear();
        // Of a primary in which nothing was ever committed, the log says all.
        let upto = match seed.at {
            Lsn::ZERO => Lsn::ZERO,
            at => at.plus(1),
        };
        Ok(Seeded {
            position: Position {
                upto,
                restart: restart.min(upto),
                last_commit: seed.at,
            },
            stores,
        })
    }

    fn store(&mut self, seed: &Seed, store: &SeedStore, files: &mut Files<'_>) -> Result<StoreCell, Error> {
        let mut schema = StoreSchema::new(store.columns.clone());
        schema.mirrored = store.mirrored;
        let schema = Arc::new(schema);
        // Of the rows of a store that is not mirrored nothing is told, as the stream does.
        let (slots, count) = match store.mirrored {
            true => (self.slots(seed, store, &schema, files)?, store.count),
            false => (Vec::new(), 0),
        };
        Ok(StoreCell::restored(
            store.id,
            schema,
            seed.at,
            count,
            slots,
            self.piece_rows,
        ))
    }

    /// The rows of a store, in pieces.
    fn slots(
        &mut self,
        seed: &Seed,
        store: &SeedStore,
        schema: &StoreSchema,
        files: &mut Files<'_>,
    ) -> Result<Vec<Slot>, Error> {
        let broken = |what, found| Error::Broken {
            lsn: seed.at,
            store: store.id,
            what,
            expected: store.count,
            found,
        };
        let mut sorter = Sorter::new(self.checkpointer.folder(), MEMORY_BYTES);
        each_row(seed, store, self.stopping, |ordinal, row| match ordinal {
            ordinal if ordinal >= store.count => Err(broken("ordinal of a row of the primary", ordinal)),
            ordinal => sorter.push(ordinal, row),
        })?;
        let mut rows = sorter.finish()?;
        let mut slots = Vec::new();
        let mut growing = Growing::new(schema);
        let mut row = Vec::new();
        while let Some(ordinal) = rows.next(&mut row)? {
            if growing.is_full(ordinal, self.piece_rows) {
                check(self.stopping)?;
                slots.push(self.seal(store.id, growing.take()?, seed.at, files)?);
            }
            growing.add(ordinal, &row).map_err(|what| broken(what, ordinal))?;
        }
        if !growing.ordinals.is_empty() {
            slots.push(self.seal(store.id, growing.take()?, seed.at, files)?);
        }
        Ok(slots)
    }

    /// Gives the piece a file.
    fn seal(&mut self, store: StoreId, piece: Piece, at: Lsn, files: &mut Files<'_>) -> Result<Slot, Error> {
        let file = Arc::new(self.checkpointer.seal(store, &piece, at)?);
        files.written.push(file.clone());
        let slot = Slot::new(piece);
        let keep = plan::is_small(&size(&slot), self.piece_rows);
        Ok(Slot::new(slot.piece.with_file(file, keep)))
    }
}

/// Shows all rows of a store, in the order of their keys: the ordinal, `u64::MAX` for a row that has none, and the row.
pub(crate) fn each_row(
    seed: &Seed,
    store: &SeedStore,
    stopping: &dyn Fn() -> bool,
    mut show: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut rows = seed.rows(store);
    loop {
        check(stopping)?;
        let batch = rows.next_batch(BATCH_ROWS)?;
        for (_, version) in &batch {
            let ordinal = version.ordinal.map_or(u64::MAX, |ordinal| ordinal.get());
            show(ordinal, &version.row)?;
        }
        if batch.len() < BATCH_ROWS {
            return Ok(());
        }
    }
}

fn check(stopping: &dyn Fn() -> bool) -> Result<(), Error> {
    match stopping() {
        true => Err(Error::Closed),
        false => Ok(()),
    }
}

/// Files that were written. Those that are still in here when it is dropped are removed.
struct Files<'c> {
    cache: &'c Cache,
    written: Vec<Arc<SegmentFile>>,
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        for file in &self.written {
            file.retire(self.cache);
        }
    }
}

/// The piece that is being made.
struct Growing {
    builder: RowBatchBuilder,
    ordinals: Vec<u64>,
}

impl Growing {
    fn new(schema: &StoreSchema) -> Self {
        Self {
            builder: RowBatchBuilder::new(schema),
            ordinals: Vec::new(),
        }
    }

    /// Whether the row of an ordinal belongs to the next piece.
    fn is_full(&self, ordinal: u64, piece_rows: usize) -> bool {
        let Some(first) = self.ordinals.first() else {
            return false;
        };
        self.ordinals.len() >= piece_rows
            || self.builder.bytes() >= PIECE_BYTES_MAX
            || u32::try_from(ordinal.saturating_sub(*first)).is_err()
    }

    fn add(&mut self, ordinal: u64, row: &[u8]) -> Result<(), &'static str> {
        if self.ordinals.last().is_some_and(|last| *last >= ordinal) {
            return Err("ordinal that two rows of the primary have");
        }
        self.builder
            .push_checked(row)
            .map_err(|mismatch| mismatch.reason)?;
        self.ordinals.push(ordinal);
        Ok(())
    }

    fn take(&mut self) -> Result<Piece, Error> {
        let ordinals = std::mem::take(&mut self.ordinals);
        let batch = self.builder.finish()?;
        let (Some(&first), Some(&last)) = (ordinals.first(), ordinals.last()) else {
            unreachable!("a piece is made of rows");
        };
        let offsets = ordinals.iter().map(|ordinal| (ordinal - first) as u32);
        Ok(Piece::at_offsets(first..last + 1, offsets.collect(), batch))
    }
}
