//! FROM: what the names of a query mean.

use super::build;
use super::functions;
use super::query::renamed;
use super::{Clause, Context, Output, Typer};
use crate::error::{Error, SqlState};
use crate::expr::{Scope, ScopeColumn, folded};
use scry_engine::DataType;
use sqlparser::ast::{
    Expr as Ast, FunctionArg, FunctionArgExpr, JoinConstraint, JoinOperator, ObjectName, Spanned, TableAlias,
    TableFactor, TableWithJoins,
};
use std::rc::Rc;

impl Typer<'_> {
    /// The scope that FROM makes.
    pub(super) fn from(
        &mut self,
        items: &mut [TableWithJoins],
        outer: Option<&Rc<Scope>>,
    ) -> Result<Scope, Error> {
        let mut all = Scope::inside(outer.cloned());
        for item in items {
            let scope = self.joined(item, &all, outer)?;
            check_names(&all, &scope)?;
            all.append(scope);
        }
        Ok(all)
    }

    /// One item with its joins; `before` are the items that stand before it, which LATERAL may name.
    fn joined(
        &mut self,
        item: &mut TableWithJoins,
        before: &Scope,
        outer: Option<&Rc<Scope>>,
    ) -> Result<Scope, Error> {
        let mut scope = self.factor(&mut item.relation, before, outer)?;
        for join in &mut item.joins {
            let mut seen = before.clone();
            seen.append(scope.clone());
            let mut right = self.factor(&mut join.relation, &seen, outer)?;
            check_names(&scope, &right)?;
            let kind = Kind::of(&join.join_operator);
            if let Some(constraint) = constraint(&mut join.join_operator) {
                match constraint {
                    JoinConstraint::On(condition) => {
                        let mut both = Scope::inside(outer.cloned());
                        both.append(scope.clone());
                        both.append(right.clone());
                        let both = Rc::new(both);
                        self.condition(condition, &Context::new(&both, Clause::Join))?;
                    }
                    JoinConstraint::Using(columns) => {
                        let names = columns
                            .iter()
                            .filter_map(|name| name.0.last()?.as_ident())
                            .map(folded)
                            .collect::<Vec<_>>();
                        merge(&mut scope, &mut right, &names, kind)?;
                    }
                    JoinConstraint::Natural => {
                        let names = common_names(&scope, &right);
                        merge(&mut scope, &mut right, &names, kind)?;
                    }
                    JoinConstraint::None => {}
                }
            }
            scope.append(right);
        }
        Ok(scope)
    }

    fn factor(
        &mut self,
        factor: &mut TableFactor,
        before: &Scope,
        outer: Option<&Rc<Scope>>,
    ) -> Result<Scope, Error> {
        if let TableFactor::Table {
            name, args: Some(_), ..
        } = factor
            && let Some(function) = functions::name_of(name)
        {
            self.election_function(factor, &function)?;
        }
        // LATERAL sees its neighbours, in the query around which FROM stands.
        let lateral = |before: &Scope| -> Rc<Scope> { Rc::new(before.clone()) };
        let mut scope = Scope::default();
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let (own, columns, key) = self.relation(name)?;
                add(&mut scope, alias.as_ref(), &own, columns)?;
                scope.set_key(&key);
            }
            TableFactor::Derived {
                lateral: is_lateral,
                subquery,
                alias,
                ..
            } => {
                let around = if *is_lateral {
                    Some(lateral(before))
                } else {
                    outer.cloned()
                };
                let outputs = self.query(subquery, around.as_ref())?;
                let outputs = self.texts(&mut subquery.body, outputs)?;
                let Some(alias) = alias else {
                    let values = matches!(subquery.body.as_ref(), sqlparser::ast::SetExpr::Values(_));
                    return Err(unnamed(values).at(subquery.span().start));
                };
                let relation = folded(&alias.name);
                let columns = renamed(alias, outputs, &relation)?;
                scope.add_relation(&relation, None, false, columns);
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                scope = self.joined(table_with_joins, before, outer)?;
                if let Some(alias) = alias {
                    let outputs = visible(&scope)
                        .map(|(_, column)| (column.name.clone(), column.ty))
                        .collect::<Vec<_>>();
                    scope = Scope::default();
                    add(&mut scope, Some(alias), "", outputs)?;
                }
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(arguments),
                with_ordinality,
                ..
            } => {
                let around = lateral(before);
                let ty = self.function_arguments(&mut arguments.args, &around)?;
                let function = name
                    .0
                    .last()
                    .and_then(|part| part.as_ident())
                    .map(folded)
                    .unwrap_or_default();
                let series = function == "generate_series";
                let ty = if series { ty } else { None };
                let relation = alias
                    .as_ref()
                    .map_or_else(|| function.clone(), |alias| folded(&alias.name));
                if series {
                    let renamed = alias.as_ref().and_then(|alias| alias.columns.first());
                    let column = renamed.map_or_else(|| relation.clone(), |column| folded(&column.name));
                    *factor = build::series(factor.clone(), &relation, &column, ty)?;
                    scope.add_relation(&relation, None, false, [(column, ty)]);
                } else {
                    // The column of a function that gives single values is called like the relation.
                    let mut columns = vec![(relation.clone(), None)];
                    if *with_ordinality {
                        columns.push(("ordinality".to_owned(), None));
                    }
                    add(&mut scope, alias.as_ref(), &relation, columns)?;
                }
            }
            TableFactor::UNNEST {
                array_exprs, alias, ..
            } => {
                let around = lateral(before);
                for array in array_exprs.iter_mut() {
                    self.value(array, &Context::new(&around, Clause::From))?;
                }
                let count = array_exprs.len();
                let relation = alias
                    .as_ref()
                    .map_or_else(|| "unnest".to_owned(), |alias| folded(&alias.name));
                // A single column takes the relation's name.
                let named = if count == 1 {
                    relation.clone()
                } else {
                    "unnest".to_owned()
                };
                if alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) {
                    *alias = Some(build::alias(&relation, &vec![named.clone(); count]));
                }
                add(&mut scope, alias.as_ref(), &relation, vec![(named, None); count])?;
            }
            _ => {}
        }
        Ok(scope)
    }

    /// Types a table function's arguments; gives the type that its integers have in common.
    fn function_arguments(
        &mut self,
        arguments: &mut [FunctionArg],
        scope: &Rc<Scope>,
    ) -> Result<Option<DataType>, Error> {
        let context = Context::new(scope, Clause::From);
        let mut ty = None;
        for argument in arguments {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
                continue;
            };
            // DataFusion wants to see its literals as they are.
            let mut typed = expr.clone();
            let meaning = self.value(&mut typed, &context)?;
            let plain = matches!(expr, Ast::Value(_) | Ast::UnaryOp { .. });
            if !plain {
                *expr = typed;
            }
            ty = match (ty, meaning.ty()) {
                (None, next) => next,
                (Some(so_far), Some(next)) => crate::expr::common_type(so_far, next),
                (so_far, None) => so_far,
            };
        }
        Ok(ty.filter(DataType::is_integer))
    }

    /// A named relation: its own name, its columns, and which of them are its primary key.
    #[expect(clippy::type_complexity, reason = "named where it is taken apart")]
    fn relation(
        &mut self,
        name: &ObjectName,
    ) -> Result<(String, Vec<(String, Option<DataType>)>, Vec<usize>), Error> {
        let parts: Vec<String> = name
            .0
            .iter()
            .filter_map(|part| part.as_ident())
            .map(folded)
            .collect();
        let own = parts.last().cloned().unwrap_or_default();
        if let [only] = parts.as_slice()
            && let Some(cte) = self.ctes.iter().rev().find(|cte| cte.name == *only)
        {
            return Ok((own, cte.columns.clone(), Vec::new()));
        }
        let described = self.names.describe(&parts);
        match described.map_err(|error| error.at(name.span().start))? {
            Some((columns, key)) => Ok((own, columns, key)),
            None if parts.len() > 2 && parts[0] != crate::analytic::DATABASE => Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "cross-database references are not implemented: \"{}\"",
                    parts.join(".")
                ),
            )
            .at(name.span().start)),
            None => Err(Error::new(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{}\" does not exist", parts.join(".")),
            )
            .at(name.span().start)),
        }
    }
}

