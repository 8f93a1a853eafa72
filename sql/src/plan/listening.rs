//! `pg_listening_channels()`, a function that gives rows: written as a query of the view `scry_listening`.

use crate::expr::folded;
use sqlparser::ast::{
    Expr, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem, TableAlias, TableAliasColumnDef,
    TableFactor, TableWithJoins, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

const FUNCTION: &str = "pg_listening_channels";

/// Rewrites the calls in FROM, and one that is alone in its SELECT. Any other stays, as a function that does not exist.
pub fn rewrite(query: &mut Query) {
    let _: ControlFlow<()> = VisitMut::visit(query, &mut Rewriter);
}

/// Whether the text may have any.
pub fn is_mentioned(sql: &str) -> bool {
    let mut starts = memchr::memchr2_iter(b'p', b'P', sql.as_bytes());
    starts.any(|at| {
        let word = sql.as_bytes().get(at..at + FUNCTION.len());
        word.is_some_and(|word| word.eq_ignore_ascii_case(FUNCTION.as_bytes()))
    })
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if select.from.is_empty()
            && let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] =
                select.projection.as_mut_slice()
            && let Expr::Function(function) = expr
            && is_function(&function.name)
            && matches!(&function.args, FunctionArguments::List(list) if list.args.is_empty())
        {
            *expr = Expr::Identifier(Ident::new(FUNCTION));
            select.from.push(TableWithJoins {
                relation: view(None),
                joins: Vec::new(),
            });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            name,
            alias,
            args: Some(arguments),
            ..
        } = factor
            && is_function(name)
            && arguments.args.is_empty()
        {
            *factor = view(alias.take());
        }
        ControlFlow::Continue(())
    }
}

fn is_function(name: &ObjectName) -> bool {
    let mut parts = name.0.iter().map(|part| part.as_ident().map(folded));
    match (parts.next().flatten(), parts.next(), parts.next()) {
        (Some(only), None, _) => only == FUNCTION,
        (Some(schema), Some(Some(name)), None) => schema == "pg_catalog" && name == FUNCTION,
        _ => false,
    }
}

/// The view, whose one column is called like the relation unless the query says otherwise.
fn view(alias: Option<TableAlias>) -> TableFactor {
    let mut alias = alias.unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::new(FUNCTION),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() {
        alias.columns = vec![TableAliasColumnDef {
            name: alias.name.clone(),
            data_type: None,
        }];
    }
    TableFactor::Table {
        name: ObjectName::from(vec![Ident::new("pg_catalog"), Ident::new("scry_listening")]),
        alias: Some(alias),
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}
