//! EXTRACT, date_part and date_trunc.

use super::Facts;
use crate::error::{Error, SqlState};
use crate::types::datetime::{
    MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, check_instant, check_timestamp,
    civil_from_days, day_of_week, days_from_civil, split_timestamp,
};
use scry_engine::types::{Datum, Numeric, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    IsoYear,
    Julian,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Field {
    pub fn parse(name: &str) -> Option<Field> {
        Some(match name.to_ascii_lowercase().as_str() {
            "microsecond" | "microseconds" | "us" | "usec" => Field::Microseconds,
            "millisecond" | "milliseconds" | "ms" | "msec" => Field::Milliseconds,
            "second" | "seconds" | "sec" | "s" => Field::Second,
            "minute" | "minutes" | "min" | "m" => Field::Minute,
            "hour" | "hours" | "hr" | "h" => Field::Hour,
            "day" | "days" | "d" => Field::Day,
            "week" | "weeks" | "w" => Field::Week,
            "month" | "months" | "mon" | "mons" => Field::Month,
            "quarter" | "qtr" => Field::Quarter,
            "year" | "years" | "y" | "yr" => Field::Year,
            "decade" | "decades" => Field::Decade,
            "century" | "centuries" => Field::Century,
            "millennium" | "millennia" => Field::Millennium,
            "dow" => Field::DayOfWeek,
            "isodow" => Field::IsoDayOfWeek,
            "doy" => Field::DayOfYear,
            "isoyear" => Field::IsoYear,
            "julian" => Field::Julian,
            "epoch" => Field::Epoch,
            "timezone" => Field::Timezone,
            "timezone_hour" => Field::TimezoneHour,
            "timezone_minute" => Field::TimezoneMinute,
            _ => return None,
        })
    }

    fn of_time(self) -> bool {
        matches!(
            self,
            Field::Microseconds
                | Field::Milliseconds
                | Field::Second
                | Field::Minute
                | Field::Hour
                | Field::Epoch
        )
    }
}

fn not_supported(name: &str, ty: &str) -> Error {
    Error::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unit \"{name}\" not supported for type {ty}"),
    )
}

pub(super) fn unknown_field(name: &str, ty: &str) -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unit \"{name}\" not recognized for type {ty}"),
    )
}

/// The Monday of the week 1 of the ISO year in which `days` lies, and that year.
fn iso_year_start(days: i32) -> (i32, i32) {
    let (year, _, _) = civil_from_days(days);
    let start_of = |year: i32| {
        let fourth = days_from_civil(year, 1, 4);
        fourth - (day_of_week(fourth) as i32 + 6) % 7
    };
    if days >= start_of(year + 1) {
        (start_of(year + 1), year + 1)
    } else if days >= start_of(year) {
        (start_of(year), year)
    } else {
        (start_of(year - 1), year - 1)
    }
}

fn exact(mantissa: i128, scale: u8) -> Result<Numeric, Error> {
    Numeric::new(mantissa, scale).map_err(Error::from)
}

