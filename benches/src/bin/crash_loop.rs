//! Load, `kill -9` at a random moment, restart, check; again and again. See `scry_benches::crash`.
//!
//! Prints the seed of each run. A failed run leaves its data directory behind and says where.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use scry_benches::client::Failure;
use scry_benches::crash::check::check;
use scry_benches::crash::load::{Worker, create};
use scry_benches::crash::server::{Kind, Server};

use scry_benches::random::Random;

#[derive(Parser)]
struct Arguments {
    /// Whose command line the server has.
    #[arg(long, value_enum, default_value = "scry")]
    server: Kind,
    /// The server's program.
    #[arg(long)]
    binary: PathBuf,
    /// Where data directories go; each is removed when its runs were good.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long, default_value_t = 100)]
    runs: u64,
    /// Run n uses seed + n.
    #[arg(long)]
    seed: Option<u64>,
    /// Connections that write.
    #[arg(long, default_value_t = 6)]
    workers: i64,
    /// The kill comes at a random moment within this time after the load began.
    #[arg(long, default_value_t = 1500)]
    load_ms_max: u64,
    /// The audit trail is let go of behind checkpoints, and the mirror is removed now and then.
    #[arg(long)]
    recycle: bool,
    /// A new database after this many runs on one.
    #[arg(long, default_value_t = 20)]
    fresh_every: u64,
}

/// A database and those who write to it.
struct Site {
    server: Server,
    workers: Vec<Worker>,
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments
        .seed
        .unwrap_or_else(|| u64::from(std::process::id()) * 1_000_003);
    let began = Instant::now();
    let (mut commits, mut rows) = (0, 0);
    let mut site: Option<Site> = None;
    for run in 0..arguments.runs {
        let outcome = one_run(&arguments, seed.wrapping_add(run), run, &mut site).await;
        let Some(at) = &site else {
            eprintln!(
                "FAIL - crash run {run}: {}",
                outcome.err().unwrap_or_else(|| "no site".into())
            );
            return ExitCode::FAILURE;
        };
        match outcome {
            Ok(report) => {
                println!("run {run} seed {}: {}", seed.wrapping_add(run), report.text);
                commits += report.commits;
                rows += report.rows;
            }
            Err(error) => {
                println!(
                    "FAIL - crash run {run} seed {} in {}: {error}",
                    seed.wrapping_add(run),
                    at.folder.display()
                );
                println!("the server's last lines:\n{}", at.server.log_tail());
                return ExitCode::FAILURE;
            }
        }
        let last = (run + 1) % arguments.fresh_every == 0 || run + 1 == arguments.runs;
        if last && let Err(error) = finish(site.take()).await {
            println!("FAIL - crash, clean end after run {run}: {error}");
            return ExitCode::FAILURE;
        }
    }
    println!(
        "ok - crash: {} runs, {commits} transactions acknowledged, {rows} rows compared on primary and mirror, {:.0} s",
        arguments.runs,
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}

struct Report {
    text: String,
    commits: u64,
    rows: usize,
}

async fn one_run(
    arguments: &Arguments,
    seed: u64,
    run: u64,
    site: &mut Option<Site>,
) -> Result<Report, Failure> {
    let mut random = Random::new(seed);
    if site.is_none() {
        let folder = arguments.folder.join(format!("crash-{run}"));
        let mut server = Server::new(
            arguments.server,
            &arguments.binary,
            &folder,
            free_port()?,
            arguments.recycle,
        )?;
        let client = server.start().await?;
        let elections = arguments.server == Kind::Scry;
        create(&client, arguments.workers, elections).await?;
        let workers = (0..arguments.workers)
            .map(|id| Worker::new(id, elections))
            .collect();
        *site = Some(Site {
            server,
            workers,
            folder,
        });
    }
    let Some(Site { server, workers, .. }) = site else {
        return Err("no site".into());
    };
    let before: u64 = workers.iter().map(|worker| worker.journal.commits).sum();

    let load_ms = random.below(arguments.load_ms_max);
    let clean = random.one_in(10);
    let mut tasks = Vec::new();
    for mut worker in workers.drain(..) {
        let (target, random) = (server.target().clone(), random.fork());
        tasks.push(tokio::spawn(async move {
            let outcome = worker.work(&target, random).await;
            (worker, outcome)
        }));
    }
    tokio::time::sleep(Duration::from_millis(load_ms)).await;
    if clean {
        server.stop().await?
    } else {
        server.kill()?
    }
    let mut unexpected = None;
    for task in tasks {
        let (worker, outcome) = task.await?;
        workers.push(worker);
        unexpected = unexpected.or(outcome.err());
    }
    if let Some(what) = unexpected {
        return Err(what.into());
    }

    let unmirrored = arguments.recycle && random.one_in(4);
    if unmirrored {
        server.remove_mirror()?;
    }
    let mut interrupted = 0;
    while random.one_in(4) {
        server.launch()?;
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
        server.kill()?;
        interrupted += 1;
    }
    let began = Instant::now();
    let client = server.start().await?;
    let restart = began.elapsed();
    let open = workers
        .iter()
        .filter(|worker| worker.journal.open.is_some())
        .count();
    let rows = check(&client, workers).await?;
    let commits = workers.iter().map(|worker| worker.journal.commits).sum::<u64>() - before;
    let how = match (clean, unmirrored) {
        (true, false) => "stopped",
        (true, true) => "stopped and its mirror removed",
        (false, false) => "killed",
        (false, true) => "killed and its mirror removed",
    };
    Ok(Report {
        text: format!(
            "{how} after {load_ms} ms and {commits} commits, {open} open, {interrupted} restarts killed, up in {} ms, {rows} rows agree",
            restart.as_millis()
        ),
        commits,
        rows,
    })
}

/// Stops cleanly, verifies the files, removes them.
async fn finish(site: Option<Site>) -> Result<(), Failure> {
    let Some(mut site) = site else { return Ok(()) };
    site.server.stop().await?;
    site.server.verify()?;
    remove(&site.folder)
}

fn remove(folder: &Path) -> Result<(), Failure> {
    std::fs::remove_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()).into())
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
