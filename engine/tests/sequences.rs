//! Sequences: no number is handed out twice, whoever draws, and whatever happens to the log.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use scry_engine::*;
use scry_wal::sim::{Fault, Random, SimStorage};
use scry_wal::{Lsn, Record};
use std::sync::Arc;

fn upwards() -> SequenceOptions {
    SequenceOptions {
        ty: DataType::Int8,
        start: 1,
        increment: 1,
        min: 1,
        max: i64::MAX,
        cache: 1,
        cycle: false,
    }
}

fn begin(engine: &Arc<Engine>) -> Txn {
    engine
        .session(SessionInfo::default())
        .begin(Isolation::ReadCommitted)
}

fn create(engine: &Arc<Engine>, name: &str, options: SequenceOptions) -> Lsn {
    let mut txn = begin(engine);
    txn.create_sequence(name, options, None).unwrap();
    txn.commit("CREATE SEQUENCE").unwrap().unwrap()
}

fn sequence(engine: &Arc<Engine>, name: &str) -> Arc<Sequence> {
    Arc::clone(engine.catalog().sequences().named(name).unwrap())
}

fn next(engine: &Arc<Engine>, name: &str) -> i64 {
    sequence(engine, name).next(engine).unwrap().0
}

/// Starts a sequence anew, in a transaction.
fn restart(txn: &mut Txn, name: &str, first: i64) -> Result<(), Error> {
    let known = Arc::clone(txn.sequences().named(name).unwrap());
    let def = known.def.clone();
    block_on(txn.redefine_sequence(&known, def, Some(first))).map(drop)
}

#[test]
fn a_clean_restart_goes_on_without_a_gap_and_a_crash_with_a_small_one() {
    let mut home = Home::new();
    create(home.engine(), "s", upwards());
    assert_eq!([next(home.engine(), "s"), next(home.engine(), "s")], [1, 2]);
    home.restart();
    assert_eq!(next(home.engine(), "s"), 3);
    // Only the record of the last reservation is in the log.
    home.restart_at_once();
    assert_eq!(next(home.engine(), "s"), 36);
    // A checkpoint keeps what is reserved, and not what was drawn.
    home.put(&home.create("t", true), 1, 1);
    home.checkpoint();
    home.restart_at_once();
    assert_eq!(next(home.engine(), "s"), 69);
}

#[test]
fn drawing_is_not_undone_but_creating_and_restarting_are() {
    let mut home = Home::new();
    let engine = Arc::clone(home.engine());
    create(&engine, "s", upwards());
    let mut txn = begin(&engine);
    let created = txn.create_sequence("gone", upwards(), None).unwrap();
    assert_eq!(created.next(&engine).unwrap().0, 1);
    assert_eq!(next(&engine, "s"), 1);
    restart(&mut txn, "s", 100).unwrap();
    let own = Arc::clone(txn.sequences().named("s").unwrap());
    assert_eq!(own.next(&engine).unwrap().0, 100);
    // Others go on where they were.
    assert_eq!(next(&engine, "s"), 2);
    txn.rollback();
    assert!(engine.catalog().sequences().named("gone").is_none());
    assert_eq!(next(&engine, "s"), 3);
    let mut txn = begin(&engine);
    restart(&mut txn, "s", 100).unwrap();
    let own = Arc::clone(txn.sequences().named("s").unwrap());
    assert_eq!(own.next(&engine).unwrap().0, 100);
    txn.commit("ALTER SEQUENCE").unwrap().unwrap();
    drop((created, own));
    assert_eq!(next(&engine, "s"), 101);
    drop(engine);
    home.restart_at_once();
    assert_eq!(next(home.engine(), "s"), 133);
}

#[test]
fn numbers_drawn_before_the_commit_that_creates_their_sequence_stay_drawn() {
    for checkpoint in [false, true] {
        let mut home = Home::new();
        let engine = Arc::clone(home.engine());
        let table = home.create("t", true);
        let mut txn = begin(&engine);
        let made = txn.create_sequence("s", upwards(), None).unwrap();
        assert_eq!(made.next(&engine).unwrap().0, 1);
        home.put(&table, 1, 1);
        if checkpoint {
            // The reservation lies before the checkpoint, the sequence behind it.
            home.checkpoint();
        }
        txn.commit("CREATE SEQUENCE").unwrap().unwrap();
        assert_eq!(next(&engine, "s"), 2);
        drop((made, engine, table));
        home.restart_at_once();
        assert_eq!(next(home.engine(), "s"), 34, "checkpoint: {checkpoint}");
    }
}

