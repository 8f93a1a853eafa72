//! Sessions: SQL text and protocol-level values in, result messages out. Knows no sockets.
//!
//! One session runs two executors. *Row plans* read and write rows on the engine and never pass through DataFusion;
//! *analytic plans* run in DataFusion over snapshots of the columnar mirror. Modules in the order in which a statement
//! meets them:
//!
//! - [`database`]: the opened directory: engine, mirror, and the sessions made from them.
//! - [`session`]: prepared statements, portals, transactions, settings.
//! - [`plan`]: text → statements → compiled plans.
//! - [`exec`]: row plans, DML, DDL and COPY at work.
//! - `constraint`: what rows must satisfy.
//! - `privilege`: who may do what with an election.
//! - `notify`: LISTEN and NOTIFY between sessions.
//! - [`types`] and [`expr`]: PostgreSQL's types, formats and scalar expressions.
//! - [`analytic`] and [`catalog_views`]: everything that DataFusion answers.
//! - [`error`], [`tags`]: what a client hears at the end.
//!
//! It is also the library for programs that have a database of their own, with the three verbs of elections: a [`Session`] of
//! [`Database::session`] creates elections and candidates with [`Session::simple`], asks futures for Arrow batches with
//! [`Session::query_arrow`] (`"election/candidate".table`), and resolves conflicts by `scry.resolve_conflict`. The HTTP server
//! is such a program.

pub mod analytic;
mod attached;
pub mod catalog_views;
mod collision;
mod conflicts;
mod constraint;
pub mod database;
pub mod dialect;
pub mod error;
mod error_map;
mod exec;
pub mod expr;
mod generated;
mod notify;
mod place;
mod plan;
mod predictions;
mod privilege;
mod sequence;
pub mod session;
mod system_table;
pub mod tags;
pub mod types;

pub use database::{Database, DatabaseOptions};
pub use error::Error;
pub use notify::Notification;
pub use plan::split::PLANNING_STACK_BYTES;
pub use session::{
    ArrowRows, CancelHandle, ColumnDescription, Executed, Notice, ParsedStatement, Session, SessionInfo,
    StatementDescription, TransactionStatus,
};
pub use tags::CommandTag;
