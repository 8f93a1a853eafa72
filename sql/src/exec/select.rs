//! SELECTs on the engine.

use crate::error::{Error, SqlState};
use crate::exec::context::Exec;
use crate::exec::index::IndexRows;
use crate::exec::interrupt::CHECK_EVERY;
use crate::exec::message::{self, FLUSH_BYTES};
use crate::exec::targets::Targets;
use crate::plan::access::{self, Access};
use crate::plan::row::{Output, SelectPlan};
use crate::plan::scalar::{self, Scalar};
use bytes::BytesMut;
use scry_engine::{Datum, Key, KeyRange, ScanCursor, Table, Value, Version};
use std::cmp::Ordering;

/// Rows of the first batch of a scan; later ones are larger. A short range or a small LIMIT reads little in vain.
const FIRST_BATCH: usize = 32;
const LARGEST_BATCH: usize = 1024;

/// Most rows that ORDER BY sorts in memory on the primary.
const MAX_SORTED: usize = 1_000_000;

/// Where a running SELECT gets its next rows.
enum From {
    /// One row without table.
    Single,
    Keys(std::vec::IntoIter<Key>),
    /// Rows that were read ahead: those that are wanted, after OFFSET.
    Found(std::vec::IntoIter<Version>),
    Index(Box<IndexRows>),
    Scan {
        cursor: ScanCursor,
        batch: std::vec::IntoIter<(Key, Version)>,
        size: usize,
    },
    Nothing,
}

/// A SELECT that may go on: a portal fetched in pieces, or a large result.
pub struct Running {
    from: From,
    skip: u64,
    left: u64,
}

/// Told of each row; answers whether to go on.
type Visit<'v> = &'v mut dyn FnMut(&Exec<'_>, Option<&Version>) -> Result<bool, Error>;

/// How far one step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub rows: u64,
    pub done: bool,
}

/// A LIMIT or OFFSET value: NULL is none, negative is refused.
fn count(scalar: Option<&Scalar>, exec: &Exec<'_>, code: SqlState, what: &str) -> Result<Option<u64>, Error> {
    let Some(scalar) = scalar else {
        return Ok(None);
    };
    let env = exec.env();
    let value = match scalar::eval(scalar, &env)?.datum() {
        Datum::Null => return Ok(None),
        Datum::Int8(value) => value,
        Datum::Int4(value) => i64::from(value),
        Datum::Int2(value) => i64::from(value),
        other => return Err(Error::internal(format!("{what} is {other:?}"))),
    };
    u64::try_from(value)
        .map(Some)
        .map_err(|_| Error::new(code, format!("{what} must not be negative")))
}

fn limits(plan: &SelectPlan, exec: &Exec<'_>) -> Result<(u64, u64), Error> {
    let limit = count(
        plan.limit.as_ref(),
        exec,
        SqlState::INVALID_ROW_COUNT_IN_LIMIT,
        "LIMIT",
    )?;
    let offset = count(
        plan.offset.as_ref(),
        exec,
        SqlState::INVALID_ROW_COUNT_IN_OFFSET,
        "OFFSET",
    )?;
    Ok((offset.unwrap_or(0), limit.unwrap_or(u64::MAX)))
}

/// The shortest way: one row by its whole key, without LIMIT. Returns the number of rows, or `None` when the plan is
/// not of this kind.
#[inline]
pub fn point(exec: &mut Exec<'_>, plan: &SelectPlan, out: &mut BytesMut) -> Result<Option<u64>, Error> {
    let (Some(table), Access::Point(parts), None, None, None) =
        (&plan.table, &plan.access, plan.locking, &plan.limit, &plan.offset)
    else {
        return Ok(None);
    };
    let env = exec.env();
    let Some(key) = access::point(parts, &env)? else {
        return Ok(Some(0));
    };
    let Some(version) = exec.txn.get(table, key.as_ref())? else {
        return Ok(Some(0));
    };
    let row = table.layout.row(&version.row);
    let env = env.with_row(row);
    if !plan.filter.is_empty() && !scalar::all_true(&plan.filter, &env)? {
        return Ok(Some(0));
    }
    message::data_row(
        out,
        &plan.projection,
        Some(row),
        &env,
        exec.formats,
        exec.facts.zone,
    )?;
    Ok(Some(1))
}

