//! Set operations and VALUES: columns of one type from queries or rows of several.

use super::build;
use super::{Clause, Context, Meaning, Open, Output, Typer};
use crate::error::{Error, SqlState};
use crate::expr::{Expr, Scope, common_type, plain_name};
use scry_engine::{DataType, Numeric, Value};
use sqlparser::ast::{Expr as Ast, SelectItem, SetExpr, SetOperator, Spanned, Values};
use sqlparser::tokenizer::Location;
use std::rc::Rc;

/// The word for a set operation in messages.
fn word(op: &SetOperator) -> &'static str {
    match op {
        SetOperator::Union => "UNION",
        SetOperator::Intersect => "INTERSECT",
        SetOperator::Except | SetOperator::Minus => "EXCEPT",
    }
}

impl Typer<'_> {
    pub(super) fn set_operation(
        &mut self,
        left: &mut SetExpr,
        op: &SetOperator,
        right: &mut SetExpr,
        outer: Option<&Rc<Scope>>,
    ) -> Result<Vec<Output>, Error> {
        let places = places(right);
        let left_outputs = self.body(left, None, outer)?;
        let right_outputs = self.body(right, None, outer)?;
        self.unite(op, (left, left_outputs), (right, right_outputs), &places)
    }

    /// Brings the columns of both sides to common types. `places` are those of the right side's columns.
    pub(super) fn unite(
        &mut self,
        op: &SetOperator,
        (left, left_outputs): (&mut SetExpr, Vec<Output>),
        (right, right_outputs): (&mut SetExpr, Vec<Output>),
        places: &[Location],
    ) -> Result<Vec<Output>, Error> {
        let at = |error: Error, column: usize| match places.get(column) {
            Some(place) => error.at(*place),
            None => error,
        };
        if left_outputs.len() != right_outputs.len() {
            let error = Error::syntax(format!(
                "each {} query must have the same number of columns",
                word(op)
            ));
            return Err(at(error, 0));
        }
        let mut united = Vec::with_capacity(left_outputs.len());
        for (index, (ours, theirs)) in left_outputs.iter().zip(&right_outputs).enumerate() {
            let ty = match (ours.ty, theirs.ty) {
                (Some(ours), Some(theirs)) => Some(common_type(ours, theirs).ok_or_else(|| {
                    let error = Error::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "{} types {} and {} cannot be matched",
                            word(op),
                            plain_name(&ours),
                            plain_name(&theirs)
                        ),
                    );
                    at(error, index)
                })?),
                (Some(ty), None) if theirs.open.is_some() => Some(ty),
                (None, Some(ty)) if ours.open.is_some() => Some(ty),
                (None, None) if ours.open.is_some() && theirs.open.is_some() => Some(DataType::Text),
                _ => None,
            };
            united.push(Output {
                name: ours.name.clone(),
                ty,
                open: None,
            });
        }
        let types: Vec<Option<DataType>> = united.iter().map(|output| output.ty).collect();
        self.convert(left, &left_outputs, &types)?;
        self.convert(right, &right_outputs, &types)?;
        Ok(united)
    }

    /// Casts the columns of a query, already typed as `outputs`, to `types`.
    pub(super) fn convert(
        &mut self,
        body: &mut SetExpr,
        outputs: &[Output],
        types: &[Option<DataType>],
    ) -> Result<(), Error> {
        let needed = |output: &Output, ty: &Option<DataType>| match (output.ty, ty) {
            (Some(from), Some(to)) => from.without_modifier() != to.without_modifier(),
            (None, Some(_)) => output.open.is_some(),
            _ => false,
        };
        if !outputs.iter().zip(types).any(|(output, ty)| needed(output, ty)) {
            return Ok(());
        }
        match body {
            SetExpr::Select(select) if select.projection.len() == outputs.len() => {
                for ((item, output), ty) in select.projection.iter_mut().zip(outputs).zip(types) {
                    let Some(ty) = ty.filter(|_| needed(output, ty)) else {
                        continue;
                    };
                    let (expr, alias) = match item {
                        SelectItem::UnnamedExpr(expr) => (expr.clone(), build::quoted(&output.name)),
                        SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), alias.clone()),
                        _ => continue,
                    };
                    let expr = self.made_of(expr, output, ty)?;
                    *item = SelectItem::ExprWithAlias { expr, alias };
                }
                Ok(())
            }
            SetExpr::Values(values) => {
                for row in &mut values.rows {
                    for ((expr, output), ty) in row.content.iter_mut().zip(outputs).zip(types) {
                        if let Some(ty) = ty.filter(|_| needed(output, ty)) {
                            *expr = self.made_of(expr.clone(), output, ty)?;
                        }
                    }
                }
                Ok(())
            }
            SetExpr::SetOperation { left, right, .. } => {
                self.convert(left, outputs, types)?;
                self.convert(right, outputs, types)
            }
            SetExpr::Query(query) if query.limit_clause.is_none() && query.fetch.is_none() => {
                self.convert(&mut query.body, outputs, types)
            }
            // A query whose rows were chosen by their order keeps its columns; DataFusion casts them itself.
            _ => Ok(()),
        }
    }

    fn made_of(&mut self, expr: Ast, output: &Output, ty: DataType) -> Result<Ast, Error> {
        match (&output.open, output.ty) {
            (Some(open), _) => self.settle(open, ty),
            (None, Some(from)) => self.converted(expr, from, ty),
            (None, None) => Ok(expr),
        }
    }

    pub(super) fn values(
        &mut self,
        values: &mut Values,
        outer: Option<&Rc<Scope>>,
    ) -> Result<Vec<Output>, Error> {
        let width = values.rows.first().map_or(0, |row| row.content.len());
        if let Some(row) = values.rows.iter().find(|row| row.content.len() != width) {
            let error = Error::syntax("VALUES lists must all be the same length");
            return Err(match row.content.first() {
                Some(first) => error.at(first.span().start),
                None => error,
            });
        }
        let scope = Rc::new(Scope::inside(outer.cloned()));
        let context = Context::new(&scope, Clause::Values);
        let mut meanings: Vec<Vec<Meaning>> = Vec::with_capacity(values.rows.len());
        let mut places = Vec::with_capacity(values.rows.len());
        for row in &mut values.rows {
            places.push(
                row.content
                    .iter()
                    .map(|expr| expr.span().start)
                    .collect::<Vec<_>>(),
            );
            meanings.push(
                row.content
                    .iter_mut()
                    .map(|expr| self.value(expr, &context))
                    .collect::<Result<_, _>>()?,
            );
        }
        let mut outputs = Vec::with_capacity(width);
        for column in 0..width {
            let mut ty: Option<DataType> = None;
            let mut foreign = false;
            for (row, places) in meanings.iter().zip(&places) {
                match &row[column] {
                    Meaning::Typed(bound) => {
                        let next = bound.ty();
                        ty = Some(match ty {
                            None => next,
                            Some(so_far) => common_type(so_far, next).ok_or_else(|| {
                                Error::new(
                                    SqlState::DATATYPE_MISMATCH,
                                    format!(
                                        "VALUES types {} and {} cannot be matched",
                                        plain_name(&so_far),
                                        plain_name(&next)
                                    ),
                                )
                                .at(places[column])
                            })?,
                        });
                    }
                    Meaning::Foreign => foreign = true,
                    Meaning::Open(_) => {}
                }
            }
            let name = format!("column{}", column + 1);
            if foreign {
                outputs.push(Output {
                    name,
                    ty: None,
                    open: None,
                });
                continue;
            }
            // One row of literals stays open; several without any type are texts.
            if ty.is_none() && values.rows.len() == 1 {
                outputs.push(meanings[0][column].output(name));
                continue;
            }
            let ty = ty.unwrap_or(DataType::Text);
            // DataFusion wants the rows of a column alike, to the last digit.
            let alike = match ty {
                DataType::Numeric(_) => shape(meanings.iter().map(|row| &row[column])),
                ty => ty.without_modifier(),
            };
            for (row, meanings) in values.rows.iter_mut().zip(&meanings) {
                let expr = &mut row.content[column];
                let output = meanings[column].output(String::new());
                *expr = build::cast(self.made_of(expr.clone(), &output, ty)?, &alike);
            }
            outputs.push(Output {
                name,
                ty: Some(ty),
                open: None,
            });
        }
        Ok(outputs)
    }
}

