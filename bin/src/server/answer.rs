//! What the SQL layer says, as messages.

use std::sync::Arc;

use bytes::BytesMut;
use scry_sql::error::Severity;
use scry_sql::{ColumnDescription, CommandTag, Error, Notification, Session, TransactionStatus};

use crate::wire::WireError;
use crate::wire::backend::{self, Column, Report, Status};

pub fn error(out: &mut BytesMut, error: &Error) {
    backend::error_response(out, &report(error, error.severity.as_str()));
}

pub fn fatal(out: &mut BytesMut, error: &Error) {
    backend::error_response(out, &report(error, Severity::Fatal.as_str()));
}

pub fn wire_error(out: &mut BytesMut, error: &WireError) {
    let severity = if error.is_fatal() { "FATAL" } else { "ERROR" };
    let message = error.to_string();
    let report = Report {
        severity,
        code: error.code(),
        message: &message,
        ..Report::default()
    };
    backend::error_response(out, &report);
}

/// Warnings and changed settings of what just ran; they come before its CommandComplete.
pub fn notices(out: &mut BytesMut, session: &mut Session) {
    for notice in session.take_notices() {
        // Classes 01 and 25 are what PostgreSQL warns of; the rest is for information.
        let severity = match notice.0.code.as_str().get(..2) {
            Some("01" | "25") => "WARNING",
            _ => "NOTICE",
        };
        backend::notice_response(out, &report(&notice.0, severity));
    }
    for (name, value) in session.take_parameter_changes() {
        backend::parameter_status(out, name, &value);
    }
}

/// What other sessions told this one.
pub fn notifications(out: &mut BytesMut, session: &mut Session) {
    for Notification { process, message } in session.take_notifications() {
        backend::notification_response(out, process, &message.channel, &message.payload);
    }
    notices(out, session);
}

pub fn complete(out: &mut BytesMut, tag: CommandTag) {
    // The longest tag is a word or two and a count, so the text stays on the stack.
    let mut text = TagText {
        bytes: [0; 48],
        used: 0,
    };
    match std::fmt::Write::write_fmt(&mut text, format_args!("{tag}")) {
        Ok(()) => backend::command_complete(out, text.as_str()),
        Err(_) => backend::command_complete(out, &tag.to_string()),
    }
}

pub fn ready(out: &mut BytesMut, session: &mut Session) {
    notifications(out, session);
    let status = match session.transaction_status() {
        TransactionStatus::Idle => Status::Idle,
        TransactionStatus::InTransaction => Status::InTransaction,
        TransactionStatus::Failed => Status::Failed,
    };
    backend::ready_for_query(out, status);
}

/// RowDescription, or NoData without columns. `formats` as in Bind: none is text, one is for all.
pub fn columns(out: &mut BytesMut, columns: Option<&Arc<[ColumnDescription]>>, formats: &[i16]) {
    let Some(columns) = columns else {
        return backend::no_data(out);
    };
    backend::row_description(
        out,
        columns.iter().enumerate().map(|(index, column)| Column {
            name: &column.name,
            table_oid: column.table_oid,
            number: column.column_no,
            type_oid: column.type_oid,
            type_bytes: column.type_len,
            type_modifier: column.type_mod,
            format: match formats {
                [] => 0,
                [format] => *format,
                formats => formats.get(index).copied().unwrap_or(0),
            },
        }),
    );
}

fn report<'a>(error: &'a Error, severity: &'a str) -> Report<'a> {
    Report {
        severity,
        code: error.code.as_str(),
        message: &error.message,
        detail: error.detail.as_deref(),
        hint: error.hint.as_deref(),
        position: error.position,
        context: error.context.as_deref(),
        // Every table stands in this schema; clients expect the two names together.
        schema: error.table.as_ref().map(|_| "public"),
        table: error.table.as_deref(),
        column: error.column.as_deref(),
        data_type: None,
        constraint: error.constraint.as_deref(),
    }
}

/// A small string on the stack.
struct TagText {
    bytes: [u8; 48],
    used: usize,
}

impl TagText {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.used]).unwrap_or_default()
    }
}

impl std::fmt::Write for TagText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.used + text.len();
        let space = self.bytes.get_mut(self.used..end).ok_or(std::fmt::Error)?;
        space.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}
