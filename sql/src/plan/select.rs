//! Compiling SELECTs that run on the engine: one table, or none; no grouping, joins, windows, subqueries, set operations.

use crate::analytic::FutureName;
use crate::error::{Error, SqlState};
use crate::plan::access::{self, Access, IndexAccess};
use crate::plan::output_name::output_name;
use crate::plan::parse;
use crate::plan::row::{LockWait, Locking, Output, Projection, SelectPlan, SortKey};
use crate::plan::scalar::{Binder, Refusal, Scalar};
use crate::session::ColumnDescription;
use crate::types;
use scry_engine::{Catalog, DataType, Table};
use sqlparser::ast::{self, Spanned};
use std::sync::Arc;

pub fn no_such_table(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_TABLE,
        format!("relation \"{name}\" does not exist"),
    )
}

fn not_here<T>(what: &str) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(what.to_owned()))
}

/// The one table of a FROM clause and its alias. `None`: no FROM. Anything else is not for a row plan; nor is a
/// future, which unqualified names mean when `in_future` says so.
fn single_table(
    from: &[ast::TableWithJoins],
    catalog: &Catalog,
    in_future: bool,
) -> Result<Option<(Arc<Table>, String)>, Refusal> {
    let item = match from {
        [] => return Ok(None),
        [item] if item.joins.is_empty() => item,
        _ => return not_here("a join"),
    };
    let ast::TableFactor::Table {
        name,
        alias,
        args: None,
        with_ordinality: false,
        sample: None,
        ..
    } = &item.relation
    else {
        return not_here("a derived table");
    };
    let mut parts = parse::object_parts(name)?;
    let table_name = parts.pop().unwrap_or_default();
    match parts.last() {
        Some(schema) if FutureName::is_meant(schema) => return not_here("a future of a table"),
        Some(schema) if schema != "public" => return not_here("a system catalog"),
        None if in_future => return not_here("a future (scry.future is set)"),
        _ => {}
    }
    let Some(table) = catalog.table(&table_name) else {
        // It may be a catalog view or a CTE of an outer query: the analytic planner has the last word.
        return not_here("not a stored table");
    };
    let alias = match alias {
        Some(alias) if !alias.columns.is_empty() => return not_here("column aliases"),
        Some(alias) => parse::ident(&alias.name),
        None => table_name,
    };
    Ok(Some((table.clone(), alias)))
}

/// What one column of the result is on the wire.
pub fn description(name: String, ty: &DataType, origin: Option<(u32, usize)>) -> ColumnDescription {
    ColumnDescription {
        name,
        table_oid: origin.map_or(0, |(oid, _)| oid),
        column_no: origin
            .and_then(|(_, column)| i16::try_from(column + 1).ok())
            .unwrap_or(0),
        type_oid: types::oid(ty),
        type_len: types::type_length(ty),
        type_mod: types::type_modifier(ty),
    }
}

/// Compiles a select list or a RETURNING list. `table` is what `*` stands for.
pub fn projection(
    items: &[ast::SelectItem],
    table: Option<(&Table, &str)>,
    binder: &mut Binder<'_>,
) -> Result<Projection, Refusal> {
    let mut outputs = Vec::new();
    let mut types = Vec::new();
    let mut columns = Vec::new();
    let mut add = |output: Output, ty: DataType, column: ColumnDescription| {
        outputs.push(output);
        types.push(ty);
        columns.push(column);
    };
    let whole_row = |add: &mut dyn FnMut(Output, DataType, ColumnDescription), table: &Table| {
        for (index, column) in table.def.live_columns() {
            let described = description(column.name.clone(), &column.ty, Some((table.def.oid, index)));
            add(Output::Column(index), column.ty, described);
        }
    };
    for item in items {
        let (expr, name) = match item {
            ast::SelectItem::UnnamedExpr(expr) => (expr, output_name(expr)),
            ast::SelectItem::ExprWithAlias { expr, alias } => (expr, parse::ident(alias)),
            ast::SelectItem::Wildcard(options) if plain(options) => {
                let Some((table, _)) = table else {
                    return Err(Error::syntax("SELECT * with no tables specified is not valid")
                        .at(options.wildcard_token.0.span.start)
                        .into());
                };
                whole_row(&mut add, table);
                continue;
            }
            ast::SelectItem::QualifiedWildcard(
                ast::SelectItemQualifiedWildcardKind::ObjectName(qualifier),
                options,
            ) if plain(options) => match (table, parse::object_parts(qualifier)?.as_slice()) {
                (Some((table, alias)), [name]) if name == alias => {
                    whole_row(&mut add, table);
                    continue;
                }
                (_, parts) => {
                    return Err(binder
                        .no_relation(&parts.join("."))
                        .at(qualifier.span().start)
                        .into());
                }
            },
            _ => return not_here("a wildcard with options"),
        };
        let column = table.and_then(|(table, alias)| Some((table, access::column_of(expr, table, alias)?)));
        let (output, ty, origin) = match column {
            Some((table, column)) => (
                Output::Column(column),
                table.def.columns[column].ty,
                Some((table.def.oid, column)),
            ),
            None => {
                let scalar = binder.value(expr)?;
                let ty = scalar.ty();
                (Output::Computed(scalar), ty, None)
            }
        };
        add(output, ty, description(name, &ty, origin));
    }
    Ok(Projection {
        outputs,
        types,
        columns: columns.into(),
    })
}

