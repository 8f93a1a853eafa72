//! What the items of a window do to rows in memory.

use super::corrupt;
use super::window::{Item, Kind, Place, Target, Window};
use crate::Row;
use crate::collector::Grave;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::locks::RowRef;
use crate::overlay::Version;
use crate::pins::any_sees;
use crate::store::entry::RowEntry;
use crate::store::memtable::Found;
use crate::store::scan::Met;
use crate::store::{DirtyRows, Growth, Store};
use scry_wal::{Lsn, Ordinal};
use std::collections::HashMap;
use std::sync::Arc;

/// A part of a window, applied by one thread.
pub(super) struct Part<'w> {
    window: &'w Window,
    graves: Vec<Grave>,
}

/// The part's items of one store. What they amount to is counted here, and added to the store's counts in the end.
pub(super) struct StorePart<'w> {
    pub(super) window: &'w Window,
    pub(super) target: &'w Target,
    pub(super) store: &'w Arc<Store>,
    pub(super) growth: Growth,
    graves: Vec<Grave>,
    dirty: DirtyRows,
    memory: i64,
    superseded: u64,
    last_row_id: Option<u64>,
}

impl<'w> Part<'w> {
    pub(super) fn new(window: &'w Window) -> Part<'w> {
        let graves = Vec::new();
        Part { window, graves }
    }

    /// Makes the changes of items in their order. Answers what was deleted and somebody may still see.
    pub(super) fn apply(mut self, order: &[u128]) -> Result<Vec<Grave>, Error> {
        let window = self.window;
        let mut alike = Vec::new();
        for of_target in order.chunk_by(|one, next| one >> 96 == next >> 96) {
            let mut part = StorePart::new(window, &window.targets[(of_target[0] >> 96) as usize]);
            for of_prefix in of_target.chunk_by(|one, next| one >> 32 == next >> 32) {
                if let [_] = of_prefix {
                    part.same_key(of_prefix)?;
                    continue;
                }
                let key = |ordered: &u128| window.key(window.item(*ordered));
                alike.clear();
                alike.extend_from_slice(of_prefix);
                // What has the same key stays in the order of the log.
                alike.sort_by(|one, other| key(one).cmp(key(other)));
                for of_key in alike.chunk_by(|one, next| key(one) == key(next)) {
                    part.same_key(of_key)?;
                }
            }
            self.graves.extend(part.finish());
        }
        Ok(self.graves)
    }
}

impl<'w> StorePart<'w> {
    fn new(window: &'w Window, target: &'w Target) -> StorePart<'w> {
        StorePart {
            window,
            target,
            store: target.store(),
            growth: Growth::default(),
            graves: Vec::new(),
            dirty: DirtyRows::default(),
            memory: 0,
            superseded: 0,
            last_row_id: None,
        }
    }

    fn finish(self) -> Vec<Grave> {
        let store = self.store;
        store.counters.add_live(self.growth);
        store.counters.add_superseded(self.superseded);
        if let Some(row_id) = self.last_row_id {
            store.counters.saw_hidden_key(row_id);
        }
        store.home.backing.add_memory(self.memory);
        store.add_dirty(self.dirty);
        self.graves
    }

    fn same_key(&mut self, order: &[u128]) -> Result<(), Error> {
        match self.target {
            Target::Table(_) => self.row(order),
            Target::Index(_) => self.entry(order),
        }
    }

    pub(super) fn wrong(&self, place: Place, what: String) -> Error {
        corrupt(place.at, Some(self.store.id), what)
    }

    /// Makes the changes of one row.
    fn row(&mut self, order: &[u128]) -> Result<(), Error> {
        let window = self.window;
        let mut last: Option<Item> = None;
        for ordered in order {
            let mut item = *window.item(*ordered);
            self.check(&item)?;
            if let Some(before) = last.take() {
                let is_next = before.begun == item.ended && item.begun.is_some();
                match is_next && !self.is_kept(&before, item.place) {
                    true => item.ended = before.ended,
                    false => self.put_row(&before)?,
                }
            }
            match item.begun {
                Some(_) => last = Some(item),
                None => self.put_row(&item)?,
            }
        }
        last.map_or(Ok(()), |last| self.put_row(&last))
    }

