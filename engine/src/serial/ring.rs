//! What recent commits have written, in the log's order.

use super::{Spans, WRITE_SPANS_MAX};
use parking_lot::Mutex;
use scry_wal::{Lsn, StoreId};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ranges that the ring remembers: beyond, the oldest commits are forgotten, and a transaction whose snapshot is older
/// cannot commit any more. A range of short keys takes about 100 bytes.
const RING_SPANS_MAX: usize = 1 << 19;

/// How many commits one look at the ring takes out of it: commits wait for the ring's lock inside of their critical section.
const LOOK_MAX: usize = 512;

/// How many commits that nobody needs any more one commit frees.
const FORGET_MAX: usize = 8;

/// What one commit wrote.
#[derive(Default)]
pub(crate) struct WriteSet {
    pub(super) stores: SmallVec<[(StoreId, Spans); 2]>,
}

impl WriteSet {
    pub(super) fn of(&mut self, store: StoreId) -> &mut Spans {
        let index = match self.stores.iter().position(|(known, _)| *known == store) {
            Some(index) => index,
            None => {
                self.stores.push((store, Spans::new(WRITE_SPANS_MAX)));
                self.stores.len() - 1
            }
        };
        &mut self.stores[index].1
    }

    pub(super) fn settle(&mut self) {
        for (_, spans) in &mut self.stores {
            spans.settle();
        }
    }

    fn spans(&self) -> usize {
        self.stores.iter().map(|(_, spans)| spans.len()).sum()
    }
}

struct Entry {
    lsn: Lsn,
    written: Arc<WriteSet>,
}

#[derive(Default)]
struct Ring {
    commits: VecDeque<Entry>,
    spans: usize,
    /// The newest commit that was forgotten although somebody may need it.
    lost: Lsn,
}

/// The ring, and how many transactions want it filled.
#[derive(Default)]
pub(crate) struct Serial {
    watching: AtomicUsize,
    ring: Mutex<Ring>,
}

/// The commits after an LSN, or some of them.
pub(crate) enum Since {
    /// All there are up to this LSN.
    All(Vec<Arc<WriteSet>>, Lsn),
    /// There are more after this LSN.
    Some(Vec<Arc<WriteSet>>, Lsn),
    /// Some of them were forgotten.
    Lost,
}

impl Serial {
    /// To be called before the snapshot is taken from which on commits are to be in the ring.
    pub(crate) fn watch(self: &Arc<Self>) -> Watch {
        self.watching.fetch_add(1, Ordering::SeqCst);
        Watch {
            serial: Arc::clone(self),
        }
    }

    /// Whether a commit has to leave what it wrote. Decisive after the commit was published.
    pub(crate) fn is_watched(&self) -> bool {
        self.watching.load(Ordering::SeqCst) != 0
    }

    /// A commit was published. Only inside of the critical section. No snapshot is older than `horizon`.
    pub(crate) fn record(&self, lsn: Lsn, written: WriteSet, horizon: Lsn) {
        self.record_within(lsn, written, horizon, RING_SPANS_MAX);
    }

    fn record_within(&self, lsn: Lsn, written: WriteSet, horizon: Lsn, spans_max: usize) {
        let mut ring = self.ring.lock();
        assert!(
            ring.commits.back().is_none_or(|last| last.lsn < lsn),
            "commits enter the ring in the order of their LSNs"
        );
        for _ in 0..FORGET_MAX {
            match ring.commits.front() {
                Some(first) if first.lsn <= horizon => ring.forget_first(),
                _ => break,
            }
        }
        ring.spans += written.spans();
        let written = Arc::new(written);
        ring.commits.push_back(Entry { lsn, written });
        while ring.spans > spans_max
            && let Some(first) = ring.commits.front()
        {
            ring.lost = first.lsn;
            ring.forget_first();
        }
    }

