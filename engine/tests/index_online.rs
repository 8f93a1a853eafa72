//! CREATE INDEX CONCURRENTLY: an index is filled while others write to its table.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

fn begin(home: &Home, isolation: Isolation) -> Txn {
    let mut txn = home.session().begin(isolation);
    txn.statement();
    txn
}

fn change(home: &Home, work: impl FnOnce(&mut Txn, &Table)) {
    let mut txn = begin(home, Isolation::ReadCommitted);
    let table = home.table("t");
    work(&mut txn, &table);
    txn.commit("").unwrap();
}

/// Polls until the future is done, or for so many turns.
fn drive<T>(mut future: Pin<&mut (impl Future<Output = T> + ?Sized)>, turns: usize) -> Poll<T> {
    for _ in 0..turns {
        if let Poll::Ready(done) = poll_once(future.as_mut()) {
            return Poll::Ready(done);
        }
    }
    Poll::Pending
}

/// More turns than any of these tables needs.
const ALL: usize = 200;

fn finish<T>(mut future: Pin<&mut (impl Future<Output = Result<T, Error>> + ?Sized)>) -> Result<T, Error> {
    let mut done = drive(future.as_mut(), ALL);
    // For a checkpoint it may have to wait, which another thread makes.
    wait_until("it waits for somebody", || {
        if done.is_pending() {
            done = drive(future.as_mut(), 1);
        }
        done.is_ready()
    });
    match done {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("it was waited for"),
    }
}

/// A table with rows 0 to `rows`, each with ten times its number.
fn filled(home: &Home, rows: i32) -> Arc<Table> {
    let table = home.create("t", true);
    let mut txn = begin(home, Isolation::ReadCommitted);
    for id in 0..rows {
        insert(&mut txn, &table, id, i64::from(id) * 10);
    }
    txn.commit("").unwrap();
    table
}

/// That the index of "t" is there, complete, through restarts.
fn check_restarts(home: &mut Home) {
    for clean in [false, true, true] {
        let table = home.table("t");
        assert!(table.indexes[0].is_ready());
        home.check_indexes(&table);
        home.check_replica(&table);
        drop(table);
        match clean {
            true => home.restart(),
            false => home.restart_at_once(),
        }
    }
    home.check_indexes(&home.table("t"));
}

#[test]
fn who_has_written_before_is_waited_for_and_who_comes_later_is_not_held_up() {
    let mut home = Home::new();
    let table = filled(&home, 5);
    let mut old = begin(&home, Isolation::ReadCommitted);
    assert!(set(&mut old, &table, 1, 11));
    let mut reader = begin(&home, Isolation::RepeatableRead);
    assert_eq!(rows(&mut reader, &table).len(), 5);

    let mut session = home.session();
    let mut build = Box::pin(session.create_index_online(&table, index("i", true)));
    assert!(drive(build.as_mut(), ALL).is_pending());
    let known = home.table("t");
    assert!(!known.indexes[0].is_ready() && !known.indexes[0].def.valid);
    change(&home, |txn, table| {
        insert(txn, table, 7, 70);
        assert!(delete(txn, table, 2));
        assert!(set(txn, table, 3, 33));
    });
    // It goes on without knowing the index.
    assert!(set(&mut old, &table, 4, 44));
    insert(&mut old, &table, 8, 80);
    assert!(drive(build.as_mut(), ALL).is_pending());
    old.commit("").unwrap().unwrap();
    finish(build.as_mut()).unwrap();
    drop(build);

    // By its own catalog the older snapshot knows no index that lacks what it sees.
    assert_eq!(rows(&mut reader, &table).len(), 5);
    assert!(reader.catalog().table("t").unwrap().indexes.is_empty());
    drop((reader, session, table, known));
    let ready = home.table("t");
    assert_eq!(
        home.rows(&ready),
        [(0, 0), (1, 11), (3, 33), (4, 44), (7, 70), (8, 80)]
    );
    drop(ready);
    check_restarts(&mut home);
}

