//! What foreign keys ask of statements that write rows.
//!
//! What a new row refers to is looked for at once, and held there: most often that is all. What is not there may
//! come with the statement itself, and what refers to a row that goes or changes its key is dealt with when all of the statement's
//! rows are written: both wait in a queue, and what a CASCADE writes queues behind. A constraint that is deferred leaves only a mark: the
//! end of the transaction checks what has changed by then (`Txn::check_changes`).
//!
//! Invariant: after a statement the queue is empty; what it did for actions is part of it, and is not counted.

use crate::error::{Error, SqlState};
use crate::exec::context::Exec;
use crate::exec::deferred::Deferred;
use crate::exec::interrupt::CHECK_EVERY;
use crate::exec::update;
use crate::plan::column_default;
use crate::plan::row::Touches;
use crate::plan::scalar::{self, ParamTypes, Refusal, Scalar};
use scry_engine::{DataType, Datum, Error as EngineError, Key, KeyAction, Row, Table, Value};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most that one statement can leave to its end.
const QUEUE_MAX: usize = 4_000_000;

/// What is left to be done at the end of a statement.
enum Left {
    /// The n-th foreign key of a table had nothing to refer to when the row with this key was written.
    Reference {
        table: Arc<Table>,
        number: usize,
        key: Key,
    },
    /// A row is no more, or has another key, to which the n-th foreign key of `child` refers.
    Ended {
        table: Arc<Table>,
        child: Arc<Table>,
        number: usize,
        old: Row,
        new: Option<Row>,
        action: KeyAction,
    },
}

/// What foreign keys have still to check, of a statement and of its transaction.
#[derive(Default)]
pub struct ForeignKeys {
    left: VecDeque<Left>,
    /// What the statement's actions give to columns, as far as it was asked.
    given: Vec<Given>,
    pub deferred: Deferred,
}

impl ForeignKeys {
    /// A statement begins: what a failed one has left is none of its business.
    pub fn begin_statement(&mut self) {
        self.left.clear();
        self.given.clear();
    }

    fn leave(&mut self, left: Left) -> Result<(), Error> {
        if self.left.len() >= QUEUE_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("a statement cannot leave more than {QUEUE_MAX} checks of foreign keys to its end"),
            ));
        }
        self.left.push_back(left);
        Ok(())
    }
}

/// Before the rows of a table are written, which may end keys: takes the locks of the tables that may be looked at, so that a
/// definition which was replaced is met while the statement can still begin again.
pub async fn enter(exec: &mut Exec<'_>, table: &Arc<Table>, ends: bool) -> Result<(), Error> {
    if table.def.foreign_keys.is_empty() && (!ends || table.def.referenced_by.is_empty()) {
        return Ok(());
    }
    Ok(exec
        .interrupt
        .locking(exec.txn.enter_references(table, ends))
        .await??)
}

