//! Loads and checks that talk to a server from outside, over the PostgreSQL protocol.
//!
//! Nothing here knows scry's inside: each program runs against PostgreSQL as well, which is how the programs themselves
//! are tested. The benches that look inside stand beside the crates that they measure; the one in `benches/` runs whole
//! statements through a session.
//!
//! Reading order:
//! - [`client`]: connections, as the usual `PG*` environment variables say, and text results;
//! - [`random`]: a small seeded generator, so that a run can be repeated;
//! - [`tpch`]: TPC-H tables from the `tpchgen` crate, loading by COPY, comparison with reference answers;
//! - [`crash`]: load, `kill -9`, restart, check;
//! - [`histories`]: random concurrent transactions, and whether their isolation level allows what they saw.

pub mod client;
pub mod crash;
pub mod histories;
pub mod random;
pub mod tpch;
