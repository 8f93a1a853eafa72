//! Tables, row versions and transactions.
//!
//! In reading order: `types` (what a column can hold), `row` (rows as bytes), `key` (order-preserving keys).

pub mod key;
pub mod row;
pub mod types;
