//! Object ids, lengths and modifiers of types, as `pg_type` and RowDescription have them.

use scry_engine::types::{DataType, MAX_CHARACTER_LENGTH, NUMERIC_MAX_PRECISION};

/// Object ids of PostgreSQL's built-in types that appear in messages.
pub mod oids {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
}

/// Bytes that PostgreSQL adds to lengths in its type modifiers.
const MODIFIER_HEADER: i32 = 4;

pub fn oid(ty: &DataType) -> u32 {
    match ty {
        DataType::Bool => oids::BOOL,
        DataType::Int2 => oids::INT2,
        DataType::Int4 => oids::INT4,
        DataType::Int8 => oids::INT8,
        DataType::Float4 => oids::FLOAT4,
        DataType::Float8 => oids::FLOAT8,
        DataType::Numeric(_) => oids::NUMERIC,
        DataType::Text => oids::TEXT,
        DataType::Varchar(_) => oids::VARCHAR,
        DataType::Char(_) => oids::BPCHAR,
        DataType::Bytea => oids::BYTEA,
        DataType::Date => oids::DATE,
        DataType::Time => oids::TIME,
        DataType::Timestamp => oids::TIMESTAMP,
        DataType::TimestampTz => oids::TIMESTAMPTZ,
        DataType::Uuid => oids::UUID,
        DataType::Jsonb => oids::JSONB,
    }
}

/// The type with the given object id and modifier (-1 for none); `None` for types that are not known here.
///
/// `oid` reads as bigint, `name` as text, `json` as jsonb; `bpchar` without length as text.
pub fn from_oid(oid: u32, modifier: i32) -> Option<DataType> {
    let length = u32::try_from(modifier.saturating_sub(MODIFIER_HEADER))
        .ok()
        .filter(|length| (1..=MAX_CHARACTER_LENGTH).contains(length));
    Some(match oid {
        oids::BOOL => DataType::Bool,
        oids::INT2 => DataType::Int2,
        oids::INT4 => DataType::Int4,
        oids::INT8 | oids::OID => DataType::Int8,
        oids::FLOAT4 => DataType::Float4,
        oids::FLOAT8 => DataType::Float8,
        oids::NUMERIC => DataType::Numeric(length.and_then(|packed| {
            let (precision, scale) = ((packed >> 16) as u8, (packed & 0xff) as u8);
            (precision > 0 && precision <= NUMERIC_MAX_PRECISION && scale <= precision)
                .then_some((precision, scale))
        })),
        oids::TEXT | oids::NAME => DataType::Text,
        oids::VARCHAR => DataType::Varchar(length),
        oids::BPCHAR => length.map_or(DataType::Text, DataType::Char),
        oids::BYTEA => DataType::Bytea,
        oids::DATE => DataType::Date,
        oids::TIME => DataType::Time,
        oids::TIMESTAMP => DataType::Timestamp,
        oids::TIMESTAMPTZ => DataType::TimestampTz,
        oids::UUID => DataType::Uuid,
        oids::JSONB | oids::JSON => DataType::Jsonb,
        _ => return None,
    })
}

/// `pg_type.typlen`: bytes of the type's values, -1 when they vary.
pub fn type_length(ty: &DataType) -> i16 {
    match ty {
        DataType::Bool => 1,
        DataType::Int2 => 2,
        DataType::Int4 | DataType::Float4 | DataType::Date => 4,
        DataType::Int8 | DataType::Float8 => 8,
        DataType::Time | DataType::Timestamp | DataType::TimestampTz => 8,
        DataType::Uuid => 16,
        DataType::Numeric(_)
        | DataType::Text
        | DataType::Varchar(_)
        | DataType::Char(_)
        | DataType::Bytea
        | DataType::Jsonb => -1,
    }
}

/// `pg_attribute.atttypmod`.
pub fn type_modifier(ty: &DataType) -> i32 {
    match ty {
        DataType::Numeric(Some((precision, scale))) => {
            (i32::from(*precision) << 16 | i32::from(*scale)) + MODIFIER_HEADER
        }
        DataType::Varchar(Some(length)) | DataType::Char(length) => *length as i32 + MODIFIER_HEADER,
        _ => -1,
    }
}

/// `pg_type.typname`.
pub fn internal_name(ty: &DataType) -> &'static str {
    match ty {
        DataType::Bool => "bool",
        DataType::Int2 => "int2",
        DataType::Int4 => "int4",
        DataType::Int8 => "int8",
        DataType::Float4 => "float4",
        DataType::Float8 => "float8",
        DataType::Numeric(_) => "numeric",
        DataType::Text => "text",
        DataType::Varchar(_) => "varchar",
        DataType::Char(_) => "bpchar",
        DataType::Bytea => "bytea",
        DataType::Date => "date",
        DataType::Time => "time",
        DataType::Timestamp => "timestamp",
        DataType::TimestampTz => "timestamptz",
        DataType::Uuid => "uuid",
        DataType::Jsonb => "jsonb",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_are_those_of_pg_attribute_and_lead_back_to_the_type() {
        for (ty, modifier) in [
            (DataType::Varchar(Some(20)), 24),
            (DataType::Char(84), 88),
            (DataType::Numeric(Some((15, 2))), 983_046),
            (DataType::Numeric(None), -1),
            (DataType::Text, -1),
        ] {
            assert_eq!(type_modifier(&ty), modifier);
            assert_eq!(from_oid(oid(&ty), modifier), Some(ty));
        }
        assert_eq!(from_oid(1186, -1), None);
        assert_eq!(from_oid(oids::VARCHAR, i32::MIN), Some(DataType::Varchar(None)));
    }
}
