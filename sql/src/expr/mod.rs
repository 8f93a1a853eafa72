//! Scalar expressions of row plans: bound once against a statement's columns and parameters, then evaluated row by
//! row without DataFusion.
//!
//! `bind` gives every node its type by PostgreSQL's rules (literals of unknown type take the type of their context,
//! numbers are promoted, parameters are inferred) and inserts the casts, so that evaluation only looks at values.
//! What it does not know it answers with `BindError::Unsupported`, and the caller may hand the statement to
//! DataFusion; what PostgreSQL would refuse is `BindError::Error`.
//!
//! Evaluation borrows from the row, the parameters and the expression wherever it can; only operations that make
//! new text or bytes allocate. Constant parts are evaluated at bind time.
//!
//! Invariants: a tree is at most `DEPTH_MAX` deep (54001 beyond), so that neither binding nor evaluation can exhaust
//! the stack; AND and OR are flat lists and do not count their length as depth.

mod arithmetic;
mod bind;
mod bind_function;
mod bind_operator;
mod bind_predicate;
mod cast;
mod coerce;
mod data_type;
mod eval;
mod extract;
mod function;
mod interval;
mod like;
mod md5;
mod pattern;
mod scope;

pub use bind::{Binder, Leaf, bind, bind_as, bind_assignment, bind_predicate, folded};
pub use bind_function::{is_known as is_function, takes_sequence, without_regclass};
pub use bind_predicate::similar_to;
pub use cast::key_datum;
pub use coerce::{Operand, common_type, plain_name};
pub use data_type::data_type;
pub use function::Function;
pub use interval::{Interval, add_to_instant};
pub use like::Pattern;
pub use scope::{Parameters, Scope, ScopeColumn};

use crate::error::Error;
use crate::notify::Outbox;
use crate::place::Place;
use crate::sequence::SequenceAccess;
use crate::types::TimeZone;
use scry_engine::row::RowRef;
use scry_engine::types::{DataType, Datum, Value};
use std::cmp::Ordering;
use std::sync::atomic::AtomicU64;

/// Levels of an expression within each other.
pub const DEPTH_MAX: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithmeticOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl CompareOp {
    #[inline]
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            CompareOp::Equal => ordering.is_eq(),
            CompareOp::NotEqual => ordering.is_ne(),
            CompareOp::Less => ordering.is_lt(),
            CompareOp::LessEqual => ordering.is_le(),
            CompareOp::Greater => ordering.is_gt(),
            CompareOp::GreaterEqual => ordering.is_ge(),
        }
    }

    /// The operator with its operands exchanged.
    pub fn mirrored(self) -> CompareOp {
        match self {
            CompareOp::Less => CompareOp::Greater,
            CompareOp::LessEqual => CompareOp::GreaterEqual,
            CompareOp::Greater => CompareOp::Less,
            CompareOp::GreaterEqual => CompareOp::LessEqual,
            same => same,
        }
    }
}

