//! The `scry` program: one server and the tools that go with it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use scry_server::verify::Verdict;
use scry_server::{audit, backup, demo, repair, serve, verify};

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
    /// Show it at work: orders, an analyst, a crash, and the proof that nothing was lost
    Demo(demo::Args),
    /// Print the audit trail record by record
    Log(audit::Args),
    /// Check every checksum and chain link of a data directory
    Verify(verify::Args),
    /// Copy a database into a folder, beside its server or while it is stopped
    Backup(backup::BackupArgs),
    /// Make a new database of a backup, at any of its states
    Restore(backup::RestoreArgs),
    /// Show what is left of a damaged audit trail, and make a new database of it
    Repair(repair::Args),
}

fn main() -> ExitCode {
    let result: Result<ExitCode, Box<dyn std::error::Error>> = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Demo(args) => demo::run(&args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Log(args) => audit::run(&args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Backup(args) => backup::run_backup(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::Restore(args) => backup::run_restore(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::Repair(args) => repair::run(&args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Verify(args) => verify::run(&args)
            .map(|verdict| match verdict {
                Verdict::Sound => ExitCode::SUCCESS,
                Verdict::Damaged => ExitCode::FAILURE,
            })
            .map_err(Into::into),
    };
    result.unwrap_or_else(|error| {
        eprintln!("scry: {error}");
        ExitCode::FAILURE
    })
}
