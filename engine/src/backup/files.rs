//! The folder of backups: its files, and what each of them is checked by.

use super::manifest::{Backup, CopiedRun};
use crate::directory::{LOCK, RUNS, WAL, take_lock};
use crate::error::Error;
use crate::runs::RunName;
use scry_wal::copy::{SUM_BYTES, file_name};
use scry_wal::storage::disk::{self, make_folders};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const UNFINISHED: &str = "backup.new";

pub(super) struct Folder {
    path: PathBuf,
    /// Of who makes a backup.
    _lock: Option<File>,
}

pub(super) fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

fn backup_name(number: u64) -> String {
    format!("backup-{number:08}")
}

/// The file of a copied run.
fn run_file((number, footer): (u64, u32)) -> String {
    format!("{number:016x}-{footer:08x}.run")
}

impl Folder {
    /// A folder that is empty or has backups, for another one; made when it is not there.
    pub(super) fn open(path: &Path) -> Result<Folder, Error> {
        make_folders(path).map_err(failed("create", path))?;
        let known = Folder::existing(path)?;
        let folder = Folder {
            _lock: Some(take_lock(path)?),
            ..known
        };
        for part in [folder.runs(), folder.log()] {
            make_folders(&part).map_err(failed("create", &part))?;
        }
        Ok(folder)
    }

    /// A folder that is there.
    pub(super) fn existing(path: &Path) -> Result<Folder, Error> {
        for name in names(path)? {
            let is_known = name.starts_with("backup-")
                || [UNFINISHED, LOCK, RUNS, WAL, "lost+found"].contains(&name.as_str());
            if !is_known {
                return Err(Error::ForeignBackup {
                    path: path.join(name),
                    found: "it is no part of a backup",
                });
            }
        }
        Ok(Folder {
            path: path.to_owned(),
            _lock: None,
        })
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join(WAL)
    }

    fn runs(&self) -> PathBuf {
        self.path.join(RUNS)
    }

    pub(super) fn run(&self, run: &CopiedRun) -> PathBuf {
        self.runs().join(run_file(run.identity()))
    }

    /// All backups, the oldest first.
    pub(super) fn backups(&self) -> Result<Vec<Backup>, Error> {
        read_manifests(&self.manifests()?)
    }

    /// The same; none of them goes while the answered locks are held.
    pub(super) fn held_backups(&self) -> Result<(Vec<Backup>, Vec<File>), Error> {
        loop {
            let manifests = self.manifests()?;
            let mut locks = Vec::with_capacity(manifests.len());
            for path in &manifests {
                match File::open(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    opened => {
                        let file = opened.map_err(failed("open", path))?;
                        file.lock_shared().map_err(failed("lock", path))?;
                        locks.push(file);
                    }
                }
            }
            // One may have gone before it was locked, with files of its own; the others need none of those.
            if locks.len() == manifests.len() && manifests.iter().all(|path| path.exists()) {
                return Ok((read_manifests(&manifests)?, locks));
            }
        }
    }

    fn manifests(&self) -> Result<Vec<PathBuf>, Error> {
        let names = names(&self.path)?.into_iter();
        let manifests = names.filter(|name| name.starts_with("backup-"));
        Ok(manifests.map(|name| self.path.join(name)).collect())
    }

    /// The backup is there from now on.
    pub(super) fn install(&self, backup: &Backup) -> Result<(), Error> {
        let (new, path) = (
            self.path.join(UNFINISHED),
            self.path.join(backup_name(backup.number)),
        );
        write_durably(&new, &backup.encode())?;
        fs::rename(&new, &path).map_err(failed("rename", &path))?;
        sync_folder(&self.path)
    }

    pub(super) fn sync_runs(&self) -> Result<(), Error> {
        sync_folder(&self.runs())
    }

