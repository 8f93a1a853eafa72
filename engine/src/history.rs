//! History: how long superseded versions stay readable, and which commit was the newest at which time.
//!
//! With a *retention* the horizon stays behind the present: versions that ended within it are kept, in memory until a checkpoint has
//! written them and in the runs afterwards, and so are the catalogs. Any LSN between the horizon and the newest commit can be read.
//!
//! The *timeline* is a list of (LSN, commit time), a commit in each *step* of time, so that it stays small: about `MOMENTS` for a whole
//! retention. It stands in the checkpoint and is continued from the log behind it. LSNs are the order of commits and times are data: where the
//! clock jumps backwards nothing is noted until it has caught up with the last time noted, and what is committed meanwhile counts as of that
//! time. So times rise with LSNs, whatever the clock does. A clock that was ahead keeps history for longer, never for less, than it is
//! configured; one that jumps forward makes history older by as much.
//!
//! Invariants:
//! - LSNs and times of the timeline rise strictly;
//! - a commit between two moments was made at the time of the first of them, give or take a step;
//! - what the runs may have dropped is behind the oldest LSN that the durable checkpoint promises (`kept_from`). So a restart, whatever
//!   retention it is given, knows what can still be read.

use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::Error;
use parking_lot::Mutex;
use scry_wal::{Lsn, Micros};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Moments of a whole retention: 16 bytes each, in every checkpoint.
const MOMENTS: i64 = 16_384;

/// The shortest step, in microseconds.
const STEP_US_MIN: i64 = 10_000;

/// The horizon follows in so many leaps through a retention: each may have stores swept.
const LEAPS: i64 = 16;

/// A commit, and when it was made.
pub(crate) type Moment = (Lsn, Micros);

/// What is kept of the past.
#[derive(Debug)]
pub(crate) struct History {
    /// In microseconds; 0: nothing is kept.
    retention: i64,
    step: i64,
    timeline: Mutex<Timeline>,
    /// A commit at this time or later is a moment of its own.
    due: AtomicI64,
    /// The oldest LSN that can be read, as the durable checkpoint has it.
    kept_from: AtomicU64,
    /// All commits up to this one are in the runs.
    checkpointed: AtomicU64,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Timeline {
    moments: VecDeque<Moment>,
    /// What was committed up to this time was let go of.
    limit: Option<i64>,
}

impl History {
    /// Continues the timeline of a checkpoint at `checkpointed`, behind which nothing before `kept_from` can be read.
    pub(crate) fn new(
        retention: Duration,
        clock: Clock,
        timeline: &[Moment],
        (checkpointed, kept_from): (Lsn, Lsn),
    ) -> History {
        let retention = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let moments: VecDeque<Moment> = match retention {
            0 => VecDeque::new(),
            _ => timeline.iter().copied().collect(),
        };
        let history = History {
            retention,
            step: (retention / MOMENTS).max(STEP_US_MIN),
            due: AtomicI64::new(i64::MIN),
            timeline: Mutex::default(),
            kept_from: AtomicU64::new(kept_from.get()),
            checkpointed: AtomicU64::new(checkpointed.get()),
            clock,
        };
        if let Some((_, time)) = moments.back() {
            history
                .due
                .store(time.get().saturating_add(history.step), Ordering::Relaxed);
        }
        history.timeline.lock().moments = moments;
        history
    }

    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Whether anything is kept that no snapshot holds.
    pub(crate) fn is_on(&self) -> bool {
        self.retention > 0
    }

    /// A commit. In the order of the log. Answers whether it is a moment of the timeline.
    pub(crate) fn note(&self, lsn: Lsn, time: Micros) -> bool {
        if !self.is_on() || time.get() < self.due.load(Ordering::Relaxed) {
            return false;
        }
        self.due
            .store(time.get().saturating_add(self.step), Ordering::Relaxed);
        self.timeline.lock().moments.push_back((lsn, time));
        true
    }

