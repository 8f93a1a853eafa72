//! Crashes on a disk that may do anything it is allowed to: what was acknowledged is there, and every transaction is
//! there whole or not at all.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use scry_wal::Lsn;
use scry_wal::sim::{Fault, Random, SimStorage};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

type State = BTreeMap<i32, i64>;

/// Committed states of all lives so far, by commit LSN.
struct History {
    states: BTreeMap<Lsn, State>,
    acknowledged: Lsn,
}

fn small() -> EngineOptions {
    let mut options = options();
    options.log.backend = scry_wal::Backend::Auto;
    options.log.segment_bytes = 64 << 10;
    options.log.buffer_bytes = 256 << 10;
    // Transactions of more than a few rows write ahead.
    options.spill_bytes = 400;
    options.move_bytes = 2000;
    options.load_rows = 2;
    options
}

fn open_on(path: &Path, storage: &Arc<SimStorage>) -> Result<Arc<Engine>, Error> {
    let storage: Arc<SimStorage> = Arc::clone(storage);
    Engine::open_on(path, storage, small())
}

/// One transaction of some changes; the state that it leaves.
fn change(txn: &mut Txn, random: &mut Random, before: &State) -> Result<State, Error> {
    let table = Arc::clone(txn.catalog().table("t").unwrap());
    let mut state = before.clone();
    let count = if random.below(10) == 0 {
        30
    } else {
        1 + random.below(4)
    };
    for _ in 0..count {
        let id = random.below(40) as i32;
        let value = random.below(1_000_000) as i64;
        if let Some(_existing) = block_on(txn.lock(&table, &key(id)))? {
            if random.below(3) == 0 {
                block_on(txn.delete(&table, &key(id)))?;
                state.remove(&id);
                continue;
            }
            block_on(txn.update(&table, &key(id), row(&table, id, value)))?;
        } else {
            block_on(txn.insert(&table, Some(key(id)), row(&table, id, value)))?;
        }
        state.insert(id, value);
    }
    Ok(state)
}

/// Lets an engine live until its disk fails or enough was done.
fn live(engine: &Arc<Engine>, random: &mut Random, history: &mut History) {
    let mut session = engine.session(SessionInfo::default());
    for _ in 0..random.below(150) {
        let before = history
            .states
            .last_key_value()
            .map(|(_, state)| state.clone())
            .unwrap_or_default();
        let mut txn = session.begin(Isolation::ReadCommitted);
        let Ok(state) = change(&mut txn, random, &before) else {
            return;
        };
        if random.below(12) == 0 {
            txn.rollback();
            continue;
        }
        match txn.commit("") {
            Ok(Some(lsn)) => {
                history.states.insert(lsn, state);
                if random.below(5) == 0 && engine.log().wait_durable(lsn).is_ok() {
                    history.acknowledged = lsn;
                }
            }
            Ok(None) => assert_eq!(state, before),
            Err(_) => {
                // The log is gone. What is visible stays as it was before the failed commit.
                let mut txn = session.begin(Isolation::ReadCommitted);
                let table = Arc::clone(txn.catalog().table("t").unwrap());
                let seen: State = rows(&mut txn, &table).into_iter().collect();
                assert_eq!(seen, before);
                return;
            }
        }
    }
    // A load is under way when the end comes.
    let mut txn = session.begin(Isolation::ReadCommitted);
    let table = Arc::clone(txn.catalog().table("t").unwrap());
    for id in 1000..1000 + random.below(40) as i32 {
        if block_on(txn.insert(&table, Some(key(id)), row(&table, id, 0))).is_err() {
            return;
        }
    }
}

fn check(engine: &Arc<Engine>, history: &mut History) {
    let visible = engine.visible_lsn();
    assert!(
        visible >= history.acknowledged,
        "acknowledged up to {}, found {visible}",
        history.acknowledged
    );
    let expected = history
        .states
        .get(&visible)
        .expect("the end of a commit that was made");
    let mut txn = engine
        .session(SessionInfo::default())
        .begin(Isolation::ReadCommitted);
    let table = Arc::clone(txn.catalog().table("t").expect("created and acknowledged"));
    let found: State = rows(&mut txn, &table).into_iter().collect();
    assert_eq!(&found, expected);
    assert_eq!(table.live_rows(), expected.len() as u64);
    let mut by_value: Vec<(i32, i64)> = rows(&mut txn, &table);
    by_value.sort_by_key(|(id, value)| (*value, *id));
    assert_eq!(rows_by_index(&mut txn, &table, 0), by_value);
    // What lay beyond was never acknowledged, and is gone for good.
    history.states.retain(|lsn, _| *lsn <= visible);
}

#[test]
fn after_any_crash_the_engine_has_all_that_was_acknowledged_and_only_whole_transactions() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let directory = tempfile::tempdir().unwrap();
        let mut storage = SimStorage::new(seed, false);
        let mut history = History {
            states: BTreeMap::new(),
            acknowledged: Lsn::ZERO,
        };
        let engine = open_on(directory.path(), &storage).unwrap();
        let mut txn = engine
            .session(SessionInfo::default())
            .begin(Isolation::ReadCommitted);
        let mut new = new_table("t", true);
        new.indexes.push(index("by_value", false));
        block_on(txn.create_table(new)).unwrap();
        let lsn = txn.commit("").unwrap().unwrap();
        engine.log().wait_durable(lsn).unwrap();
        history.states.insert(lsn, State::new());
        history.acknowledged = lsn;
        drop(engine);
        for _ in 0..4 {
            let fault = [
                Fault::Crash,
                Fault::Crash,
                Fault::WriteFails,
                Fault::SyncFails,
                Fault::Short(700),
            ];
            let Ok(engine) = open_on(directory.path(), &storage) else {
                panic!("seed {seed}: it does not open")
            };
            check(&engine, &mut history);
            storage.fail_after(random.below(60), fault[random.below(5) as usize]);
            live(&engine, &mut random, &mut history);
            let crashed = storage.after_crash(random.next_number());
            drop(engine);
            storage = crashed;
        }
        let engine = open_on(directory.path(), &storage).unwrap();
        check(&engine, &mut history);
    }
}
