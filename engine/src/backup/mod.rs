//! Backups of a data directory, beside the server that uses it or of one that is stopped; and new directories made of them.
//!
//! Nobody is asked for leave: runs and the durable part of the log never change, and a hold on the directory has its server keep the log meanwhile, as far as
//! it keeps it for anybody (`recycler`). A backup has the manifest of the runs as of one moment, the
//! runs that it names, and the log from where it begins up to what is durable after the runs were copied. Should a run go while it is copied,
//! for compaction has replaced it, the manifest is read again, and only what is new in it is copied; so it is when the log was let go of behind a
//! newer checkpoint meanwhile, and what is left begins after the place from where the copied one needs it. The mirror is not in a backup: it is made from the log.
//!
//! | name | content |
//! |---|---|
//! | `backup-NNNNNNNN` | a backup: which files it has, with checksums (`manifest`) |
//! | `runs/NUMBER-CHECKSUM.run` | a run, by its number and the checksum in its footer |
//! | `wal/*.wal` | segments of the log |
//! | `LOCK` | empty; locked by the process that makes a backup |
//!
//! Backups into one folder share files. What a file has for one backup never changes: the last segment of the log grows, and each backup knows
//! how much of it is its own. A backup is there when its manifest is, which is written last and by renaming; what no backup needs is removed
//! afterwards. So a backup that is cut short, at whatever moment, leaves those before it as they were. One is made at a time; a restore locks the manifests
//! of the backups, shared, and what is read like this stays until the next backup.
//!
//! In reading order: `manifest`, `files`, this file (making one), `restore`.

mod files;
mod manifest;
mod restore;

pub use restore::{RestoreTo, Restored, restore};

use crate::checkpoint::State;
use crate::directory::{DataDirectory, RUNS, WAL, take_hold};
use crate::error::Error;
use crate::runs::inspect::read_manifest;
use crate::runs::{Manifest, run_name};
use files::{Folder, copy_run};
use manifest::{Backup, CopiedRun};
use scry_wal::copy::{Extent, LogCopy, copy_log, database_of};
use scry_wal::{Lsn, Micros};
use std::collections::HashSet;
use std::path::Path;

/// How often the manifest of the runs is read again because a run has gone while it was copied.
const TRIES: usize = 100;

/// What was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    pub number: u64,
    /// States of this and of every later LSN up to `end` can be restored.
    pub begin: Lsn,
    /// The first byte of the log that it does not have.
    pub end: Lsn,
    /// What was copied this time.
    pub run_bytes: u64,
    pub log_bytes: u64,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// Backs a data directory up into a folder, which is empty, or has backups of the same database. Of these `keep` are kept, with the new one.
///
/// # Errors
/// `NotADataDirectory`, `NewerFormat`; `Corrupt` and `DamagedFile` when something to be copied is damaged; `ForeignBackup` when the folder has backups of
/// another database, or something else; `DirectoryLocked` while another process backs up into it; `Io`. The backups that were there stay as they were.
pub fn back_up(data: &Path, into: &Path, keep: usize, now: Micros) -> Result<BackedUp, Error> {
    // Of a stopped server nothing changes meanwhile.
    let (directory, hold) = match DataDirectory::open_existing(data) {
        Ok(directory) => (Some(directory), None),
        Err(Error::DirectoryLocked { .. }) => (None, Some(take_hold(data)?)),
        Err(error) => return Err(error),
    };
    let folder = Folder::open(into)?;
    let mut backups = folder.backups()?;
    let last = backups.last();
    let database = database_of(&data.join(WAL))?.ok_or_else(|| no_log(data))?;
    if last.is_some_and(|last| last.log.database != database) {
        return Err(Error::ForeignBackup {
            path: into.to_owned(),
            found: "it has backups of another database",
        });
    }
    let copied = copy(data, &folder, last, directory.is_some())?;
    drop((directory, hold));
    let at = copied.at;
    if at >= copied.log.end && at > Lsn::ZERO {
        return Err(Error::Corrupt {
            lsn: at,
            store: None,
            what: format!("the log ends at {}, before the checkpoint", copied.log.end),
        });
    }
    let backup = Backup {
        number: last.map_or(1, |last| last.number + 1),
        made: now,
        at,
        runs_manifest: copied.manifest.encode(),
        runs: copied.runs,
        log: copied.log,
    };
    folder.install(&backup)?;
    let run_files: u64 = backup.runs.iter().map(|run| run.bytes).sum();
    let log_files: u64 = backup.log.pieces.iter().map(|piece| piece.bytes).sum();
    let done = BackedUp {
        number: backup.number,
        begin: backup.oldest(),
        end: backup.log.end,
        run_bytes: copied.run_bytes,
        log_bytes: backup.log.copied,
        bytes: run_files + log_files,
    };
    backups.push(backup);
    folder.keep_newest(backups, keep.max(1))?;
    Ok(done)
}

