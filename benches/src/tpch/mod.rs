//! TPC-H: the eight tables from the `tpchgen` crate, their definition, and the comparison with reference answers.

pub mod answers;
mod tables;

pub use tables::{Chunks, Table};
