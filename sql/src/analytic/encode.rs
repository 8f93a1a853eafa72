//! Arrow batches → DataRow messages.
//!
//! Each column is turned once per call into a typed accessor; rows then go out without a lookup by type. Arrow types
//! that PostgreSQL does not have (unsigned, nanoseconds, dictionaries, views of binary) are cast to one it has first.

use super::format;
use super::types::oid;
use crate::error::{Error, SqlState};
use crate::session::ColumnDescription;
use crate::types::TimeZone;
use crate::types::datetime::write_timestamptz;
use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    DurationMicrosecondArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, StringArray, StringViewArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type,
    Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::arrow::record_batch::RecordBatch;
use std::ops::Range;

/// From this scale on a numeric's trailing zeros are an artefact of the fixed scale in which `numeric` without precision
/// is held, not something that the user wrote.
const FREE_SCALE: i8 = 17;

/// Appends one DataRow message for each row of `rows`, until the range ends or `out` holds `limit` bytes.
/// Returns the next row's index. `formats` as in Bind: empty is all text, one counts for all columns. Instants are written as in `zone`.
pub fn encode(
    columns: &[ColumnDescription],
    batch: &RecordBatch,
    rows: Range<usize>,
    formats: &[i16],
    zone: &TimeZone,
    out: &mut BytesMut,
    limit: usize,
) -> Result<usize, Error> {
    let arrays = batch
        .columns()
        .iter()
        .map(canonical)
        .collect::<Result<Vec<_>, Error>>()?;
    let mut encoders = Vec::with_capacity(arrays.len());
    for (index, array) in arrays.iter().enumerate() {
        let description = columns
            .get(index)
            .ok_or_else(|| internal("a batch has more columns than its description"))?;
        let binary = match formats {
            [] => false,
            [one] => *one == 1,
            many => many.get(index) == Some(&1),
        };
        encoders.push(Encoder {
            cells: Cells::new(array, description, zone)?,
            binary,
            nulls: array.logical_nulls(),
        });
    }
    let count = i16::try_from(encoders.len()).map_err(|_| internal("too many result columns"))?;
    let end = rows.end.min(batch.num_rows());
    let mut scratch = BytesMut::new();
    for row in rows.start..end {
        if out.len() >= limit {
            return Ok(row);
        }
        out.put_u8(b'D');
        let length_at = out.len();
        out.put_i32(0);
        out.put_i16(count);
        for encoder in &encoders {
            if encoder.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                out.put_i32(-1);
                continue;
            }
            let value_at = out.len();
            out.put_i32(0);
            encoder.cells.write(row, encoder.binary, out, &mut scratch)?;
            patch_length(out, value_at, 4)?;
        }
        patch_length(out, length_at, 0)?;
    }
    Ok(end)
}

/// Writes the number of bytes since `at` (less `header`) into the four bytes at `at`.
fn patch_length(out: &mut BytesMut, at: usize, header: usize) -> Result<(), Error> {
    let length = i32::try_from(out.len() - at - header).map_err(|_| {
        Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            "a result row is larger than 2 GiB",
        )
    })?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn internal(message: &str) -> Error {
    Error::new(SqlState::INTERNAL_ERROR, message)
}

struct Encoder<'a> {
    cells: Cells<'a>,
    binary: bool,
    nulls: Option<datafusion::arrow::buffer::NullBuffer>,
}

/// The Arrow type of the same values that [`Cells`] knows.
fn canonical_type(arrow: &DataType) -> Option<DataType> {
    Some(match arrow {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => {
            DataType::Time64(TimeUnit::Microsecond)
        }
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Interval(unit) if *unit != IntervalUnit::MonthDayNano => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        DataType::Duration(unit) if *unit != TimeUnit::Microsecond => {
            DataType::Duration(TimeUnit::Microsecond)
        }
        DataType::Dictionary(_, value) => canonical_type(value).unwrap_or_else(|| value.as_ref().clone()),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
        _ => return None,
    })
}

