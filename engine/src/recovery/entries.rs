//! What a commit's changes of rows do to the indexes of their table, which have no records of their own.
//!
//! A change says what the row was: a deletion has all of it, an update the columns that differ. So nothing is read for an index,
//! and its rows go over what the runs have as those of a table do. The rows of a branch that a commit adopts say only which version they
//! replace; that one is read.
//!
//! Records stand in the order in which the transaction first touched the rows, and each is what its row became in the end. So a key of a unique
//! index may be taken before the record is met that gives it up. Such entries are *late*: they are put in when all
//! records of the commit were met.

use super::rows::in_memory;
use super::{Replay, corrupt};
use crate::Row;
use crate::error::Error;
use crate::index::{Index, entry};
use crate::key::Key;
use crate::row::RowLayout;
use crate::store::Growth;
use crate::store::memtable::Found;
use crate::types::Datum;
use scry_wal::{Lsn, Ordinal};
use std::collections::HashMap;
use std::sync::Arc;

/// What a row was before a change.
pub(super) enum Old<'a> {
    Nothing,
    Row(&'a [u8]),
    /// The columns in which it differs from the new row.
    Differs(Vec<(usize, Datum<'a>)>),
}

/// Entries of one commit whose keys others have not given up yet.
#[derive(Default)]
pub(super) struct Late {
    by_key: HashMap<(usize, Key), LateEntries>,
}

/// Of one key: of which index, and the keys of the table's rows.
struct LateEntries {
    index: Arc<Index>,
    own: Vec<Key>,
}

impl Late {
    fn place(index: &Arc<Index>, key: &Key) -> (usize, Key) {
        (Arc::as_ptr(index.store()) as usize, key.clone())
    }

    fn add(&mut self, index: &Arc<Index>, key: &Key, own: &[u8]) {
        let made = || LateEntries {
            index: Arc::clone(index),
            own: Vec::new(),
        };
        let late = self.by_key.entry(Late::place(index, key)).or_insert_with(made);
        late.own.push(Key::from_bytes(own));
    }

    /// Answers whether it was there.
    fn remove(&mut self, index: &Arc<Index>, key: &Key, own: &[u8]) -> bool {
        if self.by_key.is_empty() {
            return false;
        }
        let late = self.by_key.get_mut(&Late::place(index, key));
        let Some(late) = late else { return false };
        let before = late.own.len();
        late.own.retain(|other| other.as_ref() != own);
        late.own.len() < before
    }
}

impl Replay {
    /// The row of a table under `own` was `old` and is `new` by the commit at `lsn`: its indexes follow.
    pub(super) fn follow(
        &mut self,
        lsn: Lsn,
        indexes: &[Arc<Index>],
        layout: &RowLayout,
        own: &[u8],
        (old, new): (&Old<'_>, Option<&Row>),
        late: &mut Late,
    ) -> Result<(), Error> {
        for index in indexes.iter().filter(|index| index.is_ready()) {
            let new_key = new.map(|row| index.key(layout, row, own));
            let old_key = match (old, new) {
                (Old::Nothing, _) => None,
                (Old::Row(old), _) => Some(index.key(layout, old, own)),
                (Old::Differs(columns), Some(new)) => {
                    let new = layout.row(new);
                    let before = |column: usize| columns.iter().find(|(differs, _)| *differs == column);
                    let value = |column| before(column).map_or_else(|| new.get(column), |(_, was)| *was);
                    Some(index.key_of(value, own))
                }
                (Old::Differs(_), None) => unreachable!("an update has a new row"),
            };
            if old_key == new_key {
                continue;
            }
            if let Some(old_key) = old_key {
                self.take_out(lsn, index, &old_key, own, late)?;
            }
            if let Some(new_key) = new_key {
                self.put_in(lsn, index, &new_key, own, late)?;
            }
        }
        Ok(())
    }

    /// Puts in the entries that were late.
    pub(super) fn put_late(&mut self, lsn: Lsn, late: Late) -> Result<(), Error> {
        for ((_, key), LateEntries { index, own }) in late.by_key {
            for own in own {
                self.put(
                    lsn,
                    lsn,
                    index.store(),
                    key.as_ref(),
                    None,
                    Some(begun(own.as_ref())),
                )?;
            }
        }
        Ok(())
    }

    fn put_in(
        &mut self,
        lsn: Lsn,
        index: &Arc<Index>,
        key: &Key,
        own: &[u8],
        late: &mut Late,
    ) -> Result<(), Error> {
        if let Found::Row(Some(_)) = in_memory(index.store(), key.as_ref()) {
            late.add(index, key, own);
            return Ok(());
        }
        self.put(lsn, lsn, index.store(), key.as_ref(), None, Some(begun(own)))
    }

    fn take_out(
        &mut self,
        lsn: Lsn,
        index: &Arc<Index>,
        key: &Key,
        own: &[u8],
        late: &mut Late,
    ) -> Result<(), Error> {
        if late.remove(index, key, own) {
            return Ok(());
        }
        let store = index.store();
        match in_memory(store, key.as_ref()) {
            Found::Row(Some(other)) if &other[..] != own => {
                // It was put over an entry that only the runs have, which is the one that goes.
                store.counters.add_live(Growth::of(Some(&entry(own)), None));
                Ok(())
            }
            Found::Row(None) => {
                let what = format!("an entry of \"{}\" ended that does not exist", index.def.name);
                Err(corrupt(lsn, Some(store.id), what))
            }
            Found::Row(Some(_)) | Found::Nothing | Found::NotHere => {
                self.put(lsn, lsn, store, key.as_ref(), Some(Ordinal::default()), None)
            }
        }
    }
}

/// The version of an entry.
fn begun(own: &[u8]) -> (Ordinal, Row) {
    (Ordinal::default(), entry(own))
}
