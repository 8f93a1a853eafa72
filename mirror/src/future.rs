//! The future of a table as a candidate would have it: the table's rows less those that the candidate replaces or deletes,
//! and the candidate's own.
//!
//! All is read at one snapshot. A replaced version that has ended in it is a *predicted conflict*: somebody else has
//! changed the row since the candidate's base. Which row then takes its place is not said here.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use roaring::RoaringTreemap;
use scry_engine::election::branch_columns;
use scry_stream::StoreSchema;

use crate::error::Error;
use crate::snapshot::TableSnapshot;

/// How many columns of its table a branch has. Others follow them.
pub(crate) fn columns_of_table(branch: &StoreSchema) -> usize {
    branch.columns.len().saturating_sub(branch_columns(&[]).len())
}

/// What a branch does to its table, as of one state of the branch.
#[derive(Debug, Clone, Default)]
pub struct BranchView {
    /// Ordinals of the table that the candidate replaces or deletes.
    pub replaced: RoaringTreemap,
    /// Ordinals of the branch that are deletions: no rows of the future.
    pub deleted: RoaringTreemap,
    /// Rows of the branch that replace nothing.
    pub new_rows: u64,
}

impl BranchView {
    /// Reads what a branch does to its table.
    ///
    /// # Errors
    /// When a unit of the branch cannot be read.
    pub fn read(branch: &TableSnapshot) -> Result<BranchView, Error> {
        let mut view = BranchView::default();
        let columns = columns_of_table(branch.store_schema());
        for unit in branch.units() {
            let (ordinals, batch) = unit.read_with_ordinals(&[columns, columns + 1], None)?;
            let replaced = batch.column(0).as_primitive::<Int64Type>();
            let deleted = batch.column(1).as_boolean();
            for position in 0..batch.num_rows() {
                match replaced.is_valid(position) {
                    true => drop(view.replaced.insert(replaced.value(position).cast_unsigned())),
                    false => view.new_rows += 1,
                }
                if deleted.value(position) {
                    view.deleted.insert(ordinals.value(position));
                }
            }
        }
        Ok(view)
    }

    /// The ordinals that the candidate replaces though they have ended in `table`: predicted conflicts.
    #[must_use]
    pub fn conflicts(&self, table: &TableSnapshot) -> RoaringTreemap {
        table.ended_of(&self.replaced)
    }
}
