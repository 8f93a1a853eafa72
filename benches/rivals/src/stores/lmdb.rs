//! LMDB through heed, with its default flags: each commit syncs data and then the page that names them. It has one writer at a time, and no groups of
//! commits.
//!
//! Its cache is the system's page cache; only a bound on the process's memory bounds it. `MDB_NORDAHEAD` is set where the data are larger than that,
//! as its documentation advises. A load runs with `MDB_NOSYNC` and one sync at the end; rows in the order of their keys go in in one
//! transaction with `MDB_APPEND`.
#![expect(
    unsafe_code,
    reason = "a memory map may only be opened where nobody else changes the file"
)]

use crate::data::Key;
use crate::store::{Client, Outcome, Row, Settings, Store};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags};
use std::ops::Bound;
use std::path::Path;

type Rows = Database<'static, Bytes, Bytes>;

pub struct Lmdb {
    env: &'static Env,
    rows: Rows,
}

impl Lmdb {
    pub fn open(folder: &Path, settings: &Settings) -> Outcome<Lmdb> {
        std::fs::create_dir_all(folder)?;
        let mut options = EnvOpenOptions::new();
        // A map may be much larger than the file that it grows into.
        options.map_size(usize::try_from(settings.data_bytes * 16)?.next_multiple_of(1 << 20) + (4 << 30));
        options.max_readers(256);
        let mut flags = EnvFlags::empty();
        if settings.is_beyond_memory {
            flags |= EnvFlags::NO_READ_AHEAD;
        }
        if settings.is_load {
            flags |= EnvFlags::NO_SYNC;
        }
        // SAFETY: no other process has the folder; an environment without syncs is thrown away if the process does not come to the sync.
        let env = unsafe { options.flags(flags).open(folder)? };
        // A database borrows its environment. The process opens one and ends.
        let env: &'static Env = Box::leak(Box::new(env));
        let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| -> heed::Result<_> {
            Ok(CommitOrAbort::<_, ()>::Commit(
                opener.create_database::<Bytes, Bytes>(txn, None)?,
            ))
        })?;
        let rows = made.unwrap_commit();
        Ok(Lmdb { env, rows })
    }

    fn write(&self, rows: &[Row]) -> Outcome<()> {
        let mut txn = self.env.write_txn()?;
        for (key, value) in rows {
            self.rows.put(&mut txn, key, value)?;
        }
        Ok(txn.commit()?)
    }
}

impl Store for Lmdb {
    fn client(&self) -> Box<dyn Client + '_> {
        Box::new(self)
    }

    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Row>) -> Outcome<()> {
        let mut txn = self.env.write_txn()?;
        for (key, value) in rows {
            self.rows
                .put_with_flags(&mut txn, PutFlags::APPEND, &key, &value)?;
        }
        txn.commit()?;
        self.sync()
    }

    fn sync(&self) -> Outcome<()> {
        Ok(self.env.force_sync()?)
    }

    fn settle(&self) -> Outcome<()> {
        self.sync()
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        self.sync()
    }
}

impl Client for &Lmdb {
    fn insert(&mut self, rows: &[Row]) -> Outcome<()> {
        self.write(rows)
    }

    fn update(&mut self, rows: &[Row]) -> Outcome<()> {
        self.write(rows)
    }

    fn get(&mut self, key: &Key) -> Outcome<Option<usize>> {
        let txn = self.env.read_txn()?;
        Ok(self.rows.get(&txn, key)?.map(<[u8]>::len))
    }

    fn scan(&mut self, from: &Key, limit: usize) -> Outcome<(usize, usize)> {
        let txn = self.env.read_txn()?;
        let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
        let (mut rows, mut bytes) = (0, 0);
        for row in self.rows.range(&txn, &range)?.take(limit) {
            rows += 1;
            bytes += row?.1.len();
        }
        Ok((rows, bytes))
    }
}
