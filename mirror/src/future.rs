//! The future of a table as a candidate would have it: the table's rows less those that the candidate replaces or deletes,
//! and the candidate's own.
//!
//! Both are read at one snapshot. A replaced version that is dead in it is a *predicted conflict*: somebody else has
//! changed the row since the candidate's base. Which row then takes its place is not said here.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use roaring::RoaringTreemap;

use crate::error::Error;
use crate::snapshot::{ScanUnit, TableSnapshot};

/// What a branch does to its table, as of one snapshot.
#[derive(Debug, Clone, Default)]
pub struct BranchView {
    /// Ordinals of the table that the candidate replaces or deletes.
    pub replaced: RoaringTreemap,
    /// The branch's rows, to be read with `deleted` hidden.
    pub units: Vec<ScanUnit>,
    /// Ordinals of the branch that are deletions.
    pub deleted: RoaringTreemap,
}

impl BranchView {
    /// Reads what a branch does to a table with so many columns.
    ///
    /// # Errors
    /// When a unit of the branch cannot be read.
    pub fn read(branch: &TableSnapshot, columns: usize) -> Result<BranchView, Error> {
        let mut view = BranchView {
            units: branch.units(),
            ..BranchView::default()
        };
        for unit in &view.units {
            let (ordinals, batch) = unit.read_with_ordinals(&[columns, columns + 1], None)?;
            let replaced = batch.column(0).as_primitive::<Int64Type>();
            let deleted = batch.column(1).as_boolean();
            for position in 0..batch.num_rows() {
                if replaced.is_valid(position) {
                    view.replaced.insert(replaced.value(position).cast_unsigned());
                }
                if deleted.value(position) {
                    view.deleted.insert(ordinals.value(position));
                }
            }
        }
        Ok(view)
    }

    /// Rows that the candidate has of its own.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.units.iter().map(ScanUnit::rows).sum::<u64>() - self.deleted.len()
    }

    /// The ordinals that the candidate replaces though they are dead in `table`: its predicted conflicts.
    #[must_use]
    pub fn conflicts(&self, table: &TableSnapshot) -> RoaringTreemap {
        let mut dead = self.replaced.clone();
        for unit in table.units() {
            unit.take_living(&mut dead);
        }
        dead
    }
}
