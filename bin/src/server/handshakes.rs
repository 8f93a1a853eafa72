//! Connections that are not sessions yet: at most so many, and the newest wins.
//!
//! A handshake takes a client a millisecond, so who is there the longest when places run out is not one who means to
//! come in. Clients that connect and say nothing never keep others out.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

/// The handshakes under way, oldest first.
pub struct Handshakes {
    max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    tasks: VecDeque<(u64, Option<AbortHandle>)>,
}

impl Handshakes {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            waiting: Mutex::default(),
        }
    }

    /// A new one; the oldest gives way when there are too many.
    pub fn begin(self: &Arc<Self>) -> Handshake {
        let mut waiting = self.waiting.lock();
        if waiting.tasks.len() >= self.max
            && let Some((_, Some(oldest))) = waiting.tasks.pop_front()
        {
            oldest.abort();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.tasks.push_back((number, None));
        Handshake {
            handshakes: self.clone(),
            number,
        }
    }

    /// The task in which a handshake runs, known only once it has been spawned.
    pub fn runs_in(&self, number: u64, task: AbortHandle) {
        let mut waiting = self.waiting.lock();
        if let Some((_, place)) = waiting.tasks.iter_mut().find(|(known, _)| *known == number) {
            *place = Some(task);
        }
    }
}

/// A place among the handshakes, given back on drop.
pub struct Handshake {
    handshakes: Arc<Handshakes>,
    number: u64,
}

impl Handshake {
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut waiting = self.handshakes.waiting.lock();
        waiting.tasks.retain(|(known, _)| *known != self.number);
    }
}
