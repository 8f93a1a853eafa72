//! PostgreSQL's text and binary forms of single values, written straight into the output buffer.
//!
//! Sources: PostgreSQL 15 `float8out`, `numeric_out`/`numeric_send`, `EncodeDateTime`, `EncodeInterval` (style
//! `postgres`), `byteaout` (hex), `array_out`. Times are UTC.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::datatypes::i256;
use std::fmt::Write;

const MICROS_A_SECOND: i64 = 1_000_000;
const MICROS_A_DAY: i64 = 86_400 * MICROS_A_SECOND;

/// 1970-01-01 counted from PostgreSQL's epoch, 2000-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
pub const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * MICROS_A_DAY;

/// Decimal digits of an integer.
pub fn integer(value: i128, out: &mut BytesMut) {
    let mut digits = [0u8; 40];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    // 64-bit division is several times cheaper, and most values fit.
    while rest > u128::from(u64::MAX) {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut small = rest as u64;
    loop {
        at -= 1;
        digits[at] = b'0' + (small % 10) as u8;
        small /= 10;
        if small == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.put_slice(&digits[at..]);
}

/// `unscaled / 10^scale`; `trim` drops trailing zeros after the point.
pub fn decimal(unscaled: i128, scale: i8, trim: bool, out: &mut BytesMut) {
    let start = out.len();
    integer(unscaled, out);
    point(start, scale, trim, out);
}

/// As [`decimal`], for wide decimals.
pub fn wide_decimal(unscaled: i256, scale: i8, trim: bool, out: &mut BytesMut) {
    let start = out.len();
    match unscaled.to_i128() {
        Some(narrow) => integer(narrow, out),
        None => out.put_slice(unscaled.to_string().as_bytes()),
    }
    point(start, scale, trim, out);
}

/// Sets the decimal point into the digits that stand from `start` on.
fn point(start: usize, scale: i8, trim: bool, out: &mut BytesMut) {
    if scale < 0 {
        if &out[start..] != b"0" {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    }
    let mut scale = usize::from(scale.unsigned_abs());
    if scale == 0 {
        return;
    }
    let digits_at = start + usize::from(out[start] == b'-');
    let digits = out.len() - digits_at;
    if digits <= scale {
        let missing = scale + 1 - digits;
        let old = out.len();
        out.put_bytes(b'0', missing);
        out.copy_within(digits_at..old, digits_at + missing);
        out[digits_at..digits_at + missing].fill(b'0');
    }
    if trim {
        while scale > 0 && out[out.len() - 1] == b'0' {
            out.truncate(out.len() - 1);
            scale -= 1;
        }
        if scale == 0 {
            return;
        }
    }
    let at = out.len() - scale;
    out.put_u8(0);
    let end = out.len();
    out.copy_within(at..end - 1, at + 1);
    out[at] = b'.';
}

/// Digits of a numeric in its binary form hold four decimal digits each.
const NUMERIC_BASE: u64 = 10_000;

/// The binary form of a numeric: digit count, weight, sign, display scale, base-10000 digits.
pub fn decimal_binary(text: &[u8], out: &mut BytesMut) {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|b| *b == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &text[..0]),
    };
    let digit = |b: Option<&u8>| b.map_or(0, |b| u64::from(b - b'0'));
    let mut groups: Vec<u16> = Vec::with_capacity(whole.len() / 4 + fraction.len() / 4 + 2);
    let lead = (4 - whole.len() % 4) % 4;
    let mut group = 0u64;
    for (index, byte) in whole.iter().enumerate() {
        group = group * 10 + digit(Some(byte));
        if (index + lead) % 4 == 3 {
            groups.push((group % NUMERIC_BASE) as u16);
            group = 0;
        }
    }
    let mut weight = groups.len() as i16 - 1;
    for chunk in fraction.chunks(4) {
        groups.push((0..4).fold(0, |sum, i| sum * 10 + digit(chunk.get(i))) as u16);
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let leading = groups.iter().take_while(|g| **g == 0).count();
    weight -= leading as i16;
    let groups = &groups[leading..];
    if groups.is_empty() {
        weight = 0;
    }
    out.put_i16(groups.len() as i16);
    out.put_i16(weight);
    out.put_u16(if negative && !groups.is_empty() { 0x4000 } else { 0 });
    out.put_i16(fraction.len() as i16);
    for group in groups {
        out.put_u16(*group);
    }
}

/// The least exponent that `float8out` prints in scientific form.
pub const FLOAT8_DIGITS: i32 = 15;
/// The least exponent that `float4out` prints in scientific form.
pub const FLOAT4_DIGITS: i32 = 6;

/// The shortest text that reads back as the same float. `shortest` is the value as Rust's `{:e}` prints it.
fn float_text(shortest: &str, digits_max: i32, out: &mut BytesMut) {
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    out.put_slice(sign.as_bytes());
    if exponent < -4 || exponent >= digits_max {
        out.put_slice(mantissa.as_bytes());
        let _ = write!(
            out,
            "e{}{:02}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        );
        return;
    }
    let digits: Vec<u8> = mantissa.bytes().filter(|b| *b != b'.').collect();
    if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', (-exponent - 1) as usize);
        out.put_slice(&digits);
        return;
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.put_slice(&digits);
        out.put_bytes(b'0', whole - digits.len());
    } else {
        out.put_slice(&digits[..whole]);
        out.put_u8(b'.');
        out.put_slice(&digits[whole..]);
    }
}

fn not_finite(value: f64) -> Option<&'static [u8]> {
    if value.is_nan() {
        Some(b"NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { b"Infinity" } else { b"-Infinity" })
    } else {
        None
    }
}

pub fn float8(value: f64, out: &mut BytesMut) {
    match not_finite(value) {
        Some(word) => out.put_slice(word),
        None => float_text(&format!("{value:e}"), FLOAT8_DIGITS, out),
    }
}

pub fn float4(value: f32, out: &mut BytesMut) {
    match not_finite(f64::from(value)) {
        Some(word) => out.put_slice(word),
        None => float_text(&format!("{value:e}"), FLOAT4_DIGITS, out),
    }
}

/// (year, month, day) of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn two(value: i64, out: &mut BytesMut) {
    out.put_u8(b'0' + (value / 10 % 10) as u8);
    out.put_u8(b'0' + (value % 10) as u8);
}

/// Writes the date; returns whether " BC" must follow at the end.
fn date_digits(days: i64, out: &mut BytesMut) -> bool {
    let (year, month, day) = civil(days);
    let before_christ = year <= 0;
    let year = if before_christ { 1 - year } else { year };
    if year < 10_000 {
        two(year / 100, out);
        two(year % 100, out);
    } else {
        integer(i128::from(year), out);
    }
    out.put_u8(b'-');
    two(i64::from(month), out);
    out.put_u8(b'-');
    two(i64::from(day), out);
    before_christ
}

pub fn date(days: i32, out: &mut BytesMut) {
    if date_digits(i64::from(days), out) {
        out.put_slice(b" BC");
    }
}

/// `micros` since midnight, as `04:05:06.789`.
pub fn time(micros: i64, out: &mut BytesMut) {
    let seconds = micros / MICROS_A_SECOND;
    two(seconds / 3_600, out);
    out.put_u8(b':');
    two(seconds / 60 % 60, out);
    out.put_u8(b':');
    two(seconds % 60, out);
    fraction(micros % MICROS_A_SECOND, out);
}

fn fraction(micros: i64, out: &mut BytesMut) {
    if micros == 0 {
        return;
    }
    let mut digits = 6;
    let mut rest = micros;
    while rest % 10 == 0 {
        rest /= 10;
        digits -= 1;
    }
    let _ = write!(out, ".{rest:0digits$}");
}

/// `micros` since 1970.
pub fn timestamp(micros: i64, out: &mut BytesMut) {
    let before_christ = date_digits(micros.div_euclid(MICROS_A_DAY), out);
    out.put_u8(b' ');
    time(micros.rem_euclid(MICROS_A_DAY), out);
    if before_christ {
        out.put_slice(b" BC");
    }
}

/// An interval in PostgreSQL's default style: `1 year 2 mons 3 days 04:05:06`.
pub fn interval(months: i32, days: i32, micros: i64, out: &mut BytesMut) {
    let start = out.len();
    // Once a part was negative, a later positive part shows its sign.
    let mut negative_before = false;
    let mut part = |value: i64, unit: &str, out: &mut BytesMut| {
        if value == 0 {
            return;
        }
        if out.len() > start {
            out.put_u8(b' ');
        }
        let sign = if negative_before && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        let _ = write!(out, "{sign}{value} {unit}{plural}");
        negative_before = value < 0;
    };
    part(i64::from(months / 12), "year", out);
    part(i64::from(months % 12), "mon", out);
    part(i64::from(days), "day", out);
    if micros != 0 || out.len() == start {
        if out.len() > start {
            out.put_u8(b' ');
        }
        if micros < 0 {
            out.put_u8(b'-');
        } else if negative_before {
            out.put_u8(b'+');
        }
        let rest = i64::try_from(micros.unsigned_abs()).unwrap_or(i64::MAX);
        let hours = rest / (3_600 * MICROS_A_SECOND);
        if hours < 100 {
            two(hours, out);
        } else {
            integer(i128::from(hours), out);
        }
        out.put_u8(b':');
        two(rest / (60 * MICROS_A_SECOND) % 60, out);
        out.put_u8(b':');
        two(rest / MICROS_A_SECOND % 60, out);
        fraction(rest % MICROS_A_SECOND, out);
    }
}

pub fn bytea(bytes: &[u8], out: &mut BytesMut) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_u8(HEX[usize::from(byte >> 4)]);
        out.put_u8(HEX[usize::from(byte & 15)]);
    }
}

