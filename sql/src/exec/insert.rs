//! INSERT: rows from VALUES or a query, ON CONFLICT, RETURNING.

use crate::constraint;
use crate::error::{Error, SqlState};
use crate::exec::context::{self, Exec};
use crate::exec::foreign_keys;
use crate::exec::update;
use crate::expr::Evaluated;
use crate::generated;
use crate::plan::row::{Arbiter, InsertPlan, OnConflict, Rows, Source};
use crate::plan::scalar::{self, Scalar};
use bytes::BytesMut;
use scry_engine::{DataType, Datum, InsertOutcome, Key, Row, Table, Value};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::HashSet;

/// Tries of ON CONFLICT DO UPDATE against rows that keep coming and going.
const MAX_TRIES: u32 = 1000;

/// A buffer for rows is kept from one to the next up to this size.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes a full row, of `value(column)` for each column, and its key. `None` for the key: the table has no primary key.
pub fn encode<'v>(
    exec: &Exec<'_>,
    table: &Table,
    value: impl Fn(usize) -> Datum<'v>,
) -> Result<(Row, Option<Key>), Error> {
    let generated = generated::columns(table)?;
    if generated.is_empty() {
        let (row, key) = encode_given(exec, table, value)?;
        constraint::check(table, &row, exec.facts)?;
        return Ok((row, key));
    }
    let is_generated = |column: usize| generated.iter().any(|(known, _)| *known == column);
    let given = |column: usize| match is_generated(column) {
        true => Datum::Null,
        false => value(column),
    };
    let (row, key) = encode_given(exec, table, given)?;
    let row = Row::from(generated::completed(table, generated, &row, exec.facts)?);
    constraint::check(table, &row, exec.facts)?;
    Ok((row, key))
}

/// The same without generated columns, of which nothing is asked.
fn encode_given<'v>(
    exec: &Exec<'_>,
    table: &Table,
    value: impl Fn(usize) -> Datum<'v>,
) -> Result<(Row, Option<Key>), Error> {
    for (index, column) in table.def.columns.iter().enumerate() {
        if column.not_null && value(index).is_null() && column.generated().is_none() {
            let row: Vec<Value> = (0..table.def.columns.len())
                .map(|column| value(column).to_value())
                .collect();
            return Err(context::not_null_violation(table, index, &row, exec.facts));
        }
    }
    let key = table
        .key_columns()
        .map(|columns| Key::encode(columns.iter().map(|column| value(*column))));
    let row = BUFFER.with_borrow_mut(|buffer| {
        let row = table.layout.encode_row(buffer, value);
        if buffer.capacity() > BUFFER_KEPT_BYTES {
            *buffer = Vec::new();
        }
        row
    });
    Ok((row?, key))
}

/// One INSERT statement at work.
pub struct Inserter<'p> {
    plan: &'p InsertPlan,
    /// Keys that this statement has inserted or updated, for ON CONFLICT DO UPDATE of several rows.
    touched: HashSet<Vec<u8>>,
    pub count: u64,
}

impl<'p> Inserter<'p> {
    pub fn new(plan: &'p InsertPlan) -> Self {
        Inserter {
            plan,
            touched: HashSet::new(),
            count: 0,
        }
    }

    /// Before the first row.
    pub async fn enter(&self, exec: &mut Exec<'_>) -> Result<(), Error> {
        foreign_keys::enter(exec, &self.plan.table, self.plan.updates_references()).await
    }

