//! What the row of a child refers to must be there; what a row of a parent was referred to by must not.

use super::{Children, KeyMatch, UniqueKey};
use crate::catalog::{Table, key_values, undefined};
use crate::error::{BrokenReference, Error};
use crate::key::Key;
use crate::locks::Mode;
use crate::txn::{Txn, turn};
use crate::types::Value;
use std::sync::Arc;

impl Txn {
    /// Refuses a row whose n-th foreign key refers to what is not there. What it refers to stays there until this transaction has
    /// ended.
    ///
    /// # Errors
    /// `ReferenceMissing`, `ReferenceByHalves`; as [`Txn::lock`].
    pub async fn check_reference(&mut self, table: &Table, number: usize, row: &[u8]) -> Result<(), Error> {
        let Some(values) = table.refers(number, row)? else {
            return Ok(());
        };
        let parent = self.parent(table, number)?;
        let there = match parent.referred(table, number, &values)? {
            Some((unique, key)) => self.hold_key(&parent, unique, &key).await?,
            None => false,
        };
        match there {
            true => Ok(()),
            false => Err(missing(table, number, &parent, values)),
        }
    }

    /// The table that the n-th foreign key refers to.
    pub(super) fn parent(&self, table: &Table, number: usize) -> Result<Arc<Table>, Error> {
        let oid = table.def.foreign_keys[number].table;
        let parent = self.catalog().by_oid(oid).cloned();
        parent.ok_or_else(|| undefined(oid))
    }

    /// Before rows of a table are written, which may end keys of them: takes the locks of all tables that may be looked at or changed for that.
    ///
    /// # Errors
    /// As [`Txn::lock`], when one of them is not what the statement has resolved.
    pub async fn enter_references(&mut self, table: &Arc<Table>, ends: bool) -> Result<(), Error> {
        if self.inside.is_some() {
            return Ok(());
        }
        let mut met = vec![table.def.oid];
        let mut next = vec![Arc::clone(table)];
        while let Some(table) = next.pop() {
            for number in 0..table.def.foreign_keys.len() {
                let parent = self.parent(&table, number)?;
                self.lock_table(&parent, Mode::Shared).await?;
            }
            let children = if ends {
                self.references_to(&table)
            } else {
                Vec::new()
            };
            for (child, _) in children {
                if !met.contains(&child.def.oid) {
                    met.push(child.def.oid);
                    self.lock_table(&child, Mode::Shared).await?;
                    next.push(child);
                }
            }
        }
        Ok(())
    }

    /// The foreign keys that refer to a table: the table of each, and its number there.
    pub fn references_to(&self, table: &Table) -> Vec<(Arc<Table>, usize)> {
        let mut found: Vec<(Arc<Table>, usize)> = Vec::new();
        for reference in &table.def.referenced_by {
            if found.iter().any(|(child, _)| child.def.oid == reference.table) {
                continue;
            }
            let Some(child) = self.catalog().by_oid(reference.table) else {
                continue;
            };
            for (number, key) in child.def.foreign_keys.iter().enumerate() {
                if key.table == table.def.oid {
                    found.push((Arc::clone(child), number));
                }
            }
        }
        found
    }

    /// Refuses that a row of `table` is no more, or has other keys, while rows of `child` refer to it. With `again`, it is
    /// no matter when another row has the key by now.
    ///
    /// # Errors
    /// `StillReferenced`; as [`Txn::lock`].
    pub async fn check_unreferenced(
        &mut self,
        table: &Table,
        (child, number): (&Arc<Table>, usize),
        row: &[u8],
        again: bool,
    ) -> Result<(), Error> {
        let columns = &child.def.foreign_keys[number].referenced;
        let values = key_values(&table.layout, columns, row);
        if again && self.has_key(table, child, number, &values)? {
            return Ok(());
        }
        let Some(mut children) = self.children((child, number), &values).await? else {
            return Ok(());
        };
        while let Some(batch) = self.next_children(&mut children)? {
            for (key, _) in batch {
                if self.is_still_child(&children, &key).await? {
                    return Err(Error::StillReferenced(Box::new(BrokenReference {
                        constraint: child.def.foreign_keys[number].name.clone(),
                        child: child.def.name.clone(),
                        parent: table.def.name.clone(),
                        columns: table.column_names(columns),
                        key: values,
                    })));
                }
            }
            turn().await;
        }
        Ok(())
    }

    /// Whether a row of `table` has these values where the n-th foreign key of `child` refers to.
    fn has_key(
        &mut self,
        table: &Table,
        child: &Table,
        number: usize,
        values: &[Value],
    ) -> Result<bool, Error> {
        let Some((unique, key)) = table.referred(child, number, values)? else {
            return Ok(false);
        };
        match self.inside {
            Some(_) => self.sees_key(table, unique, &key),
            None => Ok(self.newest(table.unique_rows(unique), &key)?.is_some()),
        }
    }

    /// A row was found to refer to what is gone. When another transaction is about to delete it, waits for that.
    async fn is_still_child(&mut self, children: &Children, key: &Key) -> Result<bool, Error> {
        let table = children.table();
        if self.inside.is_some() || !self.is_ended_by_another(table, key) {
            return Ok(true);
        }
        let found = self.lock(table, key).await?;
        let is_child = found.is_some_and(|version| children.is_child(&version.row));
        self.unlock_unwritten(table, key);
        Ok(is_child)
    }

    /// Whether another transaction that has not ended has deleted the row.
    fn is_ended_by_another(&self, table: &Table, key: &Key) -> bool {
        let asked = table.store.rows.with(key, |entry| {
            let state = entry.lock();
            let own = self.holder_if_any().and_then(|holder| state.slot_of(holder));
            state.ending && own.is_none()
        });
        asked.unwrap_or(false)
    }
}

impl Table {
    /// What a row refers to by its n-th foreign key, if to anything.
    pub(super) fn refers(&self, number: usize, row: &[u8]) -> Result<Option<Vec<Value>>, Error> {
        let key = &self.def.foreign_keys[number];
        let row = self.layout.row(row);
        let nulls = key.columns.iter().filter(|column| row.is_null(**column)).count();
        match key.matching {
            _ if nulls == 0 => {
                let value = |column: &usize| row.get(*column).to_value();
                Ok(Some(key.columns.iter().map(value).collect()))
            }
            KeyMatch::Full if nulls < key.columns.len() => Err(Error::ReferenceByHalves {
                table: self.def.name.clone(),
                constraint: key.name.clone(),
            }),
            KeyMatch::Simple | KeyMatch::Full => Ok(None),
        }
    }

    /// The unique key of this table, a parent, that a row of a child with these values refers to; `None`: no row can have it.
    pub(super) fn referred(
        &self,
        child: &Table,
        number: usize,
        values: &[Value],
    ) -> Result<Option<(UniqueKey, Key)>, Error> {
        let columns = &child.def.foreign_keys[number].referenced;
        let unique = self.def.unique_key(columns).ok_or(Error::InvalidDefinition {
            table: self.def.name.clone(),
            reason: "a foreign key refers to columns that are no unique key",
        })?;
        let key = self.unique_key_with(unique, columns, values);
        Ok(key.map(|key| (unique, key)))
    }
}

/// A row of `table` refers to what is not in `parent`.
pub(super) fn missing(table: &Table, number: usize, parent: &Table, key: Vec<Value>) -> Error {
    let def = &table.def.foreign_keys[number];
    Error::ReferenceMissing(Box::new(BrokenReference {
        constraint: def.name.clone(),
        child: table.def.name.clone(),
        parent: parent.def.name.clone(),
        columns: table.column_names(&def.columns),
        key,
    }))
}
