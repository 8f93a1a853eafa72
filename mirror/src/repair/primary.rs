//! Pieces made again from the primary's rows: for a log that does not reach back to its beginning.
//!
//! Of a piece only the rows are needed that somebody still sees. The primary hands out its rows as of one LSN; once everybody's
//! snapshot is at it, what a bitmap calls dead is what had ended up to that LSN, so the living rows are exactly those that the
//! primary has under the piece's ordinals. While the primary's snapshot is held, the bitmaps go no further. History does not keep them
//! from coming that far: the mirror gives it up, and the past is read elsewhere.

use scry_engine::{Seed, SeedStore};
use scry_stream::RowBatchBuilder;
use scry_wal::Lsn;
use std::sync::Arc;

use super::{Repairs, STEP_WAIT, Wanted};
use crate::core::Core;
use crate::error::Error;
use crate::piece::{Piece, Slot};
use crate::seed::{SeedSource, each_row};
use crate::store::StoreCell;

/// A piece of which the living rows are being collected.
struct Making {
    slot: Slot,
    rows: Vec<(u64, Box<[u8]>)>,
}

impl Repairs {
    pub(super) fn read_primary(
        &self,
        core: &Core,
        seeds: &SeedSource,
        wanted: &[Wanted],
    ) -> Result<(), Error> {
        let seed = seeds().ok_or(Error::Closed)??;
        while core.tidy_upto(seed.at)? < seed.at {
            if self.stopping() {
                return Err(Error::Closed);
            }
            std::thread::sleep(STEP_WAIT);
        }
        for store in seed.stores() {
            let pieces: Vec<_> = wanted.iter().filter(|(of, _)| *of == store.id).collect();
            let Some(cell) = core.store(store.id).filter(|_| !pieces.is_empty()) else {
                continue;
            };
            // A piece that was merged away needs nothing any more.
            let slots = pieces.iter().filter_map(|(_, piece)| cell.slot(piece));
            let makings = slots.map(|slot| Making {
                slot,
                rows: Vec::new(),
            });
            self.make(&seed, store, &cell, makings.collect())?;
        }
        Ok(())
    }

    fn make(
        &self,
        seed: &Seed,
        store: &SeedStore,
        cell: &Arc<StoreCell>,
        mut makings: Vec<Making>,
    ) -> Result<(), Error> {
        each_row(seed, store, &|| self.stopping(), |ordinal, row| {
            let making = makings
                .iter_mut()
                .find(|making| making.slot.piece.ordinals().contains(&ordinal));
            if let Some(making) = making {
                making.rows.push((ordinal, row.into()));
            }
            Ok(())
        })?;
        for making in makings {
            let piece = making.slot.piece.clone();
            let made = making.finish(seed.at, cell)?;
            if cell.replace(&[made.0], made.1) {
                self.repaired(cell.store, piece);
            }
        }
        Ok(())
    }
}

impl Making {
    /// The slot, and what comes in its place.
    fn finish(mut self, at: Lsn, cell: &StoreCell) -> Result<(Slot, Option<Piece>), Error> {
        let broken = |found: usize| Error::Broken {
            lsn: at,
            store: cell.store,
            what: "living rows of a piece that the primary has",
            expected: self.slot.live_rows() as u64,
            found: found as u64,
        };
        if self.rows.len() != self.slot.live_rows() {
            return Err(broken(self.rows.len()));
        }
        self.rows.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        let mut builder = RowBatchBuilder::new(&cell.schema());
        for (number, (ordinal, row)) in self.rows.iter().enumerate() {
            if !self.slot.is_alive(*ordinal) || builder.push_checked(row).is_err() {
                return Err(broken(number));
            }
        }
        let stretch = self.slot.piece.ordinals();
        if self.rows.is_empty() {
            return Ok((self.slot, None));
        }
        let distance = |(ordinal, _): &(u64, _)| (ordinal - stretch.start) as u32;
        let offsets = self.rows.iter().map(distance).collect();
        let piece = Piece::at_offsets(stretch, offsets, builder.finish()?);
        Ok((self.slot, Some(piece)))
    }
}
