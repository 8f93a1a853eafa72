//! Engine rows appended straight into Arrow columns, without an owned value in between.
//!
//! Used by the extractors, by scans of the primary and by the overlay of a transaction's own writes, so that a row
//! looks the same whichever way it came.

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use scry_engine::{DataType, Datum, RowLayout, RowRef};
use std::sync::Arc;

use crate::schema::{FREE_NUMERIC_SCALE, StoreSchema, arrow_type};

/// Why a row was refused: it does not fit the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowMismatch {
    /// The column, counted in the table; `None` when the row as a whole is malformed.
    pub column: Option<usize>,
    /// What is wrong.
    pub reason: &'static str,
}

impl std::fmt::Display for RowMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.column {
            Some(column) => write!(f, "column {column}: {}", self.reason),
            None => f.write_str(self.reason),
        }
    }
}

impl std::error::Error for RowMismatch {}

/// Rows in the engine's format, becoming a `RecordBatch`.
#[derive(Debug)]
pub struct RowBatchBuilder {
    layout: Arc<RowLayout>,
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Column {
    source: usize,
    builder: Builder,
}

#[derive(Debug)]
enum Builder {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, u8),
    Text(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampTz(TimestampMicrosecondBuilder),
    Uuid(StringBuilder),
    Jsonb(StringBuilder),
}

impl RowBatchBuilder {
    /// A builder of all the columns of a store.
    #[must_use]
    pub fn new(schema: &StoreSchema) -> Self {
        let all: Vec<usize> = (0..schema.columns.len()).collect();
        Self::with_layout(
            schema.layout.clone(),
            schema.arrow.clone(),
            &types_of(schema),
            &all,
        )
    }

    /// A builder of some of the columns of a store, in the order given.
    ///
    /// # Errors
    /// When `projection` names a column that does not exist.
    pub fn projected(schema: &StoreSchema, projection: &[usize]) -> Result<Self, ArrowError> {
        let arrow = Arc::new(schema.arrow.project(projection)?);
        Ok(Self::with_layout(
            schema.layout.clone(),
            arrow,
            &types_of(schema),
            projection,
        ))
    }

    fn with_layout(
        layout: Arc<RowLayout>,
        schema: SchemaRef,
        types: &[DataType],
        projection: &[usize],
    ) -> Self {
        let columns = projection
            .iter()
            .zip(schema.fields())
            .map(|(&source, field)| Column {
                source,
                builder: Builder::new(types[source], field.data_type()),
            })
            .collect();
        Self {
            layout,
            schema,
            columns,
            rows: 0,
            bytes: 0,
        }
    }

    /// The schema of the batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows appended since the last `finish`.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Row bytes appended since the last `finish`; about the size of the batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a row that is known to be well formed.
    ///
    /// # Errors
    /// When a value is not of its column's type. The builder is then of no further use.
    pub fn push(&mut self, row: &[u8]) -> Result<(), RowMismatch> {
        let layout = Arc::clone(&self.layout);
        self.push_row(&layout.row(row), row.len())
    }

    /// Appends a row read from a file: checks its form first.
    ///
    /// # Errors
    /// When the row is malformed. The builder is then of no further use.
    pub fn push_checked(&mut self, row: &[u8]) -> Result<(), RowMismatch> {
        if self.layout.validate(row).is_err() {
            return Err(RowMismatch {
                column: None,
                reason: "malformed row",
            });
        }
        self.push(row)
    }

