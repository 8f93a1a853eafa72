//! How the values of each type stand in a row.

use super::NARROW_PRECISION;
use crate::types::{DataType, Datum, Numeric};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    NumericNarrow { scale: u8 },
    NumericWide { scale: u8 },
    NumericFree,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Text,
    Bytea,
    Jsonb,
}

/// Bytes of the widest fixed-size value.
pub(super) const WIDEST: usize = 17;

impl Kind {
    pub(super) fn of(ty: &DataType) -> Kind {
        match ty {
            DataType::Bool => Kind::Bool,
            DataType::Int2 => Kind::Int2,
            DataType::Int4 => Kind::Int4,
            DataType::Int8 => Kind::Int8,
            DataType::Float4 => Kind::Float4,
            DataType::Float8 => Kind::Float8,
            DataType::Numeric(Some((precision, scale))) if *precision <= NARROW_PRECISION => {
                Kind::NumericNarrow { scale: *scale }
            }
            DataType::Numeric(Some((_, scale))) => Kind::NumericWide { scale: *scale },
            DataType::Numeric(None) => Kind::NumericFree,
            DataType::Text | DataType::Varchar(_) | DataType::Char(_) => Kind::Text,
            DataType::Bytea => Kind::Bytea,
            DataType::Date => Kind::Date,
            DataType::Time => Kind::Time,
            DataType::Timestamp => Kind::Timestamp,
            DataType::TimestampTz => Kind::TimestampTz,
            DataType::Uuid => Kind::Uuid,
            DataType::Jsonb => Kind::Jsonb,
        }
    }

    /// Bytes in the fixed area; `None` for variable-size columns.
    pub(super) fn fixed_bytes(self) -> Option<usize> {
        Some(match self {
            Kind::Bool => 1,
            Kind::Int2 => 2,
            Kind::Int4 | Kind::Float4 | Kind::Date => 4,
            Kind::Int8 | Kind::Float8 | Kind::Time | Kind::Timestamp | Kind::TimestampTz => 8,
            Kind::NumericNarrow { .. } => 8,
            Kind::NumericWide { .. } | Kind::Uuid => 16,
            Kind::NumericFree => WIDEST,
            Kind::Text | Kind::Bytea | Kind::Jsonb => return None,
        })
    }
}

/// A value from its bytes, of the size that its kind has; `None` when they are no such value.
#[inline]
pub(super) fn decode(kind: Kind, bytes: &[u8]) -> Option<Datum<'_>> {
    Some(match kind {
        Kind::Bool => Datum::Bool(match bytes[0] {
            0 => false,
            1 => true,
            _ => return None,
        }),
        Kind::Int2 => Datum::Int2(i16::from_le_bytes([bytes[0], bytes[1]])),
        Kind::Int4 => Datum::Int4(read_i32(bytes, 0)),
        Kind::Int8 => Datum::Int8(read_i64(bytes, 0)),
        Kind::Float4 => Datum::Float4(f32::from_bits(read_u32(bytes, 0))),
        Kind::Float8 => Datum::Float8(f64::from_bits(read_i64(bytes, 0) as u64)),
        Kind::Date => Datum::Date(read_i32(bytes, 0)),
        Kind::Time => Datum::Time(read_i64(bytes, 0)),
        Kind::Timestamp => Datum::Timestamp(read_i64(bytes, 0)),
        Kind::TimestampTz => Datum::TimestampTz(read_i64(bytes, 0)),
        Kind::Uuid => Datum::Uuid(array(bytes, 0)),
        Kind::NumericNarrow { scale } => {
            Datum::Numeric(Numeric::new(i128::from(read_i64(bytes, 0)), scale).ok()?)
        }
        Kind::NumericWide { scale } => Datum::Numeric(Numeric::new(read_i128(bytes, 0), scale).ok()?),
        Kind::NumericFree => Datum::Numeric(Numeric::new(read_i128(bytes, 1), bytes[0]).ok()?),
        Kind::Text => Datum::Text(std::str::from_utf8(bytes).ok()?),
        Kind::Jsonb => Datum::Jsonb(std::str::from_utf8(bytes).ok()?),
        Kind::Bytea => Datum::Bytea(bytes),
    })
}

#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[inline]
pub(super) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

#[inline]
pub(super) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

#[inline]
pub(super) fn read_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(array(bytes, at))
}

#[inline]
pub(super) fn read_i64(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array(bytes, at))
}

#[inline]
pub(super) fn read_i128(bytes: &[u8], at: usize) -> i128 {
    i128::from_le_bytes(array(bytes, at))
}
