//! Types and collations.

use super::objects::{self, PG_CATALOG, ROLE};
use super::view::{Cell, View, row};

/// One base type. Array types follow from it.
pub struct TypeInfo {
    pub oid: u32,
    pub name: &'static str,
    /// As `format_type` prints it.
    pub sql_name: &'static str,
    pub length: i16,
    pub category: &'static str,
    pub preferred: bool,
    /// 0: none.
    pub array: u32,
}

const fn ty(
    oid: u32,
    name: &'static str,
    sql_name: &'static str,
    length: i16,
    category: &'static str,
    array: u32,
) -> TypeInfo {
    let preferred = matches!(oid, 16 | 25 | 26 | 701 | 1184 | 1186);
    TypeInfo {
        oid,
        name,
        sql_name,
        length,
        category,
        preferred,
        array,
    }
}

/// The types that a client may meet.
pub const TYPES: &[TypeInfo] = &[
    ty(16, "bool", "boolean", 1, "B", 1000),
    ty(17, "bytea", "bytea", -1, "U", 1001),
    ty(18, "char", "\"char\"", 1, "Z", 1002),
    ty(19, "name", "name", 64, "S", 1003),
    ty(20, "int8", "bigint", 8, "N", 1016),
    ty(21, "int2", "smallint", 2, "N", 1005),
    ty(22, "int2vector", "int2vector", -1, "A", 1006),
    ty(23, "int4", "integer", 4, "N", 1007),
    ty(24, "regproc", "regproc", 4, "N", 1008),
    ty(25, "text", "text", -1, "S", 1009),
    ty(26, "oid", "oid", 4, "N", 1028),
    ty(28, "xid", "xid", 4, "U", 1011),
    ty(30, "oidvector", "oidvector", -1, "A", 1013),
    ty(114, "json", "json", -1, "U", 199),
    ty(194, "pg_node_tree", "pg_node_tree", -1, "Z", 0),
    ty(700, "float4", "real", 4, "N", 1021),
    ty(701, "float8", "double precision", 8, "N", 1022),
    ty(705, "unknown", "unknown", -2, "X", 0),
    ty(1033, "aclitem", "aclitem", 12, "U", 1034),
    ty(1042, "bpchar", "character", -1, "S", 1014),
    ty(1043, "varchar", "character varying", -1, "S", 1015),
    ty(1082, "date", "date", 4, "D", 1182),
    ty(1083, "time", "time without time zone", 8, "D", 1183),
    ty(1114, "timestamp", "timestamp without time zone", 8, "D", 1115),
    ty(1184, "timestamptz", "timestamp with time zone", 8, "D", 1185),
    ty(1186, "interval", "interval", 16, "T", 1187),
    ty(1700, "numeric", "numeric", -1, "N", 1231),
    ty(2205, "regclass", "regclass", 4, "N", 2210),
    ty(2206, "regtype", "regtype", 4, "N", 2211),
    ty(2278, "void", "void", 4, "P", 0),
    ty(2950, "uuid", "uuid", 16, "U", 2951),
    ty(3802, "jsonb", "jsonb", -1, "U", 3807),
    ty(4089, "regnamespace", "regnamespace", 4, "N", 4090),
];

