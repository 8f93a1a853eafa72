//! What PostgreSQL calls a result column that has no alias (`FigureColname`).

use crate::expr::folded;
use sqlparser::ast::{self, Expr, FunctionArguments, ObjectNamePart, SelectItem, SetExpr, Value};

/// The name of a column whose expression gives it none.
pub const UNNAMED: &str = "?column?";

/// The name of an unaliased result column.
pub fn output_name(expr: &Expr) -> String {
    match named(expr) {
        Some(Named::Well(name) | Named::Weakly(name)) => name,
        None => UNNAMED.to_owned(),
    }
}

/// A name that an expression gives. A cast or CASE around it takes over a good one only.
enum Named {
    Well(String),
    Weakly(String),
}

fn named(expr: &Expr) -> Option<Named> {
    let well = |name: &str| Some(Named::Well(name.to_owned()));
    match expr {
        Expr::Identifier(ident) => Some(Named::Well(folded(ident))),
        Expr::CompoundIdentifier(parts) => Some(Named::Well(folded(parts.last()?))),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => named(inner),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                ast::AccessExpr::Dot(Expr::Identifier(field)) => Some(folded(field)),
                _ => None,
            });
            field.map(Named::Well).or_else(|| named(root))
        }
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => match named(inner) {
            Some(Named::Well(name)) => Some(Named::Well(name)),
            _ => Some(Named::Weakly(type_name(data_type))),
        },
        Expr::TypedString(typed) => Some(Named::Weakly(type_name(&typed.data_type))),
        Expr::Interval(_) => Some(Named::Weakly("interval".to_owned())),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => {
            Some(Named::Weakly("bool".to_owned()))
        }
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(named) {
            Some(Named::Well(name)) => Some(Named::Well(name)),
            _ => Some(Named::Weakly("case".to_owned())),
        },
        Expr::Function(function) => match function.name.0.last()? {
            ObjectNamePart::Identifier(ident) => {
                let name = folded(ident);
                let array = matches!(function.args, FunctionArguments::Subquery(_));
                well(if array { "array" } else { &name })
            }
            ObjectNamePart::Function(_) => None,
        },
        Expr::Exists { negated: false, .. } => well("exists"),
        Expr::Extract { .. } => well("extract"),
        Expr::Substring { shorthand: true, .. } => well("substr"),
        Expr::Substring { .. } => well("substring"),
        Expr::Position { .. } => well("position"),
        Expr::Trim { trim_where, .. } => well(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::Overlay { .. } => well("overlay"),
        Expr::Ceil { .. } => well("ceil"),
        Expr::Floor { .. } => well("floor"),
        Expr::AtTimeZone { .. } => well("timezone"),
        Expr::Array(_) => well("array"),
        Expr::Tuple(_) => well("row"),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(inner) => named(inner),
                SelectItem::ExprWithAlias { alias, .. } => Some(Named::Well(folded(alias))),
                _ => None,
            },
            SetExpr::Values(_) => well("column1"),
            _ => None,
        },
        _ => None,
    }
}

/// The internal name of a type, which PostgreSQL gives to a column that is a bare cast.
fn type_name(sql: &ast::DataType) -> String {
    use ast::DataType as Sql;
    match sql {
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) => "int4",
        Sql::BigInt(_) | Sql::Int8(_) => "int8",
        Sql::SmallInt(_) | Sql::Int2(_) => "int2",
        Sql::Boolean | Sql::Bool => "bool",
        Sql::Real | Sql::Float4 => "float4",
        Sql::DoublePrecision | Sql::Double(_) | Sql::Float(_) | Sql::Float8 => "float8",
        Sql::Numeric(_) | Sql::Decimal(_) | Sql::Dec(_) => "numeric",
        Sql::Varchar(_) | Sql::CharacterVarying(_) | Sql::CharVarying(_) => "varchar",
        Sql::Char(_) | Sql::Character(_) => "bpchar",
        Sql::Timestamp(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => "timestamptz",
        Sql::Timestamp(..) => "timestamp",
        Sql::Time(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => "timetz",
        Sql::Time(..) => "time",
        Sql::Interval { .. } => "interval",
        Sql::Array(
            ast::ArrayElemTypeDef::SquareBracket(element, _) | ast::ArrayElemTypeDef::AngleBracket(element),
        ) => {
            return type_name(element);
        }
        Sql::Custom(name, _) => {
            return match name.0.last().and_then(|part| part.as_ident()) {
                Some(ident) => folded(ident),
                None => name.to_string(),
            };
        }
        other => return other.to_string().to_ascii_lowercase(),
    }
    .to_owned()
}