/// The field of a date, time or timestamp as EXTRACT gives it.
pub(super) fn extract(field: Field, name: &str, datum: Datum<'_>, facts: &Facts<'_>) -> Result<Value, Error> {
    let (local, instant, ty) = match datum {
        Datum::Null => return Ok(Value::Null),
        Datum::Date(days) if field.of_time() && field != Field::Epoch => {
            let _ = days;
            return Err(not_supported(name, "date"));
        }
        Datum::Date(days) => (
            i64::from(days) * MICROS_PER_DAY,
            i64::from(days) * MICROS_PER_DAY,
            "date",
        ),
        Datum::Timestamp(micros) => (micros, micros, "timestamp without time zone"),
        Datum::TimestampTz(instant) => (facts.zone.to_local(instant), instant, "timestamp with time zone"),
        Datum::Time(micros) if field.of_time() => (micros, micros, "time without time zone"),
        Datum::Time(_) => return Err(not_supported(name, "time without time zone")),
        _ => return Err(Error::internal("a field of no date or time was bound")),
    };
    let (days, time) = if let Datum::Time(micros) = datum {
        (0, micros)
    } else {
        split_timestamp(local)
    };
    let (year, month, day) = civil_from_days(days);
    let second_micros = time % MICROS_PER_MINUTE;
    let integer = |value: i64| Ok(Value::Numeric(Numeric::from_i64(value)));
    let offset = || match datum {
        Datum::TimestampTz(instant) => Ok(i64::from(facts.zone.offset_at(instant))),
        _ => Err(not_supported(name, ty)),
    };
    match field {
        Field::Microseconds => integer(second_micros),
        Field::Milliseconds => exact(i128::from(second_micros), 3).map(Value::Numeric),
        Field::Second => exact(i128::from(second_micros), 6).map(Value::Numeric),
        Field::Minute => integer(time / MICROS_PER_MINUTE % 60),
        Field::Hour => integer(time / MICROS_PER_HOUR),
        Field::Day => integer(day.into()),
        Field::Week => integer(((days - iso_year_start(days).0) / 7 + 1).into()),
        Field::Month => integer(month.into()),
        Field::Quarter => integer(((month - 1) / 3 + 1).into()),
        Field::Year => integer(year.into()),
        Field::Decade => integer((year / 10).into()),
        Field::Century => integer(((year + 99) / 100).into()),
        Field::Millennium => integer(((year + 999) / 1000).into()),
        Field::DayOfWeek => integer(day_of_week(days).into()),
        Field::IsoDayOfWeek => integer(((day_of_week(days) + 6) % 7 + 1).into()),
        Field::DayOfYear => integer((days - days_from_civil(year, 1, 1) + 1).into()),
        Field::IsoYear => integer(iso_year_start(days).1.into()),
        // Days since 4714-11-24 BC, with the part of the day.
        Field::Julian => {
            let whole = Numeric::from_i64(i64::from(days) + 2_440_588);
            if time == 0 && !matches!(datum, Datum::Timestamp(_) | Datum::TimestampTz(_)) {
                return Ok(Value::Numeric(whole));
            }
            let part = Numeric::from_i64(time).divide(&Numeric::from_i64(MICROS_PER_DAY))?;
            Ok(Value::Numeric(whole.add(&part)?))
        }
        Field::Epoch => match datum {
            Datum::Date(_) => integer(instant / MICROS_PER_SECOND),
            _ => exact(i128::from(instant), 6).map(Value::Numeric),
        },
        Field::Timezone => integer(offset()?),
        Field::TimezoneHour => integer(offset()? / 3600),
        Field::TimezoneMinute => integer(offset()? / 60 % 60),
    }
}

/// date_part: the same as a double.
pub(super) fn date_part(
    field: Field,
    name: &str,
    datum: Datum<'_>,
    facts: &Facts<'_>,
) -> Result<Value, Error> {
    // Unlike EXTRACT, date_part of a date takes it as its midnight.
    let datum = match datum {
        Datum::Date(days) => Datum::Timestamp(i64::from(days) * MICROS_PER_DAY),
        other => other,
    };
    Ok(match extract(field, name, datum, facts)? {
        Value::Numeric(number) => Value::Float8(number.to_f64()),
        other => other,
    })
}

/// date_trunc of a timestamp (local) or timestamptz (by the session's zone).
pub(super) fn truncate(
    field: Field,
    name: &str,
    datum: Datum<'_>,
    facts: &Facts<'_>,
) -> Result<Value, Error> {
    match datum {
        Datum::Timestamp(micros) => {
            let cut = truncate_local(field, micros)
                .ok_or_else(|| not_supported(name, "timestamp without time zone"))?;
            check_timestamp(Some(cut)).map(Value::Timestamp)
        }
        Datum::TimestampTz(instant) => {
            let cut = truncate_local(field, facts.zone.to_local(instant))
                .ok_or_else(|| not_supported(name, "timestamp with time zone"))?;
            check_instant(Some(facts.zone.to_utc(cut))).map(Value::TimestampTz)
        }
        _ => Ok(Value::Null),
    }
}

fn truncate_local(field: Field, micros: i64) -> Option<i64> {
    let (days, _) = split_timestamp(micros);
    let (year, month, _) = civil_from_days(days);
    let midnight = |days: i32| i64::from(days) * MICROS_PER_DAY;
    let first_of = |year: i32| midnight(days_from_civil(year, 1, 1));
    Some(match field {
        Field::Microseconds => micros,
        Field::Milliseconds => micros - micros.rem_euclid(1000),
        Field::Second => micros - micros.rem_euclid(MICROS_PER_SECOND),
        Field::Minute => micros - micros.rem_euclid(MICROS_PER_MINUTE),
        Field::Hour => micros - micros.rem_euclid(MICROS_PER_HOUR),
        Field::Day => midnight(days),
        Field::Week => midnight(days - (day_of_week(days) as i32 + 6) % 7),
        Field::Month => midnight(days_from_civil(year, month, 1)),
        Field::Quarter => midnight(days_from_civil(year, (month - 1) / 3 * 3 + 1, 1)),
        Field::Year => first_of(year),
        Field::Decade => first_of((year / 10 * 10).max(1)),
        Field::Century => first_of((year - 1) / 100 * 100 + 1),
        Field::Millennium => first_of((year - 1) / 1000 * 1000 + 1),
        _ => return None,
    })
}
