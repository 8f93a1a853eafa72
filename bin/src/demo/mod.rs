//! `scry demo`: a shop with many orders and one analyst, a server killed in the middle, and the
//! proof that nothing acknowledged was lost; then three price plans as futures of the live shop, of which the best is elected.
//!
//! Everything goes over the PostgreSQL protocol to a server process of its own, as an application
//! would; the demo knows nothing that a client could not know.

mod election;
mod load;
mod process;
mod proof;
mod screen;
mod shop;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use load::{Live, Operation, Receipts};
use process::{Place, ServerProcess};
use screen::{Screen, grouped};

/// Share of the time that orders run before the server is killed, and after it is back.
const BEFORE: f64 = 0.4;
const AFTER: f64 = 0.1;
/// Share of the time in which plans are compared.
const PLANNING: f64 = 0.25;

/// The command's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Quit at the end instead of leaving the server running for psql
    #[arg(long)]
    pub exit: bool,
    /// About how long the demo runs, in seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(4..=86_400))]
    pub seconds: u64,
}

/// Why the demo ended early.
#[derive(Debug)]
pub enum DemoError {
    Runtime(io::Error),
    Place(io::Error),
    Start {
        log: PathBuf,
        source: io::Error,
    },
    /// The server ended before it was ready; the log says why.
    NotReady(PathBuf),
    Client(tokio_postgres::Error),
    /// Something that must hold does not.
    Proof(String),
    Process(io::Error),
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => write!(f, "cannot start the demo's threads: {error}"),
            Self::Place(error) => write!(f, "cannot make a temporary directory: {error}"),
            Self::Start { source, .. } => write!(f, "cannot start the server: {source}"),
            Self::NotReady(log) => {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                write!(f, "the server did not start:\n{}", text.trim_end())
            }
            Self::Client(error) => match error.as_db_error() {
                Some(server) => write!(
                    f,
                    "the server answered {}: {}",
                    server.code().code(),
                    server.message()
                ),
                None => write!(f, "talking to the server: {error}"),
            },
            Self::Proof(what) => write!(f, "NOT PROVEN: {what}"),
            Self::Process(error) => write!(f, "the server's process: {error}"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Runtime(error) | Self::Place(error) | Self::Process(error) => Some(error),
            Self::Start { source, .. } => Some(source),
            Self::Client(error) => Some(error),
            Self::NotReady(_) | Self::Proof(_) => None,
        }
    }
}

impl From<tokio_postgres::Error> for DemoError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Client(error)
    }
}

/// Runs the demo to its end or to Ctrl-C.
pub fn run(args: &Args) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::Runtime)?;
    let place = Place::new()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::Runtime)?;
        // However it ends, the server is ended and its directory removed.
        tokio::select! {
            result = show(args, &place) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

async fn show(args: &Args, place: &Place) -> Result<(), DemoError> {
    let mut screen = Screen::new();
    let live = Arc::new(Live::default());
    screen.say(&format!(
        "A demo of about {} seconds; Ctrl-C ends it at any time.",
        args.seconds
    ));
    screen.step("A shop opens");
    let server = place.start()?;
    screen.say(&format!(
        "  server process {}, database in {}",
        server.pid(),
        place.data().display()
    ));
    let began = Instant::now();
    let client = shop::connect(server.address, "shop owner").await?;
    shop::open(&client).await?;
    drop(client);
    screen.say(&format!(
        "  {} customers and {} products loaded in {:.2} s",
        grouped(shop::CUSTOMERS),
        grouped(shop::PRODUCTS),
        began.elapsed().as_secs_f64()
    ));

    screen.step("Orders come in; an analyst asks the mirror");
    let mut receipts = Receipts::default();
    let operation = Operation::start(server.address, 0, &live).await?;
    watch(&mut screen, &live, share(args, BEFORE)).await?;

    let died = Instant::now();
    let pid = server.pid();
    server.kill().map_err(DemoError::Process)?;
    receipts.add(operation.finish().await);
    screen.step(&format!(
        "kill -9 {pid}, with {} orders acknowledged",
        grouped(receipts.acknowledged.len() as u64)
    ));
    let server = place.start()?;
    screen.say(&format!(
        "  started again: {}, back {:.2} s after the kill",
        server.recovered(),
        died.elapsed().as_secs_f64()
    ));
    proof::prove(server.address, &receipts, &mut screen, true).await?;

    screen.step("Orders go on");
    screen.restart(&live);
    let operation = Operation::start(server.address, 1, &live).await?;
    watch(&mut screen, &live, share(args, AFTER)).await?;
    screen.step("Three price plans, each a future of the live shop");
    screen.restart(&live);
    election::act(server.address, &live, &mut screen, share(args, PLANNING)).await?;
    screen.step("Orders go on at the new prices");
    screen.restart(&live);
    watch(&mut screen, &live, share(args, AFTER)).await?;
    live.stop();
    receipts.add(operation.finish().await);
    screen.step("The shop closes");
    proof::prove(server.address, &receipts, &mut screen, false).await?;
    if live.refused.load(Ordering::Relaxed) > 0 {
        screen.say(&format!(
            "  {} orders were refused by the server",
            live.refused.load(Ordering::Relaxed)
        ));
    }
    leave(args, server, &mut screen).await
}

/// Shows the shop at work for a while; what is wrong ends it.
async fn watch(screen: &mut Screen, live: &Live, time: Duration) -> Result<(), DemoError> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        screen.draw(live);
        if let Some(trouble) = live.trouble.lock().take() {
            return Err(DemoError::Proof(trouble));
        }
        tokio::time::sleep(screen::PERIOD).await;
    }
    screen.draw(live);
    Ok(())
}

/// Stops the server, or leaves it to whoever wants to look around.
async fn leave(args: &Args, mut server: ServerProcess, screen: &mut Screen) -> Result<(), DemoError> {
    if args.exit {
        server.stop().map_err(DemoError::Process)?;
        screen.say("");
        return Ok(());
    }
    screen.step("Look around");
    screen.say(&format!(
        "  psql -h {} -p {} -U shop {}",
        server.address.ip(),
        server.address.port(),
        crate::server::DATABASE
    ));
    screen.say("\n  Ctrl-C stops the server and removes its directory.");
    while server.running() {
        tokio::time::sleep(screen::PERIOD).await;
    }
    Ok(())
}

fn share(args: &Args, share: f64) -> Duration {
    Duration::from_secs_f64(args.seconds as f64 * share)
}
