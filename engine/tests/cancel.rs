//! Statements that are cancelled at any moment, also between a lock's being granted and its owner's hearing of it. Whatever
//! is cancelled, the transaction goes on from its savepoint, nobody waits for a lock that nobody has, and the log
//! says what memory says.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use scry_engine::*;
use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

const SESSIONS: usize = 4;
const KEYS: i32 = 3;

#[derive(Clone, Debug)]
enum Statement {
    Insert(i32),
    Add(i32),
    Delete(i32),
    Lock(i32),
    Truncate,
}

#[derive(Clone, Debug)]
enum Step {
    /// Begins a statement, or looks whether the one under way has come further.
    Go(Statement),
    Cancel,
    Commit,
    Rollback,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    let statement = prop_oneof![
        4 => key.clone().prop_map(Statement::Insert),
        4 => key.clone().prop_map(Statement::Add),
        2 => key.clone().prop_map(Statement::Delete),
        1 => key.prop_map(Statement::Lock),
        3 => Just(Statement::Truncate),
    ];
    prop_oneof![
        12 => statement.prop_map(Step::Go),
        3 => Just(Step::Cancel),
        3 => Just(Step::Commit),
        1 => Just(Step::Rollback),
    ]
}

async fn run(txn: &mut Txn, statement: &Statement) -> Result<(), Error> {
    txn.statement();
    let table = Arc::clone(txn.catalog().table("t").unwrap());
    match *statement {
        Statement::Insert(id) => drop(txn.insert(&table, Some(key(id)), row(&table, id, 1)).await?),
        Statement::Truncate => drop(txn.truncate(&table).await?),
        Statement::Add(id) | Statement::Delete(id) | Statement::Lock(id) => {
            let Some(found) = txn.lock(&table, &key(id)).await? else {
                return Ok(());
            };
            match statement {
                Statement::Add(_) => {
                    let value = decode(&table, &found.row).1 + 1;
                    txn.update(&table, &key(id), row(&table, id, value)).await?;
                }
                Statement::Delete(_) => txn.delete(&table, &key(id)).await?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// A statement in its transaction. It ends with its result, or with `None` when it was cancelled.
type Running = Pin<Box<dyn Future<Output = (Txn, Option<Result<(), Error>>)>>>;

fn begin_statement(mut txn: Txn, statement: Statement, cancelled: Rc<Cell<bool>>) -> Running {
    Box::pin(async move {
        let result = {
            let mut work = pin!(run(&mut txn, &statement));
            std::future::poll_fn(|cx| match cancelled.get() {
                true => Poll::Ready(None),
                false => work.as_mut().poll(cx).map(Some),
            })
            .await
        };
        (txn, result)
    })
}

#[derive(Default)]
struct Session {
    idle: Option<(Txn, SavepointId)>,
    running: Option<(Running, SavepointId, Rc<Cell<bool>>)>,
}

impl Session {
    fn poll(&mut self) {
        let Some((running, savepoint, _)) = &mut self.running else {
            return;
        };
        let savepoint = *savepoint;
        let Poll::Ready((mut txn, result)) = poll_once(running.as_mut()) else {
            return;
        };
        self.running = None;
        match result {
            Some(Ok(())) => self.idle = Some((txn, savepoint)),
            Some(Err(Error::Deadlock { .. } | Error::TableChanged { .. })) | None => {
                block_on(txn.rollback_to(savepoint)).unwrap();
                self.idle = Some((txn, savepoint));
            }
            Some(Err(Error::SerializationFailure { .. })) => txn.rollback(),
            Some(Err(error)) => panic!("{error}"),
        }
    }

    fn step(&mut self, home: &Home, repeatable: bool, step: Step) {
        match step {
            Step::Go(statement) => {
                if self.running.is_none() {
                    let (mut txn, _) = self.idle.take().unwrap_or_else(|| {
                        let isolation = match repeatable {
                            true => Isolation::RepeatableRead,
                            false => Isolation::ReadCommitted,
                        };
                        let mut txn = home.session().begin(isolation);
                        let savepoint = txn.savepoint().unwrap();
                        (txn, savepoint)
                    });
                    // What a cancelled statement did is undone, what the one before it did is not.
                    let savepoint = txn.savepoint().unwrap();
                    let cancelled = Rc::default();
                    let running = begin_statement(txn, statement, Rc::clone(&cancelled));
                    self.running = Some((running, savepoint, cancelled));
                }
                self.poll();
            }
            Step::Cancel => {
                if let Some((_, _, cancelled)) = &self.running {
                    cancelled.set(true);
                }
                self.poll();
            }
            Step::Commit => {
                if let Some((txn, _)) = self.idle.take() {
                    txn.commit("").unwrap();
                }
            }
            Step::Rollback => self.idle = None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn cancelled_statements_leave_no_lock_and_no_contradiction(
        spills in any::<bool>(),
        steps in proptest::collection::vec((0..SESSIONS, any::<bool>(), step()), 1..120),
    ) {
        let mut home = Home::with(options_that_spill(spills));
        home.create("t", true);
        let mut sessions: [Session; SESSIONS] = Default::default();
        for (index, repeatable, step) in steps {
            sessions[index].step(&home, repeatable, step);
        }
        for session in &mut sessions {
            session.step(&home, false, Step::Cancel);
            session.step(&home, false, Step::Commit);
        }
        // Nobody is left who could hold or want anything.
        let table = home.table("t");
        home.check_replica(&table);
        let expected = home.rows(&table);
        let mut txn = home.session().begin(Isolation::ReadCommitted);
        for id in 0..KEYS {
            prop_assert!(poll_once(pin!(txn.lock(&table, &key(id)))).is_ready(), "row {} is locked", id);
        }
        prop_assert!(poll_once(pin!(txn.truncate(&table))).is_ready(), "the table is locked");
        drop((txn, table, sessions));
        home.restart();
        let table = home.table("t");
        prop_assert_eq!(home.rows(&table), expected);
    }
}
