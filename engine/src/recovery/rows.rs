//! What a commit does to rows.

use super::entries::{Late, Old};
use super::{Adoption, Progress, Replay, RowChange, corrupt};
use crate::Row;
use crate::collector::Grave;
use crate::election::branch;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::locks::RowRef;
use crate::overlay::Version;
use crate::row::RowError;
use crate::store::entry::RowEntry;
use crate::store::memtable::Found;
use crate::store::scan::Met;
use crate::store::{Growth, NEWEST, Store};
use scry_wal::{Ended, Lsn, Op, Ordinal, StoreId};
use std::collections::HashMap;
use std::sync::Arc;

impl Replay {
    /// Makes one change of a row, of the commit at `lsn`.
    pub(super) fn change(
        &mut self,
        lsn: Lsn,
        progress: &mut HashMap<StoreId, Progress>,
        change: RowChange<'_>,
        late: &mut Late,
    ) -> Result<(), Error> {
        let RowChange {
            at,
            store: store_id,
            op,
            ended,
            key,
            before,
            after,
        } = change;
        // Changes of a store that the commit does not name are void: the transaction dropped the store itself.
        let (Some(progress), Some(table)) = (progress.get_mut(&store_id), self.stores.get(&store_id)) else {
            return Ok(());
        };
        let table = Arc::clone(table);
        let store = &table.store;
        let wrong = |what: String| corrupt(at, Some(store_id), what);
        let ended = match ended {
            Ended::None => None,
            Ended::Ordinal(ordinal) => Some(ordinal),
            Ended::Own(local) => Some(progress.first.plus(u64::from(local))),
        };
        if ended.is_some() != (op != Op::Insert) {
            return Err(wrong(
                "operation and ended version contradict each other".to_owned(),
            ));
        }
        let begun = match op {
            Op::Delete => None,
            Op::Insert | Op::Update => {
                let checked = table.layout.validate(&after);
                checked.map_err(|error| wrong(error.to_string()))?;
                let ordinal = progress.first.plus(progress.begun);
                progress.begun += 1;
                Some((ordinal, after))
            }
        };
        if table.def.primary_key.is_none()
            && let Ok(row_id) = <[u8; 8]>::try_from(key)
        {
            store.counters.saw_hidden_key(u64::from_be_bytes(row_id));
        }
        if let Some(rows) = &mut progress.by_ordinal {
            let mut old = None;
            if let Some(ended) = ended {
                let removed = rows.remove(&ended);
                old = Some(removed.ok_or_else(|| wrong(format!("ended version {ended} does not exist")))?);
            }
            store.counters.add_live(Growth::of(
                old.as_ref().map(|(_, row)| &row[..]),
                begun.as_ref().map(|(_, row)| &row[..]),
            ));
            rows.extend(begun.map(|(ordinal, row)| (ordinal, (lsn, row))));
            return Ok(());
        }
        if table.indexes.is_empty() {
            return self.put(at, lsn, store, key, ended, begun);
        }
        let layout = &table.layout;
        let damaged = |error: RowError| corrupt(at, Some(store_id), error.to_string());
        let old = match op {
            Op::Insert => Old::Nothing,
            Op::Update => Old::Differs(layout.decode_before(before).map_err(damaged)?),
            Op::Delete => {
                layout.validate(before).map_err(damaged)?;
                Old::Row(before)
            }
        };
        let new = begun.as_ref().map(|(_, row)| Row::clone(row));
        self.put(at, lsn, store, key, ended, begun)?;
        self.follow(lsn, &table.indexes, layout, key, (&old, new.as_ref()), late)
    }

