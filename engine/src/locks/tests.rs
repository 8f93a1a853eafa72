use super::*;
use crate::error::Error;
use crate::key::Key;
use crate::store::Store;
use crate::store::backing::bare_home;
use crate::store::entry::RowEntry;
use scry_wal::{Lsn, Ordinal, StoreId, TxnId};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn holder(id: u64) -> Arc<Holder> {
    Arc::new(Holder::new(TxnId::new(id)))
}

/// A row that exists, in a store of its own.
fn row() -> RowRef {
    let store = Arc::new(Store::new(bare_home(), StoreId::new(1)));
    let key = Key::from_bytes(&[1]);
    let entry = Arc::new(RowEntry::committed(
        Lsn::new(1),
        Ordinal::new(0),
        Some(vec![0, 1].into()),
    ));
    store.rows.get_or_insert_with(&key, || Arc::clone(&entry));
    RowRef { store, key, entry }
}

fn ask_row<'a>(table: &'a WaitTable, holder: &Arc<Holder>, row: &RowRef) -> Result<Outcome<'a>, Error> {
    table.request(
        holder,
        Request::Row {
            row: row.clone(),
            slot: 0,
        },
    )
}

fn ask_table<'a>(
    table: &'a WaitTable,
    holder: &Arc<Holder>,
    lock: &Arc<TableLock>,
    mode: Mode,
) -> Result<Outcome<'a>, Error> {
    match lock.try_lock(holder, mode) {
        true => Ok(Outcome::Granted),
        false => table.request(
            holder,
            Request::Table {
                lock: Arc::clone(lock),
                mode,
            },
        ),
    }
}

fn waits(outcome: Result<Outcome<'_>, Error>) -> impl Future<Output = ()> + Unpin {
    match outcome {
        Ok(Outcome::Wait(wait)) => wait,
        Ok(_) => panic!("expected to wait"),
        Err(error) => panic!("expected to wait, not {error}"),
    }
}

fn granted(outcome: Result<Outcome<'_>, Error>) {
    assert!(matches!(outcome, Ok(Outcome::Granted)), "expected the lock");
}

fn is_ready(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
}

#[test]
fn a_row_lock_is_handed_over_in_the_order_of_asking_and_wakes_only_the_next() {
    let (table, row) = (WaitTable::new(10), row());
    let [a, b, c] = [1, 2, 3].map(holder);
    granted(ask_row(&table, &a, &row));
    let (mut wait_b, mut wait_c) = (waits(ask_row(&table, &b, &row)), waits(ask_row(&table, &c, &row)));
    let wakes = [(); 2].map(|()| Arc::new(CountWakes(AtomicUsize::new(0))));
    let [waker_b, waker_c] = wakes.clone().map(Waker::from);
    assert!(
        pin!(&mut wait_b)
            .poll(&mut Context::from_waker(&waker_b))
            .is_pending()
    );
    assert!(
        pin!(&mut wait_c)
            .poll(&mut Context::from_waker(&waker_c))
            .is_pending()
    );

    table.release_row(&row);
    assert_eq!(
        wakes.each_ref().map(|wakes| wakes.0.load(Ordering::SeqCst)),
        [1, 0]
    );
    assert!(is_ready(&mut wait_b) && !is_ready(&mut wait_c));
    assert!(
        row.entry.lock().slot_of(&b).is_some(),
        "b owns the row before it woke"
    );
    table.release_row(&row);
    assert!(is_ready(&mut wait_c));
    table.release_row(&row);
    assert!(row.entry.lock().owner().is_none());
    assert_eq!(table.waiters(), 0);
}

#[test]
fn a_dropped_wait_leaves_the_queue_and_a_granted_one_passes_on() {
    let (table, row) = (WaitTable::new(10), row());
    let [a, b, c, d] = [1, 2, 3, 4].map(holder);
    granted(ask_row(&table, &a, &row));
    let wait_b = waits(ask_row(&table, &b, &row));
    let wait_c = waits(ask_row(&table, &c, &row));
    let mut wait_d = waits(ask_row(&table, &d, &row));
    drop(wait_b);
    assert_eq!(table.waiters(), 2);
    table.release_row(&row);
    assert!(row.entry.lock().slot_of(&c).is_some());
    drop(wait_c);
    assert!(is_ready(&mut wait_d), "c never took the lock that it was given");
    table.release_row(&row);
    assert!(row.entry.lock().owner().is_none());
}

#[test]
fn a_row_of_which_nothing_is_left_dies_only_when_nobody_waits_for_it() {
    let (table, place) = (WaitTable::new(10), row());
    let [a, b] = [1, 2].map(holder);
    let key = Key::from_bytes(&[2]);
    let entry = Arc::new(RowEntry::locked(Arc::clone(&a), 0));
    place.store.rows.get_or_insert_with(&key, || Arc::clone(&entry));
    let row = RowRef {
        store: Arc::clone(&place.store),
        key,
        entry,
    };
    let mut wait_b = waits(ask_row(&table, &b, &row));
    table.release_row(&row);
    assert!(is_ready(&mut wait_b));
    assert!(!row.entry.lock().is_dead());
    table.release_row(&row);
    assert!(row.entry.lock().is_dead());
    assert!(row.store.rows.get(&row.key).is_none());
    assert!(matches!(ask_row(&table, &a, &row), Ok(Outcome::Gone)));
}

