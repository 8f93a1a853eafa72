//! What one process does with one store, and what it measures. Each figure is printed as `name<TAB>number`.

use crate::data::{ABSENT, INSERTS, INSERTS_EACH, KEY_BYTES, Key, Random, key, value};
use crate::machine::{disk_bytes, forget_pages, peak_memory_bytes, written_bytes};
use crate::store::{self, Client, Outcome, Row, Settings, Store};
use clap::ValueEnum;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Rows of a transaction of a load in random order.
const LOAD_BATCH: usize = 1000;

/// Rows of a large commit.
pub const BATCH: usize = 100;

/// Writers of large updates.
const UPDATERS: u64 = 4;

/// Clients of a mixed load.
const MIXED_CLIENTS: u64 = 16;

/// Rows of a short range.
const RANGE: usize = 100;

/// How much of the data the updates replace: one of so many rows.
const UPDATED: u64 = 5;

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Phase {
    /// Loads an empty store with rows in the order of their keys, and leaves it so.
    Ordered,
    /// Loads an empty store with rows in random order.
    Load,
    /// Reads, with a cache that holds everything.
    Memory,
    /// Reads, with a cache much smaller than the data and nothing in memory at first.
    Beyond,
    /// Replaces rows, and looks at what that wrote and at what the store takes afterwards.
    Update,
    /// Reads and durable updates of single rows by many clients.
    Mixed,
    /// Durable commits of new rows by one to many writers.
    Commits,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Task {
    pub store: String,
    pub phase: Phase,
    pub folder: PathBuf,
    pub rows: u64,
    pub value_bytes: usize,
    /// Of each timed measurement.
    pub duration: Duration,
    pub writers: Vec<u64>,
    /// Threads that read.
    pub readers: u64,
    pub cache_bytes: usize,
    /// Of this many. Keeps the keys of rounds apart.
    pub round: u64,
}

fn report(name: &str, figure: f64) {
    println!("{name}\t{figure}");
}

impl Task {
    fn data_bytes(&self) -> u64 {
        self.rows * (KEY_BYTES + self.value_bytes) as u64
    }

    fn open(&self) -> Outcome<Box<dyn Store>> {
        store::open(
            &self.store,
            &self.folder,
            &Settings {
                cache_bytes: self.cache_bytes,
                data_bytes: self.data_bytes(),
                is_beyond_memory: self.phase == Phase::Beyond,
                is_load: matches!(self.phase, Phase::Ordered | Phase::Load),
            },
        )
    }

    fn row(&self, number: u64, version: u64) -> Row {
        let key = key(number);
        (key, value(&key, version, self.value_bytes))
    }

    /// Rows in the order of their keys, as transactions want them.
    fn sorted(&self, numbers: impl Iterator<Item = u64>, version: u64) -> Vec<Row> {
        let mut rows: Vec<Row> = numbers.map(|number| self.row(number, version)).collect();
        rows.sort_unstable_by_key(|row| row.0);
        rows.dedup_by_key(|row| row.0);
        rows
    }

    pub fn run(&self) -> Outcome<()> {
        match self.phase {
            Phase::Ordered => self.ordered(),
            Phase::Load => self.load(),
            Phase::Memory => self.reads("in memory"),
            Phase::Beyond => {
                forget_pages(&self.folder)?;
                self.reads("beyond memory")
            }
            Phase::Update => self.update(),
            Phase::Mixed => self.mixed(),
            Phase::Commits => self.commits(),
        }
    }

    fn ordered(&self) -> Outcome<()> {
        let mut keys: Vec<Key> = (0..self.rows).map(key).collect();
        keys.sort_unstable();
        let store = self.open()?;
        let begun = Instant::now();
        store.load_in_order(&mut keys.iter().map(|key| (*key, value(key, 0, self.value_bytes))))?;
        report(
            "load in key order, rows/s",
            self.rows as f64 / begun.elapsed().as_secs_f64(),
        );
        store.close()
    }

    fn load(&self) -> Outcome<()> {
        let store = self.open()?;
        let begun = Instant::now();
        let mut client = store.client();
        for first in (0..self.rows).step_by(LOAD_BATCH) {
            let numbers = first..self.rows.min(first + LOAD_BATCH as u64);
            client.insert(&self.sorted(numbers, 0))?;
        }
        drop(client);
        store.sync()?;
        let rate = self.rows as f64 / begun.elapsed().as_secs_f64();
        report("load in random order, rows/s", rate);
        report(
            "memory after the load, MiB",
            peak_memory_bytes()? as f64 / f64::from(1 << 20),
        );
        store.settle()?;
        store.close()?;
        self.report_space("after the load")
    }

    /// Bytes on the disk for each byte of keys and values.
    fn report_space(&self, when: &str) -> Outcome<()> {
        let data = self.data_bytes() as f64;
        let all = disk_bytes(&self.folder, |_| true)?;
        report(&format!("space {when}, ×"), all as f64 / data);
        if self.store == "scry" {
            let rows = disk_bytes(&self.folder, |path| !path.starts_with("wal"))?;
            report(
                &format!("scry: space {when} without the audit trail, ×"),
                rows as f64 / data,
            );
        }
        Ok(())
    }

    fn reads(&self, place: &str) -> Outcome<()> {
        let begun = Instant::now();
        let store = self.open()?;
        report(&format!("open, {place}, ms"), begun.elapsed().as_secs_f64() * 1e3);
        if self.phase == Phase::Memory {
            // Everything once, by the ways of lookups: scans may pass a cache by.
            let next = AtomicU64::new(0);
            self.during(&*store, self.readers, Duration::MAX, &|client, _, _| {
                let number = next.fetch_add(1, Ordering::Relaxed);
                Ok(number < self.rows && client.get(&key(number))?.is_some())
            })?;
        }
        let figure = |name: &str| format!("{name}, {place}, /s");
        let hits = self.during(&*store, self.readers, self.duration, &|client, random, _| {
            let found = client.get(&key(random.below(self.rows)))?;
            found.map(|_| true).ok_or_else(|| "a row is not there".into())
        })?;
        report(&figure("random reads"), hits);
        let misses = self.during(
            &*store,
            self.readers,
            self.duration,
            &|client, random, _| match client.get(&key(ABSENT + random.next() % ABSENT))? {
                None => Ok(true),
                Some(_) => Err("there is a row that nobody wrote".into()),
            },
        )?;
        report(&figure("random reads of absent keys"), misses);
        let ranges = self.during(&*store, self.readers, self.duration, &|client, random, _| {
            client.scan(&key(random.next()), RANGE)?;
            Ok(true)
        })?;
        report(&figure("ranges of 100 rows"), ranges);
        let begun = Instant::now();
        let mut walked = 0;
        while walked == 0 || begun.elapsed() < self.duration {
            let (rows, bytes) = store.client().scan(&[0; KEY_BYTES], usize::MAX)?;
            if (rows as u64) < self.rows || bytes != rows * self.value_bytes {
                return Err(format!("a walk met {rows} rows of {bytes} bytes").into());
            }
            walked += rows;
        }
        let rate = walked as f64 / begun.elapsed().as_secs_f64();
        report(&format!("walk over all rows, {place}, rows/s"), rate);
        store.close()
    }

    fn update(&self) -> Outcome<()> {
        let store = self.open()?;
        let before = written_bytes()?;
        let wanted = self.rows / UPDATED;
        let updated = AtomicU64::new(0);
        let begun = Instant::now();
        self.during(&*store, UPDATERS, Duration::MAX, &|client, random, _| {
            if updated.load(Ordering::Relaxed) >= wanted {
                return Ok(false);
            }
            let version = random.next();
            let rows = self.sorted((0..BATCH).map(|_| random.below(self.rows)), version);
            client.update(&rows)?;
            updated.fetch_add(rows.len() as u64, Ordering::Relaxed);
            Ok(true)
        })?;
        let updated = updated.into_inner();
        let rate = updated as f64 / begun.elapsed().as_secs_f64();
        report("durable updates, 4 writers, 100 rows each, rows/s", rate);
        store.settle()?;
        let given = (updated * (KEY_BYTES + self.value_bytes) as u64) as f64;
        let log_bytes = store.log_bytes();
        store.close()?;
        let written = (written_bytes()? - before) as f64;
        report("written for each byte updated, ×", written / given);
        if let Some(log) = log_bytes {
            report("scry: of which the audit trail, ×", log as f64 / given);
        }
        self.report_space("after the updates")
    }

    fn mixed(&self) -> Outcome<()> {
        let store = self.open()?;
        for reads in [50, 95] {
            let rate = self.during(&*store, MIXED_CLIENTS, self.duration, &|client, random, _| {
                let number = random.below(self.rows);
                if random.below(100) < reads {
                    return Ok(client.get(&key(number))?.is_some());
                }
                client.update(&[self.row(number, random.next())])?;
                Ok(true)
            })?;
            report(&format!("{reads} % reads, 16 clients, durable updates, /s"), rate);
        }
        store.close()
    }

    fn commits(&self) -> Outcome<()> {
        let store = self.open()?;
        // No two inserts of any round share a key.
        let places = self.writers.iter().sum::<u64>() * 2;
        let mut first = INSERTS + self.round * places * INSERTS_EACH;
        for batch in [1, BATCH] {
            for &writers in &self.writers {
                let begin = first;
                let rate = self.during(&*store, writers, self.duration, &|client, _, place| {
                    let first = begin + place.thread * INSERTS_EACH + place.step * batch as u64;
                    client.insert(&self.sorted(first..first + batch as u64, 0))?;
                    Ok(true)
                })?;
                first += writers * INSERTS_EACH;
                let rows = if batch == 1 { "1 row" } else { "100 rows" };
                report(&format!("durable commits of {rows}, {writers} writers, /s"), rate);
            }
        }
        store.close()
    }

    /// Has so many clients do steps until the time is over or a step says no. Answers steps in a second.
    fn during(&self, store: &dyn Store, threads: u64, time: Duration, step: &Step<'_>) -> Outcome<f64> {
        let over = AtomicBool::new(false);
        let barrier = Barrier::new(usize::try_from(threads)? + 1);
        scope(|scope| {
            let clients: Vec<_> = (0..threads)
                .map(|thread| {
                    let (over, barrier) = (&over, &barrier);
                    scope.spawn(move || -> Outcome<u64> {
                        let mut client = store.client();
                        let mut random = Random::new((self.round << 32) + thread + 1);
                        barrier.wait();
                        let mut steps = 0;
                        while !over.load(Ordering::Relaxed) {
                            if !step(&mut *client, &mut random, Place { thread, step: steps })? {
                                break;
                            }
                            steps += 1;
                        }
                        Ok(steps)
                    })
                })
                .collect();
            barrier.wait();
            let begun = Instant::now();
            if time != Duration::MAX {
                sleep(time);
                over.store(true, Ordering::Relaxed);
            }
            let mut steps = 0;
            for client in clients {
                steps += client.join().map_err(|_| "a client panicked")??;
            }
            Ok(steps as f64 / begun.elapsed().as_secs_f64())
        })
    }
}

/// Which step of which client.
#[derive(Clone, Copy)]
struct Place {
    thread: u64,
    step: u64,
}

type Step<'s> = dyn Fn(&mut dyn Client, &mut Random, Place) -> Outcome<bool> + Sync + 's;
