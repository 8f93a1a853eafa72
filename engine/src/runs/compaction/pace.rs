//! Keeps compaction to a rate, evenly, and ends it when it is told to.

use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// What may be done at once when nothing was for a while.
const BURST: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    /// None: as fast as can be.
    bytes_per_s: Option<u64>,
    /// When what was done so far is paid for.
    paid: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(bytes_per_s: Option<u64>) -> Pace {
        let pace = Pace::default();
        pace.set_rate(bytes_per_s);
        pace
    }

    pub(crate) fn set_rate(&self, bytes_per_s: Option<u64>) {
        let mut state = self.state.lock();
        state.bytes_per_s = bytes_per_s.map(|rate| rate.max(1));
        state.paid = None;
        self.changed.notify_all();
    }

    /// Ends what is under way, for good.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Waits until so many bytes are paid for. False when it is to end.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        if let Some(rate) = state.bytes_per_s {
            let price = Duration::from_secs_f64(bytes as f64 / rate as f64);
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            state.paid = Some(state.paid.map_or(earliest, |paid| paid.max(earliest)) + price);
        }
        while !state.is_stopped {
            match state.paid {
                Some(paid) if paid > Instant::now() => {
                    self.changed.wait_until(&mut state, paid);
                }
                _ => return true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_a_long_wait() {
        let pace = Pace::new(Some(1));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.take(1 << 40));
            pace.stop();
            assert!(!waiting.join().unwrap());
        });
        assert!(!pace.take(0));
    }

    #[test]
    fn a_new_rate_ends_a_long_wait() {
        let pace = Pace::new(Some(1));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.take(1 << 40));
            while pace.state.lock().paid.is_none() {
                std::thread::yield_now();
            }
            pace.set_rate(None);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let pace = Pace::new(None);
        assert!((0..1000).all(|_| pace.take(1 << 40)));
    }
}