    /// What was written by commits after `after`.
    pub(crate) fn since(&self, after: Lsn) -> Since {
        let ring = self.ring.lock();
        if ring.lost > after {
            return Since::Lost;
        }
        let first = ring.commits.partition_point(|entry| entry.lsn <= after);
        let some = ring.commits.range(first..).take(LOOK_MAX);
        let written: Vec<_> = some.map(|entry| Arc::clone(&entry.written)).collect();
        let upto = match written.len() {
            0 => after,
            count => ring.commits[first + count - 1].lsn,
        };
        match first + written.len() == ring.commits.len() {
            true => Since::All(written, upto),
            false => Since::Some(written, upto),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.ring.lock().commits.len()
    }
}

impl Ring {
    fn forget_first(&mut self) {
        if let Some(first) = self.commits.pop_front() {
            self.spans -= first.written.spans();
        }
    }
}

/// An open serializable transaction.
pub(crate) struct Watch {
    serial: Arc<Serial>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.serial.watching.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        // Whoever begins to watch from here on takes a snapshot that sees all that is in the ring.
        let mut ring = self.serial.ring.lock();
        if !self.serial.is_watched() {
            let forgotten = std::mem::take(&mut *ring);
            drop(ring);
            drop(forgotten);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(store: u32, keys: &[u8]) -> WriteSet {
        let mut set = WriteSet::default();
        for key in keys {
            set.of(StoreId::new(store)).add_key(&[*key]);
        }
        set.settle();
        set
    }

    fn count(serial: &Serial, after: u64) -> Option<(usize, u64)> {
        match serial.since(Lsn::new(after)) {
            Since::All(written, upto) | Since::Some(written, upto) => Some((written.len(), upto.get())),
            Since::Lost => None,
        }
    }

    #[test]
    fn commits_stay_while_a_snapshot_does_not_see_them_and_a_watch_is_open() {
        let serial = Arc::new(Serial::default());
        assert!(!serial.is_watched());
        let (first, second) = (serial.watch(), serial.watch());
        for lsn in [10, 20, 30] {
            serial.record(Lsn::new(lsn), wrote(1, &[1]), Lsn::new(5));
        }
        assert_eq!(count(&serial, 10), Some((2, 30)));
        assert_eq!(count(&serial, 30), Some((0, 30)));
        serial.record(Lsn::new(40), wrote(1, &[1]), Lsn::new(20));
        assert_eq!(
            count(&serial, 20),
            Some((2, 40)),
            "10 and 20 are out of everybody's sight"
        );
        assert_eq!(serial.len(), 2);
        drop(first);
        assert_eq!(serial.len(), 2);
        drop(second);
        assert_eq!(serial.len(), 0);
        assert!(!serial.is_watched());
    }

    #[test]
    fn a_ring_that_is_full_forgets_the_oldest_and_says_so_to_whoever_needs_it() {
        let serial = Arc::new(Serial::default());
        let _watch = serial.watch();
        for lsn in 1..=10 {
            serial.record_within(Lsn::new(lsn), wrote(1, &[1, 3, 5]), Lsn::ZERO, 12);
        }
        assert_eq!(serial.len(), 4);
        assert_eq!(count(&serial, 5), None);
        assert_eq!(count(&serial, 6), Some((4, 10)));
    }

    #[test]
    fn a_long_list_is_handed_out_in_parts() {
        let serial = Arc::new(Serial::default());
        let _watch = serial.watch();
        let many = LOOK_MAX as u64 + 7;
        for lsn in 1..=many {
            serial.record(Lsn::new(lsn), wrote(1, &[1]), Lsn::ZERO);
        }
        assert!(
            matches!(serial.since(Lsn::ZERO), Since::Some(list, upto) if list.len() == LOOK_MAX && upto.get() == LOOK_MAX as u64)
        );
        assert!(matches!(serial.since(Lsn::new(LOOK_MAX as u64)), Since::All(list, _) if list.len() == 7));
    }
}
