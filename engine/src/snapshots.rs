//! The visible LSN, who reads at which snapshot, and the horizon behind which versions may go.
//!
//! Every session owns a *slot* that holds the LSN of its current snapshot. Taking a snapshot is a store to the slot
//! and a few loads. The *readers' horizon* is the least LSN that any slot holds; the *horizon* stays behind it as long as history is kept
//! (`history`): at the *floor*. Both only rise. Whoever reads the past holds an LSN between the horizon and the present.
//!
//! The danger is a session that has read the visible LSN but not yet filled its slot while the horizon moves
//! past. So the horizon moves in two steps: first the LSN that it wants to reach is *announced*, then the slots are
//! searched. A session fills its slot first and looks at the announcement second, and begins again if it is beyond its
//! snapshot. All of these accesses are sequentially consistent, so either the search sees the slot or the session
//! sees the announcement. The two horizons have an announcement each: new snapshots look at the readers', those of the past at the other.

use parking_lot::Mutex;
use scry_wal::Lsn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A slot that holds no snapshot.
const IDLE: u64 = u64::MAX;

/// Aligned to two cache lines, so that sessions do not disturb each other.
#[repr(align(128))]
#[derive(Default)]
struct Padded(AtomicU64);

/// The place of one session's snapshot. Dropped with its last holder.
pub(crate) struct Slot {
    at: Padded,
    /// Whether the snapshot is one of the past.
    is_past: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Snapshots {
    visible: Padded,
    /// Where the readers' horizon wants to go, and where it is.
    announced: Padded,
    readers: Padded,
    /// Behind it nothing is kept for the sake of history.
    floor: Padded,
    /// Where the horizon wants to go, and where it is.
    past_announced: Padded,
    horizon: Padded,
    slots: Mutex<Vec<Arc<Slot>>>,
}

impl Snapshots {
    /// Everything up to `visible` may be seen, and of the past what is at or after `floor`; for the start.
    pub(crate) fn new(visible: Lsn, floor: Lsn) -> Snapshots {
        let snapshots = Snapshots::default();
        for padded in [&snapshots.visible, &snapshots.announced, &snapshots.readers] {
            padded.0.store(visible.get(), Ordering::SeqCst);
        }
        snapshots.floor.0.store(floor.get(), Ordering::SeqCst);
        for padded in [&snapshots.past_announced, &snapshots.horizon] {
            padded.0.store(visible.min(floor).get(), Ordering::SeqCst);
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
            is_past: AtomicBool::new(false),
        });
        let mut slots = self.slots.lock();
        // Slots that only this list still knows belong to nobody. Looked for when the list would grow.
        if slots.len() == slots.capacity() {
            slots.retain(|slot| Arc::strong_count(slot) > 1);
        }
        slots.push(Arc::clone(&slot));
        slot
    }

    /// A slot of its own for a snapshot that somebody else holds until this returns.
    pub(crate) fn register_at(&self, at: Lsn) -> Arc<Slot> {
        let slot = self.register();
        self.share(&slot, at);
        slot
    }

    /// Takes a snapshot of what is visible now.
    pub(crate) fn take(&self, slot: &Slot) -> Lsn {
        slot.is_past.store(false, Ordering::SeqCst);
        loop {
            let at = self.visible.0.load(Ordering::SeqCst);
            slot.at.0.store(at, Ordering::SeqCst);
            if self.announced.0.load(Ordering::SeqCst) <= at {
                return Lsn::new(at);
            }
        }
    }

    /// Takes a snapshot of the past. False when that is behind the horizon, or about to be.
    pub(crate) fn hold(&self, slot: &Slot, at: Lsn) -> bool {
        slot.is_past.store(true, Ordering::SeqCst);
        slot.at.0.store(at.get(), Ordering::SeqCst);
        let is_kept = self.past_announced.0.load(Ordering::SeqCst) <= at.get();
        if !is_kept {
            slot.release();
        }
        is_kept
    }

    /// History is kept from `floor` on; it never falls.
    pub(crate) fn keep_from(&self, floor: Lsn) {
        self.floor.0.fetch_max(floor.get(), Ordering::SeqCst);
    }

    /// Holds `at` in a second slot, while a first slot holds it or something older.
    pub(crate) fn share(&self, slot: &Slot, at: Lsn) {
        slot.at.0.store(at.get(), Ordering::SeqCst);
    }

    /// No snapshot older than this is held, and none will be taken; as of the last `advance`.
    pub(crate) fn horizon(&self) -> Lsn {
        Lsn::new(self.horizon.0.load(Ordering::Relaxed))
    }

    /// The same of the snapshots of the present alone.
    pub(crate) fn readers(&self) -> Lsn {
        Lsn::new(self.readers.0.load(Ordering::Relaxed))
    }

    /// Moves the horizons as far as the slots allow. Skipped when another thread is at it.
    pub(crate) fn advance(&self) -> Lsn {
        let Some(mut slots) = self.slots.try_lock() else {
            return self.horizon();
        };
        let goal = self.visible.0.load(Ordering::SeqCst);
        let floor = goal.min(self.floor.0.load(Ordering::SeqCst));
        self.announced.0.store(goal, Ordering::SeqCst);
        self.past_announced.0.fetch_max(floor, Ordering::SeqCst);
        let (mut least, mut least_present) = (goal, goal);
        slots.retain(|slot| {
            let held = Arc::strong_count(slot) > 1;
            if held {
                let at = slot.at.0.load(Ordering::SeqCst);
                least = least.min(at);
                if !slot.is_past.load(Ordering::SeqCst) {
                    least_present = least_present.min(at);
                }
            }
            held
        });
        // A session that is about to see the announcement may still show a snapshot that it will not use.
        self.readers.0.fetch_max(least_present, Ordering::SeqCst);
        let kept = least.min(floor);
        let before = self.horizon.0.fetch_max(kept, Ordering::SeqCst);
        Lsn::new(kept.max(before))
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
        let snapshots = Snapshots::new(Lsn::new(10), Lsn::MAX);
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
    fn history_holds_the_horizon_back_and_the_past_can_be_held_as_far_as_it_is_kept() {
        let snapshots = Snapshots::new(Lsn::new(10), Lsn::new(5));
        snapshots.publish(Lsn::new(40));
        let (present, past) = (snapshots.register(), snapshots.register());
        assert_eq!(snapshots.take(&present), Lsn::new(40));
        assert_eq!(
            (snapshots.advance(), snapshots.readers()),
            (Lsn::new(5), Lsn::new(40))
        );
        assert!(!snapshots.hold(&past, Lsn::new(4)), "behind the horizon");
        assert!(snapshots.hold(&past, Lsn::new(7)));
        snapshots.keep_from(Lsn::new(30));
        assert_eq!(snapshots.advance(), Lsn::new(7), "it is held");
        snapshots.publish(Lsn::new(50));
        assert_eq!(snapshots.take(&present), Lsn::new(50));
        assert_eq!(
            (snapshots.advance(), snapshots.readers()),
            (Lsn::new(7), Lsn::new(50)),
            "readers of the present do not wait for those of the past"
        );
        assert!(!snapshots.hold(&present, Lsn::new(8)), "it is about to go");
        past.release();
        snapshots.keep_from(Lsn::new(20));
        assert_eq!(snapshots.advance(), Lsn::new(30), "the floor does not fall");
    }

    #[test]
    fn no_snapshot_is_ever_behind_the_horizon() {
        let snapshots = Snapshots::new(Lsn::new(1), Lsn::MAX);
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
