//! The calendar, and dates and times as text (ISO). Years run from 1 to 262142, without a year 0 and without
//! infinities; days and microseconds count from 1970-01-01.

use crate::error::{Error, SqlState};
use crate::types::TimeZone;
use bytes::BufMut;

pub const SECONDS_PER_DAY: i64 = 86_400;
pub const MICROS_PER_SECOND: i64 = 1_000_000;
pub const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
pub const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
pub const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;

/// Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
pub const POSTGRES_EPOCH_DAYS: i32 = 10_957;
pub const POSTGRES_EPOCH_MICROS: i64 = POSTGRES_EPOCH_DAYS as i64 * MICROS_PER_DAY;

pub const YEAR_MAX: i32 = 262_142;
/// 0001-01-01.
pub const DATE_MIN: i32 = -719_162;
/// 262142-12-31.
pub const DATE_MAX: i32 = days_from_civil(YEAR_MAX, 12, 31);
pub const TIMESTAMP_MIN: i64 = DATE_MIN as i64 * MICROS_PER_DAY;
pub const TIMESTAMP_MAX: i64 = (DATE_MAX as i64 + 1) * MICROS_PER_DAY - 1;

/// Instants: a day less on both sides, since clocks differ by less than a day from UTC.
pub const INSTANT_MIN: i64 = TIMESTAMP_MIN + MICROS_PER_DAY;
pub const INSTANT_MAX: i64 = TIMESTAMP_MAX - MICROS_PER_DAY;

const _: () = assert!(days_from_civil(1, 1, 1) == DATE_MIN);
const _: () = assert!(days_from_civil(2000, 1, 1) == POSTGRES_EPOCH_DAYS);

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level
/// date algorithms").
pub const fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month as i32 + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day as i32 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// (year, month, day) of a number of days since 1970-01-01.
pub const fn civil_from_days(days: i32) -> (i32, u32, u32) {
    let shifted = days as i64 + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    } as u32;
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    (year as i32, month, day)
}

pub const fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub const fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Day of the week, Sunday = 0.
pub const fn day_of_week(days: i32) -> u32 {
    (days as i64 + 4).rem_euclid(7) as u32
}

/// Splits a timestamp into days and the microseconds of the day.
pub const fn split_timestamp(micros: i64) -> (i32, i64) {
    (
        micros.div_euclid(MICROS_PER_DAY) as i32,
        micros.rem_euclid(MICROS_PER_DAY),
    )
}

/// The date, when it is in range.
pub fn check_date(days: i64) -> Result<i32, Error> {
    if days < i64::from(DATE_MIN) || days > i64::from(DATE_MAX) {
        return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range"));
    }
    Ok(days as i32)
}

/// The instant, when it is in range by the clock of every time zone: what is stored can be printed, and read again.
pub fn check_instant(micros: Option<i64>) -> Result<i64, Error> {
    check_timestamp(micros.filter(|micros| (INSTANT_MIN..=INSTANT_MAX).contains(micros)))
}

/// The timestamp, when it is in range.
pub fn check_timestamp(micros: Option<i64>) -> Result<i64, Error> {
    match micros {
        Some(micros) if (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&micros) => Ok(micros),
        _ => Err(Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "timestamp out of range",
        )),
    }
}

fn put_two(value: u32, out: &mut impl BufMut) {
    out.put_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

pub fn write_date(days: i32, out: &mut impl BufMut) {
    let (year, month, day) = civil_from_days(days);
    if (0..10_000).contains(&year) {
        put_two(year as u32 / 100, out);
        put_two(year as u32 % 100, out);
    } else {
        super::text_out::write_integer(i64::from(year), out);
    }
    out.put_u8(b'-');
    put_two(month, out);
    out.put_u8(b'-');
    put_two(day, out);
}

/// `HH:MM:SS[.ffffff]` of microseconds since midnight, without trailing zeros.
pub fn write_time(micros: i64, out: &mut impl BufMut) {
    let seconds = (micros / MICROS_PER_SECOND) as u32;
    put_two(seconds / 3600, out);
    out.put_u8(b':');
    put_two(seconds / 60 % 60, out);
    out.put_u8(b':');
    put_two(seconds % 60, out);
    let mut fraction = (micros % MICROS_PER_SECOND) as u32;
    if fraction == 0 {
        return;
    }
    out.put_u8(b'.');
    let mut digits = [0u8; 6];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    let used = digits
        .iter()
        .rposition(|digit| *digit != b'0')
        .map_or(0, |last| last + 1);
    out.put_slice(&digits[..used]);
}

pub fn write_timestamp(micros: i64, out: &mut impl BufMut) {
    let (days, time) = split_timestamp(micros);
    write_date(days, out);
    out.put_u8(b' ');
    write_time(time, out);
}

pub fn write_timestamptz(micros: i64, zone: &TimeZone, out: &mut impl BufMut) {
    let offset = zone.offset_at(micros);
    write_timestamp(micros.saturating_add(i64::from(offset) * MICROS_PER_SECOND), out);
    write_offset(offset, out);
}

/// `+HH[:MM[:SS]]`.
fn write_offset(offset: i32, out: &mut impl BufMut) {
    out.put_u8(if offset < 0 { b'-' } else { b'+' });
    let magnitude = offset.unsigned_abs();
    put_two(magnitude / 3600, out);
    let (minutes, seconds) = (magnitude / 60 % 60, magnitude % 60);
    if minutes != 0 || seconds != 0 {
        out.put_u8(b':');
        put_two(minutes, out);
    }
    if seconds != 0 {
        out.put_u8(b':');
        put_two(seconds, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree_over_the_whole_range() {
        let mut days = DATE_MIN;
        while days <= DATE_MAX - 97 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!(day >= 1 && day <= days_in_month(year, month));
            days += 97;
        }
        assert_eq!(civil_from_days(DATE_MIN), (1, 1, 1));
        assert_eq!(civil_from_days(DATE_MAX), (YEAR_MAX, 12, 31));
        assert_eq!(day_of_week(0), 4, "1970-01-01 was a Thursday");
    }
}
