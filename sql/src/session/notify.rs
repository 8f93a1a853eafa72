//! LISTEN and NOTIFY of a session, and what its client is told.

use super::{Notice, Session};
use crate::error::{Error, SqlState};
use crate::notify::{Change, Message, Notification};
use crate::plan::statement::NotifyStatement;
use std::task::Waker;

impl Session {
    pub(super) fn notify(&mut self, statement: &NotifyStatement) -> Result<(), Error> {
        let outbox = &self.identity.outbox;
        match statement {
            NotifyStatement::Listen(channel) => self.ear.listen(outbox, channel),
            NotifyStatement::Unlisten(channel) => outbox.change(Change::unlisten(channel)?),
            NotifyStatement::UnlistenAll => outbox.change(Change::UnlistenAll),
            NotifyStatement::Notify { channel, payload } => outbox.send(Message::new(channel, payload)?),
        }
    }

    /// The notifications that wait for the client; none inside of a transaction, whose end brings them. Of any that
    /// were lost a notice tells. Empty almost always, and then free.
    pub fn take_notifications(&mut self) -> Vec<Notification> {
        if self.transaction.is_open() {
            return Vec::new();
        }
        let (notifications, lost) = self.ear.take();
        if lost > 0 {
            let text = format!("{lost} notifications were lost because they were not taken in time");
            self.notices.push(Notice(Error::new(SqlState::WARNING, text)));
        }
        notifications
    }

    /// Whether [`Session::take_notifications`] has something to say; otherwise `waker` is woken when it has.
    pub fn poll_notified(&self, waker: &Waker) -> bool {
        !self.transaction.is_open() && self.ear.poll(waker)
    }
}
