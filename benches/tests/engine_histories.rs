//! Random transactions on threads of the engine itself, and whether their isolation level allows what they saw: much faster
//! than through a server, hence with more of them at the same moment. Seconds here; `HISTORY_SECONDS=600` for longer.
#![allow(clippy::unwrap_used)]

use scry_benches::histories::check::{Level, check};
use scry_benches::histories::history::{History, Key, Op, Outcome, Transaction};
use scry_benches::histories::workload::{Plan, Pool, Step, Way, range, read};
use scry_benches::random::Random;
use scry_engine::{
    Advice, ColumnDef, DataType, Datum, Engine, EngineOptions, Error, InsertOutcome, Isolation, KeyRange,
    NewTable, PrimaryKey, SessionInfo, Table, Txn, Value, Version,
};
use scry_wal::block_on;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const THREADS: u32 = 4;
/// Transactions of a thread in a round.
const ROUND: u32 = 1500;

struct Store {
    engine: Arc<Engine>,
    lists: Arc<Table>,
    registers: Arc<Table>,
}

impl Store {
    /// With memory for rows, or without.
    fn new(path: &std::path::Path, has_memory: bool) -> Store {
        let mut options = EngineOptions::default();
        if !has_memory {
            options.rows_bytes_max = 0;
        }
        options.log.segment_bytes = 1 << 20;
        options.log.backend = scry_wal::Backend::Blocking;
        let engine = Engine::open(path, options).unwrap();
        let mut txn = engine
            .session(SessionInfo::default())
            .begin(Isolation::ReadCommitted);
        for name in ["lists", "registers"] {
            let column = |name: &str, ty| ColumnDef {
                not_null: true,
                ..ColumnDef::new(name, ty)
            };
            let table = NewTable {
                name: name.to_owned(),
                columns: vec![column("k", DataType::Int4), column("v", DataType::Text)],
                primary_key: Some(PrimaryKey {
                    name: format!("{name}_pkey"),
                    columns: vec![0],
                }),
                ..NewTable::default()
            };
            block_on(txn.create_table(table)).unwrap();
        }
        txn.commit("").unwrap();
        let table = |name| Arc::clone(engine.catalog().table(name).unwrap());
        Store {
            lists: table("lists"),
            registers: table("registers"),
            engine,
        }
    }

    fn table(&self, list: bool) -> &Table {
        if list { &self.lists } else { &self.registers }
    }
}

fn key(key: Key) -> scry_engine::Key {
    scry_engine::Key::encode([Datum::Int4(i32::try_from(key).unwrap())])
}

fn decode(table: &Table, version: &Version) -> (Key, String) {
    let row = table.layout.row(&version.row);
    match (row.get(0), row.get(1)) {
        (Datum::Int4(key), Datum::Text(text)) => (u32::try_from(key).unwrap(), text.to_string()),
        other => panic!("{other:?}"),
    }
}

fn encode(table: &Table, key: Key, text: String) -> Vec<u8> {
    let key = Value::Int4(i32::try_from(key).unwrap());
    table.layout.encode(&[key, Value::Text(text)]).unwrap()
}

/// Makes something of a row, or of none.
fn upsert(
    txn: &mut Txn,
    table: &Table,
    at: Key,
    make: impl Fn(Option<String>) -> String,
) -> Result<(), Error> {
    let place = key(at);
    loop {
        if let Some(version) = block_on(txn.lock(table, &place))? {
            let made = make(Some(decode(table, &version).1));
            return block_on(txn.update(table, &place, encode(table, at, made)));
        }
        let row = encode(table, at, make(None));
        if let InsertOutcome::Inserted(_) = block_on(txn.insert(table, Some(place.clone()), row))? {
            return Ok(());
        }
    }
}

/// Makes something of a row, and answers it; none where there is no row.
fn update(
    txn: &mut Txn,
    table: &Table,
    at: Key,
    search: bool,
    make: impl Fn(&str) -> String,
) -> Result<Vec<(Key, String)>, Error> {
    if search && read_step(txn, table, at, Way::Search)?.is_empty() {
        return Ok(Vec::new());
    }
    let Some(version) = block_on(txn.lock(table, &key(at)))? else {
        return Ok(Vec::new());
    };
    let made = make(&decode(table, &version).1);
    block_on(txn.update(table, &key(at), encode(table, at, made.clone())))?;
    Ok(vec![(at, made)])
}

