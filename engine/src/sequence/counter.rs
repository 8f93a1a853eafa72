//! A counter of numbers, shared by all sessions.
//!
//! Before numbers are handed out, a record in the log reserves a batch of them ([`RESERVED`], as PostgreSQL's `SEQ_LOG_VALS`, and what the
//! sequence's CACHE adds): it says that the counter may have come as far as the last one of the batch. So most draws only move a number in
//! memory under a short lock, and one in many takes the log's lock. A restart goes on behind what the log says.
//!
//! Nobody waits for the record. It stands in the log before any commit that has one of its numbers, so no such commit is durable
//! without it; and an answer that tells of a number waits for the record's LSN, as it waits for the commits that it has read.
//!
//! Invariants:
//! - between `last` and the position in the log lie `left` numbers, `step` apart: nothing beyond is ever handed out;
//! - `logged` is what a replay of the log up to now would find: it changes inside of the log's append lock alone;
//! - locks are taken in this order: `now`, the log's, `logged`.

use super::{SequenceDef, SequenceOptions};
use crate::error::Error;
use parking_lot::Mutex;
use scry_wal::record::encode_sequence;
use scry_wal::{Log, Lsn, SequencePosition, StoreId};

/// Numbers that one record of the log reserves beyond the one that is drawn.
const RESERVED: u64 = 32;

/// The most that CACHE adds to that: what a crash may lose.
const CACHE_MAX: u64 = 1 << 20;

#[derive(Debug)]
struct Now {
    last: i64,
    is_called: bool,
    /// Reserved numbers that were not handed out, and how far they are apart.
    left: u64,
    step: i64,
    /// Where the reserving record stands.
    lsn: Lsn,
}

