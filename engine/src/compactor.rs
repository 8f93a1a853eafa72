//! The thread that has the runs compacted, behind what anybody still sees.

use crate::attempts::Attempts;
use crate::background::Background;
use crate::history::History;
use crate::pins::Pins;
use crate::runs::{Compacted, Keep};
use crate::snapshots::Snapshots;
use crate::store::backing::Backing;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often an idle thread looks for work.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Compactor {
    backing: Arc<Backing>,
    attempts: Arc<Attempts>,
    thread: Background,
}

impl Compactor {
    pub(crate) fn start(
        backing: &Arc<Backing>,
        snapshots: &Arc<Snapshots>,
        pins: &Arc<Pins>,
        history: &Arc<History>,
    ) -> std::io::Result<Compactor> {
        let attempts = Arc::<Attempts>::default();
        let noted = Arc::clone(&attempts);
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
            let attempt = work.runs.compact_once(&keep);
            noted.note(&attempt);
            match attempt {
                Ok(Compacted::Nothing | Compacted::Stopped) => false,
                Ok(_) => true,
                Err(_) => {
                    not_before = Instant::now() + RETRY;
                    false
                }
            }
        })?;
        Ok(Compactor {
            backing: Arc::clone(backing),
            attempts,
            thread,
        })
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
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
