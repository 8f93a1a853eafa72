//! Functions of arrays. `ARRAY(SELECT …)` of no rows is an empty array, while `array_agg` of no rows is NULL.

use crate::analytic::error::external;
use crate::error::{Error, SqlState};
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

/// The name by which `typed` calls [`only`].
pub const ONLY: &str = "scry_only";

/// The one item of an array, NULL for none; several are an error: what a subquery gives that is used as an expression.
pub fn only() -> ScalarUDF {
    ScalarUDF::new_from_impl(Gathered {
        first: false,
        signature: Signature::any(1, Volatility::Immutable),
    })
}

/// The name by which `typed` calls [`first`].
pub const FIRST: &str = "scry_first";

/// The first item of an array, NULL for none.
pub fn first() -> ScalarUDF {
    ScalarUDF::new_from_impl(Gathered {
        first: true,
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

/// Takes an item out of the array into which a subquery was gathered.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Gathered {
    first: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Gathered {
    fn name(&self) -> &str {
        if self.first { FIRST } else { ONLY }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::List(item)] => Ok(item.data_type().clone()),
            // A query over the catalog that has been answered in another way.
            [other] => Ok(other.clone()),
            _ => plan_err!("{} takes an array", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [array] = arrays.as_slice() else {
            return exec_err!("{} takes one argument", self.name());
        };
        let Some(list) = array.as_list_opt::<i32>() else {
            return Ok(ColumnarValue::Array(array.clone()));
        };
        let mut indices = Vec::with_capacity(list.len());
        for row in 0..list.len() {
            let length = if list.is_valid(row) {
                list.value_length(row)
            } else {
                0
            };
            if length > 1 && !self.first {
                return Err(external(Error::new(
                    SqlState::CARDINALITY_VIOLATION,
                    "more than one row returned by a subquery used as an expression",
                )));
            }
            indices.push((length > 0).then(|| list.value_offsets()[row]));
        }
        let indices = Int32Array::from(indices);
        let items = datafusion::arrow::compute::take(list.values(), &indices, None)?;
        Ok(ColumnarValue::Array(items))
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
