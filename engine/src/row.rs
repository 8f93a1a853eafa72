//! Rows as bytes, and how to read one column of them without touching the rest.
//!
//! A row, all integers little-endian:
//!
//! | part | bytes |
//! |---|---|
//! | null bitmap | one bit a column, set = NULL, low bit first; unused bits zero |
//! | fixed area | every fixed-size column at its fixed offset; zeros when NULL |
//! | end offsets | u32 for each variable-size column: where its bytes end, counted from the row's start |
//! | variable area | the bytes of the variable-size columns in column order; none when NULL |
//!
//! Fixed sizes: bool 1, int2 2, int4 4, int8 8, float4 4, float8 8, date 4, time and timestamps 8, uuid 16,
//! numeric(p ≤ 18, s) 8 and numeric(p > 18, s) 16 (the mantissa at scale s), numeric 17 (scale, mantissa).
//!
//! Invariants: the encoding is canonical, so two rows of one layout hold the same values exactly when their bytes
//! are equal (floats by their bits). Bytes that come from disk are checked by `validate` once; the getters then
//! rely on it, and panic rather than read beyond the row when that was not done.

use crate::types::{DataType, Datum, NUMERIC_FREE_SCALE, NUMERIC_MAX_PRECISION, Numeric, Value};
use std::fmt;
use std::sync::Arc;

/// A row's bytes, shared by the version chain and its readers.
pub type Row = Arc<[u8]>;

/// The most bytes of one row. A larger one is refused (SQLSTATE 54000).
pub const MAX_ROW_BYTES: usize = 8 << 20;

/// The most columns of one table, as in PostgreSQL.
pub const MAX_COLUMNS: usize = 1600;

/// Precision up to which a numeric(p, s) is held in eight bytes.
const NARROW_PRECISION: u8 = 18;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowError {
    /// The row would have `bytes`, more than `MAX_ROW_BYTES`.
    TooLarge { bytes: usize },
    /// A numeric with more digits before the point than the column holds.
    NumericOverflow { column: usize, expected: DataType },
    /// A value of another type than the column's: a bug of the caller.
    WrongType { column: usize, expected: DataType },
    /// Not as many values as columns, or a column that does not exist: a bug of the caller.
    WrongColumn { found: usize, columns: usize },
    /// Bytes that are no row of this layout.
    Damaged { what: &'static str, offset: usize },
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::TooLarge { bytes } => {
                write!(f, "row is too big: {bytes} bytes, maximum size {MAX_ROW_BYTES}")
            }
            RowError::NumericOverflow { column, expected } => {
                write!(f, "numeric field overflow: column {column} of type {expected}")
            }
            RowError::WrongType { column, expected } => {
                write!(f, "column {column} was given a value that is no {expected}")
            }
            RowError::WrongColumn { found, columns } => {
                write!(f, "{found} values or columns given to a row of {columns}")
            }
            RowError::Damaged { what, offset } => write!(f, "damaged row: {what} at byte {offset}"),
        }
    }
}

impl std::error::Error for RowError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
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

