//! The data directory: whose it is, which format it has, and that only one process has it open.
//!
//! | name | content |
//! |---|---|
//! | `LOCK` | empty; locked (`flock`) by the process that has the directory open |
//! | `FORMAT` | `scry data directory\nformat 1\n`; locked, shared, by processes that copy the log beside the one that has the directory open: the *hold* |
//! | `wal/` | the log |
//! | `runs/` | the rows that are not in the log alone, see `runs` |

use crate::error::Error;
use crate::runs::{Runs, RunsOptions};
use scry_wal::storage::disk::{make_folders, sync_folder};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A process that is about to end, and a copy of one that is about to become another program, hold on to the lock for a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// The format that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The file by which a directory is locked.
pub(crate) const LOCK: &str = "LOCK";

/// The folder of the rows' files in a data directory.
pub const RUNS: &str = "runs";

/// The folder of the log's segments in a data directory.
pub const WAL: &str = "wal";

const MAGIC: &str = "scry data directory";

/// An open data directory. Dropped, it may be opened by another process.
pub(crate) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Opens a directory, or makes a new one of an empty or missing directory.
    pub(crate) fn open(path: &Path) -> Result<DataDirectory, Error> {
        let failed = |doing| {
            move |source| Error::Io {
                path: path.to_owned(),
                doing,
                source,
            }
        };
        if path.exists() && !path.is_dir() {
            return Err(Error::NotADataDirectory {
                path: path.to_owned(),
                found: "it is a file".to_owned(),
            });
        }
        make_folders(path).map_err(failed("create"))?;
        let is_new = is_new(path)?;
        let lock = take_lock(path)?;
        if is_new {
            write_format(path).map_err(failed("write FORMAT in"))?;
        }
        check_format(path)?;
        Ok(DataDirectory {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Opens a directory that is there, and is one.
    pub(crate) fn open_existing(path: &Path) -> Result<DataDirectory, Error> {
        if !path.join("FORMAT").is_file() {
            return Err(Error::NotADataDirectory {
                path: path.to_owned(),
                found: "it has no file FORMAT".to_owned(),
            });
        }
        DataDirectory::open(path)
    }

    /// Opens the runs; with them comes the state of the last checkpoint.
    pub(crate) fn open_runs(&self, options: &RunsOptions) -> Result<(Arc<Runs>, Option<Vec<u8>>), Error> {
        Runs::open(&self.path.join(RUNS), *options)
    }

    pub(crate) fn hold(&self) -> Result<Hold, Error> {
        let path = self.path.join("FORMAT");
        match File::open(&path) {
            Ok(file) => Ok(Hold { file, path }),
            Err(source) => Err(Error::Io {
                path,
                doing: "open",
                source,
            }),
        }
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.path.join(WAL)
    }
}

/// Takes the lock of a directory, which nobody else has until the file is dropped.
pub(crate) fn take_lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK);
    let failed = |doing| {
        let path = path.clone();
        move |source| Error::Io { path, doing, source }
    };
    let mut options = OpenOptions::new();
    let lock = options.create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(failed("open"))?;
    let begun = Instant::now();
    while let Err(refused) = lock.try_lock() {
        match refused {
            TryLockError::WouldBlock if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            TryLockError::WouldBlock => {
                return Err(Error::DirectoryLocked {
                    path: directory.to_owned(),
                });
            }
            TryLockError::Error(source) => return Err(failed("lock")(source)),
        }
    }
    Ok(lock)
}

/// Whether others copy the log of a directory, as the process sees it that has it open.
pub(crate) struct Hold {
    file: File,
    path: PathBuf,
}

