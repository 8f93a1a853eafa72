//! Work in the background that is tried again when it fails: how often it has failed, and why it fails now.

use crate::error::Error;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(crate) struct Attempts {
    failed: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Attempts {
    /// Counts what became of an attempt.
    pub(crate) fn note<T>(&self, attempt: &Result<T, Error>) {
        let trouble = attempt.as_ref().err().map(Error::to_string);
        self.failed
            .fetch_add(u64::from(trouble.is_some()), Ordering::Relaxed);
        *self.trouble.lock() = trouble;
    }

    /// How many have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Why the last one failed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_lasts_until_an_attempt_succeeds_and_stays_counted() {
        let attempts = Attempts::default();
        assert_eq!((attempts.failed(), attempts.trouble()), (0, None));
        attempts.note::<()>(&Err(Error::UnknownSavepoint));
        let trouble = attempts.trouble().unwrap();
        assert_eq!(trouble, Error::UnknownSavepoint.to_string());
        attempts.note(&Ok(()));
        assert_eq!((attempts.failed(), attempts.trouble()), (1, None));
    }
}
