//! How far back anybody still looks.
//!
//! Invariant: while a snapshot at L is held, nothing that ended after L is folded into the bitmaps. Folding asks for the
//! horizon and opening asks for a place under the same lock, so neither can overtake the other.
//!
//! What is kept for history alone, so that states of the past can be opened, has a bound: beyond it the mirror keeps what present
//! readers need, and the past is read elsewhere.

use parking_lot::Mutex;
use scry_wal::Lsn;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;

/// The oldest snapshot that others (the engine's sessions) hold or may still open.
pub type HorizonSource = Arc<dyn Fn() -> Lsn + Send + Sync>;

/// The snapshots held, and the LSN up to which deletes may have been folded.
pub(crate) struct Horizon {
    source: HorizonSource,
    /// What present readers need, and how much may wait to be folded for others.
    bound: Option<(HorizonSource, usize)>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    folded: Lsn,
    held: BTreeMap<Lsn, usize>,
}

impl std::fmt::Debug for Horizon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Horizon")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Horizon {
    pub fn new(source: HorizonSource) -> Self {
        Self {
            source,
            bound: None,
            state: Arc::default(),
        }
    }

    /// Of other stores, of which nobody holds anything yet and nothing older than `folded` can be opened.
    pub fn anew(&self, folded: Lsn) -> Self {
        let held = BTreeMap::new();
        Self {
            source: self.source.clone(),
            bound: self.bound.clone(),
            state: Arc::new(Mutex::new(State { folded, held })),
        }
    }

    /// When more than `waiting_max` wait to be folded, `readers` says how far, and not the source.
    pub fn bounded(mut self, readers: HorizonSource, waiting_max: usize) -> Self {
        self.bound = Some((readers, waiting_max));
        self
    }

    /// The LSN up to which deletes may be folded now, no later than `newest`, the newest snapshot there is; so many are `waiting`.
    pub fn advance(&self, newest: Lsn, waiting: usize) -> Lsn {
        let source = match &self.bound {
            Some((readers, waiting_max)) if waiting > *waiting_max => readers,
            _ => &self.source,
        };
        self.advance_to(source().min(newest))
    }

    /// The same as far as present readers let it, without regard to history.
    pub fn advance_to_readers(&self, newest: Lsn) -> Lsn {
        let readers = self.bound.as_ref().map_or(&self.source, |(readers, _)| readers);
        self.advance_to(readers().min(newest))
    }

    fn advance_to(&self, wanted: Lsn) -> Lsn {
        let mut state = self.state.lock();
        let oldest = state
            .held
            .first_key_value()
            .map_or(wanted, |(&oldest, _)| wanted.min(oldest));
        state.folded = state.folded.max(oldest);
        state.folded
    }

    /// Holds a snapshot.
    pub fn hold(&self, at: Lsn) -> Result<Held, Error> {
        let mut state = self.state.lock();
        if at < state.folded {
            return Err(Error::NotRetained {
                asked: at,
                oldest: state.folded,
            });
        }
        *state.held.entry(at).or_default() += 1;
        Ok(Held {
            at,
            state: self.state.clone(),
        })
    }

    /// Holds the newest snapshot, as `newest` says; asked for where it cannot be overtaken by folding.
    pub fn hold_newest(&self, newest: impl FnOnce() -> Lsn) -> Held {
        let mut state = self.state.lock();
        let at = newest();
        assert!(at >= state.folded, "only what is applied is folded");
        *state.held.entry(at).or_default() += 1;
        Held {
            at,
            state: self.state.clone(),
        }
    }
}

/// A snapshot's place; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Held {
    at: Lsn,
    state: Arc<Mutex<State>>,
}

impl Held {
    pub fn at(&self) -> Lsn {
        self.at
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(count) = state.held.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_snapshot_holds_the_horizon_back_until_it_is_dropped() {
        let horizon = Horizon::new(Arc::new(|| Lsn::new(90)));
        let first = horizon.hold(Lsn::new(10)).expect("nothing folded yet");
        let second = horizon.hold(Lsn::new(10)).expect("nothing folded yet");
        assert_eq!(horizon.advance(Lsn::new(100), 0), Lsn::new(10));
        drop(first);
        assert_eq!(horizon.advance(Lsn::new(100), 0), Lsn::new(10));
        drop(second);
        assert_eq!(horizon.advance(Lsn::new(50), 0), Lsn::new(50));
        assert_eq!(horizon.advance(Lsn::new(100), 0), Lsn::new(90));
        assert!(matches!(
            horizon.hold(Lsn::new(89)),
            Err(Error::NotRetained { .. })
        ));
        assert!(horizon.hold(Lsn::new(90)).is_ok());
        assert!(horizon.anew(Lsn::new(91)).hold(Lsn::new(90)).is_err());
    }

    #[test]
    fn history_is_given_up_when_too_much_waits_for_it() {
        let horizon = Horizon::new(Arc::new(|| Lsn::new(10)));
        let horizon = horizon.bounded(Arc::new(|| Lsn::new(80)), 3);
        assert_eq!(horizon.advance(Lsn::new(100), 3), Lsn::new(10));
        assert!(horizon.hold(Lsn::new(20)).is_ok());
        assert_eq!(horizon.advance(Lsn::new(100), 4), Lsn::new(80));
        assert!(horizon.hold(Lsn::new(20)).is_err());
    }

    #[test]
    fn readers_hold_the_horizon_back_and_history_does_not_when_it_is_given_up() {
        let horizon = Horizon::new(Arc::new(|| Lsn::new(10)));
        let horizon = horizon.bounded(Arc::new(|| Lsn::new(80)), usize::MAX);
        let held = horizon.hold(Lsn::new(30)).expect("nothing folded yet");
        assert_eq!(horizon.advance(Lsn::new(100), usize::MAX), Lsn::new(10));
        assert_eq!(horizon.advance_to_readers(Lsn::new(100)), Lsn::new(30));
        drop(held);
        assert_eq!(horizon.advance_to_readers(Lsn::new(50)), Lsn::new(50));
        assert_eq!(horizon.advance_to_readers(Lsn::new(100)), Lsn::new(80));
    }
}
