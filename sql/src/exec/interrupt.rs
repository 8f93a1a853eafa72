//! What may end a statement from outside: a cancel request, `statement_timeout`, `lock_timeout`.

use crate::error::{Error, SqlState};
use crate::session::CancelHandle;
use futures::task::AtomicWaker;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Rows between two looks at the interrupt in a scan.
pub const CHECK_EVERY: u32 = 256;

/// Watches over one statement.
pub struct Interrupt {
    cancel: CancelHandle,
    deadline: Option<Instant>,
    lock_timeout: Option<Duration>,
}

/// Tells whether it was woken by what a future waits for.
#[derive(Default)]
struct Woken {
    flag: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.task.wake();
    }
}

enum Stopped {
    Cancel,
    Statement,
    Lock,
}

impl Interrupt {
    pub fn new(cancel: CancelHandle) -> Self {
        Interrupt {
            cancel,
            deadline: None,
            lock_timeout: None,
        }
    }

    /// A statement begins: a cancel request from before it does not count. The clock is read only when there is a
    /// timeout.
    pub fn begin(&mut self, statement_timeout: Option<Duration>, lock_timeout: Option<Duration>) {
        self.cancel.clear();
        self.deadline = statement_timeout.map(|timeout| Instant::now() + timeout);
        self.lock_timeout = lock_timeout;
    }

    /// For loops: fails when the statement has to stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.cancel.requested() {
            return Err(error(Stopped::Cancel));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(error(Stopped::Statement)),
            _ => Ok(()),
        }
    }

    /// Waits for locks. What is free at once costs one poll.
    pub async fn locking<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        match self.lock_timeout {
            None => self.waiting(future).await,
            Some(timeout) => self.waiting(stalled_at_most(timeout, future)).await?,
        }
    }

    /// Waits for anything that a cancel request may end.
    pub async fn waiting<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let mut future = pin!(future);
        // No waker is registered by this first look; the poll below, with the task's own, follows at once.
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Ok(output);
        }
        let mut cancelled = pin!(self.cancel.cancelled());
        let statement = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut statement = pin!(statement);
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if cancelled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(error(Stopped::Cancel)));
            }
            if statement.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(error(Stopped::Statement)));
            }
            Poll::Pending
        })
        .await
    }
}

/// What a future answers, unless nothing that it waits for has woken it for so long: what is long by itself is not a wait for one lock.
/// The task is polled for other reasons, too.
async fn stalled_at_most<F: Future>(timeout: Duration, future: F) -> Result<F::Output, Error> {
    let mut future = pin!(future);
    let mut sleep = pin!(tokio::time::sleep(timeout));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    std::future::poll_fn(move |cx| {
        woken.task.register(cx.waker());
        let got_on = woken.flag.swap(false, Ordering::AcqRel);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Poll::Ready(Ok(output));
        }
        if got_on {
            sleep.as_mut().reset(tokio::time::Instant::now() + timeout);
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(error(Stopped::Lock))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cold]
fn error(stopped: Stopped) -> Error {
    match stopped {
        Stopped::Cancel => Error::new(
            SqlState::QUERY_CANCELED,
            "canceling statement due to user request",
        ),
        Stopped::Statement => Error::new(
            SqlState::QUERY_CANCELED,
            "canceling statement due to statement timeout",
        ),
        Stopped::Lock => Error::new(
            SqlState::LOCK_NOT_AVAILABLE,
            "canceling statement due to lock timeout",
        ),
    }
}
