//! Transactions larger than memory: what their tentative records say waits in files, and is put into runs when they commit.
//!
//! Tentative changes of a transaction that take more than `Ground::bulk_bytes` go into runs of their own, by store and key; the changes of one key stand
//! there as its versions, numbered in the order of the log. When a commit adopts them, its own changes are added. What the memtable has of them goes
//! through the window, as the changes of any commit do. Of the others only what is left in the end counts: rows are written into
//! layers as a flush has them, and so are entries of indexes. Two walks over the rows that are changed make that of them:
//!
//! 1. rows in memory of which a version was committed before go into the window, and of those that only the runs have, the entries that they give
//!    up into a layer;
//! 2. rows that only the runs have, and new ones, and their entries, go into layers in front of that one; but into the window what the
//!    memtable has something of, and entries whose key the first walk's window gives up.
//!
//! The layers are put in front of the set, and the next checkpoint takes them over (`crate::runs::private`). Only the rows of a table that gets another
//! primary key by the same commit are read into memory, for those are known by their ordinals.

use super::changes::{OwnedChange, Progress, RowChange, old_row};
use super::layers::{Layers, VERSION_BYTES, merge};
use super::rows::in_memory;
use super::window::{Kind, Place};
use super::{Replay, corrupt};
use crate::Row;
use crate::catalog::Table;
use crate::error::Error;
use crate::index::{Index, entry};
use crate::key::Key;
use crate::row::{RowError, RowLayout};
use crate::runs::private::PrivateRuns;
use crate::runs::{Runs, SpaceId, Stored};
use crate::store::Growth;
use crate::store::memtable::Found;
use scry_wal::{Change, Ended, Lsn, Op, Ordinal, Record, StoreId};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Tentative changes of one transaction.
#[derive(Default)]
pub(super) struct Kept {
    /// In the order of the log, behind those of `bulk`.
    changes: Vec<OwnedChange>,
    bytes: usize,
    bulk: Option<Bulk>,
}

/// Those that were put into files.
struct Bulk {
    runs: PrivateRuns,
    /// How many changes there are.
    count: u64,
    /// How many versions they begin, by store.
    begun: BTreeMap<StoreId, u64>,
}

/// One change out of the files.
struct Numbered {
    /// Its place among the changes of the transaction.
    number: u64,
    /// Of the version that it begins, among those of its store.
    local: u64,
    record: Row,
}

/// A store of which rows are changed.
pub(super) struct Into {
    pub(super) table: Arc<Table>,
    pub(super) first: Ordinal,
    /// Ordinals from there on that a branch has taken.
    pub(super) before: u64,
    /// Its rows are known by their ordinals alone.
    pub(super) is_by_ordinal: bool,
}

impl Into {
    /// Of the version that a change begins.
    fn ordinal(&self, numbered: &Numbered) -> Ordinal {
        self.first.plus(self.before + numbered.local)
    }
}

impl Kept {
    pub(super) fn push(
        &mut self,
        change: OwnedChange,
        runs: &Arc<Runs>,
        bulk_bytes: usize,
    ) -> Result<(), Error> {
        self.bytes += change.bytes() + VERSION_BYTES;
        self.changes.push(change);
        match self.bytes > bulk_bytes {
            true => self.spill(runs),
            false => Ok(()),
        }
    }

    /// The changes, if none of them is in a file.
    pub(super) fn in_memory(&self) -> Option<&[OwnedChange]> {
        self.bulk.is_none().then_some(&self.changes[..])
    }

