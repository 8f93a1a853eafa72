//! PostgreSQL types beside Arrow types: what a result column is called on the wire, and what a type name in SQL means.
//!
//! A column's PostgreSQL type stands in its Arrow field's metadata (`scry.type`, as `format_type` prints it) where
//! the Arrow type alone does not tell: `uuid`, `jsonb`, `character(10)`, `oid`. The metadata counts only where it agrees
//! with the Arrow type, because DataFusion carries it through expressions that change the type.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use scry_stream::schema::FREE_NUMERIC_SCALE;
use sqlparser::ast::{self, ArrayElemTypeDef, ExactNumberInfo, TimezoneInfo};
use std::collections::HashMap;
use std::sync::Arc;

/// Field metadata key that carries the PostgreSQL type.
pub const TYPE_KEY: &str = scry_stream::schema::TYPE_KEY;

/// Type oids as `pg_type` has them.
pub mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT2VECTOR: u32 = 22;
    pub const INT4: u32 = 23;
    pub const REGPROC: u32 = 24;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const XID: u32 = 28;
    pub const OIDVECTOR: u32 = 30;
    pub const JSON: u32 = 114;
    pub const PG_NODE_TREE: u32 = 194;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const ACLITEM: u32 = 1033;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC: u32 = 1700;
    pub const REGCLASS: u32 = 2205;
    pub const REGTYPE: u32 = 2206;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
    pub const REGNAMESPACE: u32 = 4089;
    pub const BOOL_ARRAY: u32 = 1000;
    pub const BYTEA_ARRAY: u32 = 1001;
    pub const CHAR_ARRAY: u32 = 1002;
    pub const NAME_ARRAY: u32 = 1003;
    pub const INT2_ARRAY: u32 = 1005;
    pub const INT4_ARRAY: u32 = 1007;
    pub const TEXT_ARRAY: u32 = 1009;
    pub const INT8_ARRAY: u32 = 1016;
    pub const FLOAT4_ARRAY: u32 = 1021;
    pub const FLOAT8_ARRAY: u32 = 1022;
    pub const OID_ARRAY: u32 = 1028;
    pub const ACLITEM_ARRAY: u32 = 1034;
    pub const TIMESTAMP_ARRAY: u32 = 1115;
    pub const DATE_ARRAY: u32 = 1182;
    pub const TIMESTAMPTZ_ARRAY: u32 = 1185;
    pub const NUMERIC_ARRAY: u32 = 1231;
    pub const UUID_ARRAY: u32 = 2951;
}

/// How a column goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireType {
    pub oid: u32,
    pub length: i16,
    pub modifier: i32,
}

impl WireType {
    fn new(oid: u32, length: i16) -> Self {
        WireType {
            oid,
            length,
            modifier: -1,
        }
    }

    fn with_modifier(mut self, modifier: i32) -> Self {
        self.modifier = modifier;
        self
    }
}

/// Bytes that a modifier counts for its own header (PostgreSQL's VARHDRSZ).
const MODIFIER_HEADER: i32 = 4;

/// The wire type of an output field.
pub fn wire_type(field: &Field) -> WireType {
    field
        .metadata()
        .get(TYPE_KEY)
        .and_then(|name| named_wire_type(name, field.data_type()))
        .unwrap_or_else(|| arrow_wire_type(field.data_type()))
}

/// The wire type of a column that was typed as `ty`, if its values are carried as such; else what was `found`.
pub fn typed_wire_type(ty: &scry_engine::DataType, arrow: &DataType, found: WireType) -> WireType {
    let carried = match (arrow, arrow_type(ty)) {
        (DataType::Decimal128(..) | DataType::Decimal256(..), DataType::Decimal128(..)) => true,
        (DataType::Utf8View | DataType::LargeUtf8, DataType::Utf8) => true,
        (DataType::Null, _) => true,
        (arrow, wanted) => *arrow == wanted,
    };
    if !carried {
        return found;
    }
    WireType {
        oid: crate::types::oid(ty),
        length: crate::types::type_length(ty),
        modifier: crate::types::type_modifier(ty),
    }
}

