//! The select list of INSERT … SELECT: an item that has no type of its own takes the type of its column.
//!
//! As in PostgreSQL only a string literal, NULL or a parameter that stands there by itself does so. In any other place (below
//! a UNION, in a subquery, inside of CASE) the query gives it a type before INSERT sees it.

use crate::analytic::cast;
use scry_engine::DataType;
use sqlparser::ast;
use std::borrow::Cow;

/// The query with a cast around each such item. `types`: of the columns, in the order of the items; `known`: oids of the
/// parameters' types, 0 where a parameter has none yet.
pub fn typed<'q>(query: &'q ast::Query, types: &[DataType], known: &[u32]) -> Cow<'q, ast::Query> {
    let mut query = Cow::Borrowed(query);
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return query;
    };
    // Behind a `*` nobody knows yet which column an item is for.
    let open: Vec<(usize, DataType)> = select
        .projection
        .iter()
        .map_while(expression)
        .zip(types)
        .enumerate()
        .filter(|(_, (expr, ty))| !ty.is_text() && is_open(expr, known))
        .map(|(index, (_, ty))| (index, ty.without_modifier()))
        .collect();
    if open.is_empty() {
        return query;
    }
    if let ast::SetExpr::Select(select) = query.to_mut().body.as_mut() {
        for (index, ty) in open {
            if let ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } =
                &mut select.projection[index]
            {
                let item = std::mem::replace(expr, ast::Expr::value(ast::Value::Null));
                *expr = cast(item, &ty);
            }
        }
    }
    query
}

fn expression(item: &ast::SelectItem) -> Option<&ast::Expr> {
    match item {
        ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

fn is_open(expr: &ast::Expr, known: &[u32]) -> bool {
    match expr {
        ast::Expr::Nested(inner) => is_open(inner, known),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Null
            | ast::Value::SingleQuotedString(_)
            | ast::Value::EscapedStringLiteral(_)
            | ast::Value::UnicodeStringLiteral(_)
            | ast::Value::DollarQuotedString(_) => true,
            ast::Value::Placeholder(name) => {
                let number: Option<usize> = name.strip_prefix('$').and_then(|digits| digits.parse().ok());
                let given = number.and_then(|number| known.get(number.checked_sub(1)?));
                given.is_none_or(|oid| *oid == 0)
            }
            _ => false,
        },
        _ => false,
    }
}
