//! `scry log`: the audit trail, record by record or for one row (`--audit`), for people and for programs.
//!
//! The directory may be closed or served by another process: only whole frames are read, and
//! nothing is written. Table and column names come from the catalog changes in the trail itself.
//! They are gathered in a first pass over the whole trail, because a bulk load's rows may stand
//! before the record that says which table they went into. Of a trail that begins later than at LSN 0 the names that were
//! given before come from the last checkpoint.

mod line;
mod names;
mod row;

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use scry_engine::{CatalogChange, CheckpointSummary};
use scry_wal::{Change, Commit, Frame, Lsn, Record, SequencePosition, TentativeId, inspect};

use crate::data_dir::{DataDir, DataDirError};
use line::{Line, Style, Who};
use names::Names;
use row::RowAudit;

/// The command's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Directory of the database
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Begin at this log position (X/X in hexadecimal, or a decimal number)
    #[arg(long, value_name = "LSN", default_value = "0")]
    pub from: Lsn,
    /// Only changes of this table
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    /// The whole story of one row: who changed it, when, from what to what
    #[arg(long, requires_all = ["table", "key"])]
    pub audit: bool,
    /// The row's key, once for each of its columns in their order; without a primary key, the row's number
    #[arg(long, value_name = "VALUE", requires = "audit", allow_hyphen_values = true)]
    pub key: Vec<String>,
    /// Folder with archived segments, for what the directory does not have any more
    #[arg(long, value_name = "FOLDER")]
    pub archive: Option<PathBuf>,
    /// End after this many lines
    #[arg(long, value_name = "LINES")]
    pub limit: Option<u64>,
    /// One JSON object a line instead of columns
    #[arg(long)]
    pub json: bool,
}

impl Args {
    fn style(&self) -> Style {
        match self.json {
            true => Style::Json,
            false => Style::Columns,
        }
    }
}

/// Why the trail could not be printed to its end.
#[derive(Debug)]
pub enum AuditError {
    DataDir(DataDirError),
    Log(scry_wal::Error),
    Record {
        frame: Lsn,
        source: scry_wal::RecordError,
    },
    Catalog {
        at: Lsn,
        source: scry_engine::CatalogChangeError,
    },
    UnknownTable {
        table: String,
        begin: Lsn,
    },
    Key {
        table: String,
        columns: Vec<String>,
    },
    Output(io::Error),
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::Record { frame, source } => write!(f, "a record of the frame at {frame}: {source}"),
            Self::Catalog { at, source } => write!(f, "the record at {at}: {source}"),
            Self::UnknownTable { table, begin } if *begin > Lsn::ZERO => write!(
                f,
                "no table \"{table}\" is known in this trail, which begins at LSN {begin}: --archive FOLDER adds what was before"
            ),
            Self::UnknownTable { table, .. } => {
                write!(f, "no table \"{table}\" was ever made in this trail")
            }
            Self::Key { table, columns } if columns.is_empty() => write!(
                f,
                "the table \"{table}\" has no primary key: give the row's number as the one --key"
            ),
            Self::Key { table, columns } => write!(
                f,
                "the key of \"{table}\" is ({}): give --key once for each, in this order",
                columns.join(", ")
            ),
            Self::Output(error) => write!(f, "cannot write: {error}"),
        }
    }
}

impl std::error::Error for AuditError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::DataDir(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Record { source, .. } => Some(source),
            Self::Catalog { source, .. } => Some(source),
            Self::UnknownTable { .. } | Self::Key { .. } => None,
            Self::Output(error) => Some(error),
        }
    }
}

impl From<scry_wal::Error> for AuditError {
    fn from(error: scry_wal::Error) -> Self {
        Self::Log(error)
    }
}

