use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn change<'a>(key: &'a [u8], before: &'a [u8], after: &'a [u8]) -> Change<'a> {
    Change {
        store: StoreId::new(7),
        op: Op::Update,
        key,
        ended: Ended::Ordinal(Ordinal::new(41)),
        before,
        after,
    }
}

fn commit<'a>(stores: &'a [StoreRange]) -> Commit<'a> {
    Commit {
        txn: TxnId::new(9),
        time: Micros::new(-5),
        origin_node: NodeId::new(0),
        origin_lsn: Lsn::ZERO,
        user: "ann",
        client: "127.0.0.1",
        application: "psql",
        tag: "INSERT 0 1",
        election: 0,
        candidate: 0,
        adopts: None,
        stores: StoreRanges::new(stores),
    }
}

#[test]
fn slots_of_a_commit_are_patched_in_place() {
    let ranges = [
        StoreRange {
            store: StoreId::new(1),
            first: Ordinal::new(0),
            count: 3,
        },
        StoreRange {
            store: StoreId::new(2),
            first: Ordinal::new(0),
            count: 1,
        },
    ];
    let mut out = b"before".to_vec();
    let slots = encode_commit(&mut out, &commit(&ranges)).unwrap();
    assert_eq!((slots.start(), slots.stores()), (6, 2));
    slots.patch_first_ordinal(&mut out, 0, Ordinal::new(100));
    slots.patch_first_ordinal(&mut out, 1, Ordinal::new(200));
    slots.patch_time(&mut out, Micros::new(77));
    let (record, len) = decode(&out[6..]).unwrap();
    assert_eq!(len, out.len() - 6);
    let Record::Commit(decoded) = record else {
        panic!("{record:?}")
    };
    assert_eq!(
        decoded
            .stores
            .iter()
            .map(|range| range.first.get())
            .collect::<Vec<_>>(),
        [100, 200]
    );
    assert_eq!(decoded.time, Micros::new(77));
    assert_eq!(decoded.tag, "INSERT 0 1");
}

#[test]
fn a_record_beyond_the_limit_is_refused_and_leaves_nothing() {
    let big = vec![0; MAX_RECORD_BYTES];
    let mut out = b"kept".to_vec();
    assert!(matches!(
        encode_change(&mut out, &change(b"k", b"", &big)),
        Err(RecordError::TooLong(_))
    ));
    assert!(matches!(
        encode_catalog(&mut out, &big),
        Err(RecordError::TooLong(_))
    ));
    let tag = "x".repeat(MAX_RECORD_BYTES + 1);
    let refused = encode_commit(
        &mut out,
        &Commit {
            tag: &tag,
            ..commit(&[])
        },
    );
    assert!(matches!(refused, Err(RecordError::TooLong(_))));
    assert_eq!(out, b"kept");
}

#[test]
fn a_length_in_a_longer_form_than_needed_is_refused() {
    let mut out = Vec::new();
    encode_change(
        &mut out,
        &Change {
            ended: Ended::None,
            ..change(b"", b"", b"")
        },
    )
    .unwrap();
    // store and bits stand in 5..10, the empty key's length at 10.
    assert_eq!(out[10], 0);
    out.splice(10..11, [0x80, 0x00]);
    out[0] += 1;
    assert_eq!(decode(&out), Err(RecordError::BadLength));
}

#[test]
fn unknown_kinds_bits_and_trailing_bytes_are_refused() {
    assert_eq!(decode(&[1, 0, 0, 0, 9]), Err(RecordError::UnknownKind(9)));
    assert_eq!(
        decode(&[0, 0, 0, 0]),
        Err(RecordError::Short { needed: 1, found: 0 })
    );
    let mut out = Vec::new();
    encode_tentative_drop(&mut out, TentativeId::new(1));
    out.push(0);
    out[0] += 1;
    assert_eq!(decode(&out), Err(RecordError::Trailing(1)));
    let mut out = Vec::new();
    encode_change(&mut out, &change(b"k", b"b", b"a")).unwrap();
    out[9] |= 0b11;
    assert_eq!(decode(&out), Err(RecordError::UnknownBits(out[9])));
}

#[derive(Debug, Clone)]
struct Owned {
    kind: u8,
    store: u32,
    op: u8,
    ended: u8,
    number: u64,
    key: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
    names: [String; 4],
    stores: Vec<(u32, u64, u64)>,
}

