//! What a serializable transaction notes of its reads, and their validation at its commit; see `crate::serial`.

use super::{Isolation, Txn};
use crate::catalog::Table;
use crate::error::Error;
use crate::key::KeyRange;
use crate::overlay::{Logged, Version};
use crate::serial::{DEFINITIONS, Since, WriteSet, write_set};
use scry_wal::{Lsn, StoreId};

impl Txn {
    /// A key was looked up, whatever was found.
    #[inline]
    pub(super) fn note_read(&mut self, store: StoreId, key: &[u8]) {
        if let Some(reads) = &mut self.reads {
            reads.point(store, key);
        }
    }

    /// A range was read, or is going to be.
    #[inline]
    pub(super) fn note_scan(&mut self, store: StoreId, range: &KeyRange) {
        if let Some(reads) = &mut self.reads {
            reads.range(store, range);
        }
    }

    /// A store was read at the snapshot by other ways than this transaction, e.g. on a mirror. All of it counts as read.
    pub fn note_store_read(&mut self, store: StoreId) {
        self.note_scan(store, &KeyRange::all());
    }

    /// Definitions of tables and elections were read as data.
    pub fn note_definitions_read(&mut self) {
        self.note_store_read(DEFINITIONS);
    }

    /// Under SERIALIZABLE a key that is taken by a row which the snapshot does not see is no answer, but a conflict.
    pub(super) fn check_taken(&self, table: &Table, existing: &Version) -> Result<(), Error> {
        match self.isolation {
            Isolation::Serializable => self.check_newer(table, existing.lsn),
            _ => Ok(()),
        }
    }

    /// What a commit is about to write, when somebody wants to know.
    pub(crate) fn watched_writes(&self) -> Option<WriteSet> {
        if !self.engine.serial.is_watched() {
            return None;
        }
        let changes = self
            .overlay
            .changes
            .iter()
            .filter(|pending| match &pending.logged {
                Logged::Row { .. } => true,
                Logged::Gone => pending.base.is_some(),
                Logged::Nothing => false,
            });
        let keys = changes.map(|pending| (self.overlay.store_of(pending).id, &pending.key));
        // What moved out of memory is anywhere in its stores.
        let moved = self.moved_stores().map(|store| store.id);
        Some(write_set(
            keys,
            self.replaced().chain(moved),
            !self.ddl.is_empty(),
        ))
    }

    /// The same in a word, for the critical section: a serializable transaction began after `watched_writes` was asked.
    pub(crate) fn coarse_writes(&self) -> WriteSet {
        let written = self.overlay.stores.iter().map(|written| written.store.id);
        let all = written.chain(self.replaced());
        write_set(std::iter::empty(), all, !self.ddl.is_empty())
    }

    /// The stores of tables by whose definitions nobody may write any more.
    fn replaced(&self) -> impl Iterator<Item = StoreId> {
        let retired = self.ddl.iter().filter_map(|applied| applied.retires.as_ref());
        retired.map(|retired| retired.store.id)
    }

    /// Before the critical section: checks what was read against the commits that there are by now.
    ///
    /// # Errors
    /// `ReadConflict`, `SnapshotTooOld`.
    pub(crate) fn validate_reads(&mut self) -> Result<(), Error> {
        if let Some(reads) = &mut self.reads {
            reads.settle();
            self.validated = self.validate_after(self.snapshot)?;
        }
        Ok(())
    }

    /// Inside of the critical section: checks against those that came meanwhile. `validate_reads` came before.
    pub(crate) fn validate_rest(&self) -> Result<(), Error> {
        self.validate_after(self.validated).map(|_| ())
    }

    /// Answers up to where there is no conflict.
    fn validate_after(&self, mut after: Lsn) -> Result<Lsn, Error> {
        let Some(reads) = &self.reads else {
            return Ok(after);
        };
        loop {
            let (written, upto, more) = match self.engine.serial.since(after) {
                Since::All(written, upto) => (written, upto, false),
                Since::Some(written, upto) => (written, upto, true),
                Since::Lost => {
                    self.engine.counters.conflict();
                    return Err(Error::SnapshotTooOld);
                }
            };
            if let Some(store) = written.iter().find_map(|written| reads.conflict(written)) {
                self.engine.counters.conflict();
                let table = self.catalog.tables.by_store(store);
                return Err(Error::ReadConflict {
                    table: table.map(|table| table.def.name.clone()),
                });
            }
            after = upto;
            if !more {
                return Ok(after);
            }
        }
    }
}
