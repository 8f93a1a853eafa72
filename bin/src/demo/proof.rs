//! What must be true of the shop after its server was killed: checked from outside, by SQL.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use futures::TryStreamExt;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::DemoError;
use super::load::{BALANCE, Receipts, imbalance};
use super::screen::{Screen, grouped};
use super::shop::{self, TABLES};

/// A table's content as one number, whatever the order of its rows, and how many rows it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest {
    rows: u64,
    sum: u64,
}

/// Checks everything and shows each fact; the first that does not hold is the error. After a crash
/// it also tells what became of the orders in between.
pub async fn prove(
    address: SocketAddr,
    receipts: &Receipts,
    screen: &mut Screen,
    after_crash: bool,
) -> Result<(), DemoError> {
    let client = shop::connect(address, "proof").await?;
    client.batch_execute("SET scry.read_from = primary").await?;
    let found = order_ids(&client).await?;
    let missing = receipts
        .acknowledged
        .iter()
        .filter(|id| !found.contains(id))
        .count();
    if missing > 0 {
        return Err(DemoError::Proof(format!(
            "{missing} acknowledged orders are missing"
        )));
    }
    screen.fact(&format!(
        "all {} acknowledged orders are there",
        grouped(receipts.acknowledged.len() as u64)
    ));
    let forged = receipts.never.iter().filter(|id| found.contains(id)).count();
    if forged > 0 {
        return Err(DemoError::Proof(format!(
            "{forged} orders exist that were never committed"
        )));
    }
    let arrived = receipts.unknown.iter().filter(|id| found.contains(id)).count();
    let known = receipts.acknowledged.len() + arrived;
    if found.len() != known {
        return Err(DemoError::Proof(format!(
            "{} orders are there, {known} were placed",
            found.len()
        )));
    }
    if after_crash && !receipts.unknown.is_empty() {
        screen.fact(&format!(
            "of {} orders in the middle of their COMMIT {arrived} are there; no others exist",
            receipts.unknown.len()
        ));
    }
    for place in ["primary", "mirror"] {
        client
            .batch_execute(&format!("SET scry.read_from = {place}"))
            .await?;
        if let Some(wrong) = imbalance(&client.simple_query(BALANCE).await?) {
            return Err(DemoError::Proof(format!(
                "in the {place} the books do not balance: {wrong}"
            )));
        }
    }
    screen.fact("no order is there by half: orders, lines and stock agree to the cent");
    let mut rows = 0;
    for table in TABLES {
        let primary = digest(&client, "primary", table).await?;
        let mirror = digest(&client, "mirror", table).await?;
        if primary != mirror {
            return Err(DemoError::Proof(format!(
                "{table} differs: {} rows in the primary, {} in the mirror",
                primary.rows, mirror.rows
            )));
        }
        rows += primary.rows;
    }
    screen.fact(&format!(
        "mirror and primary are equal, row for row: {} rows",
        grouped(rows)
    ));
    Ok(())
}

async fn order_ids(client: &Client) -> Result<HashSet<i64>, DemoError> {
    let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
    let rows = client.query_raw("SELECT order_id FROM orders", none).await?;
    futures::pin_mut!(rows);
    let mut ids = HashSet::new();
    while let Some(row) = rows.try_next().await? {
        ids.insert(row.try_get(0)?);
    }
    Ok(ids)
}

async fn digest(client: &Client, place: &str, table: &str) -> Result<Digest, DemoError> {
    client
        .batch_execute(&format!("SET scry.read_from = {place}"))
        .await?;
    let rows = client.simple_query_raw(&format!("SELECT * FROM {table}")).await?;
    futures::pin_mut!(rows);
    let mut digest = Digest::default();
    while let Some(message) = rows.try_next().await? {
        if let SimpleQueryMessage::Row(row) = message {
            let mut hasher = DefaultHasher::new();
            (0..row.len()).for_each(|column| row.get(column).hash(&mut hasher));
            digest.sum = digest.sum.wrapping_add(hasher.finish());
            digest.rows += 1;
        }
    }
    Ok(digest)
}
