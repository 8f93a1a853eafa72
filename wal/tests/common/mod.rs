//! Helpers of the log's tests: small segments, records that carry a number, replay into a list.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod harm;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use scry_wal::record::{encode_catalog, encode_change};
use scry_wal::storage::Storage;
use scry_wal::{Backend, Change, Ended, Error, Frame, Log, LogOptions, Lsn, Micros, Op, Record, StoreId};

pub const UNIT: u64 = 4096;
pub const SEGMENT: u64 = 64 << 10;
/// When segments go.
pub const TIME: Micros = Micros::new(1_700_000_000_000_000);

/// Small segments, so that a few frames cross them.
pub fn options(backend: Backend) -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT,
        backend,
        ..LogOptions::default()
    }
}

/// A record that carries `number` and is `size` bytes larger than it must be.
pub fn record(number: u64, size: usize) -> Vec<u8> {
    let after = vec![number as u8; size];
    let mut out = Vec::new();
    let change = Change {
        store: StoreId::new(1),
        op: Op::Insert,
        key: &number.to_be_bytes(),
        ended: Ended::None,
        before: b"",
        after: &after,
    };
    encode_change(&mut out, &change).unwrap();
    out
}

/// The number that a record carries; its filling is checked.
pub fn number(record: &Record<'_>) -> u64 {
    let Record::Change(change) = record else {
        panic!("{record:?}")
    };
    let number = u64::from_be_bytes(change.key.try_into().unwrap());
    assert!(change.after.iter().all(|&byte| byte == number as u8));
    number
}

/// The numbers of a frame, with their places.
pub fn numbers(frame: &Frame) -> Vec<(Lsn, u64)> {
    frame
        .records()
        .map(|record| {
            let (lsn, record) = record.unwrap();
            (lsn, number(&record))
        })
        .collect()
}

/// Appends one record; returns where it stands.
pub fn append(log: &Log, number: u64, size: usize) -> Result<Lsn, Error> {
    let bytes = record(number, size);
    log.wait_room()?;
    let mut appender = log.lock()?;
    let reserved = appender.reserve(bytes.len())?;
    let put = appender.put(&bytes, 1, false);
    assert_eq!(reserved, put);
    Ok(put)
}

/// Appends a catalog record.
pub fn append_catalog(log: &Log, payload: &[u8]) -> Result<Lsn, Error> {
    let mut bytes = Vec::new();
    encode_catalog(&mut bytes, payload).unwrap();
    let mut appender = log.lock()?;
    appender.reserve(bytes.len())?;
    Ok(appender.put(&bytes, 1, true))
}

/// Opens and collects what was there.
pub fn open(dir: &Path, options: LogOptions) -> Result<(Log, Vec<(Lsn, u64)>), Error> {
    let mut found = Vec::new();
    let log = Log::open(dir, options, &mut |frame| {
        found.extend(frame.into_iter().flat_map(numbers));
        Ok(())
    })?;
    Ok((log, found))
}

/// As [`open`], on any storage.
pub fn open_on(storage: Arc<dyn Storage>, options: LogOptions) -> Result<(Log, Vec<(Lsn, u64)>), Error> {
    let mut found = Vec::new();
    let log = Log::open_on(storage, options, &mut |frame| {
        found.extend(frame.into_iter().flat_map(numbers));
        Ok(())
    })?;
    Ok((log, found))
}

/// Appends these numbers, each in a frame of its own that says that the one before is durable; returns the frames' LSNs.
pub fn fill(log: &Log, numbers: Range<u64>, size: usize) -> Vec<u64> {
    let appended = append_each(log, numbers, size).into_iter();
    appended.map(|(lsn, _)| lsn.get() - 128).collect()
}

/// As [`fill`], in frames of three units; returns where the records stand, and the numbers.
pub fn fill_wide(log: &Log, numbers: Range<u64>) -> Vec<(Lsn, u64)> {
    append_each(log, numbers, 9_000)
}

fn append_each(log: &Log, numbers: Range<u64>, size: usize) -> Vec<(Lsn, u64)> {
    numbers
        .map(|number| {
            let lsn = append(log, number, size).unwrap();
            log.wait_durable(lsn).unwrap();
            (lsn, number)
        })
        .collect()
}

/// Where the segment of a position begins.
pub fn base(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.get() - lsn.get() % SEGMENT)
}
