//! What an open transaction is going to tell, and which channels it is going to open or close.

use crate::error::{Error, SqlState};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes of a payload, one less than in PostgreSQL's check `length >= 8000`.
const PAYLOAD_BYTES_MAX: usize = 7999;
/// Bytes of a channel's name, as of any name.
const CHANNEL_BYTES_MAX: usize = 63;
/// What the notifications of one transaction may take: more than a listener could hear of it anyway.
const OUTBOX_BYTES_MAX: usize = 8 << 20;
/// Changes of channels in one transaction.
const CHANGES_MAX: usize = 4096;
/// What a notification takes beside its two texts, roughly.
const OVERHEAD_BYTES: usize = 64;

/// What is told, and on which channel. Cheap to clone: every listener gets one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    pub channel: Arc<str>,
    pub payload: Arc<str>,
}

impl Message {
    /// # Errors
    /// 22023 for an empty channel, and for what is too long.
    pub fn new(channel: &str, payload: &str) -> Result<Message, Error> {
        let invalid = |text| Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, text));
        if payload.len() > PAYLOAD_BYTES_MAX {
            return invalid("payload string too long");
        }
        Ok(Message {
            channel: checked(channel)?.into(),
            payload: payload.into(),
        })
    }

    /// The memory that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len() + OVERHEAD_BYTES
    }
}

fn checked(channel: &str) -> Result<&str, Error> {
    let invalid = |text| Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, text));
    match channel.len() {
        0 => invalid("channel name cannot be empty"),
        length if length > CHANNEL_BYTES_MAX => invalid("channel name too long"),
        _ => Ok(channel),
    }
}

/// A change of the channels on which a session listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Listen(Arc<str>),
    Unlisten(Arc<str>),
    UnlistenAll,
}

impl Change {
    /// # Errors
    /// 22023 for what no channel is called.
    pub fn listen(channel: &str) -> Result<Change, Error> {
        Ok(Change::Listen(checked(channel)?.into()))
    }

    /// # Errors
    /// As [`Change::listen`].
    pub fn unlisten(channel: &str) -> Result<Change, Error> {
        Ok(Change::Unlisten(checked(channel)?.into()))
    }
}

/// How much stood in an outbox when a savepoint was set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    messages: usize,
    changes: usize,
}

/// What a commit takes out of an outbox.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub messages: Vec<Message>,
    /// The same, to find equal ones.
    known: HashSet<Message>,
    bytes: usize,
    pub changes: Vec<Change>,
}

impl Content {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.changes.is_empty()
    }
}

/// Shared by a session's transaction and the functions that its statements call.
#[derive(Debug, Default)]
pub struct Outbox {
    content: Mutex<Content>,
}

impl Outbox {
    /// Keeps a notification for the commit, unless an equal one is there already.
    ///
    /// # Errors
    /// When the transaction has too many.
    pub fn send(&self, message: Message) -> Result<(), Error> {
        let mut content = self.content.lock();
        if content.known.contains(&message) {
            return Ok(());
        }
        let bytes = content.bytes + message.bytes();
        if bytes > OUTBOX_BYTES_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "too many notifications in one transaction",
            )
            .with_detail(format!("They may take {} MiB.", OUTBOX_BYTES_MAX >> 20)));
        }
        content.bytes = bytes;
        content.known.insert(message.clone());
        content.messages.push(message);
        Ok(())
    }

    /// Keeps a change of channels for the commit.
    ///
    /// # Errors
    /// When the transaction has too many.
    pub fn change(&self, change: Change) -> Result<(), Error> {
        let mut content = self.content.lock();
        if content.changes.len() >= CHANGES_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "too many changes of channels in one transaction",
            ));
        }
        content.changes.push(change);
        Ok(())
    }

    pub fn mark(&self) -> Mark {
        let content = self.content.lock();
        Mark {
            messages: content.messages.len(),
            changes: content.changes.len(),
        }
    }

    /// Takes back what came after the mark.
    pub fn back_to(&self, mark: Mark) {
        let mut content = self.content.lock();
        content.changes.truncate(mark.changes);
        let back = content.messages.len().min(mark.messages);
        for message in content.messages.split_off(back) {
            content.bytes -= message.bytes();
            content.known.remove(&message);
        }
    }

    /// Takes everything back.
    pub fn clear(&self) {
        let mut content = self.content.lock();
        if !content.is_empty() {
            *content = Content::default();
        }
    }

    /// For the commit; `None`: it has nothing to tell.
    pub(super) fn take(&self) -> Option<Content> {
        let mut content = self.content.lock();
        (!content.is_empty()).then(|| std::mem::take(&mut *content))
    }
}
