//! `scry repair`: what is left of a database whose audit trail is damaged, and a new directory made of it.
//!
//! The damaged directory is only read. Of a trail whose first segments are gone, what they amounted to is in the rows' files as of the last
//! checkpoint: these are copied, too, if that checkpoint lies before the damage. The mirror is not copied: a server makes it anew.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use scry_engine::CheckpointSummary;
use scry_sql::types::datetime::write_timestamp;
use scry_wal::storage::disk::sync_folder;
use scry_wal::{Lsn, Micros, Salvage, Tally, salvage};

use crate::data_dir::{DataDir, DataDirError};

/// The command's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Directory of the damaged database; it is not changed
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Make a new database of everything that stands before the damage
    #[arg(long, value_name = "NEW DIR")]
    pub into: Option<PathBuf>,
}

/// Why nothing was repaired.
#[derive(Debug)]
pub enum RepairError {
    DataDir(DataDirError),
    Log(scry_wal::Error),
    /// A server is at work on the directory.
    InUse(PathBuf),
    /// Where the new database would go something is already.
    Exists(PathBuf),
    /// Nothing stands before the damage.
    NothingLeft,
    /// The trail begins at `begin`, and there is no checkpoint that what stands before the damage could go on from.
    NoCheckpoint {
        begin: Lsn,
        /// The one that there is.
        at: Option<Lsn>,
    },
    Rows(scry_engine::Error),
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    Output(io::Error),
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::InUse(dir) => write!(
                f,
                "{} is in use by another process: stop the server first",
                dir.display()
            ),
            Self::Exists(dir) => write!(
                f,
                "{} is there already: name a directory that is not",
                dir.display()
            ),
            Self::NoCheckpoint { begin, at: None } => write!(
                f,
                "the audit trail begins at LSN {begin}, and there is no checkpoint of what was before: no new database was made"
            ),
            Self::NoCheckpoint { begin, at: Some(at) } => write!(
                f,
                "the audit trail begins at LSN {begin}, and the last checkpoint, at LSN {at}, lies behind the damage: no new database \
                 was made. With the archived segments of before in the folder of the trail one can be made"
            ),
            Self::Rows(error) => error.fmt(f),
            Self::NothingLeft => f.write_str("nothing stands before the damage: no new database was made"),
            Self::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Output(error) => write!(f, "cannot write: {error}"),
        }
    }
}

impl std::error::Error for RepairError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::DataDir(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Io { source, .. } | Self::Output(source) => Some(source),
            Self::Rows(error) => Some(error),
            Self::InUse(_) | Self::Exists(_) | Self::NothingLeft | Self::NoCheckpoint { .. } => None,
        }
    }
}

impl From<io::Error> for RepairError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<scry_wal::Error> for RepairError {
    fn from(error: scry_wal::Error) -> Self {
        Self::Log(error)
    }
}

/// Looks, reports on standard output, and makes the new directory if one is wanted.
pub fn run(args: &Args) -> Result<(), RepairError> {
    repair(args, io::stdout().lock())
}

/// As [`run`], reporting to `out`.
pub fn repair(args: &Args, mut out: impl Write) -> Result<(), RepairError> {
    let dir = DataDir::find(&args.dir).map_err(RepairError::DataDir)?;
    let _held = hold(&args.dir)?;
    let Some(found) = salvage(&dir.wal)? else {
        writeln!(
            out,
            "the audit trail of {} is not damaged: there is nothing to repair",
            args.dir.display()
        )?;
        writeln!(
            out,
            "a server cuts an unfinished tail off by itself, and makes a damaged mirror anew"
        )?;
        return Ok(());
    };
    writeln!(out, "damaged: {}: {}", found.problem.place, found.problem.flaw)?;
    writeln!(out, "  before it, and good: {}", told(&found.before))?;
    writeln!(
        out,
        "  behind it, whole but without what they build on: {}",
        told(&found.behind)
    )?;
    match &args.into {
        Some(into) => make(&args.dir, &dir, &found, into, &mut out),
        None => {
            writeln!(
                out,
                "nothing was changed. To make a new database of what stands before the damage:"
            )?;
            writeln!(out, "  scry repair {} --into NEW_DIR", args.dir.display())?;
            Ok(())
        }
    }
}

/// Keeps servers out while the directory is read, and is kept out by one that runs.
fn hold(dir: &Path) -> Result<Option<File>, RepairError> {
    let path = dir.join("LOCK");
    let failed = |source| RepairError::Io {
        doing: "lock",
        path: path.clone(),
        source,
    };
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(RepairError::InUse(dir.into())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn make(
    dir: &Path,
    parts: &DataDir,
    found: &Salvage,
    into: &Path,
    out: &mut impl Write,
) -> Result<(), RepairError> {
    if found.before.frames == 0 {
        return Err(RepairError::NothingLeft);
    }
    if into.exists() {
        return Err(RepairError::Exists(into.into()));
    }
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| RepairError::Io { doing, path, source }
    };
    let rows = rows_before(parts, found)?;
    fs::create_dir_all(into).map_err(failed("create", into))?;
    if !rows.is_empty() {
        let (from, folder) = (&parts.runs, into.join(scry_engine::RUNS));
        fs::create_dir(&folder).map_err(failed("create", &folder))?;
        for name in rows {
            let to = folder.join(&name);
            fs::copy(from.join(&name), &to)
                .and_then(|_| File::open(&to)?.sync_all())
                .map_err(failed("write", &to))?;
        }
        sync_folder(&folder).map_err(failed("sync", &folder))?;
    }
    found.copy(&parts.wal, &into.join(scry_engine::WAL))?;
    // Last, so that a directory that was not finished is none.
    let format = into.join(DataDir::FORMAT);
    fs::copy(dir.join(DataDir::FORMAT), &format).map_err(failed("write", &format))?;
    File::open(&format)
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_folder(into))
        .map_err(failed("sync", into))?;
    writeln!(
        out,
        "made {}: {}; {} is as it was",
        into.display(),
        told(&found.before),
        dir.display()
    )?;
    Ok(())
}

/// The files of rows that the part before the damage goes on from: none when it begins with the first byte.
fn rows_before(parts: &DataDir, found: &Salvage) -> Result<Vec<String>, RepairError> {
    let begin = found.begin();
    if begin == Lsn::ZERO {
        return Ok(Vec::new());
    }
    let checkpoint = CheckpointSummary::read(&parts.runs).map_err(RepairError::Rows)?;
    match checkpoint {
        Some(checkpoint) if checkpoint.restart >= begin && checkpoint.at < found.end() => {
            CheckpointSummary::files(&parts.runs).map_err(RepairError::Rows)
        }
        found => Err(RepairError::NoCheckpoint {
            begin,
            at: found.map(|checkpoint| checkpoint.at),
        }),
    }
}

fn told(tally: &Tally) -> String {
    let mut text = format!("{} commits in {} frames", tally.commits, tally.frames);
    if let Some((first, last)) = tally.times {
        text.push_str(&format!(", from {} to {} UTC", time(first), time(last)));
    }
    text
}

fn time(micros: Micros) -> String {
    let mut text = Vec::new();
    write_timestamp(micros.get(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
