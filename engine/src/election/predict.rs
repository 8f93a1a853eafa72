//! What a candidate's rows would meet if it were elected now: predicted conflicts, and who wins where futures overlap.
//!
//! A row of a branch *collides* when its key is no longer as the candidate found it: the version that it replaces has
//! ended, or it is new and another commit has given its key to a row. Which replaced versions have ended is told by the
//! caller, who has them in columns at hand; this is where keys are looked up.
//!
//! Everything is read at the transaction's snapshot. Nothing is locked and nothing is changed.

use super::branch;
use super::elect::{BranchRow, judge};
use super::{Branch, Candidate, OnConflict};
use crate::Row;
use crate::catalog::Table;
use crate::collision::{Decision, Evaluate, Outcome};
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::overlay::Version;
use crate::txn::Txn;
use crate::types::Datum;
use scry_wal::{Lsn, Ordinal};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A row of a branch whose key is not as the candidate found it.
#[derive(Clone, Debug)]
pub struct Collision {
    pub key: Key,
    /// The row's ordinal in the branch.
    pub ordinal: Ordinal,
    /// The row that the candidate found; `None`: there was none.
    pub before: Option<Row>,
    /// The row that is there now, with its ordinal in the table; `None`: there is none.
    pub present: Option<(Ordinal, Row)>,
    /// The row that the candidate wants; `None`: it wants none.
    pub proposed: Option<Row>,
    /// What the table's rules make of it.
    pub decision: Decision,
}

/// What a future has where a row collides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What the candidate wants.
    Proposed,
    /// What is there now.
    Present,
    /// A row made of both.
    Row(Row),
}

impl Collision {
    /// What a future shows in its place: what an election that resolves would leave there now. Where it would fail, the
    /// proposed row stands in.
    pub fn shown(&self) -> Shown {
        match &self.decision.outcome {
            Outcome::Refuse => Shown::Proposed,
            Outcome::Keep | Outcome::Defer => Shown::Present,
            Outcome::Delete => Shown::Proposed,
            Outcome::Put(row) if Some(row) == self.proposed.as_ref() => Shown::Proposed,
            Outcome::Put(row) => Shown::Row(Arc::clone(row)),
        }
    }
}

/// A row that a candidate changes.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: Key,
    pub present: Option<Row>,
    /// What its future has.
    pub proposed: Option<Row>,
}

impl Candidate {
    /// What the candidate changed in a table as it is now; `None`: nothing.
    ///
    /// # Errors
    /// `TableReplaced` when it changed the table, and this is another one by now, or has another key.
    pub fn changes_of(&self, table: &Table) -> Result<Option<&Arc<Branch>>, Error> {
        let Some(branch) = self.branch(table.def.store) else {
            return match self.changed(&table.def.name) {
                false => Ok(None),
                true => Err(replaced(&table.def.name)),
            };
        };
        match branch.table.def.primary_key == table.def.primary_key {
            true => Ok(Some(branch)),
            false if !branch.is_changed() => Ok(None),
            false => Err(replaced(&table.def.name)),
        }
    }

    /// How to look at rows of it that collide: as its election could decide them at best. What consists of statements is
    /// not decided about at all.
    pub fn at_best(&self) -> OnConflict {
        match self.statements().is_empty() {
            true => OnConflict::Resolve,
            false => OnConflict::Fail,
        }
    }

    /// Whether it changed a table that had this name.
    pub fn changed(&self, table: &str) -> bool {
        let mut changed = self.branches().filter(|branch| branch.is_changed());
        changed.any(|branch| branch.table_name() == table)
    }
}

fn replaced(table: &str) -> Error {
    Error::TableReplaced {
        table: table.to_owned(),
    }
}

/// A row of a branch beside the present one.
struct Met {
    key: Key,
    ordinal: Ordinal,
    /// The commit into the branch.
    at: Lsn,
    replaced: Option<Ordinal>,
    /// As the branch has it.
    row: Row,
    present: Option<Version>,
}

impl Met {
    /// Whether the present row is not what the candidate found.
    fn collides(&self) -> bool {
        self.found() != self.replaced
    }

    /// The ordinal of the present row.
    fn found(&self) -> Option<Ordinal> {
        let present = self.present.as_ref()?;
        Some(present.ordinal.unwrap_or_default())
    }

    /// The row that the candidate wants.
    fn proposed(&self, branch: &Branch) -> Option<Row> {
        let proposal = branch::decode(&branch.base_layout(), &branch.table, &self.row);
        proposal.visible().cloned()
    }

