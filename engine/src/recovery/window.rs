//! Changes of rows on their way into the memtables: collected in a window, applied by several threads.
//!
//! The thread that replays reads records and keeps the books of commits and definitions. What they do to rows it puts as *items* into
//! a window. A full one is put in order of stores and keys, cut into a part for each processor, and applied while the next one is
//! collected; windows are applied one after the other. So changes of one row are made in the order of the log, those of different rows
//! in any, and neighbours go to the same places of a memtable. Of what a window begins and ends again nothing is made, unless
//! somebody may see it.
//!
//! Whoever looks at rows, or changes definitions, *settles* first: what was collected is in the memtables then.
//!
//! Invariants:
//! - items of the same key lie in one part, in the order of the log;
//! - a commit with rows of indexes lies in one window (`entries` says why);
//! - pins and definitions are the same for all of a window.
//!
//! An item that contradicts what is there ends the replay, when its window is waited for: the log is refused before it is changed, since
//! the replay settles at its end. Of several in one window any is told.

use super::rows::Part;
use crate::catalog::Table;
use crate::collector::Grave;
use crate::error::Error;
use crate::index::Index;
use crate::key::Key;
use crate::store::{Store, prefix};
use scry_wal::{Lsn, Ordinal};
use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

/// A window is full with so many bytes of keys and rows: some ten milliseconds of work, and many rows for each leaf of a memtable.
const WINDOW_BYTES: usize = 4 << 20;

/// Or with so many items, if the options say no other.
pub(crate) const REPLAY_ROWS: usize = 1 << 16;

/// A smaller part of a full window is not worth a thread.
const PARTS_MAX: usize = 64;

/// Windows that are applied or wait for it, while another one is collected.
const UNDER_WAY: usize = 2;

/// Where a change stands, and what of the past is kept when it is made.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Of the record.
    pub(super) at: Lsn,
    /// Of the commit.
    pub(super) lsn: Lsn,
    /// Versions that ended up to here are not kept for the sake of history.
    pub(super) oldest: Lsn,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A row of a table.
    Row,
    /// The same; it was checked against its layout.
    CheckedRow,
    /// A row of an index begins.
    Entry,
    /// A row of an index ends.
    EntryGone,
}

/// One change. Its key and its new row, or that of which it is an entry, are in the window's bytes.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) ended: Option<Ordinal>,
    pub(super) begun: Option<Ordinal>,
    start: usize,
    key_bytes: u32,
    row_bytes: u32,
}

/// Whose rows change.
pub(super) enum Target {
    Table(Arc<Table>),
    Index(Arc<Index>),
}

impl Target {
    pub(super) fn store(&self) -> &Arc<Store> {
        match self {
            Target::Table(table) => &table.store,
            Target::Index(index) => index.store(),
        }
    }
}

/// Items that are applied together.
#[derive(Default)]
pub(super) struct Window {
    pub(super) targets: Vec<Target>,
    pub(super) pins: Option<Arc<[Lsn]>>,
    /// The targets' places by the addresses of their stores.
    known: HashMap<usize, u32>,
    items: Vec<Item>,
    bytes: Vec<u8>,
    /// Of each item: target, first bytes of the key, the item's place.
    order: Vec<u128>,
    graves: Vec<Grave>,
}

impl Window {
    pub(super) fn push(
        &mut self,
        target: u32,
        (place, kind): (Place, Kind),
        key: &[u8],
        ended: Option<Ordinal>,
        begun: Option<(Ordinal, &[u8])>,
    ) {
        let row = begun.map_or(&[][..], |(_, row)| row);
        let item = Item {
            place,
            kind,
            ended,
            begun: begun.map(|(ordinal, _)| ordinal),
            start: self.bytes.len(),
            key_bytes: key.len() as u32,
            row_bytes: row.len() as u32,
        };
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(row);
        let group = u128::from(target) << 96 | u128::from(prefix(key)) << 32;
        self.order.push(group | self.items.len() as u128);
        self.items.push(item);
    }

    /// The place of a table among the targets.
    pub(super) fn table(&mut self, table: &Arc<Table>) -> u32 {
        self.target(&table.store, || Target::Table(Arc::clone(table)))
    }

    /// The place of an index among the targets.
    pub(super) fn index(&mut self, index: &Arc<Index>) -> u32 {
        self.target(index.store(), || Target::Index(Arc::clone(index)))
    }

    fn target(&mut self, store: &Arc<Store>, target: impl FnOnce() -> Target) -> u32 {
        let targets = &mut self.targets;
        let place = self.known.entry(Arc::as_ptr(store).addr()).or_insert_with(|| {
            targets.push(target());
            (targets.len() - 1) as u32
        });
        *place
    }

    pub(super) fn item(&self, ordered: u128) -> &Item {
        &self.items[ordered as u32 as usize]
    }

    pub(super) fn key(&self, item: &Item) -> &[u8] {
        &self.bytes[item.start..][..item.key_bytes as usize]
    }

    pub(super) fn row(&self, item: &Item) -> &[u8] {
        &self.bytes[item.start + item.key_bytes as usize..][..item.row_bytes as usize]
    }

    /// Cuts what is in order into parts of about one size.
    fn parts(&self, count: usize) -> Vec<&[u128]> {
        let mut rest = &self.order[..];
        let mut parts = Vec::new();
        for left in (1..=count).rev() {
            let mut end = rest.len() / left;
            while end > 0 && end < rest.len() && rest[end - 1] >> 32 == rest[end] >> 32 {
                end += 1;
            }
            let (part, behind) = rest.split_at(end);
            parts.push(part);
            rest = behind;
        }
        parts
    }

