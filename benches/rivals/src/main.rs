//! scry beside RocksDB, fjall, redb and LMDB: the same keys and values, the same durability, caches of one size, one disk.
//!
//! `rivals run` starts itself once for each store and phase, one process at a time, and prints a table; `rivals one` is such a process.
//! In reading order: `data` (the rows), `store` (what is asked of a store), `stores` (how each does it), `phases` (what is measured),
//! `rounds` (in which order), `table` (what is printed), `machine` (what the kernel is asked).
//!
//! What is durable is durable everywhere: a measured commit has been synced to the disk before it returns; loads are synced at their end.
//! Each read sees all that was committed before it. scry's rows are rows of a table: they hold their key as a column, have versions, and
//! are in the audit trail with what they were before.

mod data;
mod machine;
mod phases;
mod rounds;
mod store;
mod stores;
mod table;

use clap::{Args, Parser, Subcommand};
use phases::{Phase, Task};
use rounds::Rounds;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use store::{NAMES, Outcome};

/// What scry's server uses; the stores written in Rust share it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures stores side by side.
    Run(Run),
    /// One phase of one store, in this process.
    One(One),
}

#[derive(Args)]
struct Common {
    /// Where the stores have their files: on a disk, not in memory.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Of each timed measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16, 64])]
    writers: Vec<u64>,
    /// Threads that read.
    #[arg(long, default_value_t = 2)]
    readers: u64,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    #[arg(long, value_delimiter = ',', default_values_t = NAMES.map(str::to_owned))]
    stores: Vec<String>,
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [
        Phase::Ordered, Phase::Load, Phase::Memory, Phase::Beyond, Phase::Update, Phase::Mixed, Phase::Commits,
    ])]
    phases: Vec<Phase>,
    #[arg(long, default_value_t = 1)]
    rounds: u64,
}

#[derive(Args)]
struct One {
    #[command(flatten)]
    common: Common,
    #[arg(long)]
    store: String,
    #[arg(long, value_enum)]
    phase: Phase,
    #[arg(long)]
    cache_bytes: usize,
    #[arg(long, default_value_t = 0)]
    round: u64,
    /// A control group to move into first.
    #[arg(long)]
    group: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(run) => run.start(),
        Command::One(one) => one.start(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Run {
    fn start(self) -> Outcome<()> {
        let common = self.common;
        if let Some(unknown) = self.stores.iter().find(|store| !NAMES.contains(&store.as_str())) {
            return Err(format!("no store is called {unknown}: there are {}", NAMES.join(", ")).into());
        }
        std::fs::create_dir_all(&common.folder)?;
        println!("Machine: {}.", machine::describe(&common.folder)?);
        let memory = match Rounds::can_bound_memory() {
            true => {
                "Beyond memory, the kernel bounds process and page cache to an eighth of the data and 64 MiB."
            }
            false => {
                "Beyond memory, page caches are empty at first and not bounded: this user may not make a control group."
            }
        };
        println!("{memory}");
        let rounds = Rounds {
            folder: common.folder,
            stores: self.stores,
            phases: self.phases,
            rounds: self.rounds,
            rows: common.rows,
            value_bytes: common.value_bytes,
            seconds: common.seconds,
            writers: common.writers,
            readers: common.readers,
        };
        let figures = rounds.run()?;
        println!(
            "{} rows, keys of {} bytes, values of {} bytes; medians of {} rounds, {} s for each measurement, {} threads that read.\n",
            rounds.rows,
            data::KEY_BYTES,
            rounds.value_bytes,
            rounds.rounds,
            rounds.seconds,
            rounds.readers
        );
        print!("{}", figures.table(&rounds.stores));
        Ok(())
    }
}

impl One {
    fn start(self) -> Outcome<()> {
        if let Some(group) = &self.group {
            machine::enter(group)?;
        }
        let common = self.common;
        let task = Task {
            store: self.store,
            phase: self.phase,
            folder: common.folder,
            rows: common.rows,
            value_bytes: common.value_bytes,
            duration: Duration::from_secs_f64(common.seconds),
            writers: common.writers,
            readers: common.readers,
            cache_bytes: self.cache_bytes,
            round: self.round,
        };
        task.run()
    }
}
