//! What stands in the log when it is opened, and whether its end is an end or a wound.
//!
//! The log is followed from the segment that holds the restart LSN: the first one, unless somebody keeps what the log
//! before it amounts to. Where the walk stops at LSN x, one question decides: does any later frame
//! that is valid, of this database and not of an older epoch, say that more than x was durable when it was
//! written? If so, x had been acknowledged and is now damaged: refused, with every byte left as it is. If
//! not, nobody was told of x: a torn tail (or simply the end), and the log goes on from there in a new epoch.
//!
//! Why this is right:
//! - frames are acknowledged as a contiguous prefix, so what was acknowledged lies before some frame's `durable_lsn`, or is
//!   the very end of the log; the watermark frames written on idle and on close give that end its witness;
//! - a frame that was in flight together with x cannot say that x was durable;
//! - the epoch rises at each opening above every epoch seen anywhere, so frames that an earlier cut left behind can
//!   neither continue the log (older epoch) nor testify against it.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use crate::error::{BoxError, Error, Flaw};
use crate::format::{Chain, DatabaseId, Geometry, SegmentHeader, UNIT, WRITE_UNIT, genesis, segment_name};
use crate::frame::Frame;
use crate::ids::{Lsn, NodeId};
use crate::scan::{Reader, Step, Stop, Walk};
use crate::segments::{Segments, believed_header, io_error, place};
use crate::storage::{Access, Storage};
use crate::sys::buffer::Pool;
use crate::sys::call;

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The frames that were replayed.
    pub frames: u64,
    /// The records in them.
    pub records: u64,
    /// Where the replay began: the first byte of a segment.
    pub from: Lsn,
    /// The bytes from there to the end of the log, padding and headers included.
    pub bytes: u64,
    /// What was cut off: a tail that was never acknowledged.
    pub torn: Option<Torn>,
}

/// A tail that was written in part, or whole but behind a gap, and never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Where the log now ends.
    pub lsn: Lsn,
    /// What stands there.
    pub flaw: Flaw,
    /// Whole frames that stand behind it.
    pub frames_behind: u64,
}

/// The log as it can be continued.
pub(crate) struct Recovered {
    pub(crate) geometry: Geometry,
    pub(crate) database: DatabaseId,
    /// The end of the last good frame or header.
    pub(crate) end: u64,
    pub(crate) chain: Chain,
    /// The epoch of what is written from now on.
    pub(crate) epoch: u64,
    /// The oldest LSN that can be read.
    pub(crate) begin: u64,
    /// The end of the last segment that exists.
    pub(crate) prepared_end: u64,
    /// The bases of segments from `end` on whose files hold something.
    pub(crate) recycled: BTreeSet<u64>,
    pub(crate) report: Recovery,
}

/// Makes a new log with one segment.
pub(crate) fn create(storage: &dyn Storage, geometry: Geometry, node: NodeId) -> Result<Recovered, Error> {
    let name = segment_name(0);
    let io = |action, source| Error::Io {
        action,
        path: storage.path(&name),
        source,
    };
    let database = call::random().map_err(|source| io("draw a random number for", source))?;
    let header = SegmentHeader {
        node,
        database,
        epoch: 1,
        base: 0,
        segment_bytes: geometry.segment_bytes(),
        chain: genesis(&database),
        recycled: false,
    };
    let mut unit = vec![0; WRITE_UNIT];
    header.encode(&mut unit);
    storage
        .create(&name, geometry.segment_bytes(), &unit)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::DiskFull {
                path: storage.path(&name),
            },
            _ => io("create", source),
        })?;
    Ok(Recovered {
        geometry,
        database,
        end: UNIT,
        chain: genesis(&database),
        epoch: 1,
        begin: 0,
        prepared_end: geometry.segment_bytes(),
        recycled: BTreeSet::new(),
        report: Recovery::default(),
    })
}

/// Frames go from the thread that reads and checks them to the one that replays them in batches of about so many bytes, at
/// most so many at once: enough that neither waits for the other because of one frame.
const BATCH_BYTES: usize = 1 << 20;
const BATCHES: usize = 4;

/// Reads frames until the walk stops, or nobody wants them.
fn read_frames(mut walk: Walk, batches: &SyncSender<Vec<Frame>>) -> Result<(Walk, Option<Stop>), Error> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let stop = loop {
        match walk.step() {
            Ok(Step::Frame(frame)) => {
                bytes += frame.bytes().len();
                batch.push(frame);
                if bytes >= BATCH_BYTES {
                    bytes = 0;
                    if batches.send(std::mem::take(&mut batch)).is_err() {
                        return Ok((walk, None));
                    }
                }
            }
            Ok(Step::Entered) => {}
            Ok(Step::Stop(stop)) => break Ok(Some(stop)),
            Ok(Step::End) => break Ok(None),
            Err(error) => break Err(error),
        }
    };
    // What was good before a stop or an error is replayed; that nobody wants it any more, the other thread knows.
    let _ = batches.send(batch);
    stop.map(|stop| (walk, stop))
}