    /// Puts what is in memory into files.
    fn spill(&mut self, runs: &Arc<Runs>) -> Result<(), Error> {
        let bulk = self.bulk.get_or_insert_with(|| Bulk {
            runs: PrivateRuns::new(runs),
            count: 0,
            begun: BTreeMap::new(),
        });
        self.bytes = 0;
        let mut numbered = Vec::new();
        for change in self.changes.drain(..) {
            bulk.count += 1;
            let begun = bulk.begun.entry(change.store()).or_default();
            numbered.push((bulk.count, *begun, change));
            *begun += u64::from(numbered.last().is_some_and(|(.., change)| change.begins()));
        }
        // Versions of a key are written newest first.
        numbered.sort_unstable_by(|(one, _, a), (other, _, b)| {
            let place = a.place().cmp(&b.place());
            place.then(other.cmp(one))
        });
        let mut writer = runs.begin_private();
        let mut record = Vec::new();
        for (number, local, change) in numbered {
            record.clear();
            change.encode(&mut record)?;
            let stored = Stored {
                lsn: Lsn::new(number),
                ordinal: Ordinal::new(local),
                row: Some(Row::from(&record[..])),
            };
            let (store, key) = change.place();
            writer.add(space_of(store), key, &[stored])?;
        }
        bulk.runs.push(writer)?;
        merge(&mut bulk.runs)
    }
}

/// The space that a store has in the files.
fn space_of(store: StoreId) -> SpaceId {
    SpaceId::new(store.get())
}

impl Numbered {
    fn of(stored: Stored) -> Numbered {
        Numbered {
            number: stored.lsn.get(),
            local: stored.ordinal.get(),
            record: stored.row.unwrap_or_else(|| Row::from(&[][..])),
        }
    }

    fn change(&self, lsn: Lsn) -> Result<Change<'_>, Error> {
        match scry_wal::record::decode(&self.record) {
            Ok((Record::Change(change), _)) => Ok(change),
            _ => Err(corrupt(lsn, None, "a tentative change makes no sense".to_owned())),
        }
    }
}

