//! Clients that run random transactions against a server, and what they were told.
//!
//! A client whose connection is lost while it commits does not know the outcome; one that is lost before has left nothing. It
//! connects again until the run ends. At the end one transaction reads everything.

use super::check::Level;
use super::history::{History, Op, Outcome, Transaction};
use super::workload::{Plan, Pool, Step, observed, read, sql};
use crate::client::{Failure, Stopped, Target};
use crate::random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

/// The tables of all histories.
pub const TABLES: &str =
    "CREATE TABLE lists (k int PRIMARY KEY, v text); CREATE TABLE registers (k int PRIMARY KEY, v text)";

/// How long a client tries to come back after its connection was lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the clients of one history share.
#[derive(Debug)]
pub struct Run {
    pub target: Target,
    pub level: Level,
    pub pool: Pool,
    pub began: Instant,
    pub stop: AtomicBool,
    /// Transactions that have ended.
    pub ended: Arc<AtomicU64>,
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<(u32, String)>, Stopped> {
    let found = client.simple_query(sql).await;
    let mut rows = Vec::new();
    for message in found.map_err(|error| Stopped::from(sql, &error))? {
        if let SimpleQueryMessage::Row(row) = message
            && row.len() == 2
        {
            let key = row.get(0).and_then(|key| key.parse().ok());
            let (Some(key), Some(value)) = (key, row.get(1)) else {
                return Err(Stopped::Unexpected(format!("no key and value: {sql}")));
            };
            rows.push((key, value.to_owned()));
        }
    }
    Ok(rows)
}

impl Run {
    pub fn new(target: Target, level: Level, first_key: u32) -> Run {
        Run {
            target,
            level,
            pool: Pool::new(first_key),
            began: Instant::now(),
            stop: AtomicBool::new(false),
            ended: Arc::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// One client, until the run is stopped.
    ///
    /// # Errors
    /// What no server should answer.
    pub async fn client(
        self: Arc<Self>,
        session: u32,
        mut random: Random,
    ) -> Result<Vec<Transaction>, Failure> {
        let mut done = Vec::new();
        'connections: while !self.stop.load(Ordering::Relaxed) {
            let client = self.target.connect_within("histories", PATIENCE).await?;
            while !self.stop.load(Ordering::Relaxed) {
                let plan = self.pool.plan(&mut random);
                match self.transaction(&client, session, &plan, &mut done).await {
                    Ok(()) => {}
                    Err(Stopped::RolledBack) => {
                        if client.simple_query("ROLLBACK").await.is_err() {
                            continue 'connections;
                        }
                    }
                    Err(Stopped::Lost) => continue 'connections,
                    Err(Stopped::Unexpected(text)) => return Err(text.into()),
                }
            }
        }
        Ok(done)
    }

    /// Runs one transaction and writes down what it was told.
    async fn transaction(
        &self,
        client: &Client,
        session: u32,
        plan: &Plan,
        done: &mut Vec<Transaction>,
    ) -> Result<(), Stopped> {
        let begin = self.now();
        let mut ops = Vec::new();
        let mut undone = Vec::new();
        let ran = self.steps(client, plan, &mut ops, &mut undone).await;
        let (outcome, result) = match ran {
            Err(stopped) => (Outcome::Aborted, Err(stopped)),
            Ok(()) => {
                let last = if plan.rollback { "ROLLBACK" } else { "COMMIT" };
                match client.simple_query(last).await {
                    Ok(_) if plan.rollback => (Outcome::Aborted, Ok(())),
                    Ok(_) => (Outcome::Committed, Ok(())),
                    Err(error) => match Stopped::from(last, &error) {
                        Stopped::RolledBack => (Outcome::Aborted, Err(Stopped::RolledBack)),
                        stopped if plan.rollback => (Outcome::Aborted, Err(stopped)),
                        stopped => (Outcome::Unknown, Err(stopped)),
                    },
                }
            }
        };
        self.ended.fetch_add(1, Ordering::Relaxed);
        let end = (outcome != Outcome::Unknown).then(|| self.now());
        // What was rolled back to a savepoint is as if another transaction had done it that failed.
        for (ops, outcome) in [(undone, Outcome::Aborted), (ops, outcome)] {
            done.push(Transaction {
                session,
                begin,
                end: end.or((outcome == Outcome::Aborted).then_some(begin)),
                outcome,
                ops,
            });
        }
        result
    }

    async fn steps(
        &self,
        client: &Client,
        plan: &Plan,
        ops: &mut Vec<Op>,
        undone: &mut Vec<Op>,
    ) -> Result<(), Stopped> {
        let mode = if plan.read_only { " READ ONLY" } else { "" };
        rows(
            client,
            &format!("BEGIN ISOLATION LEVEL {}{mode}", self.level.name()),
        )
        .await?;
        let mut savepoint = 0;
        for step in &plan.steps {
            // Written down before it is done: whatever becomes of it, it was tried.
            ops.extend(step.written());
            if let Step::Savepoint = step {
                savepoint = ops.len();
            }
            let sql = sql(step);
            let found = rows(client, &sql).await?;
            if let (Step::Update { .. }, []) = (step, &found[..]) {
                // There was no row, and so nothing was written.
                ops.pop();
            }
            let read =
                observed(step, &found).map_err(|text| Stopped::Unexpected(format!("{text}: {sql}")))?;
            ops.extend(read);
            if let Step::EndSavepoint { back: true } = step {
                // Reads of before it saw what was undone then, and count no more.
                let after = ops.split_off(savepoint);
                undone.extend(
                    after
                        .into_iter()
                        .filter(|op| matches!(op, Op::Append(..) | Op::Write(..))),
                );
            }
        }
        Ok(())
    }

    /// One transaction that reads everything.
    ///
    /// # Errors
    /// When it fails.
    pub async fn read_all(&self, client: &Client, session: u32) -> Result<Transaction, Failure> {
        let begin = self.now();
        let keys = self.pool.keys();
        let mut ops = Vec::new();
        let failed = |stopped| match stopped {
            Stopped::Unexpected(text) => text,
            Stopped::RolledBack => "what only reads was rolled back".to_owned(),
            Stopped::Lost => "the connection was lost".to_owned(),
        };
        rows(
            client,
            &format!("BEGIN ISOLATION LEVEL {} READ ONLY", self.level.name()),
        )
        .await
        .map_err(failed)?;
        for (list, table) in [(true, "lists"), (false, "registers")] {
            let sql = format!(
                "SELECT k, v FROM {table} WHERE k >= {} AND k < {}",
                keys.start, keys.end
            );
            let found = rows(client, &sql).await.map_err(failed)?;
            for key in keys.clone() {
                ops.push(read(list, key, &found)?);
            }
        }
        rows(client, "COMMIT").await.map_err(failed)?;
        Ok(Transaction {
            session,
            begin,
            end: Some(self.now()),
            outcome: Outcome::Committed,
            ops,
        })
    }
}

/// Runs clients for a while, with whatever `meanwhile` does to the server, and answers what they were told. The
/// server answers when `meanwhile` is over.
///
/// # Errors
/// What no server should answer, and what `meanwhile` fails with.
pub async fn run(
    run: Run,
    clients: u32,
    random: &mut Random,
    meanwhile: impl Future<Output = Result<(), Failure>>,
) -> Result<(History, Run), Failure> {
    let run = Arc::new(run);
    let tasks: Vec<_> = (0..clients)
        .map(|session| tokio::spawn(Arc::clone(&run).client(session, random.fork())))
        .collect();
    let result = meanwhile.await;
    run.stop.store(true, Ordering::Relaxed);
    let mut history = History::default();
    let mut failure = result.err();
    for task in tasks {
        match task.await? {
            Ok(done) => history.transactions.extend(done),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    let client = run.target.connect_within("histories", PATIENCE).await?;
    history.transactions.push(run.read_all(&client, clients).await?);
    let run = Arc::into_inner(run).ok_or("a client is still there")?;
    Ok((history, run))
}
