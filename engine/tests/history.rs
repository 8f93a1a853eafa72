//! The past, as far as it is kept: every state is read as it was, through checkpoints, compaction and restarts.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use scry_wal::sim::Random;
use scry_wal::{Lsn, Micros};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TABLES: [&str; 3] = ["a", "b", "c"];
const KEYS: u64 = 12;

/// All tables with their rows.
type State = BTreeMap<&'static str, BTreeMap<i32, i64>>;

fn kept(seconds: u64) -> Home {
    let mut options = options();
    options.history = Duration::from_secs(seconds);
    options.runs.file_bytes = 2 << 10;
    options.runs.base_bytes = 2 << 10;
    Home::with(options)
}

fn begin(home: &Home) -> Txn {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.statement();
    txn
}

fn past(home: &Home, at: Lsn) -> Result<Txn, Error> {
    home.session().begin_at(at)
}

/// What a transaction reads: by scans, and by each key.
fn read(txn: &mut Txn) -> BTreeMap<String, BTreeMap<i32, i64>> {
    let tables: Vec<Arc<Table>> = txn.catalog().tables().cloned().collect();
    let mut state = BTreeMap::new();
    for table in tables {
        let found: BTreeMap<i32, i64> = rows(txn, &table).into_iter().collect();
        if table.def.primary_key.is_some() {
            for id in 0..KEYS as i32 {
                assert_eq!(get(txn, &table, id), found.get(&id).copied());
            }
        }
        if txn.catalog().has_indexes() && !table.indexes.is_empty() {
            let mut by_index = rows_by_index(txn, &table, 0);
            by_index.sort_unstable();
            assert!(by_index.into_iter().eq(found.clone()), "{}", table.def.name);
        }
        state.insert(table.def.name.clone(), found);
    }
    state
}

struct World {
    home: Home,
    random: Random,
    /// Every state there was, and the commit that made it.
    states: Vec<(Lsn, State)>,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            home: kept(3600),
            random: Random::new(seed),
            states: Vec::new(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.below(limit)
    }

    /// One commit: rows of a table, or its definition.
    fn commit(&mut self) {
        let mut state = self
            .states
            .last()
            .map_or_else(State::new, |(_, state)| state.clone());
        let name = TABLES[self.below(3) as usize];
        let mut txn = begin(&self.home);
        let found = txn.catalog().table(name).cloned();
        match (found, self.below(16)) {
            (None, _) => {
                let mut new = new_table(name, self.below(2) == 0);
                new.indexes.push(index(&format!("{name}_by_value"), false));
                block_on(txn.create_table(new)).unwrap();
                state.insert(name, BTreeMap::new());
            }
            (Some(table), 0) => {
                block_on(txn.drop_table(&table)).unwrap();
                state.remove(name);
            }
            (Some(table), 1) => {
                block_on(txn.truncate(&table)).unwrap();
                state.insert(name, BTreeMap::new());
            }
            (Some(table), 2) if table.def.primary_key.is_none() => {
                block_on(txn.add_primary_key(&table, primary_key(name))).unwrap();
            }
            (Some(table), _) => {
                for _ in 0..=self.below(4) {
                    let (id, value) = (self.below(KEYS) as i32, self.below(100) as i64);
                    let rows = state.get_mut(name).unwrap();
                    let is_keyed = table.def.primary_key.is_some();
                    match (rows.get_mut(&id), is_keyed) {
                        (None, _) => {
                            insert(&mut txn, &table, id, value);
                            rows.insert(id, value);
                        }
                        (Some(_), true) if self.random.below(3) == 0 => {
                            assert!(delete(&mut txn, &table, id));
                            rows.remove(&id);
                        }
                        (Some(known), true) => {
                            assert!(set(&mut txn, &table, id, value));
                            *known = value;
                        }
                        (Some(_), false) => {}
                    }
                }
            }
        }
        if let Some(lsn) = txn.commit("CHANGE").unwrap() {
            self.states.push((lsn, state));
        }
    }

    /// Reads some states of the past.
    fn check(&mut self, count: usize) {
        for _ in 0..count {
            let index = self.random.below(self.states.len() as u64) as usize;
            let (lsn, state) = &self.states[index];
            let next = self.states.get(index + 1).map_or(*lsn, |(next, _)| *next);
            // Any LSN up to the next commit shows the same.
            for at in [lsn.get(), next.get().saturating_sub(1).max(lsn.get())] {
                let mut txn = past(&self.home, Lsn::new(at)).unwrap();
                let found = read(&mut txn);
                let expected = state
                    .iter()
                    .map(|(name, rows)| ((*name).to_owned(), rows.clone()));
                assert_eq!(found, expected.collect(), "state {index} at {at}");
            }
        }
    }
}

#[test]
fn every_state_is_read_as_it_was_through_checkpoints_compaction_and_restarts() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        for _ in 0..12 {
            for _ in 0..25 {
                world.commit();
            }
            match world.below(4) {
                0 => world.home.restart(),
                1 => world.home.restart_at_once(),
                _ => world.home.checkpoint(),
            }
            world.check(12);
        }
        let runs = world.home.engine().stats();
        assert_eq!(runs.compactions_failed, 0);
    }
}

