//! What the log and the checkpoint say of sequences.
//!
//! A counter's position is kept by its store from the first record that names it: the commit that creates the sequence may follow
//! later. Of counters that no definition names in the end nothing is left.

use super::{Replay, corrupt};
use crate::catalog::AppliedChange;
use crate::catalog_change::CatalogChange;
use crate::error::Error;
use crate::sequence::{Sequence, SequenceDef};
use scry_wal::{Lsn, SequencePosition};
use std::sync::Arc;

impl Replay {
    pub(super) fn position(&mut self, position: SequencePosition) {
        self.last_store = self.last_store.max(position.store.get());
        self.positions.insert(position.store, position);
    }

    /// Makes a change of a sequence; false when it is of something else.
    pub(super) fn alter_sequence(&mut self, lsn: Lsn, change: &CatalogChange) -> Result<bool, Error> {
        let unknown = |oid: u32| corrupt(lsn, None, format!("the catalog has no sequence with oid {oid}"));
        let sequences = self.catalog.sequences();
        if let CatalogChange::CreateSequence(def) | CatalogChange::RedefineSequence(def) = change {
            let checked = def.options.check(&def.name);
            checked.map_err(|error| corrupt(lsn, Some(def.store), error.to_string()))?;
        }
        let beginning =
            |def: &SequenceDef, lock| Sequence::beginning_at(def.clone(), def.options.start, lock);
        let sequence = match change {
            CatalogChange::CreateSequence(def) => Some(beginning(def, Arc::default())),
            CatalogChange::RedefineSequence(def) => {
                let known = sequences.by_oid(def.oid).ok_or_else(|| unknown(def.oid))?;
                Some(match known.def.store == def.store {
                    true => known.redefined(def.clone()),
                    false => beginning(def, Arc::clone(&known.lock)),
                })
            }
            CatalogChange::DropSequence { oid, .. } => {
                sequences.by_oid(*oid).ok_or_else(|| unknown(*oid))?;
                None
            }
            _ => return Ok(false),
        };
        if let Some(sequence) = &sequence {
            self.last_oid = self.last_oid.max(sequence.def.oid);
            self.last_store = self.last_store.max(sequence.def.store.get());
        }
        let applied = AppliedChange {
            change: change.clone(),
            table: None,
            sequence: sequence.map(Arc::new),
            retires: None,
        };
        self.record_change(lsn, applied)?;
        Ok(true)
    }

    /// Sets the counters to where the log has left them.
    pub(super) fn restore_counters(&self) {
        for sequence in self.catalog.sequences().iter() {
            if let Some(position) = self.positions.get(&sequence.def.store) {
                sequence.counter.restore(*position);
            }
        }
    }
}
