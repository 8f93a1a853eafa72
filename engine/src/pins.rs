//! Pins: LSNs whose state stays readable for long, beside the snapshots that sessions hold.
//!
//! A session's snapshot is short and keeps every version since. A pin may live for weeks, so it keeps of each row only
//! the one version that its LSN sees. Whoever puts a version onto a row's chain asks `Pins::list` which those are; with
//! no pin at all, that is one load.
//!
//! A pin is made for the LSN of a commit, inside that commit's critical section, so nothing that it needs is gone yet:
//! a version leaves a chain only when a newer one has been superseded in turn.

use parking_lot::Mutex;
use scry_wal::Lsn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// All the pins there are.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    count: AtomicUsize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_lsn: BTreeMap<Lsn, usize>,
    /// The same LSNs, ascending, to be handed out.
    list: Arc<[Lsn]>,
}

/// Holds one LSN until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) at: Lsn,
    pins: Arc<Pins>,
}

impl Pins {
    pub(crate) fn pin(self: &Arc<Self>, at: Lsn) -> Arc<Pin> {
        let mut held = self.held.lock();
        *held.by_lsn.entry(at).or_default() += 1;
        self.changed(&mut held);
        drop(held);
        Arc::new(Pin {
            at,
            pins: Arc::clone(self),
        })
    }

    /// The pinned LSNs, ascending; `None` when there are none.
    pub(crate) fn list(&self) -> Option<Arc<[Lsn]>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(Arc::clone(&self.held.lock().list)).filter(|list| !list.is_empty())
    }

    fn changed(&self, held: &mut Held) {
        held.list = held.by_lsn.keys().copied().collect();
        self.count.store(held.by_lsn.len(), Ordering::Release);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.held.lock();
        if let Some(count) = held.by_lsn.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                held.by_lsn.remove(&self.at);
                self.pins.changed(&mut held);
            }
        }
    }
}

/// Whether one of `pins`, ascending, sees a version that began at `from` and ended at `until`.
pub(crate) fn any_sees(pins: &[Lsn], from: Lsn, until: Lsn) -> bool {
    let first = pins.partition_point(|pin| *pin < from);
    pins.get(first).is_some_and(|pin| *pin < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_listed_until_its_last_holder_lets_go() {
        let pins = Arc::new(Pins::default());
        assert_eq!(pins.list(), None);
        let late = pins.pin(Lsn::new(30));
        let early = pins.pin(Lsn::new(10));
        let again = pins.pin(Lsn::new(10));
        assert_eq!(pins.list().as_deref(), Some(&[Lsn::new(10), Lsn::new(30)][..]));
        drop(early);
        assert_eq!(pins.list().map(|list| list.len()), Some(2));
        drop(again);
        assert_eq!(pins.list().as_deref(), Some(&[Lsn::new(30)][..]));
        drop(late);
        assert_eq!(pins.list(), None);
    }

    #[test]
    fn a_version_is_seen_from_its_commit_until_the_next() {
        let pins = [Lsn::new(10), Lsn::new(30)];
        let sees = |from, until| any_sees(&pins, Lsn::new(from), Lsn::new(until));
        assert!(sees(10, 11) && sees(5, 11) && sees(30, 90));
        assert!(!sees(5, 10) && !sees(11, 30) && !sees(31, 90));
    }
}
