//! Exact decimals of up to 38 digits: `mantissa * 10^-scale`.
//!
//! Arithmetic follows PostgreSQL's: sums keep the larger scale, products the sum of the scales, quotients at
//! least 16 significant digits (`select_div_scale`); rounding is half away from zero. The scale is the number of
//! digits that are shown, so 1.10 and 1.1 print differently but are equal, hash alike and have the same key.
//!
//! Where PostgreSQL would go beyond 38 digits, digits after the point are rounded away until the result fits;
//! a result whose integer part alone is too large is an overflow. There is no NaN and no infinity.

use super::data_type::{NUMERIC_FREE_SCALE, NUMERIC_MAX_PRECISION};
use super::wide::Wide;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Ten to the powers 0..=38.
const POWERS: [u128; 39] = {
    let mut powers = [1u128; 39];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// Mantissas stay below this in magnitude.
const LIMIT: u128 = POWERS[NUMERIC_MAX_PRECISION as usize];

/// Significant digits that a quotient has at least, as in PostgreSQL.
const DIVISION_SIGNIFICANT_DIGITS: i32 = 16;

/// Decimal digits in one digit of PostgreSQL's own representation, which decides the scale of quotients.
const BASE_DIGITS: i32 = 4;

#[derive(Clone, Copy)]
pub struct Numeric {
    // The mantissa in halves, so that the alignment is eight and a `Value` stays small.
    high: i64,
    low: u64,
    scale: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumericError {
    /// More digits before the point than fit.
    Overflow,
    DivisionByZero,
    /// Not a decimal number.
    Syntax,
    /// NaN or an infinity, which this type does not hold.
    NotFinite,
}

impl fmt::Display for NumericError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NumericError::Overflow => "numeric field overflow",
            NumericError::DivisionByZero => "division by zero",
            NumericError::Syntax => "invalid numeric syntax",
            NumericError::NotFinite => "NaN and infinity cannot be stored in a numeric",
        })
    }
}

impl std::error::Error for NumericError {}

fn power(exponent: u32) -> u128 {
    POWERS[exponent as usize]
}

/// Decimal digits of `magnitude`; none for zero.
fn digit_count(magnitude: u128) -> u32 {
    if magnitude == 0 { 0 } else { magnitude.ilog10() + 1 }
}

/// `magnitude / 10^digits`, rounded half up.
fn drop_digits(magnitude: u128, digits: u32) -> u128 {
    if digits > u32::from(NUMERIC_MAX_PRECISION) {
        return 0;
    }
    let divisor = power(digits);
    let (quotient, remainder) = (magnitude / divisor, magnitude % divisor);
    quotient + u128::from(remainder >= divisor - remainder)
}

impl Numeric {
    pub const ZERO: Numeric = Numeric {
        high: 0,
        low: 0,
        scale: 0,
    };

    /// `mantissa * 10^-scale`. Overflow when it has more than 38 digits or a scale above 38.
    pub fn new(mantissa: i128, scale: u8) -> Result<Numeric, NumericError> {
        if mantissa.unsigned_abs() >= LIMIT || scale > NUMERIC_MAX_PRECISION {
            return Err(NumericError::Overflow);
        }
        Ok(Numeric::raw(mantissa, scale))
    }

    fn raw(mantissa: i128, scale: u8) -> Numeric {
        debug_assert!(mantissa.unsigned_abs() < LIMIT && scale <= NUMERIC_MAX_PRECISION);
        Numeric {
            high: (mantissa >> 64) as i64,
            low: mantissa as u64,
            scale,
        }
    }

    fn signed(negative: bool, magnitude: u128, scale: u8) -> Result<Numeric, NumericError> {
        if magnitude >= LIMIT {
            return Err(NumericError::Overflow);
        }
        let mantissa = magnitude as i128;
        Ok(Numeric::raw(if negative { -mantissa } else { mantissa }, scale))
    }

    pub fn from_i64(value: i64) -> Numeric {
        Numeric::raw(i128::from(value), 0)
    }

    pub fn mantissa(&self) -> i128 {
        i128::from(self.high) << 64 | i128::from(self.low)
    }

    /// Digits after the point that are shown.
    pub fn scale(&self) -> u8 {
        self.scale
    }

    fn magnitude(&self) -> u128 {
        self.mantissa().unsigned_abs()
    }

