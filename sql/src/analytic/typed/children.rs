//! The expressions right below an expression, as the parser has them.

use sqlparser::ast::{
    AccessExpr, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Subscript,
};

/// Writes the function twice: for shared and for exclusive references.
macro_rules! children {
    ($name:ident, $access:ident, $iter:ident, $deref:ident $(, $mutable:tt)?) => {
        /// Subqueries are not among them, nor what an aggregate or window call is made of beside its arguments.
        pub fn $name<'e>(expr: &'e $($mutable)? Expr) -> Vec<&'e $($mutable)? Expr> {
            let mut found: Vec<&'e $($mutable)? Expr> = Vec::new();
            match expr {
                Expr::IsFalse(e)
                | Expr::IsNotFalse(e)
                | Expr::IsTrue(e)
                | Expr::IsNotTrue(e)
                | Expr::IsNull(e)
                | Expr::IsNotNull(e)
                | Expr::IsUnknown(e)
                | Expr::IsNotUnknown(e)
                | Expr::Nested(e)
                | Expr::UnaryOp { expr: e, .. }
                | Expr::Cast { expr: e, .. }
                | Expr::Extract { expr: e, .. }
                | Expr::Ceil { expr: e, .. }
                | Expr::Floor { expr: e, .. }
                | Expr::Collate { expr: e, .. }
                | Expr::JsonAccess { value: e, .. }
                | Expr::Named { expr: e, .. }
                | Expr::InSubquery { expr: e, .. } => found.push(e),
                Expr::IsDistinctFrom(left, right)
                | Expr::IsNotDistinctFrom(left, right)
                | Expr::BinaryOp { left, right, .. }
                | Expr::AnyOp { left, right, .. }
                | Expr::AllOp { left, right, .. }
                | Expr::Position { expr: left, r#in: right }
                | Expr::Like { expr: left, pattern: right, .. }
                | Expr::ILike { expr: left, pattern: right, .. }
                | Expr::SimilarTo { expr: left, pattern: right, .. }
                | Expr::InUnnest { expr: left, array_expr: right, .. }
                | Expr::AtTimeZone { timestamp: left, time_zone: right } => found.extend([left, right].map(|e| e.$deref())),
                Expr::InList { expr, list, .. } => {
                    found.push(expr);
                    found.extend(list);
                }
                Expr::Between { expr, low, high, .. } => found.extend([expr, low, high].map(|e| e.$deref())),
                Expr::Substring {
                    expr,
                    substring_from,
                    substring_for,
                    ..
                } => {
                    found.push(expr);
                    found.extend(substring_from.$iter().map(|e| e.$deref()));
                    found.extend(substring_for.$iter().map(|e| e.$deref()));
                }
                Expr::Trim {
                    expr,
                    trim_what,
                    trim_characters,
                    ..
                } => {
                    found.push(expr);
                    found.extend(trim_what.$iter().map(|e| e.$deref()));
                    found.extend(trim_characters.$iter().flatten());
                }
                Expr::Overlay {
                    expr,
                    overlay_what,
                    overlay_from,
                    overlay_for,
                } => {
                    found.extend([expr, overlay_what, overlay_from].map(|e| e.$deref()));
                    found.extend(overlay_for.$iter().map(|e| e.$deref()));
                }
                Expr::Function(Function {
                    args: FunctionArguments::List(list),
                    ..
                }) => found.extend(list.args.$iter().filter_map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(e))
                    | FunctionArg::Named {
                        arg: FunctionArgExpr::Expr(e),
                        ..
                    } => Some(e),
                    _ => None,
                })),
                Expr::Case {
                    operand,
                    conditions,
                    else_result,
                    ..
                } => {
                    found.extend(operand.$iter().map(|e| e.$deref()));
                    for CaseWhen { condition, result } in conditions {
                        found.extend([condition, result]);
                    }
                    found.extend(else_result.$iter().map(|e| e.$deref()));
                }
                Expr::Tuple(items) => found.extend(items),
                Expr::Struct { values, .. } => found.extend(values),
                Expr::Array(array) => found.extend(&$($mutable)? array.elem),
                Expr::CompoundFieldAccess { root, access_chain } => {
                    // `t.c[1]`: the root alone is no expression.
                    if !matches!(access_chain.first(), Some(AccessExpr::Dot(_))) {
                        found.push(root);
                    }
                    for access in access_chain {
                        match access {
                            AccessExpr::Subscript(Subscript::Index { index }) => found.push(index),
                            AccessExpr::Subscript(Subscript::Slice {
                                lower_bound,
                                upper_bound,
                                ..
                            }) => {
                                found.extend(lower_bound);
                                found.extend(upper_bound);
                            }
                            AccessExpr::Dot(_) => {}
                        }
                    }
                }
                _ => {}
            }
            found
        }
    };
}

children!(children, as_ref, iter, as_ref);
children!(children_mut, as_mut, iter_mut, as_mut, mut);
