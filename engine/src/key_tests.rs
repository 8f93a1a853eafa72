use super::*;
use proptest::prelude::*;
use std::cmp::Ordering;

fn numeric() -> impl Strategy<Value = Numeric> {
    prop_oneof![
        (-200i128..200, 0u8..4).prop_map(|(m, s)| Numeric::new(m, s).expect("in range")),
        (any::<i128>(), 0u32..39, 0u8..39)
            .prop_map(|(m, digits, s)| Numeric::new(m % 10i128.pow(digits), s).expect("in range")),
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(-f64::NAN),
        -3.0..3.0
    ]
}

fn pair() -> impl Strategy<Value = (Value, Value, DataType)> {
    fn both<T: std::fmt::Debug + 'static>(
        strategy: impl Strategy<Value = T> + Clone + 'static,
        make: fn(T) -> Value,
        ty: DataType,
    ) -> BoxedStrategy<(Value, Value, DataType)> {
        (strategy.clone(), strategy)
            .prop_map(move |(a, b)| (make(a), make(b), ty))
            .boxed()
    }
    let bytes = || proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..5);
    prop_oneof![
        both(any::<bool>().boxed(), Value::Bool, DataType::Bool),
        both(any::<i16>().boxed(), Value::Int2, DataType::Int2),
        both(any::<i32>().boxed(), Value::Int4, DataType::Int4),
        both(any::<i64>().boxed(), Value::Int8, DataType::Int8),
        both(
            float().prop_map(|v| v as f32).boxed(),
            Value::Float4,
            DataType::Float4
        ),
        both(float().boxed(), Value::Float8, DataType::Float8),
        both(numeric().boxed(), Value::Numeric, DataType::Numeric(None)),
        both("[a-c\u{0}\u{e9}]{0,4}".boxed(), Value::Text, DataType::Text),
        both(bytes().boxed(), Value::Bytea, DataType::Bytea),
        both(any::<i32>().boxed(), Value::Date, DataType::Date),
        both(any::<i64>().boxed(), Value::TimestampTz, DataType::TimestampTz),
        both(any::<[u8; 16]>().boxed(), Value::Uuid, DataType::Uuid),
    ]
}

fn key(values: &[&Value]) -> Key {
    Key::encode(values.iter().map(|value| value.as_datum()))
}

proptest! {
    #[test]
    fn key_order_is_value_order((a, b, _) in pair()) {
        prop_assert_eq!(key(&[&a]).cmp(&key(&[&b])), a.as_datum().compare(&b.as_datum()), "{:?} {:?}", a, b);
    }

    #[test]
    fn the_second_column_decides_only_when_the_first_is_equal((a, b, _) in pair(), (c, d, _) in pair()) {
        let expected = a.as_datum().compare(&b.as_datum()).then(c.as_datum().compare(&d.as_datum()));
        prop_assert_eq!(key(&[&a, &c]).cmp(&key(&[&b, &d])), expected);
    }

    #[test]
    fn keys_give_their_values_back((a, b, ty) in pair()) {
        let decoded = Key::decode(&key(&[&a, &b]), &[ty, ty]);
        prop_assert_eq!(decoded, Ok(vec![a, b]));
    }

    #[test]
    fn hostile_bytes_are_refused_not_trusted(bytes in proptest::collection::vec(any::<u8>(), 0..40), (_, _, ty) in pair()) {
        let _ = Key::decode(&bytes, &[ty, DataType::Numeric(Some((5, 2))), DataType::Text]);
        let _ = Key::decode(&bytes, &[ty]);
    }

    #[test]
    fn a_prefix_range_holds_exactly_the_keys_that_begin_with_it(prefix in proptest::collection::vec(any::<u8>(), 0..3), rest in proptest::collection::vec(any::<u8>(), 0..3)) {
        let range = KeyRange::prefix(&Key::from_bytes(&prefix));
        prop_assert_eq!(range.contains(&rest), rest.starts_with(&prefix));
        prop_assert!(range.contains(&[prefix.clone(), rest].concat()));
    }
}

#[test]
fn equal_numbers_have_equal_keys() {
    let one = |text: &str| Key::encode([Datum::Numeric(Numeric::parse(text).expect("a number"))]);
    assert_eq!(one("1.0"), one("1.00"));
    assert_eq!(one("100"), one("100.000"));
    assert_eq!(one("0"), one("0.00"));
    assert_eq!(one("10").cmp(&one("9.99")), Ordering::Greater);
    assert_eq!(one("-10").cmp(&one("-9.99")), Ordering::Less);
}

#[test]
fn an_int4_key_is_four_bytes_and_inline() {
    let key = Key::encode([Datum::Int4(-1)]);
    assert_eq!(key.as_ref(), [0x7f, 0xff, 0xff, 0xff]);
    assert!(!key.bytes.spilled());
    assert!(size_of::<Key>() <= 32);
}

#[test]
fn the_end_of_the_key_space_has_no_successor() {
    assert_eq!(Key::from_bytes(&[0xff, 0xff]).after_prefix(), None);
    assert_eq!(
        Key::from_bytes(&[1, 0xff]).after_prefix(),
        Some(Key::from_bytes(&[2]))
    );
}
