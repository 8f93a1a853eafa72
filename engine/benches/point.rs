//! Point operations on a table of a million rows: what one statement costs inside the engine.
//!
//! Commits do not wait for the disk here; the log still writes behind them.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Scatter, key, load, now, row};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scry_engine::*;

const ROWS: i32 = 1_000_000;

fn point(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), EngineOptions::default()).unwrap();
    let begun = std::time::Instant::now();
    let table = load(&engine, "accounts", ROWS);
    let branches = load(&engine, "branches", 10);
    eprintln!("loaded {ROWS} rows in {:?}", begun.elapsed());
    let mut session = engine.session(SessionInfo::default());
    let mut scatter = Scatter(42);

    c.bench_function("begin_and_end", |b| {
        b.iter(|| {
            let mut txn = session.begin(Isolation::ReadCommitted);
            txn.statement();
            txn.commit("").unwrap()
        })
    });
    c.bench_function("get", |b| {
        b.iter_batched(
            || key(scatter.below(ROWS)),
            |key| {
                let mut txn = session.begin(Isolation::ReadCommitted);
                txn.statement();
                txn.get(&table, &key).unwrap().unwrap()
            },
            BatchSize::SmallInput,
        )
    });
    c.bench_function("get_hot", |b| {
        let key = key(7);
        b.iter(|| {
            let mut txn = session.begin(Isolation::ReadCommitted);
            txn.statement();
            txn.get(&branches, &key).unwrap().unwrap()
        })
    });
    for (name, table, below) in [
        ("update_commit", &table, ROWS),
        ("update_commit_hot", &branches, 10),
    ] {
        c.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let id = scatter.below(below);
                    (key(id), row(table, id, scatter.below(1000)))
                },
                |(key, row)| {
                    // The disk is not measured here; memory must not grow behind it either.
                    now(engine.log().room()).unwrap();
                    let mut txn = session.begin(Isolation::ReadCommitted);
                    txn.statement();
                    now(txn.lock(table, &key)).unwrap().unwrap();
                    now(txn.update(table, &key, row)).unwrap();
                    txn.commit("UPDATE 1").unwrap()
                },
                BatchSize::SmallInput,
            )
        });
    }
    c.bench_function("insert_commit", |b| {
        let mut id = ROWS;
        b.iter_batched(
            || {
                id += 1;
                (key(id), row(&table, id, 0))
            },
            |(key, row)| {
                now(engine.log().room()).unwrap();
                let mut txn = session.begin(Isolation::ReadCommitted);
                txn.statement();
                now(txn.insert(&table, Some(key), row)).unwrap();
                txn.commit("INSERT 0 1").unwrap()
            },
            BatchSize::SmallInput,
        )
    });
    c.bench_function("scan_10000", |b| {
        let range = KeyRange {
            lower: std::ops::Bound::Included(key(500_000)),
            upper: std::ops::Bound::Excluded(key(510_000)),
        };
        b.iter(|| {
            let mut txn = session.begin(Isolation::ReadCommitted);
            let mut count = 0;
            txn.scan(&table, &range, &mut |_, _| {
                count += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(count, 10_000);
        })
    });
    engine.close().unwrap();
    drop((session, table, branches, engine));
    let begun = std::time::Instant::now();
    let engine = Engine::open(directory.path(), EngineOptions::default()).unwrap();
    eprintln!(
        "recovered {} of log in {:?}",
        engine.visible_lsn().get(),
        begun.elapsed()
    );
}

criterion_group!(benches, point);
criterion_main!(benches);
