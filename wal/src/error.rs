//! What can go wrong with the log, with its context, and what the caller does about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::consumers::Dropped;
use crate::format::segment_name;
use crate::ids::Lsn;
use crate::record::RecordError;

/// An error from outside, carried through recovery.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the caller does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Refuse this request and try again later; nothing was lost.
    Retry,
    /// Refuse; trying again does not help until somebody acts.
    Refuse,
    /// Bytes on disk are not what was written there.
    Corrupt,
}

/// Where in which file, and at which place of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The segment file.
    pub file: PathBuf,
    /// Bytes from its beginning.
    pub offset: u64,
    /// The position in the log.
    pub lsn: Lsn,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at offset {} (LSN {})",
            self.file.display(),
            self.offset,
            self.lsn
        )
    }
}

/// Why the bytes at a place are not the frame or segment header that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing but zeros: never written.
    Zeros,
    /// The segment's file was another one before, and nothing was written into it since.
    Recycled,
    /// The magic number of a frame or header is not there.
    Magic(u32),
    /// A length that cannot be.
    Length(u64),
    /// The checksum differs from the one computed.
    Checksum {
        /// As written.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// It was written for another place of the log.
    Misplaced(Lsn),
    /// It belongs to another database.
    Foreign,
    /// It was written before an earlier recovery cut the log here.
    OldEpoch {
        /// Its epoch.
        found: u64,
        /// The epoch of what stands before it.
        current: u64,
    },
    /// It does not continue the chain of what stands before it.
    ChainLink,
    /// Its own chain value is not the hash of its content.
    ChainHash,
    /// The bytes that fill up the write unit are not zero.
    Padding,
    /// Unknown or contradictory flags.
    Flags(u32),
    /// It claims that more was durable than stands before it.
    Watermark(Lsn),
    /// It holds another number of records than it says.
    RecordCount {
        /// How many there are.
        found: u32,
        /// How many it says.
        stated: u32,
    },
    /// A record inside is malformed.
    Record(RecordError),
    /// The file has another size than a segment of this log.
    FileSize {
        /// Its size in bytes.
        found: u64,
        /// The size of a segment.
        expected: u64,
    },
    /// A segment of the log is not there.
    MissingSegment,
    /// The file is not named as a segment is, or lies where no segment begins.
    FileName,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeros => f.write_str("nothing was written here"),
            Self::Recycled => f.write_str("nothing was written here since the file was another segment"),
            Self::Magic(found) => write!(f, "no frame begins here (magic number {found:#010x})"),
            Self::Length(found) => write!(f, "impossible length of {found} bytes"),
            Self::Checksum { found, computed } => {
                write!(f, "checksum {found:#010x} written, {computed:#010x} computed")
            }
            Self::Misplaced(lsn) => write!(f, "the bytes belong to LSN {lsn}"),
            Self::Foreign => f.write_str("the bytes belong to another database"),
            Self::OldEpoch { found, current } => {
                write!(f, "remains of epoch {found}, the log is in epoch {current}")
            }
            Self::ChainLink => {
                f.write_str("the chain is broken: this does not continue what stands before it")
            }
            Self::ChainHash => {
                f.write_str("the chain is broken: the content does not have the chain value written")
            }
            Self::Padding => f.write_str("the padding is not zero"),
            Self::Flags(flags) => write!(f, "impossible flags {flags:#x}"),
            Self::Watermark(lsn) => write!(f, "impossible watermark {lsn}"),
            Self::RecordCount { found, stated } => {
                write!(f, "the frame holds {found} records and says {stated}")
            }
            Self::Record(error) => write!(f, "malformed record: {error}"),
            Self::FileSize { found, expected } => {
                write!(
                    f,
                    "the file has {found} bytes, a segment of this log has {expected}"
                )
            }
            Self::MissingSegment => f.write_str("the segment is missing"),
            Self::FileName => f.write_str("a .wal file that is no segment of this log"),
        }
    }
}

