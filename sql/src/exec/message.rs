//! DataRow and RowDescription messages, written straight into the connection's buffer.

use crate::error::Error;
use crate::plan::row::{Output, Projection};
use crate::plan::scalar::{self, Env};
use crate::session::ColumnDescription;
use crate::types::{self, Format, TimeZone};
use bytes::{BufMut, BytesMut};
use scry_engine::{DataType, Datum, RowRef};
use smallvec::SmallVec;
use std::sync::Arc;

/// The caller flushes a buffer of this size before it asks for more rows.
pub const FLUSH_BYTES: usize = 256 << 10;

/// The format of each result column, as Bind gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Formats {
    #[default]
    Text,
    Binary,
    Each(Arc<[i16]>),
}

impl Formats {
    /// From Bind's list: none is text, one is for all.
    pub fn from_codes(codes: &[i16]) -> Self {
        match codes {
            [] | [0] => Formats::Text,
            [1] => Formats::Binary,
            many => Formats::Each(many.into()),
        }
    }

    #[inline]
    pub fn of(&self, column: usize) -> Format {
        match self {
            Formats::Text => Format::Text,
            Formats::Binary => Format::Binary,
            Formats::Each(codes) if codes.get(column) == Some(&1) => Format::Binary,
            Formats::Each(_) => Format::Text,
        }
    }

    /// One code for each of `columns`.
    pub fn codes(&self, columns: usize) -> Arc<[i16]> {
        (0..columns).map(|column| self.of(column).code()).collect()
    }

    /// As the analytic encoder takes them.
    pub fn as_codes(&self) -> &[i16] {
        match self {
            Formats::Text => &[],
            Formats::Binary => &[1],
            Formats::Each(codes) => codes,
        }
    }
}

/// Begins a message; the length is filled in by [`end`].
#[inline]
pub fn begin(out: &mut BytesMut, tag: u8) -> usize {
    out.put_u8(tag);
    let start = out.len();
    out.put_i32(0);
    start
}

#[inline]
pub fn end(out: &mut BytesMut, start: usize) {
    // A message of 2 GiB is refused long before: a row has 8 MiB at most, and columns are bounded.
    let length = (out.len() - start) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// RowDescription.
pub fn row_description(out: &mut BytesMut, columns: &[ColumnDescription], formats: &Formats) {
    let start = begin(out, b'T');
    out.put_i16(columns.len() as i16);
    for (index, column) in columns.iter().enumerate() {
        out.put_slice(column.name.as_bytes());
        out.put_u8(0);
        out.put_u32(column.table_oid);
        out.put_i16(column.column_no);
        out.put_u32(column.type_oid);
        out.put_i16(column.type_len);
        out.put_i32(column.type_mod);
        out.put_i16(formats.of(index).code());
    }
    end(out, start);
}

/// A DataRow of `row` (if the statement has one) through the projection.
#[inline]
pub fn data_row(
    out: &mut BytesMut,
    projection: &Projection,
    row: Option<RowRef<'_>>,
    env: &Env<'_>,
    formats: &Formats,
    zone: &TimeZone,
) -> Result<(), Error> {
    let before = out.len();
    let start = begin(out, b'D');
    out.put_i16(projection.outputs.len() as i16);
    for (index, output) in projection.outputs.iter().enumerate() {
        let (ty, format) = (&projection.types[index], formats.of(index));
        match (output, &row) {
            (Output::Column(column), Some(row)) => {
                types::write_field(out, &row.get(*column), ty, format, zone)
            }
            (Output::Column(_), None) => types::write_field(out, &Datum::Null, ty, format, zone),
            (Output::Computed(scalar), _) => match scalar::eval(scalar, env) {
                Ok(value) => types::write_field(out, &value.datum(), ty, format, zone),
                Err(error) => {
                    out.truncate(before);
                    return Err(error);
                }
            },
        }
    }
    end(out, start);
    Ok(())
}

/// A DataRow of text values: SHOW, EXPLAIN.
pub fn text_row(out: &mut BytesMut, values: &[&str], formats: &Formats) {
    let values: SmallVec<[_; 8]> = values
        .iter()
        .map(|value| (Datum::Text(value), DataType::Text))
        .collect();
    row(out, &values, formats);
}

/// A DataRow of values that depend on no time zone.
pub fn row(out: &mut BytesMut, values: &[(Datum<'_>, DataType)], formats: &Formats) {
    let start = begin(out, b'D');
    out.put_i16(values.len() as i16);
    let utc = TimeZone::utc();
    for (index, (value, ty)) in values.iter().enumerate() {
        types::write_field(out, value, ty, formats.of(index), &utc);
    }
    end(out, start);
}

/// Rows kept for a portal that is fetched in pieces: whole DataRow messages.
#[derive(Debug, Default)]
pub struct RowBuffer {
    pub bytes: BytesMut,
}

impl RowBuffer {
    /// Moves up to `max_rows` (0: all) messages to `out` until it is large. Returns how many, and whether any are left.
    pub fn take(&mut self, out: &mut BytesMut, max_rows: usize) -> (usize, bool) {
        let mut at = 0;
        let mut rows = 0;
        while at < self.bytes.len()
            && (max_rows == 0 || rows < max_rows)
            && out.len() + at < FLUSH_BYTES.max(out.len() + 1)
        {
            let mut length = [0; 4];
            length.copy_from_slice(&self.bytes[at + 1..at + 5]);
            at += 1 + u32::from_be_bytes(length) as usize;
            rows += 1;
        }
        out.extend_from_slice(&self.bytes.split_to(at));
        (rows, !self.bytes.is_empty())
    }
}
