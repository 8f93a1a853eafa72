//! Records to bytes. What is appended decodes to what was given; on an error nothing is appended.

use super::bytes::put_sized;
use super::{Change, Commit, Ended, MAX_RECORD_BYTES, Op, RecordError, STORE_RANGE_BYTES, SequencePosition};
use crate::ids::{Micros, Ordinal, TentativeId};

pub(super) const LENGTH_BYTES: usize = 4;

pub(super) mod kind {
    pub(crate) const CHANGE: u8 = 1;
    pub(crate) const CATALOG: u8 = 2;
    pub(crate) const TENTATIVE: u8 = 3;
    pub(crate) const TENTATIVE_DROP: u8 = 4;
    pub(crate) const COMMIT: u8 = 5;
    pub(crate) const SEQUENCE: u8 = 6;
}

pub(super) mod commit_bits {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const ELECTION: u8 = 2;
    pub(crate) const ADOPTS: u8 = 4;
    pub(crate) const ALL: u8 = 7;
}

/// Writes one record: room for the length, the kind, the body, then the length itself.
fn record(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), RecordError> {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(out);
    let len = out.len() - start;
    if len > MAX_RECORD_BYTES {
        out.truncate(start);
        return Err(RecordError::TooLong(len));
    }
    // The limit is far below 2^32.
    let follows = (len - LENGTH_BYTES) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&follows.to_le_bytes());
    Ok(())
}

/// Refuses what is far too long before a byte of it is copied.
fn check(change: &Change<'_>) -> Result<(), RecordError> {
    let len = change
        .key
        .len()
        .saturating_add(change.before.len())
        .saturating_add(change.after.len());
    if len > MAX_RECORD_BYTES {
        Err(RecordError::TooLong(len))
    } else {
        Ok(())
    }
}

fn change_body(out: &mut Vec<u8>, change: &Change<'_>) {
    let op = match change.op {
        Op::Insert => 0,
        Op::Update => 1,
        Op::Delete => 2,
    };
    let ended = match change.ended {
        Ended::None => 0,
        Ended::Ordinal(_) => 1,
        Ended::Own(_) => 2,
    };
    out.reserve(32 + change.key.len() + change.before.len() + change.after.len());
    out.extend_from_slice(&change.store.get().to_le_bytes());
    out.push(op | ended << 2);
    match change.ended {
        Ended::None => {}
        Ended::Ordinal(ordinal) => out.extend_from_slice(&ordinal.get().to_le_bytes()),
        Ended::Own(index) => out.extend_from_slice(&index.to_le_bytes()),
    }
    put_sized(out, change.key);
    put_sized(out, change.before);
    out.extend_from_slice(change.after);
}

/// Appends a change record.
///
/// # Errors
/// [`RecordError::TooLong`] beyond [`MAX_RECORD_BYTES`].
pub fn encode_change(out: &mut Vec<u8>, change: &Change<'_>) -> Result<(), RecordError> {
    check(change)?;
    record(out, kind::CHANGE, |out| change_body(out, change))
}

/// Appends a tentative record: a change that a later commit adopts.
///
/// # Errors
/// [`RecordError::TooLong`] beyond [`MAX_RECORD_BYTES`].
pub fn encode_tentative(out: &mut Vec<u8>, id: TentativeId, change: &Change<'_>) -> Result<(), RecordError> {
    check(change)?;
    record(out, kind::TENTATIVE, |out| {
        out.extend_from_slice(&id.get().to_le_bytes());
        change_body(out, change);
    })
}

/// Appends the end of a tentative identity that no commit will adopt.
pub fn encode_tentative_drop(out: &mut Vec<u8>, id: TentativeId) {
    record(out, kind::TENTATIVE_DROP, |out| {
        out.extend_from_slice(&id.get().to_le_bytes())
    })
    .expect("thirteen bytes are below every limit");
}

/// Appends the position of a counter of numbers.
pub fn encode_sequence(out: &mut Vec<u8>, position: &SequencePosition) {
    record(out, kind::SEQUENCE, |out| {
        out.extend_from_slice(&position.store.get().to_le_bytes());
        out.push(u8::from(position.is_called));
        out.extend_from_slice(&position.last.to_le_bytes());
    })
    .expect("eighteen bytes are below every limit");
}

