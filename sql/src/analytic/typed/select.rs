//! SELECT: its list, its conditions, its groups, its order.

use super::build;
use super::calls::is_aggregate;
use super::from::visible;
use super::lower::written_column;
use super::query::{check_position, item_expr};
use super::{Clause, Context, GroupKey, Groups, Meaning, Output, Typer};
use crate::analytic::rewrite::{name_columns, visible_name};
use crate::error::{Error, SqlState};
use crate::expr::{Expr, Scope, folded};
use sqlparser::ast::{
    Distinct, Expr as Ast, GroupByExpr, Ident, NamedWindowExpr, OrderBy, OrderByKind, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Spanned, Visit, Visitor,
};
use std::ops::ControlFlow;
use std::rc::Rc;

impl Typer<'_> {
    pub(super) fn select(
        &mut self,
        select: &mut Select,
        mut order_by: Option<&mut OrderBy>,
        outer: Option<&Rc<Scope>>,
    ) -> Result<Vec<Output>, Error> {
        let scope = Rc::new(self.from(&mut select.from, outer)?);
        expand(select, &scope)?;
        name_columns(select);
        if let Some(selection) = &mut select.selection {
            self.condition(selection, &Context::new(&scope, Clause::Where))?;
        }
        let mut orders = match order_by.as_deref_mut().map(|order| &mut order.kind) {
            Some(OrderByKind::Expressions(list)) => std::mem::take(list),
            _ => Vec::new(),
        };
        // What the order's expressions are is told by the select list as it was written.
        let named = orders
            .iter()
            .map(|order| order_position(&order.expr, select, &scope))
            .collect::<Result<Vec<_>, _>>()?;
        let grouped = is_grouped(select, orders.iter().map(|order| &order.expr));
        let groups = self.groups(select, &scope)?;
        let groups = grouped.then_some(&groups);
        let in_clause = |clause| Context {
            scope: &scope,
            clause,
            groups,
        };
        for window in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(spec) = &mut window.1 {
                self.window(spec, &in_clause(Clause::Window))?;
            }
        }
        let mut outputs = Vec::new();
        for item in &mut select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = match &*expr {
                        Ast::Identifier(name) => folded(name),
                        Ast::CompoundIdentifier(names) => names.last().map(folded).unwrap_or_default(),
                        _ => String::new(),
                    };
                    let meaning = self.value(expr, &in_clause(Clause::Select))?;
                    if !matches!(expr, Ast::Identifier(_) | Ast::CompoundIdentifier(_)) {
                        let (expr, alias) = (expr.clone(), Ident::with_quote('"', name.as_str()));
                        *item = SelectItem::ExprWithAlias { expr, alias };
                    }
                    outputs.push(meaning.output(name));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let name = visible_name(&folded(alias)).to_owned();
                    let meaning = self.value(expr, &in_clause(Clause::Select))?;
                    outputs.push(meaning.output(name));
                }
                SelectItem::Wildcard(_) => {
                    outputs.extend(visible(&scope).map(|(_, column)| known(&column.name, column.ty)));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let relation = name.0.last().and_then(|part| part.as_ident()).map(folded);
                    let columns = scope
                        .columns()
                        .iter()
                        .filter(|column| Some(scope.relation_of(column)) == relation.as_deref());
                    outputs.extend(columns.map(|column| known(&column.name, column.ty)));
                }
                _ => outputs.push(known("", None)),
            }
        }
        if let Some(having) = &mut select.having {
            self.condition(having, &in_clause(Clause::Having))?;
        }
        let distinct = select.distinct.is_some();
        if let Some(Distinct::On(keys)) = &mut select.distinct {
            for key in keys {
                self.distinct_key(key, &select.projection, &in_clause(Clause::OrderBy))?;
            }
        }
        let plain_distinct = distinct && !matches!(select.distinct, Some(Distinct::On(_)));
        for (order, position) in orders.iter_mut().zip(named) {
            let place = order.expr.span().start;
            if let Some(position) = position {
                order.expr = build::number(position);
                continue;
            }
            self.value(&mut order.expr, &in_clause(Clause::OrderBy))?;
            let listed = select
                .projection
                .iter()
                .position(|item| item_expr(item) == Some(&order.expr));
            match listed {
                Some(index) => order.expr = build::number(index + 1),
                None if plain_distinct => {
                    return Err(Error::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                    )
                    .at(place));
                }
                None => {}
            }
        }
        if let Some(OrderByKind::Expressions(list)) = order_by.map(|order| &mut order.kind) {
            *list = orders;
        }
        if let Some(groups) = groups {
            add_dependent(select, &in_clause(Clause::GroupBy), groups)?;
        }
        Ok(outputs)
    }

    fn distinct_key(
        &mut self,
        key: &mut Ast,
        items: &[SelectItem],
        context: &Context<'_>,
    ) -> Result<(), Error> {
        if let Ast::Value(_) = key {
            check_position(key, items.len(), "SELECT DISTINCT ON")?;
            if let Some(expr) = position_of(key).and_then(|index| item_expr(items.get(index)?)) {
                *key = expr.clone();
                return Ok(());
            }
        }
        if let Ast::Identifier(name) = &*key {
            let name = folded(name);
            let aliased = items.iter().find_map(|item| match item {
                SelectItem::ExprWithAlias { expr, alias } if folded(alias) == name => Some(expr),
                _ => None,
            });
            if let Some(expr) = aliased {
                *key = expr.clone();
                return Ok(());
            }
        }
        self.value(key, context).map(|_| ())
    }

    /// Types GROUP BY. A key may be a column's number, or the name of a column of the result that no relation has.
    fn groups(&mut self, select: &mut Select, scope: &Rc<Scope>) -> Result<Groups, Error> {
        let mut groups = Groups::default();
        let GroupByExpr::Expressions(list, _) = &mut select.group_by else {
            return Ok(groups);
        };
        let items = &select.projection;
        let context = Context::new(scope, Clause::GroupBy);
        for key in list {
            match key {
                Ast::Rollup(sets) | Ast::Cube(sets) | Ast::GroupingSets(sets) => {
                    groups.sets = true;
                    for key in sets.iter_mut().flatten() {
                        self.group_key(key, items, &context, &mut groups)?;
                    }
                }
                key => self.group_key(key, items, &context, &mut groups)?,
            }
        }
        Ok(groups)
    }

    fn group_key(
        &mut self,
        key: &mut Ast,
        items: &[SelectItem],
        context: &Context<'_>,
        groups: &mut Groups,
    ) -> Result<(), Error> {
        check_position(key, items.len(), "GROUP BY")?;
        if let Some(index) = position_of(key) {
            match items.get(index).and_then(item_expr) {
                Some(expr) => *key = expr.clone(),
                None => return Ok(()),
            }
        } else if let Ast::Identifier(name) = &*key {
            let name = folded(name);
            if context.scope.find(None, &name).ok().flatten().is_none() {
                let aliased = items.iter().find_map(|item| match item {
                    SelectItem::ExprWithAlias { expr, alias } if visible_name(&folded(alias)) == name => {
                        Some(expr)
                    }
                    _ => None,
                });
                if let Some(expr) = aliased {
                    *key = expr.clone();
                }
            }
        }
        let meaning = self.value(key, context)?;
        if let Meaning::Open(open) = &meaning {
            *key = self.settle(open, scry_engine::DataType::Text)?;
        }
        groups.keys.push(GroupKey {
            bound: match meaning {
                Meaning::Typed(bound) if !has_leaf(&bound, context.scope.width()) => Some(bound),
                _ => None,
            },
            written: key.clone(),
        });
        Ok(())
    }
}

