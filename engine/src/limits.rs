//! How large rows, keys and pieces written ahead may be.
//!
//! What is reserved in the log together stands in one frame, and a frame in one segment: a database with small segments
//! has smaller rows. What is too large is refused where it is inserted, not at the commit.

use crate::row::MAX_ROW_BYTES;

/// The longest encoded row. An update logs the old columns and the new row in one record, so two must fit.
pub const ROW_BYTES_MAX: usize = (scry_wal::MAX_RECORD_BYTES - (1 << 20)) / 2;

/// The longest encoded primary key.
pub const KEY_BYTES_MAX: usize = 8 << 10;

/// The usual bound of unlogged changes; and no piece that is written ahead is much longer. To copy as much in the
/// commit's critical section takes well under a millisecond.
pub const SPILL_BYTES: usize = 1 << 20;

/// The limits of one database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) row_bytes: usize,
    pub(crate) key_bytes: usize,
    /// Unlogged changes beyond this are written ahead.
    pub(crate) spill_bytes: usize,
    /// A piece that is written ahead ends with the record that passes this.
    pub(crate) piece_bytes: usize,
}

impl Limits {
    /// Of a log that takes `reservation` bytes at once: a piece of an eighth, and with it the largest record of two
    /// rows and a key, leave some room for the commit record.
    pub(crate) fn new(reservation: usize, spill_bytes: usize) -> Limits {
        let piece_bytes = SPILL_BYTES.min(reservation / 8);
        Limits {
            row_bytes: ROW_BYTES_MAX.min(reservation / 8 * 3),
            key_bytes: KEY_BYTES_MAX.min(reservation / 16),
            spill_bytes: spill_bytes.min(piece_bytes),
            piece_bytes,
        }
    }
}

const _: () = assert!(ROW_BYTES_MAX <= MAX_ROW_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::RECORD_OVERHEAD_BYTES;

    #[test]
    fn a_piece_and_the_largest_record_fit_into_every_segment() {
        for reservation in [12_160, 61_312, (1 << 20) - 4224, 16 << 20, (32 << 20) - 128] {
            let limits = Limits::new(reservation, usize::MAX);
            let record = 2 * limits.row_bytes + limits.key_bytes + RECORD_OVERHEAD_BYTES;
            assert!(record <= scry_wal::MAX_RECORD_BYTES, "{reservation}");
            assert!(limits.piece_bytes + record <= reservation, "{reservation}");
            assert!(limits.spill_bytes <= limits.piece_bytes, "{reservation}");
        }
        let usual = Limits::new((32 << 20) - 128, SPILL_BYTES);
        assert_eq!((usual.row_bytes, usual.key_bytes), (ROW_BYTES_MAX, KEY_BYTES_MAX));
        assert_eq!((usual.spill_bytes, usual.piece_bytes), (SPILL_BYTES, SPILL_BYTES));
    }
}
