//! An opened database directory: the engine, the mirror that follows its log, and the sessions made from them.

use crate::error::Error;
use crate::session::{Session, SessionInfo};
use std::path::Path;
use std::sync::Arc;

/// How to open a database.
#[derive(Debug, Clone, Default)]
pub struct DatabaseOptions {}

/// Shared by all sessions of a server.
pub struct Database {}

impl Database {
    /// Opens the directory, creating a database when it is empty.
    pub fn open(_dir: &Path, _options: DatabaseOptions) -> Result<Arc<Database>, Error> {
        Ok(Arc::new(Database {}))
    }

    /// A new session. Fails when a setting of the startup message is invalid.
    pub fn session(self: &Arc<Self>, info: SessionInfo) -> Result<Session, Error> {
        Session::new(self.clone(), info)
    }

    /// Stops the mirror and closes the log. Sessions must be gone.
    pub fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
