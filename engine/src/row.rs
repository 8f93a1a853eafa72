//! Rows as bytes, and how to read one column of them without touching the rest.
//!
//! A row, all integers little-endian:
//!
//! | part | bytes |
//! |---|---|
//! | head | u16: where the variable area begins, which also says how many columns the row has |
//! | columns | each in its order: a fixed-size one its value, zeros when NULL; a variable-size one u32, where its bytes end, counted from the row's start. Before every eighth, from the first on: a byte with one bit for each of the eight, set = NULL, low bit first; unused bits zero |
//! | variable area | the bytes of the variable-size columns in column order; none when NULL |
//!
//! Fixed sizes: bool 1, int2 2, int4 4, int8 8, float4 4, float8 8, date 4, time and timestamps 8, uuid 16,
//! numeric(p ≤ 18, s) 8 and numeric(p > 18, s) 16 (the mantissa at scale s), numeric 17 (scale, mantissa).
//!
//! A column stands at one place, however many come behind it. So a layout reads rows that have only its first columns, as those
//! that were written before a column was added do: what they lack is the column's *missing value*. It reads the columns that it
//! has of rows that have more, too.
//!
//! Invariants: the encoding is canonical, so two rows with equally many columns hold the same values exactly when their bytes
//! are equal (floats by their bits). Bytes that come from disk are checked by `validate` once; the getters then
//! rely on it, and panic rather than read beyond the row when that was not done.

mod before;
mod kind;
mod reader;
mod validate;

use crate::catalog::ColumnDef;
use crate::types::{DataType, Datum, NUMERIC_MAX_PRECISION, Value};
use kind::{Kind, read_u16};
pub use reader::RowRef;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A row's bytes, shared by the version chain and its readers.
pub type Row = Arc<[u8]>;

/// The most bytes of one row. A larger one is refused (SQLSTATE 54000).
pub const MAX_ROW_BYTES: usize = 8 << 20;

/// The most columns of one table, as in PostgreSQL.
pub const MAX_COLUMNS: usize = 1600;

/// The most bytes of what old rows have in an added column, as a row of this column alone: a mirror has it in every row that it
/// merges with others.
pub const MISSING_BYTES_MAX: usize = 1 << 10;

/// Bytes of the head.
const HEAD_BYTES: usize = 2;

/// Columns whose null bits are in one byte.
const GROUP: usize = 8;

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

#[derive(Clone, Copy, Debug)]
struct Column {
    kind: Kind,
    /// Its bit in the byte at `null_at`.
    null_bit: u8,
    null_at: u32,
    /// Where its value stands, or its end offset.
    at: u32,
    /// Of a variable-size column: where the end offset of the one before it stands; 0 when it is the first.
    before: u32,
}

impl Column {
    #[inline]
    fn at(&self) -> usize {
        self.at as usize
    }

    fn is_variable(&self) -> bool {
        self.kind.fixed_bytes().is_none()
    }

    /// Bytes between the head and the variable area.
    fn width(&self) -> usize {
        self.kind.fixed_bytes().unwrap_or(END_BYTES)
    }

    #[inline]
    fn is_null(&self, row: &[u8]) -> bool {
        row[self.null_at as usize] & self.null_bit != 0
    }

    fn set_null(&self, row: &mut [u8], null: bool) {
        let byte = &mut row[self.null_at as usize];
        *byte = if null {
            *byte | self.null_bit
        } else {
            *byte & !self.null_bit
        };
    }
}

/// Bytes of an end offset.
const END_BYTES: usize = 4;

/// Where the variable area of a row begins.
#[inline]
fn head_of(row: &[u8]) -> usize {
    usize::from(read_u16(row, 0))
}

/// Where each column of a table stands in its rows. Computed once for each definition.
#[derive(Clone, Debug)]
pub struct RowLayout {
    types: Box<[DataType]>,
    columns: Box<[Column]>,
    /// How many columns every row has.
    first: usize,
    /// A row with the missing values of the others, and NULL in the first.
    missing: Box<[u8]>,
    /// Where the variable area of a row with all columns begins.
    head: usize,
}

impl RowLayout {
    /// Of rows that all have these columns.
    pub fn new(types: &[DataType]) -> RowLayout {
        RowLayout::with_missing(types, &[])
    }

    /// Of the rows of a table with these columns.
    ///
    /// # Panics
    /// When a missing value is not of its column, or all of them are more than a row: a definition that was never checked.
    pub fn of(columns: &[ColumnDef]) -> RowLayout {
        let types: Vec<DataType> = columns.iter().map(|column| column.ty).collect();
        let missing: Vec<&Value> = columns
            .iter()
            .filter_map(|column| column.missing.as_ref())
            .collect();
        RowLayout::with_missing(&types, &missing)
    }

