//! Filters: whether a group of a run may have a key, at about ten bits a key and one wrong yes in 256.
//!
//! A binary fuse filter (Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters", 2022): three places
//! of an array of bytes, in three neighbouring segments, whose XOR is the fingerprint of the key.
//!
//! As bytes: a seed (u64), the base-2 logarithm of a segment's length (u8), the number of places where a key's first
//! segment can begin (u32, in segments), and the array, which has two segments more. No bytes at all: any key may be there.

use crate::runs::format::{u32_at, u64_at};
use crate::runs::hash::remix;

const HEAD_BYTES: usize = 13;

/// A seed fails now and then; so many in a row only when hashes are equal, and these are made distinct.
const SEEDS_MAX: u64 = 64;

const SEGMENT_BITS_MAX: u32 = 18;

struct Shape {
    segment_bits: u32,
    first_segments: u32,
}

impl Shape {
    /// As the paper has it.
    fn of(count: usize) -> Shape {
        let size = (count as f64).max(2.0);
        let segment_bits = (size.ln() / 3.33_f64.ln() + 2.25).floor() as u32;
        let segment_bits = segment_bits.min(SEGMENT_BITS_MAX);
        let factor = (0.875 + 0.25 * 1_000_000_f64.ln() / size.ln()).max(1.125);
        let capacity = (size * factor).round() as u32;
        let segments = capacity.div_ceil(1 << segment_bits);
        Shape {
            segment_bits,
            first_segments: segments.saturating_sub(2).max(1),
        }
    }

    fn len(&self) -> usize {
        (self.first_segments as usize + 2) << self.segment_bits
    }

    #[inline]
    fn places(&self, mixed: u64) -> [usize; 3] {
        let span = u64::from(self.first_segments) << self.segment_bits;
        let first = ((u128::from(mixed) * u128::from(span)) >> 64) as usize;
        let segment = 1 << self.segment_bits;
        let mask = segment - 1;
        [
            first,
            (first + segment) ^ ((mixed >> 18) as usize & mask),
            (first + 2 * segment) ^ (mixed as usize & mask),
        ]
    }
}

#[inline]
fn fingerprint(mixed: u64) -> u8 {
    (mixed ^ (mixed >> 32)) as u8
}

/// Appends the filter of the keys with these hashes, which it puts in order.
pub(crate) fn build(out: &mut Vec<u8>, hashes: &mut Vec<u64>) {
    hashes.sort_unstable();
    hashes.dedup();
    let shape = Shape::of(hashes.len());
    for attempt in 0..SEEDS_MAX {
        let seed = remix(attempt, 0x9e37_79b9_7f4a_7c15);
        if let Some(array) = solve(&shape, hashes, seed) {
            out.extend_from_slice(&seed.to_le_bytes());
            out.push(shape.segment_bits as u8);
            out.extend_from_slice(&shape.first_segments.to_le_bytes());
            out.extend_from_slice(&array);
            return;
        }
    }
}

/// Peels off keys that are alone in a place, one after the other, and gives them their fingerprints in reverse.
fn solve(shape: &Shape, hashes: &[u64], seed: u64) -> Option<Vec<u8>> {
    /// The keys that a place belongs to: how many, the XOR of which of their three places it is, and of their hashes.
    #[derive(Clone, Default)]
    struct Claims {
        count: u32,
        which: u8,
        mixed: u64,
    }
    let mut claims = vec![Claims::default(); shape.len()];
    for hash in hashes {
        let mixed = remix(*hash, seed);
        for (which, place) in shape.places(mixed).into_iter().enumerate() {
            let claim = &mut claims[place];
            claim.count += 1;
            claim.which ^= which as u8;
            claim.mixed ^= mixed;
        }
    }
    let mut alone: Vec<usize> = (0..claims.len())
        .filter(|place| claims[*place].count == 1)
        .collect();
    let mut peeled: Vec<(u64, u8)> = Vec::with_capacity(hashes.len());
    while let Some(place) = alone.pop() {
        let Claims { count, which, mixed } = claims[place];
        if count != 1 {
            continue;
        }
        peeled.push((mixed, which));
        for (other, place) in shape.places(mixed).into_iter().enumerate() {
            let claim = &mut claims[place];
            claim.count -= 1;
            claim.which ^= other as u8;
            claim.mixed ^= mixed;
            if claim.count == 1 {
                alone.push(place);
            }
        }
    }
    if peeled.len() != hashes.len() {
        return None;
    }
    let mut array = vec![0; shape.len()];
    for (mixed, which) in peeled.into_iter().rev() {
        let places = shape.places(mixed);
        let all = array[places[0]] ^ array[places[1]] ^ array[places[2]];
        // The key's own place is still 0.
        array[places[usize::from(which)]] = fingerprint(mixed) ^ all;
    }
    Some(array)
}

/// Whether the key with this hash may be there; `None` when these bytes are no filter.
#[inline]
pub(crate) fn may_have(filter: &[u8], hash: u64) -> Option<bool> {
    if filter.is_empty() {
        return Some(true);
    }
    let seed = u64_at(filter, 0)?;
    let segment_bits = u32::from(*filter.get(8)?);
    let first_segments = u32_at(filter, 9)?;
    let array = filter.get(HEAD_BYTES..)?;
    if segment_bits > SEGMENT_BITS_MAX {
        return None;
    }
    let shape = Shape {
        segment_bits,
        first_segments,
    };
    if first_segments == 0 || array.len() != shape.len() {
        return None;
    }
    let mixed = remix(hash, seed);
    let [a, b, c] = shape.places(mixed);
    Some(fingerprint(mixed) == array.get(a)? ^ array.get(b)? ^ array.get(c)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_others_rarely() {
        for count in [0, 1, 2, 3, 10, 100, 1000, 5000, 30_000] {
            let mut hashes: Vec<u64> = (0..count).map(|n| remix(n, 77)).collect();
            let mut filter = Vec::new();
            build(&mut filter, &mut hashes);
            assert!(!filter.is_empty(), "no seed for {count}");
            for n in 0..count {
                assert_eq!(may_have(&filter, remix(n, 77)), Some(true), "{n} of {count}");
            }
            let wrong = (0..100_000)
                .filter(|n| may_have(&filter, remix(n + (1 << 40), 77)) == Some(true))
                .count();
            assert!(wrong < 700, "{wrong} of 100,000 beside {count}");
            if count >= 5000 {
                let bits = filter.len() as f64 * 8.0 / count as f64;
                assert!(bits < 11.0, "{bits} bits a key of {count}");
            }
        }
    }

    #[test]
    fn equal_hashes_do_no_harm() {
        let mut hashes = vec![5; 300];
        hashes.extend([6, 7, 7]);
        let mut filter = Vec::new();
        build(&mut filter, &mut hashes);
        for hash in [5, 6, 7] {
            assert_eq!(may_have(&filter, hash), Some(true));
        }
    }

    #[test]
    fn bytes_that_are_no_filter_are_refused() {
        let mut filter = Vec::new();
        build(&mut filter, &mut vec![1, 2, 3]);
        for length in 1..filter.len() {
            assert_eq!(may_have(&filter[..length], 1), None, "cut at {length}");
        }
        for at in 8..HEAD_BYTES {
            let mut other = filter.clone();
            other[at] ^= 0x80;
            assert_eq!(may_have(&other, 1), None, "byte {at}");
        }
    }
}
