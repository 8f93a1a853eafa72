//! A query's meaning by PostgreSQL's rules, written into its syntax tree before DataFusion plans it.
//!
//! DataFusion resolves names and plans joins, groups and subqueries; what an expression *means* (types of literals, casts
//! between operands, which function a name is, what rounds how) is said here, by the same binder that row plans use. Each
//! expression is bound; the bound form is written back as syntax, in which every cast is spelled out, what DataFusion does as
//! PostgreSQL does is left to it, and the rest calls a bridge ([`super::functions::bridge`]). Mistakes are found here,
//! with the position that PostgreSQL gives them.
//!
//! What the binder does not know (intervals, arrays, the catalogs' types) is left as it was written, part by part: DataFusion
//! has the last word on it.
//!
//! Invariants:
//! - the tree that comes out plans to columns of the types that [`Output`] says, where it says one;
//! - the same expression in the same place is written the same, so that GROUP BY and select list still meet.
//!
//! In reading order: `query` (WITH, ORDER BY, LIMIT), `from`, `functions` (those of elections), `select`, `set` (UNION, VALUES), `expression`, `calls` (aggregates
//! and windows), `subquery`, `foreign`, `lower` (bound → syntax), `build` (pieces of syntax), `children`.

mod build;
mod calls;
mod children;
mod expression;
mod foreign;
mod from;
mod functions;
mod lower;
mod query;
mod select;
mod set;
mod subquery;

pub use build::cast;

use super::functions::bridge::{Bridge, Circumstances};
use super::names::Names;
use crate::error::{Error, SqlState};
use crate::expr::{Expr, Parameters, Scope};
use datafusion::logical_expr::ScalarUDF;
use scry_engine::DataType;
use sqlparser::ast::{self, Query};
use sqlparser::tokenizer::Location;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A column of a query's result.
#[derive(Clone, Debug)]
pub struct Output {
    pub name: String,
    /// `None`: left to DataFusion.
    pub ty: Option<DataType>,
    /// What it is made of, where it has no type of its own yet.
    open: Option<Open>,
}

/// An expression without a type of its own: its context gives it one, or it becomes text.
#[derive(Clone, Debug)]
enum Open {
    Text(String, Location),
    Null,
    Parameter(usize),
}

/// What an expression was found to be.
#[derive(Clone, Debug)]
enum Meaning {
    Typed(Expr),
    Open(Open),
    /// Left to DataFusion.
    Foreign,
}

impl Meaning {
    fn ty(&self) -> Option<DataType> {
        match self {
            Meaning::Typed(expr) => Some(expr.ty()),
            _ => None,
        }
    }

    fn output(&self, name: String) -> Output {
        Output {
            name,
            ty: self.ty(),
            open: match self {
                Meaning::Open(open) => Some(open.clone()),
                _ => None,
            },
        }
    }
}

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clause {
    Select,
    Where,
    Join,
    GroupBy,
    Having,
    OrderBy,
    Values,
    From,
    /// Inside of an aggregate's arguments, and of its FILTER.
    Aggregate,
    Filter,
    /// Inside of OVER (…).
    Window,
}

impl Clause {
    fn name(self) -> &'static str {
        match self {
            Clause::Select => "SELECT",
            Clause::Where => "WHERE",
            Clause::Join => "JOIN conditions",
            Clause::GroupBy => "GROUP BY",
            Clause::Having => "HAVING",
            Clause::OrderBy => "ORDER BY",
            Clause::Values => "VALUES",
            Clause::From => "functions in FROM",
            Clause::Aggregate => "aggregates",
            Clause::Filter => "FILTER",
            Clause::Window => "window definitions",
        }
    }

    /// Why an aggregate cannot stand here.
    fn refuses_aggregates(self) -> Option<Error> {
        let message = match self {
            Clause::Select | Clause::Having | Clause::OrderBy | Clause::Window => return None,
            Clause::Aggregate => "aggregate function calls cannot be nested".to_owned(),
            other => format!("aggregate functions are not allowed in {}", other.name()),
        };
        Some(Error::new(SqlState::GROUPING_ERROR, message))
    }

    fn refuses_windows(self) -> Option<Error> {
        let (state, message) = match self {
            Clause::Select | Clause::OrderBy => return None,
            Clause::Aggregate => (
                SqlState::GROUPING_ERROR,
                "aggregate function calls cannot contain window function calls".to_owned(),
            ),
            other => (
                SqlState::WINDOWING_ERROR,
                format!("window functions are not allowed in {}", other.name()),
            ),
        };
        Some(Error::new(state, message))
    }
}

