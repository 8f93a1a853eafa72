//! Predictions: what the futures of an election answered, and what was true once one of them was elected.
//!
//! `scry.predictions` has a line for each query that was asked so, and each candidate: the answer in the candidate's future, and, from the
//! transaction that elects it, the answer in the state that it leaves. Beside the queries two figures are kept: the rows that
//! a candidate changes, and those that are not what it found. ELECT BEST predicts by itself.

use crate::error::Error;
use crate::system_table::{SystemTable, key};
use scry_engine::{Datum, KeyRange, Row, Txn, Value};
use scry_wal::Lsn;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The table.
pub const TABLE: SystemTable = SystemTable {
    oid: 12_001,
    name: "predictions",
    columns: "id int8, election text, candidate text, class text, query text, predicted text, predicted_lsn int8, \
              predicted_at timestamptz, predicted_by text, met text, met_lsn int8, met_at timestamptz, error float8, \
              state text, candidate_id int8",
};

/// Numbers of the columns that are written again.
const PREDICTED_BY: usize = 8;
const MET: usize = 9;
const MET_LSN: usize = 10;
const MET_AT: usize = 11;
const ERROR: usize = 12;
const STATE: usize = 13;
const CANDIDATE: usize = 14;

/// The class of the rows that a candidate changes.
pub const ROWS: &str = "rows";

/// The class of the rows that are not what a candidate found.
pub const CONFLICTS: &str = "conflicts";

/// The class of the queries of ELECT BEST.
pub const BEST: &str = "best";

/// One answer of a future.
#[derive(Clone, Debug)]
pub struct Prediction {
    pub candidate: String,
    pub candidate_id: u64,
    pub class: String,
    /// Empty for a figure that is no query's.
    pub query: String,
    /// As text; `None`: NULL.
    pub predicted: Option<String>,
}

/// A prediction that waits for its election.
pub struct Open {
    pub candidate_id: u64,
    /// Who asked.
    pub by: String,
    pub class: String,
    pub query: String,
    pub predicted: Option<String>,
    id: i64,
    row: Row,
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |value| Value::Text(value.to_owned()))
}

/// Adds predictions of one moment.
///
/// # Errors
/// What `insert` answers; 40001 when the transaction began before there was a table.
pub async fn add(
    txn: &mut Txn,
    election: &str,
    predictions: &[Prediction],
    at: Lsn,
    (user, now): (&str, i64),
) -> Result<(), Error> {
    let table = TABLE.for_writing(txn)?;
    // By time, so that nobody waits for another's id.
    let mut id = now << 10;
    for prediction in predictions {
        let values = vec![
            Value::Null,
            text(Some(election)),
            text(Some(&prediction.candidate)),
            text(Some(&prediction.class)),
            text(Some(&prediction.query)),
            text(prediction.predicted.as_deref()),
            Value::Int8(at.get().cast_signed()),
            Value::TimestampTz(now),
            text(Some(user)),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            text(Some("open")),
            Value::Int8(prediction.candidate_id.cast_signed()),
        ];
        // Another statement of the same moment may have it.
        id = SystemTable::insert(txn, &table, id, values).await? + 1;
    }
    Ok(())
}

/// The predictions of an election that wait for it.
///
/// # Errors
/// When the table cannot be read.
pub fn open(txn: &mut Txn, election: &str) -> Result<Vec<Open>, Error> {
    let Some(table) = TABLE.table(txn.catalog()).cloned() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    txn.scan(&table, &KeyRange::all(), &mut |_, version| {
        let row = table.layout.row(&version.row);
        let text = |column| match row.get(column) {
            Datum::Text(text) => Some(text.to_owned()),
            _ => None,
        };
        if text(1).as_deref() == Some(election) && text(STATE).as_deref() == Some("open") {
            found.push(Open {
                candidate_id: row.get(CANDIDATE).integer().unwrap_or_default().cast_unsigned(),
                by: text(PREDICTED_BY).unwrap_or_default(),
                class: text(3).unwrap_or_default(),
                query: text(4).unwrap_or_default(),
                predicted: text(5),
                id: row.get(0).integer().unwrap_or_default(),
                row: Arc::clone(&version.row),
            });
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// What became of a prediction.
pub enum Outcome {
    /// Its candidate was elected, and the query answered this.
    Met(Option<String>),
    /// Its candidate was elected, and the query failed.
    Failed,
    /// Another candidate was.
    Lost,
}

/// Says what became of a prediction.
///
/// # Errors
/// What `lock` answers.
pub async fn settle(txn: &mut Txn, open: &Open, outcome: &Outcome, at: Lsn, now: i64) -> Result<(), Error> {
    let table = TABLE.for_writing(txn)?;
    let key = key(open.id);
    if txn.lock(&table, key.as_ref()).await?.is_none() {
        return Ok(());
    }
    let (met, state) = match outcome {
        Outcome::Met(met) => (met.as_deref(), "met"),
        Outcome::Failed => (None, "failed"),
        Outcome::Lost => (None, "lost"),
    };
    let error = match outcome {
        Outcome::Met(met) => error(open.predicted.as_deref(), met.as_deref()),
        Outcome::Failed | Outcome::Lost => None,
    };
    let row = table.layout.update(
        &open.row,
        &[
            (MET, met.map_or(Datum::Null, Datum::Text)),
            (MET_LSN, Datum::Int8(at.get().cast_signed())),
            (MET_AT, Datum::TimestampTz(now)),
            (ERROR, error.map_or(Datum::Null, Datum::Float8)),
            (STATE, Datum::Text(state)),
        ],
    )?;
    Ok(txn.update(&table, key.as_ref(), row).await?)
}

/// How far off a prediction was: 0 when it was met; of numbers, the difference over the greater of both; else 1. `None`: one of
/// them is NULL.
fn error(predicted: Option<&str>, met: Option<&str>) -> Option<f64> {
    let (predicted, met) = (predicted?, met?);
    if predicted == met {
        return Some(0.0);
    }
    let numbers = predicted.parse::<f64>().ok().zip(met.parse::<f64>().ok());
    Some(match numbers {
        Some((predicted, met)) if predicted.is_finite() && met.is_finite() => {
            let greater = predicted.abs().max(met.abs());
            if greater == 0.0 {
                0.0
            } else {
                (predicted - met).abs() / greater
            }
        }
        _ => 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_columns_are_those_of_the_list() {
        let numbers = [
            (1, "election"),
            (2, "candidate"),
            (3, "class"),
            (4, "query"),
            (5, "predicted"),
            (PREDICTED_BY, "predicted_by"),
            (MET, "met"),
            (MET_LSN, "met_lsn"),
            (MET_AT, "met_at"),
            (ERROR, "error"),
            (STATE, "state"),
            (CANDIDATE, "candidate_id"),
        ];
        TABLE.check_numbers(&numbers, 15);
    }

    #[test]
    fn an_error_is_relative_to_the_greater_of_both() {
        let off = |predicted, met| error(Some(predicted), Some(met));
        assert_eq!(off("abc", "abc"), Some(0.0));
        assert_eq!(off("abc", "abd"), Some(1.0));
        assert_eq!(off("0", "0.00"), Some(0.0));
        assert_eq!(off("75", "100"), Some(0.25));
        assert_eq!(off("-100", "-75"), Some(0.25));
        assert_eq!(off("1", "NaN"), Some(1.0));
        assert_eq!(error(None, Some("1")), None);
    }
}
