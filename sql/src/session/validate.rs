//! `scry.validate_election`: is the mirror what the primary is, in the tables that an election has changed?
//!
//! Both are read at the statement's one LSN, whole: of a row that an election has deleted nothing is left to be asked for, so
//! only the whole table shows that the mirror has it no more. Rows are compared under their ordinals by the hashes
//! that checksums are made of; only when the checksums differ are single rows looked for.

use super::Session;
use super::listing::{composite, unfit};
use crate::analytic::validated;
use crate::error::{Error, SqlState};
use arrow::array::{ArrayRef, Int64Builder, StringBuilder};
use scry_engine::{KeyRange, Row, Table};
use scry_mirror::{Checksum, Snapshot, TableSnapshot, hash_rows};
use scry_stream::{RowBatchBuilder, StoreSchema};
use scry_wal::Lsn;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of the primary that are hashed at a time.
const BATCH_ROWS: usize = 4096;

/// Most rows of a table of which single differences are looked for: a hash of each is kept.
const COMPARED_ROWS_MAX: u64 = 64_000_000;

/// Differences that are shown.
const EXAMPLES_MAX: usize = 10;

/// What was found in one table.
#[derive(Default)]
struct Found {
    /// Rows that are as the election left them.
    elected: u64,
    primary: Checksum,
    mirror: Checksum,
    differences: u64,
    examples: Vec<String>,
}

impl Session {
    /// The columns of the answer, a row for each elected candidate and table.
    pub(super) async fn validation_columns(
        &mut self,
        election: &str,
        snapshot: &Snapshot,
    ) -> Result<Vec<ArrayRef>, Error> {
        let catalog = self.catalog();
        let election = validated(&catalog, election, &self.identity.user)?;
        let mut texts: [StringBuilder; 5] = Default::default();
        let mut counts: [Int64Builder; 4] = Default::default();
        for committed in &election.committed {
            for store in &committed.stores {
                let [candidate, name, primary_sum, mirror_sum, examples] = &mut texts;
                candidate.append_value(&committed.candidate);
                let table = catalog.tables().find(|table| table.def.store == *store);
                let Some(table) = table else {
                    for column in [name, primary_sum, mirror_sum] {
                        column.append_null();
                    }
                    examples.append_value("the table was dropped or truncated since");
                    counts.iter_mut().for_each(Int64Builder::append_null);
                    continue;
                };
                let found = self
                    .compare_table(table, committed.at, snapshot.table(*store))
                    .await?;
                name.append_value(&table.def.name);
                primary_sum.append_value(format!("{:016x}", found.primary.sum));
                mirror_sum.append_value(format!("{:016x}", found.mirror.sum));
                match found.examples.is_empty() {
                    true => examples.append_null(),
                    false => examples.append_value(found.examples.join("\n")),
                }
                let figures = [
                    found.elected,
                    found.primary.rows,
                    found.mirror.rows,
                    found.differences,
                ];
                for (column, figure) in counts.iter_mut().zip(figures) {
                    column.append_value(figure.cast_signed());
                }
            }
        }
        let [candidate, name, primary_sum, mirror_sum, examples] = &mut texts;
        let [elected, primary_rows, mirror_rows, differences] = &mut counts;
        Ok(vec![
            Arc::new(candidate.finish()),
            Arc::new(name.finish()),
            Arc::new(elected.finish()),
            Arc::new(primary_rows.finish()),
            Arc::new(mirror_rows.finish()),
            Arc::new(primary_sum.finish()),
            Arc::new(mirror_sum.finish()),
            Arc::new(differences.finish()),
            Arc::new(examples.finish()),
        ])
    }

    async fn compare_table(
        &mut self,
        table: &Arc<Table>,
        elected_at: Lsn,
        mirror: Option<TableSnapshot>,
    ) -> Result<Found, Error> {
        let mut found = Found::default();
        self.hash_primary(table, |hash, at, _| {
            found.elected += u64::from(at == elected_at);
            found.primary.add(Checksum { rows: 1, sum: hash.1 });
        })?;
        if let Some(mirror) = &mirror {
            let mirror = mirror.clone();
            let summing = self.at_workers(move || mirror.checksum());
            found.mirror = self.interrupt.waiting(summing).await??;
        }
        if found.primary == found.mirror {
            return Ok(found);
        }
        if found.primary.rows.max(found.mirror.rows) > COMPARED_ROWS_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "the mirror differs from table \"{}\", which has too many rows to say where",
                    table.def.name
                ),
            ));
        }
        let mut left: BTreeMap<u64, u64> = BTreeMap::new();
        if let Some(mirror) = mirror {
            let hashing = self.at_workers(move || mirror.hashes());
            left.extend(self.interrupt.waiting(hashing).await??);
        }
        let zone = self.settings.zone().clone();
        self.hash_primary(table, |(ordinal, hash), _, row| {
            let how = match left.remove(&ordinal) {
                Some(mirrored) if mirrored == hash => return,
                Some(_) => "is otherwise in the mirror",
                None => "is not in the mirror",
            };
            found.differ(|| format!("{} {how}", composite(table, row, None, &zone)));
        })?;
        for ordinal in left.into_keys() {
            found.differ(|| format!("the mirror's row with ordinal {ordinal} is not in the table"));
        }
        Ok(found)
    }

    /// Ordinal and hash, commit and row of each row that the primary has at the statement's snapshot.
    fn hash_primary(
        &mut self,
        table: &Arc<Table>,
        mut visit: impl FnMut((u64, u64), Lsn, &Row),
    ) -> Result<(), Error> {
        let txn = self.transaction.open_txn()?;
        let schema = StoreSchema::new(table.def.columns.clone());
        let mut cursor = txn.begin_scan(table, KeyRange::all())?;
        loop {
            let rows = cursor.next_batch(BATCH_ROWS)?;
            if rows.is_empty() {
                return Ok(());
            }
            self.interrupt.check()?;
            let mut builder = RowBatchBuilder::new(&schema);
            let mut ordinals = Vec::with_capacity(rows.len());
            for (_, version) in &rows {
                builder.push(&version.row).map_err(unfit)?;
                // Nothing was written in this transaction, so every version has one.
                ordinals.push(version.ordinal.map_or(u64::MAX, scry_wal::Ordinal::get));
            }
            let batch = builder.finish().map_err(unfit)?;
            let hashes = ordinals.iter().copied().zip(hash_rows(&ordinals, &batch));
            for (hash, (_, version)) in hashes.zip(&rows) {
                visit(hash, version.lsn, &version.row);
            }
        }
    }
}

impl Found {
    fn differ(&mut self, example: impl FnOnce() -> String) {
        self.differences += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}
