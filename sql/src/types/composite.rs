//! Rows as text, as PostgreSQL writes a composite value (`record_out`): `(1,"a b",)`.

use super::{TimeZone, write_text};
use scry_engine::{DataType, Datum};

/// Appends a row. NULL is nothing at all; quoted are texts that are empty or have one of the signs `"\(),` or a space in
/// them.
pub fn write_composite<'d>(
    out: &mut Vec<u8>,
    fields: impl IntoIterator<Item = (Datum<'d>, DataType)>,
    zone: &TimeZone,
) {
    let mut text = Vec::new();
    for (index, (value, ty)) in fields.into_iter().enumerate() {
        out.push(if index == 0 { b'(' } else { b',' });
        if value.is_null() {
            continue;
        }
        text.clear();
        write_text(&mut text, &value, &ty, zone);
        let quoted =
            |byte: &u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',') || byte.is_ascii_whitespace();
        if !text.is_empty() && !text.iter().any(quoted) {
            out.extend_from_slice(&text);
            continue;
        }
        out.push(b'"');
        for &byte in &text {
            if matches!(byte, b'"' | b'\\') {
                out.push(byte);
            }
            out.push(byte);
        }
        out.push(b'"');
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_postgresql_quotes_them() {
        let texts = [
            Some("plain"),
            Some("two words"),
            None,
            Some(""),
            Some(r#"a"b\c"#),
            Some("(x,y)"),
        ];
        let fields = texts.map(|text| (text.map_or(Datum::Null, Datum::Text), DataType::Text));
        let mut out = Vec::new();
        write_composite(&mut out, fields, &TimeZone::utc());
        assert_eq!(
            String::from_utf8(out).expect("text"),
            r#"(plain,"two words",,"","a""b\\c","(x,y)")"#
        );
        let mut out = Vec::new();
        let fields = [
            (Datum::Int4(1), DataType::Int4),
            (Datum::Bool(true), DataType::Bool),
        ];
        write_composite(&mut out, fields, &TimeZone::utc());
        assert_eq!(out, b"(1,t)");
    }
}
