//! The formats against `testdata/types.txt`, whose answers PostgreSQL 15 gave in time zone Europe/Berlin: type,
//! input, then `ok`, text and binary in hex, or SQLSTATE and message, separated by tabs.

use super::*;
use proptest::prelude::*;
use scry_engine::types::{DataType, Datum, Numeric, Value};

const GOLDEN: &str = include_str!("../../testdata/types.txt");

fn type_named(name: &str) -> DataType {
    let (base, arguments) = match name.split_once('(') {
        Some((base, rest)) => (base, rest.trim_end_matches(')')),
        None => (name, ""),
    };
    let mut numbers = arguments
        .split(',')
        .map_while(|number| number.parse::<u32>().ok());
    let (first, second) = (numbers.next(), numbers.next());
    match base {
        "boolean" => DataType::Bool,
        "smallint" => DataType::Int2,
        "integer" => DataType::Int4,
        "bigint" => DataType::Int8,
        "real" => DataType::Float4,
        "double precision" => DataType::Float8,
        "numeric" => DataType::Numeric(first.map(|p| (p as u8, second.unwrap_or(0) as u8))),
        "text" => DataType::Text,
        "character varying" => DataType::Varchar(first),
        "character" => DataType::Char(first.unwrap_or(1)),
        "bytea" => DataType::Bytea,
        "date" => DataType::Date,
        "time" => DataType::Time,
        "timestamp" => DataType::Timestamp,
        "timestamptz" => DataType::TimestampTz,
        "uuid" => DataType::Uuid,
        "jsonb" => DataType::Jsonb,
        other => panic!("no type {other}"),
    }
}

fn text(value: &Value, ty: &DataType, zone: &TimeZone) -> String {
    let mut out = Vec::new();
    write_text(&mut out, &value.as_datum(), ty, zone);
    String::from_utf8(out).expect("text")
}

