//! A data directory made of a backup, which opens at exactly one state.
//!
//! Rows are those of the newest backup whose checkpoint is not behind that state, or none when the log reaches back to its
//! beginning; the log, forked from the original's and cut there, does the rest when the directory is opened. Everything is checked before it is used. `FORMAT` is written last:
//! a directory that was not completed is no data directory.

use super::files::{Folder, copy_checked, failed, names, sync_folder, write_durably};
use super::manifest::Backup;
use super::state_of;
use crate::checkpoint::State;
use crate::directory::{RUNS, WAL, write_format};
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
    let (backups, _held) = folder.held_backups()?;
    let Some(newest) = backups.last() else {
        return Err(Error::ForeignBackup {
            path: from.to_owned(),
            found: "it has no complete backup",
        });
    };
    make_folders(into).map_err(failed("create", into))?;
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
        begin: newest.log.begin(),
        end: Some(newest.log.end),
        archive,
    };
    let upto = target(&origin, newest, to)?;
    let base = base_for(&backups, newest, upto)?;
    if let Some(Base { backup, .. }) = &base {
        let runs = into.join(RUNS);
        make_folders(&runs).map_err(failed("create", &runs))?;
        for run in &backup.runs {
            let to = runs.join(run_name(run.number));
            copy_checked(&folder.run(run), (run.bytes, &run.sums), Some(&to))?;
        }
    }
    let made: Fork = fork(&origin, &into.join(WAL), upto)?;
    let at = base.as_ref().map_or(Lsn::ZERO, |base| base.backup.at);
    if made.last.map_or(Lsn::ZERO, |(lsn, _)| lsn) < at {
        return Err(Error::Corrupt {
            lsn: at,
            store: None,
            what: "the log of the backup has no commit at its checkpoint".to_owned(),
        });
    }
    let number = base.as_ref().map(|base| base.backup.number);
    if let Some(base) = base {
        let runs = into.join(RUNS);
        write_durably(&runs.join(MANIFEST), &base.manifest_of(made.database))?;
        sync_folder(&runs)?;
    }
    sync_folder(into)?;
    write_format(into).map_err(failed("write FORMAT in", into))?;
    Ok(Restored {
        backup: number,
        last: made.last,
        database: made.database,
    })
}

/// Where the log is cut.
fn target(origin: &Origin<'_>, newest: &Backup, to: RestoreTo) -> Result<Upto, Error> {
    let not_yet = || Error::NotYet {
        newest: newest.log.end,
    };
    let may_go_on = origin.archive.is_some();
    match to {
        RestoreTo::End => Ok(Upto::End),
        RestoreTo::Lsn(lsn) if lsn >= newest.log.end && !may_go_on => Err(not_yet()),
        RestoreTo::Lsn(lsn) => Ok(Upto::Lsn(lsn)),
        RestoreTo::Time(time) => {
            let found = look(origin, Upto::Time(time))?;
            // A commit of a later time ends what belongs to it, even if the clock was put back before the backup was made.
            if time > newest.made && !found.is_cut && !may_go_on {
                return Err(not_yet());
            }
            let last = found.last.ok_or_else(|| Error::HistoryGone {
                oldest: newest.oldest(),
            });
            Ok(Upto::Lsn(last?.0))
        }
    }
}

/// The backup whose rows the log goes on from, and the manifest of its runs.
struct Base<'b> {
    backup: &'b Backup,
    manifest: Manifest,
    state: State,
}

impl Base<'_> {
    /// The manifest of the runs, for another database.
    fn manifest_of(mut self, database: [u8; 16]) -> Vec<u8> {
        self.state.database = database;
        self.manifest.checkpoint = Some(self.state.encode().into());
        self.manifest.encode()
    }
}

/// The newest backup that does; `None`: the log has all.
fn base_for<'b>(backups: &'b [Backup], newest: &Backup, upto: Upto) -> Result<Option<Base<'b>>, Error> {
    let begin = newest.log.begin();
    let mut oldest = None;
    for backup in backups.iter().rev().filter(|backup| backup.at > Lsn::ZERO) {
        let manifest = Manifest::decode(&backup.runs_manifest, Path::new(MANIFEST))?;
        // The log goes on from its rows when it has all that recovery reads.
        let Some(state) = state_of(&manifest)?.filter(|state| state.restart >= begin) else {
            continue;
        };
        let is_behind = matches!(upto, Upto::Lsn(lsn) if backup.at > lsn);
        if !is_behind {
            return Ok(Some(Base {
                backup,
                manifest,
                state,
            }));
        }
        oldest = Some(backup.at);
    }
    match begin {
        Lsn::ZERO => Ok(None),
        _ => Err(Error::HistoryGone {
            oldest: oldest.unwrap_or(begin),
        }),
    }
}
