//! Candidates inside the engine: opening one over tables of different sizes, and the memory of those that nobody works in.
//!
//! `ROWS=10000000` opens candidates over a table of so many rows, too.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{begin, change, create_candidate, create_election, load};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use scry_engine::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Candidates that are open beside others, and rows that each has changed.
const CANDIDATES: i32 = 1_000;
const CHANGED_BY_EACH: i32 = 10;

/// The time to open a candidate and to change some rows in it. It is dropped again: what was opened before is no part of the next.
fn opened(engine: &Arc<Engine>, table: &Table, changed: i32, durable: bool) -> Duration {
    let begun = Instant::now();
    let lsn = create_candidate(engine, "e", "c");
    if changed > 0 {
        change(engine, table, ("e", "c"), 0..changed);
    } else if durable {
        engine.log().wait_durable(lsn).unwrap();
    }
    let taken = begun.elapsed();
    let mut txn = begin(engine);
    txn.drop_candidate("e", "c").unwrap();
    let lsn = txn.commit("DROP CANDIDATE").unwrap().unwrap();
    engine.log().wait_durable(lsn).unwrap();
    taken
}

fn open(c: &mut Criterion) {
    let more = std::env::var("ROWS").ok().map(|rows| rows.parse().unwrap());
    let mut group = c.benchmark_group("open a candidate");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for rows in [1_000, 100_000].into_iter().chain(more) {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path(), EngineOptions::default()).unwrap();
        let table = load(&engine, "accounts", rows);
        create_election(&engine, "e");
        for (what, changed, durable) in [
            ("visible", 0, false),
            ("durable", 0, true),
            ("with one row changed, durable", 1, true),
        ] {
            group.bench_function(BenchmarkId::new(what, format!("{rows} rows")), |b| {
                b.iter_custom(|times| {
                    (0..times)
                        .map(|_| opened(&engine, &table, changed, durable))
                        .sum()
                });
            });
        }
        engine.close().unwrap();
    }
    group.finish();
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Many candidates, each with some changed rows: what they take, and what opening one more costs.
fn many(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), EngineOptions::default()).unwrap();
    let table = load(&engine, "accounts", 2 * CANDIDATES * CHANGED_BY_EACH);
    create_election(&engine, "e");
    let before = resident_bytes();
    let begun = Instant::now();
    for nth in 0..CANDIDATES {
        let name = format!("c{nth}");
        create_candidate(&engine, "e", &name);
        let ids = (0..CHANGED_BY_EACH).map(|row| nth * CHANGED_BY_EACH + row);
        change(&engine, &table, ("e", &name), ids);
    }
    eprintln!(
        "{CANDIDATES} candidates with {CHANGED_BY_EACH} changed rows each: {:?}, {} bytes of memory each",
        begun.elapsed(),
        resident_bytes().saturating_sub(before) / CANDIDATES as usize,
    );
    c.bench_function(
        &format!("open a candidate/visible/beside {CANDIDATES} others"),
        |b| {
            b.iter_custom(|times| (0..times).map(|_| opened(&engine, &table, 0, false)).sum());
        },
    );
    engine.close().unwrap();
}

// First what weighs memory, while nothing has been given back.
criterion_group!(benches, many, open);
criterion_main!(benches);
