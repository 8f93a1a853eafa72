//! Looking at the runs of a folder without opening them for use: nothing is changed, and another process may have them open.
//!
//! What that process merges meanwhile goes away while it is read. A file that is missing is looked for again under the manifest that
//! has replaced the one read first; runs are never written again, so what was checked once needs no second look.

use crate::error::Error;
use crate::runs::Verified;
use crate::runs::cache::Cache;
use crate::runs::folder::Folder;
use crate::runs::folder::disk::DiskFolder;
use crate::runs::format::{damaged, run_name};
use crate::runs::manifest::{MANIFEST, Manifest, RunName};
use crate::runs::run::Run;
use crate::runs::verify::verify_run;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How often a merge may overtake the check before that counts as a fault of the folder.
const ATTEMPTS_MAX: usize = 16;

/// What was checked, and everything that was wrong.
#[derive(Debug, Default)]
pub struct Inspected {
    /// Whether there is a manifest; without one there are no runs.
    pub has_manifest: bool,
    pub verified: Verified,
    /// In the order found; the rest of the folder was checked all the same.
    pub problems: Vec<Error>,
}

/// First and last internal key.
type Span = (Vec<u8>, Vec<u8>);

/// Reads every byte of the runs in a folder.
///
/// # Errors
/// When the manifest cannot be read, or is newer. Damage is no error here: it is in what is answered.
pub fn inspect(path: &Path) -> Result<Inspected, Error> {
    let folder: Arc<dyn Folder> = Arc::new(DiskFolder::existing(path));
    let mut inspected = Inspected::default();
    let mut checked: HashMap<u64, Option<Span>> = HashMap::new();
    let mut last = None;
    for attempt in 1..=ATTEMPTS_MAX {
        let manifest = match read_manifest(path) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(inspected),
            Err(error @ Error::DamagedFile { .. }) => {
                inspected.problems.push(error);
                return Ok(inspected);
            }
            Err(error) => return Err(error),
        };
        inspected.has_manifest = true;
        let is_last = attempt == ATTEMPTS_MAX || last.as_ref() == Some(&manifest);
        let mut missing = false;
        for name in manifest.runs() {
            if checked.contains_key(&name.number) {
                continue;
            }
            match check(&folder, name, &mut inspected.verified) {
                Err(error) if is_missing(&error) && !is_last => missing = true,
                Err(error) => {
                    inspected.problems.push(error);
                    checked.insert(name.number, None);
                }
                Ok(span) => drop(checked.insert(name.number, Some(span))),
            }
        }
        if !missing {
            inspected.problems.extend(overlaps(path, &manifest, &checked));
            break;
        }
        last = Some(manifest);
    }
    Ok(inspected)
}

/// The checkpoint's bytes in a folder's manifest.
pub(crate) fn checkpoint(path: &Path) -> Result<Option<Arc<[u8]>>, Error> {
    let manifest = read_manifest(path)?;
    Ok(manifest.and_then(|manifest| manifest.checkpoint))
}

/// The names of the files that a folder's manifest names, and its own.
pub(crate) fn files(path: &Path) -> Result<Vec<String>, Error> {
    let Some(manifest) = read_manifest(path)? else {
        return Ok(Vec::new());
    };
    let names = manifest.runs().map(|run| run_name(run.number));
    Ok(names.chain([MANIFEST.to_owned()]).collect())
}

/// The manifest of a folder; `None` when there is none yet.
pub(crate) fn read_manifest(path: &Path) -> Result<Option<Manifest>, Error> {
    match path.is_dir() {
        true => Manifest::read(&DiskFolder::existing(path)),
        false => Ok(None),
    }
}

fn check(folder: &Arc<dyn Folder>, name: RunName, verified: &mut Verified) -> Result<Span, Error> {
    let run = Arc::new(Run::open(folder, &Arc::new(Cache::new(0)), name)?);
    verify_run(&run, verified)?;
    Ok((run.meta.first.clone(), run.meta.last.clone()))
}

/// Runs of one layer that overlap.
fn overlaps(path: &Path, manifest: &Manifest, checked: &HashMap<u64, Option<Span>>) -> Vec<Error> {
    let mut problems = Vec::new();
    for layer in manifest.fresh.iter().chain(&manifest.levels) {
        for pair in layer.windows(2) {
            let span = |run: &RunName| checked.get(&run.number).and_then(Option::as_ref);
            if let (Some((_, last)), Some((first, _))) = (span(&pair[0]), span(&pair[1]))
                && last >= first
            {
                let file = path.join(run_name(pair[1].number));
                problems.push(damaged(&file, 0, "the run overlaps another one of its level"));
            }
        }
    }
    problems
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
