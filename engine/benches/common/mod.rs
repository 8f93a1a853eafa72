//! A table like pgbench's accounts, candidates that change it, and what it takes to do that without a runtime.
#![allow(clippy::unwrap_used, dead_code)]

use scry_engine::election::{NewCandidate, NewElection};
use scry_engine::*;
use scry_wal::Lsn;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Rows of one transaction of a load.
const BATCH: usize = 1_000_000;

/// Nothing here ever waits for a lock; room in the log is waited for by asking again.
pub fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

pub fn key(id: i32) -> Key {
    Key::encode([Datum::Int4(id)])
}

pub fn row(table: &Table, id: i32, balance: i32) -> Vec<u8> {
    let filler =
        Datum::Text("                                                                                    ");
    table
        .layout
        .encode_datums(&[Datum::Int4(id), Datum::Int4(1), Datum::Int4(balance), filler])
        .unwrap()
}

/// A cheap sequence of scattered numbers, of 31 bits.
pub struct Scatter(pub u64);

impl Scatter {
    pub fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, bound: i32) -> i32 {
        (self.next() % bound as u64) as i32
    }
}

/// A table of so many rows.
pub fn load(engine: &Arc<Engine>, name: &str, rows: i32) -> Arc<Table> {
    load_every(engine, name, rows, 1)
}

/// A table of so many rows, whose ids are multiples of `step`.
pub fn load_every(engine: &Arc<Engine>, name: &str, rows: i32, step: i32) -> Arc<Table> {
    let column = |name: &str, ty| ColumnDef::new(name, ty);
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
        ..NewTable::default()
    }))
    .unwrap();
    let mut lsn = txn.commit("CREATE TABLE").unwrap().unwrap();
    for first in (0..rows).step_by(BATCH) {
        let mut txn = session.begin(Isolation::ReadCommitted);
        for id in (first..rows.min(first + BATCH as i32)).map(|number| number * step) {
            now(txn.insert(&table, Some(key(id)), row(&table, id, 0))).unwrap();
        }
        lsn = txn.commit("COPY").unwrap().unwrap();
    }
    engine.log().wait_durable(lsn).unwrap();
    Arc::clone(engine.catalog().table(name).unwrap())
}

pub fn begin(engine: &Arc<Engine>) -> Txn {
    engine
        .session(SessionInfo::default())
        .begin(Isolation::ReadCommitted)
}

pub fn create_election(engine: &Arc<Engine>, name: &str) {
    let mut txn = begin(engine);
    let (name, owner) = (name.to_owned(), "bench".to_owned());
    txn.create_election(NewElection {
        name,
        owner,
        winners: 1,
        private: false,
    })
    .unwrap();
    txn.commit("CREATE ELECTION").unwrap();
}

pub fn create_candidate(engine: &Arc<Engine>, election: &str, name: &str) -> Lsn {
    let mut txn = begin(engine);
    txn.create_candidate(NewCandidate {
        election: election.to_owned(),
        name: name.to_owned(),
        mirrored: true,
        weight: 1.0,
        note: String::new(),
    })
    .unwrap();
    txn.commit("CREATE CANDIDATE").unwrap().unwrap()
}

/// Changes the balances of some rows inside of a candidate.
pub fn change(engine: &Arc<Engine>, table: &Table, candidate: (&str, &str), ids: impl Iterator<Item = i32>) {
    let mut session = engine.session(SessionInfo::default());
    let (election, name) = candidate;
    let mut txn = session
        .begin_in(election, name, Isolation::ReadCommitted)
        .unwrap();
    for id in ids {
        now(txn.lock(table, &key(id))).unwrap().unwrap();
        now(txn.update(table, &key(id), row(table, id, id))).unwrap();
    }
    let lsn = txn.commit("UPDATE").unwrap().unwrap();
    engine.log().wait_durable(lsn).unwrap();
}
