//! Rows that a large transaction inserts by rising keys, as a load does.
//!
//! Once a transaction has moved something out of memory (`super::moved`), and has inserted `EngineOptions::load_rows` rows into a table one key after
//! the other, those that follow are moved at once: they have no entry, no change and no undo step, but come to the *tail* of what moved (`crate::store::loads`)
//! and, as a record, to what the log gets next. When the tail is as large as a run it becomes one, behind those before it. To all others, and to the transaction
//! itself, such a row is one that has moved.
//!
//! Any row that is met, in memory or below, is inserted the other way, as is one whose key does not rise. Scans, savepoints that are rolled back to, changes that move, and
//! the commit begin with what is in runs: they end the tail.
//!
//! Invariants:
//! - neither the transaction's runs nor its changes have a key of the tail when it comes there; what they have of it later is newer;
//! - changes move only when there is no tail: so what is found first, asking the tail and then the latest layer, is the newest;
//! - the numbers of its rows among the versions of their store are those of their records in the log.

use super::moved::{BATCH, WORTH};
use super::{Txn, turn};
use crate::catalog::Table;
use crate::error::Error;
use crate::key::Key;
use crate::runs::flush::FlushWriter;
use crate::runs::internal_key;
use crate::store::Store;
use crate::store::loads::{PLACE_BYTES, Rising};
use scry_wal::{Change, Ended, Lsn, Op, Ordinal, TentativeId};

/// What the rows of a tail take; it is as much as becomes a run.
const TAIL_BYTES_MAX: u64 = 64 << 20;

/// How the keys of one store rise.
#[derive(Default)]
pub(super) struct Rise {
    /// The number of the store in the overlay.
    store: u32,
    /// The greatest key; so many have risen to it one after the other.
    last: Key,
    count: u32,
    /// Of the tail.
    rows: usize,
    bytes: u64,
    /// Of all tails.
    risen: u64,
    /// Rows inserted the other way since there is a tail.
    others: u32,
    /// Those that the log does not have.
    records: Vec<u8>,
    record_count: u32,
}

impl Txn {
    /// Inserts a row by adding it to what has moved, if it goes on with a load, and its key is nobody's. False: it is to be inserted the other way.
    pub(super) async fn insert_rising(
        &mut self,
        table: &Table,
        number: u32,
        (key, is_fresh): (&Key, bool),
        row: &[u8],
    ) -> Result<bool, Error> {
        if !self.rises(number, key) || table.store.is_derived() || !self.may_move() {
            return Ok(false);
        }
        // Without, nothing tells that it has written.
        let (Some(id), true) = (self.id(), self.tentative.is_some()) else {
            return Ok(false);
        };
        self.room_for_rising().await?;
        let age = Lsn::new(self.next_savepoint);
        let Some(moved) = &mut self.moved else {
            return Ok(false);
        };
        if moved.rise.rows == 0 {
            moved.enlist(&table.store);
        }
        let rise = &mut moved.rise;
        let local = self.overlay.next_local(table.store.id);
        let rising = Rising {
            key,
            row,
            ordinal: Ordinal::new(u64::from(*local)),
            age,
        };
        if !table.store.raise_tail(&moved.load, &rising, is_fresh)? {
            if rise.rows == 0 {
                // Where every key is somebody's, looking twice for each is of no use.
                rise.count = 0;
            }
            return Ok(false);
        }
        let change = Change {
            store: table.store.id,
            op: Op::Insert,
            key,
            ended: Ended::None,
            before: &[],
            after: row,
        };
        let before = rise.records.len();
        let id = TentativeId::new(id.get());
        if let Err(error) = scry_wal::record::encode_tentative(&mut rise.records, id, &change) {
            rise.records.truncate(before);
            moved.load.pop();
            return Err(error.into());
        }
        *local += 1;
        rise.record_count += 1;
        rise.rows += 1;
        rise.risen += 1;
        rise.bytes += (key.len() + row.len() + PLACE_BYTES) as u64;
        rise.last.clone_from(key);
        moved.count_inserted(number, row);
        self.overlay.count_write();
        Ok(true)
    }

    /// Whether a row of this key goes on with a load.
    fn rises(&self, number: u32, key: &Key) -> bool {
        let rise = self.moved.as_ref().map(|moved| &moved.rise);
        let enough = self.engine.options.load_rows;
        rise.is_some_and(|rise| rise.store == number && rise.count >= enough && rise.last < *key)
    }

