//! Load, `kill -9` at a random moment, restart, check: what was acknowledged is there, nothing is there by half, and
//! mirror and primary agree.
//!
//! Each worker keeps a journal of its own rows: the state that the server acknowledged, and at most one change whose
//! outcome the kill left open. After the restart a worker's rows must be exactly one of two states: the acknowledged one,
//! or that one with the open change, and the latter only if its COMMIT had been sent.
//!
//! - [`server`]: starts, kills and stops the server;
//! - [`state`]: what a worker knows, and how a change alters it;
//! - [`plan`]: what it knows of its elections;
//! - [`load`]: the workers' transactions;
//! - [`check`]: what the server says after the restart, against what the workers know.

pub mod check;
pub mod load;
pub mod plan;
pub mod server;
pub mod state;

/// Accounts that the transfers move money between; few, so that workers meet on rows.
pub const ACCOUNTS: i64 = 64;
/// What each account holds before the first transfer.
pub const OPENING_BALANCE: i64 = 1_000_000;