fn add(
    scope: &mut Scope,
    alias: Option<&TableAlias>,
    own: &str,
    columns: Vec<(String, Option<DataType>)>,
) -> Result<(), Error> {
    let Some(alias) = alias else {
        scope.add_relation(own, None, false, columns);
        return Ok(());
    };
    let relation = folded(&alias.name);
    let outputs = columns
        .into_iter()
        .map(|(name, ty)| Output { name, ty, open: None })
        .collect();
    let columns = renamed(alias, outputs, &relation)?;
    let hidden = (relation != own && !own.is_empty()).then_some(own);
    scope.add_relation(&relation, hidden, false, columns);
    Ok(())
}

fn unnamed(values: bool) -> Error {
    let (what, example) = if values {
        ("VALUES", "FROM (VALUES ...) [AS] foo.")
    } else {
        ("subquery", "FROM (SELECT ...) [AS] foo.")
    };
    Error::syntax(format!("{what} in FROM must have an alias")).with_hint(format!("For example, {example}"))
}

/// No two relations of one FROM have one name.
fn check_names(left: &Scope, right: &Scope) -> Result<(), Error> {
    match right
        .relations()
        .find(|name| !name.is_empty() && left.has_relation(name))
    {
        None => Ok(()),
        Some(name) => Err(Error::new(
            SqlState::DUPLICATE_ALIAS,
            format!("table name \"{name}\" specified more than once"),
        )),
    }
}

