//! Floating-point text: the fewest digits that read back as the same number, in PostgreSQL's notation.

use bytes::BufMut;
use std::io::Write;

/// The longest output of `{:e}`: sign, 17 digits, point, `e-308`.
const SCIENTIFIC_BYTES: usize = 32;

/// Numbers of at least 10 to this power are written with an exponent.
const FLOAT8_FIXED_DIGITS: i32 = 15;
const FLOAT4_FIXED_DIGITS: i32 = 6;

/// And those below 10 to the power of this.
const FIXED_EXPONENT_MIN: i32 = -4;

pub fn write_float8(value: f64, out: &mut impl BufMut) {
    if write_special(value, out) {
        return;
    }
    let mut buffer = [0u8; SCIENTIFIC_BYTES];
    let mut rest = &mut buffer[..];
    write!(rest, "{value:e}").expect("a float fits in the buffer");
    let unused = rest.len();
    write_scientific(&buffer[..SCIENTIFIC_BYTES - unused], FLOAT8_FIXED_DIGITS, out);
}

pub fn write_float4(value: f32, out: &mut impl BufMut) {
    if write_special(f64::from(value), out) {
        return;
    }
    let mut buffer = [0u8; SCIENTIFIC_BYTES];
    let mut rest = &mut buffer[..];
    write!(rest, "{value:e}").expect("a float fits in the buffer");
    let unused = rest.len();
    write_scientific(&buffer[..SCIENTIFIC_BYTES - unused], FLOAT4_FIXED_DIGITS, out);
}

fn write_special(value: f64, out: &mut impl BufMut) -> bool {
    if value.is_nan() {
        out.put_slice(b"NaN");
    } else if value.is_infinite() {
        out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else {
        return false;
    }
    true
}

/// Rewrites `d.ddde-x`, as Rust prints it, in PostgreSQL's choice of notation.
fn write_scientific(text: &[u8], fixed_digits: i32, out: &mut impl BufMut) {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if negative {
        out.put_u8(b'-');
    }
    let split = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
    let exponent: i32 = std::str::from_utf8(text.get(split + 1..).unwrap_or(b"0"))
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0);
    let mut digits = [0u8; SCIENTIFIC_BYTES];
    let mut count = 0;
    for byte in text[..split].iter().filter(|byte| **byte != b'.') {
        digits[count] = *byte;
        count += 1;
    }
    let digits = &digits[..count];
    if (FIXED_EXPONENT_MIN..fixed_digits).contains(&exponent) {
        write_fixed(digits, exponent, out);
        return;
    }
    out.put_u8(digits[0]);
    if count > 1 {
        out.put_u8(b'.');
        out.put_slice(&digits[1..]);
    }
    out.put_u8(b'e');
    out.put_u8(if exponent < 0 { b'-' } else { b'+' });
    let magnitude = exponent.unsigned_abs();
    if magnitude >= 100 {
        out.put_u8(b'0' + (magnitude / 100) as u8);
    }
    out.put_slice(&[b'0' + (magnitude / 10 % 10) as u8, b'0' + (magnitude % 10) as u8]);
}

fn write_fixed(digits: &[u8], exponent: i32, out: &mut impl BufMut) {
    if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', (-exponent - 1) as usize);
        out.put_slice(digits);
        return;
    }
    let integer_digits = exponent as usize + 1;
    if digits.len() <= integer_digits {
        out.put_slice(digits);
        out.put_bytes(b'0', integer_digits - digits.len());
    } else {
        out.put_slice(&digits[..integer_digits]);
        out.put_u8(b'.');
        out.put_slice(&digits[integer_digits..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation_is_that_of_postgresql() {
        let text = |value| {
            let mut out = Vec::new();
            write_float8(value, &mut out);
            String::from_utf8(out).expect("text")
        };
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.3333333333333333"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1_234_567_890_123_456.0, "1.234567890123456e+15"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(value), expected);
        }
        let mut out = Vec::new();
        for value in [1e6f32, 999_999.0, 1_234_567.0, 0.1, 3.402_823_5e38] {
            write_float4(value, &mut out);
            out.push(b' ');
        }
        assert_eq!(
            String::from_utf8_lossy(&out),
            "1e+06 999999 1.234567e+06 0.1 3.4028235e+38 "
        );
    }
}
