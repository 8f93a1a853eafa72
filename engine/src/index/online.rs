//! CREATE INDEX CONCURRENTLY: an index is filled beside its table's writers.
//!
//! A *guard*, a transaction that changes nothing, holds the table's lock against other definitions, and not against writers, from
//! beginning to end. Under it:
//!
//! 1. a first commit makes the index known, not valid: whoever resolves the table from then on maintains it;
//! 2. who has written to the table before, perhaps without knowing it, is waited for;
//! 3. all rows are gone over in batches. The guard locks a row, so that nobody is about to change it, and a transaction of its own, the
//!    *filler*, puts in what the index lacks of it, and commits: so the entry has its place in time like any other, and what a writer has put
//!    in or deleted before it stays. It is an empty commit to the log, for the rows have not changed;
//! 4. another commit makes it valid. Snapshots before that see by their catalog that it is not.
//!
//! The guard alone waits, for rows and entries, and only while it holds no row but the one it has waited for: nobody waits for a batch longer
//! than it takes to put it in, and every circle is found.
//!
//! When the filling fails, is cancelled, or the server ends, the index stays in the catalog, not valid, as in PostgreSQL: writers pass it by, queries
//! do not know it, DROP INDEX removes it.
//!
//! Writers that maintain an index which is being filled may miss an entry, or in a unique one meet that of another row with the same key, of
//! which the filling will tell: `maintain` passes over both.

use super::definition::duplicated;
use super::{Index, NewIndex, Stage, entry};
use crate::catalog::{Table, check_definition};
use crate::engine::EngineSession;
use crate::error::Error;
use crate::key::{Key, KeyRange};
use crate::locks::Mode;
use crate::txn::{InsertOutcome, Isolation, Txn, turn};
use scry_wal::Lsn;
use std::ops::Bound;
use std::sync::Arc;

/// Rows that the guard has locked at once: a batch takes about a millisecond.
const BATCH_ROWS: usize = 256;

/// What the audit trail says of the commits.
const TAG: &str = "CREATE INDEX";

/// Why a batch ended.
enum Ended {
    /// There are no more rows.
    Done,
    /// Behind the row of this key there are more.
    Behind(Key),
    /// Somebody has locked the row of this key.
    Row(Key),
    /// Somebody has locked this entry of the index, which is to be that of the row with the second key.
    Entry(Key, Key),
}

/// Gives an index up unless it is told otherwise.
struct Filling<'i> {
    index: &'i Index,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if self.index.stage() == Stage::Filling {
            self.index.set_stage(Stage::Idle);
        }
    }
}

impl EngineSession {
    /// Gives a table another index while others write to it. Answers the LSN of the last commit. Dropping the future leaves an index
    /// that is not valid, as an error does once the index is known.
    ///
    /// # Errors
    /// As [`Txn::create_index`]; `TableChanged` when the table is not what was resolved; `Deadlock`.
    pub async fn create_index_online(&mut self, table: &Arc<Table>, new: NewIndex) -> Result<Lsn, Error> {
        let mut guard = self.begin(Isolation::ReadCommitted);
        guard.lock_table(table, Mode::Define).await?;
        guard.renew_snapshot();
        if guard.catalog().has_relation(&new.name) {
            return Err(Error::DuplicateTable { name: new.name });
        }
        let mut def = table.def.clone();
        let mut index = guard.name_index(new);
        index.valid = false;
        def.indexes.push(index);
        check_definition(&def)?;
        let known = guard.redefinition(table, def);
        let index = known.indexes.last().expect("it was added above");
        index.set_stage(Stage::Filling);
        let filling = Filling { index };
        self.redefine_beside(table, Arc::clone(&known))?;
        guard.wait_for_writers(&known).await?;

        let mut left = KeyRange::all();
        loop {
            match self.fill_batch(&mut guard, &known, index, &left).await? {
                Ended::Done => break,
                Ended::Behind(last) => left.lower = Bound::Excluded(last),
                Ended::Row(key) => {
                    guard.lock_row(&known, &key).await?;
                    left.lower = Bound::Included(key);
                }
                Ended::Entry(entry, key) => {
                    guard.wait_for_owner(index.rows(), &entry).await?;
                    left.lower = Bound::Included(key);
                }
            }
            guard.engine.checkpoints.admission.free().await;
            guard.engine.log().room().await?;
            turn().await;
        }

        let mut def = known.def.clone();
        let place = def.indexes.last_mut().expect("it was added above");
        place.valid = true;
        let valid = guard.redefinition(&known, def);
        let lsn = self.redefine_beside(&known, valid)?;
        drop(filling);
        guard.engine.checkpoints.ask();
        Ok(lsn)
    }

    /// Commits another definition of a table that a guard has locked.
    fn redefine_beside(&mut self, old: &Arc<Table>, new: Arc<Table>) -> Result<Lsn, Error> {
        let mut txn = self.begin(Isolation::ReadCommitted);
        txn.holder();
        txn.redefine_as(old, new)?;
        let committed = txn.commit(TAG)?;
        Ok(committed.expect("a definition is always written"))
    }

    /// Puts the next rows into the index. The guard has locked at most the first of them, and none afterwards.
    async fn fill_batch(
        &mut self,
        guard: &mut Txn,
        table: &Arc<Table>,
        index: &Index,
        left: &KeyRange,
    ) -> Result<Ended, Error> {
        guard.renew_snapshot();
        let scan = guard.begin_scan_plain(table, left.clone());
        let rows = scan.and_then(|mut scan| scan.next_batch(BATCH_ROWS));
        guard.rest();
        let rows = rows?;
        let mut ended = match rows.last() {
            Some((last, _)) if rows.len() == BATCH_ROWS => Ended::Behind(last.clone()),
            _ => Ended::Done,
        };
        let mut filler = self.begin(Isolation::ReadCommitted);
        filler.begin_filling_index(index);
        for (key, _) in rows {
            let Some(found) = guard.lock_if_free(table, &key).await? else {
                ended = Ended::Row(key);
                break;
            };
            // Deleted since.
            let Some(version) = found else { continue };
            let place = index.key(&table.layout, &version.row, &key);
            let put = filler.insert_if_free(index.rows(), &place, entry(&key)).await?;
            match put {
                None => {
                    ended = Ended::Entry(place, key);
                    break;
                }
                Some(InsertOutcome::Exists(there)) if there.row[..] != *key => {
                    return Err(duplicated(table, index, &version.row));
                }
                Some(_) => {}
            }
        }
        filler.commit(TAG)?;
        guard.unlock_all();
        Ok(ended)
    }
}
