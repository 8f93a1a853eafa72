//! Text literals that a query reads as another type, in every spelling that PostgreSQL takes: 'Jan 5 2024', '2024-01-05 +02',
//! 'yes'. DataFusion's own casts know fewer, and read times without the session's time zone.
//!
//! Runs on analysed plans, where each coercion stands as a cast. Casts of columns are left to DataFusion.

use super::error::external;
use super::names::Scope;
use super::{from_datafusion, scalar_value, types};
use crate::error::Error;
use crate::types::{InputContext, TimeZone, from_oid, parse_text};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use scry_engine::DataType;

/// The plan with such literals read.
///
/// # Errors
/// When a text is no value of its type.
pub fn read(logical: LogicalPlan, scope: &Scope) -> Result<LogicalPlan, Error> {
    let zone = (scope.settings)("TimeZone").and_then(|name| TimeZone::parse(&name).ok());
    let zone = zone.unwrap_or_else(TimeZone::utc);
    let context = InputContext {
        zone: &zone,
        now: scope.now.get(),
    };
    let read = logical.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let read = expr.transform_up(|expr| literal(expr, &context))?;
            Ok(read.update_data(|expr| name.restore(expr)))
        })
    });
    Ok(read.map_err(from_datafusion)?.data)
}

fn literal(expr: Expr, context: &InputContext<'_>) -> datafusion::common::Result<Transformed<Expr>> {
    let Expr::Cast(Cast { expr: inner, field }) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = inner.as_ref() else {
        return Ok(Transformed::no(expr));
    };
    let oid = types::wire_type(field).oid;
    let ty = match from_oid(oid, -1) {
        Some(
            ty @ (DataType::Bool
            | DataType::Date
            | DataType::Time
            | DataType::Timestamp
            | DataType::TimestampTz),
        ) => ty,
        _ => return Ok(Transformed::no(expr)),
    };
    let value = parse_text(text, &ty, context)
        .and_then(|value| scalar_value(oid, &value))
        .map_err(external)?;
    // DataFusion may want another unit of time than a column has.
    Ok(Transformed::yes(Expr::Literal(
        value.cast_to(field.data_type())?,
        None,
    )))
}
