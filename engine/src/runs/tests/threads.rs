//! Readers beside flushes and compactions.

use crate::Row;
use crate::key::KeyRange;
use crate::runs::folder::Folder;
use crate::runs::folder::sim::SimFolder;
use crate::runs::tests::kit::small_options;
use crate::runs::{Compacted, Keep, Runs, SpaceId, Stored};
use scry_wal::{Lsn, Ordinal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SPACE: SpaceId = SpaceId::new(9);
const KEYS: u32 = 150;
const FLUSHES: u64 = 150;

fn version(lsn: u64) -> Stored {
    Stored {
        lsn: Lsn::new(lsn),
        ordinal: Ordinal::new(lsn),
        row: Some(Row::from(lsn.to_le_bytes().repeat(3))),
    }
}

#[test]
fn readers_always_see_what_was_installed() {
    let folder = SimFolder::default();
    let (runs, _) = Runs::open_in(Arc::new(folder.clone()), small_options()).unwrap();
    // Every flush writes every key at its own LSN, so any snapshot has one LSN only.
    let installed = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for lsn in 1..=FLUSHES {
                let mut writer = runs.begin_flush();
                for key in 0..KEYS {
                    writer.add(SPACE, &key.to_be_bytes(), &[version(lsn)]).unwrap();
                }
                runs.install(writer, &lsn.to_le_bytes()).unwrap();
                installed.store(lsn, Ordering::Release);
            }
            is_over.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            loop {
                let ending = is_over.load(Ordering::Acquire);
                let horizon = installed.load(Ordering::Acquire).saturating_sub(3);
                let keep = Keep {
                    horizon: Lsn::new(horizon),
                    pins: &[],
                    is_live: &|_| true,
                };
                if runs.compact_once(&keep).unwrap() == Compacted::Nothing && ending {
                    break;
                }
            }
        });
        for thread in 0..2_u32 {
            let (runs, installed, is_over) = (&runs, &installed, &is_over);
            scope.spawn(move || {
                let mut key = thread;
                while !is_over.load(Ordering::Acquire) {
                    let seen = installed.load(Ordering::Acquire);
                    let set = runs.current();
                    key = (key + 7) % KEYS;
                    let found = set.get(SPACE, &key.to_be_bytes(), Lsn::MAX).unwrap();
                    let lsn = found.map_or(0, |found| found.lsn.get());
                    assert!(lsn >= seen, "{lsn} after {seen} was installed");
                    let mut range = set.range(SPACE, &KeyRange::all(), Lsn::new(lsn)).unwrap();
                    let mut count = 0;
                    while let Some((_, found)) = range.next().unwrap() {
                        assert_eq!(found, version(lsn));
                        count += 1;
                    }
                    assert_eq!(count, if lsn == 0 { 0 } else { KEYS });
                }
            });
        }
    });
    assert!(runs.stats().compactions > 5);
    let named = runs.current().runs().count() + 1;
    assert_eq!(
        folder.list().unwrap().len(),
        named,
        "files that nobody reads are there still"
    );
}

#[test]
fn a_stop_ends_a_compaction_that_waits() {
    let folder = SimFolder::default();
    let options = crate::runs::RunsOptions {
        compaction_bytes_per_s: Some(1),
        ..small_options()
    };
    let (runs, _) = Runs::open_in(Arc::new(folder.clone()), options).unwrap();
    for lsn in 1..6 {
        let mut writer = runs.begin_flush();
        let row = Some(Row::from([1; 200]));
        let version = Stored { row, ..version(lsn) };
        for key in 0..2000_u32 {
            writer
                .add(SPACE, &key.to_be_bytes(), std::slice::from_ref(&version))
                .unwrap();
        }
        runs.install(writer, b"").unwrap();
    }
    let before = folder.names();
    let compact = || {
        let keep = Keep {
            horizon: Lsn::MAX,
            pins: &[],
            is_live: &|_| true,
        };
        // The first flush goes down as it is.
        loop {
            match runs.compact_once(&keep).unwrap() {
                Compacted::Moved { .. } => {}
                other => return other,
            }
        }
    };
    std::thread::scope(|scope| {
        let compaction = scope.spawn(compact);
        while folder.names() == before {
            std::thread::yield_now();
        }
        runs.stop_compaction();
        assert_eq!(compaction.join().unwrap(), Compacted::Stopped);
    });
    assert_eq!(folder.names(), before);
    assert_eq!(compact(), Compacted::Stopped);
}

#[test]
fn a_flush_during_a_merge_of_flushes_stays_before_it() {
    let options = crate::runs::RunsOptions {
        base_bytes: 1 << 20,
        ..small_options()
    };
    let (runs, _) = Runs::open_in(Arc::new(SimFolder::default()), options).unwrap();
    let flush = |lsn, keys: u32| {
        let mut writer = runs.begin_flush();
        for key in 0..keys {
            writer.add(SPACE, &key.to_be_bytes(), &[version(lsn)]).unwrap();
        }
        runs.install(writer, b"").unwrap();
    };
    let is_flushed = std::cell::Cell::new(true);
    // Asked at each step of a compaction, so that something can be done in the midst of it.
    let is_live = |_| {
        if !is_flushed.replace(true) {
            flush(17, 1);
        }
        true
    };
    let compact = || {
        let keep = Keep {
            horizon: Lsn::ZERO,
            pins: &[],
            is_live: &is_live,
        };
        runs.compact_once(&keep).unwrap()
    };
    let mut big = 1..13;
    while big.start < 6 || runs.stats().fresh_layers > 0 {
        flush(big.next().unwrap(), KEYS);
        while compact() != Compacted::Nothing {}
    }
    for lsn in 13..17 {
        flush(lsn, 1);
    }
    let below = runs.stats().levels[1..].to_vec();
    is_flushed.set(false);
    assert!(matches!(compact(), Compacted::Merged { .. }));
    assert_eq!(runs.stats().levels[1..], below, "not merged with each other");
    assert_eq!(runs.stats().fresh_layers, 2);
    let newest = |at| runs.current().get(SPACE, &[0; 4], Lsn::new(at)).unwrap();
    assert_eq!((newest(99), newest(16)), (Some(version(17)), Some(version(16))));
}
