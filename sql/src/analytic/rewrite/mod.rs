//! PostgreSQL's syntax made into what DataFusion plans, before planning.
//!
//! - Result columns without an alias get the name that PostgreSQL gives them (`count`, `?column?`, `case`), and names that
//!   occur twice in one select list are told apart by a hidden suffix, because DataFusion insists on unique names.
//! - `pg_catalog.f(x)` loses its schema, `OPERATOR(pg_catalog.~)` becomes `~`, `COLLATE` goes.
//! - Casts to `regclass` and its kin become functions: names to oids for literals, oids to names otherwise.
//! - Number literals lose their exponent.
//! - `ARRAY(SELECT …)` becomes a subquery over `array_agg`; a scalar subquery over the catalog is given an aggregate,
//!   without which DataFusion cannot decorrelate it.

mod catalog;
mod column_names;
mod exists;
mod numbers;

pub use catalog::over_catalog;
pub use column_names::{name_columns, visible_name};

use super::functions::arrays::ARRAY_OR_EMPTY;
use super::types::cast_field;
use crate::expr::folded;
use catalog::{
    aggregate_catalog_subquery, answer_nothing, expanded_array, reads_collations, reads_nothing,
    reads_options,
};
use datafusion::arrow::datatypes::FieldRef;
use sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, LimitClause, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr,
    TableFactor, Value, VisitMut, VisitorMut,
};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Rewrites the query in place. Returns the types that casts and LIMIT give to parameters, by parameter index from 0.
pub fn rewrite(query: &mut Query) -> HashMap<usize, FieldRef> {
    let mut rewriter = Rewriter::default();
    let _: ControlFlow<()> = VisitMut::visit(query, &mut rewriter);
    rewriter.hints
}

#[derive(Default)]
struct Rewriter {
    hints: HashMap<usize, FieldRef>,
}

impl Rewriter {
    /// `$1::date` makes `$1` a date.
    fn hint(&mut self, expr: &Expr, sql: &ast::DataType) {
        if let Some(index) = placeholder(expr)
            && alias_type(sql).is_none()
            && let Some(field) = cast_field(sql)
        {
            self.hints.entry(index).or_insert(field);
        }
    }
}

fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(ast::ValueWithSpan {
            value: Value::Placeholder(id),
            ..
        }) => id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1),
        Expr::Nested(inner) => placeholder(inner),
        _ => None,
    }
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_columns(select);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _: ControlFlow<()> = VisitMut::visit(expr, &mut exists::ExistsCounter::default());
            }
        }
        if reads_nothing(select) {
            answer_nothing(select);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            name, args: Some(_), ..
        }
        | TableFactor::Function { name, .. } = factor
        {
            drop_catalog_schema(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let bigint = ast::DataType::BigInt(None);
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            limit
                .iter()
                .chain(offset.as_ref().map(|o| &o.value))
                .for_each(|e| self.hint(e, &bigint));
        }
        if let SetExpr::Select(select) = query.body.as_ref()
            && reads_nothing(select)
        {
            // The order of no rows; it may name what `answer_nothing` takes away.
            query.order_by = None;
        }
        if let Some(quantity) = query.fetch.as_ref().and_then(|fetch| fetch.quantity.as_ref()) {
            self.hint(quantity, &bigint);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast {
            expr: inner,
            data_type,
            ..
        } = expr
        {
            self.hint(inner, data_type);
        }
        if let Some(replacement) = replace(expr).or_else(|| numbers::without_exponent(expr)) {
            *expr = replacement;
        }
        ControlFlow::Continue(())
    }
}

fn replace(expr: &mut Expr) -> Option<Expr> {
    if let Some(expanded) = expanded_array(expr) {
        return Some(expanded);
    }
    match expr {
        Expr::Collate { expr: inner, .. } => Some(Expr::Nested(inner.clone())),
        Expr::BinaryOp { op, .. } => {
            if let BinaryOperator::PGCustomBinaryOperator(names) = op
                && let Some(known) = names.last().and_then(|name| operator(name))
            {
                *op = known;
            }
            None
        }
        Expr::Function(function) => replace_function(function),
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => replace_cast(inner, data_type),
        Expr::Subquery(query) => {
            if reads_collations(query) || has_no_rows(query) {
                return Some(null_of(ast::DataType::Text));
            }
            aggregate_catalog_subquery(query);
            None
        }
        _ => None,
    }
}

/// Whether the whole query is one over a catalog without rows.
fn has_no_rows(query: &Query) -> bool {
    matches!(query.body.as_ref(), SetExpr::Select(select) if reads_nothing(select))
}

fn null_of(data_type: ast::DataType) -> Expr {
    Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(Expr::value(Value::Null)),
        data_type,
        array: false,
        format: None,
    }
}

