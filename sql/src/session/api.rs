//! The types that a connection and its session exchange.

use crate::error::Error;
use crate::tags::CommandTag;
use std::sync::Arc;

/// Who is connected, as given in the startup message.
#[derive(Debug, Clone, Default)]
pub struct SessionInfo {
    pub user: String,
    /// The client's address, for the audit trail.
    pub client: String,
    pub application: String,
    /// The process id that the client was told in BackendKeyData (`pg_backend_pid()`).
    pub process: i32,
    /// Settings of the startup message (`options`, `client_encoding`, `DateStyle`, …) in the order given.
    pub settings: Vec<(String, String)>,
}

/// What ReadyForQuery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}

impl TransactionStatus {
    /// The byte of the ReadyForQuery message.
    pub fn byte(self) -> u8 {
        match self {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InTransaction => b'T',
            TransactionStatus::Failed => b'E',
        }
    }
}

/// How an execution step ended.
///
/// Everything that belongs to a statement's own output stands in the caller's buffer already: RowDescription (simple
/// protocol only), DataRow, CopyInResponse, CopyOutResponse, CopyData, CopyDone. The caller adds CommandComplete,
/// EmptyQueryResponse or PortalSuspended from this value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    Complete(CommandTag),
    /// `max_rows` rows were sent and there may be more: PortalSuspended.
    Suspended,
    /// The statement was an empty string: EmptyQueryResponse.
    Empty,
    /// The buffer is large: send it, then call [`resume`](super::Session::resume).
    MoreRows,
    /// CopyInResponse is in the buffer: send it, then feed [`copy_data`](super::Session::copy_data), and end with
    /// [`copy_done`](super::Session::copy_done) or [`copy_fail`](super::Session::copy_fail).
    CopyIn,
}

/// One column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDescription {
    pub name: String,
    /// The table's oid when the column comes straight from a table, else 0.
    pub table_oid: u32,
    /// The column's number in that table, from 1; else 0.
    pub column_no: i16,
    pub type_oid: u32,
    pub type_len: i16,
    pub type_mod: i32,
}

/// What Describe says about a statement.
#[derive(Debug, Clone)]
pub struct StatementDescription {
    /// Type oids of `$1…$n`.
    pub params: Vec<u32>,
    /// `None`: the statement returns no rows (NoData).
    pub columns: Option<Arc<[ColumnDescription]>>,
}

/// One statement of a script, in the order of the script; made by [`Session::parse_script`](super::Session::parse_script).
#[derive(Debug, Clone)]
pub struct ParsedStatement {
    /// The whole script; positions in errors count from its start.
    pub(crate) script: Arc<str>,
    /// Byte range of this statement.
    pub(crate) range: (usize, usize),
    /// The last statement of a simple query ends the implicit transaction before it is reported complete.
    pub(crate) last: bool,
}

impl ParsedStatement {
    /// The statement's own text, without the semicolon.
    pub fn text(&self) -> &str {
        &self.script[self.range.0..self.range.1]
    }
}

/// A NoticeResponse to send before the statement's completion: a warning, a notice.
#[derive(Debug)]
pub struct Notice(pub Error);