fn owned() -> impl Strategy<Value = Owned> {
    (
        (0..6_u8, any::<u32>(), 0..3_u8, 0..3_u8, any::<u64>()),
        (
            vec(any::<u8>(), 0..300),
            vec(any::<u8>(), 0..300),
            vec(any::<u8>(), 0..300),
        ),
        any::<[String; 4]>(),
        vec(any::<(u32, u64, u64)>(), 0..4),
    )
        .prop_map(
            |((kind, store, op, ended, number), (key, before, after), names, stores)| Owned {
                kind,
                store,
                op,
                ended,
                number,
                key,
                before,
                after,
                names,
                stores,
            },
        )
}

fn ranges(owned: &Owned) -> Vec<StoreRange> {
    let range = |&(store, first, count)| StoreRange {
        store: StoreId::new(store),
        first: Ordinal::new(first),
        count,
    };
    owned.stores.iter().map(range).collect()
}

fn borrowed<'a>(owned: &'a Owned, ranges: &'a [StoreRange]) -> Record<'a> {
    let change = Change {
        store: StoreId::new(owned.store),
        op: [Op::Insert, Op::Update, Op::Delete][usize::from(owned.op)],
        key: &owned.key,
        ended: [
            Ended::None,
            Ended::Ordinal(Ordinal::new(owned.number)),
            Ended::Own(owned.store),
        ][usize::from(owned.ended)],
        before: &owned.before,
        after: &owned.after,
    };
    let odd = owned.number % 2 == 1;
    match owned.kind {
        0 => Record::Change(change),
        1 => Record::Catalog(&owned.after),
        2 => Record::Tentative {
            id: TentativeId::new(owned.number),
            change,
        },
        3 => Record::TentativeDrop(TentativeId::new(owned.number)),
        4 => Record::Sequence(SequencePosition {
            store: StoreId::new(owned.store),
            last: owned.number.cast_signed(),
            is_called: odd,
        }),
        _ => Record::Commit(Commit {
            txn: TxnId::new(owned.number),
            time: Micros::new(owned.number as i64),
            origin_node: NodeId::new(if odd { owned.store } else { 0 }),
            origin_lsn: Lsn::new(if odd { owned.number } else { 0 }),
            user: &owned.names[0],
            client: &owned.names[1],
            application: &owned.names[2],
            tag: &owned.names[3],
            election: u64::from(owned.op),
            candidate: u64::from(owned.ended),
            adopts: odd.then(|| TentativeId::new(owned.number)),
            stores: StoreRanges::new(ranges),
        }),
    }
}

fn encode(out: &mut Vec<u8>, record: &Record<'_>) {
    match record {
        Record::Change(change) => encode_change(out, change).unwrap(),
        Record::Catalog(bytes) => encode_catalog(out, bytes).unwrap(),
        Record::Tentative { id, change } => encode_tentative(out, *id, change).unwrap(),
        Record::TentativeDrop(id) => encode_tentative_drop(out, *id),
        Record::Sequence(position) => encode_sequence(out, position),
        Record::Commit(commit) => {
            encode_commit(out, commit).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn a_record_decodes_to_what_was_encoded(owned in owned(), tail in vec(any::<u8>(), 0..8)) {
        let ranges = ranges(&owned);
        let record = borrowed(&owned, &ranges);
        let mut out = Vec::new();
        encode(&mut out, &record);
        let len = out.len();
        out.extend_from_slice(&tail);
        prop_assert_eq!(decode(&out), Ok((record, len)));
        // Cut anywhere, it is no record.
        for cut in 0..len {
            prop_assert!(decode(&out[..cut]).is_err());
        }
    }

    #[test]
    fn hostile_bytes_never_panic_and_have_one_encoding(mut bytes in vec(any::<u8>(), 5..200), kind in 1..7_u8) {
        let follows = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&follows.to_le_bytes());
        bytes[4] = kind;
        if let Ok((record, len)) = decode(&bytes) {
            let mut out = Vec::new();
            encode(&mut out, &record);
            // A commit's origin and election bits may be set over zeros: the only redundancy there is.
            if !matches!(record, Record::Commit(_)) {
                prop_assert_eq!(&out, &bytes[..len]);
            } else {
                prop_assert_eq!(decode(&out).map(|(record, _)| record), Ok(record));
            }
        }
    }
}
