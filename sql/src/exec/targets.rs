//! Finding and locking the rows that a statement writes.
//!
//! Rows are found at the statement's snapshot and locked one by one. Under READ COMMITTED the lock answers with the
//! newest version, on which the condition is checked again; under the other levels the engine refuses a newer one.

use crate::error::{Error, SqlState};
use crate::exec::context::Exec;
use crate::exec::index::IndexRows;
use crate::exec::interrupt::CHECK_EVERY;
use crate::plan::access::{self, Access};
use crate::plan::row::{LockWait, Locking};
use crate::plan::scalar::{self, Scalar};
use scry_engine::{Key, KeyRange, ScanCursor, Table, Txn, Version};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Rows that a scan takes from the store at a time.
const BATCH_ROWS: usize = 512;

enum Candidates {
    Keys(std::vec::IntoIter<Key>),
    Index(Box<IndexRows>),
    /// Like `Keys`, for the commonest case, without a list.
    One(Option<Key>),
    Scan {
        cursor: ScanCursor,
        batch: std::vec::IntoIter<(Key, Version)>,
    },
}

/// Walks over the keys that may have to be written.
pub struct Targets {
    candidates: Candidates,
    /// The snapshot's version was checked already.
    checked: bool,
    seen: u32,
}

impl Targets {
    /// `settle`: key lookups must find their row in the snapshot, because the statement itself may make rows under these keys.
    pub fn open(exec: &mut Exec<'_>, table: &Table, access: &Access, settle: bool) -> Result<Targets, Error> {
        let env = exec.env();
        let range = match access {
            Access::None => return Err(Error::internal("a statement without table has no rows to lock")),
            Access::Point(parts) => {
                let key = access::point(parts, &env)?;
                return Ok(Targets {
                    candidates: Candidates::One(key),
                    checked: false,
                    seen: 0,
                });
            }
            Access::Points(columns) => {
                let mut keys = access::points(columns, &env)?;
                if settle {
                    let mut there = Vec::with_capacity(keys.len());
                    for key in keys {
                        if exec.txn.get(table, key.as_ref())?.is_some() {
                            there.push(key);
                        }
                    }
                    keys = there;
                }
                return Ok(Targets {
                    candidates: Candidates::Keys(keys.into_iter()),
                    checked: false,
                    seen: 0,
                });
            }
            Access::Range { prefix, lower, upper } => {
                match access::range(prefix, lower.as_ref(), upper.as_ref(), &env)? {
                    Some(range) => range,
                    None => {
                        return Ok(Targets {
                            candidates: Candidates::One(None),
                            checked: true,
                            seen: 0,
                        });
                    }
                }
            }
            Access::Full => KeyRange::all(),
            Access::Index(access) => {
                let rows = IndexRows::open_for_writing(exec, table, access)?;
                return Ok(Targets {
                    candidates: Candidates::Index(Box::new(rows)),
                    checked: true,
                    seen: 0,
                });
            }
        };
        let cursor = exec.txn.begin_scan(table, range)?;
        Ok(Targets {
            candidates: Candidates::Scan {
                cursor,
                batch: Vec::new().into_iter(),
            },
            checked: true,
            seen: 0,
        })
    }

    /// The next key whose row, where a scan has seen it, satisfies the filter.
    fn next(&mut self, exec: &mut Exec<'_>, table: &Table, filter: &[Scalar]) -> Result<Option<Key>, Error> {
        loop {
            self.seen += 1;
            if self.seen.is_multiple_of(CHECK_EVERY) {
                exec.interrupt.check()?;
            }
            match &mut self.candidates {
                Candidates::One(key) => return Ok(key.take()),
                Candidates::Keys(keys) => return Ok(keys.next()),
                Candidates::Index(rows) => {
                    let Some((key, version)) = rows.next(exec, table)? else {
                        return Ok(None);
                    };
                    let row = table.layout.row(&version.row);
                    if scalar::all_true(filter, &exec.env().with_row(row))? {
                        return Ok(Some(key));
                    }
                }
                Candidates::Scan { cursor, batch } => match batch.next() {
                    Some((key, version)) => {
                        let row = table.layout.row(&version.row);
                        if scalar::all_true(filter, &exec.env().with_row(row))? {
                            return Ok(Some(key));
                        }
                    }
                    None => {
                        let next = cursor.next_batch(BATCH_ROWS)?;
                        exec.depends_on(cursor.depends_on());
                        if next.is_empty() {
                            return Ok(None);
                        }
                        *batch = next.into_iter();
                    }
                },
            }
        }
    }

    /// The next row, locked, as it is under the lock.
    pub async fn next_locked(
        &mut self,
        exec: &mut Exec<'_>,
        table: &Table,
        filter: &[Scalar],
        locking: Locking,
    ) -> Result<Option<(Key, Version)>, Error> {
        while let Some(key) = self.next(exec, table, filter)? {
            // A row that the snapshot does not show, or shows not to match, is not waited for.
            if !self.checked && (!filter.is_empty() || exec.txn.isolation().keeps_snapshot()) {
                let Some(version) = exec.txn.get(table, key.as_ref())? else {
                    continue;
                };
                if !scalar::all_true(filter, &exec.env().with_row(table.layout.row(&version.row)))? {
                    continue;
                }
            }
            // Rows that come back to be locked may leave again; and at once there is nothing to wait for but the lock.
            exec.interrupt.waiting(exec.txn.room()).await??;
            let version = match locking.wait {
                LockWait::Wait => {
                    exec.interrupt
                        .locking(take(exec.txn, table, key.as_ref(), locking.shared))
                        .await??
                }
                LockWait::NoWait | LockWait::Skip => {
                    match at_once(take(exec.txn, table, key.as_ref(), locking.shared)) {
                        Some(result) => result?,
                        None if locking.wait == LockWait::Skip => {
                            // It may have the row, and wait for those who share it.
                            exec.txn.unlock_unwritten(table, key.as_ref());
                            continue;
                        }
                        None => {
                            return Err(Error::new(
                                SqlState::LOCK_NOT_AVAILABLE,
                                format!("could not obtain lock on row in relation \"{}\"", table.def.name),
                            ));
                        }
                    }
                }
            };
            let Some(version) = version else {
                continue;
            };
            if filter.is_empty()
                || scalar::all_true(filter, &exec.env().with_row(table.layout.row(&version.row)))?
            {
                return Ok(Some((key, version)));
            }
            exec.txn.unlock_unwritten(table, key.as_ref());
        }
        Ok(None)
    }
}

async fn take(
    txn: &mut Txn,
    table: &Table,
    key: &[u8],
    shared: bool,
) -> Result<Option<Version>, scry_engine::Error> {
    match shared {
        true => txn.share(table, key).await,
        false => txn.lock(table, key).await,
    }
}

/// What the future has to say without waiting. Dropping it leaves the queue again.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
