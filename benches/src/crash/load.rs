//! The workers' transactions: transfers, batches (small ones by INSERT, large ones by COPY), deletes, tables replaced as a
//! whole, work that is rolled back, and elections where the server has them.

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::Client;

use super::plan::{OPENING_AMOUNT, Plan, ROWS};
use super::state::{Change, Journal, Transfer, payload};
use super::{ACCOUNTS, OPENING_BALANCE};
use crate::client::{Failure, Stopped, Target, explain};
use crate::random::Random;

/// Bytes of text in a row of a small batch.
pub const SMALL_BYTES: usize = 40;
/// Bytes of text in a row of a large batch.
pub const LARGE_BYTES: usize = 1000;
/// Batches above this many rows are large ones.
pub const SMALL_ROWS_MAX: u32 = 60;

/// Creates the tables in a new database.
pub async fn create(client: &Client, workers: i64, elections: bool) -> Result<(), Failure> {
    let mut sql = String::from(
        "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL, note text); \
         CREATE TABLE transfer (id bigint PRIMARY KEY, source bigint NOT NULL, target bigint NOT NULL, \
         amount numeric(12,2) NOT NULL); \
         CREATE TABLE entry (worker bigint NOT NULL, batch bigint NOT NULL, number int NOT NULL, payload text); \
         CREATE INDEX entry_batch ON entry (worker, batch); ",
    );
    for worker in 0..workers {
        sql += &format!("{}; ", scratch_definition(worker));
        if elections {
            sql += &format!(
                "CREATE TABLE plan_{worker} (id bigint PRIMARY KEY, amount bigint NOT NULL); \
                 INSERT INTO plan_{worker} SELECT i, {OPENING_AMOUNT} FROM generate_series(0, {}) AS g(i); \
                 ALTER TABLE plan_{worker} ALTER COLUMN amount SET (scry.on_collision = 'add'); ",
                ROWS - 1
            );
        }
    }
    sql += "INSERT INTO account (id, balance) VALUES ";
    let rows: Vec<String> = (0..ACCOUNTS)
        .map(|id| format!("({id}, {OPENING_BALANCE})"))
        .collect();
    sql += &rows.join(", ");
    client
        .batch_execute(&sql)
        .await
        .map_err(|e| explain("creating the tables", &e))?;
    Ok(())
}

fn scratch_definition(worker: i64) -> String {
    format!("CREATE TABLE scratch_{worker} (generation bigint NOT NULL, number int, payload varchar(200))")
}

/// What a session says to work in no candidate.
const OUTSIDE: &str = "SET scry.candidate = ''";

/// One worker.
pub struct Worker {
    pub id: i64,
    pub journal: Journal,
    /// Whether it holds elections.
    pub elections: bool,
    random: Random,
}

impl Worker {
    /// A worker in a new database.
    pub fn new(id: i64, elections: bool) -> Worker {
        let mut journal = Journal::default();
        if elections {
            journal.acknowledged.plan = Plan::new();
        }
        Worker {
            id,
            journal,
            elections,
            random: Random::new(0),
        }
    }

    /// Works until the server is gone. An error is one that a kill does not explain.
    pub async fn work(&mut self, target: &Target, random: Random) -> Result<(), String> {
        self.random = random;
        let Ok(client) = target.connect("crash load").await else {
            return Ok(());
        };
        loop {
            match self.transaction(&client).await {
                Ok(()) => {
                    if let Some((change, _)) = self.journal.open.take() {
                        self.journal.acknowledged.apply(&change);
                    }
                    self.journal.commits += 1;
                }
                Err(Stopped::RolledBack) => {
                    self.journal.open = None;
                    if client.batch_execute("ROLLBACK").await.is_err() {
                        return Ok(());
                    }
                    if self.elections && client.batch_execute(OUTSIDE).await.is_err() {
                        return Ok(());
                    }
                }
                Err(Stopped::Lost) => return Ok(()),
                Err(Stopped::Unexpected(what)) => return Err(format!("worker {}: {what}", self.id)),
            }
        }
    }

    async fn transaction(&mut self, client: &Client) -> Result<(), Stopped> {
        if self.elections && self.random.one_in(3) {
            return self.plan(client).await;
        }
        match self.random.below(100) {
            0..60 => self.transfer(client).await,
            60..78 => self.insert(client).await,
            78..79 => self.copy(client).await,
            79..84 => self.delete(client).await,
            84..87 => self.touch(client).await,
            87..93 => self.replace(client).await,
            _ => self.roll_back(client).await,
        }
    }

