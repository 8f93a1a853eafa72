//! What can go wrong in the mirror.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use scry_wal::{Lsn, StoreId};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the caller does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The snapshot cannot be opened; another one can.
    Refuse,
    /// The mirror has stopped: the primary goes on, analytic reads do not.
    Stopped,
    /// A file is damaged. The mirror can be made anew.
    Corrupt,
    /// The operating system refused; a later attempt may succeed.
    Retry,
    /// A defect of this program.
    Bug,
}

/// An error of this crate. Cheap to clone: one failure may be told to many waiters.
#[derive(Debug, Clone)]
pub enum Error {
    /// The stream of changes ended.
    Stream(Arc<scry_stream::Error>),
    /// The primary's rows cannot be read.
    Primary(Arc<scry_engine::Error>),
    /// The log does not serve the mirror.
    Log(Arc<scry_wal::Error>),
    /// A change does not fit the store it is for: invariant broken, nothing after it is applied.
    Broken {
        lsn: Lsn,
        store: StoreId,
        what: &'static str,
        expected: u64,
        found: u64,
    },
    /// A change set does not follow the one before it.
    Gap { expected: Lsn, found: Lsn },
    /// A snapshot older than what is kept.
    NotRetained { asked: Lsn, oldest: Lsn },
    /// A snapshot newer than what has been applied.
    NotApplied { asked: Lsn, applied: Lsn },
    /// There is no savepoint of this name.
    UndefinedSavepoint { name: String },
    /// There is a savepoint of this name.
    DuplicateSavepoint { name: String },
    /// As many savepoints as there may be.
    TooManySavepoints { max: usize },
    /// A file does not hold what was written.
    Damaged {
        path: PathBuf,
        offset: u64,
        what: &'static str,
        expected: u64,
        found: u64,
    },
    /// A file of a newer version of this program.
    NewerFormat {
        path: PathBuf,
        found: u32,
        supported: u32,
    },
    /// The operating system refused.
    Io {
        path: PathBuf,
        action: &'static str,
        source: Arc<io::Error>,
    },
    /// Parquet refused to write or read a file whose checksums are right.
    Parquet {
        path: PathBuf,
        source: Arc<ParquetError>,
    },
    /// Arrow refused an operation.
    Arrow(Arc<ArrowError>),
    /// The change set behind this position could not be applied whole, so there is no later state to write down.
    HalfApplied { applied: Lsn },
    /// An earlier error stopped the mirror.
    Stopped(Arc<Error>),
    /// A thread of the mirror panicked; it said why on standard error.
    Panicked { thread: &'static str },
    /// The mirror has been closed.
    Closed,
}

impl Error {
    /// What the caller does now.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Stream(_)
            | Self::Primary(_)
            | Self::Log(_)
            | Self::HalfApplied { .. }
            | Self::Gap { .. }
            | Self::Broken { .. }
            | Self::Stopped(_)
            | Self::Closed => ErrorKind::Stopped,
            Self::NotRetained { .. }
            | Self::NotApplied { .. }
            | Self::NewerFormat { .. }
            | Self::UndefinedSavepoint { .. }
            | Self::DuplicateSavepoint { .. }
            | Self::TooManySavepoints { .. } => ErrorKind::Refuse,
            Self::Damaged { .. } => ErrorKind::Corrupt,
            // Only files that were written are opened.
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::Corrupt,
            Self::Io { .. } => ErrorKind::Retry,
            Self::Parquet { .. } | Self::Arrow(_) | Self::Panicked { .. } => ErrorKind::Bug,
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source: Arc::new(source),
        }
    }

    /// What `body` answers; an error when it panics.
    pub(crate) fn caught<T>(thread: &'static str, body: impl FnOnce() -> Result<T, Self>) -> Result<T, Self> {
        // What a panic leaves half done is marked as such (`Core`), or not looked at after the error.
        catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Self::Panicked { thread }))
    }

    pub(crate) fn parquet(path: &Path) -> impl Fn(ParquetError) -> Self {
        let path = path.to_owned();
        move |source| Self::Parquet {
            path: path.clone(),
            source: Arc::new(source),
        }
    }
}

