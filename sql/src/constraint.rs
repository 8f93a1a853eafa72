//! CHECK constraints: conditions that no row may make false.
//!
//! The catalog keeps them as text. They are compiled once for each definition of a table, whoever writes its rows; literals of
//! types with a time zone are read in UTC then.

use crate::attached;
use crate::collision::timeless_facts;
use crate::error::{Error, SqlState};
use crate::exec::context;
use crate::expr::{self, Facts, Parameters, Scope};
use crate::generated;
use crate::plan::parse;
use crate::plan::scalar::{self, Env, Scalar};
use scry_engine::{CheckDef, Datum, Error as EngineError, Row, RowRules, Table, TableDef, Value};
use sqlparser::ast::{self, VisitMut, VisitorMut};
use std::ops::ControlFlow;

/// A constraint's name and its condition.
type Check = (String, Scalar);

/// The checks of a table, by name: PostgreSQL reports the first that fails in this order.
pub struct Checks(Result<Vec<Check>, Error>);

impl Checks {
    pub fn compile(def: &TableDef) -> Checks {
        let compile = |check: &CheckDef| -> Result<Check, Error> {
            let parsed = parse::expression(&check.expression)?;
            Ok((check.name.clone(), bind(&parsed, def)?))
        };
        let checks: Result<Vec<Check>, Error> = def.checks.iter().map(compile).collect();
        Checks(checks.map_err(Error::nowhere).map(|mut checks| {
            checks.sort_by(|(a, _), (b, _)| a.cmp(b));
            checks
        }))
    }
}

/// Binds a condition to the columns of a table.
fn bind(expression: &ast::Expr, def: &TableDef) -> Result<Scalar, Error> {
    let scope = Scope::table(&def.name, Scope::columns_of(def));
    let mut parameters = Parameters::default();
    let bound = expr::bind_predicate(expression, "CHECK", &scope, &mut parameters, &timeless_facts());
    let bound = bound.map_err(|refusal| match refusal {
        scalar::Refusal::Error(error) => error,
        scalar::Refusal::Unsupported(what) => Error::unsupported(format!("{what} in a CHECK constraint")),
    })?;
    match parameters.is_empty() {
        true => Ok(bound),
        false => Err(Error::new(
            SqlState::UNDEFINED_PARAMETER,
            "a constraint has no parameters",
        )),
    }
}

/// The first constraint that the row violates.
fn violated<'t>(table: &'t Table, row: &[u8], facts: &Facts<'_>) -> Result<Option<&'t str>, Error> {
    let checks = attached::checks(table).0.as_ref().map_err(Clone::clone)?;
    for (name, condition) in checks {
        if !holds(condition, table, row, facts)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether a condition is met by a row: NULL is not false.
fn holds(condition: &Scalar, table: &Table, row: &[u8], facts: &Facts<'_>) -> Result<bool, Error> {
    let env = Env::new(&[], facts).with_row(table.layout.row(row));
    Ok(scalar::eval(condition, &env)?.datum() != Datum::Bool(false))
}

/// Refuses a row that a CHECK constraint of its table forbids.
#[inline]
pub fn check(table: &Table, row: &[u8], facts: &Facts<'_>) -> Result<(), Error> {
    if table.def.checks.is_empty() {
        return Ok(());
    }
    match violated(table, row, facts)? {
        None => Ok(()),
        Some(name) => Err(violation(table, name, row, facts)),
    }
}

/// 23514 with PostgreSQL's wording.
#[cold]
fn violation(table: &Table, constraint: &str, row: &[u8], facts: &Facts<'_>) -> Error {
    let values = table.layout.row(row).values();
    let detail = format!(
        "Failing row contains ({}).",
        context::row_text(table, &values, facts)
    );
    Error::from(refused(table, constraint.to_owned(), values)).with_detail(detail)
}

fn refused(table: &Table, constraint: String, row: Vec<Value>) -> EngineError {
    EngineError::CheckViolation {
        table: table.def.name.clone(),
        constraint,
        row,
    }
}

/// What the engine asks about rows that it makes itself.
pub struct Rules;

impl RowRules for Rules {
    fn check(&self, table: &Table, row: &[u8]) -> Result<(), EngineError> {
        let violation = |constraint: String| refused(table, constraint, table.layout.row(row).values());
        match violated(table, row, &timeless_facts()) {
            Ok(None) => Ok(()),
            Ok(Some(name)) => Err(violation(name.to_owned())),
            // A condition that cannot be computed is not met.
            Err(error) => Err(violation(error.message.clone())),
        }
    }

    fn complete(&self, table: &Table, row: &Row) -> Result<Row, EngineError> {
        let facts = timeless_facts();
        let completed = generated::columns(table).and_then(|columns| match columns {
            [] => Ok(row.clone()),
            columns => generated::completed(table, columns, row, &facts).map(Row::from),
        });
        completed.map_err(|error| EngineError::NotGenerated {
            table: table.def.name.clone(),
            reason: error.message.clone(),
        })
    }
}

/// A condition of a table that has `def`, under the name that was given or that PostgreSQL would choose.
pub fn definition(name: Option<String>, expression: &ast::Expr, def: &TableDef) -> Result<CheckDef, Error> {
    let bound = bind(expression, def)?;
    let name = match name {
        Some(name) if is_taken(&name, def) => return Err(already_exists(&name, &def.name)),
        Some(name) => name,
        None => {
            let columns = named_by(&bound);
            let column = match columns.as_slice() {
                [only] => Some(def.columns[*only].name.as_str()),
                _ => None,
            };
            chosen_name(&def.name, column, "check", |name| is_taken(name, def))
        }
    };
    Ok(CheckDef {
        name,
        expression: expression.to_string(),
    })
}

/// The numbers of the columns that a condition names.
fn named_by(bound: &Scalar) -> Vec<usize> {
    let mut columns = Vec::new();
    bound.walk(&mut |node| {
        if let expr::Expr::Column { index, .. } = node
            && !columns.contains(index)
        {
            columns.push(*index);
        }
    });
    columns
}

/// Whether a condition of a table names this column.
pub fn names(check: &CheckDef, column: usize, def: &TableDef) -> Result<bool, Error> {
    let bound = bind(&parse::expression(&check.expression)?, def).map_err(Error::nowhere)?;
    Ok(named_by(&bound).contains(&column))
}

/// 42710 with PostgreSQL's wording.
pub fn already_exists(name: &str, table: &str) -> Error {
    Error::new(
        SqlState::DUPLICATE_OBJECT,
        format!("constraint \"{name}\" for relation \"{table}\" already exists"),
    )
}

/// Whether a constraint of the table has this name.
pub fn is_taken(name: &str, def: &TableDef) -> bool {
    def.checks.iter().any(|check| check.name == name)
        || def
            .indexes
            .iter()
            .any(|index| index.constraint && index.name == name)
        || def.foreign_keys.iter().any(|key| key.name == name)
        || def.primary_key.as_ref().is_some_and(|key| key.name == name)
}

/// A condition that the rows of a table are to satisfy from now on: refuses those that do not.
pub fn validator<'t>(
    check: &'t CheckDef,
    table: &'t Table,
) -> Result<impl FnMut(&[u8]) -> Result<(), Error> + Send + 't, Error> {
    let condition = bind(&parse::expression(&check.expression)?, &table.def).map_err(Error::nowhere)?;
    Ok(move |row: &[u8]| {
        if holds(&condition, table, row, &timeless_facts())? {
            return Ok(());
        }
        let (name, relation) = (&check.name, &table.def.name);
        Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("check constraint \"{name}\" of relation \"{relation}\" is violated by some row"),
        )
        .with_table(relation.clone())
        .with_constraint(name.clone()))
    })
}

