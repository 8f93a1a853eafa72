//! Dates and times from text: the ISO forms first, then the other spellings that PostgreSQL takes with
//! `DateStyle` "ISO, MDY".
//!
//! The text is cut into tokens (numbers with their separators, words, displacements); each token fills fields
//! that are still open. What fills nothing, or fills a field twice, is a syntax error.

use super::InputContext;
use super::datetime::{
    DATE_MAX, INSTANT_MAX, INSTANT_MIN, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE,
    MICROS_PER_SECOND, TIMESTAMP_MAX, YEAR_MAX, days_from_civil, days_in_month, split_timestamp,
};
use super::timezone::{DISPLACEMENT_SECONDS_MAX, TimeZone, parse_displacement};
use crate::error::{Error, SqlState};
use scry_engine::types::DataType;

/// PostgreSQL's bound of the length of a date or time.
const TEXT_BYTES_MAX: usize = 128;

/// Why a text is no date or time; the text and the type make it an `Error`.
enum Fault {
    Syntax,
    FieldOverflow,
    /// A month or day that does not exist: perhaps fields in another order.
    FieldOrder,
    OutOfRange,
    Infinity,
    BeforeChrist,
    Zone(String),
    Displacement,
}

#[derive(Clone, Copy)]
enum Zone {
    Displacement(i32),
    Named,
}

#[derive(Default)]
struct Fields {
    date: Option<(i32, u32, u32)>,
    time: Option<i64>,
    zone: Option<Zone>,
    named: Option<TimeZone>,
    /// An instant or day given by a word: 'now', 'epoch', 'today'.
    special: Option<Special>,
    month_name: Option<u32>,
    loose_numbers: [(u32, usize); 2],
    loose_count: usize,
    noon: Option<bool>,
    weekday: bool,
    /// Bare digits are a time of day.
    time_only: bool,
}

#[derive(Clone, Copy)]
enum Special {
    Instant(i64),
    /// 1970-01-01 00:00, in UTC or in local time, as the type has it.
    Epoch,
    /// A local day, that many days from today.
    Day(i32),
}

/// Days since 1970-01-01.
pub(super) fn parse_date(text: &str, context: &InputContext<'_>) -> Result<i32, Error> {
    if let Some(days) = parse_iso_date(text.as_bytes()) {
        return Ok(days);
    }
    read(text, context)
        .and_then(|fields| match fields.special {
            Some(Special::Instant(instant)) => Ok(split_timestamp(context.zone.to_local(instant)).0),
            Some(Special::Day(days)) => Ok(today(context) + days),
            Some(Special::Epoch) => Ok(0),
            None => fields.days(),
        })
        .map_err(|fault| fault.error(text, &DataType::Date))
}

/// Microseconds since midnight.
pub(super) fn parse_time(text: &str, context: &InputContext<'_>) -> Result<i64, Error> {
    read_into(
        Fields {
            time_only: true,
            ..Fields::default()
        },
        text,
        context,
    )
    .and_then(|fields| match fields.special {
        Some(Special::Instant(instant)) => Ok(split_timestamp(context.zone.to_local(instant)).1),
        _ => fields.time.ok_or(Fault::Syntax),
    })
    .map_err(|fault| fault.error(text, &DataType::Time))
}

/// Local microseconds since 1970-01-01; a time zone in the text is ignored, as in PostgreSQL.
pub(super) fn parse_timestamp(text: &str, context: &InputContext<'_>) -> Result<i64, Error> {
    read(text, context)
        .and_then(|fields| match fields.special {
            Some(Special::Instant(instant)) => Ok(context.zone.to_local(instant)),
            Some(Special::Epoch) => Ok(0),
            _ => fields.local(context),
        })
        .map_err(|fault| fault.error(text, &DataType::Timestamp))
}

/// Microseconds since 1970-01-01 UTC; without a zone in the text, in that of the session.
pub(super) fn parse_timestamptz(text: &str, context: &InputContext<'_>) -> Result<i64, Error> {
    read(text, context)
        .and_then(|fields| {
            match fields.special {
                Some(Special::Instant(instant)) => return Ok(instant),
                Some(Special::Epoch) => return Ok(0),
                _ => {}
            }
            let local = fields.local(context)?;
            let instant = match (fields.zone, &fields.named) {
                (Some(Zone::Displacement(seconds)), _) => local - i64::from(seconds) * MICROS_PER_SECOND,
                (Some(Zone::Named), Some(zone)) => zone.to_utc(local),
                _ => context.zone.to_utc(local),
            };
            if (INSTANT_MIN..=INSTANT_MAX).contains(&instant) {
                Ok(instant)
            } else {
                Err(Fault::OutOfRange)
            }
        })
        .map_err(|fault| fault.error(text, &DataType::TimestampTz))
}

