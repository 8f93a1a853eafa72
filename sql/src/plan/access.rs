//! How a row plan finds its rows: conjuncts of WHERE that fix or bound the primary key become key lookups or a key range.
//!
//! A conjunct that the access path makes true for every row it yields is *consumed*; the others stay in the filter.

use crate::error::Error;
use crate::plan::parse;
use crate::plan::scalar::{self, Binder, Env, Refusal, Scalar};
use scry_engine::{DataType, Datum, Index, Key, KeyRange, Numeric, Table, Value};
use sqlparser::ast::{BinaryOperator, Expr};
use std::ops::Bound;
use std::sync::Arc;

/// Most keys that an IN list may expand to; a longer list scans.
const MAX_POINTS: usize = 10_000;

/// One key column's value.
pub struct KeyPart {
    value: Scalar,
    column: DataType,
    /// Whether the key is an index's, in which NULL has a place.
    nullable: bool,
}

/// A bound of a range.
pub struct KeyBound {
    part: KeyPart,
    inclusive: bool,
}

pub enum Access {
    /// No table.
    None,
    /// The whole primary key, fixed.
    Point(Vec<KeyPart>),
    /// Every combination of these values, one list for each key column.
    Points(Vec<Vec<KeyPart>>),
    Range {
        prefix: Vec<KeyPart>,
        lower: Option<KeyBound>,
        upper: Option<KeyBound>,
    },
    /// Rows are found in an index, and each is then looked up by its own key. Nothing of the condition is consumed: a row may be
    /// another one under its lock.
    Index(Box<IndexAccess>),
    Full,
}

/// How rows are found by an index.
pub struct IndexAccess {
    /// Its number among the table's.
    pub index: usize,
    pub name: String,
    pub unique: bool,
    /// The same for the index's columns as for those of a primary key.
    pub within: Access,
}

impl IndexAccess {
    pub fn new(number: usize, index: &Index, within: Access) -> IndexAccess {
        IndexAccess {
            index: number,
            name: index.def.name.clone(),
            unique: index.def.unique,
            within,
        }
    }

    /// How many columns are fixed to single values.
    fn fixed(&self) -> usize {
        match &self.within {
            Access::Point(parts) => parts.len(),
            Access::Points(columns) => columns.len(),
            Access::Range { prefix, .. } => prefix.len(),
            Access::None | Access::Index(_) | Access::Full => 0,
        }
    }
}

impl Access {
    /// Whether the rows come from key lookups or a range closed on both sides.
    pub fn is_short(&self) -> bool {
        match self {
            Access::None | Access::Point(_) | Access::Points(_) => true,
            Access::Range { lower, upper, .. } => lower.is_some() && upper.is_some(),
            Access::Index(access) => access.fixed() > 0 || access.within.is_short(),
            Access::Full => false,
        }
    }

    /// Whether each row is looked up by its whole key.
    pub fn is_lookup(&self) -> bool {
        match self {
            Access::None | Access::Point(_) | Access::Points(_) => true,
            Access::Index(access) => access.fixed() > 0,
            Access::Range { .. } | Access::Full => false,
        }
    }

    /// For EXPLAIN.
    pub fn describe(&self) -> String {
        let text = match self {
            Access::Index(access) => {
                let how = match access.within {
                    Access::Point(_) | Access::Points(_) if access.unique => "Lookup",
                    _ => "Scan",
                };
                return format!("Index {how} using {}", access.name);
            }
            Access::None => "Result",
            Access::Point(_) => "Primary Key Lookup",
            Access::Points(_) => "Primary Key Lookups",
            Access::Range { .. } => "Primary Key Range Scan",
            Access::Full => "Full Scan",
        };
        text.to_owned()
    }
}

/// Integers of different widths, and integers with numbers, compare without a cast that loses anything.
fn same_family(column: &DataType, value: &DataType) -> bool {
    match column {
        DataType::Int2 | DataType::Int4 | DataType::Int8 => value.is_integer(),
        DataType::Text | DataType::Varchar(_) => matches!(value, DataType::Text | DataType::Varchar(_)),
        DataType::Numeric(_) => matches!(value, DataType::Numeric(_)) || value.is_integer(),
        // Keys hold char(n) without its blanks, and so do values of the type. A text compares with its blanks.
        DataType::Char(_) => matches!(value, DataType::Text | DataType::Char(_)),
        other => other == value,
    }
}

