//! Text literals that a query reads as another type, in every spelling that PostgreSQL takes: 'Jan 5 2024', '2024-01-05 +02',
//! 'yes'. DataFusion's own casts know fewer, and read times without the session's time zone.
//!
//! Runs on analysed plans, where each coercion stands as a cast. Casts of columns are left to DataFusion.

use super::error::external;
use super::names::Scope;
use super::{from_datafusion, scalar_value, types};
use crate::error::Error;
use crate::types::{InputContext, TimeZone, coerce_length, from_oid, parse_text};
use datafusion::arrow::datatypes::DataType as Arrow;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use scry_engine::{DataType, Value};

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
    let wire = types::wire_type(field);
    let ty = match from_oid(wire.oid, wire.modifier) {
        Some(DataType::Text | DataType::Varchar(None)) | None => return Ok(Transformed::no(expr)),
        Some(ty) => ty,
    };
    let value = parse_text(text, &ty.without_modifier(), context)
        .and_then(|value| match ty {
            DataType::Numeric(None) => Ok(value),
            ty => coerce_length(value, &ty, true),
        })
        .map_err(external)?;
    let scalar = match (&value, field.data_type()) {
        // Through a numeric without precision, digits would be lost.
        (Value::Numeric(number), Arrow::Decimal128(precision, scale)) => {
            let fitted = number
                .fit(*precision, (*scale).max(0).cast_unsigned())
                .map_err(|error| external(error.into()))?;
            ScalarValue::Decimal128(Some(fitted.mantissa()), *precision, *scale)
        }
        // DataFusion may want another unit of time than a column has.
        (value, arrow) => scalar_value(wire.oid, value).map_err(external)?.cast_to(arrow)?,
    };
    Ok(Transformed::yes(Expr::Literal(scalar, None)))
}
