//! Functions in FROM that know of elections: `scry.conflicts`, `scry.diff`, `scry.validate_election`, `scry.compare`,
//! `scry.expected`.
//!
//! The first three become a relation whose rows the session makes ([`Listing`]). The others are written out as a query: what they
//! ask of each future is planned as a query of its own, under that future, and stands in it as a view.

use super::{Typer, build};
use crate::analytic::FutureName;
use crate::error::{Error, SqlState};
use crate::expr::folded;
use crate::plan::parse;
use crate::plan::statement::Statement;
use scry_engine::{Candidate, DataType};
use sqlparser::ast::{
    self, Expr as Ast, FunctionArg, FunctionArgExpr, Ident, ObjectName, Spanned, TableFactor,
    TableFunctionArgs,
};
use std::fmt::Write;
use std::sync::Arc;

/// Most candidates that one call compares: each is a query of its own.
const CANDIDATES_MAX: usize = 64;

/// The schema of these functions.
const SCHEMA: &str = "scry";

/// The name of a function of ours; `None`: it is another's.
pub(super) fn name_of(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [schema, function] if folded(schema.as_ident()?) == SCHEMA => Some(folded(function.as_ident()?)),
        _ => None,
    }
}

fn unknown(function: &str, arguments: usize) -> Error {
    let types = vec!["unknown"; arguments].join(", ");
    Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("function {SCHEMA}.{function}({types}) does not exist"),
    )
    .with_hint(
        "There are conflicts(future), diff(future, table), compare(election, query), expected(election, query) and \
         validate_election(election), all with text constants.",
    )
}

/// The arguments, all text constants.
fn texts(function: &str, arguments: &TableFunctionArgs) -> Result<Vec<String>, Error> {
    let text = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Value(value))) => value.value.clone().into_string(),
        _ => None,
    };
    let texts = arguments.args.iter().map(text).collect::<Option<_>>();
    texts.ok_or_else(|| Error::unsupported(format!("{SCHEMA}.{function} of anything but text constants")))
}

/// A query under several futures, each planned as a relation.
struct Compared {
    /// Names and types of its columns; the relations call them `c0`, `c1`, …
    columns: Vec<(String, Option<DataType>)>,
    /// Candidates with their relations.
    candidates: Vec<(Arc<Candidate>, String)>,
}

impl Compared {
    /// The numbers of the columns whose values are compared.
    fn measures(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.columns.len()).filter(|column| self.is_measure(*column))
    }

    /// The numbers of the columns by which rows are matched.
    fn keys(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.columns.len()).filter(|column| !self.is_measure(*column))
    }

    fn is_measure(&self, column: usize) -> bool {
        self.columns[column].1.is_some_and(|ty| ty.is_number())
    }

    fn named(&self, column: usize, suffix: &str) -> Ident {
        build::quoted(&format!("{}{suffix}", self.columns[column].0))
    }
}

