//! What a commit says of rows: its ordinals, and the changes that its records name.

use super::bulk::Into;
use super::definitions::NewKey;
use super::entries::Old;
use super::rows::{each_newest, newest, rows_by_ordinal};
use super::window::{Kind, Place};
use super::{Replay, corrupt};
use crate::Row;
use crate::catalog::Table;
use crate::election::branch;
use crate::error::Error;
use crate::key::Key;
use crate::row::{RowError, RowLayout};
use crate::store::Growth;
use scry_wal::{Change, Commit, Ended, Lsn, Op, Ordinal, StoreId};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A tentative change, until its fate is known.
pub(super) struct OwnedChange {
    store: StoreId,
    op: Op,
    ended: Ended,
    key: Key,
    /// `None`: nothing.
    before: Option<Row>,
    after: Row,
}

/// A change of a row.
pub(super) struct RowChange<'a> {
    store: StoreId,
    op: Op,
    ended: Ended,
    key: &'a [u8],
    before: &'a [u8],
    after: &'a [u8],
}

/// A branch whose rows become rows of its base.
pub(super) struct Adoption {
    pub(super) branch: Arc<Table>,
    pub(super) base: StoreId,
    pub(super) count: u64,
    pub(super) skipped: HashSet<Ordinal>,
}

/// How far a commit has come in each of its stores.
pub(super) struct Progress {
    pub(super) lsn: Lsn,
    stores: SmallVec<[StoreProgress; 4]>,
    /// The one that was asked for last.
    last: usize,
    /// A table has indexes: all of the commit is applied together.
    is_whole: bool,
}

/// Local indexes of one commit: its first ordinal, how many versions it announced and began.
struct StoreProgress {
    table: Arc<Table>,
    first: Ordinal,
    announced: u64,
    begun: u64,
    /// Rows by ordinal, while the transaction adds a primary key.
    by_ordinal: Option<HashMap<Ordinal, (Lsn, Row)>>,
}

impl OwnedChange {
    pub(super) fn of(change: &Change<'_>) -> OwnedChange {
        OwnedChange {
            store: change.store,
            op: change.op,
            ended: change.ended,
            key: Key::from_bytes(change.key),
            before: (!change.before.is_empty()).then(|| Row::from(change.before)),
            after: Row::from(change.after),
        }
    }

    pub(super) fn store(&self) -> StoreId {
        self.store
    }

    /// Whose row it is.
    pub(super) fn place(&self) -> (StoreId, &[u8]) {
        (self.store, &self.key)
    }

    /// Whether it begins a version.
    pub(super) fn begins(&self) -> bool {
        self.op != Op::Delete
    }

    /// Of its key and rows.
    pub(super) fn bytes(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |before| before.len());
        self.key.len() + before + self.after.len()
    }

    /// Appends it as a record.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let change = Change {
            store: self.store,
            op: self.op,
            key: &self.key,
            ended: self.ended,
            before: self.before.as_deref().unwrap_or_default(),
            after: &self.after,
        };
        Ok(scry_wal::record::encode_change(out, &change)?)
    }

    pub(super) fn as_change(&self) -> RowChange<'_> {
        RowChange {
            store: self.store,
            op: self.op,
            ended: self.ended,
            key: &self.key,
            before: self.before.as_deref().unwrap_or_default(),
            after: &self.after,
        }
    }
}

impl<'a> From<&Change<'a>> for RowChange<'a> {
    fn from(change: &Change<'a>) -> RowChange<'a> {
        RowChange {
            store: change.store,
            op: change.op,
            ended: change.ended,
            key: change.key,
            before: change.before,
            after: change.after,
        }
    }
}

impl Progress {
    fn of(&mut self, store: StoreId) -> Option<&mut StoreProgress> {
        let is = |progress: &StoreProgress| progress.table.store.id == store;
        if !self.stores.get(self.last).is_some_and(is) {
            self.last = self.stores.iter().position(is)?;
        }
        self.stores.get_mut(self.last)
    }

