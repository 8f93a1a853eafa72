//! Values, owned and borrowed, and their order.

use super::Numeric;
use std::cmp::Ordering;

/// One owned value. Dates count days and times microseconds; both epochs are 1970-01-01.
///
/// `PartialEq` is SQL's equality without NULL's third value: floats compare as PostgreSQL's do (NaN equals NaN,
/// -0 equals 0) and 1.0 equals 1.00.
#[derive(Clone, Debug, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Float4(f32),
    Float8(f64),
    Numeric(Numeric),
    /// text, varchar and char.
    Text(String),
    Bytea(Vec<u8>),
    Date(i32),
    Time(i64),
    Timestamp(i64),
    TimestampTz(i64),
    Uuid([u8; 16]),
    Jsonb(String),
}

/// One borrowed value.
#[derive(Clone, Copy, Debug, Default)]
pub enum Datum<'a> {
    #[default]
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Float4(f32),
    Float8(f64),
    Numeric(Numeric),
    Text(&'a str),
    Bytea(&'a [u8]),
    Date(i32),
    Time(i64),
    Timestamp(i64),
    TimestampTz(i64),
    Uuid([u8; 16]),
    Jsonb(&'a str),
}

impl Value {
    pub fn as_datum(&self) -> Datum<'_> {
        match self {
            Value::Null => Datum::Null,
            Value::Bool(v) => Datum::Bool(*v),
            Value::Int2(v) => Datum::Int2(*v),
            Value::Int4(v) => Datum::Int4(*v),
            Value::Int8(v) => Datum::Int8(*v),
            Value::Float4(v) => Datum::Float4(*v),
            Value::Float8(v) => Datum::Float8(*v),
            Value::Numeric(v) => Datum::Numeric(*v),
            Value::Text(v) => Datum::Text(v),
            Value::Bytea(v) => Datum::Bytea(v),
            Value::Date(v) => Datum::Date(*v),
            Value::Time(v) => Datum::Time(*v),
            Value::Timestamp(v) => Datum::Timestamp(*v),
            Value::TimestampTz(v) => Datum::TimestampTz(*v),
            Value::Uuid(v) => Datum::Uuid(*v),
            Value::Jsonb(v) => Datum::Jsonb(v),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

impl Datum<'_> {
    pub fn to_value(&self) -> Value {
        match *self {
            Datum::Null => Value::Null,
            Datum::Bool(v) => Value::Bool(v),
            Datum::Int2(v) => Value::Int2(v),
            Datum::Int4(v) => Value::Int4(v),
            Datum::Int8(v) => Value::Int8(v),
            Datum::Float4(v) => Value::Float4(v),
            Datum::Float8(v) => Value::Float8(v),
            Datum::Numeric(v) => Value::Numeric(v),
            Datum::Text(v) => Value::Text(v.to_owned()),
            Datum::Bytea(v) => Value::Bytea(v.to_owned()),
            Datum::Date(v) => Value::Date(v),
            Datum::Time(v) => Value::Time(v),
            Datum::Timestamp(v) => Value::Timestamp(v),
            Datum::TimestampTz(v) => Value::TimestampTz(v),
            Datum::Uuid(v) => Value::Uuid(v),
            Datum::Jsonb(v) => Value::Jsonb(v.to_owned()),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// The order of two values of one type: PostgreSQL's, with text by bytes (collation "C") and NULL last and
    /// equal to NULL. Values of different types are ordered by type, so that the order is total; integers of
    /// different widths compare as numbers.
    pub fn compare(&self, other: &Datum<'_>) -> Ordering {
        use Datum::*;
        match (self, other) {
            (Null, Null) => Ordering::Equal,
            (Bool(a), Bool(b)) => a.cmp(b),
            (Int4(a), Int4(b)) => a.cmp(b),
            (Int8(a), Int8(b)) => a.cmp(b),
            (Int2(a), Int2(b)) => a.cmp(b),
            (Float4(a), Float4(b)) => compare_floats(f64::from(*a), f64::from(*b)),
            (Float8(a), Float8(b)) => compare_floats(*a, *b),
            (Numeric(a), Numeric(b)) => a.cmp(b),
            (Text(a), Text(b)) | (Jsonb(a), Jsonb(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Bytea(a), Bytea(b)) => a.cmp(b),
            (Date(a), Date(b)) => a.cmp(b),
            (Time(a), Time(b)) | (Timestamp(a), Timestamp(b)) | (TimestampTz(a), TimestampTz(b)) => a.cmp(b),
            (Uuid(a), Uuid(b)) => a.cmp(b),
            _ => match (self.integer(), other.integer()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }

    /// The value of an integer of any width.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Datum::Int2(v) => Some(i64::from(*v)),
            Datum::Int4(v) => Some(i64::from(*v)),
            Datum::Int8(v) => Some(*v),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Datum::Bool(_) => 0,
            Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) => 1,
            Datum::Float4(_) => 2,
            Datum::Float8(_) => 3,
            Datum::Numeric(_) => 4,
            Datum::Text(_) => 5,
            Datum::Bytea(_) => 6,
            Datum::Date(_) => 7,
            Datum::Time(_) => 8,
            Datum::Timestamp(_) => 9,
            Datum::TimestampTz(_) => 10,
            Datum::Uuid(_) => 11,
            Datum::Jsonb(_) => 12,
            Datum::Null => 13,
        }
    }
}

/// PostgreSQL's order of floats: -0 equals 0, NaN equals NaN and follows everything.
fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl PartialEq for Datum<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

impl Eq for Datum<'_> {}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_datum() == other.as_datum()
    }
}

impl Eq for Value {}

impl<'a> From<&'a Value> for Datum<'a> {
    fn from(value: &'a Value) -> Datum<'a> {
        value.as_datum()
    }
}

const _: () = assert!(
    size_of::<Datum<'_>>() <= 32 && size_of::<Value>() <= 32,
    "values travel by copy"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_order_as_postgresql_orders_them() {
        let ordered = [f64::NEG_INFINITY, -1.0, 0.0, 1.0, f64::INFINITY, f64::NAN];
        for pair in ordered.windows(2) {
            assert_eq!(
                Datum::Float8(pair[0]).compare(&Datum::Float8(pair[1])),
                Ordering::Less
            );
        }
        assert_eq!(Datum::Float8(-0.0), Datum::Float8(0.0));
        assert_eq!(Datum::Float4(f32::NAN), Datum::Float4(f32::NAN));
    }

    #[test]
    fn null_comes_last_and_integers_of_any_width_compare_as_numbers() {
        assert_eq!(Datum::Null.compare(&Datum::Int4(5)), Ordering::Greater);
        assert_eq!(Datum::Int2(5), Datum::Int8(5));
        assert_eq!(Datum::Text("a").compare(&Datum::Text("B")), Ordering::Greater);
    }
}
