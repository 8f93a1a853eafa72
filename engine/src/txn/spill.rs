//! Writing ahead: a transaction whose unlogged changes grow puts them into the log as tentative records.
//!
//! So the records that are left for the commit's critical section are always few, however large the load. A commit
//! adopts the tentative records; a rollback ends them with a drop record; a crash leaves them without a commit, which
//! says the same.

use super::Txn;
use crate::catalog::Table;
use crate::commit::{keep_buffer, take_buffer};
use crate::election::change::ElectionChange;
use crate::election::of_catalog;
use crate::error::Error;
use crate::overlay::Journal;
use scry_wal::{StoreId, TentativeId};
use smallvec::SmallVec;
use std::sync::Arc;

impl Txn {
    /// For bulk loads, between rows: writes ahead when much is unlogged, waits until the log's writer has room, and moves out of memory what takes too
    /// much of it.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn room(&mut self) -> Result<(), Error> {
        self.room_if_full().await?;
        self.move_if_large().await
    }

    pub(super) async fn room_if_full(&mut self) -> Result<(), Error> {
        // What is in the log stays there: rows with columns or keys that may turn out never to have been added must not get there.
        let is_much = self.overlay.unlogged_bytes() > self.engine.limits.spill_bytes;
        if is_much && !self.adopting && !self.may_be_redefined() {
            self.engine.log().room().await?;
            self.spill()?;
        }
        Ok(())
    }

    /// Puts everything unlogged into the log as tentative records.
    pub(crate) fn spill(&mut self) -> Result<(), Error> {
        self.write_risen()?;
        let Some(id) = self.id() else { return Ok(()) };
        let id = TentativeId::new(id.get());
        let live = self.live_stores();
        let enough = self.engine.limits.piece_bytes;
        let mut records = take_buffer();
        while !self.overlay.is_clean() {
            records.clear();
            let mut journal = Journal::default();
            let written = self
                .overlay
                .encode(&mut records, enough, Some(id), &live, Some(&mut journal))
                .map_err(Error::from)
                .and_then(|count| self.write_ahead(id, &records, count));
            if let Err(error) = written {
                // The transaction may go on from a savepoint: what is not in the log must not count as logged.
                self.overlay.take_back(journal);
                return Err(error);
            }
        }
        keep_buffer(records);
        Ok(())
    }

    pub(super) fn write_ahead(&mut self, id: TentativeId, records: &[u8], count: u32) -> Result<(), Error> {
        if count == 0 {
            return Ok(());
        }
        let mut appender = self.engine.log().lock()?;
        let lsn = appender.reserve(records.len())?;
        // From here on the log has something that only a commit or a drop record ends.
        self.tentative = Some(id);
        self.engine.checkpoints.begin_tentative(id, lsn);
        appender.put(records, count, false);
        Ok(())
    }

    /// Which of the overlay's stores will exist after this transaction: it may have dropped, truncated or never
    /// really created some itself.
    pub(crate) fn live_stores(&self) -> SmallVec<[bool; 4]> {
        // What this transaction opened may be younger than its catalog.
        let opened = |store| {
            let branches = self.inside.iter().flat_map(|inside| &inside.branches);
            branches.into_iter().any(|branch| branch.store() == store)
        };
        // A catalog that others' changes kept from being made anew lacks what this transaction made.
        let made = |made: StoreId| {
            let changes = self.ddl.iter().map(|applied| of_catalog(&applied.change));
            changes
                .flatten()
                .any(|change| matches!(change, ElectionChange::CreateBranch { store, .. } if *store == made))
        };
        let live = |store| {
            !self.had_ddl
                || self.defines(store)
                || made(store)
                || opened(store)
                || self.catalog.tables.by_store(store).is_some()
                || self.catalog.elections().has_branch(store)
        };
        self.overlay
            .stores
            .iter()
            .map(|written| live(written.store.id))
            .collect()
    }

    /// Whether the transaction's own changes of the catalog leave a table that has a store.
    fn defines(&self, store: StoreId) -> bool {
        let has = |table: &Option<Arc<Table>>| table.as_ref().is_some_and(|table| table.store.id == store);
        let changes = self.ddl.iter().rev();
        let mut last = changes.filter(|applied| has(&applied.table) || has(&applied.retires));
        last.next().is_some_and(|applied| has(&applied.table))
    }

    /// As `live_stores`, where those of indexes are as live as their definitions.
    pub(super) fn stores_that_stay(&self) -> SmallVec<[bool; 4]> {
        let mut stay = self.live_stores();
        let own = self.ddl.iter().filter_map(|applied| applied.table.as_ref());
        let tables: Vec<&Arc<Table>> = self.catalog.all_tables().chain(own).collect();
        for (stays, written) in stay.iter_mut().zip(&self.overlay.stores) {
            if written.store.is_derived() {
                let indexes = tables.iter().flat_map(|table| &table.indexes);
                let mut stores = indexes.map(|index| index.store());
                *stays = !self.had_ddl || stores.any(|store| Arc::ptr_eq(store, &written.store));
            }
        }
        stay
    }

    /// Ends what was written ahead. When the log is gone, recovery does it.
    pub(super) fn drop_tentative(&mut self) {
        if let Some(id) = self.tentative.take() {
            self.engine.checkpoints.end_tentative(id);
            self.engine.collector.end_tentative(&[id]);
        }
    }
}