/// What an expression is bound in.
#[derive(Clone)]
struct Context<'c> {
    scope: &'c Rc<Scope>,
    clause: Clause,
    /// What GROUP BY leaves to be named; `None` where rows are not grouped.
    groups: Option<&'c Groups>,
}

impl<'c> Context<'c> {
    fn new(scope: &'c Rc<Scope>, clause: Clause) -> Self {
        Context {
            scope,
            clause,
            groups: None,
        }
    }
}

/// The groups of a query.
#[derive(Debug, Default)]
struct Groups {
    keys: Vec<GroupKey>,
    /// Columns that are not keys themselves and have one value in each group, because a whole primary key is: those that
    /// were named. They are added to GROUP BY.
    dependent: RefCell<Vec<usize>>,
    /// Dependent columns cannot be added to grouping sets.
    sets: bool,
}

#[derive(Debug)]
struct GroupKey {
    bound: Option<Expr>,
    written: ast::Expr,
}

/// A common table expression that is in view.
#[derive(Debug)]
struct Cte {
    name: String,
    columns: Vec<(String, Option<DataType>)>,
}

/// Functions that were made for one statement, by name.
#[derive(Debug, Default)]
pub struct Made {
    functions: HashMap<String, Arc<ScalarUDF>>,
    /// Expressions that have a bridge, with its name.
    bridges: Vec<(Expr, String)>,
}

impl Made {
    pub fn get(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(name).cloned()
    }

    /// The name of the function that computes `expr` from arguments of these types.
    fn bridge(&mut self, expr: Expr, arguments: Vec<DataType>, circumstances: &Arc<Circumstances>) -> String {
        if let Some((_, name)) = self.bridges.iter().find(|(known, _)| *known == expr) {
            return name.clone();
        }
        let name = format!("{}#{}", lower::label(&expr), self.bridges.len());
        let function = Bridge::function(name.clone(), expr.clone(), arguments, circumstances.clone());
        self.functions.insert(name.clone(), function);
        self.bridges.push((expr, name.clone()));
        name
    }
}

/// What typing a query gives.
pub struct Typed {
    pub outputs: Vec<Output>,
    pub made: Made,
    pub parameters: Parameters,
    /// Object ids of parameters whose types expressions do not know, by number from 0.
    pub foreign: HashMap<usize, u32>,
}

/// Types one statement's query.
struct Typer<'a> {
    names: &'a Names<'a>,
    circumstances: Arc<Circumstances>,
    parameters: Parameters,
    foreign: HashMap<usize, u32>,
    made: Made,
    ctes: Vec<Cte>,
}

/// Types `query` and writes what it means into it. `parameters` are the types that the client has given.
///
/// # Errors
/// What PostgreSQL would refuse.
pub fn apply(
    query: &mut Query,
    names: &Names<'_>,
    circumstances: Arc<Circumstances>,
    parameters: Parameters,
) -> Result<Typed, Error> {
    let mut typer = Typer {
        names,
        circumstances,
        parameters,
        foreign: HashMap::new(),
        made: Made::default(),
        ctes: Vec::new(),
    };
    let mut outputs = typer.query(query, None)?;
    for output in &mut outputs {
        if let Some(open) = output.open.take() {
            if let Open::Parameter(index) = open {
                typer.parameters.infer(index, DataType::Text);
            }
            output.ty = Some(DataType::Text);
        }
    }
    Ok(Typed {
        outputs,
        made: typer.made,
        parameters: typer.parameters,
        foreign: typer.foreign,
    })
}