fn plain(options: &ast::WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// Compiles WHERE: the access path, and what is left to check.
pub fn condition(
    selection: Option<&ast::Expr>,
    table: &Table,
    alias: &str,
    binder: &mut Binder<'_>,
) -> Result<(Access, Vec<Scalar>), Refusal> {
    let Some(selection) = selection else {
        return Ok((Access::Full, Vec::new()));
    };
    let conjuncts = access::conjuncts(selection);
    let (access, consumed) = access::choose(&conjuncts, table, alias, binder)?;
    let mut filter = Vec::new();
    for (conjunct, consumed) in conjuncts.iter().zip(consumed) {
        if !consumed {
            filter.push(binder.condition(conjunct)?);
        }
    }
    Ok((access, filter))
}

/// LIMIT and OFFSET as expressions.
fn limits(query: &ast::Query) -> Result<(Option<&ast::Expr>, Option<&ast::Expr>), Refusal> {
    let (limit, offset) = match &query.limit_clause {
        None => (None, None),
        Some(ast::LimitClause::LimitOffset {
            limit,
            offset,
            limit_by,
        }) if limit_by.is_empty() => (limit.as_ref(), offset.as_ref().map(|offset| &offset.value)),
        Some(_) => return not_here("LIMIT BY"),
    };
    match &query.fetch {
        None => Ok((limit, offset)),
        Some(fetch) if !fetch.with_ties && !fetch.percent && limit.is_none() => match &fetch.quantity {
            Some(quantity) => Ok((Some(quantity), offset)),
            None => not_here("FETCH FIRST without a count"),
        },
        Some(_) => not_here("FETCH WITH TIES"),
    }
}

/// The lock clauses of a query: of several the strongest counts, and the one that waits least.
fn locking(query: &ast::Query, alias: Option<&str>) -> Result<Option<Locking>, Refusal> {
    let mut found: Option<Locking> = None;
    for lock in &query.locks {
        if let Some(of) = &lock.of {
            let name = parse::table(of)?;
            if Some(name.as_str()) != alias {
                return Err(Error::new(
                    SqlState::UNDEFINED_TABLE,
                    format!(
                        "relation \"{name}\" in FOR {} clause not found in FROM clause",
                        lock.lock_type
                    ),
                )
                .at(of.span().start)
                .into());
            }
        }
        let wait = match lock.nonblock {
            None => LockWait::Wait,
            Some(ast::NonBlock::Nowait) => LockWait::NoWait,
            Some(ast::NonBlock::SkipLocked) => LockWait::Skip,
        };
        let shared = matches!(lock.lock_type, ast::LockType::Share);
        found = Some(match found {
            None => Locking { shared, wait },
            Some(before) => Locking {
                shared: shared && before.shared,
                wait: match (before.wait, wait) {
                    (LockWait::NoWait, _) | (_, LockWait::NoWait) => LockWait::NoWait,
                    (LockWait::Skip, _) | (_, LockWait::Skip) => LockWait::Skip,
                    _ => LockWait::Wait,
                },
            },
        });
    }
    Ok(found)
}

/// Whether ORDER BY asks for what the access path gives: the primary key ascending.
fn in_key_order(order: &[ast::OrderByExpr], table: &Table, alias: &str, access: &Access) -> bool {
    let (within, key) = match access {
        Access::Index(access) => (&access.within, table.indexes[access.index].def.columns.as_slice()),
        access => match table.key_columns() {
            Some(key) => (access, key),
            None => return order.is_empty(),
        },
    };
    let unique = match access {
        Access::Index(access) => access.unique,
        _ => true,
    };
    if unique && matches!(within, Access::Point(_)) {
        return true;
    }
    let fixed = match within {
        Access::Range { prefix, .. } => prefix.len(),
        Access::Point(_) => key.len(),
        _ => 0,
    };
    let mut next = 0;
    for item in order {
        let ascending = item.options.asc != Some(false) && item.options.nulls_first != Some(true);
        let Some(column) = access::column_of(&item.expr, table, alias) else {
            return false;
        };
        if key[..fixed].contains(&column) {
            continue;
        }
        // Behind a whole key that is no other row's, nothing changes the order any more.
        let Some(expected) = key.get(fixed + next) else {
            return unique && !has_nulls(key, table);
        };
        if column != *expected || !ascending {
            return false;
        }
        next += 1;
    }
    true
}

/// Whether columns of a key may be NULL: then more than one row can have it.
fn has_nulls(key: &[usize], table: &Table) -> bool {
    key.iter().any(|column| !table.def.columns[*column].not_null)
}

/// An index whose order is the one asked for, when there is no condition: with a LIMIT, its first rows are all that is read.
fn index_in_order(
    order: &[ast::OrderByExpr],
    table: &Table,
    alias: &str,
    binder: &Binder<'_>,
) -> Option<Access> {
    let mut usable = access::usable_indexes(table, binder.may_use_indexes());
    usable.find_map(|(number, index)| {
        let access = Access::Index(Box::new(IndexAccess::new(number, index, Access::Full)));
        in_key_order(order, table, alias, &access).then_some(access)
    })
}

/// Compiles ORDER BY: by number, by output name, or by an expression over the table.
fn order_keys(
    order: &[ast::OrderByExpr],
    items: &[ast::SelectItem],
    table: Option<&Table>,
    binder: &mut Binder<'_>,
) -> Result<Vec<SortKey>, Refusal> {
    let mut keys = Vec::with_capacity(order.len());
    for item in order {
        if item.with_fill.is_some() {
            return not_here("ORDER BY … WITH FILL");
        }
        let mut target = &item.expr;
        if let ast::Expr::Value(value) = target
            && let ast::Value::Number(number, _) = &value.value
        {
            let index = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            match index.and_then(|index| items.get(index)) {
                Some(ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) => {
                    target = expr
                }
                Some(_) => return not_here("ORDER BY a number beside *"),
                None => {
                    return Err(Error::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        format!("ORDER BY position {number} is not in select list"),
                    )
                    .at(value.span.start)
                    .into());
                }
            }
        } else if let ast::Expr::Identifier(ident) = target {
            let name = parse::ident(ident);
            let aliased = items.iter().find_map(|item| match item {
                ast::SelectItem::ExprWithAlias { expr, alias } if parse::ident(alias) == name => Some(expr),
                _ => None,
            });
            if let Some(expr) = aliased {
                target = expr;
            } else if table.is_none_or(|table| table.column(&name).is_none()) {
                return not_here("ORDER BY a name that is no column");
            }
        }
        let descending = item.options.asc == Some(false);
        keys.push(SortKey {
            value: binder.value(target)?,
            descending,
            nulls_first: item.options.nulls_first.unwrap_or(descending),
        });
    }
    Ok(keys)
}

