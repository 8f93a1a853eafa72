//! How long a commit that writes is to wait, so that checkpoints and compaction keep up.
//!
//! Back-pressure is a delay that grows with what waits to be written and merged, from nothing to a twentieth of a second, and not a stop: whoever
//! commits is slowed down a little and early instead of much and late. The thread that makes checkpoints looks at the figures many times
//! in a second, also while it makes one; a commit reads one number. The engine has no clock to wait by: its caller does. What fills an
//! index or moves a table's rows waits for that thread to look again.

use parking_lot::Mutex;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Rows may wait for the next checkpoint up to so many times the amount at which one is due before anybody is slowed down: while one amount is
/// being written, which no longer counts, another gathers.
const DIRTY_FREE: f64 = 1.5;

/// With so many times the amount the delay is `FULL`.
const DIRTY_FULL: f64 = 5.0;

/// Flushes that wait to be merged: each costs a lookup the look into a filter.
const LAYERS_FREE: f64 = 12.0;
const LAYERS_FULL: f64 = 40.0;

/// The delay at full pressure.
const FULL: Duration = Duration::from_millis(20);

/// The longest delay.
const MAX: Duration = Duration::from_millis(50);

/// What commits are told.
#[derive(Default)]
pub(crate) struct Admission {
    delay_us: AtomicU64,
    /// Who waits until there is no delay.
    waiting: Mutex<Vec<Waker>>,
}

impl Admission {
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us.load(Ordering::Relaxed))
    }

    /// Looks at the figures: bytes that wait for a checkpoint, those at which one is due (0: at none), and flushes that wait to be merged.
    pub(crate) fn look(&self, dirty_bytes: u64, due_bytes: u64, fresh_layers: usize) {
        let delay = delay(dirty_bytes, due_bytes, fresh_layers);
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.delay_us.store(micros, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ready when nobody would be slowed down.
    pub(crate) fn free(&self) -> impl Future<Output = ()> + Send + '_ {
        std::future::poll_fn(|cx| {
            if self.delay().is_zero() {
                return Poll::Ready(());
            }
            self.waiting.lock().push(cx.waker().clone());
            Poll::Pending
        })
    }
}

fn delay(dirty_bytes: u64, due_bytes: u64, fresh_layers: usize) -> Duration {
    let dirty = match due_bytes {
        0 => 0.0,
        due => dirty_bytes as f64 / due as f64,
    };
    let pressure = |figure: f64, free: f64, full: f64| ((figure - free) / (full - free)).max(0.0);
    let pressure =
        pressure(dirty, DIRTY_FREE, DIRTY_FULL).max(pressure(fresh_layers as f64, LAYERS_FREE, LAYERS_FULL));
    FULL.mul_f64((pressure * pressure).min(100.0)).min(MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_begins_at_nothing_and_grows_without_a_step_up_to_its_bound() {
        assert_eq!(delay(0, 0, 0), Duration::ZERO);
        assert_eq!(delay(150, 100, 12), Duration::ZERO);
        assert_eq!(delay(u64::MAX, 0, 0), Duration::ZERO);
        let mut before = Duration::ZERO;
        for dirty in 150..2000 {
            let now = delay(dirty, 100, 0);
            assert!(now >= before && now - before < Duration::from_millis(1));
            before = now;
        }
        assert_eq!(before, MAX);
        assert_eq!(delay(500, 100, 0), FULL);
        assert_eq!(delay(0, 100, 40), FULL);
    }
}
