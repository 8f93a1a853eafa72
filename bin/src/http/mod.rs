//! The HTTP server: elections, queries of futures and the resolution of conflicts, for programs that do not speak PostgreSQL's protocol.
//!
//! It shares nothing with the PostgreSQL server but the database: each request has a session of its own. `openapi.json`
//! says what there is; a test holds it against the real routes and answers.
//!
//! Bounds: connections ([`CONNECTIONS_MAX`]), a request's body ([`BODY_BYTES_MAX`]), an answer in JSON
//! ([`json::ANSWER_BYTES_MAX`]), the time until a request's head and body are there. A connection serves one request, so that
//! idle ones take nobody's place.
//!
//! Web pages that a user of this machine visits must not reach it: the Host header has to name a loopback address, and
//! bodies have to be declared as JSON, which browsers do not send elsewhere without asking.
//!
//! In reading order: [`listener`], [`routes`], [`context`], then what is behind the routes: [`elections`], [`mirror`], [`verbs`], [`query`] with
//! [`json`] and [`arrow`], [`conflicts`], [`metrics`]; [`problem`] is what goes wrong, [`io`] the way to tokio.

mod arrow;
mod conflicts;
mod context;
mod elections;
mod io;
mod json;
mod listener;
mod metrics;
mod mirror;
mod problem;
mod query;
mod routes;
mod rows;
mod verbs;

pub use listener::HttpServer;
pub use routes::OPENAPI;

use std::time::Duration;

/// Connections at the same time; one more is answered with 503. Each may run a query.
pub const CONNECTIONS_MAX: usize = 64;
/// Longest body of a request.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// From connecting to the end of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of the head to the end of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
