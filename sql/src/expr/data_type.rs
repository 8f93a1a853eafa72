//! Type names as the parser has them → types.

use super::BindError;
use crate::error::{Error, SqlState};
use scry_engine::types::{DataType, MAX_CHARACTER_LENGTH, NUMERIC_MAX_PRECISION};
use sqlparser::ast::{CharacterLength, DataType as Ast, ExactNumberInfo, TimezoneInfo};

/// The type that a name in a statement means. `serial` and its kin are not types: the caller handles them.
pub fn data_type(ast: &Ast) -> Result<DataType, BindError> {
    Ok(match ast {
        Ast::Bool | Ast::Boolean => DataType::Bool,
        Ast::SmallInt(None) | Ast::Int2(None) => DataType::Int2,
        Ast::Int(None) | Ast::Integer(None) | Ast::Int4(None) => DataType::Int4,
        Ast::BigInt(None) | Ast::Int8(None) => DataType::Int8,
        Ast::Real | Ast::Float4 => DataType::Float4,
        Ast::Float8 | Ast::DoublePrecision | Ast::Double(ExactNumberInfo::None) => DataType::Float8,
        Ast::Float(ExactNumberInfo::None) => DataType::Float8,
        Ast::Float(ExactNumberInfo::Precision(bits)) => match bits {
            1..=24 => DataType::Float4,
            25..=53 => DataType::Float8,
            0 => return Err(invalid("precision for type float must be at least 1 bit").into()),
            _ => return Err(invalid("precision for type float must be less than 54 bits").into()),
        },
        Ast::Numeric(info) | Ast::Decimal(info) | Ast::Dec(info) => numeric(info)?,
        Ast::Text => DataType::Text,
        Ast::Varchar(length) | Ast::CharacterVarying(length) | Ast::CharVarying(length) => {
            DataType::Varchar(characters(length, "varchar")?)
        }
        Ast::Char(length) | Ast::Character(length) => {
            DataType::Char(characters(length, "char")?.unwrap_or(1))
        }
        Ast::Bytea => DataType::Bytea,
        Ast::Date => DataType::Date,
        Ast::Time(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Time,
        Ast::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)
            if full_precision(precision) =>
        {
            DataType::Timestamp
        }
        Ast::Timestamp(precision, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz)
            if full_precision(precision) =>
        {
            DataType::TimestampTz
        }
        Ast::Uuid => DataType::Uuid,
        Ast::JSONB => DataType::Jsonb,
        Ast::Custom(name, modifiers) => {
            let text = name.to_string().to_ascii_lowercase();
            let plain = text
                .strip_prefix("pg_catalog.")
                .unwrap_or(&text)
                .trim_matches('"');
            return custom(plain, modifiers);
        }
        other => {
            return Err(BindError::unsupported(format!(
                "type {}",
                other.to_string().to_lowercase()
            )));
        }
    })
}

/// Six digits of a second are what is kept; fewer would need rounding that is not done here.
fn full_precision(precision: &Option<u64>) -> bool {
    precision.is_none_or(|digits| digits == 6)
}

/// Internal names, and what the parser leaves as a custom name.
fn custom(name: &str, modifiers: &[String]) -> Result<DataType, BindError> {
    let length = || -> Result<Option<u32>, BindError> {
        match modifiers {
            [] => Ok(None),
            [only] => match only.parse() {
                Ok(length) => Ok(Some(checked_length(length, name)?)),
                Err(_) => Err(invalid("invalid type modifier").into()),
            },
            _ => Err(invalid("invalid type modifier").into()),
        }
    };
    Ok(match name {
        "bool" => DataType::Bool,
        "int2" => DataType::Int2,
        "int4" => DataType::Int4,
        "int8" | "oid" => DataType::Int8,
        "float4" => DataType::Float4,
        "float8" => DataType::Float8,
        "numeric" if modifiers.is_empty() => DataType::Numeric(None),
        "text" | "name" => DataType::Text,
        "varchar" => DataType::Varchar(length()?),
        "bpchar" => length()?.map_or(DataType::Text, DataType::Char),
        "bytea" => DataType::Bytea,
        "date" => DataType::Date,
        "time" => DataType::Time,
        "timestamp" => DataType::Timestamp,
        "timestamptz" => DataType::TimestampTz,
        "uuid" => DataType::Uuid,
        "jsonb" => DataType::Jsonb,
        "interval" | "json" | "money" | "inet" | "cidr" | "macaddr" | "point" | "xml" | "bit" | "varbit"
        | "timetz" | "regclass" | "regtype" | "regproc" | "regprocedure" | "regnamespace" | "regrole"
        | "regoper" | "regoperator" | "xid" | "xid8" | "cid" | "tid" | "tsvector" | "tsquery" | "char"
        | "pg_lsn" | "pg_node_tree" | "aclitem" | "int2vector" | "oidvector" | "jsonpath" | "record"
        | "unknown" => {
            return Err(BindError::unsupported(format!("type {name}")));
        }
        _ => {
            return Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!("type \"{name}\" does not exist"),
            )
            .into());
        }
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn checked_length(length: u64, name: &str) -> Result<u32, Error> {
    if length == 0 {
        return Err(invalid(format!("length for type {name} must be at least 1")));
    }
    match u32::try_from(length) {
        Ok(length) if length <= MAX_CHARACTER_LENGTH => Ok(length),
        _ => Err(invalid(format!(
            "length for type {name} cannot exceed {MAX_CHARACTER_LENGTH}"
        ))),
    }
}

fn characters(length: &Option<CharacterLength>, name: &str) -> Result<Option<u32>, BindError> {
    match length {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length, .. }) => Ok(Some(checked_length(*length, name)?)),
        Some(CharacterLength::Max) => Err(BindError::unsupported(format!("type {name}(max)"))),
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<DataType, BindError> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(DataType::Numeric(None)),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    if !(1..=1000).contains(&precision) {
        return Err(invalid(format!(
            "NUMERIC precision {precision} must be between 1 and 1000"
        ))
        .into());
    }
    let maximum = u64::from(NUMERIC_MAX_PRECISION);
    let in_range = precision <= maximum && u64::try_from(scale).is_ok_and(|scale| scale <= precision);
    if !in_range {
        return Err(Error::unsupported(format!("type numeric({precision},{scale})"))
            .with_detail(format!(
                "Precision goes up to {maximum}, scale from 0 to the precision."
            ))
            .into());
    }
    Ok(DataType::Numeric(Some((precision as u8, scale as u8))))
}
