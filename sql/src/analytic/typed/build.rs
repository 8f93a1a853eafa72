//! Pieces of syntax.

use crate::error::Error;
use crate::plan::parse;
use crate::plan::statement::Statement;
use crate::types::{self, TimeZone};
use scry_engine::{DataType, Numeric, Value};
use sqlparser::ast::{
    self, BinaryOperator, CastKind, CharacterLength, ExactNumberInfo, Expr, FunctionArg, Ident, Query,
    Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TimezoneInfo,
};

pub fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

pub fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

pub fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    nested(Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    })
}

/// A call of a function by exactly this name.
pub fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let mut made = crate::analytic::rewrite::call(name, arguments);
    if let Expr::Function(function) = &mut made {
        function.name = ast::ObjectName::from(vec![quoted(name)]);
    }
    made
}

pub fn text(value: &str) -> Expr {
    Expr::value(ast::Value::SingleQuotedString(value.to_owned()))
}

pub fn number(value: usize) -> Expr {
    Expr::value(ast::Value::Number(value.to_string(), false))
}

pub fn boolean(value: bool) -> Expr {
    Expr::value(ast::Value::Boolean(value))
}

pub fn null() -> Expr {
    Expr::value(ast::Value::Null)
}

pub fn parameter(index: usize) -> Expr {
    Expr::value(ast::Value::Placeholder(format!("${}", index + 1)))
}

pub fn cast(expr: Expr, to: &DataType) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: type_name(to),
        array: false,
        format: None,
    }
}

/// The type in the parser's terms.
pub fn type_name(ty: &DataType) -> ast::DataType {
    use ast::DataType as Ast;
    let length = |length: u32| CharacterLength::IntegerLength {
        length: length.into(),
        unit: None,
    };
    match ty {
        DataType::Bool => Ast::Boolean,
        DataType::Int2 => Ast::SmallInt(None),
        DataType::Int4 => Ast::Int(None),
        DataType::Int8 => Ast::BigInt(None),
        DataType::Float4 => Ast::Real,
        DataType::Float8 => Ast::DoublePrecision,
        DataType::Numeric(None) => Ast::Numeric(ExactNumberInfo::None),
        DataType::Numeric(Some((precision, scale))) => Ast::Numeric(ExactNumberInfo::PrecisionAndScale(
            (*precision).into(),
            (*scale).into(),
        )),
        DataType::Text => Ast::Text,
        DataType::Varchar(limit) => Ast::Varchar(limit.map(length)),
        DataType::Char(limit) => Ast::Character(Some(length(*limit))),
        DataType::Bytea => Ast::Bytea,
        DataType::Date => Ast::Date,
        DataType::Time => Ast::Time(None, TimezoneInfo::None),
        DataType::Timestamp => Ast::Timestamp(None, TimezoneInfo::None),
        DataType::TimestampTz => Ast::Timestamp(None, TimezoneInfo::WithTimeZone),
        DataType::Uuid => Ast::Uuid,
        DataType::Jsonb => Ast::JSONB,
    }
}

/// A constant: its text, cast to its type. `literals` reads it, so that nothing depends on DataFusion's casts of texts.
pub fn constant(value: &Value, ty: &DataType) -> Expr {
    match value {
        Value::Null => cast(null(), ty),
        Value::Bool(value) => boolean(*value),
        Value::Text(value) => text(value),
        Value::Numeric(value) => cast(text(&printed(value)), &shape(value)),
        other => {
            let mut out = Vec::new();
            types::write_text(&mut out, &other.as_datum(), &DataType::Text, &TimeZone::utc());
            cast(text(&String::from_utf8_lossy(&out)), &ty.without_modifier())
        }
    }
}

fn printed(number: &Numeric) -> String {
    let mut buffer = [0; Numeric::TEXT_BYTES];
    number.text(&mut buffer).to_owned()
}

/// The narrowest type that holds a number as it is printed.
pub fn shape(number: &Numeric) -> DataType {
    let digits = number.mantissa().unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
    let precision = u8::try_from(digits)
        .unwrap_or(u8::MAX)
        .max(number.scale())
        .clamp(1, 38);
    DataType::Numeric(Some((precision, number.scale().min(precision))))
}

/// A query of this text, to be filled in.
fn skeleton(sql: &str) -> Result<Box<Query>, Error> {
    match parse::statement(sql)? {
        Statement::Query(query) => Ok(query),
        _ => Err(Error::internal("a skeleton is no query")),
    }
}

fn select_of(query: &mut Query) -> Option<&mut Select> {
    match query.body.as_mut() {
        SetExpr::Select(select) => Some(select),
        _ => None,
    }
}

/// `TABLE t` as `SELECT * FROM t`.
pub fn table_query(table: &ast::Table) -> Result<SetExpr, Error> {
    let mut query = skeleton("SELECT * FROM t")?;
    let names = table.schema_name.iter().chain(table.table_name.iter());
    let names: Vec<Ident> = names.map(Ident::new).collect();
    if let Some(select) = select_of(&mut query)
        && let Some(from) = select.from.first_mut()
        && let TableFactor::Table { name, .. } = &mut from.relation
    {
        *name = ast::ObjectName::from(names);
    }
    Ok(*query.body)
}

pub fn alias(relation: &str, columns: &[String]) -> TableAlias {
    TableAlias {
        explicit: true,
        name: quoted(relation),
        columns: columns
            .iter()
            .map(|column| TableAliasColumnDef {
                name: quoted(column),
                data_type: None,
            })
            .collect(),
        at: None,
    }
}

