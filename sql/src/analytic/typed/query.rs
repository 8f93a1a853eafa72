//! A whole query: WITH, its body, ORDER BY and LIMIT.

use super::build;
use super::set::places;
use super::{Cte, Output, Typer};
use crate::error::{Error, SqlState};
use crate::expr::{Scope, folded};
use scry_engine::DataType;
use sqlparser::ast::{
    Expr as Ast, LimitClause, OrderBy, OrderByKind, Query, SelectItem, SetExpr, SetOperator, SetQuantifier,
    Spanned, TableAlias, Value, With,
};
use std::rc::Rc;

impl Typer<'_> {
    pub(super) fn query(
        &mut self,
        query: &mut Query,
        outer: Option<&Rc<Scope>>,
    ) -> Result<Vec<Output>, Error> {
        let in_view = self.ctes.len();
        let outputs = self.query_in_view(query, outer);
        self.ctes.truncate(in_view);
        outputs
    }

    fn query_in_view(&mut self, query: &mut Query, outer: Option<&Rc<Scope>>) -> Result<Vec<Output>, Error> {
        if let Some(with) = &mut query.with {
            self.with(with, outer)?;
        }
        fetch_as_limit(query);
        let outputs = self.body(&mut query.body, query.order_by.as_mut(), outer)?;
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            if let Some(limit) = limit {
                self.row_count(limit, "LIMIT")?;
            }
            if let Some(offset) = offset {
                self.row_count(&mut offset.value, "OFFSET")?;
            }
        }
        Ok(outputs)
    }

    /// A query's body with its order.
    pub(super) fn body(
        &mut self,
        body: &mut SetExpr,
        order_by: Option<&mut OrderBy>,
        outer: Option<&Rc<Scope>>,
    ) -> Result<Vec<Output>, Error> {
        match body {
            SetExpr::Select(select) => return self.select(select, order_by, outer),
            SetExpr::Query(query) if order_by.is_none() => return self.query(query, outer),
            _ => {}
        }
        let outputs = match body {
            SetExpr::SetOperation {
                left,
                op,
                right,
                set_quantifier,
            } => {
                let (op, all) = (*op, *set_quantifier == SetQuantifier::All);
                let outputs = self.set_operation(left, &op, right, outer)?;
                if all && op != SetOperator::Union {
                    let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                    *body = build::multiset(*left.clone(), op, *right.clone(), &names)?;
                }
                outputs
            }
            SetExpr::Values(values) => self.values(values, outer)?,
            SetExpr::Query(query) => self.query(query, outer)?,
            SetExpr::Table(table) => {
                let query = build::table_query(table)?;
                *body = query;
                return self.body(body, order_by, outer);
            }
            _ => Vec::new(),
        };
        if let Some(order_by) = order_by {
            order_of_outputs(order_by, &outputs)?;
        }
        Ok(outputs)
    }

    fn with(&mut self, with: &mut With, outer: Option<&Rc<Scope>>) -> Result<(), Error> {
        for cte in &mut with.cte_tables {
            let name = folded(&cte.alias.name);
            let outputs = if with.recursive && names(&cte.query, &name) {
                self.recursive(&mut cte.query, &cte.alias, outer)?
            } else {
                let outputs = self.query(&mut cte.query, outer)?;
                self.texts(&mut cte.query.body, outputs)?
            };
            let columns = renamed(&cte.alias, outputs, &name)?;
            self.ctes.push(Cte { name, columns });
        }
        Ok(())
    }

    /// The first part gives the columns; the second sees them.
    fn recursive(
        &mut self,
        query: &mut Query,
        alias: &TableAlias,
        outer: Option<&Rc<Scope>>,
    ) -> Result<Vec<Output>, Error> {
        let name = folded(&alias.name);
        let SetExpr::SetOperation { left, op, right, .. } = query.body.as_mut() else {
            let outputs = self.query(query, outer)?;
            return self.texts(&mut query.body, outputs);
        };
        let op = *op;
        let first = self.body(left, None, outer)?;
        let first = self.texts(left, first)?;
        let columns = renamed(alias, first.clone(), &name)?;
        self.ctes.push(Cte { name, columns });
        let places = places(right);
        let second = self.body(right, None, outer);
        self.ctes.pop();
        let second = second?;
        for (column, (ours, theirs)) in first.iter().zip(&second).enumerate() {
            if let (Some(ours_ty), Some(theirs)) = (ours.ty, theirs.ty)
                && ours_ty.without_modifier() != theirs.without_modifier()
                && !(ours_ty.is_text() && theirs.is_text())
            {
                let error = Error::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "recursive query \"{}\" column {} has type {} in non-recursive term but type {} overall",
                        folded(&alias.name),
                        column + 1,
                        crate::expr::plain_name(&ours_ty),
                        crate::expr::plain_name(&theirs)
                    ),
                );
                return Err(error.with_hint("Cast the output of the non-recursive term to the correct type."));
            }
        }
        self.unite(&op, (left, first), (right, second), &places)
    }

    /// Makes columns without a type texts, as a query inside of another has them.
    pub(super) fn texts(&mut self, body: &mut SetExpr, outputs: Vec<Output>) -> Result<Vec<Output>, Error> {
        let types: Vec<Option<DataType>> = outputs
            .iter()
            .map(|output| match output.open {
                Some(_) => Some(DataType::Text),
                None => output.ty,
            })
            .collect();
        self.convert(body, &outputs, &types)?;
        Ok(outputs
            .into_iter()
            .zip(types)
            .map(|(output, ty)| Output {
                name: output.name,
                ty,
                open: None,
            })
            .collect())
    }
}

