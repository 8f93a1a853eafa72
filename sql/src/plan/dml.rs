//! Compiling INSERT, UPDATE and DELETE into row plans.

use crate::error::{Error, SqlState};
use crate::place::Place;
use crate::plan::column_default;
use crate::plan::open_items;
use crate::plan::parse;
use crate::plan::planner::Planned;
use crate::plan::row::{
    Arbiter, Assignment, DeletePlan, InsertPlan, OnConflict, Projection, Rows, Source, Touches, UpdatePlan,
};
use crate::plan::scalar::{self, Binder, Refusal, Scalar};
use crate::plan::select;
use crate::plan::statement::{Insert, Overriding};
use crate::types;
use scry_engine::{Catalog, ColumnDef, ColumnDefault, DataType, Table};
use sqlparser::ast::{self, Spanned};
use sqlparser::tokenizer::Location;
use std::sync::Arc;

fn not_here<T>(what: &str) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(what.to_owned()))
}

/// The table that is written.
pub fn target(name: &ast::ObjectName, catalog: &Catalog) -> Result<Arc<Table>, Error> {
    let place = name.span().start;
    let name = parse::table(name).map_err(|error| error.at(place))?;
    catalog
        .table(&name)
        .cloned()
        .ok_or_else(|| select::no_such_table(&name).at(place))
}

pub fn column(table: &Table, name: &str) -> Result<usize, Error> {
    table.column(name).ok_or_else(|| {
        Error::new(
            SqlState::UNDEFINED_COLUMN,
            format!(
                "column \"{name}\" of relation \"{}\" does not exist",
                table.def.name
            ),
        )
    })
}

/// Compiles the default of every column that has one.
pub fn defaults(table: &Table, binder: &mut Binder<'_>) -> Result<Vec<Option<Scalar>>, Refusal> {
    let mut list = Vec::with_capacity(table.def.columns.len());
    for column in &table.def.columns {
        list.push(column_default::compiled(column, binder)?);
    }
    Ok(list)
}

fn returning(
    items: Option<&Vec<ast::SelectItem>>,
    table: &Table,
    alias: &str,
    binder: &mut Binder<'_>,
) -> Result<Option<Projection>, Refusal> {
    items
        .map(|items| select::projection(items, Some((table, alias)), binder))
        .transpose()
}