impl Kind {
    fn of(ty: &DataType) -> Kind {
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
    fn fixed_bytes(self) -> Option<usize> {
        Some(match self {
            Kind::Bool => 1,
            Kind::Int2 => 2,
            Kind::Int4 | Kind::Float4 | Kind::Date => 4,
            Kind::Int8 | Kind::Float8 | Kind::Time | Kind::Timestamp | Kind::TimestampTz => 8,
            Kind::NumericNarrow { .. } => 8,
            Kind::NumericWide { .. } | Kind::Uuid => 16,
            Kind::NumericFree => 17,
            Kind::Text | Kind::Bytea | Kind::Jsonb => return None,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Column {
    kind: Kind,
    /// In the fixed area: the offset of the value. Else: the offset of the column's end offset.
    at: usize,
}

/// Where each column of a table stands in its rows. Computed once per store.
#[derive(Clone, Debug)]
pub struct RowLayout {
    types: Box<[DataType]>,
    columns: Box<[Column]>,
    /// Bytes of the null bitmap.
    bitmap: usize,
    /// Where the end offsets begin.
    ends: usize,
    /// Where the variable area begins: the size of a row whose variable columns are empty.
    head: usize,
}

impl RowLayout {
    pub fn new(types: &[DataType]) -> RowLayout {
        let bitmap = types.len().div_ceil(8);
        let mut columns: Vec<Column> = types
            .iter()
            .map(|ty| Column {
                kind: Kind::of(ty),
                at: 0,
            })
            .collect();
        let mut at = bitmap;
        for column in &mut columns {
            if let Some(bytes) = column.kind.fixed_bytes() {
                column.at = at;
                at += bytes;
            }
        }
        let ends = at;
        for column in &mut columns {
            if column.kind.fixed_bytes().is_none() {
                column.at = at;
                at += 4;
            }
        }
        RowLayout {
            types: types.into(),
            columns: columns.into(),
            bitmap,
            ends,
            head: at,
        }
    }

    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// A reader of `bytes`, which must be a valid row of this layout.
    #[inline]
    pub fn row<'a>(&'a self, bytes: &'a [u8]) -> RowRef<'a> {
        RowRef { layout: self, bytes }
    }

    pub fn encode(&self, values: &[Value]) -> Result<Vec<u8>, RowError> {
        self.check_count(values.len())?;
        let mut out = Vec::with_capacity(self.head + 32);
        self.encode_with(&mut out, |column| values[column].as_datum())?;
        Ok(out)
    }

    pub fn encode_datums(&self, values: &[Datum<'_>]) -> Result<Vec<u8>, RowError> {
        self.check_count(values.len())?;
        let mut out = Vec::with_capacity(self.head + 32);
        self.encode_with(&mut out, |column| values[column])?;
        Ok(out)
    }

    /// The row of `value(column)` for every column. `buffer` lends its memory, so that the row is allocated once and exactly.
    pub fn encode_row<'d>(
        &self,
        buffer: &mut Vec<u8>,
        value: impl Fn(usize) -> Datum<'d>,
    ) -> Result<Row, RowError> {
        buffer.clear();
        self.encode_with(buffer, value)?;
        Ok(Row::from(&buffer[..]))
    }

    fn check_count(&self, found: usize) -> Result<(), RowError> {
        if found == self.columns.len() {
            Ok(())
        } else {
            Err(RowError::WrongColumn {
                found,
                columns: self.columns.len(),
            })
        }
    }

    /// Into an empty vector.
    fn encode_with<'d>(&self, out: &mut Vec<u8>, value: impl Fn(usize) -> Datum<'d>) -> Result<(), RowError> {
        out.resize(self.head, 0);
        for (index, column) in self.columns.iter().enumerate() {
            let datum = value(index);
            if datum.is_null() {
                set_bit(out, index);
                self.end_variable(column, out)?;
            } else if column.kind.fixed_bytes().is_some() {
                self.put_fixed(index, &datum, out)?;
            } else {
                out.extend_from_slice(self.variable_bytes(index, &datum)?);
                self.end_variable(column, out)?;
            }
        }
        Ok(())
    }

    /// Notes that the variable column ends where `out` now ends.
    fn end_variable(&self, column: &Column, out: &mut [u8]) -> Result<(), RowError> {
        if out.len() > MAX_ROW_BYTES {
            return Err(RowError::TooLarge { bytes: out.len() });
        }
        if column.kind.fixed_bytes().is_none() {
            let end = (out.len() as u32).to_le_bytes();
            out[column.at..column.at + 4].copy_from_slice(&end);
        }
        Ok(())
    }

    fn wrong_type(&self, column: usize) -> RowError {
        RowError::WrongType {
            column,
            expected: self.types[column],
        }
    }

    fn overflow(&self, column: usize) -> RowError {
        RowError::NumericOverflow {
            column,
            expected: self.types[column],
        }
    }

    fn variable_bytes<'d>(&self, index: usize, datum: &Datum<'d>) -> Result<&'d [u8], RowError> {
        match (self.columns[index].kind, datum) {
            (Kind::Text, Datum::Text(text)) | (Kind::Jsonb, Datum::Jsonb(text)) => Ok(text.as_bytes()),
            (Kind::Bytea, Datum::Bytea(bytes)) => Ok(bytes),
            _ => Err(self.wrong_type(index)),
        }
    }

    fn put_fixed(&self, index: usize, datum: &Datum<'_>, row: &mut [u8]) -> Result<(), RowError> {
        let column = &self.columns[index];
        let mut put = |bytes: &[u8]| row[column.at..column.at + bytes.len()].copy_from_slice(bytes);
        match (column.kind, datum) {
            (Kind::Bool, Datum::Bool(v)) => put(&[u8::from(*v)]),
            (Kind::Int2, Datum::Int2(v)) => put(&v.to_le_bytes()),
            (Kind::Int4, Datum::Int4(v)) | (Kind::Date, Datum::Date(v)) => put(&v.to_le_bytes()),
            (Kind::Int8, Datum::Int8(v))
            | (Kind::Time, Datum::Time(v))
            | (Kind::Timestamp, Datum::Timestamp(v))
            | (Kind::TimestampTz, Datum::TimestampTz(v)) => put(&v.to_le_bytes()),
            (Kind::Float4, Datum::Float4(v)) => put(&v.to_le_bytes()),
            (Kind::Float8, Datum::Float8(v)) => put(&v.to_le_bytes()),
            (Kind::Uuid, Datum::Uuid(v)) => put(v),
            (Kind::NumericNarrow { scale }, Datum::Numeric(v)) => {
                let fitted = v
                    .rescale(scale)
                    .ok()
                    .and_then(|v| i64::try_from(v.mantissa()).ok());
                put(&fitted.ok_or_else(|| self.overflow(index))?.to_le_bytes());
            }
            (Kind::NumericWide { scale }, Datum::Numeric(v)) => {
                let fitted = v.rescale(scale).map_err(|_| self.overflow(index))?;
                put(&fitted.mantissa().to_le_bytes());
            }
            (Kind::NumericFree, Datum::Numeric(v)) => {
                let fitted = v.fit_free().map_err(|_| self.overflow(index))?;
                let mut bytes = [0; 17];
                bytes[0] = fitted.scale();
                bytes[1..].copy_from_slice(&fitted.mantissa().to_le_bytes());
                put(&bytes);
            }
            _ => return Err(self.wrong_type(index)),
        }
        Ok(())
    }

    /// The row `old` with `changes` (column, new value) made, without decoding what stays as it is.
    pub fn update(&self, old: &[u8], changes: &[(usize, Datum<'_>)]) -> Result<Vec<u8>, RowError> {
        if let Some((found, _)) = changes.iter().find(|(column, _)| *column >= self.columns.len()) {
            return Err(RowError::WrongColumn {
                found: *found,
                columns: self.columns.len(),
            });
        }
        let mut out = Vec::with_capacity(old.len());
        out.extend_from_slice(old);
        let mut variable = false;
        for (index, datum) in changes {
            match self.columns[*index].kind.fixed_bytes() {
                None => variable = true,
                Some(bytes) if datum.is_null() => {
                    let at = self.columns[*index].at;
                    out[at..at + bytes].fill(0);
                    set_bit(&mut out, *index);
                }
                Some(_) => {
                    clear_bit(&mut out, *index);
                    self.put_fixed(*index, datum, &mut out)?;
                }
            }
        }
        if variable {
            self.update_variable(old, changes, &mut out)?;
        }
        Ok(out)
    }

    fn update_variable(
        &self,
        old: &[u8],
        changes: &[(usize, Datum<'_>)],
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        out.truncate(self.head);
        let mut start = self.head;
        for (index, column) in self.columns.iter().enumerate() {
            if column.kind.fixed_bytes().is_some() {
                continue;
            }
            let end = read_u32(old, column.at) as usize;
            match changes.iter().rfind(|(changed, _)| *changed == index) {
                None => out.extend_from_slice(&old[start..end]),
                Some((_, Datum::Null)) => set_bit(out, index),
                Some((_, datum)) => {
                    clear_bit(out, index);
                    out.extend_from_slice(self.variable_bytes(index, datum)?);
                }
            }
            self.end_variable(column, out)?;
            start = end;
        }
        Ok(())
    }

    /// Checks that `bytes` are a row of this layout, so that every getter will do. For bytes from disk.
    pub fn validate(&self, bytes: &[u8]) -> Result<(), RowError> {
        let damaged = |what, offset| Err(RowError::Damaged { what, offset });
        if bytes.len() < self.head {
            return damaged("too short", bytes.len());
        }
        if bytes.len() > MAX_ROW_BYTES {
            return damaged("too long", bytes.len());
        }
        let used = self.columns.len() % 8;
        if used != 0 && bytes[self.bitmap - 1] >> used != 0 {
            return damaged("null bits of columns that do not exist", self.bitmap - 1);
        }
        let mut start = self.head;
        for (index, column) in self.columns.iter().enumerate() {
            let null = bit(bytes, index);
            let Some(size) = column.kind.fixed_bytes() else {
                let end = read_u32(bytes, column.at) as usize;
                let Some(content) = bytes.get(start..end) else {
                    return damaged("end offset out of place", column.at);
                };
                if null && !content.is_empty() {
                    return damaged("content of a null column", start);
                }
                if column.kind != Kind::Bytea && std::str::from_utf8(content).is_err() {
                    return damaged("invalid UTF-8", start);
                }
                start = end;
                continue;
            };
            let content = &bytes[column.at..column.at + size];
            let valid = match column.kind {
                _ if null => content.iter().all(|byte| *byte == 0),
                Kind::Bool => content[0] <= 1,
                Kind::NumericNarrow { scale } => {
                    Numeric::new(i128::from(read_i64(bytes, column.at)), scale).is_ok()
                }
                Kind::NumericWide { scale } => Numeric::new(read_i128(bytes, column.at), scale).is_ok(),
                Kind::NumericFree => {
                    // As many digits before the point as its column, and its copy in the mirror, have room for.
                    content[0] <= NUMERIC_FREE_SCALE
                        && Numeric::new(read_i128(bytes, column.at + 1), content[0])
                            .is_ok_and(|number| number.rescale(NUMERIC_FREE_SCALE).is_ok())
                }
                _ => true,
            };
            if !valid {
                return damaged("value out of range", column.at);
            }
        }
        if start != bytes.len() {
            damaged("bytes after the last column", start)
        } else {
            Ok(())
        }
    }

    /// What must be known beside the row `new` to get `old` back: the columns that differ, as they were.
    ///
    /// A bitmap of the columns that differ; a bitmap of those of them that were NULL; then for each other one in
    /// column order its bytes in `old`, preceded by a u32 length when of variable size.
    pub fn encode_before(&self, old: &[u8], new: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 * self.bitmap + 16);
        out.resize(2 * self.bitmap, 0);
        let (old_row, new_row) = (self.row(old), self.row(new));
        for (index, column) in self.columns.iter().enumerate() {
            let null = bit(old, index);
            // Words are compared as such: a call to compare four bytes costs more than all else here.
            let same = match column.kind.fixed_bytes() {
                Some(4) => read_u32(old, column.at) == read_u32(new, column.at),
                Some(8) => read_i64(old, column.at) == read_i64(new, column.at),
                _ => old_row.raw(column) == new_row.raw(column),
            };
            if same && null == bit(new, index) {
                continue;
            }
            let before = old_row.raw(column);
            set_bit(&mut out, index);
            if null {
                set_bit(&mut out[self.bitmap..], index);
                continue;
            }
            if column.kind.fixed_bytes().is_none() {
                out.extend_from_slice(&(before.len() as u32).to_le_bytes());
            }
            out.extend_from_slice(before);
        }
        out
    }

    /// Reads what `encode_before` wrote: (column, value before). Hostile bytes are refused.
    pub fn decode_before<'a>(&self, before: &'a [u8]) -> Result<Vec<(usize, Datum<'a>)>, RowError> {
        let mut at = 2 * self.bitmap;
        if before.len() < at {
            return Err(RowError::Damaged {
                what: "before-image too short",
                offset: before.len(),
            });
        }
        let mut columns = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            if !bit(before, index) {
                continue;
            }
            if bit(&before[self.bitmap..], index) {
                columns.push((index, Datum::Null));
                continue;
            }
            let size = match column.kind.fixed_bytes() {
                Some(bytes) => bytes,
                None if before.len() - at >= 4 => {
                    at += 4;
                    read_u32(before, at - 4) as usize
                }
                None => {
                    return Err(RowError::Damaged {
                        what: "before-image cut",
                        offset: at,
                    });
                }
            };
            if before.len() - at < size {
                return Err(RowError::Damaged {
                    what: "before-image cut",
                    offset: at,
                });
            }
            let content = &before[at..at + size];
            let datum = decode(column.kind, content).ok_or(RowError::Damaged {
                what: "before-image",
                offset: at,
            })?;
            columns.push((index, datum));
            at += size;
        }
        if at != before.len() {
            return Err(RowError::Damaged {
                what: "bytes after the before-image",
                offset: at,
            });
        }
        Ok(columns)
    }
}

/// A row that is read column by column.
#[derive(Clone, Copy)]
pub struct RowRef<'a> {
    layout: &'a RowLayout,
    bytes: &'a [u8],
}

impl<'a> RowRef<'a> {
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn layout(&self) -> &'a RowLayout {
        self.layout
    }

    #[inline]
    pub fn is_null(&self, column: usize) -> bool {
        bit(self.bytes, column)
    }

    #[inline]
    pub fn get(&self, column: usize) -> Datum<'a> {
        if bit(self.bytes, column) {
            return Datum::Null;
        }
        let column = &self.layout.columns[column];
        match column.kind {
            Kind::Int4 => Datum::Int4(read_i32(self.bytes, column.at)),
            Kind::Int8 => Datum::Int8(read_i64(self.bytes, column.at)),
            kind => decode(kind, self.raw(column)).expect("rows are validated before they are read"),
        }
    }

