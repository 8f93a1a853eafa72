//! Tests of the mirror as a whole, driven with change sets and without a log.

#[path = "../../tests/common/candidates.rs"]
mod candidates;
mod crash;
mod durability;
mod kit;
mod model;
mod segments;
mod shape;
