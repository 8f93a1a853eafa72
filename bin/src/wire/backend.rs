//! Messages that the server sends, appended to a write buffer.
//!
//! Every function appends one whole message. Rows are not here: the SQL layer knows how a value
//! looks in each format and appends DataRow and CopyData messages itself.

use bytes::{BufMut, BytesMut};

/// Transaction status as ReadyForQuery says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Idle,
    InTransaction,
    Failed,
}

/// The fields of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report<'a> {
    /// ERROR, FATAL, PANIC, WARNING, NOTICE, INFO or LOG.
    pub severity: &'a str,
    /// SQLSTATE.
    pub code: &'a str,
    pub message: &'a str,
    pub detail: Option<&'a str>,
    pub hint: Option<&'a str>,
    /// In characters of the statement, from 1.
    pub position: Option<u32>,
    pub context: Option<&'a str>,
    pub schema: Option<&'a str>,
    pub table: Option<&'a str>,
    pub column: Option<&'a str>,
    pub data_type: Option<&'a str>,
    pub constraint: Option<&'a str>,
}

impl<'a> Report<'a> {
    pub fn fatal(code: &'a str, message: &'a str) -> Self {
        Self {
            severity: "FATAL",
            code,
            message,
            ..Self::default()
        }
    }

    pub fn error(code: &'a str, message: &'a str) -> Self {
        Self {
            severity: "ERROR",
            code,
            message,
            ..Self::default()
        }
    }
}

/// One column of a RowDescription.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    pub name: &'a str,
    pub table_oid: u32,
    pub number: i16,
    pub type_oid: u32,
    pub type_bytes: i16,
    pub type_modifier: i32,
    /// 0 text, 1 binary.
    pub format: i16,
}

pub fn authentication_ok(out: &mut BytesMut) {
    out.put_slice(b"R\0\0\0\x08\0\0\0\0");
}

pub fn negotiate_protocol_version(out: &mut BytesMut, unknown: &[&str]) {
    message(out, b'v', |out| {
        out.put_i32(0); // the newest minor version of protocol 3 spoken here
        out.put_u32(unknown.len() as u32);
        unknown.iter().for_each(|name| string(out, name));
    });
}

pub fn backend_key_data(out: &mut BytesMut, pid: i32, secret: u32) {
    message(out, b'K', |out| {
        out.put_i32(pid);
        out.put_u32(secret);
    });
}

pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        string(out, name);
        string(out, value);
    });
}

pub fn ready_for_query(out: &mut BytesMut, status: Status) {
    let status = match status {
        Status::Idle => b'I',
        Status::InTransaction => b'T',
        Status::Failed => b'E',
    };
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

pub fn parse_complete(out: &mut BytesMut) {
    out.put_slice(b"1\0\0\0\x04");
}

pub fn bind_complete(out: &mut BytesMut) {
    out.put_slice(b"2\0\0\0\x04");
}

pub fn close_complete(out: &mut BytesMut) {
    out.put_slice(b"3\0\0\0\x04");
}

pub fn no_data(out: &mut BytesMut) {
    out.put_slice(b"n\0\0\0\x04");
}

pub fn portal_suspended(out: &mut BytesMut) {
    out.put_slice(b"s\0\0\0\x04");
}

pub fn empty_query_response(out: &mut BytesMut) {
    out.put_slice(b"I\0\0\0\x04");
}

pub fn copy_done(out: &mut BytesMut) {
    out.put_slice(b"c\0\0\0\x04");
}

pub fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| string(out, tag));
}

/// `format` 0 text, 1 binary; one format for all `columns`.
pub fn copy_in_response(out: &mut BytesMut, format: u8, columns: usize) {
    copy_response(out, b'G', format, columns);
}

/// As `copy_in_response`, in the other direction.
pub fn copy_out_response(out: &mut BytesMut, format: u8, columns: usize) {
    copy_response(out, b'H', format, columns);
}

