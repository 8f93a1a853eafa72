//! A data directory as the read-only tools see it. Opening one for writing is the engine's work.

use std::fmt;
use std::path::{Path, PathBuf};

/// A path that cannot be looked into.
#[derive(Debug)]
pub enum DataDirError {
    Missing(PathBuf),
    NotScry(PathBuf),
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(dir) => write!(f, "there is no directory {}", dir.display()),
            Self::NotScry(dir) => {
                write!(
                    f,
                    "{} is not a scry data directory: it has no file {}",
                    dir.display(),
                    DataDir::FORMAT
                )
            }
        }
    }
}

impl std::error::Error for DataDirError {}

/// The parts of a data directory that the tools read, whether a server has it open or not.
#[derive(Debug, Clone)]
pub struct DataDir {
    pub wal: PathBuf,
    pub runs: PathBuf,
    pub mirror: PathBuf,
}

impl DataDir {
    /// The engine's file that says what the directory is.
    pub const FORMAT: &str = "FORMAT";
    const MIRROR: &str = "mirror";

    pub fn find(dir: &Path) -> Result<Self, DataDirError> {
        if !dir.is_dir() {
            return Err(DataDirError::Missing(dir.into()));
        }
        if !dir.join(Self::FORMAT).is_file() {
            return Err(DataDirError::NotScry(dir.into()));
        }
        Ok(Self {
            wal: dir.join(scry_engine::WAL),
            runs: dir.join(scry_engine::RUNS),
            mirror: dir.join(Self::MIRROR),
        })
    }
}