fn today(context: &InputContext<'_>) -> i32 {
    split_timestamp(context.zone.to_local(context.now)).0
}

impl Fault {
    fn error(self, text: &str, ty: &DataType) -> Error {
        match self {
            Fault::Syntax => {
                // PostgreSQL's messages leave "without time zone" away.
                let name = match ty {
                    DataType::Time => "time",
                    DataType::Timestamp => "timestamp",
                    DataType::TimestampTz => "timestamp with time zone",
                    _ => "date",
                };
                Error::new(
                    SqlState::INVALID_DATETIME_FORMAT,
                    format!("invalid input syntax for type {name}: \"{text}\""),
                )
            }
            Fault::FieldOverflow => Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            ),
            Fault::FieldOrder => Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            )
            .with_hint("Perhaps you need a different \"datestyle\" setting."),
            Fault::OutOfRange => {
                let what = if *ty == DataType::Date {
                    "date"
                } else {
                    "timestamp"
                };
                Error::new(
                    SqlState::DATETIME_FIELD_OVERFLOW,
                    format!("{what} out of range: \"{text}\""),
                )
            }
            Fault::Infinity => {
                let what = if *ty == DataType::Date {
                    "date"
                } else {
                    "timestamp"
                };
                Error::new(
                    SqlState::DATETIME_FIELD_OVERFLOW,
                    format!("{what} out of range: \"{text}\""),
                )
                .with_detail("Infinite dates and timestamps are not supported.")
            }
            Fault::BeforeChrist => Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            )
            .with_detail("Years before 1 AD are not supported."),
            Fault::Zone(name) => Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("time zone \"{name}\" not recognized"),
            ),
            Fault::Displacement => Error::new(
                SqlState::INVALID_TIME_ZONE_DISPLACEMENT,
                format!("time zone displacement out of range: \"{text}\""),
            ),
        }
    }
}

/// `YYYY-MM-DD` and nothing else: the form of nearly all input.
fn parse_iso_date(bytes: &[u8]) -> Option<i32> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = bytes else {
        return None;
    };
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |index: usize| u32::from(digits[index] - b'0');
    let year = (digit(0) * 1000 + digit(1) * 100 + digit(2) * 10 + digit(3)) as i32;
    let (month, day) = (digit(4) * 10 + digit(5), digit(6) * 10 + digit(7));
    let exists = year >= 1 && (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    exists.then(|| days_from_civil(year, month, day))
}

fn read(text: &str, context: &InputContext<'_>) -> Result<Fields, Fault> {
    read_into(Fields::default(), text, context)
}

fn read_into(mut fields: Fields, text: &str, context: &InputContext<'_>) -> Result<Fields, Fault> {
    let mut rest = text.trim_matches(|c: char| c.is_ascii_whitespace()).as_bytes();
    if rest
        .strip_prefix(b"-")
        .is_some_and(|word| word.eq_ignore_ascii_case(b"infinity"))
    {
        return Err(Fault::Infinity);
    }
    if rest.len() > TEXT_BYTES_MAX {
        return Err(Fault::Syntax);
    }
    // Whether a blank stands before the token: "2024-01-05 -02" has a zone, "2024-01-05-02" is no date.
    let mut apart = false;
    while let Some(&first) = rest.first() {
        let taken = match first {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => 1,
            b'0'..=b'9' => fields.take_number(rest)?,
            b'-' if fields.time.is_none() && !apart => return Err(Fault::Syntax),
            b'+' | b'-' if fields.date.is_some() || fields.time.is_some() => {
                fields.take_displacement(rest)?
            }
            b'T' | b't'
                if fields.date.is_some()
                    && fields.time.is_none()
                    && rest.get(1).is_some_and(u8::is_ascii_digit) =>
            {
                1
            }
            byte if byte.is_ascii_alphabetic() => fields.take_word(rest, context)?,
            _ => return Err(Fault::Syntax),
        };
        rest = &rest[taken..];
        apart = first.is_ascii_whitespace();
    }
    fields.settle()?;
    Ok(fields)
}

