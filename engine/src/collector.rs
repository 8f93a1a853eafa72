//! The collector: takes out of memory what nobody can see any more, and ends in the log what nobody else could end.
//!
//! - Deleted rows: a commit reports them. They may go when the deletion lies at or before the horizon, and is
//!   durable: a reader that finds no row must not depend on a deletion that a crash would undo. Reports come nearly
//!   in LSN order, so the collector stops at the first that has to wait. There is one report for each deleted row
//!   that is still in memory: that bounds the queue. A row that a pin still sees, or that somebody has locked, is looked
//!   at again later. While history is kept, those that a checkpoint has written need not be waited for.
//! - Superseded versions: see `sweep`.
//! - Old catalogs, and with them the data of tables that were dropped or truncated.
//! - Tentative identities whose drop record found no room in the log: whoever follows the log keeps their rows until
//!   they end. The record is written as soon as there is room; until then a restart does as well.

use crate::background::Background;
use crate::catalogs::Catalogs;
use crate::history::History;
use crate::locks::RowRef;
use crate::pins::Pins;
use crate::snapshots::Snapshots;
use crate::store::entry::Burial;
use crate::sweep::Sweep;
use parking_lot::Mutex;
use scry_wal::record::encode_tentative_drop;
use scry_wal::{Log, Lsn, TentativeId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long what is out of sight may lie around on an idle server.
const INTERVAL: Duration = Duration::from_millis(100);

/// Deleted rows that were held back, looked at again in one interval.
const HELD_BACK_LOOKS: usize = 4096;

/// Drop records put into the log at once: few enough for the smallest segment.
const DROPS_AT_ONCE: usize = 256;

/// A deleted row.
pub(crate) struct Grave {
    pub(crate) lsn: Lsn,
    pub(crate) row: RowRef,
}

pub(crate) struct Collector {
    shared: Arc<Shared>,
    thread: Background,
}

struct Shared {
    snapshots: Arc<Snapshots>,
    catalogs: Arc<Catalogs>,
    log: Arc<Log>,
    pins: Arc<Pins>,
    history: Arc<History>,
    graves: Mutex<VecDeque<Grave>>,
    /// Tentative identities to be ended.
    drops: Mutex<Vec<TentativeId>>,
}

impl Collector {
    pub(crate) fn start(
        snapshots: Arc<Snapshots>,
        catalogs: Arc<Catalogs>,
        log: Arc<Log>,
        pins: Arc<Pins>,
        history: Arc<History>,
    ) -> std::io::Result<Collector> {
        let shared = Arc::new(Shared {
            snapshots,
            catalogs,
            log,
            pins,
            history,
            graves: Mutex::default(),
            drops: Mutex::default(),
        });
        let of_thread = Arc::clone(&shared);
        let mut sweep = Sweep::default();
        let mut held_back = VecDeque::new();
        let thread = Background::start("scry-collector", INTERVAL, move |_| {
            of_thread.step(&mut sweep, &mut held_back);
            false
        })?;
        Ok(Collector { shared, thread })
    }

    pub(crate) fn bury(&self, graves: Vec<Grave>) {
        self.shared.graves.lock().extend(graves);
    }

    /// Ends tentative identities that no commit will adopt: at once, or when the log has room.
    pub(crate) fn end_tentative(&self, ids: &[TentativeId]) {
        self.shared.drops.lock().extend(ids);
        self.shared.write_drops();
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.thread.stop();
    }
}

impl Shared {
    fn step(&self, sweep: &mut Sweep, held_back: &mut VecDeque<Grave>) {
        self.snapshots.keep_from(self.history.floor(self.history.now()));
        let horizon = self.snapshots.advance();
        // After the horizon: a pin that is made later lies beyond it.
        let pins = self.pins.list().unwrap_or_default();
        self.catalogs.forget(horizon);
        // A commit's LSN lies within its frame, which is durable as a whole.
        let durable = Lsn::new(self.log.durable_lsn().get().saturating_sub(1));
        self.collect(horizon.min(durable), &pins, held_back);
        sweep.step(&self.catalogs.latest().1, horizon, &pins);
        self.write_drops();
    }

    fn collect(&self, limit: Lsn, pins: &[Lsn], held_back: &mut VecDeque<Grave>) {
        let again = held_back.len().min(HELD_BACK_LOOKS);
        let again: Vec<Grave> = held_back.drain(..again).collect();
        let flushed = self.history.flushed();
        let due = std::iter::from_fn(|| {
            let mut graves = self.graves.lock();
            match graves.front() {
                Some(first) if first.lsn <= limit.max(flushed) => graves.pop_front(),
                _ => None,
            }
        });
        for grave in again.into_iter().chain(due) {
            let mut row = grave.row.entry.lock();
            let burial = match grave.lsn <= limit || row.is_below() {
                true => row.bury(limit, pins),
                false => Burial::Waits,
            };
            drop(row);
            match burial {
                Burial::Done => grave.row.store.remove(&grave.row.key, &grave.row.entry),
                Burial::Waits => held_back.push_back(grave),
                Burial::Off => {}
            }
        }
    }

    /// Writes the drop records that there are. What the log has no room for stays for the next time.
    fn write_drops(&self) {
        let mut drops = self.drops.lock();
        while !drops.is_empty() {
            let some = drops.len().min(DROPS_AT_ONCE);
            let mut records = Vec::new();
            for id in &drops[..some] {
                encode_tentative_drop(&mut records, *id);
            }
            let written = self.log.lock().and_then(|mut appender| {
                appender.reserve(records.len())?;
                appender.put(&records, some as u32, false);
                Ok(())
            });
            match written {
                Ok(()) => drop(drops.drain(..some)),
                Err(scry_wal::Error::DiskFull { .. } | scry_wal::Error::Io { .. }) => return,
                // The log has ended, and with it every identity that was open.
                Err(_) => drops.clear(),
            }
        }
    }
}
