//! Random concurrent transactions against a server that is killed now and then, and whether what clients were told is
//! allowed by the isolation level. See `scry_benches::histories`.
//!
//! Prints the seed of each round. A round that shows something forbidden leaves its history in the folder, which
//! `--check FILE` judges again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use scry_benches::client::Failure;
use scry_benches::crash::server::{Kind, Server};
use scry_benches::histories::check::{Level, Verdict, check};
use scry_benches::histories::drive::{self, Run, TABLES};
use scry_benches::histories::history::History;
use scry_benches::random::Random;

#[derive(Parser)]
struct Arguments {
    /// Judges a history that was kept, and starts no server.
    #[arg(long)]
    check: Option<PathBuf>,
    /// Whose command line the server has.
    #[arg(long, value_enum, default_value = "scry")]
    server: Kind,
    /// The server's program.
    #[arg(long, required_unless_present = "check")]
    binary: Option<PathBuf>,
    /// Where the data directory goes, and histories that are not allowed.
    #[arg(long, required_unless_present = "check")]
    folder: Option<PathBuf>,
    /// How long it runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How long a round is, of which each has a history of its own.
    #[arg(long, default_value_t = 6)]
    round_seconds: u64,
    /// Round n uses seed + n.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 8)]
    clients: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.check {
        Some(file) => judge(file),
        None => run(&arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAIL - histories: {error}");
            ExitCode::FAILURE
        }
    }
}

fn judge(file: &Path) -> Result<(), Failure> {
    let verdict = check(&History::parse(&std::fs::read_to_string(file)?)?);
    for level in Level::ALL {
        let allowed = if verdict.allows(level) {
            "allowed"
        } else {
            "not allowed"
        };
        println!("{}: {allowed}", level.name());
    }
    for found in &verdict.found {
        println!("{}: {}", found.anomaly, found.text);
    }
    Ok(())
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (Some(binary), Some(folder)) = (&arguments.binary, &arguments.folder) else {
        return Err("--binary and --folder".into());
    };
    let seed = arguments
        .seed
        .unwrap_or_else(|| u64::from(std::process::id()) * 1_000_003);
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = Server::new(arguments.server, binary, folder, port, false)?;
    server.start().await?.batch_execute(TABLES).await?;
    let began = Instant::now();
    let (mut rounds, mut committed, mut kills) = (0, 0, 0);
    let mut first_key = 0;
    while began.elapsed() < Duration::from_secs(arguments.seconds) {
        let mut random = Random::new(seed.wrapping_add(rounds));
        let level = Level::ALL[usize::try_from(random.below(3))?];
        let killed = random.below(3);
        let run = Run::new(server.target().clone(), level, first_key);
        let length = Duration::from_secs(arguments.round_seconds);
        let moments: Vec<u64> = (0..killed).map(|_| random.below(1000)).collect();
        let meanwhile = meanwhile(&mut server, length, moments);
        let (history, run) = drive::run(run, arguments.clients, &mut random, meanwhile)
            .await
            .map_err(|error| format!("round {rounds} seed {}: {error}", seed.wrapping_add(rounds)))?;
        first_key = run.pool.keys().end;
        let verdict = check(&history);
        report(seed.wrapping_add(rounds), level, killed, &history, &verdict);
        if !verdict.allows(level) {
            let kept = folder.join(format!("history-{}.txt", seed.wrapping_add(rounds)));
            std::fs::write(&kept, history.to_string())?;
            for found in verdict.forbidden(level).take(5) {
                println!("{}: {}", found.anomaly, found.text);
            }
            return Err(format!("{} forbids it: {}", level.name(), kept.display()).into());
        }
        (rounds, committed, kills) = (rounds + 1, committed + verdict.committed, kills + killed);
    }
    server.stop().await?;
    server.verify()?;
    println!(
        "ok - histories: {rounds} rounds, {committed} transactions committed, {kills} kills, {:.0} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Kills and restarts the server at these thousandths of a round.
async fn meanwhile(server: &mut Server, length: Duration, mut moments: Vec<u64>) -> Result<(), Failure> {
    let began = Instant::now();
    moments.sort_unstable();
    for moment in moments {
        let at = length.mul_f64(moment as f64 / 1000.0);
        tokio::time::sleep(at.saturating_sub(began.elapsed())).await;
        server.kill()?;
        server.start().await?;
    }
    tokio::time::sleep(length.saturating_sub(began.elapsed())).await;
    Ok(())
}

fn report(seed: u64, level: Level, kills: u64, history: &History, verdict: &Verdict) {
    let allowed: Vec<String> = verdict
        .found
        .iter()
        .map(|found| found.anomaly.to_string())
        .collect();
    let mut allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    allowed.dedup();
    println!(
        "seed {seed}, {}, {kills} kills: {} transactions, {} committed, {} dependencies; found: {}",
        level.name(),
        history.transactions.len(),
        verdict.committed,
        verdict.edges,
        if allowed.is_empty() {
            "nothing".to_owned()
        } else {
            allowed.join("; ")
        }
    );
}
