//! The seam to [`crate::expr`]: binding with the names and parameter types of one statement, and evaluation.

use crate::error::Error;
use crate::expr::{self, BindError, EvalContext, Evaluated, Parameters, RowSource, Scope};
use crate::types;
use scry_engine::{Catalog, ColumnDef, DataType, RowRef, Table, Value};
use sqlparser::ast;
use sqlparser::tokenizer::Location;

/// Why an expression cannot be part of a row plan, or is wrong.
pub use crate::expr::BindError as Refusal;
pub use crate::expr::Facts;

/// A bound expression.
pub type Scalar = expr::Expr;

/// Types of `$1…$n`: given by the client or learnt from their use.
#[derive(Default)]
pub struct ParamTypes {
    parameters: Parameters,
    /// As given; 0 where unknown.
    given: Vec<u32>,
}

impl ParamTypes {
    /// Types that row plans do not know are left to the analytic planner.
    pub fn given(oids: &[u32]) -> Self {
        ParamTypes {
            parameters: Parameters::from_oids(oids),
            given: oids.to_vec(),
        }
    }

    /// What is known now, for a planner that goes on from here.
    pub fn oids(&mut self) -> Vec<u32> {
        let count = self.parameters.len().max(self.given.len());
        (0..count)
            .map(|index| match self.given.get(index) {
                Some(oid) if *oid != 0 => *oid,
                _ => self
                    .parameters
                    .get(index)
                    .ok()
                    .flatten()
                    .map_or(0, |ty| types::oid(&ty)),
            })
            .collect()
    }

    /// How many parameters there are.
    pub fn count(&self) -> usize {
        self.parameters.len().max(self.given.len())
    }

    /// Takes over what another planner has found.
    pub fn learn(&mut self, oids: &[u32]) -> Result<(), Error> {
        for (index, oid) in oids.iter().enumerate() {
            self.parameters.get(index).map_err(BindError::into_error)?;
            if let Some(ty) = types::from_oid(*oid, -1) {
                self.parameters.infer(index, ty);
            }
        }
        Ok(())
    }

    /// The final types; text where nothing tells.
    pub fn finish(mut self) -> Vec<DataType> {
        let count = self.parameters.len().max(self.given.len());
        (0..count)
            .map(|index| {
                self.parameters
                    .get(index)
                    .ok()
                    .flatten()
                    .unwrap_or(DataType::Text)
            })
            .collect()
    }
}

/// Binds the expressions of one statement.
pub struct Binder<'a> {
    scope: Scope,
    types: &'a mut ParamTypes,
    facts: &'a Facts<'a>,
    indexes: bool,
}

impl<'a> Binder<'a> {
    pub fn new(types: &'a mut ParamTypes, facts: &'a Facts<'a>) -> Self {
        Binder {
            scope: Scope::empty(),
            types,
            facts,
            indexes: false,
        }
    }

    /// With the names of a scope.
    pub fn in_scope(scope: Scope, types: &'a mut ParamTypes, facts: &'a Facts<'a>) -> Self {
        Binder {
            scope,
            types,
            facts,
            indexes: false,
        }
    }

    /// Whether rows may be found by indexes, which follow the tables of this catalog alone when it is no candidate's.
    pub fn use_indexes_of(&mut self, catalog: &Catalog) {
        self.indexes = catalog.has_indexes();
    }

    pub fn may_use_indexes(&self) -> bool {
        self.indexes
    }

    pub fn facts(&self) -> &'a Facts<'a> {
        self.facts
    }

    /// The relations whose columns can be named from here on. A second one is found only with its name.
    pub fn set_relations(&mut self, relations: &[(&str, &Table)]) {
        let mut scope = Scope::empty();
        for (index, (alias, table)) in relations.iter().enumerate() {
            let own = table.def.name.as_str();
            let columns = Scope::columns_of(&table.def).map(|(name, ty)| (name.to_owned(), Some(ty)));
            scope.add_relation(alias, (own != *alias).then_some(own), index > 0, columns);
        }
        self.scope = scope;
    }

    /// What is wrong with the name of a relation that is not among them.
    pub fn no_relation(&self, name: &str) -> Error {
        self.scope.no_relation(name)
    }

    pub fn known_oids(&mut self) -> Vec<u32> {
        self.types.oids()
    }

    pub fn learn(&mut self, oids: &[u32]) -> Result<(), Error> {
        self.types.learn(oids)
    }

    /// An expression of any type.
    pub fn value(&mut self, expr: &ast::Expr) -> Result<Scalar, Refusal> {
        expr::bind(expr, &self.scope, &mut self.types.parameters, self.facts)
    }

    /// An expression of any type, but for a parameter that has none yet: that takes `ty`.
    pub fn argument(&mut self, expr: &ast::Expr, ty: DataType) -> Result<Scalar, Refusal> {
        match self.is_untyped(expr) {
            true => expr::bind_as(expr, ty, &self.scope, &mut self.types.parameters, self.facts),
            false => self.value(expr),
        }
    }

    /// A condition.
    pub fn condition(&mut self, expr: &ast::Expr) -> Result<Scalar, Refusal> {
        expr::bind_predicate(expr, "WHERE", &self.scope, &mut self.types.parameters, self.facts)
    }

    /// A value for a column, with the cast of an assignment.
    pub fn assigned(&mut self, expr: &ast::Expr, column: &ColumnDef) -> Result<Scalar, Refusal> {
        expr::bind_assignment(
            expr,
            &column.name,
            column.ty,
            &self.scope,
            &mut self.types.parameters,
            self.facts,
        )
    }