/// Compiles a query as a row plan, or says why not. Which plans are *chosen* is the planner's matter. `in_future`:
/// `scry.future` is set.
pub fn compile(
    query: &ast::Query,
    catalog: &Catalog,
    in_future: bool,
    binder: &mut Binder<'_>,
) -> Result<SelectPlan, Refusal> {
    if query.with.is_some() {
        return not_here("WITH");
    }
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return not_here("a set operation or VALUES");
    };
    let grouped = match &select.group_by {
        ast::GroupByExpr::Expressions(list, modifiers) => !list.is_empty() || !modifiers.is_empty(),
        ast::GroupByExpr::All(_) => true,
    };
    if grouped || select.having.is_some() {
        return not_here("grouping");
    }
    if select.distinct.is_some() || select.top.is_some() || select.into.is_some() || select.qualify.is_some()
    {
        return not_here("DISTINCT, INTO or another clause beyond a plain select");
    }
    if !select.named_window.is_empty() || !select.lateral_views.is_empty() || select.prewhere.is_some() {
        return not_here("a window");
    }
    let source = single_table(&select.from, catalog, in_future)?;
    let table = source
        .as_ref()
        .map(|(table, alias)| (table.as_ref(), alias.as_str()));
    if let Some((table, alias)) = &table {
        binder.set_relations(&[(alias, table)]);
        binder.use_indexes_of(catalog);
    }
    let (mut access, filter) = match table {
        Some((table, alias)) => condition(select.selection.as_ref(), table, alias, binder)?,
        None => match &select.selection {
            Some(selection) => (Access::None, vec![binder.condition(selection)?]),
            None => (Access::None, Vec::new()),
        },
    };
    let projection = projection(&select.projection, table, binder)?;
    let locking = locking(query, table.map(|(_, alias)| alias))?;
    let order = match &query.order_by {
        None => Vec::new(),
        Some(order) => match &order.kind {
            ast::OrderByKind::Expressions(list) => {
                let mut given = table.is_some_and(|(table, alias)| in_key_order(list, table, alias, &access));
                if let Some((table, alias)) = table
                    && !given
                    && matches!(access, Access::Full)
                    && filter.is_empty()
                    && (query.limit_clause.is_some() || query.fetch.is_some())
                    && let Some(index) = index_in_order(list, table, alias, binder)
                {
                    access = index;
                    given = true;
                }
                if given || matches!(access, Access::None) {
                    Vec::new()
                } else {
                    order_keys(list, &select.projection, table.map(|(table, _)| table), binder)?
                }
            }
            ast::OrderByKind::All(_) => return not_here("ORDER BY ALL"),
        },
    };
    let (limit, offset) = limits(query)?;
    let limit = limit.map(|expr| binder.row_count(expr)).transpose()?;
    let offset = offset.map(|expr| binder.row_count(expr)).transpose()?;
    Ok(SelectPlan {
        table: source.map(|(table, _)| table),
        access,
        filter,
        projection,
        locking,
        order,
        limit,
        offset,
    })
}
