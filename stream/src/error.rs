//! What can go wrong between the log and the change sets.

use scry_wal::{Lsn, StoreId};
use std::fmt;

/// What the caller does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The log could not be read; it says why itself.
    Log,
    /// The log's content contradicts itself or the catalog: stop, nothing after it can be trusted.
    Corrupt,
    /// The stream has been closed.
    Closed,
    /// A defect of this program.
    Bug,
}

/// An error of this crate.
#[derive(Debug)]
pub enum Error {
    /// Reading the log failed.
    Log(scry_wal::Error),
    /// A record could not be decoded.
    Record { lsn: Lsn, source: scry_wal::RecordError },
    /// A catalog record could not be decoded.
    Catalog {
        lsn: Lsn,
        source: scry_engine::CatalogChangeError,
    },
    /// A row does not fit its store's columns.
    Row {
        lsn: Lsn,
        store: StoreId,
        column: Option<usize>,
        reason: &'static str,
    },
    /// A change names a store that does not exist at that point of the log.
    UnknownStore { lsn: Lsn, store: StoreId },
    /// Transactions, ordinals or tentative records do not fit together.
    Broken {
        lsn: Lsn,
        store: Option<StoreId>,
        what: &'static str,
        expected: u64,
        found: u64,
    },
    /// Arrow refused an array.
    Arrow {
        lsn: Lsn,
        store: StoreId,
        source: arrow::error::ArrowError,
    },
    /// The operating system gave no thread.
    Thread(std::io::Error),
    /// A thread panicked; it said why on standard error.
    Panicked { thread: &'static str },
    /// The stream has been closed, or an earlier error ended it.
    Closed,
}

impl Error {
    /// What the caller does now.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Log(_) | Self::Thread(_) => ErrorKind::Log,
            Self::Closed => ErrorKind::Closed,
            Self::Panicked { .. } => ErrorKind::Bug,
            Self::Record { .. }
            | Self::Catalog { .. }
            | Self::Row { .. }
            | Self::UnknownStore { .. }
            | Self::Broken { .. }
            | Self::Arrow { .. } => ErrorKind::Corrupt,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(source) => write!(f, "reading the log: {source}"),
            Self::Record { lsn, source } => write!(f, "record in the frame at LSN {}: {source}", lsn.get()),
            Self::Catalog { lsn, source } => write!(f, "catalog record at LSN {}: {source}", lsn.get()),
            Self::Row {
                lsn,
                store,
                column: Some(column),
                reason,
            } => {
                write!(
                    f,
                    "row of store {} at LSN {}, column {column}: {reason}",
                    store.get(),
                    lsn.get()
                )
            }
            Self::Row {
                lsn,
                store,
                column: None,
                reason,
            } => {
                write!(f, "row of store {} at LSN {}: {reason}", store.get(), lsn.get())
            }
            Self::UnknownStore { lsn, store } => {
                write!(
                    f,
                    "change at LSN {} of store {}, which does not exist",
                    lsn.get(),
                    store.get()
                )
            }
            Self::Broken {
                lsn,
                store,
                what,
                expected,
                found,
            } => {
                write!(f, "at LSN {}", lsn.get())?;
                if let Some(store) = store {
                    write!(f, ", store {}", store.get())?;
                }
                write!(f, ": {what}: expected {expected}, found {found}")
            }
            Self::Arrow { lsn, store, source } => {
                write!(
                    f,
                    "columns of store {} at LSN {}: {source}",
                    store.get(),
                    lsn.get()
                )
            }
            Self::Thread(source) => write!(f, "starting a thread: {source}"),
            Self::Panicked { thread } => write!(f, "{thread} panicked"),
            Self::Closed => f.write_str("the stream is closed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Log(source) => Some(source),
            Self::Record { source, .. } => Some(source),
            Self::Catalog { source, .. } => Some(source),
            Self::Arrow { source, .. } => Some(source),
            Self::Thread(source) => Some(source),
            Self::Row { .. }
            | Self::UnknownStore { .. }
            | Self::Broken { .. }
            | Self::Panicked { .. }
            | Self::Closed => None,
        }
    }
}
