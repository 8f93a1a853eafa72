//! Deferred conflicts: put into the queue, and resolved.

use super::Session;
use crate::collision::{self as rules, timeless_facts};
use crate::conflicts::{self, Action, Entry};
use crate::constraint;
use crate::error::{Error, SqlState};
use crate::exec::context;
use crate::generated;
use crate::notify::Message;
use crate::privilege;
use scry_engine::collision::{self, Outcome, Sides};
use scry_engine::election::Privileges;
use scry_engine::{Conflict, InsertOutcome, Key, Row, Table, Txn, Value};
use scry_wal::Lsn;
use std::sync::Arc;

impl Session {
    /// Puts the conflicts that were deferred into the queue, and tells whoever listens.
    pub(super) async fn defer(
        &mut self,
        election: &str,
        candidate: &str,
        conflicts: &[Conflict],
    ) -> Result<(), Error> {
        let now = self.times.statement;
        let txn = self.transaction.open_txn()?;
        let adding = conflicts::add(txn, (election, candidate), conflicts, now);
        let added = self.interrupt.locking(adding).await??;
        if let Some((first, last)) = added {
            let told = serde_json::json!({
                "election": election, "candidate": candidate, "first": first, "last": last,
            });
            let message = Message::new(conflicts::CHANNEL, &told.to_string())?;
            self.identity.outbox.send(message)?;
        }
        Ok(())
    }

    /// Carries out what somebody has decided about an entry of the queue. Answers how many rows changed.
    pub(super) async fn resolve_conflict(
        &mut self,
        id: i64,
        action: Action,
        values: &str,
    ) -> Result<u64, Error> {
        self.transaction
            .check_writable(&self.settings, "RESOLVE CONFLICT")?;
        if values.is_empty() == (action == Action::Merge) {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "values are given with the action merge, and only with it",
            ));
        }
        let (now, user) = (self.times.statement, self.identity.user.clone());
        let txn = self.transaction.statement(&mut self.engine, &self.settings)?;
        if txn.candidate().is_some() {
            return Err(Error::unsupported("resolving conflicts inside a candidate"));
        }
        let resolving = async {
            let entry = conflicts::lock(txn, id).await?;
            privilege::check_named(txn.catalog(), &entry.election, &user, Privileges::ELECT)?;
            if entry.state != "open" {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("conflict {id} is {} already", entry.state),
                ));
            }
            let changed = match action {
                Action::Keep | Action::Drop => 0,
                Action::Take | Action::Merge | Action::Retry => {
                    let changed = carry_out(txn, &entry, action, values).await?;
                    // Those that a statement would leave to the end of the transaction, too.
                    txn.check_changes(&|_, _| true).await?;
                    changed
                }
            };
            conflicts::settle(txn, id, &entry, action, &user, now).await?;
            Ok(changed)
        };
        let changed = self.interrupt.locking(resolving).await??;
        self.transaction.wrote("RESOLVE CONFLICT");
        Ok(changed)
    }
}

/// Changes the row of an entry.
async fn carry_out(txn: &mut Txn, entry: &Entry, action: Action, values: &str) -> Result<u64, Error> {
    let table = txn.catalog().table(&entry.table).cloned();
    let table = table.filter(|table| entry.store == Some(i64::from(table.def.store.get())));
    let table = table.ok_or_else(|| {
        Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "table \"{}\" was dropped or truncated since the conflict",
                entry.table
            ),
        )
    })?;
    let key = conflicts::parse_key(&table, &entry.key)?;
    let proposed = row_of(&table, entry.proposed.as_deref())?;
    loop {
        let present = txn.lock(&table, key.as_ref()).await?;
        let there = present.as_ref().map(|present| &present.row);
        let wanted = match action {
            Action::Take => proposed.clone(),
            Action::Merge => Some(merged(&table, there.or(proposed.as_ref()), values)?),
            _ => {
                let before = row_of(&table, entry.before.as_deref())?;
                let sides = Sides {
                    before: before.as_ref(),
                    present: there,
                    proposed: proposed.as_ref(),
                    present_at: present.as_ref().map_or(Lsn::ZERO, |present| present.lsn),
                    proposed_at: Lsn::new(entry.proposed_at.unwrap_or_default().cast_unsigned()),
                };
                match by_rules(&table, &sides)? {
                    Some(wanted) => wanted,
                    None => return Ok(0),
                }
            }
        };
        if let Some(wanted) = &wanted {
            check(&table, &key, wanted)?;
        }
        match (present.is_some(), wanted) {
            (true, Some(row)) => txn.update(&table, key.as_ref(), row).await?,
            (true, None) => txn.delete(&table, key.as_ref()).await?,
            (false, None) => return Ok(0),
            (false, Some(row)) => {
                match txn.insert(&table, Some(key.clone()), row.clone()).await? {
                    InsertOutcome::Inserted(_) => {}
                    // Somebody was first: it is looked at again.
                    InsertOutcome::Exists(_) => continue,
                    InsertOutcome::Taken { index, .. } => return Err(table.key_exists(index, &row).into()),
                }
            }
        }
        return Ok(1);
    }
}

/// What the table's rules want; `None`: what is there.
fn by_rules(table: &Table, sides: &Sides<'_>) -> Result<Option<Option<Row>>, Error> {
    let evaluate = rules::evaluator();
    let decision = collision::decide(table, &table.rules, sides, &evaluate);
    match decision.outcome {
        Outcome::Keep => Ok(None),
        Outcome::Put(row) => Ok(Some(Some(row))),
        Outcome::Delete => Ok(Some(None)),
        Outcome::Defer | Outcome::Refuse => Err(Error::new(
            SqlState::TRANSACTION_INTEGRITY_CONSTRAINT_VIOLATION,
            format!(
                "the rules of table \"{}\" do not decide the conflict",
                table.def.name
            ),
        )
        .with_detail(decision.reason)),
    }
}

fn row_of(table: &Table, text: Option<&str>) -> Result<Option<Row>, Error> {
    let Some(text) = text else { return Ok(None) };
    let values = conflicts::parse_row(table, text)?;
    Ok(Some(table.layout.encode(&values)?.into()))
}

fn merged(table: &Table, row: Option<&Row>, values: &str) -> Result<Row, Error> {
    let mut merged = match row {
        Some(row) => table.layout.row(row).values(),
        None => vec![Value::Null; table.def.columns.len()],
    };
    conflicts::set_members(table, &mut merged, values)?;
    let row = table.layout.encode(&merged)?;
    Ok(match generated::columns(table)? {
        [] => row.into(),
        columns => generated::completed(table, columns, &row, &timeless_facts())?.into(),
    })
}

/// What holds for every row of a table.
fn check(table: &Arc<Table>, key: &Key, row: &Row) -> Result<(), Error> {
    let read = table.layout.row(row);
    for (number, column) in table.def.columns.iter().enumerate() {
        if column.not_null && read.is_null(number) {
            return Err(context::not_null(table, number));
        }
    }
    constraint::check(table, row, &rules::timeless_facts())?;
    if table.key_columns().is_some() && table.key_of(row).as_ref() != Some(key) {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("the key of a row of \"{}\" stays as it is", table.def.name),
        ));
    }
    Ok(())
}
