//! Sorted runs by themselves: lookups, walks, flushes and compaction over a million rows of 100 bytes.
//!
//! The files are in the system's page cache: what is measured is the work of the processor.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::Scatter;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use scry_engine::runs::{Compacted, Keep, RunSet, Runs, RunsOptions, SpaceId, Stored};
use scry_engine::{Key, KeyRange, Row};
use scry_wal::{Lsn, Ordinal};
use std::hint::black_box;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS: u64 = 1_000_000;
const SPACE: SpaceId = SpaceId::new(7);

/// Half of a row compresses well.
fn row(number: u64) -> Row {
    let mut scatter = Scatter(number);
    let mut row = [b' '; 100];
    for chunk in row[..48].chunks_mut(4) {
        chunk.copy_from_slice(&(scatter.next() as u32).to_le_bytes());
    }
    Row::from(row)
}

fn key(number: u64) -> [u8; 8] {
    (number * 2).to_be_bytes()
}

/// Flushes every `step`-th row from `first` on.
fn flush(runs: &Arc<Runs>, lsn: u64, first: u64, step: usize) -> u64 {
    let mut writer = runs.begin_flush();
    let mut bytes = 0;
    for number in (first..ROWS).step_by(step) {
        let row = row(number);
        bytes += row.len() as u64 + 8;
        let version = Stored {
            lsn: Lsn::new(lsn),
            ordinal: Ordinal::new(number),
            row: Some(row),
        };
        writer.add(SPACE, &key(number), &[version]).unwrap();
    }
    runs.install(writer, b"").unwrap();
    bytes
}

fn compact(runs: &Arc<Runs>) {
    let keep = Keep {
        horizon: Lsn::MAX,
        pins: &[],
        is_live: &|_| true,
    };
    while runs.compact_once(&keep).unwrap() != Compacted::Nothing {}
}

/// All rows below, and two flushes of some of them.
fn filled(folder: &Path, options: RunsOptions) -> Arc<Runs> {
    let (runs, _) = Runs::open(folder, options).unwrap();
    for lsn in 0..4 {
        flush(&runs, lsn + 1, lsn, 4);
    }
    compact(&runs);
    flush(&runs, 10, 5, 50);
    flush(&runs, 11, 6, 50);
    runs
}

fn get(set: &RunSet, key: &[u8]) -> Option<Stored> {
    set.get(SPACE, key, Lsn::MAX).unwrap()
}

fn reading(c: &mut Criterion) {
    for (cache, cache_bytes) in [("cached", 1 << 30), ("uncached", 1 << 20)] {
        let folder = tempfile::tempdir().unwrap();
        let options = RunsOptions {
            cache_bytes,
            ..RunsOptions::default()
        };
        let runs = filled(folder.path(), options);
        let stats = runs.stats();
        let bytes: u64 = stats.levels.iter().map(|level| level.bytes).sum();
        eprintln!(
            "{ROWS} rows of 108 bytes in {bytes} bytes, {} pinned",
            stats.pinned_bytes
        );
        for number in 0..ROWS {
            black_box(get(&runs.current(), &key(number)));
        }
        let mut group = c.benchmark_group(cache);
        let mut scatter = Scatter(3);
        group.bench_function("get_hit", |b| {
            b.iter(|| get(&runs.current(), &key(scatter.next() % ROWS)).unwrap());
        });
        group.bench_function("get_miss", |b| {
            b.iter(|| {
                let number = scatter.next() % ROWS;
                assert!(get(&runs.current(), &(number * 2 + 1).to_be_bytes()).is_none());
            });
        });
        group.bench_function("range_of_100", |b| {
            b.iter_batched(
                || {
                    let first = scatter.next() % (ROWS - 100);
                    KeyRange {
                        lower: Bound::Included(Key::from_bytes(&key(first))),
                        upper: Bound::Excluded(Key::from_bytes(&key(first + 100))),
                    }
                },
                |range| {
                    let mut found = runs.current().range(SPACE, &range, Lsn::MAX).unwrap();
                    let mut count = 0;
                    while let Some(found) = found.next().unwrap() {
                        black_box(found);
                        count += 1;
                    }
                    assert_eq!(count, 100);
                },
                BatchSize::SmallInput,
            );
        });
        group.sample_size(10).throughput(Throughput::Elements(ROWS));
        group.bench_function("walk", |b| {
            b.iter(|| {
                let mut found = runs.current().range(SPACE, &KeyRange::all(), Lsn::MAX).unwrap();
                let mut count = 0;
                while found.step().unwrap() {
                    black_box(found.row());
                    count += 1;
                }
                assert_eq!(count, ROWS);
            });
        });
        group.finish();
    }
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("writing");
    group.sample_size(10).throughput(Throughput::Bytes(ROWS * 108));
    group.bench_function("flush", |b| {
        b.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let folder = tempfile::tempdir().unwrap();
                let (runs, _) = Runs::open(folder.path(), RunsOptions::default()).unwrap();
                let begun = Instant::now();
                flush(&runs, 1, 0, 1);
                spent += begun.elapsed();
            }
            spent
        });
    });
    group.bench_function("compact_four_flushes", |b| {
        b.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let folder = tempfile::tempdir().unwrap();
                let (runs, _) = Runs::open(folder.path(), RunsOptions::default()).unwrap();
                for lsn in 0..4 {
                    flush(&runs, lsn + 1, lsn, 4);
                }
                // The oldest goes down as it is, and waits there for a fourth.
                flush(&runs, 9, 0, 1000);
                let begun = Instant::now();
                compact(&runs);
                spent += begun.elapsed();
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, reading, writing);
criterion_main!(benches);
