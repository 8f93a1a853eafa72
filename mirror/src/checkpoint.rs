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
use scry_wal::{Lsn, StoreId};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bits::Bits;
use crate::cache::{Cache, Key};
use crate::core::{Core, Position};
use crate::error::Error;
use crate::manifest::{self, Manifest, PieceEntry, StoreEntry};
use crate::merge::merge;
use crate::piece::{Piece, Slot};
use crate::plan;
use crate::repair::is_damage;
use crate::seed;
use crate::segment::{SegmentFile, sync_folder};
use crate::store::{StoreCell, size};

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
    /// Files of a manifest of which nobody knows whether it is durable.
    undecided: Vec<Arc<SegmentFile>>,
    position: Option<Position>,
    /// What the log calls its database.
    database: [u8; 16],
    /// Makes names in the folder durable.
    sync_folder: fn(&Path) -> Result<(), Error>,
}

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct Restored {
    pub checkpointer: Checkpointer,
    pub position: Position,
    pub stores: Vec<StoreCell>,
}

impl Checkpointer {
    /// A folder without a manifest.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            next_file: 0,
            named: HashMap::new(),
            undecided: Vec::new(),
            position: None,
            database: [0; 16],
            sync_folder,
        }
    }

    /// With another way to sync the folder: one that fails.
    #[cfg(test)]
    pub fn set_sync_folder(&mut self, sync_folder: fn(&Path) -> Result<(), Error>) {
        self.sync_folder = sync_folder;
    }

    /// The LSN of the manifest.
    pub fn upto(&self) -> Option<Lsn> {
        self.position.map(|position| position.upto)
    }

    /// Whose mirror it is, as the manifest says.
    pub fn database(&self) -> [u8; 16] {
        self.database
    }

    pub fn set_database(&mut self, database: [u8; 16]) {
        self.database = database;
    }

    /// From where a restart reads the log.
    pub fn restart(&self) -> Option<Lsn> {
        self.position.map(|position| position.restart)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
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
                        let file =
                            Arc::new(self.seal(store.cell.store, &slot.piece, capture.position.upto)?);
                        written
                            .files
                            .push((store.cell.clone(), slot.clone(), file.clone()));
                        file
                    }
                };
                pieces.push(entry(slot, &file)?);
                named.insert(file.path().to_owned(), file);
            }
            let schema = &store.schema;
            stores.push(StoreEntry {
                store: store.cell.store,
                created: store.cell.created(),
                mirrored: schema.mirrored,
                count: store.count,
                columns: schema.columns.clone(),
                pieces,
            });
        }
        (self.sync_folder)(&self.folder)?;
        let position = capture.position;
        Manifest {
            database: self.database,
            position,
            next_file: self.next_file,
            stores,
        }
        .replace(&self.folder)?;
        if let Err(error) = (self.sync_folder)(&self.folder) {
            // A restart finds this manifest or the one before: the files of both stay until one is durable.
            self.undecided.extend(written.keep());
            return Err(error);
        }
        written.install();
        let before = std::mem::replace(&mut self.named, named).into_values();
        for file in before.chain(self.undecided.drain(..)) {
            if !self.named.contains_key(file.path()) {
                file.retire(&core.cache);
            }
        }
        self.position = Some(position);
        Ok(position.upto)
    }

    /// The files of the manifest that stands.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.named.keys().cloned()
    }

    /// Gives a piece in memory a file that no manifest names yet.
    pub fn seal(&mut self, store: StoreId, piece: &Piece, upto: Lsn) -> Result<SegmentFile, Error> {
        let batch = piece.batch().expect("a piece without a file is in memory");
        let name = format!(
            "{}-{}-{:x}-{}.{EXTENSION}",
            store,
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
    files: Vec<(Arc<StoreCell>, Slot, Arc<SegmentFile>)>,
}

impl Written<'_> {
    /// The files, which stay.
    fn keep(mut self) -> Vec<Arc<SegmentFile>> {
        self.files.drain(..).map(|(_, _, file)| file).collect()
    }

    /// The manifest stands: the pieces may let go of their memory, as far as the cache does not keep it.
    fn install(mut self) {
        for (cell, slot, file) in self.files.drain(..) {
            let piece = &slot.piece;
            let keep = cell.keeps(&slot);
            let sealed = Arc::new(piece.with_file(file.clone(), keep));
            let installed = cell.install(piece, sealed);
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
            let merged = match merge(&slots, &cell.schema(), &scratch) {
                Err(error) if is_damage(&error) => {
                    report_damaged(core, cell.store, &slots);
                    break;
                }
                merged => merged?,
            };
            if !cell.replace(&slots, merged) {
                break;
            }
        }
    }
    Ok(())
}

