//! LISTEN and NOTIFY (PostgreSQL 15 documentation, chapter "LISTEN"): what a commit tells the sessions that want to hear it.
//!
//! The way of a notification: an open transaction keeps it in its [`Outbox`]; the commit puts it into the [`Bus`], which
//! holds it until the commit is durable and then into the inbox of every session that listens on its channel; the
//! connection takes it from there when its session is idle.
//!
//! Invariants:
//! - nothing is heard of a transaction that did not commit, or whose commit is not durable yet;
//! - notifications arrive in the order of their commits, those of one commit in the order in which they were sent, equal ones once;
//! - LISTEN and UNLISTEN count from their commit on: a session hears exactly the commits between the two;
//! - nobody who notifies waits for those who listen: every inbox has a bound, what goes beyond it is lost to its session,
//!   and the session is told how much it lost.
//!
//! Nothing of it is logged or replicated: after a restart nobody listens and nothing is waiting.

mod bus;
mod ear;
mod inbox;
mod outbox;

pub use bus::Bus;
pub use ear::{Channels, Ear};
pub use inbox::Notification;
pub use outbox::{Change, Mark, Message, Outbox};
