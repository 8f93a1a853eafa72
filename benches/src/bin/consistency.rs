//! While pgbench writes, asks for the four sums of its tables in one statement, over and over, and compares them.
//!
//! Each pgbench transaction adds the same amount to one account, teller and branch and to the history, so in any one snapshot the
//! four sums are equal; `simple-update` leaves tellers and branches alone, so there only accounts and history are compared.
//! Runs until SIGTERM, SIGINT or `--seconds`. Ends with an error when a snapshot was wrong or none was looked at.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use scry_benches::client::{Failure, Target, text_rows};
use tokio::signal::unix::{SignalKind, signal};

const SUMS: &str = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) AS accounts, \
     (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS history, \
     (SELECT sum(tbalance) FROM pgbench_tellers) AS tellers, \
     (SELECT sum(bbalance) FROM pgbench_branches) AS branches";

#[derive(Parser)]
struct Arguments {
    /// Which of pgbench's scripts is running.
    #[arg(long, value_enum, default_value = "tpcb-like")]
    script: Script,
    /// Where the query runs: primary, mirror or auto.
    #[arg(long, default_value = "mirror")]
    read_from: String,
    /// End after this time.
    #[arg(long)]
    seconds: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Script {
    TpcbLike,
    SimpleUpdate,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match watch(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("FAIL - snapshot sums: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn watch(arguments: &Arguments) -> Result<bool, Failure> {
    let client = Target::from_environment()?.connect("consistency").await?;
    client
        .batch_execute(&format!("SET scry.read_from = '{}'", arguments.read_from))
        .await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let end = arguments
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut checks, mut wrong, mut distinct) = (0u64, 0u64, 0u64);
    let mut last = String::new();
    let mut slowest = Duration::ZERO;
    while end.is_none_or(|end| Instant::now() < end) {
        let began = Instant::now();
        let rows = tokio::select! {
            rows = text_rows(&client, SUMS) => rows?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        slowest = slowest.max(began.elapsed());
        checks += 1;
        let [row] = rows.as_slice() else {
            return Err(format!("{} rows from an aggregate", rows.len()).into());
        };
        let sums: Vec<&str> = row.iter().map(|sum| sum.as_deref().unwrap_or("NULL")).collect();
        let compared = if arguments.script == Script::TpcbLike {
            &sums[..]
        } else {
            &sums[..2]
        };
        if compared.iter().any(|sum| *sum != compared[0]) {
            wrong += 1;
            if wrong <= 5 {
                println!("wrong snapshot {checks}: accounts, history, tellers, branches = {sums:?}");
            }
        }
        if sums[0] != last {
            last = sums[0].to_owned();
            distinct += 1;
        }
    }
    let verdict = if wrong == 0 && checks > 0 { "ok" } else { "FAIL" };
    println!(
        "{verdict} - snapshot sums on {}: {checks} checks, {distinct} distinct, {wrong} wrong, slowest {} ms",
        arguments.read_from,
        slowest.as_millis()
    );
    Ok(verdict == "ok")
}