impl Typer<'_> {
    /// Writes a call of a function of ours as the query that it stands for.
    pub(super) fn election_function(
        &mut self,
        factor: &mut TableFactor,
        function: &str,
    ) -> Result<(), Error> {
        let TableFactor::Table {
            name,
            alias,
            args: Some(given),
            ..
        } = factor
        else {
            return Ok(());
        };
        let place = name.span().start;
        let given = texts(function, given).map_err(|error| error.at(place))?;
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let sql = match (function, given.as_slice()) {
            ("conflicts", [future]) => self.names.list(future, None),
            ("diff", [future, table]) => self.names.list(future, Some(table)),
            ("validate_election", [election]) => self.names.validation(election),
            ("compare", [election, query]) => self.compare(election, query),
            ("expected", [election, query]) => self.expected(election, query),
            (_, given) => Err(unknown(function, given.len())),
        };
        let sql = sql.map_err(|error| error.nowhere().at(place))?;
        let Statement::Query(subquery) = parse::statement(&sql)? else {
            return Err(Error::internal("a function of elections is no query"));
        };
        let alias = alias.take().unwrap_or_else(|| build::alias(function, &[]));
        *factor = TableFactor::Derived {
            lateral: false,
            subquery,
            alias: Some(alias),
            sample: None,
        };
        Ok(())
    }

    /// The result at present and in every future, beside each other, and how far the futures' numbers are from the
    /// present's.
    fn compare(&mut self, election: &str, text: &str) -> Result<String, Error> {
        let query = parse::single_query(&format!("{SCHEMA}.compare"), text)?;
        let (present, columns) = self.names.plan_under(&query, None)?;
        let compared = self.futures_of(election, &query, columns)?;
        let mut sql = "SELECT f.candidate".to_owned();
        for column in 0..compared.columns.len() {
            let _ = write!(sql, ", f.c{column} AS {}", compared.named(column, ""));
        }
        for column in compared.measures() {
            let name = compared.named(column, "_diff");
            let _ = write!(sql, ", f.c{column} - p.c{column} AS {name}");
        }
        let _ = write!(sql, " FROM (SELECT NULL::text AS candidate, * FROM {present}");
        for (candidate, relation) in &compared.candidates {
            let name = build::text(&candidate.name);
            let _ = write!(sql, " UNION ALL SELECT {name}::text, * FROM {relation}");
        }
        let matched = compared
            .keys()
            .map(|column| format!("f.c{column} IS NOT DISTINCT FROM p.c{column}"));
        let matched: Vec<String> = std::iter::once("true".to_owned()).chain(matched).collect();
        let _ = write!(sql, ") f LEFT JOIN {present} p ON {}", matched.join(" AND "));
        Ok(sql)
    }

    /// The result as it is to be expected: means over the futures, weighted as their candidates are, and how far the
    /// futures are from them.
    fn expected(&mut self, election: &str, text: &str) -> Result<String, Error> {
        let query = parse::single_query(&format!("{SCHEMA}.expected"), text)?;
        let (_, columns) = self.names.plan_under(&query, None)?;
        let compared = self.futures_of(election, &query, columns)?;
        if compared.measures().next().is_none() {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                "the query of scry.expected has no column of a numeric type",
            ));
        }
        let weighted: Vec<_> = compared
            .candidates
            .iter()
            .filter(|(candidate, _)| candidate.weight > 0.0)
            .collect();
        if weighted.is_empty() {
            return Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("election \"{election}\" has no open candidate in the mirror with a weight above 0"),
            ));
        }
        let keys: Vec<String> = compared.keys().map(|column| format!("c{column}")).collect();
        let (partition, groups) = match keys.is_empty() {
            true => (String::new(), String::new()),
            false => {
                let keys = keys.join(", ");
                (format!("PARTITION BY {keys}"), format!(" GROUP BY {keys}"))
            }
        };
        let mut outer = Vec::new();
        let mut means = vec!["w".to_owned()];
        let mut values = Vec::new();
        for column in 0..compared.columns.len() {
            if !compared.is_measure(column) {
                outer.push(format!("c{column} AS {}", compared.named(column, "")));
                means.push(format!("c{column}"));
                values.push(format!("c{column}"));
                continue;
            }
            let (x, m) = (format!("x{column}"), format!("m{column}"));
            // A future in which the value is NULL has no say.
            let weight = format!("CASE WHEN {x} IS NOT NULL THEN w END");
            outer.push(format!("max({m}) AS {}", compared.named(column, "")));
            outer.push(format!(
                "sqrt(sum(w * ({x} - {m}) * ({x} - {m})) / sum({weight})) AS {}",
                compared.named(column, "_spread")
            ));
            means.push(x.clone());
            means.push(format!(
                "sum(w * {x}) OVER ({partition}) / sum({weight}) OVER ({partition}) AS {m}"
            ));
            values.push(format!("c{column}::float8 AS {x}"));
        }
        let parts = weighted.iter().map(|(candidate, relation)| {
            let weight = candidate.weight;
            format!(
                "SELECT '{weight}'::float8 AS w, {} FROM {relation}",
                values.join(", ")
            )
        });
        let parts: Vec<String> = parts.collect();
        Ok(format!(
            "SELECT {} FROM (SELECT {} FROM ({}) u) v{groups}",
            outer.join(", "),
            means.join(", "),
            parts.join(" UNION ALL ")
        ))
    }

    /// Plans a query under the future of every candidate of an election that can be read.
    fn futures_of(
        &mut self,
        election: &str,
        query: &ast::Query,
        columns: Vec<(String, Option<DataType>)>,
    ) -> Result<Compared, Error> {
        let candidates = self.names.candidates(election)?;
        if candidates.len() > CANDIDATES_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("cannot compare more than {CANDIDATES_MAX} candidates"),
            ));
        }
        let under = |candidate: Arc<Candidate>| {
            let future = FutureName::of(election, &candidate.name);
            let (relation, _) = self.names.plan_under(query, Some(Arc::new(future)))?;
            Ok((candidate, relation))
        };
        Ok(Compared {
            columns,
            candidates: candidates.into_iter().map(under).collect::<Result<_, Error>>()?,
        })
    }
}