    /// As many versions of a store begin as `count` says, all of them known. `None` when the commit does not name the store.
    pub(super) fn begin_bulk(&mut self, store: StoreId, count: u64) -> Option<Into> {
        let progress = self.of(store)?;
        let before = progress.begun;
        progress.begun += count;
        Some(Into {
            table: Arc::clone(&progress.table),
            first: progress.first,
            before,
            is_by_ordinal: progress.by_ordinal.is_some(),
        })
    }

    /// Whether all was met that was announced.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.stores.iter().find(|store| store.begun != store.announced) {
            None => Ok(()),
            Some(store) => {
                let what = format!("{} versions announced, {} found", store.announced, store.begun);
                Err(corrupt(self.lsn, Some(store.table.store.id), what))
            }
        }
    }

    /// The rows of a store that gets another key.
    pub(super) fn take_rows(&mut self, store: StoreId) -> Option<HashMap<Ordinal, (Lsn, Row)>> {
        self.of(store)?.by_ordinal.take()
    }
}

impl Replay {
    /// Takes the ordinals that a commit announces. What was collected for stores with `new_keys` is applied.
    pub(super) fn announced(
        &mut self,
        lsn: Lsn,
        commit: &Commit<'_>,
        new_keys: &HashMap<StoreId, NewKey>,
    ) -> Result<Progress, Error> {
        let mut stores = SmallVec::new();
        for range in commit.stores.iter() {
            let table = self.stores.get(&range.store);
            let table = table.ok_or_else(|| corrupt(lsn, Some(range.store), "unknown store".to_owned()))?;
            let expected = table.store.counters.next_ordinal();
            if range.first != expected {
                let what = format!("ordinals from {} where {expected} is next", range.first);
                return Err(corrupt(lsn, Some(range.store), what));
            }
            table.store.counters.take_ordinals(range.count);
            let by_ordinal = match new_keys.contains_key(&range.store) {
                true => Some(rows_by_ordinal(&table.store)?),
                false => None,
            };
            stores.push(StoreProgress {
                table: Arc::clone(table),
                first: range.first,
                announced: range.count,
                begun: 0,
                by_ordinal,
            });
        }
        let is_whole = stores
            .iter()
            .any(|store: &StoreProgress| !store.table.indexes.is_empty());
        Ok(Progress {
            lsn,
            stores,
            last: 0,
            is_whole,
        })
    }

    /// Takes one change of a row, whose record is at `at`, of a commit.
    pub(super) fn change(
        &mut self,
        at: Lsn,
        progress: &mut Progress,
        change: RowChange<'_>,
    ) -> Result<(), Error> {
        // Changes of a store that the commit does not name are void: the transaction dropped the store itself.
        let Some(store) = progress.of(change.store) else {
            return Ok(());
        };
        let ordinal = store.first.plus(store.begun);
        store.begun += u64::from(change.op != Op::Delete);
        self.change_as(at, progress, change, ordinal)
    }

    /// Takes one change, of which a version under `ordinal` comes if any does.
    pub(super) fn change_as(
        &mut self,
        at: Lsn,
        progress: &mut Progress,
        change: RowChange<'_>,
        ordinal: Ordinal,
    ) -> Result<(), Error> {
        let (lsn, is_whole) = (progress.lsn, progress.is_whole);
        let Some(progress) = progress.of(change.store) else {
            return Ok(());
        };
        let wrong = |what: String| corrupt(at, Some(change.store), what);
        let ended = match change.ended {
            Ended::None => None,
            Ended::Ordinal(ordinal) => Some(ordinal),
            Ended::Own(local) => Some(progress.first.plus(u64::from(local))),
        };
        if ended.is_some() != (change.op != Op::Insert) {
            return Err(wrong(
                "operation and ended version contradict each other".to_owned(),
            ));
        }
        let begun = match change.op {
            Op::Delete => None,
            Op::Insert | Op::Update => Some((ordinal, change.after)),
        };
        let oldest = self.oldest;
        let place = Place { at, lsn, oldest };
        if let Some(rows) = &mut progress.by_ordinal {
            return change_by_ordinal(&progress.table, rows, place, (ended, begun));
        }
        let pins = self.catalog.elections().pins();
        let table = &progress.table;
        let window = self.applying.window_with(|| pins.list());
        let target = window.table(table);
        if table.indexes.is_empty() {
            window.push(target, (place, Kind::Row), change.key, ended, begun);
        } else {
            let layout = &table.layout;
            let damaged = |error: RowError| wrong(error.to_string());
            if let Some((_, row)) = begun {
                layout.validate(row).map_err(damaged)?;
            }
            let old = old_row(layout, change.op, change.before).map_err(damaged)?;
            window.push(target, (place, Kind::CheckedRow), change.key, ended, begun);
            let new = begun.map(|(_, row)| row);
            window.follow(place, &table.indexes, layout, change.key, (&old, new));
        }
        match is_whole {
            true => Ok(()),
            false => self.applying.advance(),
        }
    }

