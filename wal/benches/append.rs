//! How long it takes to append a small commit and to know that it is durable, alone and in company.
//!
//! One element is one commit of about 300 bytes. `SCRY_BENCH_DIR` says on which disk (default: the temporary folder).
#![allow(clippy::unwrap_used, reason = "a bench that fails ends")]

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scry_wal::{Backend, Log, LogOptions};

const COMMIT: [u8; 300] = commit();

/// A drop record is the shortest that there is; the rest of the bytes is a catalog record of no meaning.
const fn commit() -> [u8; 300] {
    let mut bytes = [0; 300];
    let follows = (bytes.len() - 4) as u32;
    let length = follows.to_le_bytes();
    let mut at = 0;
    while at < 4 {
        bytes[at] = length[at];
        at += 1;
    }
    bytes[4] = 2;
    bytes
}

fn folder() -> tempfile::TempDir {
    let parent = std::env::var_os("SCRY_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(parent).unwrap()
}

fn commit_once(log: &Log) {
    log.wait_room().unwrap();
    let lsn = {
        let mut appender = log.lock().unwrap();
        appender.reserve(COMMIT.len()).unwrap();
        appender.put(&COMMIT, 1, false)
    };
    log.wait_durable(lsn).unwrap();
}

/// `total` commits shared by `threads` threads.
fn run(log: &Log, threads: u64, total: u64) -> Duration {
    let barrier = Barrier::new(threads as usize + 1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let barrier = &barrier;
                let share = total / threads + u64::from(thread < total % threads);
                scope.spawn(move || {
                    barrier.wait();
                    (0..share).for_each(|_| commit_once(log));
                })
            })
            .collect();
        barrier.wait();
        let started = Instant::now();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        started.elapsed()
    })
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append_durable");
    group.throughput(Throughput::Elements(1));
    for (name, backend) in [("auto", Backend::Auto), ("blocking", Backend::Blocking)] {
        for threads in [1, 16, 64] {
            let dir = folder();
            let options = LogOptions {
                backend,
                ..LogOptions::default()
            };
            let log = Log::open(dir.path(), options, &mut |_| Ok(())).unwrap();
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|total| run(&log, threads, total));
            });
            log.close().unwrap();
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = append
}
criterion_main!(benches);
