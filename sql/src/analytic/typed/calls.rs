//! Aggregate and window calls: which there are, what they take and give, and how DataFusion does them.
//!
//! | call | in DataFusion |
//! |---|---|
//! | sum of int2, int4 | `int_sum` over bigint |
//! | sum of int8 | `numeric_sum` |
//! | avg of numbers without floats | sum over count, by the division of numerics |
//! | row_number and its kin | the same, cast to bigint |

use super::build;
use super::{Clause, Context, Meaning, Typer};
use crate::error::{Error, SqlState};
use crate::expr::{folded, plain_name};
use scry_engine::DataType;
use sqlparser::ast::{
    DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, ObjectName, Spanned, WindowSpec, WindowType,
};
use sqlparser::tokenizer::Location;

/// A written call and its type.
type Written = (Ast, Option<DataType>);

/// Window functions that are no aggregates.
const WINDOW_FUNCTIONS: [&str; 11] = [
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
];

const AGGREGATES: [&str; 32] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "string_agg",
    "array_agg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "variance",
    "var_samp",
    "var_pop",
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "percentile_cont",
];

fn name_of(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [name] => name.as_ident().map(folded),
        [schema, name]
            if schema
                .as_ident()
                .is_some_and(|schema| folded(schema) == "pg_catalog") =>
        {
            name.as_ident().map(folded)
        }
        _ => None,
    }
}

/// Whether the call aggregates, in a query or over a window.
pub(super) fn is_aggregate(function: &Function) -> bool {
    name_of(function).is_some_and(|name| AGGREGATES.contains(&name.as_str()))
}

