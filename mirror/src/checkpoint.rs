//! The mirror's state put on disk, and taken from there.
//!
//! A checkpoint compacts sealed pieces that are mostly dead, captures the state at one LSN, writes the pieces that no
//! file has, and then the manifest. Readers and the applier go on meanwhile; only the capture holds the applier, for as long as copying
//! pointers takes. Files that the new manifest does not name go away with their last reader.
//!
//! When a step fails nothing is lost: the pieces stay in memory, the old manifest and its files stay good, and the
//! next attempt begins anew.

use arrow::datatypes::SchemaRef;
use roaring::RoaringBitmap;
use scry_engine::election::branch_columns;
use scry_stream::{StoreSchema, arrow_schema};
use scry_wal::Lsn;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bits::Bits;
use crate::cache::{Cache, Key};
use crate::core::Core;
use crate::error::Error;
use crate::manifest::{self, Manifest, PieceEntry, StoreEntry};
use crate::merge::merge;
use crate::piece::{Piece, Slot};
use crate::plan;
use crate::segment::{SegmentFile, sync_folder};
use crate::store::StoreCell;

/// Extension of segment files.
const EXTENSION: &str = "parquet";

/// Most compactions in one checkpoint, so that a manifest is written in the end whatever the applier does meanwhile.
const COMPACTIONS_MAX: usize = 1024;

/// Writes checkpoints into one folder.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    folder: PathBuf,
    next_file: u64,
    /// The files that the manifest names.
    named: HashMap<PathBuf, Arc<SegmentFile>>,
    upto: Option<Lsn>,
}

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct Restored {
    pub checkpointer: Checkpointer,
    pub upto: Lsn,
    pub restart: Lsn,
    pub stores: Vec<StoreCell>,
}

impl Checkpointer {
    /// A folder without a manifest.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            next_file: 0,
            named: HashMap::new(),
            upto: None,
        }
    }

    /// The LSN of the manifest.
    pub fn upto(&self) -> Option<Lsn> {
        self.upto
    }

    /// Puts the state of `core` on disk. Returns the LSN.
    pub fn run(&mut self, core: &Core) -> Result<Lsn, Error> {
        compact(core)?;
        let capture = core.capture()?;
        let mut written = Written {
            cache: &core.cache,
            files: Vec::new(),
        };
        let mut stores = Vec::with_capacity(capture.stores.len());
        let mut named = HashMap::new();
        for store in &capture.stores {
            let mut pieces = Vec::with_capacity(store.slots.len());
            for slot in &store.slots {
                let file = match slot.piece.file() {
                    Some(file) => file.clone(),
                    None => {
                        let file = Arc::new(self.seal(&store.cell, &slot.piece, capture.upto)?);
                        written
                            .files
                            .push((store.cell.clone(), slot.piece.clone(), file.clone()));
                        file
                    }
                };
                pieces.push(entry(slot, &file)?);
                named.insert(file.path().to_owned(), file);
            }
            stores.push(StoreEntry {
                store: store.cell.store,
                created: store.cell.created(),
                count: store.count,
                columns: store.cell.schema.columns.clone(),
                pieces,
            });
        }
        sync_folder(&self.folder)?;
        let (upto, restart) = (capture.upto, capture.restart);
        Manifest {
            upto,
            restart,
            next_file: self.next_file,
            stores,
        }
        .write(&self.folder)?;
        written.install();
        for (path, file) in std::mem::replace(&mut self.named, named) {
            if !self.named.contains_key(&path) {
                file.retire(&core.cache);
            }
        }
        self.upto = Some(upto);
        Ok(upto)
    }

    fn seal(&mut self, cell: &StoreCell, piece: &Piece, upto: Lsn) -> Result<SegmentFile, Error> {
        let batch = piece.batch().expect("a piece without a file is in memory");
        let name = format!(
            "{}-{}-{:x}-{}.{EXTENSION}",
            cell.store,
            piece.ordinals().start,
            upto.get(),
            self.next_file
        );
        self.next_file += 1;
        let ordinals = (0..piece.rows()).map(|position| piece.ordinal(position));
        SegmentFile::write(self.folder.join(name), batch, ordinals)
    }
}

/// Files written for a manifest that does not stand yet. Unless they are installed they are removed.
struct Written<'c> {
    cache: &'c Cache,
    files: Vec<(Arc<StoreCell>, Arc<Piece>, Arc<SegmentFile>)>,
}

impl Written<'_> {
    /// The manifest stands: the pieces may let go of their memory, as far as the cache does not keep it.
    fn install(mut self) {
        for (cell, piece, file) in self.files.drain(..) {
            let keep = piece.rows() < cell.small_rows();
            let sealed = Arc::new(piece.with_file(file.clone(), keep));
            let installed = cell.install(&piece, sealed);
            if installed && !keep {
                let columns = piece.batch().map_or(&[][..], |batch| batch.columns());
                for (column, array) in columns.iter().enumerate() {
                    self.cache.put(
                        Key {
                            file: file.id(),
                            column,
                        },
                        array.clone(),
                    );
                }
            }
        }
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        for (_, _, file) in &self.files {
            file.retire(self.cache);
        }
    }
}

/// Rewrites sealed pieces that are mostly dead or small, into memory.
fn compact(core: &Core) -> Result<(), Error> {
    // Not the shared cache: what is read here is on its way out.
    let scratch = Cache::new(0);
    let mut compactions = 0;
    for cell in core.stores() {
        while compactions < COMPACTIONS_MAX
            && let Some(slots) = cell.compaction()
        {
            compactions += 1;
            let merged = merge(&slots, &cell.schema.arrow, &scratch)?;
            if !cell.replace(&slots, merged) {
                break;
            }
        }
    }
    Ok(())
}

