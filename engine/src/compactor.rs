//! The thread that has the runs compacted, behind what anybody still sees.

use crate::background::Background;
use crate::history::History;
use crate::pins::Pins;
use crate::runs::{Compacted, Keep};
use crate::snapshots::Snapshots;
use crate::store::backing::Backing;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often an idle thread looks for work.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Compactor {
    backing: Arc<Backing>,
    failed: Arc<AtomicU64>,
    thread: Background,
}

impl Compactor {
    pub(crate) fn start(
        backing: &Arc<Backing>,
        snapshots: &Arc<Snapshots>,
        pins: &Arc<Pins>,
        history: &Arc<History>,
    ) -> std::io::Result<Compactor> {
        let failed = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&failed);
        let (work, snapshots, pins) = (Arc::clone(backing), Arc::clone(snapshots), Arc::clone(pins));
        let history = Arc::clone(history);
        let mut not_before = Instant::now();
        let thread = Background::start("scry-compaction", INTERVAL, move |_| {
            if Instant::now() < not_before {
                return false;
            }
            let horizon = history.droppable(snapshots.horizon());
            // After the horizon: a pin that is made later lies beyond it.
            let pins = pins.list().unwrap_or_default();
            let keep = Keep {
                horizon,
                pins: &pins,
                is_live: &|space| work.is_alive(space),
            };
            match work.runs.compact_once(&keep) {
                Ok(Compacted::Nothing | Compacted::Stopped) => false,
                Ok(_) => true,
                Err(_) => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    not_before = Instant::now() + RETRY;
                    false
                }
            }
        })?;
        Ok(Compactor {
            backing: Arc::clone(backing),
            failed,
            thread,
        })
    }

    /// How often it failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends the thread; what it had begun is undone.
    pub(crate) fn stop(&self) {
        self.backing.runs.stop_compaction();
        self.thread.stop();
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stop();
    }
}