/// Whether a query reads a relation of that name.
fn names(query: &Query, name: &str) -> bool {
    use std::ops::ControlFlow;
    sqlparser::ast::visit_relations(query, |relation| match relation.0.as_slice() {
        [only] if only.as_ident().is_some_and(|ident| folded(ident) == name) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// A relation's columns under the names that its alias gives them.
pub(super) fn renamed(
    alias: &TableAlias,
    outputs: Vec<Output>,
    relation: &str,
) -> Result<Vec<(String, Option<DataType>)>, Error> {
    if alias.columns.len() > outputs.len() {
        return Err(Error::new(
            SqlState::INVALID_COLUMN_REFERENCE,
            format!(
                "table \"{relation}\" has {} columns available but {} columns specified",
                outputs.len(),
                alias.columns.len()
            ),
        ));
    }
    Ok(outputs
        .into_iter()
        .enumerate()
        .map(|(index, output)| match alias.columns.get(index) {
            Some(column) => (folded(&column.name), output.ty),
            None => (output.name, output.ty),
        })
        .collect())
}

/// ORDER BY of a set operation or of VALUES: by number or by the name of a column of the result.
fn order_of_outputs(order_by: &mut OrderBy, outputs: &[Output]) -> Result<(), Error> {
    let OrderByKind::Expressions(list) = &mut order_by.kind else {
        return Ok(());
    };
    for item in list {
        let place = item.expr.span().start;
        match &item.expr {
            Ast::Identifier(name) => {
                let name = folded(name);
                match outputs.iter().position(|output| output.name == name) {
                    Some(index) => item.expr = build::number(index + 1),
                    None => {
                        return Err(Error::new(
                            SqlState::UNDEFINED_COLUMN,
                            format!("column \"{name}\" does not exist"),
                        )
                        .at(place));
                    }
                }
            }
            Ast::Value(_) => check_position(&item.expr, outputs.len(), "ORDER BY")?,
            _ => {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                )
                .with_detail("Only result column names can be used, not expressions or functions.")
                .with_hint(
                    "Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                )
                .at(place));
            }
        }
    }
    Ok(())
}

/// A constant in ORDER BY or GROUP BY is the number of a column.
pub(super) fn check_position(expr: &Ast, columns: usize, clause: &str) -> Result<(), Error> {
    let Ast::Value(value) = expr else {
        return Ok(());
    };
    match &value.value {
        Value::Placeholder(_) => Ok(()),
        Value::Number(text, _) if text.parse::<i64>().is_ok() => match text.parse::<usize>() {
            Ok(number) if (1..=columns).contains(&number) => Ok(()),
            _ => Err(Error::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("{clause} position {text} is not in select list"),
            )
            .at(value.span.start)),
        },
        _ => Err(Error::syntax(format!("non-integer constant in {clause}")).at(value.span.start)),
    }
}

/// FETCH FIRST n ROWS ONLY is LIMIT n.
fn fetch_as_limit(query: &mut Query) {
    let plain = query
        .fetch
        .as_ref()
        .is_some_and(|fetch| !fetch.with_ties && !fetch.percent);
    if !plain {
        return;
    }
    let count = match query.fetch.take().and_then(|fetch| fetch.quantity) {
        Some(count) => count,
        None => build::number(1),
    };
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = Some(count),
        _ => {
            query.limit_clause = Some(LimitClause::LimitOffset {
                limit: Some(count),
                offset: None,
                limit_by: Vec::new(),
            });
        }
    }
}

/// The written items of a select list, where each is an expression.
pub(super) fn item_expr(item: &SelectItem) -> Option<&Ast> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}
