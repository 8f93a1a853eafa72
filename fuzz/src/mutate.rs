//! New inputs from old ones.

use scry_wal::sim::Random;

/// No input grows beyond this.
pub const INPUT_BYTES_MAX: usize = 4096;

/// Changes of one input, at most. One is the most likely number: what is valid but for one thing gets far.
const CHANGES_MAX: u32 = 6;

/// Numbers at the edges of something.
const EDGES: [i64; 14] = [
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    -128,
    32_767,
    65_535,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

/// Makes inputs. Everything that it does follows from its seed.
pub struct Mutator {
    random: Random,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(seed: u64, words: Vec<Vec<u8>>) -> Self {
        Self {
            random: Random::new(seed),
            words,
        }
    }

    /// A number below `bound`; 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound.max(1) as u64) as usize
    }

    fn word(&mut self) -> Vec<u8> {
        let chosen = self.below(self.words.len());
        self.words[chosen].clone()
    }

    /// One of the corpus, changed a few times.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let chosen = self.below(corpus.len());
        let mut input = corpus.get(chosen).cloned().unwrap_or_default();
        let changes = 1 + self.random.next_number().trailing_zeros();
        for _ in 0..changes.min(CHANGES_MAX) {
            if !self.words.is_empty() && self.random.below(4) != 0 {
                self.change_word(&mut input, corpus);
            } else {
                self.change_bytes(&mut input, corpus);
            }
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn change_bytes(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(11) {
            0 | 1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 if at < input.len() => input[at] = self.below(256) as u8,
            3 => {
                let bytes: Vec<u8> = (0..=self.below(8)).map(|_| self.below(256) as u8).collect();
                input.splice(at..at, bytes);
            }
            4 => {
                let end = (at + 1 + self.below(16)).min(input.len());
                input.drain(at..end);
            }
            5 => {
                let end = (at + 1 + self.below(64)).min(input.len());
                let copy = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            6 => {
                // A number, over what stands there.
                let edge = EDGES[self.below(EDGES.len())];
                let width = [1, 2, 4, 8][self.below(4)];
                let bytes = match self.below(2) {
                    0 => edge.to_le_bytes()[..width].to_vec(),
                    _ => edge.to_be_bytes()[8 - width..].to_vec(),
                };
                let end = (at + width).min(input.len());
                input.splice(at..end, bytes);
            }
            7 => {
                let edge = EDGES[self.below(EDGES.len())].to_string();
                input.splice(at..at, edge.into_bytes());
            }
            8 => {
                // The head of this one, the tail of another.
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            9 => input.truncate(at),
            _ => {
                let end = (at + 1 + self.below(8)).min(input.len());
                input[at..end].reverse();
            }
        }
    }

    /// Changes where words begin and end: what a person would call a word or a sign.
    fn change_word(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let tokens = tokens(input);
        let place = tokens.get(self.below(tokens.len())).cloned().unwrap_or(0..0);
        match self.below(7) {
            0 => {
                input.drain(place);
            }
            1 | 2 => {
                let word = self.word();
                input.splice(place, word);
            }
            3 => {
                let mut word = self.word();
                word.insert(0, b' ');
                word.push(b' ');
                input.splice(place.end..place.end, word);
            }
            4 => {
                // A stretch of another input, from word to word.
                let other = &corpus[self.below(corpus.len())];
                let others = self::tokens(other);
                if others.is_empty() {
                    return;
                }
                let first = self.below(others.len());
                let last = (first + self.below(12)).min(others.len() - 1);
                let stretch = other[others[first].start..others[last].end].to_vec();
                input.splice(place, stretch);
            }
            5 => {
                let with = tokens.get(self.below(tokens.len())).cloned().unwrap_or(0..0);
                let (a, b) = if place.start <= with.start {
                    (place, with)
                } else {
                    (with, place)
                };
                if a.end <= b.start {
                    let (left, right) = (input[a.clone()].to_vec(), input[b.clone()].to_vec());
                    input.splice(b, left);
                    input.splice(a, right);
                }
            }
            _ => {
                // What stands in parentheses gets more of them; a statement gets another one.
                let (open, close): (&[u8], &[u8]) = [
                    (&b"("[..], &b")"[..]),
                    (b"(SELECT ", b")"),
                    (b"'", b"'"),
                    (b"", b"; "),
                ][self.below(4)];
                input.splice(place.end..place.end, close.iter().copied());
                input.splice(place.start..place.start, open.iter().copied());
            }
        }
    }
}

/// Runs of letters, digits and underscores, and every other byte by itself; blanks are between.
fn tokens(input: &[u8]) -> Vec<std::ops::Range<usize>> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let start = at;
        at += 1;
        if word(input[start]) {
            while at < input.len() && word(input[at]) {
                at += 1;
            }
        } else if input[start].is_ascii_whitespace() {
            continue;
        }
        tokens.push(start..at);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_one_series_of_inputs() {
        let corpus = vec![b"SELECT 1 FROM t".to_vec(), b"a".to_vec(), Vec::new()];
        let series = |seed| {
            let mut mutator = Mutator::new(seed, vec![b"NULL".to_vec()]);
            (0..500).map(|_| mutator.next(&corpus)).collect::<Vec<_>>()
        };
        assert_eq!(series(7), series(7));
        assert_ne!(series(7), series(8));
    }

    #[test]
    fn inputs_stay_below_their_bound() {
        let mut mutator = Mutator::new(1, Vec::new());
        let mut corpus = vec![vec![b'x'; INPUT_BYTES_MAX]];
        for _ in 0..2000 {
            let input = mutator.next(&corpus);
            assert!(input.len() <= INPUT_BYTES_MAX);
            corpus[0] = input;
        }
    }

    #[test]
    fn tokens_are_words_and_signs() {
        let text = b"a_1 <= 'x y';";
        let found: Vec<_> = tokens(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, [&b"a_1"[..], b"<", b"=", b"'", b"x", b"y", b"'", b";"]);
    }
}
