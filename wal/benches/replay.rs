//! How fast a log is read: recovery (checksums, chain, every record decoded) and checking.
#![allow(clippy::unwrap_used, reason = "a bench that fails ends")]

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scry_wal::record::encode_change;
use scry_wal::{BoxError, Change, Ended, Frame, Log, LogOptions, Lsn, Op, StoreId, verify};

const RECORD_BYTES: usize = 200;

/// A log of about `bytes` bytes, in frames of the size that `records` small records have.
fn write(dir: &Path, bytes: u64, records: u32) {
    let log = Log::open(dir, LogOptions::default(), &mut |_| Ok(())).unwrap();
    let mut payload = Vec::new();
    for number in 0..records {
        let change = Change {
            store: StoreId::new(1),
            op: Op::Insert,
            key: &number.to_be_bytes(),
            ended: Ended::None,
            before: &[],
            after: &[7; RECORD_BYTES - 20],
        };
        encode_change(&mut payload, &change).unwrap();
    }
    let mut end = Lsn::ZERO;
    while end.get() < bytes {
        log.wait_room().unwrap();
        let mut appender = log.lock().unwrap();
        appender.reserve(payload.len()).unwrap();
        end = appender.put(&payload, records, false);
        drop(appender);
        if records < 100 {
            // Frames stay small only when each is written before the next is appended.
            log.wait_durable(end).unwrap();
        }
    }
    log.close().unwrap();
}

/// What the engine does at least.
fn decode_all(frame: Option<&Frame>) -> Result<(), BoxError> {
    for record in frame.into_iter().flat_map(Frame::records) {
        black_box(record?);
    }
    Ok(())
}

/// Lets the kernel forget what it has of the log's files.
fn forget_pages(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let done = Command::new("dd")
            .arg(format!("if={}", path.display()))
            .args(["iflag=nocache", "count=0", "status=none"])
            .status();
        assert!(done.unwrap().success());
    }
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    // `SCRY_BENCH_DIR` says on which disk (default: the temporary folder).
    let parent = std::env::var_os("SCRY_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    for (name, bytes, records) in [("small_frames", 32 << 20, 15), ("large_frames", 256 << 20, 4000)] {
        let dir = tempfile::tempdir_in(&parent).unwrap();
        write(dir.path(), bytes, records);
        group.throughput(Throughput::Bytes(verify(dir.path()).unwrap().bytes));
        group.bench_function(BenchmarkId::new("open", name), |bencher| {
            bencher.iter(|| {
                drop(Log::open(dir.path(), LogOptions::default(), &mut decode_all).unwrap());
            });
        });
        group.bench_function(BenchmarkId::new("open_from_disk", name), |bencher| {
            let open = || drop(Log::open(dir.path(), LogOptions::default(), &mut decode_all).unwrap());
            bencher.iter_batched(|| forget_pages(dir.path()), |()| open(), BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("verify", name), |bencher| {
            bencher.iter(|| verify(dir.path()).unwrap());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = replay
}
criterion_main!(benches);
