//! `to_char` of dates and timestamps, for the template patterns in everyday use
//! (PostgreSQL documentation, table 9.26: YYYY YY MM Mon MON mon Month MONTH month DD DDD D Day DAY day Dy DY dy HH24 HH12 HH MI SS MS US AM PM Q
//! IYYY IW, the prefix FM, the suffixes TH and th, and text in double quotes). The others are refused.

use crate::analytic::format::civil;
use crate::error::Error;

const DAY_MICROS: i64 = 86_400_000_000;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

struct Moment {
    year: i64,
    month: u32,
    day: u32,
    day_of_year: i64,
    /// 0 is Sunday.
    weekday: usize,
    micros: i64,
    iso_year: i64,
    iso_week: i64,
}

impl Moment {
    fn new(micros: i64) -> Self {
        let days = micros.div_euclid(DAY_MICROS);
        let (year, month, day) = civil(days);
        let weekday = (days + 4).rem_euclid(7) as usize;
        let day_of_year = days - first_of_year(year) + 1;
        // The ISO week is the one that holds this week's Thursday.
        let thursday = days - (days + 3).rem_euclid(7) + 3;
        let iso_year = civil(thursday).0;
        let iso_week = (thursday - first_of_year(iso_year)) / 7 + 1;
        Moment {
            year,
            month,
            day,
            day_of_year,
            weekday,
            micros: micros.rem_euclid(DAY_MICROS),
            iso_year,
            iso_week,
        }
    }
}

/// Days since 1970 of January 1st.
fn first_of_year(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

/// Patterns, longer ones before their prefixes: first those whose case says the case of what they stand for.
const NAMES: [&str; 16] = [
    "MONTH", "Month", "month", "MON", "Mon", "mon", "DAY", "Day", "day", "DY", "Dy", "dy", "AM", "PM", "am",
    "pm",
];

/// Numbers, in any case.
const NUMBERS: [&str; 17] = [
    "YYYY", "YYY", "YY", "IYYY", "IW", "MM", "MI", "MS", "DDD", "DD", "D", "HH24", "HH12", "HH", "SS", "US",
    "Q",
];

/// What PostgreSQL knows besides, in any case.
const REFUSED: [&str; 34] = [
    "Y,YYY", "A.D.", "B.C.", "A.M.", "P.M.", "SSSSS", "SSSS", "IDDD", "MONTH", "TZH", "TZM", "IYY", "DAY",
    "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "MON", "AD", "BC", "CC", "DY", "FX", "ID", "IY", "OF", "RM",
    "SP", "TM", "TZ", "WW", "J",
];

fn begins<'p>(text: &str, patterns: &'p [&'p str]) -> Option<&'p str> {
    patterns.iter().copied().find(|pattern| {
        text.get(..pattern.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(pattern))
    })
}

/// `micros` since 1970 by `template`.
///
/// # Errors
/// 0A000 for patterns that are not supported.
pub fn timestamp(micros: i64, template: &str) -> Result<String, Error> {
    let moment = Moment::new(micros);
    let mut out = String::new();
    let mut rest = template;
    while let Some(next) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"').unwrap_or((quoted, ""));
            out.push_str(text);
            rest = after;
            continue;
        }
        let (fill, after) = match begins(rest, &["FM"]) {
            Some(prefix) => (false, &rest[prefix.len()..]),
            None => (true, rest),
        };
        let name = NAMES.iter().find(|pattern| after.starts_with(**pattern));
        // A longer pattern that is refused goes before a number that it begins with.
        let refused = begins(after, &REFUSED).filter(|_| name.is_none());
        let number = begins(after, &NUMBERS);
        if let Some(refused) =
            refused.filter(|refused| number.is_none_or(|number| number.len() < refused.len()))
        {
            return Err(Error::unsupported(format!("{refused} in a template of to_char")));
        }
        let Some(pattern) = name.copied().or(number) else {
            if after.starts_with(['W', 'w', 'Y', 'y', 'I', 'i']) {
                return Err(Error::unsupported(format!("{next} in a template of to_char")));
            }
            out.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        let written = field(pattern, &moment, fill);
        rest = &after[pattern.len()..];
        out.push_str(&written);
        if begins(rest, &["TH"]).is_some() {
            if name.is_none() {
                out.push_str(ordinal(&written, rest.starts_with('T')));
            }
            rest = &rest[2..];
        }
    }
    Ok(out)
}

/// What makes a number an ordinal.
fn ordinal(number: &str, upper: bool) -> &'static str {
    let mut digits = number.bytes().rev();
    let (last, before) = (digits.next(), digits.next());
    let cases = match last {
        _ if before == Some(b'1') => ["th", "TH"],
        Some(b'1') => ["st", "ST"],
        Some(b'2') => ["nd", "ND"],
        Some(b'3') => ["rd", "RD"],
        _ => ["th", "TH"],
    };
    cases[usize::from(upper)]
}