/// A row was written where `old` was, if anything: what it refers to must be there. `moved`: it has another primary key than before.
pub async fn written(
    exec: &mut Exec<'_>,
    table: &Arc<Table>,
    key: &Key,
    (old, moved): (Option<&Row>, bool),
    row: &Row,
) -> Result<(), Error> {
    for (number, def) in table.def.foreign_keys.iter().enumerate() {
        // Of a row that has moved, a check may be left under the key that it had.
        if !moved && old.is_some_and(|old| table.agree(&def.columns, old, row)) {
            continue;
        }
        if exec.foreign_keys.deferred.modes.is_deferred(def) {
            exec.foreign_keys.deferred.mark(table.def.oid);
            continue;
        }
        let checking = exec.txn.check_reference(table, number, row);
        match exec.interrupt.locking(checking).await? {
            Ok(()) => {}
            // Of other tables an INSERT brings no rows.
            Err(EngineError::ReferenceMissing(_)) if old.is_some() || def.table == table.def.oid => {
                exec.foreign_keys.leave(Left::Reference {
                    table: Arc::clone(table),
                    number,
                    key: key.clone(),
                })?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A row is no more, or another one has taken its place.
pub fn ended(exec: &mut Exec<'_>, table: &Arc<Table>, old: &Row, new: Option<&Row>) -> Result<(), Error> {
    let mut references = table.def.referenced_by.iter();
    if references.all(|reference| new.is_some_and(|new| table.agree(&reference.columns, old, new))) {
        return Ok(());
    }
    for (child, number) in exec.txn.references_to(table) {
        let def = &child.def.foreign_keys[number];
        let read = table.layout.row(old);
        let refers_to_nothing = def.referenced.iter().any(|column| read.is_null(*column));
        if refers_to_nothing || new.is_some_and(|new| table.agree(&def.referenced, old, new)) {
            continue;
        }
        let action = match new {
            None => def.on_delete,
            Some(_) => def.on_update,
        };
        if action == KeyAction::NoAction && exec.foreign_keys.deferred.modes.is_deferred(def) {
            exec.foreign_keys.deferred.mark(table.def.oid);
            continue;
        }
        exec.foreign_keys.leave(Left::Ended {
            table: Arc::clone(table),
            child,
            number,
            old: Arc::clone(old),
            new: new.cloned(),
            action,
        })?;
    }
    Ok(())
}

/// The statement has written its rows: carries out actions, and checks what has to hold at its end.
pub async fn settle(exec: &mut Exec<'_>) -> Result<(), Error> {
    let mut done = 0u32;
    while let Some(left) = exec.foreign_keys.left.pop_front() {
        done = done.wrapping_add(1);
        if done.is_multiple_of(CHECK_EVERY) {
            exec.interrupt.check()?;
            exec.txn.room().await?;
        }
        match left {
            Left::Reference { table, number, key } => {
                // It may have become another row since, or none.
                if let Some(version) = exec.txn.get(&table, key.as_ref())? {
                    let checking = exec.txn.check_reference(&table, number, &version.row);
                    exec.interrupt.locking(checking).await??;
                }
            }
            Left::Ended {
                table,
                child,
                number,
                old,
                new,
                action,
            } => {
                let again = match action {
                    KeyAction::NoAction => true,
                    KeyAction::Restrict => false,
                    _ => {
                        let changed = Changed {
                            table: &table,
                            old: &old,
                            new: new.as_ref(),
                            action,
                        };
                        act(exec, (&child, number), &changed).await?;
                        if action == KeyAction::SetDefault {
                            // The default may be the very key that is gone.
                            exec.foreign_keys.leave(Left::Ended {
                                table,
                                child,
                                number,
                                old,
                                new,
                                action: KeyAction::NoAction,
                            })?;
                        }
                        continue;
                    }
                };
                let checking = exec.txn.check_unreferenced(&table, (&child, number), &old, again);
                exec.interrupt.locking(checking).await??;
            }
        }
    }
    Ok(())
}

/// A key that has gone or changed, with what that means to rows that refer to it.
struct Changed<'a> {
    table: &'a Table,
    old: &'a Row,
    new: Option<&'a Row>,
    action: KeyAction,
}

/// Deletes or changes the rows that refer to a key.
async fn act(
    exec: &mut Exec<'_>,
    (child, number): (&Arc<Table>, usize),
    changed: &Changed<'_>,
) -> Result<(), Error> {
    let def = &child.def.foreign_keys[number];
    let key = columns(changed.table, changed.old, &def.referenced);
    let deletes = changed.action == KeyAction::Cascade && changed.new.is_none();
    let values = match deletes {
        true => Scalars::default(),
        false => given(exec, (child, number), changed)?,
    };
    let seen = match changed.new {
        Some(new) => columns(changed.table, new, &def.referenced),
        None => Vec::new(),
    };
    let touches = Touches::of(child, &def.columns);
    let finding = exec.txn.children((child, number), &key);
    let Some(mut children) = exec.interrupt.locking(finding).await?? else {
        return Ok(());
    };
    while let Some(batch) = exec.txn.next_children(&mut children)? {
        exec.interrupt.check()?;
        for (key, _) in batch {
            let locking = exec.txn.lock(child, key.as_ref());
            let Some(found) = exec.interrupt.locking(locking).await?? else {
                continue;
            };
            if !children.is_child(&found.row) {
                exec.txn.unlock_unwritten(child, key.as_ref());
                continue;
            }
            if deletes {
                update::remove(exec, child, &key, &found.row).await?;
                continue;
            }
            let row = {
                let env = exec.env().with_values(&seen);
                let made: SmallVec<[_; 4]> = values
                    .iter()
                    .map(|value| match value {
                        Some(value) => scalar::eval(value, &env),
                        None => Ok(crate::expr::Evaluated::NULL),
                    })
                    .collect::<Result<_, _>>()?;
                let made: SmallVec<[(usize, Datum<'_>); 4]> = def
                    .columns
                    .iter()
                    .zip(&made)
                    .map(|(column, value)| (*column, value.datum()))
                    .collect();
                update::rewritten(exec, child, &found.row, &made)?
            };
            update::replace(exec, child, &key, (&found.row, row), touches).await?;
        }
        exec.txn.room().await?;
    }
    Ok(())
}

/// For each column of a foreign key, its new value; `None`: NULL.
type Scalars = Arc<[Option<Scalar>]>;

/// What an action gives to the columns of a foreign key: the n-th of the table with this oid.
struct Given {
    key: (u32, usize, KeyAction),
    values: Scalars,
}

/// What an action gives to the columns of a foreign key, compiled once for a statement. A CASCADE's expressions see the new values of
/// the columns referred to.
fn given(
    exec: &mut Exec<'_>,
    (child, number): (&Table, usize),
    changed: &Changed<'_>,
) -> Result<Scalars, Error> {
    let key = (child.def.oid, number, changed.action);
    if let Some(known) = exec.foreign_keys.given.iter().find(|given| given.key == key) {
        return Ok(Arc::clone(&known.values));
    }
    let def = &child.def.foreign_keys[number];
    let own = def.columns.iter().map(|column| &child.def.columns[*column]);
    let values: Vec<Option<Scalar>> = match changed.action {
        KeyAction::Cascade => {
            let of = &changed.table.def.columns;
            let types: Vec<DataType> = def.referenced.iter().map(|column| of[*column].ty).collect();
            let casts = scalar::assignment_casts(&types, &own.collect::<Vec<_>>(), &[], exec.facts)?;
            casts.into_iter().map(Some).collect()
        }
        KeyAction::SetDefault => {
            let mut types = ParamTypes::default();
            let mut binder = scalar::Binder::new(&mut types, exec.facts);
            let refused = |refusal| match refusal {
                Refusal::Error(error) => error,
                Refusal::Unsupported(what) => Error::unsupported(format!("{what} in a DEFAULT")),
            };
            own.map(|column| column_default::compiled(column, &mut binder).map_err(refused))
                .collect::<Result<_, _>>()?
        }
        _ => own.map(|_| None).collect(),
    };
    let values = Scalars::from(values);
    exec.foreign_keys.given.push(Given {
        key,
        values: Arc::clone(&values),
    });
    Ok(values)
}

/// The values of these columns.
fn columns(table: &Table, row: &[u8], columns: &[usize]) -> Vec<Value> {
    let row = table.layout.row(row);
    columns.iter().map(|column| row.get(*column).to_value()).collect()
}