impl Bulk {
    /// Calls `visit` with the changes of each row of a store, in the order of the log.
    fn each(
        &self,
        store: StoreId,
        mut visit: impl FnMut(&Key, &[Numbered]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut versions = self.runs.versions(space_of(store))?;
        while let Some((key, newest_first)) = versions.next()? {
            let changes: Vec<Numbered> = newest_first.into_iter().rev().map(Numbered::of).collect();
            visit(&key, &changes)?;
        }
        Ok(())
    }
}

impl Replay {
    /// Makes the changes of a commit that adopts what is in files: `plain` are its own records, behind these.
    pub(super) fn adopt_bulk(
        &mut self,
        progress: &mut Progress,
        mut kept: Kept,
        plain: &[(Lsn, Change<'_>)],
    ) -> Result<(), Error> {
        let lsn = progress.lsn;
        let runs = Arc::clone(&self.backing.runs);
        kept.changes
            .extend(plain.iter().map(|(_, change)| OwnedChange::of(change)));
        kept.spill(&runs)?;
        let Some(bulk) = kept.bulk else { return Ok(()) };
        self.applying.settle()?;
        let mut tables = Vec::new();
        for (store, begun) in &bulk.begun {
            // Changes of a store that the commit does not name are void.
            let Some(into) = progress.begin_bulk(*store, *begun) else {
                continue;
            };
            match into.is_by_ordinal {
                true => self.change_in_order(progress, &bulk, &into)?,
                false => tables.push((into, HashSet::new())),
            }
        }
        let mut layers = Layers::new(&runs, self.bulk_bytes);
        for (into, in_window) in &mut tables {
            bulk.each(into.table.store.id, |key, changes| {
                if !was_there(changes, lsn)? {
                    return Ok(());
                }
                if let Found::NotHere = in_memory(&into.table.store, key) {
                    return self.end_entries(into, lsn, key, changes, &mut layers);
                }
                in_window.insert(key.clone());
                for numbered in changes {
                    let change = RowChange::from(&numbered.change(lsn)?);
                    self.change_as(lsn, progress, change, into.ordinal(numbered))?;
                }
                Ok(())
            })?;
        }
        layers.write()?;
        let given_up = self.applying.ended_entries();
        for (into, in_window) in &tables {
            self.change_bulk(&bulk, (into, in_window), lsn, &given_up, &mut layers)?;
        }
        layers.write()?;
        layers.publish();
        Ok(())
    }

    /// Makes the changes of a table whose rows are known by their ordinals.
    fn change_in_order(&mut self, progress: &mut Progress, bulk: &Bulk, into: &Into) -> Result<(), Error> {
        let lsn = progress.lsn;
        let mut all = Vec::new();
        bulk.each(into.table.store.id, |_, changes| {
            let numbered = changes.iter().map(|numbered| Numbered {
                record: Arc::clone(&numbered.record),
                ..*numbered
            });
            all.extend(numbered);
            Ok(())
        })?;
        all.sort_unstable_by_key(|numbered| numbered.number);
        for numbered in all {
            let change = RowChange::from(&numbered.change(lsn)?);
            self.change_as(lsn, progress, change, into.ordinal(&numbered))?;
        }
        Ok(())
    }

    /// Ends the entries that a row gives up which only the runs have.
    fn end_entries(
        &mut self,
        into: &Into,
        lsn: Lsn,
        key: &Key,
        changes: &[Numbered],
        layers: &mut Layers,
    ) -> Result<(), Error> {
        let table = &into.table;
        if table.indexes.is_empty() {
            return Ok(());
        }
        let (place, pins) = (self.at(lsn), self.catalog.elections().pins());
        let row = changed(changes, lsn, into)?;
        for index in table.indexes.iter().filter(|index| index.is_ready()) {
            let Some(old_key) = row.old_key(index, key, lsn)? else {
                continue;
            };
            let new_key = match row.left {
                Some(left) => Some(index.key(&table.layout, left.change(lsn)?.after, key)),
                None => None,
            };
            if new_key.as_ref() == Some(&old_key) {
                continue;
            }
            if let Found::NotHere = in_memory(index.store(), &old_key) {
                put_entry(layers, index, old_key, key, (lsn, Becomes::Gone))?;
                continue;
            }
            let window = self.applying.window_with(|| pins.list());
            window.push_entry(index, (place, Kind::EntryGone), &old_key, key);
        }
        Ok(())
    }

    /// Where a commit stands whose changes are in files.
    fn at(&self, lsn: Lsn) -> Place {
        Place {
            at: lsn,
            lsn,
            oldest: self.oldest,
        }
    }

    /// Makes the changes of a table's rows but those that are in the window.
    fn change_bulk(
        &mut self,
        bulk: &Bulk,
        (into, in_window): (&Into, &HashSet<Key>),
        lsn: Lsn,
        given_up: &HashSet<(usize, Key)>,
        layers: &mut Layers,
    ) -> Result<(), Error> {
        let table = &into.table;
        let store = &table.store;
        let place = self.at(lsn);
        let pins = self.catalog.elections().pins();
        let mut writer = layers.begin();
        let mut growth = Growth::default();
        let (mut is_written, mut last_row_id) = (false, None);
        let indexes: Vec<&Arc<Index>> = table.indexes.iter().filter(|index| index.is_ready()).collect();
        // What is not in memory may be in the layers from here on.
        store.set_below();
        indexes.iter().for_each(|index| index.store().set_below());
        bulk.each(store.id, |key, changes| {
            if in_window.contains(key) {
                return Ok(());
            }
            let changed = changed(changes, lsn, into)?;
            let Some(left) = changed.left else {
                if changed.old.is_some() {
                    growth += Growth::unseen(true, None);
                    is_written = true;
                    let (ordinal, row) = (Ordinal::default(), None);
                    writer.add(store.home.space, key, &[Stored { lsn, ordinal, row }])?;
                }
                return Ok(());
            };
            let row = left.change(lsn)?.after;
            let ordinal = into.ordinal(left);
            if table.def.primary_key.is_none()
                && let Ok(row_id) = <[u8; 8]>::try_from(key.as_ref())
            {
                last_row_id = last_row_id.max(Some(u64::from_be_bytes(row_id)));
            }
            for index in &indexes {
                let entry_key = index.key(&table.layout, row, key);
                if changed.old_key(index, key, lsn)?.as_ref() == Some(&entry_key) {
                    continue;
                }
                let is_free = matches!(
                    in_memory(index.store(), &entry_key),
                    Found::Nothing | Found::NotHere
                );
                let known = (Arc::as_ptr(index.store()).addr(), entry_key);
                if is_free && !given_up.contains(&known) {
                    put_entry(layers, index, known.1, key, (lsn, Becomes::Row))?;
                    continue;
                }
                let window = self.applying.window_with(|| pins.list());
                window.push_entry(index, (place, Kind::Entry), &known.1, key);
            }
            if changed.old.is_none()
                && let Found::Row(_) = in_memory(store, key)
            {
                let window = self.applying.window_with(|| pins.list());
                let target = window.table(table);
                window.push(target, (place, Kind::CheckedRow), key, None, Some((ordinal, row)));
                return Ok(());
            }
            growth += match changed.old {
                Some(_) => Growth::unseen(true, Some(row)),
                None => Growth::of(None, Some(row)),
            };
            is_written = true;
            let row = Some(Row::from(row));
            writer.add(store.home.space, key, &[Stored { lsn, ordinal, row }])
        })?;
        store.counters.add_live(growth);
        if let Some(row_id) = last_row_id {
            store.counters.saw_hidden_key(row_id);
        }
        if is_written {
            layers.push(writer)?;
        }
        Ok(())
    }
}

/// Adds an entry of an index, of the table's row under `own`, or its end.
fn put_entry(
    layers: &mut Layers,
    index: &Index,
    key: Key,
    own: &Key,
    (lsn, becomes): (Lsn, Becomes),
) -> Result<(), Error> {
    let row = entry(own);
    let (growth, row) = match becomes {
        Becomes::Row => (Growth::of(None, Some(&row)), Some(row)),
        Becomes::Gone => (Growth::of(Some(&row), None), None),
    };
    index.store().counters.add_live(growth);
    let ordinal = Ordinal::default();
    layers.put(index.store().home.space, key, Stored { lsn, ordinal, row })
}

/// Whether a version of a row was committed before the changes of one transaction.
fn was_there(changes: &[Numbered], lsn: Lsn) -> Result<bool, Error> {
    // Only the first can end one.
    let Some(first) = changes.first() else {
        return Ok(false);
    };
    Ok(matches!(first.change(lsn)?.ended, Ended::Ordinal(_)))
}

/// What the changes of one transaction come to for a row.
struct Changed<'c> {
    layout: &'c RowLayout,
    /// The change that ended the version which was committed before, if there was one.
    old: Option<&'c Numbered>,
    /// The change that made the last version; `None`: in the end there is no row.
    left: Option<&'c Numbered>,
}

/// What becomes of an entry.
#[derive(Clone, Copy)]
enum Becomes {
    Row,
    Gone,
}

fn changed<'c>(changes: &'c [Numbered], lsn: Lsn, into: &'c Into) -> Result<Changed<'c>, Error> {
    let layout = &into.table.layout;
    let (mut old, mut left): (Option<&Numbered>, Option<&Numbered>) = (None, None);
    for (number, numbered) in changes.iter().enumerate() {
        let change = numbered.change(lsn)?;
        let there = left.map(|left| into.before + left.local);
        let is_next = match change.ended {
            Ended::Ordinal(_) => number == 0,
            Ended::Own(local) => there == Some(u64::from(local)),
            Ended::None => there.is_none(),
        };
        if !is_next || (change.ended == Ended::None) != (change.op == Op::Insert) {
            let what = format!("version {:?} ended, {there:?} found", change.ended);
            return Err(corrupt(lsn, Some(change.store), what));
        }
        if let Ended::Ordinal(_) = change.ended {
            old = Some(numbered);
        }
        left = (change.op != Op::Delete).then_some(numbered);
        if left.is_some() {
            let checked = layout.validate(change.after);
            checked.map_err(|error| corrupt(lsn, Some(change.store), error.to_string()))?;
        }
    }
    Ok(Changed { layout, old, left })
}

impl Changed<'_> {
    /// The key that the row had in an index, if it was there.
    fn old_key(&self, index: &Index, own: &Key, lsn: Lsn) -> Result<Option<Key>, Error> {
        let Some(old) = self.old else { return Ok(None) };
        let change = old.change(lsn)?;
        let damaged = |error: RowError| corrupt(lsn, Some(change.store), error.to_string());
        let after = (change.op != Op::Delete).then_some(change.after);
        let was = old_row(self.layout, change.op, change.before).map_err(damaged)?;
        Ok(was.key(index, self.layout, own, after))
    }
}
