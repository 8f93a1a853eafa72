//! Generated columns: GENERATED ALWAYS AS (expression) STORED.
//!
//! The catalog keeps the expressions as text. They give the same value at any time and to anybody, from the other columns of the row that
//! are not generated; so a row is completed whoever makes it, after its defaults and before its conditions are checked.

use crate::attached;
use crate::collision::timeless_facts;
use crate::error::{Error, SqlState};
use crate::exec::context;
use crate::expr::{self, Expr, Facts, Parameters, Scope};
use crate::plan::parse;
use crate::plan::scalar::{self, Env, Scalar};
use scry_engine::{ColumnDef, Datum, Table, TableDef};
use smallvec::SmallVec;
use sqlparser::ast;

/// The generated columns of a table, each with its expression.
pub struct Generated(Result<Vec<(usize, Scalar)>, Error>);

impl Generated {
    pub fn compile(def: &TableDef) -> Generated {
        let columns = def.columns.iter().enumerate();
        let texts = columns.filter_map(|(number, column)| Some((number, column.generated()?)));
        let compiled = texts.map(|(number, text)| {
            let parsed = parse::expression(text)?;
            Ok((number, bind(&parsed, def, number)?))
        });
        Generated(compiled.collect::<Result<_, Error>>().map_err(Error::nowhere))
    }
}

/// Those of a table.
#[inline]
pub fn columns(table: &Table) -> Result<&[(usize, Scalar)], Error> {
    match &attached::generated(table).0 {
        Ok(columns) => Ok(columns),
        Err(error) => Err(error.clone()),
    }
}

/// The row with the values of its generated columns.
pub fn completed(
    table: &Table,
    columns: &[(usize, Scalar)],
    row: &[u8],
    facts: &Facts<'_>,
) -> Result<Vec<u8>, Error> {
    let env = Env::new(&[], facts).with_row(table.layout.row(row));
    let mut values: SmallVec<[_; 2]> = SmallVec::new();
    for (column, expression) in columns {
        values.push((*column, scalar::eval(expression, &env)?));
    }
    let changes: SmallVec<[(usize, Datum<'_>); 2]> = values
        .iter()
        .map(|(column, value)| (*column, value.datum()))
        .collect();
    let row = table.layout.update(row, &changes)?;
    for (column, value) in &changes {
        if value.is_null() && table.def.columns[*column].not_null {
            let values = table.layout.row(&row).values();
            return Err(context::not_null_violation(table, *column, &values, facts));
        }
    }
    Ok(row)
}

fn invalid(text: String) -> Error {
    Error::new(SqlState::INVALID_OBJECT_DEFINITION, text)
}

/// Binds the expression of a column.
fn bind(expression: &ast::Expr, def: &TableDef, column: usize) -> Result<Scalar, Error> {
    let scope = Scope::table(&def.name, Scope::columns_of(def));
    let mut parameters = Parameters::default();
    let column = &def.columns[column];
    let facts = timeless_facts();
    let bound = expr::bind_assignment(
        expression,
        &column.name,
        column.ty,
        &scope,
        &mut parameters,
        &facts,
    );
    let bound = bound.map_err(|refusal| match refusal {
        scalar::Refusal::Error(error) => error,
        scalar::Refusal::Unsupported(what) => {
            Error::unsupported(format!("{what} in a column generation expression"))
        }
    })?;
    match parameters.is_empty() {
        true => Ok(bound),
        false => Err(Error::new(
            SqlState::UNDEFINED_PARAMETER,
            "a column generation expression has no parameters",
        )),
    }
}

/// Refuses a key with generated columns: rows are known by it while they are changed.
pub fn check_key(columns: &[ColumnDef], key: &[usize]) -> Result<(), Error> {
    match key.iter().any(|column| columns[*column].generated().is_some()) {
        true => Err(Error::unsupported("a generated column in a primary key")),
        false => Ok(()),
    }
}

/// Whether a generated column is made of another one.
pub fn is_made_of(def: &TableDef, generated: usize, column: usize) -> Result<bool, Error> {
    let Some(text) = def.columns[generated].generated() else {
        return Ok(false);
    };
    let parsed = parse::expression(text).map_err(Error::nowhere)?;
    let mut found = false;
    bind(&parsed, def, generated)
        .map_err(Error::nowhere)?
        .walk(&mut |node| {
            found |= matches!(node, Expr::Column { index, .. } if *index == column);
        });
    Ok(found)
}

/// Refuses what cannot generate the column of this number.
pub fn check(expression: &ast::Expr, def: &TableDef, column: usize) -> Result<(), Error> {
    let bound = bind(expression, def, column)?;
    let mut used = None;
    bound.walk(&mut |node| {
        if let Expr::Column { index, .. } = node
            && def.columns[*index].generated().is_some()
        {
            used = used.or(Some(*index));
        }
    });
    if let Some(used) = used {
        let name = &def.columns[used].name;
        return Err(invalid(format!(
            "cannot use generated column \"{name}\" in column generation expression"
        ))
        .with_detail("A generated column cannot reference another generated column."));
    }
    match bound.is_immutable() {
        true => Ok(()),
        false => Err(invalid("generation expression is not immutable".to_owned())),
    }
}