impl Hold {
    /// Whether somebody has taken it.
    pub(crate) fn is_taken(&self) -> Result<bool, Error> {
        let failed = |source| Error::Io {
            path: self.path.clone(),
            doing: "lock",
            source,
        };
        match self.file.try_lock() {
            Ok(()) => self.file.unlock().map(|()| false).map_err(failed),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Takes the hold of a directory that another process has open. It is let go of with the file.
pub(crate) fn take_hold(path: &Path) -> Result<File, Error> {
    let path = path.join("FORMAT");
    let failed = |doing| {
        let path = path.clone();
        move |source| Error::Io { path, doing, source }
    };
    let file = File::open(&path).map_err(failed("open"))?;
    file.lock_shared().map_err(failed("lock"))?;
    Ok(file)
}

/// Whether nothing was made of the directory yet. Anything foreign in it is an error.
fn is_new(path: &Path) -> Result<bool, Error> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        doing: "read",
        source,
    };
    let mut foreign = None;
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name == "FORMAT" {
            return Ok(false);
        }
        // What a creation that was cut short leaves, and what file systems and operators put there first.
        if name != LOCK && name != "FORMAT.new" && name != "lost+found" && name != "scry.toml" {
            foreign = Some(name);
        }
    }
    match foreign {
        None => Ok(true),
        Some(name) => {
            let found = format!(
                "it is not empty and has no file FORMAT, but \"{}\"",
                name.to_string_lossy()
            );
            Err(Error::NotADataDirectory {
                path: path.to_owned(),
                found,
            })
        }
    }
}

/// Writes `FORMAT` so that it is there whole or not at all.
pub(crate) fn write_format(path: &Path) -> io::Result<()> {
    let new = path.join("FORMAT.new");
    fs::write(&new, format!("{MAGIC}\nformat {FORMAT_VERSION}\n"))?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path.join("FORMAT"))?;
    sync_folder(path)
}

fn check_format(path: &Path) -> Result<(), Error> {
    let file = path.join("FORMAT");
    let bytes = fs::read(&file).map_err(|source| Error::Io {
        path: file.clone(),
        doing: "read",
        source,
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let magic = lines.next() == Some(MAGIC);
    let version = lines
        .next()
        .and_then(|line| line.strip_prefix("format ")?.parse::<u32>().ok());
    match version {
        Some(found) if magic && found > FORMAT_VERSION => Err(Error::NewerFormat {
            path: path.to_owned(),
            found,
            supported: FORMAT_VERSION,
        }),
        Some(found) if magic && found > 0 => Ok(()),
        _ => {
            let found = "its file FORMAT has other content".to_owned();
            Err(Error::NotADataDirectory {
                path: path.to_owned(),
                found,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_made_and_opened_again_but_never_twice_at_once() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let path = parent.path().join("data");
        let first = DataDirectory::open(&path).expect("new");
        assert!(matches!(
            DataDirectory::open(&path),
            Err(Error::DirectoryLocked { .. })
        ));
        drop(first);
        DataDirectory::open(&path).expect("again");
    }

    #[test]
    fn foreign_directories_and_newer_formats_are_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path();
        fs::write(path.join("thesis.tex"), "important").expect("write");
        assert!(matches!(
            DataDirectory::open(path),
            Err(Error::NotADataDirectory { .. })
        ));
        assert!(!path.join("LOCK").exists() && !path.join("FORMAT").exists());

        fs::remove_file(path.join("thesis.tex")).expect("remove");
        fs::write(path.join("FORMAT"), format!("{MAGIC}\nformat 2\n")).expect("write");
        assert!(matches!(
            DataDirectory::open(path),
            Err(Error::NewerFormat {
                found: 2,
                supported: 1,
                ..
            })
        ));
        fs::write(path.join("FORMAT"), "something\nformat 1\n").expect("write");
        assert!(matches!(
            DataDirectory::open(path),
            Err(Error::NotADataDirectory { .. })
        ));
    }

    #[test]
    fn a_file_in_its_place_is_refused_and_left_alone() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let path = parent.path().join("data");
        fs::write(&path, "text").expect("write");
        assert!(matches!(
            DataDirectory::open(&path),
            Err(Error::NotADataDirectory { .. })
        ));
        assert_eq!(fs::read(&path).expect("read"), b"text");
    }

    #[test]
    fn a_creation_that_was_cut_short_is_finished() {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::write(directory.path().join("LOCK"), "").expect("write");
        fs::write(directory.path().join("FORMAT.new"), "scry da").expect("write");
        DataDirectory::open(directory.path()).expect("finished");
    }
}
