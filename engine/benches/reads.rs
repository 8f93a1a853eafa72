//! Reads of rows that are in files, all of them in the block cache, by several sessions at once: a million rows of about 110 bytes.
//!
//! An iteration is one read by each of the threads.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Scatter, key, load_every};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scry_engine::*;
use std::sync::Arc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: i32 = 1_000_000;
const THREADS: u64 = 2;

/// The rows' ids are even: odd ones are absent.
fn read(engine: &Arc<Engine>, table: &Arc<Table>, odd: i32, iterations: u64) -> Duration {
    let start = Barrier::new(THREADS as usize + 1);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..THREADS)
            .map(|number| {
                let start = &start;
                scope.spawn(move || {
                    let mut session = engine.session(SessionInfo::default());
                    let mut scatter = Scatter(number + 42);
                    start.wait();
                    for _ in 0..iterations {
                        let mut txn = session.begin(Isolation::ReadCommitted);
                        txn.statement();
                        let found = txn.get(table, &key(scatter.below(ROWS) * 2 + odd)).unwrap();
                        assert_eq!(found.is_some(), odd == 0);
                    }
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        begun.elapsed()
    })
}

fn reads(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        rows_bytes_max: 1 << 20,
        ..EngineOptions::default()
    };
    let engine = Engine::open(directory.path(), options).unwrap();
    let table = load_every(&engine, "accounts", ROWS, 2);
    engine.checkpoint().unwrap();
    read(&engine, &table, 0, 2 * ROWS as u64);
    let mut group = c.benchmark_group("files_in_cache");
    group.throughput(Throughput::Elements(THREADS));
    for (name, odd) in [("get", 0), ("get_absent", 1)] {
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| read(&engine, &table, odd, iterations))
        });
    }
    group.finish();
    drop(table);
    engine.close().unwrap();
}

criterion_group!(benches, reads);
criterion_main!(benches);
