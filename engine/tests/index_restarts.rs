//! What restarts make of indexes: wherever the last checkpoint was, they have what their table has.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use scry_engine::*;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

const KEYS: i32 = 6;
const VALUES: i64 = 6;

/// A change of one row, made only where no two rows get one value.
#[derive(Clone, Debug)]
enum Change {
    Insert(i32, i64),
    Update(i32, i64),
    Delete(i32),
    /// To another primary key.
    Move(i32, i32),
}

#[derive(Clone, Debug)]
enum Step {
    Transaction(Vec<Change>),
    CreateIndex,
    DropIndex,
    Truncate,
    Checkpoint,
    Restart { clean: bool },
}

fn change() -> impl Strategy<Value = Change> {
    let (key, value) = (0..KEYS, 0..VALUES);
    prop_oneof![
        4 => (key.clone(), value.clone()).prop_map(|(key, value)| Change::Insert(key, value)),
        4 => (key.clone(), value).prop_map(|(key, value)| Change::Update(key, value)),
        3 => key.clone().prop_map(Change::Delete),
        1 => (key.clone(), key).prop_map(|(from, to)| Change::Move(from, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(change(), 1..12).prop_map(Step::Transaction),
        1 => Just(Step::CreateIndex),
        1 => Just(Step::DropIndex),
        1 => Just(Step::Truncate),
        4 => Just(Step::Checkpoint),
        3 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
    ]
}

type State = BTreeMap<i32, i64>;

fn begin(home: &Home) -> Txn {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.statement();
    txn
}

/// Makes a change, unless the state forbids it.
fn make(txn: &mut Txn, table: &Table, state: &mut State, change: &Change) {
    let is_free = |state: &State, value| state.values().all(|other| *other != value);
    match *change {
        Change::Insert(id, value) if !state.contains_key(&id) && is_free(state, value) => {
            insert(txn, table, id, value);
            state.insert(id, value);
        }
        Change::Update(id, value) if state.contains_key(&id) && is_free(state, value) => {
            assert!(set(txn, table, id, value));
            state.insert(id, value);
        }
        Change::Delete(id) if state.contains_key(&id) => {
            assert!(delete(txn, table, id));
            state.remove(&id);
        }
        Change::Move(from, to) if state.contains_key(&from) && !state.contains_key(&to) => {
            let value = state.remove(&from).unwrap();
            block_on(txn.lock(table, &key(from))).unwrap().unwrap();
            let moved = block_on(txn.update_key(table, &key(from), key(to), row(table, to, value)));
            assert_eq!(moved.unwrap(), InsertOutcome::Inserted(key(to)));
            state.insert(to, value);
        }
        _ => {}
    }
}

/// That rows and indexes are what the state says, and that the unique index refuses each value that is there.
fn check(home: &Home, state: &State) {
    let table = home.table("t");
    let expected: Vec<(i32, i64)> = state.iter().map(|(id, value)| (*id, *value)).collect();
    assert_eq!(home.rows(&table), expected);
    home.check_indexes(&table);
    for (id, value) in state {
        let mut txn = begin(home);
        let refused = try_insert(&mut txn, &table, 99, *value).unwrap();
        assert!(
            matches!(&refused, InsertOutcome::Taken { index: 0, key: owner } if *owner == key(*id)),
            "{refused:?}"
        );
    }
}

fn run(spill_bytes: usize, steps: &[Step]) {
    let mut options = options();
    options.spill_bytes = spill_bytes;
    // What an index is filled with at a start goes into files, too, where changes are written ahead early.
    options.move_bytes = spill_bytes as u64;
    let mut home = Home::with(options);
    let mut new = new_table("t", true);
    new.indexes.push(index("t_value_key", true));
    drop(home.create_as(new));
    let mut state = State::new();
    for step in steps {
        let table = home.table("t");
        let has_second = table.indexes.len() > 1;
        let mut txn = begin(&home);
        match step {
            Step::Transaction(changes) => {
                for change in changes {
                    make(&mut txn, &table, &mut state, change);
                }
                txn.commit("").unwrap();
            }
            Step::CreateIndex if !has_second => {
                block_on(txn.create_index(&table, index("by_value", false))).unwrap();
                txn.commit("").unwrap();
            }
            Step::DropIndex if has_second => {
                block_on(txn.drop_index(&table, "by_value")).unwrap();
                txn.commit("").unwrap();
            }
            Step::CreateIndex | Step::DropIndex => {}
            Step::Truncate => {
                block_on(txn.truncate(&table)).unwrap();
                txn.commit("").unwrap();
                state.clear();
            }
            Step::Checkpoint => home.checkpoint(),
            Step::Restart { clean } => {
                drop((txn, table));
                match clean {
                    true => home.restart(),
                    false => home.restart_at_once(),
                }
                check(&home, &state);
            }
        }
    }
    check(&home, &state);
    // What replay has put over the runs gets there, too.
    for _ in 0..2 {
        home.restart();
        check(&home, &state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn indexes_have_what_their_table_has_wherever_the_checkpoints_were(
        spills in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(if spills { 60 } else { usize::MAX }, &steps);
    }
}

#[test]
fn opening_after_a_checkpoint_reads_no_row_for_an_index() {
    let mut home = Home::new();
    let mut new = new_table("t", true);
    new.indexes.push(index("t_value_key", true));
    let table = home.create_as(new);
    let mut txn = begin(&home);
    for id in 0..500 {
        insert(&mut txn, &table, id, i64::from(-id));
    }
    txn.commit("INSERT").unwrap().unwrap();
    drop(table);
    home.restart();
    assert_eq!(home.engine().memory_bytes(), 0, "nothing was put into memory");
    home.check_indexes(&home.table("t"));
}

#[test]
fn a_key_may_be_taken_in_the_log_before_it_is_given_up() {
    // The row that takes the key is touched first, so its record is the first, too.
    let changes = [
        Change::Update(2, 3),
        Change::Delete(1),
        Change::Update(2, 1),
        Change::Insert(4, 2),
        Change::Delete(4),
        Change::Update(3, 2),
    ];
    let mut steps = vec![Step::Transaction(vec![
        Change::Insert(1, 1),
        Change::Insert(2, 2),
        Change::Insert(3, 5),
    ])];
    for checkpoint_first in [true, false] {
        if checkpoint_first {
            steps.push(Step::Checkpoint);
        }
        steps.push(Step::Transaction(changes.to_vec()));
        steps.push(Step::Restart { clean: false });
        run(usize::MAX, &steps);
        run(60, &steps);
        steps.truncate(1);
    }
}

#[test]
fn an_index_made_behind_the_checkpoint_is_filled_from_the_rows_at_its_commit() {
    for spill_bytes in [60, usize::MAX] {
        let mut options = options();
        options.spill_bytes = spill_bytes;
        // What an index is filled with at a start goes into files, too, where changes are written ahead early.
        options.move_bytes = spill_bytes as u64;
        // No checkpoint but those asked for.
        options.checkpoint_log_bytes = 0;
        options.checkpoint_dirty_bytes = 0;
        let mut home = Home::with(options);
        let table = home.create("t", true);
        home.put(&table, 1, 10);
        home.put(&table, 2, 20);
        home.checkpoint();
        let mut txn = begin(&home);
        assert!(set(&mut txn, &table, 1, 11));
        let indexed = block_on(txn.create_index(&table, index("i", true))).unwrap();
        insert(&mut txn, &indexed, 3, 30);
        assert!(delete(&mut txn, &indexed, 2));
        txn.commit("CREATE INDEX").unwrap().unwrap();
        home.put(&indexed, 4, 20);
        drop((table, indexed));
        for _ in 0..2 {
            home.restart_at_once();
            let table = home.table("t");
            assert_eq!(home.rows(&table), [(1, 11), (3, 30), (4, 20)]);
            home.check_indexes(&table);
            let mut txn = begin(&home);
            assert!(delete(&mut txn, &table, 3));
            insert(&mut txn, &table, 3, 30);
            txn.commit("").unwrap();
            home.checkpoint();
        }
        let table: Arc<Table> = home.table("t");
        home.check_indexes(&table);
    }
}

/// Rows enough for filling an index to take several turns.
const MANY: i32 = 6_000;

/// Drives a future, with everything written into files and taken out of memory at each of its turns. Answers the most memory that rows took then.
fn squeezed<T>(home: &Home, future: impl Future<Output = T>) -> (T, u64) {
    let mut future = pin!(future);
    let mut most = 0;
    loop {
        if let Poll::Ready(done) = poll_once(future.as_mut()) {
            return (done, most);
        }
        home.checkpoint();
        most = most.max(home.engine().memory_bytes());
    }
}

#[test]
fn filling_an_index_or_keying_a_table_anew_needs_no_memory_for_all_of_it() {
    let mut home = Home::new();
    let table = home.create("t", false);
    let mut txn = begin(&home);
    for id in 0..MANY {
        insert(&mut txn, &table, id, i64::from(-id));
    }
    txn.commit("INSERT").unwrap().unwrap();
    home.checkpoint();
    let whole = u64::try_from(MANY).unwrap() * 100;

    let mut txn = begin(&home);
    insert(&mut txn, &table, MANY, 1);
    let (made, most) = squeezed(&home, txn.create_index(&table, index("i", true)));
    let indexed = made.unwrap();
    assert!(most < whole / 10, "{most} bytes");
    txn.commit("CREATE INDEX").unwrap().unwrap();
    home.check_indexes(&indexed);

    let mut txn = begin(&home);
    insert(&mut txn, &indexed, MANY + 1, 2);
    let (made, most) = squeezed(&home, txn.add_primary_key(&indexed, primary_key("t")));
    let keyed = made.unwrap();
    assert!(most < whole / 10, "{most} bytes");
    assert!(delete(&mut txn, &keyed, 0));
    txn.commit("ALTER TABLE").unwrap().unwrap();

    // One and the same value in rows of which the first has left memory.
    home.put(&keyed, -1, 77);
    home.put(&keyed, -2, 78);
    let mut txn = begin(&home);
    let bare = block_on(txn.drop_index(&keyed, "i")).unwrap();
    assert!(set(&mut txn, &bare, -2, -i64::from(MANY) + 1));
    txn.commit("").unwrap().unwrap();
    let mut txn = begin(&home);
    let (refused, _) = squeezed(&home, txn.create_index(&bare, index("i", true)));
    assert!(matches!(refused.map(drop), Err(Error::UniqueViolation { .. })));
    drop((txn, table, indexed, keyed, bare));
    for _ in 0..2 {
        home.restart();
        let table = home.table("t");
        assert_eq!(home.rows(&table).len(), usize::try_from(MANY).unwrap() + 3);
        home.check_replica(&table);
    }
}

#[test]
fn a_relations_name_is_not_given_twice_whatever_it_is_of() {
    let home = Home::new();
    let mut new = new_table("t", true);
    new.indexes.push(index("i", false));
    let table = home.create_as(new);
    for name in ["t", "i", "t_pkey"] {
        let mut txn = begin(&home);
        let made = block_on(txn.create_table(new_table(name, false))).map(drop);
        assert!(matches!(made, Err(Error::DuplicateTable { .. })), "{name}");
    }
    let mut txn = begin(&home);
    let def = TableDef {
        name: "i".to_owned(),
        ..table.def.clone()
    };
    let renamed = block_on(txn.redefine(&table, def)).map(drop);
    assert!(matches!(renamed, Err(Error::DuplicateTable { .. })));
    // Of two at once, the second to commit is told.
    let (mut first, mut second) = (begin(&home), begin(&home));
    block_on(first.create_index(&table, index("x", false))).unwrap();
    block_on(second.create_table(new_table("x", false))).unwrap();
    first.commit("").unwrap().unwrap();
    assert!(matches!(second.commit(""), Err(Error::DuplicateTable { .. })));
}