fn copy_response(out: &mut BytesMut, tag: u8, format: u8, columns: usize) {
    message(out, tag, |out| {
        out.put_u8(format);
        out.put_u16(columns as u16);
        out.extend(std::iter::repeat_n([0, format], columns).flatten());
    });
}

pub fn parameter_description(out: &mut BytesMut, types: &[u32]) {
    message(out, b't', |out| {
        out.put_u16(types.len() as u16);
        types.iter().for_each(|oid| out.put_u32(*oid));
    });
}

pub fn row_description<'a>(out: &mut BytesMut, columns: impl ExactSizeIterator<Item = Column<'a>>) {
    message(out, b'T', |out| {
        out.put_u16(columns.len() as u16);
        for column in columns {
            string(out, column.name);
            out.put_u32(column.table_oid);
            out.put_i16(column.number);
            out.put_u32(column.type_oid);
            out.put_i16(column.type_bytes);
            out.put_i32(column.type_modifier);
            out.put_i16(column.format);
        }
    });
}

pub fn error_response(out: &mut BytesMut, report: &Report<'_>) {
    message(out, b'E', |out| fields(out, report));
}

pub fn notification_response(out: &mut BytesMut, process: i32, channel: &str, payload: &str) {
    message(out, b'A', |out| {
        out.put_i32(process);
        string(out, channel);
        string(out, payload);
    });
}

pub fn notice_response(out: &mut BytesMut, report: &Report<'_>) {
    message(out, b'N', |out| fields(out, report));
}

fn fields(out: &mut BytesMut, report: &Report<'_>) {
    field(out, b'S', Some(report.severity));
    field(out, b'V', Some(report.severity));
    field(out, b'C', Some(report.code));
    field(out, b'M', Some(report.message));
    field(out, b'D', report.detail);
    field(out, b'H', report.hint);
    if let Some(position) = report.position {
        field(out, b'P', Some(&position.to_string()));
    }
    field(out, b'W', report.context);
    field(out, b's', report.schema);
    field(out, b't', report.table);
    field(out, b'c', report.column);
    field(out, b'd', report.data_type);
    field(out, b'n', report.constraint);
    out.put_u8(0);
}

fn field(out: &mut BytesMut, tag: u8, value: Option<&str>) {
    if let Some(value) = value {
        out.put_u8(tag);
        string(out, value);
    }
}

/// A zero-terminated string. A zero byte inside would end the field early and shift every byte
/// behind it into another meaning, so the text is cut there.
fn string(out: &mut BytesMut, text: &str) {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    out.put_slice(&bytes[..end]);
    out.put_u8(0);
}

/// Writes type, length and what `body` appends.
fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_i32(0);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_cover_the_body_and_themselves() {
        let mut out = BytesMut::new();
        command_complete(&mut out, "INSERT 0 1");
        assert_eq!(&out[..], b"C\0\0\0\x0fINSERT 0 1\0");
        out.clear();
        copy_in_response(&mut out, 0, 2);
        assert_eq!(&out[..], b"G\0\0\0\x0b\0\0\x02\0\0\0\0");
        out.clear();
        ready_for_query(&mut out, Status::Failed);
        assert_eq!(&out[..], b"Z\0\0\0\x05E");
    }

    #[test]
    fn a_zero_byte_in_a_message_cannot_forge_a_field() {
        let mut out = BytesMut::new();
        error_response(&mut out, &Report::error("42601", "bad\0Cfake"));
        let text = String::from_utf8_lossy(&out[5..]).into_owned();
        assert_eq!(text, "SERROR\0VERROR\0C42601\0Mbad\0\0");
    }

    #[test]
    fn constant_messages_have_the_right_lengths() {
        let writers: [fn(&mut BytesMut); 8] = [
            authentication_ok,
            parse_complete,
            bind_complete,
            close_complete,
            no_data,
            portal_suspended,
            empty_query_response,
            copy_done,
        ];
        for write in writers {
            let mut out = BytesMut::new();
            write(&mut out);
            let length = i32::from_be_bytes(out[1..5].try_into().expect("four bytes"));
            assert_eq!(length as usize + 1, out.len(), "{:?}", out);
        }
    }
}