/// `table_column_suffix`, cut to the length of a name, with a number when it is taken.
pub fn chosen_name(table: &str, column: Option<&str>, suffix: &str, taken: impl Fn(&str) -> bool) -> String {
    for number in 0u32.. {
        let suffix = match number {
            0 => suffix.to_owned(),
            number => format!("{suffix}{number}"),
        };
        let name = joined_name(table, column, &suffix);
        if !taken(&name) {
            return name;
        }
    }
    unreachable!("there are more numbers than names")
}

/// The parts joined by underscores; of table and column, the longer one is cut until it fits.
fn joined_name(table: &str, column: Option<&str>, suffix: &str) -> String {
    let (mut first, mut second) = (table, column.unwrap_or_default());
    let between = usize::from(column.is_some());
    let cut = |text: &mut &str| {
        let shorter = text.char_indices().next_back().map_or(0, |(at, _)| at);
        *text = &text[..shorter];
    };
    while first.len() + between + second.len() + 1 + suffix.len() > crate::plan::create_table::MAX_NAME_BYTES
    {
        match first.len() > second.len() {
            true => cut(&mut first),
            false => cut(&mut second),
        }
    }
    match column {
        Some(_) => format!("{first}_{second}_{suffix}"),
        None => format!("{first}_{suffix}"),
    }
}

/// The text of a condition in which a column has another name.
pub fn renamed(expression: &str, from: &str, to: &str) -> Result<String, Error> {
    rewritten(expression, &mut Renaming { from, to })
}

/// The text of a condition in which columns are named without their table, which may get another name.
pub fn unqualified(expression: &str) -> Result<String, Error> {
    rewritten(expression, &mut Unqualifying)
}

fn rewritten(expression: &str, how: &mut impl VisitorMut<Break = ()>) -> Result<String, Error> {
    let mut parsed = parse::expression(expression)?;
    let _: ControlFlow<()> = VisitMut::visit(&mut parsed, how);
    Ok(parsed.to_string())
}

struct Unqualifying;

impl VisitorMut for Unqualifying {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::CompoundIdentifier(parts) = expr
            && let Some(column) = parts.pop()
        {
            *expr = ast::Expr::Identifier(column);
        }
        ControlFlow::Continue(())
    }
}

struct Renaming<'a> {
    from: &'a str,
    to: &'a str,
}

impl VisitorMut for Renaming<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        let column = match expr {
            ast::Expr::Identifier(ident) => Some(ident),
            ast::Expr::CompoundIdentifier(parts) => parts.last_mut(),
            _ => None,
        };
        if let Some(ident) = column.filter(|ident| parse::ident(ident) == self.from) {
            *ident = ast::Ident::with_quote('"', self.to);
        }
        ControlFlow::Continue(())
    }
}
