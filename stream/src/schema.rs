//! PostgreSQL columns as Arrow columns: the one place that decides which Arrow type carries which SQL type.
//!
//! | SQL | Arrow |
//! |---|---|
//! | boolean | Boolean |
//! | int2, int4, int8 | Int16, Int32, Int64 |
//! | float4, float8 | Float32, Float64 |
//! | numeric(p, s); numeric | Decimal128(p, s); Decimal128(38, 18) |
//! | text, varchar, char, jsonb, uuid | Utf8 |
//! | bytea | Binary |
//! | date, time | Date32, Time64(µs) |
//! | timestamp, timestamptz | Timestamp(µs), Timestamp(µs, UTC) |
//!
//! Utf8 and not Utf8View, so that other readers of the mirror's Parquet files understand them.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use scry_engine::{ColumnDef, DataType, RowLayout};
use std::collections::HashMap;
use std::sync::Arc;

use crate::rows::constant;

/// Key of the field metadata that carries the PostgreSQL type as text, e.g. `char(10)` or `uuid`.
pub const TYPE_KEY: &str = "scry.type";

/// Scale of a numeric column declared without precision and scale.
pub const FREE_NUMERIC_SCALE: u8 = 18;

/// Precision of every 128-bit decimal that has none declared.
pub const FREE_NUMERIC_PRECISION: u8 = 38;

/// What an extractor must know of a store: its columns, in the engine's terms and in Arrow's. They grow at their end only.
#[derive(Debug)]
pub struct StoreSchema {
    /// The columns as the catalog had them when they came, each under a name of its own.
    pub columns: Vec<ColumnDef>,
    /// The same columns in Arrow's terms.
    pub arrow: SchemaRef,
    /// Decodes the engine's rows.
    pub layout: Arc<RowLayout>,
    /// Whether the store is handed out; what a candidate changes may be kept from mirrors.
    pub mirrored: bool,
}

impl StoreSchema {
    /// The schema of a store with these columns.
    #[must_use]
    pub fn new(columns: Vec<ColumnDef>) -> Self {
        let arrow = arrow_schema(&columns);
        let layout = Arc::new(RowLayout::of(&columns));
        Self {
            columns,
            arrow,
            layout,
            mirrored: true,
        }
    }

    /// The schema once its table has these columns; `None`: it has got none.
    #[must_use]
    pub fn widened(&self, columns: &[ColumnDef]) -> Option<Self> {
        let added = columns
            .get(self.columns.len()..)
            .filter(|added| !added.is_empty())?;
        let mut all = self.columns.clone();
        for column in added {
            // A name may be that of a column that was renamed or dropped since.
            let mut column = column.clone();
            while all.iter().any(|known| known.name == column.name) {
                column.name.push('_');
            }
            all.push(column);
        }
        Some(Self {
            mirrored: self.mirrored,
            ..Self::new(all)
        })
    }

    /// The schema of a store without rows that takes this one's place.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut columns = self.columns.clone();
        columns.iter_mut().for_each(|column| column.missing = None);
        Self {
            mirrored: self.mirrored,
            ..Self::new(columns)
        }
    }

    /// A column of `rows` rows that were written before it was added.
    ///
    /// # Errors
    /// When it was never added, or its missing value does not fit it.
    pub fn missing(&self, column: usize, rows: usize) -> Result<ArrayRef, ArrowError> {
        let absent = || ArrowError::SchemaError(format!("rows without column {column}"));
        let definition = self.columns.get(column).ok_or_else(absent)?;
        let value = definition.missing.as_ref().ok_or_else(absent)?;
        constant(definition.ty, &value.as_datum(), rows)
    }
}

/// The Arrow schema of these columns. Whether they may be NULL changes with the table's definition, and these with the store alone: so
/// they may.
#[must_use]
pub fn arrow_schema(columns: &[ColumnDef]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| {
            let metadata = HashMap::from([(TYPE_KEY.to_owned(), column.ty.to_string())]);
            Field::new(&column.name, arrow_type(column.ty), true).with_metadata(metadata)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// The Arrow type that carries a SQL type.
#[must_use]
pub fn arrow_type(ty: DataType) -> ArrowType {
    match ty {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int2 => ArrowType::Int16,
        DataType::Int4 => ArrowType::Int32,
        DataType::Int8 => ArrowType::Int64,
        DataType::Float4 => ArrowType::Float32,
        DataType::Float8 => ArrowType::Float64,
        DataType::Numeric(declared) => {
            let (precision, scale) = declared.unwrap_or((FREE_NUMERIC_PRECISION, FREE_NUMERIC_SCALE));
            ArrowType::Decimal128(precision, scale.cast_signed())
        }
        DataType::Text | DataType::Varchar(_) | DataType::Char(_) | DataType::Uuid | DataType::Jsonb => {
            ArrowType::Utf8
        }
        DataType::Bytea => ArrowType::Binary,
        DataType::Date => ArrowType::Date32,
        DataType::Time => ArrowType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, None),
        DataType::TimestampTz => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}
