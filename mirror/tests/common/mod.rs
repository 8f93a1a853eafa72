//! What the tests of a mirror behind a real engine share.
#![allow(dead_code, clippy::unwrap_used)]

pub mod candidates;

pub use candidates::{block_on, engine, primary_rows};

use scry_engine::{Engine, Table};
use scry_mirror::{Checksum, Mirror, MirrorOptions, checksum_rows};
use scry_wal::Lsn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pieces so small that a short test seals, evicts and compacts.
pub fn small(engine: &Arc<Engine>) -> MirrorOptions {
    let horizon = engine.clone();
    let mut options = MirrorOptions::new(Arc::new(move || horizon.horizon()));
    options.piece_rows = 256;
    options.checkpoint_bytes = 256 << 10;
    options.cache_bytes = 64 << 10;
    options
}

pub fn mirror(folder: &Path, engine: &Arc<Engine>) -> Arc<Mirror> {
    Mirror::open(&folder.join("mirror"), engine.log().clone(), small(engine)).unwrap()
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("mirror")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .collect()
}

/// The checksum of the primary's rows as the newest transaction sees them, and the LSN that it sees.
pub fn primary_checksum(engine: &Arc<Engine>, table: &Table) -> (Lsn, Checksum) {
    let (lsn, ordinals, rows) = primary_rows(engine, table);
    (lsn, checksum_rows(&ordinals, &rows))
}