fn binary(value: &Value, ty: &DataType) -> Vec<u8> {
    let mut out = Vec::new();
    write_binary(&mut out, &value.as_datum(), ty);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn text_and_binary_are_those_of_postgresql() {
    let zone = TimeZone::parse("Europe/Berlin").expect("a zone");
    let context = InputContext { zone: &zone, now: 0 };
    let mut differences = Vec::new();
    let mut lines = 0;
    for line in GOLDEN.lines() {
        lines += 1;
        let mut fields = line.split('\t');
        let mut field = || fields.next().unwrap_or_default();
        let (name, input, state, first, second) = (field(), field(), field(), field(), field());
        let ty = type_named(name);
        let expected = format!("{state}\t{first}\t{second}");
        let outcome = parse_text(input, &ty, &context);
        let found = match &outcome {
            Ok(value) => format!("ok\t{}\t{}", text(value, &ty, &zone), hex(&binary(value, &ty))),
            Err(error) => format!("{}\t{}\t", error.code, error.message),
        };
        if found != expected {
            differences.push(format!(
                "{name} {input:?}\n  PostgreSQL {expected}\n  here       {found}"
            ));
        }
        if let Ok(value) = outcome {
            let back = parse_binary(&binary(&value, &ty), &ty, &context).expect("its own binary form");
            assert_eq!(back, value, "{line}");
        }
    }
    assert!(lines > 150);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_is_not_supported_is_refused_with_its_reason() {
    let zone = TimeZone::utc();
    let context = InputContext { zone: &zone, now: 0 };
    let parse = |text: &str, ty: DataType| parse_text(text, &ty, &context).expect_err(text);
    assert_eq!(parse("infinity", DataType::Date).code.as_str(), "22008");
    assert_eq!(parse("-infinity", DataType::Timestamp).code.as_str(), "22008");
    assert_eq!(parse("0044-03-15 BC", DataType::Date).code.as_str(), "22008");
    assert_eq!(
        parse("300000-01-01", DataType::TimestampTz).code.as_str(),
        "22008"
    );
    assert_eq!(parse("NaN", DataType::Numeric(None)).code.as_str(), "22003");
    assert_eq!(parse("1e60", DataType::Numeric(None)).code.as_str(), "22003");
}

#[test]
fn hostile_bytes_are_refused_as_postgresql_words_it() {
    for (bytes, message) in [
        (&b"a\xff"[..], "invalid byte sequence for encoding \"UTF8\": 0xff"),
        (
            b"a\xc3(",
            "invalid byte sequence for encoding \"UTF8\": 0xc3 0x28",
        ),
        (
            b"\xe2\x82",
            "invalid byte sequence for encoding \"UTF8\": 0xe2 0x82",
        ),
        (b"a\0b", "invalid byte sequence for encoding \"UTF8\": 0x00"),
    ] {
        let error = check_text(bytes).expect_err(message);
        assert_eq!((error.code.as_str(), error.message.as_str()), ("22021", message));
    }
}

#[test]
fn instants_that_some_clock_could_not_show_are_out_of_range() {
    let zone = TimeZone::parse("America/New_York").expect("a zone");
    let context = InputContext { zone: &zone, now: 0 };
    for text in ["0001-01-01 00:00:00+00", "262142-12-31 23:59:59+00"] {
        let error = parse_text(text, &DataType::TimestampTz, &context).expect_err(text);
        assert_eq!(error.code.as_str(), "22008", "{text}");
    }
    let first = parse_text("0001-01-02 00:00:00+00", &DataType::TimestampTz, &context).expect("in range");
    assert_eq!(
        text(&first, &DataType::TimestampTz, &zone),
        "0001-01-01 19:03:58-04:56:02"
    );
}

#[test]
fn binary_jsonb_of_an_unknown_version_is_the_clients_mistake() {
    let zone = TimeZone::utc();
    let context = InputContext { zone: &zone, now: 0 };
    let error = parse_binary(b"\x02{}", &DataType::Jsonb, &context).expect_err("version 2");
    assert_eq!(error.code.as_str(), "22P03");
}

#[test]
fn words_for_days_depend_on_the_session() {
    let zone = TimeZone::parse("Asia/Tokyo").expect("a zone");
    // 2024-03-01 20:00 UTC is the next morning in Tokyo.
    let context = InputContext {
        zone: &zone,
        now: 1_709_323_200_000_000,
    };
    let parse = |input: &str, ty: DataType| text(&parse_text(input, &ty, &context).expect(input), &ty, &zone);
    assert_eq!(parse("today", DataType::Date), "2024-03-02");
    assert_eq!(parse("yesterday", DataType::Date), "2024-03-01");
    assert_eq!(parse("now", DataType::Timestamp), "2024-03-02 05:00:00");
    assert_eq!(parse("tomorrow", DataType::TimestampTz), "2024-03-03 00:00:00+09");
    assert_eq!(parse("epoch", DataType::TimestampTz), "1970-01-01 09:00:00+09");
}

#[test]
fn time_zones_are_set_by_name_hours_or_posix_rule() {
    for (input, name, offset) in [
        ("utc", "UTC", 0),
        ("europe/berlin", "Europe/Berlin", 3600),
        ("-8", "<-08>+08", -8 * 3600),
        ("5.5", "<+05:30>-05:30", 19_800),
        ("GMT-5:30", "GMT-5:30", 19_800),
    ] {
        let zone = TimeZone::parse(input).expect(input);
        assert_eq!((zone.name(), zone.offset_at(0)), (name, offset));
    }
    assert_eq!(
        TimeZone::parse("Mars/Olympus")
            .expect_err("no zone")
            .code
            .as_str(),
        "22023"
    );
}

#[test]
fn fields_carry_their_length_and_null_is_minus_one() {
    let mut out = bytes::BytesMut::new();
    let zone = TimeZone::utc();
    write_field(&mut out, &Datum::Int4(-42), &DataType::Int4, Format::Text, &zone);
    write_field(&mut out, &Datum::Null, &DataType::Int4, Format::Text, &zone);
    write_field(&mut out, &Datum::Int4(1), &DataType::Int4, Format::Binary, &zone);
    assert_eq!(&out[..], b"\0\0\0\x03-42\xff\xff\xff\xff\0\0\0\x04\0\0\0\x01");
}

fn any_value() -> impl Strategy<Value = (Value, DataType)> {
    use super::datetime::{DATE_MAX, DATE_MIN, MICROS_PER_DAY, TIMESTAMP_MAX, TIMESTAMP_MIN};
    let timestamps = TIMESTAMP_MIN + 2 * MICROS_PER_DAY..TIMESTAMP_MAX - 2 * MICROS_PER_DAY;
    prop_oneof![
        any::<bool>().prop_map(|v| (Value::Bool(v), DataType::Bool)),
        any::<i16>().prop_map(|v| (Value::Int2(v), DataType::Int2)),
        any::<i32>().prop_map(|v| (Value::Int4(v), DataType::Int4)),
        any::<i64>().prop_map(|v| (Value::Int8(v), DataType::Int8)),
        any::<f32>().prop_map(|v| (Value::Float4(v), DataType::Float4)),
        any::<f64>().prop_map(|v| (Value::Float8(v), DataType::Float8)),
        (any::<i128>(), 0u32..39, 0u8..39).prop_map(|(m, digits, scale)| {
            let number = Numeric::new(m % 10i128.pow(digits), scale).expect("in range");
            (Value::Numeric(number), DataType::Numeric(None))
        }),
        "[^\u{0}]{0,20}".prop_map(|v| (Value::Text(v), DataType::Text)),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|v| (Value::Bytea(v), DataType::Bytea)),
        (DATE_MIN..=DATE_MAX).prop_map(|v| (Value::Date(v), DataType::Date)),
        (0..=MICROS_PER_DAY).prop_map(|v| (Value::Time(v), DataType::Time)),
        timestamps
            .clone()
            .prop_map(|v| (Value::Timestamp(v), DataType::Timestamp)),
        timestamps.prop_map(|v| (Value::TimestampTz(v), DataType::TimestampTz)),
        any::<[u8; 16]>().prop_map(|v| (Value::Uuid(v), DataType::Uuid)),
    ]
}

proptest! {
    #[test]
    fn text_and_binary_round_trip((value, ty) in any_value()) {
        // Its clock repeats an hour each year; the printed offset tells the two apart.
        let zone = TimeZone::parse("America/New_York").expect("a zone");
        let context = InputContext { zone: &zone, now: 0 };
        let printed = text(&value, &ty, &zone);
        prop_assert_eq!(&parse_text(&printed, &ty, &context).expect("its own text"), &value, "{}", printed);
        let back = parse_binary(&binary(&value, &ty), &ty, &context).expect("its own binary form");
        prop_assert_eq!(text(&back, &ty, &zone), printed);
    }

    #[test]
    fn no_text_makes_a_reader_panic(input in "[ -~é]{0,24}", dateish in "[0-9TZ:./ +-]{0,24}", (_, ty) in any_value()) {
        let zone = TimeZone::utc();
        let context = InputContext { zone: &zone, now: 0 };
        for input in [input, dateish] {
            let _ = parse_text(&input, &ty, &context);
            let _ = parse_text(&input, &DataType::Jsonb, &context);
            let _ = parse_binary(input.as_bytes(), &ty, &context);
            let _ = TimeZone::parse(&input);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(input in proptest::collection::vec(any::<u8>(), 0..40), (_, ty) in any_value()) {
        let zone = TimeZone::utc();
        let _ = parse_binary(&input, &ty, &InputContext { zone: &zone, now: 0 });
    }

    #[test]
    fn normalised_json_stays_as_it_is(keys in proptest::collection::vec("[a-c\"\n]{0,3}", 0..5)) {
        let escape = |key: &str| key.replace('"', "\\\"").replace('\n', "\\n");
        let members: Vec<String> = keys.iter().map(|key| format!("\"{}\": 1", escape(key))).collect();
        let once = super::json::normalize(&format!("{{{}}}", members.join(","))).expect("valid");
        prop_assert_eq!(super::json::normalize(&once).expect("valid"), once);
    }
}