#[test]
fn rows_that_somebody_has_locked_are_waited_for_and_nothing_else_is_held_up_meanwhile() {
    for commits in [true, false] {
        let mut home = Home::new();
        let table = filled(&home, 600);
        let mut session = home.session();
        let mut build = Box::pin(session.create_index_online(&table, index("i", false)));
        // Known by now, and the first batch is filled.
        assert!(drive(build.as_mut(), 1).is_pending());
        let known = home.table("t");
        assert!(!known.indexes[0].is_ready());
        let mut writer = begin(&home, Isolation::RepeatableRead);
        assert!(set(&mut writer, &known, 1, 1));
        assert!(set(&mut writer, &known, 500, 5));
        assert!(delete(&mut writer, &known, 501));
        insert(&mut writer, &known, 501, 6);
        assert!(delete(&mut writer, &known, 502));
        assert!(drive(build.as_mut(), ALL).is_pending());
        change(&home, |txn, table| {
            assert!(set(txn, table, 0, 7) && set(txn, table, 499, 8) && set(txn, table, 503, 9));
            assert!(delete(txn, table, 504));
        });
        home.checkpoint();
        match commits {
            true => drop(writer.commit("").unwrap()),
            false => writer.rollback(),
        }
        finish(build.as_mut()).unwrap();
        drop(build);
        drop((session, table, known));
        check_restarts(&mut home);
    }
}

#[test]
fn a_transaction_with_one_snapshot_may_change_rows_that_were_filled_after_it() {
    let mut home = Home::new();
    let table = filled(&home, 600);
    let mut session = home.session();
    let mut build = Box::pin(session.create_index_online(&table, index("i", true)));
    assert!(drive(build.as_mut(), 1).is_pending());
    let known = home.table("t");
    let mut writer = begin(&home, Isolation::RepeatableRead);
    assert_eq!(rows(&mut writer, &known).len(), 600);
    assert!(drive(build.as_mut(), 1).is_pending());
    assert!(set(&mut writer, &known, 300, 3) && delete(&mut writer, &known, 301));
    insert(&mut writer, &known, 900, 3010);
    writer.commit("").unwrap().unwrap();
    // One that began before the last commit sees by its catalog that the index is not complete.
    let reader = begin(&home, Isolation::RepeatableRead);
    finish(build.as_mut()).unwrap();
    drop(build);
    assert!(home.table("t").indexes[0].is_ready());
    assert!(!reader.catalog().table("t").unwrap().indexes[0].is_ready());
    drop((reader, session, known, table));
    check_restarts(&mut home);
}

#[test]
fn two_rows_with_one_key_leave_an_index_that_nobody_minds_and_that_can_be_dropped() {
    let mut home = Home::new();
    let table = filled(&home, 5);
    change(&home, |txn, table| assert!(set(txn, table, 4, 10)));
    let mut session = home.session();
    let refused = finish(pin!(session.create_index_online(&table, index("i", true)))).unwrap_err();
    assert!(matches!(refused, Error::UniqueViolation { .. }), "{refused}");
    drop((session, table));
    for restarts in 0..3 {
        let table = home.table("t");
        assert!(!table.indexes[0].def.valid && !table.indexes[0].is_ready());
        change(&home, |txn, table| {
            insert(txn, table, 10 + restarts, 10);
            assert!(set(txn, table, 0, i64::from(restarts)));
        });
        drop(table);
        home.restart_at_once();
    }
    let table = home.table("t");
    let mut txn = begin(&home, Isolation::ReadCommitted);
    block_on(txn.drop_index(&table, "i")).unwrap();
    txn.commit("").unwrap().unwrap();
    let table = home.table("t");
    let mut session = home.session();
    finish(pin!(session.create_index_online(&table, index("i", false)))).unwrap();
    drop((session, table));
    check_restarts(&mut home);
}

#[test]
fn a_key_that_somebody_is_about_to_insert_decides_when_that_is_decided() {
    for commits in [true, false] {
        let mut home = Home::new();
        let table = filled(&home, 5);
        let mut old = begin(&home, Isolation::ReadCommitted);
        assert!(set(&mut old, &table, 0, 0));
        let mut session = home.session();
        let mut build = Box::pin(session.create_index_online(&table, index("i", true)));
        assert!(drive(build.as_mut(), ALL).is_pending());
        // The row that has the key is not in the index yet.
        let known = home.table("t");
        let mut writer = begin(&home, Isolation::ReadCommitted);
        insert(&mut writer, &known, 9, 30);
        old.rollback();
        assert!(drive(build.as_mut(), ALL).is_pending());
        match commits {
            true => drop(writer.commit("").unwrap()),
            false => writer.rollback(),
        }
        let made = finish(build.as_mut());
        assert_eq!(made.is_err(), commits);
        drop(build);
        drop((session, table, known));
        if !commits {
            check_restarts(&mut home);
        }
    }
}

