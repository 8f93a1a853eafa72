//! The mirror behind a real engine and its log: freshness, snapshots under load, restarts, and what happens when the
//! log cannot be applied.
#![allow(clippy::unwrap_used)]

mod common;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use common::candidates::engine;
use common::*;
use scry_engine::{Engine, Table, Value};
use scry_mirror::{Error, ErrorKind, Mirror, Snapshot};
use scry_wal::{Change, Ended, Lsn, Micros, NodeId, Op, StoreId, StoreRange, StoreRanges, TxnId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

const ACCOUNTS: i64 = 100;

fn accounts(engine: &Arc<Engine>) -> Arc<Table> {
    let known = engine.catalog().table("accounts").cloned();
    known.unwrap_or_else(|| filled(engine, "accounts", "balance", ACCOUNTS))
}

/// Moves an amount from one account to another. Returns the commit's LSN, durable.
fn transfer(engine: &Arc<Engine>, table: &Table, from: i64, to: i64) -> Lsn {
    let mut txn = begin(engine);
    // In the order of the keys, so that nobody waits in a circle.
    let mut legs = [(from, -1), (to, 1)];
    legs.sort_unstable();
    for (id, amount) in legs {
        let probe = table.layout.encode(&[Value::Int8(id), Value::Int8(0)]).unwrap();
        let key = table.key_of(&probe).unwrap();
        let version = block_on(txn.lock(table, &key)).unwrap().unwrap();
        let Value::Int8(balance) = table.layout.row(&version.row).get(1).to_value() else {
            panic!()
        };
        let row = table
            .layout
            .encode(&[Value::Int8(id), Value::Int8(balance + amount)])
            .unwrap();
        block_on(txn.update(table, &key, row)).unwrap();
    }
    let lsn = txn.commit("transfer").unwrap().unwrap();
    engine.log().wait_durable(lsn).unwrap();
    lsn
}

/// (rows, sum of the balances)
fn totals(snapshot: &Snapshot, table: &Table) -> (usize, i64) {
    let table = snapshot.table(table.def.store).unwrap();
    let mut totals = (0, 0);
    for unit in table.units() {
        let batch = unit.read(&[1], None).unwrap();
        totals.0 += batch.num_rows();
        totals.1 += batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .sum::<i64>();
    }
    totals
}

#[test]
fn a_commit_is_seen_by_whoever_waited_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let mirror = mirror(folder.path(), &engine);
    let table = accounts(&engine);
    for round in 0..50 {
        let lsn = transfer(&engine, &table, 0, 1 + round % 7);
        block_on(mirror.applied(lsn.plus(1))).unwrap();
        let snapshot = mirror.snapshot(lsn).unwrap();
        let units = snapshot.table(table.def.store).unwrap().units();
        let lowest = units.iter().map(|unit| {
            let batch = unit.read(&[0, 1], None).unwrap();
            batch
                .column(1)
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .copied()
                .min()
                .unwrap()
        });
        assert_eq!(lowest.min(), Some(-1 - round));
        let status = mirror.status();
        assert!(status.stopped.is_none() && status.applied > lsn && status.lag.commits > 0);
    }
}

#[test]
fn every_snapshot_under_load_balances_and_restarts_agree_with_the_primary() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let table = accounts(&engine);
    for round in 0..3 {
        let mirror = mirror(folder.path(), &engine);
        assert!(mirror.status().rebuilt.is_none());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let (engine, table) = (&engine, &table);
                    scope.spawn(move || {
                        for step in 0..400 {
                            let from = (step * 7 + writer * 13) % ACCOUNTS;
                            transfer(engine, table, from, (from + 1 + step % 5) % ACCOUNTS);
                        }
                    })
                })
                .collect();
            let reader = scope.spawn(|| {
                let mut reads = 0;
                block_on(mirror.applied(engine.log().durable_lsn())).unwrap();
                while !done.load(Ordering::Acquire) || reads == 0 {
                    let snapshot = mirror.newest_snapshot();
                    assert_eq!(
                        totals(&snapshot, &table),
                        (ACCOUNTS as usize, 0),
                        "at {}",
                        snapshot.lsn()
                    );
                    if reads % 16 == 0 {
                        mirror.request_checkpoint();
                    }
                    reads += 1;
                }
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Ordering::Release);
            reader.join().unwrap();
        });
        let (at, expected) = primary_checksum(&engine, &table);
        block_on(mirror.applied(at.plus(1))).unwrap();
        let snapshot = mirror.snapshot(at).unwrap();
        assert_eq!(
            snapshot.table(table.def.store).unwrap().checksum().unwrap(),
            expected
        );
        // Sometimes a clean stop with its checkpoint, sometimes none.
        if round % 2 == 0 {
            mirror.close();
            assert_eq!(mirror.status().checkpoint, Some(mirror.applied_lsn()));
        }
    }
}

