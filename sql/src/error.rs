//! What a client hears when a statement fails: PostgreSQL's error fields, and where each inner error becomes one.
//!
//! An `Error` is one pointer wide, so that results of the expression evaluator stay in registers; making one is the
//! slow path.

use crate::place::Place;
use crate::plan::syntax;
use scry_engine::row::RowError;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A five-character SQLSTATE (PostgreSQL 15 documentation, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

macro_rules! states {
    ($($name:ident = $code:literal;)*) => {
        impl SqlState {
            $(pub const $name: SqlState = SqlState(*$code);)*
        }
    };
}

states! {
    SUCCESSFUL_COMPLETION = b"00000";
    WARNING = b"01000";
    CONNECTION_FAILURE = b"08006";
    PROTOCOL_VIOLATION = b"08P01";
    FEATURE_NOT_SUPPORTED = b"0A000";
    CARDINALITY_VIOLATION = b"21000";
    STRING_DATA_RIGHT_TRUNCATION = b"22001";
    NUMERIC_VALUE_OUT_OF_RANGE = b"22003";
    NULL_VALUE_NOT_ALLOWED = b"22004";
    INVALID_DATETIME_FORMAT = b"22007";
    DATETIME_FIELD_OVERFLOW = b"22008";
    INVALID_TIME_ZONE_DISPLACEMENT = b"22009";
    SEQUENCE_GENERATOR_LIMIT_EXCEEDED = b"2200H";
    SUBSTRING_ERROR = b"22011";
    DIVISION_BY_ZERO = b"22012";
    INVALID_ARGUMENT_FOR_LOGARITHM = b"2201E";
    INVALID_ARGUMENT_FOR_POWER_FUNCTION = b"2201F";
    INVALID_ROW_COUNT_IN_LIMIT = b"2201W";
    INVALID_ROW_COUNT_IN_OFFSET = b"2201X";
    CHARACTER_NOT_IN_REPERTOIRE = b"22021";
    INVALID_PARAMETER_VALUE = b"22023";
    INVALID_ESCAPE_SEQUENCE = b"22025";
    INVALID_REGULAR_EXPRESSION = b"2201B";
    INVALID_USE_OF_ESCAPE_CHARACTER = b"2200C";
    INVALID_TEXT_REPRESENTATION = b"22P02";
    INVALID_BINARY_REPRESENTATION = b"22P03";
    BAD_COPY_FILE_FORMAT = b"22P04";
    UNTRANSLATABLE_CHARACTER = b"22P05";
    INTEGRITY_CONSTRAINT_VIOLATION = b"23000";
    NOT_NULL_VIOLATION = b"23502";
    FOREIGN_KEY_VIOLATION = b"23503";
    UNIQUE_VIOLATION = b"23505";
    CHECK_VIOLATION = b"23514";
    DEPENDENT_OBJECTS_STILL_EXIST = b"2BP01";
    INVALID_CURSOR_STATE = b"24000";
    INVALID_TRANSACTION_STATE = b"25000";
    ACTIVE_SQL_TRANSACTION = b"25001";
    READ_ONLY_SQL_TRANSACTION = b"25006";
    NO_ACTIVE_SQL_TRANSACTION = b"25P01";
    IN_FAILED_SQL_TRANSACTION = b"25P02";
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = b"25P03";
    INVALID_SQL_STATEMENT_NAME = b"26000";
    INVALID_CURSOR_NAME = b"34000";
    INVALID_CATALOG_NAME = b"3D000";
    INVALID_SAVEPOINT_SPECIFICATION = b"3B001";
    INVALID_SCHEMA_NAME = b"3F000";
    SERIALIZATION_FAILURE = b"40001";
    TRANSACTION_INTEGRITY_CONSTRAINT_VIOLATION = b"40002";
    DEADLOCK_DETECTED = b"40P01";
    SYNTAX_ERROR = b"42601";
    INSUFFICIENT_PRIVILEGE = b"42501";
    INVALID_NAME = b"42602";
    NAME_TOO_LONG = b"42622";
    INVALID_COLUMN_REFERENCE = b"42P10";
    AMBIGUOUS_COLUMN = b"42702";
    UNDEFINED_COLUMN = b"42703";
    UNDEFINED_OBJECT = b"42704";
    DUPLICATE_OBJECT = b"42710";
    DUPLICATE_COLUMN = b"42701";
    INVALID_FOREIGN_KEY = b"42830";
    DUPLICATE_ALIAS = b"42712";
    GROUPING_ERROR = b"42803";
    WINDOWING_ERROR = b"42P20";
    DATATYPE_MISMATCH = b"42804";
    WRONG_OBJECT_TYPE = b"42809";
    CANNOT_COERCE = b"42846";
    UNDEFINED_FUNCTION = b"42883";
    AMBIGUOUS_FUNCTION = b"42725";
    UNDEFINED_TABLE = b"42P01";
    UNDEFINED_PARAMETER = b"42P02";
    DUPLICATE_CURSOR = b"42P03";
    DUPLICATE_PREPARED_STATEMENT = b"42P05";
    DUPLICATE_TABLE = b"42P07";
    INVALID_TABLE_DEFINITION = b"42P16";
    INVALID_OBJECT_DEFINITION = b"42P17";
    GENERATED_ALWAYS = b"428C9";
    INDETERMINATE_DATATYPE = b"42P18";
    DISK_FULL = b"53100";
    OUT_OF_MEMORY = b"53200";
    TOO_MANY_CONNECTIONS = b"53300";
    PROGRAM_LIMIT_EXCEEDED = b"54000";
    STATEMENT_TOO_COMPLEX = b"54001";
    TOO_MANY_COLUMNS = b"54011";
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000";
    OBJECT_IN_USE = b"55006";
    CANT_CHANGE_RUNTIME_PARAM = b"55P02";
    LOCK_NOT_AVAILABLE = b"55P03";
    QUERY_CANCELED = b"57014";
    ADMIN_SHUTDOWN = b"57P01";
    CANNOT_CONNECT_NOW = b"57P03";
    IDLE_SESSION_TIMEOUT = b"57P05";
    IO_ERROR = b"58030";
    SNAPSHOT_TOO_OLD = b"72000";
    INTERNAL_ERROR = b"XX000";
    DATA_CORRUPTED = b"XX001";
}

impl SqlState {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far an error reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    /// The statement, and the transaction around it, failed.
    #[default]
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    pub fn as_str(&self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// The fields of an error, read and set through `Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFields {
    pub code: SqlState,
    pub severity: Severity,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in the statement's text, in characters from 1.
    pub position: Option<u32>,
    /// The same, until the text is at hand.
    pub place: Option<Place>,
    /// Context, such as the line of a COPY.
    pub context: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub constraint: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    fields: Box<ErrorFields>,
}

impl Error {
    #[cold]
    pub fn new(code: SqlState, message: impl Into<String>) -> Error {
        Error {
            fields: Box::new(ErrorFields {
                code,
                severity: Severity::Error,
                message: message.into(),
                detail: None,
                hint: None,
                position: None,
                place: None,
                context: None,
                table: None,
                column: None,
                constraint: None,
            }),
        }
    }

    /// For what PostgreSQL does and this server does not: 0A000.
    pub fn unsupported(what: impl fmt::Display) -> Error {
        Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("{what} is not supported"),
        )
    }

    /// For what can only be a bug: XX000.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(SqlState::INTERNAL_ERROR, message)
    }

    pub fn syntax(message: impl Into<String>) -> Error {
        Error::new(SqlState::SYNTAX_ERROR, message)
    }

    pub fn fatal(mut self) -> Error {
        self.fields.severity = Severity::Fatal;
        self
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> Error {
        self.fields.detail = Some(detail.into());
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.fields.hint = Some(hint.into());
        self
    }

    pub fn with_position(mut self, position: u32) -> Error {
        self.fields.position = Some(position);
        self
    }

    /// Where it lies, unless that is known better already.
    pub fn at(mut self, place: impl Into<Place>) -> Error {
        if self.fields.position.is_none() && self.fields.place.is_none() {
            self.fields.place = Some(place.into());
        }
        self
    }

    /// Turns its place into a position in `sql`, the text that was parsed.
    pub fn located(mut self, sql: &str) -> Error {
        if let Some(offset) = self.fields.place.take().and_then(|place| place.offset(sql)) {
            self.fields.position = Some(syntax::position(sql, offset));
        }
        self
    }

    /// Moves its position behind so many characters of text that stood before what was parsed.
    pub fn behind(mut self, characters: usize) -> Error {
        let characters = u32::try_from(characters).unwrap_or(0);
        self.fields.position = self
            .fields
            .position
            .map(|position| position.saturating_add(characters));
        self
    }

    /// Without place and position: for text that is not the client's, such as a column's default.
    pub fn nowhere(mut self) -> Error {
        self.fields.place = None;
        self.fields.position = None;
        self
    }

    pub fn with_context(mut self, context: impl Into<String>) -> Error {
        self.fields.context = Some(context.into());
        self
    }

    pub fn with_table(mut self, table: impl Into<String>) -> Error {
        self.fields.table = Some(table.into());
        self
    }

    pub fn with_column(mut self, column: impl Into<String>) -> Error {
        self.fields.column = Some(column.into());
        self
    }

    pub fn with_constraint(mut self, constraint: impl Into<String>) -> Error {
        self.fields.constraint = Some(constraint.into());
        self
    }
}

impl Deref for Error {
    type Target = ErrorFields;

    fn deref(&self) -> &ErrorFields {
        &self.fields
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut ErrorFields {
        &mut self.fields
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.fields, f)
    }
}

impl std::error::Error for Error {}

impl From<RowError> for Error {
    fn from(error: RowError) -> Error {
        let code = match error {
            RowError::TooLarge { .. } => SqlState::PROGRAM_LIMIT_EXCEEDED,
            RowError::NumericOverflow { .. } => SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            RowError::WrongType { .. } | RowError::WrongColumn { .. } => SqlState::INTERNAL_ERROR,
            RowError::Damaged { .. } => SqlState::DATA_CORRUPTED,
        };
        Error::new(code, error.to_string())
    }
}

const _: () = assert!(size_of::<Error>() == size_of::<usize>());
