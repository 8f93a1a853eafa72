//! The visible LSN, who reads at which snapshot, and the horizon behind which versions may go.
//!
//! Every session owns a *slot* that holds the LSN of its current snapshot. Taking a snapshot is a store to the slot
//! and a few loads. The horizon is the least LSN that any slot holds; it only rises.
//!
//! The danger is a session that has read the visible LSN but not yet filled its slot while the horizon moves
//! past. So the horizon moves in two steps: first the LSN that it wants to reach is *announced*, then the slots are
//! searched. A session fills its slot first and looks at the announcement second, and begins again if it is beyond its
//! snapshot. All of these accesses are sequentially consistent, so either the search sees the slot or the session
//! sees the announcement.

use parking_lot::Mutex;
use scry_wal::Lsn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A slot that holds no snapshot.
const IDLE: u64 = u64::MAX;

/// Aligned to two cache lines, so that sessions do not disturb each other.
#[repr(align(128))]
#[derive(Default)]
struct Padded(AtomicU64);

/// The place of one session's snapshot. Dropped with its last holder.
pub(crate) struct Slot {
    at: Padded,
}

#[derive(Default)]
pub(crate) struct Snapshots {
    visible: Padded,
    announced: Padded,
    horizon: Padded,
    slots: Mutex<Vec<Arc<Slot>>>,
}

impl Snapshots {
    /// Everything up to `visible` may be seen; for the start.
    pub(crate) fn new(visible: Lsn) -> Snapshots {
        let snapshots = Snapshots::default();
        for padded in [&snapshots.visible, &snapshots.announced, &snapshots.horizon] {
            padded.0.store(visible.get(), Ordering::SeqCst);
        }
        snapshots
    }

    pub(crate) fn visible(&self) -> Lsn {
        Lsn::new(self.visible.0.load(Ordering::SeqCst))
    }

    /// A commit becomes visible. Only inside the commit's critical section, hence in rising order.
    pub(crate) fn publish(&self, lsn: Lsn) {
        debug_assert!(lsn.get() > self.visible.0.load(Ordering::Relaxed));
        self.visible.0.store(lsn.get(), Ordering::SeqCst);
    }

    /// A slot for a session or a cursor.
    pub(crate) fn register(&self) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            at: Padded(AtomicU64::new(IDLE)),
        });
        let mut slots = self.slots.lock();
        // Slots that only this list still knows belong to nobody. Looked for when the list would grow.
        if slots.len() == slots.capacity() {
            slots.retain(|slot| Arc::strong_count(slot) > 1);
        }
        slots.push(Arc::clone(&slot));
        slot
    }

    /// Takes a snapshot of what is visible now.
    pub(crate) fn take(&self, slot: &Slot) -> Lsn {
        loop {
            let at = self.visible.0.load(Ordering::SeqCst);
            slot.at.0.store(at, Ordering::SeqCst);
            if self.announced.0.load(Ordering::SeqCst) <= at {
                return Lsn::new(at);
            }
        }
    }

    /// Holds `at` in a second slot, while a first slot holds it or something older.
    pub(crate) fn share(&self, slot: &Slot, at: Lsn) {
        slot.at.0.store(at.get(), Ordering::SeqCst);
    }

    /// No snapshot older than this is held, and none will be taken; as of the last `advance`.
    pub(crate) fn horizon(&self) -> Lsn {
        Lsn::new(self.horizon.0.load(Ordering::Relaxed))
    }

    /// Moves the horizon as far as the slots allow. Skipped when another thread is at it.
    pub(crate) fn advance(&self) -> Lsn {
        let Some(mut slots) = self.slots.try_lock() else {
            return self.horizon();
        };
        let goal = self.visible.0.load(Ordering::SeqCst);
        self.announced.0.store(goal, Ordering::SeqCst);
        let mut least = goal;
        slots.retain(|slot| {
            let held = Arc::strong_count(slot) > 1;
            if held {
                least = least.min(slot.at.0.load(Ordering::SeqCst));
            }
            held
        });
        // A session that is about to see the announcement may still show a snapshot that it will not use.
        let before = self.horizon.0.fetch_max(least, Ordering::SeqCst);
        Lsn::new(least.max(before))
    }
}

impl Slot {
    pub(crate) fn release(&self) {
        self.at.0.store(IDLE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn the_horizon_stops_at_the_oldest_snapshot_and_goes_on_when_it_is_released() {
        let snapshots = Snapshots::new(Lsn::new(10));
        let (old, new) = (snapshots.register(), snapshots.register());
        assert_eq!(snapshots.take(&old), Lsn::new(10));
        snapshots.publish(Lsn::new(20));
        assert_eq!(snapshots.take(&new), Lsn::new(20));
        assert_eq!(snapshots.advance(), Lsn::new(10));
        old.release();
        assert_eq!(snapshots.advance(), Lsn::new(20));
        drop((old, new));
        snapshots.publish(Lsn::new(30));
        assert_eq!(snapshots.advance(), Lsn::new(30));
        assert!(
            snapshots.slots.lock().is_empty(),
            "slots of nobody were forgotten"
        );
    }

    #[test]
    fn no_snapshot_is_ever_behind_the_horizon() {
        let snapshots = Snapshots::new(Lsn::new(1));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let slot = snapshots.register();
                    for _ in 0..20_000 {
                        let at = snapshots.take(&slot);
                        assert!(snapshots.horizon() <= at);
                        slot.release();
                    }
                    stop.store(true, Ordering::Relaxed);
                });
            }
            for lsn in 2.. {
                snapshots.publish(Lsn::new(lsn));
                snapshots.advance();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
    }
}
