//! After the restart: the workers' rows, the accounts' balances, and mirror against primary.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::load::{LARGE_BYTES, SMALL_BYTES, SMALL_ROWS_MAX, Worker};
use super::state::{State, Transfer, payload};
use super::{ACCOUNTS, OPENING_BALANCE};
use crate::client::{Failure, TextRow, text_rows};

/// Everything that must hold once the server is up again. Returns how many rows were compared.
pub async fn check(client: &Client, workers: &mut [Worker]) -> Result<usize, Failure> {
    let tables = tables(workers.len());
    let mut primary = BTreeMap::new();
    for (table, order) in &tables {
        let rows = read(client, "primary", table, order).await?;
        let mirror = read(client, "mirror", table, order).await?;
        compare(table, &rows, &mirror)?;
        primary.insert(table.clone(), rows);
    }
    let mut states: Vec<State> = vec![State::default(); workers.len()];
    read_transfers(&primary["transfer"], &mut states)?;
    read_entries(&primary["entry"], &mut states)?;
    for (worker, state) in states.iter_mut().enumerate() {
        state.scratch = read_scratch(worker as i64, &primary[&format!("scratch_{worker}")])?;
    }
    for (worker, state) in workers.iter_mut().zip(&states) {
        worker
            .journal
            .settle(state)
            .map_err(|what| format!("worker {}: {what}", worker.id))?;
    }
    check_balances(&primary["account"], &states)?;
    check_aggregates(client, &primary).await?;
    Ok(primary.values().map(Vec::len).sum())
}

fn tables(workers: usize) -> Vec<(String, &'static str)> {
    let mut tables = vec![
        ("account".to_owned(), "id"),
        ("transfer".to_owned(), "id"),
        ("entry".to_owned(), "worker, batch, number"),
    ];
    tables.extend((0..workers).map(|worker| (format!("scratch_{worker}"), "generation, number")));
    tables
}

async fn read(client: &Client, place: &str, table: &str, order: &str) -> Result<Vec<TextRow>, Failure> {
    client
        .batch_execute(&format!("SET scry.read_from = '{place}'"))
        .await?;
    text_rows(client, &format!("SELECT * FROM {table} ORDER BY {order}")).await
}

fn compare(table: &str, primary: &[TextRow], mirror: &[TextRow]) -> Result<(), Failure> {
    if primary == mirror {
        return Ok(());
    }
    let first = primary
        .iter()
        .zip(mirror)
        .position(|(a, b)| a != b)
        .unwrap_or(primary.len().min(mirror.len()));
    Err(format!(
        "{table}: primary has {} rows, mirror {}; row {first} is {:?} on the primary and {:?} on the mirror",
        primary.len(),
        mirror.len(),
        primary.get(first),
        mirror.get(first)
    )
    .into())
}

fn number<T: std::str::FromStr>(row: &TextRow, column: usize) -> Result<T, Failure> {
    row.get(column)
        .and_then(Option::as_deref)
        .and_then(|text| text.strip_suffix(".00").unwrap_or(text).parse().ok())
        .ok_or_else(|| format!("column {column} of {row:?} is no number").into())
}

fn read_transfers(rows: &[TextRow], states: &mut [State]) -> Result<(), Failure> {
    for row in rows {
        let id: i64 = number(row, 0)?;
        let transfer = Transfer {
            source: number(row, 1)?,
            target: number(row, 2)?,
            amount: number(row, 3)?,
        };
        let state = states
            .get_mut((id >> 40) as usize)
            .ok_or_else(|| format!("transfer {id:#x} is nobody's"))?;
        if state.transfers.insert(id, transfer).is_some() {
            return Err(format!("transfer {id:#x} is there twice").into());
        }
    }
    Ok(())
}

/// Rows arrive ordered by worker, batch and number, so a batch is whole when its numbers count from 0.
fn read_entries(rows: &[TextRow], states: &mut [State]) -> Result<(), Failure> {
    for row in rows {
        let (worker, batch): (i64, i64) = (number(row, 0)?, number(row, 1)?);
        let state = states
            .get_mut(worker as usize)
            .ok_or_else(|| format!("entry {row:?} is nobody's"))?;
        let count = state.batches.entry(batch).or_insert(0);
        if number::<u32>(row, 2)? != *count {
            return Err(
                format!("batch {batch} of worker {worker}: row {count} is missing or there twice").into(),
            );
        }
        *count += 1;
    }
    for row in rows {
        let (worker, batch, n): (i64, i64, u32) = (number(row, 0)?, number(row, 1)?, number(row, 2)?);
        let large = states[worker as usize].batches[&batch] > SMALL_ROWS_MAX;
        let bytes = if large { LARGE_BYTES } else { SMALL_BYTES };
        if row[3].as_deref() != Some(payload(worker, batch, n, bytes).as_str()) {
            return Err(format!(
                "batch {batch} of worker {worker}, row {n}: the payload is damaged: {:?}",
                row[3]
            )
            .into());
        }
    }
    Ok(())
}

fn read_scratch(worker: i64, rows: &[TextRow]) -> Result<Option<(i64, u32)>, Failure> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let generation: i64 = number(first, 0)?;
    for (n, row) in rows.iter().enumerate() {
        let expected = payload(worker, generation, n as u32, SMALL_BYTES);
        if number::<i64>(row, 0)? != generation
            || number::<usize>(row, 1)? != n
            || row[2].as_ref() != Some(&expected)
        {
            return Err(format!("scratch_{worker}: {row:?} in generation {generation}").into());
        }
    }
    Ok(Some((generation, rows.len() as u32)))
}

/// An account holds its opening balance and its transfers, no more and no less.
fn check_balances(accounts: &[TextRow], states: &[State]) -> Result<(), Failure> {
    let mut expected = vec![OPENING_BALANCE; ACCOUNTS as usize];
    for transfer in states.iter().flat_map(|state| state.transfers.values()) {
        expected[transfer.source as usize] -= transfer.amount;
        expected[transfer.target as usize] += transfer.amount;
    }
    if accounts.len() != expected.len() {
        return Err(format!("{} accounts of {}", accounts.len(), expected.len()).into());
    }
    for (id, row) in accounts.iter().enumerate() {
        let balance: i64 = number(row, 1)?;
        if number::<usize>(row, 0)? != id || balance != expected[id] {
            return Err(format!("account {row:?} should hold {}", expected[id]).into());
        }
    }
    Ok(())
}

/// Aggregates run another plan than dumps do.
async fn check_aggregates(client: &Client, primary: &BTreeMap<String, Vec<TextRow>>) -> Result<(), Failure> {
    let total = (ACCOUNTS * OPENING_BALANCE).to_string();
    let entries = primary["entry"].len().to_string();
    let transfers = primary["transfer"].len().to_string();
    for place in ["primary", "mirror"] {
        client
            .batch_execute(&format!("SET scry.read_from = '{place}'"))
            .await?;
        let sql = "SELECT (SELECT sum(balance) FROM account), (SELECT count(*) FROM entry), (SELECT count(*) FROM transfer)";
        let rows = text_rows(client, sql).await?;
        let found: Vec<Option<&str>> = rows.iter().flatten().map(Option::as_deref).collect();
        let expected = [
            Some(total.as_str()),
            Some(entries.as_str()),
            Some(transfers.as_str()),
        ];
        if found != expected {
            return Err(format!("aggregates on the {place}: {found:?}, expected {expected:?}").into());
        }
    }
    Ok(())
}