/// Has those of the pieces made again whose files are damaged. The checkpoint goes on without their compaction.
fn report_damaged(core: &Core, store: StoreId, slots: &[Slot]) {
    for slot in slots {
        if let Some(Err(error)) = slot.piece.file().map(|file| file.verify()) {
            core.repairs.report(store, &slot.piece, &error);
        }
    }
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
        columns: slot.piece.width(),
        file: name.to_owned(),
        parts: file.parts().to_vec(),
        dead,
    })
}

/// The LSN of the folder's manifest: every commit before it is in the mirror's files. `None` when there is none, or none that
/// can be read.
pub fn checkpoint_lsn(folder: &Path) -> Option<Lsn> {
    Some(Manifest::read(folder).ok()??.position.upto)
}

/// Takes the state from a folder, after checking every byte of it. A folder without a manifest is an empty mirror.
pub(crate) fn restore(folder: &Path, piece_rows: usize) -> Result<Restored, Error> {
    let found = Manifest::read(folder)?;
    let mut checkpointer = Checkpointer::new(folder);
    checkpointer.position = found.as_ref().map(|manifest| manifest.position);
    let manifest = found.unwrap_or_default();
    checkpointer.database = manifest.database;
    checkpointer.next_file = manifest.next_file;
    let mut stores = Vec::with_capacity(manifest.stores.len());
    for store in manifest.stores {
        let mut schema = StoreSchema::new(store.columns);
        schema.mirrored = store.mirrored;
        let schema = Arc::new(schema);
        let mut slots = Vec::with_capacity(store.pieces.len());
        for piece in store.pieces {
            let (slot, file) = restore_piece(folder, piece, &schema, piece_rows)?;
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
        position: manifest.position,
        stores,
    })
}

/// The columns of the file of a piece that has the first `columns` of the store's.
pub(crate) fn file_schema(schema: &StoreSchema, columns: usize, shift: Option<u64>) -> SchemaRef {
    let own = &schema.columns[..columns.min(schema.columns.len())];
    match shift {
        None => arrow_schema(own),
        Some(_) => arrow_schema(&branch_columns(own)),
    }
}

fn restore_piece(
    folder: &Path,
    entry: PieceEntry,
    schema: &StoreSchema,
    piece_rows: usize,
) -> Result<(Slot, Arc<SegmentFile>), Error> {
    let path = folder.join(&entry.file);
    let file = Arc::new(SegmentFile::new(
        path.clone(),
        entry.parts,
        &file_schema(schema, entry.columns, entry.shift),
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
    let columns = entry.columns;
    if columns > schema.columns.len() {
        let (expected, found) = (schema.columns.len() as u64, columns as u64);
        return Err(damaged("columns of the segment", expected, found));
    }
    let piece = Piece::sealed(
        entry.ordinals.clone(),
        rows,
        offsets.clone(),
        file.clone(),
        file.decoded_bytes()?,
        columns,
    );
    let piece = piece.shifted(entry.shift);
    let mut slot = Slot::new(piece);
    if !entry.dead.is_empty() {
        let mut dead = Bits::new(rows);
        entry.dead.iter().for_each(|position| {
            dead.insert(position as usize);
        });
        slot.dead_rows = entry.dead.len() as usize;
        slot.dead = Some(Arc::new(dead));
    }
    if plan::is_small(&size(&slot), piece_rows) {
        let all: Vec<usize> = (0..columns).collect();
        let batch = slot.piece.own_columns(&all, &Cache::new(0))?;
        let resident = Piece::resident(entry.ordinals, offsets, batch);
        let piece = resident.with_file(file.clone(), true).shifted(entry.shift);
        slot = slot.with_piece(Arc::new(piece));
    }
    Ok((slot, file))
}

/// Removes the segment files that no manifest names, an interrupted checkpoint's, and what interrupted seeding left.
fn remove_strangers(folder: &Path, named: &HashMap<PathBuf, Arc<SegmentFile>>) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        let segment = path.extension().is_some_and(|extension| extension == EXTENSION);
        let scratch = path.file_name().is_some_and(|name| name == seed::SCRATCH_NAME);
        if scratch || segment && !named.contains_key(&path) {
            std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    Ok(())
}

/// Clears a folder whose content cannot be used, so that the mirror is made anew. The manifest is set
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
