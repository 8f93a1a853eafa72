//! What the tests of a mirror behind a real engine share.
#![allow(dead_code, clippy::unwrap_used)]

pub mod candidates;

pub use candidates::{begin, primary_rows};
pub use scry_wal::block_on;

use scry_engine::{ColumnDef, DataType, Engine, NewTable, PrimaryKey, Table, Value};
use scry_mirror::{Checksum, Error, ErrorKind, Mirror, MirrorOptions, SeedSource, checksum_rows};
use scry_wal::Lsn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A table of "id" and another column, both int8, with rows from 0 that have 0 there.
pub fn filled(engine: &Arc<Engine>, name: &str, other: &str, rows: i64) -> Arc<Table> {
    let mut txn = begin(engine);
    let column = |name: &str| ColumnDef {
        not_null: true,
        ..ColumnDef::new(name, DataType::Int8)
    };
    let new = NewTable {
        name: name.into(),
        columns: vec![column("id"), column(other)],
        primary_key: Some(PrimaryKey {
            name: format!("{name}_key"),
            columns: vec![0],
        }),
        ..NewTable::default()
    };
    let table = block_on(txn.create_table(new)).unwrap();
    for id in 0..rows {
        let row = table.layout.encode(&[Value::Int8(id), Value::Int8(0)]).unwrap();
        block_on(txn.insert(&table, table.key_of(&row), row)).unwrap();
    }
    let lsn = txn.commit("load").unwrap().unwrap();
    engine.log().wait_durable(lsn).unwrap();
    table
}

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

/// One that begins with the primary's rows if there is nothing else to begin with.
pub fn seeded(folder: &Path, engine: &Arc<Engine>) -> Arc<Mirror> {
    let mut options = small(engine);
    options.seeds = Some(seeds(engine));
    Mirror::open(folder, engine.log().clone(), options).unwrap()
}

pub fn seeds(engine: &Arc<Engine>) -> SeedSource {
    let engine = engine.clone();
    Arc::new(move || Some(engine.seed()))
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until what stands in the log before `at` is applied and in files.
pub fn sealed(mirror: &Mirror, at: Lsn) {
    block_on(mirror.applied(at)).unwrap();
    mirror.request_checkpoint();
    wait_until("the checkpoint", || {
        let checkpoint = mirror.status().checkpoint;
        checkpoint.is_some_and(|checkpoint| checkpoint >= at)
    });
}

/// Waits until damaged pieces were made again: until then a read is refused, and from then on the rows are the right ones.
pub fn wait_for_repair(mirror: &Mirror, expected: Checksum, checksum: impl Fn() -> Result<Checksum, Error>) {
    wait_until("the repair", || match checksum() {
        Ok(found) => {
            assert_eq!(found, expected);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let status = mirror.status();
            assert!(status.repairing.is_none(), "{status:?}");
            false
        }
    });
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
