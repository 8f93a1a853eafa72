//! Who follows the log from outside, and from where each of them still needs it.
//!
//! A consumer has a name and a position. Segments from that position on are kept for it, up to a bound: one that falls further
//! behind is *dropped* rather than that the disk fills. It stays in the list with where and when that was, and what it
//! reads from then on ends with an error that says so.
//!
//! The list is a small file beside the segments, replaced as a whole. Little-endian:
//!
//! ```text
//!     0  u32      magic, "SCRC"
//!     4  u32      CRC-32 of bytes 8..
//!     8  u32      format version
//!    12  u32      number of consumers
//!    16  [u8;16]  database id
//!    32  for each consumer, in the order of their names:
//!        u16      bytes of the name
//!        ..       the name, UTF-8
//!        u64      LSN from which it needs the log
//!        u8       0 it is kept up, 1 it was dropped
//!        u64      the log's durable end when it was dropped, else 0
//!        i64      the time of that in microseconds since 1970, else 0
//! ```
//!
//! Invariants:
//! - registering and removing are durable when they return; a position that was advanced is, before a segment goes on its
//!   account;
//! - a position only rises, and is not beyond what is durable: at the next start it is a witness of the log's end;
//! - no segment goes that an active consumer needs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::archive;
use crate::durability::Durability;
use crate::error::{Error, Flaw};
use crate::format::DatabaseId;
use crate::ids::{Lsn, Micros};
use crate::segments::{io_error, remove};
use crate::storage::Storage;

/// The file's name.
const FILE: &str = "consumers";
const MAGIC: u32 = u32::from_le_bytes(*b"SCRC");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;

/// Consumers that can be registered at once: each is a program that somebody set up.
pub const CONSUMERS_MAX: usize = 64;
/// Bytes of a consumer's name.
pub const CONSUMER_NAME_BYTES_MAX: usize = 100;

const NOT_DURABLE: &str = "the log is not durable up to its position";

/// Somebody who needs the log from some position on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// From where it needs the log.
    pub needs: Lsn,
    /// When it was dropped, if it was.
    pub dropped: Option<Dropped>,
}

/// When a consumer had fallen too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// How far the log had come.
    pub at: Lsn,
    /// The time.
    pub time: Micros,
}

#[derive(Clone, Copy)]
struct Entry {
    needs: Lsn,
    dropped: Option<Dropped>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    /// Something was changed that the file does not say.
    dirty: bool,
}

/// The consumers of an open log.
pub struct Consumers {
    storage: Arc<dyn Storage>,
    durability: Arc<Durability>,
    database: DatabaseId,
    state: Mutex<State>,
    /// Held by the one that replaces the file.
    file: Mutex<()>,
    any_dropped: AtomicBool,
    /// The oldest LSN that can be read; it rises under the lock of `state`, before the segments before it go.
    begin: AtomicU64,
}

