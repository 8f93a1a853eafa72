//! Running a target until its bound or its first finding, and making a finding small.

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::mutate::Mutator;
use crate::target::{Entry, Outcome, Target};

/// Inputs kept because they made something new happen. More would only dilute the choice.
const CORPUS_MAX: usize = 4096;

/// A target starts anew after this many inputs, so that what it gathers (tables, memory) stays bounded.
const FRESH_EVERY: u64 = 5000;

/// Time to make a finding smaller.
const SHRINK_TIME: Duration = Duration::from_secs(20);

/// An input that broke a promise.
#[derive(Debug)]
pub struct Finding {
    pub input: Vec<u8>,
    /// What the panic said.
    pub message: String,
    /// Which input of the run it was; 0 for one that was kept.
    pub number: u64,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Summary {
    pub inputs: u64,
    /// Different things that happened.
    pub outcomes: usize,
}

/// The input at work and when it began, for whoever watches whether it ends.
#[derive(Debug, Clone, Default)]
pub struct Present(Arc<Mutex<Option<Begun>>>);

type Begun = (Instant, Vec<u8>);

impl Present {
    fn set(&self, input: Option<&[u8]>) {
        let now = input.map(|input| (Instant::now(), input.to_vec()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// An input that has been at work for longer than this.
    pub fn older_than(&self, time: Duration) -> Option<Vec<u8>> {
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, input) = present.as_ref()?;
        (began.elapsed() > time).then(|| input.clone())
    }
}

/// Attacks a target with what was kept, its seeds and what becomes of them, while `go_on` says so.
///
/// # Errors
/// The first finding, made small.
pub fn attack(
    entry: &Entry,
    seed: u64,
    present: &Present,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Summary, Finding> {
    let mut target = (entry.make)();
    let mut corpus = target.seeds();
    let mut mutator = Mutator::new(seed, target.words());
    let mut outcomes = HashSet::new();
    let kept: Vec<_> = entry.kept().into_iter().map(|(_, input)| input).collect();
    let begin: Vec<_> = kept.into_iter().chain(corpus.iter().cloned()).collect();
    for input in begin {
        outcomes.insert(tried(entry, target.as_mut(), &input, 0, present)?);
    }
    if corpus.is_empty() {
        corpus.push(Vec::new());
    }
    let mut inputs = 0;
    while go_on(inputs) {
        inputs += 1;
        if inputs.is_multiple_of(FRESH_EVERY) {
            target = (entry.make)();
        }
        let input = mutator.next(&corpus);
        let outcome = tried(entry, target.as_mut(), &input, inputs, present)?;
        if outcomes.insert(outcome) && outcome.is_worth_changing() && corpus.len() < CORPUS_MAX {
            corpus.push(input);
        }
    }
    Ok(Summary {
        inputs,
        outcomes: outcomes.len(),
    })
}

fn tried(
    entry: &Entry,
    target: &mut dyn Target,
    input: &[u8],
    number: u64,
    present: &Present,
) -> Result<Outcome, Finding> {
    present.set(Some(input));
    let outcome = run(target, input);
    present.set(None);
    outcome.map_err(|message| shrink(entry, input.to_vec(), message, number))
}

/// Runs one input on a new target.
///
/// # Errors
/// What the panic said.
pub fn repeat(entry: &Entry, input: &[u8]) -> Result<(), String> {
    run((entry.make)().as_mut(), input).map(drop)
}

fn run(target: &mut dyn Target, input: &[u8]) -> Result<Outcome, String> {
    panic::catch_unwind(AssertUnwindSafe(|| target.run(input))).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without words".to_owned())
    })
}

thread_local! {
    /// This thread repeats a panic that has been told already.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does something without a word about its panics.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                told(info);
            }
        }));
    });
    QUIET.set(true);
    let result = work();
    QUIET.set(false);
    result
}

fn shrink(entry: &Entry, input: Vec<u8>, message: String, number: u64) -> Finding {
    quietly(|| smaller(entry, input, message, number))
}

/// Takes pieces out of the input as long as it still breaks something, largest pieces first.
fn smaller(entry: &Entry, mut input: Vec<u8>, mut message: String, number: u64) -> Finding {
    let end = Instant::now() + SHRINK_TIME;
    let mut size = input.len() / 2;
    while size > 0 && Instant::now() < end {
        let mut at = 0;
        while at < input.len() && Instant::now() < end {
            let mut smaller = input.clone();
            smaller.drain(at..(at + size).min(input.len()));
            match repeat(entry, &smaller) {
                Ok(()) => at += size,
                Err(said) => (input, message) = (smaller, said),
            }
        }
        size /= 2;
    }
    Finding {
        input,
        message,
        number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoNine;

    impl Target for NoNine {
        fn seeds(&self) -> Vec<Vec<u8>> {
            vec![b"12345678".to_vec()]
        }

        fn words(&self) -> Vec<Vec<u8>> {
            vec![b"9".to_vec()]
        }

        fn run(&mut self, input: &[u8]) -> Outcome {
            assert!(!input.contains(&b'9'), "a nine");
            Outcome::of(input.len())
        }
    }

    const ENTRY: Entry = Entry {
        name: "no nine",
        promise: "there is no nine",
        bounded: 0,
        make: || Box::new(NoNine),
    };

    #[test]
    fn a_finding_is_found_made_small_and_found_again_by_its_seed() {
        let find = || attack(&ENTRY, 3, &Present::default(), |inputs| inputs < 10_000).expect_err("a nine");
        let (first, again) = (find(), find());
        assert_eq!(first.input, b"9");
        assert_eq!(first.message, "a nine");
        assert_eq!(first.number, again.number);
        assert_eq!(repeat(&ENTRY, &first.input), Err("a nine".to_owned()));
        assert_eq!(repeat(&ENTRY, b"8"), Ok(()));
    }
}
