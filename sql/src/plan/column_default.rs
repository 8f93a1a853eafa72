//! What a column gets when nobody gives it a value.
//!
//! The catalog keeps expressions as text. Where one names a sequence by a constant, the text has the sequence's oid in its place, as
//! `nextval('16390'::REGCLASS)`, so that the sequence may be renamed; [`shown`] puts the name back.

use crate::error::Error;
use crate::plan::parse;
use crate::plan::scalar::{Binder, Refusal, Scalar};
use scry_engine::{Catalog, ColumnDef, ColumnDefault};
use sqlparser::ast;

/// How a sequence is named in a default: by its oid.
pub fn reference(oid: u32) -> String {
    format!("'{oid}'{CAST}")
}

/// Behind the oid, as sqlparser writes it.
const CAST: &str = "::REGCLASS";

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
