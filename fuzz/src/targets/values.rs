//! Types and values made from the bytes of an input.

use arbitrary::{Arbitrary, Result, Unstructured};
use scry_engine::{
    ColumnDef, ColumnDefault, DataType, Numeric, PrimaryKey, SequenceDef, SequenceOptions, SequenceOwner,
    Value,
};
use scry_wal::StoreId;

/// A type that a key column may have.
pub fn data_type(u: &mut Unstructured<'_>) -> Result<DataType> {
    Ok(match u.int_in_range(0..=17u8)? {
        0 => DataType::Bool,
        1 => DataType::Int2,
        2 => DataType::Int4,
        3 => DataType::Int8,
        4 => DataType::Float4,
        5 => DataType::Float8,
        6 => DataType::Numeric(None),
        7 | 8 => {
            let precision = u.int_in_range(1..=38)?;
            DataType::Numeric(Some((precision, u.int_in_range(0..=precision)?)))
        }
        9 => DataType::Text,
        10 => DataType::Varchar(Some(u.int_in_range(1..=20)?)),
        11 => DataType::Char(u.int_in_range(1..=20)?),
        12 => DataType::Bytea,
        13 => DataType::Date,
        14 => DataType::Time,
        15 => DataType::Timestamp,
        16 => DataType::Uuid,
        _ => DataType::Jsonb,
    })
}

/// Few letters, so that values are often equal, prefixes of each other, or next to each other.
pub fn text(u: &mut Unstructured<'_>) -> Result<String> {
    const LETTERS: [char; 8] = ['a', 'b', ' ', '\u{1}', 'é', '\u{ffff}', '\u{10ffff}', '"'];
    let length = u.int_in_range(0..=6)?;
    (0..length).map(|_| u.choose(&LETTERS).copied()).collect()
}

pub fn bytes(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let length = u.int_in_range(0..=6)?;
    (0..length)
        .map(|_| match u.int_in_range(0..=4u8)? {
            0 => Ok(0),
            1 => Ok(1),
            2 => Ok(0xff),
            _ => u8::arbitrary(u),
        })
        .collect()
}

fn numeric(u: &mut Unstructured<'_>, modifier: Option<(u8, u8)>) -> Result<Numeric> {
    let (precision, scale) = match modifier {
        Some(modifier) => modifier,
        // As many digits as a column without precision keeps on both sides of the point.
        None => (20, u.int_in_range(0..=18)?),
    };
    let digits = u32::from(u.int_in_range(0..=precision)?);
    let mantissa = i128::arbitrary(u)? % 10i128.pow(digits);
    Ok(Numeric::new(mantissa, scale).expect("fewer digits than a numeric holds"))
}

/// A value of the type, never NULL.
pub fn value(u: &mut Unstructured<'_>, ty: &DataType) -> Result<Value> {
    Ok(match ty {
        DataType::Bool => Value::Bool(bool::arbitrary(u)?),
        DataType::Int2 => Value::Int2(i16::arbitrary(u)?),
        DataType::Int4 => Value::Int4(i32::arbitrary(u)?),
        DataType::Int8 => Value::Int8(i64::arbitrary(u)?),
        DataType::Float4 => Value::Float4(f32::arbitrary(u)?),
        DataType::Float8 => Value::Float8(f64::arbitrary(u)?),
        DataType::Numeric(modifier) => Value::Numeric(numeric(u, *modifier)?),
        DataType::Text | DataType::Varchar(_) | DataType::Char(_) => Value::Text(text(u)?),
        DataType::Bytea => Value::Bytea(bytes(u)?),
        DataType::Date => Value::Date(i32::arbitrary(u)?),
        DataType::Time => Value::Time(i64::arbitrary(u)?),
        DataType::Timestamp => Value::Timestamp(i64::arbitrary(u)?),
        DataType::TimestampTz => Value::TimestampTz(i64::arbitrary(u)?),
        DataType::Uuid => Value::Uuid(Arbitrary::arbitrary(u)?),
        DataType::Jsonb => Value::Jsonb(text(u)?),
    })
}

pub fn column(u: &mut Unstructured<'_>) -> Result<ColumnDef> {
    let column = ColumnDef::new(text(u)?, data_type(u)?);
    Ok(ColumnDef {
        not_null: bool::arbitrary(u)?,
        default: match u.int_in_range(0..=3u8)? {
            0 => None,
            1 => Some(ColumnDefault::Expression(text(u)?)),
            2 => Some(ColumnDefault::Identity {
                sequence: u32::arbitrary(u)?,
                always: bool::arbitrary(u)?,
            }),
            _ => Some(ColumnDefault::Generated(text(u)?)),
        },
        dropped: bool::arbitrary(u)?,
        ..column
    })
}

pub fn sequence(u: &mut Unstructured<'_>) -> Result<SequenceDef> {
    Ok(SequenceDef {
        oid: u32::arbitrary(u)?,
        name: text(u)?,
        store: StoreId::new(u32::arbitrary(u)?),
        options: SequenceOptions {
            ty: data_type(u)?,
            start: i64::arbitrary(u)?,
            increment: i64::arbitrary(u)?,
            min: i64::arbitrary(u)?,
            max: i64::arbitrary(u)?,
            cache: i64::arbitrary(u)?,
            cycle: bool::arbitrary(u)?,
        },
        owner: match bool::arbitrary(u)? {
            true => Some(SequenceOwner {
                table: u32::arbitrary(u)?,
                column: u.int_in_range(0..=1000usize)?,
            }),
            false => None,
        },
    })
}

pub fn primary_key(u: &mut Unstructured<'_>) -> Result<PrimaryKey> {
    let columns = u.int_in_range(0..=3)?;
    Ok(PrimaryKey {
        name: text(u)?,
        columns: (0..columns)
            .map(|_| u.int_in_range(0..=1000usize))
            .collect::<Result<_>>()?,
    })
}

/// Inputs for targets whose inputs have no form: numbers follow numbers.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = scry_wal::sim::Random::new(1);
    let mut seeds = vec![Vec::new(), vec![0; 64]];
    for length in [16, 64, 200, 800] {
        seeds.push((0..length).map(|_| random.next_number() as u8).collect());
    }
    seeds
}
