//! Order-preserving keys.

use arbitrary::{Result, Unstructured};
use scry_engine::{DataType, Datum, Key, KeyRange, Value};

use super::values;
use crate::target::{Outcome, Target};

const COLUMNS_MAX: usize = 3;

pub struct Keys;

impl Target for Keys {
    fn seeds(&self) -> Vec<Vec<u8>> {
        values::seeds()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        check(input).unwrap_or(Outcome::of("too short"))
    }
}

fn check(input: &[u8]) -> Result<Outcome> {
    let mut u = Unstructured::new(input);
    let types = (0..u.int_in_range(1..=COLUMNS_MAX)?)
        .map(|_| values::data_type(&mut u))
        .collect::<Result<Vec<_>>>()?;
    let mut row = |others: Option<&[Value]>| {
        types
            .iter()
            .enumerate()
            .map(|(column, ty)| match others {
                // Often the same, so that later columns come to decide.
                Some(others) if u.ratio(1, 2)? => Ok(others[column].clone()),
                _ => values::value(&mut u, ty),
            })
            .collect::<Result<Vec<_>>>()
    };
    let a = row(None)?;
    let b = row(Some(&a))?;
    let (key_a, key_b) = (key(&a), key(&b));
    let order = a
        .iter()
        .zip(&b)
        .map(|(a, b)| Datum::from(a).compare(&Datum::from(b)))
        .find(|order| order.is_ne());
    assert_eq!(
        key_a.cmp(&key_b),
        order.unwrap_or(std::cmp::Ordering::Equal),
        "{a:?} {b:?}"
    );
    assert_eq!(Key::decode(&key_a, &types), Ok(a.clone()), "{types:?}");
    for columns in 1..types.len() {
        let group = KeyRange::prefix(&key(&a[..columns]));
        assert_eq!(
            group.contains(&key_b),
            a[..columns] == b[..columns],
            "{a:?} {b:?}"
        );
    }
    let rest = u.take_rest();
    Ok(Outcome::of((kinds(&types), Key::decode(rest, &types).is_ok())))
}

fn key(values: &[Value]) -> Key {
    Key::encode(values.iter().map(Datum::from))
}

fn kinds(types: &[DataType]) -> Vec<std::mem::Discriminant<DataType>> {
    types.iter().map(std::mem::discriminant).collect()
}
