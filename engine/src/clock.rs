//! The wall clock, as the engine reads it: commits are dated by it and ages counted. It may jump either way; LSNs alone decide what came first.

use scry_wal::Micros;
use std::fmt;
use std::sync::Arc;

/// Says what time it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Micros + Send + Sync>);

impl Clock {
    /// Another one than the machine's.
    pub fn new(now: impl Fn() -> Micros + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Micros {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new(Micros::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
