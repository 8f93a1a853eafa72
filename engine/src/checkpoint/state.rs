//! What a checkpoint knows beside the rows: the bytes that stand in the manifest of the runs.
//!
//! Integers are little-endian; a list is its length (u32) and its items.
//!
//! | field | bytes |
//! |---|---|
//! | version | u8 = 3 |
//! | database | 16 bytes: whose log goes on from here |
//! | at, restart, LSN of the newest catalog | u64 each |
//! | next transaction, election, oid, store, space | u64, u64, u32, u32, u32 |
//! | definitions | list of: LSN u64, space u32 (0: none), spaces of indexes, length u32 and bytes of the change |
//! | spaces of indexes | list of: store u32, space u32 |
//! | counts | list of: store u32, next ordinal u64, next row id u64, live rows i64, live bytes i64 |
//! | sequences | list of: store u32, last number i64, is called u8 |
//! | oldest | u64 |
//! | timeline | list of: LSN u64, microseconds i64 |

use super::journal::Definition;
use crate::catalog_change::{CatalogChange, CatalogChangeError, Reader, put_len, put_u32, put_u64};
use crate::error::Error;
use crate::history::Moment;
use crate::runs::SpaceId;
use crate::store::Counts;
use crate::store::backing::Spaces;
use scry_wal::{Lsn, Micros, SequencePosition, StoreId};

const VERSION: u8 = 3;

/// The engine as of one LSN, but for the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    /// What the log calls its database.
    pub(crate) database: [u8; 16],
    /// All commits up to this one are in the runs, and none behind it.
    pub(crate) at: Lsn,
    /// Where the log is to be read from: `at`, or the first tentative record whose end was open at `at`.
    pub(crate) restart: Lsn,
    pub(crate) catalog_lsn: Lsn,
    pub(crate) next_txn: u64,
    pub(crate) next_election: u64,
    pub(crate) next_oid: u32,
    pub(crate) next_store: u32,
    pub(crate) next_space: u32,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) counts: Vec<(StoreId, Counts)>,
    /// Up to where numbers are reserved.
    pub(crate) sequences: Vec<SequencePosition>,
    /// No state before it can be read: the runs may have dropped versions.
    pub(crate) oldest: Lsn,
    pub(crate) timeline: Vec<Moment>,
}

impl State {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.database);
        for lsn in [self.at, self.restart, self.catalog_lsn] {
            put_u64(&mut out, lsn.get());
        }
        put_u64(&mut out, self.next_txn);
        put_u64(&mut out, self.next_election);
        for number in [self.next_oid, self.next_store, self.next_space] {
            put_u32(&mut out, number);
        }
        put_len(&mut out, self.definitions.len());
        let mut change = Vec::new();
        for definition in &self.definitions {
            put_u64(&mut out, definition.lsn.get());
            let Spaces { table, indexes } = &definition.spaces;
            put_u32(&mut out, table.map_or(0, SpaceId::get));
            put_len(&mut out, indexes.len());
            for (store, space) in indexes {
                put_u32(&mut out, store.get());
                put_u32(&mut out, space.get());
            }
            change.clear();
            definition.change.encode(&mut change);
            put_len(&mut out, change.len());
            out.extend_from_slice(&change);
        }
        put_len(&mut out, self.counts.len());
        for (store, counts) in &self.counts {
            put_u32(&mut out, store.get());
            put_u64(&mut out, counts.next_ordinal);
            put_u64(&mut out, counts.next_row_id);
            put_u64(&mut out, counts.live_rows.cast_unsigned());
            put_u64(&mut out, counts.live_bytes.cast_unsigned());
        }
        put_len(&mut out, self.sequences.len());
        for position in &self.sequences {
            put_u32(&mut out, position.store.get());
            put_u64(&mut out, position.last.cast_unsigned());
            out.push(u8::from(position.is_called));
        }
        put_u64(&mut out, self.oldest.get());
        put_len(&mut out, self.timeline.len());
        for (lsn, time) in &self.timeline {
            put_u64(&mut out, lsn.get());
            put_u64(&mut out, time.get().cast_unsigned());
        }
        out
    }

    /// As `decode`, of a manifest.
    pub(crate) fn read(bytes: &[u8]) -> Result<State, Error> {
        State::decode(bytes).map_err(|error| Error::Corrupt {
            lsn: Lsn::ZERO,
            store: None,
            what: format!("the state of the checkpoint: {error}"),
        })
    }

    /// Reads what `encode` wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<State, CatalogChangeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(reader.error("unknown version"));
        }
        let database = reader.array()?;
        let mut lsn = || reader.u64().map(Lsn::new);
        let (at, restart, catalog_lsn) = (lsn()?, lsn()?, lsn()?);
        let (next_txn, next_election) = (reader.u64()?, reader.u64()?);
        let (next_oid, next_store, next_space) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let definitions = reader.list(|reader| {
            let lsn = Lsn::new(reader.u64()?);
            let space = reader.u32()?;
            let indexes = reader.list(|reader| {
                let store = StoreId::new(reader.u32()?);
                Ok((store, SpaceId::new(reader.u32()?)))
            })?;
            Ok(Definition {
                lsn,
                spaces: Spaces {
                    table: (space != 0).then(|| SpaceId::new(space)),
                    indexes,
                },
                change: CatalogChange::decode(reader.bytes()?)?,
            })
        })?;
        let counts = reader.list(|reader| {
            let store = StoreId::new(reader.u32()?);
            let counts = Counts {
                next_ordinal: reader.u64()?,
                next_row_id: reader.u64()?,
                live_rows: reader.u64()?.cast_signed(),
                live_bytes: reader.u64()?.cast_signed(),
            };
            Ok((store, counts))
        })?;
        let sequences = reader.list(|reader| {
            Ok(SequencePosition {
                store: StoreId::new(reader.u32()?),
                last: reader.i64()?,
                is_called: reader.flag()?,
            })
        })?;
        let oldest = Lsn::new(reader.u64()?);
        let timeline = reader.list(|reader| {
            let lsn = Lsn::new(reader.u64()?);
            Ok((lsn, Micros::new(reader.u64()?.cast_signed())))
        })?;
        reader.end()?;
        Ok(State {
            database,
            at,
            restart,
            catalog_lsn,
            next_txn,
            next_election,
            next_oid,
            next_store,
            next_space,
            definitions,
            counts,
            sequences,
            oldest,
            timeline,
        })
    }
}
