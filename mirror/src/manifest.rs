//! The manifest: which files are the mirror at one LSN.
//!
//! ```text
//! manifest   8 bytes "SCRYMIRR" · u32 format · u32 CRC32 of the body · u64 length of the body · body
//! body       16 bytes: the database · u64 LSN x: every commit below it is in the files · u64 LSN from which a restart reads the log
//!            · u64 LSN of the last commit below x · u64 number of the next file · u32 stores · stores
//! store      u32 id · u64 LSN of its creation · u8 mirrored: 0 for the changes of a candidate that are kept from the mirror
//!            · u64 ordinals begun · u32 length + columns, as the log's CREATE TABLE record has them · u32 pieces · pieces
//! piece      u64 first ordinal · u64 end ordinal · u64 rows · u32 columns that it has, of the store's the first · u8 bits (0 rows are missing in between: the file's ordinal column
//!            says which are there; 1 the file is that of a branch: it has a branch's columns, and its ordinals lack what
//!            follows) · if of a branch: u64 · u16 length + file name · u32 parts · per part u64 bytes, u32 CRC32
//!            · u32 length + dead rows (roaring bitmap, portable format)
//! ```
//!
//! Numbers are little-endian. An older format is not read: the mirror is made anew. The file is replaced whole: written beside, synced, renamed, folder synced.

use roaring::RoaringBitmap;
use scry_engine::{CatalogChange, ColumnDef, TableDef};
use scry_wal::{Lsn, StoreId};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use crate::core::Position;
use crate::error::Error;
use crate::segment::Part;

/// Name of the file.
pub(crate) const FILE_NAME: &str = "MANIFEST";

/// A manifest found damaged is set aside under this name.
pub(crate) const DAMAGED_NAME: &str = "MANIFEST.damaged";

pub(crate) const TEMPORARY_NAME: &str = "MANIFEST.new";
const MAGIC: &[u8; 8] = b"SCRYMIRR";
const FORMAT: u32 = 6;
const SPARSE: u8 = 1;
const OF_BRANCH: u8 = 2;
const HEADER_BYTES: usize = 24;
const CRC_OFFSET: usize = 12;
const LENGTH_OFFSET: usize = 16;
const _: () = assert!(CRC_OFFSET == MAGIC.len() + 4 && HEADER_BYTES == LENGTH_OFFSET + 8);

