//! `sum` and `avg` with PostgreSQL's result types, by way of DataFusion's own accumulators.
//!
//! | argument | sum | avg |
//! |---|---|---|
//! | int2, int4 | bigint | numeric, 16 fractional digits |
//! | int8 | numeric | numeric, 16 fractional digits |
//! | numeric | numeric | numeric, at least 16 fractional digits |
//! | float4, float8 | float8 | float8 |
//!
//! Only the coercion of the argument differs from DataFusion's: sums of int8 go through 128 bits, so they cannot wrap,
//! and averages get their fractional digits from the argument's scale (DataFusion adds four).

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use std::sync::Arc;

/// DataFusion's average has four fractional digits more than its argument.
const AVERAGED_SCALE: i8 = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Sum,
    /// Of integers that are 64 bits wide already, in 64 bits.
    IntegerSum,
    /// Of 64-bit integers, in 128 bits.
    NumericSum,
    Average,
}

pub fn sum() -> AggregateUDF {
    AggregateUDF::new_from_impl(Coerced::new(
        Kind::Sum,
        datafusion::functions_aggregate::sum::sum_udaf(),
    ))
}

/// The sum of int2 and int4, as `typed` calls it.
pub fn integer_sum() -> AggregateUDF {
    AggregateUDF::new_from_impl(Coerced::new(
        Kind::IntegerSum,
        datafusion::functions_aggregate::sum::sum_udaf(),
    ))
}

/// The sum of int8, as `typed` calls it.
pub fn numeric_sum() -> AggregateUDF {
    AggregateUDF::new_from_impl(Coerced::new(
        Kind::NumericSum,
        datafusion::functions_aggregate::sum::sum_udaf(),
    ))
}

pub fn average() -> AggregateUDF {
    AggregateUDF::new_from_impl(Coerced::new(
        Kind::Average,
        datafusion::functions_aggregate::average::avg_udaf(),
    ))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Coerced {
    kind: Kind,
    inner: Arc<AggregateUDF>,
    aliases: Vec<String>,
    signature: Signature,
}

impl Coerced {
    fn new(kind: Kind, inner: Arc<AggregateUDF>) -> Self {
        Coerced {
            kind,
            aliases: match kind {
                Kind::Sum | Kind::Average => inner.aliases().to_vec(),
                Kind::IntegerSum | Kind::NumericSum => Vec::new(),
            },
            inner,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    fn argument(&self, given: &DataType) -> Option<DataType> {
        Some(match (self.kind, given) {
            (Kind::IntegerSum, integer) if integer.is_integer() => DataType::Int64,
            (Kind::NumericSum, integer) if integer.is_integer() => DataType::Decimal128(19, 0),
            (Kind::NumericSum, DataType::Decimal128(..)) => given.clone(),
            (Kind::IntegerSum | Kind::NumericSum, _) => return None,
            (Kind::Sum, DataType::Int8 | DataType::Int16 | DataType::Int32) => DataType::Int64,
            (Kind::Sum, DataType::UInt8 | DataType::UInt16 | DataType::UInt32) => DataType::Int64,
            (Kind::Sum, DataType::Int64) => DataType::Decimal128(19, 0),
            (Kind::Sum, DataType::UInt64) => DataType::Decimal128(20, 0),
            (Kind::Sum, DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Duration(_)) => {
                given.clone()
            }
            (Kind::Average, DataType::Int8 | DataType::Int16) => DataType::Decimal128(17, AVERAGED_SCALE),
            (Kind::Average, DataType::Int32) => DataType::Decimal128(22, AVERAGED_SCALE),
            (Kind::Average, integer) if integer.is_integer() => DataType::Decimal128(32, AVERAGED_SCALE),
            (Kind::Average, DataType::Decimal128(precision, scale)) => {
                let wanted = (*scale).max(AVERAGED_SCALE);
                let whole = i16::from(*precision) - i16::from(*scale);
                let precision = (whole + i16::from(wanted)).clamp(1, 38) as u8;
                DataType::Decimal128(precision, wanted)
            }
            (Kind::Average, DataType::Decimal256(..) | DataType::Duration(_)) => given.clone(),
            (_, DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Null) => {
                DataType::Float64
            }
            _ => return None,
        })
    }
}

impl AggregateUDFImpl for Coerced {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Sum | Kind::Average => self.inner.name(),
            Kind::IntegerSum => "int_sum",
            Kind::NumericSum => "numeric_sum",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// With the casts in the arguments, which DataFusion leaves out: `avg(x::numeric)` and `avg(x::float8)` may stand in
    /// one query.
    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        let arguments = params
            .args
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        let distinct = if params.distinct { "DISTINCT " } else { "" };
        let filter = params
            .filter
            .as_ref()
            .map(|filter| format!(" FILTER (WHERE {filter})"))
            .unwrap_or_default();
        Ok(format!("{}({distinct}{arguments}){filter}", self.name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [given] => match self.argument(given) {
                Some(argument) => Ok(vec![argument]),
                None => plan_err!("Invalid function '{}({given})'", self.name()),
            },
            _ => plan_err!(
                "Invalid function '{}' with {} arguments",
                self.name(),
                types.len()
            ),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }
}