impl Typer<'_> {
    /// An aggregate or window call. `None`: it is another function.
    pub(super) fn call(
        &mut self,
        function: &Function,
        context: &Context<'_>,
    ) -> Result<Option<Written>, Error> {
        let Some(name) = name_of(function) else {
            return Ok(None);
        };
        let aggregates = AGGREGATES.contains(&name.as_str());
        let windowed = WINDOW_FUNCTIONS.contains(&name.as_str());
        let place = function.name.span().start;
        if function.over.is_none() && windowed && !aggregates {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("window function {name} requires an OVER clause"),
            )
            .at(place));
        }
        if !aggregates && function.over.is_none() {
            return Ok(None);
        }
        let refused = match function.over {
            Some(_) => context.clause.refuses_windows(),
            None => context.clause.refuses_aggregates(),
        };
        if let Some(error) = refused {
            return Err(error.at(place));
        }
        let mut call = function.clone();
        call.name = ObjectName::from(vec![name.as_str().into()]);
        // Arguments of a window call are of the grouped rows, those of an aggregate of the rows that are grouped.
        let inner = match &call.over {
            Some(_) => Context {
                clause: Clause::Window,
                ..context.clone()
            },
            None => Context::new(context.scope, Clause::Aggregate),
        };
        let meanings = self.arguments(&mut call, &inner)?;
        if let Some(filter) = &mut call.filter {
            self.condition(filter, &Context::new(context.scope, Clause::Filter))?;
        }
        for order in &mut call.within_group {
            self.value(&mut order.expr, &inner)?;
        }
        if let Some(WindowType::WindowSpec(spec)) = &mut call.over {
            self.window(spec, &inner)?;
        }
        if windowed {
            return self.window_call(call, &name, &meanings, place).map(Some);
        }
        self.aggregate(call, &name, &meanings, place).map(Some)
    }

    /// What PARTITION BY and ORDER BY of a window say.
    pub(super) fn window(&mut self, spec: &mut WindowSpec, context: &Context<'_>) -> Result<(), Error> {
        for key in &mut spec.partition_by {
            self.value(key, context)?;
        }
        for order in &mut spec.order_by {
            self.value(&mut order.expr, context)?;
        }
        Ok(())
    }

    fn arguments(&mut self, call: &mut Function, context: &Context<'_>) -> Result<Vec<Meaning>, Error> {
        let FunctionArguments::List(list) = &mut call.args else {
            return Ok(Vec::new());
        };
        let mut meanings = Vec::with_capacity(list.args.len());
        for argument in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                meanings.push(self.value(expr, context)?);
            }
        }
        for clause in &mut list.clauses {
            if let FunctionArgumentClause::OrderBy(orders) = clause {
                for order in orders {
                    self.value(&mut order.expr, context)?;
                }
            }
        }
        Ok(meanings)
    }

    fn aggregate(
        &mut self,
        mut call: Function,
        name: &str,
        meanings: &[Meaning],
        place: Location,
    ) -> Result<Written, Error> {
        use DataType::*;
        let first = meanings.first().and_then(Meaning::ty);
        let foreign = meanings.iter().any(|meaning| matches!(meaning, Meaning::Foreign));
        let float = |ty: DataType| ty.is_float();
        let exact = |ty: DataType| ty.is_integer() || matches!(ty, Numeric(_));
        Ok(match (name, meanings.len()) {
            ("count", 0) if !counts_rows(&call) => {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    "count(*) must be used to call a parameterless aggregate function",
                )
                .at(place));
            }
            ("count", 0 | 1) => (Ast::Function(call), Some(Int8)),
            (_, _) if foreign => (Ast::Function(call), foreign_result(name)),
            ("sum", 1) => match first {
                Some(Int2 | Int4) => {
                    cast_argument(&mut call, &Int8);
                    (renamed(call, "int_sum"), Some(Int8))
                }
                Some(Int8) => (renamed(call, "numeric_sum"), Some(Numeric(None))),
                Some(Numeric(_)) => (Ast::Function(call), Some(Numeric(None))),
                Some(Float4) => (build::cast(Ast::Function(call), &Float4), Some(Float4)),
                Some(Float8) => (Ast::Function(call), Some(Float8)),
                _ => return Err(undefined(name, meanings).at(place)),
            },
            ("avg", 1) => match first {
                Some(ty) if exact(ty) => (average(call, ty), Some(Numeric(None))),
                Some(ty) if float(ty) => (Ast::Function(call), Some(Float8)),
                _ => return Err(undefined(name, meanings).at(place)),
            },
            ("min" | "max", 1) => match first {
                Some(Bool | Uuid | Bytea | Jsonb) => return Err(undefined(name, meanings).at(place)),
                // char(n) keeps its length, to which it is printed.
                Some(ty @ Char(_)) => (Ast::Function(call), Some(ty)),
                Some(Varchar(_)) | None => (Ast::Function(call), Some(Text)),
                Some(ty) => (Ast::Function(call), Some(ty.without_modifier())),
            },
            ("bool_and" | "bool_or" | "every", 1) => match first {
                Some(Bool) | None => {
                    let name = if name == "every" { "bool_and" } else { name };
                    (renamed(call, name), Some(Bool))
                }
                _ => return Err(undefined(name, meanings).at(place)),
            },
            ("string_agg", 2) => match first {
                Some(ty) if ty.is_text() => (Ast::Function(call), Some(Text)),
                None => (Ast::Function(call), Some(Text)),
                Some(Bytea) => (Ast::Function(call), None),
                _ => return Err(undefined(name, meanings).at(place)),
            },
            ("array_agg", 1) => (Ast::Function(call), None),
            ("bit_and" | "bit_or" | "bit_xor", 1) => match first {
                Some(ty) if ty.is_integer() => (Ast::Function(call), Some(ty)),
                _ => return Err(undefined(name, meanings).at(place)),
            },
            ("regr_count", 2) => {
                let counted = build::cast(Ast::Function(call), &Int8);
                (counted, Some(Int8))
            }
            ("stddev" | "stddev_samp" | "stddev_pop" | "variance" | "var_samp" | "var_pop", 1) => match first
            {
                Some(ty) if ty.is_number() => {
                    let name = match name {
                        "variance" => "var_samp",
                        other => other,
                    };
                    if exact(ty) {
                        cast_argument(&mut call, &Float8);
                    }
                    (renamed(call, name), Some(Float8))
                }
                _ => return Err(undefined(name, meanings).at(place)),
            },
            ("percentile_cont", _) => (Ast::Function(call), None),
            (_, 2) if name.starts_with("regr_") || name.starts_with("co") => {
                (Ast::Function(call), Some(Float8))
            }
            _ => return Err(undefined(name, meanings).at(place)),
        })
    }

    fn window_call(
        &mut self,
        mut call: Function,
        name: &str,
        meanings: &[Meaning],
        place: Location,
    ) -> Result<Written, Error> {
        let first = meanings.first().and_then(Meaning::ty);
        Ok(match (name, meanings.len()) {
            ("row_number" | "rank" | "dense_rank", 0) => {
                let ty = DataType::Int8;
                (build::cast(Ast::Function(call), &ty), Some(ty))
            }
            ("percent_rank" | "cume_dist", 0) => (Ast::Function(call), Some(DataType::Float8)),
            ("ntile", 1) => {
                plain_integer(&mut call, 0);
                let ty = DataType::Int4;
                (build::cast(Ast::Function(call), &ty), Some(ty))
            }
            ("lag" | "lead" | "nth_value", 1..) => {
                plain_integer(&mut call, 1);
                if let (Some(ty), Some(default)) = (first, meanings.get(2)) {
                    self.default_of(&mut call, default, ty)?;
                }
                (Ast::Function(call), first)
            }
            ("first_value" | "last_value", 1) => (Ast::Function(call), first),
            _ => return Err(undefined(name, meanings).at(place)),
        })
    }

    /// The value of `lag` and `lead` where there is no row: of the type of the rows' values.
    fn default_of(&mut self, call: &mut Function, meaning: &Meaning, ty: DataType) -> Result<(), Error> {
        let FunctionArguments::List(FunctionArgumentList { args, .. }) = &mut call.args else {
            return Ok(());
        };
        let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(default))) = args.get_mut(2) else {
            return Ok(());
        };
        match meaning {
            Meaning::Open(open) => *default = self.settle(open, ty)?,
            Meaning::Typed(bound) => *default = self.converted(default.clone(), bound.ty(), ty)?,
            Meaning::Foreign => {}
        }
        Ok(())
    }
}

