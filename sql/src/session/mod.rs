//! One connection's session: prepared statements, portals, transactions, settings.
//!
//! The caller owns the socket. It hands over what the client sent, sends what stands in `out`, and follows these rules:
//!
//! - *Simple query*: [`Session::parse_script`]; no statement at all is EmptyQueryResponse; then [`Session::simple`] for each statement in turn, until
//!   the first error; then [`Session::sync`]; then ReadyForQuery.
//! - *Extended query*: [`Session::prepare`], [`Session::bind`], `describe_*`, [`Session::execute`] as messages come. After an error
//!   skip messages up to Sync. At Sync call [`Session::sync`], then ReadyForQuery.
//! - Every error that a method returns has already had its effect on the transaction; the caller only reports it.
//! - Before CommandComplete, send what [`Session::take_notices`] and [`Session::take_parameter_changes`] return.

mod api;
mod cancel;

pub use api::{
    ColumnDescription, Executed, Notice, ParsedStatement, SessionInfo, StatementDescription,
    TransactionStatus,
};
pub use cancel::CancelHandle;

use crate::database::Database;
use crate::error::Error;
use bytes::BytesMut;
use std::sync::Arc;

/// A client's session. Dropping it rolls its open transaction back.
pub struct Session {
    database: Arc<Database>,
    info: SessionInfo,
    cancel: CancelHandle,
}

impl Session {
    pub(crate) fn new(database: Arc<Database>, info: SessionInfo) -> Result<Self, Error> {
        Ok(Session {
            database,
            info,
            cancel: CancelHandle::default(),
        })
    }

    /// For ReadyForQuery.
    pub fn transaction_status(&self) -> TransactionStatus {
        TransactionStatus::Idle
    }

    /// Shared with whoever serves cancel requests.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// The ParameterStatus values of a fresh connection, in order.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// ParameterStatus values that changed since the last call. Empty almost always, and then free.
    pub fn take_parameter_changes(&mut self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Notices and warnings of the last statement. Empty almost always, and then free.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        Vec::new()
    }

    /// Splits a simple query into its statements. An empty list is an empty query.
    pub fn parse_script(&mut self, _sql: &str) -> Result<Vec<ParsedStatement>, Error> {
        Ok(Vec::new())
    }

    /// Runs one statement of a simple query: RowDescription and DataRow messages (all values as text) go to `out`.
    pub async fn simple(
        &mut self,
        _statement: &ParsedStatement,
        _out: &mut BytesMut,
    ) -> Result<Executed, Error> {
        Ok(Executed::Empty)
    }

    /// Parse: prepares `sql` as `name` (empty: the unnamed statement). `param_types` may be shorter than the parameters, and 0 means unknown.
    pub async fn prepare(&mut self, _name: &str, _sql: &str, _param_types: &[u32]) -> Result<(), Error> {
        Ok(())
    }

    pub async fn describe_statement(&mut self, _name: &str) -> Result<StatementDescription, Error> {
        Ok(StatementDescription {
            params: Vec::new(),
            columns: None,
        })
    }

    /// Bind. Formats: none = all text, one = for all, else one each; 0 is text, 1 binary. `None` is NULL.
    pub async fn bind(
        &mut self,
        _portal: &str,
        _statement: &str,
        _param_formats: &[i16],
        _params: &[Option<&[u8]>],
        _result_formats: &[i16],
    ) -> Result<(), Error> {
        Ok(())
    }

    /// The columns of a portal and the format of each, or `None` when it returns no rows.
    #[expect(clippy::type_complexity, reason = "the pair is what RowDescription needs")]
    pub fn describe_portal(
        &mut self,
        _portal: &str,
    ) -> Result<Option<(Arc<[ColumnDescription]>, Arc<[i16]>)>, Error> {
        Ok(None)
    }

    /// Closing what does not exist is no error.
    pub fn close_statement(&mut self, _name: &str) {}

    /// Closing what does not exist is no error.
    pub fn close_portal(&mut self, _name: &str) {}

    /// Execute: up to `max_rows` rows (0: all) as DataRow messages.
    pub async fn execute(
        &mut self,
        _portal: &str,
        _max_rows: usize,
        _out: &mut BytesMut,
    ) -> Result<Executed, Error> {
        Ok(Executed::Empty)
    }

    /// Goes on after [`Executed::MoreRows`].
    pub async fn resume(&mut self, _out: &mut BytesMut) -> Result<Executed, Error> {
        Ok(Executed::Empty)
    }

    /// One CopyData message. The bytes may split anywhere.
    pub async fn copy_data(&mut self, _data: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// CopyDone: ends the COPY as a statement ends.
    pub async fn copy_done(&mut self) -> Result<Executed, Error> {
        Ok(Executed::Empty)
    }

    /// CopyFail: the client gave up; the error to report is returned.
    pub fn copy_fail(&mut self, _message: &str) -> Error {
        Error::new(crate::error::SqlState::QUERY_CANCELED, "COPY from stdin failed")
    }

    /// An error that arose outside the session (a malformed message) was reported to the client: the transaction
    /// fails as if one of the session's own statements had.
    pub fn fail(&mut self) {}

    /// Sync, or the end of a simple query: commits the implicit transaction and waits until it is durable.
    pub async fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }
}