/// `generate_series(…)` as a query whose column has the type of the arguments. The table function takes literals only; with
/// anything else the series is an array first.
pub fn series(
    factor: TableFactor,
    relation: &str,
    column: &str,
    ty: Option<DataType>,
) -> Result<TableFactor, Error> {
    let TableFactor::Table {
        name,
        args: Some(arguments),
        ..
    } = factor
    else {
        return Ok(factor);
    };
    let expressions: Vec<Expr> = arguments
        .args
        .iter()
        .filter_map(|argument| match argument {
            FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect();
    let literal = ty.is_some()
        && expressions
            .iter()
            .all(|expr| matches!(expr, Expr::Value(_) | Expr::UnaryOp { .. }));
    let mut query = skeleton("SELECT value FROM t")?;
    if let Some(select) = select_of(&mut query) {
        let item = if literal {
            if let Some(from) = select.from.first_mut()
                && let TableFactor::Table {
                    name: function, args, ..
                } = &mut from.relation
            {
                *function = name;
                *args = Some(arguments);
            }
            Expr::Identifier(Ident::new("value"))
        } else {
            select.from.clear();
            let wide = expressions.into_iter().map(|expr| match ty {
                Some(_) => cast(expr, &DataType::Int8),
                None => expr,
            });
            call("unnest", vec![call("generate_series", wide.collect())])
        };
        let expr = match ty {
            Some(ty) if literal => cast(item, &ty),
            _ => item,
        };
        select.projection = vec![SelectItem::ExprWithAlias {
            expr,
            alias: quoted(column),
        }];
    }
    Ok(TableFactor::Derived {
        lateral: false,
        subquery: query,
        alias: Some(alias(relation, &[])),
        sample: None,
    })
}

fn members(query: &Query, relation: &str, columns: &[String]) -> TableFactor {
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query.clone()),
        alias: Some(alias(relation, columns)),
        sample: None,
    }
}

/// INTERSECT ALL and EXCEPT ALL as sets: each row with its number among its equals.
pub fn multiset(
    left: SetExpr,
    op: ast::SetOperator,
    right: SetExpr,
    names: &[&str],
) -> Result<SetExpr, Error> {
    let columns: Vec<String> = (1..=names.len()).map(|index| format!("c{index}")).collect();
    let column = |name: &String| Expr::CompoundIdentifier(vec![quoted("rows"), quoted(name)]);
    let numbered = |side: SetExpr| -> Result<Box<SetExpr>, Error> {
        let mut query = skeleton("SELECT 1 FROM t")?;
        let mut inner = skeleton("SELECT 1 FROM t")?;
        *inner.body = side;
        let mut count = skeleton("SELECT row_number() OVER (PARTITION BY 1) AS copy FROM t")?;
        let mut items: Vec<SelectItem> = columns.iter().map(column).map(SelectItem::UnnamedExpr).collect();
        if let Some(select) = select_of(&mut count) {
            if let Some(SelectItem::ExprWithAlias {
                expr: Expr::Function(call),
                ..
            }) = select.projection.first_mut()
                && let Some(ast::WindowType::WindowSpec(window)) = &mut call.over
            {
                window.partition_by = columns.iter().map(column).collect();
            }
            items.append(&mut select.projection);
        }
        if let Some(select) = select_of(&mut query) {
            select.projection = items;
            if let Some(from) = select.from.first_mut() {
                from.relation = members(&inner, "rows", &columns);
            }
        }
        Ok(query.body)
    };
    let mut both = skeleton("SELECT 1 FROM t")?;
    *both.body = SetExpr::SetOperation {
        op,
        set_quantifier: ast::SetQuantifier::Distinct,
        left: numbered(left)?,
        right: numbered(right)?,
    };
    let mut with_number = columns.clone();
    with_number.push("copy".to_owned());
    let mut outer = skeleton("SELECT 1 FROM t")?;
    if let Some(select) = select_of(&mut outer) {
        select.projection = columns
            .iter()
            .zip(names)
            .map(|(name, alias)| SelectItem::ExprWithAlias {
                expr: column(name),
                alias: quoted(alias),
            })
            .collect();
        if let Some(from) = select.from.first_mut() {
            from.relation = members(&both, "rows", &with_number);
        }
    }
    Ok(*outer.body)
}

/// `(SELECT count(1) FROM (query) AS relation (column) WHERE condition)`.
pub fn count_of(query: &Query, relation: &str, column: &str, condition: Option<Expr>) -> Result<Expr, Error> {
    let mut outer = skeleton("SELECT count(1) AS members FROM t")?;
    if let Some(select) = select_of(&mut outer) {
        if let Some(from) = select.from.first_mut() {
            from.relation = members(query, relation, &[column.to_owned()]);
        }
        select.selection = condition;
    }
    Ok(Expr::Subquery(outer))
}

/// `EXISTS (SELECT 1 FROM (query) AS relation (columns) WHERE condition)`.
pub fn exists_in(query: &Query, relation: &str, columns: &[String], condition: Expr) -> Result<Expr, Error> {
    let mut outer = skeleton("SELECT 1 AS one FROM t")?;
    if let Some(select) = select_of(&mut outer) {
        if let Some(from) = select.from.first_mut() {
            from.relation = members(query, relation, columns);
        }
        select.selection = Some(condition);
    }
    Ok(Expr::Exists {
        subquery: outer,
        negated: false,
    })
}
