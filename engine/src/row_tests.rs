use super::*;
use crate::types::Numeric;
use proptest::prelude::*;

fn numeric(text: &str) -> Value {
    Value::Numeric(Numeric::parse(text).expect("a number"))
}

fn every_type() -> RowLayout {
    RowLayout::new(&[
        DataType::Text,
        DataType::Bool,
        DataType::Int2,
        DataType::Int4,
        DataType::Bytea,
        DataType::Int8,
        DataType::Float4,
        DataType::Float8,
        DataType::Numeric(Some((10, 2))),
        DataType::Numeric(Some((30, 5))),
        DataType::Numeric(None),
        DataType::Varchar(Some(20)),
        DataType::Date,
        DataType::Time,
        DataType::Timestamp,
        DataType::TimestampTz,
        DataType::Uuid,
        DataType::Jsonb,
    ])
}

fn datum(ty: DataType) -> BoxedStrategy<Value> {
    let any_value = match ty {
        DataType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        DataType::Int2 => any::<i16>().prop_map(Value::Int2).boxed(),
        DataType::Int4 => any::<i32>().prop_map(Value::Int4).boxed(),
        DataType::Int8 => any::<i64>().prop_map(Value::Int8).boxed(),
        DataType::Float4 => any::<f32>().prop_map(Value::Float4).boxed(),
        DataType::Float8 => any::<f64>().prop_map(Value::Float8).boxed(),
        DataType::Numeric(modifier) => {
            let (precision, scale) = modifier.unwrap_or((20, 6));
            let bound = 10i128.pow(u32::from(precision));
            (-bound + 1..bound)
                .prop_map(move |m| Value::Numeric(Numeric::new(m, scale).expect("within precision")))
                .boxed()
        }
        DataType::Text | DataType::Varchar(_) | DataType::Char(_) => {
            "\\PC{0,12}".prop_map(Value::Text).boxed()
        }
        DataType::Bytea => proptest::collection::vec(any::<u8>(), 0..12)
            .prop_map(Value::Bytea)
            .boxed(),
        DataType::Date => any::<i32>().prop_map(Value::Date).boxed(),
        DataType::Time => any::<i64>().prop_map(Value::Time).boxed(),
        DataType::Timestamp => any::<i64>().prop_map(Value::Timestamp).boxed(),
        DataType::TimestampTz => any::<i64>().prop_map(Value::TimestampTz).boxed(),
        DataType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        DataType::Jsonb => "[a-z]{0,9}".prop_map(Value::Jsonb).boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 4 => any_value].boxed()
}

fn values() -> impl Strategy<Value = Vec<Value>> {
    every_type()
        .types()
        .iter()
        .map(|ty| datum(*ty))
        .collect::<Vec<_>>()
}

proptest! {
    #[test]
    fn rows_give_back_what_was_put_in(values in values()) {
        let layout = every_type();
        let bytes = layout.encode(&values).expect("encodes");
        layout.validate(&bytes).expect("is valid");
        prop_assert_eq!(layout.row(&bytes).values(), values);
    }

    #[test]
    fn an_update_equals_a_new_encoding(old in values(), new in values(), chosen in any::<u32>()) {
        let layout = every_type();
        let mut expected = old.clone();
        let mut changes = Vec::new();
        for (column, value) in new.iter().enumerate() {
            if chosen >> column & 1 != 0 {
                expected[column] = value.clone();
                changes.push((column, value.as_datum()));
            }
        }
        let before = layout.encode(&old).expect("encodes");
        let after = layout.update(&before, &changes).expect("updates");
        prop_assert_eq!(&after, &layout.encode(&expected).expect("encodes"));
    }

    #[test]
    fn the_before_image_and_the_new_row_give_the_old_row_back(old in values(), new in values()) {
        let layout = every_type();
        let (old, new) = (layout.encode(&old).expect("encodes"), layout.encode(&new).expect("encodes"));
        let before = layout.encode_before(&old, &new);
        let changes = layout.decode_before(&before).expect("decodes");
        prop_assert_eq!(layout.update(&new, &changes).expect("updates"), old);
    }

    #[test]
    fn damaged_rows_are_refused_or_readable(values in values(), at in any::<usize>(), byte in any::<u8>(), cut in any::<bool>()) {
        let layout = every_type();
        let mut bytes = layout.encode(&values).expect("encodes");
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if layout.validate(&bytes).is_ok() {
            let _ = layout.row(&bytes).values();
        }
        let _ = layout.decode_before(&bytes);
    }
}

#[test]
fn an_unchanged_row_has_an_empty_before_image() {
    let layout = RowLayout::new(&[DataType::Int4, DataType::Text]);
    let row = layout
        .encode(&[Value::Int4(1), Value::Text("x".into())])
        .expect("encodes");
    assert_eq!(
        layout.decode_before(&layout.encode_before(&row, &row)),
        Ok(vec![])
    );
}

#[test]
fn the_hot_update_needs_few_bytes() {
    let layout = RowLayout::new(&[DataType::Int4, DataType::Int4, DataType::Int4, DataType::Char(84)]);
    let row = layout
        .encode(&[
            Value::Int4(7),
            Value::Int4(1),
            Value::Int4(0),
            Value::Text(String::new()),
        ])
        .expect("encodes");
    let new = layout.update(&row, &[(2, Datum::Int4(-55))]).expect("updates");
    assert_eq!(layout.row(&new).get(2), Datum::Int4(-55));
    assert_eq!(layout.encode_before(&row, &new).len(), 1 + 2 + 4);
}

