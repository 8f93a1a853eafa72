//! How long commits take to reach the mirror: a histogram of bounded size.
//!
//! Buckets are powers of two, each divided in sixteen: a figure is off by at most one sixteenth.

use parking_lot::Mutex;

const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const BUCKETS: usize = STEPS * (64 - STEP_BITS as usize + 1);

/// Percentiles of the lag, in microseconds from a commit's wall clock to its being applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LagSummary {
    /// Commits counted.
    pub commits: u64,
    /// Half of the commits were faster.
    pub p50_us: u64,
    /// Of a hundred commits, ninety-nine were faster.
    pub p99_us: u64,
    /// The slowest commit.
    pub max_us: u64,
}

/// Counts lags.
#[derive(Debug)]
pub(crate) struct Lag(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    buckets: Box<[u64; BUCKETS]>,
    commits: u64,
    max_us: u64,
}

impl Counts {
    fn empty() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            commits: 0,
            max_us: 0,
        }
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let exponent = us.ilog2();
    let step = (us >> (exponent - STEP_BITS)) as usize - STEPS;
    (exponent - STEP_BITS + 1) as usize * STEPS + step
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let next = (STEPS + bucket % STEPS + 1) as u128;
    u64::try_from((next << shift) - 1).unwrap_or(u64::MAX)
}

impl Lag {
    pub fn new() -> Self {
        Self(Mutex::new(Counts::empty()))
    }

    /// Counts one change set's lags.
    pub fn record(&self, lags_us: impl Iterator<Item = u64>) {
        let mut counts = self.0.lock();
        for us in lags_us {
            counts.buckets[bucket(us)] += 1;
            counts.commits += 1;
            counts.max_us = counts.max_us.max(us);
        }
    }

    /// The figures since the last reset.
    pub fn summary(&self) -> LagSummary {
        let counts = self.0.lock();
        let percentile = |percent: u64| {
            let rank = (counts.commits * percent).div_ceil(100);
            let mut seen = 0;
            let reached = counts.buckets.iter().position(|&count| {
                seen += count;
                seen >= rank && seen > 0
            });
            reached.map_or(0, |bucket| upper(bucket).min(counts.max_us))
        };
        LagSummary {
            commits: counts.commits,
            p50_us: percentile(50),
            p99_us: percentile(99),
            max_us: counts.max_us,
        }
    }

    /// Begins a new window.
    pub fn reset(&self) {
        *self.0.lock() = Counts::empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_its_bucket_and_a_sixteenth_of_its_bound() {
        for us in (0..5000).chain([1 << 20, (1 << 40) + 12345, u64::MAX]) {
            let bound = upper(bucket(us));
            assert!(bound >= us && bound - us <= us / STEPS as u64, "{us} in {bound}");
        }
    }

    #[test]
    fn percentiles_of_a_hundred_values() {
        let lag = Lag::new();
        lag.record(1..=100);
        let LagSummary {
            commits,
            p50_us,
            p99_us,
            max_us,
        } = lag.summary();
        assert_eq!((commits, max_us), (100, 100));
        assert!(
            (50..=53).contains(&p50_us) && (99..=100).contains(&p99_us),
            "{p50_us} {p99_us}"
        );
        lag.reset();
        assert_eq!(lag.summary(), LagSummary::default());
    }
}
