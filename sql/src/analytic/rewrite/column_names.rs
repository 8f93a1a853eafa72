//! What PostgreSQL calls the columns of a select list.

use sqlparser::ast::{self, Expr, Ident, ObjectNamePart, Select, SelectItem, SetExpr, Value};
use std::collections::HashSet;

/// Separates a result column's name from the hidden suffix that makes it unique.
const HIDDEN: char = '\u{1}';

/// The name that a client sees.
pub fn visible_name(name: &str) -> &str {
    name.split_once(HIDDEN).map_or(name, |(visible, _)| visible)
}

/// Gives every column of the select list its name, each only once.
pub(super) fn name_columns(select: &mut Select) {
    let mut taken: HashSet<String> = HashSet::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let (name, qualified) = match item {
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => (folded(ident), false),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                (parts.last().map(folded).unwrap_or_default(), true)
            }
            SelectItem::UnnamedExpr(expr) => {
                let name = column_name(expr);
                let unique = unique(&name, index, &mut taken);
                let alias = Ident::with_quote('"', unique);
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
                continue;
            }
            SelectItem::ExprWithAlias { alias, .. } => (folded(alias), false),
            _ => continue,
        };
        if taken.insert(name.clone()) {
            continue;
        }
        // The same name again. Qualified columns may share a name, yet not with themselves; a suffix serves both.
        let alias = Ident::with_quote('"', format!("{name}{HIDDEN}{index}"));
        match item {
            SelectItem::UnnamedExpr(expr) if qualified || matches!(expr, Expr::Identifier(_)) => {
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
            }
            SelectItem::ExprWithAlias { alias: old, .. } => *old = alias,
            _ => {}
        }
    }
}

fn unique(name: &str, index: usize, taken: &mut HashSet<String>) -> String {
    // `?column?` is never referred to, and DataFusion would take many such aliases in nested queries for one.
    if name != UNNAMED && taken.insert(name.to_owned()) {
        name.to_owned()
    } else {
        format!("{name}{HIDDEN}{index}")
    }
}

/// An identifier as PostgreSQL folds it.
pub fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() {
        ident.value.clone()
    } else {
        ident.value.to_ascii_lowercase()
    }
}

const UNNAMED: &str = "?column?";

/// PostgreSQL's name of an unaliased result column (`FigureColname`).
pub(super) fn column_name(expr: &Expr) -> String {
    strong_name(expr).unwrap_or_else(|| UNNAMED.to_owned())
}

fn strong_name(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(parts) => folded(parts.last()?),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return strong_name(inner),
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => match strong_name(inner) {
            Some(name) => name,
            None => type_name(data_type),
        },
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Interval(_) => "interval".to_owned(),
        Expr::Function(function) => match function.name.0.last()? {
            ObjectNamePart::Identifier(ident) => folded(ident),
            ObjectNamePart::Function(_) => return None,
        },
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(strong_name) {
            Some(name) if !matches!(else_result.as_deref(), Some(Expr::Cast { .. })) => name,
            _ => "case".to_owned(),
        },
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Trim { trim_where, .. } => match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim".to_owned(),
            Some(ast::TrimWhereField::Trailing) => "rtrim".to_owned(),
            _ => "btrim".to_owned(),
        },
        Expr::Overlay { .. } => "overlay".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::AtTimeZone { .. } => "timezone".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Tuple(_) => "row".to_owned(),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => "bool".to_owned(),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(inner) => column_name(inner),
                SelectItem::ExprWithAlias { alias, .. } => folded(alias),
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    })
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
        Sql::Varchar(_) | Sql::CharacterVarying(_) => "varchar",
        Sql::Char(_) | Sql::Character(_) => "bpchar",
        Sql::Timestamp(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => "timestamptz",
        Sql::Timestamp(..) => "timestamp",
        Sql::Time(..) => "time",
        Sql::Custom(name, _) => {
            let name = name.to_string();
            return name
                .rsplit('.')
                .next()
                .unwrap_or_default()
                .trim_matches('"')
                .to_ascii_lowercase();
        }
        other => return other.to_string().to_ascii_lowercase(),
    }
    .to_owned()
}
