//! `scry log --audit`: who changed one row, when, and from what to what.
//!
//! The row is named by its table and key. Its changes are found by what stands in the rows themselves and not by the bytes of
//! keys, so those from before the table had its primary key are found, too, and a change of the key itself is found under
//! both. What ended the row with its whole table is part of its story, and so is what a candidate has made of it: the
//! candidate's own changes, under the candidate's name, and the adoption that made them the table's.
//!
//! Each change is told with its commit, so what was written ahead of a commit is held until there is one: it never
//! happened otherwise. Bound: the changes of this one row in transactions that are open.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use scry_engine::{CatalogChange, ElectionChange};
use scry_wal::{Change, Frame, Lsn, Record, StoreId, TentativeId};

use super::line::{Line, Style, Who};
use super::names::Names;
use super::{AuditError, catalog_change, record_error};

/// Tells the story of one row.
pub struct RowAudit<'a, W> {
    pub names: &'a Names,
    pub out: W,
    pub style: Style,
    pub from: Lsn,
    pub table: &'a str,
    /// The values of the key's columns, as text.
    pub key: &'a [String],
    /// Lines that may still be printed.
    pub left: u64,
    pub printed: u64,
    tentative: HashMap<TentativeId, Vec<Line>>,
    /// Stores of candidates that changed the row.
    branches: HashSet<StoreId>,
}

impl<'a, W: Write> RowAudit<'a, W> {
    pub fn new(names: &'a Names, out: W, style: Style, table: &'a str, key: &'a [String]) -> Self {
        Self {
            names,
            out,
            style,
            from: Lsn::ZERO,
            table,
            key,
            left: u64::MAX,
            printed: 0,
            tentative: HashMap::new(),
            branches: HashSet::new(),
        }
    }

    /// Takes the next frame of the trail.
    pub fn frame(&mut self, frame: &Frame) -> Result<(), AuditError> {
        let mut held = Vec::new();
        for record in frame.records() {
            let (lsn, record) = record.map_err(|source| record_error(frame, source))?;
            match record {
                Record::Change(change) => held.extend(self.change(lsn, None, &change)),
                Record::Tentative { id, change } => {
                    if let Some(line) = self.change(lsn, Some(id), &change) {
                        self.tentative.entry(id).or_default().push(line);
                    }
                }
                Record::TentativeDrop(id) => {
                    self.tentative.remove(&id);
                }
                Record::Sequence(_) => {}
                Record::Catalog(bytes) => held.extend(self.catalog(lsn, &catalog_change(lsn, bytes)?)),
                Record::Commit(commit) => {
                    let adopted = commit.adopts.and_then(|id| self.tentative.remove(&id));
                    let who = Who::of(&commit);
                    for mut line in adopted.into_iter().flatten().chain(held.drain(..)) {
                        line.sign(&who);
                        self.print(&line)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, lsn: Lsn, tentative: Option<TentativeId>, change: &Change<'_>) -> Option<Line> {
        let store = change.store;
        if self.names.base_table(store) != Some(self.table)
            || !self.names.keys_of(change).iter().any(|key| key == self.key)
        {
            return None;
        }
        if self.names.is_branch(store) {
            self.branches.insert(store);
        }
        Some(Line::change(lsn, &Who::default(), tentative, change, self.names))
    }

    fn catalog(&self, lsn: Lsn, change: &CatalogChange) -> Option<Line> {
        let table = self.names.table_of(change).unwrap_or_default();
        let concerned = match change {
            CatalogChange::Truncate { .. } | CatalogChange::DropTable { .. } => table == self.table,
            CatalogChange::Election(ElectionChange::Adopt { branch, .. }) => self.branches.contains(branch),
            CatalogChange::Election(ElectionChange::Decide { base, keys, .. }) => {
                self.names.base_table(*base) == Some(self.table)
                    && keys.iter().any(|key| {
                        let named = self.names.key(lsn, *base, key).unwrap_or_default();
                        named
                            .iter()
                            .map(|named| named.value.as_deref())
                            .eq(self.key.iter().map(|value| Some(value.as_str())))
                    })
            }
            _ => false,
        };
        concerned.then(|| Line::catalog(lsn, &Who::default(), table, change, self.names))
    }

    fn print(&mut self, line: &Line) -> Result<(), AuditError> {
        if line.lsn() < self.from || self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        self.printed += 1;
        self.style.write(line, &mut self.out).map_err(AuditError::Output)
    }
}
