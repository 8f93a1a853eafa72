//! A query's result in JSON: `{"columns": [{"name", "type"}, …], "rows": [[…], …]}`.
//!
//! Numbers are written with all their digits, whatever a reader makes of them; what JSON has no number for (NaN, Infinity) is
//! a string. jsonb is itself, boolean is true or false, everything else is the text that psql shows.

use super::rows::{Row, Sink};
use scry_sql::error::SqlState;
use scry_sql::types::{self, oids};
use scry_sql::{ColumnDescription, Error};

/// What an answer may take: a page of a report, not a table.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Json,
    Text,
}

/// Collects a result.
#[derive(Debug, Default)]
pub struct Answer {
    text: Vec<u8>,
    kinds: Vec<Kind>,
    rows: usize,
}

impl Answer {
    /// The whole, as text.
    pub fn finish(mut self) -> Vec<u8> {
        self.text.extend_from_slice(b"]}");
        self.text
    }

    fn string(&mut self, text: &str) {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut self.text, text);
    }

    fn value(&mut self, kind: Kind, value: &[u8]) {
        match kind {
            Kind::Boolean => self
                .text
                .extend_from_slice(if value == b"t" { b"true" } else { b"false" }),
            Kind::Number if is_finite(value) => self.text.extend_from_slice(value),
            Kind::Json => self.text.extend_from_slice(value),
            Kind::Number | Kind::Text => self.string(&String::from_utf8_lossy(value)),
        }
    }
}

/// NaN and the infinities begin with a letter, behind the sign.
fn is_finite(number: &[u8]) -> bool {
    number.last().is_some_and(u8::is_ascii_digit)
}

impl Sink for Answer {
    fn columns(&mut self, columns: &[ColumnDescription]) -> Result<(), Error> {
        self.text.extend_from_slice(b"{\"columns\":[");
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                self.text.push(b',');
            }
            let ty = types::from_oid(column.type_oid, column.type_mod);
            self.text.extend_from_slice(b"{\"name\":");
            self.string(&column.name);
            self.text.extend_from_slice(b",\"type\":");
            self.string(&ty.map_or_else(|| "text".to_owned(), |ty| ty.to_string()));
            self.text.push(b'}');
            self.kinds.push(match column.type_oid {
                oids::BOOL => Kind::Boolean,
                oids::INT2 | oids::INT4 | oids::INT8 | oids::FLOAT4 | oids::FLOAT8 | oids::NUMERIC => {
                    Kind::Number
                }
                oids::JSONB => Kind::Json,
                _ => Kind::Text,
            });
        }
        self.text.extend_from_slice(b"],\"rows\":[");
        Ok(())
    }

    fn row(&mut self, row: &Row) -> Result<(), Error> {
        self.text
            .extend_from_slice(if self.rows > 0 { b",[" } else { b"[" });
        self.rows += 1;
        for (index, value) in row.iter().enumerate() {
            if index > 0 {
                self.text.push(b',');
            }
            match value {
                None => self.text.extend_from_slice(b"null"),
                Some(value) => self.value(self.kinds.get(index).copied().unwrap_or(Kind::Text), value),
            }
        }
        self.text.push(b']');
        if self.text.len() > ANSWER_BYTES_MAX {
            let text = format!("the answer is longer than {} MiB", ANSWER_BYTES_MAX >> 20);
            let error = Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text);
            return Err(error
                .with_hint("Use LIMIT, or accept application/vnd.apache.arrow.stream, which has no bound."));
        }
        Ok(())
    }
}
