//! Records: what a frame carries, byte by byte, and nothing about what the bytes mean.
//!
//! The log knows that a change has a key, an image before and an image after; how a row or a key is encoded is
//! the engine's affair. All numbers are little-endian; a *length* is LEB128 (at most five bytes, no more than 32 bits).
//!
//! ```text
//! record        u32 length of what follows · u8 kind · body
//! kind 1        change        change body
//! kind 2        catalog       opaque bytes to the end
//! kind 3        tentative     u64 tentative id · change body
//! kind 4        drop          u64 tentative id
//! kind 5        commit        commit body
//! kind 6        sequence      u32 store · u8 is called (0 or 1) · i64 last value
//!
//! change body   u32 store · u8 bits (0–1 operation: 0 insert 1 update 2 delete; 2–3 ended: 0 none 1 ordinal 2 own;
//!               4–7 zero) · ended: nothing | u64 ordinal | u32 local index · length + key · length + before · after to the end
//!
//! commit body   u8 bits (0 origin, 1 election, 2 adopts; 3–7 zero) · u64 transaction · i64 wall clock, µs since 1970
//!               · if origin: u32 node, u64 its LSN · if election: u64 election, u64 candidate · if adopts: u64 tentative id
//!               · length + user · length + client · length + application · length + tag (all UTF-8)
//!               · u32 number of stores · per store: u32 store, u64 first ordinal, u64 count
//! ```
//!
//! Invariants:
//! - decoding never trusts a length: every read is bounded by the record, every record by the frame;
//! - a record decodes to exactly what was encoded, and has no second encoding;
//! - no record is longer than [`MAX_RECORD_BYTES`].

mod bytes;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::ids::{Lsn, Micros, NodeId, Ordinal, StoreId, TentativeId, TxnId};

pub use decode::decode;
pub use encode::{
    CommitSlots, encode_catalog, encode_change, encode_commit, encode_sequence, encode_tentative,
    encode_tentative_drop,
};

/// No record is longer than this, its length field included. A row and what it replaces must fit together.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// What a change does to its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Begins a version.
    Insert,
    /// Ends a version and begins another.
    Update,
    /// Ends a version.
    Delete,
}

/// The version that a change ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// None: an insert.
    None,
    /// A version that an earlier transaction began.
    Ordinal(Ordinal),
    /// A version that this transaction itself logged earlier, by its local index in the store.
    Own(u32),
}

/// One row changed. `key`, `before` and `after` are the engine's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// The data that changed.
    pub store: StoreId,
    /// What happened.
    pub op: Op,
    /// The key of the row (of the new row, when an update changes the key).
    pub key: &'a [u8],
    /// The version that ended.
    pub ended: Ended,
    /// The full old row of a delete, the changed columns of an update, nothing for an insert.
    pub before: &'a [u8],
    /// The full new row of an insert or update, nothing for a delete.
    pub after: &'a [u8],
}

/// The ordinals that one transaction took in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreRange {
    /// The store.
    pub store: StoreId,
    /// The ordinal of the transaction's first version there.
    pub first: Ordinal,
    /// How many versions it began there.
    pub count: u64,
}

/// The ordinal ranges of a commit: a slice to be encoded, or the encoded bytes.
#[derive(Clone, Copy)]
pub struct StoreRanges<'a>(Ranges<'a>);

#[derive(Clone, Copy)]
enum Ranges<'a> {
    Slice(&'a [StoreRange]),
    /// A multiple of [`STORE_RANGE_BYTES`], checked by the decoder.
    Encoded(&'a [u8]),
}

/// One encoded [`StoreRange`].
const STORE_RANGE_BYTES: usize = 4 + 8 + 8;

impl<'a> StoreRanges<'a> {
    /// The ranges of a commit that is about to be encoded.
    pub const fn new(ranges: &'a [StoreRange]) -> Self {
        Self(Ranges::Slice(ranges))
    }

    /// How many stores the transaction touched.
    pub const fn len(&self) -> usize {
        match self.0 {
            Ranges::Slice(slice) => slice.len(),
            Ranges::Encoded(bytes) => bytes.len() / STORE_RANGE_BYTES,
        }
    }

    /// Whether the transaction began no version anywhere and ended none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ranges, in the order in which they were encoded.
    pub fn iter(&self) -> impl Iterator<Item = StoreRange> + 'a {
        let ranges = self.0;
        (0..self.len()).filter_map(move |index| match ranges {
            Ranges::Slice(slice) => slice.get(index).copied(),
            Ranges::Encoded(bytes) => {
                let mut reader = bytes::Reader::new(bytes.get(index * STORE_RANGE_BYTES..)?);
                Some(StoreRange {
                    store: StoreId::new(reader.u32().ok()?),
                    first: Ordinal::new(reader.u64().ok()?),
                    count: reader.u64().ok()?,
                })
            }
        })
    }
}

