//! Several neighbouring pieces made into one, without their dead rows.

use arrow::array::BooleanArray;
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer};
use arrow::compute::concat_batches;
use scry_stream::StoreSchema;

use crate::bits::Bits;
use crate::cache::Cache;
use crate::error::Error;
use crate::piece::{Piece, Slot};
use crate::snapshot::filter;

/// The living rows of `slots` as one piece; `None` when there are none. The slots stand in ordinal order.
pub(crate) fn merge(slots: &[Slot], schema: &StoreSchema, cache: &Cache) -> Result<Option<Piece>, Error> {
    let (Some(first), Some(last)) = (slots.first(), slots.last()) else {
        return Ok(None);
    };
    let ordinals = first.piece.ordinals().start..last.piece.ordinals().end;
    let width = schema.columns.len();
    let all: Vec<usize> = (0..width).collect();
    let mut batches = Vec::with_capacity(slots.len());
    let mut offsets: Vec<u32> = Vec::with_capacity(slots.iter().map(Slot::live_rows).sum());
    for slot in slots.iter().filter(|slot| slot.live_rows() > 0) {
        let piece = &slot.piece;
        let batch = piece.columns(&all, width, schema, cache)?;
        let offset = |position| {
            let distance = piece.ordinal(position) - ordinals.start;
            u32::try_from(distance).expect("plans keep a piece's stretch below 2^32")
        };
        match &slot.dead {
            Some(dead) if slot.dead_rows > 0 => {
                let keep = living(dead, piece.rows());
                offsets.extend(keep.values().set_indices().map(offset));
                batches.push(filter(&batch, &keep)?);
            }
            _ => {
                offsets.extend((0..piece.rows()).map(offset));
                batches.push(batch);
            }
        }
    }
    if batches.is_empty() {
        return Ok(None);
    }
    let batch = concat_batches(&schema.arrow, &batches)?;
    Ok(Some(Piece::at_offsets(ordinals, offsets, batch)))
}

/// The rows that are not dead, as a filter.
fn living(dead: &Bits, rows: usize) -> BooleanArray {
    let mut words = dead.inverted();
    if cfg!(target_endian = "big") {
        words.iter_mut().for_each(|word| *word = word.swap_bytes());
    }
    let buffer: Buffer = MutableBuffer::from(words).into();
    BooleanArray::new(BooleanBuffer::new(buffer, 0, rows), None)
}
