//! Scalar expressions of row plans as DataFusion functions: what a row plan and an analytic plan compute from the same values
//! is computed by the same code.
//!
//! A bridge holds a bound expression whose columns are the function's arguments, and evaluates it row by row. It is for what
//! DataFusion does differently; what both do alike stays DataFusion's, which works on whole columns.

use crate::analytic::error::external;
use crate::analytic::types::{FREE_NUMERIC, FREE_SCALE, arrow_type, type_name};
use crate::error::Error;
use crate::expr::{EvalContext, Evaluated, Expr, Facts, Function, RowSource};
use crate::sequence::SequenceAccess;
use crate::types::TimeZone;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, BooleanBuilder, Date32Builder, Decimal128Array,
    Decimal128Builder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringArray,
    StringBuilder, StringViewArray, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType as Arrow, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use scry_engine::{DataType, Datum, Numeric, Value};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Digits of every numeric that a bridge makes.
const PRECISION: u8 = 38;

/// What the session knows, for as long as a plan lives.
#[derive(Debug, Clone)]
pub struct Circumstances {
    pub zone: TimeZone,
    /// What 'now' means in texts.
    pub now: i64,
    pub user: Arc<str>,
    pub process: i32,
    pub sequences: Option<Arc<SequenceAccess>>,
}

impl Circumstances {
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            zone: &self.zone,
            transaction_start: self.now,
            statement_start: self.now,
            clock: crate::session::now_micros,
            random: &RANDOM,
            user: &self.user,
            database: crate::analytic::DATABASE,
            version: super::text::VERSION,
            backend_pid: self.process,
            transaction_id: None,
            sequences: self.sequences.as_deref(),
            outbox: None,
        }
    }
}

/// The state behind `random()` of all bridges.
static RANDOM: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub struct Bridge {
    /// Tells its expression from all others of the statement.
    name: String,
    expr: Expr,
    /// The types of its columns.
    arguments: Vec<DataType>,
    circumstances: Arc<Circumstances>,
    signature: Signature,
}

impl PartialEq for Bridge {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Bridge {}

impl Hash for Bridge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Bridge {
    /// `expr` over arguments of these types.
    pub fn function(
        name: String,
        expr: Expr,
        arguments: Vec<DataType>,
        circumstances: Arc<Circumstances>,
    ) -> Arc<ScalarUDF> {
        let volatility = if expr.is_volatile() {
            Volatility::Volatile
        } else {
            Volatility::Immutable
        };
        Arc::new(ScalarUDF::new_from_impl(Bridge {
            name,
            expr,
            arguments,
            circumstances,
            signature: Signature::user_defined(volatility),
        }))
    }

    /// Fractional digits of a numeric result, from those of the arguments.
    fn scale(&self, expr: &Expr, arguments: &[i8]) -> i8 {
        let of = |expr: &Expr| self.scale(expr, arguments);
        let widest = |items: &[Expr]| items.iter().map(of).max().unwrap_or(0);
        match expr {
            Expr::Column { index, .. } => arguments.get(*index).copied().unwrap_or(FREE_SCALE),
            Expr::Constant {
                value: Value::Numeric(number),
                ..
            } => number.scale().cast_signed(),
            Expr::Constant { .. } => 0,
            Expr::Cast {
                to: DataType::Numeric(Some((_, scale))),
                ..
            } => scale.cast_signed(),
            Expr::Cast { operand, .. } => match operand.ty() {
                DataType::Numeric(_) => of(operand),
                ty if ty.is_integer() => 0,
                _ => FREE_SCALE,
            },
            Expr::Negate(operand) => of(operand),
            Expr::Coalesce { arguments, .. } | Expr::Extreme { arguments, .. } => widest(arguments),
            Expr::NullIf { left, .. } => of(left),
            Expr::Case {
                branches, otherwise, ..
            } => branches
                .iter()
                .map(|(_, result)| of(result))
                .chain(otherwise.as_deref().map(of))
                .max()
                .unwrap_or(0),
            Expr::Function {
                function, arguments, ..
            } => match (function, arguments.as_slice()) {
                (
                    Function::Ceil | Function::Floor | Function::Round | Function::Truncate | Function::Sign,
                    _,
                ) => 0,
                (
                    Function::RoundTo | Function::TruncateTo,
                    [
                        _,
                        Expr::Constant {
                            value: Value::Int4(digits),
                            ..
                        },
                    ],
                ) => i8::try_from((*digits).clamp(0, FREE_SCALE.into())).unwrap_or(FREE_SCALE),
                (Function::Extract, [Expr::Constant { value, .. }, of]) => extracted_scale(value, of.ty()),
                (Function::Abs | Function::Mod, _) => widest(arguments),
                _ => FREE_SCALE,
            },
            _ => FREE_SCALE,
        }
    }