    /// Inserts one row of given values (in the order of the plan's targets).
    async fn given(
        &mut self,
        exec: &mut Exec<'_>,
        given: &[Datum<'_>],
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let (row, key) = {
            let env = exec.env();
            let mut made: SmallVec<[Evaluated<'_>; 4]> = SmallVec::new();
            for source in &self.plan.sources {
                if let Source::Default(default) = source {
                    made.push(scalar::eval(default, &env)?);
                }
            }
            let mut made = made.iter();
            let mut values: SmallVec<[Datum<'_>; 16]> = SmallVec::with_capacity(self.plan.sources.len());
            for source in &self.plan.sources {
                values.push(match source {
                    Source::Given(index) => given[*index],
                    Source::Default(_) => made.next().map_or(Datum::Null, Evaluated::datum),
                    Source::Null => Datum::Null,
                });
            }
            encode(exec, &self.plan.table, |column| values[column])?
        };
        self.insert(exec, row, key, out).await
    }

    async fn insert(
        &mut self,
        exec: &mut Exec<'_>,
        row: Row,
        key: Option<Key>,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let table = &self.plan.table;
        for _ in 0..MAX_TRIES {
            let outcome = exec
                .interrupt
                .locking(exec.txn.insert(table, key.clone(), row.clone()))
                .await??;
            let (mut met, mut key, mut seen) = match outcome {
                InsertOutcome::Inserted(key) => {
                    if matches!(self.plan.conflict, OnConflict::Update { .. }) {
                        self.touched.insert(key.as_ref().to_vec());
                    }
                    foreign_keys::written(exec, table, &key, (None, false), &row).await?;
                    update::returning(exec, self.plan.returning.as_ref(), table, &row, out)?;
                    self.count += 1;
                    return Ok(());
                }
                InsertOutcome::Exists(existing) => (Arbiter::PrimaryKey, key.clone(), Some(existing)),
                InsertOutcome::Taken { index, key } => (Arbiter::Index(index), Some(key), None),
            };
            // Whatever was met first: a conflict on the arbiter is no error.
            if let Arbiter::Index(index) = self.plan.arbiter
                && met != self.plan.arbiter
            {
                let asked = exec.txn.unique_owner(table, index, &row);
                if let Some(owner) = exec.interrupt.locking(asked).await?? {
                    (met, key, seen) = (self.plan.arbiter, Some(owner), None);
                }
            }
            let meant = matches!(self.plan.arbiter, Arbiter::Any) || met == self.plan.arbiter;
            let (assignments, touches, filter) = match &self.plan.conflict {
                OnConflict::Nothing if meant => {
                    if !exec.txn.isolation().keeps_snapshot() {
                        return Ok(());
                    }
                    let snapshot = exec.txn.snapshot();
                    // Of the row that an index has led to, what the snapshot has of it tells.
                    let is_seen = match (&seen, &key) {
                        (Some(existing), _) => existing.lsn <= snapshot,
                        (None, Some(key)) => exec.txn.get(table, key.as_ref())?.is_some(),
                        (None, None) => true,
                    };
                    if !is_seen {
                        // The row for which this one is left out is none that the transaction can see.
                        return Err(Error::new(
                            SqlState::SERIALIZATION_FAILURE,
                            "could not serialize access due to concurrent update",
                        ));
                    }
                    return Ok(());
                }
                OnConflict::Update {
                    assignments,
                    touches,
                    filter,
                } if meant => (assignments, *touches, filter),
                _ => {
                    return Err(match met {
                        Arbiter::Index(index) => table.key_exists(index, &row).into(),
                        Arbiter::PrimaryKey | Arbiter::Any => {
                            context::unique_violation(table, &row, exec.facts)
                        }
                    });
                }
            };
            let Some(key) = &key else {
                return Err(Error::internal("a conflict without a key"));
            };
            if self.touched.contains(key.as_ref()) {
                return Err(Error::new(
                    SqlState::CARDINALITY_VIOLATION,
                    "ON CONFLICT DO UPDATE command cannot affect row a second time",
                )
                .with_hint(
                    "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
                ));
            }
            // The row may go before it is locked, or become another one: then the insert is tried again.
            let Some(existing) = exec
                .interrupt
                .locking(exec.txn.lock(table, key.as_ref()))
                .await??
            else {
                continue;
            };
            if let Arbiter::Index(index) = met
                && !table.equal_in_index(index, &existing.row, &row)
            {
                continue;
            }
            let env = exec
                .env()
                .with_rows(table.layout.row(&existing.row), table.layout.row(&row));
            if !filter.is_empty() && !scalar::all_true(filter, &env)? {
                return Ok(());
            }
            let updated = update::changed(exec, table, assignments, &existing.row, &env)?;
            update::returning(exec, self.plan.returning.as_ref(), table, &updated, out)?;
            update::replace(exec, table, key, (&existing.row, updated), touches).await?;
            self.touched.insert(key.as_ref().to_vec());
            self.count += 1;
            return Ok(());
        }
        Err(Error::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not insert or update: the row keeps changing",
        ))
    }

    /// VALUES and DEFAULT VALUES.
    pub async fn values(&mut self, exec: &mut Exec<'_>, out: &mut BytesMut) -> Result<(), Error> {
        let rows = match &self.plan.rows {
            Rows::Defaults => return self.given(exec, &[], out).await,
            Rows::Values(rows) => rows,
            Rows::Query { .. } => return Err(Error::internal("the rows of a query come from its own plan")),
        };
        for (number, row) in rows.iter().enumerate() {
            if number % 256 == 255 {
                exec.interrupt.check()?;
            }
            let values = self.evaluate(exec, row)?;
            let given: SmallVec<[Datum<'_>; 16]> = values.iter().map(Evaluated::datum).collect();
            self.given(exec, &given, out).await?;
        }
        Ok(())
    }

    fn evaluate<'v>(
        &self,
        exec: &Exec<'v>,
        row: &'v [Option<Scalar>],
    ) -> Result<SmallVec<[Evaluated<'v>; 8]>, Error>
    where
        'p: 'v,
    {
        let env = exec.env();
        let plan = self.plan;
        let mut given = SmallVec::with_capacity(row.len());
        for (index, value) in row.iter().enumerate() {
            given.push(match value {
                Some(scalar) => scalar::eval(scalar, &env)?,
                None => match &plan.defaults[plan.targets[index]] {
                    Some(default) => scalar::eval(default, &env)?,
                    None => Evaluated::NULL,
                },
            });
        }
        Ok(given)
    }

    /// Rows of a query, in the types that it returned them; each value is cast as an assignment.
    pub async fn rows(
        &mut self,
        exec: &mut Exec<'_>,
        rows: Vec<Vec<Value>>,
        types: &[DataType],
        casts: &[Scalar],
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        for (number, row) in rows.into_iter().enumerate() {
            if number % 256 == 255 {
                exec.interrupt.check()?;
            }
            let mut row = row;
            scalar::settle_values(&mut row, types, exec.facts)?;
            let env = exec.env().with_values(&row);
            let cast: SmallVec<[Evaluated<'_>; 8]> = casts
                .iter()
                .map(|cast| scalar::eval(cast, &env))
                .collect::<Result<_, _>>()?;
            let given: SmallVec<[Datum<'_>; 16]> = cast.iter().map(Evaluated::datum).collect();
            self.given(exec, &given, out).await?;
        }
        Ok(())
    }
}