fn number(digits: &[u8]) -> Result<u32, Fault> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Syntax);
    }
    Ok(digits
        .iter()
        .fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

/// Digits after the point as microseconds, rounded; may be a whole second.
fn fraction_micros(digits: &[u8]) -> Result<i64, Fault> {
    let mut micros = 0;
    for place in 0..6 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err(Fault::Syntax);
        }
        micros = micros * 10 + i64::from(digit - b'0');
    }
    if digits
        .get(6..)
        .is_some_and(|rest| !rest.iter().all(u8::is_ascii_digit))
    {
        return Err(Fault::Syntax);
    }
    Ok(micros + i64::from(digits.get(6).is_some_and(|digit| *digit >= b'5')))
}

fn clock(hours: u32, minutes: u32, seconds: u32, micros: i64) -> Result<i64, Fault> {
    let total = i64::from(hours) * MICROS_PER_HOUR
        + i64::from(minutes) * MICROS_PER_MINUTE
        + i64::from(seconds) * MICROS_PER_SECOND
        + micros;
    if minutes > 59 || seconds > 60 || total > MICROS_PER_DAY {
        return Err(Fault::FieldOverflow);
    }
    Ok(total)
}

impl Fields {
    /// Takes a token that begins with a digit; gives its length.
    fn take_number(&mut self, text: &[u8]) -> Result<usize, Fault> {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match text.get(digits) {
            Some(b':') => self.take_clock(text),
            Some(b'-' | b'/' | b'.') if self.date.is_none() && self.month_name.is_none() => {
                self.take_date(text, digits)
            }
            _ => {
                self.take_bare(&text[..digits], text)?;
                Ok(self.bare_length(text, digits))
            }
        }
    }

    fn take_clock(&mut self, text: &[u8]) -> Result<usize, Fault> {
        let length = text
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.'))
            .count();
        let mut parts = text[..length].split(|byte| *byte == b':');
        let hours = number(parts.next().unwrap_or_default())?;
        let minutes = number(parts.next().unwrap_or_default())?;
        let (seconds, micros) = match parts.next() {
            None => (0, 0),
            Some(part) => {
                let mut halves = part.splitn(2, |byte| *byte == b'.');
                let seconds = number(halves.next().unwrap_or_default())?;
                (seconds, halves.next().map_or(Ok(0), fraction_micros)?)
            }
        };
        if parts.next().is_some() {
            return Err(Fault::Syntax);
        }
        self.set_time(clock(hours, minutes, seconds, micros)?)?;
        Ok(length)
    }

    fn set_time(&mut self, time: i64) -> Result<(), Fault> {
        match self.time.replace(time) {
            None => Ok(()),
            Some(_) => Err(Fault::Syntax),
        }
    }

    /// Three parts with one separator: year first, or month, day, year; the month may be a word.
    fn take_date(&mut self, text: &[u8], first_digits: usize) -> Result<usize, Fault> {
        let separator = text[first_digits];
        let mut parts: [&[u8]; 3] = [&text[..first_digits], &[], &[]];
        let mut at = first_digits;
        for part in &mut parts[1..] {
            if text.get(at) != Some(&separator) {
                return Err(Fault::Syntax);
            }
            at += 1;
            let length = text[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric())
                .count();
            let word = text[at..].first().is_some_and(u8::is_ascii_alphabetic);
            let length = if word {
                length
            } else {
                text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
            };
            *part = &text[at..at + length];
            at += length;
        }
        let named_month = month_number(parts[1]);
        let (year, month, day) = if first_digits >= 3 {
            (
                parts[0],
                named_month.map_or_else(|| number(parts[1]), Ok)?,
                number(parts[2])?,
            )
        } else if let Some(month) = named_month {
            (parts[2], month, number(parts[0])?)
        } else {
            (parts[2], number(parts[0])?, number(parts[1])?)
        };
        self.date = Some((full_year(year)?, month, day));
        Ok(at)
    }

