//! What PostgreSQL does with intervals and DataFusion does not: products, quotients, ages, an order, and days that follow a time zone.
//!
//! Differences of timestamps are durations here, which know no days; `interval_of` makes intervals of them, with days of 24 hours.

use super::bridge::Circumstances;
use super::text::{Arity, ClosureFunction, local_times};
use crate::analytic::error::external;
use crate::analytic::types::{named_field, utc_timestamp};
use crate::error::{Error, SqlState};
use crate::expr::{Interval, add_to_instant};
use crate::types::datetime::{MICROS_PER_DAY, split_timestamp};
use datafusion::arrow::array::{
    ArrayRef, AsArray, Decimal128Array, IntervalMonthDayNanoArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, DurationMicrosecondType, FieldRef, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::Result;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use std::sync::Arc;

pub const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DURATION: DataType = DataType::Duration(TimeUnit::Microsecond);
const LOCAL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
/// Microseconds of any interval, of 30 days to the month.
const SPAN: DataType = DataType::Decimal128(38, 0);

fn interval_field() -> FieldRef {
    named_field(INTERVAL, "interval")
}

fn read(value: IntervalMonthDayNano) -> Interval {
    Interval {
        months: value.months,
        days: value.days,
        micros: value.nanoseconds / 1_000,
    }
}

fn written(interval: Interval) -> std::result::Result<IntervalMonthDayNano, Error> {
    let nanoseconds = interval.micros.checked_mul(1_000).ok_or_else(|| {
        Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
            .with_detail("The time of an interval that is computed is at most 292 years.")
    })?;
    Ok(IntervalMonthDayNano {
        months: interval.months,
        days: interval.days,
        nanoseconds,
    })
}

type Made = std::result::Result<Interval, Error>;

fn collect(values: impl Iterator<Item = Option<Made>>) -> Result<ArrayRef> {
    let made: Result<IntervalMonthDayNanoArray> = values
        .map(|value| {
            value
                .map(|made| made.and_then(written).map_err(external))
                .transpose()
        })
        .collect();
    Ok(Arc::new(made?))
}

/// An interval and a number.
fn scaled(name: &'static str, scale: fn(Interval, f64) -> Made) -> Arc<ScalarUDF> {
    ClosureFunction::function(
        name,
        Arity::exact(&[INTERVAL, DataType::Float64]),
        interval_field(),
        Volatility::Immutable,
        move |args, _| {
            let intervals = args[0].as_primitive::<IntervalMonthDayNanoType>();
            let numbers = args[1].as_primitive::<Float64Type>();
            collect(
                intervals
                    .iter()
                    .zip(numbers)
                    .map(|(interval, number)| Some(scale(read(interval?), number?))),
            )
        },
    )
}

/// `interval * number`.
pub fn times() -> Arc<ScalarUDF> {
    scaled("interval_times", Interval::times)
}

/// `interval / number`.
pub fn divided_by() -> Arc<ScalarUDF> {
    scaled("interval_divided_by", Interval::divided_by)
}

/// The interval of a difference of timestamps.
pub fn of_duration() -> Arc<ScalarUDF> {
    ClosureFunction::function(
        "interval_of",
        Arity::exact(&[DURATION]),
        interval_field(),
        Volatility::Immutable,
        |args, _| {
            let durations = args[0].as_primitive::<DurationMicrosecondType>();
            collect(durations.iter().map(|micros| {
                let micros = micros?;
                let days = i32::try_from(micros / MICROS_PER_DAY);
                Some(
                    days.map_err(|_| Error::internal("a difference of times is too long"))
                        .map(|days| Interval {
                            months: 0,
                            days,
                            micros: micros % MICROS_PER_DAY,
                        }),
                )
            }))
        },
    )
}

/// What intervals are compared by.
pub fn span() -> Arc<ScalarUDF> {
    ClosureFunction::function(
        "interval_span",
        Arity::exact(&[INTERVAL]),
        named_field(SPAN, "numeric"),
        Volatility::Immutable,
        |args, _| {
            let intervals = args[0].as_primitive::<IntervalMonthDayNanoType>();
            let spans: Decimal128Array = intervals
                .iter()
                .map(|interval| interval.map(|interval| read(interval).span()))
                .collect();
            Ok(Arc::new(spans.with_data_type(SPAN)))
        },
    )
}

/// `timestamptz + interval`, or `-`: days and months by the clock of the session's zone.
pub fn add_to(circumstances: Arc<Circumstances>, subtract: bool) -> Arc<ScalarUDF> {
    let name = if subtract {
        "subtract_from_instant"
    } else {
        "add_to_instant"
    };
    let returns = named_field(utc_timestamp(), "timestamp with time zone");
    let arity = Arity::exact(&[utc_timestamp(), INTERVAL]);
    ClosureFunction::function(name, arity, returns, Volatility::Immutable, move |args, _| {
        let instants = args[0].as_primitive::<TimestampMicrosecondType>();
        let intervals = args[1].as_primitive::<IntervalMonthDayNanoType>();
        let moved: Result<TimestampMicrosecondArray> = instants
            .iter()
            .zip(intervals)
            .map(|(instant, interval)| {
                let (Some(instant), Some(interval)) = (instant, interval) else {
                    return Ok(None);
                };
                let mut interval = read(interval);
                if subtract {
                    interval = interval.times(-1.0).map_err(external)?;
                }
                add_to_instant(instant, interval, &circumstances.zone)
                    .map(Some)
                    .map_err(external)
            })
            .collect();
        Ok(Arc::new(moved?.with_timezone("UTC")))
    })
}

/// `age(timestamp, timestamp)`, and with one argument the age today. An instant counts by the clock of the session's zone.
pub fn age(circumstances: Arc<Circumstances>) -> Arc<ScalarUDF> {
    let arity = Arity::optional(1, &[LOCAL, LOCAL]);
    let local = circumstances.zone.to_local(circumstances.now);
    let today = i64::from(split_timestamp(local).0) * MICROS_PER_DAY;
    ClosureFunction::function(
        "age",
        arity,
        interval_field(),
        Volatility::Stable,
        move |args, _| {
            let first = local_times(&args[0], &circumstances.zone);
            match args.get(1) {
                None => collect(first.iter().map(|of| Some(Ok(Interval::age(today, of?))))),
                Some(second) => {
                    let second = local_times(second, &circumstances.zone);
                    collect(
                        first
                            .iter()
                            .zip(&second)
                            .map(|(of, since)| Some(Ok(Interval::age(of?, since?)))),
                    )
                }
            }
        },
    )
}
