//! `ARRAY(SELECT …)` of no rows is an empty array, while `array_agg` of no rows is NULL.

use datafusion::arrow::array::{Array, AsArray, ListArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// The name by which `rewrite` calls it.
pub const ARRAY_OR_EMPTY: &str = "scry_array_or_empty";

/// The array, or an empty one of the same type for NULL.
pub fn array_or_empty() -> ScalarUDF {
    ScalarUDF::new_from_impl(ArrayOrEmpty {
        signature: Signature::any(1, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayOrEmpty {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayOrEmpty {
    fn name(&self) -> &str {
        ARRAY_OR_EMPTY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [list @ DataType::List(_)] => Ok(list.clone()),
            _ => plan_err!("{ARRAY_OR_EMPTY} takes an array"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [array] = arrays.as_slice() else {
            return exec_err!("{ARRAY_OR_EMPTY} takes one argument");
        };
        let list = array.as_list::<i32>();
        if list.null_count() == 0 {
            return Ok(ColumnarValue::Array(array.clone()));
        }
        let DataType::List(item) = list.data_type() else {
            return exec_err!("{ARRAY_OR_EMPTY} takes an array");
        };
        // A NULL entry may still span items; the copy leaves them behind.
        let mut indices = Vec::new();
        let mut lengths = Vec::with_capacity(list.len());
        for row in 0..list.len() {
            let range = list.value_offsets()[row]..list.value_offsets()[row + 1];
            let kept = if list.is_valid(row) { range } else { 0..0 };
            lengths.push(kept.len());
            indices.extend(kept);
        }
        let indices = datafusion::arrow::array::Int32Array::from(indices);
        let values = datafusion::arrow::compute::take(list.values(), &indices, None)?;
        let offsets = datafusion::arrow::buffer::OffsetBuffer::from_lengths(lengths);
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(
            item.clone(),
            offsets,
            values,
            None,
        )?)))
    }
}
