//! Row locks, table locks, who waits for them, and who would wait forever.
//!
//! A row's lock is a field of its memtable entry, a table's lock a small list of holders. Neither knows who waits:
//! that is the wait table's, one for the whole engine, entered only when a lock is not free. A lock is handed
//! over: whoever gives back a contended lock makes the first in the queue its owner before waking it, so that
//! nobody overtakes and only one waiter wakes.
//!
//! A transaction waits for one lock at a time, so "who waits for whom" is read off the queues when a new wait
//! begins. A wait that would close a circle is refused with `Deadlock`; hence there is never a circle.
//!
//! A row's lock has one owner; that several transactions keep a row from being written is said beside it (`Shares`).

mod holder;
mod shares;
mod table;
mod wait;

pub(crate) use holder::{Firsts, Holder};
pub(crate) use shares::{Place, Shares};
pub(crate) use table::{Mode, TableLock};
pub(crate) use wait::{Outcome, Request, RowRef, WaitTable};

#[cfg(test)]
mod tests;
