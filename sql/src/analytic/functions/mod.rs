//! Functions of PostgreSQL that DataFusion lacks or answers otherwise.

pub mod aggregates;
pub mod arithmetic;
pub mod arrays;
pub mod bridge;
pub mod intervals;
pub mod numeric;
pub mod text;
mod to_char;