/// A value in the type that the key column is encoded in. `None`: no value of the column equals it.
fn conform<'a>(value: Datum<'a>, column: &DataType) -> Option<Datum<'a>> {
    let wide = match value {
        Datum::Null => return None,
        Datum::Int2(v) => i64::from(v),
        Datum::Int4(v) => i64::from(v),
        Datum::Int8(v) => v,
        other => return Some(other),
    };
    match column {
        DataType::Int2 => i16::try_from(wide).ok().map(Datum::Int2),
        DataType::Int4 => i32::try_from(wide).ok().map(Datum::Int4),
        DataType::Numeric(_) => Some(Datum::Numeric(Numeric::from_i64(wide))),
        _ => Some(Datum::Int8(wide)),
    }
}

/// What an out-of-range integer bound means.
enum Bounded<'a> {
    At(Datum<'a>),
    /// The bound lies beyond every value on this side: it does not bind.
    Open,
    /// Nothing satisfies it.
    Never,
}

fn conform_bound<'a>(value: Datum<'a>, column: &DataType, lower: bool) -> Bounded<'a> {
    if value.is_null() {
        return Bounded::Never;
    }
    match conform(value, column) {
        Some(value) => Bounded::At(value),
        None => {
            let negative =
                matches!(value, Datum::Int4(v) if v < 0) || matches!(value, Datum::Int8(v) if v < 0);
            if negative == lower {
                Bounded::Open
            } else {
                Bounded::Never
            }
        }
    }
}

impl KeyPart {
    #[inline]
    fn append(&self, key: &mut Key, value: &Datum<'_>) {
        match self.nullable {
            true => key.push_nullable(value),
            false => key.push(value),
        }
    }

    /// Appends the value to a key. False: no row can have it.
    #[inline]
    fn push(&self, key: &mut Key, env: &Env<'_>) -> Result<bool, Error> {
        let value = scalar::eval(&self.value, env)?;
        match conform(value.datum(), &self.column) {
            Some(value) => {
                self.append(key, &value);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// The key of a point access; `None` when no row can have it.
#[inline]
pub fn point(parts: &[KeyPart], env: &Env<'_>) -> Result<Option<Key>, Error> {
    let mut key = Key::new();
    for part in parts {
        if !part.push(&mut key, env)? {
            return Ok(None);
        }
    }
    Ok(Some(key))
}

/// The keys of an IN access, in key order, each once.
pub fn points(columns: &[Vec<KeyPart>], env: &Env<'_>) -> Result<Vec<Key>, Error> {
    let mut keys = vec![Key::new()];
    for column in columns {
        let mut longer = Vec::with_capacity(keys.len() * column.len());
        for key in &keys {
            for part in column {
                let mut next = key.clone();
                if part.push(&mut next, env)? {
                    longer.push(next);
                }
            }
        }
        keys = longer;
    }
    keys.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    keys.dedup();
    Ok(keys)
}

/// The key range of a range access; `None` when it is empty.
pub fn range(
    prefix: &[KeyPart],
    lower: Option<&KeyBound>,
    upper: Option<&KeyBound>,
    env: &Env<'_>,
) -> Result<Option<KeyRange>, Error> {
    let Some(prefix) = point(prefix, env)? else {
        return Ok(None);
    };
    let mut range = if prefix.as_ref().is_empty() {
        KeyRange::all()
    } else {
        KeyRange::prefix(&prefix)
    };
    if let Some(bound) = lower {
        let value = scalar::eval(&bound.part.value, env)?;
        match conform_bound(value.datum(), &bound.part.column, true) {
            Bounded::Never => return Ok(None),
            Bounded::Open => {}
            Bounded::At(value) => {
                let mut key = prefix.clone();
                bound.part.append(&mut key, &value);
                range.lower = match (bound.inclusive, key.after_prefix()) {
                    (true, _) => Bound::Included(key),
                    (false, Some(after)) => Bound::Included(after),
                    (false, None) => return Ok(None),
                };
            }
        }
    }
    if let Some(bound) = upper {
        let value = scalar::eval(&bound.part.value, env)?;
        match conform_bound(value.datum(), &bound.part.column, false) {
            Bounded::Never => return Ok(None),
            Bounded::Open => {}
            Bounded::At(value) => {
                let mut key = prefix;
                bound.part.append(&mut key, &value);
                if !bound.inclusive {
                    range.upper = Bound::Excluded(key);
                } else if let Some(after) = key.after_prefix() {
                    range.upper = Bound::Excluded(after);
                }
            }
        }
    }
    // An ordered map refuses a range whose ends are crossed.
    if let (Bound::Included(lower), Bound::Excluded(upper)) = (&range.lower, &range.upper)
        && lower.as_ref() >= upper.as_ref()
    {
        return Ok(None);
    }
    Ok(Some(range))
}

/// The conjuncts of a condition.
pub fn conjuncts(condition: &Expr) -> Vec<&Expr> {
    let mut list = Vec::new();
    let mut stack = vec![condition];
    while let Some(expr) = stack.pop() {
        match expr {
            Expr::Nested(inner) => stack.push(inner),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                stack.push(right);
                stack.push(left);
            }
            other => list.push(other),
        }
    }
    list
}

/// A comparison of one key column with something that needs no row.
struct Comparison<'a> {
    /// Its place among the conjuncts.
    conjunct: usize,
    column: usize,
    operator: BinaryOperator,
    value: &'a Expr,
}

fn mirrored(operator: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match operator {
        BinaryOperator::Eq => BinaryOperator::Eq,
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::LtEq => BinaryOperator::GtEq,
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::LtEq,
        _ => return None,
    })
}

/// The column of the (only) table that an expression names.
pub fn column_of(expr: &Expr, table: &Table, alias: &str) -> Option<usize> {
    match expr {
        Expr::Identifier(ident) => table.column(&parse::ident(ident)),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [qualifier, column] if parse::ident(qualifier) == alias => table.column(&parse::ident(column)),
            _ => None,
        },
        Expr::Nested(inner) => column_of(inner, table, alias),
        _ => None,
    }
}

