//! Order-preserving keys: the byte order of two keys is the order of their values.
//!
//! One value after the other, without separators; a key of the first columns is a prefix of the keys it groups:
//!
//! | type | bytes |
//! |---|---|
//! | bool | 0 or 1 |
//! | int2/4/8, date, time, timestamp, timestamptz | big-endian, sign bit flipped |
//! | float4/8 | IEEE bits big-endian: sign bit flipped when positive, all bits when negative; -0 as 0, NaN last |
//! | numeric | class and exponent byte, digit pairs + 1, 0; all complemented when negative; equal for 1.0 and 1.00 |
//! | text, varchar, char, jsonb, bytea | the bytes with 00 as 00 FF, then 00 01 |
//! | uuid | as it is |
//!
//! Columns of primary keys are never NULL; of indexes, see `index`. Integers are encoded by their own width: a value must be of the column's type.

use crate::types::{DataType, Datum, Numeric, Value};
use smallvec::SmallVec;
use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;

/// Bytes that a key holds without allocation: three 8-byte columns, or a uuid and one more.
const INLINE_BYTES: usize = 24;

/// Numeric: exponents from -60 to 60 lie around this class byte of the number one digit before the point.
const EXPONENT_BIAS: i32 = 60;
const NUMERIC_ZERO: u8 = 0x80;
const NUMERIC_POSITIVE: i32 = 0x81;
const NUMERIC_NEGATIVE: i32 = 0x7f;

/// What stands before a value that may be NULL, and for NULL.
const NOT_NULL: u8 = 1;
const NULL: u8 = 2;

/// Ends text and bytes; below the escape of a zero byte, so that a prefix comes before what it begins.
const TERMINATOR: [u8; 2] = [0, 1];
const ESCAPED_ZERO: [u8; 2] = [0, 0xff];

/// An encoded key. `Ord` and `Borrow<[u8]>` agree, so that maps can be asked with plain bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    bytes: SmallVec<[u8; INLINE_BYTES]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Bytes that are no key of the given types.
    Damaged { offset: usize },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Damaged { offset } => write!(f, "damaged key at byte {offset}"),
        }
    }
}

impl std::error::Error for KeyError {}

impl Key {
    pub fn new() -> Key {
        Key::default()
    }

    pub fn from_bytes(bytes: &[u8]) -> Key {
        Key {
            bytes: SmallVec::from_slice(bytes),
        }
    }

