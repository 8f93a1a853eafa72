//! Intervals: months, days and microseconds, as constants that are added to dates and times. There are no columns
//! of this type.

use crate::error::{Error, SqlState};
use crate::types::TimeZone;
use crate::types::datetime::{
    MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, check_instant, check_timestamp,
    civil_from_days, days_from_civil, days_in_month, split_timestamp,
};

/// Months, days and microseconds stay apart: how long a month or a day is depends on where it is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

const DAYS_PER_MONTH: f64 = 30.0;

const SECONDS_PER_DAY: f64 = 86_400.0;

fn out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

/// To whole microseconds, of a number of days or seconds.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round_ties_even() / 1e6
}

impl Interval {
    /// Both, part by part.
    ///
    /// # Errors
    /// 22008 when a part is out of range; so do the operations below.
    pub fn plus(self, other: Interval) -> Result<Interval, Error> {
        let sum = || {
            Some(Interval {
                months: self.months.checked_add(other.months)?,
                days: self.days.checked_add(other.days)?,
                micros: self.micros.checked_add(other.micros)?,
            })
        };
        sum().ok_or_else(out_of_range)
    }

    /// Fractions of months become days, fractions of days time, as PostgreSQL's `interval_mul` has it.
    pub fn times(self, factor: f64) -> Result<Interval, Error> {
        self.scaled(|part| part * factor)
    }

    /// As [`Interval::times`].
    ///
    /// # Errors
    /// 22012 for a divisor of zero.
    pub fn divided_by(self, divisor: f64) -> Result<Interval, Error> {
        if divisor == 0.0 {
            return Err(super::arithmetic::division_by_zero());
        }
        self.scaled(|part| part / divisor)
    }

    fn scaled(self, scale: impl Fn(f64) -> f64) -> Result<Interval, Error> {
        let (exact_months, exact_days) = (scale(self.months.into()), scale(self.days.into()));
        let months = checked_i32(exact_months).ok_or_else(out_of_range)?;
        let mut days = checked_i32(exact_days).ok_or_else(out_of_range)?;
        let days_of_months = rounded((exact_months - f64::from(months)) * DAYS_PER_MONTH);
        let days_left = exact_days - f64::from(days) + days_of_months - days_of_months.trunc();
        let mut seconds = rounded(days_left * SECONDS_PER_DAY);
        let mut more_days = 0;
        if seconds.abs() >= SECONDS_PER_DAY {
            more_days = (seconds / SECONDS_PER_DAY) as i32;
            seconds -= f64::from(more_days) * SECONDS_PER_DAY;
        }
        for more in [more_days, days_of_months as i32] {
            days = days.checked_add(more).ok_or_else(out_of_range)?;
        }
        let micros = (scale(self.micros as f64) + seconds * MICROS_PER_SECOND as f64).round_ties_even();
        let micros = checked_i64(micros).ok_or_else(out_of_range)?;
        Ok(Interval { months, days, micros })
    }

    /// What intervals are compared by: microseconds, of 30 days to the month and 24 hours to the day.
    pub fn span(self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(MICROS_PER_DAY) + i128::from(self.micros)
    }

    /// `age` of two local timestamps: years, months and days by the calendar, then time.
    pub fn age(of: i64, since: i64) -> Interval {
        let (later, earlier) = if of < since { (since, of) } else { (of, since) };
        let (later_days, later_time) = split_timestamp(later);
        let (earlier_days, earlier_time) = split_timestamp(earlier);
        let (year, month, day) = civil_from_days(later_days);
        let (earlier_year, earlier_month, earlier_day) = civil_from_days(earlier_days);
        let mut micros = later_time - earlier_time;
        let mut days = day as i32 - earlier_day as i32;
        let mut months = (year - earlier_year) * 12 + month as i32 - earlier_month as i32;
        if micros < 0 {
            micros += MICROS_PER_DAY;
            days -= 1;
        }
        while days < 0 {
            days += days_in_month(earlier_year, earlier_month) as i32;
            months -= 1;
        }
        let sign = if of < since { -1 } else { 1 };
        Interval {
            months: months * sign,
            days: days * sign,
            micros: micros * i64::from(sign),
        }
    }

