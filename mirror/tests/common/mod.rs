//! What the tests of a mirror behind a real engine share.
#![allow(dead_code, clippy::unwrap_used)]

use scry_engine::{Engine, EngineOptions, Isolation, KeyRange, SessionInfo, Table};
use scry_mirror::{Checksum, Mirror, MirrorOptions, checksum_rows};
use scry_stream::{RowBatchBuilder, StoreSchema};
use scry_wal::{Backend, Lsn};
use std::future::Future;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

pub fn engine(folder: &Path) -> Arc<Engine> {
    let mut options = EngineOptions::default();
    options.log.segment_bytes = 64 << 10;
    options.log.backend = Backend::Blocking;
    Engine::open(&folder.join("data"), options).unwrap()
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
    let mut txn = engine
        .session(SessionInfo::default())
        .begin(Isolation::RepeatableRead);
    txn.statement();
    let schema = StoreSchema::new(table.def.columns.clone());
    let mut builder = RowBatchBuilder::new(&schema);
    let mut ordinals = Vec::new();
    txn.scan(table, &KeyRange::all(), &mut |_, version| {
        ordinals.push(version.ordinal.unwrap().get());
        builder.push(&version.row).unwrap();
        ControlFlow::Continue(())
    });
    (
        txn.snapshot(),
        checksum_rows(&ordinals, &builder.finish().unwrap()),
    )
}
