//! Bytes to records. The bytes may come from anywhere: nothing is trusted.

use super::bytes::Reader;
use super::encode::{LENGTH_BYTES, commit_bits, kind};
use super::{
    Change, Commit, Ended, MAX_RECORD_BYTES, Op, Ranges, Record, RecordError, STORE_RANGE_BYTES,
    SequencePosition, StoreRanges,
};
use crate::ids::{Lsn, Micros, NodeId, Ordinal, StoreId, TentativeId, TxnId};

/// Decodes the record at the beginning of `bytes`; also returns how many bytes it takes.
///
/// # Errors
/// When the bytes are not one whole, well-formed record.
pub fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), RecordError> {
    let mut reader = Reader::new(bytes);
    let follows = reader.u32()? as usize;
    if follows > MAX_RECORD_BYTES - LENGTH_BYTES {
        return Err(RecordError::TooLong(follows));
    }
    let mut body = Reader::new(reader.take(follows)?);
    let record = match body.u8()? {
        kind::CHANGE => Record::Change(change(&mut body)?),
        kind::CATALOG => Record::Catalog(body.rest()),
        kind::TENTATIVE => {
            let id = TentativeId::new(body.u64()?);
            Record::Tentative {
                id,
                change: change(&mut body)?,
            }
        }
        kind::TENTATIVE_DROP => Record::TentativeDrop(TentativeId::new(body.u64()?)),
        kind::COMMIT => Record::Commit(commit(&mut body)?),
        kind::SEQUENCE => Record::Sequence(sequence(&mut body)?),
        other => return Err(RecordError::UnknownKind(other)),
    };
    body.end()?;
    Ok((record, LENGTH_BYTES + follows))
}

fn sequence(body: &mut Reader<'_>) -> Result<SequencePosition, RecordError> {
    let store = StoreId::new(body.u32()?);
    let is_called = match body.u8()? {
        0 => false,
        1 => true,
        bits => return Err(RecordError::UnknownBits(bits)),
    };
    let last = body.i64()?;
    Ok(SequencePosition {
        store,
        last,
        is_called,
    })
}

fn change<'a>(body: &mut Reader<'a>) -> Result<Change<'a>, RecordError> {
    let store = StoreId::new(body.u32()?);
    let bits = body.u8()?;
    let op = match bits & 0b11 {
        0 => Op::Insert,
        1 => Op::Update,
        2 => Op::Delete,
        _ => return Err(RecordError::UnknownBits(bits)),
    };
    let ended = match bits >> 2 {
        0 => Ended::None,
        1 => Ended::Ordinal(Ordinal::new(body.u64()?)),
        2 => Ended::Own(body.u32()?),
        _ => return Err(RecordError::UnknownBits(bits)),
    };
    let key = body.sized()?;
    let before = body.sized()?;
    let after = body.rest();
    Ok(Change {
        store,
        op,
        key,
        ended,
        before,
        after,
    })
}

fn commit<'a>(body: &mut Reader<'a>) -> Result<Commit<'a>, RecordError> {
    let bits = body.u8()?;
    if bits & !commit_bits::ALL != 0 {
        return Err(RecordError::UnknownBits(bits));
    }
    let txn = TxnId::new(body.u64()?);
    let time = Micros::new(body.i64()?);
    let (origin_node, origin_lsn) = match bits & commit_bits::ORIGIN {
        0 => (NodeId::new(0), Lsn::ZERO),
        _ => match (NodeId::new(body.u32()?), Lsn::new(body.u64()?)) {
            // There is one encoding.
            (node, Lsn::ZERO) if node.get() == 0 => return Err(RecordError::UnknownBits(bits)),
            origin => origin,
        },
    };
    let (election, candidate) = match bits & commit_bits::ELECTION {
        0 => (0, 0),
        _ => match (body.u64()?, body.u64()?) {
            (0, 0) => return Err(RecordError::UnknownBits(bits)),
            election => election,
        },
    };
    let adopts = match bits & commit_bits::ADOPTS {
        0 => None,
        _ => Some(TentativeId::new(body.u64()?)),
    };
    let (user, client, application, tag) = (body.text()?, body.text()?, body.text()?, body.text()?);
    let stores = body.u32()? as usize;
    let bytes = stores
        .checked_mul(STORE_RANGE_BYTES)
        .ok_or(RecordError::BadLength)?;
    let stores = StoreRanges(Ranges::Encoded(body.take(bytes)?));
    Ok(Commit {
        txn,
        time,
        origin_node,
        origin_lsn,
        user,
        client,
        application,
        tag,
        election,
        candidate,
        adopts,
        stores,
    })
}
