//! The `scry` program as a library: what `serve` and the tools are made of.
//!
//! In reading order: [`wire`], the protocol's bytes; [`server`], connections and their loop; [`http`], the HTTP server;
//! `config`, `data_dir`, `watch` and `serve`, the server as a process; `audit` (`scry log`), `verify`,
//! `repair` and `demo`, the other commands.

pub mod audit;
pub mod backup;
pub mod config;
pub mod data_dir;
pub mod demo;
pub mod http;
pub mod repair;
pub mod serve;
pub mod server;
mod sys;
pub mod verify;
mod watch;
pub mod wire;
