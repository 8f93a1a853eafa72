//! Preparing the futures that a query reads: everything at the one LSN of the statement's snapshot.
//!
//! The mirror is asked for exactly that LSN, whatever `scry.freshness` says: keys of predicted conflicts are looked up in
//! the engine, and both have to show the same commits.

use super::Session;
use crate::analytic::{AnalyticPlan, Cover, FutureRead, Futures, Layer, Need, Source, TableFuture, lay};
use crate::collision as rules;
use crate::error::{Error, SqlState};
use roaring::RoaringTreemap;
use scry_engine::{Branch, Candidate, Collision};
use scry_mirror::{Snapshot, TableSnapshot};
use std::collections::HashMap;
use std::sync::Arc;

/// A candidate that has changed the table of a future.
struct Changed {
    candidate: Arc<Candidate>,
    branch: Arc<Branch>,
    rows: TableSnapshot,
}

impl Session {
    /// Where the rows of a plan that reads futures come from.
    pub(super) async fn source_with_futures(
        &mut self,
        plan: &AnalyticPlan,
        primary: bool,
    ) -> Result<Source, Error> {
        self.check_futures_readable()?;
        self.check_not_held(plan)?;
        let txn = self.transaction.open_txn()?;
        for read in plan.futures() {
            txn.note_store_read(read.table.def.store);
        }
        for table in plan.tables() {
            txn.note_store_read(table.def.store);
        }
        // Which candidates there are, and what they have changed.
        txn.note_definitions_read();
        let need = Need::Exactly(txn.snapshot());
        let present = match primary {
            true => Some(self.primary_source(plan).await?),
            false => None,
        };
        let snapshot = self.mirror_snapshot(need).await?;
        let mut futures = Futures::default();
        for read in plan.futures() {
            futures.insert(read, self.table_future(read, &snapshot).await?);
        }
        for listing in plan.listings() {
            let rows = self.listing(listing, &snapshot).await?;
            futures.insert_listing(listing, rows);
        }
        let present = present.unwrap_or_else(|| Source::Mirror {
            snapshot,
            own: HashMap::new(),
        });
        Ok(Source::WithFutures {
            present: Box::new(present),
            futures,
        })
    }

    /// A future shows what is committed, beside the present.
    fn check_futures_readable(&mut self) -> Result<(), Error> {
        let Some(txn) = self.transaction.txn() else {
            return Ok(());
        };
        if txn.candidate().is_some() {
            return Err(Error::unsupported("reading a future inside a candidate")
                .with_hint("RESET scry.candidate first."));
        }
        if txn.is_past() {
            return Err(
                Error::unsupported("reading a future as of the past").with_hint("RESET scry.as_of first.")
            );
        }
        if txn.has_writes() {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "a future cannot be read in a transaction that has written",
            )
            .with_hint("A future shows committed rows only. Commit first."));
        }
        Ok(())
    }

    async fn table_future(&mut self, read: &FutureRead, snapshot: &Snapshot) -> Result<TableFuture, Error> {
        let present = snapshot.table(read.table.def.store);
        let changed = self.changed(read, snapshot)?;
        let branches: Vec<TableSnapshot> = changed.iter().map(|changed| changed.rows.clone()).collect();
        let states = present.iter().chain(&branches).map(TableSnapshot::state);
        let states: Vec<_> = states.collect();
        // The rules are the catalog's.
        let version = self.catalog().version();
        let known = match changed.is_empty() {
            true => Some(Arc::default()),
            false => self.database.analytic().futures().overlay(version, &states),
        };
        let overlay = match known {
            Some(overlay) => overlay,
            None => {
                let layers = self.layers(read, present.as_ref(), &changed).await?;
                let overlay = Arc::new(lay(layers, Collision::shown));
                self.database
                    .analytic()
                    .futures()
                    .keep_overlay(version, states, &overlay);
                overlay
            }
        };
        Ok(TableFuture {
            present,
            branches,
            overlay,
        })
    }

    /// The candidates of a future that have changed its table, those that win last.
    fn changed(&mut self, read: &FutureRead, snapshot: &Snapshot) -> Result<Vec<Changed>, Error> {
        let catalog = self.catalog();
        let mut found = Vec::new();
        for candidate in read.name.resolve(&catalog, &self.identity.user)? {
            let Some(branch) = candidate.changes_of(&read.table)?.cloned() else {
                continue;
            };
            if let Some(txn) = self.transaction.txn() {
                txn.note_store_read(branch.store());
            }
            let rows = snapshot.table(branch.store());
            let rows = rows.ok_or_else(|| Error::internal("the mirror lacks a branch of its snapshot"))?;
            found.push(Changed {
                candidate,
                branch,
                rows,
            });
        }
        Ok(found)
    }

    /// What is to be known of the branches to lay them over the table.
    async fn layers(
        &mut self,
        read: &FutureRead,
        present: Option<&TableSnapshot>,
        changed: &[Changed],
    ) -> Result<Vec<Layer>, Error> {
        let table = &read.table;
        let evaluate = rules::evaluator();
        let mut layers = Vec::with_capacity(changed.len());
        for (index, this) in changed.iter().enumerate() {
            let analytic = self.database.analytic();
            let reading = analytic.branch_view(&this.rows);
            let view = self.interrupt.waiting(reading).await??;
            let ended: RoaringTreemap = match present {
                Some(present) => view.conflicts(present),
                None => view.replaced.clone(),
            };
            let txn = self.transaction.open_txn()?;
            let keyed_rows = table.key_columns().is_some() && view.new_rows > 0;
            let collisions = match ended.is_empty() && !keyed_rows {
                true => Vec::new(),
                false => txn.collisions(
                    &this.branch,
                    table,
                    |ordinal| ended.contains(ordinal.get()),
                    this.candidate.at_best(),
                    &evaluate,
                )?,
            };
            let above = changed.iter().enumerate().skip(index + 1);
            let mut covered = Vec::new();
            for (place, above) in above {
                let rows = txn.covered(&this.branch, &above.branch)?.into_iter();
                covered.extend(rows.map(|(row, its)| Cover {
                    row,
                    by: (place, its),
                }));
            }
            layers.push(Layer {
                covered,
                view,
                ended,
                collisions,
            });
        }
        Ok(layers)
    }
}
