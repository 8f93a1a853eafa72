//! Cancelling a statement from another connection.
//!
//! A cancel request sets a flag and wakes the session if it waits; long loops look at the flag. The flag belongs to the
//! statement that runs when it is set: it is cleared when a statement begins, so a late request cancels nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    wake: Notify,
}

/// Held by whoever may cancel a session's statement. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CancelHandle {
    shared: Arc<Shared>,
}

impl CancelHandle {
    /// Asks the statement that runs now to end with `57014`.
    pub fn cancel(&self) {
        self.shared.requested.store(true, Ordering::Release);
        self.shared.wake.notify_waiters();
    }

    pub(crate) fn clear(&self) {
        if self.shared.requested.load(Ordering::Relaxed) {
            self.shared.requested.store(false, Ordering::Release);
        }
    }

    pub(crate) fn requested(&self) -> bool {
        self.shared.requested.load(Ordering::Acquire)
    }

    /// Ends when a request arrives, at once if one is there already.
    pub(crate) async fn cancelled(&self) {
        loop {
            let woken = self.shared.wake.notified();
            if self.requested() {
                return;
            }
            woken.await;
        }
    }
}
