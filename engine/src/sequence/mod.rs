//! Sequences: numbers that are handed out once.
//!
//! A sequence has a definition, which is an object of the catalog and changes by commits as tables do, and a [`Counter`],
//! which no transaction owns: a number that was drawn is drawn, whatever becomes of who drew it. The counter is known by a
//! [`StoreId`], as a table's data is. Definitions of one sequence share it; restarting a sequence, which is undone with its
//! transaction, gives it another one.
//!
//! A candidate has the tables of its base, but the sequences of the present: two futures never draw the same number.
//!
//! Invariants:
//! - a name is that of one sequence, and of no table or index;
//! - every counter that a committed definition names has a position in the log or the checkpoint, or has handed out nothing.

mod counter;

pub(crate) use counter::Counter;

use crate::catalog::undefined;
use crate::catalog_change::CatalogChange;
use crate::engine::Engine;
use crate::error::Error;
use crate::locks::TableLock;
use crate::types::DataType;
use scry_wal::{Log, Lsn, SequencePosition, StoreId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A column that a sequence belongs to: it goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceOwner {
    /// The table's oid.
    pub table: u32,
    /// The column's number, from 0.
    pub column: usize,
}

/// What a sequence is.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceDef {
    /// Stable; visible to PostgreSQL clients.
    pub oid: u32,
    pub name: String,
    /// The identity of its counter; a restart changes it.
    pub store: StoreId,
    pub options: SequenceOptions,
    pub owner: Option<SequenceOwner>,
}

/// Which numbers a sequence gives.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceOptions {
    /// An integer type.
    pub ty: DataType,
    /// Where it begins, and where a restart without a number begins again.
    pub start: i64,
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    /// So many more numbers are reserved at once.
    pub cache: i64,
    /// Whether it begins again behind its last number.
    pub cycle: bool,
}

impl SequenceOptions {
    /// Whether they make sense by themselves.
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        let reason = match self {
            _ if !self.ty.is_integer() => "a sequence gives integers",
            Self { increment: 0, .. } => "a sequence moves on",
            _ if self.min >= self.max => "the least number of a sequence is below its greatest",
            _ if !(self.min..=self.max).contains(&self.start) => "a sequence begins within its bounds",
            _ if self.cache < 1 => "a sequence reserves a number at least",
            _ => return Ok(()),
        };
        Err(Error::InvalidDefinition {
            table: name.to_owned(),
            reason,
        })
    }
}

/// A sequence as one catalog knows it.
#[derive(Debug)]
pub struct Sequence {
    pub def: SequenceDef,
    pub(crate) counter: Arc<Counter>,
    pub(crate) lock: Arc<TableLock>,
}

impl Sequence {
    /// A sequence with a counter of its own, whose first number is `first`.
    pub(crate) fn beginning_at(def: SequenceDef, first: i64, lock: Arc<TableLock>) -> Sequence {
        let counter = Arc::new(Counter::new(def.store, first));
        Sequence { def, counter, lock }
    }

    /// The same numbers under another definition.
    pub(crate) fn redefined(&self, def: SequenceDef) -> Sequence {
        Sequence {
            def,
            counter: Arc::clone(&self.counter),
            lock: Arc::clone(&self.lock),
        }
    }

    /// Draws the next number. No answer may tell of it before the log is durable beyond the LSN that comes with it.
    ///
    /// # Errors
    /// `SequenceLimit`; `Log` when the log has failed.
    pub fn next(&self, engine: &Engine) -> Result<(i64, Lsn), Error> {
        self.counter.next(&self.def, engine.log())
    }

    /// Has the sequence go on behind `value`, or begin with it when it is not `called`. At once, for all, and for good. The LSN is that
    /// of [`Sequence::next`].
    ///
    /// # Errors
    /// `SequenceValue` beyond the bounds; `Log` when the log has failed.
    pub fn set(&self, engine: &Engine, value: i64, called: bool) -> Result<Lsn, Error> {
        self.counter.set(&self.def, engine.log(), value, called)
    }

    /// The last number, and whether it was drawn: otherwise it is the next.
    pub fn position(&self) -> (i64, bool) {
        self.counter.now()
    }
}

/// All sequences.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    by_oid: BTreeMap<u32, Arc<Sequence>>,
    by_name: BTreeMap<String, u32>,
}

impl Sequences {
    /// The sequence of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Sequence>> {
        self.by_oid.get(self.by_name.get(name)?)
    }

    pub fn by_oid(&self, oid: u32) -> Option<&Arc<Sequence>> {
        self.by_oid.get(&oid)
    }

    /// By rising oid.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Sequence>> {
        self.by_oid.values()
    }

    /// Those that belong to columns of a table.
    pub fn owned_by(&self, table: u32) -> impl Iterator<Item = &Arc<Sequence>> {
        let owned =
            move |sequence: &&Arc<Sequence>| sequence.def.owner.is_some_and(|owner| owner.table == table);
        self.iter().filter(owned)
    }

    /// Where the counters are, as the log says.
    pub(crate) fn logged(&self) -> Vec<SequencePosition> {
        self.iter().map(|sequence| sequence.counter.logged()).collect()
    }

    /// Puts into the log how far the counters really are, so that a restart goes on without a gap.
    pub(crate) fn give_back(&self, log: &Log) -> Result<(), Error> {
        self.iter()
            .try_for_each(|sequence| sequence.counter.give_back(log))
    }

    /// Makes a change. `is_taken` says whether something else has a name.
    pub(crate) fn apply(
        &mut self,
        change: &CatalogChange,
        sequence: Option<&Arc<Sequence>>,
        is_taken: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let check_name = |sequences: &Sequences, name: &str| match sequences.by_name.contains_key(name)
            || is_taken(name)
        {
            true => Err(Error::DuplicateTable {
                name: name.to_owned(),
            }),
            false => Ok(()),
        };
        match (change, sequence) {
            (CatalogChange::CreateSequence(def), Some(sequence)) => {
                check_name(self, &def.name)?;
                self.by_name.insert(def.name.clone(), def.oid);
                self.by_oid.insert(def.oid, Arc::clone(sequence));
            }
            (CatalogChange::RedefineSequence(def), Some(sequence)) => {
                let known = self.by_oid.get(&def.oid).ok_or_else(|| undefined(def.oid))?;
                if known.def.name != def.name {
                    check_name(self, &def.name)?;
                    self.by_name.remove(&known.def.name);
                    self.by_name.insert(def.name.clone(), def.oid);
                }
                self.by_oid.insert(def.oid, Arc::clone(sequence));
            }
            (CatalogChange::DropSequence { oid, .. }, _) => {
                let known = self.by_oid.remove(oid).ok_or_else(|| undefined(*oid))?;
                self.by_name.remove(&known.def.name);
            }
            _ => unreachable!("a change of sequences without the sequence it makes"),
        }
        Ok(())
    }
}

/// What a change of sequences is about; `None` for any other change.
pub(crate) fn of_catalog(change: &CatalogChange) -> Option<u32> {
    match change {
        CatalogChange::CreateSequence(def) | CatalogChange::RedefineSequence(def) => Some(def.oid),
        CatalogChange::DropSequence { oid, .. } => Some(*oid),
        _ => None,
    }
}
