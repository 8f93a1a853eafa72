//! The rows of a candidate's branch as rows of its table, once the candidate was elected: the branch's pieces under
//! other ordinals. No row is copied, in memory or on disk.
//!
//! The branch's ordinal *o* becomes *first + o*. Rows that the branch deleted or replaced itself, deletions, and what the
//! election skipped are dead in their pieces from the beginning. What the other rows replace ends with the commit.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use scry_stream::Adopted;
use scry_wal::{Lsn, Ordinal};
use std::collections::HashSet;
use std::sync::Arc;

use crate::cache::Cache;
use crate::error::Error;
use crate::future::columns_of_table;
use crate::piece::Slot;
use crate::store::StoreCell;

/// What a table takes over.
#[derive(Debug)]
pub(crate) struct Relinked {
    pub at: Lsn,
    pub first: u64,
    pub count: u64,
    /// Pieces with ordinals of the table.
    pub slots: Vec<Slot>,
    /// Ordinals of the table that end.
    pub replaced: Vec<u64>,
}

/// Reads the branch as it is, which is how its last commit left it.
pub(crate) fn relink(adopted: &Adopted, branch: &Arc<StoreCell>, cache: &Cache) -> Result<Relinked, Error> {
    let first = adopted.first.get();
    let state = branch.capture()?;
    if state.count != adopted.count {
        return Err(Error::Broken {
            lsn: adopted.at,
            store: adopted.branch,
            what: "ordinals of an adopted branch",
            expected: adopted.count,
            found: state.count,
        });
    }
    let skipped: HashSet<Ordinal> = adopted.skipped.iter().copied().collect();
    // The table may have got columns since, which the rows lack.
    let columns = columns_of_table(&branch.schema());
    let mut slots = Vec::with_capacity(state.slots.len());
    let mut ended = Vec::new();
    for mut slot in state.slots {
        let about = slot.piece.own_columns(&[columns, columns + 1], cache)?;
        let (replaced, deleted) = (
            about.column(0).as_primitive::<Int64Type>(),
            about.column(1).as_boolean(),
        );
        for position in 0..slot.piece.rows() {
            if slot.dead.as_ref().is_some_and(|dead| dead.contains(position)) {
                continue;
            }
            let ordinal = slot.piece.ordinal(position);
            if skipped.contains(&Ordinal::new(ordinal)) {
                slot.kill(ordinal);
                continue;
            }
            if replaced.is_valid(position) {
                ended.push(replaced.value(position).cast_unsigned());
            }
            if deleted.value(position) {
                slot.kill(ordinal);
            }
        }
        if slot.live_rows() > 0 {
            let piece = slot.piece.relinked(first, columns)?;
            slots.push(slot.with_piece(Arc::new(piece)));
        }
    }
    Ok(Relinked {
        at: adopted.at,
        first,
        count: adopted.count,
        slots,
        replaced: ended,
    })
}
