//! Which segments a folder holds, and from which one the log is read.
//!
//! The log may begin later than at LSN 0: segments that nobody needs any more go away, the oldest first. So what is
//! there must be without a gap only from where it is read: from the *restart* segment when the log is opened,
//! from the oldest one when it is looked at. The header of that segment is believed, as there is nothing before it to
//! check it against; everything behind it is checked against it.

use std::io;
use std::ops::Range;

use crate::error::{Error, Flaw, Place};
use crate::format::{
    DatabaseId, FORMAT_VERSION, Geometry, HeaderFlaw, SegmentHeader, UNIT, WRITE_UNIT, genesis, segment_base,
    segment_name,
};
use crate::ids::Lsn;
use crate::storage::{Access, Storage};
use crate::sys::buffer::Pool;

/// Where `lsn` is, for a message.
pub(crate) fn place(storage: &dyn Storage, geometry: Geometry, lsn: u64) -> Place {
    let base = geometry.base(lsn);
    Place {
        file: storage.path(&segment_name(base)),
        offset: lsn - base,
        lsn: Lsn::new(lsn),
    }
}

pub(crate) fn io_error(storage: &dyn Storage, name: &str, action: &'static str, source: io::Error) -> Error {
    Error::Io {
        action,
        path: storage.path(name),
        source,
    }
}

/// The error for a segment that a newer program wrote.
pub(crate) fn newer(storage: &dyn Storage, name: &str, found: u32) -> Error {
    Error::NewerFormat {
        path: storage.path(name),
        found,
        supported: FORMAT_VERSION,
    }
}

/// The segments of a folder.
pub(crate) struct Segments {
    pub(crate) geometry: Geometry,
    pub(crate) database: DatabaseId,
    /// The oldest LSN from which there is no gap up to `end`.
    pub(crate) begin: u64,
    /// The base of the segment from which the log is read.
    pub(crate) start: u64,
    /// The end of the last segment.
    pub(crate) end: u64,
}