    pub fn is_zero(&self) -> bool {
        self.high == 0 && self.low == 0
    }

    pub fn is_negative(&self) -> bool {
        self.high < 0
    }

    /// The decimal exponent of the first digit's place plus one: 3 for 123.4, 0 for 0.5, -1 for 0.05; 0 for zero.
    pub fn exponent(&self) -> i32 {
        if self.is_zero() {
            0
        } else {
            digit_count(self.magnitude()) as i32 - i32::from(self.scale)
        }
    }

    /// With exactly `scale` digits after the point, rounded half away from zero where digits are lost.
    pub fn rescale(&self, scale: u8) -> Result<Numeric, NumericError> {
        if scale > NUMERIC_MAX_PRECISION {
            return Err(NumericError::Overflow);
        }
        let magnitude = match scale.cmp(&self.scale) {
            Ordering::Equal => return Ok(*self),
            Ordering::Less => drop_digits(self.magnitude(), u32::from(self.scale - scale)),
            Ordering::Greater => self
                .magnitude()
                .checked_mul(power(u32::from(scale - self.scale)))
                .ok_or(NumericError::Overflow)?,
        };
        Numeric::signed(self.is_negative(), magnitude, scale)
    }

    /// As a column of type `numeric(precision, scale)` stores it.
    pub fn fit(&self, precision: u8, scale: u8) -> Result<Numeric, NumericError> {
        let fitted = self.rescale(scale)?;
        if fitted.magnitude() >= power(u32::from(precision.min(NUMERIC_MAX_PRECISION))) {
            return Err(NumericError::Overflow);
        }
        Ok(fitted)
    }

    /// As a column of type `numeric` without precision stores it: at most 18 digits after the point (more are
    /// rounded away), 20 before it, no trailing zeros.
    pub fn fit_free(&self) -> Result<Numeric, NumericError> {
        let rounded = if self.scale > NUMERIC_FREE_SCALE {
            self.rescale(NUMERIC_FREE_SCALE)?
        } else {
            *self
        };
        let integer_digits = i32::from(NUMERIC_MAX_PRECISION - NUMERIC_FREE_SCALE);
        if rounded.exponent() > integer_digits {
            return Err(NumericError::Overflow);
        }
        Ok(rounded.normalized())
    }

    /// The equal number with the fewest digits after the point.
    pub fn normalized(&self) -> Numeric {
        let (mut mantissa, mut scale) = (self.mantissa(), self.scale);
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        Numeric::raw(mantissa, scale)
    }

    pub fn negate(&self) -> Numeric {
        Numeric::raw(-self.mantissa(), self.scale)
    }

    pub fn abs(&self) -> Numeric {
        Numeric::raw(self.mantissa().abs(), self.scale)
    }

    pub fn add(&self, other: &Numeric) -> Result<Numeric, NumericError> {
        let mut scale = self.scale.max(other.scale);
        loop {
            if let (Ok(a), Ok(b)) = (self.rescale(scale), other.rescale(scale)) {
                let sum = a.mantissa() + b.mantissa();
                if sum.unsigned_abs() < LIMIT {
                    return Ok(Numeric::raw(sum, scale));
                }
            }
            scale = scale.checked_sub(1).ok_or(NumericError::Overflow)?;
        }
    }

    pub fn subtract(&self, other: &Numeric) -> Result<Numeric, NumericError> {
        self.add(&other.negate())
    }

    pub fn multiply(&self, other: &Numeric) -> Result<Numeric, NumericError> {
        let negative = self.is_negative() != other.is_negative();
        let scale = u32::from(self.scale) + u32::from(other.scale);
        let product = Wide::product(self.magnitude(), other.magnitude());
        let maximum = u32::from(NUMERIC_MAX_PRECISION);
        let mut dropped = scale.saturating_sub(maximum);
        if product.high == 0 && product.low < LIMIT && dropped == 0 {
            return Numeric::signed(negative, product.low, scale as u8);
        }
        while dropped <= scale.min(maximum) {
            let divisor = power(dropped);
            if let Some((quotient, remainder)) = product.divide(divisor) {
                let rounded = quotient.saturating_add(u128::from(remainder >= divisor - remainder));
                if rounded < LIMIT {
                    return Numeric::signed(negative, rounded, (scale - dropped) as u8);
                }
            }
            dropped += 1;
        }
        Err(NumericError::Overflow)
    }

