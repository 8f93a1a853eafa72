//! The list of targets.

mod catalog;
mod copy;
mod http;
mod key;
mod log;
mod mirror;
mod record;
mod row;
mod server;
mod sessions;
mod sql;
mod types;
mod values;
mod wire;

use crate::target::Entry;

/// All of them, the quickest first.
pub const TARGETS: &[Entry] = &[
    Entry {
        name: "wire",
        promise: "messages of a client decode the same however the bytes arrive, and read nothing outside of their frame",
        bounded: 100_000,
        make: || Box::new(wire::Wire),
    },
    Entry {
        name: "record",
        promise: "a log record decodes to what was encoded, from one encoding only; other bytes are refused",
        bounded: 100_000,
        make: || Box::new(record::Records),
    },
    Entry {
        name: "catalog",
        promise: "a catalog change decodes to what was encoded, from one encoding only; other bytes are refused",
        bounded: 100_000,
        make: || Box::new(catalog::Changes),
    },
    Entry {
        name: "key",
        promise: "keys order as their values do and give them back; other bytes are refused",
        bounded: 100_000,
        make: || Box::new(key::Keys),
    },
    Entry {
        name: "row",
        promise: "rows and before-images give back what was put in; bytes that pass validation can be read",
        bounded: 100_000,
        make: || Box::new(row::Rows),
    },
    Entry {
        name: "types",
        promise: "a value that was read from text or binary is read back the same from both of its own forms",
        bounded: 100_000,
        make: || Box::new(types::Types::new()),
    },
    Entry {
        name: "log",
        promise: "a damaged log gives back a true beginning of itself or is refused and left as it is",
        bounded: 2000,
        make: || Box::new(log::Damage::new()),
    },
    Entry {
        name: "mirror",
        promise: "a damaged mirror is named as such, and serves right rows all the same, made anew from the log",
        bounded: 60,
        make: || Box::new(mirror::Damage::new()),
    },
    Entry {
        name: "copy",
        promise: "COPY data means the same however it is split, and what COPY wrote it reads back",
        bounded: 3000,
        make: || Box::new(copy::Copy::new()),
    },
    Entry {
        name: "sql",
        promise: "any text ends in an answer or an SQLSTATE that is no internal error",
        bounded: 3000,
        make: || Box::new(sql::Sql::new()),
    },
    Entry {
        name: "server",
        promise: "any stream of messages is answered in whole messages, without an internal error, and to its end",
        bounded: 1000,
        make: || Box::new(server::Stream::new()),
    },
    Entry {
        name: "http",
        promise: "any request is answered, with an SQLSTATE that is no internal error, and the server goes on",
        bounded: 1000,
        make: || Box::new(http::Requests::new()),
    },
];
