//! Copies of sealed segments in another folder, byte for byte.
//!
//! A segment is sealed when the next one was entered: its bytes never change again, and the next one's header says with which
//! chain value it ends. A copy is made under a temporary name, synced, renamed, then read again and followed to its end, and
//! only then the archive's position moves on: a consumer of its own, [`NAME`], so that no segment goes before it was
//! archived. An archive whose disk is full keeps the log's segments from going; it is never dropped.
//!
//! Nothing in an archive is replaced by something else: a sound segment of another history or database is refused.
//! Copied back by [`restore`], or by hand, segments are the log's again.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::consumers::Consumers;
use crate::error::{Error, Flaw};
use crate::format::{Chain, DatabaseId, Geometry, SegmentHeader, segment_name};
use crate::ids::Lsn;
use crate::options::Backend;
use crate::scan::{Reader, Step, Walk};
use crate::segments::{Segments, believed_header, damaged, files, io_error, remove};
use crate::shared::Shared;
use crate::storage::disk::{DiskStorage, make_folders};
use crate::storage::layered::Layered;
use crate::storage::{Access, SegmentFile, Storage};
use crate::sys::buffer::{Block, Pool};

/// The archive's name among the consumers.
pub const NAME: &str = "archive";

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Where sealed segments are copied to.
#[derive(Clone)]
pub struct Archive(pub(crate) Arc<dyn Storage>);

impl Archive {
    /// A folder, which is made when there is something to put into it.
    pub fn folder(path: &Path) -> Self {
        Self(Arc::new(DiskStorage::new(path, Backend::Blocking)))
    }

    /// Any storage.
    pub fn on(storage: Arc<dyn Storage>) -> Self {
        Self(storage)
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Archive").field(&self.0.path("")).finish()
    }
}

/// A log's folder and its archive, read as one.
pub(crate) fn with_archive(dir: &Path, archive: Option<&Path>) -> Arc<dyn Storage> {
    let log = DiskStorage::new(dir, Backend::Blocking);
    match archive {
        Some(archive) => Arc::new(Layered::new(
            Arc::new(log),
            Arc::new(DiskStorage::new(archive, Backend::Blocking)),
        )),
        None => Arc::new(log),
    }
}

/// Archives what is sealed and is not archived, but for segments that are left when it is `stopped`; returns up to where all is. Nothing
/// when there is no archive.
pub(crate) fn archive_sealed(shared: &Shared, stopped: &dyn Fn() -> bool) -> Result<Option<Lsn>, Error> {
    let Some(Archive(archive)) = &shared.archive else {
        return Ok(None);
    };
    let geometry = shared.geometry;
    let consumers = &shared.consumers;
    let mut base = position(consumers).get();
    // The segment with the last durable byte is not sealed; that it has one says that its header is durable.
    let sealed = geometry.base(shared.durability.raw().saturating_sub(1));
    if base < sealed {
        let log = shared.storage.as_ref();
        archive
            .make_folder()
            .map_err(|source| io_error(archive.as_ref(), "", "create", source))?;
        let there: HashMap<String, u64> = files(archive.as_ref())?.into_iter().collect();
        let mut header = sound_header(log, base)?;
        while base < sealed && !stopped() {
            let next = sound_header(log, geometry.end(base))?;
            let bytes = there.get(&segment_name(base)).copied();
            archive_segment(log, archive, geometry, &header, &next.chain, bytes)?;
            base = geometry.end(base);
            consumers.raise(NAME, Lsn::new(base))?;
            header = next;
        }
    }
    consumers.write()?;
    Ok(Some(Lsn::new(base)))
}

/// From where the log is not archived yet.
fn position(consumers: &Consumers) -> Lsn {
    let needs = consumers.needs(NAME).unwrap_or_default();
    needs.max(consumers.begin())
}

fn sound_header(storage: &dyn Storage, base: u64) -> Result<SegmentHeader, Error> {
    believed_header(storage, base)?.map_err(|flaw| damaged(storage, base, flaw))
}

/// Copies a segment, of which the archive has a file of so many `bytes`, if it has one.
fn archive_segment(
    log: &dyn Storage,
    archive: &Arc<dyn Storage>,
    geometry: Geometry,
    header: &SegmentHeader,
    ends_with: &Chain,
    bytes: Option<u64>,
) -> Result<(), Error> {
    if let Some(bytes) = bytes
        && let Some(chain) = archived_chain(archive, geometry, header, bytes)?
    {
        if chain == *ends_with {
            return Ok(());
        }
        return Err(damaged(archive.as_ref(), header.base, Flaw::ChainLink));
    }
    copy(log, archive.as_ref(), geometry, header.base)?;
    match archived_chain(archive, geometry, header, geometry.segment_bytes()) {
        Ok(Some(chain)) if chain == *ends_with => Ok(()),
        copied => {
            // What was copied is not what was written: the log's file is damaged, or the archive's disk.
            remove(archive.as_ref(), &segment_name(header.base))?;
            copied?;
            Err(damaged(log, header.base, Flaw::ChainHash))
        }
    }
}

