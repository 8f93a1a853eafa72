//! PostgreSQL's syntax made into what DataFusion plans, before planning.
//!
//! - Result columns without an alias get the name that PostgreSQL gives them (`count`, `?column?`, `case`), and names that
//!   occur twice in one select list are told apart by a hidden suffix, because DataFusion insists on unique names.
//! - `pg_catalog.f(x)` loses its schema, `OPERATOR(pg_catalog.~)` becomes `~`, `COLLATE` goes.
//! - Casts to `regclass` and its kin become functions: names to oids for literals, oids to names otherwise.
//! - `ARRAY(SELECT …)` becomes a subquery over `array_agg`; a scalar subquery over the catalog is given an aggregate,
//!   without which DataFusion cannot decorrelate it.

use super::types::cast_field;
use datafusion::arrow::datatypes::FieldRef;
use sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, LimitClause, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr,
    TableFactor, Value, VisitMut, VisitorMut,
};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// Separates a result column's name from the hidden suffix that makes it unique.
const HIDDEN: char = '\u{1}';

/// The name that a client sees.
pub fn visible_name(name: &str) -> &str {
    name.split_once(HIDDEN).map_or(name, |(visible, _)| visible)
}

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
        if let Some(replacement) = replace(expr) {
            *expr = replacement;
        }
        ControlFlow::Continue(())
    }
}

fn name_columns(select: &mut Select) {
    let mut taken: HashSet<String> = HashSet::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let (name, qualified) = match item {
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => (folded(ident), false),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                (parts.last().map(folded).unwrap_or_default(), true)
            }
            SelectItem::UnnamedExpr(expr) => {
                let name = column_name(expr);
                let unique = unique(&name, index, &mut taken);
                let alias = Ident::with_quote('"', unique);
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
                continue;
            }
            SelectItem::ExprWithAlias { alias, .. } => (folded(alias), false),
            _ => continue,
        };
        if taken.insert(name.clone()) {
            continue;
        }
        // The same name again. Qualified columns may share a name, yet not with themselves; a suffix serves both.
        let alias = Ident::with_quote('"', format!("{name}{HIDDEN}{index}"));
        match item {
            SelectItem::UnnamedExpr(expr) if qualified || matches!(expr, Expr::Identifier(_)) => {
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
            }
            SelectItem::ExprWithAlias { alias: old, .. } => *old = alias,
            _ => {}
        }
    }
}

fn unique(name: &str, index: usize, taken: &mut HashSet<String>) -> String {
    // `?column?` is never referred to, and DataFusion would take many such aliases in nested queries for one.
    if name != UNNAMED && taken.insert(name.to_owned()) {
        name.to_owned()
    } else {
        format!("{name}{HIDDEN}{index}")
    }
}

/// An identifier as PostgreSQL folds it.
pub fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() {
        ident.value.clone()
    } else {
        ident.value.to_ascii_lowercase()
    }
}

const UNNAMED: &str = "?column?";

/// PostgreSQL's name of an unaliased result column (`FigureColname`).
fn column_name(expr: &Expr) -> String {
    strong_name(expr).unwrap_or_else(|| UNNAMED.to_owned())
}

fn strong_name(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(parts) => folded(parts.last()?),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return strong_name(inner),
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => match strong_name(inner) {
            Some(name) => name,
            None => type_name(data_type),
        },
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Interval(_) => "interval".to_owned(),
        Expr::Function(function) => match function.name.0.last()? {
            ObjectNamePart::Identifier(ident) => folded(ident),
            ObjectNamePart::Function(_) => return None,
        },
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(strong_name) {
            Some(name) if !matches!(else_result.as_deref(), Some(Expr::Cast { .. })) => name,
            _ => "case".to_owned(),
        },
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Trim { trim_where, .. } => match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim".to_owned(),
            Some(ast::TrimWhereField::Trailing) => "rtrim".to_owned(),
            _ => "btrim".to_owned(),
        },
        Expr::Overlay { .. } => "overlay".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::AtTimeZone { .. } => "timezone".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Tuple(_) => "row".to_owned(),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => "bool".to_owned(),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(inner) => column_name(inner),
                SelectItem::ExprWithAlias { alias, .. } => folded(alias),
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    })
}

/// The internal name of a type, which PostgreSQL gives to a column that is a bare cast.
fn type_name(sql: &ast::DataType) -> String {
    use ast::DataType as Sql;
    match sql {
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) => "int4",
        Sql::BigInt(_) | Sql::Int8(_) => "int8",
        Sql::SmallInt(_) | Sql::Int2(_) => "int2",
        Sql::Boolean | Sql::Bool => "bool",
        Sql::Real | Sql::Float4 => "float4",
        Sql::DoublePrecision | Sql::Double(_) | Sql::Float(_) | Sql::Float8 => "float8",
        Sql::Numeric(_) | Sql::Decimal(_) | Sql::Dec(_) => "numeric",
        Sql::Varchar(_) | Sql::CharacterVarying(_) => "varchar",
        Sql::Char(_) | Sql::Character(_) => "bpchar",
        Sql::Timestamp(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => "timestamptz",
        Sql::Timestamp(..) => "timestamp",
        Sql::Time(..) => "time",
        Sql::Custom(name, _) => {
            let name = name.to_string();
            return name
                .rsplit('.')
                .next()
                .unwrap_or_default()
                .trim_matches('"')
                .to_ascii_lowercase();
        }
        other => return other.to_string().to_ascii_lowercase(),
    }
    .to_owned()
}

fn replace(expr: &mut Expr) -> Option<Expr> {
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
            aggregate_catalog_subquery(query);
            None
        }
        _ => None,
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

fn replace_function(function: &mut Function) -> Option<Expr> {
    if function.name.0.len() == 2
        && let Some(ObjectNamePart::Identifier(schema)) = function.name.0.first()
        && folded(schema) == "pg_catalog"
    {
        function.name.0.remove(0);
    }
    let name = match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => folded(ident),
        _ => return None,
    };
    match (name.as_str(), &mut function.args) {
        ("array", FunctionArguments::Subquery(query)) => {
            let mut query = query.clone();
            wrap_single_column(&mut query, "array_agg");
            Some(Expr::Subquery(query))
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

const AGGREGATES: [&str; 9] = [
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
];

fn aggregate_catalog_subquery(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return;
    };
    let over_catalog = !select.from.is_empty()
        && select.from.iter().all(|from| {
            let relations =
                std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
            relations.into_iter().all(is_catalog_table)
        });
    let aggregated = match select.projection.first() {
        Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => has_aggregate(expr),
        _ => true,
    };
    if over_catalog && !aggregated {
        wrap_single_column(query, "max");
    }
}

fn is_catalog_table(factor: &TableFactor) -> bool {
    let TableFactor::Table { name, args: None, .. } = factor else {
        return false;
    };
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(|part| part.as_ident().map(folded))
        .collect();
    match parts.as_slice() {
        [schema, _] => schema == "pg_catalog",
        [table] => table.starts_with("pg_"),
        _ => false,
    }
}

fn has_aggregate(expr: &Expr) -> bool {
    let mut found = false;
    let _: ControlFlow<()> = ast::visit_expressions(expr, |inner| {
        if let Expr::Function(function) = inner
            && let Some(ObjectNamePart::Identifier(name)) = function.name.0.last()
            && AGGREGATES.contains(&folded(name).as_str())
        {
            found = true;
        }
        ControlFlow::Continue(())
    });
    found
}
