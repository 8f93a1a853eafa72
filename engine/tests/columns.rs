//! Columns that come and go: random changes of a table and of its columns against a model that keeps every state whole.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use scry_engine::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

const KEYS: i32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Put(i32, i64),
    Update(i32, usize, i64),
    Delete(i32),
    Add(bool, Option<i64>),
    Drop(usize),
    Index(usize),
    Savepoint,
    RollbackTo,
    Release,
    Commit,
    Rollback,
    /// Another transaction begins to read, and goes on with what it sees.
    Look,
    Truncate,
    Checkpoint,
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (key, number) = (0..KEYS, 0..100i64);
    prop_oneof![
        8 => (key.clone(), number.clone()).prop_map(|(key, value)| Step::Put(key, value)),
        8 => (key.clone(), 0..9usize, number.clone()).prop_map(|(key, column, value)| Step::Update(key, column, value)),
        3 => key.prop_map(Step::Delete),
        3 => (any::<bool>(), proptest::option::of(number)).prop_map(|(text, missing)| Step::Add(text, missing)),
        2 => (0..9usize).prop_map(Step::Drop),
        1 => (0..9usize).prop_map(Step::Index),
        1 => Just(Step::Savepoint),
        1 => Just(Step::RollbackTo),
        1 => Just(Step::Release),
        4 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        2 => Just(Step::Look),
        1 => Just(Step::Truncate),
        1 => Just(Step::Checkpoint),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

/// A value of a column: small numbers, as text where the column holds texts.
fn value(ty: DataType, number: Option<i64>) -> Value {
    match (ty, number) {
        (_, None) => Value::Null,
        (DataType::Text, Some(number)) => Value::Text("x".repeat(number as usize % 7)),
        (_, Some(number)) => Value::Int8(number),
    }
}

/// A table with all that it ever had: of each column whether it is there, and its value in each row.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    columns: Vec<(DataType, bool)>,
    rows: BTreeMap<i32, Vec<Value>>,
}

impl State {
    fn live(&self) -> Vec<usize> {
        (2..self.columns.len())
            .filter(|column| self.columns[*column].1)
            .collect()
    }

    /// The rows as somebody sees them who knows the columns that are there.
    fn shown(&self) -> Vec<Vec<Value>> {
        let shown = |row: &Vec<Value>| {
            let values = row.iter().zip(&self.columns);
            values
                .filter(|(_, column)| column.1)
                .map(|(value, _)| value.clone())
                .collect()
        };
        self.rows.values().map(shown).collect()
    }
}

