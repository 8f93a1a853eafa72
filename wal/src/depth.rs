//! How many writes to keep on their way, decided from how long they take.
//!
//! Every frame costs processor time: a system call, a completion, a wake-up. On a disk that answers in 50 µs one
//! write at a time is 20,000 frames a second already; more slots would only cut the same commits into smaller
//! frames. Where clients and server share few cores that time
//! is missed elsewhere. On a disk that other programs keep busy a write takes milliseconds, and only depth keeps commits quick. So the
//! slots follow from Little's law: latency × the rate of frames that is worth its processor time.

use std::time::Duration;

/// Frames per second beyond which commits should share frames instead. At about 20 µs of processor time a frame this
/// is a twelfth of one core.
const FRAMES_PER_SECOND: f64 = 4_000.0;

/// A slow write is believed quickly, a quick one slowly: waiting behind a slow disk costs more than a small frame.
const RISE: f64 = 0.25;
const FALL: f64 = 1.0 / 64.0;

/// The number of slots in use.
#[derive(Debug)]
pub(crate) struct Depth {
    min: usize,
    max: usize,
    latency: f64,
}

impl Depth {
    /// Never less than `min` slots nor more than `max`, but at least one.
    pub(crate) fn new(min: usize, max: usize) -> Self {
        let max = max.max(1);
        Self {
            min: min.clamp(1, max),
            max,
            latency: 0.0,
        }
    }

    /// Takes note of a write that took `latency`.
    pub(crate) fn completed(&mut self, latency: Duration) {
        let latency = latency.as_secs_f64();
        let weight = if latency > self.latency { RISE } else { FALL };
        self.latency += (latency - self.latency) * weight;
    }

    /// How many writes may be on their way now: at least 1.
    pub(crate) fn slots(&self) -> usize {
        // The product is small and positive; a cast of a float saturates.
        ((self.latency * FRAMES_PER_SECOND).ceil() as usize).clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(depth: &mut Depth, count: usize, micros: u64) -> usize {
        for _ in 0..count {
            depth.completed(Duration::from_micros(micros));
        }
        depth.slots()
    }

    #[test]
    fn a_quick_disk_gets_one_slot_and_a_slow_one_all() {
        let mut depth = Depth::new(1, 16);
        assert_eq!(depth.slots(), 1);
        assert_eq!(after(&mut depth, 100, 50), 1);
        assert_eq!(after(&mut depth, 100, 240), 1);
        assert_eq!(after(&mut depth, 100, 600), 3);
        assert_eq!(after(&mut depth, 10, 5_000), 16);
    }

    #[test]
    fn the_bounds_hold() {
        let mut depth = Depth::new(4, 8);
        assert_eq!(depth.slots(), 4);
        assert_eq!(after(&mut depth, 10, 1_000_000), 8);
        assert_eq!(Depth::new(5, 1).slots(), 1, "a queue that does one at a time");
    }

    #[test]
    fn a_disk_that_becomes_slow_is_noticed_within_few_writes_and_forgiven_later() {
        let mut depth = Depth::new(1, 16);
        after(&mut depth, 1000, 50);
        assert!(after(&mut depth, 4, 3_000) >= 8);
        assert!(after(&mut depth, 4, 50) >= 8);
        assert_eq!(after(&mut depth, 1000, 50), 1);
    }
}
