//! How long the log's writes take, for those who watch a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the classes in which writes are counted, in microseconds; a last class has none.
pub const WRITE_BOUNDS_US: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
];

/// Counts writes. Only the log's writer adds.
#[derive(Debug, Default)]
pub(crate) struct WriteTimes {
    classes: [AtomicU64; WRITE_BOUNDS_US.len() + 1],
    total_us: AtomicU64,
    longest_us: AtomicU64,
}

/// What the log's writes took since it was opened, from the start of each to its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFigures {
    /// How many took at most as long as each of [`WRITE_BOUNDS_US`] and longer than the one before; last those that took longer than all.
    pub classes: [u64; WRITE_BOUNDS_US.len() + 1],
    pub total: Duration,
    pub longest: Duration,
}

impl WriteTimes {
    pub(crate) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = WRITE_BOUNDS_US.partition_point(|bound| *bound < micros);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(micros, Ordering::Relaxed);
        self.longest_us.fetch_max(micros, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> WriteFigures {
        WriteFigures {
            classes: std::array::from_fn(|class| self.classes[class].load(Ordering::Relaxed)),
            total: Duration::from_micros(self.total_us.load(Ordering::Relaxed)),
            longest: Duration::from_micros(self.longest_us.load(Ordering::Relaxed)),
        }
    }
}

impl WriteFigures {
    /// How many writes were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_is_in_the_class_of_the_least_bound_that_it_kept() {
        let times = WriteTimes::default();
        for micros in [0, 50, 51, 100_000, 250_001, 9_000_000] {
            times.add(Duration::from_micros(micros));
        }
        let figures = times.figures();
        let mut classes = [0; WRITE_BOUNDS_US.len() + 1];
        (classes[0], classes[1], classes[10], classes[12]) = (2, 1, 1, 2);
        assert_eq!(figures.classes, classes);
        assert_eq!(figures.count(), 6);
        assert_eq!(figures.total, Duration::from_micros(9_350_102));
        assert_eq!(figures.longest, Duration::from_secs(9));
    }
}