#[test]
fn the_past_cannot_be_changed_and_the_future_not_be_read() {
    let home = kept(3600);
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let at = home.engine().visible_lsn();
    home.put(&table, 2, 20);
    let mut txn = past(&home, at).unwrap();
    let refused = block_on(txn.insert(&table, Some(key(3)), row(&table, 3, 30)));
    assert!(matches!(refused, Err(Error::PastIsReadOnly)));
    assert!(matches!(
        block_on(txn.lock(&table, &key(1))),
        Err(Error::PastIsReadOnly)
    ));
    let created = block_on(txn.create_table(new_table("u", true)));
    let refused = created.and_then(|_| txn.commit("CREATE TABLE").map(drop));
    assert!(matches!(refused, Err(Error::PastIsReadOnly)));
    let newest = home.engine().visible_lsn();
    let refused = past(&home, newest.plus(1)).err().unwrap();
    assert!(matches!(refused, Error::NotYet { newest: found } if found == newest));
    assert_eq!(
        rows(&mut past(&home, newest).unwrap(), &table),
        [(1, 10), (2, 20)]
    );
}

#[test]
fn without_retention_only_the_present_is_kept_and_a_retention_begins_where_it_was_configured() {
    let mut home = kept(0);
    let table = home.create("t", true);
    home.put(&table, 1, 10);
    let first = home.engine().visible_lsn();
    home.put(&table, 2, 20);
    wait_until("the horizon", || home.engine().horizon() > first);
    assert!(matches!(past(&home, first), Err(Error::HistoryGone { oldest }) if oldest > first));
    drop(table);
    home.options.history = Duration::from_secs(3600);
    home.restart();
    let table = home.table("t");
    let second = home.engine().visible_lsn();
    assert!(matches!(past(&home, first), Err(Error::HistoryGone { .. })));
    assert!(set_committed(&home, &table, 1, 11) > second);
    home.checkpoint();
    assert_eq!(
        rows(&mut past(&home, second).unwrap(), &table),
        [(1, 10), (2, 20)]
    );
    drop(table);
    // Whoever gives history up for a while gets none of it back.
    for seconds in [0, 3600] {
        home.options.history = Duration::from_secs(seconds);
        home.restart();
        let table = home.table("t");
        home.put(&table, 100 + seconds as i32, 0);
    }
    assert!(matches!(past(&home, second), Err(Error::HistoryGone { .. })));
}

fn set_committed(home: &Home, table: &Table, id: i32, value: i64) -> Lsn {
    let mut txn = begin(home);
    assert!(set(&mut txn, table, id, value));
    txn.commit("UPDATE").unwrap().unwrap()
}

#[test]
fn what_is_older_than_the_retention_goes() {
    let mut home = kept(3600);
    let table = home.create("t", true);
    home.put(&table, 1, 0);
    let old = home.engine().visible_lsn();
    assert_eq!(rows(&mut past(&home, old).unwrap(), &table), [(1, 0)]);
    drop(table);
    home.options.history = Duration::from_millis(20);
    home.restart();
    let table = home.table("t");
    let mut value = 0;
    wait_until("the past goes", || {
        value += 1;
        set_committed(&home, &table, 1, value);
        matches!(past(&home, old), Err(Error::HistoryGone { .. }))
    });
    let newest = home.engine().visible_lsn();
    assert_eq!(rows(&mut past(&home, newest).unwrap(), &table), [(1, value)]);
}

#[test]
fn a_time_becomes_the_state_of_then_and_a_restart_knows_it_too() {
    let mut home = kept(60);
    let table = home.create("t", true);
    let mut known = Vec::new();
    for value in 0..4 {
        home.put(&table, value, 0);
        let (lsn, done) = (home.engine().visible_lsn(), Micros::now());
        // The next commit is a moment of its own, and so is the time between.
        wait_until("the clock", || Micros::now().get() > done.get() + 50_000);
        known.push((lsn, Micros::new(done.get() + 20_000)));
    }
    drop(table);
    for restarts in 0..3 {
        let engine = home.engine();
        for (lsn, time) in &known {
            let found = engine.lsn_at(*time).unwrap();
            let state = rows(&mut past(&home, found).unwrap(), &home.table("t"));
            assert_eq!(
                state,
                rows(&mut past(&home, *lsn).unwrap(), &home.table("t")),
                "{restarts}"
            );
            let made = engine.time_of(*lsn).unwrap();
            assert!(made < *time && made.get() > time.get() - 60_000_000);
        }
        let before = known[0].1.get() - 3_600_000_000;
        assert!(matches!(
            engine.lsn_at(Micros::new(before)),
            Err(Error::HistoryGone { .. })
        ));
        let after = Micros::new(Micros::now().get() + 3_600_000_000);
        assert!(matches!(engine.lsn_at(after), Err(Error::NotYet { .. })));
        match restarts {
            0 => home.restart(),
            _ => home.restart_at_once(),
        }
    }
}
