//! Opening after a crash: how fast the log is replayed into rows. Throughput is bytes of log.
//!
//! No checkpoint is made, so that each opening replays everything. The log is in the system's page cache. Memory is of the allocator that
//! the server has.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{key, load, now, row};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use scry_engine::*;
use std::path::Path;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: i32 = 200_000;

/// Rows of one transaction.
const BATCH: i32 = 100;

fn open(folder: &Path) -> Arc<Engine> {
    let options = EngineOptions {
        checkpoint_log_bytes: 0,
        checkpoint_dirty_bytes: 0,
        ..EngineOptions::default()
    };
    Engine::open(folder, options).unwrap()
}

/// A table, and then transactions that each update so many of its rows; where the next one begins moves through the table in steps.
fn write(folder: &Path, transactions: i32, rows_each: i32) -> u64 {
    let engine = open(folder);
    let table = load(&engine, "accounts", ROWS);
    let mut session = engine.session(SessionInfo::default());
    for number in 0..transactions {
        now(engine.log().room()).unwrap();
        let mut txn = session.begin(Isolation::ReadCommitted);
        txn.statement();
        for place in 0..rows_each {
            let id = (number.wrapping_mul(7919) + place * 1013).rem_euclid(ROWS);
            now(txn.lock(&table, &key(id))).unwrap().unwrap();
            now(txn.update(&table, &key(id), row(&table, id, number))).unwrap();
        }
        txn.commit("UPDATE").unwrap();
    }
    engine.close().unwrap();
    engine.visible_lsn().get()
}

fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10);
    for (name, transactions, rows_each) in [
        ("load", 0, 0),
        ("load_and_updates_of_1_row", 500_000, 1),
        ("load_and_updates_of_100_rows", 5_000, BATCH),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let bytes = write(folder.path(), transactions, rows_each);
        group.throughput(Throughput::Bytes(bytes));
        // It is closed before it is opened again.
        let each = BatchSize::PerIteration;
        group.bench_function(name, |b| b.iter_batched(|| (), |()| open(folder.path()), each));
    }
    group.finish();
}

criterion_group!(benches, recovery);
criterion_main!(benches);
