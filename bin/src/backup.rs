//! `scry backup` and `scry restore`: a copy of a data directory beside its server, and a new directory made of one at any of its states.

use std::path::PathBuf;
use std::str::FromStr;

use scry_engine::backup::{RestoreTo, back_up, restore};
use scry_engine::{DataType, Error, Value};
use scry_sql::types::datetime::write_timestamp;
use scry_sql::types::{InputContext, TimeZone, parse_text};
use scry_wal::{Lsn, Micros};

/// The arguments of `scry backup`.
#[derive(Debug, Clone, clap::Args)]
pub struct BackupArgs {
    /// Directory of the database; its server may be running
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Folder for backups: what an earlier one has there is not copied again
    #[arg(long, value_name = "FOLDER")]
    pub to: PathBuf,
    /// Backups to keep there, with this one
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub keep: u16,
}

/// The arguments of `scry restore`.
#[derive(Debug, Clone, clap::Args)]
pub struct RestoreArgs {
    /// Folder with backups
    #[arg(long, value_name = "FOLDER")]
    pub from: PathBuf,
    /// Directory to make: empty, or not there
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// The state to restore: an LSN, or a timestamp, in UTC unless it says otherwise; without it, the newest
    #[arg(long, value_name = "LSN|TIMESTAMP")]
    pub to: Option<Point>,
    /// Folder to which the audit trail was archived: it goes on there behind the backup's end
    #[arg(long, value_name = "FOLDER")]
    pub archive: Option<PathBuf>,
}

/// A state, as it is written on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Point(RestoreTo);

impl FromStr for Point {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Point, Self::Err> {
        if let Ok(lsn) = text.parse::<Lsn>() {
            return Ok(Point(RestoreTo::Lsn(lsn)));
        }
        let context = InputContext {
            zone: &TimeZone::utc(),
            now: Micros::now().get(),
        };
        match parse_text(text, &DataType::TimestampTz, &context) {
            Ok(Value::TimestampTz(time)) => Ok(Point(RestoreTo::Time(Micros::new(time)))),
            _ => Err("neither an LSN, such as 0/1A2B3C, nor a timestamp, such as '2026-05-01 12:00:00'"),
        }
    }
}

/// Makes a backup and says what it has.
///
/// # Errors
/// What `back_up` says.
pub fn run_backup(args: &BackupArgs) -> Result<(), Error> {
    let done = back_up(&args.dir, &args.to, usize::from(args.keep), Micros::now())?;
    println!(
        "backup {} holds the states from LSN {} to {} in {} bytes; {} of rows and {} of the audit trail were copied",
        done.number, done.begin, done.end, done.bytes, done.run_bytes, done.log_bytes
    );
    Ok(())
}

/// Makes a data directory of a backup and says which state it has.
///
/// # Errors
/// What `restore` says.
pub fn run_restore(args: &RestoreArgs) -> Result<(), Error> {
    let to = args.to.map_or(RestoreTo::End, |point| point.0);
    let restored = restore(&args.from, &args.into, to, args.archive.as_deref())?;
    match restored.last {
        Some((lsn, time)) => {
            let mut at = Vec::new();
            write_timestamp(time.get(), &mut at);
            println!(
                "{} has the state at LSN {lsn}, committed at {} UTC",
                args.into.display(),
                String::from_utf8_lossy(&at)
            );
        }
        None => println!("{} is an empty database", args.into.display()),
    }
    Ok(())
}
