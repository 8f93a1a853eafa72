//! Records of the log.

use arbitrary::{Arbitrary, Result, Unstructured};
use scry_wal::record::{
    decode, encode_catalog, encode_change, encode_commit, encode_sequence, encode_tentative,
    encode_tentative_drop,
};
use scry_wal::{
    Change, Commit, Ended, Lsn, Micros, NodeId, Op, Ordinal, Record, SequencePosition, StoreId, StoreRange,
    StoreRanges, TentativeId, TxnId,
};

use super::values;
use crate::target::{Outcome, Target};

pub struct Records;

impl Target for Records {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = values::seeds();
        let made: Vec<Vec<u8>> = seeds
            .iter()
            .filter_map(|seed| with_record(&mut Unstructured::new(seed), encoded).ok())
            .collect();
        seeds.extend(made);
        seeds
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        // The bytes make a record, which must come back.
        let _ = with_record(&mut Unstructured::new(input), |record| {
            let bytes = encoded(record);
            let (decoded, used) = decode(&bytes).expect("its own encoding");
            assert_eq!(used, bytes.len());
            assert_eq!(decoded, *record);
            for cut in 0..bytes.len() {
                decode(&bytes[..cut]).expect_err("a part of a record is none");
            }
        });
        // The bytes are taken for a record.
        match decode(input) {
            Ok((record, used)) => {
                assert_eq!(encoded(&record), &input[..used], "there is one encoding");
                Outcome::of(("record", input.get(4)))
            }
            Err(error) => Outcome::of_message(&error.to_string()),
        }
    }
}

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match record {
        Record::Change(change) => encode_change(&mut out, change).expect("below the limit"),
        Record::Catalog(bytes) => encode_catalog(&mut out, bytes).expect("below the limit"),
        Record::Tentative { id, change } => {
            encode_tentative(&mut out, *id, change).expect("below the limit");
        }
        Record::TentativeDrop(id) => encode_tentative_drop(&mut out, *id),
        Record::Sequence(position) => encode_sequence(&mut out, position),
        Record::Commit(commit) => drop(encode_commit(&mut out, commit).expect("below the limit")),
    }
    out
}

fn with_record<T>(u: &mut Unstructured<'_>, work: impl FnOnce(&Record<'_>) -> T) -> Result<T> {
    let (key, before, after) = (values::bytes(u)?, values::bytes(u)?, values::bytes(u)?);
    let change = Change {
        store: StoreId::new(u32::arbitrary(u)?),
        op: *u.choose(&[Op::Insert, Op::Update, Op::Delete])?,
        key: &key,
        ended: match u.int_in_range(0..=2u8)? {
            0 => Ended::None,
            1 => Ended::Ordinal(Ordinal::new(u64::arbitrary(u)?)),
            _ => Ended::Own(u32::arbitrary(u)?),
        },
        before: &before,
        after: &after,
    };
    let id = TentativeId::new(u64::arbitrary(u)?);
    let names = [
        values::text(u)?,
        values::text(u)?,
        values::text(u)?,
        values::text(u)?,
    ];
    let stores = (0..u.int_in_range(0..=3u8)?)
        .map(|_| {
            Ok(StoreRange {
                store: StoreId::new(u32::arbitrary(u)?),
                first: Ordinal::new(u64::arbitrary(u)?),
                count: u64::arbitrary(u)?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let record = match u.int_in_range(0..=5u8)? {
        0 => Record::Change(change),
        1 => Record::Catalog(&key),
        2 => Record::Tentative { id, change },
        3 => Record::TentativeDrop(id),
        4 => Record::Sequence(SequencePosition {
            store: change.store,
            last: i64::arbitrary(u)?,
            is_called: bool::arbitrary(u)?,
        }),
        _ => Record::Commit(Commit {
            txn: TxnId::new(u64::arbitrary(u)?),
            time: Micros::new(i64::arbitrary(u)?),
            origin_node: NodeId::new(u.int_in_range(0..=2)?),
            origin_lsn: Lsn::new(u.int_in_range(0..=2)?),
            user: &names[0],
            client: &names[1],
            application: &names[2],
            tag: &names[3],
            election: u.int_in_range(0..=2)?,
            candidate: u.int_in_range(0..=2)?,
            adopts: bool::arbitrary(u)?.then_some(id),
            stores: StoreRanges::new(&stores),
        }),
    };
    Ok(work(&record))
}
