//! What foreign keys leave to the end of the transaction: marks of the tables that are to be looked at. What has changed in them by then
//! the engine knows (`Txn::check_changes`), so a mark says no more than that there may be something.
//!
//! Invariant: of a table without a mark nothing has still to be checked.

use scry_engine::{Error as EngineError, ForeignKeyDef, Table, Txn};
use std::sync::Arc;

/// When constraints are checked, as far as the transaction has said so.
#[derive(Clone, Default)]
pub struct Modes {
    all: Option<bool>,
    /// The last word on a name comes last.
    named: Vec<(String, bool)>,
}

impl Modes {
    /// SET CONSTRAINTS; no names: ALL.
    pub fn set(&mut self, names: &[String], deferred: bool) {
        if names.is_empty() {
            *self = Modes {
                all: Some(deferred),
                named: Vec::new(),
            };
        }
        for name in names {
            self.named.retain(|(known, _)| known != name);
            self.named.push((name.clone(), deferred));
        }
    }

    pub fn is_deferred(&self, key: &ForeignKeyDef) -> bool {
        let named = self.named.iter().find(|(name, _)| *name == key.name);
        let said = named.map(|(_, deferred)| *deferred).or(self.all);
        key.deferrable && said.unwrap_or(key.deferred)
    }
}

/// What waits for the end of the transaction. A savepoint has a copy, to which a rollback returns.
#[derive(Clone, Default)]
pub struct Deferred {
    pub modes: Modes,
    /// The tables of which something is to be checked.
    tables: Vec<u32>,
}

impl Deferred {
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether something of the table with this oid is to be checked.
    pub fn has(&self, table: u32) -> bool {
        self.tables.contains(&table)
    }

    pub fn mark(&mut self, table: u32) {
        if !self.has(table) {
            self.tables.push(table);
        }
    }

    /// Checks what the transaction has changed against the constraints that are deferred, or against those that are not.
    pub async fn check(&self, txn: &mut Txn, deferred: bool) -> Result<(), EngineError> {
        txn.check_changes(&|_, key| self.modes.is_deferred(key) == deferred)
            .await
    }

    /// All that is not deferred any more has been checked: a table of which no constraint is, has nothing left.
    pub fn checked(&mut self, txn: &Txn) {
        let modes = &self.modes;
        self.tables.retain(|oid| {
            let table = txn.catalog().by_oid(*oid);
            table.is_some_and(|table| {
                let own = table.def.foreign_keys.iter().any(|key| modes.is_deferred(key));
                let is_deferred = |(child, number): &(Arc<Table>, usize)| {
                    modes.is_deferred(&child.def.foreign_keys[*number])
                };
                own || txn.references_to(table).iter().any(is_deferred)
            })
        });
    }
}
