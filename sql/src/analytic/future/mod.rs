//! Futures: tables as candidates of elections would have them, read at column speed.
//!
//! A future is written as a schema, `"election/candidate".table` ([`FutureName`]). Of each table that a query reads so, the
//! session prepares a [`TableFuture`] before the query runs: the present rows at the query's one LSN, the branches
//! of the candidates at the same LSN, and the [`Overlay`] that says which rows of either are not shown. Scanning it is scanning
//! their units, so a future is pruned, counted and spread over threads as the present is.
//!
//! What an overlay takes (a look at two columns of each branch, at replaced rows that have ended, at keys) is kept by the state
//! of the stores it was made from ([`FutureCache`]): while nothing changes, a future costs what the present costs.

mod cache;
mod listing;
mod name;
mod overlay;

pub use cache::FutureCache;
pub use listing::{Listed, Listing};
pub use name::FutureName;
pub use overlay::{Cover, Layer, Overlay, lay};

use super::freshness::from_mirror;
use super::runtime::Analytic;
use crate::error::Error;
use datafusion::arrow::record_batch::RecordBatch;
use scry_engine::Table;
use scry_mirror::{BranchView, TableSnapshot};
use std::collections::HashMap;
use std::sync::Arc;

/// A future of a table that a query reads.
#[derive(Debug, Clone)]
pub struct FutureRead {
    pub name: Arc<FutureName>,
    pub table: Arc<Table>,
}

/// A table's future at one LSN.
#[derive(Debug)]
pub struct TableFuture {
    /// The rows of the present.
    pub present: Option<TableSnapshot>,
    /// The candidates' branches, those that win last.
    pub branches: Vec<TableSnapshot>,
    pub overlay: Arc<Overlay>,
}

impl TableFuture {
    /// How many rows the candidates have of their own and hide, and how many conflicts are predicted.
    pub fn figures(&self) -> String {
        let overlay = &self.overlay;
        let branches = self.branches.iter().zip(&overlay.hidden_in);
        let shown: u64 = branches
            .map(|(branch, hidden)| branch.live_rows() - hidden.len())
            .sum();
        let count = |count: u64, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        format!(
            "{} of its own, {} hidden, {}",
            count(shown + overlay.added.len() as u64, "row"),
            overlay.hidden_rows,
            count(overlay.collisions, "predicted conflict")
        )
    }
}

/// What one execution reads of futures.
#[derive(Debug, Clone, Default)]
pub struct Futures {
    /// By table and name.
    tables: HashMap<(u32, Arc<FutureName>), Arc<TableFuture>>,
    listings: Vec<(Listing, RecordBatch)>,
}

impl Futures {
    pub fn insert(&mut self, read: &FutureRead, future: TableFuture) {
        let key = (read.table.def.oid, read.name.clone());
        self.tables.insert(key, Arc::new(future));
    }

    pub fn insert_listing(&mut self, listing: &Listing, rows: RecordBatch) {
        self.listings.push((listing.clone(), rows));
    }

    /// The rows of a list.
    pub fn listed(&self, listing: &Listing) -> Option<&RecordBatch> {
        let mut listings = self.listings.iter();
        listings.find(|(known, _)| known == listing).map(|(_, rows)| rows)
    }

    pub fn get(&self, table: &Table, name: &Arc<FutureName>) -> Option<&Arc<TableFuture>> {
        self.tables.get(&(table.def.oid, name.clone()))
    }
}

impl Analytic {
    pub fn futures(&self) -> &FutureCache {
        &self.futures
    }

    /// What a branch does to its table; read on the analytic workers, if nobody knows it yet.
    ///
    /// # Errors
    /// When the branch cannot be read.
    pub async fn branch_view(&self, branch: &TableSnapshot) -> Result<Arc<BranchView>, Error> {
        let state = branch.state();
        if let Some(known) = self.futures.view(state) {
            return Ok(known);
        }
        let branch = branch.clone();
        let reading = self.workers().spawn_blocking(move || BranchView::read(&branch));
        let view = reading
            .await
            .map_err(|_| Error::internal("a worker that read a candidate's changes failed"))?;
        let view = Arc::new(view.map_err(from_mirror)?);
        self.futures.keep_view(state, &view);
        Ok(view)
    }
}