/// A bound expression. Operands of one node have the types that the node needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A column of the scope.
    Column {
        index: usize,
        ty: DataType,
    },
    /// A parameter, counted from 0.
    Parameter {
        index: usize,
        ty: DataType,
    },
    Constant {
        value: Value,
        ty: DataType,
    },
    /// Operands of one number type, or a date and an integer, or a date and a time; `ty` is the result's.
    Arithmetic {
        op: ArithmeticOp,
        left: Box<Expr>,
        right: Box<Expr>,
        ty: DataType,
    },
    Negate(Box<Expr>),
    /// Operands of one type, or integers of any width.
    Compare {
        op: CompareOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull {
        operand: Box<Expr>,
        negated: bool,
    },
    /// `IS [NOT] TRUE / FALSE / UNKNOWN`.
    IsTruth {
        operand: Box<Expr>,
        truth: Option<bool>,
        negated: bool,
    },
    IsDistinct {
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    InList {
        operand: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    Like {
        operand: Box<Expr>,
        pattern: Box<Expr>,
        fold_case: bool,
        negated: bool,
        compiled: Pattern,
    },
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
        ty: DataType,
    },
    Coalesce {
        arguments: Vec<Expr>,
        ty: DataType,
    },
    NullIf {
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// GREATEST keeps what compares `Greater`, LEAST what compares `Less`.
    Extreme {
        arguments: Vec<Expr>,
        keep: Ordering,
        ty: DataType,
    },
    Cast {
        operand: Box<Expr>,
        to: DataType,
        explicit: bool,
    },
    /// A date, time or timestamp and an interval.
    AddInterval {
        operand: Box<Expr>,
        interval: Interval,
        ty: DataType,
    },
    Function {
        function: Function,
        arguments: Vec<Expr>,
        ty: DataType,
    },
}

impl Expr {
    pub fn ty(&self) -> DataType {
        match self {
            Expr::Column { ty, .. }
            | Expr::Parameter { ty, .. }
            | Expr::Constant { ty, .. }
            | Expr::Arithmetic { ty, .. }
            | Expr::Case { ty, .. }
            | Expr::Coalesce { ty, .. }
            | Expr::Extreme { ty, .. }
            | Expr::AddInterval { ty, .. }
            | Expr::Function { ty, .. } => *ty,
            Expr::Cast { to, .. } => *to,
            Expr::Negate(operand) => operand.ty().without_modifier(),
            Expr::NullIf { left, .. } => left.ty(),
            Expr::Compare { .. }
            | Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::IsTruth { .. }
            | Expr::IsDistinct { .. }
            | Expr::InList { .. }
            | Expr::Like { .. } => DataType::Bool,
        }
    }

    /// Calls `visit` for this node and every one below it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        match self {
            Expr::Column { .. } | Expr::Parameter { .. } | Expr::Constant { .. } => {}
            Expr::Negate(operand)
            | Expr::Not(operand)
            | Expr::IsNull { operand, .. }
            | Expr::IsTruth { operand, .. }
            | Expr::Cast { operand, .. }
            | Expr::AddInterval { operand, .. } => operand.walk(visit),
            Expr::Arithmetic { left, right, .. }
            | Expr::Compare { left, right, .. }
            | Expr::IsDistinct { left, right, .. }
            | Expr::NullIf { left, right } => {
                left.walk(visit);
                right.walk(visit);
            }
            Expr::Like { operand, pattern, .. } => {
                operand.walk(visit);
                pattern.walk(visit);
            }
            Expr::And(items) | Expr::Or(items) => items.iter().for_each(|item| item.walk(visit)),
            Expr::Coalesce { arguments, .. }
            | Expr::Extreme { arguments, .. }
            | Expr::Function { arguments, .. } => arguments.iter().for_each(|item| item.walk(visit)),
            Expr::InList { operand, list, .. } => {
                operand.walk(visit);
                list.iter().for_each(|item| item.walk(visit));
            }
            Expr::Case {
                branches, otherwise, ..
            } => {
                for (condition, result) in branches {
                    condition.walk(visit);
                    result.walk(visit);
                }
                if let Some(otherwise) = otherwise {
                    otherwise.walk(visit);
                }
            }
        }
    }

    /// The same node over other parts.
    pub fn map_parts<E>(&self, map: &mut dyn FnMut(&Expr) -> Result<Expr, E>) -> Result<Expr, E> {
        let mut made = self.clone();
        made.visit_parts(&mut |part| {
            *part = map(part)?;
            Ok(())
        })?;
        Ok(made)
    }

    fn visit_parts<E>(&mut self, visit: &mut dyn FnMut(&mut Expr) -> Result<(), E>) -> Result<(), E> {
        match self {
            Expr::Column { .. } | Expr::Parameter { .. } | Expr::Constant { .. } => Ok(()),
            Expr::Negate(operand)
            | Expr::Not(operand)
            | Expr::IsNull { operand, .. }
            | Expr::IsTruth { operand, .. }
            | Expr::Cast { operand, .. }
            | Expr::AddInterval { operand, .. } => visit(operand),
            Expr::Arithmetic { left, right, .. }
            | Expr::Compare { left, right, .. }
            | Expr::IsDistinct { left, right, .. }
            | Expr::NullIf { left, right } => {
                visit(left)?;
                visit(right)
            }
            Expr::Like { operand, pattern, .. } => {
                visit(operand)?;
                visit(pattern)
            }
            Expr::And(items) | Expr::Or(items) => items.iter_mut().try_for_each(visit),
            Expr::Coalesce { arguments, .. }
            | Expr::Extreme { arguments, .. }
            | Expr::Function { arguments, .. } => arguments.iter_mut().try_for_each(visit),
            Expr::InList { operand, list, .. } => {
                visit(operand)?;
                list.iter_mut().try_for_each(visit)
            }
            Expr::Case {
                branches, otherwise, ..
            } => {
                for (condition, result) in branches {
                    visit(condition)?;
                    visit(result)?;
                }
                otherwise.as_deref_mut().map_or(Ok(()), visit)
            }
        }
    }

    /// Whether it reads a column: if not, it has one value per execution, unless it is volatile.
    pub fn reads_columns(&self) -> bool {
        let mut found = false;
        self.walk(&mut |node| found |= matches!(node, Expr::Column { .. }));
        found
    }

    /// Whether two evaluations within one statement may differ.
    pub fn is_volatile(&self) -> bool {
        let mut found = false;
        self.walk(&mut |node| {
            found |= matches!(node, Expr::Function { function, .. } if function.is_volatile());
        });
        found
    }

    /// Whether it gives the same value at any time and to anybody.
    pub fn is_timeless(&self) -> bool {
        let mut found = true;
        self.walk(&mut |node| {
            found &= !matches!(node, Expr::Function { function, .. } if function.reads_moment());
        });
        found
    }

    /// Whether PostgreSQL calls it immutable: it depends on its columns alone, and on no setting.
    pub fn is_immutable(&self) -> bool {
        let mut found = true;
        self.walk(&mut |node| {
            found &= match node {
                Expr::Function {
                    function, arguments, ..
                } => function.is_immutable(arguments),
                Expr::Cast { operand, to, .. } => !follows_settings(operand.ty(), *to),
                Expr::AddInterval { ty, .. } => *ty != DataType::TimestampTz,
                _ => true,
            };
        });
        found
    }

    /// Whether it is nothing but constants, and so was folded or could be.
    fn is_constant(&self) -> bool {
        matches!(self, Expr::Constant { .. })
    }

    /// The conditions that must all hold; one for anything but AND.
    pub fn conjuncts(&self) -> &[Expr] {
        match self {
            Expr::And(items) => items,
            single => std::slice::from_ref(single),
        }
    }
}