fn no_log(data: &Path) -> Error {
    Error::NotADataDirectory {
        path: data.to_owned(),
        found: "it has no log".to_owned(),
    }
}

/// The state of the checkpoint that the runs are of, if there was one.
fn state_of(manifest: &Manifest) -> Result<Option<State>, Error> {
    manifest.checkpoint.as_deref().map(State::read).transpose()
}

/// Runs and log that belong together.
struct Copied {
    manifest: Manifest,
    /// The state that the runs have; zero without a checkpoint.
    at: Lsn,
    runs: Vec<CopiedRun>,
    /// Bytes of runs that were copied this time.
    run_bytes: u64,
    log: LogCopy,
}

/// Copies what the folder lacks.
fn copy(data: &Path, folder: &Folder, last: Option<&Backup>, is_stopped: bool) -> Result<Copied, Error> {
    let mut runs = last.map_or_else(Vec::new, |last| last.runs.clone());
    let known = last.map_or(&[][..], |last| &last.log.pieces[..]);
    let mut run_bytes = 0;
    for _ in 0..TRIES {
        let (manifest, bytes) = copy_runs(data, folder, &mut runs)?;
        run_bytes += bytes;
        let state = state_of(&manifest)?;
        let (at, restart) = state.map_or((Lsn::ZERO, Lsn::ZERO), |state| (state.at, state.restart));
        // After the runs: the log has all that the manifest stands on, and that is durable.
        let extent = match is_stopped {
            true => Extent::All,
            false => Extent::Durable(at),
        };
        let log = copy_log(&data.join(WAL), &folder.log(), known, extent)?;
        let log = log.ok_or_else(|| no_log(data))?;
        // Behind a newer checkpoint, made meanwhile, the log may have been let go of.
        if log.begin() <= restart {
            return Ok(Copied {
                manifest,
                at,
                runs,
                run_bytes,
                log,
            });
        }
    }
    Err(Error::Io {
        path: data.join(WAL),
        doing: "copy",
        source: std::io::Error::other("the log was let go of again and again while it was copied"),
    })
}

/// Copies the runs of one manifest that the folder lacks. Of those that it has, `known` are the ones named afterwards.
fn copy_runs(data: &Path, folder: &Folder, known: &mut Vec<CopiedRun>) -> Result<(Manifest, u64), Error> {
    let source = data.join(RUNS);
    let mut copied = 0;
    let mut gone = None;
    for _ in 0..TRIES {
        let manifest = read_manifest(&source)?.unwrap_or_default();
        let names: Vec<_> = manifest.runs().collect();
        let have: HashSet<(u64, u32)> = known.iter().map(CopiedRun::identity).collect();
        gone = None;
        for name in names
            .iter()
            .filter(|name| !have.contains(&(name.number, name.checksum)))
        {
            match copy_run(&source, folder, name)? {
                Some(run) => {
                    copied += run.bytes;
                    known.push(run);
                }
                None => gone = Some(name.number),
            }
        }
        if gone.is_none() {
            let named: HashSet<(u64, u32)> = names.iter().map(|name| (name.number, name.checksum)).collect();
            known.retain(|run| named.contains(&run.identity()));
            folder.sync_runs()?;
            return Ok((manifest, copied));
        }
    }
    Err(Error::Io {
        path: source.join(run_name(gone.unwrap_or_default())),
        doing: "copy",
        source: std::io::Error::other("runs were replaced again and again while they were copied"),
    })
}