/// Chooses the access path for the conjuncts and says which of them it consumes.
pub fn choose(
    conjuncts: &[&Expr],
    table: &Table,
    alias: &str,
    binder: &mut Binder<'_>,
) -> Result<(Access, Vec<bool>), Refusal> {
    let nothing = || vec![false; conjuncts.len()];
    let by_key = match table.key_columns() {
        Some(columns) => choose_by(conjuncts, table, alias, columns, false, binder)?,
        None => (Access::Full, nothing()),
    };
    if !binder.may_use_indexes() || matches!(by_key.0, Access::Point(_) | Access::Points(_)) {
        return Ok(by_key);
    }
    let mut best = None;
    let mut most = worth(&by_key.0, true);
    for (number, index) in usable_indexes(table, binder.may_use_indexes()) {
        let (within, _) = choose_by(conjuncts, table, alias, &index.def.columns, true, binder)?;
        let worth = worth(&within, index.def.unique);
        if worth > most {
            most = worth;
            best = Some(IndexAccess::new(number, index, within));
        }
    }
    Ok(match best {
        Some(access) => (Access::Index(Box::new(access)), nothing()),
        None => by_key,
    })
}

/// The indexes of a table, with their numbers, that a plan may read.
pub fn usable_indexes(table: &Table, may_use: bool) -> impl Iterator<Item = (usize, &Arc<Index>)> {
    let indexes = table.indexes.iter().enumerate();
    indexes.filter(move |(_, index)| may_use && index.is_ready())
}

/// How few rows an access is likely to find: whether it is at most one for each key, how many columns are fixed, how many bounds there are.
fn worth(access: &Access, unique: bool) -> (bool, usize, usize) {
    match access {
        Access::Point(parts) => (unique, parts.len(), 0),
        Access::Points(columns) => (unique, columns.len(), 0),
        Access::Range { prefix, lower, upper } => (
            false,
            prefix.len(),
            usize::from(lower.is_some()) + usize::from(upper.is_some()),
        ),
        Access::None | Access::Index(_) | Access::Full => (false, 0, 0),
    }
}