/// The columns that `*` stands for, with their places.
pub(super) fn visible(scope: &Scope) -> impl Iterator<Item = (usize, &ScopeColumn)> {
    // Columns of a join by USING come first, and once.
    let merging = |column: &ScopeColumn| column.merging;
    let columns = scope.columns().iter().enumerate();
    columns
        .clone()
        .filter(move |(_, column)| merging(column) && !column.merged)
        .chain(columns.filter(move |(_, column)| !merging(column) && !column.merged))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Right,
    Full,
}

impl Kind {
    fn of(operator: &JoinOperator) -> Kind {
        match operator {
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Kind::Right,
            JoinOperator::FullOuter(_) => Kind::Full,
            _ => Kind::Plain,
        }
    }
}

fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => Some(constraint),
        _ => None,
    }
}

fn common_names(left: &Scope, right: &Scope) -> Vec<String> {
    let found =
        visible(left).filter(|(_, column)| visible(right).any(|(_, other)| other.name == column.name));
    found.map(|(_, column)| column.name.clone()).collect()
}

/// Makes one column of each pair of columns by which a join is.
fn merge(left: &mut Scope, right: &mut Scope, names: &[String], kind: Kind) -> Result<(), Error> {
    for name in names {
        let find = |scope: &Scope, side: &str| {
            let mut found = visible(scope)
                .filter(|(_, column)| column.name == *name)
                .map(|(index, _)| index);
            match (found.next(), found.next()) {
                (Some(index), None) => Ok(index),
                (Some(_), Some(_)) => Err(Error::new(
                    SqlState::AMBIGUOUS_COLUMN,
                    format!("common column name \"{name}\" appears more than once in {side} table"),
                )),
                (None, _) => Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" specified in USING clause does not exist in {side} table"),
                )),
            }
        };
        let (ours, theirs) = (find(left, "left")?, find(right, "right")?);
        match kind {
            Kind::Plain => {
                right.columns_mut()[theirs].merged = true;
                left.columns_mut()[ours].merging = true;
            }
            Kind::Right => {
                left.columns_mut()[ours].merged = true;
                right.columns_mut()[theirs].merging = true;
            }
            Kind::Full => {
                let written = |scope: &Scope, index: usize| {
                    let column = &scope.columns()[index];
                    let name = vec![
                        build::quoted(scope.relation_of(column)),
                        build::quoted(&column.name),
                    ];
                    Ast::CompoundIdentifier(name)
                };
                let either = build::call("coalesce", vec![written(left, ours), written(right, theirs)]);
                let ty = left.columns()[ours].ty;
                left.columns_mut()[ours].merged = true;
                right.columns_mut()[theirs].merged = true;
                left.add_merged(name, ty, either);
            }
        }
    }
    Ok(())
}