    /// The first digit and its weight in base 10,000, as PostgreSQL holds the number.
    fn first_base_digit(&self) -> (i32, u128) {
        if self.is_zero() {
            return (0, 0);
        }
        let weight = (self.exponent() - 1).div_euclid(BASE_DIGITS);
        // |value| / 10000^weight, cut to an integer.
        let shift = weight * BASE_DIGITS + i32::from(self.scale);
        let magnitude = self.magnitude();
        let digit = if shift >= 0 {
            if shift > i32::from(NUMERIC_MAX_PRECISION) {
                0
            } else {
                magnitude / power(shift as u32)
            }
        } else {
            magnitude * power((-shift) as u32)
        };
        (weight, digit)
    }

    fn division_scale(&self, other: &Numeric) -> i32 {
        let (weight, first) = self.first_base_digit();
        let (other_weight, other_first) = other.first_base_digit();
        let quotient_weight = weight - other_weight - i32::from(first <= other_first);
        (DIVISION_SIGNIFICANT_DIGITS - quotient_weight * BASE_DIGITS)
            .max(i32::from(self.scale))
            .max(i32::from(other.scale))
            .max(0)
    }

    pub fn divide(&self, other: &Numeric) -> Result<Numeric, NumericError> {
        if other.is_zero() {
            return Err(NumericError::DivisionByZero);
        }
        let maximum = i32::from(NUMERIC_MAX_PRECISION);
        let integer_digits = (self.exponent() - other.exponent() + 1).max(0);
        let mut scale = self
            .division_scale(other)
            .min(maximum)
            .min((maximum - integer_digits).max(0));
        loop {
            match self.divide_at(other, scale as u8) {
                Err(NumericError::Overflow) if scale > 0 => scale -= 1,
                outcome => return outcome,
            }
        }
    }

    /// The quotient with `scale` digits after the point, rounded half away from zero.
    fn divide_at(&self, other: &Numeric, scale: u8) -> Result<Numeric, NumericError> {
        let negative = self.is_negative() != other.is_negative();
        let (dividend, mut divisor) = (self.magnitude(), other.magnitude());
        let mut shift = i32::from(scale) - i32::from(self.scale) + i32::from(other.scale);
        if shift < 0 {
            match divisor.checked_mul(power((-shift) as u32)) {
                Some(scaled) => divisor = scaled,
                // Beyond twice any dividend.
                None => return Ok(Numeric::raw(0, scale)),
            }
            shift = 0;
        }
        let (mut quotient, mut remainder) = (dividend / divisor, dividend % divisor);
        while shift > 0 {
            let step = shift.min(i32::from(NUMERIC_MAX_PRECISION)) as u32;
            let (digits, rest) = Wide::product(remainder, power(step))
                .divide(divisor)
                .ok_or(NumericError::Overflow)?;
            quotient = quotient
                .checked_mul(power(step))
                .and_then(|shifted| shifted.checked_add(digits))
                .ok_or(NumericError::Overflow)?;
            remainder = rest;
            shift -= step as i32;
        }
        let rounded = quotient.saturating_add(u128::from(remainder >= divisor - remainder));
        Numeric::signed(negative, rounded, scale)
    }

    /// The remainder of the quotient cut towards zero; it has the sign of the dividend.
    pub fn remainder(&self, other: &Numeric) -> Result<Numeric, NumericError> {
        if other.is_zero() {
            return Err(NumericError::DivisionByZero);
        }
        let scale = self.scale.max(other.scale);
        let Some(divisor) = other
            .magnitude()
            .checked_mul(power(u32::from(scale - other.scale)))
        else {
            // The divisor is beyond any dividend.
            return Ok(self.rescale(scale).unwrap_or(*self));
        };
        let dividend = Wide::product(self.magnitude(), power(u32::from(scale - self.scale)));
        let reduced = Wide {
            high: dividend.high % divisor,
            low: dividend.low,
        };
        let (_, remainder) = reduced.divide(divisor).ok_or(NumericError::Overflow)?;
        Numeric::signed(self.is_negative(), remainder, scale)
    }

    /// Rounded to `digits` after the point; negative counts before it. Half goes away from zero.
    pub fn round(&self, digits: i32) -> Result<Numeric, NumericError> {
        self.to_digits(digits, drop_digits)
    }