/// The numeric type that holds constants as they are written; one without precision if there is anything else.
fn shape<'m>(meanings: impl Iterator<Item = &'m Meaning>) -> DataType {
    let (mut whole, mut fraction) = (1u8, 0u8);
    for meaning in meanings {
        let number = match meaning {
            Meaning::Typed(Expr::Constant {
                value: Value::Numeric(number),
                ..
            }) => *number,
            Meaning::Typed(Expr::Constant { value, .. }) => match value.as_datum().integer() {
                Some(integer) => Numeric::from_i64(integer),
                None if matches!(value, Value::Null) => continue,
                None => return DataType::Numeric(None),
            },
            Meaning::Open(Open::Null) => continue,
            _ => return DataType::Numeric(None),
        };
        if let DataType::Numeric(Some((precision, scale))) = build::shape(&number) {
            whole = whole.max(precision - scale);
            fraction = fraction.max(scale);
        }
    }
    match whole + fraction {
        digits @ ..=38 => DataType::Numeric(Some((digits, fraction))),
        _ => DataType::Numeric(None),
    }
}

/// Where the columns of a query are written.
pub(super) fn places(body: &SetExpr) -> Vec<Location> {
    match body {
        SetExpr::Select(select) => select
            .projection
            .iter()
            .map(|item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr.span().start,
                other => other.span().start,
            })
            .collect(),
        SetExpr::Query(query) => places(&query.body),
        SetExpr::SetOperation { left, .. } => places(left),
        SetExpr::Values(values) => match values.rows.first() {
            Some(row) => row.content.iter().map(|expr| expr.span().start).collect(),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}
