//! All listening sessions, and the commits whose notifications wait to become durable.

use super::inbox::{Inbox, Notification};
use super::outbox::{Change, Content, Message};
use parking_lot::Mutex;
use scry_wal::{Log, Lsn};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tokio::runtime::Handle;

/// The notifications of one commit.
struct Sent {
    /// May be heard of when the log is durable up to here.
    at: Lsn,
    /// Commits are numbered in their order.
    number: u64,
    process: i32,
    messages: Vec<Message>,
}

struct Listening {
    inbox: Arc<Inbox>,
    /// The number of the first commit that it hears of.
    since: u64,
}

#[derive(Default)]
struct State {
    /// At most one entry for each session whose commit is on its way to the disk.
    queue: VecDeque<Sent>,
    next_number: u64,
    /// The highest LSN of the queue so far, so that it is ordered.
    last: Lsn,
    channels: HashMap<Arc<str>, Vec<Listening>>,
}

/// Shared by all sessions of a server.
#[derive(Default)]
pub struct Bus {
    state: Mutex<State>,
}

impl Bus {
    /// Runs `commit`, which answers the LSN that has to be durable before anybody hears of it, and queues what it sends.
    /// Commits that tell or listen run one at a time, so that their order here is their order in the log.
    /// Answers the LSN for which [`Bus::deliver`] is to be called, once it is durable.
    pub(super) fn commit<E>(
        &self,
        process: i32,
        content: Content,
        inbox: &Arc<Inbox>,
        channels: &mut BTreeSet<Arc<str>>,
        commit: impl FnOnce() -> Result<Lsn, E>,
    ) -> Result<Lsn, E> {
        let mut state = self.state.lock();
        let lsn = commit()?;
        for change in content.changes {
            state.change(change, inbox, channels);
        }
        Ok(state.send(lsn, process, content.messages))
    }

    /// Queues what the server itself has to tell: of things that are durable, in its place among the commits.
    pub fn send(&self, message: Message) -> Lsn {
        self.state.lock().send(Lsn::ZERO, 0, vec![message])
    }

    /// The log is durable up to the record at `lsn`: listeners hear of the commits up to there.
    pub fn deliver(&self, lsn: Lsn) {
        let mut state = self.state.lock();
        while let Some(sent) = state.queue.pop_front_if(|sent| sent.at <= lsn) {
            for message in sent.messages {
                let listening = state.channels.get(&message.channel);
                for listening in listening.into_iter().flatten() {
                    if listening.since <= sent.number {
                        listening.inbox.put(Notification {
                            process: sent.process,
                            message: message.clone(),
                        });
                    }
                }
            }
        }
    }

    /// [`Bus::deliver`] once the log is durable that far: now, or from a task of `workers`, so that it does not depend on
    /// anybody who waits. When the log has failed, never.
    pub fn deliver_when_durable(self: &Arc<Self>, lsn: Lsn, log: &Arc<Log>, workers: &Handle) {
        if lsn == Lsn::ZERO || log.durable_lsn() > lsn {
            return self.deliver(lsn);
        }
        let (bus, log) = (Arc::clone(self), Arc::clone(log));
        workers.spawn(async move {
            if log.durable(lsn).await.is_ok() {
                bus.deliver(lsn);
            }
        });
    }

    /// A session ends.
    pub(super) fn leave(&self, inbox: &Arc<Inbox>, channels: &mut BTreeSet<Arc<str>>) {
        self.state.lock().change(Change::UnlistenAll, inbox, channels);
    }
}

impl State {
    fn send(&mut self, lsn: Lsn, process: i32, messages: Vec<Message>) -> Lsn {
        self.last = self.last.max(lsn);
        // Who listens from now on does not hear of the commits so far: they must be there to be read when LISTEN is
        // acknowledged.
        if messages.is_empty() {
            return self.last;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push_back(Sent {
            at: self.last,
            number,
            process,
            messages,
        });
        self.last
    }

    fn change(&mut self, change: Change, inbox: &Arc<Inbox>, channels: &mut BTreeSet<Arc<str>>) {
        match change {
            Change::Listen(channel) => {
                if channels.insert(Arc::clone(&channel)) {
                    let listening = Listening {
                        inbox: Arc::clone(inbox),
                        since: self.next_number,
                    };
                    self.channels.entry(channel).or_default().push(listening);
                }
            }
            Change::Unlisten(channel) => {
                if channels.remove(&channel) {
                    self.close(&channel, inbox);
                }
            }
            Change::UnlistenAll => {
                for channel in std::mem::take(channels) {
                    self.close(&channel, inbox);
                }
            }
        }
    }

    fn close(&mut self, channel: &Arc<str>, inbox: &Arc<Inbox>) {
        if let Some(listening) = self.channels.get_mut(channel) {
            listening.retain(|listening| !Arc::ptr_eq(&listening.inbox, inbox));
            if listening.is_empty() {
                self.channels.remove(channel);
            }
        }
    }
}
