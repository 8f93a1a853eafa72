//! Everything that can go wrong in the engine, with what the caller does about it.

use crate::collision::RuleError;
use scry_wal::{Lsn, RecordError, StoreId};
use std::fmt;
use std::path::PathBuf;

/// What the caller does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Roll back and run the transaction (or, for `TableChanged`, the statement) again.
    Retry,
    /// The request cannot be done; nothing is wrong with the data.
    Refuse,
    /// Bytes on disk are not what was written.
    Corrupt,
    /// The server itself cannot go on: the disk or the log failed.
    Unavailable,
}

/// An error of the engine.
#[derive(Debug)]
pub enum Error {
    /// The log refused; after a failed write it refuses everything.
    Log(scry_wal::Error),
    /// The changes do not fit into the log's records.
    Record(RecordError),
    /// Waiting for this lock would have closed a circle of waits.
    Deadlock { waiting_for: String },
    /// Another transaction changed the row after the snapshot was taken that the whole transaction reads at.
    SerializationFailure { table: String },
    /// Under SERIALIZABLE: a commit after the snapshot wrote into what the transaction has read. `None`: into no table.
    ReadConflict { table: Option<String> },
    /// Under SERIALIZABLE: there were so many commits after the snapshot that what they wrote is not known any more.
    SnapshotTooOld,
    /// States before `oldest` are not kept any more.
    HistoryGone { oldest: Lsn },
    /// A state after the newest there is.
    NotYet { newest: Lsn },
    /// The past cannot be changed.
    PastIsReadOnly,
    /// The table was truncated, dropped or altered after the statement resolved it: resolve it again.
    TableChanged { table: String },
    /// Two rows with one primary key.
    UniqueViolation {
        table: String,
        constraint: String,
        columns: Vec<String>,
        key: Vec<crate::Value>,
    },
    /// A row with the same key in a unique index as another one.
    KeyExists {
        table: String,
        constraint: String,
        columns: Vec<String>,
        key: Vec<crate::Value>,
    },
    /// A row without a value where one is required.
    NotNullViolation { table: String, column: String },
    /// A row that makes a condition of its table false.
    CheckViolation {
        table: String,
        constraint: String,
        row: Vec<crate::Value>,
    },
    /// A row refers to a key that is not there.
    ReferenceMissing(Box<BrokenReference>),
    /// A row has NULL in some columns of a foreign key that must all be NULL, or none.
    ReferenceByHalves { table: String, constraint: String },
    /// A key is gone that rows refer to.
    StillReferenced(Box<BrokenReference>),
    /// A generated column of a row that the engine made has no value.
    NotGenerated { table: String, reason: String },
    /// A table of this name exists.
    DuplicateTable { name: String },
    /// No table of this name.
    UndefinedTable { name: String },
    /// A sequence has no number left: it has come to its greatest, or else to its least one.
    SequenceLimit {
        sequence: String,
        greatest: bool,
        limit: i64,
    },
    /// A number that a sequence cannot be set to.
    SequenceValue {
        sequence: String,
        value: i64,
        min: i64,
        max: i64,
    },
    /// The table has a primary key already.
    PrimaryKeyExists { table: String },
    /// The definition of a table contradicts itself.
    InvalidDefinition { table: String, reason: &'static str },
    /// An encoded row or key beyond its limit.
    RowTooLarge {
        table: String,
        bytes: usize,
        limit: usize,
    },
    KeyTooLarge {
        table: String,
        bytes: usize,
        limit: usize,
    },
    /// The changes of one transaction outgrew `EngineOptions::transaction_bytes_max`.
    TransactionTooLarge { limit: u64 },
    /// One transaction touched more rows than can be numbered.
    TooManyChanges { limit: u64 },
    /// More nested savepoints than `SAVEPOINTS_MAX`.
    TooManySavepoints { limit: usize },
    /// More transactions wait for locks than `EngineOptions::lock_waiters_max`.
    TooManyWaiters { limit: usize },
    /// An open election of this name exists.
    DuplicateElection { name: String },
    /// A candidate of this name exists in the election.
    DuplicateCandidate { election: String, name: String },
    /// No election of this name.
    UndefinedElection { name: String },
    /// No candidate of this name.
    UndefinedCandidate { election: String, name: String },
    /// The election was committed or abandoned.
    ElectionEnded { name: String },
    /// The candidate was elected or dropped, or its election has ended.
    CandidateEnded { candidate: String },
    /// Another session of the candidate, or its election, changed it meanwhile: run the transaction again.
    CandidateChanged { candidate: String },
    /// A candidate of statements where one of rows is asked for, or the reverse.
    CandidateKind { candidate: String, of_statements: bool },
    /// More statements in one candidate than `STATEMENTS_MAX`, or longer ones than `STATEMENT_BYTES_MAX`.
    TooManyStatements { candidate: String },
    /// The rows of the candidate outgrew `EngineOptions::candidate_bytes_max`.
    CandidateTooLarge { candidate: String, limit: u64 },
    /// The base of the election or the candidate was let go of.
    BaseExpired { of: String },
    /// Something that is not done inside of a candidate.
    NotInCandidate { what: &'static str },
    /// An election, a rebase or a switch of the mirror flag inside of a transaction that has changed something, or has savepoints.
    ElectAfterChanges,
    /// Elections and definitions of tables in one transaction.
    ElectionWithDefinition,
    /// The table was dropped, truncated or given a key since the candidate's base.
    TableReplaced { table: String },
    /// Columns were added to or dropped from a table that the candidate has changed, so that its changes cannot be rewritten.
    ColumnsChanged { table: String },
    /// Rows of the candidate whose state it changed is no longer the present.
    Conflicts { candidate: String, count: usize },
    /// A collision rule that the table or the column cannot have.
    InvalidRule { table: String, rule: RuleError },
    /// The savepoint is gone: released, or rolled back past.
    UnknownSavepoint,
    /// Another process has the data directory open.
    DirectoryLocked { path: PathBuf },
    /// The directory holds something else.
    NotADataDirectory { path: PathBuf, found: String },
    /// The directory was written by a newer version.
    NewerFormat {
        path: PathBuf,
        found: u32,
        supported: u32,
    },
    /// A background thread could not be started.
    NoThread {
        path: PathBuf,
        /// What it does.
        which: &'static str,
        source: std::io::Error,
    },
    /// A file operation failed.
    Io {
        path: PathBuf,
        doing: &'static str,
        source: std::io::Error,
    },
    /// Something that is no backup of this database.
    ForeignBackup { path: PathBuf, found: &'static str },
    /// A directory that something is to be made in is not empty.
    NotEmpty { path: PathBuf },
    /// A file does not have the bytes that were written.
    DamagedFile {
        path: PathBuf,
        offset: u64,
        what: &'static str,
    },
    /// The log's records contradict each other or do not decode, although their checksums hold.
    Corrupt {
        lsn: Lsn,
        store: Option<StoreId>,
        what: String,
    },
}

impl Error {
    /// What the caller does now.
    pub fn advice(&self) -> Advice {
        match self {
            Error::Deadlock { .. }
            | Error::SerializationFailure { .. }
            | Error::ReadConflict { .. }
            | Error::SnapshotTooOld
            | Error::TableChanged { .. }
            | Error::CandidateChanged { .. } => Advice::Retry,
            Error::Corrupt { .. } | Error::DamagedFile { .. } => Advice::Corrupt,
            Error::Log(_) | Error::Io { .. } | Error::NoThread { .. } => Advice::Unavailable,
            _ => Advice::Refuse,
        }
    }
}

/// What a foreign key is about that does not hold.
#[derive(Debug)]
pub struct BrokenReference {
    pub constraint: String,
    /// The table that refers.
    pub child: String,
    /// The table referred to.
    pub parent: String,
    /// Columns of the one that the statement has changed, and their values.
    pub columns: Vec<String>,
    pub key: Vec<crate::Value>,
}

fn refused_reference(f: &mut fmt::Formatter<'_>, table: &str, constraint: &str) -> fmt::Result {
    write!(
        f,
        "insert or update on table \"{table}\" violates foreign key constraint \"{constraint}\""
    )
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Log(source) => write!(f, "log: {source}"),
            Error::Record(source) => write!(f, "log record: {source}"),
            Error::Deadlock { waiting_for } => write!(f, "deadlock detected while waiting for {waiting_for}"),
            Error::SerializationFailure { table } => {
                write!(f, "a row of \"{table}\" was changed by a concurrent transaction")
            }
            Error::ReadConflict { table: Some(table) } => {
                write!(
                    f,
                    "what the transaction read of \"{table}\" was changed by a later commit"
                )
            }
            Error::ReadConflict { table: None } => {
                f.write_str("what the transaction read was changed by a later commit")
            }
            Error::SnapshotTooOld => write!(
                f,
                "too much was committed since the transaction's snapshot to tell whether it changed what was read"
            ),
            Error::HistoryGone { oldest } => {
                write!(f, "nothing is kept of states before LSN {oldest}")
            }
            Error::NotYet { newest } => write!(f, "the newest state is that at LSN {newest}"),
            Error::PastIsReadOnly => f.write_str("the past cannot be changed"),
            Error::TableChanged { table } => {
                write!(f, "table \"{table}\" was changed by a concurrent transaction")
            }
            Error::UniqueViolation { constraint, .. } | Error::KeyExists { constraint, .. } => {
                write!(
                    f,
                    "duplicate key value violates unique constraint \"{constraint}\""
                )
            }
            Error::NotNullViolation { table, column } => {
                write!(
                    f,
                    "column \"{column}\" of relation \"{table}\" contains null values"
                )
            }
            Error::CheckViolation {
                table, constraint, ..
            } => {
                write!(
                    f,
                    "new row for relation \"{table}\" violates check constraint \"{constraint}\""
                )
            }
            Error::ReferenceMissing(broken) => refused_reference(f, &broken.child, &broken.constraint),
            Error::ReferenceByHalves { table, constraint } => refused_reference(f, table, constraint),
            Error::StillReferenced(broken) => {
                let BrokenReference {
                    parent,
                    constraint,
                    child,
                    ..
                } = &**broken;
                write!(
                    f,
                    "update or delete on table \"{parent}\" violates foreign key constraint \"{constraint}\" on table \"{child}\""
                )
            }
            Error::NotGenerated { table, reason } => {
                write!(f, "a generated column of \"{table}\" has no value: {reason}")
            }
            Error::DuplicateTable { name } => write!(f, "relation \"{name}\" already exists"),
            Error::UndefinedTable { name } => write!(f, "relation \"{name}\" does not exist"),
            Error::SequenceLimit {
                sequence,
                greatest,
                limit,
            } => {
                let which = if *greatest { "maximum" } else { "minimum" };
                write!(
                    f,
                    "nextval: reached {which} value of sequence \"{sequence}\" ({limit})"
                )
            }
            Error::SequenceValue {
                sequence,
                value,
                min,
                max,
            } => write!(
                f,
                "setval: value {value} is out of bounds for sequence \"{sequence}\" ({min}..{max})"
            ),
            Error::PrimaryKeyExists { table } => {
                write!(f, "multiple primary keys for table \"{table}\" are not allowed")
            }
            Error::InvalidDefinition { table, reason } => write!(f, "table \"{table}\": {reason}"),
            Error::RowTooLarge { table, bytes, limit } => {
                write!(f, "a row of \"{table}\" has {bytes} bytes, the limit is {limit}")
            }
            Error::KeyTooLarge { table, bytes, limit } => {
                write!(f, "a key of \"{table}\" has {bytes} bytes, the limit is {limit}")
            }
            Error::TransactionTooLarge { limit } => {
                write!(
                    f,
                    "the transaction's changes need more than {limit} bytes of memory"
                )
            }
            Error::TooManyChanges { limit } => write!(f, "the transaction touched more than {limit} rows"),
            Error::TooManySavepoints { limit } => {
                write!(f, "more than {limit} savepoints in one transaction")
            }
            Error::TooManyWaiters { limit } => write!(f, "more than {limit} transactions wait for locks"),
            Error::DuplicateElection { name } => write!(f, "election \"{name}\" already exists"),
            Error::DuplicateCandidate { election, name } => {
                write!(f, "candidate \"{election}/{name}\" already exists")
            }
            Error::UndefinedElection { name } => write!(f, "election \"{name}\" does not exist"),
            Error::UndefinedCandidate { election, name } => {
                write!(f, "candidate \"{election}/{name}\" does not exist")
            }
            Error::ElectionEnded { name } => write!(f, "election \"{name}\" has ended"),
            Error::CandidateEnded { candidate } => write!(f, "candidate \"{candidate}\" has ended"),
            Error::CandidateChanged { candidate } => {
                write!(
                    f,
                    "candidate \"{candidate}\" was changed by a concurrent transaction"
                )
            }
            Error::CandidateKind {
                candidate,
                of_statements,
            } => {
                let of = if *of_statements { "statements" } else { "rows" };
                write!(f, "candidate \"{candidate}\" consists of {of}")
            }
            Error::TooManyStatements { candidate } => {
                write!(f, "candidate \"{candidate}\" has too many statements")
            }
            Error::CandidateTooLarge { candidate, limit } => {
                write!(
                    f,
                    "candidate \"{candidate}\" needs more than {limit} bytes of memory"
                )
            }
            Error::BaseExpired { of } => {
                write!(f, "the base of {of} is older than is kept")
            }
            Error::NotInCandidate { what } => write!(f, "{what} cannot run inside a candidate"),
            Error::ElectAfterChanges => f.write_str(
                "a candidate is elected, rebased or switched before anything else changes in the transaction",
            ),
            Error::ElectionWithDefinition => {
                f.write_str("a transaction changes either elections or the definitions of tables, not both")
            }
            Error::TableReplaced { table } => write!(
                f,
                "table \"{table}\" was dropped, truncated or given a primary key since the candidate's base"
            ),
            Error::ColumnsChanged { table } => write!(
                f,
                "columns were added to or dropped from table \"{table}\" since the candidate's base"
            ),
            Error::Conflicts { candidate, count } => write!(
                f,
                "candidate \"{candidate}\" conflicts with the present state in {count} rows"
            ),
            Error::InvalidRule { table, rule } => write!(f, "table \"{table}\": {rule}"),
            Error::UnknownSavepoint => f.write_str("savepoint does not exist"),
            Error::DirectoryLocked { path } => {
                write!(f, "{} is in use by another process", path.display())
            }
            Error::NotADataDirectory { path, found } => {
                write!(f, "{} is not a scry data directory: {found}", path.display())
            }
            Error::NewerFormat {
                path,
                found,
                supported,
            } => write!(
                f,
                "{} has format {found}; this version reads formats up to {supported}",
                path.display()
            ),
            Error::NoThread { path, which, source } => {
                write!(f, "start the thread that {which} in {}: {source}", path.display())
            }
            Error::ForeignBackup { path, found } => write!(f, "{}: {found}", path.display()),
            Error::NotEmpty { path } => write!(f, "{} is not empty", path.display()),
            Error::Io { path, doing, source } => write!(f, "{doing} {}: {source}", path.display()),
            Error::DamagedFile { path, offset, what } => {
                write!(f, "{} is damaged at byte {offset}: {what}", path.display())
            }
            Error::Corrupt {
                lsn,
                store: Some(store),
                what,
            } => {
                write!(f, "log record at {lsn}, store {store}: {what}")
            }
            Error::Corrupt {
                lsn,
                store: None,
                what,
            } => write!(f, "log record at {lsn}: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Log(source) => Some(source),
            Error::Record(source) => Some(source),
            Error::Io { source, .. } | Error::NoThread { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<RecordError> for Error {
    fn from(source: RecordError) -> Error {
        Error::Record(source)
    }
}

impl From<scry_wal::Error> for Error {
    fn from(source: scry_wal::Error) -> Error {
        Error::Log(source)
    }
}
