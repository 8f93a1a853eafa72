//! What the last checkpoint of a data directory says, for tools that do not open it.

use super::state::State;
use crate::catalog_change::CatalogChange;
use crate::error::Error;
use crate::runs::inspect;
use scry_wal::Lsn;
use std::path::Path;

/// A checkpoint, but for the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointSummary {
    /// All commits up to this one are in it, and none behind it.
    pub at: Lsn,
    /// From where a start upon it reads the log.
    pub restart: Lsn,
    /// What the log that goes on from it calls its database.
    pub database: [u8; 16],
    /// The changes that made the catalog, with the LSNs of their commits, in order; without those that only concern what is gone.
    pub definitions: Vec<(Lsn, CatalogChange)>,
}

impl CheckpointSummary {
    /// The last checkpoint in a folder of runs; `None` when there is none. Changes nothing; another process may have it open.
    ///
    /// # Errors
    /// When the manifest cannot be read, is damaged or newer.
    pub fn read(runs: &Path) -> Result<Option<CheckpointSummary>, Error> {
        let Some(bytes) = inspect::checkpoint(runs)? else {
            return Ok(None);
        };
        let state = State::read(&bytes)?;
        let definitions = state.definitions.into_iter();
        Ok(Some(CheckpointSummary {
            at: state.at,
            restart: state.restart,
            database: state.database,
            definitions: definitions
                .map(|definition| (definition.lsn, definition.change))
                .collect(),
        }))
    }

    /// The names of the files of a folder of runs that make up its last checkpoint; the manifest comes last.
    ///
    /// # Errors
    /// As [`CheckpointSummary::read`].
    pub fn files(runs: &Path) -> Result<Vec<String>, Error> {
        inspect::files(runs)
    }
}