    fn push_row(&mut self, row: &RowRef<'_>, bytes: usize) -> Result<(), RowMismatch> {
        for column in &mut self.columns {
            column
                .builder
                .append(&row.get(column.source))
                .map_err(|reason| RowMismatch {
                    column: Some(column.source),
                    reason,
                })?;
        }
        self.rows += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// The rows appended so far as a batch; the builder is empty afterwards and can be used again.
    ///
    /// # Errors
    /// When a column that is declared not null holds a null.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = self
            .columns
            .iter_mut()
            .map(|column| column.builder.finish())
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        self.bytes = 0;
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

fn types_of(schema: &StoreSchema) -> Vec<DataType> {
    schema.columns.iter().map(|column| column.ty).collect()
}

/// A column that has one value in all of its rows.
pub(crate) fn constant(ty: DataType, value: &Datum<'_>, rows: usize) -> Result<ArrayRef, ArrowError> {
    let mut builder = Builder::new(ty, &arrow_type(ty));
    for _ in 0..rows {
        let appended = builder.append(value);
        appended.map_err(|reason| ArrowError::InvalidArgumentError(reason.to_owned()))?;
    }
    Ok(builder.finish())
}

const WRONG_TYPE: &str = "value is not of the column's type";

impl Builder {
    fn new(ty: DataType, arrow: &ArrowType) -> Self {
        match ty {
            DataType::Bool => Self::Bool(BooleanBuilder::with_capacity(0)),
            DataType::Int2 => Self::Int2(Int16Builder::with_capacity(0)),
            DataType::Int4 => Self::Int4(Int32Builder::with_capacity(0)),
            DataType::Int8 => Self::Int8(Int64Builder::with_capacity(0)),
            DataType::Float4 => Self::Float4(Float32Builder::with_capacity(0)),
            DataType::Float8 => Self::Float8(Float64Builder::with_capacity(0)),
            DataType::Numeric(declared) => {
                let scale = declared.map_or(FREE_NUMERIC_SCALE, |(_, scale)| scale);
                Self::Numeric(
                    Decimal128Builder::with_capacity(0).with_data_type(arrow.clone()),
                    scale,
                )
            }
            DataType::Text | DataType::Varchar(_) | DataType::Char(_) => {
                Self::Text(StringBuilder::with_capacity(0, 0))
            }
            DataType::Bytea => Self::Bytea(BinaryBuilder::with_capacity(0, 0)),
            DataType::Date => Self::Date(Date32Builder::with_capacity(0)),
            DataType::Time => Self::Time(Time64MicrosecondBuilder::with_capacity(0)),
            DataType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(0)),
            DataType::TimestampTz => {
                Self::TimestampTz(TimestampMicrosecondBuilder::with_capacity(0).with_data_type(arrow.clone()))
            }
            DataType::Uuid => Self::Uuid(StringBuilder::with_capacity(0, 0)),
            DataType::Jsonb => Self::Jsonb(StringBuilder::with_capacity(0, 0)),
        }
    }

    #[inline]
    fn append(&mut self, datum: &Datum<'_>) -> Result<(), &'static str> {
        match (self, datum) {
            (Self::Bool(builder), Datum::Bool(value)) => builder.append_value(*value),
            (Self::Int2(builder), Datum::Int2(value)) => builder.append_value(*value),
            (Self::Int4(builder), Datum::Int4(value)) => builder.append_value(*value),
            (Self::Int8(builder), Datum::Int8(value)) => builder.append_value(*value),
            (Self::Float4(builder), Datum::Float4(value)) => builder.append_value(*value),
            (Self::Float8(builder), Datum::Float8(value)) => builder.append_value(*value),
            (Self::Numeric(builder, scale), Datum::Numeric(value)) => {
                let value = value
                    .rescale(*scale)
                    .map_err(|_| "numeric does not fit the column's scale")?;
                builder.append_value(value.mantissa());
            }
            (Self::Text(builder), Datum::Text(value)) | (Self::Jsonb(builder), Datum::Jsonb(value)) => {
                builder.append_value(value);
            }
            (Self::Bytea(builder), Datum::Bytea(value)) => builder.append_value(value),
            (Self::Date(builder), Datum::Date(value)) => builder.append_value(*value),
            (Self::Time(builder), Datum::Time(value)) => builder.append_value(*value),
            (Self::Timestamp(builder), Datum::Timestamp(value))
            | (Self::TimestampTz(builder), Datum::TimestampTz(value)) => builder.append_value(*value),
            (Self::Uuid(builder), Datum::Uuid(value)) => {
                let mut text = [0u8; UUID_TEXT_BYTES];
                builder.append_value(uuid_text(value, &mut text));
            }
            (builder, Datum::Null) => builder.append_null(),
            _ => return Err(WRONG_TYPE),
        }
        Ok(())
    }

    #[cold]
    fn append_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int2(builder) => builder.append_null(),
            Self::Int4(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Float4(builder) => builder.append_null(),
            Self::Float8(builder) => builder.append_null(),
            Self::Numeric(builder, _) => builder.append_null(),
            Self::Text(builder) | Self::Uuid(builder) | Self::Jsonb(builder) => builder.append_null(),
            Self::Bytea(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder) | Self::TimestampTz(builder) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(builder) => ArrayBuilder::finish(builder),
            Self::Int2(builder) => ArrayBuilder::finish(builder),
            Self::Int4(builder) => ArrayBuilder::finish(builder),
            Self::Int8(builder) => ArrayBuilder::finish(builder),
            Self::Float4(builder) => ArrayBuilder::finish(builder),
            Self::Float8(builder) => ArrayBuilder::finish(builder),
            Self::Numeric(builder, _) => ArrayBuilder::finish(builder),
            Self::Text(builder) | Self::Uuid(builder) | Self::Jsonb(builder) => ArrayBuilder::finish(builder),
            Self::Bytea(builder) => ArrayBuilder::finish(builder),
            Self::Date(builder) => ArrayBuilder::finish(builder),
            Self::Time(builder) => ArrayBuilder::finish(builder),
            Self::Timestamp(builder) | Self::TimestampTz(builder) => ArrayBuilder::finish(builder),
        }
    }
}

/// Characters of a UUID with its hyphens.
const UUID_TEXT_BYTES: usize = 36;

fn uuid_text<'a>(uuid: &[u8; 16], text: &'a mut [u8; UUID_TEXT_BYTES]) -> &'a str {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text[at] = b'-';
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    debug_assert_eq!(at, UUID_TEXT_BYTES);
    std::str::from_utf8(text).expect("hexadecimal digits and hyphens are ASCII")
}
