//! A plain bitmap of the dead rows of one piece.
//!
//! A piece has at most 128 Ki rows, so a bitmap is at most 16 KiB: small enough to be copied when a snapshot holds the old
//! one, and its words become an Arrow filter without conversion. (Roaring bitmaps stand in the manifest and in interfaces, where sparse sets
//! of unbounded range travel.)

/// A set of positions below a fixed length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    length: usize,
}

impl Bits {
    /// The empty set of positions below `length`.
    pub fn new(length: usize) -> Self {
        Self {
            words: vec![0; length.div_ceil(64)],
            length,
        }
    }

    /// Adds a position. False when it was there already.
    pub fn insert(&mut self, position: usize) -> bool {
        assert!(
            position < self.length,
            "position {position} within {}",
            self.length
        );
        let (word, bit) = (&mut self.words[position / 64], 1 << (position % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub fn contains(&self, position: usize) -> bool {
        self.words[position / 64] >> (position % 64) & 1 == 1
    }

    /// How many positions below `end` are in the set.
    pub fn count_below(&self, end: usize) -> usize {
        let end = end.min(self.length);
        let whole: u32 = self.words[..end / 64].iter().map(|word| word.count_ones()).sum();
        let rest = match end % 64 {
            0 => 0,
            bits => (self.words[end / 64] & ((1 << bits) - 1)).count_ones(),
        };
        (whole + rest) as usize
    }

    /// The positions in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(index * 64 + bit)
            })
        })
    }

    /// The words of the complement; bits at and above the length are undefined.
    pub fn inverted(&self) -> Vec<u64> {
        self.words.iter().map(|word| !word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(positions in proptest::collection::vec(0usize..300, 0..100), end in 0usize..400) {
            let mut bits = Bits::new(300);
            let mut set = BTreeSet::new();
            for position in positions {
                prop_assert_eq!(bits.insert(position), set.insert(position));
            }
            prop_assert!((0..300).all(|position| bits.contains(position) == set.contains(&position)));
            prop_assert_eq!(bits.count_below(end), set.range(..end).count());
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
        }
    }
}