/// Splits `character(10)` into `character` and its numbers.
fn split_modifier(name: &str) -> (&str, [Option<i32>; 2]) {
    let Some((base, rest)) = name.split_once('(') else {
        return (name, [None, None]);
    };
    let mut numbers = rest
        .trim_end_matches(')')
        .split(',')
        .map(|part| part.trim().parse().ok());
    (base, [numbers.next().flatten(), numbers.next().flatten()])
}

/// What the metadata says, if it can be true of this Arrow type.
fn named_wire_type(name: &str, arrow: &DataType) -> Option<WireType> {
    let (base, numbers) = split_modifier(name);
    let text = matches!(arrow, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    let integer = matches!(arrow, DataType::Int64 | DataType::Int32 | DataType::UInt32);
    let list = matches!(arrow, DataType::List(_));
    let length_modifier = || numbers[0].map_or(-1, |n| n + MODIFIER_HEADER);
    match base {
        "character" if text => Some(WireType::new(oid::BPCHAR, -1).with_modifier(length_modifier())),
        "character varying" if text => Some(WireType::new(oid::VARCHAR, -1).with_modifier(length_modifier())),
        "uuid" if text => Some(WireType::new(oid::UUID, 16)),
        "jsonb" if text => Some(WireType::new(oid::JSONB, -1)),
        "name" if text => Some(WireType::new(oid::NAME, 64)),
        "\"char\"" if text => Some(WireType::new(oid::CHAR, 1)),
        "pg_node_tree" if text => Some(WireType::new(oid::PG_NODE_TREE, -1)),
        "oid" if integer => Some(WireType::new(oid::OID, 4)),
        "xid" if integer => Some(WireType::new(oid::XID, 4)),
        "int2vector" if list => Some(WireType::new(oid::INT2VECTOR, -1)),
        "oidvector" if list => Some(WireType::new(oid::OIDVECTOR, -1)),
        "oid[]" if list => Some(WireType::new(oid::OID_ARRAY, -1)),
        "name[]" if list => Some(WireType::new(oid::NAME_ARRAY, -1)),
        "\"char\"[]" if list => Some(WireType::new(oid::CHAR_ARRAY, -1)),
        "aclitem[]" if list => Some(WireType::new(oid::ACLITEM_ARRAY, -1)),
        "numeric" => match (arrow, numbers) {
            (DataType::Decimal128(precision, scale), [Some(p), Some(s)])
                if i32::from(*precision) == p && i32::from(*scale) == s =>
            {
                Some(WireType::new(oid::NUMERIC, -1).with_modifier((p << 16 | s) + MODIFIER_HEADER))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The wire type of an Arrow type on its own.
pub fn arrow_wire_type(arrow: &DataType) -> WireType {
    match arrow {
        DataType::Boolean => WireType::new(oid::BOOL, 1),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => WireType::new(oid::INT2, 2),
        DataType::Int32 | DataType::UInt16 => WireType::new(oid::INT4, 4),
        DataType::Int64 | DataType::UInt32 => WireType::new(oid::INT8, 8),
        DataType::UInt64 | DataType::Decimal32(..) | DataType::Decimal64(..) => {
            WireType::new(oid::NUMERIC, -1)
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => WireType::new(oid::NUMERIC, -1),
        DataType::Float16 | DataType::Float32 => WireType::new(oid::FLOAT4, 4),
        DataType::Float64 => WireType::new(oid::FLOAT8, 8),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            WireType::new(oid::BYTEA, -1)
        }
        DataType::Date32 | DataType::Date64 => WireType::new(oid::DATE, 4),
        DataType::Time32(_) | DataType::Time64(_) => WireType::new(oid::TIME, 8),
        DataType::Timestamp(_, None) => WireType::new(oid::TIMESTAMP, 8),
        DataType::Timestamp(_, Some(_)) => WireType::new(oid::TIMESTAMPTZ, 8),
        DataType::Interval(_) | DataType::Duration(_) => WireType::new(oid::INTERVAL, 16),
        DataType::Dictionary(_, value) => arrow_wire_type(value),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            WireType::new(array_oid(wire_type(item).oid), -1)
        }
        _ => WireType::new(oid::TEXT, -1),
    }
}

/// The array type of an element type.
pub fn array_oid(element: u32) -> u32 {
    match element {
        oid::BOOL => oid::BOOL_ARRAY,
        oid::BYTEA => oid::BYTEA_ARRAY,
        oid::CHAR => oid::CHAR_ARRAY,
        oid::NAME => oid::NAME_ARRAY,
        oid::INT2 => oid::INT2_ARRAY,
        oid::INT4 => oid::INT4_ARRAY,
        oid::INT8 => oid::INT8_ARRAY,
        oid::FLOAT4 => oid::FLOAT4_ARRAY,
        oid::FLOAT8 => oid::FLOAT8_ARRAY,
        oid::NUMERIC => oid::NUMERIC_ARRAY,
        oid::OID => oid::OID_ARRAY,
        oid::DATE => oid::DATE_ARRAY,
        oid::TIMESTAMP => oid::TIMESTAMP_ARRAY,
        oid::TIMESTAMPTZ => oid::TIMESTAMPTZ_ARRAY,
        oid::UUID => oid::UUID_ARRAY,
        _ => oid::TEXT_ARRAY,
    }
}

/// The element type of an array type.
pub fn element_oid(array: u32) -> Option<u32> {
    Some(match array {
        oid::BOOL_ARRAY => oid::BOOL,
        oid::BYTEA_ARRAY => oid::BYTEA,
        oid::CHAR_ARRAY => oid::CHAR,
        oid::NAME_ARRAY => oid::NAME,
        oid::INT2_ARRAY | oid::INT2VECTOR => oid::INT2,
        oid::INT4_ARRAY => oid::INT4,
        oid::INT8_ARRAY => oid::INT8,
        oid::FLOAT4_ARRAY => oid::FLOAT4,
        oid::FLOAT8_ARRAY => oid::FLOAT8,
        oid::NUMERIC_ARRAY => oid::NUMERIC,
        oid::OID_ARRAY | oid::OIDVECTOR => oid::OID,
        oid::DATE_ARRAY => oid::DATE,
        oid::TIMESTAMP_ARRAY => oid::TIMESTAMP,
        oid::TIMESTAMPTZ_ARRAY => oid::TIMESTAMPTZ,
        oid::UUID_ARRAY => oid::UUID,
        oid::TEXT_ARRAY | oid::ACLITEM_ARRAY => oid::TEXT,
        _ => return None,
    })
}

/// The Arrow type (with metadata where it is needed) in which a parameter of this oid is bound; `None`: not supported.
pub fn parameter_field(type_oid: u32) -> Option<FieldRef> {
    let (arrow, name) = match type_oid {
        oid::BOOL => (DataType::Boolean, "boolean"),
        oid::INT2 => (DataType::Int16, "smallint"),
        oid::INT4 => (DataType::Int32, "integer"),
        oid::INT8 => (DataType::Int64, "bigint"),
        oid::OID | oid::XID => (DataType::Int64, "oid"),
        oid::FLOAT4 => (DataType::Float32, "real"),
        oid::FLOAT8 => (DataType::Float64, "double precision"),
        oid::NUMERIC => (FREE_NUMERIC, "numeric"),
        oid::TEXT | oid::UNKNOWN | oid::VARCHAR | oid::BPCHAR => (DataType::Utf8, "text"),
        oid::NAME => (DataType::Utf8, "name"),
        oid::CHAR => (DataType::Utf8, "\"char\""),
        oid::UUID => (DataType::Utf8, "uuid"),
        oid::JSON | oid::JSONB => (DataType::Utf8, "jsonb"),
        oid::BYTEA => (DataType::Binary, "bytea"),
        oid::DATE => (DataType::Date32, "date"),
        oid::TIME => (DataType::Time64(TimeUnit::Microsecond), "time without time zone"),
        oid::TIMESTAMP => (
            DataType::Timestamp(TimeUnit::Microsecond, None),
            "timestamp without time zone",
        ),
        oid::TIMESTAMPTZ => (utc_timestamp(), "timestamp with time zone"),
        oid::INTERVAL => (DataType::Interval(IntervalUnit::MonthDayNano), "interval"),
        other => {
            let element = parameter_field(element_oid(other)?)?;
            let item = Field::new("item", element.data_type().clone(), true);
            return Some(Arc::new(Field::new("", DataType::List(Arc::new(item)), true)));
        }
    };
    Some(named_field(arrow, name))
}

/// `numeric` without precision, as tables hold it.
pub const FREE_NUMERIC: DataType = DataType::Decimal128(38, FREE_SCALE);

/// Fractional digits of a numeric without precision.
pub const FREE_SCALE: i8 = FREE_NUMERIC_SCALE.cast_signed();

/// The Arrow type that carries a column's type.
pub fn arrow_type(ty: &scry_engine::DataType) -> DataType {
    scry_stream::schema::arrow_type(*ty)
}

/// A nullable field of a column's type.
pub fn field_of(ty: &scry_engine::DataType) -> FieldRef {
    named_field(arrow_type(ty), &type_name(ty))
}

/// What a type is called in field metadata.
pub fn type_name(ty: &scry_engine::DataType) -> String {
    ty.to_string()
}

/// The type that a field's metadata names, if expressions know it and the Arrow type agrees.
pub fn column_type(field: &Field) -> Option<scry_engine::DataType> {
    let wire = wire_type(field);
    let ty = crate::types::from_oid(wire.oid, wire.modifier)?;
    let exact = crate::types::oid(&ty) == wire.oid && arrow_type(&ty) == *field.data_type();
    exact.then_some(ty)
}

pub fn utc_timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A nullable field of this type whose PostgreSQL name is `name`.
pub fn named_field(arrow: DataType, name: &str) -> FieldRef {
    Arc::new(
        Field::new("", arrow, true).with_metadata(HashMap::from([(TYPE_KEY.to_owned(), name.to_owned())])),
    )
}

/// Types in casts.
#[derive(Debug)]
pub struct PostgresTypes;

impl TypePlanner for PostgresTypes {
    fn plan_type_field(&self, sql: &ast::DataType) -> Result<Option<FieldRef>> {
        Ok(cast_field(sql))
    }
}

fn exact_number(info: &ExactNumberInfo) -> Option<(u8, i8)> {
    match info {
        ExactNumberInfo::None => None,
        ExactNumberInfo::Precision(precision) => Some((u8::try_from(*precision).ok()?, 0)),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => {
            Some((u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?))
        }
    }
}

fn length(length: &Option<ast::CharacterLength>) -> Option<u64> {
    match length {
        Some(ast::CharacterLength::IntegerLength { length, .. }) => Some(*length),
        _ => None,
    }
}

/// What a type name in a cast means; `None` leaves it to DataFusion, which refuses what it does not know.
pub fn cast_field(sql: &ast::DataType) -> Option<FieldRef> {
    use ast::DataType as Sql;
    let field = |arrow, name: &str| Some(named_field(arrow, name));
    match sql {
        Sql::Boolean | Sql::Bool => field(DataType::Boolean, "boolean"),
        Sql::SmallInt(_) | Sql::Int2(_) => field(DataType::Int16, "smallint"),
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) => field(DataType::Int32, "integer"),
        Sql::BigInt(_) | Sql::Int8(_) => field(DataType::Int64, "bigint"),
        Sql::Real | Sql::Float4 => field(DataType::Float32, "real"),
        Sql::DoublePrecision | Sql::Double(_) | Sql::Float8 | Sql::Float64 => {
            field(DataType::Float64, "double precision")
        }
        Sql::Float(info) => match exact_number(info) {
            Some((1..=24, _)) => field(DataType::Float32, "real"),
            _ => field(DataType::Float64, "double precision"),
        },
        Sql::Numeric(info) | Sql::Decimal(info) | Sql::Dec(info) => match exact_number(info) {
            Some((precision, scale)) => field(
                DataType::Decimal128(precision, scale),
                &format!("numeric({precision},{scale})"),
            ),
            None => field(FREE_NUMERIC, "numeric"),
        },
        Sql::Text | Sql::String(_) => field(DataType::Utf8, "text"),
        Sql::Varchar(n) | Sql::CharacterVarying(n) | Sql::CharVarying(n) => match length(n) {
            Some(n) => field(DataType::Utf8, &format!("character varying({n})")),
            None => field(DataType::Utf8, "character varying"),
        },
        Sql::Char(n) | Sql::Character(n) => {
            field(DataType::Utf8, &format!("character({})", length(n).unwrap_or(1)))
        }
        Sql::Bytea => field(DataType::Binary, "bytea"),
        Sql::Date => field(DataType::Date32, "date"),
        Sql::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            field(DataType::Time64(TimeUnit::Microsecond), "time without time zone")
        }
        Sql::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) | Sql::TimestampNtz(_) => {
            field(
                DataType::Timestamp(TimeUnit::Microsecond, None),
                "timestamp without time zone",
            )
        }
        Sql::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            field(utc_timestamp(), "timestamp with time zone")
        }
        Sql::Interval { .. } => field(DataType::Interval(IntervalUnit::MonthDayNano), "interval"),
        Sql::Uuid => field(DataType::Utf8, "uuid"),
        Sql::JSON | Sql::JSONB => field(DataType::Utf8, "jsonb"),
        Sql::Regclass => field(DataType::Utf8, "text"),
        Sql::Custom(name, _) => custom_field(&name.to_string()),
        Sql::Array(ArrayElemTypeDef::SquareBracket(element, _) | ArrayElemTypeDef::AngleBracket(element)) => {
            let element = cast_field(element)?;
            let item = Field::new("item", element.data_type().clone(), true);
            let name = format!(
                "{}[]",
                element.metadata().get(TYPE_KEY).map_or("text", String::as_str)
            );
            Some(named_field(DataType::List(Arc::new(item)), &name))
        }
        _ => None,
    }
}

