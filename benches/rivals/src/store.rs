//! What is asked of each store, and the stores by name.

use crate::data::Key;
use crate::stores;
use std::error::Error;
use std::path::Path;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A row as it is written.
pub type Row = (Key, Vec<u8>);

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of whatever the store calls its cache.
    pub cache_bytes: usize,
    /// Keys and values together, about: for stores that must know how large they may grow.
    pub data_bytes: u64,
    /// The data are much larger than the memory.
    pub is_beyond_memory: bool,
    /// Commits need not be durable before `Store::sync`.
    pub is_load: bool,
}

/// A store, open.
pub trait Store: Sync {
    /// A client's own place in the store: for one thread.
    fn client(&self) -> Box<dyn Client + '_>;

    /// Loads all rows into an empty store the way that its documentation advises for rows in the order of their keys. They are
    /// durable afterwards.
    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Row>) -> Outcome<()>;

    /// Makes durable what was committed.
    fn sync(&self) -> Outcome<()>;

    /// Waits until nothing is left to be done in the background.
    fn settle(&self) -> Outcome<()>;

    /// Closes the store in good order.
    fn close(self: Box<Self>) -> Outcome<()>;

    /// What the store wrote into its log since it was opened, when that can be told.
    fn log_bytes(&self) -> Option<u64> {
        None
    }
}

pub trait Client {
    /// One transaction of new rows, durable when this returns unless the store was opened for a load. Keys rise.
    fn insert(&mut self, rows: &[Row]) -> Outcome<()>;

    /// One transaction that replaces rows, durable when this returns. Keys rise.
    fn update(&mut self, rows: &[Row]) -> Outcome<()>;

    /// The bytes of a value, `None` when there is no such row. Sees all that was committed before.
    fn get(&mut self, key: &Key) -> Outcome<Option<usize>>;

    /// Reads up to `limit` rows from a key on. Answers how many there were and their bytes.
    fn scan(&mut self, from: &Key, limit: usize) -> Outcome<(usize, usize)>;
}

/// The stores, as they stand in the table.
pub const NAMES: [&str; 5] = ["scry", "rocksdb", "fjall", "redb", "lmdb"];

/// Opens a store of `NAMES`, or makes it.
pub fn open(name: &str, folder: &Path, settings: &Settings) -> Outcome<Box<dyn Store>> {
    Ok(match name {
        "scry" => Box::new(stores::scry::Scry::open(folder, settings)?),
        "rocksdb" => Box::new(stores::rocksdb::Rocks::open(folder, settings)?),
        "fjall" => Box::new(stores::fjall::Fjall::open(folder, settings)?),
        "redb" => Box::new(stores::redb::Redb::open(folder, settings)?),
        "lmdb" => Box::new(stores::lmdb::Lmdb::open(folder, settings)?),
        _ => return Err(format!("no store is called {name}").into()),
    })
}