#[test]
fn the_newest_snapshot_of_a_quiet_primary_can_be_opened_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let table = accounts(&engine);
    let before = transfer(&engine, &table, 1, 2);
    let last = transfer(&engine, &table, 1, 2);
    let mirror = mirror(folder.path(), &engine);
    // The log goes on with a frame that says that it is idle; nothing is committed in it.
    wait_until("the watermark", || mirror.applied_lsn() > last.plus(4096));
    mirror.close();
    let mirror = self::mirror(folder.path(), &engine);
    assert!(mirror.status().rebuilt.is_none());
    let (at, expected) = primary_checksum(&engine, &table);
    assert_eq!(at, last);
    let snapshot = mirror.snapshot(last).unwrap();
    let found = snapshot.table(table.def.store).unwrap().checksum().unwrap();
    assert_eq!(found, expected);
    assert!(matches!(mirror.snapshot(before), Err(Error::NotRetained { .. })));
}

#[test]
fn a_damaged_mirror_is_made_anew_from_the_log_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let table = accounts(&engine);
    let before = mirror(folder.path(), &engine);
    block_on(before.applied(engine.log().durable_lsn())).unwrap();
    before.close();
    let segment = segments(folder.path()).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let mirror = mirror(folder.path(), &engine);
    let rebuilt = mirror.status().rebuilt;
    assert!(
        matches!(&rebuilt, Some(Error::Damaged { path, .. }) if *path == segment),
        "{rebuilt:?}"
    );
    block_on(mirror.applied(engine.log().durable_lsn())).unwrap();
    assert_eq!(totals(&mirror.newest_snapshot(), &table), (ACCOUNTS as usize, 0));
}

#[test]
fn a_segment_damaged_while_open_is_named_never_served_and_made_again_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let table = accounts(&engine);
    let mut options = small(&engine);
    // Every column is read from its file.
    options.cache_bytes = 0;
    let mirror = Mirror::open(&folder.path().join("mirror"), engine.log().clone(), options).unwrap();
    sealed(&mirror, engine.log().durable_lsn());
    for harm in [true, false] {
        for step in 0..100 {
            // Some rows of the first piece die, most of them live.
            transfer(&engine, &table, step % 20, 20 + step % 10);
        }
        sealed(&mirror, engine.log().durable_lsn());
        let (_, expected) = primary_checksum(&engine, &table);
        let largest = segments(folder.path())
            .into_iter()
            .max_by_key(|path| std::fs::metadata(path).unwrap().len())
            .unwrap();
        if harm {
            let mut bytes = std::fs::read(&largest).unwrap();
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            std::fs::write(&largest, bytes).unwrap();
        } else {
            std::fs::remove_file(&largest).unwrap();
        }
        let repaired = mirror.status().repaired;
        let checksum = || {
            let snapshot = mirror.newest_snapshot();
            snapshot.table(table.def.store).unwrap().checksum()
        };
        let refused = checksum().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        assert!(
            refused.to_string().contains(largest.to_str().unwrap()),
            "{refused}"
        );
        wait_for_repair(&mirror, expected, checksum);
        let status = mirror.status();
        assert!(
            status.repairing.is_none() && status.sealing.is_none(),
            "{status:?}"
        );
        assert_eq!(status.repaired, repaired + 1);
        wait_until("the end of the repair", || mirror.status().damaged == 0);
        // It gets another file, though nothing was committed meanwhile.
        wait_until("the checkpoint", || !largest.exists());
    }
    // A restart finds nothing amiss.
    transfer(&engine, &table, 1, 2);
    mirror.close();
    let mirror = self::mirror(folder.path(), &engine);
    assert!(mirror.status().rebuilt.is_none());
    let (at, expected) = primary_checksum(&engine, &table);
    block_on(mirror.applied(at.plus(1))).unwrap();
    let snapshot = mirror.snapshot(at).unwrap();
    assert_eq!(
        snapshot.table(table.def.store).unwrap().checksum().unwrap(),
        expected
    );
}