    fn collision(
        self,
        branch: &Branch,
        table: &Arc<Table>,
        on_conflict: OnConflict,
        evaluate: &Evaluate<'_>,
    ) -> Collision {
        let found = self.found();
        let row = BranchRow {
            key: self.key,
            ordinal: self.ordinal,
            at: self.at,
            proposal: branch::decode(&branch.base_layout(), &branch.table, &self.row),
        };
        let judged = judge(table, row, self.present, on_conflict, evaluate);
        Collision {
            key: judged.key,
            ordinal: self.ordinal,
            before: judged.before,
            present: found.zip(judged.present),
            proposed: judged.proposed,
            decision: judged.decision,
        }
    }
}

impl Txn {
    /// The rows of a branch of `table` that collide, decided as an election with `on_conflict` would. `has_ended` says of the version with an ordinal whether the snapshot
    /// may not see it any more; where it says no, nothing is looked up.
    pub fn collisions(
        &mut self,
        branch: &Branch,
        table: &Arc<Table>,
        has_ended: impl Fn(Ordinal) -> bool,
        on_conflict: OnConflict,
        evaluate: &Evaluate<'_>,
    ) -> Result<Vec<Collision>, Error> {
        // Keys without primary key are never given twice.
        let keyed = table.def.primary_key.is_some();
        let suspect = |replaced: Option<Ordinal>| replaced.map_or(keyed, &has_ended);
        let met = self.meet(branch, table, suspect)?.into_iter();
        Ok(met
            .filter(Met::collides)
            .map(|met| met.collision(branch, table, on_conflict, evaluate))
            .collect())
    }

    /// The rows that a candidate changes in `table`, in key order, beside what a future shows in their place; without those that
    /// give way to the present.
    pub fn changes(
        &mut self,
        branch: &Branch,
        table: &Arc<Table>,
        on_conflict: OnConflict,
        evaluate: &Evaluate<'_>,
    ) -> Result<Vec<Change>, Error> {
        let change = |met: Met| {
            if !met.collides() {
                return Some(Change {
                    proposed: met.proposed(branch),
                    present: met.present.map(|present| present.row),
                    key: met.key,
                });
            }
            let collision = met.collision(branch, table, on_conflict, evaluate);
            let shown = collision.shown();
            Some(Change {
                proposed: match shown {
                    Shown::Proposed => collision.proposed,
                    Shown::Present => return None,
                    Shown::Row(row) => Some(row),
                },
                present: collision.present.map(|(_, row)| row),
                key: collision.key,
            })
        };
        let met = self.meet(branch, table, |_| true)?;
        Ok(met.into_iter().filter_map(change).collect())
    }

    /// The rows of a branch of which `wanted` says so, by what they replace, beside the present ones.
    fn meet(
        &mut self,
        branch: &Branch,
        table: &Table,
        wanted: impl Fn(Option<Ordinal>) -> bool,
    ) -> Result<Vec<Met>, Error> {
        let layout = &branch.table.layout;
        let column = layout.columns() - branch::EXTRA_COLUMNS;
        let mut rows = Vec::new();
        self.scan(&branch.table, &KeyRange::all(), &mut |key, version| {
            let replaced = match layout.row(&version.row).get(column) {
                Datum::Int8(ordinal) => Some(Ordinal::new(ordinal.cast_unsigned())),
                _ => None,
            };
            if wanted(replaced) {
                let ordinal = version.ordinal.unwrap_or_default();
                let row = Arc::clone(&version.row);
                rows.push((Key::from_bytes(key), ordinal, version.lsn, replaced, row));
            }
            ControlFlow::Continue(())
        })?;
        let rows = rows.into_iter();
        rows.map(|(key, ordinal, at, replaced, row)| {
            Ok(Met {
                present: self.get(table, key.as_ref())?,
                key,
                ordinal,
                at,
                replaced,
                row,
            })
        })
        .collect()
    }

    /// The rows of `below` for whose keys `above`, a branch of the same table, has rows too: the ordinals of both.
    pub fn covered(&mut self, below: &Branch, above: &Branch) -> Result<Vec<(Ordinal, Ordinal)>, Error> {
        let mut rows = Vec::new();
        self.scan(&above.table, &KeyRange::all(), &mut |key, version| {
            rows.push((Key::from_bytes(key), version.ordinal.unwrap_or_default()));
            ControlFlow::Continue(())
        })?;
        let mut covered = Vec::new();
        for (key, above) in rows {
            let below = self.get(&below.table, key.as_ref())?;
            covered.extend(below.and_then(|below| Some((below.ordinal?, above))));
        }
        Ok(covered)
    }
}
