//! Rows of a branch: what a candidate proposes for one key, and what it would replace.
//!
//! A branch has the columns of its table and three more at their end:
//!
//! | column | type | is |
//! |---|---|---|
//! | `scry.replaced` | int8 | the ordinal of the version in the base that is replaced; NULL: the row is new |
//! | `scry.deleted` | bool | the row is deleted: the table's columns hold it as it was |
//! | `scry.before` | bytea | the columns that differ, as they were (`RowLayout::encode_before`); NULL unless the row is an update |
//!
//! A row that replaces a version, is not deleted and has no before-image is *touched*: a statement locked it and has
//! not written it. Touched rows are never committed.

use crate::Row;
use crate::catalog::{ColumnDef, Table, TableDef};
use crate::error::Error;
use crate::overlay::Version;
use crate::row::{RowError, RowLayout};
use crate::store::Store;
use crate::store::backing::Home;
use crate::types::{DataType, Datum};
use scry_wal::{Ordinal, StoreId};
use smallvec::SmallVec;
use std::sync::Arc;

/// Columns that a branch has beside the table's.
pub(crate) const EXTRA_COLUMNS: usize = 3;

/// What a candidate proposes for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// The row; of a deletion, the row as it was.
    pub(crate) row: Row,
    pub(crate) replaced: Option<Ordinal>,
    pub(crate) deleted: bool,
    pub(crate) before: Option<Vec<u8>>,
}

impl Proposal {
    /// Whether the row under the key is the one that the candidate found.
    pub(crate) fn is_upon(&self, present: Option<&Version>) -> bool {
        match (self.replaced, present) {
            (None, None) => true,
            (Some(replaced), Some(present)) => present.ordinal == Some(replaced),
            _ => false,
        }
    }

    /// The row that the candidate found under the key: a deletion holds it, an update what differed.
    pub(crate) fn found(&self, base: &RowLayout) -> Option<Row> {
        self.replaced?;
        let Some(before) = self.before.as_deref().filter(|_| !self.deleted) else {
            return Some(Arc::clone(&self.row));
        };
        let changed = base.decode_before(before).expect("a before-image of this table");
        let row = base.update(&self.row, &changed);
        Some(row.expect("a row that was there fits its table").into())
    }

    /// The row that statements see.
    pub(crate) fn visible(&self) -> Option<&Row> {
        (!self.deleted).then_some(&self.row)
    }
}

/// Whether a row of a branch was locked and not written.
pub(crate) fn is_touched(branch: &Table, bytes: &[u8]) -> bool {
    let row = branch.layout.row(bytes);
    let first = branch.layout.columns() - EXTRA_COLUMNS;
    !row.is_null(first) && row.get(first + 1) == Datum::Bool(false) && row.is_null(first + 2)
}

/// The columns of the branch of a table with these columns.
pub fn columns(base: &[ColumnDef]) -> Vec<ColumnDef> {
    let extra = |name: &str, ty, not_null| ColumnDef {
        not_null,
        ..ColumnDef::new(name, ty)
    };
    let mut columns = base.to_vec();
    for column in &mut columns {
        // Its rows have all columns that there are now.
        (column.default, column.missing) = (None, None);
    }
    columns.push(extra("scry.replaced", DataType::Int8, false));
    columns.push(extra("scry.deleted", DataType::Bool, true));
    columns.push(extra("scry.before", DataType::Bytea, false));
    columns
}

/// An empty branch of `base`. New rows of a table without primary key take their keys from the table's own counter.
pub(crate) fn table(home: Home, base: &Table, store: StoreId, columns: Vec<ColumnDef>) -> Table {
    let counters = Arc::new(base.store.counters.of_branch());
    let data = Store::with_counters(home, store, counters);
    let def = TableDef {
        oid: base.def.oid,
        name: base.def.name.clone(),
        columns,
        primary_key: base.def.primary_key.clone(),
        store,
        ..TableDef::default()
    };
    Table::new(def, Arc::new(data), Arc::default())
}

/// The layout of the rows that a branch proposes: of its table, as it was when the branch was made.
pub(crate) fn base_layout(branch: &Table) -> RowLayout {
    let types = branch.layout.types();
    RowLayout::new(&types[..types.len() - EXTRA_COLUMNS])
}

/// A proposal as a row of the branch.
pub(crate) fn encode(base: &RowLayout, branch: &Table, proposal: &Proposal) -> Result<Vec<u8>, Error> {
    let row = base.row(&proposal.row);
    let mut values: SmallVec<[Datum<'_>; 16]> = (0..base.columns()).map(|column| row.get(column)).collect();
    values.push(match proposal.replaced {
        Some(ordinal) => Datum::Int8(ordinal.get().cast_signed()),
        None => Datum::Null,
    });
    values.push(Datum::Bool(proposal.deleted));
    values.push(proposal.before.as_deref().map_or(Datum::Null, Datum::Bytea));
    branch.layout.encode_datums(&values).map_err(|error| match error {
        RowError::TooLarge { bytes } => Error::RowTooLarge {
            table: branch.def.name.clone(),
            bytes,
            limit: crate::row::MAX_ROW_BYTES,
        },
        other => unreachable!("a row of the table does not fit its branch: {other}"),
    })
}

/// A row of the branch as a proposal.
pub(crate) fn decode(base: &RowLayout, branch: &Table, bytes: &[u8]) -> Proposal {
    let row = branch.layout.row(bytes);
    let columns = base.columns();
    let values: SmallVec<[Datum<'_>; 16]> = (0..columns).map(|column| row.get(column)).collect();
    let plain = base
        .encode_datums(&values)
        .expect("a branch holds rows of its table");
    Proposal {
        row: plain.into(),
        replaced: match row.get(columns) {
            Datum::Int8(ordinal) => Some(Ordinal::new(ordinal.cast_unsigned())),
            _ => None,
        },
        deleted: matches!(row.get(columns + 1), Datum::Bool(true)),
        before: match row.get(columns + 2) {
            Datum::Bytea(before) => Some(before.to_vec()),
            _ => None,
        },
    }
}