impl PartialEq for StoreRanges<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for StoreRanges<'_> {}

impl fmt::Debug for StoreRanges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The end of a transaction: from its first byte's LSN on, its changes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit<'a> {
    /// The transaction.
    pub txn: TxnId,
    /// When, by the wall clock of the node that wrote this log.
    pub time: Micros,
    /// Where the transaction began its life; node 0 = here.
    pub origin_node: NodeId,
    /// Its commit LSN there; zero = here.
    pub origin_lsn: Lsn,
    /// Who.
    pub user: &'a str,
    /// From which address.
    pub client: &'a str,
    /// With which program.
    pub application: &'a str,
    /// By which statement (a command tag such as `INSERT 0 3`).
    pub tag: &'a str,
    /// The election it belongs to, 0 = none.
    pub election: u64,
    /// The candidate it elects, 0 = none.
    pub candidate: u64,
    /// The tentative records that become part of this transaction, before its plain ones.
    pub adopts: Option<TentativeId>,
    /// The ordinals it took.
    pub stores: StoreRanges<'a>,
}

/// One record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A change of the transaction whose commit record follows in the same frame.
    Change(Change<'a>),
    /// A change of the catalog, opaque here, of the transaction whose commit record follows.
    Catalog(&'a [u8]),
    /// A change that a later commit adopts, or a drop ends.
    Tentative {
        /// Under which identity.
        id: TentativeId,
        /// The change.
        change: Change<'a>,
    },
    /// The end of a tentative identity whose changes never were.
    TentativeDrop(TentativeId),
    /// The end of a transaction.
    Commit(Commit<'a>),
    /// From here on a counter of numbers goes on behind this position, whatever becomes of any transaction.
    Sequence(SequencePosition),
}

/// How far a counter of numbers has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequencePosition {
    /// The counter.
    pub store: StoreId,
    /// The last number that may have been handed out; the first one to be handed out when none was.
    pub last: i64,
    /// Whether `last` may have been handed out.
    pub is_called: bool,
}

/// Why bytes are not a record, or a record cannot become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordError {
    /// A field reaches beyond its record, or a record beyond its frame.
    Short {
        /// The bytes that the field needs.
        needed: usize,
        /// The bytes that are there.
        found: usize,
    },
    /// No record kind has this number.
    UnknownKind(u8),
    /// Bits that must be zero are set.
    UnknownBits(u8),
    /// A length is not in its shortest form or passes 32 bits.
    BadLength,
    /// A name is not UTF-8.
    NotUtf8,
    /// Bytes follow the last field.
    Trailing(usize),
    /// The record would pass [`MAX_RECORD_BYTES`].
    TooLong(usize),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, found } => {
                write!(f, "a field of the record needs {needed} bytes, {found} are left")
            }
            Self::UnknownKind(kind) => write!(f, "no record kind has number {kind}"),
            Self::UnknownBits(bits) => write!(f, "the record has unknown bits set: {bits:#04x}"),
            Self::BadLength => f.write_str("a length in the record is malformed"),
            Self::NotUtf8 => f.write_str("a name in the record is not UTF-8"),
            Self::Trailing(count) => write!(f, "{count} bytes follow the last field of the record"),
            Self::TooLong(len) => {
                write!(
                    f,
                    "a record of {len} bytes passes the limit of {MAX_RECORD_BYTES} bytes"
                )
            }
        }
    }
}

impl std::error::Error for RecordError {}