fn scan(txn: &mut Txn, table: &Table, range: &KeyRange) -> Result<Vec<(Key, String)>, Error> {
    let mut rows = Vec::new();
    txn.scan(table, range, &mut |_, version| {
        rows.push(decode(table, version));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

fn read_step(txn: &mut Txn, table: &Table, at: Key, way: Way) -> Result<Vec<(Key, String)>, Error> {
    let found = match way {
        Way::Key => txn.get(table, &key(at))?,
        Way::ForUpdate => block_on(txn.lock(table, &key(at)))?,
        Way::ForShare => block_on(txn.share(table, &key(at)))?,
        Way::Range => {
            let keys = range(at);
            let range = KeyRange {
                lower: Bound::Included(key(*keys.start())),
                upper: Bound::Included(key(*keys.end())),
            };
            return scan(txn, table, &range);
        }
        Way::Search => {
            let mut rows = scan(txn, table, &KeyRange::all())?;
            rows.retain(|(key, _)| *key == at);
            return Ok(rows);
        }
    };
    Ok(found.iter().map(|version| decode(table, version)).collect())
}

fn steps(
    store: &Store,
    txn: &mut Txn,
    plan: &Plan,
    ops: &mut Vec<Op>,
    undone: &mut Vec<Op>,
) -> Result<(), Error> {
    let mut savepoint = None;
    for step in &plan.steps {
        txn.statement();
        match *step {
            Step::Append(key, value) => {
                ops.extend(step.written());
                upsert(txn, &store.lists, key, |before| match before {
                    Some(before) => format!("{before},{value}"),
                    None => value.to_string(),
                })?;
            }
            Step::Write(key, value) => {
                ops.extend(step.written());
                upsert(txn, &store.registers, key, |_| value.to_string())?;
            }
            Step::Update {
                list,
                key,
                value,
                search,
            } => {
                let found = update(txn, store.table(list), key, search, |before| match list {
                    true => format!("{before},{value}"),
                    false => value.to_string(),
                })?;
                if !found.is_empty() {
                    ops.extend(step.written());
                }
                ops.push(read(list, key, &found).unwrap());
            }
            Step::Read { list, key, way } => {
                let rows = read_step(txn, store.table(list), key, way)?;
                let keys = if way == Way::Range { range(key) } else { key..=key };
                ops.extend(keys.map(|key| read(list, key, &rows).unwrap()));
            }
            Step::Savepoint => savepoint = Some((txn.savepoint()?, ops.len())),
            Step::EndSavepoint { back } => {
                let (id, length) = savepoint.take().unwrap();
                if back {
                    block_on(txn.rollback_to(id))?;
                    let after = ops.split_off(length);
                    undone.extend(
                        after
                            .into_iter()
                            .filter(|op| matches!(op, Op::Append(..) | Op::Write(..))),
                    );
                }
                txn.release(id)?;
            }
        }
    }
    Ok(())
}

fn isolation(level: Level) -> Isolation {
    match level {
        Level::ReadCommitted => Isolation::ReadCommitted,
        Level::RepeatableRead => Isolation::RepeatableRead,
        Level::Serializable => Isolation::Serializable,
    }
}

/// One thread's transactions. They are not waited for to be durable: nothing crashes here.
fn client(
    store: &Store,
    pool: &Pool,
    level: Level,
    session: u32,
    mut random: Random,
    began: Instant,
) -> Vec<Transaction> {
    let now = || u64::try_from(began.elapsed().as_nanos()).unwrap();
    let mut engine = store.engine.session(SessionInfo::default());
    let mut done = Vec::new();
    for _ in 0..ROUND {
        let plan = pool.plan(&mut random);
        let begin = now();
        let mut txn = engine.begin(isolation(level));
        let (mut ops, mut undone) = (Vec::new(), Vec::new());
        let ran = steps(store, &mut txn, &plan, &mut ops, &mut undone);
        let ended = match ran {
            Ok(()) if plan.rollback => {
                txn.rollback();
                Ok(false)
            }
            Ok(()) => txn.commit("").map(|_| true),
            Err(error) => {
                txn.rollback();
                Err(error)
            }
        };
        let outcome = match ended {
            Ok(true) => Outcome::Committed,
            Ok(false) => Outcome::Aborted,
            Err(error) => {
                assert_eq!(error.advice(), Advice::Retry, "{error}");
                Outcome::Aborted
            }
        };
        let end = Some(now());
        for (ops, outcome) in [(undone, Outcome::Aborted), (ops, outcome)] {
            done.push(Transaction {
                session,
                begin,
                end,
                outcome,
                ops,
            });
        }
    }
    done
}

fn read_all(store: &Store, pool: &Pool, session: u32, began: Instant) -> Transaction {
    let now = || u64::try_from(began.elapsed().as_nanos()).unwrap();
    let begin = now();
    let mut txn = store
        .engine
        .session(SessionInfo::default())
        .begin(Isolation::RepeatableRead);
    txn.statement();
    let mut ops = Vec::new();
    for list in [true, false] {
        let rows = scan(&mut txn, store.table(list), &KeyRange::all()).unwrap();
        ops.extend(pool.keys().map(|key| read(list, key, &rows).unwrap()));
    }
    Transaction {
        session,
        begin,
        end: Some(now()),
        outcome: Outcome::Committed,
        ops,
    }
}

#[test]
fn what_threads_saw_of_random_transactions_is_allowed_by_their_level() {
    let seconds = std::env::var("HISTORY_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(1));
    let mut seen_beyond = [0; 3];
    for seed in 1.. {
        // At least one round of each level.
        if seed > 3 && Instant::now() >= until {
            break;
        }
        let level = Level::ALL[seed % 3];
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), seed % 2 == 0);
        let (pool, mut random, began) = (Pool::new(0), Random::new(seed as u64), Instant::now());
        let mut history = History::default();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Rows go into files all the time, and out of memory.
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    store.engine.checkpoint().unwrap();
                    store.engine.make_room();
                }
            });
            let threads: Vec<_> = (0..THREADS)
                .map(|session| {
                    let (store, pool, random) = (&store, &pool, random.fork());
                    scope.spawn(move || client(store, pool, level, session, random, began))
                })
                .collect();
            let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            is_over.store(true, Ordering::Relaxed);
            for transactions in ended {
                history.transactions.extend(transactions.unwrap());
            }
        });
        history.transactions.push(read_all(&store, &pool, THREADS, began));
        let verdict = check(&history);
        let forbidden: Vec<_> = verdict.forbidden(level).take(3).collect();
        if !forbidden.is_empty() {
            let kept = std::env::temp_dir().join(format!("history-{seed}.txt"));
            std::fs::write(&kept, history.to_string()).unwrap();
            panic!(
                "{} seed {seed}, kept in {}: {forbidden:#?}",
                level.name(),
                kept.display()
            );
        }
        assert!(verdict.committed > 0);
        seen_beyond[seed % 3] += verdict.found.len();
        store.engine.close().unwrap();
    }
    println!("allowed anomalies seen under READ COMMITTED, REPEATABLE READ, SERIALIZABLE: {seen_beyond:?}");
}
