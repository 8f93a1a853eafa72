//! Values as PostgreSQL prints them, appended to the caller's buffer.

use super::{Format, TimeZone, binary, datetime, float};
use bytes::{BufMut, BytesMut};
use scry_engine::types::{DataType, Datum, Numeric};

/// The length that stands for NULL in a message.
const NULL_LENGTH: i32 = -1;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Blanks to pad `char(n)` with, a piece at a time.
const BLANKS: &[u8; 64] = &[b' '; 64];

/// One field of a DataRow or of COPY binary: its length as an i32, then its bytes; NULL is the length -1.
#[inline]
pub fn write_field(out: &mut BytesMut, datum: &Datum<'_>, ty: &DataType, format: Format, zone: &TimeZone) {
    if datum.is_null() {
        out.put_i32(NULL_LENGTH);
        return;
    }
    let start = out.len();
    out.put_i32(0);
    match format {
        Format::Text => write_text(out, datum, ty, zone),
        Format::Binary => binary::write_binary(out, datum, ty),
    }
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The text of a value as `write_text` writes it; `None`: it is NULL.
pub fn as_text(datum: &Datum<'_>, ty: &DataType, zone: &TimeZone) -> Option<String> {
    if matches!(datum, Datum::Null) {
        return None;
    }
    let mut text = Vec::new();
    write_text(&mut text, datum, ty, zone);
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The text of a value; nothing for NULL. `ty` matters for `char(n)` alone, which is padded with blanks.
#[inline]
pub fn write_text(out: &mut impl BufMut, datum: &Datum<'_>, ty: &DataType, zone: &TimeZone) {
    match datum {
        Datum::Null => {}
        Datum::Bool(v) => out.put_u8(if *v { b't' } else { b'f' }),
        Datum::Int2(v) => write_integer(i64::from(*v), out),
        Datum::Int4(v) => write_integer(i64::from(*v), out),
        Datum::Int8(v) => write_integer(*v, out),
        Datum::Float4(v) => float::write_float4(*v, out),
        Datum::Float8(v) => float::write_float8(*v, out),
        Datum::Numeric(v) => {
            let mut buffer = [0; Numeric::TEXT_BYTES];
            out.put_slice(v.text(&mut buffer).as_bytes());
        }
        Datum::Text(v) => {
            out.put_slice(v.as_bytes());
            if let DataType::Char(length) = ty {
                pad(v, *length, out);
            }
        }
        Datum::Jsonb(v) => out.put_slice(v.as_bytes()),
        Datum::Bytea(v) => {
            out.put_slice(b"\\x");
            for byte in *v {
                out.put_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        Datum::Date(v) => datetime::write_date(*v, out),
        Datum::Time(v) => datetime::write_time(*v, out),
        Datum::Timestamp(v) => datetime::write_timestamp(*v, out),
        Datum::TimestampTz(v) => datetime::write_timestamptz(*v, zone, out),
        Datum::Uuid(v) => write_uuid(v, out),
    }
}

/// The blanks that `char(length)` has after `text`.
pub(super) fn pad(text: &str, length: u32, out: &mut impl BufMut) {
    let mut missing = (length as usize).saturating_sub(text.chars().count());
    while missing > 0 {
        let piece = missing.min(BLANKS.len());
        out.put_slice(&BLANKS[..piece]);
        missing -= piece;
    }
}

const PAIRS: &[u8; 200] = &{
    let mut pairs = [0u8; 200];
    let mut value = 0;
    while value < 100 {
        pairs[2 * value] = b'0' + (value / 10) as u8;
        pairs[2 * value + 1] = b'0' + (value % 10) as u8;
        value += 1;
    }
    pairs
};

/// Decimal digits of an integer, two at a time.
#[inline]
pub fn write_integer(value: i64, out: &mut impl BufMut) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if rest >= 10 {
        let pair = rest as usize * 2;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        buffer[at] = b'0' + rest as u8;
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    out.put_slice(&buffer[at..]);
}

fn write_uuid(uuid: &[u8; 16], out: &mut impl BufMut) {
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.put_u8(b'-');
        }
        out.put_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}