fn canonical(array: &ArrayRef) -> Result<ArrayRef, Error> {
    match canonical_type(array.data_type()) {
        Some(target) => cast(array, &target).map_err(|error| internal(&error.to_string())),
        None => Ok(array.clone()),
    }
}

/// Text columns by what their values are on the wire.
#[derive(Clone, Copy)]
enum TextKind {
    Plain,
    /// `char(n)`: padded with blanks to n characters.
    Padded(usize),
    Uuid,
    Jsonb,
}

/// A column's values, typed.
enum Cells<'a> {
    Null,
    Bool(&'a BooleanArray),
    Int2(&'a Int16Array),
    Int4(&'a Int32Array),
    Int8(&'a Int64Array),
    /// An oid held in 64 bits.
    Oid(&'a Int64Array),
    Float4(&'a Float32Array),
    Float8(&'a Float64Array),
    Decimal(&'a Decimal128Array, i8),
    WideDecimal(&'a Decimal256Array, i8),
    Text(&'a StringArray, TextKind),
    TextView(&'a StringViewArray, TextKind),
    Bytea(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Instant(&'a TimestampMicrosecondArray, &'a TimeZone),
    Interval(&'a IntervalMonthDayNanoArray),
    Duration(&'a DurationMicrosecondArray),
    List(&'a ListArray, ListKind, &'a TimeZone),
}

#[derive(Clone, Copy)]
struct ListKind {
    element: u32,
    /// int2vector and oidvector print their elements with blanks between them and no braces.
    vector: bool,
}

impl<'a> Cells<'a> {
    fn new(array: &'a ArrayRef, description: &ColumnDescription, zone: &'a TimeZone) -> Result<Self, Error> {
        let text_kind = match description.type_oid {
            oid::BPCHAR if description.type_mod > 4 => TextKind::Padded((description.type_mod - 4) as usize),
            oid::UUID => TextKind::Uuid,
            oid::JSONB => TextKind::Jsonb,
            _ => TextKind::Plain,
        };
        Ok(match array.data_type() {
            DataType::Null => Cells::Null,
            DataType::Boolean => Cells::Bool(array.as_boolean()),
            DataType::Int16 => Cells::Int2(array.as_primitive::<Int16Type>()),
            DataType::Int32 => Cells::Int4(array.as_primitive::<Int32Type>()),
            DataType::Int64 if matches!(description.type_oid, oid::OID | oid::XID) => {
                Cells::Oid(array.as_primitive::<Int64Type>())
            }
            DataType::Int64 => Cells::Int8(array.as_primitive::<Int64Type>()),
            DataType::Float32 => Cells::Float4(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Cells::Float8(array.as_primitive::<Float64Type>()),
            DataType::Decimal128(_, scale) => Cells::Decimal(array.as_primitive::<Decimal128Type>(), *scale),
            DataType::Decimal256(_, scale) => {
                Cells::WideDecimal(array.as_primitive::<Decimal256Type>(), *scale)
            }
            DataType::Utf8 => Cells::Text(array.as_string::<i32>(), text_kind),
            DataType::Utf8View => Cells::TextView(array.as_string_view(), text_kind),
            DataType::Binary => Cells::Bytea(array.as_binary::<i32>()),
            DataType::Date32 => Cells::Date(array.as_primitive::<Date32Type>()),
            DataType::Time64(TimeUnit::Microsecond) => {
                Cells::Time(array.as_primitive::<Time64MicrosecondType>())
            }
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Cells::Timestamp(array.as_primitive::<TimestampMicrosecondType>())
            }
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Cells::Instant(array.as_primitive::<TimestampMicrosecondType>(), zone)
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Cells::Interval(array.as_primitive::<IntervalMonthDayNanoType>())
            }
            DataType::Duration(TimeUnit::Microsecond) => {
                Cells::Duration(array.as_primitive::<DurationMicrosecondType>())
            }
            DataType::List(_) => Cells::List(
                array.as_list::<i32>(),
                ListKind {
                    element: super::types::element_oid(description.type_oid).unwrap_or(oid::TEXT),
                    vector: matches!(description.type_oid, oid::INT2VECTOR | oid::OIDVECTOR),
                },
                zone,
            ),
            other => {
                let message = format!("a result of type {other} cannot be sent");
                return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
        })
    }

    /// The value of a row that is not null, without its length.
    fn write(
        &self,
        row: usize,
        binary: bool,
        out: &mut BytesMut,
        scratch: &mut BytesMut,
    ) -> Result<(), Error> {
        if binary {
            self.write_binary(row, out, scratch)
        } else {
            self.write_text(row, out, scratch)
        }
    }

    fn write_text(&self, row: usize, out: &mut BytesMut, scratch: &mut BytesMut) -> Result<(), Error> {
        match self {
            Cells::Null => {}
            Cells::Bool(a) => out.put_u8(if a.value(row) { b't' } else { b'f' }),
            Cells::Int2(a) => format::integer(i128::from(a.value(row)), out),
            Cells::Int4(a) => format::integer(i128::from(a.value(row)), out),
            Cells::Int8(a) | Cells::Oid(a) => format::integer(i128::from(a.value(row)), out),
            Cells::Float4(a) => format::float4(a.value(row), out),
            Cells::Float8(a) => format::float8(a.value(row), out),
            Cells::Decimal(a, scale) => format::decimal(a.value(row), *scale, *scale >= FREE_SCALE, out),
            Cells::WideDecimal(a, scale) => {
                format::wide_decimal(a.value(row), *scale, *scale >= FREE_SCALE, out)
            }
            Cells::Text(a, kind) => put_text(a.value(row), *kind, out),
            Cells::TextView(a, kind) => put_text(a.value(row), *kind, out),
            Cells::Bytea(a) => format::bytea(a.value(row), out),
            Cells::Date(a) => format::date(a.value(row), out),
            Cells::Time(a) => format::time(a.value(row), out),
            Cells::Timestamp(a) => format::timestamp(a.value(row), out),
            Cells::Instant(a, zone) => write_timestamptz(a.value(row), zone, out),
            Cells::Interval(a) => {
                let value = a.value(row);
                format::interval(value.months, value.days, value.nanoseconds / 1_000, out);
            }
            Cells::Duration(a) => {
                let (days, micros) = split_duration(a.value(row));
                format::interval(0, days, micros, out);
            }
            Cells::List(a, kind, zone) => return list_text(&a.value(row), *kind, zone, out, scratch),
        }
        Ok(())
    }

    fn write_binary(&self, row: usize, out: &mut BytesMut, scratch: &mut BytesMut) -> Result<(), Error> {
        match self {
            Cells::Null => {}
            Cells::Bool(a) => out.put_u8(u8::from(a.value(row))),
            Cells::Int2(a) => out.put_i16(a.value(row)),
            Cells::Int4(a) => out.put_i32(a.value(row)),
            Cells::Int8(a) => out.put_i64(a.value(row)),
            Cells::Oid(a) => out.put_u32(a.value(row) as u32),
            Cells::Float4(a) => out.put_f32(a.value(row)),
            Cells::Float8(a) => out.put_f64(a.value(row)),
            Cells::Decimal(..) | Cells::WideDecimal(..) => {
                let mut text = std::mem::take(scratch);
                text.clear();
                self.write_text(row, &mut text, &mut BytesMut::new())?;
                format::decimal_binary(&text, out);
                *scratch = text;
            }
            Cells::Text(a, kind) => put_binary_text(a.value(row), *kind, out),
            Cells::TextView(a, kind) => put_binary_text(a.value(row), *kind, out),
            Cells::Bytea(a) => out.put_slice(a.value(row)),
            Cells::Date(a) => out.put_i32(a.value(row).saturating_sub(format::EPOCH_DAYS)),
            Cells::Time(a) => out.put_i64(a.value(row)),
            Cells::Timestamp(a) | Cells::Instant(a, _) => {
                out.put_i64(a.value(row).saturating_sub(format::EPOCH_MICROS))
            }
            Cells::Interval(a) => {
                let value = a.value(row);
                out.put_i64(value.nanoseconds / 1_000);
                out.put_i32(value.days);
                out.put_i32(value.months);
            }
            Cells::Duration(a) => {
                let (days, micros) = split_duration(a.value(row));
                out.put_i64(micros);
                out.put_i32(days);
                out.put_i32(0);
            }
            Cells::List(a, kind, zone) => return list_binary(&a.value(row), *kind, zone, out, scratch),
        }
        Ok(())
    }
}

/// The difference of two timestamps is an interval of days and a rest.
fn split_duration(micros: i64) -> (i32, i64) {
    const DAY: i64 = 86_400_000_000;
    ((micros / DAY) as i32, micros % DAY)
}

fn put_text(value: &str, kind: TextKind, out: &mut BytesMut) {
    out.put_slice(value.as_bytes());
    if let TextKind::Padded(width) = kind {
        out.put_bytes(b' ', width.saturating_sub(value.chars().count()));
    }
}

fn put_binary_text(value: &str, kind: TextKind, out: &mut BytesMut) {
    match kind {
        TextKind::Uuid => out.put_slice(&format::uuid_bytes(value)),
        TextKind::Jsonb => {
            out.put_u8(1);
            out.put_slice(value.as_bytes());
        }
        TextKind::Plain | TextKind::Padded(_) => put_text(value, kind, out),
    }
}

fn element_description(kind: ListKind) -> ColumnDescription {
    ColumnDescription {
        name: String::new(),
        table_oid: 0,
        column_no: 0,
        type_oid: kind.element,
        type_len: -1,
        type_mod: -1,
    }
}

fn list_text(
    items: &ArrayRef,
    kind: ListKind,
    zone: &TimeZone,
    out: &mut BytesMut,
    scratch: &mut BytesMut,
) -> Result<(), Error> {
    let items = canonical(items)?;
    let cells = Cells::new(&items, &element_description(kind), zone)?;
    if !kind.vector {
        out.put_u8(b'{');
    }
    let mut nested = BytesMut::new();
    for index in 0..items.len() {
        if index > 0 {
            out.put_u8(if kind.vector { b' ' } else { b',' });
        }
        if items.is_null(index) {
            out.put_slice(b"NULL");
        } else if matches!(cells, Cells::List(..)) || kind.vector {
            cells.write_text(index, out, &mut nested)?;
        } else {
            scratch.clear();
            cells.write_text(index, scratch, &mut nested)?;
            format::array_element(scratch, out);
        }
    }
    if !kind.vector {
        out.put_u8(b'}');
    }
    Ok(())
}

fn list_binary(
    items: &ArrayRef,
    kind: ListKind,
    zone: &TimeZone,
    out: &mut BytesMut,
    scratch: &mut BytesMut,
) -> Result<(), Error> {
    let items = canonical(items)?;
    let cells = Cells::new(&items, &element_description(kind), zone)?;
    let length = i32::try_from(items.len()).map_err(|_| internal("an array is too long"))?;
    out.put_i32(i32::from(length > 0));
    out.put_i32(i32::from(items.null_count() > 0));
    out.put_u32(kind.element);
    if length == 0 {
        return Ok(());
    }
    out.put_i32(length);
    out.put_i32(i32::from(!kind.vector));
    for index in 0..items.len() {
        if items.is_null(index) {
            out.put_i32(-1);
            continue;
        }
        let at = out.len();
        out.put_i32(0);
        cells.write_binary(index, out, scratch)?;
        patch_length(out, at, 4)?;
    }
    Ok(())
}
