//! What is flushed is found, and found again after a restart.

use super::super::*;
use crate::key::{Key, KeyRange};
use std::ops::Bound;

fn stored(lsn: u64, row: Option<&[u8]>) -> Stored {
    Stored {
        lsn: Lsn::new(lsn),
        ordinal: Ordinal::new(lsn / 2),
        row: row.map(Row::from),
    }
}

fn all(set: &RunSet, space: u32, range: &KeyRange, at: u64) -> Vec<(Vec<u8>, u64)> {
    let mut range = set.range(SpaceId::new(space), range, Lsn::new(at)).unwrap();
    let mut found = Vec::new();
    while let Some((key, version)) = range.next().unwrap() {
        found.push((key.to_vec(), version.lsn.get()));
    }
    found
}

#[test]
fn a_flush_is_found_and_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = RunsOptions {
        block_bytes: 200,
        file_bytes: 20_000,
        ..RunsOptions::default()
    };
    let (runs, checkpoint) = Runs::open(folder.path(), options).unwrap();
    assert_eq!(checkpoint, None);
    let key = |n: u32| n.to_be_bytes();
    for (flush, base) in [(0, 1000), (1, 2000)] {
        let mut writer = runs.begin_flush();
        for space in [3, 4] {
            for n in (0..3000).filter(|n| flush == 0 || n % 3 == 0) {
                let row = n.to_string().into_bytes();
                let versions = [
                    stored(base + 2, (n % 5 != 0).then_some(row.as_slice())),
                    stored(base, Some(b"older")),
                ];
                writer.add(SpaceId::new(space), &key(n), &versions).unwrap();
            }
        }
        runs.install(writer, format!("checkpoint {flush}").as_bytes())
            .unwrap();
    }
    let check = |runs: &Runs| {
        let set = runs.current();
        assert!(set.may_have(SpaceId::new(3)) && !set.may_have(SpaceId::new(5)));
        assert!(set.runs().count() > 4, "{}", set.runs().count());
        for n in 0..3100_u32 {
            let get = |at| set.get(SpaceId::new(4), &key(n), Lsn::new(at)).unwrap();
            if n >= 3000 {
                assert_eq!(get(5000), None);
                continue;
            }
            assert_eq!(get(999), None);
            assert_eq!(get(1001), Some(stored(1000, Some(b"older"))));
            let row = n.to_string().into_bytes();
            let row = (n % 5 != 0).then_some(row.as_slice());
            assert_eq!(get(1999), Some(stored(1002, row)));
            let newest = if n % 3 == 0 { 2002 } else { 1002 };
            assert_eq!(get(5000), Some(stored(newest, row)));
        }
        let expected: Vec<_> = (0..3000_u32)
            .map(|n| (key(n).to_vec(), if n % 3 == 0 { 2000 } else { 1002 }))
            .collect();
        assert_eq!(all(&set, 3, &KeyRange::all(), 2001), expected);
        let range = KeyRange {
            lower: Bound::Excluded(Key::from_bytes(&key(10))),
            upper: Bound::Included(Key::from_bytes(&key(20))),
        };
        assert_eq!(all(&set, 3, &range, 2001), expected[11..=20]);
        assert_eq!(all(&set, 2, &KeyRange::all(), 2001), []);
        assert_eq!(all(&set, 3, &KeyRange::all(), 10), []);
    };
    check(&runs);
    drop(runs);
    let (runs, checkpoint) = Runs::open(folder.path(), options).unwrap();
    assert_eq!(checkpoint.as_deref(), Some(&b"checkpoint 1"[..]));
    check(&runs);
}

#[test]
fn the_longest_keys_and_rows_fit() {
    let folder = tempfile::tempdir().unwrap();
    let (runs, _) = Runs::open(folder.path(), RunsOptions::default()).unwrap();
    let space = SpaceId::new(u32::MAX);
    let key = |last| [vec![0xff; crate::KEY_BYTES_MAX - 1], vec![last]].concat();
    let row = |seed: u8| -> Vec<u8> {
        let mut random = scry_wal::sim::Random::new(u64::from(seed));
        (0..crate::ROW_BYTES_MAX / 8)
            .flat_map(|_| random.next_number().to_le_bytes())
            .collect()
    };
    let rows = [row(1), row(2)];
    for flush in 0..4 {
        let mut writer = runs.begin_flush();
        writer.add(space, b"", &[stored(flush + 1, Some(b""))]).unwrap();
        for last in 0..2 {
            let version = stored(flush + 1, Some(&rows[usize::from(last)]));
            writer.add(space, &key(last), &[version]).unwrap();
        }
        runs.install(writer, b"").unwrap();
    }
    let check = |runs: &Runs, at| {
        let set = runs.current();
        for last in 0..2 {
            let found = set.get(space, &key(last), Lsn::new(at)).unwrap().unwrap();
            assert_eq!(found.lsn.get(), at);
            assert!(found.row.as_deref() == Some(&rows[usize::from(last)]));
        }
        assert_eq!(
            set.get(space, b"", Lsn::new(at)).unwrap(),
            Some(stored(at, Some(b"")))
        );
        assert_eq!(all(&set, u32::MAX, &KeyRange::all(), at).len(), 3);
    };
    check(&runs, 3);
    let keep = Keep {
        horizon: Lsn::new(4),
        pins: &[Lsn::new(2)],
        is_live: &|_| true,
    };
    let merged = runs.compact_once(&keep).unwrap();
    assert!(matches!(merged, Compacted::Merged { .. }), "{merged:?}");
    check(&runs, 2);
    check(&runs, 4);
    assert_eq!(runs.verify().unwrap().entries, 6);
}
