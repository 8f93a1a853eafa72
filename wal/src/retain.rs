//! What of the log is kept, and what becomes of the rest.
//!
//! Whoever keeps what the log before some position amounts to says so ([`crate::Log::recycle`]). Whole segments before that
//! position go, as far as [`Retention`] and [`Consumers`](crate::Consumers) let them: the first few wait as *spares* to become the next segments, which
//! saves allocating them and filling them with zeros; the others are removed.
//!
//! How old a segment is follows from the times of the commits in it, as their writer's clock had them. A time in the future says nothing: the
//! clock has been put back since, and what was committed after that tells how old all before it is.
//!
//! Invariants:
//! - the oldest segment goes first, and its going is durable before the next one goes: what is left has no gap;
//! - readers know that a segment is gone before its file changes;
//! - a spare has lost its header before it gets a segment's name again, so what it was cannot be taken for what it is;
//! - the segment with the last durable byte stays: the chain goes on from there.
//!
//! One thread at a time recycles; nobody who appends waits for it.

use crate::archive::archive_sealed;
use crate::consumers::Consumer;
use crate::error::Error;
use crate::format::{Geometry, WRITE_UNIT, is_spare_name, mark_recycled, segment_base, spare_name};
use crate::ids::{Lsn, Micros};
use crate::record::Record;
use crate::segments::{files, io_error, remove};
use crate::shared::Shared;
use crate::space::SPARES_MAX;
use crate::storage::{Access, Storage};
use crate::sys::buffer::Pool;
use crate::tail::TailReader;
use std::sync::Arc;
use std::time::Duration;

/// How much of the log is kept though nothing needs it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// All of it: it is the audit trail.
    #[default]
    Everything,
    /// At least so many bytes before its durable end, and what was committed no longer ago than `age`.
    Recent { bytes: u64, age: Duration },
}

impl Retention {
    /// At least so many bytes before the durable end.
    pub const fn bytes(bytes: u64) -> Retention {
        Retention::Recent {
            bytes,
            age: Duration::ZERO,
        }
    }
}

/// What the one that recycles knows from the last time.
#[derive(Debug, Default)]
pub(crate) struct Recycling {
    /// A segment that was too young to go, and when the first commit from there on was made.
    young: Option<(u64, Micros)>,
}

/// What recycling did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recycled {
    /// Where the log begins now.
    pub begin: Lsn,
    /// Segments that wait to become others.
    pub spared: u64,
    /// Segments that were removed.
    pub removed: u64,
    /// Consumers that had fallen too far behind, and were dropped.
    pub dropped: Vec<Consumer>,
}

/// Lets whole segments before `upto` go.
pub(crate) fn recycle(shared: &Arc<Shared>, upto: Lsn, now: Micros) -> Result<Recycled, Error> {
    let mut alone = shared.recycling.lock();
    shared.fate.check()?;
    archive_sealed(shared, &|| false)?;
    let (begin, dropped) = raise_begin(shared, &mut alone, upto, now)?;
    let mut done = Recycled {
        begin,
        dropped,
        ..Recycled::default()
    };
    let storage = shared.storage.as_ref();
    for (base, name, bytes) in segments_before(storage, begin.get())? {
        let spare = spare_name(base);
        if bytes == shared.geometry.segment_bytes() && shared.space.takes_spares() {
            storage
                .rename(&name, &spare)
                .map_err(|source| io_error(storage, &name, "recycle", source))?;
            mark(storage, &spare)?;
            shared.space.add_spare(spare);
            done.spared += 1;
        } else {
            remove(storage, &name)?;
            done.removed += 1;
        }
    }
    Ok(done)
}

/// Archives what is sealed.
pub(crate) fn archive(shared: &Shared, stopped: &dyn Fn() -> bool) -> Result<Option<Lsn>, Error> {
    let _alone = shared.recycling.lock();
    archive_sealed(shared, stopped)
}

