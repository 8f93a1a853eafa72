//! Collision rules that are SQL expressions.
//!
//! An expression of a column's rule may name `before`, `present` and `proposed`, the three values of the column, and
//! any column of the three rows as `present.column`. Of a row that was not there before, everything is NULL. It depends
//! on nothing else: functions that tell the time, the session or a random number are refused when the rule is set, and
//! times are read and written in UTC.

use crate::error::{Error, SqlState};
use crate::expr::{Facts, Scope};
use crate::plan::parse;
use crate::plan::scalar::{self, Env, ParamTypes, Scalar};
use crate::types::TimeZone;
use scry_engine::collision::{ColumnRule, Computation, Fuzzy, RowRule, RuleError, Rules};
use scry_engine::{Error as EngineError, RowRef, Table, Value};
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The option of tables and columns, and that of tables alone.
const ON_COLLISION: &str = "scry.on_collision";
const FUZZY: &str = "scry.fuzzy";

/// The three rows, in the order in which an expression reads their columns; then the column's own three values.
const ROWS: [&str; 3] = ["before", "present", "proposed"];

static UTC: LazyLock<TimeZone> = LazyLock::new(TimeZone::utc);
static NO_RANDOM: AtomicU64 = AtomicU64::new(0);

/// What an expression of a rule may know of its surroundings: nothing.
pub(crate) fn timeless_facts() -> Facts<'static> {
    Facts {
        zone: &UTC,
        transaction_start: 0,
        statement_start: 0,
        clock: || 0,
        random: &NO_RANDOM,
        user: "",
        database: "",
        version: "",
        backend_pid: 0,
        transaction_id: None,
        sequences: None,
        outbox: None,
    }
}

/// Binds the expression of a rule of the column. Where it stands in the statement that sets it is not known.
fn bind(expression: &str, table: &Table, column: usize) -> Result<Scalar, Error> {
    bind_here(expression, table, column).map_err(Error::nowhere)
}

fn bind_here(expression: &str, table: &Table, column: usize) -> Result<Scalar, Error> {
    let parsed = parse::expression(expression)?;
    let mut scope = Scope::empty();
    let columns = &table.def.columns;
    for row in ROWS {
        scope.add_qualified(row, Scope::columns_of(&table.def));
    }
    let column = &columns[column];
    scope.add("", ROWS.map(|row| (row, column.ty)));
    let (facts, mut types) = (timeless_facts(), ParamTypes::default());
    let mut binder = scalar::Binder::in_scope(scope, &mut types, &facts);
    let bound = binder
        .assigned(&parsed, column)
        .map_err(scalar::Refusal::into_error)?;
    if types.count() > 0 {
        return Err(Error::new(
            SqlState::UNDEFINED_PARAMETER,
            "a rule has no parameters",
        ));
    }
    if !bound.is_timeless() {
        return Err(invalid(
            "the expression of a collision rule must depend on before, present and proposed alone",
        ));
    }
    Ok(bound)
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, text)
}

/// Makes one change of a table's rules. `None` for the column: of the table itself; for the value: back to none.
pub fn change(
    rules: &mut Rules,
    table: &Table,
    column: Option<&str>,
    option: &str,
    value: Option<&str>,
) -> Result<(), Error> {
    let refused = |rule: RuleError| match rule {
        RuleError::UndefinedColumn { name } => undefined_column(table, &name),
        rule => EngineError::InvalidRule {
            table: table.def.name.clone(),
            rule,
        }
        .into(),
    };
    match (column, option) {
        (None, ON_COLLISION) => {
            let rule = value.map(|text| RowRule::parse(text, &table.def)).transpose();
            rules.row = rule.map_err(refused)?;
        }
        (None, FUZZY) => rules.fuzzy = Fuzzy::parse(value.unwrap_or_default()).map_err(refused)?,
        (Some(name), ON_COLLISION) => {
            let number = table.column(name).ok_or_else(|| undefined_column(table, name))?;
            let definition = &table.def.columns[number];
            let rule = value.map(|text| ColumnRule::parse(text, definition)).transpose();
            let rule = rule.map_err(refused)?;
            if let Some(ColumnRule::Expression(expression)) = &rule {
                bind(expression, table, number)?;
            }
            rules.set_column(number, rule);
        }
        _ => return Err(invalid(format!("unrecognized parameter \"{option}\""))),
    }
    Ok(())
}

fn undefined_column(table: &Table, name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_COLUMN,
        format!(
            "column \"{name}\" of relation \"{}\" does not exist",
            table.def.name
        ),
    )
}

/// What computes expressions of rules, for the rows of one statement.
pub fn evaluator() -> impl Fn(&Computation<'_>) -> Result<Value, String> + Send + Sync {
    let expressions = Expressions::default();
    move |asked| expressions.compute(asked)
}

/// Expressions of rules, bound once for all the rows that are decided with them.
#[derive(Default)]
struct Expressions {
    bound: Mutex<HashMap<(u32, usize), Arc<Scalar>>>,
}

impl Expressions {
    /// The value that a rule's expression has for the three rows; or what is wrong with it.
    fn compute(&self, asked: &Computation<'_>) -> Result<Value, String> {
        let place = (asked.table.def.oid, asked.column);
        let mut known = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = match known.get(&place) {
            Some(bound) => bound.clone(),
            None => {
                let bound = bind(asked.expression, asked.table, asked.column);
                let bound = Arc::new(bound.map_err(|error| error.message.clone())?);
                known.insert(place, bound.clone());
                bound
            }
        };
        drop(known);
        let columns = asked.table.def.columns.len();
        let rows = [asked.before, Some(asked.present), Some(asked.proposed)];
        let values_of =
            |row: Option<RowRef<'_>>| row.map_or_else(|| vec![Value::Null; columns], |row| row.values());
        let mut values: Vec<Value> = rows.into_iter().flat_map(values_of).collect();
        for row in 0..rows.len() {
            values.push(values[row * columns + asked.column].clone());
        }
        let facts = timeless_facts();
        let env = Env::new(&[], &facts).with_values(&values);
        let value = scalar::eval(&bound, &env);
        value
            .map(|value| value.into_value())
            .map_err(|error| error.message.clone())
    }
}