/// Whether the log begins behind `position`: one in use by another process lets go of what nobody needs any more.
pub(crate) fn begins_behind(storage: &dyn Storage, position: u64) -> Result<bool, Error> {
    match Segments::find(storage) {
        Ok(segments) => Ok(segments.is_some_and(|segments| segments.begin > position)),
        Err(Error::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A segment file: its base by its name, and its size.
pub(crate) type Found = (u64, u64);

impl Segments {
    /// All that is there, read from the oldest one on. `None` when there is no segment at all.
    pub(crate) fn find(storage: &dyn Storage) -> Result<Option<Self>, Error> {
        loop {
            let found = list(storage)?;
            let Some(&(oldest, _)) = found.first() else {
                return Ok(None);
            };
            let error = match Self::from_oldest(storage, oldest, &found) {
                Ok(segments) => return Ok(Some(segments)),
                Err(error) => error,
            };
            // A log in use may have let it go since it was listed: then it is not listed any more.
            if list(storage)?.first().is_none_or(|(first, _)| *first == oldest) {
                return Err(error);
            }
        }
    }

    /// Those with a base in this range, which begins with one of them; whatever else is there is not looked at. `None` when there
    /// is none.
    pub(crate) fn find_within(storage: &dyn Storage, bases: Range<u64>) -> Result<Option<Self>, Error> {
        let mut found = list(storage)?;
        found.retain(|(base, _)| bases.contains(base));
        match found.first() {
            None => Ok(None),
            Some(&(oldest, _)) if oldest == bases.start => {
                Self::from_oldest(storage, oldest, &found).map(Some)
            }
            Some(_) => Err(damaged(storage, bases.start, Flaw::MissingSegment)),
        }
    }

    fn from_oldest(storage: &dyn Storage, oldest: u64, found: &[Found]) -> Result<Self, Error> {
        match believed_header(storage, oldest)? {
            Ok(header) => Self::from(storage, found, &header),
            Err(flaw) => Err(damaged(storage, oldest, flaw)),
        }
    }

    /// To be read from the segment that holds `restart`; `None` when there is no segment at all.
    ///
    /// When that segment was prepared and not entered, the log ends right before it and is read from the one before;
    /// so it is when its header is damaged, which is then judged from there.
    pub(crate) fn find_from(storage: &dyn Storage, restart: Lsn) -> Result<Option<Self>, Error> {
        let found = list(storage)?;
        let Some(&(oldest, _)) = found.first() else {
            return Ok(None);
        };
        let upto = found.partition_point(|(base, _)| *base <= restart.get());
        let mut nearest = None;
        for &(base, _) in found[..upto].iter().rev() {
            match believed_header(storage, base)? {
                Ok(header) => {
                    let segments = Self::from(storage, &found, &header);
                    return match (segments, nearest) {
                        // What lies between was not looked for: the nearest one should have been good.
                        (
                            Err(Error::Damaged {
                                flaw: Flaw::MissingSegment,
                                place,
                                ..
                            }),
                            Some((near, flaw)),
                        ) if place.lsn.get() < near => Err(damaged(storage, near, flaw)),
                        (segments, _) => segments.map(Some),
                    };
                }
                Err(flaw) => nearest = nearest.or(Some((base, flaw))),
            }
        }
        Err(match nearest {
            Some((near, flaw)) => damaged(storage, near, flaw),
            None => Error::BeginMissing {
                path: storage.path(""),
                begin: Lsn::new(oldest),
                restart,
            },
        })
    }

    /// Looks at names and sizes from the segment with this header on.
    fn from(storage: &dyn Storage, found: &[Found], header: &SegmentHeader) -> Result<Self, Error> {
        let start = header.base;
        let geometry = Geometry::new(header.segment_bytes)
            .ok_or_else(|| damaged(storage, start, Flaw::Length(header.segment_bytes)))?;
        if start == 0 && header.chain != genesis(&header.database) {
            return Err(damaged(storage, start, Flaw::ChainLink));
        }
        if let Some((base, _)) = found
            .iter()
            .find(|(base, _)| !base.is_multiple_of(geometry.segment_bytes()))
        {
            return Err(damaged(storage, *base, Flaw::FileName));
        }
        let (older, newer) = found.split_at(found.partition_point(|(base, _)| *base < start));
        let mut end = start;
        for &(base, bytes) in newer {
            if base != end {
                return Err(damaged(storage, end, Flaw::MissingSegment));
            }
            if bytes != geometry.segment_bytes() {
                let flaw = Flaw::FileSize {
                    found: bytes,
                    expected: geometry.segment_bytes(),
                };
                return Err(damaged(storage, base, flaw));
            }
            end = geometry.end(base);
        }
        let mut begin = start;
        for &(base, bytes) in older.iter().rev() {
            if geometry.end(base) != begin || bytes != geometry.segment_bytes() {
                break;
            }
            begin = base;
        }
        Ok(Self {
            geometry,
            database: header.database,
            begin,
            start,
            end,
        })
    }
}

/// All files of a folder, with their sizes.
pub(crate) fn files(storage: &dyn Storage) -> Result<Vec<(String, u64)>, Error> {
    storage
        .list()
        .map_err(|source| io_error(storage, "", "list", source))
}

pub(crate) fn remove(storage: &dyn Storage, name: &str) -> Result<(), Error> {
    storage
        .remove(name)
        .map_err(|source| io_error(storage, name, "remove", source))
}

/// The segment files of a folder, in their order.
pub(crate) fn list(storage: &dyn Storage) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for (name, bytes) in files(storage)? {
        if name.ends_with(".wal") {
            let base = segment_base(&name).ok_or_else(|| Error::Damaged {
                place: Place {
                    file: storage.path(&name),
                    offset: 0,
                    lsn: Lsn::ZERO,
                },
                flaw: Flaw::FileName,
                witness: None,
            })?;
            found.push((base, bytes));
        }
    }
    found.sort_unstable();
    Ok(found)
}

pub(crate) fn damaged(storage: &dyn Storage, base: u64, flaw: Flaw) -> Error {
    Error::Damaged {
        place: Place {
            file: storage.path(&segment_name(base)),
            offset: 0,
            lsn: Lsn::new(base),
        },
        flaw,
        witness: None,
    }
}

/// The header of the segment at `base`, or why it is none. Refuses a newer format.
pub(crate) fn believed_header(
    storage: &dyn Storage,
    base: u64,
) -> Result<Result<SegmentHeader, Flaw>, Error> {
    let name = segment_name(base);
    let file = storage
        .open(&name, Access::Sequential)
        .map_err(|source| io_error(storage, &name, "open", source))?;
    let mut block = Pool::new().block(WRITE_UNIT);
    let unit = &mut block.bytes_mut()[..WRITE_UNIT];
    let count = file
        .read_at(0, unit)
        .map_err(|source| io_error(storage, &name, "read", source))?;
    if count < WRITE_UNIT {
        return Ok(Err(Flaw::FileSize {
            found: count as u64,
            expected: UNIT,
        }));
    }
    match SegmentHeader::decode(unit) {
        Ok(header) if header.base != base => Ok(Err(Flaw::Misplaced(Lsn::new(header.base)))),
        Ok(header) => Ok(Ok(header)),
        Err(HeaderFlaw::Newer(version)) => Err(newer(storage, &name, version)),
        Err(HeaderFlaw::Bad(flaw)) => Ok(Err(flaw)),
    }
}