impl Now {
    /// At a position behind which nothing is reserved.
    fn at(position: SequencePosition) -> Now {
        Now {
            last: position.last,
            is_called: position.is_called,
            left: 0,
            step: 0,
            lsn: Lsn::ZERO,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Counter {
    store: StoreId,
    now: Mutex<Now>,
    logged: Mutex<SequencePosition>,
}

impl SequenceOptions {
    /// The number behind `last`, or `last` when it was not drawn; begins again where that is allowed.
    fn after(&self, last: i64, is_called: bool) -> Result<i64, Limit> {
        let next = match is_called {
            false => Some(last),
            true => last.checked_add(self.increment),
        };
        let (min, max, rises) = (self.min, self.max, self.increment > 0);
        match next {
            // Bounds that were drawn closer meanwhile.
            Some(next) if next < min && rises => Ok(min),
            Some(next) if next > max && !rises => Ok(max),
            Some(next) if (min..=max).contains(&next) => Ok(next),
            _ if self.cycle => Ok(if rises { min } else { max }),
            _ => Err(Limit(rises)),
        }
    }

    /// How many numbers follow `first` without beginning again, at most `count`, and the last one of them.
    fn ahead(&self, first: i64, count: u64) -> (u64, i64) {
        let room = match self.increment > 0 {
            true => self.max.abs_diff(first),
            false => first.abs_diff(self.min),
        };
        let left = count.min(room / self.increment.unsigned_abs());
        let way = i128::from(self.increment) * i128::from(left);
        let last = i64::try_from(i128::from(first) + way);
        (left, last.expect("between the bounds"))
    }
}

/// There is no next number: beyond the greatest, or else the least one.
#[derive(Debug, PartialEq, Eq)]
struct Limit(bool);

impl Counter {
    /// A counter whose first number is `first`.
    pub(crate) fn new(store: StoreId, first: i64) -> Counter {
        let position = SequencePosition {
            store,
            last: first,
            is_called: false,
        };
        Counter {
            store,
            now: Mutex::new(Now::at(position)),
            logged: Mutex::new(position),
        }
    }

    /// Goes on at a position that the log or a checkpoint has.
    pub(crate) fn restore(&self, position: SequencePosition) {
        *self.now.lock() = Now::at(position);
        *self.logged.lock() = position;
    }

    pub(crate) fn logged(&self) -> SequencePosition {
        *self.logged.lock()
    }

    pub(crate) fn now(&self) -> (i64, bool) {
        let now = self.now.lock();
        (now.last, now.is_called)
    }

    pub(crate) fn next(&self, def: &SequenceDef, log: &Log) -> Result<(i64, Lsn), Error> {
        let options = &def.options;
        let mut now = self.now.lock();
        let next = options.after(now.last, now.is_called);
        let next = next.map_err(|Limit(greatest)| Error::SequenceLimit {
            sequence: def.name.clone(),
            greatest,
            limit: if greatest { options.max } else { options.min },
        })?;
        let is_reserved =
            now.left > 0 && now.step == options.increment && now.last.checked_add(now.step) == Some(next);
        now.left = match is_reserved {
            true => now.left - 1,
            false => {
                let cached = options.cache.unsigned_abs().min(CACHE_MAX) - 1;
                let (left, last) = options.ahead(next, RESERVED + cached);
                now.lsn = self.log(log, last, true)?;
                now.step = options.increment;
                left
            }
        };
        (now.last, now.is_called) = (next, true);
        Ok((next, now.lsn))
    }

    pub(crate) fn set(
        &self,
        def: &SequenceDef,
        log: &Log,
        value: i64,
        is_called: bool,
    ) -> Result<Lsn, Error> {
        let (min, max) = (def.options.min, def.options.max);
        if !(min..=max).contains(&value) {
            return Err(Error::SequenceValue {
                sequence: def.name.clone(),
                value,
                min,
                max,
            });
        }
        let mut now = self.now.lock();
        now.lsn = self.log(log, value, is_called)?;
        (now.last, now.is_called, now.left) = (value, is_called, 0);
        Ok(now.lsn)
    }

    /// Logs how far the counter is, when the log says more.
    pub(crate) fn give_back(&self, log: &Log) -> Result<(), Error> {
        let mut now = self.now.lock();
        if now.left > 0 {
            now.lsn = self.log(log, now.last, now.is_called)?;
            now.left = 0;
        }
        Ok(())
    }

    fn log(&self, log: &Log, last: i64, is_called: bool) -> Result<Lsn, Error> {
        let position = SequencePosition {
            store: self.store,
            last,
            is_called,
        };
        let mut record = Vec::with_capacity(32);
        encode_sequence(&mut record, &position);
        let mut appender = log.lock()?;
        let lsn = appender.reserve(record.len())?;
        appender.put(&record, 1, false);
        *self.logged.lock() = position;
        Ok(lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DataType;

    fn options(increment: i64, min: i64, max: i64, cycle: bool) -> SequenceOptions {
        SequenceOptions {
            ty: DataType::Int8,
            start: min,
            increment,
            min,
            max,
            cache: 1,
            cycle,
        }
    }

    #[test]
    fn numbers_end_at_the_bounds_or_begin_again() {
        let up = options(3, 1, 10, false);
        assert_eq!(up.after(1, false), Ok(1));
        assert_eq!(up.after(7, true), Ok(10));
        assert_eq!(up.after(10, true), Err(Limit(true)));
        assert_eq!(options(3, 1, 10, true).after(10, true), Ok(1));
        let down = options(-4, -9, -1, false);
        assert_eq!(down.after(-1, true), Ok(-5));
        assert_eq!(down.after(-9, true), Err(Limit(false)));
        assert_eq!(options(-4, -9, -1, true).after(-9, true), Ok(-1));
        let widest = options(1, i64::MIN, i64::MAX, false);
        assert_eq!(widest.after(i64::MAX, true), Err(Limit(true)));
        assert_eq!(
            options(i64::MIN, i64::MIN, i64::MAX, true).after(-1, true),
            Ok(i64::MAX)
        );
        // Bounds that have moved past the last number.
        assert_eq!(options(1, 100, 200, false).after(5, true), Ok(100));
        assert_eq!(options(-1, 1, 5, false).after(50, true), Ok(5));
        assert_eq!(up.after(50, false), Err(Limit(true)));
    }

    #[test]
    fn a_reservation_ends_at_the_bound() {
        assert_eq!(options(1, 1, 1000, false).ahead(1, 32), (32, 33));
        assert_eq!(options(3, 1, 10, true).ahead(4, 32), (2, 10));
        assert_eq!(options(-4, -9, -1, false).ahead(-1, 32), (2, -9));
        assert_eq!(
            options(1, i64::MIN, i64::MAX, false).ahead(i64::MIN, 32),
            (32, i64::MIN + 32)
        );
        let far = options(i64::MAX, i64::MIN, i64::MAX, false);
        assert_eq!(far.ahead(i64::MIN, 32), (2, i64::MAX - 1));
    }
}