    /// Digits without separator: `20240131`, `240131`, `101500` after a `T`, or a part of a spelled date.
    fn take_bare(&mut self, digits: &[u8], text: &[u8]) -> Result<(), Fault> {
        match digits.len() {
            8 if self.date.is_none() && self.month_name.is_none() => {
                self.date = Some((
                    number(&digits[..4])? as i32,
                    number(&digits[4..6])?,
                    number(&digits[6..])?,
                ));
                Ok(())
            }
            6 if self.date.is_none() && self.month_name.is_none() && !self.time_only => {
                self.date = Some((
                    full_year(&digits[..2])?,
                    number(&digits[2..4])?,
                    number(&digits[4..])?,
                ));
                Ok(())
            }
            4 | 6 if (self.date.is_some() || self.time_only) && self.time.is_none() => {
                let seconds = if digits.len() == 6 {
                    number(&digits[4..])?
                } else {
                    0
                };
                let fraction = &text[digits.len()..self.bare_length(text, digits.len())];
                let micros = fraction.get(1..).map_or(Ok(0), fraction_micros)?;
                self.set_time(clock(
                    number(&digits[..2])?,
                    number(&digits[2..4])?,
                    seconds,
                    micros,
                )?)
            }
            1..=5 if self.date.is_none() && self.loose_count < 2 => {
                self.loose_numbers[self.loose_count] = (number(digits)?, digits.len());
                self.loose_count += 1;
                Ok(())
            }
            1 | 2
                if self.date.is_some() && self.time.is_none() && followed_by_noon(&text[digits.len()..]) =>
            {
                self.set_time(clock(number(digits)?, 0, 0, 0)?)
            }
            _ => Err(Fault::Syntax),
        }
    }

    /// The length of a bare number with the fraction that may follow it.
    fn bare_length(&self, text: &[u8], digits: usize) -> usize {
        if digits == 6 && text.get(digits) == Some(&b'.') {
            digits
                + 1
                + text[digits + 1..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .count()
        } else {
            digits
        }
    }

    fn take_displacement(&mut self, text: &[u8]) -> Result<usize, Fault> {
        let length = 1 + text[1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit() || **byte == b':')
            .count();
        if self.zone.is_some() {
            return Err(Fault::Syntax);
        }
        let seconds = parse_displacement(&text[..length]).ok_or(Fault::Syntax)?;
        if seconds.abs() > DISPLACEMENT_SECONDS_MAX {
            return Err(Fault::Displacement);
        }
        self.zone = Some(Zone::Displacement(seconds));
        Ok(length)
    }

    fn take_word(&mut self, text: &[u8], context: &InputContext<'_>) -> Result<usize, Fault> {
        let letters = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = text[..letters].to_ascii_lowercase();
        let special = match &word[..] {
            b"infinity" | b"inf" => return Err(Fault::Infinity),
            b"bc" => return Err(Fault::BeforeChrist),
            b"ad" | b"at" | b"on" => return Ok(letters),
            b"epoch" => Some(Special::Epoch),
            b"now" => Some(Special::Instant(context.now)),
            b"today" => Some(Special::Day(0)),
            b"tomorrow" => Some(Special::Day(1)),
            b"yesterday" => Some(Special::Day(-1)),
            b"allballs" => {
                self.set_time(0)?;
                return Ok(letters);
            }
            b"am" | b"pm" => {
                self.noon = Some(word[0] == b'p');
                return Ok(letters);
            }
            _ => None,
        };
        if special.is_some() {
            if self.special.is_some() || self.date.is_some() {
                return Err(Fault::Syntax);
            }
            self.special = special;
            return Ok(letters);
        }
        if let Some(month) = month_number(&word) {
            if self.month_name.replace(month).is_some() {
                return Err(Fault::Syntax);
            }
            return Ok(letters + usize::from(text.get(letters) == Some(&b'.')));
        }
        if is_weekday(&word) && !self.weekday {
            self.weekday = true;
            return Ok(letters);
        }
        if self.zone.is_some() {
            return Err(Fault::Syntax);
        }
        if let Some(hours) = abbreviation_hours(&word) {
            self.zone = Some(Zone::Displacement(hours * 3600));
            return Ok(letters);
        }
        let length = text
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+'))
            .count();
        let name = String::from_utf8_lossy(&text[..length]);
        match TimeZone::named(&name) {
            Some(zone) => {
                self.zone = Some(Zone::Named);
                self.named = Some(zone);
                Ok(length)
            }
            None if name.contains('/') => Err(Fault::Zone(name.to_ascii_lowercase())),
            None => Err(Fault::Syntax),
        }
    }

    /// Puts spelled dates together and checks every field.
    fn settle(&mut self) -> Result<(), Fault> {
        if let Some(month) = self.month_name {
            let [(first, first_digits), (second, second_digits)] = self.loose_numbers;
            if self.date.is_some() || self.loose_count != 2 {
                return Err(Fault::Syntax);
            }
            let year = |value: u32, digits| complete_year(value, digits);
            self.date = Some(if first_digits > 2 {
                (year(first, first_digits), month, second)
            } else {
                (year(second, second_digits), month, first)
            });
        } else if self.loose_count != 0 {
            return Err(Fault::Syntax);
        }
        if let Some(afternoon) = self.noon {
            let time = self.time.ok_or(Fault::Syntax)?;
            let hour = time / MICROS_PER_HOUR;
            if !(1..=12).contains(&hour) {
                return Err(Fault::FieldOverflow);
            }
            let shift = match (afternoon, hour) {
                (true, 12) | (false, 1..=11) => 0,
                (true, _) => 12,
                (false, _) => -12,
            };
            self.time = Some(time + shift * MICROS_PER_HOUR);
        }
        if let Some((year, month, day)) = self.date {
            if year < 1 {
                return Err(Fault::FieldOverflow);
            }
            if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
                return Err(Fault::FieldOrder);
            }
            if day > days_in_month(year, month) {
                return Err(Fault::FieldOverflow);
            }
            if year > YEAR_MAX {
                return Err(Fault::OutOfRange);
            }
        }
        if self.date.is_none() && self.time.is_none() && self.special.is_none() {
            return Err(Fault::Syntax);
        }
        Ok(())
    }

