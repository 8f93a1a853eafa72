//! The errors of the rooms below, as a client hears them: the one place where they get their SQLSTATE.

use crate::analytic;
use crate::error::{Error, SqlState};
use crate::types::{self, TimeZone};
use scry_engine::Value;
use scry_wal::{Error as LogError, ErrorClass};

impl From<LogError> for Error {
    fn from(error: LogError) -> Error {
        let text = error.to_string();
        let code = match &error {
            LogError::DiskFull { .. } => SqlState::DISK_FULL,
            LogError::TooLong { .. } => SqlState::PROGRAM_LIMIT_EXCEEDED,
            LogError::Closed => SqlState::ADMIN_SHUTDOWN,
            _ => match error.class() {
                ErrorClass::Corrupt => SqlState::DATA_CORRUPTED,
                ErrorClass::Retry | ErrorClass::Refuse => SqlState::IO_ERROR,
            },
        };
        Error::new(code, text)
    }
}

impl From<scry_mirror::Error> for Error {
    fn from(error: scry_mirror::Error) -> Error {
        analytic::from_mirror(error)
    }
}

/// `(1, abc)`.
fn key_text(values: &[Value]) -> String {
    let mut text = Vec::new();
    let utc = TimeZone::utc();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.extend_from_slice(b", ");
        }
        types::write_text(&mut text, &value.as_datum(), &scry_engine::DataType::Text, &utc);
    }
    String::from_utf8_lossy(&text).into_owned()
}

