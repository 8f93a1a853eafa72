//! What is attacked.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// A word for what an input made happen. Inputs with a new one are worth changing further, unless they were turned away at
/// the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    word: u64,
    turned_away: bool,
}

impl Outcome {
    pub fn of(what: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        Self {
            word: hasher.finish(),
            turned_away: false,
        }
    }

    /// The same, for an input that reached nothing but the first check.
    #[must_use]
    pub fn turned_away(self) -> Self {
        Self {
            turned_away: true,
            ..self
        }
    }

    pub fn is_worth_changing(self) -> bool {
        !self.turned_away
    }

    /// The outcome of a text, without what is different in every input: quoted words and numbers.
    pub fn of_message(text: &str) -> Self {
        let mut quoted = false;
        let plain: String = text
            .chars()
            .filter(|c| {
                let was = quoted;
                quoted ^= matches!(c, '"' | '\'');
                !was && !quoted && !c.is_ascii_digit()
            })
            .collect();
        Self::of(plain)
    }
}

/// Something that must hold for all bytes.
pub trait Target {
    /// Inputs to begin with: valid ones.
    fn seeds(&self) -> Vec<Vec<u8>>;

    /// What mutation puts in beside random bytes.
    fn words(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Panics when a promise is broken.
    fn run(&mut self, input: &[u8]) -> Outcome;
}

/// A line of the list of targets.
pub struct Entry {
    pub name: &'static str,
    /// What must hold.
    pub promise: &'static str,
    /// Inputs that the bounded test tries.
    pub bounded: u64,
    pub make: fn() -> Box<dyn Target>,
}

impl Entry {
    /// Where inputs are kept that once broke something.
    pub fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name)
    }

    /// These inputs, by file name. None when the program runs where there is no source.
    pub fn kept(&self) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(self.corpus()).into_iter().flatten().flatten();
        let mut kept: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some((name, std::fs::read(entry.path()).ok()?))
            })
            .collect();
        kept.sort();
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_differ_in_names_and_numbers_are_one_outcome() {
        let one = Outcome::of_message("relation \"a\" has 3 columns");
        assert_eq!(one, Outcome::of_message("relation \"bcd\" has 14 columns"));
        assert_ne!(one, Outcome::of_message("relation \"a\" has no columns"));
    }
}