/// The mirror at one LSN.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    /// What the log that it goes on with calls its database.
    pub database: [u8; 16],
    pub position: Position,
    pub next_file: u64,
    pub stores: Vec<StoreEntry>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct StoreEntry {
    pub store: StoreId,
    pub created: Lsn,
    pub mirrored: bool,
    pub count: u64,
    pub columns: Vec<ColumnDef>,
    pub pieces: Vec<PieceEntry>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct PieceEntry {
    pub ordinals: Range<u64>,
    pub rows: u64,
    pub columns: usize,
    pub sparse: bool,
    /// For the file of a branch: what its ordinals lack.
    pub shift: Option<u64>,
    pub file: String,
    pub parts: Vec<Part>,
    pub dead: RoaringBitmap,
}

impl Manifest {
    /// Replaces the manifest of a folder. It is durable when the folder is synced.
    pub fn replace(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(TEMPORARY_NAME);
        let bytes = self.encode();
        File::create(&path)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .map_err(Error::io(&path, "write"))?;
        std::fs::rename(&path, folder.join(FILE_NAME)).map_err(Error::io(&path, "rename"))
    }

    /// The manifest of a folder, if it has one.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE_NAME);
        match std::fs::read(&path) {
            Ok(bytes) => Self::decode(&bytes, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path, "read")(error)),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = self.database.to_vec();
        let Position {
            upto,
            restart,
            last_commit,
        } = self.position;
        for lsn in [upto, restart, last_commit] {
            put(&mut body, &lsn.get().to_le_bytes());
        }
        put(&mut body, &self.next_file.to_le_bytes());
        put(&mut body, &(self.stores.len() as u32).to_le_bytes());
        for store in &self.stores {
            store.encode(&mut body);
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        put(&mut out, MAGIC);
        put(&mut out, &FORMAT.to_le_bytes());
        put(&mut out, &crc32fast::hash(&body).to_le_bytes());
        put(&mut out, &(body.len() as u64).to_le_bytes());
        put(&mut out, &body);
        out
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let mut reader = Reader { bytes, at: 0, path };
        let magic = reader.array::<8>()?;
        if magic != *MAGIC {
            let number = u64::from_le_bytes;
            return Err(reader.damaged(0, "magic", number(*MAGIC), number(magic)));
        }
        let format = reader.u32()?;
        if format > FORMAT {
            return Err(Error::NewerFormat {
                path: path.to_owned(),
                found: format,
                supported: FORMAT,
            });
        }
        if format < FORMAT {
            return Err(reader.damaged(MAGIC.len(), "format", FORMAT.into(), format.into()));
        }
        let crc = reader.u32()?;
        let length = reader.u64()?;
        let body = &bytes[reader.at..];
        if body.len() as u64 != length {
            return Err(reader.damaged(LENGTH_OFFSET, "length of the body", length, body.len() as u64));
        }
        let found = crc32fast::hash(body);
        if found != crc {
            return Err(reader.damaged(CRC_OFFSET, "checksum of the body", crc.into(), found.into()));
        }
        let database = reader.array()?;
        let upto = Lsn::new(reader.u64()?);
        let restart = Lsn::new(reader.u64()?);
        let last_commit = Lsn::new(reader.u64()?);
        let next_file = reader.u64()?;
        let mut stores = Vec::new();
        for _ in 0..reader.u32()? {
            stores.push(StoreEntry::decode(&mut reader)?);
        }
        if reader.at != bytes.len() {
            return Err(reader.damaged(reader.at, "end of the body", bytes.len() as u64, reader.at as u64));
        }
        if restart > upto {
            return Err(reader.damaged(HEADER_BYTES, "restart position", upto.get(), restart.get()));
        }
        if last_commit > upto {
            return Err(reader.damaged(HEADER_BYTES, "last commit", upto.get(), last_commit.get()));
        }
        Ok(Self {
            database,
            position: Position {
                upto,
                restart,
                last_commit,
            },
            next_file,
            stores,
        })
    }
}

impl StoreEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        put(out, &self.store.get().to_le_bytes());
        put(out, &self.created.get().to_le_bytes());
        put(out, &[u8::from(self.mirrored)]);
        put(out, &self.count.to_le_bytes());
        let table = TableDef {
            oid: 0,
            name: String::new(),
            columns: self.columns.clone(),
            primary_key: None,
            store: self.store,
            ..TableDef::default()
        };
        let mut columns = Vec::new();
        CatalogChange::CreateTable(table).encode(&mut columns);
        put(out, &(columns.len() as u32).to_le_bytes());
        put(out, &columns);
        put(out, &(self.pieces.len() as u32).to_le_bytes());
        for piece in &self.pieces {
            piece.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let store = StoreId::new(reader.u32()?);
        let created = Lsn::new(reader.u64()?);
        let [mirrored] = reader.array()?;
        if mirrored > 1 {
            return Err(reader.damaged(reader.at - 1, "whether a store is mirrored", 1, mirrored.into()));
        }
        let count = reader.u64()?;
        let at = reader.at;
        let length = reader.u32()?;
        let columns = match CatalogChange::decode(reader.take(length as usize)?) {
            Ok(CatalogChange::CreateTable(table)) => table.columns,
            _ => return Err(reader.damaged(at, "columns of a store", 0, 0)),
        };
        let mut pieces: Vec<PieceEntry> = Vec::new();
        for _ in 0..reader.u32()? {
            let at = reader.at;
            let piece = PieceEntry::decode(reader)?;
            let least = pieces.last().map_or(0, |piece| piece.ordinals.end);
            if piece.ordinals.start < least {
                return Err(reader.damaged(at, "order of pieces", least, piece.ordinals.start));
            }
            if piece.ordinals.end > count {
                return Err(reader.damaged(at, "ordinals of a piece", count, piece.ordinals.end));
            }
            pieces.push(piece);
        }
        Ok(Self {
            store,
            created,
            mirrored: mirrored == 1,
            count,
            columns,
            pieces,
        })
    }
}

