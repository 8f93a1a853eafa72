//! A primary with one table and an election, and statements on them as one transaction each. Knows nothing of the mirror, so that
//! the tests inside of it can have it, too.
#![allow(dead_code, clippy::unwrap_used)]

use arrow::record_batch::RecordBatch;
use scry_engine::collision::{RowRule, Rules};
use scry_engine::election::{NewCandidate, NewElection, OnConflict};
use scry_engine::{
    ColumnDef, DataType, Datum, Engine, EngineOptions, Error, Isolation, Key, KeyRange, NewTable, PrimaryKey,
    SessionInfo, Table, Txn, Value,
};
use scry_stream::{RowBatchBuilder, StoreSchema};
use scry_wal::{Backend, Lsn, block_on};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Values of keys, or none.
pub type Changes = Vec<(i64, Option<i64>)>;

pub fn engine(folder: &Path) -> Arc<Engine> {
    let mut options = EngineOptions::default();
    options.log.segment_bytes = 64 << 10;
    options.log.backend = Backend::Blocking;
    Engine::open(&folder.join("data"), options).unwrap()
}

pub fn begin(engine: &Arc<Engine>) -> Txn {
    let mut txn = engine
        .session(SessionInfo::default())
        .begin(Isolation::ReadCommitted);
    txn.statement();
    txn
}

/// Commits and waits until it is durable.
pub fn commit(engine: &Arc<Engine>, txn: Txn) {
    if let Some(lsn) = txn.commit("").unwrap() {
        engine.log().wait_durable(lsn).unwrap();
    }
}

/// A table of (id, value, text) with rows from 0.
pub fn create(engine: &Arc<Engine>, rows: i64) -> Arc<Table> {
    let column = |name: &str, ty| ColumnDef {
        not_null: true,
        ..ColumnDef::new(name, ty)
    };
    let mut txn = begin(engine);
    let table = block_on(txn.create_table(NewTable {
        name: "t".into(),
        columns: vec![
            column("id", DataType::Int8),
            column("value", DataType::Int8),
            column("text", DataType::Text),
        ],
        primary_key: Some(PrimaryKey {
            name: "t_key".into(),
            columns: vec![0],
        }),
        ..NewTable::default()
    }))
    .unwrap();
    apply(&mut txn, &table, &(0..rows).map(|id| (id, Some(id))).collect());
    commit(engine, txn);
    let mut txn = begin(engine);
    txn.create_election(NewElection {
        name: "e".into(),
        owner: "ada".into(),
        winners: 0,
        private: false,
    })
    .unwrap();
    commit(engine, txn);
    table
}

pub fn create_candidate(engine: &Arc<Engine>, name: &str, mirrored: bool) {
    let mut txn = begin(engine);
    txn.create_candidate(NewCandidate {
        election: "e".into(),
        name: name.into(),
        mirrored,
        weight: 1.0,
        note: String::new(),
    })
    .unwrap();
    commit(engine, txn);
}

/// Gives keys a value, or none, whatever they have.
pub fn apply(txn: &mut Txn, table: &Table, changes: &Changes) {
    for (id, value) in changes {
        let key = Key::encode([Datum::Int8(*id)]);
        let found = block_on(txn.lock(table, key.as_ref())).unwrap();
        let row = |value: i64| {
            let text = Value::Text(format!("{value:>20}"));
            let values = [Value::Int8(*id), Value::Int8(value), text];
            table.layout.encode(&values).unwrap()
        };
        match (value, found) {
            (Some(value), Some(_)) => block_on(txn.update(table, key.as_ref(), row(*value))).unwrap(),
            (Some(value), None) => drop(block_on(txn.insert(table, Some(key), row(*value))).unwrap()),
            (None, Some(_)) => block_on(txn.delete(table, key.as_ref())).unwrap(),
            (None, None) => {}
        }
    }
}

pub fn change(engine: &Arc<Engine>, table: &Table, changes: &Changes) {
    let mut txn = begin(engine);
    apply(&mut txn, table, changes);
    commit(engine, txn);
}

pub fn propose(engine: &Arc<Engine>, name: &str, table: &Table, changes: &Changes) {
    let mut session = engine.session(SessionInfo::default());
    let mut txn = session.begin_in("e", name, Isolation::ReadCommitted).unwrap();
    apply(&mut txn, table, changes);
    commit(engine, txn);
}

pub fn elect_with(engine: &Arc<Engine>, name: &str, on_conflict: OnConflict) -> Result<u64, Error> {
    let mut txn = begin(engine);
    let elected = block_on(txn.elect("e", name, on_conflict, &|_| Err(String::new())))?;
    commit(engine, txn);
    Ok(elected.changed)
}

pub fn elect(engine: &Arc<Engine>, name: &str) -> Result<u64, Error> {
    elect_with(engine, name, OnConflict::Fail)
}

/// From now on candidates win.
pub fn prefer_candidates(engine: &Arc<Engine>, table: &Table) {
    let mut txn = begin(engine);
    let rules = Rules {
        row: Some(RowRule::Proposed),
        ..Rules::default()
    };
    block_on(txn.set_rules(table, rules)).unwrap();
    commit(engine, txn);
}

pub fn rebase(engine: &Arc<Engine>, name: &str) -> Result<(), Error> {
    let mut txn = begin(engine);
    block_on(txn.rebase("e", name, OnConflict::Resolve, &|_| Err(String::new())))?;
    commit(engine, txn);
    Ok(())
}

pub fn end(engine: &Arc<Engine>, name: &str) {
    let mut txn = begin(engine);
    txn.drop_candidate("e", name).unwrap();
    commit(engine, txn);
}

/// The primary's rows as the newest transaction sees them, by ordinal, and the LSN that it sees.
pub fn primary_rows(engine: &Arc<Engine>, table: &Table) -> (Lsn, Vec<u64>, RecordBatch) {
    let mut txn = engine
        .session(SessionInfo::default())
        .begin(Isolation::RepeatableRead);
    txn.statement();
    let schema = StoreSchema::new(table.def.columns.clone());
    let mut builder = RowBatchBuilder::new(&schema);
    let mut ordinals = Vec::new();
    txn.scan(table, &KeyRange::all(), &mut |_, version| {
        ordinals.push(version.ordinal.unwrap().get());
        builder.push(&version.row).unwrap();
        ControlFlow::Continue(())
    })
    .unwrap();
    (txn.snapshot(), ordinals, builder.finish().unwrap())
}
