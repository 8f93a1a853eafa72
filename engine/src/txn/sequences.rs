//! CREATE, ALTER and DROP SEQUENCE, inside transactions.
//!
//! Drawing numbers is none of a transaction's business; see `sequence`.

use super::Txn;
use crate::catalog::AppliedChange;
use crate::catalog_change::CatalogChange;
use crate::error::Error;
use crate::locks::Mode;
use crate::sequence::{Sequence, SequenceDef, SequenceOptions, SequenceOwner, Sequences};
use scry_wal::SequencePosition;
use std::sync::Arc;

impl Txn {
    /// Whether the transaction has changed the catalog.
    pub fn has_definitions(&self) -> bool {
        !self.ddl.is_empty()
    }

    /// All sequences, as this transaction sees them.
    pub fn sequences(&self) -> &Arc<Sequences> {
        self.catalog().sequences()
    }

    /// Creates a sequence.
    ///
    /// # Errors
    /// `DuplicateTable`, from the commit, too; `InvalidDefinition`.
    pub fn create_sequence(
        &mut self,
        name: &str,
        options: SequenceOptions,
        owner: Option<SequenceOwner>,
    ) -> Result<Arc<Sequence>, Error> {
        self.not_in_candidate("CREATE SEQUENCE")?;
        options.check(name)?;
        self.holder();
        let first = options.start;
        let def = SequenceDef {
            oid: self.engine.next_oid(),
            name: name.to_owned(),
            store: self.engine.next_store_id(),
            options,
            owner,
        };
        let sequence = Arc::new(Sequence::beginning_at(def.clone(), first, Arc::default()));
        self.alter_sequence(CatalogChange::CreateSequence(def), Some(&sequence))?;
        Ok(sequence)
    }

    /// Gives a sequence another definition. Without `restart` it goes on where it is. Otherwise it begins with that number at the commit;
    /// others draw the old numbers until then. Waits for others that alter it.
    ///
    /// # Errors
    /// `DuplicateTable`, `InvalidDefinition`, `TableChanged`.
    pub async fn redefine_sequence(
        &mut self,
        sequence: &Arc<Sequence>,
        mut def: SequenceDef,
        restart: Option<i64>,
    ) -> Result<Arc<Sequence>, Error> {
        self.not_in_candidate("ALTER SEQUENCE")?;
        assert_eq!(
            (sequence.def.oid, sequence.def.store),
            (def.oid, def.store),
            "a definition of the same sequence"
        );
        def.options.check(&def.name)?;
        self.lock_sequence(sequence).await?;
        let new = match restart {
            None => sequence.redefined(def.clone()),
            Some(first) => {
                def.store = self.engine.next_store_id();
                Sequence::beginning_at(def.clone(), first, Arc::clone(&sequence.lock))
            }
        };
        let new = Arc::new(new);
        self.alter_sequence(CatalogChange::RedefineSequence(def), Some(&new))?;
        Ok(new)
    }

    /// Drops a sequence. Who has a default that draws from it is the caller's affair.
    ///
    /// # Errors
    /// `TableChanged`.
    pub async fn drop_sequence(&mut self, sequence: &Arc<Sequence>) -> Result<(), Error> {
        self.not_in_candidate("DROP SEQUENCE")?;
        self.lock_sequence(sequence).await?;
        let change = CatalogChange::DropSequence {
            oid: sequence.def.oid,
            store: sequence.def.store,
        };
        self.alter_sequence(change, None)
    }

    async fn lock_sequence(&mut self, sequence: &Arc<Sequence>) -> Result<(), Error> {
        let (lock, name, oid) = (&sequence.lock, &sequence.def.name, sequence.def.oid);
        self.take_lock(lock, Mode::Exclusive, name).await?;
        let is_own = self
            .ddl
            .iter()
            .any(|applied| crate::sequence::of_catalog(&applied.change) == Some(oid));
        let latest = match is_own {
            true => self.sequences().by_oid(oid).cloned(),
            false => self.engine.catalog().sequences().by_oid(oid).cloned(),
        };
        match latest.is_some_and(|latest| Arc::ptr_eq(&latest, sequence)) {
            true => Ok(()),
            false => Err(Error::TableChanged { table: name.clone() }),
        }
    }

    fn alter_sequence(
        &mut self,
        change: CatalogChange,
        sequence: Option<&Arc<Sequence>>,
    ) -> Result<(), Error> {
        self.add_change(AppliedChange {
            change,
            table: None,
            sequence: sequence.cloned(),
            retires: None,
        })
    }

    /// Where the counters are that nobody but this transaction knows: its commit logs them.
    pub(crate) fn new_counters(&self) -> Vec<SequencePosition> {
        if self.ddl.iter().all(|applied| applied.sequence.is_none()) {
            return Vec::new();
        }
        let latest = self.engine.catalog();
        let is_new = |sequence: &&Arc<Sequence>| {
            let known = latest.sequences().by_oid(sequence.def.oid);
            known.is_none_or(|known| !Arc::ptr_eq(&known.counter, &sequence.counter))
        };
        let made = self.ddl.iter().filter_map(|applied| applied.sequence.as_ref());
        let positions = made.filter(is_new).map(|sequence| sequence.counter.logged());
        positions.collect()
    }
}