fn entry(slot: &Slot, file: &SegmentFile) -> Result<PieceEntry, Error> {
    let mut dead = RoaringBitmap::new();
    if let Some(bits) = &slot.dead {
        dead.extend(bits.iter().map(|position| position as u32));
    }
    let name = file
        .path()
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    Ok(PieceEntry {
        ordinals: slot.piece.ordinals(),
        rows: slot.piece.rows() as u64,
        sparse: slot.piece.offsets().is_some(),
        shift: slot.piece.shift(),
        file: name.to_owned(),
        parts: file.parts().to_vec(),
        dead,
    })
}

/// The LSN of the folder's manifest: every commit before it is in the mirror's files. `None` when there is none, or none that
/// can be read.
pub fn checkpoint_lsn(folder: &Path) -> Option<Lsn> {
    Some(Manifest::read(folder).ok()??.upto)
}

/// Takes the state from a folder, after checking every byte of it. A folder without a manifest is an empty mirror.
pub(crate) fn restore(folder: &Path, piece_rows: usize) -> Result<Restored, Error> {
    let found = Manifest::read(folder)?;
    let mut checkpointer = Checkpointer::new(folder);
    checkpointer.upto = found.as_ref().map(|manifest| manifest.upto);
    let manifest = found.unwrap_or_default();
    checkpointer.next_file = manifest.next_file;
    let mut stores = Vec::with_capacity(manifest.stores.len());
    for store in manifest.stores {
        let schema = Arc::new(StoreSchema::new(store.columns));
        let mut slots = Vec::with_capacity(store.pieces.len());
        for piece in store.pieces {
            let (slot, file) = restore_piece(folder, piece, &schema, plan::small(piece_rows))?;
            checkpointer.named.insert(file.path().to_owned(), file);
            slots.push(slot);
        }
        stores.push(StoreCell::restored(
            store.store,
            schema,
            store.created,
            store.count,
            slots,
            piece_rows,
        ));
    }
    remove_strangers(folder, &checkpointer.named)?;
    Ok(Restored {
        checkpointer,
        upto: manifest.upto,
        restart: manifest.restart,
        stores,
    })
}

/// The columns of a piece's file.
pub(crate) fn file_schema(schema: &StoreSchema, shift: Option<u64>) -> SchemaRef {
    match shift {
        None => schema.arrow.clone(),
        Some(_) => arrow_schema(&branch_columns(&schema.columns)),
    }
}

fn restore_piece(
    folder: &Path,
    entry: PieceEntry,
    schema: &StoreSchema,
    small_rows: usize,
) -> Result<(Slot, Arc<SegmentFile>), Error> {
    let path = folder.join(&entry.file);
    let file = Arc::new(SegmentFile::new(
        path.clone(),
        entry.parts,
        &file_schema(schema, entry.shift),
    )?);
    file.verify()?;
    let damaged = |what, expected, found| Error::Damaged {
        path: path.clone(),
        offset: 0,
        what,
        expected,
        found,
    };
    let rows = usize::try_from(entry.rows).map_err(|_| damaged("rows of the segment", 0, entry.rows))?;
    let start = entry.ordinals.start;
    let shift = entry.shift.unwrap_or(0);
    let offsets = if entry.sparse {
        let ordinals = file.ordinals(rows)?;
        let offset = |&ordinal: &u64| u32::try_from(ordinal.checked_add(shift)?.checked_sub(start)?).ok();
        let offsets: Option<Vec<u32>> = ordinals.iter().map(offset).collect();
        let valid = offsets.filter(|offsets| {
            let inside = offsets
                .last()
                .is_none_or(|&last| start + u64::from(last) < entry.ordinals.end);
            inside && offsets.len() == rows && offsets.is_sorted_by(|a, b| a < b)
        });
        let Some(offsets) = valid else {
            return Err(damaged(
                "ordinals of the segment",
                entry.rows,
                ordinals.len() as u64,
            ));
        };
        Some(Arc::from(offsets))
    } else {
        None
    };
    let columns = schema.arrow.fields().len();
    let mut piece = Piece::sealed(
        entry.ordinals.clone(),
        rows,
        offsets.clone(),
        file.clone(),
        columns,
    );
    piece = piece.shifted(entry.shift);
    if rows < small_rows {
        let all: Vec<usize> = (0..columns).collect();
        let batch = piece.columns(&all, &Cache::new(0))?;
        let resident = Piece::resident(entry.ordinals, offsets, batch);
        piece = resident.with_file(file.clone(), true).shifted(entry.shift);
    }
    let mut slot = Slot::new(piece);
    if !entry.dead.is_empty() {
        let mut dead = Bits::new(rows);
        entry.dead.iter().for_each(|position| {
            dead.insert(position as usize);
        });
        slot.dead_rows = entry.dead.len() as usize;
        slot.dead = Some(Arc::new(dead));
    }
    Ok((slot, file))
}

/// Removes the segment files that no manifest names: an interrupted checkpoint's.
fn remove_strangers(folder: &Path, named: &HashMap<PathBuf, Arc<SegmentFile>>) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        let segment = path.extension().is_some_and(|extension| extension == EXTENSION);
        if segment && !named.contains_key(&path) {
            std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    Ok(())
}

/// Clears a folder whose content cannot be used, so that the mirror is made anew from the log. The manifest is set
/// aside, for whoever wants to know what happened.
pub(crate) fn set_aside(folder: &Path) -> Result<(), Error> {
    let manifest = folder.join(manifest::FILE_NAME);
    match std::fs::rename(&manifest, folder.join(manifest::DAMAGED_NAME)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(&manifest, "rename")(error))
        }
        _ => remove_strangers(folder, &HashMap::new()),
    }
}