#[test]
fn what_was_given_up_or_cut_short_by_the_end_is_not_valid() {
    for checkpointed in [true, false] {
        let mut home = Home::new();
        let table = filled(&home, 1_000);
        let mut session = home.session();
        let mut build = Box::pin(session.create_index_online(&table, index("i", true)));
        assert!(drive(build.as_mut(), 2).is_pending());
        let known = home.table("t");
        change(&home, |txn, table| {
            assert!(set(txn, table, 1, 1) && delete(txn, table, 999));
        });
        if checkpointed {
            home.checkpoint();
        }
        drop(build);
        // Nobody maintains it any more, or is in the way of who defines something.
        change(&home, |txn, table| {
            assert!(delete(txn, table, 1) && set(txn, table, 2, 1));
        });
        let mut txn = begin(&home, Isolation::ReadCommitted);
        assert!(pin!(txn.drop_index(&known, "i")).poll(&mut noop()).is_ready());
        txn.rollback();
        drop((session, table, known));
        home.restart_at_once();
        let table = home.table("t");
        assert!(!table.indexes[0].def.valid && !table.indexes[0].is_ready());
        change(&home, |txn, table| assert!(set(txn, table, 3, 1)));
        let mut txn = begin(&home, Isolation::ReadCommitted);
        block_on(txn.drop_index(&table, "i")).unwrap();
        txn.commit("").unwrap().unwrap();
    }
}

fn noop() -> std::task::Context<'static> {
    std::task::Context::from_waker(std::task::Waker::noop())
}

#[test]
fn one_is_built_at_a_time_and_other_definitions_wait() {
    let home = Home::new();
    let table = filled(&home, 600);
    let (mut one, mut other) = (home.session(), home.session());
    let mut build = Box::pin(one.create_index_online(&table, index("i", false)));
    assert!(drive(build.as_mut(), 1).is_pending());
    let known = home.table("t");
    let mut second = Box::pin(other.create_index_online(&known, index("j", false)));
    assert!(drive(second.as_mut(), 1).is_pending());
    let mut txn = begin(&home, Isolation::ReadCommitted);
    let mut truncation = Box::pin(txn.truncate(&known));
    assert!(poll_once(truncation.as_mut()).is_pending());
    finish(build.as_mut()).unwrap();
    drop(build);
    // What they have resolved is not the table any more.
    assert!(matches!(finish(second.as_mut()), Err(Error::TableChanged { .. })));
    drop(second);
    assert!(matches!(block_on(truncation), Err(Error::TableChanged { .. })));
    txn.rollback();
    home.check_indexes(&home.table("t"));
}

#[test]
fn an_index_that_was_filled_among_busy_writers_has_what_its_table_has() {
    const ROWS: i32 = 1_500;
    for unique in [true, false] {
        let mut home = Home::new();
        let table = filled(&home, ROWS);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let (home, stop) = (&home, &stop);
                scope.spawn(move || {
                    let mut session = home.session();
                    let mut number = thread + 1;
                    while !stop.load(Ordering::Relaxed) {
                        // Each thread has rows of its own, and values that no other has.
                        number = number
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let id = (number >> 33) as i32 % ROWS / 3 * 3 + thread as i32;
                        let value = 1_000_000 + (number >> 20) as i64 / 3 * 3 + thread as i64;
                        let isolation = match number >> 60 & 1 {
                            0 => Isolation::ReadCommitted,
                            _ => Isolation::RepeatableRead,
                        };
                        let mut txn = session.begin(isolation);
                        txn.statement();
                        let table = Arc::clone(txn.catalog().table("t").unwrap());
                        if write(&mut txn, &table, id, value, number >> 50 & 3).is_err() {
                            continue;
                        }
                        match number >> 55 & 7 {
                            0 => txn.rollback(),
                            _ => drop(txn.commit("").unwrap()),
                        }
                    }
                });
            }
            let built = block_on(home.session().create_index_online(&table, index("i", unique)));
            stop.store(true, Ordering::Relaxed);
            built.unwrap();
        });
        drop(table);
        check_restarts(&mut home);
    }
}

/// Changes one row in one of four ways.
fn write(txn: &mut Txn, table: &Table, id: i32, value: i64, kind: u64) -> Result<(), Error> {
    let found = block_on(txn.lock(table, &key(id)))?;
    match (found, kind) {
        (None, _) => drop(try_insert(txn, table, id, value)?),
        (Some(_), 0) => block_on(txn.delete(table, &key(id)))?,
        (Some(_), 1) => {
            block_on(txn.delete(table, &key(id)))?;
            try_insert(txn, table, id, value)?;
        }
        (Some(_), _) => block_on(txn.update(table, &key(id), row(table, id, value)))?,
    }
    Ok(())
}
