//! The data directory: whose it is, what it is, and that only one process uses it.
//!
//! `SCRY` says that this is a scry directory and in which format; it is written once, before
//! anything else is created. `LOCK` is locked as long as a server runs and holds its process id
//! for people; the lock itself is the kernel's and ends with the process, however it ends.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The format that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;
const MARKER: &str = "SCRY";
const MARKER_NEW: &str = "SCRY.new";
const LOCK: &str = "LOCK";
/// First words of the marker; the format number follows.
const MARKER_TEXT: &str = "scry data directory, format ";
/// A marker is one short line; anything longer is not one.
const MARKER_BYTES_MAX: u64 = 256;

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// Another process serves it.
    Held { dir: PathBuf, pid: Option<u32> },
    /// It holds something else.
    NotScry { dir: PathBuf, found: String },
    /// A newer program wrote it.
    Newer { dir: PathBuf, found: u32 },
    /// The marker is there but cannot be understood.
    Marker { path: PathBuf },
    /// There is no such directory (only reading it was asked for).
    Missing { dir: PathBuf },
    Io {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { dir, pid } => {
                write!(f, "{} is in use by another scry process", dir.display())?;
                pid.map_or(Ok(()), |pid| write!(f, " (process {pid})"))
            }
            Self::NotScry { dir, found } => write!(
                f,
                "{} is not a scry directory: it holds {found:?} but no {MARKER} file; name an empty or a new directory",
                dir.display()
            ),
            Self::Newer { dir, found } => write!(
                f,
                "{} has format {found}, written by a newer scry; this one reads up to format {FORMAT}",
                dir.display()
            ),
            Self::Marker { path } => {
                write!(
                    f,
                    "{} does not say which format the directory has",
                    path.display()
                )
            }
            Self::Missing { dir } => write!(f, "{} does not exist", dir.display()),
            Self::Io { path, doing, source } => {
                write!(f, "cannot {doing} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for DataDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A data directory that this process holds until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes hold of `path`, making it a scry directory when it is empty or not there.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.map_err(|source| io_error(path, "create", source))?;
        // Looked at before anything is written: a foreign directory stays as it is.
        let new = match format(path)? {
            Some(_) => false,
            None => match foreign_entry(path)? {
                None => true,
                Some(found) => {
                    return Err(DataDirError::NotScry {
                        dir: path.into(),
                        found,
                    });
                }
            },
        };
        let lock = lock(path)?;
        if new {
            mark(path)?;
        }
        Ok(Self {
            path: path.into(),
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that `path` is a scry directory this program can read, without taking hold of it.
    pub fn check(path: &Path) -> Result<(), DataDirError> {
        if let Some(_format) = format(path)? {
            return Ok(());
        }
        match path.is_dir() {
            false => Err(DataDirError::Missing { dir: path.into() }),
            true => Err(DataDirError::NotScry {
                dir: path.into(),
                found: foreign_entry(path)?.unwrap_or_else(|| "nothing".to_owned()),
            }),
        }
    }
}

/// The directory's format, `None` without a marker.
fn format(dir: &Path) -> Result<Option<u32>, DataDirError> {
    let path = dir.join(MARKER);
    let mut text = String::new();
    match File::open(&path) {
        Ok(file) => match file.take(MARKER_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(DataDirError::Marker { path });
            }
            Err(source) => return Err(io_error(&path, "read", source)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(&path, "open", source)),
    }
    let found = text
        .strip_prefix(MARKER_TEXT)
        .and_then(|rest| rest.trim_end().parse().ok());
    match found {
        Some(found) if found > FORMAT => Err(DataDirError::Newer {
            dir: dir.into(),
            found,
        }),
        Some(found) if found > 0 => Ok(Some(found)),
        _ => Err(DataDirError::Marker { path }),
    }
}

/// The name of an entry that a directory on its way to becoming ours would not have.
fn foreign_entry(dir: &Path) -> Result<Option<String>, DataDirError> {
    let entries = fs::read_dir(dir).map_err(|source| io_error(dir, "list", source))?;
    for entry in entries {
        let entry = entry.map_err(|source| io_error(dir, "list", source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !matches!(name.as_str(), LOCK | MARKER_NEW | "lost+found") {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| io_error(&path, "open", source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file
                .read_to_string(&mut text)
                .ok()
                .and_then(|_| text.trim().parse().ok());
            return Err(DataDirError::Held { dir: dir.into(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(io_error(&path, "lock", source)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|source| io_error(&path, "write", source))?;
    Ok(file)
}

/// Writes the marker so that it is there whole or not at all.
fn mark(dir: &Path) -> Result<(), DataDirError> {
    let (path, new) = (dir.join(MARKER), dir.join(MARKER_NEW));
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{MARKER_TEXT}{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| io_error(&path, "write", source))
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> DataDirError {
    DataDirError::Io {
        path: path.into(),
        doing,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("temporary directory")
    }

    #[test]
    fn a_new_directory_becomes_ours_and_opens_again() {
        let parent = temporary();
        let dir = parent.path().join("a/b");
        assert!(matches!(DataDir::check(&dir), Err(DataDirError::Missing { .. })));
        drop(DataDir::open(&dir).expect("created"));
        drop(DataDir::open(&dir).expect("opened"));
        DataDir::check(&dir).expect("a scry directory");
    }

    #[test]
    fn a_second_holder_is_refused_and_told_the_process() {
        let dir = temporary();
        let _held = DataDir::open(dir.path()).expect("opened");
        match DataDir::open(dir.path()) {
            Err(DataDirError::Held { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_foreign_directory_is_refused_and_left_as_it_is() {
        let dir = temporary();
        fs::write(dir.path().join("thesis.tex"), "text").expect("written");
        match DataDir::open(dir.path()) {
            Err(DataDirError::NotScry { found, .. }) => assert_eq!(found, "thesis.tex"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn newer_and_unreadable_formats_are_told_apart() {
        let dir = temporary();
        let marker = dir.path().join(MARKER);
        fs::write(&marker, format!("{MARKER_TEXT}2\n")).expect("written");
        assert!(matches!(
            DataDir::open(dir.path()),
            Err(DataDirError::Newer { found: 2, .. })
        ));
        for text in [&b""[..], b"scry data directory, format ", b"\xff\xfe", b"hello"] {
            fs::write(&marker, text).expect("written");
            assert!(matches!(
                DataDir::open(dir.path()),
                Err(DataDirError::Marker { .. })
            ));
        }
    }

    #[test]
    fn a_start_that_was_cut_off_before_the_marker_can_be_repeated() {
        let dir = temporary();
        fs::write(dir.path().join(LOCK), "").expect("written");
        fs::write(dir.path().join(MARKER_NEW), "scry").expect("written");
        DataDir::open(dir.path()).expect("opened");
    }
}