    pub fn negate(self) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }

    /// Reads `1 year 2 months 3 days 04:05:06.7`, `3 days ago`, or a number with the unit of an
    /// `INTERVAL '…' unit` literal. ISO 8601 durations are not read.
    pub fn parse(text: &str, unit: Option<&str>) -> Result<Interval, Error> {
        parse(text, unit).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type interval: \"{text}\""),
            )
        })
    }

    fn add_unit(&mut self, number: f64, unit: &str) -> Option<()> {
        let unit = unit.trim_end_matches('.');
        let (months, days, micros) = match unit {
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" => (0.0, 0.0, number),
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => (0.0, 0.0, number * 1000.0),
            "second" | "seconds" | "sec" | "secs" | "s" => (0.0, 0.0, number * MICROS_PER_SECOND as f64),
            "minute" | "minutes" | "min" | "mins" | "m" => (0.0, 0.0, number * MICROS_PER_MINUTE as f64),
            "hour" | "hours" | "hr" | "hrs" | "h" => (0.0, 0.0, number * MICROS_PER_HOUR as f64),
            "day" | "days" | "d" => (0.0, number, 0.0),
            "week" | "weeks" | "w" => (0.0, number * 7.0, 0.0),
            "month" | "months" | "mon" | "mons" => (number, 0.0, 0.0),
            "quarter" | "quarters" => (number * 3.0, 0.0, 0.0),
            "year" | "years" | "yr" | "yrs" | "y" => (number * 12.0, 0.0, 0.0),
            "decade" | "decades" => (number * 120.0, 0.0, 0.0),
            "century" | "centuries" => (number * 1200.0, 0.0, 0.0),
            _ => return None,
        };
        // Parts of a month become days of 30 to the month, parts of a day become time.
        let year_unit = unit.starts_with('y') || unit.starts_with("dec") || unit.starts_with("cent");
        let whole_months = if year_unit { months.round() } else { months.trunc() };
        let days = days
            + if year_unit {
                0.0
            } else {
                (months - whole_months) * DAYS_PER_MONTH
            };
        let micros = micros + (days - days.trunc()) * MICROS_PER_DAY as f64;
        self.months = self.months.checked_add(checked_i32(whole_months)?)?;
        self.days = self.days.checked_add(checked_i32(days.trunc())?)?;
        self.micros = self.micros.checked_add(checked_i64(micros.round())?)?;
        Some(())
    }
}

fn checked_i32(value: f64) -> Option<i32> {
    (value.abs() < f64::from(i32::MAX)).then_some(value as i32)
}

fn checked_i64(value: f64) -> Option<i64> {
    (value.abs() < 9.2e18).then_some(value as i64)
}

fn parse(text: &str, unit: Option<&str>) -> Option<Interval> {
    let lower = text.to_ascii_lowercase();
    let mut interval = Interval::default();
    let mut rest = lower.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if rest == "ago" {
            return interval.negate();
        }
        let number_end = rest
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | ':')))
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        if number.contains(':') {
            interval.micros = interval.micros.checked_add(parse_clock(number)?)?;
            rest = after.trim_start();
            continue;
        }
        let number: f64 = number.parse().ok()?;
        let after = after.trim_start();
        let unit_end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (word, after) = after.split_at(unit_end);
        if word.is_empty() || word == "ago" {
            // A number alone counts in the literal's unit, else in seconds.
            interval.add_unit(number, unit.unwrap_or("second"))?;
            if word == "ago" {
                return if after.trim().is_empty() {
                    interval.negate()
                } else {
                    None
                };
            }
        } else {
            interval.add_unit(number, word)?;
        }
        rest = after.trim_start();
    }
    Some(interval)
}

fn parse_clock(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().map_or(Some(0.0), |part| part.parse().ok())?;
    if parts.next().is_some() || !(0..60).contains(&minutes) || !(0.0..60.0).contains(&seconds) || hours < 0 {
        return None;
    }
    let micros = (seconds * MICROS_PER_SECOND as f64).round() as i64;
    let total = hours
        .checked_mul(MICROS_PER_HOUR)?
        .checked_add(minutes * MICROS_PER_MINUTE + micros)?;
    Some(sign * total)
}

/// A local timestamp and an interval: months first (the day is cut to the month's last), then days, then time.
pub(super) fn add_to_timestamp(micros: i64, interval: Interval) -> Result<i64, Error> {
    let date = add_calendar(micros, interval);
    check_timestamp(date.and_then(|micros| micros.checked_add(interval.micros)))
}

fn add_calendar(micros: i64, interval: Interval) -> Option<i64> {
    let (mut days, time) = split_timestamp(micros);
    if interval.months != 0 {
        let (year, month, day) = civil_from_days(days);
        let months = i64::from(year) * 12 + i64::from(month) - 1 + i64::from(interval.months);
        let year = i32::try_from(months.div_euclid(12)).ok()?;
        let month = months.rem_euclid(12) as u32 + 1;
        if !(-4800..=6_000_000).contains(&year) {
            return None;
        }
        days = days_from_civil(year, month, day.min(days_in_month(year, month)));
    }
    let days = i64::from(days) + i64::from(interval.days);
    days.checked_mul(MICROS_PER_DAY)?.checked_add(time)
}

/// An instant and an interval: months and days by the clock of the session's zone.
pub fn add_to_instant(instant: i64, interval: Interval, zone: &TimeZone) -> Result<i64, Error> {
    if interval.months == 0 && interval.days == 0 {
        return check_instant(instant.checked_add(interval.micros));
    }
    let moved = check_timestamp(add_calendar(zone.to_local(instant), interval))?;
    check_instant(zone.to_utc(moved).checked_add(interval.micros))
}