/// An error of the log.
#[derive(Debug)]
pub enum Error {
    /// The file system refused something outside the write path; the log as such is as it was.
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There is no room for the next segment. Appends are refused until there is; nothing is lost.
    DiskFull {
        /// The segment that could not be prepared.
        path: PathBuf,
    },
    /// A write failed earlier. Nothing is acknowledged any more; durable frames can still be read.
    Poisoned {
        /// What failed.
        reason: Arc<str>,
    },
    /// The log was closed.
    Closed,
    /// The bytes do not fit into one frame.
    TooLong {
        /// How many there are.
        bytes: usize,
        /// How many fit.
        limit: usize,
    },
    /// An option has an impossible value.
    Options {
        /// Which one, and what it may be.
        what: &'static str,
    },
    /// The log was written by a newer version of this program.
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest that this program knows.
        supported: u32,
    },
    /// Acknowledged data is damaged. No byte was changed.
    Damaged {
        /// Where.
        place: Place,
        /// What is wrong.
        flaw: Flaw,
        /// The LSN of a later frame that shows that this place had been durable.
        witness: Option<Lsn>,
    },
    /// The log ends earlier than it did: [`crate::LogOptions::durable_before`]. No byte was changed.
    EndMissing {
        /// The log's folder.
        path: PathBuf,
        /// Where it ends.
        end: Lsn,
        /// What was before this was durable.
        durable: Lsn,
    },
    /// The first segments that are needed are not there, and no [`crate::LogOptions::restart`] says that they are not
    /// needed. No byte was changed.
    BeginMissing {
        /// The log's folder.
        path: PathBuf,
        /// Where the oldest segment begins that is there.
        begin: Lsn,
        /// From where the log is needed.
        restart: Lsn,
    },
    /// The log does not reach back to this position any more: its segments were recycled.
    Gone {
        /// The position.
        lsn: Lsn,
        /// The oldest position that can be read.
        begin: Lsn,
    },
    /// The consumer had fallen too far behind and was dropped: what it needs may be gone.
    ConsumerDropped {
        /// Its name.
        name: String,
        /// From where it needed the log.
        needed: Lsn,
        /// When that was.
        dropped: Dropped,
    },
    /// Something cannot be done for this consumer.
    Consumer {
        /// Its name.
        name: String,
        /// Why not.
        what: &'static str,
    },
    /// The file that says who needs the log is damaged. No byte was changed.
    ConsumersDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: Flaw,
    },
    /// The position is not one at which a frame begins.
    NotAFrame {
        /// The position.
        lsn: Lsn,
    },
    /// The consumer of recovery refused a frame.
    Replay {
        /// The frame.
        lsn: Lsn,
        /// What it said.
        source: BoxError,
    },
}

impl Error {
    /// What the caller does now.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::DiskFull { .. } => ErrorClass::Retry,
            Self::Damaged { .. }
            | Self::EndMissing { .. }
            | Self::BeginMissing { .. }
            | Self::ConsumersDamaged { .. } => ErrorClass::Corrupt,
            Self::Io { .. }
            | Self::Poisoned { .. }
            | Self::Closed
            | Self::TooLong { .. }
            | Self::Options { .. }
            | Self::NewerFormat { .. }
            | Self::Gone { .. }
            | Self::ConsumerDropped { .. }
            | Self::Consumer { .. }
            | Self::NotAFrame { .. }
            | Self::Replay { .. } => ErrorClass::Refuse,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, source } => {
                write!(f, "could not {action} {}: {source}", path.display())
            }
            Self::DiskFull { path } => {
                write!(f, "no space left for the next log segment {}", path.display())
            }
            Self::Poisoned { reason } => {
                write!(f, "the log stopped accepting writes: {reason}")
            }
            Self::Closed => f.write_str("the log is closed"),
            Self::TooLong { bytes, limit } => {
                write!(
                    f,
                    "{bytes} bytes of log records do not fit into one frame of at most {limit}"
                )
            }
            Self::Options { what } => write!(f, "log options: {what}"),
            Self::NewerFormat {
                path,
                found,
                supported,
            } => write!(
                f,
                "{} has log format {found}, this program knows formats up to {supported}: use a newer scry",
                path.display()
            ),
            Self::Damaged { place, flaw, witness } => {
                write!(f, "the log is damaged: {place}: {flaw}")?;
                if let Some(witness) = witness {
                    write!(
                        f,
                        "; the frame at LSN {witness} shows that this had been acknowledged"
                    )?;
                }
                f.write_str(". Nothing was changed. Run `scry repair` to see what can be saved")
            }
            Self::EndMissing { path, end, durable } => write!(
                f,
                "the log in {} ends at LSN {end}, and reached LSN {durable} before: its end is missing. Nothing was changed",
                path.display()
            ),
            Self::BeginMissing { path, begin, restart } => write!(
                f,
                "the log in {} begins with segment {} at LSN {begin}, and is needed from LSN {restart} on: the segments before that are missing. Nothing was changed",
                path.display(),
                segment_name(begin.get())
            ),
            Self::Gone { lsn, begin } => write!(
                f,
                "the log begins at LSN {begin} by now: what stood at LSN {lsn} is gone"
            ),
            Self::ConsumerDropped {
                name,
                needed,
                dropped,
            } => write!(
                f,
                "the consumer \"{name}\" was dropped when the log had come to LSN {}: it still needed LSN {needed}, further back than is kept for consumers",
                dropped.at
            ),
            Self::Consumer { name, what } => write!(f, "consumer \"{name}\": {what}"),
            Self::ConsumersDamaged { path, flaw } => write!(
                f,
                "the list of the log's consumers {} is damaged: {flaw}. Nothing was changed. Without the file nobody is known to need the log",
                path.display()
            ),
            Self::NotAFrame { lsn } => write!(f, "no frame begins at LSN {lsn}"),
            Self::Replay { lsn, source } => write!(f, "replay of the frame at LSN {lsn} failed: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Replay { source, .. } => Some(source.as_ref()),
            Self::Damaged {
                flaw: Flaw::Record(error),
                ..
            } => Some(error),
            _ => None,
        }
    }
}