    /// The LSN behind which versions may go, seen at the time `now`: they were superseded longer ago than the retention. `Lsn::MAX` without
    /// one.
    pub(crate) fn floor(&self, now: Micros) -> Lsn {
        if !self.is_on() {
            return Lsn::MAX;
        }
        let limit = now.get().saturating_sub(self.retention);
        let mut timeline = self.timeline.lock();
        let leap = self.retention / LEAPS;
        if timeline
            .limit
            .is_none_or(|last| limit.saturating_sub(last) >= leap)
        {
            timeline.limit = Some(limit);
            while timeline
                .moments
                .get(1)
                .is_some_and(|(_, time)| time.get() <= limit)
            {
                timeline.moments.pop_front();
            }
        }
        match timeline.moments.front() {
            Some((lsn, time)) if timeline.limit.is_some_and(|limit| time.get() <= limit) => *lsn,
            _ => Lsn::ZERO,
        }
    }

    /// The moments up to a checkpoint.
    pub(crate) fn moments(&self, upto: Lsn) -> Vec<Moment> {
        let timeline = self.timeline.lock();
        let moments = timeline.moments.iter();
        moments.take_while(|(lsn, _)| *lsn <= upto).copied().collect()
    }

    /// A checkpoint at `at` is durable, and promises that states from `oldest` on can be read.
    pub(crate) fn checkpointed(&self, at: Lsn, oldest: Lsn) {
        self.kept_from.fetch_max(oldest.get(), Ordering::Relaxed);
        self.checkpointed.fetch_max(at.get(), Ordering::Relaxed);
    }

    /// Up to where compaction may drop what was superseded, when no snapshot is older than `horizon`.
    pub(crate) fn droppable(&self, horizon: Lsn) -> Lsn {
        horizon.min(Lsn::new(self.kept_from.load(Ordering::Relaxed)))
    }

    /// Up to where deleted rows are in the runs, for which nobody need wait in memory then.
    pub(crate) fn flushed(&self) -> Lsn {
        match self.is_on() {
            true => Lsn::new(self.checkpointed.load(Ordering::Relaxed)),
            false => Lsn::ZERO,
        }
    }

    /// The newest state that was all committed at `time`, which is not in the future; `visible` is the newest there is. `None`: it is not
    /// known any more.
    fn lsn_at(&self, time: Micros, visible: Lsn) -> Option<Lsn> {
        let timeline = self.timeline.lock();
        let after = timeline.moments.partition_point(|(_, at)| *at <= time);
        let (lsn, at) = timeline.moments.get(after.checked_sub(1)?)?;
        if time.get() < at.get().saturating_add(self.step) {
            return Some(*lsn);
        }
        // All that was committed before the next moment is a step younger than this one at most.
        Some(match timeline.moments.get(after) {
            Some((next, _)) => Lsn::new(next.get().saturating_sub(1)),
            None => visible,
        })
    }

    /// Whether a time was never reached: it is later than the clock and than all moments, which a clock that was put back is behind.
    fn is_future(&self, time: Micros) -> bool {
        let timeline = self.timeline.lock();
        time > self.now() && timeline.moments.back().is_none_or(|(_, newest)| time > *newest)
    }

    /// When the state at `lsn` was the newest: the time of its last commit, give or take a step.
    fn time_of(&self, lsn: Lsn) -> Option<Micros> {
        let timeline = self.timeline.lock();
        let after = timeline.moments.partition_point(|(noted, _)| *noted <= lsn);
        let (_, time) = timeline.moments.get(after.checked_sub(1)?)?;
        Some(*time)
    }
}

impl Engine {
    /// The newest state of which every commit was made at `time` or before, to the accuracy of the timeline.
    ///
    /// # Errors
    /// `NotYet` for a time in the future, `HistoryGone` for one that is further back than is kept.
    pub fn lsn_at(&self, time: Micros) -> Result<Lsn, Error> {
        let newest = self.visible_lsn();
        if self.history.is_future(time) {
            return Err(Error::NotYet { newest });
        }
        let oldest = self.snapshots.horizon();
        let found = self.history.lsn_at(time, newest).filter(|lsn| *lsn >= oldest);
        found.ok_or(Error::HistoryGone { oldest })
    }

    /// When the last commit of the state at `lsn` was made, to the accuracy of the timeline; `None` when that is not known any more.
    pub fn time_of(&self, lsn: Lsn) -> Option<Micros> {
        self.history.time_of(lsn)
    }

