//! Damage to the files of a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use scry_wal::record::encode_change;
use scry_wal::sim::{Fault, SimStorage};
use scry_wal::storage::Storage;
use scry_wal::verify::verify_on;
use scry_wal::{Change, Ended, Error, Flaw, Log, LogOptions, Lsn, Op, Record, StoreId};

use super::values;
use crate::target::{Outcome, Target};

/// As small as they may be, so that few frames fill several.
const SEGMENT_BYTES: u64 = 16 << 10;
const UNIT: usize = 4096;

type Files = BTreeMap<String, Vec<u8>>;

/// A log and what is in it.
struct Written {
    disk: Arc<SimStorage>,
    records: Vec<(Lsn, u64)>,
    /// Every record in it was acknowledged and has a witness: damage to one write unit cannot pass for a torn tail.
    witnessed: bool,
}

pub struct Damage {
    logs: Vec<Written>,
}

impl Damage {
    pub fn new() -> Self {
        Self {
            logs: vec![closed(1), several_epochs(), crashed()],
        }
    }
}

fn open(disk: &Arc<SimStorage>) -> std::result::Result<(Log, Vec<(Lsn, u64)>), Error> {
    let options = LogOptions {
        segment_bytes: SEGMENT_BYTES,
        min_in_flight: 4,
        ..LogOptions::default()
    };
    let mut found = Vec::new();
    let log = Log::open_on(
        Arc::<SimStorage>::clone(disk) as Arc<dyn Storage>,
        options,
        &mut |frame| {
            for record in frame.into_iter().flat_map(|frame| frame.records()) {
                let (lsn, record) = record?;
                let Record::Change(change) = record else {
                    panic!("a record that nobody wrote: {record:?}")
                };
                let number = u64::from_le_bytes(change.key.try_into().expect("eight bytes"));
                assert!(
                    change.after.iter().all(|&byte| byte == number as u8),
                    "record {number} was changed"
                );
                found.push((lsn, number));
            }
            Ok(())
        },
    )?;
    Ok((log, found))
}

fn append(log: &Log, number: u64, bytes: usize) -> std::result::Result<Lsn, Error> {
    let mut record = Vec::new();
    let change = Change {
        store: StoreId::new(1),
        op: Op::Insert,
        key: &number.to_le_bytes(),
        ended: Ended::None,
        before: b"",
        after: &vec![number as u8; bytes],
    };
    encode_change(&mut record, &change).expect("a small record");
    log.wait_room()?;
    let mut appender = log.lock()?;
    appender.reserve(record.len())?;
    Ok(appender.put(&record, 1, false))
}

/// Records of all sizes, each acknowledged.
fn fill(log: &Log, from: u64, count: u64) {
    for number in from..from + count {
        let bytes = (number * 977 % 9_000) as usize;
        let lsn = append(log, number, bytes).expect("there is room");
        log.wait_durable(lsn).expect("durable");
    }
}

fn closed(from: u64) -> Written {
    let disk = SimStorage::new(11, false);
    let (log, _) = open(&disk).expect("new");
    fill(&log, from, 16);
    log.close().expect("closes");
    written(&disk, true)
}

fn several_epochs() -> Written {
    let disk = SimStorage::new(12, false);
    for round in 0..4 {
        let (log, _) = open(&disk).expect("opens");
        fill(&log, round * 5, 5);
        log.close().expect("closes");
    }
    written(&disk, true)
}

/// The power went while writes were on their way.
fn crashed() -> Written {
    let disk = SimStorage::new(13, false);
    let (log, _) = open(&disk).expect("new");
    fill(&log, 0, 8);
    disk.fail_after(4, Fault::Crash);
    for number in 8..40 {
        if append(&log, number, 700).is_err() {
            break;
        }
    }
    let disk = disk.after_crash(14);
    drop(log);
    written(&disk, false)
}

fn written(disk: &Arc<SimStorage>, witnessed: bool) -> Written {
    let (log, records) = open(&disk.copy()).expect("opens");
    drop(log);
    assert!(records.len() >= 8);
    Written {
        disk: disk.copy(),
        records,
        witnessed,
    }
}

impl Target for Damage {
    fn seeds(&self) -> Vec<Vec<u8>> {
        values::seeds()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        let mut u = Unstructured::new(input);
        self.check(&mut u).unwrap_or(Outcome::of("too short"))
    }
}

