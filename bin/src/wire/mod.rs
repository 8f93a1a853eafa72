//! The PostgreSQL wire protocol, version 3.0: messages to and from bytes, and nothing else.
//!
//! `frontend` reads what clients send, `startup` the packets before the first message, `backend`
//! writes what the server answers. No I/O, no session state: functions from bytes and to bytes
//! (PostgreSQL documentation, chapter "Frontend/Backend Protocol").
//!
//! Why a codec of our own: the `messages` module of pgwire 0.42.1 was read for the purpose. It
//! decodes invalid UTF-8 lossily (a different statement would run than the one that was sent),
//! panics on a Bind that is shorter than its own counts say, lets the fields of one message reach
//! into the next, and allocates a `String` or `Bytes` per field. Here a message borrows from the
//! read buffer, so decoding a Bind costs no allocation, and every field is bounded by its message.
//!
//! Invariants:
//! - a decoder never reads outside the message's own body, and consumes all of it;
//! - no allocation is sized by a number that the peer chose before the bytes are there;
//! - text is valid UTF-8 before anything else looks at it.

pub mod backend;
pub mod cursor;
pub mod error;
pub mod frontend;
pub mod startup;

pub use error::WireError;