    /// Makes the rows of a branch rows of its base. All that was collected before is applied.
    pub(super) fn adopt(&mut self, progress: &mut Progress, adoption: Adoption) -> Result<(), Error> {
        let Adoption {
            branch: table,
            base,
            count,
            skipped,
        } = adoption;
        let lsn = progress.lsn;
        let wrong = |what: &str| corrupt(lsn, Some(base), what.to_owned());
        let progress = progress.of(base);
        let progress =
            progress.ok_or_else(|| wrong("an adoption into a store that the commit does not name"))?;
        if progress.begun != 0 || count != table.store.counters.next_ordinal().get() {
            return Err(wrong("an adoption that does not come first, or of another count"));
        }
        progress.begun = count;
        let (into, proposed) = (&progress.table, branch::base_layout(&table));
        let mut rows = Vec::new();
        each_newest(&table.store, &mut |key, version| {
            let ordinal = version.ordinal.unwrap_or_default();
            if !skipped.contains(&ordinal) {
                rows.push((key.clone(), ordinal, version.row));
            }
            Ok(())
        })?;
        let (at, oldest) = (lsn, self.oldest);
        let place = Place { at, lsn, oldest };
        let pins = self.catalog.elections().pins();
        let window = self.applying.window_with(|| pins.list());
        let target = window.table(into);
        for (key, ordinal, row) in rows {
            let proposal = branch::decode(&proposed, &table, &row);
            let new = proposal.visible().map(|row| &row[..]);
            let begun = new.map(|row| (progress.first.plus(ordinal.get()), row));
            let replaced = match proposal.replaced {
                Some(_) if !into.indexes.is_empty() => newest(&into.store, key.as_ref())?,
                _ => None,
            };
            let old = replaced.as_deref().map_or(Old::Nothing, Old::Row);
            let kind = (place, Kind::CheckedRow);
            window.push(target, kind, key.as_ref(), proposal.replaced, begun);
            window.follow(place, &into.indexes, &into.layout, key.as_ref(), (&old, new));
        }
        Ok(())
    }
}

/// What a change says that the row was.
pub(super) fn old_row<'c>(layout: &RowLayout, op: Op, before: &'c [u8]) -> Result<Old<'c>, RowError> {
    Ok(match op {
        Op::Insert => Old::Nothing,
        Op::Update => Old::Differs(layout.decode_before(before)?),
        Op::Delete => {
            layout.validate(before)?;
            Old::Row(before)
        }
    })
}

/// Makes a change of a row whose table gets another key: only its ordinals are known.
fn change_by_ordinal(
    table: &Table,
    rows: &mut HashMap<Ordinal, (Lsn, Row)>,
    place: Place,
    (ended, begun): (Option<Ordinal>, Option<(Ordinal, &[u8])>),
) -> Result<(), Error> {
    let wrong = |what: String| corrupt(place.at, Some(table.store.id), what);
    if let Some((_, row)) = begun {
        let checked = table.layout.validate(row);
        checked.map_err(|error| wrong(error.to_string()))?;
    }
    let mut old = None;
    if let Some(ended) = ended {
        let removed = rows.remove(&ended);
        old = Some(removed.ok_or_else(|| wrong(format!("ended version {ended} does not exist")))?);
    }
    table.store.counters.add_live(Growth::of(
        old.as_ref().map(|(_, row)| &row[..]),
        begun.map(|(_, row)| row),
    ));
    rows.extend(begun.map(|(ordinal, row)| (ordinal, (place.lsn, Row::from(row)))));
    Ok(())
}