/// The chain value with which the archived segment, of so many bytes, ends; nothing when it is not sound. Refuses that of another
/// database.
fn archived_chain(
    archive: &Arc<dyn Storage>,
    geometry: Geometry,
    header: &SegmentHeader,
    bytes: u64,
) -> Result<Option<Chain>, Error> {
    match believed_header(archive.as_ref(), header.base)? {
        Ok(found) if found.database != header.database => {
            return Err(damaged(archive.as_ref(), header.base, Flaw::Foreign));
        }
        Ok(_) if bytes == geometry.segment_bytes() => {}
        _ => return Ok(None),
    }
    match follow(
        archive,
        geometry,
        &header.database,
        header.base,
        geometry.end(header.base),
    ) {
        Ok(chain) => Ok(Some(chain)),
        Err(Error::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Follows the chain from the beginning of a segment to the end of one, and returns its value there.
fn follow(
    storage: &Arc<dyn Storage>,
    geometry: Geometry,
    database: &DatabaseId,
    from: u64,
    to: u64,
) -> Result<Chain, Error> {
    let reader = Reader::new(Arc::clone(storage), geometry, Pool::new(), Access::Sequential, to);
    let Some(mut walk) = Walk::from_segment(reader, *database, from, true)? else {
        return Err(damaged(storage.as_ref(), from, Flaw::Zeros));
    };
    loop {
        match walk.step()? {
            Step::Frame(_) | Step::Entered => {}
            Step::End => return Ok(walk.chain()),
            Step::Stop(stop) => {
                return Err(Error::Damaged {
                    place: crate::segments::place(storage.as_ref(), geometry, stop.at),
                    flaw: stop.flaw,
                    witness: None,
                });
            }
        }
    }
}

fn copy(from: &dyn Storage, to: &dyn Storage, geometry: Geometry, base: u64) -> Result<(), Error> {
    let name = segment_name(base);
    let file = from
        .open(&name, Access::Live)
        .map_err(|source| io_error(from, &name, "open", source))?;
    let mut bytes = SegmentBytes {
        file,
        block: Pool::new().block(COPY_BYTES),
        offset: 0,
        end: geometry.segment_bytes(),
        ready: 0..0,
    };
    to.replace(&name, &mut bytes)
        .map_err(|source| io_error(to, &name, "write", source))
}

/// The bytes of a segment, from one end to the other.
struct SegmentBytes {
    file: Arc<dyn SegmentFile>,
    block: Block,
    offset: u64,
    end: u64,
    /// What of the block was not taken yet.
    ready: std::ops::Range<usize>,
}

impl Read for SegmentBytes {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && self.offset < self.end {
            let want =
                usize::try_from(self.end - self.offset).map_or(COPY_BYTES, |rest| rest.min(COPY_BYTES));
            let count = self
                .file
                .read_at(self.offset, &mut self.block.bytes_mut()[..want])?;
            if count < want {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.offset += count as u64;
            self.ready = 0..count;
        }
        let count = self.ready.len().min(out.len());
        let start = self.ready.start;
        out[..count].copy_from_slice(&self.block.bytes()[start..start + count]);
        self.ready.start += count;
        Ok(count)
    }
}

/// What was brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Where the log begins now.
    pub begin: Lsn,
    /// How many segments came back.
    pub segments: u64,
}

/// Brings archived segments back into a log's folder, which no process has open, so that the log can be read from
/// `from` on. With an empty folder all of the archive from there comes back, and is a log.
///
/// Everything that comes back is checked down to its chain, and that it ends where the log begins, before a file is made.
///
/// # Errors
/// [`Error::Gone`] when the archive does not reach back that far; [`Error::Damaged`] when it is damaged, has a gap or is that
/// of another log; [`Error::Io`].
pub fn restore(archive: &Path, dir: &Path, from: Lsn) -> Result<Restored, Error> {
    make_folders(dir).map_err(|source| Error::Io {
        action: "create the log's folder",
        path: dir.to_path_buf(),
        source,
    })?;
    restore_on(
        &Archive::folder(archive),
        &(Arc::new(DiskStorage::new(dir, Backend::Blocking)) as Arc<dyn Storage>),
        from,
    )
}

/// As [`restore`], on any storage.
///
/// # Errors
/// As [`restore`].
pub fn restore_on(archive: &Archive, log: &Arc<dyn Storage>, from: Lsn) -> Result<Restored, Error> {
    let archive = &archive.0;
    let present = Segments::find(log.as_ref())?;
    let Some(archived) = Segments::find(archive.as_ref())? else {
        return match present {
            Some(present) if present.begin <= from.get() => Ok(Restored {
                begin: Lsn::new(present.begin),
                segments: 0,
            }),
            _ => Err(Error::Gone {
                lsn: from,
                begin: present.map_or(Lsn::MAX, |present| Lsn::new(present.begin)),
            }),
        };
    };
    let geometry = archived.geometry;
    if let Some(present) = &present
        && (present.database != archived.database || present.geometry != geometry)
    {
        return Err(damaged(archive.as_ref(), archived.begin, Flaw::Foreign));
    }
    let end = present.as_ref().map_or(archived.end, |present| present.begin);
    let start = geometry.base(from.get());
    if start >= end {
        return Ok(Restored {
            begin: Lsn::new(end),
            segments: 0,
        });
    }
    if start < archived.begin {
        return Err(Error::Gone {
            lsn: from,
            begin: Lsn::new(archived.begin),
        });
    }
    if archived.end < end {
        return Err(damaged(archive.as_ref(), archived.end, Flaw::MissingSegment));
    }
    let chain = follow(archive, geometry, &archived.database, start, end)?;
    if present.is_some() && sound_header(log.as_ref(), end)?.chain != chain {
        return Err(damaged(log.as_ref(), end, Flaw::ChainLink));
    }
    // From the end, so that what is there has no gap whenever this ends.
    let mut base = end;
    while base > start {
        base -= geometry.segment_bytes();
        copy(archive.as_ref(), log.as_ref(), geometry, base)?;
    }
    Ok(Restored {
        begin: Lsn::new(start),
        segments: (end - start) / geometry.segment_bytes(),
    })
}
