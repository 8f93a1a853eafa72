//! COPY TO STDOUT: DataRow messages with text values, as any query writes them, become lines of COPY data.

use super::super::message;
use crate::error::{Error, SqlState};
use crate::plan::statement::{ColumnChoice, CopyFormat, CopyStatement};
use crate::session::ColumnDescription;
use bytes::{BufMut, BytesMut};

/// A COPY TO STDOUT under way.
pub struct CopyOut {
    csv: bool,
    delimiter: u8,
    null: Vec<u8>,
    quote: u8,
    escape: u8,
    force_quote: Vec<bool>,
    pub rows: u64,
}

impl CopyOut {
    pub fn new(statement: &CopyStatement, columns: &[ColumnDescription]) -> Result<Self, Error> {
        let csv = statement.format == CopyFormat::Csv;
        let force_quote = match &statement.force_quote {
            ColumnChoice::None => Vec::new(),
            ColumnChoice::All => vec![true; columns.len()],
            ColumnChoice::Names(names) => {
                let mut list = vec![false; columns.len()];
                for name in names {
                    let Some(index) = columns.iter().position(|column| column.name == *name) else {
                        return Err(Error::new(
                            SqlState::INVALID_COLUMN_REFERENCE,
                            format!("FORCE_QUOTE column \"{name}\" not referenced by COPY"),
                        ));
                    };
                    list[index] = true;
                }
                list
            }
        };
        let null = match (&statement.null, csv) {
            (Some(null), _) => null.clone().into_bytes(),
            (None, true) => Vec::new(),
            (None, false) => b"\\N".to_vec(),
        };
        Ok(CopyOut {
            csv,
            delimiter: statement.delimiter.unwrap_or(if csv { b',' } else { b'\t' }),
            null,
            quote: statement.quote.unwrap_or(b'"'),
            escape: statement.escape.or(statement.quote).unwrap_or(b'"'),
            force_quote,
            rows: 0,
        })
    }

    /// The line of column names.
    pub fn header(&self, columns: &[ColumnDescription], out: &mut BytesMut) {
        let start = message::begin(out, b'd');
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                out.put_u8(self.delimiter);
            }
            self.field(column.name.as_bytes(), false, columns.len() == 1, out);
        }
        out.put_u8(b'\n');
        message::end(out, start);
    }

    /// Turns whole DataRow messages into CopyData messages.
    pub fn convert(&mut self, rows: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        let damaged = || Error::internal("a row to be copied is damaged");
        let mut rest = rows;
        while !rest.is_empty() {
            let length = rest
                .get(1..5)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u32::from_be_bytes);
            let end = 1 + length.ok_or_else(damaged)? as usize;
            let mut row = rest.get(7..end).ok_or_else(damaged)?;
            let columns = u16::from_be_bytes([rest[5], rest[6]]);
            rest = &rest[end..];
            let start = message::begin(out, b'd');
            for column in 0..usize::from(columns) {
                if column > 0 {
                    out.put_u8(self.delimiter);
                }
                let (length, tail) = row.split_first_chunk::<4>().ok_or_else(damaged)?;
                row = tail;
                match usize::try_from(i32::from_be_bytes(*length)) {
                    Err(_) => out.put_slice(&self.null),
                    Ok(length) => {
                        let value = row.get(..length).ok_or_else(damaged)?;
                        row = &row[length..];
                        let forced = self.force_quote.get(column) == Some(&true);
                        self.field(value, forced, columns == 1, out);
                    }
                }
            }
            out.put_u8(b'\n');
            message::end(out, start);
            self.rows += 1;
        }
        Ok(())
    }

    fn field(&self, value: &[u8], forced: bool, alone: bool, out: &mut BytesMut) {
        if self.csv {
            self.csv_field(value, forced, alone, out);
        } else {
            self.text_field(value, out);
        }
    }

    fn csv_field(&self, value: &[u8], forced: bool, alone: bool, out: &mut BytesMut) {
        let special = |byte: &u8| [self.delimiter, self.quote, b'\n', b'\r'].contains(byte);
        // A lone `\.` would end the data for some readers.
        let quoted = forced || value == self.null || value.iter().any(special) || (alone && value == b"\\.");
        if !quoted {
            out.put_slice(value);
            return;
        }
        out.put_u8(self.quote);
        for &byte in value {
            if byte == self.quote || byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(self.quote);
    }

    fn text_field(&self, value: &[u8], out: &mut BytesMut) {
        let mut plain = 0;
        for (at, &byte) in value.iter().enumerate() {
            let letter = match byte {
                b'\\' => b'\\',
                8 => b'b',
                12 => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                11 => b'v',
                other if other == self.delimiter => other,
                _ => continue,
            };
            out.put_slice(&value[plain..at]);
            out.put_u8(b'\\');
            out.put_u8(letter);
            plain = at + 1;
        }
        out.put_slice(&value[plain..]);
    }
}
