//! The session's time zone: how far local time is from UTC at an instant, and what instant a local time means.

use crate::error::{Error, SqlState};
use crate::types::datetime::{MICROS_PER_DAY, MICROS_PER_SECOND, SECONDS_PER_DAY};
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone as _};
use chrono_tz::{OffsetName, TZ_VARIANTS, Tz};

/// PostgreSQL refuses displacements of 16 hours and more.
pub(super) const DISPLACEMENT_SECONDS_MAX: i32 = 16 * 3600 - 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZone {
    name: Box<str>,
    rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Seconds east of UTC, always.
    Fixed(i32),
    Named(Tz),
}

impl TimeZone {
    pub fn utc() -> TimeZone {
        TimeZone {
            name: "UTC".into(),
            rule: Rule::Fixed(0),
        }
    }

    /// What `SET TIME ZONE` takes: a name of the time zone database in any case, a number of hours east of
    /// UTC, or a POSIX name such as `GMT-5:30`, whose displacement counts west.
    pub fn parse(text: &str) -> Result<TimeZone, Error> {
        let trimmed = text.trim();
        TimeZone::named(trimmed)
            .or_else(|| TimeZone::hours(trimmed))
            .or_else(|| TimeZone::posix(trimmed))
            .ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid value for parameter \"TimeZone\": \"{text}\""),
                )
            })
    }

    /// A zone of the time zone database.
    pub fn named(name: &str) -> Option<TimeZone> {
        for utc in ["UTC", "GMT"] {
            if name.eq_ignore_ascii_case(utc) {
                return Some(TimeZone {
                    name: utc.into(),
                    rule: Rule::Fixed(0),
                });
            }
        }
        let zone = name.parse::<Tz>().ok().or_else(|| {
            TZ_VARIANTS
                .iter()
                .find(|zone| zone.name().eq_ignore_ascii_case(name))
                .copied()
        })?;
        Some(TimeZone {
            name: zone.name().into(),
            rule: Rule::Named(zone),
        })
    }

    /// A fixed displacement, in seconds east of UTC.
    pub fn fixed(seconds: i32) -> TimeZone {
        let magnitude = seconds.unsigned_abs();
        let (hours, minutes) = (magnitude / 3600, magnitude / 60 % 60);
        let mut clock = format!("{hours:02}");
        if minutes != 0 {
            clock.push_str(&format!(":{minutes:02}"));
        }
        // As PostgreSQL names it: the displacement for people, then the POSIX one with its sign turned.
        let (east, west) = if seconds < 0 { ('-', '+') } else { ('+', '-') };
        TimeZone {
            name: format!("<{east}{clock}>{west}{clock}").into(),
            rule: Rule::Fixed(seconds),
        }
    }

    fn hours(text: &str) -> Option<TimeZone> {
        let hours: f64 = text.parse().ok()?;
        let seconds = (hours * 3600.0).round();
        (seconds.abs() <= f64::from(DISPLACEMENT_SECONDS_MAX)).then(|| TimeZone::fixed(seconds as i32))
    }

    fn posix(text: &str) -> Option<TimeZone> {
        let split = text.find(['+', '-'])?;
        let (letters, displacement) = text.split_at(split);
        if letters.len() < 3 || !letters.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return None;
        }
        let seconds = parse_displacement(displacement.as_bytes())?;
        Some(TimeZone {
            name: text.into(),
            rule: Rule::Fixed(-seconds),
        })
    }

    /// As `SHOW timezone` prints it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_utc(&self) -> bool {
        self.rule == Rule::Fixed(0)
    }

    /// Seconds east of UTC at an instant, in microseconds since 1970-01-01 UTC.
    #[inline]
    pub fn offset_at(&self, instant: i64) -> i32 {
        match self.rule {
            Rule::Fixed(seconds) => seconds,
            Rule::Named(zone) => match naive(instant) {
                Some(utc) => zone.offset_from_utc_datetime(&utc).fix().local_minus_utc(),
                None => 0,
            },
        }
    }

    /// Seconds east of UTC at a local time. A time that occurs twice is taken as the later one, a time that
    /// was skipped by the clock of before: as PostgreSQL decides.
    pub fn offset_of_local(&self, local: i64) -> i32 {
        let zone = match self.rule {
            Rule::Fixed(seconds) => return seconds,
            Rule::Named(zone) => zone,
        };
        let Some(time) = naive(local) else { return 0 };
        match zone.offset_from_local_datetime(&time) {
            MappedLocalTime::Single(offset) => offset.fix().local_minus_utc(),
            MappedLocalTime::Ambiguous(_, later) => later.fix().local_minus_utc(),
            MappedLocalTime::None => self.offset_at(local.saturating_sub(MICROS_PER_DAY)),
        }
    }

    /// The instant that a local time means.
    pub fn to_utc(&self, local: i64) -> i64 {
        local.saturating_sub(i64::from(self.offset_of_local(local)) * MICROS_PER_SECOND)
    }

    /// The local time at an instant.
    pub fn to_local(&self, instant: i64) -> i64 {
        instant.saturating_add(i64::from(self.offset_at(instant)) * MICROS_PER_SECOND)
    }

    /// The zone's abbreviation at an instant, where it has one.
    pub fn abbreviation(&self, instant: i64) -> String {
        let named = match self.rule {
            Rule::Fixed(0) => return "UTC".to_owned(),
            Rule::Fixed(_) => None,
            Rule::Named(zone) => naive(instant).and_then(|utc| {
                zone.offset_from_utc_datetime(&utc)
                    .abbreviation()
                    .map(str::to_owned)
            }),
        };
        named.unwrap_or_else(|| self.name.to_string())
    }
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|time| time.naive_utc())
}

/// `±HH`, `±HHMM`, `±HH:MM`, `±HH:MM:SS`, in seconds.
pub(super) fn parse_displacement(text: &[u8]) -> Option<i32> {
    let (sign, rest) = match text.split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let number = |digits: &[u8]| -> Option<i32> {
        if digits.is_empty() || digits.len() > 2 {
            return None;
        }
        digits.iter().try_fold(0, |value, digit| {
            digit
                .is_ascii_digit()
                .then(|| value * 10 + i32::from(digit - b'0'))
        })
    };
    let mut parts = [0; 3];
    if rest.contains(&b':') {
        let mut pieces = rest.split(|byte| *byte == b':');
        for part in &mut parts {
            match pieces.next() {
                Some(piece) => *part = number(piece)?,
                None => break,
            }
        }
        if pieces.next().is_some() {
            return None;
        }
    } else {
        let hour_digits = match rest.len() {
            1 | 2 => rest.len(),
            3 | 4 => rest.len() - 2,
            6 => 2,
            _ => return None,
        };
        for (index, part) in parts.iter_mut().enumerate() {
            let start = if index == 0 {
                0
            } else {
                hour_digits + 2 * (index - 1)
            };
            let end = if index == 0 { hour_digits } else { start + 2 };
            match rest.get(start..end) {
                Some(digits) => *part = number(digits)?,
                None => break,
            }
        }
    }
    let [hours, minutes, seconds] = parts;
    (minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

const _: () = assert!((DISPLACEMENT_SECONDS_MAX as i64) < SECONDS_PER_DAY);