fn custom_field(name: &str) -> Option<FieldRef> {
    let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
    let field = |arrow, name: &str| Some(named_field(arrow, name));
    match name.to_ascii_lowercase().as_str() {
        "oid" | "regproc" => field(DataType::Int64, "oid"),
        "xid" => field(DataType::Int64, "xid"),
        "name" => field(DataType::Utf8, "name"),
        "\"char\"" => field(DataType::Utf8, "\"char\""),
        "text" => field(DataType::Utf8, "text"),
        "regtype" | "regclass" | "regnamespace" | "regrole" => field(DataType::Utf8, "text"),
        "int2vector" => {
            let item = Field::new("item", DataType::Int16, true);
            field(DataType::List(Arc::new(item)), "int2vector")
        }
        "bpchar" | "varchar" => field(DataType::Utf8, "text"),
        "int2" => field(DataType::Int16, "smallint"),
        "int4" => field(DataType::Int32, "integer"),
        "int8" => field(DataType::Int64, "bigint"),
        "bool" => field(DataType::Boolean, "boolean"),
        "float4" => field(DataType::Float32, "real"),
        "float8" => field(DataType::Float64, "double precision"),
        "numeric" => field(FREE_NUMERIC, "numeric"),
        "bytea" => field(DataType::Binary, "bytea"),
        "date" => field(DataType::Date32, "date"),
        "time" => field(DataType::Time64(TimeUnit::Microsecond), "time without time zone"),
        "timestamp" => field(
            DataType::Timestamp(TimeUnit::Microsecond, None),
            "timestamp without time zone",
        ),
        "timestamptz" => field(utc_timestamp(), "timestamp with time zone"),
        "uuid" => field(DataType::Utf8, "uuid"),
        "json" | "jsonb" => field(DataType::Utf8, "jsonb"),
        "interval" => field(DataType::Interval(IntervalUnit::MonthDayNano), "interval"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_contradicts_the_arrow_type_is_ignored() {
        let padded = named_field(DataType::Utf8, "character(10)");
        assert_eq!(
            wire_type(&padded),
            WireType {
                oid: oid::BPCHAR,
                length: -1,
                modifier: 14
            }
        );
        let number = named_field(DataType::Int32, "character(10)");
        assert_eq!(wire_type(&number).oid, oid::INT4);
        let rescaled = named_field(DataType::Decimal128(38, 4), "numeric(15,2)");
        assert_eq!(
            wire_type(&rescaled),
            WireType {
                oid: oid::NUMERIC,
                length: -1,
                modifier: -1
            }
        );
        let declared = named_field(DataType::Decimal128(15, 2), "numeric(15,2)");
        assert_eq!(wire_type(&declared).modifier, (15 << 16 | 2) + 4);
    }
}
