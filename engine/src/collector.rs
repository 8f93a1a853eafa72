//! The collector: takes deleted rows out of memory once no snapshot sees them any more.
//!
//! A commit reports the rows that it deleted. They may go when the deletion lies at or before the horizon, and is
//! durable: a reader that finds no row must not depend on a deletion that a crash would undo. Reports come nearly in
//! LSN order, so the collector stops at the first that has to wait. There is one report for each deleted row that
//! is still in memory: that bounds the queue. A row that was deleted after the oldest pin waits for the pin.

use crate::locks::RowRef;
use crate::pins::Pins;
use crate::snapshots::Snapshots;
use parking_lot::{Condvar, Mutex};
use scry_wal::{Log, Lsn};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long deleted rows and old catalogs may lie around on an idle server.
const INTERVAL: Duration = Duration::from_millis(100);

/// A deleted row.
pub(crate) struct Grave {
    pub(crate) lsn: Lsn,
    pub(crate) row: RowRef,
}

pub(crate) struct Collector {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    graves: Mutex<VecDeque<Grave>>,
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Collector {
    pub(crate) fn start(
        snapshots: Arc<Snapshots>,
        log: Arc<Log>,
        pins: Arc<Pins>,
    ) -> std::io::Result<Collector> {
        let shared = Arc::new(Shared {
            graves: Mutex::default(),
            stopped: Mutex::new(false),
            wake: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let run = move || {
            let mut stopped = of_thread.stopped.lock();
            while !*stopped {
                of_thread.wake.wait_for(&mut stopped, INTERVAL);
                parking_lot::MutexGuard::unlocked(&mut stopped, || {
                    let horizon = snapshots.advance();
                    // A commit's LSN lies within its frame, which is durable as a whole.
                    let durable = Lsn::new(log.durable_lsn().get().saturating_sub(1));
                    let pinned = pins.oldest().unwrap_or(Lsn::MAX);
                    of_thread.collect(horizon.min(durable).min(pinned));
                });
            }
        };
        let thread = std::thread::Builder::new()
            .name("scry-collector".to_owned())
            .spawn(run)?;
        Ok(Collector {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn bury(&self, graves: Vec<Grave>) {
        self.shared.graves.lock().extend(graves);
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        *self.shared.stopped.lock() = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // It has nothing to say; a panic in it was already reported.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn collect(&self, limit: Lsn) {
        loop {
            let grave = {
                let mut graves = self.graves.lock();
                match graves.front() {
                    Some(first) if first.lsn <= limit => graves.pop_front(),
                    _ => None,
                }
            };
            let Some(Grave { row, .. }) = grave else { return };
            if row.entry.lock().bury(limit) {
                row.store.remove(&row.key, &row.entry);
            }
        }
    }
}