/// Opens a SELECT that neither locks nor sorts.
pub fn open(exec: &mut Exec<'_>, plan: &SelectPlan) -> Result<Running, Error> {
    let (skip, left) = limits(plan, exec)?;
    let from = match (&plan.table, &plan.access) {
        (None, _) | (_, Access::None) => From::Single,
        (Some(_), Access::Point(parts)) => {
            let key = access::point(parts, &exec.env())?;
            From::Keys(Vec::from_iter(key).into_iter())
        }
        (Some(_), Access::Points(columns)) => From::Keys(access::points(columns, &exec.env())?.into_iter()),
        (Some(table), Access::Range { prefix, lower, upper }) => {
            match access::range(prefix, lower.as_ref(), upper.as_ref(), &exec.env())? {
                Some(range) => scan(exec, table, range)?,
                None => From::Nothing,
            }
        }
        (Some(_), Access::Index(access)) => From::Index(Box::new(IndexRows::open(exec, access)?)),
        (Some(table), Access::Full) => scan(exec, table, KeyRange::all())?,
    };
    Ok(Running { from, skip, left })
}

fn scan(exec: &mut Exec<'_>, table: &Table, range: KeyRange) -> Result<From, Error> {
    Ok(From::Scan {
        cursor: exec.txn.begin_scan(table, range)?,
        batch: Vec::new().into_iter(),
        size: FIRST_BATCH,
    })
}

impl Running {
    /// From now on nothing that the transaction does changes what is found: for a portal that goes on later, and for a statement that writes beside.
    /// A range goes on as it is being read; rows of listed keys are read now.
    pub fn hold(&mut self, exec: &mut Exec<'_>, plan: &SelectPlan) -> Result<(), Error> {
        match (&mut self.from, &plan.table) {
            (From::Index(rows), Some(table)) if rows.is_a_range() => return rows.hold(exec, table),
            (From::Keys(_) | From::Index(_), _) => {}
            (From::Single | From::Found(_) | From::Scan { .. } | From::Nothing, _) => return Ok(()),
        }
        let mut found = Vec::new();
        self.rows(exec, plan, &mut |_, version| {
            found.extend(version.cloned());
            Ok(true)
        })?;
        self.left = found.len() as u64;
        self.from = From::Found(found.into_iter());
        Ok(())
    }