fn field(pattern: &str, moment: &Moment, fill: bool) -> String {
    let number = |value: i64, width: usize| {
        if fill {
            format!("{value:0width$}")
        } else {
            value.to_string()
        }
    };
    let name = |full: &str, short: bool| {
        let word = if short { &full[..3] } else { full };
        let word = match pattern.chars().nth(1) {
            Some(second) if second.is_uppercase() => word.to_uppercase(),
            _ if pattern.starts_with(char::is_lowercase) => word.to_lowercase(),
            _ => word.to_owned(),
        };
        if fill && !short {
            format!("{word:<9}")
        } else {
            word
        }
    };
    let seconds = moment.micros / 1_000_000;
    let hour = seconds / 3_600;
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let month_name = MONTHS[(moment.month as usize - 1) % 12];
    match pattern {
        "YYYY" => number(moment.year, 4),
        "YYY" => number(moment.year.rem_euclid(1_000), 3),
        "YY" => number(moment.year.rem_euclid(100), 2),
        "IYYY" => number(moment.iso_year, 4),
        "IW" => number(moment.iso_week, 2),
        "MONTH" | "Month" | "month" => name(month_name, false),
        "MON" | "Mon" | "mon" => name(month_name, true),
        "MM" => number(i64::from(moment.month), 2),
        "MI" => number(seconds / 60 % 60, 2),
        "MS" => number(moment.micros % 1_000_000 / 1_000, 3),
        "US" => number(moment.micros % 1_000_000, 6),
        "DDD" => number(moment.day_of_year, 3),
        "DD" => number(i64::from(moment.day), 2),
        "DAY" | "Day" | "day" => name(DAYS[moment.weekday], false),
        "DY" | "Dy" | "dy" => name(DAYS[moment.weekday], true),
        "D" => number(moment.weekday as i64 + 1, 1),
        "HH24" => number(hour, 2),
        "HH12" | "HH" => number(hour12, 2),
        "SS" => number(seconds % 60, 2),
        "AM" | "PM" => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        "am" | "pm" => if hour < 12 { "am" } else { "pm" }.to_owned(),
        _ => number((i64::from(moment.month) - 1) / 3 + 1, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_follow_postgresql() {
        // 2024-02-29 15:04:05.678901, a Thursday.
        let moment = (19_782 * 86_400 + 15 * 3_600 + 4 * 60 + 5) * 1_000_000 + 678_901;
        for (micros, template, expected) in [
            (moment, "YYYY-MM-DD HH24:MI:SS.US", "2024-02-29 15:04:05.678901"),
            (moment, "yyyy-mm-dd hh24:mi:ss", "2024-02-29 15:04:05"),
            (
                moment,
                "FMDay, DD Mon YY HH12:MI AM",
                "Thursday, 29 Feb 24 03:04 PM",
            ),
            (moment, "Month|DDD|Q|IYYY-IW", "February |060|1|2024-09"),
            (moment, "DDth MMTH FMDDDth HH24th", "29th 02ND 60th 15th"),
            (0, "\"year\" YYYY FMMM", "year 1970 1"),
            (0, "DDth", "01st"),
            (-1, "YYYY DY", "1969 WED"),
        ] {
            assert_eq!(timestamp(micros, template).as_deref(), Ok(expected), "{template}");
        }
        for template in ["HH24 TZ", "WW", "Y,YYY", "SSSS", "Q/Y", "IDDD", "mOnth"] {
            assert!(timestamp(0, template).is_err(), "{template}");
        }
    }
}
