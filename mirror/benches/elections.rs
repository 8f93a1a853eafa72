//! Electing a candidate that has changed 100,000 rows of a million: until it is durable, and until the mirror shows it.
//!
//! What it writes is told beside the times: bytes of log, and the files of the mirror before and after.
#![allow(clippy::unwrap_used)]

#[path = "../../engine/benches/common/mod.rs"]
mod common;

use common::{begin, change, create_candidate, create_election, load, now};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scry_engine::collision::Computation;
use scry_engine::election::OnConflict;
use scry_engine::*;
use scry_mirror::{Mirror, MirrorOptions};
use scry_wal::Lsn;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS: i32 = 1_000_000;
/// Rows that the candidate changes, scattered over the table.
const CHANGED: i32 = 100_000;

fn no_expressions(_: &Computation<'_>) -> Result<Value, String> {
    Err("no expressions".to_owned())
}

/// The mirror's files, once all that is visible is in them and stores that have ended are forgotten, so that it has so many rows.
fn sealed(engine: &Arc<Engine>, mirror: &Arc<Mirror>, folder: &Path, rows: i32) -> BTreeMap<OsString, u64> {
    let visible = engine.visible_lsn();
    now(mirror.applied(visible.plus(1))).unwrap();
    loop {
        let status = mirror.status();
        let sealed = status.checkpoint.is_some_and(|at| at > visible);
        if sealed && status.rows == rows as u64 && status.unsealed_bytes == 0 {
            break;
        }
        mirror.request_checkpoint();
        std::thread::sleep(Duration::from_millis(10));
    }
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "parquet"));
    segments
        .map(|file| (file.file_name(), file.metadata().unwrap().len()))
        .collect()
}

/// What an election takes and writes.
struct Elected {
    durable: Duration,
    mirrored: Duration,
    log_bytes: u64,
}

fn elect(engine: &Arc<Engine>, mirror: &Arc<Mirror>, election: &str) -> Elected {
    let before = engine.visible_lsn();
    let begun = Instant::now();
    let mut txn = begin(engine);
    let elected = now(txn.elect(election, "c", OnConflict::Fail, &no_expressions)).unwrap();
    let lsn = txn.commit("ELECT CANDIDATE").unwrap().unwrap();
    engine.log().wait_durable(lsn).unwrap();
    let durable = begun.elapsed();
    now(mirror.applied(lsn.plus(1))).unwrap();
    let mirrored = begun.elapsed();
    assert_eq!(elected.changed, CHANGED as u64);
    Elected {
        durable,
        mirrored,
        log_bytes: lsn.get() - before.get(),
    }
}

fn elections(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(&directory.path().join("engine"), EngineOptions::default()).unwrap();
    let horizon = {
        let engine = Arc::downgrade(&engine);
        move || engine.upgrade().map_or(Lsn::MAX, |engine| engine.horizon())
    };
    let options = MirrorOptions::new(Arc::new(horizon));
    let folder = directory.path().join("mirror");
    let mirror = Mirror::open(&folder, Arc::clone(engine.log()), options).unwrap();
    let table = load(&engine, "accounts", ROWS);
    let mut group = c.benchmark_group(format!("elect {CHANGED} changed rows"));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5))
        .throughput(Throughput::Elements(CHANGED as u64));
    let (mut elections, mut told) = (0, String::new());
    for (what, until) in [
        ("durable", |elected: &Elected| elected.durable),
        ("in the mirror", |elected: &Elected| elected.mirrored),
    ] as [(&str, fn(&Elected) -> Duration); 2]
    {
        group.bench_function(what, |b| {
            b.iter_custom(|times| {
                let mut sum = Duration::ZERO;
                for _ in 0..times {
                    elections += 1;
                    let name = format!("e{elections}");
                    create_election(&engine, &name);
                    create_candidate(&engine, &name, "c");
                    let ids = (0..CHANGED).map(|nth| nth * (ROWS / CHANGED));
                    change(&engine, &table, (&name, "c"), ids);
                    let before = sealed(&engine, &mirror, &folder, ROWS + CHANGED);
                    let elected = elect(&engine, &mirror, &name);
                    sum += until(&elected);
                    let after = sealed(&engine, &mirror, &folder, ROWS);
                    let new: Vec<u64> = after
                        .iter()
                        .filter(|(name, _)| !before.contains_key(*name))
                        .map(|(_, bytes)| *bytes)
                        .collect();
                    told = format!(
                        "{} bytes of log; the mirror has {} files of {} bytes, of these {} new ones of {} bytes",
                        elected.log_bytes,
                        after.len(),
                        after.values().sum::<u64>(),
                        new.len(),
                        new.iter().sum::<u64>(),
                    );
                }
                sum
            });
        });
    }
    group.finish();
    eprintln!("electing {CHANGED} changed rows: {told}");
    mirror.close();
    engine.close().unwrap();
}

criterion_group!(benches, elections);
criterion_main!(benches);
