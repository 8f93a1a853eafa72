//! Following the log: durable frames only, in order, from memory while they are recent, else from the files.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Flaw};
use crate::format::{Chain, UNIT};
use crate::frame::Frame;
use crate::ids::Lsn;
use crate::recent::Found;
use crate::scan::Reader;
use crate::segments::place;
use crate::shared::Shared;
use crate::storage::Access;

/// Reads the log from some position on, behind the writer. Several may read at once; each has its own position.
///
/// Every durable frame comes, also those without records (fillers and watermarks): a consumer that takes `end()` of
/// the last frame as its position has then seen everything up to [`crate::Log::durable_lsn`].
pub struct TailReader {
    shared: Arc<Shared>,
    /// Where the frame stands that `next` returns next.
    position: Lsn,
    /// Frames taken from memory at once.
    taken: VecDeque<Arc<Frame>>,
    reader: Option<Reader>,
    /// The chain value at `position`, when the frame before was read from a file.
    chain: Option<Chain>,
    /// Whose reader this is, if it is a consumer's.
    consumer: Option<String>,
}

impl TailReader {
    pub(crate) fn new(shared: Arc<Shared>, from: Lsn, consumer: Option<String>) -> Self {
        let position = Lsn::new(shared.geometry.frame_at(from.get()));
        Self {
            shared,
            position,
            taken: VecDeque::new(),
            reader: None,
            chain: None,
            consumer,
        }
    }

    /// Where the frame stands that [`TailReader::next`] returns next.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// The next durable frame; `None` when none became durable within `timeout`.
    ///
    /// A reader that is woken for each frame of a busy log costs the writer a system call each; one that can bear a
    /// millisecond of delay does better to read until `None` with a zero timeout, and to rest a little before it waits.
    ///
    /// # Errors
    /// [`Error::Closed`] behind the last frame of a closed log; [`Error::ConsumerDropped`] in the reader of a consumer; [`Error::Gone`] when the log does not reach back to the
    /// position any more; [`Error::NotAFrame`] when no frame begins at the
    /// position; [`Error::Damaged`] when a file does not hold what was written. A poisoned log still serves
    /// its durable frames.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Arc<Frame>>, Error> {
        if self.taken.is_empty() {
            if let Some(name) = &self.consumer {
                self.shared.consumers.check(name)?;
            }
            let deadline = Instant::now() + timeout;
            match self.shared.recent.take(self.position, deadline, &mut self.taken) {
                Found::Frames => {
                    self.reader = None;
                    self.chain = None;
                }
                Found::Older(first) => return self.read_old(first).map(Some),
                Found::Nothing => return Ok(None),
                Found::Closed => return Err(Error::Closed),
                Found::NoFrame => return Err(Error::NotAFrame { lsn: self.position }),
            }
        }
        let frame = self.taken.pop_front();
        if let Some(frame) = &frame {
            self.position = frame.end();
        }
        Ok(frame)
    }

    /// Reads the frame at the position from its file, while it is there: whatever is wrong with a file that is being
    /// recycled, is wrong because of that.
    fn read_old(&mut self, limit: Lsn) -> Result<Arc<Frame>, Error> {
        self.shared.consumers.check_begin(self.position)?;
        self.read_file(limit).or_else(|error| {
            self.shared.consumers.check_begin(self.position)?;
            Err(error)
        })
    }

    /// Reads the frame at the position from its file; all before `limit` is durable and no longer changes.
    fn read_file(&mut self, limit: Lsn) -> Result<Arc<Frame>, Error> {
        let at = self.position.get();
        if !at.is_multiple_of(UNIT) {
            return Err(Error::NotAFrame { lsn: self.position });
        }
        let shared = &self.shared;
        let reader = self.reader.get_or_insert_with(|| {
            let storage = Arc::clone(&shared.storage);
            Reader::new(
                storage,
                shared.geometry,
                Arc::clone(&shared.pool),
                Access::Live,
                0,
            )
        });
        // A limit at a segment's first frame covers that segment's header too, which may not be written; frames end
        // at the header, so this harms nobody.
        reader.set_limit(limit.get());
        let mut read = reader.frame(at)?;
        if read.is_err() {
            // What was read ahead may be older than what is durable by now.
            reader.forget();
            read = reader.frame(at)?;
        }
        let damaged = |flaw: Flaw| Error::Damaged {
            place: place(shared.storage.as_ref(), shared.geometry, at),
            flaw,
            witness: Some(limit),
        };
        let frame = match read {
            Ok(frame) => frame,
            // The first frame asked for may stand nowhere; behind a frame that was read, the next must be.
            Err(_) if self.chain.is_none() && !self.begins_a_frame(at)? => {
                return Err(Error::NotAFrame { lsn: self.position });
            }
            Err(flaw) => return Err(damaged(flaw)),
        };
        if frame.database() != shared.database {
            return Err(damaged(Flaw::Foreign));
        }
        if self.chain.is_some_and(|chain| chain != frame.link()) {
            return Err(damaged(Flaw::ChainLink));
        }
        self.chain = Some(frame.chain());
        self.position = frame.end();
        Ok(Arc::new(frame))
    }

    /// Whether a walk from the beginning of the segment comes by `at`, or is stopped by damage before.
    fn begins_a_frame(&self, at: u64) -> Result<bool, Error> {
        let shared = &self.shared;
        let (storage, pool) = (Arc::clone(&shared.storage), Arc::clone(&shared.pool));
        let mut reader = Reader::new(
            storage,
            shared.geometry,
            pool,
            Access::Live,
            shared.recent.end().get(),
        );
        let mut lsn = shared.geometry.base(at) + UNIT;
        while lsn < at {
            match reader.frame(lsn)? {
                Ok(frame) => lsn = frame.raw_end(),
                Err(_) => return Ok(true),
            }
        }
        Ok(lsn == at)
    }
}
