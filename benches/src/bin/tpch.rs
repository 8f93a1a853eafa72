//! TPC-H from outside: writes a table's rows, loads all tables by COPY, checks the 22 queries against their answers.
//!
//! The server is where `PGHOST`, `PGPORT`, `PGDATABASE` and `PGUSER` say.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use futures::SinkExt;
use scry_benches::client::{Failure, Target, explain, text_rows};
use scry_benches::tpch::{Table, answers};
use tokio_postgres::Client;

#[derive(Parser)]
#[command(about = "TPC-H tables and queries over the PostgreSQL protocol")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes one table's rows in COPY's text format.
    Rows {
        #[arg(value_enum)]
        table: Table,
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// The file to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Creates the eight tables and loads them by COPY.
    Load {
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// Load only this table.
        #[arg(long, value_enum)]
        table: Option<Table>,
    },
    /// Runs the queries and compares with the answers; prints one line for each.
    Check {
        /// Folder of q01.sql … q22.sql.
        #[arg(long)]
        queries: PathBuf,
        /// Folder of q01.csv … q22.csv.
        #[arg(long)]
        answers: PathBuf,
        /// How often each query runs; the quickest time is printed.
        #[arg(long, default_value_t = 1)]
        repeat: u32,
        /// Where SELECTs run: primary, mirror or auto.
        #[arg(long, default_value = "mirror")]
        read_from: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Rows { table, scale, out } => rows(table, scale, &out).map(|()| true),
        Command::Load { scale, table } => load(scale, table).await.map(|()| true),
        Command::Check {
            queries,
            answers,
            repeat,
            read_from,
        } => check(&queries, &answers, repeat, &read_from).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tpch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn rows(table: Table, scale: f64, out: &Path) -> Result<(), Failure> {
    let mut file = BufWriter::new(File::create(out).map_err(|e| format!("{}: {e}", out.display()))?);
    let mut count = 0;
    for chunk in table.chunks(scale) {
        file.write_all(&chunk.bytes)?;
        count += chunk.rows;
    }
    file.flush()?;
    println!("{count}");
    Ok(())
}

async fn load(scale: f64, only: Option<Table>) -> Result<(), Failure> {
    let client = Target::from_environment()?.connect("tpch load").await?;
    for table in Table::ALL
        .into_iter()
        .filter(|table| only.is_none_or(|only| only == *table))
    {
        for sql in [
            format!("DROP TABLE IF EXISTS {}", table.name()),
            table.definition().to_owned(),
        ] {
            client.batch_execute(&sql).await.map_err(|e| explain(&sql, &e))?;
        }
        let began = Instant::now();
        let count = copy(&client, table, scale).await?;
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "loaded {:<8} {count:>8} rows in {seconds:.2} s ({:.0}/s)",
            table.name(),
            count as f64 / seconds
        );
    }
    Ok(())
}

async fn copy(client: &Client, table: Table, scale: f64) -> Result<u64, Failure> {
    let sql = format!("COPY {} FROM STDIN", table.name());
    let sink = client.copy_in(&sql).await.map_err(|e| explain(&sql, &e))?;
    let mut sink = std::pin::pin!(sink);
    let mut sent = 0;
    for chunk in table.chunks(scale) {
        sent += chunk.rows;
        sink.send(Bytes::from(chunk.bytes))
            .await
            .map_err(|e| explain(&sql, &e))?;
    }
    let stored = sink.finish().await.map_err(|e| explain(&sql, &e))?;
    if stored == sent {
        Ok(stored)
    } else {
        Err(format!("{sql}: {sent} rows sent, {stored} stored").into())
    }
}

async fn check(queries: &Path, answers: &Path, repeat: u32, read_from: &str) -> Result<bool, Failure> {
    let client = Target::from_environment()?.connect("tpch check").await?;
    client
        .batch_execute(&format!("SET scry.read_from = '{read_from}'"))
        .await?;
    let mut good = true;
    for number in 1..=22 {
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()));
        let sql = read(queries.join(format!("q{number:02}.sql")))?;
        let expected = answers::parse(&read(answers.join(format!("q{number:02}.csv")))?);
        match run(&client, &sql, repeat).await {
            Ok((found, best)) => match answers::difference(&expected, &found) {
                None => println!(
                    "ok - tpch q{number:02} ({} rows, {:.3} s)",
                    found.len(),
                    best.as_secs_f64()
                ),
                Some(what) => {
                    println!("FAIL - tpch q{number:02}: {what}");
                    good = false;
                }
            },
            Err(error) => {
                println!("FAIL - tpch q{number:02}: {error}");
                good = false;
            }
        }
    }
    Ok(good)
}

async fn run(
    client: &Client,
    sql: &str,
    repeat: u32,
) -> Result<(Vec<Vec<Option<String>>>, Duration), Failure> {
    let mut best = Duration::MAX;
    let mut rows = Vec::new();
    for _ in 0..repeat.max(1) {
        let began = Instant::now();
        rows = text_rows(client, sql).await?;
        best = best.min(began.elapsed());
    }
    Ok((rows, best))
}
