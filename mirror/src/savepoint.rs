//! Savepoints: named states of the mirror that stay readable, whatever is applied later, and over restarts.
//!
//! A savepoint is a folder of its own, `savepoints/<name in hexadecimal>`: a checkpoint's manifest and hard links to the files that it
//! names. So the mirror goes on, compacts and forgets as if there were none, a mirror that is made anew keeps them, and
//! forgetting one is removing a folder. What it costs is the room of files that the mirror itself does not need any more.
//!
//! One savepoint may be *held*: who reads the mirror then is given its state, opened as a mirror's is at a start, every byte
//! checked. The file `savepoints/HELD` says which. A held savepoint that cannot be read answers nobody, until it is let go: the present
//! must not pass for it.
//!
//! Folders come and go by renaming, so each is there whole or not at all.

use parking_lot::{Mutex, RwLock};
use scry_wal::Lsn;
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::Cache;
use crate::checkpoint;
use crate::core::Core;
use crate::error::Error;
use crate::horizon::Horizon;
use crate::manifest::{self, Manifest};
use crate::segment::sync_folder;
use crate::snapshot::Snapshot;

/// Most savepoints: each may keep as many files as the mirror has.
pub const SAVEPOINTS_MAX: usize = 64;

/// Longest name in bytes: twice as many have to fit into the name of a folder.
pub const NAME_BYTES_MAX: usize = 63;

const FOLDER: &str = "savepoints";
const HELD: &str = "HELD";
/// Behind the name of a folder that is not whole yet, or not any more.
const UNDONE: &str = "undone";

/// A named state of the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Savepoint {
    pub name: String,
    /// The last commit in it; zero before the first.
    pub at: Lsn,
    /// Bytes of the files that it names.
    pub bytes: u64,
    /// Whether reads of the mirror are answered from it.
    pub held: bool,
}

/// The savepoints of one mirror.
#[derive(Debug)]
pub(crate) struct Savepoints {
    folder: PathBuf,
    piece_rows: usize,
    cache: Arc<Cache>,
    known: Mutex<BTreeMap<String, (Lsn, u64)>>,
    held: RwLock<Option<Held>>,
}

#[derive(Debug, Clone)]
struct Held {
    name: String,
    /// Its state, or why there is none.
    core: Result<Arc<Core>, Error>,
}

impl Savepoints {
    /// Those of the mirror in `dir`. One that cannot be told from its folder is left alone and is not known.
    pub fn open(dir: &Path, piece_rows: usize, cache: Arc<Cache>) -> Result<Self, Error> {
        let folder = dir.join(FOLDER);
        let mut known = BTreeMap::new();
        for path in entries(&folder)? {
            if path.extension().is_some_and(|extension| extension == UNDONE) {
                fs::remove_dir_all(&path).map_err(Error::io(&path, "remove"))?;
                continue;
            }
            let name = path.file_name().and_then(|name| decode(name.to_str()?));
            if let (Some(name), Ok(Some(manifest))) = (name, Manifest::read(&path)) {
                known.insert(name, figures(&manifest));
            }
        }
        let savepoints = Self {
            folder,
            piece_rows,
            cache,
            known: Mutex::new(known),
            held: RwLock::new(None),
        };
        let marker = savepoints.folder.join(HELD);
        match fs::read_to_string(&marker) {
            Ok(name) => *savepoints.held.write() = Some(savepoints.restore(name)),
            Err(error) if error.kind() == IoKind::NotFound => {}
            Err(error) => return Err(Error::io(&marker, "read")(error)),
        }
        Ok(savepoints)
    }

    pub fn list(&self) -> Vec<Savepoint> {
        let held = self.held.read().as_ref().map(|held| held.name.clone());
        let known = self.known.lock();
        let listed = known.iter().map(|(name, &(at, bytes))| Savepoint {
            name: name.clone(),
            at,
            bytes,
            held: held.as_ref() == Some(name),
        });
        listed.collect()
    }

    /// Refuses a name that is taken, and one savepoint too many.
    pub fn check_new(&self, name: &str) -> Result<(), Error> {
        let known = self.known.lock();
        if known.contains_key(name) {
            return Err(Error::DuplicateSavepoint { name: name.into() });
        }
        if known.len() >= SAVEPOINTS_MAX {
            return Err(Error::TooManySavepoints { max: SAVEPOINTS_MAX });
        }
        Ok(())
    }

    /// Keeps the manifest of `dir` under a name, with `files`, which it names. Nobody replaces it meanwhile.
    pub fn create(&self, dir: &Path, name: &str, files: impl Iterator<Item = PathBuf>) -> Result<Lsn, Error> {
        self.check_new(name)?;
        let folder = self.folder.join(encode(name));
        let making = folder.with_extension(UNDONE);
        let result = self.link(dir, &making, files).and_then(|figures| {
            fs::rename(&making, &folder).map_err(Error::io(&making, "rename"))?;
            sync_folder(&self.folder)?;
            Ok(figures)
        });
        if result.is_err() {
            // What is left of it goes at the next start at the latest.
            let _ = fs::remove_dir_all(&making);
        }
        let figures = result?;
        self.known.lock().insert(name.into(), figures);
        Ok(figures.0)
    }

