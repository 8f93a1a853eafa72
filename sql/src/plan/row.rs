//! Row plans: statements on one table, compiled once, executed on the engine without a look at their text again.

use crate::plan::access::{Access, IndexAccess};
use crate::plan::planner::Planned;
use crate::plan::scalar::Scalar;
use crate::session::ColumnDescription;
use scry_engine::{DataType, Table};
use std::sync::Arc;

/// A result column: taken straight from the row, or computed.
pub enum Output {
    Column(usize),
    Computed(Scalar),
}

/// The columns that a statement returns.
pub struct Projection {
    pub outputs: Vec<Output>,
    /// The type of each, for its format.
    pub types: Vec<DataType>,
    pub columns: Arc<[ColumnDescription]>,
}

/// What to do when a row is locked by another transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockWait {
    Wait,
    NoWait,
    Skip,
}

/// The lock clause of a SELECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locking {
    /// FOR SHARE and FOR KEY SHARE; else FOR UPDATE and FOR NO KEY UPDATE.
    pub shared: bool,
    pub wait: LockWait,
}

impl Locking {
    /// What UPDATE and DELETE do.
    pub const FOR_WRITING: Locking = Locking {
        shared: false,
        wait: LockWait::Wait,
    };
}

/// One key of ORDER BY, by output value.
pub struct SortKey {
    pub value: Scalar,
    pub descending: bool,
    pub nulls_first: bool,
}

pub struct SelectPlan {
    pub table: Option<Arc<Table>>,
    pub access: Access,
    /// All must be true.
    pub filter: Vec<Scalar>,
    pub projection: Projection,
    pub locking: Option<Locking>,
    /// Empty when the access path's order serves.
    pub order: Vec<SortKey>,
    pub limit: Option<Scalar>,
    pub offset: Option<Scalar>,
}

impl SelectPlan {
    /// Whether it reads an index in its order, from the beginning and up to a LIMIT.
    pub fn is_first_of_index(&self) -> bool {
        let whole = |access: &IndexAccess| matches!(access.within, Access::Full);
        self.limit.is_some()
            && self.order.is_empty()
            && matches!(&self.access, Access::Index(access) if whole(access))
    }
}

/// Where a column of an inserted row comes from.
pub enum Source {
    /// The n-th value of the VALUES row or of the query's row.
    Given(usize),
    Default(Scalar),
    Null,
}

/// What is inserted.
pub enum Rows {
    /// VALUES: each value already cast to its column's type; `None` is DEFAULT.
    Values(Vec<Vec<Option<Scalar>>>),
    /// One row of defaults.
    Defaults,
    /// A query that returns rows, run by its own plan.
    Query {
        planned: Box<Planned>,
        types: Vec<DataType>,
        casts: Vec<Scalar>,
    },
}

/// The constraint or index on whose conflicts something else happens than failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arbiter {
    Any,
    PrimaryKey,
    /// By its number among the table's indexes.
    Index(usize),
}

/// What happens when the key exists.
pub enum OnConflict {
    Fail,
    Nothing,
    /// Assignments see the existing row first and the proposed one second.
    Update {
        assignments: Vec<Assignment>,
        touches: Touches,
        filter: Vec<Scalar>,
    },
}

pub struct InsertPlan {
    pub table: Arc<Table>,
    /// One for each column of the table.
    pub sources: Vec<Source>,
    /// The table's column for each given value.
    pub targets: Vec<usize>,
    /// The default of each column that has one, for DEFAULT inside of VALUES.
    pub defaults: Vec<Option<Scalar>>,
    pub rows: Rows,
    pub arbiter: Arbiter,
    pub conflict: OnConflict,
    pub returning: Option<Projection>,
}

impl InsertPlan {
    /// Whether a conflict has it change foreign keys, or keys that some refer to.
    pub fn updates_references(&self) -> bool {
        matches!(&self.conflict, OnConflict::Update { touches, .. } if touches.references)
    }

    /// Whether it can change rows of this table: its own, or those that foreign keys lead to from a row that it updates.
    pub fn may_change(&self, table: Option<&Table>) -> bool {
        table.is_some_and(|table| self.updates_references() || table.def.oid == self.table.def.oid)
    }
}

pub struct Assignment {
    pub column: usize,
    pub value: Scalar,
}

/// What changes with the columns that are assigned.
#[derive(Debug, Clone, Copy)]
pub struct Touches {
    /// The primary key.
    pub key: bool,
    /// A foreign key, or a key that one refers to.
    pub references: bool,
}

impl Touches {
    pub fn of(table: &Table, columns: &[usize]) -> Touches {
        let key = table.key_columns().unwrap_or_default();
        Touches {
            key: columns.iter().any(|column| key.contains(column)),
            references: table.def.is_bound_by(columns),
        }
    }
}

pub struct UpdatePlan {
    pub table: Arc<Table>,
    pub access: Access,
    pub filter: Vec<Scalar>,
    pub assignments: Vec<Assignment>,
    pub touches: Touches,
    pub returning: Option<Projection>,
}

pub struct DeletePlan {
    pub table: Arc<Table>,
    pub access: Access,
    pub filter: Vec<Scalar>,
    pub returning: Option<Projection>,
}

pub enum RowPlan {
    Select(SelectPlan),
    Insert(InsertPlan),
    Update(UpdatePlan),
    Delete(DeletePlan),
}

impl RowPlan {
    pub fn projection(&self) -> Option<&Projection> {
        match self {
            RowPlan::Select(plan) => Some(&plan.projection),
            RowPlan::Insert(plan) => plan.returning.as_ref(),
            RowPlan::Update(plan) => plan.returning.as_ref(),
            RowPlan::Delete(plan) => plan.returning.as_ref(),
        }
    }

    /// Whether it writes rows or locks them.
    pub fn writes(&self) -> Option<&'static str> {
        match self {
            RowPlan::Select(plan) => plan.locking.map(|locking| match locking.shared {
                true => "SELECT FOR SHARE",
                false => "SELECT FOR UPDATE",
            }),
            RowPlan::Insert(_) => Some("INSERT"),
            RowPlan::Update(_) => Some("UPDATE"),
            RowPlan::Delete(_) => Some("DELETE"),
        }
    }
}
