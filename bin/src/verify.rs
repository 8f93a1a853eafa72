//! `scry verify`: reads every byte of a data directory and says what was checked.
//!
//! Nothing is changed, and a server may be at work on the directory; what it writes meanwhile
//! looks like an unfinished tail, and what it merges away meanwhile is looked for again.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use scry_engine::CheckpointSummary;
use scry_engine::runs::inspect;
use scry_wal::Lsn;

use crate::data_dir::{DataDir, DataDirError};

/// The command's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Directory of the database
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Folder with archived segments, which are checked together with the directory's
    #[arg(long, value_name = "FOLDER")]
    pub archive: Option<PathBuf>,
}

/// Why the directory could not be checked at all. Damage is not among these.
#[derive(Debug)]
pub enum VerifyError {
    DataDir(DataDirError),
    Log(scry_wal::Error),
    Rows(scry_engine::Error),
    Mirror(scry_mirror::Error),
    Output(io::Error),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::Rows(error) => error.fmt(f),
            Self::Mirror(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write: {error}"),
        }
    }
}

impl std::error::Error for VerifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::DataDir(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Rows(error) => Some(error),
            Self::Mirror(error) => Some(error),
            Self::Output(error) => Some(error),
        }
    }
}

impl From<io::Error> for VerifyError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// What the check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Sound,
    Damaged,
}

/// Checks the directory and reports on standard output.
pub fn run(args: &Args) -> Result<Verdict, VerifyError> {
    verify(args, io::stdout().lock())
}

/// Checks the directory and reports to `out`.
pub fn verify(args: &Args, mut out: impl Write) -> Result<Verdict, VerifyError> {
    let dir = DataDir::find(&args.dir).map_err(VerifyError::DataDir)?;
    let began = Instant::now();
    let before = Known::read(&dir);
    let (log, trail) = verify_log(&dir, args.archive.as_deref(), &mut out)?;
    let rows = verify_rows(&dir, trail.begin, &mut out)?;
    let mirror = verify_mirror(&dir, &mut out)?;
    let together = verify_together(&trail, &before, &Known::read(&dir), &mut out)?;
    let (verdict, words) = match [log, rows, mirror, together].contains(&Verdict::Damaged) {
        false => (Verdict::Sound, "sound"),
        true => (Verdict::Damaged, "DAMAGED"),
    };
    writeln!(
        out,
        "{}: {words} ({:.1} s)",
        args.dir.display(),
        began.elapsed().as_secs_f64()
    )?;
    Ok(verdict)
}

/// From where to where the trail is there.
struct Trail {
    begin: Lsn,
    end: Lsn,
}

/// What is known of the trail from those who were made of it.
struct Known {
    /// How far the mirror has seen it.
    mirror: Option<Lsn>,
    /// How far the rows' last checkpoint has: the first byte that it has not seen.
    checkpoint: Option<Lsn>,
    /// From where a start reads it; `None` when that cannot be known.
    restart: Option<Lsn>,
}

impl Known {
    /// What cannot be read is told where it is checked.
    fn read(dir: &DataDir) -> Known {
        let (checkpoint, restart) = match CheckpointSummary::read(&dir.runs) {
            Ok(Some(checkpoint)) => (Some(checkpoint.at.plus(1)), Some(checkpoint.restart)),
            Ok(None) => (None, Some(Lsn::ZERO)),
            Err(_) => (None, None),
        };
        Known {
            mirror: scry_mirror::checkpoint_lsn(&dir.mirror),
            checkpoint,
            restart,
        }
    }
}

/// Rows and mirror are made of what the trail has: they cannot have come further. A server at work makes the trail longer and lets
/// its beginning go: its end is compared with what was known `before` it was read, its beginning with what was known `after`.
fn verify_together(
    trail: &Trail,
    before: &Known,
    after: &Known,
    out: &mut impl Write,
) -> Result<Verdict, VerifyError> {
    let Trail { begin, end } = trail;
    let mut verdict = Verdict::Sound;
    for (who, upto) in [
        ("the mirror", before.mirror),
        ("the last checkpoint", before.checkpoint),
    ] {
        if let Some(upto) = upto.filter(|upto| upto > end) {
            verdict = Verdict::Damaged;
            writeln!(
                out,
                "  DAMAGE: the audit trail ends at LSN {end}, and {who} has seen it up to LSN {upto}: its end is missing"
            )?;
        }
    }
    if let Some(restart) = after.restart.filter(|restart| begin > restart)
        && *end > Lsn::ZERO
    {
        verdict = Verdict::Damaged;
        writeln!(
            out,
            "  DAMAGE: the audit trail begins at LSN {begin}, and a start reads it from LSN {restart} on: segments are missing"
        )?;
    }
    Ok(verdict)
}