/// Prints the trail to standard output. A reader that stops reading (`| head`) is no error.
pub fn run(args: &Args) -> Result<(), AuditError> {
    let out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    match print(args, out) {
        Err(AuditError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints the trail to `out`.
pub fn print(args: &Args, out: impl Write) -> Result<(), AuditError> {
    let dir = DataDir::find(&args.dir).map_err(AuditError::DataDir)?;
    let Gathered { names, begin, end } = gather(&dir, args.archive.as_deref())?;
    if let Some(table) = args.table.as_deref()
        && !names.ever_known(table)
    {
        return Err(AuditError::UnknownTable {
            table: table.to_owned(),
            begin,
        });
    }
    if begin > args.from {
        // Not among the lines, which programs read.
        eprintln!("scry: the trail begins at LSN {begin} here; --archive FOLDER adds what was before");
    }
    // The story of a row is read from the beginning.
    let (begins, wanted) = match (args.audit, args.table.as_deref()) {
        (true, Some(table)) => (audit(args, &dir, &names, end, table, out)?, begin),
        _ => (lines(args, &dir, names, end, out)?, begin.max(args.from)),
    };
    if begins > wanted {
        eprintln!(
            "scry: the trail begins at LSN {begins} by now: what was before and is not printed was let go of"
        );
    }
    Ok(())
}

/// Prints the trail line by line; returns where it began in the end.
fn lines(args: &Args, dir: &DataDir, names: Names, end: Lsn, out: impl Write) -> Result<Lsn, AuditError> {
    let style = args.style();
    let mut printer = Printer {
        names,
        out,
        style,
        from: args.from,
        table: args.table.as_deref(),
        left: args.limit.unwrap_or(u64::MAX),
    };
    style.header(&mut printer.out).map_err(AuditError::Output)?;
    let mut frames = inspect::frames_with(&dir.wal, args.archive.as_deref(), args.from)?;
    for frame in frames.by_ref() {
        let frame = frame?;
        if printer.left == 0 || frame.end() > end {
            break;
        }
        printer.frame(&frame)?;
    }
    printer.out.flush().map_err(AuditError::Output)?;
    Ok(frames.begin())
}

/// Prints the story of one row; returns where the trail began in the end. What a candidate did to it, or a transaction wrote ahead, may
/// stand long before the commit that counts, so the trail is read from its beginning wherever the lines begin.
fn audit(
    args: &Args,
    dir: &DataDir,
    names: &Names,
    end: Lsn,
    table: &str,
    out: impl Write,
) -> Result<Lsn, AuditError> {
    let columns = names.key_columns(table);
    if args.key.len() != columns.len().max(1) {
        return Err(AuditError::Key {
            table: table.to_owned(),
            columns,
        });
    }
    let style = args.style();
    let mut story = RowAudit::new(names, out, style, table, &args.key);
    story.from = args.from;
    story.left = args.limit.unwrap_or(u64::MAX);
    style.header(&mut story.out).map_err(AuditError::Output)?;
    let mut frames = inspect::frames_with(&dir.wal, args.archive.as_deref(), Lsn::ZERO)?;
    for frame in frames.by_ref() {
        let frame = frame?;
        if story.left == 0 || frame.end() > end {
            break;
        }
        story.frame(&frame)?;
    }
    if story.printed == 0 {
        eprintln!("scry: no change of this row stands in the trail");
    }
    story.out.flush().map_err(AuditError::Output)?;
    Ok(frames.begin())
}

/// What a first pass over the trail finds.
struct Gathered {
    names: Names,
    /// Where the trail begins.
    begin: Lsn,
    /// How far it reached.
    end: Lsn,
}

/// Reads the trail for its names. When a server lets go of a part meanwhile, again: names from there are in a newer checkpoint.
fn gather(dir: &DataDir, archive: Option<&Path>) -> Result<Gathered, AuditError> {
    loop {
        let (gathered, begin) = gather_once(dir, archive)?;
        if gathered.begin == begin {
            return Ok(gathered);
        }
    }
}

/// What was gathered, and where the trail began when all was.
fn gather_once(dir: &DataDir, archive: Option<&Path>) -> Result<(Gathered, Lsn), AuditError> {
    let (mut names, mut end) = (Names::default(), Lsn::ZERO);
    let mut frames = inspect::frames_with(&dir.wal, archive, Lsn::ZERO)?;
    let begin = frames.begin();
    if begin > Lsn::ZERO {
        match CheckpointSummary::read(&dir.runs) {
            Ok(checkpoint) => {
                let definitions = checkpoint.into_iter().flat_map(|found| found.definitions);
                for (at, change) in definitions.filter(|(at, _)| *at < begin) {
                    names.apply(at, &change);
                }
            }
            // The records can be printed without.
            Err(error) => eprintln!("scry: names of before LSN {begin} are not known: {error}"),
        }
    }
    for frame in frames.by_ref() {
        let frame = frame?;
        end = frame.end();
        if !frame.has_catalog() {
            continue;
        }
        for record in frame.records() {
            let (lsn, record) = record.map_err(|source| record_error(&frame, source))?;
            if let Record::Catalog(bytes) = record {
                names.apply(lsn, &catalog_change(lsn, bytes)?);
            }
        }
    }
    Ok((Gathered { names, begin, end }, frames.begin()))
}

fn record_error(frame: &Frame, source: scry_wal::RecordError) -> AuditError {
    AuditError::Record {
        frame: frame.lsn(),
        source,
    }
}

fn catalog_change(at: Lsn, bytes: &[u8]) -> Result<CatalogChange, AuditError> {
    CatalogChange::decode(bytes).map_err(|source| AuditError::Catalog { at, source })
}

/// What a frame holds, before it is known whose it is.
enum Held<'a> {
    Change(Lsn, Option<TentativeId>, Change<'a>),
    Catalog(Lsn, &'a [u8]),
    Dropped(Lsn, TentativeId),
    Sequence(Lsn, SequencePosition),
}

struct Printer<'a, W> {
    names: Names,
    out: W,
    style: Style,
    from: Lsn,
    table: Option<&'a str>,
    /// Lines that may still be printed.
    left: u64,
}

impl<W: Write> Printer<'_, W> {
    fn frame(&mut self, frame: &Frame) -> Result<(), AuditError> {
        // A transaction's records stand together and end with its commit: they are held until
        // the commit says whose they are. Tentative records belong to no commit in sight.
        let mut held = Vec::new();
        for record in frame.records() {
            let (lsn, record) = record.map_err(|source| record_error(frame, source))?;
            match record {
                Record::Change(change) => held.push(Held::Change(lsn, None, change)),
                Record::Catalog(bytes) => held.push(Held::Catalog(lsn, bytes)),
                Record::Tentative { id, change } => held.push(Held::Change(lsn, Some(id), change)),
                Record::TentativeDrop(id) => held.push(Held::Dropped(lsn, id)),
                Record::Sequence(position) => held.push(Held::Sequence(lsn, position)),
                Record::Commit(commit) => {
                    let who = Who::of(&commit);
                    for record in held.drain(..) {
                        self.held(record, &who)?;
                    }
                    self.commit(lsn, &commit, &who)?;
                }
            }
        }
        for record in held {
            self.held(record, &Who::default())?;
        }
        Ok(())
    }

    fn held(&mut self, record: Held<'_>, who: &Who<'_>) -> Result<(), AuditError> {
        match record {
            Held::Change(lsn, tentative, change) => {
                if !self.wanted(lsn, self.names.table_name(change.store)) {
                    return Ok(());
                }
                let line = Line::change(lsn, who, tentative, &change, &self.names);
                self.print(&line)
            }
            Held::Catalog(lsn, bytes) => {
                let change = catalog_change(lsn, bytes)?;
                let table = self.names.table_of(&change).unwrap_or_default();
                match self.wanted(lsn, Some(table)) {
                    true => self.print(&Line::catalog(lsn, who, table, &change, &self.names)),
                    false => Ok(()),
                }
            }
            Held::Sequence(lsn, position) => {
                let name = self.names.sequence(position.store);
                match self.wanted(lsn, name) {
                    true => self.print(&Line::sequence(lsn, name.unwrap_or("?"), &position)),
                    false => Ok(()),
                }
            }
            Held::Dropped(lsn, id) => match self.wanted(lsn, None) {
                true => self.print(&Line::dropped(lsn, id)),
                false => Ok(()),
            },
        }
    }

    fn commit(&mut self, lsn: Lsn, commit: &Commit<'_>, who: &Who<'_>) -> Result<(), AuditError> {
        match self.wanted(lsn, None) {
            true => self.print(&Line::commit(lsn, who, commit)),
            false => Ok(()),
        }
    }

    fn wanted(&self, lsn: Lsn, table: Option<&str>) -> bool {
        lsn >= self.from && self.table.is_none_or(|wanted| table == Some(wanted))
    }

    fn print(&mut self, line: &Line) -> Result<(), AuditError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(());
        };
        self.left = left;
        self.style.write(line, &mut self.out).map_err(AuditError::Output)
    }
}
