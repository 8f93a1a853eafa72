//! Connections as libpq's environment variables say, and results as text.

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// What can go wrong in a load program: it ends and prints it.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Where the server is.
#[derive(Debug, Clone)]
pub struct Target {
    /// Address or name of the host.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// User name.
    pub user: String,
}

impl Target {
    /// From `PGHOST`, `PGPORT`, `PGDATABASE` and `PGUSER`; what is unset takes scry's defaults.
    pub fn from_environment() -> Result<Target, Failure> {
        let text = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        Ok(Target {
            host: text("PGHOST", "127.0.0.1"),
            port: text("PGPORT", "5433")
                .parse()
                .map_err(|e| format!("PGPORT is not a port: {e}"))?,
            database: text("PGDATABASE", "scry"),
            user: text("PGUSER", "scry"),
        })
    }

    /// One connection; its I/O runs as a task until the client is dropped.
    pub async fn connect(&self, application: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&self.user);
        config
            .application_name(application)
            .connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            // The error also reaches whoever waits on the client.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Connects as soon as the server answers, or fails at the deadline with the last refusal.
    pub async fn connect_within(&self, application: &str, patience: Duration) -> Result<Client, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            match self.connect(application).await {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() >= deadline => {
                    return Err(format!(
                        "no connection to {}:{} in {patience:?}: {error}",
                        self.host, self.port
                    )
                    .into());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// A row as the server printed it; `None` is NULL.
pub type TextRow = Vec<Option<String>>;

/// Runs one statement by the simple protocol and returns its rows as text.
pub async fn text_rows(client: &Client, sql: &str) -> Result<Vec<TextRow>, Failure> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await.map_err(|e| explain(sql, &e))? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push(
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_owned))
                    .collect(),
            );
        }
    }
    Ok(rows)
}

/// The one value of a one-row, one-column result.
pub async fn text_value(client: &Client, sql: &str) -> Result<Option<String>, Failure> {
    let rows = text_rows(client, sql).await?;
    match rows.as_slice() {
        [row] if row.len() == 1 => Ok(row[0].clone()),
        _ => Err(format!("expected one value, got {} rows: {sql}", rows.len()).into()),
    }
}

/// A server's error with its SQLSTATE and the statement that caused it.
pub fn explain(sql: &str, error: &tokio_postgres::Error) -> String {
    let short: String = sql
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(160)
        .collect();
    match error.as_db_error() {
        Some(db) => format!(
            "{} {}: {} [{short}]",
            db.severity(),
            db.code().code(),
            db.message()
        ),
        None => format!("{error} [{short}]"),
    }
}

/// Why a transaction did not end with an acknowledgement.
pub enum Stopped {
    /// The server ended it (deadlock, conflict): it left nothing.
    RolledBack,
    /// The connection is gone: whether it committed is not known.
    Lost,
    /// An error that nobody expects.
    Unexpected(String),
}

impl Stopped {
    /// What the error of a statement means.
    pub fn from(sql: &str, error: &tokio_postgres::Error) -> Stopped {
        match error.code() {
            Some(code)
                if *code == SqlState::T_R_DEADLOCK_DETECTED
                    || *code == SqlState::T_R_SERIALIZATION_FAILURE =>
            {
                Stopped::RolledBack
            }
            // 57P01 and its like: the server says that it stops.
            Some(code) if code.code().starts_with("57P") => Stopped::Lost,
            Some(_) => Stopped::Unexpected(explain(sql, error)),
            None => Stopped::Lost,
        }
    }
}