/// Appends a catalog record. A frame that holds one must be put with `has_catalog`.
///
/// # Errors
/// [`RecordError::TooLong`] beyond [`MAX_RECORD_BYTES`].
pub fn encode_catalog(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), RecordError> {
    if payload.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLong(payload.len()));
    }
    record(out, kind::CATALOG, |out| out.extend_from_slice(payload))
}

/// Where an encoded commit record keeps what is known only inside the critical section of a commit.
///
/// All offsets count from the beginning of the buffer that the record was appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitSlots {
    start: usize,
    first_ordinals: usize,
    stores: usize,
}

impl CommitSlots {
    /// The first byte of the commit record: with it, the commit LSN is `reserved.plus(start)`.
    pub const fn start(&self) -> usize {
        self.start
    }

    /// How many ordinal slots there are: one per store.
    pub const fn stores(&self) -> usize {
        self.stores
    }

    /// The offset of the 8-byte little-endian first ordinal of the store at `index`.
    ///
    /// # Panics
    /// When there is no such store.
    pub fn first_ordinal_at(&self, index: usize) -> usize {
        assert!(index < self.stores, "ordinal slot {index} of {}", self.stores);
        self.first_ordinals + index * STORE_RANGE_BYTES
    }

    /// Writes the first ordinal of the store at `index`.
    ///
    /// # Panics
    /// When there is no such store, or `buffer` is not the one that was encoded into.
    pub fn patch_first_ordinal(&self, buffer: &mut [u8], index: usize, first: Ordinal) {
        let at = self.first_ordinal_at(index);
        buffer[at..at + 8].copy_from_slice(&first.get().to_le_bytes());
    }

    /// Writes the wall-clock time.
    ///
    /// # Panics
    /// When `buffer` is not the one that was encoded into.
    pub fn patch_time(&self, buffer: &mut [u8], time: Micros) {
        // Length, kind, bits and transaction stand before the time.
        let at = self.start + LENGTH_BYTES + 1 + 1 + 8;
        buffer[at..at + 8].copy_from_slice(&time.get().to_le_bytes());
    }
}

/// Appends a commit record and says where its slots are.
///
/// # Errors
/// [`RecordError::TooLong`] beyond [`MAX_RECORD_BYTES`].
pub fn encode_commit(out: &mut Vec<u8>, commit: &Commit<'_>) -> Result<CommitSlots, RecordError> {
    let start = out.len();
    let stores = commit.stores.len();
    let names = [commit.user, commit.client, commit.application, commit.tag];
    let named = names
        .iter()
        .fold(0_usize, |sum, name| sum.saturating_add(name.len()));
    if named > MAX_RECORD_BYTES {
        return Err(RecordError::TooLong(named));
    }
    let mut first_ordinals = 0;
    record(out, kind::COMMIT, |out| {
        let origin = commit.origin_node.get() != 0 || commit.origin_lsn.get() != 0;
        let election = commit.election != 0 || commit.candidate != 0;
        let mut bits = 0;
        for (set, bit) in [
            (origin, commit_bits::ORIGIN),
            (election, commit_bits::ELECTION),
            (commit.adopts.is_some(), commit_bits::ADOPTS),
        ] {
            if set {
                bits |= bit;
            }
        }
        out.push(bits);
        out.extend_from_slice(&commit.txn.get().to_le_bytes());
        out.extend_from_slice(&commit.time.get().to_le_bytes());
        if origin {
            out.extend_from_slice(&commit.origin_node.get().to_le_bytes());
            out.extend_from_slice(&commit.origin_lsn.get().to_le_bytes());
        }
        if election {
            out.extend_from_slice(&commit.election.to_le_bytes());
            out.extend_from_slice(&commit.candidate.to_le_bytes());
        }
        if let Some(id) = commit.adopts {
            out.extend_from_slice(&id.get().to_le_bytes());
        }
        for name in names {
            put_sized(out, name.as_bytes());
        }
        out.extend_from_slice(&(stores as u32).to_le_bytes());
        first_ordinals = out.len() + 4;
        for range in commit.stores.iter() {
            out.extend_from_slice(&range.store.get().to_le_bytes());
            out.extend_from_slice(&range.first.get().to_le_bytes());
            out.extend_from_slice(&range.count.to_le_bytes());
        }
    })?;
    Ok(CommitSlots {
        start,
        first_ordinals,
        stores,
    })
}
