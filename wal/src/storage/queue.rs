//! The blocking queue: writes are done one after another in the thread that waits for them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Notify, Write, WriteQueue, Written};

/// A frame, and the header of its segment before it.
const IN_FLIGHT_MAX: usize = 2;

/// One write at a time; works on every file system.
#[derive(Default)]
pub(crate) struct BlockingQueue {
    pending: VecDeque<Write>,
    signal: Arc<Signal>,
}

impl WriteQueue for BlockingQueue {
    fn in_flight_max(&self) -> usize {
        IN_FLIGHT_MAX
    }

    fn submit(&mut self, write: Write) -> io::Result<()> {
        self.pending.push_back(write);
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, over: &mut Vec<Written>) -> io::Result<()> {
        if self.pending.is_empty() {
            self.signal.wait(timeout);
        }
        while let Some(write) = self.pending.pop_front() {
            let result = write.file.write_at(write.offset, write.bytes.bytes());
            over.push(Written {
                token: write.token,
                result,
            });
        }
        Ok(())
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        Arc::<Signal>::clone(&self.signal)
    }
}

/// A flag that a thread can wait for.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Waits until the flag is raised, and lowers it.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut raised = self.raised.lock();
        while !*raised {
            match deadline {
                None => self.changed.wait(&mut raised),
                Some(deadline) => {
                    if self.changed.wait_until(&mut raised, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        *raised = false;
    }
}

impl Notify for Signal {
    fn notify(&self) {
        *self.raised.lock() = true;
        self.changed.notify_one();
    }
}