    fn days(&self) -> Result<i32, Fault> {
        let (year, month, day) = self.date.ok_or(Fault::Syntax)?;
        Ok(days_from_civil(year, month, day))
    }

    fn local(&self, context: &InputContext<'_>) -> Result<i64, Fault> {
        let days = match self.special {
            Some(Special::Day(days)) => today(context) + days,
            _ => self.days()?,
        };
        let micros = i64::from(days) * MICROS_PER_DAY + self.time.unwrap_or(0);
        if micros > TIMESTAMP_MAX || days > DATE_MAX {
            Err(Fault::OutOfRange)
        } else {
            Ok(micros)
        }
    }
}

fn followed_by_noon(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    rest.len() >= 2 && (rest[..2].eq_ignore_ascii_case(b"am") || rest[..2].eq_ignore_ascii_case(b"pm"))
}

fn full_year(digits: &[u8]) -> Result<i32, Fault> {
    Ok(complete_year(number(digits)?, digits.len()))
}

/// Two digits mean 1970 to 2069.
fn complete_year(value: u32, digits: usize) -> i32 {
    match value {
        0..70 if digits <= 2 => value as i32 + 2000,
        70..100 if digits <= 2 => value as i32 + 1900,
        _ => value as i32,
    }
}

fn month_number(word: &[u8]) -> Option<u32> {
    const MONTHS: [&[u8]; 12] = [
        b"january",
        b"february",
        b"march",
        b"april",
        b"may",
        b"june",
        b"july",
        b"august",
        b"september",
        b"october",
        b"november",
        b"december",
    ];
    if word.eq_ignore_ascii_case(b"sept") {
        return Some(9);
    }
    MONTHS
        .iter()
        .position(|month| word.eq_ignore_ascii_case(month) || word.eq_ignore_ascii_case(&month[..3]))
        .map(|index| index as u32 + 1)
}

fn is_weekday(word: &[u8]) -> bool {
    const DAYS: [&[u8]; 7] = [
        b"sunday",
        b"monday",
        b"tuesday",
        b"wednesday",
        b"thursday",
        b"friday",
        b"saturday",
    ];
    DAYS.iter()
        .any(|day| word == *day || (word.len() >= 3 && day.starts_with(word)))
}

/// Hours east of UTC of the abbreviations that mean one thing to most; names of the database go first elsewhere.
fn abbreviation_hours(word: &[u8]) -> Option<i32> {
    Some(match word {
        b"z" | b"zulu" | b"utc" | b"gmt" | b"ut" | b"wet" => 0,
        b"cet" | b"met" | b"bst" | b"west" => 1,
        b"cest" | b"eet" => 2,
        b"eest" | b"msk" => 3,
        b"jst" | b"kst" => 9,
        b"ast" | b"edt" => -4,
        b"est" | b"cdt" => -5,
        b"cst" | b"mdt" => -6,
        b"mst" | b"pdt" => -7,
        b"pst" => -8,
        _ => return None,
    })
}
