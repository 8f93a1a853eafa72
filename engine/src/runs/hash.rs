//! The hash of a key that filters are built of. It is part of the format: it never changes.
//!
//! Multiplications to 128 bits whose halves are put together, 16 bytes at a time, as in wyhash. Keys come from users,
//! so collisions can be made on purpose; all that they cost is a look into a block.

const SECRET: [u64; 3] = [
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
];

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn read8(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[inline]
fn read4(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u64::from(u32::from_le_bytes(word))
}

/// The hash of an internal key.
#[inline]
pub(crate) fn hash(key: &[u8]) -> u64 {
    let length = key.len();
    let mut state = SECRET[2];
    let (a, b) = match length {
        0 => (0, 0),
        1..4 => (
            u64::from(key[0]) << 16 | u64::from(key[length / 2]) << 8 | u64::from(key[length - 1]),
            0,
        ),
        4..8 => (read4(key, 0), read4(key, length - 4)),
        8..=16 => (read8(key, 0), read8(key, length - 8)),
        _ => {
            let mut at = 0;
            while at + 16 < length {
                state = fold(read8(key, at) ^ SECRET[0], read8(key, at + 8) ^ state);
                at += 16;
            }
            (read8(key, length - 16), read8(key, length - 8))
        }
    };
    let mixed = fold(a ^ SECRET[0], b ^ state);
    fold(mixed ^ SECRET[1], length as u64 ^ SECRET[2] ^ state)
}

/// Another hash of a hash.
#[inline]
pub(crate) fn remix(hash: u64, seed: u64) -> u64 {
    let mut mixed = hash ^ seed;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_hash_never_changes() {
        let hashes: Vec<u64> = [
            &b""[..],
            b"a",
            b"abcd",
            b"abcdefgh",
            b"abcdefghijklmnopqrstuvwxyz0123456789",
        ]
        .into_iter()
        .map(hash)
        .collect();
        assert_eq!(hashes, FIXED, "{hashes:#x?}");
    }

    const FIXED: [u64; 5] = [
        0,
        0xb249_b20d_19c0_8ae5,
        0xff08_ea8a_3a89_fc66,
        0x2404_6fe6_f45f_58c1,
        0xa990_9441_7a79_fed6,
    ];

    #[test]
    fn keys_that_differ_in_little_differ_in_hash() {
        let mut seen = HashSet::new();
        for length in 0..40 {
            let mut key = vec![7; length];
            assert!(seen.insert(hash(&key)));
            for at in 0..length {
                for bit in 0..8 {
                    key[at] ^= 1 << bit;
                    assert!(seen.insert(hash(&key)), "length {length}, byte {at}, bit {bit}");
                    key[at] ^= 1 << bit;
                }
            }
        }
    }
}
