//! UPDATE and DELETE that a row plan cannot do alone (subqueries, FROM, USING): a query finds the rows and computes the
//! new values; the rows are then locked and written one by one.
//!
//! The query reads the primary at the statement's snapshot. Rows are known by their primary key or, where there is none, by
//! all of their columns: equal rows satisfy the same condition and get the same values.

use crate::analytic::AnalyticPlan;
use crate::error::Error;
use crate::plan::column_default;
use crate::plan::dml;
use crate::plan::open_items;
use crate::plan::parse;
use crate::plan::planner::Planning;
use crate::plan::row::{Projection, Touches};
use crate::plan::scalar::{self, Binder, ParamTypes, Refusal, Scalar};
use crate::plan::select;
use crate::types;
use scry_engine::{ColumnDef, DataType, Table};
use sqlparser::ast::{self, Spanned};
use sqlparser::tokenizer::Location;
use std::sync::Arc;

pub struct SearchedPlan {
    pub table: Arc<Table>,
    pub query: AnalyticPlan,
    /// The columns assigned, in the order of the result's remaining columns; `None`: DELETE.
    pub assigned: Option<Vec<usize>>,
    pub touches: Touches,
    /// From the query's result to the columns by which a row is known, which are its first ones, and to the assigned
    /// ones.
    pub identity_casts: Vec<Scalar>,
    pub value_casts: Vec<Scalar>,
    /// The types of the query's result.
    pub types: Vec<DataType>,
    returning: Option<Projection>,
}

impl SearchedPlan {
    pub fn returning(&self) -> Option<&Projection> {
        self.returning.as_ref()
    }
}

fn column_of(alias: &str, column: &str) -> ast::Expr {
    ast::Expr::CompoundIdentifier(vec![
        ast::Ident::with_quote('"', alias),
        ast::Ident::with_quote('"', column),
    ])
}

fn identity(table: &Table) -> Vec<usize> {
    match table.key_columns() {
        Some(key) => key.to_vec(),
        None => table.def.live_columns().map(|(number, _)| number).collect(),
    }
}

fn aliased(expr: ast::Expr, name: String) -> ast::SelectItem {
    ast::SelectItem::ExprWithAlias {
        expr,
        alias: ast::Ident::with_quote('"', name),
    }
}

/// `SELECT items FROM from WHERE selection`, made by filling in a parsed skeleton.
fn query(
    items: Vec<ast::SelectItem>,
    from: Vec<ast::TableWithJoins>,
    selection: Option<ast::Expr>,
) -> Result<ast::Query, Error> {
    let crate::plan::statement::Statement::Query(mut query) = parse::statement("SELECT 1")? else {
        return Err(Error::internal("a skeleton query is no query"));
    };
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items;
        select.from = from;
        select.selection = selection;
    }
    Ok(*query)
}

fn target(relation: &ast::TableWithJoins, planning: &Planning<'_>) -> Result<(Arc<Table>, String), Error> {
    let ast::TableFactor::Table { name, alias, .. } = &relation.relation else {
        return Err(Error::syntax("a table name is expected"));
    };
    if !relation.joins.is_empty() {
        return Err(Error::syntax("a join cannot be the target"));
    }
    let table = dml::target(name, planning.catalog)?;
    let alias = alias
        .as_ref()
        .map_or_else(|| table.def.name.clone(), |alias| parse::ident(&alias.name));
    Ok((table, alias))
}

fn returning(
    items: Option<&Vec<ast::SelectItem>>,
    table: &Table,
    alias: &str,
    planning: &Planning<'_>,
    types: &mut ParamTypes,
) -> Result<Option<Projection>, Error> {
    let Some(items) = items else {
        return Ok(None);
    };
    let mut binder = Binder::new(types, planning.facts);
    binder.set_relations(&[(alias, table)]);
    match select::projection(items, Some((table, alias)), &mut binder) {
        Ok(projection) => Ok(Some(projection)),
        Err(Refusal::Error(error)) => Err(error),
        Err(Refusal::Unsupported(what)) => Err(Error::unsupported(format!("{what} in RETURNING"))),
    }
}

fn identity_items(table: &Table, alias: &str) -> Vec<ast::SelectItem> {
    let columns = identity(table).into_iter().enumerate();
    columns
        .map(|(index, column)| {
            aliased(
                column_of(alias, &table.def.columns[column].name),
                format!("__scry_key_{index}"),
            )
        })
        .collect()
}