    /// Checks what later readers rely on.
    fn check(&mut self, item: &Item) -> Result<(), Error> {
        let Target::Table(table) = self.target else {
            return Ok(());
        };
        if item.kind == Kind::Row && item.begun.is_some() {
            let checked = table.layout.validate(self.window.row(item));
            checked.map_err(|error| self.wrong(item.place, error.to_string()))?;
        }
        if table.def.primary_key.is_none()
            && let Ok(row_id) = <[u8; 8]>::try_from(self.window.key(item))
        {
            self.last_row_id = self.last_row_id.max(Some(u64::from_be_bytes(row_id)));
        }
        Ok(())
    }

    /// Whether somebody may see a version that another one ended.
    fn is_kept(&self, version: &Item, ended: Place) -> bool {
        let pins = self.window.pins.as_deref().unwrap_or_default();
        ended.lsn > ended.oldest || any_sees(pins, version.place.lsn, ended.lsn)
    }

    fn put_row(&mut self, item: &Item) -> Result<(), Error> {
        let window = self.window;
        let begun = item.begun.map(|ordinal| (ordinal, Row::from(window.row(item))));
        self.put(item.place, window.key(item), item.ended, begun)
    }

    /// Ends one version of a row and begins another.
    pub(super) fn put(
        &mut self,
        place: Place,
        key: &[u8],
        ended: Option<Ordinal>,
        begun: Option<(Ordinal, Row)>,
    ) -> Result<(), Error> {
        match (ended, begun) {
            (None, Some(begun)) => self.insert(place, key, begun),
            (Some(ended), begun) => self.replace(place, key, ended, begun),
            (None, None) => Ok(()),
        }
    }

    fn keep(&self, place: Place) -> (Lsn, &'w [Lsn]) {
        (place.oldest, self.window.pins.as_deref().unwrap_or_default())
    }

    fn insert(&mut self, place: Place, key: &[u8], (ordinal, row): (Ordinal, Row)) -> Result<(), Error> {
        let keep = self.keep(place);
        let key = Key::from_bytes(key);
        self.growth += Growth::of(None, Some(&row));
        let (mut row, memory) = (Some(row), &mut self.memory);
        let made = self.store.rows.get_or_insert_if(&key, |has_gaps| {
            let entry = RowEntry::committed(place.lsn, ordinal, row.take());
            let mut state = entry.lock();
            if has_gaps {
                state.set_below();
            }
            let _ = state.mark_dirty();
            *memory += state.recount(key.as_ref(), 0);
            drop(state);
            Some(Arc::new(entry))
        });
        let (entry, is_new) = made.expect("it is always made");
        if is_new {
            let row_bytes = entry.lock().newest_bytes();
            self.dirty.push(key, entry, row_bytes);
            return Ok(());
        }
        let mut state = entry.lock();
        let before = state.weight(key.as_ref());
        // A deletion that a pin has kept stays until replay is over, though the pin may be gone.
        if state.newest(self.store.id).row.is_some() {
            let what = "a row with the key of an inserted row exists".to_owned();
            return Err(self.wrong(place, what));
        }
        let kept = state.supersede(place.lsn, ordinal, row, keep);
        self.superseded += u64::from(kept);
        if state.mark_dirty() {
            self.dirty
                .push(key.clone(), Arc::clone(&entry), state.newest_bytes());
        }
        self.memory += state.recount(key.as_ref(), before);
        Ok(())
    }