fn operator(name: &str) -> Option<BinaryOperator> {
    Some(match name {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

/// `pg_catalog.f` is `f`.
fn drop_catalog_schema(name: &mut ObjectName) {
    if name.0.len() == 2
        && let Some(ObjectNamePart::Identifier(schema)) = name.0.first()
        && folded(schema) == "pg_catalog"
    {
        name.0.remove(0);
    }
}

fn replace_function(function: &mut Function) -> Option<Expr> {
    drop_catalog_schema(&mut function.name);
    let name = match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => folded(ident),
        _ => return None,
    };
    match (name.as_str(), &mut function.args) {
        ("array", FunctionArguments::Subquery(query)) => {
            let mut query = query.clone();
            if reads_options(&query) || has_no_rows(&query) {
                let nothing = null_of(ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(
                    Box::new(ast::DataType::Text),
                    None,
                )));
                return Some(call(ARRAY_OR_EMPTY, vec![nothing]));
            }
            wrap_single_column(&mut query, "array_agg");
            Some(call(ARRAY_OR_EMPTY, vec![Expr::Subquery(query)]))
        }
        ("mod", FunctionArguments::List(list)) if list.args.len() == 2 => {
            let mut operands = list.args.iter().filter_map(plain_argument);
            let (left, right) = (operands.next()?, operands.next()?);
            Some(Expr::Nested(Box::new(Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(left.clone()))),
                op: BinaryOperator::Modulo,
                right: Box::new(Expr::Nested(Box::new(right.clone()))),
            })))
        }
        _ => None,
    }
}

fn plain_argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// The oid-alias types.
fn alias_type(sql: &ast::DataType) -> Option<&'static str> {
    let name = match sql {
        ast::DataType::Regclass => return Some("regclass"),
        ast::DataType::Custom(name, _) => name.to_string(),
        _ => return None,
    };
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("pg_catalog.").unwrap_or(&name) {
        "regclass" => Some("regclass"),
        "regtype" => Some("regtype"),
        "regnamespace" => Some("regnamespace"),
        "regrole" => Some("regrole"),
        "regproc" | "regprocedure" => Some("regproc"),
        _ => None,
    }
}

fn is_text_type(sql: &ast::DataType) -> bool {
    matches!(sql, ast::DataType::Text | ast::DataType::Varchar(_))
        || matches!(sql, ast::DataType::Custom(name, _) if name.to_string().ends_with("text"))
}

/// Whether the operand is a name (a literal or a parameter, possibly cast to text) and not an oid.
fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => !matches!(value.value, Value::Number(..)),
        Expr::Nested(inner) => is_name(inner),
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => is_text_type(data_type) && is_name(inner),
        Expr::Function(function) => function.name.to_string().ends_with("quote_ident"),
        Expr::BinaryOp {
            op: BinaryOperator::StringConcat,
            ..
        } => true,
        _ => false,
    }
}

fn replace_cast(inner: &Expr, target: &ast::DataType) -> Option<Expr> {
    if let Some(alias) = alias_type(target) {
        return Some(if is_name(inner) {
            to_oid(alias, inner)
        } else {
            to_name(alias, inner)
        });
    }
    // A cast of such a cast: `'t'::regclass::oid`, `c.oid::regclass::text`.
    let Expr::Cast {
        expr: operand,
        data_type,
        ..
    } = inner
    else {
        return None;
    };
    let alias = alias_type(data_type)?;
    match (is_name(operand), is_text_type(target)) {
        (true, true) => Some(to_name(alias, &to_oid(alias, operand))),
        (true, false) => Some(to_oid(alias, operand)),
        (false, true) => Some(to_name(alias, operand)),
        (false, false) => Some(Expr::Nested(operand.clone())),
    }
}

fn to_oid(alias: &str, operand: &Expr) -> Expr {
    call(&format!("scry_{alias}_oid"), vec![operand.clone()])
}

fn to_name(alias: &str, operand: &Expr) -> Expr {
    call(&format!("scry_{alias}_name"), vec![operand.clone()])
}

/// A plain function call.
pub fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments
                .into_iter()
                .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
                .collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Wraps the only result column of a plain SELECT in an aggregate.
fn wrap_single_column(query: &mut Query, aggregate: &str) {
    let SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    if !matches!(&select.group_by, ast::GroupByExpr::Expressions(list, _) if list.is_empty()) {
        return;
    }
    let [item] = select.projection.as_mut_slice() else {
        return;
    };
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            *expr = call(aggregate, vec![expr.clone()]);
        }
        _ => return,
    }
    // An order of the rows means nothing to the one row that is left.
    query.order_by = None;
    query.limit_clause = None;
}
