//! Reading a row column by column.

use super::kind::{Kind, decode, read_i32, read_i64, read_u32};
use super::{Column, RowError, RowLayout, head_of};
use crate::types::{Datum, Value};
use std::fmt;

/// A row that is read column by column.
#[derive(Clone, Copy)]
pub struct RowRef<'a> {
    layout: &'a RowLayout,
    bytes: &'a [u8],
}

impl<'a> RowRef<'a> {
    pub(super) fn new(layout: &'a RowLayout, bytes: &'a [u8]) -> RowRef<'a> {
        RowRef { layout, bytes }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn layout(&self) -> &'a RowLayout {
        self.layout
    }

    /// The row that has the column: this one, or that of the missing values.
    #[inline]
    pub(super) fn source(&self, column: usize) -> &'a [u8] {
        let lacks = column >= self.layout.first && self.layout.columns[column].at() >= head_of(self.bytes);
        if lacks { &self.layout.missing } else { self.bytes }
    }

    #[inline]
    pub fn is_null(&self, column: usize) -> bool {
        self.layout.columns[column].is_null(self.source(column))
    }

    #[inline]
    pub fn get(&self, column: usize) -> Datum<'a> {
        let row = self.source(column);
        let column = &self.layout.columns[column];
        if column.is_null(row) {
            return Datum::Null;
        }
        match column.kind {
            Kind::Int4 => Datum::Int4(read_i32(row, column.at())),
            Kind::Int8 => Datum::Int8(read_i64(row, column.at())),
            kind => decode(kind, raw(row, column)).expect("rows are validated before they are read"),
        }
    }

    /// How many columns of the layout it has itself.
    pub fn width(&self) -> usize {
        let head = head_of(self.bytes);
        self.layout.columns.partition_point(|column| column.at() < head)
    }

    pub fn values(&self) -> Vec<Value> {
        (0..self.layout.columns.len())
            .map(|column| self.get(column).to_value())
            .collect()
    }

    pub fn validate(&self) -> Result<(), RowError> {
        self.layout.validate(self.bytes)
    }
}

/// The bytes of a column that `row` has.
#[inline]
pub(super) fn raw<'r>(row: &'r [u8], column: &Column) -> &'r [u8] {
    if let Some(bytes) = column.kind.fixed_bytes() {
        return &row[column.at()..column.at() + bytes];
    }
    let end = read_u32(row, column.at()) as usize;
    let start = match column.before as usize {
        0 => head_of(row),
        before => read_u32(row, before) as usize,
    };
    &row[start..end]
}

impl fmt::Debug for RowRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..self.layout.columns.len()).map(|column| self.get(column)))
            .finish()
    }
}