    fn link(
        &self,
        dir: &Path,
        making: &Path,
        files: impl Iterator<Item = PathBuf>,
    ) -> Result<(Lsn, u64), Error> {
        fs::create_dir_all(making).map_err(Error::io(making, "create"))?;
        let files = files.chain([dir.join(manifest::FILE_NAME)]);
        for file in files {
            let link = making.join(file.file_name().unwrap_or_default());
            fs::hard_link(&file, link).map_err(Error::io(&file, "link"))?;
        }
        sync_folder(making)?;
        sync_folder(dir)?;
        Ok(Manifest::read(making)?.as_ref().map(figures).unwrap_or_default())
    }

    /// Forgets a savepoint; one that is held is let go.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let mut known = self.known.lock();
        if !known.contains_key(name) {
            return Err(undefined(name));
        }
        if self.held.read().as_ref().is_some_and(|held| held.name == name) {
            self.resume()?;
        }
        let folder = self.folder.join(encode(name));
        let going = folder.with_extension(UNDONE);
        fs::rename(&folder, &going).map_err(Error::io(&folder, "rename"))?;
        known.remove(name);
        sync_folder(&self.folder)?;
        fs::remove_dir_all(&going).map_err(Error::io(&going, "remove"))
    }

    /// From now on reads are answered from this savepoint.
    pub fn hold(&self, name: &str) -> Result<(), Error> {
        let known = self.known.lock();
        if !known.contains_key(name) {
            return Err(undefined(name));
        }
        let held = self.restore(name.into());
        held.core.clone()?;
        let marker = self.folder.join(HELD);
        let writing = marker.with_extension(UNDONE);
        fs::File::create(&writing)
            .and_then(|mut file| file.write_all(name.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&writing, &marker))
            .map_err(Error::io(&marker, "write"))?;
        sync_folder(&self.folder)?;
        *self.held.write() = Some(held);
        Ok(())
    }

    /// Reads are answered from the present again. False when they were already.
    pub fn resume(&self) -> Result<bool, Error> {
        let mut held = self.held.write();
        if held.is_none() {
            return Ok(false);
        }
        let marker = self.folder.join(HELD);
        match fs::remove_file(&marker) {
            // A former attempt came so far.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(Error::io(&marker, "remove"))?,
        }
        sync_folder(&self.folder)?;
        *held = None;
        Ok(true)
    }

    /// The savepoint from which reads are answered, and its state.
    pub fn held(&self) -> Option<(String, Result<Snapshot, Error>)> {
        let held = self.held.read().clone()?;
        let snapshot = held.core.map(|core| core.newest_snapshot());
        Some((held.name, snapshot))
    }

    fn restore(&self, name: String) -> Held {
        let folder = self.folder.join(encode(&name));
        let core = checkpoint::restore(&folder, self.piece_rows).map(|restored| {
            let position = restored.position;
            // Nothing is applied, so nothing is folded.
            let horizon = Horizon::new(Arc::new(move || position.last_commit));
            let core = Core::new(
                position,
                restored.stores,
                &horizon,
                self.cache.clone(),
                self.piece_rows,
            );
            Arc::new(core)
        });
        Held { name, core }
    }
}

fn undefined(name: &str) -> Error {
    Error::UndefinedSavepoint { name: name.into() }
}

/// The folders of savepoints in a mirror's folder.
pub(crate) fn folders(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut folders = entries(&dir.join(FOLDER))?;
    folders.retain(|path| path.extension().is_none());
    Ok(folders)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(Error::io(folder, "list"))?,
    };
    let mut paths = Vec::new();
    for entry in listed {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        if path.is_dir() {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn figures(manifest: &Manifest) -> (Lsn, u64) {
    let pieces = manifest.stores.iter().flat_map(|store| &store.pieces);
    let parts = pieces.flat_map(|piece| &piece.parts);
    (manifest.position.last_commit, parts.map(|part| part.bytes).sum())
}

fn encode(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> Option<String> {
    let digits = text.as_bytes().chunks_exact(2);
    if text.is_empty() || !digits.remainder().is_empty() {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(digits.map(byte).collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_read_as_they_are_written() {
        for name in ["a", "before the election", "vor/der.Wahl é", "..", "HELD"] {
            let folder = encode(name);
            assert!(folder.bytes().all(|byte| byte.is_ascii_hexdigit()), "{folder}");
            assert_eq!(decode(&folder).as_deref(), Some(name));
        }
        for text in ["", "6", "6g", "ff", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
