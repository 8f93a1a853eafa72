//! `cargo run --release -p scry-fuzz -- TARGET --seconds N --seed S`: attacks for as long as wanted.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use scry_fuzz::runner::{self, Finding, Present};
use scry_fuzz::target::Entry;
use scry_fuzz::targets::TARGETS;

/// An input that takes longer is a finding too.
const HANG: Duration = Duration::from_secs(60);

/// Statements are parsed and planned on a stack as large as the server's.
const STACK_BYTES: usize = 8 << 20;

/// Attacks scry with bytes made from a seed
#[derive(Debug, Parser)]
#[command(name = "scry-fuzz", version)]
struct Args {
    /// What to attack: a name from --list, or all of them in turn
    #[arg(default_value = "all")]
    target: String,
    /// How long, all targets together
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where the inputs come from; another run with this seed tries the same ones [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Try the bytes of this file only, as a run that failed has written them
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Where the input of a failure is written
    #[arg(long, value_name = "DIR", default_value = ".")]
    save: PathBuf,
    /// Show the targets and what must hold for each
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for entry in TARGETS {
            println!("{:<10} {}", entry.name, entry.promise);
        }
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&'static Entry> = TARGETS
        .iter()
        .filter(|entry| args.target == "all" || args.target == entry.name)
        .collect();
    if chosen.is_empty() {
        eprintln!("scry-fuzz: there is no target {}; --list shows them", args.target);
        return ExitCode::FAILURE;
    }
    let worker = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || work(&args, &chosen));
    match worker.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        _ => ExitCode::FAILURE,
    }
}

fn work(args: &Args, chosen: &[&'static Entry]) -> ExitCode {
    if let Some(path) = &args.input {
        return match std::fs::read(path) {
            Ok(input) => again(chosen, &input),
            Err(error) => {
                eprintln!("scry-fuzz: cannot read {}: {error}", path.display());
                ExitCode::FAILURE
            }
        };
    }
    let seed = args.seed.unwrap_or_else(seed_from_clock);
    let each = Duration::from_secs(args.seconds) / chosen.len() as u32;
    for entry in chosen {
        println!("{}: seed {seed}, {:.0} s", entry.name, each.as_secs_f64());
        let present = Present::default();
        watch(entry, seed, present.clone(), args.save.clone());
        let end = Instant::now() + each;
        match runner::attack(entry, seed, &present, |_| Instant::now() < end) {
            Ok(summary) => println!(
                "{}: {} inputs, {} different outcomes, nothing found",
                entry.name, summary.inputs, summary.outcomes
            ),
            Err(finding) => {
                report(entry, seed, &finding, &args.save);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn again(chosen: &[&'static Entry], input: &[u8]) -> ExitCode {
    for entry in chosen {
        if let Err(message) = runner::repeat(entry, input) {
            println!("{}: BROKEN: {message}", entry.name);
            return ExitCode::FAILURE;
        }
        println!("{}: holds", entry.name);
    }
    ExitCode::SUCCESS
}

/// Ends the process when an input does not end.
fn watch(entry: &'static Entry, seed: u64, present: Present, save: PathBuf) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if let Some(input) = present.older_than(HANG) {
                let message = format!("an input has been at work for more than {} s", HANG.as_secs());
                let finding = Finding {
                    input,
                    message,
                    number: 0,
                };
                report(entry, seed, &finding, &save);
                std::process::exit(1);
            }
        }
    });
}

fn report(entry: &Entry, seed: u64, finding: &Finding, save: &std::path::Path) {
    let path = save.join(format!("{}-{seed}-{}.input", entry.name, finding.number));
    println!("{}: BROKEN: {}", entry.name, finding.message);
    println!("  {}", entry.promise);
    println!(
        "  seed {seed}, input number {}: {}",
        finding.number,
        finding.input.escape_ascii()
    );
    match std::fs::write(&path, &finding.input) {
        Ok(()) => println!(
            "  again: cargo run --release -p scry-fuzz -- {} --input {}",
            entry.name,
            path.display()
        ),
        Err(error) => println!("  the input could not be written to {}: {error}", path.display()),
    }
}

fn seed_from_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64
}
