//! A data directory made of a backup, which opens at exactly one state.
//!
//! Rows are those of the newest backup whose checkpoint is not behind that state, or none when the log reaches back to its
//! beginning; the log, forked from the original's and cut there, does the rest when the directory is opened. Everything is checked before it is used. `FORMAT` is written last:
//! a directory that was not completed is no data directory.

use super::files::{Folder, copy_checked, names, sync_folder, write_durably};
use super::manifest::Backup;
use crate::checkpoint::State;
use crate::directory::write_format;
use crate::error::Error;
use crate::runs::{MANIFEST, Manifest, run_name};
use scry_wal::copy::file_name;
use scry_wal::fork::{Fork, Origin, Upto, fork, look};
use scry_wal::storage::disk::make_folders;
use scry_wal::{Lsn, Micros};
use std::path::Path;

/// Which state a directory is restored to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreTo {
    /// All that the backup has.
    End,
    /// The commits up to this LSN.
    Lsn(Lsn),
    /// The commits up to the first one that was made later.
    Time(Micros),
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The backup whose rows were taken; `None`: all comes from the log.
    pub backup: Option<u64>,
    /// The last commit, and when it was made.
    pub last: Option<(Lsn, Micros)>,
    /// The restored database, which is another one than the original.
    pub database: [u8; 16],
}

/// Makes the data directory `into`, which is empty or not there, of the backups in `from`. `archive` has segments of the original's log from behind
/// the backup's end.
///
/// # Errors
/// `DamagedFile`, and damage in the log, with file and offset; `NotEmpty`; `NotYet` for a state that the backup does not reach, `HistoryGone` for one
/// before its begin; `ForeignBackup` when `from` has no backup; `Io`.
pub fn restore(from: &Path, into: &Path, to: RestoreTo, archive: Option<&Path>) -> Result<Restored, Error> {
    let folder = Folder::existing(from)?;
    let backups = folder.backups()?;
    let Some(newest) = backups.last() else {
        return Err(Error::ForeignBackup {
            path: from.to_owned(),
            found: "it has no complete backup",
        });
    };
    make_folders(into).map_err(super::files::failed("create", into))?;
    if names(into)?.iter().any(|name| name != "lost+found") {
        return Err(Error::NotEmpty {
            path: into.to_owned(),
        });
    }
    for piece in &newest.log.pieces {
        let file = folder.log().join(file_name(piece.base));
        copy_checked(&file, (piece.bytes, &piece.sums), None)?;
    }
    let log = folder.log();
    let origin = Origin {
        log: &log,
        end: Some(newest.log.end),
        archive,
    };
    let upto = target(&origin, newest, to)?;
    let base = base_for(&backups, newest, upto)?;
    if let Some(backup) = base {
        let runs = into.join("runs");
        make_folders(&runs).map_err(super::files::failed("create", &runs))?;
        for run in &backup.runs {
            let to = runs.join(run_name(run.number));
            copy_checked(&folder.run(run), (run.bytes, &run.sums), Some(&to))?;
        }
    }
    let made: Fork = fork(&origin, &into.join("wal"), upto)?;
    let at = base.map_or(Lsn::ZERO, |backup| backup.at);
    if made.last.map_or(Lsn::ZERO, |(lsn, _)| lsn) < at {
        return Err(Error::Corrupt {
            lsn: at,
            store: None,
            what: "the log of the backup has no commit at its checkpoint".to_owned(),
        });
    }
    if let Some(backup) = base {
        let runs = into.join("runs");
        let manifest = of_database(&backup.runs_manifest, made.database)?;
        write_durably(&runs.join(MANIFEST), &manifest)?;
        sync_folder(&runs)?;
    }
    sync_folder(into)?;
    write_format(into).map_err(super::files::failed("write FORMAT in", into))?;
    Ok(Restored {
        backup: base.map(|backup| backup.number),
        last: made.last,
        database: made.database,
    })
}

/// Where the log is cut.
fn target(origin: &Origin<'_>, newest: &Backup, to: RestoreTo) -> Result<Upto, Error> {
    let is_behind = match to {
        _ if origin.archive.is_some() => false,
        RestoreTo::End => false,
        RestoreTo::Lsn(lsn) => lsn >= newest.log.end,
        RestoreTo::Time(time) => time > newest.made,
    };
    if is_behind {
        return Err(Error::NotYet {
            newest: newest.log.end,
        });
    }
    match to {
        RestoreTo::End => Ok(Upto::End),
        RestoreTo::Lsn(lsn) => Ok(Upto::Lsn(lsn)),
        RestoreTo::Time(time) => match look(origin, Upto::Time(time))?.last {
            Some((lsn, _)) => Ok(Upto::Lsn(lsn)),
            None => Err(Error::HistoryGone {
                oldest: newest.oldest(),
            }),
        },
    }
}

/// The backup whose rows the log goes on from; `None`: the log has all.
fn base_for<'b>(backups: &'b [Backup], newest: &Backup, upto: Upto) -> Result<Option<&'b Backup>, Error> {
    let begin = newest.log.begin();
    let fits = |backup: &&Backup| {
        let is_before = match upto {
            Upto::Lsn(lsn) => backup.at <= lsn,
            Upto::End | Upto::Time(_) => true,
        };
        backup.at > Lsn::ZERO && is_before && restart(backup).is_some_and(|restart| restart >= begin)
    };
    match backups.iter().rev().find(fits) {
        Some(backup) => Ok(Some(backup)),
        None if begin == Lsn::ZERO => Ok(None),
        None => {
            let oldest = backups.iter().map(|backup| backup.at).min().unwrap_or(begin);
            Err(Error::HistoryGone { oldest })
        }
    }
}

/// The manifest of the runs and the state in it, if it has one.
fn manifest_of(bytes: &[u8]) -> Result<(Manifest, Option<State>), Error> {
    let manifest = Manifest::decode(bytes, Path::new(MANIFEST))?;
    let state = manifest.checkpoint.as_deref().map(State::decode).transpose();
    let state = state.map_err(|error| Error::Corrupt {
        lsn: Lsn::ZERO,
        store: None,
        what: format!("the state of the backup's checkpoint: {error}"),
    })?;
    Ok((manifest, state))
}

/// From where the log is needed.
fn restart(backup: &Backup) -> Option<Lsn> {
    let (_, state) = manifest_of(&backup.runs_manifest).ok()?;
    Some(state?.restart)
}

/// The manifest of the runs, for another database.
fn of_database(bytes: &[u8], database: [u8; 16]) -> Result<Vec<u8>, Error> {
    let (mut manifest, state) = manifest_of(bytes)?;
    if let Some(mut state) = state {
        state.database = database;
        manifest.checkpoint = Some(state.encode().into());
    }
    Ok(manifest.encode())
}