    fn replace(
        &mut self,
        place: Place,
        key: &[u8],
        ended: Ordinal,
        begun: Option<(Ordinal, Row)>,
    ) -> Result<(), Error> {
        let (store, keep) = (self.store, self.keep(place));
        let mut begun = Some(begun);
        let found = store.rows.find(key, |entry| {
            let mut state = entry.lock();
            let before = state.weight(key);
            let newest = state.newest(store.id);
            if newest.ordinal != ended || newest.row.is_none() {
                let what = format!("version {ended} ended, {} found", newest.ordinal);
                return Err(corrupt(place.at, Some(store.id), what));
            }
            let (ordinal, row) = begun.take().flatten().unzip();
            let old = newest.row.map(|row| &row[..]);
            self.growth += Growth::of(old, row.as_deref());
            let is_deletion = row.is_none();
            let kept = state.supersede(place.lsn, ordinal.unwrap_or_default(), row, keep);
            if is_deletion && !state.is_below() {
                if state.is_bare_deletion() {
                    self.memory += state.recount(key, before);
                    return Ok(Some(Arc::clone(entry)));
                }
                self.graves.push(Grave {
                    lsn: place.lsn,
                    row: RowRef {
                        store: Arc::clone(store),
                        key: Key::from_bytes(key),
                        entry: Arc::clone(entry),
                    },
                });
            }
            self.superseded += u64::from(kept && !is_deletion);
            if state.mark_dirty() {
                self.dirty
                    .push(Key::from_bytes(key), Arc::clone(entry), state.newest_bytes());
            }
            self.memory += state.recount(key, before);
            Ok(None)
        });
        match found {
            Found::Row(Ok(None)) => Ok(()),
            Found::Row(Ok(Some(entry))) => {
                store.remove(key, &entry);
                Ok(())
            }
            Found::Row(Err(error)) => Err(error),
            Found::Nothing => {
                let what = format!("version {ended} ended, but its row does not exist");
                Err(self.wrong(place, what))
            }
            Found::NotHere => {
                self.put_unseen(place, key, begun.take().flatten());
                Ok(())
            }
        }
    }

    /// Ends a version that only the runs have, and begins another.
    fn put_unseen(&mut self, place: Place, key: &[u8], begun: Option<(Ordinal, Row)>) {
        self.growth += Growth::unseen(true, begun.as_ref().map(|(_, row)| &row[..]));
        let (ordinal, row) = begun.unzip();
        let entry = RowEntry::committed(place.lsn, ordinal.unwrap_or_default(), row);
        let key = Key::from_bytes(key);
        let mut state = entry.lock();
        state.set_below();
        let _ = state.mark_dirty();
        self.memory += state.recount(key.as_ref(), 0);
        let row_bytes = state.newest_bytes();
        drop(state);
        let (entry, _) = self.store.rows.get_or_insert_with(&key, || Arc::new(entry));
        self.dirty.push(key, entry, row_bytes);
    }
}

/// What memory has of a row as it is now.
pub(super) fn in_memory(store: &Store, key: &[u8]) -> Found<Option<Row>> {
    let newest = |entry: &Arc<RowEntry>| entry.lock().newest(store.id).row.map(Arc::clone);
    store.rows.find(key, newest)
}

/// The row of a key as it is now.
pub(super) fn newest(store: &Store, key: &[u8]) -> Result<Option<Row>, Error> {
    Ok(match in_memory(store, key) {
        Found::Row(row) => row,
        Found::Nothing => None,
        Found::NotHere => store.newest_below(key)?.map(|version| version.row),
    })
}

/// Calls `visit` with each row of a store, until it fails.
pub(super) fn each_newest(
    store: &Store,
    visit: &mut dyn FnMut(&Key, Version) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut visited = Ok(());
    store.scan_newest(&KeyRange::all(), |key, met| {
        let version = match met {
            Met::Entry(entry) => entry.lock().newest(store.id).version(),
            Met::Below(stored) => stored.version(),
        };
        if let Some(version) = version {
            visited = visit(key, version);
        }
        visited.is_ok()
    })?;
    visited
}

/// All rows of a store, each by the ordinal of its one version.
pub(super) fn rows_by_ordinal(store: &Store) -> Result<HashMap<Ordinal, (Lsn, Row)>, Error> {
    let mut rows = HashMap::new();
    each_newest(store, &mut |_, version| {
        rows.insert(version.ordinal.unwrap_or_default(), (version.lsn, version.row));
        Ok(())
    })?;
    Ok(rows)
}
