//! What a run says of itself (`format`).

use crate::runs::SpaceId;
use crate::runs::format::{SPACE_BYTES, put_varint, take_bytes, take_length, take_varint};
use scry_wal::Lsn;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) entries: u64,
    pub(crate) keys: u64,
    pub(crate) deletions: u64,
    /// Entries that are not the newest of their key in this run.
    pub(crate) superseded: u64,
    /// The highest LSN at which one of those was superseded.
    pub(crate) superseded_max: Lsn,
    pub(crate) lsn_min: Lsn,
    pub(crate) lsn_max: Lsn,
    /// Of internal keys and rows.
    pub(crate) content_bytes: u64,
    /// The least and the greatest internal key.
    pub(crate) first: Vec<u8>,
    pub(crate) last: Vec<u8>,
    /// By space.
    pub(crate) spaces: Vec<Share>,
}

/// What a space has of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) space: SpaceId,
    pub(crate) entries: u64,
    /// Of internal keys and rows.
    pub(crate) bytes: u64,
}

impl Meta {
    /// Counts an entry, in order; `superseded_at` is the LSN of the one before when that is of the same key.
    pub(crate) fn count(
        &mut self,
        key: &[u8],
        lsn: Lsn,
        row_bytes: Option<usize>,
        superseded_at: Option<Lsn>,
    ) {
        if self.entries == 0 {
            self.first = key.to_vec();
            (self.lsn_min, self.lsn_max) = (lsn, lsn);
        }
        self.entries += 1;
        self.lsn_min = self.lsn_min.min(lsn);
        self.lsn_max = self.lsn_max.max(lsn);
        self.deletions += u64::from(row_bytes.is_none());
        match superseded_at {
            Some(lsn) => {
                self.superseded += 1;
                self.superseded_max = self.superseded_max.max(lsn);
            }
            None => self.keys += 1,
        }
        let bytes = (key.len() + row_bytes.unwrap_or_default()) as u64;
        self.content_bytes += bytes;
        let space = SpaceId::of(key);
        match self.spaces.last_mut() {
            Some(share) if share.space == space => {
                share.entries += 1;
                share.bytes += bytes;
            }
            _ => self.spaces.push(Share {
                space,
                entries: 1,
                bytes,
            }),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [
            self.entries,
            self.keys,
            self.deletions,
            self.superseded,
            self.superseded_max.get(),
            self.lsn_min.get(),
            self.lsn_max.get(),
            self.content_bytes,
        ] {
            put_varint(&mut bytes, number);
        }
        for key in [&self.first, &self.last] {
            put_varint(&mut bytes, key.len() as u64);
            bytes.extend_from_slice(key);
        }
        put_varint(&mut bytes, self.spaces.len() as u64);
        for share in &self.spaces {
            put_varint(&mut bytes, u64::from(share.space.get()));
            put_varint(&mut bytes, share.entries);
            put_varint(&mut bytes, share.bytes);
        }
        bytes
    }

    /// `None` where the bytes make no sense.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Meta> {
        let mut at = 0;
        let mut numbers = [0; 8];
        for number in &mut numbers {
            *number = take_varint(bytes, &mut at)?;
        }
        let [
            entries,
            keys,
            deletions,
            superseded,
            superseded_max,
            lsn_min,
            lsn_max,
            content_bytes,
        ] = numbers;
        let mut key = || {
            let length = take_length(bytes, &mut at)?;
            Some(take_bytes(bytes, &mut at, length)?.to_vec())
        };
        let (first, last) = (key()?, key()?);
        let count = take_length(bytes, &mut at)?;
        // Each takes three bytes or more.
        if count > bytes.len() / 3 {
            return None;
        }
        let mut spaces: Vec<Share> = Vec::with_capacity(count);
        for _ in 0..count {
            let share = Share {
                space: SpaceId::new(u32::try_from(take_varint(bytes, &mut at)?).ok()?),
                entries: take_varint(bytes, &mut at)?,
                bytes: take_varint(bytes, &mut at)?,
            };
            if spaces.last().is_some_and(|last| last.space >= share.space) {
                return None;
            }
            spaces.push(share);
        }
        let holds = at == bytes.len()
            && first.len() >= SPACE_BYTES
            && last.len() >= SPACE_BYTES
            && first <= last
            && spaces.first()?.space == SpaceId::of(&first)
            && spaces.last()?.space == SpaceId::of(&last);
        holds.then_some(Meta {
            entries,
            keys,
            deletions,
            superseded,
            superseded_max: Lsn::new(superseded_max),
            lsn_min: Lsn::new(lsn_min),
            lsn_max: Lsn::new(lsn_max),
            content_bytes,
            first,
            last,
            spaces,
        })
    }
}