#[test]
fn numerics_are_held_at_the_scale_of_their_column() {
    let layout = RowLayout::new(&[DataType::Numeric(Some((10, 2))), DataType::Numeric(None)]);
    let row = layout
        .encode(&[numeric("1.5"), numeric("1.500")])
        .expect("encodes");
    assert_eq!(format!("{:?}", layout.row(&row)), "[Numeric(1.50), Numeric(1.5)]");
}

#[test]
fn what_is_no_row_is_an_error_with_its_reason() {
    let layout = RowLayout::new(&[DataType::Int4, DataType::Text]);
    assert_eq!(
        layout.encode(&[Value::Int4(1)]),
        Err(RowError::WrongColumn { found: 1, columns: 2 })
    );
    assert_eq!(
        layout.encode(&[Value::Int8(1), Value::Null]),
        Err(RowError::WrongType {
            column: 0,
            expected: DataType::Int4
        })
    );
    let large = "x".repeat(MAX_ROW_BYTES);
    assert!(matches!(
        layout.encode(&[Value::Int4(1), Value::Text(large)]),
        Err(RowError::TooLarge { .. })
    ));
    let row = layout
        .encode(&[Value::Int4(1), Value::Text("é".into())])
        .expect("encodes");
    assert!(matches!(
        layout.validate(&row[..4]),
        Err(RowError::Damaged { .. })
    ));
    let mut damaged = row.clone();
    let last = damaged.len() - 1;
    damaged[last] = b'x';
    assert!(matches!(
        layout.validate(&damaged),
        Err(RowError::Damaged {
            what: "invalid UTF-8",
            ..
        })
    ));
}

#[test]
fn a_numeric_with_more_digits_before_the_point_than_its_column_holds_is_damage() {
    let layout = RowLayout::new(&[DataType::Numeric(None)]);
    let mut row = layout
        .encode(&[numeric("99999999999999999999.5")])
        .expect("twenty digits");
    layout.validate(&row).expect("valid");
    // The same digits without a point are twenty-one.
    row[3] = 0;
    assert!(matches!(
        layout.validate(&row),
        Err(RowError::Damaged {
            what: "value out of range",
            ..
        })
    ));
}

/// The layout of `every_type` whose columns from `first` on were added, with these missing values.
fn grown(first: usize, values: &[Value]) -> RowLayout {
    let missing: Vec<&Value> = values[first..].iter().collect();
    RowLayout::with_missing(every_type().types(), &missing)
}

proptest! {
    #[test]
    fn a_row_without_the_last_columns_has_their_missing_values(
        row in values(), missing in values(), first in 0usize..18, has in 0usize..18, chosen in any::<u32>()
    ) {
        let has = first.max(has);
        let layout = grown(first, &missing);
        let narrow = RowLayout::new(&layout.types()[..has]);
        let short = narrow.encode(&row[..has]).expect("encodes");
        layout.validate(&short).expect("is valid");
        let expected: Vec<Value> = row[..has].iter().chain(&missing[has..]).cloned().collect();
        prop_assert_eq!(layout.row(&short).values(), expected.clone());
        prop_assert_eq!(layout.row(&short).width(), has);
        for (column, value) in expected.iter().enumerate() {
            prop_assert_eq!(layout.row(&short).is_null(column), value.is_null());
        }

        // Written again, it has all columns.
        let full = layout.encode(&expected).expect("encodes");
        prop_assert_eq!(&layout.update(&short, &[]).expect("updates"), &full);
        let changes: Vec<(usize, Datum<'_>)> =
            row.iter().map(Value::as_datum).enumerate().filter(|(at, _)| chosen >> at & 1 != 0).collect();
        let updated = layout.update(&short, &changes).expect("updates");
        prop_assert_eq!(&updated, &layout.update(&full, &changes).expect("updates"));

        // That the columns are there now is no difference.
        let before = layout.encode_before(&short, &full);
        prop_assert_eq!(layout.decode_before(&before), Ok(vec![]));
        let before = layout.encode_before(&short, &updated);
        let undone = layout.update(&updated, &layout.decode_before(&before).expect("decodes"));
        prop_assert_eq!(undone.expect("updates"), full.clone());

        // Who knows the first columns alone reads those.
        prop_assert_eq!(narrow.row(&full).values(), &expected[..has]);
        prop_assert_eq!(narrow.is_wider(&full), has < 18);
        prop_assert_eq!(narrow.validate(&full).is_ok(), has == 18);
        let short_before = narrow.encode_before(&short, &narrow.encode(&expected[..has]).expect("encodes"));
        prop_assert_eq!(layout.decode_before(&short_before), Ok(vec![]));
    }
}

#[test]
fn a_row_that_lacks_a_column_that_was_never_added_is_damage() {
    let values = vec![Value::Null; 18];
    let layout = grown(9, &values);
    let short = RowLayout::new(&layout.types()[..8])
        .encode(&values[..8])
        .expect("encodes");
    assert!(matches!(
        layout.validate(&short),
        Err(RowError::Damaged { offset: 0, .. })
    ));
}
