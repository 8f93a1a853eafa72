//! Values from text and from binary.

use scry_engine::{DataType, Datum, Key, RowLayout, Value};
use scry_sql::types::{
    InputContext, TimeZone, parse_binary, parse_text, parse_text_bytes, write_binary, write_text,
};

use crate::target::{Outcome, Target};

const TYPES: [DataType; 19] = [
    DataType::Bool,
    DataType::Int2,
    DataType::Int4,
    DataType::Int8,
    DataType::Float4,
    DataType::Float8,
    DataType::Numeric(None),
    DataType::Numeric(Some((10, 2))),
    DataType::Numeric(Some((38, 38))),
    DataType::Text,
    DataType::Varchar(Some(5)),
    DataType::Char(5),
    DataType::Bytea,
    DataType::Date,
    DataType::Time,
    DataType::Timestamp,
    DataType::TimestampTz,
    DataType::Uuid,
    DataType::Jsonb,
];

/// What PostgreSQL answers to these stands in the same file for the type tests.
const GOLDEN: &str = include_str!("../../../sql/testdata/types.txt");

/// Its clock repeats an hour each year, and its oldest offset has seconds.
const ZONE: &str = "America/New_York";

pub struct Types {
    zone: TimeZone,
}

impl Types {
    pub fn new() -> Self {
        Self {
            zone: TimeZone::parse(ZONE).expect("a zone"),
        }
    }

    fn text(&self, value: &Value, ty: &DataType) -> String {
        let mut out = Vec::new();
        write_text(&mut out, &Datum::from(value), ty, &self.zone);
        String::from_utf8(out).expect("text is UTF-8")
    }
}

fn binary(value: &Value, ty: &DataType) -> Vec<u8> {
    let mut out = Vec::new();
    write_binary(&mut out, &Datum::from(value), ty);
    out
}

impl Target for Types {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let context = InputContext {
            zone: &self.zone,
            now: 0,
        };
        let mut seeds = Vec::new();
        for line in GOLDEN.lines() {
            let text = line.split('\t').nth(1).unwrap_or_default();
            for (index, ty) in TYPES.iter().enumerate() {
                if let Ok(value) = parse_text(text, ty, &context) {
                    seeds.push([&[index as u8, 0], text.as_bytes()].concat());
                    seeds.push([&[index as u8, 1][..], &binary(&value, ty)].concat());
                }
            }
        }
        seeds
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let words = "1 0 -1 99999999999999999999 1e38 1e-38 NaN infinity - + . : / e BC AM PM T Z UTC +05:30 -15:59:59 \
                     Europe/Berlin EST January feb 2024-02-29 1883-11-18 12:03:57 24:00:00 23:59:60 0001-01-01 262142-12-31 now \
                     today epoch allballs true f \\x \\000 null [ ] { } , \"\\u0041\" \"\\ud834\\udd1e\" 1.0 yesterday";
        words
            .split_whitespace()
            .map(|word| word.as_bytes().to_vec())
            .collect()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        let [ty, form, bytes @ ..] = input else {
            return Outcome::of("too short");
        };
        let index = usize::from(*ty) % TYPES.len();
        let ty = &TYPES[index];
        let context = InputContext {
            zone: &self.zone,
            now: 1_700_000_000_000_000,
        };
        let read = match form & 1 {
            0 => parse_text_bytes(bytes, ty, &context),
            _ => parse_binary(bytes, ty, &context),
        };
        let value = match read {
            Ok(value) => value,
            Err(error) => {
                assert!(!error.code.as_str().starts_with("XX"), "{ty:?}: {error:?}");
                return Outcome::of((index, error.code, Outcome::of_message(&error.message))).turned_away();
            }
        };
        let text = self.text(&value, ty);
        let from_text = parse_text(&text, ty, &context)
            .unwrap_or_else(|error| panic!("{ty:?} {value:?} as {text:?}: {error:?}"));
        assert_eq!(from_text, value, "{ty:?} as {text:?}");
        assert_eq!(self.text(&from_text, ty), text);
        let bytes = binary(&value, ty);
        let from_binary = parse_binary(&bytes, ty, &context)
            .unwrap_or_else(|error| panic!("{ty:?} {value:?} as {bytes:?}: {error:?}"));
        assert_eq!(from_binary, value, "{ty:?} as {bytes:?}");
        assert_eq!(binary(&from_binary, ty), bytes);
        stored(&value, ty);
        Outcome::of((index, form & 1, text.len()))
    }
}

/// What was read goes into a row and a key, and comes back.
fn stored(value: &Value, ty: &DataType) {
    let layout = RowLayout::new(&[*ty]);
    let Ok(row) = layout.encode(std::slice::from_ref(value)) else {
        // Digits before the point that a column without precision has no room for.
        assert_eq!(*ty, DataType::Numeric(None), "{value:?}");
        return;
    };
    layout.validate(&row).expect("its own encoding");
    let stored = layout.row(&row).get(0).to_value();
    if *ty != DataType::Numeric(None) {
        assert_eq!(stored, *value, "{ty:?}");
    }
    let key = Key::encode([Datum::from(&stored)]);
    assert_eq!(Key::decode(&key, &[*ty]), Ok(vec![stored]), "{ty:?}");
}
