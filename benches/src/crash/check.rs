//! After the restart: the workers' rows, the accounts' balances, the elections with their futures, and mirror against primary.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::load::{LARGE_BYTES, SMALL_BYTES, SMALL_ROWS_MAX, Worker};
use super::plan::{Amounts, Plan, Shown, ShownCandidate, election_name, election_of, is_mirrored};
use super::state::{State, Transfer, payload};
use super::{ACCOUNTS, OPENING_BALANCE};
use crate::client::{Failure, TextRow, text_rows};

/// Everything that must hold once the server is up again. Returns how many rows were compared.
pub async fn check(client: &Client, workers: &mut [Worker]) -> Result<usize, Failure> {
    let elections = workers.iter().any(|worker| worker.elections);
    let tables = tables(workers.len(), elections);
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
    if elections {
        read_plans(client, &primary, &mut states).await?;
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

fn tables(workers: usize, elections: bool) -> Vec<(String, &'static str)> {
    let mut tables = vec![
        ("account".to_owned(), "id"),
        ("transfer".to_owned(), "id"),
        ("entry".to_owned(), "worker, batch, number"),
    ];
    tables.extend((0..workers).map(|worker| (format!("scratch_{worker}"), "generation, number")));
    if elections {
        tables.extend((0..workers).map(|worker| (format!("plan_{worker}"), "id")));
    }
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

fn amounts(rows: &[TextRow]) -> Result<Amounts, Failure> {
    rows.iter()
        .map(|row| Ok((number(row, 0)?, number(row, 1)?)))
        .collect()
}

/// The workers' elections: states, futures, and what waits in the queue.
async fn read_plans(
    client: &Client,
    primary: &BTreeMap<String, Vec<TextRow>>,
    states: &mut [State],
) -> Result<(), Failure> {
    let mut shown: Vec<Shown> = vec![Shown::default(); states.len()];
    for (worker, shown) in shown.iter_mut().enumerate() {
        shown.rows = amounts(&primary[&format!("plan_{worker}")])?;
    }
    let text = |row: &TextRow, column: usize| row[column].clone().unwrap_or_default();
    let known = |row: &TextRow| {
        let election = election_of(row[0].as_deref().unwrap_or_default());
        let election = election.filter(|(worker, _)| *worker < states.len());
        election.ok_or_else(|| Failure::from(format!("election {row:?} is nobody's")))
    };
    client.batch_execute("SET scry.read_from = 'mirror'").await?;
    for row in text_rows(client, "SELECT election, state FROM scry.elections").await? {
        let (worker, election) = known(&row)?;
        shown[worker].elections.entry(election).or_default().state = text(&row, 1);
    }
    for row in text_rows(client, "SELECT election, candidate, state FROM scry.candidates").await? {
        let (worker, election) = known(&row)?;
        let (name, state) = (text(&row, 1), text(&row, 2));
        let candidate = name.strip_prefix('c').and_then(|number| number.parse().ok());
        let candidate = candidate.ok_or_else(|| format!("candidate {row:?} is nobody's"))?;
        let path = format!("{}/{name}", election_name(worker as i64, election));
        let mut known = ShownCandidate {
            state,
            ..ShownCandidate::default()
        };
        if known.state == "open" {
            let rows = format!("plan_{worker} ORDER BY id");
            client
                .batch_execute(&format!(
                    "SET scry.candidate = '{path}'; SET scry.read_from = 'primary'"
                ))
                .await?;
            let inside = text_rows(client, &format!("SELECT id, amount FROM {rows}")).await?;
            known.inside = Some(amounts(&inside)?);
            client
                .batch_execute("SET scry.candidate = ''; SET scry.read_from = 'mirror'")
                .await?;
            if is_mirrored(candidate) {
                let sql = format!("SELECT id, amount FROM \"{path}\".{rows}");
                known.future = Some(amounts(&text_rows(client, &sql).await?)?);
            }
        }
        let shown = shown[worker].elections.entry(election).or_default();
        shown.candidates.insert(candidate, known);
    }
    let sql = "SELECT election, count(*) FROM scry.conflict_queue GROUP BY election";
    for row in text_rows(client, sql).await? {
        let (worker, election) = known(&row)?;
        shown[worker].deferred.insert(election, number(&row, 1)?);
    }
    for (state, shown) in states.iter_mut().zip(shown) {
        state.plan = Plan::found(shown);
    }
    Ok(())
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
