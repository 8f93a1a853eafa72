//! One module for each store: how it is configured and why, and how it does what is asked.

pub mod fjall;
pub mod lmdb;
pub mod redb;
pub mod rocksdb;
pub mod scry;
