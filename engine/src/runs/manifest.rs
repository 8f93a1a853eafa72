//! The manifest: which runs there are, and the checkpoint's bytes beside them (`format`). It is replaced as a whole.

use crate::error::Error;
use crate::runs::compaction::plan::LEVELS;
use crate::runs::folder::Folder;
use crate::runs::format::{
    HEADER_BYTES, MANIFEST_MAGIC, check_header, damaged, header, take_bytes, u32_at, u64_at,
};
use std::path::Path;
use std::sync::Arc;

pub(crate) const MANIFEST: &str = "MANIFEST";

/// What a manifest is called until it is whole.
pub(crate) const UNFINISHED: &str = "MANIFEST.new";

/// A run as the manifest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunName {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    /// In its footer.
    pub(crate) checksum: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) next_number: u64,
    /// Level 0, newest first.
    pub(crate) fresh: Vec<Vec<RunName>>,
    /// Level 1 and those below.
    pub(crate) levels: Vec<Vec<RunName>>,
    pub(crate) checkpoint: Option<Arc<[u8]>>,
}

impl Manifest {
    /// All runs.
    pub(crate) fn runs(&self) -> impl Iterator<Item = RunName> + '_ {
        self.fresh.iter().chain(&self.levels).flatten().copied()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = header(MANIFEST_MAGIC).to_vec();
        bytes.extend_from_slice(&self.next_number.to_le_bytes());
        for layers in [&self.fresh, &self.levels] {
            bytes.extend_from_slice(&(layers.len() as u32).to_le_bytes());
            for layer in layers {
                bytes.extend_from_slice(&(layer.len() as u32).to_le_bytes());
                for run in layer {
                    bytes.extend_from_slice(&run.number.to_le_bytes());
                    bytes.extend_from_slice(&run.bytes.to_le_bytes());
                    bytes.extend_from_slice(&run.checksum.to_le_bytes());
                }
            }
        }
        match &self.checkpoint {
            Some(checkpoint) => {
                bytes.push(1);
                bytes.extend_from_slice(&(checkpoint.len() as u64).to_le_bytes());
                bytes.extend_from_slice(checkpoint);
            }
            None => bytes.push(0),
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Manifest, Error> {
        check_header(bytes, MANIFEST_MAGIC, path)?;
        let end = bytes.len().saturating_sub(4).max(HEADER_BYTES);
        if u32_at(bytes, end) != Some(crc32fast::hash(&bytes[..end])) {
            return Err(damaged(path, 0, "the checksum of the manifest does not hold"));
        }
        let mut at = HEADER_BYTES;
        let manifest = Manifest::take(&bytes[..end], &mut at);
        manifest.ok_or_else(|| damaged(path, at as u64, "the manifest makes no sense"))
    }

    fn take(bytes: &[u8], at: &mut usize) -> Option<Manifest> {
        let next_number = take_u64(bytes, at)?;
        let fresh = take_layers(bytes, at)?;
        let levels = take_layers(bytes, at)?;
        let checkpoint = match take_bytes(bytes, at, 1)? {
            [0] => None,
            [1] => {
                let length = usize::try_from(take_u64(bytes, at)?).ok()?;
                Some(Arc::from(take_bytes(bytes, at, length)?))
            }
            _ => return None,
        };
        let names = || fresh.iter().chain(&levels).flatten();
        let mut numbers: Vec<u64> = names().map(|run| run.number).collect();
        numbers.sort_unstable();
        let holds = *at == bytes.len()
            && levels.len() <= LEVELS
            && numbers.windows(2).all(|pair| pair[0] != pair[1])
            && numbers.last().is_none_or(|last| *last < next_number);
        holds.then_some(Manifest {
            next_number,
            fresh,
            levels,
            checkpoint,
        })
    }

    /// The manifest of a folder; `None` in a new one.
    pub(crate) fn read(folder: &dyn Folder) -> Result<Option<Manifest>, Error> {
        let path = folder.path(MANIFEST);
        let failed = |source| Error::Io {
            path: path.clone(),
            doing: "read",
            source,
        };
        if !folder.list().map_err(failed)?.iter().any(|name| name == MANIFEST) {
            return Ok(None);
        }
        let file = folder.open(MANIFEST).map_err(failed)?;
        let length = file.bytes().map_err(failed)?;
        let length = usize::try_from(length).map_err(|_| damaged(&path, 0, "the manifest is too long"))?;
        let mut bytes = vec![0; length];
        file.read_at(0, &mut bytes).map_err(failed)?;
        Manifest::decode(&bytes, &path).map(Some)
    }

    /// Writes the manifest beside the present one, durably, to be put in its place.
    pub(crate) fn prepare(&self, folder: &dyn Folder) -> Result<(), Error> {
        let failed = |doing| {
            move |source| Error::Io {
                path: folder.path(UNFINISHED),
                doing,
                source,
            }
        };
        let mut file = folder.create(UNFINISHED).map_err(failed("create"))?;
        file.append(&self.encode()).map_err(failed("write"))?;
        file.sync().map_err(failed("sync"))?;
        // The names of the runs that it names are to be there before it is.
        folder.sync().map_err(failed("sync the folder of"))
    }
}

fn take_u32(bytes: &[u8], at: &mut usize) -> Option<u32> {
    u32_at(take_bytes(bytes, at, 4)?, 0)
}

fn take_u64(bytes: &[u8], at: &mut usize) -> Option<u64> {
    u64_at(take_bytes(bytes, at, 8)?, 0)
}

fn take_layers(bytes: &[u8], at: &mut usize) -> Option<Vec<Vec<RunName>>> {
    let count = take_u32(bytes, at)?;
    let mut layers = Vec::new();
    for _ in 0..count {
        let count = take_u32(bytes, at)?;
        let mut layer = Vec::new();
        for _ in 0..count {
            layer.push(RunName {
                number: take_u64(bytes, at)?,
                bytes: take_u64(bytes, at)?,
                checksum: take_u32(bytes, at)?,
            });
        }
        layers.push(layer);
    }
    Some(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let name = |number| RunName {
            number,
            bytes: number * 1000,
            checksum: number as u32 * 7,
        };
        Manifest {
            next_number: 20,
            fresh: vec![vec![name(9)], vec![name(7), name(8)]],
            levels: vec![vec![], vec![name(1), name(2), name(19)]],
            checkpoint: Some(b"the checkpoint".as_slice().into()),
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        for manifest in [sample(), Manifest::default()] {
            let bytes = manifest.encode();
            assert_eq!(Manifest::decode(&bytes, Path::new("m")).unwrap(), manifest);
        }
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(Manifest::decode(&other, Path::new("m")).is_err(), "byte {at}");
            assert!(
                Manifest::decode(&bytes[..at], Path::new("m")).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_newer_manifest_is_refused() {
        let mut bytes = sample().encode();
        bytes[7] = 2;
        let error = Manifest::decode(&bytes, Path::new("m")).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 2, .. }), "{error}");
    }

    #[test]
    fn one_run_is_not_named_twice() {
        let mut manifest = sample();
        manifest.levels[0].push(manifest.fresh[0][0]);
        assert!(Manifest::decode(&manifest.encode(), Path::new("m")).is_err());
    }
}
