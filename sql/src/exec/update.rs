//! UPDATE and DELETE by row plan.

use crate::constraint;
use crate::error::Error;
use crate::exec::context::{self, Exec};
use crate::exec::message;
use crate::exec::targets::Targets;
use crate::expr::Evaluated;
use crate::plan::row::{Assignment, DeletePlan, Locking, Projection, UpdatePlan};
use crate::plan::scalar::{self, Env};
use bytes::BytesMut;
use scry_engine::{Datum, InsertOutcome, Key, Row, Table};
use smallvec::SmallVec;

/// The new row of an UPDATE: `env` sees the old one.
pub fn changed(
    exec: &Exec<'_>,
    table: &Table,
    assignments: &[Assignment],
    old: &[u8],
    env: &Env<'_>,
) -> Result<Row, Error> {
    let mut values: SmallVec<[Evaluated<'_>; 4]> = SmallVec::new();
    for assignment in assignments {
        let value = scalar::eval(&assignment.value, env)?;
        if value.is_null() && table.def.columns[assignment.column].not_null {
            let mut row = table.layout.row(old).values();
            for (assignment, value) in assignments.iter().zip(values) {
                row[assignment.column] = value.into_value();
            }
            row[assignment.column] = scry_engine::Value::Null;
            return Err(context::not_null_violation(
                table,
                assignment.column,
                &row,
                exec.facts,
            ));
        }
        values.push(value);
    }
    let changes: SmallVec<[(usize, Datum<'_>); 4]> = assignments
        .iter()
        .zip(&values)
        .map(|(assignment, value)| (assignment.column, value.datum()))
        .collect();
    let row = table.layout.update(old, &changes)?;
    constraint::check(table, &row, exec.facts)?;
    Ok(row.into())
}

/// Replaces a locked row, under its own key or, when key columns change, under a new one.
pub async fn replace(
    exec: &mut Exec<'_>,
    table: &Table,
    key: &Key,
    row: Row,
    rekeys: bool,
) -> Result<(), Error> {
    if !rekeys {
        let updating = exec.txn.update(table, key.as_ref(), row);
        return Ok(exec.interrupt.locking(updating).await??);
    }
    let Some(new_key) = table.key_of(&row) else {
        return Err(Error::internal("a key column became NULL"));
    };
    let outcome = exec
        .interrupt
        .locking(exec.txn.update_key(table, key.as_ref(), new_key, row.clone()))
        .await??;
    match outcome {
        InsertOutcome::Inserted(_) => Ok(()),
        InsertOutcome::Exists(_) => Err(context::unique_violation(table, &row, exec.facts)),
        InsertOutcome::Taken { index, .. } => Err(table.key_exists(index, &row).into()),
    }
}

/// Writes the RETURNING row.
pub fn returning(
    exec: &Exec<'_>,
    projection: Option<&Projection>,
    table: &Table,
    row: &[u8],
    out: &mut BytesMut,
) -> Result<(), Error> {
    let Some(projection) = projection else {
        return Ok(());
    };
    let row = table.layout.row(row);
    message::data_row(
        out,
        projection,
        Some(row),
        &exec.env().with_row(row),
        exec.formats,
        exec.facts.zone,
    )
}

pub async fn update(exec: &mut Exec<'_>, plan: &UpdatePlan, out: &mut BytesMut) -> Result<u64, Error> {
    let table = &*plan.table;
    let mut count = 0;
    let mut targets = Targets::open(exec, table, &plan.access, plan.rekeys)?;
    while let Some((key, version)) = targets
        .next_locked(exec, table, &plan.filter, Locking::FOR_WRITING)
        .await?
    {
        let env = exec.env().with_row(table.layout.row(&version.row));
        let row = changed(exec, table, &plan.assignments, &version.row, &env)?;
        if plan.returning.is_some() {
            returning(exec, plan.returning.as_ref(), table, &row, out)?;
        }
        replace(exec, table, &key, row, plan.rekeys).await?;
        count += 1;
    }
    Ok(count)
}

pub async fn delete(exec: &mut Exec<'_>, plan: &DeletePlan, out: &mut BytesMut) -> Result<u64, Error> {
    let table = &*plan.table;
    let mut count = 0;
    let mut targets = Targets::open(exec, table, &plan.access, false)?;
    while let Some((key, version)) = targets
        .next_locked(exec, table, &plan.filter, Locking::FOR_WRITING)
        .await?
    {
        if plan.returning.is_some() {
            returning(exec, plan.returning.as_ref(), table, &version.row, out)?;
        }
        let deleting = exec.txn.delete(table, key.as_ref());
        exec.interrupt.locking(deleting).await??;
        count += 1;
    }
    Ok(count)
}