impl Damage {
    fn check(&self, u: &mut Unstructured<'_>) -> Result<Outcome> {
        let log = &self.logs[u.choose_index(self.logs.len())?];
        let original = log.disk.files();
        let mut files = original.clone();
        for _ in 0..u.int_in_range(1..=3u8)? {
            edit(u, &mut files)?;
        }
        let one_unit = in_one_unit(&original, &files);
        let disk = SimStorage::new(0, bool::arbitrary(u)?);
        disk.edit(|on_disk| on_disk.clone_from(&files));
        let report = verify_on(&(Arc::<SimStorage>::clone(&disk) as Arc<dyn Storage>));
        assert_eq!(disk.files(), files, "looking changes nothing");
        let opened = open(&disk);
        match opened {
            Ok((opened, found)) => {
                assert!(log.records.starts_with(&found), "a true beginning: {found:?}");
                if log.witnessed && one_unit {
                    assert_eq!(found, log.records, "acknowledged and witnessed, but cut off");
                }
                let report = report.expect("what opens can be checked");
                assert_eq!(report.problem, None, "it was opened");
                assert_eq!(report.records, found.len() as u64);
                let torn = opened.recovery().torn.as_ref().map(|torn| kind(&torn.flaw));
                goes_on(opened, &disk, &found);
                Ok(Outcome::of(("open", torn, found.len() == log.records.len())))
            }
            Err(Error::Damaged { place, flaw, witness }) => {
                assert_eq!(disk.files(), files, "what is refused stays as it is");
                let problem = report
                    .expect("damage is a finding")
                    .problem
                    .expect("refused as damaged");
                assert_eq!(
                    (&problem.place, &problem.flaw, problem.witness),
                    (&place, &flaw, witness)
                );
                Ok(Outcome::of(("damaged", kind(&flaw), witness.is_some())))
            }
            Err(error @ Error::NewerFormat { .. }) => {
                assert_eq!(disk.files(), files, "what is refused stays as it is");
                assert!(report.is_err(), "{error}");
                Ok(Outcome::of("newer"))
            }
            Err(Error::BeginMissing { .. }) => {
                assert_eq!(disk.files(), files, "what is refused stays as it is");
                Ok(Outcome::of("without its beginning"))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A log that was opened takes more, and holds both afterwards.
fn goes_on(log: Log, disk: &Arc<SimStorage>, found: &[(Lsn, u64)]) {
    let lsn = append(&log, 999, 100).expect("an open log takes more");
    log.wait_durable(lsn).expect("durable");
    log.close().expect("closes");
    drop(log);
    let (log, again) = open(disk).expect("opens again");
    drop(log);
    assert_eq!(again.split_last(), Some((&(lsn, 999), found)));
}

fn kind(flaw: &Flaw) -> std::mem::Discriminant<Flaw> {
    std::mem::discriminant(flaw)
}

/// Whether all that differs lies in one write unit of one file.
fn in_one_unit(before: &Files, after: &Files) -> bool {
    if !before
        .iter()
        .map(|(name, bytes)| (name, bytes.len()))
        .eq(after.iter().map(|(name, bytes)| (name, bytes.len())))
    {
        return false;
    }
    let units = before.iter().zip(after).flat_map(|((_, before), (_, after))| {
        before
            .chunks(UNIT)
            .zip(after.chunks(UNIT))
            .filter(|(before, after)| before != after)
    });
    units.count() <= 1
}

/// One thing that disks, people and broken programs do to files.
fn edit(u: &mut Unstructured<'_>, files: &mut Files) -> Result<()> {
    let names: Vec<String> = files.keys().cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let name = u.choose(&names)?.clone();
    let other = u.choose(&names)?.clone();
    let at = usize::from(u16::arbitrary(u)?);
    let length = usize::from(u16::arbitrary(u)?) >> u.int_in_range(0..=15u8)?;
    let kind = u.int_in_range(0..=9u8)?;
    let source = files[&other].clone();
    let Some(file) = files.get_mut(&name).filter(|file| !file.is_empty()) else {
        return Ok(());
    };
    let at = at % file.len();
    let end = (at + length + 1).min(file.len());
    match kind {
        0 | 1 => file[at] ^= 1 << u.int_in_range(0..=7u8)?,
        2 => file[at] = u8::arbitrary(u)?,
        3 => file[at..end].fill(0),
        4 => file[at..end].fill(0xff),
        5 => {
            // A write that went to another place of its file, or to another file.
            let (unit, from) = (at / UNIT * UNIT, usize::from(u16::arbitrary(u)?) / UNIT * UNIT);
            let from = from % source.len().max(UNIT);
            let bytes = source.get(from..from + UNIT).map(<[u8]>::to_vec);
            if let (Some(bytes), Some(place)) = (bytes, file.get_mut(unit..unit + UNIT)) {
                place.copy_from_slice(&bytes);
            }
        }
        6 => {
            // A lost write.
            let unit = at / UNIT * UNIT;
            if let Some(place) = file.get_mut(unit..unit + UNIT) {
                place.fill(0);
            }
        }
        7 => file.truncate(at),
        8 => {
            files.remove(&name);
        }
        _ => {
            // Two files change places.
            let moved = std::mem::replace(file, source);
            files.insert(other, moved);
        }
    }
    Ok(())
}
