//! How fast a table is scanned with dead rows in it, and how fast the mirror follows a log.
//!
//! The log is written here, record by record, so that nothing but the stream and the mirror is measured.
#![allow(clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scry_engine::{CatalogChange, ColumnDef, DataType, RowLayout, TableDef, Value};
use scry_mirror::{Mirror, MirrorOptions, TableSnapshot};
use scry_wal::record::{encode_catalog, encode_change, encode_commit};
use scry_wal::{
    Backend, Change, Commit, Ended, Log, LogOptions, Lsn, Micros, NodeId, Op, Ordinal, StoreId, StoreRange,
    StoreRanges, TxnId,
};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Instant;

/// A log and what stands in it.
struct Writer {
    log: Arc<Log>,
    layout: RowLayout,
    /// By store: living ordinals by row, and the next ordinal.
    stores: Vec<(Vec<u64>, u64)>,
    transaction: u64,
    /// The last commit.
    last: Lsn,
    seed: u64,
}

impl Writer {
    fn new(folder: &Path, stores: u32) -> Self {
        let options = LogOptions {
            backend: Backend::Blocking,
            ..LogOptions::default()
        };
        let log = Arc::new(Log::open(&folder.join("wal"), options, &mut |_| Ok(())).unwrap());
        let types = [DataType::Int8, DataType::Int8, DataType::Text];
        let layout = RowLayout::new(&types);
        let mut writer = Self {
            log,
            layout,
            stores: vec![(Vec::new(), 0); stores as usize],
            transaction: 1,
            last: Lsn::ZERO,
            seed: 1,
        };
        for store in 0..stores {
            let column = |(index, ty)| ColumnDef {
                not_null: true,
                ..ColumnDef::new(format!("c{index}"), ty)
            };
            let columns = types.into_iter().enumerate().map(column).collect();
            let store = StoreId::new(store);
            let table = TableDef {
                oid: 20_000,
                name: format!("t{}", store.get()),
                columns,
                primary_key: None,
                store,
                ..TableDef::default()
            };
            let mut payload = Vec::new();
            CatalogChange::CreateTable(table).encode(&mut payload);
            let mut records = Vec::new();
            encode_catalog(&mut records, &payload).unwrap();
            writer.commit(records, 1, &[], true);
        }
        writer
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) % below
    }

    fn commit(&mut self, mut records: Vec<u8>, count: u32, ranges: &[StoreRange], catalog: bool) {
        self.transaction += 1;
        let commit = Commit {
            txn: TxnId::new(self.transaction),
            time: Micros::new(0),
            origin_node: NodeId::default(),
            origin_lsn: Lsn::ZERO,
            user: "bench",
            client: "",
            application: "",
            tag: "",
            election: 0,
            candidate: 0,
            adopts: None,
            stores: StoreRanges::new(ranges),
        };
        let slots = encode_commit(&mut records, &commit).unwrap();
        self.log.wait_room().unwrap();
        let mut appender = self.log.lock().unwrap();
        let base = appender.reserve(records.len()).unwrap();
        appender.put(&records, count + 1, catalog);
        self.last = base.plus(slots.start() as u64);
    }

    /// A change of one row: `row` is its number, `None` a new one.
    fn change(&mut self, out: &mut Vec<u8>, store: u32, row: Option<u64>, delete: bool) {
        let (rows, next) = &mut self.stores[store as usize];
        let ended = match row {
            Some(row) => Ended::Ordinal(Ordinal::new(rows[row as usize])),
            None => Ended::None,
        };
        let ordinal = *next;
        let op = match row {
            _ if delete => Op::Delete,
            Some(_) => Op::Update,
            None => Op::Insert,
        };
        let values = [
            Value::Int8(ordinal as i64),
            Value::Int8(ordinal as i64 * 7),
            Value::Text(format!("row {}", ordinal % 1000)),
        ];
        let after = if delete {
            Vec::new()
        } else {
            self.layout.encode(&values).unwrap()
        };
        if !delete {
            *next += 1;
            match row {
                Some(row) => rows[row as usize] = ordinal,
                None => rows.push(ordinal),
            }
        }
        let key = ordinal.to_be_bytes();
        let change = Change {
            store: StoreId::new(store),
            op,
            key: &key,
            ended,
            before: b"",
            after: &after,
        };
        encode_change(out, &change).unwrap();
    }

    fn range(&self, store: u32, first: u64) -> StoreRange {
        let count = self.stores[store as usize].1 - first;
        StoreRange {
            store: StoreId::new(store),
            first: Ordinal::new(first),
            count,
        }
    }

    fn load(&mut self, store: u32, rows: u64) {
        const BATCH: u64 = 10_000;
        for _ in 0..rows / BATCH {
            let first = self.stores[store as usize].1;
            let mut records = Vec::new();
            for _ in 0..BATCH {
                self.change(&mut records, store, None, false);
            }
            let range = self.range(store, first);
            self.commit(records, BATCH as u32, &[range], false);
        }
    }

    fn kill(&mut self, store: u32, percent: u64) {
        let rows = self.stores[store as usize].1;
        let dead: Vec<u64> = (0..rows).filter(|row| row * 37 % 100 < percent).collect();
        for chunk in dead.chunks(10_000) {
            let mut records = Vec::new();
            for &row in chunk {
                self.change(&mut records, store, Some(row), true);
            }
            let range = self.range(store, rows);
            self.commit(records, chunk.len() as u32, &[range], false);
        }
    }

    /// A mirror of the log, with everything applied.
    fn mirror(&self, folder: &Path) -> Arc<Mirror> {
        self.log.wait_durable(self.last).unwrap();
        let mut options = MirrorOptions::new(Arc::new(|| Lsn::MAX));
        options.checkpoint_bytes = u64::MAX;
        let mirror = Mirror::open(folder, self.log.clone(), options).unwrap();
        block_on(&mirror, self.last.plus(1));
        mirror
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on(mirror: &Mirror, upto: Lsn) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    while mirror
        .poll_applied(upto, &mut context)
        .map(Result::unwrap)
        .is_pending()
    {
        std::thread::park();
    }
}

