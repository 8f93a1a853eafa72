//! Making the rows of `scry.conflicts` and `scry.diff`, at the statement's snapshot, from the engine's rows.

use super::Session;
use crate::analytic::{Listed, Listing};
use crate::collision as rules;
use crate::error::{Error, SqlState};
use crate::types::{self, TimeZone};
use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use datafusion::catalog::TableProvider;
use scry_engine::collision::Outcome;
use scry_engine::{Candidate, Change, Collision, DataType, Key, Row, Table, Value};
use scry_mirror::Snapshot;
use scry_stream::RowBatchBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most rows of one list: they are all in memory.
const ROWS_MAX: usize = 4_000_000;

fn too_many() -> Error {
    Error::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("cannot list more than {ROWS_MAX} rows that a candidate changes"),
    )
}

/// What could not be made a batch: rows are well formed, so this is our mistake.
pub(super) fn unfit(error: impl ToString) -> Error {
    Error::internal(error.to_string())
}

impl Session {
    /// `snapshot` is the mirror at the statement's LSN.
    pub(super) async fn listing(
        &mut self,
        listing: &Listing,
        snapshot: &Snapshot,
    ) -> Result<RecordBatch, Error> {
        let catalog = self.catalog();
        let user = &self.identity.user;
        let columns = match &listing.listed {
            Listed::Conflicts(future) => {
                let candidates = future.open(&catalog, user)?;
                self.conflict_columns(&candidates)?
            }
            Listed::Changes(future, table) => {
                let candidates = future.open(&catalog, user)?;
                self.change_columns(&candidates, table)?
            }
            Listed::Validation(election) => self.validation_columns(election, snapshot).await?,
        };
        RecordBatch::try_new(listing.schema(), columns).map_err(unfit)
    }

    fn conflict_columns(&mut self, candidates: &[Arc<Candidate>]) -> Result<Vec<ArrayRef>, Error> {
        let zone = self.settings.zone().clone();
        let catalog = self.catalog();
        let mut columns: [StringBuilder; 9] = Default::default();
        let evaluate = rules::evaluator();
        let mut rows = 0;
        // What consists of statements is run again, and meets nothing.
        let of_rows = |candidate: &&Arc<Candidate>| candidate.statements().is_empty();
        for candidate in candidates.iter().filter(of_rows) {
            for changed in candidate.branches() {
                let name = changed.table_name();
                let Some(table) = catalog.table(name) else {
                    let table = name.to_owned();
                    return Err(scry_engine::Error::TableReplaced { table }.into());
                };
                let Some(branch) = candidate.changes_of(table)? else {
                    continue;
                };
                let txn = self.transaction.open_txn()?;
                let collisions = txn.collisions(branch, table, |_| true, candidate.at_best(), &evaluate)?;
                rows += collisions.len();
                if rows > ROWS_MAX {
                    return Err(too_many());
                }
                for collision in collisions {
                    self.interrupt.check()?;
                    let texts = conflict(table, &collision, &zone);
                    for (column, text) in columns.iter_mut().zip(texts) {
                        column.append_option(text);
                    }
                }
            }
        }
        let finished = columns
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef);
        Ok(finished.collect())
    }

    fn change_columns(
        &mut self,
        candidates: &[Arc<Candidate>],
        table: &Arc<Table>,
    ) -> Result<Vec<ArrayRef>, Error> {
        // By key; of candidates on top of each other the last has it.
        let mut changes: BTreeMap<Key, Change> = BTreeMap::new();
        let evaluate = rules::evaluator();
        for candidate in candidates {
            let Some(branch) = candidate.changes_of(table)? else {
                continue;
            };
            let txn = self.transaction.open_txn()?;
            for change in txn.changes(branch, table, candidate.at_best(), &evaluate)? {
                changes.insert(change.key.clone(), change);
            }
            if changes.len() > ROWS_MAX {
                return Err(too_many());
            }
        }
        let schema = Listing::side(table);
        let nothing = table.layout.encode(&vec![Value::Null; table.def.columns.len()])?;
        let live: Vec<usize> = table.def.live_columns().map(|(number, _)| number).collect();
        let side = || RowBatchBuilder::projected(&schema, &live).map_err(unfit);
        let (mut old, mut new) = (side()?, side()?);
        let mut kinds = StringBuilder::new();
        for change in changes.values() {
            self.interrupt.check()?;
            let kind = match (&change.present, &change.proposed) {
                (None, None) => continue,
                (None, Some(_)) => "insert",
                (Some(_), None) => "delete",
                (Some(present), Some(proposed)) if table.layout.same(present, proposed) => continue,
                (Some(_), Some(_)) => "update",
            };
            kinds.append_value(kind);
            let row = |row: &Option<Row>| row.clone().unwrap_or_else(|| nothing.clone().into());
            old.push(&row(&change.present)).map_err(unfit)?;
            new.push(&row(&change.proposed)).map_err(unfit)?;
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(kinds.finish())];
        for mut side in [old, new] {
            columns.extend_from_slice(side.finish().map_err(unfit)?.columns());
        }
        Ok(columns)
    }
}