/// An access by the key that these columns make, or its first ones, and which conjuncts it consumes. `nullable`: it is an index's.
fn choose_by(
    conjuncts: &[&Expr],
    table: &Table,
    alias: &str,
    key_columns: &[usize],
    nullable: bool,
    binder: &mut Binder<'_>,
) -> Result<(Access, Vec<bool>), Refusal> {
    let mut consumed = vec![false; conjuncts.len()];
    let mut comparisons = Vec::new();
    let mut lists: Vec<(usize, usize, &[Expr])> = Vec::new();
    for (conjunct, expr) in conjuncts.iter().enumerate() {
        let mut add = |column: Option<usize>, operator: Option<BinaryOperator>, value| {
            if let (Some(column), Some(operator)) = (column, operator)
                && key_columns.contains(&column)
            {
                comparisons.push(Comparison {
                    conjunct,
                    column,
                    operator,
                    value,
                });
            }
        };
        match expr {
            Expr::BinaryOp { left, op, right } => {
                if let Some(column) = column_of(left, table, alias) {
                    add(Some(column), mirrored(op).map(|_| op.clone()), right.as_ref());
                } else {
                    add(column_of(right, table, alias), mirrored(op), left.as_ref());
                }
            }
            Expr::Between {
                expr,
                negated: false,
                low,
                high,
            } => {
                let column = column_of(expr, table, alias);
                add(column, Some(BinaryOperator::GtEq), low.as_ref());
                add(column, Some(BinaryOperator::LtEq), high.as_ref());
            }
            Expr::InList {
                expr,
                list,
                negated: false,
            } => {
                if let Some(column) = column_of(expr, table, alias)
                    && key_columns.contains(&column)
                {
                    lists.push((conjunct, column, list));
                }
            }
            _ => {}
        }
    }

    let mut fixed: Vec<Vec<KeyPart>> = Vec::new();
    let mut total = 1usize;
    for &column in key_columns {
        let mut parts = None;
        for comparison in comparisons
            .iter()
            .filter(|c| c.column == column && c.operator == BinaryOperator::Eq)
        {
            if let Some(part) = key_part(comparison.value, table, column, nullable, binder)? {
                consumed[comparison.conjunct] = true;
                parts = Some(vec![part]);
                break;
            }
        }
        if parts.is_none() {
            for (conjunct, _, list) in lists.iter().filter(|(_, of, _)| *of == column) {
                if total.saturating_mul(list.len()) > MAX_POINTS {
                    continue;
                }
                let mut all = Vec::with_capacity(list.len());
                for item in *list {
                    match key_part(item, table, column, nullable, binder)? {
                        Some(part) => all.push(part),
                        None => break,
                    }
                }
                if all.len() == list.len() {
                    total *= list.len();
                    consumed[*conjunct] = true;
                    parts = Some(all);
                    break;
                }
            }
        }
        match parts {
            Some(parts) => fixed.push(parts),
            None => break,
        }
    }

    if fixed.len() == key_columns.len() {
        if fixed.iter().all(|parts| parts.len() == 1) {
            return Ok((Access::Point(fixed.into_iter().flatten().collect()), consumed));
        }
        return Ok((Access::Points(fixed), consumed));
    }
    // A list in the middle of a key would be many ranges: only single values count towards the prefix.
    let single = fixed.iter().take_while(|parts| parts.len() == 1).count();
    if single < fixed.len() {
        for (conjunct, column, _) in &lists {
            if key_columns[single..].contains(column) {
                consumed[*conjunct] = false;
            }
        }
        for comparison in comparisons
            .iter()
            .filter(|c| key_columns[single + 1..].contains(&c.column))
        {
            consumed[comparison.conjunct] = false;
        }
        fixed.truncate(single);
    }
    let (mut lower, mut upper) = (None, None);
    let next = key_columns[fixed.len()];
    // BETWEEN is consumed when both of its halves are.
    let mut halves = vec![0u8; conjuncts.len()];
    for comparison in comparisons.iter().filter(|c| c.column == next) {
        let (bound, inclusive) = match comparison.operator {
            BinaryOperator::Gt => (&mut lower, false),
            BinaryOperator::GtEq => (&mut lower, true),
            BinaryOperator::Lt => (&mut upper, false),
            BinaryOperator::LtEq => (&mut upper, true),
            _ => continue,
        };
        if bound.is_none()
            && let Some(part) = key_part(comparison.value, table, next, nullable, binder)?
        {
            *bound = Some(KeyBound { part, inclusive });
            halves[comparison.conjunct] += 1;
        }
    }
    for (conjunct, count) in halves.iter().enumerate() {
        let needed = if matches!(conjuncts[conjunct], Expr::Between { .. }) {
            2
        } else {
            1
        };
        if *count >= needed {
            consumed[conjunct] = true;
        }
    }
    if fixed.is_empty() && lower.is_none() && upper.is_none() {
        return Ok((Access::Full, consumed));
    }
    Ok((
        Access::Range {
            prefix: fixed.into_iter().flatten().collect(),
            lower,
            upper,
        },
        consumed,
    ))
}

/// The value that a key column is compared with, if it needs no row and compares as the key is ordered.
fn key_part(
    value: &Expr,
    table: &Table,
    column: usize,
    nullable: bool,
    binder: &mut Binder<'_>,
) -> Result<Option<KeyPart>, Refusal> {
    let column_type = table.def.columns[column].ty;
    let Some(scalar) = binder.constant(value, &column_type)? else {
        return Ok(None);
    };
    Ok(same_family(&column_type, &scalar.ty()).then_some(KeyPart {
        value: scalar,
        column: column_type,
        nullable,
    }))
}

/// The values of a row's key columns, for the detail of a unique violation.
pub fn key_values(table: &Table, row: &[u8]) -> Vec<(String, Value, DataType)> {
    let row = table.layout.row(row);
    let columns = table.key_columns().unwrap_or_default();
    columns
        .iter()
        .map(|&column| {
            let definition = &table.def.columns[column];
            (definition.name.clone(), row.get(column).to_value(), definition.ty)
        })
        .collect()
}
