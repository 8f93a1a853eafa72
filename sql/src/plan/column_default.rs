//! What a column gets when nobody gives it a value.
//!
//! The catalog keeps expressions as text. Where one names a sequence by a constant, the text has the sequence's oid in its place, as
//! `nextval('16390'::REGCLASS)`, so that the sequence may be renamed; [`shown`] puts the name back.

use crate::error::Error;
use crate::expr;
use crate::plan::parse;
use crate::plan::scalar::{Binder, Refusal, Scalar};
use crate::sequence;
use scry_engine::{Catalog, ColumnDef, ColumnDefault};
use sqlparser::ast::{self, VisitMut, VisitorMut};
use std::ops::ControlFlow;

/// How a sequence is named in a default: by its oid.
pub fn reference(oid: u32) -> String {
    format!("'{oid}'{CAST}")
}

/// Behind the oid, as sqlparser writes it.
const CAST: &str = "::REGCLASS";

/// The text of a default as the catalog keeps it: constants that name sequences give way to oids.
///
/// # Errors
/// 42P01 for a sequence that is not there.
pub fn stored(expression: &ast::Expr, catalog: &Catalog) -> Result<String, Error> {
    let mut expression = expression.clone();
    match VisitMut::visit(&mut expression, &mut Resolving { catalog }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(expression.to_string()),
    }
}

struct Resolving<'a> {
    catalog: &'a Catalog,
}

impl VisitorMut for Resolving<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        if let ast::Expr::Function(function) = expr
            && let Some(name) = function.name.0.last().and_then(|name| name.as_ident())
            && expr::takes_sequence(&expr::folded(name))
            && let ast::FunctionArguments::List(list) = &mut function.args
            && let Some(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument))) =
                list.args.first_mut()
            && let ast::Expr::Value(value) = expr::without_regclass(argument)
            && let ast::Value::SingleQuotedString(text) = &value.value
        {
            let place = value.span.start;
            match sequence::by_name(self.catalog, text)
                .and_then(|sequence| parse::expression(&reference(sequence.def.oid)))
            {
                Ok(reference) => *argument = reference,
                Err(error) => return ControlFlow::Break(error.nowhere().at(place)),
            }
        }
        ControlFlow::Continue(())
    }
}

/// The text of the default expression; `None`: NULL, or what the other columns give.
fn text(column: &ColumnDef) -> Option<std::borrow::Cow<'_, str>> {
    match column.default.as_ref()? {
        ColumnDefault::Expression(text) => Some(text.into()),
        ColumnDefault::Identity { sequence, .. } => Some(format!("nextval({})", reference(*sequence)).into()),
        ColumnDefault::Generated(_) => None,
    }
}

/// A column's default expression, whose text is not the client's.
pub fn expression(column: &ColumnDef) -> Result<Option<ast::Expr>, Error> {
    let parse = |text: std::borrow::Cow<'_, str>| parse::expression(&text).map_err(Error::nowhere);
    text(column).map(parse).transpose()
}

/// A column's default, compiled.
pub fn compiled(column: &ColumnDef, binder: &mut Binder<'_>) -> Result<Option<Scalar>, Refusal> {
    let Some(expression) = expression(column)? else {
        return Ok(None);
    };
    match binder.assigned(&expression, column) {
        Ok(default) => Ok(Some(default)),
        Err(Refusal::Error(error)) => Err(Refusal::Error(error.nowhere())),
        Err(other) => Err(other),
    }
}

/// The oids of the sequences that a text names.
pub fn sequences(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.split(CAST)
        .filter_map(|part| part.strip_suffix('\'')?.rsplit('\'').next()?.parse().ok())
}

/// A text as clients see it: sequences by their names.
pub fn shown(text: &str, catalog: &Catalog) -> String {
    let mut shown = text.to_owned();
    for oid in sequences(text) {
        if let Some(sequence) = catalog.sequences().by_oid(oid) {
            let name = crate::analytic::quote_ident(&sequence.def.name).replace('\'', "''");
            shown = shown.replace(&reference(oid), &format!("'{name}'::regclass"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_found_in_a_text_and_nothing_else_is() {
        let found = |text| sequences(text).collect::<Vec<_>>();
        assert_eq!(found("nextval('16390'::REGCLASS)"), [16390]);
        assert_eq!(found("nextval('7'::REGCLASS) + setval('8'::REGCLASS, 1)"), [7, 8]);
        assert_eq!(
            found("'16390' || x::REGCLASS || '''9''::REGCLASS'"),
            [] as [u32; 0]
        );
        assert_eq!(found("5"), [] as [u32; 0]);
    }
}
