//! Changing a log behind its back, by the description of its format and not by its code.

use std::collections::BTreeMap;
use std::sync::Arc;

use scry_wal::sim::SimStorage;
use scry_wal::storage::Storage;

use super::{SEGMENT, UNIT};

pub fn storage(disk: &Arc<SimStorage>) -> Arc<dyn Storage> {
    Arc::<SimStorage>::clone(disk)
}

pub fn name(segment: u64) -> String {
    format!("{:016x}.wal", segment * SEGMENT)
}

/// The bytes at an LSN.
pub fn at(files: &mut BTreeMap<String, Vec<u8>>, lsn: u64, len: usize) -> &mut [u8] {
    let name = format!("{:016x}.wal", lsn - lsn % SEGMENT);
    let offset = (lsn % SEGMENT) as usize;
    &mut files.get_mut(&name).unwrap()[offset..offset + len]
}

pub fn change(disk: &SimStorage, lsn: u64, len: usize, change: impl FnOnce(&mut [u8])) {
    disk.edit(|files| change(at(files, lsn, len)));
}

/// Gives a changed frame a chain value and a checksum that are right.
pub fn seal(frame: &mut [u8]) {
    let payload = u32::from_le_bytes(frame[24..28].try_into().unwrap()) as usize;
    let mut chained = frame[8..96].to_vec();
    chained.extend_from_slice(&frame[128..128 + payload]);
    let chain = blake3::hash(&chained);
    frame[96..128].copy_from_slice(chain.as_bytes());
    let crc = crc32fast::hash(&frame[8..128 + payload]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Removes the watermark behind the last frame, as if the process had ended right after acknowledging it.
pub fn without_watermark(disk: &SimStorage, last: u64) {
    change(disk, last + UNIT, UNIT as usize, |unit| {
        assert_eq!(unit[32], 4, "a watermark stands behind the last frame");
        unit.fill(0);
    });
}