/// How a query inside of a statement is planned: given by the planner, which knows the analytic side.
pub type PlanQuery<'a> = &'a mut dyn FnMut(&ast::Query, &mut Binder<'_>) -> Result<Planned, Error>;

/// Why a column's value is the server's affair.
fn restriction(column: &ColumnDef) -> Option<String> {
    let name = &column.name;
    match &column.default {
        Some(ColumnDefault::Generated(_)) => Some(format!("Column \"{name}\" is a generated column.")),
        Some(ColumnDefault::Identity { always: true, .. }) => Some(format!(
            "Column \"{name}\" is an identity column defined as GENERATED ALWAYS."
        )),
        _ => None,
    }
}

/// Refuses values of INSERT for columns that take none.
fn check_given(column: &ColumnDef, overriding: Option<Overriding>) -> Result<(), Error> {
    let is_identity = column.identity().is_some();
    let Some(detail) = restriction(column).filter(|_| !is_identity || overriding.is_none()) else {
        return Ok(());
    };
    let error = Error::new(
        SqlState::GENERATED_ALWAYS,
        format!(
            "cannot insert a non-DEFAULT value into column \"{}\"",
            column.name
        ),
    )
    .with_detail(detail);
    Err(match is_identity {
        true => error.with_hint("Use OVERRIDING SYSTEM VALUE to override."),
        false => error,
    })
}

/// Refuses new values of UPDATE for columns that take none.
pub fn check_assigned(column: &ColumnDef) -> Result<(), Error> {
    match restriction(column) {
        None => Ok(()),
        Some(detail) => Err(Error::new(
            SqlState::GENERATED_ALWAYS,
            format!("column \"{}\" can only be updated to DEFAULT", column.name),
        )
        .with_detail(detail)),
    }
}

pub fn insert(
    statement: &Insert,
    catalog: &Catalog,
    binder: &mut Binder<'_>,
    plan_query: PlanQuery<'_>,
) -> Result<InsertPlan, Refusal> {
    let overriding = statement.overriding;
    let statement = &statement.ast;
    let ast::TableObject::TableName(name) = &statement.table else {
        return Err(Error::unsupported("INSERT into a function").into());
    };
    let table = target(name, catalog)?;
    let alias = match &statement.table_alias {
        Some(alias) => parse::ident(&alias.alias),
        None => table.def.name.clone(),
    };
    let mut targets = Vec::new();
    for target in &statement.columns {
        let place = target.span().start;
        let mut parts = parse::object_parts(target)?;
        let name = parts.pop().unwrap_or_default();
        let index = column(&table, &name).map_err(|error| error.at(place))?;
        if targets.contains(&index) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            )
            .at(place)
            .into());
        }
        targets.push(index);
    }
    let named = Named {
        columns: statement.columns.iter().map(|name| name.span().start).collect(),
    };
    if !named.any() {
        targets = table.def.live_columns().map(|(number, _)| number).collect();
    }
    binder.set_relations(&[]);
    let mut column_defaults = defaults(&table, binder)?;
    let rows = match statement.source.as_deref() {
        None => {
            targets.clear();
            Rows::Defaults
        }
        Some(query) => match values(query) {
            Some(rows) => Rows::Values(compile_values(rows, &table, &mut targets, &named, binder)?),
            None => {
                let of = |target: &usize| &table.def.columns[*target];
                let wanted: Vec<DataType> = targets.iter().map(|target| of(target).ty).collect();
                let query = open_items::typed(query, &wanted, &binder.known_oids());
                let planned = plan_query(&query, binder)?;
                let given = planned.columns.as_ref().map_or(0, |columns| columns.len());
                let items = select_items(&query.body);
                check_width(given, &mut targets, &named, |index| items.get(index).copied())?;
                let columns = planned.columns.as_deref().unwrap_or_default();
                let types: Vec<DataType> = columns
                    .iter()
                    .map(|column| types::from_oid(column.type_oid, column.type_mod).unwrap_or(DataType::Text))
                    .collect();
                let into: Vec<_> = targets.iter().map(of).collect();
                let casts = scalar::assignment_casts(&types, &into, &items, binder.facts())?;
                Rows::Query {
                    planned: Box::new(planned),
                    types,
                    casts,
                }
            }
        },
    };
    for (position, target) in targets.iter().enumerate() {
        let all_defaults = match &rows {
            Rows::Values(rows) => rows.iter().all(|row| row[position].is_none()),
            Rows::Defaults => true,
            Rows::Query { .. } => false,
        };
        if !all_defaults {
            check_given(&table.def.columns[*target], overriding)?;
        }
    }
    // What the user gives does not count then.
    let overridden = |index: usize| {
        overriding == Some(Overriding::UserValue) && table.def.columns[index].identity().is_some()
    };
    let sources = (0..table.def.columns.len())
        .map(|index| match targets.iter().position(|target| *target == index) {
            Some(given) if !overridden(index) => Source::Given(given),
            _ => match column_defaults[index].take() {
                Some(default) => Source::Default(default),
                None => Source::Null,
            },
        })
        .collect();
    let (arbiter, conflict) = match &statement.on {
        None => (Arbiter::Any, OnConflict::Fail),
        Some(ast::OnInsert::OnConflict(conflict)) => (
            arbiter(conflict, &table)?,
            on_conflict(conflict, &table, &alias, binder)?,
        ),
        Some(_) => return Err(Error::syntax("syntax error at or near \"DUPLICATE\"").into()),
    };
    binder.set_relations(&[(&alias, &table)]);
    let returning = returning(statement.returning.as_ref(), &table, &alias, binder)?;
    Ok(InsertPlan {
        sources,
        targets,
        defaults: column_defaults,
        rows,
        arbiter,
        conflict,
        returning,
        table,
    })
}

/// The rows of a plain VALUES list.
fn values(query: &ast::Query) -> Option<&[ast::Parens<Vec<ast::Expr>>]> {
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none();
    match query.body.as_ref() {
        ast::SetExpr::Values(values) if plain => Some(&values.rows),
        _ => None,
    }
}

/// Where the target columns are named, if they are.
struct Named {
    columns: Vec<Location>,
}

impl Named {
    fn any(&self) -> bool {
        !self.columns.is_empty()
    }
}

/// Where the items of a query's select list stand; of a set operation, those of its first query.
fn select_items(body: &ast::SetExpr) -> Vec<Location> {
    match body {
        ast::SetExpr::Select(select) => select.projection.iter().map(|item| item.span().start).collect(),
        ast::SetExpr::SetOperation { left, .. } => select_items(left),
        ast::SetExpr::Query(query) => select_items(&query.body),
        _ => Vec::new(),
    }
}

fn check_width(
    given: usize,
    targets: &mut Vec<usize>,
    named: &Named,
    place: impl Fn(usize) -> Option<Location>,
) -> Result<(), Error> {
    if given > targets.len() {
        let error = Error::syntax("INSERT has more expressions than target columns");
        return Err(match place(targets.len()) {
            Some(place) => error.at(place),
            None => error,
        });
    }
    if given < targets.len() {
        if let Some(place) = named.columns.get(given) {
            return Err(Error::syntax("INSERT has more target columns than expressions").at(*place));
        }
        targets.truncate(given);
    }
    Ok(())
}

fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn compile_values(
    rows: &[ast::Parens<Vec<ast::Expr>>],
    table: &Table,
    targets: &mut Vec<usize>,
    named: &Named,
    binder: &mut Binder<'_>,
) -> Result<Vec<Vec<Option<Scalar>>>, Refusal> {
    let width = rows.first().map_or(0, |row| row.content.len());
    if let Some(row) = rows.iter().find(|row| row.content.len() != width) {
        let error = Error::syntax("VALUES lists must all be the same length");
        return Err(match row.content.first() {
            Some(first) => error.at(first.span().start),
            None => error,
        }
        .into());
    }
    check_width(width, targets, named, |index| {
        Some(rows.first()?.content.get(index)?.span().start)
    })?;
    let mut compiled = Vec::with_capacity(rows.len());
    for row in rows {
        let mut list = Vec::with_capacity(width);
        for (expr, target) in row.content.iter().zip(targets.iter()) {
            list.push(match is_default(expr) {
                true => None,
                false => Some(binder.assigned(expr, &table.def.columns[*target])?),
            });
        }
        compiled.push(list);
    }
    Ok(compiled)
}

/// The unique constraint or index whose conflicts are meant.
fn arbiter(conflict: &ast::OnConflict, table: &Table) -> Result<Arbiter, Error> {
    let key = table.def.primary_key.as_ref();
    let indexes = &table.def.indexes;
    match &conflict.conflict_target {
        None => Ok(Arbiter::Any),
        Some(ast::ConflictTarget::Columns(columns)) => {
            let mut named = columns
                .iter()
                .map(|name| column(table, &parse::ident(name)).map_err(|error| error.at(name.span.start)))
                .collect::<Result<Vec<_>, _>>()?;
            named.sort_unstable();
            let meant = |columns: &[usize]| {
                let mut columns = columns.to_vec();
                columns.sort_unstable();
                columns == named
            };
            if key.is_some_and(|key| meant(&key.columns)) {
                return Ok(Arbiter::PrimaryKey);
            }
            let index = indexes
                .iter()
                .position(|index| index.unique && index.valid && meant(&index.columns));
            index.map(Arbiter::Index).ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                )
            })
        }
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let name = parse::table(name)?;
            if key.is_some_and(|key| key.name == name) {
                return Ok(Arbiter::PrimaryKey);
            }
            let index = indexes
                .iter()
                .position(|index| index.constraint && index.name == name);
            index.map(Arbiter::Index).ok_or_else(|| {
                Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!(
                        "constraint \"{name}\" for table \"{}\" does not exist",
                        table.def.name
                    ),
                )
            })
        }
    }
}