impl From<scry_engine::Error> for Error {
    #[cold]
    fn from(error: scry_engine::Error) -> Error {
        use scry_engine::Error as E;
        let text = error.to_string();
        match error {
            E::Log(log) => log.into(),
            E::Record(_) => Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text),
            E::Deadlock { .. } => {
                Error::new(SqlState::DEADLOCK_DETECTED, "deadlock detected").with_detail(text)
            }
            E::SerializationFailure { .. } => Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )
            .with_detail(text),
            E::ReadConflict { .. } | E::SnapshotTooOld => Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to read/write dependencies among transactions",
            )
            .with_detail(text)
            .with_hint("The transaction might succeed if retried."),
            E::HistoryGone { .. } => Error::new(
                SqlState::SNAPSHOT_TOO_OLD,
                "the database does not keep the state asked for any more",
            )
            .with_detail(text)
            .with_hint("How far back is kept is configured by retention_s in [history]."),
            E::NotYet { .. } => Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "the state asked for is in the future",
            )
            .with_detail(text),
            E::PastIsReadOnly => Error::new(SqlState::READ_ONLY_SQL_TRANSACTION, text),
            E::TableChanged { table } => Error::new(SqlState::SERIALIZATION_FAILURE, text).with_table(table),
            E::UniqueViolation {
                table,
                constraint,
                columns,
                key,
            } => Error::new(
                SqlState::UNIQUE_VIOLATION,
                format!("could not create unique index \"{constraint}\""),
            )
            .with_detail(format!(
                "Key ({})=({}) is duplicated.",
                columns.join(", "),
                key_text(&key)
            ))
            .with_table(table)
            .with_constraint(constraint),
            E::KeyExists {
                table,
                constraint,
                columns,
                key,
            } => Error::new(SqlState::UNIQUE_VIOLATION, text)
                .with_detail(format!(
                    "Key ({})=({}) already exists.",
                    columns.join(", "),
                    key_text(&key)
                ))
                .with_table(table)
                .with_constraint(constraint),
            E::NotNullViolation { table, column } => Error::new(
                SqlState::NOT_NULL_VIOLATION,
                format!("column \"{column}\" of relation \"{table}\" contains null values"),
            )
            .with_table(table)
            .with_column(column),
            E::CheckViolation {
                table, constraint, ..
            } => Error::new(SqlState::CHECK_VIOLATION, text)
                .with_table(table)
                .with_constraint(constraint),
            E::ReferenceMissing(broken) => Error::new(SqlState::FOREIGN_KEY_VIOLATION, text)
                .with_detail(format!(
                    "Key ({})=({}) is not present in table \"{}\".",
                    broken.columns.join(", "),
                    key_text(&broken.key),
                    broken.parent
                ))
                .with_table(broken.child)
                .with_constraint(broken.constraint),
            E::ReferenceByHalves { table, constraint } => Error::new(SqlState::FOREIGN_KEY_VIOLATION, text)
                .with_detail("MATCH FULL does not allow mixing of null and nonnull key values.")
                .with_table(table)
                .with_constraint(constraint),
            E::StillReferenced(broken) => Error::new(SqlState::FOREIGN_KEY_VIOLATION, text)
                .with_detail(format!(
                    "Key ({})=({}) is still referenced from table \"{}\".",
                    broken.columns.join(", "),
                    key_text(&broken.key),
                    broken.child
                ))
                .with_table(broken.child)
                .with_constraint(broken.constraint),
            E::NotGenerated { table, .. } => {
                Error::new(SqlState::INTEGRITY_CONSTRAINT_VIOLATION, text).with_table(table)
            }
            E::DuplicateTable { name } => Error::new(
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists"),
            ),
            E::UndefinedTable { name } => Error::new(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{name}\" does not exist"),
            ),
            E::SequenceLimit { .. } => Error::new(SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED, text),
            E::SequenceValue { .. } => Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, text),
            E::PrimaryKeyExists { table } => Error::new(
                SqlState::INVALID_TABLE_DEFINITION,
                format!("multiple primary keys for table \"{table}\" are not allowed"),
            ),
            E::InvalidDefinition { .. } => Error::new(SqlState::INVALID_TABLE_DEFINITION, text),
            E::RowTooLarge { table, bytes, limit } => Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("row is too big: size {bytes}, maximum size {limit}"),
            )
            .with_table(table),
            E::KeyTooLarge { table, bytes, limit } => Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("key is too big: size {bytes}, maximum size {limit}"),
            )
            .with_table(table),
            E::TransactionTooLarge { .. } => Error::new(SqlState::OUT_OF_MEMORY, text),
            E::TooManyChanges { .. } | E::TooManySavepoints { .. } => {
                Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text)
            }
            E::TooManyWaiters { .. } => Error::new(SqlState::OUT_OF_MEMORY, text),
            E::DuplicateElection { .. } | E::DuplicateCandidate { .. } => {
                Error::new(SqlState::DUPLICATE_OBJECT, text)
            }
            E::UndefinedElection { .. } | E::UndefinedCandidate { .. } => {
                Error::new(SqlState::UNDEFINED_OBJECT, text)
            }
            E::ElectionEnded { .. } | E::CandidateEnded { .. } | E::TableReplaced { .. } => {
                Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text)
            }
            E::ColumnsChanged { .. } => Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text)
                .with_hint("The candidate can be elected still, or dropped."),
            E::CandidateKind { of_statements, .. } => {
                let mode = if of_statements { "statements" } else { "rows" };
                Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text)
                    .with_hint(format!("SET scry.candidate_mode = '{mode}' to work in it."))
            }
            E::TooManyStatements { .. } => Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text),
            E::CandidateTooLarge { .. } => Error::new(SqlState::OUT_OF_MEMORY, text),
            E::BaseExpired { .. } => Error::new(SqlState::SNAPSHOT_TOO_OLD, text)
                .with_hint("REBASE CANDIDATE gives a candidate another; new ones need another election."),
            E::CandidateChanged { .. } => Error::new(SqlState::SERIALIZATION_FAILURE, text),
            E::NotInCandidate { .. } => Error::new(SqlState::FEATURE_NOT_SUPPORTED, text),
            E::ElectAfterChanges | E::ElectionWithDefinition => {
                Error::new(SqlState::ACTIVE_SQL_TRANSACTION, text)
            }
            E::Conflicts { .. } => Error::new(SqlState::TRANSACTION_INTEGRITY_CONSTRAINT_VIOLATION, text),
            E::InvalidRule { .. } => Error::new(SqlState::INVALID_PARAMETER_VALUE, text),
            E::UnknownSavepoint => Error::new(SqlState::INVALID_SAVEPOINT_SPECIFICATION, text),
            E::DirectoryLocked { .. } => Error::new(SqlState::OBJECT_IN_USE, text),
            E::NotADataDirectory { .. }
            | E::NewerFormat { .. }
            | E::ForeignBackup { .. }
            | E::NotEmpty { .. } => Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text),
            E::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Error::new(SqlState::DISK_FULL, text)
            }
            E::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Error::new(SqlState::INSUFFICIENT_PRIVILEGE, text)
            }
            E::Io { .. } | E::NoThread { .. } => Error::new(SqlState::IO_ERROR, text),
            E::Corrupt { .. } | E::DamagedFile { .. } => Error::new(SqlState::DATA_CORRUPTED, text),
        }
    }
}