    /// The oldest LSN whose state can be read.
    pub fn oldest_readable(&self) -> Lsn {
        self.snapshots.horizon()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn of(seconds: u64) -> History {
        let retention = Duration::from_secs(seconds);
        History::new(retention, Clock::default(), &[], (Lsn::ZERO, Lsn::ZERO))
    }

    fn at(seconds: i64) -> Micros {
        Micros::new(seconds * SECOND)
    }

    #[test]
    fn a_time_finds_the_newest_state_that_was_committed_by_then() {
        let history = of(3600);
        for (lsn, second) in [(10, 100), (20, 200), (30, 300)] {
            history.note(Lsn::new(lsn), at(second));
        }
        // Within the same step: it is not noted, and a time in that step does not see it.
        history.note(Lsn::new(31), Micros::new(300 * SECOND + 1));
        let found = |time| history.lsn_at(time, Lsn::new(35)).map(Lsn::get);
        assert_eq!(found(at(99)), None);
        assert_eq!(found(at(100)), Some(10));
        assert_eq!(found(at(150)), Some(19), "all that came before the next moment");
        assert_eq!(found(at(200)), Some(20));
        assert_eq!(found(Micros::new(300 * SECOND + 2)), Some(30));
        assert_eq!(found(at(400)), Some(35), "nothing was noted since: the newest");
        let time = |lsn| history.time_of(Lsn::new(lsn));
        assert_eq!(
            [time(9), time(10), time(25), time(90)],
            [None, Some(at(100)), Some(at(200)), Some(at(300))]
        );
    }

    #[test]
    fn a_clock_that_jumps_backwards_leaves_times_in_order() {
        let history = of(3600);
        for (lsn, second) in [(10, 100), (20, 50), (30, 99), (40, 101)] {
            history.note(Lsn::new(lsn), at(second));
        }
        assert_eq!(
            history.moments(Lsn::MAX),
            [(Lsn::new(10), at(100)), (Lsn::new(40), at(101))]
        );
        assert_eq!(
            history.time_of(Lsn::new(35)),
            Some(at(100)),
            "as of the last time noted"
        );
        assert_eq!(
            history.lsn_at(at(99), Lsn::new(40)),
            None,
            "no commit in doubt is shown"
        );
    }

    #[test]
    fn the_floor_follows_the_clock_in_leaps_and_never_falls() {
        let history = of(160);
        for second in 1..=100 {
            history.note(Lsn::new(second * 10), at(second.cast_signed()));
        }
        assert_eq!(history.floor(at(150)), Lsn::ZERO, "nothing is old enough");
        assert_eq!(history.floor(at(180)), Lsn::new(200));
        assert_eq!(history.floor(at(189)), Lsn::new(200), "not yet a leap further");
        assert_eq!(history.floor(at(190)), Lsn::new(300));
        assert_eq!(history.floor(at(10)), Lsn::new(300), "the clock was put back");
        assert_eq!(
            history.moments(Lsn::new(310)),
            [(Lsn::new(300), at(30)), (Lsn::new(310), at(31))]
        );
        assert_eq!(
            of(0).floor(at(0)),
            Lsn::MAX,
            "without retention nothing holds the horizon"
        );
    }

    #[test]
    fn the_timeline_stays_small_whatever_the_retention() {
        for seconds in [1, 60, 7 * 86_400] {
            let history = of(seconds);
            let retention = i64::try_from(seconds).unwrap() * SECOND;
            for number in 0..200_000 {
                let now = Micros::new(number * (retention / 50_000));
                history.note(Lsn::new(number.cast_unsigned() + 1), now);
                history.floor(now);
            }
            let kept = i64::try_from(history.moments(Lsn::MAX).len()).unwrap();
            assert!(kept <= MOMENTS * 9 / 8, "{kept} moments of {seconds} s");
        }
    }

    #[test]
    fn a_timeline_goes_on_where_a_checkpoint_has_it() {
        let kept = [(Lsn::new(10), at(100)), (Lsn::new(20), at(200))];
        let (clock, at_checkpoint) = (Clock::default(), (Lsn::new(25), Lsn::new(5)));
        let history = History::new(Duration::from_secs(3600), clock, &kept, at_checkpoint);
        history.note(Lsn::new(30), at(200));
        history.note(Lsn::new(40), at(300));
        assert_eq!(history.moments(Lsn::new(39)), kept);
        assert_eq!(history.moments(Lsn::MAX).len(), 3);
        assert_eq!(history.droppable(Lsn::new(90)), Lsn::new(5));
        history.checkpointed(Lsn::new(60), Lsn::new(50));
        assert_eq!(history.droppable(Lsn::new(90)), Lsn::new(50));
    }
}
