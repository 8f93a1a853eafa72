//! Decoded runs, in log order, put together as change sets.
//!
//! Holds the rows of tentative transactions that are still open, and splices them in where a commit adopts them. Pure:
//! no threads, no I/O.
//!
//! Bound: what is held is what open bulk transactions have logged; the engine bounds it. It is dropped at the
//! transaction's end, and at a change of epoch, because a restart ends every open transaction.

use scry_wal::{Lsn, StoreId, TentativeId};
use std::collections::HashMap;

use crate::changes::{ChangeSet, RowRun, StoreChanges, StoreEvent};
use crate::decode::{Adoption, Decoded, Schemas, TentativeEnded, TentativePart, TentativeRows};
use crate::error::Error;
use scry_wal::Ordinal;

/// The state between runs: open tentative transactions.
#[derive(Debug, Default)]
pub struct Replay {
    open: HashMap<TentativeId, Open>,
    epoch: u64,
    set: Option<ChangeSet>,
    by_store: HashMap<StoreId, usize>,
}

#[derive(Debug)]
struct Open {
    /// The frame of its first record.
    frame: Lsn,
    parts: Vec<TentativePart>,
}

impl Replay {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the run that follows the one added before it. `events` are the catalog events of its frames and `schemas`
    /// the stores known in it, those created in it included.
    ///
    /// # Errors
    /// When tentative rows do not fit the commit that adopts them.
    pub fn add(&mut self, decoded: Decoded, events: Vec<StoreEvent>, schemas: &Schemas) -> Result<(), Error> {
        if decoded.epoch != self.epoch {
            self.open.clear();
            self.epoch = decoded.epoch;
        }
        for part in decoded.tentative {
            let open = self.open.entry(part.id).or_insert_with(|| Open {
                frame: part.frame,
                parts: Vec::new(),
            });
            open.parts.push(part);
        }
        let mut stores = decoded.stores;
        for adoption in &decoded.adoptions {
            let open = self.open.remove(&adoption.id).ok_or(Error::Broken {
                lsn: adoption.lsn,
                store: None,
                what: "tentative id adopted but never logged",
                expected: adoption.id.get(),
                found: 0,
            })?;
            adopt(adoption, open.parts, schemas, &mut stores)?;
        }
        for id in decoded.drops {
            self.open.remove(&id);
        }
        let set = self.set.get_or_insert_with(|| ChangeSet {
            from: decoded.from,
            upto: decoded.from,
            restart: decoded.from,
            commits: Vec::new(),
            events: Vec::new(),
            stores: Vec::new(),
        });
        set.upto = decoded.upto;
        set.commits.extend(decoded.commits);
        set.events.extend(events);
        for changes in stores {
            match self.by_store.get(&changes.store) {
                Some(&index) => {
                    let into = &mut set.stores[index];
                    into.runs.extend(changes.runs);
                    into.adopted.extend(changes.adopted);
                    into.boundaries.extend(changes.boundaries);
                    into.ended.extend(changes.ended);
                }
                None => {
                    self.by_store.insert(changes.store, set.stores.len());
                    set.stores.push(changes);
                }
            }
        }
        Ok(())
    }

    /// What has been added since the last call, as one change set.
    pub fn take(&mut self) -> Option<ChangeSet> {
        self.by_store.clear();
        let mut set = self.set.take()?;
        set.restart = self
            .open
            .values()
            .map(|open| open.frame)
            .min()
            .unwrap_or(set.upto)
            .min(set.upto);
        Some(set)
    }
}

/// Puts the tentative rows where the commit says and ends what they end. Changes of a store that the commit does not
/// name are void: the transaction dropped the store itself.
fn adopt(
    adoption: &Adoption,
    parts: Vec<TentativePart>,
    schemas: &Schemas,
    stores: &mut Vec<StoreChanges>,
) -> Result<(), Error> {
    let lsn = adoption.lsn;
    // By store: the commit's first ordinal there, and that of the next tentative row.
    let mut filled: HashMap<StoreId, (u64, u64)> = adoption
        .ranges
        .iter()
        .map(|range| (range.store, (range.first.get(), range.first.get() + range.before)))
        .collect();
    for part in parts {
        let store = part.store;
        let Some((first, next)) = filled.get_mut(&store) else {
            continue;
        };
        let changes = changes_of(stores, store);
        for ended in part.ended {
            let ordinal = match ended {
                TentativeEnded::Committed(ordinal) => ordinal,
                TentativeEnded::Own(local) => Ordinal::new(*first + u64::from(local)),
            };
            changes.ended.push((lsn, ordinal));
        }
        let rows = part.rows.rows();
        if rows > 0 {
            let batch = match part.rows {
                TentativeRows::Columns(batch) => batch,
                TentativeRows::Raw(raw) => {
                    let schema = schemas.get(&store).ok_or(Error::UnknownStore { lsn, store })?;
                    raw.columns(schema, lsn, store)?
                }
            };
            changes.runs.push(RowRun {
                first: Ordinal::new(*next),
                rows: batch,
            });
            *next += rows;
        }
    }
    for range in &adoption.ranges {
        let begin = range.first.get() + range.before;
        let found = filled.get(&range.store).map_or(0, |filled| filled.1 - begin);
        if found != range.rows {
            return Err(Error::Broken {
                lsn,
                store: Some(range.store),
                what: "tentative rows adopted",
                expected: range.rows,
                found,
            });
        }
    }
    for changes in stores {
        changes.runs.sort_by_key(|run| run.first);
        changes.ended.sort_by_key(|ended| ended.0);
    }
    Ok(())
}

fn changes_of(stores: &mut Vec<StoreChanges>, store: StoreId) -> &mut StoreChanges {
    let index = stores.iter().position(|changes| changes.store == store);
    let index = index.unwrap_or_else(|| {
        stores.push(StoreChanges {
            store,
            runs: Vec::new(),
            adopted: Vec::new(),
            boundaries: Vec::new(),
            ended: Vec::new(),
        });
        stores.len() - 1
    });
    &mut stores[index]
}