fn on_conflict(
    conflict: &ast::OnConflict,
    table: &Table,
    alias: &str,
    binder: &mut Binder<'_>,
) -> Result<OnConflict, Refusal> {
    match &conflict.action {
        ast::OnConflictAction::DoNothing => Ok(OnConflict::Nothing),
        ast::OnConflictAction::DoUpdate(update) => {
            if conflict.conflict_target.is_none() {
                return Err(Error::syntax(
                    "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                )
                .with_hint("For example, ON CONFLICT (column_name).")
                .at(Place::last("conflict"))
                .into());
            }
            binder.set_relations(&[(alias, table), ("excluded", table)]);
            let assignments = assignments(&update.assignments, table, binder)?;
            let touches = touched(table, &assignments);
            if touches.key {
                return Err(Error::unsupported("ON CONFLICT DO UPDATE of a primary key column").into());
            }
            let filter = match &update.selection {
                Some(selection) => vec![binder.condition(selection)?],
                None => Vec::new(),
            };
            Ok(OnConflict::Update {
                assignments,
                touches,
                filter,
            })
        }
    }
}

/// The column that an assignment names: `t.c` is a field of a column `t`, which no table here has.
pub fn assigned_name(name: &ast::ObjectName, table: &Table) -> Result<String, Error> {
    let mut parts = parse::object_parts(name)?.into_iter();
    match (parts.next(), parts.next()) {
        (Some(name), None) => Ok(name),
        (Some(first), Some(_)) => match table.column(&first) {
            Some(_) => Err(Error::unsupported("assigning to a field of a column").at(name.span().start)),
            None => column(table, &first)
                .map(|_| first)
                .map_err(|error| error.at(name.span().start)),
        },
        (None, _) => Ok(String::new()),
    }
}

/// Compiles the SET list. `(a, b) = (1, 2)` is taken apart; DEFAULT stands for the column's default.
fn assignments(
    list: &[ast::Assignment],
    table: &Table,
    binder: &mut Binder<'_>,
) -> Result<Vec<Assignment>, Refusal> {
    let mut compiled: Vec<Assignment> = Vec::with_capacity(list.len());
    let mut add =
        |name: &ast::ObjectName, value: &ast::Expr, binder: &mut Binder<'_>| -> Result<(), Refusal> {
            let place = name.span().start;
            let name = assigned_name(name, table)?;
            let index = column(table, &name).map_err(|error| error.at(place))?;
            if compiled.iter().any(|known| known.column == index) {
                return Err(Error::syntax(format!("multiple assignments to same column \"{name}\"")).into());
            }
            let definition = &table.def.columns[index];
            if is_default(value) && definition.generated().is_some() {
                return Ok(());
            }
            let value = if is_default(value) {
                match column_default::compiled(definition, binder)? {
                    Some(default) => default,
                    None => binder.null(definition),
                }
            } else {
                check_assigned(definition)?;
                binder.assigned(value, definition)?
            };
            compiled.push(Assignment { column: index, value });
            Ok(())
        };
    for assignment in list {
        match &assignment.target {
            ast::AssignmentTarget::ColumnName(name) => add(name, &assignment.value, binder)?,
            ast::AssignmentTarget::Tuple(names) => match &assignment.value {
                ast::Expr::Tuple(values) if values.len() == names.len() => {
                    for (name, value) in names.iter().zip(values) {
                        add(name, value, binder)?;
                    }
                }
                ast::Expr::Tuple(_) => {
                    return Err(Error::syntax("number of columns does not match number of values").into());
                }
                _ => return not_here("a row assignment from a query"),
            },
        }
    }
    Ok(compiled)
}

/// The single table of UPDATE and DELETE.
fn single(relation: &ast::TableWithJoins, catalog: &Catalog) -> Result<(Arc<Table>, String), Refusal> {
    let ast::TableFactor::Table { name, alias, .. } = &relation.relation else {
        return Err(Error::syntax("syntax error: a table name is expected").into());
    };
    let table = target(name, catalog)?;
    let alias = alias
        .as_ref()
        .map_or_else(|| table.def.name.clone(), |alias| parse::ident(&alias.name));
    if relation.joins.is_empty() {
        Ok((table, alias))
    } else {
        not_here("a join")
    }
}

fn touched(table: &Table, assignments: &[Assignment]) -> Touches {
    let columns: Vec<usize> = assignments.iter().map(|assignment| assignment.column).collect();
    Touches::of(table, &columns)
}

pub fn update(
    statement: &ast::Update,
    catalog: &Catalog,
    binder: &mut Binder<'_>,
) -> Result<UpdatePlan, Refusal> {
    let (table, alias) = single(&statement.table, catalog)?;
    if statement.limit.is_some() || !statement.order_by.is_empty() || statement.or.is_some() {
        return Err(Error::syntax("syntax error in UPDATE").into());
    }
    if statement.from.is_some() {
        return not_here("UPDATE … FROM");
    }
    binder.set_relations(&[(&alias, &table)]);
    binder.use_indexes_of(catalog);
    let assignments = assignments(&statement.assignments, &table, binder)?;
    let (access, filter) = select::condition(statement.selection.as_ref(), &table, &alias, binder)?;
    let returning = returning(statement.returning.as_ref(), &table, &alias, binder)?;
    Ok(UpdatePlan {
        access,
        filter,
        touches: touched(&table, &assignments),
        assignments,
        returning,
        table,
    })
}

pub fn delete(
    statement: &ast::Delete,
    catalog: &Catalog,
    binder: &mut Binder<'_>,
) -> Result<DeletePlan, Refusal> {
    let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &statement.from;
    let [relation] = from.as_slice() else {
        return Err(Error::syntax("syntax error in DELETE").into());
    };
    let (table, alias) = single(relation, catalog)?;
    if !statement.tables.is_empty() || statement.limit.is_some() || !statement.order_by.is_empty() {
        return Err(Error::syntax("syntax error in DELETE").into());
    }
    if statement.using.is_some() {
        return not_here("DELETE … USING");
    }
    binder.set_relations(&[(&alias, &table)]);
    binder.use_indexes_of(catalog);
    let (access, filter) = select::condition(statement.selection.as_ref(), &table, &alias, binder)?;
    let returning = returning(statement.returning.as_ref(), &table, &alias, binder)?;
    Ok(DeletePlan {
        access,
        filter,
        returning,
        table,
    })
}