pub fn delete(
    statement: &ast::Delete,
    planning: &Planning<'_>,
    types: &mut ParamTypes,
) -> Result<SearchedPlan, Error> {
    let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &statement.from;
    let Some(relation) = from.first() else {
        return Err(Error::syntax("a table name is expected"));
    };
    let (table, alias) = target(relation, planning)?;
    let mut relations = vec![relation.clone()];
    relations.extend(statement.using.iter().flatten().cloned());
    let query = query(
        identity_items(&table, &alias),
        relations,
        statement.selection.clone(),
    )?;
    let query = planning
        .analytic
        .plan(&query, &(planning.scope)(), &types.oids())?;
    types.learn(query.param_types())?;
    let returning = returning(statement.returning.as_ref(), &table, &alias, planning, types)?;
    finish(table, query, None, &[], returning, planning)
}

pub fn update(
    statement: &ast::Update,
    planning: &Planning<'_>,
    types: &mut ParamTypes,
) -> Result<SearchedPlan, Error> {
    let (table, alias) = target(&statement.table, planning)?;
    let mut relations = vec![statement.table.clone()];
    match &statement.from {
        Some(ast::UpdateTableFromKind::AfterSet(from) | ast::UpdateTableFromKind::BeforeSet(from)) => {
            relations.extend(from.iter().cloned());
        }
        None => {}
    }
    let mut items = identity_items(&table, &alias);
    let mut assigned = Vec::new();
    for assignment in &statement.assignments {
        let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(Error::unsupported("assigning to a list of columns from a query"));
        };
        let place = name.span().start;
        let name = dml::assigned_name(name, &table)?;
        let column = dml::column(&table, &name).map_err(|error| error.at(place))?;
        if assigned.contains(&column) {
            return Err(Error::syntax(format!(
                "multiple assignments to same column \"{name}\""
            )));
        }
        let value = match &assignment.value {
            ast::Expr::Identifier(ident)
                if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default") =>
            {
                if table.def.columns[column].generated().is_some() {
                    continue;
                }
                match column_default::expression(&table.def.columns[column])? {
                    Some(default) => default,
                    None => ast::Expr::value(ast::Value::Null),
                }
            }
            other => {
                dml::check_assigned(&table.def.columns[column])?;
                other.clone()
            }
        };
        items.push(aliased(value, format!("__scry_new_{}", assigned.len())));
        assigned.push(column);
    }
    let places: Vec<Location> = items.iter().map(|item| item.span().start).collect();
    let query = query(items, relations, statement.selection.clone())?;
    let wanted: Vec<DataType> = identity(&table)
        .into_iter()
        .chain(assigned.iter().copied())
        .map(|column| table.def.columns[column].ty)
        .collect();
    let query = open_items::typed(&query, &wanted, &types.oids());
    let query = planning
        .analytic
        .plan(&query, &(planning.scope)(), &types.oids())?;
    types.learn(query.param_types())?;
    let returning = returning(statement.returning.as_ref(), &table, &alias, planning, types)?;
    finish(table, query, Some(assigned), &places, returning, planning)
}

fn finish(
    table: Arc<Table>,
    query: AnalyticPlan,
    assigned: Option<Vec<usize>>,
    places: &[Location],
    returning: Option<Projection>,
    planning: &Planning<'_>,
) -> Result<SearchedPlan, Error> {
    let identity = identity(&table);
    let types: Vec<DataType> = query
        .columns()
        .iter()
        .map(|column| types::from_oid(column.type_oid, column.type_mod).unwrap_or(DataType::Text))
        .collect();
    let targets: Vec<&ColumnDef> = identity
        .iter()
        .chain(assigned.iter().flatten())
        .map(|column| &table.def.columns[*column])
        .collect();
    let mut identity_casts = scalar::assignment_casts(&types, &targets, places, planning.facts)?;
    let value_casts = identity_casts.split_off(identity.len());
    Ok(SearchedPlan {
        query,
        touches: Touches::of(&table, assigned.as_deref().unwrap_or_default()),
        assigned,
        identity_casts,
        value_casts,
        types,
        returning,
        table,
    })
}
