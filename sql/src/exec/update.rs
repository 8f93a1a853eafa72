//! UPDATE and DELETE by row plan.

use crate::constraint;
use crate::error::Error;
use crate::exec::context::{self, Exec};
use crate::exec::foreign_keys;
use crate::exec::message;
use crate::exec::targets::Targets;
use crate::expr::Evaluated;
use crate::generated;
use crate::plan::row::{Assignment, DeletePlan, Locking, Projection, Touches, UpdatePlan};
use crate::plan::scalar::{self, Env};
use bytes::BytesMut;
use scry_engine::{Datum, InsertOutcome, Key, Row, Table};
use smallvec::SmallVec;
use std::sync::Arc;

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
        values.push(scalar::eval(&assignment.value, env)?);
    }
    let changes: SmallVec<[(usize, Datum<'_>); 4]> = assignments
        .iter()
        .zip(&values)
        .map(|(assignment, value)| (assignment.column, value.datum()))
        .collect();
    rewritten(exec, table, old, &changes)
}

/// A row with other values in some columns, as its table allows it.
pub fn rewritten(
    exec: &Exec<'_>,
    table: &Table,
    old: &[u8],
    changes: &[(usize, Datum<'_>)],
) -> Result<Row, Error> {
    let is_missing =
        |(column, value): &&(usize, Datum<'_>)| value.is_null() && table.def.columns[*column].not_null;
    if let Some((missing, _)) = changes.iter().find(is_missing) {
        let mut row = table.layout.row(old).values();
        for (column, value) in changes {
            row[*column] = value.to_value();
        }
        return Err(context::not_null_violation(table, *missing, &row, exec.facts));
    }
    let mut row = table.layout.update(old, changes)?;
    let generated = generated::columns(table)?;
    if !generated.is_empty() {
        row = generated::completed(table, generated, &row, exec.facts)?;
    }
    constraint::check(table, &row, exec.facts)?;
    Ok(row.into())
}

/// Replaces a locked row, under its own key or, when key columns change, under a new one.
pub async fn replace(
    exec: &mut Exec<'_>,
    table: &Arc<Table>,
    key: &Key,
    (old, row): (&Row, Row),
    touches: Touches,
) -> Result<(), Error> {
    if !touches.key {
        let updating = exec.txn.update(table, key.as_ref(), row.clone());
        exec.interrupt.locking(updating).await??;
        return match touches.references {
            true => refers(exec, table, key, (old, false), &row).await,
            false => Ok(()),
        };
    }
    let Some(new_key) = table.key_of(&row) else {
        return Err(Error::internal("a key column became NULL"));
    };
    let outcome = exec
        .interrupt
        .locking(exec.txn.update_key(table, key.as_ref(), new_key, row.clone()))
        .await??;
    match outcome {
        InsertOutcome::Inserted(new_key) if touches.references => {
            let moved = new_key != *key;
            refers(exec, table, &new_key, (old, moved), &row).await
        }
        InsertOutcome::Inserted(_) => Ok(()),
        InsertOutcome::Exists(_) => Err(context::unique_violation(table, &row, exec.facts)),
        InsertOutcome::Taken { index, .. } => Err(table.key_exists(index, &row).into()),
    }
}

/// A row has taken the place of another: what foreign keys ask of it, and of those that refer to it.
async fn refers(
    exec: &mut Exec<'_>,
    table: &Arc<Table>,
    key: &Key,
    (old, moved): (&Row, bool),
    row: &Row,
) -> Result<(), Error> {
    foreign_keys::written(exec, table, key, (Some(old), moved), row).await?;
    foreign_keys::ended(exec, table, old, Some(row))
}

/// Deletes a locked row.
pub async fn remove(exec: &mut Exec<'_>, table: &Arc<Table>, key: &Key, old: &Row) -> Result<(), Error> {
    let deleting = exec.txn.delete(table, key.as_ref());
    exec.interrupt.locking(deleting).await??;
    foreign_keys::ended(exec, table, old, None)
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
    let table = &plan.table;
    let mut count = 0;
    if plan.touches.references {
        foreign_keys::enter(exec, table, true).await?;
    }
    let mut targets = Targets::open(exec, table, &plan.access, plan.touches.key)?;
    while let Some((key, version)) = targets
        .next_locked(exec, table, &plan.filter, Locking::FOR_WRITING)
        .await?
    {
        let env = exec.env().with_row(table.layout.row(&version.row));
        let row = changed(exec, table, &plan.assignments, &version.row, &env)?;
        if plan.returning.is_some() {
            returning(exec, plan.returning.as_ref(), table, &row, out)?;
        }
        replace(exec, table, &key, (&version.row, row), plan.touches).await?;
        count += 1;
    }
    Ok(count)
}

pub async fn delete(exec: &mut Exec<'_>, plan: &DeletePlan, out: &mut BytesMut) -> Result<u64, Error> {
    let table = &plan.table;
    let mut count = 0;
    foreign_keys::enter(exec, table, true).await?;
    let mut targets = Targets::open(exec, table, &plan.access, false)?;
    while let Some((key, version)) = targets
        .next_locked(exec, table, &plan.filter, Locking::FOR_WRITING)
        .await?
    {
        if plan.returning.is_some() {
            returning(exec, plan.returning.as_ref(), table, &version.row, out)?;
        }
        remove(exec, table, &key, &version.row).await?;
        count += 1;
    }
    Ok(count)
}
