//! A wall clock that jumps. Times are data: no state is lost for them, nothing of the log goes too early, and nothing stands still.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::backup::{RestoreTo, back_up, restore};
use scry_engine::*;
use scry_wal::{Lsn, Micros, Retention};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 24 * 60 * MINUTE;
const SEGMENT: u64 = 16 << 10;
const HOUR: Duration = Duration::from_secs(3600);

/// An hour of history and of log, by a clock that a test sets.
struct World {
    home: Home,
    clock: Arc<AtomicI64>,
    /// After each commit: what the only row has, and the time.
    states: Vec<(Lsn, i64, Micros)>,
}

impl World {
    fn new() -> World {
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000));
        let of_engine = Arc::clone(&clock);
        let mut options = options();
        options.clock = Clock::new(move || Micros::new(of_engine.load(Ordering::SeqCst)));
        options.history = HOUR;
        options.log.segment_bytes = SEGMENT;
        options.log.retention = Retention::Recent { bytes: 0, age: HOUR };
        // Checkpoints are made when the test says so.
        options.checkpoint_log_bytes = 1 << 40;
        let home = Home::with(options);
        home.create("t", true);
        World {
            home,
            clock,
            states: Vec::new(),
        }
    }

    fn now(&self) -> Micros {
        Micros::new(self.clock.load(Ordering::SeqCst))
    }

    fn jump(&self, time_us: i64) {
        self.clock.fetch_add(time_us, Ordering::SeqCst);
    }

    /// Commits, a minute apart.
    fn commit(&mut self, count: i64) {
        let table = self.home.table("t");
        for _ in 0..count {
            self.jump(MINUTE);
            let value = i64::try_from(self.states.len()).unwrap();
            let mut session = self.home.session();
            let mut txn = session.begin(Isolation::ReadCommitted);
            match value {
                0 => insert(&mut txn, &table, 1, value),
                _ => assert!(set(&mut txn, &table, 1, value)),
            }
            let at = txn.commit("").unwrap().unwrap();
            // A block of the log each.
            self.home.engine().log().wait_durable(at).unwrap();
            self.states.push((at, value, self.now()));
        }
    }

    fn is_readable(&self, (at, value, _): (Lsn, i64, Micros)) -> bool {
        match self.home.session().begin_at(at) {
            Ok(mut past) => {
                assert_eq!(rows(&mut past, &self.home.table("t")), [(1, value)]);
                true
            }
            Err(Error::HistoryGone { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// All states can be read, times rise with them, and the log begins where it began.
    fn all_is_there(&self) {
        assert!(self.states.iter().all(|state| self.is_readable(*state)));
        let time_of = |(at, ..): &(Lsn, i64, Micros)| self.home.engine().time_of(*at).unwrap();
        assert!(self.states.iter().map(time_of).is_sorted());
        self.home.engine().recycle_log().unwrap();
        assert_eq!(self.home.engine().log().begin(), Lsn::ZERO);
    }
}

#[test]
fn no_state_and_nothing_of_the_log_goes_for_a_clock_that_jumps_backwards_and_is_set_right() {
    let mut world = World::new();
    world.commit(20);
    world.home.checkpoint();
    world.jump(-DAY);
    world.commit(20);
    let by_time = |world: &World| {
        for (at, value, time) in &world.states[..20] {
            let found = world.home.engine().lsn_at(*time).unwrap();
            assert_eq!(found, *at, "{value}");
        }
    };
    // As it is, after a crash, and after a checkpoint.
    for round in 0..3 {
        world.all_is_there();
        by_time(&world);
        match round {
            0 => world.home.restart_at_once(),
            _ => world.home.restart(),
        }
    }
    world.jump(DAY);
    world.commit(5);
    world.home.checkpoint();
    world.all_is_there();
    by_time(&world);
    assert!(world.home.engine().log().durable_lsn() > Lsn::new(5 * SEGMENT));

    // And all of it goes when it is an hour old.
    let all = world.states.clone();
    let begin = world.home.engine().log().begin();
    world.jump(2 * 60 * MINUTE);
    wait_until("the past goes", || {
        world.commit(1);
        !world.is_readable(all[0]) && !world.is_readable(all[39])
    });
    world.home.checkpoint();
    world.home.engine().recycle_log().unwrap();
    assert!(world.home.engine().log().begin() > begin);
}

#[test]
fn a_backup_made_when_the_clock_had_been_put_back_is_restored_to_times_that_it_had_before() {
    let mut world = World::new();
    world.commit(5);
    world.jump(-DAY);
    world.commit(5);
    let engine = world.home.engine.take().unwrap();
    engine.close().unwrap();
    drop(engine);
    let folder = tempfile::tempdir().unwrap();
    back_up(world.home.directory.path(), folder.path(), 1, world.now()).unwrap();
    let restored = |time| {
        let parent = tempfile::tempdir().unwrap();
        restore(
            folder.path(),
            &parent.path().join("restored"),
            RestoreTo::Time(time),
            None,
        )
    };
    let ahead = &world.states[..5];
    for (at, _, time) in &ahead[..4] {
        assert_eq!(restored(*time).unwrap().last, Some((*at, *time)));
    }
    // Whether that is all of the newest of these times is known when the clock has caught up.
    let refused = restored(ahead[4].2).unwrap_err();
    assert!(matches!(refused, Error::NotYet { .. }), "{refused}");
}