impl Groups {
    /// Whether a column is a key by itself.
    pub(super) fn has_column(&self, column: usize) -> bool {
        self.keys
            .iter()
            .any(|key| matches!(key.bound, Some(Expr::Column { index, .. }) if index == column))
    }
}

fn known(name: &str, ty: Option<scry_engine::DataType>) -> Output {
    Output {
        name: name.to_owned(),
        ty,
        open: None,
    }
}

/// Whether a part of the expression was answered elsewhere; such parts are told apart by how they are written alone.
fn has_leaf(bound: &Expr, width: usize) -> bool {
    let mut found = false;
    bound.walk(&mut |node| found |= matches!(node, Expr::Column { index, .. } if *index >= width));
    found
}

/// The number of a column, from 0, that stands for it.
fn position_of(expr: &Ast) -> Option<usize> {
    match expr {
        Ast::Value(value) => match &value.value {
            sqlparser::ast::Value::Number(text, _) => text.parse::<usize>().ok()?.checked_sub(1),
            _ => None,
        },
        _ => None,
    }
}

/// The number, from 1, of the column of the result that an item of ORDER BY names.
fn order_position(expr: &Ast, select: &Select, scope: &Scope) -> Result<Option<usize>, Error> {
    check_position(expr, select.projection.len(), "ORDER BY")?;
    if let Some(index) = position_of(expr) {
        return Ok(Some(index + 1));
    }
    let Ast::Identifier(name) = expr else {
        return Ok(None);
    };
    let wanted = folded(name);
    let mut found: Option<(usize, &Ast)> = None;
    for (index, item) in select.projection.iter().enumerate() {
        let (name_of, of) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (visible_name(&folded(alias)).to_owned(), expr),
            SelectItem::UnnamedExpr(of @ Ast::Identifier(name)) => (folded(name), of),
            SelectItem::UnnamedExpr(of @ Ast::CompoundIdentifier(names)) => {
                (names.last().map(folded).unwrap_or_default(), of)
            }
            _ => continue,
        };
        if name_of != wanted {
            continue;
        }
        match found {
            Some((_, first)) if first != of && !same_column(first, of, scope) => {
                return Err(Error::new(
                    SqlState::AMBIGUOUS_COLUMN,
                    format!("ORDER BY \"{wanted}\" is ambiguous"),
                )
                .at(name.span.start));
            }
            Some(_) => {}
            None => found = Some((index + 1, of)),
        }
    }
    Ok(found.map(|(position, _)| position))
}

