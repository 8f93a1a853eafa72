//! The values that a column can hold, and their types.
//!
//! `DataType` says what a column is, `Value` owns one value, `Datum` borrows one (from a row, a parameter or
//! a constant) without allocation. `Numeric` is exact decimal arithmetic within 38 digits. None of it knows SQL
//! text: PostgreSQL's text and binary formats are the SQL layer's.
//!
//! Invariants:
//! - Text never contains a NUL byte and `char(n)` is held without its trailing blanks; whoever makes a value
//!   keeps to it, so that keys and rows need no second look.
//! - The order of `Datum::compare` is the order of the key encoding (`crate::key`), which is PostgreSQL's order
//!   under collation "C".

mod data_type;
mod numeric;
mod value;
mod wide;

pub use data_type::{DataType, MAX_CHARACTER_LENGTH, NUMERIC_FREE_SCALE, NUMERIC_MAX_PRECISION};
pub use numeric::{Numeric, NumericError};
pub use value::{Datum, Value};