/// Table, key, columns that both changed, the row before, at present, and as proposed; what is decided, by which rule,
/// and the row that results.
fn conflict(table: &Table, collision: &Collision, zone: &TimeZone) -> [Option<String>; 9] {
    let row = |row: Option<&Row>| row.map(|row| composite(table, row, None, zone));
    let present = collision.present.as_ref().map(|(_, row)| row);
    let (before, proposed) = (collision.before.as_ref(), collision.proposed.as_ref());
    let any = present.or(before).or(proposed);
    let key = any.zip(table.key_columns()).map(|(row, key)| match key {
        [column] => value(table, row, *column, zone),
        columns => composite(table, row, Some(columns), zone),
    });
    let (decision, result) = match &collision.decision.outcome {
        Outcome::Keep => ("keep", present),
        Outcome::Put(row) => ("put", Some(row)),
        Outcome::Delete => ("delete", None),
        Outcome::Defer => ("defer", present),
        Outcome::Refuse => ("fail", present),
    };
    [
        Some(table.def.name.clone()),
        key,
        present
            .zip(proposed)
            .map(|(present, proposed)| both_changed(table, before, present, proposed)),
        row(before),
        row(present),
        row(proposed),
        Some(decision.to_owned()),
        Some(collision.decision.reason.clone()),
        row(result),
    ]
}

/// The columns that the candidate and somebody else made different from what they were; of a row that both made, those
/// that they made differently.
fn both_changed(table: &Table, before: Option<&Row>, present: &Row, proposed: &Row) -> String {
    let row = |row: &Row| table.layout.row(row).values();
    let (present, proposed) = (row(present), row(proposed));
    let before = before.map(row);
    let columns = table.def.live_columns().map(|(number, _)| number);
    let changed = columns.filter(|&column| match &before {
        Some(before) => before[column] != present[column] && before[column] != proposed[column],
        None => present[column] != proposed[column],
    });
    let names: Vec<&str> = changed
        .map(|column| table.def.columns[column].name.as_str())
        .collect();
    names.join(", ")
}

fn value(table: &Table, row: &Row, column: usize, zone: &TimeZone) -> String {
    let ty = &table.def.columns[column].ty;
    types::as_text(&table.layout.row(row).get(column), ty, zone).unwrap_or_default()
}

/// A row, or some columns of it.
pub(super) fn composite(table: &Table, row: &Row, columns: Option<&[usize]>, zone: &TimeZone) -> String {
    let all: Vec<usize> = table.def.live_columns().map(|(number, _)| number).collect();
    let row = table.layout.row(row);
    let field = |column: &usize| -> (_, DataType) { (row.get(*column), table.def.columns[*column].ty) };
    let mut text = Vec::new();
    types::write_composite(&mut text, columns.unwrap_or(&all).iter().map(field), zone);
    String::from_utf8_lossy(&text).into_owned()
}