    /// Rows may lack the last columns, for which `missing` has the values.
    fn with_missing(types: &[DataType], missing: &[&Value]) -> RowLayout {
        let mut at = HEAD_BYTES;
        let (mut null_at, mut before) = (0, 0);
        let column = |(index, ty)| {
            if index % GROUP == 0 {
                null_at = at as u32;
                at += 1;
            }
            let mut column = Column {
                kind: Kind::of(ty),
                null_bit: 1u8 << (index % GROUP),
                null_at,
                at: at as u32,
                before: 0,
            };
            at += column.width();
            if column.is_variable() {
                column.before = std::mem::replace(&mut before, column.at);
            }
            column
        };
        let columns = types.iter().enumerate().map(column).collect();
        let mut layout = RowLayout {
            types: types.into(),
            columns,
            first: types.len() - missing.len(),
            missing: Box::default(),
            head: at,
        };
        if !missing.is_empty() {
            let mut row = Vec::new();
            let value = |column: usize| match column.checked_sub(layout.first) {
                Some(added) => missing[added].as_datum(),
                None => Datum::Null,
            };
            layout
                .encode_with(&mut row, value)
                .expect("missing values are checked with the definition");
            layout.missing = row.into();
        }
        layout
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
        RowRef::new(self, bytes)
    }

    /// The row with exactly the columns of this layout.
    fn shaped<'r>(&self, row: &'r [u8]) -> Result<Cow<'r, [u8]>, RowError> {
        if head_of(row) == self.head {
            return Ok(Cow::Borrowed(row));
        }
        let read = self.row(row);
        let mut shaped = Vec::with_capacity(row.len() + self.head);
        self.encode_with(&mut shaped, |column| read.get(column))?;
        Ok(Cow::Owned(shaped))
    }

    /// Whether two rows hold the same values, whichever columns they lack.
    pub fn same(&self, a: &[u8], b: &[u8]) -> bool {
        let agree = |(a, b): (Cow<'_, [u8]>, Cow<'_, [u8]>)| a == b;
        a == b || self.shaped(a).ok().zip(self.shaped(b).ok()).is_some_and(agree)
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
        let head = u16::try_from(self.head).expect("a table has at most MAX_COLUMNS");
        out[..HEAD_BYTES].copy_from_slice(&head.to_le_bytes());
        for (index, column) in self.columns.iter().enumerate() {
            let datum = value(index);
            if datum.is_null() {
                column.set_null(out, true);
            } else if column.is_variable() {
                out.extend_from_slice(self.variable_bytes(index, &datum)?);
            } else {
                self.put_fixed(index, &datum, out)?;
            }
            end_variable(column, out)?;
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
        let mut put = |bytes: &[u8]| row[column.at()..column.at() + bytes.len()].copy_from_slice(bytes);
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

    /// The row `old` with `changes` (column, new value) made, and with all columns; what stays as it is is not decoded.
    pub fn update(&self, old: &[u8], changes: &[(usize, Datum<'_>)]) -> Result<Vec<u8>, RowError> {
        if let Some((found, _)) = changes.iter().find(|(column, _)| *column >= self.columns.len()) {
            return Err(RowError::WrongColumn {
                found: *found,
                columns: self.columns.len(),
            });
        }
        let old = &*self.shaped(old)?;
        let mut out = Vec::with_capacity(old.len());
        out.extend_from_slice(old);
        let mut variable = false;
        for (index, datum) in changes {
            let column = &self.columns[*index];
            match column.kind.fixed_bytes() {
                None => variable = true,
                Some(bytes) if datum.is_null() => {
                    out[column.at()..column.at() + bytes].fill(0);
                    column.set_null(&mut out, true);
                }
                Some(_) => {
                    column.set_null(&mut out, false);
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
        for (index, column) in self.columns.iter().enumerate() {
            if !column.is_variable() {
                continue;
            }
            match changes.iter().rfind(|(changed, _)| *changed == index) {
                None => out.extend_from_slice(reader::raw(old, column)),
                Some((_, Datum::Null)) => column.set_null(out, true),
                Some((_, datum)) => {
                    column.set_null(out, false);
                    out.extend_from_slice(self.variable_bytes(index, datum)?);
                }
            }
            end_variable(column, out)?;
        }
        Ok(())
    }
}

/// Behind the bytes of a column: notes that a variable-size one ends where the row now ends.
fn end_variable(column: &Column, out: &mut [u8]) -> Result<(), RowError> {
    if out.len() > MAX_ROW_BYTES {
        return Err(RowError::TooLarge { bytes: out.len() });
    }
    if column.is_variable() {
        let end = (out.len() as u32).to_le_bytes();
        out[column.at()..column.at() + END_BYTES].copy_from_slice(&end);
    }
    Ok(())
}

const _: () = assert!(NARROW_PRECISION < NUMERIC_MAX_PRECISION);
const _: () = assert!(
    MISSING_BYTES_MAX * MAX_COLUMNS <= MAX_ROW_BYTES,
    "missing values are a row"
);
const _: () = assert!(MAX_ROW_BYTES < u32::MAX as usize, "end offsets are u32");
const _: () = assert!(
    HEAD_BYTES + MAX_COLUMNS.div_ceil(GROUP) + MAX_COLUMNS * kind::WIDEST <= u16::MAX as usize,
    "the head is u16"
);

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