    /// Cut to `digits` after the point; negative counts before it.
    pub fn truncate(&self, digits: i32) -> Result<Numeric, NumericError> {
        self.to_digits(digits, |magnitude, dropped| {
            if dropped > u32::from(NUMERIC_MAX_PRECISION) {
                0
            } else {
                magnitude / power(dropped)
            }
        })
    }

    fn to_digits(self, digits: i32, drop: impl Fn(u128, u32) -> u128) -> Result<Numeric, NumericError> {
        let bound = i32::from(NUMERIC_MAX_PRECISION);
        let digits = digits.clamp(-bound - 1, bound);
        if digits >= i32::from(self.scale) {
            // PostgreSQL shows the zeros that were asked for; as many as fit are shown here.
            let mut scale = digits as u8;
            while scale > self.scale {
                if let Ok(padded) = self.rescale(scale) {
                    return Ok(padded);
                }
                scale -= 1;
            }
            return Ok(self);
        }
        let kept = drop(self.magnitude(), (i32::from(self.scale) - digits) as u32);
        if digits >= 0 {
            return Numeric::signed(self.is_negative(), kept, digits as u8);
        }
        let shift = (-digits) as u32;
        let magnitude = if kept == 0 {
            0
        } else if shift > u32::from(NUMERIC_MAX_PRECISION) {
            return Err(NumericError::Overflow);
        } else {
            kept.checked_mul(power(shift)).ok_or(NumericError::Overflow)?
        };
        Numeric::signed(self.is_negative(), magnitude, 0)
    }

    /// The largest integer not above.
    pub fn floor(&self) -> Result<Numeric, NumericError> {
        let cut = self.truncate(0)?;
        if self.is_negative() && cut != *self {
            cut.add(&Numeric::from_i64(-1))
        } else {
            Ok(cut)
        }
    }

    /// The smallest integer not below.
    pub fn ceil(&self) -> Result<Numeric, NumericError> {
        Ok(self.negate().floor()?.negate())
    }

    /// Rounded half away from zero to an integer; `None` when out of its range.
    pub fn to_i64(&self) -> Option<i64> {
        let rounded = drop_digits(self.magnitude(), u32::from(self.scale));
        let signed = if self.is_negative() {
            -(rounded as i128)
        } else {
            rounded as i128
        };
        i64::try_from(signed).ok()
    }

    /// The nearest double.
    pub fn to_f64(&self) -> f64 {
        let mut buffer = [0; Numeric::TEXT_BYTES];
        self.text(&mut buffer).parse().unwrap_or(f64::NAN)
    }

    /// The longest text: sign, "0.", 38 digits, and room to spare.
    pub const TEXT_BYTES: usize = 48;

    /// The decimal text, written at the end of `buffer`.
    pub fn text<'b>(&self, buffer: &'b mut [u8; Numeric::TEXT_BYTES]) -> &'b str {
        let mut at = buffer.len();
        let mut rest = self.magnitude();
        let mut written = 0;
        // Ten digits at a time, so that nearly all divisions are of machine words.
        let scale = u32::from(self.scale);
        while rest != 0 || written <= scale {
            let (mut chunk, chunk_digits) = if rest >> 64 == 0 {
                let chunk = rest as u64;
                rest = 0;
                (chunk, 0)
            } else {
                let chunk = (rest % 10_000_000_000) as u64;
                rest /= 10_000_000_000;
                (chunk, 10)
            };
            let mut in_chunk = 0;
            while chunk != 0 || in_chunk < chunk_digits || (rest == 0 && written <= scale) {
                if written == scale && scale != 0 {
                    at -= 1;
                    buffer[at] = b'.';
                }
                at -= 1;
                buffer[at] = b'0' + (chunk % 10) as u8;
                chunk /= 10;
                in_chunk += 1;
                written += 1;
            }
        }
        if self.is_negative() {
            at -= 1;
            buffer[at] = b'-';
        }
        std::str::from_utf8(&buffer[at..]).expect("digits are ASCII")
    }

    /// Reads decimal text with optional sign, point and exponent, without surrounding blanks. Digits after the
    /// point beyond what 38 can hold are rounded away.
    pub fn parse(text: &str) -> Result<Numeric, NumericError> {
        let bytes = text.as_bytes();
        let (negative, unsigned) = match bytes.first() {
            Some(b'-') => (true, &bytes[1..]),
            Some(b'+') => (false, &bytes[1..]),
            _ => (false, bytes),
        };
        if ["nan", "inf", "infinity"]
            .iter()
            .any(|name| unsigned.eq_ignore_ascii_case(name.as_bytes()))
        {
            return Err(NumericError::NotFinite);
        }
        let mut decimal = Decimal::default();
        let mut at = 0;
        let mut digits = 0;
        let mut after_point = false;
        while let Some(&byte) = unsigned.get(at) {
            match byte {
                b'0'..=b'9' => {
                    decimal.push(byte - b'0', after_point);
                    digits += 1;
                }
                b'.' if !after_point => after_point = true,
                _ => break,
            }
            at += 1;
        }
        if digits == 0 {
            return Err(NumericError::Syntax);
        }
        let exponent = match unsigned.get(at) {
            None => 0,
            Some(b'e' | b'E') => parse_exponent(&unsigned[at + 1..])?,
            Some(_) => return Err(NumericError::Syntax),
        };
        decimal.finish(negative, exponent)
    }
}