/// `count(*)`.
fn counts_rows(call: &Function) -> bool {
    match &call.args {
        FunctionArguments::List(list) => matches!(
            list.args.as_slice(),
            [FunctionArg::Unnamed(
                FunctionArgExpr::Wildcard | FunctionArgExpr::WildcardWithOptions(_)
            )]
        ),
        _ => false,
    }
}

/// The type of an aggregate over what expressions do not know.
fn foreign_result(name: &str) -> Option<DataType> {
    match name {
        "bool_and" | "bool_or" | "every" => Some(DataType::Bool),
        "string_agg" => Some(DataType::Text),
        _ => None,
    }
}

fn renamed(mut call: Function, name: &str) -> Ast {
    call.name = ObjectName::from(vec![build::quoted(name)]);
    Ast::Function(call)
}

fn argument(call: &mut Function, index: usize) -> Option<&mut Ast> {
    match &mut call.args {
        FunctionArguments::List(list) => match list.args.get_mut(index)? {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        },
        _ => None,
    }
}

fn cast_argument(call: &mut Function, to: &DataType) {
    if let Some(argument) = argument(call, 0) {
        *argument = build::cast(argument.clone(), to);
    }
}

/// DataFusion wants numbers of rows as plain literals.
fn plain_integer(call: &mut Function, index: usize) {
    if let Some(argument) = argument(call, index)
        && let Ast::Cast { expr, .. } = argument
        && let Ast::Value(value) = expr.as_ref()
        && let sqlparser::ast::Value::SingleQuotedString(digits) = &value.value
        && digits.parse::<i64>().is_ok()
    {
        *argument = Ast::value(sqlparser::ast::Value::Number(digits.clone(), false));
    }
}

/// `sum(x) / count(x)`; NULL for no rows, as the sum is.
fn average(call: Function, ty: DataType) -> Ast {
    let mut sum = call.clone();
    let sum = match ty {
        DataType::Int2 | DataType::Int4 => {
            cast_argument(&mut sum, &DataType::Int8);
            renamed(sum, "int_sum")
        }
        DataType::Int8 => renamed(sum, "numeric_sum"),
        _ => renamed(sum, "sum"),
    };
    let mut count = call;
    if let FunctionArguments::List(list) = &mut count.args
        && list.duplicate_treatment == Some(DuplicateTreatment::All)
    {
        list.duplicate_treatment = None;
    }
    build::call("numeric_divide", vec![sum, renamed(count, "count")])
}

fn undefined(name: &str, meanings: &[Meaning]) -> Error {
    let types: Vec<String> = meanings
        .iter()
        .map(|meaning| {
            meaning
                .ty()
                .map_or_else(|| "unknown".to_owned(), |ty| plain_name(&ty))
        })
        .collect();
    Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("function {name}({}) does not exist", types.join(", ")),
    )
    .with_hint(
        "No function matches the given name and argument types. You might need to add explicit type casts.",
    )
}
