//! Who waits for what to become durable, and what became of the log.
//!
//! Invariants:
//! - the durable position only rises;
//! - a waiter is woken after the position it waits for became durable, or after the log failed or closed; no wake-up
//!   is lost: the position is stored before the waiters are looked at, and looked at again after one is added;
//! - wakers run outside of the lock, in the order of their positions;
//! - once failed, nothing that was not durable then is ever reported durable.
//!
//! Bound: one entry per task and position that waits; the sessions above are bounded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::error::Error;

/// Why the log takes nothing more.
#[derive(Default)]
pub(crate) struct Fate {
    ended: AtomicBool,
    poison: OnceLock<Arc<str>>,
}

impl Fate {
    /// The first reason counts.
    pub(crate) fn poison(&self, reason: String) {
        let _ = self.poison.set(Arc::from(reason));
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(crate) fn poisoned(&self) -> Option<&Arc<str>> {
        self.poison.get()
    }

    /// The error for whoever wants something from now on.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.ended.load(Ordering::SeqCst) {
            return Ok(());
        }
        match self.poison.get() {
            Some(reason) => Err(Error::Poisoned {
                reason: Arc::clone(reason),
            }),
            None => Err(Error::Closed),
        }
    }
}

/// The durable position and those who wait for it.
pub(crate) struct Durability {
    /// The end of what is durable, byte for byte.
    raw: AtomicU64,
    /// Where the first frame stands that is not durable.
    frame: AtomicU64,
    /// Ascending by position.
    waiters: Mutex<VecDeque<(u64, Waker)>>,
}

impl Durability {
    pub(crate) fn new(raw: u64, frame: u64) -> Self {
        Self {
            raw: AtomicU64::new(raw),
            frame: AtomicU64::new(frame),
            waiters: Mutex::new(VecDeque::new()),
        }
    }

    /// Sequentially consistent, as its store: who waits for room says so and then looks here, the writer stores this and
    /// then looks who waits ([`crate::space::Space::is_waited_for`]). One of the two must see the other.
    pub(crate) fn raw(&self) -> u64 {
        self.raw.load(Ordering::SeqCst)
    }

    pub(crate) fn frame(&self) -> u64 {
        self.frame.load(Ordering::Acquire)
    }

    pub(crate) fn poll(&self, lsn: u64, fate: &Fate, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.frame() > lsn {
            return Poll::Ready(Ok(()));
        }
        let mut waiters = self.waiters.lock();
        if self.frame() > lsn {
            return Poll::Ready(Ok(()));
        }
        if let Err(error) = fate.check() {
            return Poll::Ready(Err(error));
        }
        // Commits wait nearly in the order in which they appended, so the place is nearly always the end.
        let mut at = waiters.len();
        while at > 0 && waiters[at - 1].0 > lsn {
            at -= 1;
        }
        let known = waiters
            .range(..at)
            .rev()
            .take_while(|(waits, _)| *waits == lsn)
            .any(|(_, waker)| waker.will_wake(cx.waker()));
        if !known {
            waiters.insert(at, (lsn, cx.waker().clone()));
        }
        Poll::Pending
    }

    /// Moves the position on and hands out those to be woken.
    pub(crate) fn advance(&self, raw: u64, frame: u64, woken: &mut Vec<Waker>) {
        assert!(
            raw >= self.raw() && frame >= raw,
            "the durable position only rises"
        );
        self.raw.store(raw, Ordering::SeqCst);
        // Who waits for it looks under the lock that is taken next.
        self.frame.store(frame, Ordering::Release);
        let mut waiters = self.waiters.lock();
        while waiters.front().is_some_and(|(lsn, _)| *lsn < frame) {
            woken.extend(waiters.pop_front().map(|(_, waker)| waker));
        }
    }

    /// Wakes everybody; the fate was decided before.
    pub(crate) fn wake_all(&self) {
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for (_, waker) in waiters {
            waker.wake();
        }
    }

    #[cfg(test)]
    fn waiting(&self) -> Vec<u64> {
        self.waiters.lock().iter().map(|(lsn, _)| *lsn).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waker() -> (Arc<Count>, Waker) {
        let count = Arc::<Count>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn waiters_are_kept_in_order_and_only_those_behind_the_position_are_woken() {
        let durability = Durability::new(4096, 4096);
        let fate = Fate::default();
        for lsn in [9000, 5000, 7000, 5000] {
            let (_, waker) = waker();
            assert!(
                durability
                    .poll(lsn, &fate, &mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        assert_eq!(durability.waiting(), [5000, 5000, 7000, 9000]);
        let mut woken = Vec::new();
        durability.advance(8192, 8192, &mut woken);
        assert_eq!((woken.len(), durability.waiting()), (3, vec![9000]));
    }

    #[test]
    fn a_task_that_polls_again_is_kept_once() {
        let durability = Durability::new(4096, 4096);
        let fate = Fate::default();
        let (_count, waker) = waker();
        for _ in 0..3 {
            assert!(
                durability
                    .poll(5000, &fate, &mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        assert_eq!(durability.waiting(), [5000]);
    }

    #[test]
    fn after_a_failure_only_what_was_durable_is_reported_durable() {
        let durability = Durability::new(8192, 8192);
        let fate = Fate::default();
        let (count, waker) = waker();
        let mut cx = Context::from_waker(&waker);
        assert!(durability.poll(8192, &fate, &mut cx).is_pending());
        fate.poison("the disk is gone".to_owned());
        durability.wake_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(matches!(
            durability.poll(8192, &fate, &mut cx),
            Poll::Ready(Err(Error::Poisoned { .. }))
        ));
        assert!(matches!(
            durability.poll(5000, &fate, &mut cx),
            Poll::Ready(Ok(()))
        ));
    }
}