fn parse_exponent(text: &[u8]) -> Result<i32, NumericError> {
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NumericError::Syntax);
    }
    let mut value: i32 = 0;
    for digit in digits {
        value = value
            .saturating_mul(10)
            .saturating_add(i32::from(digit - b'0'))
            .min(1_000_000);
    }
    Ok(if negative { -value } else { value })
}

/// Digits as they are read: the significant ones that fit, and how many more there were.
#[derive(Default)]
struct Decimal {
    magnitude: u128,
    /// Digits after the point among those kept.
    scale: i32,
    /// Integer digits that did not fit.
    excess: i32,
    /// The first digit that did not fit.
    round_digit: Option<u8>,
}

impl Decimal {
    fn push(&mut self, digit: u8, after_point: bool) {
        if self.round_digit.is_none() && self.magnitude < LIMIT / 10 {
            self.magnitude = self.magnitude * 10 + u128::from(digit);
            self.scale = self.scale.saturating_add(i32::from(after_point));
        } else {
            self.round_digit.get_or_insert(digit);
            self.excess = self.excess.saturating_add(i32::from(!after_point));
        }
    }

    fn finish(mut self, negative: bool, exponent: i32) -> Result<Numeric, NumericError> {
        let maximum = i32::from(NUMERIC_MAX_PRECISION);
        let mut scale = self.scale.saturating_sub(self.excess).saturating_sub(exponent);
        let mut digits_to_drop = scale.saturating_sub(maximum).max(0) as u32;
        if digits_to_drop == 0 && self.round_digit.is_some_and(|digit| digit >= 5) {
            self.magnitude += 1;
            if self.magnitude == LIMIT {
                digits_to_drop = 1;
            }
        }
        if digits_to_drop > 0 {
            self.magnitude = drop_digits(self.magnitude, digits_to_drop);
            scale = scale.saturating_sub(digits_to_drop as i32);
        }
        if scale < 0 {
            if self.magnitude != 0 {
                if scale < -maximum {
                    return Err(NumericError::Overflow);
                }
                self.magnitude = self
                    .magnitude
                    .checked_mul(power((-scale) as u32))
                    .ok_or(NumericError::Overflow)?;
            }
            scale = 0;
        }
        Numeric::signed(negative, self.magnitude, scale as u8)
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; Numeric::TEXT_BYTES];
        f.write_str(self.text(&mut buffer))
    }
}

impl fmt::Debug for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Numeric) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Numeric) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Numeric) -> Ordering {
        if self.scale == other.scale {
            return self.mantissa().cmp(&other.mantissa());
        }
        match (self.mantissa().signum(), other.mantissa().signum()) {
            (a, b) if a != b => return a.cmp(&b),
            (0, _) => return Ordering::Equal,
            _ => {}
        }
        let scale = self.scale.max(other.scale);
        let at_scale = |number: &Numeric| {
            let wide = Wide::product(number.magnitude(), power(u32::from(scale - number.scale)));
            (wide.high, wide.low)
        };
        let ordering = at_scale(self).cmp(&at_scale(other));
        if self.is_negative() {
            ordering.reverse()
        } else {
            ordering
        }
    }
}

impl Hash for Numeric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let normalized = self.normalized();
        (normalized.high, normalized.low, normalized.scale).hash(state);
    }
}

#[cfg(test)]
#[path = "numeric_tests.rs"]
mod tests;