#[test]
fn a_panic_of_the_applier_is_told_to_whoever_waits() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let mut options = small(&engine);
    options.horizon = Arc::new(|| panic!("nobody knows the horizon"));
    let mirror = Mirror::open(&folder.path().join("mirror"), engine.log().clone(), options).unwrap();
    let told = block_on(mirror.applied(Lsn::new(u64::MAX)));
    let panicked = |error: &Error| matches!(error, Error::Panicked { .. });
    assert!(
        matches!(&told, Err(Error::Stopped(why)) if panicked(why)),
        "{told:?}"
    );
    assert!(mirror.status().stopped.as_ref().is_some_and(panicked));
}

#[test]
fn a_change_that_cannot_be_applied_stops_the_mirror_loudly_and_only_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let table = accounts(&engine);
    let mirror = mirror(folder.path(), &engine);
    let good = engine.log().durable_lsn();
    block_on(mirror.applied(good)).unwrap();

    // A transaction of a store that nobody has created.
    let mut records = Vec::new();
    let store = StoreId::new(999);
    let change = Change {
        store,
        op: Op::Insert,
        key: b"k",
        ended: Ended::None,
        before: b"",
        after: b"row",
    };
    scry_wal::record::encode_change(&mut records, &change).unwrap();
    let ranges = [StoreRange {
        store,
        first: scry_wal::Ordinal::new(0),
        count: 1,
    }];
    let commit = scry_wal::Commit {
        txn: TxnId::new(1 << 40),
        time: Micros::new(0),
        origin_node: NodeId::default(),
        origin_lsn: Lsn::ZERO,
        user: "",
        client: "",
        application: "",
        tag: "",
        election: 0,
        candidate: 0,
        adopts: None,
        stores: StoreRanges::new(&ranges),
    };
    scry_wal::record::encode_commit(&mut records, &commit).unwrap();
    let bad = {
        let mut appender = engine.log().lock().unwrap();
        let bad = appender.reserve(records.len()).unwrap();
        appender.put(&records, 2, false);
        bad
    };

    let told = block_on(mirror.applied(bad.plus(1)));
    assert!(
        matches!(&told, Err(Error::Stopped(why)) if matches!(**why, Error::Stream(_))),
        "{told:?}"
    );
    let status = mirror.status();
    assert!(status.stopped.unwrap().to_string().contains("999"));
    assert!(status.applied <= bad);
    assert_eq!(
        totals(&mirror.newest_snapshot(), &table).1,
        0,
        "what was applied before can be read"
    );
    transfer(&engine, &table, 1, 2);
    mirror.close();
    let checkpoint = mirror.status().checkpoint;
    assert!(
        checkpoint.is_none_or(|checkpoint| checkpoint <= bad),
        "nothing half applied is written down"
    );
}

#[test]
fn waiting_ends_when_the_mirror_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let mirror = mirror(folder.path(), &engine);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| block_on(mirror.applied(Lsn::new(u64::MAX))));
        mirror.close();
        assert!(matches!(waiter.join().unwrap(), Err(Error::Closed)));
    });
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(
        mirror.poll_applied(Lsn::new(u64::MAX), &mut context),
        Poll::Ready(Err(_))
    ));
}