/// Whether two names are of one column.
fn same_column(left: &Ast, right: &Ast, scope: &Scope) -> bool {
    let column = |expr: &Ast| match expr {
        Ast::Identifier(name) => scope.find(None, &folded(name)).ok().flatten(),
        Ast::CompoundIdentifier(names) => match names.as_slice() {
            [relation, name] => scope.find(Some(&folded(relation)), &folded(name)).ok().flatten(),
            _ => None,
        },
        _ => None,
    };
    column(left).is_some() && column(left) == column(right)
}

/// Whether rows are grouped: by GROUP BY, HAVING, or an aggregate.
fn is_grouped<'e>(select: &'e Select, mut orders: impl Iterator<Item = &'e Ast>) -> bool {
    let by = match &select.group_by {
        GroupByExpr::Expressions(list, modifiers) => !list.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    by || select.having.is_some()
        || select.projection.iter().filter_map(item_expr).any(aggregates)
        || orders.any(aggregates)
}

/// Whether an expression has an aggregate of its own query.
pub(super) fn aggregates(expr: &Ast) -> bool {
    struct Finder {
        depth: usize,
        found: bool,
    }
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_query(&mut self, _: &sqlparser::ast::Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &sqlparser::ast::Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Ast) -> ControlFlow<()> {
            if let Ast::Function(function) = expr
                && self.depth == 0
                && function.over.is_none()
                && is_aggregate(function)
            {
                self.found = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    let mut finder = Finder {
        depth: 0,
        found: false,
    };
    let _: ControlFlow<()> = expr.visit(&mut finder);
    finder.found
}

/// Writes out `*` and `t.*`, unless a relation has two columns of one name, which then have no names of their own.
fn expand(select: &mut Select, scope: &Rc<Scope>) -> Result<(), Error> {
    let context = Context::new(scope, Clause::Select);
    let mut items = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        let columns: Vec<usize> =
            match &item {
                SelectItem::Wildcard(options) => {
                    if select.from.is_empty() {
                        return Err(Error::syntax("SELECT * with no tables specified is not valid")
                            .at(options.wildcard_token.0.span.start));
                    }
                    visible(scope).map(|(index, _)| index).collect()
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let relation = name
                        .0
                        .last()
                        .and_then(|part| part.as_ident())
                        .map(folded)
                        .unwrap_or_default();
                    if !scope.has_relation(&relation) {
                        return Err(scope.no_relation(&relation).at(name.span().start));
                    }
                    let columns = scope.columns().iter().enumerate();
                    columns
                        .filter(|(_, column)| scope.relation_of(column) == relation)
                        .map(|(index, _)| index)
                        .collect()
                }
                _ => {
                    items.push(item);
                    continue;
                }
            };
        let twice = columns.iter().any(|index| {
            let column = &scope.columns()[*index];
            let relation = scope.relation_of(column);
            scope
                .columns()
                .iter()
                .filter(|other| scope.relation_of(other) == relation && other.name == column.name)
                .count()
                > 1
        });
        if twice {
            items.push(item);
            continue;
        }
        for index in columns {
            let expr = written_column(&context, index)?;
            items.push(match &scope.columns()[index].stands_for {
                None => SelectItem::UnnamedExpr(expr),
                Some(_) => SelectItem::ExprWithAlias {
                    expr,
                    alias: build::quoted(&scope.columns()[index].name),
                },
            });
        }
    }
    select.projection = items;
    Ok(())
}

/// Columns that a whole key fixes become keys too: DataFusion knows of no such dependence.
fn add_dependent(select: &mut Select, context: &Context<'_>, groups: &Groups) -> Result<(), Error> {
    if let GroupByExpr::Expressions(list, _) = &mut select.group_by {
        for index in groups.dependent.borrow().iter() {
            list.push(written_column(context, *index)?);
        }
    }
    Ok(())
}