    pub fn values(&self) -> Vec<Value> {
        (0..self.layout.columns.len())
            .map(|column| self.get(column).to_value())
            .collect()
    }

    pub fn validate(&self) -> Result<(), RowError> {
        self.layout.validate(self.bytes)
    }

    #[inline]
    fn raw(&self, column: &Column) -> &'a [u8] {
        if let Some(bytes) = column.kind.fixed_bytes() {
            return &self.bytes[column.at..column.at + bytes];
        }
        let end = read_u32(self.bytes, column.at) as usize;
        let start = if column.at == self.layout.ends {
            self.layout.head
        } else {
            read_u32(self.bytes, column.at - 4) as usize
        };
        &self.bytes[start..end]
    }
}

impl fmt::Debug for RowRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..self.layout.columns.len()).map(|column| self.get(column)))
            .finish()
    }
}

/// A value from its bytes, of the size that its kind has; `None` when they are no such value.
#[inline]
fn decode(kind: Kind, bytes: &[u8]) -> Option<Datum<'_>> {
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
fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

#[inline]
fn read_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(array(bytes, at))
}

#[inline]
fn read_i64(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array(bytes, at))
}

#[inline]
fn read_i128(bytes: &[u8], at: usize) -> i128 {
    i128::from_le_bytes(array(bytes, at))
}

#[inline]
fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap[index / 8] >> (index % 8) & 1 != 0
}

fn set_bit(bitmap: &mut [u8], index: usize) {
    bitmap[index / 8] |= 1 << (index % 8);
}

fn clear_bit(bitmap: &mut [u8], index: usize) {
    bitmap[index / 8] &= !(1 << (index % 8));
}

const _: () = assert!(NARROW_PRECISION < NUMERIC_MAX_PRECISION);
const _: () = assert!(MAX_ROW_BYTES < u32::MAX as usize, "end offsets are u32");

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
