//! Which mirror snapshot a query reads.

use super::runtime::Analytic;
use crate::error::{Error, SqlState};
use parking_lot::Mutex;
use scry_mirror::{ErrorKind, Mirror, Snapshot};
use scry_wal::{Log, Lsn};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much of the recent past a query must see: `SET scry.freshness`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// Every commit acknowledged before the query began.
    #[default]
    Strict,
    /// Every commit acknowledged at least this long before the query began.
    Bounded(Duration),
    /// Whatever the mirror has.
    Eventual,
}

/// What a snapshot must contain besides.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// READ COMMITTED: the commit at this LSN, which the transaction depends on (`Lsn::ZERO`: none).
    AtLeast(Lsn),
    /// REPEATABLE READ: the commits up to this LSN and none after it.
    Exactly(Lsn),
}

/// Positions remembered for `bounded`: a query every quarter second over half a minute.
const SAMPLES_MAX: usize = 128;

/// Durable positions that queries have seen, with their times: how long ago a position was the newest one.
#[derive(Debug, Default)]
pub struct DurableHistory {
    samples: Mutex<VecDeque<(Instant, Lsn)>>,
}

impl DurableHistory {
    /// Records that `durable` is the newest position now, and returns a position that covers every commit acknowledged
    /// `age` ago.
    fn covering(&self, now: Instant, durable: Lsn, age: Duration) -> Lsn {
        let mut samples = self.samples.lock();
        let covered = samples
            .iter()
            .find(|(taken, _)| now.saturating_duration_since(*taken) <= age)
            .map_or(durable, |(_, position)| *position);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back((now, durable));
        covered
    }
}

fn after(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.get().saturating_add(1))
}

/// Waits until the mirror has what the query must see, and opens the snapshot.
///
/// # Errors
/// When the log or the mirror has stopped, or the mirror no longer keeps the snapshot asked for.
pub async fn mirror_snapshot(
    analytic: &Analytic,
    mirror: &Mirror,
    log: &Log,
    freshness: Freshness,
    need: Need,
) -> Result<Arc<Snapshot>, Error> {
    let snapshot = match need {
        // Nothing has ever been committed: there is no table to read.
        Need::Exactly(Lsn::ZERO) => mirror.newest_snapshot(),
        Need::Exactly(at) => {
            log.durable(at).await?;
            mirror.applied(after(at)).await.map_err(from_mirror)?;
            mirror.snapshot(at).map_err(from_mirror)?
        }
        Need::AtLeast(depends_on) => {
            let fresh = match freshness {
                Freshness::Strict => log.durable_lsn(),
                Freshness::Bounded(age) => analytic.history.covering(Instant::now(), log.durable_lsn(), age),
                Freshness::Eventual => Lsn::ZERO,
            };
            // What is not durable never reaches the mirror when the log has failed: then this says so.
            log.durable(depends_on).await?;
            let own = if depends_on == Lsn::ZERO {
                Lsn::ZERO
            } else {
                after(depends_on)
            };
            mirror.applied(fresh.max(own)).await.map_err(from_mirror)?;
            mirror.newest_snapshot()
        }
    };
    Ok(Arc::new(snapshot))
}

/// The mirror's errors as a client hears them.
pub fn from_mirror(error: scry_mirror::Error) -> Error {
    let of_savepoint = match &error {
        scry_mirror::Error::UndefinedSavepoint { .. } => Some(SqlState::INVALID_SAVEPOINT_SPECIFICATION),
        scry_mirror::Error::DuplicateSavepoint { .. } => Some(SqlState::DUPLICATE_OBJECT),
        scry_mirror::Error::TooManySavepoints { .. } => Some(SqlState::PROGRAM_LIMIT_EXCEEDED),
        _ => None,
    };
    if let Some(state) = of_savepoint {
        return Error::new(state, error.to_string());
    }
    let state = match error.kind() {
        ErrorKind::Refuse => SqlState::SNAPSHOT_TOO_OLD,
        ErrorKind::Stopped => SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        ErrorKind::Corrupt => SqlState::DATA_CORRUPTED,
        ErrorKind::Retry => SqlState::IO_ERROR,
        ErrorKind::Bug => SqlState::INTERNAL_ERROR,
    };
    let told = Error::new(state, format!("cannot read from the mirror: {error}"));
    match error.kind() {
        ErrorKind::Corrupt => {
            told.with_hint("That part of the mirror is being made again. Try again in a moment.")
        }
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_query_waits_for_the_oldest_position_that_is_young_enough() {
        let history = DurableHistory::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(history.covering(start, Lsn::new(100), 5 * second), Lsn::new(100));
        assert_eq!(
            history.covering(start + 3 * second, Lsn::new(200), 5 * second),
            Lsn::new(100)
        );
        assert_eq!(
            history.covering(start + 7 * second, Lsn::new(300), 5 * second),
            Lsn::new(200)
        );
        assert_eq!(
            history.covering(start + 20 * second, Lsn::new(400), 5 * second),
            Lsn::new(400)
        );
    }
}
