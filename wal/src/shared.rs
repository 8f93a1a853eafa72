//! What the threads of one open log share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::append::Append;
use crate::archive::Archive;
use crate::consumers::Consumers;
use crate::durability::{Durability, Fate};
use crate::format::{DatabaseId, Geometry};
use crate::ids::NodeId;
use crate::recent::Recent;
use crate::retain::{Recycling, Retention};
use crate::space::Space;
use crate::storage::Storage;
use crate::sys::buffer::Pool;
use crate::times::WriteTimes;

pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) geometry: Geometry,
    pub(crate) database: DatabaseId,
    pub(crate) node: NodeId,
    pub(crate) epoch: u64,
    pub(crate) buffer_bytes: u64,
    pub(crate) pool: Arc<Pool>,
    /// The append lock. Order of locks: this one first, none while it waits for another thread but `space`'s.
    pub(crate) append: Mutex<Append>,
    /// Who needs the log, and where it begins.
    pub(crate) consumers: Consumers,
    pub(crate) archive: Option<Archive>,
    pub(crate) retention: Retention,
    pub(crate) retain_bytes_max: u64,
    /// Held by the one that lets segments go.
    pub(crate) recycling: Mutex<Recycling>,
    /// A copy of the end of the log, for those who do not hold the lock.
    pub(crate) appended: AtomicU64,
    pub(crate) durability: Arc<Durability>,
    pub(crate) space: Arc<Space>,
    pub(crate) recent: Recent,
    pub(crate) times: WriteTimes,
    pub(crate) fate: Fate,
    /// Set under the append lock: nothing is appended any more, what was is still written.
    pub(crate) closing: AtomicBool,
}

impl Shared {
    /// Bytes that were appended and are not durable.
    pub(crate) fn unwritten(&self) -> u64 {
        self.appended
            .load(Ordering::Acquire)
            .saturating_sub(self.durability.raw())
    }

    /// Whether an appender may come: buffers below their bound.
    pub(crate) fn buffers_have_room(&self) -> bool {
        self.unwritten() < self.buffer_bytes
    }

    /// Nothing more is acknowledged, and everybody is told why.
    pub(crate) fn poison(&self, reason: String) {
        self.fate.poison(reason);
        self.space.stop();
        self.durability.wake_all();
    }

    /// Everything is written and nothing more comes.
    pub(crate) fn closed(&self) {
        self.fate.close();
        self.space.stop();
        self.durability.wake_all();
        self.recent.close();
    }
}