    fn facts(&self) -> Facts<'_> {
        self.circumstances.facts()
    }
}

/// Fractional digits of a field of a date or time.
fn extracted_scale(field: &Value, of: DataType) -> i8 {
    let Value::Text(field) = field else {
        return FREE_SCALE;
    };
    match field.to_ascii_lowercase().as_str() {
        "second" | "seconds" | "sec" | "s" => 6,
        "milliseconds" | "millisecond" | "ms" | "msec" => 3,
        "epoch" if of != DataType::Date => 6,
        "julian" if of != DataType::Date => FREE_SCALE,
        _ => 0,
    }
}

impl ScalarUDFImpl for Bridge {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The arguments come as they were typed; what is NULL by nature needs the type that it stands for.
    fn coerce_types(&self, types: &[Arrow]) -> Result<Vec<Arrow>> {
        Ok(types
            .iter()
            .zip(&self.arguments)
            .map(|(given, wanted)| match given {
                Arrow::Null => arrow_type(wanted),
                given => given.clone(),
            })
            .collect())
    }

    fn return_type(&self, _: &[Arrow]) -> Result<Arrow> {
        exec_err!("the type of {} depends on its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let ty = self.expr.ty();
        let arrow = match ty {
            DataType::Numeric(_) => {
                let scales: Vec<i8> = args
                    .arg_fields
                    .iter()
                    .map(|field| match field.data_type() {
                        Arrow::Decimal128(_, scale) => *scale,
                        arrow if arrow.is_integer() => 0,
                        _ => FREE_SCALE,
                    })
                    .collect();
                match (ty, self.scale(&self.expr, &scales)) {
                    (DataType::Numeric(Some((precision, scale))), _) => {
                        Arrow::Decimal128(precision, scale.cast_signed())
                    }
                    (_, scale) if scale >= FREE_SCALE => FREE_NUMERIC,
                    (_, scale) => Arrow::Decimal128(PRECISION, scale),
                }
            }
            ty => arrow_type(&ty),
        };
        let metadata = [(crate::analytic::types::TYPE_KEY.to_owned(), type_name(&ty))];
        Ok(Arc::new(
            Field::new(&self.name, arrow, true).with_metadata(metadata.into()),
        ))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = !self.expr.is_volatile()
            && args
                .args
                .iter()
                .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args
            .args
            .iter()
            .map(|arg| readable(&arg.to_array(rows)?))
            .collect::<Result<Vec<_>>>()?;
        let columns: Vec<Column<'_>> = arrays
            .iter()
            .zip(&self.arguments)
            .map(|(array, ty)| Column::new(array, ty))
            .collect::<Result<_>>()?;
        let facts = self.facts();
        let mut builder = Builder::new(args.return_field.data_type(), rows)?;
        let mut row = Vec::with_capacity(columns.len());
        for at in 0..rows {
            row.clear();
            row.extend(columns.iter().map(|column| column.datum(at)));
            let context = EvalContext {
                row: RowSource::Datums(&row),
                params: &[],
                facts: &facts,
            };
            let value = self.expr.eval(&context).map_err(external)?;
            builder.append(&value).map_err(external)?;
        }
        let made = builder.finish()?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?));
        }
        Ok(ColumnarValue::Array(made))
    }
}

/// The array in one of the forms that [`Column`] reads.
fn readable(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        Arrow::Dictionary(_, value) => cast(array, value)?,
        Arrow::LargeUtf8 => cast(array, &Arrow::Utf8)?,
        Arrow::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            cast(array, &Arrow::Timestamp(TimeUnit::Microsecond, zone.clone()))?
        }
        Arrow::UInt64 | Arrow::UInt32 => cast(array, &Arrow::Int64)?,
        _ => array.clone(),
    })
}

