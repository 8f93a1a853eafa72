//! Loads: a million rows of about 110 bytes in one transaction, as COPY writes them.
//!
//! An iteration is the whole load into an engine of its own, durable at its end.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Scatter, key, load, now};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use scry_engine::*;
use std::sync::Arc;
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: i32 = 1_000_000;

/// As `load` has them, but for what a compressor finds nothing in.
fn fill(engine: &Arc<Engine>, table: &Arc<Table>) {
    let mut scatter = Scatter(42);
    let mut session = engine.session(SessionInfo::default());
    let mut txn = session.begin(Isolation::ReadCommitted);
    txn.statement();
    for id in 0..ROWS {
        let mut filler = [0; 84];
        for bytes in filler.chunks_mut(4) {
            let scattered = scatter.next() as u32;
            bytes.copy_from_slice(&scattered.to_be_bytes().map(|byte| b' ' + byte % 64));
        }
        let filler = Datum::Text(std::str::from_utf8(&filler).unwrap());
        let row = [Datum::Int4(id), Datum::Int4(1), Datum::Int4(0), filler];
        let row = table.layout.encode_datums(&row).unwrap();
        now(txn.insert(table, Some(key(id)), row)).unwrap();
    }
    let lsn = txn.commit("COPY").unwrap().unwrap();
    engine.log().wait_durable(lsn).unwrap();
}

fn loads(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    group
        .throughput(Throughput::Elements(ROWS as u64))
        .sample_size(10);
    group.bench_function("in_key_order", |b| {
        let begin = || {
            let directory = tempfile::tempdir().unwrap();
            let engine = Engine::open(directory.path(), EngineOptions::default()).unwrap();
            let table = load(&engine, "accounts", 0);
            (table, engine, directory)
        };
        let run = |(table, engine, directory): (Arc<Table>, Arc<Engine>, TempDir)| {
            fill(&engine, &table);
            (table, engine, directory)
        };
        b.iter_batched(begin, run, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, loads);
criterion_main!(benches);
