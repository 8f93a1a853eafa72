//! A session's end of the bus: the channels on which it listens, and what it has sent and not yet delivered.

use super::bus::Bus;
use super::inbox::{Inbox, Notification};
use super::outbox::{Change, Outbox};
use crate::error::{Error, SqlState};
use parking_lot::Mutex;
use scry_wal::Lsn;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Waker;

/// Channels of one session, but for those of the transaction that meets the bound.
const CHANNELS_MAX: usize = 4096;

/// Names of channels, in order.
pub type Channels = Mutex<BTreeSet<Arc<str>>>;

/// What a session owns of LISTEN and NOTIFY. Dropping it ends its listening.
pub struct Ear {
    bus: Arc<Bus>,
    process: i32,
    inbox: Arc<Inbox>,
    channels: Arc<Channels>,
    /// What the last commit sent is to be delivered when this is durable.
    sent: Option<Lsn>,
}

impl Ear {
    pub fn new(bus: Arc<Bus>, process: i32) -> Ear {
        Ear {
            bus,
            process,
            inbox: Arc::default(),
            channels: Arc::default(),
            sent: None,
        }
    }

    /// Runs `commit`, and gives the bus what stands in the outbox when it succeeds. Both say what has to be durable before
    /// anybody may hear of it, this one with regard to the commits that come first.
    pub fn commit<E>(
        &mut self,
        outbox: &Outbox,
        commit: impl FnOnce() -> Result<Option<Lsn>, E>,
    ) -> Result<Option<Lsn>, E> {
        let Some(content) = outbox.take() else {
            return commit();
        };
        let tells = !content.messages.is_empty();
        let commit = || commit().map(Option::unwrap_or_default);
        let at = self.bus.commit(
            self.process,
            content,
            &self.inbox,
            &mut self.channels.lock(),
            commit,
        )?;
        self.sent = tells.then_some(at).or(self.sent);
        Ok(Some(at))
    }

    /// The last commit told something that is to be delivered when this is durable.
    pub fn take_sent(&mut self) -> Option<Lsn> {
        self.sent.take()
    }

    pub fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    /// LISTEN, at the commit of the transaction that `outbox` belongs to.
    ///
    /// # Errors
    /// 22023 for what no channel is called, 54000 when the session listens on too many.
    pub fn listen(&self, outbox: &Outbox, channel: &str) -> Result<(), Error> {
        if self.channels.lock().len() >= CHANNELS_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("a session can listen on {CHANNELS_MAX} channels"),
            ));
        }
        outbox.change(Change::listen(channel)?)
    }

    /// The channels on which the session listens, at any time.
    pub fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// What waits for the client, and how many notifications were lost behind it.
    pub fn take(&self) -> (Vec<Notification>, u64) {
        let (notifications, lost) = self.inbox.take();
        // UNLISTEN counts at once, also for what came before it.
        let channels = self.channels.lock();
        let heard = |notification: &Notification| channels.contains(&notification.message.channel);
        (notifications.into_iter().filter(heard).collect(), lost)
    }

    /// Whether anything waits for the client; otherwise `waker` is woken when something does.
    pub fn poll(&self, waker: &Waker) -> bool {
        self.inbox.poll(waker)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut channels = self.channels.lock();
        if !channels.is_empty() {
            self.bus.leave(&self.inbox, &mut channels);
        }
    }
}