/// Replays what is there. A thread of its own reads ahead and checks, so that the caller's has its processor for itself.
pub(crate) fn recover(
    storage: &Arc<dyn Storage>,
    segments: &Segments,
    pool: &Arc<Pool>,
    replay: &mut dyn FnMut(Option<&Frame>) -> Result<(), BoxError>,
) -> Result<Recovered, Error> {
    let geometry = segments.geometry;
    let reader = Reader::new(
        Arc::clone(storage),
        geometry,
        Arc::clone(pool),
        Access::Sequential,
        segments.end,
    );
    let Some(walk) = Walk::from_segment(reader, segments.database, segments.start, true)? else {
        // It was read a moment ago.
        return Err(Error::Damaged {
            place: place(storage.as_ref(), geometry, segments.start),
            flaw: Flaw::Zeros,
            witness: None,
        });
    };
    let mut report = Recovery {
        from: Lsn::new(segments.start),
        ..Recovery::default()
    };
    let (mut walk, stop) = thread::scope(|scope| {
        let (batches, read) = mpsc::sync_channel(BATCHES);
        let reader = thread::Builder::new()
            .name("scry-log-read".to_owned())
            .spawn_scoped(scope, move || read_frames(walk, &batches))
            .map_err(|source| io_error(storage.as_ref(), "", "start the thread that reads", source))?;
        let replayed = read.into_iter().flatten().try_for_each(|frame: Frame| {
            report.frames += 1;
            report.records += u64::from(frame.record_count());
            replay(Some(&frame)).map_err(|source| Error::Replay {
                lsn: frame.lsn(),
                source,
            })
        });
        match reader.join() {
            Ok(read) => replayed.and(read),
            Err(panic) => resume_unwind(panic),
        }
    })?;
    let (end, chain, current) = (walk.position(), walk.chain(), walk.epoch());
    report.bytes = end - segments.start;
    let mut newest = current;
    if let Some(stop) = stop {
        let remains = judge(&mut walk.reader, segments, current, &stop)?;
        newest = newest.max(remains.newest_epoch);
        if walk.is_torn(&stop, remains.frames) {
            report.torn = Some(Torn {
                lsn: Lsn::new(stop.at),
                flaw: stop.flaw,
                frames_behind: remains.frames,
            });
        }
    }
    replay(None).map_err(|source| Error::Replay {
        lsn: Lsn::new(end),
        source,
    })?;
    let mut recycled = BTreeSet::new();
    let mut base = end.next_multiple_of(geometry.segment_bytes());
    while base < segments.end {
        if believed_header(storage.as_ref(), base)? != Err(Flaw::Zeros) {
            recycled.insert(base);
        }
        base = geometry.end(base);
    }
    Ok(Recovered {
        geometry,
        database: segments.database,
        end,
        chain,
        epoch: newest + 1,
        begin: segments.begin,
        prepared_end: segments.end,
        recycled,
        report,
    })
}

/// What stands behind the end.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    pub(crate) newest_epoch: u64,
    pub(crate) frames: u64,
}

/// Decides what a stop means: remains of a tail that nobody was told of, or damage.
pub(crate) fn judge(
    reader: &mut Reader,
    segments: &Segments,
    current: u64,
    stop: &Stop,
) -> Result<Remains, Error> {
    let geometry = segments.geometry;
    let damaged = |reader: &Reader, at: u64, flaw: Flaw, witness: Option<Lsn>| Error::Damaged {
        place: place(reader.storage(), geometry, at),
        flaw,
        witness,
    };
    if stop.forged {
        return Err(damaged(reader, stop.at, stop.flaw.clone(), None));
    }
    let mut remains = Remains::default();
    let mut at = stop.at;
    if let Flaw::OldEpoch { found, .. } = stop.flaw {
        remains.newest_epoch = found;
        remains.frames += u64::from(at != geometry.base(at));
    }
    at += UNIT;
    while at < segments.end {
        if at == geometry.base(at) {
            match reader.segment_header(at)? {
                Ok(header) if header.database != segments.database => {
                    return Err(damaged(reader, at, Flaw::Foreign, None));
                }
                Ok(header) => remains.newest_epoch = remains.newest_epoch.max(header.epoch),
                Err(flaw @ Flaw::Misplaced(_)) => return Err(damaged(reader, at, flaw, None)),
                Err(_) => {}
            }
            at += UNIT;
            continue;
        }
        if !reader.may_begin(at)? {
            at += UNIT;
            continue;
        }
        match reader.frame(at)? {
            Ok(frame) if frame.database() == segments.database => {
                if frame.epoch() >= current && frame.durable_lsn().get() > stop.at {
                    return Err(damaged(reader, stop.at, stop.flaw.clone(), Some(frame.lsn())));
                }
                remains.newest_epoch = remains.newest_epoch.max(frame.epoch());
                remains.frames += 1;
                // Not its filler's whole length: only what was really written is skipped.
                at += frame.bytes().len() as u64;
            }
            _ => at += UNIT,
        }
    }
    Ok(remains)
}

/// Makes durable what recovery has read: it may have been on its way when the process ended, and from now on others
/// rely on it.
pub(crate) fn sync_tail(storage: &dyn Storage, recovered: &Recovered) -> Result<(), Error> {
    let geometry = recovered.geometry;
    // Writes that are on their way together may span segments: all in their reach are synced.
    let reach = IN_FLIGHT_REACH_BYTES.max(geometry.segment_bytes());
    let mut base = geometry
        .base(recovered.end.saturating_sub(reach))
        .max(recovered.begin);
    while base < recovered.prepared_end {
        let name = segment_name(base);
        storage
            .open(&name, Access::Write)
            .and_then(|file| file.sync())
            .map_err(|source| Error::Io {
                action: "sync",
                path: storage.path(&name),
                source,
            })?;
        base = geometry.end(base);
    }
    Ok(())
}

/// More than can be on its way at once: 32 frames of the largest size.
pub(crate) const IN_FLIGHT_REACH_BYTES: u64 = 1 << 30;
