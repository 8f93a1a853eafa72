//! A virtual table: its columns as text, its rows as cells, made anew for each scan.

use crate::analytic::Scope;
use crate::analytic::types::named_field;
use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListBuilder,
    PrimitiveBuilder, StringArray, TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int16Type, Int64Type, Schema, SchemaRef, TimeUnit,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// One value of a catalog row.
#[derive(Debug, Clone)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'static, str>),
    Ints(Vec<i64>),
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Cell::Bool(value)
    }
}

impl From<i32> for Cell {
    fn from(value: i32) -> Self {
        Cell::Int(i64::from(value))
    }
}

impl From<u32> for Cell {
    fn from(value: u32) -> Self {
        Cell::Int(i64::from(value))
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Cell::Int(value)
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Cell::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<&'static str> for Cell {
    fn from(value: &'static str) -> Self {
        Cell::Text(Cow::Borrowed(value))
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Cell::Text(Cow::Owned(value))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

/// A row from values of different types.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$(crate::catalog_views::view::Cell::from($value)),*] };
}
pub(super) use row;

/// A virtual table.
pub struct View {
    pub schema: &'static str,
    pub name: &'static str,
    /// `relname name, relnatts int2, …`.
    pub columns: &'static str,
    /// The rows; every one as long as `columns`.
    pub rows: fn(&Scope) -> Vec<Vec<Cell>>,
}

/// The Arrow type that carries a catalog type, and the type's name in field metadata.
fn column_type(name: &str) -> (DataType, &str) {
    let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
    match name {
        "oid" | "xid" => (DataType::Int64, name),
        "bool" => (DataType::Boolean, "boolean"),
        "int2" => (DataType::Int16, "smallint"),
        "int4" => (DataType::Int32, "integer"),
        "int8" => (DataType::Int64, "bigint"),
        "float4" => (DataType::Float32, "real"),
        "float8" => (DataType::Float64, "double precision"),
        "timestamptz" => (
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "timestamp with time zone",
        ),
        "char" => (DataType::Utf8, "\"char\""),
        "int2vector" => (list(DataType::Int16), name),
        "oidvector" | "oid[]" => (list(DataType::Int64), name),
        "text[]" | "name[]" | "aclitem[]" => (list(DataType::Utf8), name),
        "char[]" => (list(DataType::Utf8), "\"char\"[]"),
        other => (DataType::Utf8, other),
    }
}

impl View {
    /// Names and types of the columns.
    pub fn column_list(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.columns
            .split(',')
            .filter_map(|column| column.trim().split_once(' '))
    }

    fn arrow_schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .column_list()
            .map(|(name, ty)| {
                let (arrow, label) = column_type(ty);
                named_field(arrow, label).as_ref().clone().with_name(name)
            })
            .collect();
        Arc::new(Schema::new(fields))
    }

    fn batch(&self, schema: &SchemaRef, scope: &Scope) -> Result<RecordBatch> {
        let rows = (self.rows)(scope);
        for row in &rows {
            assert_eq!(
                row.len(),
                schema.fields().len(),
                "a row of {} has the wrong length",
                self.name
            );
        }
        let columns = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| column(field.data_type(), rows.iter().map(|row| &row[index])))
            .collect();
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

fn int(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Int(value) => Some(*value),
        _ => None,
    }
}

fn float(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Float(value) => Some(*value),
        Cell::Int(value) => Some(*value as f64),
        _ => None,
    }
}

fn column<'a>(arrow: &DataType, cells: impl Iterator<Item = &'a Cell>) -> ArrayRef {
    match arrow {
        DataType::Boolean => Arc::new(
            cells
                .map(|cell| {
                    if let Cell::Bool(value) = cell {
                        Some(*value)
                    } else {
                        None
                    }
                })
                .collect::<BooleanArray>(),
        ),
        DataType::Int16 => Arc::new(
            cells
                .map(|cell| int(cell).and_then(|v| i16::try_from(v).ok()))
                .collect::<Int16Array>(),
        ),
        DataType::Int32 => Arc::new(
            cells
                .map(|cell| int(cell).and_then(|v| i32::try_from(v).ok()))
                .collect::<Int32Array>(),
        ),
        DataType::Int64 => Arc::new(cells.map(int).collect::<Int64Array>()),
        DataType::Float32 => Arc::new(
            cells
                .map(|cell| float(cell).map(|v| v as f32))
                .collect::<Float32Array>(),
        ),
        DataType::Float64 => Arc::new(cells.map(float).collect::<Float64Array>()),
        DataType::Timestamp(..) => Arc::new(
            cells
                .map(int)
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
        DataType::List(item) if *item.data_type() == DataType::Int16 => {
            integers::<Int16Type>(cells, |v| v as i16)
        }
        DataType::List(item) if *item.data_type() == DataType::Int64 => integers::<Int64Type>(cells, |v| v),
        DataType::List(_) => new_null_array(arrow, cells.count()),
        _ => Arc::new(
            cells
                .map(|cell| {
                    if let Cell::Text(value) = cell {
                        Some(value.as_ref())
                    } else {
                        None
                    }
                })
                .collect::<StringArray>(),
        ),
    }
}

fn integers<'a, T: ArrowPrimitiveType>(
    cells: impl Iterator<Item = &'a Cell>,
    convert: fn(i64) -> T::Native,
) -> ArrayRef {
    let mut lists = ListBuilder::new(PrimitiveBuilder::<T>::new());
    for cell in cells {
        match cell {
            Cell::Ints(items) => {
                items
                    .iter()
                    .for_each(|item| lists.values().append_value(convert(*item)));
                lists.append(true);
            }
            _ => lists.append(false),
        }
    }
    Arc::new(lists.finish())
}

/// A view as one session sees it.
pub struct ScopedView {
    view: &'static View,
    scope: Scope,
    schema: SchemaRef,
}

impl ScopedView {
    pub fn new(view: &'static View, scope: &Scope) -> Self {
        ScopedView {
            view,
            scope: scope.clone(),
            schema: view.arrow_schema(),
        }
    }
}

impl fmt::Debug for ScopedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedView")
            .field("name", &self.view.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for ScopedView {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batch = self.view.batch(&self.schema, &self.scope)?;
        let table = MemTable::try_new(self.schema.clone(), vec![vec![batch]])?;
        table.scan(state, projection, filters, limit).await
    }
}
