//! Functions of arrays. `ARRAY(SELECT …)` of no rows is an empty array, while `array_agg` of no rows is NULL.

use datafusion::arrow::array::{Array, AsArray, Int32Array, Int64Array, ListArray};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
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

/// The name by which `rewrite` calls [`positions`].
pub const POSITIONS: &str = "scry_positions";

/// `{1, …, n}` for an array of n items.
pub fn positions() -> ScalarUDF {
    ScalarUDF::new_from_impl(ArrayFunction {
        upper: false,
        signature: Signature::any(1, Volatility::Immutable),
    })
}

/// `array_upper(array, 1)`.
pub fn array_upper() -> ScalarUDF {
    ScalarUDF::new_from_impl(ArrayFunction {
        upper: true,
        signature: Signature::any(2, Volatility::Immutable),
    })
}

/// What can be said of an array by its length.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayFunction {
    upper: bool,
    signature: Signature,
}

impl ScalarUDFImpl for ArrayFunction {
    fn name(&self) -> &str {
        if self.upper { "array_upper" } else { POSITIONS }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.upper {
            DataType::Int64
        } else {
            DataType::List(Arc::new(Field::new("item", DataType::Int64, true)))
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(DataType::List(_)) = arrays.first().map(|array| array.data_type()) else {
            return exec_err!("{} takes an array", self.name());
        };
        let list = arrays[0].as_list::<i32>();
        let lengths =
            (0..list.len()).map(|row| list.is_valid(row).then(|| i64::from(list.value_length(row))));
        if self.upper {
            return Ok(ColumnarValue::Array(Arc::new(
                lengths.map(|n| n.filter(|n| *n > 0)).collect::<Int64Array>(),
            )));
        }
        let positions = lengths.map(|length| length.map(|length| (1..=length).map(Some)));
        Ok(ColumnarValue::Array(Arc::new(ListArray::from_iter_primitive::<
            Int64Type,
            _,
            _,
        >(positions))))
    }
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
        let indices = Int32Array::from(indices);
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
