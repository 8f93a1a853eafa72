//! Point operations on a table of a million rows: what one statement costs inside the engine.
//!
//! Commits do not wait for the disk here; the log still writes behind them.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scry_engine::*;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const ROWS: i32 = 1_000_000;

/// Nothing here ever waits for a lock; room in the log is waited for by asking again.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

fn key(id: i32) -> Key {
    Key::encode([Datum::Int4(id)])
}

fn row(table: &Table, id: i32, balance: i32) -> Vec<u8> {
    let filler =
        Datum::Text("                                                                                    ");
    table
        .layout
        .encode_datums(&[Datum::Int4(id), Datum::Int4(1), Datum::Int4(balance), filler])
        .unwrap()
}

fn load(engine: &Arc<Engine>, name: &str, rows: i32) -> Arc<Table> {
    let column = |name: &str, ty| ColumnDef {
        name: name.into(),
        ty,
        not_null: false,
        default: None,
    };
    let columns = vec![
        column("aid", DataType::Int4),
        column("bid", DataType::Int4),
        column("abalance", DataType::Int4),
        column("filler", DataType::Char(84)),
    ];
    let primary_key = Some(PrimaryKey {
        name: format!("{name}_pkey"),
        columns: vec![0],
    });
    let mut session = engine.session(SessionInfo::default());
    let mut txn = session.begin(Isolation::ReadCommitted);
    let table = now(txn.create_table(NewTable {
        name: name.into(),
        columns,
        primary_key,
    }))
    .unwrap();
    for id in 0..rows {
        now(txn.insert(&table, Some(key(id)), row(&table, id, 0))).unwrap();
    }
    let lsn = txn.commit("COPY").unwrap().unwrap();
    engine.log().wait_durable(lsn).unwrap();
    table
}

/// A cheap sequence of scattered ids.
struct Scatter(u64);

impl Scatter {
    fn next(&mut self, below: i32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % below as u64) as i32
    }
}

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
            || key(scatter.next(ROWS)),
            |key| {
                let mut txn = session.begin(Isolation::ReadCommitted);
                txn.statement();
                txn.get(&table, &key).unwrap()
            },
            BatchSize::SmallInput,
        )
    });
    c.bench_function("get_hot", |b| {
        let key = key(7);
        b.iter(|| {
            let mut txn = session.begin(Isolation::ReadCommitted);
            txn.statement();
            txn.get(&branches, &key).unwrap()
        })
    });
    for (name, table, below) in [
        ("update_commit", &table, ROWS),
        ("update_commit_hot", &branches, 10),
    ] {
        c.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let id = scatter.next(below);
                    (key(id), row(table, id, scatter.next(1000)))
                },
                |(key, row)| {
                    // The disk is not measured here; memory must not grow behind it either.
                    now(engine.log().room()).unwrap();
                    let mut txn = session.begin(Isolation::ReadCommitted);
                    txn.statement();
                    now(txn.lock(table, &key)).unwrap().unwrap();
                    txn.update(table, &key, row).unwrap();
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
            });
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
