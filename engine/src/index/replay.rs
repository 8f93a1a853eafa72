//! Indexes after the log was replayed.

use super::entry;
use crate::catalog::Table;
use crate::error::Error;
use crate::key::Key;
use crate::overlay::Version;
use crate::store::Growth;
use crate::store::entry::RowEntry;
use scry_wal::Ordinal;
use std::sync::Arc;

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
            let content = entry(own);
            let growth = Growth::of(None, Some(&content));
            let made = || {
                Arc::new(RowEntry::committed(
                    version.lsn,
                    Ordinal::default(),
                    Some(Arc::clone(&content)),
                ))
            };
            let (entry, is_new) = index.store().rows.get_or_insert_with(&key, made);
            if !is_new {
                twice.get_or_insert_with(|| table.key_exists_in(index, &version.row));
                continue;
            }
            index.store().changed(&key, &entry, 0);
            index.store().counters.add_live(growth);
        }
    })?;
    if let Some(error) = twice {
        return Err(error);
    }
    table.indexes.iter().for_each(|index| index.set_ready());
    Ok(())
}