    /// Calls `visit` with each row until it says stop; false when there are no more rows.
    fn rows(&mut self, exec: &mut Exec<'_>, plan: &SelectPlan, visit: Visit<'_>) -> Result<bool, Error> {
        let mut seen = 0u32;
        while self.left > 0 {
            seen += 1;
            if seen.is_multiple_of(CHECK_EVERY) {
                exec.interrupt.check()?;
            }
            let version = match &mut self.from {
                From::Nothing => return Ok(false),
                From::Single => {
                    self.from = From::Nothing;
                    None
                }
                From::Keys(keys) => match (keys.next(), &plan.table) {
                    (Some(key), Some(table)) => match exec.txn.get(table, key.as_ref())? {
                        Some(version) => Some(version),
                        None => continue,
                    },
                    _ => return Ok(false),
                },
                From::Found(rows) => match rows.next() {
                    Some(version) => Some(version),
                    None => return Ok(false),
                },
                From::Index(rows) => {
                    let Some(table) = &plan.table else {
                        return Ok(false);
                    };
                    match rows.next(exec, table)? {
                        Some((_, version)) => Some(version),
                        None => return Ok(false),
                    }
                }
                From::Scan { cursor, batch, size } => match batch.next() {
                    Some((_, version)) => Some(version),
                    None => {
                        let next = cursor.next_batch(*size)?;
                        exec.depends_on(cursor.depends_on());
                        if next.is_empty() {
                            return Ok(false);
                        }
                        *size = (*size * 4).min(LARGEST_BATCH);
                        *batch = next.into_iter();
                        continue;
                    }
                },
            };
            if !plan.filter.is_empty() && !matches!(self.from, From::Found(_)) {
                let env = match (&plan.table, &version) {
                    (Some(table), Some(version)) => exec.env().with_row(table.layout.row(&version.row)),
                    _ => exec.env(),
                };
                if !scalar::all_true(&plan.filter, &env)? {
                    continue;
                }
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.left -= 1;
            if !visit(exec, version.as_ref())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes rows until `max_rows` (0: no bound) or the buffer is large.
    pub fn step(
        &mut self,
        exec: &mut Exec<'_>,
        plan: &SelectPlan,
        out: &mut BytesMut,
        max_rows: usize,
    ) -> Result<Step, Error> {
        let mut rows = 0u64;
        let more = self.rows(exec, plan, &mut |exec, version| {
            write(exec, plan, version, out)?;
            rows += 1;
            Ok(rows != max_rows as u64 && out.len() < FLUSH_BYTES)
        })?;
        Ok(Step {
            rows,
            done: !more || self.left == 0 && max_rows == 0,
        })
    }

    /// Every row as values, for INSERT … SELECT.
    pub fn values(
        &mut self,
        exec: &mut Exec<'_>,
        plan: &SelectPlan,
        max_rows: usize,
    ) -> Result<(Vec<Vec<Value>>, bool), Error> {
        let mut list = Vec::new();
        let more = self.rows(exec, plan, &mut |exec, version| {
            let row = version
                .zip(plan.table.as_ref())
                .map(|(version, table)| table.layout.row(&version.row));
            let env = match row {
                Some(row) => exec.env().with_row(row),
                None => exec.env(),
            };
            let mut values = Vec::with_capacity(plan.projection.outputs.len());
            for output in &plan.projection.outputs {
                values.push(match (output, &row) {
                    (Output::Column(column), Some(row)) => row.get(*column).to_value(),
                    (Output::Column(_), None) => Value::Null,
                    (Output::Computed(scalar), _) => scalar::eval(scalar, &env)?.into_value(),
                });
            }
            list.push(values);
            Ok(list.len() < max_rows)
        })?;
        Ok((list, more))
    }
}

fn write(
    exec: &Exec<'_>,
    plan: &SelectPlan,
    version: Option<&Version>,
    out: &mut BytesMut,
) -> Result<(), Error> {
    let row = version
        .zip(plan.table.as_ref())
        .map(|(version, table)| table.layout.row(&version.row));
    let env = match row {
        Some(row) => exec.env().with_row(row),
        None => exec.env(),
    };
    message::data_row(out, &plan.projection, row, &env, exec.formats, exec.facts.zone)
}

/// Runs a SELECT that locks or sorts; all of its rows go to `out`.
pub async fn collect(exec: &mut Exec<'_>, plan: &SelectPlan, out: &mut BytesMut) -> Result<u64, Error> {
    let (skip, left) = limits(plan, exec)?;
    if plan.order.is_empty() {
        return lock_in_order(exec, plan, skip, left, out).await;
    }
    let mut found: Vec<(Vec<Value>, Version)> = Vec::new();
    let Some(table) = &plan.table else {
        return Err(Error::internal("ORDER BY without a table"));
    };
    let too_many = || {
        Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!("cannot sort more than {MAX_SORTED} rows on the primary"),
        )
    };
    if let Some(locking) = plan.locking {
        let mut targets = Targets::open(exec, table, &plan.access, false)?;
        while let Some((_, version)) = targets.next_locked(exec, table, &plan.filter, locking).await? {
            found.push((sort_values(exec, plan, table, &version)?, version));
            if found.len() > MAX_SORTED {
                return Err(too_many());
            }
        }
    } else {
        let mut running = open(exec, plan)?;
        (running.skip, running.left) = (0, u64::MAX);
        running.rows(exec, plan, &mut |exec, version| {
            if let Some(version) = version {
                found.push((sort_values(exec, plan, table, version)?, version.clone()));
            }
            if found.len() > MAX_SORTED {
                Err(too_many())
            } else {
                Ok(true)
            }
        })?;
    }
    found.sort_by(|(a, _), (b, _)| compare(plan, a, b));
    let mut rows = 0;
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    for (_, version) in found
        .iter()
        .skip(skip)
        .take(usize::try_from(left).unwrap_or(usize::MAX))
    {
        write(exec, plan, Some(version), out)?;
        rows += 1;
    }
    Ok(rows)
}

fn sort_values(
    exec: &Exec<'_>,
    plan: &SelectPlan,
    table: &Table,
    version: &Version,
) -> Result<Vec<Value>, Error> {
    let env = exec.env().with_row(table.layout.row(&version.row));
    plan.order
        .iter()
        .map(|key| Ok(scalar::eval(&key.value, &env)?.into_value()))
        .collect()
}

fn compare(plan: &SelectPlan, a: &[Value], b: &[Value]) -> Ordering {
    for (key, (a, b)) in plan.order.iter().zip(a.iter().zip(b)) {
        let ordering = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if key.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if key.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if key.descending => b.as_datum().compare(&a.as_datum()),
            (false, false) => a.as_datum().compare(&b.as_datum()),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    Ordering::Equal
}

/// FOR UPDATE in the order in which the rows are found: LIMIT ends the locking too.
async fn lock_in_order(
    exec: &mut Exec<'_>,
    plan: &SelectPlan,
    mut skip: u64,
    mut left: u64,
    out: &mut BytesMut,
) -> Result<u64, Error> {
    let (Some(table), Some(locking)) = (&plan.table, plan.locking) else {
        return Err(Error::internal("a locking SELECT without table"));
    };
    let mut rows = 0;
    let mut targets = Targets::open(exec, table, &plan.access, false)?;
    while left > 0 {
        let Some((_, version)) = targets.next_locked(exec, table, &plan.filter, locking).await? else {
            break;
        };
        if skip > 0 {
            skip -= 1;
            continue;
        }
        left -= 1;
        write(exec, plan, Some(&version), out)?;
        rows += 1;
    }
    Ok(rows)
}