    /// The key of the values, in order.
    ///
    /// # Panics
    /// When one is NULL: the SQL layer refuses NULL in key columns before it makes a key.
    pub fn encode<'d>(values: impl IntoIterator<Item = Datum<'d>>) -> Key {
        let mut key = Key::new();
        for value in values {
            key.push(&value);
        }
        key
    }

    /// Appends one value.
    ///
    /// # Panics
    /// When it is NULL.
    #[inline]
    pub fn push(&mut self, value: &Datum<'_>) {
        match value {
            Datum::Null => panic!("a key column is NULL"),
            Datum::Bool(v) => self.bytes.push(u8::from(*v)),
            Datum::Int2(v) => self.put(&(*v as u16 ^ 1 << 15).to_be_bytes()),
            Datum::Int4(v) | Datum::Date(v) => self.put(&(*v as u32 ^ 1 << 31).to_be_bytes()),
            Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => {
                self.put(&(*v as u64 ^ 1 << 63).to_be_bytes());
            }
            Datum::Float4(v) => {
                let bits = if v.is_nan() {
                    f32::NAN.to_bits() & !(1 << 31)
                } else {
                    (v + 0.0).to_bits()
                };
                let flipped = if bits >> 31 != 0 { !bits } else { bits ^ 1 << 31 };
                self.put(&flipped.to_be_bytes());
            }
            Datum::Float8(v) => {
                let bits = if v.is_nan() {
                    f64::NAN.to_bits() & !(1 << 63)
                } else {
                    (v + 0.0).to_bits()
                };
                let flipped = if bits >> 63 != 0 { !bits } else { bits ^ 1 << 63 };
                self.put(&flipped.to_be_bytes());
            }
            Datum::Numeric(v) => self.push_numeric(v),
            Datum::Text(v) | Datum::Jsonb(v) => self.push_escaped(v.as_bytes()),
            Datum::Bytea(v) => self.push_escaped(v),
            Datum::Uuid(v) => self.put(v),
        }
    }

    /// Appends a value that may be NULL, which comes last.
    #[inline]
    pub fn push_nullable(&mut self, value: &Datum<'_>) {
        match value {
            Datum::Null => self.bytes.push(NULL),
            value => {
                self.bytes.push(NOT_NULL);
                self.push(value);
            }
        }
    }

    /// Appends bytes that are part of a key.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.put(bytes);
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn push_escaped(&mut self, mut rest: &[u8]) {
        while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
            self.put(&rest[..zero]);
            self.put(&ESCAPED_ZERO);
            rest = &rest[zero + 1..];
        }
        self.put(rest);
        self.put(&TERMINATOR);
    }

    fn push_numeric(&mut self, value: &Numeric) {
        let normalized = value.normalized();
        if normalized.is_zero() {
            self.bytes.push(NUMERIC_ZERO);
            return;
        }
        let biased = normalized.exponent() + EXPONENT_BIAS;
        debug_assert!((0..=2 * EXPONENT_BIAS).contains(&biased));
        let complement = if normalized.is_negative() { 0xff } else { 0 };
        let class = if normalized.is_negative() {
            NUMERIC_NEGATIVE - biased
        } else {
            NUMERIC_POSITIVE + biased
        };
        self.bytes.push(class as u8);
        let mut digits = [0u8; 40];
        let mut count = 0;
        let mut rest = normalized.mantissa().unsigned_abs();
        // Zeros at the end of an integer say nothing beside the exponent.
        while rest.is_multiple_of(10) {
            rest /= 10;
        }
        while rest != 0 {
            digits[count] = (rest % 10) as u8;
            rest /= 10;
            count += 1;
        }
        let digits = &mut digits[..count];
        digits.reverse();
        for pair in digits.chunks(2) {
            let pair = pair[0] * 10 + pair.get(1).copied().unwrap_or(0);
            self.bytes.push((pair + 1) ^ complement);
        }
        self.bytes.push(complement);
    }

    /// The values of a key of the given column types. Hostile bytes are refused.
    pub fn decode(bytes: &[u8], types: &[DataType]) -> Result<Vec<Value>, KeyError> {
        let mut reader = Reader { bytes, at: 0 };
        let values = types
            .iter()
            .map(|ty| reader.value(ty))
            .collect::<Option<Vec<_>>>();
        match values {
            Some(values) if reader.at == bytes.len() => Ok(values),
            _ => Err(KeyError::Damaged { offset: reader.at }),
        }
    }

    /// The least key that is greater than every key beginning with this one; `None` when there is none.
    pub fn after_prefix(&self) -> Option<Key> {
        let kept = self.bytes.iter().rposition(|byte| *byte != 0xff)?;
        let mut next = Key::from_bytes(&self.bytes[..=kept]);
        next.bytes[kept] += 1;
        Some(next)
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Key {
        Key::from_bytes(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(")?;
        for byte in &self.bytes {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// A range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub lower: Bound<Key>,
    pub upper: Bound<Key>,
}

impl KeyRange {
    pub fn all() -> KeyRange {
        KeyRange {
            lower: Bound::Unbounded,
            upper: Bound::Unbounded,
        }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &Key) -> KeyRange {
        KeyRange {
            lower: Bound::Included(prefix.clone()),
            upper: prefix.after_prefix().map_or(Bound::Unbounded, Bound::Excluded),
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        let above = match &self.lower {
            Bound::Included(lower) => key >= lower.as_ref(),
            Bound::Excluded(lower) => key > lower.as_ref(),
            Bound::Unbounded => true,
        };
        above
            && match &self.upper {
                Bound::Included(upper) => key <= upper.as_ref(),
                Bound::Excluded(upper) => key < upper.as_ref(),
                Bound::Unbounded => true,
            }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self
            .bytes
            .get(self.at..self.at.checked_add(N)?)?
            .try_into()
            .ok()?;
        self.at += N;
        Some(taken)
    }

    fn i32(&mut self) -> Option<i32> {
        Some((u32::from_be_bytes(self.take()?) ^ 1 << 31) as i32)
    }

    fn i64(&mut self) -> Option<i64> {
        Some((u64::from_be_bytes(self.take()?) ^ 1 << 63) as i64)
    }

    fn value(&mut self, ty: &DataType) -> Option<Value> {
        Some(match ty {
            DataType::Bool => match self.take::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return None,
            },
            DataType::Int2 => Value::Int2((u16::from_be_bytes(self.take()?) ^ 1 << 15) as i16),
            DataType::Int4 => Value::Int4(self.i32()?),
            DataType::Int8 => Value::Int8(self.i64()?),
            DataType::Float4 => {
                let bits = u32::from_be_bytes(self.take()?);
                Value::Float4(f32::from_bits(if bits >> 31 != 0 {
                    bits ^ 1 << 31
                } else {
                    !bits
                }))
            }
            DataType::Float8 => {
                let bits = u64::from_be_bytes(self.take()?);
                Value::Float8(f64::from_bits(if bits >> 63 != 0 {
                    bits ^ 1 << 63
                } else {
                    !bits
                }))
            }
            DataType::Numeric(modifier) => {
                let number = self.numeric()?;
                Value::Numeric(match modifier {
                    Some((_, scale)) => number.rescale(*scale).ok()?,
                    None => number,
                })
            }
            DataType::Text | DataType::Varchar(_) | DataType::Char(_) => {
                Value::Text(String::from_utf8(self.escaped()?).ok()?)
            }
            DataType::Jsonb => Value::Jsonb(String::from_utf8(self.escaped()?).ok()?),
            DataType::Bytea => Value::Bytea(self.escaped()?),
            DataType::Date => Value::Date(self.i32()?),
            DataType::Time => Value::Time(self.i64()?),
            DataType::Timestamp => Value::Timestamp(self.i64()?),
            DataType::TimestampTz => Value::TimestampTz(self.i64()?),
            DataType::Uuid => Value::Uuid(self.take()?),
        })
    }

    fn escaped(&mut self) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let [byte] = self.take()?;
            if byte != 0 {
                content.push(byte);
                continue;
            }
            match self.take::<1>()? {
                [0xff] => content.push(0),
                [1] => return Some(content),
                _ => return None,
            }
        }
    }

    fn numeric(&mut self) -> Option<Numeric> {
        let [class] = self.take()?;
        if class == NUMERIC_ZERO {
            return Some(Numeric::ZERO);
        }
        let negative = class < NUMERIC_ZERO;
        let (biased, complement) = if negative {
            (NUMERIC_NEGATIVE - i32::from(class), 0xff)
        } else {
            (i32::from(class) - NUMERIC_POSITIVE, 0)
        };
        let mut mantissa: i128 = 0;
        let mut digits = 0;
        loop {
            let [byte] = self.take()?;
            match byte ^ complement {
                0 => break,
                pair @ 1..=100 => {
                    mantissa = mantissa.checked_mul(100)?.checked_add(i128::from(pair - 1))?;
                    digits += 2;
                }
                _ => return None,
            }
        }
        let mut scale = digits - (biased - EXPONENT_BIAS);
        while scale > 0 && mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        if scale < 0 {
            mantissa = mantissa.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?;
            scale = 0;
        }
        let signed = if negative { -mantissa } else { mantissa };
        Numeric::new(signed, u8::try_from(scale).ok()?).ok()
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
