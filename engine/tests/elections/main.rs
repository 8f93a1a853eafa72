//! Elections and candidates: what each sees, what electing does, and what a restart leaves.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod kit;
mod model;

mod crash;
mod definitions;
mod electing;
mod expiring;
mod futures;
mod inside;
mod races;
mod rebasing;
mod recorded;