    /// Removes the older ones of all backups, and the files that only they need; but not those that somebody reads.
    pub(super) fn keep_newest(&self, mut backups: Vec<Backup>, count: usize) -> Result<(), Error> {
        let mut kept = backups.split_off(backups.len().saturating_sub(count));
        for backup in backups {
            let path = self.path.join(backup_name(backup.number));
            let manifest = File::open(&path).map_err(failed("open", &path))?;
            match manifest.try_lock() {
                // Whoever waits for the lock finds it gone.
                Ok(()) => remove(&path)?,
                Err(TryLockError::WouldBlock) => kept.push(backup),
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
            }
        }
        sync_folder(&self.path)?;
        let runs = kept.iter().flat_map(|backup| &backup.runs);
        let runs: HashSet<String> = runs.map(|run| run_file(run.identity())).collect();
        let pieces = kept.iter().flat_map(|backup| &backup.log.pieces);
        let pieces: HashSet<String> = pieces.map(|piece| file_name(piece.base)).collect();
        for (folder, needed) in [(self.runs(), runs), (self.log(), pieces)] {
            for name in names(&folder)? {
                if !needed.contains(&name) {
                    remove(&folder.join(name))?;
                }
            }
            sync_folder(&folder)?;
        }
        Ok(())
    }
}

/// The backups, the oldest first.
fn read_manifests(paths: &[PathBuf]) -> Result<Vec<Backup>, Error> {
    let read = |path: &PathBuf| {
        let bytes = fs::read(path).map_err(failed("read", path))?;
        Backup::decode(&bytes, path)
    };
    let mut backups = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    backups.sort_unstable_by_key(|backup| backup.number);
    Ok(backups)
}

/// Copies a run into the folder of backups; `None` when it is not there any more.
pub(super) fn copy_run(source: &Path, folder: &Folder, name: &RunName) -> Result<Option<CopiedRun>, Error> {
    let from = source.join(crate::runs::run_name(name.number));
    let input = match File::open(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("open", &from))?,
    };
    let mut run = CopiedRun {
        number: name.number,
        footer: name.checksum,
        bytes: name.bytes,
        sums: Vec::new(),
    };
    let to = folder.run(&run);
    let mut output = File::create(&to).map_err(failed("create", &to))?;
    let bytes = each_chunk(&from, input, u64::MAX, |_, chunk| {
        run.sums.push(crc32fast::hash(chunk));
        output.write_all(chunk).map_err(failed("write", &to))
    })?;
    if bytes != name.bytes {
        return Err(Error::DamagedFile {
            path: from,
            offset: bytes.min(name.bytes),
            what: "the run has another length than its manifest says",
        });
    }
    output.sync_all().map_err(failed("write", &to))?;
    Ok(Some(run))
}

/// Copies the first `bytes` of a file of a backup, or only looks at them, and checks them.
pub(super) fn copy_checked(
    from: &Path,
    (bytes, sums): (u64, &[u32]),
    to: Option<&Path>,
) -> Result<(), Error> {
    let damaged = |offset, what| Error::DamagedFile {
        path: from.to_owned(),
        offset,
        what,
    };
    let input = File::open(from).map_err(failed("open", from))?;
    let mut output = match to {
        Some(to) => Some((File::create(to).map_err(failed("create", to))?, to)),
        None => None,
    };
    let mut sums = sums.iter();
    let found = each_chunk(from, input, bytes, |offset, chunk| {
        if sums.next() != Some(&crc32fast::hash(chunk)) {
            return Err(damaged(offset, "the checksum of what follows does not hold"));
        }
        match &mut output {
            Some((output, to)) => output.write_all(chunk).map_err(failed("write", to)),
            None => Ok(()),
        }
    })?;
    if found != bytes || sums.next().is_some() {
        return Err(damaged(found, "the file is too short"));
    }
    if let Some((output, to)) = output {
        output.sync_all().map_err(failed("write", to))?;
    }
    Ok(())
}

/// Reads a file in the pieces that have a checksum each, as far as `limit`. Answers how much it has up to there.
fn each_chunk(
    path: &Path,
    file: File,
    limit: u64,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut chunk = Vec::with_capacity(SUM_BYTES);
    let mut input = file.take(limit);
    let mut at = 0;
    loop {
        chunk.clear();
        let part = input.by_ref().take(SUM_BYTES as u64).read_to_end(&mut chunk);
        let count = part.map_err(failed("read", path))?;
        if count == 0 {
            return Ok(at);
        }
        visit(at, &chunk)?;
        at += count as u64;
    }
}

pub(super) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(folder).map_err(failed("list", folder))?;
    entries
        .map(|entry| {
            let entry = entry.map_err(failed("list", folder))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(failed("create", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed("write", path))
}

pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    disk::sync_folder(path).map_err(failed("sync", path))
}

fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(failed("remove", path))
}