fn seen(txn: &mut Txn) -> Vec<Vec<Value>> {
    let table = Arc::clone(txn.catalog().table("t").unwrap());
    let mut rows = Vec::new();
    txn.scan(&table, &KeyRange::all(), &mut |_, version| {
        let row = table.layout.row(&version.row);
        rows.push(
            table
                .def
                .live_columns()
                .map(|(column, _)| row.get(column).to_value())
                .collect(),
        );
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

struct World {
    home: Home,
    committed: State,
    now: State,
    open: Option<Txn>,
    savepoints: Vec<(SavepointId, State)>,
    looking: Option<(Txn, State)>,
}

impl World {
    fn new(spills: bool) -> World {
        let home = Home::with(options_that_spill(spills));
        home.create("t", true);
        let state = State {
            columns: vec![(DataType::Int4, true), (DataType::Int8, true)],
            rows: BTreeMap::new(),
        };
        World {
            home,
            committed: state.clone(),
            now: state,
            open: None,
            savepoints: Vec::new(),
            looking: None,
        }
    }

    fn txn(&mut self) -> &mut Txn {
        let session = self.home.session();
        let open = self.open.get_or_insert_with(|| {
            let mut session = session;
            session.begin(Isolation::ReadCommitted)
        });
        open.statement();
        open
    }

    fn table(&mut self) -> Arc<Table> {
        Arc::clone(self.txn().catalog().table("t").unwrap())
    }

    fn redefine(&mut self, change: impl FnOnce(&mut TableDef)) {
        let table = self.table();
        let mut def = table.def.clone();
        change(&mut def);
        block_on(self.txn().redefine(&table, def)).unwrap();
    }

    fn end(&mut self, commit: bool) {
        self.savepoints.clear();
        let Some(txn) = self.open.take() else { return };
        match commit {
            true => {
                txn.commit("").unwrap();
                self.committed = self.now.clone();
            }
            false => {
                txn.rollback();
                self.now = self.committed.clone();
            }
        }
    }

    fn step(&mut self, step: Step) {
        let table = self.table();
        match step {
            Step::Put(key, number) => {
                if self.now.rows.contains_key(&key) {
                    return;
                }
                let values: Vec<Value> = (0..self.now.columns.len())
                    .map(|column| match (column, self.now.columns[column]) {
                        (0, _) => Value::Int4(key),
                        (_, (ty, true)) => value(ty, Some(number)),
                        (_, (_, false)) => Value::Null,
                    })
                    .collect();
                let row = table.layout.encode(&values).unwrap();
                let inserted = block_on(self.txn().insert(&table, Some(common::key(key)), row)).unwrap();
                assert!(matches!(inserted, InsertOutcome::Inserted(_)));
                self.now.rows.insert(key, values);
            }
            Step::Update(key, column, number) => {
                let column = *[1].iter().chain(&self.now.live()).nth(column).unwrap_or(&1);
                let found = block_on(self.txn().lock(&table, &common::key(key))).unwrap();
                assert_eq!(found.is_some(), self.now.rows.contains_key(&key));
                let (Some(found), ty) = (found, self.now.columns[column].0) else {
                    return;
                };
                let new = value(ty, Some(number).filter(|number| number % 5 != 0));
                let row = table
                    .layout
                    .update(&found.row, &[(column, new.as_datum())])
                    .unwrap();
                block_on(self.txn().update(&table, &common::key(key), row)).unwrap();
                self.now.rows.get_mut(&key).unwrap()[column] = new;
            }
            Step::Delete(key) => {
                let deleted = delete(self.txn(), &table, key);
                assert_eq!(deleted, self.now.rows.remove(&key).is_some());
            }
            Step::Add(text, missing) => {
                let ty = if text { DataType::Text } else { DataType::Int8 };
                let missing = value(ty, missing);
                let name = format!("c{}", self.now.columns.len());
                let column = ColumnDef {
                    missing: Some(missing.clone()),
                    ..ColumnDef::new(name, ty)
                };
                self.redefine(|def| def.columns.push(column));
                self.now.columns.push((ty, true));
                self.now
                    .rows
                    .values_mut()
                    .for_each(|row| row.push(missing.clone()));
            }
            Step::Drop(which) => {
                let Some(column) = self.now.live().get(which).copied() else {
                    return;
                };
                self.redefine(|def| {
                    def.indexes.retain(|index| !index.columns.contains(&column));
                    def.drop_column(column);
                });
                self.now.columns[column].1 = false;
            }
            Step::Index(which) => {
                let Some(column) = self.now.live().get(which).copied() else {
                    return;
                };
                let new = NewIndex {
                    name: format!("i{column}"),
                    columns: vec![column],
                    ..index("", false)
                };
                if !table.def.indexes.iter().any(|index| index.name == new.name) {
                    block_on(self.txn().create_index(&table, new)).unwrap();
                }
            }
            Step::Savepoint => {
                let id = self.txn().savepoint().unwrap();
                self.savepoints.push((id, self.now.clone()));
            }
            Step::RollbackTo => {
                if let Some((id, state)) = self.savepoints.last().cloned() {
                    block_on(self.txn().rollback_to(id)).unwrap();
                    self.now = state;
                }
            }
            Step::Release => {
                if let Some((id, _)) = self.savepoints.pop() {
                    self.txn().release(id).unwrap();
                }
            }
            Step::Commit => self.end(true),
            Step::Rollback => self.end(false),
            Step::Look => {
                let mut txn = self.home.session().begin(Isolation::RepeatableRead);
                txn.statement();
                self.looking = Some((txn, self.committed.clone()));
            }
            Step::Truncate => {
                block_on(self.txn().truncate(&table)).unwrap();
                self.now.rows.clear();
            }
            Step::Checkpoint => self.home.checkpoint(),
            Step::Restart(clean) => {
                self.end(clean);
                self.looking = None;
                drop(table);
                match clean {
                    true => self.home.restart(),
                    false => {
                        // What is acknowledged is what the log has.
                        let engine = self.home.engine();
                        engine.log().wait_durable(engine.visible_lsn()).unwrap();
                        self.home.restart_at_once();
                    }
                }
            }
        }
        block_on(self.txn().room()).unwrap();
        let expected = self.now.shown();
        assert_eq!(seen(self.txn()), expected);
        self.check_indexes();
        if let Some((txn, state)) = &mut self.looking {
            txn.statement();
            assert_eq!(seen(txn), state.shown(), "by an older snapshot");
        }
    }

    /// Each index finds as many rows as there are, in the order of its column.
    fn check_indexes(&mut self) {
        let table = self.table();
        for number in 0..table.indexes.len() {
            let column = table.indexes[number].def.columns[0];
            let mut cursor = self
                .txn()
                .begin_index_scan(&table, number, KeyRange::all())
                .unwrap();
            let mut found = Vec::new();
            for (key, entry) in cursor.next_batch(usize::MAX).unwrap() {
                let row = self.txn().get_indexed(&table, number, &key, &entry.row).unwrap();
                found.push(table.layout.row(&row.unwrap().row).get(column).to_value());
            }
            let mut expected: Vec<Value> = self.now.rows.values().map(|row| row[column].clone()).collect();
            expected.sort_by(|a, b| a.as_datum().compare(&b.as_datum()));
            assert_eq!(found, expected);
        }
    }
}

fn run(spills: bool, steps: Vec<Step>) {
    let mut world = World::new(spills);
    for step in steps {
        world.step(step);
    }
    world.step(Step::Commit);
    world.step(Step::Restart(false));
    world.end(true);
    let table = world.home.table("t");
    world.home.check_replica(&table);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_table_shows_the_columns_and_values_of_the_model(steps in proptest::collection::vec(step(), 1..160)) {
        run(false, steps);
    }

    #[test]
    fn writing_ahead_changes_nothing_of_it(steps in proptest::collection::vec(step(), 1..160)) {
        run(true, steps);
    }
}

#[test]
fn a_definition_whose_columns_do_not_fit_its_data_is_refused() {
    let home = Home::new();
    let table = home.create("t", true);
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let mut refused = |change: &dyn Fn(&mut TableDef)| {
        let mut def = table.def.clone();
        change(&mut def);
        let error = block_on(txn.redefine(&table, def)).unwrap_err();
        assert!(matches!(error, Error::InvalidDefinition { .. }), "{error}");
    };
    let column = |missing| ColumnDef {
        missing: Some(missing),
        ..ColumnDef::new("c", DataType::Int8)
    };
    refused(&|def| def.columns.push(column(Value::Text("no number".to_owned()))));
    refused(&|def| {
        let name = "id".to_owned();
        def.columns.push(ColumnDef {
            name,
            ..column(Value::Null)
        });
    });
    refused(&|def| def.drop_column(0));
    refused(&|def| {
        def.columns.push(ColumnDef {
            missing: Some(Value::Text("x".repeat(MISSING_BYTES_MAX))),
            ..ColumnDef::new("c", DataType::Text)
        });
    });
}