/// A time of day and the time part of an interval, around midnight.
pub(super) fn add_to_time(micros: i64, interval: Interval) -> i64 {
    (micros + interval.micros.rem_euclid(MICROS_PER_DAY)).rem_euclid(MICROS_PER_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_postgresql_reads_them() {
        let interval = |months, days, micros| Ok(Interval { months, days, micros });
        for (text, unit, expected) in [
            ("1 day", None, interval(0, 1, 0)),
            ("90", Some("day"), interval(0, 90, 0)),
            ("3", Some("month"), interval(3, 0, 0)),
            (
                "1 year 2 mons 3 days 04:05:06.5",
                None,
                interval(14, 3, 14_706_500_000),
            ),
            ("1.5 days", None, interval(0, 1, 43_200_000_000)),
            ("1.5 months", None, interval(1, 15, 0)),
            ("1.5 years", None, interval(18, 0, 0)),
            ("2 weeks ago", None, interval(0, -14, 0)),
            ("-1 hour", None, interval(0, 0, -3_600_000_000)),
            ("10", None, interval(0, 0, 10_000_000)),
        ] {
            assert_eq!(Interval::parse(text, unit), expected, "{text}");
        }
        for text in ["", "abc", "1 fortnight", "1:2:3:4", "99999999999 years"] {
            assert!(Interval::parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_part_of_a_month_is_days_and_a_part_of_a_day_is_time() {
        let hour = MICROS_PER_HOUR;
        let interval = |months, days, micros| Interval { months, days, micros };
        for (of, factor, expected) in [
            (interval(0, 1, 0), 2.0, interval(0, 2, 0)),
            (interval(1, 1, 0), 1.5, interval(1, 16, 12 * hour)),
            (interval(-1, 0, 0), 0.3, interval(0, -9, 0)),
            (interval(0, 1, hour), -2.5, interval(0, -2, -14 * hour - hour / 2)),
            (interval(1, 0, 0), 1.1, interval(1, 3, 0)),
        ] {
            assert_eq!(of.times(factor), Ok(expected), "{of:?} * {factor}");
        }
        assert_eq!(interval(14, 0, 0).divided_by(5.0), Ok(interval(2, 24, 0)));
        assert_eq!(
            interval(120, 0, 0).divided_by(7.0),
            Ok(interval(17, 4, 24_685_689_600))
        );
        let refused = |result: Result<Interval, Error>| result.map_err(|error| error.code);
        let day = interval(0, 1, 0);
        assert_eq!(refused(day.divided_by(0.0)), Err(SqlState::DIVISION_BY_ZERO));
        assert_eq!(
            refused(day.times(f64::NAN)),
            Err(SqlState::DATETIME_FIELD_OVERFLOW)
        );
        assert_eq!(refused(day.times(1e10)), Err(SqlState::DATETIME_FIELD_OVERFLOW));
    }

    #[test]
    fn an_age_is_counted_by_the_calendar() {
        let day = |year, month, day| i64::from(days_from_civil(year, month, day)) * MICROS_PER_DAY;
        let interval = |months, days, micros| Interval { months, days, micros };
        let (march, february) = (day(2024, 3, 31), day(2024, 2, 29));
        assert_eq!(Interval::age(march, february), interval(1, 2, 0));
        assert_eq!(Interval::age(february, march), interval(-1, -2, 0));
        let (of, since) = (
            day(2024, 3, 1) + MICROS_PER_HOUR,
            day(2024, 1, 31) + 2 * MICROS_PER_HOUR,
        );
        assert_eq!(Interval::age(of, since), interval(1, 0, 23 * MICROS_PER_HOUR));
    }

    #[test]
    fn the_last_of_a_month_stays_in_the_month() {
        let day = |year, month, day| i64::from(days_from_civil(year, month, day)) * MICROS_PER_DAY;
        let month = Interval {
            months: 1,
            days: 0,
            micros: 0,
        };
        assert_eq!(add_to_timestamp(day(2024, 1, 31), month), Ok(day(2024, 2, 29)));
        assert_eq!(add_to_timestamp(day(2023, 12, 31), month), Ok(day(2024, 1, 31)));
    }

    #[test]
    fn a_day_of_a_zone_may_have_23_hours() {
        let berlin = TimeZone::parse("Europe/Berlin").expect("a zone");
        let before =
            berlin.to_utc(i64::from(days_from_civil(2024, 3, 30)) * MICROS_PER_DAY + 12 * MICROS_PER_HOUR);
        let day = Interval {
            months: 0,
            days: 1,
            micros: 0,
        };
        assert_eq!(
            add_to_instant(before, day, &berlin).map(|after| after - before),
            Ok(23 * MICROS_PER_HOUR)
        );
    }
}