impl Consumers {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        durability: Arc<Durability>,
        database: DatabaseId,
        begin: u64,
        found: Found,
    ) -> Self {
        let entries: BTreeMap<_, _> = found
            .0
            .into_iter()
            .map(|Consumer { name, needs, dropped }| (name, Entry { needs, dropped }))
            .collect();
        Self {
            storage,
            durability,
            database,
            any_dropped: AtomicBool::new(entries.values().any(|entry| entry.dropped.is_some())),
            state: Mutex::new(State {
                entries,
                dirty: false,
            }),
            file: Mutex::new(()),
            begin: AtomicU64::new(begin),
        }
    }

    /// Registers a consumer that needs the log from `needs` on; durable when this returns. One that is there already and
    /// was not dropped keeps its position, which is returned.
    ///
    /// # Errors
    /// [`Error::Gone`] when the log does not reach back that far; [`Error::Consumer`] when there are too many, or the name is
    /// impossible; [`Error::Io`].
    pub fn register(&self, name: &str, needs: Lsn) -> Result<Lsn, Error> {
        let refused = |what| {
            Err(Error::Consumer {
                name: name.to_owned(),
                what,
            })
        };
        if needs.get() > self.durability.frame() {
            return refused(NOT_DURABLE);
        }
        not_archive(name)?;
        if name.is_empty() || name.len() > CONSUMER_NAME_BYTES_MAX {
            return refused("its name must have 1 to 100 bytes");
        }
        let needs = {
            let mut state = self.state.lock();
            match state.entries.get(name) {
                Some(entry) if entry.dropped.is_none() => entry.needs,
                known => {
                    if known.is_none() && state.entries.len() == CONSUMERS_MAX {
                        return refused("there are 64 already");
                    }
                    self.check_begin(needs)?;
                    let entry = Entry { needs, dropped: None };
                    state.entries.insert(name.to_owned(), entry);
                    state.dirty = true;
                    needs
                }
            }
        };
        self.write()?;
        Ok(needs)
    }

    /// The consumer needs nothing before `needs` any more. Costs no I/O: the file follows before segments go.
    ///
    /// # Errors
    /// [`Error::Consumer`] when there is no such consumer, or the position is not durable; [`Error::ConsumerDropped`].
    pub fn advance(&self, name: &str, needs: Lsn) -> Result<(), Error> {
        not_archive(name)?;
        self.raise(name, needs)
    }

    /// As `advance`, for the archive, too.
    pub(crate) fn raise(&self, name: &str, needs: Lsn) -> Result<(), Error> {
        if needs.get() > self.durability.frame() {
            return Err(Error::Consumer {
                name: name.to_owned(),
                what: NOT_DURABLE,
            });
        }
        let mut state = self.state.lock();
        let entry = Self::entry(&mut state, name)?;
        if needs > entry.needs {
            entry.needs = needs;
            state.dirty = true;
        }
        Ok(())
    }

    /// Forgets a consumer, dropped or not; durable when this returns. Says whether there was one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Consumer`] for the archive's name.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        not_archive(name)?;
        let known = {
            let mut state = self.state.lock();
            let known = state.entries.remove(name).is_some();
            state.dirty |= known;
            known
        };
        self.write()?;
        Ok(known)
    }

    /// Sees to it that the archive has a position when there is one, and none when there is none.
    pub(crate) fn reserve_archive(&self, wanted: bool) -> Result<(), Error> {
        {
            let mut state = self.state.lock();
            let known = state.entries.contains_key(archive::NAME);
            if wanted && !known {
                let entry = Entry {
                    needs: self.begin(),
                    dropped: None,
                };
                state.entries.insert(archive::NAME.to_owned(), entry);
            } else if !wanted && known {
                state.entries.remove(archive::NAME);
            }
            state.dirty |= wanted != known;
        }
        self.write()
    }

    /// From where one needs the log, if it is known.
    pub(crate) fn needs(&self, name: &str) -> Option<Lsn> {
        self.state.lock().entries.get(name).map(|entry| entry.needs)
    }

    /// All of them, by their names.
    pub fn list(&self) -> Vec<Consumer> {
        list(&self.state.lock().entries)
    }

    /// Fails when the consumer was dropped. One that was removed reads on, unprotected.
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        if !self.any_dropped.load(Ordering::Relaxed) {
            return Ok(());
        }
        match Self::entry(&mut self.state.lock(), name) {
            Err(error @ Error::ConsumerDropped { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    fn entry<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Entry, Error> {
        match state.entries.get_mut(name) {
            Some(Entry {
                needs,
                dropped: Some(dropped),
            }) => Err(Error::ConsumerDropped {
                name: name.to_owned(),
                needed: *needs,
                dropped: *dropped,
            }),
            Some(entry) => Ok(entry),
            None => Err(Error::Consumer {
                name: name.to_owned(),
                what: "there is none of this name",
            }),
        }
    }

    /// The oldest LSN that can be read.
    pub(crate) fn begin(&self) -> Lsn {
        Lsn::new(self.begin.load(Ordering::SeqCst))
    }

    /// Fails when what stands at `lsn` is gone.
    pub(crate) fn check_begin(&self, lsn: Lsn) -> Result<(), Error> {
        let begin = self.begin();
        if lsn >= begin {
            return Ok(());
        }
        Err(Error::Gone { lsn, begin })
    }

    /// Drops those that hold back what is before `bound` and are more than `bytes_max` behind `durable`. Returns them, and
    /// what the others leave of `bound`, which their file says when this returns.
    pub(crate) fn hold(
        &self,
        bound: Lsn,
        durable: Lsn,
        bytes_max: u64,
        now: Micros,
    ) -> Result<(Lsn, Vec<Consumer>), Error> {
        let mut dropped = Vec::new();
        let bound = {
            let mut state = self.state.lock();
            for (name, entry) in &mut state.entries {
                if name != archive::NAME
                    && entry.dropped.is_none()
                    && entry.needs < bound
                    && durable.bytes_since(entry.needs) > bytes_max
                {
                    entry.dropped = Some(Dropped {
                        at: durable,
                        time: now,
                    });
                    dropped.push(Consumer {
                        name: name.clone(),
                        needs: entry.needs,
                        dropped: entry.dropped,
                    });
                }
            }
            state.dirty |= !dropped.is_empty();
            if !dropped.is_empty() {
                self.any_dropped.store(true, Ordering::Relaxed);
            }
            least(&state, bound)
        };
        self.write()?;
        Ok((bound, dropped))
    }

    /// Lets the log begin at `begin`, or earlier when somebody has registered meanwhile; returns where it begins.
    pub(crate) fn raise_begin(&self, begin: Lsn, base: impl Fn(Lsn) -> Lsn) -> Lsn {
        let state = self.state.lock();
        let begin = base(least(&state, begin)).get();
        Lsn::new(self.begin.fetch_max(begin, Ordering::SeqCst).max(begin))
    }

    /// Replaces the file, if it does not say what is.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let _alone = self.file.lock();
        let bytes = {
            let mut state = self.state.lock();
            if !state.dirty {
                return Ok(());
            }
            state.dirty = false;
            encode(&self.database, &state.entries)
        };
        self.storage
            .replace(FILE, &mut bytes.as_slice())
            .map_err(|source| {
                self.state.lock().dirty = true;
                io_error(self.storage.as_ref(), FILE, "write", source)
            })
    }
}

impl fmt::Debug for Consumers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

fn list(entries: &BTreeMap<String, Entry>) -> Vec<Consumer> {
    let consumers = entries.iter().map(|(name, entry)| Consumer {
        name: name.clone(),
        needs: entry.needs,
        dropped: entry.dropped,
    });
    consumers.collect()
}

fn least(state: &State, bound: Lsn) -> Lsn {
    let active = state.entries.values().filter(|entry| entry.dropped.is_none());
    active.map(|entry| entry.needs).fold(bound, Lsn::min)
}

/// The archive's position follows what is archived, and nobody else's word.
fn not_archive(name: &str) -> Result<(), Error> {
    match name == archive::NAME {
        true => Err(Error::Consumer {
            name: name.to_owned(),
            what: "the name is the archive's",
        }),
        false => Ok(()),
    }
}

/// A new log has no consumers: what another log has left goes.
pub(crate) fn clear(storage: &dyn Storage) -> Result<(), Error> {
    let there = storage
        .read(FILE)
        .map_err(|source| io_error(storage, FILE, "read", source))?;
    match there {
        Some(_) => remove(storage, FILE),
        None => Ok(()),
    }
}

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found(Vec<Consumer>);

impl Found {
    /// All before this was durable once: somebody has read it.
    pub(crate) fn durable_before(&self) -> Lsn {
        self.0
            .iter()
            .map(|consumer| consumer.needs)
            .max()
            .unwrap_or(Lsn::ZERO)
    }
}

/// Reads the file; nobody when there is none.
pub(crate) fn find(storage: &dyn Storage, database: Option<&DatabaseId>) -> Result<Found, Error> {
    let bytes = storage
        .read(FILE)
        .map_err(|source| io_error(storage, FILE, "read", source))?;
    let Some(bytes) = bytes else {
        return Ok(Found::default());
    };
    match decode(&bytes) {
        Ok(Err(found)) => Err(Error::NewerFormat {
            path: storage.path(FILE),
            found,
            supported: VERSION,
        }),
        Ok(Ok((owner, _))) if database.is_some_and(|database| *database != owner) => {
            Err(Error::ConsumersDamaged {
                path: storage.path(FILE),
                flaw: Flaw::Foreign,
            })
        }
        Ok(Ok((_, consumers))) => Ok(Found(consumers)),
        Err(flaw) => Err(Error::ConsumersDamaged {
            path: storage.path(FILE),
            flaw,
        }),
    }
}

fn encode(database: &DatabaseId, entries: &BTreeMap<String, Entry>) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    for (name, entry) in entries {
        let name_bytes = u16::try_from(name.len()).expect("a name is at most 100 bytes");
        bytes.extend_from_slice(&name_bytes.to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&entry.needs.get().to_le_bytes());
        bytes.push(u8::from(entry.dropped.is_some()));
        let (at, time) = entry
            .dropped
            .map_or((0, 0), |dropped| (dropped.at.get(), dropped.time.get()));
        bytes.extend_from_slice(&at.to_le_bytes());
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    let count = u32::try_from(entries.len()).expect("consumers are at most 64");
    bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&count.to_le_bytes());
    bytes[16..32].copy_from_slice(database);
    let crc = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A format that is newer than this program knows.
type Newer = u32;

fn decode(bytes: &[u8]) -> Result<Result<(DatabaseId, Vec<Consumer>), Newer>, Flaw> {
    let length = Flaw::Length(bytes.len() as u64);
    let mut rest = bytes;
    let magic = u32::from_le_bytes(take(&mut rest).ok_or_else(|| length.clone())?);
    if magic != MAGIC {
        return Err(Flaw::Magic(magic));
    }
    let found = u32::from_le_bytes(take(&mut rest).ok_or_else(|| length.clone())?);
    let computed = crc32fast::hash(rest);
    let version = u32::from_le_bytes(take(&mut rest).ok_or_else(|| length.clone())?);
    if version > VERSION {
        return Ok(Err(version));
    }
    if found != computed {
        return Err(Flaw::Checksum { found, computed });
    }
    decode_entries(rest).map(Ok).ok_or(length)
}

fn decode_entries(mut rest: &[u8]) -> Option<(DatabaseId, Vec<Consumer>)> {
    let count = u32::from_le_bytes(take(&mut rest)?);
    let database = take(&mut rest)?;
    let mut consumers = Vec::new();
    for _ in 0..count {
        let name_bytes = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let (name, behind) = rest.split_at_checked(name_bytes)?;
        rest = behind;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let needs = Lsn::new(u64::from_le_bytes(take(&mut rest)?));
        let [state] = take(&mut rest)?;
        let at = Lsn::new(u64::from_le_bytes(take(&mut rest)?));
        let time = Micros::new(i64::from_le_bytes(take(&mut rest)?));
        let dropped = match state {
            0 => None,
            1 => Some(Dropped { at, time }),
            _ => return None,
        };
        consumers.push(Consumer { name, needs, dropped });
    }
    rest.is_empty().then_some((database, consumers))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> BTreeMap<String, Entry> {
        let entry = |needs, dropped| Entry {
            needs: Lsn::new(needs),
            dropped,
        };
        let dropped = Dropped {
            at: Lsn::new(1 << 40),
            time: Micros::new(-5),
        };
        BTreeMap::from([
            ("mirror".to_owned(), entry(4096, None)),
            ("zürich".to_owned(), entry(u64::MAX, Some(dropped))),
        ])
    }

    #[test]
    fn the_file_reads_back_and_every_flipped_bit_and_every_cut_is_seen() {
        let mut bytes = encode(&[7; 16], &entries());
        assert_eq!(decode(&bytes), Ok(Ok(([7; 16], list(&entries())))));
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert!(!matches!(decode(&bytes), Ok(Ok(_))), "byte {at}");
            bytes[at] ^= 0x10;
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let nobody = encode(&[7; 16], &BTreeMap::new());
        assert_eq!(decode(&nobody), Ok(Ok(([7; 16], Vec::new()))));
    }

    #[test]
    fn lengths_and_counts_that_lie_behind_a_right_checksum_are_seen() {
        for (at, value) in [(12, 3), (12, 1), (32, 200), (33, 255), (48, 2), (35, 0xFF)] {
            let mut bytes = encode(&[7; 16], &entries());
            bytes[at] = value;
            let crc = crc32fast::hash(&bytes[8..]);
            bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            assert!(decode(&bytes).is_err(), "{value} at {at}");
        }
    }

    #[test]
    fn a_newer_file_is_told_from_a_damaged_one() {
        let mut bytes = encode(&[7; 16], &entries());
        bytes[8] = 2;
        assert_eq!(decode(&bytes), Ok(Err(2)));
    }
}
