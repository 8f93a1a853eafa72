//! Bounds of a column, for pruning.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, PrimitiveArray, StringArray};
use arrow::compute::kernels::aggregate;
use arrow::datatypes::{
    ArrowNumericType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use scry_stream::StoreSchema;
use std::sync::Arc;

/// Bounds of a column in one unit: no value is below `min` or above `max`. They need not occur: dead rows
/// count, and long strings are cut. Arrays of length one, of the column's type.
#[derive(Debug, Clone)]
pub struct ColumnStatistics {
    /// Lower bound of the values; `None` when it is not known or there is none.
    pub min: Option<ArrayRef>,
    /// Upper bound of the values; `None` when it is not known or there is none.
    pub max: Option<ArrayRef>,
    /// Rows without a value, at most.
    pub null_count: u64,
}

/// Bounds of `rows` rows that lack a column of the store.
pub(crate) fn of_missing(schema: &StoreSchema, column: usize, rows: usize) -> Option<ColumnStatistics> {
    let mut bounds = of_array(&schema.missing(column, 1).ok()?)?;
    bounds.null_count *= rows as u64;
    Some(bounds)
}

/// Bounds of an array; `None` for types without an order worth knowing.
pub(crate) fn of_array(array: &ArrayRef) -> Option<ColumnStatistics> {
    let (min, max) = match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            let one = |value: Option<bool>| value.map(|v| Arc::new(BooleanArray::from(vec![v])) as ArrayRef);
            (
                one(aggregate::min_boolean(array)),
                one(aggregate::max_boolean(array)),
            )
        }
        DataType::Int16 => of_numbers::<Int16Type>(array),
        DataType::Int32 => of_numbers::<Int32Type>(array),
        DataType::Int64 => of_numbers::<Int64Type>(array),
        DataType::Float32 => of_numbers::<Float32Type>(array),
        DataType::Float64 => of_numbers::<Float64Type>(array),
        DataType::Decimal128(_, _) => of_numbers::<Decimal128Type>(array),
        DataType::Date32 => of_numbers::<Date32Type>(array),
        DataType::Time64(TimeUnit::Microsecond) => of_numbers::<Time64MicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of_numbers::<TimestampMicrosecondType>(array),
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            let one = |value: Option<&str>| value.map(|v| Arc::new(StringArray::from(vec![v])) as ArrayRef);
            (
                one(aggregate::min_string(array)),
                one(aggregate::max_string(array)),
            )
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            let one = |value: Option<&[u8]>| value.map(|v| Arc::new(BinaryArray::from(vec![v])) as ArrayRef);
            (
                one(aggregate::min_binary(array)),
                one(aggregate::max_binary(array)),
            )
        }
        _ => return None,
    };
    Some(ColumnStatistics {
        min,
        max,
        null_count: array.null_count() as u64,
    })
}

fn of_numbers<T: ArrowNumericType>(array: &ArrayRef) -> (Option<ArrayRef>, Option<ArrayRef>) {
    let array = array.as_primitive::<T>();
    let one = |value: Option<T::Native>| {
        value.map(|value| {
            let single = PrimitiveArray::<T>::from_iter_values([value]);
            Arc::new(single.with_data_type(array.data_type().clone())) as ArrayRef
        })
    };
    (one(aggregate::min(array)), one(aggregate::max(array)))
}