impl PieceEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        put(out, &self.ordinals.start.to_le_bytes());
        put(out, &self.ordinals.end.to_le_bytes());
        put(out, &self.rows.to_le_bytes());
        put(out, &(self.columns as u32).to_le_bytes());
        let sparse = if self.sparse { SPARSE } else { 0 };
        put(out, &[sparse | if self.shift.is_some() { OF_BRANCH } else { 0 }]);
        if let Some(shift) = self.shift {
            put(out, &shift.to_le_bytes());
        }
        put(out, &(self.file.len() as u16).to_le_bytes());
        put(out, self.file.as_bytes());
        put(out, &(self.parts.len() as u32).to_le_bytes());
        for part in &self.parts {
            put(out, &part.bytes.to_le_bytes());
            put(out, &part.crc.to_le_bytes());
        }
        put(out, &(self.dead.serialized_size() as u32).to_le_bytes());
        self.dead
            .serialize_into(&mut *out)
            .expect("writing to memory does not fail");
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let at = reader.at;
        let ordinals = reader.u64()?..reader.u64()?;
        let rows = reader.u64()?;
        let columns = reader.u32()? as usize;
        let [bits] = reader.array()?;
        if bits > SPARSE | OF_BRANCH {
            return Err(reader.damaged(at, "bits of a piece", 0, bits.into()));
        }
        let sparse = bits & SPARSE != 0;
        let shift = match bits & OF_BRANCH {
            0 => None,
            _ => Some(reader.u64()?),
        };
        let span = ordinals.end.checked_sub(ordinals.start);
        let fits = span.is_some_and(|span| if sparse { rows <= span } else { rows == span });
        if !fits {
            return Err(reader.damaged(at, "rows of a piece", span.unwrap_or(0), rows));
        }
        let at = reader.at;
        let length = u16::from_le_bytes(reader.array()?);
        let file = match std::str::from_utf8(reader.take(length.into())?) {
            Ok(name) if !name.is_empty() && !name.contains('/') => name.to_owned(),
            _ => return Err(reader.damaged(at, "name of a file", 0, 0)),
        };
        let mut parts = Vec::new();
        let mut offset = 0u64;
        for _ in 0..reader.u32()? {
            let at = reader.at;
            let (bytes, crc) = (reader.u64()?, reader.u32()?);
            parts.push(Part { offset, bytes, crc });
            offset = offset
                .checked_add(bytes)
                .ok_or_else(|| reader.damaged(at, "length of a part", u64::MAX, bytes))?;
        }
        let at = reader.at;
        let length = reader.u32()?;
        let dead = RoaringBitmap::deserialize_from(reader.take(length as usize)?)
            .map_err(|_| reader.damaged(at, "bitmap of dead rows", 0, 0))?;
        if let Some(last) = dead.max()
            && u64::from(last) >= rows
        {
            return Err(reader.damaged(at, "last dead row", rows, last.into()));
        }
        Ok(Self {
            ordinals,
            rows,
            columns,
            sparse,
            shift,
            file,
            parts,
            dead,
        })
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

/// Reads within bounds, and says where it could not.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    path: &'a Path,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..length) else {
            return Err(self.damaged(self.at, "length", length as u64, rest.len() as u64));
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn damaged(&self, offset: usize, what: &'static str, expected: u64, found: u64) -> Error {
        Error::Damaged {
            path: self.path.to_owned(),
            offset: offset as u64,
            what,
            expected,
            found,
        }
    }
}