/// Tells readers where the log begins from now on.
fn raise_begin(
    shared: &Arc<Shared>,
    known: &mut Recycling,
    upto: Lsn,
    now: Micros,
) -> Result<(Lsn, Vec<Consumer>), Error> {
    let geometry = shared.geometry;
    let durable = shared.durability.raw();
    let bound = upto.get().min(durable.saturating_sub(1));
    let bound = Lsn::new(match shared.retention {
        Retention::Everything => 0,
        Retention::Recent { bytes, age } => {
            let bound = bound.min(durable.saturating_sub(bytes));
            aged(shared, known, bound, age, now)?
        }
    });
    let consumers = &shared.consumers;
    let (bound, dropped) = consumers.hold(bound, Lsn::new(durable), shared.retain_bytes_max, now)?;
    let begin = consumers.raise_begin(bound, |lsn| Lsn::new(geometry.base(lsn.get())));
    Ok((begin, dropped))
}

/// As much of what is before `bound` as was committed longer than `age` ago: whole segments, if it is not all.
fn aged(
    shared: &Arc<Shared>,
    known: &mut Recycling,
    bound: u64,
    age: Duration,
    now: Micros,
) -> Result<u64, Error> {
    if age.is_zero() {
        return Ok(bound);
    }
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let latest = Micros::new(now.get().saturating_sub(age));
    let mut begin = shared.consumers.begin().get();
    let mut next = begin;
    loop {
        next = shared.geometry.end(next);
        if next > bound {
            return Ok(begin.min(bound));
        }
        // What stands before the first commit of a segment is not younger than that.
        let first = match known.young {
            Some((base, time)) if base == next => Some(time),
            _ => first_commit(shared, next)?,
        };
        match first {
            Some(time) if time <= latest => begin = next,
            Some(time) if time > now => {}
            first => {
                known.young = first.map(|time| (next, time));
                return Ok(begin.min(bound));
            }
        }
    }
}

/// The time of the first commit from `from` on, if there is one.
fn first_commit(shared: &Arc<Shared>, from: u64) -> Result<Option<Micros>, Error> {
    let mut tail = TailReader::new(Arc::clone(shared), Lsn::new(from), None);
    while let Some(frame) = tail.next(Duration::ZERO)? {
        // Records that cannot be read are no reason to let go of them.
        for (_, record) in frame.records().map_while(Result::ok) {
            if let Record::Commit(commit) = record {
                return Ok(Some(commit.time));
            }
        }
    }
    Ok(None)
}

/// The segments before `begin`, the oldest first.
fn segments_before(storage: &dyn Storage, begin: u64) -> Result<Vec<(u64, String, u64)>, Error> {
    let mut found: Vec<_> = files(storage)?
        .into_iter()
        .filter_map(|(name, bytes)| {
            let base = segment_base(&name).filter(|base| *base < begin)?;
            Some((base, name, bytes))
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Takes the header away from what was a segment.
fn mark(storage: &dyn Storage, name: &str) -> Result<(), Error> {
    let mut block = Pool::new().block(WRITE_UNIT);
    let unit = &mut block.bytes_mut()[..WRITE_UNIT];
    mark_recycled(unit);
    let written = storage
        .open(name, Access::Write)
        .and_then(|file| file.write_at(0, unit));
    match written {
        Ok(WRITE_UNIT) => Ok(()),
        Ok(_) => Err(io_error(
            storage,
            name,
            "recycle",
            std::io::ErrorKind::WriteZero.into(),
        )),
        Err(source) => Err(io_error(storage, name, "recycle", source)),
    }
}

/// The spares of an earlier life, marked again: nobody knows how far it came with the last one.
pub(crate) fn find_spares(storage: &dyn Storage, geometry: Geometry) -> Result<Vec<String>, Error> {
    let mut spares = Vec::new();
    for (name, bytes) in files(storage)? {
        if !is_spare_name(&name) {
            continue;
        }
        if bytes == geometry.segment_bytes() && spares.len() < SPARES_MAX {
            mark(storage, &name)?;
            spares.push(name);
        } else {
            remove(storage, &name)?;
        }
    }
    Ok(spares)
}
