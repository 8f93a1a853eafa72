//! The queue of deferred conflicts: rows that a candidate and others have changed, left to a person.
//!
//! It is a system table, `scry.conflict_queue` in queries: written by the transaction that elects, so durable with it,
//! mirrored like any table, and read like one. An entry is *open* until it is *resolved* or *dropped*; entries stay, as the
//! record of what was decided and by whom.
//!
//! Rows stand in it as JSON, so that they can be read after their table has changed, and by anybody. Every value but NULL
//! and booleans is a string, in the form in which the type is written: nothing of a number is lost.

mod json;

use crate::error::{Error, SqlState};
use crate::system_table::{SystemTable, key};
use scry_engine::collision::Outcome;
use scry_engine::{Conflict, Datum, KeyRange, Row, Table, Txn, Value};
use std::ops::ControlFlow;
use std::sync::Arc;

pub use json::{key_text, parse_key, parse_row, row_text, set_members};

/// The table.
pub const TABLE: SystemTable = SystemTable {
    oid: 12_000,
    name: "conflict_queue",
    columns: "id int8, election text, candidate text, transaction int8, table_name text, key jsonb, before jsonb, \
              present jsonb, proposed jsonb, reason text, time timestamptz, state text, action text, \
              resolved_at timestamptz, resolved_by text, store int8, proposed_at int8",
};

/// The channel on which additions are told.
pub const CHANNEL: &str = "scry_conflicts";

/// Numbers of the columns that are written again.
const STATE: usize = 11;
const ACTION: usize = 12;
const RESOLVED_AT: usize = 13;
const RESOLVED_BY: usize = 14;
const STORE: usize = 15;
const PROPOSED_AT: usize = 16;

/// What is to be done about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// What is there stays.
    Keep,
    /// What the candidate proposed is done.
    Take,
    /// What is there gets given values.
    Merge,
    /// Nothing is decided, and nothing will be.
    Drop,
    /// The table's rules decide, as they are now.
    Retry,
}

impl Action {
    const ALL: [(&'static str, Action); 5] = [
        ("keep", Action::Keep),
        ("take", Action::Take),
        ("merge", Action::Merge),
        ("drop", Action::Drop),
        ("retry", Action::Retry),
    ];

    /// # Errors
    /// 22023 for anything else.
    pub fn parse(text: &str) -> Result<Action, Error> {
        let found = Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, action)| *action).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"action\": \"{text}\""),
            )
            .with_hint("It is keep, take, merge, drop or retry.")
        })
    }

    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, action)| *action == self);
        found.map_or("", |(name, _)| name)
    }
}

/// An entry, as far as resolving needs it.
#[derive(Debug)]
pub struct Entry {
    pub election: String,
    pub table: String,
    /// The data that the table had.
    pub store: Option<i64>,
    /// LSN of the candidate's commit.
    pub proposed_at: Option<i64>,
    pub key: String,
    pub before: Option<String>,
    pub proposed: Option<String>,
    pub state: String,
    row: Row,
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

/// Adds the conflicts that were deferred. Answers the first and the last id.
///
/// # Errors
/// What `insert` answers; 40001 when the transaction began before there was a queue.
pub async fn add(
    txn: &mut Txn,
    (election, candidate): (&str, &str),
    conflicts: &[Conflict],
    now: i64,
) -> Result<Option<(i64, i64)>, Error> {
    let deferred = |conflict: &&Conflict| conflict.decision.outcome == Outcome::Defer;
    let deferred: Vec<&Conflict> = conflicts.iter().filter(deferred).collect();
    if deferred.is_empty() {
        return Ok(None);
    }
    let queue = TABLE.for_writing(txn)?;
    let mut first = None;
    let mut id = last_id(txn, &queue)? + 1;
    for conflict in deferred {
        let of_row = |row: &Option<Row>| match row {
            Some(row) => Value::Jsonb(row_text(&conflict.table, row)),
            None => Value::Null,
        };
        let values = vec![
            Value::Null,
            text(election),
            text(candidate),
            txn.id()
                .map_or(Value::Null, |id| Value::Int8(id.get().cast_signed())),
            text(conflict.table.def.name.as_str()),
            Value::Jsonb(key_text(&conflict.table, &conflict.key)),
            of_row(&conflict.before),
            of_row(&conflict.present),
            of_row(&conflict.proposed),
            text(conflict.decision.reason.as_str()),
            Value::TimestampTz(now),
            text("open"),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Int8(i64::from(conflict.table.def.store.get())),
            Value::Int8(conflict.proposed_at.get().cast_signed()),
        ];
        // Another election may take ids at the same time.
        let taken = SystemTable::insert(txn, &queue, id, values).await?;
        first = first.or(Some(taken));
        id = taken + 1;
    }
    Ok(first.map(|first| (first, id - 1)))
}

fn last_id(txn: &mut Txn, queue: &Table) -> Result<i64, Error> {
    let mut last = 0;
    txn.scan(queue, &KeyRange::all(), &mut |_, version| {
        last = queue.layout.row(&version.row).get(0).integer().unwrap_or(last);
        ControlFlow::Continue(())
    })?;
    Ok(last)
}

/// The entry of this id, locked.
///
/// # Errors
/// 42704 when there is none, what `lock` answers.
pub async fn lock(txn: &mut Txn, id: i64) -> Result<Entry, Error> {
    let undefined = || {
        Error::new(
            SqlState::UNDEFINED_OBJECT,
            format!("conflict {id} does not exist"),
        )
    };
    let queue = TABLE.table(txn.catalog()).cloned().ok_or_else(undefined)?;
    let found = txn.lock(&queue, key(id).as_ref()).await?;
    let row = found.ok_or_else(undefined)?.row;
    let read = queue.layout.row(&row);
    let text = |column| match read.get(column) {
        Datum::Text(text) | Datum::Jsonb(text) => Some(text.to_owned()),
        _ => None,
    };
    Ok(Entry {
        election: text(1).unwrap_or_default(),
        table: text(4).unwrap_or_default(),
        store: read.get(STORE).integer(),
        proposed_at: read.get(PROPOSED_AT).integer(),
        key: text(5).unwrap_or_default(),
        before: text(6),
        proposed: text(8),
        state: text(STATE).unwrap_or_default(),
        row: Arc::clone(&row),
    })
}

/// Says in an entry that was locked what became of it.
pub async fn settle(
    txn: &mut Txn,
    id: i64,
    entry: &Entry,
    action: Action,
    user: &str,
    now: i64,
) -> Result<(), Error> {
    let queue = TABLE.table(txn.catalog()).cloned();
    let queue = queue.ok_or_else(|| Error::internal("an entry without its queue"))?;
    let state = match action {
        Action::Drop => "dropped",
        _ => "resolved",
    };
    let row = queue.layout.update(
        &entry.row,
        &[
            (STATE, Datum::Text(state)),
            (ACTION, Datum::Text(action.name())),
            (RESOLVED_AT, Datum::TimestampTz(now)),
            (RESOLVED_BY, Datum::Text(user)),
        ],
    )?;
    Ok(txn.update(&queue, key(id).as_ref(), row).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_columns_are_those_of_the_list() {
        let numbers = [
            (4, "table_name"),
            (5, "key"),
            (6, "before"),
            (8, "proposed"),
            (STATE, "state"),
            (ACTION, "action"),
            (RESOLVED_AT, "resolved_at"),
            (RESOLVED_BY, "resolved_by"),
            (STORE, "store"),
            (PROPOSED_AT, "proposed_at"),
        ];
        TABLE.check_numbers(&numbers, 17);
    }
}