    /// A row was inserted the other way.
    ///
    /// # Errors
    /// When what has risen cannot be written. The row is in then, and the statement is to be rolled back.
    pub(super) fn note_inserted(&mut self, store: &Store, number: u32, key: &Key) -> Result<(), Error> {
        let enough = self.engine.options.load_rows;
        let Some(moved) = &mut self.moved else {
            return Ok(());
        };
        if store.is_derived() {
            return Ok(());
        }
        let rise = &mut moved.rise;
        if rise.rows > 0 {
            rise.others += 1;
            if rise.others < enough {
                return Ok(());
            }
            // The load is over. Not before as many: each tail may become a file.
            self.end_tail()?;
        }
        if let Some(moved) = &mut self.moved {
            let rise = &mut moved.rise;
            let goes_on = rise.store == number && rise.last < *key;
            rise.count = if goes_on { rise.count.saturating_add(1) } else { 1 };
            rise.store = number;
            rise.last.clone_from(key);
        }
        Ok(())
    }

    /// What the tail takes in memory.
    pub(super) fn rising_bytes(&self) -> u64 {
        self.moved.as_ref().map_or(0, |moved| moved.rise.bytes)
    }

    /// How many rows were inserted that are none of the overlay's changes.
    pub(super) fn risen(&self) -> u64 {
        self.moved.as_ref().map_or(0, |moved| moved.rise.risen)
    }

    /// Writes what has become long enough: into the log, and into a run.
    async fn room_for_rising(&mut self) -> Result<(), Error> {
        let Some(moved) = &self.moved else { return Ok(()) };
        let enough = (self.engine.options.move_bytes / WORTH).min(TAIL_BYTES_MAX);
        let is_long = moved.rise.bytes >= enough;
        if moved.rise.records.len() >= self.engine.limits.piece_bytes || is_long {
            self.engine.log().room().await?;
            self.write_risen()?;
        }
        if is_long {
            let mut writer = self.engine.backing.runs.begin_private();
            let mut from = 0;
            while self.copy_tail(&mut from, &mut writer)? {
                turn().await;
            }
            self.replace_tail(writer)?;
            self.merge_moved().await?;
        }
        Ok(())
    }

    /// Puts the records of rows that have risen into the log.
    pub(super) fn write_risen(&mut self) -> Result<(), Error> {
        let (Some(id), Some(moved)) = (self.id(), &mut self.moved) else {
            return Ok(());
        };
        if moved.rise.record_count == 0 {
            return Ok(());
        }
        let (records, count) = (std::mem::take(&mut moved.rise.records), moved.rise.record_count);
        let written = self.write_ahead(TentativeId::new(id.get()), &records, count);
        if let Some(moved) = &mut self.moved {
            moved.rise.records = records;
            if written.is_ok() {
                moved.rise.records.clear();
                moved.rise.record_count = 0;
            }
        }
        written
    }

    /// Has all that moved be in the log and in runs.
    pub(crate) fn end_tail(&mut self) -> Result<(), Error> {
        if self.moved.as_ref().is_none_or(|moved| moved.rise.rows == 0) {
            return Ok(());
        }
        self.write_risen()?;
        let mut writer = self.engine.backing.runs.begin_private();
        let mut from = 0;
        while self.copy_tail(&mut from, &mut writer)? {}
        self.replace_tail(writer)?;
        if let Some(moved) = &mut self.moved {
            moved.rise.count = 0;
        }
        Ok(())
    }

    /// Writes the next rows of the tail, behind so many. False: there are no more.
    fn copy_tail(&self, from: &mut usize, writer: &mut FlushWriter) -> Result<bool, Error> {
        let Some(moved) = &self.moved else {
            return Ok(false);
        };
        let copied = moved.load.visit_tail(*from..*from + BATCH, |space, rising| {
            let key = internal_key(space, rising.key);
            writer.put(&key, rising.age, rising.ordinal, Some(rising.row))
        })?;
        *from += copied;
        Ok(copied > 0)
    }

    /// The tail has become a run.
    fn replace_tail(&mut self, writer: FlushWriter) -> Result<(), Error> {
        let Some(moved) = &mut self.moved else {
            return Ok(());
        };
        moved.runs.push(writer)?;
        // Who finds nothing in the tail finds that something has changed.
        if let Some(written) = self.overlay.stores.get(moved.rise.store as usize) {
            written.store.loads.add(&moved.load);
        }
        moved.load.set_runs_for_tail(moved.runs.set());
        (moved.rise.rows, moved.rise.bytes, moved.rise.others) = (0, 0, 0);
        Ok(())
    }
}
