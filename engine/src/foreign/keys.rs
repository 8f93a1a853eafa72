//! Key locks: taken shared by who refers to a key, exclusively by who ends one.
//!
//! Invariants:
//! - a version that ends a key which is referred to is written only by who holds the key's lock exclusively;
//! - who was told that a key is there holds its lock until the transaction ends, and the newest committed version, or its own, has
//!   the key.

use super::UniqueKey;
use crate::catalog::Table;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::locks::Mode;
use crate::overlay::Version;
use crate::txn::{Kept, Txn};
use std::ops::ControlFlow;

/// A row under its key.
type Keyed<'a> = (&'a [u8], &'a [u8]);

impl Txn {
    /// Holds a key of a table: nobody else ends it before this transaction has ended. Waits for who is about to. False: there is no
    /// such key, or the transaction cannot see it.
    ///
    /// # Errors
    /// As [`Txn::lock`]; `SerializationFailure` when the key that the transaction sees is there no more.
    pub(super) async fn hold_key(
        &mut self,
        table: &Table,
        unique: UniqueKey,
        key: &Key,
    ) -> Result<bool, Error> {
        if self.inside.is_some() {
            return self.sees_key(table, unique, key);
        }
        self.lock_table(table, Mode::Shared).await?;
        let rows = table.unique_rows(unique);
        let place = (rows.store.id, key.clone());
        let was_held = self.keeps(Kept::Key, &place);
        if !was_held {
            self.keep(Kept::Key, table, place.clone(), Mode::Shared).await?;
        }
        let at_snapshot = match self.isolation().keeps_snapshot() {
            true => Some(self.read_at(rows, key, self.snapshot())?),
            false => None,
        };
        let is_there = self.newest(rows, key)?.is_some();
        let is_seen = at_snapshot.as_ref().is_none_or(Option::is_some);
        if !is_there && !was_held {
            self.let_go(Kept::Key, &place);
        }
        if !is_there && at_snapshot.flatten().is_some() {
            return Err(self.changed_since_snapshot(table));
        }
        Ok(is_there && is_seen)
    }

    /// Inside of a candidate: whether it sees the key.
    pub(super) fn sees_key(&mut self, table: &Table, unique: UniqueKey, key: &Key) -> Result<bool, Error> {
        if unique == UniqueKey::Primary {
            return Ok(self.get(table, key)?.is_some());
        }
        let mut found = false;
        self.scan(table, &KeyRange::all(), &mut |own, version| {
            found = table.unique_key_of(unique, own, &version.row).as_ref() == Some(key);
            match found {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        Ok(found)
    }

    /// A row that this transaction has locked becomes another one, or none: takes the locks of those of its keys which
    /// are referred to and end by that. Waits for who refers to them.
    pub(crate) async fn end_keys(
        &mut self,
        table: &Table,
        (own, row): Keyed<'_>,
        new: Option<Keyed<'_>>,
    ) -> Result<(), Error> {
        for unique in &table.referenced {
            if *unique == UniqueKey::Primary && new.is_some_and(|(new_own, _)| new_own == own) {
                continue;
            }
            let Some(key) = table.unique_key_of(*unique, own, row) else {
                continue;
            };
            let kept = new.and_then(|(own, row)| table.unique_key_of(*unique, own, row));
            if kept.as_ref() != Some(&key) {
                let place = (table.unique_rows(*unique).store.id, key);
                self.keep(Kept::Key, table, place, Mode::Exclusive).await?;
            }
        }
        Ok(())
    }

    /// The row of a key as it is now: the transaction's own, else the newest committed one.
    pub(super) fn newest(&mut self, rows: &Table, key: &[u8]) -> Result<Option<Version>, Error> {
        let at = self.engine.visible_lsn();
        self.read_at(rows, key, at)
    }
}