    /// LIMIT or OFFSET.
    pub fn row_count(&mut self, expr: &ast::Expr) -> Result<Scalar, Refusal> {
        expr::bind_as(
            expr,
            DataType::Int8,
            &Scope::empty(),
            &mut self.types.parameters,
            self.facts,
        )
    }

    pub fn null(&self, column: &ColumnDef) -> Scalar {
        Scalar::Constant {
            value: Value::Null,
            ty: column.ty,
        }
    }

    /// The other side of a comparison with a key column, if it needs no row. Literals and parameters of unknown type
    /// take the column's.
    pub fn constant(&mut self, expr: &ast::Expr, column: &DataType) -> Result<Option<Scalar>, Refusal> {
        if !needs_no_row(expr) {
            return Ok(None);
        }
        let untyped = match expr {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Placeholder(_) => self.is_untyped(expr),
                ast::Value::Number(..) | ast::Value::Boolean(_) => false,
                _ => true,
            },
            _ => false,
        };
        let bound = if untyped {
            expr::bind_as(expr, *column, &self.scope, &mut self.types.parameters, self.facts)?
        } else {
            self.value(expr)?
        };
        Ok((!bound.reads_columns() && !bound.is_volatile()).then_some(bound))
    }

    fn is_untyped(&mut self, placeholder: &ast::Expr) -> bool {
        let ast::Expr::Value(value) = placeholder else {
            return false;
        };
        let ast::Value::Placeholder(name) = &value.value else {
            return false;
        };
        let index = name
            .strip_prefix('$')
            .and_then(|digits| digits.parse::<usize>().ok()?.checked_sub(1));
        index.is_some_and(|index| matches!(self.types.parameters.get(index), Ok(None)))
    }
}

/// Whether an expression can at all be constant: it is built of literals, parameters, casts, arithmetic and function calls.
/// A name means a row, or what row plans cannot do.
fn needs_no_row(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Value(_) | ast::Expr::TypedString(_) | ast::Expr::Function(_) => true,
        ast::Expr::Nested(inner)
        | ast::Expr::UnaryOp { expr: inner, .. }
        | ast::Expr::Cast { expr: inner, .. } => needs_no_row(inner),
        ast::Expr::BinaryOp { left, right, .. } => needs_no_row(left) && needs_no_row(right),
        _ => false,
    }
}

/// What an evaluation reads.
#[derive(Clone, Copy)]
pub struct Env<'a>(EvalContext<'a>);

impl<'a> Env<'a> {
    #[inline]
    pub fn new(params: &'a [Value], facts: &'a Facts<'a>) -> Self {
        Env(EvalContext {
            row: RowSource::None,
            params,
            facts,
        })
    }

    #[inline]
    pub fn with_row<'b>(self, row: RowRef<'b>) -> Env<'b>
    where
        'a: 'b,
    {
        Env(EvalContext {
            row: RowSource::Row(row),
            ..self.0
        })
    }

    /// Columns are the values of a list.
    #[inline]
    pub fn with_values<'b>(self, values: &'b [Value]) -> Env<'b>
    where
        'a: 'b,
    {
        Env(EvalContext {
            row: RowSource::Values(values),
            ..self.0
        })
    }

    /// The existing row and `excluded`.
    #[inline]
    pub fn with_rows<'b>(self, existing: RowRef<'b>, proposed: RowRef<'b>) -> Env<'b>
    where
        'a: 'b,
    {
        Env(EvalContext {
            row: RowSource::Pair(existing, proposed),
            ..self.0
        })
    }
}

/// Evaluates.
#[inline]
pub fn eval<'a>(scalar: &'a Scalar, env: &Env<'a>) -> Result<Evaluated<'a>, Error> {
    scalar.eval(&env.0)
}

/// Whether every condition is true: neither false nor NULL.
#[inline]
pub fn all_true(conditions: &[Scalar], env: &Env<'_>) -> Result<bool, Error> {
    for condition in conditions {
        if !condition.holds(&env.0)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Casts of a query's result columns, each by an assignment to its column. Evaluate them with [`Env::with_values`].
/// `places`: where the columns are written, as far as is known.
pub fn assignment_casts(
    from: &[DataType],
    to: &[&ColumnDef],
    places: &[Location],
    facts: &Facts<'_>,
) -> Result<Vec<Scalar>, Error> {
    let names: Vec<String> = (0..from.len()).map(|index| format!("c{index}")).collect();
    let scope = Scope::table(
        "query",
        names.iter().map(String::as_str).zip(from.iter().copied()),
    );
    let mut casts = Vec::with_capacity(to.len());
    for (index, column) in to.iter().enumerate() {
        let name = ast::Expr::Identifier(ast::Ident::with_quote('"', names[index].as_str()));
        let mut parameters = Parameters::default();
        let bound = expr::bind_assignment(&name, &column.name, column.ty, &scope, &mut parameters, facts);
        casts.push(bound.map_err(|error| {
            let error = error.into_error().nowhere();
            match places.get(index) {
                Some(place) => error.at(*place),
                None => error,
            }
        })?);
    }
    Ok(casts)
}

/// A query's values in the types that its columns are described with: some come as their text.
pub fn settle_values(values: &mut [Value], types: &[DataType], facts: &Facts<'_>) -> Result<(), Error> {
    for (value, ty) in values.iter_mut().zip(types) {
        if let (Value::Text(text), DataType::Uuid | DataType::Jsonb) = (&*value, ty) {
            let context = types::InputContext {
                zone: facts.zone,
                now: facts.transaction_start,
            };
            *value = types::parse_text(text, ty, &context)?;
        }
    }
    Ok(())
}
