//! Indexes after the log was replayed.

use super::maintain::taken;
use crate::catalog::Table;
use crate::error::Error;
use crate::key::Key;
use crate::overlay::Version;

/// Fills the indexes of a table, which have no rows yet, from its rows, over which `each` goes.
///
/// # Errors
/// What `each` answers; `KeyExists` for an index that would have two rows under one key.
pub(crate) fn fill(
    table: &Table,
    each: impl FnOnce(&mut dyn FnMut(&Key, Version)) -> Result<(), Error>,
) -> Result<(), Error> {
    if table.indexes.is_empty() {
        return Ok(());
    }
    let mut twice = None;
    each(&mut |own, version| {
        for index in &table.indexes {
            let key = index.key(&table.layout, &version.row, own);
            if !index.put_committed(&key, own, version.lsn) {
                twice.get_or_insert_with(|| taken(table, index, &version.row));
            }
        }
    })?;
    if let Some(error) = twice {
        return Err(error);
    }
    table.indexes.iter().for_each(|index| index.set_ready());
    Ok(())
}