pub const VIEWS: &[View] = &[
    View {
        schema: "pg_catalog",
        name: "pg_type",
        columns: "oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype char, \
                  typcategory char, typispreferred bool, typisdefined bool, typdelim char, typrelid oid, \
                  typsubscript text, typelem oid, typarray oid, typinput text, typoutput text, typreceive text, \
                  typsend text, typmodin text, typmodout text, typanalyze text, typalign char, typstorage char, \
                  typnotnull bool, typbasetype oid, typtypmod int4, typndims int4, typcollation oid, \
                  typdefaultbin pg_node_tree, typdefault text, typacl aclitem[]",
        rows: |_| {
            let base = TYPES.iter().map(|info| {
                let kind = if info.category == "P" { "p" } else { "b" };
                let element = match info.name {
                    "int2vector" => 21,
                    "oidvector" => 26,
                    _ => 0,
                };
                type_row(
                    info.oid,
                    info.name.to_owned(),
                    info.length,
                    kind,
                    info.category,
                    info.preferred,
                    element,
                    info.array,
                )
            });
            let arrays = TYPES.iter().filter(|info| info.array != 0).map(|info| {
                type_row(
                    info.array,
                    format!("_{}", info.name),
                    -1,
                    "b",
                    "A",
                    false,
                    info.oid,
                    0,
                )
            });
            base.chain(arrays).collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_collation",
        columns: "oid oid, collname name, collnamespace oid, collowner oid, collprovider char, \
                  collisdeterministic bool, collencoding int4, collcollate text, collctype text, \
                  colliculocale text, collversion text",
        rows: |_| {
            let one = |oid: u32, name: &'static str, provider: &'static str| {
                row![
                    oid,
                    name,
                    PG_CATALOG,
                    ROLE,
                    provider,
                    true,
                    -1,
                    Cell::Null,
                    Cell::Null,
                    Cell::Null,
                    Cell::Null
                ]
            };
            vec![
                one(objects::DEFAULT_COLLATION, "default", "d"),
                one(objects::C_COLLATION, "C", "c"),
            ]
        },
    },
];

#[expect(clippy::too_many_arguments, reason = "one row of a wide table")]
fn type_row(
    oid: u32,
    name: String,
    length: i16,
    kind: &'static str,
    category: &'static str,
    preferred: bool,
    element: u32,
    array: u32,
) -> Vec<Cell> {
    let collation = if category == "S" {
        objects::DEFAULT_COLLATION
    } else {
        0
    };
    let (input, output) = if category == "A" {
        ("array_in", "array_out")
    } else {
        ("", "")
    };
    let function = |fixed: &'static str, suffix: &str| {
        if fixed.is_empty() {
            Cell::from(format!("{name}{suffix}"))
        } else {
            Cell::from(fixed)
        }
    };
    row![
        oid,
        name.clone(),
        PG_CATALOG,
        ROLE,
        i32::from(length),
        matches!(length, 1..=8),
        kind,
        category,
        preferred,
        true,
        ",",
        0,
        if category == "A" {
            "array_subscript_handler"
        } else {
            "-"
        },
        element,
        array,
        function(input, "in"),
        function(output, "out"),
        if category == "A" {
            Cell::from("array_recv")
        } else {
            Cell::from(format!("{name}recv"))
        },
        if category == "A" {
            Cell::from("array_send")
        } else {
            Cell::from(format!("{name}send"))
        },
        "-",
        "-",
        "-",
        if length == 8 || length == 16 { "d" } else { "i" },
        if length == -1 { "x" } else { "p" },
        false,
        0,
        -1,
        0,
        collation,
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]
}

/// The type of this oid, with whether it is its array type.
pub fn by_oid(oid: u32) -> Option<(&'static TypeInfo, bool)> {
    TYPES.iter().find_map(|info| match oid {
        0 => None,
        oid if oid == info.oid => Some((info, false)),
        oid if oid == info.array => Some((info, true)),
        _ => None,
    })
}

/// The oid of the type of this name, internal or SQL, with `[]` or `_` for arrays.
pub fn by_name(name: &str) -> Option<u32> {
    let name = name
        .trim()
        .trim_start_matches("pg_catalog.")
        .trim_matches('"')
        .to_ascii_lowercase();
    let (base, array) = match name.strip_suffix("[]").or_else(|| name.strip_prefix('_')) {
        Some(base) => (base, true),
        None => (name.as_str(), false),
    };
    let base = match base.split('(').next().unwrap_or(base).trim() {
        "int" => "int4",
        "decimal" => "numeric",
        "float" => "float8",
        "char" => "bpchar",
        other => other,
    };
    let info = TYPES
        .iter()
        .find(|info| info.name == base || info.sql_name == base)?;
    Some(if array { info.array } else { info.oid })
}

/// `format_type(oid, modifier)`.
pub fn format_type(oid: u32, modifier: Option<i64>) -> String {
    if oid == 0 {
        return "-".to_owned();
    }
    let Some((info, array)) = by_oid(oid) else {
        return "???".to_owned();
    };
    let packed = modifier
        .map(|modifier| modifier - 4)
        .filter(|packed| *packed >= 0);
    let mut text = match (info.oid, packed) {
        (1042 | 1043, Some(length)) => format!("{}({length})", info.sql_name),
        (1700, Some(packed)) => format!("numeric({},{})", packed >> 16, packed & 0xffff),
        // Without a length, bpchar is not character(1).
        (1042, None) if modifier.is_some() => "bpchar".to_owned(),
        _ => info.sql_name.to_owned(),
    };
    if array {
        text.push_str("[]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_either_name_and_printed_with_their_modifiers() {
        assert_eq!(by_name("integer"), Some(23));
        assert_eq!(by_name("int4[]"), Some(1007));
        assert_eq!(by_name("_text"), Some(1009));
        assert_eq!(by_name("numeric(10,2)"), Some(1700));
        assert_eq!(by_name("hstore"), None);
        assert_eq!(format_type(1043, Some(14)), "character varying(10)");
        assert_eq!(format_type(1700, Some((10 << 16 | 2) + 4)), "numeric(10,2)");
        assert_eq!(format_type(1007, Some(-1)), "integer[]");
        assert_eq!(format_type(25, None), "text");
    }
}