    /// Makes the changes, by as many threads as there are processors and parts of `part_items`.
    fn apply(&mut self, part_items: usize) -> Result<(), Error> {
        self.order.sort_unstable();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let parts = self.parts(threads.min(self.items.len() / part_items).max(1));
        let window = &*self;
        let applied: Vec<Result<Vec<Grave>, Error>> = thread::scope(|scope| {
            let others = parts[1..].iter().map(|part| {
                let apply = || Part::new(window).apply(part);
                let builder = thread::Builder::new().name("scry-replay".to_owned());
                // Without another thread this one does it all.
                builder.spawn_scoped(scope, apply).map_err(|_| part)
            });
            let others: Vec<_> = others.collect();
            let mut applied = vec![Part::new(window).apply(parts[0])];
            applied.extend(others.into_iter().map(|other| match other {
                Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(part) => Part::new(window).apply(part),
            }));
            applied
        });
        for graves in applied {
            self.graves.extend(graves?);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.targets.clear();
        self.pins = None;
        self.known.clear();
        self.items.clear();
        self.bytes.clear();
        self.order.clear();
        self.graves.clear();
    }
}

/// The window that is collected, and those that are applied.
pub(super) struct Applying {
    window: Window,
    /// Of a full window.
    items_max: usize,
    graves: Vec<Grave>,
    thread: Option<Thread>,
}

/// Applies windows.
struct Thread {
    windows: Option<Sender<Window>>,
    applied: Receiver<Result<Window, Error>>,
    under_way: usize,
    handle: Option<JoinHandle<()>>,
}

impl Applying {
    pub(super) fn new(items_max: usize) -> Applying {
        Applying {
            window: Window::default(),
            items_max,
            graves: Vec::new(),
            thread: None,
        }
    }

    /// The window, for items of which those of the past see what `pins` tells.
    pub(super) fn window_with(&mut self, pins: impl FnOnce() -> Option<Arc<[Lsn]>>) -> &mut Window {
        if self.window.items.is_empty() {
            self.window.pins = pins();
        }
        &mut self.window
    }

    /// The entries that end by what is collected: the addresses of their stores, and their keys.
    pub(super) fn ended_entries(&self) -> HashSet<(usize, Key)> {
        let window = &self.window;
        let ended = window.order.iter().filter_map(|ordered| {
            let item = window.item(*ordered);
            let store = window.targets[(ordered >> 96) as usize].store();
            let key = || Key::from_bytes(window.key(item));
            (item.kind == Kind::EntryGone).then(|| (Arc::as_ptr(store).addr(), key()))
        });
        ended.collect()
    }

    /// Hands the window over if it is full.
    pub(super) fn advance(&mut self) -> Result<(), Error> {
        let (bytes, items) = (self.window.bytes.len(), self.window.items.len());
        match bytes >= WINDOW_BYTES || items >= self.items_max {
            true => self.hand_over(),
            false => Ok(()),
        }
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        if self.thread.is_none() {
            self.thread = Thread::start(self.part_items());
        }
        let Some(thread) = &mut self.thread else {
            return self.apply();
        };
        let emptied = match thread.under_way >= UNDER_WAY {
            true => Some(thread.wait()?),
            false => None,
        };
        let emptied = self.emptied(emptied.unwrap_or_default());
        let full = std::mem::replace(&mut self.window, emptied);
        match &mut self.thread {
            Some(thread) => thread.hand_over(full),
            None => Ok(()),
        }
    }

    /// Applies all that was collected.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        while let Some(thread) = &mut self.thread
            && thread.under_way > 0
        {
            let applied = thread.wait()?;
            self.emptied(applied);
        }
        self.apply()
    }

    fn apply(&mut self) -> Result<(), Error> {
        if self.window.items.is_empty() {
            return Ok(());
        }
        let mut window = std::mem::take(&mut self.window);
        window.apply(self.part_items())?;
        self.window = self.emptied(window);
        Ok(())
    }

    fn part_items(&self) -> usize {
        (self.items_max / PARTS_MAX).max(1)
    }

    fn emptied(&mut self, mut window: Window) -> Window {
        self.graves.append(&mut window.graves);
        window.clear();
        window
    }

    /// Deleted rows that somebody may still see, in the order of their ends.
    pub(super) fn take_graves(&mut self) -> Vec<Grave> {
        let mut graves = std::mem::take(&mut self.graves);
        graves.sort_by_key(|grave| grave.lsn);
        graves
    }
}

impl Thread {
    /// None when there is no room for a thread.
    fn start(part_items: usize) -> Option<Thread> {
        let (windows, full) = mpsc::channel::<Window>();
        let (done, applied) = mpsc::channel();
        let apply = move || {
            for mut window in full {
                let result = window.apply(part_items);
                let is_over = result.is_err();
                if done.send(result.map(|()| window)).is_err() || is_over {
                    return;
                }
            }
        };
        let handle = thread::Builder::new()
            .name("scry-replay".to_owned())
            .spawn(apply)
            .ok()?;
        Some(Thread {
            windows: Some(windows),
            applied,
            under_way: 0,
            handle: Some(handle),
        })
    }

    fn hand_over(&mut self, window: Window) -> Result<(), Error> {
        self.under_way += 1;
        let windows = self.windows.as_ref();
        match windows.is_some_and(|windows| windows.send(window).is_ok()) {
            true => Ok(()),
            // It has ended over an earlier window, and says why.
            false => self.wait().map(drop),
        }
    }

    /// The next window that was applied.
    fn wait(&mut self) -> Result<Window, Error> {
        if let Ok(applied) = self.applied.recv() {
            self.under_way -= 1;
            return applied;
        }
        self.windows = None;
        match self.handle.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => unreachable!("a thread that applies windows ends over an error, which it told"),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.windows = None;
        if let Some(handle) = self.handle.take() {
            // If it panicked, somebody has waited for it and panicked too, or an error came first.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
