//! The rows that every store is given: keys of 16 bytes that look random, values of which half compresses.

/// A key. As an array it orders as its bytes do.
pub type Key = [u8; 16];

pub const KEY_BYTES: usize = 16;

/// Rows of which nobody has loaded any have numbers from here on.
pub const ABSENT: u64 = 1 << 40;

/// Rows that commits insert have numbers from here on, `INSERTS_EACH` for each writer of each measurement.
pub const INSERTS: u64 = 1 << 41;
pub const INSERTS_EACH: u64 = 1 << 24;

/// One step of splitmix64: each number gives another one.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The key of a row. No two rows share one.
pub fn key(number: u64) -> Key {
    let first = mix(number);
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&mix(first).to_be_bytes());
    key
}

/// The value of a row, the `version`-th that it gets: a random half and one of spaces.
pub fn value(key: &Key, version: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(u64::from_be_bytes(std::array::from_fn(|at| key[at])) ^ version);
    let mut value = vec![b' '; bytes];
    for chunk in value[..bytes / 2].chunks_mut(8) {
        let number = random.next().to_le_bytes();
        chunk.copy_from_slice(&number[..chunk.len()]);
    }
    value
}

/// A cheap sequence of random numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(mix(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