#[test]
fn a_name_is_that_of_one_relation_and_two_cannot_take_it_at_once() {
    let home = Home::new();
    let engine = home.engine();
    create(engine, "s", upwards());
    home.create("t", true);
    let mut txn = begin(engine);
    for taken in ["s", "t", "t_pkey"] {
        let refused = txn.create_sequence(taken, upwards(), None);
        assert!(matches!(refused, Err(Error::DuplicateTable { .. })), "{taken}");
    }
    let refused = block_on(txn.create_table(new_table("s", true)));
    assert!(matches!(refused, Err(Error::DuplicateTable { .. })));
    let mut other = begin(engine);
    txn.create_sequence("both", upwards(), None).unwrap();
    block_on(other.create_table(new_table("both", true))).unwrap();
    txn.commit("").unwrap().unwrap();
    assert!(matches!(other.commit(""), Err(Error::DuplicateTable { .. })));
    // What the first has altered, the second has not seen.
    let mut first = begin(engine);
    let mut second = begin(engine);
    restart(&mut first, "s", 7).unwrap();
    let known = Arc::clone(second.sequences().named("s").unwrap());
    first.commit("").unwrap().unwrap();
    let refused = block_on(second.drop_sequence(&known));
    assert!(matches!(refused, Err(Error::TableChanged { .. })));
    second.rollback();
    let mut third = begin(engine);
    let known = Arc::clone(third.sequences().named("s").unwrap());
    block_on(third.drop_sequence(&known)).unwrap();
    third.commit("").unwrap().unwrap();
    assert!(!engine.catalog().has_relation("s"));
}

#[test]
fn the_end_is_an_error_or_the_beginning_and_set_stays_within_the_bounds() {
    let home = Home::new();
    let engine = home.engine();
    let few = SequenceOptions { max: 3, ..upwards() };
    create(engine, "few", few.clone());
    create(engine, "ring", SequenceOptions { cycle: true, ..few });
    let draw = |name| sequence(engine, name).next(engine).map(|(number, _)| number);
    for _ in 0..2 {
        for number in 1..=3 {
            assert_eq!(draw("ring").unwrap(), number);
        }
    }
    for number in 1..=3 {
        assert_eq!(draw("few").unwrap(), number);
    }
    for _ in 0..2 {
        let refused = draw("few").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "nextval: reached maximum value of sequence \"few\" (3)"
        );
    }
    let set = |value, called| sequence(engine, "few").set(engine, value, called);
    assert!(matches!(set(4, true), Err(Error::SequenceValue { .. })));
    set(2, false).unwrap();
    assert_eq!(sequence(engine, "few").position(), (2, false));
    assert_eq!(draw("few").unwrap(), 2);
    set(2, true).unwrap();
    assert_eq!(draw("few").unwrap(), 3);
}