impl From<ArrowError> for Error {
    fn from(source: ArrowError) -> Self {
        Self::Arrow(Arc::new(source))
    }
}

impl From<scry_stream::Error> for Error {
    fn from(source: scry_stream::Error) -> Self {
        Self::Stream(Arc::new(source))
    }
}

impl From<scry_engine::Error> for Error {
    fn from(source: scry_engine::Error) -> Self {
        Self::Primary(Arc::new(source))
    }
}

impl From<scry_wal::Error> for Error {
    fn from(source: scry_wal::Error) -> Self {
        Self::Log(Arc::new(source))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(source) => write!(f, "stream of changes: {source}"),
            Self::Primary(source) => write!(f, "the primary's rows: {source}"),
            Self::Log(source) => write!(f, "log: {source}"),
            Self::Broken {
                lsn,
                store,
                what,
                expected,
                found,
            } => {
                write!(
                    f,
                    "change at LSN {lsn} of store {store}: {what}: expected {expected}, found {found}"
                )
            }
            Self::Gap { expected, found } => {
                write!(f, "change set from LSN {found} where {expected} was expected")
            }
            Self::NotRetained { asked, oldest } => {
                write!(
                    f,
                    "snapshot at LSN {asked} is no longer kept; the oldest is {oldest}"
                )
            }
            Self::NotApplied { asked, applied } => {
                write!(
                    f,
                    "snapshot at LSN {asked} is not applied yet; applied up to {applied}"
                )
            }
            Self::Damaged {
                path,
                offset,
                what,
                expected,
                found,
            } => {
                let path = path.display();
                write!(
                    f,
                    "{path}, offset {offset}: {what}: expected {expected:#x}, found {found:#x}"
                )
            }
            Self::NewerFormat {
                path,
                found,
                supported,
            } => {
                let path = path.display();
                write!(
                    f,
                    "{path}: format {found} is newer than this program's {supported}"
                )
            }
            Self::UndefinedSavepoint { name } => write!(f, "mirror savepoint \"{name}\" does not exist"),
            Self::DuplicateSavepoint { name } => write!(f, "mirror savepoint \"{name}\" already exists"),
            Self::TooManySavepoints { max } => {
                write!(f, "there are {max} mirror savepoints, as many as may be")
            }
            Self::Io { path, action, source } => write!(f, "{action} {}: {source}", path.display()),
            Self::Parquet { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Arrow(source) => write!(f, "columns: {source}"),
            Self::HalfApplied { applied } => {
                write!(f, "the changes behind LSN {applied} could not be applied whole")
            }
            Self::Stopped(source) => write!(f, "the mirror has stopped: {source}"),
            Self::Panicked { thread } => write!(f, "{thread} panicked"),
            Self::Closed => f.write_str("the mirror is closed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stream(source) => Some(source.as_ref()),
            Self::Primary(source) => Some(source.as_ref()),
            Self::Log(source) => Some(source.as_ref()),
            Self::Io { source, .. } => Some(source.as_ref()),
            Self::Parquet { source, .. } => Some(source.as_ref()),
            Self::Arrow(source) => Some(source.as_ref()),
            Self::Stopped(source) => Some(source.as_ref()),
            Self::Broken { .. }
            | Self::Gap { .. }
            | Self::NotRetained { .. }
            | Self::NotApplied { .. }
            | Self::Damaged { .. }
            | Self::NewerFormat { .. }
            | Self::UndefinedSavepoint { .. }
            | Self::DuplicateSavepoint { .. }
            | Self::TooManySavepoints { .. }
            | Self::HalfApplied { .. }
            | Self::Panicked { .. }
            | Self::Closed => None,
        }
    }
}