/// The rows' files. A trail that begins with its first byte has all that they have.
fn verify_rows(dir: &DataDir, begin: Lsn, out: &mut impl Write) -> Result<Verdict, VerifyError> {
    let mut found = inspect(&dir.runs).map_err(VerifyError::Rows)?;
    let verified = found.verified;
    match CheckpointSummary::read(&dir.runs) {
        Ok(None) => writeln!(out, "rows: no checkpoint yet; they are made from the audit trail")?,
        Ok(Some(checkpoint)) => writeln!(
            out,
            "rows: checkpoint at LSN {}, {} files, {} blocks, {} versions, {:.1} MB checked",
            checkpoint.at,
            verified.runs,
            verified.blocks,
            verified.entries,
            verified.bytes as f64 / 1e6
        )?,
        Err(error) => {
            writeln!(out, "rows: the manifest cannot be used")?;
            // Of a manifest that is whole, the checkpoint in it.
            if found.problems.is_empty() {
                found.problems.push(error);
            }
        }
    }
    if found.has_manifest {
        writeln!(
            out,
            "  checked: manifest checksum, every block's checksum, the order of keys, indexes and filters"
        )?;
    }
    for problem in &found.problems {
        writeln!(out, "  DAMAGE: {problem}")?;
    }
    if found.problems.is_empty() {
        return Ok(Verdict::Sound);
    }
    match begin {
        Lsn::ZERO => writeln!(
            out,
            "  nothing is lost: without {}, moved away while no process runs, a server makes them anew from the audit trail",
            dir.runs.display()
        )?,
        _ => writeln!(out, "  put the files back from a backup")?,
    }
    Ok(Verdict::Damaged)
}

/// The verdict, and where the trail begins and ends.
fn verify_log(
    dir: &DataDir,
    archive: Option<&Path>,
    out: &mut impl Write,
) -> Result<(Verdict, Trail), VerifyError> {
    let report = match dir.wal.is_dir() {
        true => scry_wal::verify_with(&dir.wal, archive).map_err(VerifyError::Log)?,
        false => scry_wal::Report::default(),
    };
    if report.segments == 0 && report.problem.is_none() {
        writeln!(
            out,
            "audit trail: DAMAGE: there is no segment of it in {}",
            dir.wal.display()
        )?;
        let (begin, end) = (Lsn::ZERO, Lsn::ZERO);
        return Ok((Verdict::Damaged, Trail { begin, end }));
    }
    writeln!(
        out,
        "audit trail: {} segment files, {} frames, {} records, {:.1} MB checked up to LSN {} (epoch {})",
        report.segments,
        report.frames,
        report.records,
        report.bytes as f64 / 1e6,
        report.end,
        report.epoch
    )?;
    if report.begin > Lsn::ZERO {
        writeln!(
            out,
            "  it begins at LSN {}: what stood before was recycled; the chain value written there is believed",
            report.begin
        )?;
    }
    writeln!(
        out,
        "  checked: segment headers, frame checksums, chain links, every record's form"
    )?;
    writeln!(out, "  chain value of the last frame: {}", hex(&report.chain))?;
    if let Some(torn) = &report.torn {
        writeln!(
            out,
            "  unfinished tail at LSN {}, never acknowledged: {} ({} whole frames behind it)",
            torn.lsn, torn.flaw, torn.frames_behind
        )?;
    }
    let (begin, end) = (report.begin, report.end);
    let Some(problem) = &report.problem else {
        return Ok((Verdict::Sound, Trail { begin, end }));
    };
    writeln!(out, "  DAMAGE: {}: {}", problem.place, problem.flaw)?;
    if let Some(witness) = problem.witness {
        writeln!(
            out,
            "  the frame at LSN {witness} shows that this had been acknowledged"
        )?;
    }
    writeln!(out, "  scry repair shows what can be saved")?;
    // What stands behind the damage was not looked at.
    let end = Lsn::MAX;
    Ok((Verdict::Damaged, Trail { begin, end }))
}

fn verify_mirror(dir: &DataDir, out: &mut impl Write) -> Result<Verdict, VerifyError> {
    let report = scry_mirror::verify(&dir.mirror).map_err(VerifyError::Mirror)?;
    match report.upto {
        None if report.problems.is_empty() => {
            writeln!(out, "mirror: no manifest yet; a server makes it from the rows")?;
            return Ok(Verdict::Sound);
        }
        None => writeln!(out, "mirror: the manifest cannot be used")?,
        Some(upto) => writeln!(
            out,
            "mirror: manifest at LSN {upto}, {} stores, {} segment files, {} rows, {:.1} MB checked",
            report.stores,
            report.segments,
            report.rows,
            report.bytes as f64 / 1e6
        )?,
    }
    writeln!(
        out,
        "  checked: manifest checksum, every segment's length and part checksums"
    )?;
    for problem in &report.problems {
        writeln!(out, "  DAMAGE: {problem}")?;
    }
    if report.problems.is_empty() {
        return Ok(Verdict::Sound);
    }
    writeln!(
        out,
        "  nothing is lost: a server makes a damaged mirror anew from the rows"
    )?;
    Ok(Verdict::Damaged)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