#[test]
fn threads_draw_different_numbers_and_seldom_write_to_the_log() {
    const THREADS: usize = 8;
    const DRAWS: usize = 5000;
    let home = Home::new();
    let engine = home.engine();
    create(engine, "s", upwards());
    let drawn = std::thread::scope(|scope| {
        let draw = || (0..DRAWS).map(|_| next(engine, "s")).collect::<Vec<_>>();
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(draw)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    let mut drawn = drawn;
    drawn.sort_unstable();
    let all: Vec<i64> = (1..=(THREADS * DRAWS) as i64).collect();
    assert_eq!(drawn, all);
    let last = sequence(engine, "s").next(engine).unwrap().1;
    engine.log().wait_durable(last).unwrap();
    let mut tail = engine.log().tail(Lsn::ZERO);
    let mut records = 0;
    while tail.position() < engine.log().durable_lsn() {
        let frame = tail.next(std::time::Duration::from_secs(10)).unwrap().unwrap();
        let is_sequence = |record: &Record<'_>| matches!(record, Record::Sequence(_));
        records += frame
            .records()
            .filter(|record| is_sequence(&record.as_ref().unwrap().1))
            .count();
    }
    // One for each 33 numbers, and that of the commit which made the sequence.
    assert_eq!(records, (THREADS * DRAWS + 1).div_ceil(33) + 1);
}

/// What became of a sequence since one number was set or drawn first: the numbers that may come next after a crash.
#[derive(Debug)]
struct Era {
    /// The least number that the first draw may give.
    first: i64,
    /// The greatest that was drawn, and the greatest of which somebody was told.
    drawn: i64,
    told: i64,
}

impl Era {
    fn beginning_at(first: i64) -> Era {
        Era {
            first,
            drawn: first - 1,
            told: first - 1,
        }
    }

    fn allows(&self, number: i64) -> bool {
        number > self.told && number >= self.first && number <= self.drawn + 34
    }
}

/// The eras that a crash may lead back to: from the last that is certain on.
struct Model {
    eras: Vec<Era>,
}

impl Model {
    fn now(&mut self) -> &mut Era {
        self.eras.last_mut().unwrap()
    }

    fn begin(&mut self, first: i64, is_certain: bool) {
        if is_certain {
            self.eras.clear();
        }
        self.eras.push(Era::beginning_at(first));
    }

    /// A number was drawn; told: the log was durable beyond its LSN.
    fn drew(&mut self, number: i64, told: bool) {
        let now = self.now();
        assert_eq!(number, now.drawn + 1, "in one life there are no gaps");
        now.drawn = number;
        if told {
            now.told = number;
            let now = self.eras.pop().unwrap();
            self.eras = vec![now];
        }
    }

    /// The first number of a new life.
    fn came_back(&mut self, number: i64) {
        let allowed = self.eras.iter().any(|era| era.allows(number));
        assert!(allowed, "{number} after {:?}", self.eras);
        self.eras = vec![Era {
            first: number,
            drawn: number,
            told: number - 1,
        }];
    }
}

/// Draws, sets and restarts until the disk fails.
fn live(engine: &Arc<Engine>, random: &mut Random, model: &mut Model) -> Result<(), Error> {
    let mut session = engine.session(SessionInfo::default());
    let durable = |lsn| engine.log().wait_durable(lsn).is_ok();
    let (number, lsn) = sequence(engine, "s").next(engine)?;
    model.came_back(number);
    if durable(lsn) {
        model.now().told = number;
    }
    for round in 0..random.below(200) {
        match random.below(40) {
            0 => {
                let value = 1 + random.below(1000) as i64;
                let called = random.below(2) == 0;
                let first = value + i64::from(called);
                let lsn = sequence(engine, "s").set(engine, value, called)?;
                model.begin(first, random.below(2) == 0 && durable(lsn));
            }
            1 => {
                let first = 1 + random.below(1000) as i64;
                let mut txn = session.begin(Isolation::ReadCommitted);
                restart(&mut txn, "s", first)?;
                if random.below(3) == 0 {
                    txn.rollback();
                    continue;
                }
                let lsn = txn.commit("")?.unwrap();
                model.begin(first, random.below(2) == 0 && durable(lsn));
            }
            2 => drop(engine.checkpoint()),
            3 => {
                // A commit that has the number: durable, it says that the number was drawn.
                let (number, _) = sequence(engine, "s").next(engine)?;
                let mut txn = session.begin(Isolation::ReadCommitted);
                let table = Arc::clone(txn.catalog().table("t").unwrap());
                block_on(txn.insert(&table, None, row(&table, round as i32, number)))?;
                let lsn = txn.commit("")?.unwrap();
                model.drew(number, durable(lsn));
            }
            _ => {
                let (number, lsn) = sequence(engine, "s").next(engine)?;
                model.drew(number, random.below(4) == 0 && durable(lsn));
            }
        }
    }
    Ok(())
}

#[test]
fn after_any_crash_no_number_is_handed_out_again_and_set_stays_set() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut options = options();
        options.log.backend = scry_wal::Backend::Auto;
        let mut home = Home::on_disk(options, SimStorage::new(seed, false));
        home.create("t", false);
        let lsn = create(home.engine(), "s", upwards());
        home.engine().log().wait_durable(lsn).unwrap();
        let mut model = Model {
            eras: vec![Era::beginning_at(1)],
        };
        for _ in 0..5 {
            let faults = [
                Fault::Crash,
                Fault::WriteFails,
                Fault::SyncFails,
                Fault::Short(700),
            ];
            let disk = home.disk.as_ref().unwrap();
            disk.fail_after(random.below(80), faults[random.below(4) as usize]);
            // The disk's failure ends it, or else the power does.
            let _ = live(home.engine(), &mut random, &mut model);
            home.crash(random.next_number());
            home.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        let (number, _) = sequence(home.engine(), "s").next(home.engine()).unwrap();
        model.came_back(number);
    }
}
