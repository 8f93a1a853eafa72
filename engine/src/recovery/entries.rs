//! What a commit's changes of rows do to the indexes of their table, which have no records of their own.
//!
//! A change says what the row was: a deletion has all of it, an update the columns that differ. So nothing is read for an index,
//! and its rows go over what the runs have as those of a table do. The rows of a branch that a commit adopts say only which version they
//! replace; that one is read.
//!
//! Records stand in the order in which the transaction first touched the rows, and each is what its row became in the end. So a key of a unique
//! index may be taken before the record is met that gives it up. Such entries are *late*: they are put in when all
//! items of the commit were met that are of their key.

use super::rows::{StorePart, in_memory};
use super::window::{Item, Kind, Place, Target, Window};
use crate::error::Error;
use crate::index::{Index, entry};
use crate::key::Key;
use crate::row::RowLayout;
use crate::store::Growth;
use crate::store::memtable::Found;
use crate::types::Datum;
use scry_wal::Ordinal;
use std::sync::Arc;

/// What a row was before a change.
pub(super) enum Old<'a> {
    Nothing,
    Row(&'a [u8]),
    /// The columns in which it differs from the new row.
    Differs(Vec<(usize, Datum<'a>)>),
}

impl Old<'_> {
    /// The key that it had in an index; `new` is what the change made of it.
    pub(super) fn key(
        &self,
        index: &Index,
        layout: &RowLayout,
        own: &[u8],
        new: Option<&[u8]>,
    ) -> Option<Key> {
        match (self, new) {
            (Old::Nothing, _) => None,
            (Old::Row(old), _) => Some(index.key(layout, old, own)),
            (Old::Differs(columns), Some(new)) => {
                let new = layout.row(new);
                let before = |column: usize| columns.iter().find(|(differs, _)| *differs == column);
                let value = |column| before(column).map_or_else(|| new.get(column), |(_, was)| *was);
                Some(index.key_of(value, own))
            }
            (Old::Differs(_), None) => unreachable!("an update has a new row"),
        }
    }
}

impl Window {
    /// The row of a table under `own` was `old` and is `new`: its indexes follow.
    pub(super) fn follow(
        &mut self,
        place: Place,
        indexes: &[Arc<Index>],
        layout: &RowLayout,
        own: &[u8],
        (old, new): (&Old<'_>, Option<&[u8]>),
    ) {
        for index in indexes.iter().filter(|index| index.is_ready()) {
            let new_key = new.map(|row| index.key(layout, row, own));
            let old_key = old.key(index, layout, own, new);
            if old_key == new_key {
                continue;
            }
            let keys = [(Kind::EntryGone, old_key), (Kind::Entry, new_key)];
            for (kind, key) in keys {
                if let Some(key) = key {
                    self.push_entry(index, (place, kind), &key, own);
                }
            }
        }
    }

    /// The entry of the table's row under `own` begins or ends.
    pub(super) fn push_entry(&mut self, index: &Arc<Index>, as_what: (Place, Kind), key: &[u8], own: &[u8]) {
        let target = self.index(index);
        self.push(target, as_what, key, None, Some((Ordinal::default(), own)));
    }
}

impl StorePart<'_> {
    /// Makes the changes of one row of an index.
    pub(super) fn entry(&mut self, order: &[u128]) -> Result<(), Error> {
        let window = self.window;
        let mut late: Vec<&Item> = Vec::new();
        for ordered in order {
            let item = window.item(*ordered);
            if late.first().is_some_and(|late| late.place.lsn != item.place.lsn) {
                self.put_late(&mut late)?;
            }
            let (key, own) = (window.key(item), window.row(item));
            if item.kind == Kind::EntryGone {
                let before = late.len();
                late.retain(|late| window.row(late) != own);
                if late.len() == before {
                    self.take_out(item.place, key, own)?;
                }
                continue;
            }
            match in_memory(self.store, key) {
                Found::Row(Some(_)) => late.push(item),
                _ => self.put_in(item)?,
            }
        }
        self.put_late(&mut late)
    }

    fn put_late(&mut self, late: &mut Vec<&Item>) -> Result<(), Error> {
        late.drain(..).try_for_each(|item| self.put_in(item))
    }

    fn put_in(&mut self, item: &Item) -> Result<(), Error> {
        let window = self.window;
        let begun = (Ordinal::default(), entry(window.row(item)));
        self.put(item.place, window.key(item), None, Some(begun))
    }

    fn take_out(&mut self, place: Place, key: &[u8], own: &[u8]) -> Result<(), Error> {
        match in_memory(self.store, key) {
            Found::Row(Some(other)) if &other[..] != own => {
                // It was put over an entry that only the runs have, which is the one that goes.
                self.growth += Growth::of(Some(&entry(own)), None);
                Ok(())
            }
            Found::Row(None) => {
                let name = match self.target {
                    Target::Index(index) => &index.def.name[..],
                    Target::Table(_) => "",
                };
                let what = format!("an entry of \"{name}\" ended that does not exist");
                Err(self.wrong(place, what))
            }
            Found::Row(Some(_)) | Found::Nothing | Found::NotHere => {
                self.put(place, key, Some(Ordinal::default()), None)
            }
        }
    }
}
