//! The rows of all stores as of one LSN, for who begins a copy without the log that made them, and follows the log from there.
//!
//! Taken as a checkpoint is: inside of the commit's critical section, where nothing moves, the LSN, the stores and how many
//! ordinals each has begun; the rows are read at that snapshot afterwards, for as long as it takes, beside commits.
//!
//! The stores are those of tables and of branches: what candidates have changed stands in stores of its own, and is handed
//! out like any other. Bulk transactions that are under way have no rows yet; they stand in the log from `restart` on.
//!
//! Invariant: everything handed out is durable.

use crate::catalog::{Catalog, ColumnDef, Table};
use crate::checkpoint::Captured;
use crate::engine::Engine;
use crate::error::Error;
use crate::snapshots::{Slot, Snapshots};
use crate::store::Store;
use crate::txn::ScanCursor;
use scry_wal::{Lsn, StoreId};
use std::collections::HashMap;
use std::sync::Arc;

/// All stores as of one LSN. Holds its snapshot until it is dropped.
pub struct Seed {
    /// All commits up to this one are in the rows, and none behind it.
    pub at: Lsn,
    /// Where the log is to be read from: commits behind `at` may adopt tentative records from here on.
    pub restart: Lsn,
    stores: Vec<SeedStore>,
    snapshots: Arc<Snapshots>,
    slot: Arc<Slot>,
}

/// One store: a table's, or that of what a candidate has changed in one.
pub struct SeedStore {
    pub id: StoreId,
    pub columns: Vec<ColumnDef>,
    /// Whether mirrors have its rows.
    pub mirrored: bool,
    /// Ordinals begun. Those of no row are dead.
    pub count: u64,
    store: Arc<Store>,
}

impl Engine {
    /// Takes the state as of the newest commit. Blocks until that is durable.
    ///
    /// # Errors
    /// `Log` when the log has failed.
    pub fn seed(&self) -> Result<Seed, Error> {
        let slot = self.snapshots.register();
        let Captured { state, catalog, .. } = self.checkpoints.capture(&slot)?;
        let counts: HashMap<StoreId, u64> = state
            .counts
            .iter()
            .map(|(store, counts)| (*store, counts.next_ordinal))
            .collect();
        let store = |(table, mirrored): (&Arc<Table>, bool)| SeedStore {
            id: table.def.store,
            columns: table.def.columns.clone(),
            mirrored,
            count: counts.get(&table.def.store).copied().unwrap_or_default(),
            store: Arc::clone(&table.store),
        };
        let stores = tables(&catalog).map(store).collect();
        let seed = Seed {
            at: state.at,
            restart: state.restart,
            stores,
            snapshots: Arc::clone(&self.snapshots),
            slot,
        };
        self.log().wait_durable(seed.at)?;
        Ok(seed)
    }
}

/// The tables of the present and the branches of candidates, and whether they are mirrored.
fn tables(catalog: &Catalog) -> impl Iterator<Item = (&Arc<Table>, bool)> {
    let candidates = catalog
        .elections()
        .iter()
        .flat_map(|election| election.candidates());
    let branches = candidates.flat_map(|candidate| {
        candidate
            .branches()
            .map(|branch| (&branch.table, candidate.mirrored))
    });
    catalog.all_tables().map(|table| (table, true)).chain(branches)
}

impl Seed {
    pub fn stores(&self) -> &[SeedStore] {
        &self.stores
    }

    /// A cursor over the rows of one of the stores, in the order of their keys. It outlives this.
    pub fn rows(&self, store: &SeedStore) -> ScanCursor {
        ScanCursor::of_committed(Arc::clone(&store.store), &self.snapshots, self.at)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.slot.release();
    }
}