/// Whether a cast goes by the time zone, or by the style of dates.
fn follows_settings(from: DataType, to: DataType) -> bool {
    let is_moment = |ty| {
        matches!(
            ty,
            DataType::Date | DataType::Time | DataType::Timestamp | DataType::TimestampTz
        )
    };
    let zoned = (from == DataType::TimestampTz) != (to == DataType::TimestampTz);
    match (is_moment(from), is_moment(to)) {
        (true, true) => zoned,
        (true, false) => to.is_text(),
        (false, true) => from.is_text(),
        (false, false) => false,
    }
}

/// What the columns of a scope are read from.
#[derive(Clone, Copy)]
pub enum RowSource<'a> {
    /// No columns: VALUES, DEFAULT, SELECT without FROM.
    None,
    Row(RowRef<'a>),
    /// The columns of one row, then those of another: the existing one and `excluded` of ON CONFLICT.
    Pair(RowRef<'a>, RowRef<'a>),
    Values(&'a [Value]),
    Datums(&'a [Datum<'a>]),
}

/// What the session knows and functions ask for.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub zone: &'a TimeZone,
    /// Microseconds since 1970-01-01 UTC: what `now()` says.
    pub transaction_start: i64,
    pub statement_start: i64,
    /// The present time, for `clock_timestamp()`.
    pub clock: fn() -> i64,
    /// State of `random()`, stepped at each call.
    pub random: &'a AtomicU64,
    pub user: &'a str,
    pub database: &'a str,
    /// What `version()` says.
    pub version: &'a str,
    pub backend_pid: i32,
    /// The transaction's id, once it has one.
    pub transaction_id: Option<u64>,
    /// How `nextval()` and its kin find sequences; `None`: there are none here.
    pub sequences: Option<&'a SequenceAccess>,
    /// Where `pg_notify()` puts what it has to tell; `None`: nothing can be told from here.
    pub outbox: Option<&'a Outbox>,
}

/// All that an evaluation reads.
#[derive(Clone, Copy)]
pub struct EvalContext<'a> {
    pub row: RowSource<'a>,
    pub params: &'a [Value],
    pub facts: &'a Facts<'a>,
}

/// A value that is borrowed from the row, the parameters or the expression, or was made.
#[derive(Clone, Debug)]
pub enum Evaluated<'a> {
    Borrowed(Datum<'a>),
    Owned(Value),
}

impl<'a> Evaluated<'a> {
    pub const NULL: Evaluated<'static> = Evaluated::Borrowed(Datum::Null);

    #[inline]
    pub fn datum(&self) -> Datum<'_> {
        match self {
            Evaluated::Borrowed(datum) => *datum,
            Evaluated::Owned(value) => value.as_datum(),
        }
    }

    pub fn into_value(self) -> Value {
        match self {
            Evaluated::Borrowed(datum) => datum.to_value(),
            Evaluated::Owned(value) => value,
        }
    }

    #[inline]
    pub fn is_null(&self) -> bool {
        self.datum().is_null()
    }
}

impl<'a> From<Datum<'a>> for Evaluated<'a> {
    #[inline]
    fn from(datum: Datum<'a>) -> Evaluated<'a> {
        Evaluated::Borrowed(datum)
    }
}

impl From<Value> for Evaluated<'_> {
    fn from(value: Value) -> Self {
        Evaluated::Owned(value)
    }
}

/// Why an expression was not bound.
#[derive(Debug)]
pub enum BindError {
    /// Not known here: the caller may try another executor. Says what it was.
    Unsupported(String),
    /// Wrong by PostgreSQL's rules.
    Error(Error),
}

impl BindError {
    fn unsupported(what: impl std::fmt::Display) -> BindError {
        BindError::Unsupported(what.to_string())
    }

    /// Where the mistake is, unless that is known better already.
    fn at(self, place: impl Into<Place>) -> BindError {
        match self {
            BindError::Error(error) => BindError::Error(error.at(place)),
            unsupported => unsupported,
        }
    }

    /// For callers without another executor: what is unsupported is an error (0A000).
    pub fn into_error(self) -> Error {
        match self {
            BindError::Unsupported(what) => Error::unsupported(what),
            BindError::Error(error) => error,
        }
    }
}

impl From<Error> for BindError {
    fn from(error: Error) -> BindError {
        BindError::Error(error)
    }
}

#[cfg(test)]
mod tests;