#[test]
fn a_wait_that_would_close_a_circle_is_refused_and_leaves_no_trace() {
    let (table, rows) = (WaitTable::new(10), [row(), row(), row()]);
    let holders = [1, 2, 3].map(holder);
    for (holder, row) in holders.iter().zip(&rows) {
        granted(ask_row(&table, holder, row));
    }
    let mut wait_0 = waits(ask_row(&table, &holders[0], &rows[1]));
    let mut wait_1 = waits(ask_row(&table, &holders[1], &rows[2]));
    assert!(matches!(
        ask_row(&table, &holders[2], &rows[0]),
        Err(Error::Deadlock { .. })
    ));
    assert_eq!(table.waiters(), 2);
    // The victim gives up; the others go on.
    table.release_row(&rows[2]);
    assert!(is_ready(&mut wait_1) && !is_ready(&mut wait_0));
    table.release_row(&rows[1]);
    assert!(is_ready(&mut wait_0));
}

#[test]
fn a_circle_through_a_queue_and_a_table_is_found() {
    let (table, row, lock) = (WaitTable::new(10), row(), Arc::new(TableLock::default()));
    let [writer, alterer, late] = [1, 2, 3].map(holder);
    granted(ask_table(&table, &writer, &lock, Mode::Shared));
    granted(ask_row(&table, &late, &row));
    let mut altering = waits(ask_table(&table, &alterer, &lock, Mode::Exclusive));
    let mut writing = waits(ask_row(&table, &writer, &row));
    // `late` would queue behind `alterer`, which waits for `writer`, which waits for `late`.
    assert!(matches!(
        ask_table(&table, &late, &lock, Mode::Shared),
        Err(Error::Deadlock { .. })
    ));
    table.release_row(&row);
    assert!(is_ready(&mut writing));
    assert!(!is_ready(&mut altering));
    table.release_table(&lock, &writer);
    assert!(is_ready(&mut altering));
}

#[test]
fn nobody_overtakes_an_exclusive_waiter_and_shared_waiters_go_together() {
    let (table, lock) = (WaitTable::new(10), Arc::new(TableLock::default()));
    let [a, b, c, d] = [1, 2, 3, 4].map(holder);
    granted(ask_table(&table, &a, &lock, Mode::Shared));
    let mut exclusive = waits(ask_table(&table, &b, &lock, Mode::Exclusive));
    let mut shared = [&c, &d].map(|holder| waits(ask_table(&table, holder, &lock, Mode::Shared)));
    table.release_table(&lock, &a);
    assert!(is_ready(&mut exclusive) && shared.iter_mut().all(|wait| !is_ready(wait)));
    table.release_table(&lock, &b);
    assert!(shared.iter_mut().all(is_ready));

    // An exclusive waiter that gives up lets those behind it go.
    let mut exclusive = waits(ask_table(&table, &b, &lock, Mode::Exclusive));
    let mut behind = waits(ask_table(&table, &a, &lock, Mode::Shared));
    assert!(!is_ready(&mut exclusive) && !is_ready(&mut behind));
    drop(exclusive);
    assert!(is_ready(&mut behind));
}

#[test]
fn an_upgrade_goes_first_and_two_upgrades_are_a_deadlock() {
    let (table, lock) = (WaitTable::new(10), Arc::new(TableLock::default()));
    let [a, b, c] = [1, 2, 3].map(holder);
    granted(ask_table(&table, &a, &lock, Mode::Shared));
    granted(ask_table(&table, &b, &lock, Mode::Shared));
    let mut other = waits(ask_table(&table, &c, &lock, Mode::Exclusive));
    let mut upgrade = waits(ask_table(&table, &a, &lock, Mode::Exclusive));
    assert!(matches!(
        ask_table(&table, &b, &lock, Mode::Exclusive),
        Err(Error::Deadlock { .. })
    ));
    table.release_table(&lock, &b);
    assert!(is_ready(&mut upgrade) && !is_ready(&mut other));
    table.release_table(&lock, &a);
    assert!(is_ready(&mut other));
}

#[test]
fn an_upgrade_that_is_cancelled_after_it_was_granted_leaves_the_shared_lock() {
    let (table, lock) = (WaitTable::new(10), Arc::new(TableLock::default()));
    let [writer, other, alterer, reader] = [1, 2, 3, 4].map(holder);
    granted(ask_table(&table, &writer, &lock, Mode::Shared));
    granted(ask_table(&table, &other, &lock, Mode::Shared));
    let upgrade = waits(ask_table(&table, &writer, &lock, Mode::Exclusive));
    let mut altering = waits(ask_table(&table, &alterer, &lock, Mode::Exclusive));
    table.release_table(&lock, &other);
    // It has the lock exclusively now, and never hears of it.
    drop(upgrade);
    assert!(!is_ready(&mut altering), "the writer still has rows in the table");
    drop(altering);
    granted(ask_table(&table, &reader, &lock, Mode::Shared));
    let mut altering = waits(ask_table(&table, &alterer, &lock, Mode::Exclusive));
    table.release_table(&lock, &reader);
    table.release_table(&lock, &writer);
    assert!(is_ready(&mut altering));
}

#[test]
fn the_number_of_waiters_is_bounded() {
    let (table, row) = (WaitTable::new(1), row());
    let [a, b, c] = [1, 2, 3].map(holder);
    granted(ask_row(&table, &a, &row));
    let wait_b = waits(ask_row(&table, &b, &row));
    assert!(matches!(
        ask_row(&table, &c, &row),
        Err(Error::TooManyWaiters { limit: 1 })
    ));
    drop(wait_b);
    table.release_row(&row);
    assert!(row.entry.lock().owner().is_none());
}
