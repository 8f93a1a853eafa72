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
