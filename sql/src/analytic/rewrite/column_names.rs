//! The columns of a select list, each with a name of its own.

use crate::expr::folded;
use crate::plan::output_name::{UNNAMED, output_name};
use sqlparser::ast::{Expr, Ident, Select, SelectItem};
use std::collections::HashSet;

/// Separates a result column's name from the hidden suffix that makes it unique.
const HIDDEN: char = '\u{1}';

/// The name that a client sees.
pub fn visible_name(name: &str) -> &str {
    name.split_once(HIDDEN).map_or(name, |(visible, _)| visible)
}

/// Gives every column of the select list its name, each only once.
pub fn name_columns(select: &mut Select) {
    let mut taken: HashSet<String> = HashSet::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let (name, qualified) = match item {
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => (folded(ident), false),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                (parts.last().map(folded).unwrap_or_default(), true)
            }
            SelectItem::UnnamedExpr(expr) => {
                let name = output_name(expr);
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