fn scan_all(table: &TableSnapshot, projection: &[usize]) {
    let read = |unit: &scry_mirror::ScanUnit| black_box(unit.read(projection, None).unwrap()).num_rows();
    let rows: usize = table.units().iter().map(read).sum();
    assert_eq!(rows as u64, table.live_rows());
}

/// Scans of four million rows of (int8, int8, text): in memory, and sealed with the decoded columns in the cache.
fn scan(c: &mut Criterion) {
    const ROWS: u64 = 4_000_000;
    let mut group = c.benchmark_group("scan");
    group.sample_size(10).throughput(Throughput::Elements(ROWS));
    for percent in [0, 1, 10] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), 1);
        writer.load(0, ROWS);
        writer.kill(0, percent);
        let mirror = writer.mirror(&folder.path().join("mirror"));
        let dead = format!("{percent}% dead");
        for (name, projection) in [("numbers", &[0usize, 1][..]), ("all columns", &[0, 1, 2][..])] {
            let table = mirror.newest_snapshot().table(StoreId::new(0)).unwrap();
            group.bench_function(BenchmarkId::new(format!("memory/{name}"), &dead), |b| {
                b.iter(|| scan_all(&table, projection));
            });
        }
        mirror.close();
        let mirror = writer.mirror(&folder.path().join("mirror"));
        let table = mirror.newest_snapshot().table(StoreId::new(0)).unwrap();
        group.bench_function(BenchmarkId::new("cached/all columns", &dead), |b| {
            b.iter(|| scan_all(&table, &[0, 1, 2]));
        });
    }
    group.finish();
}

/// A mirror catching up with a log of small transactions, each as pgbench's: one row of a large table, two of small ones, one
/// new row of a history.
fn follow(c: &mut Criterion) {
    const COMMITS: u64 = 50_000;
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path(), 4);
    writer.load(0, 100_000);
    writer.load(1, 10_000);
    writer.load(2, 10_000);
    for _ in 0..COMMITS {
        let mut records = Vec::new();
        let firsts: Vec<u64> = writer.stores.iter().map(|store| store.1).collect();
        for (store, rows) in [(0, 100_000), (1, 100), (2, 10)] {
            let row = writer.random(rows);
            writer.change(&mut records, store, Some(row), false);
        }
        writer.change(&mut records, 3, None, false);
        let ranges: Vec<_> = (0..4)
            .map(|store| writer.range(store, firsts[store as usize]))
            .collect();
        writer.commit(records, 4, &ranges, false);
    }
    let mut group = c.benchmark_group("follow");
    group.sample_size(10).throughput(Throughput::Elements(COMMITS));
    let mut round = 0;
    group.bench_function("small commits", |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            for _ in 0..iterations {
                round += 1;
                drop(writer.mirror(&folder.path().join(format!("mirror-{round}"))));
            }
            start.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, scan, follow);
criterion_main!(benches);
