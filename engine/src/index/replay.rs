//! Indexes that a replayed commit has made.

use super::maintain::taken;
use crate::catalog::Table;
use crate::error::Error;
use crate::key::Key;
use crate::overlay::Version;

/// Fills those valid indexes of a table that are not ready, and have no rows yet, from its rows, over which `each` goes.
///
/// # Errors
/// What `each` answers; `KeyExists` for an index that would have two rows under one key.
pub(crate) fn fill(
    table: &Table,
    each: impl FnOnce(&mut dyn FnMut(&Key, Version)) -> Result<(), Error>,
) -> Result<(), Error> {
    let new = table
        .indexes
        .iter()
        .filter(|index| index.def.valid && !index.is_ready());
    let new: Vec<_> = new.collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut failure = None;
    each(&mut |own, version| {
        for index in &new {
            let key = index.key(&table.layout, &version.row, own);
            match index.put_committed(&key, own, version.lsn) {
                Ok(true) => {}
                Ok(false) => drop(failure.get_or_insert_with(|| taken(table, index, &version.row))),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    table.complete_indexes();
    Ok(())
}
