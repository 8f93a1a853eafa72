//! Notifications that wait for a session's client.

use super::outbox::Message;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// What may wait for one session: a few thousand short notifications, so that a listener may be busy for a while and
/// two thousand that never come back take no more than 2 GiB.
const INBOX_BYTES_MAX: usize = 1 << 20;

/// One notification for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The process id of the session that sent it; 0: the server itself.
    pub process: i32,
    pub message: Message,
}

#[derive(Debug, Default)]
struct Held {
    notifications: VecDeque<Notification>,
    bytes: usize,
    lost: u64,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    held: Mutex<Held>,
    filled: AtomicBool,
    waker: AtomicWaker,
}

impl Inbox {
    /// Puts a notification in. Once one is lost all are until the next [`Inbox::take`], so that there is one gap, at the end.
    pub fn put(&self, notification: Notification) {
        let mut held = self.held.lock();
        let bytes = held.bytes + notification.message.bytes();
        if held.lost > 0 || bytes > INBOX_BYTES_MAX {
            held.lost += 1;
        } else {
            held.bytes = bytes;
            held.notifications.push_back(notification);
        }
        drop(held);
        self.filled.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Everything that waits, and how many were lost behind it.
    pub fn take(&self) -> (VecDeque<Notification>, u64) {
        if !self.filled.swap(false, Ordering::AcqRel) {
            return (VecDeque::new(), 0);
        }
        let held = std::mem::take(&mut *self.held.lock());
        (held.notifications, held.lost)
    }

    /// Whether anything waits; otherwise `waker` is woken when something does.
    pub fn poll(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.filled.load(Ordering::Acquire)
    }
}