    /// Ends one version of a row and begins another.
    pub(super) fn put(
        &mut self,
        at: Lsn,
        lsn: Lsn,
        store: &Arc<Store>,
        key: &[u8],
        ended: Option<Ordinal>,
        begun: Option<(Ordinal, Row)>,
    ) -> Result<(), Error> {
        let wrong = |what: String| corrupt(at, Some(store.id), what);
        let pins = self.catalog.elections().pins().list().unwrap_or_default();
        let keep = (self.oldest, &pins[..]);
        match (ended, begun) {
            (None, Some((ordinal, row))) => {
                store.counters.add_live(Growth::of(None, Some(&row)));
                let key = Key::from_bytes(key);
                let mut is_below = false;
                let made = store.rows.get_or_insert_if(&key, |has_gaps| {
                    is_below = has_gaps;
                    Some(Arc::new(RowEntry::committed(
                        lsn,
                        ordinal,
                        Some(Arc::clone(&row)),
                    )))
                });
                let (entry, is_new) = made.expect("it is always made");
                let mut state = entry.lock();
                if is_new {
                    if is_below {
                        state.set_below();
                    }
                    drop(state);
                    store.changed(&key, &entry, 0);
                    return Ok(());
                }
                let before = state.weight(key.as_ref());
                // A deletion that a pin has kept stays until replay is over, though the pin may be gone.
                if state.newest(store.id).row.is_some() {
                    return Err(wrong("a row with the key of an inserted row exists".to_owned()));
                }
                let kept = state.supersede(lsn, ordinal, Some(row), keep);
                store.counters.add_superseded(u64::from(kept));
                drop(state);
                store.changed(&key, &entry, before);
                Ok(())
            }
            (Some(ended), begun) => {
                let entry = match store.rows.find(key, Arc::clone) {
                    Found::Row(entry) => entry,
                    Found::Nothing => {
                        return Err(wrong(format!(
                            "version {ended} ended, but its row does not exist"
                        )));
                    }
                    Found::NotHere => {
                        put_unseen(store, key, lsn, begun);
                        return Ok(());
                    }
                };
                let mut state = entry.lock();
                let before = state.weight(key);
                let newest = state.newest(store.id);
                if newest.ordinal != ended || newest.row.is_none() {
                    return Err(wrong(format!("version {ended} ended, {} found", newest.ordinal)));
                }
                let new = begun.as_ref().map(|(_, row)| &row[..]);
                let old = newest.row.map(|row| &row[..]);
                store.counters.add_live(Growth::of(old, new));
                match begun {
                    Some((ordinal, row)) => {
                        let kept = state.supersede(lsn, ordinal, Some(row), keep);
                        store.counters.add_superseded(u64::from(kept));
                    }
                    None => {
                        state.supersede(lsn, Ordinal::default(), None, keep);
                        if state.is_bare_deletion() && !state.is_below() {
                            store.home.backing.add_memory(state.recount(key, before));
                            drop(state);
                            store.remove(key, &entry);
                            return Ok(());
                        }
                        if !state.is_below() {
                            let row = RowRef {
                                store: Arc::clone(store),
                                key: Key::from_bytes(key),
                                entry: Arc::clone(&entry),
                            };
                            self.graves.push(Grave { lsn, row });
                        }
                    }
                }
                drop(state);
                store.changed(&Key::from_bytes(key), &entry, before);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// Makes the rows of a branch rows of its base.
    pub(super) fn adopt(
        &mut self,
        lsn: Lsn,
        progress: &mut HashMap<StoreId, Progress>,
        adoption: Adoption,
        late: &mut Late,
    ) -> Result<(), Error> {
        let Adoption {
            branch: table,
            base,
            count,
            skipped,
        } = adoption;
        let wrong = |what: &str| corrupt(lsn, Some(base), what.to_owned());
        let progress = progress.get_mut(&base);
        let progress =
            progress.ok_or_else(|| wrong("an adoption into a store that the commit does not name"))?;
        if progress.begun != 0 || count != table.store.counters.next_ordinal().get() {
            return Err(wrong("an adoption that does not come first, or of another count"));
        }
        progress.begun = count;
        let first = progress.first;
        let into = self.stores.get(&base).ok_or_else(|| wrong("unknown store"))?;
        let (into, proposed) = (Arc::clone(into), branch::base_layout(&table));
        let mut rows = Vec::new();
        each_newest(&table.store, &mut |key, version| {
            let ordinal = version.ordinal.unwrap_or_default();
            if !skipped.contains(&ordinal) {
                rows.push((key.clone(), ordinal, version.row));
            }
        })?;
        for (key, ordinal, row) in rows {
            let proposal = branch::decode(&proposed, &table, &row);
            let begun = proposal
                .visible()
                .map(|row| (first.plus(ordinal.get()), Arc::clone(row)));
            let replaced = match proposal.replaced {
                Some(_) if !into.indexes.is_empty() => newest(&into.store, key.as_ref())?,
                _ => None,
            };
            let old = replaced.as_deref().map_or(Old::Nothing, Old::Row);
            let new = begun.as_ref().map(|(_, row)| Row::clone(row));
            self.put(lsn, lsn, &into.store, key.as_ref(), proposal.replaced, begun)?;
            let rows = (&old, new.as_ref());
            self.follow(lsn, &into.indexes, &into.layout, key.as_ref(), rows, late)?;
        }
        Ok(())
    }
}

/// What memory has of a row as it is now.
pub(super) fn in_memory(store: &Store, key: &[u8]) -> Found<Option<Row>> {
    let newest = |entry: &Arc<RowEntry>| entry.lock().newest(store.id).row.map(Arc::clone);
    store.rows.find(key, newest)
}

/// The row of a key as it is now.
fn newest(store: &Store, key: &[u8]) -> Result<Option<Row>, Error> {
    Ok(match in_memory(store, key) {
        Found::Row(row) => row,
        Found::Nothing => None,
        Found::NotHere => store.read_below(key, NEWEST)?.and_then(|stored| stored.row),
    })
}

/// Ends a version that only the runs have, and begins another.
fn put_unseen(store: &Store, key: &[u8], lsn: Lsn, begun: Option<(Ordinal, Row)>) {
    let growth = Growth::unseen(true, begun.as_ref().map(|(_, row)| &row[..]));
    store.counters.add_live(growth);
    let (ordinal, row) = begun.unzip();
    let entry = RowEntry::committed(lsn, ordinal.unwrap_or_default(), row);
    entry.lock().set_below();
    let key = Key::from_bytes(key);
    let (entry, _) = store.rows.get_or_insert_with(&key, || Arc::new(entry));
    store.changed(&key, &entry, 0);
}

/// Calls `visit` with each row of a store.
pub(super) fn each_newest(store: &Store, visit: &mut dyn FnMut(&Key, Version)) -> Result<(), Error> {
    store.scan_newest(&KeyRange::all(), |key, met| {
        let version = match met {
            Met::Entry(entry, _) => entry.lock().newest(store.id).version(),
            Met::Below(stored) => stored.version(),
        };
        if let Some(version) = version {
            visit(key, version);
        }
        true
    })
}

/// All rows of a store, each by the ordinal of its one version.
pub(super) fn rows_by_ordinal(store: &Store) -> Result<HashMap<Ordinal, (Lsn, Row)>, Error> {
    let mut rows = HashMap::new();
    each_newest(store, &mut |_, version| {
        rows.insert(version.ordinal.unwrap_or_default(), (version.lsn, version.row));
    })?;
    Ok(rows)
}
