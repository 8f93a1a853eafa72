//! Column types: their names as PostgreSQL prints them, and their stable encoding in catalog records.

use std::fmt;

/// The most digits a numeric can hold, before and after the point together.
pub const NUMERIC_MAX_PRECISION: u8 = 38;

/// Digits after the point that a column of type `numeric` without precision keeps.
pub const NUMERIC_FREE_SCALE: u8 = 18;

/// PostgreSQL's bound of n in `varchar(n)` and `char(n)`.
pub const MAX_CHARACTER_LENGTH: u32 = 10_485_760;

/// The type of a column. Lengths count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// (precision, scale); without them, as many as 20 digits before and 18 after the point.
    Numeric(Option<(u8, u8)>),
    Text,
    Varchar(Option<u32>),
    /// `char(n)`, blank-padded on output only.
    Char(u32),
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Jsonb,
}

impl DataType {
    /// Bytes of `encode`'s output.
    pub const ENCODED_BYTES: usize = 5;

    /// Text, varchar and char: everything that a `Datum::Text` can stand in.
    pub fn is_text(&self) -> bool {
        matches!(self, DataType::Text | DataType::Varchar(_) | DataType::Char(_))
    }

    pub fn is_integer(&self) -> bool {
        matches!(self, DataType::Int2 | DataType::Int4 | DataType::Int8)
    }

    pub fn is_float(&self) -> bool {
        matches!(self, DataType::Float4 | DataType::Float8)
    }

    /// Integers, floats and numeric.
    pub fn is_number(&self) -> bool {
        self.is_integer() || self.is_float() || matches!(self, DataType::Numeric(_))
    }

    /// The same type without length, precision and scale, as the results of operators have it. `char(n)`
    /// becomes `text`, as PostgreSQL's text operators make it.
    pub fn without_modifier(&self) -> DataType {
        match self {
            DataType::Numeric(_) => DataType::Numeric(None),
            DataType::Varchar(_) => DataType::Varchar(None),
            DataType::Char(_) => DataType::Text,
            other => *other,
        }
    }

    /// Appends the stable encoding: a tag and four bytes of modifier.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (tag, modifier): (u8, u32) = match self {
            DataType::Bool => (1, 0),
            DataType::Int2 => (2, 0),
            DataType::Int4 => (3, 0),
            DataType::Int8 => (4, 0),
            DataType::Float4 => (5, 0),
            DataType::Float8 => (6, 0),
            DataType::Numeric(None) => (7, 0),
            DataType::Numeric(Some((precision, scale))) => {
                (7, u32::from(*precision) << 8 | u32::from(*scale))
            }
            DataType::Text => (8, 0),
            DataType::Varchar(length) => (9, length.unwrap_or(0)),
            DataType::Char(length) => (10, *length),
            DataType::Bytea => (11, 0),
            DataType::Date => (12, 0),
            DataType::Time => (13, 0),
            DataType::Timestamp => (14, 0),
            DataType::TimestampTz => (15, 0),
            DataType::Uuid => (16, 0),
            DataType::Jsonb => (17, 0),
        };
        out.push(tag);
        out.extend_from_slice(&modifier.to_le_bytes());
    }

    /// Reads what `encode` wrote at the head of `bytes`; `None` when it is no such thing.
    pub fn decode(bytes: &[u8]) -> Option<DataType> {
        let encoded: [u8; Self::ENCODED_BYTES] = bytes.get(..Self::ENCODED_BYTES)?.try_into().ok()?;
        let modifier = u32::from_le_bytes([encoded[1], encoded[2], encoded[3], encoded[4]]);
        let ty = match encoded[0] {
            7 if modifier != 0 => {
                let precision = u8::try_from(modifier >> 8).ok()?;
                let scale = (modifier & 0xff) as u8;
                if precision == 0 || precision > NUMERIC_MAX_PRECISION || scale > precision {
                    return None;
                }
                return Some(DataType::Numeric(Some((precision, scale))));
            }
            9 if modifier != 0 => {
                return (modifier <= MAX_CHARACTER_LENGTH).then_some(DataType::Varchar(Some(modifier)));
            }
            10 => {
                let valid = modifier != 0 && modifier <= MAX_CHARACTER_LENGTH;
                return valid.then_some(DataType::Char(modifier));
            }
            1 => DataType::Bool,
            2 => DataType::Int2,
            3 => DataType::Int4,
            4 => DataType::Int8,
            5 => DataType::Float4,
            6 => DataType::Float8,
            7 => DataType::Numeric(None),
            8 => DataType::Text,
            9 => DataType::Varchar(None),
            11 => DataType::Bytea,
            12 => DataType::Date,
            13 => DataType::Time,
            14 => DataType::Timestamp,
            15 => DataType::TimestampTz,
            16 => DataType::Uuid,
            17 => DataType::Jsonb,
            _ => return None,
        };
        (modifier == 0).then_some(ty)
    }
}

impl fmt::Display for DataType {
    /// As PostgreSQL's `format_type` prints it: `character varying(20)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Bool => f.write_str("boolean"),
            DataType::Int2 => f.write_str("smallint"),
            DataType::Int4 => f.write_str("integer"),
            DataType::Int8 => f.write_str("bigint"),
            DataType::Float4 => f.write_str("real"),
            DataType::Float8 => f.write_str("double precision"),
            DataType::Numeric(None) => f.write_str("numeric"),
            DataType::Numeric(Some((precision, scale))) => write!(f, "numeric({precision},{scale})"),
            DataType::Text => f.write_str("text"),
            DataType::Varchar(None) => f.write_str("character varying"),
            DataType::Varchar(Some(length)) => write!(f, "character varying({length})"),
            DataType::Char(length) => write!(f, "character({length})"),
            DataType::Bytea => f.write_str("bytea"),
            DataType::Date => f.write_str("date"),
            DataType::Time => f.write_str("time without time zone"),
            DataType::Timestamp => f.write_str("timestamp without time zone"),
            DataType::TimestampTz => f.write_str("timestamp with time zone"),
            DataType::Uuid => f.write_str("uuid"),
            DataType::Jsonb => f.write_str("jsonb"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_survives_a_round_trip_and_hostile_bytes_are_refused() {
        let types = [
            DataType::Bool,
            DataType::Int8,
            DataType::Numeric(None),
            DataType::Numeric(Some((38, 0))),
            DataType::Numeric(Some((15, 2))),
            DataType::Varchar(None),
            DataType::Varchar(Some(20)),
            DataType::Char(84),
            DataType::Jsonb,
        ];
        for ty in types {
            let mut bytes = Vec::new();
            ty.encode(&mut bytes);
            assert_eq!(bytes.len(), DataType::ENCODED_BYTES);
            assert_eq!(DataType::decode(&bytes), Some(ty));
            assert_eq!(DataType::decode(&bytes[..4]), None);
        }
        assert_eq!(DataType::decode(&[0, 0, 0, 0, 0]), None);
        assert_eq!(DataType::decode(&[1, 1, 0, 0, 0]), None);
        assert_eq!(DataType::decode(&[7, 9, 8, 0, 0]), None, "scale beyond precision");
        assert_eq!(DataType::decode(&[10, 0, 0, 0, 0]), None, "char(0)");
    }

    #[test]
    fn names_are_those_of_format_type() {
        assert_eq!(DataType::Varchar(Some(20)).to_string(), "character varying(20)");
        assert_eq!(DataType::Numeric(Some((15, 2))).to_string(), "numeric(15,2)");
        assert_eq!(DataType::TimestampTz.to_string(), "timestamp with time zone");
    }
}
