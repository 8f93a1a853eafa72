//! The `scry` program: one server and the tools that go with it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use scry_server::serve;

// Rows and messages are many small allocations made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A transactional server whose analytics run on a columnar mirror.
#[derive(Debug, Parser)]
#[command(name = "scry", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a database over the PostgreSQL protocol
    Serve(serve::Args),
}

fn main() -> ExitCode {
    let result: Result<ExitCode, Box<dyn std::error::Error>> = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
    };
    result.unwrap_or_else(|error| {
        eprintln!("scry: {error}");
        ExitCode::FAILURE
    })
}
