//! PostgreSQL's types at the edge: object ids, and the text and binary formats of every value, both ways.
//!
//! Formats are those of PostgreSQL 15 with `DateStyle` ISO, `extra_float_digits` at its default and `bytea_output`
//! hex. Writers append to the caller's buffer without temporary strings; readers treat their input as hostile and
//! answer with PostgreSQL's SQLSTATE and wording.
//!
//! What differs from PostgreSQL, by design: numeric holds 38 digits and no NaN; dates and timestamps span the
//! years 1 to 262142 and have no infinity; jsonb is text normalised as PostgreSQL prints it.

mod binary;
mod catalog;
mod composite;
pub mod datetime;
mod datetime_parse;
mod float;
mod json;
mod modifier;
mod text_in;
mod text_out;
mod timezone;

pub use binary::{parse_binary, write_binary};
pub use catalog::{from_oid, internal_name, oid, oids, type_length, type_modifier};
pub use composite::write_composite;
pub use modifier::{coerce_length, fit_numeric};
pub use text_in::{check_text, parse_text, parse_text_bytes};
pub use text_out::{as_text, write_field, write_text};
pub use timezone::TimeZone;

/// A format code of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Binary,
}

impl Format {
    /// From the code in a protocol message; `None` when there is no such format.
    pub fn from_code(code: i16) -> Option<Format> {
        match code {
            0 => Some(Format::Text),
            1 => Some(Format::Binary),
            _ => None,
        }
    }

    pub fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}

/// What reading a date or timestamp depends on beside its text.
#[derive(Clone, Copy, Debug)]
pub struct InputContext<'a> {
    pub zone: &'a TimeZone,
    /// The start of the transaction in microseconds since 1970-01-01 UTC: what 'now' and 'today' mean.
    pub now: i64,
}

#[cfg(test)]
mod tests;