/// A column of arguments.
enum Column<'a> {
    Bool(&'a BooleanArray),
    Text(&'a StringArray, Texts),
    TextView(&'a StringViewArray, Texts),
    Numeric(&'a Decimal128Array, i8),
    Other(&'a ArrayRef),
}

/// What texts stand for.
#[derive(Clone, Copy)]
enum Texts {
    Plain,
    Jsonb,
    Uuid,
}

impl<'a> Column<'a> {
    fn new(array: &'a ArrayRef, ty: &DataType) -> Result<Self> {
        let texts = match ty {
            DataType::Uuid => Texts::Uuid,
            DataType::Jsonb => Texts::Jsonb,
            _ => Texts::Plain,
        };
        Ok(match array.data_type() {
            Arrow::Boolean => Column::Bool(array.as_boolean()),
            Arrow::Utf8 => Column::Text(array.as_string::<i32>(), texts),
            Arrow::Utf8View => Column::TextView(array.as_string_view(), texts),
            Arrow::Decimal128(_, scale) => Column::Numeric(array.as_primitive::<Decimal128Type>(), *scale),
            Arrow::Null
            | Arrow::Int16
            | Arrow::Int32
            | Arrow::Int64
            | Arrow::Float32
            | Arrow::Float64
            | Arrow::Binary
            | Arrow::Date32
            | Arrow::Time64(TimeUnit::Microsecond)
            | Arrow::Timestamp(TimeUnit::Microsecond, _) => Column::Other(array),
            other => return exec_err!("a value of type {other} as {ty}"),
        })
    }

    fn datum(&self, row: usize) -> Datum<'a> {
        match self {
            Column::Bool(array) if array.is_valid(row) => Datum::Bool(array.value(row)),
            Column::Text(array, texts) if array.is_valid(row) => text(array.value(row), *texts),
            Column::TextView(array, texts) if array.is_valid(row) => text(array.value(row), *texts),
            Column::Numeric(array, scale) if array.is_valid(row) => numeric(array.value(row), *scale),
            Column::Other(array) if array.is_valid(row) => other(array, row),
            _ => Datum::Null,
        }
    }
}

fn text(value: &str, texts: Texts) -> Datum<'_> {
    match texts {
        Texts::Plain => Datum::Text(value),
        Texts::Jsonb => Datum::Jsonb(value),
        Texts::Uuid => Datum::Uuid(crate::analytic::format::uuid_bytes(value)),
    }
}

fn numeric(mantissa: i128, scale: i8) -> Datum<'static> {
    match Numeric::new(mantissa, scale.max(0).cast_unsigned()) {
        Ok(number) if scale >= FREE_SCALE => Datum::Numeric(number.normalized()),
        Ok(number) => Datum::Numeric(number),
        Err(_) => Datum::Null,
    }
}

fn other(array: &ArrayRef, row: usize) -> Datum<'_> {
    match array.data_type() {
        Arrow::Int16 => Datum::Int2(array.as_primitive::<Int16Type>().value(row)),
        Arrow::Int32 => Datum::Int4(array.as_primitive::<Int32Type>().value(row)),
        Arrow::Int64 => Datum::Int8(array.as_primitive::<Int64Type>().value(row)),
        Arrow::Float32 => Datum::Float4(array.as_primitive::<Float32Type>().value(row)),
        Arrow::Float64 => Datum::Float8(array.as_primitive::<Float64Type>().value(row)),
        Arrow::Binary => Datum::Bytea(array.as_binary::<i32>().value(row)),
        Arrow::Date32 => Datum::Date(array.as_primitive::<Date32Type>().value(row)),
        Arrow::Time64(_) => Datum::Time(array.as_primitive::<Time64MicrosecondType>().value(row)),
        Arrow::Timestamp(_, None) => {
            Datum::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        Arrow::Timestamp(_, Some(_)) => {
            Datum::TimestampTz(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        _ => Datum::Null,
    }
}

/// A column of results.
enum Builder {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

macro_rules! append {
    ($builder:expr, $datum:expr, $($variant:path => $value:expr),+) => {
        match $datum {
            $($variant(v) => $builder.append_value($value(v)),)+
            _ => $builder.append_null(),
        }
    };
}

impl Builder {
    fn new(arrow: &Arrow, rows: usize) -> Result<Self> {
        Ok(match arrow {
            Arrow::Boolean => Builder::Bool(BooleanBuilder::with_capacity(rows)),
            Arrow::Int16 => Builder::Int2(Int16Builder::with_capacity(rows)),
            Arrow::Int32 => Builder::Int4(Int32Builder::with_capacity(rows)),
            Arrow::Int64 => Builder::Int8(Int64Builder::with_capacity(rows)),
            Arrow::Float32 => Builder::Float4(Float32Builder::with_capacity(rows)),
            Arrow::Float64 => Builder::Float8(Float64Builder::with_capacity(rows)),
            Arrow::Decimal128(precision, scale) => Builder::Numeric(
                Decimal128Builder::with_capacity(rows).with_precision_and_scale(*precision, *scale)?,
                *precision,
                *scale,
            ),
            Arrow::Utf8 => Builder::Text(StringBuilder::with_capacity(rows, rows * 16)),
            Arrow::Binary => Builder::Bytea(BinaryBuilder::with_capacity(rows, rows * 16)),
            Arrow::Date32 => Builder::Date(Date32Builder::with_capacity(rows)),
            Arrow::Time64(_) => Builder::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            Arrow::Timestamp(_, zone) => Builder::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(rows).with_timezone_opt(zone.clone()),
            ),
            other => return exec_err!("a result of type {other}"),
        })
    }

    fn append(&mut self, value: &Evaluated<'_>) -> std::result::Result<(), Error> {
        let datum = value.datum();
        match self {
            Builder::Bool(builder) => append!(builder, datum, Datum::Bool => |v| v),
            Builder::Int2(builder) => append!(builder, datum, Datum::Int2 => |v| v),
            Builder::Int4(builder) => append!(builder, datum, Datum::Int4 => |v| v, Datum::Int2 => i32::from),
            Builder::Int8(builder) => append!(
                builder, datum, Datum::Int8 => |v| v, Datum::Int4 => i64::from, Datum::Int2 => i64::from
            ),
            Builder::Float4(builder) => append!(builder, datum, Datum::Float4 => |v| v),
            Builder::Float8(builder) => append!(builder, datum, Datum::Float8 => |v| v),
            Builder::Numeric(builder, precision, scale) => match datum {
                Datum::Numeric(number) => {
                    let fitted = number.fit(*precision, (*scale).max(0).cast_unsigned())?;
                    builder.append_value(fitted.mantissa());
                }
                _ => builder.append_null(),
            },
            Builder::Text(builder) => match datum {
                Datum::Text(text) | Datum::Jsonb(text) => builder.append_value(text),
                Datum::Uuid(bytes) => builder.append_value(crate::analytic::parameter::uuid_text(&bytes)),
                _ => builder.append_null(),
            },
            Builder::Bytea(builder) => match datum {
                Datum::Bytea(bytes) => builder.append_value(bytes),
                _ => builder.append_null(),
            },
            Builder::Date(builder) => append!(builder, datum, Datum::Date => |v| v),
            Builder::Time(builder) => append!(builder, datum, Datum::Time => |v| v),
            Builder::Timestamp(builder) => append!(
                builder, datum, Datum::Timestamp => |v| v, Datum::TimestampTz => |v| v
            ),
        }
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Builder::Bool(mut builder) => Arc::new(builder.finish()),
            Builder::Int2(mut builder) => Arc::new(builder.finish()),
            Builder::Int4(mut builder) => Arc::new(builder.finish()),
            Builder::Int8(mut builder) => Arc::new(builder.finish()),
            Builder::Float4(mut builder) => Arc::new(builder.finish()),
            Builder::Float8(mut builder) => Arc::new(builder.finish()),
            Builder::Numeric(mut builder, ..) => Arc::new(builder.finish()),
            Builder::Text(mut builder) => Arc::new(builder.finish()),
            Builder::Bytea(mut builder) => Arc::new(builder.finish()),
            Builder::Date(mut builder) => Arc::new(builder.finish()),
            Builder::Time(mut builder) => Arc::new(builder.finish()),
            Builder::Timestamp(mut builder) => Arc::new(builder.finish()),
        })
    }
}
