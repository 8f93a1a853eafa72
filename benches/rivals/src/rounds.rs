//! Rounds over all stores: each phase is one process for each store, one at a time, in an order that moves on from round to round.

use crate::machine::MemoryBound;
use crate::phases::Phase;
use crate::store::{NAMES, Outcome};
use crate::table::Figures;
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run may take beside its cache where memory is bounded: buffers for writes and logs, code, stacks.
const BESIDE_CACHE_BYTES: u64 = 64 << 20;

/// With everything in memory the cache is so many times the data.
const MEMORY_CACHE: u64 = 4;

/// Beyond memory the data are so many times the cache.
const BEYOND_DATA: u64 = 8;

/// The least cache that all stores can work with.
const CACHE_BYTES_MIN: u64 = 8 << 20;

#[derive(Clone, Debug)]
pub struct Rounds {
    pub folder: PathBuf,
    pub stores: Vec<String>,
    pub phases: Vec<Phase>,
    pub rounds: u64,
    pub rows: u64,
    pub value_bytes: usize,
    pub seconds: f64,
    pub writers: Vec<u64>,
    pub readers: u64,
}

impl Rounds {
    /// Whether memory can be bounded here.
    pub fn can_bound_memory() -> bool {
        MemoryBound::new(1 << 30).is_ok()
    }

    /// Runs everything. The folder is empty again afterwards.
    pub fn run(&self) -> Outcome<Figures> {
        let mut figures = Figures::default();
        for round in 0..self.rounds {
            for &phase in &self.phases {
                for place in 0..self.stores.len() {
                    let store = &self.stores[(place + round as usize) % self.stores.len()];
                    let folder = self.folder.join(store);
                    if matches!(phase, Phase::Ordered | Phase::Load) && folder.exists() {
                        fs::remove_dir_all(&folder)?;
                    }
                    eprintln!("round {round}, {phase:?}, {store}");
                    for line in self.child(store, phase, round, &folder)?.lines() {
                        let (name, figure) = line.split_once('\t').ok_or("a line that is no figure")?;
                        figures.add(name, store, figure.parse()?);
                    }
                }
            }
        }
        for store in NAMES {
            let folder = self.folder.join(store);
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        Ok(figures)
    }

    fn child(&self, store: &str, phase: Phase, round: u64, folder: &Path) -> Outcome<String> {
        let data = self.rows * (crate::data::KEY_BYTES + self.value_bytes) as u64;
        let cache = match phase {
            Phase::Beyond => data / BEYOND_DATA,
            _ => data * MEMORY_CACHE,
        };
        let cache = cache.max(CACHE_BYTES_MIN);
        let bound = match phase {
            Phase::Beyond => MemoryBound::new(cache + BESIDE_CACHE_BYTES).ok(),
            _ => None,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("one")
            .arg("--store")
            .arg(store)
            .arg("--folder")
            .arg(folder);
        let phase = phase.to_possible_value().ok_or("a phase without a name")?;
        command.arg("--phase").arg(phase.get_name());
        let writers: Vec<String> = self.writers.iter().map(u64::to_string).collect();
        let numbers = [
            ("--rows", self.rows.to_string()),
            ("--value-bytes", self.value_bytes.to_string()),
            ("--seconds", self.seconds.to_string()),
            ("--writers", writers.join(",")),
            ("--readers", self.readers.to_string()),
            ("--cache-bytes", cache.to_string()),
            ("--round", round.to_string()),
        ];
        for (name, number) in numbers {
            command.arg(name).arg(number);
        }
        if let Some(bound) = &bound {
            command.arg("--group").arg(bound.folder());
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!(
                "{store} did not get through {}: {}",
                phase.get_name(),
                output.status
            )
            .into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
