//! How a log is opened.

use crate::archive::Archive;
use crate::error::Error;
use crate::format::Geometry;
use crate::ids::{Lsn, NodeId};
use crate::retain::Retention;

/// The most frames on their way that can be asked for; recovery syncs what that many can have touched.
const IN_FLIGHT_MAX: usize = 32;

/// How writes reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// io_uring where the kernel allows it, else blocking.
    #[default]
    Auto,
    /// Several writes on their way at once through io_uring; opening fails where it is refused.
    IoUring,
    /// One write at a time in the writer thread. Works everywhere.
    Blocking,
}

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Bytes per segment, a multiple of 4096 from 16 KiB to 4 GiB. Counts when the log is created; later the log's own
    /// size holds.
    pub segment_bytes: u64,
    /// How writes reach the disk.
    pub backend: Backend,
    /// The most frames on their way at once, 1 to 32. How many there are follows from how long writes take.
    pub max_in_flight: usize,
    /// The fewest slots, however quick the disk is; not more than `max_in_flight`. More than 1 trades processor time
    /// for latency.
    pub min_in_flight: usize,
    /// Memory for frames that are durable, kept for tail readers.
    pub recent_bytes: usize,
    /// Appended bytes that are not durable yet, beyond which [`Log::room`](crate::Log::room) holds appenders back.
    pub buffer_bytes: usize,
    /// Where sealed segments are copied to; none goes before it was copied.
    pub archive: Option<Archive>,
    /// How much of the log is kept though nothing needs it any more.
    pub retention: Retention,
    /// How many bytes of the log are kept for a consumer and nothing else; one that falls further behind is dropped.
    pub retain_bytes_max: u64,
    /// The node that writes.
    pub node: NodeId,
    /// Recovery begins in the segment that holds this position: somebody keeps what the log before it amounts to.
    /// Earlier segments may be gone and are not looked into. A log that ends before this position has lost its end
    /// and is refused. Zero for all of the log.
    pub restart: Lsn,
    /// Whose log it must be, as [`Log::database`](crate::Log::database) said; another one is refused. `None` when nothing is known.
    pub database: Option<[u8; 16]>,
    /// All before this position was durable once, as somebody knows who read it. A log that ends earlier has lost its
    /// end and is refused. Zero when nothing is known.
    pub durable_before: Lsn,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            backend: Backend::Auto,
            max_in_flight: 16,
            min_in_flight: 1,
            recent_bytes: 64 << 20,
            buffer_bytes: 32 << 20,
            archive: None,
            retention: Retention::Everything,
            retain_bytes_max: 16 << 30,
            node: NodeId::new(1),
            restart: Lsn::ZERO,
            database: None,
            durable_before: Lsn::ZERO,
        }
    }
}

impl LogOptions {
    /// How a new log is cut, when all values are possible.
    pub(crate) fn check(&self) -> Result<Geometry, Error> {
        let geometry = Geometry::new(self.segment_bytes).ok_or(Error::Options {
            what: "segment_bytes must be a multiple of 4096 from 16 KiB to 4 GiB",
        })?;
        if !(1..=IN_FLIGHT_MAX).contains(&self.max_in_flight) {
            return Err(Error::Options {
                what: "max_in_flight must be from 1 to 32",
            });
        }
        Ok(geometry)
    }
}