/// The sixteen bytes of a uuid's text; zeros for what is no uuid (the mirror holds none).
pub fn uuid_bytes(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let digits = text.bytes().filter_map(|b| (b as char).to_digit(16));
    for (index, digit) in digits.take(32).enumerate() {
        bytes[index / 2] = bytes[index / 2] << 4 | digit as u8;
    }
    bytes
}

/// One element inside `{…}`: quoted where `array_out` quotes it.
pub fn array_element(text: &[u8], out: &mut BytesMut) {
    let special = |b: &u8| matches!(b, b'{' | b'}' | b',' | b'"' | b'\\') || b.is_ascii_whitespace();
    if !text.is_empty() && !text.iter().any(special) && !text.eq_ignore_ascii_case(b"null") {
        out.put_slice(text);
        return;
    }
    out.put_u8(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::from(&b"x"[..]);
        write(&mut out);
        String::from_utf8_lossy(&out[1..]).into_owned()
    }

    #[test]
    fn decimals_print_their_scale_or_trim_it() {
        assert_eq!(text(|o| decimal(-5, 2, false, o)), "-0.05");
        assert_eq!(text(|o| decimal(0, 2, false, o)), "0.00");
        assert_eq!(text(|o| decimal(123456, 3, false, o)), "123.456");
        assert_eq!(text(|o| decimal(1_500, 3, true, o)), "1.5");
        assert_eq!(text(|o| decimal(-2_000, 3, true, o)), "-2");
        assert_eq!(text(|o| decimal(7, -2, false, o)), "700");
        assert_eq!(text(|o| decimal(i128::MIN, 0, false, o)), i128::MIN.to_string());
        assert_eq!(
            text(|o| wide_decimal(i256::MAX, 0, false, o)),
            i256::MAX.to_string()
        );
    }

    #[test]
    fn decimals_in_binary_are_base_ten_thousand() {
        let binary = |value: &str| {
            let mut out = BytesMut::new();
            decimal_binary(value.as_bytes(), &mut out);
            out.chunks(2)
                .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
                .collect::<Vec<_>>()
        };
        assert_eq!(binary("12345.678"), [3, 1, 0, 3, 1, 2345, 6780]);
        assert_eq!(binary("-0.0001"), [1, -1, 0x4000, 4, 1]);
        assert_eq!(binary("0.00"), [0, 0, 0, 2]);
        assert_eq!(binary("100000000"), [1, 2, 0, 0, 1]);
    }

    #[test]
    fn floats_print_as_postgresql_prints_them() {
        for (value, expected) in [
            (1e15, "1e+15"),
            (123456789012345.0, "123456789012345"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5e300, "1.5e+300"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(|o| float8(value, o)), expected);
        }
        assert_eq!(text(|o| float4(1_234_567.0, o)), "1.234567e+06");
        assert_eq!(text(|o| float4(0.1, o)), "0.1");
    }

    #[test]
    fn dates_and_times_reach_beyond_four_digit_years_and_before_christ() {
        assert_eq!(text(|o| date(0, o)), "1970-01-01");
        assert_eq!(text(|o| date(11_016, o)), "2000-02-29");
        // 0001-01-01 is day -719162 and follows 0001-12-31 BC, the last day of a leap year.
        assert_eq!(text(|o| date(-719_163, o)), "0001-12-31 BC");
        assert_eq!(text(|o| date(-719_529, o)), "0002-12-31 BC");
        assert_eq!(text(|o| timestamp(-1, o)), "1969-12-31 23:59:59.999999");
        assert_eq!(text(|o| timestamp(1_500_000, o)), "1970-01-01 00:00:01.5");
    }

    #[test]
    fn intervals_follow_the_default_style() {
        assert_eq!(
            text(|o| interval(14, 3, 4 * 3_600_000_000 + 5_500_000, o)),
            "1 year 2 mons 3 days 04:00:05.5"
        );
        assert_eq!(text(|o| interval(0, 0, 0, o)), "00:00:00");
        assert_eq!(text(|o| interval(0, -1, 3_600_000_000, o)), "-1 days +01:00:00");
        assert_eq!(text(|o| interval(0, 1, 0, o)), "1 day");
    }

    #[test]
    fn array_elements_are_quoted_where_they_must_be() {
        assert_eq!(text(|o| array_element(b"a b", o)), "\"a b\"");
        assert_eq!(text(|o| array_element(b"a\"b", o)), "\"a\\\"b\"");
        assert_eq!(text(|o| array_element(b"null", o)), "\"null\"");
        assert_eq!(text(|o| array_element(b"plain", o)), "plain");
    }
}