    /// Writes down what is about to happen.
    fn open(&mut self, change: Change, commit_sent: bool) {
        self.journal.open = Some((change, commit_sent));
    }

    /// COMMIT, after writing down that it is being sent.
    async fn commit(&mut self, client: &Client) -> Result<(), Stopped> {
        if let Some((_, commit_sent)) = &mut self.journal.open {
            *commit_sent = true;
        }
        run(client, "COMMIT").await
    }

    async fn transfer(&mut self, client: &Client) -> Result<(), Stopped> {
        let id = (self.id << 40) | self.journal.number();
        let source = self.random.below(ACCOUNTS as u64) as i64;
        let target = (source + 1 + self.random.below(ACCOUNTS as u64 - 1) as i64) % ACCOUNTS;
        let amount = 1 + self.random.below(500) as i64;
        let change = Change::Transfer(
            id,
            Transfer {
                source,
                target,
                amount,
            },
        );
        let insert = format!("INSERT INTO transfer VALUES ({id}, {source}, {target}, {amount})");
        let take = format!("UPDATE account SET balance = balance - {amount} WHERE id = {source}");
        let give =
            format!("UPDATE account SET balance = balance + {amount}, note = 'by {id}' WHERE id = {target}");
        if self.random.one_in(3) {
            // All of it in one message.
            self.open(change, true);
            return run(client, &format!("BEGIN; {take}; {give}; {insert}; COMMIT")).await;
        }
        self.open(change, false);
        run(client, "BEGIN").await?;
        if self.random.one_in(4) {
            run(client, "SAVEPOINT s").await?;
            run(
                client,
                &format!("UPDATE account SET balance = 0 WHERE id = {source}"),
            )
            .await?;
            run(client, "ROLLBACK TO SAVEPOINT s").await?;
        }
        let sql = "UPDATE account SET balance = balance - $1 WHERE id = $2";
        let changed = client
            .execute(sql, &[&amount, &source])
            .await
            .map_err(|e| Stopped::from(sql, &e))?;
        if changed != 1 {
            return Err(Stopped::Unexpected(format!(
                "an update of account {source} changed {changed} rows"
            )));
        }
        run(client, &give).await?;
        run(client, &insert).await?;
        self.commit(client).await
    }

    async fn insert(&mut self, client: &Client) -> Result<(), Stopped> {
        let (batch, rows) = (
            self.journal.number(),
            1 + self.random.below(u64::from(SMALL_ROWS_MAX)) as u32,
        );
        self.open(Change::Insert { batch, rows }, true);
        let values: Vec<String> = (0..rows)
            .map(|n| {
                format!(
                    "({}, {batch}, {n}, '{}')",
                    self.id,
                    payload(self.id, batch, n, SMALL_BYTES)
                )
            })
            .collect();
        run(client, &format!("INSERT INTO entry VALUES {}", values.join(", "))).await
    }

    async fn copy(&mut self, client: &Client) -> Result<(), Stopped> {
        // Above the size at which a transaction goes to the log ahead of its commit.
        let (batch, rows) = (self.journal.number(), 1200 + self.random.below(1800) as u32);
        self.open(Change::Insert { batch, rows }, true);
        let sql = "COPY entry FROM STDIN";
        let sink = client
            .copy_in::<_, Bytes>(sql)
            .await
            .map_err(|e| Stopped::from(sql, &e))?;
        let mut sink = std::pin::pin!(sink);
        for first in (0..rows).step_by(100) {
            let lines: String = (first..rows.min(first + 100))
                .map(|n| {
                    format!(
                        "{}\t{batch}\t{n}\t{}\n",
                        self.id,
                        payload(self.id, batch, n, LARGE_BYTES)
                    )
                })
                .collect();
            sink.send(Bytes::from(lines))
                .await
                .map_err(|e| Stopped::from(sql, &e))?;
        }
        sink.finish().await.map_err(|e| Stopped::from(sql, &e))?;
        Ok(())
    }

