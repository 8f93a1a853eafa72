//! `scry verify`: reads every byte of a data directory and says what was checked.
//!
//! Nothing is changed, and a server may be at work on the directory; what it writes meanwhile
//! looks like an unfinished tail.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

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
    Mirror(scry_mirror::Error),
    Output(io::Error),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
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
    let (log, end) = verify_log(&dir, args.archive.as_deref(), &mut out)?;
    let (mirror, upto) = verify_mirror(&dir, &mut out)?;
    let together = verify_together(end, upto, &mut out)?;
    let (verdict, words) = match [log, mirror, together].contains(&Verdict::Damaged) {
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

/// The mirror is made of what the trail has: it cannot have come further. Both were read one after the other, so a
/// server at work in between makes the trail longer, if anything.
fn verify_together(end: Lsn, upto: Option<Lsn>, out: &mut impl Write) -> Result<Verdict, VerifyError> {
    match upto {
        Some(upto) if upto > end => {
            writeln!(
                out,
                "  DAMAGE: the audit trail ends at LSN {end}, and the mirror has seen it up to LSN {upto}: its end is missing"
            )?;
            Ok(Verdict::Damaged)
        }
        _ => Ok(Verdict::Sound),
    }
}

/// The verdict, and where the trail ends.
fn verify_log(
    dir: &DataDir,
    archive: Option<&Path>,
    out: &mut impl Write,
) -> Result<(Verdict, Lsn), VerifyError> {
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
        return Ok((Verdict::Damaged, Lsn::ZERO));
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
    let Some(problem) = &report.problem else {
        return Ok((Verdict::Sound, report.end));
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
    Ok((Verdict::Damaged, Lsn::MAX))
}

/// The verdict, and how much of the trail the mirror's files hold.
fn verify_mirror(dir: &DataDir, out: &mut impl Write) -> Result<(Verdict, Option<Lsn>), VerifyError> {
    let report = scry_mirror::verify(&dir.mirror).map_err(VerifyError::Mirror)?;
    match report.upto {
        None if report.problems.is_empty() => {
            writeln!(out, "mirror: no manifest yet; a server makes it from the rows")?;
            return Ok((Verdict::Sound, report.upto));
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
        return Ok((Verdict::Sound, report.upto));
    }
    writeln!(
        out,
        "  nothing is lost: a server makes a damaged mirror anew from the rows"
    )?;
    Ok((Verdict::Damaged, report.upto))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
