//! A thread that does something again and again until it is told to stop.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Whether a background thread is to stop.
#[derive(Default)]
pub(crate) struct Stop {
    asked: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    pub(crate) fn is_asked(&self) -> bool {
        *self.asked.lock()
    }
}

/// The thread. It ends when this is stopped or dropped.
pub(crate) struct Background {
    stop: Arc<Stop>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Starts a thread that calls `step` each `interval`, and at once again when it answers that there is more to do.
    pub(crate) fn start(
        name: &str,
        interval: Duration,
        mut step: impl FnMut(&Stop) -> bool + Send + 'static,
    ) -> std::io::Result<Background> {
        let stop = Arc::new(Stop::default());
        let of_thread = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut is_more = false;
            let mut asked = of_thread.asked.lock();
            while !*asked {
                if !is_more {
                    of_thread.wake.wait_for(&mut asked, interval);
                }
                if !*asked {
                    MutexGuard::unlocked(&mut asked, || is_more = step(&of_thread));
                }
            }
        })?;
        Ok(Background {
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread, after the step that it is at.
    pub(crate) fn stop(&self) {
        *self.stop.asked.lock() = true;
        self.stop.wake.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // It has nothing to say; a panic in it was already reported.
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    #[test]
    fn steps_follow_each_other_while_there_is_more_to_do_and_end_when_it_is_stopped() {
        let (send, told) = mpsc::channel();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        // Without more to do it would not come to a second step.
        let hour = Duration::from_secs(3600);
        let thread = Background::start("test", Duration::ZERO, move |_| {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let _ = send.send(number);
            number < 2
        });
        let thread = thread.unwrap();
        assert_eq!(told.recv_timeout(hour), Ok(0));
        assert_eq!(told.recv_timeout(hour), Ok(1));
        thread.stop();
        let steps = count.load(Ordering::Relaxed);
        thread.stop();
        assert_eq!(count.load(Ordering::Relaxed), steps);
    }
}
