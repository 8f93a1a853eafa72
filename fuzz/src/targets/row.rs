//! Rows, updates of rows, and before-images.

use arbitrary::{Result, Unstructured};
use scry_engine::{Datum, RowLayout, Value};

use super::values;
use crate::target::{Outcome, Target};

const COLUMNS_MAX: usize = 12;

pub struct Rows;

impl Target for Rows {
    fn seeds(&self) -> Vec<Vec<u8>> {
        values::seeds()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        check(input).unwrap_or(Outcome::of("too short"))
    }
}

fn check(input: &[u8]) -> Result<Outcome> {
    let mut u = Unstructured::new(input);
    let types = (0..u.int_in_range(0..=COLUMNS_MAX)?)
        .map(|_| values::data_type(&mut u))
        .collect::<Result<Vec<_>>>()?;
    let layout = RowLayout::new(&types);
    let mut row = || {
        types
            .iter()
            .map(|ty| match u.ratio(1, 5)? {
                true => Ok(Value::Null),
                false => values::value(&mut u, ty),
            })
            .collect::<Result<Vec<_>>>()
    };
    let (old, new) = (row()?, row()?);
    let old_bytes = layout.encode(&old).expect("values of the columns' types");
    let new_bytes = layout.encode(&new).expect("values of the columns' types");
    layout.validate(&old_bytes).expect("its own encoding");
    assert_eq!(layout.row(&old_bytes).values(), old);

    let before = layout.encode_before(&old_bytes, &new_bytes);
    let changes = layout.decode_before(&before).expect("its own encoding");
    assert_eq!(layout.update(&new_bytes, &changes).as_ref(), Ok(&old_bytes));
    let all: Vec<(usize, Datum<'_>)> = new.iter().map(Datum::from).enumerate().collect();
    assert_eq!(layout.update(&old_bytes, &all).as_ref(), Ok(&new_bytes));

    // What is left of the input is taken for a row, for a before-image, and for damage done to a row.
    let rest = u.take_rest();
    let mut damaged = old_bytes;
    for edit in rest.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % damaged.len().max(1);
        match damaged.get_mut(at) {
            Some(byte) if at != 0 || edit[2] & 1 == 0 => *byte = edit[2],
            _ => damaged.truncate(damaged.len() / 2),
        }
    }
    let readable = [rest, &damaged].map(|bytes| {
        let valid = layout.validate(bytes);
        if valid.is_ok() {
            let values = layout.row(bytes).values();
            let again = layout.encode(&values).expect("values that were in a row");
            assert_eq!(layout.row(&again).values(), values);
        }
        let _ = layout.decode_before(bytes);
        valid
            .err()
            .map(|error| error.to_string().split(" at byte").next().map(str::to_owned))
    });
    Ok(Outcome::of(readable))
}