    async fn delete(&mut self, client: &Client) -> Result<(), Stopped> {
        let batches = &self.journal.acknowledged.batches;
        // A large one first, so that the tables stay small.
        let large = batches
            .iter()
            .find(|(_, rows)| **rows > SMALL_ROWS_MAX)
            .map(|(batch, _)| *batch);
        let nth = self.random.below(batches.len() as u64) as usize;
        let Some(batch) = large.or_else(|| batches.keys().nth(nth).copied()) else {
            return Ok(());
        };
        let rows = u64::from(batches[&batch]);
        self.open(Change::Delete { batch }, true);
        let sql = "DELETE FROM entry WHERE worker = $1 AND batch = $2";
        let gone = client
            .execute(sql, &[&self.id, &batch])
            .await
            .map_err(|e| Stopped::from(sql, &e))?;
        if gone == rows {
            Ok(())
        } else {
            Err(Stopped::Unexpected(format!(
                "deleting batch {batch} of {rows} rows took {gone}"
            )))
        }
    }

    /// Writes all rows of the worker again, as they are.
    async fn touch(&mut self, client: &Client) -> Result<(), Stopped> {
        let rows: u64 = self
            .journal
            .acknowledged
            .batches
            .values()
            .map(|rows| u64::from(*rows))
            .sum();
        if self.random.one_in(2) {
            // With other keys in the index in between.
            let turn = format!("UPDATE entry SET batch = -batch WHERE worker = {}", self.id);
            let undone = match self.random.one_in(2) {
                true => format!(
                    "SAVEPOINT s; {turn}; DELETE FROM entry WHERE worker = {} AND number % 2 = 0; ROLLBACK TO SAVEPOINT s;",
                    self.id
                ),
                false => String::new(),
            };
            return run(client, &format!("BEGIN; {turn}; {undone} {turn}; COMMIT")).await;
        }
        let sql = "UPDATE entry SET payload = payload WHERE worker = $1";
        let written = client
            .execute(sql, &[&self.id])
            .await
            .map_err(|e| Stopped::from(sql, &e))?;
        match written == rows {
            true => Ok(()),
            false => Err(Stopped::Unexpected(format!(
                "writing {rows} rows again took {written}"
            ))),
        }
    }

    async fn replace(&mut self, client: &Client) -> Result<(), Stopped> {
        let (generation, rows) = (self.journal.number(), 1 + self.random.below(40) as u32);
        self.open(Change::Replace { generation, rows }, false);
        let table = format!("scratch_{}", self.id);
        run(client, "BEGIN").await?;
        if self.random.one_in(3) {
            run(client, &format!("DROP TABLE {table}")).await?;
            run(client, &scratch_definition(self.id)).await?;
        } else {
            run(client, &format!("TRUNCATE {table}")).await?;
        }
        let values: Vec<String> = (0..rows)
            .map(|n| {
                format!(
                    "({generation}, {n}, '{}')",
                    payload(self.id, generation, n, SMALL_BYTES)
                )
            })
            .collect();
        run(
            client,
            &format!("INSERT INTO {table} VALUES {}", values.join(", ")),
        )
        .await?;
        self.commit(client).await
    }

    async fn plan(&mut self, client: &Client) -> Result<(), Stopped> {
        let number = self.journal.number();
        let step = self.journal.acknowledged.plan.choose(&mut self.random, number);
        let (inside, sql) = step.sql(self.id);
        if let Some(inside) = &inside {
            run(client, &format!("SET scry.candidate = '{inside}'")).await?;
        }
        self.open(Change::Plan(step), true);
        run(client, &sql).await?;
        match inside {
            Some(_) => run(client, OUTSIDE).await,
            None => Ok(()),
        }
    }

    /// Work that must leave nothing.
    async fn roll_back(&mut self, client: &Client) -> Result<(), Stopped> {
        run(client, "BEGIN").await?;
        let account = self.random.below(ACCOUNTS as u64);
        run(
            client,
            &format!("UPDATE account SET balance = -1 WHERE id = {account}"),
        )
        .await?;
        run(
            client,
            &format!("INSERT INTO entry VALUES ({}, 0, 0, 'never')", self.id),
        )
        .await?;
        if self.random.one_in(4) {
            run(client, &format!("TRUNCATE scratch_{}", self.id)).await?;
        }
        if self.random.one_in(4) {
            let all = format!("UPDATE entry SET payload = 'never' WHERE worker = {}", self.id);
            run(client, &all).await?;
        }
        run(client, "ROLLBACK").await
    }
}

async fn run(client: &Client, sql: &str) -> Result<(), Stopped> {
    client
        .batch_execute(sql)
        .await
        .map_err(|e| Stopped::from(sql, &e))
}
